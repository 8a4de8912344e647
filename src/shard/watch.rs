//! Who waits for which partition: fetches are woken, not polled, and only by what they can read.

use crate::core::PartitionRow;
use crate::types::{HashMap, Offset, PartitionId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Up to where somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpTo {
    /// All that is durable.
    HighWatermark,
    /// What is decided, too.
    LastStableOffset,
}

/// What of a partition can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    /// From here on.
    pub start: Offset,
    /// Up to, but not including, this offset.
    pub end: Offset,
}

impl UpTo {
    /// What can be read of a partition.
    #[must_use]
    pub fn of(self, row: &PartitionRow) -> Readable {
        let end = match self {
            UpTo::HighWatermark => row.next_offset,
            UpTo::LastStableOffset => row.last_stable_offset(),
        };
        Readable { start: row.log_start, end }
    }
}

/// A partition that has changed, as it is now; none if it has been deleted.
pub(super) type Changed = (PartitionId, Option<PartitionRow>);

/// All who wait, by partition.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_partition: Mutex<HashMap<PartitionId, Vec<Watching>>>,
}

/// Somebody who waits for one partition.
#[derive(Debug)]
struct Watching {
    watcher: Arc<Watcher>,
    /// Which of its partitions it is.
    index: usize,
    /// What it has seen, or been told of.
    seen: Option<Readable>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Watcher {
    up_to: UpTo,
    notify: Notify,
    /// Which of its partitions have changed. At most as many as it watches.
    changed: Mutex<BTreeSet<usize>>,
}

/// Waits for changes of some partitions; gives up watching when dropped.
#[derive(Debug)]
pub struct Watch {
    watcher: Arc<Watcher>,
    partitions: Vec<PartitionId>,
    watchers: Arc<Watchers>,
}

impl Watchers {
    pub(super) fn watch(
        self: &Arc<Self>,
        up_to: UpTo,
        seen: impl IntoIterator<Item = (PartitionId, Option<Readable>)>,
    ) -> Watch {
        let watcher = Arc::new(Watcher { up_to, notify: Notify::new(), changed: Mutex::default() });
        let mut partitions = Vec::new();
        let mut by_partition = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (partition, seen)) in seen.into_iter().enumerate() {
            let watching = Watching { watcher: Arc::clone(&watcher), index, seen };
            by_partition.entry(partition).or_default().push(watching);
            partitions.push(partition);
        }
        Watch { watcher, partitions, watchers: Arc::clone(self) }
    }

    /// Wakes everybody who can read more, or less, of one of `changed` than before.
    pub(super) fn wake(&self, changed: &[Changed]) {
        let mut by_partition = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        if by_partition.is_empty() {
            return;
        }
        for (partition, row) in changed {
            let watching = by_partition.get_mut(partition).into_iter().flatten();
            watching.for_each(|watching| watching.hears(row.as_ref()));
        }
    }
}

impl Watching {
    fn hears(&mut self, row: Option<&PartitionRow>) {
        let now = row.map(|row| self.watcher.up_to.of(row));
        if now.is_some() && now == self.seen {
            return;
        }
        self.seen = now;
        self.watcher.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(self.index);
        // A permit is kept for who is not waiting yet, so no change is missed.
        self.watcher.notify.notify_one();
    }
}

impl Watch {
    /// Returns when a watched partition has changed since the watch began or since this last returned: which, by their
    /// places among those that are watched. None of them, if they had changed before this last returned.
    pub async fn changed(&self) -> BTreeSet<usize> {
        self.watcher.notify.notified().await;
        std::mem::take(&mut *self.watcher.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_partition = self.watchers.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &self.partitions {
            if let Some(waiting) = by_partition.get_mut(partition) {
                waiting.retain(|watching| !Arc::ptr_eq(&watching.watcher, &self.watcher));
                if waiting.is_empty() {
                    by_partition.remove(partition);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicId};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const PARTITION: PartitionId = PartitionId { topic: TopicId::NIL, index: PartitionIndex(0) };
    const OTHER: PartitionId = PartitionId { topic: TopicId::NIL, index: PartitionIndex(1) };

    fn row(log_start: i64, next_offset: i64, first_open: Option<i64>) -> PartitionRow {
        PartitionRow {
            log_start: Offset(log_start),
            next_offset: Offset(next_offset),
            first_open: first_open.map(Offset),
            ..PartitionRow::default()
        }
    }

    /// Which of the partitions it has been told of, if any.
    fn told(watch: &Watch) -> Option<Vec<usize>> {
        match pin!(watch.changed()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(changed) => Some(changed.into_iter().collect()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_reads_what_is_decided_does_not_hear_of_what_is_not() {
        let watchers = Arc::new(Watchers::default());
        let before = row(0, 5, None);
        let watch =
            |up_to: UpTo| watchers.watch(up_to, [(OTHER, None), (PARTITION, Some(up_to.of(&before)))]);
        let (committed, all) = (watch(UpTo::LastStableOffset), watch(UpTo::HighWatermark));
        watchers.wake(&[(PARTITION, Some(row(0, 7, Some(5))))]);
        assert_eq!((told(&committed), told(&all)), (None, Some(vec![1])));
        watchers.wake(&[(PARTITION, Some(row(0, 8, None)))]);
        assert_eq!((told(&committed), told(&all)), (Some(vec![1]), Some(vec![1])), "it has ended");
        watchers.wake(&[(PARTITION, Some(row(0, 8, None)))]);
        assert_eq!((told(&committed), told(&all)), (None, None), "nothing new");
    }

    #[test]
    fn everybody_hears_that_records_or_the_partition_are_deleted() {
        let watchers = Arc::new(Watchers::default());
        let before = UpTo::LastStableOffset.of(&row(0, 9, Some(4)));
        let watch = watchers.watch(UpTo::LastStableOffset, [(PARTITION, Some(before))]);
        watchers.wake(&[(PARTITION, Some(row(2, 9, Some(4))))]);
        assert_eq!(told(&watch), Some(vec![0]));
        watchers.wake(&[(PARTITION, None)]);
        assert_eq!(told(&watch), Some(vec![0]));
    }

    #[test]
    fn changes_while_nobody_waits_are_told_together() {
        let watchers = Arc::new(Watchers::default());
        let watch = watchers.watch(UpTo::HighWatermark, [(PARTITION, None), (OTHER, None)]);
        for end in 1..4 {
            watchers.wake(&[(OTHER, Some(row(0, end, None))), (PARTITION, Some(row(0, end, None)))]);
        }
        assert_eq!(told(&watch), Some(vec![0, 1]));
        assert_eq!(told(&watch), None);
        drop(watch);
        assert!(watchers.by_partition.lock().unwrap().is_empty());
    }
}
