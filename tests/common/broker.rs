//! The broker under test as a process: the release binary, its own data directory, a port that the system chooses.
//!
//! `SEMEL_TEST_BINARY` names another program to run in its place. It must take `serve --data-dir DIR --listen HOST:PORT`
//! and leave the same files; `tests/kafka/serve` does so with Apache Kafka, to show that a test asks for nothing but
//! what Kafka does too.

use std::env;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::disk::SmallDisk;
use super::process::{Heard, Process, Said};
use super::tools::{inner_cargo, lock, target_dir};

/// semel needs a fraction of a second; a busy machine, or Kafka in its place, needs more.
const READY_DEADLINE: Duration = Duration::from_secs(90);
const LOG_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const ANY_PORT: &str = "127.0.0.1:0";

pub struct Broker {
    // Before `home`, so that the process has ended when its files are removed.
    process: Process,
    address: SocketAddr,
    ready_after: Duration,
    options: Vec<String>,
    environment: Environment,
    under: Under,
    heard: Arc<Heard>,
    home: Home,
}

/// Where the broker's files are.
enum Home {
    Directory(TempDir),
    Disk(SmallDisk),
}

impl Home {
    fn program(&self, under: &[std::ffi::OsString], environment: &Environment) -> Command {
        let mut command = match (self, under) {
            (Home::Directory(_), []) => Command::new(binary()),
            (Home::Directory(_), [program, words @ ..]) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary());
                command
            }
            (Home::Disk(disk), _) => disk.enter(binary()),
        };
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The data directory, as the broker has it and as the test has it.
    fn data_dir(&self) -> (PathBuf, PathBuf) {
        match self {
            Home::Directory(home) => (home.path().join("data"), home.path().join("data")),
            Home::Disk(disk) => (disk.inside().join("data"), disk.outside().join("data")),
        }
    }
}

/// A program that runs the broker, and what it wants to know before that.
type Under = Vec<std::ffi::OsString>;

/// Variables that a broker is started with, beside the machine's.
type Environment = Vec<(String, PathBuf)>;

/// Why a broker did not get ready: how it ended and all it said.
pub struct Refused {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// As a person would see it, also in a panic.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

impl Broker {
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// Starts with further command-line options after `serve`'s own.
    pub fn start_with(options: &[&str]) -> Broker {
        Broker::start_in(options, &[])
    }

    /// Starts, now and after each end, with further variables in its environment.
    pub fn start_in(options: &[&str], environment: &[(&str, &Path)]) -> Broker {
        Broker::start_at(Home::Directory(scratch()), options, environment)
    }

    /// Starts on a file system of its own.
    pub fn start_on(disk: SmallDisk, options: &[&str], environment: &[(&str, &Path)]) -> Broker {
        Broker::start_at(Home::Disk(disk), options, environment)
    }

    fn start_at(home: Home, options: &[&str], environment: &[(&str, &Path)]) -> Broker {
        let options = options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        let variable = |(name, value): &(&str, &Path)| ((*name).to_owned(), value.to_path_buf());
        let environment = environment.iter().map(variable).collect::<Vec<_>>();
        let heard = Arc::new(Heard::default());
        let launched =
            launch(home.program(&[], &environment), &home.data_dir().0, ANY_PORT, &options, &heard);
        let (process, address, ready_after) =
            launched.unwrap_or_else(|refused| panic!("the broker did not start: {refused:?}"));
        Broker { process, address, ready_after, options, environment, under: Under::new(), heard, home }
    }

    /// From the next start on it is run by this program; by none if there is nothing.
    pub fn set_under(&mut self, under: Under) {
        self.under = under;
    }

    /// Whether it is semel that runs here, and not Apache Kafka in its place, which promises less and logs otherwise.
    pub fn runs_semel() -> bool {
        env::var_os("SEMEL_TEST_BINARY").is_none_or(|program| !Path::new(&program).ends_with("kafka/serve"))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.data_dir().1
    }

    /// The file system that it was started on.
    pub fn disk(&self) -> &SmallDisk {
        match &self.home {
            Home::Disk(disk) => disk,
            Home::Directory(_) => panic!("it has none of its own"),
        }
    }

    pub fn tls(&self, file: &str) -> PathBuf {
        self.data_dir().join("tls").join(file)
    }

