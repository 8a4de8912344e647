//! Finds rows that speak of nothing any more: those of deleted partitions, and those of offsets below the log start. Whole
//! partitions in which nothing can be dead are passed over with one look.

use super::aborted::aborted_key;
use super::database::StoreError;
use super::keys::{KeyBytes, KeyReader, kind};
use super::view::ReadView;
use crate::core::{AbortedKey, PartitionRow, ProducerKey, TopicKey, TopicRow};
use crate::types::{Offset, PartitionId, ProducerId, TopicId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A kind of row whose key begins with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Index entries: dead below the log start.
    Index,
    /// What a partition remembers of producers: dead only with the partition, because retention forgets nobody.
    Producers,
    /// Aborted ranges: dead if the marker is below the log start.
    Aborted,
}

/// Some dead rows, and where to go on looking.
#[derive(Debug, Default)]
pub struct DeadRows {
    /// Key and value.
    pub rows: Vec<(Vec<u8>, Bytes)>,
    /// Where the next look begins; none after the last row of the kind.
    pub next: Option<Vec<u8>>,
}

/// Offsets below which a partition has no more rows of a kind. A range over rows that were removed lately costs as much as
/// one over rows that are there: so a look goes past them.
pub type Removed = BTreeMap<PartitionId, Offset>;

/// What may be dead in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dead {
    All,
    Below(Offset),
    Nothing,
}

impl Swept {
    fn kind(self) -> u8 {
        match self {
            Swept::Index => kind::INDEX,
            Swept::Producers => kind::PRODUCER,
            Swept::Aborted => kind::ABORTED,
        }
    }

    fn dead_in(self, row: Option<&PartitionRow>) -> Dead {
        match (self, row) {
            (_, None) => Dead::All,
            (Swept::Producers, Some(_)) => Dead::Nothing,
            (_, Some(row)) if row.log_start == Offset::ZERO => Dead::Nothing,
            (_, Some(row)) => Dead::Below(row.log_start),
        }
    }

    /// The offset that decides over the row: a batch's last one, or an abort marker's. It is the key's last field.
    fn offset(key: &[u8]) -> Option<Offset> {
        key.last_chunk::<8>().map(|bytes| Offset(i64::from_be_bytes(*bytes)))
    }
}

impl ReadView {
    /// Looks at up to `looks_max` rows of a kind from `from` on (where an earlier look ended; empty for the first), and
    /// returns those that are dead. It does not look for those that were `removed`.
    pub fn dead_rows(
        &self,
        swept: Swept,
        from: &[u8],
        looks_max: usize,
        removed: &Removed,
    ) -> Result<DeadRows, StoreError> {
        let end = vec![swept.kind() + 1];
        let key = |partition, offset: Offset| {
            KeyBytes::new(swept.kind()).partition(partition).number(offset.0).done()
        };
        let mut gaps = removed
            .iter()
            .map(|(partition, end)| (key(*partition, Offset::ZERO), key(*partition, *end)))
            .peekable();
        let mut dead = DeadRows::default();
        let mut at = if from.is_empty() { vec![swept.kind()] } else { from.to_vec() };
        let mut judged: Option<(PartitionId, Dead)> = None;
        let mut looks = 0;
        'seek: loop {
            while gaps.next_if(|(_, gap_end)| *gap_end <= at).is_some() {}
            let gap = gaps.peek();
            for entry in self.range(&at, gap.map_or(&end, |(gap, _)| gap).max(&at)) {
                let (key, row) = entry?;
                if looks >= looks_max {
                    dead.next = Some(key);
                    return Ok(dead);
                }
                looks += 1;
                let partition = KeyReader::new(&key).and_then(|mut key| key.partition());
                let partition = partition.ok_or_else(|| StoreError::damaged_key(&key))?;
                let verdict = match judged {
                    Some((judged, verdict)) if judged == partition => verdict,
                    _ => swept.dead_in(self.get::<PartitionRow>(&partition)?.as_ref()),
                };
                judged = Some((partition, verdict));
                let offset = Swept::offset(&key).ok_or_else(|| StoreError::damaged_key(&key))?;
                match verdict {
                    Dead::All => dead.rows.push((key, row)),
                    Dead::Below(start) if offset < start => dead.rows.push((key, row)),
                    // Aborted ranges are ordered by producer first; index entries by offset, so no later one is dead.
                    Dead::Below(_) if swept == Swept::Aborted => {}
                    Dead::Below(_) | Dead::Nothing => {
                        at = KeyBytes::new(swept.kind()).partition(partition.next()).done();
                        continue 'seek;
                    }
                }
            }
            let Some((_, gap_end)) = gap else { return Ok(dead) };
            at.clone_from(gap_end);
            if looks >= looks_max {
                dead.next = Some(at);
                return Ok(dead);
            }
            looks += 1;
        }
    }
}

