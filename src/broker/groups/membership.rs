//! What members ask: to join, for their assignment, to be kept, to go.

use super::subscription::{by_index, named};
use super::{explain, member};
use crate::broker::errors;
use crate::broker::failure::{Failure, expect};
use crate::broker::service::reply_to;
use crate::broker::session::Context;
use crate::core::limits::{GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, MEMBER_ID_BYTES_MAX};
use crate::core::{
    Assignment, Command, ConsumerMetadata, JoinGroup, Joined, JoinedMember, LeavingMember, Member,
    MemberProtocol, Refusal, SyncGroup, Synced,
};
use crate::types::{GroupId, InstanceId, MemberId, outside};
use crate::wire::ErrorCode;
use crate::wire::consumer_protocol::{self, CONSUMER, Subscription};
use crate::wire::messages::*;
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// The first version whose dynamic members are sent back to join with the id they got (KIP-394).
const KNOWN_MEMBERS: i16 = 4;
/// The first version whose static leaders can be told to leave the assignment as it is (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;

pub(in crate::broker) async fn accept_join(
    cx: Context,
    request: JoinGroupRequest,
) -> Result<impl Future<Output = Result<JoinGroupResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.protocols.len())?;
    let asked_as = request.member_id.clone();
    let group = request.group_id.clone();
    let fresh = fresh_member_id(&cx, request.group_instance_id.as_deref());
    let asked = match check_join(&cx, &request) {
        Ok(()) => Ok(cx.ask(Command::JoinGroup(Box::new(join_of(&cx, request, &fresh)))).await?),
        Err(code) => Err(code),
    };
    Ok(async move {
        let (api, version) = (cx.api, cx.version);
        let refused = |member_id: String, error_code| JoinGroupResponse {
            error_code,
            member_id,
            // Versions before 7 have no null here.
            protocol_name: if version >= 7 { None } else { Some(String::new()) },
            ..Default::default()
        };
        let answer = match asked {
            Ok(answer) => expect::joined(reply_to(answer).await?)?,
            Err(code) => return Ok(refused(asked_as, code)),
        };
        Ok(match answer {
            Ok(joined) => join_response(joined),
            Err(refusal) => {
                explain(&cx, &group, refusal);
                let id = if refusal == Refusal::MemberIdRequired { fresh } else { asked_as };
                refused(id, errors::code(refusal, api, version)?)
            }
        })
    })
}

fn check_join(cx: &Context, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    let timeout = u64::try_from(request.session_timeout_ms).map(Duration::from_millis);
    let allowed = &cx.node.config.group_session_timeout;
    if request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else if !timeout.is_ok_and(|timeout| allowed.contains(&timeout)) {
        Err(ErrorCode::InvalidSessionTimeout)
    } else {
        Ok(())
    }
}

/// A member id that nobody has had: what the member calls itself, cut to what there is room for, and a number drawn at random.
fn fresh_member_id(cx: &Context, instance: Option<&str>) -> String {
    let drawn = format!("-{}", outside::uuid());
    let name = instance.unwrap_or(&cx.client_id);
    let room = name.floor_char_boundary(MEMBER_ID_BYTES_MAX.saturating_sub(drawn.len()));
    format!("{}{drawn}", name.get(..room).unwrap_or_default())
}

fn join_of(cx: &Context, request: JoinGroupRequest, fresh: &str) -> JoinGroup {
    let millis = |millis: i32| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    let session_timeout = millis(request.session_timeout_ms);
    // Version 0 has one timeout for both.
    let rebalance_timeout =
        if request.rebalance_timeout_ms < 0 { session_timeout } else { millis(request.rebalance_timeout_ms) };
    let protocol = |protocol: JoinGroupRequestProtocol| MemberProtocol {
        name: protocol.name,
        metadata: owned(&protocol.metadata),
    };
    JoinGroup {
        request: cx.node.next_request(),
        group: GroupId::new(&request.group_id),
        member: MemberId::new(&request.member_id),
        fresh: MemberId::new(fresh),
        requires_known_member: cx.version >= KNOWN_MEMBERS && request.group_instance_id.is_none(),
        can_skip_assignment: cx.version >= SKIPS_ASSIGNMENT,
        initial_delay: cx.node.config.group_initial_rebalance_delay,
        decision_bytes_max: cx.node.config.decision_bytes_max,
        consumes: consumes(&request),
        protocol_type: request.protocol_type,
        joiner: Member {
            instance: request.group_instance_id.as_deref().map(InstanceId::new),
            client_id: cx.client_id.to_string(),
            client_host: format!("/{}", cx.caller.connection.peer.ip()),
            session_timeout,
            rebalance_timeout: rebalance_timeout.min(cx.node.config.group_rebalance_timeout_max),
            protocols: request.protocols.into_iter().map(protocol).collect(),
            assignment: Bytes::new(),
        },
    }
}

/// What a consumer says of itself. It says the same in all protocols that it can use.
fn consumes(request: &JoinGroupRequest) -> Option<ConsumerMetadata> {
    let first = request.protocols.first().filter(|_| request.protocol_type == CONSUMER)?;
    // One that is longer is refused anyway, and names more topics than are worth the memory.
    if first.metadata.len() > GROUP_METADATA_BYTES_MAX {
        return None;
    }
    let Subscription { topics, owned } = Subscription::read(first.metadata.clone())?;
    Some(ConsumerMetadata { topics: topics.into_iter().collect(), owned: named(owned) })
}

