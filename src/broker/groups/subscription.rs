//! What consumers tell one another of their subscriptions and assignments: all of a group's own protocol that the broker
//! reads.

use crate::core::{GroupDescription, NamedPartitions, ReadMember, UnreadMember};
use crate::types::PartitionIndex;
use crate::wire::consumer_protocol::{self, CONSUMER, Subscription};
use std::collections::BTreeSet;

/// The topics that a group's consumers subscribe to; none if they are no consumers, or say it in a form unknown here.
pub(super) fn subscribed_topics(group: &GroupDescription) -> Option<BTreeSet<String>> {
    if group.protocol_type != CONSUMER {
        return None;
    }
    let mut topics = BTreeSet::new();
    for (_, member) in &group.members {
        // Outside of `Stable` no protocol is selected: each says the same in all of its own.
        let metadata = match group.protocol.is_empty() {
            true => member.protocols.first().map(|protocol| protocol.metadata.clone()),
            false => Some(member.metadata(&group.protocol)),
        };
        topics.extend(consumer_protocol::subscribed_topics(metadata?)?);
    }
    Some(topics)
}

/// What a member of a classic group says and has; none if that is said in a form unknown here.
pub(super) fn read(member: UnreadMember) -> Option<ReadMember> {
    let Subscription { topics, owned } = Subscription::read(member.metadata)?;
    let assigned = consumer_protocol::assigned_partitions(member.assignment)?;
    Some(ReadMember { topics: topics.into_iter().collect(), assigned: named(assigned), owned: named(owned) })
}

/// Partitions as the state machine has them,
pub(super) fn named(topics: Vec<(String, Vec<i32>)>) -> Vec<NamedPartitions> {
    let topics = topics.into_iter();
    topics.map(|(name, indexes)| (name, indexes.into_iter().map(PartitionIndex).collect())).collect()
}

/// and as members know them.
pub(super) fn by_index(topics: Vec<NamedPartitions>) -> Vec<(String, Vec<i32>)> {
    let topics = topics.into_iter();
    topics.map(|(name, indexes)| (name, indexes.into_iter().map(|index| index.0).collect())).collect()
}
