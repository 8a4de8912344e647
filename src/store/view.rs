//! What readers see: one immutable view of the rows, as of one durable block. It is a snapshot of the store (rows as of
//! *applied*) under layers (the row changes of durable blocks that are not in the snapshot yet).

use super::database::{Applied, StoreError};
use super::index::IndexEntry;
use super::keys::{KeyBytes, KeyReader, encode_key, index_key, kind};
use super::layer::{Changes, Layer};
use super::pages::{Page, pages_end};
use super::remembered::Remembered;
use super::suspicion::Suspicion;
use super::tables::{Entries, Snapshot, Space};
use crate::core::mutant::{Mutant, mutated};
use crate::core::*;
use crate::metrics::Counter;
use crate::types::codec::Codec;
use crate::types::*;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

/// So many layers are looked through without being merged: that takes a reader two or three microseconds at most, since what it
/// looks for mostly changed lately. Blocks come once in a millisecond at most and go into the store after 150 ms or
/// 80,000 changes: as long as there are no more than 200 blocks a second, they are gone before they would have been merged.
const LAYERS_UNMERGED: usize = 32;

/// A merged layer has no more changes than this: merging it takes a millisecond then, and three megabytes. When the store is behind,
/// there are as many layers more as the backlog has of these.
const MERGED_CHANGES_MAX: usize = 16_384;

/// All rows as of one durable block.
#[derive(Clone)]
pub struct ReadView {
    snapshot: Snapshot,
    reading: Reading,
    /// Oldest first.
    layers: Vec<Arc<Layer>>,
    durable: BlockNumber,
    remembered: Arc<Remembered>,
}

/// Who reads takes note of errors, and counts.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) suspicion: Suspicion,
    pub(super) reads: Arc<Counter>,
}

impl Reading {
    /// The next row that a snapshot has.
    fn next(&self, rows: &mut Entries) -> Result<Option<(Vec<u8>, Bytes)>, StoreError> {
        self.suspicion.watch(|| {
            let Some(entry) = rows.next() else { return Ok(None) };
            self.reads.one();
            entry.map(Some).map_err(|error| self.suspicion.of(error))
        })
    }
}

/// The rows of a snapshot, which can be read for long ([`Snapshot::lasting`]).
pub(super) struct LastingRows {
    rows: Entries,
    reading: Reading,
}

impl std::fmt::Debug for LastingRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LastingRows")
    }
}

impl LastingRows {
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, Bytes)>, StoreError> {
        self.reading.next(&mut self.rows)
    }
}

impl std::fmt::Debug for ReadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadView")
            .field("durable", &self.durable)
            .field("layers", &self.layers.len())
            .finish()
    }
}

impl ReadView {
    pub(super) fn new(snapshot: Snapshot, reading: Reading, applied: BlockNumber) -> ReadView {
        ReadView { snapshot, reading, layers: Vec::new(), durable: applied, remembered: Arc::default() }
    }

    /// The block up to which everything is in this view.
    #[must_use]
    pub fn durable(&self) -> BlockNumber {
        self.durable
    }

    /// The view after one more durable block.
    #[must_use]
    pub fn with_layer(&self, layer: Arc<Layer>) -> ReadView {
        let mut view = self.clone();
        view.durable = layer.last();
        if !Remembered::outlives(&layer) {
            view.remembered = Arc::default();
        }
        view.layers.push(layer);
        // A few are left as they are: mostly they are gone before there are more. Then like counting in binary: a layer is
        // merged into its elder once it is as large, so there are few of them and each row is copied a logarithmic number
        // of times.
        while view.layers.len() > LAYERS_UNMERGED
            && let [.., elder, newest] = view.layers.as_slice()
            && elder.len() <= newest.len().saturating_mul(2)
            && elder.len().saturating_add(newest.len()) <= MERGED_CHANGES_MAX
        {
            let merged = Arc::new(elder.merged(newest));
            view.layers.truncate(view.layers.len().saturating_sub(2));
            view.layers.push(merged);
        }
        view
    }

    pub(super) fn durable_to(self, durable: BlockNumber) -> ReadView {
        ReadView { durable, ..self }
    }

    /// How far the log is in the snapshot.
    pub(super) fn applied(&self) -> Result<Applied, StoreError> {
        match self.stored(&[kind::APPLIED])? {
            Some(row) => {
                Applied::from_bytes(&row).map_err(|source| StoreError::damaged(&[kind::APPLIED], source))
            }
            None => Ok(Applied::NOTHING),
        }
    }

