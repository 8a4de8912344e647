//! The threads beside the loop: one writes blocks, one puts durable changes into the store, one reads rows from it. None of
//! them decides anything; each tells the loop what it has done.

use super::limits::ShardLimits;
use super::metrics::{RowMetrics, ShardMetrics};
use super::start::StopReason;
use crate::core::{RowKey, RowValue};
use crate::log::{PlacedBlock, Reader, WriteError, Writer};
use crate::store::{Applied, Database, Layer, ReadView};
use crate::types::BlockNumber;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// What the threads tell the loop.
#[derive(Debug)]
pub(super) enum Signal {
    /// The block being written is durable.
    Written,
    /// Blocks up to this one are in the store; here is a view that has them.
    Applied(BlockNumber, Box<ReadView>),
    /// Places have changed in the store; here is a view that has them.
    Rebased(Box<ReadView>),
    /// Rows, as the store has them.
    Loaded(Vec<(RowKey, Option<RowValue>)>),
    /// Something failed that nothing can go on after.
    Failed(StopReason),
}

/// Signals are bounded by what they answer: one write, the backlog's layers, the loads of waiting commands.
pub(super) type Signals = UnboundedSender<Signal>;

/// The log's end, which two threads write to: the loop itself, when nobody gains by its being free meanwhile, and a
/// thread of its own otherwise. One block is written at a time, so neither ever waits for the other.
#[derive(Clone, Debug)]
pub(super) struct LogEnd {
    writer: Arc<Mutex<Writer>>,
    reader: Arc<Reader>,
    metrics: Arc<ShardMetrics>,
}

impl LogEnd {
    pub(super) fn new(writer: Writer, reader: Arc<Reader>, metrics: Arc<ShardMetrics>) -> LogEnd {
        LogEnd { writer: Arc::new(Mutex::new(writer)), reader, metrics }
    }

    /// Makes a block durable. A writer that has failed once fails for ever.
    pub(super) fn write(&self, placed: &PlacedBlock) -> Result<(), WriteError> {
        let begun = Instant::now();
        self.metrics.log.writing.begin(begun);
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write(placed)?;
        self.metrics.log.writing.end();
        self.metrics.log.write.observe_time(begun.elapsed());
        self.metrics.log.block.observe(placed.block.length().into());
        self.reader.remember(placed);
        Ok(())
    }

    /// The same, told as the loop hears it.
    pub(super) fn write_block(&self, placed: &PlacedBlock) -> Signal {
        match self.write(placed) {
            Ok(()) => Signal::Written,
            Err(error) => Signal::Failed(StopReason::Log(error)),
        }
    }

