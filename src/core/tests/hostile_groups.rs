//! Members that do not behave: each is refused in words that say what to do, takes no more memory than a limit allows, loses
//! nothing of anybody's, and does not disturb the others (`spec/groups.md`, M2, M3, J1, B3, C1).

use super::world::{Rows, World};
use crate::core::limits::*;
use crate::core::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_secs(30);
pub(super) const DELAY: Duration = Duration::from_secs(1);

pub(super) struct Site {
    pub(super) world: World,
    pub(super) requests: u64,
}

/// A request to join, all of whose fields may be lies.
pub(super) fn join_of(request: u64, group: &str, member: &str) -> JoinGroup {
    JoinGroup {
        request: RequestId(request),
        group: GroupId::new(group),
        member: MemberId::new(member),
        fresh: MemberId::new(&format!("drawn {request}")),
        joiner: Member {
            instance: None,
            client_id: "a client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocols: vec![protocol("range", 10)],
            assignment: Bytes::new(),
        },
        protocol_type: "consumer".to_owned(),
        requires_known_member: false,
        can_skip_assignment: true,
        initial_delay: DELAY,
        decision_bytes_max: 32 << 20,
        consumes: None,
    }
}

/// Its subscription says that it reads "t" and owns nothing.
pub(super) fn consumes(join: &mut JoinGroup) {
    join.consumes = Some(ConsumerMetadata { topics: ["t".to_owned()].into(), owned: Vec::new() });
}

pub(super) fn protocol(name: &str, bytes: usize) -> MemberProtocol {
    MemberProtocol { name: name.to_owned(), metadata: vec![7; bytes].into() }
}

pub(super) fn beat_of(member: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: GroupId::new("consumers"),
        member: MemberId::new(member),
        epoch: GroupEpoch::JOIN,
        instance: None,
        rack: None,
        rebalance_timeout: Some(REBALANCE),
        topics: Some(BTreeSet::from(["t".to_owned()])),
        pattern: None,
        assignor: None,
        owned: Some(BTreeSet::new()),
        client_id: String::new(),
        client_host: String::new(),
        session_timeout: SESSION,
        decision_bytes_max: 32 << 20,
        resolved: None,
        read: None,
    }
}

impl Site {
    pub(super) fn new() -> Site {
        Site { world: World::new(4), requests: 0 }
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Joins with what `lie` makes of an honest request; none if it waits.
    pub(super) fn join(
        &mut self,
        group: &str,
        member: &str,
        lie: impl FnOnce(&mut JoinGroup),
    ) -> Option<Result<Joined, Refusal>> {
        let mut join = join_of(self.request(), group, member);
        lie(&mut join);
        self.world.ask_waiting(Command::JoinGroup(Box::new(join))).map(|reply| match reply {
            Reply::Joined(joined) => joined,
            other => panic!("{other:?}"),
        })
    }

    /// What was answered to those who waited.
    pub(super) fn heard(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.world.answered).into_iter().map(|(_, reply)| reply).collect()
    }

    fn one_joined(&mut self) -> Joined {
        let heard = self.heard();
        let [Reply::Joined(Ok(joined))] = &heard[..] else { panic!("{heard:?}") };
        joined.clone()
    }

