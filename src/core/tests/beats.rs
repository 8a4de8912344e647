//! Heartbeats of the consumer protocol, rule by rule (`spec/groups.md`, sections 12 to 14): who one comes from, how much
//! members may say, what a member is told, and when it is gone.

use super::hostile_groups::{REBALANCE, SESSION, Site, beat_of, consumes, join_of, protocol};
use super::world::World;
use crate::core::limits::*;
use crate::core::*;
use crate::types::codec::Codec;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const GROUP: &str = "consumers";

type Told = Result<(i32, Option<BTreeSet<i32>>), Refusal>;

fn key(member: &str) -> MemberKey {
    MemberKey { group: GroupId::new(GROUP), member: MemberId::new(member) }
}

fn row<'w>(world: &'w World, member: &str) -> &'w ConsumerRow {
    world.rows.get::<ConsumerRow>(&key(member)).unwrap()
}

fn epoch(world: &World) -> i32 {
    world.rows.get::<ConsumerGroupRow>(&GroupId::new(GROUP)).unwrap().epoch.0
}

/// A member that joins.
fn joins(member: &str, lie: impl FnOnce(&mut ConsumerHeartbeat)) -> ConsumerHeartbeat {
    let mut beat = beat_of(member);
    lie(&mut beat);
    beat
}

/// A member that goes on in this epoch, and says nothing anew.
fn goes_on(member: &str, epoch: i32, lie: impl FnOnce(&mut ConsumerHeartbeat)) -> ConsumerHeartbeat {
    joins(member, |beat| {
        beat.epoch = GroupEpoch(epoch);
        (beat.topics, beat.owned, beat.rebalance_timeout) = (None, None, None);
        lie(beat);
    })
}

fn owns(indexes: &[i32]) -> Option<BTreeSet<PartitionId>> {
    let topic = World::new(1).topic;
    Some(indexes.iter().map(|index| PartitionId::new(topic, PartitionIndex(*index))).collect())
}

