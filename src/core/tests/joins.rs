//! Groups of the classic protocol, rule by rule (`spec/groups.md`, J1 to J6, M2, M3, Y2, Y3, B1 to B3, L1): who may join and how
//! much may be said, who comes back as what, and who is answered what while a generation is formed.

use super::hostile_groups::{DELAY, REBALANCE, SESSION, Site, is_full, join_of, protocol};
use crate::core::limits::*;
use crate::core::*;
use crate::types::*;
use std::time::Duration;

type Answer = Option<Result<Joined, Refusal>>;

fn of(instance: &str) -> Option<InstanceId> {
    Some(InstanceId::new(instance))
}

/// What a member says of itself, padded so that all of it weighs so much.
fn weighs(bytes: usize) -> impl FnOnce(&mut JoinGroup) {
    move |join| {
        join.joiner.protocols = vec![protocol("range", 0)];
        let rest = bytes - join.joiner.weight();
        join.joiner.protocols = vec![protocol("range", rest)];
        assert_eq!(join.joiner.weight(), bytes);
    }
}

fn refused(refusal: Refusal) -> Answer {
    Some(Err(refusal))
}

fn members(site: &Site) -> Vec<String> {
    let row = site.world.rows.get::<MembersRow>(&GroupId::new("g"));
    row.map_or_else(Vec::new, |row| row.members.keys().map(|id| id.as_str().to_owned()).collect())
}

/// The member's own answer among those that are heard.
fn joined(site: &mut Site) -> Vec<Joined> {
    let joined = site.heard().into_iter().map(|reply| match reply {
        Reply::Joined(Ok(joined)) => joined,
        other => panic!("{other:?}"),
    });
    joined.collect()
}

/// A stable group of these many members; the first leads. Their ids, and the generation.
fn stable(site: &mut Site, count: usize, lie: impl Fn(usize, &mut JoinGroup)) -> (Vec<String>, i32) {
    for number in 0..count {
        assert_eq!(site.join("g", "", |join| lie(number, join)), None);
    }
    site.pass(DELAY * 3);
    let all = joined(site);
    let generation = all[0].generation.0;
    let leader = all[0].leader.as_str().to_owned();
    let mut ids: Vec<String> = all.iter().map(|one| one.member.as_str().to_owned()).collect();
    ids.sort_by_key(|id| *id != leader);
    let each: Vec<&str> = ids.iter().map(String::as_str).collect();
    for id in each.iter().rev() {
        site.sync(Site::claim("g", id, generation), &each);
    }
    assert_eq!(site.heard().len(), count);
    (ids, generation)
}

#[test]
fn what_one_member_says_is_so_much_and_no_more() {
    let mut site = Site::new();
    let long = |bytes: usize| move |join: &mut JoinGroup| join.joiner.instance = of(&"i".repeat(bytes));
    let many = |count: usize| {
        move |join: &mut JoinGroup| {
            join.joiner.protocols = (0..count).map(|number| protocol(&format!("{number}"), 0)).collect();
        }
    };
    assert_eq!(site.join("a", "", long(MEMBER_ID_BYTES_MAX)), None);
    assert_eq!(site.join("b", "", long(MEMBER_ID_BYTES_MAX + 1)), refused(Refusal::MemberIdTooLong));
    assert_eq!(site.join("c", "", many(GROUP_PROTOCOLS_MAX)), None);
    assert_eq!(site.join("d", "", many(GROUP_PROTOCOLS_MAX + 1)), is_full(GroupLimit::Protocols));
    assert_eq!(site.join("e", "", weighs(GROUP_METADATA_BYTES_MAX)), None);
    assert_eq!(site.join("f", "", weighs(GROUP_METADATA_BYTES_MAX + 1)), is_full(GroupLimit::Metadata));
    assert_eq!(site.join(&"g".repeat(GROUP_ID_BYTES_MAX), "", |_| {}), None);
    assert_eq!(site.join(&"g".repeat(GROUP_ID_BYTES_MAX + 1), "", |_| {}), refused(Refusal::InvalidName));
}

