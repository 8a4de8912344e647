//! A worker: a member of a group with the Rust client (`Consumer::subscribe`), as it is, over the world's network. It takes what
//! comes, commits, goes back to what is committed, does other things for too long, and goes with or without a word. Whoever
//! takes over from it goes on where it was: the group passes over nothing.

use super::application::connect;
use super::partition_name;
use super::records::name_of;
use crate::client::{
    ConsumedRecord, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, GroupEvent, Rebalance, Start,
    Subscription,
};
use crate::history::{Answer, Isolation, Operation, Returned};
use crate::sim::faults::Busy;
use crate::sim::peer::Peer;
use crate::sim::world::TOPIC;
use crate::types::{GroupId, TopicName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Their group.
const GROUP: &str = "workers";
/// Instance ids: few, so that they are wanted by several.
const INSTANCES: [&str; 2] = ["worker-1", "worker-2"];
/// How long it waits for the next thing, before it does something of its own.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long leaving in order may take: then it goes without.
const CLOSE_MOST: Duration = Duration::from_secs(60);

pub(super) async fn run(mut peer: Peer) {
    let instance = peer.chance.once_in(3).then(|| *peer.chance.of_these(&INSTANCES));
    while peer.world.goes_on() {
        let process = peer.world.recorder.name(&peer.name);
        if let Some(client) = connect(&mut peer).await {
            let config = config(&mut peer, instance);
            let consumer = Consumer::subscribe(&client, config).expect("it subscribes to something");
            Worker { peer: &mut peer, process: &process, consumer, places: BTreeMap::new() }.work().await;
            peer.world.recorder.gone(&process);
        }
        peer.pause(500).await;
    }
}

fn config(peer: &mut Peer, instance: Option<&str>) -> GroupConfig {
    let subscription = match peer.chance.once_in(2) {
        true => Subscription::topics([TopicName::new(TOPIC).unwrap()]),
        false => Subscription::pattern(TOPIC),
    };
    let auto_commit = peer.chance.once_in(2).then(|| Duration::from_millis(peer.chance.between(500, 5_000)));
    let reading = ConsumerConfig {
        reset: Some(Start::Earliest),
        prefetch_bytes: usize::try_from(peer.chance.between(1, 64)).unwrap() << 10,
        ..ConsumerConfig::default()
    };
    GroupConfig {
        instance_id: instance.map(str::to_owned),
        reading,
        auto_commit,
        poll_timeout: Duration::from_millis(peer.chance.between(5_000, 20_000)),
        ..GroupConfig::new(GroupId::new(GROUP), subscription)
    }
}

struct Worker<'w> {
    peer: &'w mut Peer,
    process: &'w str,
    consumer: GroupConsumer,
    /// Of each partition that it has read something of, the offset behind that.
    places: BTreeMap<i32, i64>,
}

impl Worker<'_> {
    async fn work(mut self) {
        for _ in 0..self.peer.chance.between(5, 120) {
            if !self.peer.world.goes_on() {
                break;
            }
            let busy = self.peer.world.faults.during(Busy::Reading);
            let next = tokio::time::timeout(PATIENCE, self.consumer.next_event()).await;
            drop(busy);
            match next {
                Ok(Ok(GroupEvent::Record(record))) => self.take(&record),
                Ok(Ok(GroupEvent::Rebalance(rebalance))) => self.rebalance(&rebalance),
                Ok(Err(error)) => {
                    self.peer.world.recorder.note(|| format!("{}: {error}", self.process));
                    return;
                }
                Err(_) => {}
            }
            match self.peer.chance.below(120) {
                0..=20 => self.commit().await,
                21 | 22 => {
                    self.consumer.rewind();
                    self.places.clear();
                }
                // Longer than it may, now and then.
                23 => self.peer.pause(25_000).await,
                // Without a word.
                24 => return,
                _ => self.peer.pause(100).await,
            }
        }
        let closed = tokio::time::timeout(CLOSE_MOST, self.consumer.close()).await;
        self.peer.world.recorder.note(|| format!("{} has left: {closed:?}", self.process));
    }

    /// A record. All of its partition from where this worker was up to it was read; and if it is the first one, all from
    /// where the group was: offsets that are committed lie at most behind what somebody has read.
    fn take(&mut self, record: &ConsumedRecord) {
        let (index, offset) = (record.partition.partition.0, record.offset.0);
        let recorder = self.peer.world.recorder.clone();
        let mut reached = self.peer.world.reached.lock().unwrap();
        let group = reached.entry(index).or_insert(0);
        let place = self.places.insert(index, offset + 1).unwrap_or(*group).min(offset);
        // Where the beginning of a partition moves it may have moved past both.
        let from = if self.peer.world.plan.keeps.moves_start() { offset } else { place };
        *group = (*group).max(offset + 1);
        let isolation = Isolation::ReadCommitted;
        let call = recorder
            .call(self.process, Operation::Read { partition: partition_name(index), from, isolation });
        let name = name_of(&record.record).expect("a name");
        let answer = Answer { records: vec![(offset, name)], next: Some(offset + 1), ..Answer::default() };
        recorder.returned(call, Returned::Ok(answer));
    }

    fn rebalance(&mut self, rebalance: &Rebalance) {
        self.peer.world.recorder.note(|| format!("{}: {rebalance:?}", self.process));
        let (Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) | Rebalance::Assigned(partitions)) =
            rebalance;
        for partition in partitions {
            self.places.remove(&partition.partition.0);
        }
    }

    /// Commits; now and then it does not wait for it.
    async fn commit(&mut self) {
        let commit = self.consumer.commit();
        if self.peer.chance.once_in(3) {
            return;
        }
        let _busy = self.peer.world.faults.during(Busy::CommittingInEpoch);
        let committed = commit.await;
        self.peer.world.recorder.note(|| format!("{} has committed: {committed:?}", self.process));
    }
}