/// What is told to the member; patterns match nothing.
fn ask(world: &mut World, mut beat: ConsumerHeartbeat) -> Told {
    loop {
        match world.ask(Command::ConsumerHeartbeat(Box::new(beat.clone()))) {
            Reply::Consumer(Ok(ConsumerTold::Resolve { version, patterns })) => {
                let topics = patterns.into_iter().map(|pattern| (pattern, BTreeSet::new())).collect();
                beat.resolved = Some(ResolvedPatterns { version, topics });
            }
            Reply::Consumer(Ok(ConsumerTold::Epoch { epoch, assigned })) => {
                let indexes = |some: BTreeSet<PartitionId>| some.iter().map(|one| one.index.0).collect();
                return Ok((epoch.0, assigned.map(indexes)));
            }
            Reply::Consumer(Err(refusal)) => return Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

/// Does `work`, which must change nothing that is durable.
fn states_nothing<T>(world: &mut World, what: &str, work: impl FnOnce(&mut World) -> T) -> T {
    let (before, logged) = (world.rows.durable(), world.log.len());
    let done = work(world);
    assert!(world.log.len() == logged && world.rows.durable() == before, "{what} has changed something");
    done
}

fn full(limit: GroupLimit) -> Told {
    Err(Refusal::GroupFull(limit))
}

/// A group of "a", which has all four partitions.
fn alone() -> World {
    let mut world = World::new(4);
    assert_eq!(ask(&mut world, joins("a", |_| {})), Ok((1, Some((0..4).collect()))));
    world
}

/// `count` members more, like "a", under other ids.
fn crowd(world: &mut World, count: usize, lie: impl Fn(usize, &mut Subscription)) {
    let group = GroupId::new(GROUP);
    let mut like = row(world, "a").clone();
    (like.target, like.held.assigned) = (BTreeSet::new(), BTreeSet::new());
    let members = world.rows.get::<ConsumersRow>(&group).unwrap();
    let mut members = ConsumersRow { members: members.members.clone(), instances: members.instances.clone() };
    for number in 0..count {
        let id = format!("member {number}");
        members.members.insert(MemberId::new(&id));
        let mut row = like.clone();
        lie(number, &mut row.said);
        world.rows.0.insert(ConsumerRow::key(&key(&id)), RowValue::Consumer(row));
    }
    let counted = u32::try_from(members.members.len()).unwrap();
    world.rows.0.insert(ConsumersRow::key(&group), RowValue::Consumers(members));
    let Some(RowValue::ConsumerGroup(row)) = world.rows.0.get_mut(&ConsumerGroupRow::key(&group)) else {
        panic!("there is a group")
    };
    row.members = counted;
}

/// A subscription to one topic that does not exist, so that all of it weighs so much.
fn weighs(bytes: usize, world: &World) -> impl FnOnce(&mut ConsumerHeartbeat) + use<> {
    let said = &row(world, "a").said;
    let others = said.weight() - said.topics.iter().map(String::len).sum::<usize>();
    move |beat| beat.topics = Some(["x".repeat(bytes - others)].into())
}

#[test]
fn ids_and_subscriptions_are_so_long_and_no_longer() {
    let mut world = alone();
    let long = |bytes: usize| "i".repeat(bytes);
    let of = |bytes: usize| {
        move |beat: &mut ConsumerHeartbeat| beat.instance = Some(InstanceId::new(&long(bytes)))
    };
    let (most, too_long) = (MEMBER_ID_BYTES_MAX, Err(Refusal::MemberIdTooLong));
    assert!(ask(&mut world, joins(&long(most), |_| {})).is_ok());
    assert_eq!(ask(&mut world, joins(&long(most + 1), |_| {})), too_long);
    assert!(ask(&mut world, joins("b", of(most))).is_ok());
    assert_eq!(ask(&mut world, joins("c", of(most + 1))), too_long);
    let say = weighs(SUBSCRIPTION_BYTES_MAX, &world);
    assert!(ask(&mut world, joins("c", say)).is_ok());
    assert_eq!(row(&world, "c").said.weight(), SUBSCRIPTION_BYTES_MAX);
    let say = weighs(SUBSCRIPTION_BYTES_MAX + 1, &world);
    assert_eq!(ask(&mut world, joins("d", say)), full(GroupLimit::Subscription));
}

#[test]
fn what_all_members_say_is_so_much_and_who_says_something_else_is_counted_once() {
    let mut world = alone();
    let others = SUBSCRIPTIONS_BYTES_MAX / SUBSCRIPTION_BYTES_MAX - 1;
    let base = row(&world, "a").said.weight() - 1;
    crowd(&mut world, others, |_, said| said.topics = ["x".repeat(SUBSCRIPTION_BYTES_MAX - base)].into());
    assert_eq!(row(&world, "member 0").said.weight(), SUBSCRIPTION_BYTES_MAX);
    let small = weighs(100, &world);
    assert!(ask(&mut world, goes_on("a", 1, small)).is_ok());
    let rest = SUBSCRIPTION_BYTES_MAX - row(&world, "a").said.weight();
    let say = weighs(rest + 1, &world);
    assert_eq!(ask(&mut world, joins("b", say)), full(GroupLimit::Subscriptions));
    let say = weighs(rest, &world);
    assert!(ask(&mut world, joins("b", say)).is_ok());
    let [b, other] = ["b", "y"].map(str::to_owned);
    let others = row(&world, "b").said.topics.iter().map(|topic| topic.replace('x', &other)).collect();
    assert!(ask(&mut world, joins(&b, |beat| beat.topics = Some(others))).is_ok());
}

#[test]
fn a_group_has_so_many_members_and_those_go_on() {
    let mut world = alone();
    crowd(&mut world, GROUP_MEMBERS_MAX - 2, |_, _| {});
    assert!(ask(&mut world, joins("b", |_| {})).is_ok());
    assert_eq!(ask(&mut world, joins("c", |_| {})), full(GroupLimit::Members));
    let anew = |beat: &mut ConsumerHeartbeat| beat.topics = Some(["u".to_owned()].into());
    let reached = row(&world, "b").held.epoch.0;
    assert!(ask(&mut world, goes_on("b", reached, anew)).is_ok(), "a member says something else");
}

#[test]
fn a_member_says_something_else_where_there_is_no_room_for_another_session() {
    let mut world = alone();
    let Some(RowValue::Sessions(sessions)) = world.rows.0.get_mut(&SessionsRow::key(&())) else {
        panic!("there is a session")
    };
    sessions.sessions = SESSIONS_MAX;
    let anew = |beat: &mut ConsumerHeartbeat| beat.topics = Some(["u".to_owned()].into());
    assert_eq!(ask(&mut world, joins("b", |_| {})), full(GroupLimit::Sessions));
    assert!(ask(&mut world, goes_on("a", 1, anew)).is_ok());
}

#[test]
fn patterns_are_so_many_and_so_long_together() {
    let pattern = |text: String| move |beat: &mut ConsumerHeartbeat| beat.pattern = Some(text);
    let mut world = alone();
    for number in 0..GROUP_PATTERNS_MAX {
        let answer = ask(&mut world, joins(&format!("b{number}"), pattern(format!("p{number}"))));
        assert!(answer.is_ok(), "{number}: {answer:?}");
    }
    assert!(ask(&mut world, joins("c", pattern("p0".to_owned()))).is_ok(), "one that somebody has");
    assert_eq!(ask(&mut world, joins("d", pattern("another".to_owned()))), full(GroupLimit::Patterns));
    let mut world = alone();
    let half = |letter: &str| pattern(letter.repeat(GROUP_PATTERNS_BYTES_MAX / 2));
    assert!(ask(&mut world, joins("b", half("x"))).is_ok());
    assert!(ask(&mut world, joins("c", half("y"))).is_ok());
    assert_eq!(ask(&mut world, joins("d", pattern("z".to_owned()))), full(GroupLimit::Patterns));
}

#[test]
fn what_members_of_the_classic_protocol_say_must_fit_into_a_classic_group() {
    let mut world = alone();
    let join = |world: &mut World, request: u64, bytes: usize| {
        let mut join = join_of(request, GROUP, "");
        consumes(&mut join);
        join.joiner.protocols = vec![protocol("range", bytes)];
        match world.ask(Command::JoinGroup(Box::new(join))) {
            Reply::Joined(joined) => joined.map(|joined| joined.member.as_str().to_owned()),
            other => panic!("{other:?}"),
        }
    };
    let probe = join(&mut world, 1, 0).unwrap();
    let own = row(&world, &probe).said.classic_weight();
    let each = 60_000;
    let count = GROUP_METADATA_BYTES_MAX / (own + each);
    for number in 0..count {
        assert!(join(&mut world, 2 + number as u64, each).is_ok());
    }
    let rest = GROUP_METADATA_BYTES_MAX - own - count * (own + each);
    assert!(rest > own && rest < each, "{rest}");
    let refused = join(&mut world, 100, rest - own + 1);
    assert_eq!(refused, Err(Refusal::GroupFull(GroupLimit::Metadata)));
    assert!(join(&mut world, 101, rest - own).is_ok());
}

#[test]
fn what_does_not_fit_into_a_block_changes_nothing() {
    let mut world = alone();
    let small = |bytes: usize| move |beat: &mut ConsumerHeartbeat| beat.decision_bytes_max = bytes;
    let answer = states_nothing(&mut world, "too small a block", |world| {
        ask(world, joins("b", small(DECISION_OVERHEAD_BYTES)))
    });
    assert!(matches!(answer, Err(Refusal::GroupFull(GroupLimit::Decision | GroupLimit::Partitions))));
    // Exactly as much as the decision takes.
    let (rows, logged) = (world.rows.0.clone(), world.log.len());
    let mut least = DECISION_OVERHEAD_BYTES;
    while ask(&mut world, joins("b", small(least))) == full(GroupLimit::Decision) {
        assert!(world.rows.0 == rows && world.log.len() == logged);
        least += 1;
    }
    let stated: usize = world.log[logged..].iter().map(|(_, event)| event.to_bytes().len()).sum();
    assert_eq!(least, DECISION_OVERHEAD_BYTES + stated);
}

#[test]
fn who_has_only_just_joined_asks_again_and_who_has_gone_on_begins_anew() {
    let mut world = alone();
    let again = states_nothing(&mut world, "what is asked again", |world| ask(world, joins("a", |_| {})));
    assert_eq!(again, Ok((1, Some((0..4).collect()))));
    // Another comes: "a" is to revoke, and has heard so.
    ask(&mut world, joins("b", |_| {})).unwrap();
    assert_eq!(ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&[0, 1, 2, 3]))).unwrap().0, 1);
    assert!(!row(&world, "a").held.revoking.is_empty());
    let before = epoch(&world);
    ask(&mut world, joins("a", |_| {})).unwrap();
    assert!(
        epoch(&world) > before && row(&world, "a").held.revoking.is_empty(),
        "it has given up what it had"
    );
    // In a later epoch than its first one, too.
    let reached = row(&world, "b").held.epoch.0;
    ask(&mut world, goes_on("b", reached, |beat| beat.owned = owns(&[]))).unwrap();
    let before = epoch(&world);
    assert!(row(&world, "b").held.previous > GroupEpoch::JOIN);
    ask(&mut world, joins("b", |_| {})).unwrap();
    assert!(epoch(&world) > before);
}

