//! Hash maps and sets for everything that a simulated world is made of. They are the standard library's, with faster hashes: a
//! decision asks for some hundred rows, and SipHash took a fifth of its time. What they begin with differs between processes and
//! maps, and nobody outside sees one, so names that collide cannot be chosen beforehand; more than that they do not promise. In
//! tests they are the world's chance where there is a world, so that an order which somebody sees is the seed's, too.

use std::collections;

/// A hash map.
pub type HashMap<K, V> = collections::HashMap<K, V, Keys>;
/// A hash map in the order in which its keys came.
pub type IndexMap<K, V> = indexmap::IndexMap<K, V, Keys>;
/// A hash set.
pub type HashSet<K> = collections::HashSet<K, Keys>;

#[cfg(not(test))]
use foldhash::quality::RandomState as Keys;
#[cfg(test)]
use of_a_world::Keys;

#[cfg(test)]
mod of_a_world {
    use super::super::outside;
    use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

    /// What the order in a map comes from.
    #[derive(Clone, Debug)]
    pub enum Keys {
        Process(RandomState),
        World(u64),
    }

    impl Default for Keys {
        fn default() -> Keys {
            outside::chance().map_or_else(|| Keys::Process(RandomState::new()), Keys::World)
        }
    }

    impl BuildHasher for Keys {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            match self {
                Keys::Process(random) => random.build_hasher(),
                Keys::World(key) => {
                    let mut hasher = DefaultHasher::new();
                    hasher.write_u64(*key);
                    hasher
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Timestamp, outside};
    use super::*;

    struct World(u64);

    impl outside::Outside for World {
        fn chance(&mut self) -> u64 {
            self.0
        }
        fn wall_clock(&self) -> Timestamp {
            Timestamp(0)
        }
    }

    #[test]
    fn the_order_in_a_set_is_the_worlds() {
        let order = |world| {
            outside::with_outside(Box::new(World(world)), || {
                (0..100).collect::<HashSet<u64>>().into_iter().collect::<Vec<_>>()
            })
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
