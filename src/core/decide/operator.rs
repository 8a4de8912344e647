//! What operators decide about the transactions of others (`spec/transactions.md`, O11). Each decision is on record: with
//! its event, and with the outcome for as long as that is kept.

use super::open::which_enrolled;
use super::transactions::close;
use crate::core::commands::{EndByOperator, ForceAbort, Now, Protocol, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// `ForceAbort`: aborts the whole open transaction of a producer id with fencing, if one of the partitions named is
/// enrolled in it. One answer for each partition: whether the transaction that was aborted had it.
pub(super) fn force_abort(
    rows: &mut Draft<'_>,
    now: Now,
    abort: &ForceAbort,
) -> Result<Vec<Result<(), Refusal>>, Need> {
    let none = vec![Err(Refusal::TransactionState); abort.partitions.len()];
    let Some(owner) = rows.get::<ProducerOwnerRow>(&abort.producer.id)? else { return Ok(none) };
    let id = owner.transactional_id.clone();
    let Some(row) = rows.get::<TransactionRow>(&id)? else { return Ok(none) };
    let Some(open) = row.state.open().filter(|_| row.holder == abort.producer) else { return Ok(none) };
    let enrolled = which_enrolled(rows, &id, open, &abort.partitions.iter().copied().collect())?;
    let had = |partition| if enrolled.contains(partition) { Ok(()) } else { Err(Refusal::TransactionState) };
    let answers: Vec<_> = abort.partitions.iter().map(had).collect();
    if answers.iter().any(Result::is_ok) {
        end(rows, now, &id, Outcome::Abort, &abort.operator)?;
    }
    Ok(answers)
}

/// `ForceAbort` and `EndTransaction` by an operator: ends the open transaction of a transactional id. A commit is only for
/// one that is prepared: what else is open, its producer may not have finished.
pub(super) fn end_by_operator(
    rows: &mut Draft<'_>,
    now: Now,
    by: &EndByOperator,
) -> Result<Result<(), Refusal>, Need> {
    let id = &by.transactional_id;
    let Some(row) = rows.get::<TransactionRow>(id)? else { return Ok(Err(Refusal::UnknownTransactionalId)) };
    let named = by.number.is_none_or(|number| number == row.number) || mutated(Mutant::NumberNotCompared);
    let may_end = match (&row.state, by.outcome) {
        (TransactionState::Prepared(_), _) | (TransactionState::Ongoing(_), Outcome::Abort) => true,
        (TransactionState::Ongoing(_), Outcome::Commit) => false,
        (TransactionState::Empty | TransactionState::Complete(_), _) => false,
    };
    if !named || !may_end {
        return Ok(Err(Refusal::TransactionState));
    }
    end(rows, now, id, by.outcome, &by.operator)?;
    Ok(Ok(()))
}

fn end(
    rows: &mut Draft<'_>,
    now: Now,
    id: &TransactionalId,
    outcome: Outcome,
    operator: &str,
) -> Result<(), Need> {
    let number = rows.get::<TransactionRow>(id)?.map_or(TxnNumber(0), |row| row.number);
    close(rows, now, id, outcome, EndReason::Operator, Protocol::V2)?;
    let decision = OperatorDecision { operator: operator.to_owned(), at: now.wall };
    rows.state(Event::OperatorDecided { transactional_id: id.clone(), number, decision })
}