/// What is kept longer than the request must not keep the request's memory.
fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn join_response(joined: Joined) -> JoinGroupResponse {
    let Joined { generation, protocol_type, protocol, leader, member, skip_assignment, members } = joined;
    let seen = |JoinedMember { member, instance, metadata }: JoinedMember| JoinGroupResponseMember {
        member_id: member.as_str().to_owned(),
        group_instance_id: instance.map(|instance| instance.as_str().to_owned()),
        metadata,
    };
    JoinGroupResponse {
        generation_id: generation.0,
        protocol_type: Some(protocol_type),
        protocol_name: Some(protocol),
        leader: leader.as_str().to_owned(),
        skip_assignment,
        member_id: member.as_str().to_owned(),
        members: members.into_iter().map(seen).collect(),
        ..Default::default()
    }
}

pub(in crate::broker) async fn accept_sync(
    cx: Context,
    request: SyncGroupRequest,
) -> Result<impl Future<Output = Result<SyncGroupResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.assignments.len())?;
    let instance = request.group_instance_id.as_deref();
    let assignments = request.assignments.iter();
    let sync = SyncGroup {
        request: cx.node.next_request(),
        member: member(&request.group_id, request.generation_id, &request.member_id, instance),
        protocol_type: request.protocol_type.clone(),
        protocol: request.protocol_name.clone(),
        assignments: assignments
            .map(|given| (MemberId::new(&given.member_id), owned(&given.assignment)))
            .collect(),
    };
    // KIP-559: from version 5 on, a member says which protocol it believes in.
    let says_nothing = cx.version >= 5 && (sync.protocol_type.is_none() || sync.protocol.is_none());
    let asked = match says_nothing {
        true => Err(ErrorCode::InconsistentGroupProtocol),
        false => Ok(cx.ask(Command::SyncGroup(sync)).await?),
    };
    Ok(async move {
        let answer = match asked {
            Ok(answer) => expect::synced(reply_to(answer).await?)?,
            Err(error_code) => return Ok(SyncGroupResponse { error_code, ..Default::default() }),
        };
        Ok(match answer {
            Ok(Synced { protocol_type, protocol, assignment }) => SyncGroupResponse {
                protocol_type: Some(protocol_type),
                protocol_name: Some(protocol),
                assignment: match assignment {
                    Assignment::ByLeader(bytes) => bytes,
                    Assignment::ByBroker(topics) => consumer_protocol::assignment(&by_index(topics)),
                },
                ..Default::default()
            },
            Err(refusal) => {
                explain(&cx, &request.group_id, refusal);
                let error_code = errors::code(refusal, cx.api, cx.version)?;
                SyncGroupResponse { error_code, ..Default::default() }
            }
        })
    })
}

pub(in crate::broker) async fn accept_heartbeat(
    cx: Context,
    request: HeartbeatRequest,
) -> Result<impl Future<Output = Result<HeartbeatResponse, Failure>> + Send + 'static, Failure> {
    let instance = request.group_instance_id.as_deref();
    let member = member(&request.group_id, request.generation_id, &request.member_id, instance);
    let asked = cx.ask(Command::Heartbeat(member)).await?;
    Ok(async move {
        let outcome = expect::done(reply_to(asked).await?)?;
        let error_code = errors::outcome(outcome, cx.api, cx.version)?;
        Ok(HeartbeatResponse { error_code, ..Default::default() })
    })
}

/// The first version in which several members leave at once (KIP-345).
const LEAVES_TOGETHER: i16 = 3;

pub(in crate::broker) async fn accept_leave(
    cx: Context,
    request: LeaveGroupRequest,
) -> Result<impl Future<Output = Result<LeaveGroupResponse, Failure>> + Send + 'static, Failure> {
    let LeaveGroupRequest { group_id, member_id, members } = request;
    cx.check_listed(members.len())?;
    let together = cx.version >= LEAVES_TOGETHER;
    // A group has no more, and each of them is looked for among the others.
    let too_many = members.len() > GROUP_MEMBERS_MAX;
    let members = match together {
        true => members,
        false => vec![LeaveGroupMember { member_id, ..Default::default() }],
    };
    let leaving = members.iter().map(|member| LeavingMember {
        member: MemberId::new(&member.member_id),
        instance: member.group_instance_id.as_deref().map(InstanceId::new),
    });
    let command = Command::LeaveGroup { group: GroupId::new(&group_id), members: leaving.collect() };
    let asked = if too_many { None } else { Some(cx.ask(command).await?) };
    Ok(async move {
        let Some(asked) = asked else {
            return Ok(LeaveGroupResponse { error_code: ErrorCode::InvalidRequest, ..Default::default() });
        };
        let answers = expect::each(reply_to(asked).await?, members.len())?;
        let codes = answers.into_iter().map(|answer| errors::outcome(answer, cx.api, cx.version));
        let codes = codes.collect::<Result<Vec<_>, _>>()?;
        if !together {
            let error_code = codes.into_iter().next().unwrap_or_default();
            return Ok(LeaveGroupResponse { error_code, ..Default::default() });
        }
        let members = members.into_iter().zip(codes).map(|(member, error_code)| LeaveGroupMemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code,
        });
        Ok(LeaveGroupResponse { members: members.collect(), ..Default::default() })
    })
}
