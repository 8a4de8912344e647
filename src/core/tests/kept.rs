//! What is kept of groups: what is shown of them, how long they and their offsets stay, and which of them change their protocol
//! (`spec/groups.md`, G5, section 16; `spec/transactions.md`, X6).

use super::hostile_groups::{DELAY, Site, beat_of, consumes, join_of, protocol};
use super::world::World;
use crate::core::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

const RETENTION: Duration = Duration::from_secs(3_600);
const INSTANT: Duration = Duration::from_millis(1);

fn described(world: &mut World, group: &str) -> AnyGroup {
    match world.ask(Command::DescribeGroup { group: GroupId::new(group) }) {
        Reply::Group(described) => described,
        other => panic!("{other:?}"),
    }
}

fn classic(world: &mut World, group: &str) -> GroupDescription {
    match described(world, group) {
        AnyGroup::Classic(described) => described,
        AnyGroup::Consumer(other) => panic!("{other:?}"),
    }
}

fn commit(world: &mut World, group: &str, index: i32) {
    let offsets = vec![OffsetToCommit {
        partition: world.partition(index),
        offset: Offset(7),
        leader_epoch: LeaderEpoch(-1),
        metadata: String::new(),
    }];
    let member = GroupMember::nobody(GroupId::new(group));
    assert_eq!(world.ask(Command::CommitOffsets { member, offsets }), Reply::Each(vec![Ok(())]));
}

#[test]
fn who_is_assigned_what_is_shown_when_everybody_knows() {
    let mut site = Site::new();
    let claim = site.honest("g");
    let member = claim.member.clone();
    let shown = classic(&mut site.world, "g");
    let assigned = Bytes::from(member.as_str().to_owned());
    assert_eq!((shown.status, shown.protocol.as_str()), (GroupStatus::Stable, "range"));
    assert_eq!(shown.members.iter().map(|(_, one)| one.assignment.clone()).collect::<Vec<_>>(), [assigned]);
    assert_eq!(site.join("g", "", |_| {}), None);
    let shown = classic(&mut site.world, "g");
    assert_eq!((shown.status, shown.protocol.as_str()), (GroupStatus::PreparingRebalance, ""));
    assert_eq!(shown.members.iter().map(|(_, one)| one.assignment.clone()).collect::<Vec<_>>(), ["", ""]);
    assert_eq!(site.join("g", member.as_str(), |_| {}), None);
    let shown = classic(&mut site.world, "g");
    assert_eq!((shown.status, shown.protocol.as_str()), (GroupStatus::CompletingRebalance, ""));
    assert_eq!(shown.members.iter().map(|(_, one)| one.assignment.clone()).collect::<Vec<_>>(), ["", ""]);
}

#[test]
fn where_a_consumer_group_stands_is_what_its_members_have() {
    let row = |target, epoch, members| ConsumerGroupRow {
        target_epoch: GroupEpoch(target),
        epoch: GroupEpoch(epoch),
        members,
        ..ConsumerGroupRow::fresh(ServedTime(1))
    };
    let world = World::new(2);
    let all = BTreeSet::from([world.partition(0), world.partition(1)]);
    let one = BTreeSet::from([world.partition(0)]);
    let mut site = Site { world, requests: 0 };
    site.beat("a", 0, |_| {});
    let key = MemberKey { group: GroupId::new("consumers"), member: MemberId::new("a") };
    let there = site.world.rows.get::<ConsumerRow>(&key).unwrap().clone();
    assert_eq!(there.held.assigned, all);
    let with = |change: fn(&mut Holding, BTreeSet<PartitionId>)| {
        let mut member = there.clone();
        change(&mut member.held, one.clone());
        member
    };
    let less = with(|held, one| held.assigned = one);
    let revokes = with(|held, one| held.revoking = one);
    let behind = with(|held, _| held.epoch = GroupEpoch(0));
    use ConsumerGroupStatus::{Assigning, Empty, Reconciling, Stable};
    for (group, member, expected) in [
        (row(1, 1, 1), &there, Stable),
        (row(1, 2, 1), &there, Assigning),
        (row(1, 2, 0), &there, Empty),
        (row(1, 1, 1), &less, Reconciling),
        (row(1, 1, 1), &revokes, Reconciling),
        (row(1, 1, 1), &behind, Reconciling),
    ] {
        assert_eq!(consumer_group_status(&group, [member].into_iter()), expected, "{group:?} {member:?}");
    }
}

