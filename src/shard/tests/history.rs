//! Random histories of a whole shard, one thread, no I/O but the store's: what the engine wants done waits until a step
//! does it, so that writes, loads, layers and crashes come in any order. Judged from what is durable alone.

mod failpoints;

use super::batch;
use super::traces::Lines;
use crate::core::limits::with_small_rows;
use crate::core::tests::findings::Broken;
use crate::core::tests::judge::{Judge, UNUSED};
use crate::core::*;
use crate::log::{Checkpoint, Cursor, Identity as LogIdentity, LogId, PAGE, PlacedBlock, ShardNumber};
use crate::shard::engine::{Begin, Engine, Ports, Written};
use crate::shard::handle::{Ask, Origin};
use crate::shard::replay::replay;
use crate::shard::start::timers;
use crate::shard::trace::Trace;
use crate::shard::watch::Changed;
use crate::shard::{ShardLimits, StartError};
use crate::store::{Applied, Database, Layer, ReadView, StoreLimits};
use crate::types::codec::Codec;
use crate::types::*;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(60);
const IDS: [&str; 2] = ["x", "y"];
const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

/// What somebody does, or what is done of what the engine wants done.
#[derive(Clone, Debug)]
enum Step {
    /// Of a producer that has no identity; or of another one that takes over.
    Init {
        who: usize,
        over: bool,
    },
    Produce {
        who: usize,
        partition: i32,
        records: u32,
    },
    End {
        who: usize,
        commit: bool,
    },
    /// A producer without transactions that does not wait for answers.
    ProduceIdempotent {
        records: u32,
    },
    /// One of its newest batches, again, over another connection.
    Retry {
        back: usize,
    },
    /// Higher than the one before.
    CommitOffset,
    /// The upkeep looks for offsets that nobody uses.
    ExpireOffsets,
    /// No more commands are at hand.
    Flush,
    /// The block being written is durable.
    Write,
    /// The oldest layer that waits is put into the store.
    Apply,
    /// The oldest rows that are wanted are read.
    Read,
    /// The oldest rows that were read are told.
    Load,
    Pass {
        seconds: u64,
    },
    /// The process dies. The block being written may survive; the rows may be lost.
    Crash {
        written: bool,
        rows: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..IDS.len();
    prop_oneof![
        4 => (who.clone(), prop_oneof![4 => Just(false), 1 => Just(true)])
            .prop_map(|(who, over)| Step::Init { who, over }),
        8 => (who.clone(), 0..2, 1u32..4)
            .prop_map(|(who, partition, records)| Step::Produce { who, partition, records }),
        4 => (who, any::<bool>()).prop_map(|(who, commit)| Step::End { who, commit }),
        3 => (1u32..4).prop_map(|records| Step::ProduceIdempotent { records }),
        2 => (0usize..3).prop_map(|back| Step::Retry { back }),
        4 => Just(Step::CommitOffset),
        6 => Just(Step::ExpireOffsets),
        8 => Just(Step::Flush),
        10 => Just(Step::Write),
        8 => Just(Step::Apply),
        8 => Just(Step::Read),
        8 => Just(Step::Load),
        2 => (1u64..150).prop_map(|seconds| Step::Pass { seconds }),
        2 => (any::<bool>(), prop_oneof![3 => Just(true), 1 => Just(false)])
            .prop_map(|(written, rows)| Step::Crash { written, rows }),
    ]
}

type Rows = Vec<(RowKey, Option<RowValue>)>;

/// What the engine wants done, and has shown.
#[derive(Default)]
struct Outside {
    now: Now,
    writing: Option<PlacedBlock>,
    layers: VecDeque<(Arc<Layer>, Applied)>,
    wanted: VecDeque<Vec<RowKey>>,
    read: VecDeque<Rows>,
    shown: Option<Arc<ReadView>>,
}

struct Later {
    outside: Rc<RefCell<Outside>>,
    trace: Option<Trace>,
}

impl Ports for Later {
    fn now(&self) -> Now {
        self.outside.borrow().now
    }
    fn buffer(&self) -> Vec<u8> {
        Vec::new()
    }
    fn write(&mut self, block: PlacedBlock, _commands: usize) -> Written {
        self.outside.borrow_mut().writing = Some(block);
        Written::Later
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
    fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_mut()
    }
}

/// A request that has not been answered.
struct Asked {
    what: What,
    answer: oneshot::Receiver<Reply>,
}

/// Who has asked what.
#[derive(Clone)]
enum What {
    Init(usize),
    Produce(usize, PartitionId),
    End(usize, Outcome),
    InitIdempotent,
    Idempotent(Sent),
    Retry,
    Other,
}

/// A batch of the producer without transactions.
#[derive(Clone, Copy)]
struct Sent {
    first: i32,
    records: u32,
}

/// A transactional producer as it knows itself; without an identity it has to begin anew.
#[derive(Default)]
struct Client {
    identity: Option<Identity>,
    next: HashMap<i32, i32>,
    /// It waits for one answer before it goes on.
    waits: bool,
}

struct History {
    lines: Option<Lines>,
    dir: TempDir,
    store: Database,
    outside: Rc<RefCell<Outside>>,
    engine: Engine<Later>,
    /// What is durable.
    log: Vec<PlacedBlock>,
    judge: Judge,
    origin: Origin,
    asked: Vec<Asked>,
    clients: [Client; 2],
    idempotent: Option<Identity>,
    sent: Vec<Sent>,
    /// How many of them, from the first on, were acknowledged.
    acknowledged: usize,
    /// The newest offset that a group was asked to commit.
    committed: i64,
}

fn shard_limits() -> ShardLimits {
    ShardLimits { resident_rows: 1, ..super::limits() }
}

fn partition(index: i32) -> PartitionId {
    PartitionId::new(TOPIC, PartitionIndex(index))
}

/// In memory where the system has such a place: nothing here survives a real power cut, and syncs take long.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open_store(dir: &TempDir) -> Database {
    Database::open(&dir.path().join("rows"), StoreLimits::default()).unwrap()
}

