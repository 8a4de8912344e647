//! Transactions as types: a [`TransactionalProducer`] begins a [`Transaction`], which ends by [`Transaction::commit`],
//! by [`Transaction::abort`], or by being dropped, which aborts it.
//!
//! Where the broker's coordinator has finalized `transaction.version=2` (KIP-890) producing enrols a partition and every
//! end raises the epoch; otherwise the first protocol (KIP-98) is used. EndTxn is sent only after every produce request
//! has been answered; where the broker is semel, the last of these asks for the commit itself (`spec/protocol.md`).

mod end;
mod prepared;
mod resolve;

pub use resolve::{ResolveError, Resolved};

use super::cluster::Client;
use super::coordinator::Coordinated;
use super::error::ClientError;
use super::lane::Purpose;
use super::metadata::TopicPartition;
use super::offsets::{GroupMember, OffsetToCommit};
use super::producer::engine::Engine;
use super::producer::{Delivery, Mode, ProduceError, ProducerConfig, ProducerRecord};
use super::versions::{KEEPS_PREPARED, TransactionProtocol, up_to};
use crate::types::{ProducerEpoch, ProducerId, TransactionalId};
use crate::wire::ErrorCode;
use crate::wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, InitProducerIdRequest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The first version of EndTxn that raises the epoch.
const END_RAISES_EPOCH: i16 = 5;
/// The last version of AddPartitionsToTxn that is for clients.
const ADD_PARTITIONS_MAX: i16 = 3;

/// How transactions are produced.
#[derive(Clone, Copy, Debug)]
pub struct TransactionConfig {
    /// Batching and delivery.
    pub producer: ProducerConfig,
    /// The broker aborts a transaction that is open for longer.
    pub timeout: Duration,
    /// The newest transaction protocol to use, if the broker has it.
    pub protocol_max: TransactionProtocol,
    /// Whether the last records and the commit may go in one request, where the broker can do that. It takes one sync instead of
    /// two, and half of the round trips.
    pub commit_with_records: bool,
    /// How long `commit` tries to learn the outcome before it says [`CommitError::Unknown`]: once the records are stored, or have not
    /// been for as long as [`ProducerConfig::delivery_timeout`].
    pub commit_timeout: Duration,
}

impl Default for TransactionConfig {
    /// Kafka's transaction timeout; a commit rides out any restart of a broker.
    fn default() -> TransactionConfig {
        TransactionConfig {
            producer: ProducerConfig::default(),
            timeout: Duration::from_secs(60),
            protocol_max: TransactionProtocol::Implicit,
            commit_with_records: true,
            commit_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a step of a transaction failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// Another producer with the same transactional id has taken over. This one is finished.
    #[error(
        "another producer with the transactional id {0:?} has taken over: this one is fenced and must stop"
    )]
    Fenced(TransactionalId),
    /// The outcome of an earlier commit is not known, so nothing may follow it.
    #[error(
        "the outcome of the last commit of {0:?} is not known: make a new producer with the same transactional id"
    )]
    InDoubt(TransactionalId),
    /// The transaction must be aborted.
    #[error("the transaction must be aborted: {0}")]
    Abortable(ClientError),
    /// A record was not taken.
    #[error("{0}")]
    Produce(#[from] ProduceError),
    /// Something else.
    #[error("{0}")]
    Client(#[from] ClientError),
}

impl TransactionError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            TransactionError::Fenced(_) => {
                "stop this process, or give each process a transactional id of its own".to_owned()
            }
            TransactionError::InDoubt(_) => {
                "read what was committed, then start again with the same transactional id".to_owned()
            }
            TransactionError::Abortable(_) => "abort the transaction and do its work again".to_owned(),
            TransactionError::Produce(error) => error.advice(),
            TransactionError::Client(error) => error.advice(),
        }
    }
}

/// Which transaction it was: the identity under which its outcome can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the transaction's records.
    pub epoch: ProducerEpoch,
}

