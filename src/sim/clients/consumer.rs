//! A member of a group of the consumer protocol that misbehaves: it subscribes by names or by a pattern, with an instance id or
//! without, is slow to let go, says everything again when an answer is lost, is silent until its session has ended, goes on in
//! an epoch of long ago, and commits in it; and it leaves, is away, or is gone without a word.

use super::{commit_of, partition_name};
use crate::history::{Answer, Operation, Returned};
use crate::sim::faults::Busy;
use crate::sim::peer::{Lost, Peer};
use crate::sim::world::TOPIC;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// Their group, which has no part in transactions.
pub(super) const GROUP: &str = "consumers";
/// How long a member may be silent: less than some are.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// How long it may take to revoke: more than most take.
const REBALANCE_MS: i32 = 8_000;
/// Instance ids: few, so that they are wanted by several.
const INSTANCES: [&str; 2] = ["static-1", "static-2"];

/// What a heartbeat says in place of an epoch.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
const AWAY: i32 = -2;

type Partitions = BTreeSet<(TopicId, i32)>;

/// It is not a member any more.
struct Fenced;

struct Member {
    peer: Peer,
    process: String,
    id: String,
    instance: Option<String>,
    /// By names, or else by a pattern.
    names: Option<Vec<String>>,
    pattern: Option<String>,
    epoch: i32,
    /// The one before, as far as it knows, also when it was a member before,
    former: i32,
    /// and one before that, once it had one.
    older: i32,
    /// What it was told last is its own, and what it uses.
    assigned: Partitions,
    owned: Partitions,
    /// It may not have been heard, or not have heard.
    says_all: bool,
}

pub(super) async fn run(mut peer: Peer) {
    let instance = peer.chance.once_in(3).then(|| (*peer.chance.of_these(&INSTANCES)).to_owned());
    while peer.world.goes_on() {
        let process = peer.world.recorder.name(&peer.name);
        let mut member = Member::new(peer, process, instance.clone());
        member.live().await;
        member.peer.world.recorder.gone(&member.process);
        peer = member.peer;
    }
}

impl Member {
    fn new(mut peer: Peer, process: String, instance: Option<String>) -> Member {
        let id = peer.world.recorder.name("member");
        let (names, pattern) = match peer.chance.below(4) {
            0 => (None, Some(format!("{TOPIC}|scratch.*"))),
            1 => (None, Some(TOPIC.to_owned())),
            2 => (Some(vec![TOPIC.to_owned(), "scratch".to_owned()]), None),
            _ => (Some(vec![TOPIC.to_owned()]), None),
        };
        let (assigned, owned) = (Partitions::new(), Partitions::new());
        Member {
            peer,
            process,
            id,
            instance,
            names,
            pattern,
            epoch: JOIN,
            former: JOIN,
            older: JOIN,
            assigned,
            owned,
            says_all: true,
        }
    }

    /// From its first join on, until it goes for good.
    async fn live(&mut self) {
        for _ in 0..self.peer.chance.between(1, 4) {
            if !self.join().await {
                return;
            }
            let stays = self.go_on().await.is_ok();
            if !stays {
                // It was told, and does not care for a while.
                for _ in 0..self.peer.chance.below(3) {
                    self.haunt().await;
                }
            } else if self.go().await {
                return;
            }
        }
    }

    /// Joins; whether it is a member then.
    async fn join(&mut self) -> bool {
        (self.epoch, self.says_all) = (JOIN, true);
        self.assigned.clear();
        self.owned.clear();
        while self.peer.world.goes_on() {
            if self.beat(JOIN, true).await.is_ok() && self.epoch > JOIN {
                return true;
            }
            self.peer.pause(2_000).await;
        }
        false
    }

    /// Is a member, until it wants to be none, or hears that it is none.
    async fn go_on(&mut self) -> Result<(), Fenced> {
        for _ in 0..self.peer.chance.between(1, 25) {
            if !self.peer.world.goes_on() {
                break;
            }
            if self.peer.chance.once_in(2) {
                self.commit(self.epoch).await;
            }
            if self.peer.chance.once_in(12) {
                self.commit(self.former).await;
            }
            // As if what it said long ago came only now. Without what it owns it cannot be the repetition of its last.
            if self.older > JOIN && self.peer.chance.once_in(6) {
                let _ = self.beat(self.older, false).await;
            }
            // Mostly it does at once as it was told; now and then it goes on with what is not its own any more.
            if !self.peer.chance.once_in(4) {
                self.owned = self.assigned.clone();
            }
            match self.peer.chance.below(30) {
                0 => self.peer.pause(30_000).await,
                1 => self.peer.leave(),
                _ => self.peer.pause(3_000).await,
            }
            let full = self.says_all || self.owned != self.assigned || self.peer.chance.once_in(4);
            self.beat(self.epoch, full).await?;
        }
        Ok(())
    }

    /// It wants to be a member no more; whether for good.
    async fn go(&mut self) -> bool {
        match self.peer.chance.below(4) {
            0 => {
                let _ = self.beat(LEAVE, false).await;
                self.haunt().await;
                false
            }
            1 if self.instance.is_some() => {
                let _ = self.beat(AWAY, false).await;
                if self.peer.chance.once_in(2) {
                    self.haunt().await;
                }
                true
            }
            // Without a word, and it comes back as somebody else; or it says that it begins anew.
            2 => {
                self.peer.leave();
                true
            }
            _ => false,
        }
    }

