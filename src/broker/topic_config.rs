//! The settings of a topic: which there are, what each may be, and what it is where nothing was said. A setting is taken if
//! what Kafka promises by it holds here, whatever its value (`spec/differences.md`, X6); any other is refused, never ignored.

use super::limits::MESSAGE_BYTES_MAX;
use crate::core::limits::KEYS_PER_BATCH_MAX;
use crate::core::{LSO_BUDGET, TopicConfig, topic_settings as settings};
use crate::wire::batch::BatchLimits;

/// The type of a setting's value, by Kafka's numbers (`ConfigEntry.ConfigType` as DescribeConfigs has it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum ValueType {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

impl ValueType {
    /// The number on the wire.
    pub(super) fn number(self) -> i8 {
        match self {
            ValueType::Boolean => 1,
            ValueType::Text => 2,
            ValueType::Int => 3,
            ValueType::Long => 5,
            ValueType::Double => 6,
            ValueType::List => 7,
        }
    }
}

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its name, which is Kafka's.
    pub(super) name: &'static str,
    /// Its value where nothing was said.
    pub(super) default: &'static str,
    /// The type of its value.
    pub(super) value_type: ValueType,
    /// The broker setting that Kafka has for the same thing.
    pub(super) broker_name: &'static str,
    /// What it does.
    pub(super) documentation: &'static str,
    allowed: Allowed,
}

/// The values that a setting may have.
#[derive(Debug)]
enum Allowed {
    OneOf(&'static [&'static str]),
    /// One or more of these, each once, separated by commas.
    SomeOf(&'static [&'static str]),
    /// A number between these, both included.
    Number(i64, i64),
    /// A share: from 0 to 1.
    Share,
    /// A text of at most so many bytes.
    Text(usize),
}