#[test]
fn a_member_goes_on_in_its_epoch_or_in_the_one_before_if_it_owns_no_more_than_it_has() {
    let mut world = alone();
    ask(&mut world, joins("b", |_| {})).unwrap();
    let kept: Vec<i32> = row(&world, "a").target.iter().map(|one| one.index.0).collect();
    ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&kept))).unwrap();
    let held = row(&world, "a").held.clone();
    assert_eq!((held.epoch.0, held.previous.0), (2, 1));
    let fenced = Err(Refusal::FencedMemberEpoch);
    for (what, epoch, owned, expected) in [
        ("its own", 2, None, Ok((2, None))),
        ("before, and what it has", 1, owns(&kept), Ok((2, Some(kept.iter().copied().collect())))),
        ("before, and less", 1, owns(&kept[..1]), Ok((2, Some(kept.iter().copied().collect())))),
        ("before, and more", 1, owns(&[0, 1, 2, 3]), fenced.clone()),
        ("before, and it does not say", 1, None, fenced.clone()),
        ("later", 3, owns(&kept), fenced),
    ] {
        let answer = states_nothing(&mut world, what, |world| {
            ask(world, goes_on("a", epoch, |beat| beat.owned = owned))
        });
        assert_eq!(answer, expected, "{what}");
    }
}

