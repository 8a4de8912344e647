//! What the settings mean: text becomes the types of each room, or a sentence that says what is wrong with it.

use super::settings::Settings;
use crate::broker::{BrokerConfig, Endpoint, Protocol};
use crate::net::{ClientCertificates, IdentityFiles, Limits, Principal, PrincipalRule};
use crate::shard::ShardLimits;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A setting has a value that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("the setting {name} (from {source_of}) is {value:?}, but must be {expected}")]
pub struct ConfigError {
    /// Which setting.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Where that comes from.
    pub source_of: String,
    /// What it must be.
    pub expected: String,
}

/// Everything the broker is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory, as an absolute path.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where clients are told to connect, if not there.
    pub advertised: Option<Endpoint>,
    /// The server's own certificates; none for the development set-up.
    pub identity: Option<IdentityFiles>,
    /// Whether clients must show a certificate.
    pub client_certificates: ClientCertificates,
    /// What in it names them.
    pub principal_rule: PrincipalRule,
    /// Who may administer.
    pub admins: Vec<Principal>,
    /// Who may see metrics, beside them.
    pub metrics_readers: Vec<Principal>,
    /// The network's limits.
    pub net: Limits,
    /// The shard's limits.
    pub shard: ShardLimits,
    /// The broker's own settings.
    pub broker: BrokerConfig,
    /// What is logged.
    pub log: String,
    /// Whether it is logged as JSON.
    pub log_json: bool,
}

/// Reads one setting after the other.
struct Reader<'s>(&'s Settings);

