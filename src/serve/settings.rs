//! Settings: one table; each can be set in `semel.toml`, in the environment and by a flag, the later winning.

use clap::{Arg, ArgMatches, Command};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `listen`: the key in `semel.toml`, `--listen`, and `SEMEL_LISTEN`. Words are joined by `-`.
    pub name: &'static str,
    /// What a value looks like, for the help.
    pub value: &'static str,
    /// What holds where nobody says anything.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable: `SEMEL_DATA_DIR` for `data-dir`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("SEMEL_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

const fn setting(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, value, default, help }
}

/// All settings. What each means to the code, `config.rs` says.
pub const SETTINGS: &[Setting] = &[
    setting(
        "data-dir",
        "DIR",
        "semel-data",
        "Where everything is kept; made with safe permissions if it is not there",
    ),
    setting(
        "listen",
        "HOST:PORT",
        "127.0.0.1:9092",
        "Where to listen, for TCP and UDP alike; port 0 lets the system choose",
    ),
    setting(
        "advertised",
        "HOST:PORT",
        "",
        "Where clients are told to connect, if that is not the listen address",
    ),
    setting(
        "tls-certificate",
        "FILE",
        "",
        "The server's certificate chain (PEM); without it a development one is made",
    ),
    setting("tls-key", "FILE", "", "The server's private key (PEM, PKCS#8)"),
    setting("tls-client-ca", "FILE", "", "The authorities whose client certificates are accepted (PEM)"),
    setting(
        "client-certificates",
        "required|optional",
        "required",
        "Whether a client must show a certificate",
    ),
    setting(
        "principal-from",
        "common-name|subject|dns-name|email|uri",
        "common-name",
        "What in a client certificate names its holder",
    ),
    setting(
        "admins",
        "User:NAME,...",
        "User:semel-client",
        "Who may administer: create, grow, configure and delete topics, delete records, abort transactions",
    ),
    setting(
        "metrics-readers",
        "User:NAME,...",
        "",
        "Who may see metrics, which name topics, groups and transactional ids; admins may in any case",
    ),
    setting(
        "auto-create-topics",
        "true|false",
        "false",
        "Whether a topic is made when any client first asks for it; otherwise admins alone create topics",
    ),
    setting("default-partitions", "NUMBER", "1", "Partitions of a topic whose creator does not say how many"),
    setting(
        "transaction-timeout-max",
        "SECONDS",
        "900",
        "The longest transaction timeout a producer may ask for",
    ),
    setting(
        "group-session-timeout-min",
        "MILLISECONDS",
        "1000",
        "The shortest session timeout that a member of a group may ask for",
    ),
    setting(
        "group-session-timeout-max",
        "MILLISECONDS",
        "1800000",
        "The longest session timeout that a member of a group may ask for",
    ),
    setting(
        "group-initial-rebalance-delay",
        "MILLISECONDS",
        "100",
        "How long an empty group waits for more members than the first",
    ),
    setting(
        "consumer-session-timeout",
        "MILLISECONDS",
        "45000",
        "How long a member of a group of the consumer protocol may be silent",
    ),
    setting(
        "consumer-heartbeat-interval",
        "MILLISECONDS",
        "5000",
        "How often a member of a group of the consumer protocol is to be heard of",
    ),
    setting(
        "offsets-retention",
        "MINUTES",
        "10080",
        "How long the offsets of a group that nobody uses are kept, while the broker runs",
    ),
    setting(
        "transactions-min-version",
        "1|2",
        "1",
        "The oldest transaction protocol served; 2 keeps out clients whose delayed requests cannot be recognised",
    ),
    setting(
        "two-phase-commit",
        "true|false",
        "false",
        "Whether transactions may be prepared, for an outside coordinator",
    ),
    setting(
        "transactional-id-expiration",
        "SECONDS",
        "604800",
        "Running time after which an unused transactional id is forgotten, with its outcomes",
    ),
    setting(
        "producer-id-expiration",
        "SECONDS",
        "604800",
        "Running time after which a partition forgets a producer that does not write: its batches are then not recognised",
    ),
    setting("frame-bytes", "BYTES", "16777216", "The largest request"),
    setting("connections", "NUMBER", "10000", "Connections in all"),
    setting("connections-per-address", "NUMBER", "10000", "Connections from one address"),
    setting(
        "produce-memory-bytes",
        "BYTES",
        "134217728",
        "Memory for produce requests that are being served",
    ),
    setting("fetch-memory-bytes", "BYTES", "134217728", "Memory for fetch answers that are being sent"),
    setting(
        "recent-bytes",
        "BYTES",
        "67108864",
        "Memory for the newest records, so that readers at the end touch no disk",
    ),
    setting(
        "resident-rows",
        "NUMBER",
        "100000",
        "Rows of producers, transactions and partitions kept in memory",
    ),
    setting("store-cache-bytes", "BYTES", "33554432", "Memory for the row store's cache"),
    setting("segment-bytes", "BYTES", "134217728", "The length of a log segment file"),
    setting(
        "checkpoint-bytes",
        "BYTES",
        "67108864",
        "Log after which the rows are made durable; bounds a restart's work",
    ),
    setting(
        "retention-check-ms",
        "MILLISECONDS",
        "300000",
        "How often records past their topic's retention are looked for",
    ),
    setting(
        "compaction-check-ms",
        "MILLISECONDS",
        "15000",
        "How often partitions of compacted topics are looked for that are worth being compacted",
    ),
    setting(
        "compaction-memory-bytes",
        "BYTES",
        "134217728",
        "Memory for the keys of the partition that is being compacted, 24 bytes each; more keys take more passes",
    ),
    setting(
        "compaction-share",
        "PERCENT",
        "50",
        "How much of its time compaction works; the rest of it it leaves the disk and the processors to others",
    ),
    setting(
        "snapshot-bytes",
        "BYTES",
        "268435456",
        "Log after which the rows are dumped; what is dead is freed up to the last dump",
    ),
    setting(
        "reserve-bytes",
        "BYTES",
        "536870912",
        "Free space of the disk below which producing and creating topics are refused",
    ),
    setting(
        "backup-dir",
        "DIR",
        "",
        "Where `semel backup` puts backups, best on the data's file system; without it none are taken",
    ),
    setting(
        "log",
        "FILTER",
        "info,fjall=warn,lsm_tree=warn",
        "What is logged, as error, warn, info, debug or per module",
    ),
    setting("log-format", "text|json", "text", "How it is logged"),
    setting(
        "trace",
        "FILE",
        "",
        "For work on semel itself: notes down each step, to be held against the formal specification; slow, and bounded in size",
    ),
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment(name) => write!(f, "${name}"),
            Source::Flag => f.write_str("flag"),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not TOML: {message}")]
    NotToml {
        /// Which.
        path: String,
        /// What is wrong, and where.
        message: String,
    },
    /// The file has a key that is no setting.
    #[error("the configuration file {path} sets {key:?}, which is no setting; `semel config` lists them")]
    Unknown {
        /// Which file.
        path: String,
        /// The key.
        key: String,
    },
    /// A value is neither text, number nor truth value.
    #[error(
        "the configuration file {path} gives {key:?} a value that is neither a text, a number nor true or false"
    )]
    Value {
        /// Which file.
        path: String,
        /// The key.
        key: String,
    },
}

