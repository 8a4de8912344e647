//! The two clocks (`spec/architecture.md`, "Two clocks"). Only the shard and the network read them; everybody else is
//! handed a value.

use std::fmt;
use std::time::Duration;

/// Wall time: milliseconds since the Unix epoch, as in a record batch's timestamps. It may step. −1 is "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The protocol's "no timestamp".
    pub const NONE: Timestamp = Timestamp(-1);
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Served time: milliseconds during which this shard has been running, over its whole life. It never steps, stands
/// still while the broker is down, and drives every deadline that must survive a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServedTime(pub u64);

impl ServedTime {
    /// The instant `duration` later; the end of time if that is not representable.
    #[must_use]
    pub fn plus(self, duration: Duration) -> ServedTime {
        ServedTime(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: ServedTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for ServedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
