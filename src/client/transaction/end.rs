//! How transactions end.
//!
//! A commit is asked for with the request that has the last records, where that can be (`spec/transactions.md`, O13), and otherwise
//! by EndTxn, when all of them are known to be stored. Never by EndTxn before: a request whose answer was lost is only answered
//! with "committed" afterwards because nothing else can have committed without its records.

use super::{
    CommitError, CommitUnknown, Committed, END_RAISES_EPOCH, Inner, Phase, State, TransactionError, fenced,
};
use crate::client::backoff::Backoff;
use crate::client::error::ClientError;
use crate::client::lane::Purpose;
use crate::client::producer::ProduceError;
use crate::client::producer::engine::Committing;
use crate::client::versions::{ANY_VERSION, TransactionProtocol, up_to};
use crate::types::{ProducerEpoch, ProducerId};
use crate::wire::messages::{EndTxnRequest, EndTxnResponse};
use crate::wire::{ErrorCode, VersionRange};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What one attempt to end a transaction came to.
enum EndAttempt {
    Ended(EndTxnResponse),
    /// Nothing happened; the same may work later.
    Again(ClientError),
    /// Nothing is known; the same may work later.
    Lost(ClientError),
    Refused(ClientError),
}

/// What all attempts to end a transaction came to.
struct Ending {
    /// What the last one did. Unless it has ended or was refused, there was no time for another.
    last: EndAttempt,
    /// Whether an attempt without an answer may have reached the coordinator.
    lost: bool,
}

impl Inner {
    pub(super) async fn commit(&self) -> Result<Committed, CommitError> {
        // Failures of batches make the transaction's; it is looked at once all are settled.
        let flushed = self.flush_to_commit().await;
        let mut state = self.state.lock().await;
        // Not before: if this future is dropped while it waits, what was asked for is still to be known.
        let Committing { lost, done, .. } = self.engine.stop_committing();
        let ran_under = state.ran_under();
        let identity = self.identity_of(ran_under);
        if let Some((id, epoch)) = done {
            self.begin_anew(&mut state, id, epoch);
            return Ok(identity);
        }
        let failure = self.engine.failure().map(|failure| ProduceError::clone(&failure)).or(flushed.err());
        match failure {
            Some(cause) if lost => return self.settle_lost(&mut state, identity, cause.into()).await,
            Some(cause) => return Err(self.abort_because(&mut state, cause.into()).await),
            None => {}
        }
        match &state.phase {
            Phase::Open(open) if !open.started => {
                state.phase = Phase::Idle;
                return Ok(identity);
            }
            Phase::Open(_) => {}
            Phase::Fenced => return Err(CommitError::Fenced(self.transactional_id.clone())),
            _ => {
                let cause = TransactionError::Produce(ProduceError::TransactionEnded);
                return Err(CommitError::Aborted { cause: Arc::new(cause) });
            }
        }
        // Said before it is true: if this future is dropped while the answer is out, nobody knows.
        state.phase = Phase::Committing { ran_under, all_stored: true };
        self.end_commit(&mut state, identity, lost).await
    }

    /// Which transaction it was, of the producer, that ran under this identity.
    pub(super) fn identity_of(&self, (producer_id, epoch): (ProducerId, ProducerEpoch)) -> Committed {
        Committed { transactional_id: self.transactional_id.clone(), producer_id, epoch }
    }

    /// Sends what is left; if that can be, with the commit.
    async fn flush_to_commit(&self) -> Result<(), ProduceError> {
        let (of, protocol) = {
            let identity = &self.state.lock().await.identity;
            ((identity.id, identity.epoch), identity.protocol)
        };
        match protocol {
            TransactionProtocol::Implicit if self.config.commit_with_records => {
                self.engine.flush_committing(of).await
            }
            // In the first protocol an identity has many transactions: a late request could commit another.
            _ => self.engine.flush().await,
        }
    }