/// Recovers from what is durable, as the start of a shard does.
fn recover(
    store: &Database,
    log: &[PlacedBlock],
    outside: &Rc<RefCell<Outside>>,
    lines: Option<&Lines>,
) -> Engine<Later> {
    let limits = shard_limits();
    let applied = store.applied().unwrap().checkpoint.block;
    let mut tail = log.iter().filter(|placed| placed.block.number() > applied).cloned();
    let (table, _) = replay(|| Ok::<_, StartError>(tail.next()), store, &limits).unwrap();
    let (last, next) = log.last().map_or((BlockNumber::ZERO, Checkpoint::START.at), |placed| {
        let mut next = placed.at;
        next.position += placed.block.length();
        (placed.block.number(), next)
    });
    let view = Arc::new(store.view(last));
    outside.borrow_mut().shown = Some(Arc::clone(&view));
    let deadlines = timers(&view, ProducerId(0)).unwrap();
    let identity = LogIdentity { log: LogId(1), shard: ShardNumber(0) };
    let cursor = Cursor::new(next, 1 << 30, 1 << 30);
    let ports = Later { outside: Rc::clone(outside), trace: lines.map(Lines::trace) };
    Engine::new(ports, limits, Begin { identity, table, cursor, last, view, deadlines })
}

impl History {
    fn new(lines: Option<Lines>) -> History {
        let dir = directory();
        let store = open_store(&dir);
        let outside = Rc::new(RefCell::new(Outside::default()));
        outside.borrow_mut().now = Now { served: ServedTime(1), wall: Timestamp(1_000) };
        let engine = recover(&store, &[], &outside, lines.as_ref());
        let mut history = History {
            lines,
            dir,
            store,
            outside,
            engine,
            log: Vec::new(),
            judge: Judge::of(TOPIC),
            origin: Origin::new(ConnectionId(1)),
            asked: Vec::new(),
            clients: Default::default(),
            idempotent: None,
            sent: Vec::new(),
            acknowledged: 0,
            committed: 0,
        };
        history.ask(9, What::Other, Command::FormCluster { id: Uuid::from_u128(1) }, vec![]);
        let name = TopicName::new("t").unwrap();
        let topic = NewTopic { id: TOPIC, name, partitions: 2, config: TopicConfig::new() };
        history.ask(9, What::Other, Command::CreateTopic { topic, validate_only: false }, vec![]);
        history.settle();
        history
    }

