//! Outcomes that can be asked for, two-phase commit, operators.

use super::harness::*;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

fn outcome_of(id: &str, (producer_id, producer_epoch): (i64, i16)) -> DescribeOutcomesRequest {
    DescribeOutcomesRequest {
        transactional_id: id.to_owned(),
        producer_id,
        producer_epoch,
        ..Default::default()
    }
}

fn prepare(id: &str, (producer_id, producer_epoch): (i64, i16)) -> PrepareTxnRequest {
    PrepareTxnRequest { transactional_id: id.to_owned(), producer_id, producer_epoch, ..Default::default() }
}

fn by_operator(id: &str, committed: bool) -> EndTxnByOperatorRequest {
    EndTxnByOperatorRequest { transactional_id: id.to_owned(), committed, ..Default::default() }
}

async fn write(client: &mut Client, id: TopicId, producer: (i64, i16)) {
    let records = batch(Some((producer, 0, true)), &["v"]);
    let stored = client.produce(12, ("t", id, 0), Some("x"), records).await;
    assert_eq!(stored.error_code, ErrorCode::None);
}

/// (state, reason) of the one transaction that is known, or why none is.
async fn standing(client: &mut Client, request: &DescribeOutcomesRequest) -> Result<(i8, i8), i8> {
    let answer = client.call(0, request).await;
    assert_eq!(answer.error_code, ErrorCode::None, "{:?}", answer.error_message);
    match answer.transactions.as_slice() {
        [] => Err(answer.absence),
        [one] => Ok((one.state, one.reason)),
        more => panic!("{more:?}"),
    }
}

#[tokio::test]
async fn who_has_lost_the_answer_to_a_commit_can_ask_what_became_of_it() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let first = client.init(Some("x")).await;
    assert_eq!(standing(&mut client, &outcome_of("x", first)).await, Err(absence::NOT_BEGUN));
    write(&mut client, id, first).await;
    assert_eq!(standing(&mut client, &outcome_of("x", first)).await, Ok((outcome_state::OPEN, 0)));
    let ended = client.end(5, "x", first, true).await;
    let committed = Ok((outcome_state::COMMITTED, outcome_reason::REQUESTED));
    assert_eq!(standing(&mut harness.user(), &outcome_of("x", first)).await, committed);

    let second = (ended.producer_id, ended.producer_epoch);
    write(&mut client, id, second).await;
    let third = client.init(Some("x")).await;
    let fenced = Ok((outcome_state::ABORTED, outcome_reason::FENCED));
    assert_eq!(standing(&mut client, &outcome_of("x", second)).await, fenced);
    assert_eq!(standing(&mut client, &outcome_of("x", first)).await, committed, "it stays what it was");
    let fourth = client.init(Some("x")).await;
    assert_eq!(standing(&mut client, &outcome_of("x", third)).await, Err(absence::NEVER_BEGUN));
    assert_eq!(standing(&mut client, &outcome_of("x", fourth)).await, Err(absence::NOT_BEGUN));
    let other_life = (first.0 + 1000, 0);
    assert_eq!(standing(&mut client, &outcome_of("x", other_life)).await, Err(absence::FORGOTTEN));

    let all = outcome_of("x", (-1, -1));
    let numbers: Vec<_> =
        client.call(0, &all).await.transactions.iter().map(|t| (t.transaction_number, t.state)).collect();
    assert_eq!(numbers, [(2, outcome_state::ABORTED), (1, outcome_state::COMMITTED)]);
    let number = |transaction_number| DescribeOutcomesRequest { transaction_number, ..all.clone() };
    assert_eq!(standing(&mut client, &number(1)).await, committed);
    assert_eq!(standing(&mut client, &number(3)).await, Err(absence::NOT_BEGUN));
    assert_eq!(client.call(0, &outcome_of("y", first)).await.error_code, ErrorCode::TransactionalIdNotFound);
    assert_eq!(client.call(0, &outcome_of("x", (1, -1))).await.error_code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_prepared_transaction_waits_for_its_coordinator() {
    let harness = Harness::with(|config| config.two_phase_commit = true);
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    assert_eq!(client.call(0, &prepare("x", producer)).await.error_code, ErrorCode::InvalidTxnState);
    write(&mut client, id, producer).await;
    assert_eq!(client.call(0, &prepare("x", producer)).await.error_code, ErrorCode::None);
    let late = client.produce(12, ("t", id, 0), Some("x"), batch(Some((producer, 1, true)), &["late"])).await;
    assert_eq!(late.error_code, ErrorCode::InvalidTxnState);
    let listed = ListTransactionsRequest { state_filters: vec!["Prepared".to_owned()], ..Default::default() };
    assert_eq!(client.call(2, &listed).await.transaction_states[0].transactional_id, "x");
    let prepared = Ok((outcome_state::PREPARED, 0));
    assert_eq!(standing(&mut client, &outcome_of("x", producer)).await, prepared);

    let init = |enable_two_pc, keep_prepared_txn| InitProducerIdRequest {
        transactional_id: Some("x".to_owned()),
        transaction_timeout_ms: 60_000,
        enable_two_pc,
        keep_prepared_txn,
        ..Default::default()
    };
    assert_eq!(client.call(5, &init(false, false)).await.error_code, ErrorCode::InvalidTxnState);
    let kept = client.call(6, &init(true, true)).await;
    assert_eq!(kept.error_code, ErrorCode::None);
    assert_eq!((kept.ongoing_txn_producer_id, kept.ongoing_txn_producer_epoch), producer);
    let holder = (kept.producer_id, kept.producer_epoch);
    assert_eq!(client.end(5, "x", producer, true).await.error_code, ErrorCode::ProducerFenced);
    assert_eq!(client.end(5, "x", holder, true).await.error_code, ErrorCode::None);
    assert_eq!(values(&client.fetch(12, ("t", id, 0), 0, true).await), ["v"]);
    let committed = Ok((outcome_state::COMMITTED, outcome_reason::REQUESTED));
    assert_eq!(standing(&mut client, &outcome_of("x", producer)).await, committed);

    // A new holder that does not want it.
    let next = client.init(Some("x")).await;
    write(&mut client, id, next).await;
    client.call(0, &prepare("x", next)).await;
    assert_eq!(client.call(6, &init(true, false)).await.error_code, ErrorCode::None);
    let aborted = Ok((outcome_state::ABORTED, outcome_reason::FENCED));
    assert_eq!(standing(&mut client, &outcome_of("x", next)).await, aborted);
}

#[tokio::test]
async fn two_phase_commit_is_for_brokers_that_allow_it() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    write(&mut client, id, producer).await;
    let refused = client.call(0, &prepare("x", producer)).await;
    assert_eq!(refused.error_code, ErrorCode::TransactionalIdAuthorizationFailed);
    assert!(refused.error_message.unwrap().contains("two-phase-commit=true"));
}

