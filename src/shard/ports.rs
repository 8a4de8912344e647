//! The engine's ports: the same for every shard, but for whose hands do the work beside the loop. In a broker these are
//! threads; in a simulation, tasks of one thread (`simulated.rs`).

use super::applier::{Applier, Apply, LogEnd, Signal, Signals, apply_layers, load_rows, write_blocks};
use super::engine::{Ports, Written};
use super::limits::ShardLimits;
use super::metrics::ShardMetrics;
use super::start::{StartError, StopReason, spawn_beside};
use super::table::Table;
use super::trace::Trace;
use super::watch::{Changed, Watchers};
use crate::core::{Drafted, Now, Reply, RowKey};
use crate::log::{PlacedBlock, Reader};
use crate::store::{Applied, Database, Layer, ReadView};
use crate::types::{ServedTime, outside};
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as threads};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::Instant;

/// Served time goes on from where the log left it; wall time is the system's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base: ServedTime,
    since: Instant,
}

impl Clock {
    pub(super) fn from(base: ServedTime) -> Clock {
        Clock { base, since: Instant::now() }
    }

    pub(super) fn now(self) -> Now {
        Now { served: self.base.plus(self.since.elapsed()), wall: outside::wall_clock() }
    }

    /// How long it is until `at`.
    pub(super) fn until(self, at: ServedTime) -> Duration {
        at.since(self.now().served)
    }
}

/// What the work beside the loop is done with.
pub(super) struct Beside {
    pub(super) store: Database,
    pub(super) log: LogEnd,
    pub(super) limits: ShardLimits,
    pub(super) signals: Signals,
    pub(super) metrics: Arc<ShardMetrics>,
}

impl Beside {
    pub(super) fn applier(&self) -> Applier {
        Applier::new(self.store.clone(), self.limits.clone(), Arc::clone(&self.metrics))
    }
}

/// Who does the work beside the loop. Each tells the loop when it is done; one that is gone has failed and said so.
pub(super) trait Hands {
    /// Whether the loop itself shall write a block of so many bytes that so many commands went into.
    fn leave_to_loop(&mut self, commands: usize, bytes: u32) -> bool;
    fn write(&mut self, block: PlacedBlock);
    fn apply(&mut self, changes: Apply);
    fn load(&mut self, rows: Vec<RowKey>);
    /// Somebody waits until all changes are in the store: they are not to be gathered any more.
    fn hurry(&mut self) {}
}

/// The engine's ports.
pub(super) struct Outward<H> {
    pub(super) clock: Clock,
    pub(super) reader: Arc<Reader>,
    pub(super) log: LogEnd,
    pub(super) signals: Signals,
    pub(super) view: Arc<ArcSwap<ReadView>>,
    pub(super) watchers: Arc<Watchers>,
    pub(super) trace: Option<Trace>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) hands: H,
}

impl<H: Hands> Ports for Outward<H> {
    fn now(&self) -> Now {
        self.clock.now()
    }
    fn buffer(&self) -> Vec<u8> {
        self.reader.buffer()
    }
    fn write(&mut self, block: PlacedBlock, commands: usize) -> Written {
        self.metrics.log.commands.observe(commands as u64);
        if !self.hands.leave_to_loop(commands, block.block.length()) {
            self.hands.write(block);
            return Written::Later;
        }
        match self.log.write(&block) {
            Ok(()) => Written::Now,
            Err(error) => {
                // The loop is about to end.
                let _ = self.signals.send(Signal::Failed(StopReason::Log(error)));
                Written::Later
            }
        }
    }
    fn apply(&mut self, layer: Arc<Layer>, applied: Applied, log_bytes: u32) {
        self.hands.apply(Apply { layer, applied, log_bytes });
    }
    fn load(&mut self, rows: Vec<RowKey>) {
        self.hands.load(rows);
    }
    fn publish(&mut self, view: Arc<ReadView>, changed: &[Changed]) {
        self.watchers.publish(&self.view, view, changed);
    }
    fn hurry(&mut self) {
        self.hands.hurry();
    }
    fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_mut()
    }
    fn count(&mut self, reply: Option<&Reply>, drafted: &Drafted, table: &Table) {
        self.metrics.decided(reply, drafted, table);
    }
}

/// The loop writes a block itself that is not long, and that at most so many commands went into: two changes of thread would
/// take about as long as the sync, and with so few asking there is little that could be decided meanwhile.
fn commands_written_here(processors: usize) -> usize {
    // With two, whoever asks has work for both of them while a block is being written.
    if processors > 2 { 4 } else { 16 }
}

/// The queues to the threads beside the loop.
pub(super) struct Threads {
    commands_written_here: usize,
    long_block_bytes: u32,
    blocks: threads::Sender<PlacedBlock>,
    layers: threads::Sender<Apply>,
    hurry: Arc<AtomicBool>,
    loads: threads::Sender<Vec<RowKey>>,
}

/// The threads that a stop waits for.
pub(super) struct Working {
    pub(super) writing: JoinHandle<()>,
    pub(super) applying: JoinHandle<()>,
}

impl Threads {
    pub(super) fn start(beside: &Beside) -> Result<(Threads, Working), StartError> {
        let Beside { store, log, limits, signals, metrics } = beside;
        let (blocks, block_queue) = threads::channel();
        let (end_of_log, to_engine) = (log.clone(), signals.clone());
        let writing =
            spawn_beside("semel-log", signals, move || write_blocks(&end_of_log, &block_queue, &to_engine))?;
        let (layers, layer_queue) = threads::channel();
        let (applier, to_engine) = (beside.applier(), signals.clone());
        let hurry = Arc::new(AtomicBool::new(false));
        let in_haste = Arc::clone(&hurry);
        let applying = spawn_beside("semel-rows", signals, move || {
            apply_layers(applier, &layer_queue, &to_engine, &in_haste)
        })?;
        let (loads, load_queue) = threads::channel();
        let (loaded, to_engine, counted) = (store.clone(), signals.clone(), Arc::clone(metrics));
        spawn_beside("semel-load", signals, move || {
            load_rows(&loaded, &load_queue, &to_engine, &counted.rows)
        })?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let commands_written_here = commands_written_here(processors);
        let long_block_bytes = limits.long_block_bytes;
        let threads = Threads { commands_written_here, long_block_bytes, blocks, layers, hurry, loads };
        Ok((threads, Working { writing, applying }))
    }
}

// A thread that is gone has failed and said so: the loop is about to end.
impl Hands for Threads {
    fn leave_to_loop(&mut self, commands: usize, bytes: u32) -> bool {
        commands <= self.commands_written_here && bytes < self.long_block_bytes
    }
    fn write(&mut self, block: PlacedBlock) {
        let _ = self.blocks.send(block);
    }
    fn apply(&mut self, changes: Apply) {
        let _ = self.layers.send(changes);
    }
    fn load(&mut self, rows: Vec<RowKey>) {
        let _ = self.loads.send(rows);
    }
    fn hurry(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}
