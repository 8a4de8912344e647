//! Membership of classic groups.

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};
use bytes::Bytes;

messages! {
    /// Joins a classic group.
    request JoinGroupRequest: JoinGroup -> JoinGroupResponse {
        group_id: String => since(0),
        session_timeout_ms: i32 => since(0),
        rebalance_timeout_ms: i32 = -1 => since(1).ignorable(),
        member_id: String => since(0),
        group_instance_id: Option<String> => since(5).nullable(5),
        protocol_type: String => since(0),
        protocols: Vec<JoinGroupRequestProtocol> => since(0),
        reason: Option<String> => since(8).nullable(8).ignorable(),
    }

    /// An assignment protocol that the member can use.
    part JoinGroupRequestProtocol {
        name: String => since(0),
        metadata: Bytes => since(0),
    }

    /// The generation that was formed; its leader gets the members.
    response JoinGroupResponse: JoinGroup {
        throttle_time_ms: i32 => since(2).ignorable(),
        error_code: ErrorCode => since(0),
        generation_id: i32 = -1 => since(0),
        protocol_type: Option<String> => since(7).nullable(7).ignorable(),
        protocol_name: Option<String> = Some(String::new()) => since(0).nullable(7),
        leader: String => since(0),
        skip_assignment: bool => since(9),
        member_id: String => since(0),
        members: Vec<JoinGroupResponseMember> => since(0),
    }

    /// A member and its subscription.
    part JoinGroupResponseMember {
        member_id: String => since(0),
        group_instance_id: Option<String> => since(5).nullable(5).ignorable(),
        metadata: Bytes => since(0),
    }

    /// Hands in the leader's assignment, and asks for one's own.
    request SyncGroupRequest: SyncGroup -> SyncGroupResponse {
        group_id: String => since(0),
        generation_id: i32 => since(0),
        member_id: String => since(0),
        group_instance_id: Option<String> => since(3).nullable(3),
        protocol_type: Option<String> => since(5).nullable(5).ignorable(),
        protocol_name: Option<String> => since(5).nullable(5).ignorable(),
        assignments: Vec<SyncGroupRequestAssignment> => since(0),
    }

    /// A member's assignment.
    part SyncGroupRequestAssignment {
        member_id: String => since(0),
        assignment: Bytes => since(0),
    }

    /// The member's assignment.
    response SyncGroupResponse: SyncGroup {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => since(0),
        protocol_type: Option<String> => since(5).nullable(5).ignorable(),
        protocol_name: Option<String> => since(5).nullable(5).ignorable(),
        assignment: Bytes => since(0),
    }

    /// Keeps a member alive.
    request HeartbeatRequest: Heartbeat -> HeartbeatResponse {
        group_id: String => since(0),
        generation_id: i32 => since(0),
        member_id: String => since(0),
        group_instance_id: Option<String> => since(3).nullable(3),
    }

    /// Whether the member still belongs to the generation.
    response HeartbeatResponse: Heartbeat {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => since(0),
    }

    /// Leaves a group: one member up to version 2, several from 3 on.
    request LeaveGroupRequest: LeaveGroup -> LeaveGroupResponse {
        group_id: String => since(0),
        member_id: String => between(0, 2),
        members: Vec<LeaveGroupMember> => since(3),
    }

    /// A leaving member.
    part LeaveGroupMember {
        member_id: String => since(3),
        group_instance_id: Option<String> => since(3).nullable(3),
        reason: Option<String> => since(5).nullable(5).ignorable(),
    }

    /// What became of each member.
    response LeaveGroupResponse: LeaveGroup {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => since(0),
        members: Vec<LeaveGroupMemberResponse> => since(3),
    }

    /// A member that left, or why it did not.
    part LeaveGroupMemberResponse {
        member_id: String => since(3),
        group_instance_id: Option<String> => since(3).nullable(3),
        error_code: ErrorCode => since(3),
    }
}
