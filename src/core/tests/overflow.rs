//! Many open transactions in a partition, and many partitions in a transaction: what a change costs does not grow with them,
//! and what lies beyond a row is as good as what is in it (`spec/rows.md`, "Rows that stay small").

use super::restores::restored;
use super::world::{Happened, Rows, World};
use crate::core::limits::{
    OPEN_TRANSACTIONS_PER_PARTITION_MAX, PARTITIONS_PER_TRANSACTION_MAX, with_small_rows,
};
use crate::core::*;
use crate::types::*;
use std::cell::Cell;
use std::rc::Rc;

use Outcome::{Abort, Commit};
use Protocol::{V1, V2};

/// Bytes of rows that one decision may put for one batch or for one commit: a few rows, each with room for 64 of something.
const DECISION_BYTES_MAX: usize = 6 << 10;

/// The most bytes of rows that one decision has put since it was last asked.
fn watch_bytes(world: &mut World) -> impl Fn() -> usize + use<> {
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    world.watch = Some(Box::new(move |happened: &Happened<'_>| {
        let Happened::Decided(_, _, decided) = happened else { return };
        let mut bytes = Vec::new();
        decided.drafted.changes.values().flatten().for_each(|row| row.encode(&mut bytes));
        seen.set(seen.get().max(bytes.len()));
    }));
    move || most.replace(0)
}

/// A transaction of a new id, with a record in partition 0.
fn open(world: &mut World, id: &str) -> Identity {
    let holder = world.init(Some(id), None).unwrap();
    world.produce(V2, Some(id), holder, 0, 0, 1).unwrap();
    holder
}

fn rows_beyond(world: &World) -> usize {
    let beyond = |key: &&RowKey| {
        matches!(
            key,
            RowKey::OpenQueue(_) | RowKey::Queued(_) | RowKey::MoreEnrolled(_) | RowKey::Enrolled(_)
        )
    };
    world.rows.0.keys().filter(beyond).count()
}

#[test]
fn what_a_transaction_writes_does_not_grow_with_those_that_are_open() {
    let mut world = World::new(1);
    let most = watch_bytes(&mut world);
    let mut cost = || {
        let holder = open(&mut world, "measured");
        world.end(V2, "measured", holder, Commit).unwrap();
        most()
    };
    let alone = cost();
    let mut world_of = |others: std::ops::Range<usize>| {
        for other in others {
            open(&mut world, &format!("other {other}"));
        }
        most();
        let holder = open(&mut world, "measured");
        world.end(V2, "measured", holder, Commit).unwrap();
        most()
    };
    let many = world_of(0..100);
    let most_of_all = world_of(100..OPEN_TRANSACTIONS_PER_PARTITION_MAX - 1);
    assert!(alone < 1_000 && many <= DECISION_BYTES_MAX, "{alone}, {many}");
    assert!(most_of_all <= many + 100, "{many} bytes beside 100, {most_of_all} beside 4,095");
}

#[test]
fn so_many_transactions_are_open_in_a_partition_and_no_more() {
    let mut world = World::new(1);
    for other in 0..OPEN_TRANSACTIONS_PER_PARTITION_MAX {
        open(&mut world, &format!("other {other}"));
    }
    let holder = world.init(Some("one more"), None).unwrap();
    let refused = world.produce(V2, Some("one more"), holder, 0, 0, 1);
    assert_eq!(refused.map(|_| ()), Err(Refusal::TransactionTooLarge));
    let first = world.transaction("other 0").holder;
    assert!(world.produce(V2, Some("other 0"), first, 0, 1, 1).is_ok(), "who is there may go on");
    world.end(V2, "other 0", first, Abort).unwrap();
    assert!(world.produce(V2, Some("one more"), holder, 0, 0, 1).is_ok(), "there is room again");
    let known = world.transaction("other 0").holder;
    let refused = world.produce(V2, Some("other 0"), known, 0, 0, 1).map(|_| ());
    assert_eq!(refused, Err(Refusal::TransactionTooLarge), "and none for who was there before");
    assert_eq!(world.partition_row(0).first_open, Some(Offset(1)), "the second is the oldest now");
}

