//! What a transaction may carry, and how much at most (E7, E8): what asks for more is refused whole, and changes nothing.

use super::hostile_groups::beat_of;
use super::world::World;
use crate::core::limits::*;
use crate::core::*;
use crate::types::*;
use uuid::Uuid;

const ID: &str = "carrier";

fn offsets(world: &World, partition: i32, count: usize) -> Vec<OffsetToCommit> {
    let offset = |n: usize| OffsetToCommit {
        partition: world.partition(partition),
        offset: Offset(i64::try_from(n).unwrap()),
        leader_epoch: LeaderEpoch(-1),
        metadata: String::new(),
    };
    (0..count).map(offset).collect()
}

fn stage(world: &mut World, holder: Identity, offsets: Vec<OffsetToCommit>) -> Vec<Result<(), Refusal>> {
    stage_of("g", world, holder, offsets)
}

fn stage_of(
    group: &str,
    world: &mut World,
    holder: Identity,
    offsets: Vec<OffsetToCommit>,
) -> Vec<Result<(), Refusal>> {
    let producer = World::producer(ID, holder, 1);
    let member = GroupMember::nobody(GroupId::new(group));
    let stage = StageOffsets { producer, protocol: Protocol::V2, member, offsets };
    let Reply::Each(answers) = world.ask(Command::StageOffsets(stage)) else { panic!("each is answered") };
    answers
}

fn enrol_group(world: &mut World, holder: Identity, group: &str) -> Result<(), Refusal> {
    let producer = World::producer(ID, holder, 1);
    let Reply::Done(done) = world.ask(Command::EnrolGroup { producer, group: GroupId::new(group) }) else {
        panic!("it is answered")
    };
    done
}

#[test]
fn a_transaction_carries_so_many_offsets_and_no_more() {
    let mut world = World::new(2);
    let holder = world.init(Some(ID), None).unwrap();
    let one = offsets(&world, 0, 1);
    assert_eq!(stage(&mut world, holder, one), [Ok(())]);
    let (before, logged) = (world.rows.0.clone(), world.log.len());
    let too_many = offsets(&world, 1, OFFSETS_PER_TRANSACTION_MAX);
    let answers = stage(&mut world, holder, too_many);
    assert_eq!(answers.len(), OFFSETS_PER_TRANSACTION_MAX);
    assert!(answers.iter().all(|answer| *answer == Err(Refusal::TransactionTooLarge)), "with the one before");
    assert!(world.rows.0 == before && world.log.len() == logged, "nothing of it is staged");
    let as_many_as_fit = offsets(&world, 1, OFFSETS_PER_TRANSACTION_MAX - 1);
    assert!(stage(&mut world, holder, as_many_as_fit).iter().all(Result::is_ok));
}

#[test]
fn a_transaction_carries_offsets_of_so_many_groups_and_no_more() {
    let mut world = World::new(1);
    let holder = world.init(Some(ID), None).unwrap();
    for n in 0..GROUPS_PER_TRANSACTION_MAX {
        assert_eq!(enrol_group(&mut world, holder, &format!("group {n}")), Ok(()));
    }
    let some = offsets(&world, 0, 2);
    assert_eq!(stage_of("group 0", &mut world, holder, some.clone()), [Ok(()); 2]);
    let (before, logged) = (world.rows.0.clone(), world.log.len());
    assert_eq!(enrol_group(&mut world, holder, "one more"), Err(Refusal::TransactionTooLarge));
    assert_eq!(enrol_group(&mut world, holder, "group 0"), Ok(()), "it is enrolled");
    // In version 2 offsets enrol their group.
    assert_eq!(stage_of("one more", &mut world, holder, some), [Err(Refusal::TransactionTooLarge); 2]);
    assert!(world.rows.0 == before && world.log.len() == logged, "none of this has changed anything");
}

#[test]
fn an_offset_is_staged_and_committed_only_where_it_can_be_kept() {
    let mut world = World::new(1);
    let holder = world.init(Some(ID), None).unwrap();
    let mut some = offsets(&world, 0, 3);
    some[0].metadata = "m".repeat(OFFSET_METADATA_BYTES_MAX + 1);
    some[1].partition = PartitionId { index: PartitionIndex(7), ..some[1].partition };
    some[2].metadata = "m".repeat(OFFSET_METADATA_BYTES_MAX);
    let expected = [Err(Refusal::MetadataTooLarge), Err(Refusal::UnknownPartition), Ok(())];
    assert_eq!(stage(&mut world, holder, some.clone()), expected);
    let member = GroupMember::nobody(GroupId::new("other"));
    assert_eq!(
        world.ask(Command::CommitOffsets { member, offsets: some.clone() }),
        Reply::Each(expected.to_vec())
    );
    let too_long = "g".repeat(GROUP_ID_BYTES_MAX + 1);
    let member = GroupMember::nobody(GroupId::new(&too_long));
    let refused = vec![Err(Refusal::InvalidName); 3];
    assert_eq!(world.ask(Command::CommitOffsets { member, offsets: some }), Reply::Each(refused));
    assert_eq!(enrol_group(&mut world, holder, &too_long), Err(Refusal::InvalidName));
}

