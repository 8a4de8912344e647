//! What notices that a guard of the core is broken (`spec/guards.tsv`). In every run: each guard has its line. By hand, since it
//! takes long, `cargo test --test core_guards -- --ignored --nocapture`: breaks each guard that has none, and writes it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

mod find;
mod tests_of_copy;

use find::{Guard, Without, guards};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests_of_copy::{Copy, Noticed};

/// Whose guards these are: everything that decides.
const DECIDES: &str = "src/core/decide";

const NOTHING: &str = "nothing";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> PathBuf {
    root().join("spec/guards.tsv")
}

/// A guard with what the table says of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    file: String,
    function: String,
    guard: String,
    without: String,
    noticed: String,
}

impl Line {
    fn of(file: &str, guard: &Guard, noticed: String) -> Line {
        Line {
            file: file.to_owned(),
            function: guard.function.clone(),
            guard: guard.text.clone(),
            without: guard.without.name().to_owned(),
            noticed,
        }
    }

    fn key(&self) -> [&str; 4] {
        [&self.file, &self.function, &self.guard, &self.without]
    }
}

const HEAD: &str = "\
# Made by `cargo test --test core_guards -- --ignored`: which test fails when a guard of the core is broken, or why none can.
# `always` and `never`: the condition holds always, or never; `bound`: < is <=, > is >=, and the other way round; `unchecked`:
# the check is not made.
# file of src/core/decide	function	guard	broken	noticed by
";

fn lines() -> Vec<Line> {
    let text = fs::read_to_string(table()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let Ok([file, function, guard, without, noticed]) = <[String; 5]>::try_from(cells) else {
            panic!("spec/guards.tsv: {line}")
        };
        Line { file, function, guard, without, noticed }
    });
    lines.collect()
}

/// In the order of the code's text.
fn write(lines: &[Line], all: &[(String, Guard)]) {
    let mut text = HEAD.to_owned();
    for (file, guard) in all {
        let of_guard = Line::of(file, guard, String::new());
        if let Some(line) = lines.iter().find(|line| line.key() == of_guard.key()) {
            let _ = writeln!(text, "{}\t{}", line.key().join("\t"), line.noticed);
        }
    }
    fs::write(table(), text).expect("the table can be written");
}

/// All guards, with their files.
fn all_guards() -> Vec<(String, Guard)> {
    let folder = root().join(DECIDES);
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let file = path.strip_prefix(&folder).expect("a file of the core").display().to_string();
        let text = fs::read_to_string(&path).expect("a file of the core");
        all.extend(guards(&text).into_iter().map(|guard| (file.clone(), guard)));
    }
    all
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the core") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn every_guard_of_the_core_has_its_line() {
    let all = all_guards();
    assert!(all.len() > 300, "the guards are found");
    let found: BTreeSet<[String; 4]> = all
        .iter()
        .map(|(file, guard)| Line::of(file, guard, String::new()).key().map(str::to_owned))
        .collect();
    let lines = lines();
    let listed: BTreeSet<[String; 4]> = lines.iter().map(|line| line.key().map(str::to_owned)).collect();
    let renew = "run cargo test --test core_guards -- --ignored --nocapture";
    let none: Vec<&[String; 4]> = Vec::new();
    assert_eq!(found.difference(&listed).collect::<Vec<_>>(), none, "not in spec/guards.tsv: {renew}");
    assert_eq!(
        listed.difference(&found).collect::<Vec<_>>(),
        none,
        "spec/guards.tsv has what is no more: {renew}"
    );
    for line in &lines {
        assert_ne!(line.noticed, NOTHING, "nothing notices that {:?} is broken", line.key());
    }
}

