//! A group's offsets: how far its readers have come. Without membership of the group (that is the group protocols'
//! affair), as with `assign` in other clients.

use super::cluster::Client;
use super::coordinator::Coordinated;
use super::error::ClientError;
use super::lane::Purpose;
use super::metadata::{Metadata, TopicPartition};
use super::versions::{ANY_VERSION, TransactionProtocol, up_to};
use crate::types::{
    GroupId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicName, TransactionalId,
};
use crate::wire::messages::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use crate::wire::{ErrorCode, VersionRange};
use std::collections::BTreeMap;

/// The last versions that name topics by their names.
const OFFSET_COMMIT_BY_NAME: i16 = 9;
const OFFSET_FETCH_BY_NAME: i16 = 9;
const TXN_OFFSET_COMMIT_BY_NAME: i16 = 5;
/// The first version of OffsetFetch that answers with all of a group's offsets if none is named.
const OFFSET_FETCH_ALL: i16 = 2;
/// The first version of OffsetFetch that asks for groups.
const OFFSET_FETCH_GROUPS: i16 = 8;
/// The first version of TxnOffsetCommit that enrols the group (KIP-890).
const TXN_OFFSET_COMMIT_ENROLS: i16 = 5;

/// Who commits: a group, and the member if there is one. A broker fences members whose generation is over (KIP-447).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The group.
    pub group: GroupId,
    /// The generation or member epoch; −1 without membership.
    pub generation: i32,
    /// The member id; empty without membership.
    pub member_id: String,
    /// The static member's name, if it is one.
    pub instance_id: Option<String>,
}

impl GroupMember {
    /// Nobody in particular.
    #[must_use]
    pub fn none(group: GroupId) -> GroupMember {
        GroupMember { group, generation: -1, member_id: String::new(), instance_id: None }
    }
}

/// How far a reader has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The offset of the next record to read.
    pub next: Offset,
    /// Whatever the reader wants to find again.
    pub metadata: String,
}

impl OffsetToCommit {
    /// An offset without more.
    #[must_use]
    pub fn new(next: Offset) -> OffsetToCommit {
        OffsetToCommit { next, metadata: String::new() }
    }
}

/// How far a reader had come.
pub type CommittedOffset = OffsetToCommit;

/// Whether offsets of transactions that are still open are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The last known ones.
    Latest,
    /// Wait until none is pending (KIP-447): what a processor of transactions must start from.
    Stable,
}

/// The transaction that offsets are part of.
pub(super) struct TransactionOffsets<'t> {
    pub(super) transactional_id: &'t TransactionalId,
    pub(super) producer_id: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) protocol: TransactionProtocol,
    /// Whose lane its requests travel on.
    pub(super) owner: u32,
}

type Offsets = BTreeMap<TopicPartition, OffsetToCommit>;

/// Partitions grouped by topic.
fn by_topic<'o, T>(
    items: impl IntoIterator<Item = (&'o TopicPartition, T)>,
) -> BTreeMap<&'o TopicName, Vec<(PartitionIndex, T)>> {
    let mut topics: BTreeMap<&TopicName, Vec<_>> = BTreeMap::new();
    for (partition, item) in items {
        topics.entry(&partition.topic).or_default().push((partition.partition, item));
    }
    topics
}

impl Client {
    /// Commits offsets of a group.
    pub async fn commit_offsets(&self, member: &GroupMember, offsets: &Offsets) -> Result<(), ClientError> {
        let names: Vec<_> = by_topic(offsets).into_keys().cloned().collect();
        let metadata = self.metadata_of(&names).await?;
        let (request, wanted) = commit_request(member, offsets, &metadata);
        let (request, coordinated) = (&request, &Coordinated::Group(member.group.clone()));
        let timeout = self.config().request_timeout;
        self.at_coordinator(coordinated, "committing offsets", |connection| async move {
            let answer = connection.call_version(request, wanted, timeout).await?;
            let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            first_refusal(partitions.map(|partition| partition.error_code), &member.group)
        })
        .await
    }

    /// Makes offsets part of a transaction.
    pub(super) async fn commit_offsets_in(
        &self,
        transaction: &TransactionOffsets<'_>,
        member: &GroupMember,
        offsets: &Offsets,
    ) -> Result<(), ClientError> {
        let names: Vec<_> = by_topic(offsets).into_keys().cloned().collect();
        let metadata = self.metadata_of(&names).await?;
        let (request, wanted) = transactional_request(transaction, member, offsets, &metadata);
        let (request, coordinated) = (&request, &Coordinated::Group(member.group.clone()));
        let (timeout, owner) = (self.config().request_timeout, transaction.owner);
        self.retry("sending offsets to the transaction", || async move {
            let connection = self.coordinator(coordinated, Purpose::Transactions, owner).await?;
            let sent = connection.call_version(request, wanted, timeout).await.and_then(|answer| {
                let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
                first_refusal(partitions.map(|partition| partition.error_code), &member.group)
            });
            sent.inspect_err(|error| self.heed_coordinator_error(coordinated, error))
        })
        .await
    }