    pub(super) fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_secs() {
            self.world.pass(Duration::from_secs(1));
            self.world.fire_timers();
        }
    }

    pub(super) fn claim(group: &str, member: &str, generation: i32) -> GroupMember {
        GroupMember {
            group: GroupId::new(group),
            generation: Generation(generation),
            member: MemberId::new(member),
            instance: None,
        }
    }

    pub(super) fn sync(&mut self, claim: GroupMember, to: &[&str]) -> Option<Reply> {
        let request = RequestId(self.request());
        let assignments = to.iter().map(|id| (MemberId::new(id), Bytes::from((*id).to_owned()))).collect();
        let sync = SyncGroup { request, member: claim, protocol_type: None, protocol: None, assignments };
        self.world.ask_waiting(Command::SyncGroup(sync))
    }

    pub(super) fn heartbeat(&mut self, claim: GroupMember) -> Result<(), Refusal> {
        let Reply::Done(done) = self.world.ask(Command::Heartbeat(claim)) else { panic!() };
        done
    }

    fn commit(&mut self, member: GroupMember, offset: i64) -> Result<(), Refusal> {
        let offsets = vec![OffsetToCommit {
            partition: self.world.partition(0),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }];
        let Reply::Each(answers) = self.world.ask(Command::CommitOffsets { member, offsets }) else {
            panic!()
        };
        answers[0]
    }

    fn committed(&self, group: &str) -> Option<i64> {
        let key = GroupOffsetKey { group: GroupId::new(group), partition: self.world.partition(0) };
        self.world.rows.get::<CommittedOffset>(&key).map(|row| row.offset.0)
    }

    /// A stable group of one member, which has committed.
    pub(super) fn honest(&mut self, group: &str) -> GroupMember {
        assert_eq!(self.join(group, "", |_| {}), None);
        self.pass(DELAY);
        let joined = self.one_joined();
        let member = joined.member.as_str().to_owned();
        let claim = Site::claim(group, &member, joined.generation.0);
        assert_eq!(self.sync(claim.clone(), &[&member]), None);
        assert!(matches!(self.heard()[..], [Reply::Synced(Ok(_))]));
        assert_eq!(self.commit(claim.clone(), 42), Ok(()));
        claim
    }

    fn sessions(&self) -> SessionsRow {
        self.world.rows.get::<SessionsRow>(&()).copied().unwrap_or_default()
    }

    /// Does `work`, which must leave everything as it was.
    pub(super) fn nothing_happens<T>(&mut self, what: &str, work: impl FnOnce(&mut Site) -> T) -> T {
        let (rows, logged) = (self.world.rows.0.clone(), self.world.log.len());
        let done = work(self);
        assert!(self.world.log.len() == logged && self.world.rows.0 == rows, "{what} has changed something");
        done
    }
}

/// Refused for this reason, in words that say what to do.
pub(super) fn is_full(limit: GroupLimit) -> Option<Result<Joined, Refusal>> {
    let words = Refusal::GroupFull(limit).to_string();
    let advice = ["use ", "configure ", "subscribe ", "let ", "try again", "choose "];
    assert!(advice.iter().any(|advice| words.contains(advice)), "{words}");
    Some(Err(Refusal::GroupFull(limit)))
}

#[test]
fn a_member_that_joins_and_never_syncs_is_gone_after_its_session_and_the_leader_assigns_meanwhile() {
    let mut site = Site::new();
    let good = site.honest("g");
    let good_id = good.member.as_str().to_owned();
    assert_eq!(site.join("g", "", |_| {}), None);
    assert_eq!(site.heartbeat(good.clone()), Err(Refusal::RebalanceInProgress));
    assert_eq!(site.join("g", &good_id, |_| {}), None);
    let generation = good.generation.0 + 1;
    assert_eq!(site.heard().len(), 2, "both have joined");
    // The other one does not ask for its assignment, and the leader does not wait for it.
    let good = Site::claim("g", &good_id, generation);
    assert_eq!(site.sync(good.clone(), &[&good_id]), None);
    assert!(matches!(site.heard()[..], [Reply::Synced(Ok(_))]));
    for _ in 0..SESSION.as_secs() - 1 {
        site.pass(Duration::from_secs(1));
        assert_eq!(site.heartbeat(good.clone()), Ok(()));
        assert_eq!(site.commit(good.clone(), 43), Ok(()));
    }
    site.pass(Duration::from_secs(2));
    assert_eq!(site.heartbeat(good), Err(Refusal::RebalanceInProgress), "the silent one is gone");
    assert_eq!(site.join("g", &good_id, |_| {}), None);
    let alone = site.one_joined();
    assert_eq!((alone.generation.0, alone.members.len()), (generation + 1, 1));
    assert_eq!((site.committed("g"), site.sessions().sessions), (Some(43), 1));
}

