//! Administration: topics, partitions, offsets, the cluster.

use super::cluster::Client;
use super::consumer::{Isolation, Start};
use super::error::ClientError;
use super::metadata::TopicPartition;
use super::versions::ANY_VERSION;
use crate::types::{NodeId, Offset, PartitionIndex, TopicId, TopicName};
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsTopic,
    CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest, DescribeClusterRequest, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
};
use crate::wire::{ApiKey, ErrorCode};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

/// The first version of DeleteTopics that names topics in a list that also takes ids.
const DELETE_BY_STATE: i16 = 6;
/// ListOffsets: the first offset.
const EARLIEST: i64 = -2;
/// ListOffsets: the offset after the last.
const LATEST: i64 = -1;

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; none for the broker's default.
    pub partitions: Option<i32>,
    /// How many replicas; none for the broker's default.
    pub replication_factor: Option<i16>,
    /// Its configuration where that differs from the broker's.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with a number of partitions.
    #[must_use]
    pub fn new(name: TopicName, partitions: i32) -> NewTopic {
        NewTopic { name, partitions: Some(partitions), replication_factor: None, configs: BTreeMap::new() }
    }
}

/// A topic as its brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Its identity; [`TopicId::NIL`] from brokers that have none.
    pub id: TopicId,
    /// Whether it is the cluster's own.
    pub internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as its brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub index: PartitionIndex,
    /// Its leader, if it has one.
    pub leader: Option<NodeId>,
    /// All replicas.
    pub replicas: Vec<NodeId>,
    /// The replicas that have everything.
    pub in_sync: Vec<NodeId>,
}

/// The cluster as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its identity.
    pub id: String,
    /// The broker that takes administration requests, if there is one at present.
    pub controller: Option<NodeId>,
    /// Its brokers.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Its number.
    pub id: NodeId,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
}