#[test]
fn a_member_is_told_what_it_has_when_it_may_not_have_heard_of_it() {
    let mut world = alone();
    let all: BTreeSet<i32> = (0..4).collect();
    let anew = |beat: &mut ConsumerHeartbeat| {
        (beat.topics, beat.rebalance_timeout) = (Some(["t".to_owned()].into()), Some(REBALANCE));
        beat.owned = owns(&[]);
    };
    let all_of_it = |beat: &mut ConsumerHeartbeat| {
        anew(beat);
        beat.owned = owns(&[0, 1, 2, 3]);
    };
    for (what, beat, expected) in [
        ("nothing", goes_on("a", 1, |_| {}), None),
        ("that it owns all of it", goes_on("a", 1, |beat| beat.owned = owns(&[0, 1, 2, 3])), None),
        ("that it owns less", goes_on("a", 1, |beat| beat.owned = owns(&[0])), Some(all.clone())),
        ("everything anew", goes_on("a", 1, anew), Some(all.clone())),
        ("everything anew, and that it owns all of it", goes_on("a", 1, all_of_it), Some(all)),
    ] {
        let answer = states_nothing(&mut world, what, |world| ask(world, beat));
        assert_eq!(answer, Ok((1, expected)), "it says {what}");
    }
}

#[test]
fn what_a_heartbeat_does_not_say_stays_and_who_joins_says_everything() {
    let mut world = alone();
    let is_static = |beat: &mut ConsumerHeartbeat| {
        (beat.instance, beat.rack) = (Some(InstanceId::new("s")), Some("r".to_owned()));
        (beat.pattern, beat.assignor) = (Some("p".to_owned()), Some(Assignor::Range));
    };
    ask(&mut world, joins("s", is_static)).unwrap();
    let said = row(&world, "s").said.clone();
    let reached = row(&world, "s").held.epoch.0;
    ask(&mut world, goes_on("s", reached, |_| {})).unwrap();
    assert_eq!(row(&world, "s").said, said);
    ask(&mut world, goes_on("s", reached, |beat| beat.owned = owns(&[]))).unwrap();
    ask(&mut world, joins("s", |_| {})).unwrap();
    let now = &row(&world, "s").said;
    assert_eq!((&now.instance, &now.rack, &now.pattern, &now.assignor), (&None, &None, &None, &None));
    let reached = row(&world, "s").held.epoch.0;
    // An empty pattern is none; what differs only in what concerns nobody else makes nobody rebalance.
    let before = epoch(&world);
    let rack = |beat: &mut ConsumerHeartbeat| {
        (beat.rack, beat.pattern) = (Some("q".to_owned()), Some(String::new()))
    };
    ask(&mut world, goes_on("s", reached, rack)).unwrap();
    let now = &row(&world, "s").said;
    assert_eq!((now.rack.as_deref(), &now.pattern, epoch(&world)), (Some("q"), &None, before));
}

