//! Judges a history by the properties, by their names: from the events as a reader of the log has them, from what was
//! answered, and from the rows as readers see them. It keeps a memory of its own and asks `core` nothing.

use super::findings::Findings;
use super::history::{Ending, IDS, KEYS, Said, Sent};
use super::world::{World, key_of};
use crate::core::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// For how long an offset that was committed outside a transaction must be unused to be forgotten.
pub(crate) const UNUSED: Duration = Duration::from_secs(100);

type Txn = (TransactionalId, TxnNumber);

/// Records of one batch in a partition.
#[derive(Clone)]
struct Stored {
    partition: PartitionId,
    base_offset: Offset,
    records: u32,
    producer: ProducerId,
    transaction: Option<Txn>,
}

/// A key that was taken.
#[derive(Clone)]
struct Taken {
    until: ServedTime,
    transaction: Option<Txn>,
}

#[derive(Clone, Default)]
pub(crate) struct Judge {
    pub(crate) findings: Findings,
    topic: TopicId,
    next_offset: BTreeMap<PartitionId, Offset>,
    last_stable: BTreeMap<PartitionId, Offset>,
    batches: Vec<Stored>,
    sequences: BTreeSet<(PartitionId, Identity, i32)>,
    newest: BTreeMap<(PartitionId, Identity), i32>,
    /// The newest batches of each producer and epoch, oldest first.
    remembered: BTreeMap<(PartitionId, Identity), VecDeque<(SequenceRange, Offset)>>,
    fenced_below: BTreeMap<(PartitionId, ProducerId), ProducerEpoch>,
    enrolled: BTreeMap<Txn, BTreeSet<PartitionId>>,
    /// Where each open transaction begins.
    open: BTreeMap<(PartitionId, ProducerId), (TxnNumber, Offset)>,
    ended: BTreeMap<Txn, Outcome>,
    last_ended: BTreeMap<TransactionalId, (TxnNumber, Outcome)>,
    /// The markers that are still to be written, with what they are to say.
    owed: BTreeMap<(PartitionId, ProducerId, TxnNumber), (Outcome, ProducerEpoch)>,
    holder: BTreeMap<TransactionalId, Identity>,
    owner: BTreeMap<ProducerId, Option<TransactionalId>>,
    prepared: BTreeSet<TransactionalId>,
    staged: BTreeMap<Txn, Offset>,
    committed: Option<Offset>,
    committed_at: Option<ServedTime>,
    connections: BTreeMap<(TransactionalId, CoordinatorKind), u64>,
    before: BTreeMap<TransactionalId, Identity>,
    recoverable: BTreeMap<TransactionalId, Option<Identity>>,
    /// Whose transactions this step has changed.
    touched: BTreeSet<TransactionalId>,
    /// Producer ids that were given out before a restore.
    retired: BTreeSet<ProducerId>,
    /// Who took each key, the newest last.
    keys: BTreeMap<IdempotencyKey, Vec<Taken>>,
    now: ServedTime,
}

fn id_of(id: usize) -> TransactionalId {
    TransactionalId::new(IDS[id]).unwrap()
}

impl Judge {
    /// Judges what happens in the partitions of `topic`.
    pub(crate) fn of(topic: TopicId) -> Judge {
        Judge { topic, ..Judge::default() }
    }

    /// The log is restored. This judge knows what is in the backup; `lost` has also seen what came after it.
    pub(super) fn restored(&mut self, lost: &Judge) {
        self.retired = lost.owner.keys().copied().collect();
        self.connections.clear();
    }

    /// Before each step.
    pub(super) fn begin(&mut self, world: &World, restarts: bool) {
        self.before = self.holder.clone();
        self.touched.clear();
        self.now = world.now.served;
        for id in IDS {
            let recoverable = world.find_transaction(id).and_then(|row| row.recoverable);
            self.recoverable.insert(TransactionalId::new(id).unwrap(), recoverable);
        }
        if restarts {
            self.connections.clear();
        }
    }

