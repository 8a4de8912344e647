//! The byte form of rows and events: fixed-width little-endian numbers, length-prefixed text and lists, no padding.
//! (Not the Kafka protocol's form: that is `wire`.) A type lists its fields once, with [`codec!`] or [`codec_enum!`].
//!
//! Decoding trusts nothing: every length is checked against the bytes that remain.

use super::*;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Why bytes are not the value they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end in the middle of a value.
    #[error("the bytes end in the middle of a value")]
    Short,
    /// A tag, a flag or a text that no value has.
    #[error("{0}")]
    Invalid(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
}

/// A value with a byte form.
pub trait Codec: Sized {
    /// Appends the byte form.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads one value from the front of `input` and moves `input` past it.
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError>;

    /// The byte form alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads a value that is all of `input`.
    fn from_bytes(mut input: &[u8]) -> Result<Self, CodecError> {
        let value = Self::decode(&mut input)?;
        if input.is_empty() { Ok(value) } else { Err(CodecError::Trailing(input.len())) }
    }
}

/// Takes `length` bytes off the front.
pub fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], CodecError> {
    let (head, tail) = input.split_at_checked(length).ok_or(CodecError::Short)?;
    *input = tail;
    Ok(head)
}

/// Appends a zigzag integer of 64 bits, as the protocol's batches have them too: in as many bytes as it needs, seven bits in each, so
/// that one near 0 takes one byte, on whichever side.
#[expect(clippy::cast_possible_truncation, reason = "the low seven bits are taken")]
pub fn put_varlong(out: &mut Vec<u8>, number: i64) {
    let mut raw = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Takes such a number off the front.
pub fn take_varlong(input: &mut &[u8]) -> Result<i64, CodecError> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = u8::decode(input)?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err(CodecError::Invalid("a number of more than 64 bits"))
}

macro_rules! codec_numbers {
    ($($number:ty),*) => {$(
        impl Codec for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
                let bytes = take(input, size_of::<$number>())?;
                Ok(<$number>::from_le_bytes(bytes.try_into().map_err(|_| CodecError::Short)?))
            }
        }
    )*};
}
codec_numbers!(u8, u16, u32, u64, u128, i16, i32, i64);

impl<T: Codec> Codec for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        T::decode(input).map(Box::new)
    }
}

/// Implements [`Codec`] for a struct (or a one-field newtype) by listing its fields, in byte order.
#[macro_export]
macro_rules! codec {
    ($($name:ident ( $inner:ty )),* $(,)?) => {$(
        impl $crate::types::codec::Codec for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::types::codec::CodecError> {
                Ok($name(<$inner as $crate::types::codec::Codec>::decode(input)?))
            }
        }
    )*};
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::types::codec::Codec for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                let $name { $($field),* } = self;
                $($crate::types::codec::Codec::encode($field, out);)*
                let _ = out;
            }
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::types::codec::CodecError> {
                $(let $field = $crate::types::codec::Codec::decode(input)?;)*
                let _ = input;
                Ok($name { $($field),* })
            }
        }
    };
}

/// Implements [`Codec`] for an enum by listing a tag byte and the fields of each variant. Tags are never reused.
#[macro_export]
macro_rules! codec_enum {
    ($name:ident { $($tag:literal => $variant:ident $({ $($field:ident),* $(,)? })? $(( $inner:ident ))?),* $(,)? }) => {
        impl $crate::types::codec::Codec for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant $({ $($field),* })? $(( $inner ))? => {
                        out.push($tag);
                        $($($crate::types::codec::Codec::encode($field, out);)*)?
                        $($crate::types::codec::Codec::encode($inner, out);)?
                    })*
                }
            }
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::types::codec::CodecError> {
                match <u8 as $crate::types::codec::Codec>::decode(input)? {
                    $($tag => {
                        $($(let $field = $crate::types::codec::Codec::decode(input)?;)*)?
                        $(let $inner = $crate::types::codec::Codec::decode(input)?;)?
                        Ok($name::$variant $({ $($field),* })? $(( $inner ))?)
                    })*
                    _ => Err($crate::types::codec::CodecError::Invalid(concat!("unknown tag of ", stringify!($name)))),
                }
            }
        }
    };
}

codec!(
    Timestamp(i64),
    ServedTime(u64),
    Offset(i64),
    LeaderEpoch(i32),
    BlockNumber(u64),
    TopicId(Uuid),
    PartitionIndex(i32),
    ProducerId(i64),
    ProducerEpoch(i16),
    TxnNumber(u64),
    Generation(i32),
    GroupEpoch(i32),
    RequestId(u64),
);
codec!(PartitionId { topic, index });
codec!(SequenceRange { first, last });

impl Codec for Uuid {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        Uuid::from_slice(take(input, 16)?).map_err(|_| CodecError::Short)
    }
}

impl Codec for Sequence {
    fn encode(&self, out: &mut Vec<u8>) {
        self.get().encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        Sequence::new(i32::decode(input)?).ok_or(CodecError::Invalid("a sequence is not negative"))
    }
}

impl Codec for Duration {
    fn encode(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX).encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        u64::decode(input).map(Duration::from_millis)
    }
}

impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Invalid("a flag is 0 or 1")),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "texts and lists are bounded by the frame limit, far below 4 GiB"
)]
fn encode_length(length: usize, out: &mut Vec<u8>) {
    (length as u32).encode(out);
}

