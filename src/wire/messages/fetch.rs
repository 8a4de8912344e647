//! Reading record batches.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{Records, between, since};
use uuid::Uuid;

messages! {
    /// Reads partitions, within a fetch session or without one (KIP-227).
    request FetchRequest: Fetch -> FetchResponse {
        cluster_id: Option<String> => since(12).nullable(12).tagged(0).ignorable(),
        replica_id: i32 = -1 => between(0, 14),
        replica_state: FetchReplicaState => since(15).tagged(1),
        max_wait_ms: i32 => since(0),
        min_bytes: i32 => since(0),
        max_bytes: i32 = i32::MAX => since(3).ignorable(),
        isolation_level: i8 => since(4).ignorable(),
        session_id: i32 => since(7).ignorable(),
        session_epoch: i32 = -1 => since(7).ignorable(),
        topics: Vec<FetchTopic> => since(0),
        forgotten_topics_data: Vec<ForgottenTopic> => since(7),
        rack_id: String => since(11).ignorable(),
    }

    /// The follower that asks; −1 for consumers.
    part FetchReplicaState {
        replica_id: i32 = -1 => since(15),
        replica_epoch: i64 = -1 => since(15),
    }

    /// A topic (by name up to version 12, by id from 13) and its partitions.
    part FetchTopic {
        topic: String => between(0, 12).ignorable(),
        topic_id: TopicId => since(13).ignorable(),
        partitions: Vec<FetchPartition> => since(0),
    }

    /// Partitions that leave the session.
    part ForgottenTopic {
        topic: String => between(7, 12).ignorable(),
        topic_id: TopicId => since(13).ignorable(),
        partitions: Vec<i32> => since(7),
    }

    /// A partition and where to read.
    part FetchPartition {
        partition: i32 => since(0),
        current_leader_epoch: i32 = -1 => since(9).ignorable(),
        fetch_offset: i64 => since(0),
        last_fetched_epoch: i32 = -1 => since(12),
        log_start_offset: i64 = -1 => since(5).ignorable(),
        partition_max_bytes: i32 => since(0),
        replica_directory_id: Uuid => since(17).tagged(0).ignorable(),
        high_watermark: i64 = i64::MAX => since(18).tagged(1).ignorable(),
    }

    /// The records of each partition.
    response FetchResponse: Fetch {
        throttle_time_ms: i32 => since(1).ignorable(),
        error_code: ErrorCode => since(7).ignorable(),
        session_id: i32 => since(7),
        responses: Vec<FetchTopicResponse> => since(0),
        node_endpoints: Vec<FetchNodeEndpoint> => since(16).tagged(0),
    }

    /// A topic's partitions.
    part FetchTopicResponse {
        topic: String => between(0, 12).ignorable(),
        topic_id: TopicId => since(13).ignorable(),
        partitions: Vec<FetchPartitionResponse> => since(0),
    }

    /// A leader's address (KIP-951).
    part FetchNodeEndpoint {
        node_id: i32 => since(16),
        host: String => since(16),
        port: i32 => since(16),
        rack: Option<String> => since(16).nullable(16),
    }

    /// A partition's records and marks. Unused `aborted_transactions` are null.
    part FetchPartitionResponse {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
        high_watermark: i64 => since(0),
        last_stable_offset: i64 = -1 => since(4).ignorable(),
        log_start_offset: i64 = -1 => since(5).ignorable(),
        diverging_epoch: FetchEpochEndOffset => since(12).tagged(0),
        current_leader: FetchLeaderIdAndEpoch => since(12).tagged(1),
        snapshot_id: FetchSnapshotId => since(12).tagged(2),
        aborted_transactions: Option<Vec<AbortedTransaction>> => since(4).nullable(4).ignorable(),
        preferred_read_replica: i32 = -1 => since(11),
        records: Option<Records> => since(0).nullable(0),
    }

    /// Where the reader's history leaves the leader's (KIP-320).
    part FetchEpochEndOffset {
        epoch: i32 = -1 => since(12),
        end_offset: i64 = -1 => since(12),
    }

    /// The partition's leader.
    part FetchLeaderIdAndEpoch {
        leader_id: i32 = -1 => since(12),
        leader_epoch: i32 = -1 => since(12),
    }

    /// A snapshot to fetch instead; KRaft only.
    part FetchSnapshotId {
        end_offset: i64 = -1 => since(0),
        epoch: i32 = -1 => since(0),
    }

    /// An aborted transaction whose marker is among the records.
    part AbortedTransaction {
        producer_id: i64 => since(4),
        first_offset: i64 => since(4),
    }
}
