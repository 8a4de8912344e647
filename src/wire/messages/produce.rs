//! Appending record batches.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{Records, between, since};

messages! {
    /// Appends record batches. `acks` is 0, 1 or −1.
    request ProduceRequest: Produce -> ProduceResponse {
        transactional_id: Option<String> => since(3).nullable(3),
        acks: i16 => since(0),
        timeout_ms: i32 => since(0),
        topic_data: Vec<ProduceTopic> => since(0),
        commits: bool => since(12).tagged(28_000).ignorable(),
    }

    /// A topic (by name up to version 12, by id from 13) and its partitions.
    part ProduceTopic {
        name: String => between(0, 12).ignorable(),
        topic_id: TopicId => since(13).ignorable(),
        partition_data: Vec<ProducePartition> => since(0),
    }

    /// A partition and exactly one record batch for it.
    part ProducePartition {
        index: i32 => since(0),
        records: Option<Records> => since(0).nullable(0),
    }

    /// What became of each batch.
    response ProduceResponse: Produce {
        responses: Vec<ProduceTopicResponse> => since(0),
        throttle_time_ms: i32 => since(1).ignorable(),
        node_endpoints: Vec<ProduceNodeEndpoint> => since(10).tagged(0),
        committed: ProduceCommitted => since(12).tagged(28_000).ignorable(),
    }

    /// semel's own (`spec/protocol.md`): the transaction that the request's batches are the last of is committed, and the
    /// producer goes on with this identity.
    part ProduceCommitted {
        producer_id: i64 = -1 => since(12),
        producer_epoch: i16 = -1 => since(12),
    }

    /// A topic's partitions.
    part ProduceTopicResponse {
        name: String => between(0, 12).ignorable(),
        topic_id: TopicId => since(13).ignorable(),
        partition_responses: Vec<ProducePartitionResponse> => since(0),
    }

    /// A leader's address (KIP-951).
    part ProduceNodeEndpoint {
        node_id: i32 => since(10),
        host: String => since(10),
        port: i32 => since(10),
        rack: Option<String> => since(10).nullable(10),
    }

    /// Where the batch was appended, or why it was not.
    part ProducePartitionResponse {
        index: i32 => since(0),
        error_code: ErrorCode => since(0),
        base_offset: i64 => since(0),
        log_append_time_ms: i64 = -1 => since(2).ignorable(),
        log_start_offset: i64 = -1 => since(5).ignorable(),
        record_errors: Vec<ProduceRecordError> => since(8).ignorable(),
        error_message: Option<String> => since(8).nullable(8).ignorable(),
        current_leader: ProduceLeaderIdAndEpoch => since(10).tagged(0),
        accepted_keys: Vec<ProduceAcceptedKey> => since(9).tagged(28_000).ignorable(),
    }

    /// semel's own (`spec/protocol.md`): a record whose idempotency key is accepted already, and where its record is; offset
    /// −1 where that is an earlier record of the same batch.
    part ProduceAcceptedKey {
        batch_index: i32 => since(9),
        partition_index: i32 => since(9),
        offset: i64 => since(9),
    }

    /// A record that made its batch be refused (KIP-467).
    part ProduceRecordError {
        batch_index: i32 => since(8),
        batch_index_error_message: Option<String> => since(8).nullable(8),
    }

    /// The leader to turn to instead (KIP-951).
    part ProduceLeaderIdAndEpoch {
        leader_id: i32 = -1 => since(10),
        leader_epoch: i32 = -1 => since(10),
    }

    /// Asks for a producer id and epoch; with a transactional id, fences every earlier holder.
    request InitProducerIdRequest: InitProducerId -> InitProducerIdResponse {
        transactional_id: Option<String> => since(0).nullable(0),
        transaction_timeout_ms: i32 => since(0),
        producer_id: i64 = -1 => since(3),
        producer_epoch: i16 = -1 => since(3),
        enable_two_pc: bool => since(6),
        keep_prepared_txn: bool => since(6),
    }

    /// The producer's id and epoch.
    response InitProducerIdResponse: InitProducerId {
        throttle_time_ms: i32 => since(0).ignorable(),
        error_code: ErrorCode => since(0),
        producer_id: i64 = -1 => since(0),
        producer_epoch: i16 => since(0),
        ongoing_txn_producer_id: i64 = -1 => since(6),
        ongoing_txn_producer_epoch: i16 = -1 => since(6),
    }
}