#[test]
fn what_all_members_say_is_so_much_and_who_comes_back_is_counted_once() {
    let mut site = Site::new();
    let half = GROUP_METADATA_BYTES_MAX / 2;
    let (ids, _) = stable(&mut site, 1, |_, join| weighs(half)(join));
    assert_eq!(
        site.join("g", "", weighs(GROUP_METADATA_BYTES_MAX - half + 1)),
        is_full(GroupLimit::Metadata)
    );
    assert_eq!(site.join("g", "", weighs(GROUP_METADATA_BYTES_MAX - half)), None);
    assert_eq!(site.join("g", &ids[0], weighs(half)), None, "in its own place");
    assert_eq!(site.heard().len(), 2);
}

#[test]
fn who_has_joined_the_next_generation_is_counted_once() {
    let mut site = Site::new();
    let third = GROUP_METADATA_BYTES_MAX / 3;
    let (ids, _) = stable(&mut site, 2, |_, join| weighs(third)(join));
    assert_eq!(site.join("g", &ids[0], weighs(third)), None);
    assert_eq!(site.join("g", "", weighs(third)), None);
}

#[test]
fn a_group_has_so_many_members_and_ids_that_are_given_out() {
    let mut site = Site::new();
    let known = |join: &mut JoinGroup| join.requires_known_member = true;
    let is_static = |join: &mut JoinGroup| join.joiner.instance = of("s");
    let (ids, _) = stable(&mut site, 1, |_, join| is_static(join));
    site.requests = 1_000;
    for _ in 1..GROUP_MEMBERS_MAX {
        assert_eq!(site.join("g", "", known), refused(Refusal::MemberIdRequired));
    }
    assert_eq!(site.join("g", "", |_| {}), is_full(GroupLimit::Members));
    // Who is a member, comes with its instance id, or was given an id, is none more.
    let Some(RowValue::Sessions(sessions)) = site.world.rows.0.get_mut(&SessionsRow::key(&())) else {
        panic!("there are sessions")
    };
    sessions.sessions = SESSIONS_MAX;
    assert_eq!(site.join("g", &ids[0], is_static), None);
    assert_eq!(site.join("g", "drawn 1001", |_| {}), None);
    assert_eq!(site.join("g", "", is_static), None);
    assert_eq!(site.join("other", "", |_| {}), is_full(GroupLimit::Sessions));
    assert_eq!(site.join("other", "", known), is_full(GroupLimit::Sessions));
}

#[test]
fn ids_that_name_sessions_and_what_waits_are_bounded_to_the_byte() {
    let set = |site: &mut Site, change: &dyn Fn(&mut SessionsRow)| {
        let mut row = site.world.rows.get::<SessionsRow>(&()).copied().unwrap_or_default();
        change(&mut row);
        site.world.rows.0.insert(SessionsRow::key(&()), RowValue::Sessions(row));
    };
    let most = |max: usize, own: usize| u64::try_from(max - own).unwrap();
    let mut site = Site::new();
    let key = MemberKey { group: GroupId::new("g"), member: MemberId::new("drawn 1") };
    let own = most(SESSIONS_BYTES_MAX, key.weight());
    set(&mut site, &|row| row.bytes = own + 1);
    assert_eq!(site.join("g", "", |_| {}), is_full(GroupLimit::Sessions));
    site.requests = 0;
    set(&mut site, &|row| row.bytes = own);
    assert_eq!(site.join("g", "", |_| {}), None);
    let mut site = Site::new();
    let own = most(REBALANCES_BYTES_MAX, MEMBER_ID_BYTES_MAX + join_of(1, "g", "").joiner.weight());
    set(&mut site, &|row| row.rebalances_bytes = own + 1);
    assert_eq!(site.join("g", "", |_| {}), is_full(GroupLimit::Rebalances));
    set(&mut site, &|row| row.rebalances_bytes = own);
    assert_eq!(site.join("g", "", |_| {}), None);
}

