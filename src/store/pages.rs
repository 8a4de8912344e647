//! How the index lies in the store: a row there is a page, some entries of one partition that follow one another. Small
//! batches come by the hundred thousand a second, and what a row costs the store hardly depends on how long it is. Outside of
//! the store's own reads and batches, the index is entries (`spec/rows.md`, "Pages").

use super::database::StoreError;
use crate::types::codec::{Codec, CodecError, take};
use crate::types::{Offset, PartitionIndex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;

/// Entries in a page at most. Whoever looks for one reads the page from its beginning, and whoever changes one writes the
/// page anew: two kilobytes.
const ENTRIES_MAX: usize = 32;

/// The bytes with which all keys of a partition's index begin: kind, topic id, partition index. Behind them is the offset.
const PREFIX_BYTES: usize = 1 + 16 + size_of::<PartitionIndex>();

/// An entry: its key, and the bytes of it.
pub(super) type Entry<'e> = (&'e [u8], &'e [u8]);

/// Where the index is to be changed: the key of an entry, and what comes there; none where the entry goes.
pub(super) type IndexChanges = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

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
pub(super) fn pack<'e>(entries: impl IntoIterator<Item = Entry<'e>>, mut put: impl FnMut(&[u8], &[u8])) {
    let mut row = Vec::new();
    let mut entries = entries.into_iter().peekable();
    let mut count = 0;
    while let Some((key, entry)) = entries.next() {
        append(&mut row, key, entry);
        count += 1;
        let goes_on = entries.peek().is_some_and(|(next, _)| prefix(next) == prefix(key));
        if !goes_on || count == ENTRIES_MAX {
            put(key, &row);
            row.clear();
            count = 0;
        }
    }
}

/// Appends an entry to a page: its last offset, the length of what follows, the entry.
fn append(row: &mut Vec<u8>, key: &[u8], entry: &[u8]) {
    row.extend_from_slice(key.get(PREFIX_BYTES..).unwrap_or_default());
    // An entry is a few numbers.
    u16::try_from(entry.len()).unwrap_or(u16::MAX).encode(row);
    row.extend_from_slice(entry);
}

/// An entry in a page: its last offset, as it is in keys, and where in the row it lies.
type Lying<'p> = (&'p [u8], Range<usize>);

/// The entries of a page, in order.
#[derive(Debug)]
pub(super) struct Page {
    key: Vec<u8>,
    row: Bytes,
    at: usize,
}

impl Page {
    /// The page with this key.
    pub(super) fn new(key: Vec<u8>, row: Bytes) -> Page {
        Page { key, row, at: 0 }
    }

    /// Passes over the entries before `from`.
    pub(super) fn begin_at(&mut self, from: &[u8]) -> Result<(), StoreError> {
        if prefix(from) != prefix(&self.key) {
            return Ok(());
        }
        let from = from.get(PREFIX_BYTES..).unwrap_or_default();
        loop {
            let before = self.at;
            match self.read()? {
                Some((last, _)) if last < from => {}
                _ => {
                    self.at = before;
                    return Ok(());
                }
            }
        }
    }

    fn read(&mut self) -> Result<Option<Lying<'_>>, StoreError> {
        let mut left = self.row.get(self.at..).unwrap_or_default();
        if left.is_empty() && self.at > 0 {
            return Ok(None);
        }
        let mut parts = || {
            let last = take(&mut left, size_of::<Offset>())?;
            let length = usize::from(u16::decode(&mut left)?);
            take(&mut left, length).map(|_| (last, length))
        };
        let (last, length) = parts().map_err(|source| StoreError::damaged(&self.key, source))?;
        let end = self.row.len() - left.len();
        self.at = end;
        if left.is_empty() && self.key.get(PREFIX_BYTES..) != Some(last) {
            let source = CodecError::Invalid("a page of the index does not end where its key says");
            return Err(StoreError::damaged(&self.key, source));
        }
        Ok(Some((last, end - length..end)))
    }

    /// The next entry: its key, and the bytes of it.
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, Bytes)>, StoreError> {
        let Some((last, entry)) = self.read()? else { return Ok(None) };
        let last = last.to_vec();
        let key = [prefix(&self.key), &last].concat();
        Ok(Some((key, self.row.slice(entry))))
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
    changes: &mut Peekable<impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>>,
    is_of_them: impl Fn(&[u8]) -> bool,
    entries: &mut BTreeMap<Vec<u8>, Bytes>,
) -> usize {
    let mut taken = 0;
    while let Some((key, entry)) = changes.next_if(|(key, _)| is_of_them(key)) {
        match entry {
            Some(entry) => drop(entries.insert(key, entry.into())),
            None => drop(entries.remove(&key)),
        }
        taken += 1;
    }
    taken
}

fn put(entries: &BTreeMap<Vec<u8>, Bytes>, set: &mut impl FnMut(&[u8], Option<&[u8]>)) {
    pack(entries.iter().map(|(key, entry)| (&key[..], &entry[..])), |key, row| set(key, Some(row)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::encode_index_key;
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

    fn first_page(pages: &Stored, from: &[u8], end: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let found = pages.range(from.to_vec()..end.to_vec()).next();
        found.map(|(key, row)| (key.clone(), Bytes::copy_from_slice(row)))
    }

    /// All entries from `from` on, as they lie in pages.
    fn entries(pages: &Stored, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        for (key, row) in pages.range(from.to_vec()..) {
            let mut page = Page::new(key.clone(), Bytes::copy_from_slice(row));
            page.begin_at(from).unwrap();
            while let Some((key, entry)) = page.next().unwrap() {
                found.push((key, entry.to_vec()));
            }
        }
        found
    }

    proptest! {
        #[test]
        fn pages_have_the_entries_that_were_put_and_not_taken_away(steps in prop::collection::vec(step(), 1..12)) {
            let (mut pages, mut expected) = (Stored::new(), Stored::new());
            for step in steps {
                match step {
                    Step::Append { partition, entries } => {
                        let last = expected.range(..key(partition, i64::MAX)).next_back();
                        let last = last.filter(|(last, _)| prefix(last) == prefix(&key(partition, 0)));
                        let next = last.map_or(0, |(last, _)| i64::from_be_bytes(*last.last_chunk().unwrap()) + 1);
                        let new: Stored = (next..next + entries).map(|offset| (key(partition, offset * 2), vec![7; 60])).collect();
                        pack(new.iter().map(|(key, entry)| (&key[..], &entry[..])), |key, page| {
                            assert!(pages.insert(key.to_vec(), page.to_vec()).is_none());
                        });
                        expected.extend(new);
                    }
                    Step::Edit(changes) => {
                        let entry = |byte: Option<u8>| byte.map(|byte| vec![byte; 60]);
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

    #[test]
    fn a_run_of_entries_is_few_pages_and_a_damaged_one_is_told() {
        let mut pages = Vec::new();
        let keys: Vec<_> = (0..100).map(|offset| key(4, offset)).collect();
        pack(keys.iter().map(|key| (&key[..], &[1_u8, 2][..])), |key, page| {
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