    /// The writer, when nobody else writes any more.
    pub(super) fn into_writer(self) -> Option<Writer> {
        Arc::into_inner(self.writer).map(|writer| writer.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes blocks until there are no more, or one fails: then nothing is written any more, and the process is to end.
pub(super) fn write_blocks(log: &LogEnd, blocks: &Receiver<PlacedBlock>, signals: &Signals) {
    while let Ok(placed) = blocks.recv() {
        let signal = log.write_block(&placed);
        let failed = matches!(signal, Signal::Failed(_));
        if signals.send(signal).is_err() || failed {
            return;
        }
    }
}

/// A durable block's changes, on their way into the store.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) layer: Arc<Layer>,
    pub(super) applied: Applied,
    pub(super) log_bytes: u32,
}

/// How long changes are gathered before they go into the store. A batch of the store and a new view for each of a
/// thousand small blocks a second would cost more than the blocks, and of a row that changes again and again only the last
/// change is put there; readers see them in the layers meanwhile, and find them there sooner than in the store.
const GATHER: Duration = Duration::from_millis(150);

/// How often it is looked whether there are more of them, or somebody waits: for each block would be too often.
const GATHER_LOOK: Duration = Duration::from_millis(20);

/// Row changes that go into the store as one batch at most, counted before those of one row are made one: together they and what
/// comes while they are put there are less than the backlog may be, so that nobody waits. A quarter as many take up to 4 % more of the
/// processor's time where partitions get many small batches; twice as many 2 % less.
const ROWS_PER_BATCH_MAX: usize = 80_000;

/// Who puts changes into the store, several blocks at once where they have piled up, and makes the store durable now and
/// then.
pub(super) struct Applier {
    store: Database,
    limits: ShardLimits,
    metrics: Arc<ShardMetrics>,
    /// Since the last checkpoint.
    bytes: u64,
    rows: u64,
}

impl Applier {
    pub(super) fn new(store: Database, limits: ShardLimits, metrics: Arc<ShardMetrics>) -> Applier {
        Applier { store, limits, metrics, bytes: 0, rows: 0 }
    }

    /// Puts `first` and what else there is by now into the store.
    pub(super) fn apply(&mut self, first: Apply, mut next: impl FnMut() -> Option<Apply>) -> Signal {
        let (mut count, mut applied) = (first.layer.len(), first.applied);
        let mut several = vec![first.layer];
        self.bytes += u64::from(first.log_bytes);
        while count < ROWS_PER_BATCH_MAX
            && let Some(next) = next()
        {
            count += next.layer.len();
            applied = next.applied;
            self.bytes += u64::from(next.log_bytes);
            several.push(next.layer);
        }
        self.rows += count as u64;
        let metrics = &self.metrics.rows;
        let begun = Instant::now();
        let mut result = self.store.apply(&several, applied);
        metrics.apply.observe_time(begun.elapsed());
        metrics.applied.add(count as u64);
        if result.is_ok()
            && (self.bytes >= self.limits.checkpoint_bytes || self.rows >= self.limits.checkpoint_rows)
        {
            let begun = Instant::now();
            result = self.store.persist();
            metrics.checkpoint.observe_time(begun.elapsed());
            (self.bytes, self.rows) = (0, 0);
        }
        metrics.since_checkpoint_bytes.set(self.bytes);
        metrics.since_checkpoint_rows.set(self.rows);
        let block = applied.checkpoint.block;
        match result {
            Ok(()) => Signal::Applied(block, Box::new(self.store.view(block))),
            Err(error) => Signal::Failed(StopReason::Store(error)),
        }
    }
}

/// Puts changes into the store until there are no more. `hurry` says that somebody waits for them.
pub(super) fn apply_layers(
    mut applier: Applier,
    layers: &Receiver<Apply>,
    signals: &Signals,
    hurry: &AtomicBool,
) {
    while let Ok(first) = layers.recv() {
        let begun = Instant::now();
        let signal = applier.apply(first, || next_within(layers, begun, hurry));
        let failed = matches!(signal, Signal::Failed(_));
        if signals.send(signal).is_err() || failed {
            return;
        }
    }
}

/// The next changes that come while there is time, which began to run at `begun`.
fn next_within(layers: &Receiver<Apply>, begun: Instant, hurry: &AtomicBool) -> Option<Apply> {
    loop {
        if let Ok(next) = layers.try_recv() {
            return Some(next);
        }
        if begun.elapsed() >= GATHER || hurry.load(Ordering::Relaxed) {
            return None;
        }
        std::thread::sleep(GATHER_LOOK);
    }
}

/// Reads rows from the store.
pub(super) fn load(store: &Database, keys: Vec<RowKey>, metrics: &RowMetrics) -> Signal {
    metrics.loaded.add(keys.len() as u64);
    let rows: Result<Vec<_>, _> =
        keys.into_iter().map(|key| store.look(&key).map(|row| (key, row))).collect();
    match rows {
        Ok(rows) => Signal::Loaded(rows),
        Err(error) => Signal::Failed(StopReason::Store(error)),
    }
}

/// Reads rows from the store until nobody wants any.
pub(super) fn load_rows(
    store: &Database,
    requests: &Receiver<Vec<RowKey>>,
    signals: &Signals,
    metrics: &RowMetrics,
) {
    while let Ok(keys) = requests.recv() {
        if signals.send(load(store, keys, metrics)).is_err() {
            return;
        }
    }
}
