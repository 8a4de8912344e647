//! What members and operators of groups ask, and what they are told (`spec/groups.md`).

use super::super::limits;
use super::super::rows::{GroupState, Member, MemberProtocol};
use super::ConsumerGroupDescription;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// A request to join a group. What is configured travels with it: the state machine has no settings.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroup {
    /// The request, which waits until the generation is formed.
    pub request: RequestId,
    /// The group.
    pub group: GroupId,
    /// The member id, empty for one that has none yet.
    pub member: MemberId,
    /// The id that it gets then. Drawn outside: the state machine draws nothing.
    pub fresh: MemberId,
    /// What the group holds of it.
    pub joiner: Member,
    /// What the members are to one another.
    pub protocol_type: String,
    /// Whether a new dynamic member is sent back to join with its id (KIP-394).
    pub requires_known_member: bool,
    /// Whether a static leader that returns can be told that nothing is to be assigned (KIP-814).
    pub can_skip_assignment: bool,
    /// How long the first generation of an empty group waits for more members.
    pub initial_delay: Duration,
    /// What a decision may take of the log, in bytes.
    pub decision_bytes_max: usize,
    /// What it says of itself, if its protocol type is that of consumers and it says so in a known form. Read outside: it is
    /// between the members and their leader what they say.
    pub consumes: Option<ConsumerMetadata>,
}

/// What a consumer of the classic protocol says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerMetadata {
    /// Names of topics that it subscribes to.
    pub topics: BTreeSet<String>,
    /// What it owns when it joins, by name of topic.
    pub owned: Vec<NamedPartitions>,
}

/// Partitions of a topic.
pub type NamedPartitions = (String, Vec<PartitionIndex>);

/// Who speaks as a member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The group.
    pub group: GroupId,
    /// The generation it believes to be in; negative if none.
    pub generation: Generation,
    /// Its id; empty if none.
    pub member: MemberId,
    /// Its instance id, if it is a static one.
    pub instance: Option<InstanceId>,
}

impl GroupMember {
    /// Somebody who is no member and wants nothing but the group's offsets.
    #[must_use]
    pub fn nobody(group: GroupId) -> GroupMember {
        GroupMember { group, generation: Generation(-1), member: MemberId::new(""), instance: None }
    }
}

/// A request for the member's assignment; the leader's brings everybody's.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncGroup {
    /// The request, which waits for the leader's.
    pub request: RequestId,
    /// Who asks.
    pub member: GroupMember,
    /// The protocol type it believes in, if it says so (KIP-559).
    pub protocol_type: Option<String>,
    /// The protocol it believes in, if it says so.
    pub protocol: Option<String>,
    /// The assignments, from the leader.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// A member that leaves, or that an operator removes by its instance id alone.
#[derive(Clone, Debug, PartialEq)]
pub struct LeavingMember {
    /// Its id; empty to go by the instance id.
    pub member: MemberId,
    /// Its instance id, if it is a static one.
    pub instance: Option<InstanceId>,
}

/// What a member learns when its generation has been formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The generation.
    pub generation: Generation,
    /// What the members are to one another.
    pub protocol_type: String,
    /// The assignment protocol.
    pub protocol: String,
    /// Who assigns.
    pub leader: MemberId,
    /// Who is told this.
    pub member: MemberId,
    /// Whether the leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// The members, for the leader.
    pub members: Vec<JoinedMember>,
}

/// A member, as its leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member: MemberId,
    /// Its instance id.
    pub instance: Option<InstanceId>,
    /// What it says of itself.
    pub metadata: Bytes,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    /// What the members are to one another.
    pub protocol_type: String,
    /// The assignment protocol.
    pub protocol: String,
    /// The assignment.
    pub assignment: Assignment,
}

/// What a member of the classic protocol is assigned.
#[derive(Clone, Debug, PartialEq)]
pub enum Assignment {
    /// Between the members and their leader.
    ByLeader(Bytes),
    /// By the broker: in the form that consumers know.
    ByBroker(Vec<NamedPartitions>),
}

