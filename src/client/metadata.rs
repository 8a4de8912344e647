//! What is known of brokers and topics.

use super::config::{Endpoint, Scheme};
use super::error::ClientError;
use crate::types::{NodeId, PartitionIndex, TopicId, TopicName};
use crate::wire::ErrorCode;
use crate::wire::messages::{MetadataResponse, MetadataResponseTopic};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// A partition, by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: TopicName, partition: PartitionIndex) -> TopicPartition {
        TopicPartition { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A topic as the brokers described it.
#[derive(Clone, Debug)]
pub(super) struct TopicState {
    /// Its identity; [`TopicId::NIL`] where the broker does not say.
    pub(super) id: TopicId,
    /// Each partition's leader, in the order of their numbers; none where there is none at present.
    pub(super) leaders: BTreeMap<PartitionIndex, Option<NodeId>>,
    /// Whether every partition had a leader.
    complete: bool,
    /// When this was learnt.
    learnt: Instant,
}

impl TopicState {
    /// Whether this can be relied on: complete, and not older than `age_max`.
    pub(super) fn usable(&self, age_max: Duration) -> bool {
        self.complete && self.learnt.elapsed() <= age_max
    }
}

/// What is known of brokers and of the topics that were asked for. Immutable; a refresh makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    brokers: BTreeMap<NodeId, Endpoint>,
    topics: BTreeMap<TopicName, TopicState>,
}

impl Metadata {
    /// Every broker's endpoint.
    #[must_use]
    pub fn brokers(&self) -> &BTreeMap<NodeId, Endpoint> {
        &self.brokers
    }

    pub(super) fn topic(&self, topic: &TopicName) -> Option<&TopicState> {
        self.topics.get(topic)
    }

    /// The partitions of a topic, if it is known.
    #[must_use]
    pub fn partitions(&self, topic: &TopicName) -> Option<Vec<TopicPartition>> {
        let state = self.topics.get(topic)?;
        Some(state.leaders.keys().map(|index| TopicPartition::new(topic.clone(), *index)).collect())
    }

    pub(super) fn leader(&self, partition: &TopicPartition) -> Option<NodeId> {
        self.topics.get(&partition.topic)?.leaders.get(&partition.partition).copied().flatten()
    }

    /// A topic's id, where the broker has told one.
    pub(super) fn topic_id(&self, topic: &TopicName) -> Option<TopicId> {
        self.topics.get(topic).map(|state| state.id).filter(|id| *id != TopicId::NIL)
    }

    pub(super) fn topic_of(&self, id: TopicId) -> Option<&TopicName> {
        self.topics.iter().find(|(_, state)| state.id == id).map(|(name, _)| name)
    }

    /// This, with what an answer says in the place of what was known.
    pub(super) fn updated(&self, answer: &MetadataResponse, scheme: Scheme, now: Instant) -> Metadata {
        let brokers = answer.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((NodeId(broker.node_id), Endpoint { scheme, host: broker.host.clone(), port }))
        });
        let mut topics = self.topics.clone();
        for topic in &answer.topics {
            let Some(name) = topic.name.as_deref().and_then(|name| TopicName::new(name).ok()) else {
                continue;
            };
            match topic.error_code {
                ErrorCode::None => drop(topics.insert(name, topic_state(topic, now))),
                _ => drop(topics.remove(&name)),
            }
        }
        Metadata { brokers: brokers.collect(), topics }
    }
}

fn topic_state(topic: &MetadataResponseTopic, now: Instant) -> TopicState {
    let leaders = topic.partitions.iter().map(|partition| {
        let leader = (partition.leader_id >= 0).then_some(NodeId(partition.leader_id));
        (PartitionIndex(partition.partition_index), leader)
    });
    let leaders: BTreeMap<_, _> = leaders.collect();
    let complete = leaders.values().all(Option::is_some);
    TopicState { id: topic.topic_id, leaders, complete, learnt: now }
}

/// Why an answer has no use for `topic`.
pub(super) fn topic_error(answer: &MetadataResponse, topic: &TopicName) -> Option<ClientError> {
    let found = answer.topics.iter().find(|found| found.name.as_deref() == Some(topic.as_str()));
    let code = found.map_or(ErrorCode::UnknownTopicOrPartition, |found| found.error_code);
    (!code.is_none()).then(|| ClientError::broker(format!("topic {topic}"), code, None))
}
