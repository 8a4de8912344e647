//! Producer ids: given out once, handed on, never reused (`spec/transactions.md`, "Producer ids").

use super::restore::predates_restore;
use super::transactions::{fence, raised, take_over_connections};
use crate::core::commands::{InitProducerId, Kept, Now, Refusal, Reply, TwoPhase};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::PRODUCER_IDS_PER_RESERVATION;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// `InitProducerId`: a fresh id for an idempotent producer; the next identity of a transactional id, whose open transaction
/// is aborted first, unless it is prepared (P10).
pub(super) fn init_producer_id(rows: &mut Draft<'_>, now: Now, init: &InitProducerId) -> Result<Reply, Need> {
    let Some((id, connection)) = &init.transactional_id else {
        let identity = Identity { id: take_producer_id(rows)?, epoch: ProducerEpoch::FIRST };
        return Ok(Reply::Identity(Ok(identity)));
    };
    let taken = match check(rows, init, id)? {
        Err(refusal) => return Ok(Reply::Identity(Err(refusal))),
        Ok(taking) => take_over(rows, now, init, id, taking)?,
    };
    take_over_connections(rows, id, *connection);
    Ok(taken)
}

/// How a transactional id is taken over.
enum Taking {
    /// Nobody has held it: P3.
    Fresh,
    /// By the identity after the holder's: P4, P5, P8, P10.
    Next,
    /// By the holder's own, again: P6.
    Same,
}

/// Whether an id may be taken over, and how. Whoever is refused changes nothing (P7).
fn check(
    rows: &Draft<'_>,
    init: &InitProducerId,
    id: &TransactionalId,
) -> Result<Result<Taking, Refusal>, Need> {
    if init.timeout.is_zero() {
        return Ok(Err(Refusal::TransactionTimeout));
    }
    let Some(row) = rows.get::<TransactionRow>(id)? else { return Ok(Ok(Taking::Fresh)) };
    if let Some(current) = init.current
        && predates_restore(rows, current.id)?
    {
        return Ok(Err(Refusal::Fenced));
    }
    let repeated =
        init.current.is_some_and(|current| row.recoverable == Some(current) && current != row.holder);
    let stale = init.current.is_some_and(|current| current != row.holder);
    if !repeated && stale && !mutated(Mutant::StaleHolderTakesOver) {
        return Ok(Err(Refusal::Fenced));
    }
    Ok(match (&row.state, init.two_phase, repeated) {
        (TransactionState::Prepared(_), TwoPhase::Unaware, _) => Err(Refusal::TransactionState),
        (TransactionState::Prepared(_), TwoPhase::Keep, true) => Ok(Taking::Same),
        (TransactionState::Prepared(_) | TransactionState::Ongoing(_), _, true) => Err(Refusal::Fenced),
        (TransactionState::Empty | TransactionState::Complete(_), _, true) => Ok(Taking::Same),
        (_, _, false) => Ok(Taking::Next),
    })
}

fn take_over(
    rows: &mut Draft<'_>,
    now: Now,
    init: &InitProducerId,
    id: &TransactionalId,
    taking: Taking,
) -> Result<Reply, Need> {
    let row = rows.get::<TransactionRow>(id)?;
    let open = row.is_some_and(|row| row.state.open().is_some()) && !mutated(Mutant::FenceSkipped);
    let kept = match row.map(|row| &row.state) {
        Some(TransactionState::Prepared(prepared)) if init.two_phase == TwoPhase::Keep => {
            Some(prepared.producer)
        }
        _ => None,
    };
    let before = row.map(|row| (row.holder, row.recoverable));
    let (holder, recoverable) = match (taking, before) {
        (Taking::Same, Some(before)) => before,
        (Taking::Next, Some(_)) if open && kept.is_none() => (fence(rows, now, id)?, init.current),
        (Taking::Next, Some((holder, _))) => (raised(rows, holder)?.1, init.current),
        (Taking::Fresh, _) | (_, None) => {
            (Identity { id: take_producer_id(rows)?, epoch: ProducerEpoch::FIRST }, None)
        }
    };
    let (transactional_id, timeout) = (id.clone(), init.timeout);
    Ok(match kept {
        Some(prepared) => {
            rows.state(Event::HolderReplaced { transactional_id, holder, recoverable, timeout })?;
            Reply::Kept(Kept { holder, prepared })
        }
        None => {
            rows.state(Event::ProducerInitialized { transactional_id, holder, recoverable, timeout })?;
            Reply::Identity(Ok(holder))
        }
    })
}

/// The next producer id, from the reserved ones; reserves more if there are none left. After a restart the rest of a
/// reservation is skipped.
pub(super) fn take_producer_id(rows: &mut Draft<'_>) -> Result<ProducerId, Need> {
    let reserved_until = rows.get::<ProducerIdsRow>(&())?.map_or(ProducerId(0), |row| row.reserved_until);
    let reused = if mutated(Mutant::ReservationReused) { PRODUCER_IDS_PER_RESERVATION } else { 0 };
    let first = ProducerId(reserved_until.0.saturating_sub(reused).max(0));
    let id = rows.get::<NextProducerIdRow>(&())?.map_or(first, |row| row.id);
    if id >= reserved_until {
        let until = ProducerId(id.0.saturating_add(PRODUCER_IDS_PER_RESERVATION));
        rows.state(Event::ProducerIdsReserved { until })?;
    }
    rows.put(&(), NextProducerIdRow { id: ProducerId(id.0.saturating_add(1)) });
    Ok(id)
}