#[test]
fn in_version_1_offsets_of_a_group_that_is_not_enrolled_are_refused() {
    let mut world = World::new(1);
    let holder = world.init(Some(ID), None).unwrap();
    let stage = |world: &World| StageOffsets {
        producer: World::producer(ID, holder, 1),
        protocol: Protocol::V1,
        member: GroupMember::nobody(GroupId::new("g")),
        offsets: offsets(world, 0, 1),
    };
    let unasked = Command::StageOffsets(stage(&world));
    assert_eq!(world.ask(unasked), Reply::Each(vec![Err(Refusal::NotEnrolled)]), "no transaction is open");
    assert_eq!(enrol_group(&mut world, holder, "another"), Ok(()));
    let unasked = Command::StageOffsets(stage(&world));
    assert_eq!(world.ask(unasked), Reply::Each(vec![Err(Refusal::NotEnrolled)]), "another group is enrolled");
    assert_eq!(enrol_group(&mut world, holder, "g"), Ok(()));
    let asked = Command::StageOffsets(stage(&world));
    assert_eq!(world.ask(asked), Reply::Each(vec![Ok(())]));
}

#[test]
fn a_topic_has_so_many_partitions_and_all_topics_together_have() {
    let mut world = World::new(2);
    let create = |partitions| {
        let (id, name) = (TopicId(Uuid::from_u128(9)), TopicName::new("u").unwrap());
        let topic = NewTopic { id, name, partitions, config: TopicConfig::new() };
        Command::CreateTopic { topic, validate_only: true }
    };
    let topic = world.topic;
    let add = |partitions| Command::AddPartitions { topic, partitions, validate_only: true };
    let refused = Reply::Done(Err(Refusal::PartitionCount));
    let most = PARTITIONS_PER_TOPIC_MAX;
    for (partitions, possible) in [(0, false), (1, true), (most, true), (most + 1, false)] {
        assert_eq!(world.ask(create(partitions)) != refused, possible, "a topic of {partitions}");
    }
    for (partitions, possible) in [(1, false), (2, false), (3, true), (most, true), (most + 1, false)] {
        assert_eq!(world.ask(add(partitions)) != refused, possible, "{partitions} instead of 2");
    }
    let cluster = world.rows.0.get_mut(&ClusterRow::key(&()));
    let Some(RowValue::Cluster(row)) = cluster else { panic!("there is a cluster") };
    row.partitions = PARTITIONS_MAX - 5;
    for (partitions, possible) in [(5, true), (6, false)] {
        assert_eq!(world.ask(create(partitions)) != refused, possible, "{partitions} where 5 are left");
        assert_eq!(world.ask(add(2 + partitions)) != refused, possible, "{partitions} more where 5 are left");
    }
}

#[test]
fn who_gives_transactions_no_time_gets_no_identity() {
    let mut world = World::new(1);
    let before = world.rows.0.clone();
    let init = InitProducerId {
        transactional_id: Some((TransactionalId::new(ID).unwrap(), ConnectionId(1))),
        timeout: std::time::Duration::ZERO,
        current: None,
        two_phase: TwoPhase::Unaware,
    };
    let refused = Reply::Identity(Err(Refusal::TransactionTimeout));
    assert_eq!(world.ask(Command::InitProducerId(init)), refused);
    assert!(world.rows.0 == before, "and nobody holds the id");
}

#[test]
fn what_is_prepared_takes_no_group() {
    let mut world = World::new(1);
    let holder = world.init(Some(ID), None).unwrap();
    assert_eq!(enrol_group(&mut world, holder, "g"), Ok(()));
    assert_eq!(world.prepare(ID, holder, None), Ok(()));
    for group in ["g", "another"] {
        assert_eq!(enrol_group(&mut world, holder, group), Err(Refusal::TransactionState), "{group}");
    }
    let some = offsets(&world, 0, 1);
    assert_eq!(stage(&mut world, holder, some), [Err(Refusal::TransactionState)]);
}

#[test]
fn who_asks_anew_for_an_identity_that_is_in_use_by_now_is_fenced() {
    let mut world = World::new(1);
    let first = world.init(Some(ID), None).unwrap();
    let second = world.init(Some(ID), Some(first)).unwrap();
    assert_eq!(world.init(Some(ID), Some(first)), Ok(second), "nothing has been done with it: a retry");
    world.produce(Protocol::V2, Some(ID), second, 0, 0, 1).unwrap();
    assert_eq!(world.init(Some(ID), Some(first)), Err(Refusal::Fenced));
    assert!(matches!(world.transaction(ID).state, TransactionState::Ongoing(_)), "its transaction goes on");
}

#[test]
fn sessions_of_all_groups_are_so_many() {
    let mut world = World::new(1);
    let full = |world: &mut World, member: &str| {
        let beat = ConsumerHeartbeat { group: GroupId::new(member), ..beat_of(member) };
        let answer = world.ask(Command::ConsumerHeartbeat(Box::new(beat)));
        answer == Reply::Consumer(Err(Refusal::GroupFull(GroupLimit::Sessions)))
    };
    assert!(!full(&mut world, "a"));
    let Some(RowValue::Sessions(row)) = world.rows.0.get_mut(&SessionsRow::key(&())) else {
        panic!("there is a session")
    };
    assert_eq!(row.sessions, 1);
    row.sessions = SESSIONS_MAX - 1;
    assert!(!full(&mut world, "b"), "one more fits");
    assert!(full(&mut world, "c"), "and no other");
}