/// Nobody knows yet whether the transaction was committed: the answer was lost, and the broker could not be asked again
/// in time. It may also be committed later. Do not do its work again before the outcome is known.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "whether the transaction was committed is not known (transactional id {transactional_id:?}, producer id \
     {producer_id}, epoch {epoch}): {cause}"
)]
pub struct CommitUnknown {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the transaction's records.
    pub epoch: ProducerEpoch,
    /// The transaction protocol that it was in.
    pub protocol: TransactionProtocol,
    /// Who may end it: the same, or whoever took it over when it was prepared.
    pub holder: (ProducerId, ProducerEpoch),
    /// Whether all of its records had been stored: then [`CommitUnknown::resolve`] commits it if it is still open, and aborts it
    /// otherwise.
    pub all_stored: bool,
    /// What happened to the last attempt.
    #[source]
    pub cause: ClientError,
}

/// A commit that is not known to have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// It did not happen: nothing of the transaction is or will be visible.
    #[error("the transaction was aborted: {cause}")]
    Aborted {
        /// Why it could not be committed.
        cause: Arc<TransactionError>,
    },
    /// It did not happen, and this producer is finished: another one with the same transactional id has taken over.
    #[error("the transaction was aborted: another producer with the transactional id {0:?} has taken over")]
    Fenced(TransactionalId),
    /// It may have happened.
    #[error("{0}")]
    Unknown(CommitUnknown),
}

impl CommitError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            CommitError::Aborted { cause } => format!("nothing was stored; {}", cause.advice()),
            CommitError::Fenced(id) => TransactionError::Fenced(id.clone()).advice(),
            CommitError::Unknown(unknown) => {
                TransactionError::InDoubt(unknown.transactional_id.clone()).advice()
            }
        }
    }
}

/// Where a transactional producer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No transaction.
    Idle,
    /// A transaction is open.
    Open(OpenTransaction),
    /// A transaction was given up and may still be open at the broker.
    AbortOwed,
    /// A commit is or was on its way and has no answer.
    Committing {
        /// Under which identity the transaction ran: that of whoever prepared it, where it was taken over.
        ran_under: (ProducerId, ProducerEpoch),
        /// Whether all records were stored before: then what is open can still be committed.
        all_stored: bool,
    },
    /// For good.
    Fenced,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OpenTransaction {
    /// What the coordinator has been told of (first protocol).
    enrolled: BTreeSet<TopicPartition>,
    groups: BTreeSet<String>,
    /// Whether the broker may know of the transaction.
    started: bool,
    /// Whether it is or may be prepared: then only a decision ends it.
    prepared: bool,
    /// Under which identity it ran, if that is not the producer's: whose it was that prepared it.
    kept_from: Option<(ProducerId, ProducerEpoch)>,
}

struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    protocol: TransactionProtocol,
}

struct State {
    identity: Identity,
    phase: Phase,
}

impl State {
    /// The identity of the transaction that is open.
    fn ran_under(&self) -> (ProducerId, ProducerEpoch) {
        let kept_from = match &self.phase {
            Phase::Open(open) => open.kept_from,
            _ => None,
        };
        kept_from.unwrap_or((self.identity.id, self.identity.epoch))
    }
}

struct Inner {
    client: Client,
    engine: Engine,
    transactional_id: TransactionalId,
    coordinated: Coordinated,
    config: TransactionConfig,
    state: tokio::sync::Mutex<State>,
}

/// The one live producer of a transactional id.
///
/// ```no_run
/// # async fn example(client: semel::client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use semel::client::{ProducerRecord, TransactionConfig, TransactionalProducer};
/// use semel::types::{TopicName, TransactionalId};
/// let id = TransactionalId::new("transfers").ok_or("an empty id")?;
/// let mut producer = TransactionalProducer::init(&client, id, TransactionConfig::default()).await?;
/// let mut transaction = producer.begin().await?;
/// transaction.send(ProducerRecord::new(TopicName::new("debits")?, "-5").key("alice")).await?;
/// transaction.send(ProducerRecord::new(TopicName::new("credits")?, "+5").key("bob")).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
pub struct TransactionalProducer {
    inner: Arc<Inner>,
}