#[test]
fn a_leader_that_never_syncs_but_beats_is_gone_after_the_rebalance_timeout_and_the_others_are_told() {
    let mut site = Site::new();
    for _ in 0..2 {
        assert_eq!(site.join("g", "", |_| {}), None);
    }
    site.pass(DELAY * 2);
    let joined = site.heard().into_iter().map(|reply| match reply {
        Reply::Joined(Ok(joined)) => joined,
        other => panic!("{other:?}"),
    });
    let joined: Vec<Joined> = joined.collect();
    let leader = joined[0].leader.clone();
    let follower = joined.iter().find(|joined| joined.member != leader).unwrap().member.clone();
    let leader = Site::claim("g", leader.as_str(), 1);
    assert_eq!(site.sync(Site::claim("g", follower.as_str(), 1), &[]), None);
    for _ in 0..REBALANCE.as_secs() {
        assert_eq!(site.heartbeat(leader.clone()), Ok(()));
        site.pass(Duration::from_secs(1));
    }
    assert_eq!(site.heard(), [Reply::Synced(Err(Refusal::RebalanceInProgress))]);
    assert_eq!(site.heartbeat(leader), Err(Refusal::UnknownMember));
    assert_eq!(site.join("g", follower.as_str(), |_| {}), None);
    assert!(matches!(&site.heard()[..], [Reply::Joined(Ok(joined))] if joined.leader == follower));
}

#[test]
fn what_a_member_says_of_itself_is_bounded_and_who_says_too_much_disturbs_nobody() {
    let mut site = Site::new();
    let good = site.honest("g");
    let many = |count: usize, bytes: usize| {
        (0..count)
            .map(move |number| protocol(&format!("range {number}"), bytes))
            .chain([protocol("range", 0)])
    };
    let metadata =
        |protocols: Vec<MemberProtocol>| move |join: &mut JoinGroup| join.joiner.protocols = protocols;
    for (what, lie, limit) in [
        ("megabytes", metadata(vec![protocol("range", 4 << 20)]), GroupLimit::Metadata),
        ("many megabytes", metadata(many(3, 1 << 20).collect()), GroupLimit::Metadata),
        ("a long name", metadata(vec![protocol(&"x".repeat(1 << 20), 0)]), GroupLimit::Metadata),
        ("many protocols", metadata(many(GROUP_PROTOCOLS_MAX, 0).collect()), GroupLimit::Protocols),
        ("nothing, often", metadata(vec![protocol("", 0); 200_000]), GroupLimit::Protocols),
    ] {
        let refused = site.nothing_happens(what, |site| site.join("g", "", lie));
        assert_eq!(refused, is_full(limit), "{what}");
    }
    let refused = site.nothing_happens("a long client id", |site| {
        site.join("g", "", |join| join.joiner.client_id = "x".repeat(1 << 20))
    });
    assert_eq!(refused, is_full(GroupLimit::Metadata));
    let long = "x".repeat(MEMBER_ID_BYTES_MAX + 1);
    let refused = site.nothing_happens("a long instance id", |site| {
        site.join("g", "", |join| join.joiner.instance = Some(InstanceId::new(&long)))
    });
    assert_eq!(refused, Some(Err(Refusal::MemberIdTooLong)));
    let refused = site.nothing_happens("a long group id", |site| {
        site.join(&"g".repeat(GROUP_ID_BYTES_MAX + 1), "", |_| {})
    });
    assert_eq!(refused, Some(Err(Refusal::InvalidName)));
    assert_eq!(site.heartbeat(good.clone()), Ok(()));
    assert_eq!((site.commit(good, 43), site.committed("g")), (Ok(()), Some(43)));
}

