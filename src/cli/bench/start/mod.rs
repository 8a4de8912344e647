//! `semel bench start`: a data directory as large as one likes, a broker on it, and what its start and its memory depend on.

mod broker;
mod load;
pub(super) mod make;
mod sparse;

use super::super::output::{Progress, bytes_text};
use super::CliError;
use super::report::real;
use crate::log::Disk;
use crate::shard::{ShardLimits, SpaceLimits, start};
use broker::{Broker, Started};
use clap::Args;
use load::{Load, Loaded, Who};
use make::{Made, Size, make};
use rustix::fs::{Advice, fadvise, syncfs};
use serde::Serialize;
use sparse::SparseDisk;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A kill comes when the checkpoint is this far away, in percent of the farthest.
const KILL_PERCENT: u64 = 90;
/// The broker's thread that reads rows.
const LOADER: &str = "semel-load";
/// How long that is waited for.
const KILL_WAIT_MAX: Duration = Duration::from_secs(120);

/// `semel bench start`.
#[derive(Debug, Args)]
#[command(
    after_help = "The log's records are zeroes and take no space: 100 GB of log take about 4 GB of disk."
)]
pub struct StartBench {
    /// Where: a directory that is made, and removed at the end. With --keep it stays, and the next run uses it again
    #[arg(long, default_value = "semel-bench-start")]
    dir: PathBuf,
    /// Partitions
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Producer ids without a transactional id
    #[arg(long, default_value_t = 1_000_000)]
    producers: u64,
    /// Transactional ids, each with a transaction that has ended
    #[arg(long, default_value_t = 1_000_000)]
    transactional_ids: u64,
    /// Transactional ids with a transaction that is open
    #[arg(long, default_value_t = 1_000)]
    open_transactions: u64,
    /// The log, in MB
    #[arg(long, default_value_t = 100_000)]
    log_mb: u64,
    /// A batch of the log, in KB
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=8_000))]
    batch_kb: u64,
    /// Load for so many seconds, of each kind
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// Kill it so often
    #[arg(long, default_value_t = 3)]
    kills: u32,
    /// A setting of the broker, as NAME=VALUE
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Have nothing of the data in memory before each start
    #[arg(long)]
    cold: bool,
    /// Leave the directory for the next run
    #[arg(long)]
    keep: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    measured: &'static str,
    size: Size,
    settings: Vec<String>,
    /// How long it took to make, if it was made now.
    made_s: Option<u64>,
    /// After a stop in order.
    start: Started,
    /// Producers that the broker has just heard of.
    known: Loaded,
    /// Producers that it has not heard of since it started.
    cold: Loaded,
    /// Rows read for each batch of those.
    rows_loaded_per_cold_batch: f64,
    /// Bytes of the store's files read for each of them.
    bytes_read_per_cold_batch: f64,
    /// Bytes of the store's tables.
    tables_bytes: u64,
    /// The most memory it has had under both loads.
    resident_bytes_max: u64,
    /// After each kill.
    starts_after_kill: Vec<Killed>,
}

/// A kill under load, and the start after it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Killed {
    checkpoint_distance_rows: u64,
    checkpoint_distance_bytes: u64,
    resident_bytes_max: u64,
    #[serde(flatten)]
    start: Started,
}

fn failed(problem: &str) -> CliError {
    let advice = "see broker.log in the directory; --dir names another one";
    CliError::Refused { problem: problem.to_owned(), advice: advice.to_owned() }
}

pub(super) async fn run(arguments: StartBench) -> Result<(), CliError> {
    let found = measure(&arguments).await;
    if !arguments.keep {
        // What could not be removed is named by the next attempt to use it.
        let _ = std::fs::remove_dir_all(&arguments.dir);
    }
    Ok(print(&found?, arguments.json)?)
}

