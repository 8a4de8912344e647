//! Which partition a record goes to. Pure: its randomness is its seed.

use super::backoff::split_mix;
use crate::types::{HashMap, PartitionIndex, TopicName};

/// Kafka's hash of a key: MurmurHash2 (Appleby), 32 bits, with Kafka's seed, so that all clients agree on a key's
/// partition.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;
    // Kafka's lengths are 32 bits wide; longer keys do not fit a record.
    let mut hash = SEED ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let bytes = tail.iter().enumerate();
        hash ^= bytes.fold(0, |word, (at, byte)| word | (u32::from(*byte) << (8 * at)));
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// Chooses partitions: by the key's hash, and for records without a key the same partition until a batch is full, then
/// another (KIP-794), so that batches are large and the load is even.
#[derive(Clone, Debug)]
pub struct Partitioner {
    /// How many bytes one partition gets before it is another's turn.
    sticky_bytes: usize,
    random: u64,
    /// For each topic the partition whose turn it is. As many as the application has topics.
    sticky: HashMap<TopicName, Sticky>,
}

#[derive(Clone, Copy, Debug)]
struct Sticky {
    partition: PartitionIndex,
    bytes_left: usize,
}

impl Partitioner {
    /// Equal seeds make equal choices.
    #[must_use]
    pub fn new(sticky_bytes: usize, seed: u64) -> Partitioner {
        Partitioner { sticky_bytes, random: seed, sticky: HashMap::default() }
    }

    /// The partition of a record of `size` bytes, among `partitions`, which is at least 1.
    pub fn choose(
        &mut self,
        topic: &TopicName,
        key: Option<&[u8]>,
        size: usize,
        partitions: u32,
    ) -> PartitionIndex {
        match key {
            // The hash without its sign bit, as in Kafka.
            Some(key) => among(murmur2(key) & 0x7fff_ffff, partitions),
            None => self.choose_sticky(topic, size, partitions),
        }
    }

    fn choose_sticky(&mut self, topic: &TopicName, size: usize, partitions: u32) -> PartitionIndex {
        let current = self.sticky.get_mut(topic);
        if let Some(current) = current
            .filter(|current| current.bytes_left > 0 && current.partition.0.cast_unsigned() < partitions)
        {
            current.bytes_left = current.bytes_left.saturating_sub(size);
            return current.partition;
        }
        let [a, b, c, d, ..] = split_mix(&mut self.random).to_le_bytes();
        let partition = among(u32::from_le_bytes([a, b, c, d]), partitions);
        let bytes_left = self.sticky_bytes.saturating_sub(size);
        self.sticky.insert(topic.clone(), Sticky { partition, bytes_left });
        partition
    }
}

fn among(number: u32, partitions: u32) -> PartitionIndex {
    PartitionIndex((number % partitions.max(1)).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn records_without_a_key_change_the_partition_when_a_batch_is_full() {
        let topic = TopicName::new("t").unwrap();
        let mut partitioner = Partitioner::new(1000, 7);
        let chosen: Vec<_> = (0..1000).map(|_| partitioner.choose(&topic, None, 100, 8)).collect();
        for turn in chosen.chunks(10) {
            assert!(turn.iter().all(|partition| *partition == turn[0]), "{turn:?}");
        }
        for partition in 0..8 {
            assert!(chosen.contains(&PartitionIndex(partition)), "partition {partition} got nothing");
        }
    }

    proptest! {
        #[test]
        fn every_choice_is_a_partition_and_keys_stay_where_they_are(
            keys in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), 1..50),
            partitions in 1_u32..20,
            seed in any::<u64>(),
        ) {
            let topic = TopicName::new("t").unwrap();
            let mut one = Partitioner::new(64, seed);
            let mut other = Partitioner::new(1, !seed);
            for key in keys {
                let chosen = one.choose(&topic, key.as_deref(), 10, partitions);
                prop_assert!((0..i32::try_from(partitions).unwrap()).contains(&chosen.0));
                let elsewhere = other.choose(&topic, key.as_deref(), 99, partitions);
                prop_assert!(key.is_none() || chosen == elsewhere);
            }
        }
    }
}
