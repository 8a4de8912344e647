//! OffsetCommit and OffsetFetch.

use super::errors;
use super::failure::{Failure, expect};
use super::groups::member;
use super::limits::OFFSETS_ANSWER_BYTES_MAX;
use super::names;
use super::service::reply_to;
use super::session::Context;
use crate::core::{
    Command, CommittedOffset, ConsumerGroupRow, ConsumerRow, GroupOffsetKey, MemberKey, OffsetToCommit,
};
use crate::shard::Answer;
use crate::store::ReadView;
use crate::types::{GroupEpoch, GroupId, LeaderEpoch, MemberId, Offset, PartitionId, TopicId};
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};
use std::collections::BTreeMap;
use std::future::Future;

/// Offsets that are looked up where the request is; more are looked up on a thread of their own.
const INLINE_MAX: usize = 256;

/// One partition's offset in a request to commit.
pub(super) struct Asked {
    pub(super) index: i32,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<String>,
}

/// Offsets to commit, sorted into those that can be asked for and those that cannot: what is answered keeps the order of
/// the request.
#[derive(Default)]
pub(super) struct ToCommit {
    pub(super) offsets: Vec<OffsetToCommit>,
    /// Each partition's number, and its code where the shard need not be asked.
    topics: Vec<Vec<(i32, Option<ErrorCode>)>>,
}

impl ToCommit {
    /// Adds the next topic of the request.
    pub(super) fn add(
        &mut self,
        view: &ReadView,
        request: (ApiKey, i16),
        (name, id): (&str, TopicId),
        asked: impl IntoIterator<Item = Asked>,
    ) -> Result<(), Failure> {
        let topic = names::find(view, request, name, id)?;
        let mut answers = Vec::new();
        for Asked { index, offset, leader_epoch, metadata } in asked {
            let partition = match &topic {
                Ok(topic) => topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition),
                Err(code) => Err(*code),
            };
            answers.push((index, partition.err()));
            self.offsets.extend(partition.ok().map(|partition| OffsetToCommit {
                partition,
                offset: Offset(offset),
                leader_epoch: LeaderEpoch(leader_epoch),
                metadata: metadata.unwrap_or_default(),
            }));
        }
        self.topics.push(answers);
        Ok(())
    }

    /// Every partition's code, by topic. `answered` are the codes of [`ToCommit::offsets`], in order.
    pub(super) fn codes(
        self,
        answered: Vec<ErrorCode>,
    ) -> impl Iterator<Item = impl Iterator<Item = (i32, ErrorCode)>> {
        let mut answered = answered.into_iter();
        let mut code = move |(index, known): (i32, Option<ErrorCode>)| {
            let code = known.or_else(|| answered.next()).unwrap_or(ErrorCode::UnknownServerError);
            (index, code)
        };
        self.topics
            .into_iter()
            .map(move |topic| topic.into_iter().map(&mut code).collect::<Vec<_>>().into_iter())
    }

    /// The same code for all.
    pub(super) fn all(&self, code: ErrorCode) -> Vec<ErrorCode> {
        vec![code; self.offsets.len()]
    }
}

/// The codes of the offsets that were asked for.
pub(super) async fn answered(
    cx: &Context,
    asked: Result<Answer, ErrorCode>,
    to_commit: &ToCommit,
) -> Result<Vec<ErrorCode>, Failure> {
    let answer = match asked {
        Err(code) => return Ok(to_commit.all(code)),
        Ok(answer) => answer,
    };
    let answers = expect::each(reply_to(answer).await?, to_commit.offsets.len())?;
    answers.into_iter().map(|answer| errors::outcome(answer, cx.api, cx.version)).collect()
}

pub(super) async fn accept_commit(
    cx: Context,
    request: OffsetCommitRequest,
) -> Result<impl Future<Output = Result<OffsetCommitResponse, Failure>> + Send + 'static, Failure> {
    let OffsetCommitRequest { topics, group_id, .. } = &request;
    cx.check_listed(topics.iter().map(|topic| 1 + topic.partitions.len()).sum())?;
    let mut to_commit = ToCommit::default();
    let view = cx.view();
    for topic in topics {
        let asked = topic.partitions.iter().map(|partition| Asked {
            index: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone(),
        });
        to_commit.add(&view, (cx.api, cx.version), (&topic.name, topic.topic_id), asked)?;
    }
    let instance = request.group_instance_id.as_deref();
    let member = member(group_id, request.generation_id_or_member_epoch, &request.member_id, instance);
    let asked = Ok(cx.ask(Command::CommitOffsets { member, offsets: to_commit.offsets.clone() }).await?);
    Ok(async move {
        let answered = answered(&cx, asked, &to_commit).await?;
        let codes = to_commit.codes(answered);
        let topics = request.topics.into_iter().zip(codes).map(|(topic, codes)| OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: codes
                .map(|(partition_index, error_code)| OffsetCommitResponsePartition {
                    partition_index,
                    error_code,
                })
                .collect(),
        });
        Ok(OffsetCommitResponse { topics: topics.collect(), ..Default::default() })
    })
}