/// Breaks each guard that has no line, and writes down which test fails first. What is argued stays. `SEMEL_GUARDS=TEXT`:
/// those whose file or function has this in its name, anew; `SEMEL_GUARDS=all`: all. `SEMEL_GUARDS_SECONDS=N`: tests that
/// take longer together are not asked; `SEMEL_GUARDS_TESTS=PREFIX`: nor are those whose names do not begin like this.
#[test]
#[ignore = "long: breaks every guard of the core"]
fn guards_are_broken() {
    let anew = std::env::var("SEMEL_GUARDS").unwrap_or_default();
    let seconds = std::env::var("SEMEL_GUARDS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let patience = Duration::from_secs(seconds.unwrap_or(u64::MAX));
    let all = all_guards();
    let is_named = |line: &Line| [&line.file, &line.function].iter().any(|name| name.contains(&anew));
    let is_anew = |line: &Line| anew == "all" || !anew.is_empty() && is_named(line);
    let known: Vec<Line> = lines()
        .into_iter()
        .filter(|line| line.noticed.starts_with("argued") || line.noticed != NOTHING && !is_anew(line))
        .collect();
    let open: Vec<(usize, &str, &Guard)> = all
        .iter()
        .enumerate()
        .filter(|(_, (file, guard))| {
            let of_guard = Line::of(file, guard, String::new());
            known.iter().all(|line| line.key() != of_guard.key())
        })
        .map(|(number, (file, guard))| (number, file.as_str(), guard))
        .collect();
    println!("{} guards, {} to break", all.len(), open.len());
    write(&known, &all);
    if open.is_empty() {
        return;
    }
    let copy = Copy::make(&root(), DECIDES, &all);
    let known = Mutex::new(known);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..tests_of_copy::WORKERS {
            scope.spawn(|| {
                while let Some((number, file, guard)) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let noticed = match copy.who_notices(*number, patience) {
                        Noticed::By(test) => test,
                        Noticed::Endless(test) => format!("{test} (does not end)"),
                        Noticed::Nobody => NOTHING.to_owned(),
                    };
                    let line = Line::of(file, guard, noticed);
                    println!("{}\t{}", line.key().join("\t"), line.noticed);
                    let mut known = known.lock().expect("nobody panics");
                    known.push(line);
                    write(&known, &all);
                }
            });
        }
    });
    let known = known.into_inner().expect("nobody panics");
    let unnoticed = known.iter().filter(|line| line.noticed == NOTHING).count();
    println!("{unnoticed} of {} guards are noticed by nothing", all.len());
}

#[test]
fn guards_are_found_and_broken_as_said() {
    let text = "\
fn check(a: u8, b: Option<u8>) -> Result<(), Error> {
    if a > 3 && let Some(b) = b {
        return Err(Error::TooMany);
    }
    self.check_room(a)?;
    match a {
        0 if b.is_none() => Ok(()),
        _ => Err(Error::Other),
    }
}
fn is_old(a: u8) -> bool {
    a == 1 || a == 2
}
";
    let found = guards(text);
    let said: Vec<(&str, Without)> = found.iter().map(|guard| (guard.text.as_str(), guard.without)).collect();
    let expected = [
        ("a > 3", Without::Always),
        ("a > 3", Without::Bound),
        ("a > 3 && let Some(b) = b", Without::Never),
        ("self.check_room(a)?;", Without::Unchecked),
        ("b.is_none()", Without::Never),
        ("b.is_none()", Without::Always),
        ("Err(Error::Other)", Without::Never),
        ("a == 1", Without::Never),
        ("a == 1 || a == 2", Without::Always),
        ("a == 2", Without::Never),
    ];
    assert_eq!(said, expected);
    let numbered: Vec<(usize, Guard)> = found.into_iter().enumerate().collect();
    let broken = find::breakable(text, &numbered);
    syn::parse_file(&broken).unwrap_or_else(|error| panic!("{error}:\n{broken}"));
    let both = "if !crate::core::mutant::is_broken(2) && (crate::core::mutant::is_broken(0) || ((match (&(a ), &( 3))";
    assert!(broken.contains(both), "{broken}");
}
