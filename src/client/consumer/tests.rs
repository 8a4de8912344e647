//! Members against the state machine that the broker runs: whatever is lost, late or slow, no partition is used by two
//! applications whose members are not fenced, and nothing is given up before the application has finished with it.

use super::super::backoff::BackoffLimits;
use super::super::error::ClientError;
use super::membership::{Beat, BeatAnswer, Handover, Membership, MembershipConfig, Next, Subscription};
use crate::core::tests::world::World;
use crate::core::*;
use crate::types::*;
use crate::wire::ErrorCode;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
const PARTITIONS: u32 = 5;
const SESSION: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(3);

/// What becomes of a heartbeat.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    AnswerLost,
    NeverArrives,
}

/// What happens. Member 0 is a static one.
#[derive(Clone, Debug)]
enum Happens {
    /// A member looks whether it has something to say, and says it.
    Beat {
        who: usize,
        fate: Fate,
    },
    /// It says something that stays under way for a while.
    Say {
        who: usize,
    },
    /// That arrives.
    Arrive {
        who: usize,
        fate: Fate,
    },
    /// The application asks what it is to do, and does it, but for finishing with what is revoked,
    HandOver {
        who: usize,
    },
    /// which takes until here.
    Finish {
        who: usize,
    },
    Ask {
        who: usize,
    },
    Busy {
        who: usize,
    },
    Subscribe {
        who: usize,
        everything: bool,
    },
    /// Its process is killed and started again.
    Kill {
        who: usize,
    },
    Close {
        who: usize,
    },
    /// The coordinator restarts.
    Restart,
    Pass {
        seconds: u64,
    },
}

fn happens() -> impl Strategy<Value = Happens> {
    let who = || 0..MEMBERS;
    let fate =
        || prop_oneof![8 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::NeverArrives)];
    prop_oneof![
        12 => (who(), fate()).prop_map(|(who, fate)| Happens::Beat { who, fate }),
        2 => who().prop_map(|who| Happens::Say { who }),
        4 => (who(), fate()).prop_map(|(who, fate)| Happens::Arrive { who, fate }),
        10 => who().prop_map(|who| Happens::HandOver { who }),
        6 => who().prop_map(|who| Happens::Finish { who }),
        4 => who().prop_map(|who| Happens::Ask { who }),
        1 => who().prop_map(|who| Happens::Busy { who }),
        1 => (who(), any::<bool>()).prop_map(|(who, everything)| Happens::Subscribe { who, everything }),
        1 => who().prop_map(|who| Happens::Kill { who }),
        1 => who().prop_map(|who| Happens::Close { who }),
        1 => Just(Happens::Restart),
        4 => (1u64..8).prop_map(|seconds| Happens::Pass { seconds }),
    ]
}

struct Process {
    id: String,
    membership: Membership,
    /// What the application reads.
    uses: BTreeSet<PartitionId>,
    revoking: BTreeSet<PartitionId>,
    under_way: Option<Beat>,
    closed: bool,
}

struct Cluster {
    world: World,
    now: Instant,
    processes: Vec<Process>,
    lives: usize,
}

fn group() -> GroupId {
    GroupId::new("g")
}

fn instance(who: usize) -> Option<String> {
    (who == 0).then(|| "static".to_owned())
}

fn config(who: usize) -> MembershipConfig {
    MembershipConfig {
        instance_id: instance(who),
        poll_timeout: POLL,
        unreleased_patience: SESSION * 100,
        leave_timeout: Duration::from_secs(5),
        backoff: BackoffLimits::default(),
    }
}

fn everything() -> Subscription {
    Subscription::pattern("t.*")
}

fn by_name() -> Subscription {
    Subscription::topics([TopicName::new("t").unwrap()])
}

fn lost() -> ClientError {
    ClientError::Timeout { what: "a heartbeat".to_owned(), after: Duration::from_secs(1), last: None }
}

impl Cluster {
    fn new() -> Cluster {
        let now = Instant::now();
        let mut cluster = Cluster { world: World::new(PARTITIONS), now, processes: Vec::new(), lives: 0 };
        for who in 0..MEMBERS {
            let process = cluster.process(who);
            cluster.processes.push(process);
        }
        cluster
    }

