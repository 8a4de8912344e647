//! Reads one segment from end to end, without the log around it: for who moves what is live out of it, and for who makes
//! the index anew. `spec/log-format.md`, "Moved frames".

use super::block::{Block, Frame};
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{FRAME_HEADER_LENGTH, FileHeader, FileHeaderRead, FrameHeader, Identity, PAGE};
use super::look;
use super::moved::MovedWriter;
use super::place::{At, Place, SegmentNumber};
use super::segment::{FileKind, segment_path};
use crate::types::BlockNumber;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The log's segment files, for who keeps them in order while the log goes on. Blocks on the disk.
#[derive(Clone, Debug)]
pub struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) identity: Identity,
}

/// A frame and where its payload lies.
pub type ScannedFrame = (Frame, Place);

/// Why a segment cannot be read from end to end.
#[derive(Debug, Error)]
pub enum ScanError {
    /// Something in it is not as it was written.
    #[error(
        "{} is damaged at byte {position}: restore the file from a copy, or export what is intact",
        path.display()
    )]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where in it.
        position: u32,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, identity: Identity) -> Segments {
        Segments { disk, dir, identity }
    }

    /// The log's files in a directory, before anything of it is opened; none if no file says which log it is.
    pub fn find(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Option<Segments>, DiskError> {
        for segment in list(&*disk, &dir)? {
            let path = segment_path(&dir, segment);
            let file = disk.open(&path).tried("open", &path)?;
            if let FileHeaderRead::Valid(header) = look::file_header(&*file, &path)? {
                return Ok(Some(Segments::new(disk, dir, header.identity)));
            }
        }
        Ok(None)
    }

    /// Which log's they are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// All segment files there are, also those not in use yet, ascending; files of moved frames come last.
    pub fn list(&self) -> Result<Vec<SegmentNumber>, DiskError> {
        list(&*self.disk, &self.dir)
    }

    /// Where a segment's file is.
    #[must_use]
    pub fn path(&self, segment: SegmentNumber) -> PathBuf {
        segment_path(&self.dir, segment)
    }

    /// How long a segment's file is, in bytes.
    pub fn length(&self, segment: SegmentNumber) -> Result<u64, DiskError> {
        let path = segment_path(&self.dir, segment);
        self.disk.open(&path).tried("open", &path)?.length().tried("measure", &path)
    }

    /// The number of a segment's first block; none if the file is not in use.
    pub fn first_block(&self, segment: SegmentNumber) -> Result<Option<BlockNumber>, DiskError> {
        Ok(self.open(segment)?.map(|(header, _)| header.first_block))
    }

    /// Begins to read a segment; none if the file is not in use. If `before` is given, the segment must have all blocks up
    /// to that one, which does not count: it is the next segment's.
    pub fn scan(
        &self,
        segment: SegmentNumber,
        before: Option<BlockNumber>,
    ) -> Result<Option<Scan>, DiskError> {
        let path = segment_path(&self.dir, segment);
        let file = self.disk.open_once(&path).tried("open", &path)?;
        let Some((header, file)) = self.in_use(segment, &path, file)? else { return Ok(None) };
        let length = file.length().tried("measure", &path)?;
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(header.length);
        let (identity, expected) = (self.identity, header.first_block);
        let at = At::start_of(segment);
        Ok(Some(Scan { file, path, identity, at, length, expected, before }))
    }

    /// Opens a segment to pick frames from it whose places are known; none if the file is not in use.
    pub fn pick(&self, segment: SegmentNumber) -> Result<Option<Pick>, DiskError> {
        let path = segment_path(&self.dir, segment);
        let file = self.disk.open_once(&path).tried("open", &path)?;
        Ok(self.in_use(segment, &path, file)?.map(|(_, file)| Pick { file, path }))
    }

    /// Begins a file of moved frames, of at most `length_max` bytes.
    pub fn begin_moved(&self, segment: SegmentNumber, length_max: u32) -> Result<MovedWriter, DiskError> {
        MovedWriter::begin(self, segment, length_max)
    }

    /// Opens a segment; none if the file is not in use.
    pub(super) fn open(&self, segment: SegmentNumber) -> Result<Option<InUse>, DiskError> {
        let path = segment_path(&self.dir, segment);
        let file = self.disk.open(&path).tried("open", &path)?;
        self.in_use(segment, &path, file)
    }

    fn in_use(
        &self,
        segment: SegmentNumber,
        path: &Path,
        file: Box<dyn DiskFile>,
    ) -> Result<Option<InUse>, DiskError> {
        match look::file_header(&*file, path)? {
            FileHeaderRead::Valid(header)
                if header.segment == segment && header.identity == self.identity =>
            {
                Ok(Some((header, file)))
            }
            _ => Ok(None),
        }
    }
}

