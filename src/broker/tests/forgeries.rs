//! Identities that nobody was given, names that nobody can have, lists that nobody needs: each gets a clear error, and whoever
//! is honest goes on as if nothing had been.

use super::harness::*;
use crate::core::limits::PARTITIONS_PER_TRANSACTION_MAX;
use crate::types::*;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

fn enrolment(id: &str, producer: (i64, i16), topic: &str, partitions: Vec<i32>) -> AddPartitionsToTxnRequest {
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.to_owned(),
        v3_and_below_producer_id: producer.0,
        v3_and_below_producer_epoch: producer.1,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: topic.to_owned(), partitions }],
        ..Default::default()
    }
}

fn group_enrolment(id: &str, producer: (i64, i16), group: &str) -> AddOffsetsToTxnRequest {
    AddOffsetsToTxnRequest {
        transactional_id: id.to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        group_id: group.to_owned(),
    }
}

fn offsets(id: &str, producer: (i64, i16), group: &str) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
    let topic = TxnOffsetCommitRequestTopic {
        name: "t".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    TxnOffsetCommitRequest {
        transactional_id: id.to_owned(),
        group_id: group.to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn initialisation(id: &str, producer: (i64, i16)) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(id.to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: producer.0,
        producer_epoch: producer.1,
        ..Default::default()
    }
}

/// What each request of a transaction is answered that somebody makes under this identity, over a connection of their own.
/// Partition 0 has `stored` records of it, so that its batches are in order there, and are neither repetitions nor gaps;
/// partition 1 has none.
async fn entrances(
    harness: &Harness,
    topic: TopicId,
    id: &str,
    (producer, stored): ((i64, i16), i32),
) -> Vec<(String, ErrorCode)> {
    let mut answers = Vec::new();
    for version in [9, 11, 12, 13] {
        for (partition, first) in [(0, stored), (1, 0)] {
            let records = batch(Some((producer, first, true)), &["forged"]);
            let stored = harness.user().produce(version, ("t", topic, partition), Some(id), records).await;
            answers.push((format!("Produce {version} to {partition}"), stored.error_code));
        }
    }
    let enrolled = harness.user().call(3, &enrolment(id, producer, "t", vec![1])).await;
    let code = enrolled.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
    answers.push(("AddPartitionsToTxn".to_owned(), code));
    let enrolled = harness.user().call(3, &group_enrolment(id, producer, "g")).await;
    answers.push(("AddOffsetsToTxn".to_owned(), enrolled.error_code));
    for version in [3, 5] {
        let staged = harness.user().call(version, &offsets(id, producer, "g")).await;
        answers.push((format!("TxnOffsetCommit {version}"), staged.topics[0].partitions[0].error_code));
    }
    for (version, committed) in [(4, true), (4, false), (5, true), (5, false)] {
        let ended = harness.user().end(version, id, producer, committed).await;
        answers.push((format!("EndTxn {version}, {committed}"), ended.error_code));
    }
    let prepared = PrepareTxnRequest {
        transactional_id: id.to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        ..Default::default()
    };
    answers.push(("PrepareTxn".to_owned(), harness.user().call(0, &prepared).await.error_code));
    answers
}

#[tokio::test]
async fn a_forged_identity_passes_no_entrance_and_disturbs_nobody() {
    let harness = Harness::with(|config| config.two_phase_commit = true);
    let (mut client, topic) = harness.with_topic("t", 2).await;
    let (honest, other) = (client.init(Some("x")).await, client.init(Some("other")).await);
    let plain = client.init(None).await;
    let records = batch(Some((honest, 0, true)), &["honest"]);
    assert_eq!(client.produce(12, ("t", topic, 0), Some("x"), records).await.error_code, ErrorCode::None);
    let forged = [
        (honest.0, honest.1 + 1),
        (honest.0, i16::MAX),
        (honest.0, i16::MIN),
        other,
        plain,
        (plain.0 + 1_000_000, 0),
        (i64::MAX, i16::MAX),
        (-2, 0),
        (i64::MIN, i16::MIN),
    ];
    for producer in forged {
        for (entrance, code) in entrances(&harness, topic, "x", (producer, 0)).await {
            assert_ne!(code, ErrorCode::None, "{entrance} as {producer:?}");
            assert!(!code.retriable(), "{entrance} as {producer:?}: {code} would be tried for ever");
        }
        let taken = harness.user().call(5, &initialisation("x", producer)).await.error_code;
        assert!(
            matches!(taken, ErrorCode::ProducerFenced | ErrorCode::InvalidRequest),
            "{producer:?}: {taken}"
        );
    }
    // A plain batch under the id of an open transaction, in order, at its own epoch and beyond.
    for (epoch, first) in [(honest.1, 1), (i16::MAX, 0)] {
        let records = batch(Some(((honest.0, epoch), first, false)), &["forged"]);
        let stored = harness.user().produce(12, ("t", topic, 0), None, records).await.error_code;
        assert_eq!(stored, ErrorCode::InvalidTxnState);
    }
    // Of sequences that are stored it is a repetition, as in Kafka: it is told where they are, and stores nothing.
    let records = batch(Some((honest, 0, false)), &["forged"]);
    let stored = harness.user().produce(12, ("t", topic, 0), None, records).await;
    assert_eq!((stored.error_code, stored.base_offset), (ErrorCode::None, 0));
    let records = batch(Some((honest, 1, true)), &["to the end"]);
    assert_eq!(client.produce(12, ("t", topic, 0), Some("x"), records).await.error_code, ErrorCode::None);
    let ended = client.end(5, "x", honest, true).await;
    assert_eq!((ended.error_code, ended.producer_epoch), (ErrorCode::None, honest.1 + 1));
    let stored = client.fetch(12, ("t", topic, 0), 0, true).await;
    assert_eq!(
        (values(&stored), stored.high_watermark),
        (vec!["honest".to_owned(), "to the end".to_owned()], 3)
    );
    assert_eq!(client.fetch(12, ("t", topic, 1), 0, false).await.high_watermark, 0);
}

#[tokio::test]
async fn a_forged_number_ends_nothing() {
    let harness = Harness::start();
    let (mut client, topic) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    let records = batch(Some((producer, 0, true)), &["v"]);
    client.produce(12, ("t", topic, 0), Some("x"), records).await;
    for transaction_number in [0, 2, i64::MAX, i64::MIN] {
        let end = EndTxnByOperatorRequest {
            transactional_id: "x".to_owned(),
            transaction_number,
            ..Default::default()
        };
        let by_user = harness.user().call(0, &end).await.error_code;
        assert_eq!(by_user, ErrorCode::ClusterAuthorizationFailed, "{transaction_number}");
        assert_ne!(client.call(0, &end).await.error_code, ErrorCode::None, "{transaction_number}");
        let asked = DescribeOutcomesRequest {
            transactional_id: "x".to_owned(),
            producer_id: -1,
            producer_epoch: -1,
            transaction_number,
        };
        assert_eq!(client.call(0, &asked).await.transactions, [], "{transaction_number}");
    }
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::None);
    assert_eq!(values(&client.fetch(12, ("t", topic, 0), 0, true).await), ["v"]);
}