    fn process(&mut self, who: usize) -> Process {
        self.lives += 1;
        Process {
            id: format!("member {}", self.lives),
            membership: Membership::new(config(who), by_name(), self.now, 7),
            uses: BTreeSet::new(),
            revoking: BTreeSet::new(),
            under_way: None,
            closed: false,
        }
    }

    fn row(&self, who: usize) -> Option<&ConsumerRow> {
        let member = MemberId::new(&self.processes[who].id);
        self.world.rows.get::<ConsumerRow>(&MemberKey { group: group(), member })
    }

    fn coordinate(&mut self, who: usize, beat: &Beat) -> Result<BeatAnswer, ClientError> {
        let says = beat.subscription.as_ref();
        let mut asked = ConsumerHeartbeat {
            group: group(),
            member: MemberId::new(&self.processes[who].id),
            epoch: GroupEpoch(beat.epoch),
            instance: instance(who).as_deref().map(InstanceId::new),
            rack: None,
            rebalance_timeout: says.map(|_| POLL),
            topics: says.map(|said| said.topics.iter().map(|topic| topic.as_str().to_owned()).collect()),
            pattern: says.map(|said| said.pattern.clone().unwrap_or_default()),
            assignor: None,
            owned: beat.owned.clone(),
            client_id: String::new(),
            client_host: String::new(),
            session_timeout: SESSION,
            decision_bytes_max: 1 << 20,
            resolved: None,
            read: None,
        };
        loop {
            match self.world.ask(Command::ConsumerHeartbeat(Box::new(asked.clone()))) {
                Reply::Consumer(Ok(ConsumerTold::Resolve { version, patterns })) => {
                    let topics = BTreeSet::from([self.world.topic]);
                    let topics: BTreeMap<_, _> =
                        patterns.into_iter().map(|one| (one, topics.clone())).collect();
                    asked.resolved = Some(ResolvedPatterns { version, topics });
                }
                Reply::Consumer(Ok(ConsumerTold::Epoch { epoch, assigned })) => {
                    return Ok(BeatAnswer { epoch: epoch.0, interval: INTERVAL, assigned });
                }
                Reply::Consumer(Err(refusal)) => {
                    let code = match refusal {
                        Refusal::UnknownMember => ErrorCode::UnknownMemberId,
                        Refusal::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
                        Refusal::UnreleasedInstance => ErrorCode::UnreleasedInstanceId,
                        Refusal::FencedInstance => ErrorCode::FencedInstanceId,
                        other => panic!("{other:?}"),
                    };
                    return Err(ClientError::broker("a heartbeat", code, None));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn say(&mut self, who: usize) {
        let process = &mut self.processes[who];
        if process.under_way.is_some() {
            assert!(!matches!(process.membership.next_beat(self.now), Next::Send(_)), "two at once");
            return;
        }
        let Next::Send(beat) = process.membership.next_beat(self.now) else { return };
        if let Some(owned) = &beat.owned {
            assert_eq!(*owned, process.uses, "what is said to be owned is what is used");
        }
        assert!(beat.epoch != 0 || process.uses.is_empty(), "who joins uses nothing");
        process.under_way = Some(beat);
    }

    fn arrive(&mut self, who: usize, fate: Fate) {
        let Some(beat) = self.processes[who].under_way.take() else { return };
        let answer = match fate {
            Fate::Answered => self.coordinate(who, &beat),
            Fate::AnswerLost => self.coordinate(who, &beat).and(Err(lost())),
            Fate::NeverArrives => Err(lost()),
        };
        self.processes[who].membership.answered(self.now, answer);
    }

    fn hand_over(&mut self, who: usize) -> bool {
        let process = &mut self.processes[who];
        match process.membership.hand_over(|_| true) {
            None => return false,
            Some(Handover::Assign(partitions)) => {
                assert!(process.uses.is_disjoint(&partitions), "assigned twice");
                process.uses.extend(partitions);
            }
            Some(Handover::Lose(partitions)) => {
                assert_eq!(partitions, process.uses, "what is lost is everything");
                process.uses.clear();
            }
            Some(Handover::Revoke(partitions)) => {
                assert!(partitions.is_subset(&process.uses) && !partitions.is_empty(), "revoked unused");
                process.revoking = partitions;
            }
        }
        true
    }

    fn finish(&mut self, who: usize) {
        let process = &mut self.processes[who];
        let revoked = std::mem::take(&mut process.revoking);
        if !revoked.is_empty() {
            process.uses.retain(|partition| !revoked.contains(partition));
            process.membership.revoked();
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.world.pass(Duration::from_secs(1));
            self.world.fire_timers();
        }
    }

    fn take(&mut self, happens: &Happens) {
        match *happens {
            Happens::Beat { who, fate } => {
                self.say(who);
                self.arrive(who, fate);
            }
            Happens::Say { who } => self.say(who),
            Happens::Arrive { who, fate } => self.arrive(who, fate),
            Happens::HandOver { who } => drop(self.hand_over(who)),
            Happens::Finish { who } => self.finish(who),
            Happens::Ask { who } => drop(self.processes[who].membership.asked(self.now)),
            Happens::Busy { who } => self.processes[who].membership.busy(self.now),
            Happens::Subscribe { who, everything: all } => {
                let to = if all { everything() } else { by_name() };
                self.processes[who].membership.subscribe(self.now, to);
            }
            Happens::Kill { who } => self.processes[who] = self.process(who),
            Happens::Close { who } => {
                let process = &mut self.processes[who];
                process.uses.clear();
                process.revoking.clear();
                process.membership.leave(self.now);
                process.closed = true;
            }
            Happens::Restart => {
                self.world.restart();
                self.world.ask(Command::Expire { timer: Timer::Group(group()) });
            }
            Happens::Pass { seconds } => self.pass(seconds),
        }
        self.check();
    }

    fn check(&self) {
        let mut used = BTreeSet::new();
        for who in 0..MEMBERS {
            let process = &self.processes[who];
            assert_eq!(*process.membership.owned(), process.uses, "the member knows what is used");
            // Whoever is not in its epoch, or in the one before, is fenced: nothing that it commits counts.
            let Some(row) = self.row(who) else { continue };
            let epoch = process.membership.epoch().map(GroupEpoch);
            if epoch != Some(row.held.epoch) && epoch != Some(row.held.previous) {
                continue;
            }
            for partition in &process.uses {
                assert!(row.held.holds(partition), "{partition:?} is used and not held");
                assert!(used.insert(*partition), "{partition:?} is used twice");
            }
        }
    }

    /// All do what they should, until the group is stable.
    fn settle(&mut self) {
        for who in 0..MEMBERS {
            if self.processes[who].closed {
                self.processes[who] = self.process(who);
            }
        }
        for _ in 0..120 {
            for who in 0..MEMBERS {
                self.processes[who].membership.asked(self.now);
                self.arrive(who, Fate::Answered);
                self.finish(who);
                while self.hand_over(who) {
                    self.finish(who);
                }
                self.say(who);
                self.arrive(who, Fate::Answered);
                self.check();
            }
            self.pass(1);
            let used: BTreeSet<_> = self.processes.iter().flat_map(|process| &process.uses).collect();
            let settled = self.processes.iter().all(|process| process.membership.is_settled());
            if settled && used.len() == PARTITIONS as usize {
                return;
            }
        }
        let uses: Vec<_> = self.processes.iter().map(|process| &process.membership).collect();
        panic!("no stable group: {uses:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_partition_is_used_twice_and_members_find_together(
        steps in proptest::collection::vec(happens(), 1..120)
    ) {
        let mut cluster = Cluster::new();
        steps.iter().for_each(|step| cluster.take(step));
        cluster.settle();
    }
}

fn partitions(indexes: impl IntoIterator<Item = i32>) -> BTreeSet<PartitionId> {
    let topic = TopicId(uuid::Uuid::from_u128(7));
    indexes.into_iter().map(|index| PartitionId::new(topic, PartitionIndex(index))).collect()
}

fn answer(epoch: i32, assigned: Option<BTreeSet<PartitionId>>) -> Result<BeatAnswer, ClientError> {
    Ok(BeatAnswer { epoch, interval: INTERVAL, assigned })
}

fn refusal(code: ErrorCode) -> Result<BeatAnswer, ClientError> {
    Err(ClientError::broker("a heartbeat", code, None))
}

fn sent(member: &mut Membership, now: Instant) -> Beat {
    match member.next_beat(now) {
        Next::Send(beat) => beat,
        other => panic!("{other:?}"),
    }
}

/// A member in epoch 1 that uses the partitions 0 to 2 and has said so.
fn joined(config: MembershipConfig, now: Instant) -> Membership {
    let mut member = Membership::new(config, by_name(), now, 7);
    let join = sent(&mut member, now);
    assert_eq!((join.epoch, join.subscription, join.owned), (0, Some(by_name()), Some(BTreeSet::new())));
    member.answered(now, answer(1, Some(partitions(0..3))));
    assert_eq!(member.hand_over(|_| false), None, "what has no name yet waits");
    assert_eq!(member.hand_over(|_| true), Some(Handover::Assign(partitions(0..3))));
    assert_eq!(sent(&mut member, now), Beat { epoch: 1, subscription: None, owned: Some(partitions(0..3)) });
    member.answered(now, answer(1, None));
    assert!(member.is_settled());
    member
}

/// What it had been assigned before it said that it owns nothing may be another member's by now.
#[test]
fn nothing_is_taken_over_while_what_was_said_is_not_answered() {
    let now = Instant::now();
    let mut member = Membership::new(config(1), by_name(), now, 7);
    sent(&mut member, now);
    member.answered(now, answer(1, Some(partitions(0..3))));
    member.subscribe(now, everything());
    assert_eq!(sent(&mut member, now).owned, Some(BTreeSet::new()));
    assert_eq!(member.hand_over(|_| true), None, "it is under way");
    member.answered(now, Err(lost()));
    assert_eq!(member.hand_over(|_| true), None, "it may have arrived");
    let later = now + INTERVAL;
    assert_eq!(sent(&mut member, later).owned, Some(BTreeSet::new()));
    member.answered(later, answer(2, Some(partitions(0..1))));
    assert_eq!(member.hand_over(|_| true), Some(Handover::Assign(partitions(0..1))));
}

#[test]
fn what_is_revoked_is_given_up_when_it_is_finished_with_and_before_anything_is_taken_over() {
    let now = Instant::now();
    let mut member = joined(config(1), now);
    let later = now + INTERVAL;
    assert_eq!(member.next_beat(now), Next::Wait(Some(later)));
    assert_eq!(sent(&mut member, later), Beat { epoch: 1, subscription: None, owned: None });
    member.answered(later, answer(1, Some(partitions([0, 4]))));
    assert_eq!(member.hand_over(|_| true), Some(Handover::Revoke(partitions(1..3))));
    assert_eq!(member.hand_over(|_| true), None);
    assert_eq!(
        member.next_beat(later),
        Next::Wait(Some(later + INTERVAL)),
        "nothing to say before it is done"
    );
    // Its session goes on meanwhile.
    let later = later + INTERVAL;
    assert_eq!(sent(&mut member, later), Beat { epoch: 1, subscription: None, owned: None });
    member.answered(later, answer(1, None));
    member.revoked();
    assert_eq!(sent(&mut member, later).owned, Some(partitions([0])));
    member.answered(later, answer(2, Some(partitions([0, 4]))));
    assert_eq!(member.hand_over(|_| true), Some(Handover::Assign(partitions([4]))));
    assert_eq!(member.epoch(), Some(2));
}

#[test]
fn after_an_answer_that_was_lost_everything_is_said_again() {
    let now = Instant::now();
    let mut member = joined(config(1), now);
    let later = now + INTERVAL;
    sent(&mut member, later);
    member.answered(later, Err(lost()));
    let Next::Wait(Some(again)) = member.next_beat(later) else { panic!() };
    let full = Beat { epoch: 1, subscription: Some(by_name()), owned: Some(partitions(0..3)) };
    assert_eq!(sent(&mut member, again), full);
}

#[test]
fn who_is_fenced_loses_everything_before_it_joins_again() {
    let now = Instant::now();
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut member = joined(config(1), now);
        sent(&mut member, now + INTERVAL);
        member.answered(now + INTERVAL, refusal(code));
        assert_eq!(member.epoch(), None, "it commits nothing any more");
        assert!(partitions(0..3).iter().all(|partition| !member.owns(partition)));
        assert_eq!(member.next_beat(now + INTERVAL), Next::Wait(None));
        assert_eq!(member.hand_over(|_| true), Some(Handover::Lose(partitions(0..3))));
        assert_eq!(sent(&mut member, now + INTERVAL).epoch, 0);
    }
}

#[test]
fn an_application_that_does_not_come_back_gives_its_partitions_up_until_it_does() {
    let now = Instant::now();
    for (who, leaves) in [(1, -1), (0, -2)] {
        let mut member = joined(config(who), now);
        member.asked(now);
        member.busy(now + INTERVAL);
        let late = now + INTERVAL + POLL;
        assert_eq!(sent(&mut member, late), Beat { epoch: leaves, subscription: None, owned: None });
        member.answered(late, answer(leaves, None));
        assert_eq!((member.next_beat(late), member.epoch()), (Next::Wait(None), None));
        assert!(member.asked(late));
        assert_eq!(member.hand_over(|_| true), Some(Handover::Lose(partitions(0..3))));
        assert_eq!(sent(&mut member, late).epoch, 0);
    }
}

#[test]
fn the_name_of_a_static_member_is_waited_for() {
    let now = Instant::now();
    let patience = Duration::from_secs(60);
    let limits = MembershipConfig { unreleased_patience: patience, ..config(0) };
    let mut member = Membership::new(limits, by_name(), now, 7);
    assert_eq!(sent(&mut member, now).epoch, 0);
    member.answered(now, refusal(ErrorCode::UnreleasedInstanceId));
    let Next::Wait(Some(again)) = member.next_beat(now) else { panic!() };
    sent(&mut member, again);
    member.answered(now + patience, refusal(ErrorCode::UnreleasedInstanceId));
    assert_eq!(member.next_beat(now + patience), Next::Nothing);
    assert_eq!(member.failure().and_then(ClientError::code), Some(ErrorCode::UnreleasedInstanceId));
}

#[test]
fn a_refusal_for_good_ends_the_member_and_takes_what_it_had() {
    let now = Instant::now();
    let mut member = joined(config(1), now);
    sent(&mut member, now + INTERVAL);
    member.answered(now + INTERVAL, refusal(ErrorCode::GroupAuthorizationFailed));
    assert_eq!(member.hand_over(|_| true), Some(Handover::Lose(partitions(0..3))));
    assert_eq!((member.next_beat(now + INTERVAL), member.is_over()), (Next::Nothing, true));
}

#[test]
fn who_leaves_says_so_again_until_it_is_heard_or_late() {
    let now = Instant::now();
    let mut member = joined(config(1), now);
    member.leave(now);
    assert_eq!(sent(&mut member, now).epoch, -1);
    member.answered(now, Err(lost()));
    let Next::Wait(Some(again)) = member.next_beat(now) else { panic!() };
    assert_eq!(sent(&mut member, again).epoch, -1);
    member.answered(again, answer(-1, None));
    assert!(member.is_over());

    let mut unheard = joined(config(1), now);
    unheard.leave(now);
    sent(&mut unheard, now);
    unheard.answered(now, Err(lost()));
    assert_eq!(unheard.next_beat(now + Duration::from_secs(5)), Next::Nothing);

    let mut stranger = Membership::new(config(1), by_name(), now, 7);
    stranger.leave(now);
    assert!(stranger.is_over(), "nobody knows of it");
}
