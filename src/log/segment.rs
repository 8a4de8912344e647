//! Segment files: how they are called, and where the next one comes from.

use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::place::SegmentNumber;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file in the log's directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A segment, in use or ready to be.
    Segment(SegmentNumber),
    /// Frames moved out of segments that were freed.
    Moved(SegmentNumber),
    /// An old segment that waits to be used again.
    Spare(u64),
    /// Something that a crash left half made; nothing in it counts.
    Leftover,
    /// The clean-stop mark.
    Mark,
    /// Not the log's.
    Foreign,
}

/// The clean-stop mark's name.
pub(super) const MARK_NAME: &str = "clean";
/// What a file is called until it is complete: the name that it will have, and this.
const UNFINISHED: &str = ".tmp";
const SEGMENT_SUFFIX: &str = ".log";
const SPARE_PREFIX: &str = "spare-";
const MOVED_PREFIX: &str = "moved-";
/// Digits of a segment's number in its name, so that names sort like numbers.
const DIGITS: usize = 20;

impl FileKind {
    pub(super) fn of(name: &str) -> FileKind {
        if name == MARK_NAME {
            return FileKind::Mark;
        }
        if name.strip_suffix(UNFINISHED).is_some_and(|name| FileKind::of(name) != FileKind::Foreign) {
            return FileKind::Leftover;
        }
        let Some(stem) = name.strip_suffix(SEGMENT_SUFFIX) else { return FileKind::Foreign };
        let (digits, kind): (&str, fn(u64) -> FileKind) =
            if let Some(digits) = stem.strip_prefix(SPARE_PREFIX) {
                (digits, FileKind::Spare)
            } else if let Some(digits) = stem.strip_prefix(MOVED_PREFIX) {
                (digits, |number| FileKind::Moved(SegmentNumber::moved(number)))
            } else {
                (stem, |number| FileKind::Segment(SegmentNumber(number)))
            };
        match digits.parse() {
            Ok(number)
                if digits.len() == DIGITS
                    && digits.bytes().all(|b| b.is_ascii_digit())
                    && !SegmentNumber(number).is_moved() =>
            {
                kind(number)
            }
            _ => FileKind::Foreign,
        }
    }
}

/// The path of a segment.
pub(super) fn segment_path(dir: &Path, segment: SegmentNumber) -> PathBuf {
    let prefix = if segment.is_moved() { MOVED_PREFIX } else { "" };
    dir.join(format!("{prefix}{:0DIGITS$}{SEGMENT_SUFFIX}", segment.in_name()))
}

fn spare_path(dir: &Path, spare: u64) -> PathBuf {
    dir.join(format!("{SPARE_PREFIX}{spare:0DIGITS$}{SEGMENT_SUFFIX}"))
}

/// What a file is called until it is complete.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// A segment file that has its name and its space, and waits for its header and first block.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) segment: SegmentNumber,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
}

/// Makes segment files ready ahead of their use, from freed ones where there are some: their pages were mostly
/// written before, which makes short syncs two to three times as fast as on new ones.
#[derive(Debug)]
pub(super) struct Supply {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_length: u32,
    spares_max: usize,
    /// Numbers of the spares there are, oldest first.
    spares: Vec<u64>,
    spare_next: u64,
}

/// Zeroes are written and synced in pieces, so that the log's own writes never wait for more than one of them.
static ZEROES: Zeroes = Zeroes([0; 1 << 20]);

/// They begin on a page boundary, so that they need not be copied.
#[repr(align(4096))]
struct Zeroes([u8; 1 << 20]);

