//! Idempotent and transactional append (`spec/transactions.md`, "Idempotent append" and "Enrolment").

use super::keys::{InTransaction, accept_keys, judge_keys, rows_of_keys};
use super::open::{count_enrolled, count_open, is_enrolled, require_enrolled, require_joined, rows_of_open};
use super::restore::predates_restore;
use super::transactions::{check_enrols, end_transaction, enrolment, find_holder, limit_deadline};
use crate::core::commands::{
    Appended, BatchFacts, BatchProducer, NotAppended, Now, Produce, ProduceAndCommit, ProduceBatch, Protocol,
    Refusal, Reply,
};
use crate::core::draft::{Draft, Need};
use crate::core::events::{BatchAppended, Enrolment, Event, ProducerAppend};
use crate::core::limits::{OPEN_TRANSACTIONS_PER_PARTITION_MAX, PARTITIONS_PER_TRANSACTION_MAX};
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// Stores each batch of a request on its own merits.
pub(super) fn produce(
    rows: &mut Draft<'_>,
    now: Now,
    produce: &Produce,
) -> Result<Vec<Result<Appended, NotAppended>>, Need> {
    // Mostly all rows are at hand, and to look for each of them beforehand would be much of the work. If one is not, all that are
    // not are asked for at once.
    if let Ok(answers) = append_batches(rows, now, produce) {
        return Ok(answers);
    }
    rows.take_back();
    require_rows(rows, produce)?;
    append_batches(rows, now, produce)
}

/// `AppendBatch` for each batch, and then `EndTransaction(Commit)`, as one decision: only if all are stored, or if this request
/// has done so before (O13). What is stored otherwise stays in the open transaction.
pub(super) fn produce_and_commit(
    rows: &mut Draft<'_>,
    now: Now,
    commit: &ProduceAndCommit,
) -> Result<Reply, Need> {
    let stored = produce(rows, now, &commit.last)?;
    let row = rows.get::<TransactionRow>(&commit.producer.transactional_id)?;
    let is_over = row.is_some_and(|row| matches!(row.state, TransactionState::Complete(_)));
    let is_whole = stored.iter().all(Result::is_ok) || mutated(Mutant::CommittedInPart);
    if !(is_whole || is_over) {
        return Ok(Reply::ProducedAndCommitted(stored, None));
    }
    let ended = end_transaction(rows, now, &commit.end())?;
    Ok(Reply::ProducedAndCommitted(stored, ended.ok()))
}

fn append_batches(
    rows: &mut Draft<'_>,
    now: Now,
    produce: &Produce,
) -> Result<Vec<Result<Appended, NotAppended>>, Need> {
    let mut answers = Vec::with_capacity(produce.batches.len());
    rows.expect_appends(produce.batches.len());
    for (index, batch) in produce.batches.iter().enumerate() {
        answers.push(append_batch(rows, now, produce, batch, index)?);
    }
    Ok(answers)
}

/// Asks for the rows that the batches are judged by, and for those that change with them.
fn require_rows(rows: &Draft<'_>, produce: &Produce) -> Result<(), Need> {
    rows.require(produce.batches.iter().flat_map(|batch| rows_of(produce, batch)))?;
    require_joined(rows, produce.batches.iter().filter_map(joining))?;
    if let Some(id) = &produce.transactional_id {
        let partitions = produce.batches.iter().filter_map(joining).map(|joining| joining.partition);
        require_enrolled(rows, id, &partitions.collect())?;
    }
    Ok(())
}

/// Whose transaction may come to a partition with this batch.
fn joining(batch: &ProduceBatch) -> Option<ProducerKey> {
    let producer = batch.batch.producer.as_ref().filter(|producer| producer.transactional)?;
    Some(ProducerKey { partition: batch.partition, producer: producer.identity.id })
}

/// The rows that a batch is judged by.
fn rows_of(produce: &Produce, batch: &ProduceBatch) -> Vec<RowKey> {
    let partition = batch.partition;
    let mut keys = vec![
        TopicRow::key(&partition.topic),
        PartitionRow::key(&partition),
        LeaderEpochsRow::key(&partition),
    ];
    keys.extend(rows_of_keys(partition.topic, &batch.batch, produce.transactional_id.as_ref()));
    if let Some(producer) = &batch.batch.producer {
        keys.push(ProducerRow::key(&ProducerKey { partition, producer: producer.identity.id }));
        if producer.transactional {
            keys.extend(rows_of_open(partition, producer.identity.id));
            keys.extend(produce.transactional_id.as_ref().map(TransactionRow::key));
        }
    }
    keys
}

/// What a partition makes of a producer's batch.
enum Verdict {
    /// It is the next one.
    Append,
    /// It is stored, there.
    Duplicate(RememberedBatch),
}

