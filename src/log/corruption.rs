//! What recovery says when it will not go on.

use super::disk::DiskError;
use super::options::InvalidOptions;
use crate::types::BlockNumber;
use std::path::PathBuf;
use thiserror::Error;

/// Why a log cannot be opened. Nothing on disk has been changed, unless it is [`RecoverError::Disk`] at the very end.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// Data that were durable are not there.
    #[error(transparent)]
    Corruption(Box<Corruption>),
    /// The file was written by another version of semel.
    #[error("{} has log format {version}, which this version of semel does not know", path.display())]
    UnknownVersion {
        /// The segment file.
        path: PathBuf,
        /// The format's version.
        version: u16,
    },
    /// The disk refused.
    #[error("the log cannot be read back: {0}")]
    Disk(#[from] DiskError),
    /// The thread that prepares segments cannot be started.
    #[error("the log cannot start its thread: {0}")]
    Thread(std::io::Error),
    /// The options contradict the limits.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
}

impl From<Corruption> for RecoverError {
    fn from(corruption: Corruption) -> Self {
        RecoverError::Corruption(Box::new(corruption))
    }
}

/// Damage to durable data: where, what should be there, and how that is known.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the log is damaged: {} should hold block {block} at byte {position}, but {evidence}. Nothing has been changed and \
     nothing is served. Keep the files; restore a backup, or export what is intact: `semel log verify DIR` says what is damaged, \
     `semel log export DIR --topic T --partition P` writes a partition's intact records",
    path.display()
)]
pub struct Corruption {
    /// The segment file (or the clean-stop mark).
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub position: u32,
    /// The first block that is missing or damaged.
    pub block: BlockNumber,
    /// How it is known that the block was there.
    pub evidence: Evidence,
}

/// How it is known that a block was durable, or a file the log's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Evidence {
    /// A block is written only after the one before it is durable.
    #[error("it does not, although the later block {block} is intact in {} at byte {position}", path.display())]
    NewerBlock {
        /// The intact block.
        block: BlockNumber,
        /// Its file.
        path: PathBuf,
        /// Where in that file.
        position: u32,
    },
    /// A segment is begun only after everything before it is durable.
    #[error("it does not, although a segment begun later, {}, starts with block {first_block}", path.display())]
    NextSegment {
        /// The later segment.
        path: PathBuf,
        /// Its first block.
        first_block: BlockNumber,
    },
    /// Rows are made of durable blocks only.
    #[error("it does not, although the store has applied the log up to block {applied}")]
    Applied {
        /// What the store has applied.
        applied: BlockNumber,
    },
    /// The mark is made when everything is durable.
    #[error("it does not, although the log was stopped in order after block {stopped}")]
    Stopped {
        /// Where the mark says the log ends.
        stopped: BlockNumber,
    },
    /// The file's header is neither that of this segment nor one of an earlier life of the file.
    #[error("the file's header is damaged or that of another segment")]
    FileHeader,
    /// The file lost its end.
    #[error("the file is only {length} bytes long, of at least {written} that it had")]
    TooShort {
        /// How long it is.
        length: u32,
        /// How long it was made, at least.
        written: u32,
    },
    /// The file is not there.
    #[error("the file is missing")]
    Missing,
    /// The file is of another log.
    #[error("the file belongs to another log or shard")]
    Foreign,
    /// The clean-stop mark is made in one step, so no crash damages it.
    #[error(
        "the clean-stop mark is damaged, so the end of the log is not known (remove it to start as after a crash)"
    )]
    Mark,
}
