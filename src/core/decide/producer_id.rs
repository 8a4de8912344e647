//! Producer ids: given out once, handed on, never reused (`spec/transactions.md`, "Producer ids").

use super::transactions::{fence, raised, take_over_connections};
use crate::core::commands::{InitProducerId, Now, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::{PRODUCER_IDS_PER_RESERVATION, TRANSACTIONAL_ID_BYTES_MAX};
use crate::core::rows::*;
use crate::types::*;
use std::time::Duration;

/// `InitProducerId`: a fresh id for an idempotent producer; the next identity of a transactional id, whose open transaction
/// is aborted first.
pub(super) fn init_producer_id(
    rows: &mut Draft<'_>,
    now: Now,
    init: &InitProducerId,
) -> Result<Result<Identity, Refusal>, Need> {
    let Some((id, connection)) = &init.transactional_id else {
        return Ok(Ok(Identity { id: take_producer_id(rows)?, epoch: ProducerEpoch::FIRST }));
    };
    if id.as_str().len() > TRANSACTIONAL_ID_BYTES_MAX {
        return Ok(Err(Refusal::InvalidName));
    }
    if init.timeout.is_zero() {
        return Ok(Err(Refusal::TransactionTimeout));
    }
    let identity = match rows.get::<TransactionRow>(id)? {
        None => {
            let holder = Identity { id: take_producer_id(rows)?, epoch: ProducerEpoch::FIRST };
            initialised(rows, id, holder, None, init.timeout)?
        }
        Some(row) => {
            let (holder, recoverable) = (row.holder, row.recoverable);
            let ongoing = matches!(row.state, TransactionState::Ongoing(_));
            match init.current {
                // The reply to an earlier request got lost, or the transaction expired: the same answer again.
                Some(current) if recoverable == Some(current) && current != holder => {
                    if ongoing {
                        return Ok(Err(Refusal::Fenced));
                    }
                    initialised(rows, id, holder, recoverable, init.timeout)?
                }
                Some(current) if current != holder => return Ok(Err(Refusal::Fenced)),
                current => {
                    let next = if ongoing { fence(rows, now, id)? } else { raised(rows, holder)?.1 };
                    initialised(rows, id, next, current, init.timeout)?
                }
            }
        }
    };
    take_over_connections(rows, id, *connection);
    Ok(Ok(identity))
}

fn initialised(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    holder: Identity,
    recoverable: Option<Identity>,
    timeout: Duration,
) -> Result<Identity, Need> {
    rows.state(Event::ProducerInitialized { transactional_id: id.clone(), holder, recoverable, timeout })?;
    Ok(holder)
}

/// The next producer id, from the reserved ones; reserves more if there are none left. After a restart the rest of a
/// reservation is skipped.
pub(super) fn take_producer_id(rows: &mut Draft<'_>) -> Result<ProducerId, Need> {
    let reserved_until = rows.get::<ProducerIdsRow>(&())?.map_or(ProducerId(0), |row| row.reserved_until);
    let id = rows.get::<NextProducerIdRow>(&())?.map_or(reserved_until, |row| row.id);
    if id >= reserved_until {
        let until = ProducerId(id.0.saturating_add(PRODUCER_IDS_PER_RESERVATION));
        rows.state(Event::ProducerIdsReserved { until })?;
    }
    rows.put(&(), NextProducerIdRow { id: ProducerId(id.0.saturating_add(1)) });
    Ok(id)
}
