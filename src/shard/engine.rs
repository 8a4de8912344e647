//! The shard as a state machine of its own: what is decided, being written, durable, applied. It does no I/O and reads no
//! clock; what it wants done goes through [`Ports`], and what has been done is told to it. The three marks are
//! applied ≤ durable ≤ decided.

use super::block::{HeldReply, OpenBlock, PushError, SealedBlock};
use super::handle::Ask;
use super::limits::ShardLimits;
use super::metrics::Marks;
use super::table::Table;
use super::trace::{Awaited, Trace};
use super::waiting::Waiting;
use super::watch::Changed;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{
    Changes, Command, DeadlineRow, Decided, Drafted, Need, Now, Protocol, Reply, RestoredRow, Row, RowKey,
    RowValue, Timer, decide,
};
use crate::log::{BlockBuilder, BlockStamp, Cursor, Identity, PlacedBlock};
use crate::store::{Applied, Layer, ReadView};
use crate::types::{BlockNumber, ConnectionId, GroupEpoch, HashMap, LeaderEpoch, RequestId, ServedTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// What the engine wants done.
pub(super) trait Ports {
    /// What time it is. Served time never goes back.
    fn now(&self) -> Now;
    /// Memory for the next block.
    fn buffer(&self) -> Vec<u8>;
    /// Make a block durable, one at a time. If it is not when this returns, say so later with [`Engine::written`].
    /// `commands` were decided into it.
    fn write(&mut self, block: PlacedBlock, commands: usize) -> Written;
    /// Put a durable block's changes into the store, then say so with [`Engine::applied`]. In this order.
    fn apply(&mut self, layer: Arc<Layer>, applied: Applied, log_bytes: u32);
    /// Read rows from the store, then say so with [`Engine::loaded`].
    fn load(&mut self, rows: Vec<RowKey>);
    /// Show readers a new view, in which these partitions have changed.
    fn publish(&mut self, view: Arc<ReadView>, changed: &[Changed]);
    /// Somebody waits until all is in the store.
    fn hurry(&mut self) {}
    /// Where steps are noted down, if they are.
    fn trace(&mut self) -> Option<&mut Trace>;
    /// Count a decision. `table` has the rows as they were before it.
    fn count(&mut self, _reply: Option<&Reply>, _drafted: &Drafted, _table: &Table) {}
}

/// How far the write of a block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is durable.
    Now,
    /// It will be.
    Later,
}

/// The connection that the shard's own commands come from: no client has it, and nothing waits behind it.
const OWN_CONNECTION: ConnectionId = ConnectionId(u64::MAX);

/// When a deadline comes again that could not be seen to: a defect must not keep readers waiting for ever, nor the shard busy.
const GIVEN_UP_PAUSE: Duration = Duration::from_secs(5);

/// A block on its way to the disk.
struct Writing {
    sealed: SealedBlock,
    applied: Applied,
    length: u32,
}

/// See the module.
pub(super) struct Engine<P> {
    ports: P,
    limits: ShardLimits,
    identity: Identity,
    table: Table,
    waiting: Waiting,
    cursor: Cursor,
    open: Option<OpenBlock>,
    writing: Option<Writing>,
    /// The last block that has been begun.
    decided: BlockNumber,
    durable: BlockNumber,
    applied: BlockNumber,
    /// Replies to commands that changed nothing, by the newest block among the rows they speak of.
    held: BTreeMap<BlockNumber, Vec<HeldReply>>,
    /// Requests that a later decision answers. Bounded by `core`: each belongs to a member of a group.
    awaited: HashMap<RequestId, oneshot::Sender<Reply>>,
    view: Arc<ReadView>,
    /// Row changes of blocks that are being written or applied, oldest first.
    backlog: Vec<(BlockNumber, usize)>,
    deadlines: BTreeSet<(ServedTime, Timer)>,
    deadline_of: HashMap<Timer, ServedTime>,
    /// Whether the open block must be written before more is decided.
    full: bool,
}

/// Where a shard begins after recovery.
pub(super) struct Begin {
    pub(super) identity: Identity,
    pub(super) table: Table,
    pub(super) cursor: Cursor,
    pub(super) last: BlockNumber,
    pub(super) view: Arc<ReadView>,
    pub(super) deadlines: Vec<(Timer, ServedTime)>,
}

impl<P: Ports> Engine<P> {
    pub(super) fn new(mut ports: P, limits: ShardLimits, begin: Begin) -> Engine<P> {
        let Begin { identity, table, cursor, last, view, deadlines } = begin;
        if let Some(trace) = ports.trace() {
            trace.recovered(last);
        }
        Engine {
            ports,
            limits,
            identity,
            table,
            waiting: Waiting::default(),
            cursor,
            open: None,
            writing: None,
            decided: last,
            durable: last,
            applied: last,
            held: BTreeMap::new(),
            awaited: HashMap::default(),
            view,
            backlog: Vec::new(),
            deadlines: deadlines.iter().map(|(timer, deadline)| (*deadline, timer.clone())).collect(),
            deadline_of: deadlines.into_iter().collect(),
            full: false,
        }
    }

