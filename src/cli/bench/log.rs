//! What a disk can do, and what a shard makes of it: batches straight into a shard, without network, TLS or clients, beside
//! plain appends of as many bytes at a time, each with its fdatasync.

use super::super::CliError;
use super::measure::{Latencies, Percentiles, Window};
use super::payload;
use super::report::real;
use super::scratch::{cannot_be_measured, in_scratch};
use crate::core::{BatchFacts, Command, NewTopic, Produce, ProduceBatch, Protocol, Reply, TopicConfig};
use crate::log::RealDisk;
use crate::shard::{Origin, Running, ShardLimits, start};
use crate::types::{ConnectionId, PartitionId, PartitionIndex, Timestamp, TopicId, TopicName};
use crate::wire::batch::{BatchBuilder, BatchProducer, Compression, Record};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Partitions that batches go to, in turn.
const PARTITIONS: u32 = 6;

/// The shard's directory in the one that is removed at the end.
const DATA: &str = "data";

/// Arguments of `semel bench log`.
#[derive(Clone, Debug, Args)]
pub struct LogBench {
    /// Where: a directory on the disk in question. What is written there is removed at the end
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The size of a record's value, in bytes
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    record_size: u32,
    /// The size of a batch, in bytes
    #[arg(long, default_value_t = 64 << 10)]
    batch_size: usize,
    /// Batches in flight
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,
    /// Measure each for so many seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    /// What the shard made durable, in MB/s of batches.
    shard_megabytes_per_s: f64,
    /// From handing a batch to the shard to its durable reply.
    acknowledgement: Percentiles,
    /// Bytes that went into one block, on average.
    bytes_per_block: u64,
    /// Plain appends of as many bytes to a growing file, each synced, in MB/s.
    append_megabytes_per_s: f64,
    append: Percentiles,
    /// The first over the second.
    ratio: f64,
}

pub(super) async fn run(arguments: LogBench) -> Result<(), CliError> {
    let found = in_scratch(&arguments.dir, "log", async |dir| measure(&arguments, dir).await).await?;
    report(&found, arguments.json);
    Ok(())
}

async fn measure(arguments: &LogBench, dir: &Path) -> Result<Found, CliError> {
    let duration = Duration::from_secs(arguments.duration);
    std::fs::create_dir(dir.join(DATA)).map_err(|error| cannot_be_measured(dir, &error))?;
    let running = start(&dir.join(DATA), Arc::new(RealDisk), &ShardLimits::default())
        .map_err(|error| cannot_be_measured(dir, &error))?;
    let filled = fill(&running, arguments, duration).await;
    running.stop().await.map_err(|error| cannot_be_measured(dir, &error))?;
    let Filled { bytes, blocks, seconds, latencies } =
        filled.map_err(|error| cannot_be_measured(dir, &error))?;
    let bytes_per_block = bytes / blocks.max(1);
    let appended =
        append(&dir.join("append"), bytes_per_block, duration).map_err(|e| cannot_be_measured(dir, &e))?;
    let shard = megabytes_per_s(bytes, seconds);
    let append = megabytes_per_s(appended.bytes, appended.seconds);
    Ok(Found {
        shard_megabytes_per_s: shard,
        acknowledgement: latencies.percentiles(),
        bytes_per_block,
        append_megabytes_per_s: append,
        append: appended.latencies.percentiles(),
        ratio: shard / append,
    })
}

fn megabytes_per_s(bytes: u64, seconds: f64) -> f64 {
    real(bytes) / 1e6 / seconds
}

struct Filled {
    bytes: u64,
    /// Blocks written for them.
    blocks: u64,
    seconds: f64,
    latencies: Latencies,
}

