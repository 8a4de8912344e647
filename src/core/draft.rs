//! One decision in the making: the rows as they are, and on top of them what the decision has changed so far.

use super::commands::{RebalanceCause, Reply};
use super::events::{Enrolment, Event};
use super::evolve::{evolve, partitions_enrolled};
use super::mutant::{Mutant, mutated};
use super::rows::{Row, RowKey, RowValue};
use crate::types::codec::Codec;
use crate::types::{BlockNumber, GroupId, IndexMap, PartitionId, RequestId, ServedTime};
use std::cell::{Cell, RefCell};

/// What a view knows of a row.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// The row, or its absence, with the block that made it so.
    Known(Option<&'a RowValue>, BlockNumber),
    /// The row has to be fetched first.
    Unknown,
}

/// The rows, up to *decided*.
pub trait View {
    /// What is known of a row.
    fn look(&self, key: &RowKey) -> Look<'_>;
}

/// Rows without which nothing can be decided. The same command is decided again once they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need(pub Vec<RowKey>);

/// Rows that a small transaction's end changes, about: room for them from the start, so that they are put there once.
const USUAL_CHANGES: usize = 28;

/// Rows of so many kinds are remembered as they were last looked at. More than a decision has to do with again and again.
const KINDS_REMEMBERED: usize = 16;

/// Where a decision has a row from.
#[derive(Clone, Copy)]
enum Found<'v> {
    /// It has not changed it.
    View(Look<'v>),
    /// It has: the place among the changes.
    Changed(usize),
}

/// The rows that a decision has looked at last, one of each kind: the same topic, transaction and partition are asked for
/// again and again, and to look for each of them anew is much of the work.
#[derive(Default)]
struct Remembered<'v>(RefCell<[Option<(RowKey, Found<'v>)>; KINDS_REMEMBERED]>);

impl<'v> Remembered<'v> {
    /// Where a row was found; to ask costs a comparison, and no key among all rows' keys.
    fn get<R: Row>(&self, key: &R::Key) -> Option<Found<'v>> {
        let rows = self.0.borrow();
        let (of, found) = rows.get(R::KIND % KINDS_REMEMBERED)?.as_ref()?;
        (R::of_key(of) == Some(key)).then_some(*found)
    }

    fn put(&self, key: RowKey, found: Found<'v>) {
        if let Some(place) = self.0.borrow_mut().get_mut(key.kind() % KINDS_REMEMBERED) {
            *place = Some((key, found));
        }
    }
}

/// The rows that a decision changes, in the order in which it first did; none is a row that goes.
pub type Changes = IndexMap<RowKey, Option<RowValue>>;

/// A decision in the making. Dropped, it has changed nothing.
pub struct Draft<'v> {
    view: &'v dyn View,
    remembered: Remembered<'v>,
    changes: Changes,
    events: Vec<Event>,
    /// For each `BatchAppended`, in order: which of the command's batches it stores.
    batches: Vec<usize>,
    /// The newest block among the rows read: what is said of them must not be said before it is durable.
    observed: Cell<BlockNumber>,
    answered: Vec<(RequestId, Reply)>,
    rebalances: Vec<(GroupId, RebalanceCause)>,
    at: ServedTime,
}

/// What a finished decision changes.
pub struct Drafted {
    /// The facts, in order.
    pub events: Vec<Event>,
    /// For each `BatchAppended` among them: which of the command's batches it stores.
    pub batches: Vec<usize>,
    /// The rows that change.
    pub changes: Changes,
    /// The newest block among the rows read.
    pub observed: BlockNumber,
    /// Replies to requests that have waited for this decision, in order.
    pub answered: Vec<(RequestId, Reply)>,
    /// Groups that rebalance from now on, and why. For people: nothing is decided by it.
    pub rebalances: Vec<(GroupId, RebalanceCause)>,
}

impl<'v> Draft<'v> {
    /// Nothing decided yet, at served time `at`.
    #[must_use]
    pub fn new(view: &'v dyn View, at: ServedTime) -> Draft<'v> {
        Draft {
            view,
            remembered: Remembered::default(),
            changes: Changes::with_capacity_and_hasher(USUAL_CHANGES, Default::default()),
            events: Vec::new(),
            batches: Vec::new(),
            observed: Cell::new(BlockNumber::ZERO),
            answered: Vec::new(),
            rebalances: Vec::new(),
            at,
        }
    }

    /// The same rows as if nothing had been decided.
    #[must_use]
    pub fn unchanged(&self) -> Draft<'v> {
        Draft::new(self.view, self.at)
    }

    /// Makes room for what so many batches or markers change, mostly. Where the last batches of a transaction end it, the rows of
    /// its markers are there already.
    pub fn expect_appends(&mut self, appends: usize) {
        /// Of the partition, of what is open there, of the producer.
        const ROWS_PER_APPEND: usize = 3;
        self.changes.reserve((ROWS_PER_APPEND * appends).saturating_sub(self.changes.len()));
        self.events.reserve(appends);
        self.batches.reserve(appends);
    }

    /// A row, as this decision sees it.
    pub fn get<R: Row>(&self, key: &R::Key) -> Result<Option<&R>, Need> {
        let row = match self.find::<R>(key) {
            Found::Changed(place) => self.changes.get_index(place).and_then(|(_, row)| row.as_ref()),
            Found::View(Look::Known(row, block)) => {
                self.observe(block);
                row
            }
            Found::View(Look::Unknown) => return Err(Need(vec![R::key(key)])),
        };
        Ok(row.and_then(R::of))
    }