#[test]
fn members_are_of_one_type_and_share_a_protocol() {
    let inconsistent = refused(Refusal::InconsistentProtocol);
    let speaks = |names: &'static [&'static str]| {
        move |join: &mut JoinGroup| {
            join.joiner.protocols = names.iter().map(|name| protocol(name, 1)).collect()
        }
    };
    let of_type = |name: &'static str| move |join: &mut JoinGroup| join.protocol_type = name.to_owned();
    let mut site = Site::new();
    assert_eq!(site.join("g", "", of_type("")), inconsistent);
    assert_eq!(site.join("g", "", speaks(&[])), inconsistent);
    // While the first ones wait for one another, too.
    assert_eq!(site.join("g", "", speaks(&["range", "sticky"])), None);
    assert_eq!(site.join("g", "", of_type("connect")), inconsistent);
    assert_eq!(site.join("g", "", speaks(&["other"])), inconsistent);
    assert_eq!(site.join("g", "", speaks(&["sticky", "range", "other"])), None);
    assert_eq!(site.join("g", "", speaks(&["other"])), inconsistent, "not all know it");
    site.pass(DELAY * 3);
    let all = joined(&mut site);
    assert_eq!(all.len(), 2);
    assert!(["range", "sticky"].contains(&all[0].protocol.as_str()));
    let leader = all[0].leader.as_str().to_owned();
    site.sync(Site::claim("g", &leader, 1), &[]);
    site.heard();
    assert_eq!(site.join("g", "", of_type("connect")), inconsistent);
    // Who leaves everybody else behind is refused, and an empty group is of whatever type comes.
    assert_eq!(site.join("g", &leader, speaks(&["other"])), inconsistent);
    for member in members(&site) {
        site.leave("g", &member);
    }
    assert_eq!(site.join("g", "", of_type("connect")), None);
    assert_eq!(site.join("g", "", |_| {}), inconsistent, "connect it is now");
}

#[test]
fn the_protocol_that_most_prefer_among_those_that_all_know_is_selected() {
    let mut site = Site::new();
    let preferences: [&[&str]; 3] = [&["c", "b", "a"], &["a", "b"], &["d", "b", "a"]];
    let (_, _) = stable(&mut site, 3, |number, join| {
        join.joiner.protocols = preferences[number].iter().map(|name| protocol(name, 1)).collect();
    });
    let row = site.world.rows.get::<MembersRow>(&GroupId::new("g")).unwrap();
    assert_eq!(row.protocol, "b", "two prefer it among those that all know");
}

#[test]
fn who_is_no_member_joins_with_no_id_of_its_own() {
    let mut site = Site::new();
    assert_eq!(site.join("g", "me", |_| {}), refused(Refusal::UnknownMember), "there is no group");
    let of_no_type = |join: &mut JoinGroup| join.protocol_type = String::new();
    assert_eq!(site.join("g", "me", of_no_type), refused(Refusal::UnknownMember), "whatever else is wrong");
    let known = |join: &mut JoinGroup| join.requires_known_member = true;
    site.requests = 10;
    assert_eq!(site.join("g", "", known), refused(Refusal::MemberIdRequired));
    let with_instance = |join: &mut JoinGroup| join.joiner.instance = of("s");
    assert_eq!(site.join("g", "drawn 11", with_instance), refused(Refusal::UnknownMember));
    assert_eq!(site.join("g", "drawn 11", |_| {}), None);
    site.pass(DELAY);
    assert_eq!(joined(&mut site).len(), 1);
    assert_eq!(site.join("g", "me", |_| {}), refused(Refusal::UnknownMember));
}

