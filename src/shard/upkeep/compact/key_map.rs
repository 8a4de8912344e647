//! The newest offset of each key, in a bounded amount of memory: keys are known by their hashes.

use crate::types::Offset;
use aws_lc_rs::digest;

/// The first half of a key's SHA-256. Two keys with one hash would be taken for one key, and the record of one of them
/// would be lost: so it must be a hash for which nobody can find two such keys.
type KeyHash = u128;

/// Bytes that a key takes: its hash, and its newest offset.
const SLOT_BYTES: usize = size_of::<KeyHash>() + size_of::<u64>();

/// See the module. Open addressing with linear probing, at most three quarters full.
pub(super) struct KeyMap {
    hashes: Vec<KeyHash>,
    /// One more than the offset; 0 where the slot is free.
    offsets: Vec<u64>,
    used: usize,
}

impl KeyMap {
    /// A map of at most `bytes_max`, and no larger than it takes for so many records.
    pub(super) fn new(records: u64, bytes_max: usize) -> KeyMap {
        let wanted = records.saturating_add(records / 2).saturating_add(4);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let slots = wanted.min(bytes_max / SLOT_BYTES).max(2);
        KeyMap { hashes: vec![0; slots], offsets: vec![0; slots], used: 0 }
    }

    fn hash(key: &[u8]) -> KeyHash {
        let hash = digest::digest(&digest::SHA256, key);
        hash.as_ref().first_chunk().map_or(0, |half| KeyHash::from_le_bytes(*half))
    }

    /// The slot that has this hash, or is free for it. There always is a free one.
    fn slot(&self, hash: KeyHash) -> usize {
        let slots = self.hashes.len();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "half of a hash is as good, and a remainder is a length"
        )]
        let mut slot = (hash as u64 % slots as u64) as usize;
        while self.offsets.get(slot).is_some_and(|offset| *offset != 0)
            && self.hashes.get(slot).is_some_and(|other| *other != hash)
        {
            slot = (slot + 1) % slots;
        }
        slot
    }

    /// Notes a record; offsets must come in order. False if there is no room for its key.
    pub(super) fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = KeyMap::hash(key);
        let slot = self.slot(hash);
        let slots = self.hashes.len();
        let (Some(own_hash), Some(own_offset)) = (self.hashes.get_mut(slot), self.offsets.get_mut(slot))
        else {
            return false;
        };
        if *own_offset == 0 {
            if self.used >= slots / 4 * 3 + slots % 4 / 2 {
                return false;
            }
            self.used += 1;
            *own_hash = hash;
        }
        *own_offset = offset.0.unsigned_abs() + 1;
        true
    }

    /// Whether a newer record of this key has been noted.
    pub(super) fn supersedes(&self, key: &[u8], offset: Offset) -> bool {
        let newest = self.offsets.get(self.slot(KeyMap::hash(key))).copied().unwrap_or(0);
        newest > offset.0.unsigned_abs() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows_until_it_is_full(
            keys in proptest::collection::vec(0_u16..300, 1..400), slots in 2_usize..500,
        ) {
            let mut map = KeyMap::new(u64::MAX, slots * SLOT_BYTES);
            let mut model: HashMap<u16, i64> = HashMap::new();
            for (key, offset) in keys.iter().zip(0..) {
                if map.note(&key.to_be_bytes(), Offset(offset)) {
                    model.insert(*key, offset);
                } else {
                    prop_assert!(!model.contains_key(key) && model.len() >= (slots / 2).max(1), "{} of {slots}", model.len());
                }
            }
            prop_assert!(!model.is_empty() && model.len() < slots);
            for key in 0_u16..300 {
                for offset in [0, 1, 57, 399] {
                    let newer = model.get(&key).is_some_and(|newest| *newest > offset);
                    prop_assert_eq!(map.supersedes(&key.to_be_bytes(), Offset(offset)), newer);
                }
            }
        }
    }

    #[test]
    fn it_takes_no_more_than_the_records_need() {
        assert_eq!(KeyMap::new(100, 1 << 30).hashes.len(), 154);
        assert_eq!(KeyMap::new(u64::MAX, 24_000).hashes.len(), 1_000);
        let mut map = KeyMap::new(100, 1 << 30);
        assert!((0..100_u8).all(|key| map.note(&[key], Offset(key.into()))));
    }
}
