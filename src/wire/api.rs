//! The apis semel knows: their numbers, names and versions.

use std::fmt;

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl VersionRange {
    /// Whether a version is among them.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The versions in both ranges, which is what a client and a broker can use; none if they share none.
    #[must_use]
    pub fn intersection(self, other: VersionRange) -> Option<VersionRange> {
        let both = VersionRange { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    /// Every version, oldest first.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// semel's own apis have numbers in this range (`spec/protocol.md`). They are not listed in ApiVersions; a tagged field
/// of its answer announces them.
pub const PRIVATE_API_KEYS: VersionRange = VersionRange { min: 28_000, max: 28_099 };

/// An api number that semel does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("api key {0} is unknown")]
pub struct UnknownApiKey(pub i16);

/// Declares the apis: number, name, the versions this codec speaks, the first flexible version.
macro_rules! apis {
    ($($(#[$doc:meta])* $number:literal $name:ident $min:literal..=$max:literal $(flexible $flexible:literal)?;)*) => {
        /// An api: a kind of request and its response. Kafka's numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$doc])* $name = $number,)*
        }

        impl ApiKey {
            /// Every api, by number.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name),*];

            /// The name in the protocol.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ApiKey::$name => stringify!($name),)* }
            }

            /// The versions that can be read and written.
            #[must_use]
            pub const fn versions(self) -> VersionRange {
                match self { $(ApiKey::$name => VersionRange { min: $min, max: $max },)* }
            }

            /// The first flexible version (KIP-482), if there is one.
            #[must_use]
            pub const fn flexible_from(self) -> Option<i16> {
                match self { $(ApiKey::$name => optional!($($flexible)?),)* }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = UnknownApiKey;

            fn try_from(number: i16) -> Result<ApiKey, UnknownApiKey> {
                match number {
                    $($number => Ok(ApiKey::$name),)*
                    unknown => Err(UnknownApiKey(unknown)),
                }
            }
        }

        impl From<ApiKey> for i16 {
            fn from(api: ApiKey) -> i16 {
                match api { $(ApiKey::$name => $number,)* }
            }
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

apis! {
    /// Appends record batches.
    0 Produce 3..=13 flexible 9;
    /// Reads record batches.
    1 Fetch 4..=18 flexible 12;
    /// Finds offsets by time or at an end.
    2 ListOffsets 1..=11 flexible 6;
    /// Brokers, topics and partition leaders.
    3 Metadata 0..=13 flexible 9;
    /// Stores a group's offsets.
    8 OffsetCommit 2..=10 flexible 8;
    /// Reads a group's offsets.
    9 OffsetFetch 1..=10 flexible 6;
    /// Finds the coordinator of a group or of a transactional id.
    10 FindCoordinator 0..=6 flexible 3;
    /// Joins a classic group.
    11 JoinGroup 0..=9 flexible 6;
    /// Keeps a classic group's member alive.
    12 Heartbeat 0..=4 flexible 4;
    /// Leaves a classic group.
    13 LeaveGroup 0..=5 flexible 4;
    /// Hands out a classic group's assignment.
    14 SyncGroup 0..=5 flexible 4;
    /// Shows classic groups.
    15 DescribeGroups 0..=6 flexible 5;
    /// Lists groups.
    16 ListGroups 0..=5 flexible 3;
    /// Which apis and versions the broker serves.
    18 ApiVersions 0..=5 flexible 3;
    /// Creates topics.
    19 CreateTopics 2..=7 flexible 5;
    /// Deletes topics.
    20 DeleteTopics 1..=6 flexible 4;
    /// Moves the start of partitions.
    21 DeleteRecords 0..=2 flexible 2;
    /// Gives a producer its id and epoch. Version 6 (KIP-939) is not stable in Kafka.
    22 InitProducerId 0..=6 flexible 2;
    /// Where a leader epoch ends.
    23 OffsetForLeaderEpoch 2..=4 flexible 4;
    /// Enrols partitions in a transaction.
    24 AddPartitionsToTxn 0..=5 flexible 3;
    /// Enrols a group's offsets in a transaction.
    25 AddOffsetsToTxn 0..=4 flexible 3;
    /// Commits or aborts a transaction.
    26 EndTxn 0..=5 flexible 3;
    /// Writes transaction markers, from broker to broker.
    27 WriteTxnMarkers 1..=2 flexible 1;
    /// Stores a group's offsets within a transaction.
    28 TxnOffsetCommit 0..=6 flexible 3;
    /// Shows configurations.
    32 DescribeConfigs 1..=4 flexible 4;
    /// Replaces configurations.
    33 AlterConfigs 0..=2 flexible 2;
    /// Adds partitions to topics.
    37 CreatePartitions 0..=3 flexible 2;
    /// Deletes groups.
    42 DeleteGroups 0..=3 flexible 2;
    /// Changes configurations.
    44 IncrementalAlterConfigs 0..=1 flexible 1;
    /// Deletes a group's offsets.
    47 OffsetDelete 0..=0;
    /// Shows the cluster and its brokers.
    60 DescribeCluster 0..=2 flexible 0;
    /// Shows the producers of partitions.
    61 DescribeProducers 0..=0 flexible 0;
    /// Shows transactions.
    65 DescribeTransactions 0..=0 flexible 0;
    /// Lists transactions.
    66 ListTransactions 0..=2 flexible 0;
    /// Joins a group of the consumer protocol, goes on in it, or leaves it.
    68 ConsumerGroupHeartbeat 0..=1 flexible 0;
    /// Shows groups of the consumer protocol.
    69 ConsumerGroupDescribe 0..=1 flexible 0;
    /// Shows topics page by page.
    75 DescribeTopicPartitions 0..=0 flexible 0;
    /// semel's own: says how transactions ended.
    28000 DescribeOutcomes 0..=0 flexible 0;
    /// semel's own: prepares a transaction.
    28001 PrepareTxn 0..=0 flexible 0;
    /// semel's own: ends a transaction in an operator's name.
    28002 EndTxnByOperator 0..=0 flexible 0;
    /// semel's own: takes a backup.
    28010 TakeBackup 0..=0 flexible 0;
}

impl ApiKey {
    /// The versions that ApiVersions lists for this api; none for a private one.
    ///
    /// They are those that are served, with two exceptions. Produce is listed from version 0 although 0 to 2 are
    /// refused: librdkafka takes its absence for a broker without compression (KAFKA-18659). InitProducerId 6 is served
    /// but not listed: it is not stable in Kafka, and clients that ask for it know where they are.
    #[must_use]
    pub fn listed_versions(self) -> Option<VersionRange> {
        let served = self.versions();
        match self {
            ApiKey::Produce => Some(VersionRange { min: 0, ..served }),
            ApiKey::InitProducerId => Some(VersionRange { max: 5, ..served }),
            private if private.is_private() => None,
            _ => Some(served),
        }
    }

    /// Whether it is one of semel's own.
    #[must_use]
    pub fn is_private(self) -> bool {
        PRIVATE_API_KEYS.contains(self.into())
    }

    /// Whether a version has compact lengths and tagged fields.
    #[must_use]
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|first| version >= first)
    }

    /// The request header's version: 2 for flexible versions, else 1.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The response header's version: 1 for flexible versions, else 0. ApiVersions stays at 0, since a client reads its
    /// answer before it knows what the broker speaks (KIP-511).
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) && self != ApiKey::ApiVersions { 1 } else { 0 }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
