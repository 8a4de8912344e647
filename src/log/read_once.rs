//! A file that is read once, past the page cache: what moving and rebuilding look through is not what readers ask for next,
//! and filling the page cache with it takes more of a processor than all else that is done to it (`spec/performance.md`).

use super::disk::DiskFile;
use super::format::PAGE;
use rustix::fs::OFlags;
use rustix::io::{Errno, pread};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes read from the disk at once, at most: where one read follows the other. Of a file that is only picked from, little
/// more is read than was asked for.
const WINDOW: usize = 1 << 20;

/// See the module. It cannot be written to.
#[derive(Debug)]
pub(super) struct ReadOnce {
    file: File,
    window: Mutex<Window>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Window {
    /// Room for [`WINDOW`] bytes that begin on a page boundary, which is where the disk may put them.
    room: Vec<u8>,
    /// Where in the file they begin.
    position: u64,
    /// How many there are.
    length: usize,
}

impl Window {
    /// Bytes from a position on, if there are any here.
    fn at(&self, position: u64) -> Option<&[u8]> {
        let skipped = usize::try_from(position.checked_sub(self.position)?).ok()?;
        let begin = self.room.as_ptr().align_offset(PAGE as usize);
        self.room.get(begin..)?.get(..self.length)?.get(skipped..).filter(|rest| !rest.is_empty())
    }

    /// Reads `wanted` bytes from a position on, or as many as there is room for; twice as many as the last time if they
    /// follow what was read then.
    fn read(&mut self, file: &File, position: u64, wanted: usize) -> io::Result<()> {
        self.room.resize(WINDOW + PAGE as usize, 0);
        let skipped = position % u64::from(PAGE);
        let page = position - skipped;
        let follows = page == self.position + self.length as u64;
        let ahead = if follows { self.length.saturating_mul(2) } else { 0 };
        let pages = wanted.saturating_add(PAGE as usize).max(ahead).next_multiple_of(PAGE as usize);
        let begin = self.room.as_ptr().align_offset(PAGE as usize);
        let room =
            self.room.get_mut(begin..).and_then(|room| room.get_mut(..pages.min(WINDOW))).unwrap_or_default();
        (self.position, self.length) = (page, 0);
        self.length = loop {
            match pread(file, &mut *room, self.position) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        Ok(())
    }
}

impl ReadOnce {
    /// Fails with `EINVAL` where the file system has no such thing.
    pub(super) fn open(path: &Path) -> io::Result<ReadOnce> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let read = ReadOnce { file, window: Mutex::default() };
        // Some only say so when it comes to reading.
        read.read_at(0, 1, &mut Vec::new())?;
        Ok(read)
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the file was opened to be read only")
}

impl DiskFile for ReadOnce {
    fn write_at(&self, _position: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        // Each change is made whole, or the window is empty.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let start = into.len();
        into.reserve_exact(length);
        loop {
            let done = into.len() - start;
            if done == length {
                break;
            }
            let at = position + done as u64;
            if window.at(at).is_none() {
                window.read(&self.file, at, length - done)?;
            }
            let Some(found) = window.at(at) else { break };
            into.extend_from_slice(found.get(..length - done).unwrap_or(found));
        }
        Ok(into.len() - start)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn resize(&self, _length: u64) -> io::Result<()> {
        Err(read_only())
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::super::real_disk::RealDisk;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn it_reads_what_is_there(
            length in 0_usize..(5 << 20), reads in proptest::collection::vec((0_u64..(5 << 20), 0_usize..(3 << 20)), 1..6),
            step in 1_000_usize..100_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let bytes: Vec<u8> = (0..length).map(|at| ((at * 2_654_435_761) >> 7).to_le_bytes()[0]).collect();
            std::fs::write(&path, &bytes).unwrap();
            let file = RealDisk.open_once(&path).unwrap();
            prop_assert_eq!(file.length().unwrap(), length as u64);
            for (position, wanted) in reads {
                let mut found = b"before".to_vec();
                let read = file.read_at(position, wanted, &mut found).unwrap();
                let begin = bytes.len().min(usize::try_from(position).unwrap());
                let there = &bytes[begin..bytes.len().min(begin + wanted)];
                prop_assert_eq!(&found[..6], b"before");
                prop_assert!(&found[6..] == there && read == there.len(), "{} bytes at {}", wanted, position);
            }
            let mut found = Vec::new();
            while file.read_at(found.len() as u64, step, &mut found).unwrap() > 0 {}
            prop_assert!(found == bytes, "in steps of {} bytes", step);
        }
    }
}
