//! Random histories of a compacted partition on a real log and store, one thread: what readers get is held against a log
//! of which nothing was taken away, through compaction, moving and freeing of segments, crashes, and rows made anew.

use super::workload::scratch;
use crate::core::tests::findings::{Broken, Findings};
use crate::core::*;
use crate::log::{Disk, PlacedBlock, Preparation, Reader, RealDisk, Writer};
use crate::shard::applier::Signal;
use crate::shard::backup::check_rows;
use crate::shard::engine::{Begin, Engine, Ports, Written};
use crate::shard::handle::{Ask, Origin};
use crate::shard::limits::{CompactionLimits, ShardLimits, SpaceLimits};
use crate::shard::start::{Recovered, log_options, recover_all, timers};
use crate::shard::trace::Trace;
use crate::shard::upkeep::{
    Compact, Duty, FreeSegments, Ground, GroundStart, MoveLive, Pressure, TakeSnapshots, TrimIndex,
};
use crate::shard::watch::Changed;
use crate::store::{AbortedOutlook, Applied, Database, Layer, ReadView, Snapshots};
use crate::types::*;
use crate::wire::batch::{
    Batch, BatchBuilder, BatchLimits, BatchProducer as WireProducer, Compression, ProducerBatch, Record,
};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

const KEPT: PartitionId = PartitionId { topic: TopicId(Uuid::from_u128(1)), index: PartitionIndex(0) };
const NOISE: PartitionId = PartitionId { topic: TopicId(Uuid::from_u128(2)), index: PartitionIndex(0) };
const IDS: [&str; 2] = ["x", "y"];
const RETENTION: Duration = Duration::from_secs(60);
const CLIENT: ConnectionId = ConnectionId(1);

/// A record to be: key, and value or tombstone.
type Draft = (u8, Option<u8>);

