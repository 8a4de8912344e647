//! Transactions of a client (KIP-98, KIP-890).

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    /// Enrols partitions in a transaction; from version 4 on, in several, by brokers only.
    request AddPartitionsToTxnRequest: AddPartitionsToTxn -> AddPartitionsToTxnResponse {
        transactions: Vec<AddPartitionsToTxnTransaction> => since(4),
        v3_and_below_transactional_id: String => between(0, 3),
        v3_and_below_producer_id: i64 => between(0, 3),
        v3_and_below_producer_epoch: i16 => between(0, 3),
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> => between(0, 3),
    }

    /// A transaction and the partitions to enrol, or only to verify.
    part AddPartitionsToTxnTransaction {
        transactional_id: String => since(4),
        producer_id: i64 => since(4),
        producer_epoch: i16 => since(4),
        verify_only: bool => since(4),
        topics: Vec<AddPartitionsToTxnTopic> => since(4),
    }

    /// A topic's partitions.
    part AddPartitionsToTxnTopic {
        name: String => since(0),
        partitions: Vec<i32> => since(0),
    }

    /// What became of each partition: `results_by_topic_v3_and_below`, or by transaction from 4 on.
    response AddPartitionsToTxnResponse: AddPartitionsToTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(4).ignorable(),
        results_by_transaction: Vec<AddPartitionsToTxnResult> => since(4),
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> => between(0, 3),
    }

    /// A transaction's partitions.
    part AddPartitionsToTxnResult {
        transactional_id: String => since(4),
        topic_results: Vec<AddPartitionsToTxnTopicResult> => since(4),
    }

    /// A topic's partitions.
    part AddPartitionsToTxnTopicResult {
        name: String => since(0),
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> => since(0),
    }

    /// An enrolled partition, or why it is not.
    part AddPartitionsToTxnPartitionResult {
        partition_index: i32 => since(0),
        partition_error_code: ErrorCode => since(0),
    }

    /// Enrols a group's offsets in a transaction.
    request AddOffsetsToTxnRequest: AddOffsetsToTxn -> AddOffsetsToTxnResponse {
        transactional_id: String => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        group_id: String => since(0),
    }

    /// Whether they are enrolled.
    response AddOffsetsToTxnResponse: AddOffsetsToTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
    }

    /// Commits or aborts a transaction.
    request EndTxnRequest: EndTxn -> EndTxnResponse {
        transactional_id: String => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        committed: bool => since(0),
    }

    /// How it went; from version 5 on with the producer id and epoch for the next transaction (KIP-890).
    response EndTxnResponse: EndTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        producer_id: i64 = -1 => since(5).ignorable(),
        producer_epoch: i16 = -1 => since(5).ignorable(),
    }

    /// Stores a group's offsets as part of a transaction; the member fields fence zombies (KIP-447).
    request TxnOffsetCommitRequest: TxnOffsetCommit -> TxnOffsetCommitResponse {
        transactional_id: String => since(0),
        group_id: String => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        generation_id_or_member_epoch: i32 = -1 => since(3),
        member_id: String => since(3),
        group_instance_id: Option<String> => since(3).nullable(3),
        topics: Vec<TxnOffsetCommitRequestTopic> => since(0),
    }

    /// A topic's partitions.
    part TxnOffsetCommitRequestTopic {
        name: String => between(0, 5).ignorable(),
        topic_id: TopicId => since(6).ignorable(),
        partitions: Vec<TxnOffsetCommitRequestPartition> => since(0),
    }

    /// A partition's next offset to read.
    part TxnOffsetCommitRequestPartition {
        partition_index: i32 => since(0),
        committed_offset: i64 => since(0),
        committed_leader_epoch: i32 = -1 => since(2).ignorable(),
        committed_metadata: Option<String> => since(0).nullable(0),
    }

    /// What became of each offset.
    response TxnOffsetCommitResponse: TxnOffsetCommit {
        throttle_time_ms: i32 => since(0),
        topics: Vec<TxnOffsetCommitResponseTopic> => since(0),
    }

    /// A topic's partitions.
    part TxnOffsetCommitResponseTopic {
        name: String => between(0, 5).ignorable(),
        topic_id: TopicId => since(6).ignorable(),
        partitions: Vec<TxnOffsetCommitResponsePartition> => since(0),
    }

    /// A stored offset, or why it is not.
    part TxnOffsetCommitResponsePartition {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }
}
