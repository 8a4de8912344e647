//! Transactions: who holds an id, enrolment, the end (`spec/transactions.md`).

use super::open::{
    all_enrolled, count_enrolled, require_enrolled, require_left, rows_of_open, which_enrolled,
};
use super::producer_id::take_producer_id;
use super::restore::predates_restore;
use crate::core::commands::{EndTxn, Enrol, Now, Protocol, Refusal, TransactionalProducer};
use crate::core::draft::{Draft, Need};
use crate::core::events::{Enrolment, Event, MarkerWritten};
use crate::core::limits::{GROUP_ID_BYTES_MAX, GROUPS_PER_TRANSACTION_MAX, PARTITIONS_PER_TRANSACTION_MAX};
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;

/// The transactional id's row, if `identity` holds it.
pub(super) fn find_holder<'r>(
    rows: &'r Draft<'_>,
    id: &TransactionalId,
    identity: Identity,
) -> Result<Result<&'r TransactionRow, Refusal>, Need> {
    Ok(match rows.get::<TransactionRow>(id)? {
        Some(_) if predates_restore(rows, identity.id)? => Err(Refusal::Fenced),
        Some(row) if row.holder == identity => Ok(row),
        Some(row) if row.holder.id == identity.id && mutated(Mutant::HolderNotCompared) => Ok(row),
        Some(row) if row.holder.id == identity.id => Err(Refusal::Fenced),
        _ => Err(Refusal::ProducerIdMapping),
    })
}

/// What an enrolment made now says: it belongs to the open transaction, or begins the next one.
pub(super) fn enrolment(id: &TransactionalId, row: &TransactionRow, now: Now) -> Enrolment {
    let transactional_id = id.clone();
    match &row.state {
        TransactionState::Ongoing(Ongoing { began, deadline, .. }) => {
            Enrolment { transactional_id, number: row.number, began: *began, deadline: *deadline }
        }
        _ => Enrolment {
            transactional_id,
            number: if mutated(Mutant::NumberReused) { row.number } else { row.number.next() },
            began: now.wall,
            deadline: now.served.plus(row.timeout),
        },
    }
}

/// Whether anything can be added to the newest transaction of an id, or to the next one: not while one is prepared (E9).
pub(super) fn check_enrols(row: &TransactionRow) -> Result<(), Refusal> {
    match row.state {
        TransactionState::Prepared(_) if mutated(Mutant::PreparedEnrols) => Ok(()),
        TransactionState::Prepared(_) => Err(Refusal::TransactionState),
        TransactionState::Empty | TransactionState::Ongoing(_) | TransactionState::Complete(_) => Ok(()),
    }
}

/// Moves the deadline of an id's open transaction to where the budgets of these topics, in which it has just been
/// enrolled, want it (D1).
pub(super) fn limit_deadline(
    rows: &mut Draft<'_>,
    now: Now,
    id: &TransactionalId,
    topics: impl IntoIterator<Item = TopicId>,
) -> Result<(), Need> {
    let mut earliest: Option<(ServedTime, TopicId)> = None;
    for topic in topics {
        if let Some(budget) = rows.get::<TopicRow>(&topic)?.and_then(TopicRow::lso_budget) {
            let deadline = (now.served.plus(budget), topic);
            earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
    }
    let Some((deadline, topic)) = earliest else { return Ok(()) };
    let before = rows.get::<TransactionRow>(id)?.and_then(|row| row.state.open()).map(|open| open.deadline);
    match before {
        Some(before) if deadline < before => {
            rows.state(Event::DeadlineMoved { transactional_id: id.clone(), deadline, topic })
        }
        _ => Ok(()),
    }
}

/// `producer`'s row, if it holds its id, and this connection is the newest to this kind of coordinator
/// (`RefuseOlderConnection`). The requests carry nothing that tells a delayed one from a new one; the connection does, for
/// as long as it lives.
pub(super) fn find_coordinated<'r>(
    rows: &'r mut Draft<'_>,
    producer: &TransactionalProducer,
    kind: CoordinatorKind,
) -> Result<Result<&'r TransactionRow, Refusal>, Need> {
    let id = &producer.transactional_id;
    if let Err(refusal) = find_holder(rows, id, producer.identity)? {
        return Ok(Err(refusal));
    }
    let key = CoordinatorKey { transactional_id: id.clone(), kind };
    let newest = rows.get::<CoordinatorRow>(&key)?.map_or(0, |row| row.connection);
    if producer.connection.0 < newest && !mutated(Mutant::OlderConnectionCounts) {
        return Ok(Err(Refusal::NotCoordinator));
    }
    rows.put(&key, CoordinatorRow { connection: producer.connection.0 });
    find_holder(rows, id, producer.identity)
}

