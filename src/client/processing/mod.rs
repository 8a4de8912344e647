//! Consume, process, produce: what records turn into, and how far the group has come, in one transaction
//! (`spec/groups.md`, section 19).
//!
//! Whatever goes wrong, a record takes effect once: a transaction that does not commit takes everything back, positions too.

mod failures;
mod intake;
mod quarantine;

pub use quarantine::{
    QUARANTINE_ATTEMPTS_HEADER, QUARANTINE_GROUP_HEADER, QUARANTINE_OFFSET_HEADER,
    QUARANTINE_PARTITION_HEADER, QUARANTINE_REASON_HEADER, QUARANTINE_TOPIC_HEADER,
};

use super::backoff::{Backoff, BackoffLimits};
use super::cluster::Client;
use super::consumer::{ConsumedRecord, Consumer, GroupConfig, GroupConsumer, Isolation};
use super::error::ClientError;
use super::metadata::TopicPartition;
use super::producer::{ProduceError, ProducerRecord};
use super::transaction::{
    CommitError, ResolveError, Resolved, Transaction, TransactionConfig, TransactionError,
    TransactionalProducer,
};
use crate::types::{Offset, TopicName, TransactionalId};
use failures::{Attempt, Failures};
use intake::{Intake, Taken};
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How records are processed.
#[derive(Clone, Debug)]
pub struct ProcessingConfig {
    /// What is read. Only what is committed is, and offsets go with the transactions: `auto_commit` is not heeded.
    pub group: GroupConfig,
    /// How it is produced. A transaction's timeout is how long a member that is killed may hold back who takes over from it.
    pub transactions: TransactionConfig,
    /// A transaction that is this old is committed, however little is in it.
    pub commit_interval: Duration,
    /// It is committed when it holds so many records that were read.
    pub records_max: usize,
    /// How often a record is tried before it goes to the quarantine.
    pub attempts_max: u32,
    /// Pauses before a record is tried again. Only its partition waits.
    pub retry_pauses: BackoffLimits,
    /// Where records go that cannot be processed; none: the first of them ends the session.
    pub quarantine: Option<TopicName>,
}

impl ProcessingConfig {
    /// The defaults, for what a group reads.
    #[must_use]
    pub fn new(group: GroupConfig) -> ProcessingConfig {
        ProcessingConfig {
            group,
            // Kafka Streams': a crash does not hold up the others for a minute.
            transactions: TransactionConfig {
                timeout: Duration::from_secs(10),
                ..TransactionConfig::default()
            },
            commit_interval: Duration::from_millis(100),
            // What is done again after an abort stays little.
            records_max: 1000,
            attempts_max: 3,
            retry_pauses: BackoffLimits {
                first: Duration::from_millis(100),
                longest: Duration::from_secs(10),
            },
            quarantine: None,
        }
    }
}

/// Why a session cannot go on. A new one with the same transactional id begins where the last commit left off.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProcessingError {
    /// Another session with the same transactional id has taken over.
    #[error(
        "another producer with the transactional id {0:?} has taken over, or a transaction took longer than its timeout"
    )]
    Fenced(TransactionalId),
    /// A record cannot be processed, and there is no quarantine, or it does not take it.
    #[error("{partition} at {offset} failed {attempts} times and cannot be put into quarantine: {reason}")]
    Poison {
        /// Its partition.
        partition: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// How often it was tried.
        attempts: u32,
        /// What was wrong the last time.
        reason: String,
    },
    /// What became of a commit could not be learnt.
    #[error("what became of a commit is not known: {0}")]
    Unresolved(#[from] ResolveError),
    /// The producer cannot go on.
    #[error("{0}")]
    Transaction(#[from] TransactionError),
    /// The consumer cannot go on.
    #[error("{0}")]
    Client(#[from] ClientError),
}

impl ProcessingError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            ProcessingError::Fenced(_) => {
                "start again, unless another process has the same transactional id: give each its own"
                    .to_owned()
            }
            ProcessingError::Poison { .. } => {
                "name a quarantine topic that takes such records, or correct what processes them".to_owned()
            }
            ProcessingError::Unresolved(_) => "start again: a new session ends what is open".to_owned(),
            ProcessingError::Transaction(error) => error.advice(),
            ProcessingError::Client(error) => error.advice(),
        }
    }

    /// Whether the broker could not be asked, and the same may work later.
    fn retriable(&self) -> bool {
        match self {
            ProcessingError::Transaction(TransactionError::Client(error))
            | ProcessingError::Unresolved(
                ResolveError::Client(error) | ResolveError::Transaction(TransactionError::Client(error)),
            ) => error.retriable(),
            _ => false,
        }
    }
}

