//! What a shard counts: decisions by what they state, the three marks, blocks, and the space of the log.

mod groups;

use super::table::Table;
use crate::core::{
    Appended, Drafted, EndReason, Event, NotAppended, Outcome, ProducerRow, RebalanceRow, Refusal, Reply,
    Row, RowKey, RowValue, SessionsRow, TransactionRow,
};
use crate::metrics::{COUNTS, Counter, Exposition, Family, Gauge, Histogram, SIZES, TIMES, Unit};
use crate::types::{BlockNumber, Sequence};
use groups::GroupMetrics;
pub use groups::Rebalancer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where a shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The last block that is in the store.
    pub applied: BlockNumber,
    /// The last block that is durable.
    pub durable: BlockNumber,
    /// The last block that has been begun.
    pub decided: BlockNumber,
    /// Row changes that are not in the store yet.
    pub backlog_rows: usize,
    /// Rows in memory for decisions.
    pub resident_rows: usize,
}

/// What a shard counts. Shared by its threads.
#[derive(Debug)]
pub struct ShardMetrics {
    pub(super) log: LogMetrics,
    pub(super) rows: RowMetrics,
    pub(super) space: SpaceMetrics,
    marks: MarkMetrics,
    produce: ProduceMetrics,
    transactions: TransactionMetrics,
    groups: GroupMetrics,
}

/// Blocks on their way to the disk.
#[derive(Debug)]
pub(super) struct LogMetrics {
    pub(super) writing: Writing,
    pub(super) write: Histogram,
    pub(super) block: Histogram,
    pub(super) commands: Histogram,
    pub(super) moved: Counter,
    pub(super) compacted: Counter,
    pub(super) snapshots: Counter,
}

/// The block that is being written, if one is.
#[derive(Debug)]
pub(super) struct Writing {
    origin: Instant,
    /// Nanoseconds from `origin` on; 0 while none is.
    begun: AtomicU64,
}

impl Writing {
    pub(super) fn begin(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        self.begun.store(u64::try_from(nanos).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }
}

/// Rows on their way into the store and out of it.
#[derive(Debug)]
pub(super) struct RowMetrics {
    pub(super) apply: Histogram,
    pub(super) applied: Counter,
    pub(super) checkpoint: Histogram,
    pub(super) since_checkpoint_bytes: Gauge,
    pub(super) since_checkpoint_rows: Gauge,
    pub(super) loaded: Counter,
    /// The store's own.
    read: Arc<Counter>,
}

#[derive(Debug, Default)]
struct MarkMetrics {
    applied: Gauge,
    durable: Gauge,
    decided: Gauge,
    backlog_rows: Gauge,
    resident_rows: Gauge,
}

#[derive(Debug, Default)]
struct ProduceMetrics {
    batches: [Counter; 8],
    records: Counter,
    bytes: Counter,
    unknown_starts: Counter,
}

#[derive(Debug, Default)]
struct TransactionMetrics {
    begun: Counter,
    prepared: Counter,
    /// By outcome, then by reason.
    ended: [[Counter; REASONS.len()]; 2],
}

/// The log's files, the store and the disk, as of the last look.
#[derive(Debug, Default)]
pub struct SpaceMetrics {
    /// Files of the log that are written to their end.
    pub segments: Gauge,
    /// Those of them that hold what was moved.
    pub moved_files: Gauge,
    /// Bytes of those files.
    pub bytes: Gauge,
    /// Bytes in them that the index points to.
    pub live_bytes: Gauge,
    /// Live bytes that are to be moved, so that the files around them can be freed.
    pub to_move_bytes: Gauge,
    /// The last snapshot's bytes.
    pub snapshot_bytes: Gauge,
    /// Served time since the rows in the last snapshot were such, in milliseconds.
    pub snapshot_age_ms: Gauge,
    /// Blocks since then.
    pub snapshot_blocks: Gauge,
    /// Free bytes of the disk.
    pub free_bytes: Gauge,
    /// Bytes of it that are kept free.
    pub reserve_bytes: Gauge,
    /// 1 while there is less.
    pub short: Gauge,
    /// Bytes of the store's tables on disk.
    pub store_bytes: Gauge,
    /// Bytes of its journal.
    pub store_journal_bytes: Gauge,
    /// Bytes of rows in its memory.
    pub store_memory_bytes: Gauge,
    /// Bytes of its cache in use.
    pub store_cache_bytes: Gauge,
    /// Tables of its newest level, which every read looks into.
    pub store_tables_l0: Gauge,
    /// What it has in memory and is to write out.
    pub store_flushes_waiting: Gauge,
}

impl Default for ShardMetrics {
    fn default() -> ShardMetrics {
        ShardMetrics {
            log: LogMetrics {
                writing: Writing { origin: Instant::now(), begun: AtomicU64::new(0) },
                write: Histogram::new(&TIMES),
                block: Histogram::new(&SIZES),
                commands: Histogram::new(&COUNTS),
                moved: Counter::default(),
                compacted: Counter::default(),
                snapshots: Counter::default(),
            },
            rows: RowMetrics {
                apply: Histogram::new(&TIMES),
                applied: Counter::default(),
                checkpoint: Histogram::new(&TIMES),
                since_checkpoint_bytes: Gauge::default(),
                since_checkpoint_rows: Gauge::default(),
                loaded: Counter::default(),
                read: Arc::default(),
            },
            space: SpaceMetrics::default(),
            marks: MarkMetrics::default(),
            produce: ProduceMetrics::default(),
            transactions: TransactionMetrics::default(),
            groups: GroupMetrics::default(),
        }
    }
}

/// What has become of a batch, in the order of `ProduceMetrics::batches`.
const RESULTS: [&str; 8] = [
    "appended",
    "duplicate",
    "out_of_order",
    "duplicate_sequence",
    "fenced",
    "key_accepted",
    "key_held",
    "refused",
];

fn result_of(answer: &Result<Appended, NotAppended>) -> usize {
    match answer.as_ref().map_err(|not| not.refusal) {
        Ok(Appended { duplicate: false, .. }) => 0,
        Ok(Appended { duplicate: true, .. }) => 1,
        Err(Refusal::OutOfOrderSequence) => 2,
        Err(Refusal::DuplicateSequence) => 3,
        Err(Refusal::StaleEpoch | Refusal::Fenced) => 4,
        Err(Refusal::KeyAccepted) => 5,
        Err(Refusal::KeyHeld | Refusal::KeyHeldFromTransaction) => 6,
        Err(_) => 7,
    }
}

const OUTCOMES: [&str; 2] = ["committed", "aborted"];
/// Why transactions end, in the order of `TransactionMetrics::ended`.
const REASONS: [&str; 6] = ["requested", "expired", "fenced", "operator", "lso_budget", "restored"];

fn outcome_of(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Commit => 0,
        Outcome::Abort => 1,
    }
}