    pub(crate) fn events(&mut self, events: &[(ServedTime, Event)]) {
        events.iter().for_each(|(at, event)| self.event(*at, event));
        let paid = self.owed.is_empty();
        self.findings.holds(paid, "MarkerExactlyOnce", "every enrolled partition has its marker");
    }

    fn event(&mut self, at: ServedTime, event: &Event) {
        match event {
            Event::BatchAppended(batch) => self.appended(batch),
            Event::PartitionsEnrolled { enrolment, partitions } => {
                let txn = self.added_to(enrolment);
                self.enrolled.entry(txn).or_default().extend(partitions);
            }
            Event::GroupEnrolled { enrolment, .. } => drop(self.added_to(enrolment)),
            Event::OffsetsStaged { enrolment, offsets } => {
                let txn = self.added_to(enrolment);
                self.staged.extend(offsets.last().map(|(_, committed)| (txn, committed.offset)));
            }
            Event::ProducerInitialized { transactional_id, holder, .. } => {
                self.touched.insert(transactional_id.clone());
                self.held(transactional_id, *holder);
            }
            Event::TransactionPrepared { transactional_id, .. } => {
                self.prepared.insert(transactional_id.clone());
            }
            Event::TransactionEnded { transactional_id, number, outcome, reason, holder } => {
                self.ended(&(transactional_id.clone(), *number), *outcome, *reason, *holder);
            }
            Event::MarkerWritten(marker) => self.marked(marker),
            Event::KeysAccepted(accepted) => self.keys_accepted(at, accepted),
            Event::KeysForgotten { keys, .. } => {
                for key in keys {
                    let over = self
                        .keys
                        .get(&key.key)
                        .and_then(|takings| takings.last())
                        .is_some_and(|taken| taken.until <= at);
                    self.findings.holds(over, "KeyOnce", "a key is known for its window (K6)");
                }
            }
            Event::OffsetsCommitted { offsets } => {
                let newest = offsets.last().map(|(_, committed)| committed);
                self.committed = newest.map(|committed| committed.offset);
                self.committed_at = newest.map(|committed| committed.since);
            }
            Event::OffsetsForgotten { .. } => {
                let unused = self.committed_at.is_some_and(|since| since.plus(UNUSED) <= at);
                self.findings.holds(unused, "NoLostWrite", "offsets in use are not forgotten");
                self.committed = None;
            }
            _ => {}
        }
    }

    fn added_to(&mut self, enrolment: &Enrolment) -> Txn {
        let id = enrolment.transactional_id.clone();
        let prepared = self.prepared.contains(&id);
        self.findings.holds(!prepared, "NoTornTxn", "nothing is added to what is prepared (E9)");
        let txn = (id.clone(), enrolment.number);
        let over = self.ended.contains_key(&txn);
        self.findings.holds(!over, "NoTornTxn", "nothing is added after the end");
        self.touched.insert(id);
        txn
    }

    fn held(&mut self, id: &TransactionalId, holder: Identity) {
        if let Some(before) = self.holder.insert(id.clone(), holder) {
            self.findings.holds(holder >= before, "EpochMonotone", "an id's holder never goes back");
        }
        self.given(holder.id, Some(id));
    }

    fn given(&mut self, producer: ProducerId, to: Option<&TransactionalId>) {
        let new = !self.retired.contains(&producer);
        self.findings.holds(new, "EpochMonotone", "nothing of before a restore is given out again (B1, B4)");
        let owner = self.owner.entry(producer).or_insert_with(|| to.cloned());
        self.findings.holds(owner.as_ref() == to, "NoDuplicate", "a producer id is given out once (P1)");
    }

    fn place(&mut self, partition: PartitionId, offset: Offset, count: i64) {
        let next = self.next_offset.entry(partition).or_default();
        let follows = *next == offset;
        self.findings.holds(
            follows,
            "CommittedPrefixStable",
            "offsets follow one another and are never reused",
        );
        *next = offset.plus(count);
    }

