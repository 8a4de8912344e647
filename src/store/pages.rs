//! How the index lies in the store: a row there is a page, some entries of one partition that follow one another. Small
//! batches come by the hundred thousand a second, and what they cost the store depends on how many rows they are and on how long these are.
//! Outside of the store's own reads and batches, the index is entries (`spec/rows.md`, "Pages").

use super::database::StoreError;
use super::index::{IndexEntry, IndexKind};
use crate::core::{Outcome, Totals};
use crate::log::{Place, SegmentNumber};
use crate::types::codec::{Codec, CodecError, put_varlong, take_varlong};
use crate::types::{Offset, PartitionIndex, ProducerId, Timestamp};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::iter::Peekable;

/// Entries in a page at most. Whoever looks for one reads the page from its beginning, and whoever changes one writes the
/// page anew: half a kilobyte to two.
const ENTRIES_MAX: usize = 32;

/// The bytes with which all keys of a partition's index begin: kind, topic id, partition index. Behind them is the offset.
const PREFIX_BYTES: usize = 1 + 16 + size_of::<PartitionIndex>();

/// The bytes of an entry's key.
pub(super) const INDEX_KEY_BYTES: usize = PREFIX_BYTES + size_of::<Offset>();

/// Where the index is to be changed: the key of an entry, and what comes there; none where the entry goes.
pub(super) type IndexChanges = BTreeMap<Vec<u8>, Option<IndexEntry>>;

/// What all keys of a key's partition begin with.
pub(super) fn prefix(key: &[u8]) -> &[u8] {
    key.get(..PREFIX_BYTES).unwrap_or(key)
}

/// The key that is behind those of all pages of a key's partition.
pub(super) fn partition_end(key: &[u8]) -> Vec<u8> {
    let mut end = prefix(key).to_vec();
    // Offsets are not negative: no key of the partition begins so.
    end.push(u8::MAX);
    end
}

/// The key that is behind those of all pages that may have an entry before `to`.
pub(super) fn pages_end(to: &[u8]) -> Vec<u8> {
    let offset = to.get(PREFIX_BYTES..).unwrap_or_default();
    // No entry of a partition is before its offset 0.
    if offset.iter().all(|byte| *byte == 0) { prefix(to).to_vec() } else { partition_end(to) }
}

/// Makes pages of entries, which are in the order of their keys, and hands them over: the key of the last entry, and the row.
pub(super) fn pack<'e>(
    entries: impl IntoIterator<Item = (&'e [u8], &'e IndexEntry)>,
    mut put: impl FnMut(&[u8], &[u8]),
) {
    let (mut row, mut before) = (Vec::new(), Before::default());
    let mut entries = entries.into_iter().peekable();
    let mut count = 0;
    while let Some((key, entry)) = entries.next() {
        before = before.append(last_offset(key), entry, &mut row);
        count += 1;
        let goes_on = entries.peek().is_some_and(|(next, _)| prefix(next) == prefix(key));
        if !goes_on || count == ENTRIES_MAX {
            put(key, &row);
            row.clear();
            (count, before) = (0, Before::default());
        }
    }
}

/// The last offset that an entry's key says.
fn last_offset(key: &[u8]) -> Offset {
    Offset(key.last_chunk().map_or(0, |offset| i64::from_be_bytes(*offset)))
}

/// What an entry mostly goes on from: where the one before it in its page ends. Numbers are noted down as differences from these,
/// so that those of small batches take a byte or two. In a page's first entry they are as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    next_offset: i64,
    segment: u64,
    position: u32,
    timestamp: i64,
    bytes: u64,
    newest: i64,
    producer: i64,
}

/// Kinds of entries in a page; one that compaction has written has its whole byte form behind the tag.
const PLAIN: u8 = 0;
const TRANSACTIONAL: u8 = 1;
const COMMIT: u8 = 2;
const ABORT: u8 = 3;
const CLEANED: u8 = 4;

impl Before {
    /// Behind this entry.
    fn behind(self, last: Offset, entry: &IndexEntry) -> Before {
        let IndexEntry { place, max_timestamp, before, kind, .. } = entry;
        Before {
            next_offset: last.0.wrapping_add(1),
            segment: place.segment.0,
            position: place.position.wrapping_add(place.length),
            timestamp: max_timestamp.0,
            bytes: before.bytes.wrapping_add(entry.appended_bytes()),
            newest: before.newest.max(*max_timestamp).0,
            producer: producer_of(kind).map_or(self.producer, |producer| producer.0),
        }
    }

