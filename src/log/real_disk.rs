//! The system's own file system.

use super::disk::{Disk, DiskFile};
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, fallocate, fdatasync, statvfs};
use rustix::io::{Errno, pread};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The disk of the machine the broker runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.resize(length)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
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

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let space = statvfs(dir)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl DiskFile for File {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(self)?)
    }

    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let start = into.len();
        into.reserve_exact(length);
        while into.len() - start < length {
            let done = into.len() - start;
            // Reads into memory that was never zeroed; the buffer may have room for more than was asked for.
            match pread(self, spare_capacity(into), position + done as u64) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        into.truncate(start + length);
        Ok(into.len() - start)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        if length < self.metadata()?.len() {
            return self.set_len(length);
        }
        match fallocate(self, FallocateFlags::empty(), 0, length) {
            // A file system that cannot set space aside still serves; it finds out later that it is full.
            Err(Errno::OPNOTSUPP) => self.set_len(length),
            // There is nothing to set aside.
            Err(Errno::INVAL) if length == 0 => Ok(()),
            other => Ok(other?),
        }
    }
}
