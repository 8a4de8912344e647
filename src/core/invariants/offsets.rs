//! Of what groups have consumed: offsets take effect at once, or with the transaction that carries them.

use super::ends::End;
use super::step::{Step, Verdict, holds};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};

fn pending<'d>(step: &Step<'d>, end: &End<'_>, offset: &GroupOffsetKey) -> Option<&'d CommittedOffset> {
    let key = PendingOffsetKey { offset: offset.clone(), producer: end.transaction.producer };
    let row = step.before::<PendingOffsetRow>(&key).flatten();
    row.filter(|row| row.number == end.transaction.number).map(|row| &row.committed)
}

/// What this decision brings into effect: G1, G3.
fn effective<'d>(step: &Step<'d>) -> BTreeMap<GroupOffsetKey, &'d CommittedOffset> {
    let mut effective = BTreeMap::new();
    for end in End::all(step).filter(|end| end.outcome == Outcome::Commit) {
        for offset in &end.open.offsets {
            effective.extend(pending(step, &end, offset).map(|committed| (offset.clone(), committed)));
        }
    }
    for event in step.events() {
        if let Event::OffsetsCommitted { offsets } = event {
            effective.extend(offsets.iter().map(|(key, committed)| (key.clone(), committed)));
        }
    }
    effective
}

pub(super) fn commits_bring_their_offsets(step: &Step<'_>) -> Verdict {
    effective(step).into_iter().try_for_each(|(key, committed)| {
        let row = step.after::<CommittedOffset>(&key).flatten();
        holds(row == Some(committed), (key, committed, row))
    })
}

pub(super) fn only_commits_bring_offsets(step: &Step<'_>) -> Verdict {
    let effective = effective(step);
    step.every::<CommittedOffset>(|change| change.is_left(|row| effective.get(change.key) == Some(&row)))
}

/// G5.
pub(super) fn offsets_wait_for_the_end_of_their_transaction(step: &Step<'_>) -> Verdict {
    let mut resolved: BTreeSet<PendingOffsetKey> = BTreeSet::new();
    for end in End::all(step) {
        let producer = end.transaction.producer;
        resolved.extend(
            end.open.offsets.iter().map(|offset| PendingOffsetKey { offset: offset.clone(), producer }),
        );
    }
    for key in &resolved {
        holds(step.is_gone::<PendingOffsetRow>(key), key)?;
    }
    let staged: BTreeMap<&GroupOffsetKey, &TransactionalId> = step.events().iter().flat_map(staged).collect();
    step.every::<PendingOffsetRow>(|change| match change.after {
        None => resolved.contains(change.key),
        Some(row) => staged.get(&change.key.offset).is_some_and(|id| carries(step, id, change.key, row)),
    })
}

fn staged(event: &Event) -> Vec<(&GroupOffsetKey, &TransactionalId)> {
    match event {
        Event::OffsetsStaged { enrolment, offsets } => {
            offsets.iter().map(|(key, _)| (key, &enrolment.transactional_id)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the open transaction of an id has this offset among those that its end resolves.
fn carries(step: &Step<'_>, id: &TransactionalId, key: &PendingOffsetKey, row: &PendingOffsetRow) -> bool {
    let of = step.after::<TransactionRow>(id).flatten();
    of.is_some_and(|of| {
        of.number == row.number
            && of.holder.id == key.producer
            && of.state.open().is_some_and(|open| open.offsets.contains(&key.offset))
    })
}

pub(super) fn offsets_are_forgotten_by_decision(step: &Step<'_>) -> Verdict {
    let forgotten: BTreeSet<&GroupOffsetKey> = step.events().iter().flat_map(forgotten).collect();
    step.every::<CommittedOffset>(|change| change.after.is_some() || forgotten.contains(change.key))
}

fn forgotten(event: &Event) -> &[GroupOffsetKey] {
    match event {
        Event::OffsetsForgotten { offsets } => offsets,
        _ => &[],
    }
}
