//! A disk that leaves out pages of nothing but zeroes: a log of a hundred gigabytes of zeroes takes a few. What is written to it
//! is durable only once the whole file system has been synced.

use crate::log::{Disk, DiskFile, RealDisk};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

const PAGE: usize = 4096;
static ZEROES: [u8; PAGE] = [0; PAGE];

/// See the module.
#[derive(Debug)]
pub(super) struct SparseDisk;

impl Disk for SparseDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        File::create(path)?.set_len(length)?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(SparseFile { file, real: RealDisk.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn names(&self, path: &Path) -> io::Result<u64> {
        RealDisk.names(path)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_space(dir)
    }
}

#[derive(Debug)]
struct SparseFile {
    file: File,
    real: Box<dyn DiskFile>,
}

impl SparseFile {
    /// Lets a range read as zero and take no space.
    fn punch(&self, position: u64, length: usize) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let end = position + length as u64;
        if self.real.length()? < end {
            self.file.set_len(end)?;
        }
        Ok(fallocate(&self.file, flags, position, length as u64)?)
    }
}

impl DiskFile for SparseFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if !position.is_multiple_of(PAGE as u64) {
            return self.real.write_at(position, bytes);
        }
        let mut position = position;
        for run in bytes.chunks(PAGE).collect::<Vec<_>>().chunk_by(|a, b| is_hole(a) == is_hole(b)) {
            let length = run.iter().map(|page| page.len()).sum();
            if run.first().is_some_and(|page| is_hole(page)) {
                self.punch(position, length)?;
            } else {
                self.real.write_at(position, &run.concat())?;
            }
            position += length as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.real.read_at(position, length, into)
    }

    fn length(&self) -> io::Result<u64> {
        self.real.length()
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

fn is_hole(page: &[u8]) -> bool {
    *page == ZEROES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn zeroes_take_no_space_and_read_as_zero() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = SparseDisk.create(&path, 0).unwrap();
        let mut bytes = vec![7; 3 * PAGE];
        bytes.resize(64 * PAGE, 0);
        bytes.extend([8; 100]);
        file.write_at(PAGE as u64, &vec![9; 64 * PAGE]).unwrap();
        file.write_at(PAGE as u64, &bytes).unwrap();
        let mut read = Vec::new();
        assert_eq!(file.read_at(PAGE as u64, bytes.len(), &mut read).unwrap(), bytes.len());
        assert!(read == bytes);
        assert!(path.metadata().unwrap().blocks() * 512 <= 8 * PAGE as u64);
    }
}