    /// Whether commands are taken: not while the open block is full, or the store too far behind.
    pub(super) fn takes_commands(&self) -> bool {
        let backlog: usize = self.backlog.iter().map(|(_, rows)| rows).sum();
        !self.full && backlog <= self.limits.backlog_rows
    }

    /// Where the shard stands.
    pub(super) fn marks(&self) -> Marks {
        Marks {
            applied: self.applied,
            durable: self.durable,
            decided: self.decided,
            backlog_rows: self.backlog.iter().map(|(_, rows)| rows).sum(),
            resident_rows: self.table.len(),
        }
    }

    /// The shard is to become quiet: nothing is left waiting for company.
    pub(super) fn hurry(&mut self) {
        self.ports.hurry();
    }

    /// Whether everything decided is durable and in the store.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.is_none() && self.applied == self.decided && !self.waiting.has_ready()
    }

    /// When the next timer is due. None while a block is open that is older: it gets no more than was due at its time, and
    /// when it is being written the timer comes next.
    pub(super) fn next_deadline(&self) -> Option<ServedTime> {
        let (deadline, _) = self.deadlines.first()?;
        let is_later = self.open.as_ref().is_some_and(|block| block.now.served < *deadline);
        (!is_later).then_some(*deadline)
    }

    /// Takes a command, behind those of its connection that wait.
    pub(super) fn ask(&mut self, ask: Ask) {
        if mutated(Mutant::OvertakesItsConnection) {
            return self.decide(ask);
        }
        if let Some(ask) = self.waiting.behind(ask) {
            self.decide(ask);
        }
    }

    /// Asks for what is to be done at deadlines that have passed.
    pub(super) fn expire(&mut self) {
        let now = self.now().served;
        for _ in 0..self.limits.expired_at_once {
            if self.deadlines.first().is_none_or(|(deadline, _)| *deadline > now) || !self.takes_commands() {
                return;
            }
            let Some((_, timer)) = self.deadlines.pop_first() else { return };
            let (reply, _) = oneshot::channel();
            let command = Command::Expire { timer };
            let (connection, life) = (OWN_CONNECTION, Weak::new());
            self.ask(Ask { connection, life, command, batches: Vec::new(), reply, rounds: 0 });
        }
    }

    /// Does what can be done now: decides what has become decidable, and has the open block written if none is being
    /// written. To be called when no more commands are at hand.
    pub(super) fn flush(&mut self) {
        loop {
            self.decide_ready();
            if self.writing.is_some() || self.open.is_none() {
                return;
            }
            self.seal();
        }
    }

    /// The block that was being written is durable.
    pub(super) fn written(&mut self) {
        let Some(Writing { sealed, applied, length }) = self.writing.take() else { return };
        let SealedBlock { layer, partitions, replies, .. } = sealed;
        self.durable = layer.last();
        if let Some(trace) = self.ports.trace() {
            trace.durable(self.durable);
        }
        self.view = Arc::new(self.view.with_layer(Arc::clone(&layer)));
        self.publish(Arc::clone(&self.view), &partitions);
        self.ports.apply(layer, applied, length);
        let later = self.held.split_off(&self.durable.next());
        let observed = std::mem::replace(&mut self.held, later).into_values().flatten();
        replies.into_iter().chain(observed).for_each(|held| self.release(held));
    }

    fn release(&mut self, HeldReply { to, reply, traced }: HeldReply) {
        if let (Some(trace), Some(number)) = (self.ports.trace(), traced) {
            trace.released(number);
        }
        // Whoever asked may be gone; what was decided stays decided.
        let _ = to.send(reply);
    }

    fn publish(&mut self, view: Arc<ReadView>, changed: &[Changed]) {
        if let Some(trace) = self.ports.trace() {
            trace.published(&view);
        }
        self.ports.publish(view, changed);
    }

    /// The store has been changed in what says where things lie: `base` is a view of it as it is now.
    pub(super) fn rebased(&mut self, base: &ReadView) {
        self.view = Arc::new(self.view.rebased(base, base.durable()));
        self.publish(Arc::clone(&self.view), &[]);
    }

    /// Blocks up to `applied` are in the store, and `base` is a view that has them.
    pub(super) fn applied(&mut self, applied: BlockNumber, base: &ReadView) {
        self.applied = applied;
        self.backlog.retain(|(block, _)| *block > applied);
        self.view = Arc::new(self.view.rebased(base, applied));
        self.publish(Arc::clone(&self.view), &[]);
        if let Some(trace) = self.ports.trace() {
            trace.evolved(applied);
        }
        self.table.evict(applied);
    }

    /// Rows have been read from the store.
    pub(super) fn loaded(&mut self, rows: Vec<(RowKey, Option<RowValue>)>) {
        for (key, row) in rows {
            self.table.loaded(&key, row);
            self.waiting.known(&key);
        }
    }

    fn decide_ready(&mut self) {
        while self.takes_commands()
            && let Some(ask) = self.waiting.next()
        {
            self.decide(ask);
        }
    }

    /// One block has one time.
    fn now(&self) -> Now {
        self.open.as_ref().map_or_else(|| self.ports.now(), |block| block.now)
    }

    /// Decides the first command of its connection, or lets it wait.
    fn decide(&mut self, ask: Ask) {
        let connection = ask.connection;
        if is_of_connection(&ask.command) && ask.life.strong_count() == 0 {
            return self.waiting.done(connection);
        }
        if self.full {
            return self.waiting.retry(ask);
        }
        let now = self.now();
        match decide(&self.table, now, &ask.command) {
            Ok(decided) => {
                self.take(ask, decided, now);
                self.seal_if_long();
            }
            Err(Need(rows)) => self.need(ask, rows),
        }
    }

    /// A block that is long by now is written, if none is being written, while others are decided.
    fn seal_if_long(&mut self) {
        let long = usize::try_from(self.limits.long_block_bytes).unwrap_or(usize::MAX);
        if self.writing.is_none() && self.open.as_ref().is_some_and(|open| open.length() >= long) {
            self.seal();
        }
    }

    fn need(&mut self, mut ask: Ask, rows: Vec<RowKey>) {
        ask.rounds += 1;
        if ask.rounds > self.limits.rounds {
            // Whoever asked sees that no reply comes; the log says why.
            tracing::error!(command = ?ask.command, ?rows, "a command needs rows without end; this is a defect");
            if let Command::Expire { timer } = &ask.command {
                // Nobody asks for it again: it stays due. Rows that were loaded are mostly still there then.
                self.set_deadline(timer, Some(self.ports.now().served.plus(GIVEN_UP_PAUSE)));
            }
            return self.waiting.done(ask.connection);
        }
        self.waiting.wait(ask, &rows);
        let rows = self.table.begin_loading(rows);
        if !rows.is_empty() {
            self.ports.load(rows);
        }
    }

    /// Takes a decision into the open block, or holds its replies until what they speak of is durable.
    fn take(&mut self, ask: Ask, decided: Decided, now: Now) {
        let connection = ask.connection;
        if decided.drafted.events.is_empty() {
            let observed = decided.drafted.observed;
            for held in self.take_decided(ask, decided, None) {
                self.reply_after(observed, held);
            }
            return self.waiting.done(connection);
        }
        let leader_epoch = self.leader_epoch();
        match self.open_block(now).push(&decided.drafted, &ask.batches, leader_epoch) {
            Ok(()) => {
                let mut replies = self.take_decided(ask, decided, Some(self.decided));
                if mutated(Mutant::ReplyBeforeFsync) {
                    replies.drain(..).for_each(|held| self.release(held));
                }
                if let Some(open) = &mut self.open {
                    open.replies.extend(replies);
                }
            }
            Err(PushError::Full) => {
                self.full = true;
                return self.waiting.retry(ask);
            }
            Err(error) => {
                tracing::error!(command = ?ask.command, %error, "a decision cannot be logged; this is a defect");
            }
        }
        self.waiting.done(connection);
    }

    /// Takes what a decision, logged in `block` if it has events, has made of the rows; gives its replies.
    fn take_decided(&mut self, ask: Ask, decided: Decided, block: Option<BlockNumber>) -> Vec<HeldReply> {
        self.ports.count(decided.reply.as_ref(), &decided.drafted, &self.table);
        let trace = self.ports.trace();
        let traced = trace.and_then(|trace| trace.decided(&self.table, &ask.command, &decided, block));
        let Decided { reply, mut drafted } = decided;
        let answered = std::mem::take(&mut drafted.answered);
        self.take_rows(drafted.changes, block);
        if let (Some(open), Some(_)) = (&mut self.open, block) {
            open.keep(drafted.events);
        }
        self.addressed(ask, reply, answered, traced)
    }

    /// The replies of one decision with those they go to; a request that has to wait is kept until it is answered.
    fn addressed(
        &mut self,
        ask: Ask,
        reply: Option<Reply>,
        answered: Vec<(RequestId, Reply)>,
        traced: Option<Awaited>,
    ) -> Vec<HeldReply> {
        let mut replies = Vec::with_capacity(1 + answered.len());
        match (reply, ask.command.request()) {
            (Some(reply), _) => replies.push(HeldReply { to: ask.reply, reply, traced }),
            (None, Some(request)) => drop(self.awaited.insert(request, ask.reply)),
            // Whoever asked sees that no reply comes.
            (None, None) => tracing::error!(command = ?ask.command, "not answered; this is a defect"),
        }
        let waiting = answered.into_iter();
        replies.extend(waiting.filter_map(|(request, reply)| {
            self.awaited.remove(&request).map(|to| HeldReply { to, reply, traced: None })
        }));
        replies
    }

    fn take_rows(&mut self, changes: Changes, block: Option<BlockNumber>) {
        for (key, row) in changes {
            if let RowKey::Deadline(timer) = &key {
                self.set_deadline(timer, row.as_ref().and_then(DeadlineRow::of).map(|row| row.deadline));
            }
            // A transaction that has come and gone in one decision has left this row as it was.
            if matches!(key, RowKey::OpenTransactions(_)) && self.table.row(&key) == row.as_ref() {
                continue;
            }
            let newly_changed = self.table.decided(key, row, block.unwrap_or(BlockNumber::ZERO));
            if let (Some(key), Some(open), Some(_)) = (newly_changed, &mut self.open, block) {
                open.changes(key);
            }
        }
    }

    fn set_deadline(&mut self, timer: &Timer, deadline: Option<ServedTime>) {
        let before = match deadline {
            Some(deadline) => self.deadline_of.insert(timer.clone(), deadline),
            None => self.deadline_of.remove(timer),
        };
        if let Some(before) = before {
            self.deadlines.remove(&(before, timer.clone()));
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, timer.clone())));
    }

    /// The leader epoch of what is appended: how often the log was restored (KIP-320). Whoever appends has just read it.
    fn leader_epoch(&self) -> LeaderEpoch {
        let restored = self.table.row(&RowKey::Restored(()));
        restored.and_then(RestoredRow::of).map_or(LeaderEpoch(0), |row| row.leader_epoch)
    }

    fn reply_after(&mut self, block: BlockNumber, held: HeldReply) {
        if block <= self.durable || mutated(Mutant::RefusalDoesNotWait) {
            self.release(held);
        } else {
            self.held.entry(block).or_default().push(held);
        }
    }

    fn open_block(&mut self, now: Now) -> &mut OpenBlock {
        let (identity, last_durable, length) = (self.identity, self.durable, self.limits.block_bytes);
        let (ports, decided) = (&self.ports, &mut self.decided);
        self.open.get_or_insert_with(|| {
            *decided = decided.next();
            let number = *decided;
            let stamp =
                BlockStamp { identity, term: LeaderEpoch(0), number, last_durable, served_time: now.served };
            OpenBlock::new(number, now, BlockBuilder::with_buffer(stamp, length, ports.buffer()))
        })
    }

    /// Has the open block written.
    fn seal(&mut self) {
        let Some(open) = self.open.take() else { return };
        let length = u32::try_from(open.length()).unwrap_or(u32::MAX);
        let at = match self.cursor.assign(length) {
            Ok(at) => at,
            // A block's limit is a quarter of a segment at most.
            Err(error) => return tracing::error!(%error, "a block has no place; this is a defect"),
        };
        let sealed = open.seal(at, self.durable, |key| self.table.row(key));
        self.backlog.push((sealed.layer.last(), sealed.layer.len()));
        if mutated(Mutant::WatermarkBeforeFsync) {
            let early = self.view.with_layer(Arc::clone(&sealed.layer));
            self.publish(Arc::new(early), &[]);
        }
        let placed = PlacedBlock { block: sealed.block.clone(), at };
        let applied = Applied { checkpoint: placed.checkpoint(), served: sealed.now.served };
        let commands = sealed.replies.len();
        self.writing = Some(Writing { sealed, applied, length });
        self.full = false;
        if self.ports.write(placed, commands) == Written::Now {
            self.written();
        }
    }
}

/// Whether a command counts only while the connection it came over lives: nothing in the request itself tells a delayed one
/// from a new one (E10).
fn is_of_connection(command: &Command) -> bool {
    match command {
        Command::Enrol(_) | Command::EnrolGroup { .. } | Command::StageOffsets(_) => true,
        // Nobody is there to be answered: a member that joins and is gone would only hold up the others.
        Command::JoinGroup(_) | Command::SyncGroup(_) => true,
        // A join that was given up would give up what its member has been assigned since. Whoever says that it leaves need
        // not wait for the answer.
        Command::ConsumerHeartbeat(beat) => beat.epoch >= GroupEpoch::JOIN,
        Command::EndTxn(end) => end.protocol == Protocol::V1,
        Command::InitProducerId(init) => init.transactional_id.is_some(),
        _ => false,
    }
}
