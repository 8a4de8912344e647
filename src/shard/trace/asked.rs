//! Commands and their answers as messages of the specification (`tla/Trace.tla`, `Act`).

use super::rows::{Seen, identity, outcome};
use crate::core::*;
use crate::types::*;
use serde_json::{Value, json};

/// What was asked, in the specification's terms.
#[derive(Default)]
pub(super) struct Asked {
    /// The version of the transaction protocol.
    pub(super) version: u8,
    /// One for each partition, offset or batch that was asked about.
    pub(super) messages: Vec<Value>,
    /// One for each message.
    pub(super) answers: Vec<Value>,
    /// Rows that the answers depend on, and those that may change.
    pub(super) rows: Vec<RowKey>,
    /// Whose transaction it is about.
    pub(super) transactional_id: Option<TransactionalId>,
}

/// The error that the specification calls a refusal; none if it has no such refusal.
fn error(refusal: Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::OutOfOrderSequence => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        Refusal::DuplicateSequence => "DUPLICATE_SEQUENCE_NUMBER",
        Refusal::StaleEpoch => "INVALID_PRODUCER_EPOCH",
        Refusal::Fenced => "FENCED",
        Refusal::ProducerIdMapping => "INVALID_PRODUCER_ID_MAPPING",
        Refusal::TransactionState | Refusal::NotEnrolled => "INVALID_TXN_STATE",
        Refusal::NotCoordinator => "NOT_COORDINATOR",
        Refusal::IllegalGeneration => "ILLEGAL_GENERATION",
        _ => return None,
    })
}

fn protocol_version(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::V1 => 1,
        Protocol::V2 => 2,
    }
}

fn done() -> Value {
    json!({"error": "NONE"})
}

fn handed(holder: Identity) -> Value {
    json!({"error": "NONE", "pid": holder.id.0, "epoch": holder.epoch.0})
}

impl Asked {
    /// A command, and what was answered to it.
    pub(super) fn new(seen: &Seen<'_>, command: &Command, reply: Option<&Reply>) -> Asked {
        let mut asked = Asked { version: 2, ..Asked::default() };
        match (command, reply) {
            (Command::InitProducerId(init), Some(Reply::Identity(answer))) => {
                asked.init_producer_id(init, answer.map(handed));
            }
            (Command::InitProducerId(init), Some(Reply::Kept(kept))) => {
                let prepared = json!({"prepared": identity(kept.prepared)});
                asked.init_producer_id(init, Ok(with(handed(kept.holder), prepared)));
            }
            (Command::Produce(produce), Some(Reply::Produced(answers))) => asked.produce(produce, answers),
            (Command::ProduceAndCommit(commit), Some(Reply::ProducedAndCommitted(answers, holder))) => {
                asked.produce(&commit.last, answers);
                if let Some(holder) = holder {
                    asked.end_transaction(&commit.end(), Ok(*holder));
                }
            }
            (Command::Enrol(enrol), Some(Reply::Each(answers))) => asked.enrol(enrol, answers),
            (Command::EnrolGroup { producer, group }, Some(Reply::Done(answer))) => {
                asked.version = 1;
                let more = json!({"group": group.as_str()});
                asked.of_producer("AddOffsetsToTxn", producer, more, answer.map(|()| done()));
            }
            (Command::StageOffsets(stage), Some(Reply::Each(answers))) => {
                asked.stage_offsets(seen, stage, answers);
            }
            (Command::EndTxn(end), Some(Reply::Identity(answer))) => asked.end_transaction(end, *answer),
            (Command::PrepareTxn(prepare), Some(Reply::Done(answer))) => {
                let more = json!({"timed": prepare.timeout.is_some()});
                asked.of_producer("PrepareTxn", &prepare.producer, more, answer.map(|()| done()));
            }
            (Command::CommitOffsets { member, offsets }, Some(Reply::Each(answers))) => {
                asked.commit_offsets(seen, member, offsets, answers);
            }
            _ => asked.of_nobody(seen, command, reply),
        }
        if seen.before(&RestoredRow::key(&())).flatten().is_some() {
            asked.rows.push(RestoredRow::key(&()));
        }
        if let Some(id) = asked.transactional_id.clone() {
            asked.rows.push(TransactionRow::key(&id));
            for kind in [CoordinatorKind::Transaction, CoordinatorKind::Group] {
                asked.rows.push(CoordinatorRow::key(&CoordinatorKey { transactional_id: id.clone(), kind }));
            }
            asked.closing(seen, &id);
        }
        asked
    }

