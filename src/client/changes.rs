//! A value that changes, and those who wait for that. They are woken in the order in which they began to wait: tokio's `watch`
//! has an order of its own, and a simulated world would not be the same twice.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    value: T,
    /// How often it has changed.
    changes: u64,
    /// It changes no more: the sender is gone.
    is_final: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the value.
pub(super) struct Sender<T>(Arc<Shared<T>>);

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().is_final = true;
        self.0.changed.notify_waiters();
    }
}

impl<T> Sender<T> {
    pub(super) fn new(value: T) -> Sender<T> {
        let state = Mutex::new(State { value, changes: 0, is_final: false });
        Sender(Arc::new(Shared { state, changed: Notify::new() }))
    }

    /// Sees all changes from now on.
    pub(super) fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.state().changes;
        Receiver { shared: Arc::clone(&self.0), seen }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.0.state();
        change(&mut state.value);
        state.changes += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }
}

/// Sees the value, and that it changes.
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// How many changes it has seen.
    seen: u64,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.shared.state().value).finish()
    }
}

impl<T> Receiver<T> {
    /// Whether there is a change that it has not seen.
    pub(super) fn has_changed(&self) -> bool {
        self.shared.state().changes != self.seen
    }

    /// It has seen what there is.
    pub(super) fn mark_unchanged(&mut self) {
        self.seen = self.shared.state().changes;
    }

    /// Waits for a change that it has not seen. Nothing is lost if the future is dropped. After the last one it waits for ever.
    pub(super) async fn changed(&mut self) {
        loop {
            // Registered before looking: what changes in between is not missed.
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if self.has_changed() {
                break;
            }
            changed.await;
        }
        self.mark_unchanged();
    }

    /// Waits until the value is as wanted; false if it never will be.
    pub(super) async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let is_final = {
                let state = self.shared.state();
                if wanted(&state.value) {
                    return true;
                }
                state.is_final
            };
            if is_final {
                return false;
            }
            changed.await;
        }
    }

    pub(super) fn value(&self) -> T
    where
        T: Clone,
    {
        self.shared.state().value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn each_receiver_sees_each_change_once() {
        let sender = Sender::new(0);
        let (mut one, mut other) = (sender.subscribe(), sender.subscribe());
        assert!(poll(one.changed()).is_pending());
        sender.change(|value| *value += 1);
        assert!(one.has_changed() && poll(one.changed()).is_ready() && !one.has_changed());
        assert!(poll(one.changed()).is_pending());
        other.mark_unchanged();
        assert!(poll(other.changed()).is_pending(), "it has looked");
        assert!(poll(sender.subscribe().changed()).is_pending(), "what was before is none");
    }

    #[test]
    fn what_is_waited_for_comes_or_never_will() {
        let sender = Sender::new(None);
        let (one, other) = (sender.subscribe(), sender.subscribe());
        assert!(poll(one.wait_for(Option::is_some)).is_pending());
        sender.change(|value| *value = Some(7));
        assert_eq!(poll(one.wait_for(Option::is_some)), Poll::Ready(true));
        assert_eq!(one.value(), Some(7));
        assert!(poll(other.wait_for(Option::is_none)).is_pending());
        drop(sender);
        assert_eq!(poll(other.wait_for(Option::is_none)), Poll::Ready(false));
        assert_eq!(poll(other.wait_for(Option::is_some)), Poll::Ready(true), "also afterwards");
    }
}
