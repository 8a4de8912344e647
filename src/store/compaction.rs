//! What compaction knows of a partition, and how what it has written takes the place of what was there (`spec/rows.md`,
//! "Compaction").

use super::database::{Database, StoreError};
use super::index::IndexEntry;
use super::keys::{KeyBytes, KeyReader, encode_index_key, kind};
use super::view::ReadView;
use crate::codec;
use crate::core::PartitionRow;
use crate::core::mutant::{Mutant, mutated};
use crate::types::codec::Codec;
use crate::types::{Offset, PartitionId, ServedTime};
use std::time::Duration;

/// What compaction knows of a partition. If it is lost, the partition counts as never compacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionRow {
    /// Of each key, only the newest record below this offset is left, and perhaps others that are kept for a while.
    pub cleaned_to: Offset,
    /// Bytes of what the index has that compaction has taken away.
    pub removed_bytes: u64,
    /// Up to where everything had been compacted, and when: growing in both. From then on a tombstone below it waits.
    pub seen: Vec<(Offset, ServedTime)>,
}
codec!(CompactionRow { cleaned_to, removed_bytes, seen });

/// Times that are remembered within the retention of tombstones: so a tombstone stays longer by this part of it at most.
const SEEN_PER_RETENTION: u32 = 32;

/// Times that are remembered at all, whatever the retention was before.
const SEEN_MAX: usize = 128;

impl CompactionRow {
    /// Below this offset, what only readers need that had begun before is not needed any more: it has been compacted for
    /// longer than `retention`.
    #[must_use]
    pub fn forgets_below(&self, now: ServedTime, retention: Duration) -> Offset {
        let is_past = |(_, at): &&(Offset, ServedTime)| now.since(*at) >= retention;
        self.seen.iter().rev().find(is_past).map_or(Offset::ZERO, |(offset, _)| *offset)
    }

    /// Everything up to `to` is compacted.
    pub fn passed(&mut self, to: Offset, now: ServedTime, retention: Duration) {
        self.cleaned_to = self.cleaned_to.max(to);
        let is_past = |(_, at): &(Offset, ServedTime)| now.since(*at) >= retention;
        // Of those that are past, the newest says it all.
        let past = self.seen.iter().take_while(|seen| is_past(seen)).count();
        self.seen.drain(..past.saturating_sub(1));
        let apart = retention / SEEN_PER_RETENTION;
        let is_due = self.seen.last().is_none_or(|(_, last)| now.since(*last) >= apart);
        if is_due && self.seen.len() < SEEN_MAX {
            self.seen.push((to, now));
        }
    }

    /// The bytes of its key.
    pub(super) fn key(partition: PartitionId) -> Vec<u8> {
        KeyBytes::new(kind::COMPACTION).partition(partition).done()
    }

    pub(super) fn read(key: &[u8], row: &[u8]) -> Result<CompactionRow, StoreError> {
        CompactionRow::from_bytes(row).map_err(|source| StoreError::damaged(key, source))
    }
}

/// An entry that compaction has written, to be laid over what the index has.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// Where.
    pub partition: PartitionId,
    /// Its last offset.
    pub last: Offset,
    /// The entry, [`Rewritten`](super::IndexKind::Rewritten) or [`Gap`](super::IndexKind::Gap).
    pub entry: IndexEntry,
}

/// Entries that change in one batch: fjall's other writer waits for no longer than that.
const CHANGES_AT_ONCE: usize = 2_000;

/// Changes of one partition's index.
#[derive(Default)]
struct Changes {
    gone: Vec<(Vec<u8>, IndexEntry)>,
    put: Vec<(Vec<u8>, IndexEntry)>,
}

impl Database {
    /// Lets entries that compaction has written take the place of those that they cover, in order, so that of a
    /// partition the older part is always changed first. An entry changes nothing where the index has a newer one or ends
    /// before it, below the log start, and where its partition is gone.
    pub fn lay_over(&self, overlays: &[Overlay]) -> Result<(), StoreError> {
        // Entries of a run do not meet, so that each can be judged by one view.
        for run in overlays.chunk_by(|a, b| a.partition == b.partition && a.last < b.entry.base_offset) {
            let view = self.view_now()?;
            let Some(partition) = run.first().map(|overlay| overlay.partition) else { continue };
            let Some(row) = view.get::<PartitionRow>(&partition)? else { continue };
            let mut changes = Changes::default();
            let is_here = |overlay: &&Overlay| (row.log_start..row.next_offset).contains(&overlay.last);
            for overlay in run.iter().filter(is_here) {
                changes.add(&view, overlay)?;
                if changes.gone.len() + changes.put.len() >= CHANGES_AT_ONCE {
                    self.change(partition, std::mem::take(&mut changes))?;
                }
            }
            self.change(partition, changes)?;
        }
        Ok(())
    }