    fn ask(&mut self, connection: u64, what: What, command: Command, batches: Vec<Bytes>) {
        let (reply, answer) = oneshot::channel();
        let life = Arc::downgrade(&self.origin.life);
        let connection = ConnectionId(connection);
        self.engine.ask(Ask { connection, life, command, batches, reply, rounds: 0 });
        self.asked.push(Asked { what, answer });
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Flush => self.engine.flush(),
            Step::Write => self.write(),
            Step::Apply => self.apply(),
            Step::Read => self.read(),
            Step::Load => self.load(),
            Step::Pass { seconds } => self.pass(Duration::from_secs(seconds)),
            Step::Crash { written, rows } => self.crash(written, rows),
            _ if self.engine.takes_commands() => self.request(step),
            _ => {}
        }
        self.hear();
        self.look();
    }

    fn request(&mut self, step: &Step) {
        match *step {
            Step::Init { who, over } if !self.clients[who].waits => {
                if self.clients[who].identity.is_some() && !over {
                    return;
                }
                self.clients[who] = Client { waits: true, ..Client::default() };
                let id = (TransactionalId::new(IDS[who]).unwrap(), ConnectionId(1));
                self.init(1 + who as u64, What::Init(who), Some(id));
            }
            Step::Produce { who, partition, records } => self.produce(who, partition, records),
            Step::End { who, commit } => self.end(who, if commit { Outcome::Commit } else { Outcome::Abort }),
            Step::ProduceIdempotent { records } if self.idempotent.is_some() => {
                // As many as a client may have in flight, and a partition remembers.
                if self.sent.len() - self.acknowledged >= REMEMBERED_BATCHES {
                    return;
                }
                let first = self.sent.last().map_or(0, |sent| sent.first + sent.records.cast_signed());
                self.sent.push(Sent { first, records });
                self.send(3, What::Idempotent(Sent { first, records }), Sent { first, records });
            }
            Step::ProduceIdempotent { .. } if self.asked.is_empty() => {
                self.init(3, What::InitIdempotent, None);
            }
            // Before a partition knows the producer, what overtakes its first batch is taken for a start (A5).
            Step::Retry { back } if self.acknowledged > 0 => {
                let again = self.sent.iter().rev().nth(back).copied();
                again.into_iter().for_each(|sent| self.send(4, What::Retry, sent));
            }
            Step::CommitOffset => {
                self.committed += 1;
                let (partition, leader_epoch, metadata) = (partition(0), LeaderEpoch(-1), String::new());
                let offset =
                    OffsetToCommit { partition, offset: Offset(self.committed), leader_epoch, metadata };
                let member = GroupMember::nobody(GroupId::new("g"));
                let command = Command::CommitOffsets { member, offsets: vec![offset] };
                self.ask(5, What::Other, command, vec![]);
            }
            Step::ExpireOffsets => {
                let (group, partitions) = (GroupId::new("g"), vec![partition(0)]);
                let command = Command::ExpireOffsets { group, partitions, retention: UNUSED };
                self.ask(6, What::Other, command, vec![]);
            }
            _ => {}
        }
    }

    fn init(
        &mut self,
        connection: u64,
        what: What,
        transactional_id: Option<(TransactionalId, ConnectionId)>,
    ) {
        let (current, two_phase) = (None, TwoPhase::Unaware);
        let init = InitProducerId { transactional_id, timeout: TIMEOUT, current, two_phase };
        self.ask(connection, what, Command::InitProducerId(init), vec![]);
    }

    fn produce(&mut self, who: usize, index: i32, records: u32) {
        let client = &mut self.clients[who];
        let Some(identity) = client.identity.filter(|_| !client.waits) else { return };
        let next = client.next.entry(index).or_insert(0);
        let (facts, bytes) = batch(Some((identity, *next, true)), records);
        *next += records.cast_signed();
        let batches = vec![ProduceBatch { partition: partition(index), batch: facts }];
        let transactional_id = TransactionalId::new(IDS[who]);
        let produce = Produce { transactional_id, protocol: Protocol::V2, batches };
        let what = What::Produce(who, partition(index));
        self.ask(1 + who as u64, what, Command::Produce(produce), vec![bytes]);
    }

    fn end(&mut self, who: usize, outcome: Outcome) {
        let client = &mut self.clients[who];
        let Some(identity) = client.identity.filter(|_| !client.waits) else { return };
        client.waits = true;
        let transactional_id = TransactionalId::new(IDS[who]).unwrap();
        let producer = TransactionalProducer { transactional_id, identity, connection: ConnectionId(1) };
        let end = EndTxn { producer, outcome, protocol: Protocol::V2 };
        self.ask(1 + who as u64, What::End(who, outcome), Command::EndTxn(end), vec![]);
    }

    fn send(&mut self, connection: u64, what: What, Sent { first, records }: Sent) {
        let Some(identity) = self.idempotent else { return };
        let (facts, bytes) = batch(Some((identity, first, false)), records);
        let batches = vec![ProduceBatch { partition: partition(0), batch: facts }];
        let produce = Produce { transactional_id: None, protocol: Protocol::V2, batches };
        self.ask(connection, what, Command::Produce(produce), vec![bytes]);
    }

    fn durable(&mut self, placed: PlacedBlock) {
        let served = placed.block.header().served_time;
        let event = |(frame, _): (crate::log::Frame, _)| (served, Event::from_bytes(&frame.event).unwrap());
        let events: Vec<(ServedTime, Event)> = placed.frames().map(event).collect();
        self.judge.events(&events);
        self.log.push(placed);
    }

    fn write(&mut self) {
        let Some(placed) = self.outside.borrow_mut().writing.take() else { return };
        self.durable(placed);
        self.engine.written();
        self.engine.flush();
    }

    fn apply(&mut self) {
        let Some((layer, applied)) = self.outside.borrow_mut().layers.pop_front() else { return };
        self.store.apply([&layer], applied).unwrap();
        let block = applied.checkpoint.block;
        self.engine.applied(block, &self.store.view(block));
        self.engine.flush();
    }

    fn read(&mut self) {
        let Some(keys) = self.outside.borrow_mut().wanted.pop_front() else { return };
        let rows = keys.into_iter().map(|key| {
            let row = self.store.look(&key).unwrap();
            (key, row)
        });
        self.outside.borrow_mut().read.push_back(rows.collect());
    }

    fn load(&mut self) {
        let Some(rows) = self.outside.borrow_mut().read.pop_front() else { return };
        self.engine.loaded(rows);
        self.engine.flush();
    }

    fn pass(&mut self, duration: Duration) {
        let served = self.outside.borrow().now.served.plus(duration);
        self.outside.borrow_mut().now.served = served;
        self.engine.expire();
        self.engine.flush();
    }

    fn crash(&mut self, written: bool, rows: bool) {
        let writing = self.outside.borrow_mut().writing.take();
        writing.filter(|_| written).into_iter().for_each(|placed| self.durable(placed));
        let now = self.outside.borrow().now;
        self.outside = Rc::new(RefCell::new(Outside { now, ..Outside::default() }));
        if !rows {
            self.dir = directory();
            self.store = open_store(&self.dir);
        }
        self.engine = recover(&self.store, &self.log, &self.outside, self.lines.as_ref());
        self.origin = Origin::new(ConnectionId(1));
        self.asked.clear();
        self.clients = Default::default();
        // What was not acknowledged is sent again, in order.
        for number in self.acknowledged..self.sent.len() {
            let sent = self.sent[number];
            self.send(3, What::Idempotent(sent), sent);
        }
    }

    /// Does everything that is wanted, until nothing is.
    fn settle(&mut self) {
        loop {
            self.engine.flush();
            self.hear();
            let outside = self.outside.borrow();
            let quiet = outside.layers.is_empty() && outside.wanted.is_empty() && outside.read.is_empty();
            let writing = outside.writing.is_some();
            drop(outside);
            if quiet && !writing || self.judge.findings.verdict().is_err() {
                return;
            }
            self.write();
            self.apply();
            self.read();
            self.load();
            self.look();
        }
    }

    /// Judges every answer that has come.
    fn hear(&mut self) {
        let mut waiting = Vec::new();
        for mut asked in std::mem::take(&mut self.asked) {
            match asked.answer.try_recv() {
                Ok(reply) => self.answered(asked.what, reply),
                Err(oneshot::error::TryRecvError::Empty) => waiting.push(asked),
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.judge.findings.holds(false, "NoHang", "every request is answered");
                }
            }
        }
        self.asked.append(&mut waiting);
    }

    fn answered(&mut self, what: What, reply: Reply) {
        match (what, reply) {
            (What::Init(who), Reply::Identity(answer)) => {
                let identity = answer.ok();
                let id = TransactionalId::new(IDS[who]).unwrap();
                identity.into_iter().for_each(|identity| self.judge.is_held(&id, identity));
                self.clients[who] = Client { identity, ..Client::default() };
            }
            (What::InitIdempotent, Reply::Identity(answer)) => {
                self.idempotent = answer.ok();
            }
            (What::End(who, outcome), Reply::Identity(answer)) => {
                let id = TransactionalId::new(IDS[who]).unwrap();
                let identity = answer.ok();
                if let Some(identity) = identity {
                    self.judge.is_ended(&id, outcome, identity);
                }
                self.clients[who] = Client { identity, ..Client::default() };
            }
            (What::Produce(who, partition), Reply::Produced(answers)) => match &answers[0] {
                Ok(appended) => self.judge.is_stored(partition, appended.base_offset),
                // It has been fenced: it begins anew.
                Err(_) => self.clients[who].identity = None,
            },
            (What::Idempotent(sent), Reply::Produced(answers)) => match &answers[0] {
                Ok(appended) => {
                    self.judge.is_stored(partition(0), appended.base_offset);
                    let sent = self.sent.iter().position(|other| other.first == sent.first);
                    self.acknowledged = self.acknowledged.max(sent.map_or(0, |index| index + 1));
                }
                Err(_) => {
                    let how = "batches sent in order over one connection are stored";
                    self.judge.findings.holds(false, "SeqContiguous", how);
                }
            },
            (What::Retry, Reply::Produced(answers)) => {
                answers[0]
                    .iter()
                    .for_each(|appended| self.judge.is_stored(partition(0), appended.base_offset));
            }
            _ => {}
        }
    }

    /// Judges what readers see.
    fn look(&mut self) {
        let Some(view) = self.outside.borrow().shown.clone() else { return };
        for index in 0..2 {
            let partition = partition(index);
            let row = view.get::<PartitionRow>(&partition).unwrap().unwrap_or_default();
            let mut aborted = Vec::new();
            for producer in view.producers(partition).map(|producer| producer.unwrap().0) {
                let mut from = Offset::ZERO;
                while let Some((first, marker)) = view.next_aborted(partition, producer, from).unwrap() {
                    aborted.push((producer, first, marker));
                    from = marker.next();
                }
            }
            self.judge.reads(partition, &row, &aborted);
        }
        let key = GroupOffsetKey { group: GroupId::new("g"), partition: partition(0) };
        let committed = view.get::<CommittedOffset>(&key).unwrap();
        self.judge.shows_offset(committed.map(|committed| committed.offset));
    }

    /// In the end everything is answered, and everything that was open has ended.
    fn end_of_all(&mut self) {
        self.settle();
        let answered = self.asked.is_empty();
        self.judge.findings.holds(answered, "NoHang", "every request is answered");
        self.pass(TIMEOUT + Duration::from_secs(1));
        self.settle();
        let Some(view) = self.outside.borrow().shown.clone() else { return };
        let open = view.transactions().any(|row| row.unwrap().1.state.open().is_some());
        self.judge.findings.holds(!open, "LsoAdvances", "a transaction that is not prepared ends by itself");
    }
}