    fn appended(&mut self, batch: &BatchAppended) {
        self.place(batch.partition, batch.base_offset, i64::from(batch.records));
        let Some(append) = &batch.producer else { return };
        let (partition, identity) = (batch.partition, append.identity);
        let fence = self.fenced_below.entry((partition, identity.id)).or_insert(identity.epoch);
        self.findings.holds(identity.epoch >= *fence, "FenceZombie", "an epoch that was fenced appends");
        *fence = identity.epoch.max(*fence);
        let first = append.sequences.first.get();
        let retired = self.retired.contains(&identity.id);
        let known = self.newest.contains_key(&(partition, identity));
        self.findings.holds(
            !retired || first == 0 || known,
            "SeqContiguous",
            "nothing goes on behind what a restore has lost (B2)",
        );
        let fenced = !(retired && append.transaction.is_some());
        self.findings.holds(fenced, "FenceZombie", "a transaction goes on over a restore (B3)");
        if let Some(newest) = self.newest.get(&(partition, identity)) {
            self.findings.holds(first > *newest, "NoDuplicate", "a sequence is stored once");
            self.findings.holds(first == newest + 1, "SeqContiguous", "a batch follows the one before");
        }
        for sequence in first..=append.sequences.last.get() {
            let new = self.sequences.insert((partition, identity, sequence));
            self.findings.holds(new, "NoDuplicate", "a sequence is stored once");
            self.newest.insert((partition, identity), sequence);
        }
        let remembered = self.remembered.entry((partition, identity)).or_default();
        remembered.push_back((append.sequences, batch.base_offset));
        if remembered.len() > REMEMBERED_BATCHES {
            remembered.pop_front();
        }
        let owner = self.owner.get(&identity.id).cloned().flatten();
        let transaction = append.transaction.zip(owner).map(|(number, id)| (id, number));
        if let Some(txn) = &transaction {
            let enrolled = self.enrolled.get(txn).is_some_and(|partitions| partitions.contains(&partition));
            self.findings.holds(enrolled, "LsoAdvances", "no append without enrolment");
            self.open.entry((partition, identity.id)).or_insert((txn.1, batch.base_offset));
            self.touched.insert(txn.0.clone());
        }
        let (base_offset, records) = (batch.base_offset, batch.records);
        let producer = identity.id;
        self.batches.push(Stored { partition, base_offset, records, producer, transaction });
    }

    /// Those that took a key and have not lost it at `at`: its window lasts, and they have not aborted.
    fn takers(&self, key: &IdempotencyKey, at: ServedTime) -> Vec<&Taken> {
        let lasts = |taken: &&Taken| {
            let aborted =
                taken.transaction.as_ref().and_then(|txn| self.ended.get(txn)) == Some(&Outcome::Abort);
            taken.until > at && !aborted
        };
        self.keys.get(key).into_iter().flatten().filter(lasts).collect()
    }

    fn keys_accepted(&mut self, at: ServedTime, accepted: &KeysAccepted) {
        // Which transaction it is in, the batch before it says.
        let transaction = self.batches.last().and_then(|batch| batch.transaction.clone());
        for RecordKey { key, .. } in &accepted.keys {
            let free = self.takers(key, at).is_empty();
            self.findings.holds(free, "KeyOnce", "a key is taken once within its window (K1, K5)");
            let taken = Taken { until: accepted.until, transaction: transaction.clone() };
            self.keys.entry(key.clone()).or_default().push(taken);
        }
    }

    /// A refusal because of a key has its reason, and a duplicate is not refused for it.
    fn key_refused(&mut self, key: u8, sent: &Sent, refusal: Refusal) {
        let key = key_of(KEYS[usize::from(key)]);
        let own = |txn: &Txn| sent.id.map(id_of).as_ref() == Some(&txn.0);
        let takers = self.takers(&key, self.now);
        let open =
            |taken: &Taken| taken.transaction.as_ref().filter(|txn| !self.ended.contains_key(*txn)).cloned();
        let held_by: Vec<Txn> = takers.iter().filter_map(|taken| open(taken)).collect();
        let (any, held) = (!takers.is_empty(), held_by.iter().any(|txn| !own(txn)));
        let accepted = takers.len() > held_by.len() || held_by.iter().any(own);
        let reason = match refusal {
            Refusal::KeyAccepted => accepted,
            Refusal::KeyHeld => held && sent.id.is_none(),
            Refusal::KeyHeldFromTransaction => held && sent.id.is_some(),
            _ => return,
        };
        let says = "what is refused for its key is in a batch that is not undone (K2, K4)";
        self.findings.holds(any && reason, "KeysAtomicWithTxn", says);
    }