    /// A request that asked for the commit has got no answer, and something has failed since: the transaction is aborted, which
    /// fences what may still be on its way, unless it turns out to be committed.
    async fn settle_lost(
        &self,
        state: &mut State,
        identity: Committed,
        cause: TransactionError,
    ) -> Result<Committed, CommitError> {
        state.phase = Phase::Committing { ran_under: state.ran_under(), all_stored: false };
        match self.end(state, false, false).await.last {
            EndAttempt::Ended(answer) => {
                self.ended(state, &answer);
                self.engine.take_failure();
                Err(CommitError::Aborted { cause: Arc::new(cause) })
            }
            // It is so of what was committed under this identity, and of nothing else (O4, O8).
            EndAttempt::Refused(error) if error.code() == Some(ErrorCode::InvalidTxnState) => {
                if let Err(error) = self.go_on(state, true).await {
                    tracing::warn!(%error, "after a commit the producer cannot go on yet");
                }
                Ok(identity)
            }
            EndAttempt::Refused(e) | EndAttempt::Again(e) | EndAttempt::Lost(e) => {
                Err(CommitError::Unknown(unknown(identity, state, false, e)))
            }
        }
    }

    /// The outcome is known. Its end, asked for once more, is answered with the identity of the next transaction (O4); whoever was
    /// fenced meanwhile stays so, and hears of it when the next one is to begin.
    pub(super) async fn go_on(&self, state: &mut State, committed: bool) -> Result<(), TransactionError> {
        match self.end(state, committed, false).await.last {
            EndAttempt::Ended(answer) => self.ended(state, &answer),
            // After a timeout the owner may recover (P6).
            EndAttempt::Refused(_) => match self.renew_identity(state).await {
                Ok(()) | Err(TransactionError::Fenced(_)) => {}
                Err(error) => return Err(error),
            },
            EndAttempt::Again(error) | EndAttempt::Lost(error) => return Err(error.into()),
        }
        self.engine.take_failure();
        Ok(())
    }

    /// `lost`: a former attempt without an answer may have reached the coordinator.
    async fn end_commit(
        &self,
        state: &mut State,
        identity: Committed,
        lost: bool,
    ) -> Result<Committed, CommitError> {
        match self.end(state, true, lost).await {
            Ending { last: EndAttempt::Ended(answer), .. } => {
                self.ended(state, &answer);
                Ok(identity)
            }
            Ending {
                last: EndAttempt::Refused(e) | EndAttempt::Again(e) | EndAttempt::Lost(e),
                lost: true,
            } => Err(CommitError::Unknown(unknown(identity, state, true, e))),
            Ending { last: EndAttempt::Refused(error), .. } => Err(self.commit_refused(state, error).await),
            Ending { last: EndAttempt::Again(cause) | EndAttempt::Lost(cause), .. } => {
                Err(self.abort_because(state, TransactionError::Client(cause)).await)
            }
        }
    }

