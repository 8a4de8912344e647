//! The rows that `decide` sees, up to *decided*: one entry for each row that is in use, loaded on demand, let go of only
//! when the store has all that was decided of it. So a million producer ids cost disk, not memory.

use crate::core::mutant::{Mutant, mutated};
use crate::core::{Look, RowKey, RowValue, View};
use crate::types::{BlockNumber, HashMap};
use std::cell::Cell;
use std::collections::VecDeque;

/// What is known of a row.
#[derive(Debug)]
enum Entry {
    /// Its value is being read. Nothing is known of it until then.
    Loading,
    /// Its value, and the block that made it so.
    Known { row: Option<RowValue>, block: BlockNumber },
}

impl Entry {
    /// Whether the store, which is so far, does not have it.
    fn is_ahead(&self, applied: BlockNumber) -> bool {
        match self {
            Entry::Loading => false,
            Entry::Known { block, .. } => *block > applied && !mutated(Mutant::EvictedBeforeApplied),
        }
    }
}

/// Rows that nobody has asked for are considered so many at a time: in a millisecond, about. There are a few such times a second, and fewer
/// new ones in between.
const UNASKED_AT_ONCE: usize = 20_000;

/// Bytes that clients may add to a row before it counts as two. Most rows have none.
const BYTES_PER_ROW: usize = 1_024;

/// What is known of a row, and as how many rows it counts.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    counts: usize,
    /// Whether the store is being asked for it. Its answer may be of before a block that has decided the row since, so the slot stays
    /// until it has come: the row that is asked for next would be taken to be what it says.
    reading: bool,
    /// Whether somebody has asked for it, so that its key is in the queue of those.
    asked: bool,
    /// Whether it has been in use since it was last considered for eviction.
    used: Cell<bool>,
}

impl Slot {
    fn new(key: &RowKey, entry: Entry) -> Slot {
        let row = match &entry {
            Entry::Known { row: Some(row), .. } => row.weight(),
            Entry::Known { row: None, .. } | Entry::Loading => 0,
        };
        let counts = 1 + (key.weight() + row) / BYTES_PER_ROW;
        let reading = matches!(entry, Entry::Loading);
        // A volatile row is nowhere else: as long as one that somebody has asked for, it stays.
        let asked = key.is_volatile() || reading;
        Slot { entry, counts, reading, asked, used: Cell::new(asked) }
    }

    /// Whether it must stay, however many there are.
    fn is_needed(&self, applied: BlockNumber) -> bool {
        self.reading || self.entry.is_ahead(applied)
    }
}

/// The resident rows.
#[derive(Debug)]
pub(super) struct Table {
    entries: HashMap<RowKey, Slot>,
    /// The keys of `entries`, each in one of the two, in the order in which they will be considered for eviction: those that somebody
    /// has asked for,
    queue: VecDeque<RowKey>,
    /// and those that were only decided. Most of these nobody ever asks for, how a transaction ended, say: they go as soon as the store has
    /// them. What is asked for lies closer together then, which is a part of how soon it is found.
    unasked: VecDeque<RowKey>,
    /// As how many rows all of them count together.
    count: usize,
    capacity: usize,
}

impl View for Table {
    fn look(&self, key: &RowKey) -> Look<'_> {
        match self.entries.get(key) {
            Some(Slot { entry: Entry::Known { row, block }, used, .. }) => {
                used.set(true);
                Look::Known(row.as_ref(), *block)
            }
            // A volatile row that is not here is nowhere.
            None if key.is_volatile() => Look::Known(None, BlockNumber::ZERO),
            Some(_) if mutated(Mutant::LoadingTakenForAbsent) => Look::Known(None, BlockNumber::ZERO),
            Some(_) | None => Look::Unknown,
        }
    }
}

impl Table {
    /// An empty table that tries to hold no more than `capacity` rows; one that clients have made large counts as several.
    pub(super) fn new(capacity: usize) -> Table {
        Table {
            entries: HashMap::default(),
            queue: VecDeque::new(),
            unasked: VecDeque::new(),
            count: 0,
            capacity,
        }
    }

    /// Puts what is known of a row in the place of what was, which it gives. To put a row is not to ask for it, but one that was asked
    /// for is in use.
    fn put(&mut self, key: &RowKey, entry: Entry) -> Option<Entry> {
        let mut slot = Slot::new(key, entry);
        self.count += slot.counts;
        if let Some(place) = self.entries.get_mut(key) {
            slot.reading |= place.reading;
            slot.asked |= place.asked;
            slot.used = Cell::new(slot.asked || place.used.get());
            let before = std::mem::replace(place, slot);
            self.count -= before.counts;
            return Some(before.entry);
        }
        let queue = if slot.asked { &mut self.queue } else { &mut self.unasked };
        queue.push_back(key.clone());
        self.entries.insert(key.clone(), slot);
        None
    }

