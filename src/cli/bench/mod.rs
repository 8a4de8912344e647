//! `semel bench`: the same measurements of any broker that speaks the Kafka protocol, so that semel and others can be
//! compared by one tool: semel over QUIC and TLS, others over TLS.

mod compact;
mod consume;
mod groups;
mod log;
mod measure;
mod open;
mod produce;
mod report;
mod retention;
mod scratch;
mod start;
mod txn;

use super::CliError;
use super::connect::ConnectArgs;
use super::produce::CompressionChoice;
use super::topic::topic_name;
use crate::client::{Admin, Client, ClientError, Isolation, NewTopic, ProducerConfig, Start, TopicPartition};
use crate::types::{Offset, TopicName};
use crate::wire::ErrorCode;
use bytes::Bytes;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Idempotent producing: throughput, and the time from send to acknowledgement
    Produce(produce::ProduceBench),
    /// A disk without broker and network: what a shard makes durable, beside plain appends
    Log(log::LogBench),
    /// Much more is written than is kept: what giving space back costs
    Retention(retention::RetentionBench),
    /// Compaction: the time until superseded records are gone
    Compact(compact::CompactBench),
    /// A start with as much stored as one likes: time, memory, and the cost of what is not in memory
    Start(start::StartBench),
    /// Reading: throughput
    Consume(consume::ConsumeBench),
    /// Transactions: their number, the time of a commit, and the time until a reader has the last record
    Txn(txn::TxnBench),
    /// What a transaction costs a shard while others are open in its partition, and by its own partitions
    Open(open::OpenBench),
    /// Consumer groups: the time to a stable assignment, heartbeats, memory, and what producing feels of them
    Groups(groups::GroupsBench),
}

pub(super) async fn run(command: BenchCommand) -> Result<(), CliError> {
    match command {
        BenchCommand::Produce(arguments) => produce::run(arguments).await,
        BenchCommand::Log(arguments) => log::run(arguments).await,
        BenchCommand::Retention(arguments) => retention::run(arguments).await,
        BenchCommand::Compact(arguments) => compact::run(arguments).await,
        BenchCommand::Start(arguments) => start::run(arguments).await,
        BenchCommand::Consume(arguments) => consume::run(arguments).await,
        BenchCommand::Txn(arguments) => txn::run(arguments).await,
        BenchCommand::Open(arguments) => open::run(arguments).await,
        BenchCommand::Groups(arguments) => groups::run(arguments).await,
    }
}

/// Where to measure, and how to report.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// The topic; created if there is none [default: a new one, deleted at the end]
    #[arg(long, value_parser = topic_name)]
    topic: Option<TopicName>,
    /// Partitions of a topic that is created
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// The broker's process on this machine: its CPU time and memory are reported too
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How records are made and batched.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// The size of a record's value, in bytes
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    record_size: u32,
    /// The size at which a batch is sent, in bytes
    #[arg(long, default_value_t = 64 << 10)]
    batch_size: usize,
    /// How long a batch waits for more, in milliseconds
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// Requests in flight per lane, and batches in flight per partition
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=5))]
    in_flight: u8,
    /// Lanes to the broker for each producer
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    lanes: u16,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    compression: CompressionChoice,
}

impl RecordArgs {
    fn config(&self) -> ProducerConfig {
        ProducerConfig {
            batch_bytes: self.batch_size,
            linger: Duration::from_millis(self.linger_ms),
            compression: self.compression.into(),
            in_flight: self.in_flight.into(),
            lanes: self.lanes,
            ..ProducerConfig::default()
        }
    }

    fn record_bytes(&self) -> usize {
        usize::try_from(self.record_size).unwrap_or(usize::MAX)
    }
}

/// How long to measure.
#[derive(Clone, Copy, Debug, Args)]
pub struct SpanArgs {
    /// Measure for so many seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Run for so many seconds before
    #[arg(long, default_value_t = 2)]
    warmup: u64,
}

impl SpanArgs {
    fn warmup(self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    fn duration(self) -> Duration {
        Duration::from_secs(self.duration)
    }
}

/// The topic of a measurement.
struct BenchTopic {
    name: TopicName,
    partitions: Vec<TopicPartition>,
    /// Whether it was made for this measurement alone.
    temporary: bool,
}

impl BenchTopic {
    async fn prepare(client: &Client, arguments: &BenchArgs) -> Result<BenchTopic, CliError> {
        BenchTopic::prepare_with(client, arguments, BTreeMap::new()).await
    }

    /// With these settings, if it is created.
    async fn prepare_with(
        client: &Client,
        arguments: &BenchArgs,
        configs: BTreeMap<String, String>,
    ) -> Result<BenchTopic, CliError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let own = format!("semel-bench-{}-{}", std::process::id(), since.as_millis());
        let temporary = arguments.topic.is_none();
        let name = match &arguments.topic {
            Some(name) => name.clone(),
            None => topic_name(&own).map_err(|problem| CliError::usage(problem, "name one with --topic"))?,
        };
        let topic = NewTopic { configs, ..NewTopic::new(name.clone(), arguments.partitions) };
        match Admin::new(client).create_topic(&topic).await {
            Ok(_) | Err(ClientError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let metadata = client.metadata_of(std::slice::from_ref(&name)).await?;
        let partitions = metadata.partitions(&name).unwrap_or_default();
        Ok(BenchTopic { name, partitions, temporary })
    }

    /// Where each partition ends for readers.
    async fn ends(
        &self,
        client: &Client,
        isolation: Isolation,
    ) -> Result<Vec<(TopicPartition, Offset)>, CliError> {
        let asked: Vec<_> =
            self.partitions.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
        let found = Admin::new(client).find_offsets(&asked, isolation).await?;
        let ends = self.partitions.iter().cloned().zip(found).map(|(partition, end)| Ok((partition, end?)));
        ends.collect()
    }

    async fn clean_up(&self, client: &Client) -> Result<(), CliError> {
        if self.temporary {
            Admin::new(client).delete_topic(&self.name).await?;
        }
        Ok(())
    }
}

/// Bytes to cut values from: random, so that neither compression nor a smart disk helps.
fn payload(seed: u64) -> Bytes {
    const SIZE: usize = 4 << 20;
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE {
        // Xorshift (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// The `index`th value of `size` bytes.
fn value(payload: &Bytes, index: u64, size: usize) -> Bytes {
    let places = payload.len().saturating_sub(size).max(1);
    let start = usize::try_from(index.wrapping_mul(7919)).unwrap_or(0) % places;
    payload.slice(start..(start + size).min(payload.len()))
}
