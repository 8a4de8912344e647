//! Groups of the consumer protocol (KIP-848).

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;

messages! {
    /// Joins a group of the consumer protocol, goes on in it, or leaves it. Null is: as before.
    request ConsumerGroupHeartbeatRequest: ConsumerGroupHeartbeat -> ConsumerGroupHeartbeatResponse {
        group_id: String => since(0),
        member_id: String => since(0),
        member_epoch: i32 => since(0),
        instance_id: Option<String> => since(0).nullable(0),
        rack_id: Option<String> => since(0).nullable(0),
        rebalance_timeout_ms: i32 = -1 => since(0),
        subscribed_topic_names: Option<Vec<String>> => since(0).nullable(0),
        subscribed_topic_regex: Option<String> => since(1).nullable(1),
        server_assignor: Option<String> => since(0).nullable(0),
        topic_partitions: Option<Vec<ConsumerGroupTopicPartitions>> => since(0).nullable(0),
    }

    /// A topic's partitions.
    part ConsumerGroupTopicPartitions {
        topic_id: TopicId => since(0),
        partitions: Vec<i32> => since(0),
    }

    /// The member's epoch, and what is assigned to it if that is news.
    response ConsumerGroupHeartbeatResponse: ConsumerGroupHeartbeat {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        member_id: Option<String> => since(0).nullable(0),
        member_epoch: i32 => since(0),
        heartbeat_interval_ms: i32 => since(0),
        assignment: Option<ConsumerGroupHeartbeatAssignment> => since(0).nullable(0),
    }

    /// What is assigned to a member.
    part ConsumerGroupHeartbeatAssignment {
        topic_partitions: Vec<ConsumerGroupTopicPartitions> => since(0),
    }

    /// Asks for groups of the consumer protocol.
    request ConsumerGroupDescribeRequest: ConsumerGroupDescribe -> ConsumerGroupDescribeResponse {
        group_ids: Vec<String> => since(0),
        include_authorized_operations: bool => since(0),
    }

    /// The groups.
    response ConsumerGroupDescribeResponse: ConsumerGroupDescribe {
        throttle_time_ms: i32 => since(0),
        groups: Vec<ConsumerGroupDescribed> => since(0),
    }

    /// A group and its members.
    part ConsumerGroupDescribed {
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        group_id: String => since(0),
        group_state: String => since(0),
        group_epoch: i32 => since(0),
        assignment_epoch: i32 => since(0),
        assignor_name: String => since(0),
        members: Vec<ConsumerGroupDescribedMember> => since(0),
        authorized_operations: i32 = -2147483648 => since(0),
    }

    /// A member. Its type is 0 for the classic protocol, 1 for the consumer protocol.
    part ConsumerGroupDescribedMember {
        member_id: String => since(0),
        instance_id: Option<String> => since(0).nullable(0),
        rack_id: Option<String> => since(0).nullable(0),
        member_epoch: i32 => since(0),
        client_id: String => since(0),
        client_host: String => since(0),
        subscribed_topic_names: Vec<String> => since(0),
        subscribed_topic_regex: Option<String> => since(0).nullable(0),
        assignment: ConsumerGroupDescribedAssignment => since(0),
        target_assignment: ConsumerGroupDescribedAssignment => since(0),
        member_type: i8 = -1 => since(1).ignorable(),
    }

    /// What a member has, or is to have.
    part ConsumerGroupDescribedAssignment {
        topic_partitions: Vec<ConsumerGroupDescribedTopic> => since(0),
    }

    /// A topic's partitions.
    part ConsumerGroupDescribedTopic {
        topic_id: TopicId => since(0),
        topic_name: String => since(0),
        partitions: Vec<i32> => since(0),
    }
}
