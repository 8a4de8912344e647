//! Copies the segment that is being written, up to a block that is durable: for backups. Other segments do not change any
//! more, and need no copy.

use super::disk::{DiskError, DiskFile, Tried};
use super::format::FILE_HEADER_LENGTH;
use super::look;
use super::place::SegmentNumber;
use super::scan::Segments;
use crate::types::BlockNumber;
use std::path::{Path, PathBuf};

/// What has been copied of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiedSegment {
    /// The last block; none if the segment has only later ones.
    pub last: Option<BlockNumber>,
    /// Bytes up to the end of that block.
    pub bytes: u32,
    /// How long the file must be to be written on, by its header. The copy is shorter.
    pub length: u32,
}

/// Why a segment cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It has been given up in the middle.
    #[error("it was given up")]
    GivenUp,
    /// There is no segment of this log.
    #[error("{} is not in use", .0.display())]
    NotInUse(PathBuf),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Segments {
    /// Copies a segment's header and its blocks up to `last`, each of them checked, into a new file, and makes that durable.
    /// `goes_on` is asked with each block, and told its length.
    pub fn copy_until(
        &self,
        segment: SegmentNumber,
        last: BlockNumber,
        target: &Path,
        mut goes_on: impl FnMut(u32) -> bool,
    ) -> Result<CopiedSegment, CopyError> {
        let path = self.path(segment);
        let Some((header, file)) = self.open(segment)? else { return Err(CopyError::NotInUse(path)) };
        let new = self.disk.create(target, 0).tried("create", target)?;
        let mut page = Vec::new();
        file.read_at(0, FILE_HEADER_LENGTH as usize, &mut page).tried("read", &path)?;
        new.write_at(0, &page).tried("write", target)?;
        let mut copied = CopiedSegment { last: None, bytes: FILE_HEADER_LENGTH, length: header.length };
        let mut expected = header.first_block;
        while expected <= last {
            let wanted =
                |found: &super::BlockHeader| found.identity == self.identity && found.number == expected;
            let at = (&*file as &dyn DiskFile, &*path);
            let Some(block) = look::block_at(at, copied.bytes, header.length, wanted)? else { break };
            new.write_at(u64::from(copied.bytes), block.bytes()).tried("write", target)?;
            copied.bytes = copied.bytes.saturating_add(block.length());
            copied.last = Some(expected);
            expected = expected.next();
            if !goes_on(block.length()) {
                return Err(CopyError::GivenUp);
            }
        }
        new.sync().tried("sync", target)?;
        Ok(copied)
    }
}
