//! One decision, as the invariants see it: the rows that it found, and what it makes of them.

use crate::core::commands::{Command, Now};
use crate::core::decide::Decided;
use crate::core::draft::{Look, View};
use crate::core::events::{Event, MARKER_BYTES};
use crate::core::rows::{Row, Totals};
use crate::types::*;
use std::fmt::Debug;

/// One decision.
pub(crate) struct Step<'d> {
    /// The rows as it found them.
    pub(crate) view: &'d dyn View,
    /// When it was made.
    pub(crate) now: Now,
    /// What it decides.
    pub(crate) command: &'d Command,
    /// What it has come to.
    pub(crate) decided: &'d Decided,
}

/// A row, or its absence, if it is known which.
pub(super) type Seen<'d, R> = Option<Option<&'d R>>;

/// A row that the decision changes.
#[derive(Debug)]
pub(super) struct Change<'d, R: Row> {
    pub(super) key: &'d R::Key,
    /// None also where the decision did not have to know.
    pub(super) before: Option<&'d R>,
    /// None if it is gone.
    pub(super) after: Option<&'d R>,
}

impl<R: Row> Change<'_, R> {
    /// Whether this of the row does not become less. A row that comes or goes has nothing to go back from.
    pub(super) fn never_goes_back<T: PartialOrd>(&self, of: impl Fn(&R) -> T) -> bool {
        match (self.before, self.after) {
            (Some(before), Some(after)) => of(before) <= of(after),
            _ => true,
        }
    }

    /// Whether the row as the decision leaves it is so, if it is there.
    pub(super) fn is_left(&self, so: impl Fn(&R) -> bool) -> bool {
        self.after.is_none_or(so)
    }

    /// The row that goes, where the decision knows it.
    pub(super) fn gone(&self) -> Option<&R> {
        self.before.filter(|_| self.after.is_none())
    }
}

/// Nothing, or the rows and events that do not go together.
pub(crate) type Verdict = Result<(), String>;

/// What does not go together, if it does not.
pub(super) fn holds(so: bool, these: impl Debug) -> Verdict {
    if so { Ok(()) } else { Err(format!("{these:?}")) }
}

/// A batch or a marker that is appended.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) partition: PartitionId,
    pub(super) first: Offset,
    pub(super) next: Offset,
    pub(super) before: Totals,
    pub(super) after: Totals,
}

impl Placed {
    fn of(event: &Event) -> Option<Placed> {
        match event {
            Event::BatchAppended(batch) => Some(Placed {
                partition: batch.partition,
                first: batch.base_offset,
                next: batch.last_offset().next(),
                before: batch.before,
                after: batch.before.with(batch.bytes, batch.max_timestamp),
            }),
            Event::MarkerWritten(marker) => Some(Placed {
                partition: marker.partition,
                first: marker.offset,
                next: marker.offset.next(),
                before: marker.before,
                after: marker.before.with(MARKER_BYTES, marker.timestamp),
            }),
            _ => None,
        }
    }
}

impl<'d> Step<'d> {
    /// The facts, in order.
    pub(super) fn events(&self) -> &'d [Event] {
        &self.decided.drafted.events
    }

    /// What is appended, in order.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> + use<'d> {
        self.events().iter().filter_map(Placed::of)
    }

    /// A row as the decision found it.
    pub(super) fn before<R: Row>(&self, key: &R::Key) -> Seen<'d, R> {
        match self.view.look(&R::key(key)) {
            Look::Known(row, _) => Some(row.and_then(R::of)),
            Look::Unknown => None,
        }
    }

    /// A row as the decision leaves it.
    pub(super) fn after<R: Row>(&self, key: &R::Key) -> Seen<'d, R> {
        match self.decided.drafted.changes.get(&R::key(key)) {
            Some(changed) => Some(changed.as_ref().and_then(R::of)),
            None => self.before(key),
        }
    }

    /// Whether a row is known to be there no more.
    pub(super) fn is_gone<R: Row>(&self, key: &R::Key) -> bool {
        matches!(self.after::<R>(key), Some(None))
    }

    /// The rows of a kind that change.
    pub(super) fn changes<R: Row>(&self) -> impl Iterator<Item = Change<'d, R>> + use<'d, R> {
        let view = self.view;
        self.decided.drafted.changes.iter().filter_map(move |(row_key, after)| {
            let key = R::of_key(row_key)?;
            let before = match view.look(row_key) {
                Look::Known(row, _) => row.and_then(R::of),
                Look::Unknown => None,
            };
            Some(Change { key, before, after: after.as_ref().and_then(R::of) })
        })
    }

    /// That all changes of a kind are so.
    pub(super) fn every<R: Row>(&self, so: impl Fn(&Change<'d, R>) -> bool) -> Verdict {
        self.changes::<R>().try_for_each(|change| holds(so(&change), &change))
    }
}