#[test]
fn what_an_enrolment_writes_does_not_grow_with_the_partitions() {
    let most_partitions = i32::try_from(PARTITIONS_PER_TRANSACTION_MAX).unwrap();
    let mut world = World::new(u32::try_from(most_partitions).unwrap() + 1);
    let most = watch_bytes(&mut world);
    let holder = world.init(Some("x"), None).unwrap();
    for index in 0..most_partitions {
        world.produce(V2, Some("x"), holder, index, 0, 1).unwrap();
    }
    let written = most();
    assert!(written <= DECISION_BYTES_MAX, "{written} bytes");
    let refused = world.produce(V2, Some("x"), holder, most_partitions, 0, 1);
    assert_eq!(refused.map(|_| ()), Err(Refusal::TransactionTooLarge));
    world.end(V2, "x", holder, Commit).unwrap();
    for index in 0..most_partitions {
        assert_eq!(world.partition_row(index).next_offset, Offset(2), "one record, one marker");
        assert_eq!(world.partition_row(index).first_open, None);
    }
    assert_eq!(rows_beyond(&world), 0);
    assert!(world.replayed().durable() == world.rows.durable());
}

/// All orders in which five transactions can end.
fn orders() -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..5 {
        let longer = |order: Vec<usize>| {
            (0..=order.len()).map(move |place| {
                let mut order = order.clone();
                order.insert(place, next);
                order
            })
        };
        orders = orders.into_iter().flat_map(longer).collect();
    }
    orders
}

#[test]
fn the_oldest_holds_readers_back_in_whatever_order_they_end() {
    for room in 0..4 {
        for order in orders() {
            with_small_rows(room, || {
                let mut world = World::new(1);
                let holders: Vec<Identity> = (0..5).map(|id| open(&mut world, &format!("id {id}"))).collect();
                let mut left: Vec<usize> = (0..5).collect();
                for ends in &order {
                    let oldest = left.first().map(|first| Offset(i64::try_from(*first).unwrap()));
                    assert_eq!(world.partition_row(0).first_open, oldest, "{order:?}, room for {room}");
                    let outcome = if ends % 2 == 0 { Commit } else { Abort };
                    world.end(V2, &format!("id {ends}"), holders[*ends], outcome).unwrap();
                    left.retain(|id| id != ends);
                }
                assert_eq!(world.partition_row(0).first_open, None);
                assert_eq!(rows_beyond(&world), 0);
                assert!(world.replayed().durable() == world.rows.durable());
            });
        }
    }
}

/// Rows of a version that had room for more are as good, and what comes is beside them.
#[test]
fn rows_that_hold_more_than_they_would_now_are_served() {
    let mut world = World::new(6);
    let (wide, first) = with_small_rows(100, || {
        let first: Vec<Identity> = (0..3).map(|id| open(&mut world, &format!("id {id}"))).collect();
        let wide = world.init(Some("wide"), None).unwrap();
        for index in 1..4 {
            world.produce(V2, Some("wide"), wide, index, 0, 1).unwrap();
        }
        (wide, first)
    });
    with_small_rows(1, || {
        let later: Vec<Identity> = (3..6).map(|id| open(&mut world, &format!("id {id}"))).collect();
        for index in 4..6 {
            world.produce(V2, Some("wide"), wide, index, 0, 1).unwrap();
        }
        world.produce(V2, Some("wide"), wide, 1, 1, 1).unwrap();
        world.end(V2, "wide", wide, Abort).unwrap();
        for index in 1..6 {
            let records = 1 + i64::from(index == 1);
            assert_eq!(world.partition_row(index).next_offset, Offset(records + 1), "one marker in {index}");
        }
        for (id, holder) in first.iter().chain(&later).enumerate() {
            let oldest = Offset(i64::try_from(id).unwrap());
            assert_eq!(world.partition_row(0).first_open, Some(oldest));
            world.end(V2, &format!("id {id}"), *holder, Commit).unwrap();
        }
        assert_eq!((world.partition_row(0).first_open, rows_beyond(&world)), (None, 0));
    });
}

#[test]
fn partitions_beyond_the_row_are_enrolled_like_those_in_it() {
    with_small_rows(1, || {
        let mut world = World::new(8);
        let holder = world.init(Some("x"), None).unwrap();
        assert!(world.enrol("x", holder, &[0, 1, 2, 3]).iter().all(Result::is_ok));
        let events = world.log.len();
        assert!(world.enrol("x", holder, &[3, 2, 1, 0]).iter().all(Result::is_ok));
        assert_eq!(world.log.len(), events, "they are enrolled already");
        for index in 0..4 {
            assert!(world.produce(V1, Some("x"), holder, index, 0, 1).is_ok());
        }
        let refused = world.produce(V1, Some("x"), holder, 4, 0, 1);
        assert_eq!(refused.map(|_| ()), Err(Refusal::NotEnrolled));
        let abort = |index| ForceAbort {
            producer: holder,
            partitions: vec![world_partition(index)],
            operator: "User:ann".to_owned(),
        };
        let refused = world.ask(Command::ForceAbort(abort(4)));
        assert_eq!(refused, Reply::Each(vec![Err(Refusal::TransactionState)]), "it has no part in it");
        assert_eq!(world.ask(Command::ForceAbort(abort(3))), Reply::Each(vec![Ok(())]));
        let ends = |index| world.partition_row(index).next_offset;
        assert_eq!((0..8).map(ends).collect::<Vec<_>>(), [2, 2, 2, 2, 0, 0, 0, 0].map(Offset));
        assert_eq!(rows_beyond(&world), 0);
    });
}