    /// Goes on as if nobody had told it anything.
    async fn haunt(&mut self) {
        let epoch = if self.peer.chance.once_in(3) { self.former } else { self.epoch };
        if epoch <= JOIN {
            return;
        }
        match self.peer.chance.once_in(2) {
            true => self.commit(epoch).await,
            false => {
                let full = self.peer.chance.once_in(2);
                let _ = self.beat(epoch, full).await;
            }
        }
        self.peer.pause(1_000).await;
    }

    /// A heartbeat, which says everything or only that the member is there.
    async fn beat(&mut self, epoch: i32, full: bool) -> Result<(), Fenced> {
        let _busy = self.peer.world.faults.during(Busy::Heartbeating);
        let says_owned = full && epoch >= JOIN;
        let owned = if epoch == JOIN { Partitions::new() } else { self.owned.clone() };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: if full { REBALANCE_MS } else { -1 },
            subscribed_topic_names: self.names.clone().filter(|_| full),
            subscribed_topic_regex: self.pattern.clone().filter(|_| full),
            topic_partitions: says_owned.then(|| by_topic(&owned)),
            ..Default::default()
        };
        let operation = Operation::Heartbeat {
            group: GROUP.to_owned(),
            member: self.id.clone(),
            epoch,
            instance: self.instance.clone(),
            owned: says_owned.then(|| self.named(&owned)),
        };
        let recorder = self.peer.world.recorder.clone();
        let call = recorder.call(&self.process, operation);
        self.says_all = true;
        let response = match self.peer.call(1, &request).await {
            Ok(response) => response,
            Err(Lost) => {
                recorder.returned(call, Returned::Unknown);
                return Ok(());
            }
        };
        match response.error_code {
            ErrorCode::None => {
                self.says_all = false;
                let answer = self.hears(epoch, response);
                recorder.returned(call, Returned::Ok(answer));
                Ok(())
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch | ErrorCode::FencedInstanceId => {
                recorder.note(|| format!("{:?}: {:?}", self.id, response.error_code));
                recorder.returned(call, Returned::Ok(Answer { fenced: true, ..Answer::default() }));
                Err(Fenced)
            }
            code => {
                recorder.note(|| format!("{:?}: {code:?}", self.id));
                recorder.returned(call, Returned::Failed);
                Ok(())
            }
        }
    }

    /// Takes in what it was told.
    fn hears(&mut self, sent: i32, response: ConsumerGroupHeartbeatResponse) -> Answer {
        let epoch = response.member_epoch;
        if sent >= JOIN {
            if epoch != self.epoch {
                if self.former > JOIN {
                    self.older = self.former;
                }
                self.former = self.epoch;
            }
            self.epoch = epoch;
        }
        let assigned = response.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            topics
                .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic_id, index)))
                .collect::<Partitions>()
        });
        let told = assigned.as_ref().map(|assigned| self.named(assigned));
        if let Some(assigned) = assigned {
            self.assigned = assigned;
        }
        Answer { member_epoch: Some(epoch), assigned: told, ..Answer::default() }
    }

    /// Commits an offset of something that it has, or once had.
    async fn commit(&mut self, epoch: i32) {
        if epoch <= JOIN {
            return;
        }
        let _busy = self.peer.world.faults.during(Busy::CommittingInEpoch);
        let partitions = u64::try_from(self.peer.world.plan.partitions).unwrap();
        let index = i32::try_from(self.peer.chance.below(partitions)).unwrap();
        let recorder = self.peer.world.recorder.clone();
        let offset = i64::try_from(recorder.number()).unwrap();
        let request = OffsetCommitRequest {
            generation_id_or_member_epoch: epoch,
            member_id: self.id.clone(),
            ..commit_of(GROUP, index, offset)
        };
        let operation = Operation::CommitOffsets {
            group: GROUP.to_owned(),
            member: Some(self.id.clone()),
            member_epoch: Some(epoch),
            offsets: [(partition_name(index), offset)].into(),
        };
        let call = recorder.call(&self.process, operation);
        let returned = match self.peer.call(9, &request).await {
            Ok(mut response) => match response.topics.remove(0).partitions.remove(0).error_code {
                ErrorCode::None => Returned::Ok(Answer::default()),
                code => {
                    recorder.note(|| format!("{:?} in {epoch}: {code:?}", self.id));
                    Returned::Failed
                }
            },
            Err(Lost) => Returned::Unknown,
        };
        recorder.returned(call, returned);
    }

    /// Partitions as histories name them.
    fn named(&self, partitions: &Partitions) -> BTreeSet<String> {
        let topic = self.peer.world.topic.get();
        let name = |(id, index): &(TopicId, i32)| match topic == Some(id) {
            true => partition_name(*index),
            false => format!("{id}/{index}"),
        };
        partitions.iter().map(name).collect()
    }
}

fn by_topic(partitions: &Partitions) -> Vec<ConsumerGroupTopicPartitions> {
    let topics: BTreeSet<TopicId> = partitions.iter().map(|(topic, _)| *topic).collect();
    let of = |topic: TopicId| {
        let indexes = partitions.iter().filter(|(of, _)| *of == topic).map(|(_, index)| *index);
        ConsumerGroupTopicPartitions { topic_id: topic, partitions: indexes.collect() }
    };
    topics.into_iter().map(of).collect()
}
