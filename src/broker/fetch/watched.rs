//! The partitions that a connection has last fetched: they stay watched until its next fetch, which mostly is about the same
//! ones. So it knows how they are without looking each up, however many of them have nothing new.

use crate::broker::limits::{WATCHED_MAX, WATCHED_OF_CONNECTION_MAX};
use crate::core::PartitionRow;
use crate::shard::{UpTo, Watch};
use crate::types::PartitionId;
use crate::wire::ErrorCode;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for what all connections keep watched between their fetches.
#[derive(Debug)]
pub(in crate::broker) struct WatchedRoom(Arc<Semaphore>);

impl Default for WatchedRoom {
    fn default() -> WatchedRoom {
        WatchedRoom(Arc::new(Semaphore::new(WATCHED_MAX)))
    }
}

/// A watch, with the room that it takes while it is kept, if it has been.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) watch: Watch,
    room: Option<OwnedSemaphorePermit>,
}

impl From<Watch> for Kept {
    fn from(watch: Watch) -> Kept {
        Kept { watch, room: None }
    }
}

/// What one connection has fetched last, while none of its fetches uses it.
#[derive(Debug, Default)]
pub(in crate::broker) struct LastFetch(Mutex<Last>);

#[derive(Debug, Default)]
enum Last {
    #[default]
    Nothing,
    /// Partitions that are not watched, by a sum of theirs: to take others for them would do no harm.
    Fetched(u64),
    Watched(Kept),
}

/// What is known of the partitions of a fetch.
#[derive(Debug)]
pub(super) enum Known {
    /// They are watched: how they are, those that are refused left out.
    Watched(Kept, Vec<Option<PartitionRow>>),
    /// Nothing, but they have been fetched before, and so they will again: to be watched from now on.
    FetchedAgain,
    /// Nothing.
    Nothing,
}

fn sum(partitions: &[Result<PartitionId, ErrorCode>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    partitions.iter().flatten().for_each(|partition| partition.hash(&mut hasher));
    hasher.finish()
}

impl LastFetch {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a fetch of these partitions.
    pub(super) fn begin(&self, up_to: UpTo, partitions: &[Result<PartitionId, ErrorCode>]) -> Known {
        let last = std::mem::take(&mut *self.last());
        match last {
            Last::Watched(kept) if kept.watch.is_of(up_to, partitions.iter().flatten()) => {
                match kept.watch.now() {
                    Some(rows) => Known::Watched(kept, rows),
                    None => Known::Nothing,
                }
            }
            Last::Fetched(last)
                if last == sum(partitions) && partitions.len() <= WATCHED_OF_CONNECTION_MAX =>
            {
                Known::FetchedAgain
            }
            Last::Nothing | Last::Fetched(_) | Last::Watched(_) => {
                *self.last() = Last::Fetched(sum(partitions));
                Known::Nothing
            }
        }
    }

    /// Keeps a watch for the next fetch, if there is room for it. Whoever names a partition many times has each of them told of
    /// its changes while it waits, and not for longer.
    pub(super) fn keep(&self, watched: Option<Kept>, room: &WatchedRoom) {
        let Some(Kept { watch, room: had }) = watched else { return };
        let is_kept = || watch.len() <= WATCHED_OF_CONNECTION_MAX && !watch.has_repeats();
        let wanted = || u32::try_from(watch.len()).ok().filter(|_| is_kept());
        let new = || Arc::clone(&room.0).try_acquire_many_owned(wanted()?).ok();
        if let Some(room) = had.or_else(new) {
            *self.last() = Last::Watched(Kept { watch, room: Some(room) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_the_limit() {
        let room = WatchedRoom::default();
        assert_eq!(room.0.available_permits(), WATCHED_MAX);
        assert!(WATCHED_MAX >= 2 * WATCHED_OF_CONNECTION_MAX && u32::try_from(WATCHED_MAX).is_ok());
    }
}
