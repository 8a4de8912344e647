//! Who waits for which partition: fetches are woken, not polled, and only by what they can read.

use crate::core::PartitionRow;
use crate::store::ReadView;
use crate::types::{HashMap, Offset, PartitionId};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Up to where somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Twice the number of views that have been published; odd while one is being published.
    published: AtomicU64,
}

/// Somebody who waits for one partition.
#[derive(Debug)]
struct Watching {
    watcher: Arc<Watcher>,
    /// Which of its partitions it is.
    index: usize,
}

/// Somebody who waits.
#[derive(Debug)]
struct Watcher {
    up_to: UpTo,
    notify: Notify,
    heard: Mutex<Heard>,
}

/// What a watcher has been told. As much as it has partitions.
#[derive(Debug, Default)]
struct Heard {
    /// Its partitions as they are; inner none: deleted; none: nothing is known.
    rows: Vec<Option<Option<PartitionRow>>>,
    /// Which of them have changed.
    changed: BTreeSet<usize>,
}

/// Waits for changes of some partitions; gives up watching when dropped.
#[derive(Debug)]
pub struct Watch {
    watcher: Arc<Watcher>,
    partitions: Vec<PartitionId>,
    watchers: Arc<Watchers>,
}

/// A partition that is watched, by its place among the others, and as it is now; none if it has been deleted.
pub type Watched = (usize, Option<PartitionRow>);

impl Watchers {
    pub(super) fn watch(self: &Arc<Self>, up_to: UpTo, partitions: Vec<PartitionId>) -> Watch {
        let heard = Mutex::new(Heard { rows: vec![None; partitions.len()], changed: BTreeSet::new() });
        let watcher = Arc::new(Watcher { up_to, notify: Notify::new(), heard });
        let mut by_partition = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, partition) in partitions.iter().enumerate() {
            let watching = Watching { watcher: Arc::clone(&watcher), index };
            by_partition.entry(*partition).or_default().push(watching);
        }
        Watch { watcher, partitions, watchers: Arc::clone(self) }
    }

    /// Shows a new view, and tells everybody what has become of `changed` in it.
    pub(super) fn publish(&self, shown: &ArcSwap<ReadView>, view: Arc<ReadView>, changed: &[Changed]) {
        self.published.fetch_add(1, Ordering::SeqCst);
        shown.store(view);
        self.wake(changed);
        self.published.fetch_add(1, Ordering::SeqCst);
    }

    /// What `known` says of watched partitions, and then the view that is shown; and whether both are of one moment: they are
    /// not if something was being published meanwhile.
    pub(super) fn with_view<T>(
        &self,
        shown: &ArcSwap<ReadView>,
        known: impl FnOnce() -> T,
    ) -> (T, Arc<ReadView>, bool) {
        let before = self.published.load(Ordering::SeqCst);
        let (known, view) = (known(), shown.load_full());
        let is_quiet = before.is_multiple_of(2) && before == self.published.load(Ordering::SeqCst);
        (known, view, is_quiet)
    }

    /// Tells everybody what has become of `changed`, and wakes those who can read more, or less, of one of them than before.
    fn wake(&self, changed: &[Changed]) {
        let mut by_partition = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        if by_partition.is_empty() {
            return;
        }
        for (partition, row) in changed {
            let watching = by_partition.get_mut(partition).into_iter().flatten();
            watching.for_each(|watching| watching.watcher.hears(watching.index, row.as_ref()));
        }
    }
}

impl Watcher {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hears(&self, index: usize, row: Option<&PartitionRow>) {
        let mut heard = self.heard();
        let Some(before) = heard.rows.get_mut(index) else { return };
        let before = before.replace(row.cloned()).flatten();
        let readable = |row: &PartitionRow| self.up_to.of(row);
        if row.is_some() && row.map(readable) == before.as_ref().map(readable) {
            return;
        }
        heard.changed.insert(index);
        drop(heard);
        // A permit is kept for who is not waiting yet, so no change is missed.
        self.notify.notify_one();
    }
}

impl Watch {
    /// Returns when a watched partition has changed since the watch began, or since [`Watch::take`] or [`Watch::now`] was called
    /// last; once too often, if it had changed before that.
    pub async fn changed(&self) {
        self.watcher.notify.notified().await;
    }

    /// Which have changed since the watch began, or since this or [`Watch::now`] was called last. A view that is taken after
    /// this has all of these changes.
    #[must_use]
    pub fn take(&self) -> Vec<Watched> {
        let mut heard = self.watcher.heard();
        let changed = std::mem::take(&mut heard.changed);
        changed.into_iter().filter_map(|index| Some((index, heard.rows.get(index)?.clone()?))).collect()
    }