fn append_batch(
    rows: &mut Draft<'_>,
    now: Now,
    produce: &Produce,
    ProduceBatch { partition, batch }: &ProduceBatch,
    index: usize,
) -> Result<Result<Appended, NotAppended>, Need> {
    let partition = *partition;
    let Some(log_start) = rows.get::<PartitionRow>(&partition)?.map(|row| row.log_start) else {
        return Ok(Err(Refusal::UnknownPartition.into()));
    };
    if let Some(producer) = &batch.producer {
        let row = rows.get::<ProducerRow>(&ProducerKey { partition, producer: producer.identity.id })?;
        let predates = predates_restore(rows, producer.identity.id)?;
        match judge(row, producer, batch.records, produce.protocol, predates) {
            Err(refusal) => return Ok(Err(refusal.into())),
            Ok(Verdict::Duplicate(batch)) => {
                let RememberedBatch { base_offset, append_time, .. } = batch;
                return Ok(Ok(Appended { base_offset, append_time, log_start, duplicate: true }));
            }
            Ok(Verdict::Append) => {}
        }
    }
    if !is_timely(rows, now, partition, batch)? {
        return Ok(Err(Refusal::InvalidTimestamp.into()));
    }
    // Nothing is stated before all has been judged: what is refused enrols nothing and takes no key.
    let transaction = match batch.producer.as_ref().filter(|producer| producer.transactional) {
        None => None,
        Some(producer) => match find_transaction(rows, now, produce, partition, producer)? {
            Ok(transaction) => Some(transaction),
            Err(refusal) => return Ok(Err(refusal.into())),
        },
    };
    let taker = transaction.as_ref().map(|transaction| transaction.taker.1);
    if let Err(refused) = judge_keys(rows, now, partition.topic, &batch.keys, taker)? {
        return Ok(Err(refused));
    }
    if let Some(InThis { enrols: Some(enrolment), taker: (id, _) }) = &transaction {
        rows.enrol(enrolment, partition)?;
        limit_deadline(rows, now, id, [partition.topic])?;
    }
    let taker = transaction.map(|transaction| transaction.taker);
    let number = taker.as_ref().map(|(_, transaction)| transaction.number);
    let appended = state_append(rows, now, partition, batch, number, index)?;
    accept_keys(rows, now, partition, appended.base_offset, &batch.keys, taker)?;
    Ok(Ok(Appended { log_start, ..appended }))
}

/// Whether the topic lets its producers stamp records so. Where it stamps them itself, theirs do not count.
fn is_timely(rows: &Draft<'_>, now: Now, partition: PartitionId, batch: &BatchFacts) -> Result<bool, Need> {
    Ok(rows.get::<TopicRow>(&partition.topic)?.is_none_or(|topic| {
        topic.stamps_append_time()
            || topic.allows_timestamps(batch.oldest_timestamp, batch.max_timestamp, now.wall)
    }))
}

/// Judges a batch by what the partition remembers of its producer: a repetition, also of what is in a transaction, is one
/// whatever it says of itself (A3); only what would be appended is held against the open transaction (A1).
fn judge(
    row: Option<&ProducerRow>,
    producer: &BatchProducer,
    records: u32,
    protocol: Protocol,
    predates_restore: bool,
) -> Result<Verdict, Refusal> {
    let verdict = judge_sequence(row, producer, records, protocol, predates_restore)?;
    let is_open = row.is_some_and(|row| row.open.is_some());
    match verdict {
        Verdict::Append if is_open && !producer.transactional => Err(Refusal::TransactionState),
        verdict => Ok(verdict),
    }
}

fn judge_sequence(
    row: Option<&ProducerRow>,
    producer: &BatchProducer,
    records: u32,
    protocol: Protocol,
    predates_restore: bool,
) -> Result<Verdict, Refusal> {
    let sequences = SequenceRange::starting_at(producer.first_sequence, records);
    let starts = sequences.first == Sequence::FIRST;
    let Some(row) = row else {
        // A producer that is not known here may go on where it was (KIP-360): its id may have expired here. So does one whose
        // first batch was refused for want of space while the next one was not (`testing.md`, "Why A5 stays as it is"). In
        // version 2 each transaction has an epoch of its own, and so starts at 0. Where the log was restored, what went before
        // may be gone (B2).
        let goes_on = !(predates_restore || producer.transactional && protocol == Protocol::V2);
        return if starts || goes_on { Ok(Verdict::Append) } else { Err(Refusal::OutOfOrderSequence) };
    };
    if producer.identity.epoch < row.epoch && !mutated(Mutant::EpochNotCompared) {
        return Err(Refusal::StaleEpoch);
    }
    let remembered = if producer.identity.epoch == row.epoch { row.batches.as_slice() } else { &[] };
    let Some(newest) = remembered.last() else {
        return if starts { Ok(Verdict::Append) } else { Err(Refusal::OutOfOrderSequence) };
    };
    if let Some(same) = remembered.iter().find(|batch| batch.sequences == sequences) {
        return Ok(match mutated(Mutant::DuplicateAppended) {
            true => Verdict::Append,
            false => Verdict::Duplicate(same.clone()),
        });
    }
    if sequences.first == newest.sequences.last.next() || mutated(Mutant::SequenceGapAccepted) {
        return Ok(Verdict::Append);
    }
    Err(if was_stored(row, sequences) { Refusal::DuplicateSequence } else { Refusal::OutOfOrderSequence })
}

