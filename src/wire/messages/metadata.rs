//! Brokers, topics and where their leaders are.

use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{between, since};

messages! {
    /// Asks where topics are. `topics`: null is all of them (in version 0, an empty list is).
    request MetadataRequest: Metadata -> MetadataResponse {
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()) => since(0).nullable(1),
        allow_auto_topic_creation: bool = true => since(4),
        include_cluster_authorized_operations: bool => between(8, 10),
        include_topic_authorized_operations: bool => since(8),
    }

    /// A topic, by id or by name.
    part MetadataRequestTopic {
        topic_id: TopicId => since(10).ignorable(),
        name: Option<String> = Some(String::new()) => since(0).nullable(10),
    }

    /// Brokers and topics.
    response MetadataResponse: Metadata {
        throttle_time_ms: i32 => since(3).ignorable(),
        brokers: Vec<MetadataResponseBroker> => since(0),
        cluster_id: Option<String> => since(2).nullable(2).ignorable(),
        controller_id: i32 = -1 => since(1).ignorable(),
        topics: Vec<MetadataResponseTopic> => since(0),
        cluster_authorized_operations: i32 = -2147483648 => between(8, 10),
        error_code: ErrorCode => since(13).ignorable(),
    }

    /// A broker's address.
    part MetadataResponseBroker {
        node_id: i32 => since(0),
        host: String => since(0),
        port: i32 => since(0),
        rack: Option<String> => since(1).nullable(1).ignorable(),
    }

    /// A topic and its partitions.
    part MetadataResponseTopic {
        error_code: ErrorCode => since(0),
        name: Option<String> = Some(String::new()) => since(0).nullable(12),
        topic_id: TopicId => since(10).ignorable(),
        is_internal: bool => since(1).ignorable(),
        partitions: Vec<MetadataResponsePartition> => since(0),
        topic_authorized_operations: i32 = -2147483648 => since(8),
    }

    /// A partition's leader and replicas.
    part MetadataResponsePartition {
        error_code: ErrorCode => since(0),
        partition_index: i32 => since(0),
        leader_id: i32 => since(0),
        leader_epoch: i32 = -1 => since(7).ignorable(),
        replica_nodes: Vec<i32> => since(0),
        isr_nodes: Vec<i32> => since(0),
        offline_replicas: Vec<i32> => since(5).ignorable(),
    }

    /// Asks for topics and their partitions, page by page (KIP-966).
    request DescribeTopicPartitionsRequest: DescribeTopicPartitions -> DescribeTopicPartitionsResponse {
        topics: Vec<DescribeTopicPartitionsTopic> => since(0),
        response_partition_limit: i32 = 2000 => since(0),
        cursor: Option<DescribeTopicPartitionsCursor> => since(0).nullable(0),
    }

    /// A topic's name.
    part DescribeTopicPartitionsTopic {
        name: String => since(0),
    }

    /// Where the page begins.
    part DescribeTopicPartitionsCursor {
        topic_name: String => since(0),
        partition_index: i32 => since(0),
    }

    /// One page of topics and their partitions.
    response DescribeTopicPartitionsResponse: DescribeTopicPartitions {
        throttle_time_ms: i32 => since(0).ignorable(),
        topics: Vec<DescribeTopicPartitionsResponseTopic> => since(0),
        next_cursor: Option<DescribeTopicPartitionsNextCursor> => since(0).nullable(0),
    }

    /// A topic and its partitions.
    part DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode => since(0),
        name: Option<String> => since(0).nullable(0),
        topic_id: TopicId => since(0).ignorable(),
        is_internal: bool => since(0).ignorable(),
        partitions: Vec<DescribeTopicPartitionsResponsePartition> => since(0),
        topic_authorized_operations: i32 = -2147483648 => since(0),
    }

    /// Where the next page begins.
    part DescribeTopicPartitionsNextCursor {
        topic_name: String => since(0),
        partition_index: i32 => since(0),
    }

    /// A partition's leader and replicas.
    part DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode => since(0),
        partition_index: i32 => since(0),
        leader_id: i32 => since(0),
        leader_epoch: i32 = -1 => since(0).ignorable(),
        replica_nodes: Vec<i32> => since(0),
        isr_nodes: Vec<i32> => since(0),
        eligible_leader_replicas: Option<Vec<i32>> => since(0).nullable(0),
        last_known_elr: Option<Vec<i32>> => since(0).nullable(0),
        offline_replicas: Vec<i32> => since(0).ignorable(),
    }

    /// Asks for the cluster's brokers or controllers.
    request DescribeClusterRequest: DescribeCluster -> DescribeClusterResponse {
        include_cluster_authorized_operations: bool => since(0),
        endpoint_type: i8 = 1 => since(1),
        include_fenced_brokers: bool => since(2),
    }

    /// The cluster, its controller and its nodes.
    response DescribeClusterResponse: DescribeCluster {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        endpoint_type: i8 = 1 => since(1),
        cluster_id: String => since(0),
        controller_id: i32 = -1 => since(0),
        brokers: Vec<DescribeClusterBroker> => since(0),
        cluster_authorized_operations: i32 = -2147483648 => since(0),
    }

    /// A node's address.
    part DescribeClusterBroker {
        broker_id: i32 => since(0),
        host: String => since(0),
        port: i32 => since(0),
        rack: Option<String> => since(0).nullable(0),
        is_fenced: bool => since(2),
    }
}
