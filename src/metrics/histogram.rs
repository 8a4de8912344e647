//! How values are distributed, over a few fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The buckets of a histogram, and how its raw numbers are told.
#[derive(Debug)]
pub struct Scale {
    /// The buckets' upper bounds, included, in raw numbers, ascending.
    pub bounds: &'static [u64],
    /// Raw numbers in one unit that is told: 10⁹ where nanoseconds are told as seconds.
    pub per_unit: f64,
}

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Times, measured in nanoseconds, told in seconds.
pub static TIMES: Scale = Scale {
    bounds: &[
        100 * MICRO,
        250 * MICRO,
        500 * MICRO,
        MILLI,
        2_500 * MICRO,
        5 * MILLI,
        10 * MILLI,
        25 * MILLI,
        50 * MILLI,
        100 * MILLI,
        250 * MILLI,
        SECOND,
        5 * SECOND,
        30 * SECOND,
    ],
    per_unit: 1e9,
};

/// Sizes in bytes.
pub static SIZES: Scale = Scale {
    bounds: &[4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20],
    per_unit: 1.0,
};

/// Numbers of things.
pub static COUNTS: Scale = Scale { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], per_unit: 1.0 };

/// Counts values by size. To count one is two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One for each bound, and one for what lies above all of them. Not cumulative.
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(scale: &'static Scale) -> Histogram {
        let buckets = (0..=scale.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { scale, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts a raw number.
    pub fn observe(&self, value: u64) {
        let place = self.scale.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time, on a scale of nanoseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The sum of all values, in the unit that is told.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a sum is told as a floating-point number")]
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.scale.per_unit
    }

    /// The lowest bound at or below which this share of all values lies; none if there are none, or it lies above all
    /// bounds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = self.count() as f64 * share;
        let found = self.cumulative().find(|(_, below)| *below > 0 && *below as f64 >= wanted);
        found.map(|(bound, _)| bound).filter(|bound| bound.is_finite())
    }

    /// The buckets' bounds in the unit that is told, with how many values lie at or below each; above the last bound lies
    /// infinity. What is counted meanwhile may be in the sum and not in a bucket.
    #[expect(clippy::cast_precision_loss, reason = "bounds are told as floating-point numbers")]
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.scale.bounds.iter().map(|bound| *bound as f64 / self.scale.per_unit);
        let bounds = bounds.chain([f64::INFINITY]);
        let mut below = 0;
        bounds.zip(&self.buckets).map(move |(bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            (bound, below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_is_counted_once_in_the_first_bucket_that_holds_it(
            values in proptest::collection::vec(0u64..100_000_000, 0..64)
        ) {
            let histogram = Histogram::new(&SIZES);
            values.iter().for_each(|value| histogram.observe(*value));
            for (bound, below) in histogram.cumulative() {
                let expected = values.iter().filter(|value| **value as f64 <= bound).count();
                prop_assert_eq!(below, expected as u64, "at {}", bound);
            }
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum(), values.iter().sum::<u64>() as f64);
        }
    }

    #[test]
    fn times_are_told_in_seconds() {
        let histogram = Histogram::new(&TIMES);
        histogram.observe_time(Duration::from_millis(1500));
        assert!((histogram.sum() - 1.5).abs() < 1e-9);
        assert!(histogram.cumulative().any(|bucket| bucket == (5.0, 1)));
        assert!(histogram.cumulative().any(|bucket| bucket == (1.0, 0)));
        assert_eq!(histogram.quantile(0.5), Some(5.0));
        (0..9).for_each(|_| histogram.observe(1));
        assert_eq!((histogram.quantile(0.9), histogram.quantile(0.91)), (Some(0.0001), Some(5.0)));
        assert_eq!(Histogram::new(&TIMES).quantile(0.5), None);
    }
}
