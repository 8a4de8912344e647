//! Choices from a seed. Each part of a world has a stream of its own, so that taking one part away leaves the others'
//! choices as they were.

use crate::log::tests::sim_disk::{Choose, Sampled};
use std::time::Duration;

/// A stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Sampled);

impl Chance {
    /// The stream of part `name` of the world of `seed`.
    pub(crate) fn of(seed: u64, name: &str) -> Chance {
        // FNV-1a: what matters is only that different names differ.
        let name = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut chance = Chance(Sampled(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name));
        chance.bits();
        chance
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.choose(u64::MAX)
    }

    /// A number below `count`; 0 if there is none.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        if count == 0 { 0 } else { self.0.choose(count) }
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, count: u64) -> bool {
        count > 0 && self.below(count) == 0
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of_these<'t, T>(&mut self, these: &'t [T]) -> &'t T {
        &these[usize::try_from(self.below(these.len() as u64)).unwrap()]
    }

    /// A time of at most `most`: mostly short, now and then long.
    pub(crate) fn time(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap();
        let bound = if self.once_in(8) { most } else { most / 8 };
        Duration::from_millis(self.between(0, bound))
    }
}

impl Choose for Chance {
    fn choose(&mut self, options: u64) -> u64 {
        self.0.choose(options)
    }
}