#[test]
fn who_leaves_and_who_is_away_must_be_who_it_says() {
    let mut world = alone();
    ask(&mut world, joins("s", |beat| beat.instance = Some(InstanceId::new("s")))).unwrap();
    let of = |instance: &'static str| {
        move |beat: &mut ConsumerHeartbeat| beat.instance = Some(InstanceId::new(instance))
    };
    let (unknown, fenced) = (Err(Refusal::UnknownMember), Err(Refusal::FencedInstance));
    for last in [GroupEpoch::LEAVE.0, GroupEpoch::AWAY.0] {
        for (what, beat, expected) in [
            ("a stranger", goes_on("nobody", last, |_| {}), unknown.clone()),
            ("nobody's instance", goes_on("a", last, of("nobody's")), unknown.clone()),
            ("another's instance", goes_on("a", last, of("s")), fenced.clone()),
        ] {
            let answer = states_nothing(&mut world, what, |world| ask(world, beat));
            assert_eq!(answer, expected, "{what} says {last}");
        }
    }
    let away = |world: &mut World, member| ask(world, goes_on(member, GroupEpoch::AWAY.0, |_| {}));
    assert_eq!(states_nothing(&mut world, "no static member", |world| away(world, "a")), unknown);
    assert_eq!(away(&mut world, "s"), Ok((GroupEpoch::AWAY.0, None)));
    let twice = states_nothing(&mut world, "what is said twice", |world| away(world, "s"));
    assert_eq!(twice, Ok((GroupEpoch::AWAY.0, None)));
}

#[test]
fn an_instance_id_is_taken_over_from_who_is_away_and_from_who_leaves_without_a_word() {
    let mut site = Site::new();
    site.beat("a", 0, |_| {});
    let is_static = |join: &mut JoinGroup| {
        consumes(join);
        join.joiner.instance = Some(InstanceId::new("s"));
    };
    let Some(Ok(joined)) = site.join(GROUP, "", is_static) else { panic!("it joins at once") };
    let world = &mut site.world;
    let of = |beat: &mut ConsumerHeartbeat| beat.instance = Some(InstanceId::new("s"));
    // Its member id is one of the other protocol.
    let member = joined.member.as_str();
    let going_on = goes_on(member, joined.generation.0, |_| {});
    assert_eq!(ask(world, going_on), Err(Refusal::UnknownMember));
    let before = epoch(world);
    ask(world, joins("s2", of)).unwrap();
    let again = states_nothing(world, "what is asked again", |world| ask(world, joins("s2", of)));
    assert!(again.is_ok(), "{again:?}");
    assert_eq!((epoch(world), world.rows.get::<ConsumerRow>(&key(member))), (before, None));
    assert_eq!(ask(world, joins("s3", of)), Err(Refusal::UnreleasedInstance));
}

