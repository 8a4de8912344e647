//! That the invariants can fail: each is shown steps that break it, and beside each one that does not. Which mutants break one
//! in random histories, `shard/tests/mutants.rs` tells.

mod groups;
mod records;
mod transactions;

use crate::core::invariants::{INVARIANTS, Step};
use crate::core::tests::world::Rows;
use crate::core::*;
use crate::types::*;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// A step that no decision takes. Made by hand, so that one thing is wrong with it, or nothing.
struct Planted {
    rows: Rows,
    now: Now,
    command: Command,
    decided: Decided,
}

impl Planted {
    /// Nothing has changed yet.
    fn new() -> Planted {
        let drafted = Drafted {
            events: Vec::new(),
            batches: Vec::new(),
            changes: Changes::default(),
            observed: BlockNumber::ZERO,
            answered: Vec::new(),
            rebalances: Vec::new(),
        };
        Planted {
            rows: Rows::default(),
            now: Now { served: ServedTime(1_000), wall: Timestamp(1_000) },
            command: Command::FormCluster { id: Uuid::nil() },
            decided: Decided { reply: Some(Reply::Done(Ok(()))), drafted },
        }
    }

    /// The decision has found this row.
    fn found<R: Row>(&mut self, key: &R::Key, row: R) {
        self.rows.0.insert(R::key(key), row.into());
    }

    /// It leaves this one.
    fn leaves<R: Row>(&mut self, key: &R::Key, row: R) {
        self.decided.drafted.changes.insert(R::key(key), Some(row.into()));
    }

    /// It has found the one, and leaves the other.
    fn changes<R: Row>(&mut self, key: &R::Key, before: R, after: R) {
        self.found(key, before);
        self.leaves(key, after);
    }

    /// It takes this one away.
    fn removes<R: Row>(&mut self, key: &R::Key, row: R) {
        self.found(key, row);
        self.decided.drafted.changes.insert(R::key(key), None);
    }

    fn states(&mut self, event: Event) {
        self.decided.drafted.events.push(event);
    }

    fn step(&self) -> Step<'_> {
        Step { view: &self.rows, now: self.now, command: &self.command, decided: &self.decided }
    }
}

/// What an invariant says, and a step that breaks it; or, if that is not wanted, one that does not.
type Plant = (&'static str, fn(&mut Planted, bool));

#[test]
fn every_invariant_can_fail() {
    let plants = || records::PLANTS.iter().chain(transactions::PLANTS).chain(groups::PLANTS);
    for (says, plant) in plants() {
        let invariant = INVARIANTS.iter().find(|invariant| invariant.says == *says).expect(says);
        for broken in [false, true] {
            let mut planted = Planted::new();
            plant(&mut planted, broken);
            let found = invariant.broken_by(&planted.step());
            assert_eq!(found.is_some(), broken, "{}: {says}: {found:?}", invariant.property);
        }
    }
    let planted: BTreeSet<&str> = plants().map(|(says, _)| *says).collect();
    let left: Vec<_> =
        INVARIANTS.iter().map(|known| known.says).filter(|says| !planted.contains(says)).collect();
    assert!(left.is_empty(), "nothing shows that these can fail: {left:#?}");
}

#[test]
#[should_panic(expected = "GenerationMonotone: a group's generation never goes back, but Change {")]
fn what_is_broken_has_the_name_of_its_property() {
    let mut planted = Planted::new();
    planted.changes(&group(), classic(5, GroupState::Stable), classic(4, GroupState::Stable));
    crate::core::invariants::check(&planted.step());
}

/// One of two.
fn pick<T>(broken: bool, wrong: T, right: T) -> T {
    if broken { wrong } else { right }
}

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(7))
}

fn partition(index: i32) -> PartitionId {
    PartitionId::new(topic(), PartitionIndex(index))
}

fn producer(id: i64) -> ProducerKey {
    ProducerKey { partition: partition(0), producer: ProducerId(id) }
}

