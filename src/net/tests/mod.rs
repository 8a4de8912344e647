//! The room from outside: a toy service behind both listeners, and clients that behave well, badly or not at all.
//!
//! Nothing here sleeps: tests wait for what the service sees, for log lines, for memory to come free, or for the end
//! of a stream, each with [`PATIENCE`] as the deadline.

mod hostile;
mod identities;
mod lanes;
mod pages;
mod peers;
mod sessions;
mod splices;
mod stops;
mod toy;

use super::*;
use bytes::Bytes;
use peers::Peer;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Notify;
use toy::Toy;
use tracing::subscriber::DefaultGuard;

/// How long a test waits for what must happen. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Quic];

/// Waits for `future`, or fails the test.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A server with its own development identity, on a port of its own. The log of this thread is captured, and so is
/// the server's, because `#[tokio::test]` runs everything on one thread.
struct World {
    directory: TempDir,
    files: DevelopmentFiles,
    config: NetConfig,
    toy: Arc<Toy>,
    log: Log,
    server: Option<Server>,
    address: SocketAddr,
}

impl World {
    async fn new() -> World {
        World::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> World {
        World::configured(limits, |_| {}).await
    }

    async fn configured(limits: Limits, edit: impl FnOnce(&mut NetConfig)) -> World {
        let log = Log::capture();
        // One thread: so its log lines can be captured, and what comes after a stop is known.
        let limits = Limits { threads: 0, ..limits };
        let directory = tempfile::tempdir().unwrap();
        let files = DevelopmentFiles::ensure(directory.path(), "localhost").unwrap();
        let mut config = NetConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            identity: files.identity(),
            client_certificates: ClientCertificates::Required,
            principal_rule: PrincipalRule::CommonName,
            admins: Admins::default(),
            budgets: Budgets::new(&limits),
            metrics: Arc::new(NetMetrics::new(&limits)),
            limits,
        };
        edit(&mut config);
        let toy = Arc::new(Toy::new(config.budgets.clone()));
        let server =
            Server::bind(config.clone(), Arc::clone(&toy), Arc::clone(&toy) as Arc<dyn Pages>).await.unwrap();
        let address = server.address();
        World { directory, files, config, toy, log, server: Some(server), address }
    }

    async fn connect(&self, transport: Transport) -> Peer {
        soon("a connection", Peer::connect(transport, self.address, &self.files)).await
    }

    fn budgets(&self) -> &Budgets {
        &self.config.budgets
    }

    /// Waits until nothing of a budget is reserved.
    async fn all_free(&self, budget: Budget) {
        let all = self.budgets().reserve(budget, self.budgets().capacity(budget));
        drop(soon("the budget to be free", all).await.unwrap());
    }

    /// Shows that the server still serves on both transports.
    async fn still_serves(&self) {
        for transport in BOTH {
            let mut peer = self.connect(transport).await;
            peer.send(&toy::echo(99, b"alive")).await;
            assert_eq!(peer.receive().await, toy::answer(99, b"alive"));
        }
    }
}

/// What was logged on this thread.
#[derive(Clone)]
struct Log {
    lines: Arc<Lines>,
    _guard: Arc<DefaultGuard>,
}

#[derive(Default)]
struct Lines {
    text: Mutex<String>,
    changed: Notify,
}

impl Log {
    fn capture() -> Log {
        let lines = Arc::new(Lines::default());
        let writer = Arc::clone(&lines);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || LogWriter(Arc::clone(&writer)))
            .finish();
        Log { lines, _guard: Arc::new(tracing::subscriber::set_default(subscriber)) }
    }

    /// Waits for a line that contains all of `parts`, and returns it.
    async fn line(&self, parts: &[&str]) -> String {
        let found = async {
            loop {
                let changed = self.lines.changed.notified();
                if let Some(line) = self.find(parts) {
                    return line;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(line) => line,
            Err(_) => panic!("no log line with {parts:?} in:\n{}", self.lines.text.lock().unwrap()),
        }
    }

    fn find(&self, parts: &[&str]) -> Option<String> {
        let text = self.lines.text.lock().unwrap();
        text.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
    }
}

struct LogWriter(Arc<Lines>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.text.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        self.0.changed.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