    /// The oldest block with changes in a layer: what older blocks have changed is as the snapshot has it.
    #[must_use]
    pub fn layers_begin(&self) -> Option<BlockNumber> {
        self.layers.iter().map(|layer| layer.first()).min()
    }

    /// Which of the store's states the snapshot is: of two, the newer has the higher age.
    #[must_use]
    pub fn age(&self) -> u64 {
        self.snapshot.age()
    }

    /// The same rows, with those up to `applied` taken from the snapshot of `base`; unless the snapshot is newer already:
    /// then it has them.
    #[must_use]
    pub fn rebased(&self, base: &ReadView, applied: BlockNumber) -> ReadView {
        let mut view = self.clone();
        if base.age() < self.age() {
            return view;
        }
        view.snapshot = base.snapshot.clone();
        view.layers.retain(|layer| layer.last() > applied && !mutated(Mutant::LayerDropped));
        view
    }

    pub(super) fn bytes(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        for layer in self.layers.iter().rev() {
            if let Some(change) = layer.get(key) {
                return Ok(change);
            }
        }
        self.stored(key)
    }

    /// What the snapshot has.
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let suspicion = &self.reading.suspicion;
        self.reading.reads.one();
        suspicion.watch(|| self.snapshot.get(space_of(key), key).map_err(|error| suspicion.of(error)))
    }

    /// One row.
    pub fn get<R: Row>(&self, key: &R::Key) -> Result<Option<R>, StoreError> {
        Ok(self.look(&R::key(key))?.as_ref().and_then(R::of).cloned())
    }

    /// One row of any kind.
    pub fn look(&self, key: &RowKey) -> Result<Option<RowValue>, StoreError> {
        if let Some(row) = self.remembered.get(key) {
            return Ok(row);
        }
        let Some(bytes) = encode_key(key) else { return Ok(None) };
        let row = self.bytes(&bytes)?.map(|row| RowValue::decode(key, &row)).transpose();
        let row = row.map_err(|source| StoreError::damaged(&bytes, source))?;
        self.remembered.put(key, row.as_ref());
        Ok(row)
    }

    /// All partitions in which the open transaction of an id is enrolled.
    pub fn enrolled(&self, id: &TransactionalId, open: Ongoing) -> Result<BTreeSet<PartitionId>, StoreError> {
        let more = if open.may_have_more() { self.get::<MoreEnrolledRow>(id)? } else { None };
        let mut partitions = open.partitions;
        for key in more.iter().flat_map(|more| more.keys(id)) {
            partitions.extend(self.get::<EnrolledRow>(&key)?.into_iter().flat_map(|row| row.partitions));
        }
        Ok(partitions)
    }

    /// The oldest transaction that is open in a partition: the offset of its first record there, and whose it is.
    pub fn oldest_open(&self, partition: PartitionId) -> Result<Option<(Offset, ProducerId)>, StoreError> {
        let in_row = self.get::<OpenTransactionsRow>(&partition)?.and_then(|row| row.oldest());
        let queued = self.get::<OpenQueueRow>(&partition)?.map(|queue| (queue.first, queue.oldest));
        Ok(in_row.into_iter().chain(queued).min())
    }

    /// The rows with keys from `from` up to, but not including, `to`, in order.
    pub(super) fn range(&self, from: &[u8], to: &[u8]) -> Range<'_> {
        let stored = match space_of(from) {
            _ if to <= from => None,
            Space::Rows => Some(Stored::Rows(self.snapshot.range(Space::Rows, from, Bound::Excluded(to)))),
            Space::Index => Some(Stored::Index {
                pages: self.snapshot.range(Space::Index, from, Bound::Excluded(&pages_end(to))),
                page: None,
                from: from.to_vec(),
                to: to.to_vec(),
            }),
        };
        let changes = self.layers.iter().rev().map(|layer| layer.range(from, to));
        let layers = changes.filter(|changes| !changes.is_empty()).map(Iterator::peekable);
        Range { layers: layers.collect(), stored, reading: &self.reading, next_stored: None }
    }

    /// The rows in the snapshot from a key on, without index and layers.
    pub(super) fn snapshot_rows(
        &self,
        from: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Bytes), StoreError>> + '_ {
        let mut rows = self.snapshot.range(Space::Rows, from, Bound::Unbounded);
        std::iter::from_fn(move || self.reading.next(&mut rows).transpose())
    }

    /// The same, all of them, for who reads them for long.
    pub(super) fn lasting_rows(&self) -> LastingRows {
        LastingRows { rows: self.snapshot.lasting(Space::Rows), reading: self.reading.clone() }
    }

    /// All rows whose key begins with `prefix`.
    fn prefix(&self, prefix: KeyBytes) -> Range<'_> {
        let from = prefix.done();
        let mut to = from.clone();
        // Kinds and texts never end in 0xff bytes only, so the next prefix exists; if not, the range is empty.
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                break;
            }
        }
        self.range(&from, &to)
    }

    /// A partition's batches from the one that holds `offset` (or the first after it) on.
    pub fn index(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> impl Iterator<Item = Result<(Offset, IndexEntry), StoreError>> + '_ {
        let (from, to) = (index_key(partition, offset), index_key(partition, Offset(i64::MAX)));
        let recent = self.recent_index(&from, &to, offset);
        let merged = recent.is_none().then(|| self.range(&from, &to));
        let recent = recent.into_iter().flatten().flatten();
        let recent = recent.filter_map(|(key, row)| row.map(|row| index_entry(key, row)));
        let merged = merged.into_iter().flatten();
        recent.chain(merged.map(|entry| entry.and_then(|(key, row)| index_entry(&key, &row))))
    }

    /// The same, if it is all in layers, whose parts come from the oldest to the newest. Whoever reads at the end of the log is
    /// served from the newest: fjall's ranges are slow to begin. A partition's batches are in the order of the blocks, and layers
    /// have them as they were appended: so where one has the batch that holds `offset`, older layers only have batches before it,
    /// and there is nothing to be merged.
    fn recent_index(&self, from: &[u8], to: &[u8], offset: Offset) -> Option<Recent<'_>> {
        let mut layers = Recent::new();
        for layer in self.layers.iter().rev() {
            let changes = layer.range(from, to);
            let Some((_, row)) = changes.clone().next() else { continue };
            // One that cannot be read is found out by who reads it.
            let entry = row.and_then(|row| IndexEntry::from_bytes(row).ok());
            layers.push(changes);
            if entry.is_some_and(|entry| entry.base_offset <= offset) {
                layers.reverse();
                return Some(layers);
            }
        }
        None
    }

    /// The first aborted range of a producer in a partition whose marker is at `offset` or after it: (first offset,
    /// marker's offset).
    pub fn next_aborted(
        &self,
        partition: PartitionId,
        producer: ProducerId,
        offset: Offset,
    ) -> Result<Option<(Offset, Offset)>, StoreError> {
        let key = |offset: i64| {
            KeyBytes::new(kind::ABORTED).partition(partition).number(producer.0).number(offset).done()
        };
        let Some((key, row)) = self.range(&key(offset.0), &key(i64::MAX)).next().transpose()? else {
            return Ok(None);
        };
        let marker = KeyReader::new(&key)
            .and_then(|mut key| key.partition().and_then(|_| key.number()).and_then(|_| key.number()));
        let row = AbortedRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
        Ok(Some((row.first, Offset(marker.ok_or_else(|| StoreError::damaged_key(&key))?))))
    }

    /// All partitions, in the order of their topics' ids.
    pub fn all_partitions(
        &self,
    ) -> impl Iterator<Item = Result<(PartitionId, PartitionRow), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::PARTITION)).map(|entry| {
            let (key, row) = entry?;
            let partition = KeyReader::new(&key).and_then(|mut key| key.partition());
            let row = PartitionRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((partition.ok_or_else(|| StoreError::damaged_key(&key))?, row))
        })
    }

    /// All topics, in the order of their ids.
    pub fn topics(&self) -> impl Iterator<Item = Result<(TopicId, TopicRow), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::TOPIC)).map(topic_entry)
    }

    /// The topics from this id on, in the order of their ids.
    pub fn topics_from(
        &self,
        id: TopicId,
    ) -> impl Iterator<Item = Result<(TopicId, TopicRow), StoreError>> + '_ {
        let from = KeyBytes::new(kind::TOPIC).topic(id).done();
        self.range(&from, &KeyBytes::new(kind::TOPIC + 1).done()).map(topic_entry)
    }

    /// All transactional ids, in the order of their lengths and names.
    pub fn transactions(
        &self,
    ) -> impl Iterator<Item = Result<(TransactionalId, TransactionRow), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::TRANSACTION)).map(|entry| {
            let (key, row) = entry?;
            let id = KeyReader::new(&key).and_then(|mut key| key.text().and_then(TransactionalId::new));
            let row = TransactionRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((id.ok_or_else(|| StoreError::damaged_key(&key))?, row))
        })
    }

    /// The durable timers: the open transactions' deadlines.
    pub fn deadlines(&self) -> impl Iterator<Item = Result<(Timer, ServedTime), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::DEADLINE)).map(|entry| {
            let (key, row) = entry?;
            let id = KeyReader::new(&key).and_then(|mut key| key.text().and_then(TransactionalId::new));
            let row = DeadlineRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((Timer::Transaction(id.ok_or_else(|| StoreError::damaged_key(&key))?), row.deadline))
        })
    }

    /// How the newest transactions of an id ended, oldest first.
    pub fn outcomes(
        &self,
        id: &TransactionalId,
    ) -> impl Iterator<Item = Result<(TxnNumber, OutcomeRow), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::OUTCOME).text(id.as_str())).map(|entry| {
            let (key, row) = entry?;
            let number = KeyReader::new(&key).and_then(|mut key| key.text().and_then(|_| key.count()));
            let row = OutcomeRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((TxnNumber(number.ok_or_else(|| StoreError::damaged_key(&key))?), row))
        })
    }

    /// The groups that have members.
    pub fn live_groups(&self) -> impl Iterator<Item = Result<GroupId, StoreError>> + '_ {
        let classic = self.prefix(KeyBytes::new(kind::MEMBERS));
        classic.chain(self.prefix(KeyBytes::new(kind::CONSUMERS))).map(|entry| group_of(&entry?.0))
    }

    /// The groups of the classic protocol that have or had members, in the order of their lengths and names: those behind
    /// `after`, or all.
    pub fn groups_after(
        &self,
        after: Option<&GroupId>,
    ) -> impl Iterator<Item = Result<(GroupId, GroupRow), StoreError>> + '_ {
        self.group_rows(kind::GROUP, after)
    }

    /// The same of the consumer protocol.
    pub fn consumer_groups_after(
        &self,
        after: Option<&GroupId>,
    ) -> impl Iterator<Item = Result<(GroupId, ConsumerGroupRow), StoreError>> + '_ {
        self.group_rows(kind::CONSUMER_GROUP, after)
    }

    fn group_rows<R: Codec>(
        &self,
        kind: u8,
        after: Option<&GroupId>,
    ) -> impl Iterator<Item = Result<(GroupId, R), StoreError>> + '_ {
        let from = match after {
            None => KeyBytes::new(kind).done(),
            Some(group) => KeyBytes::new(kind).text(group.as_str()).behind(),
        };
        self.range(&from, &[kind + 1]).map(|entry| {
            let (key, row) = entry?;
            let row = R::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((group_of(&key)?, row))
        })
    }

    /// The members of all classic groups that have some, in the same order.
    pub fn all_members(&self) -> impl Iterator<Item = Result<(GroupId, MembersRow), StoreError>> + '_ {
        self.group_rows(kind::MEMBERS, None)
    }

    /// The members of a group of the consumer protocol.
    pub fn consumers(&self, group: &GroupId) -> impl Iterator<Item = Result<ConsumerRow, StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::CONSUMER).text(group.as_str())).map(|entry| {
            let (key, row) = entry?;
            ConsumerRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))
        })
    }

    /// The committed offsets of all groups, in the order of the groups' lengths and names: those behind `after`, or all.
    pub fn all_group_offsets(
        &self,
        after: Option<&(GroupId, PartitionId)>,
    ) -> impl Iterator<Item = Result<(GroupId, PartitionId, CommittedOffset), StoreError>> + '_ {
        let from = match after {
            None => KeyBytes::new(kind::GROUP_OFFSET).done(),
            Some((group, partition)) => {
                KeyBytes::new(kind::GROUP_OFFSET).text(group.as_str()).partition(*partition).behind()
            }
        };
        self.range(&from, &[kind::GROUP_OFFSET + 1]).map(|entry| {
            let (key, row) = entry?;
            let partition = KeyReader::new(&key).and_then(|mut key| key.text().and_then(|_| key.partition()));
            let row =
                CommittedOffset::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((group_of(&key)?, partition.ok_or_else(|| StoreError::damaged_key(&key))?, row))
        })
    }

    /// The next group, in the order of lengths and names, that has offsets: the one after `after`, or the first.
    pub fn next_group_with_offsets(&self, after: Option<&GroupId>) -> Result<Option<GroupId>, StoreError> {
        let mut from = KeyBytes::new(kind::GROUP_OFFSET);
        if let Some(after) = after {
            // No partition's key is this long a run of 0xff bytes.
            from = from.text(after.as_str()).topic(TopicId(uuid::Uuid::max())).number(i64::MAX);
        }
        let first = self.range(&from.done(), &[kind::GROUP_OFFSET + 1]).next().transpose()?;
        first.map(|(key, _)| group_of(&key)).transpose()
    }

    /// Whether an open transaction carries offsets of this group.
    pub fn has_pending_offsets(&self, group: &GroupId) -> Result<bool, StoreError> {
        let pending = self.prefix(KeyBytes::new(kind::PENDING_OFFSET).text(group.as_str())).next();
        pending.transpose().map(|row| row.is_some())
    }

    /// What a partition remembers of its producers, in the order of their ids.
    pub fn producers(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = Result<(ProducerId, ProducerRow), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::PRODUCER).partition(partition)).map(|entry| {
            let (key, row) = entry?;
            let id = KeyReader::new(&key).and_then(|mut key| key.partition().and_then(|_| key.number()));
            let row = ProducerRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((ProducerId(id.ok_or_else(|| StoreError::damaged_key(&key))?), row))
        })
    }

    /// A group's committed offsets.
    pub fn group_offsets(
        &self,
        group: &GroupId,
    ) -> impl Iterator<Item = Result<(PartitionId, CommittedOffset), StoreError>> + '_ {
        self.prefix(KeyBytes::new(kind::GROUP_OFFSET).text(group.as_str())).map(|entry| {
            let (key, row) = entry?;
            let partition = KeyReader::new(&key).and_then(|mut key| key.text().and_then(|_| key.partition()));
            let row =
                CommittedOffset::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
            Ok((partition.ok_or_else(|| StoreError::damaged_key(&key))?, row))
        })
    }

    /// Whether an open transaction carries an offset of this group and partition.
    pub fn has_pending_offset(&self, key: &GroupOffsetKey) -> Result<bool, StoreError> {
        self.prefix(KeyBytes::new(kind::PENDING_OFFSET).group_offset(key))
            .next()
            .transpose()
            .map(|row| row.is_some())
    }
}

