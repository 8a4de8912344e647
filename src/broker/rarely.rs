//! Log lines that clients can cause, one in a while; those that are held back are counted.

use crate::types::outside;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// One line in a while.
#[derive(Debug)]
pub(super) struct Rarely {
    every_ms: i64,
    last: AtomicI64,
    held_back: AtomicU64,
}

impl Rarely {
    pub(super) fn every(every: Duration) -> Rarely {
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        Rarely { every_ms, last: AtomicI64::new(i64::MIN), held_back: AtomicU64::new(0) }
    }

    /// Calls `log` with the number of lines that were held back since the last one, if one is due.
    pub(super) fn line(&self, log: impl FnOnce(u64)) {
        let now = outside::wall_clock().0;
        let last = self.last.load(Ordering::Relaxed);
        // A clock that was set back lets one more through.
        let is_due = now.checked_sub(last).is_none_or(|passed| passed < 0 || passed >= self.every_ms);
        // Two who ask at once may both write: no harm.
        if is_due {
            self.last.store(now, Ordering::Relaxed);
            log(self.held_back.swap(0, Ordering::Relaxed));
        } else {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_says_how_many_there_were() {
        let hour = Rarely::every(Duration::from_secs(3_600));
        let mut lines = Vec::new();
        (0..5).for_each(|_| hour.line(|held_back| lines.push(held_back)));
        assert_eq!(lines, [0]);
        hour.last.store(0, Ordering::Relaxed);
        hour.line(|held_back| lines.push(held_back));
        assert_eq!(lines, [0, 4]);
    }
}
