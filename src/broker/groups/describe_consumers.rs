//! ConsumerGroupDescribe: groups of the consumer protocol, as operators see them.

use super::consumers::by_topic;
use super::{TOO_MUCH, describe_each, shortened};
use crate::broker::authorise;
use crate::broker::failure::Failure;
use crate::broker::names;
use crate::broker::session::Context;
use crate::core::{AnyGroup, ConsumerGroupDescription, ConsumerRow, Speaks};
use crate::store::{ReadView, StoreError};
use crate::types::{MemberId, PartitionId};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::BTreeSet;

pub(in crate::broker) async fn answer(
    cx: Context,
    request: ConsumerGroupDescribeRequest,
) -> Result<ConsumerGroupDescribeResponse, Failure> {
    cx.check_listed(request.group_ids.len())?;
    let authorized_operations = match request.include_authorized_operations {
        true => authorise::group_operations(cx.caller.connection.authority),
        false => i32::MIN,
    };
    let groups = describe_each(&cx, request.group_ids, |group_id, group| {
        let group = match group {
            Some(AnyGroup::Consumer(group)) => described(&cx.view(), group_id, group)?,
            Some(AnyGroup::Classic(_)) => {
                let message = format!("Group {} is not a consumer group.", shortened(&group_id));
                refused(group_id, ErrorCode::GroupIdNotFound, message)
            }
            None => refused(group_id, ErrorCode::InvalidRequest, TOO_MUCH.to_owned()),
        };
        Ok(ConsumerGroupDescribed { authorized_operations, ..group })
    });
    Ok(ConsumerGroupDescribeResponse { groups: groups.await?, ..Default::default() })
}

fn refused(group_id: String, error_code: ErrorCode, message: String) -> ConsumerGroupDescribed {
    ConsumerGroupDescribed { error_code, error_message: Some(message), group_id, ..Default::default() }
}

fn described(
    view: &ReadView,
    group_id: String,
    group: ConsumerGroupDescription,
) -> Result<ConsumerGroupDescribed, StoreError> {
    let members = group.members.into_iter().map(|(id, row)| described_member(view, &id, row));
    Ok(ConsumerGroupDescribed {
        group_id,
        group_state: group.status.name().to_owned(),
        group_epoch: group.epoch.0,
        assignment_epoch: group.target_epoch.0,
        assignor_name: group.assignor.name().to_owned(),
        members: members.collect::<Result<_, _>>()?,
        ..Default::default()
    })
}

fn described_member(
    view: &ReadView,
    id: &MemberId,
    row: ConsumerRow,
) -> Result<ConsumerGroupDescribedMember, StoreError> {
    let ConsumerRow { said, target, held } = row;
    Ok(ConsumerGroupDescribedMember {
        member_id: id.as_str().to_owned(),
        instance_id: said.instance.map(|instance| instance.as_str().to_owned()),
        rack_id: said.rack,
        member_epoch: held.epoch.0,
        client_id: said.client_id,
        client_host: said.client_host,
        subscribed_topic_names: said.topics.into_iter().collect(),
        subscribed_topic_regex: said.pattern,
        assignment: described_assignment(view, &held.assigned)?,
        target_assignment: described_assignment(view, &target)?,
        member_type: match said.speaks {
            Speaks::Classic { .. } => 0,
            Speaks::Consumer => 1,
        },
    })
}

/// Partitions of topics that there still are.
fn described_assignment(
    view: &ReadView,
    partitions: &BTreeSet<PartitionId>,
) -> Result<ConsumerGroupDescribedAssignment, StoreError> {
    let mut topic_partitions = Vec::new();
    for (topic_id, partitions) in by_topic(partitions) {
        topic_partitions.extend(names::by_id(view, topic_id)?.map(|topic| ConsumerGroupDescribedTopic {
            topic_id,
            topic_name: topic.row.name.as_str().to_owned(),
            partitions,
        }));
    }
    Ok(ConsumerGroupDescribedAssignment { topic_partitions })
}