fn decode_length(input: &mut &[u8]) -> Result<usize, CodecError> {
    usize::try_from(u32::decode(input)?).map_err(|_| CodecError::Short)
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    encode_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn decode_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, CodecError> {
    let length = decode_length(input)?;
    std::str::from_utf8(take(input, length)?).map_err(|_| CodecError::Invalid("a text is UTF-8"))
}

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        decode_text(input).map(String::from)
    }
}

impl Codec for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        out.extend_from_slice(self);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        let length = decode_length(input)?;
        take(input, length).map(Bytes::copy_from_slice)
    }
}

impl Codec for IdempotencyKey {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        IdempotencyKey::new(Bytes::decode(input)?).ok_or(CodecError::Invalid("not an idempotency key"))
    }
}

impl Codec for TopicName {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        TopicName::new(decode_text(input)?).map_err(|_| CodecError::Invalid("not a topic name"))
    }
}

impl Codec for GroupId {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        decode_text(input).map(GroupId::new)
    }
}

impl Codec for MemberId {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        decode_text(input).map(MemberId::new)
    }
}

impl Codec for InstanceId {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        decode_text(input).map(InstanceId::new)
    }
}

impl Codec for TransactionalId {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        TransactionalId::new(decode_text(input)?).ok_or(CodecError::Invalid("no transactional id"))
    }
}

impl<T: Codec> Codec for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        if bool::decode(input)? { T::decode(input).map(Some) } else { Ok(None) }
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}

impl<T: Codec> Codec for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_all(self, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        decode_all(input, Vec::push)
    }
}

impl<T: Codec> Codec for SmallVec<[T; 1]> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_all(self, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        decode_all(input, SmallVec::push)
    }
}

fn encode_all<T: Codec>(items: &[T], out: &mut Vec<u8>) {
    encode_length(items.len(), out);
    items.iter().for_each(|item| item.encode(out));
}

/// Grown as items arrive: a forged length allocates nothing.
fn decode_all<T: Codec, C: Default>(input: &mut &[u8], push: impl Fn(&mut C, T)) -> Result<C, CodecError> {
    let length = decode_length(input)?;
    let mut items = C::default();
    for _ in 0..length {
        push(&mut items, T::decode(input)?);
    }
    Ok(items)
}

impl<T: Codec + Ord> Codec for BTreeSet<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for item in self {
            item.encode(out);
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        Vec::decode(input).map(BTreeSet::from_iter)
    }
}

impl<K: Codec + Ord, V: Codec> Codec for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, CodecError> {
        let length = decode_length(input)?;
        let mut map = BTreeMap::new();
        for _ in 0..length {
            map.insert(K::decode(input)?, V::decode(input)?);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Sample {
        name: Option<GroupId>,
        list: Vec<(PartitionId, Offset)>,
        map: BTreeMap<String, String>,
    }
    codec!(Sample { name, list, map });

    #[derive(Clone, Debug, PartialEq)]
    enum Choice {
        Plain,
        Fields { number: TxnNumber, flag: bool },
        Inner(Sequence),
    }
    codec_enum!(Choice { 1 => Plain, 2 => Fields { number, flag }, 7 => Inner(sequence) });

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            name in proptest::option::of(".{0,9}"),
            list in proptest::collection::vec((any::<u128>(), any::<i32>(), any::<i64>()), 0..5),
            map in proptest::collection::btree_map(".{0,5}", ".{0,5}", 0..4),
            number in any::<u64>(),
        ) {
            let list = list.into_iter().map(|(topic, index, offset)| {
                (PartitionId::new(TopicId(Uuid::from_u128(topic)), PartitionIndex(index)), Offset(offset))
            });
            let sample = Sample { name: name.map(|n| GroupId::new(&n)), list: list.collect(), map };
            prop_assert_eq!(Sample::from_bytes(&sample.to_bytes()), Ok(sample));
            for choice in [Choice::Plain, Choice::Fields { number: TxnNumber(number), flag: true }, Choice::Inner(Sequence::FIRST)] {
                prop_assert_eq!(Choice::from_bytes(&choice.to_bytes()), Ok(choice));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Sample::from_bytes(&bytes);
            let _ = Choice::from_bytes(&bytes);
        }
    }

    proptest! {
        #[test]
        fn numbers_take_as_many_bytes_as_they_need(number in any::<i64>(), shift in 0u32..64) {
            for number in [number >> shift, number, i64::MIN, i64::MAX, 0, -1] {
                let mut bytes = Vec::new();
                put_varlong(&mut bytes, number);
                let bits = 65 - number.unsigned_abs().leading_zeros();
                prop_assert!(bytes.len() <= usize::try_from(bits.div_ceil(7)).unwrap(), "{number}: {bytes:?}");
                prop_assert_eq!(take_varlong(&mut &bytes[..]), Ok(number));
                prop_assert_eq!(take_varlong(&mut &bytes[..bytes.len() - 1]), Err(CodecError::Short));
            }
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_none() {
        for last in [0x02, 0x7f, 0x82] {
            let bytes = [&[0x80; 9][..], &[last], &[0]].concat();
            assert!(matches!(take_varlong(&mut &bytes[..]), Err(CodecError::Invalid(_))));
        }
    }

    #[test]
    fn leftovers_and_shortages_are_named() {
        assert_eq!(u16::from_bytes(&[1, 2, 3]), Err(CodecError::Trailing(1)));
        assert_eq!(u16::from_bytes(&[1]), Err(CodecError::Short));
        assert!(matches!(Choice::from_bytes(&[9]), Err(CodecError::Invalid(_))));
    }
}