    /// Of `keys`, those that nobody is loading yet: the caller is to load them.
    pub(super) fn begin_loading(&mut self, keys: Vec<RowKey>) -> Vec<RowKey> {
        keys.into_iter()
            .filter(|key| {
                let is_new = !self.entries.contains_key(key);
                if is_new {
                    self.put(key, Entry::Loading);
                }
                is_new
            })
            .collect()
    }

    /// A row has been read from the store. If a block has made it anew meanwhile, what was read is old.
    pub(super) fn loaded(&mut self, key: &RowKey, row: Option<RowValue>) {
        let Some(slot) = self.entries.get_mut(key) else { return };
        slot.reading = false;
        if matches!(slot.entry, Entry::Loading) || mutated(Mutant::StaleLoadedRow) {
            self.put(key, Entry::Known { row, block: BlockNumber::ZERO });
        }
    }

    /// Block `block` has decided what a row is. Gives the key, if the row is kept in the store and the block had not changed it
    /// before.
    pub(super) fn decided(
        &mut self,
        key: RowKey,
        row: Option<RowValue>,
        block: BlockNumber,
    ) -> Option<RowKey> {
        // What a volatile row says needs no durability, so nothing waits for it.
        let block = if key.is_volatile() { BlockNumber::ZERO } else { block };
        let before = self.put(&key, Entry::Known { row, block });
        let is_first = !matches!(before, Some(Entry::Known { block: before, .. }) if before == block);
        (is_first && !key.is_volatile()).then_some(key)
    }

    /// How many rows there are, those that are being read included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of a row that is known.
    pub(super) fn row(&self, key: &RowKey) -> Option<&RowValue> {
        match self.entries.get(key).map(|slot| &slot.entry) {
            Some(Entry::Known { row, .. }) => row.as_ref(),
            _ => None,
        }
    }

    /// Lets go of rows that nobody has asked for, and, while there are too many, of those that have not been used lately. A row that
    /// the store does not have yet stays, however many there are: `applied` says how far the store is.
    pub(super) fn evict(&mut self, applied: BlockNumber) {
        for _ in 0..self.unasked.len().min(UNASKED_AT_ONCE) {
            let Some(key) = self.unasked.pop_front() else { break };
            match self.entries.get_mut(&key) {
                Some(slot) if slot.used.get() => {
                    slot.asked = true;
                    self.queue.push_back(key);
                }
                Some(slot) if slot.is_needed(applied) => self.unasked.push_back(key),
                _ => self.let_go(&key),
            }
        }
        for _ in 0..self.queue.len() {
            if self.count <= self.capacity {
                return;
            }
            let Some(key) = self.queue.pop_front() else { return };
            let stays = match self.entries.get(&key) {
                None => continue,
                Some(Slot { entry: Entry::Known { row: Some(_), .. }, .. }) if key.is_pinned() => true,
                Some(slot) => slot.used.replace(false) || slot.is_needed(applied),
            };
            if stays {
                self.queue.push_back(key);
            } else {
                self.let_go(&key);
            }
        }
    }

