//! Where the brokers are, how they are recognised, and how long things may take.

use super::backoff::BackoffLimits;
use super::error::ClientError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How a broker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// QUIC: one connection with many lanes (`spec/transport-quic.md`). semel only.
    Quic,
    /// TLS 1.3 on TCP: any broker that speaks the Kafka protocol.
    Tls,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Quic => "quic",
            Scheme::Tls => "tls",
        }
    }
}

/// A broker's address: `quic://HOST:PORT` or `tls://HOST:PORT`; QUIC is meant where no scheme is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// How it is reached.
    pub scheme: Scheme,
    /// A host name or an address, without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no endpoint: write quic://HOST:PORT or tls://HOST:PORT")]
pub struct InvalidEndpoint {
    text: String,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, InvalidEndpoint> {
        let invalid = || InvalidEndpoint { text: text.to_owned() };
        let (scheme, address) = match text.split_once("://") {
            None => (Scheme::Quic, text),
            Some(("quic", address)) => (Scheme::Quic, address),
            Some(("tls", address)) => (Scheme::Tls, address),
            Some(_) => return Err(invalid()),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let bracketed = host.strip_prefix('[').map(|inner| inner.strip_suffix(']'));
        let host = match bracketed {
            None if host.contains(':') => None,
            None => Some(host),
            Some(inner) => inner,
        };
        let host = host.filter(|host| !host.is_empty() && !host.contains('/')).ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        Ok(Endpoint { scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{}{}{}:{}", self.scheme.name(), brackets.0, self.host, brackets.1, self.port)
    }
}

/// The files by which client and broker recognise each other (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that may vouch for a broker.
    pub ca: PathBuf,
    /// The client's certificate chain and its private key, for brokers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// The development identity that `semel serve` makes in its data directory.
    #[must_use]
    pub fn under(data_directory: &Path) -> TlsFiles {
        let tls = data_directory.join("tls");
        TlsFiles { ca: tls.join("ca.pem"), client: Some((tls.join("client.pem"), tls.join("client.key"))) }
    }
}

/// What a client needs to know before it connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Brokers to ask first; one that answers is enough. At least one; all with the same scheme.
    pub bootstrap: Vec<Endpoint>,
    /// Certificates and key.
    pub tls: TlsFiles,
    /// The client's name for itself in requests and in the broker's logs.
    pub client_id: String,
    /// How long [`Client::connect`](super::Client::connect) tries to reach a broker that does not answer.
    pub bootstrap_timeout: Duration,
    /// How long one attempt to connect may take, handshake and version query included.
    pub connect_timeout: Duration,
    /// How long one request may wait for its answer; its connection is given up then.
    pub request_timeout: Duration,
    /// How long a call may take in total, with all its retries.
    pub call_timeout: Duration,
    /// Pauses between attempts.
    pub backoff: BackoffLimits,
    /// After this time what is known about topics is asked anew.
    pub metadata_max_age: Duration,
    /// The largest answer that is accepted, in bytes.
    pub frame_bytes_max: usize,
    /// Requests without an answer on one connection, beyond which callers wait.
    pub connection_requests_max: usize,
}

impl ClientConfig {
    /// The defaults, for one broker.
    #[must_use]
    pub fn new(bootstrap: Endpoint, tls: TlsFiles) -> ClientConfig {
        ClientConfig {
            bootstrap: vec![bootstrap],
            tls,
            client_id: "semel-client".to_owned(),
            // A broker that is being started again is there within that.
            bootstrap_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            // Kafka's own: longer than any stall of a healthy broker.
            request_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            backoff: BackoffLimits::default(),
            metadata_max_age: Duration::from_secs(300),
            // Kafka's largest response by default.
            frame_bytes_max: 100 << 20,
            // Far more than any lane needs; a bound on what a silent broker can pile up.
            connection_requests_max: 64,
        }
    }

    /// Checks what no type can say.
    pub(super) fn check(&self) -> Result<Scheme, ClientError> {
        let Some(first) = self.bootstrap.first() else {
            return Err(ClientError::Config(
                "no bootstrap endpoint: name at least one, quic://HOST:PORT".to_owned(),
            ));
        };
        if self.bootstrap.iter().any(|endpoint| endpoint.scheme != first.scheme) {
            return Err(ClientError::Config(
                "the bootstrap endpoints mix quic:// and tls://: use one of them for all".to_owned(),
            ));
        }
        if self.connection_requests_max == 0 {
            return Err(ClientError::Config("connection_requests_max must be at least 1".to_owned()));
        }
        Ok(first.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written() {
        for (text, scheme, host, port) in [
            ("localhost:9092", Scheme::Quic, "localhost", 9092),
            ("quic://10.0.0.1:1", Scheme::Quic, "10.0.0.1", 1),
            ("tls://[::1]:19093", Scheme::Tls, "::1", 19093),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.scheme, endpoint.host.as_str(), endpoint.port), (scheme, host, port));
            assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
        for text in
            ["", "localhost", "http://a:1", "a:0", "a:99999", ":1", "::1:9092", "tls://a:1/x", "[::1:9092"]
        {
            let refused = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(refused.contains("quic://HOST:PORT"), "{refused}");
        }
    }
}
