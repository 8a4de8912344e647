//! A shard's start (lock, store, log, replay, loop), its loop, and its stop.

use super::applier::{LogEnd, Signal, Signals};
use super::backup::{BackupError, Backups, Manifest, Restored, is_half_restored, restore_of};
use super::engine::{Begin, Engine, Ports};
use super::handle::{Ask, Origin, Shard};
use super::limits::ShardLimits;
use super::metrics::ShardMetrics;
use super::ports::{Beside, Clock, Hands, Outward, Threads, Working};
use super::rebuild::{ROWS, RebuildError, Sources, complete_made_anew};
use super::replay::replay;
use super::table::Table;
use super::trace::{self, Trace};
use super::upkeep::{
    Compact, Duty, ExpireIdle, ExpireOffsets, ForgetKeys, FreeSegments, Ground, GroundStart, MoveLive,
    Pressure, Retention, SurveySpace, SweepRows, TakeBackups, TakeSnapshots, TrimIndex, Upkeep, WatchSpace,
};
use super::watch::Watchers;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{ClusterRow, Command, RestoredRow, Timer, TransactionRow, TransactionState};
use crate::log::{
    DirectoryLock, Disk, DiskError, InvalidOptions, LockError, Log, LogId, LogOptions, RecoverError,
    Recovery, Segments, ShardNumber, StopError, WriteError, recover,
};
use crate::store::{Applied, Database, ReadView, Snapshot, SnapshotError, Snapshots, StoreError, suspect};
use crate::types::codec::CodecError;
use crate::types::{BlockNumber, ConnectionId, ProducerId, ServedTime, outside};
use arc_swap::ArcSwap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Why a shard cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// The snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The rows are damaged or behind, and cannot be made anew.
    #[error("the rows cannot be opened and cannot be made anew from the log: {0}")]
    Rebuild(#[from] RebuildError),
    /// An event in the log is none that this version knows.
    #[error(
        "block {block} of the log holds an event that this version cannot read ({source}): is the data directory from another version of semel?"
    )]
    Event {
        /// The block.
        block: BlockNumber,
        /// What is wrong.
        source: CodecError,
    },
    /// It is a backup.
    #[error("{} is a backup: make a data directory of it with `semel restore`", .0.display())]
    Backup(PathBuf),
    /// A restore did not come to its end.
    #[error("{}: a restore into it did not come to its end: empty it and restore again", .0.display())]
    HalfRestored(PathBuf),
    /// It cannot be told which restore has made the data directory.
    #[error(transparent)]
    Restored(#[from] BackupError),
    /// A limit contradicts another.
    #[error("the log cannot be configured so: {0}")]
    Options(#[from] InvalidOptions),
    /// A directory or a thread could not be made.
    #[error("{what} could not be made: {source}")]
    Io {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a shard has stopped by itself. The process must end: what is durable is not known any more.
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] WriteError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log could not be marked as stopped in order.
    #[error(transparent)]
    Mark(#[from] StopError),
    /// Something in flight did not come to an end in time.
    #[error("what was in flight did not come to an end in time; the next start will recover it")]
    Deadline,
    /// A thread has panicked.
    #[error("a thread of the shard has panicked; the log says where")]
    Panic,
}

impl StopReason {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        let disk = match self {
            StopReason::Log(WriteError::Disk { source, .. }) | StopReason::Mark(StopError::Disk(source)) => {
                Some(source.source.kind())
            }
            StopReason::Store(error) => error.io_kind(),
            _ => None,
        };
        match (self, disk) {
            (_, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) => {
                "make room on the file system of the data directory and start semel again"
            }
            (_, Some(_)) => {
                "see what the system's log says of the disk, and start semel again once it can be relied on"
            }
            (StopReason::Panic, None) => "start semel again, and report it",
            (StopReason::Store(StoreError::Refuses { .. }), None) => {
                "if the disk is full, make room on the file system of the data directory; then start semel again"
            }
            (StopReason::Store(error), None) if error.is_damage() => {
                "start semel again: it makes the rows anew from the last snapshot and the log"
            }
            _ => "start semel again; if it comes back, the lines above in the log say more",
        }
    }
}

/// A shard that serves.
#[derive(Debug)]
pub struct Running {
    /// What to ask.
    pub shard: Shard,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<(), StopReason>>,
    engine: JoinHandle<()>,
}

impl Running {
    /// Waits until the shard ends by itself, which it does only when it has failed.
    pub async fn failed(&mut self) -> StopReason {
        match (&mut self.ended).await {
            Ok(Err(reason)) => reason,
            Ok(Ok(())) | Err(_) => StopReason::Panic,
        }
    }

    /// Takes no more commands, makes everything durable, and leaves the mark of a clean stop.
    pub async fn stop(mut self) -> Result<(), StopReason> {
        drop(self.stop.take());
        let ended = (&mut self.ended).await.unwrap_or(Err(StopReason::Panic));
        if self.engine.join().is_err() {
            return Err(StopReason::Panic);
        }
        ended
    }
}

/// Starts the shard whose data are in `dir`, or makes a new one there. Blocks until everything in the log is in the rows.
pub fn start(dir: &Path, disk: Arc<dyn Disk>, limits: &ShardLimits) -> Result<Running, StartError> {
    let begun = Instant::now();
    if Manifest::is_in(dir) {
        return Err(StartError::Backup(dir.to_path_buf()));
    }
    let lock = DirectoryLock::take(dir)?;
    if is_half_restored(dir) {
        return Err(StartError::HalfRestored(dir.to_path_buf()));
    }
    let log_dir = dir.join("log");
    disk.create_dir(&log_dir)
        .map_err(|source| StartError::Io { what: format!("the directory {}", log_dir.display()), source })?;
    let snapshots = Snapshots::open(Arc::clone(&disk), dir.join("snapshots"))?;
    let snapshot = snapshots.newest()?;
    let options = log_options(dir, limits);
    let limits =
        ShardLimits { block_bytes: limits.block_bytes.min(options.block_length_max()), ..limits.clone() };
    let recover = || recover_all(dir, &disk, &snapshots, snapshot.clone(), options.clone(), &limits);
    let Recovered { store, served, recovery, table, blocks } = match recover() {
        // It has been written down, so now the rows are made anew.
        Err(error) if suspect(&dir.join(ROWS)).exists() => {
            tracing::warn!(%error, "the rows turned out to be damaged");
            recover()
        }
        first => first,
    }?;
    let log = recovery.into_log()?;
    tracing::info!(
        replayed_blocks = blocks,
        last_block = log.last.0,
        left = ?log.left,
        took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the log is recovered"
    );
    let clock = Clock::from(log.served_time.max(served));
    let restored = restore_of(dir)?;
    let space = Space { disk, dir: dir.to_path_buf(), snapshots, snapshot, restored };
    run(lock, Parts { store, log, table, clock, limits, space })
}

/// How the log in a data directory is opened.
pub(super) fn log_options(dir: &Path, limits: &ShardLimits) -> LogOptions {
    let id_if_new = LogId(outside::uuid().as_u128());
    let mut options = LogOptions::new(dir.join("log"), ShardNumber(0), id_if_new);
    options.segment_length = limits.segment_bytes;
    options.recent_bytes_max = limits.recent_bytes;
    options
}

/// The rows up to the end of the log, which is not open for writing yet.
pub(super) struct Recovered {
    pub(super) store: Database,
    pub(super) served: ServedTime,
    pub(super) recovery: Recovery,
    pub(super) table: Table,
    pub(super) blocks: u64,
}

/// Opens the store, or makes it anew, and replays the log above it.
pub(super) fn recover_all(
    dir: &Path,
    disk: &Arc<dyn Disk>,
    snapshots: &Snapshots,
    snapshot: Option<Snapshot>,
    mut options: LogOptions,
    limits: &ShardLimits,
) -> Result<Recovered, StartError> {
    let segments = Segments::find(Arc::clone(disk), options.dir.clone())?;
    let identity = segments.as_ref().map(Segments::identity);
    if let Some(header) = snapshot.as_ref().map(|snapshot| snapshot.header)
        && identity == Some(header.identity)
    {
        options.durable = header.applied.checkpoint.block;
    }
    let store = Sources { dir, limits, segments: segments.clone(), snapshots, snapshot }.open_store()?;
    let recovered = replay_above(store, disk, options, limits)?;
    complete_made_anew(dir, segments.as_ref(), &recovered.store)?;
    Ok(recovered)
}

/// Replays the log above what a store has.
pub(super) fn replay_above(
    store: Database,
    disk: &Arc<dyn Disk>,
    options: LogOptions,
    limits: &ShardLimits,
) -> Result<Recovered, StartError> {
    let Applied { checkpoint, served } = store.applied()?;
    let mut recovery = recover(Arc::clone(disk), options, checkpoint)?;
    let (table, blocks) = replay(|| Ok(recovery.next_block()?), &store, limits)?;
    Ok(Recovered { store, served, recovery, table, blocks })
}

/// What the space of the log is kept with.
pub(super) struct Space {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) snapshots: Snapshots,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) restored: Option<Restored>,
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(work).map_err(|source| StartError::Io { what: format!("the thread {name}"), source })
}

