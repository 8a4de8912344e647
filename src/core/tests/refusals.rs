//! What is refused, and what changes nothing, one by one and at the edges (`spec/transactions.md`).

use super::world::{World, key_of};
use crate::core::limits::*;
use crate::core::*;
use crate::types::*;
use std::time::Duration;
use uuid::Uuid;

use Outcome::{Abort, Commit};
use Protocol::{V1, V2};

const DONE: Reply = Reply::Done(Ok(()));

fn refused(refusal: Refusal) -> Reply {
    Reply::Done(Err(refusal))
}

fn new_topic(name: &str, partitions: u32) -> NewTopic {
    let id = TopicId(Uuid::from_u128(99));
    NewTopic { id, name: TopicName::new(name).unwrap(), partitions, config: TopicConfig::new() }
}

#[test]
fn topics_change_when_they_are_asked_to_and_not_when_it_is_only_a_question() {
    let mut world = World::new(2);
    let topic = world.topic;
    assert_eq!(world.stated(Command::FormCluster { id: Uuid::from_u128(5) }), (DONE, vec![]), "once");
    for (validate_only, events) in [(true, 0), (false, 1)] {
        let create = |name| Command::CreateTopic { topic: new_topic(name, 1), validate_only };
        let (reply, stated_by_it) = world.stated(create("t"));
        assert_eq!((reply, stated_by_it), (refused(Refusal::TopicExists), vec![]));
        let (reply, stated_by_it) = world.stated(create("u"));
        assert_eq!((reply, stated_by_it.len()), (DONE, events));
        let (reply, stated_by_it) =
            world.stated(Command::AddPartitions { topic, partitions: 3, validate_only });
        assert_eq!((reply, stated_by_it.len()), (DONE, events));
        let change = ConfigChange::Some([("retention.ms".to_owned(), Some("7".to_owned()))].into());
        let configure = Command::ConfigureTopic { topic, change, validate_only };
        let (reply, stated_by_it) = world.stated(configure.clone());
        assert_eq!((reply, stated_by_it.len()), (DONE, events));
        let (reply, stated_by_it) = world.stated(configure);
        assert_eq!((reply, stated_by_it.len()), (DONE, 0), "nothing else than it is");
    }
}

#[test]
fn producer_ids_are_reserved_many_at_a_time() {
    let mut world = World::new(1);
    let reservations = |world: &World| {
        world.log.iter().filter(|(_, event)| matches!(event, Event::ProducerIdsReserved { .. })).count()
    };
    let first = world.init(None, None).unwrap();
    for _ in 1..PRODUCER_IDS_PER_RESERVATION {
        world.init(None, None).unwrap();
    }
    assert_eq!(reservations(&world), 1);
    let next = world.init(None, None).unwrap();
    assert_eq!((next.id.0, reservations(&world)), (first.id.0 + PRODUCER_IDS_PER_RESERVATION, 2));
}

fn cut(offset: i64) -> Cut {
    Cut { offset: Offset(offset), bytes: 0 }
}

#[test]
fn the_log_start_moves_forward_only() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, 0, 4).unwrap();
    let partition = world.partition(0);
    let delete = |offset| Command::DeleteRecords { partition, to: cut(offset) };
    assert_eq!(world.stated(delete(5)), (refused(Refusal::OffsetOutOfRange), vec![]));
    assert_eq!(world.stated(delete(2)).1.len(), 1);
    for offset in [1, 2] {
        assert_eq!(world.stated(delete(offset)), (DONE, vec![]), "it is at 2 already");
    }
    assert_eq!(world.stated(delete(4)).1.len(), 1, "everything");
}

#[test]
fn records_expire_that_are_due_by_a_clock_that_goes_as_it_should() {
    let mut world = World::new(1);
    world.set("retention.ms", "1000");
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, 0, 4).unwrap();
    let found = world.now;
    let partition = world.partition(0);
    let expire = |offset| {
        Command::ExpireRecords(ExpireRecords {
            partition,
            to: cut(offset),
            newest: Some(Timestamp(5)),
            found,
        })
    };
    let most = i64::try_from(RETENTION_CLOCK_STEP_MAX.as_millis()).unwrap();
    world.now.wall = Timestamp(found.wall.0 + most + 1);
    assert_eq!(world.stated(expire(2)), (DONE, vec![]), "the wall clock has been set");
    world.now.wall = Timestamp(found.wall.0 + most);
    assert_eq!(world.stated(expire(5)), (refused(Refusal::OffsetOutOfRange), vec![]));
    assert_eq!(world.stated(expire(2)).1.len(), 1);
    for offset in [1, 2] {
        assert_eq!(world.stated(expire(offset)), (DONE, vec![]), "they have gone");
    }
    assert_eq!(world.stated(expire(4)).1.len(), 1);
}

