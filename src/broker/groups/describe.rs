//! DescribeGroups.

use super::{TOO_MUCH, describe_each, shortened};
use crate::broker::authorise;
use crate::broker::failure::Failure;
use crate::broker::session::Context;
use crate::core::{AnyGroup, GroupDescription, GroupStatus, Member};
use crate::store::ReadView;
use crate::types::{GroupId, MemberId};
use crate::wire::ErrorCode;
use crate::wire::messages::*;

/// The first version that answers GROUP_ID_NOT_FOUND where earlier ones show a dead group (KIP-1043).
const SAYS_NOT_FOUND: i16 = 6;

pub(in crate::broker) async fn answer(
    cx: Context,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Failure> {
    cx.check_listed(request.groups.len())?;
    let operations = match request.include_authorized_operations {
        true => authorise::group_operations(cx.caller.connection.authority),
        false => i32::MIN,
    };
    let groups = describe_each(&cx, request.groups, |group_id, group| {
        let description = match group {
            Some(AnyGroup::Classic(description)) => description,
            Some(AnyGroup::Consumer(_)) => {
                return Ok(not_found(cx.version, &group_id, "is not a classic group"));
            }
            None => return Ok(too_much(cx.version, group_id)),
        };
        let has_offsets = |view: &ReadView| -> Result<bool, Failure> {
            Ok(view.group_offsets(&GroupId::new(&group_id)).next().transpose()?.is_some())
        };
        let dead = description.status == GroupStatus::Dead;
        let group = match dead && has_offsets(&cx.view())? {
            // It never had members: only offsets.
            true => described(&group_id, GroupDescription { status: GroupStatus::Empty, ..description }),
            false if dead => not_found(cx.version, &group_id, "not found"),
            false => described(&group_id, description),
        };
        Ok(DescribedGroup { authorized_operations: operations, ..group })
    });
    Ok(DescribeGroupsResponse { groups: groups.await?, ..Default::default() })
}

fn too_much(version: i16, group_id: String) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::InvalidRequest,
        error_message: (version >= SAYS_NOT_FOUND).then(|| TOO_MUCH.to_owned()),
        group_id,
        ..Default::default()
    }
}

/// A group that is not there, or not of this protocol: earlier versions show it as a dead one.
fn not_found(version: i16, group_id: &str, what: &str) -> DescribedGroup {
    let says_so = version >= SAYS_NOT_FOUND;
    DescribedGroup {
        error_code: if says_so { ErrorCode::GroupIdNotFound } else { ErrorCode::None },
        error_message: says_so.then(|| format!("Group {} {what}.", shortened(group_id))),
        group_id: group_id.to_owned(),
        group_state: GroupStatus::Dead.name().to_owned(),
        ..Default::default()
    }
}

fn described(group_id: &str, description: GroupDescription) -> DescribedGroup {
    let GroupDescription { status, protocol_type, protocol, members } = description;
    let member = |(id, member): (MemberId, Member)| DescribedGroupMember {
        member_id: id.as_str().to_owned(),
        group_instance_id: member.instance.as_ref().map(|instance| instance.as_str().to_owned()),
        member_metadata: member.metadata(&protocol),
        member_assignment: member.assignment,
        client_id: member.client_id,
        client_host: member.client_host,
    };
    let members = members.into_iter().map(member).collect();
    DescribedGroup {
        group_id: group_id.to_owned(),
        group_state: status.name().to_owned(),
        protocol_type,
        members,
        protocol_data: protocol,
        ..Default::default()
    }
}
