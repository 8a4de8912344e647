//! Groups: random histories of members that come, go, are silent, come late and repeat themselves, and of restarts; judged
//! by the properties of `spec/groups.md`.

use super::findings::{Broken, Findings};
use super::hostile_groups::is_counted;
use super::world::{Watch, World};
use crate::core::*;
use crate::types::*;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const MEMBERS: usize = 4;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

/// What somebody does. Number 0 is a static member; a `late` request speaks of a generation before the last one known.
#[derive(Clone, Debug)]
enum Step {
    Join { who: usize, renamed: bool },
    Sync { who: usize, late: bool },
    Heartbeat { who: usize, late: bool },
    Commit { who: usize, late: bool },
    Leave { who: usize },
    Forget { who: usize },
    Pass { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS;
    let late = prop_oneof![4 => Just(false), 1 => Just(true)];
    prop_oneof![
        8 => (who.clone(), prop_oneof![6 => Just(false), 1 => Just(true)])
            .prop_map(|(who, renamed)| Step::Join { who, renamed }),
        6 => (who.clone(), late.clone()).prop_map(|(who, late)| Step::Sync { who, late }),
        3 => (who.clone(), late.clone()).prop_map(|(who, late)| Step::Heartbeat { who, late }),
        3 => (who.clone(), late).prop_map(|(who, late)| Step::Commit { who, late }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        1 => who.prop_map(|who| Step::Forget { who }),
        3 => (1u64..40).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// A client, as it knows itself.
#[derive(Clone, Debug, Default)]
struct Client {
    id: Option<MemberId>,
    generation: i32,
    /// Whether it leads `generation`, and whom it is to assign to.
    leads: Vec<MemberId>,
    synced: bool,
    /// Its subscription changes: then even a follower that joins makes the group rebalance.
    subscription: u8,
}

struct Group {
    world: World,
    clients: Vec<Client>,
    requests: u64,
    /// Requests that wait, with whose they are.
    waiting: BTreeMap<RequestId, usize>,
    judge: Judge,
    judged: usize,
}

/// Reads the events as a reader of the log would.
#[derive(Default)]
struct Judge {
    findings: Findings,
    generation: i32,
    members: BTreeSet<MemberId>,
    gone: BTreeSet<MemberId>,
}

impl Judge {
    fn event(&mut self, event: &Event) {
        match event {
            Event::GenerationFormed { generation, members, leader, .. } => {
                self.findings.holds(
                    generation.0 > self.generation,
                    "GenerationMonotone",
                    "generations never go back",
                );
                self.generation = generation.0;
                let members: BTreeSet<MemberId> = members.iter().map(|(id, _)| id.clone()).collect();
                self.findings.holds(members.contains(leader), "GroupStabilises", "a leader is a member");
                let back = members.iter().any(|id| self.gone.contains(id));
                self.findings.holds(!back, "FenceMember", "who is gone does not come back under the same id");
                self.gone.extend(self.members.difference(&members).cloned());
                self.members = members;
            }
            Event::MembersLeft { members, .. } => {
                let there = members.iter().all(|id| self.members.remove(id));
                self.findings.holds(there, "FenceMember", "whoever leaves was there");
                self.gone.extend(members.iter().cloned());
                self.generation += i32::from(self.members.is_empty());
            }
            Event::MemberReplaced { former, id, .. } => {
                let replaced = self.members.remove(former) && self.members.insert(id.clone());
                self.findings.holds(replaced, "FenceMember", "a member takes the place of another");
                self.gone.insert(former.clone());
            }
            Event::GroupAssigned { assignments, .. } => {
                let assigned: BTreeSet<MemberId> = assignments.iter().map(|(id, _)| id.clone()).collect();
                let all = assigned == self.members;
                self.findings.holds(all, "GroupStabilises", "every member is assigned something");
            }
            _ => {}
        }
    }
}

fn group() -> GroupId {
    GroupId::new("g")
}

impl Group {
    fn new() -> Group {
        let clients = vec![Client::default(); MEMBERS];
        let (waiting, judge) = (BTreeMap::new(), Judge::default());
        let world = World::new(1);
        Group { judged: world.log.len(), world, clients, requests: 0, waiting, judge }
    }

    fn instance(who: usize) -> Option<InstanceId> {
        (who == 0).then(|| InstanceId::new("static"))
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn claim(&self, who: usize, late: bool) -> GroupMember {
        let client = &self.clients[who];
        GroupMember {
            group: group(),
            generation: Generation(client.generation - i32::from(late)),
            member: client.id.clone().unwrap_or_else(|| MemberId::new("nobody")),
            instance: Group::instance(who),
        }
    }

    fn ask(&mut self, who: usize, request: RequestId, command: Command) {
        let reply = self.world.ask_waiting(command);
        self.waiting.insert(request, who);
        self.world.answered.extend(reply.map(|reply| (request, reply)));
        self.hear();
    }

    /// Clients hear what was decided for them.
    fn hear(&mut self) {
        for (request, reply) in std::mem::take(&mut self.world.answered) {
            let Some(who) = self.waiting.remove(&request) else {
                self.judge.findings.holds(false, "EveryMemberAnswered", "once, and who asked");
                continue;
            };
            let client = &mut self.clients[who];
            match reply {
                Reply::Joined(Ok(joined)) => {
                    client.id = Some(joined.member);
                    client.generation = joined.generation.0;
                    client.leads = joined.members.into_iter().map(|member| member.member).collect();
                    client.synced = false;
                }
                Reply::Synced(Ok(synced)) => {
                    // Who has forgotten itself does not know any more that it has asked.
                    let Some(own) = client.id.as_ref().map(MemberId::as_str) else { continue };
                    client.synced = true;
                    let Assignment::ByLeader(told) = synced.assignment else { panic!("nobody leads") };
                    let told = String::from_utf8(told.to_vec()).unwrap();
                    // A static member's successor gets what was assigned to the former id.
                    let own = told.is_empty() || who == 0 || told == own;
                    self.judge.findings.holds(own, "EveryMemberAnswered", "each with its own assignment");
                }
                Reply::Joined(Err(Refusal::MemberIdRequired)) => client.id = Some(fresh(request)),
                Reply::Joined(Err(refusal)) | Reply::Synced(Err(refusal)) => self.refused(who, refusal),
                other => panic!("{other:?}"),
            }
        }
    }

    fn refused(&mut self, who: usize, refusal: Refusal) {
        let client = &mut self.clients[who];
        client.synced = false;
        if matches!(refusal, Refusal::UnknownMember | Refusal::FencedInstance) {
            client.id = None;
            client.generation = 0;
        }
    }

    fn join(&mut self, who: usize) {
        let request = self.request();
        let client = &self.clients[who];
        let protocol = |name: &str| MemberProtocol {
            name: name.to_owned(),
            metadata: Bytes::copy_from_slice(&[client.subscription]),
        };
        let joiner = Member {
            instance: Group::instance(who),
            client_id: format!("client {who}"),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocols: if who == 1 {
                vec![protocol("b"), protocol("a")]
            } else {
                vec![protocol("a"), protocol("b")]
            },
            assignment: Bytes::new(),
        };
        let join = JoinGroup {
            request,
            group: group(),
            member: client.id.clone().unwrap_or_else(|| MemberId::new("")),
            fresh: fresh(request),
            joiner,
            protocol_type: "consumer".to_owned(),
            requires_known_member: who != 0 && who != 2,
            can_skip_assignment: true,
            initial_delay: Duration::from_secs(1),
            decision_bytes_max: 32 << 20,
            consumes: None,
        };
        self.ask(who, request, Command::JoinGroup(Box::new(join)));
    }

    fn sync(&mut self, who: usize, late: bool) {
        let request = self.request();
        let assignments = self.clients[who].leads.iter();
        let assignments = assignments.map(|id| (id.clone(), Bytes::copy_from_slice(id.as_str().as_bytes())));
        let assignments = assignments.collect();
        let member = self.claim(who, late);
        let sync = SyncGroup { request, member, protocol_type: None, protocol: None, assignments };
        self.ask(who, request, Command::SyncGroup(sync));
    }

    fn heartbeat(&mut self, who: usize, late: bool) -> Result<(), Refusal> {
        let Reply::Done(done) = self.world.ask(Command::Heartbeat(self.claim(who, late))) else { panic!() };
        self.hear();
        done
    }

    fn commit(&mut self, who: usize, late: bool) {
        let member = GroupMember {
            generation: self.claim(who, late).generation.max(Generation(0)),
            ..self.claim(who, late)
        };
        let offsets = vec![OffsetToCommit {
            partition: self.world.partition(0),
            offset: Offset(1),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }];
        let Reply::Each(answers) = self.world.ask(Command::CommitOffsets { member: member.clone(), offsets })
        else {
            panic!()
        };
        if answers == [Ok(())] {
            let Judge { findings, gone, members, generation } = &mut self.judge;
            findings.holds(!gone.contains(&member.member), "FenceMember", "who commits is not gone");
            findings.holds(members.contains(&member.member), "FenceMember", "who commits is a member");
            let newest = member.generation.0 == *generation;
            findings.holds(newest, "FenceMember", "who commits is of the newest generation");
        }
    }

    fn pass(&mut self, seconds: u64) {
        // Second by second, as the shard looks.
        for _ in 0..seconds {
            self.world.pass(Duration::from_secs(1));
            self.world.fire_timers();
            self.hear();
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        self.waiting.clear();
        if self.world.rows.get::<MembersRow>(&group()).is_some() {
            self.world.ask(Command::Expire { timer: Timer::Group(group()) });
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { who, renamed } => {
                self.clients[who].subscription ^= u8::from(renamed);
                self.join(who);
            }
            Step::Sync { who, late } => self.sync(who, late),
            Step::Heartbeat { who, late } => drop(self.heartbeat(who, late)),
            Step::Commit { who, late } => self.commit(who, late),
            Step::Leave { who } => {
                let leaving = LeavingMember { member: self.claim(who, false).member, instance: None };
                self.world.ask(Command::LeaveGroup { group: group(), members: vec![leaving] });
                self.hear();
            }
            // Its process is replaced by one that knows nothing.
            Step::Forget { who } => self.clients[who] = Client::default(),
            Step::Pass { seconds } => self.pass(seconds),
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn check(&mut self) {
        for (_, event) in &self.world.log[self.judged..] {
            self.judge.event(event);
        }
        self.judged = self.world.log.len();
        let same = self.world.replayed().durable() == self.world.rows.durable();
        self.judge.findings.holds(same, "DurableBeforeVisible", "the rows are the fold of the log");
        let row = self.world.rows.get::<RebalanceRow>(&group()).cloned().unwrap_or_default();
        let joined =
            row.joining.iter().flat_map(|joining| joining.joined.values().map(|joiner| joiner.request));
        let waited_for: BTreeSet<RequestId> = joined.chain(row.syncing.values().copied()).collect();
        let waiting: BTreeSet<RequestId> = self.waiting.keys().copied().collect();
        let findings = &mut self.judge.findings;
        findings.holds(waited_for == waiting, "EveryMemberAnswered", "who waits is known to wait");
        let counted = is_counted(&self.world.rows);
        findings.holds(counted, "Bounded", "sessions, and what waits in rebalances, are counted");
    }

    /// Every client does what a client does, until all are members of one stable generation.
    fn settle(&mut self) {
        for _ in 0..200 {
            for who in 0..MEMBERS {
                if self.waiting.values().any(|waiting| *waiting == who) {
                    continue;
                }
                let client = &self.clients[who];
                if client.id.is_none() || client.generation == 0 {
                    self.join(who);
                } else if !client.synced {
                    self.sync(who, false);
                    if !self.clients[who].synced && !self.waiting.values().any(|waiting| *waiting == who) {
                        self.join(who);
                    }
                } else if let Err(refusal) = self.heartbeat(who, false) {
                    self.refused(who, refusal);
                    self.join(who);
                }
            }
            self.pass(1);
            self.check();
            if self.is_stable() || self.judge.findings.verdict().is_err() {
                return;
            }
        }
        self.judge.findings.holds(false, "GroupStabilises", "members that behave become one generation");
    }

    fn is_stable(&self) -> bool {
        let stable =
            self.world.rows.get::<GroupRow>(&group()).map(|row| row.state) == Some(GroupState::Stable);
        let members: BTreeSet<Option<MemberId>> = self.judge.members.iter().cloned().map(Some).collect();
        let clients: BTreeSet<Option<MemberId>> =
            self.clients.iter().map(|client| client.id.clone()).collect();
        stable
            && self.waiting.is_empty()
            && members == clients
            && self.clients.iter().all(|client| client.synced)
    }
}

fn fresh(request: RequestId) -> MemberId {
    MemberId::new(&format!("member {}", request.0))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..60)
}

/// A history that `runner` draws: how many steps it took, and what did not hold then.
pub(crate) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    judge(&steps().new_tree(runner).unwrap().current())
}

/// A history that `runner` draws, watched: what it breaks is not looked at.
pub(crate) fn watch_one(runner: &mut TestRunner, watch: Watch) -> usize {
    let steps = steps().new_tree(runner).unwrap().current();
    let mut group = Group::new();
    group.world.watch = Some(watch);
    steps.iter().for_each(|step| group.take(step));
    steps.len()
}

fn judge(steps: &[Step]) -> (usize, Result<(), Broken>) {
    let mut group = Group::new();
    for (number, step) in steps.iter().enumerate() {
        group.take(step);
        if let Err(broken) = group.judge.findings.verdict() {
            return (number + 1, Err(broken));
        }
    }
    group.settle();
    (steps.len(), group.judge.findings.verdict())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_of_groups_hold_in_every_history(steps in steps()) {
        let (_, verdict) = judge(&steps);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}

/// A group whose members have all come, and are stable.
fn settled() -> Group {
    let mut group = Group::new();
    group.settle();
    assert_eq!(group.judge.findings.verdict(), Ok(()));
    group
}

#[test]
fn a_restart_under_a_stable_group_changes_nothing_for_members_that_come_back_in_time() {
    let mut group = settled();
    let generation = group.judge.generation;
    group.restart();
    group.pass(SESSION.as_secs() - 1);
    for who in 0..MEMBERS {
        assert_eq!(group.heartbeat(who, false), Ok(()));
    }
    group.pass(SESSION.as_secs() - 1);
    group.check();
    assert!(group.is_stable());
    assert_eq!(group.judge.generation, generation);
    group.pass(2);
    assert_eq!(group.heartbeat(0, false), Err(Refusal::UnknownMember), "who is silent is gone all the same");
}

#[test]
fn the_protocol_that_most_members_prefer_is_selected() {
    let group = settled();
    // Three members prefer `a`, one prefers `b`.
    assert_eq!(group.world.rows.get::<MembersRow>(&self::group()).unwrap().protocol, "a");
}

#[test]
fn offsets_are_forgotten_when_neither_they_nor_the_group_were_used_for_long() {
    const RETENTION: Duration = Duration::from_secs(1_000);
    let mut group = settled();
    let offset = |group: &Group| {
        let key = GroupOffsetKey { group: self::group(), partition: group.world.partition(0) };
        group.world.rows.get::<CommittedOffset>(&key).is_some()
    };
    let expire = |group: &mut Group| {
        let partitions = vec![group.world.partition(0)];
        group.world.ask(Command::ExpireOffsets { group: self::group(), partitions, retention: RETENTION });
        group.world.ask(Command::ExpireGroup { group: self::group(), retention: RETENTION });
    };
    group.commit(0, false);
    let alive = |group: &mut Group| (0..MEMBERS).for_each(|who| group.heartbeat(who, false).unwrap());
    for _ in 0..300 {
        group.pass(5);
        alive(&mut group);
    }
    expire(&mut group);
    assert!(offset(&group), "a group with members keeps its offsets");
    group.pass(20);
    assert!(group.world.rows.get::<MembersRow>(&self::group()).is_none(), "all have been silent");
    group.pass(RETENTION.as_secs() - 20);
    expire(&mut group);
    assert!(offset(&group), "it has had members lately");
    group.pass(20);
    expire(&mut group);
    assert!(!offset(&group) && group.world.rows.get::<GroupRow>(&self::group()).is_none());
}