/// The keyspace that a key is in.
pub(super) fn space_of(key: &[u8]) -> Space {
    if key.first() == Some(&kind::INDEX) { Space::Index } else { Space::Rows }
}

fn topic_entry(entry: Result<(Vec<u8>, Bytes), StoreError>) -> Result<(TopicId, TopicRow), StoreError> {
    let (key, row) = entry?;
    let id = KeyReader::new(&key).and_then(|mut key| key.topic());
    let row = TopicRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))?;
    Ok((id.ok_or_else(|| StoreError::damaged_key(&key))?, row))
}

/// The group that a key begins with.
fn group_of(key: &[u8]) -> Result<GroupId, StoreError> {
    let group = KeyReader::new(key).and_then(|mut key| key.text().map(GroupId::new));
    group.ok_or_else(|| StoreError::damaged_key(key))
}

/// A key, and its newest row; none where the row is gone.
type Change = (Vec<u8>, Option<Bytes>);

/// What a snapshot has in a range.
enum Stored {
    Rows(Entries),
    /// The entries from `from` up to, but not including, `to`. The first and the last page may have others as well.
    Index {
        pages: Entries,
        page: Option<Box<Page>>,
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

impl Stored {
    fn next(&mut self, reading: &Reading) -> Result<Option<(Vec<u8>, Bytes)>, StoreError> {
        let (pages, page, from, to) = match self {
            Stored::Rows(rows) => return reading.next(rows),
            Stored::Index { pages, page, from, to } => (pages, page, from, to),
        };
        loop {
            if let Some((key, entry)) = page.as_mut().map(|page| page.next()).transpose()?.flatten() {
                return Ok((key < *to).then(|| (key, entry.to_bytes().into())));
            }
            let Some((key, row)) = reading.next(pages)? else { return Ok(None) };
            page.insert(Box::new(Page::new(key, row))).begin_at(from)?;
        }
    }
}

/// An index entry, and the last offset that its key says.
fn index_entry(key: &[u8], row: &[u8]) -> Result<(Offset, IndexEntry), StoreError> {
    let last = KeyReader::new(key).and_then(|mut key| key.partition().and_then(|_| key.number()));
    let entry = IndexEntry::from_bytes(row).map_err(|source| StoreError::damaged(key, source))?;
    Ok((Offset(last.ok_or_else(|| StoreError::damaged_key(key))?), entry))
}

/// The changes of the newest layers. What is read at the end of the log is mostly in one or two.
type Recent<'a> = SmallVec<[Changes<'a>; 4]>;

/// Layers and snapshot, merged: of several rows with one key, the newest counts.
pub(super) struct Range<'a> {
    /// Newest first.
    layers: Vec<Peekable<Changes<'a>>>,
    /// What is left of the snapshot's part, if there is anything.
    stored: Option<Stored>,
    reading: &'a Reading,
    next_stored: Option<(Vec<u8>, Bytes)>,
}