#[test]
fn rows_are_swept_of_what_is_gone_and_of_what_lies_below_the_log_start() {
    let mut world = World::new(1);
    let partition = world.partition(0);
    let gone = PartitionId::new(TopicId(Uuid::from_u128(50)), PartitionIndex(0));
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, 0, 4).unwrap();
    world.ask(Command::DeleteRecords { partition, to: cut(2) });
    let aborted = |partition, marker| AbortedKey { partition, producer: p.id, marker: Offset(marker) };
    let of = |partition| ProducerKey { partition, producer: p.id };
    let sweep = |producers, aborted, compacted| Command::Sweep(Sweep { producers, aborted, compacted });
    let alive = vec![aborted(partition, 2), aborted(partition, 3)];
    let nothing = sweep(vec![of(partition)], alive.clone(), alive);
    assert_eq!(world.stated(nothing).1, [], "there is no aborted range that compaction has emptied");
    for (producers, ranges) in [
        (vec![of(gone)], vec![]),
        (vec![], vec![aborted(partition, 1)]),
        (vec![of(gone)], vec![aborted(gone, 7), aborted(partition, 1)]),
    ] {
        let proposed = sweep(producers.clone(), ranges.clone(), vec![]);
        let swept = Event::RowsSwept { producers, aborted: ranges };
        assert_eq!(world.stated(proposed).1, [swept]);
    }
    let emptied = aborted(partition, 3);
    world.rows.0.insert(AbortedRow::key(&emptied), RowValue::Aborted(AbortedRow { first: Offset(2) }));
    let proposed = sweep(vec![], vec![], vec![emptied.clone()]);
    let swept = Event::RowsSwept { producers: vec![], aborted: vec![emptied] };
    assert_eq!(world.stated(proposed).1, [swept]);
}

#[test]
fn keys_are_forgotten_when_there_are_any_to_forget() {
    let mut world = World::new(1);
    let transaction = KeyTransaction { producer: ProducerId(1), number: TxnNumber(1) };
    let forget = || Command::ForgetKeys(ForgetKeys { keys: vec![], freed: vec![transaction] });
    assert_eq!(world.stated(forget()).1, [], "there is no such word");
    let until = world.now.served.plus(Duration::from_millis(1));
    world.rows.0.insert(FreedKeysRow::key(&transaction), RowValue::FreedKeys(FreedKeysRow { until }));
    assert_eq!(world.stated(forget()).1, [], "something may still refer to it");
    world.pass(Duration::from_millis(1));
    let forgotten = Event::KeysForgotten { keys: vec![], freed: vec![transaction] };
    assert_eq!(world.stated(forget()).1, [forgotten]);
    let key = TopicKey { topic: world.topic, key: key_of("k") };
    let unknown = Command::ForgetKeys(ForgetKeys { keys: vec![key], freed: vec![] });
    assert_eq!(world.stated(unknown).1, []);
}

fn offset(partition: PartitionId) -> OffsetToCommit {
    let leader_epoch = LeaderEpoch(-1);
    OffsetToCommit { partition, offset: Offset(1), leader_epoch, metadata: String::new() }
}

fn stage(member: GroupMember, holder: Identity, offsets: Vec<OffsetToCommit>) -> Command {
    let producer = World::producer("x", holder, 1);
    Command::StageOffsets(StageOffsets { producer, protocol: V2, member, offsets })
}

#[test]
fn where_no_offset_is_accepted_nothing_is_stated() {
    let mut world = World::new(1);
    let nowhere = offset(world.partition(7));
    let nobody = |group: &str| GroupMember::nobody(GroupId::new(group));
    let unknown = Reply::Each(vec![Err(Refusal::UnknownPartition)]);
    let commit = |group: &str, offsets| Command::CommitOffsets { member: nobody(group), offsets };
    assert_eq!(world.stated(commit("g", vec![nowhere.clone()])), (unknown.clone(), vec![]));
    let holder = world.init(Some("x"), None).unwrap();
    assert_eq!(world.stated(stage(nobody("g"), holder, vec![nowhere])), (unknown, vec![]));
    // A group's name may be so long.
    let here = offset(world.partition(0));
    let long = "g".repeat(GROUP_ID_BYTES_MAX);
    assert_eq!(world.ask(commit(&long, vec![here.clone()])), Reply::Each(vec![Ok(())]));
    assert_eq!(world.ask(stage(nobody(&long), holder, vec![here.clone()])), Reply::Each(vec![Ok(())]));
    // That the transaction is prepared comes before whatever else is wrong.
    world.prepare("x", holder, None).unwrap();
    let stranger =
        GroupMember { generation: Generation(3), member: MemberId::new("stranger"), ..nobody("g") };
    let prepared = Reply::Each(vec![Err(Refusal::TransactionState)]);
    assert_eq!(world.ask(stage(stranger, holder, vec![here])), prepared);
}

