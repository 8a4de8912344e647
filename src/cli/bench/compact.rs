//! `semel bench compact`.

use super::super::topic::pair;
use super::measure::RunningCost;
use super::report::{Report, Volume};
use super::{BenchArgs, BenchTopic, CliError, RecordArgs, payload, value};
use crate::client::{
    Client, Consumer, ConsumerConfig, Isolation, Producer, ProducerRecord, Start, TopicPartition,
};
use crate::types::Offset;
use bytes::Bytes;
use clap::Args;
use std::io::Write;
use std::time::{Duration, Instant};

/// `semel bench compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "A new compacted topic gets each key several times. What is measured is the time from the last \
    acknowledgement until none of some superseded records all over the topic is left. Ten million keys:\n  \
    semel bench compact --keys 10000000 --record-size 100 --partitions 1\n\
    Kafka compacts only segments that are closed: give it small ones, with --config segment.bytes=67108864 (semel has no \
    such setting)."
)]
pub struct CompactBench {
    /// Keys
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    keys: u64,
    /// How often each key is written
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..))]
    updates: u64,
    /// A topic configuration besides what makes it compacted as soon as it can be; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Give up after so many seconds of waiting for compaction
    #[arg(long, default_value_t = 1_800)]
    patience: u64,
    #[command(flatten)]
    values: RecordArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

/// Superseded records that are looked for in each partition.
const PROBES: i64 = 16;

/// The part of what is superseded that has to go, in eighths: no broker compacts what was written last, and so what that
/// supersedes is left.
const GONE_EIGHTHS: i64 = 7;

/// Between two looks: they are not to be what is measured.
const LOOK: Duration = Duration::from_millis(250);

/// Keys are written in steps of this many, so that a batch holds keys from all over: a prime that divides no number of keys
/// that anybody would ask for.
const STRIDE: u64 = 1_000_003;

pub(super) async fn run(arguments: CompactBench) -> Result<(), CliError> {
    if arguments.bench.topic.is_some() {
        return Err(CliError::usage("bench compact fills a topic of its own", "leave out --topic"));
    }
    let client = arguments.bench.connect.connect().await?;
    let eager = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    let eager = eager.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let configs = eager.into_iter().chain(arguments.config.iter().cloned()).collect();
    let topic = BenchTopic::prepare_with(&client, &arguments.bench, configs).await?;
    let begun = Instant::now();
    let superseded = fill(&client, &topic, &arguments).await?;
    let filled = begun.elapsed();
    let cost = RunningCost::start(arguments.bench.broker_pid);
    let begun = Instant::now();
    let outcome = wait_until_gone(&client, superseded, begun + Duration::from_secs(arguments.patience)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cost = cost.stop();
    topic.clean_up(&client).await?;
    client.close().await;
    outcome?;
    let records = arguments.keys.saturating_mul(arguments.updates);
    let bytes = records.saturating_mul(arguments.values.record_size.into());
    let conditions = format!(
        "{} keys, each {} times, values of {} bytes, {} partitions, compression {:?}, written in {:.1} s",
        arguments.keys,
        arguments.updates,
        arguments.values.record_size,
        topic.partitions.len(),
        arguments.values.compression,
        filled.as_secs_f64(),
    );
    let volume = Volume { records, bytes, seconds, transactions: None };
    let report = Report::new("compact", &arguments.bench, conditions, &volume, cost, Vec::new());
    Ok(report.print(arguments.bench.json)?)
}

/// Writes every key so often; returns where the last round begins in each partition: below that everything is superseded.
async fn fill(
    client: &Client,
    topic: &BenchTopic,
    arguments: &CompactBench,
) -> Result<Vec<(TopicPartition, Offset)>, CliError> {
    let producer = Producer::new(client, arguments.values.config())?;
    let payload = payload(1);
    let mut ends = Vec::new();
    for round in 0..arguments.updates {
        if round + 1 == arguments.updates {
            producer.flush().await?;
            ends = topic.ends(client, Isolation::ReadCommitted).await?;
        }
        for index in 0..arguments.keys {
            let key = index.wrapping_mul(STRIDE) % arguments.keys;
            let value = value(&payload, index.wrapping_add(round), arguments.values.record_bytes());
            let mut record = ProducerRecord::new(topic.name.clone(), value);
            record.key = Some(Bytes::copy_from_slice(&key.to_be_bytes()));
            producer.send(record).await?;
        }
    }
    producer.close().await?;
    if !arguments.bench.json {
        writeln!(std::io::stderr(), "written; waiting for compaction")?;
    }
    Ok(ends)
}

/// Waits until readers that begin at superseded records find none of them.
async fn wait_until_gone(
    client: &Client,
    superseded: Vec<(TopicPartition, Offset)>,
    deadline: Instant,
) -> Result<(), CliError> {
    let spread = |(partition, end): (TopicPartition, Offset)| {
        let end = Offset(end.0 / 8 * GONE_EIGHTHS);
        (0..PROBES).map(move |probe| (partition.clone(), Offset(end.0 / PROBES * probe), end))
    };
    let mut probes: Vec<_> =
        superseded.into_iter().flat_map(spread).filter(|(_, at, end)| at < end).collect();
    loop {
        let mut left = Vec::new();
        for (partition, at, end) in probes {
            let mut consumer =
                Consumer::new(client, ConsumerConfig { partition_bytes: 1_024, ..ConsumerConfig::default() });
            consumer.seek(partition.clone(), Start::Offset(at));
            let found = consumer.next_chunk().await?.into_iter().map(|record| record.offset).min();
            if found.is_some_and(|found| found < end) {
                left.push((partition, at, end));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CliError::usage(
                format!("after all that time, {} of the records looked for are still there", left.len()),
                "see whether the broker compacts such a topic at all, and give it more --patience",
            ));
        }
        probes = left;
        tokio::time::sleep(LOOK).await;
    }
}
