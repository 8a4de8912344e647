//! What can go wrong between a client and its brokers.

use super::config::{Endpoint, InvalidEndpoint};
use crate::types::GroupId;
use crate::wire::primitives::{DecodeError, EncodeError};
use crate::wire::{ApiKey, ErrorCode, VersionRange};
use std::path::PathBuf;
use std::time::Duration;

/// Why a call failed. [`ClientError::retriable`] says whether the same call may succeed later, and
/// [`ClientError::advice`] what a person can do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// Not an endpoint.
    #[error("{0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// A certificate or key cannot be read.
    #[error("cannot use {}: {problem}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection came about.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// Why not.
        reason: String,
    },
    /// One side does not accept the other's certificate.
    #[error("{endpoint} and this client do not trust each other: {reason}")]
    Identity {
        /// Where to.
        endpoint: Endpoint,
        /// What TLS says.
        reason: String,
    },
    /// The connection ended while a request was waiting. Whether the broker acted on it is not known.
    #[error("the connection to {endpoint} ended: {reason}")]
    Disconnected {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        reason: String,
    },
    /// No answer in time. Whether the broker acted on the request is not known.
    #[error("{what} was not done within {}{}", seconds(*.after), last_said(.last.as_deref()))]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What an earlier attempt came to, where there was one. The last one got no answer.
        last: Option<Box<ClientError>>,
    },
    /// Client and broker have no version of an api in common.
    #[error("{api}: this client needs version {needed}, the broker at {endpoint} {}", said(.served))]
    UnsupportedVersion {
        /// The api.
        api: ApiKey,
        /// The broker.
        endpoint: Endpoint,
        /// What the client could use.
        needed: VersionRange,
        /// What the broker has.
        served: Option<VersionRange>,
    },
    /// The broker's bytes make no sense.
    #[error("{endpoint} sent what cannot be read: {problem}")]
    Malformed {
        /// The broker.
        endpoint: Endpoint,
        /// What is wrong.
        problem: String,
    },
    /// A fetched batch cannot be read.
    #[error("{partition} has a batch that cannot be read: {problem}")]
    Unreadable {
        /// The partition.
        partition: String,
        /// What is wrong.
        problem: String,
    },
    /// The connection broke while something was being changed. It may have been changed.
    #[error("whether {what} was done is not known: {reason}")]
    OutcomeUnknown {
        /// What was asked.
        what: String,
        /// What happened.
        reason: String,
    },
    /// A request that cannot be written in the version that was agreed on.
    #[error("a request cannot be written: {0}")]
    Unwritable(#[from] EncodeError),
    /// The broker refused.
    #[error("{context}: {code}: {}", .detail.as_deref().unwrap_or(code.meaning()))]
    Broker {
        /// What was asked of it.
        context: String,
        /// Its error code.
        code: ErrorCode,
        /// Its own words, if it had any.
        detail: Option<String>,
    },
    /// A topic or partition is not there.
    #[error("there is no {what}")]
    Unknown {
        /// Topic or partition.
        what: String,
    },
    /// Offsets of partitions that the group has given to others, or is about to: they are not committed.
    #[error("{partitions}: the group {group} has given this to another member, or may have")]
    NotOwned {
        /// The group.
        group: GroupId,
        /// The partitions.
        partitions: String,
    },
    /// A member is to read a partition, and nothing says from where.
    #[error("the group {group} has committed nothing in {partition}, and no reset says where to begin")]
    NothingCommitted {
        /// The group.
        group: GroupId,
        /// The partition.
        partition: String,
    },
    /// The client, or the part of it that was needed, has been closed.
    #[error("{0} has been closed")]
    Closed(&'static str),
}

fn said(range: &Option<VersionRange>) -> String {
    range.map_or_else(|| "does not have it".to_owned(), |range| format!("has {range}"))
}

fn last_said(last: Option<&ClientError>) -> String {
    last.map_or_else(String::new, |last| format!("; before that: {last}"))
}

/// A duration as a person says it.
pub(super) fn seconds(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

impl ClientError {
    /// The broker's refusal of `context`.
    pub(super) fn broker(context: impl Into<String>, code: ErrorCode, detail: Option<String>) -> ClientError {
        ClientError::Broker {
            context: context.into(),
            code,
            detail: detail.filter(|detail| !detail.is_empty()),
        }
    }

    pub(super) fn malformed(endpoint: &Endpoint, error: &DecodeError) -> ClientError {
        ClientError::Malformed { endpoint: endpoint.clone(), problem: error.to_string() }
    }

    /// The broker's error code, where it refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::Disconnected { .. } | ClientError::Timeout { .. } => {
                true
            }
            ClientError::Broker { code, .. } => code.retriable(),
            _ => false,
        }
    }

    /// Whether what was known about leaders or coordinators is out of date.
    pub(super) fn wants_metadata(&self) -> bool {
        match self {
            ClientError::Broker { code, .. } => stale_metadata(*code),
            ClientError::Connect { .. } | ClientError::Disconnected { .. } => true,
            _ => false,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            ClientError::Config(_) | ClientError::Endpoint(_) => "correct the configuration".to_owned(),
            ClientError::File { .. } => {
                "name the files with --ca, --cert and --key, or the broker's data directory with --data-dir"
                    .to_owned()
            }
            ClientError::Connect { endpoint, .. } => {
                format!("check that a broker listens at {endpoint} (`semel serve` starts one)")
            }
            ClientError::Identity { .. } => {
                "use the CA that signed the broker's certificate and a client certificate that the broker accepts: name \
                 them with --ca, --cert and --key, or the broker's data directory with --data-dir"
                    .to_owned()
            }
            ClientError::Disconnected { .. } => {
                "look into the broker's log for the reason, and try again".to_owned()
            }
            ClientError::Timeout { .. } => {
                "check that the broker is running and not overloaded, and try again".to_owned()
            }
            ClientError::UnsupportedVersion { .. } => "use a newer broker".to_owned(),
            ClientError::Malformed { .. } => {
                "check that the address is that of a Kafka-protocol broker".to_owned()
            }
            ClientError::Unreadable { .. } => {
                "read on from a later offset, and look into the broker's log".to_owned()
            }
            ClientError::OutcomeUnknown { what, .. } if what.contains("group") => {
                "look at the group with `semel group describe` before trying again".to_owned()
            }
            ClientError::OutcomeUnknown { .. } => {
                "look at the topic with `semel topic describe` before trying again".to_owned()
            }
            ClientError::Unwritable(_) => "shorten names and texts".to_owned(),
            ClientError::Broker { code, .. } => advice_for(*code).to_owned(),
            ClientError::Unknown { what } if what.starts_with("transaction") => {
                "list transactional ids and their states with `semel txn list`".to_owned()
            }
            ClientError::Unknown { what } if what.starts_with("group") => {
                "list groups with `semel group list`".to_owned()
            }
            ClientError::Unknown { .. } => {
                "create it with `semel topic create`, or list topics with `semel topic list`".to_owned()
            }
            ClientError::NotOwned { .. } => {
                "go on: whoever has it now begins at what is committed".to_owned()
            }
            ClientError::NothingCommitted { .. } => {
                "say where to begin: earliest or latest, or set it with `semel group reset`".to_owned()
            }
            ClientError::Closed(_) => "make a new one".to_owned(),
        }
    }
}