/// Administration through a client.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Administration through `client`.
    #[must_use]
    pub fn new(client: &Client) -> Admin {
        Admin { client: client.clone() }
    }

    /// Creates a topic and returns its id. Not repeated after a lost answer: the topic may then exist.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<TopicId, ClientError> {
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.as_str().to_owned(),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..CreateTopicsRequest::default()
        };
        let context = format!("creating topic {}", topic.name);
        let request = &request;
        let answer = self.at_controller(&context, || async {
            let answer = self.client.any_broker().await?.call(request).await?;
            first(answer.topics, &context)
        });
        let result = answer.await?;
        result.error_code.ok().map_err(|code| ClientError::broker(&context, code, result.error_message))?;
        Ok(result.topic_id)
    }

    /// Deletes a topic and everything in it.
    pub async fn delete_topic(&self, topic: &TopicName) -> Result<(), ClientError> {
        let name = topic.as_str().to_owned();
        let by_state = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name.clone()), ..DeleteTopicState::default() }],
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let by_name = DeleteTopicsRequest {
            topic_names: vec![name],
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let context = format!("deleting topic {topic}");
        let (by_state, by_name) = (&by_state, &by_name);
        let answer = self.at_controller(&context, || async {
            let connection = self.client.any_broker().await?;
            let version = connection.versions().highest(ApiKey::DeleteTopics, ANY_VERSION)?;
            let request = if version >= DELETE_BY_STATE { by_state } else { by_name };
            first(connection.call(request).await?.responses, &context)
        });
        let result = answer.await?;
        result.error_code.ok().map_err(|code| ClientError::broker(&context, code, result.error_message))
    }

    /// Raises a topic's number of partitions to `count`.
    pub async fn add_partitions(&self, topic: &TopicName, count: i32) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: topic.as_str().to_owned(), count, assignments: None }],
            timeout_ms: self.timeout_ms(),
            ..CreatePartitionsRequest::default()
        };
        let context = format!("adding partitions to topic {topic}");
        let request = &request;
        let answer = self.at_controller(&context, || async {
            let answer = self.client.any_broker().await?.call(request).await?;
            first(answer.results, &context)
        });
        let result = answer.await?;
        result.error_code.ok().map_err(|code| ClientError::broker(&context, code, result.error_message))
    }

    /// Every topic.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, ClientError> {
        self.describe(None).await
    }

    /// One topic.
    pub async fn describe_topic(&self, topic: &TopicName) -> Result<TopicDescription, ClientError> {
        let asked =
            MetadataRequestTopic { name: Some(topic.as_str().to_owned()), ..MetadataRequestTopic::default() };
        let found = self.describe(Some(vec![asked])).await?;
        found.into_iter().next().ok_or_else(|| ClientError::Unknown { what: format!("topic {topic}") })
    }

    async fn describe(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<Vec<TopicDescription>, ClientError> {
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let request = &request;
        let answer =
            self.client.retry("describing topics", || self.client.ask_metadata_with(request)).await?;
        let mut described = Vec::with_capacity(answer.topics.len());
        for topic in answer.topics {
            let name = topic.name.clone().unwrap_or_default();
            let code = topic.error_code;
            code.ok().map_err(|code| ClientError::broker(format!("topic {name}"), code, None))?;
            described.extend(describe_topic(topic));
        }
        described.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(described)
    }

    /// The cluster.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let request = &DescribeClusterRequest::default();
        let describe = || async { self.client.any_broker().await?.call(request).await };
        let answer = self.client.retry("describing the cluster", describe).await?;
        let refused =
            |code| ClientError::broker("describing the cluster", code, answer.error_message.clone());
        answer.error_code.ok().map_err(refused)?;
        let brokers = answer.brokers.into_iter().map(|broker| BrokerDescription {
            id: NodeId(broker.broker_id),
            host: broker.host,
            port: broker.port,
        });
        let controller = (answer.controller_id >= 0).then_some(NodeId(answer.controller_id));
        Ok(ClusterDescription { id: answer.cluster_id, controller, brokers: brokers.collect() })
    }

    /// Finds offsets: one result for each partition asked for, in the same order. A partition that is there twice is refused
    /// by the broker (`INVALID_REQUEST`), as the protocol has it.
    pub async fn find_offsets(
        &self,
        partitions: &[(TopicPartition, Start)],
        isolation: Isolation,
    ) -> Result<Vec<Result<Offset, ClientError>>, ClientError> {
        self.client.find_offsets(partitions, isolation).await
    }

    /// The same, for who wants to read from there: a time after that of every record means the end.
    pub async fn find_starts(
        &self,
        partitions: &[(TopicPartition, Start)],
        isolation: Isolation,
    ) -> Result<Vec<Result<Offset, ClientError>>, ClientError> {
        self.client.find_starts(partitions, isolation).await
    }

    /// Tries as long as the broker says that it is not the controller, or cannot be reached.
    pub(super) async fn at_controller<T, F>(
        &self,
        context: &str,
        attempt: impl Fn() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.client
            .retry(context, || async { attempt().await.map_err(|error| not_repeated(context, error)) })
            .await
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// What a change's error says: where the answer was lost it may have been done, and to do it again is not ours to decide.
pub(super) fn not_repeated(context: &str, error: ClientError) -> ClientError {
    match error {
        ClientError::Disconnected { endpoint, reason } => ClientError::OutcomeUnknown {
            what: context.to_owned(),
            reason: format!("the connection to {endpoint} ended: {reason}"),
        },
        other => other,
    }
}

pub(super) fn first<T>(results: Vec<T>, context: &str) -> Result<T, ClientError> {
    let missing = || {
        ClientError::broker(context, ErrorCode::UnknownServerError, Some("the answer is empty".to_owned()))
    };
    results.into_iter().next().ok_or_else(missing)
}

fn describe_topic(topic: MetadataResponseTopic) -> Option<TopicDescription> {
    let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
    let mut partitions: Vec<_> = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionDescription {
            index: PartitionIndex(partition.partition_index),
            leader: (partition.leader_id >= 0).then_some(NodeId(partition.leader_id)),
            replicas: nodes(partition.replica_nodes),
            in_sync: nodes(partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let name = TopicName::new(topic.name.as_deref().unwrap_or_default()).ok()?;
    Some(TopicDescription { name, id: topic.topic_id, internal: topic.is_internal, partitions })
}

/// The time `age` before `now`, as records have it.
fn time_before(now: SystemTime, age: Duration) -> i64 {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.saturating_sub(age).as_millis()).unwrap_or(i64::MAX)
}

impl Client {
    /// See [`Admin::find_offsets`].
    pub(super) async fn find_offsets(
        &self,
        partitions: &[(TopicPartition, Start)],
        isolation: Isolation,
    ) -> Result<Vec<Result<Offset, ClientError>>, ClientError> {
        let mut found: HashMap<TopicPartition, Result<Offset, ClientError>> = HashMap::new();
        let deadline = tokio::time::Instant::now() + self.config().call_timeout;
        let mut backoff = super::backoff::Backoff::unseeded(self.config().backoff);
        loop {
            let left: Vec<_> = partitions
                .iter()
                .filter(|(partition, _)| {
                    found.get(partition).is_none_or(|found| found.as_ref().is_err_and(ClientError::retriable))
                })
                .collect();
            let next = tokio::time::Instant::now() + backoff.pause();
            if left.is_empty() || (!found.is_empty() && next >= deadline) {
                break;
            }
            if !found.is_empty() {
                tokio::time::sleep_until(next).await;
                let topics: Vec<_> = left.iter().map(|(partition, _)| partition.topic.clone()).collect();
                // What is wrong shows when the leaders are asked.
                let _ = self.refresh(&topics).await;
            }
            found.extend(self.find_offsets_once(&left, isolation).await);
        }
        let missing =
            |partition| Err(ClientError::Unknown { what: format!("answer for partition {partition}") });
        Ok(partitions
            .iter()
            .map(|(partition, _)| found.get(partition).cloned().unwrap_or_else(|| missing(partition)))
            .collect())
    }

    /// See [`Admin::find_starts`].
    pub(super) async fn find_starts(
        &self,
        partitions: &[(TopicPartition, Start)],
        isolation: Isolation,
    ) -> Result<Vec<Result<Offset, ClientError>>, ClientError> {
        let found = self.find_offsets(partitions, isolation).await?;
        let beyond = |start: Start, found: &Result<Offset, ClientError>| {
            start.is_time() && matches!(found, Err(ClientError::Unknown { .. }))
        };
        let late = partitions.iter().zip(&found).filter(|((_, start), found)| beyond(*start, found));
        let late: Vec<_> = late.map(|((partition, _), _)| (partition.clone(), Start::Latest)).collect();
        if late.is_empty() {
            return Ok(found);
        }
        let mut ends = self.find_offsets(&late, isolation).await?.into_iter();
        let start_of = |((_, start), found): (&(TopicPartition, Start), Result<Offset, ClientError>)| {
            if beyond(*start, &found) { ends.next().unwrap_or(found) } else { found }
        };
        Ok(partitions.iter().zip(found).map(start_of).collect())
    }

    async fn find_offsets_once(
        &self,
        partitions: &[&(TopicPartition, Start)],
        isolation: Isolation,
    ) -> Vec<(TopicPartition, Result<Offset, ClientError>)> {
        let mut found = Vec::new();
        let mut by_leader: BTreeMap<NodeId, Vec<(&TopicPartition, i64)>> = BTreeMap::new();
        for (partition, start) in partitions {
            let timestamp = match start {
                Start::Offset(offset) => {
                    found.push((partition.clone(), Ok(*offset)));
                    continue;
                }
                Start::Earliest => EARLIEST,
                Start::Latest => LATEST,
                Start::Time(time) => time.0,
                Start::Ago(age) => time_before(SystemTime::now(), *age),
            };
            match self.leader(partition).await {
                Ok(leader) => by_leader.entry(leader).or_default().push((partition, timestamp)),
                Err(error) => found.push((partition.clone(), Err(error))),
            }
        }
        for (leader, asked) in by_leader {
            match self.ask_offsets(leader, &asked, isolation).await {
                Ok(answers) => found.extend(answers),
                Err(error) => {
                    found.extend(
                        asked.iter().map(|(partition, _)| ((*partition).clone(), Err(error.clone()))),
                    );
                }
            }
        }
        found
    }

    async fn ask_offsets(
        &self,
        leader: NodeId,
        asked: &[(&TopicPartition, i64)],
        isolation: Isolation,
    ) -> Result<Vec<(TopicPartition, Result<Offset, ClientError>)>, ClientError> {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for (partition, timestamp) in asked {
            let one = ListOffsetsPartition {
                partition_index: partition.partition.0,
                timestamp: *timestamp,
                ..ListOffsetsPartition::default()
            };
            match topics.iter_mut().find(|topic| topic.name == partition.topic.as_str()) {
                Some(topic) => topic.partitions.push(one),
                None => {
                    let name = partition.topic.as_str().to_owned();
                    topics.push(ListOffsetsTopic { name, partitions: vec![one] });
                }
            }
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation.level(),
            topics,
            timeout_ms: i32::try_from(self.config().request_timeout.as_millis()).unwrap_or(i32::MAX),
        };
        let answer = self.control(leader).await?.call(&request).await?;
        let mut found = Vec::new();
        for topic in answer.topics {
            let Ok(name) = TopicName::new(&topic.name) else { continue };
            for answered in topic.partitions {
                let partition = TopicPartition::new(name.clone(), PartitionIndex(answered.partition_index));
                let context = format!("finding an offset of {partition}");
                let offset =
                    answered.error_code.ok().map_err(|code| ClientError::broker(context, code, None));
                let offset = match offset {
                    // No record is as young as that: the end.
                    Ok(()) if answered.offset < 0 => Err(ClientError::Unknown {
                        what: format!("record of {partition} at or after that time"),
                    }),
                    Ok(()) => Ok(Offset(answered.offset)),
                    Err(error) => Err(error),
                };
                found.push((partition, offset));
            }
        }
        Ok(found)
    }
}