/// A thread beside the loop. If it panics, the loop is told: it would wait for ever for what the thread was to do.
pub(super) fn spawn_beside(
    name: &str,
    signals: &Signals,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let signals = signals.clone();
    spawn(name, move || {
        // What it was changing is not looked at again by anybody but the next start.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            let _ = signals.send(Signal::Failed(StopReason::Panic));
            resume_unwind(panic);
        }
    })
}

/// A shard that has been recovered.
pub(super) struct Parts {
    pub(super) store: Database,
    pub(super) log: Log,
    pub(super) table: Table,
    pub(super) clock: Clock,
    pub(super) limits: ShardLimits,
    pub(super) space: Space,
}

/// A shard whose loop has not begun to turn yet.
pub(super) struct Made<H> {
    pub(super) shard: Shard,
    pub(super) turning: Loop<Outward<H>>,
    /// Dropped to stop the loop.
    pub(super) stop: oneshot::Sender<()>,
    pub(super) upkeep: Upkeep,
    pub(super) signals: Signals,
    pub(super) store: Database,
    pub(super) log: LogEnd,
}

impl Parts {
    /// Makes a shard of them. `hands` starts what works beside its loop.
    pub(super) fn make<H: Hands, W>(
        self,
        hands: impl FnOnce(&Beside) -> Result<(H, W), StartError>,
    ) -> Result<(Made<H>, W), StartError> {
        let Parts { store, log, table, clock, limits, space } = self;
        let Log { cursor, writer, reader, last, segments, .. } = log;
        let trace = open_trace(limits.trace.as_deref())?;
        let pressure = Pressure::default();
        let first_view = Arc::new(store.view(last));
        let beginning = Beginning::of(&first_view, space.restored.as_ref())?;
        let deadlines = timers(&first_view, beginning.ids_from)?;
        let view = Arc::new(ArcSwap::new(Arc::clone(&first_view)));
        let watchers = Arc::new(Watchers::default());
        let (asks, ask_queue) = mpsc::channel(limits.queue);
        let (signals, signal_queue) = mpsc::unbounded_channel();
        let backups = Backups::new(limits.backup_dir.clone());
        let metrics = Arc::new(ShardMetrics::with_reads(store.reads()));
        let shard = Shard {
            asks,
            view: Arc::clone(&view),
            watchers: Arc::clone(&watchers),
            reader: Arc::clone(&reader),
            pressure: pressure.clone(),
            metrics: Arc::clone(&metrics),
            backups: backups.clone(),
            store: store.clone(),
        };
        let ground = GroundStart {
            store: store.clone(),
            segments,
            recycler: writer.recycler(),
            reader: Arc::clone(&reader),
            snapshots: space.snapshots.clone(),
            signals: signals.clone(),
            pressure,
            metrics: Arc::clone(&metrics),
            limits: limits.space.clone(),
            segment_length: limits.segment_bytes,
        };
        let duties = space.duties(ground, &limits, (backups, Arc::clone(&view)))?;
        let begin = Begin { identity: writer.identity(), table, cursor, last, view: first_view, deadlines };
        let log = LogEnd::new(writer, Arc::clone(&reader), Arc::clone(&metrics));
        let beside = Beside {
            store: store.clone(),
            log: log.clone(),
            limits: limits.clone(),
            signals: signals.clone(),
            metrics: Arc::clone(&metrics),
        };
        let (hands, working) = hands(&beside)?;
        let (signals, log) = (beside.signals, beside.log);
        let ports = Outward {
            clock,
            reader,
            log: log.clone(),
            signals: signals.clone(),
            view,
            watchers,
            trace,
            metrics: Arc::clone(&metrics),
            hands,
        };
        let engine = Engine::new(ports, limits.clone(), begin);
        let upkeep = Upkeep::new(shard.clone(), clock, duties);
        let (stop, stopped) = oneshot::channel();
        beginning.ask(&shard);
        let turning =
            Loop { engine, clock, asks: ask_queue, signals: signal_queue, stopped, limits, metrics };
        Ok((Made { shard, turning, stop, upkeep, signals, store, log }, working))
    }
}

