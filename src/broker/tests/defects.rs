//! Defects known elsewhere, as requests: each must come to nothing here (`tla/negative` has them as changes of the rules).

use super::harness::*;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

async fn append(
    client: &mut Client,
    id: TopicId,
    producer: (i64, i16),
    first: i32,
    value: &str,
) -> ErrorCode {
    let records = batch(Some((producer, first, true)), &[value]);
    client.produce(12, ("t", id, 0), Some("x"), records).await.error_code
}

/// KAFKA-17754, KIP-890: an EndTxn that was given up arrives in the next transaction.
#[tokio::test]
async fn a_delayed_end_does_not_end_a_later_transaction() {
    for committed in [true, false] {
        let harness = Harness::start();
        let (mut client, id) = harness.with_topic("t", 1).await;
        let first = client.init(Some("x")).await;
        append(&mut client, id, first, 0, "first").await;
        let ended = client.end(5, "x", first, true).await;
        let second = (ended.producer_id, ended.producer_epoch);
        assert_eq!(append(&mut client, id, second, 0, "second").await, ErrorCode::None);
        let delayed = harness.user().end(5, "x", first, committed).await;
        assert_eq!(delayed.error_code, ErrorCode::ProducerFenced);
        assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["first"]);
        assert_eq!(client.end(5, "x", second, false).await.error_code, ErrorCode::None);
        assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["first"]);
    }
}

/// KIP-890, KAFKA-9144: an append that was given up arrives after the marker, and nothing would ever end it.
#[tokio::test]
async fn a_delayed_append_leaves_nothing_hanging() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let first = client.init(Some("x")).await;
    append(&mut client, id, first, 0, "a").await;
    client.end(5, "x", first, true).await;
    assert_eq!(append(&mut client, id, first, 1, "late").await, ErrorCode::InvalidProducerEpoch);
    let second = client.init(Some("x")).await;
    client.init(Some("x")).await;
    assert_eq!(append(&mut client, id, second, 0, "late").await, ErrorCode::InvalidProducerEpoch);
    let answer = client.fetch(12, ("t", id, 0), 0, true).await;
    assert_eq!((answer.last_stable_offset, answer.high_watermark), (2, 2));
}

/// Kafka aborts the open transaction of an id before it refuses the zombie that asked for the id.
#[tokio::test]
async fn a_zombie_that_wants_its_id_back_aborts_nothing() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let old = client.init(Some("x")).await;
    let new = client.init(Some("x")).await;
    append(&mut client, id, new, 0, "v").await;
    let request = InitProducerIdRequest {
        transactional_id: Some("x".to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: old.0,
        producer_epoch: old.1,
        ..Default::default()
    };
    assert_eq!(harness.user().call(5, &request).await.error_code, ErrorCode::ProducerFenced);
    assert_eq!(client.end(5, "x", new, true).await.error_code, ErrorCode::None);
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["v"]);
}

/// A commit is never answered with success for what was aborted; nor twice for one transaction.
#[tokio::test]
async fn a_commit_says_only_what_is_true() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let mut producer = client.init(Some("x")).await;
    assert_eq!(
        client.end(5, "x", producer, true).await.error_code,
        ErrorCode::InvalidTxnState,
        "nothing is open"
    );
    append(&mut client, id, producer, 0, "aborted").await;
    let aborted = client.end(5, "x", producer, false).await;
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::InvalidTxnState);
    producer = (aborted.producer_id, aborted.producer_epoch);
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::InvalidTxnState);
    append(&mut client, id, producer, 0, "committed").await;
    let committed = client.end(5, "x", producer, true).await;
    let again = client.end(5, "x", producer, true).await;
    assert_eq!((again.error_code, again.producer_epoch), (ErrorCode::None, committed.producer_epoch));
    let next = (committed.producer_id, committed.producer_epoch);
    assert_eq!(client.end(5, "x", next, true).await.error_code, ErrorCode::InvalidTxnState);
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["committed"]);
}

/// Redpanda #23656: `CONCURRENT_TRANSACTIONS` for ever. Here a new holder is answered at once, whatever was open.
#[tokio::test]
async fn nobody_is_told_of_concurrent_transactions_where_none_is_under_way() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    for round in 0..5 {
        let producer = client.init(Some("x")).await;
        assert_eq!(append(&mut client, id, producer, 0, "open").await, ErrorCode::None, "round {round}");
    }
    let last = client.init(Some("x")).await;
    assert_eq!(append(&mut client, id, last, 0, "v").await, ErrorCode::None);
    assert_eq!(client.end(5, "x", last, true).await.error_code, ErrorCode::None);
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["v"]);
}

fn enrolment(producer: (i64, i16)) -> AddPartitionsToTxnRequest {
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "x".to_owned(),
        v3_and_below_producer_id: producer.0,
        v3_and_below_producer_epoch: producer.1,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![0] }],
        ..Default::default()
    }
}

