//! What consumers tell their leader of their subscription: the one thing of a group's own protocol that the broker reads
//! (Kafka's `ConsumerProtocolSubscription`, all versions: a version, then the topics).

use crate::core::GroupDescription;
use bytes::{Buf, Bytes};
use std::collections::BTreeSet;

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

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
        topics.extend(topics_of(metadata?)?);
    }
    Some(topics)
}

fn topics_of(mut metadata: Bytes) -> Option<Vec<String>> {
    let _version = metadata.try_get_i16().ok()?;
    let count = usize::try_from(metadata.try_get_i32().ok()?).ok()?;
    // Grown as they come: a forged count allocates nothing.
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        let name = (length <= metadata.len()).then(|| metadata.split_to(length))?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_subscription_are_read_and_nothing_else_is_believed() {
        let bytes = |bytes: &'static [u8]| topics_of(Bytes::from_static(bytes));
        let two = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(bytes(two), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(bytes(b"\0\x01\0\0\0\0"), Some(vec![]));
        assert_eq!(bytes(b"\0\x01\x7f\xff\xff\xff"), None, "more than there is");
        assert_eq!(bytes(b"\0\x01\0\0\0\x01\0\x09a"), None);
        assert_eq!(bytes(b""), None);
    }
}