fn world_partition(index: i32) -> PartitionId {
    World::new(1).partition(index)
}

/// What is open in a topic goes with it; and what its transactions have elsewhere goes on.
#[test]
fn a_topic_takes_its_lists_with_it() {
    with_small_rows(0, || {
        let mut world = World::new(2);
        let holders: Vec<Identity> = (0..3).map(|id| open(&mut world, &format!("id {id}"))).collect();
        assert_eq!(world.ask(Command::DeleteTopic { topic: world.topic }), Reply::Done(Ok(())));
        let producers =
            holders.iter().map(|holder| ProducerKey { partition: world.partition(0), producer: holder.id });
        let dead = Sweep { producers: producers.collect(), ..Sweep::default() };
        // In either order: before the transactions have ended, and after.
        world.end(V2, "id 0", holders[0], Commit).unwrap();
        world.ask(Command::Sweep(dead));
        world.end(V2, "id 1", holders[1], Commit).unwrap();
        world.end(V2, "id 2", holders[2], Abort).unwrap();
        assert_eq!(rows_beyond(&world), 0, "{:?}", world.rows.durable());
        assert!(world.replayed().durable() == world.rows.durable());
    });
}

/// How often the shard lets a command ask for rows before it takes it for a defect is 16 times.
const ROUNDS_MAX: usize = 10;

/// Rows of which nothing is known until it is asked for.
struct Cold<'a> {
    rows: &'a Rows,
    known: HashSet<RowKey>,
}

impl View for Cold<'_> {
    fn look(&self, key: &RowKey) -> Look<'_> {
        match key.is_volatile() || self.known.contains(key) {
            true => self.rows.look(key),
            false => Look::Unknown,
        }
    }
}

/// Asks, and says how often rows had to be fetched if none were in memory.
fn rounds(world: &mut World, command: Command) -> (usize, Reply) {
    rounds_from(world, &mut HashSet::default(), command)
}

/// The same, if these were in memory. What had to be fetched is added.
fn rounds_from(world: &mut World, known: &mut HashSet<RowKey>, command: Command) -> (usize, Reply) {
    let mut cold = Cold { rows: &world.rows, known: std::mem::take(known) };
    let mut rounds = 0;
    while let Err(Need(keys)) = decide(&cold, world.now, &command) {
        rounds += 1;
        cold.known.extend(keys);
        assert!(rounds < 1_000, "it asks without end");
    }
    *known = cold.known;
    (rounds, world.ask(command))
}

/// One request, many partitions, in each of which more is open than has room in a row: what it needs is fetched in a few
/// rounds, and not partition by partition.
#[test]
fn however_many_partitions_a_command_is_about_its_rows_are_fetched_in_a_few_rounds() {
    const PARTITIONS: i32 = 200;
    for (room, is_restored) in [(0, false), (2, false), (64, false), (2, true), (64, true)] {
        with_small_rows(room, || {
            let mut world = World::new(u32::try_from(PARTITIONS).unwrap());
            if is_restored {
                restored(&mut world, 1);
            }
            let produces = |world: &mut World, id: &str| {
                let identity = world.init(Some(id), None).unwrap();
                let batches = (0..PARTITIONS).map(|index| batch(world, index, identity, (0, true))).collect();
                let transactional_id = TransactionalId::new(id);
                let produce = Produce { transactional_id, protocol: V2, batches };
                let (rounds, reply) = rounds(world, Command::Produce(produce));
                assert!(matches!(reply, Reply::Produced(each) if each.iter().all(Result::is_ok)));
                assert!(rounds <= ROUNDS_MAX, "{rounds} rounds for produce {id}, room for {room}");
                identity
            };
            let holders: Vec<Identity> = (0..5).map(|id| produces(&mut world, &format!("id {id}"))).collect();
            let enrols = world.init(Some("enrols"), None).unwrap();
            for indexes in [0..100, 50..PARTITIONS] {
                let partitions = indexes.map(|index| world.partition(index)).collect();
                let producer = World::producer("enrols", enrols, 1);
                let (rounds, reply) = rounds(&mut world, Command::Enrol(Enrol { producer, partitions }));
                assert!(matches!(reply, Reply::Each(each) if each.iter().all(Result::is_ok)));
                assert!(rounds <= ROUNDS_MAX, "{rounds} rounds for an enrolment, room for {room}");
            }
            for ends in [2, 0, 4] {
                let producer = World::producer(&format!("id {ends}"), holders[ends], 1);
                let end = EndTxn { producer, outcome: Commit, protocol: V2 };
                let (rounds, reply) = rounds(&mut world, Command::EndTxn(end));
                assert!(matches!(reply, Reply::Identity(Ok(_))));
                assert!(rounds <= ROUNDS_MAX, "{rounds} rounds for an end, room for {room}");
            }
            if !is_restored {
                // Then each of its batches and markers is the first one after the restore.
                restored(&mut world, 1);
            }
            let timer = Timer::Transaction(TransactionalId::new("id 3").unwrap());
            let (of_deadline, _) = rounds(&mut world, Command::Expire { timer });
            assert!(of_deadline <= ROUNDS_MAX, "{of_deadline} rounds for a deadline, room for {room}");
            let partitions = (0..PARTITIONS).map(|index| world.partition(index)).collect();
            let (producer, operator) = (holders[1], "User:ann".to_owned());
            let (rounds, reply) =
                rounds(&mut world, Command::ForceAbort(ForceAbort { producer, partitions, operator }));
            assert!(matches!(reply, Reply::Each(each) if each.iter().all(Result::is_ok)));
            assert!(rounds <= ROUNDS_MAX, "{rounds} rounds for an operator, room for {room}");
        });
    }
}