    /// A message and its answer. Of what is refused for a reason that the specification does not have, nothing is said.
    fn push(&mut self, message: Value, answer: Result<Value, Refusal>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => match error(refusal) {
                Some(error) => json!({"error": error}),
                None => return,
            },
        };
        self.messages.push(message);
        self.answers.push(answer);
    }

    fn of_producer(
        &mut self,
        what: &str,
        producer: &TransactionalProducer,
        more: Value,
        answer: Result<Value, Refusal>,
    ) {
        self.transactional_id = Some(producer.transactional_id.clone());
        let message = json!({
            "type": what,
            "tid": producer.transactional_id.as_str(),
            "pid": producer.identity.id.0,
            "epoch": producer.identity.epoch.0,
            "conn": producer.connection.0,
        });
        self.push(with(message, more), answer);
    }

    fn init_producer_id(&mut self, init: &InitProducerId, answer: Result<Value, Refusal>) {
        self.rows.push(RowKey::NextProducerId(()));
        let Some((id, connection)) = &init.transactional_id else {
            return self.push(json!({"type": "AssignProducerId"}), answer);
        };
        self.transactional_id = Some(id.clone());
        let keep = match init.two_phase {
            TwoPhase::Unaware => None,
            TwoPhase::Keep => Some(true),
            TwoPhase::Abort => Some(false),
        };
        let message = json!({
            "type": "InitProducerId",
            "tid": id.as_str(),
            "pid": init.current.map(|current| current.id.0),
            "epoch": init.current.map(|current| current.epoch.0),
            "keep": keep,
            "conn": connection.0,
        });
        self.push(message, answer);
    }

    fn produce(&mut self, produce: &Produce, answers: &[Result<Appended, NotAppended>]) {
        self.version = protocol_version(produce.protocol);
        self.transactional_id.clone_from(&produce.transactional_id);
        for (ProduceBatch { partition, batch }, answer) in produce.batches.iter().zip(answers) {
            let p = partition.to_string();
            self.rows.extend([PartitionRow::key(partition), OpenTransactionsRow::key(partition)]);
            let stored = match answer {
                Ok(at) => Ok(json!({"error": "NONE", "offset": at.base_offset.0})),
                Err(not) => Err(not.refusal),
            };
            let Some(producer) = &batch.producer else {
                self.push(json!({"type": "ProducePlain", "p": p, "records": batch.records}), stored);
                continue;
            };
            let key = ProducerKey { partition: *partition, producer: producer.identity.id };
            self.rows.push(ProducerRow::key(&key));
            let sequences = SequenceRange::starting_at(producer.first_sequence, batch.records);
            let tid = produce.transactional_id.as_ref().map(TransactionalId::as_str);
            let (what, tid) = match (producer.transactional, tid) {
                (true, Some(tid)) => ("Produce", Some(tid)),
                // It belongs to nobody, and is refused.
                (true, None) => continue,
                (false, _) => ("ProduceIdempotent", None),
            };
            let message = json!({
                "type": what, "tid": tid, "p": p, "op": null,
                "pid": producer.identity.id.0, "epoch": producer.identity.epoch.0,
                "first": sequences.first.get(), "last": sequences.last.get(),
            });
            self.push(message, stored);
        }
    }

    fn enrol(&mut self, enrol: &Enrol, answers: &[Result<(), Refusal>]) {
        self.version = 1;
        self.transactional_id = Some(enrol.producer.transactional_id.clone());
        for (partition, answer) in enrol.partitions.iter().zip(answers) {
            let more = json!({"p": partition.to_string()});
            self.of_producer("AddPartitionsToTxn", &enrol.producer, more, answer.map(|()| done()));
            self.rows.push(PartitionRow::key(partition));
        }
    }

    fn stage_offsets(&mut self, seen: &Seen<'_>, stage: &StageOffsets, answers: &[Result<(), Refusal>]) {
        self.version = protocol_version(stage.protocol);
        self.transactional_id = Some(stage.producer.transactional_id.clone());
        let holder = seen.transaction(&stage.producer.transactional_id).map(|row| row.runs_under().id);
        for (offset, answer) in stage.offsets.iter().zip(answers) {
            let key = self.offset_rows(&stage.member.group, offset.partition);
            if let Some(producer) = holder {
                self.rows.push(PendingOffsetRow::key(&PendingOffsetKey { offset: key, producer }));
            }
            let answer = match of_generation(seen, &stage.member.group, *answer) {
                Err(Refusal::Fenced) => Err(Refusal::StaleEpoch),
                other => other,
            };
            let more = with(offset_of(seen, &stage.member, offset), json!({"op": null}));
            self.of_producer("TxnOffsetCommit", &stage.producer, more, answer.map(|()| done()));
        }
    }

    fn commit_offsets(
        &mut self,
        seen: &Seen<'_>,
        member: &GroupMember,
        offsets: &[OffsetToCommit],
        answers: &[Result<(), Refusal>],
    ) {
        for (offset, answer) in offsets.iter().zip(answers) {
            self.offset_rows(&member.group, offset.partition);
            let answer = match of_generation(seen, &member.group, *answer) {
                Err(Refusal::IllegalGeneration) => Ok(json!({"error": "REFUSED"})),
                other => other.map(|()| done()),
            };
            self.push(with(json!({"type": "CommitOffsets"}), offset_of(seen, member, offset)), answer);
        }
    }

    fn offset_rows(&mut self, group: &GroupId, partition: PartitionId) -> GroupOffsetKey {
        let key = GroupOffsetKey { group: group.clone(), partition };
        self.rows.extend([GroupRow::key(group), CommittedOffset::key(&key)]);
        key
    }

    fn end_transaction(&mut self, end: &EndTxn, answer: Result<Identity, Refusal>) {
        self.version = protocol_version(end.protocol);
        self.rows.push(RowKey::NextProducerId(()));
        let more = json!({"commit": end.outcome == Outcome::Commit});
        self.of_producer("EndTxn", &end.producer, more, answer.map(handed));
    }

    /// What no producer asks for.
    fn of_nobody(&mut self, seen: &Seen<'_>, command: &Command, reply: Option<&Reply>) {
        match command {
            Command::Expire { timer: Timer::Transaction(id) }
                if seen.has_changed(&TransactionRow::key(id)) =>
            {
                self.ends("Expire", id, json!({}));
            }
            Command::RestoreLog { .. } => {
                if let Some(ids_from) = seen.after(&RestoredRow::key(&())).and_then(RestoredRow::of) {
                    self.rows.extend([RowKey::NextProducerId(()), RestoredRow::key(&())]);
                    self.push(json!({"type": "RestoreLog", "ids": ids_from.ids_from.0}), Ok(done()));
                }
            }
            Command::EndByOperator(by) => {
                let commit = by.outcome == Outcome::Commit;
                let message = json!({"commit": commit, "number": by.number.map(|number| number.0)});
                match reply {
                    Some(Reply::Done(Ok(()))) => self.ends("EndByOperator", &by.transactional_id, message),
                    Some(Reply::Done(Err(Refusal::TransactionState))) => {
                        self.ends("EndByOperator", &by.transactional_id, message);
                        self.answers = vec![json!({"error": "REFUSED"})];
                    }
                    _ => {}
                }
            }
            Command::ForceAbort(abort) => {
                let owner = seen.before(&ProducerOwnerRow::key(&abort.producer.id)).flatten();
                let id = owner.and_then(ProducerOwnerRow::of).map(|owner| owner.transactional_id.clone());
                if let Some(id) = id.filter(|id| seen.has_changed(&TransactionRow::key(id))) {
                    self.ends("EndByOperator", &id, json!({"commit": false, "number": null}));
                }
            }
            Command::ExpireTransactionalId(expire) => {
                let id = &expire.key.transactional_id;
                if seen.has_changed(&TransactionRow::key(id)) {
                    self.ends("ExpireTransactionalId", id, json!({}));
                }
            }
            Command::ExpireProducer(expire) => {
                let key = &expire.key.producer;
                if seen.has_changed(&ProducerRow::key(key)) {
                    let (p, pid) = (key.partition.to_string(), key.producer.0);
                    self.push(json!({"type": "ExpireProducer", "p": p, "pid": pid}), Ok(done()));
                    self.rows.push(PartitionRow::key(&key.partition));
                }
            }
            Command::DeleteRecords { partition, to }
            | Command::ExpireRecords(ExpireRecords { partition, to, .. })
                if seen.has_changed(&PartitionRow::key(partition)) =>
            {
                let (p, offset) = (partition.to_string(), to.offset.0);
                self.push(json!({"type": "DeleteRecords", "p": p, "offset": offset}), Ok(done()));
                self.rows.push(OpenTransactionsRow::key(partition));
            }
            _ => {}
        }
    }

    fn ends(&mut self, what: &str, id: &TransactionalId, more: Value) {
        self.transactional_id = Some(id.clone());
        self.rows.push(RowKey::NextProducerId(()));
        self.push(with(json!({"type": what, "tid": id.as_str()}), more), Ok(done()));
    }

    /// If the transaction of an id has ended: the rows of everything that it was in.
    fn closing(&mut self, seen: &Seen<'_>, id: &TransactionalId) {
        const ENDS: [&str; 4] = ["InitProducerId", "EndTxn", "Expire", "EndByOperator"];
        let ends = self.messages.iter().any(|message| ENDS.iter().any(|end| message["type"] == *end));
        let changed = seen.has_changed(&TransactionRow::key(id));
        let Some(row) = seen.transaction(id).filter(|_| ends && changed) else { return };
        let Some(open) = row.state.open() else { return };
        let producer = row.runs_under().id;
        for partition in &open.partitions {
            let key = ProducerKey { partition: *partition, producer };
            self.rows.extend([
                PartitionRow::key(partition),
                OpenTransactionsRow::key(partition),
                ProducerRow::key(&key),
            ]);
        }
        for offset in &open.offsets {
            let key = PendingOffsetKey { offset: offset.clone(), producer };
            self.rows.extend([
                GroupRow::key(&offset.group),
                CommittedOffset::key(offset),
                PendingOffsetRow::key(&key),
            ]);
        }
    }
}