/// Whether `sequences` lie wholly behind the oldest remembered batch and within what this epoch has stored. Clients take
/// DUPLICATE_SEQUENCE_NUMBER for success: it must never be said of records that were not stored.
fn was_stored(row: &ProducerRow, sequences: SequenceRange) -> bool {
    let Some(oldest) = row.batches.first() else { return false };
    let remembered: u64 = row.batches.iter().map(|batch| u64::from(batch.sequences.records())).sum();
    let stored_before = row.stored_in_epoch.saturating_sub(remembered);
    sequences.last.is_behind(oldest.sequences.first)
        && sequences.first.is_behind(oldest.sequences.first)
        && (u64::from(sequences.first.distance_to(oldest.sequences.first)) <= stored_before
            || mutated(Mutant::DuplicateOfUnstored))
}

/// The transaction that a batch is, or would be, in.
struct InThis {
    taker: InTransaction,
    /// What enrols the partition, if it is not enrolled yet.
    enrols: Option<Enrolment>,
}

/// Checks that a transactional batch belongs to the open transaction of its transactional id, or in version 2 enrols its
/// partition. No append without enrolment: so no transaction can hang unseen.
fn find_transaction(
    rows: &Draft<'_>,
    now: Now,
    produce: &Produce,
    partition: PartitionId,
    producer: &BatchProducer,
) -> Result<Result<InThis, Refusal>, Need> {
    let Some(transactional_id) = &produce.transactional_id else {
        return Ok(Err(Refusal::ProducerIdMapping));
    };
    let row = match find_holder(rows, transactional_id, producer.identity)? {
        Ok(row) => row,
        Err(Refusal::Fenced) => return Ok(Err(Refusal::StaleEpoch)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = check_enrols(row) {
        return Ok(Err(refusal));
    }
    let (is_enrolled, enrolled) = match &row.state {
        TransactionState::Ongoing(open) => (
            is_enrolled(rows, transactional_id, open, partition)?,
            count_enrolled(rows, transactional_id, open)?,
        ),
        _ => (false, 0),
    };
    let opened = rows
        .get::<ProducerRow>(&ProducerKey { partition, producer: producer.identity.id })?
        .is_some_and(|producer| producer.open.is_some());
    if !opened && count_open(rows, partition)? >= OPEN_TRANSACTIONS_PER_PARTITION_MAX {
        return Ok(Err(Refusal::TransactionTooLarge));
    }
    let of_number = |number| {
        let transaction = KeyTransaction { producer: producer.identity.id, number };
        (transactional_id.clone(), transaction)
    };
    let present = InThis { taker: of_number(row.number), enrols: None };
    match produce.protocol {
        _ if is_enrolled => Ok(Ok(present)),
        Protocol::V1 if mutated(Mutant::AppendWithoutEnrolment) => Ok(Ok(present)),
        Protocol::V1 => Ok(Err(Refusal::NotEnrolled)),
        Protocol::V2 if enrolled >= PARTITIONS_PER_TRANSACTION_MAX => Ok(Err(Refusal::TransactionTooLarge)),
        Protocol::V2 => {
            let enrolment = enrolment(transactional_id, row, now);
            Ok(Ok(InThis { taker: of_number(enrolment.number), enrols: Some(enrolment) }))
        }
    }
}

fn state_append(
    rows: &mut Draft<'_>,
    now: Now,
    partition: PartitionId,
    batch: &BatchFacts,
    transaction: Option<TxnNumber>,
    index: usize,
) -> Result<Appended, Need> {
    let (base_offset, before) = rows
        .get::<PartitionRow>(&partition)?
        .map_or((Offset::ZERO, Totals::default()), |row| (row.next_offset, row.totals));
    let append_time =
        rows.get::<TopicRow>(&partition.topic)?.is_some_and(TopicRow::stamps_append_time).then_some(now.wall);
    let producer = batch.producer.map(|producer| ProducerAppend {
        identity: producer.identity,
        sequences: SequenceRange::starting_at(producer.first_sequence, batch.records),
        transaction,
    });
    let appended = BatchAppended {
        partition,
        base_offset,
        records: batch.records,
        bytes: batch.bytes,
        before,
        max_timestamp: append_time.unwrap_or(batch.max_timestamp),
        append_time,
        producer,
    };
    rows.state_batch(Event::BatchAppended(appended), index)?;
    let append_time = append_time.unwrap_or(Timestamp::NONE);
    Ok(Appended { base_offset, append_time, log_start: Offset::ZERO, duplicate: false })
}