#[test]
fn records_are_stamped_by_the_broker_where_the_topic_wants_it() {
    let mut world = World::new(1);
    world.now.wall = Timestamp(10_000_000);
    world.set("message.timestamp.before.max.ms", "1000");
    let p = world.init(None, None).unwrap();
    assert_eq!(world.produce(V2, None, p, 0, 0, 1), Err(Refusal::InvalidTimestamp));
    world.set("message.timestamp.type", "LogAppendTime");
    let appended = world.produce(V2, None, p, 0, 0, 1).unwrap();
    assert_eq!(appended.append_time, world.now.wall);
    world.set("message.timestamp.type", "CreateTime");
    world.set("message.timestamp.before.max.ms", "9223372036854775807");
    assert_eq!(world.produce(V2, None, p, 0, 1, 1).unwrap().append_time, Timestamp::NONE);
}

#[test]
fn an_unknown_producer_goes_on_unless_its_transaction_begins_at_0() {
    let mut world = World::new(2);
    let p = world.init(None, None).unwrap();
    assert!(world.produce(V2, None, p, 0, 7, 1).is_ok(), "A5");
    let x = world.init(Some("x"), None).unwrap();
    assert_eq!(world.produce(V2, Some("x"), x, 0, 7, 1), Err(Refusal::OutOfOrderSequence));
    assert!(world.produce(V2, Some("x"), x, 0, 0, 1).is_ok());
    let y = world.init(Some("y"), None).unwrap();
    world.enrol("y", y, &[0]);
    assert!(world.produce(V1, Some("y"), y, 0, 7, 1).is_ok(), "in version 1 an epoch has many transactions");
}

#[test]
fn what_lies_partly_behind_what_is_remembered_is_no_duplicate() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    for sequence in 0..10 {
        world.produce(V2, None, p, 0, sequence, 1).unwrap();
    }
    // 5 to 9 are remembered.
    assert_eq!(world.produce(V2, None, p, 0, 3, 2), Err(Refusal::DuplicateSequence));
    for (first, records) in [(3, 3), (4, 4), (5, 2), (8, 1 << 20)] {
        assert_eq!(
            world.produce(V2, None, p, 0, first, records),
            Err(Refusal::OutOfOrderSequence),
            "{first}"
        );
    }
}

#[test]
fn records_outside_of_the_open_transaction_are_refused() {
    let mut world = World::new(1);
    let x = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), x, 0, 0, 1).unwrap();
    assert_eq!(world.produce(V2, None, x, 0, 1, 1), Err(Refusal::TransactionState));
    assert!(
        world.produce(V2, None, x, 0, 0, 1).unwrap().duplicate,
        "what is stored is told from what is new"
    );
    world.end(V1, "x", x, Commit).unwrap();
    assert!(world.produce(V2, None, x, 0, 1, 1).is_ok());
}

#[test]
fn a_transaction_is_over_so_many_partitions_and_no_more() {
    let most = PARTITIONS_PER_TRANSACTION_MAX;
    let mut world = World::new(u32::try_from(most).unwrap() + 1);
    let all: Vec<i32> = (0..=i32::try_from(most).unwrap()).collect();
    let x = world.init(Some("x"), None).unwrap();
    assert_eq!(world.enrol("x", x, &all)[0], Err(Refusal::TransactionTooLarge));
    assert!(world.enrol("x", x, &all[..most]).iter().all(Result::is_ok));
    assert_eq!(world.enrol("x", x, &all[most..]), [Err(Refusal::TransactionTooLarge)]);
    assert_eq!(world.produce(V2, Some("x"), x, all[most], 0, 1), Err(Refusal::TransactionTooLarge));
    // What is enrolled may be enrolled again, which states nothing.
    let partitions = vec![world.partition(0), world.partition(100)];
    let enrol = Command::Enrol(Enrol { producer: World::producer("x", x, 1), partitions });
    assert_eq!(world.stated(enrol), (Reply::Each(vec![Ok(()); 2]), vec![]));
    let one_less: Vec<i32> = all[1..most].to_vec();
    let y = world.init(Some("y"), None).unwrap();
    assert!(world.enrol("y", y, &one_less).iter().all(Result::is_ok));
    assert!(world.produce(V2, Some("y"), y, 0, 0, 1).is_ok(), "one more fits");
}