#[tokio::test]
async fn an_operator_decides_what_is_in_doubt_and_is_named() {
    let harness = Harness::with(|config| config.two_phase_commit = true);
    let (mut admin, id) = harness.with_topic("t", 1).await;
    let producer = admin.init(Some("x")).await;
    write(&mut admin, id, producer).await;
    let refused = harness.user().call(0, &by_operator("x", false)).await;
    assert_eq!(refused.error_code, ErrorCode::ClusterAuthorizationFailed);
    assert_eq!(admin.call(0, &by_operator("x", true)).await.error_code, ErrorCode::InvalidTxnState);
    assert_eq!(admin.call(0, &by_operator("y", false)).await.error_code, ErrorCode::TransactionalIdNotFound);
    admin.call(0, &prepare("x", producer)).await;
    assert_eq!(admin.call(0, &by_operator("x", true)).await.error_code, ErrorCode::None);
    assert_eq!(values(&admin.fetch(12, ("t", id, 0), 0, true).await), ["v"]);
    let outcome = admin.call(0, &outcome_of("x", producer)).await.transactions.remove(0);
    assert_eq!((outcome.state, outcome.reason), (outcome_state::COMMITTED, outcome_reason::OPERATOR));
    assert!(outcome.operator.unwrap().contains("admin") && outcome.decided_time_ms > 0);
    assert_eq!(admin.call(0, &by_operator("x", false)).await.error_code, ErrorCode::InvalidTxnState);
}

#[tokio::test]
async fn own_requests_are_announced_apart_from_kafkas() {
    let harness = Harness::start();
    let request = ApiVersionsRequest {
        client_software_name: "a".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    let answer = harness.user().call(4, &request).await;
    assert!(answer.api_keys.iter().all(|api| api.api_key < 1_000));
    let own: Vec<_> = answer.private_apis.iter().map(|api| api.api_key).collect();
    assert_eq!(own, [28_000, 28_001, 28_002, 28_010]);
    assert!(harness.user().call(2, &ApiVersionsRequest::default()).await.private_apis.is_empty());
}