#[derive(Clone, Debug)]
enum Step {
    /// By a transactional producer, or by nobody in particular.
    Produce {
        who: Option<usize>,
        records: Vec<Draft>,
        compression: Compression,
    },
    End {
        who: usize,
        commit: bool,
    },
    /// Something that fills segments, and is deleted soon.
    Noise,
    DeleteNoise,
    /// So many of a hundred of the offsets there are.
    Delete {
        percent: i64,
    },
    Pass {
        seconds: u64,
    },
    Apply,
    Duty {
        which: usize,
        turns: usize,
    },
    /// The process dies; its rows may be lost.
    Crash {
        rows: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let record = || (0_u8..6, proptest::option::weighted(0.7, any::<u8>()));
    let codec =
        prop_oneof![3 => Just(Compression::None), 1 => Just(Compression::Lz4), 1 => Just(Compression::Zstd)];
    prop_oneof![
        14 => (prop_oneof![1 => Just(None), 1 => (0..IDS.len()).prop_map(Some)],
            proptest::collection::vec(record(), 1..4), codec)
            .prop_map(|(who, records, compression)| Step::Produce { who, records, compression }),
        6 => (0..IDS.len(), any::<bool>()).prop_map(|(who, commit)| Step::End { who, commit }),
        6 => Just(Step::Noise),
        2 => Just(Step::DeleteNoise),
        1 => (0_i64..60).prop_map(|percent| Step::Delete { percent }),
        4 => (1_u64..50).prop_map(|seconds| Step::Pass { seconds }),
        8 => Just(Step::Apply),
        10 => (1_usize..9).prop_map(|turns| Step::Duty { which: 0, turns }),
        8 => (1_usize..5, 1_usize..5).prop_map(|(which, turns)| Step::Duty { which, turns }),
        2 => any::<bool>().prop_map(|rows| Step::Crash { rows }),
    ]
}

/// What the engine wants done, and has shown.
#[derive(Default)]
struct Outside {
    now: Now,
    layers: VecDeque<(Arc<Layer>, Applied)>,
    wanted: VecDeque<Vec<RowKey>>,
    shown: Option<Arc<ReadView>>,
}

/// Blocks are written at once; everything else waits.
struct Here {
    outside: Rc<RefCell<Outside>>,
    writer: Rc<RefCell<Writer>>,
    reader: Arc<Reader>,
}

impl Ports for Here {
    fn now(&self) -> Now {
        self.outside.borrow().now
    }
    fn buffer(&self) -> Vec<u8> {
        Vec::new()
    }
    fn trace(&mut self) -> Option<&mut Trace> {
        None
    }
    fn write(&mut self, block: PlacedBlock, _commands: usize) -> Written {
        self.writer.borrow_mut().write(&block).unwrap();
        self.reader.remember(&block);
        Written::Now
    }
    fn apply(&mut self, layer: Arc<Layer>, applied: Applied, _log_bytes: u32) {
        self.outside.borrow_mut().layers.push_back((layer, applied));
    }
    fn load(&mut self, rows: Vec<RowKey>) {
        self.outside.borrow_mut().wanted.push_back(rows);
    }
    fn publish(&mut self, view: Arc<ReadView>, _changed: &[Changed]) {
        self.outside.borrow_mut().shown = Some(view);
    }
}

/// A broker's shard that runs.
struct Open {
    engine: Engine<Here>,
    outside: Rc<RefCell<Outside>>,
    store: Database,
    reader: Arc<Reader>,
    duties: Vec<Box<dyn Duty>>,
    signals: mpsc::UnboundedReceiver<Signal>,
}

fn limits() -> ShardLimits {
    let compaction = CompactionLimits {
        check: Duration::ZERO,
        // Five keys: a pass mostly ends before all is noted.
        map_bytes: 7 * 24,
        turn_bytes: 600,
        turn_entries: 12,
        share_percent: 50,
    };
    let space = SpaceLimits {
        rest: Duration::ZERO,
        move_rest: Duration::ZERO,
        snapshot_log_bytes: 32 << 10,
        snapshot_share: 0,
        trim_entries: 10,
        reserve_bytes: 0,
        compaction,
        ..SpaceLimits::default()
    };
    ShardLimits { segment_bytes: 32 << 10, block_bytes: 8 << 10, space, ..ShardLimits::default() }
}

impl Open {
    fn start(dir: &TempDir, now: Now) -> Result<Open, crate::shard::StartError> {
        let (disk, limits) = (Arc::new(RealDisk) as Arc<dyn Disk>, limits());
        let snapshots = Snapshots::open(Arc::clone(&disk), dir.path().join("snapshots"))?;
        let snapshot = snapshots.newest()?;
        let mut options = log_options(dir.path(), &limits);
        options.preparation = Preparation::Inline;
        let recovered = recover_all(dir.path(), &disk, &snapshots, snapshot.clone(), options, &limits)?;
        let Recovered { store, recovery, table, .. } = recovered;
        let log = recovery.into_log()?;
        let view = Arc::new(store.view(log.last));
        let outside =
            Rc::new(RefCell::new(Outside { now, shown: Some(Arc::clone(&view)), ..Outside::default() }));
        let (signal, signals) = mpsc::unbounded_channel();
        let start = GroundStart {
            store: store.clone(),
            segments: log.segments.clone(),
            recycler: log.writer.recycler(),
            reader: Arc::clone(&log.reader),
            snapshots,
            signals: signal,
            pressure: Pressure::default(),
            metrics: Arc::default(),
            limits: limits.space.clone(),
            segment_length: limits.segment_bytes,
        };
        let ground = Ground::new(start, &log.segments.list().unwrap(), snapshot)?;
        let duties: Vec<Box<dyn Duty>> = vec![
            Box::new(Compact::new(ground.clone())),
            Box::new(MoveLive::new(ground.clone())),
            Box::new(FreeSegments::new(ground.clone())),
            Box::new(TakeSnapshots::new(ground.clone())),
            Box::new(TrimIndex::new(ground)),
        ];
        let begin = Begin {
            identity: log.writer.identity(),
            table,
            cursor: log.cursor,
            last: log.last,
            deadlines: timers(&view, ProducerId(0))?,
            view,
        };
        let ports = Here {
            outside: Rc::clone(&outside),
            writer: Rc::new(RefCell::new(log.writer)),
            reader: Arc::clone(&log.reader),
        };
        let engine = Engine::new(ports, limits, begin);
        Ok(Open { engine, outside, store, reader: log.reader, duties, signals })
    }

