//! One pass over a partition: what it notes of the records that it has not seen yet, and what becomes of each batch by that.

use super::key_map::KeyMap;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Compacted, CompactedRange, Totals};
use crate::store::{IndexEntry, IndexKind};
use crate::types::{Offset, PartitionId, ProducerId, Timestamp};
use crate::wire::batch::{Batch, BatchError, BatchLimits, FetchedRecord, Retained, retain};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Neighbouring batches of which one gap is made: one batch of index changes takes a few of these.
const GAP_ENTRIES_MAX: usize = 256;

/// See the module.
pub(super) struct Pass {
    pub(super) partition: PartitionId,
    /// The log start, where the writing begins.
    pub(super) start: Offset,
    /// What lies below has been compacted before.
    pub(super) from: Offset,
    /// What lies at or above it is not touched. Lower than it was at first, if the keys of all records do not fit into the
    /// map: the rest is the next pass's.
    pub(super) end: Offset,
    /// Tombstones and markers below it have been kept long enough.
    forgets_below: Offset,
    keys: KeyMap,
    /// Producers whose transaction has left records since its last marker.
    with_records: BTreeSet<ProducerId>,
    run: Option<Run>,
}

/// Neighbouring batches of which nothing is left.
struct Run {
    first: Offset,
    last: Offset,
    before: Totals,
    bytes: u64,
    entries: usize,
    /// Whether it is what the index says already.
    is_known: bool,
}

/// What is to be known of a batch before it is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing of it is left.
    Drop,
    /// It stays.
    Keep,
    /// That depends on its records.
    ByRecords(Option<ProducerId>),
}

/// A frame to be written.
pub(super) type Made = (Compacted, Bytes);

impl Pass {
    pub(super) fn new(
        partition: PartitionId,
        (start, from, end): (Offset, Offset, Offset),
        forgets_below: Offset,
        map_bytes: usize,
    ) -> Pass {
        let records = u64::try_from(end.0 - from.0).unwrap_or(0);
        let keys = KeyMap::new(records, map_bytes);
        let with_records = BTreeSet::new();
        Pass { partition, start, from, end, forgets_below, keys, with_records, run: None }
    }

    /// Notes the keys of a batch's records. False if there is no room for all: then the pass ends before the first for
    /// whose key there is none.
    pub(super) fn note(&mut self, batch: Bytes) -> Result<bool, BatchError> {
        for record in Batch::new(batch)?.records(&BatchLimits::default())? {
            let FetchedRecord { offset, record, .. } = record?;
            if offset < self.from {
                continue;
            }
            if let Some(key) = &record.key
                && !self.keys.note(key, offset)
            {
                self.end = offset;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What becomes of a batch, as far as its entry says. `is_aborted` says whether its transaction was.
    pub(super) fn judge(&mut self, last: Offset, entry: &IndexEntry, is_aborted: bool) -> Judged {
        match entry.kind {
            IndexKind::Gap { .. } => Judged::Drop,
            _ if is_aborted => Judged::Drop,
            IndexKind::Plain => Judged::ByRecords(None),
            IndexKind::Transactional { producer } => Judged::ByRecords(Some(producer)),
            IndexKind::Rewritten { producer, .. } => Judged::ByRecords(producer),
            IndexKind::Marker { producer, .. } => {
                let has_records = self.with_records.remove(&producer);
                if last < self.forgets_below && !has_records { Judged::Drop } else { Judged::Keep }
            }
        }
    }

    /// What is left of a batch's records.
    pub(super) fn retain(&self, batch: Bytes) -> Result<Retained, BatchError> {
        retain(&Batch::new(batch)?, &BatchLimits::default(), |record| self.keeps(record))
    }

    fn keeps(&self, FetchedRecord { offset, record, .. }: &FetchedRecord) -> bool {
        if *offset >= self.end {
            return true;
        }
        // Without a key nothing can supersede it: it is from before the topic was compacted.
        let Some(key) = &record.key else { return false };
        let is_forgotten = record.value.is_none() && *offset < self.forgets_below;
        !is_forgotten && !self.keys.supersedes(key, *offset)
    }

    /// A batch stays, whole or in part, as `producer`'s transaction's if it was part of one. Returns what is to be written
    /// of it, with the gap before it.
    pub(super) fn kept(
        &mut self,
        last: Offset,
        entry: &IndexEntry,
        producer: Option<ProducerId>,
        rewritten: Option<(Bytes, Timestamp)>,
        generation: u64,
    ) -> Vec<Made> {
        self.with_records.extend(producer);
        let mut made: Vec<Made> = self.end_gap(generation).into_iter().collect();
        if let Some((batch, max_timestamp)) = rewritten {
            let of = CompactedRange {
                partition: self.partition,
                first: entry.base_offset,
                last,
                before: entry.before,
                bytes: entry.appended_bytes(),
                generation,
            };
            made.push((Compacted::Batch { of, max_timestamp, producer }, batch));
        }
        made
    }

    /// Nothing is left of a batch. Returns a gap that has become long enough.
    pub(super) fn dropped(&mut self, last: Offset, entry: &IndexEntry, generation: u64) -> Option<Made> {
        match &mut self.run {
            Some(run) => {
                run.last = last;
                // Also of those between that have gone below the log start meanwhile.
                run.bytes = entry.bytes_so_far().saturating_sub(run.before.bytes);
                run.entries += 1;
                run.is_known = false;
            }
            None => {
                self.run = Some(Run {
                    first: entry.base_offset,
                    last,
                    before: entry.before,
                    bytes: entry.appended_bytes(),
                    entries: 1,
                    is_known: entry.kind.is_gap(),
                });
            }
        }
        let is_long = self.run.as_ref().is_some_and(|run| run.entries >= GAP_ENTRIES_MAX);
        if is_long { self.end_gap(generation) } else { None }
    }

    /// The gap ends here, if there is one that is not known yet.
    pub(super) fn end_gap(&mut self, generation: u64) -> Option<Made> {
        let Run { first, last, before, bytes, .. } = self.run.take().filter(|run| !run.is_known)?;
        let of = CompactedRange { partition: self.partition, first, last, before, bytes, generation };
        (!mutated(Mutant::GapNotWritten)).then_some((Compacted::Gap { of }, Bytes::new()))
    }
}