/// Every setting that is supported, in the order of their names.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: settings::CLEANUP_POLICY,
        default: settings::DELETE,
        value_type: ValueType::List,
        broker_name: "log.cleanup.policy",
        documentation: "What happens to old records: \"delete\": they go past their retention; \"compact\": the newest one of each key stays, and records need a key; or both.",
        allowed: Allowed::SomeOf(&[settings::COMPACT, settings::DELETE]),
    },
    Setting {
        name: "compression.type",
        default: "producer",
        value_type: ValueType::Text,
        broker_name: "compression.type",
        documentation: "How records are stored. Only \"producer\": as they were sent.",
        allowed: Allowed::OneOf(&["producer"]),
    },
    Setting {
        name: settings::DELETE_RETENTION_MS,
        default: "86400000",
        value_type: ValueType::Long,
        broker_name: "log.cleaner.delete.retention.ms",
        documentation: "How long a tombstone stays in a compacted topic once the older records of its key are gone, in milliseconds while the broker runs: a reader that began before must come to it in that time.",
        allowed: Allowed::Number(0, i64::MAX),
    },
    Setting {
        name: "flush.messages",
        default: "9223372036854775807",
        value_type: ValueType::Long,
        broker_name: "log.flush.interval.messages",
        documentation: "After how many records they are synced at the latest. Each is synced before it is acknowledged, whatever this says.",
        allowed: Allowed::Number(1, i64::MAX),
    },
    Setting {
        name: "flush.ms",
        default: "9223372036854775807",
        value_type: ValueType::Long,
        broker_name: "log.flush.interval.ms",
        documentation: "After how many milliseconds records are synced at the latest. Each is synced before it is acknowledged, whatever this says.",
        allowed: Allowed::Number(0, i64::MAX),
    },
    Setting {
        name: "index.interval.bytes",
        default: "4096",
        value_type: ValueType::Int,
        broker_name: "log.index.interval.bytes",
        documentation: "How far apart the batches are that Kafka's index of a segment has. The index here has every batch, whatever this says.",
        allowed: Allowed::Number(0, i32::MAX as i64),
    },
    Setting {
        name: settings::MAX_COMPACTION_LAG_MS,
        default: "9223372036854775807",
        value_type: ValueType::Long,
        broker_name: "log.cleaner.max.compaction.lag.ms",
        documentation: "How long a record of a compacted topic may wait for compaction, in milliseconds by its timestamp, however little there is to do.",
        allowed: Allowed::Number(1, i64::MAX),
    },
    Setting {
        name: MAX_MESSAGE_BYTES,
        default: "1048588",
        value_type: ValueType::Int,
        broker_name: "message.max.bytes",
        documentation: "The largest record batch, in bytes as it is sent.",
        allowed: Allowed::Number(0, MESSAGE_BYTES_MAX as i64),
    },
    Setting {
        name: settings::TIMESTAMP_AFTER_MAX_MS,
        default: "3600000",
        value_type: ValueType::Long,
        broker_name: "log.message.timestamp.after.max.ms",
        documentation: "How far ahead of the broker's clock a producer's timestamp may be, in milliseconds.",
        allowed: Allowed::Number(0, i64::MAX),
    },
    Setting {
        name: settings::TIMESTAMP_BEFORE_MAX_MS,
        default: "9223372036854775807",
        value_type: ValueType::Long,
        broker_name: "log.message.timestamp.before.max.ms",
        documentation: "How far behind the broker's clock a producer's timestamp may be, in milliseconds.",
        allowed: Allowed::Number(0, i64::MAX),
    },
    Setting {
        name: settings::TIMESTAMP_TYPE,
        default: settings::CREATE_TIME,
        value_type: ValueType::Text,
        broker_name: "log.message.timestamp.type",
        documentation: "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).",
        allowed: Allowed::OneOf(&[settings::CREATE_TIME, settings::LOG_APPEND_TIME]),
    },
    Setting {
        name: settings::MIN_DIRTY_RATIO,
        default: "0.5",
        value_type: ValueType::Double,
        broker_name: "log.cleaner.min.cleanable.ratio",
        documentation: "The share of a partition's bytes, from 0 to 1, that compaction has not seen yet, above which it is compacted.",
        allowed: Allowed::Share,
    },
    Setting {
        name: settings::MIN_COMPACTION_LAG_MS,
        default: "0",
        value_type: ValueType::Long,
        broker_name: "log.cleaner.min.compaction.lag.ms",
        documentation: "How old a record of a compacted topic is at least before compaction touches it, in milliseconds by its timestamp.",
        allowed: Allowed::Number(0, i64::MAX),
    },
    Setting {
        name: "min.insync.replicas",
        default: "1",
        value_type: ValueType::Int,
        broker_name: "min.insync.replicas",
        documentation: "How many replicas must have a record before it is acknowledged. Only 1: there is one node.",
        allowed: Allowed::OneOf(&["1"]),
    },
    Setting {
        name: settings::RETENTION_BYTES,
        default: "-1",
        value_type: ValueType::Long,
        broker_name: "log.retention.bytes",
        documentation: "How many bytes of each partition are kept at least; older records go. -1 keeps all.",
        allowed: Allowed::Number(-1, i64::MAX),
    },
    Setting {
        name: settings::RETENTION_MS,
        default: "604800000",
        value_type: ValueType::Long,
        broker_name: "log.retention.ms",
        documentation: "How long records are kept, in milliseconds by their timestamps. -1 keeps them for ever.",
        allowed: Allowed::Number(-1, i64::MAX),
    },
    Setting {
        name: "segment.bytes",
        default: "1073741824",
        value_type: ValueType::Int,
        broker_name: "log.segment.bytes",
        documentation: "How long a segment of Kafka's log of one partition is: so much retention and compaction may leave there. Here they wait for no segment, whatever this says; topics share segments, whose length is the broker's segment-bytes.",
        allowed: Allowed::Number(SEGMENT_BYTES_MIN, i32::MAX as i64),
    },
    Setting {
        name: "segment.index.bytes",
        default: "10485760",
        value_type: ValueType::Int,
        broker_name: "log.index.size.max.bytes",
        documentation: "How large Kafka's index of a segment may grow. The index here is rows, which are never full, whatever this says.",
        allowed: Allowed::Number(4, i32::MAX as i64),
    },
    Setting {
        name: "segment.jitter.ms",
        default: "0",
        value_type: ValueType::Long,
        broker_name: "log.roll.jitter.ms",
        documentation: "By how much segment.ms may be less, by chance. As segment.ms, it delays nothing here.",
        allowed: Allowed::Number(0, i64::MAX),
    },
    Setting {
        name: "segment.ms",
        default: "604800000",
        value_type: ValueType::Long,
        broker_name: "log.roll.ms",
        documentation: "After how many milliseconds Kafka begins a new segment at the latest, so that retention and compaction come to the old one. Here they wait for no segment, whatever this says.",
        allowed: Allowed::Number(1, i64::MAX),
    },
    Setting {
        name: settings::KEY_HEADER,
        default: "",
        value_type: ValueType::Text,
        broker_name: settings::KEY_HEADER,
        documentation: "The header whose value is a record's idempotency key, usually semel-idempotency-key: the topic accepts each key once within a window. Empty: no keys.",
        allowed: Allowed::Text(KEY_HEADER_BYTES_MAX),
    },
    Setting {
        name: settings::KEY_WINDOW_MS,
        default: "604800000",
        value_type: ValueType::Long,
        broker_name: settings::KEY_WINDOW_MS,
        documentation: "How long an idempotency key is accepted only once, in milliseconds of the broker's running time. It counts for keys that are accepted from now on.",
        allowed: Allowed::Number(1, settings::KEY_WINDOW_MS_MAX),
    },
    Setting {
        name: LSO_BUDGET,
        default: "-1",
        value_type: ValueType::Long,
        broker_name: LSO_BUDGET,
        documentation: "How long a transaction may hold back readers of committed records, in milliseconds; past it, it is aborted. -1: as long as its own timeout allows.",
        allowed: Allowed::Number(-1, i64::MAX),
    },
    Setting {
        name: "unclean.leader.election.enable",
        default: "false",
        value_type: ValueType::Boolean,
        broker_name: "unclean.leader.election.enable",
        documentation: "Whether a replica may lead that lacks acknowledged records. Only false: there is one node.",
        allowed: Allowed::OneOf(&["false"]),
    },
];

