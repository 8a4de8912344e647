//! Tests of the whole room: every declared message in every version.

mod codec;
mod declared;
mod frames;
mod fuzz;
mod hostile;
mod layouts;
mod oracle;

pub(in crate::wire) use declared::{Declared, Layout, LayoutField, Random};

/// Calls `$then!` with what else is given, in braces, and every api: its key, request and response.
macro_rules! every_api {
    ($then:ident $($given:tt)*) => {
        $then! {
            { $($given)* }
            Produce ProduceRequest ProduceResponse,
            Fetch FetchRequest FetchResponse,
            ListOffsets ListOffsetsRequest ListOffsetsResponse,
            Metadata MetadataRequest MetadataResponse,
            OffsetCommit OffsetCommitRequest OffsetCommitResponse,
            OffsetFetch OffsetFetchRequest OffsetFetchResponse,
            FindCoordinator FindCoordinatorRequest FindCoordinatorResponse,
            JoinGroup JoinGroupRequest JoinGroupResponse,
            Heartbeat HeartbeatRequest HeartbeatResponse,
            LeaveGroup LeaveGroupRequest LeaveGroupResponse,
            SyncGroup SyncGroupRequest SyncGroupResponse,
            DescribeGroups DescribeGroupsRequest DescribeGroupsResponse,
            ListGroups ListGroupsRequest ListGroupsResponse,
            ApiVersions ApiVersionsRequest ApiVersionsResponse,
            CreateTopics CreateTopicsRequest CreateTopicsResponse,
            DeleteTopics DeleteTopicsRequest DeleteTopicsResponse,
            DeleteRecords DeleteRecordsRequest DeleteRecordsResponse,
            InitProducerId InitProducerIdRequest InitProducerIdResponse,
            OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse,
            AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
            EndTxn EndTxnRequest EndTxnResponse,
            WriteTxnMarkers WriteTxnMarkersRequest WriteTxnMarkersResponse,
            TxnOffsetCommit TxnOffsetCommitRequest TxnOffsetCommitResponse,
            DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse,
            AlterConfigs AlterConfigsRequest AlterConfigsResponse,
            CreatePartitions CreatePartitionsRequest CreatePartitionsResponse,
            DeleteGroups DeleteGroupsRequest DeleteGroupsResponse,
            IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
            OffsetDelete OffsetDeleteRequest OffsetDeleteResponse,
            DescribeCluster DescribeClusterRequest DescribeClusterResponse,
            DescribeProducers DescribeProducersRequest DescribeProducersResponse,
            DescribeTransactions DescribeTransactionsRequest DescribeTransactionsResponse,
            ListTransactions ListTransactionsRequest ListTransactionsResponse,
            ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
            ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
            DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
        }
    };
}
use every_api;

/// The same, for semel's own apis.
macro_rules! every_private_api {
    ($then:ident $($given:tt)*) => {
        $then! {
            { $($given)* }
            DescribeOutcomes DescribeOutcomesRequest DescribeOutcomesResponse,
            PrepareTxn PrepareTxnRequest PrepareTxnResponse,
            EndTxnByOperator EndTxnByOperatorRequest EndTxnByOperatorResponse,
            TakeBackup TakeBackupRequest TakeBackupResponse,
        }
    };
}
use every_private_api;

/// Calls `$visit::<M> $arguments` for the request and the response of every api.
macro_rules! for_every_message {
    ($visit:ident $arguments:tt) => {
        crate::wire::tests::every_api!(visit_messages $visit $arguments);
        crate::wire::tests::every_private_api!(visit_messages $visit $arguments);
    };
}
use for_every_message;

macro_rules! visit_messages {
    ({ $visit:ident $arguments:tt } $($api:ident $request:ident $response:ident,)*) => {
        $(
            $visit::<crate::wire::messages::$request> $arguments;
            $visit::<crate::wire::messages::$response> $arguments;
        )*
    };
}
use visit_messages;