/// Keeps so many batches in flight, each with a task of its own.
async fn fill(running: &Running, arguments: &LogBench, duration: Duration) -> Result<Filled, String> {
    let topic = create_topic(running).await?;
    let batch = batch(arguments)?;
    let before = running.shard.view().durable();
    let begun = Instant::now();
    let window = Window::after(Duration::ZERO, duration);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..u32::from(arguments.in_flight) {
        let (shard, (facts, bytes)) = (running.shard.clone(), batch.clone());
        let index = i32::try_from(task % PARTITIONS).unwrap_or(0);
        let partition = PartitionId::new(topic, PartitionIndex(index));
        tasks.spawn(async move {
            let origin = Origin::new(ConnectionId(u64::from(task) + 1));
            let (mut latencies, mut total) = (Latencies::new(), 0);
            while !window.is_over() {
                let asked = Instant::now();
                let batches = vec![ProduceBatch { partition, batch: facts.clone() }];
                let produce = Produce { transactional_id: None, protocol: Protocol::V2, batches };
                let answer = shard.ask(&origin, Command::Produce(produce), vec![bytes.clone()]).await;
                let reply = answer.map_err(|error| error.to_string())?.await;
                match reply.map_err(|error| error.to_string())? {
                    Reply::Produced(each) if each.iter().all(Result::is_ok) => {}
                    other => return Err(format!("{other:?}")),
                }
                latencies.record(asked.elapsed());
                total += bytes.len() as u64;
            }
            Ok((latencies, total))
        });
    }
    let (mut latencies, mut bytes) = (Latencies::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        let (own, total) = ended.map_err(|error| error.to_string())??;
        latencies.merge(&own);
        bytes += total;
    }
    let blocks = running.shard.view().durable().0 - before.0;
    Ok(Filled { bytes, blocks, seconds: begun.elapsed().as_secs_f64(), latencies })
}

async fn create_topic(running: &Running) -> Result<TopicId, String> {
    let id = TopicId(uuid::Uuid::new_v4());
    let name = TopicName::new("bench").map_err(|error| error.to_string())?;
    let topic = NewTopic { id, name, partitions: PARTITIONS, config: TopicConfig::new() };
    let command = Command::CreateTopic { topic, validate_only: false };
    let answer = running.shard.ask(&Origin::new(ConnectionId(0)), command, Vec::new()).await;
    match answer.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())? {
        Reply::Done(Ok(())) => Ok(id),
        other => Err(format!("{other:?}")),
    }
}

/// The batch that is written again and again.
fn batch(arguments: &LogBench) -> Result<(BatchFacts, Bytes), String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let size = usize::try_from(arguments.record_size).unwrap_or(usize::MAX);
    let payload = payload(since.as_secs());
    let mut builder = BatchBuilder::new(arguments.batch_size);
    let mut records = 0;
    while builder.is_empty() || builder.size() + size <= arguments.batch_size {
        let value = Some(super::value(&payload, u64::from(records), size));
        let record = Record { key: None, value, headers: Vec::new() };
        builder.append(now, &record).map_err(|error| error.to_string())?;
        records += 1;
    }
    let bytes =
        builder.build(Compression::None, BatchProducer::Anonymous).map_err(|error| error.to_string())?;
    let facts = BatchFacts {
        records,
        bytes: u32::try_from(bytes.len()).map_err(|error| error.to_string())?,
        oldest_timestamp: now,
        max_timestamp: now,
        producer: None,
        keys: Vec::new(),
    };
    Ok((facts, bytes))
}

struct Appended {
    bytes: u64,
    seconds: f64,
    latencies: Latencies,
}

/// Appends `size` bytes at a time to a new file, each with its fdatasync.
fn append(path: &Path, size: u64, duration: Duration) -> std::io::Result<Appended> {
    let mut piece = Vec::new();
    let payload = payload(1);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    while piece.len() < size {
        piece.extend_from_slice(payload.get(..(size - piece.len()).min(payload.len())).unwrap_or_default());
    }
    let mut file = File::create(path)?;
    let (begun, mut bytes, mut latencies) = (Instant::now(), 0, Latencies::new());
    while begun.elapsed() < duration {
        let asked = Instant::now();
        file.write_all(&piece)?;
        file.sync_data()?;
        latencies.record(asked.elapsed());
        bytes += piece.len() as u64;
    }
    Ok(Appended { bytes, seconds: begun.elapsed().as_secs_f64(), latencies })
}

fn report(found: &Found, json: bool) {
    let mut out = std::io::stdout().lock();
    let lines = if json || !out.is_terminal() {
        vec![serde_json::to_string(found).unwrap_or_default()]
    } else {
        let times = |p: &Percentiles| {
            format!(
                "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.1} ms",
                p.p50_ms, p.p99_ms, p.p999_ms, p.max_ms
            )
        };
        vec![
            format!(
                "shard   {:.0} MB/s durable, {} bytes a block",
                found.shard_megabytes_per_s, found.bytes_per_block
            ),
            format!("        acknowledged {}", times(&found.acknowledgement)),
            format!("append  {:.0} MB/s, write and fdatasync of as many bytes", found.append_megabytes_per_s),
            format!("        {}", times(&found.append)),
            format!("ratio   {:.2}", found.ratio),
        ]
    };
    // Nobody may be listening.
    let _ = writeln!(out, "{}", lines.join("\n"));
}