#[test]
fn a_follower_that_joins_again_goes_on_and_a_leader_assigns_anew() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 2, |_, _| {});
    let [leader, follower] = [ids[0].as_str(), ids[1].as_str()];
    let again = site.join("g", follower, |_| {});
    assert!(
        matches!(&again, Some(Ok(one)) if one.generation.0 == generation && one.members.is_empty()),
        "{again:?}"
    );
    // With another subscription it begins another generation.
    let other = |join: &mut JoinGroup| join.joiner.protocols = vec![protocol("range", 11)];
    assert_eq!(site.join("g", follower, other), None);
    assert_eq!(site.heartbeat(Site::claim("g", leader, generation)), Err(Refusal::RebalanceInProgress));
    assert_eq!(site.join("g", leader, |_| {}), None);
    let all = joined(&mut site);
    let of_leader = all.iter().find(|one| one.member.as_str() == leader).unwrap();
    assert_eq!((all.len(), of_leader.members.len(), of_leader.leader.as_str()), (2, 2, leader));
    // Before it is assigned, who asks again is told again; who says something else begins another one.
    let again = site.join("g", leader, |_| {});
    assert!(matches!(&again, Some(Ok(one)) if one.generation.0 == generation + 1 && one.members.len() == 2));
    assert_eq!(site.join("g", leader, other), None);
    assert_eq!(site.join("g", follower, other), None);
    assert_eq!(joined(&mut site)[0].generation.0, generation + 2);
    site.sync(Site::claim("g", leader, generation + 2), &[]);
    site.heard();
    assert_eq!(site.join("g", leader, other), None, "it wants to assign anew");
}

#[test]
fn a_static_member_comes_back_as_what_it_was() {
    let is_static = |name: &'static str| move |join: &mut JoinGroup| join.joiner.instance = of(name);
    for skips in [true, false] {
        let mut site = Site::new();
        let (ids, generation) = stable(&mut site, 2, |number, join| is_static(["s", "t"][number])(join));
        let instance_of = |site: &Site, id: &str| {
            let row = site.world.rows.get::<MembersRow>(&GroupId::new("g")).unwrap();
            row.members[&MemberId::new(id)].instance.clone()
        };
        let (leader, follower) = (ids[0].clone(), ids[1].clone());
        let comes_back = |site: &mut Site, former: &str| {
            let instance = instance_of(site, former);
            site.join("g", "", |join| (join.joiner.instance, join.can_skip_assignment) = (instance, skips))
        };
        // The follower goes on where it was; nobody notices.
        let Some(Ok(back)) = comes_back(&mut site, &follower) else { panic!("it is welcome") };
        assert_eq!((back.generation.0, back.leader.as_str()), (generation, leader.as_str()));
        assert_eq!(site.heartbeat(Site::claim("g", &leader, generation)), Ok(()));
        assert_eq!(site.heartbeat(Site::claim("g", &follower, generation)), Err(Refusal::UnknownMember));
        let fenced = GroupMember {
            instance: instance_of(&site, back.member.as_str()),
            ..Site::claim("g", &follower, generation)
        };
        assert_eq!(site.heartbeat(fenced.clone()), Err(Refusal::FencedInstance));
        assert_eq!(
            site.join("g", &follower, |join| join.joiner.instance = fenced.instance),
            refused(Refusal::FencedInstance)
        );
        // A leader is told that there is nothing to assign, if it understands that.
        let Some(Ok(back)) = comes_back(&mut site, &leader) else { panic!("it is welcome") };
        assert_eq!((back.generation.0, back.skip_assignment), (generation, skips));
        assert_eq!(back.leader == back.member, skips);
        assert_eq!(back.members.len(), if skips { 2 } else { 0 });
    }
    // With another protocol than the one that was selected it begins another generation.
    let mut site = Site::new();
    let (_, generation) = stable(&mut site, 1, |_, join| {
        is_static("s")(join);
        join.joiner.protocols = vec![protocol("range", 1), protocol("sticky", 1)];
    });
    let other = |join: &mut JoinGroup| {
        is_static("s")(join);
        join.joiner.protocols = vec![protocol("sticky", 1)];
    };
    assert_eq!(site.join("g", "", other), None);
    assert_eq!(joined(&mut site)[0].generation.0, generation + 1);
    // So it does before it has been assigned anything; and who waits under the former id is told that it is fenced.
    assert_eq!(site.join("g", "", other), None);
    assert_eq!(joined(&mut site)[0].generation.0, generation + 2);
    let member = members(&site)[0].clone();
    let mut another = join_of(900, "g", "");
    another.joiner.protocols = vec![protocol("sticky", 1)];
    assert_eq!(site.world.ask_waiting(Command::JoinGroup(Box::new(another))), None);
    assert_eq!(site.join("g", &member, other), None);
    site.heard();
    let follower = members(&site).into_iter().find(|id| *id != member).unwrap();
    assert_eq!(site.sync(Site::claim("g", &follower, generation + 3), &[]), None);
    assert_eq!(site.join("g", "", other), None);
    let told = site.heard();
    assert_eq!(told, [Reply::Synced(Err(Refusal::RebalanceInProgress))], "the other one waits no longer");
    assert_eq!(site.join("g", "", other), None);
    let told = site.heard();
    assert_eq!(told, [Reply::Joined(Err(Refusal::FencedInstance))], "who waited under the former id");
}

