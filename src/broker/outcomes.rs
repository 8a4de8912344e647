//! DescribeOutcomes: where a transaction stands, for who has lost an answer and for operators (`spec/transactions.md`, O12).
//! Answered from the published view, so never of what a power cut could undo.

use super::failure::Failure;
use super::session::Context;
use super::two_phase;
use crate::core::limits::OUTCOMES_PER_ID_MAX;
use crate::core::{EndReason, Identity, Outcome, OutcomeRow, RestoredRow, TransactionRow, TransactionState};
use crate::store::ReadView;
use crate::types::{ProducerEpoch, ProducerId, TransactionalId, TxnNumber};
use crate::wire::ErrorCode;
use crate::wire::messages::*;

/// Which transaction is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    All,
    Number(TxnNumber),
    Of(Identity),
}

impl Asked {
    fn by(request: &DescribeOutcomesRequest) -> Option<Asked> {
        let number = two_phase::number(request.transaction_number)?;
        let identity =
            Identity { id: ProducerId(request.producer_id), epoch: ProducerEpoch(request.producer_epoch) };
        match (number, identity.id.0, identity.epoch.0) {
            (None, -1, -1) => Some(Asked::All),
            (Some(number), -1, -1) => Some(Asked::Number(number)),
            (None, 0.., 0..) => Some(Asked::Of(identity)),
            _ => None,
        }
    }

    fn takes(self, number: TxnNumber, producer: Identity) -> bool {
        match self {
            Asked::All => true,
            Asked::Number(asked) => asked == number,
            Asked::Of(asked) => asked == producer,
        }
    }
}

pub(super) async fn answer(
    cx: Context,
    request: DescribeOutcomesRequest,
) -> Result<DescribeOutcomesResponse, Failure> {
    let refused = |error_code, message: &str| DescribeOutcomesResponse {
        error_code,
        error_message: Some(message.to_owned()),
        ..Default::default()
    };
    let (Some(id), Some(asked)) = (TransactionalId::new(&request.transactional_id), Asked::by(&request))
    else {
        let message =
            "name a transactional id, and either a producer id with its epoch, or a number, or neither";
        return Ok(refused(ErrorCode::InvalidRequest, message));
    };
    let view = cx.view();
    let Some(row) = view.get::<TransactionRow>(&id)? else {
        let message = "this transactional id is not known, or not any more";
        return Ok(refused(ErrorCode::TransactionalIdNotFound, message));
    };
    let known = known(&view, &id, &row)?;
    let ids_from = view.get::<RestoredRow>(&())?.map_or(ProducerId(0), |restored| restored.ids_from);
    let absence = absence(asked, &row, &known, ids_from);
    let transactions: Vec<_> = known
        .into_iter()
        .filter(|(number, producer, _)| asked.takes(*number, *producer))
        .map(|(_, _, described)| described)
        .collect();
    let absence = if transactions.is_empty() { absence } else { absence::NONE };
    Ok(DescribeOutcomesResponse { absence, transactions, ..Default::default() })
}

type Known = (TxnNumber, Identity, DescribedOutcome);

/// The open transaction, if there is one, and the ended ones that are remembered, newest first.
fn known(view: &ReadView, id: &TransactionalId, row: &TransactionRow) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for outcome in view.outcomes(id) {
        let (number, outcome) = outcome?;
        let state = match outcome.outcome {
            Outcome::Commit => outcome_state::COMMITTED,
            Outcome::Abort => outcome_state::ABORTED,
        };
        known.push((number, outcome.producer, ended(number, state, outcome)));
    }
    let open = match row.state {
        TransactionState::Ongoing(_) => Some(outcome_state::OPEN),
        TransactionState::Prepared(_) => Some(outcome_state::PREPARED),
        TransactionState::Empty | TransactionState::Complete(_) => None,
    };
    if let Some(state) = open {
        let producer = row.runs_under();
        known.push((row.number, producer, described(row.number, producer, state)));
    }
    known.sort_by_key(|(number, ..)| std::cmp::Reverse(*number));
    Ok(known)
}

fn described(TxnNumber(number): TxnNumber, producer: Identity, state: i8) -> DescribedOutcome {
    DescribedOutcome {
        transaction_number: i64::try_from(number).unwrap_or(i64::MAX),
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0,
        state,
        ..Default::default()
    }
}

fn ended(number: TxnNumber, state: i8, row: OutcomeRow) -> DescribedOutcome {
    let reason = match row.reason {
        EndReason::Requested => outcome_reason::REQUESTED,
        EndReason::Expired => outcome_reason::EXPIRED,
        EndReason::Fenced => outcome_reason::FENCED,
        EndReason::Operator => outcome_reason::OPERATOR,
        EndReason::Budget => outcome_reason::BUDGET,
        EndReason::Restored => outcome_reason::RESTORED,
    };
    let decided_time_ms = row.operator.as_ref().map_or(-1, |decision| decision.at.0);
    let operator = row.operator.map(|decision| decision.operator);
    DescribedOutcome { reason, operator, decided_time_ms, ..described(number, row.producer, state) }
}

/// Why nothing is known of what was asked for, if nothing is. "Never begun" is said only where it is certain: identities
/// grow with each transaction, so one between two remembered ones would be remembered as well.
///
/// Under a producer id below `ids_from` there may have been more than a backup had.
fn absence(asked: Asked, row: &TransactionRow, known: &[Known], ids_from: ProducerId) -> i8 {
    match asked {
        Asked::Of(identity) if identity.id < ids_from => absence::FORGOTTEN,
        Asked::All => absence::NOT_BEGUN,
        Asked::Number(number) if number > row.number => absence::NOT_BEGUN,
        Asked::Number(_) => absence::FORGOTTEN,
        Asked::Of(identity) if identity == row.holder => absence::NOT_BEGUN,
        Asked::Of(identity) if identity > row.holder => absence::FORGOTTEN,
        Asked::Of(identity) => {
            // An expired transactional id that came back has another producer id.
            let all_are_known = identity.id == row.holder.id && row.number.0 <= OUTCOMES_PER_ID_MAX;
            let older_are_known = known.last().is_some_and(|(_, oldest, _)| *oldest < identity);
            if all_are_known || older_are_known { absence::NEVER_BEGUN } else { absence::FORGOTTEN }
        }
    }
}