/// The newest generation of a group, if it has had one.
fn generation(seen: &Seen<'_>, group: &GroupId) -> Option<Generation> {
    seen.before(&GroupRow::key(group)).flatten().and_then(GroupRow::of).map(|row| row.generation)
}

/// Where there is no generation, none is wrong: it is refused for want of the member.
fn of_generation(seen: &Seen<'_>, group: &GroupId, answer: Result<(), Refusal>) -> Result<(), Refusal> {
    match answer {
        Err(Refusal::IllegalGeneration) if generation(seen, group).is_none() => Err(Refusal::UnknownMember),
        other => other,
    }
}

/// Whether a group is of the consumer protocol. The specification does not have those: whose epoch may commit,
/// `spec/groups.md` decides (G9).
fn is_of_consumers(seen: &Seen<'_>, group: &GroupId) -> bool {
    seen.before(&ConsumerGroupRow::key(group)).flatten().is_some()
}

/// The offset, and the generation that is claimed; who claims none is of the newest one.
fn offset_of(seen: &Seen<'_>, member: &GroupMember, offset: &OffsetToCommit) -> Value {
    let newest = || generation(seen, &member.group).map_or(0, |newest| newest.0);
    let claims_none = member.generation.0 < 0 || is_of_consumers(seen, &member.group);
    let generation = if claims_none { newest() } else { member.generation.0 };
    json!({
        "group": member.group.as_str(),
        "input": offset.partition.to_string(),
        "offset": offset.offset.0,
        "generation": generation,
    })
}

