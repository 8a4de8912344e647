//! Creating, growing and deleting topics.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    /// Creates topics.
    request CreateTopicsRequest: CreateTopics -> CreateTopicsResponse {
        topics: Vec<CreatableTopic> => since(0),
        timeout_ms: i32 = 60000 => since(0),
        validate_only: bool => since(1),
    }

    /// A topic to create. −1 for partitions or replicas means the broker's default.
    part CreatableTopic {
        name: String => since(0),
        num_partitions: i32 => since(0),
        replication_factor: i16 => since(0),
        assignments: Vec<CreatableReplicaAssignment> => since(0),
        configs: Vec<CreatableTopicConfig> => since(0),
    }

    /// Which brokers hold a partition.
    part CreatableReplicaAssignment {
        partition_index: i32 => since(0),
        broker_ids: Vec<i32> => since(0),
    }

    /// A configuration of the new topic.
    part CreatableTopicConfig {
        name: String => since(0),
        value: Option<String> => since(0).nullable(0),
    }

    /// What became of each topic.
    response CreateTopicsResponse: CreateTopics {
        throttle_time_ms: i32 => since(2).ignorable(),
        topics: Vec<CreatableTopicResult> => since(0),
    }

    /// A created topic, or why it was not.
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

    /// A configuration that the created topic has.
    part CreatableTopicConfigs {
        name: String => since(5),
        value: Option<String> => since(5).nullable(5),
        read_only: bool => since(5),
        config_source: i8 = -1 => since(5).ignorable(),
        is_sensitive: bool => since(5),
    }

    /// Deletes topics: by name up to version 5, by name or id from 6.
    request DeleteTopicsRequest: DeleteTopics -> DeleteTopicsResponse {
        topics: Vec<DeleteTopicState> => since(6),
        topic_names: Vec<String> => between(0, 5).ignorable(),
        timeout_ms: i32 => since(0),
    }

    /// A topic, by name or, with a null name, by id.
    part DeleteTopicState {
        name: Option<String> => since(6).nullable(6),
        topic_id: TopicId => since(6),
    }

    /// What became of each topic.
    response DeleteTopicsResponse: DeleteTopics {
        throttle_time_ms: i32 => since(1).ignorable(),
        responses: Vec<DeletableTopicResult> => since(0),
    }

    /// A deleted topic, or why it was not.
    part DeletableTopicResult {
        name: Option<String> = Some(String::new()) => since(0).nullable(6),
        topic_id: TopicId => since(6).ignorable(),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(5).nullable(5).ignorable(),
    }

    /// Adds partitions to topics.
    request CreatePartitionsRequest: CreatePartitions -> CreatePartitionsResponse {
        topics: Vec<CreatePartitionsTopic> => since(0),
        timeout_ms: i32 => since(0),
        validate_only: bool => since(0),
    }

    /// A topic and how many partitions it shall have in all.
    part CreatePartitionsTopic {
        name: String => since(0),
        count: i32 => since(0),
        assignments: Option<Vec<CreatePartitionsAssignment>> => since(0).nullable(0),
    }

    /// Which brokers hold a new partition.
    part CreatePartitionsAssignment {
        broker_ids: Vec<i32> => since(0),
    }

    /// What became of each topic.
    response CreatePartitionsResponse: CreatePartitions {
        throttle_time_ms: i32 => since(0),
        results: Vec<CreatePartitionsTopicResult> => since(0),
    }

    /// A topic that grew, or why it did not.
    part CreatePartitionsTopicResult {
        name: String => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
    }

    /// Moves the start of partitions forward.
    request DeleteRecordsRequest: DeleteRecords -> DeleteRecordsResponse {
        topics: Vec<DeleteRecordsTopic> => since(0),
        timeout_ms: i32 => since(0),
    }

    /// A topic's partitions.
    part DeleteRecordsTopic {
        name: String => since(0),
        partitions: Vec<DeleteRecordsPartition> => since(0),
    }

    /// A partition and its new first offset; −1 is the high watermark.
    part DeleteRecordsPartition {
        partition_index: i32 => since(0),
        offset: i64 => since(0),
    }

    /// What became of each partition.
    response DeleteRecordsResponse: DeleteRecords {
        throttle_time_ms: i32 => since(0),
        topics: Vec<DeleteRecordsTopicResult> => since(0),
    }

    /// A topic's partitions.
    part DeleteRecordsTopicResult {
        name: String => since(0),
        partitions: Vec<DeleteRecordsPartitionResult> => since(0),
    }

    /// A partition's start afterwards.
    part DeleteRecordsPartitionResult {
        partition_index: i32 => since(0),
        low_watermark: i64 => since(0),
        error_code: ErrorCode => since(0),
    }
}