impl TransactionalProducer {
    /// Takes over a transactional id: fences whoever held it and ends what they left open.
    pub async fn init(
        client: &Client,
        transactional_id: TransactionalId,
        config: TransactionConfig,
    ) -> Result<TransactionalProducer, TransactionError> {
        TransactionalProducer::take_over(client, transactional_id, config, Takeover::Ends).await
    }

    async fn take_over(
        client: &Client,
        transactional_id: TransactionalId,
        config: TransactionConfig,
        takeover: Takeover,
    ) -> Result<TransactionalProducer, TransactionError> {
        let engine = Engine::start(client, config.producer, Mode::Transactional)?;
        let coordinated = Coordinated::Transactions(transactional_id.clone());
        let identity = Identity {
            id: ProducerId::NONE,
            epoch: ProducerEpoch::NONE,
            protocol: TransactionProtocol::Explicit,
        };
        let state = tokio::sync::Mutex::new(State { identity, phase: Phase::Idle });
        let inner = Inner { client: client.clone(), engine, transactional_id, coordinated, config, state };
        inner.take_over(&mut *inner.state.lock().await, takeover).await?;
        Ok(TransactionalProducer { inner: Arc::new(inner) })
    }

    /// Begins a transaction. If the last one was dropped, or could not be aborted, that is made good first.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        let inner = &self.inner;
        let mut state = inner.state.lock().await;
        match state.phase {
            Phase::Idle => {}
            Phase::Open(OpenTransaction { prepared: true, .. }) => {
                return Err(TransactionError::InDoubt(inner.transactional_id.clone()));
            }
            Phase::Open(_) | Phase::AbortOwed => inner.abort(&mut state).await?,
            Phase::Committing { .. } => {
                return Err(TransactionError::InDoubt(inner.transactional_id.clone()));
            }
            Phase::Fenced => return Err(TransactionError::Fenced(inner.transactional_id.clone())),
        }
        state.phase = Phase::Open(OpenTransaction::default());
        drop(state);
        Ok(Transaction { producer: self })
    }

    /// The transactional id.
    #[must_use]
    pub fn transactional_id(&self) -> &TransactionalId {
        &self.inner.transactional_id
    }

    /// Under which identity it writes now: each end of a transaction in the newer protocol raises the epoch.
    pub async fn identity(&self) -> (ProducerId, ProducerEpoch) {
        let identity = &self.inner.state.lock().await.identity;
        (identity.id, identity.epoch)
    }
}

/// An open transaction. Dropping it aborts it.
pub struct Transaction<'p> {
    producer: &'p mut TransactionalProducer,
}

impl Transaction<'_> {
    /// Takes a record into the transaction. Its delivery need not be awaited: [`Transaction::commit`] waits for all.
    pub async fn send(&mut self, record: ProducerRecord) -> Result<Delivery, TransactionError> {
        let inner = &self.producer.inner;
        let partition = inner.engine.partition_of(&record).await?;
        inner.enrol(&partition).await?;
        Ok(inner.engine.send(&partition, record).await?)
    }

    /// Sends what has been taken, without lingering, and waits until each record is settled one way or the other. Not
    /// needed before a commit, which does it.
    pub async fn flush(&mut self) -> Result<(), TransactionError> {
        Ok(self.producer.inner.engine.flush().await?)
    }

    /// Makes the group's offsets part of the transaction: they count if and only if it commits. An offset is that of the
    /// next record to be read.
    pub async fn send_offsets(
        &mut self,
        member: &GroupMember,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Result<(), TransactionError> {
        self.producer.inner.send_offsets(member, offsets).await
    }

    /// Sends what is left and commits. `Ok` means that all of it is durable and visible; every error says which of
    /// "not committed" and "not known" it is.
    pub async fn commit(self) -> Result<Committed, CommitError> {
        self.producer.inner.commit().await
    }

    /// Aborts: nothing of the transaction will be visible. An error means that the broker has not confirmed it yet; the
    /// transaction cannot be committed any more all the same.
    pub async fn abort(self) -> Result<(), TransactionError> {
        let inner = Arc::clone(&self.producer.inner);
        let mut state = inner.state.lock().await;
        inner.abort(&mut state).await
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let inner = &self.producer.inner;
        // Nobody else has it: the transaction borrows the producer. An abort that is under way holds it until it is done.
        let Ok(mut state) = inner.state.try_lock() else { return };
        let Phase::Open(open) = &state.phase else { return };
        // A commit that was dropped may have been asked for with the last records.
        let asked = inner.engine.stop_committing().asked;
        if open.prepared || asked {
            // What is prepared, somebody decides; of what turns out not to be, nobody has asked for the commit.
            let ran_under = state.ran_under();
            state.phase = Phase::Committing { ran_under, all_stored: false };
            return;
        }
        state.phase = Phase::AbortOwed;
        let inner = Arc::clone(inner);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let mut state = inner.state.lock().await;
                if state.phase == Phase::AbortOwed
                    && let Err(error) = inner.abort(&mut state).await
                {
                    tracing::warn!(%error, "a dropped transaction could not be aborted yet");
                }
            });
        }
    }
}

