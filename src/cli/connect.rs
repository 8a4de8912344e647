//! The options that every command of the client has, and the client they make.

use super::CliError;
use crate::client::{Client, ClientConfig, Endpoint, TlsFiles};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Whoever types a command wants to know soon that no broker is there: after this time, or this part of what the broker has for
/// all of it.
const BOOTSTRAP_TIMEOUT_MIN: Duration = Duration::from_secs(3);
const BOOTSTRAP_PART: u32 = 5;

/// Where the broker is and how to be recognised there.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Brokers to ask first: quic://HOST:PORT (semel) or tls://HOST:PORT (any Kafka-protocol broker), comma-separated
    #[arg(
        long,
        short = 'b',
        env = "SEMEL_BOOTSTRAP",
        default_value = "quic://127.0.0.1:9092",
        value_delimiter = ','
    )]
    pub bootstrap: Vec<Endpoint>,
    /// The data directory of a broker on this machine, in which its certificates are found
    #[arg(long, env = "SEMEL_DATA_DIR", default_value = "./semel-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The authority that signed the broker's certificate [default: DIR/tls/ca.pem]
    #[arg(long, env = "SEMEL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This client's certificate [default: DIR/tls/client.pem, or none with --ca]
    #[arg(long, env = "SEMEL_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The private key of --cert [default: DIR/tls/client.key, or none with --ca]
    #[arg(long, env = "SEMEL_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Give up when the broker has not done what it should after so many seconds
    #[arg(long, env = "SEMEL_TIMEOUT", default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

impl ConnectArgs {
    /// What the arguments say, as the client's configuration.
    pub(super) fn config(&self) -> Result<ClientConfig, CliError> {
        let [first, others @ ..] = &self.bootstrap[..] else {
            return Err(CliError::usage("no bootstrap broker", "name one with --bootstrap quic://HOST:PORT"));
        };
        let timeout = Duration::from_secs(self.timeout.into());
        let mut config = ClientConfig::new(first.clone(), self.tls());
        config.bootstrap.extend(others.iter().cloned());
        config.client_id = "semel-cli".to_owned();
        config.connect_timeout = timeout.min(config.connect_timeout);
        config.bootstrap_timeout = timeout.min(BOOTSTRAP_TIMEOUT_MIN.max(timeout / BOOTSTRAP_PART));
        config.call_timeout = timeout;
        Ok(config)
    }

    fn tls(&self) -> TlsFiles {
        let made = TlsFiles::under(&self.data_dir);
        let named = self.cert.clone().zip(self.key.clone());
        match &self.ca {
            Some(ca) => TlsFiles { ca: ca.clone(), client: named },
            None => TlsFiles { ca: made.ca, client: named.or(made.client) },
        }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, CliError> {
        Ok(Client::connect(self.config()?).await?)
    }
}
