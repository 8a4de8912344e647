//! What can be wrong with a backup.

use crate::log::{CopyError, DiskError};
use crate::store::{SnapshotError, StoreError};
use std::path::PathBuf;

/// A backup cannot be taken, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no manifest.
    #[error("{} is no backup, or not a whole one: it has no manifest", .0.display())]
    NoManifest(PathBuf),
    /// The manifest is not as it was written.
    #[error("the manifest {} is damaged: {reason}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program has written it.
    #[error("{} is a backup of format {version}, which this version of semel does not know", path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A file is not there.
    #[error("the backup lacks its file {}", .0.display())]
    Missing(PathBuf),
    /// A file has another length.
    #[error("the backup's file {} has {found} bytes instead of {expected}", path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// How long it is.
        found: u64,
        /// How long it was.
        expected: u64,
    },
    /// Only an empty directory is restored into.
    #[error("{} is not empty: a backup is restored into a directory of its own", .0.display())]
    NotEmpty(PathBuf),
    /// It was given up.
    #[error("the backup was given up, because {0}")]
    GivenUp(&'static str),
    /// The log does not have the block up to which it was to be copied.
    #[error("block {block} is not in the log's files")]
    NoEnd {
        /// The block.
        block: u64,
    },
    /// The end of the log cannot be copied.
    #[error(transparent)]
    Copy(CopyError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The rows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Says what was tried when the file system refuses.
pub(super) trait Tried<T> {
    fn tried(self, action: &'static str, path: &std::path::Path) -> Result<T, BackupError>;
}

impl<T> Tried<T> for std::io::Result<T> {
    fn tried(self, action: &'static str, path: &std::path::Path) -> Result<T, BackupError> {
        self.map_err(|source| BackupError::Io { action, path: path.to_path_buf(), source })
    }
}
