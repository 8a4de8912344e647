//! Looks at the space of the log and at the store now and then, for metrics.

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::Now;
use crate::store::{ReadView, StoreError};
use std::time::Duration;

/// See the module.
pub(in crate::shard) struct SurveySpace {
    ground: Ground,
}

impl SurveySpace {
    pub(in crate::shard) fn new(ground: Ground) -> SurveySpace {
        SurveySpace { ground }
    }

    fn look_at_files(&self) -> Result<(), StoreError> {
        let parts = self.ground.parts();
        let space = &parts.metrics.space;
        let uses = parts.store.segment_uses();
        let files = self.ground.files()?;
        let (mut bytes, mut live, mut to_move) = (0, 0, 0);
        for file in &files {
            let length = self.ground.length(*file);
            // What is said of a use is rather too much.
            let used = uses.get(file).map_or(0, |used| used.bytes.min(length));
            bytes += length;
            live += used;
            let percent = self.ground.live_percent(*file, used);
            if percent.is_some_and(|percent| percent < parts.limits.move_live_percent) {
                to_move += used;
            }
        }
        space.segments.set(files.len() as u64);
        space.moved_files.set(files.iter().filter(|file| file.is_moved()).count() as u64);
        space.bytes.set(bytes);
        space.live_bytes.set(live);
        space.to_move_bytes.set(to_move);
        Ok(())
    }

    fn look_at_snapshot(&self, now: Now) -> Result<(), StoreError> {
        let parts = self.ground.parts();
        let space = &parts.metrics.space;
        let Some(snapshot) = self.ground.snapshot() else { return Ok(()) };
        let taken = snapshot.header.applied;
        let age = now.served.since(taken.served);
        space.snapshot_bytes.set(snapshot.bytes);
        space.snapshot_age_ms.set(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let blocks = parts.store.applied()?.checkpoint.block.0.saturating_sub(taken.checkpoint.block.0);
        space.snapshot_blocks.set(blocks);
        Ok(())
    }

    fn look_at_store(&self) -> Result<(), StoreError> {
        let parts = self.ground.parts();
        let space = &parts.metrics.space;
        let sizes = parts.store.sizes()?;
        space.store_bytes.set(sizes.tables_bytes);
        space.store_journal_bytes.set(sizes.journal_bytes);
        space.store_memory_bytes.set(sizes.memtables_bytes);
        space.store_cache_bytes.set(sizes.cache_bytes);
        space.store_tables_l0.set(sizes.tables_l0);
        space.store_flushes_waiting.set(sizes.flushes_waiting);
        Ok(())
    }
}

impl Duty for SurveySpace {
    fn name(&self) -> &'static str {
        "survey-space"
    }

    fn period(&self) -> Duration {
        self.ground.parts().limits.rest * 10
    }

    fn turn(&mut self, _view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        self.look_at_files()?;
        self.look_at_snapshot(now)?;
        self.look_at_store()?;
        Ok(Turn::default())
    }
}