#[test]
fn offsets_are_forgotten_where_there_are_any() {
    let mut world = World::new(3);
    commit(&mut world, "g", 1);
    let forget = |indexes: &[i32], world: &World| Command::ForgetOffsets {
        group: GroupId::new("g"),
        partitions: indexes.iter().map(|index| world.partition(*index)).collect(),
    };
    let nothing = forget(&[0, 2], &world);
    assert_eq!(world.stated(nothing).1, []);
    let all = forget(&[0, 1, 2], &world);
    let offsets = vec![GroupOffsetKey { group: GroupId::new("g"), partition: world.partition(1) }];
    assert_eq!(world.stated(all).1, [Event::OffsetsForgotten { offsets }]);
}

#[test]
fn a_group_stays_for_its_retention_after_its_last_member_has_gone() {
    let expire = |group: &str| Command::ExpireGroup { group: GroupId::new(group), retention: RETENTION };
    let deleted = |group: &str| [Event::GroupDeleted { group: GroupId::new(group) }];
    let mut site = Site::new();
    let claim = site.honest("g");
    site.beat("a", 0, |_| {});
    site.world.pass(RETENTION);
    for group in ["g", "consumers", "none"] {
        assert_eq!(site.world.stated(expire(group)).1, [], "{group} has members, or is not there");
    }
    site.leave("g", claim.member.as_str());
    site.beat("a", GroupEpoch::LEAVE.0, |_| {});
    site.world.pass(RETENTION - INSTANT);
    for group in ["g", "consumers"] {
        assert_eq!(site.world.stated(expire(group)).1, [], "{group}: not yet");
    }
    site.world.pass(INSTANT);
    for group in ["g", "consumers"] {
        assert_eq!(site.world.stated(expire(group)).1, deleted(group));
    }
}

#[test]
fn offsets_stay_for_their_retention_after_their_last_use() {
    let forgotten = |world: &mut World, group: &str, index: i32| {
        let partitions = vec![world.partition(index), world.partition(2)];
        let group = GroupId::new(group);
        let expire = Command::ExpireOffsets { group: group.clone(), partitions, retention: RETENTION };
        let events = world.stated(expire).1;
        let offsets = vec![GroupOffsetKey { group, partition: world.partition(index) }];
        assert!(events.is_empty() || events == [Event::OffsetsForgotten { offsets }], "{events:?}");
        !events.is_empty()
    };
    // Of a group that has never had members: since they were committed.
    let mut world = World::new(3);
    commit(&mut world, "simple", 0);
    world.pass(RETENTION - INSTANT);
    assert!(!forgotten(&mut world, "simple", 0));
    world.pass(INSTANT);
    assert!(forgotten(&mut world, "simple", 0));

    // Not while there are members, of either protocol, or while the first of them wait for one another.
    let mut site = Site::new();
    let claim = site.honest("g");
    commit(&mut site.world, "consumers", 1);
    commit(&mut site.world, "new", 1);
    site.beat("a", 0, |_| {});
    site.world.pass(RETENTION + DELAY);
    assert_eq!(site.join("new", "", |_| {}), None);
    let held = [("g", 0), ("consumers", 1), ("new", 1)];
    for (group, index) in held {
        assert!(!forgotten(&mut site.world, group, index), "{group}");
    }
    // Then since the last one has gone, or since they were committed after that.
    site.leave("g", claim.member.as_str());
    site.beat("a", GroupEpoch::LEAVE.0, |_| {});
    site.world.pass(RETENTION - DELAY);
    commit(&mut site.world, "g", 1);
    site.world.pass(DELAY - INSTANT);
    for (group, index) in [("g", 0), ("consumers", 1)] {
        assert!(!forgotten(&mut site.world, group, index), "{group}");
    }
    site.world.pass(INSTANT);
    for (group, index) in [("g", 0), ("consumers", 1)] {
        assert!(forgotten(&mut site.world, group, index), "{group}");
    }
    assert!(!forgotten(&mut site.world, "g", 1), "it was committed later");
    // Of a partition that is gone: at once.
    let topic = site.world.topic;
    site.world.ask(Command::DeleteTopic { topic });
    assert!(forgotten(&mut site.world, "g", 1));
}

