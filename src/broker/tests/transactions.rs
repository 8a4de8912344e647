use super::harness::*;
use crate::types::*;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

/// Aborted records never leave the broker, and the list has one entry for each abort marker.
fn check_committed_answer(answer: &FetchPartitionResponse) {
    let mut markers = Vec::new();
    for batch in batches(answer) {
        if batch.header.control
            && crate::wire::batch::Marker::parse(&batch).unwrap().outcome
                == crate::wire::batch::MarkerOutcome::Abort
        {
            markers.push((batch.header.producer_id.0, batch.header.base_offset.0));
        }
    }
    let listed: Vec<_> =
        answer.aborted_transactions.iter().flatten().map(|a| (a.producer_id, a.first_offset)).collect();
    assert_eq!(listed, markers);
}

#[tokio::test]
async fn transactions_that_overlap_are_told_apart() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let to = ("t", id, 0);
    let (a, b) = (client.init(Some("a")).await, client.init(Some("b")).await);
    client.produce(12, to, Some("a"), batch(Some((a, 0, true)), &["a1"])).await;
    client.produce(12, to, Some("b"), batch(Some((b, 0, true)), &["b1"])).await;
    client.produce(12, to, None, batch(None, &["plain"])).await;

    // Both are open: committed readers see nothing, and are given an empty record set.
    let open = client.fetch(12, to, 0, true).await;
    assert_eq!((open.last_stable_offset, open.high_watermark), (0, 3));
    assert_eq!(open.records.as_ref().map(|records| records.len()), Some(0));
    assert_eq!(values(&client.fetch(12, to, 0, false).await), ["a1", "b1", "plain"]);

    let ended = client.end(5, "a", a, false).await;
    assert_eq!((ended.error_code, ended.producer_epoch), (ErrorCode::None, a.1 + 1));
    assert_eq!(client.end(5, "b", b, true).await.error_code, ErrorCode::None);
    let answer = client.fetch(12, to, 0, true).await;
    assert_eq!(values(&answer), ["b1", "plain"]);
    assert_eq!(batches(&answer).len(), 4, "b1, plain and two markers; a1 is left out by the broker");
    check_committed_answer(&answer);

    // Only aborted records before the marker: the marker comes, alone.
    let a = (ended.producer_id, ended.producer_epoch);
    client.produce(12, to, Some("a"), batch(Some((a, 0, true)), &["a2"])).await;
    let start = 5;
    client.end(5, "a", a, false).await;
    let answer = client.fetch(12, to, start, true).await;
    assert_eq!((values(&answer).len(), batches(&answer).len()), (0, 1));
    check_committed_answer(&answer);
}

#[tokio::test]
async fn a_waiting_committed_fetch_is_woken_by_the_commit_not_by_the_append() {
    let harness = Harness::start();
    let (mut writer, id) = harness.with_topic("t", 1).await;
    let to = ("t", id, 0);
    let producer = writer.init(Some("x")).await;
    let mut reader = harness.user();
    let mut request = fetch_request(to, 0, true);
    request.max_wait_ms = 30_000;
    let waiting = tokio::spawn(reader.send(12, &request).await.unwrap().reply());
    writer.produce(12, to, Some("x"), batch(Some((producer, 0, true)), &["v"])).await;
    assert!(!waiting.is_finished());
    writer.end(5, "x", producer, true).await;
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(values(&response.responses[0].partitions[0]), ["v"]);
}

/// The request that has the last batch of a transaction, and asks for its commit.
fn last_of(
    to: (&str, TopicId, i32),
    id: &str,
    (producer, sequence): ((i64, i16), i32),
    value: &str,
) -> ProduceRequest {
    let batch = batch(Some((producer, sequence, true)), &[value]);
    ProduceRequest { commits: true, ..produce_request(to, Some(id), -1, Some(batch)) }
}

fn committed(response: &ProduceResponse) -> (i64, i16) {
    (response.committed.producer_id, response.committed.producer_epoch)
}

