//! What a broker takes from outside itself and nobody tells it: chance, and the time of day. Everything that takes them
//! takes them here, so that a simulation can give its own (`src/sim/`).

use super::Timestamp;
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// 122 bits drawn at random.
#[must_use]
pub fn uuid() -> Uuid {
    #[cfg(test)]
    if let Some(drawn) = simulated::uuid() {
        return drawn;
    }
    Uuid::new_v4()
}

/// 64 bits that nobody chose, to spread what would otherwise happen in step.
#[must_use]
pub fn seed() -> u64 {
    #[cfg(test)]
    if let Some(drawn) = simulated::chance() {
        return drawn;
    }
    RandomState::new().hash_one(0_u8)
}

/// The time of day.
#[must_use]
pub fn wall_clock() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = simulated::wall_clock() {
        return now;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Whether this thread is a simulated world: then nothing may go to another thread.
#[must_use]
pub fn is_simulated() -> bool {
    #[cfg(test)]
    return simulated::is_on();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
pub(crate) use simulated::{Outside, chance, with_outside};

#[cfg(test)]
mod simulated {
    use super::{Timestamp, Uuid};
    use std::cell::RefCell;

    /// What a simulated world gives.
    pub(crate) trait Outside {
        fn chance(&mut self) -> u64;
        fn wall_clock(&self) -> Timestamp;
    }

    thread_local! {
        static OUTSIDE: RefCell<Option<Box<dyn Outside>>> = const { RefCell::new(None) };
    }

    /// Does `work` in a world of its own, on this thread alone.
    pub(crate) fn with_outside<T>(outside: Box<dyn Outside>, work: impl FnOnce() -> T) -> T {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                OUTSIDE.set(None);
            }
        }
        OUTSIDE.set(Some(outside));
        let _leave = Leave;
        work()
    }

    /// 64 bits of a world's chance; none if this thread is no world.
    pub(crate) fn chance() -> Option<u64> {
        OUTSIDE.with_borrow_mut(|outside| outside.as_mut().map(|outside| outside.chance()))
    }

    pub(super) fn uuid() -> Option<Uuid> {
        OUTSIDE.with_borrow_mut(|outside| {
            let outside = outside.as_mut()?;
            let drawn = (u128::from(outside.chance()) << 64) | u128::from(outside.chance());
            Some(uuid::Builder::from_random_bytes(drawn.to_be_bytes()).into_uuid())
        })
    }

    pub(super) fn wall_clock() -> Option<Timestamp> {
        OUTSIDE.with_borrow(|outside| outside.as_ref().map(|outside| outside.wall_clock()))
    }

    pub(super) fn is_on() -> bool {
        OUTSIDE.with_borrow(Option::is_some)
    }
}
