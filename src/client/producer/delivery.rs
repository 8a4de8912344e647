//! What becomes of a record.

use super::super::error::{ClientError, seconds};
use super::super::metadata::TopicPartition;
use super::outbox::AcceptedKey;
use crate::types::{Offset, PartitionIndex, Timestamp, TopicName};
use crate::wire::ErrorCode;
use crate::wire::batch::BatchError;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where.
    pub partition: TopicPartition,
    /// At which offset. None if the broker had it from an earlier attempt, so long ago that it no longer says where.
    pub offset: Option<Offset>,
    /// The broker's time, where the topic wants that; [`Timestamp::NONE`] where the record keeps its own.
    pub append_time: Timestamp,
}

/// Why a record is not known to be stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// The broker refused the batch. Nothing of it is stored.
    #[error("{partition} refused a batch: {code}: {}", .detail.as_deref().unwrap_or(code.meaning()))]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// The broker's reason.
        code: ErrorCode,
        /// Its own words, if it had any.
        detail: Option<String>,
        /// The batch's records whose idempotency keys are accepted already, if that is why.
        keys: Arc<[AcceptedKey]>,
    },
    /// The topic has accepted the record's idempotency key already: what it stands for has happened, there. The record is not
    /// stored again. (In a transaction: abort it, and leave the record out.)
    #[error("{topic} has accepted the idempotency key already, in partition {}, at offset {}", .partition.0, .offset.0)]
    AlreadyAccepted {
        /// The topic.
        topic: TopicName,
        /// The partition of the record that bears the key; it need not be the one that was asked for.
        partition: PartitionIndex,
        /// That record's offset.
        offset: Offset,
    },
    /// Sent, perhaps stored, perhaps to be stored yet: no answer came that settles it. Do not send the record again unless
    /// whoever reads it can bear it twice.
    #[error("a batch may or may not be stored in {partition}: {reason}")]
    Unknown {
        /// The partition.
        partition: TopicPartition,
        /// What happened.
        reason: String,
    },
    /// Not sent in the time that a delivery may take, hence not stored.
    #[error("{partition} could not be reached within {}: nothing was sent", seconds(*.after))]
    Expired {
        /// The partition.
        partition: TopicPartition,
        /// The time a delivery may take.
        after: Duration,
    },
    /// The record, or its batch, is larger than a request may be.
    #[error(
        "a record of {size} bytes is larger than a request may be ({limit} bytes): send smaller records, or raise request_bytes"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The buffer stayed full.
    #[error("no room in the producer's buffer within {}: the broker takes records more slowly than they are sent", seconds(*.after))]
    BufferFull {
        /// How long the call waited.
        after: Duration,
    },
    /// The batch cannot be made.
    #[error("a batch cannot be made: {0}")]
    Unbuildable(#[from] BatchError),
    /// The record's transaction has failed; it will be aborted, and its records with it.
    #[error("the transaction has failed and must be aborted: {0}")]
    TransactionFailed(Arc<ProduceError>),
    /// Its transaction ended without it.
    #[error("the transaction ended before the record was sent")]
    TransactionEnded,
    /// The producer was closed before the record was sent.
    #[error("the producer was closed")]
    Closed,
    /// No partition could be found for it.
    #[error("{0}")]
    Client(#[from] ClientError),
}

impl ProduceError {
    /// What a batch's failure is for one of its records.
    fn of_record(&self, index: u32) -> ProduceError {
        if let ProduceError::Refused { partition, keys, .. } = self
            && let Some(AcceptedKey { at: Some((accepted_in, offset)), .. }) =
                keys.iter().find(|key| key.index == index)
        {
            let topic = partition.topic.clone();
            return ProduceError::AlreadyAccepted { topic, partition: *accepted_in, offset: *offset };
        }
        self.clone()
    }

    /// Whether the record may be stored in spite of the error.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        matches!(self, ProduceError::Unknown { .. })
    }

    /// The broker's error code, where it refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ProduceError::Refused { code, .. } => Some(*code),
            ProduceError::AlreadyAccepted { .. } => Some(ErrorCode::InvalidRecord),
            ProduceError::TransactionFailed(cause) => cause.code(),
            ProduceError::Client(error) => error.code(),
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            ProduceError::AlreadyAccepted { .. } => "leave the record out: it is stored already".to_owned(),
            ProduceError::Refused { keys, .. } if !keys.is_empty() => {
                "send the records again, without those whose keys are accepted already".to_owned()
            }
            ProduceError::Refused { partition, code, detail, .. } => {
                ClientError::broker(partition.to_string(), *code, detail.clone()).advice()
            }
            ProduceError::Client(error) => error.advice(),
            ProduceError::TransactionFailed(cause) => cause.advice(),
            ProduceError::TooLarge { .. } => "send smaller records".to_owned(),
            ProduceError::BufferFull { .. } => "send more slowly, or raise buffer_bytes".to_owned(),
            _ => "check that the broker is running and not overloaded, and try again".to_owned(),
        }
    }
}

/// A batch as the broker answered for it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) partition: TopicPartition,
    pub(super) base_offset: Option<Offset>,
    pub(super) append_time: Timestamp,
}

/// When and how a batch was settled.
#[derive(Debug)]
pub(super) struct Settled {
    at: Instant,
    outcome: Result<Stored, ProduceError>,
}

/// The outcome of one batch, which its records share. Set once.
#[derive(Debug, Default)]
pub(super) struct Promise {
    outcome: OnceLock<Settled>,
    settled: Notify,
}

impl Promise {
    /// Settles it; only the first outcome counts.
    pub(super) fn settle(&self, at: Instant, outcome: Result<Stored, ProduceError>) {
        if self.outcome.set(Settled { at, outcome }).is_ok() {
            self.settled.notify_waiters();
        }
    }

    pub(super) async fn wait(&self) -> &Result<Stored, ProduceError> {
        loop {
            let settled = self.settled.notified();
            if let Some(settled) = self.outcome.get() {
                return &settled.outcome;
            }
            settled.await;
        }
    }
}

/// What will become of one record: await it, or drop it and rely on `flush` or `commit`.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(super) promise: Arc<Promise>,
    pub(super) index: u32,
}

impl Delivery {
    /// The outcome, if it is known already.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Delivered, ProduceError>> {
        self.promise.outcome.get().map(|settled| self.of_record(&settled.outcome))
    }

    /// When the outcome became known, if it is.
    #[must_use]
    pub fn settled_at(&self) -> Option<Instant> {
        self.promise.outcome.get().map(|settled| settled.at)
    }

    /// Waits for the outcome.
    pub async fn wait(self) -> Result<Delivered, ProduceError> {
        self.of_record(self.promise.wait().await)
    }

    fn of_record(&self, outcome: &Result<Stored, ProduceError>) -> Result<Delivered, ProduceError> {
        let stored = outcome.as_ref().map_err(|error| error.of_record(self.index))?;
        Ok(Delivered {
            partition: stored.partition.clone(),
            offset: stored.base_offset.map(|base| base.plus(self.index.into())),
            append_time: stored.append_time,
        })
    }
}

impl IntoFuture for Delivery {
    type Output = Result<Delivered, ProduceError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}