#[tokio::test]
async fn a_transaction_is_committed_with_its_last_records() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    let to = ("t", id, 0);
    let producer = client.init(Some("x")).await;
    client.produce(12, to, Some("x"), batch(Some((producer, 0, true)), &["a"])).await;
    let next = (producer.0, producer.1 + 1);
    let answer = client.call(12, &last_of(to, "x", (producer, 1), "b")).await;
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
    assert_eq!(committed(&answer), next);
    assert_eq!(values(&client.fetch(12, to, 0, true).await), ["a", "b"]);
    // In a later version, where topics have ids; and as the whole of a transaction.
    let answer = client.call(13, &last_of(("", id, 1), "x", (next, 0), "c")).await;
    assert_eq!(committed(&answer), (producer.0, producer.1 + 2));
    // Repeated: the batch says that its epoch is over, the answer says why.
    let again = client.call(12, &last_of(to, "x", (next, 0), "c")).await;
    assert_eq!(again.responses[0].partition_responses[0].error_code, ErrorCode::InvalidProducerEpoch);
    assert_eq!(committed(&again), (producer.0, producer.1 + 2));
}

#[tokio::test]
async fn a_commit_is_not_had_with_records_that_are_refused_or_in_no_transaction() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let to = ("t", id, 0);
    let producer = client.init(Some("x")).await;
    let none = (-1, -1);
    // Refused before the state machine is asked: the other partition's batch is stored. And then by it.
    let mut partly = last_of(to, "x", (producer, 0), "a");
    let unknown =
        ProducePartition { index: 7, records: Some(batch(Some((producer, 0, true)), &["b"]).into()) };
    partly.topic_data[0].partition_data.push(unknown);
    let answer = client.call(12, &partly).await;
    let codes: Vec<_> = answer.responses[0].partition_responses.iter().map(|part| part.error_code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(committed(&answer), none);
    let answer = client.call(12, &last_of(to, "x", (producer, 5), "c")).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(committed(&answer), none);
    assert_eq!(values(&client.fetch(12, to, 0, true).await).len(), 0, "it is open");
    // Without a transaction there is nothing to commit.
    let plain = ProduceRequest { commits: true, ..produce_request(to, None, -1, Some(batch(None, &["d"]))) };
    let answer = client.call(12, &plain).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::None);
    assert_eq!(committed(&answer), none);
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::None);
    assert_eq!(values(&client.fetch(12, to, 0, true).await), ["a", "d"]);
}

#[tokio::test]
async fn version_1_enrols_before_it_appends() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    let producer = client.init(Some("x")).await;
    let early = |version| (version, batch(Some((producer, 0, true)), &["early"]));
    let (version, records) = early(10);
    let refused = client.produce(version, ("t", id, 0), Some("x"), records).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTxnState);
    let (version, records) = early(11);
    let refused = client.produce(version, ("t", id, 0), Some("x"), records).await;
    assert_eq!(refused.error_code, ErrorCode::TransactionAbortable);

    let enrol = |partitions: Vec<i32>| AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "x".to_owned(),
        v3_and_below_producer_id: producer.0,
        v3_and_below_producer_epoch: producer.1,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions }],
        ..Default::default()
    };
    let codes = |response: AddPartitionsToTxnResponse| {
        let results = &response.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().map(|result| result.partition_error_code).collect::<Vec<_>>()
    };
    let one_unknown = codes(client.call(3, &enrol(vec![0, 7])).await);
    assert_eq!(one_unknown, [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(codes(client.call(0, &enrol(vec![0, 1])).await), [ErrorCode::None, ErrorCode::None]);
    let stored = client.produce(10, ("t", id, 0), Some("x"), batch(Some((producer, 0, true)), &["v"])).await;
    assert_eq!(stored.error_code, ErrorCode::None);
    let ended = client.end(3, "x", producer, false).await;
    assert_eq!(ended.error_code, ErrorCode::None);
    // Partition 1 was enrolled and has no records: its marker is on the list all the same.
    for partition in [0, 1] {
        let answer = client.fetch(12, ("t", id, partition), 0, true).await;
        assert_eq!((values(&answer).len(), batches(&answer).len()), (0, 1));
        check_committed_answer(&answer);
    }
}

#[tokio::test]
async fn version_1_is_refused_where_it_is_not_wanted() {
    let harness = Harness::with(|config| config.transactions_min = crate::core::Protocol::V2);
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    let records = || batch(Some((producer, 0, true)), &["v"]);
    let refused = client.produce(11, ("t", id, 0), Some("x"), records()).await;
    assert_eq!(refused.error_code, ErrorCode::UnsupportedVersion);
    assert_eq!(client.end(4, "x", producer, true).await.error_code, ErrorCode::UnsupportedVersion);
    let refused = client.call(4, &txn_offsets("x", producer, 1)).await;
    assert_eq!(refused.topics[0].partitions[0].error_code, ErrorCode::UnsupportedVersion);
    let enrol = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "x".to_owned(),
        v3_and_below_producer_id: producer.0,
        v3_and_below_producer_epoch: producer.1,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![0] }],
        ..Default::default()
    };
    let refused = client.call(3, &enrol).await;
    let result = &refused.results_by_topic_v3_and_below[0].results_by_partition[0];
    assert_eq!(result.partition_error_code, ErrorCode::UnsupportedVersion);
    let group = AddOffsetsToTxnRequest {
        transactional_id: "x".to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        group_id: "g".to_owned(),
    };
    assert_eq!(client.call(4, &group).await.error_code, ErrorCode::UnsupportedVersion);

    // Version 2, and what is no transaction, are served.
    let plain = client.produce(9, ("t", id, 0), None, batch(None, &["plain"])).await;
    assert_eq!(plain.error_code, ErrorCode::None);
    assert_eq!(client.produce(12, ("t", id, 0), Some("x"), records()).await.error_code, ErrorCode::None);
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::None);
}