pub(super) async fn answer_fetch(
    cx: Context,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, Failure> {
    let OffsetFetchRequest { group_id, topics, groups, require_stable } = request;
    let several = cx.version >= 8;
    let groups = match several {
        true => groups,
        false => vec![single_group(group_id, topics)],
    };
    let listed = |group: &OffsetFetchRequestGroup| {
        let topics = group.topics.iter().flatten();
        1 + topics.map(|topic| 1 + topic.partition_indexes.len()).sum::<usize>()
    };
    let count = groups.iter().map(listed).sum();
    cx.check_listed(count)?;
    let few = count <= INLINE_MAX && groups.iter().all(|group| group.topics.is_some());
    let (api, version) = (cx.api, cx.version);
    let read = move |view: &ReadView| -> Result<Vec<OffsetFetchResponseGroup>, Failure> {
        let mut look = Look { view, request: (api, version), require_stable, room: OFFSETS_ANSWER_BYTES_MAX };
        groups.into_iter().map(|group| look.group(group)).collect()
    };
    let groups = match few {
        true => read(&cx.view())?,
        false => cx.node.scan(move |view| read(&view)).await?,
    };
    Ok(match several {
        true => OffsetFetchResponse { groups, ..Default::default() },
        false => single_response(groups),
    })
}

/// A request of the versions that ask for one group, as the later ones would put it.
fn single_group(group_id: String, topics: Option<Vec<OffsetFetchRequestTopic>>) -> OffsetFetchRequestGroup {
    let topic = |topic: OffsetFetchRequestTopic| OffsetFetchRequestTopics {
        name: topic.name,
        partition_indexes: topic.partition_indexes,
        ..Default::default()
    };
    let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
    OffsetFetchRequestGroup { group_id, topics, ..Default::default() }
}

/// The answer for one group, as the earlier versions put it.
fn single_response(groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    let Some(group) = groups.into_iter().next() else { return OffsetFetchResponse::default() };
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    let topics = group.topics.into_iter().map(topic).collect();
    OffsetFetchResponse { topics, error_code: group.error_code, ..Default::default() }
}

/// Looks for what one request asks for.
struct Look<'v> {
    view: &'v ReadView,
    request: (ApiKey, i16),
    require_stable: bool,
    /// Bytes that may still be answered.
    room: usize,
}

