//! Searches in the index, by halving: what the entries' totals say only grows from one to the next (`spec/rows.md`,
//! "Finding by time and by size").

use super::database::StoreError;
use super::index::IndexEntry;
use super::view::ReadView;
use crate::core::Cut;
use crate::types::{Offset, PartitionId, Timestamp};
use std::ops::Range;

impl IndexEntry {
    /// The newest timestamp among the partition's batches up to this one.
    fn newest_so_far(&self) -> Timestamp {
        self.before.newest.max(self.max_timestamp)
    }

    /// Bytes of the partition's batches up to this one, deleted ones included.
    #[must_use]
    pub fn bytes_so_far(&self) -> u64 {
        self.before.bytes.saturating_add(self.appended_bytes())
    }
}

impl ReadView {
    /// The first batch with records in `offsets` for which `reached` holds. It must hold for every batch behind that one too.
    /// Looks at about as many entries as the number of offsets has bits.
    fn first_reaching(
        &self,
        partition: PartitionId,
        offsets: &Range<Offset>,
        reached: impl Fn(&IndexEntry) -> bool,
    ) -> Result<Option<(Offset, IndexEntry)>, StoreError> {
        let (mut from, mut to) = (offsets.start, offsets.end);
        let mut found = None;
        while from < to {
            let middle = Offset(from.0 + (to.0 - from.0) / 2);
            let Some((last, entry)) = self.index(partition, middle).next().transpose()? else {
                to = middle;
                continue;
            };
            if entry.base_offset >= offsets.end {
                to = middle;
            } else if reached(&entry) {
                to = middle.min(entry.base_offset);
                found = Some((last, entry));
            } else {
                from = last.next();
            }
        }
        Ok(found)
    }

    /// The first batch with records in `offsets` that has a record of this time or a later one, and its last offset. Entry by entry it is looked
    /// for only where deleted records bore newer timestamps than those that are left.
    pub fn first_since(
        &self,
        partition: PartitionId,
        offsets: &Range<Offset>,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, IndexEntry)>, StoreError> {
        let reached = |entry: &IndexEntry| entry.newest_so_far() >= timestamp;
        let Some((last, first)) = self.first_reaching(partition, offsets, reached)? else { return Ok(None) };
        if first.max_timestamp >= timestamp {
            return Ok(Some((last, first)));
        }
        for entry in self.index(partition, first.base_offset.max(offsets.start)) {
            let (last, entry) = entry?;
            if entry.base_offset >= offsets.end {
                break;
            }
            if entry.max_timestamp >= timestamp {
                return Ok(Some((last, entry)));
            }
        }
        Ok(None)
    }