    fn ask(&mut self, command: Command, batches: Vec<Bytes>) -> Reply {
        let (reply, mut answer) = oneshot::channel();
        let origin = Origin::new(CLIENT);
        let life = Arc::downgrade(&origin.life);
        self.engine.ask(Ask { connection: CLIENT, life, command, batches, reply, rounds: 0 });
        loop {
            self.engine.flush();
            match answer.try_recv() {
                Ok(reply) => return reply,
                Err(oneshot::error::TryRecvError::Empty) => self.load(),
                Err(closed) => panic!("{closed}"),
            }
        }
    }

    fn load(&mut self) {
        let Some(keys) = self.outside.borrow_mut().wanted.pop_front() else { return self.apply() };
        let rows = keys.into_iter().map(|key| {
            let row = self.store.look(&key).unwrap();
            (key, row)
        });
        let rows = rows.collect();
        self.engine.loaded(rows);
    }

    fn apply(&mut self) {
        let Some((layer, applied)) = self.outside.borrow_mut().layers.pop_front() else { return };
        self.store.apply([&layer], applied).unwrap();
        let block = applied.checkpoint.block;
        self.engine.applied(block, &self.store.view(block));
    }

    fn duty(&mut self, which: usize) {
        let (view, now) = (self.view(), self.outside.borrow().now);
        let turn = self.duties[which].turn(&view, now).unwrap();
        for command in turn.commands {
            self.ask(command, vec![]);
        }
        while let Ok(signal) = self.signals.try_recv() {
            if let Signal::Rebased(base) = signal {
                self.engine.rebased(&base);
            }
        }
    }

    fn view(&self) -> Arc<ReadView> {
        self.outside.borrow().shown.clone().unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open(usize),
    Committed,
    Aborted,
}

/// A record as it was appended.
#[derive(Clone, Debug)]
struct Written1 {
    key: u8,
    value: Option<u8>,
    timestamp: i64,
    fate: Fate,
    appended: ServedTime,
}

#[derive(Default)]
struct Producer {
    identity: Option<Identity>,
    next: i32,
}

struct World {
    dir: TempDir,
    open: Option<Open>,
    now: Now,
    written: BTreeMap<i64, Written1>,
    /// What readers of everything found last.
    seen: BTreeSet<i64>,
    producers: [Producer; 2],
    noise: i64,
    has_crashed: bool,
    findings: Findings,
}

impl World {
    fn new() -> World {
        let dir = scratch();
        std::fs::create_dir_all(dir.path().join("log")).unwrap();
        let now = Now { served: ServedTime(1_000_000), wall: Timestamp(1_000_000) };
        let open = Open::start(&dir, now).unwrap();
        let mut world = World {
            dir,
            open: Some(open),
            now,
            written: BTreeMap::new(),
            seen: BTreeSet::new(),
            producers: Default::default(),
            noise: 0,
            has_crashed: false,
            findings: Findings::default(),
        };
        world.ask(Command::FormCluster { id: Uuid::from_u128(1) }, vec![]);
        let compacted = [
            (topic_settings::CLEANUP_POLICY, "compact".to_owned()),
            (topic_settings::DELETE_RETENTION_MS, RETENTION.as_millis().to_string()),
            (topic_settings::MIN_DIRTY_RATIO, "0".to_owned()),
        ];
        let compacted = compacted.map(|(name, value)| (name.to_owned(), value)).into();
        for (partition, name, config) in [(KEPT, "kept", compacted), (NOISE, "noise", TopicConfig::new())] {
            let name = TopicName::new(name).unwrap();
            let topic = NewTopic { id: partition.topic, name, partitions: 1, config };
            world.ask(Command::CreateTopic { topic, validate_only: false }, vec![]);
        }
        world
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().unwrap()
    }

    fn ask(&mut self, command: Command, batches: Vec<Bytes>) -> Reply {
        self.open().ask(command, batches)
    }

