//! PrepareTxn and EndTxnByOperator: two-phase commit with an explicit prepare, and what an operator may decide
//! (`spec/transactions.md`, O10 and O11).

use super::authorise::Operation;
use super::failure::{Failure, expect};
use super::service::reply_to;
use super::session::Context;
use super::{errors, transactions};
use crate::core::{Command, EndByOperator, Outcome, PrepareTxn, Refusal};
use crate::shard::Answer;
use crate::types::{TransactionalId, TxnNumber};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::future::Future;
use std::time::Duration;

/// A code, and what a person is told.
type Verdict = (ErrorCode, Option<String>);

/// What was asked of the shard, or why it was not asked.
type Asked = Result<Answer, Verdict>;

async fn verdict(cx: &Context, asked: Asked) -> Result<Verdict, Failure> {
    let done = match asked {
        Err(refused) => return Ok(refused),
        Ok(answer) => expect::done(reply_to(answer).await?)?,
    };
    let message = done.err().map(|refusal: Refusal| refusal.to_string());
    Ok((errors::outcome(done, cx.api, cx.version)?, message))
}

fn refuse<T>(code: ErrorCode, message: &str) -> Result<T, Verdict> {
    Err((code, Some(message.to_owned())))
}

fn check_prepare(cx: &Context, request: &PrepareTxnRequest) -> Result<PrepareTxn, Verdict> {
    if !cx.node.config.two_phase_commit {
        let message = "two-phase commit is switched off: set two-phase-commit=true";
        return refuse(ErrorCode::TransactionalIdAuthorizationFailed, message);
    }
    let PrepareTxnRequest { transactional_id, producer_id, producer_epoch, timeout_ms } = request;
    let timeout = match (*timeout_ms, u64::try_from(*timeout_ms)) {
        (-1, _) => None,
        (1.., Ok(millis)) => Some(Duration::from_millis(millis)),
        _ => return refuse(ErrorCode::InvalidTransactionTimeout, "the timeout is -1 (none) or above 0"),
    };
    let producer = transactions::producer(cx, transactional_id, *producer_id, *producer_epoch)
        .map_err(|code| (code, None))?;
    Ok(PrepareTxn { producer, timeout })
}

pub(super) async fn accept_prepare(
    cx: Context,
    request: PrepareTxnRequest,
) -> Result<impl Future<Output = Result<PrepareTxnResponse, Failure>> + Send + 'static, Failure> {
    let asked = match check_prepare(&cx, &request) {
        Ok(prepare) => Ok(cx.ask(Command::PrepareTxn(prepare)).await?),
        Err(refused) => Err(refused),
    };
    Ok(async move {
        let (error_code, error_message) = verdict(&cx, asked).await?;
        Ok(PrepareTxnResponse { error_code, error_message, ..Default::default() })
    })
}

/// The transaction's number in a request; none for −1, which asks for whichever there is. Nothing for what is no number: a
/// damaged one must not end what nobody has named.
pub(super) fn number(asked: i64) -> Option<Option<TxnNumber>> {
    match asked {
        -1 => Some(None),
        _ => u64::try_from(asked).ok().map(|number| Some(TxnNumber(number))),
    }
}

fn check_end(cx: &Context, request: &EndTxnByOperatorRequest) -> Result<EndByOperator, Verdict> {
    if !cx.may(Operation::ActForCluster) {
        let message = "only those in `admins` may end the transactions of others";
        return refuse(ErrorCode::ClusterAuthorizationFailed, message);
    }
    let Some(transactional_id) = TransactionalId::new(&request.transactional_id) else {
        return refuse(ErrorCode::InvalidRequest, "the transactional id is empty, or longer than one can be");
    };
    let Some(number) = number(request.transaction_number) else {
        return refuse(
            ErrorCode::InvalidRequest,
            "the transaction's number is -1 (whichever is open) or above",
        );
    };
    Ok(EndByOperator {
        transactional_id,
        number,
        outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
        operator: cx.caller.connection.principal.to_string(),
    })
}

pub(super) async fn accept_end(
    cx: Context,
    request: EndTxnByOperatorRequest,
) -> Result<impl Future<Output = Result<EndTxnByOperatorResponse, Failure>> + Send + 'static, Failure> {
    let asked = match check_end(&cx, &request) {
        Ok(end) => {
            tracing::warn!(operator = %end.operator, transactional_id = %end.transactional_id, outcome = ?end.outcome,
                "an operator asks for a transaction to be ended");
            Ok(cx.ask(Command::EndByOperator(end)).await?)
        }
        Err(refused) => Err(refused),
    };
    Ok(async move {
        let (error_code, error_message) = verdict(&cx, asked).await?;
        Ok(EndTxnByOperatorResponse { error_code, error_message, ..Default::default() })
    })
}