#[tokio::test]
async fn a_fenced_producer_is_told_in_the_words_of_its_version() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let old = client.init(Some("x")).await;
    let new = client.init(Some("x")).await;
    assert_eq!((new.0, new.1), (old.0, old.1 + 1));
    let refused = client.produce(12, ("t", id, 0), Some("x"), batch(Some((old, 0, true)), &["v"])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidProducerEpoch);
    assert_eq!(client.end(1, "x", old, true).await.error_code, ErrorCode::InvalidProducerEpoch);
    assert_eq!(client.end(5, "x", old, true).await.error_code, ErrorCode::ProducerFenced);
    let stale = InitProducerIdRequest {
        transactional_id: Some("x".to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: old.0,
        producer_epoch: old.1 + 7,
        ..Default::default()
    };
    assert_eq!(client.call(3, &stale).await.error_code, ErrorCode::InvalidProducerEpoch);
    assert_eq!(client.call(4, &stale).await.error_code, ErrorCode::ProducerFenced);
    assert_eq!(client.end(5, "nobody", new, true).await.error_code, ErrorCode::InvalidProducerIdMapping);
    assert_eq!(client.end(5, "", new, true).await.error_code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_transactional_request_speaks_for_one_producer() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let (a, b) = (client.init(Some("a")).await, client.init(Some("b")).await);
    let nameless = client.produce(9, ("t", id, 0), None, batch(Some((a, 0, true)), &["v"])).await;
    assert_eq!(nameless.error_code, ErrorCode::TransactionalIdAuthorizationFailed);
    let mut request = produce_request(("t", id, 0), Some("a"), -1, Some(batch(Some((a, 0, true)), &["v"])));
    let other = ProducePartition { index: 0, records: Some(batch(Some((b, 0, true)), &["w"]).into()) };
    request.topic_data[0].partition_data.push(other);
    let response = client.call(12, &request).await;
    let codes: Vec<_> = response.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidProducerIdMapping; 2]);
    assert_eq!(client.fetch(12, ("t", id, 0), 0, false).await.high_watermark, 0);
}

#[tokio::test]
async fn an_older_connection_is_closed() {
    let harness = Harness::start();
    let (mut old, _) = harness.with_topic("t", 1).await;
    let mut new = harness.admin();
    old.init(Some("x")).await;
    let producer = new.init(Some("x")).await;
    let request = EndTxnRequest {
        transactional_id: "x".to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        committed: false,
    };
    assert!(old.try_call(3, &request).await.is_err());
}

/// Offset `offset` of partition 0 of `t`, for group `g`.
fn txn_offsets(id: &str, (producer_id, producer_epoch): (i64, i16), offset: i64) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topics = vec![TxnOffsetCommitRequestTopic {
        name: "t".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    }];
    TxnOffsetCommitRequest {
        transactional_id: id.to_owned(),
        group_id: "g".to_owned(),
        producer_id,
        producer_epoch,
        topics,
        ..Default::default()
    }
}