impl StartBench {
    fn size(&self) -> Size {
        Size {
            partitions: self.partitions,
            producers: self.producers,
            transactional_ids: self.transactional_ids,
            open_transactions: self.open_transactions,
            log_bytes: self.log_mb * 1_000_000,
            batch_bytes: self.batch_kb * 1_000,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    async fn start(&self) -> Result<(Broker, Started), CliError> {
        if self.cold {
            forget(&self.dir)?;
        }
        Broker::start(&self.data(), &self.dir.join("broker.log"), &self.settings).await
    }
}

async fn measure(arguments: &StartBench) -> Result<Found, CliError> {
    let (made, made_s) = made(arguments).await?;
    let (broker, start) = arguments.start().await?;
    let duration = Duration::from_secs(arguments.duration);
    let next = Arc::new(AtomicU64::new(used(&arguments.dir)?));
    let known = Load::start(&broker.config()?, made, &Who::Known).run(duration).await?;
    let loaded_before = broker.metric("semel_store_loaded_rows_total").await?;
    let read_before = broker.read_by(LOADER)?;
    let who = Who::Cold { next: Arc::clone(&next) };
    let cold = Load::start(&broker.config()?, made, &who).run(duration).await;
    note_used(&arguments.dir, &next)?;
    let cold = cold?;
    let loaded = broker.metric("semel_store_loaded_rows_total").await?.saturating_sub(loaded_before);
    let read = broker.read_by(LOADER)?.saturating_sub(read_before);
    let tables_bytes = broker.metric("semel_store_bytes{in=\"tables\"}").await?;
    let resident_bytes_max = broker.memory("VmHWM")?;
    let mut starts_after_kill = Vec::new();
    let mut broker = broker;
    for _ in 0..arguments.kills {
        let load = Load::start(&broker.config()?, made, &who);
        let (rows, bytes) = far_from_checkpoint(&broker).await?;
        let resident_bytes_max = broker.memory("VmHWM")?;
        broker.kill()?;
        let ended = load.end().await;
        note_used(&arguments.dir, &next)?;
        ended?;
        let started = arguments.start().await?;
        broker = started.0;
        starts_after_kill.push(Killed {
            checkpoint_distance_rows: rows,
            checkpoint_distance_bytes: bytes,
            resident_bytes_max,
            start: started.1,
        });
    }
    broker.stop()?;
    Ok(Found {
        measured: "start",
        size: made.size,
        settings: arguments.settings.clone(),
        made_s,
        start,
        known,
        cold,
        rows_loaded_per_cold_batch: real(loaded) / real(cold.batches.max(1)),
        bytes_read_per_cold_batch: real(read) / real(cold.batches.max(1)),
        tables_bytes,
        resident_bytes_max,
        starts_after_kill,
    })
}

/// Waits until the last checkpoint is about as far away as it may be: then a start has the most to do.
async fn far_from_checkpoint(broker: &Broker) -> Result<(u64, u64), CliError> {
    let limits = ShardLimits::default();
    let begun = Instant::now();
    let mut farthest = (0, 0);
    loop {
        let rows = broker.metric("semel_checkpoint_distance_rows").await?;
        let bytes = broker.metric("semel_checkpoint_distance_bytes").await?;
        farthest = farthest.max((rows, bytes));
        let is_far = rows >= limits.checkpoint_rows / 100 * KILL_PERCENT
            || bytes >= limits.checkpoint_bytes / 100 * KILL_PERCENT;
        if is_far || begun.elapsed() > KILL_WAIT_MAX {
            return Ok((rows, bytes));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The data directory: of an earlier run, or made now.
async fn made(arguments: &StartBench) -> Result<(Made, Option<u64>), CliError> {
    let (dir, size) = (&arguments.dir, arguments.size());
    let note = dir.join("made.json");
    if note.exists() {
        let made: Made = serde_json::from_str(&std::fs::read_to_string(&note)?).map_err(io::Error::other)?;
        if made.size == size {
            return Ok((made, None));
        }
        return Err(failed(&format!("{} has been made of another size", dir.display())));
    }
    std::fs::create_dir_all(arguments.data())?;
    let begun = Instant::now();
    let space = SpaceLimits { reserve_bytes: 0, ..SpaceLimits::default() };
    let limits = ShardLimits { space, ..ShardLimits::default() };
    let disk: Arc<dyn Disk> = Arc::new(SparseDisk);
    let running = start(&arguments.data(), disk, &limits).map_err(|error| failed(&error.to_string()))?;
    let progress = Progress::of_bytes(size.steps());
    let made = make(&running.shard, size, |more| progress.add(more)).await;
    drop(progress);
    running.stop().await.map_err(|error| failed(&error.to_string()))?;
    let made = made.map_err(|problem| failed(&problem))?;
    syncfs(File::open(dir)?).map_err(io::Error::from)?;
    std::fs::write(note, serde_json::to_string(&made).map_err(io::Error::other)?)?;
    Ok((made, Some(begun.elapsed().as_secs())))
}

/// How many of the producer ids have been used by earlier runs.
fn used(dir: &Path) -> Result<u64, CliError> {
    match std::fs::read_to_string(dir.join("used")) {
        Ok(text) => text.trim().parse().map_err(|_| failed("the file `used` holds no number")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn note_used(dir: &Path, next: &AtomicU64) -> io::Result<()> {
    std::fs::write(dir.join("used"), next.load(Ordering::Relaxed).to_string())
}

/// Has the system forget what the files below a directory hold.
fn forget(dir: &Path) -> io::Result<()> {
    syncfs(File::open(dir)?)?;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn print(found: &Found, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json || !out.is_terminal() {
        return writeln!(out, "{}", serde_json::to_string(found)?);
    }
    let bytes = |bytes: u64| bytes_text(real(bytes));
    let Size { partitions, producers, transactional_ids, open_transactions, log_bytes, .. } = found.size;
    writeln!(
        out,
        "{partitions} partitions, {producers} producer ids, {transactional_ids} transactional ids and \
         {open_transactions} open transactions, {} of log",
        bytes(log_bytes)
    )?;
    let starts = found.starts_after_kill.iter().map(|killed| {
        let (rows, distance) = (killed.checkpoint_distance_rows, bytes(killed.checkpoint_distance_bytes));
        (format!("killed {rows} rows, {distance} behind a checkpoint"), killed.start)
    });
    for (what, start) in std::iter::once(("stopped in order".to_owned(), found.start)).chain(starts) {
        writeln!(
            out,
            "{what}: ready after {} ms, {} blocks replayed, {} rows read, {} read from files, {} of memory",
            start.ready_ms,
            start.replayed_blocks.unwrap_or(0),
            start.rows_read,
            bytes(start.read_bytes),
            bytes(start.resident_bytes),
        )?;
    }
    for (what, load) in [("known producers", &found.known), ("cold producers", &found.cold)] {
        let (rate, p50, p99) = (load.batches_per_s, load.request.p50_ms, load.request.p99_ms);
        writeln!(out, "{what}: {rate:.0} batches/s, a request p50 {p50:.1} ms, p99 {p99:.1} ms")?;
    }
    let per_batch = found.rows_loaded_per_cold_batch;
    writeln!(
        out,
        "{per_batch:.2} rows loaded per cold batch, {} read from files for it; {} of memory at most; tables of {}",
        bytes_text(found.bytes_read_per_cold_batch),
        bytes(found.resident_bytes_max),
        bytes(found.tables_bytes),
    )
}