/// A new holder's connection is the newest to the transaction coordinator; to the other kind it has none yet, and may well
/// use an older one (E10).
pub(super) fn take_over_connections(rows: &mut Draft<'_>, id: &TransactionalId, connection: ConnectionId) {
    let key = |kind| CoordinatorKey { transactional_id: id.clone(), kind };
    rows.put(&key(CoordinatorKind::Transaction), CoordinatorRow { connection: connection.0 });
    rows.remove::<CoordinatorRow>(&key(CoordinatorKind::Group));
}

/// `EnrolPartitions`: all of them, or none.
pub(super) fn enrol_partitions(
    rows: &mut Draft<'_>,
    now: Now,
    enrol: &Enrol,
) -> Result<Vec<Result<(), Refusal>>, Need> {
    let all = |refusal| vec![Err(refusal); enrol.partitions.len()];
    let of_partition = |p: &PartitionId| [PartitionRow::key(p), TopicRow::key(&p.topic)];
    rows.require(enrol.partitions.iter().flat_map(of_partition))?;
    let row = match find_coordinated(rows, &enrol.producer, CoordinatorKind::Transaction)? {
        Ok(row) => row,
        Err(refusal) => return Ok(all(refusal)),
    };
    if let Err(refusal) = check_enrols(row) {
        return Ok(all(refusal));
    }
    let id = &enrol.producer.transactional_id;
    let enrolment = enrolment(id, row, now);
    let mut partitions: BTreeSet<PartitionId> = enrol.partitions.iter().copied().collect();
    let mut enrolled = 0;
    require_enrolled(rows, id, &partitions)?;
    if let Some(TransactionState::Ongoing(ongoing)) = rows.get::<TransactionRow>(id)?.map(|row| &row.state) {
        let known = which_enrolled(rows, id, ongoing, &partitions)?;
        enrolled = count_enrolled(rows, id, ongoing)?;
        partitions.retain(|partition| !known.contains(partition));
    }
    if enrolled + partitions.len() > PARTITIONS_PER_TRANSACTION_MAX {
        return Ok(all(Refusal::TransactionTooLarge));
    }
    let mut answers = Vec::with_capacity(enrol.partitions.len());
    for partition in &enrol.partitions {
        let known = rows.get::<PartitionRow>(partition)?.is_some();
        answers.push(if known { Ok(()) } else { Err(Refusal::UnknownPartition) });
    }
    if answers.iter().any(Result::is_err) {
        return Ok(answers.into_iter().map(|answer| answer.and(Err(Refusal::NotAttempted))).collect());
    }
    if !partitions.is_empty() {
        let topics: BTreeSet<TopicId> = partitions.iter().map(|partition| partition.topic).collect();
        rows.state(Event::PartitionsEnrolled { enrolment, partitions: partitions.into_iter().collect() })?;
        limit_deadline(rows, now, id, topics)?;
    }
    Ok(answers)
}

