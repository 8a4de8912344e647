//! Two-phase commit: a transaction whose outcome an outside coordinator decides (semel's own request, `spec/protocol.md`).

use super::{Inner, Phase, Transaction, TransactionError};
use crate::client::producer::ProduceError;
use crate::wire::messages::PrepareTxnRequest;
use std::sync::Arc;
use std::time::Duration;

impl Transaction<'_> {
    /// Sends what is left and prepares the transaction: it takes nothing more, and stays until it is committed or aborted,
    /// whatever becomes of this process; with a timeout, until that has passed. Dropped, it stays prepared: then it is decided
    /// by whoever takes the transactional id over for it (InitProducerId 6), or by an operator (`semel txn prepared`).
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
