//! What the members of all groups have been told, and since when every group is stable.

use super::super::measure::Latencies;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What the members of all groups have been told.
pub(super) struct Ledger {
    groups: Vec<Mutex<Group>>,
    begun: Instant,
    /// How many groups are stable.
    stable: watch::Sender<usize>,
    /// How often a member had to join again.
    rejoined: AtomicU64,
    /// The longest interval at which members beat, in milliseconds.
    interval: AtomicU64,
}

struct Group {
    partitions: usize,
    /// By member: the epoch or generation it is in, and what it has there.
    told: Vec<Option<(i32, BTreeSet<i32>)>>,
    /// When it became stable, if it is.
    stable: Option<Duration>,
}

impl Group {
    /// Whether all members are in one epoch, and each partition is one member's.
    fn is_stable(&self) -> bool {
        let Some(told) = self.told.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let epochs: BTreeSet<i32> = told.iter().map(|(epoch, _)| *epoch).collect();
        let given: usize = told.iter().map(|(_, partitions)| partitions.len()).sum();
        let distinct: BTreeSet<i32> =
            told.iter().flat_map(|(_, partitions)| partitions.iter().copied()).collect();
        epochs.len() == 1 && given == self.partitions && distinct.len() == given
    }
}

impl Ledger {
    /// Of groups whose members have not been told anything; each group reads so many partitions. The time counts from now.
    pub(super) fn new(groups: usize, members: usize, partitions: usize) -> Ledger {
        let group = || Mutex::new(Group { partitions, told: vec![None; members], stable: None });
        Ledger {
            groups: (0..groups).map(|_| group()).collect(),
            begun: Instant::now(),
            stable: watch::Sender::new(0),
            rejoined: AtomicU64::new(0),
            interval: AtomicU64::new(0),
        }
    }

    /// A member is in this epoch, and has these partitions there.
    pub(super) fn told(&self, group: usize, member: usize, epoch: i32, partitions: BTreeSet<i32>) {
        self.change(group, member, Some((epoch, partitions)));
    }

    /// A member has to join again.
    pub(super) fn rejoins(&self, group: usize, member: usize) {
        self.rejoined.fetch_add(1, Ordering::Relaxed);
        self.change(group, member, None);
    }

    fn change(&self, group: usize, member: usize, told: Option<(i32, BTreeSet<i32>)>) {
        let Some(group) = self.groups.get(group) else { return };
        let mut group = lock(group);
        if let Some(place) = group.told.get_mut(member) {
            *place = told;
        }
        match (group.stable, group.is_stable()) {
            (None, true) => {
                group.stable = Some(self.begun.elapsed());
                self.stable.send_modify(|count| *count += 1);
            }
            (Some(_), false) => {
                group.stable = None;
                self.stable.send_modify(|count| *count = count.saturating_sub(1));
            }
            _ => {}
        }
    }

    /// How many groups are stable.
    pub(super) fn stable(&self) -> usize {
        *self.stable.borrow()
    }

    /// Whether all groups are.
    pub(super) fn all_stable(&self) -> bool {
        self.stable() == self.groups.len()
    }

    /// Waits until all groups are.
    pub(super) async fn until_all_stable(&self) {
        let all = self.groups.len();
        // The sender is this ledger's own: it does not go away meanwhile.
        let _ = self.stable.subscribe().wait_for(|count| *count == all).await;
    }

    /// The times, from the first join, after which the groups became stable.
    pub(super) fn times(&self) -> Vec<Duration> {
        self.groups.iter().filter_map(|group| lock(group).stable).collect()
    }

    /// A member beats at this interval.
    pub(super) fn beats_every(&self, interval: Duration) {
        self.interval.fetch_max(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The longest interval at which members beat.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval.load(Ordering::Relaxed))
    }

    pub(super) fn rejoined(&self) -> u64 {
        self.rejoined.load(Ordering::Relaxed)
    }
}

/// How many histograms the members share: one for each would take more memory than all else.
const SHARDS: usize = 64;

/// How long heartbeats took.
pub(super) struct Beats {
    counting: AtomicBool,
    shards: Vec<Mutex<Latencies>>,
}

impl Beats {
    pub(super) fn new() -> Beats {
        let shards = (0..SHARDS).map(|_| Mutex::new(Latencies::new())).collect();
        Beats { counting: AtomicBool::new(false), shards }
    }

    /// Member number `number` has waited so long for an answer.
    pub(super) fn record(&self, number: usize, latency: Duration) {
        if self.counting.load(Ordering::Relaxed)
            && let Some(shard) = self.shards.get(number % SHARDS)
        {
            lock(shard).record(latency);
        }
    }

    /// Counts for so long.
    pub(super) async fn count(&self, span: Duration) -> Latencies {
        self.shards.iter().for_each(|shard| *lock(shard) = Latencies::new());
        self.counting.store(true, Ordering::Relaxed);
        tokio::time::sleep(span).await;
        self.counting.store(false, Ordering::Relaxed);
        let mut all = Latencies::new();
        self.shards.iter().for_each(|shard| all.merge(&lock(shard)));
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_stable_when_all_are_in_one_epoch_and_every_partition_has_one_owner() {
        let ledger = Ledger::new(2, 2, 3);
        let told = |member, epoch, partitions: &[i32]| {
            ledger.told(0, member, epoch, partitions.iter().copied().collect());
            ledger.stable()
        };
        assert_eq!(told(0, 1, &[0, 1, 2]), 0, "the other has not come");
        assert_eq!(told(1, 2, &[2]), 0, "two owners");
        assert_eq!(told(0, 1, &[0, 1]), 0, "two epochs");
        assert_eq!(told(0, 2, &[0, 1]), 1);
        assert_eq!(told(0, 2, &[0]), 0, "one without an owner");
        assert_eq!(told(0, 2, &[0, 1]), 1);
        assert!(!ledger.all_stable() && ledger.times().len() == 1);
        ledger.rejoins(0, 1);
        assert_eq!((ledger.stable(), ledger.rejoined()), (0, 1));
    }
}
