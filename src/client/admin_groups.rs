//! Administration of consumer groups: which there are, who their members are, how far they have read and how far they are
//! behind; and to set, forget and delete what they know (`spec/groups.md`, section 8).

use super::admin::{Admin, first, not_repeated};
use super::connection::Connection;
use super::consumer::{Isolation, Start};
use super::coordinator::Coordinated;
use super::error::ClientError;
use super::metadata::TopicPartition;
use super::offsets::{CommittedOffset, GroupMember, OffsetQuery, OffsetToCommit};
use super::transaction_admin::Blocker;
use super::versions::ANY_VERSION;
use crate::types::{GroupId, Offset, PartitionIndex, TopicName};
use crate::wire::consumer_protocol::{self, CONSUMER};
use crate::wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribed, ConsumerGroupDescribedAssignment,
    ConsumerGroupDescribedMember, DeleteGroupsRequest, DescribeGroupsRequest, DescribedGroup,
    DescribedGroupMember, ListGroupsRequest, OffsetDeleteRequest, OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
};
use crate::wire::{ErrorCode, VersionRange};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a broker of semel means when it does not list groups; the answer has no room for words.
const MORE_THAN_LISTED: &str =
    "there are more groups than one answer holds: ask for those of some states or types";
/// The first versions of ListGroups that filter by state and by type.
const LIST_BY_STATE: i16 = 4;
const LIST_BY_TYPE: i16 = 5;
/// What earlier versions than 6 of DescribeGroups call a group that is not there.
const DEAD: &str = "Dead";

/// Which groups are wanted.
#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    /// In one of these states, by Kafka's names; any if empty.
    pub states: Vec<String>,
    /// Of one of these types, by Kafka's names; any if empty.
    pub types: Vec<String>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group: GroupId,
    /// Its state, by Kafka's names; empty from brokers that do not list it (before ListGroups 4).
    pub state: String,
    /// Its type, such as `classic`; empty from brokers that know one only (before ListGroups 5).
    pub kind: String,
    /// What its members are, such as `consumer`; empty if there never were any.
    pub protocol_type: String,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupId,
    /// Its state, by Kafka's names.
    pub state: String,
    /// What its members are, such as `consumer`.
    pub protocol_type: String,
    /// By what they share their work, such as `range`; empty where that is not decided.
    pub protocol: String,
    /// How far it has come, if it is a group of the consumer protocol (KIP-848).
    pub epochs: Option<GroupEpochs>,
    /// Its members.
    pub members: Vec<GroupMemberDescription>,
}

impl GroupDescription {
    /// Its type, by Kafka's names.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.epochs.is_some() { "consumer" } else { "classic" }
    }
}

/// How far a group of the consumer protocol has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpochs {
    /// Grows with whatever may change who is to have what.
    pub group: i32,
    /// As of which epoch it has been decided who is to have what.
    pub target: i32,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMemberDescription {
    /// Its name, given by the coordinator.
    pub member_id: String,
    /// Its name as a static member, if it is one.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where its requests come from.
    pub client_host: String,
    /// What it is assigned; none if that is said in a form unknown here.
    pub assigned: Option<Vec<TopicPartition>>,
    /// What a member of the consumer protocol is on its way to.
    pub target: Option<MemberTarget>,
}

/// What a member of a group of the consumer protocol is on its way to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberTarget {
    /// The epoch that it has reached; −2 if it is a static member that is away.
    pub epoch: i32,
    /// What it is to have.
    pub partitions: Vec<TopicPartition>,
    /// The regular expression that it subscribes with, if it does.
    pub pattern: Option<String>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug)]
pub struct PartitionProgress {
    /// The partition.
    pub partition: TopicPartition,
    /// What the group has committed there.
    pub committed: Option<CommittedOffset>,
    /// The high watermark, or why it is not known.
    pub end: Result<Offset, ClientError>,
    /// Up to where readers of committed records come, or why it is not known.
    pub last_stable: Result<Offset, ClientError>,
    /// The transaction that holds them back there, if they are held back.
    pub blocker: Option<Blocker>,
}

