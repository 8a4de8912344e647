//! The clean-stop mark: a small file that is there exactly while the log is known to end where it says.

use super::disk::{Disk, DiskError, Tried};
use super::format::{CleanStop, MARK_LENGTH};
use super::segment::{MARK_NAME, unfinished};
use std::path::{Path, PathBuf};

/// What was found in place of the mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MarkRead {
    /// There is none: the log was not stopped in order.
    Absent,
    /// The log ended here.
    Stopped(CleanStop),
    /// A file that is no mark. It is made in one step, so no crash leaves this.
    Damaged(PathBuf),
}

/// Leaves the mark.
pub(super) fn leave(disk: &dyn Disk, dir: &Path, stop: CleanStop) -> Result<(), DiskError> {
    let path = dir.join(MARK_NAME);
    let new = unfinished(&path);
    let file = disk.create(&new, 0).tried("create", &new)?;
    file.write_at(0, &stop.encode()).tried("write", &new)?;
    file.sync().tried("sync", &new)?;
    disk.rename(&new, &path).tried("rename", &new)?;
    disk.sync_dir(dir).tried("sync the directory", dir)
}

/// Reads the mark.
pub(super) fn read(disk: &dyn Disk, dir: &Path, present: bool) -> Result<MarkRead, DiskError> {
    if !present {
        return Ok(MarkRead::Absent);
    }
    let path = dir.join(MARK_NAME);
    let mut bytes = Vec::new();
    let file = disk.open(&path).tried("open", &path)?;
    // One byte more than there should be, so that a longer file is no mark.
    file.read_at(0, MARK_LENGTH as usize + 1, &mut bytes).tried("read", &path)?;
    Ok(CleanStop::decode(&bytes).map_or(MarkRead::Damaged(path), MarkRead::Stopped))
}

/// Removes the mark, before anything is written.
pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    let path = dir.join(MARK_NAME);
    disk.remove(&path).tried("remove", &path)?;
    disk.sync_dir(dir).tried("sync the directory", dir)
}
