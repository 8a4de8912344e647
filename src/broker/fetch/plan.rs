//! Which batches of a partition a fetch answers with, from the index alone: no payload is read to leave a batch out.
//!
//! Pure. What is left out are batches of which compaction has left nothing and, for `read_committed`, those of aborted transactions; markers are kept, and each abort
//! marker that is kept puts one entry on the answer's list (`spec/transactions.md`, R4 and R5).

use crate::core::Outcome;
use crate::log::Place;
use crate::store::{AbortedOutlook, IndexEntry, IndexKind};
use crate::types::{Offset, ProducerId};
use smallvec::SmallVec;

/// A batch that is part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) base: Offset,
    pub(super) last: Offset,
    pub(super) place: Place,
}

/// An abort marker that is part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abort {
    pub(super) producer: ProducerId,
    pub(super) marker: Offset,
}

/// Why a scan stopped where it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// There is nothing more below the end.
    End,
    /// The next batch does not fit any more.
    Full,
    /// It has had its share: what is left is shared once the others have had theirs.
    Share,
    /// It has looked at as many entries as it was to: there may be more.
    Slice,
}

/// How often an answer's room is gone through: what is left after that many shares is little, and each time costs a look at the
/// index of each partition that has more.
const SHARES: usize = 4;

/// Partitions among which what is left is shared: of more, each would have too little for a look at its index.
const SHARING_MAX: usize = 1_024;

/// What room the answer has left, over all of its partitions.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    /// Whether nothing has been kept yet: then the next batch is, however large.
    empty: bool,
    /// Whether a batch has been turned away for want of room.
    pub(super) full: bool,
    /// What each partition may have for now; but one batch at least.
    share: usize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Room {
        Room { left: bytes, empty: true, full: false, share: usize::MAX }
    }

    /// The room for an answer about so many partitions, of which each is to have as much as any other. (Kafka fills an answer in
    /// the order of the partitions. Who has fallen behind in many of them would have to read the log once for each few.)
    pub(super) fn shared(bytes: usize, partitions: usize) -> Room {
        Room { share: bytes / partitions.max(1), ..Room::new(bytes) }
    }

    /// Goes on with these partitions: each first has its share, then those that have more share what is left, and at last it goes by
    /// their order.
    pub(super) fn divide<E>(
        &mut self,
        partitions: &[usize],
        mut advance: impl FnMut(usize, &mut Room) -> Result<Halt, E>,
    ) -> Result<(), E> {
        let mut due: Few<usize> = partitions.iter().copied().collect();
        for round in 1..=SHARES {
            let mut more = Few::new();
            for partition in due {
                if advance(partition, self)? == Halt::Share {
                    more.push(partition);
                }
            }
            if more.is_empty() {
                break;
            }
            self.share = match round + 1 < SHARES && more.len() <= SHARING_MAX {
                true => self.share.saturating_add(self.left / more.len()),
                false => usize::MAX,
            };
            due = more;
        }
        Ok(())
    }

    /// Takes a batch in, if it fits or is the first, for a partition that has `kept` bytes and may have `limit`; else says why not.
    fn admit(&mut self, length: usize, kept: usize, limit: usize) -> Result<(), Halt> {
        if !self.empty && length > limit.saturating_sub(kept).min(self.left) {
            self.full |= length > self.left;
            return Err(Halt::Full);
        }
        if kept > 0 && length > self.share.saturating_sub(kept) {
            return Err(Halt::Share);
        }
        self.empty = false;
        self.left = self.left.saturating_sub(length);
        Ok(())
    }
}

/// A partition as it is being scanned. A scan may go on later, with a newer view: what it has found stays true, since
/// nothing below the end of a view is undecided.
#[derive(Debug)]
pub(super) struct Scan {
    committed: bool,
    limit: usize,
    /// Where the scan goes on.
    pub(super) next: Offset,
    pub(super) kept: Vec<Kept>,
    pub(super) kept_bytes: usize,
    /// In the order of the markers.
    pub(super) aborts: Vec<Abort>,
    /// Bytes that were left out.
    pub(super) dropped_bytes: u64,
}

/// A few of what a partition mostly has for an answer: they need no memory of their own.
pub(super) type Few<T> = SmallVec<[T; 8]>;

/// The rows that a scan reads.
pub(super) trait Rows {
    type Error;

    /// Up to `count` batches, from the one that holds `offset` on, each with its last offset.
    fn batches(&self, offset: Offset, count: usize) -> Result<Few<(Offset, IndexEntry)>, Self::Error>;