#[test]
fn who_asks_twice_is_answered_once_more_and_the_former_request_at_once() {
    let mut site = Site::new();
    assert_eq!(
        site.join("g", "", |join| join.requires_known_member = true),
        refused(Refusal::MemberIdRequired)
    );
    assert_eq!(site.join("g", "drawn 1", |_| {}), None);
    assert_eq!(site.join("g", "drawn 1", |_| {}), None);
    assert_eq!(site.heard(), [Reply::Joined(Err(Refusal::RebalanceInProgress))]);
    site.pass(DELAY * 2);
    assert_eq!(joined(&mut site).len(), 1);
}

#[test]
fn only_members_of_the_generation_go_on() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 1, |_, _| {});
    // One that has joined the next generation is not of this one.
    site.requests = 50;
    assert_eq!(site.join("g", "", |_| {}), None);
    let newcomer = Site::claim("g", "drawn 51", generation);
    assert_eq!(site.heartbeat(newcomer.clone()), Err(Refusal::IllegalGeneration));
    assert_eq!(site.sync(newcomer, &[]), Some(Reply::Synced(Err(Refusal::IllegalGeneration))));
    let own = Site::claim("g", &ids[0], generation);
    assert_eq!(site.sync(own.clone(), &[]), Some(Reply::Synced(Err(Refusal::RebalanceInProgress))));
    assert_eq!(site.heartbeat(own), Err(Refusal::RebalanceInProgress));
}

#[test]
fn a_generation_waits_for_ids_that_were_given_out_until_their_sessions_end() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 1, |_, _| {});
    assert_eq!(
        site.join("g", "", |join| join.requires_known_member = true),
        refused(Refusal::MemberIdRequired)
    );
    assert_eq!(site.join("g", &ids[0], |_| {}), None);
    assert_eq!(site.heard(), [], "somebody is about to come");
    site.pass(SESSION);
    assert_eq!(joined(&mut site)[0].generation.0, generation + 1);
}

#[test]
fn who_waits_longer_than_its_session_is_not_gone() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 2, |_, _| {});
    assert_eq!(site.join("g", &ids[0], |_| {}), None);
    // The other one goes on, and does not come.
    for _ in 0..REBALANCE.as_secs() {
        assert_eq!(site.heard(), []);
        let _ = site.heartbeat(Site::claim("g", &ids[1], generation));
        site.pass(Duration::from_secs(1));
    }
    let all = joined(&mut site);
    assert_eq!((all.len(), all[0].members.len()), (1, 1), "who has not come is not in it");
    assert_eq!(site.heartbeat(Site::claim("g", &ids[1], generation)), Err(Refusal::UnknownMember));
}