/// Why the members of a group have to come to something new: another generation of a classic group, another epoch of one of
/// the consumer protocol that still has members (`spec/groups.md`, section 20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceCause {
    /// Somebody came who was no member, or gave up everything and joined again.
    MemberJoined,
    /// Members left, or an operator removed them.
    MemberLeft,
    /// A member was silent for its session's length.
    SessionExpired,
    /// Members did not join, ask for their assignment or revoke within their rebalance timeout.
    RebalanceExpired,
    /// A member subscribes to something else, or says something else of itself to its leader.
    SubscriptionChanged,
    /// The leader of a classic group joined again: it wants to assign anew.
    LeaderRejoined,
    /// A static member came back as another one than it was, or while the group was not stable.
    StaticReplaced,
    /// A member says that it has what it does not: it has missed that this was taken from it.
    MemberFenced,
    /// Topics that the group subscribes to came, grew or went.
    TopicsChanged,
    /// The last member of the consumer protocol is gone: the others are a classic group.
    ProtocolChanged,
    /// The broker was restarted while the group was to rebalance.
    BrokerRestarted,
}

impl RebalanceCause {
    /// All of them.
    pub const ALL: [RebalanceCause; 11] = [
        RebalanceCause::MemberJoined,
        RebalanceCause::MemberLeft,
        RebalanceCause::SessionExpired,
        RebalanceCause::RebalanceExpired,
        RebalanceCause::SubscriptionChanged,
        RebalanceCause::LeaderRejoined,
        RebalanceCause::StaticReplaced,
        RebalanceCause::MemberFenced,
        RebalanceCause::TopicsChanged,
        RebalanceCause::ProtocolChanged,
        RebalanceCause::BrokerRestarted,
    ];

    /// What metrics call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RebalanceCause::MemberJoined => "member_joined",
            RebalanceCause::MemberLeft => "member_left",
            RebalanceCause::SessionExpired => "session_expired",
            RebalanceCause::RebalanceExpired => "rebalance_expired",
            RebalanceCause::SubscriptionChanged => "subscription_changed",
            RebalanceCause::LeaderRejoined => "leader_rejoined",
            RebalanceCause::StaticReplaced => "static_replaced",
            RebalanceCause::MemberFenced => "member_fenced",
            RebalanceCause::TopicsChanged => "topics_changed",
            RebalanceCause::ProtocolChanged => "protocol_changed",
            RebalanceCause::BrokerRestarted => "broker_restarted",
        }
    }
}

/// A group's state (`spec/groups.md`, "States"), under the name it has in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupStatus {
    /// There is no such group.
    Dead,
    /// It has no members.
    Empty,
    /// A generation is being formed.
    PreparingRebalance,
    /// A generation waits for its assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
}

impl From<GroupState> for GroupStatus {
    fn from(state: GroupState) -> GroupStatus {
        match state {
            GroupState::Empty => GroupStatus::Empty,
            GroupState::PreparingRebalance => GroupStatus::PreparingRebalance,
            GroupState::CompletingRebalance => GroupStatus::CompletingRebalance,
            GroupState::Stable => GroupStatus::Stable,
        }
    }
}

impl GroupStatus {
    /// The protocol's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupStatus::Dead => "Dead",
            GroupStatus::Empty => "Empty",
            GroupStatus::PreparingRebalance => "PreparingRebalance",
            GroupStatus::CompletingRebalance => "CompletingRebalance",
            GroupStatus::Stable => "Stable",
        }
    }
}

/// A group of either protocol, as operators see it. One that is not there is a dead classic one.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyGroup {
    /// Of the classic protocol.
    Classic(GroupDescription),
    /// Of the consumer protocol.
    Consumer(ConsumerGroupDescription),
}

impl AnyGroup {
    /// Bytes of what its members have sent and are assigned.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            AnyGroup::Classic(group) => {
                let members = group.members.iter();
                members.map(|(id, row)| id.as_str().len() + row.weight() + row.assignment.len()).sum()
            }
            AnyGroup::Consumer(group) => {
                group.members.iter().map(|(id, row)| id.as_str().len() + row.weight()).sum()
            }
        }
    }
}

