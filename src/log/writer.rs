//! The writer thread's half of the log: puts sealed blocks on disk, one after the other.

use super::ahead::{Ahead, Recycler};
use super::block::PlacedBlock;
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{CleanStop, FileHeader, Identity};
use super::mark;
use super::place::{At, SegmentNumber};
use super::segment::Prepared;
use crate::types::BlockNumber;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Writes blocks. Owned by one thread.
///
/// Any error is final: what the disk then holds is not known (a failed fdatasync may have dropped the pages and says so
/// only once), so every later call answers [`WriteError::Failed`], and the process ends. The next start reads what
/// really is there.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    segment_length: u32,
    state: State,
    /// The last block written, and where the next one may go.
    last: BlockNumber,
    end: At,
    /// What this writer has put into the current segment.
    filled: Filled,
    ahead: Ahead,
}

/// Blocks that are longer than this, on average, get new files whose space is only set aside. Filling them with zeroes before
/// would take as much of the disk's bandwidth as the blocks take, and spares a block a fifth of a millisecond
/// (`spec/performance.md`, "Zeroes").
const ZEROES_BLOCK_BYTES: u64 = 32 << 10;

/// How much has been put into a segment.
#[derive(Debug, Default)]
struct Filled {
    blocks: u64,
    bytes: u64,
}

impl Filled {
    fn add(&mut self, bytes: u32) {
        self.blocks += 1;
        self.bytes += u64::from(bytes);
    }

    /// Whether blocks like these gain from a file that was written before.
    fn wants_zeroes(&self) -> bool {
        self.bytes <= self.blocks.saturating_mul(ZEROES_BLOCK_BYTES)
    }
}

#[derive(Debug)]
enum State {
    /// The file that blocks go to.
    Open { file: Box<dyn DiskFile>, path: PathBuf },
    /// A write has failed.
    Failed,
}

/// Why a block is not durable. Whatever it is, the process must end.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The disk refused.
    #[error("the log cannot make block {block} durable: {source}")]
    Disk {
        /// The block.
        block: BlockNumber,
        /// What was refused.
        source: DiskError,
    },
    /// The block is not the one after the last, or not where it belongs: an error in the program.
    #[error("block {block} at {at:?} was to be written after block {last}, which ends at {end:?}")]
    OutOfOrder {
        /// The block.
        block: BlockNumber,
        /// Where it was to go.
        at: At,
        /// The last block written.
        last: BlockNumber,
        /// Where that one ends.
        end: At,
    },
    /// The thread that prepares segment files is gone.
    #[error("the log cannot begin segment {segment}: the thread that prepares segments has ended")]
    NoSegment {
        /// The segment.
        segment: SegmentNumber,
    },
    /// An earlier write has failed.
    #[error("the log has failed before and writes nothing more; restart semel")]
    Failed,
}

/// Why the log could not be stopped in order.
#[derive(Debug, Error)]
pub enum StopError {
    /// An earlier write has failed, so nothing can be said about the end of the log.
    #[error("the log has failed before, so it cannot be marked as stopped in order")]
    Failed,
    /// The disk refused.
    #[error("the log cannot be marked as stopped in order; the next start will check its tail: {0}")]
    Disk(#[from] DiskError),
}

/// What a writer starts from.
pub(super) struct WriterStart {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) identity: Identity,
    pub(super) segment_length: u32,
    pub(super) current: Prepared,
    pub(super) last: BlockNumber,
    pub(super) end: At,
    pub(super) ahead: Ahead,
}

impl Writer {
    pub(super) fn new(start: WriterStart) -> Writer {
        let WriterStart { disk, dir, identity, segment_length, current, last, end, ahead } = start;
        // How long the blocks will be nobody knows yet; so far the disk has nothing else to do.
        ahead.ask(current.segment.next(), true);
        let state = State::Open { file: current.file, path: current.path };
        Writer { disk, dir, identity, segment_length, state, last, end, filled: Filled::default(), ahead }
    }

    /// Which log this is: what blocks are stamped with.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The last block that is durable.
    #[must_use]
    pub fn last(&self) -> BlockNumber {
        self.last
    }

    /// Writes a block where the cursor has put it, and returns once it is durable.
    pub fn write(&mut self, placed: &PlacedBlock) -> Result<(), WriteError> {
        let result = self.try_write(placed);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn try_write(&mut self, PlacedBlock { block, at }: &PlacedBlock) -> Result<(), WriteError> {
        self.check_order(block.number(), *at)?;
        if at.segment != self.end.segment {
            self.roll_to(at.segment, block.number())?;
        }
        let State::Open { file, path } = &self.state else { return Err(WriteError::Failed) };
        let failed = |source| WriteError::Disk { block: block.number(), source };
        if at.is_first() {
            let header = FileHeader {
                identity: self.identity,
                segment: at.segment,
                first_block: block.number(),
                length: self.segment_length,
            };
            file.write_durably(0, &header.encode()).tried("write", path).map_err(failed)?;
        }
        file.write_durably(u64::from(at.position), block.bytes()).tried("write", path).map_err(failed)?;
        self.filled.add(block.length());
        self.last = block.number();
        self.end = At { segment: at.segment, position: at.position.saturating_add(block.length()) };
        Ok(())
    }

    fn check_order(&self, block: BlockNumber, at: At) -> Result<(), WriteError> {
        if matches!(self.state, State::Failed) {
            return Err(WriteError::Failed);
        }
        if block == self.last.next() && (at == self.end || at == At::start_of(self.end.segment.next())) {
            return Ok(());
        }
        Err(WriteError::OutOfOrder { block, at, last: self.last, end: self.end })
    }

    fn roll_to(&mut self, segment: SegmentNumber, block: BlockNumber) -> Result<(), WriteError> {
        let prepared = match self.ahead.take(segment) {
            Some(Ok(prepared)) if prepared.segment == segment => prepared,
            Some(Err(source)) => return Err(WriteError::Disk { block, source }),
            Some(Ok(_)) | None => return Err(WriteError::NoSegment { segment }),
        };
        self.state = State::Open { file: prepared.file, path: prepared.path };
        self.ahead.ask(segment.next(), std::mem::take(&mut self.filled).wants_zeroes());
        Ok(())
    }

    /// What takes freed segments back.
    #[must_use]
    pub fn recycler(&self) -> Recycler {
        self.ahead.recycler()
    }

    /// Leaves the mark that says that the log ends here and is all durable. Nothing may be written afterwards.
    pub fn stop(self) -> Result<(), StopError> {
        let Writer { disk, dir, identity, state, last, ahead, .. } = self;
        if matches!(state, State::Failed) {
            return Err(StopError::Failed);
        }
        // No segment is being prepared any more when the mark is made.
        drop(ahead);
        Ok(mark::leave(&*disk, &dir, CleanStop { identity, block: last })?)
    }
}