    /// The producer's first aborted range whose marker is at `offset` or after it, as (first offset, marker).
    fn next_aborted(
        &self,
        producer: ProducerId,
        offset: Offset,
    ) -> Result<Option<(Offset, Offset)>, Self::Error>;
}

impl Scan {
    /// A scan from `start` on that keeps at most `limit` bytes.
    pub(super) fn new(committed: bool, start: Offset, limit: usize) -> Scan {
        Scan {
            committed,
            limit,
            next: start,
            kept: Vec::new(),
            kept_bytes: 0,
            aborts: Vec::new(),
            dropped_bytes: 0,
        }
    }

    /// How many bytes this partition counts for: one that has no room for its next batch counts as full.
    pub(super) fn credit(&self, halt: Halt) -> usize {
        if halt == Halt::Full { self.kept_bytes.max(self.limit) } else { self.kept_bytes }
    }

    /// Looks at up to `slice` batches below `end`.
    pub(super) fn advance<R: Rows>(
        &mut self,
        rows: &R,
        end: Offset,
        slice: usize,
        room: &mut Room,
    ) -> Result<Halt, R::Error> {
        let mut outlook = AbortedOutlook::default();
        let mut left = slice;
        while left > 0 {
            let count = left.min(BATCHES_AT_ONCE);
            let batches = rows.batches(self.next, count)?;
            let ends = batches.len() < count;
            let fates = if self.committed { fates(&batches) } else { Few::new() };
            let fates = fates.into_iter().chain(std::iter::repeat(None));
            for ((last, entry), fate) in batches.into_iter().zip(fates) {
                if entry.base_offset >= end {
                    return Ok(Halt::End);
                }
                if entry.kind.is_gap() {
                    // Clients take a batch without records for one that did not fit: it must not be in an answer.
                } else if self.committed && is_aborted(&entry, fate, &mut outlook, rows)? {
                    self.dropped_bytes += u64::from(entry.place.length);
                } else if let Err(halt) = self.keep(last, &entry, room) {
                    return Ok(halt);
                }
                self.next = last.next();
            }
            if ends {
                return Ok(Halt::End);
            }
            left -= count;
        }
        Ok(Halt::Slice)
    }

    fn keep(&mut self, last: Offset, entry: &IndexEntry, room: &mut Room) -> Result<(), Halt> {
        let length = usize::try_from(entry.place.length).unwrap_or(usize::MAX);
        room.admit(length, self.kept_bytes, self.limit)?;
        self.kept.push(Kept { base: entry.base_offset, last, place: entry.place });
        self.kept_bytes += length;
        if let IndexKind::Marker { producer, outcome: Outcome::Abort } = entry.kind
            && self.committed
        {
            self.aborts.push(Abort { producer, marker: last });
        }
        Ok(())
    }
}

/// Index entries taken together: most answers need fewer.
const BATCHES_AT_ONCE: usize = 64;

/// How the transactions of these batches ended, where the marker is among them: a producer's next marker is that of its
/// transaction. Small transactions mostly end soon, and then nobody need be asked for aborted ranges.
fn fates(batches: &[(Offset, IndexEntry)]) -> Few<Option<Outcome>> {
    // The oldest marker behind the batch that is being looked at comes last. These are at most BATCHES_AT_ONCE.
    let mut markers: Few<(ProducerId, Outcome)> = Few::new();
    let fate = |(_, entry): &(Offset, IndexEntry)| match entry.kind {
        IndexKind::Marker { producer, outcome } => {
            markers.push((producer, outcome));
            None
        }
        IndexKind::Transactional { producer } => {
            markers.iter().rev().find(|(of, _)| *of == producer).map(|(_, outcome)| *outcome)
        }
        _ => None,
    };
    let mut fates: Few<_> = batches.iter().rev().map(fate).collect();
    fates.reverse();
    fates
}

/// Whether a batch below the last stable offset belongs to an aborted transaction.
fn is_aborted<R: Rows>(
    entry: &IndexEntry,
    fate: Option<Outcome>,
    outlook: &mut AbortedOutlook,
    rows: &R,
) -> Result<bool, R::Error> {
    match fate {
        Some(outcome) => Ok(outcome == Outcome::Abort),
        None => outlook.is_aborted(entry, |producer, offset| rows.next_aborted(producer, offset)),
    }
}

#[cfg(test)]
mod tests;