impl Reader<'_> {
    fn error(&self, name: &'static str, expected: impl Into<String>) -> ConfigError {
        let source_of = self.0.source(name).to_string();
        ConfigError { name, value: self.0.value(name).to_owned(), source_of, expected: expected.into() }
    }

    fn parse<T: FromStr>(&self, name: &'static str, expected: &str) -> Result<T, ConfigError> {
        self.0.value(name).trim().parse().map_err(|_| self.error(name, expected))
    }

    /// A number of at least `least`.
    fn number<T: FromStr + PartialOrd + std::fmt::Display + Copy>(
        &self,
        name: &'static str,
        least: T,
    ) -> Result<T, ConfigError> {
        let expected = format!("a number, at least {least}");
        let number: T = self.parse(name, &expected)?;
        if number >= least { Ok(number) } else { Err(self.error(name, expected)) }
    }

    fn millis(&self, name: &'static str) -> Result<Duration, ConfigError> {
        self.number(name, 0).map(Duration::from_millis)
    }

    /// A time of at least a second.
    fn seconds(&self, name: &'static str) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(self.number(name, 1)?))
    }

    fn optional(&self, name: &'static str) -> Option<&str> {
        Some(self.0.value(name)).filter(|value| !value.is_empty())
    }

    fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let value = self.0.value(name);
        choices.iter().find(|(choice, _)| *choice == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.error(name, format!("one of {}", names.join(", ")))
        })
    }

    fn listen(&self) -> Result<SocketAddr, ConfigError> {
        let expected = "HOST:PORT, as 127.0.0.1:9092";
        let resolved =
            self.0.value("listen").to_socket_addrs().map_err(|_| self.error("listen", expected))?;
        resolved.into_iter().next().ok_or_else(|| self.error("listen", expected))
    }

    fn advertised(&self) -> Result<Option<Endpoint>, ConfigError> {
        let Some(value) = self.optional("advertised") else { return Ok(None) };
        let endpoint = value.rsplit_once(':').and_then(|(host, port)| {
            Some(Endpoint { host: host.trim_matches(['[', ']']).to_owned(), port: port.parse().ok()? })
        });
        endpoint.map(Some).ok_or_else(|| self.error("advertised", "HOST:PORT, as broker.example.com:9092"))
    }

    /// All three files, or none of them.
    fn identity(&self) -> Result<Option<IdentityFiles>, ConfigError> {
        const NAMES: [&str; 3] = ["tls-certificate", "tls-key", "tls-client-ca"];
        match NAMES.map(|name| self.optional(name).map(PathBuf::from)) {
            [None, None, None] => Ok(None),
            [Some(certificate), Some(key), Some(client_ca)] => {
                Ok(Some(IdentityFiles { certificate, key, client_ca }))
            }
            [certificate, key, _] => {
                let missing = if certificate.is_none() {
                    NAMES[0]
                } else if key.is_none() {
                    NAMES[1]
                } else {
                    NAMES[2]
                };
                Err(self.error(missing, "the path of a file, because another tls- setting is set"))
            }
        }
    }

    fn principals(&self, name: &'static str) -> Result<Vec<Principal>, ConfigError> {
        let names = self.0.value(name).split(',').map(str::trim).filter(|name| !name.is_empty());
        let parsed: Result<Vec<Principal>, _> = names.map(Principal::from_str).collect();
        parsed.map_err(|_| self.error(name, "a list of User:NAME, with commas between"))
    }

    fn net(&self) -> Result<Limits, ConfigError> {
        let defaults = Limits::default();
        let frame_bytes = self.number("frame-bytes", 64 << 10)?;
        let limits = Limits {
            frame_bytes,
            control_frame_bytes: defaults.control_frame_bytes.min(frame_bytes),
            connections: self.number("connections", 1)?,
            connections_per_address: self.number("connections-per-address", 1)?,
            produce_bytes: self.number("produce-memory-bytes", 1 << 20)?,
            fetch_bytes: self.number("fetch-memory-bytes", 1 << 20)?,
            ..defaults
        };
        limits.check().map_err(|error| self.error("frame-bytes", error.to_string()))?;
        Ok(limits)
    }

    /// As an absolute path, so that what a client is told is where it is. Not where the broker keeps its own files.
    fn backup_dir(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(dir) = self.optional("backup-dir") else { return Ok(None) };
        let expected = "a directory that is neither the data directory nor one of its own below it";
        let absolute = |path: &str| std::path::absolute(path).map_err(|_| self.error("backup-dir", expected));
        let (dir, data_dir) = (absolute(dir)?, absolute(self.0.value("data-dir"))?);
        let own = ["", "log", "snapshots", "rows", "tls"].map(|part| data_dir.join(part));
        let is_own = own.iter().any(|own| dir == *own || (own != &data_dir && dir.starts_with(own)));
        if is_own { Err(self.error("backup-dir", expected)) } else { Ok(Some(dir)) }
    }

    fn shard(&self) -> Result<ShardLimits, ConfigError> {
        let defaults = ShardLimits::default();
        let mut store = defaults.store;
        store.cache_bytes = self.number("store-cache-bytes", 1 << 20)?;
        let mut space = defaults.space.clone();
        space.snapshot_log_bytes = self.number("snapshot-bytes", 1 << 20)?;
        space.compaction.check = Duration::from_millis(self.number("compaction-check-ms", 1)?);
        space.compaction.map_bytes = self.number("compaction-memory-bytes", 4096)?;
        space.compaction.share_percent = self.number("compaction-share", 1)?;
        space.reserve_bytes = self.number("reserve-bytes", 0)?;
        let shard = ShardLimits {
            recent_bytes: self.number("recent-bytes", 1 << 20)?,
            resident_rows: self.number("resident-rows", 1000)?,
            segment_bytes: self.number("segment-bytes", 4 << 20)?,
            checkpoint_bytes: self.number("checkpoint-bytes", 1 << 20)?,
            transactional_id_expiration: self.seconds("transactional-id-expiration")?,
            producer_id_expiration: self.seconds("producer-id-expiration")?,
            retention_check: Duration::from_millis(self.number("retention-check-ms", 1)?),
            offsets_retention: Duration::from_secs(60 * self.number("offsets-retention", 1)?),
            trace: self.optional("trace").map(PathBuf::from),
            store,
            space,
            backup_dir: self.backup_dir()?,
            ..defaults
        };
        // One request is decided whole, and a decision fits into one block, which is a quarter of a segment at most.
        let frame: usize = self.number("frame-bytes", 0)?;
        let block = block_bytes(&shard);
        if frame > usize::try_from(block / 2).unwrap_or(usize::MAX) {
            return Err(
                self.error("frame-bytes", format!("at most {}, half of a block of the log", block / 2))
            );
        }
        Ok(shard)
    }
}

