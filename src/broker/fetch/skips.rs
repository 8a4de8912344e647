//! Places in long runs of aborted records, or of what compaction has left nothing of: a fetch that has looked through many of them and found nothing to answer with
//! leaves word how far it came, so that the next one, from the same offset, goes on there.

use crate::broker::limits::REMEMBERED_SKIPS_MAX;
use crate::shard::UpTo;
use crate::types::{HashMap, Offset, PartitionId};
use std::sync::{Mutex, PoisonError};

/// What one connection remembers: a partition, and up to where it is read → (where the fetch began, up to where nothing is to be
/// kept). What is skipped is aborted or compacted away for good, so the memory can only be lost, never wrong.
#[derive(Debug, Default)]
pub(in crate::broker) struct Skips(Mutex<HashMap<(PartitionId, UpTo), (Offset, Offset)>>);

impl Skips {
    /// Where a scan from `offset` may begin.
    pub(super) fn start(&self, partition: PartitionId, up_to: UpTo, offset: Offset) -> Offset {
        let skips = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match skips.get(&(partition, up_to)) {
            Some((from, next)) if *from == offset => *next,
            _ => offset,
        }
    }

    /// Between `from` and `next`, nothing is to be kept.
    pub(super) fn remember(&self, partition: PartitionId, up_to: UpTo, from: Offset, next: Offset) {
        let key = (partition, up_to);
        let mut skips = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if skips.len() >= REMEMBERED_SKIPS_MAX
            && !skips.contains_key(&key)
            && let Some(other) = skips.keys().next().copied()
        {
            skips.remove(&other);
        }
        skips.insert(key, (from, next));
    }

    /// The client has moved on.
    pub(super) fn forget(&self, partition: PartitionId, up_to: UpTo) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(partition, up_to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::UpTo::{HighWatermark, LastStableOffset};
    use crate::types::{PartitionIndex, TopicId};

    fn partition(index: i32) -> PartitionId {
        PartitionId::new(TopicId::NIL, PartitionIndex(index))
    }

    #[test]
    fn a_skip_counts_only_from_where_it_began() {
        let skips = Skips::default();
        let start = |index, up_to, offset| skips.start(partition(index), up_to, Offset(offset)).0;
        skips.remember(partition(1), LastStableOffset, Offset(10), Offset(90));
        assert_eq!(start(1, LastStableOffset, 10), 90);
        assert_eq!(start(1, LastStableOffset, 11), 11);
        assert_eq!(start(2, LastStableOffset, 10), 10);
        assert_eq!(start(1, HighWatermark, 10), 10, "what is aborted is there for who reads everything");
        skips.forget(partition(1), HighWatermark);
        assert_eq!(start(1, LastStableOffset, 10), 90);
        skips.forget(partition(1), LastStableOffset);
        assert_eq!(start(1, LastStableOffset, 10), 10);
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let skips = Skips::default();
        for index in 0..i32::try_from(REMEMBERED_SKIPS_MAX).unwrap() + 10 {
            skips.remember(partition(index), LastStableOffset, Offset(0), Offset(1));
        }
        assert_eq!(skips.0.lock().unwrap().len(), REMEMBERED_SKIPS_MAX);
    }
}
