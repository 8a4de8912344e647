//! Groups as operators see them.

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;
use bytes::Bytes;

messages! {
    /// Asks for classic groups.
    request DescribeGroupsRequest: DescribeGroups -> DescribeGroupsResponse {
        groups: Vec<String> => since(0),
        include_authorized_operations: bool => since(3),
    }

    /// The groups.
    response DescribeGroupsResponse: DescribeGroups {
        throttle_time_ms: i32 => since(1).ignorable(),
        groups: Vec<DescribedGroup> => since(0),
    }

    /// A group and its members.
    part DescribedGroup {
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(6).nullable(6),
        group_id: String => since(0),
        group_state: String => since(0),
        protocol_type: String => since(0),
        protocol_data: String => since(0),
        members: Vec<DescribedGroupMember> => since(0),
        authorized_operations: i32 = -2147483648 => since(3),
    }

    /// A member.
    part DescribedGroupMember {
        member_id: String => since(0),
        group_instance_id: Option<String> => since(4).nullable(4).ignorable(),
        client_id: String => since(0),
        client_host: String => since(0),
        member_metadata: Bytes => since(0),
        member_assignment: Bytes => since(0),
    }

    /// Asks for groups, filtered by state and type.
    request ListGroupsRequest: ListGroups -> ListGroupsResponse {
        states_filter: Vec<String> => since(4),
        types_filter: Vec<String> => since(5),
    }

    /// The groups that this broker coordinates.
    response ListGroupsResponse: ListGroups {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => since(0),
        groups: Vec<ListedGroup> => since(0),
    }

    /// A group.
    part ListedGroup {
        group_id: String => since(0),
        protocol_type: String => since(0),
        group_state: String => since(4).ignorable(),
        group_type: String => since(5).ignorable(),
    }

    /// Deletes groups.
    request DeleteGroupsRequest: DeleteGroups -> DeleteGroupsResponse {
        groups_names: Vec<String> => since(0),
    }

    /// What became of each group.
    response DeleteGroupsResponse: DeleteGroups {
        throttle_time_ms: i32 => since(0),
        results: Vec<DeletableGroupResult> => since(0),
    }

    /// A deleted group, or why it was not.
    part DeletableGroupResult {
        group_id: String => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(3).nullable(3).ignorable(),
    }
}