    /// Appends an entry to a page: its kind, and the numbers.
    fn append(self, last: Offset, entry: &IndexEntry, row: &mut Vec<u8>) -> Before {
        let IndexEntry { base_offset, place, max_timestamp, before, kind } = entry;
        let tag = match kind {
            IndexKind::Plain => PLAIN,
            IndexKind::Transactional { .. } => TRANSACTIONAL,
            IndexKind::Marker { outcome: Outcome::Commit, .. } => COMMIT,
            IndexKind::Marker { outcome: Outcome::Abort, .. } => ABORT,
            IndexKind::Rewritten { .. } | IndexKind::Gap { .. } => CLEANED,
        };
        row.push(tag);
        match producer_of(kind) {
            Some(producer) => put_varlong(row, producer.0.wrapping_sub(self.producer)),
            None if tag == CLEANED => kind.encode(row),
            None => {}
        }
        put_varlong(row, base_offset.0.wrapping_sub(self.next_offset));
        put_varlong(row, last.0.wrapping_sub(base_offset.0));
        put_varlong(row, place.segment.0.wrapping_sub(self.segment).cast_signed());
        put_varlong(row, place.position.wrapping_sub(self.position).cast_signed().into());
        put_varlong(row, place.length.cast_signed().into());
        place.checksum.encode(row);
        put_varlong(row, max_timestamp.0.wrapping_sub(self.timestamp));
        put_varlong(row, before.bytes.wrapping_sub(self.bytes).cast_signed());
        put_varlong(row, before.newest.0.wrapping_sub(self.newest));
        self.behind(last, entry)
    }

    /// Takes an entry off a page: its last offset, and the entry.
    fn take(self, row: &mut &[u8]) -> Result<(Before, Offset, IndexEntry), CodecError> {
        let producer =
            |row: &mut &[u8]| take_varlong(row).map(|less| ProducerId(self.producer.wrapping_add(less)));
        let kind = match u8::decode(row)? {
            PLAIN => IndexKind::Plain,
            TRANSACTIONAL => IndexKind::Transactional { producer: producer(row)? },
            COMMIT => IndexKind::Marker { producer: producer(row)?, outcome: Outcome::Commit },
            ABORT => IndexKind::Marker { producer: producer(row)?, outcome: Outcome::Abort },
            CLEANED => IndexKind::decode(row)?,
            _ => return Err(CodecError::Invalid("no kind of index entries has this number")),
        };
        let base_offset = Offset(self.next_offset.wrapping_add(take_varlong(row)?));
        let last = Offset(base_offset.0.wrapping_add(take_varlong(row)?));
        let segment = SegmentNumber(self.segment.wrapping_add(take_varlong(row)?.cast_unsigned()));
        let position = self.position.wrapping_add(take_narrow(row)?);
        let length = take_narrow(row)?;
        let checksum = u32::decode(row)?;
        let max_timestamp = Timestamp(self.timestamp.wrapping_add(take_varlong(row)?));
        let bytes = self.bytes.wrapping_add(take_varlong(row)?.cast_unsigned());
        let newest = Timestamp(self.newest.wrapping_add(take_varlong(row)?));
        let place = Place { segment, position, length, checksum };
        let entry = IndexEntry { base_offset, place, max_timestamp, before: Totals { bytes, newest }, kind };
        Ok((self.behind(last, &entry), last, entry))
    }
}

/// Whose batch it is, where a page has it as a difference.
fn producer_of(kind: &IndexKind) -> Option<ProducerId> {
    match kind {
        IndexKind::Transactional { producer } | IndexKind::Marker { producer, .. } => Some(*producer),
        IndexKind::Plain | IndexKind::Rewritten { .. } | IndexKind::Gap { .. } => None,
    }
}

/// A number of 32 bits.
fn take_narrow(row: &mut &[u8]) -> Result<u32, CodecError> {
    let number = i32::try_from(take_varlong(row)?)
        .map_err(|_| CodecError::Invalid("a number of an index entry is too large"))?;
    Ok(number.cast_unsigned())
}

/// The entries of a page, in order.
#[derive(Debug)]
pub(super) struct Page {
    key: Vec<u8>,
    row: Bytes,
    at: usize,
    before: Before,
    /// One that was read already.
    next: Option<(Offset, IndexEntry)>,
}

impl Page {
    /// The page with this key.
    pub(super) fn new(key: Vec<u8>, row: Bytes) -> Page {
        Page { key, row, at: 0, before: Before::default(), next: None }
    }

