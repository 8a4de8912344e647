//! What the declarations give the tests: random values of a version, their size in memory, and their layout as data.

use crate::types::TopicId;
use crate::wire::primitives::{FieldSpec, Shape};
use crate::wire::{ErrorCode, Records};
use bytes::Bytes;
use uuid::Uuid;

/// Random numbers from a seed (SplitMix64), so that a failure names the case that repeats it.
#[derive(Debug)]
pub(in crate::wire) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A field's layout as data, to be compared with the protocol's own definitions.
#[derive(Debug)]
pub(in crate::wire) enum Layout {
    Plain(&'static str),
    Array(Box<Layout>),
    Nullable(Box<Layout>),
    Structure(Vec<LayoutField>),
}

#[derive(Debug)]
pub(in crate::wire) struct LayoutField {
    pub(in crate::wire) name: &'static str,
    pub(in crate::wire) layout: Layout,
    pub(in crate::wire) default: &'static str,
    pub(in crate::wire) spec: FieldSpec,
}

/// A type that occurs in declarations.
pub(in crate::wire) trait Declared: Sized {
    /// A random value that the version can carry.
    fn generate(random: &mut Random, shape: Shape) -> Self;
    /// Its memory beyond its own size, slices of the frame not counted.
    fn heap_size(&self) -> usize;
    /// Its layout.
    fn layout() -> Layout;
}

macro_rules! plain {
    ($($type:ty, $name:literal, |$random:ident| $generate:expr;)*) => {$(
        impl Declared for $type {
            fn generate($random: &mut Random, _: Shape) -> $type {
                $generate
            }

            fn heap_size(&self) -> usize {
                0
            }

            fn layout() -> Layout {
                Layout::Plain($name)
            }
        }
    )*};
}

macro_rules! number {
    ($random:ident, $type:ty) => {
        // Small numbers, extremes and anything: each has its own way to go wrong.
        match $random.below(4) {
            0 => <$type>::MAX,
            1 => <$type>::MIN,
            2 => <$type>::try_from($random.below(100)).unwrap(),
            _ => {
                let bytes = $random.next().to_le_bytes();
                <$type>::from_le_bytes(*bytes.first_chunk().unwrap())
            }
        }
    };
}

plain! {
    bool, "bool", |random| random.below(2) == 1;
    i8, "int8", |random| number!(random, i8);
    i16, "int16", |random| number!(random, i16);
    i32, "int32", |random| number!(random, i32);
    i64, "int64", |random| number!(random, i64);
    f64, "float64", |random| number!(random, i32).into();
    Uuid, "uuid", |random| Uuid::from_u64_pair(random.next(), random.next());
    TopicId, "uuid", |random| TopicId(Uuid::from_u64_pair(random.next(), random.next()));
    ErrorCode, "int16", |random| ErrorCode::from(number!(random, i16));
    Bytes, "bytes", |random| { let length = length(random); random.bytes(length).into() };
    Records, "records", |random| {
        let length = length(random) * 20;
        Records::from(Bytes::from(random.bytes(length)))
    };
}

/// Mostly short, and now and then long enough for lengths of two bytes.
fn length(random: &mut Random) -> usize {
    match random.below(8) {
        0 => 0,
        1 => 127 + random.below(300),
        _ => random.below(20),
    }
}

impl Declared for String {
    fn generate(random: &mut Random, _: Shape) -> String {
        let length = length(random);
        (0..length).map(|_| ['a', 'Z', '0', '-', 'é', '𝄞', '\0'][random.below(7)]).collect()
    }

    fn heap_size(&self) -> usize {
        self.len()
    }

    fn layout() -> Layout {
        Layout::Plain("string")
    }
}

impl<T: Declared> Declared for Vec<T> {
    fn generate(random: &mut Random, shape: Shape) -> Vec<T> {
        let count = random.below(4);
        (0..count).map(|_| T::generate(random, shape)).collect()
    }

    fn heap_size(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(Declared::heap_size).sum::<usize>()
    }

    fn layout() -> Layout {
        Layout::Array(Box::new(T::layout()))
    }
}

impl<T: Declared> Declared for Option<T> {
    fn generate(random: &mut Random, shape: Shape) -> Option<T> {
        let null = shape.nullable && random.below(4) == 0;
        (!null).then(|| T::generate(random, shape))
    }

    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, Declared::heap_size)
    }

    fn layout() -> Layout {
        Layout::Nullable(Box::new(T::layout()))
    }
}