fn with_an_open_transaction() -> History {
    let mut history = History::new(None);
    history.take(&Step::Init { who: 0, over: false });
    history.settle();
    history.take(&Step::Produce { who: 0, partition: 0, records: 1 });
    history.settle();
    history
}

#[test]
fn a_deadline_waits_for_the_open_block_and_then_comes() {
    let mut history = with_an_open_transaction();
    let deadline = history.engine.next_deadline().expect("an open transaction has a deadline");
    // One block is being written, and the next one is open.
    for step in [Step::CommitOffset, Step::Read, Step::Load, Step::Flush, Step::CommitOffset] {
        history.take(&step);
    }
    assert!(history.outside.borrow().writing.is_some());
    history.take(&Step::Pass { seconds: TIMEOUT.as_secs() + 1 });
    assert!(history.outside.borrow().now.served > deadline);
    assert_eq!(history.engine.next_deadline(), None, "nothing can be done about it yet");
    history.take(&Step::Write);
    assert_eq!(history.engine.next_deadline(), Some(deadline));
    history.take(&Step::Pass { seconds: 0 });
    assert_ne!(history.engine.next_deadline(), Some(deadline));
}

#[test]
fn a_deadline_that_was_given_up_comes_again() {
    let mut history = with_an_open_transaction();
    history.take(&Step::Crash { written: true, rows: true });
    let view = history.outside.borrow().shown.clone().unwrap();
    let (timer, deadline) = view.deadlines().next().unwrap().unwrap();
    history.outside.borrow_mut().now.served = deadline;
    let (connection, life, command) = (ConnectionId(u64::MAX), Weak::new(), Command::Expire { timer });
    let (reply, answer) = oneshot::channel();
    // One round more, and it is taken for a defect.
    let rounds = shard_limits().rounds;
    history.engine.ask(Ask { connection, life, command, batches: vec![], reply, rounds });
    assert!(answer.blocking_recv().is_err());
    let again = history.engine.next_deadline().unwrap();
    assert!(again > deadline);
    history.pass(again.since(deadline));
    history.settle();
    let view = history.outside.borrow().shown.clone().unwrap();
    assert!(view.transactions().all(|row| row.unwrap().1.state.open().is_none()));
}

