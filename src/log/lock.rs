//! Keeps a second process away from a data directory.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Holds a data directory for this process, until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a process that is being made at this moment has the open file too until it executes
    /// another program, and the lock with it.
    fn drop(&mut self) {
        // Closing it follows in any case.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Why the data directory is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "the data directory {} is in use by {holder}; stop that one first, or give this one another directory",
        dir.display()
    )]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it: `process 123`, as that process said itself.
        holder: String,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}: {source}; the directory must exist and be writable", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Bytes of a holder's name that are shown, whatever the file holds.
const HOLDER_LENGTH_MAX: u64 = 32;

impl DirectoryLock {
    /// Takes `dir/lock`, or says who has it. Does not wait.
    pub fn take(dir: &Path) -> Result<DirectoryLock, LockError> {
        let path = dir.join("lock");
        Self::try_take(&path).map_err(|source| LockError::Io { path, source })?.map_err(|holder| {
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            LockError::Held { dir: dir.to_path_buf(), holder }
        })
    }

    fn try_take(path: &Path) -> io::Result<Result<DirectoryLock, String>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = Vec::new();
                file.take(HOLDER_LENGTH_MAX).read_to_end(&mut holder)?;
                return Ok(Err(String::from_utf8_lossy(&holder).trim().to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Ok(DirectoryLock { file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        let refused = DirectoryLock::take(dir.path()).unwrap_err();
        let LockError::Held { holder, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*holder, format!("process {}", std::process::id()));
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }

    #[test]
    fn what_a_process_in_the_making_has_of_it_does_not_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap();
        // As a fork has it: another descriptor of the same open file.
        let _forked = lock.file.try_clone().unwrap();
        drop(lock);
        DirectoryLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        let error = DirectoryLock::take(&missing).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
