//! Two commands that are decided as one (O13): each is held against the invariants as if it had been decided by itself, and
//! together they are what has been decided.

use super::step::{Step, Verdict, holds};
use crate::core::commands::{Command, Reply};
use crate::core::decide::{Decided, decide};
use crate::core::draft::{Changes, Look, View};
use crate::core::rows::RowKey;
use crate::types::BlockNumber;

/// The rows between the two.
struct Between<'d> {
    before: &'d dyn View,
    changes: &'d Changes,
}

impl View for Between<'_> {
    fn look(&self, key: &RowKey) -> Look<'_> {
        match self.changes.get(key) {
            Some(changed) => Look::Known(changed.as_ref(), BlockNumber::ZERO),
            None => self.before.look(key),
        }
    }
}

/// O13: all batches are stored, or stored already, and the transaction ends; or it does not end. Of rows that are not known,
/// nothing is said.
pub(super) fn a_commit_with_the_last_records_is_both(step: &Step<'_>) -> Verdict {
    let (Command::ProduceAndCommit(commit), Some(Reply::ProducedAndCommitted(stored, holder))) =
        (step.command, &step.decided.reply)
    else {
        return Ok(());
    };
    let Ok(first) = decide(step.view, step.now, &Command::Produce(commit.last.clone())) else {
        return Ok(());
    };
    let is_told = first.reply == Some(Reply::Produced(stored.clone()));
    let is_whole = stored.iter().all(Result::is_ok);
    let between = Between { before: step.view, changes: &first.drafted.changes };
    let end = Command::EndTxn(commit.end());
    let second = if is_whole || holder.is_some() { decide(&between, step.now, &end).ok() } else { None };
    let ended = match second.as_ref().and_then(|second| second.reply.as_ref()) {
        Some(Reply::Identity(ended)) => ended.ok(),
        _ => None,
    };
    let second = second.filter(|_| ended.is_some());
    let ends = second.as_ref().is_some_and(|second| !second.drafted.events.is_empty());
    let are_these = is_told && ended == *holder && (is_whole || !ends);
    holds(are_these && are_both(step.decided, &first, second.as_ref()), (step.command, holder))
}

/// Whether a decision states what the one, and then the other, has stated, and makes the same of the rows.
fn are_both(both: &Decided, first: &Decided, second: Option<&Decided>) -> bool {
    let mut events = first.drafted.events.clone();
    let mut changes = first.drafted.changes.clone();
    if let Some(second) = second {
        events.extend(second.drafted.events.iter().cloned());
        changes.extend(second.drafted.changes.iter().map(|(key, row)| (key.clone(), row.clone())));
    }
    both.drafted.events == events && both.drafted.changes == changes
}