/// A group of the classic protocol, as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupDescription {
    /// Where it stands.
    pub status: GroupStatus,
    /// What its members are to one another; empty if it never had any.
    pub protocol_type: String,
    /// The assignment protocol; empty unless it is stable.
    pub protocol: String,
    /// Its members.
    pub members: Vec<(MemberId, Member)>,
}

impl JoinGroup {
    /// The protocols that the joiner can use.
    #[must_use]
    pub fn protocols(&self) -> &[MemberProtocol] {
        &self.joiner.protocols
    }
}

/// Which limit of a group, or of all groups together, somebody has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupLimit {
    /// [`GROUP_MEMBERS_MAX`](limits::GROUP_MEMBERS_MAX).
    #[error(
        "the group has {} members, which is the most: use another group, or fewer members",
        limits::GROUP_MEMBERS_MAX
    )]
    Members,
    /// [`GROUP_PROTOCOLS_MAX`](limits::GROUP_PROTOCOLS_MAX).
    #[error("a member names at most {} assignment protocols: configure fewer", limits::GROUP_PROTOCOLS_MAX)]
    Protocols,
    /// [`GROUP_METADATA_BYTES_MAX`](limits::GROUP_METADATA_BYTES_MAX).
    #[error(
        "members of a group of the classic protocol say at most {} bytes of themselves, all together: subscribe to fewer \
         topics, or configure fewer assignors",
        limits::GROUP_METADATA_BYTES_MAX
    )]
    Metadata,
    /// [`GROUP_ASSIGNMENT_BYTES_MAX`](limits::GROUP_ASSIGNMENT_BYTES_MAX).
    #[error(
        "a leader assigns at most {} bytes: subscribe to fewer topics",
        limits::GROUP_ASSIGNMENT_BYTES_MAX
    )]
    Assignment,
    /// [`SUBSCRIPTION_BYTES_MAX`](limits::SUBSCRIPTION_BYTES_MAX).
    #[error(
        "a member says at most {} bytes of itself, names of topics included: subscribe to fewer topics, or with a regular \
         expression",
        limits::SUBSCRIPTION_BYTES_MAX
    )]
    Subscription,
    /// [`SUBSCRIPTIONS_BYTES_MAX`](limits::SUBSCRIPTIONS_BYTES_MAX).
    #[error(
        "the members of a group say at most {} bytes of themselves, all together: subscribe to fewer topics, or with a \
         regular expression",
        limits::SUBSCRIPTIONS_BYTES_MAX
    )]
    Subscriptions,
    /// [`GROUP_PATTERNS_MAX`](limits::GROUP_PATTERNS_MAX), [`GROUP_PATTERNS_BYTES_MAX`](limits::GROUP_PATTERNS_BYTES_MAX).
    #[error(
        "the members of a group subscribe with at most {} different regular expressions of {} bytes together: use the same \
         one in all members",
        limits::GROUP_PATTERNS_MAX,
        limits::GROUP_PATTERNS_BYTES_MAX
    )]
    Patterns,
    /// [`group_partitions_max`](limits::group_partitions_max).
    #[error(
        "the topics subscribed to have more partitions than a group may be assigned: subscribe to fewer topics"
    )]
    Partitions,
    /// What is decided fits into no block.
    #[error(
        "what the group's members say and are assigned fits into no block of the log: subscribe to fewer topics"
    )]
    Decision,
    /// [`SESSIONS_MAX`](limits::SESSIONS_MAX), [`SESSIONS_BYTES_MAX`](limits::SESSIONS_BYTES_MAX).
    #[error(
        "all groups together have at most {} members, with {} bytes of ids: let members leave, or choose shorter ids",
        limits::SESSIONS_MAX,
        limits::SESSIONS_BYTES_MAX
    )]
    Sessions,
    /// [`REBALANCES_BYTES_MAX`](limits::REBALANCES_BYTES_MAX).
    #[error(
        "members of all groups that wait for a rebalance say at most {} bytes of themselves: try again later",
        limits::REBALANCES_BYTES_MAX
    )]
    Rebalances,
}
