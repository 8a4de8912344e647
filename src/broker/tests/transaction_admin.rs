use super::harness::*;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

fn marker(
    (producer_id, producer_epoch): (i64, i16),
    commit: bool,
    partitions: &[i32],
) -> WriteTxnMarkersRequest {
    let topics =
        vec![WritableTxnMarkerTopic { name: "t".to_owned(), partition_indexes: partitions.to_vec() }];
    let marker = WritableTxnMarker {
        producer_id,
        producer_epoch,
        transaction_result: commit,
        topics,
        ..Default::default()
    };
    WriteTxnMarkersRequest { markers: vec![marker] }
}

fn codes(response: &WriteTxnMarkersResponse) -> Vec<ErrorCode> {
    response.markers[0].topics[0].partitions.iter().map(|partition| partition.error_code).collect()
}

/// One record in each of these partitions of `t`, in the open transaction of `x`.
async fn write(client: &mut Client, id: TopicId, producer: (i64, i16), partitions: &[i32]) {
    for partition in partitions {
        let records = batch(Some((producer, 0, true)), &["v"]);
        let stored = client.produce(12, ("t", id, *partition), Some("x"), records).await;
        assert_eq!(stored.error_code, ErrorCode::None);
    }
}

#[tokio::test]
async fn a_marker_from_outside_aborts_the_whole_transaction_and_fences_its_producer() {
    for version in [1, 2] {
        let harness = Harness::start();
        let (mut admin, id) = harness.with_topic("t", 3).await;
        let producer = admin.init(Some("x")).await;
        write(&mut admin, id, producer, &[0, 1]).await;

        let refused = harness.user().call(version, &marker(producer, false, &[0])).await;
        assert_eq!(codes(&refused), [ErrorCode::ClusterAuthorizationFailed]);
        let commit = admin.call(version, &marker(producer, true, &[0])).await;
        assert_eq!(codes(&commit), [ErrorCode::InvalidTxnState], "a commit is its producer's alone");
        let elsewhere = admin.call(version, &marker(producer, false, &[2, 7])).await;
        assert_eq!(codes(&elsewhere), [ErrorCode::InvalidTxnState, ErrorCode::UnknownTopicOrPartition]);
        let old = (producer.0, producer.1 - 1);
        assert_eq!(
            codes(&admin.call(version, &marker(old, false, &[0])).await),
            [ErrorCode::InvalidTxnState]
        );
        assert_eq!(
            admin.fetch(12, ("t", id, 0), 0, true).await.last_stable_offset,
            0,
            "nothing has happened yet"
        );

        // One partition is named, and in all of them it ends.
        assert_eq!(codes(&admin.call(version, &marker(producer, false, &[0])).await), [ErrorCode::None]);
        for partition in [0, 1] {
            let answer = admin.fetch(12, ("t", id, partition), 0, true).await;
            assert_eq!((answer.last_stable_offset, values(&answer).len()), (2, 0));
        }
        let late =
            admin.produce(12, ("t", id, 0), Some("x"), batch(Some((producer, 1, true)), &["late"])).await;
        assert_eq!(late.error_code, ErrorCode::InvalidProducerEpoch);
        assert_eq!(admin.end(5, "x", producer, true).await.error_code, ErrorCode::ProducerFenced);
        assert_eq!(admin.end(5, "x", producer, false).await.error_code, ErrorCode::ProducerFenced);
        let again = admin.call(version, &marker(producer, false, &[0])).await;
        assert_eq!(codes(&again), [ErrorCode::InvalidTxnState], "there is nothing left to abort");
        let next = admin.init(Some("x")).await;
        assert_eq!(next, (producer.0, producer.1 + 2));
        write(&mut admin, id, next, &[0]).await;
    }
}

#[tokio::test]
async fn transactions_are_found_by_a_pattern_that_takes_the_whole_id() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    for id in ["orders-1", "orders-22", "refunds-1"] {
        client.init(Some(id)).await;
    }
    for (pattern, expected) in [
        (None, &["orders-1", "orders-22", "refunds-1"][..]),
        (Some(""), &["orders-1", "orders-22", "refunds-1"]),
        (Some("orders-[0-9]+"), &["orders-1", "orders-22"]),
        (Some("orders-1|refunds"), &["orders-1"]),
        (Some("1"), &[]),
        (Some(".*-1"), &["orders-1", "refunds-1"]),
    ] {
        let transactional_id_pattern = pattern.map(str::to_owned);
        let request = ListTransactionsRequest { transactional_id_pattern, ..Default::default() };
        let listed = client.call(2, &request).await;
        let mut ids: Vec<_> = listed.transaction_states.into_iter().map(|t| t.transactional_id).collect();
        ids.sort();
        assert_eq!(
            (listed.error_code, ids.as_slice()),
            (ErrorCode::None, &expected.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..]),
            "{pattern:?}"
        );
    }
    let long = "a".repeat(5_000);
    for bad in ["(", "a)(b", "(?:a{1000}){1000}", &long] {
        let transactional_id_pattern = Some(bad.to_owned());
        let request = ListTransactionsRequest { transactional_id_pattern, ..Default::default() };
        assert_eq!(client.call(2, &request).await.error_code, ErrorCode::InvalidRegularExpression, "{bad}");
    }
}

#[tokio::test]
async fn a_producer_is_described_with_the_time_of_its_last_record_or_marker() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    let topics = vec![DescribeProducersTopic { name: "t".to_owned(), partition_indexes: vec![0] }];
    let request = DescribeProducersRequest { topics };
    write(&mut client, id, producer, &[0]).await;
    let state =
        |response: DescribeProducersResponse| response.topics[0].partitions[0].active_producers[0].clone();
    let open = state(client.call(0, &request).await);
    assert_eq!((open.last_timestamp, open.current_txn_start_offset, open.last_sequence), (1_000, 0, 0));
    client.end(5, "x", producer, true).await;
    let ended = state(client.call(0, &request).await);
    assert!(ended.last_timestamp > 1_000_000_000_000, "the marker's: {ended:?}");
    assert_eq!((ended.current_txn_start_offset, ended.last_sequence), (-1, -1));
    assert_eq!(ended.producer_epoch, i32::from(producer.1) + 1);
}
