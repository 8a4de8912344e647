//! Of transactional ids: who holds one, and where its newest transaction stands.

use super::step::{Change, Step, Verdict, holds};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeMap;

/// A state of the machine in `spec/transactions.md`, section 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dead,
    Empty,
    Ongoing,
    Prepared,
    Complete,
}

/// Where an id stands: the state of its newest transaction, and that one's number.
type Standing = (State, TxnNumber);

fn standing(row: Option<&TransactionRow>) -> Standing {
    let Some(row) = row else { return (State::Dead, TxnNumber(0)) };
    let state = match row.state {
        TransactionState::Empty => State::Empty,
        TransactionState::Ongoing(_) => State::Ongoing,
        TransactionState::Prepared(_) => State::Prepared,
        TransactionState::Complete(_) => State::Complete,
    };
    (state, row.number)
}

/// Every event goes along an arrow, with the number that the transaction has or the next one gets (E1), and the row
/// stands where the last one leads.
pub(super) fn states_go_along_the_arrows(step: &Step<'_>) -> Verdict {
    let mut reached: BTreeMap<&TransactionalId, Standing> = BTreeMap::new();
    for event in step.events() {
        let Some(id) = whose(event) else { continue };
        let Some(row) = step.before::<TransactionRow>(id) else { continue };
        let from = reached.get(id).copied().unwrap_or_else(|| standing(row));
        let to = along(from, event);
        holds(to.is_some(), (event, from))?;
        reached.extend(to.map(|to| (id, to)));
    }
    step.every::<TransactionRow>(|change| {
        let at = reached.get(change.key).copied().unwrap_or_else(|| standing(change.before));
        let forgotten = change.after.is_none() && at.0 == State::Dead;
        forgotten || standing(change.after) == at
    })
}

/// Whose transaction an event is about.
fn whose(event: &Event) -> Option<&TransactionalId> {
    match event {
        Event::ProducerInitialized { transactional_id, .. }
        | Event::TransactionPrepared { transactional_id, .. }
        | Event::HolderReplaced { transactional_id, .. }
        | Event::DeadlineMoved { transactional_id, .. }
        | Event::TransactionEnded { transactional_id, .. }
        | Event::OperatorDecided { transactional_id, .. }
        | Event::TransactionalIdExpired { transactional_id } => Some(transactional_id),
        Event::PartitionsEnrolled { enrolment, .. }
        | Event::GroupEnrolled { enrolment, .. }
        | Event::OffsetsStaged { enrolment, .. } => Some(&enrolment.transactional_id),
        _ => None,
    }
}

/// Where an event leads; nowhere, if there is no such arrow.
fn along((state, newest): Standing, event: &Event) -> Option<Standing> {
    let closed = matches!(state, State::Empty | State::Complete);
    let open = matches!(state, State::Ongoing | State::Prepared);
    let to = match event {
        Event::ProducerInitialized { .. } if closed || state == State::Dead => (State::Empty, newest),
        Event::PartitionsEnrolled { enrolment, .. }
        | Event::GroupEnrolled { enrolment, .. }
        | Event::OffsetsStaged { enrolment, .. }
            if closed && enrolment.number == newest.next()
                || state == State::Ongoing && enrolment.number == newest =>
        {
            (State::Ongoing, enrolment.number)
        }
        Event::TransactionPrepared { number, .. } if state == State::Ongoing && *number == newest => {
            (State::Prepared, newest)
        }
        Event::HolderReplaced { .. } if state == State::Prepared => (State::Prepared, newest),
        Event::DeadlineMoved { .. } if state == State::Ongoing => (State::Ongoing, newest),
        Event::TransactionEnded { number, .. } if open && *number == newest => (State::Complete, newest),
        // O7: the end of nothing.
        Event::TransactionEnded { number, outcome: Outcome::Abort, .. }
            if closed && *number == newest.next() =>
        {
            (State::Complete, *number)
        }
        Event::OperatorDecided { number, .. } if state == State::Complete && *number == newest => {
            (State::Complete, newest)
        }
        Event::TransactionalIdExpired { .. } if closed => (State::Dead, newest),
        _ => return None,
    };
    Some(to)
}

/// O1: an outcome is decided once, and the row of outcomes has it.
pub(super) fn one_outcome(step: &Step<'_>) -> Verdict {
    let same = |one: &OutcomeRow, other: &OutcomeRow| {
        (one.producer, one.outcome, one.reason) == (other.producer, other.outcome, other.reason)
    };
    step.every::<OutcomeRow>(|change| match (change.before, change.after) {
        (Some(before), Some(after)) => same(before, after),
        _ => true,
    })?;
    step.events().iter().try_for_each(|event| {
        let Event::TransactionEnded { transactional_id, number, outcome, reason, .. } = event else {
            return Ok(());
        };
        let key = OutcomeKey { transactional_id: transactional_id.clone(), number: *number };
        let row = step.after::<OutcomeRow>(&key).flatten();
        let said = row.is_some_and(|row| (row.outcome, row.reason) == (*outcome, *reason));
        holds(said, (event, row))
    })
}

/// E9.
pub(super) fn prepared_stays_as_it_is(step: &Step<'_>) -> Verdict {
    step.every::<TransactionRow>(|change| match (prepared(change.before), prepared(change.after)) {
        (Some(before), Some(after)) => before == after,
        _ => true,
    })
}

fn prepared(row: Option<&TransactionRow>) -> Option<&Prepared> {
    match &row?.state {
        TransactionState::Prepared(prepared) => Some(prepared),
        _ => None,
    }
}

