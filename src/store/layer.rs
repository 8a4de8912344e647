//! Row changes that are durable and not in the store yet: all of a few blocks, in the order of their keys, in one piece of
//! memory. They are made, looked through and merged thousands of times a second, mostly a few hundred at a time.

use super::index::IndexEntry;
use super::keys::{append_index_key, append_key, kind};
use crate::core::mutant::{Mutant, mutated};
use crate::core::{RowKey, RowValue};
use crate::types::codec::Codec;
use crate::types::{BlockNumber, HashSet, Offset, PartitionId};
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Where in the memory of its layer a changed row lies: the key, and right behind it the row.
#[derive(Clone, Copy, Debug)]
struct Change {
    beginning: Beginning,
    key: usize,
    row: usize,
    end: usize,
    /// Whether the row goes. Then nothing is behind the key.
    gone: bool,
}

impl Change {
    fn key_in<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.key..self.row).unwrap_or_default()
    }

    fn row(&self) -> Option<Range<usize>> {
        (!self.gone).then_some(self.row..self.end)
    }

    /// How its key compares to another one, of which this is the beginning.
    fn compare(&self, bytes: &[u8], beginning: Beginning, key: &[u8]) -> Ordering {
        self.beginning.cmp(&beginning).then_with(|| self.key_in(bytes).cmp(key))
    }
}

/// The beginning of a key, as numbers that compare as it does: mostly they say which of two keys is the smaller one, and to compare
/// these takes a tenth as long.
type Beginning = [u128; 2];

fn beginning(key: &[u8]) -> Beginning {
    const HALF: usize = size_of::<u128>();
    let number = |half: &[u8; HALF]| u128::from_be_bytes(*half);
    let (first, rest) = match key.split_first_chunk() {
        Some((first, rest)) => (number(first), rest),
        None => {
            let mut bytes = [0; HALF];
            bytes.iter_mut().zip(key).for_each(|(byte, of_key)| *byte = *of_key);
            return [number(&bytes), 0];
        }
    };
    if let Some(whole) = rest.first_chunk() {
        return [first, number(whole)];
    }
    // Most keys end here: their last bytes, without those that the first number has.
    let missing = u32::try_from(8 * (HALF - rest.len())).unwrap_or(u32::MAX);
    let last = key.last_chunk().map_or(0, number);
    [first, last.checked_shl(missing).unwrap_or(0)]
}

/// Kinds of rows, by the first bytes of their keys.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds([u128; 2]);

impl Kinds {
    fn of(changes: &[Change], bytes: &[u8]) -> Kinds {
        let mut kinds = Kinds::default();
        for kind in changes.iter().filter_map(|change| change.key_in(bytes).first()) {
            let [low, high] = &mut kinds.0;
            *(if *kind < 128 { low } else { high }) |= 1 << (kind % 128);
        }
        kinds
    }

    fn or(self, other: Kinds) -> Kinds {
        let ([low, high], [more_low, more_high]) = (self.0, other.0);
        Kinds([low | more_low, high | more_high])
    }

    fn has(&self, kind: u8) -> bool {
        let [low, high] = &self.0;
        (if kind < 128 { low } else { high }) >> (kind % 128) & 1 == 1
    }
}

/// The row changes of one or more consecutive blocks: key → row, or none where the row goes.
#[derive(Debug)]
pub struct Layer {
    /// In the order of their keys, each of which is there once.
    changes: Vec<Change>,
    bytes: Bytes,
    /// The kinds of rows that change: topics, say, hardly ever do, and readers ask for them with each request.
    kinds: Kinds,
    /// The oldest and the newest of its blocks.
    first: BlockNumber,
    last: BlockNumber,
}

/// A layer under construction.
#[derive(Debug, Default)]
pub struct LayerBuilder {
    /// In the order in which they were made.
    changes: Vec<Change>,
    bytes: Vec<u8>,
}

