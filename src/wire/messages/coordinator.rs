//! Coordinators and the offsets they keep.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    request FindCoordinatorRequest: FindCoordinator -> FindCoordinatorResponse {
        key: String => between(0, 3),
        key_type: i8 => since(1),
        coordinator_keys: Vec<String> => since(4),
    }

    response FindCoordinatorResponse: FindCoordinator {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => between(0, 3),
        error_message: Option<String> => between(1, 3).nullable(1).ignorable(),
        node_id: i32 => between(0, 3),
        host: String => between(0, 3),
        port: i32 => between(0, 3),
        coordinators: Vec<FoundCoordinator> => since(4),
    }

    part FoundCoordinator {
        key: String => since(4),
        node_id: i32 => since(4),
        host: String => since(4),
        port: i32 => since(4),
        error_code: ErrorCode => since(4),
        error_message: Option<String> => since(4).nullable(4).ignorable(),
    }

    request OffsetCommitRequest: OffsetCommit -> OffsetCommitResponse {
        group_id: String => since(0),
        generation_id_or_member_epoch: i32 = -1 => since(1).ignorable(),
        member_id: String => since(1).ignorable(),
        group_instance_id: Option<String> => since(7).nullable(7),
        retention_time_ms: i64 = -1 => between(2, 4).ignorable(),
        topics: Vec<OffsetCommitRequestTopic> => since(0),
    }

    part OffsetCommitRequestTopic {
        name: String => between(0, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partitions: Vec<OffsetCommitRequestPartition> => since(0),
    }

    part OffsetCommitRequestPartition {
        partition_index: i32 => since(0),
        committed_offset: i64 => since(0),
        committed_leader_epoch: i32 = -1 => since(6).ignorable(),
        committed_metadata: Option<String> => since(0).nullable(0),
    }

    response OffsetCommitResponse: OffsetCommit {
        throttle_time_ms: i32 => since(3).ignorable(),
        topics: Vec<OffsetCommitResponseTopic> => since(0),
    }

    part OffsetCommitResponseTopic {
        name: String => between(0, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partitions: Vec<OffsetCommitResponsePartition> => since(0),
    }

    part OffsetCommitResponsePartition {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }

    request OffsetFetchRequest: OffsetFetch -> OffsetFetchResponse {
        group_id: String => between(0, 7),
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()) => between(0, 7).nullable(2),
        groups: Vec<OffsetFetchRequestGroup> => since(8),
        require_stable: bool => since(7),
    }

    part OffsetFetchRequestTopic {
        name: String => between(0, 7),
        partition_indexes: Vec<i32> => between(0, 7),
    }

    part OffsetFetchRequestGroup {
        group_id: String => since(8),
        member_id: Option<String> => since(9).nullable(9).ignorable(),
        member_epoch: i32 = -1 => since(9).ignorable(),
        topics: Option<Vec<OffsetFetchRequestTopics>> => since(8).nullable(8),
    }

    part OffsetFetchRequestTopics {
        name: String => between(8, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partition_indexes: Vec<i32> => since(8),
    }

    response OffsetFetchResponse: OffsetFetch {
        throttle_time_ms: i32 => since(3).ignorable(),
        topics: Vec<OffsetFetchResponseTopic> => between(0, 7),
        error_code: ErrorCode => between(2, 7).ignorable(),
        groups: Vec<OffsetFetchResponseGroup> => since(8),
    }

    part OffsetFetchResponseTopic {
        name: String => between(0, 7),
        partitions: Vec<OffsetFetchResponsePartition> => between(0, 7),
    }

    part OffsetFetchResponseGroup {
        group_id: String => since(8),
        topics: Vec<OffsetFetchResponseTopics> => since(8),
        error_code: ErrorCode => since(8),
    }

    part OffsetFetchResponsePartition {
        partition_index: i32 => between(0, 7),
        committed_offset: i64 => between(0, 7),
        committed_leader_epoch: i32 = -1 => between(5, 7).ignorable(),
        metadata: Option<String> => between(0, 7).nullable(0),
        error_code: ErrorCode => between(0, 7),
    }

    part OffsetFetchResponseTopics {
        name: String => between(8, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partitions: Vec<OffsetFetchResponsePartitions> => since(8),
    }

    part OffsetFetchResponsePartitions {
        partition_index: i32 => since(8),
        committed_offset: i64 => since(8),
        committed_leader_epoch: i32 = -1 => since(8).ignorable(),
        metadata: Option<String> => since(8).nullable(8),
        error_code: ErrorCode => since(8),
    }

    request OffsetDeleteRequest: OffsetDelete -> OffsetDeleteResponse {
        group_id: String => since(0),
        topics: Vec<OffsetDeleteRequestTopic> => since(0),
    }

    part OffsetDeleteRequestTopic {
        name: String => since(0),
        partitions: Vec<OffsetDeleteRequestPartition> => since(0),
    }

    part OffsetDeleteRequestPartition {
        partition_index: i32 => since(0),
    }

    response OffsetDeleteResponse: OffsetDelete {
        error_code: ErrorCode => since(0),
        throttle_time_ms: i32 => since(0).ignorable(),
        topics: Vec<OffsetDeleteResponseTopic> => since(0),
    }

    part OffsetDeleteResponseTopic {
        name: String => since(0),
        partitions: Vec<OffsetDeleteResponsePartition> => since(0),
    }

    part OffsetDeleteResponsePartition {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }
}
