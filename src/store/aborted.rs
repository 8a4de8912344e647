//! Whether batches belong to aborted transactions, for who goes through a partition in order.

use super::database::StoreError;
use super::index::{IndexEntry, IndexKind};
use super::keys::{KeyBytes, KeyReader, kind};
use super::view::ReadView;
use crate::core::AbortedKey;
use crate::types::{HashMap, Offset, PartitionId, ProducerId};

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

/// Some aborted ranges of a partition, and where to go on looking.
#[derive(Debug, Default)]
pub struct AbortedRanges {
    /// Their keys.
    pub keys: Vec<AbortedKey>,
    /// Where the next look begins; none after the last range.
    pub next: Option<Vec<u8>>,
}

impl ReadView {
    /// Looks at up to `looks_max` aborted ranges of a partition from `from` on (where an earlier look ended; empty for the
    /// first), and returns those whose marker lies below an offset.
    pub fn aborted_below(
        &self,
        partition: PartitionId,
        below: Offset,
        from: &[u8],
        looks_max: usize,
    ) -> Result<AbortedRanges, StoreError> {
        let start = KeyBytes::new(kind::ABORTED).partition(partition).done();
        let end = KeyBytes::new(kind::ABORTED).partition(partition.next()).done();
        let from = if from.is_empty() { &start[..] } else { from };
        let mut found = AbortedRanges::default();
        for (looks, row) in self.range(from, &end).enumerate() {
            let (bytes, _) = row?;
            if looks >= looks_max {
                found.next = Some(bytes);
                break;
            }
            let key = KeyReader::new(&bytes).and_then(|mut key| aborted_key(&mut key));
            let key = key.ok_or_else(|| StoreError::damaged_key(&bytes))?;
            if key.marker < below {
                found.keys.push(key);
            }
        }
        Ok(found)
    }
}

/// Reads the rest of an aborted range's key.
pub(super) fn aborted_key(key: &mut KeyReader<'_>) -> Option<AbortedKey> {
    let (partition, producer) = (key.partition()?, ProducerId(key.number()?));
    Some(AbortedKey { partition, producer, marker: Offset(key.number()?) })
}
