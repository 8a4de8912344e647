//! AddOffsetsToTxn and EndTxn, and what all requests of a transaction share.

use super::errors;
use super::failure::{Failure, expect};
use super::service::reply_to;
use super::session::Context;
use crate::core::{Command, EndTxn, Identity, Outcome, Protocol, TransactionalProducer};
use crate::types::{GroupId, ProducerEpoch, ProducerId, TransactionalId};
use crate::wire::ErrorCode;
use crate::wire::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, EndTxnRequest, EndTxnResponse};
use std::future::Future;

/// The first version of EndTxn that belongs to transactions of version 2 (KIP-890).
const END_V2: i16 = 5;

/// The transaction protocol of a request whose api belongs to version 2 from `v2_from` on; UNSUPPORTED_VERSION if that is
/// older than is served here (`transactions-min-version`).
pub(super) fn protocol(cx: &Context, v2_from: i16) -> Result<Protocol, ErrorCode> {
    match cx.node.config.transactions_min {
        _ if cx.version >= v2_from => Ok(Protocol::V2),
        Protocol::V1 => Ok(Protocol::V1),
        Protocol::V2 => Err(ErrorCode::UnsupportedVersion),
    }
}

/// No version of the api belongs to version 2 of the protocol: its clients do not send it.
const NEVER_V2: i16 = i16::MAX;

/// Who a request of version 1 says it speaks for.
pub(super) fn producer_v1(
    cx: &Context,
    transactional_id: &str,
    producer_id: i64,
    producer_epoch: i16,
) -> Result<TransactionalProducer, ErrorCode> {
    protocol(cx, NEVER_V2)?;
    producer(cx, transactional_id, producer_id, producer_epoch)
}

/// Who a request says it speaks for. An empty transactional id is no request.
pub(super) fn producer(
    cx: &Context,
    transactional_id: &str,
    producer_id: i64,
    producer_epoch: i16,
) -> Result<TransactionalProducer, ErrorCode> {
    Ok(TransactionalProducer {
        transactional_id: TransactionalId::new(transactional_id).ok_or(ErrorCode::InvalidRequest)?,
        identity: Identity { id: ProducerId(producer_id), epoch: ProducerEpoch(producer_epoch) },
        connection: cx.caller.connection.id,
    })
}

pub(super) async fn accept_group(
    cx: Context,
    request: AddOffsetsToTxnRequest,
) -> Result<impl Future<Output = Result<AddOffsetsToTxnResponse, Failure>> + Send + 'static, Failure> {
    let AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id } = request;
    let asked = match producer_v1(&cx, &transactional_id, producer_id, producer_epoch) {
        Ok(producer) => Ok(cx.ask(Command::EnrolGroup { producer, group: GroupId::new(&group_id) }).await?),
        Err(code) => Err(code),
    };
    Ok(async move {
        let error_code = match asked {
            Ok(answer) => errors::outcome(expect::done(reply_to(answer).await?)?, cx.api, cx.version)?,
            Err(code) => code,
        };
        Ok(AddOffsetsToTxnResponse { error_code, ..Default::default() })
    })
}

pub(super) async fn accept_end(
    cx: Context,
    request: EndTxnRequest,
) -> Result<impl Future<Output = Result<EndTxnResponse, Failure>> + Send + 'static, Failure> {
    let EndTxnRequest { transactional_id, producer_id, producer_epoch, committed } = request;
    let producer = producer(&cx, &transactional_id, producer_id, producer_epoch);
    let asked = match producer.and_then(|producer| Ok((producer, protocol(&cx, END_V2)?))) {
        Ok((producer, protocol)) => {
            let outcome = if committed { Outcome::Commit } else { Outcome::Abort };
            Ok(cx.ask(Command::EndTxn(EndTxn { producer, outcome, protocol })).await?)
        }
        Err(code) => Err(code),
    };
    Ok(async move {
        let refused = |error_code| EndTxnResponse { error_code, ..Default::default() };
        let answer = match asked {
            Ok(answer) => answer,
            Err(code) => return Ok(refused(code)),
        };
        Ok(match expect::identity(reply_to(answer).await?)? {
            Ok(identity) => EndTxnResponse {
                producer_id: identity.id.0,
                producer_epoch: identity.epoch.0,
                ..Default::default()
            },
            Err(refusal) => refused(errors::code(refusal, cx.api, cx.version)?),
        })
    })
}