#[test]
fn patterns_are_stated_when_they_match_something_else_and_seen_once() {
    let mut world = alone();
    let resolved = |world: &mut World| {
        world.log.iter().filter(|(_, event)| matches!(event, Event::PatternsResolved { .. })).count()
    };
    assert_eq!(resolved(&mut world), 0, "nobody has one");
    ask(&mut world, joins("p", |beat| beat.pattern = Some("u.*".to_owned()))).unwrap();
    assert_eq!(resolved(&mut world), 1);
    let reached = row(&world, "p").held.epoch.0;
    ask(&mut world, goes_on("p", reached, |beat| beat.topics = Some(BTreeSet::new()))).unwrap();
    assert_eq!(resolved(&mut world), 1, "as before");
    let seen = world.rows.get::<TopicsSeenRow>(&GroupId::new(GROUP)).map(|row| row.version);
    let version = world.rows.get::<TopicsVersionRow>(&()).map(|row| row.version);
    assert_eq!(seen, version);
    ask(&mut world, goes_on("p", GroupEpoch::LEAVE.0, |_| {})).unwrap();
    ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&[]))).unwrap();
    assert_eq!(resolved(&mut world), 2, "nobody has it any more");
    assert!(
        world.rows.get::<PatternsRow>(&GroupId::new(GROUP)).is_none_or(|row| row.topics == BTreeMap::new())
    );
}

#[test]
fn whose_time_has_not_come_is_not_gone() {
    let mut world = alone();
    ask(&mut world, joins("b", |_| {})).unwrap();
    ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&[0, 1, 2, 3]))).unwrap();
    let (session, revocation) = (Timer::Member(key("a")), Timer::Revocation(key("a")));
    let deadline = |world: &World, timer: &Timer| world.rows.get::<DeadlineRow>(timer).unwrap().deadline;
    let expire = |world: &mut World, timer: &Timer| world.ask(Command::Expire { timer: timer.clone() });
    world.pass(SESSION - Duration::from_millis(1));
    assert!(deadline(&world, &session) > world.now.served);
    for timer in [&session, &revocation] {
        states_nothing(&mut world, "a timer that was moved", |world| expire(world, timer));
    }
    ask(&mut world, goes_on("a", 1, |_| {})).unwrap();
    let due = deadline(&world, &revocation);
    while world.now.served < due {
        states_nothing(&mut world, "a timer that was moved", |world| expire(world, &revocation));
        world.pass(Duration::from_secs(1));
        ask(&mut world, goes_on("a", 1, |_| {})).unwrap();
    }
    let before = epoch(&world);
    expire(&mut world, &revocation);
    assert!(epoch(&world) > before && world.rows.get::<ConsumerRow>(&key("a")).is_none());
    // Who has nothing to revoke is not gone, whatever timer is left.
    let timer = Timer::Revocation(key("b"));
    let left = RowValue::Deadline(DeadlineRow { deadline: ServedTime(0) });
    world.rows.0.insert(DeadlineRow::key(&timer), left);
    states_nothing(&mut world, "a timer that is left", |world| expire(world, &timer));
    assert!(world.rows.get::<DeadlineRow>(&timer).is_none());
}

