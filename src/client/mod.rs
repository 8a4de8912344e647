//! The Rust client: producers, transactions, consumers and administration of any broker that speaks the Kafka protocol,
//! over QUIC (semel's own lanes) or TLS 1.3 on TCP.
//!
//! Comes in: what an application wants to send, read or change. Goes out: requests in the highest version that both
//! sides speak, and results that say what is known: stored, refused, or not known. What decides anything (batching,
//! sequence numbers, retries, positions, which records are visible) is a plain structure that takes `now` as an argument
//! ([`producer::Outbox`], [`consumer::Cursor`]); the asynchronous shell around it only moves bytes and waits.
//! This room must never report as stored what it does not know to be stored, never send a record a second time under
//! another sequence number while the first may have been stored, and never hold more than its named limits.
//!
//! Start with [`Client::connect`]; then [`Producer`], [`TransactionalProducer`], [`Consumer`] (alone, or a member of a group:
//! [`Consumer::subscribe`]), [`ProcessingSession`] (from topics to topics, exactly once) or [`Admin`].

mod admin;
mod admin_backup;
mod admin_groups;
mod admin_topics;
mod append;
mod backoff;
mod changes;
mod cluster;
mod config;
mod connection;
pub mod consumer;
mod coordinator;
mod error;
mod lane;
mod metadata;
mod offsets;
mod outcomes;
mod page;
mod partitioner;
mod processing;
pub mod producer;
mod transaction;
mod transaction_admin;
mod transport;
mod versions;

pub use crate::wire::batch::{Compression, RecordHeader};
pub use admin::{
    Admin, BrokerDescription, ClusterDescription, NewTopic, PartitionDescription, TopicDescription,
};
pub use admin_backup::{BackupProgress, BackupTaken};
pub use admin_groups::{
    GroupDescription, GroupEpochs, GroupFilter, GroupListing, GroupMemberDescription, MemberTarget,
    PartitionProgress,
};
pub use admin_topics::ConfigEntry;
pub use backoff::{Backoff, BackoffLimits};
pub use cluster::Client;
pub use config::{ClientConfig, Endpoint, InvalidEndpoint, Scheme, TlsFiles};
pub use connection::Connection;
pub use consumer::{
    Commit, ConsumedRecord, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, GroupEvent, Isolation,
    Rebalance, Start, Subscription,
};
pub use error::ClientError;
pub use lane::{Lane, Purpose};
pub use metadata::{Metadata, TopicPartition};
pub use offsets::{CommittedOffset, GroupMember, OffsetQuery, OffsetToCommit};
pub use outcomes::{OutcomeQuery, Outcomes, Standing, TransactionOutcome};
pub use page::{Page, page};
pub use partitioner::{Partitioner, murmur2};
pub use processing::{
    ProcessingConfig, ProcessingError, ProcessingSession, QUARANTINE_ATTEMPTS_HEADER,
    QUARANTINE_GROUP_HEADER, QUARANTINE_OFFSET_HEADER, QUARANTINE_PARTITION_HEADER, QUARANTINE_REASON_HEADER,
    QUARANTINE_TOPIC_HEADER,
};
pub use producer::{
    AcceptedKey, Delivered, Delivery, IDEMPOTENCY_KEY_HEADER, ProduceError, Producer, ProducerConfig,
    ProducerRecord,
};
pub use transaction::{
    CommitError, CommitUnknown, Committed, ResolveError, Resolved, Transaction, TransactionConfig,
    TransactionError, TransactionalProducer,
};
pub use transaction_admin::{Blocker, TransactionDescription, TransactionFilter};
#[cfg(test)]
pub(crate) use transport::SimulatedStream;
pub use versions::TransactionProtocol;
