//! Of the facts themselves: they are what is logged, so they are what the rows are made of.

use super::step::{Step, Verdict, holds};
use crate::core::draft::Draft;
use crate::core::evolve::evolve;
use crate::core::rows::{RowKey, RowValue};
use std::collections::BTreeMap;

/// Whatever is durable of the rows, a start makes again from the events alone.
pub(super) fn durable_rows_are_made_of_events(step: &Step<'_>) -> Verdict {
    let mut draft = Draft::new(step.view, step.now.served);
    for event in step.events() {
        if evolve(&mut draft, step.now.served, event).is_err() {
            return Ok(());
        }
    }
    let drafted = draft.finish();
    let (made, found) = (durable(&drafted.changes), durable(&step.decided.drafted.changes));
    if made == found {
        return Ok(());
    }
    let differs = |key: &&&RowKey| made.get(*key) != found.get(*key);
    let key = made.keys().chain(found.keys()).find(differs).copied();
    holds(false, key.map(|key| (key, made.get(key), found.get(key))))
}

fn durable<'c>(
    changes: impl IntoIterator<Item = (&'c RowKey, &'c Option<RowValue>)>,
) -> BTreeMap<&'c RowKey, &'c Option<RowValue>> {
    changes.into_iter().filter(|(key, _)| !key.is_volatile()).collect()
}