    fn find<R: Row>(&self, key: &R::Key) -> Found<'v> {
        self.remembered.get::<R>(key).unwrap_or_else(|| {
            let key = R::key(key);
            let changed = self.changes.get_index_of(&key).map(Found::Changed);
            let found = changed.unwrap_or_else(|| Found::View(self.view.look(&key)));
            self.remembered.put(key, found);
            found
        })
    }

    /// What is said of a row of the view must not be said before the block that made it so is durable.
    fn observe(&self, block: BlockNumber) {
        self.observed.set(self.observed.get().max(block));
    }

    /// Asks for all of `keys` in one round.
    pub fn require(&self, keys: impl IntoIterator<Item = RowKey>) -> Result<(), Need> {
        let unknown =
            |key: &RowKey| !self.changes.contains_key(key) && matches!(self.view.look(key), Look::Unknown);
        let missing: Vec<RowKey> = keys.into_iter().filter(unknown).collect();
        if missing.is_empty() { Ok(()) } else { Err(Need(missing)) }
    }

    /// States a fact and lets it take effect.
    pub fn state(&mut self, event: Event) -> Result<(), Need> {
        evolve(self, self.at, &event)?;
        if mutated(Mutant::DepartureNotDurable) && matches!(event, Event::MembersLeft { .. }) {
            return Ok(());
        }
        self.events.push(event);
        Ok(())
    }

    /// States that the command's batch number `index` is stored.
    pub fn state_batch(&mut self, event: Event, index: usize) -> Result<(), Need> {
        self.state(event)?;
        self.batches.push(index);
        Ok(())
    }

    /// States that a partition belongs to a transaction, together with those of which this decision has stated it before: a
    /// fact for each would be as long in the log as a small batch.
    pub fn enrol(&mut self, enrolment: &Enrolment, partition: PartitionId) -> Result<(), Need> {
        partitions_enrolled(self, self.at, enrolment, &[partition])?;
        let of_the_same = |event: &mut Event| match event {
            Event::PartitionsEnrolled { enrolment: before, partitions } => {
                let same = (&before.transactional_id, before.number)
                    == (&enrolment.transactional_id, enrolment.number);
                same.then(|| partitions.push(partition))
            }
            _ => None,
        };
        if self.events.iter_mut().find_map(of_the_same).is_none() {
            let (enrolment, partitions) = (enrolment.clone(), vec![partition]);
            self.events.push(Event::PartitionsEnrolled { enrolment, partitions });
        }
        Ok(())
    }

    /// Answers a request that has waited for this decision.
    pub fn answer(&mut self, request: RequestId, reply: Reply) {
        self.answered.push((request, reply));
    }

    /// Says that a group rebalances from now on, and why.
    pub fn rebalance(&mut self, group: &GroupId, cause: RebalanceCause) {
        self.rebalances.push((group.clone(), cause));
    }

    /// Puts a row in place of what is there. For `evolve`, and for volatile rows.
    pub fn put<R: Row>(&mut self, key: &R::Key, row: R) {
        self.replace(R::key(key), Some(row.into()));
    }

    /// Takes a row away.
    pub fn remove<R: Row>(&mut self, key: &R::Key) {
        self.replace(R::key(key), None);
    }

    fn replace(&mut self, key: RowKey, row: Option<RowValue>) {
        let (place, _) = self.changes.insert_full(key.clone(), row);
        self.remembered.put(key, Found::Changed(place));
    }

    /// Changes a row in place, from `default` if it is not there.
    pub fn update<R: Row>(
        &mut self,
        key: &R::Key,
        default: impl FnOnce() -> R,
        change: impl FnOnce(&mut R),
    ) -> Result<(), Need> {
        self.alter(key, || Some(default()), change)
    }

    /// Changes a row in place if it is there.
    pub fn change<R: Row>(&mut self, key: &R::Key, change: impl FnOnce(&mut R)) -> Result<(), Need> {
        self.alter(key, || None, change)
    }

    /// Each row is looked for once: decisions with many partitions do little else.
    fn alter<R: Row>(
        &mut self,
        key: &R::Key,
        default: impl FnOnce() -> Option<R>,
        change: impl FnOnce(&mut R),
    ) -> Result<(), Need> {
        match self.find::<R>(key) {
            Found::Changed(place) => {
                let Some((_, row)) = self.changes.get_index_mut(place) else { return Ok(()) };
                if row.is_none() {
                    *row = default().map(Into::into);
                }
                row.as_mut().and_then(R::of_mut).map(change);
            }
            Found::View(Look::Known(row, block)) => {
                self.observe(block);
                if let Some(mut row) = row.cloned().or_else(|| default().map(Into::into)) {
                    R::of_mut(&mut row).map(change);
                    self.replace(R::key(key), Some(row));
                }
            }
            Found::View(Look::Unknown) => return Err(Need(vec![R::key(key)])),
        }
        Ok(())
    }

    /// Takes everything back: nothing has been decided.
    pub fn take_back(&mut self) {
        self.remembered = Remembered::default();
        self.changes.clear();
        self.events.clear();
        self.batches.clear();
        self.answered.clear();
        self.rebalances.clear();
    }

    /// What has been stated so far, in bytes.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        self.events.iter().map(|event| event.to_bytes().len()).sum()
    }

    /// What the decision has come to.
    #[must_use]
    pub fn finish(self) -> Drafted {
        Drafted {
            events: self.events,
            batches: self.batches,
            changes: self.changes,
            observed: self.observed.get(),
            answered: self.answered,
            rebalances: self.rebalances,
        }
    }
}
