//! Log lines that a hostile peer can cause, a few at a time; all of them are counted.

use super::metrics::NetMetrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Lines of one kind in one window. Enough to see what goes on.
const LINES_MAX: u64 = 20;
/// The window. With it a flood costs at most two lines of a kind per second.
const WINDOW: Duration = Duration::from_secs(10);

/// What a line is about. Each kind has its own allowance, so that one flood does not hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something else than TLS on the port.
    Plaintext,
    /// A handshake failed: no certificate, an expired one, a wrong authority, too slow.
    Handshake,
    /// A limit on connections was reached.
    Seats,
    /// A frame that cannot be.
    Frame,
    /// A peer that sends or reads too slowly.
    Slow,
    /// The broker refused.
    Refused,
    /// The system would not give us another connection.
    Accept,
}

pub(super) const KINDS: usize = 7;

impl Kind {
    /// Every kind, in order.
    pub(super) const ALL: [Kind; KINDS] =
        [Kind::Plaintext, Kind::Handshake, Kind::Seats, Kind::Frame, Kind::Slow, Kind::Refused, Kind::Accept];

    /// What it is called in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Plaintext => "plaintext",
            Kind::Handshake => "handshake",
            Kind::Seats => "limit",
            Kind::Frame => "frame",
            Kind::Slow => "slow",
            Kind::Refused => "request",
            Kind::Accept => "system",
        }
    }
}

/// Counts lines per kind.
#[derive(Debug)]
pub(super) struct Noise {
    metrics: Arc<NetMetrics>,
    origin: Instant,
    windows: [Window; KINDS],
}

#[derive(Debug, Default)]
struct Window {
    number: AtomicU64,
    lines: AtomicU64,
    suppressed: AtomicU64,
}

impl Noise {
    pub(super) fn new(metrics: Arc<NetMetrics>) -> Noise {
        Noise { metrics, origin: Instant::now(), windows: Default::default() }
    }

    /// Calls `log` with the number of lines of this kind that were held back since the last one, if a line is due.
    pub(super) fn line(&self, kind: Kind, log: impl FnOnce(u64)) {
        self.metrics.ended(kind);
        self.line_in(self.origin.elapsed().as_secs() / WINDOW.as_secs(), kind, log);
    }

    fn line_in(&self, now: u64, kind: Kind, log: impl FnOnce(u64)) {
        #[expect(clippy::indexing_slicing, reason = "KINDS counts the variants of Kind")]
        let window = &self.windows[kind as usize];
        // Two peers may both start a window; then a few lines more are written, which is no harm.
        if window.number.swap(now, Ordering::Relaxed) != now {
            window.lines.store(0, Ordering::Relaxed);
        }
        if window.lines.fetch_add(1, Ordering::Relaxed) < LINES_MAX {
            log(window.suppressed.swap(0, Ordering::Relaxed));
        } else {
            window.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_hides_no_other_kind() {
        let noise = Noise::new(Arc::new(NetMetrics::new(&crate::net::Limits::default())));
        let mut lines = Vec::new();
        for _ in 0..1000 {
            noise.line_in(7, Kind::Plaintext, |suppressed| lines.push(suppressed));
        }
        assert_eq!(lines, vec![0; 20]);
        let mut other = 0;
        noise.line_in(7, Kind::Accept, |_| other += 1);
        assert_eq!(other, 1);
        noise.line_in(8, Kind::Plaintext, |suppressed| lines.push(suppressed));
        assert_eq!(lines.last(), Some(&980));
    }
}
