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
