//! Two-phase commit: a transaction whose outcome an outside coordinator decides (semel's own request, `spec/protocol.md`).

use super::{
    Inner, OpenTransaction, Phase, Takeover, Transaction, TransactionConfig, TransactionError,
    TransactionalProducer,
};
use crate::client::cluster::Client;
use crate::client::producer::ProduceError;
use crate::types::TransactionalId;
use crate::wire::messages::PrepareTxnRequest;
use std::sync::Arc;
use std::time::Duration;

impl TransactionalProducer {
    /// Takes over a transactional id as [`TransactionalProducer::init`] does, but keeps a transaction that its last holder has
    /// prepared: [`TransactionalProducer::prepared`] has it, to be committed or aborted as the outside coordinator has decided.
    /// Only semel, with `two-phase-commit=true`, answers.
    pub async fn init_keeping_prepared(
        client: &Client,
        transactional_id: TransactionalId,
        config: TransactionConfig,
    ) -> Result<TransactionalProducer, TransactionError> {
        TransactionalProducer::take_over(client, transactional_id, config, Takeover::Keeps).await
    }

    /// The prepared transaction that came with the transactional id, if there was one and it has not been decided. It takes
    /// nothing more; until it is decided no other can begin. Dropped, it stays prepared.
    pub async fn prepared(&mut self) -> Option<Transaction<'_>> {
        let state = self.inner.state.lock().await;
        let kept = matches!(state.phase, Phase::Open(OpenTransaction { prepared: true, .. }));
        drop(state);
        kept.then_some(Transaction { producer: self })
    }
}

impl Transaction<'_> {
    /// Sends what is left and prepares the transaction: it takes nothing more, and stays until it is committed or aborted,
    /// whatever becomes of this process; with a timeout, until that has passed. Dropped, it stays prepared: then it is decided
    /// by whoever takes the transactional id over for it ([`TransactionalProducer::init_keeping_prepared`]), or by an operator (`semel txn prepared`).
    pub async fn prepare(&mut self, timeout: Option<Duration>) -> Result<(), TransactionError> {
        Arc::clone(&self.producer.inner).prepare(timeout).await
    }
}

impl Inner {
    async fn prepare(&self, timeout: Option<Duration>) -> Result<(), TransactionError> {
        self.engine.flush().await?;
        let mut state = self.state.lock().await;
        if let Some(failure) = self.engine.failure() {
            return Err(ProduceError::clone(&failure).into());
        }
        let Phase::Open(open) = &mut state.phase else { return Err(ProduceError::TransactionEnded.into()) };
        // Said before it is true: from here on, dropping it must not abort what may be prepared.
        open.prepared = true;
        let request = PrepareTxnRequest {
            transactional_id: self.transactional_id.as_str().to_owned(),
            producer_id: state.identity.id.0,
            producer_epoch: state.identity.epoch.0,
            timeout_ms: timeout.map_or(-1, |timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)),
        };
        let request = &request;
        let prepared = self
            .call_coordinator("preparing a transaction", |connection| async move {
                let answer = connection.call(request).await?;
                answer.error_code.ok().map_err(|code| self.refused("preparing the transaction", code))
            })
            .await;
        prepared.map_err(|error| {
            // A refusal says that it is not prepared; no answer says nothing.
            if let (Some(_), Phase::Open(open)) = (error.code(), &mut state.phase) {
                open.prepared = false;
            }
            self.judge(&mut state, error)
        })
    }
}