    fn ended(&mut self, txn: &Txn, outcome: Outcome, reason: EndReason, holder: Identity) {
        let (id, number) = txn.clone();
        let before = self.holder.get(&id).copied().unwrap_or(holder);
        let once = self.ended.insert(txn.clone(), outcome).is_none();
        self.findings.holds(once, "NoTornTxn", "a transaction has one outcome");
        let waits = reason == EndReason::Expired && self.prepared.remove(&id);
        self.findings.holds(!waits, "NoTornTxn", "what is prepared waits for its owner (D3)");
        self.prepared.remove(&id);
        let raised = reason == EndReason::Requested || holder > before;
        self.findings.holds(raised, "FenceZombie", "whoever did not ask for the end is fenced");
        let epoch = if holder.id == before.id { holder.epoch } else { ProducerEpoch::FENCED_FOR_GOOD };
        for partition in self.enrolled.get(txn).into_iter().flatten() {
            self.owed.insert((*partition, before.id, number), (outcome, epoch));
        }
        if let (Some(offset), Outcome::Commit) = (self.staged.remove(txn), outcome) {
            self.committed = Some(offset);
        }
        self.last_ended.insert(id.clone(), (number, outcome));
        self.touched.insert(id.clone());
        self.held(&id, holder);
    }

    fn marked(&mut self, marker: &MarkerWritten) {
        self.place(marker.partition, marker.offset, 1);
        let MarkerWritten { partition, producer, number, .. } = *marker;
        let owed = self.owed.remove(&(partition, producer.id, number));
        self.findings.holds(owed.is_some(), "MarkerExactlyOnce", "each marker is owed, and once");
        if let Some((outcome, epoch)) = owed {
            self.findings.holds(marker.outcome == outcome, "NoTornTxn", "a marker says what was decided");
            self.findings.holds(producer.epoch == epoch, "FenceZombie", "a marker carries the raised epoch");
        }
        let fence = self.fenced_below.entry((partition, producer.id)).or_insert(producer.epoch);
        self.findings.holds(producer.epoch >= *fence, "EpochMonotone", "a partition's epochs never go back");
        *fence = producer.epoch;
        self.open.remove(&(partition, producer.id));
    }

    pub(super) fn said(&mut self, said: &Said) {
        match *said {
            Said::Initialized { id: None, answer, .. } => {
                answer.iter().for_each(|identity| self.given(identity.id, None));
            }
            Said::Initialized { id: Some(id), current, connection, answer } => {
                if answer.is_ok() {
                    self.taken_over(&id_of(id), current, connection);
                }
            }
            Said::Produced { sent, answer } => self.produced(sent, answer),
            Said::ProducedAndCommitted { sent, answer, holder } => {
                self.produced(sent, answer);
                if let (Some(id), Some(next)) = (sent.id, holder) {
                    let whole = answer.is_ok() || !self.touched.contains(&id_of(id));
                    let says = "a commit with the last records is of all of them (O13)";
                    self.findings.holds(whole, "NoTornTxn", says);
                    let end = Ending { outcome: Outcome::Commit, protocol: Protocol::V2 };
                    self.coordinated(id, sent.identity, None);
                    self.end_answered(&id_of(id), sent.identity, end, next);
                }
            }
            Said::Enrolled { id, identity, connection } => {
                self.coordinated(id, identity, Some((CoordinatorKind::Transaction, connection)));
            }
            Said::Staged { id, identity, connection } => {
                self.coordinated(id, identity, Some((CoordinatorKind::Group, connection)));
            }
            Said::Ended { id, identity, end, connection, answer } => {
                let counts = end.protocol == Protocol::V1;
                self.coordinated(id, identity, counts.then_some((CoordinatorKind::Transaction, connection)));
                answer.iter().for_each(|next| self.end_answered(&id_of(id), identity, end, *next));
            }
            Said::Forced { id, number, answer } => {
                let ended = self.last_ended.get(&id_of(id)).map(|(ended, _)| *ended);
                let named = answer.is_err() || ended == Some(number);
                self.findings.holds(named, "NoTornTxn", "an operator ends what he names, and no other (O11)");
            }
            Said::Aged { id, identity } => drop(self.holder.insert(id_of(id), identity)),
        }
    }