/// Some idempotency keys of deleted topics, and where to go on looking.
#[derive(Debug, Default)]
pub struct DeadKeys {
    /// The keys.
    pub keys: Vec<TopicKey>,
    /// Where the next look begins; none after the last key.
    pub next: Option<Vec<u8>>,
}

impl ReadView {
    /// Looks for up to `keys_max` idempotency keys of deleted topics from `from` on (where an earlier look ended; empty for
    /// the first), and at so many topics at most. Topics that live are passed over with one look each.
    pub fn keys_of_deleted_topics(&self, from: &[u8], keys_max: usize) -> Result<DeadKeys, StoreError> {
        let end = [kind::IDEMPOTENCY_KEY + 1];
        let mut dead = DeadKeys::default();
        let mut at = if from.is_empty() { vec![kind::IDEMPOTENCY_KEY] } else { from.to_vec() };
        let mut judged: Option<TopicId> = None;
        for _ in 0..keys_max {
            let mut lives = None;
            for entry in self.range(&at, &end) {
                let (bytes, _) = entry?;
                let key = KeyReader::new(&bytes).and_then(|mut key| key.topic_key());
                let key = key.ok_or_else(|| StoreError::damaged_key(&bytes))?;
                if judged != Some(key.topic) {
                    if self.get::<TopicRow>(&key.topic)?.is_some() {
                        lives = Some(key.topic);
                        break;
                    }
                    judged = Some(key.topic);
                }
                if dead.keys.len() >= keys_max {
                    dead.next = Some(bytes);
                    return Ok(dead);
                }
                dead.keys.push(key);
            }
            let Some(topic) = lives else { return Ok(dead) };
            at = KeyBytes::new(kind::IDEMPOTENCY_KEY).topic(topic).done();
            // Every key of the topic is longer, and begins so.
            at.extend_from_slice(&[u8::MAX; 3]);
        }
        dead.next = Some(at);
        Ok(dead)
    }
}

impl DeadRows {
    /// Where partitions have no more such rows when these are removed.
    pub fn removed(&self) -> Result<Removed, StoreError> {
        let end = |(key, _): &(Vec<u8>, Bytes)| {
            let partition = KeyReader::new(key).and_then(|mut key| key.partition());
            let end = Swept::offset(key).map(Offset::next);
            partition.zip(end).ok_or_else(|| StoreError::damaged_key(key))
        };
        self.rows.iter().map(end).collect()
    }

    /// The keys, as those of producers' rows.
    pub fn producers(&self) -> Result<Vec<ProducerKey>, StoreError> {
        self.keys(|key| {
            Some(ProducerKey { partition: key.partition()?, producer: ProducerId(key.number()?) })
        })
    }

    /// The keys, as those of aborted ranges.
    pub fn aborted(&self) -> Result<Vec<AbortedKey>, StoreError> {
        self.keys(aborted_key)
    }

