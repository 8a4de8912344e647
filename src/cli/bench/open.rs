//! What a transaction costs, by how many others are open in its partition and by how many partitions it has itself: straight
//! into a shard, without network, TLS or clients, one transaction after the other.

use super::super::CliError;
use super::measure::{Latencies, Percentiles, RunningCost, Window};
use super::report::real;
use super::scratch::{cannot_be_measured, in_scratch};
use super::start::make::{Asking, Size};
use crate::log::RealDisk;
use crate::shard::{Running, ShardLimits, SpaceLimits, start};
use crate::types::{PartitionIndex, TransactionalId};
use clap::Args;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments of `semel bench open`.
#[derive(Clone, Debug, Args)]
pub struct OpenBench {
    /// Where: a directory on the disk in question. What is written there is removed at the end
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Transactions that are open in the partition of those that are measured
    #[arg(long, value_delimiter = ',', default_value = "0,100,1000,4000")]
    open: Vec<u64>,
    /// Partitions of each transaction, where no others are open; each gets a record, in a request of its own
    #[arg(long, value_delimiter = ',', default_value = "1,64,1000,4000")]
    partitions: Vec<u32>,
    /// Measure each for so many seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Print one JSON object for each instead of text
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    /// Transactions of others, open in the same partition.
    open: u64,
    /// Partitions of each transaction.
    partitions: u32,
    transactions_per_s: f64,
    /// CPU time of the whole process for each transaction, in microseconds.
    cpu_us_per_transaction: Option<f64>,
    /// From the first record's request to the durable commit.
    transaction: Percentiles,
    /// The commit alone.
    commit: Percentiles,
}

pub(super) async fn run(arguments: OpenBench) -> Result<(), CliError> {
    let open = arguments.open.iter().map(|open| (*open, 1));
    let wide = arguments.partitions.iter().map(|partitions| (0, *partitions));
    for (open, partitions) in open.chain(wide) {
        let duration = Duration::from_secs(arguments.duration);
        let measure = async |dir: &Path| measure(dir, open, partitions, duration).await;
        report(&in_scratch(&arguments.dir, "open", measure).await?, arguments.json);
    }
    Ok(())
}

async fn measure(dir: &Path, open: u64, partitions: u32, duration: Duration) -> Result<Found, CliError> {
    let space = SpaceLimits { reserve_bytes: 0, ..SpaceLimits::default() };
    let limits = ShardLimits { space, ..ShardLimits::default() };
    let running = start(dir, Arc::new(RealDisk), &limits).map_err(|error| cannot_be_measured(dir, &error))?;
    let found = transact(&running, open, partitions, duration).await;
    running.stop().await.map_err(|error| cannot_be_measured(dir, &error))?;
    found.map_err(|error| cannot_be_measured(dir, &error))
}

async fn transact(
    running: &Running,
    open: u64,
    partitions: u32,
    duration: Duration,
) -> Result<Found, String> {
    let asking = Asking::begin(&running.shard, partitions).await?;
    let others = Size {
        partitions: 1,
        producers: 0,
        transactional_ids: 0,
        open_transactions: open,
        log_bytes: 0,
        batch_bytes: 0,
    };
    asking.transactions(&others, &mut |_| {}).await?;
    let id = TransactionalId::new("measured").ok_or("an id that cannot be")?;
    let mut holder = asking.hold(&id).await?;
    let (mut transactions, mut commits) = (Latencies::new(), Latencies::new());
    let (begun, cost) = (Instant::now(), RunningCost::start(None));
    let window = Window::after(Duration::ZERO, duration);
    while !window.is_over() {
        let first = Instant::now();
        let records = (0..partitions).filter_map(|index| i32::try_from(index).ok());
        let records = records.map(|index| asking.one(&id, holder, PartitionIndex(index)));
        asking.all(records.collect::<Result<_, _>>()?).await?;
        let called = Instant::now();
        holder = asking.commit(&id, holder).await?;
        transactions.record(first.elapsed());
        commits.record(called.elapsed());
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cost.stop().client_cpu_s);
    let transaction = transactions.percentiles();
    let count = real(transaction.count);
    Ok(Found {
        open,
        partitions,
        transactions_per_s: count / seconds,
        cpu_us_per_transaction: cpu.map(|cpu| cpu * 1e6 / count),
        transaction,
        commit: commits.percentiles(),
    })
}

fn report(found: &Found, json: bool) {
    let mut out = std::io::stdout().lock();
    let line = if json || !out.is_terminal() {
        serde_json::to_string(found).unwrap_or_default()
    } else {
        format!(
            "{} others open, {} partitions: {:.0} transactions/s, {:.0} µs of CPU each, p50 {:.2} ms, commit p50 {:.2} ms, \
             p99 {:.2} ms",
            found.open,
            found.partitions,
            found.transactions_per_s,
            found.cpu_us_per_transaction.unwrap_or(f64::NAN),
            found.transaction.p50_ms,
            found.commit.p50_ms,
            found.commit.p99_ms,
        )
    };
    // Nobody may be listening.
    let _ = writeln!(out, "{line}");
}