#[test]
fn a_static_member_that_does_not_come_stays_until_its_session_ends() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 2, |number, join| {
        if number == 1 {
            join.joiner.instance = of("s");
            join.joiner.session_timeout = REBALANCE * 2;
        }
    });
    let is_static = |site: &Site, id: &str| {
        let row = site.world.rows.get::<MembersRow>(&GroupId::new("g")).unwrap();
        row.members[&MemberId::new(id)].instance.is_some()
    };
    let comes = ids.iter().find(|id| !is_static(&site, id)).unwrap().clone();
    let other = |join: &mut JoinGroup| join.joiner.protocols = vec![protocol("range", 11)];
    assert_eq!(site.join("g", &comes, other), None);
    site.pass(REBALANCE);
    let all = joined(&mut site);
    assert_eq!((all.len(), all[0].generation.0), (1, generation + 1));
    assert_eq!(members(&site).len(), 2, "it is in the next one, too");
    assert_eq!(all[0].leader.as_str(), comes, "who has come leads");
}

#[test]
fn the_first_members_are_waited_for_as_long_as_others_come() {
    let mut site = Site::new();
    let waits = |join: &mut JoinGroup| join.joiner.rebalance_timeout = DELAY * 5 / 2;
    for _ in 0..2 {
        assert_eq!(site.join("g", "", waits), None);
    }
    site.pass(DELAY);
    let look = Command::Expire { timer: Timer::Group(GroupId::new("g")) };
    site.world.ask(look.clone());
    assert_eq!(site.heard(), [], "not before the time has come");
    assert_eq!(site.join("g", "", waits), None, "another one has come, so they wait once more");
    site.pass(DELAY);
    assert_eq!(site.heard(), []);
    assert_eq!(site.join("g", "", waits), None);
    site.world.ask(look);
    assert_eq!(site.heard(), []);
    site.world.pass(DELAY / 2);
    site.world.fire_timers();
    assert_eq!(joined(&mut site).len(), 4, "but no longer than their rebalance timeout");
}

#[test]
fn who_leaves_twice_leaves_once_and_others_are_told() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 2, |number, join| {
        if number == 1 {
            join.joiner.instance = of("s");
        }
    });
    let leave = |site: &mut Site, who: &[(&str, Option<InstanceId>)]| {
        let who = who
            .iter()
            .map(|(id, instance)| LeavingMember { member: MemberId::new(id), instance: instance.clone() });
        let leave = Command::LeaveGroup { group: GroupId::new("g"), members: who.collect() };
        let logged = site.world.log.len();
        let Reply::Each(answers) = site.world.ask(leave) else { panic!("each is answered") };
        (answers, site.world.log[logged..].iter().map(|(_, event)| event.clone()).collect::<Vec<_>>())
    };
    let (unknown, fenced) = (Err(Refusal::UnknownMember), Err(Refusal::FencedInstance));
    let row = site.world.rows.get::<MembersRow>(&GroupId::new("g")).unwrap().clone();
    let dynamic = ids.iter().find(|id| row.members[&MemberId::new(id)].instance.is_none()).unwrap().as_str();
    let fixed = ids.iter().find(|id| *id != dynamic).unwrap().as_str();
    let refused =
        [(dynamic, of("s")), (dynamic, of("nobody's")), ("", of("nobody's")), ("", None), ("me", None)];
    assert_eq!(leave(&mut site, &refused), (vec![fenced, unknown, unknown, unknown, unknown], vec![]));
    // Who only has an id is no member yet.
    site.requests = 70;
    assert_eq!(
        site.join("g", "", |join| join.requires_known_member = true),
        Some(Err(Refusal::MemberIdRequired))
    );
    assert_eq!(leave(&mut site, &[("drawn 71", None)]), (vec![Ok(())], vec![]));
    assert_eq!(site.heartbeat(Site::claim("g", fixed, generation)), Ok(()), "nobody rebalances for it");
    assert_eq!(site.join("g", "drawn 71", |_| {}), Some(Err(Refusal::UnknownMember)));
    // Others that have one keep it.
    for _ in 0..2 {
        let known = site.join("g", "", |join| join.requires_known_member = true);
        assert_eq!(known, Some(Err(Refusal::MemberIdRequired)));
    }
    assert_eq!(leave(&mut site, &[("drawn 73", None)]), (vec![Ok(())], vec![]));
    assert_eq!(leave(&mut site, &[("drawn 74", None)]), (vec![Ok(())], vec![]), "it was there");
    let gone = Event::MembersLeft { group: GroupId::new("g"), members: vec![MemberId::new(dynamic)] };
    assert_eq!(leave(&mut site, &[(dynamic, None), (dynamic, None)]), (vec![Ok(()); 2], vec![gone]));
    assert_eq!(site.heartbeat(Site::claim("g", fixed, generation)), Err(Refusal::RebalanceInProgress));
    let (answers, events) = leave(&mut site, &[("", of("s"))]);
    assert_eq!((answers, events.len(), members(&site)), (vec![Ok(())], 1, vec![]));
    // The group is empty, and no rebalance is left of it.
    assert!(site.world.rows.get::<RebalanceRow>(&GroupId::new("g")).is_none());
    assert!(site.world.rows.get::<DeadlineRow>(&Timer::Group(GroupId::new("g"))).is_none());
}