/// KAFKA-17754: an AddPartitionsToTxn that was given up arrives after the end, where version 1 has the same epoch still. It
/// would begin a transaction that nobody knows of.
#[tokio::test]
async fn a_delayed_enrolment_begins_nothing() {
    let harness = Harness::start();
    let (mut older, id) = harness.with_topic("t", 1).await;
    let producer = older.init(Some("x")).await;
    let mut newer = harness.user();
    newer.call(3, &enrolment(producer)).await;
    let records = batch(Some((producer, 0, true)), &["v"]);
    assert_eq!(newer.produce(9, ("t", id, 0), Some("x"), records).await.error_code, ErrorCode::None);
    assert_eq!(newer.end(4, "x", producer, true).await.error_code, ErrorCode::None);
    assert!(older.try_call(3, &enrolment(producer)).await.is_err(), "its connection has been given up");
    let late = batch(Some((producer, 1, true)), &["late"]);
    let refused = newer.produce(9, ("t", id, 0), Some("x"), late).await.error_code;
    assert_eq!(refused, ErrorCode::InvalidTxnState, "nothing is open");
    let answer = newer.fetch(12, ("t", id, 0), 0, true).await;
    assert_eq!((answer.last_stable_offset, answer.high_watermark), (2, 2));
}

/// KAFKA-9666: when the last of a producer's records is deleted, its retry is taken for something new.
#[tokio::test]
async fn a_producer_is_remembered_longer_than_its_records() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(None).await;
    let first = || batch(Some((producer, 0, false)), &["a", "b"]);
    client.produce(9, ("t", id, 0), None, first()).await;
    assert_eq!(super::retention::delete(&mut client, 2, "t", 0, -1).await, (ErrorCode::None, 2));
    let (_harness, mut client) = harness.restarted(client).await;
    let again = client.produce(9, ("t", id, 0), None, first()).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::None, 0), "it is known");
    let gap = client.produce(9, ("t", id, 0), None, batch(Some((producer, 3, false)), &["d"])).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber);
    let next = client.produce(9, ("t", id, 0), None, batch(Some((producer, 2, false)), &["c"])).await;
    assert_eq!((next.error_code, next.base_offset), (ErrorCode::None, 2));
}

/// Redpanda #6018: what was begun is forgotten by a restart. Apache Kafka 4.4.0: the abort marker is skipped after one, and
/// the next commit of the same producer commits what was aborted. KAFKA-19999: a coordinator goes on from what it never wrote.
#[tokio::test]
async fn a_restart_neither_forgets_nor_ends_what_is_open() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let first = client.init(Some("x")).await;
    append(&mut client, id, first, 0, "committed").await;
    let (harness, mut client) = harness.restarted(client).await;
    let stable = async |client: &mut Client| client.fetch(12, ("t", id, 0), 0, true).await.last_stable_offset;
    assert_eq!(stable(&mut client).await, 0, "it is open");
    assert_eq!(append(&mut client, id, first, 1, "too").await, ErrorCode::None);
    let ended = client.end(5, "x", first, true).await;
    assert_eq!(ended.error_code, ErrorCode::None);

    let second = (ended.producer_id, ended.producer_epoch);
    append(&mut client, id, second, 0, "aborted").await;
    let (harness, mut client) = harness.restarted(client).await;
    let third = client.init(Some("x")).await;
    let (_harness, mut client) = harness.restarted(client).await;
    append(&mut client, id, third, 0, "next").await;
    assert_eq!(client.end(5, "x", third, true).await.error_code, ErrorCode::None);
    let answer = client.fetch(12, ("t", id, 0), 0, true).await;
    assert_eq!(values(&answer), ["committed", "too", "next"]);
    assert_eq!(answer.last_stable_offset, answer.high_watermark);
    let all = client.fetch(12, ("t", id, 0), 0, false).await;
    let markers = batches(&all).iter().filter(|batch| batch.header.control).count();
    assert_eq!(markers, 3, "one for each transaction");
}

/// Jepsen on Redpanda 21.10: the last stable offset is one too high, and readers get the first record of what aborts later.
#[tokio::test]
async fn a_reader_gets_all_before_the_last_stable_offset_and_nothing_at_it() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    client.produce(9, ("t", id, 0), None, batch(None, &["before"])).await;
    let producer = client.init(Some("x")).await;
    append(&mut client, id, producer, 0, "open").await;
    client.produce(9, ("t", id, 0), None, batch(None, &["behind"])).await;
    let answer = client.fetch(12, ("t", id, 0), 0, true).await;
    assert_eq!((answer.last_stable_offset, answer.high_watermark), (1, 3));
    assert_eq!(values(&answer), ["before"]);
    assert_eq!(batches(&client.fetch(12, ("t", id, 0), 1, true).await).len(), 0);
    client.end(5, "x", producer, false).await;
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["before", "behind"]);
}