/// What a newcomer of the consumer protocol is told by a group.
fn newcomer(world: &mut World, lie: impl FnOnce(&mut ConsumerHeartbeat)) -> Result<ConsumerTold, Refusal> {
    let mut beat = ConsumerHeartbeat { group: GroupId::new("g"), ..beat_of("newcomer") };
    lie(&mut beat);
    match world.ask(Command::ConsumerHeartbeat(Box::new(beat))) {
        Reply::Consumer(told) => told,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_classic_group_is_taken_over_when_it_is_empty_or_stable_and_of_consumers() {
    let others = |join: &mut JoinGroup| join.protocol_type = "connect".to_owned();
    for (kind, lie, stable, forming) in [
        ("consumers", None, Ok(()), Err(Refusal::GroupRebalances)),
        ("others", Some(others), Err(Refusal::GroupNotFound), Err(Refusal::GroupNotFound)),
    ] {
        let mut site = Site::new();
        let lied = |join: &mut JoinGroup| {
            if let Some(lie) = lie {
                lie(join);
            }
        };
        assert_eq!(site.join("g", "", lied), None);
        let told = site.nothing_happens(kind, |site| newcomer(&mut site.world, |_| {}));
        assert_eq!(told.map(|_| ()), forming, "{kind} that wait for one another");
        site.pass(DELAY);
        let heard = site.heard();
        let [Reply::Joined(Ok(joined))] = &heard[..] else { panic!("{heard:?}") };
        let told = site.nothing_happens(kind, |site| newcomer(&mut site.world, |_| {}));
        assert_eq!(told.map(|_| ()), forming, "{kind} that are not assigned yet");
        let member = joined.member.as_str().to_owned();
        let claim = Site::claim("g", &member, joined.generation.0);
        site.sync(claim.clone(), &[&member]);
        let told = site.nothing_happens(kind, |site| newcomer(&mut site.world, |_| {}));
        assert_eq!(told.map(|_| ()), stable, "{kind} that are stable");
        let going_on = |beat: &mut ConsumerHeartbeat| beat.epoch = GroupEpoch(1);
        let told = site.nothing_happens(kind, |site| newcomer(&mut site.world, going_on));
        assert_eq!(
            told,
            Err(Refusal::UnknownMember),
            "{kind}: nobody goes on in a group of the other protocol"
        );
        site.leave("g", claim.member.as_str());
        let told = newcomer(&mut site.world, |_| {});
        assert!(matches!(told, Ok(ConsumerTold::Epoch { .. })), "{kind} that have gone: {told:?}");
    }
}

#[test]
fn what_was_read_of_others_than_the_members_does_not_count() {
    let mut site = Site::new();
    site.honest("g");
    let Ok(ConsumerTold::Read { generation, members }) = newcomer(&mut site.world, |_| {}) else {
        panic!("its members are read")
    };
    let topics = BTreeSet::from(["t".to_owned()]);
    let read = |owned: Vec<i32>, assigned: Vec<i32>| {
        let named =
            |indexes: Vec<i32>| vec![("t".to_owned(), indexes.into_iter().map(PartitionIndex).collect())];
        Some(ReadMember { topics: topics.clone(), owned: named(owned), assigned: named(assigned) })
    };
    let stranger = [(MemberId::new("a stranger"), read(vec![], vec![0]))];
    let of_others = ReadMembers { generation, members: stranger.into() };
    let told = site.nothing_happens("what was read of others", |site| {
        newcomer(&mut site.world, |beat| beat.read = Some(of_others))
    });
    assert!(matches!(told, Ok(ConsumerTold::Read { .. })), "{told:?}");
    // What a member owns and is assigned it does not revoke.
    let id = members[0].member.clone();
    let of_it = ReadMembers { generation, members: [(id.clone(), read(vec![0, 1, 1], vec![0, 2]))].into() };
    let told = newcomer(&mut site.world, |beat| beat.read = Some(of_it));
    assert!(matches!(told, Ok(ConsumerTold::Epoch { .. })), "{told:?}");
    let key = MemberKey { group: GroupId::new("g"), member: id };
    let held = &site.world.rows.get::<ConsumerRow>(&key).unwrap().held;
    let partitions = |indexes: &[i32]| indexes.iter().map(|index| site.world.partition(*index)).collect();
    assert_eq!((&held.assigned, &held.revoking), (&partitions(&[0, 2]), &partitions(&[1])));
}

/// A consumer group of "a", of the consumer protocol, which may be static, and a member of the classic protocol.
fn mixed(is_static: bool) -> (Site, String) {
    let mut site = Site::new();
    let instance = is_static.then(|| InstanceId::new("s"));
    site.beat("a", 0, |beat| beat.instance = instance);
    let Some(Ok(joined)) = site.join("consumers", "", consumes) else { panic!("it joins at once") };
    let member = joined.member.as_str().to_owned();
    (site, member)
}

/// It takes the place of "s".
fn successor(join: &mut JoinGroup) {
    consumes(join);
    join.joiner.instance = Some(InstanceId::new("s"));
}

fn is_classic(site: &mut Site) -> bool {
    matches!(described(&mut site.world, "consumers"), AnyGroup::Classic(_))
}

#[test]
fn a_group_is_a_classic_one_when_the_last_member_of_the_other_protocol_is_replaced() {
    let (mut site, member) = mixed(true);
    assert_eq!(site.join("consumers", "", successor), None, "it waits for the other one");
    assert!(is_classic(&mut site));
    let formed = site.world.rows.get::<MembersRow>(&GroupId::new("consumers")).unwrap();
    assert_eq!(formed.members.keys().map(MemberId::as_str).collect::<Vec<_>>(), [member.as_str()]);

    // Not if it is not the last one; if it is of the classic protocol itself; if it is no consumer, or shares no protocol.
    let (mut site, _) = mixed(true);
    site.beat("b", 0, |_| {});
    assert!(matches!(site.join("consumers", "", successor), Some(Ok(_))));
    assert!(!is_classic(&mut site), "b is left");
    assert!(matches!(site.join("consumers", "", successor), Some(Ok(_))));
    assert!(!is_classic(&mut site), "b is left, and whose place it takes is no obstacle");
    let no_consumer = |join: &mut JoinGroup| {
        successor(join);
        join.consumes = None;
    };
    let shares_nothing = |join: &mut JoinGroup| {
        successor(join);
        join.joiner.protocols = vec![protocol("sticky", 1)];
    };
    for (what, lie) in [
        ("no consumer", no_consumer as fn(&mut JoinGroup)),
        ("shares nothing", shares_nothing as fn(&mut JoinGroup)),
    ] {
        let (mut site, _) = mixed(true);
        let refused = site.join("consumers", "", lie);
        assert_eq!(
            (refused, is_classic(&mut site)),
            (Some(Err(Refusal::InconsistentProtocol)), false),
            "{what}"
        );
    }
    // Nor if it names a member id.
    let (mut site, _) = mixed(true);
    assert_eq!(site.join("consumers", "a", successor), Some(Err(Refusal::UnknownMember)));
    assert!(!is_classic(&mut site));
}

#[test]
fn an_empty_group_is_of_the_protocol_of_whoever_comes() {
    let mut site = Site::new();
    site.beat("a", 0, |_| {});
    site.beat("a", GroupEpoch::LEAVE.0, |_| {});
    let causes = site.world.rebalances.len();
    let logged = site.world.log.len();
    let join = join_of(1, "consumers", "");
    assert_eq!(site.world.ask_waiting(Command::JoinGroup(Box::new(join))), None);
    let event = &site.world.log[logged].1;
    assert!(matches!(event, Event::GroupDowngraded { members, .. } if members.is_empty()), "{event:?}");
    let begun = site.world.rebalances[causes..].iter().map(|(_, cause)| cause.name()).collect::<Vec<_>>();
    assert_eq!(begun, ["member_joined"]);
    site.pass(DELAY);
    let heard = site.heard();
    assert!(matches!(&heard[..], [Reply::Joined(Ok(joined))] if joined.generation.0 > 2), "{heard:?}");
}

#[test]
fn members_of_the_classic_protocol_go_on_in_a_classic_group_when_the_others_have_gone() {
    let (mut site, member) = mixed(false);
    let epoch = site.world.rows.get::<ConsumerGroupRow>(&GroupId::new("consumers")).unwrap().epoch.0;
    site.beat("a", GroupEpoch::LEAVE.0, |_| {});
    let shown = classic(&mut site.world, "consumers");
    assert_eq!(shown.status, GroupStatus::PreparingRebalance);
    assert_eq!(shown.members.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [member.as_str()]);
    assert_eq!(site.join("consumers", &member, |_| {}), None);
    let heard = site.heard();
    assert!(matches!(&heard[..], [Reply::Joined(Ok(joined))] if joined.generation.0 > epoch), "{heard:?}");
}

#[test]
fn who_leaves_together_with_the_last_of_the_other_protocol_is_gone_too() {
    let (mut site, first) = mixed(true);
    let Some(Ok(second)) = site.join("consumers", "", consumes) else { panic!("it joins at once") };
    let leaving = |member: &str, instance: Option<&str>| LeavingMember {
        member: MemberId::new(member),
        instance: instance.map(InstanceId::new),
    };
    let members = vec![leaving("", Some("s")), leaving(&first, None)];
    let left = site.world.ask(Command::LeaveGroup { group: GroupId::new("consumers"), members });
    assert_eq!(left, Reply::Each(vec![Ok(()); 2]));
    let shown = classic(&mut site.world, "consumers");
    assert_eq!(shown.members.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [second.member.as_str()]);
}
