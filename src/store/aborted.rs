//! Whether batches belong to aborted transactions, for who goes through a partition in order.

use super::index::{IndexEntry, IndexKind};
use crate::types::{Offset, ProducerId};
use std::collections::HashMap;

/// Each producer's next aborted range, as far as it has been asked for: (first offset, marker), or that there is none. It
/// holds as long as the view does that it is asked of.
#[derive(Debug, Default)]
pub struct AbortedOutlook(HashMap<ProducerId, Option<(Offset, Offset)>>);

impl AbortedOutlook {
    /// Whether the batch belongs to an aborted transaction. It must lie below the last stable offset, so its transaction has
    /// ended; a producer's ranges do not overlap: so its next one holds the batch or none does. Entries are to be asked
    /// for in the order of their offsets. `next_aborted` finds a producer's first aborted range whose marker is at an
    /// offset or after it.
    pub fn is_aborted<E>(
        &mut self,
        entry: &IndexEntry,
        next_aborted: impl FnOnce(ProducerId, Offset) -> Result<Option<(Offset, Offset)>, E>,
    ) -> Result<bool, E> {
        // What compaction has rewritten was committed.
        let IndexKind::Transactional { producer } = entry.kind else { return Ok(false) };
        let offset = entry.base_offset;
        let next = match self.0.get(&producer) {
            Some(None) => None,
            Some(Some((first, marker))) if offset <= *marker => Some((*first, *marker)),
            _ => {
                let next = next_aborted(producer, offset)?;
                self.0.insert(producer, next);
                next
            }
        };
        Ok(next.is_some_and(|(first, _)| first <= offset))
    }
}
