//! What a transaction may carry, and how much at most (E7, E8): what asks for more is refused whole, and changes nothing.

use super::world::World;
use crate::core::limits::*;
use crate::core::*;
use crate::types::*;

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
