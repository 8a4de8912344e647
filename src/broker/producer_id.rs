//! InitProducerId: an identity for an idempotent or transactional producer.

use super::errors;
use super::failure::{Failure, expect};
use super::service::reply_to;
use super::session::Context;
use crate::core::{Command, Identity, InitProducerId, Kept, Reply, TwoPhase};
use crate::types::{ProducerEpoch, ProducerId, TransactionalId};
use crate::wire::ErrorCode;
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use std::future::Future;
use std::time::Duration;

pub(super) async fn accept(
    cx: Context,
    request: InitProducerIdRequest,
) -> Result<impl Future<Output = Result<InitProducerIdResponse, Failure>> + Send + 'static, Failure> {
    let asked = match check(&cx, &request) {
        Ok(command) => Ok(cx.ask(Command::InitProducerId(command)).await?),
        Err(code) => Err(code),
    };
    Ok(async move {
        let answer = match asked {
            Ok(answer) => answer,
            Err(code) => return Ok(refused(code)),
        };
        let reply = reply_to(answer).await?;
        if let Reply::Kept(Kept { holder, prepared }) = reply {
            return Ok(InitProducerIdResponse {
                producer_id: holder.id.0,
                producer_epoch: holder.epoch.0,
                ongoing_txn_producer_id: prepared.id.0,
                ongoing_txn_producer_epoch: prepared.epoch.0,
                ..Default::default()
            });
        }
        Ok(match expect::identity(reply)? {
            Ok(identity) => InitProducerIdResponse {
                producer_id: identity.id.0,
                producer_epoch: identity.epoch.0,
                ..Default::default()
            },
            Err(refusal) => refused(errors::code(refusal, cx.api, cx.version)?),
        })
    })
}

fn refused(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code, producer_epoch: ProducerEpoch::NONE.0, ..Default::default() }
}

fn check(cx: &Context, request: &InitProducerIdRequest) -> Result<InitProducerId, ErrorCode> {
    let two_phase = match (request.enable_two_pc, request.keep_prepared_txn) {
        (true, _) if !cx.node.config.two_phase_commit => {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        (false, true) => return Err(ErrorCode::InvalidRequest),
        (false, false) => TwoPhase::Unaware,
        (true, true) => TwoPhase::Keep,
        (true, false) => TwoPhase::Abort,
    };
    let current = current_identity(request)?;
    let Some(id) = &request.transactional_id else {
        return Ok(InitProducerId {
            transactional_id: None,
            timeout: Duration::ZERO,
            current: None,
            two_phase,
        });
    };
    let id = TransactionalId::new(id).ok_or(ErrorCode::InvalidRequest)?;
    let timeout = u64::try_from(request.transaction_timeout_ms).map(Duration::from_millis);
    let timeout = timeout.map_err(|_| ErrorCode::InvalidTransactionTimeout)?;
    if timeout.is_zero() || timeout > cx.node.config.transaction_timeout_max {
        return Err(ErrorCode::InvalidTransactionTimeout);
    }
    let connection = cx.caller.connection.id;
    Ok(InitProducerId { transactional_id: Some((id, connection)), timeout, current, two_phase })
}

/// The identity that the producer has and wants to go on from (KIP-360): both of its parts, or neither.
fn current_identity(request: &InitProducerIdRequest) -> Result<Option<Identity>, ErrorCode> {
    let identity =
        Identity { id: ProducerId(request.producer_id), epoch: ProducerEpoch(request.producer_epoch) };
    match (identity.id == ProducerId::NONE, identity.epoch == ProducerEpoch::NONE) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(identity)),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(producer_id: i64, producer_epoch: i16) -> Result<Option<Identity>, ErrorCode> {
        current_identity(&InitProducerIdRequest { producer_id, producer_epoch, ..Default::default() })
    }

    #[test]
    fn an_identity_is_given_whole_or_not_at_all() {
        assert_eq!(asking(-1, -1), Ok(None));
        assert_eq!(asking(-1, 3), Err(ErrorCode::InvalidRequest));
        assert_eq!(asking(7, -1), Err(ErrorCode::InvalidRequest));
        assert_eq!(asking(7, 3), Ok(Some(Identity { id: ProducerId(7), epoch: ProducerEpoch(3) })));
    }
}
