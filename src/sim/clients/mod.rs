//! Who uses the broker: producers of both protocols, readers, committers of offsets, members of groups of both protocols,
//! applications and workers with the Rust client, administrators. Each is a task with choices of its own; each goes on after
//! whatever happens, as a client does, and tells what it saw.

mod administrator;
mod application;
mod committer;
mod consumer;
mod deleter;
mod idempotent;
mod keyed;
mod member;
mod reader;
mod records;
mod transactional;
mod worker;

use super::peer::Peer;
use super::plan::Keeps;
use super::world::{TOPIC, World};
use crate::core::topic_settings::{KEY_HEADER, KEY_WINDOW_MS_DEFAULT};
use crate::history::Isolation;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) use consumer::SESSION as CONSUMER_SESSION;

/// The longest that any transaction may take.
pub(crate) const TRANSACTION_TIMEOUT_MOST: Duration = Duration::from_secs(30);

/// The group whose offsets go with transactions.
const GROUP: &str = "g";

/// A partition of the topic, as histories name it.
fn partition_name(index: i32) -> String {
    format!("{TOPIC}/{index}")
}

/// A commit of one offset of a partition of the topic, by nobody in particular.
fn commit_of(group: &str, partition_index: i32, committed_offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index,
        committed_offset,
        committed_metadata: Some(String::new()),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    OffsetCommitRequest { group_id: group.to_owned(), topics: vec![topic], ..Default::default() }
}

/// Makes the topic.
pub(crate) async fn found(world: &World) {
    let mut peer = Peer::new(world, "founder");
    if let Keeps::Newest { tombstones } = world.plan.keeps {
        world.recorder.compacted(TOPIC, tombstones);
    }
    let mut settings = world.plan.keeps.settings();
    if world.plan.keyed {
        settings.push((KEY_HEADER, records::KEY_NAME.to_owned()));
        world.recorder.keyed(TOPIC, Duration::from_millis(KEY_WINDOW_MS_DEFAULT.unsigned_abs()));
    }
    let settings = settings.into_iter();
    let settings =
        settings.map(|(name, value)| CreatableTopicConfig { name: name.to_owned(), value: Some(value) });
    let topic = CreatableTopic {
        name: TOPIC.to_owned(),
        num_partitions: world.plan.partitions,
        replication_factor: 1,
        configs: settings.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let id = loop {
        if let Ok(mut response) = peer.call(7, &request).await {
            let created = response.topics.remove(0);
            if created.error_code == ErrorCode::None {
                break created.topic_id;
            }
        }
        if let Some(id) = look_up(&mut peer).await {
            break id;
        }
        peer.pause(200).await;
    };
    world.topic.set(id).expect("it is made once");
}

/// The topic's id, if it is there: an answer that was lost may have been good news.
async fn look_up(peer: &mut Peer) -> Option<TopicId> {
    let topics = Some(vec![MetadataRequestTopic { name: Some(TOPIC.to_owned()), ..Default::default() }]);
    let response = peer.call(12, &MetadataRequest { topics, ..Default::default() }).await.ok()?;
    let topic = response.topics.into_iter().next()?;
    (topic.error_code == ErrorCode::None).then_some(topic.topic_id)
}

/// Lets all clients begin.
pub(crate) fn begin(world: &World, crowd: &mut JoinSet<()>) {
    let clients = &world.plan.clients;
    for number in 0..clients.idempotent {
        crowd.spawn(idempotent::run(Peer::new(world, &format!("idempotent-{number}-"))));
    }
    for number in 0..clients.transactional {
        crowd.spawn(transactional::run(Peer::new(world, &format!("transactional-{number}-"))));
    }
    for number in 0..clients.keyed {
        crowd.spawn(keyed::run(Peer::new(world, &format!("keyed-{number}-"))));
    }
    for number in 0..clients.readers {
        let isolation = if number % 2 == 0 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        crowd.spawn(reader::run(Peer::new(world, &format!("reader-{number}-")), isolation));
    }
    for number in 0..clients.committers {
        crowd.spawn(committer::run(Peer::new(world, &format!("committer-{number}-"))));
    }
    for number in 0..clients.members {
        crowd.spawn(member::run(Peer::new(world, &format!("member-{number}-"))));
    }
    for number in 0..clients.consumers {
        crowd.spawn(consumer::run(Peer::new(world, &format!("consumer-{number}-"))));
    }
    for number in 0..clients.administrators {
        crowd.spawn(administrator::run(Peer::new(world, &format!("administrator-{number}-"))));
    }
    for number in 0..clients.applications {
        crowd.spawn(application::run(Peer::new(world, &format!("application-{number}-"))));
    }
    for number in 0..clients.workers {
        crowd.spawn(worker::run(Peer::new(world, &format!("worker-{number}-"))));
    }
    if world.plan.keeps == Keeps::NotDeleted {
        crowd.spawn(deleter::run(Peer::new(world, "deleter-")));
    }
    crowd.spawn(reader::watch(Peer::new(world, "watcher-")));
}

/// Reads everything once more.
pub(crate) async fn conclude(world: &World) {
    let mut peer = Peer::new(world, "last-");
    reader::look(&mut peer, true).await;
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        reader::read_all(&mut peer, isolation).await;
    }
}