/// What group `g` has committed of partition 0 of `t`.
async fn committed_offset(client: &mut Client) -> i64 {
    let topic =
        OffsetFetchRequestTopics { name: "t".to_owned(), partition_indexes: vec![0], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: "g".to_owned(), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    client.call(8, &request).await.groups[0].topics[0].partitions[0].committed_offset
}

#[tokio::test]
async fn offsets_that_arrive_late_over_a_connection_given_up_do_not_replace_newer_ones() {
    for version in [4, 5] {
        let harness = Harness::start();
        let (mut given_up, _) = harness.with_topic("t", 1).await;
        let (mut group, mut coordinator) = (harness.user(), harness.user());
        let producer = coordinator.init(Some("x")).await;
        let enrol = AddOffsetsToTxnRequest {
            transactional_id: "x".to_owned(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            group_id: "g".to_owned(),
        };
        assert_eq!(coordinator.call(3, &enrol).await.error_code, ErrorCode::None);
        // The newer one overtakes: the older one, which its client has given up, comes afterwards.
        let newer = group.call(version, &txn_offsets("x", producer, 7)).await;
        assert_eq!(newer.topics[0].partitions[0].error_code, ErrorCode::None);
        assert!(
            given_up.try_call(version, &txn_offsets("x", producer, 3)).await.is_err(),
            "its connection ends"
        );
        assert_eq!(coordinator.end(5, "x", producer, true).await.error_code, ErrorCode::None);
        assert_eq!(committed_offset(&mut group).await, 7);

        // A new holder may use an older connection to the group's coordinator than the last one did.
        let mut old = harness.user();
        let mut last = harness.user();
        let producer = last.init(Some("x")).await;
        let staged = harness.user().call(5, &txn_offsets("x", producer, 8)).await;
        assert_eq!(staged.topics[0].partitions[0].error_code, ErrorCode::None);
        let producer = last.init(Some("x")).await;
        let staged = old.call(5, &txn_offsets("x", producer, 9)).await;
        assert_eq!(staged.topics[0].partitions[0].error_code, ErrorCode::None);
        assert_eq!(last.end(5, "x", producer, true).await.error_code, ErrorCode::None);
        assert_eq!(committed_offset(&mut group).await, 9);
    }
}

#[tokio::test]
async fn offsets_take_effect_with_their_transaction() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    let mut producer = client.init(Some("x")).await;
    for (committed, expected) in [(false, -1), (true, 42)] {
        let commit = TxnOffsetCommitRequest {
            transactional_id: "x".to_owned(),
            group_id: "g".to_owned(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: "t".to_owned(),
                partitions: [0, 9]
                    .map(|partition_index| TxnOffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: 42,
                        committed_metadata: Some("m".to_owned()),
                        ..Default::default()
                    })
                    .into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = client.call(5, &commit).await;
        let codes: Vec<_> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
        let fetch = |require_stable| OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: "g".to_owned(),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: "t".to_owned(),
                    topic_id: id,
                    partition_indexes: vec![0, 1],
                }]),
                ..Default::default()
            }],
            require_stable,
            ..Default::default()
        };
        let first = |response: OffsetFetchResponse| {
            let partition = &response.groups[0].topics[0].partitions[0];
            (partition.error_code, partition.committed_offset)
        };
        let open = first(client.call(8, &fetch(true)).await);
        assert_eq!(open, (ErrorCode::UnstableOffsetCommit, -1));
        assert_eq!(first(client.call(8, &fetch(false)).await), (ErrorCode::None, -1));
        let ended = client.end(5, "x", producer, committed).await;
        assert_eq!(ended.error_code, ErrorCode::None);
        producer = (ended.producer_id, ended.producer_epoch);
        assert_eq!(first(client.call(10, &fetch(true)).await), (ErrorCode::None, expected));
    }
}

