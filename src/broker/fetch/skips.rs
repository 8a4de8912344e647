//! Places in long runs of aborted records: a fetch that has looked through many of them and found nothing to answer with
//! leaves word how far it came, so that the next one, from the same offset, goes on there.

use crate::broker::limits::REMEMBERED_SKIPS_MAX;
use crate::types::{HashMap, Offset, PartitionId};
use std::sync::{Mutex, PoisonError};

/// What one connection remembers: a partition → (where the fetch began, up to where nothing is to be kept). What is skipped
/// is aborted for good, so the memory can only be lost, never wrong.
#[derive(Debug, Default)]
pub(in crate::broker) struct Skips(Mutex<HashMap<PartitionId, (Offset, Offset)>>);

impl Skips {
    /// Where a scan of committed records from `offset` may begin.
    pub(super) fn start(&self, partition: PartitionId, offset: Offset) -> Offset {
        let skips = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match skips.get(&partition) {
            Some((from, next)) if *from == offset => *next,
            _ => offset,
        }
    }

    /// Between `from` and `next`, everything is aborted.
    pub(super) fn remember(&self, partition: PartitionId, from: Offset, next: Offset) {
        let mut skips = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if skips.len() >= REMEMBERED_SKIPS_MAX
            && !skips.contains_key(&partition)
            && let Some(other) = skips.keys().next().copied()
        {
            skips.remove(&other);
        }
        skips.insert(partition, (from, next));
    }

    /// The client has moved on.
    pub(super) fn forget(&self, partition: PartitionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicId};

    fn partition(index: i32) -> PartitionId {
        PartitionId::new(TopicId::NIL, PartitionIndex(index))
    }

    #[test]
    fn a_skip_counts_only_from_where_it_began() {
        let skips = Skips::default();
        skips.remember(partition(1), Offset(10), Offset(90));
        assert_eq!(skips.start(partition(1), Offset(10)), Offset(90));
        assert_eq!(skips.start(partition(1), Offset(11)), Offset(11));
        assert_eq!(skips.start(partition(2), Offset(10)), Offset(10));
        skips.forget(partition(1));
        assert_eq!(skips.start(partition(1), Offset(10)), Offset(10));
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let skips = Skips::default();
        for index in 0..i32::try_from(REMEMBERED_SKIPS_MAX).unwrap() + 10 {
            skips.remember(partition(index), Offset(0), Offset(1));
        }
        assert_eq!(skips.0.lock().unwrap().len(), REMEMBERED_SKIPS_MAX);
    }
}