impl LayerBuilder {
    /// For about so many changes.
    #[must_use]
    pub fn with_capacity(changes: usize) -> LayerBuilder {
        /// What key and row take together, mostly.
        const USUAL_BYTES: usize = 112;
        LayerBuilder {
            changes: Vec::with_capacity(changes),
            bytes: Vec::with_capacity(changes.saturating_mul(USUAL_BYTES)),
        }
    }

    /// Puts a row, or takes it away. Volatile rows are left out. Of several changes of one row the last counts.
    pub fn put(&mut self, key: &RowKey, row: Option<&RowValue>) {
        let start = self.bytes.len();
        if append_key(key, &mut self.bytes) {
            self.put_behind(start, row.map(|row| |bytes: &mut Vec<u8>| row.encode(bytes)));
        }
    }

    /// Puts an index entry.
    pub fn put_index(&mut self, partition: PartitionId, last_offset: Offset, entry: &IndexEntry) {
        let start = self.bytes.len();
        append_index_key(partition, last_offset, &mut self.bytes);
        self.put_behind(start, Some(|bytes: &mut Vec<u8>| entry.encode(bytes)));
    }

    /// Puts a row behind its key, which begins at `key`.
    fn put_behind(&mut self, key: usize, row: Option<impl FnOnce(&mut Vec<u8>)>) {
        let (at, gone) = (self.bytes.len(), row.is_none());
        if let Some(encode) = row {
            encode(&mut self.bytes);
        }
        let beginning = beginning(self.bytes.get(key..at).unwrap_or_default());
        self.changes.push(Change { beginning, key, row: at, end: self.bytes.len(), gone });
    }

    /// Puts a change as it is in the memory of a layer.
    fn copy(&mut self, change: Change, from: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(from.get(change.key..change.end).unwrap_or_default());
        let row = start + (change.row - change.key);
        self.changes.push(Change { key: start, row, end: self.bytes.len(), ..change });
    }

    /// The layer of block `number`.
    #[must_use]
    pub fn finish(self, number: BlockNumber) -> Arc<Layer> {
        let LayerBuilder { mut changes, bytes } = self;
        // The sort is stable: the newest comes first of those with its key, and the first is kept.
        changes.reverse();
        changes.sort_by(|one, other| one.compare(&bytes, other.beginning, other.key_in(&bytes)));
        changes.dedup_by(|later, first| later.key_in(&bytes) == first.key_in(&bytes));
        let kinds = Kinds::of(&changes, &bytes);
        Arc::new(Layer { changes, bytes: bytes.into(), kinds, first: number, last: number })
    }
}

impl Layer {
    /// The oldest block in the layer.
    #[must_use]
    pub fn first(&self) -> BlockNumber {
        self.first
    }

    /// The newest block in the layer.
    #[must_use]
    pub fn last(&self) -> BlockNumber {
        self.last
    }

    /// How many rows it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it changes a row of this kind.
    pub(super) fn has(&self, kind: u8) -> bool {
        self.kinds.has(kind)
    }

