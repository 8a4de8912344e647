//! Transactions of a client (KIP-98, KIP-890).

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    request AddPartitionsToTxnRequest: AddPartitionsToTxn -> AddPartitionsToTxnResponse {
        transactions: Vec<AddPartitionsToTxnTransaction> => since(4),
        v3_and_below_transactional_id: String => between(0, 3),
        v3_and_below_producer_id: i64 => between(0, 3),
        v3_and_below_producer_epoch: i16 => between(0, 3),
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> => between(0, 3),
    }

    part AddPartitionsToTxnTransaction {
        transactional_id: String => since(4),
        producer_id: i64 => since(4),
        producer_epoch: i16 => since(4),
        verify_only: bool => since(4),
        topics: Vec<AddPartitionsToTxnTopic> => since(4),
    }

    part AddPartitionsToTxnTopic {
        name: String => since(0),
        partitions: Vec<i32> => since(0),
    }

    response AddPartitionsToTxnResponse: AddPartitionsToTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(4).ignorable(),
        results_by_transaction: Vec<AddPartitionsToTxnResult> => since(4),
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> => between(0, 3),
    }

    part AddPartitionsToTxnResult {
        transactional_id: String => since(4),
        topic_results: Vec<AddPartitionsToTxnTopicResult> => since(4),
    }

    part AddPartitionsToTxnTopicResult {
        name: String => since(0),
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> => since(0),
    }

    part AddPartitionsToTxnPartitionResult {
        partition_index: i32 => since(0),
        partition_error_code: ErrorCode => since(0),
    }

    request AddOffsetsToTxnRequest: AddOffsetsToTxn -> AddOffsetsToTxnResponse {
        transactional_id: String => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        group_id: String => since(0),
    }

    response AddOffsetsToTxnResponse: AddOffsetsToTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
    }

    request EndTxnRequest: EndTxn -> EndTxnResponse {
        transactional_id: String => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        committed: bool => since(0),
    }

    response EndTxnResponse: EndTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        producer_id: i64 = -1 => since(5).ignorable(),
        producer_epoch: i16 = -1 => since(5).ignorable(),
    }

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

    part TxnOffsetCommitRequestTopic {
        name: String => between(0, 5).ignorable(),
        topic_id: TopicId => since(6).ignorable(),
        partitions: Vec<TxnOffsetCommitRequestPartition> => since(0),
    }

    part TxnOffsetCommitRequestPartition {
        partition_index: i32 => since(0),
        committed_offset: i64 => since(0),
        committed_leader_epoch: i32 = -1 => since(2).ignorable(),
        committed_metadata: Option<String> => since(0).nullable(0),
    }

    response TxnOffsetCommitResponse: TxnOffsetCommit {
        throttle_time_ms: i32 => since(0),
        topics: Vec<TxnOffsetCommitResponseTopic> => since(0),
    }

    part TxnOffsetCommitResponseTopic {
        name: String => between(0, 5).ignorable(),
        topic_id: TopicId => since(6).ignorable(),
        partitions: Vec<TxnOffsetCommitResponsePartition> => since(0),
    }

    part TxnOffsetCommitResponsePartition {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }
}
