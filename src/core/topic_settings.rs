//! What a topic's settings mean to the state machine. They are kept as checked text, by Kafka's names; what is not set has
//! the default given here, which is Kafka's.

use super::rows::{TopicConfig, TopicRow};
use crate::types::Timestamp;
use std::time::Duration;

/// `retention.ms`: how long records are kept; −1 is for ever.
pub const RETENTION_MS: &str = "retention.ms";
/// Seven days.
pub const RETENTION_MS_DEFAULT: i64 = 7 * 24 * 60 * 60 * 1000;
/// `retention.bytes`: how many bytes of a partition are kept at least; −1 is all.
pub const RETENTION_BYTES: &str = "retention.bytes";
/// Without a limit.
pub const RETENTION_BYTES_DEFAULT: i64 = -1;
/// `message.timestamp.type`: whose clock stamps records.
pub const TIMESTAMP_TYPE: &str = "message.timestamp.type";
/// The producer's clock.
pub const CREATE_TIME: &str = "CreateTime";
/// The broker's clock.
pub const LOG_APPEND_TIME: &str = "LogAppendTime";
/// `message.timestamp.before.max.ms`: how far behind the broker's clock a record's timestamp may be.
pub const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
/// Without a limit.
pub const TIMESTAMP_BEFORE_MAX_MS_DEFAULT: i64 = i64::MAX;
/// `message.timestamp.after.max.ms`: how far ahead of the broker's clock a record's timestamp may be.
pub const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
/// One hour.
pub const TIMESTAMP_AFTER_MAX_MS_DEFAULT: i64 = 60 * 60 * 1000;

/// `semel.idempotency.key.header`: the header whose value is a record's idempotency key; the empty name is none.
pub const KEY_HEADER: &str = "semel.idempotency.key.header";
/// `semel.idempotency.window.ms`: for how long a key is accepted only once, in served time.
pub const KEY_WINDOW_MS: &str = "semel.idempotency.window.ms";
/// Seven days.
pub const KEY_WINDOW_MS_DEFAULT: i64 = 7 * 24 * 60 * 60 * 1000;
/// A year and a day: each key takes a few hundred bytes of disk for as long.
pub const KEY_WINDOW_MS_MAX: i64 = 366 * 24 * 60 * 60 * 1000;

/// A number among the settings. It was checked when it was set; what cannot be read counts as not set.
fn number(config: &TopicConfig, name: &str, default: i64) -> i64 {
    config.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

impl TopicRow {
    /// How long records are kept; none for ever.
    #[must_use]
    pub fn retention_time(&self) -> Option<Duration> {
        let millis = number(&self.config, RETENTION_MS, RETENTION_MS_DEFAULT);
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// How many bytes of each partition are kept at least; none for all.
    #[must_use]
    pub fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(number(&self.config, RETENTION_BYTES, RETENTION_BYTES_DEFAULT)).ok()
    }

    /// Whether records with this newest timestamp are past their retention. Records without a time never are by themselves.
    #[must_use]
    pub fn is_past_retention(&self, newest: Timestamp, now: Timestamp) -> bool {
        let age = u128::try_from(now.0.saturating_sub(newest.0)).unwrap_or(0);
        newest != Timestamp::NONE && self.retention_time().is_some_and(|kept| age > kept.as_millis())
    }

    /// The header that bears the idempotency keys of the topic's records, if it asks for them.
    #[must_use]
    pub fn key_header(&self) -> Option<&str> {
        self.config.get(KEY_HEADER).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// For how long an idempotency key is accepted only once.
    #[must_use]
    pub fn idempotency_window(&self) -> Duration {
        let millis = number(&self.config, KEY_WINDOW_MS, KEY_WINDOW_MS_DEFAULT);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Whether records get the time of their append instead of their own.
    #[must_use]
    pub fn stamps_append_time(&self) -> bool {
        self.config.get(TIMESTAMP_TYPE).is_some_and(|value| value == LOG_APPEND_TIME)
    }

    /// Whether records may be stamped by their producer from `oldest` to `newest` when it is `now`. Records without a time
    /// always may.
    #[must_use]
    pub fn allows_timestamps(&self, oldest: Timestamp, newest: Timestamp, now: Timestamp) -> bool {
        let before = number(&self.config, TIMESTAMP_BEFORE_MAX_MS, TIMESTAMP_BEFORE_MAX_MS_DEFAULT);
        let after = number(&self.config, TIMESTAMP_AFTER_MAX_MS, TIMESTAMP_AFTER_MAX_MS_DEFAULT);
        let too_old = oldest != Timestamp::NONE && now.0.saturating_sub(oldest.0) > before;
        let too_new = newest != Timestamp::NONE && newest.0.saturating_sub(now.0) > after;
        !(too_old || too_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicName;

    fn topic(settings: &[(&str, &str)]) -> TopicRow {
        let config = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TopicRow { name: TopicName::new("t").unwrap(), partitions: 1, config }
    }

    #[test]
    fn what_is_not_set_is_as_in_kafka() {
        let topic = topic(&[]);
        assert_eq!(topic.retention_time(), Some(Duration::from_secs(604_800)));
        assert_eq!(topic.retention_bytes(), None);
        assert!(!topic.stamps_append_time());
    }

    #[test]
    fn minus_one_keeps_for_ever_and_zero_keeps_nothing() {
        assert_eq!(topic(&[(RETENTION_MS, "-1")]).retention_time(), None);
        assert_eq!(topic(&[(RETENTION_MS, "0")]).retention_time(), Some(Duration::ZERO));
        assert_eq!(topic(&[(RETENTION_BYTES, "0")]).retention_bytes(), Some(0));
    }

    #[test]
    fn timestamps_are_held_against_both_limits() {
        let now = Timestamp(10_000_000);
        let strict = topic(&[(TIMESTAMP_BEFORE_MAX_MS, "1000"), (TIMESTAMP_AFTER_MAX_MS, "500")]);
        let allows = |oldest, newest| strict.allows_timestamps(Timestamp(oldest), Timestamp(newest), now);
        assert!(allows(9_999_000, 10_000_500));
        assert!(!allows(9_998_999, 10_000_000));
        assert!(!allows(10_000_000, 10_000_501));
        assert!(allows(-1, -1), "records without a time");
        let default = topic(&[]);
        assert!(default.allows_timestamps(Timestamp(0), now, now));
        assert!(!default.allows_timestamps(now, Timestamp(now.0 + 3_600_001), now));
    }
}
