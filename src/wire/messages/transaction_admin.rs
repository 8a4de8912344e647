//! Transactions as operators see them (KIP-664), and markers.

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;

messages! {
    /// Asks for transactions, filtered (KIP-664, KIP-994).
    request ListTransactionsRequest: ListTransactions -> ListTransactionsResponse {
        state_filters: Vec<String> => since(0),
        producer_id_filters: Vec<i64> => since(0),
        duration_filter: i64 = -1 => since(1),
        transactional_id_pattern: Option<String> => since(2).nullable(2),
    }

    /// The transactions that this broker coordinates.
    response ListTransactionsResponse: ListTransactions {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        unknown_state_filters: Vec<String> => since(0),
        transaction_states: Vec<ListedTransaction> => since(0),
    }

    /// A transaction and its state.
    part ListedTransaction {
        transactional_id: String => since(0),
        producer_id: i64 => since(0),
        transaction_state: String => since(0),
    }

    /// Asks for transactions by transactional id.
    request DescribeTransactionsRequest: DescribeTransactions -> DescribeTransactionsResponse {
        transactional_ids: Vec<String> => since(0),
    }

    /// The transactions.
    response DescribeTransactionsResponse: DescribeTransactions {
        throttle_time_ms: i32 => since(0),
        transaction_states: Vec<DescribedTransaction> => since(0),
    }

    /// A transaction, its producer and its partitions.
    part DescribedTransaction {
        error_code: ErrorCode => since(0),
        transactional_id: String => since(0),
        transaction_state: String => since(0),
        transaction_timeout_ms: i32 => since(0),
        transaction_start_time_ms: i64 => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        topics: Vec<DescribedTransactionTopic> => since(0),
    }

    /// A topic's enrolled partitions.
    part DescribedTransactionTopic {
        topic: String => since(0),
        partitions: Vec<i32> => since(0),
    }

    /// Asks for the producers that write to partitions.
    request DescribeProducersRequest: DescribeProducers -> DescribeProducersResponse {
        topics: Vec<DescribeProducersTopic> => since(0),
    }

    /// A topic's partitions.
    part DescribeProducersTopic {
        name: String => since(0),
        partition_indexes: Vec<i32> => since(0),
    }

    /// The producers.
    response DescribeProducersResponse: DescribeProducers {
        throttle_time_ms: i32 => since(0),
        topics: Vec<DescribeProducersTopicResponse> => since(0),
    }

    /// A topic's partitions.
    part DescribeProducersTopicResponse {
        name: String => since(0),
        partitions: Vec<DescribeProducersPartitionResponse> => since(0),
    }

    /// A partition's producers.
    part DescribeProducersPartitionResponse {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        active_producers: Vec<ProducerState> => since(0),
    }

    /// A producer's last batch and open transaction.
    part ProducerState {
        producer_id: i64 => since(0),
        producer_epoch: i32 => since(0),
        last_sequence: i32 = -1 => since(0),
        last_timestamp: i64 = -1 => since(0),
        coordinator_epoch: i32 => since(0),
        current_txn_start_offset: i64 = -1 => since(0),
    }

    /// Writes transaction markers, from coordinator to leader.
    request WriteTxnMarkersRequest: WriteTxnMarkers -> WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarker> => since(0),
    }

    /// The end of a producer's transaction in some partitions.
    part WritableTxnMarker {
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        transaction_result: bool => since(0),
        topics: Vec<WritableTxnMarkerTopic> => since(0),
        coordinator_epoch: i32 => since(0),
        transaction_version: i8 => since(2).ignorable(),
    }

    /// A topic's partitions.
    part WritableTxnMarkerTopic {
        name: String => since(0),
        partition_indexes: Vec<i32> => since(0),
    }

    /// What became of each marker.
    response WriteTxnMarkersResponse: WriteTxnMarkers {
        markers: Vec<WritableTxnMarkerResult> => since(0),
    }

    /// A producer's markers.
    part WritableTxnMarkerResult {
        producer_id: i64 => since(0),
        topics: Vec<WritableTxnMarkerTopicResult> => since(0),
    }

    /// A topic's partitions.
    part WritableTxnMarkerTopicResult {
        name: String => since(0),
        partitions: Vec<WritableTxnMarkerPartitionResult> => since(0),
    }

    /// A written marker, or why it is not.
    part WritableTxnMarkerPartitionResult {
        partition_index: i32 => since(0),
        error_code: ErrorCode => since(0),
    }
}