/// A file that is in use, and its header.
pub(super) type InUse = (FileHeader, Box<dyn DiskFile>);

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentNumber>, DiskError> {
    let names = disk.list(dir).tried("list", dir)?;
    let mut segments: Vec<SegmentNumber> = names
        .iter()
        .filter_map(|name| match FileKind::of(name) {
            FileKind::Segment(segment) | FileKind::Moved(segment) => Some(segment),
            _ => None,
        })
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Bytes of moved frames read at once, if no frame is longer.
const READ_AT_ONCE: usize = 1 << 20;

/// A segment that frames are picked from. What lies between them is not looked at.
#[derive(Debug)]
pub struct Pick {
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

/// Bytes that an event rarely exceeds, read together with its payload.
const EVENT_GUESS: usize = 256;

impl Pick {
    /// The frame that lies at `place`, which is in this segment.
    pub fn frame(&self, place: Place) -> Result<ScannedFrame, ScanError> {
        let damaged = || ScanError::Damaged { path: self.path.clone(), position: place.position };
        let least = FRAME_HEADER_LENGTH as usize + place.length as usize;
        let mut bytes = Vec::new();
        let read = |from: usize, length, bytes: &mut Vec<u8>| {
            let position = u64::from(place.position) + from as u64;
            self.file.read_at(position, length, bytes).tried("read", &self.path)
        };
        read(0, least + EVENT_GUESS, &mut bytes)?;
        let header = FrameHeader::decode(&bytes).ok_or_else(damaged)?;
        if header.place(0).at(At { segment: place.segment, position: place.position }) != place {
            return Err(damaged());
        }
        let length = header.frame_length().ok_or_else(damaged)? as usize;
        if length > bytes.len() {
            read(bytes.len(), length - bytes.len(), &mut bytes)?;
        }
        bytes.truncate(length);
        let whole = Some(Bytes::from(bytes)).filter(|bytes| bytes.len() == length);
        let frame = whole.and_then(|bytes| Frame::checked(header, &bytes)).ok_or_else(damaged)?;
        Ok((frame, place))
    }
}

/// A segment that is being read.
#[derive(Debug)]
pub struct Scan {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    identity: Identity,
    at: At,
    length: u32,
    expected: BlockNumber,
    before: Option<BlockNumber>,
}

impl Scan {
    /// Some more frames, in order: those of a block, or about a mebibyte of moved ones. `None` at the end.
    pub fn next_frames(&mut self) -> Result<Option<Vec<ScannedFrame>>, ScanError> {
        if self.at.segment.is_moved() { self.next_moved() } else { self.next_block() }
    }

    fn next_block(&mut self) -> Result<Option<Vec<ScannedFrame>>, ScanError> {
        if self.before.is_some_and(|before| self.expected >= before) {
            return Ok(None);
        }
        let Some(block) = self.block_at(self.at.position, |number| number == self.expected)? else {
            return self.check_end().map(|()| None);
        };
        let at = self.at;
        self.at.position = at.position.saturating_add(block.length());
        self.expected = self.expected.next();
        let placed = |frame: Frame| {
            let place = frame.place.at(at);
            (frame, place)
        };
        Ok(Some(block.frames().map(placed).collect()))
    }

    /// The blocks of a segment end where nothing newer follows: what an earlier life of the file left is older.
    fn check_end(&self) -> Result<(), ScanError> {
        // The next segment says how far this one goes; so does any newer block behind a hole.
        if self.before.is_some() {
            return Err(self.damaged());
        }
        for position in (self.at.position..self.length).step_by(PAGE as usize) {
            if self.block_at(position, |number| number >= self.expected)?.is_some() {
                return Err(self.damaged());
            }
        }
        Ok(())
    }

    fn block_at(
        &self,
        position: u32,
        wanted: impl Fn(BlockNumber) -> bool,
    ) -> Result<Option<Block>, DiskError> {
        look::block_at((&*self.file, &self.path), position, self.length, |header| {
            header.identity == self.identity && wanted(header.number)
        })
    }

    fn next_moved(&mut self) -> Result<Option<Vec<ScannedFrame>>, ScanError> {
        let left = self.length.saturating_sub(self.at.position) as usize;
        if left == 0 {
            return Ok(None);
        }
        let mut bytes = self.read(self.at.position, left.min(READ_AT_ONCE))?;
        if let Some(length) = FrameHeader::decode(&bytes).and_then(|header| header.frame_length())
            && length as usize > bytes.len()
        {
            bytes = self.read(self.at.position, left.min(length as usize))?;
        }
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let at = self.at;
            let Some(header) = FrameHeader::decode(&bytes) else {
                // A header that is cut off is read with the next bytes, unless there are none.
                let whole = bytes.len() >= FRAME_HEADER_LENGTH as usize || frames.is_empty();
                return if whole { Err(self.damaged()) } else { Ok(Some(frames)) };
            };
            let length = header.frame_length().ok_or_else(|| self.damaged())?;
            if length as usize > bytes.len() {
                return if frames.is_empty() { Err(self.damaged()) } else { Ok(Some(frames)) };
            }
            let frame =
                Frame::checked(header, &bytes.split_to(length as usize)).ok_or_else(|| self.damaged())?;
            let place = header.place(0).at(at);
            self.at.position = at.position.saturating_add(length);
            frames.push((frame, place));
        }
        Ok(Some(frames))
    }

    fn read(&self, position: u32, length: usize) -> Result<Bytes, DiskError> {
        let mut bytes = Vec::new();
        self.file.read_at(u64::from(position), length, &mut bytes).tried("read", &self.path)?;
        Ok(bytes.into())
    }

    fn damaged(&self) -> ScanError {
        ScanError::Damaged { path: self.path.clone(), position: self.at.position }
    }
}