/// Has a shard turn on threads of its own.
fn run(lock: DirectoryLock, parts: Parts) -> Result<Running, StartError> {
    let (made, Working { writing, applying }) = parts.make(Threads::start)?;
    let Made { shard, turning, stop, upkeep, signals, store, log } = made;
    let upkeep_runtime = runtime()?;
    let keeping =
        spawn_beside("semel-upkeep", &signals.clone(), move || upkeep_runtime.block_on(upkeep.run(signals)))?;
    let runtime = runtime()?;
    let (end, ended) = oneshot::channel();
    let engine = spawn("semel-shard", move || {
        let result = runtime.block_on(turning.run());
        let result = result.and_then(|()| finish(writing, applying, keeping, &store, log));
        drop(lock);
        let _ = end.send(result);
    })?;
    Ok(Running { shard, stop: Some(stop), ended, engine })
}

fn open_trace(path: Option<&Path>) -> Result<Option<Trace>, StartError> {
    let opened = path.map(|path| {
        let what = || format!("the trace {}", path.display());
        trace::file(path).map(Trace::new).map_err(|source| StartError::Io { what: what(), source })
    });
    opened.transpose()
}

/// What must happen to whom, and when, as the rows have it. Transactions under producer ids below `ids_from`, from before a
/// restore, are due at once.
pub(super) fn timers(view: &ReadView, ids_from: ProducerId) -> Result<Vec<(Timer, ServedTime)>, StartError> {
    let forgotten = mutated(Mutant::TimersForgotten);
    let mut timers = Vec::new();
    for deadline in view.deadlines().filter(|_| !forgotten) {
        let (timer, mut deadline) = deadline?;
        // Without a restore no row needs to be read for that.
        if ids_from > ProducerId(0)
            && let Timer::Transaction(id) = &timer
            && view.get::<TransactionRow>(id)?.is_some_and(|row| is_abandoned(&row, ids_from))
        {
            deadline = ServedTime::default();
        }
        timers.push((timer, deadline));
    }
    // Sessions are volatile: each group that has members gives them new ones, as soon as it is looked at.
    for group in view.live_groups() {
        timers.push((Timer::Group(group?), ServedTime::default()));
    }
    Ok(timers)
}