    /// Asks for the end of a transaction, again and again while that makes sense and for as long as a commit may take.
    /// `lost`: a former attempt has got no answer.
    async fn end(&self, state: &State, committed: bool, mut lost: bool) -> Ending {
        let deadline = Instant::now() + self.config.commit_timeout;
        let mut backoff = Backoff::unseeded(self.client.config().backoff);
        loop {
            let last = self.try_end(state, committed, deadline).await;
            lost |= matches!(last, EndAttempt::Lost(_));
            if matches!(last, EndAttempt::Ended(_) | EndAttempt::Refused(_)) {
                return Ending { last, lost };
            }
            let next = Instant::now() + backoff.pause();
            if next >= deadline {
                return Ending { last, lost };
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn commit_refused(&self, state: &mut State, error: ClientError) -> CommitError {
        match self.judge(state, error) {
            TransactionError::Fenced(id) => CommitError::Fenced(id),
            cause => self.abort_because(state, cause).await,
        }
    }

    async fn abort_because(&self, state: &mut State, cause: TransactionError) -> CommitError {
        state.phase = Phase::AbortOwed;
        // It cannot be committed any more, so nobody need wait for long until the broker has confirmed that: if it does
        // not answer, the abort is owed, and made good when the next transaction begins.
        match tokio::time::timeout(self.config.commit_timeout, self.abort(state)).await {
            Ok(Err(TransactionError::Fenced(id))) => return CommitError::Fenced(id),
            Ok(Err(error)) => tracing::warn!(%error, "a failed transaction could not be aborted yet"),
            Err(_) => tracing::warn!("a failed transaction could not be aborted yet: no answer"),
            Ok(Ok(())) => {}
        }
        CommitError::Aborted { cause: Arc::new(cause) }
    }

    async fn try_end(&self, state: &State, committed: bool, deadline: Instant) -> EndAttempt {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = self.client.config().request_timeout.min(left.max(Duration::from_millis(1)));
        let connection = match self
            .client
            .coordinator(&self.coordinated, Purpose::Transactions, self.engine.owner())
            .await
        {
            Ok(connection) => connection,
            Err(error) if error.retriable() => return EndAttempt::Again(error),
            Err(error) => return EndAttempt::Refused(error),
        };
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.as_str().to_owned(),
            producer_id: state.identity.id.0,
            producer_epoch: state.identity.epoch.0,
            committed,
        };
        let wanted = match state.identity.protocol {
            TransactionProtocol::Explicit => up_to(END_RAISES_EPOCH - 1),
            TransactionProtocol::Implicit => VersionRange { min: END_RAISES_EPOCH, ..ANY_VERSION },
        };
        let answer = match connection.call_version(&request, wanted, timeout).await {
            Ok(answer) => answer,
            Err(error @ (ClientError::UnsupportedVersion { .. } | ClientError::Unwritable(_))) => {
                return EndAttempt::Refused(error);
            }
            Err(error) => {
                self.client.heed_coordinator_error(&self.coordinated, &error);
                return EndAttempt::Lost(error);
            }
        };
        match answer.error_code.ok() {
            Ok(()) => EndAttempt::Ended(answer),
            Err(code) => {
                let error = self.refused(if committed { "the commit" } else { "the abort" }, code);
                self.client.heed_coordinator_error(&self.coordinated, &error);
                if code.retriable() { EndAttempt::Again(error) } else { EndAttempt::Refused(error) }
            }
        }
    }

    fn ended(&self, state: &mut State, answer: &EndTxnResponse) {
        // Version 5 tells the identity of the next transaction.
        if answer.producer_id >= 0 && answer.producer_epoch >= 0 {
            let (id, epoch) = (ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch));
            return self.begin_anew(state, id, epoch);
        }
        state.phase = Phase::Idle;
    }

    /// Goes on with the identity of the next transaction.
    fn begin_anew(&self, state: &mut State, id: ProducerId, epoch: ProducerEpoch) {
        self.adopt(state, id, epoch, state.identity.protocol);
        state.phase = Phase::Idle;
    }

    /// Ends whatever is open without committing it, so that the next transaction can begin.
    pub(super) async fn abort(&self, state: &mut State) -> Result<(), TransactionError> {
        let started = match &state.phase {
            Phase::Idle => return Ok(()),
            Phase::Open(open) => open.started,
            Phase::AbortOwed => true,
            Phase::Committing { .. } => {
                return Err(TransactionError::InDoubt(self.transactional_id.clone()));
            }
            Phase::Fenced => return Err(TransactionError::Fenced(self.transactional_id.clone())),
        };
        state.phase = Phase::AbortOwed;
        let failed = self.engine.failure().is_some();
        self.engine.abandon().await;
        if started {
            self.end_abort(state, failed).await?;
        }
        self.engine.take_failure();
        state.phase = Phase::Idle;
        Ok(())
    }

    async fn end_abort(&self, state: &mut State, failed: bool) -> Result<(), TransactionError> {
        // If an answer was lost, the same request is answered once more (O4), and tells the identity that is the next now;
        // whoever took over in the name of the former one would be taken for a zombie (P7).
        match self.end(state, false, false).await.last {
            EndAttempt::Ended(answer) => {
                self.ended(state, &answer);
                // In the first protocol the epoch stays, and after a failure the sequences are not known to have no gap.
                let gap = failed && state.identity.protocol == TransactionProtocol::Explicit;
                if gap { self.renew_identity(state).await } else { Ok(()) }
            }
            EndAttempt::Refused(error) if fenced(&error) => Err(self.judge(state, error)),
            // Nothing is open there any more, or it cannot be told: taking over again ends whatever there is.
            EndAttempt::Refused(_) | EndAttempt::Again(_) | EndAttempt::Lost(_) => {
                self.renew_identity(state).await
            }
        }
    }
}

/// The commit of a transaction of which nobody knows yet what has become.
pub(super) fn unknown(
    identity: Committed,
    state: &State,
    all_stored: bool,
    cause: ClientError,
) -> CommitUnknown {
    let Committed { transactional_id, producer_id, epoch } = identity;
    let (protocol, holder) = (state.identity.protocol, (state.identity.id, state.identity.epoch));
    CommitUnknown { transactional_id, producer_id, epoch, protocol, holder, all_stored, cause }
}
