//! Dumps the state rows into a file of its own now and then, a little at a time, so that the log below can be freed and a
//! damaged store made anew (`spec/rows.md`, "Snapshots").

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::Now;
use crate::store::{Applied, ReadView, SnapshotError, SnapshotWriter, StoreError};
use crate::types::ServedTime;
use std::time::Duration;

/// How long to wait after the disk has refused.
const BACKOFF: Duration = Duration::from_secs(10);

/// See the module.
pub(in crate::shard) struct TakeSnapshots {
    ground: Ground,
    writing: Option<SnapshotWriter>,
    not_before: ServedTime,
}

impl TakeSnapshots {
    pub(in crate::shard) fn new(ground: Ground) -> TakeSnapshots {
        TakeSnapshots { ground, writing: None, not_before: ServedTime(0) }
    }

    /// Whether a snapshot is worth what it writes: enough log has been written since the last one, or enough of what is
    /// dead waits for the next one.
    fn is_due(&self) -> Result<bool, StoreError> {
        let parts = self.ground.parts();
        let (store, limits) = (&parts.store, &parts.limits);
        let applied = store.applied()?;
        let last = self.ground.snapshot();
        let from = last.as_ref().map_or(Applied::NOTHING, |last| last.header.applied);
        let grown = self.distance(from, applied);
        let price = last.map_or(0, |last| last.bytes).saturating_mul(limits.snapshot_share);
        if grown >= limits.snapshot_log_bytes.max(price) {
            return Ok(true);
        }
        let (from, to) = (from.checkpoint.at.segment, applied.checkpoint.at.segment);
        if from == to {
            return Ok(false);
        }
        let uses = store.segment_uses();
        let waiting = self.ground.files()?.into_iter().filter(|file| (from..to).contains(file));
        let length = u64::from(parts.segment_length);
        let live = waiting.map(|file| uses.get(&file).map_or(0, |used| used.bytes.min(length)));
        let worth = live.filter(|live| live * 100 / length.max(1) < limits.move_live_percent);
        let dead: u64 = worth.map(|live| length - live).sum();
        Ok(dead > 0 && (dead >= price || parts.pressure.is_short()))
    }

    /// Bytes of log between two blocks, about.
    fn distance(&self, from: Applied, to: Applied) -> u64 {
        let position = |applied: Applied| {
            let at = applied.checkpoint.at;
            let length = u64::from(self.ground.parts().segment_length);
            at.segment.0.saturating_mul(length).saturating_add(u64::from(at.position))
        };
        position(to).saturating_sub(position(from))
    }

    fn advance(&mut self) -> Result<(), SnapshotError> {
        let parts = self.ground.parts();
        let Some(mut writing) = self.writing.take() else {
            if self.is_due()? {
                let view = parts.store.view_now()?;
                self.writing = Some(parts.snapshots.begin(&view, parts.segments.identity())?);
            }
            return Ok(());
        };
        match writing.advance(parts.limits.snapshot_turn_bytes) {
            Ok(false) => self.writing = Some(writing),
            Ok(true) => {
                // First the store itself has what the snapshot says is applied. Otherwise a power cut could make the last
                // block of the log one that is not applied, and that one is written again at another place.
                parts.store.persist()?;
                let snapshot = writing.finish()?;
                tracing::debug!(bytes = snapshot.bytes, block = %snapshot.header.applied.checkpoint.block, "a snapshot of the rows is complete");
                parts.metrics.log.snapshots.add(snapshot.bytes);
                parts.snapshots.retain(Some(&snapshot))?;
                self.ground.set_snapshot(snapshot);
            }
            Err(error) => {
                // It is written anew in any case; what is left is removed with the next one.
                let _ = writing.abandon();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Duty for TakeSnapshots {
    fn name(&self) -> &'static str {
        "take-snapshots"
    }

    fn period(&self) -> Duration {
        let rest = self.ground.parts().limits.rest;
        if self.writing.is_some() { rest } else { rest * 10 }
    }

    fn turn(&mut self, _view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        if now.served < self.not_before || self.ground.is_paused() {
            return Ok(Turn::default());
        }
        match self.advance() {
            Ok(()) => {}
            Err(SnapshotError::Store(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a snapshot of the rows could not be written; it is tried again");
                self.not_before = now.served.plus(BACKOFF);
            }
        }
        Ok(Turn::default())
    }
}