/// Every setting's value, and where it comes from.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
}

/// The file that is read if it is there and no other is named.
const FILE_DEFAULT: &str = "semel.toml";

/// Adds a flag for every setting, and one for the file.
#[must_use]
pub fn add_arguments(mut command: Command) -> Command {
    let file = Arg::new("config").long("config").value_name("FILE").env("SEMEL_CONFIG");
    command = command.arg(file.help("The file to read settings from [default: semel.toml, if there is one]"));
    for setting in SETTINGS {
        let shown = if setting.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", setting.default)
        };
        let help = format!("{}{shown} [env: {}]", setting.help, setting.variable());
        command = command.arg(Arg::new(setting.name).long(setting.name).value_name(setting.value).help(help));
    }
    command
}

impl Settings {
    /// The settings as flags, environment (by `variable`) and file have them.
    pub fn collect(
        matches: &ArgMatches,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, SettingsError> {
        let default = |setting: &Setting| (setting.name, (setting.default.to_owned(), Source::Default));
        let mut settings = Settings { values: SETTINGS.iter().map(default).collect() };
        match matches.get_one::<String>("config") {
            Some(path) => settings.read(Path::new(path))?,
            None if Path::new(FILE_DEFAULT).exists() => settings.read(Path::new(FILE_DEFAULT))?,
            None => {}
        }
        for setting in SETTINGS {
            if let Some(value) = variable(&setting.variable()) {
                settings.values.insert(setting.name, (value, Source::Environment(setting.variable())));
            }
            if let Some(value) = matches.get_one::<String>(setting.name) {
                settings.values.insert(setting.name, (value.clone(), Source::Flag));
            }
        }
        Ok(settings)
    }

    fn read(&mut self, path: &Path) -> Result<(), SettingsError> {
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: shown(), source })?;
        self.take(path, &text)
    }

    /// Takes what a file says.
    fn take(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let shown = || path.display().to_string();
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| SettingsError::NotToml {
            path: shown(),
            message: error.to_string(),
        })?;
        for (key, value) in table {
            let name = key.replace('_', "-");
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                return Err(SettingsError::Unknown { path: shown(), key });
            };
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                _ => return Err(SettingsError::Value { path: shown(), key }),
            };
            self.values.insert(setting.name, (value, Source::File(path.to_owned())));
        }
        Ok(())
    }

    /// The value of a setting.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(value, _)| value)
    }

    /// Where the value of a setting comes from.
    #[must_use]
    pub fn source(&self, name: &str) -> &Source {
        self.values.get(name).map_or(&Source::Default, |(_, source)| source)
    }

    /// All settings with value and source, in the order of the table.
    pub fn all(&self) -> impl Iterator<Item = (&'static Setting, &str, &Source)> {
        SETTINGS.iter().map(|setting| (setting, self.value(setting.name), self.source(setting.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Target;
    use crate::serve::config::Config;

    fn collect(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let command = add_arguments(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).unwrap();
        Settings::collect(&matches, |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn fuzz_settings() {
        let lines = SETTINGS.iter().map(|setting| format!("{} = \"{}\"\n", setting.name, setting.default));
        let mut valid: Vec<Vec<u8>> = lines.map(String::into_bytes).collect();
        valid.push(valid.concat());
        let read = |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
            let mut settings = collect(&[], &[]).unwrap();
            match settings.take(Path::new("semel.toml"), text) {
                Err(error) => error.to_string(),
                Ok(()) => {
                    Config::of(&settings).map_or_else(|error| error.to_string(), |_| "possible".to_owned())
                }
            }
        };
        Target { name: "settings", valid, mend: &|_| {}, read: &read }.fuzz();
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "listen = \"file:1\"\nadmins = \"User:file\"\nconnections = 7\n").unwrap();
        let file = file.display().to_string();
        let environment = [("SEMEL_LISTEN", "environment:2"), ("SEMEL_ADMINS", "User:environment")];
        let settings = collect(&["--config", &file, "--listen", "flag:3"], &environment).unwrap();
        assert_eq!((settings.value("listen"), settings.source("listen")), ("flag:3", &Source::Flag));
        assert_eq!(settings.value("admins"), "User:environment");
        assert_eq!(settings.value("connections"), "7");
        assert_eq!(settings.source("segment-bytes"), &Source::Default);
    }

    #[test]
    fn a_key_that_is_no_setting_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "lisen = \"127.0.0.1:1\"\n").unwrap();
        let error = collect(&["--config", &file.display().to_string()], &[]).unwrap_err();
        assert!(error.to_string().contains("lisen"), "{error}");
    }
}
