//! A copy of the project in which every guard can be broken, one at a time, and its tests: which of them come to a guard, and
//! which fails when it is broken. One build serves all guards: an environment variable says which one is broken.

use crate::find::{Guard, breakable};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// As many processes of tests as the machines that this is for have cores.
pub const WORKERS: usize = 2;

/// At most so long are the tests that are asked together, by what they take when nothing is broken.
const TOGETHER: Duration = Duration::from_secs(4);

/// Tests that take so many times as long as usual, and a minute, do not end.
const ENDLESS: u32 = 10;

/// The switch. A guard that is asked about for the first time is noted in a file, if there is to be one.
const SWITCH: &str = r#"
/// Whether this guard is broken.
pub(crate) fn is_broken(number: usize) -> bool {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static BROKEN: LazyLock<Option<usize>> =
        LazyLock::new(|| std::env::var("SEMEL_BROKEN").ok().and_then(|number| number.parse().ok()));
    static NOTED: LazyLock<Option<std::path::PathBuf>> =
        LazyLock::new(|| std::env::var_os("SEMEL_REACHED").map(Into::into));
    static REACHED: [AtomicBool; 10_000] = [const { AtomicBool::new(false) }; 10_000];
    if let Some(path) = &*NOTED
        && let Some(reached) = REACHED.get(number)
        && !reached.swap(true, Ordering::Relaxed)
    {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{number}\n").as_bytes()));
    }
    *BROKEN == Some(number)
}
"#;

pub struct Copy {
    folder: PathBuf,
    program: PathBuf,
    tests: Vec<Test>,
}

struct Test {
    name: String,
    takes: Duration,
    reaches: BTreeSet<usize>,
}

pub enum Noticed {
    By(String),
    /// This test does not end.
    Endless(String),
    Nobody,
}

impl Copy {
    /// Copies the project, puts a switch at every guard, builds its tests, and runs each of them once.
    pub fn make(root: &Path, decides: &str, all: &[(String, Guard)]) -> Copy {
        let folder = root.join("target/core_guards");
        let _ = fs::remove_dir_all(&folder);
        for file in files_of(root) {
            let to = folder.join(&file);
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(root.join(&file), &to).expect("a copy");
        }
        let files: BTreeSet<&String> = all.iter().map(|(file, _)| file).collect();
        for file in files {
            let path = folder.join(decides).join(file);
            let of_file = all.iter().enumerate().filter(|(_, (of, _))| of == file);
            let of_file: Vec<(usize, Guard)> =
                of_file.map(|(number, (_, guard))| (number, guard.clone())).collect();
            let text = fs::read_to_string(&path).expect("a file of the core");
            fs::write(&path, breakable(&text, &of_file)).expect("a copy");
        }
        // Else cargo takes its tests for those of the original.
        let manifest = folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("a manifest");
        let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
        assert!(text.contains(version), "the manifest has a version");
        fs::write(&manifest, text.replacen(version, "version = \"0.0.0\"", 1)).expect("a copy");
        let mutants = folder.join("src/core/mutant.rs");
        let mut mutants = fs::OpenOptions::new().append(true).open(mutants).expect("where mutants are");
        mutants.write_all(SWITCH.as_bytes()).expect("a copy");
        let program = built(&folder, &root.join("target"));
        let mut copy = Copy { folder, program, tests: Vec::new() };
        copy.tests = copy.run_each();
        copy
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Failures are not made small: that they are is enough.
        command.current_dir(&self.folder).env("PROPTEST_MAX_SHRINK_ITERS", "1").stderr(Stdio::null());
        command
    }