#[test]
fn a_static_member_that_comes_back_has_given_up_what_others_are_to_have() {
    let mut world = alone();
    let of = |beat: &mut ConsumerHeartbeat| beat.instance = Some(InstanceId::new("s"));
    let mut world_of_static = World::new(4);
    ask(&mut world_of_static, joins("s", of)).unwrap();
    ask(&mut world_of_static, goes_on("s", GroupEpoch::AWAY.0, |_| {})).unwrap();
    ask(&mut world_of_static, joins("b", |_| {})).unwrap();
    let back = ask(&mut world_of_static, joins("s2", of)).unwrap();
    assert_eq!((back.0, back.1.unwrap().len()), (epoch(&world_of_static), 2), "at once");
    // A member that has revoked something, and is to have it after all, has it at once, too.
    ask(&mut world, joins("b", |_| {})).unwrap();
    let kept = ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&[0, 1, 2, 3]))).unwrap().1.unwrap();
    assert_eq!(kept.len(), 2);
    ask(&mut world, goes_on("b", GroupEpoch::LEAVE.0, |_| {})).unwrap();
    let kept: Vec<i32> = kept.into_iter().collect();
    let all = ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&kept))).unwrap().1.unwrap();
    assert_eq!(all.len(), 4);
}

#[test]
fn each_revocation_has_its_time_and_no_more() {
    let mut world = alone();
    let timer = Timer::Revocation(key("a"));
    let deadline = |world: &World| world.rows.get::<DeadlineRow>(&timer).map(|row| row.deadline);
    let owning = |world: &mut World, owned: &BTreeSet<i32>| {
        let owned: Vec<i32> = owned.iter().copied().collect();
        ask(world, goes_on("a", 1, |beat| beat.owned = owns(&owned))).unwrap().1
    };
    let all: BTreeSet<i32> = (0..4).collect();
    assert_eq!(deadline(&world), None);
    ask(&mut world, joins("b", |_| {})).unwrap();
    let kept = owning(&mut world, &all).unwrap();
    let due = world.now.served.plus(REBALANCE);
    assert_eq!(deadline(&world), Some(due));
    world.pass(Duration::from_secs(1));
    owning(&mut world, &all);
    assert_eq!(deadline(&world), Some(due), "asked again, it has no longer time");
    // It has revoked that, and is to revoke something else: its time begins anew.
    ask(&mut world, joins("c", |_| {})).unwrap();
    ask(&mut world, joins("d", |_| {})).unwrap();
    let fewer = owning(&mut world, &kept).unwrap();
    assert_eq!((kept.len(), fewer.len()), (2, 1));
    assert_eq!(deadline(&world), Some(world.now.served.plus(REBALANCE)));
    owning(&mut world, &fewer);
    assert_eq!((deadline(&world), row(&world, "a").held.epoch.0), (None, epoch(&world)));
}

#[test]
fn after_a_restart_who_has_been_heard_of_has_no_longer_than_others() {
    let mut world = alone();
    ask(&mut world, joins("b", |_| {})).unwrap();
    ask(&mut world, goes_on("a", 1, |beat| beat.owned = owns(&[0, 1, 2, 3]))).unwrap();
    world.restart();
    let session = |world: &World, member| {
        world.rows.get::<DeadlineRow>(&Timer::Member(key(member))).map(|row| row.deadline)
    };
    ask(&mut world, goes_on("a", 1, |_| {})).unwrap();
    let heard_of = world.now.served.plus(SESSION);
    world.pass(Duration::from_secs(1));
    world.ask(Command::Expire { timer: Timer::Group(GroupId::new(GROUP)) });
    assert_eq!(
        (session(&world, "a"), session(&world, "b")),
        (Some(heard_of), Some(world.now.served.plus(SESSION)))
    );
    // Who is heard of last is given its time to revoke anew, too.
    world.restart();
    world.ask(Command::Expire { timer: Timer::Group(GroupId::new(GROUP)) });
    let revocation = world.rows.get::<DeadlineRow>(&Timer::Revocation(key("a"))).map(|row| row.deadline);
    assert_eq!(revocation, Some(world.now.served.plus(REBALANCE)));
}