    /// Passes over the entries before `from`.
    pub(super) fn begin_at(&mut self, from: &[u8]) -> Result<(), StoreError> {
        if prefix(from) == prefix(&self.key) {
            let from = from.get(PREFIX_BYTES..).unwrap_or_default();
            while self.next.as_ref().is_none_or(|(last, _)| last.0.to_be_bytes()[..] < *from) {
                self.next = self.read()?;
                if self.next.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<(Offset, IndexEntry)>, StoreError> {
        let mut left = self.row.get(self.at..).unwrap_or_default();
        if left.is_empty() && self.at > 0 {
            return Ok(None);
        }
        let taken = self.before.take(&mut left).map_err(|source| StoreError::damaged(&self.key, source))?;
        let (before, last, entry) = taken;
        if left.is_empty() && last_offset(&self.key) != last {
            let source = CodecError::Invalid("a page of the index does not end where its key says");
            return Err(StoreError::damaged(&self.key, source));
        }
        (self.at, self.before) = (self.row.len() - left.len(), before);
        Ok(Some((last, entry)))
    }

    /// The next entry, and its key.
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, IndexEntry)>, StoreError> {
        let next = match self.next.take() {
            None => self.read()?,
            next => next,
        };
        Ok(next.map(|(last, entry)| ([prefix(&self.key), &last.0.to_be_bytes()].concat(), entry)))
    }
}

/// Changes entries. `page_at` finds the first page at a key or behind it, of the key's partition; `set` takes what becomes of
/// pages: a row, or none where the page goes. Each page is changed once.
pub(super) fn edit(
    changes: IndexChanges,
    page_at: impl Fn(&[u8], &[u8]) -> Result<Option<(Vec<u8>, Bytes)>, StoreError>,
    mut set: impl FnMut(&[u8], Option<&[u8]>),
) -> Result<(), StoreError> {
    let mut changes = changes.into_iter().peekable();
    while let Some((key, _)) = changes.peek() {
        let of_partition = prefix(key).to_vec();
        let found = page_at(key, &partition_end(key))?;
        let mut entries = BTreeMap::new();
        let mut end = None;
        if let Some((key, row)) = found {
            let mut page = Page::new(key.clone(), row);
            while let Some((key, entry)) = page.next()? {
                entries.insert(key, entry);
            }
            end = Some(key);
        }
        // What comes before the page's first entry is none of the page's.
        let first = entries.first_key_value().map(|(first, _)| first.clone());
        let is_before =
            |key: &[u8]| prefix(key) == of_partition && first.as_deref().is_none_or(|first| key < first);
        let mut apart = BTreeMap::new();
        take_while(&mut changes, is_before, &mut apart);
        put(&apart, &mut set);
        let Some(end) = end else { continue };
        if take_while(&mut changes, |key| key <= end.as_slice(), &mut entries) == 0 {
            continue;
        }
        if entries.last_key_value().is_none_or(|(last, _)| *last != end) {
            set(&end, None);
        }
        put(&entries, &mut set);
    }
    Ok(())
}

/// Lets changes take effect on entries, for as long as they are of some keys; says how many there were.
fn take_while(
    changes: &mut Peekable<impl Iterator<Item = (Vec<u8>, Option<IndexEntry>)>>,
    is_of_them: impl Fn(&[u8]) -> bool,
    entries: &mut BTreeMap<Vec<u8>, IndexEntry>,
) -> usize {
    let mut taken = 0;
    while let Some((key, entry)) = changes.next_if(|(key, _)| is_of_them(key)) {
        match entry {
            Some(entry) => drop(entries.insert(key, entry)),
            None => drop(entries.remove(&key)),
        }
        taken += 1;
    }
    taken
}

fn put(entries: &BTreeMap<Vec<u8>, IndexEntry>, set: &mut impl FnMut(&[u8], Option<&[u8]>)) {
    pack(entries.iter().map(|(key, entry)| (&key[..], entry)), |key, row| set(key, Some(row)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::encode_index_key;
    use crate::store::index::Cleaned;
    use crate::types::{PartitionId, TopicId};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn key(partition: i32, offset: i64) -> Vec<u8> {
        encode_index_key(PartitionId::new(TopicId(Uuid::nil()), PartitionIndex(partition)), Offset(offset))
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many entries behind all that a partition has.
        Append { partition: i32, entries: i64 },
        /// Changes: where, and what comes there, if anything.
        Edit(Vec<(i32, i64, Option<u8>)>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let append = (0..3, 1i64..100).prop_map(|(partition, entries)| Step::Append { partition, entries });
        let change = (0..3, 0i64..400, prop::option::of(any::<u8>()));
        // Runs, as they are trimmed and moved, and changes here and there.
        let run = (0..3, 0i64..400, 0i64..80, prop::option::of(any::<u8>())).prop_map(
            |(partition, from, length, entry)| {
                Step::Edit((from..from + length).map(|offset| (partition, offset, entry)).collect())
            },
        );
        prop_oneof![append, run, prop::collection::vec(change, 0..40).prop_map(Step::Edit)]
    }

    type Stored = BTreeMap<Vec<u8>, Vec<u8>>;
    type Entries = BTreeMap<Vec<u8>, IndexEntry>;

    /// One of the entries that there can be.
    fn entry_of(byte: u8) -> IndexEntry {
        let number = u64::from(byte);
        let producer = ProducerId(i64::from(byte) << 20);
        let kind = match byte % 5 {
            0 => IndexKind::Plain,
            1 => IndexKind::Transactional { producer },
            2 => IndexKind::Marker { producer, outcome: Outcome::Commit },
            3 => IndexKind::Marker { producer, outcome: Outcome::Abort },
            _ => IndexKind::Gap { cleaned: Cleaned { generation: number, bytes: number } },
        };
        IndexEntry {
            base_offset: Offset(i64::from(byte)),
            place: Place {
                segment: SegmentNumber(number),
                position: byte.into(),
                length: 70_000,
                checksum: u32::MAX,
            },
            max_timestamp: Timestamp(1 << 40),
            before: Totals { bytes: number << 30, newest: Timestamp::NONE },
            kind,
        }
    }

    fn any_entry() -> impl Strategy<Value = (Offset, IndexEntry)> {
        let numbers =
            prop::array::uniform6(prop_oneof![any::<i64>(), -200i64..200, Just(i64::MIN), Just(i64::MAX)]);
        (numbers, any::<[u32; 3]>(), any::<u8>(), any::<bool>()).prop_map(
            |(numbers, narrow, kind, rewritten)| {
                let [base, last, segment, newest, bytes, before] = numbers;
                let [position, length, checksum] = narrow;
                let cleaned = Cleaned { generation: bytes.cast_unsigned(), bytes: base.cast_unsigned() };
                let kind = match entry_of(kind).kind {
                    IndexKind::Gap { .. } if rewritten => {
                        IndexKind::Rewritten { producer: Some(ProducerId(last)), cleaned }
                    }
                    kind => kind,
                };
                let entry = IndexEntry {
                    base_offset: Offset(base),
                    place: Place {
                        segment: SegmentNumber(segment.cast_unsigned()),
                        position,
                        length,
                        checksum,
                    },
                    max_timestamp: Timestamp(newest),
                    before: Totals { bytes: bytes.cast_unsigned(), newest: Timestamp(before) },
                    kind,
                };
                (Offset(last), entry)
            },
        )
    }

    fn first_page(pages: &Stored, from: &[u8], end: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let found = pages.range(from.to_vec()..end.to_vec()).next();
        found.map(|(key, row)| (key.clone(), Bytes::copy_from_slice(row)))
    }

    /// All entries from `from` on, as they lie in pages.
    fn entries(pages: &Stored, from: &[u8]) -> Vec<(Vec<u8>, IndexEntry)> {
        let mut found = Vec::new();
        for (key, row) in pages.range(from.to_vec()..) {
            let mut page = Page::new(key.clone(), Bytes::copy_from_slice(row));
            page.begin_at(from).unwrap();
            while let Some((key, entry)) = page.next().unwrap() {
                found.push((key, entry));
            }
        }
        found
    }

    proptest! {
        #[test]
        fn pages_have_the_entries_that_were_put_and_not_taken_away(steps in prop::collection::vec(step(), 1..12)) {
            let (mut pages, mut expected) = (Stored::new(), Entries::new());
            for step in steps {
                match step {
                    Step::Append { partition, entries } => {
                        let last = expected.range(..key(partition, i64::MAX)).next_back();
                        let last = last.filter(|(last, _)| prefix(last) == prefix(&key(partition, 0)));
                        let next = last.map_or(0, |(last, _)| i64::from_be_bytes(*last.last_chunk().unwrap()) + 1);
                        let entry = |offset: i64| entry_of(u8::try_from(offset % 256).unwrap());
                        let new: Entries = (next..next + entries).map(|offset| (key(partition, offset * 2), entry(offset))).collect();
                        pack(new.iter().map(|(key, entry)| (&key[..], entry)), |key, page| {
                            assert!(pages.insert(key.to_vec(), page.to_vec()).is_none());
                        });
                        expected.extend(new);
                    }
                    Step::Edit(changes) => {
                        let entry = |byte: Option<u8>| byte.map(entry_of);
                        let changes: IndexChanges =
                            changes.into_iter().map(|(partition, offset, byte)| (key(partition, offset), entry(byte))).collect();
                        for (key, entry) in changes.clone() {
                            match entry {
                                Some(entry) => drop(expected.insert(key, entry)),
                                None => drop(expected.remove(&key)),
                            }
                        }
                        let before = pages.clone();
                        let mut changed = std::collections::BTreeSet::new();
                        edit(changes, |from, end| Ok(first_page(&before, from, end)), |key, page| {
                            assert!(changed.insert(key.to_vec()), "a key comes once in a batch");
                            match page {
                                Some(page) => drop(pages.insert(key.to_vec(), page.to_vec())),
                                None => drop(pages.remove(key)),
                            }
                        }).unwrap();
                    }
                }
                let all: Vec<_> = expected.clone().into_iter().collect();
                prop_assert_eq!(entries(&pages, &key(0, 0)), all);
                for page in pages.values() {
                    prop_assert!(page.len() <= ENTRIES_MAX * 70);
                }
            }
            for from in [key(0, 3), key(1, 100), key(1, 101), key(2, 390)] {
                let behind: Vec<_> = expected.range(from.clone()..).map(|(key, entry)| (key.clone(), entry.clone())).collect();
                prop_assert_eq!(entries(&pages, &from), behind);
            }
        }
    }

    proptest! {
        #[test]
        fn any_entries_come_out_as_they_went_in(entries in prop::collection::vec(any_entry(), 1..8)) {
            let (mut row, mut before) = (Vec::new(), Before::default());
            for (last, entry) in &entries {
                before = before.append(*last, entry, &mut row);
            }
            let (mut left, mut before) = (&row[..], Before::default());
            for (last, entry) in &entries {
                let taken = before.take(&mut left).unwrap();
                prop_assert_eq!((taken.1, &taken.2), (*last, entry));
                before = taken.0;
            }
            prop_assert!(left.is_empty());
        }

        #[test]
        fn what_is_no_page_is_an_error(row in prop::collection::vec(any::<u8>(), 0..200)) {
            let end = key(1, 1);
            let (mut page, mut last) = (Page::new(end.clone(), row.into()), None);
            while let Ok(Some((key, _))) = page.next() {
                last = Some(key);
            }
            // It ends well only where its key says that it does.
            prop_assert!(page.next().is_err() || last == Some(end));
        }
    }

    /// Batches of one record and their markers, one after the other, of a few producers.
    #[test]
    fn what_small_transactions_leave_takes_a_quarter() {
        let (mut row, mut before, mut whole) = (Vec::new(), Before::default(), 0);
        for number in 0..32_u32 {
            let offset = Offset(i64::from(number) + 70_000);
            let producer = ProducerId(1_000 + i64::from(number % 7));
            let (length, kind) = match number % 2 {
                0 => (1_103, IndexKind::Transactional { producer }),
                _ => (78, IndexKind::Marker { producer, outcome: Outcome::Commit }),
            };
            let entry = IndexEntry {
                base_offset: offset,
                place: Place {
                    segment: SegmentNumber(9),
                    position: 5_000_000 + 60_000 * number,
                    length,
                    checksum: number,
                },
                max_timestamp: Timestamp(1_790_000_000_000 + i64::from(number)),
                before: Totals {
                    bytes: 80_000_000 + u64::from(number) * 590,
                    newest: Timestamp(1_790_000_000_000),
                },
                kind,
            };
            before = before.append(offset, &entry, &mut row);
            whole += size_of::<Offset>() + entry.to_bytes().len();
        }
        assert!(row.len() * 7 < whole * 2, "{} bytes of {whole}", row.len());
    }

    #[test]
    fn a_run_of_entries_is_few_pages_and_a_damaged_one_is_told() {
        let mut pages = Vec::new();
        let keys: Vec<_> = (0..100).map(|offset| key(4, offset)).collect();
        let entry = entry_of(1);
        pack(keys.iter().map(|key| (&key[..], &entry)), |key, page| {
            pages.push((key.to_vec(), page.to_vec()))
        });
        assert_eq!(pages.len(), 100_usize.div_ceil(ENTRIES_MAX));
        let (key, page) = pages.remove(0);
        for length in 0..page.len() {
            let mut cut = Page::new(key.clone(), Bytes::copy_from_slice(&page[..length]));
            let error = loop {
                match cut.next() {
                    Ok(entry) => assert!(entry.is_some(), "a page of {length} bytes is taken for whole"),
                    Err(error) => break error,
                }
            };
            assert!(error.is_damage());
        }
    }
}