#[test]
fn a_member_that_grows_too_large_stays_as_it_was() {
    let mut site = Site::new();
    let good = site.honest("g");
    let id = good.member.as_str().to_owned();
    let refused = site.nothing_happens("growing", |site| {
        site.join("g", &id, |join| join.joiner.protocols = vec![protocol("range", 1 << 20)])
    });
    assert_eq!(refused, is_full(GroupLimit::Metadata));
    assert_eq!(site.heartbeat(good.clone()), Ok(()));
    let long = "x".repeat(GROUP_ASSIGNMENT_BYTES_MAX);
    assert_eq!(site.join("g", &id, |_| {}), None, "a leader that joins wants to assign anew");
    assert_eq!(site.heard().len(), 1);
    let next = GroupMember { generation: good.generation.next(), ..good };
    let refused = site.nothing_happens("a large assignment", |site| site.sync(next.clone(), &[&long, &long]));
    assert_eq!(refused, Some(Reply::Synced(Err(Refusal::GroupFull(GroupLimit::Assignment)))));
    assert_eq!(site.sync(next, &[&id]), None);
    assert!(matches!(site.heard()[..], [Reply::Synced(Ok(_))]), "a smaller one is taken all the same");
}

#[test]
fn what_waits_in_the_rebalances_of_all_groups_is_bounded_and_groups_that_are_stable_go_on() {
    const SAID: usize = 500_000;
    let mut site = Site::new();
    let good = site.honest("g");
    let hostile = |site: &mut Site, number: usize| {
        site.join(&format!("hostile {number}"), "", |join| {
            join.joiner.protocols = vec![protocol("range", SAID)];
            join.initial_delay = Duration::from_secs(20);
        })
    };
    let waiting = (0..).take_while(|number| hostile(&mut site, *number).is_none()).count();
    assert!(
        ((REBALANCES_BYTES_MAX / SAID) - 2..=REBALANCES_BYTES_MAX / SAID).contains(&waiting),
        "{waiting}"
    );
    assert_eq!(hostile(&mut site, waiting), is_full(GroupLimit::Rebalances));
    let bytes = usize::try_from(site.sessions().rebalances_bytes).unwrap();
    assert!(bytes <= REBALANCES_BYTES_MAX && bytes > REBALANCES_BYTES_MAX - 2 * SAID);
    assert_eq!(site.commit(good.clone(), 43), Ok(()));
    // Nobody of them does anything further: each group's first generation is formed, and ends with its members' sessions.
    for _ in 0..20 + SESSION.as_secs() + 1 {
        site.pass(Duration::from_secs(1));
        assert_eq!(site.heartbeat(good.clone()), Ok(()));
    }
    assert_eq!(site.sessions().rebalances_bytes, 0);
    assert_eq!(site.sessions().sessions, 1);
    assert_eq!(hostile(&mut site, 0), None, "there is room again");
    assert_eq!(site.committed("g"), Some(43));
}

#[test]
fn ids_that_name_sessions_are_bounded_in_all_and_who_is_a_member_goes_on() {
    let mut site = Site::new();
    let good = site.honest("g");
    let long = "x".repeat(GROUP_ID_BYTES_MAX - 10);
    let ask_for_id = |site: &mut Site, number: usize| {
        site.join(&format!("{long}{number}"), "", |join| {
            join.requires_known_member = true;
            join.fresh = MemberId::new(&format!("{number:0>256}"));
        })
    };
    let given =
        (0..).take_while(|number| ask_for_id(&mut site, *number) == Some(Err(Refusal::MemberIdRequired)));
    let given = given.count();
    assert!(given > SESSIONS_BYTES_MAX / 1_400 && given < SESSIONS_BYTES_MAX / 1_200, "{given}");
    assert_eq!(ask_for_id(&mut site, given), is_full(GroupLimit::Sessions));
    assert_eq!(site.heartbeat(good.clone()), Ok(()));
    let id = good.member.as_str().to_owned();
    assert_eq!(site.join("g", &id, |_| {}), None, "who has a session joins with it");
    let beat = ConsumerHeartbeat { group: GroupId::new(&long), ..beat_of(&"x".repeat(MEMBER_ID_BYTES_MAX)) };
    let refused = site.world.ask(Command::ConsumerHeartbeat(Box::new(beat)));
    assert_eq!(refused, Reply::Consumer(Err(Refusal::GroupFull(GroupLimit::Sessions))));
    // The world looks at all of them at once, where the shard looks at some in each turn.
    site.world.pass(SESSION);
    site.world.fire_timers();
    assert!(site.sessions().sessions <= 1, "{:?}", site.sessions());
    assert_eq!(ask_for_id(&mut site, given), Some(Err(Refusal::MemberIdRequired)));
}

