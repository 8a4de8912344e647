//! What decisions ask of the transactions that are open in a partition, and of the partitions that a transaction is enrolled
//! in: each answer takes a few rows, and whatever needs rows of many partitions asks for them in a few rounds.

use crate::core::draft::{Draft, Need};
use crate::core::limits::partitions_per_row_max;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;

/// How many transactions are open in a partition.
pub(super) fn count_open(rows: &Draft<'_>, partition: PartitionId) -> Result<usize, Need> {
    let in_row = rows.get::<OpenTransactionsRow>(&partition)?.map_or(0, |row| row.by_first_offset.len());
    let queued = rows.get::<OpenQueueRow>(&partition)?.map_or(0, |queue| queue.length);
    Ok(in_row.saturating_add(usize::try_from(queued).unwrap_or(usize::MAX)))
}

/// The rows by which it is known what is open in a partition, and where a producer's transaction comes or goes there.
pub(super) fn rows_of_open(partition: PartitionId, producer: ProducerId) -> [RowKey; 4] {
    [
        PartitionRow::key(&partition),
        ProducerRow::key(&ProducerKey { partition, producer }),
        OpenTransactionsRow::key(&partition),
        OpenQueueRow::key(&partition),
    ]
}

/// Asks for what changes where these producers' transactions come to partitions. Of each, [`rows_of_open`] are known.
pub(super) fn require_joined(
    rows: &Draft<'_>,
    joining: impl Iterator<Item = ProducerKey>,
) -> Result<(), Need> {
    let mut newest = Vec::new();
    for key in joining {
        let joins = rows.get::<ProducerRow>(&key)?.is_none_or(|row| row.open.is_none());
        if let Some(queue) = rows.get::<OpenQueueRow>(&key.partition)?.filter(|_| joins) {
            newest.push(QueuedRow::key(&queue.newest(key.partition)));
        }
    }
    rows.require(newest)
}

/// Asks for what changes as the producer's transaction goes from these partitions.
pub(super) fn require_left(
    rows: &Draft<'_>,
    partitions: &BTreeSet<PartitionId>,
    producer: ProducerId,
) -> Result<(), Need> {
    let mut queued = Vec::new();
    for partition in partitions {
        let key = ProducerKey { partition: *partition, producer };
        let Some((_, first)) = rows.get::<ProducerRow>(&key)?.and_then(|row| row.open) else { continue };
        let in_row = |row: &OpenTransactionsRow| row.get(first).is_some();
        if !rows.get::<OpenTransactionsRow>(partition)?.is_some_and(in_row) {
            queued.push(key);
        }
    }
    rows.require(queued.iter().map(QueuedRow::key))?;
    let mut neighbours = Vec::new();
    for key in &queued {
        if let Some(row) = rows.get::<QueuedRow>(key)? {
            neighbours.extend(row.neighbours(key.partition));
        }
    }
    rows.require(neighbours.iter().map(QueuedRow::key))
}

/// Asks for what says whether the transaction of an id is enrolled in these partitions, and for what changes if it comes to be.
pub(super) fn require_enrolled(
    rows: &Draft<'_>,
    id: &TransactionalId,
    partitions: &BTreeSet<PartitionId>,
) -> Result<(), Need> {
    let enrolled = match rows.get::<TransactionRow>(id)?.map(|row| &row.state) {
        Some(TransactionState::Ongoing(open)) => open.partitions.len(),
        _ => 0,
    };
    if enrolled + partitions.len() < partitions_per_row_max() {
        return Ok(());
    }
    let others = partitions.iter().map(|partition| EnrolledRow::key(&EnrolledKey::of(id, *partition)));
    rows.require(others.chain([MoreEnrolledRow::key(id)]))
}

/// What is known of the partitions that a transaction is enrolled in, beside its row.
fn more_enrolled<'r>(
    rows: &'r Draft<'_>,
    id: &TransactionalId,
    open: &Ongoing,
) -> Result<Option<&'r MoreEnrolledRow>, Need> {
    if open.may_have_more() { rows.get::<MoreEnrolledRow>(id) } else { Ok(None) }
}

/// How many partitions the open transaction of an id is enrolled in.
pub(super) fn count_enrolled(rows: &Draft<'_>, id: &TransactionalId, open: &Ongoing) -> Result<usize, Need> {
    let more = more_enrolled(rows, id, open)?.map_or(0, |more| more.partitions);
    Ok(open.partitions.len().saturating_add(usize::try_from(more).unwrap_or(usize::MAX)))
}

/// Which of `asked` the open transaction of an id is enrolled in.
pub(super) fn which_enrolled(
    rows: &Draft<'_>,
    id: &TransactionalId,
    open: &Ongoing,
    asked: &BTreeSet<PartitionId>,
) -> Result<BTreeSet<PartitionId>, Need> {
    let mut enrolled: BTreeSet<PartitionId> = asked.intersection(&open.partitions).copied().collect();
    if more_enrolled(rows, id, open)?.is_some() {
        require_enrolled(rows, id, asked)?;
        for partition in asked.difference(&open.partitions) {
            let row = rows.get::<EnrolledRow>(&EnrolledKey::of(id, *partition))?;
            if row.is_some_and(|row| row.partitions.contains(partition)) {
                enrolled.insert(*partition);
            }
        }
    }
    Ok(enrolled)
}

/// Whether the open transaction of an id is enrolled in a partition.
pub(super) fn is_enrolled(
    rows: &Draft<'_>,
    id: &TransactionalId,
    open: &Ongoing,
    partition: PartitionId,
) -> Result<bool, Need> {
    if open.partitions.contains(&partition) {
        return Ok(true);
    }
    if more_enrolled(rows, id, open)?.is_none() {
        return Ok(false);
    }
    let row = rows.get::<EnrolledRow>(&EnrolledKey::of(id, partition))?;
    Ok(row.is_some_and(|row| row.partitions.contains(&partition)))
}

/// All partitions that the open transaction of an id is enrolled in; they are taken out of `open`.
pub(super) fn all_enrolled(
    rows: &Draft<'_>,
    id: &TransactionalId,
    open: &mut Ongoing,
) -> Result<BTreeSet<PartitionId>, Need> {
    let more = more_enrolled(rows, id, open)?;
    let mut enrolled = std::mem::take(&mut open.partitions);
    if let Some(more) = more.filter(|_| !mutated(Mutant::EnrolledOverlooked)) {
        rows.require(more.keys(id).map(|key| EnrolledRow::key(&key)))?;
        for key in more.keys(id) {
            enrolled.extend(rows.get::<EnrolledRow>(&key)?.into_iter().flat_map(|row| &row.partitions));
        }
    }
    Ok(enrolled)
}
