//! A broker of this program's own, as a process of its own: started, looked at, killed.

use super::failed;
use crate::cli::CliError;
use crate::client::{ClientConfig, Page, TlsFiles, page};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take before it counts as one that hangs.
const START_MAX: Duration = Duration::from_secs(600);

/// A broker that serves. It is killed when it is dropped.
pub(super) struct Broker {
    child: Child,
    address: String,
    data: PathBuf,
}

/// What a start came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Started {
    /// From the process's start until clients can connect.
    pub(super) ready_ms: u64,
    /// Of that: the rows and the log.
    pub(super) recovery_ms: Option<u64>,
    pub(super) replayed_blocks: Option<u64>,
    /// Rows that were read from the store until then.
    pub(super) rows_read: u64,
    /// Bytes that were read from files until then, and those of them that came from the disk.
    pub(super) read_bytes: u64,
    pub(super) disk_read_bytes: u64,
    /// Memory when it was ready.
    pub(super) resident_bytes: u64,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    /// Starts one on `data`, with its log in `log`.
    pub(super) async fn start(
        data: &Path,
        log: &Path,
        settings: &[String],
    ) -> Result<(Broker, Started), CliError> {
        let program = std::env::current_exe()?;
        let begun = Instant::now();
        let mut child = Command::new(program)
            .arg("serve")
            .arg(format!("--data-dir={}", data.display()))
            .args(["--listen=127.0.0.1:0", "--log-format=json"])
            .args(settings.iter().map(|setting| format!("--{setting}")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()?;
        let out = child.stdout.take();
        let mut broker = Broker { child, address: String::new(), data: data.to_path_buf() };
        let ready = tokio::task::spawn_blocking(move || ready_line(out));
        let ready = tokio::time::timeout(START_MAX, ready).await;
        let Some(address) = ready.ok().and_then(|line| line.ok().flatten()) else {
            let said = std::fs::read_to_string(log)?;
            return Err(failed(&format!("the broker has not started: {said}")));
        };
        let ready_ms = millis(begun.elapsed());
        broker.address = address;
        let (read_bytes, disk_read_bytes) = broker.read_bytes()?;
        let resident_bytes = broker.memory("VmRSS")?;
        let (replayed_blocks, recovery_ms) = recovered(log)?;
        let rows_read = broker.metric("semel_store_read_rows_total").await?;
        let started = Started {
            ready_ms,
            recovery_ms,
            replayed_blocks,
            rows_read,
            read_bytes,
            disk_read_bytes,
            resident_bytes,
        };
        Ok((broker, started))
    }

    /// How clients reach it.
    pub(super) fn config(&self) -> Result<ClientConfig, CliError> {
        let endpoint = format!("tls://{}", self.address).parse();
        let endpoint = endpoint.map_err(|_| failed(&format!("no address: {}", self.address)))?;
        Ok(ClientConfig::new(endpoint, TlsFiles::under(&self.data)))
    }

    /// One of its metrics, of one series or of all that have the name together; 0 if there is none.
    pub(super) async fn metric(&self, name: &str) -> Result<u64, CliError> {
        let Page { body, .. } = page(&self.config()?, "/metrics").await?;
        let values = body.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let of = series.split_once('{').map_or(series, |(of, _)| of);
            (of == name || series == name).then(|| value.parse::<f64>().ok())?
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts and bytes")]
        Ok(values.sum::<f64>() as u64)
    }

    /// Memory as the system counts it: `VmRSS` now, `VmHWM` at most so far.
    pub(super) fn memory(&self, which: &str) -> Result<u64, CliError> {
        let kilobytes = self.said_by_the_system("status", which)?;
        Ok(kilobytes.saturating_mul(1024))
    }

    fn read_bytes(&self) -> Result<(u64, u64), CliError> {
        Ok((self.said_by_the_system("io", "rchar")?, self.said_by_the_system("io", "read_bytes")?))
    }

    /// Bytes that its threads of this name have read from files.
    pub(super) fn read_by(&self, thread: &str) -> Result<u64, CliError> {
        let mut read = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?.path();
            // A thread may have ended meanwhile.
            let said = |file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
            if said("comm").trim_end() == thread {
                read += number(&said("io"), "rchar").unwrap_or(0);
            }
        }
        Ok(read)
    }

    fn said_by_the_system(&self, file: &str, name: &str) -> Result<u64, CliError> {
        let said = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        number(&said, name).ok_or_else(|| failed(&format!("the system does not say {name} of a process")))
    }

    /// As a crash does it.
    pub(super) fn kill(mut self) -> Result<(), CliError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it in order.
    pub(super) fn stop(mut self) -> Result<(), CliError> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            rustix::process::kill_process(id, rustix::process::Signal::TERM).map_err(std::io::Error::from)?;
        }
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(failed(&format!("the broker has ended with {status}"))) }
    }
}

/// What a file of the system's says behind a name.
fn number(said: &str, name: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The address on the line that says that it is ready; what comes after it is read and dropped.
fn ready_line(out: Option<std::process::ChildStdout>) -> Option<String> {
    let mut lines = BufReader::new(out?).lines();
    let address =
        lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix("ready: ")?.to_owned()));
    std::thread::spawn(move || lines.for_each(drop));
    address
}

/// What the broker says of its recovery in its log: blocks replayed, and how long it took.
fn recovered(log: &Path) -> Result<(Option<u64>, Option<u64>), CliError> {
    let mut said = String::new();
    File::open(log)?.read_to_string(&mut said)?;
    let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let fields = lines.map(|line| line.get("fields").cloned().unwrap_or_default());
    let of = fields.into_iter().find(|fields| fields.get("replayed_blocks").is_some()).unwrap_or_default();
    let number = |name: &str| of.get(name).and_then(serde_json::Value::as_u64);
    Ok((number("replayed_blocks"), number("took_ms")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
