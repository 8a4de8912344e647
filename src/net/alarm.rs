//! Deadlines for waiting on a peer, without a timer operation per frame.

use super::session::Ending;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A timer that is kept over many waits. Deadlines mostly move away: it is then left where it stands, and set anew
/// only when it fires too early.
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

/// How a guarded wait ended without what was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// The deadline passed.
    Late,
    /// The broker is stopping.
    Stopping,
}

impl Alarm {
    pub(super) fn new(first: Duration) -> Alarm {
        Alarm { sleep: Box::pin(tokio::time::sleep(first)) }
    }

    fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// Waits for `future`, but not past `deadline`, and not when the broker is stopping.
    pub(super) async fn guard<F: Future>(
        &mut self,
        stopping: &Stopping,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Interrupted> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if stopping.is_set() {
                return Poll::Ready(Err(Interrupted::Stopping));
            }
            self.poll(context, deadline).map(|()| Err(Interrupted::Late))
        })
        .await
    }
}

/// Tells a session's reader to take no further frame. The task that sets it polls the reader afterwards, so nobody
/// needs waking.
#[derive(Debug, Default)]
pub(super) struct Stopping(AtomicBool);

impl Stopping {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for `future`, but not when the broker is stopping.
    pub(super) async fn guard<F: Future>(&self, future: F) -> Result<F::Output, Ending> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.is_set() => Poll::Ready(Err(Ending::Stopping)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// How fast a transfer must go: some time for nothing, and then a least rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    started: Instant,
    grace: Duration,
    bytes_per_second: u64,
}

impl Pace {
    pub(super) fn start(grace: Duration, bytes_per_second: u64) -> Pace {
        Pace { started: Instant::now(), grace, bytes_per_second: bytes_per_second.max(1) }
    }

    /// The instant by which more than `bytes` must have been transferred.
    pub(super) fn deadline(&self, bytes: usize) -> Instant {
        let millis = (bytes as u64).saturating_mul(1000) / self.bytes_per_second;
        self.started + self.grace + Duration::from_millis(millis)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
