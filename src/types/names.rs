//! Names that people choose. Cheap to clone: the text is shared.

use bytes::Bytes;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A topic's name: 1 to 249 characters of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
    TopicName
);
name_type!(
    /// A consumer group's name.
    GroupId
);
name_type!(
    /// A member of a group, as its coordinator calls it. Empty: one that has no id yet.
    MemberId
);
name_type!(
    /// A static member, as its operator calls it (KIP-345): it outlives the processes that bear it.
    InstanceId
);
name_type!(
    /// A transactional producer's name (KIP-98).
    TransactionalId
);

/// The longest topic name, in characters. Kafka's own limit: a name and a partition had to fit a file name.
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;

/// What a record is called by those who want it stored once: a topic accepts each once within a window
/// (`spec/transactions.md`, "Idempotency keys").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(pub(super) Bytes);

impl IdempotencyKey {
    /// The longest, in bytes: it is part of a row's key, and kept for days. A UUID as text has 36.
    pub const BYTES_MAX: usize = 256;

    /// Any bytes are a key, but not none, and not more than [`IdempotencyKey::BYTES_MAX`].
    #[must_use]
    pub fn new(bytes: Bytes) -> Option<IdempotencyKey> {
        (1..=IdempotencyKey::BYTES_MAX).contains(&bytes.len()).then_some(IdempotencyKey(bytes))
    }

    /// The key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a text is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    /// There is no text.
    #[error("a topic name must not be empty")]
    Empty,
    /// The two names that a file system keeps for itself.
    #[error("a topic cannot be named \".\" or \"..\"")]
    Dots,
    /// More than [`TOPIC_NAME_LENGTH_MAX`] characters.
    #[error("a topic name has at most {TOPIC_NAME_LENGTH_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside the allowed set.
    #[error("a topic name is made of letters, digits, '.', '_' and '-'; {0:?} is none of them")]
    Character(char),
}

impl TopicName {
    /// Checks a text by Kafka's rules for topic names.
    pub fn new(text: &str) -> Result<TopicName, InvalidTopicName> {
        if text.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if text == "." || text == ".." {
            return Err(InvalidTopicName::Dots);
        }
        if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
        {
            return Err(InvalidTopicName::Character(bad));
        }
        if text.len() > TOPIC_NAME_LENGTH_MAX {
            return Err(InvalidTopicName::TooLong(text.len()));
        }
        Ok(TopicName(text.into()))
    }
}

impl GroupId {
    /// Any text is a group id; the empty one too (clients without a group use it).
    #[must_use]
    pub fn new(text: &str) -> GroupId {
        GroupId(text.into())
    }
}

impl MemberId {
    /// Any text is a member id.
    #[must_use]
    pub fn new(text: &str) -> MemberId {
        MemberId(text.into())
    }

    /// Whether it stands for a member without an id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl InstanceId {
    /// Any text is an instance id.
    #[must_use]
    pub fn new(text: &str) -> InstanceId {
        InstanceId(text.into())
    }
}

impl TransactionalId {
    /// The longest, in bytes: Kafka's wire format allows 32,767; a row's key, and what is in memory of one that is only asked
    /// for, need not.
    pub const BYTES_MAX: usize = 1_024;

    /// Any text is a transactional id, but not none, and not more than [`TransactionalId::BYTES_MAX`].
    #[must_use]
    pub fn new(text: &str) -> Option<TransactionalId> {
        (1..=TransactionalId::BYTES_MAX).contains(&text.len()).then(|| TransactionalId(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        assert!(TopicName::new("payments.EU_1-a").is_ok());
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert_eq!(TopicName::new(""), Err(InvalidTopicName::Empty));
        assert_eq!(TopicName::new(".."), Err(InvalidTopicName::Dots));
        assert_eq!(TopicName::new("a/b"), Err(InvalidTopicName::Character('/')));
        assert_eq!(TopicName::new(&"a".repeat(250)), Err(InvalidTopicName::TooLong(250)));
    }
}
