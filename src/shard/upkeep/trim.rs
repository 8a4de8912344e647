//! Removes index entries of deleted partitions, and those below the log start, in slices. What they pointed to is dead then.
//!
//! The index is not part of what is decided, and can be made anew: so this changes the store itself, and writes no event.
//! It looks at the store without layers: an entry that is dead there is in the store already, and stays dead.

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::Now;
use crate::store::{ReadView, StoreError, Swept};
use crate::types::BlockNumber;
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
}

impl TrimIndex {
    pub(in crate::shard) fn new(ground: Ground) -> TrimIndex {
        TrimIndex { ground, from: Vec::new(), began: BlockNumber::ZERO, trimmed: None, found: false }
    }
}

impl Duty for TrimIndex {
    fn name(&self) -> &'static str {
        "trim-index"
    }

    fn period(&self) -> Duration {
        // What is deleted gives its space back about so much later.
        self.ground.parts().limits.rest * 10
    }

    fn turn(&mut self, _view: &ReadView, _now: Now) -> Result<Turn, StoreError> {
        let parts = self.ground.parts();
        let view = parts.store.view_now()?;
        if self.from.is_empty() {
            if self.trimmed == Some(view.durable()) {
                return Ok(Turn::default());
            }
            self.began = view.durable();
            self.found = false;
        }
        let dead = view.dead_rows(Swept::Index, &self.from, parts.limits.trim_entries)?;
        let found = !dead.rows.is_empty();
        if found {
            parts.store.remove_index(&dead.rows)?;
        }
        self.found |= found;
        self.from = dead.next.unwrap_or_default();
        if self.from.is_empty() && !self.found {
            self.trimmed = Some(self.began);
        }
        Ok(Turn { commands: Vec::new(), more: found })
    }
}