impl Supply {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segment_length: u32,
        spares_max: usize,
        mut spares: Vec<u64>,
    ) -> Supply {
        spares.sort_unstable();
        let spare_next = spares.last().map_or(0, |last| last.saturating_add(1));
        Supply { disk, dir, segment_length, spares_max, spares, spare_next }
    }

    /// Makes the file of `segment` ready: its name and length are durable, its content is stale or zero. A new one is written
    /// full of `zeroes` once, if they are wanted.
    pub(super) fn prepare(&mut self, segment: SegmentNumber, zeroes: bool) -> Result<Prepared, DiskError> {
        let path = segment_path(&self.dir, segment);
        let length = u64::from(self.segment_length);
        let (found, file) = if let Some(spare) = self.spares.first().copied() {
            let found = spare_path(&self.dir, spare);
            let file = self.disk.open(&found).tried("open", &found)?;
            if file.length().tried("measure", &found)? < length {
                file.resize(length).tried("set space aside for", &found)?;
                file.sync().tried("sync", &found)?;
            }
            (found, file)
        } else {
            let found = unfinished(&path);
            let file = self.disk.create(&found, length).tried("create", &found)?;
            if zeroes {
                fill(&*file, length).tried("write zeroes to", &found)?;
            }
            file.sync().tried("sync", &found)?;
            (found, file)
        };
        self.disk.rename(&found, &path).tried("rename", &found)?;
        if !self.spares.is_empty() {
            self.spares.remove(0);
        }
        self.disk.sync_dir(&self.dir).tried("sync the directory", &self.dir)?;
        Ok(Prepared { segment, path, file })
    }

    /// Takes a segment out of the log: it becomes a spare, or is removed if there are `spares` and as many
    /// as the options say. What a backup has a name of is
    /// never a spare: that would be written to.
    pub(super) fn recycle(&mut self, segment: SegmentNumber, spares: usize) -> Result<(), DiskError> {
        let path = segment_path(&self.dir, segment);
        let is_ours = self.disk.names(&path).tried("look at", &path)? == 1;
        if is_ours && self.spares.len() < self.spares_max.max(spares) {
            let spare = self.spare_next;
            self.disk.rename(&path, &spare_path(&self.dir, spare)).tried("rename", &path)?;
            self.spares.push(spare);
            self.spare_next = spare.saturating_add(1);
        } else {
            self.disk.remove(&path).tried("remove", &path)?;
        }
        self.disk.sync_dir(&self.dir).tried("sync the directory", &self.dir)
    }

    /// Removes a file of moved frames: it is too short to be used again.
    pub(super) fn remove(&mut self, segment: SegmentNumber) -> Result<(), DiskError> {
        let path = segment_path(&self.dir, segment);
        self.disk.remove(&path).tried("remove", &path)?;
        self.disk.sync_dir(&self.dir).tried("sync the directory", &self.dir)
    }

    /// Removes all spares: their space is needed more than their speed.
    pub(super) fn release(&mut self) -> Result<(), DiskError> {
        while let Some(spare) = self.spares.pop() {
            let path = spare_path(&self.dir, spare);
            self.disk.remove(&path).tried("remove", &path)?;
        }
        Ok(())
    }

    /// Removes the spares that are more than the limit (it may have been lowered).
    pub(super) fn trim(&mut self) -> Result<(), DiskError> {
        while self.spares.len() > self.spares_max {
            let path = spare_path(&self.dir, self.spares.remove(0));
            self.disk.remove(&path).tried("remove", &path)?;
        }
        Ok(())
    }
}

/// Writes zeroes to a file whose space is only set aside. A sync of pages that were written before changes nothing else
/// in the file system; the first sync of new ones has its journal written too: a short one takes two to three times as long.
fn fill(file: &dyn DiskFile, length: u64) -> std::io::Result<()> {
    let mut position = 0;
    while position < length {
        let left = usize::try_from(length - position).unwrap_or(usize::MAX);
        let piece = ZEROES.0.get(..left).unwrap_or(&ZEROES.0);
        file.write_durably(position, piece)?;
        position += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let dir = Path::new("");
        let name = |path: PathBuf| path.to_str().unwrap().to_owned();
        let segment = segment_path(dir, SegmentNumber(42));
        assert_eq!(name(segment.clone()), "00000000000000000042.log");
        assert_eq!(FileKind::of(&name(segment.clone())), FileKind::Segment(SegmentNumber(42)));
        assert_eq!(FileKind::of(&name(unfinished(&segment))), FileKind::Leftover);
        assert_eq!(FileKind::of(&name(spare_path(dir, 3))), FileKind::Spare(3));
        let moved = SegmentNumber::moved(7);
        assert_eq!(name(segment_path(dir, moved)), "moved-00000000000000000007.log");
        assert_eq!(FileKind::of(&name(segment_path(dir, moved))), FileKind::Moved(moved));
        assert_eq!(FileKind::of("clean"), FileKind::Mark);
        assert_eq!(FileKind::of("clean.tmp"), FileKind::Leftover);
        for foreign in
            ["42.log", "+0000000000000000042.log", "lock", "00000000000000000042.log.bak", "x.tmp", ""]
        {
            assert_eq!(FileKind::of(foreign), FileKind::Foreign, "{foreign}");
        }
    }
}
