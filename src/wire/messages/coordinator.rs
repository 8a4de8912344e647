//! Coordinators and the offsets they keep.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    /// Asks who coordinates: `key_type` 0 a group, 1 a transactional id; several keys from version 4 on.
    request FindCoordinatorRequest: FindCoordinator -> FindCoordinatorResponse {
        key: String => between(0, 3),
        key_type: i8 => since(1),
        coordinator_keys: Vec<String> => since(4),
    }

    /// The coordinators: at the top level up to version 3, as a list from 4 on.
    response FindCoordinatorResponse: FindCoordinator {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => between(0, 3),
        error_message: Option<String> => between(1, 3).nullable(1).ignorable(),
        node_id: i32 => between(0, 3),
        host: String => between(0, 3),
        port: i32 => between(0, 3),
        coordinators: Vec<FoundCoordinator> => since(4),
    }

    /// A key's coordinator.
    part FoundCoordinator {
        key: String => since(4),
        node_id: i32 => since(4),
        host: String => since(4),
        port: i32 => since(4),
        error_code: ErrorCode => since(4),
        error_message: Option<String> => since(4).nullable(4).ignorable(),
    }

    /// Stores a group's offsets.
    request OffsetCommitRequest: OffsetCommit -> OffsetCommitResponse {
        group_id: String => since(0),
        generation_id_or_member_epoch: i32 = -1 => since(1).ignorable(),
        member_id: String => since(1).ignorable(),
        group_instance_id: Option<String> => since(7).nullable(7),
        retention_time_ms: i64 = -1 => between(2, 4).ignorable(),
        topics: Vec<OffsetCommitRequestTopic> => since(0),
    }

    /// A topic (by name up to version 9, by id from 10) and its partitions.
    part OffsetCommitRequestTopic {
        name: String => between(0, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partitions: Vec<OffsetCommitRequestPartition> => since(0),
    }

    /// A partition's next offset to read.
    part OffsetCommitRequestPartition {
        partition_index: i32 => since(0),
        committed_offset: i64 => since(0),
        committed_leader_epoch: i32 = -1 => since(6).ignorable(),
        committed_metadata: Option<String> => since(0).nullable(0),
    }

    /// What became of each offset.
    response OffsetCommitResponse: OffsetCommit {
        throttle_time_ms: i32 => since(3).ignorable(),
        topics: Vec<OffsetCommitResponseTopic> => since(0),
    }

    /// A topic's partitions.
    part OffsetCommitResponseTopic {
        name: String => between(0, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partitions: Vec<OffsetCommitResponsePartition> => since(0),
    }

    /// A stored offset, or why it is not.
    part OffsetCommitResponsePartition {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }

    /// Asks for a group's offsets; for those of several groups from version 8 on. Null topics are all.
    request OffsetFetchRequest: OffsetFetch -> OffsetFetchResponse {
        group_id: String => between(0, 7),
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()) => between(0, 7).nullable(2),
        groups: Vec<OffsetFetchRequestGroup> => since(8),
        require_stable: bool => since(7),
    }

    /// A topic's partitions.
    part OffsetFetchRequestTopic {
        name: String => between(0, 7),
        partition_indexes: Vec<i32> => between(0, 7),
    }

    /// A group and the partitions asked for.
    part OffsetFetchRequestGroup {
        group_id: String => since(8),
        member_id: Option<String> => since(9).nullable(9).ignorable(),
        member_epoch: i32 = -1 => since(9).ignorable(),
        topics: Option<Vec<OffsetFetchRequestTopics>> => since(8).nullable(8),
    }

    /// A topic (by name up to version 9, by id from 10) and its partitions.
    part OffsetFetchRequestTopics {
        name: String => between(8, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partition_indexes: Vec<i32> => since(8),
    }

    /// The offsets.
    response OffsetFetchResponse: OffsetFetch {
        throttle_time_ms: i32 => since(3).ignorable(),
        topics: Vec<OffsetFetchResponseTopic> => between(0, 7),
        error_code: ErrorCode => between(2, 7).ignorable(),
        groups: Vec<OffsetFetchResponseGroup> => since(8),
    }

    /// A topic's partitions.
    part OffsetFetchResponseTopic {
        name: String => between(0, 7),
        partitions: Vec<OffsetFetchResponsePartition> => between(0, 7),
    }

    /// A group's offsets.
    part OffsetFetchResponseGroup {
        group_id: String => since(8),
        topics: Vec<OffsetFetchResponseTopics> => since(8),
        error_code: ErrorCode => since(8),
    }

    /// A partition's offset; −1 if there is none.
    part OffsetFetchResponsePartition {
        partition_index: i32 => between(0, 7),
        committed_offset: i64 => between(0, 7),
        committed_leader_epoch: i32 = -1 => between(5, 7).ignorable(),
        metadata: Option<String> => between(0, 7).nullable(0),
        error_code: ErrorCode => between(0, 7),
    }

    /// A topic's partitions.
    part OffsetFetchResponseTopics {
        name: String => between(8, 9).ignorable(),
        topic_id: TopicId => since(10).ignorable(),
        partitions: Vec<OffsetFetchResponsePartitions> => since(8),
    }

    /// A partition's offset; −1 if there is none.
    part OffsetFetchResponsePartitions {
        partition_index: i32 => since(8),
        committed_offset: i64 => since(8),
        committed_leader_epoch: i32 = -1 => since(8).ignorable(),
        metadata: Option<String> => since(8).nullable(8),
        error_code: ErrorCode => since(8),
    }

    /// Deletes a group's offsets.
    request OffsetDeleteRequest: OffsetDelete -> OffsetDeleteResponse {
        group_id: String => since(0),
        topics: Vec<OffsetDeleteRequestTopic> => since(0),
    }

    /// A topic's partitions.
    part OffsetDeleteRequestTopic {
        name: String => since(0),
        partitions: Vec<OffsetDeleteRequestPartition> => since(0),
    }

    /// A partition.
    part OffsetDeleteRequestPartition {
        partition_index: i32 => since(0),
    }

    /// What became of each offset.
    response OffsetDeleteResponse: OffsetDelete {
        error_code: ErrorCode => since(0),
        throttle_time_ms: i32 => since(0).ignorable(),
        topics: Vec<OffsetDeleteResponseTopic> => since(0),
    }

    /// A topic's partitions.
    part OffsetDeleteResponseTopic {
        name: String => since(0),
        partitions: Vec<OffsetDeleteResponsePartition> => since(0),
    }

    /// A deleted offset, or why it was not.
    part OffsetDeleteResponsePartition {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }
}