/// Why a transaction is not known to be committed.
enum Stopped {
    /// The next step ends it, and reads again what it did not commit. `blames`: something in it cannot be stored.
    Again { cause: String, blames: bool },
    /// The session ends.
    Ends(ProcessingError),
}

impl From<ClientError> for Stopped {
    fn from(error: ClientError) -> Stopped {
        Stopped::Ends(error.into())
    }
}

impl From<TransactionError> for Stopped {
    fn from(error: TransactionError) -> Stopped {
        let again = |blames| Stopped::Again { cause: error.to_string(), blames };
        match &error {
            TransactionError::Fenced(id) => Stopped::Ends(ProcessingError::Fenced(id.clone())),
            TransactionError::Produce(failed) if quarantine::is_hopeless(failed) => {
                Stopped::Ends(error.into())
            }
            TransactionError::Produce(failed) => again(quarantine::blames_the_record(failed)),
            // A topic that was read has been deleted: it will be revoked.
            TransactionError::Client(ClientError::Unknown { .. }) => again(false),
            TransactionError::Client(failed) if !failed.retriable() => Stopped::Ends(error.into()),
            TransactionError::Abortable(_) | TransactionError::InDoubt(_) | TransactionError::Client(_) => {
                again(false)
            }
        }
    }
}

/// Of a commit whose outcome is not known.
impl From<ResolveError> for Stopped {
    fn from(error: ResolveError) -> Stopped {
        let error = ProcessingError::from(error);
        match error.retriable() {
            true => Stopped::Again { cause: error.to_string(), blames: false },
            false => Stopped::Ends(error),
        }
    }
}

impl From<ProduceError> for Stopped {
    fn from(error: ProduceError) -> Stopped {
        TransactionError::from(error).into()
    }
}

/// A member of a group that processes what it reads, each record's results and its offset in one transaction.
///
/// * A transaction that fails is aborted, and reading goes back to the last commit (KAFKA-17582).
/// * A record that cannot be processed is tried again after a pause, alone in its partition; after
///   [`ProcessingConfig::attempts_max`] times it goes to the quarantine topic, in the same transaction as its offset, with
///   headers that say where it comes from and why. A record that kills the process is not counted.
/// * When partitions are to be given up, the running transaction is ended first.
/// * A commit without an answer is resolved before anything else is done. While the broker cannot be asked, a session tries
///   again; it ends if that has not helped [`TransactionConfig::commit_timeout`] after the first failure. (One try may take as
///   long as the client's `call_timeout`.)
///
/// `process` may be called several times for a record; what it returns takes effect once.
///
/// ```no_run
/// # async fn example(client: semel::client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use semel::client::{GroupConfig, ProcessingConfig, ProcessingSession, ProducerRecord, Subscription};
/// use semel::types::{GroupId, TopicName, TransactionalId};
/// let (orders, invoices) = (TopicName::new("orders")?, TopicName::new("invoices")?);
/// let group = GroupConfig::new(GroupId::new("billing"), Subscription::topics([orders]));
/// let config = ProcessingConfig { quarantine: Some(TopicName::new("orders-failed")?), ..ProcessingConfig::new(group) };
/// // Each process has a transactional id of its own, and keeps it when it is started again.
/// let id = TransactionalId::new("billing-1").ok_or("an empty id")?;
/// let session = ProcessingSession::start(&client, id, config).await?;
/// let process = |order: semel::client::ConsumedRecord| {
///     let invoices = invoices.clone();
///     async move {
///         let value = order.record.value.ok_or("an order without a value")?;
///         Ok::<_, &str>(vec![ProducerRecord::new(invoices, value)])
///     }
/// };
/// session.run(process, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
/// # Ok(())
/// # }
/// ```
pub struct ProcessingSession {
    intake: Intake,
    producer: TransactionalProducer,
    config: ProcessingConfig,
    failures: Failures,
    /// Whether a transaction may be open or in doubt, and positions may be beyond what is committed.
    unfinished: bool,
}

impl ProcessingSession {
    /// Takes over a transactional id, which ends what a former holder left open, and joins the group.
    pub async fn start(
        client: &Client,
        transactional_id: TransactionalId,
        config: ProcessingConfig,
    ) -> Result<ProcessingSession, ProcessingError> {
        let producer = TransactionalProducer::init(client, transactional_id, config.transactions).await?;
        let mut group = config.group.clone();
        group.auto_commit = None;
        group.reading.isolation = Isolation::ReadCommitted;
        let consumer = Consumer::subscribe(client, group)?;
        let failures = Failures::new(config.attempts_max, config.retry_pauses);
        Ok(ProcessingSession { intake: Intake::new(consumer), producer, config, failures, unfinished: false })
    }