/// What becomes of a prepared transaction when its transactional id is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takeover {
    /// The broker refuses to end it.
    Ends,
    /// It stays, for the new holder to decide.
    Keeps,
}

fn fenced(error: &ClientError) -> bool {
    matches!(error.code(), Some(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch))
}

impl Inner {
    fn refused(&self, context: &str, code: ErrorCode) -> ClientError {
        ClientError::broker(format!("{context} of {:?}", self.transactional_id), code, None)
    }

    /// A coordinator's refusal, as what it means for the transaction.
    fn judge(&self, state: &mut State, error: ClientError) -> TransactionError {
        if fenced(&error) {
            state.phase = Phase::Fenced;
            return TransactionError::Fenced(self.transactional_id.clone());
        }
        match error.code() {
            Some(_) => TransactionError::Abortable(error),
            None => TransactionError::Client(error),
        }
    }

    /// Calls the transaction coordinator, again and again while that makes sense.
    async fn call_coordinator<T, F>(
        &self,
        what: &str,
        attempt: impl Fn(Arc<super::connection::Connection>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let (client, coordinated, owner) = (&self.client, &self.coordinated, self.engine.owner());
        let attempt = &attempt;
        client
            .retry(what, || async move {
                let connection = client.coordinator(coordinated, Purpose::Transactions, owner).await?;
                attempt(connection)
                    .await
                    .inspect_err(|error| client.heed_coordinator_error(coordinated, error))
            })
            .await
    }

    /// InitProducerId: with the identity held, which a newer holder's would fence (KIP-360), or as a new holder.
    async fn renew_identity(&self, state: &mut State) -> Result<(), TransactionError> {
        self.take_over(state, Takeover::Ends).await
    }

    async fn take_over(&self, state: &mut State, takeover: Takeover) -> Result<(), TransactionError> {
        let (keeps, wanted) = match takeover {
            Takeover::Ends => (false, up_to(KEEPS_PREPARED.min - 1)),
            Takeover::Keeps => (true, KEEPS_PREPARED),
        };
        let timeout = i32::try_from(self.config.timeout.as_millis()).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest {
            transactional_id: Some(self.transactional_id.as_str().to_owned()),
            transaction_timeout_ms: timeout,
            producer_id: state.identity.id.0,
            producer_epoch: state.identity.epoch.0,
            enable_two_pc: keeps,
            keep_prepared_txn: keeps,
        };
        let request = &request;
        let answer = self
            .call_coordinator("taking over the transactional id", |connection| async move {
                let answer =
                    connection.call_version(request, wanted, self.client.config().request_timeout).await?;
                answer.error_code.ok().map_err(|code| self.refused("taking over", code))?;
                Ok((answer, connection.versions().transaction_protocol().min(self.config.protocol_max)))
            })
            .await;
        let (answer, protocol) = match answer {
            Ok(answer) => answer,
            Err(error) if fenced(&error) => return Err(self.judge(state, error)),
            Err(error) => return Err(error.into()),
        };
        self.adopt(state, ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch), protocol);
        let kept_from =
            (ProducerId(answer.ongoing_txn_producer_id), ProducerEpoch(answer.ongoing_txn_producer_epoch));
        let prepared = || OpenTransaction {
            started: true,
            prepared: true,
            kept_from: Some(kept_from),
            ..OpenTransaction::default()
        };
        state.phase = if kept_from.0.0 >= 0 { Phase::Open(prepared()) } else { Phase::Idle };
        Ok(())
    }