    fn produce(
        &mut self,
        partition: PartitionId,
        who: Option<usize>,
        records: &[Draft],
        size: usize,
        compression: Compression,
    ) -> Option<i64> {
        let mut builder = BatchBuilder::new(1024);
        for (number, (key, value)) in (0..).zip(records) {
            let value = value.map(|value| Bytes::from(vec![value; size]));
            let record = Record { key: Some(vec![*key].into()), value, headers: vec![] };
            builder.append(Timestamp(self.now.wall.0 - number), &record).unwrap();
        }
        let count = u32::try_from(records.len()).unwrap();
        let producer = who.map(|who| (self.producers[who].identity.unwrap(), self.producers[who].next));
        let wire = producer.map_or(WireProducer::Anonymous, |(Identity { id, epoch }, first)| {
            let sequences = SequenceRange::starting_at(Sequence::new(first).unwrap(), count);
            WireProducer::Transactional(ProducerBatch { id, epoch, sequences })
        });
        let bytes = builder.build(compression, wire).unwrap();
        let facts = BatchFacts {
            records: count,
            bytes: u32::try_from(bytes.len()).unwrap(),
            oldest_timestamp: Timestamp(self.now.wall.0 - i64::from(count) + 1),
            max_timestamp: self.now.wall,
            keys: Vec::new(),
            producer: producer.map(|(identity, first)| BatchProducer {
                identity,
                first_sequence: Sequence::new(first).unwrap(),
                transactional: true,
            }),
        };
        let produce = Produce {
            transactional_id: who.and_then(|who| TransactionalId::new(IDS[who])),
            protocol: Protocol::V2,
            batches: vec![ProduceBatch { partition, batch: facts }],
        };
        match self.ask(Command::Produce(produce), vec![bytes]) {
            Reply::Produced(answers) => answers[0].as_ref().ok().map(|appended| appended.base_offset.0),
            other => panic!("{other:?}"),
        }
    }

    /// Makes sure that a transactional producer has an identity.
    fn identify(&mut self, who: usize) {
        if self.producers[who].identity.is_some() {
            return;
        }
        let id = TransactionalId::new(IDS[who]).unwrap();
        let init = InitProducerId {
            transactional_id: Some((id, CLIENT)),
            timeout: Duration::from_secs(3_600),
            current: None,
            two_phase: TwoPhase::Unaware,
        };
        let Reply::Identity(Ok(identity)) = self.ask(Command::InitProducerId(init), vec![]) else { panic!() };
        self.producers[who] = Producer { identity: Some(identity), next: 0 };
        // What the one before had open is aborted by that.
        self.end_all(who, Fate::Aborted);
    }

    fn end_all(&mut self, who: usize, fate: Fate) {
        for written in self.written.values_mut().filter(|written| written.fate == Fate::Open(who)) {
            written.fate = fate;
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Produce { who, records, compression } => {
                if let Some(who) = who {
                    self.identify(*who);
                }
                let Some(base) = self.produce(KEPT, *who, records, 20, *compression) else {
                    panic!("refused")
                };
                for ((offset, number), (key, value)) in (base..).zip(0..).zip(records) {
                    let timestamp = self.now.wall.0 - number;
                    let fate = who.map_or(Fate::Committed, Fate::Open);
                    let appended = self.now.served;
                    let written = Written1 { key: *key, value: *value, timestamp, fate, appended };
                    self.written.insert(offset, written);
                }
                if let Some(who) = who {
                    self.producers[*who].next += i32::try_from(records.len()).unwrap();
                }
            }
            Step::End { who, commit } => self.end(*who, *commit),
            Step::Noise => {
                self.noise =
                    self.produce(NOISE, None, &[(0, Some(0))], 5_000, Compression::None).unwrap() + 1;
            }
            Step::DeleteNoise => self.delete(NOISE, self.noise),
            Step::Delete { percent } => {
                let next = self.partition().next_offset.0;
                self.delete(KEPT, next * percent / 100);
            }
            Step::Pass { seconds } => {
                self.now.served = self.now.served.plus(Duration::from_secs(*seconds));
                self.now.wall.0 += i64::try_from(*seconds * 1_000).unwrap();
                self.open().outside.borrow_mut().now = self.now;
            }
            Step::Apply => self.open().apply(),
            Step::Duty { which, turns } => (0..*turns).for_each(|_| self.open().duty(*which)),
            Step::Crash { rows } => self.crash(*rows),
        }
        if self.open.is_some() {
            self.look();
        }
    }

    fn end(&mut self, who: usize, commit: bool) {
        let Some(identity) = self.producers[who].identity else { return };
        let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
        let producer = TransactionalProducer {
            transactional_id: TransactionalId::new(IDS[who]).unwrap(),
            identity,
            connection: CLIENT,
        };
        let end = EndTxn { producer, outcome, protocol: Protocol::V2 };
        // Nothing may be open, which is an error for some.
        if let Reply::Identity(Ok(identity)) = self.ask(Command::EndTxn(end), vec![]) {
            self.producers[who] = Producer { identity: Some(identity), next: 0 };
            self.end_all(who, if commit { Fate::Committed } else { Fate::Aborted });
        }
    }