    /// The consumer: what is assigned to it, its positions, its lag.
    #[must_use]
    pub fn consumer(&self) -> &GroupConsumer {
        self.intake.consumer()
    }

    /// Processes until `stop` comes; then aborts what is not committed, and leaves the group.
    pub async fn run<F, R, E>(
        mut self,
        mut process: F,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ProcessingError>
    where
        F: FnMut(ConsumedRecord) -> R,
        R: Future<Output = Result<Vec<ProducerRecord>, E>>,
        E: Display,
    {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return self.close().await,
                stepped = self.step(&mut process) => stepped?,
            }
        }
    }

    /// Waits for a record and processes it and those that follow, in one transaction. If that fails, or if this future is
    /// dropped, nothing of it takes effect, and the next step reads the same again; unless the commit had been asked for:
    /// then the next step learns first what became of it, and reads again only what it did not commit.
    pub async fn step<F, R, E>(&mut self, process: &mut F) -> Result<(), ProcessingError>
    where
        F: FnMut(ConsumedRecord) -> R,
        R: Future<Output = Result<Vec<ProducerRecord>, E>>,
        E: Display,
    {
        if self.unfinished {
            self.take_back().await?;
        }
        let Taken::Record(first) = self.intake.take(None).await? else { return Ok(()) };
        self.unfinished = true;
        let mut work = Work::default();
        match self.transact(first, process, &mut work).await {
            Ok(()) => self.unfinished = false,
            Err(Stopped::Ends(error)) => return Err(error),
            Err(Stopped::Again { cause, blames }) => {
                tracing::info!(%cause, "a transaction is not known to be committed: what it has not done is done again");
                if blames {
                    self.blame(&work, cause)?;
                }
            }
        }
        Ok(())
    }

    /// One transaction.
    async fn transact<F, R, E>(
        &mut self,
        first: ConsumedRecord,
        process: &mut F,
        work: &mut Work,
    ) -> Result<(), Stopped>
    where
        F: FnMut(ConsumedRecord) -> R,
        R: Future<Output = Result<Vec<ProducerRecord>, E>>,
        E: Display,
    {
        let ProcessingSession { intake, producer, config, failures, .. } = self;
        let records_max = if failures.are_searched() { 1 } else { config.records_max };
        let deadline = Instant::now() + config.commit_interval;
        let mut transaction = producer.begin().await?;
        let mut next = Taken::Record(first);
        while let Taken::Record(record) = next {
            work.begin(&record);
            match attempt(&record, process, &mut transaction, failures).await? {
                Attempt::Done => {}
                Attempt::Again(at) => {
                    intake.put_back(&record, at)?;
                    break;
                }
                Attempt::GivenUp => {
                    quarantine(&mut transaction, &record, config, failures).await?;
                    work.quarantined = true;
                }
            }
            next = match work.records >= records_max {
                true => Taken::Nothing,
                false => intake.take(Some(deadline)).await?,
            };
            if let Taken::Lost = next {
                return Err(Stopped::Again { cause: "partitions were lost".to_owned(), blames: false });
            }
        }
        let offsets = intake.consumer().uncommitted(intake.consumer().positions().keys());
        if !offsets.is_empty() {
            intake.consumer().send_offsets(&mut transaction, &offsets).await?;
        }
        commit(transaction).await?.resolve(producer).await?;
        intake.consumer().note_committed(&offsets);
        failures.passed(&intake.consumer().assigned(), intake.consumer().positions());
        Ok(())
    }

    /// Something in a transaction cannot be stored: which of its records is to blame shows when each is alone in one.
    fn blame(&mut self, work: &Work, cause: String) -> Result<(), ProcessingError> {
        match &work.last {
            Some(record) if work.records == 1 && work.quarantined => Err(self.failures.poison(record)),
            Some(record) if work.records == 1 => {
                // It is alone in its transaction already: there is nothing to wait for.
                let _ = self.failures.note(record, cause);
                Ok(())
            }
            _ => {
                self.failures.search(self.intake.consumer().positions());
                Ok(())
            }
        }
    }

    /// Ends what is open, and goes back to what is committed.
    async fn take_back(&mut self) -> Result<(), ProcessingError> {
        self.end_open().await?;
        self.intake.rewind();
        self.unfinished = false;
        Ok(())
    }

    async fn end_open(&mut self) -> Result<(), ProcessingError> {
        let deadline = Instant::now() + self.config.transactions.commit_timeout;
        let mut backoff = Backoff::unseeded(self.config.retry_pauses);
        loop {
            let ended = self.end_once().await;
            let next = Instant::now() + backoff.pause();
            match ended {
                Err(error) if error.retriable() && next < deadline => tokio::time::sleep_until(next).await,
                ended => return ended,
            }
        }
    }

    async fn end_once(&mut self) -> Result<(), ProcessingError> {
        // To begin one makes good what the last one owes.
        match self.producer.begin().await {
            Ok(nothing) => return Ok(nothing.abort().await?),
            Err(TransactionError::InDoubt(_)) => {}
            Err(TransactionError::Fenced(id)) => return Err(ProcessingError::Fenced(id)),
            Err(error) => return Err(error.into()),
        }
        self.producer.resolve().await?;
        Ok(())
    }

    /// Aborts what is not committed, and leaves the group.
    pub async fn close(mut self) -> Result<(), ProcessingError> {
        let ended = if self.unfinished { self.end_open().await } else { Ok(()) };
        self.intake.close().await?;
        ended
    }
}

