//! The promises by their names, as in `tla/Properties.tla` and `spec/guarantees.md`.

use serde::Serialize;

/// A property of exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Property {
    /// An acknowledged record outside an aborted transaction is read by every reader that reads its offset.
    NoLostWrite,
    /// A record is in a partition at most once.
    NoDuplicate,
    /// A producer's records lie in a partition in the order in which they were sent.
    SeqContiguous,
    /// `read_committed` never returns a record of an aborted transaction,
    NoAbortedRead,
    /// nor of an open one, nor what nobody wrote.
    NoUncommittedRead,
    /// Readers see all of a transaction or nothing.
    NoTornTxn,
    /// There are no more markers than transactions.
    MarkerExactlyOnce,
    /// Offsets sent in a transaction take effect if and only if it commits.
    OffsetsAtomicWithTxn,
    /// Of the records that are committed, no two have one idempotency key within its window.
    KeyOnce,
    /// After a fence, nothing of the old holder takes effect.
    FenceZombie,
    /// The identity of a transactional id never goes back.
    EpochMonotone,
    /// What was read at an offset never changes; high watermark and last stable offset never go back.
    CommittedPrefixStable,
    /// What was answered or read before a crash is there after it.
    DurableBeforeVisible,
    /// No partition is held by two members of a group.
    OneOwner,
    /// The epochs of a group and of its members never go back.
    GroupEpochMonotone,
    /// Of a member that is gone or replaced, or in another epoch than its own, nothing takes effect.
    FenceMember,
    /// When all has settled, nothing holds readers back.
    LsoAdvances,
    /// Every call is answered, or its process is gone.
    NoHang,
}

impl Property {
    /// All of them, in the order of the specification.
    pub const ALL: [Property; 18] = [
        Property::NoLostWrite,
        Property::NoDuplicate,
        Property::SeqContiguous,
        Property::NoAbortedRead,
        Property::NoUncommittedRead,
        Property::NoTornTxn,
        Property::MarkerExactlyOnce,
        Property::OffsetsAtomicWithTxn,
        Property::KeyOnce,
        Property::FenceZombie,
        Property::EpochMonotone,
        Property::CommittedPrefixStable,
        Property::DurableBeforeVisible,
        Property::OneOwner,
        Property::GroupEpochMonotone,
        Property::FenceMember,
        Property::LsoAdvances,
        Property::NoHang,
    ];

    /// Those of groups of the consumer protocol (`spec/groups.md`, 17).
    pub const GROUPS: [Property; 3] =
        [Property::OneOwner, Property::GroupEpochMonotone, Property::FenceMember];

    /// Whether every history of clients speaks of it: no topic need ask for keys, and nobody need be a member of a group.
    #[must_use]
    pub fn is_of_all(self) -> bool {
        self != Property::KeyOnce && !Property::GROUPS.contains(&self)
    }

    /// Its name in the specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Property::NoLostWrite => "NoLostWrite",
            Property::NoDuplicate => "NoDuplicate",
            Property::SeqContiguous => "SeqContiguous",
            Property::NoAbortedRead => "NoAbortedRead",
            Property::NoUncommittedRead => "NoUncommittedRead",
            Property::NoTornTxn => "NoTornTxn",
            Property::MarkerExactlyOnce => "MarkerExactlyOnce",
            Property::OffsetsAtomicWithTxn => "OffsetsAtomicWithTxn",
            Property::KeyOnce => "KeyOnce",
            Property::FenceZombie => "FenceZombie",
            Property::EpochMonotone => "EpochMonotone",
            Property::CommittedPrefixStable => "CommittedPrefixStable",
            Property::DurableBeforeVisible => "DurableBeforeVisible",
            Property::OneOwner => "OneOwner",
            Property::GroupEpochMonotone => "GroupEpochMonotone",
            Property::FenceMember => "FenceMember",
            Property::LsoAdvances => "LsoAdvances",
            Property::NoHang => "NoHang",
        }
    }
}