/// As long as the wire format allows; longer ones are no request, as a test of the decoder has it.
fn longest() -> String {
    "x".repeat(32_767)
}

#[tokio::test]
async fn a_transactional_id_of_any_length_is_answered() {
    let harness = Harness::start();
    let (mut admin, topic) = harness.with_topic("t", 2).await;
    let longest_served = "x".repeat(TransactionalId::BYTES_MAX);
    let producer = admin.init(Some(&longest_served)).await;
    let records = batch(Some((producer, 0, true)), &["v"]);
    let stored = admin.produce(12, ("t", topic, 0), Some(&longest_served), records).await;
    assert_eq!(stored.error_code, ErrorCode::None);

    for id in [longest(), "x".repeat(TransactionalId::BYTES_MAX + 1)] {
        let taken = harness.user().call(5, &initialisation(&id, (-1, -1))).await;
        assert_eq!(taken.error_code, ErrorCode::InvalidRequest);
        for (entrance, code) in entrances(&harness, topic, &id, (producer, 1)).await {
            let known = [
                ErrorCode::InvalidRequest,
                ErrorCode::InvalidProducerIdMapping,
                ErrorCode::TransactionalIdAuthorizationFailed,
            ];
            assert!(known.contains(&code), "{entrance}: {code}");
        }
        let described = DescribeTransactionsRequest { transactional_ids: vec![id.clone()] };
        let described = admin.call(0, &described).await.transaction_states.remove(0);
        assert_eq!(described.error_code, ErrorCode::TransactionalIdNotFound);
        let end =
            EndTxnByOperatorRequest { transactional_id: id, transaction_number: 1, ..Default::default() };
        assert_eq!(admin.call(0, &end).await.error_code, ErrorCode::InvalidRequest);
    }
    assert_eq!(admin.end(5, &longest_served, producer, true).await.error_code, ErrorCode::None);
}