#[test]
fn ids_that_were_given_out_and_never_used_are_bounded_in_each_group() {
    let mut site = Site::new();
    let good = site.honest("g");
    let known = |join: &mut JoinGroup| join.requires_known_member = true;
    for _ in 1..GROUP_MEMBERS_MAX {
        assert_eq!(site.join("g", "", known), Some(Err(Refusal::MemberIdRequired)));
    }
    let refused = site.nothing_happens("one more", |site| site.join("g", "", known));
    assert_eq!(refused, is_full(GroupLimit::Members));
    assert_eq!(site.heartbeat(good.clone()), Ok(()), "nobody rebalances for them");
    for _ in 0..SESSION.as_secs() {
        site.pass(Duration::from_secs(1));
        assert_eq!(site.heartbeat(good.clone()), Ok(()));
    }
    assert_eq!((site.sessions().sessions, site.sessions().rebalances_bytes), (1, 0));
}

/// Member ids and generations that are not the sender's: of another group, of nobody, older, newer, negative, long, empty.
#[test]
fn forged_members_of_a_classic_group_are_refused_whatever_they_ask() {
    let mut site = Site::new();
    let good = site.honest("g");
    let other = site.honest("another group");
    let (own, generation) = (good.member.as_str().to_owned(), good.generation.0);
    let long = "x".repeat(100_000);
    let unknown = Refusal::UnknownMember;
    let forged = [
        (other.member.as_str(), generation, unknown),
        ("nobody", generation, unknown),
        ("", generation, unknown),
        (long.as_str(), generation, unknown),
        (&own[..own.len() - 1], generation, unknown),
        ("", -1, unknown),
        (own.as_str(), generation + 1, Refusal::IllegalGeneration),
        (own.as_str(), generation - 1, Refusal::IllegalGeneration),
        (own.as_str(), -1, Refusal::IllegalGeneration),
        (own.as_str(), i32::MIN, Refusal::IllegalGeneration),
        (own.as_str(), i32::MAX, Refusal::IllegalGeneration),
    ];
    for (member, generation, refusal) in forged {
        let what = format!("{member:.20} in {generation}");
        let claim = Site::claim("g", member, generation);
        site.nothing_happens(&what, |site| {
            assert_eq!(site.heartbeat(claim.clone()), Err(refusal), "{what}: Heartbeat");
            assert_eq!(site.commit(claim.clone(), 99), Err(refusal), "{what}: OffsetCommit");
            let synced = Some(Reply::Synced(Err(refusal)));
            assert_eq!(site.sync(claim.clone(), &["me"]), synced, "{what}: SyncGroup");
            if refusal == unknown && !member.is_empty() {
                assert_eq!(site.join("g", member, |_| {}), Some(Err(refusal)), "{what}: JoinGroup");
            }
            if refusal == unknown {
                let leaving = LeavingMember { member: MemberId::new(member), instance: None };
                let leave = Command::LeaveGroup { group: GroupId::new("g"), members: vec![leaving] };
                assert_eq!(site.world.ask(leave), Reply::Each(vec![Err(refusal)]), "{what}: LeaveGroup");
            }
        });
    }
    // A static member's name does not make somebody else of a member, nor the other way round.
    let named = GroupMember { instance: Some(InstanceId::new("static")), ..good.clone() };
    site.nothing_happens("an instance id", |site| {
        assert_eq!(site.heartbeat(named.clone()), Err(unknown));
        assert_eq!(site.commit(named.clone(), 99), Err(unknown));
        let leaving = LeavingMember { member: MemberId::new(""), instance: named.instance.clone() };
        let leave = Command::LeaveGroup { group: GroupId::new("g"), members: vec![leaving] };
        assert_eq!(site.world.ask(leave), Reply::Each(vec![Err(unknown)]));
    });
    assert_eq!((site.heartbeat(good), site.committed("g")), (Ok(()), Some(42)));
}

