//! The seam between the log and the disk: everything that the log does to a disk goes through these two traits, so that
//! tests run the real log on a disk that loses, tears and fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file system, as far as the log needs one. What it promises is what POSIX promises and no more: bytes are durable
/// after [`DiskFile::sync`], names after [`Disk::sync_dir`]; a rename is atomic.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Makes a directory and its parents, durably; one that exists already is left alone, but for its name's being synced: a
    /// crash may have come between the two.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file with `length` bytes of space set aside, which read as zero. A leftover of that name is
    /// replaced.
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is read once, from its beginning on: nobody needs to remember what it holds.
    fn open_once(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    /// Gives a file another name, in one step; a file that had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes what was created, renamed and removed in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How many names a file has. One that has another name, in a backup, must not be written to.
    fn names(&self, _path: &Path) -> io::Result<u64> {
        Ok(1)
    }

    /// Bytes that may still be written to the file system of `dir` by a process without privileges.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Positions and lengths are in bytes.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Writes all of `bytes` at `position`.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far, and the length, durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `position`, and returns once they are durable. Of what was written before, it says
    /// nothing.
    fn write_durably(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(position, bytes)?;
        self.sync()
    }

    /// Appends to `into` the bytes from `position` on: `length` of them, or fewer only where the file ends. Returns how
    /// many.
    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize>;

    /// Says that these bytes will be read soon, so that the disk can begin with several reads at once.
    fn will_read(&self, _position: u64, _length: u64) {}

    /// How long the file is.
    fn length(&self) -> io::Result<u64>;

    /// Makes the file `length` long: what is cut off is gone, what is added has its space set aside and reads as zero.
    fn resize(&self, length: u64) -> io::Result<()>;
}

/// A disk operation that failed: which, on what, and why.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl DiskError {
    /// The same, for another who is concerned.
    pub(super) fn again(&self) -> DiskError {
        let DiskError { action, path, source } = self;
        let source = match source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        DiskError { action, path: path.clone(), source }
    }
}

/// Says what was tried when a disk operation fails.
pub(super) trait Tried<T> {
    /// Adds the action and the path to an error.
    fn tried(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_path_buf(), source })
    }
}
