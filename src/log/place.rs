//! Where things lie in the log, and where the next block goes. Nothing here touches a disk.

use super::format::{FILE_HEADER_LENGTH, PAGE};
use crate::types::BlockNumber;
use std::fmt;
use thiserror::Error;

/// The number of a segment file: from 1, without gaps among the segments above the last checkpoint. Files of moved frames
/// are numbered apart, with the highest bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u64);

/// The bit that tells files of moved frames from segments of blocks.
const MOVED: u64 = 1 << 63;

impl SegmentNumber {
    /// The segment that a new log begins with.
    pub const FIRST: SegmentNumber = SegmentNumber(1);

    /// The file number `number` of moved frames.
    #[must_use]
    pub fn moved(number: u64) -> SegmentNumber {
        SegmentNumber(number | MOVED)
    }

    /// Whether the file holds frames that were moved: it is no part of the sequence of blocks.
    #[must_use]
    pub fn is_moved(self) -> bool {
        self.0 & MOVED != 0
    }

    /// The number as it stands in the file's name.
    #[must_use]
    pub fn in_name(self) -> u64 {
        self.0 & !MOVED
    }

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> SegmentNumber {
        SegmentNumber(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_moved() { "moved-" } else { "" };
        write!(f, "{kind}{}", self.in_name())
    }
}

/// Where a frame with a payload lies: what an index row holds, and what [`super::Reader::read`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The segment file.
    pub segment: SegmentNumber,
    /// Bytes from the start of the file to the *frame* (its header lies before the payload).
    pub position: u32,
    /// Bytes of the *payload*.
    pub length: u32,
    /// The payload's checksum: what lies there must be what was meant, and not only be intact.
    pub checksum: u32,
}

/// A [`Place`] before it is known where its block goes: counted from the start of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceInBlock {
    /// Bytes from the start of the block to the frame.
    pub position: u32,
    /// Bytes of the payload.
    pub length: u32,
    /// The payload's checksum.
    pub checksum: u32,
}

impl PlaceInBlock {
    /// The place in the log, once the block has been given its own.
    #[must_use]
    pub fn at(self, block: At) -> Place {
        Place {
            segment: block.segment,
            position: block.position.saturating_add(self.position),
            length: self.length,
            checksum: self.checksum,
        }
    }
}

/// Where a block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The segment file.
    pub segment: SegmentNumber,
    /// Bytes from the start of the file, a multiple of 4 KiB.
    pub position: u32,
}

impl At {
    /// The start of a segment's first block, right behind the file header.
    #[must_use]
    pub fn start_of(segment: SegmentNumber) -> At {
        At { segment, position: FILE_HEADER_LENGTH }
    }

    /// Whether the block that begins here is the first of its segment.
    #[must_use]
    pub fn is_first(self) -> bool {
        self.position == FILE_HEADER_LENGTH
    }
}

/// How far the rows have come: the last block that is in them, and where it lies. It is written into the store in the
/// same batch as the rows; recovery reads this block again, to see that store and log belong together, and goes on
/// behind it. So its segment is in use for as long as the checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last block applied.
    pub block: BlockNumber,
    /// Where that block begins.
    pub at: At,
}

impl Checkpoint {
    /// Nothing is applied: recovery starts from the beginning of the log.
    pub const START: Checkpoint = Checkpoint {
        block: BlockNumber::ZERO,
        at: At { segment: SegmentNumber::FIRST, position: FILE_HEADER_LENGTH },
    };
}

/// Says where the next block goes. Pure, so that the shard knows the places of a block before the writer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: At,
    /// How long the file that `next` points into is; it may be older than the configuration.
    length: u32,
    segment_length: u32,
}

/// A block that no segment could hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a block of {length} bytes does not fit into a segment of {segment_length} bytes")]
pub struct BlockTooLong {
    /// The block's length in bytes.
    pub length: u32,
    /// The configured length of a segment in bytes.
    pub segment_length: u32,
}

impl Cursor {
    /// A cursor that gives out `next` first. `length` is that of the file which `next` points into, `segment_length`
    /// that of files to come.
    #[must_use]
    pub fn new(next: At, length: u32, segment_length: u32) -> Cursor {
        Cursor { next, length, segment_length }
    }

    /// Where the next block would begin if it fits there.
    #[must_use]
    pub fn next(&self) -> At {
        self.next
    }

    /// Gives a block of `length` bytes (a multiple of 4 KiB) its place: behind the last one, or at the start of the
    /// next segment if this one has no room for it.
    pub fn assign(&mut self, length: u32) -> Result<At, BlockTooLong> {
        debug_assert!(length.is_multiple_of(PAGE), "blocks are padded");
        if let Some(end) = self.next.position.checked_add(length).filter(|end| *end <= self.length) {
            let at = self.next;
            self.next.position = end;
            return Ok(at);
        }
        let segment_length = self.segment_length;
        let at = At::start_of(self.next.segment.next());
        let end = at
            .position
            .checked_add(length)
            .filter(|end| *end <= segment_length)
            .ok_or(BlockTooLong { length, segment_length })?;
        self.next = At { segment: at.segment, position: end };
        self.length = segment_length;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_does_not_fit_begins_the_next_segment() {
        let mut cursor = Cursor::new(At::start_of(SegmentNumber(7)), 5 * PAGE, 4 * PAGE);
        assert_eq!(cursor.assign(3 * PAGE).unwrap(), At { segment: SegmentNumber(7), position: PAGE });
        assert_eq!(cursor.assign(2 * PAGE).unwrap(), At { segment: SegmentNumber(8), position: PAGE });
        assert_eq!(cursor.assign(PAGE).unwrap(), At { segment: SegmentNumber(8), position: 3 * PAGE });
        assert_eq!(cursor.assign(PAGE).unwrap(), At { segment: SegmentNumber(9), position: PAGE });
        let before = cursor.clone();
        cursor.assign(4 * PAGE).unwrap_err();
        assert_eq!(cursor, before, "a refused block takes no place");
    }
}
