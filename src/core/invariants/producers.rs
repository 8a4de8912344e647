//! Of what a partition remembers of a producer.

use super::step::{Step, Verdict, holds};
use crate::core::commands::Command;
use crate::core::events::{BatchAppended, Event, ProducerAppend};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeMap;

/// The batches of producers with an identity, in order.
fn appends<'d>(
    step: &Step<'d>,
) -> impl Iterator<Item = (ProducerKey, &'d BatchAppended, &'d ProducerAppend)> {
    step.events().iter().filter_map(|event| match event {
        Event::BatchAppended(batch) => {
            let append = batch.producer.as_ref()?;
            Some((ProducerKey { partition: batch.partition, producer: append.identity.id }, batch, append))
        }
        _ => None,
    })
}

pub(super) fn epochs_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<ProducerRow>(|change| change.never_goes_back(|row| row.epoch))
}

pub(super) fn fenced_epochs_append_nothing(step: &Step<'_>) -> Verdict {
    appends(step).try_for_each(|(key, batch, append)| {
        let row = step.before::<ProducerRow>(&key).flatten();
        holds(row.is_none_or(|row| append.identity.epoch >= row.epoch), (batch, row))
    })
}

/// Of each producer where it stands: its epoch, and the newest sequence that is remembered of it.
type Standing = (ProducerEpoch, Option<Sequence>);

/// A4 to A8, B2. Who is not known may begin anywhere (A5), but not where a restore may have lost what went before.
pub(super) fn batches_follow(step: &Step<'_>) -> Verdict {
    let mut reached: BTreeMap<ProducerKey, Standing> = BTreeMap::new();
    let standing = |row: &ProducerRow| (row.epoch, row.batches.last().map(|batch| batch.sequences.last));
    let restored = step.before::<RestoredRow>(&()).flatten();
    for (key, batch, append) in appends(step) {
        let (epoch, first) = (append.identity.epoch, append.sequences.first);
        let Some(row) = step.before::<ProducerRow>(&key) else { continue };
        let at = reached.get(&key).copied().or(row.map(standing));
        let follows = match at {
            None => first == Sequence::FIRST || restored.is_none_or(|row| key.producer >= row.ids_from),
            Some((same, Some(newest))) if same == epoch => first == newest.next(),
            Some(_) => first == Sequence::FIRST,
        };
        holds(follows, (batch, row))?;
        reached.insert(key, (epoch, Some(append.sequences.last)));
    }
    Ok(())
}

/// A3, A11.
pub(super) fn the_newest_batches_are_remembered(step: &Step<'_>) -> Verdict {
    let appended = by_producer(step);
    for change in step.changes::<ProducerRow>() {
        let Some(row) = change.after else { continue };
        let before = change.before.filter(|before| before.epoch == row.epoch);
        let before = before.into_iter().flat_map(|before| before.batches.iter().map(known));
        let newer = appended.get(change.key).into_iter().flatten();
        let newer = newer.filter(|(_, append)| append.identity.epoch == row.epoch);
        let all: Vec<_> =
            before.chain(newer.map(|(batch, append)| (append.sequences, batch.base_offset))).collect();
        let newest = all.iter().skip(all.len().saturating_sub(REMEMBERED_BATCHES));
        holds(newest.copied().eq(row.batches.iter().map(known)), &change)?;
    }
    Ok(())
}

fn known(batch: &RememberedBatch) -> (SequenceRange, Offset) {
    (batch.sequences, batch.base_offset)
}

/// A9: that something was stored is said by this count.
pub(super) fn what_is_stored_is_counted(step: &Step<'_>) -> Verdict {
    let appended = by_producer(step);
    step.every::<ProducerRow>(|change| {
        change.is_left(|row| {
            let before = change.before.filter(|before| before.epoch == row.epoch);
            let newer = appended.get(change.key).into_iter().flatten();
            let newer = newer.filter(|(_, append)| append.identity.epoch == row.epoch);
            let newer: u64 = newer.map(|(batch, _)| u64::from(batch.records)).sum();
            row.stored_in_epoch == before.map_or(0, |before| before.stored_in_epoch).saturating_add(newer)
        })
    })
}

type Appends<'d> = BTreeMap<ProducerKey, Vec<(&'d BatchAppended, &'d ProducerAppend)>>;

fn by_producer<'d>(step: &Step<'d>) -> Appends<'d> {
    let mut appended = Appends::new();
    for (key, batch, append) in appends(step) {
        appended.entry(key).or_default().push((batch, append));
    }
    appended
}

/// A12.
pub(super) fn who_has_something_open_is_not_forgotten(step: &Step<'_>) -> Verdict {
    step.every::<ProducerRow>(|change| {
        change.gone().is_none_or(|row| row.open.is_none())
            || step.is_gone::<PartitionRow>(&change.key.partition)
    })
}

/// A12: what has not been heard of for long enough.
pub(super) fn who_is_forgotten_was_idle(step: &Step<'_>) -> Verdict {
    let Command::ExpireProducer(expire) = step.command else { return Ok(()) };
    step.every::<ProducerRow>(|change| {
        change.gone().is_none_or(|row| row.last_used.plus(expire.idle) <= step.now.served)
    })
}