    fn taken_over(&mut self, id: &TransactionalId, current: Option<Identity>, connection: u64) {
        let before = self.before.get(id).copied();
        let recoverable = self.recoverable.get(id).copied().flatten();
        let may = current.is_none() || before.is_none() || current == before || current == recoverable;
        self.findings.holds(may, "FenceZombie", "who was fenced takes over (P7)");
        self.connections.insert((id.clone(), CoordinatorKind::Transaction), connection);
        self.connections.remove(&(id.clone(), CoordinatorKind::Group));
    }

    /// A request in the name of an identity, over a connection if that counts.
    fn coordinated(&mut self, id: usize, identity: Identity, over: Option<(CoordinatorKind, u64)>) {
        let id = id_of(id);
        let retired = self.retired.contains(&identity.id);
        let (acted, holds) =
            (self.touched.contains(&id), self.before.get(&id) == Some(&identity) && !retired);
        self.findings.holds(!acted || holds, "FenceZombie", "a request of an old holder takes effect");
        let Some((kind, connection)) = over else { return };
        let newest = self.connections.entry((id, kind)).or_insert(0);
        let late = connection < *newest;
        if holds && !late {
            *newest = connection;
        }
        self.findings.holds(!acted || !late, "NoTornTxn", "a delayed request takes effect (E10)");
    }

    fn end_answered(&mut self, id: &TransactionalId, identity: Identity, end: Ending, next: Identity) {
        let outcome = self.last_ended.get(id).map(|(_, outcome)| *outcome);
        let told = outcome == Some(end.outcome) && !self.retired.contains(&identity.id);
        self.findings.holds(told, "NoLostWrite", "the outcome that is answered is the outcome");
        let raised = end.protocol == Protocol::V1 || next > identity;
        self.findings.holds(raised, "FenceZombie", "the end of a version-2 transaction raises the epoch");
    }

    fn produced(&mut self, sent: Sent, answer: Result<Appended, Refusal>) {
        let (identity, partition) = (sent.identity, self.partition(sent.partition));
        let newest = self.remembered.get(&(partition, identity)).into_iter().flatten();
        let known = newest.clone().find(|(sequences, _)| *sequences == sent.sequences());
        let known = known.map(|(_, offset)| *offset);
        let fence = self.fenced_below.get(&(partition, identity.id)).copied();
        match answer {
            Ok(appended) => {
                let there = known == Some(appended.base_offset);
                self.findings.holds(there, "NoLostWrite", "what is acknowledged is stored there");
                let holds = sent.id.is_none_or(|id| self.before.get(&id_of(id)) == Some(&identity));
                let taken = appended.duplicate || holds;
                self.findings.holds(taken, "FenceZombie", "a batch of an old holder is stored");
            }
            Err(refusal) => {
                if let Some(key) = sent.key {
                    self.key_refused(key, &sent, refusal);
                }
                let remembered = known.is_some() && fence == Some(identity.epoch);
                self.findings.holds(!remembered, "NoDuplicate", "one of the newest five is known (A3)");
                let sequences = sent.sequences();
                let stored = (sequences.first.get()..=sequences.last.get())
                    .all(|sequence| self.sequences.contains(&(partition, identity, sequence)));
                let said = refusal != Refusal::DuplicateSequence || stored;
                self.findings.holds(said, "NoLostWrite", "DUPLICATE is said of what is stored (A9)");
            }
        }
    }