    fn change(&self, partition: PartitionId, changes: Changes) -> Result<(), StoreError> {
        let Changes { gone, put } = changes;
        if put.is_empty() {
            return Ok(());
        }
        let removed = |entries: &[(Vec<u8>, IndexEntry)]| {
            entries.iter().map(|(_, entry)| entry.removed_bytes()).fold(0, u64::saturating_add)
        };
        let mut row = self.compaction(partition)?.unwrap_or_default();
        row.removed_bytes = row.removed_bytes.saturating_sub(removed(&gone)).saturating_add(removed(&put));
        self.replace_index(&gone, &put, (CompactionRow::key(partition), row.to_bytes()))
    }
}

impl Changes {
    fn add(&mut self, view: &ReadView, overlay: &Overlay) -> Result<(), StoreError> {
        let Overlay { partition, last, entry } = overlay;
        let mut covered = Vec::new();
        for other in view.index(*partition, entry.base_offset) {
            let (other_last, other) = other?;
            if other.base_offset > *last {
                break;
            }
            let within = other.base_offset >= entry.base_offset && other_last <= *last;
            let mut is_newer = other.kind.generation() >= entry.kind.generation();
            if mutated(Mutant::OlderGenerationCounts) {
                is_newer = other.kind.generation() > 0;
            }
            if !within || is_newer {
                return Ok(());
            }
            covered.push((encode_index_key(*partition, other_last), other));
        }
        self.gone.append(&mut covered);
        self.put.push((encode_index_key(*partition, *last), entry.clone()));
        Ok(())
    }
}

impl ReadView {
    /// What compaction knows of a partition.
    pub fn compaction(&self, partition: PartitionId) -> Result<Option<CompactionRow>, StoreError> {
        let key = CompactionRow::key(partition);
        self.bytes(&key)?.map(|row| CompactionRow::read(&key, &row)).transpose()
    }

    /// The partitions that compaction knows something of and that are gone.
    pub fn forgotten_compactions(&self) -> Result<Vec<PartitionId>, StoreError> {
        let mut gone = Vec::new();
        for row in self.range(&[kind::COMPACTION], &[kind::COMPACTION + 1]) {
            let (key, _) = row?;
            let partition = KeyReader::new(&key).and_then(|mut key| key.partition());
            let partition = partition.ok_or_else(|| StoreError::damaged_key(&key))?;
            if self.get::<PartitionRow>(&partition)?.is_none() {
                gone.push(partition);
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(minutes: u64) -> ServedTime {
        ServedTime(minutes * 60_000)
    }

    #[test]
    fn what_is_kept_for_readers_goes_when_its_time_is_over_and_not_before() {
        let mut row = CompactionRow::default();
        assert_eq!(row.forgets_below(at(1_000), HOUR), Offset::ZERO);
        row.passed(Offset(10), at(0), HOUR);
        row.passed(Offset(20), at(30), HOUR);
        assert_eq!(row.cleaned_to, Offset(20));
        assert_eq!(row.forgets_below(at(59), HOUR), Offset::ZERO);
        assert_eq!(row.forgets_below(at(60), HOUR), Offset(10));
        assert_eq!(row.forgets_below(at(89), HOUR), Offset(10));
        assert_eq!(row.forgets_below(at(90), HOUR), Offset(20));
        assert_eq!(
            row.forgets_below(at(40), Duration::from_secs(600)),
            Offset(20),
            "the retention of now counts"
        );
    }

    #[test]
    fn many_passes_leave_few_times_and_tombstones_still_go() {
        let mut row = CompactionRow::default();
        for minute in 0..10_000_u64 {
            row.passed(Offset(minute.cast_signed()), at(minute), HOUR);
            assert!(row.seen.len() <= SEEN_PER_RETENTION as usize + 2);
            let forgets = row.forgets_below(at(minute), HOUR).0;
            let minute = minute.cast_signed();
            assert!(forgets <= (minute - 60).max(0) && forgets >= minute - 60 - 3, "{forgets} at {minute}");
        }
    }
}
