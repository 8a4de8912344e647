//! Memory budgets: bytes are reserved before they are read or built, and given back when they are done with.

use super::limits::Limits;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Which memory pays for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Produce requests.
    Produce,
    /// Answers to fetch requests. Answers have memory of their own: a request holds its frame while it waits for the memory of
    /// its answer, so if both came out of one budget, requests could fill it and wait for each other for ever.
    Fetch,
    /// Fetch requests, while they wait for records.
    FetchRequests,
    /// Everything else: transactions, groups, metadata, administration.
    Control,
    /// Large answers to those.
    Answers,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Budget::Produce => "produce_bytes",
            Budget::Fetch => "fetch_bytes",
            Budget::FetchRequests | Budget::Control | Budget::Answers => "control_bytes",
        })
    }
}

/// The budgets. Cheap to clone: all clones share them.
#[derive(Clone, Debug)]
pub struct Budgets {
    produce: Account,
    fetch: Account,
    fetch_requests: Account,
    control: Account,
    answers: Account,
}

#[derive(Clone, Debug)]
struct Account {
    capacity: usize,
    free: Arc<Semaphore>,
    /// What large frames may hold of it while they are being read.
    for_large: Arc<Semaphore>,
}

/// Frames above this are large: ordinary producers send at most 1 MiB (`max.request.size`) and a little.
const LARGE_FRAME_BYTES: usize = (1 << 20) + (64 << 10);
/// The part of a budget that large frames may hold while they are being read.
const LARGE_SHARE: usize = 2;

/// Why bytes cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// They will not be free however long one waits.
    #[error("{asked} bytes are more than all of {budget} ({capacity})")]
    NeverFits {
        /// The budget asked.
        budget: Budget,
        /// The bytes asked for.
        asked: usize,
        /// All that the budget has.
        capacity: usize,
    },
    /// They are not free now (only [`Budgets::try_reserve`]).
    #[error("{asked} bytes of {budget} are not free now")]
    NotNow {
        /// The budget asked.
        budget: Budget,
        /// The bytes asked for.
        asked: usize,
    },
}

impl Budgets {
    /// Budgets of the sizes that the limits name.
    #[must_use]
    pub fn new(limits: &Limits) -> Budgets {
        Budgets {
            produce: Account::new(limits.produce_bytes),
            fetch: Account::new(limits.fetch_bytes),
            fetch_requests: Account::new(limits.control_bytes),
            control: Account::new(limits.control_bytes),
            answers: Account::new(limits.control_bytes),
        }
    }

    /// Reserves bytes, waiting in line until they are free. First come, first served: a large reservation is not
    /// overtaken by small ones. Dropping the future leaves the line.
    pub async fn reserve(&self, budget: Budget, bytes: usize) -> Result<Permit, ReserveError> {
        let account = self.account(budget);
        let count = account.count(budget, bytes)?;
        match Arc::clone(&account.free).acquire_many_owned(count).await {
            Ok(permit) => Ok(Permit(Some(permit))),
            // The semaphores are never closed; if they were, nothing would fit any more.
            Err(_) => Err(ReserveError::NeverFits { budget, asked: bytes, capacity: 0 }),
        }
    }

    /// Reserves the bytes of a frame that is about to be read. While it is read, large frames together hold at most
    /// half of the budget: peers that announce much and send little can hold up each other, but not the rest.
    pub(super) async fn reserve_frame(
        &self,
        budget: Budget,
        bytes: usize,
    ) -> Result<FramePermit, ReserveError> {
        let account = self.account(budget);
        let large = if bytes > LARGE_FRAME_BYTES {
            let count = account.count(budget, bytes.min(account.capacity / LARGE_SHARE))?;
            Arc::clone(&account.for_large).acquire_many_owned(count).await.ok()
        } else {
            None
        };
        Ok(FramePermit { permit: self.reserve(budget, bytes).await?, _large: large })
    }

    /// Reserves bytes if they are free now and nobody waits for them.
    pub fn try_reserve(&self, budget: Budget, bytes: usize) -> Result<Permit, ReserveError> {
        let account = self.account(budget);
        let count = account.count(budget, bytes)?;
        match Arc::clone(&account.free).try_acquire_many_owned(count) {
            Ok(permit) => Ok(Permit(Some(permit))),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                Err(ReserveError::NotNow { budget, asked: bytes })
            }
        }
    }

    /// All bytes of a budget.
    #[must_use]
    pub fn capacity(&self, budget: Budget) -> usize {
        self.account(budget).capacity
    }

    /// The bytes of a budget that are reserved now.
    #[must_use]
    pub fn in_use(&self, budget: Budget) -> usize {
        let account = self.account(budget);
        account.capacity.saturating_sub(account.free.available_permits())
    }

    fn account(&self, budget: Budget) -> &Account {
        match budget {
            Budget::Produce => &self.produce,
            Budget::Fetch => &self.fetch,
            Budget::FetchRequests => &self.fetch_requests,
            Budget::Control => &self.control,
            Budget::Answers => &self.answers,
        }
    }
}

