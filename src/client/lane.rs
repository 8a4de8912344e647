//! Lanes: which of a client's connections to a broker a request travels on (`spec/transport-quic.md`).

use crate::types::NodeId;

/// What a lane is for. A fetch that waits for records must not hold up anything else, and a full produce lane must not
/// hold up a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Metadata, administration, offsets.
    Control,
    /// Transactions' coordinator requests.
    Transactions,
    /// Record batches to the broker. A partition's batches all travel on the same lane, whose number this is: order
    /// between lanes does not exist.
    Produce(u16),
    /// Record batches from the broker.
    Fetch,
}

/// One ordered Kafka connection: a QUIC stream, or a TLS connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The broker; none for whichever bootstrap endpoint answers.
    pub node: Option<NodeId>,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose it is: producers and consumers of one client do not share lanes.
    pub owner: u32,
}
