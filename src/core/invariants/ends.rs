//! Of the end of a transaction, and of what it ends: enrolments, markers, ranges of aborted records.

use super::step::{Step, Verdict, holds};
use crate::core::commands::Command;
use crate::core::events::{BatchAppended, Event, MarkerWritten};
use crate::core::rows::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};

/// An open transaction that this decision ends.
#[derive(Debug)]
pub(super) struct End<'d> {
    pub(super) id: &'d TransactionalId,
    /// By its producer id and number.
    pub(super) transaction: KeyTransaction,
    pub(super) outcome: Outcome,
    /// Who holds the id from then on.
    holder: Identity,
    /// The transaction as it was.
    pub(super) open: &'d Ongoing,
}

impl<'d> End<'d> {
    /// All that this decision ends.
    pub(super) fn all(step: &Step<'d>) -> impl Iterator<Item = End<'d>> {
        step.events().iter().filter_map(|event| {
            let Event::TransactionEnded { transactional_id, number, outcome, holder, .. } = event else {
                return None;
            };
            let row = step.before::<TransactionRow>(transactional_id).flatten()?;
            let transaction = KeyTransaction { producer: row.runs_under().id, number: *number };
            let (id, outcome, holder, open) = (transactional_id, *outcome, *holder, row.state.open()?);
            Some(End { id, transaction, outcome, holder, open })
        })
    }

    /// The partitions that it was enrolled in.
    fn enrolled(&self, step: &Step<'d>) -> BTreeSet<PartitionId> {
        let mut enrolled = self.open.partitions.clone();
        let more = step.before::<MoreEnrolledRow>(self.id).flatten().filter(|_| self.open.may_have_more());
        for key in more.into_iter().flat_map(|more| more.keys(self.id)) {
            let row = step.before::<EnrolledRow>(&key).flatten();
            enrolled.extend(row.into_iter().flat_map(|row| &row.partitions));
        }
        enrolled
    }

    /// The epoch that its markers fence with.
    fn marker_epoch(&self) -> ProducerEpoch {
        match self.holder.id == self.transaction.producer {
            true => self.holder.epoch,
            false => ProducerEpoch::FENCED_FOR_GOOD,
        }
    }
}

/// A marker's place: where, and of which transaction.
type Place = (PartitionId, KeyTransaction);

/// What the markers of this decision are to say: the outcome, and the epoch that they carry.
fn owed(step: &Step<'_>) -> BTreeMap<Place, (Outcome, ProducerEpoch)> {
    let mut owed = BTreeMap::new();
    for end in End::all(step) {
        for partition in end.enrolled(step) {
            owed.insert((partition, end.transaction), (end.outcome, end.marker_epoch()));
        }
    }
    owed
}

fn markers<'d>(step: &Step<'d>) -> impl Iterator<Item = (Place, &'d MarkerWritten)> {
    step.events().iter().filter_map(|event| match event {
        Event::MarkerWritten(marker) => {
            let transaction = KeyTransaction { producer: marker.producer.id, number: marker.number };
            Some(((marker.partition, transaction), marker))
        }
        _ => None,
    })
}

/// O6.
pub(super) fn each_marker_is_owed_once(step: &Step<'_>) -> Verdict {
    let mut owed = owed(step);
    markers(step).try_for_each(|(place, marker)| holds(owed.remove(&place).is_some(), marker))
}

/// O6; of partitions that are deleted, nothing is owed (X2).
pub(super) fn every_enrolled_partition_has_its_marker(step: &Step<'_>) -> Verdict {
    let mut unpaid = owed(step);
    let paid: BTreeSet<Place> = markers(step).map(|(place, _)| place).collect();
    unpaid.retain(|place, _| !paid.contains(place) && !step.is_gone::<PartitionRow>(&place.0));
    holds(unpaid.is_empty(), unpaid)
}

pub(super) fn markers_say_what_was_decided(step: &Step<'_>) -> Verdict {
    let owed = owed(step);
    markers(step).try_for_each(|(place, marker)| {
        let said = owed.get(&place).map(|(outcome, _)| *outcome);
        holds(said.is_none_or(|outcome| outcome == marker.outcome), (marker, said))
    })
}

/// O3, O5, P9.
pub(super) fn markers_carry_the_raised_epoch(step: &Step<'_>) -> Verdict {
    let owed = owed(step);
    markers(step).try_for_each(|(place, marker)| {
        let raised = owed.get(&place).map(|(_, epoch)| *epoch);
        holds(raised.is_none_or(|epoch| epoch == marker.producer.epoch), (marker, raised))
    })
}

