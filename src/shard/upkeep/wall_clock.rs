//! The wall clock, watched against served time (`spec/transactions.md`, X7). Records grow old by wall time, and a clock that
//! is set may make all of them too old at once: so after a step it is not relied on for a while, also across restarts.

use crate::core::{Now, clock_stepped};
use crate::store::{Database, StoreError, WallClockRow};
use crate::types::ServedTime;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the wall clock is not relied on after a step: time for a person to see the warning and set it right.
const DISTRUSTED: Duration = Duration::from_secs(60 * 60);

/// How often the clocks are noted down. A restart counts as a step if the wall clock has gone on by more than the limit since
/// then, so this is well below it.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// See the module. Cheap to clone: all clones are one clock.
#[derive(Clone, Debug)]
pub(in crate::shard) struct WallClock {
    store: Database,
    watch: Arc<Mutex<Watch>>,
}

impl WallClock {
    /// The clock as the store has it. A shard that `is_new` has nothing that could be too old.
    pub(super) fn new(store: Database, is_new: bool) -> Result<WallClock, StoreError> {
        let watch = Watch::new(store.wall_clock()?, is_new);
        Ok(WallClock { store, watch: Arc::new(Mutex::new(watch)) })
    }

    /// Whether wall time can be relied on now.
    pub(super) fn is_steady(&self, now: Now) -> Result<bool, StoreError> {
        // Each change is one step, so a panic leaves it whole.
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.look(now);
        if let Some(note) = watch.note(now) {
            self.store.set_wall_clock(&note)?;
        }
        Ok(watch.distrusted_until.is_none())
    }
}

#[derive(Debug)]
struct Watch {
    last: Option<Now>,
    distrusted_until: Option<ServedTime>,
    noted: Option<WallClockRow>,
    is_new: bool,
}

impl Watch {
    fn new(noted: Option<WallClockRow>, is_new: bool) -> Watch {
        let distrusted_until = noted.and_then(|noted| noted.distrusted_until);
        Watch { last: noted.map(|noted| noted.seen), distrusted_until, noted, is_new }
    }

    /// Looks at the clocks.
    fn look(&mut self, now: Now) {
        let stepped = match self.last.replace(now) {
            Some(last) => clock_stepped(last, now),
            // Rows that were made anew have forgotten how it stood.
            None => !self.is_new,
        };
        if stepped {
            self.distrusted_until = Some(now.served.plus(DISTRUSTED));
            tracing::warn!(
                pause_s = DISTRUSTED.as_secs(),
                "the wall clock has stepped, or nobody has looked at it for long: no record is too old for a while; see to it \
                 that the clock is right"
            );
        } else if self.distrusted_until.is_some_and(|until| until <= now.served) {
            self.distrusted_until = None;
            tracing::info!("the wall clock has been steady: records expire again");
        }
    }

    /// What is to be noted down, if that is due.
    fn note(&mut self, now: Now) -> Option<WallClockRow> {
        let note = WallClockRow { seen: now, distrusted_until: self.distrusted_until };
        let is_due = self.noted.is_none_or(|noted| {
            // After a crash, served time may begin earlier than it was.
            let (before, after) = (noted.seen.served, now.served);
            noted.distrusted_until != self.distrusted_until
                || after.since(before) >= NOTED_EVERY
                || after < before
        });
        if !is_due {
            return None;
        }
        self.noted = Some(note);
        self.noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    const YEAR_S: i64 = 365 * 24 * 3_600;

    fn now(served_s: u64, wall_s: i64) -> Now {
        Now { served: ServedTime(served_s * 1_000), wall: Timestamp(wall_s * 1_000) }
    }

    fn is_steady(watch: &mut Watch, now: Now) -> bool {
        watch.look(now);
        watch.distrusted_until.is_none()
    }

    #[test]
    fn a_clock_that_has_stepped_is_relied_on_again_after_a_while() {
        let mut watch = Watch::new(None, true);
        assert!(is_steady(&mut watch, now(0, 1_000_000)));
        assert!(is_steady(&mut watch, now(300, 1_000_301)));
        assert!(!is_steady(&mut watch, now(600, 2_000_000)), "forward");
        assert!(!is_steady(&mut watch, now(900, 1_000_901)), "and back: that is a step too");
        assert!(!is_steady(&mut watch, now(4_499, 1_004_500)));
        assert!(is_steady(&mut watch, now(4_500, 1_004_501)), "an hour after the last step");
    }

    #[test]
    fn a_step_is_seen_across_a_restart_and_outlasts_one() {
        let mut watch = Watch::new(None, true);
        watch.look(now(60, 1_000_060));
        let noted = watch.note(now(60, 1_000_060));
        // Served time begins where the last block left it.
        let mut watch = Watch::new(noted, false);
        assert!(is_steady(&mut watch, now(50, 1_000_090)), "a short stop is none");
        let mut watch = Watch::new(noted, false);
        assert!(
            !is_steady(&mut watch, now(50, 1_000_090 + YEAR_S)),
            "nobody can tell a long stop from a wrong clock"
        );
        let noted = watch.note(now(50, 1_000_090 + YEAR_S));
        let mut watch = Watch::new(noted, false);
        assert!(
            !is_steady(&mut watch, now(40, 1_000_095 + YEAR_S)),
            "the wrong time has been noted, and is not believed"
        );
        assert!(is_steady(&mut watch, now(3_700, 1_003_755 + YEAR_S)));
    }

    #[test]
    fn a_shard_that_has_forgotten_the_clock_does_not_rely_on_it() {
        assert!(!is_steady(&mut Watch::new(None, false), now(900, 1_000_000)));
    }

    #[test]
    fn it_is_noted_down_now_and_then_and_at_every_step() {
        let mut watch = Watch::new(None, true);
        let mut notes = |served_s, wall_s| {
            watch.look(now(served_s, wall_s));
            watch.note(now(served_s, wall_s)).is_some()
        };
        assert!(notes(0, 1_000_000));
        assert!(!notes(15, 1_000_015));
        assert!(notes(60, 1_000_060));
        assert!(notes(61, 1_000_061 + YEAR_S));
        assert!(!notes(62, 1_000_062 + YEAR_S));
    }
}
