//! DeleteGroups and OffsetDelete: what a group knows is forgotten.

use super::subscription::subscribed_topics;
use crate::broker::authorise::Operation;
use crate::broker::errors;
use crate::broker::failure::{Failure, expect};
use crate::broker::limits::OFFSETS_FORGOTTEN_AT_ONCE;
use crate::broker::names;
use crate::broker::service::reply_to;
use crate::broker::session::Context;
use crate::core::{AnyGroup, Command, GroupStatus};
use crate::types::{GroupId, PartitionId};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::BTreeSet;

pub(in crate::broker) async fn answer_delete(
    cx: Context,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Failure> {
    cx.check_listed(request.groups_names.len())?;
    let may = cx.may(Operation::DeleteGroups);
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let error_code = match may {
            true => delete(&cx, &GroupId::new(&group_id)).await?,
            false => ErrorCode::GroupAuthorizationFailed,
        };
        let error_message = (error_code != ErrorCode::None).then(|| error_code.meaning().to_owned());
        results.push(DeletableGroupResult { group_id, error_code, error_message });
    }
    Ok(DeleteGroupsResponse { results, ..Default::default() })
}

/// Forgets the group's offsets, in slices, and then the group, if it is empty and no transaction carries offsets of it
/// (rule G5). The state machine looks again: members that come meanwhile keep their group.
async fn delete(cx: &Context, group: &GroupId) -> Result<ErrorCode, Failure> {
    let mut has_offsets = has_offsets(cx, group)?;
    match described(cx, group).await? {
        Found::Nothing if !has_offsets => return Ok(ErrorCode::GroupIdNotFound),
        Found::Nothing | Found::Empty => {}
        Found::Live { .. } => return Ok(ErrorCode::NonEmptyGroup),
    }
    if cx.view().has_pending_offsets(group)? {
        return Ok(ErrorCode::NonEmptyGroup);
    }
    let answer = cx.ask(Command::DeleteGroup { group: group.clone() }).await?;
    let deleted = expect::done(reply_to(answer).await?)?;
    if let Err(refusal) = deleted {
        return errors::code(refusal, cx.api, cx.version);
    }
    while has_offsets {
        let view = cx.view();
        let slice = view.group_offsets(group).take(OFFSETS_FORGOTTEN_AT_ONCE);
        let partitions: Vec<PartitionId> =
            slice.map(|offset| offset.map(|(partition, _)| partition)).collect::<Result<_, _>>()?;
        has_offsets = partitions.len() == OFFSETS_FORGOTTEN_AT_ONCE;
        forget(cx, group, partitions).await?;
    }
    Ok(ErrorCode::None)
}

fn has_offsets(cx: &Context, group: &GroupId) -> Result<bool, Failure> {
    Ok(cx.view().group_offsets(group).next().transpose()?.is_some())
}

/// A group, as far as forgetting is concerned.
enum Found {
    Nothing,
    Empty,
    /// It has members, who subscribe to these topics; none if only they know.
    Live {
        subscribed: Option<BTreeSet<String>>,
    },
}

async fn described(cx: &Context, group: &GroupId) -> Result<Found, Failure> {
    let answer = cx.ask(Command::DescribeGroup { group: group.clone() }).await?;
    Ok(match expect::group(reply_to(answer).await?)? {
        AnyGroup::Classic(group) => match group.status {
            GroupStatus::Dead => Found::Nothing,
            GroupStatus::Empty => Found::Empty,
            _ => Found::Live { subscribed: subscribed_topics(&group) },
        },
        AnyGroup::Consumer(group) if group.members.is_empty() => Found::Empty,
        AnyGroup::Consumer(group) => {
            let mut subscribed: BTreeSet<String> =
                group.members.into_iter().flat_map(|(_, member)| member.said.topics).collect();
            for id in group.matched {
                let topic = names::by_id(&cx.view(), id)?;
                subscribed.extend(topic.map(|topic| topic.row.name.as_str().to_owned()));
            }
            Found::Live { subscribed: Some(subscribed) }
        }
    })
}

async fn forget(cx: &Context, group: &GroupId, partitions: Vec<PartitionId>) -> Result<ErrorCode, Failure> {
    if partitions.is_empty() {
        return Ok(ErrorCode::None);
    }
    let answer = cx.ask(Command::ForgetOffsets { group: group.clone(), partitions }).await?;
    errors::outcome(expect::done(reply_to(answer).await?)?, cx.api, cx.version)
}

pub(in crate::broker) async fn answer_offset_delete(
    cx: Context,
    request: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, Failure> {
    cx.check_listed(request.topics.iter().map(|topic| 1 + topic.partitions.len()).sum())?;
    let group = GroupId::new(&request.group_id);
    let refused = |error_code| OffsetDeleteResponse { error_code, ..Default::default() };
    if !cx.may(Operation::DeleteGroups) {
        return Ok(refused(ErrorCode::GroupAuthorizationFailed));
    }
    let subscribed = match described(&cx, &group).await? {
        Found::Nothing if !has_offsets(&cx, &group)? => return Ok(refused(ErrorCode::GroupIdNotFound)),
        Found::Nothing | Found::Empty => BTreeSet::new(),
        Found::Live { subscribed: Some(topics) } => topics,
        Found::Live { subscribed: None } => return Ok(refused(ErrorCode::NonEmptyGroup)),
    };
    delete_offsets(&cx, &group, request.topics, &subscribed).await
}

async fn delete_offsets(
    cx: &Context,
    group: &GroupId,
    asked: Vec<OffsetDeleteRequestTopic>,
    subscribed: &BTreeSet<String>,
) -> Result<OffsetDeleteResponse, Failure> {
    let view = cx.view();
    let mut forgotten = Vec::new();
    let mut topics = Vec::with_capacity(asked.len());
    for OffsetDeleteRequestTopic { name, partitions } in asked {
        let topic = names::by_name(&view, &name)?;
        let mut answers = Vec::with_capacity(partitions.len());
        for OffsetDeleteRequestPartition { partition_index } in partitions {
            let partition = topic.as_ref().and_then(|topic| topic.partition(partition_index));
            let error_code = match partition {
                None => ErrorCode::UnknownTopicOrPartition,
                Some(_) if subscribed.contains(&name) => ErrorCode::GroupSubscribedToTopic,
                Some(partition) => {
                    forgotten.push(partition);
                    ErrorCode::None
                }
            };
            answers.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        topics.push(OffsetDeleteResponseTopic { name, partitions: answers });
    }
    for slice in forgotten.chunks(OFFSETS_FORGOTTEN_AT_ONCE) {
        forget(cx, group, slice.to_vec()).await?;
    }
    Ok(OffsetDeleteResponse { topics, ..Default::default() })
}