    /// How long the last start took from exec to `ready`.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: it does nothing any more, and keeps everything.
    pub fn freeze(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// SIGUSR1, for the program that it runs under ([`Broker::set_under`]).
    pub fn tell(&mut self) {
        self.process.signal(Signal::USR1);
    }

    /// SIGTERM, and the wait for a clean end.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        let status = self.process.wait(STOP_DEADLINE);
        status.unwrap_or_else(|| panic!("no end after SIGTERM\n{}", self.process.report()))
    }

    /// Starts again on the same data and the same port, after `kill` or `stop`.
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|refused| panic!("the broker did not come back: {refused:?}"));
    }

    pub fn try_restart(&mut self) -> Result<(), Refused> {
        assert!(self.process.wait(Duration::ZERO).is_some(), "restart of a broker that still runs");
        let listen = self.address.to_string();
        let (program, (data_dir, _)) =
            (self.home.program(&self.under, &self.environment), self.home.data_dir());
        let (process, address, ready_after) =
            launch(program, &data_dir, &listen, &self.options, &self.heard)?;
        assert_eq!(address, self.address, "a restart keeps the port");
        (self.process, self.ready_after) = (process, ready_after);
        Ok(())
    }

    /// Tries to start one that is expected to refuse.
    pub fn try_start(data_dir: &Path, listen: &str) -> Result<(), Refused> {
        launch(Command::new(binary()), data_dir, listen, &[], &Arc::new(Heard::default())).map(|_| ())
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let status = self.process.wait(STOP_DEADLINE);
        status.unwrap_or_else(|| panic!("it has not ended\n{}", self.process.report()))
    }

    pub fn is_running(&mut self) -> bool {
        self.process.wait(Duration::ZERO).is_none()
    }

    /// All that the broker logged, over its restarts.
    pub fn log(&self) -> String {
        self.heard.text()
    }

    /// Waits until the broker has logged something; fails the test when it does not in time.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let logged = self.heard.wait(LOG_DEADLINE, wanted);
        assert!(logged, "the broker did not log {what}\n{}", self.process.report());
    }

    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("semel-test-").tempdir().unwrap()
}

type Launched = (Process, SocketAddr, Duration);

fn launch(
    mut command: Command,
    data_dir: &Path,
    listen: &str,
    options: &[String],
    heard: &Arc<Heard>,
) -> Result<Launched, Refused> {
    command.arg("serve").arg("--data-dir").arg(data_dir).args(["--listen", listen]).args(options);
    // A stray `semel.toml` or SEMEL_* setting of the machine must not decide a test.
    command.current_dir(env::temp_dir());
    for (name, _) in
        env::vars().filter(|(name, _)| name.starts_with("SEMEL_") && !name.starts_with("SEMEL_TEST_"))
    {
        command.env_remove(name);
    }
    let started = Instant::now();
    let mut process = Process::spawn("the broker", command, heard);
    let mut said = String::new();
    loop {
        match process.next(READY_DEADLINE.saturating_sub(started.elapsed())) {
            Said::Line(line) => {
                said.push_str(&line);
                said.push('\n');
                if let Some(address) = ready_address(&line) {
                    return Ok((process, address, started.elapsed()));
                }
            }
            Said::Nothing => {
                let status =
                    process.wait(STOP_DEADLINE).expect("it closed its standard output but did not end");
                return Err(Refused { status, stdout: said, stderr: heard.text() });
            }
            Said::Late => {
                panic!("not ready after {READY_DEADLINE:?}; it said:\n{said}\n{}", process.report())
            }
        }
    }
}

/// The address in the line that says `ready`.
fn ready_address(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().map(|word| word.trim_matches(|c: char| ",;()".contains(c)));
    words
        .clone()
        .any(|word| word.trim_end_matches(':') == "ready")
        .then(|| words.find_map(|word| word.parse().ok()))?
}

/// The program under test. Built once per test run, in release mode, because that is what people run.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("SEMEL_TEST_BINARY") {
        Some(other) => fs::canonicalize(other).expect("SEMEL_TEST_BINARY names a program"),
        None => build(),
    })
}

fn build() -> PathBuf {
    let _one_at_a_time = lock("release-build");
    let status = inner_cargo().args(["build", "--release", "--bin", "semel"]).status().unwrap();
    assert!(status.success(), "cargo build --release failed: {status}");
    target_dir().join("release").join("semel")
}
