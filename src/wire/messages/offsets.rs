//! Finding places in a partition.

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;

messages! {
    /// Finds offsets: by time, or −1 the end, −2 the start, −3 the largest timestamp.
    request ListOffsetsRequest: ListOffsets -> ListOffsetsResponse {
        replica_id: i32 => since(0),
        isolation_level: i8 => since(2),
        topics: Vec<ListOffsetsTopic> => since(0),
        timeout_ms: i32 => since(10).ignorable(),
    }

    /// A topic's partitions.
    part ListOffsetsTopic {
        name: String => since(0),
        partitions: Vec<ListOffsetsPartition> => since(0),
    }

    /// A partition and what to find in it.
    part ListOffsetsPartition {
        partition_index: i32 => since(0),
        current_leader_epoch: i32 = -1 => since(4).ignorable(),
        timestamp: i64 => since(0),
    }

    /// The offsets found.
    response ListOffsetsResponse: ListOffsets {
        throttle_time_ms: i32 => since(2).ignorable(),
        topics: Vec<ListOffsetsTopicResponse> => since(0),
    }

    /// A topic's partitions.
    part ListOffsetsTopicResponse {
        name: String => since(0),
        partitions: Vec<ListOffsetsPartitionResponse> => since(0),
    }

    /// An offset and its timestamp; −1 if there is none.
    part ListOffsetsPartitionResponse {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
        timestamp: i64 = -1 => since(1),
        offset: i64 = -1 => since(1),
        leader_epoch: i32 = -1 => since(4),
    }

    /// Asks where leader epochs end (KIP-101).
    request OffsetForLeaderEpochRequest: OffsetForLeaderEpoch -> OffsetForLeaderEpochResponse {
        replica_id: i32 = -2 => since(3).ignorable(),
        topics: Vec<OffsetForLeaderTopic> => since(0),
    }

    /// A topic's partitions.
    part OffsetForLeaderTopic {
        topic: String => since(0),
        partitions: Vec<OffsetForLeaderPartition> => since(0),
    }

    /// A partition and the epoch in question.
    part OffsetForLeaderPartition {
        partition: i32 => since(0),
        current_leader_epoch: i32 = -1 => since(2).ignorable(),
        leader_epoch: i32 => since(0),
    }

    /// Where each epoch ends.
    response OffsetForLeaderEpochResponse: OffsetForLeaderEpoch {
        throttle_time_ms: i32 => since(2).ignorable(),
        topics: Vec<OffsetForLeaderTopicResult> => since(0),
    }

    /// A topic's partitions.
    part OffsetForLeaderTopicResult {
        topic: String => since(0),
        partitions: Vec<OffsetForLeaderEpochEndOffset> => since(0),
    }

    /// The largest epoch not beyond the one asked for, and its end.
    part OffsetForLeaderEpochEndOffset {
        error_code: ErrorCode => since(0),
        partition: i32 => since(0),
        leader_epoch: i32 = -1 => since(1).ignorable(),
        end_offset: i64 = -1 => since(0),
    }
}
