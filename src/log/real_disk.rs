//! The system's own file system.

use super::disk::{Disk, DiskFile};
use super::format::PAGE;
use super::read_once::ReadOnce;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, fdatasync, statvfs};
use rustix::io::{Errno, ReadWriteFlags, pread, pwritev2};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// The disk of the machine the broker runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let made = path.ancestors().take_while(|dir| !dir.is_dir()).count();
        fs::create_dir_all(path)?;
        // The names of those made, and the directory's own.
        let parents = path.ancestors().skip(1).take(made.max(1));
        parents.filter(|parent| !parent.as_os_str().is_empty()).try_for_each(|parent| self.sync_dir(parent))
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let file = RealFile::new(file);
        file.resize(length)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile::new(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_once(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        match ReadOnce::open(path) {
            Ok(file) => Ok(Box::new(file)),
            // A file system that has no such thing.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => self.open(path),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn names(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.nlink())
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let space = statvfs(dir)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// A file. Whole pages that must be durable at once go past the page cache: filling it with a log that is read from
/// memory anyway takes time and memory, and one write that is durable when it returns is quicker than a write and a sync.
#[derive(Debug)]
struct RealFile {
    file: File,
    /// The same file for such writes, opened with the first of them; none where the file system has no such thing.
    direct: OnceLock<Option<File>>,
}

impl RealFile {
    fn new(file: File) -> RealFile {
        RealFile { file, direct: OnceLock::new() }
    }

    /// The file for a direct write, if it can be one.
    fn direct(&self, position: u64, bytes: &[u8]) -> Option<&File> {
        let whole = position.is_multiple_of(u64::from(PAGE))
            && bytes.len().is_multiple_of(PAGE as usize)
            && bytes.as_ptr().align_offset(PAGE as usize) == 0;
        if !whole {
            return None;
        }
        // By descriptor, because the file may have got another name since it was opened.
        let open = || {
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let flags = OFlags::DIRECT.bits().cast_signed();
            OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn write_durably(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(direct) = self.direct(position, bytes) {
            match pwritev2(direct, &[IoSlice::new(bytes)], position, ReadWriteFlags::DSYNC) {
                Ok(written) if written == bytes.len() => return Ok(()),
                // Not to be had here, or only in part: then in the way that always works.
                Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.write_at(position, bytes)?;
        self.sync()
    }

    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let start = into.len();
        into.reserve_exact(length);
        while into.len() - start < length {
            let done = into.len() - start;
            // Reads into memory that was never zeroed; the buffer may have room for more than was asked for.
            match pread(&self.file, spare_capacity(into), position + done as u64) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        into.truncate(start + length);
        Ok(into.len() - start)
    }

    fn will_read(&self, position: u64, length: u64) {
        // Where the system does not take the advice, the read waits.
        let _ = fadvise(&self.file, position, NonZeroU64::new(length), Advice::WillNeed);
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        if length < self.file.metadata()?.len() {
            return self.file.set_len(length);
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            // A file system that cannot set space aside still serves; it finds out later that it is full.
            Err(Errno::OPNOTSUPP) => self.file.set_len(length),
            // There is nothing to set aside.
            Err(Errno::INVAL) if length == 0 => Ok(()),
            other => Ok(other?),
        }
    }
}
