//! What identifies a producer's work (KIP-98, KIP-360, KIP-890): who, in which life, which record.

use std::fmt;

/// A producer's number, given out once and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// The protocol's "no producer id".
    pub const NONE: ProducerId = ProducerId(-1);
}

/// A producer's life under one [`ProducerId`]: a higher epoch fences a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

/// The last epoch that a client may be given. 32767 is kept for fencing the last holder when its id is rotated away.
pub const PRODUCER_EPOCH_LAST_USABLE: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

/// The epochs of a producer id are used up: its holder needs a new id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the epochs of this producer id are used up")]
pub struct EpochExhausted;

impl ProducerEpoch {
    /// The protocol's "no epoch".
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
    /// The first life of an id.
    pub const FIRST: ProducerEpoch = ProducerEpoch(0);
    /// The reserved epoch: fences every holder of an id, for good.
    pub const FENCED_FOR_GOOD: ProducerEpoch = ProducerEpoch(i16::MAX);

    /// The next epoch that a client may be given.
    pub fn bumped(self) -> Result<ProducerEpoch, EpochExhausted> {
        if self < PRODUCER_EPOCH_LAST_USABLE { Ok(ProducerEpoch(self.0 + 1)) } else { Err(EpochExhausted) }
    }
}

/// The number of a transactional id's transaction: grows by one with each, persisted, never reused (`spec/transactions.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TxnNumber(pub u64);

impl TxnNumber {
    /// The number of the transaction after this one.
    #[must_use]
    pub fn next(self) -> TxnNumber {
        TxnNumber(self.0.saturating_add(1))
    }
}

/// A record's number within (producer id, epoch, partition): 0, 1, … 2³¹−1, and then 0 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Sequence(i32);

/// Half of the sequence space: a distance below it is "ahead", one above it "behind".
const SEQUENCE_HALF: u32 = 1 << 30;
const SEQUENCE_SPACE: i64 = 1 << 31;

impl Sequence {
    /// The first record of an epoch.
    pub const FIRST: Sequence = Sequence(0);

    /// A sequence from the wire; none if it is negative ("no sequence").
    #[must_use]
    pub fn new(number: i32) -> Option<Sequence> {
        (number >= 0).then_some(Sequence(number))
    }

    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }

    /// The sequence `records` later, wrapping from 2³¹−1 to 0.
    #[must_use]
    pub fn plus(self, records: u32) -> Sequence {
        Sequence(((i64::from(self.0) + i64::from(records)) % SEQUENCE_SPACE) as i32)
    }

    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        self.plus(1)
    }

    /// How many records it is from here forward to `other`: 0..2³¹.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is in 0..2^31")]
    pub fn distance_to(self, other: Sequence) -> u32 {
        (i64::from(other.0) - i64::from(self.0)).rem_euclid(SEQUENCE_SPACE) as u32
    }

    /// Whether this lies behind `other`: the modular distance from here to there is in 1..2³⁰.
    #[must_use]
    pub fn is_behind(self, other: Sequence) -> bool {
        (1..SEQUENCE_HALF).contains(&self.distance_to(other))
    }
}

/// The sequences of one batch, both ends included. It may straddle the wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceRange {
    /// The first record's sequence.
    pub first: Sequence,
    /// The last record's sequence.
    pub last: Sequence,
}

impl SequenceRange {
    /// `records` sequences from `first` on; `records` is at least 1.
    #[must_use]
    pub fn starting_at(first: Sequence, records: u32) -> SequenceRange {
        SequenceRange { first, last: first.plus(records.saturating_sub(1)) }
    }

    /// How many records the range holds.
    #[must_use]
    pub fn records(self) -> u32 {
        self.first.distance_to(self.last) + 1
    }
}

impl fmt::Display for SequenceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(ProducerId, ProducerEpoch, TxnNumber, Sequence);

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: i32) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn sequences_wrap_from_the_largest_to_zero() {
        assert_eq!(seq(i32::MAX).next(), Sequence::FIRST);
        assert_eq!(seq(i32::MAX - 1).plus(4), seq(2));
        assert_eq!(Sequence::new(-1), None);
    }

    #[test]
    fn behind_is_a_modular_distance_below_half_the_space() {
        assert!(seq(3).is_behind(seq(4)));
        assert!(!seq(4).is_behind(seq(4)));
        assert!(!seq(5).is_behind(seq(4)));
        assert!(seq(i32::MAX).is_behind(seq(0)));
        assert!(!seq(0).is_behind(seq(i32::MAX)));
        assert!(seq(0).is_behind(seq((1 << 30) - 1)));
        assert!(!seq(0).is_behind(seq(1 << 30)));
    }

    #[test]
    fn the_last_epoch_is_kept_for_fencing() {
        assert_eq!(ProducerEpoch(32765).bumped(), Ok(ProducerEpoch(32766)));
        assert_eq!(ProducerEpoch(32766).bumped(), Err(EpochExhausted));
        assert_eq!(ProducerEpoch::FENCED_FOR_GOOD.bumped(), Err(EpochExhausted));
    }
}
