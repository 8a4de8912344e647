//! What became of a commit whose answer was lost.

use super::end::unknown;
use super::{CommitUnknown, END_RAISES_EPOCH, Phase, TransactionError, TransactionalProducer};
use crate::client::backoff::Backoff;
use crate::client::cluster::{Client, SHARED_OWNER};
use crate::client::coordinator::Coordinated;
use crate::client::error::ClientError;
use crate::client::lane::Purpose;
use crate::client::outcomes::{OutcomeQuery, Outcomes, Standing};
use crate::client::versions::{ANY_VERSION, TransactionProtocol, up_to};
use crate::wire::VersionRange;
use crate::wire::messages::EndTxnRequest;
use std::time::Duration;
use tokio::time::Instant;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// All of it is durable and visible.
    Committed,
    /// Nothing of it is, or will be, visible.
    Aborted,
}

/// What became of a commit cannot be told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The broker remembers the newest outcomes of each transactional id only, and this one is older.
    #[error(
        "the broker does not remember the outcome any more: compare what was written with what can be read"
    )]
    Forgotten,
    /// In the first version of the protocol several transactions may have the same identity.
    #[error("several transactions have run under this identity: look at them with `semel txn outcome`")]
    Ambiguous,
    /// It is prepared: somebody else decides.
    #[error("the transaction is prepared, and its outcome has not been decided")]
    Prepared,
    /// The producer has no commit without an answer.
    #[error("there is no commit whose outcome is not known")]
    NothingToResolve,
    /// The broker could not be asked, or not in time.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The outcome is known ([`CommitUnknown::resolve`] says it), but the producer could not go on.
    #[error("{0}")]
    Transaction(#[from] TransactionError),
}

impl CommitUnknown {
    /// Asks until it is known what became of the commit, for as long as the client's `call_timeout`. Where the transaction is
    /// still open, the same commit is sent again, or, if not all of its records are known to be stored, an abort: "open" is no
    /// outcome. Any process can ask, also after a restart; only semel answers.
    pub async fn resolve(&self, client: &Client) -> Result<Resolved, ResolveError> {
        let timeout = client.config().call_timeout;
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::unseeded(client.config().backoff);
        let query = OutcomeQuery::Of { producer_id: self.producer_id, epoch: self.epoch };
        loop {
            let known = match client.describe_outcomes(&self.transactional_id, query).await? {
                Outcomes::Known(known) => known,
                // All of its records had been acknowledged when the commit was sent, so the transaction had none.
                Outcomes::NeverBegun => return Ok(Resolved::Aborted),
                Outcomes::NotBegun => Vec::new(),
                Outcomes::Forgotten => return Err(ResolveError::Forgotten),
            };
            let lost = match known.as_slice() {
                [one] => match one.standing {
                    Standing::Committed => return Ok(Resolved::Committed),
                    Standing::Aborted => return Ok(Resolved::Aborted),
                    Standing::Prepared => return Err(ResolveError::Prepared),
                    Standing::Open => self.end(client, self.all_stored).await.err(),
                },
                // Its end gives it an outcome, and fences what may still be on its way.
                [] => self.end(client, false).await.err(),
                _ => return Err(ResolveError::Ambiguous),
            };
            let next = Instant::now() + backoff.pause();
            if next >= deadline {
                let what = "the outcome of a commit".to_owned();
                let late = ClientError::Timeout { what, after: timeout, last: None };
                return Err(lost.unwrap_or(late).into());
            }
            if lost.is_some() {
                tokio::time::sleep_until(next).await;
            }
        }
    }

    /// Sends an EndTxn of this transaction. What it comes to, the next question tells.
    async fn end(&self, client: &Client, committed: bool) -> Result<(), ClientError> {
        let coordinated = Coordinated::Transactions(self.transactional_id.clone());
        let connection = client.coordinator(&coordinated, Purpose::Control, SHARED_OWNER).await?;
        let wanted = match self.protocol {
            TransactionProtocol::Explicit => up_to(END_RAISES_EPOCH - 1),
            TransactionProtocol::Implicit => VersionRange { min: END_RAISES_EPOCH, ..ANY_VERSION },
        };
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.as_str().to_owned(),
            producer_id: self.holder.0.0,
            producer_epoch: self.holder.1.0,
            committed,
        };
        let timeout: Duration = client.config().request_timeout;
        let answer = connection.call_version(&request, wanted, timeout).await?;
        let context = format!("ending the transaction of {:?}", self.transactional_id);
        answer.error_code.ok().map_err(|code| ClientError::broker(context, code, None))
    }
}

impl TransactionalProducer {
    /// After [`CommitError::Unknown`](super::CommitError::Unknown): asks until it is known what became of the commit. After
    /// `Ok` the producer can begin its next transaction.
    pub async fn resolve(&mut self) -> Result<Resolved, ResolveError> {
        let inner = &self.inner;
        let mut state = inner.state.lock().await;
        let Phase::Committing { ran_under, all_stored } = state.phase else {
            return Err(ResolveError::NothingToResolve);
        };
        // Nothing of this transaction may go under the identity of the next one.
        inner.engine.abandon().await;
        let cause = ClientError::Closed("the commit");
        let unknown = unknown(inner.identity_of(ran_under), &state, all_stored, cause);
        let resolved = unknown.resolve(&inner.client).await?;
        inner.go_on(&mut state, resolved == Resolved::Committed).await?;
        Ok(resolved)
    }
}
