//! Why a request gets no answer, and its connection is closed instead.

use crate::core::Refusal;
use crate::log::ReadError;
use crate::net;
use crate::shard::ShardStopped;
use crate::store::StoreError;
use crate::wire::{ApiKey, DecodeError, EncodeError, HeaderError};
use std::borrow::Cow;

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{api} version {version} is not served")]
    VersionNotServed { api: ApiKey, version: i16 },
    /// The client did something that the protocol has no error code for.
    #[error("{0}")]
    Protocol(Cow<'static, str>),
    #[error("{0}: its transactional id has since been used over a newer connection (rule E10)")]
    OlderConnection(ApiKey),
    #[error("an acks=0 produce request failed, and the client can learn it in no other way: {0}")]
    Unacknowledged(String),
    #[error(transparent)]
    Stopped(#[from] ShardStopped),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    #[error("the answer could not be written, which is a defect of semel: {0}")]
    Encode(#[from] EncodeError),
    #[error("the answer needs more memory than there may be: {0}")]
    Memory(#[from] net::ReserveError),
    #[error("the shard answered something else than was asked, which is a defect of semel: {0}")]
    Mismatch(String),
}

impl Failure {
    /// A rule of the protocol was broken.
    pub(super) fn protocol(reason: impl Into<Cow<'static, str>>) -> Failure {
        Failure::Protocol(reason.into())
    }
}

impl From<Failure> for net::Refusal {
    fn from(failure: Failure) -> net::Refusal {
        if matches!(failure, Failure::Store(_) | Failure::Log(_) | Failure::Mismatch(_) | Failure::Encode(_))
        {
            tracing::error!(%failure, "a request could not be answered");
        }
        net::Refusal::new(failure.to_string())
    }
}

/// Takes a reply of the kind that was asked for.
pub(super) mod expect {
    use super::{Failure, Refusal};
    use crate::core::{AnyGroup, Appended, ConsumerTold, Identity, Joined, NotAppended, Reply, Synced};

    fn mismatch(reply: &Reply) -> Failure {
        Failure::Mismatch(format!("{reply:?}"))
    }

    pub(crate) fn done(reply: Reply) -> Result<Result<(), Refusal>, Failure> {
        match reply {
            Reply::Done(done) => Ok(done),
            other => Err(mismatch(&other)),
        }
    }

    pub(crate) fn identity(reply: Reply) -> Result<Result<Identity, Refusal>, Failure> {
        match reply {
            Reply::Identity(identity) => Ok(identity),
            other => Err(mismatch(&other)),
        }
    }

    /// One answer for each of `asked` items.
    pub(crate) fn each(reply: Reply, asked: usize) -> Result<Vec<Result<(), Refusal>>, Failure> {
        match reply {
            Reply::Each(answers) if answers.len() == asked => Ok(answers),
            other => Err(mismatch(&other)),
        }
    }

    pub(crate) fn joined(reply: Reply) -> Result<Result<Joined, Refusal>, Failure> {
        match reply {
            Reply::Joined(joined) => Ok(joined),
            other => Err(mismatch(&other)),
        }
    }

    pub(crate) fn synced(reply: Reply) -> Result<Result<Synced, Refusal>, Failure> {
        match reply {
            Reply::Synced(synced) => Ok(synced),
            other => Err(mismatch(&other)),
        }
    }

    pub(crate) fn group(reply: Reply) -> Result<AnyGroup, Failure> {
        match reply {
            Reply::Group(group) => Ok(group),
            other => Err(mismatch(&other)),
        }
    }

    pub(crate) fn consumer(reply: Reply) -> Result<Result<ConsumerTold, Refusal>, Failure> {
        match reply {
            Reply::Consumer(told) => Ok(told),
            other => Err(mismatch(&other)),
        }
    }

    /// What became of each batch, and with which identity the producer goes on if its transaction is committed.
    type Produced = (Vec<Result<Appended, NotAppended>>, Option<Identity>);

    /// One answer for each of `asked` batches.
    pub(crate) fn produced(reply: Reply, asked: usize) -> Result<Produced, Failure> {
        match reply {
            Reply::Produced(answers) if answers.len() == asked => Ok((answers, None)),
            Reply::ProducedAndCommitted(answers, holder) if answers.len() == asked => Ok((answers, holder)),
            other => Err(mismatch(&other)),
        }
    }
}
