//! What can be configured about a log, with the limits.

use super::ahead::Preparation;
use super::format::{LogId, PAGE, ShardNumber};
use crate::types::BlockNumber;
use std::path::PathBuf;
use thiserror::Error;

/// Length of a segment file in bytes, unless configured: long enough that rolling over is rare, short enough that
/// space comes back in small pieces.
pub const SEGMENT_LENGTH_DEFAULT: u32 = 128 << 20;
/// Shortest segment: a quarter of it must hold a block of two pages.
pub const SEGMENT_LENGTH_MIN: u32 = 8 * PAGE;
/// Longest segment: positions are 32 bits, and an unclean start reads up to two segments.
pub const SEGMENT_LENGTH_MAX: u32 = 1 << 30;
/// Freed segment files kept for reuse, unless configured: at most half a gigabyte with default segments.
pub const SPARES_MAX_DEFAULT: usize = 4;
/// Bytes of recent blocks kept in memory, unless configured: a few seconds of a busy log.
pub const RECENT_BYTES_MAX_DEFAULT: usize = 64 << 20;
/// Segment files open for reading at a time, unless configured: far below the usual limit of 1024 per process.
pub const OPEN_FILES_MAX_DEFAULT: usize = 128;

/// How to open a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The log's own directory; made if it does not exist.
    pub dir: PathBuf,
    /// The shard whose log it is.
    pub shard: ShardNumber,
    /// Identity of the log if it has to be made: 128 random bits.
    pub id_if_new: LogId,
    /// Length of new segment files in bytes: a multiple of 4 KiB from [`SEGMENT_LENGTH_MIN`] to
    /// [`SEGMENT_LENGTH_MAX`].
    pub segment_length: u32,
    /// Freed segment files kept for reuse, however short the log is; for a long one the recycler may be asked for more.
    pub spares_max: usize,
    /// Who prepares segment files.
    pub preparation: Preparation,
    /// Bytes of recent blocks kept in memory for readers. The newest block is kept only if it fits; memory behind
    /// payloads that somebody still holds, four times what was read together at most, is not counted, and buffers may be up to twice as long as their blocks.
    pub recent_bytes_max: usize,
    /// Segment files open for reading at a time.
    pub open_files_max: usize,
    /// The last block that something beside the log says is durable, and where it lies: such a block stays where it is.
    pub durable: BlockNumber,
}

/// The options contradict the limits.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "a log segment of {segment_length} bytes is not possible: it must be a multiple of {PAGE} between \
     {SEGMENT_LENGTH_MIN} and {SEGMENT_LENGTH_MAX}"
)]
pub struct InvalidOptions {
    /// What was asked for.
    pub segment_length: u32,
}

impl LogOptions {
    /// The defaults, for a log in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf, shard: ShardNumber, id_if_new: LogId) -> LogOptions {
        LogOptions {
            dir,
            shard,
            id_if_new,
            segment_length: SEGMENT_LENGTH_DEFAULT,
            spares_max: SPARES_MAX_DEFAULT,
            preparation: Preparation::default(),
            recent_bytes_max: RECENT_BYTES_MAX_DEFAULT,
            open_files_max: OPEN_FILES_MAX_DEFAULT,
            durable: BlockNumber::ZERO,
        }
    }

    /// Longest block in bytes: a quarter of a segment, so that little of a segment is left unused when a block does
    /// not fit. It must be at least the largest decision.
    #[must_use]
    pub fn block_length_max(&self) -> u32 {
        let quarter = self.segment_length / 4;
        quarter - quarter % PAGE
    }

    pub(super) fn check(&self) -> Result<(), InvalidOptions> {
        let segment_length = self.segment_length;
        let possible = (SEGMENT_LENGTH_MIN..=SEGMENT_LENGTH_MAX).contains(&segment_length);
        if possible && segment_length.is_multiple_of(PAGE) {
            return Ok(());
        }
        Err(InvalidOptions { segment_length })
    }
}
