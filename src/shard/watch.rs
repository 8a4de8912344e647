//! Who waits for which partition: fetches are woken, not polled.

use crate::types::{HashMap, PartitionId};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// All who wait, by partition.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_partition: Mutex<HashMap<PartitionId, Vec<Arc<Notify>>>>,
}

/// Waits for changes of some partitions; gives up watching when dropped.
#[derive(Debug)]
pub struct Watch {
    notify: Arc<Notify>,
    partitions: Vec<PartitionId>,
    watchers: Arc<Watchers>,
}

impl Watchers {
    pub(super) fn watch(self: &Arc<Self>, partitions: impl IntoIterator<Item = PartitionId>) -> Watch {
        let notify = Arc::new(Notify::new());
        let partitions: Vec<PartitionId> = partitions.into_iter().collect();
        let mut by_partition = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &partitions {
            by_partition.entry(*partition).or_default().push(Arc::clone(&notify));
        }
        Watch { notify, partitions, watchers: Arc::clone(self) }
    }

    /// Wakes everybody who watches one of `changed`.
    pub(super) fn wake(&self, changed: impl IntoIterator<Item = PartitionId>) {
        let by_partition = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        if by_partition.is_empty() {
            return;
        }
        for partition in changed {
            // A permit is kept for who is not waiting yet, so no change is missed.
            by_partition.get(&partition).into_iter().flatten().for_each(|notify| notify.notify_one());
        }
    }
}

impl Watch {
    /// Returns when a watched partition has changed since the watch began or since this last returned.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_partition = self.watchers.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &self.partitions {
            if let Some(waiting) = by_partition.get_mut(partition) {
                waiting.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
                if waiting.is_empty() {
                    by_partition.remove(partition);
                }
            }
        }
    }
}