impl PartitionProgress {
    /// How many offsets lie between what is committed and the end; none if either is not known.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        let end = self.end.as_ref().ok()?;
        self.committed.as_ref().map(|committed| end.0.saturating_sub(committed.next.0).max(0))
    }
}

impl Admin {
    /// The groups of all brokers, by name.
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<Vec<GroupListing>, ClientError> {
        let request =
            &ListGroupsRequest { states_filter: filter.states.clone(), types_filter: filter.types.clone() };
        let min = match (filter.types.is_empty(), filter.states.is_empty()) {
            (false, _) => LIST_BY_TYPE,
            (true, false) => LIST_BY_STATE,
            (true, true) => ANY_VERSION.min,
        };
        let (wanted, client) = (VersionRange { min, ..ANY_VERSION }, self.client());
        let timeout = client.config().request_timeout;
        let mut listed = Vec::new();
        // Each broker lists the groups that it coordinates.
        for node in client.metadata().brokers().keys().copied() {
            let context = &format!("listing the groups of broker {node}");
            let list = || async move {
                let answer = client.control(node).await?.call_version(request, wanted, timeout).await?;
                let detail =
                    (answer.error_code == ErrorCode::InvalidRequest).then(|| MORE_THAN_LISTED.to_owned());
                answer.error_code.ok().map_err(|code| ClientError::broker(context, code, detail))?;
                Ok(answer.groups)
            };
            listed.extend(client.retry(context, list).await?.into_iter().map(|group| GroupListing {
                group: GroupId::new(&group.group_id),
                state: group.group_state,
                kind: group.group_type,
                protocol_type: group.protocol_type,
            }));
        }
        listed.sort_by(|one, other| one.group.cmp(&other.group));
        Ok(listed)
    }

    /// A group, of whichever protocol, and its members; [`ClientError::Unknown`] if there is no such group.
    pub async fn describe_group(&self, group: &GroupId) -> Result<GroupDescription, ClientError> {
        match self.describe_classic_group(group).await {
            Err(ClientError::Unknown { .. }) => self.describe_consumer_group(group).await,
            described => described,
        }
    }

    async fn describe_consumer_group(&self, group: &GroupId) -> Result<GroupDescription, ClientError> {
        let request = &ConsumerGroupDescribeRequest {
            group_ids: vec![group.as_str().to_owned()],
            ..ConsumerGroupDescribeRequest::default()
        };
        let context = &format!("describing group {group}");
        let describe = |connection: Arc<Connection>| async move {
            let described = first(connection.call(request).await?.groups, context)?;
            described.error_code.ok().map_err(|code| refused(group, context, code))?;
            Ok(described)
        };
        let described = self.client().at_coordinator(&coordinated(group), context, describe).await?;
        Ok(consumer_description(group, described))
    }

    async fn describe_classic_group(&self, group: &GroupId) -> Result<GroupDescription, ClientError> {
        let request = &DescribeGroupsRequest {
            groups: vec![group.as_str().to_owned()],
            ..DescribeGroupsRequest::default()
        };
        let context = &format!("describing group {group}");
        let describe = |connection: Arc<Connection>| async move {
            let described = first(connection.call(request).await?.groups, context)?;
            described.error_code.ok().map_err(|code| refused(group, context, code))?;
            match described.group_state == DEAD {
                true => Err(unknown(group)),
                false => Ok(described),
            }
        };
        let described = self.client().at_coordinator(&coordinated(group), context, describe).await?;
        Ok(description(group, described))
    }

    /// All that a group has committed.
    pub async fn group_offsets(
        &self,
        group: &GroupId,
        query: OffsetQuery,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        self.client().all_committed_offsets(group, query).await
    }

