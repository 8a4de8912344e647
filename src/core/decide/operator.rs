//! What operators decide about the transactions of others (`spec/transactions.md`, O11).

use super::transactions::close;
use crate::core::commands::{ForceAbort, Now, Protocol, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::rows::*;

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
    let enrolled = match rows.get::<TransactionRow>(&id)? {
        Some(TransactionRow { holder, state: TransactionState::Ongoing(ongoing), .. })
            if *holder == abort.producer =>
        {
            &ongoing.partitions
        }
        _ => return Ok(none),
    };
    let had = |partition| if enrolled.contains(partition) { Ok(()) } else { Err(Refusal::TransactionState) };
    let answers: Vec<_> = abort.partitions.iter().map(had).collect();
    if answers.iter().any(Result::is_ok) {
        close(rows, now, &id, Outcome::Abort, EndReason::Operator, Protocol::V2)?;
    }
    Ok(answers)
}