/// The most that one decision may write.
fn block_bytes(shard: &ShardLimits) -> u32 {
    shard.block_bytes.min(shard.segment_bytes / 4)
}

impl Config {
    /// What `settings` mean.
    pub fn of(settings: &Settings) -> Result<Config, ConfigError> {
        let reader = Reader(settings);
        let shard = reader.shard()?;
        let listen = reader.listen()?;
        let advertised = reader.advertised()?;
        let here = Endpoint { host: listen.ip().to_string(), port: listen.port() };
        let data_dir = PathBuf::from(settings.value("data-dir"));
        Ok(Config {
            data_dir: std::path::absolute(&data_dir).map_err(|_| reader.error("data-dir", "a path"))?,
            listen,
            identity: reader.identity()?,
            client_certificates: reader.choice(
                "client-certificates",
                &[("required", ClientCertificates::Required), ("optional", ClientCertificates::Optional)],
            )?,
            principal_rule: reader.choice(
                "principal-from",
                &[
                    ("common-name", PrincipalRule::CommonName),
                    ("subject", PrincipalRule::Subject),
                    ("dns-name", PrincipalRule::DnsName),
                    ("email", PrincipalRule::Email),
                    ("uri", PrincipalRule::Uri),
                ],
            )?,
            admins: reader.principals("admins")?,
            metrics_readers: reader.principals("metrics-readers")?,
            net: reader.net()?,
            broker: BrokerConfig {
                decision_bytes_max: usize::try_from(block_bytes(&shard)).unwrap_or(usize::MAX),
                auto_create_topics: reader
                    .choice("auto-create-topics", &[("true", true), ("false", false)])?,
                partitions_default: reader.number("default-partitions", 1)?,
                transaction_timeout_max: reader.seconds("transaction-timeout-max")?,
                two_phase_commit: reader.choice("two-phase-commit", &[("true", true), ("false", false)])?,
                transactions_min: reader
                    .choice("transactions-min-version", &[("1", Protocol::V1), ("2", Protocol::V2)])?,
                group_session_timeout: reader.millis("group-session-timeout-min")?
                    ..=reader.millis("group-session-timeout-max")?,
                consumer_session_timeout: reader.millis("consumer-session-timeout")?,
                consumer_heartbeat_interval: reader.millis("consumer-heartbeat-interval")?,
                group_initial_rebalance_delay: reader.millis("group-initial-rebalance-delay")?,
                ..BrokerConfig::new(advertised.clone().unwrap_or(here))
            },
            shard,
            advertised,
            log: settings.value("log").to_owned(),
            log_json: reader.choice("log-format", &[("text", false), ("json", true)])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::add_arguments;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let command = add_arguments(clap::Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).unwrap();
        Config::of(&Settings::collect(&matches, |_| None).unwrap())
    }

    #[test]
    fn the_defaults_are_possible() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:9092".parse().unwrap());
        assert_eq!(config.admins, vec![Principal::named("semel-client")]);
        assert!(config.identity.is_none());
    }

    #[test]
    fn small_segments_are_possible_with_small_requests() {
        let config = config(&["--segment-bytes", "4194304", "--frame-bytes", "524288"]).unwrap();
        assert_eq!((config.shard.segment_bytes, config.net.frame_bytes), (4 << 20, 512 << 10));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_source_and_what_it_must_be() {
        for (arguments, expected) in [
            (["--listen", "nowhere"], "HOST:PORT"),
            (["--frame-bytes", "1"], "at least"),
            (["--frame-bytes", "67108864"], "half of a block"),
            (["--client-certificates", "maybe"], "required, optional"),
            (["--tls-key", "a.pem"], "tls-certificate"),
            (["--admins", "bob"], "User:NAME"),
            (["--backup-dir", "semel-data"], "neither the data directory"),
            (["--backup-dir", "semel-data/log/x"], "neither the data directory"),
        ] {
            let error = config(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}
