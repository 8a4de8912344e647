//! What members and operators of groups of the consumer protocol ask, and what they are told (`spec/groups.md`, sections 10
//! to 16).

use super::super::rows::{Assignor, ConsumerRow};
use super::NamedPartitions;
use crate::types::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A member is there: it joins, goes on, or leaves, as its epoch says. What it does not say stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// The epoch it is in, or what it wants.
    pub epoch: GroupEpoch,
    /// Its instance id, if it is a static one.
    pub instance: Option<InstanceId>,
    /// Where it stands.
    pub rack: Option<String>,
    /// How long it may take to revoke.
    pub rebalance_timeout: Option<Duration>,
    /// Names of topics that it subscribes to.
    pub topics: Option<BTreeSet<String>>,
    /// A regular expression of names that it subscribes to, checked; an empty one is none.
    pub pattern: Option<String>,
    /// The assignor that it asks for.
    pub assignor: Option<Assignor>,
    /// What it owns: of what it has been told to revoke, what is not among this it has revoked.
    pub owned: Option<BTreeSet<PartitionId>>,
    /// Its client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long a member may be silent. Configured: the state machine has no settings.
    pub session_timeout: Duration,
    /// What a decision may take of the log, in bytes. Configured, likewise.
    pub decision_bytes_max: usize,
    /// What was found of the patterns that were asked for ([`ConsumerTold::Resolve`]).
    pub resolved: Option<ResolvedPatterns>,
    /// What was read of the classic members that were asked about ([`ConsumerTold::Read`]).
    pub read: Option<ReadMembers>,
}

impl ConsumerHeartbeat {
    /// Whether it says everything anew: then it is told everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.pattern.is_some();
        self.epoch == GroupEpoch::JOIN
            || (self.rebalance_timeout.is_some() && subscribes && self.owned.is_some())
    }
}

/// The topics that regular expressions match. Looked for outside, as nothing here reads ranges of rows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ResolvedPatterns {
    /// As of which version of the topics, or a newer one.
    pub version: u64,
    /// By expression.
    pub topics: BTreeMap<String, BTreeSet<TopicId>>,
}

/// What the members of a classic group say of themselves, and what their leader has assigned to them. Read outside, as it is
/// between them and their leader.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReadMembers {
    /// In which generation.
    pub generation: Generation,
    /// Of each member; none if it is said in a form unknown there.
    pub members: BTreeMap<MemberId, Option<ReadMember>>,
}

/// What a member of a classic group says of itself, and what it has.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReadMember {
    /// The topics that it subscribes to.
    pub topics: BTreeSet<String>,
    /// What is assigned to it.
    pub assigned: Vec<NamedPartitions>,
    /// What it owned when it joined: it may not have given up yet what is not assigned to it any more.
    pub owned: Vec<NamedPartitions>,
}

/// A member of a classic group, of which something is to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadMember {
    /// The member.
    pub member: MemberId,
    /// What it says of itself.
    pub metadata: Bytes,
    /// What its leader has assigned to it.
    pub assignment: Bytes,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerTold {
    /// The epoch it is in from now on.
    Epoch {
        /// The epoch; negative if it has left.
        epoch: GroupEpoch,
        /// What is assigned to it, if that is news to it.
        assigned: Option<BTreeSet<PartitionId>>,
    },
    /// Nothing has been decided: ask again, with what these expressions match.
    Resolve {
        /// The version of the topics.
        version: u64,
        /// The expressions.
        patterns: BTreeSet<String>,
    },
    /// Nothing has been decided: ask again, with what these members of the classic group say of themselves.
    Read {
        /// The generation.
        generation: Generation,
        /// The members.
        members: Vec<UnreadMember>,
    },
}

/// A group of the consumer protocol, as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroupDescription {
    /// Where it stands.
    pub status: ConsumerGroupStatus,
    /// The group epoch.
    pub epoch: GroupEpoch,
    /// As of which epoch the target is.
    pub target_epoch: GroupEpoch,
    /// What made it.
    pub assignor: Assignor,
    /// The members.
    pub members: Vec<(MemberId, ConsumerRow)>,
    /// The topics that their regular expressions match.
    pub matched: BTreeSet<TopicId>,
}

/// Where a group of the consumer protocol stands (`spec/groups.md`, section 10), under the name it has in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerGroupStatus {
    /// It has no members.
    Empty,
    /// It waits for a new target.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// Every member is where the target has it.
    Stable,
}

impl ConsumerGroupStatus {
    /// The protocol's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConsumerGroupStatus::Empty => "Empty",
            ConsumerGroupStatus::Assigning => "Assigning",
            ConsumerGroupStatus::Reconciling => "Reconciling",
            ConsumerGroupStatus::Stable => "Stable",
        }
    }
}
