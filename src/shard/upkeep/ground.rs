//! What the duties of the log's space share: the files there are, how far they may be freed, and who does it.

use super::pressure::Pressure;
use super::wall_clock::WallClock;
use crate::log::{Reader, Recycler, SegmentNumber, Segments};
use crate::shard::applier::{Signal, Signals};
use crate::shard::limits::SpaceLimits;
use crate::shard::metrics::ShardMetrics;
use crate::store::{Applied, Database, Snapshot, Snapshots, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by duties that run on one thread: the lock is never waited for.
#[derive(Clone)]
pub(in crate::shard) struct Ground(Arc<Shared>);

struct Shared {
    start: GroundStart,
    clock: WallClock,
    state: Mutex<State>,
}

/// What the ground is made of.
pub(in crate::shard) struct GroundStart {
    pub(in crate::shard) store: Database,
    pub(in crate::shard) segments: Segments,
    pub(in crate::shard) recycler: Recycler,
    pub(in crate::shard) reader: Arc<Reader>,
    pub(in crate::shard) snapshots: Snapshots,
    pub(in crate::shard) signals: Signals,
    pub(in crate::shard) pressure: Pressure,
    pub(in crate::shard) metrics: Arc<ShardMetrics>,
    pub(in crate::shard) limits: SpaceLimits,
    pub(in crate::shard) segment_length: u32,
}

struct State {
    /// The newest complete snapshot.
    snapshot: Option<Snapshot>,
    /// Files that may hold something, up to the one being written; and how long they are, once somebody asked.
    files: BTreeMap<SegmentNumber, Option<u64>>,
    /// The first segment that is not among them yet.
    next: SegmentNumber,
    next_moved: u64,
    /// Files that have turned out to be damaged: what they hold is left where it is.
    damaged: BTreeSet<SegmentNumber>,
    /// Whether a backup is being taken.
    paused: bool,
}

/// While it lives nothing is freed or moved, and no snapshot is replaced.
pub(super) struct Pause(Ground);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.state().paused = false;
    }
}

impl Ground {
    /// The duties' common ground. `files` are all segment files there are, `snapshot` the newest complete one.
    pub(in crate::shard) fn new(
        start: GroundStart,
        files: &[SegmentNumber],
        snapshot: Option<Snapshot>,
    ) -> Result<Ground, StoreError> {
        let applied = start.store.applied()?;
        let clock = WallClock::new(start.store.clone(), applied == Applied::NOTHING)?;
        let next = applied.checkpoint.at.segment;
        let moved = files.iter().filter(|file| file.is_moved());
        let next_moved = moved.clone().map(|file| file.in_name()).max().map_or(1, |last| last + 1);
        let below = files.iter().filter(|file| **file < next).chain(moved);
        let files = below.map(|file| (*file, None)).collect();
        let state = State { snapshot, files, next, next_moved, damaged: BTreeSet::new(), paused: false };
        Ok(Ground(Arc::new(Shared { start, clock, state: Mutex::new(state) })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step, so a panic leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock, as far as it can be relied on.
    pub(in crate::shard) fn clock(&self) -> &WallClock {
        &self.0.clock
    }

    pub(super) fn parts(&self) -> &GroundStart {
        &self.0.start
    }

    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        self.state().snapshot.clone()
    }

    pub(super) fn set_snapshot(&self, snapshot: Snapshot) {
        self.state().snapshot = Some(snapshot);
    }

    /// How far the log is not needed any more to make the rows anew: the lower of the last checkpoint and the last
    /// snapshot. Nothing from its segment on is freed or moved.
    pub(super) fn floor(&self) -> Applied {
        let persisted = self.parts().store.persisted();
        let snapshot = self.state().snapshot.as_ref().map_or(Applied::NOTHING, |s| s.header.applied);
        if snapshot.checkpoint.block < persisted.checkpoint.block { snapshot } else { persisted }
    }

    /// All files that are written to their end.
    pub(super) fn files(&self) -> Result<Vec<SegmentNumber>, StoreError> {
        let applied = self.parts().store.applied()?.checkpoint.at.segment;
        let mut state = self.state();
        while state.next < applied {
            let next = state.next;
            state.files.insert(next, None);
            state.next = next.next();
        }
        Ok(state.files.keys().copied().collect())
    }

    /// How long a file is; 0 if that cannot be told.
    pub(super) fn length(&self, file: SegmentNumber) -> u64 {
        if let Some(Some(length)) = self.state().files.get(&file) {
            return *length;
        }
        let length = self.parts().segments.length(file).unwrap_or(0);
        if let Some(known) = self.state().files.get_mut(&file) {
            *known = Some(length);
        }
        length
    }

    /// How much of a file is live, in percent, if what is live may be moved out of it.
    pub(super) fn live_percent(&self, file: SegmentNumber, live_bytes: u64) -> Option<u64> {
        let below = file.is_moved() || file < self.floor().checkpoint.at.segment;
        let movable = below && !self.is_damaged(file);
        movable.then(|| live_bytes.saturating_mul(100) / self.length(file).max(1))
    }

    pub(super) fn add(&self, file: SegmentNumber) {
        self.state().files.insert(file, None);
    }

    pub(super) fn forget(&self, file: SegmentNumber) {
        self.state().files.remove(&file);
    }

    /// A number for a file of moved frames; never one that was used before.
    pub(super) fn next_moved(&self) -> SegmentNumber {
        let mut state = self.state();
        let number = state.next_moved;
        state.next_moved += 1;
        SegmentNumber::moved(number)
    }

    /// The first segment that may still be written to: those before it are among the files.
    pub(super) fn tail(&self) -> SegmentNumber {
        self.state().next
    }

    /// Has the files stay as they are for a while.
    pub(super) fn pause(&self) -> Pause {
        self.state().paused = true;
        Pause(self.clone())
    }

    /// Whether the files are to stay as they are.
    pub(super) fn is_paused(&self) -> bool {
        self.state().paused
    }

    pub(super) fn mark_damaged(&self, file: SegmentNumber) {
        self.state().damaged.insert(file);
    }

    pub(super) fn is_damaged(&self, file: SegmentNumber) -> bool {
        self.state().damaged.contains(&file)
    }

    /// Has readers look at the store as it is now; returns how new that is.
    pub(super) fn republish(&self) -> Result<u64, StoreError> {
        let view = self.parts().store.view_now()?;
        let age = view.age();
        let _ = self.parts().signals.send(Signal::Rebased(Box::new(view)));
        Ok(age)
    }
}