/// Whether a restore has left a transaction without anybody who could end it. A prepared one waits for who decides it.
fn is_abandoned(row: &TransactionRow, ids_from: ProducerId) -> bool {
    matches!(row.state, TransactionState::Ongoing(_)) && row.holder.id < ids_from
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| StartError::Io { what: "a runtime".into(), source })
}

impl Space {
    /// What the broker does by itself.
    fn duties(
        self,
        start: GroundStart,
        limits: &ShardLimits,
        (backups, view): (Backups, Arc<ArcSwap<ReadView>>),
    ) -> Result<Vec<Box<dyn Duty>>, StartError> {
        // What a crash left half made goes.
        self.snapshots.retain(self.snapshot.as_ref())?;
        let files = start.segments.list()?;
        let ground = Ground::new(start, &files, self.snapshot)?;
        let watch = WatchSpace::new(ground.clone(), self.disk, self.dir);
        watch.look();
        Ok(vec![
            Box::new(watch),
            Box::new(SurveySpace::new(ground.clone())),
            Box::new(SweepRows::default()),
            Box::new(ExpireIdle::transactional_ids(limits.transactional_id_expiration)),
            Box::new(ExpireIdle::producers(limits.producer_id_expiration)),
            Box::new(ForgetKeys::default()),
            Box::new(Retention::every(limits.retention_check, ground.clock().clone())),
            Box::new(ExpireOffsets::new(limits.offsets_retention)),
            Box::new(TrimIndex::new(ground.clone())),
            Box::new(FreeSegments::new(ground.clone())),
            Box::new(TakeSnapshots::new(ground.clone())),
            Box::new(MoveLive::new(ground.clone())),
            Box::new(Compact::new(ground.clone())),
            Box::new(TakeBackups::new(ground, backups, view)),
        ])
    }
}

/// What is decided before anything else: these commands are the first in the queue, and their rows are at hand.
struct Beginning {
    /// A restore that has just been made, and a new cluster's identity.
    commands: Vec<Command>,
    /// Producer ids below it are from before a restore.
    ids_from: ProducerId,
}