/// The longest name of a header for idempotency keys: it is compared with each header of each record.
const KEY_HEADER_BYTES_MAX: usize = 255;

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Kafka takes no less (KIP-1030).
const SEGMENT_BYTES_MIN: i64 = 1 << 20;

/// Why a topic cannot be configured so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSetting {
    #[error("{0} is not supported; supported are {names}", names = names())]
    Unknown(String),
    #[error("{0} needs a value")]
    Null(&'static str),
    #[error("{0} has one value, not a list: it can be set and deleted")]
    NoList(&'static str),
    #[error("{name} cannot be {value:?}: {allowed}")]
    Value { name: &'static str, value: String, allowed: String },
    #[error("min.compaction.lag.ms is {min} and must not be above max.compaction.lag.ms, which is {max}")]
    Lags { min: i64, max: i64 },
}

fn names() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

/// Checks settings by name and value. The last one of a name counts.
pub(super) fn check<'a>(
    settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<TopicConfig, InvalidSetting> {
    let mut config = TopicConfig::new();
    for (name, value) in settings {
        let setting = find(name)?;
        let value = value.ok_or(InvalidSetting::Null(setting.name))?.trim();
        config.insert(name.to_owned(), setting.check(value)?);
    }
    check_together(&config)?;
    Ok(config)
}

/// What single settings cannot tell: whether they go together.
pub(super) fn check_together(config: &TopicConfig) -> Result<(), InvalidSetting> {
    // Each value was checked when it was set.
    let number =
        |name: &str, default| config.get(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let min: i64 = number(settings::MIN_COMPACTION_LAG_MS, settings::MIN_COMPACTION_LAG_MS_DEFAULT);
    let max: i64 = number(settings::MAX_COMPACTION_LAG_MS, settings::MAX_COMPACTION_LAG_MS_DEFAULT);
    if min > max { Err(InvalidSetting::Lags { min, max }) } else { Ok(()) }
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Result<&'static Setting, InvalidSetting> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .ok_or_else(|| InvalidSetting::Unknown(name.chars().take(NAME_SHOWN_MAX).collect()))
}

/// How much of an unknown name an error repeats.
const NAME_SHOWN_MAX: usize = 100;

impl Setting {
    /// The value as it is kept, if it is one that the setting may have.
    pub(super) fn check(&self, value: &str) -> Result<String, InvalidSetting> {
        let allowed = match self.allowed {
            Allowed::OneOf(values) if values.contains(&value) => return Ok(value.to_owned()),
            Allowed::OneOf([only]) => format!("it can only be {only}"),
            Allowed::OneOf(values) => format!("it can be {}", values.join(" or ")),
            Allowed::SomeOf(values) => {
                let items: Vec<&str> = value.split(',').map(str::trim).collect();
                let once = |item: &&str| items.iter().filter(|other| other == &item).count() == 1;
                if items.iter().all(|item| values.contains(item) && once(item)) {
                    return Ok(items.join(","));
                }
                format!("it can be {}, or several of these separated by commas", values.join(" or "))
            }
            Allowed::Share => match value.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => return Ok(share.to_string()),
                _ => "it is a number from 0 to 1".to_owned(),
            },
            Allowed::Text(bytes_max) if value.len() <= bytes_max => return Ok(value.to_owned()),
            Allowed::Text(bytes_max) => format!("it has at most {bytes_max} bytes"),
            Allowed::Number(min, max) => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => return Ok(number.to_string()),
                _ => format!("it is a number from {min} to {max}"),
            },
        };
        let value = value.chars().take(NAME_SHOWN_MAX).collect();
        Err(InvalidSetting::Value { name: self.name, value, allowed })
    }

    /// The setting's value in a topic, and whether the topic says it itself.
    pub(super) fn of<'a>(&self, config: &'a TopicConfig) -> (&'a str, bool) {
        match config.get(self.name) {
            Some(value) => (value, true),
            None => (self.default, false),
        }
    }
}

