//! Which transactions are open in a partition, and in which partitions a transaction is enrolled. What changes is a few
//! small rows each time, however many there are (`spec/rows.md`, "Rows that stay small").

use crate::core::draft::{Draft, Need};
use crate::core::limits::{open_transactions_per_row_max, partitions_per_row_max};
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// A transaction's first record in a partition: from here on it holds back the last stable offset.
pub(super) fn transaction_opened(
    rows: &mut Draft<'_>,
    partition: PartitionId,
    first: Offset,
    producer: ProducerId,
    number: TxnNumber,
) -> Result<(), Need> {
    let open = rows.get::<OpenTransactionsRow>(&partition)?.map_or(0, |row| row.by_first_offset.len());
    if open < open_transactions_per_row_max() {
        rows.update(&partition, OpenTransactionsRow::default, |row| {
            row.insert(first, OpenTransaction { producer, number });
        })?;
    } else {
        join_queue(rows, partition, first, producer, number)?;
    }
    rows.change(&partition, |row: &mut PartitionRow| {
        row.first_open = Some(row.first_open.map_or(first, |open| open.min(first)));
    })
}

/// The transaction of `producer` holds the last stable offset of `partition` back no longer.
pub(super) fn transaction_closed(
    rows: &mut Draft<'_>,
    partition: PartitionId,
    first: Offset,
    producer: ProducerId,
) -> Result<(), Need> {
    let in_row = |row: &OpenTransactionsRow| row.get(first).is_some();
    if rows.get::<OpenTransactionsRow>(&partition)?.is_some_and(in_row) {
        rows.change(&partition, |row: &mut OpenTransactionsRow| row.remove(first))?;
    } else {
        leave_queue(rows, partition, producer)?;
    }
    let oldest = |row: &OpenTransactionsRow| row.oldest().map(|(first, _)| first);
    let in_row = rows.get::<OpenTransactionsRow>(&partition)?.and_then(oldest);
    let queued = rows.get::<OpenQueueRow>(&partition)?.map(|queue| queue.first);
    let queued = queued.filter(|_| !mutated(Mutant::QueueOverlooked));
    let oldest = in_row.into_iter().chain(queued).min().filter(|_| !mutated(Mutant::LsoOverlooksOthers));
    rows.change(&partition, |row: &mut PartitionRow| row.first_open = oldest)
}

fn join_queue(
    rows: &mut Draft<'_>,
    partition: PartitionId,
    first: Offset,
    producer: ProducerId,
    number: TxnNumber,
) -> Result<(), Need> {
    let before = rows.get::<OpenQueueRow>(&partition)?.map(|queue| queue.newest);
    if let Some(before) = before {
        let key = ProducerKey { partition, producer: before };
        rows.change(&key, |row: &mut QueuedRow| row.after = Some(producer))?;
    }
    rows.put(&ProducerKey { partition, producer }, QueuedRow { first, number, before, after: None });
    let empty = || OpenQueueRow { oldest: producer, first, newest: producer, length: 0 };
    rows.update(&partition, empty, |queue| {
        queue.newest = producer;
        queue.length = queue.length.saturating_add(1);
    })
}

fn leave_queue(rows: &mut Draft<'_>, partition: PartitionId, producer: ProducerId) -> Result<(), Need> {
    let key = |producer| ProducerKey { partition, producer };
    let Some(QueuedRow { before, after, .. }) = rows.get::<QueuedRow>(&key(producer))?.cloned() else {
        return Ok(());
    };
    rows.remove::<QueuedRow>(&key(producer));
    if let Some(before) = before {
        rows.change(&key(before), |row: &mut QueuedRow| row.after = after)?;
    }
    let mut oldest = None;
    if let Some(after) = after {
        rows.change(&key(after), |row: &mut QueuedRow| row.before = before)?;
        oldest = rows.get::<QueuedRow>(&key(after))?.map(|row| (after, row.first));
    }
    if before.is_none() && after.is_none() {
        rows.remove::<OpenQueueRow>(&partition);
        return Ok(());
    }
    rows.change(&partition, |queue: &mut OpenQueueRow| {
        queue.length = queue.length.saturating_sub(1);
        if let (None, Some((oldest, first))) = (before, oldest) {
            (queue.oldest, queue.first) = (oldest, first);
        }
        if let (Some(before), None) = (before, after) {
            queue.newest = before;
        }
    })
}

/// Partitions belong to the open transaction of an id.
pub(super) fn partitions_enrolled(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    partitions: &[PartitionId],
) -> Result<(), Need> {
    let mut more = Vec::new();
    rows.change(id, |row: &mut TransactionRow| {
        let TransactionState::Ongoing(Ongoing { partitions: enrolled, .. }) = &mut row.state else { return };
        for partition in partitions {
            if enrolled.len() < partitions_per_row_max() {
                enrolled.insert(*partition);
            } else if !enrolled.contains(partition) {
                more.push(*partition);
            }
        }
    })?;
    if more.is_empty() {
        return Ok(());
    }
    let keys = more.iter().map(|partition| EnrolledRow::key(&EnrolledKey::of(id, *partition)));
    rows.require(keys.chain([MoreEnrolledRow::key(id)]))?;
    for partition in more {
        let key = EnrolledKey::of(id, partition);
        let mut is_new = false;
        rows.update(&key, EnrolledRow::default, |row| is_new = row.partitions.insert(partition))?;
        if is_new {
            rows.update(id, MoreEnrolledRow::default, |row| row.add(&key))?;
        }
    }
    Ok(())
}

/// The transaction of an id has ended, `open` as it was in its row: its partitions are enrolled no longer.
pub(super) fn enrolments_ended(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    open: &Ongoing,
) -> Result<(), Need> {
    if !open.may_have_more() {
        return Ok(());
    }
    let Some(more) = rows.get::<MoreEnrolledRow>(id)?.cloned() else { return Ok(()) };
    more.keys(id).for_each(|key| rows.remove::<EnrolledRow>(&key));
    rows.remove::<MoreEnrolledRow>(id);
    Ok(())
}
