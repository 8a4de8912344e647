//! Panics of fjall's own threads. Nobody can join those, and what fjall says afterwards is only that it takes nothing more;
//! so what they say when they panic is kept.

use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

/// What fjall calls its threads.
const THREAD: &str = "fjall:worker";

/// What the first of them has said that panicked in this process, of whichever store it was: with two stores, the other one
/// may be made anew for nothing, but only once it takes nothing more either.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Keeps what such a thread says from now on, and leaves the rest to who listened before.
pub(super) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if thread::current().name() == Some(THREAD) {
                FIRST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| info.to_string());
            }
            before(info);
        }));
    });
}

/// What a thread of fjall's has said that panicked, if one has.
pub(super) fn panic() -> Option<String> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_of_fjalls_says_at_its_end_is_kept() {
        listen();
        let other = thread::Builder::new().name("another".into()).spawn(|| panic!("nobody's business"));
        assert!(other.unwrap().join().is_err());
        assert_eq!(panic(), None);
        let worker = thread::Builder::new().name(THREAD.into()).spawn(|| panic!("the tree is upside down"));
        assert!(worker.unwrap().join().is_err());
        assert!(panic().unwrap().contains("the tree is upside down"));
        *FIRST.lock().unwrap() = None;
    }
}