/// Whether a code says that the client asked the wrong broker or knows a topic by a wrong id.
pub(super) fn stale_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::ReplicaNotAvailable
    )
}

fn advice_for(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TopicAlreadyExists => "choose another name, or delete the topic first",
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            "create the topic with `semel topic create`, or list topics with `semel topic list`"
        }
        ErrorCode::InvalidTopicException => "a topic name is made of letters, digits, '.', '_' and '-'",
        ErrorCode::InvalidPartitions => "choose a larger number of partitions: they can only be added",
        ErrorCode::InvalidReplicationFactor => "choose a replication factor that the brokers can give",
        ErrorCode::InvalidConfig => "correct the topic's configuration",
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "send smaller records or batches, or raise the topic's max.message.bytes"
        }
        ErrorCode::OffsetOutOfRange => "start at earliest or latest instead",
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed => {
            "use a client certificate whose principal is allowed to do this (see the broker's `admins`)"
        }
        ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => {
            "another producer with the same transactional id has taken over; stop this one"
        }
        ErrorCode::TransactionalIdNotFound => "list transactional ids with `semel txn list`",
        ErrorCode::InvalidTxnState => {
            "look at where the transaction stands with `semel txn describe` and `semel txn outcome`"
        }
        ErrorCode::NonEmptyGroup => {
            "stop its members (`semel group describe` names them) or wait until their sessions end, and end the transactions \
             that carry its offsets (`semel txn list --state Ongoing`)"
        }
        ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress => {
            "the group has members, who alone commit its offsets: stop them first (`semel group describe` names them)"
        }
        ErrorCode::GroupSubscribedToTopic => {
            "stop the members that subscribe to the topic first (`semel group describe` names them)"
        }
        ErrorCode::UnstableOffsetCommit => {
            "an open transaction carries offsets of the group: wait for its end, or end it (`semel txn list --state Ongoing`)"
        }
        ErrorCode::InvalidRegularExpression => "correct the pattern: its syntax is that of RE2",
        ErrorCode::InvalidTransactionTimeout => "choose a transaction timeout that the broker allows",
        ErrorCode::ConcurrentTransactions => "the producer's previous transaction is still ending; try again",
        code if code.retriable() => "try again",
        _ => "the broker's log may say more",
    }
}