    fn delete(&mut self, partition: PartitionId, to: i64) {
        let view = self.open().view();
        let cut = view.cut_at(partition, Offset(to)).unwrap();
        if let Some(to) = cut {
            self.ask(Command::DeleteRecords { partition, to }, vec![]);
        }
    }

    fn partition(&mut self) -> PartitionRow {
        self.open().view().get::<PartitionRow>(&KEPT).unwrap().unwrap()
    }

    fn crash(&mut self, rows: bool) {
        // A store in which nothing was ever put counts as lost.
        let is_empty = self.open().store.applied().unwrap() == Applied::NOTHING;
        self.open = None;
        self.has_crashed = true;
        if !rows {
            std::fs::remove_dir_all(self.dir.path().join("rows")).unwrap();
        }
        if !is_empty || !rows {
            self.verify();
        }
        match Open::start(&self.dir, self.now) {
            Ok(open) => self.open = Some(open),
            Err(_) => self.findings.holds(false, "NoLostWrite", "what a start needs is there"),
        }
    }

    /// `semel verify` finds nothing wrong with what a crash leaves, whatever compaction was doing.
    fn verify(&mut self) {
        let own = scratch();
        let found = check_rows(self.dir.path(), own.path(), |_| ());
        let is_whole = found.as_ref().is_ok_and(|checked| checked.problems.is_empty());
        if !is_whole {
            println!("what was found: {found:?}");
        }
        self.findings.holds(is_whole, "X8", "what a crash leaves is whole by itself");
    }

    /// Judges what readers get.
    fn look(&mut self) {
        let row = self.partition();
        let (view, reader) = (self.open().view(), Arc::clone(&self.open().reader));
        let mut outlook = AbortedOutlook::default();
        let (mut all, mut committed) = (BTreeSet::new(), BTreeSet::new());
        let mut ends_in_gap = false;
        for entry in view.index(KEPT, row.log_start) {
            let (last, entry) = entry.unwrap();
            if last < row.last_stable_offset() {
                ends_in_gap = entry.kind.is_gap();
            }
            if entry.kind.is_gap() {
                continue;
            }
            let batch = match reader.read(entry.place) {
                Ok(batch) => Batch::new(batch).unwrap(),
                Err(_) => {
                    return self.findings.holds(false, "NoLostWrite", "what the index points to is there");
                }
            };
            let fits = (batch.header.base_offset, batch.header.last_offset()) == (entry.base_offset, last)
                && batch.header.size == usize::try_from(entry.place.length).unwrap();
            self.findings.holds(fits, "CommittedPrefixStable", "a batch keeps its offsets");
            // A log start that has passed an open transaction's first offset may lie within a batch.
            let is_stable = last < row.last_stable_offset();
            let is_aborted = is_stable
                && outlook.is_aborted(&entry, |id, offset| view.next_aborted(KEPT, id, offset)).unwrap();
            if batch.header.control {
                continue;
            }
            let (mut newest, mut count) = (Timestamp::NONE, 0);
            for record in batch.records(&BatchLimits::default()).unwrap().map(Result::unwrap) {
                let offset = record.offset.0;
                let same = self.written.get(&offset).is_some_and(|written| {
                    let value = written.value.map(|value| Bytes::from(vec![value; 20]));
                    record.record == Record { key: Some(vec![written.key].into()), value, headers: vec![] }
                        && record.timestamp.0 == written.timestamp
                });
                self.findings.holds(same, "CommittedPrefixStable", "a record that is left is as it was");
                newest = newest.max(record.timestamp);
                count += 1;
                if record.offset >= row.log_start {
                    all.insert(offset);
                    if is_stable && !is_aborted {
                        committed.insert(offset);
                    }
                }
            }
            self.findings.holds(count > 0, "X8", "no batch is without records");
            self.findings.holds(
                newest == entry.max_timestamp,
                "X8",
                "the index knows a batch's newest record",
            );
        }
        self.findings.holds(!ends_in_gap, "X8", "behind every gap something can be read");
        self.judge(&row, &all, &committed);
        self.seen = all;
    }