impl Look<'_> {
    fn group(&mut self, asked: OffsetFetchRequestGroup) -> Result<OffsetFetchResponseGroup, Failure> {
        // As in Kafka, whoever may read a classic group's offsets need not be one of its members.
        let OffsetFetchRequestGroup { group_id, topics, member_id, member_epoch } = asked;
        let group = GroupId::new(&group_id);
        let refused =
            |group_id, error_code| OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code };
        if let Err(error_code) = check_member(self.view, &group, member_id.as_deref(), member_epoch)? {
            return Ok(refused(group_id, error_code));
        }
        let found = match topics {
            None => self.all(&group)?,
            Some(topics) => self.topics(&group, topics)?,
        };
        Ok(match found {
            Some(topics) => OffsetFetchResponseGroup { group_id, topics, error_code: ErrorCode::None },
            None => refused(group_id, ErrorCode::InvalidRequest),
        })
    }

    /// Whether there is room for one more offset.
    fn has_room(&mut self, offset: &OffsetFetchResponsePartitions) -> bool {
        let bytes = size_of::<OffsetFetchResponsePartitions>();
        let bytes = bytes + offset.metadata.as_ref().map_or(0, String::len);
        self.room.checked_sub(bytes).is_some_and(|room| {
            self.room = room;
            true
        })
    }

    /// Every committed offset of a group, of the topics that there still are; none if there is no room for all.
    fn all(&mut self, group: &GroupId) -> Result<Option<Vec<OffsetFetchResponseTopics>>, Failure> {
        let mut by_topic: BTreeMap<TopicId, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
        for offset in self.view.group_offsets(group) {
            let (partition, committed) = offset?;
            let answer = match self.require_stable && is_unstable(self.view, group, partition)? {
                true => no_offset(partition.index.0, ErrorCode::UnstableOffsetCommit),
                false => found_offset(partition.index.0, committed),
            };
            if !self.has_room(&answer) {
                return Ok(None);
            }
            by_topic.entry(partition.topic).or_default().push(answer);
        }
        let mut topics = Vec::with_capacity(by_topic.len());
        for (topic_id, partitions) in by_topic {
            if let Some(topic) = names::by_id(self.view, topic_id)? {
                let name = topic.row.name.as_str().to_owned();
                topics.push(OffsetFetchResponseTopics { name, topic_id, partitions });
            }
        }
        Ok(Some(topics))
    }

    /// The offsets of the partitions asked for; none if there is no room for all.
    fn topics(
        &mut self,
        group: &GroupId,
        asked: Vec<OffsetFetchRequestTopics>,
    ) -> Result<Option<Vec<OffsetFetchResponseTopics>>, Failure> {
        let mut topics = Vec::with_capacity(asked.len());
        for OffsetFetchRequestTopics { name, topic_id, partition_indexes } in asked {
            let topic = names::find(self.view, self.request, &name, topic_id)?;
            let mut partitions = Vec::with_capacity(partition_indexes.len());
            for index in partition_indexes {
                let offset = match &topic {
                    Ok(topic) => match topic.partition(index) {
                        Some(partition) => offset_of(self.view, group, partition, self.require_stable)?,
                        // Nothing was ever committed: that is no error in Kafka either.
                        None => no_offset(index, ErrorCode::None),
                    },
                    Err(ErrorCode::UnknownTopicId) => no_offset(index, ErrorCode::UnknownTopicId),
                    Err(_) => no_offset(index, ErrorCode::None),
                };
                if !self.has_room(&offset) {
                    return Ok(None);
                }
                partitions.push(offset);
            }
            topics.push(OffsetFetchResponseTopics { name, topic_id, partitions });
        }
        Ok(Some(topics))
    }
}

/// G10: who names a member of a group of the consumer protocol must be it.
fn check_member(
    view: &ReadView,
    group: &GroupId,
    member: Option<&str>,
    epoch: i32,
) -> Result<Result<(), ErrorCode>, Failure> {
    let names_nobody = member.is_none_or(str::is_empty) && epoch < 0;
    if names_nobody || view.get::<ConsumerGroupRow>(group)?.is_none() {
        return Ok(Ok(()));
    }
    let key = MemberKey { group: group.clone(), member: MemberId::new(member.unwrap_or_default()) };
    Ok(match view.get::<ConsumerRow>(&key)? {
        None => Err(ErrorCode::UnknownMemberId),
        Some(row) if epoch < 0 || row.held.epoch != GroupEpoch(epoch) => Err(ErrorCode::StaleMemberEpoch),
        Some(_) => Ok(()),
    })
}

fn offset_of(
    view: &ReadView,
    group: &GroupId,
    partition: PartitionId,
    require_stable: bool,
) -> Result<OffsetFetchResponsePartitions, Failure> {
    let index = partition.index.0;
    if require_stable && is_unstable(view, group, partition)? {
        return Ok(no_offset(index, ErrorCode::UnstableOffsetCommit));
    }
    let key = GroupOffsetKey { group: group.clone(), partition };
    Ok(match view.get::<CommittedOffset>(&key)? {
        Some(committed) => found_offset(index, committed),
        None => no_offset(index, ErrorCode::None),
    })
}

/// Whether an open transaction carries an offset of this partition: its outcome is not known yet (KIP-447).
fn is_unstable(view: &ReadView, group: &GroupId, partition: PartitionId) -> Result<bool, Failure> {
    Ok(view.has_pending_offset(&GroupOffsetKey { group: group.clone(), partition })?)
}

fn found_offset(partition_index: i32, committed: CommittedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.offset.0,
        committed_leader_epoch: committed.leader_epoch.0,
        metadata: Some(committed.metadata),
        error_code: ErrorCode::None,
    }
}

fn no_offset(partition_index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code,
    }
}
