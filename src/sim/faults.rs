//! What has gone wrong in a world, and in the middle of what: a fault that never meets a state has not been tried on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A connection breaks in the middle of what is sent.
    ConnectionLost,
    /// A connection is dead, and neither end hears of it.
    HalfOpen,
    /// A client gives up waiting, and what it has sent arrives later.
    GivenUp,
    /// A client sends again what was acknowledged long ago.
    LateDuplicate,
    /// The process is killed.
    Crash,
    /// The process is killed in the middle of a call to the disk.
    CrashInCall,
    /// The power is cut: what was not synced may be lost, torn or reordered.
    PowerCut,
    /// The power is cut in the middle of a call to the disk.
    PowerCutInCall,
    /// A call to the disk fails.
    CallFailed,
    /// The disk is full.
    DiskFull,
    /// A read from the disk gives a flipped bit.
    BitFlipped,
    /// The time of day jumps.
    ClockJump,
    /// The broker is stopped and started in order.
    Restart,
}

impl Fault {
    pub(crate) const ALL: [Fault; 13] = [
        Fault::ConnectionLost,
        Fault::HalfOpen,
        Fault::GivenUp,
        Fault::LateDuplicate,
        Fault::Crash,
        Fault::CrashInCall,
        Fault::PowerCut,
        Fault::PowerCutInCall,
        Fault::CallFailed,
        Fault::DiskFull,
        Fault::BitFlipped,
        Fault::ClockJump,
        Fault::Restart,
    ];
}

/// What somebody is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Busy {
    /// A batch has been sent, and is not answered.
    Producing,
    /// A transaction has begun.
    InTransaction,
    /// A transaction is prepared.
    Prepared,
    /// Its end has been asked for, and is not answered.
    Ending,
    /// Somebody takes over a transactional id.
    TakingOver,
    /// Offsets have been sent with a transaction, and are not answered.
    SendingOffsets,
    /// A member joins a group.
    Joining,
    /// A member of the consumer protocol has sent a heartbeat, and is not answered.
    Heartbeating,
    /// Such a member has committed offsets in an epoch, and is not answered.
    CommittingInEpoch,
    /// Records with idempotency keys have been sent, and are not answered.
    SendingKeys,
    /// A reader waits for an answer.
    Reading,
    /// The broker starts.
    Starting,
    /// The row store has batches that are not durable.
    RowsBehind,
}

impl Busy {
    pub(crate) const ALL: [Busy; 13] = [
        Busy::Producing,
        Busy::InTransaction,
        Busy::Prepared,
        Busy::Ending,
        Busy::TakingOver,
        Busy::SendingOffsets,
        Busy::Joining,
        Busy::Heartbeating,
        Busy::CommittingInEpoch,
        Busy::SendingKeys,
        Busy::Reading,
        Busy::Starting,
        Busy::RowsBehind,
    ];
}

/// What has gone wrong so far. All clones are one.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Counts>>);

/// How often which fault came, and how often while somebody was busy with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    busy: BTreeMap<Busy, u64>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) pairs: BTreeMap<(Fault, Busy), u64>,
}

/// Somebody is busy for as long as it lives.
pub(crate) struct During(Faults, Busy);

impl Drop for During {
    fn drop(&mut self) {
        if let Some(count) = self.0.0.lock().unwrap().busy.get_mut(&self.1) {
            *count -= 1;
        }
    }
}

impl Faults {
    pub(crate) fn during(&self, busy: Busy) -> During {
        *self.0.lock().unwrap().busy.entry(busy).or_default() += 1;
        During(self.clone(), busy)
    }

    pub(crate) fn note(&self, fault: Fault) {
        let mut counts = self.0.lock().unwrap();
        *counts.faults.entry(fault).or_default() += 1;
        let busy: Vec<Busy> =
            counts.busy.iter().filter(|(_, count)| **count > 0).map(|(busy, _)| *busy).collect();
        for busy in busy {
            *counts.pairs.entry((fault, busy)).or_default() += 1;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { busy: BTreeMap::new(), ..self.0.lock().unwrap().clone() }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
    }

    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:16}{:>8}", "", "all")?;
        Busy::ALL.iter().try_for_each(|busy| write!(f, "{:>18}", format!("{busy:?}")))?;
        for fault in Fault::ALL {
            write!(f, "\n{:16}{:>8}", format!("{fault:?}"), self.of(fault))?;
            for busy in Busy::ALL {
                write!(f, "{:>18}", self.pairs.get(&(fault, busy)).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}