/// What is in a transaction.
#[derive(Default)]
struct Work {
    records: usize,
    last: Option<ConsumedRecord>,
    /// Whether the last one went to the quarantine.
    quarantined: bool,
}

impl Work {
    fn begin(&mut self, record: &ConsumedRecord) {
        self.records += 1;
        self.last = Some(record.clone());
        self.quarantined = false;
    }
}

async fn quarantine(
    transaction: &mut Transaction<'_>,
    record: &ConsumedRecord,
    config: &ProcessingConfig,
    failures: &Failures,
) -> Result<(), Stopped> {
    let Some(topic) = &config.quarantine else { return Err(Stopped::Ends(failures.poison(record))) };
    let (attempts, reason) = failures.of(record);
    tracing::warn!(partition = %record.partition, offset = %record.offset, attempts, reason, "into quarantine");
    let copy = quarantine::copy(topic, record, &config.group.group, (attempts, reason));
    transaction.send(copy).await?;
    Ok(())
}

/// Processes a record, unless that has failed too often.
async fn attempt<F, R, E>(
    record: &ConsumedRecord,
    process: &mut F,
    transaction: &mut Transaction<'_>,
    failures: &mut Failures,
) -> Result<Attempt, Stopped>
where
    F: FnMut(ConsumedRecord) -> R,
    R: Future<Output = Result<Vec<ProducerRecord>, E>>,
    E: Display,
{
    if failures.are_too_many(record) {
        return Ok(Attempt::GivenUp);
    }
    match process(record.clone()).await {
        Ok(results) => {
            for result in results {
                transaction.send(result).await?;
            }
            Ok(Attempt::Done)
        }
        Err(reason) => Ok(failures.note(record, reason.to_string())),
    }
}

/// A commit that was asked for.
enum Asked {
    Committed,
    InDoubt,
}

async fn commit(transaction: Transaction<'_>) -> Result<Asked, Stopped> {
    match transaction.commit().await {
        Ok(_) => Ok(Asked::Committed),
        Err(CommitError::Unknown(_)) => Ok(Asked::InDoubt),
        Err(CommitError::Fenced(id)) => Err(Stopped::Ends(ProcessingError::Fenced(id))),
        Err(CommitError::Aborted { cause }) => Err(TransactionError::clone(&cause).into()),
    }
}

impl Asked {
    async fn resolve(self, producer: &mut TransactionalProducer) -> Result<(), Stopped> {
        match self {
            Asked::Committed => Ok(()),
            Asked::InDoubt => match producer.resolve().await {
                Ok(Resolved::Committed) => Ok(()),
                Ok(Resolved::Aborted) => {
                    Err(Stopped::Again { cause: "it turned out to be aborted".to_owned(), blames: false })
                }
                Err(error) => Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_answer() -> ClientError {
        let what = "the outcome of a commit".to_owned();
        ClientError::Timeout { what, after: Duration::from_secs(60), last: None }
    }

    #[test]
    fn a_session_ends_over_an_unknown_commit_only_if_it_will_never_be_known() {
        let later = [ResolveError::Client(no_answer()), ResolveError::Transaction(no_answer().into())];
        for error in later {
            assert!(ProcessingError::from(error.clone()).retriable(), "{error}");
            assert!(matches!(Stopped::from(error), Stopped::Again { blames: false, .. }));
        }
        for error in [ResolveError::Forgotten, ResolveError::Ambiguous, ResolveError::Prepared] {
            assert!(!ProcessingError::from(error.clone()).retriable(), "{error}");
            assert!(matches!(Stopped::from(error), Stopped::Ends(ProcessingError::Unresolved(_))));
        }
    }
}