#[test]
fn a_long_block_is_written_while_more_is_decided() {
    let mut history = History::new(None);
    history.init(3, What::InitIdempotent, None);
    history.settle();
    let being_written = |history: &History| {
        let outside = history.outside.borrow();
        outside.writing.as_ref().map(|placed| (placed.block.length(), placed.block.frames().count()))
    };
    let mut sent = 0;
    let mut send = |history: &mut History| {
        history.send(3, What::Other, Sent { first: 100 * sent, records: 100 });
        sent += 1;
        sent
    };
    // What it asks for is at hand from then on.
    send(&mut history);
    history.settle();
    // Always more comes: nobody says that this is all.
    let long = shard_limits().long_block_bytes;
    let in_block = loop {
        let sent = send(&mut history);
        if let Some((bytes, frames)) = being_written(&history) {
            assert!((long..long + 2 * PAGE).contains(&bytes), "{bytes} bytes");
            assert_eq!(i32::try_from(frames), Ok(sent - 1));
            break frames;
        }
        assert!(sent < 1000);
    };
    for _ in 0..2 * in_block {
        send(&mut history);
    }
    assert_eq!(being_written(&history).map(|(_, frames)| frames), Some(in_block), "one at a time");
    history.write();
    assert_eq!(being_written(&history).map(|(_, frames)| frames), Some(2 * in_block));
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..250)
}

/// A history that `runner` draws: how many steps it took, and what did not hold then.
pub(super) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    judge(&steps().new_tree(runner).unwrap().current())
}

/// A history that `runner` draws, as a trace: what it breaks is not looked at.
pub(super) fn trace_one(runner: &mut TestRunner, lines: &Lines) -> usize {
    let steps = steps().new_tree(runner).unwrap().current();
    let mut history = History::new(Some(lines.clone()));
    steps.iter().for_each(|step| history.take(step));
    history.end_of_all();
    steps.len()
}

fn judge(steps: &[Step]) -> (usize, Result<(), Broken>) {
    let mut history = History::new(None);
    for (number, step) in steps.iter().enumerate() {
        history.take(step);
        if let Err(broken) = history.judge.findings.verdict() {
            return (number + 1, Err(broken));
        }
    }
    history.end_of_all();
    (steps.len(), history.judge.findings.verdict())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_hold_in_every_history_of_a_shard(steps in steps(), room in 0usize..3) {
        let (_, verdict) = with_small_rows(room, || judge(&steps));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}
