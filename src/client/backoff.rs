//! Pauses between attempts: they double, have a limit, and are spread so that clients do not return in step.

use crate::types::outside;
use std::time::Duration;

/// The shortest and the longest pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The first pause.
    pub first: Duration,
    /// No pause is longer, but for the jitter.
    pub longest: Duration,
}

impl Default for BackoffLimits {
    /// A restarting broker is back within a second; a struggling one is not hammered.
    fn default() -> BackoffLimits {
        BackoffLimits { first: Duration::from_millis(20), longest: Duration::from_secs(1) }
    }
}

/// The pauses of one thing that is tried again and again. Pure: its randomness is its seed.
#[derive(Clone, Debug)]
pub struct Backoff {
    limits: BackoffLimits,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Starts anew; equal seeds give equal pauses.
    #[must_use]
    pub fn new(limits: BackoffLimits, seed: u64) -> Backoff {
        Backoff { limits, failures: 0, random: seed }
    }

    /// Starts anew with a seed that nobody chose.
    #[must_use]
    pub fn unseeded(limits: BackoffLimits) -> Backoff {
        Backoff::new(limits, outside::seed())
    }

    /// The pause after one more failure: the doubled last one, give or take a fifth.
    pub fn pause(&mut self) -> Duration {
        let doubled = self.limits.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(31);
        let base = doubled.min(self.limits.longest);
        let fifth = base / 5;
        let spread = u32::try_from(split_mix(&mut self.random) % 1001).unwrap_or(0);
        base.saturating_sub(fifth) + (fifth * 2).mul_f64(f64::from(spread) / 1000.0)
    }

    /// It worked: the next pause is the first again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The next number of the SplitMix64 sequence (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_double_up_to_the_limit_and_stay_near_it(seed in any::<u64>()) {
            let limits = BackoffLimits { first: Duration::from_millis(10), longest: Duration::from_millis(500) };
            let mut backoff = Backoff::new(limits, seed);
            for round in 0..80_u32 {
                let expected = Duration::from_millis(10 * (1 << round.min(10))).min(limits.longest);
                let pause = backoff.pause();
                prop_assert!(pause >= expected.mul_f64(0.79) && pause <= expected.mul_f64(1.21), "{round}: {pause:?}");
            }
            backoff.succeeded();
            prop_assert!(backoff.pause() <= Duration::from_millis(12));
        }
    }

    #[test]
    fn equal_seeds_give_equal_pauses() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(BackoffLimits::default(), seed);
            (0..10).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }
}
