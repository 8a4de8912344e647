//! The rows of consumer groups (`spec/groups.md`, "State").

use crate::types::*;
use crate::{codec, codec_enum};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A group that has had members. One that only ever had offsets has no row.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// The newest generation.
    pub generation: Generation,
    /// What its members are to one another: `consumer`, `connect`, …
    pub protocol_type: String,
    /// Where the newest generation stands.
    pub state: GroupState,
    /// Since when.
    pub since: ServedTime,
}
codec!(GroupRow { generation, protocol_type, state, since });

/// Where a group's newest generation stands, as far as that is durable. A rebalance that only adds members is not: it is
/// in the [`RebalanceRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// Nobody is left.
    Empty,
    /// Members have gone: the others are to join the next generation.
    PreparingRebalance,
    /// It has been formed, and waits for its leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
}
codec_enum!(GroupState { 0 => Empty, 1 => PreparingRebalance, 2 => CompletingRebalance, 3 => Stable });

/// The members of a group's newest generation. There is no such row when nobody is left, so a start finds the groups that
/// live without reading the others.
#[derive(Clone, Debug, PartialEq)]
pub struct MembersRow {
    /// The assignment protocol that was selected.
    pub protocol: String,
    /// Who assigns.
    pub leader: MemberId,
    /// All of them. At most [`GROUP_MEMBERS_MAX`](super::super::limits::GROUP_MEMBERS_MAX).
    pub members: BTreeMap<MemberId, Member>,
}
codec!(MembersRow { protocol, leader, members });

/// A member of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// What its operator calls it, if it is a static one (KIP-345).
    pub instance: Option<InstanceId>,
    /// Its client's name for itself, for people.
    pub client_id: String,
    /// Where it connects from, for people.
    pub client_host: String,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// The assignment protocols that it can use, the preferred one first.
    pub protocols: Vec<MemberProtocol>,
    /// What its leader assigned to it; empty before that.
    pub assignment: Bytes,
}
codec!(Member {
    instance,
    client_id,
    client_host,
    session_timeout,
    rebalance_timeout,
    protocols,
    assignment
});

impl Member {
    /// What it says of itself to a leader that uses `protocol`.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|known| known.name == protocol);
        found.map_or_else(Bytes::new, |known| known.metadata.clone())
    }

    /// Bytes that it says of itself.
    #[must_use]
    pub fn weight(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, |instance| instance.as_str().len());
        weight_of(&self.protocols) + instance + self.client_id.len() + self.client_host.len()
    }
}

/// An assignment protocol that a member can use.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberProtocol {
    /// Its name, such as `range`.
    pub name: String,
    /// What the member tells the leader: its subscription, for consumers.
    pub metadata: Bytes,
}
codec!(MemberProtocol { name, metadata });

/// Bytes of protocols, with the lengths in front of their fields: an empty one is something, too.
pub(super) fn weight_of(protocols: &[MemberProtocol]) -> usize {
    const LENGTHS: usize = 2 * size_of::<u32>();
    protocols.iter().map(|protocol| LENGTHS + protocol.name.len() + protocol.metadata.len()).sum()
}

/// Volatile: who takes part in a rebalance, and whose requests wait for it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RebalanceRow {
    /// Member ids that were given out and have not been joined with yet (KIP-394).
    pub pending: BTreeSet<MemberId>,
    /// The next generation, while it is being formed.
    pub joining: Option<Joining>,
    /// Members that wait for their assignment.
    pub syncing: BTreeMap<MemberId, RequestId>,
}
codec!(RebalanceRow { pending, joining, syncing });

impl RebalanceRow {
    /// Whether nobody takes part.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.joining.is_none() && self.syncing.is_empty()
    }

    /// Bytes of what clients have sent of it.
    #[must_use]
    pub fn weight(&self) -> usize {
        let pending = self.pending.iter().chain(self.syncing.keys()).map(|id| id.as_str().len());
        let joined = self.joining.iter().flat_map(|joining| &joining.joined);
        let joined = joined.map(|(id, joiner)| id.as_str().len() + joiner.member.weight());
        pending.sum::<usize>() + joined.sum::<usize>()
    }
}

/// A generation that is being formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Joining {
    /// Those who have joined it.
    pub joined: BTreeMap<MemberId, Joiner>,
    /// When it is formed without those who have not come.
    pub until: ServedTime,
    /// For the first generation of an empty group: how it waits for more members than the first.
    pub delay: Option<InitialDelay>,
    /// What they are to one another.
    pub protocol_type: String,
}
codec!(Joining { joined, until, delay, protocol_type });

/// A member that waits for the generation it has joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Joiner {
    /// What it will be.
    pub member: Member,
    /// The request that will be answered.
    pub request: RequestId,
}
codec!(Joiner { member, request });

/// How an empty group waits for more members than the first (KIP-134): as long as somebody came in the last interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialDelay {
    /// The interval.
    pub interval: Duration,
    /// Whether somebody else has come in this one.
    pub newcomers: bool,
}
codec!(InitialDelay { interval, newcomers });

/// Volatile: how many sessions there are, and what waits in rebalances, in all groups together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SessionsRow {
    /// The number of sessions.
    pub sessions: u64,
    /// Bytes of the ids that name them.
    pub bytes: u64,
    /// Bytes of what waits in rebalances ([`RebalanceRow::weight`]).
    pub rebalances_bytes: u64,
}
codec!(SessionsRow { sessions, bytes, rebalances_bytes });
