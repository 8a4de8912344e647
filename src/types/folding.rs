//! Hashes by folded multiplication (as wyhash has them): the two halves of a product of 128 bits, of what is hashed and of
//! secrets that are drawn at the start of the process. A decision asks for some hundred rows, and the standard library's hash
//! (SipHash) took a fifth of its time. Nobody outside sees a hash, and who does not know the secrets cannot choose keys whose
//! hashes collide.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Drawn once in each process.
struct Secrets {
    /// What values are multiplied with.
    factors: [u64; 2],
    /// What the next map begins with.
    next: AtomicU64,
}

static SECRETS: LazyLock<Secrets> = LazyLock::new(|| {
    let random = RandomState::new();
    let secret = |number: u64| random.hash_one(number);
    // A factor that is even loses a bit of what it is multiplied with.
    Secrets { factors: [secret(0) | 1, secret(1) | 1], next: AtomicU64::new(secret(2)) }
});

/// The keys of one map: no two maps have the same, so that what goes from one into another does not come in the order of
/// its hashes there.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    start: u64,
    factors: [u64; 2],
}

impl Default for Keys {
    fn default() -> Keys {
        let Secrets { factors, next } = &*SECRETS;
        let number = next.fetch_add(1, Ordering::Relaxed);
        Keys { start: folded(number, factors[1]), factors: *factors }
    }
}

impl BuildHasher for Keys {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { state: self.start, factors: self.factors }
    }
}

/// A hash under way.
#[derive(Clone, Debug)]
pub struct Folding {
    state: u64,
    factors: [u64; 2],
}

fn folded(one: u64, other: u64) -> u64 {
    let (low, high) = one.carrying_mul(other, 0);
    low ^ high
}

impl Folding {
    fn fold(&mut self, value: u64) {
        self.state = folded(self.state ^ value, self.factors[0]);
    }

    fn fold_two(&mut self, one: u64, other: u64) {
        // Neither factor is a value alone: who could make one of them zero would lose the other.
        self.state = folded(one ^ self.state, other ^ self.factors[1]);
    }
}

/// Up to eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded.iter_mut().zip(bytes).for_each(|(padded, byte)| *padded = *byte);
    u64::from_le_bytes(padded)
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        folded(self.state, self.factors[1])
    }

    fn write(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            let both = u128::from_le_bytes(*pair);
            let [low, high] =
                [both, both >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
            self.fold_two(low, high);
        }
        // How many there are is part of it: what is padded is not what has zeroes.
        let (first, second) = rest.split_at_checked(8).unwrap_or((rest, &[]));
        self.fold_two(number(first), number(second));
        self.fold(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.fold(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.fold(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.fold(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.fold(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn keys_that_are_alike_spread() {
        let keys = Keys::default();
        // What a table looks at: the lowest bits, and the highest seven.
        let spread = |hashes: Vec<u64>| {
            let count = hashes.len();
            let low: HashSet<_> = hashes.iter().map(|hash| hash % 4_096).collect();
            let high: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
            // Of 4,096 throws into as many places about 2,589 are hit.
            assert!(count == 4_096 && low.len() > 2_400 && high.len() == 128, "{} {}", low.len(), high.len());
        };
        spread((0..4_096u64).map(|number| keys.hash_one(number)).collect());
        spread((0..4_096u64).map(|number| keys.hash_one(number << 40)).collect());
        spread((0..4_096u32).map(|number| keys.hash_one(("transfers", number))).collect());
        spread((0..4_096).map(|number| keys.hash_one(format!("transactional-id-{number}"))).collect());
        spread((0..4_096).map(|length| keys.hash_one(vec![0u8; length])).collect());
    }

    #[test]
    fn each_map_has_keys_of_its_own() {
        let hashes: HashSet<_> = (0..100).map(|_| Keys::default().hash_one(7u64)).collect();
        assert_eq!(hashes.len(), 100);
    }

    proptest! {
        #[test]
        fn the_same_is_the_same_and_a_changed_bit_changes_half_the_hash(
            bytes in prop::collection::vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>(), bit in 0u32..8,
        ) {
            let keys = Keys::default();
            let hash = |bytes: &[u8]| keys.hash_one(bytes);
            prop_assert_eq!(hash(&bytes), hash(&bytes.clone()));
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1u8 << bit;
            let differ = (hash(&bytes) ^ hash(&changed)).count_ones();
            prop_assert!((10..=54).contains(&differ), "{differ} bits differ");
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_ne!(hash(&bytes), hash(&longer));
        }
    }
}