    fn keys<K>(&self, read: impl Fn(&mut KeyReader<'_>) -> Option<K>) -> Result<Vec<K>, StoreError> {
        let key = |(key, _): &(Vec<u8>, Bytes)| {
            KeyReader::new(key).and_then(|mut key| read(&mut key)).ok_or_else(|| StoreError::damaged_key(key))
        };
        self.rows.iter().map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        AbortedRow, IdleSpan, KeyEndKey, KeyEndRow, KeyRow, ProducerRow, RowKey, RowValue, Totals,
    };
    use crate::log::{Checkpoint, Place, SegmentNumber};
    use crate::store::{Applied, Database, IndexEntry, IndexKind, LayerBuilder, SegmentUse, StoreLimits};
    use crate::types::*;
    use uuid::Uuid;

    fn partition(topic: u128, index: i32) -> PartitionId {
        PartitionId::new(TopicId(Uuid::from_u128(topic)), PartitionIndex(index))
    }

    /// A partition with ten batches of ten records, of which every second was aborted, by one producer.
    fn fill(layer: &mut LayerBuilder, partition: PartitionId, segment: u64, log_start: Option<i64>) {
        if let Some(log_start) = log_start {
            let row =
                PartitionRow { log_start: Offset(log_start), next_offset: Offset(100), ..Default::default() };
            layer.put(&RowKey::Partition(partition), Some(&row.into()));
        }
        let producer = ProducerId(7);
        let row = ProducerRow {
            epoch: ProducerEpoch(0),
            stored_in_epoch: 0,
            batches: smallvec::SmallVec::new(),
            open: None,
            last_used: ServedTime(0),
            last_timestamp: Timestamp(0),
        };
        layer.put(&RowKey::Producer(ProducerKey { partition, producer }), Some(&row.into()));
        for batch in 0..10 {
            let position = u32::try_from(4096 + batch * 200).unwrap();
            let place = Place { segment: SegmentNumber(segment), position, length: 100, checksum: 0 };
            let before = Totals::default();
            let (base_offset, last) = (Offset(batch * 10), Offset(batch * 10 + 9));
            let entry = IndexEntry {
                base_offset,
                place,
                max_timestamp: Timestamp(1),
                before,
                kind: IndexKind::Plain,
            };
            layer.put_index(partition, last, &entry);
            if batch % 2 == 0 {
                let key = AbortedKey { partition, producer, marker: last };
                let row: RowValue = AbortedRow { first: base_offset }.into();
                layer.put(&RowKey::Aborted(key), Some(&row));
            }
        }
    }

    /// All that is dead of a kind, found `looks_max` rows at a time.
    fn all_dead(store: &Database, swept: Swept, looks_max: usize) -> Vec<(PartitionId, i64)> {
        all_dead_but(store, swept, looks_max, &Removed::new())
    }

    fn all_dead_but(
        store: &Database,
        swept: Swept,
        looks_max: usize,
        removed: &Removed,
    ) -> Vec<(PartitionId, i64)> {
        let (mut found, mut from) = (Vec::new(), Vec::new());
        loop {
            let dead = store.view_now().unwrap().dead_rows(swept, &from, looks_max, removed).unwrap();
            for (key, _) in &dead.rows {
                let partition = KeyReader::new(key).and_then(|mut key| key.partition()).unwrap();
                found.push((partition, Swept::offset(key).unwrap().0));
            }
            match dead.next {
                Some(next) => from = next,
                None => return found,
            }
        }
    }

    #[test]
    fn what_is_below_the_log_start_or_of_deleted_partitions_is_dead_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Database::open(dir.path(), StoreLimits::default()).unwrap();
        let mut layer = LayerBuilder::default();
        let [whole, deleted, cut, emptied] =
            [partition(1, 0), partition(1, 1), partition(2, 0), partition(3, 5)];
        fill(&mut layer, whole, 1, Some(0));
        fill(&mut layer, deleted, 1, None);
        // In the middle of a batch: what is left of it is read.
        fill(&mut layer, cut, 2, Some(35));
        fill(&mut layer, emptied, 3, Some(100));
        let applied = Applied { checkpoint: Checkpoint::START, served: ServedTime(0) };
        store.apply([&layer.finish(BlockNumber(1))], applied).unwrap();

        let ends = |partition, batches: std::ops::Range<i64>| batches.map(move |n| (partition, n * 10 + 9));
        let entries: Vec<_> =
            ends(deleted, 0..10).chain(ends(cut, 0..3)).chain(ends(emptied, 0..10)).collect();
        let aborted: Vec<_> = entries.iter().copied().filter(|(_, last)| last / 10 % 2 == 0).collect();
        for looks_max in [1, 3, 1000] {
            assert_eq!(all_dead(&store, Swept::Index, looks_max), entries);
            assert_eq!(all_dead(&store, Swept::Aborted, looks_max), aborted);
            assert_eq!(all_dead(&store, Swept::Producers, looks_max), [(deleted, 7)]);
        }

        // What is said to be removed is not looked for, and nothing else is passed over.
        for until in 0..=entries.len() {
            let (removed, left) = entries.split_at(until);
            let removed = removed.iter().map(|(partition, last)| (*partition, Offset(last + 1))).collect();
            for looks_max in [1, 3, 1000] {
                assert_eq!(all_dead_but(&store, Swept::Index, looks_max, &removed), left);
            }
        }

        // Trimmed, the segments have only what is left, also after the store is opened again.
        let dead = store.view_now().unwrap().dead_rows(Swept::Index, &[], 1000, &Removed::new()).unwrap();
        let ends =
            [(deleted, 100), (cut, 30), (emptied, 100)].map(|(partition, end)| (partition, Offset(end)));
        assert_eq!(dead.removed().unwrap(), ends.into());
        store.remove_index(&dead.rows).unwrap();
        let left = |entries: u64| SegmentUse { entries, bytes: entries * (100 + 128) };
        let expected = [(SegmentNumber(1), left(10)), (SegmentNumber(2), left(7))].into();
        assert_eq!(store.segment_uses(), expected);
        drop(store);
        let store = Database::open(dir.path(), StoreLimits::default()).unwrap();
        assert_eq!(store.segment_uses(), expected);
        assert!(all_dead(&store, Swept::Index, 1000).is_empty());
    }