    /// What has become of the row with this key, if it has changed.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        if !key.first().is_some_and(|kind| self.has(*kind)) {
            return None;
        }
        let of_key = beginning(key);
        let at = self.changes.binary_search_by(|change| change.compare(&self.bytes, of_key, key)).ok()?;
        self.changes.get(at).map(|change| change.row().map(|row| self.bytes.slice(row)))
    }

    fn changed(&self, change: &Change) -> ChangedRow<'_> {
        let row = change.row().map(|row| self.bytes.get(row).unwrap_or_default());
        (change.key_in(&self.bytes), row)
    }

    /// Its changes, in the order of the keys.
    pub fn changes(&self) -> Changes<'_> {
        Changes { left: self.changes.iter(), layer: self }
    }

    /// Those with keys from `from` up to, but not including, `to`.
    pub(super) fn range(&self, from: &[u8], to: &[u8]) -> Changes<'_> {
        let left = match (from.first(), to.first()) {
            (Some(kind), Some(same)) if kind == same && !self.has(*kind) => &[],
            _ => {
                let of_from = beginning(from);
                let at =
                    self.changes.partition_point(|change| change.compare(&self.bytes, of_from, from).is_lt());
                self.changes.get(at..).unwrap_or_default()
            }
        };
        let of_to = beginning(to);
        let length = length_of(left, |change| change.compare(&self.bytes, of_to, to).is_lt());
        Changes { left: left.get(..length).unwrap_or_default().iter(), layer: self }
    }

    /// This layer and a newer one as one: fewer layers to look through.
    #[must_use]
    pub fn merged(&self, newer: &Layer) -> Layer {
        let mut merged = LayerBuilder {
            changes: Vec::with_capacity(self.len() + newer.len()),
            bytes: Vec::with_capacity(self.bytes.len() + newer.bytes.len()),
        };
        let (mut old, mut new) = (self.changes.iter().peekable(), newer.changes.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(old), Some(new)) => old.compare(&self.bytes, new.beginning, new.key_in(&newer.bytes)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            // Of a row that both have changed, the newer change counts.
            if let Some(change) = old.next_if(|_| order.is_le()).filter(|_| order.is_lt()) {
                merged.copy(*change, &self.bytes);
            }
            if let Some(change) = new.next_if(|_| order.is_ge()) {
                merged.copy(*change, &newer.bytes);
            }
        }
        let LayerBuilder { changes, bytes } = merged;
        let kinds = self.kinds.or(newer.kinds);
        Layer { changes, bytes: bytes.into(), kinds, first: self.first, last: newer.last }
    }
}

/// How many are in a range, at their beginning. Mostly these are none or a few: so the end is looked for in steps that double.
fn length_of<T>(all: &[T], is_in: impl Fn(&T) -> bool) -> usize {
    let (mut within, mut step) = (0, 1);
    while all.get(within + step - 1).is_some_and(&is_in) {
        within += step;
        step *= 2;
    }
    let rest = all.get(within..all.len().min(within + step - 1)).unwrap_or_default();
    within + rest.partition_point(is_in)
}

/// What has become of the rows that some layers, from the oldest to the newest, change, in the order of the keys. Most changes
/// are of rows that change again and again: so those that count are found first, and only they are put in order. Index entries
/// come once.
pub(super) fn last_changes<'l>(
    layers: impl IntoIterator<Item = &'l Arc<Layer>, IntoIter: DoubleEndedIterator>,
) -> Vec<ChangedRow<'l>> {
    let mut seen = HashSet::default();
    let of_layer =
        |layer: &'l Arc<Layer>| layer.changes.iter().map(|change| (change.beginning, layer.changed(change)));
    let newest_first = layers.into_iter().rev().flat_map(of_layer);
    let is_newest =
        |(_, (key, _)): &(Beginning, ChangedRow<'l>)| key.first() == Some(&kind::INDEX) || seen.insert(*key);
    let mut changes: Vec<_> = newest_first.filter(is_newest).collect();
    changes.sort_by(|(one, (first, _)), (other, (second, _))| one.cmp(other).then_with(|| first.cmp(second)));
    let changes: Vec<_> = changes.into_iter().map(|(_, change)| change).collect();
    debug_assert!(
        mutated(Mutant::OffsetReused) || changes.is_sorted_by(|(one, _), (other, _)| one < other),
        "an offset is the last one of one batch"
    );
    changes
}

/// A key, and what has become of its row: none where it goes.
pub(super) type ChangedRow<'a> = (&'a [u8], Option<&'a [u8]>);

/// Changes of a layer, in the order of the keys.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    left: std::slice::Iter<'a, Change>,
    layer: &'a Layer,
}

