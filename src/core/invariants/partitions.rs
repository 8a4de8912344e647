//! Of partitions: where a log begins and ends, how far it is stable, and what holds that back.

use super::step::{Change, Placed, Step, Verdict, holds};
use crate::core::events::{CutReason, Event};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeMap;

/// Each batch and marker begins where the partition ends, and the partition ends behind the last one.
pub(super) fn offsets_follow(step: &Step<'_>) -> Verdict {
    adds_up(step, |row| row.next_offset, |placed| placed.first, |placed| placed.next)
}

/// Retention by size goes by the totals: what they count twice, it would delete too early.
pub(super) fn totals_add_up(step: &Step<'_>) -> Verdict {
    adds_up(step, |row| row.totals, |placed| placed.before, |placed| placed.after)
}

/// Something of a partition's end grows with what is appended, and with nothing else.
fn adds_up<T: Copy + PartialEq + std::fmt::Debug>(
    step: &Step<'_>,
    of: fn(&PartitionRow) -> T,
    begins: fn(&Placed) -> T,
    ends: fn(&Placed) -> T,
) -> Verdict {
    let mut reached: BTreeMap<PartitionId, T> = BTreeMap::new();
    for placed in step.placed() {
        let found = || step.before::<PartitionRow>(&placed.partition).flatten().map(of);
        let at = reached.get(&placed.partition).copied().or_else(found);
        holds(at.is_none_or(|at| at == begins(&placed)), (&placed, at))?;
        reached.insert(placed.partition, ends(&placed));
    }
    step.every::<PartitionRow>(|change| {
        let at = reached.get(change.key).copied().or(change.before.map(of));
        change.is_left(|row| at.is_none_or(|at| at == of(row)))
    })
}

pub(super) fn log_start_moves_forward(step: &Step<'_>) -> Verdict {
    step.every::<PartitionRow>(|change| {
        change.never_goes_back(|row| row.log_start)
            && change.never_goes_back(|row| row.bytes_below_start)
            && change.is_left(|row| row.log_start <= row.next_offset)
    })
}

/// X7; DeleteRecords may pass what is open (X3).
pub(super) fn retention_spares_what_is_undecided(step: &Step<'_>) -> Verdict {
    step.events().iter().try_for_each(|event| match event {
        Event::LogStartMoved { partition, to, reason } if *reason != CutReason::Deleted => {
            let row = step.before::<PartitionRow>(partition).flatten();
            holds(row.is_none_or(|row| to.offset <= row.last_stable_offset()), (event, row))
        }
        _ => Ok(()),
    })
}

pub(super) fn stable_never_goes_back(step: &Step<'_>) -> Verdict {
    step.every::<PartitionRow>(|change| change.never_goes_back(PartitionRow::last_stable_offset))
}

pub(super) fn stable_within_the_log(step: &Step<'_>) -> Verdict {
    step.every::<PartitionRow>(|change| {
        change.is_left(|row| (row.log_start..=row.next_offset).contains(&row.last_stable_offset()))
    })
}

pub(super) fn what_is_open_holds_readers_back(step: &Step<'_>) -> Verdict {
    compare_with_open(step, |shown, stable| shown <= stable)
}

pub(super) fn only_what_is_open_holds_readers_back(step: &Step<'_>) -> Verdict {
    compare_with_open(step, |shown, stable| shown >= stable)
}

/// Holds the last stable offset that readers are shown against the open transactions, where either has changed.
fn compare_with_open(step: &Step<'_>, agree: fn(Offset, Offset) -> bool) -> Verdict {
    let changed = step.changes::<PartitionRow>().map(|change| *change.key);
    let opened = step.changes::<OpenTransactionsRow>().map(|change| *change.key);
    let queued = step.changes::<OpenQueueRow>().map(|change| *change.key);
    for partition in changed.chain(opened).chain(queued) {
        let (Some(Some(row)), Some(listed), Some(queue)) = (
            step.after::<PartitionRow>(&partition),
            step.after::<OpenTransactionsRow>(&partition),
            step.after::<OpenQueueRow>(&partition),
        ) else {
            continue;
        };
        let in_row = listed.and_then(OpenTransactionsRow::oldest).map(|(first, _)| first);
        let oldest = in_row.into_iter().chain(queue.map(|queue| queue.first)).min();
        let stable = oldest.map_or(row.next_offset, |oldest| oldest.max(row.log_start));
        holds(agree(row.last_stable_offset(), stable), (partition, row, listed, queue))?;
    }
    Ok(())
}

/// KIP-320: consumers find out by them where they stand.
pub(super) fn leader_epochs_follow(step: &Step<'_>) -> Verdict {
    let ascend = |row: &LeaderEpochsRow| {
        row.begins.iter().zip(row.begins.iter().skip(1)).all(|(one, next)| one.0 < next.0 && one.1 <= next.1)
    };
    step.every::<LeaderEpochsRow>(|change| {
        change.is_left(ascend) && change.never_goes_back(|row| row.begins.last().copied())
    })
}

pub(super) fn topics_keep_their_partitions(step: &Step<'_>) -> Verdict {
    step.every::<TopicRow>(|change| change.never_goes_back(|row| row.partitions))?;
    step.every::<PartitionRow>(|change: &Change<'_, PartitionRow>| {
        change.gone().is_none() || step.is_gone::<TopicRow>(&change.key.topic)
    })
}
