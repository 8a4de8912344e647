//! Looks into a segment file from outside: at its header, and for a block at some place. For recovery, for whoever scans one
//! segment, and for the tools that inspect a damaged log: what a block is to them must never differ.

use super::block::Block;
use super::disk::{DiskError, DiskFile, Tried};
use super::format::{BLOCK_HEADER_LENGTH, BlockHeader, FILE_HEADER_LENGTH, FileHeader, FileHeaderRead};
use std::path::Path;

/// What a file's first page says.
pub(super) fn file_header(file: &dyn DiskFile, path: &Path) -> Result<FileHeaderRead, DiskError> {
    let mut page = Vec::new();
    file.read_at(0, FILE_HEADER_LENGTH as usize, &mut page).tried("read", path)?;
    Ok(FileHeader::decode(&page))
}

/// The block at a position, if there is an intact one with a header that is `wanted` and it ends before `end`.
pub(super) fn block_at(
    (file, path): (&dyn DiskFile, &Path),
    position: u32,
    end: u32,
    wanted: impl Fn(&BlockHeader) -> bool,
) -> Result<Option<Block>, DiskError> {
    let mut bytes = Vec::new();
    let read = |length: usize, position: u64, bytes: &mut Vec<u8>| {
        file.read_at(position, length, bytes).tried("read", path)
    };
    read(BLOCK_HEADER_LENGTH as usize, u64::from(position), &mut bytes)?;
    let Some(header) = BlockHeader::decode(&bytes) else { return Ok(None) };
    let fits = position.checked_add(header.length).is_some_and(|block_end| block_end <= end);
    if !fits || !wanted(&header) {
        return Ok(None);
    }
    let rest = header.length as usize - bytes.len();
    read(rest, u64::from(position) + bytes.len() as u64, &mut bytes)?;
    Ok(Block::parse(bytes.into()))
}
