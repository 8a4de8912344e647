//! Frees segments in which nothing is live: below the last completed checkpoint and the last complete snapshot.
//!
//! The order is what makes it safe. The index no longer points into the segment; the view that readers take has that; the
//! store has made it durable; only then the reader lets go and the file is recycled. Who still holds a place in it is told
//! that it is gone, looks the place up again, and finds where it has moved, or that it was deleted.

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::Now;
use crate::log::SegmentNumber;
use crate::store::{Applied, ReadView, StoreError};
use std::time::Duration;

/// A spare is kept for so many files: at full speed what is dead comes free a dozen segments at a time, and a new one has
/// to get its space first, and for short blocks its zeroes.
const FILES_PER_SPARE: usize = 2;

/// See the module.
pub(in crate::shard) struct FreeSegments {
    ground: Ground,
    /// What is to be freed once readers' views are this new.
    doomed: Option<(u64, Vec<SegmentNumber>)>,
}

impl FreeSegments {
    pub(in crate::shard) fn new(ground: Ground) -> FreeSegments {
        FreeSegments { ground, doomed: None }
    }

    /// Segments below `floor` that nothing points into.
    fn dead(&self, floor: Applied) -> Result<Vec<SegmentNumber>, StoreError> {
        let uses = self.ground.parts().store.segment_uses();
        let floor = floor.checkpoint.at.segment;
        // What is still to be laid over the index is not dead.
        let laying_over = self.ground.parts().store.laying_over()?;
        let mut dead = self.ground.files()?;
        dead.retain(|file| {
            let is_below = file.is_moved() || *file < floor;
            is_below && !uses.contains_key(file) && laying_over != Some(*file)
        });
        dead.truncate(self.ground.parts().limits.free_segments);
        Ok(dead)
    }

    fn free(&self, doomed: &[SegmentNumber]) -> Result<(), StoreError> {
        let parts = self.ground.parts();
        parts.store.persist()?;
        let spares = self.ground.files()?.len() / FILES_PER_SPARE;
        for segment in doomed {
            let retired = parts.reader.retire(*segment);
            if let Err(error) = parts.recycler.recycle(retired, spares) {
                tracing::warn!(%segment, %error, "a freed log segment could not be taken back");
            }
            self.ground.forget(*segment);
        }
        if parts.pressure.is_short()
            && let Err(error) = parts.recycler.release()
        {
            tracing::warn!(%error, "segment files kept for later use could not be removed");
        }
        tracing::debug!(segments = doomed.len(), "segments of the log are freed");
        Ok(())
    }
}

impl Duty for FreeSegments {
    fn name(&self) -> &'static str {
        "free-segments"
    }

    fn period(&self) -> Duration {
        // Each look goes through the list of segments. At full speed a few come free between two: few enough to become spares.
        let rest = self.ground.parts().limits.rest;
        if self.doomed.is_some() { rest } else { rest * 3 }
    }

    fn turn(&mut self, view: &ReadView, _now: Now) -> Result<Turn, StoreError> {
        if self.ground.is_paused() {
            return Ok(Turn::default());
        }
        let floor = self.ground.floor();
        match self.doomed.take() {
            None => {
                let dead = self.dead(floor)?;
                if !dead.is_empty() {
                    self.doomed = Some((self.ground.republish()?, dead));
                }
                Ok(Turn::default())
            }
            // A layer could still say where something lay; all blocks in dead segments are below the floor's.
            Some((age, doomed))
                if view.age() >= age
                    && view.layers_begin().is_none_or(|first| first > floor.checkpoint.block) =>
            {
                self.free(&doomed)?;
                Ok(Turn { commands: Vec::new(), more: true })
            }
            waiting => {
                self.doomed = waiting;
                Ok(Turn::default())
            }
        }
    }
}
