//! Of the open transactions of a partition: the producer's row and the partition's list say the same.

use super::step::{Step, Verdict, holds};
use crate::core::rows::*;
use crate::types::*;

/// What is open: which transaction, and where it begins.
type Open = (TxnNumber, Offset);

/// Whether a transaction is among the open ones of a partition, if it is known.
fn is_listed(step: &Step<'_>, key: &ProducerKey, (number, first): Open) -> Option<bool> {
    let row = step.after::<OpenTransactionsRow>(&key.partition)?;
    let listed = row.and_then(|row| row.get(first));
    if listed.is_some_and(|open| open.producer == key.producer && open.number == number) {
        return Some(true);
    }
    let queued = step.after::<QueuedRow>(key)?;
    Some(queued.is_some_and(|row| row.number == number && row.first == first))
}

/// What its producer has open, if it is known.
fn is_open(step: &Step<'_>, key: &ProducerKey, open: Open) -> Option<bool> {
    let row = step.after::<ProducerRow>(key)?;
    Some(row.is_some_and(|row| row.open == Some(open)))
}

pub(super) fn what_is_open_is_listed(step: &Step<'_>) -> Verdict {
    for change in step.changes::<ProducerRow>() {
        let gone = step.is_gone::<PartitionRow>(&change.key.partition);
        let Some(open) = change.after.and_then(|row| row.open).filter(|_| !gone) else { continue };
        holds(is_listed(step, change.key, open) != Some(false), &change)?;
    }
    for (key, open) in unlisted(step) {
        holds(is_open(step, &key, open) != Some(true), (key, open))?;
    }
    Ok(())
}

pub(super) fn what_is_listed_is_open(step: &Step<'_>) -> Verdict {
    for change in step.changes::<ProducerRow>() {
        let after = change.after.and_then(|row| row.open);
        let Some(open) = change.before.and_then(|row| row.open).filter(|open| after != Some(*open)) else {
            continue;
        };
        holds(is_listed(step, change.key, open) != Some(true), &change)?;
    }
    for (key, open) in listed(step) {
        holds(is_open(step, &key, open) != Some(false), (key, open))?;
    }
    Ok(())
}

/// The transactions that a list has.
fn entries(partition: PartitionId, row: &OpenTransactionsRow) -> impl Iterator<Item = (ProducerKey, Open)> {
    row.by_first_offset
        .iter()
        .map(move |(first, open)| (ProducerKey { partition, producer: open.producer }, (open.number, *first)))
}

/// Those that come to a list.
fn listed(step: &Step<'_>) -> Vec<(ProducerKey, Open)> {
    let mut listed = Vec::new();
    for change in step.changes::<OpenTransactionsRow>() {
        let Some(after) = change.after else { continue };
        let is_old = |first: &Offset| change.before.is_some_and(|row| row.get(*first).is_some());
        listed.extend(entries(*change.key, after).filter(|(_, (_, first))| !is_old(first)));
    }
    for change in step.changes::<QueuedRow>() {
        let row = change.after.filter(|_| change.before.is_none());
        listed.extend(row.map(|row| (change.key.clone(), (row.number, row.first))));
    }
    listed
}

/// Those that leave a list, of partitions that there still are.
fn unlisted(step: &Step<'_>) -> Vec<(ProducerKey, Open)> {
    let mut unlisted = Vec::new();
    for change in step.changes::<OpenTransactionsRow>() {
        let Some(before) = change.before else { continue };
        let is_left = |first: &Offset| change.after.is_some_and(|row| row.get(*first).is_some());
        unlisted.extend(entries(*change.key, before).filter(|(_, (_, first))| !is_left(first)));
    }
    for change in step.changes::<QueuedRow>() {
        unlisted.extend(change.gone().map(|row| (change.key.clone(), (row.number, row.first))));
    }
    unlisted.retain(|(key, _)| !step.is_gone::<PartitionRow>(&key.partition));
    unlisted
}

/// Whoever is overlooked in it, readers do not wait for.
pub(super) fn what_has_no_room_is_a_list(step: &Step<'_>) -> Verdict {
    for change in step.changes::<OpenQueueRow>() {
        let Some(queue) = change.after else { continue };
        let at = |producer| ProducerKey { partition: *change.key, producer };
        let oldest = step.after::<QueuedRow>(&at(queue.oldest));
        let begins = |row: &QueuedRow| row.before.is_none() && row.first == queue.first;
        holds(oldest.is_none_or(|row| row.is_some_and(begins)), (&change, oldest))?;
        let newest = step.after::<QueuedRow>(&at(queue.newest));
        holds(newest.is_none_or(|row| row.is_some_and(|row| row.after.is_none())), (&change, newest))?;
        let of_it = step.changes::<QueuedRow>().filter(|queued| queued.key.partition == *change.key);
        let more: i64 =
            of_it.map(|queued| i64::from(queued.after.is_some()) - i64::from(queued.before.is_some())).sum();
        let before = change.before.map_or(0, |queue| i64::from(queue.length));
        holds(i64::from(queue.length) == before + more, &change)?;
    }
    step.every::<QueuedRow>(|change| {
        change.is_left(|row| {
            let Some(producer) = row.after else { return true };
            let next = step.after::<QueuedRow>(&ProducerKey { producer, ..change.key.clone() });
            let follows =
                |next: &QueuedRow| next.before == Some(change.key.producer) && next.first > row.first;
            next.is_none_or(|next| next.is_some_and(follows))
        })
    })
}