impl Beginning {
    fn ask(self, shard: &Shard) {
        for command in self.commands {
            shard.ask_first(&Origin::new(ConnectionId(0)), command);
        }
    }

    fn of(view: &ReadView, restored: Option<&Restored>) -> Result<Beginning, StartError> {
        let noted = view.get::<RestoredRow>(&())?;
        let mut ids_from = noted.as_ref().map_or(ProducerId(0), |noted| noted.ids_from);
        let mut commands = Vec::new();
        // If it is another restore than the last one noted, this is the first start after it.
        if let Some(Restored { id, backup, .. }) = restored
            && noted.is_none_or(|noted| noted.restore != *id)
        {
            tracing::warn!(backup, restore = %id, "the log was restored from a backup: whoever was served after it is fenced");
            commands.push(Command::RestoreLog { restore: *id });
            ids_from = ProducerId(i64::MAX);
        }
        if view.get::<ClusterRow>(&())?.is_none() {
            commands.push(Command::FormCluster { id: outside::uuid() });
        }
        Ok(Beginning { commands, ids_from })
    }
}

/// Everything has been handed to the threads; the engine, and with it their queues, is gone. Waits for them, and leaves
/// the mark of a clean stop.
fn finish(
    writing: JoinHandle<()>,
    applying: JoinHandle<()>,
    keeping: JoinHandle<()>,
    store: &Database,
    log: LogEnd,
) -> Result<(), StopReason> {
    keeping.join().map_err(|_| StopReason::Panic)?;
    writing.join().map_err(|_| StopReason::Panic)?;
    applying.join().map_err(|_| StopReason::Panic)?;
    store.persist()?;
    if let Some(writer) = log.into_writer() {
        writer.stop()?;
    }
    Ok(())
}

/// The loop.
pub(super) struct Loop<P> {
    engine: Engine<P>,
    clock: Clock,
    asks: mpsc::Receiver<Ask>,
    signals: mpsc::UnboundedReceiver<Signal>,
    stopped: oneshot::Receiver<()>,
    limits: ShardLimits,
    metrics: Arc<ShardMetrics>,
}

/// Commands decided in one turn before signals are looked at again, so that a flood of commands does not keep a durable
/// block's replies waiting.
const COMMANDS_PER_TURN: usize = 256;

impl<P: Ports> Loop<P> {
    pub(super) async fn run(mut self) -> Result<(), StopReason> {
        loop {
            let deadline = self.engine.next_deadline().map(|at| self.clock.until(at));
            let takes = self.engine.takes_commands();
            tokio::select! {
                biased;
                Some(signal) = self.signals.recv() => self.signal(signal)?,
                Some(ask) = self.asks.recv(), if takes => self.engine.ask(ask),
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() && takes => self.engine.expire(),
                _ = &mut self.stopped => break,
            }
            self.turn()?;
        }
        self.asks.close();
        self.engine.hurry();
        let in_time = tokio::time::timeout(self.limits.stop, async {
            loop {
                while self.engine.takes_commands()
                    && let Ok(ask) = self.asks.try_recv()
                {
                    self.engine.ask(ask);
                }
                self.engine.flush();
                if self.engine.is_quiet() && self.asks.is_empty() {
                    return Ok(());
                }
                if let Some(signal) = self.signals.recv().await {
                    self.signal(signal)?;
                }
            }
        });
        in_time.await.unwrap_or(Err(StopReason::Deadline))
    }

    /// Takes everything that is at hand, so that it goes into one block.
    fn turn(&mut self) -> Result<(), StopReason> {
        for _ in 0..COMMANDS_PER_TURN {
            if let Ok(signal) = self.signals.try_recv() {
                self.signal(signal)?;
            } else if self.engine.takes_commands()
                && let Ok(ask) = self.asks.try_recv()
            {
                self.engine.ask(ask);
            } else {
                break;
            }
        }
        self.engine.flush();
        self.metrics.mark(self.engine.marks());
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<(), StopReason> {
        match signal {
            Signal::Written => self.engine.written(),
            Signal::Applied(block, base) => self.engine.applied(block, &base),
            Signal::Rebased(base) => self.engine.rebased(&base),
            Signal::Loaded(rows) => self.engine.loaded(rows),
            Signal::Failed(reason) => return Err(reason),
        }
        Ok(())
    }
}
