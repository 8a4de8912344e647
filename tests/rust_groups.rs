//! The Rust client as a member of groups, against the release binary, over QUIC and over TLS: shares, hand-overs, patterns,
//! static members, kills; and sessions that process what they read in transactions.

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
use semel::client::{
    Admin, BackoffLimits, Client, ClientConfig, ClientError, ConsumedRecord, Consumer, ConsumerConfig,
    GroupConfig, GroupConsumer, GroupEvent, GroupMember, Isolation, NewTopic, OffsetQuery, OffsetToCommit,
    ProcessingConfig, ProcessingError, ProcessingSession, Producer, ProducerConfig, ProducerRecord,
    QUARANTINE_ATTEMPTS_HEADER, QUARANTINE_OFFSET_HEADER, QUARANTINE_REASON_HEADER, QUARANTINE_TOPIC_HEADER,
    Rebalance, Start, Subscription, TlsFiles, TopicPartition, TransactionConfig, TransactionalProducer,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use semel::wire::ErrorCode;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 4;
const GROUP: &str = "g";
/// Nothing that should happen takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

over_both! {
    members_share_a_topic_and_what_is_handed_over_is_read_once
    a_pattern_finds_topics_that_are_made_later
    a_static_member_keeps_its_partitions_and_nobody_notices_that_the_broker_was_killed
    where_nothing_is_committed_the_reset_says_where_to_begin
    partitions_are_paused_resumed_and_sought
    what_was_read_is_committed_without_being_asked
    who_stays_away_too_long_loses_its_partitions_and_commits_nothing
    an_aborted_transaction_is_read_again
    what_cannot_be_processed_is_tried_and_goes_into_quarantine
    what_cannot_be_stored_goes_there_too_and_nothing_else_does
    a_session_ends_its_transaction_before_it_gives_partitions_up
    a_session_begins_where_an_open_transaction_has_ended
}

fn config(broker: &Broker, scheme: &str) -> ClientConfig {
    let endpoint = format!("{scheme}://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    config.backoff = BackoffLimits { first: Duration::from_millis(10), longest: Duration::from_millis(200) };
    config
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(topic(TOPIC), PartitionIndex(index))
}

/// A broker whose members are heard of often, and a topic.
async fn start(scheme: &str) -> (Broker, Client) {
    let broker =
        Broker::start_with(&["--consumer-heartbeat-interval", "100", "--consumer-session-timeout", "20000"]);
    let client = Client::connect(config(&broker, scheme)).await.unwrap();
    create(&client, TOPIC, PARTITIONS).await;
    (broker, client)
}

async fn create(client: &Client, name: &str, partitions: i32) {
    Admin::new(client).create_topic(&NewTopic::new(topic(name), partitions)).await.unwrap();
}

/// Sends the values `from..to`, in turn to each partition.
async fn send(client: &Client, name: &str, from: i32, to: i32) {
    let producer = Producer::new(client, ProducerConfig::default()).unwrap();
    for value in from..to {
        let record = ProducerRecord::new(topic(name), value.to_string());
        producer.send(record.partition(PartitionIndex(value % PARTITIONS))).await.unwrap();
    }
    producer.close().await.unwrap();
}

fn topics(names: &[&str]) -> Subscription {
    Subscription::topics(names.iter().map(|name| topic(name)))
}

fn group() -> GroupConfig {
    GroupConfig::new(GroupId::new(GROUP), topics(&[TOPIC]))
}

fn value_of(record: &ConsumedRecord) -> i32 {
    std::str::from_utf8(record.record.value.as_deref().unwrap()).unwrap().parse().unwrap()
}

async fn event(consumer: &mut GroupConsumer) -> GroupEvent {
    tokio::time::timeout(DEADLINE, consumer.next_event()).await.expect("nothing happens").unwrap()
}

/// Reads until `enough` says so of the values.
async fn read(consumer: &mut GroupConsumer, enough: impl Fn(&[i32]) -> bool) -> Vec<i32> {
    let mut values = Vec::new();
    while !enough(&values) {
        let record = tokio::time::timeout(DEADLINE, consumer.next()).await;
        values.push(value_of(&record.unwrap_or_else(|_| panic!("only {values:?}")).unwrap()));
    }
    values
}

async fn read_some(consumer: &mut GroupConsumer, count: usize) -> Vec<i32> {
    read(consumer, |values| values.len() == count).await
}

/// Lets a consumer do its part until it has so many partitions for good, without reading anything of them.
async fn settle(consumer: &mut GroupConsumer, count: usize) {
    let settling = async {
        while consumer.assigned().len() != count || !consumer.is_settled() {
            match tokio::time::timeout(Duration::from_millis(50), consumer.next_event()).await {
                Ok(Ok(GroupEvent::Rebalance(_))) | Err(_) => {}
                Ok(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, settling).await.expect("it does not settle");
}

async fn committed(client: &Client) -> BTreeMap<i32, i64> {
    let partitions: Vec<_> = (0..PARTITIONS).map(partition).collect();
    let found =
        client.committed_offsets(&GroupId::new(GROUP), &partitions, OffsetQuery::Stable).await.unwrap();
    found.into_iter().map(|(partition, offset)| (partition.partition.0, offset.next.0)).collect()
}

fn sorted(values: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let mut values: Vec<i32> = values.into_iter().collect();
    values.sort_unstable();
    values
}

async fn members_share_a_topic_and_what_is_handed_over_is_read_once(scheme: &str) {
    let (broker, client) = start(scheme).await;
    send(&client, TOPIC, 0, 40).await;
    let mut first = Consumer::subscribe(&client, group()).unwrap();
    let mut values = read_some(&mut first, 20).await;
    let everything: Vec<_> = (0..PARTITIONS).map(partition).collect();
    assert_eq!(first.assigned(), everything);
    everything.iter().for_each(|partition| first.pause(partition).unwrap());

    // The first is told to give something up, and until it comes back the second gets nothing.
    let other_client = Client::connect(config(&broker, scheme)).await.unwrap();
    let mut second = Consumer::subscribe(&other_client, group()).unwrap();
    let revoked = match event(&mut first).await {
        GroupEvent::Rebalance(Rebalance::Revoked(partitions)) => partitions,
        other => panic!("{other:?}"),
    };
    assert_eq!(revoked.len(), 2);
    let early = tokio::time::timeout(Duration::from_millis(500), second.next_event()).await;
    assert!(early.is_err(), "{early:?}");
    let at = committed(&client).await;
    for partition in &revoked {
        let position = first.position(partition).unwrap();
        let is_committed = at.get(&partition.partition.0) == Some(&position.0);
        assert!(is_committed || position == Offset::ZERO, "{at:?} {partition} {position}");
    }
    let refused = first.seek(revoked[0].clone(), Start::Earliest).unwrap_err();
    assert!(matches!(refused, ClientError::NotOwned { .. }), "{refused}");
    let left_of = |partitions: &[TopicPartition]| {
        let left = partitions.iter().map(|partition| 10 - first.position(partition).unwrap().0);
        usize::try_from(left.sum::<i64>()).unwrap()
    };
    let (for_first, for_second) = (left_of(&first.assigned()), left_of(&revoked));
    settle(&mut first, 2).await;
    first.assigned().iter().for_each(|partition| first.resume(partition));
    let reading = tokio::spawn(async move {
        let rest = read_some(&mut first, for_first).await;
        (first, rest)
    });
    match event(&mut second).await {
        GroupEvent::Rebalance(Rebalance::Assigned(partitions)) => assert_eq!(partitions, revoked),
        other => panic!("{other:?}"),
    }
    values.extend(read_some(&mut second, for_second).await);
    let (first, rest) = reading.await.unwrap();
    first.close().await.unwrap();
    values.extend(rest);
    assert_eq!(sorted(values), (0..40).collect::<Vec<_>>());
    // Who leaves hands over, too.
    send(&client, TOPIC, 40, 48).await;
    assert_eq!(sorted(read_some(&mut second, 8).await), (40..48).collect::<Vec<_>>());
    second.close().await.unwrap();
    assert_eq!(committed(&client).await, (0..PARTITIONS).map(|index| (index, 12)).collect());
}

async fn a_pattern_finds_topics_that_are_made_later(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let subscription = Subscription::pattern("orders-.*").assigned_by("range");
    let config = GroupConfig::new(GroupId::new(GROUP), subscription);
    let mut consumer = Consumer::subscribe(&client, config).unwrap();
    create(&client, "orders-a", PARTITIONS).await;
    send(&client, "orders-a", 0, 4).await;
    assert_eq!(sorted(read_some(&mut consumer, 4).await), [0, 1, 2, 3]);
    create(&client, "orders-b", PARTITIONS).await;
    create(&client, "refunds", PARTITIONS).await;
    send(&client, "refunds", 100, 104).await;
    send(&client, "orders-b", 4, 8).await;
    assert_eq!(sorted(read_some(&mut consumer, 4).await), [4, 5, 6, 7]);
    let described = Admin::new(&client).describe_group(&GroupId::new(GROUP)).await.unwrap();
    assert_eq!((described.protocol.as_str(), described.members.len()), ("range", 1));
    // To something else.
    consumer.resubscribe(topics(&["refunds"])).unwrap();
    assert_eq!(sorted(read_some(&mut consumer, 4).await), [100, 101, 102, 103]);
    Admin::new(&client).delete_topic(&topic("refunds")).await.unwrap();
    let lost = loop {
        if let GroupEvent::Rebalance(rebalance) = event(&mut consumer).await {
            break rebalance;
        }
    };
    assert!(matches!(&lost, Rebalance::Revoked(partitions) if partitions.len() == 4), "{lost:?}");
    settle(&mut consumer, 0).await;
    consumer.close().await.unwrap();

    let config = GroupConfig::new(GroupId::new("hostile"), Subscription::pattern("(a"));
    let refused = Consumer::subscribe(&client, config).unwrap().next().await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRegularExpression));
    assert!(Consumer::subscribe(&client, GroupConfig::new(GroupId::new(GROUP), topics(&[]))).is_err());
}

async fn a_static_member_keeps_its_partitions_and_nobody_notices_that_the_broker_was_killed(scheme: &str) {
    let (mut broker, client) = start(scheme).await;
    send(&client, TOPIC, 0, 8).await;
    let fixed = |name: &str| GroupConfig { instance_id: Some(name.to_owned()), ..group() };
    let mut one = Consumer::subscribe(&client, fixed("one")).unwrap();
    assert_eq!(sorted(read_some(&mut one, 8).await), (0..8).collect::<Vec<_>>());
    let mut two = Consumer::subscribe(&client, fixed("two")).unwrap();
    let joining = tokio::spawn(async move {
        settle(&mut two, 2).await;
        two
    });
    settle(&mut one, 2).await;
    let mut two = joining.await.unwrap();
    let kept = one.assigned();

    // It comes back within its session, and has what it had: its partner is asked for nothing.
    one.close().await.unwrap();
    let mut one = Consumer::subscribe(&client, fixed("one")).unwrap();
    settle(&mut one, 2).await;
    assert_eq!(one.assigned(), kept);
    let told = tokio::time::timeout(Duration::from_millis(500), two.next_event()).await;
    assert!(told.is_err(), "{told:?}");

    let admin = Admin::new(&client);
    let epoch = admin.describe_group(&GroupId::new(GROUP)).await.unwrap().epochs;
    broker.kill();
    broker.restart();
    send(&client, TOPIC, 8, 16).await;
    let (mut got, mut events) = (Vec::new(), Vec::new());
    while got.len() < 8 {
        let (one, two) = (one.next_event(), two.next_event());
        let happened = tokio::time::timeout(DEADLINE, async {
            tokio::select! { event = one => event, event = two => event }
        });
        match happened.await.unwrap_or_else(|_| panic!("only {got:?}")).unwrap() {
            GroupEvent::Record(record) => got.push(value_of(&record)),
            GroupEvent::Rebalance(rebalance) => events.push(rebalance),
        }
    }
    assert_eq!((sorted(got), events), ((8..16).collect(), Vec::new()));
    one.commit().await.unwrap();
    two.commit().await.unwrap();
    assert_eq!(committed(&client).await, (0..PARTITIONS).map(|index| (index, 4)).collect());
    assert_eq!(admin.describe_group(&GroupId::new(GROUP)).await.unwrap().epochs, epoch);
}

async fn where_nothing_is_committed_the_reset_says_where_to_begin(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    send(&client, TOPIC, 0, 4).await;
    let from = |name: &str, reset| {
        let reading = ConsumerConfig { reset, ..ConsumerConfig::default() };
        GroupConfig { group: GroupId::new(name), reading, ..group() }
    };
    let mut nowhere = Consumer::subscribe(&client, from("nowhere", None)).unwrap();
    let refused = nowhere.next().await.unwrap_err();
    assert!(matches!(refused, ClientError::NothingCommitted { .. }), "{refused}");
    let mut latest = Consumer::subscribe(&client, from("latest", Some(Start::Latest))).unwrap();
    let located = async |consumer: &mut GroupConsumer| {
        while consumer.positions().len() < 4 {
            let _ = tokio::time::timeout(Duration::from_millis(20), consumer.next_event()).await;
        }
    };
    located(&mut latest).await;
    let hour = Some(Start::Ago(Duration::from_secs(3600)));
    let mut recent = Consumer::subscribe(&client, from("recent", hour)).unwrap();
    assert_eq!(sorted(read_some(&mut recent, 4).await), [0, 1, 2, 3]);
    let mut newest = Consumer::subscribe(&client, from("newest", Some(Start::Ago(Duration::ZERO)))).unwrap();
    located(&mut newest).await;
    send(&client, TOPIC, 4, 8).await;
    assert_eq!(sorted(read_some(&mut latest, 4).await), [4, 5, 6, 7]);
    assert_eq!(sorted(read_some(&mut newest, 4).await), [4, 5, 6, 7]);
    // What is committed counts, whatever the reset says.
    latest.close().await.unwrap();
    send(&client, TOPIC, 8, 12).await;
    let mut earliest = Consumer::subscribe(&client, from("latest", Some(Start::Earliest))).unwrap();
    assert_eq!(sorted(read_some(&mut earliest, 4).await), [8, 9, 10, 11]);
}

async fn partitions_are_paused_resumed_and_sought(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    send(&client, TOPIC, 0, 400).await;
    let mut consumer = Consumer::subscribe(&client, GroupConfig { auto_commit: None, ..group() }).unwrap();
    let first = read(&mut consumer, |values| values.iter().any(|value| value % PARTITIONS == 2)).await;
    consumer.pause(&partition(2)).unwrap();
    let others = read(&mut consumer, |values| {
        let seen = first.iter().chain(values).filter(|value| *value % PARTITIONS != 2);
        seen.count() == 300
    })
    .await;
    assert!(others.iter().all(|value| value % PARTITIONS != 2));
    assert_eq!(consumer.lag(&partition(0)), Some(0));
    consumer.resume(&partition(2));
    let rest = read_some(&mut consumer, 400 - first.len() - others.len()).await;
    assert_eq!(sorted(first.into_iter().chain(others).chain(rest)), (0..400).collect::<Vec<_>>());
    consumer.seek(partition(1), Start::Offset(Offset(98))).unwrap();
    assert_eq!(read_some(&mut consumer, 2).await, [393, 397]);
    assert_eq!(consumer.lag(&partition(1)), Some(0));
    assert_eq!(committed(&client).await, BTreeMap::new(), "the application commits");
    let later = consumer.commit_offsets([(partition(1), OffsetToCommit::new(Offset(5)))].into());
    consumer.commit().await.unwrap();
    later.await.unwrap();
    assert_eq!(committed(&client).await, (0..PARTITIONS).map(|index| (index, 100)).collect());
    let foreign = TopicPartition::new(topic(TOPIC), PartitionIndex(PARTITIONS));
    let refused =
        consumer.commit_offsets([(foreign, OffsetToCommit::new(Offset(5)))].into()).await.unwrap_err();
    assert!(matches!(refused, ClientError::NotOwned { .. }), "{refused}");
    consumer.rewind();
    send(&client, TOPIC, 400, 404).await;
    assert_eq!(
        sorted(read_some(&mut consumer, 4).await),
        [400, 401, 402, 403],
        "it goes on at what is committed"
    );
    consumer.rewind();
    assert_eq!(sorted(read_some(&mut consumer, 4).await), [400, 401, 402, 403], "and goes back to it");
    consumer.close().await.unwrap();
    let described = Admin::new(&client).describe_group(&GroupId::new(GROUP)).await.unwrap();
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
}

async fn what_was_read_is_committed_without_being_asked(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    assert_eq!(group().auto_commit, Some(Duration::from_secs(5)), "as often as Kafka's clients");
    send(&client, TOPIC, 0, 40).await;
    let often = GroupConfig { auto_commit: Some(Duration::from_millis(100)), ..group() };
    let mut consumer = Consumer::subscribe(&client, often).unwrap();
    read_some(&mut consumer, 40).await;
    // It stays in the group and reads nothing more.
    let committing = async {
        while committed(&client).await != (0..PARTITIONS).map(|index| (index, 10)).collect() {
            let nothing = tokio::time::timeout(Duration::from_millis(50), consumer.next_event()).await;
            assert!(nothing.is_err(), "{nothing:?}");
        }
    };
    tokio::time::timeout(DEADLINE, committing).await.expect("it does not commit");
    // What was read since is committed at the farewell.
    send(&client, TOPIC, 40, 44).await;
    assert_eq!(sorted(read_some(&mut consumer, 4).await), [40, 41, 42, 43]);
    consumer.close().await.unwrap();
    assert_eq!(committed(&client).await, (0..PARTITIONS).map(|index| (index, 11)).collect());
}

async fn who_stays_away_too_long_loses_its_partitions_and_commits_nothing(scheme: &str) {
    let (broker, client) = start(scheme).await;
    send(&client, TOPIC, 0, 40).await;
    let slow = GroupConfig { poll_timeout: Duration::from_millis(700), auto_commit: None, ..group() };
    let mut away = Consumer::subscribe(&client, slow).unwrap();
    read_some(&mut away, 40).await;
    let other_client = Client::connect(config(&broker, scheme)).await.unwrap();
    let mut second = Consumer::subscribe(&other_client, group()).unwrap();
    // The first does not ask any more: all of it goes to the second.
    assert_eq!(sorted(read_some(&mut second, 40).await), (0..40).collect::<Vec<_>>());
    second.commit().await.unwrap();
    let offsets = (0..PARTITIONS).map(|index| (partition(index), OffsetToCommit::new(Offset(1)))).collect();
    let refused = away.commit_offsets(offsets).await.unwrap_err();
    assert!(matches!(refused, ClientError::NotOwned { .. }), "{refused}");
    assert_eq!(committed(&client).await, (0..PARTITIONS).map(|index| (index, 10)).collect());
    match event(&mut away).await {
        GroupEvent::Rebalance(Rebalance::Lost(partitions)) => assert_eq!(partitions.len(), 4),
        other => panic!("{other:?}"),
    }
    let sharing = tokio::spawn(async move {
        settle(&mut second, 2).await;
        second
    });
    settle(&mut away, 2).await;
    sharing.await.unwrap().close().await.unwrap();
}

// ---------------------------------------------------------------------------------------------------------------------
// Sessions.

fn processing() -> ProcessingConfig {
    ProcessingConfig {
        quarantine: Some(topic("failed")),
        retry_pauses: BackoffLimits { first: Duration::from_millis(5), longest: Duration::from_millis(5) },
        ..ProcessingConfig::new(group())
    }
}

async fn start_processing(scheme: &str) -> (Broker, Client) {
    let (broker, client) = start(scheme).await;
    create(&client, "out", PARTITIONS).await;
    create(&client, "failed", 1).await;
    (broker, client)
}

async fn session(client: &Client, name: &str, config: ProcessingConfig) -> ProcessingSession {
    ProcessingSession::start(client, TransactionalId::new(name).unwrap(), config).await.unwrap()
}

fn output(record: &ConsumedRecord) -> ProducerRecord {
    ProducerRecord::new(topic("out"), record.record.value.clone().unwrap())
        .partition(record.partition.partition)
}

/// Takes steps until the group has committed so much of each partition.
async fn work<F, R>(session: &mut ProcessingSession, client: &Client, each: i64, process: &mut F)
where
    F: FnMut(ConsumedRecord) -> R,
    R: Future<Output = Result<Vec<ProducerRecord>, String>>,
{
    let done = async {
        while committed(client).await != (0..PARTITIONS).map(|index| (index, each)).collect() {
            session.step(process).await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, done).await.expect("it does not get on");
}

/// A step may find nothing to do in time; a failure is one.
fn check(stepped: Result<Result<(), ProcessingError>, tokio::time::error::Elapsed>) {
    if let Ok(stepped) = stepped {
        stepped.unwrap();
    }
}

/// All that is committed in a topic, in the order of each partition.
async fn all(client: &Client, name: &str, partitions: i32) -> Vec<ConsumedRecord> {
    let isolation = Isolation::ReadCommitted;
    let partition = |index| TopicPartition::new(topic(name), PartitionIndex(index));
    let asked: Vec<_> = (0..partitions).map(|index| (partition(index), Start::Latest)).collect();
    let ends = Admin::new(client).find_offsets(&asked, isolation).await.unwrap();
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    (0..partitions).for_each(|index| consumer.seek(partition(index), Start::Offset(Offset::ZERO)));
    let mut found = Vec::new();
    let behind = |consumer: &Consumer| {
        let mut asked = (0..partitions).zip(&ends);
        asked.any(|(index, end)| consumer.position(&partition(index)).unwrap() < *end.as_ref().unwrap())
    };
    while behind(&consumer) {
        found.extend(consumer.next_chunk().await.unwrap());
    }
    found.sort_by_key(|record| (record.partition.clone(), record.offset));
    found
}

fn header(record: &ConsumedRecord, name: &str) -> String {
    let found = record.record.headers.iter().find(|header| header.name == name.as_bytes());
    String::from_utf8(found.and_then(|header| header.value.clone()).unwrap().to_vec()).unwrap()
}

async fn an_aborted_transaction_is_read_again(scheme: &str) {
    let (_broker, client) = start_processing(scheme).await;
    send(&client, TOPIC, 0, 40).await;
    let mut session = session(&client, "s", processing()).await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut process = |record: ConsumedRecord| {
        calls.lock().unwrap().push(value_of(&record));
        let (first_of_all, value) = (calls.lock().unwrap().len() <= 10, value_of(&record));
        async move {
            if first_of_all && value >= 16 {
                // The step is given up in the middle of its transaction.
                std::future::pending::<()>().await;
            }
            Ok(vec![output(&record)])
        }
    };
    while calls.lock().unwrap().len() <= 10 {
        check(tokio::time::timeout(Duration::from_secs(1), session.step(&mut process)).await);
    }
    work(&mut session, &client, 10, &mut process).await;
    assert!(calls.lock().unwrap().len() > 40, "some were processed again");
    session.close().await.unwrap();
    let out: Vec<i32> = all(&client, "out", PARTITIONS).await.iter().map(value_of).collect();
    let in_order = (0..PARTITIONS).flat_map(|index| (0..10).map(move |turn| turn * PARTITIONS + index));
    assert_eq!(out, in_order.collect::<Vec<_>>(), "each once, in the order of its partition");
}

async fn what_cannot_be_processed_is_tried_and_goes_into_quarantine(scheme: &str) {
    let (_broker, client) = start_processing(scheme).await;
    send(&client, TOPIC, 0, 40).await;
    let mut first = session(&client, "s", processing()).await;
    let calls = Arc::new(Mutex::new(BTreeMap::<i32, u32>::new()));
    let mut process = |record: ConsumedRecord| {
        let value = value_of(&record);
        let times = { *calls.lock().unwrap().entry(value).and_modify(|times| *times += 1).or_insert(1) };
        async move {
            match value {
                13 => Err("it is thirteen".to_owned()),
                14 if times < 3 => Err("not yet".to_owned()),
                _ => Ok(vec![output(&record)]),
            }
        }
    };
    work(&mut first, &client, 10, &mut process).await;
    let called = calls.lock().unwrap().clone();
    assert_eq!((called[&13], called[&14]), (3, 3));
    let out: Vec<i32> = all(&client, "out", PARTITIONS).await.iter().map(value_of).collect();
    assert_eq!(sorted(out), (0..40).filter(|value| *value != 13).collect::<Vec<_>>());
    let failed = all(&client, "failed", 1).await;
    assert_eq!(failed.iter().map(value_of).collect::<Vec<_>>(), [13]);
    let said = [
        QUARANTINE_TOPIC_HEADER,
        QUARANTINE_OFFSET_HEADER,
        QUARANTINE_ATTEMPTS_HEADER,
        QUARANTINE_REASON_HEADER,
    ];
    assert_eq!(said.map(|name| header(&failed[0], name)), [TOPIC, "3", "3", "it is thirteen"]);

    // Without a quarantine it ends the session, and nothing passes it over.
    first.close().await.unwrap();
    send(&client, TOPIC, 13, 14).await;
    let mut strict = session(&client, "s", ProcessingConfig { quarantine: None, ..processing() }).await;
    let ended = loop {
        if let Err(error) = tokio::time::timeout(DEADLINE, strict.step(&mut process)).await.unwrap() {
            break error;
        }
    };
    let poison = matches!(&ended, ProcessingError::Poison { offset: Offset(10), attempts: 3, .. });
    assert!(poison && !ended.advice().is_empty(), "{ended}");
    assert_eq!(committed(&client).await[&1], 10);
}

async fn what_cannot_be_stored_goes_there_too_and_nothing_else_does(scheme: &str) {
    let (_broker, client) = start(scheme).await;
    let configs = BTreeMap::from([("max.message.bytes".to_owned(), "4000".to_owned())]);
    let small = NewTopic { configs, ..NewTopic::new(topic("out"), PARTITIONS) };
    Admin::new(&client).create_topic(&small).await.unwrap();
    create(&client, "failed", 1).await;
    send(&client, TOPIC, 0, 40).await;
    // One at a time, so that a batch is not too large for the sake of many.
    let mut config = processing();
    config.transactions.producer.batch_bytes = 100;
    let mut session = session(&client, "s", config).await;
    let mut process = |record: ConsumedRecord| async move {
        let huge = ProducerRecord { value: Some(vec![b'x'; 8000].into()), ..output(&record) };
        Ok(vec![output(&record), if value_of(&record) == 21 { huge } else { output(&record) }])
    };
    work(&mut session, &client, 10, &mut process).await;
    let out: Vec<i32> = all(&client, "out", PARTITIONS).await.iter().map(value_of).collect();
    let twice = (0..40).filter(|value| *value != 21).flat_map(|value| [value, value]);
    assert_eq!(sorted(out), twice.collect::<Vec<_>>(), "nothing of the one that failed, all of the others");
    let failed = all(&client, "failed", 1).await;
    assert_eq!(failed.iter().map(value_of).collect::<Vec<_>>(), [21]);
    assert!(header(&failed[0], QUARANTINE_REASON_HEADER).contains("MESSAGE_TOO_LARGE"), "{failed:?}");
    session.close().await.unwrap();
}

async fn a_session_ends_its_transaction_before_it_gives_partitions_up(scheme: &str) {
    let (broker, client) = start_processing(scheme).await;
    send(&client, TOPIC, 0, 40).await;
    // By itself it would not end a transaction before the test is over.
    let patient = ProcessingConfig { commit_interval: DEADLINE * 2, ..processing() };
    let patient = ProcessingConfig {
        transactions: TransactionConfig { timeout: DEADLINE * 4, ..patient.transactions },
        ..patient
    };
    let first = session(&client, "one", patient.clone()).await;
    let seen = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&seen);
    let process = move |record: ConsumedRecord| {
        *counted.lock().unwrap() += 1;
        async move { Ok::<_, String>(vec![output(&record)]) }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(first.run(process, async move { drop(stopped.await) }));
    while *seen.lock().unwrap() < 40 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(committed(&client).await, BTreeMap::new(), "it is all in one open transaction");
    let other_client = Client::connect(config(&broker, scheme)).await.unwrap();
    let mut second = session(&other_client, "two", processing()).await;
    let seen_twice = Arc::new(Mutex::new(Vec::new()));
    let mut again = |record: ConsumedRecord| {
        seen_twice.lock().unwrap().push(value_of(&record));
        async move { Ok::<_, String>(vec![output(&record)]) }
    };
    while second.consumer().assigned().len() < 2 {
        check(tokio::time::timeout(Duration::from_millis(200), second.step(&mut again)).await);
    }
    assert_eq!(committed(&client).await, (0..PARTITIONS).map(|index| (index, 10)).collect());
    send(&client, TOPIC, 40, 48).await;
    while seen_twice.lock().unwrap().len() < 4 {
        check(tokio::time::timeout(Duration::from_millis(200), second.step(&mut again)).await);
    }
    assert!(seen_twice.lock().unwrap().iter().all(|value| *value >= 40));
    second.close().await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let out = all(&client, "out", PARTITIONS).await;
    let old = out.iter().map(value_of).filter(|value| *value < 40);
    assert_eq!(sorted(old), (0..40).collect::<Vec<_>>());
}

async fn a_session_begins_where_an_open_transaction_has_ended(scheme: &str) {
    let (_broker, client) = start_processing(scheme).await;
    send(&client, TOPIC, 0, 40).await;
    let id = TransactionalId::new("before").unwrap();
    let mut before = TransactionalProducer::init(&client, id, TransactionConfig::default()).await.unwrap();
    let mut open = before.begin().await.unwrap();
    let offsets = (0..PARTITIONS).map(|index| (partition(index), OffsetToCommit::new(Offset(4)))).collect();
    open.send_offsets(&GroupMember::none(GroupId::new(GROUP)), &offsets).await.unwrap();
    let mut session = session(&client, "s", processing()).await;
    let mut process = |record: ConsumedRecord| async move { Ok(vec![output(&record)]) };
    let early = tokio::time::timeout(Duration::from_millis(700), session.step(&mut process)).await;
    assert!(early.is_err(), "what is pending is waited out (UNSTABLE_OFFSET_COMMIT)");
    open.commit().await.unwrap();
    work(&mut session, &client, 10, &mut process).await;
    let out: Vec<i32> = all(&client, "out", PARTITIONS).await.iter().map(value_of).collect();
    assert_eq!(sorted(out), (16..40).collect::<Vec<_>>());
    session.close().await.unwrap();
}