#[tokio::test]
async fn operators_see_who_is_open_where() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    let producer = client.init(Some("x")).await;
    client.init(Some("idle")).await;
    client.produce(12, ("t", id, 1), Some("x"), batch(Some((producer, 0, true)), &["v"])).await;

    let list = |states: &[&str]| ListTransactionsRequest {
        state_filters: states.iter().map(|state| (*state).to_owned()).collect(),
        ..Default::default()
    };
    let ids = |response: &ListTransactionsResponse| {
        response.transaction_states.iter().map(|t| t.transactional_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&client.call(1, &list(&[])).await).len(), 2);
    let ongoing = client.call(1, &list(&["Ongoing", "Strange"])).await;
    assert_eq!(
        (ids(&ongoing), ongoing.unknown_state_filters),
        (vec!["x".to_owned()], vec!["Strange".to_owned()])
    );
    let old = ListTransactionsRequest { duration_filter: 3_600_000, ..list(&[]) };
    assert!(ids(&client.call(1, &old).await).is_empty());

    let describe =
        DescribeTransactionsRequest { transactional_ids: vec!["x".to_owned(), "nobody".to_owned()] };
    let described = client.call(0, &describe).await.transaction_states;
    assert_eq!(described[0].transaction_state, "Ongoing");
    assert_eq!(
        described[0].topics,
        [DescribedTransactionTopic { topic: "t".to_owned(), partitions: vec![1] }]
    );
    assert_eq!(described[1].error_code, ErrorCode::TransactionalIdNotFound);

    let topics = vec![DescribeProducersTopic { name: "t".to_owned(), partition_indexes: vec![1] }];
    let producers = client.call(0, &DescribeProducersRequest { topics }).await;
    let [state] = producers.topics[0].partitions[0].active_producers.as_slice() else {
        panic!("{producers:?}")
    };
    assert_eq!((state.producer_id, state.last_sequence, state.current_txn_start_offset), (producer.0, 0, 0));
}

#[tokio::test]
async fn enrolment_in_the_name_of_others_is_for_admins_and_a_check_enrols_nothing() {
    let harness = Harness::start();
    let (mut admin, id) = harness.with_topic("t", 1).await;
    let producer = admin.init(Some("x")).await;
    let request = |verify_only| AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: "x".to_owned(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            verify_only,
            topics: vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![0] }],
        }],
        ..Default::default()
    };
    let refused = harness.user().call(5, &request(false)).await;
    assert_eq!(refused.error_code, ErrorCode::ClusterAuthorizationFailed);
    let code = |response: AddPartitionsToTxnResponse| {
        response.results_by_transaction[0].topic_results[0].results_by_partition[0].partition_error_code
    };
    assert_eq!(code(admin.call(5, &request(true)).await), ErrorCode::TransactionAbortable);
    assert_eq!(code(admin.call(4, &request(false)).await), ErrorCode::None);
    assert_eq!(code(admin.call(4, &request(true)).await), ErrorCode::None);
    let _: TopicId = id;
}

#[tokio::test]
async fn a_long_aborted_run_is_passed_in_slices_that_the_connection_remembers() {
    use crate::broker::limits::FETCH_SLICE_ENTRIES;
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let to = ("t", id, 0);
    let producer = client.init(Some("x")).await;
    let appended = 2 * FETCH_SLICE_ENTRIES + 100;
    for chunk in (0..appended).collect::<Vec<_>>().chunks(64) {
        let mut pending = Vec::new();
        for sequence in chunk {
            let records = batch(Some((producer, i32::try_from(*sequence).unwrap(), true)), &["aborted"]);
            let request = produce_request(to, Some("x"), -1, Some(records));
            pending.push(client.send(12, &request).await.unwrap());
        }
        for pending in pending {
            let stored = pending.reply().await.unwrap();
            assert_eq!(stored.responses[0].partition_responses[0].error_code, ErrorCode::None);
        }
    }
    client.end(5, "x", producer, false).await;
    client.produce(9, to, None, batch(None, &["after"])).await;

    // No time to wait: each fetch looks at one slice, and the next one goes on behind it.
    for _ in 0..2 {
        let answer = client.fetch(12, to, 0, true).await;
        assert_eq!((answer.error_code, batches(&answer).len()), (ErrorCode::None, 0));
    }
    let answer = client.fetch(12, to, 0, true).await;
    assert_eq!(values(&answer), ["after"]);
    check_committed_answer(&answer);

    // With time, one fetch passes all of it.
    let mut request = fetch_request(to, 0, true);
    request.max_wait_ms = 30_000;
    let answer = harness.user().call(12, &request).await;
    assert_eq!(values(&answer.responses[0].partitions[0]), ["after"]);
}