#[test]
fn who_names_another_producer_id_is_told_so() {
    let mut world = World::new(1);
    let x = world.init(Some("x"), None).unwrap();
    let y = world.init(Some("y"), None).unwrap();
    assert_eq!(world.enrol("x", y, &[0]), [Err(Refusal::ProducerIdMapping)]);
    let older = Identity { epoch: ProducerEpoch(x.epoch.0 - 1), ..x };
    assert_eq!(world.enrol("x", older, &[0]), [Err(Refusal::Fenced)]);
    assert_eq!(world.end(V2, "nobody", x, Commit), Err(Refusal::ProducerIdMapping));
    assert_eq!(world.end(V1, "nobody", x, Commit), Err(Refusal::ProducerIdMapping));
    assert_eq!(world.end(V2, "x", y, Commit), Err(Refusal::ProducerIdMapping));
}

#[test]
fn in_version_2_an_older_connection_may_end_a_transaction() {
    let mut world = World::new(1);
    let x = world.init_over(Some("x"), None, 2).unwrap();
    world.produce(V2, Some("x"), x, 0, 0, 1).unwrap();
    assert!(world.end_over(V2, "x", x, Commit, 1).is_ok(), "its epoch tells what is late (E10)");
    let y = world.init_over(Some("y"), None, 2).unwrap();
    world.enrol_over("y", y, &[0], 2);
    assert_eq!(world.end_over(V1, "y", y, Commit, 1), Err(Refusal::NotCoordinator));
}

#[test]
fn after_a_restore_an_id_that_nobody_holds_is_nobodys() {
    let mut world = World::new(1);
    let x = world.init(Some("x"), None).unwrap();
    assert_eq!(world.ask(Command::RestoreLog { restore: Uuid::from_u128(1) }), DONE);
    assert_eq!(world.end(V2, "nobody", x, Commit), Err(Refusal::ProducerIdMapping));
    assert_eq!(world.end(V2, "x", x, Commit), Err(Refusal::Fenced));
}

#[test]
fn only_who_has_ended_a_transaction_is_told_so_again() {
    for (protocol, outcome) in [(V1, Commit), (V1, Abort), (V2, Commit), (V2, Abort)] {
        let mut world = World::new(1);
        let x = world.init(Some("x"), None).unwrap();
        world.enrol("x", x, &[0]);
        let other = world.init(Some("other"), None).unwrap();
        let next = world.end(protocol, "x", x, outcome).unwrap();
        let (again, logged) = (world.end(protocol, "x", x, outcome), world.log.len());
        assert_eq!(again, Ok(next), "{protocol:?} {outcome:?}");
        assert_eq!(world.end(protocol, "x", other, outcome), Err(Refusal::ProducerIdMapping));
        let later = Identity { epoch: ProducerEpoch(next.epoch.0 + 1), ..x };
        assert_eq!(world.end(protocol, "x", later, outcome), Err(Refusal::Fenced));
        assert_eq!(world.log.len(), logged);
    }
}

#[test]
fn after_a_timeout_only_an_abort_of_version_2_is_what_was_done_anyway() {
    for (protocol, outcome, expected) in
        [(V2, Abort, true), (V2, Commit, false), (V1, Abort, false), (V1, Commit, false)]
    {
        let mut world = World::new(1);
        let x = world.init(Some("x"), None).unwrap();
        world.enrol("x", x, &[0]);
        world.pass(super::world::TIMEOUT);
        world.expire("x");
        let answer = world.end(protocol, "x", x, outcome);
        let holder = world.transaction("x").holder;
        let expected = if expected { Ok(holder) } else { Err(Refusal::Fenced) };
        assert_eq!(answer, expected, "{protocol:?} {outcome:?}");
    }
}

#[test]
fn an_operator_names_the_holder_of_what_is_open() {
    let mut world = World::new(1);
    let x = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), x, 0, 0, 1).unwrap();
    let abort = |producer, world: &World| {
        let partitions = vec![world.partition(0)];
        Command::ForceAbort(ForceAbort { producer, partitions, operator: "User:ann".to_owned() })
    };
    let older = Identity { epoch: ProducerEpoch(x.epoch.0 + 1), ..x };
    let wrong = abort(older, &world);
    assert_eq!(world.stated(wrong), (Reply::Each(vec![Err(Refusal::TransactionState)]), vec![]));
    let right = abort(x, &world);
    assert_eq!(world.ask(right), Reply::Each(vec![Ok(())]));
}