    /// Reads a group's offsets. A partition without one is left out.
    pub async fn committed_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
        query: OffsetQuery,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        self.fetch_offsets(group, partitions, query, all_told).await
    }

    /// The same, each with its own reason why it is not known.
    pub(super) async fn committed_offsets_each(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
        query: OffsetQuery,
    ) -> Result<EachOffset, ClientError> {
        self.fetch_offsets(group, partitions, query, Ok).await
    }

    async fn fetch_offsets<T>(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
        query: OffsetQuery,
        judge: impl Fn(EachOffset) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let names = names_of(partitions);
        let metadata = &self.metadata_of(&names).await?;
        let (names, judge, coordinated) = (&names, &judge, &Coordinated::Group(group.clone()));
        let timeout = self.config().request_timeout;
        self.at_coordinator(coordinated, "reading committed offsets", |connection| async move {
            let wanted = up_to(if all_have_ids(names, metadata) { i16::MAX } else { OFFSET_FETCH_BY_NAME });
            let version = connection.versions().highest(crate::wire::ApiKey::OffsetFetch, wanted)?;
            let request = fetch_request(group, Some(partitions), query, version, metadata);
            let exactly = VersionRange { min: version, max: version };
            let answer = connection.call_version(&request, exactly, timeout).await?;
            judge(read_offsets(answer, group, metadata)?)
        })
        .await
    }

    /// Reads all offsets that a group has committed.
    pub(super) async fn all_committed_offsets(
        &self,
        group: &GroupId,
        query: OffsetQuery,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let (coordinated, metadata) = (&Coordinated::Group(group.clone()), &Metadata::default());
        let timeout = self.config().request_timeout;
        self.at_coordinator(coordinated, "reading committed offsets", |connection| async move {
            // Of topics that are not known here only their names say which they are.
            let wanted = VersionRange { min: OFFSET_FETCH_ALL, max: OFFSET_FETCH_BY_NAME };
            let version = connection.versions().highest(crate::wire::ApiKey::OffsetFetch, wanted)?;
            let request = fetch_request(group, None, query, version, metadata);
            let exactly = VersionRange { min: version, max: version };
            let answer = connection.call_version(&request, exactly, timeout).await?;
            all_told(read_offsets(answer, group, metadata)?)
        })
        .await
    }
}

fn names_of(partitions: &[TopicPartition]) -> Vec<TopicName> {
    by_topic(partitions.iter().map(|partition| (partition, ()))).into_keys().cloned().collect()
}

fn all_have_ids(names: &[TopicName], metadata: &Metadata) -> bool {
    names.iter().all(|name| metadata.topic_id(name).is_some())
}

fn first_refusal(mut codes: impl Iterator<Item = ErrorCode>, group: &GroupId) -> Result<(), ClientError> {
    match codes.find(|code| !code.is_none()) {
        None => Ok(()),
        // It was there when its id was asked for: it has been deleted since, and asking again does not bring it back.
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
            Err(ClientError::Unknown { what: format!("topic or partition of an offset of group {group:?}") })
        }
        Some(code) => Err(ClientError::broker(format!("offsets of group {group:?}"), code, None)),
    }
}

fn commit_request(
    member: &GroupMember,
    offsets: &Offsets,
    metadata: &Metadata,
) -> (OffsetCommitRequest, VersionRange) {
    let topics: Vec<_> = by_topic(offsets)
        .into_iter()
        .map(|(topic, partitions)| OffsetCommitRequestTopic {
            name: topic.as_str().to_owned(),
            topic_id: metadata.topic_id(topic).unwrap_or_default(),
            partitions: partitions
                .into_iter()
                .map(|(index, offset)| OffsetCommitRequestPartition {
                    partition_index: index.0,
                    committed_offset: offset.next.0,
                    committed_metadata: Some(offset.metadata.clone()),
                    ..OffsetCommitRequestPartition::default()
                })
                .collect(),
        })
        .collect();
    let by_id = topics.iter().all(|topic| topic.topic_id != TopicId::NIL);
    let request = OffsetCommitRequest {
        group_id: member.group.as_str().to_owned(),
        generation_id_or_member_epoch: member.generation,
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        topics,
        ..OffsetCommitRequest::default()
    };
    (request, if by_id { ANY_VERSION } else { up_to(OFFSET_COMMIT_BY_NAME) })
}