fn identity(id: i64, epoch: i16) -> Identity {
    Identity { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

fn id() -> TransactionalId {
    TransactionalId::new("x").unwrap()
}

fn group() -> GroupId {
    GroupId::new("g")
}

fn classic(generation: i32, state: GroupState) -> GroupRow {
    let (generation, since) = (Generation(generation), ServedTime(1));
    GroupRow { generation, protocol_type: "consumer".to_owned(), state, since }
}

/// A batch of two records of producer 1.
fn batch(base_offset: i64, epoch: i16, first: i32, transaction: Option<u64>) -> Event {
    let sequences = SequenceRange::starting_at(Sequence::new(first).unwrap(), 2);
    let transaction = transaction.map(TxnNumber);
    Event::BatchAppended(BatchAppended {
        partition: partition(0),
        base_offset: Offset(base_offset),
        records: 2,
        bytes: 100,
        before: Totals { bytes: 500, newest: Timestamp(5) },
        max_timestamp: Timestamp(6),
        append_time: None,
        producer: Some(ProducerAppend { identity: identity(1, epoch), sequences, transaction }),
    })
}

/// What a partition remembers of producer 1: its last batch, and what it has open.
fn remembers(epoch: i16, last: Option<(i64, i32)>, open: Option<(u64, i64)>) -> ProducerRow {
    let batch = |(base_offset, first)| RememberedBatch {
        sequences: SequenceRange::starting_at(Sequence::new(first).unwrap(), 2),
        base_offset: Offset(base_offset),
        append_time: Timestamp::NONE,
    };
    ProducerRow {
        epoch: ProducerEpoch(epoch),
        stored_in_epoch: 2 * last.iter().count() as u64,
        batches: last.into_iter().map(batch).collect(),
        open: open.map(|(number, first)| (TxnNumber(number), Offset(first))),
        last_used: ServedTime(1),
        last_timestamp: Timestamp(5),
    }
}

/// A partition from 0 on, in which transactions are open from there on.
fn log(next_offset: i64, first_open: Option<i64>) -> PartitionRow {
    let totals = Totals { bytes: 500, newest: Timestamp(5) };
    let (next_offset, first_open) = (Offset(next_offset), first_open.map(Offset));
    PartitionRow { next_offset, first_open, totals, ..PartitionRow::default() }
}

/// The row of a transactional id that producer 1 holds.
fn transaction(holder: Identity, number: u64, state: TransactionState) -> TransactionRow {
    TransactionRow {
        holder,
        recoverable: None,
        number: TxnNumber(number),
        timeout: Duration::from_secs(60),
        state,
        last_used: ServedTime(1),
    }
}

/// An open transaction that is enrolled in partitions, and carries offsets for them.
fn ongoing(partitions: &[i32], deadline: u64) -> Ongoing {
    let partitions: BTreeSet<PartitionId> = partitions.iter().map(|index| partition(*index)).collect();
    let offsets = partitions.iter().map(|partition| GroupOffsetKey { group: group(), partition: *partition });
    Ongoing { offsets: offsets.collect(), partitions, deadline: ServedTime(deadline), ..Ongoing::default() }
}

fn prepared(transaction: Ongoing, deadline: Option<u64>) -> TransactionState {
    let (producer, at, deadline) = (identity(1, 0), Timestamp(1), deadline.map(ServedTime));
    TransactionState::Prepared(Box::new(Prepared { transaction, producer, at, deadline }))
}

fn complete(outcome: Outcome) -> TransactionState {
    TransactionState::Complete(Ended { outcome, reason: EndReason::Requested, by: identity(1, 0) })
}

fn ended(number: u64, outcome: Outcome, reason: EndReason, holder: Identity) -> Event {
    Event::TransactionEnded { transactional_id: id(), number: TxnNumber(number), outcome, reason, holder }
}

/// The marker of producer 1 in a partition, at an offset.
fn marker(index: i32, offset: i64, epoch: i16, outcome: Outcome) -> Event {
    Event::MarkerWritten(MarkerWritten {
        partition: partition(index),
        offset: Offset(offset),
        before: Totals { bytes: 500, newest: Timestamp(5) },
        producer: identity(1, epoch),
        number: TxnNumber(3),
        outcome,
        timestamp: Timestamp(6),
    })
}

fn committed(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(-1),
        metadata: String::new(),
        committed_at: Timestamp(1),
        since: ServedTime(1),
    }
}

fn offset_key(index: i32) -> GroupOffsetKey {
    GroupOffsetKey { group: group(), partition: partition(index) }
}
