//! What a topic's settings mean to the state machine. They are kept as checked text, by Kafka's names; what is not set has
//! the default given here, which is Kafka's.

use super::rows::{TopicConfig, TopicRow};
use crate::types::Timestamp;
use std::time::Duration;

/// `cleanup.policy`: what becomes of old records.
pub const CLEANUP_POLICY: &str = "cleanup.policy";
/// They go when they are past their retention. The default.
pub const DELETE: &str = "delete";
/// Those go that have a newer one of the same key.
pub const COMPACT: &str = "compact";
/// `delete.retention.ms`: how long a tombstone is kept once the older records of its key are gone.
pub const DELETE_RETENTION_MS: &str = "delete.retention.ms";
/// One day.
pub const DELETE_RETENTION_MS_DEFAULT: i64 = 24 * 60 * 60 * 1000;
/// `min.compaction.lag.ms`: how old a record is at least before compaction touches it.
pub const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
/// Without a limit.
pub const MIN_COMPACTION_LAG_MS_DEFAULT: i64 = 0;
/// `max.compaction.lag.ms`: how old the first record that was not looked at may become.
pub const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
/// Without a limit.
pub const MAX_COMPACTION_LAG_MS_DEFAULT: i64 = i64::MAX;
/// `min.cleanable.dirty.ratio`: the share of a partition's bytes that were not looked at from which it is compacted.
pub const MIN_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
/// Half.
pub const MIN_DIRTY_RATIO_DEFAULT: f64 = 0.5;
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
    fn policies(&self) -> impl Iterator<Item = &str> {
        self.config.get(CLEANUP_POLICY).map_or(DELETE, String::as_str).split(',').map(str::trim)
    }

    /// Whether records go that have a newer one of the same key.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.policies().any(|policy| policy == COMPACT)
    }

    /// Whether records go when they are past their retention.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.policies().any(|policy| policy == DELETE)
    }

    /// How long a tombstone, or a marker of a transaction without records, is kept once compaction has seen it.
    #[must_use]
    pub fn delete_retention(&self) -> Duration {
        let millis = number(&self.config, DELETE_RETENTION_MS, DELETE_RETENTION_MS_DEFAULT);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Records that are newer than this are not compacted; none where any may be.
    #[must_use]
    pub fn compacted_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.min_compaction_lag().map(|lag| Timestamp(now.0.saturating_sub(lag)))
    }

    /// How old records must be before they are compacted away, in milliseconds, if that is asked for.
    #[must_use]
    pub fn min_compaction_lag(&self) -> Option<i64> {
        let lag = number(&self.config, MIN_COMPACTION_LAG_MS, MIN_COMPACTION_LAG_MS_DEFAULT);
        (lag > 0).then_some(lag)
    }

    /// Whether a record of this time has waited for compaction as long as it may. One without a time waits for others.
    #[must_use]
    pub fn must_be_compacted(&self, first: Timestamp, now: Timestamp) -> bool {
        let lag = number(&self.config, MAX_COMPACTION_LAG_MS, MAX_COMPACTION_LAG_MS_DEFAULT);
        first != Timestamp::NONE && now.0.saturating_sub(first.0) > lag
    }

    /// Whether so many bytes of records that compaction has not seen, beside so many that it has, are worth its while.
    #[must_use]
    pub fn is_dirty(&self, dirty: u64, clean: u64) -> bool {
        let ratio = self.config.get(MIN_DIRTY_RATIO).and_then(|ratio| ratio.parse().ok());
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = dirty as f64 / dirty.saturating_add(clean).max(1) as f64;
        share > ratio.unwrap_or(MIN_DIRTY_RATIO_DEFAULT)
    }

    /// How long records are kept; none for ever.
    #[must_use]
    pub fn retention_time(&self) -> Option<Duration> {
        if !self.deletes() {
            return None;
        }
        let millis = number(&self.config, RETENTION_MS, RETENTION_MS_DEFAULT);
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// How many bytes of each partition are kept at least; none for all.
    #[must_use]
    pub fn retention_bytes(&self) -> Option<u64> {
        if !self.deletes() {
            return None;
        }
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
    fn only_a_topic_that_deletes_has_a_retention() {
        let policy = |policy: &str| topic(&[(CLEANUP_POLICY, policy), (RETENTION_BYTES, "5")]);
        let compacted = policy("compact");
        assert!(compacted.is_compacted() && !compacted.deletes());
        assert_eq!((compacted.retention_time(), compacted.retention_bytes()), (None, None));
        let both = policy("compact,delete");
        assert!(both.is_compacted() && both.deletes());
        assert_eq!((both.retention_time().is_some(), both.retention_bytes()), (true, Some(5)));
        assert!(topic(&[]).deletes() && !topic(&[]).is_compacted());
    }

    #[test]
    fn compaction_is_due_by_share_or_by_age() {
        let default = topic(&[]);
        assert!(default.is_dirty(51, 49) && !default.is_dirty(50, 50) && !default.is_dirty(0, 0));
        let eager = topic(&[(MIN_DIRTY_RATIO, "0")]);
        assert!(eager.is_dirty(1, 1_000_000) && !eager.is_dirty(0, 10), "something must be dirty");
        let now = Timestamp(10_000);
        assert!(!default.must_be_compacted(Timestamp(0), now));
        let aged = topic(&[(MAX_COMPACTION_LAG_MS, "1000"), (MIN_COMPACTION_LAG_MS, "10")]);
        assert!(
            aged.must_be_compacted(Timestamp(8_999), now) && !aged.must_be_compacted(Timestamp(9_000), now)
        );
        assert!(!aged.must_be_compacted(Timestamp::NONE, now));
        assert_eq!(aged.compacted_until(now), Some(Timestamp(9_990)));
        assert_eq!(default.compacted_until(now), None);
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