#[test]
fn whoever_waits_for_a_generation_is_alive() {
    let mut site = Site::new();
    let (ids, _) = stable(&mut site, 2, |_, _| {});
    assert_eq!(site.join("g", &ids[0], |_| {}), None);
    let timer = Timer::Member(MemberKey { group: GroupId::new("g"), member: MemberId::new(&ids[0]) });
    let past = RowValue::Deadline(DeadlineRow { deadline: site.world.now.served });
    site.world.rows.0.insert(DeadlineRow::key(&timer), past);
    site.world.ask(Command::Expire { timer: timer.clone() });
    assert_eq!(site.heard(), []);
    let deadline = site.world.rows.get::<DeadlineRow>(&timer).unwrap().deadline;
    assert_eq!(deadline, site.world.now.served.plus(SESSION));
}

#[test]
fn a_rebalance_that_a_restart_has_lost_is_begun_by_the_first_who_comes() {
    let mut site = Site::new();
    let (ids, _) = stable(&mut site, 3, |_, _| {});
    site.leave("g", &ids[0]);
    site.world.restart();
    site.world.rebalances.clear();
    assert_eq!(site.join("g", &ids[1], |_| {}), None);
    let causes: Vec<_> = site.world.rebalances.iter().map(|(_, cause)| cause.name()).collect();
    assert_eq!(causes, ["broker_restarted"]);
}

