//! Reads the blocks of a log in order, and finds out whether what comes after the last one is the end or damage.

use super::block::{Block, PlacedBlock};
use super::corruption::{Corruption, Evidence, RecoverError};
use super::disk::DiskError;
use super::format::{FILE_HEADER_LENGTH, Identity, PAGE, ShardNumber};
use super::look;
use super::place::At;
use super::segment::segment_path;
use super::survey::{HeaderState, SegmentFile, Started};
use crate::types::BlockNumber;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Where reading the log has come to.
#[derive(Debug)]
pub(super) struct Walk {
    /// Only for naming files.
    pub(super) dir: PathBuf,
    pub(super) shard: ShardNumber,
    pub(super) identity: Option<Identity>,
    /// The segments in use that have not been read to their end; the first is being read.
    pub(super) started: VecDeque<Started>,
    /// Files of later segments that have no header of theirs, ascending.
    pub(super) unused: VecDeque<SegmentFile>,
    /// Where the next block is looked for.
    pub(super) at: At,
    /// Which block that must be.
    pub(super) expected: BlockNumber,
}

impl Walk {
    /// The next block, or `None` where the log seems to end.
    pub(super) fn next(&mut self) -> Result<Option<PlacedBlock>, RecoverError> {
        loop {
            self.enter_next_segment()?;
            if let Some(block) = self.expected_block()? {
                let at = self.at;
                self.at.position = self.at.position.saturating_add(block.length());
                self.expected = self.expected.next();
                return Ok(Some(PlacedBlock { block, at }));
            }
            if let Some(next) = self.started.get(1) {
                let evidence =
                    Evidence::NextSegment { path: next.file.path.clone(), first_block: next.first_block };
                return Err(self.corruption(evidence).into());
            }
            if !self.adopt_headless()? {
                return Ok(None);
            }
        }
    }

    /// Leaves the segment that is being read if the expected block is the first of the next one. What else it holds
    /// does not count.
    fn enter_next_segment(&mut self) -> Result<(), RecoverError> {
        while let Some(next) = self.started.get(1)
            && next.first_block <= self.expected
        {
            if next.first_block < self.expected {
                // It would replace blocks that are applied, or were read already.
                let (path, block) = (next.file.path.clone(), next.first_block);
                return Err(Corruption { path, position: 0, block, evidence: Evidence::FileHeader }.into());
            }
            self.at = At::start_of(next.file.number);
            self.started.pop_front();
        }
        Ok(())
    }

    fn expected_block(&self) -> Result<Option<Block>, RecoverError> {
        let Some(current) = self.started.front() else { return Ok(None) };
        let found = self.block_at(&current.file, self.at.position, |number| number == self.expected)?;
        if found.is_some() && current.header == HeaderState::Lost && !self.at.is_first() {
            // The header was synced with the first block, and this one is written only after that.
            let (path, block) = (current.file.path.clone(), current.first_block);
            return Err(Corruption { path, position: 0, block, evidence: Evidence::FileHeader }.into());
        }
        Ok(found)
    }

    /// A crash while the first block of a segment is written may leave the block without the file's header: then the
    /// block is the last one, and complete. `false` if the next file does not hold it.
    fn adopt_headless(&mut self) -> Result<bool, RecoverError> {
        let number = self.started.front().map_or(self.at.segment, |current| current.file.number.next());
        let Some(file) = self.unused.front().filter(|file| file.number == number) else { return Ok(false) };
        let Some(block) = self.block_at(file, FILE_HEADER_LENGTH, |number| number == self.expected)? else {
            return Ok(false);
        };
        let Some(file) = self.unused.pop_front() else { return Ok(false) };
        self.identity = Some(block.header().identity);
        self.started.clear();
        self.at = At::start_of(file.number);
        self.started.push_back(Started { file, first_block: self.expected, header: HeaderState::Lost });
        Ok(true)
    }

    /// Space is set aside before a segment is begun, and given back only when a later one is: a last segment that is
    /// shorter than its header says has been cut by somebody else, with whatever blocks it had.
    pub(super) fn check_length(&self) -> Result<(), RecoverError> {
        match self.started.front() {
            Some(Started { file, header: HeaderState::Written { length }, .. }) if file.length < *length => {
                Err(self.corruption(Evidence::TooShort { length: file.length, written: *length }).into())
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that nothing newer than the end of the log is intact anywhere behind it: then the end is what a crash
    /// left, or nothing at all.
    pub(super) fn check_end(&self) -> Result<(), RecoverError> {
        let current = self.started.front().map(|current| (&current.file, self.at.position));
        let unused = self.unused.iter().map(|file| (file, FILE_HEADER_LENGTH));
        for (file, from) in current.into_iter().chain(unused) {
            for position in (from..file.length).step_by(PAGE as usize) {
                if let Some(newer) = self.block_at(file, position, |number| number >= self.expected)? {
                    let (block, path) = (newer.number(), file.path.clone());
                    return Err(self.corruption(Evidence::NewerBlock { block, path, position }).into());
                }
            }
        }
        Ok(())
    }

    /// Damage at the place where the walk is.
    pub(super) fn corruption(&self, evidence: Evidence) -> Corruption {
        let path = segment_path(&self.dir, self.at.segment);
        Corruption { path, position: self.at.position, block: self.expected, evidence }
    }

    /// The block at a position, if there is an intact one of this log with a number that is `wanted`.
    fn block_at(
        &self,
        segment: &SegmentFile,
        position: u32,
        wanted: impl Fn(BlockNumber) -> bool,
    ) -> Result<Option<Block>, DiskError> {
        look::block_at((&*segment.file, &segment.path), position, segment.length, |header| {
            header.identity.shard == self.shard
                && self.identity.is_none_or(|identity| identity == header.identity)
                && wanted(header.number)
        })
    }
}