    #[test]
    fn keys_of_deleted_topics_are_dead_and_ends_come_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Database::open(dir.path(), StoreLimits::default()).unwrap();
        let mut layer = LayerBuilder::default();
        let topic = |number| TopicId(Uuid::from_u128(number));
        let key = |number, text: &'static str| TopicKey {
            topic: topic(number),
            key: IdempotencyKey::new(Bytes::from_static(text.as_bytes())).unwrap(),
        };
        let keys =
            [key(1, "a"), key(1, "bb"), key(2, "a"), key(2, "c"), key(3, "z"), key(4, "a"), key(4, "\u{ff}")];
        for (key, until) in keys.iter().zip([5_000, 1_000, 9_000, 1_500, 3_000, 2_000, 7_000].map(ServedTime))
        {
            let row = KeyRow { partition: PartitionIndex(0), offset: Offset(0), until, transaction: None };
            layer.put(&RowKey::IdempotencyKey(key.clone()), Some(&row.into()));
            let end = KeyEndKey { span: IdleSpan::of(until), key: key.clone() };
            layer.put(&RowKey::KeyEnd(end), Some(&KeyEndRow {}.into()));
        }
        for number in [1, 3] {
            let name = TopicName::new("t").unwrap();
            let row = TopicRow { name, partitions: 1, config: crate::core::TopicConfig::new() };
            layer.put(&RowKey::Topic(topic(number)), Some(&row.into()));
        }
        let applied = Applied { checkpoint: Checkpoint::START, served: ServedTime(0) };
        store.apply([&layer.finish(BlockNumber(1))], applied).unwrap();
        let view = store.view_now().unwrap();
        for keys_max in [1, 2, 100] {
            let (mut found, mut from) = (Vec::new(), Vec::new());
            loop {
                let dead = view.keys_of_deleted_topics(&from, keys_max).unwrap();
                found.extend(dead.keys);
                match dead.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            assert_eq!(found, [&keys[2..4], &keys[5..]].concat());
        }
        let over = view.key_ends(None, IdleSpan::of(ServedTime(3_999)), 100).unwrap();
        let over: Vec<_> = over.into_iter().map(|end| end.key).collect();
        assert_eq!(over, [key(1, "bb"), key(2, "c"), key(4, "a")], "in whole seconds");
        let first = view.key_ends(None, IdleSpan(100), 1).unwrap().remove(0);
        assert_eq!(view.key_ends(Some(&first), IdleSpan(100), 1).unwrap()[0].key, key(2, "c"));
    }
}