    fn adopt(&self, state: &mut State, id: ProducerId, epoch: ProducerEpoch, protocol: TransactionProtocol) {
        state.identity = Identity { id, epoch, protocol };
        self.engine.identify(self.transactional_id.as_str(), protocol, id, epoch);
    }

    /// Sees that the partition may be produced to.
    async fn enrol(&self, partition: &TopicPartition) -> Result<(), TransactionError> {
        let mut state = self.state.lock().await;
        let protocol = state.identity.protocol;
        let Phase::Open(open) = &mut state.phase else {
            return Err(ProduceError::TransactionEnded.into());
        };
        if open.prepared {
            return Err(ProduceError::TransactionEnded.into());
        }
        open.started = true;
        if protocol == TransactionProtocol::Implicit || !open.enrolled.insert(partition.clone()) {
            return Ok(());
        }
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id.as_str().to_owned(),
            v3_and_below_producer_id: state.identity.id.0,
            v3_and_below_producer_epoch: state.identity.epoch.0,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: partition.topic.as_str().to_owned(),
                partitions: vec![partition.partition.0],
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        let request = &request;
        let enrolled = self
            .call_coordinator("enrolling a partition", |connection| async move {
                let timeout = self.client.config().request_timeout;
                let answer = connection.call_version(request, up_to(ADD_PARTITIONS_MAX), timeout).await?;
                let results = answer.results_by_topic_v3_and_below.into_iter();
                let mut codes = results.flat_map(|topic| topic.results_by_partition);
                let refused = codes.find_map(|result| result.partition_error_code.ok().err());
                refused.map_or(Ok(()), |code| {
                    Err(self.refused(&format!("enrolling {partition} in a transaction"), code))
                })
            })
            .await;
        enrolled.map_err(|error| {
            if let Phase::Open(open) = &mut state.phase {
                open.enrolled.remove(partition);
            }
            self.judge(&mut state, error)
        })
    }

    async fn send_offsets(
        &self,
        member: &GroupMember,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Result<(), TransactionError> {
        let mut state = self.state.lock().await;
        let (id, epoch, protocol) = (state.identity.id, state.identity.epoch, state.identity.protocol);
        let Phase::Open(open) = &mut state.phase else {
            return Err(ProduceError::TransactionEnded.into());
        };
        if open.prepared {
            return Err(ProduceError::TransactionEnded.into());
        }
        open.started = true;
        let group = member.group.as_str().to_owned();
        if protocol == TransactionProtocol::Explicit && open.groups.insert(group.clone()) {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.transactional_id.as_str().to_owned(),
                producer_id: id.0,
                producer_epoch: epoch.0,
                group_id: group,
            };
            let request = &request;
            let enrolled = self
                .call_coordinator("enrolling a group's offsets", |connection| async move {
                    let answer = connection.call(request).await?;
                    answer
                        .error_code
                        .ok()
                        .map_err(|code| self.refused("enrolling offsets in a transaction", code))
                })
                .await;
            enrolled.map_err(|error| self.judge(&mut state, error))?;
        }
        let committer = super::offsets::TransactionOffsets {
            transactional_id: &self.transactional_id,
            producer_id: id,
            epoch,
            protocol,
            owner: self.engine.owner(),
        };
        let committed = self.client.commit_offsets_in(&committer, member, offsets).await;
        committed.map_err(|error| self.judge(&mut state, error))
    }
}
