//! What consumers tell one another through their coordinator, which passes it on unread (KIP-62): Kafka's
//! `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`. Only the fields that all versions have in common are
//! read: a version, then the topics. Written is version 0, which has these and a member's own data.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The protocol type of consumers.
pub const CONSUMER: &str = "consumer";

/// The topics that a member subscribes to; none if it says so in a form unknown here.
#[must_use]
pub fn subscribed_topics(subscription: Bytes) -> Option<Vec<String>> {
    Some(read_subscription(subscription, false)?.topics)
}

/// What a member tells its leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics that it subscribes to.
    pub topics: Vec<String>,
    /// The partitions that it owns when it joins, by topic. A member that gives up everything before it joins says none; so
    /// do those of version 0, all of which do.
    pub owned: Vec<(String, Vec<i32>)>,
}

impl Subscription {
    /// None if it is said in a form unknown here.
    #[must_use]
    pub fn read(subscription: Bytes) -> Option<Subscription> {
        read_subscription(subscription, true)
    }
}

/// The first version that names what a member owns.
const NAMES_OWNED: i16 = 1;

fn read_subscription(mut bytes: Bytes, with_owned: bool) -> Option<Subscription> {
    let version = bytes.try_get_i16().ok()?;
    let topics = list(&mut bytes, text)?;
    let owned = match with_owned && version >= NAMES_OWNED {
        true => {
            let own_data = usize::try_from(bytes.try_get_i32().ok()?).unwrap_or(0);
            if own_data > bytes.len() {
                return None;
            }
            bytes.advance(own_data);
            partitions(&mut bytes)?
        }
        false => Vec::new(),
    };
    Some(Subscription { topics, owned })
}

fn partitions(bytes: &mut Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    let index = |bytes: &mut Bytes| bytes.try_get_i32().ok();
    list(bytes, |bytes| Some((text(bytes)?, list(bytes, index)?)))
}

/// The partitions that a member is assigned, by topic; none if that is said in a form unknown here. A member that is
/// assigned nothing may have an empty assignment.
#[must_use]
pub fn assigned_partitions(mut assignment: Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let _version = assignment.try_get_i16().ok()?;
    partitions(&mut assignment)
}

/// A subscription to these topics.
#[must_use]
pub fn subscription(topics: &[String]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    put_count(&mut bytes, topics.len());
    topics.iter().for_each(|topic| put_text(&mut bytes, topic));
    bytes.put_i32(NO_USER_DATA);
    bytes.freeze()
}

/// An assignment of these partitions, by topic.
#[must_use]
pub fn assignment(topics: &[(String, Vec<i32>)]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    put_count(&mut bytes, topics.len());
    for (topic, partitions) in topics {
        put_text(&mut bytes, topic);
        put_count(&mut bytes, partitions.len());
        partitions.iter().for_each(|index| bytes.put_i32(*index));
    }
    bytes.put_i32(NO_USER_DATA);
    bytes.freeze()
}

/// The length of data that is not there.
const NO_USER_DATA: i32 = -1;

fn put_count(bytes: &mut BytesMut, count: usize) {
    // Nothing that fits into a frame counts further.
    bytes.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    // Names of topics have at most 249 bytes.
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.put_slice(text.as_bytes());
}

fn list<T>(bytes: &mut Bytes, item: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
    // Grown as they come: a forged count allocates nothing.
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(bytes)?);
    }
    Some(items)
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let text = (length <= bytes.len()).then(|| bytes.split_to(length))?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_topics_of_a_subscription_are_read_and_nothing_else_is_believed() {
        let bytes = |bytes: &'static [u8]| subscribed_topics(Bytes::from_static(bytes));
        let two = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(bytes(two), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(bytes(b"\0\x01\0\0\0\0"), Some(vec![]));
        assert_eq!(bytes(b"\0\x01\x7f\xff\xff\xff"), None, "more than there is");
        assert_eq!(bytes(b"\0\x01\0\0\0\x01\0\x09a"), None);
        assert_eq!(bytes(b""), None);
    }

    #[test]
    fn what_a_member_owns_is_read_behind_its_own_data() {
        let read = |bytes: &'static [u8]| Subscription::read(Bytes::from_static(bytes));
        let owns =
            |owned: Vec<(String, Vec<i32>)>| Some(Subscription { topics: vec!["a".to_owned()], owned });
        let one = vec![("a".to_owned(), vec![7])];
        let owned = b"\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\x07";
        let of = |version: u8, own_data: &[u8]| {
            let head = [b"\0".as_slice(), &[version], b"\0\0\0\x01\0\x01a", own_data, owned].concat();
            Subscription::read(head.into())
        };
        assert_eq!(of(1, b"\xff\xff\xff\xff"), owns(one.clone()));
        assert_eq!(of(3, b"\0\0\0\x02xy"), owns(one), "what newer versions add is not read");
        assert_eq!(of(0, b"\xff\xff\xff\xff"), owns(Vec::new()));
        assert_eq!(of(1, b"\x7f\xff\xff\xff"), None, "more than there is");
        assert_eq!(read(b"\0\x01\0\0\0\x01\0\x01a"), None, "cut off");
    }

    #[test]
    fn the_partitions_of_an_assignment_are_read_and_nothing_else_is_believed() {
        let bytes = |bytes: &'static [u8]| assigned_partitions(Bytes::from_static(bytes));
        let two = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x01b\0\0\0\0\xff\xff\xff\xff";
        assert_eq!(bytes(two), Some(vec![("a".to_owned(), vec![0, 7]), ("b".to_owned(), vec![])]));
        assert_eq!(bytes(b""), Some(vec![]));
        assert_eq!(bytes(b"\0"), None);
        assert_eq!(bytes(b"\0\x01\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0"), None, "cut off");
        assert_eq!(bytes(b"\0\x01\xff\xff\xff\xff"), None, "fewer than nothing");
    }

    proptest! {
        #[test]
        fn an_assignment_comes_back(topics in proptest::collection::vec(("[a-z]{1,9}", proptest::collection::vec(0..99, 0..9)), 0..5)) {
            let bytes = assignment(&topics);
            // All but the length of the member's own data, which is not read.
            for end in 1..bytes.len() - 4 {
                prop_assert_eq!(assigned_partitions(bytes.slice(..end)), None);
            }
            prop_assert_eq!(assigned_partitions(bytes), Some(topics));
        }

        #[test]
        fn a_subscription_comes_back(topics in proptest::collection::vec("[a-z]{1,9}", 0..5)) {
            prop_assert_eq!(subscribed_topics(subscription(&topics)), Some(topics));
        }
    }
}
