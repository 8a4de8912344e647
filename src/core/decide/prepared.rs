//! Two-phase commit (KIP-939; `spec/transactions.md`, O10): the outcome of a prepared transaction is decided outside.

use super::transactions::find_coordinated;
use crate::core::commands::{Now, PrepareTxn, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;

/// `PrepareTransaction`: from now on nothing is added, and no timeout of its producer's ends it. A repetition changes
/// nothing.
pub(super) fn prepare_transaction(
    rows: &mut Draft<'_>,
    now: Now,
    prepare: &PrepareTxn,
) -> Result<Result<(), Refusal>, Need> {
    let row = match find_coordinated(rows, &prepare.producer, CoordinatorKind::Transaction)? {
        Ok(row) => row,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let number = row.number;
    match row.state {
        TransactionState::Prepared(_) => return Ok(Ok(())),
        TransactionState::Ongoing(_) => {}
        TransactionState::Empty | TransactionState::Complete(_) => return Ok(Err(Refusal::TransactionState)),
    }
    let transactional_id = prepare.producer.transactional_id.clone();
    let deadline = prepare.timeout.map(|timeout| now.served.plus(timeout));
    rows.state(Event::TransactionPrepared { transactional_id, number, at: now.wall, deadline })?;
    Ok(Ok(()))
}