#[test]
fn forged_members_of_a_consumer_group_are_refused_whatever_they_ask() {
    let mut site = Site::new();
    let ask = |site: &mut Site, beat: &ConsumerHeartbeat| {
        let Reply::Consumer(told) = site.world.ask(Command::ConsumerHeartbeat(Box::new(beat.clone()))) else {
            panic!()
        };
        told
    };
    let joined = ask(&mut site, &beat_of("good"));
    let Ok(ConsumerTold::Epoch { epoch, assigned: Some(assigned) }) = joined else { panic!("{joined:?}") };
    assert_eq!(assigned.len(), 4);
    let go_on = ConsumerHeartbeat { epoch, owned: Some(assigned), ..beat_of("good") };
    assert!(ask(&mut site, &go_on).is_ok());
    let good = Site::claim("consumers", "good", epoch.0);
    assert_eq!(site.commit(good.clone(), 42), Ok(()));
    let long = "x".repeat(100_000);
    for (member, forged, refusal, of_commit) in [
        ("nobody", epoch, Refusal::UnknownMember, Refusal::UnknownMember),
        ("", epoch, Refusal::UnknownMember, Refusal::UnknownMember),
        (long.as_str(), epoch, Refusal::UnknownMember, Refusal::UnknownMember),
        (long.as_str(), GroupEpoch::JOIN, Refusal::MemberIdTooLong, Refusal::UnknownMember),
        ("good", epoch.next(), Refusal::FencedMemberEpoch, Refusal::StaleMemberEpoch),
        ("good", GroupEpoch(i32::MAX), Refusal::FencedMemberEpoch, Refusal::StaleMemberEpoch),
        ("good", GroupEpoch(i32::MIN), Refusal::FencedMemberEpoch, Refusal::StaleMemberEpoch),
    ] {
        let what = format!("{member:.20} in {}", forged.0);
        site.nothing_happens(&what, |site| {
            let beat = ConsumerHeartbeat { epoch: forged, ..beat_of(member) };
            assert_eq!(ask(site, &beat), Err(refusal), "{what}: ConsumerGroupHeartbeat");
            let claim = Site::claim("consumers", member, forged.0);
            assert_eq!(site.commit(claim, 99), Err(of_commit), "{what}: OffsetCommit");
        });
    }
    site.nothing_happens("another's instance id", |site| {
        let beat = ConsumerHeartbeat { instance: Some(InstanceId::new("static")), ..go_on.clone() };
        assert_eq!(ask(site, &beat), Err(Refusal::UnknownMember));
    });
    let topics: BTreeSet<String> = (0..100_000).map(|number| format!("topic {number}")).collect();
    for beat in [beat_of("greedy"), go_on.clone()] {
        let beat = ConsumerHeartbeat { topics: Some(topics.clone()), ..beat };
        let refused = site.nothing_happens("100,000 topics", |site| ask(site, &beat));
        assert_eq!(refused, Err(Refusal::GroupFull(GroupLimit::Subscription)));
    }
    assert_eq!(is_full(GroupLimit::Subscription), Some(Err(Refusal::GroupFull(GroupLimit::Subscription))));
    assert!(ask(&mut site, &go_on).is_ok());
    assert_eq!((site.commit(good, 43), site.committed("consumers")), (Ok(()), Some(43)));
}

/// What is counted is what there is.
pub(super) fn is_counted(rows: &Rows) -> bool {
    let mut counted = SessionsRow::default();
    for (key, row) in &rows.0 {
        match (key, row) {
            (RowKey::Deadline(Timer::Member(key)), _) => {
                counted.sessions += 1;
                counted.bytes += key.weight() as u64;
            }
            (_, RowValue::Rebalance(row)) => counted.rebalances_bytes += row.weight() as u64,
            _ => {}
        }
    }
    rows.get::<SessionsRow>(&()).copied().unwrap_or_default() == counted
}