impl Range<'_> {
    fn fill_stored(&mut self) -> Result<(), StoreError> {
        if self.next_stored.is_none()
            && let Some(stored) = &mut self.stored
        {
            self.next_stored = stored.next(self.reading)?;
            if self.next_stored.is_none() {
                self.stored = None;
            }
        }
        Ok(())
    }

    /// The next key's newest row; inner none where it is gone.
    fn step(&mut self) -> Result<Option<Change>, StoreError> {
        self.fill_stored()?;
        let in_layers = self.layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| *key));
        let least = in_layers.chain(self.next_stored.as_ref().map(|(key, _)| key.as_slice())).min();
        let Some(least) = least.map(<[u8]>::to_vec) else { return Ok(None) };
        let mut newest = None;
        for layer in &mut self.layers {
            if let Some((_, row)) = layer.next_if(|(key, _)| *key == least) {
                newest = newest.or_else(|| Some(row.map(Bytes::copy_from_slice)));
            }
        }
        if self.next_stored.as_ref().is_some_and(|(key, _)| *key == least) {
            let stored = self.next_stored.take().map(|(_, row)| row);
            newest = newest.or(Some(stored));
        }
        Ok(Some((least, newest.flatten())))
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Vec<u8>, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Err(error) => {
                    self.stored = None;
                    return Some(Err(error));
                }
                Ok(None) => return None,
                Ok(Some((key, Some(row)))) => return Some(Ok((key, row))),
                Ok(Some((_, None))) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Database, LayerBuilder, StoreLimits};

    #[test]
    fn layers_stay_few_and_small_however_far_the_store_is_behind() {
        const BLOCKS: i64 = 400;
        const ROWS: i64 = 500;
        let dir = tempfile::tempdir().unwrap();
        let store = Database::open(&dir.path().join("rows"), StoreLimits::default()).unwrap();
        let mut view = store.view_now().unwrap();
        let owner = |number: i64| TransactionalId::new(&number.to_string()).unwrap();
        for block in 0..BLOCKS {
            let mut layer = LayerBuilder::default();
            // Each block has one row of the block before.
            for number in block * ROWS..=(block + 1) * ROWS {
                let row = ProducerOwnerRow { transactional_id: owner(number * BLOCKS + block) };
                layer.put(&ProducerOwnerRow::key(&ProducerId(number)), Some(&row.into()));
            }
            view = view.with_layer(layer.finish(BlockNumber(u64::try_from(block + 1).unwrap())));
        }
        let changes = usize::try_from(BLOCKS * ROWS).unwrap();
        let few = LAYERS_UNMERGED + 2 * changes / MERGED_CHANGES_MAX + 16;
        assert!(view.layers.len() <= few, "{} layers", view.layers.len());
        assert!(view.layers.iter().all(|layer| layer.len() <= MERGED_CHANGES_MAX));
        assert_eq!((view.layers_begin(), view.durable()), (Some(BlockNumber(1)), BlockNumber(400)));
        for number in (0..BLOCKS * ROWS).step_by(250) {
            let row = view.get::<ProducerOwnerRow>(&ProducerId(number)).unwrap().unwrap();
            assert_eq!(row.transactional_id, owner(number * BLOCKS + number / ROWS));
        }
    }
}
