//! Which records have failed, how often and why. A record that fails holds up its partition, so there is one in each at most.

use super::ProcessingError;
use crate::client::backoff::{Backoff, BackoffLimits};
use crate::client::consumer::ConsumedRecord;
use crate::client::metadata::TopicPartition;
use crate::types::Offset;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// What came of a record.
pub(super) enum Attempt {
    /// Its results are in the transaction.
    Done,
    /// It is to be tried again, not before that time.
    Again(Instant),
    /// It has been tried often enough.
    GivenUp,
}

struct Failed {
    offset: Offset,
    times: u32,
    reason: String,
    pauses: Backoff,
}

pub(super) struct Failures {
    times_max: u32,
    pauses: BackoffLimits,
    failed: BTreeMap<TopicPartition, Failed>,
    /// Before these offsets there is a record that cannot be stored, and it is not known which: each gets a transaction of its
    /// own.
    searched: BTreeMap<TopicPartition, Offset>,
}

impl Failures {
    pub(super) fn new(times_max: u32, pauses: BackoffLimits) -> Failures {
        Failures { times_max: times_max.max(1), pauses, failed: BTreeMap::new(), searched: BTreeMap::new() }
    }

    fn find(&self, record: &ConsumedRecord) -> Option<&Failed> {
        self.failed.get(&record.partition).filter(|failed| failed.offset == record.offset)
    }

    /// It has failed once more.
    pub(super) fn note(&mut self, record: &ConsumedRecord, reason: String) -> Attempt {
        tracing::info!(partition = %record.partition, offset = %record.offset, reason, "a record cannot be processed");
        let mut failed = match self.failed.remove(&record.partition) {
            Some(failed) if failed.offset == record.offset => failed,
            _ => Failed {
                offset: record.offset,
                times: 0,
                reason: String::new(),
                pauses: Backoff::unseeded(self.pauses),
            },
        };
        (failed.times, failed.reason) = (failed.times + 1, reason);
        let again_at = Instant::now() + failed.pauses.pause();
        self.failed.insert(record.partition.clone(), failed);
        if self.are_too_many(record) { Attempt::GivenUp } else { Attempt::Again(again_at) }
    }

    /// Whether it has been tried often enough.
    pub(super) fn are_too_many(&self, record: &ConsumedRecord) -> bool {
        self.find(record).is_some_and(|failed| failed.times >= self.times_max)
    }

    /// How often it has failed, and why.
    pub(super) fn of(&self, record: &ConsumedRecord) -> (u32, &str) {
        self.find(record).map_or((0, ""), |failed| (failed.times, failed.reason.as_str()))
    }

    pub(super) fn poison(&self, record: &ConsumedRecord) -> ProcessingError {
        let (attempts, reason) = self.of(record);
        let (partition, offset) = (record.partition.clone(), record.offset);
        ProcessingError::Poison { partition, offset, attempts, reason: reason.to_owned() }
    }

    /// Something before these positions cannot be stored.
    pub(super) fn search(&mut self, positions: &BTreeMap<TopicPartition, Offset>) {
        self.searched.clone_from(positions);
    }

    pub(super) fn are_searched(&self) -> bool {
        !self.searched.is_empty()
    }

    /// What lies before these positions is committed; partitions that are not assigned any more are somebody else's.
    pub(super) fn passed(
        &mut self,
        assigned: &[TopicPartition],
        positions: &BTreeMap<TopicPartition, Offset>,
    ) {
        let is_before = |partition: &TopicPartition, offset: Offset| {
            assigned.contains(partition) && positions.get(partition).is_none_or(|next| *next <= offset)
        };
        self.failed.retain(|partition, failed| is_before(partition, failed.offset));
        self.searched.retain(|partition, until| until.0 > 0 && is_before(partition, Offset(until.0 - 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, Timestamp, TopicName};
    use crate::wire::batch::Record;
    use std::time::Duration;

    fn partition(index: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("t").unwrap(), PartitionIndex(index))
    }

    fn record(index: i32, offset: i64) -> ConsumedRecord {
        let record = Record { key: None, value: None, headers: Vec::new() };
        ConsumedRecord {
            partition: partition(index),
            offset: Offset(offset),
            timestamp: Timestamp(0),
            record,
        }
    }

    fn failures() -> Failures {
        let pause = Duration::from_millis(1);
        Failures::new(3, BackoffLimits { first: pause, longest: pause })
    }

    #[test]
    fn a_record_is_given_up_after_so_many_times_and_another_one_begins_anew() {
        let mut failures = failures();
        for reason in ["a", "b"] {
            assert!(matches!(failures.note(&record(0, 7), reason.to_owned()), Attempt::Again(_)));
            assert!(!failures.are_too_many(&record(0, 7)));
        }
        assert!(matches!(failures.note(&record(1, 7), "other".to_owned()), Attempt::Again(_)));
        assert!(matches!(failures.note(&record(0, 7), "c".to_owned()), Attempt::GivenUp));
        assert!(failures.are_too_many(&record(0, 7)) && !failures.are_too_many(&record(1, 7)));
        assert_eq!(failures.of(&record(0, 7)), (3, "c"));
        assert!(matches!(failures.note(&record(0, 8), "d".to_owned()), Attempt::Again(_)));
        assert_eq!(failures.of(&record(0, 8)), (1, "d"));
    }

    #[test]
    fn what_is_committed_is_no_failure_any_more_and_what_is_not_yet_read_again_still_is() {
        let mut failures = failures();
        let _ = failures.note(&record(0, 7), "a".to_owned());
        let _ = failures.note(&record(1, 7), "a".to_owned());
        failures.search(&[(partition(0), Offset(9)), (partition(1), Offset(9))].into());
        let both = [partition(0), partition(1)];
        // Of the second the position is being looked for.
        failures.passed(&both, &[(partition(0), Offset(7))].into());
        assert_eq!((failures.of(&record(0, 7)).0, failures.of(&record(1, 7)).0), (1, 1));
        failures.passed(&both, &[(partition(0), Offset(8)), (partition(1), Offset(9))].into());
        assert_eq!((failures.of(&record(0, 7)).0, failures.of(&record(1, 7)).0), (0, 0));
        assert!(failures.are_searched(), "the first has one more");
        failures.passed(&both[1..], &[(partition(0), Offset(8))].into());
        assert!(!failures.are_searched(), "that is somebody else's now");
    }
}