fn reason_of(reason: EndReason) -> usize {
    match reason {
        EndReason::Requested => 0,
        EndReason::Expired => 1,
        EndReason::Fenced => 2,
        EndReason::Operator => 3,
        EndReason::Budget => 4,
        EndReason::Restored => 5,
    }
}

/// Counts one in a row of counters that a name goes with each of.
fn count<const N: usize>(counters: &[Counter; N], place: usize) {
    if let Some(counter) = counters.get(place) {
        counter.one();
    }
}

impl ShardMetrics {
    /// Of a shard whose store counts what is read from it.
    pub(super) fn with_reads(reads: Arc<Counter>) -> ShardMetrics {
        let mut metrics = ShardMetrics::default();
        metrics.rows.read = reads;
        metrics
    }

    /// Rows read from the store, for whatever reason, since the start began.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.rows.read.get()
    }

    /// Where the shard stands now.
    pub(super) fn mark(&self, marks: Marks) {
        self.marks.applied.set(marks.applied.0);
        self.marks.durable.set(marks.durable.0);
        self.marks.decided.set(marks.decided.0);
        self.marks.backlog_rows.set(marks.backlog_rows as u64);
        self.marks.resident_rows.set(marks.resident_rows as u64);
    }

    /// Counts a decision. `table` has the rows as they were before it.
    pub(super) fn decided(&self, reply: Option<&Reply>, drafted: &Drafted, table: &Table) {
        if let Some(Reply::Produced(answers) | Reply::ProducedAndCommitted(answers, _)) = reply {
            answers.iter().for_each(|answer| count(&self.produce.batches, result_of(answer)));
        }
        drafted.events.iter().for_each(|event| self.stated(event));
        for (key, after) in &drafted.changes {
            self.changed(key, table, after.as_ref());
        }
        drafted.rebalances.iter().for_each(|(group, cause)| self.groups.rebalanced(group, *cause));
    }

    fn stated(&self, event: &Event) {
        match event {
            Event::BatchAppended(batch) => {
                self.produce.records.add(batch.records.into());
                self.produce.bytes.add(batch.bytes.into());
            }
            Event::TransactionPrepared { .. } => self.transactions.prepared.one(),
            Event::TransactionEnded { outcome, reason, .. } => {
                let [committed, aborted] = &self.transactions.ended;
                let ended = if outcome_of(*outcome) == 0 { committed } else { aborted };
                count(ended, reason_of(*reason));
            }
            Event::GenerationFormed { .. } => self.groups.generations.one(),
            Event::GroupDeleted { group } => self.groups.forget(group),
            _ => {}
        }
    }

    fn changed(&self, key: &RowKey, table: &Table, after: Option<&RowValue>) {
        match key {
            RowKey::Producer(_) => {
                let first = after.and_then(ProducerRow::of).and_then(|row| row.batches.first());
                let goes_on = first.is_some_and(|batch| batch.sequences.first != Sequence::FIRST);
                if goes_on && table.row(key).is_none() {
                    self.produce.unknown_starts.one();
                }
            }
            RowKey::Transaction(_) => {
                let number =
                    |row: Option<&RowValue>| row.and_then(TransactionRow::of).map_or(0, |row| row.number.0);
                self.transactions.begun.add(number(after).saturating_sub(number(table.row(key))));
            }
            RowKey::Sessions(()) => {
                self.groups.sessions.set(after.and_then(SessionsRow::of).map_or(0, |row| row.sessions));
            }
            RowKey::Rebalance(_) => {
                let forms = |row: Option<&RowValue>| {
                    row.and_then(RebalanceRow::of).is_some_and(|row| row.joining.is_some())
                };
                match (forms(table.row(key)), forms(after)) {
                    (false, true) => self.groups.rebalancing.change(1),
                    (true, false) => self.groups.rebalancing.change(-1),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The log's files, the store and the disk, as of the last look.
    #[must_use]
    pub fn space(&self) -> &SpaceMetrics {
        &self.space
    }

    /// Blocks applied, durable and decided.
    #[must_use]
    pub fn blocks(&self) -> [u64; 3] {
        // In this order, so that none is seen ahead of the one it follows.
        [self.marks.applied.get(), self.marks.durable.get(), self.marks.decided.get()]
    }

    /// For how long a block is being written, if one is.
    #[must_use]
    pub fn writing_for(&self) -> Option<Duration> {
        let begun = self.log.writing.begun.load(Ordering::Relaxed);
        (begun != 0).then(|| self.log.writing.origin.elapsed().saturating_sub(Duration::from_nanos(begun)))
    }

    /// A time that this share of all blocks took at most to become durable; none if none has, or it is above all bounds.
    #[must_use]
    pub fn write_quantile(&self, share: f64) -> Option<f64> {
        self.log.write.quantile(share)
    }

    /// Row changes that are not in the store yet.
    #[must_use]
    pub fn backlog_rows(&self) -> u64 {
        self.marks.backlog_rows.get()
    }

    /// Groups that form a generation now.
    #[must_use]
    pub fn groups_rebalancing(&self) -> u64 {
        self.groups.rebalancing.get()
    }

    /// The groups that rebalanced last, the last one first.
    #[must_use]
    pub fn rebalancers(&self) -> Vec<Rebalancer> {
        self.groups.rebalancers()
    }

    /// Writes them all.
    pub fn write(&self, out: &mut Exposition) {
        self.write_marks(out);
        self.write_log(out);
        self.write_rows(out);
        self.write_produce(out);
        self.write_transactions(out);
        self.groups.write(out);
        self.space.write(out);
    }

    fn write_marks(&self, out: &mut Exposition) {
        static APPLIED: Family = Family::gauge(
            "semel_block_applied",
            Unit::None,
            "The last block of the log that is in the row store.",
        );
        static DURABLE: Family =
            Family::gauge("semel_block_durable", Unit::None, "The last block of the log that is durable.");
        static DECIDED: Family = Family::gauge(
            "semel_block_decided",
            Unit::None,
            "The last block of the log that has been begun.",
        );
        static BACKLOG: Family = Family::gauge(
            "semel_backlog_rows",
            Unit::None,
            "Row changes that are decided and not in the row store yet; nothing is decided while there are too many.",
        );
        static RESIDENT: Family =
            Family::gauge("semel_resident_rows", Unit::None, "Rows that are held in memory for decisions.");
        out.gauge(&APPLIED, &self.marks.applied);
        out.gauge(&DURABLE, &self.marks.durable);
        out.gauge(&DECIDED, &self.marks.decided);
        out.gauge(&BACKLOG, &self.marks.backlog_rows);
        out.gauge(&RESIDENT, &self.marks.resident_rows);
    }

    fn write_log(&self, out: &mut Exposition) {
        static WRITE: Family = Family::histogram(
            "semel_log_write_seconds",
            Unit::Seconds,
            "Time to make one block durable: one write and its sync.",
        );
        static BLOCK: Family = Family::histogram(
            "semel_log_block_bytes",
            Unit::Bytes,
            "Bytes of a block, as written, with its padding.",
        );
        static COMMANDS: Family = Family::histogram(
            "semel_log_block_commands",
            Unit::None,
            "Commands that were decided into one block.",
        );
        static WRITTEN: Family = Family::counter(
            "semel_log_written_bytes",
            Unit::Bytes,
            "Bytes written to the log's files: blocks, what was moved out of segments, what compaction has left of batches, and snapshots of the rows.",
        ).by(&["for"]);
        out.histogram(&WRITE, &self.log.write);
        out.histogram(&BLOCK, &self.log.block);
        out.histogram(&COMMANDS, &self.log.commands);
        let mut samples = out.family(&WRITTEN);
        samples.number(&[("for", "blocks")], self.log.block.sum());
        samples.value(&[("for", "compaction")], self.log.compacted.get());
        samples.value(&[("for", "moves")], self.log.moved.get());
        samples.value(&[("for", "snapshots")], self.log.snapshots.get());
    }

    fn write_rows(&self, out: &mut Exposition) {
        static APPLY: Family = Family::histogram(
            "semel_store_apply_seconds",
            Unit::Seconds,
            "Time to put the row changes of some blocks into the row store.",
        );
        static APPLIED: Family =
            Family::counter("semel_store_applied_rows", Unit::None, "Row changes put into the row store.");
        static CHECKPOINT: Family = Family::histogram(
            "semel_store_checkpoint_seconds",
            Unit::Seconds,
            "Time to make the row store durable: a checkpoint.",
        );
        static BYTES: Family = Family::gauge(
            "semel_checkpoint_distance_bytes",
            Unit::Bytes,
            "Bytes of log since the last checkpoint: about what a restart reads again.",
        );
        static ROWS: Family = Family::gauge(
            "semel_checkpoint_distance_rows",
            Unit::None,
            "Row changes since the last checkpoint.",
        );
        static LOADED: Family = Family::counter(
            "semel_store_loaded_rows",
            Unit::None,
            "Rows read from the row store because a decision needed them and they were not in memory.",
        );
        static READ: Family = Family::counter(
            "semel_store_read_rows",
            Unit::None,
            "Rows read from the row store, for whatever reason, since the start began.",
        );
        out.histogram(&APPLY, &self.rows.apply);
        out.counter(&APPLIED, &self.rows.applied);
        out.histogram(&CHECKPOINT, &self.rows.checkpoint);
        out.gauge(&BYTES, &self.rows.since_checkpoint_bytes);
        out.gauge(&ROWS, &self.rows.since_checkpoint_rows);
        out.counter(&LOADED, &self.rows.loaded);
        out.counter(&READ, &self.rows.read);
    }

    fn write_produce(&self, out: &mut Exposition) {
        static BATCHES: Family = Family::counter(
            "semel_produce_batches",
            Unit::None,
            "Record batches that producers sent, by what became of them.",
        )
        .by(&["result"]);
        static RECORDS: Family =
            Family::counter("semel_appended_records", Unit::None, "Records appended to partitions.");
        static BYTES: Family = Family::counter(
            "semel_appended_bytes",
            Unit::Bytes,
            "Bytes of record batches appended to partitions.",
        );
        static UNKNOWN: Family = Family::counter(
            "semel_produce_unknown_producer_starts",
            Unit::None,
            "Producers that a partition did not know and that went on at a sequence other than 0 (KIP-360): what they wrote before would not be recognised.",
        );
        let mut samples = out.family(&BATCHES);
        for (result, counter) in RESULTS.iter().zip(&self.produce.batches) {
            samples.value(&[("result", result)], counter.get());
        }
        out.counter(&RECORDS, &self.produce.records);
        out.counter(&BYTES, &self.produce.bytes);
        out.counter(&UNKNOWN, &self.produce.unknown_starts);
    }

    fn write_transactions(&self, out: &mut Exposition) {
        static BEGUN: Family = Family::counter("semel_transactions_begun", Unit::None, "Transactions begun.");
        static PREPARED: Family = Family::counter(
            "semel_transactions_prepared",
            Unit::None,
            "Transactions prepared for two-phase commit.",
        );
        static ENDED: Family = Family::counter(
            "semel_transactions_ended",
            Unit::None,
            "Transactions ended, by outcome and reason.",
        )
        .by(&["outcome", "reason"]);
        out.counter(&BEGUN, &self.transactions.begun);
        out.counter(&PREPARED, &self.transactions.prepared);
        let mut samples = out.family(&ENDED);
        for (outcome, reasons) in OUTCOMES.iter().zip(&self.transactions.ended) {
            for (reason, counter) in REASONS.iter().zip(reasons) {
                samples.value(&[("outcome", outcome), ("reason", reason)], counter.get());
            }
        }
    }
}

impl SpaceMetrics {
    fn write(&self, out: &mut Exposition) {
        static SEGMENTS: Family = Family::gauge(
            "semel_log_segments",
            Unit::None,
            "Files of the log that are written to their end, by what is in them.",
        )
        .by(&["holds"]);
        static BYTES: Family = Family::gauge(
            "semel_log_bytes",
            Unit::Bytes,
            "Bytes of those files, by whether the index points to them.",
        )
        .by(&["state"]);
        static TO_MOVE: Family = Family::gauge(
            "semel_log_to_move_bytes",
            Unit::Bytes,
            "Live bytes in mostly dead segments, which are to be moved so that these can be freed.",
        );
        let moved = self.moved_files.get();
        let mut samples = out.family(&SEGMENTS);
        samples.value(&[("holds", "blocks")], self.segments.get().saturating_sub(moved));
        samples.value(&[("holds", "moved")], moved);
        let live = self.live_bytes.get();
        let mut samples = out.family(&BYTES);
        samples.value(&[("state", "live")], live);
        samples.value(&[("state", "dead")], self.bytes.get().saturating_sub(live));
        out.gauge(&TO_MOVE, &self.to_move_bytes);
        self.write_snapshot(out);
        self.write_disk(out);
        self.write_store(out);
    }

    fn write_snapshot(&self, out: &mut Exposition) {
        static BYTES: Family = Family::gauge(
            "semel_snapshot_bytes",
            Unit::Bytes,
            "Bytes of the last snapshot of the rows; 0 if there is none.",
        );
        static AGE: Family = Family::gauge(
            "semel_snapshot_age_seconds",
            Unit::Seconds,
            "Served time since the rows were as in the last snapshot.",
        );
        static BLOCKS: Family = Family::gauge(
            "semel_snapshot_distance_blocks",
            Unit::None,
            "Blocks of the log since the last snapshot of the rows.",
        );
        out.gauge(&BYTES, &self.snapshot_bytes);
        #[expect(clippy::cast_precision_loss, reason = "an age is told as a floating-point number")]
        out.family(&AGE).number(&[], self.snapshot_age_ms.get() as f64 / 1000.0);
        out.gauge(&BLOCKS, &self.snapshot_blocks);
    }

    fn write_disk(&self, out: &mut Exposition) {
        static FREE: Family = Family::gauge(
            "semel_disk_free_bytes",
            Unit::Bytes,
            "Free bytes of the data directory's file system.",
        );
        static RESERVE: Family = Family::gauge(
            "semel_disk_reserve_bytes",
            Unit::Bytes,
            "Bytes of it that are kept free: below, nothing is produced and no topic created (setting reserve-bytes).",
        );
        static SHORT: Family = Family::gauge(
            "semel_disk_short",
            Unit::None,
            "1 while the reserve is reached and producing is refused, else 0.",
        );
        out.gauge(&FREE, &self.free_bytes);
        out.gauge(&RESERVE, &self.reserve_bytes);
        out.gauge(&SHORT, &self.short);
    }

    fn write_store(&self, out: &mut Exposition) {
        static BYTES: Family =
            Family::gauge("semel_store_bytes", Unit::Bytes, "Bytes of the row store, by where they are.")
                .by(&["in"]);
        static TABLES: Family = Family::gauge(
            "semel_store_tables_l0",
            Unit::None,
            "Tables of the row store that are not compacted yet: every read looks into all of them.",
        );
        static FLUSHES: Family = Family::gauge(
            "semel_store_flushes_waiting",
            Unit::None,
            "Memtables of the row store that wait to be written out.",
        );
        let mut samples = out.family(&BYTES);
        for (place, gauge) in [
            ("tables", &self.store_bytes),
            ("journal", &self.store_journal_bytes),
            ("memtables", &self.store_memory_bytes),
            ("cache", &self.store_cache_bytes),
        ] {
            samples.value(&[("in", place)], gauge.get());
        }
        out.gauge(&TABLES, &self.store_tables_l0);
        out.gauge(&FLUSHES, &self.store_flushes_waiting);
    }
}
