//! A broker that has done what it was asked for and does not say so: what the client cannot know, it asks for until it is told.

use super::*;
use semel::client::{CommitError, GroupConfig, ProcessingConfig, ProcessingSession, Resolved, Subscription};
use std::sync::Mutex;

const OUT: &str = "out";

/// For a commit without an answer, and for a question about it.
const PATIENCE: Duration = Duration::from_secs(5);
/// For records to be stored.
const DELIVERY: Duration = Duration::from_secs(20);
/// For what is to happen in any case.
const DEADLINE: Duration = Duration::from_secs(60);

/// A broker that keeps to itself, when told to, that its `nth` write from then on is done; and a client of it that waits only so
/// long.
async fn silent(tracer: &Path, nth: usize) -> (Broker, Client) {
    let mut broker = Broker::start();
    let client = connect(&broker).await;
    for (name, partitions) in [(TOPIC, PARTITIONS), (OUT, 1)] {
        let topic = NewTopic::new(TopicName::new(name).unwrap(), partitions);
        Admin::new(&client).create_topic(&topic).await.unwrap();
    }
    client.close().await;
    assert!(broker.stop().success());
    restart_under(tracer, &mut broker, nth, "HELD");
    let endpoint = format!("tls://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    (config.request_timeout, config.call_timeout) = (PATIENCE, PATIENCE);
    (broker, Client::connect(config).await.unwrap())
}

/// Records leave with what ends their transaction, or with a flush.
fn impatient() -> TransactionConfig {
    let mut config = TransactionConfig { commit_timeout: PATIENCE, ..TransactionConfig::default() };
    (config.producer.linger, config.producer.delivery_timeout) = (DEADLINE, DELIVERY);
    config
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_until_the_broker_says_what_became_of_it() {
    let Some(tracer) = tracer().filter(|_| Broker::runs_semel()) else { return };
    let (mut broker, client) = silent(tracer, 1).await;
    let mut producer = TransactionalProducer::init(&client, id(), impatient()).await.unwrap();
    let mut transaction = producer.begin().await.unwrap();
    fill(&mut transaction, "first").await.unwrap();
    broker.tell();
    let committed = transaction.commit().await;
    assert!(matches!(committed, Err(CommitError::Unknown(_))), "{committed:?}");
    producer.resolve().await.expect_err("nobody has said it");
    broker.tell();
    assert_eq!(producer.resolve().await.unwrap(), Resolved::Committed);
    assert!(has_its_offset(&client).await);
    goes_on(&client, &mut producer, vec![vec!["first".to_owned()]; 2], "it was told").await;
}

#[tokio::test]
async fn a_session_outlasts_a_commit_without_an_answer_and_does_nothing_twice() {
    let Some(tracer) = tracer().filter(|_| Broker::runs_semel()) else { return };
    // The offset is written first, and then the result with the commit.
    let (broker, client) = silent(tracer, 2).await;
    for (index, name) in [(0, "first"), (1, "second")] {
        send_one(&client, partition(index), name).await;
    }
    let mut group = GroupConfig::new(group().group, Subscription::topics([topic()]));
    group.reading.reset = Some(Start::Earliest);
    let config =
        ProcessingConfig { transactions: impatient(), records_max: 1, ..ProcessingConfig::new(group) };
    let mut session = ProcessingSession::start(&client, id(), config).await.unwrap();
    let (broker, seen) = (Mutex::new(broker), Mutex::new(Vec::new()));
    let mut process = async |record: semel::client::ConsumedRecord| {
        let value = record.record.value.clone().unwrap();
        let mut seen = seen.lock().unwrap();
        if seen.is_empty() {
            broker.lock().unwrap().tell();
        }
        seen.push(value.clone());
        Ok::<_, String>(vec![ProducerRecord::new(TopicName::new(OUT).unwrap(), value)])
    };
    let both = async {
        // Nothing may have been assigned yet; then a step comes to nothing.
        while seen.lock().unwrap().is_empty() {
            session.step(&mut process).await.unwrap();
        }
        assert!(
            broker.lock().unwrap().log().contains("it is held"),
            "the commit was written, and nobody was told"
        );
        broker.lock().unwrap().tell();
        while seen.lock().unwrap().len() < 2 {
            session.step(&mut process).await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, both).await.expect("it does not get on");
    session.close().await.unwrap();
    let out = TopicPartition::new(TopicName::new(OUT).unwrap(), PartitionIndex(0));
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.seek(out, Start::Earliest);
    let mut results = Vec::new();
    while results.len() < 2 {
        let chunk =
            tokio::time::timeout(DEADLINE, consumer.next_chunk()).await.expect("a result is lost").unwrap();
        results.extend(chunk.into_iter().map(|read| read.record.value.unwrap()));
    }
    assert_eq!(results, *seen.lock().unwrap(), "each once, and not done again");
}

async fn send_one(client: &Client, to: TopicPartition, value: &str) {
    let producer = semel::client::Producer::new(client, semel::client::ProducerConfig::default()).unwrap();
    let record = ProducerRecord::new(to.topic, value.to_owned()).partition(to.partition);
    producer.send(record).await.unwrap().await.unwrap();
    producer.close().await.unwrap();
}