    fn partition(&self, index: i32) -> PartitionId {
        PartitionId::new(self.topic, PartitionIndex(index))
    }

    /// A partition as readers see it: its row, and the ranges of aborted transactions (producer, first offset, marker).
    pub(crate) fn reads(
        &mut self,
        partition: PartitionId,
        row: &PartitionRow,
        aborted: &[(ProducerId, Offset, Offset)],
    ) {
        let next = self.next_offset.get(&partition).copied().unwrap_or_default();
        let lso = row.last_stable_offset();
        let durable = row.next_offset <= next;
        self.findings.holds(durable, "DurableBeforeVisible", "the high watermark is what is durable");
        self.findings.holds(row.next_offset >= next, "NoLostWrite", "what is durable is readable");
        let before = self.last_stable.insert(partition, lso).unwrap_or_default();
        let forward = lso >= before;
        self.findings.holds(forward, "CommittedPrefixStable", "the last stable offset never goes back");
        let open = self.open.iter().filter(|((of, _), _)| *of == partition);
        let stable = open.map(|(_, (_, first))| *first).min().unwrap_or(next);
        self.findings.holds(lso <= stable, "NoUncommittedRead", "readers wait for what is open");
        self.findings.holds(lso >= stable, "LsoAdvances", "only what is open holds readers back");
        let here = self.batches.iter().filter(|batch| batch.partition == partition);
        for batch in here.filter(|batch| batch.base_offset < lso) {
            let Some(txn) = &batch.transaction else { continue };
            let (first, end) = (batch.base_offset, batch.base_offset.plus(i64::from(batch.records)));
            let dropped = aborted.iter().any(|(producer, begins, marker)| {
                *producer == batch.producer && *begins <= first && end <= *marker
            });
            let outcome = self.ended.get(txn);
            self.findings.holds(outcome.is_some(), "NoUncommittedRead", "what is read is decided");
            let aborts = outcome == Some(&Outcome::Abort);
            self.findings.holds(dropped || !aborts, "NoAbortedRead", "records of an abort are left out");
            self.findings.holds(aborts || !dropped, "NoLostWrite", "records of a commit are read");
        }
    }

    /// What a shard acknowledges, once it is acknowledged: a batch that begins there,
    pub(crate) fn is_stored(&mut self, partition: PartitionId, base_offset: Offset) {
        let mut batches = self.batches.iter();
        let stored = batches.any(|batch| batch.partition == partition && batch.base_offset == base_offset);
        self.findings.holds(stored, "DurableBeforeVisible", "what is acknowledged is durable");
    }

    /// an id's holder,
    pub(crate) fn is_held(&mut self, id: &TransactionalId, identity: Identity) {
        let held = self.holder.get(id).is_some_and(|holder| *holder >= identity);
        self.findings.holds(held, "DurableBeforeVisible", "an identity that is given out is durable");
    }

    /// and an outcome, with the identity after it.
    pub(crate) fn is_ended(&mut self, id: &TransactionalId, outcome: Outcome, next: Identity) {
        let ended = self.last_ended.get(id).map(|(_, outcome)| *outcome) == Some(outcome);
        self.findings.holds(ended, "DurableBeforeVisible", "an outcome that is answered is durable");
        self.is_held(id, next);
    }

    /// The group's offset, where only transactions commit one.
    pub(crate) fn offset(&mut self, told: Option<Offset>) {
        let same = told == self.committed;
        self.findings.holds(same, "OffsetsAtomicWithTxn", "committed offsets are those of commits");
    }

    /// The group's offset as readers of a shard see it, where each commit's is higher than the one before.
    pub(crate) fn shows_offset(&mut self, told: Option<Offset>) {
        self.findings.holds(told <= self.committed, "DurableBeforeVisible", "the offset shown is durable");
        self.findings.holds(
            told >= self.committed,
            "NoLostWrite",
            "the offset shown is the newest durable one",
        );
    }
}