/// A transaction may carry the offsets of a named number of groups: their names are bounded too.
#[tokio::test]
async fn a_group_id_that_is_too_long_is_enrolled_nowhere() {
    let harness = Harness::start();
    let (mut client, topic) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    let records = batch(Some((producer, 0, true)), &["v"]);
    client.produce(12, ("t", topic, 0), Some("x"), records).await;
    let refused = client.call(3, &group_enrolment("x", producer, &longest())).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest);
    let refused =
        client.call(5, &offsets("x", producer, &longest())).await.topics[0].partitions[0].error_code;
    assert_eq!(refused, ErrorCode::InvalidGroupId);
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::None);
}

/// Many more partitions than a transaction may have, known and unknown ones. Not traced: the specification would look at each
/// of a hundred thousand enrolments, with all partitions before it.
#[tokio::test]
async fn a_transaction_has_so_many_partitions_and_can_be_ended_beyond() {
    let harness = Harness::untraced();
    let most = i32::try_from(PARTITIONS_PER_TRANSACTION_MAX).unwrap();
    let (mut client, topic) = harness.with_topic("t", most + 1).await;
    let producer = client.init(Some("x")).await;
    // Which codes there are, each once.
    let codes = |response: AddPartitionsToTxnResponse| {
        let partitions =
            response.results_by_topic_v3_and_below.into_iter().flat_map(|topic| topic.results_by_partition);
        let mut codes =
            partitions.map(|partition| i16::from(partition.partition_error_code)).collect::<Vec<_>>();
        codes.sort_unstable();
        codes.dedup();
        codes.into_iter().map(ErrorCode::from).collect::<Vec<_>>()
    };
    let unknown = client.call(3, &enrolment("x", producer, "t", (0..100_000).collect())).await;
    assert_eq!(codes(unknown), [ErrorCode::UnknownTopicOrPartition, ErrorCode::OperationNotAttempted]);
    let again = vec![0; 100_000];
    assert_eq!(codes(client.call(3, &enrolment("x", producer, "t", again)).await), [ErrorCode::None]);
    let beyond = client.call(3, &enrolment("x", producer, "t", (0..=most).collect())).await;
    assert_eq!(codes(beyond), [ErrorCode::InvalidTxnState], "all of them or none");
    let all = client.call(3, &enrolment("x", producer, "t", (0..most).collect())).await;
    assert_eq!(codes(all), [ErrorCode::None]);
    let records = batch(Some((producer, 0, true)), &["one more"]);
    let refused = client.produce(12, ("t", topic, most), Some("x"), records).await;
    assert_eq!(refused.error_code, ErrorCode::TransactionAbortable);
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::None);
    assert_eq!(client.fetch(12, ("t", topic, most - 1), 0, true).await.high_watermark, 1, "its marker");
    let listed = harness.user().try_call(3, &enrolment("x", producer, "t", vec![0; 200_001])).await;
    assert!(listed.is_err(), "more than there can be: the connection is closed");
}

/// It holds back no reader, and is ended at its deadline.
#[tokio::test]
async fn who_enrols_and_never_writes_holds_nobody_back() {
    let harness = Harness::start();
    let (mut client, topic) = harness.with_topic("t", 1).await;
    let init = InitProducerIdRequest { transaction_timeout_ms: 1_000, ..initialisation("idle", (-1, -1)) };
    let idle = client.call(5, &init).await;
    let idle = (idle.producer_id, idle.producer_epoch);
    client.call(3, &enrolment("idle", idle, "t", vec![0])).await;
    client.call(3, &group_enrolment("idle", idle, "g")).await;
    let mut writer = harness.user();
    let producer = writer.init(Some("x")).await;
    let records = batch(Some((producer, 0, true)), &["v"]);
    assert_eq!(writer.produce(12, ("t", topic, 0), Some("x"), records).await.error_code, ErrorCode::None);
    assert_eq!(writer.end(5, "x", producer, true).await.error_code, ErrorCode::None);
    assert_eq!(values(&writer.fetch(12, ("t", topic, 0), 0, true).await), ["v"], "nothing is held back");

    // Its marker comes at the deadline, and wakes who waits for it.
    let mut request = fetch_request(("t", topic, 0), 2, true);
    request.max_wait_ms = 30_000;
    let marker = writer.call(12, &request).await.responses.remove(0).partitions.remove(0);
    assert_eq!(batches(&marker).len(), 1);
    assert!(batches(&marker)[0].header.control);
    assert_eq!(client.end(4, "idle", idle, true).await.error_code, ErrorCode::ProducerFenced);
}