#[test]
fn the_assignor_that_most_ask_for_assigns() {
    let mut world = World::new(4);
    let assigns = |world: &World| world.rows.get::<ConsumerGroupRow>(&GroupId::new(GROUP)).unwrap().assignor;
    let asks_for = |assignor| move |beat: &mut ConsumerHeartbeat| beat.assignor = assignor;
    for (member, asked, expected) in [
        ("a", None, Assignor::Uniform),
        ("b", Some(Assignor::Range), Assignor::Range),
        ("c", Some(Assignor::Uniform), Assignor::Uniform),
        ("d", Some(Assignor::Range), Assignor::Range),
    ] {
        ask(&mut world, joins(member, asks_for(asked))).unwrap();
        assert_eq!(assigns(&world), expected, "with {member}");
    }
}

#[test]
fn patterns_are_found_once_and_all_of_them() {
    let mut world = alone();
    let by =
        |pattern: &'static str| move |beat: &mut ConsumerHeartbeat| beat.pattern = Some(pattern.to_owned());
    let told = |world: &mut World, beat: &ConsumerHeartbeat| match world
        .ask(Command::ConsumerHeartbeat(Box::new(beat.clone())))
    {
        Reply::Consumer(told) => told.unwrap(),
        other => panic!("{other:?}"),
    };
    let mut beat = joins("p", by("u.*"));
    let ConsumerTold::Resolve { version, patterns } = told(&mut world, &beat) else {
        panic!("it is found outside")
    };
    assert_eq!(patterns, ["u.*".to_owned()].into());
    beat.resolved = Some(ResolvedPatterns { version, topics: [("v.*".to_owned(), BTreeSet::new())].into() });
    assert!(matches!(told(&mut world, &beat), ConsumerTold::Resolve { .. }), "another one was found");
    beat.resolved = Some(ResolvedPatterns { version, topics: [("u.*".to_owned(), BTreeSet::new())].into() });
    assert!(matches!(told(&mut world, &beat), ConsumerTold::Epoch { .. }));
    assert!(matches!(told(&mut world, &joins("q", by("u.*"))), ConsumerTold::Epoch { .. }), "it is known");
    let ConsumerTold::Resolve { patterns, .. } = told(&mut world, &joins("r", by("w.*"))) else {
        panic!("this one is not")
    };
    assert_eq!(patterns, ["u.*".to_owned(), "w.*".to_owned()].into());
}

/// As many partitions as a decision of 64 KiB may be about.
const SMALL: usize = 64 << 10;

fn in_small_blocks(beat: &mut ConsumerHeartbeat) {
    beat.decision_bytes_max = SMALL;
}

#[test]
fn a_group_is_about_so_many_partitions_and_no_more() {
    let most = u32::try_from(group_partitions_max(SMALL)).unwrap();
    let mut world = World::new(most);
    assert!(ask(&mut world, joins("a", in_small_blocks)).is_ok());
    let mut world = World::new(most + 1);
    assert_eq!(ask(&mut world, joins("a", in_small_blocks)), full(GroupLimit::Partitions));
}

#[test]
fn patterns_match_so_many_topics_and_what_several_share_counts_once() {
    let most = group_partitions_max(SMALL);
    let matching = |topics: usize| {
        move |beat: &mut ConsumerHeartbeat| {
            in_small_blocks(beat);
            beat.pattern = Some("u.*".to_owned());
            let topics = (0..topics as u128).map(|number| TopicId(uuid::Uuid::from_u128(1_000 + number)));
            let topics = [("u.*".to_owned(), topics.collect())].into();
            beat.resolved = Some(ResolvedPatterns { version: 1, topics });
        }
    };
    assert_eq!(ask(&mut alone(), joins("p", matching(most + 1))), full(GroupLimit::Partitions));
    let mut world = alone();
    assert!(ask(&mut world, joins("p", matching(most))).is_ok());
    assert!(ask(&mut world, joins("q", matching(most))).is_ok());
    let known = world.rows.get::<PatternsRow>(&GroupId::new(GROUP)).unwrap();
    assert_eq!(known.topics["u.*"].len(), most);
}