    fn run_each(&self) -> Vec<Test> {
        let listed = self.command().args(["--list", "--format", "terse"]).output().expect("tests");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let wanted = std::env::var("SEMEL_GUARDS_TESTS").unwrap_or_default();
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        let names: Vec<&str> = names.filter(|name| name.starts_with(&wanted)).collect();
        println!("{} tests, each by itself", names.len());
        let next = AtomicUsize::new(0);
        let tests = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Some(test) = self.run(name) {
                            tests.lock().expect("nobody panics").push(test);
                        }
                    }
                });
            }
        });
        let mut tests = tests.into_inner().expect("nobody panics");
        // Short ones first, among them those of the core itself, whose names say most.
        tests.sort_by_key(|test: &Test| {
            let about = (test.takes.as_millis() / 50 + 1).ilog2();
            (about, !test.name.starts_with("core::"), test.takes)
        });
        tests
    }

    /// Runs one with nothing broken; none if it fails, or comes to no guard.
    fn run(&self, name: &str) -> Option<Test> {
        let reached = tempfile::NamedTempFile::new().expect("a file");
        let began = Instant::now();
        let mut command = self.command();
        command.args(["--exact", name]).env("SEMEL_REACHED", reached.path()).stdout(Stdio::null());
        let succeeded = command.status().expect("tests run").success();
        let takes = began.elapsed();
        if !succeeded {
            println!("{name} fails with nothing broken: left out");
            return None;
        }
        let reaches = fs::read_to_string(reached.path()).expect("a file");
        let reaches: BTreeSet<usize> = reaches.lines().filter_map(|line| line.parse().ok()).collect();
        (!reaches.is_empty()).then(|| Test { name: name.to_owned(), takes, reaches })
    }

    /// The first test that fails when this guard is broken.
    pub fn who_notices(&self, number: usize, patience: Duration) -> Noticed {
        let mut all = Duration::ZERO;
        let able = self.tests.iter().filter(|test| test.reaches.contains(&number));
        let mut able = able
            .take_while(|test| {
                all += test.takes;
                all <= patience
            })
            .peekable();
        while able.peek().is_some() {
            let (mut names, mut takes) = (Vec::new(), Duration::ZERO);
            while let Some(test) =
                able.next_if(|test| takes == Duration::ZERO || takes + test.takes < TOGETHER)
            {
                names.push(test.name.as_str());
                takes += test.takes;
            }
            let mut command = self.command();
            command
                .args(["--exact", "--test-threads=1"])
                .args(&names)
                .env("SEMEL_BROKEN", number.to_string());
            let deadline = Instant::now() + takes * ENDLESS + Duration::from_secs(60);
            match first_failure(command, &names, deadline) {
                Noticed::Nobody => {}
                noticed => return noticed,
            }
        }
        Noticed::Nobody
    }
}

/// All that git has or would have, so that what tests read is there.
fn files_of(root: &Path) -> Vec<String> {
    let mut listed = Command::new("git");
    listed.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = listed.output().expect("git lists files");
    let files = String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    files.into_iter().filter(|file| root.join(file).is_file()).collect()
}

/// Builds the tests of the library; what it depends on is built already.
fn built(folder: &Path, target: &Path) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(folder).env("CARGO_TARGET_DIR", target);
    let built = build
        .args(["test", "--offline", "--lib", "--no-run", "--message-format=json"])
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&built.stdout);
    let complaint = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{} does not build:\n{complaint}", folder.display());
    let program = said.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    program.expect("a program with tests")
}

/// Runs tests until one fails.
fn first_failure(mut command: Command, names: &[&str], deadline: Instant) -> Noticed {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("tests run");
    let said = BufReader::new(child.stdout.take().expect("its output"));
    let (sender, lines) = mpsc::channel();
    let reader =
        std::thread::spawn(move || said.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    let mut passed = BTreeSet::new();
    let noticed = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let Some((name, result)) =
                    line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
                else {
                    continue;
                };
                match result {
                    "FAILED" => break Noticed::By(name.to_owned()),
                    _ => drop(passed.insert(name.to_owned())),
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break Noticed::Endless(unfinished(names, &passed)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                break match child.wait().expect("tests end").success() {
                    true => Noticed::Nobody,
                    // It has taken the process with it.
                    false => Noticed::By(unfinished(names, &passed)),
                };
            }
        }
    };
    end(&mut child);
    drop(lines);
    let _ = reader.join();
    noticed
}

fn unfinished(names: &[&str], passed: &BTreeSet<String>) -> String {
    names.iter().find(|name| !passed.contains(**name)).map(|name| (*name).to_owned()).unwrap_or_default()
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