    fn let_go(&mut self, key: &RowKey) {
        if let Some(slot) = self.entries.remove(key) {
            self.count -= slot.counts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        CommittedOffset, GroupOffsetKey, NextProducerIdRow, ProducerIdsRow, TopicNameRow, TopicsSeenRow,
    };
    use crate::types::*;

    fn name(text: &str) -> RowKey {
        RowKey::TopicName(TopicName::new(text).unwrap())
    }

    fn row() -> RowValue {
        TopicNameRow { id: TopicId::NIL }.into()
    }

    #[test]
    fn what_was_read_never_replaces_what_was_decided() {
        let mut table = Table::new(10);
        let key = RowKey::ProducerIds(());
        assert_eq!(table.begin_loading(vec![key.clone()]), vec![key.clone()]);
        assert_eq!(table.begin_loading(vec![key.clone()]), vec![], "one load at a time");
        assert!(matches!(table.look(&key), Look::Unknown));
        let newer = ProducerIdsRow { reserved_until: ProducerId(9) };
        table.decided(key.clone(), Some(newer.clone().into()), BlockNumber(3));
        table.loaded(&key, None);
        assert_eq!(table.row(&key), Some(&newer.into()));
    }

    #[test]
    fn a_row_that_the_store_does_not_have_stays() {
        let mut table = Table::new(1);
        for (text, block) in [("a", 1), ("b", 2), ("c", 3), ("unasked", 2)] {
            table.decided(name(text), Some(row()), BlockNumber(block));
            if text.len() == 1 {
                table.look(&name(text));
            }
        }
        table.evict(BlockNumber(1));
        table.evict(BlockNumber(1));
        assert!(table.row(&name("a")).is_none());
        assert!(["b", "c", "unasked"].iter().all(|text| table.row(&name(text)).is_some()));
    }

    #[test]
    fn a_row_in_use_outlives_one_that_is_not() {
        let mut table = Table::new(2);
        for text in ["a", "b", "c"] {
            table.decided(name(text), Some(row()), BlockNumber(1));
            table.look(&name(text));
        }
        table.evict(BlockNumber(0)); // every entry has lost its mark
        assert!(matches!(table.look(&name("a")), Look::Known(Some(_), BlockNumber(1))));
        table.evict(BlockNumber(1));
        assert!(table.row(&name("a")).is_some());
        assert!(table.row(&name("b")).is_none());
    }

    #[test]
    fn a_row_that_nobody_asks_for_goes_once_the_store_has_it() {
        let mut table = Table::new(100);
        let pinned = RowKey::NextProducerId(());
        table.decided(pinned.clone(), Some(NextProducerIdRow { id: ProducerId(1) }.into()), BlockNumber(1));
        for (text, block) in [("a", 1), ("b", 1), ("c", 1), ("b", 2), ("d", 2)] {
            table.decided(name(text), Some(row()), BlockNumber(block));
        }
        table.look(&name("c"));
        let resident = |table: &Table| ["a", "b", "c", "d"].map(|text| table.row(&name(text)).is_some());
        table.evict(BlockNumber(1));
        assert_eq!(resident(&table), [false, true, true, true], "the store has a, but not all of b yet");
        table.evict(BlockNumber(2));
        assert_eq!(resident(&table), [false, false, true, false], "c was asked for, and there is room");
        table.decided(name("c"), Some(row()), BlockNumber(3));
        table.evict(BlockNumber(3));
        assert_eq!(resident(&table), [false, false, true, false]);
        assert!(table.row(&pinned).is_some());
        assert_eq!((table.len(), table.count, table.queue.len(), table.unasked.len()), (2, 2, 2, 0));
    }

    #[test]
    fn an_answer_of_the_store_is_never_taken_for_that_of_a_later_question() {
        let mut table = Table::new(0);
        let key = name("a");
        assert_eq!(table.begin_loading(vec![key.clone()]), vec![key.clone()]);
        table.decided(key.clone(), Some(row()), BlockNumber(1));
        for _ in 0..3 {
            table.evict(BlockNumber(1));
        }
        assert_eq!(table.begin_loading(vec![key.clone()]), vec![], "the store has not answered yet");
        table.loaded(&key, None);
        assert_eq!(table.row(&key), Some(&row()), "what it says is of before the block");
        table.evict(BlockNumber(1));
        table.evict(BlockNumber(1));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_volatile_row_that_may_go_is_given_as_long_as_one_that_was_asked_for() {
        let mut table = Table::new(0);
        let key = RowKey::TopicsSeen(GroupId::new("g"));
        table.decided(key.clone(), Some(TopicsSeenRow { version: 1 }.into()), BlockNumber(1));
        table.evict(BlockNumber(1));
        assert!(table.row(&key).is_some());
        table.evict(BlockNumber(1));
        assert!(table.row(&key).is_none());
    }

    #[test]
    fn a_row_that_is_made_large_counts_as_several() {
        let mut table = Table::new(40);
        let offset = |metadata: usize| CommittedOffset {
            offset: Offset(1),
            leader_epoch: LeaderEpoch(-1),
            metadata: "x".repeat(metadata),
            committed_at: Timestamp(0),
            since: ServedTime(0),
        };
        let partition = PartitionId::new(TopicId::NIL, PartitionIndex(0));
        let key = |group: usize| {
            RowKey::GroupOffset(GroupOffsetKey { group: GroupId::new(&group.to_string()), partition })
        };
        for group in 0..100 {
            table.decided(key(group), Some(offset(4_096).into()), BlockNumber(1));
            table.look(&key(group));
        }
        table.evict(BlockNumber(1));
        table.evict(BlockNumber(1));
        assert_eq!(table.len(), 8, "five each");
        for group in 92..100 {
            table.decided(key(group), Some(offset(0).into()), BlockNumber(2));
        }
        assert_eq!(table.count, 8, "what has become small counts as one again");
        assert_eq!(
            table
                .begin_loading(
                    (0..8).map(|group| RowKey::Group(GroupId::new(&"g".repeat(group << 10)))).collect()
                )
                .len(),
            8
        );
        assert_eq!(table.count, 8 + (1..=8).sum::<usize>(), "so do long keys");
    }

    #[test]
    fn a_volatile_row_is_never_unknown() {
        let table = Table::new(1);
        assert!(matches!(table.look(&RowKey::NextProducerId(())), Look::Known(None, BlockNumber::ZERO)));
    }
}