impl Changes<'_> {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.left.as_slice().is_empty()
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = ChangedRow<'a>;

    fn next(&mut self) -> Option<ChangedRow<'a>> {
        self.left.next().map(|change| self.layer.changed(change))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{DeadlineRow, ProducerOwnerRow, Timer};
    use crate::store::encode_key;
    use crate::types::{GroupId, ProducerId, ServedTime, TransactionalId};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A row that says which change made it; none where the row goes.
    type Made = (u8, Option<u8>);

    fn key(number: u8) -> RowKey {
        RowKey::ProducerOwner(ProducerId(number.into()))
    }

    fn row(made: u8) -> RowValue {
        ProducerOwnerRow { transactional_id: TransactionalId::new(&made.to_string()).unwrap() }.into()
    }

    fn layer(changes: &[Made], number: u64) -> Arc<Layer> {
        let mut layer = LayerBuilder::with_capacity(changes.len() / 2);
        for (number, made) in changes {
            layer.put(&key(*number), made.map(row).as_ref());
        }
        layer.finish(BlockNumber(number))
    }

    fn expected(changes: impl IntoIterator<Item = Made>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let bytes = |made| {
            let mut bytes = Vec::new();
            row(made).encode(&mut bytes);
            bytes
        };
        changes
            .into_iter()
            .map(|(number, made)| (encode_key(&key(number)).unwrap(), made.map(bytes)))
            .collect()
    }

    fn found(changes: Changes<'_>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        changes.map(|(key, row)| (key.to_vec(), row.map(<[u8]>::to_vec))).collect()
    }

    fn changes() -> impl Strategy<Value = Vec<Made>> {
        prop::collection::vec((0u8..24, prop::option::of(any::<u8>())), 0..40)
    }

    proptest! {
        #[test]
        fn a_layer_is_a_map_in_which_the_last_change_counts(one in changes(), two in changes(), from in 0u8..26, to in 0u8..26) {
            let (older, newer) = (layer(&one, 3), layer(&two, 4));
            let merged = older.merged(&newer);
            prop_assert_eq!((merged.first(), merged.last()), (BlockNumber(3), BlockNumber(4)));
            for (layer, changes) in [(&*older, one.clone()), (&merged, [one, two].concat())] {
                let expected = expected(changes);
                prop_assert_eq!(layer.len(), expected.len());
                prop_assert_eq!(layer.is_empty(), expected.is_empty());
                prop_assert_eq!(found(layer.changes()), expected.clone().into_iter().collect::<Vec<_>>());
                let [from, to] = [from.min(to), from.max(to)].map(|number| encode_key(&key(number)).unwrap());
                let between = expected.range(from.clone()..to.clone()).map(|(key, row)| (key.clone(), row.clone()));
                prop_assert_eq!(found(layer.range(&from, &to)), between.collect::<Vec<_>>());
                for number in 0..26 {
                    let key = encode_key(&key(number)).unwrap();
                    let row = layer.get(&key).map(|row| row.map(|row| row.to_vec()));
                    prop_assert_eq!(row.as_ref(), expected.get(&key));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn beginnings_compare_as_their_keys_do(
            one in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..40),
            kept in 0usize..40,
            other in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..40),
        ) {
            let other = [&one[..kept.min(one.len())], &other].concat();
            let order = beginning(&one).cmp(&beginning(&other));
            prop_assert!(order == one.cmp(&other) || order.is_eq());
            let is_all = one.len() == other.len() && one.len() <= size_of::<Beginning>();
            prop_assert!(order == one.cmp(&other) || !is_all);
        }
    }

    #[test]
    fn a_volatile_row_leaves_nothing_behind() {
        let mut layer = LayerBuilder::default();
        let row = RowValue::from(DeadlineRow { deadline: ServedTime(1) });
        layer.put(&RowKey::Deadline(Timer::Group(GroupId::new("g"))), Some(&row));
        assert!(layer.finish(BlockNumber(1)).is_empty());
    }
}