    /// How far a group has come where it has committed offsets or is assigned something, by partition.
    pub async fn group_progress(
        &self,
        group: &GroupDescription,
    ) -> Result<Vec<PartitionProgress>, ClientError> {
        let mut committed = self.group_offsets(&group.group, OffsetQuery::Latest).await?;
        let assigned = group.members.iter().filter_map(|member| member.assigned.as_ref()).flatten();
        let partitions: BTreeSet<TopicPartition> = committed.keys().chain(assigned).cloned().collect();
        let asked: Vec<_> = partitions.into_iter().map(|partition| (partition, Start::Latest)).collect();
        // The stable end first: what is told to be held back is so, whatever ends in between.
        let stable = self.find_offsets(&asked, Isolation::ReadCommitted).await?;
        let ends = self.find_offsets(&asked, Isolation::ReadUncommitted).await?;
        let mut progress: Vec<_> = asked
            .into_iter()
            .zip(stable.into_iter().zip(ends))
            .map(|((partition, _), (last_stable, end))| PartitionProgress {
                committed: committed.remove(&partition),
                partition,
                end,
                last_stable,
                blocker: None,
            })
            .collect();
        self.name_blockers(&mut progress).await?;
        Ok(progress)
    }

    async fn name_blockers(&self, progress: &mut [PartitionProgress]) -> Result<(), ClientError> {
        let held_back = progress.iter().filter(|one| {
            let (last_stable, end) = (one.last_stable.as_ref().ok(), one.end.as_ref().ok());
            last_stable.zip(end).is_some_and(|(last_stable, end)| last_stable < end)
        });
        let held_back: Vec<_> = held_back.map(|one| one.partition.clone()).collect();
        for blocker in self.blockers_of(&held_back).await? {
            let blocked = progress.iter_mut().find(|one| one.partition == blocker.partition);
            if let Some(blocked) = blocked {
                blocked.blocker = Some(blocker);
            }
        }
        Ok(())
    }

    /// Sets what a group without members has committed. A group with members refuses: they alone know where they are.
    pub async fn alter_group_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Result<(), ClientError> {
        let set = self.client().commit_offsets(&GroupMember::none(group.clone()), offsets).await;
        set.map_err(|error| match error {
            // One of the attempts may have come through.
            ClientError::Disconnected { .. } | ClientError::Timeout { .. } => ClientError::OutcomeUnknown {
                what: format!("setting offsets of group {group}"),
                reason: error.to_string(),
            },
            error => error,
        })
    }

    /// Forgets what a group has committed in these partitions: for each, in the same order, whether that was done. It is
    /// refused where members subscribe to the topic.
    pub async fn delete_group_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let mut topics: BTreeMap<&TopicName, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for partition in partitions {
            let one = OffsetDeleteRequestPartition { partition_index: partition.partition.0 };
            topics.entry(&partition.topic).or_default().push(one);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| OffsetDeleteRequestTopic {
            name: topic.as_str().to_owned(),
            partitions,
        });
        let request = &OffsetDeleteRequest { group_id: group.as_str().to_owned(), topics: topics.collect() };
        let context = &format!("deleting offsets of group {group}");
        let delete = |connection: Arc<Connection>| async move {
            let answer = connection.call(request).await.map_err(|error| not_repeated(context, error))?;
            answer.error_code.ok().map_err(|code| refused(group, context, code))?;
            Ok(answer.topics)
        };
        let answered = self.client().at_coordinator(&coordinated(group), context, delete).await?;
        let answer_of = |partition: &TopicPartition| {
            let topic = answered.iter().find(|topic| topic.name == partition.topic.as_str());
            let found = topic.into_iter().flat_map(|topic| &topic.partitions);
            let mut found = found.filter(|found| found.partition_index == partition.partition.0);
            let code = found.next().map_or(ErrorCode::UnknownServerError, |found| found.error_code);
            let context = format!("deleting the offset of group {group} for {partition}");
            code.ok().map_err(|code| ClientError::broker(context, code, None))
        };
        Ok(partitions.iter().map(answer_of).collect())
    }

    /// Deletes a group without members, and all that it has committed.
    pub async fn delete_group(&self, group: &GroupId) -> Result<(), ClientError> {
        let request = &DeleteGroupsRequest { groups_names: vec![group.as_str().to_owned()] };
        let context = &format!("deleting group {group}");
        let delete = |connection: Arc<Connection>| async move {
            let answer = connection.call(request).await.map_err(|error| not_repeated(context, error))?;
            let deleted = first(answer.results, context)?;
            deleted.error_code.ok().map_err(|code| refused(group, context, code))
        };
        self.client().at_coordinator(&coordinated(group), context, delete).await
    }
}