fn transactional_request(
    transaction: &TransactionOffsets<'_>,
    member: &GroupMember,
    offsets: &Offsets,
    metadata: &Metadata,
) -> (TxnOffsetCommitRequest, VersionRange) {
    let topics: Vec<_> = by_topic(offsets)
        .into_iter()
        .map(|(topic, partitions)| TxnOffsetCommitRequestTopic {
            name: topic.as_str().to_owned(),
            topic_id: metadata.topic_id(topic).unwrap_or_default(),
            partitions: partitions
                .into_iter()
                .map(|(index, offset)| TxnOffsetCommitRequestPartition {
                    partition_index: index.0,
                    committed_offset: offset.next.0,
                    committed_metadata: Some(offset.metadata.clone()),
                    ..TxnOffsetCommitRequestPartition::default()
                })
                .collect(),
        })
        .collect();
    let by_id = topics.iter().all(|topic| topic.topic_id != TopicId::NIL);
    let max = if by_id { i16::MAX } else { TXN_OFFSET_COMMIT_BY_NAME };
    let wanted = match transaction.protocol {
        TransactionProtocol::Explicit => up_to(TXN_OFFSET_COMMIT_ENROLS - 1),
        TransactionProtocol::Implicit => VersionRange { min: TXN_OFFSET_COMMIT_ENROLS, max },
    };
    let request = TxnOffsetCommitRequest {
        transactional_id: transaction.transactional_id.as_str().to_owned(),
        group_id: member.group.as_str().to_owned(),
        producer_id: transaction.producer_id.0,
        producer_epoch: transaction.epoch.0,
        generation_id_or_member_epoch: member.generation,
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        topics,
    };
    (request, wanted)
}

/// Asks for these partitions' offsets, or for all.
fn fetch_request(
    group: &GroupId,
    partitions: Option<&[TopicPartition]>,
    query: OffsetQuery,
    version: i16,
    metadata: &Metadata,
) -> OffsetFetchRequest {
    let topics = partitions.map(|named| by_topic(named.iter().map(|partition| (partition, ()))));
    let indexes =
        |partitions: Vec<(PartitionIndex, ())>| partitions.into_iter().map(|(index, ())| index.0).collect();
    let require_stable = query == OffsetQuery::Stable && version >= 7;
    if version < OFFSET_FETCH_GROUPS {
        let asked = |(topic, partitions): (&TopicName, _)| OffsetFetchRequestTopic {
            name: topic.as_str().to_owned(),
            partition_indexes: indexes(partitions),
        };
        let group_id = group.as_str().to_owned();
        let topics = topics.map(|topics| topics.into_iter().map(asked).collect());
        return OffsetFetchRequest { group_id, topics, require_stable, ..OffsetFetchRequest::default() };
    }
    let asked = |(topic, partitions): (&TopicName, _)| OffsetFetchRequestTopics {
        name: topic.as_str().to_owned(),
        topic_id: metadata.topic_id(topic).unwrap_or_default(),
        partition_indexes: indexes(partitions),
    };
    let asked = OffsetFetchRequestGroup {
        group_id: group.as_str().to_owned(),
        topics: topics.map(|topics| topics.into_iter().map(asked).collect()),
        ..OffsetFetchRequestGroup::default()
    };
    OffsetFetchRequest { groups: vec![asked], require_stable, ..OffsetFetchRequest::default() }
}

/// What a group has committed in each partition, or why that is not known.
pub(super) type EachOffset = BTreeMap<TopicPartition, Result<Option<CommittedOffset>, ClientError>>;

/// The offsets, if none of them is unknown.
fn all_told(each: EachOffset) -> Result<Offsets, ClientError> {
    let told = each.into_iter().filter_map(|(partition, offset)| {
        offset.transpose().map(|offset| offset.map(|offset| (partition, offset)))
    });
    told.collect()
}

/// One partition of an answer, whatever its version: topic, index, offset, metadata, error.
type FetchedOffset = (Option<TopicName>, i32, i64, Option<String>, ErrorCode);

fn read_offsets(
    answer: OffsetFetchResponse,
    group: &GroupId,
    metadata: &Metadata,
) -> Result<EachOffset, ClientError> {
    let refused = |code| ClientError::broker(format!("offsets of group {group:?}"), code, None);
    answer.error_code.ok().map_err(refused)?;
    let mut found: Vec<FetchedOffset> = Vec::new();
    for topic in answer.topics {
        let name = TopicName::new(&topic.name).ok();
        found.extend(topic.partitions.into_iter().map(|partition| {
            (
                name.clone(),
                partition.partition_index,
                partition.committed_offset,
                partition.metadata,
                partition.error_code,
            )
        }));
    }
    for answered in answer.groups {
        answered.error_code.ok().map_err(refused)?;
        for topic in answered.topics {
            let name = match topic.topic_id {
                TopicId::NIL => TopicName::new(&topic.name).ok(),
                id => metadata.topic_of(id).cloned(),
            };
            found.extend(topic.partitions.into_iter().map(|partition| {
                (
                    name.clone(),
                    partition.partition_index,
                    partition.committed_offset,
                    partition.metadata,
                    partition.error_code,
                )
            }));
        }
    }
    let told = found.into_iter().filter_map(|(topic, index, offset, metadata, code)| {
        let committed = OffsetToCommit { next: Offset(offset), metadata: metadata.unwrap_or_default() };
        let offset = code.ok().map(|()| Some(committed).filter(|_| offset >= 0)).map_err(refused);
        Some((TopicPartition::new(topic?, PartitionIndex(index)), offset))
    });
    Ok(told.collect())
}
