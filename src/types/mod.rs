//! The vocabulary of semel: small types that every room shares.
//!
//! Comes in: plain numbers and strings from the wire, the disk and the configuration. Goes out: values that cannot be
//! mistaken for one another. This room knows nothing of the protocol's bytes, of storage or of time's source; it must
//! never read a clock but in [`outside`], and never fail in any way but by returning an error.

mod clock;
pub mod codec;
mod ids;
mod maps;
mod names;
pub mod outside;
mod producer;

pub use clock::{ServedTime, Timestamp};
pub use ids::{
    BlockNumber, ConnectionId, Generation, GroupEpoch, LeaderEpoch, NodeId, Offset, PartitionId,
    PartitionIndex, RequestId, TopicId,
};
pub use maps::{HashMap, HashSet, IndexMap};
pub use names::{
    GroupId, IdempotencyKey, InstanceId, InvalidTopicName, MemberId, TOPIC_NAME_LENGTH_MAX, TopicName,
    TransactionalId,
};
pub use producer::{
    EpochExhausted, PRODUCER_EPOCH_LAST_USABLE, ProducerEpoch, ProducerId, Sequence, SequenceRange, TxnNumber,
};
