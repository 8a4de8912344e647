//! A group whose members go from one protocol to the other and back while it lives (`spec/groups.md`, section 16): random
//! histories of clients of both protocols that come, go, are silent, lose answers, come late, are restarted with the other
//! protocol; and of restarts of the broker. Clients of the classic protocol give up everything before they join, or only what
//! is taken from them; their leader assigns as cooperating leaders do. Judged by the properties of sections 9 and 17.

use super::findings::{Broken, Findings};
use super::hostile_groups::is_counted;
use super::world::World;
use crate::core::*;
use crate::types::*;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const MEMBERS: usize = 4;
const PARTITIONS: u32 = 5;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "t";

/// What somebody does. Number 0 is a static member. A client does what one of its protocol does next, and may not hear the
/// answer; a request that it sent earlier comes once more, late; it revokes and takes over what it was told (consumer
/// protocol); it commits, perhaps in an epoch before its own; it leaves; its process is replaced by one that knows nothing, or
/// it leaves and comes back with the other protocol.
#[derive(Clone, Debug)]
enum Step {
    Act { who: usize, lost: bool },
    Late { who: usize, back: usize },
    Reconcile { who: usize },
    Commit { who: usize, late: bool },
    Leave { who: usize },
    Forget { who: usize },
    Switch { who: usize },
    Pass { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS;
    let rarely = || prop_oneof![6 => Just(false), 1 => Just(true)];
    prop_oneof![
        20 => (who.clone(), rarely()).prop_map(|(who, lost)| Step::Act { who, lost }),
        6 => who.clone().prop_map(|who| Step::Reconcile { who }),
        2 => (who.clone(), 0..6usize).prop_map(|(who, back)| Step::Late { who, back }),
        4 => (who.clone(), rarely()).prop_map(|(who, late)| Step::Commit { who, late }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        1 => who.clone().prop_map(|who| Step::Forget { who }),
        2 => who.prop_map(|who| Step::Switch { who }),
        3 => (1u64..12).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaking {
    Consumer,
    /// Gives up everything before it joins.
    Eager,
    /// Gives up what is taken from it.
    Cooperative,
}

/// How far a client of the classic protocol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Out,
    /// Its request waits; it has this number.
    Waits(RequestId),
    Joined,
    Synced,
}

/// A client, as it knows itself.
#[derive(Clone, Debug)]
struct Client {
    speaking: Speaking,
    id: Option<MemberId>,
    epoch: i32,
    owned: BTreeSet<PartitionId>,
    told: BTreeSet<PartitionId>,
    /// Whether it must say everything anew (consumer protocol).
    full: bool,
    stage: Stage,
    /// Whom it is to assign to, and what each owns.
    leads: Vec<(MemberId, BTreeSet<PartitionId>)>,
    sent: Vec<Command>,
}

impl Client {
    fn new(speaking: Speaking) -> Client {
        Client {
            speaking,
            id: None,
            epoch: 0,
            owned: BTreeSet::new(),
            told: BTreeSet::new(),
            full: false,
            stage: Stage::Out,
            leads: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// It has been told that it is no member any more.
    fn fenced(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        *self = Client { sent, ..Client::new(self.speaking) };
    }
}

struct Group {
    world: World,
    clients: Vec<Client>,
    requests: u64,
    findings: Findings,
    judged: usize,
    /// The newest generation or epoch.
    epoch: i32,
    upgrades: usize,
    downgrades: usize,
}

fn group() -> GroupId {
    GroupId::new("g")
}

fn instance(who: usize) -> Option<InstanceId> {
    (who == 0).then(|| InstanceId::new("static"))
}

impl Group {
    fn new() -> Group {
        let speaking = [Speaking::Eager, Speaking::Cooperative, Speaking::Consumer, Speaking::Cooperative];
        let world = World::new(PARTITIONS);
        Group {
            judged: world.log.len(),
            world,
            clients: speaking.into_iter().map(Client::new).collect(),
            requests: 0,
            findings: Findings::default(),
            epoch: 0,
            upgrades: 0,
            downgrades: 0,
        }
    }

    fn of_consumers(&self) -> bool {
        self.world.rows.get::<ConsumerGroupRow>(&group()).is_some()
    }

    fn consumer_row(&self, member: &MemberId) -> Option<&ConsumerRow> {
        self.world.rows.get::<ConsumerRow>(&MemberKey { group: group(), member: member.clone() })
    }

    fn named(partitions: &BTreeSet<PartitionId>) -> Vec<NamedPartitions> {
        vec![(TOPIC.to_owned(), partitions.iter().map(|partition| partition.index).collect())]
    }

    /// What members tell their leader: the partitions that they own, one byte each.
    fn written(partitions: &BTreeSet<PartitionId>) -> Bytes {
        partitions
            .iter()
            .map(|partition| u8::try_from(partition.index.0).unwrap())
            .collect::<Vec<u8>>()
            .into()
    }

    fn read(&self, bytes: &Bytes) -> BTreeSet<PartitionId> {
        bytes.iter().map(|index| self.world.partition(i32::from(*index))).collect()
    }

    fn fresh(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn act(&mut self, who: usize, lost: bool) {
        let client = &self.clients[who];
        match (client.speaking, client.stage) {
            (Speaking::Consumer, _) => self.beat(who, lost),
            (_, Stage::Waits(_)) => {}
            (_, Stage::Out) => self.join(who, lost),
            (_, Stage::Joined) => self.sync(who, lost),
            (_, Stage::Synced) => self.classic_beat(who, lost),
        }
    }

    // The consumer protocol.

    fn beat_of(&mut self, who: usize, epoch: GroupEpoch) -> ConsumerHeartbeat {
        let number = self.fresh().0;
        let client = &mut self.clients[who];
        let member = client.id.get_or_insert_with(|| MemberId::new(&format!("consumer {number}"))).clone();
        let full = client.epoch == 0 || client.full;
        ConsumerHeartbeat {
            group: group(),
            member,
            epoch,
            instance: instance(who),
            rack: None,
            rebalance_timeout: full.then_some(REBALANCE),
            topics: Some(BTreeSet::from([TOPIC.to_owned()])),
            pattern: None,
            assignor: None,
            owned: Some(client.owned.clone()),
            client_id: format!("client {who}"),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            decision_bytes_max: 32 << 20,
            resolved: None,
            read: None,
        }
    }

    fn ask_beat(
        &mut self,
        mut beat: ConsumerHeartbeat,
    ) -> Result<(GroupEpoch, Option<BTreeSet<PartitionId>>), Refusal> {
        loop {
            let logged = self.world.log.len();
            let Reply::Consumer(told) = self.world.ask(Command::ConsumerHeartbeat(Box::new(beat.clone())))
            else {
                panic!("not what a heartbeat is answered")
            };
            match told {
                Ok(ConsumerTold::Epoch { epoch, assigned }) => return Ok((epoch, assigned)),
                Ok(ConsumerTold::Read { generation, members }) => {
                    let read = |unread: UnreadMember| {
                        let member = ReadMember {
                            topics: BTreeSet::from([TOPIC.to_owned()]),
                            assigned: Group::named(&self.read(&unread.assignment)),
                            owned: Group::named(&self.read(&unread.metadata)),
                        };
                        (unread.member, Some(member))
                    };
                    beat.read =
                        Some(ReadMembers { generation, members: members.into_iter().map(read).collect() });
                }
                Ok(ConsumerTold::Resolve { .. }) => panic!("nobody has patterns"),
                Err(refusal) => {
                    let nothing = self.world.log.len() == logged;
                    self.findings.holds(nothing, "FenceMember", "who is refused has changed nothing");
                    return Err(refusal);
                }
            }
        }
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let beat = self.beat_of(who, GroupEpoch(self.clients[who].epoch));
        self.clients[who].sent.push(Command::ConsumerHeartbeat(Box::new(beat.clone())));
        let answer = self.ask_beat(beat);
        let client = &mut self.clients[who];
        match answer {
            _ if lost => client.full = true,
            Ok((epoch, assigned)) => {
                client.epoch = epoch.0;
                client.full = false;
                client.told = assigned.unwrap_or_else(|| client.told.clone());
            }
            Err(Refusal::UnreleasedInstance | Refusal::GroupRebalances) => {}
            Err(_) => client.fenced(),
        }
    }

    // The classic protocol.

    fn claim(&self, who: usize, late: bool) -> GroupMember {
        let client = &self.clients[who];
        GroupMember {
            group: group(),
            generation: Generation(client.epoch - i32::from(late)),
            member: client.id.clone().unwrap_or_else(|| MemberId::new("nobody")),
            instance: instance(who),
        }
    }

    fn join(&mut self, who: usize, lost: bool) {
        let request = self.fresh();
        let client = &mut self.clients[who];
        if client.speaking == Speaking::Eager {
            client.owned.clear();
        }
        let protocol = MemberProtocol { name: "p".to_owned(), metadata: Group::written(&client.owned) };
        let join = JoinGroup {
            request,
            group: group(),
            member: client.id.clone().unwrap_or_else(|| MemberId::new("")),
            fresh: MemberId::new(&format!("classic {}", request.0)),
            joiner: Member {
                instance: instance(who),
                client_id: format!("client {who}"),
                client_host: "/127.0.0.1".to_owned(),
                session_timeout: SESSION,
                rebalance_timeout: REBALANCE,
                protocols: vec![protocol],
                assignment: Bytes::new(),
            },
            protocol_type: "consumer".to_owned(),
            requires_known_member: who != 0,
            can_skip_assignment: true,
            initial_delay: Duration::from_secs(1),
            decision_bytes_max: 32 << 20,
            consumes: Some(ConsumerMetadata {
                topics: BTreeSet::from([TOPIC.to_owned()]),
                owned: Group::named(&client.owned),
            }),
        };
        self.ask_waiting(who, request, Command::JoinGroup(Box::new(join)), lost);
    }

    fn sync(&mut self, who: usize, lost: bool) {
        let request = self.fresh();
        let assignments = self.assignments(who);
        let member = self.claim(who, false);
        let sync = SyncGroup { request, member, protocol_type: None, protocol: None, assignments };
        self.ask_waiting(who, request, Command::SyncGroup(sync), lost);
    }

    /// In turn; nobody gets what another one still owns.
    fn assignments(&self, who: usize) -> Vec<(MemberId, Bytes)> {
        let leads = &self.clients[who].leads;
        let share = |place: usize, id: &MemberId| {
            let all = (0..i32::try_from(PARTITIONS).unwrap()).skip(place).step_by(leads.len());
            let all = all.map(|index| self.world.partition(index));
            let others = |partition: &PartitionId| {
                leads.iter().any(|(other, owned)| other != id && owned.contains(partition))
            };
            Group::written(&all.filter(|partition| !others(partition)).collect())
        };
        leads.iter().enumerate().map(|(place, (id, _))| (id.clone(), share(place, id))).collect()
    }

    fn ask_waiting(&mut self, who: usize, request: RequestId, command: Command, lost: bool) {
        self.clients[who].sent.push(command.clone());
        // Who does not hear the answer does not wait for it either.
        self.clients[who].stage = if lost { Stage::Out } else { Stage::Waits(request) };
        let reply = self.world.ask_waiting(command);
        self.world.answered.extend(reply.map(|reply| (request, reply)));
        self.hear();
    }

    fn hear(&mut self) {
        for (request, reply) in std::mem::take(&mut self.world.answered) {
            let waits = |client: &Client| client.stage == Stage::Waits(request);
            let Some(who) = self.clients.iter().position(waits) else { continue };
            match reply {
                Reply::Joined(Ok(joined)) => self.joined(who, joined),
                Reply::Synced(Ok(synced)) => self.synced(who, &synced.assignment),
                Reply::Joined(Err(Refusal::MemberIdRequired)) => {
                    self.clients[who].id = Some(MemberId::new(&format!("classic {}", request.0)));
                    self.clients[who].stage = Stage::Out;
                }
                Reply::Joined(Err(refusal)) | Reply::Synced(Err(refusal)) => self.refused(who, refusal),
                other => panic!("{other:?}"),
            }
        }
    }

    fn joined(&mut self, who: usize, joined: Joined) {
        let leads = joined.members.iter().map(|member| (member.member.clone(), self.read(&member.metadata)));
        let leads = leads.collect();
        let client = &mut self.clients[who];
        client.id = Some(joined.member);
        client.epoch = joined.generation.0;
        client.leads = leads;
        client.stage = Stage::Joined;
    }

    fn synced(&mut self, who: usize, assignment: &Assignment) {
        let assigned = match assignment {
            Assignment::ByLeader(bytes) => self.read(bytes),
            Assignment::ByBroker(topics) => {
                let indexes = topics.iter().flat_map(|(_, indexes)| indexes);
                indexes.map(|index| self.world.partition(index.0)).collect()
            }
        };
        let client = &mut self.clients[who];
        let gives_up = !client.owned.is_subset(&assigned);
        client.owned = assigned;
        // Whoever has given something up joins again, so that somebody else gets it.
        client.stage = if gives_up { Stage::Out } else { Stage::Synced };
    }

    fn refused(&mut self, who: usize, refusal: Refusal) {
        let client = &mut self.clients[who];
        client.stage = Stage::Out;
        match refusal {
            Refusal::UnknownMember | Refusal::FencedInstance => client.fenced(),
            // What it has is lost, but it is a member.
            Refusal::IllegalGeneration => client.owned.clear(),
            _ => {}
        }
    }

    fn classic_beat(&mut self, who: usize, lost: bool) {
        let command = Command::Heartbeat(self.claim(who, false));
        self.clients[who].sent.push(command.clone());
        let Reply::Done(done) = self.world.ask(command) else { panic!() };
        self.hear();
        if let (Err(refusal), false) = (done, lost) {
            self.refused(who, refusal);
        }
    }

    // Both.

    fn late(&mut self, who: usize, back: usize) {
        let sent = &self.clients[who].sent;
        let late = sent.len().checked_sub(1 + back).and_then(|at| sent.get(at)).cloned();
        // It is another request to the broker, which draws another id for it; nobody waits for its answer.
        let request = self.fresh();
        let late = match late {
            None => return,
            Some(Command::ConsumerHeartbeat(beat)) => return drop(self.ask_beat(*beat)),
            Some(Command::JoinGroup(join)) => {
                let fresh = MemberId::new(&format!("late {}", request.0));
                Command::JoinGroup(Box::new(JoinGroup { request, fresh, ..*join }))
            }
            Some(Command::SyncGroup(sync)) => Command::SyncGroup(SyncGroup { request, ..sync }),
            Some(late) => late,
        };
        self.world.ask_waiting(late);
        self.hear();
    }

    fn commit(&mut self, who: usize, late: bool) {
        let claim = self.claim(who, late);
        let claim = GroupMember { generation: claim.generation.max(Generation(0)), ..claim };
        let offsets = vec![OffsetToCommit {
            partition: self.world.partition(0),
            offset: Offset(1),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }];
        let command = Command::CommitOffsets { member: claim.clone(), offsets };
        let Reply::Each(answers) = self.world.ask(command) else { panic!() };
        if answers == [Ok(())] {
            let own = self.epoch_of(&claim.member) == Some(claim.generation.0);
            self.findings.holds(own, "FenceMember", "who commits is a member in its own epoch");
        }
    }

    /// The epoch or the generation that a member is in.
    fn epoch_of(&self, member: &MemberId) -> Option<i32> {
        if let Some(row) = self.consumer_row(member) {
            return Some(row.held.epoch.0);
        }
        let members = self.world.rows.get::<MembersRow>(&group())?;
        members
            .members
            .contains_key(member)
            .then(|| self.world.rows.get::<GroupRow>(&group()).unwrap().generation.0)
    }

    /// A clean end: dynamic members leave, static ones say that they will be back if they can.
    fn end(&mut self, who: usize) {
        let Some(id) = self.clients[who].id.clone() else { return };
        if self.clients[who].speaking == Speaking::Consumer {
            let epoch = if who == 0 { GroupEpoch::AWAY } else { GroupEpoch::LEAVE };
            let beat = ConsumerHeartbeat { topics: None, owned: None, ..self.beat_of(who, epoch) };
            let _ = self.ask_beat(beat);
        } else if who != 0 {
            let leaving = LeavingMember { member: id, instance: None };
            self.world.ask(Command::LeaveGroup { group: group(), members: vec![leaving] });
            self.hear();
        }
    }

    fn switch(&mut self, who: usize) {
        self.end(who);
        self.clients[who] = Client::new(match self.clients[who].speaking {
            Speaking::Consumer if who == 0 => Speaking::Eager,
            Speaking::Consumer => Speaking::Cooperative,
            _ => Speaking::Consumer,
        });
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(Duration::from_secs(1));
            self.world.fire_timers();
            self.hear();
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        for client in self.clients.iter_mut().filter(|client| matches!(client.stage, Stage::Waits(_))) {
            client.stage = Stage::Out;
        }
        let live = self.world.rows.get::<MembersRow>(&group()).is_some()
            || self.world.rows.get::<ConsumersRow>(&group()).is_some();
        if live {
            self.world.ask(Command::Expire { timer: Timer::Group(group()) });
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Act { who, lost } => self.act(who, lost),
            Step::Late { who, back } => self.late(who, back),
            Step::Reconcile { who } => {
                let client = &mut self.clients[who];
                if client.speaking == Speaking::Consumer {
                    client.owned.clone_from(&client.told);
                }
            }
            Step::Commit { who, late } => self.commit(who, late),
            Step::Leave { who } => {
                self.end(who);
                self.clients[who] = Client::new(self.clients[who].speaking);
            }
            Step::Forget { who } => self.clients[who] = Client::new(self.clients[who].speaking),
            Step::Switch { who } => self.switch(who),
            Step::Pass { seconds } => self.pass(seconds),
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn check(&mut self) {
        let log = std::mem::take(&mut self.world.log);
        log[self.judged..].iter().for_each(|(_, event)| self.event(event));
        self.judged = log.len();
        self.world.log = log;
        let same = self.world.replayed().durable() == self.world.rows.durable();
        self.findings.holds(same, "DurableBeforeVisible", "the rows are the fold of the log");
        self.check_owners();
        let rows = &self.world.rows;
        let sessions = rows.0.keys().filter(|key| matches!(key, RowKey::Deadline(Timer::Member(_)))).count();
        let counted = is_counted(rows);
        self.findings.holds(counted, "Bounded", "sessions, and what waits in rebalances, are counted");
        if let Some(row) = rows.get::<ConsumersRow>(&group()) {
            let pending = rows.get::<RebalanceRow>(&group()).map_or(0, |row| row.pending.len());
            let all = row.members.len() + pending == sessions;
            self.findings.holds(
                all,
                "Bounded",
                "each member and each pending one has a session, and nobody else",
            );
            let classic = self.consumers().iter().all(|(_, row)| row.said.is_classic());
            self.findings.holds(
                !classic,
                "GroupStabilises",
                "a group of classic members alone is a classic one",
            );
        }
    }

    fn consumers(&self) -> BTreeMap<MemberId, ConsumerRow> {
        let of = |(key, row): (&RowKey, &RowValue)| match (key, row) {
            (RowKey::Consumer(key), RowValue::Consumer(row)) => Some((key.member.clone(), row.clone())),
            _ => None,
        };
        self.world.rows.0.iter().filter_map(of).collect()
    }

    fn event(&mut self, event: &Event) {
        let epoch = match event {
            Event::ConsumerSubscribed { epoch, .. }
            | Event::TargetAssigned { epoch, .. }
            | Event::ConsumersLeft { epoch, .. }
            | Event::GroupUpgraded { epoch, .. } => epoch.0,
            Event::GenerationFormed { generation, .. } => {
                let grows = generation.0 > self.epoch;
                self.findings.holds(grows, "GenerationMonotone", "no generation is formed twice");
                generation.0
            }
            Event::GroupDowngraded { generation, .. } => generation.0,
            _ => self.epoch,
        };
        self.findings.holds(
            epoch >= self.epoch,
            "GroupEpochMonotone",
            "epochs and generations never go back",
        );
        self.epoch = epoch;
        match event {
            Event::GroupUpgraded { members, .. } if !members.is_empty() => self.upgrades += 1,
            Event::GroupDowngraded { members, .. } if !members.is_empty() => self.downgrades += 1,
            _ => {}
        }
    }

    fn check_owners(&mut self) {
        let consumers = self.consumers();
        let mut held = BTreeSet::new();
        let all = consumers.values().flat_map(|row| row.held.assigned.iter().chain(&row.held.revoking));
        let one = all.into_iter().all(|partition| held.insert(*partition));
        self.findings.holds(one, "OneOwner", "no partition is held by two members");
        let mut used = BTreeSet::new();
        for client in &self.clients {
            let Some(id) = &client.id else { continue };
            // Whoever is not in its epoch is fenced.
            if self.epoch_of(id) != Some(client.epoch) {
                continue;
            }
            let alone = client.owned.iter().all(|partition| used.insert(*partition));
            self.findings.holds(alone, "OneOwner", "no two members that are not fenced use one partition");
            let holds = |row: &ConsumerRow| client.owned.iter().all(|partition| row.held.holds(partition));
            let holds = consumers.get(id).is_none_or(holds);
            self.findings.holds(holds, "OneOwner", "what a member that is not fenced uses, it holds");
        }
    }

    /// Every client does what a client does, until all are members of one stable group.
    fn settle(&mut self) {
        for _ in 0..200 {
            for who in 0..MEMBERS {
                self.act(who, false);
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
        let rows = &self.world.rows;
        let clients: BTreeSet<MemberId> =
            self.clients.iter().filter_map(|client| client.id.clone()).collect();
        let (stable, members): (bool, BTreeSet<MemberId>) = match self.of_consumers() {
            true => {
                let (row, members) = (rows.get::<ConsumerGroupRow>(&group()).unwrap(), self.consumers());
                let status = consumer_group_status(row, members.values());
                (status == ConsumerGroupStatus::Stable, members.into_keys().collect())
            }
            false => {
                let state = rows.get::<GroupRow>(&group()).map(|row| row.state);
                let rebalances = rows.get::<RebalanceRow>(&group()).is_some_and(|row| row.joining.is_some());
                let members =
                    rows.get::<MembersRow>(&group()).map(|row| row.members.keys().cloned().collect());
                (state == Some(GroupState::Stable) && !rebalances, members.unwrap_or_default())
            }
        };
        let heard = self.clients.iter().all(|client| {
            let there = client.speaking == Speaking::Consumer || client.stage == Stage::Synced;
            there && client.id.as_ref().is_some_and(|id| self.epoch_of(id) == Some(client.epoch))
        });
        let read: Vec<PartitionId> =
            self.clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
        let distinct: BTreeSet<PartitionId> = read.iter().copied().collect();
        let all_read = read.len() == PARTITIONS as usize && distinct.len() == read.len();
        stable && members == clients && clients.len() == MEMBERS && heard && all_read
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..100)
}

/// A history that `runner` draws: how many steps it took, and what did not hold then.
pub(crate) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    let steps = steps().new_tree(runner).unwrap().current();
    let (group, taken) = judge(&steps);
    (taken, group.findings.verdict())
}

fn judge(steps: &[Step]) -> (Group, usize) {
    let mut group = Group::new();
    for (number, step) in steps.iter().enumerate() {
        group.take(step);
        if group.findings.verdict().is_err() {
            return (group, number + 1);
        }
    }
    group.settle();
    (group, steps.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_hold_in_every_history_of_members_of_both_protocols(steps in steps()) {
        let (group, _) = judge(&steps);
        let verdict = group.findings.verdict();
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}

/// A group of classic members that are stable.
fn settled() -> Group {
    let mut group = Group::new();
    group.clients[2] = Client::new(Speaking::Eager);
    group.settle();
    assert_eq!((group.findings.verdict(), group.of_consumers()), (Ok(()), false));
    group
}

#[test]
fn a_rolling_restart_takes_a_group_over_and_back_and_nobody_is_left_out() {
    let mut group = settled();
    for who in 0..MEMBERS {
        group.switch(who);
        group.settle();
        assert_eq!((group.findings.verdict(), group.of_consumers()), (Ok(()), true), "{who}");
    }
    assert!(group.consumers().values().all(|row| !row.said.is_classic()));
    for who in 0..MEMBERS {
        group.switch(who);
        group.settle();
        assert_eq!((group.findings.verdict(), group.of_consumers()), (Ok(()), who != MEMBERS - 1), "{who}");
    }
    assert_eq!((group.upgrades, group.downgrades), (1, 1));
}

#[test]
fn who_has_what_stays_as_it_is_when_the_group_is_taken_over() {
    let mut group = settled();
    let before: Vec<_> = group.clients.iter().map(|client| client.owned.clone()).collect();
    let generation = group.epoch;
    group.switch(3);
    // The member that has left makes the others form another generation; a newcomer waits for that.
    group.take(&Step::Act { who: 3, lost: false });
    assert!(!group.of_consumers() && group.clients[3].epoch == 0);
    for _ in 0..20 {
        (0..3).for_each(|who| group.take(&Step::Act { who, lost: false }));
    }
    let classic: Vec<_> = (0..3).map(|who| group.clients[who].owned.clone()).collect();
    assert!(group.epoch > generation && classic != before[..3]);
    group.take(&Step::Act { who: 3, lost: false });
    assert!(group.of_consumers());
    for (who, owned) in classic.iter().enumerate() {
        let row = group.consumer_row(group.clients[who].id.as_ref().unwrap()).unwrap();
        assert_eq!((&row.held.assigned, row.held.epoch.0), (owned, group.clients[who].epoch));
    }
    group.check();
    assert_eq!(group.findings.verdict(), Ok(()));
}

#[test]
fn a_classic_member_that_is_asked_to_join_and_does_not_is_gone() {
    let mut group = settled();
    group.switch(3);
    group.settle();
    group.switch(2);
    for _ in 0..REBALANCE.as_secs() + 5 {
        // Number 1 beats, and never joins.
        group.take(&Step::Act { who: 3, lost: false });
        group.take(&Step::Reconcile { who: 3 });
        group.take(&Step::Act { who: 2, lost: false });
        group.take(&Step::Reconcile { who: 2 });
        let claim = group.claim(1, false);
        group.world.ask(Command::Heartbeat(claim));
        group.pass(1);
    }
    let gone = group.clients[1].id.clone().unwrap();
    assert!(group.consumer_row(&gone).is_none());
    group.settle();
    assert_eq!(group.findings.verdict(), Ok(()));
}

#[test]
fn a_group_whose_members_are_no_consumers_does_not_change_its_protocol() {
    let mut group = settled();
    let beat = group.beat_of(3, GroupEpoch::JOIN);
    let unread = |group: &mut Group| {
        let reply = group.world.ask(Command::ConsumerHeartbeat(Box::new(ConsumerHeartbeat {
            member: MemberId::new("newcomer"),
            ..beat.clone()
        })));
        let Reply::Consumer(Ok(ConsumerTold::Read { generation, members })) = reply else {
            panic!("{reply:?}")
        };
        ReadMembers { generation, members: members.into_iter().map(|one| (one.member, None)).collect() }
    };
    let read = Some(unread(&mut group));
    let newcomer = ConsumerHeartbeat { member: MemberId::new("newcomer"), read, ..beat.clone() };
    assert_eq!(group.ask_beat(newcomer.clone()), Err(Refusal::GroupNotFound));
    // What was read of another generation does not count.
    let old = newcomer.read.map(|read| ReadMembers { generation: Generation(0), ..read });
    let again =
        group.world.ask(Command::ConsumerHeartbeat(Box::new(ConsumerHeartbeat { read: old, ..beat })));
    assert!(matches!(again, Reply::Consumer(Ok(ConsumerTold::Read { .. }))), "{again:?}");
    group.check();
    assert_eq!((group.findings.verdict(), group.of_consumers()), (Ok(()), false));
}
