//! Removes index entries of deleted partitions, and those below the log start, in slices. What they pointed to is dead then.
//!
//! The index is not part of what is decided, and can be made anew: so this changes the store itself, and writes no event.
//! It looks at the store without layers: an entry that is dead there is in the store already, and stays dead.

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::Now;
use crate::store::{ReadView, Removed, StoreError, Swept};
use crate::types::{BlockNumber, ServedTime};
use std::time::Duration;

/// See the module.
pub(in crate::shard) struct TrimIndex {
    ground: Ground,
    /// Where the next look begins.
    from: Vec<u8>,
    /// What was applied when the round began, and when the last one that found nothing did.
    began: BlockNumber,
    trimmed: Option<BlockNumber>,
    found: bool,
    /// What was removed since a moment.
    removed: Removed,
    removed_since: ServedTime,
}

/// After so long everything is looked at again: deleted partitions are then forgotten here, and so are entries missed that
/// moving or compaction had put back below the log start.
const LOOK_AT_ALL: Duration = Duration::from_mins(10);

impl TrimIndex {
    pub(in crate::shard) fn new(ground: Ground) -> TrimIndex {
        TrimIndex {
            ground,
            from: Vec::new(),
            began: BlockNumber::ZERO,
            trimmed: None,
            found: false,
            removed: Removed::new(),
            removed_since: ServedTime(0),
        }
    }
}

impl Duty for TrimIndex {
    fn name(&self) -> &'static str {
        "trim-index"
    }

    fn period(&self) -> Duration {
        // What is deleted gives its space back about so much later.
        self.ground.parts().limits.rest * 5
    }

    fn turn(&mut self, _view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let parts = self.ground.parts();
        let view = parts.store.view_now()?;
        if self.from.is_empty() {
            if now.served >= self.removed_since.plus(LOOK_AT_ALL) {
                self.removed.clear();
                (self.removed_since, self.trimmed) = (now.served, None);
            }
            if self.trimmed == Some(view.durable()) {
                return Ok(Turn::default());
            }
            self.began = view.durable();
            self.found = false;
        }
        let dead = view.dead_rows(Swept::Index, &self.from, parts.limits.trim_entries, &self.removed)?;
        let found = !dead.rows.is_empty();
        if found {
            parts.store.remove_index(&dead.rows)?;
            self.removed.extend(dead.removed()?);
        }
        self.found |= found;
        self.from = dead.next.unwrap_or_default();
        if self.from.is_empty() && !self.found {
            self.trimmed = Some(self.began);
        }
        Ok(Turn { commands: Vec::new(), more: found })
    }
}
