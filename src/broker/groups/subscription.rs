//! What consumers tell their leader of their subscription: the one thing of a group's own protocol that the broker reads.

use crate::core::GroupDescription;
use crate::wire::consumer_protocol::{self, CONSUMER};
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