/// Each end of a transaction, with the id's row as it was.
fn ended<'d>(step: &Step<'d>) -> impl Iterator<Item = (&'d Event, &'d TransactionRow, EndReason, Identity)> {
    step.events().iter().filter_map(|event| match event {
        Event::TransactionEnded { transactional_id, reason, holder, .. } => {
            let row = step.before::<TransactionRow>(transactional_id).flatten()?;
            Some((event, row, *reason, *holder))
        }
        _ => None,
    })
}

/// D3.
pub(super) fn prepared_waits_for_its_owner(step: &Step<'_>) -> Verdict {
    ended(step).try_for_each(|(event, row, reason, _)| {
        let has_timeout = prepared(Some(row)).is_none_or(|prepared| prepared.deadline.is_some());
        let by_time = matches!(reason, EndReason::Expired | EndReason::Budget);
        holds(!by_time || has_timeout, (event, row))
    })
}

/// D2.
pub(super) fn nothing_expires_early(step: &Step<'_>) -> Verdict {
    ended(step).filter(|(_, _, reason, _)| reason.is_recoverable()).try_for_each(|(event, row, ..)| {
        let due = deadline(row).is_none_or(|deadline| deadline <= step.now.served);
        holds(due, (event, row, step.now.served))
    })
}

/// D1: once fixed, it is only moved earlier.
pub(super) fn deadlines_move_earlier(step: &Step<'_>) -> Verdict {
    step.every::<TransactionRow>(|change| match ongoing(change) {
        Some((before, after)) => after.deadline <= before.deadline,
        None => true,
    })
}

/// The same transaction, before and after.
fn ongoing<'d>(change: &Change<'d, TransactionRow>) -> Option<(&'d Ongoing, &'d Ongoing)> {
    let (before, after) = (change.before?, change.after?);
    match (&before.state, &after.state) {
        (TransactionState::Ongoing(one), TransactionState::Ongoing(other))
            if before.number == after.number =>
        {
            Some((one, other))
        }
        _ => None,
    }
}

fn deadline(row: &TransactionRow) -> Option<ServedTime> {
    match &row.state {
        TransactionState::Ongoing(ongoing) => Some(ongoing.deadline),
        TransactionState::Prepared(prepared) => prepared.deadline,
        TransactionState::Empty | TransactionState::Complete(_) => None,
    }
}

/// D4: the row of deadlines is what a start finds them by.
pub(super) fn deadlines_are_known(step: &Step<'_>) -> Verdict {
    step.changes::<TransactionRow>().try_for_each(|change| {
        let expected = change.after.and_then(deadline);
        let row = step.after::<DeadlineRow>(&Timer::Transaction(change.key.clone()));
        holds(row.is_none_or(|row| row.map(|row| row.deadline) == expected), (&change, row))
    })
}

/// O5.
pub(super) fn who_did_not_ask_is_fenced(step: &Step<'_>) -> Verdict {
    ended(step).try_for_each(|(event, row, reason, holder)| {
        holds(reason == EndReason::Requested || holder > row.holder, (event, row))
    })
}

pub(super) fn holders_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<TransactionRow>(|change| change.never_goes_back(|row| row.holder))
}

pub(super) fn numbers_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<TransactionRow>(|change| change.never_goes_back(|row| row.number))
}

/// P9: the last epoch fences for good, and is nobody's.
pub(super) fn epochs_can_be_fenced(step: &Step<'_>) -> Verdict {
    let usable = ProducerEpoch::FIRST..=PRODUCER_EPOCH_LAST_USABLE;
    step.every::<TransactionRow>(|change| change.is_left(|row| usable.contains(&row.holder.epoch)))
}

/// P1, also after a restart, which skips what is left of a reservation.
pub(super) fn producer_ids_are_given_once(step: &Step<'_>) -> Verdict {
    step.every::<ProducerOwnerRow>(|change| match (change.before, change.after) {
        (Some(before), Some(after)) => before.transactional_id == after.transactional_id,
        _ => true,
    })?;
    step.every::<ProducerIdsRow>(|change| change.never_goes_back(|row| row.reserved_until))?;
    let reserved = step.before::<ProducerIdsRow>(&()).flatten().map(|row| row.reserved_until);
    step.every::<NextProducerIdRow>(|change| {
        let unused = change.before.map(|row| row.id).or(reserved);
        change.is_left(|row| unused.is_none_or(|unused| row.id > unused))
    })
}

/// P1: what is given out is reserved, or a restart would give it out again.
pub(super) fn producer_ids_are_reserved(step: &Step<'_>) -> Verdict {
    let Some(Some(reserved)) = step.after::<ProducerIdsRow>(&()) else { return Ok(()) };
    step.every::<NextProducerIdRow>(|change| change.is_left(|row| row.id <= reserved.reserved_until))
}

/// B1, B4.
pub(super) fn restores_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<RestoredRow>(|change| {
        change.never_goes_back(|row| row.ids_from) && change.never_goes_back(|row| row.leader_epoch)
    })?;
    let Some(Some(restored)) = step.after::<RestoredRow>(&()) else { return Ok(()) };
    step.events().iter().try_for_each(|event| match event {
        Event::LogRestored { .. } => {
            let ids = step.after::<ProducerIdsRow>(&()).flatten();
            holds(ids.is_some_and(|row| row.reserved_until >= restored.ids_from), (event, ids))
        }
        _ => Ok(()),
    })
}

/// B1, B4: whoever holds an id anew has nothing that may have been given out before.
pub(super) fn nothing_of_before_a_restore_is_given_out(step: &Step<'_>) -> Verdict {
    let Some(Some(restored)) = step.before::<RestoredRow>(&()) else { return Ok(()) };
    step.every::<TransactionRow>(|change| {
        let before = change.before.map(|row| row.holder);
        change.is_left(|row| before == Some(row.holder) || row.holder.id >= restored.ids_from)
    })
}
