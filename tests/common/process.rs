//! A child process that is watched line by line, always with a deadline, and never outlives its test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Enough of a log's end to explain a failure, little enough to read.
const REPORT_BYTES_MAX: usize = 6_000;

/// After SIGKILL the kernel needs only moments; longer means that the machine is stuck.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// What a child said next on its standard output.
pub enum Said {
    Line(String),
    /// It closed its standard output.
    Nothing,
    /// The deadline passed.
    Late,
}

pub struct Process {
    name: String,
    pid: Pid,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    exit: Receiver<ExitStatus>,
    exited: Option<ExitStatus>,
    heard: Arc<Heard>,
}

/// What a process, or one after the other in its place, wrote to standard error.
#[derive(Default)]
pub struct Heard {
    text: Mutex<String>,
    more: Condvar,
}

impl Heard {
    pub fn text(&self) -> String {
        self.lock().clone()
    }

    /// Waits until `wanted` holds of the text; `false` when it does not within the deadline.
    pub fn wait(&self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let waited = self.more.wait_timeout_while(self.lock(), deadline, |text| !wanted(text));
        !waited.unwrap_or_else(|poisoned| poisoned.into_inner()).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Process {
    pub fn spawn(name: &str, mut command: Command, heard: &Arc<Heard>) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: cannot start {command:?}: {error}"));
        let (pid, stdin) = (Pid::from_child(&child), child.stdin.take());
        let (lines, listener) = (watch_lines(&mut child), watch_errors(&mut child, heard));
        let exit = watch_exit(child, listener);
        Process { name: name.to_owned(), pid, stdin, lines, exit, exited: None, heard: Arc::clone(heard) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub fn say(&mut self, line: &str) {
        let told = self.stdin.as_mut().map(|stdin| stdin.write_all(format!("{line}\n").as_bytes()));
        if !matches!(told, Some(Ok(()))) {
            panic!("{} does not listen any more\n{}", self.name, self.report());
        }
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn next(&mut self, deadline: Duration) -> Said {
        match self.lines.recv_timeout(deadline) {
            Ok(line) => Said::Line(line),
            Err(RecvTimeoutError::Disconnected) => Said::Nothing,
            Err(RecvTimeoutError::Timeout) => Said::Late,
        }
    }

    /// The next line; fails the test, with what the child wrote to standard error, when none comes in time.
    pub fn line(&mut self, deadline: Duration) -> String {
        match self.next(deadline) {
            Said::Line(line) => line,
            Said::Nothing => {
                let status = self.wait(KILL_DEADLINE);
                panic!("{} ended ({status:?}) without an answer\n{}", self.name, self.report())
            }
            Said::Late => panic!("{} gave no answer within {deadline:?}\n{}", self.name, self.report()),
        }
    }

    /// Everything it still says until it ends.
    pub fn rest(&mut self, deadline: Duration) -> Vec<String> {
        let end = Instant::now() + deadline;
        let mut lines = Vec::new();
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Said::Line(line) => lines.push(line),
                Said::Nothing => return lines,
                Said::Late => panic!("{} did not end within {deadline:?}\n{}", self.name, self.report()),
            }
        }
    }

    /// Waits for the end; `None` when it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.exit.recv_timeout(deadline).ok();
        }
        self.exited
    }

    /// Sends a signal, unless the process has already ended (its number may belong to another one by then).
    pub fn signal(&mut self, signal: Signal) {
        if self.wait(Duration::ZERO).is_none() {
            // An error here means that it ended in this moment, which is what the callers want to know from `wait`.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// kill -9, and the certainty that it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert!(self.wait(KILL_DEADLINE).is_some(), "{} survived SIGKILL", self.name);
    }

    /// The end of what it wrote to standard error, for a person; all of it goes to a file, which is named.
    pub fn report(&self) -> String {
        let text = self.heard.text();
        let from = text.len().saturating_sub(REPORT_BYTES_MAX);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let name = &self.name;
        let mut report = format!("--- {name} wrote to standard error:\n{}\n---", &text[from..]);
        if from > 0 {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.log", self.pid()));
            match fs::write(&file, text) {
                Ok(()) => report.push_str(&format!(" (from its beginning in {})", file.display())),
                Err(error) => report.push_str(&format!(" (cannot write {}: {error})", file.display())),
            }
        }
        report
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        let ended_before = self.wait(Duration::ZERO);
        self.signal(Signal::KILL);
        let _ = self.wait(KILL_DEADLINE);
        if thread::panicking() {
            let state =
                ended_before.map_or("was running".to_owned(), |status| format!("had ended ({status})"));
            eprintln!("{} {state}\n{}", self.name, self.report());
        }
    }
}

fn watch_lines(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    let stdout = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn watch_errors(child: &mut Child, heard: &Arc<Heard>) -> JoinHandle<()> {
    let heard = Arc::clone(heard);
    let mut stderr = child.stderr.take().unwrap();
    thread::spawn(move || {
        let mut some = [0; 8192];
        while let Ok(length @ 1..) = stderr.read(&mut some) {
            heard.lock().push_str(&String::from_utf8_lossy(&some[..length]));
            heard.more.notify_all();
        }
    })
}

/// The end is told after all that was written to standard error has been heard.
fn watch_exit(mut child: Child, listener: JoinHandle<()>) -> Receiver<ExitStatus> {
    let (sender, exit) = channel();
    thread::spawn(move || {
        let status = child.wait().unwrap();
        let _ = listener.join();
        let _ = sender.send(status);
    });
    exit
}

/// Runs a set-up command to its end and returns what it printed; an error carries both of its outputs.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({}):\n{stdout}{stderr}", output.status))
}

/// Feeds `input` to a command and hears it out, within a deadline.
pub fn pipe(name: &str, command: Command, input: &[u8], deadline: Duration) -> Piped {
    let heard = Arc::new(Heard::default());
    let mut process = Process::spawn(name, command, &heard);
    if let Some(mut stdin) = process.stdin.take() {
        // A command that ends before it has read everything breaks the pipe; its status tells why.
        let _ = stdin.write_all(input);
    }
    let lines = process.rest(deadline);
    let status = process.wait(deadline);
    let Some(status) = status else { panic!("{name} still runs after {deadline:?}\n{}", process.report()) };
    Piped { status, lines, errors: heard.text() }
}

pub struct Piped {
    pub status: ExitStatus,
    pub lines: Vec<String>,
    pub errors: String,
}

/// Reads a whole file as text, with the path in the failure.
pub fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