/// One record of a producer's: its sequence, and whether it is in a transaction.
fn batch(world: &World, index: i32, identity: Identity, (first, transactional): (i32, bool)) -> ProduceBatch {
    let producer = BatchProducer { identity, first_sequence: Sequence::new(first).unwrap(), transactional };
    let (bytes, time) = (100, Timestamp(5));
    let batch = BatchFacts {
        records: 1,
        bytes,
        oldest_timestamp: time,
        max_timestamp: time,
        producer: Some(producer),
        keys: Vec::new(),
    };
    ProduceBatch { partition: world.partition(index), batch }
}

fn append(world: &World, id: Option<&str>, identity: Identity, first: i32) -> Command {
    let batches = vec![batch(world, 0, identity, (first, id.is_some()))];
    let transactional_id = id.and_then(TransactionalId::new);
    Command::Produce(Produce { transactional_id, protocol: V2, batches })
}

/// What a producer, and the holder of a transactional id whose last transaction has ended, ask next; by `fetch`.
fn ask_next(world: &mut World, id: &str, mut fetch: impl FnMut(&mut World, &str, Command) -> Reply) {
    let idempotent = world.init(None, None).unwrap();
    world.produce(V2, None, idempotent, 0, 0, 1).unwrap();
    let former = world.init(Some(id), None).unwrap();
    world.produce(V2, Some(id), former, 0, 0, 1).unwrap();
    world.end(V2, id, former, Commit).unwrap();
    let appends = append(world, None, idempotent, 1);
    fetch(world, "an append", appends);
    let transactional_id = TransactionalId::new(id).map(|id| (id, ConnectionId(1)));
    let (timeout, two_phase) = (std::time::Duration::from_secs(60), TwoPhase::Unaware);
    let init = InitProducerId { transactional_id, timeout, current: None, two_phase };
    let reply = fetch(world, "InitProducerId", Command::InitProducerId(init));
    let Reply::Identity(Ok(holder)) = reply else { panic!("{reply:?}") };
    let appends = append(world, Some(id), holder, 0);
    fetch(world, "an append in a transaction", appends);
    let producer = World::producer(id, holder, 1);
    let end = EndTxn { producer, outcome: Commit, protocol: V2 };
    let reply = fetch(world, "a commit", Command::EndTxn(end));
    assert!(matches!(reply, Reply::Identity(Ok(_))));
}

/// An id that is not in memory, while its partition is, costs one fetch; only a commit finds out first where it is enrolled.
#[test]
fn what_an_id_asks_first_costs_one_fetch() {
    let mut world = World::new(1);
    let mut in_memory = HashSet::default();
    ask_next(&mut world, "somebody", |world, _, command| rounds_from(world, &mut in_memory, command).1);
    let mut fetches = Vec::new();
    ask_next(&mut world, "cold", |world, what, command| {
        let (rounds, reply) = rounds_from(world, &mut in_memory.clone(), command);
        fetches.push(format!("{what}: {rounds}"));
        reply
    });
    assert_eq!(
        fetches,
        ["an append: 1", "InitProducerId: 1", "an append in a transaction: 1", "a commit: 2"]
    );
}
