//! The Rust client against the release binary, over QUIC and over TLS: transactions, fencing, kills, lost answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[macro_use]
mod common;

use common::broker::Broker;
use common::tools::inner_cargo;
use semel::client::{
    Admin, BackoffLimits, Client, ClientConfig, ClientError, CommitError, Committed, Compression,
    ConsumedRecord, Consumer, ConsumerConfig, GroupFilter, GroupMember, IDEMPOTENCY_KEY_HEADER, Isolation,
    NewTopic, OffsetQuery, OffsetToCommit, OutcomeQuery, Outcomes, ProduceError, Producer, ProducerConfig,
    ProducerRecord, RecordHeader, ResolveError, Resolved, Standing, Start, TlsFiles, TopicPartition,
    TransactionConfig, TransactionError, TransactionFilter, TransactionProtocol, TransactionalProducer,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use semel::wire::ErrorCode;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 3;

over_both! {
    committed_transactions_are_seen_whole_and_others_never
    so_they_are_in_the_first_protocol
    overlapping_transactions_show_only_what_was_committed
    offsets_take_effect_with_their_transaction
    a_new_holder_fences_the_old_one
    a_commit_without_an_answer_is_said_to_be_unknown
    what_became_of_such_a_commit_can_be_asked
    a_commit_that_is_dropped_is_done_or_not
    an_operator_sees_who_holds_back_readers_and_ends_it
    a_prepared_transaction_waits_for_a_decision_through_kills
    a_new_process_decides_what_the_old_one_had_prepared
    a_decision_that_is_dropped_is_taken_or_not
    who_was_fenced_learns_an_outcome_and_takes_nothing_back
    an_idempotency_key_is_accepted_once
    acknowledged_records_survive_kills_once_and_in_order
    every_compression_is_kept
    topics_are_administered
    groups_are_administered
}

fn config(broker: &Broker, scheme: &str) -> ClientConfig {
    let endpoint = format!("{scheme}://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    config.backoff = BackoffLimits { first: Duration::from_millis(10), longest: Duration::from_millis(200) };
    config
}

fn topic() -> TopicName {
    TopicName::new(TOPIC).unwrap()
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(topic(), PartitionIndex(index))
}

async fn start(scheme: &str) -> (Broker, Client) {
    start_with(scheme, &[]).await
}

async fn start_with(scheme: &str, arguments: &[&str]) -> (Broker, Client) {
    let broker = Broker::start_with(arguments);
    let client = Client::connect(config(&broker, scheme)).await.unwrap();
    Admin::new(&client).create_topic(&NewTopic::new(topic(), PARTITIONS)).await.unwrap();
    (broker, client)
}

#[expect(clippy::needless_pass_by_value, reason = "values are made where they are sent")]
fn record(index: i32, value: impl ToString) -> ProducerRecord {
    ProducerRecord::new(topic(), value.to_string()).partition(PartitionIndex(index))
}

async fn transactional(client: &Client, id: &str) -> TransactionalProducer {
    transactional_with(client, id, TransactionProtocol::Implicit).await
}

async fn transactional_with(
    client: &Client,
    id: &str,
    protocol_max: TransactionProtocol,
) -> TransactionalProducer {
    let config = TransactionConfig { protocol_max, ..TransactionConfig::default() };
    TransactionalProducer::init(client, TransactionalId::new(id).unwrap(), config).await.unwrap()
}

/// One that does not wait long for the answer to a commit.
async fn impatient(client: &Client, id: &str) -> TransactionalProducer {
    let config = TransactionConfig { commit_timeout: Duration::from_secs(5), ..TransactionConfig::default() };
    TransactionalProducer::init(client, TransactionalId::new(id).unwrap(), config).await.unwrap()
}

/// All that a reader sees of each partition, from its start to its end.
async fn read(client: &Client, isolation: Isolation) -> BTreeMap<i32, Vec<ConsumedRecord>> {
    let asked: Vec<_> = (0..PARTITIONS).map(|index| (partition(index), Start::Latest)).collect();
    let ends = Admin::new(client).find_offsets(&asked, isolation).await.unwrap();
    let ends: Vec<Offset> = ends.into_iter().map(Result::unwrap).collect();
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    (0..PARTITIONS).for_each(|index| consumer.seek(partition(index), Start::Earliest));
    let mut seen: BTreeMap<i32, Vec<ConsumedRecord>> = BTreeMap::new();
    let behind = |consumer: &Consumer| {
        (0..PARTITIONS)
            .zip(&ends)
            .any(|(index, end)| *end > consumer.position(&partition(index)).unwrap_or(Offset::ZERO))
    };
    while behind(&consumer) {
        for record in consumer.next_chunk().await.unwrap() {
            seen.entry(record.partition.partition.0).or_default().push(record);
        }
    }
    seen
}

/// The same, as text, all partitions after one another.
async fn texts(client: &Client, isolation: Isolation) -> Vec<String> {
    let seen = read(client, isolation).await;
    let values = seen.into_values().flatten().map(|record| record.record.value.unwrap());
    values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

async fn committed_transactions_are_seen_whole_and_others_never(scheme: &str) {
    committed_transactions_are_seen_whole(scheme, TransactionProtocol::Implicit).await;
}

async fn so_they_are_in_the_first_protocol(scheme: &str) {
    committed_transactions_are_seen_whole(scheme, TransactionProtocol::Explicit).await;
}

async fn committed_transactions_are_seen_whole(scheme: &str, protocol: TransactionProtocol) {
    let (_broker, client) = start(scheme).await;
    let mut producer = transactional_with(&client, "one", protocol).await;
    for (name, commit) in [("a", true), ("b", false), ("c", true)] {
        let mut transaction = producer.begin().await.unwrap();
        for index in 0..PARTITIONS {
            transaction.send(record(index, name)).await.unwrap();
            transaction.send(record(index, format!("{name}{name}"))).await.unwrap();
        }
        transaction.flush().await.unwrap();
        match commit {
            true => drop(transaction.commit().await.unwrap()),
            false => transaction.abort().await.unwrap(),
        }
    }
    // Dropped, after its records have been stored.
    let mut dropped = producer.begin().await.unwrap();
    dropped.send(record(0, "d")).await.unwrap();
    dropped.flush().await.unwrap();
    drop(dropped);
    // Begun after it, so the abort is done.
    let mut last = producer.begin().await.unwrap();
    last.send(record(0, "e")).await.unwrap();
    last.commit().await.unwrap();
    // Nothing was sent, so there is nothing to say.
    producer.begin().await.unwrap().commit().await.unwrap();

    assert_eq!(texts(&client, Isolation::ReadCommitted).await.join(" "), "a aa c cc e a aa c cc a aa c cc");
    let all = texts(&client, Isolation::ReadUncommitted).await.join(" ");
    assert_eq!(all, "a aa b bb c cc d e a aa b bb c cc a aa b bb c cc");
}

async fn overlapping_transactions_show_only_what_was_committed(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let mut producers = Vec::new();
    for number in 0..4 {
        producers.push(transactional(&client, &format!("overlap-{number}")).await);
    }
    let mut expected = Vec::new();
    for round in 0..5 {
        let mut open = Vec::new();
        for (number, producer) in producers.iter_mut().enumerate() {
            let mut transaction = producer.begin().await.unwrap();
            transaction.send(record(0, format!("{round}{number}"))).await.unwrap();
            transaction.flush().await.unwrap();
            open.push(transaction);
        }
        for (number, mut transaction) in open.into_iter().enumerate() {
            transaction.send(record(0, format!("{round}{number}+"))).await.unwrap();
            if (round + number) % 2 == 0 {
                transaction.commit().await.unwrap();
                expected.extend([format!("{round}{number}"), format!("{round}{number}+")]);
            } else {
                transaction.abort().await.unwrap();
            }
        }
    }
    let mut seen = texts(&client, Isolation::ReadCommitted).await;
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

async fn offsets_take_effect_with_their_transaction(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let mut producer = transactional(&client, "offsets").await;
    let group = GroupId::new("readers");
    let mut committed = BTreeMap::new();
    for (next, commit) in [(5, false), (7, true), (9, false)] {
        let mut transaction = producer.begin().await.unwrap();
        transaction.send(record(1, next)).await.unwrap();
        let offsets = BTreeMap::from([(partition(2), OffsetToCommit::new(Offset(next)))]);
        transaction.send_offsets(&GroupMember::none(group.clone()), &offsets).await.unwrap();
        if commit {
            transaction.commit().await.unwrap();
            committed = offsets;
        } else {
            transaction.abort().await.unwrap();
        }
        let found = client.committed_offsets(&group, &[partition(2)], OffsetQuery::Stable).await.unwrap();
        assert_eq!(found, committed);
    }
    // And without a transaction.
    let offsets =
        BTreeMap::from([(partition(0), OffsetToCommit { next: Offset(3), metadata: "m".to_owned() })]);
    client.commit_offsets(&GroupMember::none(group.clone()), &offsets).await.unwrap();
    let found =
        client.committed_offsets(&group, &[partition(0), partition(1)], OffsetQuery::Latest).await.unwrap();
    assert_eq!(found, offsets);
}

async fn a_new_holder_fences_the_old_one(scheme: &str) {
    let (broker, client) = start(scheme).await;
    let mut old = transactional(&client, "held").await;
    let mut transaction = old.begin().await.unwrap();
    transaction.send(record(0, "old")).await.unwrap();
    transaction.flush().await.unwrap();
    let other = Client::connect(config(&broker, scheme)).await.unwrap();
    let mut new = transactional(&other, "held").await;
    let fenced = transaction.commit().await.unwrap_err();
    assert!(matches!(fenced, CommitError::Fenced(_)), "{fenced}");
    let refused = old.begin().await.err().unwrap();
    assert!(matches!(refused, TransactionError::Fenced(_)), "{refused}");
    let mut transaction = new.begin().await.unwrap();
    transaction.send(record(0, "new")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(texts(&client, Isolation::ReadCommitted).await, ["new"]);
}

async fn a_commit_without_an_answer_is_said_to_be_unknown(scheme: &str) {
    let (mut broker, client) = start(scheme).await;
    let mut producer = impatient(&client, "lost").await;
    let mut transaction = producer.begin().await.unwrap();
    transaction.send(record(0, "lost")).await.unwrap();
    transaction.flush().await.unwrap();
    broker.kill();
    let error = transaction.commit().await.unwrap_err();
    // Over TCP the end of the connection may be noticed before anything is sent: then it is known that nothing was.
    match error {
        CommitError::Unknown(unknown) => {
            assert_eq!(unknown.transactional_id.as_str(), "lost");
            let refused = producer.begin().await.err().unwrap();
            assert!(matches!(refused, TransactionError::InDoubt(_)), "{refused}");
        }
        CommitError::Aborted { .. } => assert_eq!(scheme, "tls"),
        CommitError::Fenced(_) => panic!("nobody else is there: {error}"),
    }
    drop(producer);
    broker.restart();
    let client = Client::connect(config(&broker, scheme)).await.unwrap();
    transactional(&client, "lost").await;
    assert_eq!(texts(&client, Isolation::ReadCommitted).await, [""; 0]);
}

async fn what_became_of_such_a_commit_can_be_asked(scheme: &str) {
    let (mut broker, client) = start(scheme).await;
    let mut producer = impatient(&client, "lost").await;
    assert!(matches!(producer.resolve().await, Err(ResolveError::NothingToResolve)));
    let mut transaction = producer.begin().await.unwrap();
    transaction.send(record(0, "lost")).await.unwrap();
    transaction.flush().await.unwrap();
    broker.kill();
    let error = transaction.commit().await.unwrap_err();
    broker.restart();
    let CommitError::Unknown(unknown) = error else {
        // Over TCP the end of the connection may be noticed before anything is sent: then nothing has to be asked.
        return assert!(scheme == "tls" && matches!(error, CommitError::Aborted { .. }), "{error}");
    };
    // It is still open: asking sends the commit again, and what is said then stays so, for whoever asks.
    assert_eq!(producer.resolve().await.unwrap(), Resolved::Committed);
    let other = Client::connect(config(&broker, scheme)).await.unwrap();
    assert_eq!(unknown.resolve(&other).await.unwrap(), Resolved::Committed);
    let mut next = producer.begin().await.unwrap();
    next.send(record(0, "next")).await.unwrap();
    next.commit().await.unwrap();
    assert_eq!(texts(&client, Isolation::ReadCommitted).await, ["lost", "next"]);
}

/// The outcome of a commit, or none: it is dropped when it has waited so many times.
async fn dropped_after(
    waits: u32,
    commit: impl Future<Output = Result<Committed, CommitError>>,
) -> Option<Committed> {
    let (mut left, mut commit) = (waits, pin!(commit));
    let polled = poll_fn(|context| match commit.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    });
    polled.await.map(Result::unwrap)
}

async fn a_commit_that_is_dropped_is_done_or_not(scheme: &str) {
    const TRANSACTIONS: u32 = 60;
    let (_broker, client) = start(scheme).await;
    let mut producer = transactional(&client, "one").await;
    let (mut expected, mut dropped) = (Vec::new(), 0);
    for number in 0..TRANSACTIONS {
        let mut transaction = producer.begin().await.unwrap();
        for index in 0..PARTITIONS {
            transaction.send(record(index, number)).await.unwrap();
            // Some have records that are stored before the commit.
            if number % 3 == 0 && index == 0 {
                transaction.flush().await.unwrap();
            }
        }
        let is_committed = match dropped_after(number % 6, transaction.commit()).await {
            Some(_) => true,
            None => {
                dropped += 1;
                match producer.resolve().await {
                    Ok(resolved) => resolved == Resolved::Committed,
                    // It had not been asked for: so it is as if the transaction had been dropped.
                    Err(ResolveError::NothingToResolve) => false,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        if is_committed {
            expected.extend((0..PARTITIONS).map(|_| number.to_string()));
        }
    }
    producer.begin().await.unwrap().abort().await.unwrap();
    assert!(dropped > 0, "no commit had to wait");
    let mut seen = texts(&client, Isolation::ReadCommitted).await;
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

async fn an_operator_sees_who_holds_back_readers_and_ends_it(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let admin = Admin::new(&client);
    assert_eq!(admin.blockers(&[topic()]).await.unwrap(), []);
    let mut producer = transactional(&client, "slow-1").await;
    transactional(&client, "idle-1").await;
    let mut transaction = producer.begin().await.unwrap();
    transaction.send(record(1, "a")).await.unwrap();
    transaction.flush().await.unwrap();

    let blockers = admin.blockers(&[topic()]).await.unwrap();
    let [blocker] = blockers.as_slice() else { panic!("{blockers:?}") };
    assert_eq!((&blocker.partition, blocker.first_offset), (&partition(1), Offset(0)));
    let open = blocker.transaction.clone().unwrap();
    assert_eq!((open.transactional_id.as_str(), open.state.as_str()), ("slow-1", "Ongoing"));
    assert_eq!(open.partitions, [(TOPIC.to_owned(), 1)]);
    let filter = TransactionFilter { pattern: Some("slow-.".to_owned()), ..TransactionFilter::default() };
    assert_eq!(admin.list_transactions(&filter).await.unwrap(), std::slice::from_ref(&open));

    let id = TransactionalId::new("slow-1").unwrap();
    let refused = client.end_transaction(&id, None, true).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidTxnState), "it is not prepared: {refused}");
    client.end_transaction(&id, Some(1), false).await.unwrap();
    let refused = transaction.commit().await.unwrap_err();
    assert!(matches!(refused, CommitError::Fenced(_)), "{refused}");
    let Outcomes::Known(known) = client.describe_outcomes(&id, OutcomeQuery::Number(1)).await.unwrap() else {
        panic!("the outcome is not known");
    };
    assert_eq!((known[0].standing, known[0].reason), (Standing::Aborted, Some("operator")));
    assert!(known[0].operator.as_ref().unwrap().0.contains("semel-client"), "{known:?}");
    assert_eq!(admin.blockers(&[topic()]).await.unwrap(), []);
}

async fn a_new_process_decides_what_the_old_one_had_prepared(scheme: &str) {
    let (mut broker, client) = start_with(scheme, &["--two-phase-commit", "true"]).await;
    for (id, index) in [("commits", 0), ("aborts", 1)] {
        let mut producer = transactional(&client, id).await;
        let mut transaction = producer.begin().await.unwrap();
        transaction.send(record(index, id)).await.unwrap();
        transaction.prepare(None).await.unwrap();
    }
    broker.kill();
    broker.restart();
    let client = Client::connect(config(&broker, scheme)).await.unwrap();
    for id in ["commits", "aborts"] {
        let transactional_id = TransactionalId::new(id).unwrap();
        let take_over = || {
            let (id, config) = (transactional_id.clone(), TransactionConfig::default());
            TransactionalProducer::init_keeping_prepared(&client, id, config)
        };
        drop(take_over().await.unwrap());
        let mut producer = take_over().await.unwrap();
        let refused = producer.begin().await.err().unwrap();
        assert!(matches!(refused, TransactionError::InDoubt(_)), "{refused}");
        let mut prepared = producer.prepared().await.expect("the prepared transaction");
        assert!(prepared.send(record(0, "too late")).await.is_err());
        match id {
            "commits" => drop(prepared.commit().await.unwrap()),
            _ => prepared.abort().await.unwrap(),
        }
        assert!(producer.prepared().await.is_none());
        let mut next = producer.begin().await.unwrap();
        next.send(record(2, format!("after {id}"))).await.unwrap();
        next.commit().await.unwrap();
        assert!(take_over().await.unwrap().prepared().await.is_none(), "there is none");
    }
    let mut read = texts(&client, Isolation::ReadCommitted).await;
    read.sort();
    assert_eq!(read, ["after aborts", "after commits", "commits"]);
}

/// Of what another process had prepared, and whose records have another identity than the one that decides.
async fn a_decision_that_is_dropped_is_taken_or_not(scheme: &str) {
    const TRANSACTIONS: u32 = 8;
    let (_broker, client) = start_with(scheme, &["--two-phase-commit", "true"]).await;
    for number in 0..TRANSACTIONS {
        {
            let mut producer = transactional(&client, "two").await;
            let mut transaction = producer.begin().await.unwrap();
            transaction.send(record(0, number)).await.unwrap();
            transaction.prepare(None).await.unwrap();
        }
        let take_over = || {
            let (id, config) = (TransactionalId::new("two").unwrap(), TransactionConfig::default());
            TransactionalProducer::init_keeping_prepared(&client, id, config)
        };
        let mut producer = take_over().await.unwrap();
        let prepared = producer.prepared().await.expect("the prepared transaction");
        if dropped_after(number % 4, prepared.commit()).await.is_some() {
            continue;
        }
        match producer.resolve().await {
            Ok(resolved) => assert_eq!(resolved, Resolved::Committed),
            // The broker has not heard of the decision; if that was still on its way, it may have since.
            Err(ResolveError::Prepared) => {
                let mut producer = take_over().await.unwrap();
                if let Some(prepared) = producer.prepared().await {
                    prepared.commit().await.unwrap();
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    let read = texts(&client, Isolation::ReadCommitted).await;
    assert_eq!(read, (0..TRANSACTIONS).map(|number| number.to_string()).collect::<Vec<_>>());
}

async fn who_was_fenced_learns_an_outcome_and_takes_nothing_back(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    for waits in 0..3 {
        let mut old = transactional(&client, "id").await;
        let mut transaction = old.begin().await.unwrap();
        transaction.send(record(0, "old")).await.unwrap();
        if dropped_after(waits, transaction.commit()).await.is_some() {
            continue;
        }
        let mut new = transactional(&client, "id").await;
        let mut transaction = new.begin().await.unwrap();
        transaction.send(record(1, "new")).await.unwrap();
        transaction.flush().await.unwrap();
        match old.resolve().await {
            Ok(_) | Err(ResolveError::NothingToResolve) => {}
            Err(error) => panic!("{error}"),
        }
        // It may not have heard of it yet.
        match old.begin().await {
            Ok(mut next) => {
                next.send(record(2, "fenced")).await.unwrap();
                assert!(next.commit().await.is_err(), "somebody else holds the id");
            }
            Err(refused) => assert!(matches!(refused, TransactionError::Fenced(_)), "{refused}"),
        }
        transaction.commit().await.unwrap();
    }
    let read = texts(&client, Isolation::ReadCommitted).await;
    assert!(read.contains(&"new".to_owned()) && !read.contains(&"fenced".to_owned()), "{read:?}");
}

async fn an_idempotency_key_is_accepted_once(scheme: &str) {
    let (mut broker, client) = start(scheme).await;
    let settings = [("semel.idempotency.key.header".to_owned(), Some(IDEMPOTENCY_KEY_HEADER.to_owned()))];
    Admin::new(&client).alter_topic_config(&topic(), &settings).await.unwrap();
    let keyed = |index, key: &'static str| record(index, key).idempotency_key(key);
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    let first = producer.send(keyed(1, "a")).await.unwrap().await.unwrap();
    broker.kill();
    broker.restart();
    let client = Client::connect(config(&broker, scheme)).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    let known = producer.send(keyed(2, "a")).await.unwrap();
    let beside = producer.send(keyed(2, "b")).await.unwrap();
    match known.await.unwrap_err() {
        ProduceError::AlreadyAccepted { topic: of, partition, offset } => {
            assert_eq!((of, partition), (topic(), PartitionIndex(1)));
            assert_eq!(Some(offset), first.offset);
        }
        other => panic!("{other}"),
    }
    // It was in the same batch; alone it is taken.
    if beside.await.is_err() {
        producer.send(keyed(2, "b")).await.unwrap().await.unwrap();
    }
    // A plain producer waits for the end of a transaction that holds its key; another transaction does not.
    let mut holder = transactional(&client, "holder").await;
    let mut holds = holder.begin().await.unwrap();
    holds.send(keyed(0, "c")).await.unwrap();
    holds.flush().await.unwrap();
    let mut other = transactional(&client, "other").await;
    let mut refused = other.begin().await.unwrap();
    refused.send(keyed(0, "c")).await.unwrap();
    assert!(matches!(refused.commit().await, Err(CommitError::Aborted { .. })));
    let waiting = producer.send(keyed(0, "c")).await.unwrap();
    holds.abort().await.unwrap();
    waiting.await.unwrap();
    let mut read = texts(&client, Isolation::ReadCommitted).await;
    read.sort();
    assert_eq!(read, ["a", "b", "c"]);
}

async fn a_prepared_transaction_waits_for_a_decision_through_kills(scheme: &str) {
    let (mut broker, client) = start_with(scheme, &["--two-phase-commit", "true"]).await;
    let mut producer = transactional(&client, "mine").await;
    let mut transaction = producer.begin().await.unwrap();
    transaction.send(record(0, "decided here")).await.unwrap();
    transaction.prepare(None).await.unwrap();
    assert!(transaction.send(record(0, "too late")).await.is_err());
    transaction.commit().await.unwrap();
    assert_eq!(texts(&client, Isolation::ReadCommitted).await, ["decided here"]);

    let mut producer = transactional(&client, "operators").await;
    let mut transaction = producer.begin().await.unwrap();
    transaction.send(record(1, "decided by an operator")).await.unwrap();
    transaction.prepare(None).await.unwrap();
    drop(transaction);
    let refused = producer.begin().await.err().unwrap();
    assert!(matches!(refused, TransactionError::InDoubt(_)), "{refused}");
    broker.kill();
    broker.restart();
    let id = TransactionalId::new("operators").unwrap();
    let client = Client::connect(config(&broker, scheme)).await.unwrap();
    client.end_transaction(&id, Some(1), true).await.unwrap();
    let seen = texts(&client, Isolation::ReadCommitted).await;
    assert_eq!(seen, ["decided here", "decided by an operator"]);
}

async fn acknowledged_records_survive_kills_once_and_in_order(scheme: &str) {
    let (mut broker, client) = start(scheme).await;
    let config =
        ProducerConfig { batch_bytes: 500, linger: Duration::from_millis(1), ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).unwrap();
    let mut deliveries = Vec::new();
    for number in 0..6000 {
        deliveries.push((number, producer.send(record(number % PARTITIONS, number)).await.unwrap()));
        if number % 1500 == 750 {
            broker.kill();
            broker.restart();
        }
        if number % 50 == 0 {
            // Lets batches of all sizes form.
            tokio::task::yield_now().await;
        }
    }
    producer.flush().await.unwrap();
    let mut expected: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
    for (number, delivery) in deliveries {
        let delivered = delivery.await.unwrap();
        assert_eq!(delivered.partition, partition(number % PARTITIONS));
        let stored = expected.entry(number % PARTITIONS).or_default();
        stored.push((delivered.offset.unwrap().0, number.to_string()));
    }
    for (index, seen) in read(&client, Isolation::ReadCommitted).await {
        let seen = seen.into_iter().map(|record| {
            (record.offset.0, String::from_utf8(record.record.value.unwrap().to_vec()).unwrap())
        });
        assert_eq!(seen.collect::<Vec<_>>(), expected[&index]);
    }
}

async fn every_compression_is_kept(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let all =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let header = RecordHeader { name: "h".into(), value: Some("v".into()) };
    for compression in all {
        let producer =
            Producer::new(&client, ProducerConfig { compression, ..ProducerConfig::default() }).unwrap();
        for number in 0..100 {
            let mut record = record(0, format!("{compression:?} {number}")).key("k");
            record.headers.push(header.clone());
            producer.send(record).await.unwrap();
        }
        producer.close().await.unwrap();
    }
    let seen = read(&client, Isolation::ReadCommitted).await.remove(&0).unwrap();
    let names =
        all.iter().flat_map(|compression| (0..100).map(move |number| format!("{compression:?} {number}")));
    for (seen, expected) in seen.iter().zip(names) {
        assert_eq!(seen.record.value.as_deref(), Some(expected.as_bytes()));
        assert_eq!(seen.record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(seen.record.headers, std::slice::from_ref(&header));
    }
    assert_eq!(seen.len(), 500);
}

async fn topics_are_administered(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let admin = Admin::new(&client);
    let again = admin.create_topic(&NewTopic::new(topic(), 1)).await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::TopicAlreadyExists));
    admin.add_partitions(&topic(), 5).await.unwrap();
    let described = admin.describe_topic(&topic()).await.unwrap();
    let indexes: Vec<_> = described.partitions.iter().map(|partition| partition.index.0).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4]);
    assert_eq!(admin.list_topics().await.unwrap(), [described]);
    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.brokers.iter().map(|broker| broker.id.0).collect::<Vec<_>>(), [0]);
    let change = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    admin.alter_topic_config(&topic(), &[change("retention.bytes", Some("5000"))]).await.unwrap();
    let entries = admin.describe_topic_config(&topic()).await.unwrap();
    let own: Vec<_> = entries.iter().filter(|entry| entry.own).collect();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].name.as_str(), own[0].value.as_deref()), ("retention.bytes", Some("5000")));
    let refused =
        admin.alter_topic_config(&topic(), &[change("preallocate", Some("true"))]).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidConfig));
    assert_eq!(admin.delete_records(&partition(0), None).await.unwrap(), Offset(0));
    let beyond = admin.delete_records(&partition(0), Some(Offset(9))).await.unwrap_err();
    assert_eq!(beyond.code(), Some(ErrorCode::OffsetOutOfRange));
    admin.delete_topic(&topic()).await.unwrap();
    let gone = admin.describe_topic(&topic()).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    let unknown = TopicName::new("never").unwrap();
    let refused = producer.send(ProducerRecord::new(unknown, "x")).await.err().unwrap();
    assert!(refused.to_string().contains("never"), "{refused}");
}

async fn groups_are_administered(scheme: &str) {
    let (broker, client) = start(scheme).await;
    let (admin, group) = (Admin::new(&client), GroupId::new("readers"));
    let missing = admin.describe_group(&group).await.unwrap_err();
    assert!(matches!(missing, ClientError::Unknown { .. }), "{missing}");
    assert!(missing.advice().contains("semel group list"), "{}", missing.advice());
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    producer.send(record(0, "a")).await.unwrap();
    producer.send(record(0, "b")).await.unwrap();
    producer.close().await.unwrap();

    let offsets = [(0, 1), (1, 0)].map(|(index, next)| (partition(index), OffsetToCommit::new(Offset(next))));
    let offsets = BTreeMap::from(offsets);
    admin.alter_group_offsets(&group, &offsets).await.unwrap();
    assert_eq!(admin.group_offsets(&group, OffsetQuery::Latest).await.unwrap(), offsets);
    let empty = GroupFilter { states: vec!["Empty".to_owned()], types: vec!["classic".to_owned()] };
    let listed = admin.list_groups(&empty).await.unwrap();
    assert_eq!(listed.iter().map(|found| found.group.as_str()).collect::<Vec<_>>(), ["readers"]);
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
    let progress = admin.group_progress(&described).await.unwrap();
    assert_eq!(progress.iter().map(|one| one.lag()).collect::<Vec<_>>(), [Some(1), Some(0)]);

    // What an open transaction may yet change is neither believed nor deleted.
    let mut holder = transactional(&client, "holder").await;
    let mut transaction = holder.begin().await.unwrap();
    transaction.send_offsets(&GroupMember::none(group.clone()), &offsets).await.unwrap();
    let refused = admin.delete_group(&group).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NonEmptyGroup));
    let mut hasty = config(&broker, scheme);
    hasty.call_timeout = Duration::from_secs(2);
    let hasty = Admin::new(&Client::connect(hasty).await.unwrap());
    let unstable = hasty.group_offsets(&group, OffsetQuery::Stable).await.unwrap_err();
    // Also where the last of its attempts was still under way.
    assert!(unstable.to_string().contains("UNSTABLE_OFFSET_COMMIT"), "{unstable}");
    transaction.abort().await.unwrap();

    let asked = [partition(0), partition(PARTITIONS)];
    let results = admin.delete_group_offsets(&group, &asked).await.unwrap();
    let codes: Vec<_> =
        results.iter().map(|result| result.as_ref().err().and_then(ClientError::code)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::UnknownTopicOrPartition)]);
    let left = admin.group_offsets(&group, OffsetQuery::Stable).await.unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [partition(1)]);
    admin.delete_group(&group).await.unwrap();
    let gone = admin.delete_group(&group).await.unwrap_err();
    assert!(matches!(gone, ClientError::Unknown { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_is_not_there_or_not_trusted_is_named() {
    let broker = Broker::start();
    let other = Broker::start();
    for scheme in ["quic", "tls"] {
        let mut strange = config(&broker, scheme);
        strange.tls = TlsFiles::under(&other.data_dir());
        let error = Client::connect(strange).await.err().unwrap();
        assert!(matches!(error, ClientError::Identity { .. }), "{error}");
        assert!(error.to_string().contains(&broker.address().to_string()), "{error}");

        let mut unnamed = config(&broker, scheme);
        unnamed.tls.client = None;
        let error = Client::connect(unnamed).await.err().unwrap();
        assert!(matches!(error, ClientError::Identity { .. }), "{error}");

        let mut nobody = config(&broker, scheme);
        nobody.bootstrap = vec![format!("{scheme}://127.0.0.1:1").parse().unwrap()];
        nobody.bootstrap_timeout = Duration::from_secs(1);
        let error = Client::connect(nobody).await.err().unwrap();
        assert!(error.retriable() && !error.advice().is_empty(), "{error}");
    }
}

/// The example tells the truth about itself: it fails unless every account adds up.
#[test]
fn the_payments_add_up() {
    let mut payments = inner_cargo();
    payments.args(["run", "--quiet", "--example", "payments", "--", "--transfers", "600", "--crashes", "5"]);
    let output = payments.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("600 transfers: ") && said.ends_with("every account adds up\n"), "{said}");
}

/// So does this one.
#[test]
fn each_order_is_stored_once() {
    let broker = Broker::start();
    let mut orders = inner_cargo();
    orders
        .args(["run", "--quiet", "--example", "orders", "--", "--orders", "30", "--data-dir"])
        .arg(broker.data_dir());
    orders.arg("--bootstrap").arg(format!("quic://{}", broker.address()));
    let output = orders.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("was accepted before") && said.ends_with("each is stored once\n"), "{said}");
}
