//! The log room: a shard's blocks on disk.
//!
//! Comes in: frames that the shard has decided (an event and perhaps a payload, both opaque here). Goes out: places of
//! payloads, the word that a block is durable, payloads by their place, and after a start every block that the rows do
//! not have yet. [`BlockBuilder`] and [`Cursor`] are pure and belong to the deciding thread; [`Writer`] belongs to the
//! writing thread; [`Reader`] is everybody's; [`recover`] comes before all of them. `spec/log-format.md` has the bytes
//! and the rules.
//!
//! It must never call a block durable that a power cut could take back, never take damage for the end of the log, and
//! never go on after the disk has failed once.

mod ahead;
mod block;
mod buffer;
mod copy;
mod corruption;
mod disk;
mod format;
mod inspect;
mod lock;
mod look;
mod mark;
mod moved;
mod options;
mod place;
mod read_once;
mod reader;
mod real_disk;
mod recover;
mod scan;
mod segment;
mod space;
mod spans;
mod survey;
mod walk;
mod writer;

pub use ahead::{Preparation, Recycler};
pub use block::{Block, BlockBuilder, BlockFull, BlockStamp, Frame, Frames, PlacedBlock};
pub use copy::{CopiedSegment, CopyError};
pub use corruption::{Corruption, Evidence, RecoverError};
pub use disk::{Disk, DiskError, DiskFile};
pub use format::{BlockHeader, FrameHeader, Identity, LogId, PAGE, ShardNumber};
pub use inspect::{Damage, InspectError, InspectedFile, LogFiles, Piece, Pieces};
pub use lock::{DirectoryLock, LockError};
pub use moved::MovedWriter;
pub use options::{
    InvalidOptions, LogOptions, OPEN_FILES_MAX_DEFAULT, RECENT_BYTES_MAX_DEFAULT, SEGMENT_LENGTH_DEFAULT,
    SEGMENT_LENGTH_MAX, SEGMENT_LENGTH_MIN, SPARES_MAX_DEFAULT,
};
pub use place::{At, BlockTooLong, Checkpoint, Cursor, Place, PlaceInBlock, SegmentNumber};
pub use reader::{Finding, Payload, ReadError, Reader, Recents, Retired};
pub use real_disk::RealDisk;
pub use recover::{Left, Log, Recovery, recover};
pub use scan::{Pick, Scan, ScanError, ScannedFrame, Segments};
pub use space::Space;
pub use writer::{StopError, WriteError, Writer};

#[cfg(test)]
pub(crate) mod tests;
