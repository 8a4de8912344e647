//! How much of each segment is still pointed to by the index. Kept in memory, and in rows that change in the same batch as
//! the index, so that it survives a restart without a look at the segments (`spec/rows.md`, "Segments").

use super::database::StoreError;
use super::index::IndexEntry;
use super::keys::{KeyBytes, KeyReader, kind};
use super::view::ReadView;
use crate::codec;
use crate::log::{Place, SegmentNumber};
use crate::types::codec::Codec;
use std::collections::{BTreeMap, BTreeSet};

/// What of a segment is pointed to. What is not is dead: nothing reads it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentUse {
    /// Index entries that point into it.
    pub entries: u64,
    /// Bytes of the payloads they point to, and [`FRAME_BYTES`] for each.
    pub bytes: u64,
}
codec!(SegmentUse { entries, bytes });

/// Where in some segments the index points to, and where to go on looking.
#[derive(Debug, Default)]
pub struct Places {
    /// The places, in the order of the index.
    pub places: Vec<Place>,
    /// Where the next look begins; none after the last entry.
    pub next: Option<Vec<u8>>,
}

impl ReadView {
    /// Looks at up to `looks_max` entries of the index from `from` on (where an earlier look ended; empty for the first),
    /// and returns the places of those that point into one of `segments`.
    pub fn places_in(
        &self,
        segments: &BTreeSet<SegmentNumber>,
        from: &[u8],
        looks_max: usize,
    ) -> Result<Places, StoreError> {
        let from = if from.is_empty() { &[kind::INDEX] } else { from };
        let mut found = Places::default();
        for (looks, row) in self.range(from, &[kind::INDEX + 1]).enumerate() {
            let (key, row) = row?;
            if looks >= looks_max {
                found.next = Some(key);
                break;
            }
            let entry = IndexEntry::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            if segments.contains(&entry.place.segment) {
                found.places.push(entry.place);
            }
        }
        Ok(found)
    }
}

/// What a frame takes besides its payload, rather too much than too little: so a file of nothing but live frames never
/// looks half dead, however small they are.
const FRAME_BYTES: u64 = 128;

/// All segments that are pointed to: as many as fit on the disk.
#[derive(Debug, Default)]
pub(super) struct SegmentUses {
    uses: BTreeMap<SegmentNumber, SegmentUse>,
    /// What has changed since it was last written.
    changed: BTreeSet<SegmentNumber>,
}

impl SegmentUses {
    pub(super) fn key(segment: SegmentNumber) -> Vec<u8> {
        KeyBytes::new(kind::SEGMENT).unsigned(segment.0).done()
    }

    /// As the rows have it. If there are no such rows, the index is counted once, and the rows come with the next batch.
    pub(super) fn load(view: &ReadView) -> Result<SegmentUses, StoreError> {
        let mut loaded = SegmentUses::default();
        for row in view.range(&[kind::SEGMENT], &[kind::SEGMENT + 1]) {
            let (key, row) = row?;
            let segment = KeyReader::new(&key).and_then(|mut key| key.unsigned());
            let segment = SegmentNumber(segment.ok_or_else(|| StoreError::damaged_key(&key))?);
            let used = SegmentUse::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            loaded.uses.insert(segment, used);
        }
        if loaded.uses.is_empty() { SegmentUses::count(view) } else { Ok(loaded) }
    }

    /// As the index has it.
    fn count(view: &ReadView) -> Result<SegmentUses, StoreError> {
        let mut counted = SegmentUses::default();
        for row in view.range(&[kind::INDEX], &[kind::INDEX + 1]) {
            let (key, row) = row?;
            let entry = IndexEntry::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            counted.add(entry.place);
        }
        Ok(counted)
    }

    pub(super) fn add(&mut self, place: Place) {
        let used = self.uses.entry(place.segment).or_default();
        used.entries = used.entries.saturating_add(1);
        used.bytes = used.bytes.saturating_add(u64::from(place.length) + FRAME_BYTES);
        self.changed.insert(place.segment);
    }

    pub(super) fn take(&mut self, place: Place) {
        let used = self.uses.entry(place.segment).or_default();
        debug_assert!(used.entries > 0, "only what was added is taken");
        used.entries = used.entries.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(u64::from(place.length) + FRAME_BYTES);
        self.changed.insert(place.segment);
    }

    /// What has changed since the last call: none where nothing is pointed to any more.
    pub(super) fn changed(&mut self) -> Vec<(SegmentNumber, Option<SegmentUse>)> {
        let changed = std::mem::take(&mut self.changed);
        let uses = &mut self.uses;
        let now = |segment: SegmentNumber| match uses.get(&segment) {
            Some(used) if used.entries > 0 => (segment, Some(*used)),
            _ => {
                uses.remove(&segment);
                (segment, None)
            }
        };
        changed.into_iter().map(now).collect()
    }

    pub(super) fn all(&self) -> BTreeMap<SegmentNumber, SegmentUse> {
        self.uses.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::keys::is_of_places;
    use crate::store::{Database, Removed, Swept};

    /// Rows, and keys of index entries.
    pub(crate) type Dump = (Vec<(Vec<u8>, bytes::Bytes)>, Vec<Vec<u8>>);

    /// What a store holds that does not depend on where things lie: its rows, and its index's keys, but for those that are
    /// dead and not removed yet. What it says of the segments must be what the index says.
    pub(crate) fn dump(store: &Database) -> Dump {
        let view = store.view_now().unwrap();
        assert_eq!(SegmentUses::load(&view).unwrap().uses, SegmentUses::count(&view).unwrap().uses);
        let uses = SegmentUses::count(&view).unwrap().uses;
        assert_eq!(store.segment_uses(), uses);
        // Every second segment's places, as they are found a few entries at a time.
        let wanted: BTreeSet<_> = uses.keys().step_by(2).copied().collect();
        let (mut found, mut from) = (SegmentUses::default(), Some(Vec::new()));
        while let Some(at) = from {
            let some = view.places_in(&wanted, &at, 7).unwrap();
            some.places.into_iter().for_each(|place| found.add(place));
            from = some.next;
        }
        assert_eq!(found.uses, uses.into_iter().filter(|(file, _)| wanted.contains(file)).collect());
        let rows =
            view.snapshot_rows(&[0]).map(Result::unwrap).filter(|(key, _)| !is_of_places(key)).collect();
        let dead: BTreeSet<_> = view
            .dead_rows(Swept::Index, &[], usize::MAX, &Removed::new())
            .unwrap()
            .rows
            .into_iter()
            .collect();
        let index = view.range(&[kind::INDEX], &[kind::INDEX + 1]).map(Result::unwrap);
        (rows, index.filter(|row| !dead.contains(row)).map(|(key, _)| key).collect())
    }
}