impl Account {
    fn new(bytes: usize) -> Account {
        let capacity = bytes.min(Semaphore::MAX_PERMITS);
        Account {
            capacity,
            free: Arc::new(Semaphore::new(capacity)),
            for_large: Arc::new(Semaphore::new(capacity / LARGE_SHARE)),
        }
    }

    fn count(&self, budget: Budget, bytes: usize) -> Result<u32, ReserveError> {
        let never = ReserveError::NeverFits { budget, asked: bytes, capacity: self.capacity };
        if bytes > self.capacity { Err(never) } else { u32::try_from(bytes).map_err(|_| never) }
    }
}

/// Reserved bytes. They are free again when this is dropped.
#[derive(Debug)]
#[must_use = "the bytes are free again as soon as the permit is dropped"]
pub struct Permit(Option<OwnedSemaphorePermit>);

impl Permit {
    /// A permit for no bytes.
    pub fn none() -> Permit {
        Permit(None)
    }

    /// How many bytes are reserved.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back all but `bytes`: for an answer that came out smaller than what was reserved for it.
    pub fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes().saturating_sub(bytes);
        if let Some(permit) = &mut self.0 {
            drop(permit.split(spare));
        }
    }

    /// Adds another permit of the same budget to this one.
    pub fn absorb(&mut self, mut other: Permit) {
        match (&mut self.0, other.0.take()) {
            (Some(permit), Some(more)) if Arc::ptr_eq(permit.semaphore(), more.semaphore()) => {
                permit.merge(more)
            }
            (place @ None, Some(more)) => *place = Some(more),
            _ => {}
        }
    }

    /// Ties the reservation to a chunk of an answer: the bytes are free again when the last copy of the chunk is
    /// dropped, which is when it has been written (over QUIC: when the peer has acknowledged it).
    pub fn attach(self, chunk: Bytes) -> Bytes {
        Bytes::from_owner(Held { chunk, _permit: self })
    }
}

/// The reservation of a frame that is being read.
#[derive(Debug)]
pub(super) struct FramePermit {
    permit: Permit,
    _large: Option<OwnedSemaphorePermit>,
}

impl FramePermit {
    /// The frame is there.
    pub(super) fn read(self) -> Permit {
        self.permit
    }
}

struct Held {
    chunk: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn budgets(produce_bytes: usize) -> Budgets {
        Budgets::new(&Limits { produce_bytes, ..Limits::default() })
    }

    #[test]
    fn a_full_budget_makes_the_next_wait_in_line_and_leaves_the_others_alone() {
        let budgets = budgets(100);
        let first = budgets.try_reserve(Budget::Produce, 80).unwrap();
        let mut large = pin!(budgets.reserve(Budget::Produce, 90));
        let mut small = pin!(budgets.reserve(Budget::Produce, 10));
        let mut context = Context::from_waker(Waker::noop());
        assert!(large.as_mut().poll(&mut context).is_pending());
        assert!(
            small.as_mut().poll(&mut context).is_pending(),
            "the small one must not overtake the large one"
        );
        assert!(budgets.try_reserve(Budget::Control, 1000).is_ok());
        drop(first);
        let Poll::Ready(Ok(large)) = large.as_mut().poll(&mut context) else { panic!("80 bytes came free") };
        assert_eq!(large.bytes(), 90);
        assert!(small.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn what_never_fits_is_said_at_once() {
        let error = budgets(100).try_reserve(Budget::Produce, 101).unwrap_err();
        assert_eq!(error, ReserveError::NeverFits { budget: Budget::Produce, asked: 101, capacity: 100 });
    }

    #[test]
    fn an_attached_permit_lives_as_long_as_the_last_copy_of_its_chunk() {
        let budgets = budgets(100);
        let mut permit = budgets.try_reserve(Budget::Produce, 50).unwrap();
        permit.shrink_to(4);
        assert_eq!(budgets.in_use(Budget::Produce), 4);
        let chunk = permit.attach(Bytes::from_static(b"abcd"));
        let copy = chunk.slice(1..2);
        drop(chunk);
        assert_eq!(budgets.in_use(Budget::Produce), 4);
        drop(copy);
        assert_eq!(budgets.in_use(Budget::Produce), 0);
    }
}
