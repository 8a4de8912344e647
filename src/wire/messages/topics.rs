//! Creating, growing and deleting topics.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    request CreateTopicsRequest: CreateTopics -> CreateTopicsResponse {
        topics: Vec<CreatableTopic> => since(0),
        timeout_ms: i32 = 60000 => since(0),
        validate_only: bool => since(1),
    }

    part CreatableTopic {
        name: String => since(0),
        num_partitions: i32 => since(0),
        replication_factor: i16 => since(0),
        assignments: Vec<CreatableReplicaAssignment> => since(0),
        configs: Vec<CreatableTopicConfig> => since(0),
    }

    part CreatableReplicaAssignment {
        partition_index: i32 => since(0),
        broker_ids: Vec<i32> => since(0),
    }

    part CreatableTopicConfig {
        name: String => since(0),
        value: Option<String> => since(0).nullable(0),
    }

    response CreateTopicsResponse: CreateTopics {
        throttle_time_ms: i32 => since(2).ignorable(),
        topics: Vec<CreatableTopicResult> => since(0),
    }

    part CreatableTopicResult {
        name: String => since(0),
        topic_id: TopicId => since(7).ignorable(),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(1).nullable(0).ignorable(),
        topic_config_error_code: ErrorCode => since(5).tagged(0).ignorable(),
        num_partitions: i32 = -1 => since(5).ignorable(),
        replication_factor: i16 = -1 => since(5).ignorable(),
        configs: Option<Vec<CreatableTopicConfigs>> => since(5).nullable(5).ignorable(),
    }

    part CreatableTopicConfigs {
        name: String => since(5),
        value: Option<String> => since(5).nullable(5),
        read_only: bool => since(5),
        config_source: i8 = -1 => since(5).ignorable(),
        is_sensitive: bool => since(5),
    }

    request DeleteTopicsRequest: DeleteTopics -> DeleteTopicsResponse {
        topics: Vec<DeleteTopicState> => since(6),
        topic_names: Vec<String> => between(0, 5).ignorable(),
        timeout_ms: i32 => since(0),
    }

    part DeleteTopicState {
        name: Option<String> => since(6).nullable(6),
        topic_id: TopicId => since(6),
    }

    response DeleteTopicsResponse: DeleteTopics {
        throttle_time_ms: i32 => since(1).ignorable(),
        responses: Vec<DeletableTopicResult> => since(0),
    }

    part DeletableTopicResult {
        name: Option<String> = Some(String::new()) => since(0).nullable(6),
        topic_id: TopicId => since(6).ignorable(),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(5).nullable(5).ignorable(),
    }

    request CreatePartitionsRequest: CreatePartitions -> CreatePartitionsResponse {
        topics: Vec<CreatePartitionsTopic> => since(0),
        timeout_ms: i32 => since(0),
        validate_only: bool => since(0),
    }

    part CreatePartitionsTopic {
        name: String => since(0),
        count: i32 => since(0),
        assignments: Option<Vec<CreatePartitionsAssignment>> => since(0).nullable(0),
    }

    part CreatePartitionsAssignment {
        broker_ids: Vec<i32> => since(0),
    }

    response CreatePartitionsResponse: CreatePartitions {
        throttle_time_ms: i32 => since(0),
        results: Vec<CreatePartitionsTopicResult> => since(0),
    }

    part CreatePartitionsTopicResult {
        name: String => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
    }

    request DeleteRecordsRequest: DeleteRecords -> DeleteRecordsResponse {
        topics: Vec<DeleteRecordsTopic> => since(0),
        timeout_ms: i32 => since(0),
    }

    part DeleteRecordsTopic {
        name: String => since(0),
        partitions: Vec<DeleteRecordsPartition> => since(0),
    }

    part DeleteRecordsPartition {
        partition_index: i32 => since(0),
        offset: i64 => since(0),
    }

    response DeleteRecordsResponse: DeleteRecords {
        throttle_time_ms: i32 => since(0),
        topics: Vec<DeleteRecordsTopicResult> => since(0),
    }

    part DeleteRecordsTopicResult {
        name: String => since(0),
        partitions: Vec<DeleteRecordsPartitionResult> => since(0),
    }

    part DeleteRecordsPartitionResult {
        partition_index: i32 => since(0),
        low_watermark: i64 => since(0),
        error_code: ErrorCode => since(0),
    }
}