#[test]
fn what_is_synced_is_what_was_selected_and_the_leader_assigns() {
    let mut site = Site::new();
    for _ in 0..2 {
        assert_eq!(site.join("g", "", |_| {}), None);
    }
    site.pass(DELAY * 2);
    let all = joined(&mut site);
    let leader = all[0].leader.as_str().to_owned();
    let follower = all.iter().find(|one| one.member != one.leader).unwrap().member.as_str().to_owned();
    let sync = |site: &mut Site, member: &str, said: (Option<&str>, Option<&str>), bytes: usize| {
        let assignments = [&leader, &follower].map(|id| (MemberId::new(id), vec![1; bytes / 2].into()));
        site.requests += 1;
        let (protocol_type, protocol) = (said.0.map(str::to_owned), said.1.map(str::to_owned));
        site.world.ask_waiting(Command::SyncGroup(SyncGroup {
            request: RequestId(site.requests),
            member: Site::claim("g", member, 1),
            protocol_type,
            protocol,
            assignments: assignments.to_vec(),
        }))
    };
    let inconsistent = Some(Reply::Synced(Err(Refusal::InconsistentProtocol)));
    for said in [(Some("connect"), None), (None, Some("sticky")), (Some("connect"), Some("range"))] {
        assert_eq!(sync(&mut site, &leader, said, 2), inconsistent, "{said:?}");
    }
    // What a follower says of assignments does not count, however much it is.
    let right = (Some("consumer"), Some("range"));
    let most = GROUP_ASSIGNMENT_BYTES_MAX;
    assert_eq!(sync(&mut site, &follower, right, most + 2), None);
    assert_eq!(site.heard(), []);
    let full = Some(Reply::Synced(Err(Refusal::GroupFull(GroupLimit::Assignment))));
    assert_eq!(sync(&mut site, &leader, right, most + 2), full);
    assert_eq!(sync(&mut site, &leader, right, most), None);
    let heard = site.heard();
    let assigned = |reply: &Reply| match reply {
        Reply::Synced(Ok(Synced { assignment: Assignment::ByLeader(bytes), .. })) => bytes.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(heard.iter().map(assigned).collect::<Vec<_>>(), [most / 2; 2]);
}

#[test]
fn a_generation_has_its_members_as_they_have_joined_it_and_keeps_its_leader() {
    let mut site = Site::new();
    site.requests = 1;
    let (ids, _) = stable(&mut site, 1, |_, join| join.joiner.instance = of("s"));
    assert_eq!(ids, ["drawn 2"]);
    site.requests = 9;
    assert_eq!(site.join("g", "", |_| {}), None);
    let says_more = |join: &mut JoinGroup| {
        join.joiner.instance = of("s");
        join.joiner.protocols = vec![protocol("range", 11)];
    };
    assert_eq!(site.join("g", "drawn 2", says_more), None);
    let all = joined(&mut site);
    let of_leader = all.iter().find(|one| one.member == one.leader).unwrap();
    assert_eq!(of_leader.member.as_str(), "drawn 2", "though drawn 10 comes first in the order of ids");
    let metadata: Vec<(&str, usize)> =
        of_leader.members.iter().map(|one| (one.member.as_str(), one.metadata.len())).collect();
    assert_eq!(metadata, [("drawn 10", 10), ("drawn 2", 11)]);
}

#[test]
fn nobody_comes_and_static_members_are_waited_for() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 3, |number, join| {
        join.joiner.session_timeout = REBALANCE * 4;
        if number == 0 {
            join.joiner.instance = of("s");
        }
    });
    let row = site.world.rows.get::<MembersRow>(&GroupId::new("g")).unwrap().clone();
    let (fixed, dynamic): (Vec<&String>, Vec<&String>) =
        ids.iter().partition(|id| row.members[&MemberId::new(id)].instance.is_some());
    site.leave("g", dynamic[0]);
    let logged = site.world.log.len();
    let left =
        |site: &Site| site.world.log[logged..].iter().map(|(_, event)| event.clone()).collect::<Vec<_>>();
    site.pass(REBALANCE);
    let gone = Event::MembersLeft { group: GroupId::new("g"), members: vec![MemberId::new(dynamic[1])] };
    assert_eq!(left(&site), [gone], "no generation is formed of nobody");
    // And again, and nobody else is gone.
    site.pass(REBALANCE);
    assert_eq!(left(&site).len(), 1);
    let comes = |join: &mut JoinGroup| join.joiner.instance = of("s");
    assert_eq!(site.join("g", fixed[0], comes), None);
    assert_eq!(joined(&mut site)[0].generation.0, generation + 1);
}

#[test]
fn after_a_restart_who_has_been_heard_of_has_no_longer_than_others() {
    let mut site = Site::new();
    let (ids, generation) = stable(&mut site, 2, |_, _| {});
    site.world.restart();
    assert_eq!(site.heartbeat(Site::claim("g", &ids[0], generation)), Ok(()));
    let session = |site: &Site, id: &str| {
        let key = MemberKey { group: GroupId::new("g"), member: MemberId::new(id) };
        site.world.rows.get::<DeadlineRow>(&Timer::Member(key)).map(|row| row.deadline)
    };
    let heard_of = site.world.now.served.plus(SESSION);
    site.world.pass(Duration::from_secs(1));
    site.world.ask(Command::Expire { timer: Timer::Group(GroupId::new("g")) });
    let whole = site.world.now.served.plus(SESSION);
    assert_eq!((session(&site, &ids[0]), session(&site, &ids[1])), (Some(heard_of), Some(whole)));
}
