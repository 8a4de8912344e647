//! Groups of the consumer protocol: random histories of members that come, go, are silent, lose answers, come late, revoke
//! when they like and subscribe to other topics; of topics that come, grow and go; and of restarts. Judged by the properties
//! of `spec/groups.md`, section 17.

use super::findings::{Broken, Findings};
use super::hostile_groups::is_counted;
use super::world::World;
use crate::core::*;
use crate::types::codec::Codec;
use crate::types::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

const MEMBERS: usize = 4;
const PARTITIONS: u32 = 5;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

/// What somebody does. Number 0 is a static member.
#[derive(Clone, Debug)]
enum Step {
    /// It is heard of; perhaps it does not hear the answer.
    Beat {
        who: usize,
        lost: bool,
    },
    /// A request that it sent earlier comes once more.
    Late {
        who: usize,
        back: usize,
    },
    /// It revokes and takes over what it was told.
    Reconcile {
        who: usize,
    },
    Subscribe {
        who: usize,
        to: u8,
    },
    Commit {
        who: usize,
        late: bool,
    },
    /// Perhaps it comes back under its member id.
    Leave {
        who: usize,
        for_good: bool,
    },
    /// Its process is replaced by one that knows nothing.
    Forget {
        who: usize,
    },
    CreateTopic,
    GrowTopic,
    DeleteTopic,
    Pass {
        seconds: u64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS;
    let rarely = || prop_oneof![5 => Just(false), 1 => Just(true)];
    prop_oneof![
        12 => (who.clone(), rarely()).prop_map(|(who, lost)| Step::Beat { who, lost }),
        8 => who.clone().prop_map(|who| Step::Reconcile { who }),
        1 => (who.clone(), 0..6usize).prop_map(|(who, back)| Step::Late { who, back }),
        1 => (who.clone(), 0..4u8).prop_map(|(who, to)| Step::Subscribe { who, to }),
        3 => (who.clone(), rarely()).prop_map(|(who, late)| Step::Commit { who, late }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, for_good)| Step::Leave { who, for_good }),
        1 => who.prop_map(|who| Step::Forget { who }),
        1 => prop_oneof![Just(Step::CreateTopic), Just(Step::GrowTopic), Just(Step::DeleteTopic)],
        2 => (1u64..20).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// A client, as it knows itself.
#[derive(Clone, Debug, Default)]
struct Client {
    life: u64,
    epoch: i32,
    /// What it was told that it is assigned.
    told: BTreeSet<PartitionId>,
    /// What it uses.
    owned: BTreeSet<PartitionId>,
    /// Whether it must say everything anew.
    full: bool,
    subscribes: u8,
    sent: Vec<ConsumerHeartbeat>,
}

impl Client {
    fn fenced(&mut self) {
        *self = Client {
            life: self.life,
            subscribes: self.subscribes,
            sent: std::mem::take(&mut self.sent),
            ..Client::default()
        };
    }
}

struct Group {
    world: World,
    clients: Vec<Client>,
    lives: u64,
    findings: Findings,
    judged: usize,
    epoch: GroupEpoch,
    members: BTreeMap<MemberId, GroupEpoch>,
    topics: u32,
}

fn group() -> GroupId {
    GroupId::new("g")
}

fn instance(who: usize) -> Option<InstanceId> {
    (who == 0).then(|| InstanceId::new("static"))
}

impl Group {
    fn new() -> Group {
        let world = World::new(PARTITIONS);
        let clients = (0..MEMBERS as u64).map(|life| Client { life, ..Client::default() }).collect();
        Group {
            judged: world.log.len(),
            world,
            clients,
            lives: MEMBERS as u64,
            findings: Findings::default(),
            epoch: GroupEpoch(0),
            members: BTreeMap::new(),
            topics: 0,
        }
    }

    fn id(&self, who: usize) -> MemberId {
        MemberId::new(&format!("member {}", self.clients[who].life))
    }

    fn row(&self, member: &MemberId) -> Option<&ConsumerRow> {
        self.world.rows.get::<ConsumerRow>(&MemberKey { group: group(), member: member.clone() })
    }

    fn rows(&self) -> Vec<(MemberId, ConsumerRow)> {
        let of = |(key, row): (&RowKey, &RowValue)| match (key, row) {
            (RowKey::Consumer(key), RowValue::Consumer(row)) => Some((key.member.clone(), row.clone())),
            _ => None,
        };
        self.world.rows.0.iter().filter_map(of).collect()
    }

    fn beat_of(&self, who: usize, epoch: GroupEpoch) -> ConsumerHeartbeat {
        let client = &self.clients[who];
        let full = client.epoch == 0 || client.full;
        let name = |one: &str| BTreeSet::from([one.to_owned()]);
        let (topics, pattern) = match client.subscribes {
            0 => (name("t"), String::new()),
            1 => (BTreeSet::from(["t".to_owned(), "t0".to_owned()]), String::new()),
            2 => (BTreeSet::new(), "t.*".to_owned()),
            _ => (name("none"), "t0".to_owned()),
        };
        ConsumerHeartbeat {
            group: group(),
            member: self.id(who),
            epoch,
            instance: instance(who),
            rack: None,
            rebalance_timeout: full.then_some(REBALANCE),
            topics: Some(topics),
            pattern: Some(pattern),
            assignor: (who == 1).then_some(Assignor::Range),
            owned: Some(client.owned.clone()),
            client_id: format!("client {who}"),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            decision_bytes_max: 32 << 20,
            resolved: None,
            read: None,
        }
    }

    /// Topics whose names match, as somebody outside would find them.
    fn resolve(&self, version: u64, patterns: &BTreeSet<String>) -> ResolvedPatterns {
        let matching = |pattern: &String| {
            let matches =
                |name: &str| if pattern.starts_with("t.*") { name.starts_with('t') } else { name == pattern };
            let of = |(key, row): (&RowKey, &RowValue)| match (key, row) {
                (RowKey::Topic(id), RowValue::Topic(row)) if matches(row.name.as_str()) => Some(*id),
                _ => None,
            };
            self.world.rows.0.iter().filter_map(of).collect()
        };
        ResolvedPatterns {
            version,
            topics: patterns.iter().map(|one| (one.clone(), matching(one))).collect(),
        }
    }

    fn ask(
        &mut self,
        beat: &ConsumerHeartbeat,
    ) -> Result<(GroupEpoch, Option<BTreeSet<PartitionId>>), Refusal> {
        let before = self.row(&beat.member).map(|row| row.held.clone());
        let mut beat = beat.clone();
        loop {
            let logged = self.world.log.len();
            match self.world.ask(Command::ConsumerHeartbeat(Box::new(beat.clone()))) {
                Reply::Consumer(Ok(ConsumerTold::Resolve { version, patterns })) => {
                    let nothing = self.world.log.len() == logged;
                    self.findings.holds(nothing, "T5", "what has to be asked again has decided nothing");
                    beat.resolved = Some(self.resolve(version, &patterns));
                }
                Reply::Consumer(Ok(ConsumerTold::Epoch { epoch, assigned })) => {
                    let known =
                        before.is_some_and(|held| beat.epoch == held.epoch || beat.epoch == held.previous);
                    let goes_on = beat.epoch.0 <= 0 || known;
                    self.findings.holds(
                        goes_on,
                        "FenceMember",
                        "who goes on is in its epoch, or in the one before",
                    );
                    return Ok((epoch, assigned));
                }
                Reply::Consumer(Err(refusal)) => {
                    let nothing = self.world.log.len() == logged;
                    self.findings.holds(nothing, "FenceMember", "who is refused has changed nothing");
                    return Err(refusal);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let beat = self.beat_of(who, GroupEpoch(self.clients[who].epoch));
        self.clients[who].sent.push(beat.clone());
        let answer = self.ask(&beat);
        let client = &mut self.clients[who];
        match answer {
            _ if lost => client.full = true,
            Ok((epoch, assigned)) => {
                client.epoch = epoch.0;
                client.full = false;
                client.told = assigned.unwrap_or_else(|| client.told.clone());
            }
            // The one that went away without a word has to expire first.
            Err(Refusal::UnreleasedInstance) => {}
            Err(_) => client.fenced(),
        }
    }

    fn leave(&mut self, who: usize, for_good: bool) {
        let epoch = if who == 0 { GroupEpoch::AWAY } else { GroupEpoch::LEAVE };
        let beat = ConsumerHeartbeat { topics: None, pattern: None, owned: None, ..self.beat_of(who, epoch) };
        let _ = self.ask(&beat);
        match for_good {
            true => self.forget(who),
            false => self.clients[who].fenced(),
        }
    }

    fn forget(&mut self, who: usize) {
        self.clients[who] =
            Client { life: self.lives, subscribes: self.clients[who].subscribes, ..Client::default() };
        self.lives += 1;
    }

    fn commit(&mut self, who: usize, late: bool) {
        let member = self.id(who);
        let epoch = self.clients[who].epoch - i32::from(late);
        let claim = GroupMember {
            group: group(),
            generation: Generation(epoch.max(0)),
            member: member.clone(),
            instance: None,
        };
        let offsets = vec![OffsetToCommit {
            partition: self.world.partition(0),
            offset: Offset(1),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }];
        let Reply::Each(answers) = self.world.ask(Command::CommitOffsets { member: claim.clone(), offsets })
        else {
            panic!()
        };
        if answers == [Ok(())] {
            let own = self.row(&member).is_some_and(|row| row.held.epoch.0 == claim.generation.0);
            self.findings.holds(own, "FenceMember", "who commits is a member in its own epoch");
        }
    }

    fn change_topics(&mut self, step: &Step) {
        let id = |number: u32| TopicId(Uuid::from_u128(100 + u128::from(number)));
        let command = match step {
            Step::CreateTopic => {
                self.topics += 1;
                let topic = NewTopic {
                    id: id(self.topics),
                    name: TopicName::new(if self.topics % 2 == 1 { "t0" } else { "t1" }).unwrap(),
                    partitions: 3,
                    config: TopicConfig::new(),
                };
                Command::CreateTopic { topic, validate_only: false }
            }
            Step::GrowTopic => {
                let partitions = self.world.rows.get::<TopicRow>(&self.world.topic).unwrap().partitions + 1;
                Command::AddPartitions { topic: self.world.topic, partitions, validate_only: false }
            }
            _ => Command::DeleteTopic { topic: id(self.topics) },
        };
        self.world.ask(command);
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(Duration::from_secs(1));
            self.world.fire_timers();
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        self.world.ask(Command::Expire { timer: Timer::Group(group()) });
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Beat { who, lost } => self.beat(who, lost),
            Step::Late { who, back } => {
                let sent = &self.clients[who].sent;
                let late = sent.len().checked_sub(1 + back).and_then(|at| sent.get(at)).cloned();
                if let Some(late) = late {
                    let _ = self.ask(&late);
                }
            }
            Step::Reconcile { who } => {
                let client = &mut self.clients[who];
                client.owned.clone_from(&client.told);
            }
            Step::Subscribe { who, to } => self.clients[who].subscribes = to,
            Step::Commit { who, late } => self.commit(who, late),
            Step::Leave { who, for_good } => self.leave(who, for_good),
            Step::Forget { who } => self.forget(who),
            Step::CreateTopic | Step::GrowTopic | Step::DeleteTopic => self.change_topics(step),
            Step::Pass { seconds } => self.pass(seconds),
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn check(&mut self) {
        let log = std::mem::take(&mut self.world.log);
        for (_, event) in &log[self.judged..] {
            self.event(event);
        }
        self.judged = log.len();
        self.world.log = log;
        let same = self.world.replayed().durable() == self.world.rows.durable();
        self.findings.holds(same, "DurableBeforeVisible", "the rows are the fold of the log");
        self.check_owners();
        let sessions = self.world.rows.0.keys();
        let sessions = sessions.filter(|key| matches!(key, RowKey::Deadline(Timer::Member(_)))).count();
        let counted = is_counted(&self.world.rows);
        self.findings.holds(counted, "Bounded", "sessions, and what waits in rebalances, are counted");
        let members = self.world.rows.get::<ConsumersRow>(&group()).map_or(0, |row| row.members.len());
        self.findings.holds(members == sessions, "Bounded", "each member has a session, and nobody else");
    }

    fn event(&mut self, event: &Event) {
        let epoch = match event {
            Event::ConsumerSubscribed { epoch, .. }
            | Event::TargetAssigned { epoch, .. }
            | Event::ConsumersLeft { epoch, .. } => *epoch,
            _ => self.epoch,
        };
        self.findings.holds(epoch >= self.epoch, "GroupEpochMonotone", "a group's epoch never goes back");
        self.epoch = epoch;
        match event {
            Event::ConsumerReconciled { member, held, .. } => {
                let before = self.members.insert(member.clone(), held.epoch).unwrap_or_default();
                let forward = held.epoch >= before || held.epoch == GroupEpoch::AWAY;
                self.findings.holds(forward, "GroupEpochMonotone", "a member's epoch never goes back");
                let reached = held.epoch <= self.epoch;
                self.findings.holds(reached, "GroupEpochMonotone", "no member is ahead of its group");
            }
            Event::ConsumersLeft { members, .. } => {
                self.members.retain(|member, _| !members.contains(member));
            }
            Event::ConsumerReplaced { former, .. } => self.members.retain(|member, _| member != former),
            _ => {}
        }
    }

    fn check_owners(&mut self) {
        let rows = self.rows();
        let mut owned = BTreeSet::new();
        let held = rows.iter().flat_map(|(_, row)| row.held.assigned.iter().chain(&row.held.revoking));
        let one = held.clone().all(|partition| owned.insert(*partition));
        self.findings.holds(one, "OneOwner", "no partition is held by two members");
        for who in 0..MEMBERS {
            let client = &self.clients[who];
            let Some(row) = self.row(&self.id(who)) else { continue };
            // Whoever is not in its epoch is fenced.
            let uses = row.held.epoch.0 != client.epoch || client.owned.iter().all(|one| row.held.holds(one));
            self.findings.holds(uses, "OneOwner", "what a member that is not fenced uses, it holds");
        }
        let row = self.world.rows.get::<ConsumerGroupRow>(&group());
        let in_order = row.is_none_or(|row| row.target_epoch <= row.epoch && row.epoch >= self.epoch);
        self.findings.holds(in_order, "GroupEpochMonotone", "the target does not overtake the group");
    }

    /// Every client does what a client does, until all are members of one stable group.
    fn settle(&mut self) {
        for _ in 0..60 {
            for who in 0..MEMBERS {
                self.beat(who, false);
                self.take(&Step::Reconcile { who });
            }
            self.pass(1);
            self.check();
            if self.is_stable() || self.findings.verdict().is_err() {
                return;
            }
        }
        self.findings.holds(false, "GroupStabilises", "members that behave become one stable group");
    }

    fn is_stable(&self) -> bool {
        let Some(row) = self.world.rows.get::<ConsumerGroupRow>(&group()) else { return false };
        let rows = self.rows();
        let clients: BTreeSet<MemberId> = (0..MEMBERS).map(|who| self.id(who)).collect();
        let members: BTreeSet<MemberId> = rows.iter().map(|(id, _)| id.clone()).collect();
        let heard = (0..MEMBERS).all(|who| {
            let (client, row) = (&self.clients[who], self.row(&self.id(who)));
            row.is_some_and(|row| client.epoch == row.held.epoch.0 && client.owned == row.held.assigned)
        });
        consumer_group_status(row, rows.iter().map(|(_, row)| row)) == ConsumerGroupStatus::Stable
            && members == clients
            && heard
            && self.is_all_read()
    }

    /// Every partition that somebody subscribes to is held by one who does.
    fn is_all_read(&self) -> bool {
        let subscribes = |who: usize, name: &str| match self.clients[who].subscribes {
            0 => name == "t",
            1 => name == "t" || name == "t0",
            2 => true,
            _ => name == "t0",
        };
        self.world.rows.0.iter().all(|(key, row)| {
            let (RowKey::Topic(id), RowValue::Topic(row)) = (key, row) else { return true };
            let readers: Vec<usize> =
                (0..MEMBERS).filter(|who| subscribes(*who, row.name.as_str())).collect();
            (0..row.partitions).all(|index| {
                let partition = PartitionId::new(*id, PartitionIndex(i32::try_from(index).unwrap()));
                let holders = (0..MEMBERS).filter(|who| self.clients[*who].owned.contains(&partition));
                let holders: Vec<usize> = holders.collect();
                match readers.is_empty() {
                    true => holders.is_empty(),
                    false => holders.len() == 1 && readers.contains(&holders[0]),
                }
            })
        })
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..80)
}

/// A history that `runner` draws: how many steps it took, and what did not hold then.
pub(crate) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    judge(&steps().new_tree(runner).unwrap().current())
}

fn judge(steps: &[Step]) -> (usize, Result<(), Broken>) {
    let mut group = Group::new();
    for (number, step) in steps.iter().enumerate() {
        group.take(step);
        if let Err(broken) = group.findings.verdict() {
            return (number + 1, Err(broken));
        }
    }
    group.settle();
    (steps.len(), group.findings.verdict())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_of_consumer_groups_hold_in_every_history(steps in steps()) {
        let (_, verdict) = judge(&steps);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}

/// A group whose members have all come, and are stable.
fn settled() -> Group {
    let mut group = Group::new();
    group.settle();
    assert_eq!(group.findings.verdict(), Ok(()));
    group
}

#[test]
fn a_heartbeat_that_changes_nothing_states_nothing() {
    let mut group = settled();
    let logged = group.world.log.len();
    (0..MEMBERS).for_each(|who| group.beat(who, false));
    assert_eq!(group.world.log.len(), logged);
}

#[test]
fn a_restart_under_a_stable_group_changes_nothing_for_members_that_come_back_in_time() {
    let mut group = settled();
    let (epoch, rows) = (group.epoch, group.world.rows.durable());
    group.restart();
    group.pass(SESSION.as_secs() - 1);
    (0..MEMBERS).for_each(|who| group.beat(who, false));
    group.pass(SESSION.as_secs() - 1);
    group.check();
    assert!(group.is_stable() && group.epoch == epoch && group.world.rows.durable() == rows);
    group.pass(2);
    let beat = group.beat_of(0, GroupEpoch(group.clients[0].epoch));
    assert_eq!(group.ask(&beat), Err(Refusal::UnknownMember), "who is silent is gone all the same");
}

#[test]
fn a_static_member_that_comes_back_in_time_is_noticed_by_nobody() {
    let mut group = settled();
    let (epoch, assigned) = (group.epoch, group.clients[0].owned.clone());
    for for_good in [true, false] {
        group.leave(0, for_good);
        group.pass(3);
        (1..MEMBERS).for_each(|who| group.beat(who, false));
        group.beat(0, false);
        assert_eq!((group.epoch, &group.clients[0].told), (epoch, &assigned));
        let others = (1..MEMBERS).all(|who| group.clients[who].told == group.clients[who].owned);
        assert!(others && !assigned.is_empty());
        group.settle();
    }
}

#[test]
fn a_heartbeat_that_was_held_up_does_not_bring_back_who_is_away() {
    let mut group = settled();
    (group.clients[0].subscribes, group.clients[0].full) = (2, true);
    group.settle();
    let held = group.row(&group.id(0)).unwrap().held.clone();
    assert!(held.previous > GroupEpoch::JOIN, "{held:?}");
    let late = ConsumerHeartbeat { owned: Some(BTreeSet::new()), ..group.beat_of(0, held.previous) };
    group.leave(0, true);
    assert_eq!(group.ask(&late), Err(Refusal::FencedMemberEpoch));
    // So its place is free for its next life.
    let beat = group.beat_of(0, GroupEpoch::JOIN);
    assert!(group.ask(&beat).is_ok());
}

#[test]
fn an_instance_id_in_use_is_not_to_be_had_and_its_former_bearer_is_told() {
    let mut group = settled();
    let former = group.beat_of(0, GroupEpoch(group.clients[0].epoch));
    group.forget(0);
    let beat = group.beat_of(0, GroupEpoch::JOIN);
    assert_eq!(group.ask(&beat), Err(Refusal::UnreleasedInstance));
    let away = ConsumerHeartbeat { epoch: GroupEpoch::AWAY, ..former.clone() };
    assert!(group.ask(&away).is_ok() && group.ask(&beat).is_ok());
    assert_eq!(group.ask(&former), Err(Refusal::FencedInstance));
}

#[test]
fn whoever_does_not_revoke_in_time_is_gone() {
    let mut group = Group::new();
    group.beat(1, false);
    group.take(&Step::Reconcile { who: 1 });
    group.beat(1, false);
    group.beat(2, false);
    group.beat(1, false);
    for _ in 0..REBALANCE.as_secs() {
        // It goes on, but it never says that it has revoked.
        assert_eq!(group.clients[1].owned.len(), PARTITIONS as usize);
        group.beat(1, false);
        group.beat(2, false);
        assert!(group.clients[2].told.is_empty());
        group.pass(1);
        group.check();
    }
    let beat = group.beat_of(1, GroupEpoch(group.clients[1].epoch));
    assert_eq!(group.ask(&beat), Err(Refusal::UnknownMember));
    group.beat(2, false);
    assert_eq!(group.clients[2].told.len(), PARTITIONS as usize);
    assert_eq!(group.findings.verdict(), Ok(()));
}

#[test]
fn what_grows_beyond_the_limit_is_refused_to_newcomers_and_cut_for_the_others() {
    let mut group = Group::new();
    group.beat(1, false);
    let big = |number: u128, partitions| NewTopic {
        id: TopicId(Uuid::from_u128(1_000 + number)),
        name: TopicName::new(&format!("t{number}")).unwrap(),
        partitions,
        config: TopicConfig::new(),
    };
    group.clients[1].subscribes = 2;
    group.beat(1, false);
    for number in 5..8 {
        let topic = big(number, limits::PARTITIONS_PER_TOPIC_MAX);
        group.world.ask(Command::CreateTopic { topic, validate_only: false });
    }
    group.beat(1, false);
    assert_eq!(group.clients[1].told.len(), limits::GROUP_PARTITIONS_MAX);
    group.clients[2].subscribes = 2;
    let beat = group.beat_of(2, GroupEpoch::JOIN);
    assert_eq!(group.ask(&beat), Err(Refusal::GroupFull(GroupLimit::Partitions)));
}

#[test]
fn no_decision_is_larger_than_the_smallest_block() {
    const BLOCK: usize = 1 << 20;
    let mut group = Group::new();
    let partitions = u32::try_from(limits::group_partitions_max(BLOCK)).unwrap() - PARTITIONS;
    let topic = NewTopic {
        id: TopicId(Uuid::from_u128(1_000)),
        name: TopicName::new("t5").unwrap(),
        partitions,
        config: TopicConfig::new(),
    };
    group.world.ask(Command::CreateTopic { topic, validate_only: false });
    let names: BTreeSet<String> = (0..600).map(|number| format!("{number:0>90}")).collect();
    let mut largest = 0;
    for number in 0..limits::GROUP_PATTERNS_MAX {
        let logged = group.world.log.len();
        let beat = ConsumerHeartbeat {
            member: MemberId::new(&format!("{number:0>256}")),
            topics: Some(if number < 60 { names.clone() } else { BTreeSet::new() }),
            pattern: Some(format!("t.*|{number:0>600}")),
            decision_bytes_max: BLOCK,
            ..group.beat_of(1, GroupEpoch::JOIN)
        };
        group.ask(&beat).unwrap();
        let bytes = group.world.log[logged..].iter().map(|(_, event)| event.to_bytes().len()).sum::<usize>();
        largest = largest.max(bytes);
    }
    assert!(largest < BLOCK - limits::DECISION_OVERHEAD_BYTES && largest > BLOCK / 3, "{largest}");
    let beat = ConsumerHeartbeat {
        pattern: Some("t.*|one too many".to_owned()),
        ..group.beat_of(1, GroupEpoch::JOIN)
    };
    assert_eq!(group.ask(&beat), Err(Refusal::GroupFull(GroupLimit::Patterns)));
}

#[test]
fn a_member_says_so_much_of_itself_and_a_group_so_much_of_all() {
    let mut group = Group::new();
    let topics = |count: usize| Some((0..count).map(|number| format!("{number:0>100}")).collect());
    let beat = ConsumerHeartbeat {
        topics: topics(limits::SUBSCRIPTION_BYTES_MAX / 100 + 1),
        ..group.beat_of(1, GroupEpoch::JOIN)
    };
    assert_eq!(group.ask(&beat), Err(Refusal::GroupFull(GroupLimit::Subscription)));
    let mut bytes = 0;
    let refused = (0..).find_map(|number| {
        let member = MemberId::new(&format!("m{number}"));
        let beat = ConsumerHeartbeat { member, topics: topics(500), ..group.beat_of(1, GroupEpoch::JOIN) };
        bytes += 500 * 100;
        group.ask(&beat).err()
    });
    assert_eq!(refused, Some(Refusal::GroupFull(GroupLimit::Subscriptions)), "after {bytes} bytes of names");
}

#[test]
fn an_empty_group_goes_from_one_protocol_to_the_other_and_its_epochs_go_on() {
    let mut group = settled();
    for who in 0..MEMBERS {
        let beat = group.beat_of(who, GroupEpoch::LEAVE);
        group.ask(&beat).unwrap();
    }
    let epoch = group.world.rows.get::<ConsumerGroupRow>(&self::group()).unwrap().epoch;
    let join = JoinGroup {
        request: RequestId(1),
        group: self::group(),
        member: MemberId::new(""),
        fresh: MemberId::new("classic"),
        joiner: Member {
            instance: None,
            client_id: String::new(),
            client_host: String::new(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocols: vec![MemberProtocol { name: "range".to_owned(), metadata: Default::default() }],
            assignment: Default::default(),
        },
        protocol_type: "consumer".to_owned(),
        requires_known_member: false,
        can_skip_assignment: true,
        initial_delay: Duration::ZERO,
        decision_bytes_max: 32 << 20,
        consumes: None,
    };
    assert_eq!(group.world.ask_waiting(Command::JoinGroup(Box::new(join.clone()))), None);
    let answered = std::mem::take(&mut group.world.answered);
    let [(_, Reply::Joined(Ok(joined)))] = answered.as_slice() else { panic!("{answered:?}") };
    assert!(joined.generation.0 > epoch.0);
    assert!(group.world.rows.get::<ConsumerGroupRow>(&self::group()).is_none());
    let beat = group.beat_of(1, GroupEpoch::JOIN);
    assert_eq!(group.ask(&beat), Err(Refusal::GroupRebalances), "it has a classic member");
    let leaving = LeavingMember { member: MemberId::new("classic"), instance: None };
    group.world.ask(Command::LeaveGroup { group: self::group(), members: vec![leaving] });
    let (again, _) = group.ask(&beat).unwrap();
    assert!(again.0 > joined.generation.0);
    assert!(group.world.rows.get::<GroupRow>(&self::group()).is_none());
    let reply = group.world.ask(Command::JoinGroup(Box::new(join)));
    assert_eq!(reply, Reply::Joined(Err(Refusal::InconsistentProtocol)));
}
