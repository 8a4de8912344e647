//! The rows of groups of the consumer protocol (`spec/groups.md`, section 10).

use super::MemberProtocol;
use super::groups::weight_of;
use crate::types::*;
use crate::{codec, codec_enum};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A group of the consumer protocol that has had members.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroupRow {
    /// Grows with whatever may change the target.
    pub epoch: GroupEpoch,
    /// As of which epoch the target is.
    pub target_epoch: GroupEpoch,
    /// What made the target.
    pub assignor: Assignor,
    /// How many members there are.
    pub members: u32,
    /// Since when in served time: members last came or went, or it was last assigned.
    pub since: ServedTime,
}
codec!(ConsumerGroupRow { epoch, target_epoch, assignor, members, since });

impl ConsumerGroupRow {
    /// A group that nobody has joined yet.
    #[must_use]
    pub fn fresh(since: ServedTime) -> ConsumerGroupRow {
        ConsumerGroupRow {
            epoch: GroupEpoch::default(),
            target_epoch: GroupEpoch::default(),
            assignor: Assignor::Uniform,
            members: 0,
            since,
        }
    }
}

/// Who distributes a group's partitions over its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// As evenly as can be, moving as little as can be.
    Uniform,
    /// Of each topic, consecutive partitions.
    Range,
}
codec_enum!(Assignor { 0 => Uniform, 1 => Range });

impl Assignor {
    /// All of them, the default first.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// The name that members know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }
}

/// Who the members of a group are. There is no such row when nobody is left, so a start finds the groups that live without
/// reading the others.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConsumersRow {
    /// All of them. At most [`GROUP_MEMBERS_MAX`](super::super::limits::GROUP_MEMBERS_MAX).
    pub members: BTreeSet<MemberId>,
    /// Who bears which instance id.
    pub instances: BTreeMap<InstanceId, MemberId>,
}
codec!(ConsumersRow { members, instances });

/// A member of a group of the consumer protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerRow {
    /// What it says of itself.
    pub said: Box<Subscription>,
    /// What it is to have.
    pub target: BTreeSet<PartitionId>,
    /// What it has.
    pub held: Holding,
}
codec!(ConsumerRow { said, target, held });

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// What its operator calls it, if it is a static one (KIP-345).
    pub instance: Option<InstanceId>,
    /// Where it stands, for people: no assignor looks at it.
    pub rack: Option<String>,
    /// Its client's name for itself, for people.
    pub client_id: String,
    /// Where it connects from, for people.
    pub client_host: String,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long it may take to revoke.
    pub rebalance_timeout: Duration,
    /// Names of topics that it subscribes to.
    pub topics: BTreeSet<String>,
    /// A regular expression of names that it subscribes to.
    pub pattern: Option<String>,
    /// The assignor that it asks for.
    pub assignor: Option<Assignor>,
    /// Which protocol it speaks.
    pub speaks: Speaks,
}
codec!(Subscription {
    instance,
    rack,
    client_id,
    client_host,
    session_timeout,
    rebalance_timeout,
    topics,
    pattern,
    assignor,
    speaks
});

impl Subscription {
    /// Bytes that it says of itself.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = [&self.rack, &self.pattern].into_iter().flatten().map(String::len);
        let topics = self.topics.iter().map(|name| name.len() + size_of::<u32>());
        let protocols = match &self.speaks {
            Speaks::Consumer => 0,
            Speaks::Classic { protocols } => weight_of(protocols),
        };
        let instance = self.instance.as_ref().map_or(0, |instance| instance.as_str().len());
        let clients = self.client_id.len() + self.client_host.len();
        texts.sum::<usize>() + topics.sum::<usize>() + protocols + instance + clients
    }

    /// Whether it is a member of the classic protocol that says so.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        matches!(self.speaks, Speaks::Classic { .. })
    }

    /// Bytes that a member of the classic protocol says of itself in that protocol; 0 for others.
    #[must_use]
    pub fn classic_weight(&self) -> usize {
        match &self.speaks {
            Speaks::Consumer => 0,
            Speaks::Classic { protocols } => {
                let instance = self.instance.as_ref().map_or(0, |instance| instance.as_str().len());
                weight_of(protocols) + instance + self.client_id.len() + self.client_host.len()
            }
        }
    }

    /// Whether both lead to the same target.
    #[must_use]
    pub fn subscribes_like(&self, other: &Subscription) -> bool {
        (&self.topics, &self.pattern, self.assignor) == (&other.topics, &other.pattern, other.assignor)
    }
}

/// The protocol that a member speaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Speaks {
    /// The consumer protocol.
    Consumer,
    /// The classic one, with the protocols that it could use in a classic group.
    Classic {
        /// The preferred one first.
        protocols: Vec<MemberProtocol>,
    },
}
codec_enum!(Speaks { 0 => Consumer, 1 => Classic { protocols } });

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Holding {
    /// The target's epoch that it has reached; [`GroupEpoch::AWAY`] while it is away.
    pub epoch: GroupEpoch,
    /// The one before: it may not have heard of the newest yet. 0: it has just joined.
    pub previous: GroupEpoch,
    /// What is assigned to it.
    pub assigned: BTreeSet<PartitionId>,
    /// What it has been told to revoke, and has not yet.
    pub revoking: BTreeSet<PartitionId>,
}
codec!(Holding { epoch, previous, assigned, revoking });

impl Holding {
    /// Whether nobody else may have this partition.
    #[must_use]
    pub fn holds(&self, partition: &PartitionId) -> bool {
        self.assigned.contains(partition) || self.revoking.contains(partition)
    }
}

/// The regular expressions that a group's members subscribe with, and the topics that each was last found to match.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PatternsRow {
    /// By expression.
    pub topics: BTreeMap<String, BTreeSet<TopicId>>,
}
codec!(PatternsRow { topics });

/// Volatile: how often topics have come, grown or gone since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TopicsVersionRow {
    /// How often.
    pub version: u64,
}
codec!(TopicsVersionRow { version });

/// Volatile: as of which version of the topics a group's target was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicsSeenRow {
    /// The version.
    pub version: u64,
}
codec!(TopicsSeenRow { version });