    /// The first of those batches with records in `offsets` whose newest timestamp no other's exceeds; none if no record has
    /// a time.
    pub fn newest_batch(
        &self,
        partition: PartitionId,
        offsets: &Range<Offset>,
    ) -> Result<Option<IndexEntry>, StoreError> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let last = Offset(offsets.end.0.saturating_sub(1));
        let Some((_, last)) = self.index(partition, last).next().transpose()? else { return Ok(None) };
        let newest = last.newest_so_far();
        if newest == Timestamp::NONE {
            return Ok(None);
        }
        let reached = |entry: &IndexEntry| entry.newest_so_far() >= newest;
        match self.first_reaching(partition, offsets, reached)? {
            Some((_, entry)) if entry.max_timestamp == newest => Ok(Some(entry)),
            // The newest record of all has been deleted before older ones.
            Some(_) => self.newest_by_looking(partition, offsets),
            None => Ok(None),
        }
    }

    fn newest_by_looking(
        &self,
        partition: PartitionId,
        offsets: &Range<Offset>,
    ) -> Result<Option<IndexEntry>, StoreError> {
        let mut newest: Option<IndexEntry> = None;
        for entry in self.index(partition, offsets.start) {
            let (_, entry) = entry?;
            if entry.base_offset >= offsets.end {
                break;
            }
            let before = newest.as_ref().map_or(Timestamp::NONE, |newest| newest.max_timestamp);
            if entry.max_timestamp > before {
                newest = Some(entry);
            }
        }
        Ok(newest)
    }

    /// The cut at the start of the batch that holds `offset`, or of the first one after it; none if there is none.
    pub fn cut_at(&self, partition: PartitionId, offset: Offset) -> Result<Option<Cut>, StoreError> {
        let entry = self.index(partition, offset).next().transpose()?;
        Ok(entry.map(|(_, entry)| Cut { offset, bytes: entry.before.bytes }))
    }

    /// The last cut between batches in `offsets` that has at most `bytes` below it, deleted ones included.
    pub fn cut_after_bytes(
        &self,
        partition: PartitionId,
        offsets: &Range<Offset>,
        bytes: u64,
    ) -> Result<Option<Cut>, StoreError> {
        let reached = |entry: &IndexEntry| entry.bytes_so_far() > bytes;
        let found = self.first_reaching(partition, offsets, reached)?;
        Ok(found.map(|(_, entry)| Cut { offset: entry.base_offset, bytes: entry.before.bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Totals;
    use crate::log::{Place, SegmentNumber};
    use crate::store::{Database, IndexKind, LayerBuilder, StoreLimits};
    use crate::types::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    /// A batch: how many records, how many bytes, its newest timestamp.
    type Written = (i64, u32, i64);

    fn partition() -> PartitionId {
        PartitionId::new(TopicId(Uuid::nil()), PartitionIndex(0))
    }

    /// The entries of a partition with these batches, by their last offsets.
    fn entries(batches: &[Written]) -> Vec<(Offset, IndexEntry)> {
        let (mut next, mut before) = (Offset::ZERO, Totals::default());
        let entry = |(records, length, time): &Written| {
            let base_offset = next;
            next = next.plus(*records);
            let max_timestamp = Timestamp(*time);
            let place = Place { segment: SegmentNumber(1), position: 0, length: *length, checksum: 0 };
            let entry = IndexEntry { base_offset, place, max_timestamp, before, kind: IndexKind::Plain };
            before = before.with(*length, max_timestamp);
            (Offset(next.0 - 1), entry)
        };
        batches.iter().map(entry).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn searches_find_what_looking_at_every_entry_finds(
            batches in proptest::collection::vec((1i64..5, 1u32..100, -1i64..40), 0..40),
            probes in proptest::collection::vec((0i64..160, 0i64..160, -1i64..45, 0u64..4_000), 1..24),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let database = Database::open(dir.path(), StoreLimits::default()).unwrap();
            let entries = entries(&batches);
            let mut layer = LayerBuilder::default();
            entries.iter().for_each(|(last, entry)| layer.put_index(partition(), *last, entry));
            let view = database.view(BlockNumber::ZERO).with_layer(layer.finish(BlockNumber(1)));
            let next = entries.last().map_or(0, |(last, _)| last.0 + 1);
            for (start, end, time, bytes) in probes {
                let offsets = Offset(start.min(next))..Offset(end.min(next));
                let inside: Vec<_> = entries
                    .iter()
                    .filter(|(last, entry)| *last >= offsets.start && entry.base_offset < offsets.end)
                    .filter(|_| offsets.start < offsets.end)
                    .cloned()
                    .collect();
                let since = inside.iter().find(|(_, entry)| entry.max_timestamp >= Timestamp(time)).cloned();
                prop_assert_eq!(view.first_since(partition(), &offsets, Timestamp(time)).unwrap(), since);
                let newest = inside.iter().map(|(_, entry)| entry.max_timestamp).max();
                let newest = newest.filter(|newest| *newest != Timestamp::NONE);
                let newest = newest.and_then(|newest| {
                    inside.iter().find(|(_, entry)| entry.max_timestamp == newest).map(|(_, entry)| entry.clone())
                });
                prop_assert_eq!(view.newest_batch(partition(), &offsets).unwrap(), newest);
                let cut = inside.iter().find(|(_, entry)| entry.bytes_so_far() > bytes);
                let cut = cut.map(|(_, entry)| Cut { offset: entry.base_offset, bytes: entry.before.bytes });
                prop_assert_eq!(view.cut_after_bytes(partition(), &offsets, bytes).unwrap(), cut);
            }
        }
    }
}
