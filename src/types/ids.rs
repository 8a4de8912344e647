//! Identities and positions.

use std::fmt;
use uuid::Uuid;

/// A record's position in its partition, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `records` further on. Offsets end at 2⁶³−1, which no partition reaches.
    #[must_use]
    pub fn plus(self, records: i64) -> Offset {
        Offset(self.0.saturating_add(records))
    }

    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Offset {
        self.plus(1)
    }
}

/// The number of a leader's term (KIP-101). On one node it is always 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaderEpoch(pub i32);

/// A broker's number in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub i32);

/// The number of a block in a shard's log: from 1, without gaps. 0 is "before the first block".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockNumber(pub u64);

impl BlockNumber {
    /// Before the first block: nothing decided, nothing durable, nothing applied.
    pub const ZERO: BlockNumber = BlockNumber(0);

    /// The block after this one.
    #[must_use]
    pub fn next(self) -> BlockNumber {
        BlockNumber(self.0.saturating_add(1))
    }
}

/// A Kafka connection (one TCP connection, or one QUIC lane), numbered in the order in which they were accepted since
/// this process started; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnectionId(pub u64);

/// A request whose reply may come from the decision of another command. Numbered by whoever asks; never reused while the
/// process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId(pub u64);

/// The number of a group's generation: it grows with each rebalance. −1 is "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub i32);

impl Generation {
    /// The generation after this one. Generations end at 2³¹−1, which no group reaches.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0.saturating_add(1))
    }
}

/// An epoch of a group of the consumer protocol, of its target, or of a member, which is the target's that it has reached
/// (KIP-848). Members also say these: 0 to join, −1 to leave, −2 to leave and come back (static ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupEpoch(pub i32);

impl GroupEpoch {
    /// A member that joins.
    pub const JOIN: GroupEpoch = GroupEpoch(0);
    /// A member that leaves.
    pub const LEAVE: GroupEpoch = GroupEpoch(-1);
    /// A static member that is away, and will be back.
    pub const AWAY: GroupEpoch = GroupEpoch(-2);

    /// The epoch after this one. Epochs end at 2³¹−1, which no group reaches.
    #[must_use]
    pub fn next(self) -> GroupEpoch {
        GroupEpoch(self.0.saturating_add(1))
    }
}

/// A topic's identity (KIP-516): it survives nothing but the topic, so a topic made again under an old name is another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// The protocol's "no topic id".
    pub const NIL: TopicId = TopicId(Uuid::nil());
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition's number within its topic, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionIndex(pub i32);

/// A partition: which topic, and which of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub index: PartitionIndex,
}

impl PartitionId {
    /// Partition `index` of `topic`.
    #[must_use]
    pub fn new(topic: TopicId, index: PartitionIndex) -> PartitionId {
        PartitionId { topic, index }
    }

    /// The partition that comes next in the order of their keys, whether or not there is one.
    #[must_use]
    pub fn next(self) -> PartitionId {
        match self.index.0.checked_add(1) {
            Some(index) => PartitionId { index: PartitionIndex(index), ..self },
            None => PartitionId::new(
                TopicId(Uuid::from_u128(self.topic.0.as_u128().saturating_add(1))),
                PartitionIndex(0),
            ),
        }
    }
}

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(Offset, LeaderEpoch, NodeId, BlockNumber, ConnectionId, TopicId, PartitionIndex);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}