pub(super) fn markers_close_their_transaction(step: &Step<'_>) -> Verdict {
    markers(step).try_for_each(|((partition, transaction), marker)| {
        let key = ProducerKey { partition, producer: transaction.producer };
        let open = step.after::<ProducerRow>(&key).flatten().and_then(|row| row.open);
        holds(open.is_none_or(|(number, _)| number != transaction.number), (marker, open))
    })
}

/// Where the records begin that a marker ends, if there are any, and the row that says so if it aborts them.
fn range<'d>(step: &Step<'d>, marker: &MarkerWritten) -> (Option<Offset>, Option<&'d AbortedRow>) {
    let MarkerWritten { partition, producer, number, offset, .. } = *marker;
    let row = step.before::<ProducerRow>(&ProducerKey { partition, producer: producer.id }).flatten();
    let first = row.and_then(|row| row.open).filter(|(open, _)| *open == number).map(|(_, first)| first);
    let key = AbortedKey { partition, producer: producer.id, marker: offset };
    (first, step.after::<AbortedRow>(&key).flatten())
}

/// O2.
pub(super) fn aborted_records_are_in_a_range(step: &Step<'_>) -> Verdict {
    let aborts = markers(step).filter(|(_, marker)| marker.outcome == Outcome::Abort);
    aborts.map(|(_, marker)| (marker, range(step, marker))).try_for_each(|(marker, (first, row))| {
        holds(first.is_none_or(|first| row.is_some_and(|row| row.first == first)), (marker, first, row))
    })
}

/// Whatever is in a range, readers are not shown.
pub(super) fn only_aborted_records_are_in_a_range(step: &Step<'_>) -> Verdict {
    let mut aborted: BTreeMap<AbortedKey, Option<Offset>> = BTreeMap::new();
    for (_, marker) in markers(step).filter(|(_, marker)| marker.outcome == Outcome::Abort) {
        let (partition, producer) = (marker.partition, marker.producer.id);
        aborted.insert(AbortedKey { partition, producer, marker: marker.offset }, range(step, marker).0);
    }
    step.every::<AbortedRow>(|change| {
        change.is_left(|row| aborted.get(change.key).is_some_and(|first| *first == Some(row.first)))
    })
}

/// A batch that is appended in a transaction of a transactional id.
struct InTransaction<'d> {
    id: &'d TransactionalId,
    batch: &'d BatchAppended,
    identity: Identity,
    number: TxnNumber,
}

fn in_transactions<'d>(step: &Step<'d>) -> impl Iterator<Item = InTransaction<'d>> {
    let id = match step.command {
        Command::Produce(produce) => produce.transactional_id.as_ref(),
        _ => None,
    };
    step.events().iter().filter_map(move |event| match event {
        Event::BatchAppended(batch) => {
            let append = batch.producer.as_ref()?;
            Some(InTransaction { id: id?, batch, identity: append.identity, number: append.transaction? })
        }
        _ => None,
    })
}

/// E3, E4: so that no transaction can hang unseen.
pub(super) fn nothing_is_appended_without_enrolment(step: &Step<'_>) -> Verdict {
    in_transactions(step).try_for_each(|InTransaction { id, batch, number, .. }| {
        let row = step.after::<TransactionRow>(id).flatten();
        let open = row.filter(|row| row.number == number).and_then(|row| match &row.state {
            TransactionState::Ongoing(open) => Some(open),
            _ => None,
        });
        let beyond = || step.after::<EnrolledRow>(&EnrolledKey::of(id, batch.partition)).flatten();
        let enrolled = open.is_some_and(|open| {
            open.partitions.contains(&batch.partition)
                || beyond().is_some_and(|row| row.partitions.contains(&batch.partition))
        });
        holds(enrolled, (batch, row))
    })
}

/// E2.
pub(super) fn transactions_are_their_holders(step: &Step<'_>) -> Verdict {
    in_transactions(step).try_for_each(|InTransaction { id, batch, identity, .. }| {
        let row = step.before::<TransactionRow>(id).flatten();
        holds(row.is_some_and(|row| row.holder == identity), (batch, row))
    })
}

/// An end finds by them the partitions that have no room in the transaction's row.
pub(super) fn partitions_beyond_the_row_are_counted(step: &Step<'_>) -> Verdict {
    step.every::<MoreEnrolledRow>(|change| {
        change.is_left(|more| {
            let rows: BTreeSet<EnrolledKey> = more.keys(change.key).collect();
            let mut counted = change.before.map_or(0, |more| i64::from(more.partitions));
            let mut found = true;
            for row in step.changes::<EnrolledRow>().filter(|row| row.key.transactional_id == *change.key) {
                let length = |row: Option<&EnrolledRow>| row.map_or(0, |row| row.partitions.len() as i64);
                counted += length(row.after) - length(row.before);
                found &= rows.contains(row.key);
            }
            found && counted == i64::from(more.partitions)
        })
    })
}