fn coordinated(group: &GroupId) -> Coordinated {
    Coordinated::Group(group.clone())
}

fn unknown(group: &GroupId) -> ClientError {
    ClientError::Unknown { what: format!("group {group}") }
}

fn refused(group: &GroupId, context: &str, code: ErrorCode) -> ClientError {
    match code {
        ErrorCode::GroupIdNotFound => unknown(group),
        code => ClientError::broker(context, code, None),
    }
}

fn description(group: &GroupId, described: DescribedGroup) -> GroupDescription {
    let consumers = described.protocol_type == CONSUMER;
    let members = described.members.into_iter().map(|member| member_description(member, consumers));
    let mut members: Vec<_> = members.collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    GroupDescription {
        group: group.clone(),
        state: described.group_state,
        protocol_type: described.protocol_type,
        protocol: described.protocol_data,
        epochs: None,
        members,
    }
}

fn consumer_description(group: &GroupId, described: ConsumerGroupDescribed) -> GroupDescription {
    let mut members: Vec<_> = described.members.into_iter().map(consumer_member_description).collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    GroupDescription {
        group: group.clone(),
        state: described.group_state,
        protocol_type: CONSUMER.to_owned(),
        protocol: described.assignor_name,
        epochs: Some(GroupEpochs { group: described.group_epoch, target: described.assignment_epoch }),
        members,
    }
}

fn consumer_member_description(member: ConsumerGroupDescribedMember) -> GroupMemberDescription {
    GroupMemberDescription {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assigned: Some(partitions_of(member.assignment)),
        target: Some(MemberTarget {
            epoch: member.member_epoch,
            partitions: partitions_of(member.target_assignment),
            pattern: member.subscribed_topic_regex.filter(|pattern| !pattern.is_empty()),
        }),
    }
}

/// Partitions of topics whose names are names.
fn partitions_of(assignment: ConsumerGroupDescribedAssignment) -> Vec<TopicPartition> {
    let partitions = assignment.topic_partitions.into_iter().filter_map(|topic| {
        let name = TopicName::new(&topic.topic_name).ok()?;
        let partition = move |index| TopicPartition::new(name.clone(), PartitionIndex(index));
        Some(topic.partitions.into_iter().map(partition))
    });
    partitions.flatten().collect()
}

fn member_description(member: DescribedGroupMember, consumer: bool) -> GroupMemberDescription {
    let assigned =
        consumer.then(|| consumer_protocol::assigned_partitions(member.member_assignment)).flatten();
    let partitions = |(topic, indexes): (String, Vec<i32>)| {
        let topic = TopicName::new(&topic).ok()?;
        let partition = |index| TopicPartition::new(topic.clone(), PartitionIndex(index));
        Some(indexes.into_iter().map(partition).collect::<Vec<_>>())
    };
    let assigned = assigned.and_then(|topics| topics.into_iter().map(partitions).collect::<Option<Vec<_>>>());
    GroupMemberDescription {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assigned: assigned.map(|topics| topics.into_iter().flatten().collect()),
        target: None,
    }
}