    fn judge(&mut self, row: &PartitionRow, all: &BTreeSet<i64>, committed: &BTreeSet<i64>) {
        let (start, stable) = (row.log_start.0, row.last_stable_offset().0);
        let findings = &mut self.findings;
        let (mut newest, mut left) = (BTreeMap::new(), BTreeMap::new());
        for (offset, written) in self.written.range(start..) {
            let is_read = committed.contains(offset);
            if *offset >= stable {
                findings.holds(all.contains(offset), "NoLostWrite", "what is not decided is not touched");
                findings.holds(!is_read, "NoUncommittedRead", "nothing undecided is read");
                continue;
            }
            match written.fate {
                Fate::Aborted => findings.holds(!is_read, "NoAbortedRead", "nothing aborted is read"),
                Fate::Open(_) => findings.holds(false, "LSO", "nothing open lies below it"),
                Fate::Committed => {
                    newest.insert(written.key, *offset);
                    if is_read {
                        left.insert(written.key, *offset);
                    }
                }
            }
        }
        for (key, offset) in &newest {
            let written = &self.written[offset];
            let is_there = left.get(key) == Some(offset);
            match written.value {
                Some(_) => findings.holds(is_there, "NoLostWrite", "the newest record of a key is there"),
                None if is_there => {}
                None => {
                    let is_old = self.now.served.since(written.appended) >= RETENTION;
                    findings.holds(is_old, "X8", "a tombstone is there for its time");
                    findings.holds(!left.contains_key(key), "X8", "what was deleted does not come back");
                }
            }
        }
        let back = all
            .iter()
            .any(|offset| !self.seen.contains(offset) && self.seen.last().is_some_and(|last| offset < last));
        findings.holds(!back, "X8", "what is gone stays gone");
    }

    /// In the end, with nothing more written, nothing superseded is left below what was compacted.
    fn end_of_all(&mut self) {
        for round in 0..2_000 {
            if round % 10 == 0 {
                self.open().apply();
            }
            self.open().duty(0);
        }
        self.look();
        let Some(row) = self.open().view().compaction(KEPT).unwrap() else { return };
        let view = self.open().view();
        let partition = self.partition();
        let stable = partition.last_stable_offset().0;
        let last = view.index(KEPT, Offset((stable - 1).max(0))).next();
        let last = last.map_or(0, |entry| entry.unwrap().1.base_offset.0);
        // A log start within the last batch leaves nothing that a pass could look at, as one behind it does.
        let seen_to = row.cleaned_to.max(partition.log_start).0;
        self.findings.holds(seen_to >= last, "X8", "everything comes to be compacted");
        let mut keys = BTreeSet::new();
        for offset in self.seen.iter().rev().filter(|offset| **offset < row.cleaned_to.0) {
            let is_newest = keys.insert(self.written[offset].key);
            self.findings.holds(is_newest, "X8", "of each key only the newest record is left");
        }
        let removed: u64 = view.index(KEPT, Offset::ZERO).map(|entry| entry.unwrap().1.removed_bytes()).sum();
        self.findings.holds(row.removed_bytes == removed, "X8", "what was taken away is known");
        let aborted = view.aborted_below(KEPT, row.cleaned_to, &[], usize::MAX).unwrap();
        // What was about to go when a crash came goes after the next pass.
        let is_tidy = aborted.keys.is_empty() || self.has_crashed;
        self.findings.holds(is_tidy, "X4", "no row is left that nobody needs");
        drop(view);
        self.crash(true);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 20..160)
}

/// A history that `runner` draws: how many steps it took, and what did not hold then.
pub(super) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    judge(&steps().new_tree(runner).unwrap().current())
}

fn judge(steps: &[Step]) -> (usize, Result<(), Broken>) {
    let mut world = World::new();
    for (number, step) in steps.iter().enumerate() {
        world.take(step);
        if let Err(broken) = world.findings.verdict() {
            return (number + 1, Err(broken));
        }
    }
    world.end_of_all();
    (steps.len(), world.findings.verdict())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn compaction_takes_nothing_away_that_anybody_could_miss(steps in steps()) {
        let (_, verdict) = judge(&steps);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}
