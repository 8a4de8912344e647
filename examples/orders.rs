//! Orders that are stored once, whoever loses their memory.
//!
//! A shop takes orders and sends each to a topic. It crashes, now and then, after an order was stored and before it has noted
//! so, and then sends it again: from a new process, with a new producer id, perhaps to another partition. The order's number
//! is the record's idempotency key, so the topic stores the first record of each order and says of every other one where that
//! is. At the end the example reads the topic and finds each order once.
//!
//! ```text
//! semel serve &
//! cargo run --release --example orders -- --bootstrap quic://localhost:9092 --data-dir DIR
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example tells its story")]

use clap::Parser;
use semel::client::{
    Admin, Client, ClientConfig, ClientError, Consumer, ConsumerConfig, Endpoint, IDEMPOTENCY_KEY_HEADER,
    Isolation, NewTopic, ProduceError, Producer, ProducerConfig, ProducerRecord, Start, TlsFiles,
    TopicPartition,
};
use semel::types::{Offset, PartitionIndex, TopicName};
use semel::wire::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PARTITIONS: i32 = 4;
/// How many orders a shop sends before it crashes.
const ORDERS_PER_LIFE: u64 = 7;

#[derive(Clone, Debug, Parser)]
struct Options {
    /// The broker
    #[arg(long, default_value = "quic://localhost:9092")]
    bootstrap: Endpoint,
    /// Its data directory, for the certificates it made
    #[arg(long)]
    data_dir: PathBuf,
    /// The topic; created if there is none
    #[arg(long, default_value = "orders")]
    topic: String,
    /// How many orders there are
    #[arg(long, default_value_t = 100)]
    orders: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let topic = TopicName::new(&options.topic)?;
    let client = connect(options).await?;
    create_topic(&client, &topic).await?;
    let (mut noted, mut lives, mut accepted_before) = (0, 0, 0);
    while noted < options.orders {
        lives += 1;
        let life = live(options, &topic, noted).await?;
        // The crash: what the shop has noted lags behind what it has sent.
        noted = life.sent_to.saturating_sub(1).max(noted + 1).min(options.orders);
        accepted_before += life.accepted_before;
    }
    let found = read_all(&client, &topic).await?;
    let wanted: BTreeSet<String> = (0..options.orders).map(|number| format!("order {number}")).collect();
    if found.len() != wanted.len() || found.iter().cloned().collect::<BTreeSet<_>>() != wanted {
        return Err(format!("{} records for {} orders", found.len(), wanted.len()).into());
    }
    println!(
        "{} orders from {lives} lives of the shop, {accepted_before} of them sent again: each is stored once",
        wanted.len()
    );
    client.close().await;
    Ok(())
}

async fn connect(options: &Options) -> Result<Client, ClientError> {
    Client::connect(ClientConfig::new(options.bootstrap.clone(), TlsFiles::under(&options.data_dir))).await
}

/// A topic that asks for idempotency keys.
async fn create_topic(client: &Client, topic: &TopicName) -> Result<(), ClientError> {
    let asks = ("semel.idempotency.key.header".to_owned(), IDEMPOTENCY_KEY_HEADER.to_owned());
    let wanted = NewTopic { configs: BTreeMap::from([asks]), ..NewTopic::new(topic.clone(), PARTITIONS) };
    match Admin::new(client).create_topic(&wanted).await {
        Ok(_) | Err(ClientError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a shop did before it crashed.
struct Life {
    /// All orders below it are stored.
    sent_to: u64,
    accepted_before: u64,
}

/// One life of the shop: it goes on from what it has noted, with nothing else to remember.
async fn live(options: &Options, topic: &TopicName, noted: u64) -> Result<Life, Failure> {
    let client = connect(options).await?;
    let producer = Producer::new(&client, ProducerConfig::default())?;
    let mut life = Life { sent_to: noted, accepted_before: 0 };
    for number in (noted..options.orders).take(usize::try_from(ORDERS_PER_LIFE)?) {
        let record = ProducerRecord::new(topic.clone(), format!("order {number}"));
        // Wherever it is put: all partitions of a topic know the same keys.
        let record = record.idempotency_key(format!("order-{number}"));
        match producer.send(record).await?.await {
            Ok(_) => {}
            Err(ProduceError::AlreadyAccepted { partition, offset, .. }) => {
                println!(
                    "order {number} was accepted before: partition {}, offset {}",
                    partition.0, offset.0
                );
                life.accepted_before += 1;
            }
            Err(error) => return Err(error.into()),
        }
        life.sent_to = number + 1;
    }
    client.close().await;
    Ok(life)
}

/// An offset of each partition.
async fn find(client: &Client, topic: &TopicName, start: Start) -> Result<Vec<Offset>, ClientError> {
    let partition = |index| TopicPartition::new(topic.clone(), PartitionIndex(index));
    let asked: Vec<_> = (0..PARTITIONS).map(|index| (partition(index), start)).collect();
    Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await?.into_iter().collect()
}

async fn read_all(client: &Client, topic: &TopicName) -> Result<Vec<String>, Failure> {
    let partition = |index| TopicPartition::new(topic.clone(), PartitionIndex(index));
    let (starts, ends) =
        (find(client, topic, Start::Earliest).await?, find(client, topic, Start::Latest).await?);
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    // From an offset, so that a partition without an order has a position too.
    (0..PARTITIONS)
        .zip(starts)
        .for_each(|(index, start)| consumer.seek(partition(index), Start::Offset(start)));
    let mut found = Vec::new();
    while (0..PARTITIONS)
        .zip(&ends)
        .any(|(index, end)| consumer.position(&partition(index)).is_none_or(|at| at < *end))
    {
        for read in consumer.next_chunk().await? {
            found.push(String::from_utf8(read.record.value.unwrap_or_default().to_vec())?);
        }
    }
    Ok(found)
}