    /// Says how the partitions are, in order, in a view that was taken after the watch began. What has been heard of one since
    /// then is newer.
    pub fn learn<'r>(&self, rows: impl IntoIterator<Item = &'r PartitionRow>) {
        for (known, row) in self.watcher.heard().rows.iter_mut().zip(rows) {
            known.get_or_insert_with(|| Some(row.clone()));
        }
    }

    /// All of the partitions as they are now, in order; none if there is one of which nothing has been heard or learnt. A view
    /// that is taken after this has all of these changes.
    #[must_use]
    pub fn now(&self) -> Option<Vec<Option<PartitionRow>>> {
        let mut heard = self.watcher.heard();
        heard.changed.clear();
        heard.rows.iter().cloned().collect()
    }

    /// Whether it is these partitions, in this order, that are watched up to there.
    #[must_use]
    pub fn is_of<'p>(&self, up_to: UpTo, partitions: impl IntoIterator<Item = &'p PartitionId>) -> bool {
        self.watcher.up_to == up_to && self.partitions.iter().eq(partitions)
    }

    /// How many partitions are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether a partition is watched more than once.
    #[must_use]
    pub fn has_repeats(&self) -> bool {
        self.partitions.iter().collect::<BTreeSet<_>>().len() < self.partitions.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Each once, however often it is watched: all who watch it are looked through.
        let distinct: BTreeSet<_> = self.partitions.iter().collect();
        let mut by_partition = self.watchers.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in distinct {
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
    use crate::store::{Database, StoreLimits};
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
            Poll::Ready(()) => Some(watch.take().into_iter().map(|(index, _)| index).collect()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_reads_what_is_decided_does_not_hear_of_what_is_not() {
        let watchers = Arc::new(Watchers::default());
        let before = row(0, 5, None);
        let watch = |up_to: UpTo| {
            let watch = watchers.watch(up_to, vec![OTHER, PARTITION]);
            watch.learn([&PartitionRow::default(), &before]);
            watch
        };
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
        let before = row(0, 9, Some(4));
        let watch = watchers.watch(UpTo::LastStableOffset, vec![PARTITION]);
        watch.learn([&before]);
        watchers.wake(&[(PARTITION, Some(row(2, 9, Some(4))))]);
        assert_eq!(told(&watch), Some(vec![0]));
        watchers.wake(&[(PARTITION, None)]);
        assert_eq!(told(&watch), Some(vec![0]));
    }

    #[test]
    fn changes_while_nobody_waits_are_told_together() {
        let watchers = Arc::new(Watchers::default());
        let watch = watchers.watch(UpTo::HighWatermark, vec![PARTITION, OTHER]);
        for end in 1..4 {
            watchers.wake(&[(OTHER, Some(row(0, end, None))), (PARTITION, Some(row(0, end, None)))]);
        }
        assert_eq!(told(&watch), Some(vec![0, 1]));
        assert_eq!(told(&watch), None);
        drop(watch);
        assert!(watchers.by_partition.lock().unwrap().is_empty());
    }

    #[test]
    fn who_watches_a_partition_many_times_gives_it_up_at_once() {
        let watchers = Arc::new(Watchers::default());
        let watch = || watchers.watch(UpTo::HighWatermark, vec![PARTITION; 200_000]);
        let (one, other) = (watch(), watch());
        assert!(one.has_repeats());
        // Each of them looked through for each of the others would take minutes.
        drop(one);
        assert_eq!(watchers.by_partition.lock().unwrap()[&PARTITION].len(), 200_000);
        drop(other);
        assert!(watchers.by_partition.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_known_is_of_the_moment_of_the_view_unless_something_is_published_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let store = Database::open(dir.path(), StoreLimits::default()).unwrap();
        let view = || Arc::new(store.view_now().unwrap());
        let (watchers, shown) = (Watchers::default(), ArcSwap::new(view()));
        let is_of_one_moment = |known: &dyn Fn()| watchers.with_view(&shown, known).2;
        assert!(is_of_one_moment(&|| ()));
        assert!(!is_of_one_moment(&|| watchers.publish(&shown, view(), &[])));
        assert!(is_of_one_moment(&|| ()), "it has been published");
        watchers.published.fetch_add(1, Ordering::SeqCst);
        assert!(!is_of_one_moment(&|| ()), "the view is shown, and nobody has been told yet");
    }

    #[test]
    fn a_watch_knows_the_partitions_as_they_are() {
        let watchers = Arc::new(Watchers::default());
        let watch = watchers.watch(UpTo::LastStableOffset, vec![PARTITION, OTHER]);
        assert_eq!(watch.now(), None, "nothing is known");
        let newer = row(0, 9, Some(4));
        watchers.wake(&[(PARTITION, Some(newer.clone()))]);
        assert_eq!(watch.now(), None, "of one of them, nothing is known");
        let older = row(0, 7, Some(4));
        watch.learn([&older, &older]);
        assert_eq!(watch.now(), Some(vec![Some(newer), Some(older.clone())]), "what was heard is newer");
        let unreadable = row(0, 11, Some(4));
        watchers.wake(&[(PARTITION, Some(unreadable.clone())), (OTHER, None)]);
        assert_eq!(
            watch.now(),
            Some(vec![Some(unreadable.clone()), None]),
            "also where nothing can be read of it"
        );
        assert_eq!(told(&watch), Some(vec![]), "it is known already");
        watchers.wake(&[(PARTITION, Some(unreadable)), (OTHER, Some(older))]);
        assert_eq!(told(&watch), Some(vec![1]));
        assert!(watch.is_of(UpTo::LastStableOffset, &[PARTITION, OTHER]));
        assert!(!watch.is_of(UpTo::HighWatermark, &[PARTITION, OTHER]));
        assert!(!watch.is_of(UpTo::LastStableOffset, &[OTHER, PARTITION]));
    }
}