fn with(mut message: Value, more: Value) -> Value {
    if let (Value::Object(message), Value::Object(more)) = (&mut message, more) {
        message.extend(more);
    }
    message
}

/// What the step has added to logs: entries of the specification, with their partitions.
pub(super) fn appended(events: &[Event], id: Option<&TransactionalId>) -> Vec<Value> {
    let tid = id.map(TransactionalId::as_str);
    let transaction =
        |producer: Identity, number: TxnNumber| json!({"tid": tid, "pid": producer.id.0, "number": number.0});
    let entry = |event: &Event| match event {
        Event::BatchAppended(BatchAppended { partition, base_offset, records, producer, .. }) => {
            let entry = match producer {
                Some(append) => json!({
                    "kind": "data", "offset": base_offset.0, "op": null,
                    "pid": append.identity.id.0, "epoch": append.identity.epoch.0,
                    "first": append.sequences.first.get(), "last": append.sequences.last.get(),
                    "txn": append.transaction.map(|number| transaction(append.identity, number)),
                }),
                None => json!({"kind": "plain", "offset": base_offset.0, "records": records}),
            };
            Some(json!([partition.to_string(), entry]))
        }
        Event::MarkerWritten(marker) => Some(json!([marker.partition.to_string(), {
            "kind": "marker", "offset": marker.offset.0, "outcome": outcome(marker.outcome),
            "pid": marker.producer.id.0, "epoch": marker.producer.epoch.0,
            "txn": transaction(marker.producer, marker.number),
        }])),
        _ => None,
    };
    events.iter().filter_map(entry).collect()
}
