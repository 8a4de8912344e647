//! The broker as a process: settings in, a serving broker out, until a signal or a failure ends it.
//!
//! Comes in: flags, environment and `semel.toml` ([`Settings`]). Goes out: one line with the word `ready` on standard
//! output once clients can connect, with what a person needs to connect; logs on standard error; an exit code that is not
//! zero, with one clear line, when it cannot start or must not go on. It joins the other rooms and does nothing that one of
//! them could do.

mod config;
mod settings;

pub use config::{Config, ConfigError};
pub use settings::{Setting, Settings, SettingsError, Source, add_arguments};

use crate::broker::{Broker, Endpoint};
use crate::console::{Console, Parts};
use crate::log::RealDisk;
use crate::net::{
    Admins, Budgets, DevelopmentFiles, IdentityError, NetConfig, NetError, NetMetrics, Server,
    librdkafka_configuration,
};
use crate::shard::{Running, StartError, StopReason, start};
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::signal::unix::{SignalKind, signal};

/// Why the broker could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(
        "the data directory {path} cannot be used: {source}; give another one with --data-dir, or correct its permissions"
    )]
    DataDirectory {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The shard cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The shard has failed. What was acknowledged is durable; the next start recovers it.
    #[error("semel has to stop: {0}; what was acknowledged is durable: {advice}", advice = .0.advice())]
    Stopped(#[from] StopReason),
    /// The system refuses something.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Serves until SIGTERM or Ctrl-C, or until something fails that nothing can go on after.
pub fn serve(settings: &Settings) -> Result<(), ServeError> {
    let config = Config::of(settings)?;
    start_logging(&config);
    make_data_directory(&config.data_dir)?;
    // Listeners and signals only: connections live on threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError::System { what: "the async runtime cannot be made", source })?;
    let running = start(&config.data_dir, Arc::new(RealDisk), &config.shard)?;
    runtime.block_on(until_stopped(&config, running))
}

/// Logs go to standard error: standard output says only what scripts wait for.
fn start_logging(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first one's logs.
    let _ = if config.log_json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}

/// Only the broker's own user may look into the data directory: it holds keys and everybody's records.
fn make_data_directory(path: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::DataDirectory { path: path.display().to_string(), source };
    let made = !path.exists();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    if made {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    // Its name has to be durable before anything in it can be.
    match path.parent().map(|parent| std::fs::File::open(parent).and_then(|parent| parent.sync_all())) {
        // Who may not read the directory above has not made this one either.
        Some(Err(error)) if error.kind() != std::io::ErrorKind::PermissionDenied => Err(failed(error)),
        _ => Ok(()),
    }
}

/// How long a stop waits for requests in flight.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

async fn until_stopped(config: &Config, mut running: Running) -> Result<(), ServeError> {
    let host = config.listen.ip().to_string();
    let (identity, development) = match &config.identity {
        Some(identity) => (identity.clone(), None),
        None => {
            let files = DevelopmentFiles::ensure(&config.data_dir, &host)?;
            (files.identity(), Some(files))
        }
    };
    let budgets = Budgets::new(&config.net);
    let metrics = Arc::new(NetMetrics::new(&config.net));
    let broker = Broker::new(running.shard.clone(), budgets.clone(), config.broker.clone());
    let console = Console::new(Parts {
        shard: running.shard.clone(),
        broker: broker.clone(),
        net: Arc::clone(&metrics),
        budgets: budgets.clone(),
        readers: config.metrics_readers.iter().cloned().collect(),
        port: OnceLock::new(),
    });
    let net = NetConfig {
        listen: config.listen,
        identity,
        client_certificates: config.client_certificates,
        principal_rule: config.principal_rule,
        admins: config.admins.iter().cloned().collect::<Admins>(),
        limits: config.net.clone(),
        budgets,
        metrics,
    };
    let mut stop = Signals::new()?;
    let mut server = Server::bind(net, Arc::new(broker.clone()), Arc::new(console.clone())).await?;
    let address = server.address();
    console.listens_on(address.port());
    if config.advertised.is_none() {
        broker.advertise(Endpoint { host: advertised_host(address), port: address.port() });
    }
    announce(config, development.as_ref(), address);
    let failed = tokio::select! {
        () = stop.received() => None,
        error = server.failed() => Some(ServeError::Net(error)),
        reason = running.failed() => Some(ServeError::Stopped(reason)),
    };
    if let Some(error) = failed {
        // What is durable is no longer known: nothing more may be answered.
        return Err(error);
    }
    tracing::info!("stopping: no new connections, finishing what is in flight");
    server.stop(STOP_GRACE).await;
    running.stop().await?;
    tracing::info!("stopped; everything acknowledged is durable");
    Ok(())
}

/// A listener on all addresses is reached through this machine's loopback unless the settings say otherwise.
fn advertised_host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { "localhost".into() } else { address.ip().to_string() }
}

/// Says where things are, in lines that can be pasted; the last one says that clients can connect.
fn announce(config: &Config, development: Option<&DevelopmentFiles>, address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    let data = config.data_dir.display();
    let mut lines = vec![
        format!(
            "semel {} serves the Kafka protocol over TLS 1.3 (TCP) and QUIC (UDP)",
            env!("CARGO_PKG_VERSION")
        ),
        format!("  address  {address}"),
        format!("  data     {data}"),
    ];
    if let Some(files) = development {
        lines.push("  certificates are for development: they were made here, for this machine".into());
        lines.push(format!(
            "  Java     --bootstrap-server {address} --command-config {}",
            files.client_properties.display()
        ));
        lines.push("  librdkafka:".into());
        lines.push(format!("    bootstrap.servers={address}"));
        lines.extend(librdkafka_configuration(files).lines().map(|line| format!("    {line}")));
        lines.push(format!("  metrics  {}", curl(files, address)));
        lines.push(format!("  try      semel topic create payments --bootstrap {address} --data-dir {data}"));
        lines.push(format!(
            "           echo hello | semel produce payments --bootstrap {address} --data-dir {data}"
        ));
        lines.push(format!("           semel consume payments --bootstrap {address} --data-dir {data}"));
    }
    lines.push(format!("ready: {address}"));
    // Nobody may be listening; the broker serves all the same.
    let _ = writeln!(out, "{}", lines.join("\n"));
    let _ = out.flush();
}

/// The command that shows the metrics.
fn curl(files: &DevelopmentFiles, address: SocketAddr) -> String {
    let [ca, certificate, key] = [&files.ca, &files.client, &files.client_key].map(|file| file.display());
    format!("curl --cacert {ca} --cert {certificate} --key {key} https://{address}/metrics")
}

/// The signals that end the broker in order.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals, ServeError> {
        let failed = |source| ServeError::System { what: "signals cannot be received", source };
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        Ok(Signals { terminate, interrupt })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