/// What a batch of the topic may cost.
pub(super) fn batch_limits(config: &TopicConfig) -> BatchLimits {
    let limits = BatchLimits::default();
    // The value was checked when it was set.
    let set = config.get(MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok());
    BatchLimits {
        batch_bytes_max: set.unwrap_or(limits.batch_bytes_max).min(MESSAGE_BYTES_MAX),
        keys_max: KEYS_PER_BATCH_MAX,
        ..limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Target;

    fn one(name: &str, value: &str) -> Result<TopicConfig, InvalidSetting> {
        check([(name, Some(value))])
    }

    #[test]
    fn fuzz_topic_settings() {
        let lines = SETTINGS.iter().map(|setting| format!("{}={}", setting.name, setting.default));
        let mut valid: Vec<Vec<u8>> = lines.map(String::into_bytes).collect();
        valid.push(valid.join(&b'\n'));
        let read = |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
            let settings =
                text.lines().map(|line| line.split_once('=').map_or((line, None), |(n, v)| (n, Some(v))));
            match check(settings) {
                Ok(config) => {
                    let limits = batch_limits(&config);
                    format!("possible: {}", limits.batch_bytes_max > 0)
                }
                Err(error) => error.to_string(),
            }
        };
        Target { name: "topic-settings", valid, mend: &|_| {}, read: &read }.fuzz();
    }

    #[test]
    fn every_default_is_allowed() {
        for setting in SETTINGS {
            assert_eq!(setting.check(setting.default).unwrap(), setting.default);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    }

    #[test]
    fn the_defaults_are_those_that_the_state_machine_goes_by() {
        for (name, default) in [
            (settings::RETENTION_MS, settings::RETENTION_MS_DEFAULT),
            (settings::RETENTION_BYTES, settings::RETENTION_BYTES_DEFAULT),
            (settings::KEY_WINDOW_MS, settings::KEY_WINDOW_MS_DEFAULT),
            (settings::TIMESTAMP_BEFORE_MAX_MS, settings::TIMESTAMP_BEFORE_MAX_MS_DEFAULT),
            (settings::TIMESTAMP_AFTER_MAX_MS, settings::TIMESTAMP_AFTER_MAX_MS_DEFAULT),
            (settings::DELETE_RETENTION_MS, settings::DELETE_RETENTION_MS_DEFAULT),
            (settings::MIN_COMPACTION_LAG_MS, settings::MIN_COMPACTION_LAG_MS_DEFAULT),
            (settings::MAX_COMPACTION_LAG_MS, settings::MAX_COMPACTION_LAG_MS_DEFAULT),
        ] {
            assert_eq!(find(name).unwrap().default, default.to_string());
        }
    }

    #[test]
    fn the_default_batch_size_is_the_one_that_is_checked() {
        let default = SETTINGS.iter().find(|s| s.name == MAX_MESSAGE_BYTES).unwrap().default;
        assert_eq!(batch_limits(&TopicConfig::new()).batch_bytes_max.to_string(), default);
        assert_eq!(batch_limits(&one(MAX_MESSAGE_BYTES, "99").unwrap()).batch_bytes_max, 99);
    }

    #[test]
    fn policies_may_be_several_and_lags_must_fit() {
        let policy = |value| one("cleanup.policy", value).map(|mut config| config.remove("cleanup.policy"));
        assert_eq!(policy("compact"), Ok(Some("compact".to_owned())));
        assert_eq!(policy("compact, delete"), Ok(Some("compact,delete".to_owned())));
        for wrong in ["", "compact,", "delete,delete", "compress"] {
            let message = policy(wrong).unwrap_err().to_string();
            assert!(message.contains("compact or delete"), "{message}");
        }
        let lags =
            |min, max| check([("min.compaction.lag.ms", Some(min)), ("max.compaction.lag.ms", Some(max))]);
        assert!(lags("5", "5").is_ok());
        assert_eq!(lags("6", "5"), Err(InvalidSetting::Lags { min: 6, max: 5 }));
        assert!(one("min.cleanable.dirty.ratio", "0.01").is_ok());
        assert!(
            one("min.cleanable.dirty.ratio", "1.01").is_err()
                && one("min.cleanable.dirty.ratio", "NaN").is_err()
        );
    }

    #[test]
    fn what_holds_whatever_it_says_is_kept_as_it_was_said() {
        for (name, value, wrong) in [
            ("flush.messages", "1", "0"),
            ("flush.ms", "0", "-1"),
            ("index.interval.bytes", "0", "-1"),
            ("segment.bytes", "1048576", "1048575"),
            ("segment.index.bytes", "4", "2147483648"),
            ("segment.jitter.ms", "0", "-1"),
            ("segment.ms", "1", "0"),
        ] {
            assert_eq!(one(name, value).unwrap()[name], value);
            assert!(one(name, wrong).is_err(), "{name} cannot be {wrong} in Kafka either");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_with_what_is() {
        let message = one("compression.type", "zstd").unwrap_err().to_string();
        assert!(message.contains("can only be producer"), "{message}");
        let message = one("preallocate", "true").unwrap_err().to_string();
        assert!(message.contains("preallocate") && message.contains("retention.ms"), "{message}");
        assert!(
            one("min.insync.replicas", "2").is_err()
                && one("unclean.leader.election.enable", "true").is_err()
        );
        assert!(one(LSO_BUDGET, "5000").is_ok() && one(LSO_BUDGET, "-2").is_err());
        assert!(one("retention.ms", "-2").is_err());
        assert_eq!(one("retention.ms", "+07").unwrap()["retention.ms"], "7", "kept in one form");
        assert!(one(MAX_MESSAGE_BYTES, "-1").is_err());
        assert!(one(MAX_MESSAGE_BYTES, "99999999999999999999").is_err());
        assert_eq!(check([("retention.ms", None)]), Err(InvalidSetting::Null("retention.ms")));
    }
}