/// `EnrolGroup`, asked for (version 1).
pub(super) fn enrol_group(
    rows: &mut Draft<'_>,
    now: Now,
    producer: &TransactionalProducer,
    group: &GroupId,
) -> Result<Result<(), Refusal>, Need> {
    match find_coordinated(rows, producer, CoordinatorKind::Transaction)? {
        Ok(_) => state_group(rows, now, producer, group),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// The group's offsets may travel with the transaction of `producer`, which is its id's holder.
pub(super) fn state_group(
    rows: &mut Draft<'_>,
    now: Now,
    producer: &TransactionalProducer,
    group: &GroupId,
) -> Result<Result<(), Refusal>, Need> {
    let row = match find_holder(rows, &producer.transactional_id, producer.identity)? {
        Ok(row) => row,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = check_enrols(row) {
        return Ok(Err(refusal));
    }
    if group.as_str().len() > GROUP_ID_BYTES_MAX {
        return Ok(Err(Refusal::InvalidName));
    }
    if let TransactionState::Ongoing(ongoing) = &row.state {
        if ongoing.groups.contains(group) {
            return Ok(Ok(()));
        }
        if ongoing.groups.len() >= GROUPS_PER_TRANSACTION_MAX {
            return Ok(Err(Refusal::TransactionTooLarge));
        }
    }
    let enrolment = enrolment(&producer.transactional_id, row, now);
    rows.state(Event::GroupEnrolled { enrolment, group: group.clone() })?;
    Ok(Ok(()))
}

/// `EndTransaction`: commits or aborts, and says with which identity the producer goes on.
pub(super) fn end_transaction(
    rows: &mut Draft<'_>,
    now: Now,
    end: &EndTxn,
) -> Result<Result<Identity, Refusal>, Need> {
    let EndTxn { producer, outcome, protocol } = end;
    let id = &producer.transactional_id;
    // A retry, by all signs, may be of a later end that is gone (B3).
    if rows.get::<TransactionRow>(id)?.is_some() && predates_restore(rows, producer.identity.id)? {
        return Ok(Err(Refusal::Fenced));
    }
    // E10 comes before anything that version 1 is told, also that it has been told before.
    if *protocol == Protocol::V1
        && let Err(Refusal::NotCoordinator) = find_coordinated(rows, producer, CoordinatorKind::Transaction)?
    {
        return Ok(Err(Refusal::NotCoordinator));
    }
    let Some(row) = rows.get::<TransactionRow>(id)? else { return Ok(Err(Refusal::ProducerIdMapping)) };
    if let Some(answer) = retried_end(row, end) {
        return Ok(answer);
    }
    let row = match find_holder(rows, id, producer.identity)? {
        Ok(row) => row,
        Err(refusal) => return Ok(Err(refusal)),
    };
    match (&row.state, protocol, outcome) {
        (TransactionState::Ongoing(_) | TransactionState::Prepared(_), _, _) => {}
        // Nothing to abort: but the epoch is raised, so that whatever is still on its way is fenced (KIP-890).
        (_, Protocol::V2, Outcome::Abort) => {}
        _ => return Ok(Err(Refusal::TransactionState)),
    }
    close(rows, now, id, *outcome, EndReason::Requested, *protocol).map(Ok)
}

/// `RetryEndTransaction` (O4): what a request is answered that repeats the one which ended the newest transaction; none if it
/// does not.
fn retried_end(row: &TransactionRow, end: &EndTxn) -> Option<Result<Identity, Refusal>> {
    let EndTxn { producer, outcome, protocol } = end;
    let TransactionState::Complete(ended) = &row.state else { return None };
    let raises = *protocol == Protocol::V2 && row.holder == producer.identity;
    if ended.by != producer.identity || raises {
        return None;
    }
    match (ended.reason, outcome) {
        (EndReason::Requested, _) if ended.outcome == *outcome => Some(Ok(row.holder)),
        (EndReason::Requested, _) => Some(Err(Refusal::TransactionState)),
        // It was too slow, and wants what has been done anyway: a commit would be another matter.
        (reason, _) if reason.is_recoverable() && mutated(Mutant::CommitAfterAbort) => Some(Ok(row.holder)),
        (reason, Outcome::Abort) if reason.is_recoverable() && *protocol == Protocol::V2 => {
            Some(Ok(row.holder))
        }
        // An operator has decided as it was going to.
        (EndReason::Operator, Outcome::Commit) if ended.outcome == Outcome::Commit => Some(Ok(row.holder)),
        _ => None,
    }
}

/// `ExpireTransaction`: aborts a transaction whose deadline has passed. A prepared one has none but what was asked for when it
/// was prepared (D3).
pub(super) fn expire_transaction(rows: &mut Draft<'_>, now: Now, id: &TransactionalId) -> Result<(), Need> {
    let row = rows.get::<TransactionRow>(id)?;
    if let Some(TransactionRow { holder, state: TransactionState::Ongoing(_), .. }) = row
        && predates_restore(rows, holder.id)?
    {
        close(rows, now, id, Outcome::Abort, EndReason::Restored, Protocol::V2)?;
        return Ok(());
    }
    let (deadline, reason) = match row.map(|row| &row.state) {
        Some(TransactionState::Ongoing(Ongoing { deadline, budget_of: None, .. })) => {
            (Some(*deadline), EndReason::Expired)
        }
        Some(TransactionState::Ongoing(Ongoing { deadline, budget_of: Some(_), .. })) => {
            (Some(*deadline), EndReason::Budget)
        }
        Some(TransactionState::Prepared(_)) if mutated(Mutant::PreparedExpires) => {
            (Some(now.served), EndReason::Expired)
        }
        Some(TransactionState::Prepared(prepared)) => (prepared.deadline, EndReason::Expired),
        Some(TransactionState::Empty | TransactionState::Complete(_)) | None => return Ok(()),
    };
    if deadline.is_some_and(|deadline| deadline <= now.served) {
        close(rows, now, id, Outcome::Abort, reason, Protocol::V2)?;
    }
    Ok(())
}

/// Aborts the open transaction of an id that somebody else is about to hold, if it has one.
pub(super) fn fence(rows: &mut Draft<'_>, now: Now, id: &TransactionalId) -> Result<Identity, Need> {
    close(rows, now, id, Outcome::Abort, EndReason::Fenced, Protocol::V2)
}

/// Ends the newest transaction of an id: outcome, markers and offsets in one decision. The markers carry the raised epoch
/// (in version 2, and whenever the producer did not ask), so that late appends are refused at the partition.
pub(super) fn close(
    rows: &mut Draft<'_>,
    now: Now,
    id: &TransactionalId,
    outcome: Outcome,
    reason: EndReason,
    protocol: Protocol,
) -> Result<Identity, Need> {
    let Some(row) = rows.get::<TransactionRow>(id)?.cloned() else {
        return Ok(Identity { id: ProducerId::NONE, epoch: ProducerEpoch::NONE });
    };
    // The end of nothing is the end of an empty transaction with a number of its own: an outcome is never said twice.
    let number = if row.state.open().is_some() { row.number } else { row.number.next() };
    let producer = row.runs_under().id;
    let mut open = row.state.into_open().unwrap_or_default();
    let partitions = all_enrolled(rows, id, &mut open)?;
    rows.expect_appends(partitions.len());
    let (marker_epoch, holder) = match protocol {
        Protocol::V2 if mutated(Mutant::EpochNotRaised) => (row.holder.epoch, row.holder),
        Protocol::V1 => (row.holder.epoch, row.holder),
        Protocol::V2 => raised(rows, row.holder)?,
    };
    // Whoever took a prepared transaction over may have a new id: then the old one's last epoch fences it for good.
    let marker_epoch = if producer == row.holder.id { marker_epoch } else { ProducerEpoch::FENCED_FOR_GOOD };
    let marker_epoch = if mutated(Mutant::MarkerEpochNotRaised) { row.holder.epoch } else { marker_epoch };
    let ended = Event::TransactionEnded { transactional_id: id.clone(), number, outcome, reason, holder };
    let marker = Marker { producer: Identity { id: producer, epoch: marker_epoch }, number, outcome };
    // Mostly all rows are at hand, and to look for each of them beforehand would be much of the work. If one is not, all that are
    // not are asked for at once.
    if let Err(need) = state_end(rows, now, ended, &partitions, marker) {
        require_end(&rows.unchanged(), id, &partitions, open.offsets, producer)?;
        return Err(need);
    }
    Ok(holder)
}

/// What the markers of a transaction say.
#[derive(Clone, Copy)]
struct Marker {
    producer: Identity,
    number: TxnNumber,
    outcome: Outcome,
}

/// States that a transaction has ended, and its marker in each of its partitions.
fn state_end(
    rows: &mut Draft<'_>,
    now: Now,
    ended: Event,
    partitions: &BTreeSet<PartitionId>,
    Marker { producer, number, outcome }: Marker,
) -> Result<(), Need> {
    rows.state(ended)?;
    let markers = 1 + usize::from(mutated(Mutant::MarkerTwice)) - usize::from(mutated(Mutant::MarkerSkipped));
    for partition in partitions.iter().flat_map(|partition| std::iter::repeat_n(*partition, markers)) {
        // A partition without a row is a deleted one: partitions and transactions are decided by one shard.
        let Some((offset, before)) =
            rows.get::<PartitionRow>(&partition)?.map(|row| (row.next_offset, row.totals))
        else {
            continue;
        };
        let outcome = if mutated(Mutant::MarkerOfOtherOutcome) { Outcome::Commit } else { outcome };
        let timestamp = now.wall;
        let marker = MarkerWritten { partition, offset, before, producer, number, outcome, timestamp };
        rows.state(Event::MarkerWritten(marker))?;
    }
    Ok(())
}

/// Asks for the rows that change with the end of a transaction.
fn require_end(
    rows: &Draft<'_>,
    id: &TransactionalId,
    partitions: &BTreeSet<PartitionId>,
    offsets: BTreeSet<GroupOffsetKey>,
    producer: ProducerId,
) -> Result<(), Need> {
    let pending =
        offsets.into_iter().map(|offset| PendingOffsetRow::key(&PendingOffsetKey { offset, producer }));
    let of_partition = |partition: &PartitionId| {
        rows_of_open(*partition, producer).into_iter().chain([LeaderEpochsRow::key(partition)])
    };
    let holder = [KeyHolderRow::key(id)];
    rows.require(partitions.iter().flat_map(of_partition).chain(pending).chain(holder))?;
    require_left(rows, partitions, producer)
}

/// The identity after `holder`, and the epoch that fences `holder`. When the epochs of an id are used up, or may have been
/// given out before a restore (B4), the reserved one fences it for good, and the holder goes on with a new id, in the same
/// step.
pub(super) fn raised(rows: &mut Draft<'_>, holder: Identity) -> Result<(ProducerEpoch, Identity), Need> {
    let predates = predates_restore(rows, holder.id)? && !mutated(Mutant::EpochsReusedAfterRestore);
    Ok(match holder.epoch.bumped() {
        Ok(epoch) if !predates => (epoch, Identity { id: holder.id, epoch }),
        Err(EpochExhausted) if !predates && mutated(Mutant::RotationReusesId) => {
            (ProducerEpoch::FENCED_FOR_GOOD, Identity { id: holder.id, epoch: ProducerEpoch::FIRST })
        }
        Ok(_) | Err(EpochExhausted) => {
            let id = take_producer_id(rows)?;
            (ProducerEpoch::FENCED_FOR_GOOD, Identity { id, epoch: ProducerEpoch::FIRST })
        }
    })
}
