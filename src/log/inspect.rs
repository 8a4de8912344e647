//! Reads everything that is intact in a log's files, whatever else is damaged: for the tools that people use when a start
//! has been refused. Nothing is changed. What counts and what does not is as in recovery (`spec/log-format.md`), but here
//! damage is a finding, not an end; and frames that are intact by their own checksums are saved out of a damaged block.

use super::block::{Block, Frame, PlacedBlock};
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{FILE_HEADER_LENGTH, FRAME_HEADER_LENGTH, FileHeaderRead, FrameHeader, Identity, PAGE};
use super::look;
use super::mark::{self, MarkRead};
use super::place::{At, Place, SegmentNumber};
use super::segment::{FileKind, segment_path};
use crate::types::BlockNumber;
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a log's files cannot be inspected at all.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no file that says it is a log's.
    #[error("there is no segment file with a valid header in {}", dir.display())]
    NoLog {
        /// Where.
        dir: PathBuf,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct InspectedFile {
    /// Its number, by its name.
    pub segment: SegmentNumber,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is, in bytes.
    pub length: u32,
    /// The number of its first block, if it is in use: by its header, or, if that is lost, by the first intact block.
    pub first_block: Option<BlockNumber>,
    /// Whether it is in use and has lost its header.
    pub header_lost: bool,
    file: Arc<dyn DiskFile>,
}

impl InspectedFile {
    /// Whether it holds blocks of the log.
    fn is_in_use(&self) -> bool {
        self.first_block.is_some() && !self.segment.is_moved()
    }
}

/// A log's files.
#[derive(Clone, Debug)]
pub struct LogFiles {
    identity: Identity,
    files: Vec<InspectedFile>,
    /// The last block, as the mark of a clean stop says.
    stopped: Option<BlockNumber>,
}

/// A part of the log.
#[derive(Clone, Debug)]
pub enum Piece {
    /// An intact block.
    Block(PlacedBlock),
    /// Intact frames that were moved here out of segments that are freed or about to be.
    Moved(Vec<(Frame, Place)>),
    /// Blocks whose segment files are not there: they have been freed, or lost.
    Absent(Range<u64>),
    /// A part that is not what was written.
    Damage(Damage),
}

/// A part of a file that is not what was written there.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The segment file.
    pub path: PathBuf,
    /// Which bytes of it, at most.
    pub bytes: Range<u32>,
    /// The blocks that should be there; none if it is the file's header.
    pub blocks: Range<u64>,
    /// What is intact of these blocks, by the checksums of the frames themselves.
    pub saved: Vec<(Frame, Place)>,
}

impl LogFiles {
    /// Looks at the headers of the segment files in `dir`.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<LogFiles, InspectError> {
        let mut files = Vec::new();
        let (mut identity, mut marked) = (None, false);
        for name in disk.list(dir).tried("list", dir)? {
            let segment = match FileKind::of(&name) {
                FileKind::Segment(segment) | FileKind::Moved(segment) => segment,
                kind => {
                    marked |= kind == FileKind::Mark;
                    continue;
                }
            };
            let path = segment_path(dir, segment);
            let file: Arc<dyn DiskFile> = disk.open(&path).tried("open", &path)?.into();
            let length = file.length().tried("measure", &path)?;
            let first_block = match look::file_header(&*file, &path)? {
                FileHeaderRead::Valid(header) => {
                    identity.get_or_insert(header.identity);
                    (header.segment == segment).then_some(header.first_block)
                }
                FileHeaderRead::UnknownVersion(_) | FileHeaderRead::Invalid => None,
            };
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            files.push(InspectedFile { segment, path, length, first_block, header_lost: false, file });
        }
        files.sort_unstable_by_key(|file| file.segment);
        let identity = identity.ok_or_else(|| InspectError::NoLog { dir: dir.to_path_buf() })?;
        let stopped = match mark::read(disk, dir, marked)? {
            MarkRead::Stopped(stop) if stop.identity == identity => Some(stop.block),
            _ => None,
        };
        let mut log = LogFiles { identity, files, stopped };
        log.find_lost_headers()?;
        Ok(log)
    }

    /// A file before one that is in use is in use itself. What it begins with has to be looked for, between what is stale
    /// and what the next one begins with.
    fn find_lost_headers(&mut self) -> Result<(), DiskError> {
        let Some(last) = self.files.iter().rposition(InspectedFile::is_in_use) else {
            return Ok(());
        };
        let mut before = BlockNumber::ZERO;
        for index in 0..last {
            let later = self.files.iter().skip(index).find_map(|file| file.first_block);
            let Some(file) = self.files.get(index) else { break };
            if let Some(first) = file.first_block {
                before = first;
                continue;
            }
            let first =
                self.first_within(file, |number| number > before && later.is_none_or(|l| number < l))?;
            before = first.unwrap_or(before);
            if let Some(file) = self.files.get_mut(index) {
                (file.first_block, file.header_lost) = (first, true);
            }
        }
        Ok(())
    }

    /// The number of a file's first intact block that is `wanted`.
    fn first_within(
        &self,
        file: &InspectedFile,
        wanted: impl Fn(BlockNumber) -> bool,
    ) -> Result<Option<BlockNumber>, DiskError> {
        for position in (FILE_HEADER_LENGTH..file.length).step_by(PAGE as usize) {
            if let Some(block) = self.block_at(file, position, &wanted)? {
                return Ok(Some(block.number()));
            }
        }
        Ok(None)
    }

    /// The block at a position, if there is an intact one of this log with a number that is `wanted`.
    fn block_at(
        &self,
        file: &InspectedFile,
        position: u32,
        wanted: impl Fn(BlockNumber) -> bool,
    ) -> Result<Option<Block>, DiskError> {
        look::block_at((&*file.file, &file.path), position, file.length, |header| {
            header.identity == self.identity && wanted(header.number)
        })
    }

    /// The files, in order.
    #[must_use]
    pub fn files(&self) -> &[InspectedFile] {
        &self.files
    }

    /// The payload of a frame that was found in them, checked again; none if it is not there any more.
    pub fn read(&self, place: Place) -> Result<Option<Bytes>, DiskError> {
        let Some(file) = self.files.iter().find(|file| file.segment == place.segment) else {
            return Ok(None);
        };
        let mut bytes = read(file, place.position, place.length.saturating_add(FRAME_HEADER_LENGTH))?;
        let header = FrameHeader::decode(&bytes).filter(|header| header.payload_length == place.length);
        let payload = bytes.split_off((FRAME_HEADER_LENGTH as usize).min(bytes.len()));
        Ok(header.filter(|header| crc32c::crc32c(&payload) == header.payload_checksum).map(|_| payload))
    }

    /// Everything in them: the blocks in order, then what was moved.
    #[must_use]
    pub fn pieces(&self) -> Pieces<'_> {
        let position = FILE_HEADER_LENGTH;
        Pieces { log: self, index: 0, position, entered: false, expected: None, tail: (0, position) }
    }
}

/// Goes through a log's files.
#[derive(Clone, Debug)]
pub struct Pieces<'l> {
    log: &'l LogFiles,
    index: usize,
    position: u32,
    /// Whether the file's header has been judged.
    entered: bool,
    expected: Option<BlockNumber>,
    /// The file of the last piece, and where that ended.
    tail: (usize, u32),
}

impl Pieces<'_> {
    /// Bytes of all files that have been gone through.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        let before = self.log.files.iter().take(self.index).map(|file| u64::from(file.length));
        before.sum::<u64>() + u64::from(self.position)
    }

    fn step(&mut self) -> Result<Option<Piece>, DiskError> {
        while let Some(file) = self.log.files.get(self.index) {
            if !std::mem::replace(&mut self.entered, true)
                && let Some(piece) = self.enter(file)
            {
                return Ok(Some(piece));
            }
            let piece = match file.segment.is_moved() {
                true => self.step_moved(file)?,
                false => self.step_within(file)?,
            };
            if let Some(piece) = piece {
                if !file.segment.is_moved() {
                    self.tail = (self.index, self.position);
                }
                return Ok(Some(piece));
            }
            self.index += 1;
            self.position = FILE_HEADER_LENGTH;
            self.entered = false;
        }
        self.step_to_mark()
    }

    /// Blocks that the mark speaks of and that are not there were the last ones.
    fn step_to_mark(&mut self) -> Result<Option<Piece>, DiskError> {
        let expected = self.expected.unwrap_or(BlockNumber(1));
        let Some(stopped) = self.log.stopped.filter(|stopped| *stopped >= expected) else { return Ok(None) };
        let mut in_use = self.log.files.iter().enumerate().filter(|(_, file)| file.is_in_use());
        let Some((index, file)) = in_use.next_back() else { return Ok(None) };
        let from = if index == self.tail.0 { self.tail.1 } else { FILE_HEADER_LENGTH };
        self.expected = Some(stopped.next());
        self.damage(file, from.min(file.length)..file.length, expected..stopped.next()).map(Some)
    }

    /// Judges a file's beginning. Before the first file blocks have been freed.
    fn enter(&mut self, file: &InspectedFile) -> Option<Piece> {
        let header = 0..FILE_HEADER_LENGTH;
        if file.segment.is_moved() {
            let none = BlockNumber::ZERO..BlockNumber::ZERO;
            return file.first_block.is_none().then(|| Piece::Damage(damage(file, header, none)));
        }
        let first = file.first_block?;
        let missing = match self.expected.replace(self.expected.map_or(first, |expected| expected.max(first)))
        {
            Some(expected) if expected < first => expected..first,
            _ => first..first,
        };
        if file.header_lost {
            return Some(Piece::Damage(damage(file, header, missing)));
        }
        (!missing.is_empty()).then_some(Piece::Absent(missing.start.0..missing.end.0))
    }

    /// The next piece of a file of blocks.
    fn step_within(&mut self, file: &InspectedFile) -> Result<Option<Piece>, DiskError> {
        let mut later = self.log.files.iter().skip(self.index + 1).filter(|file| file.is_in_use());
        let later = later.find_map(|file| Some((file.segment, file.first_block?)));
        let next = later.map(|(_, first)| first);
        let expected = self.expected.unwrap_or(BlockNumber(1));
        if next.is_some_and(|next| expected >= next) {
            return Ok(None);
        }
        let at = At { segment: file.segment, position: self.position };
        let is_it = |number| number == expected;
        if let Some(block) = self.log.block_at(file, self.position, is_it)? {
            self.position = self.position.saturating_add(block.length());
            self.expected = Some(expected.next());
            return Ok(Some(Piece::Block(PlacedBlock { block, at })));
        }
        let wanted = |number| number >= expected && next.is_none_or(|next| number < next);
        let from = self.position;
        for position in (from..file.length).step_by(PAGE as usize) {
            if let Some(found) = self.log.block_at(file, position, wanted)? {
                let blocks = expected..found.number();
                (self.position, self.expected) = (position, Some(found.number()));
                return self.damage(file, from..position, blocks).map(Some);
            }
        }
        // A segment is begun only after everything before it is durable. Behind the last one this is the end; and if the
        // next file is not there, nobody knows how far this one went.
        let Some((_, next)) = later.filter(|(segment, _)| *segment == file.segment.next()) else {
            return Ok(None);
        };
        (self.position, self.expected) = (file.length, Some(next));
        self.damage(file, from..file.length.max(from), expected..next).map(Some)
    }

    /// The next piece of a file of moved frames, which lie there one behind the other.
    fn step_moved(&mut self, file: &InspectedFile) -> Result<Option<Piece>, DiskError> {
        let bytes = read(file, self.position, file.length.saturating_sub(self.position))?;
        let from = self.position;
        let start = |position: usize| from.saturating_add(u32::try_from(position).unwrap_or(u32::MAX));
        let (mut frames, mut position) = (Vec::new(), 0);
        while let Some(frame) = saved_frame(&bytes.slice(position..), |_| true) {
            let place = frame.place.at(At { segment: file.segment, position: start(position) });
            position += frame.header.frame_length().unwrap_or(0) as usize;
            frames.push((frame, place));
        }
        if !frames.is_empty() {
            self.position = start(position);
            return Ok(Some(Piece::Moved(frames)));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let intact = |at: &usize| saved_frame(&bytes.slice(*at..), |_| true).is_some();
        self.position = start((1..bytes.len()).find(intact).unwrap_or(bytes.len()));
        let none = BlockNumber::ZERO..BlockNumber::ZERO;
        Ok(Some(Piece::Damage(damage(file, from..self.position, none))))
    }

    /// A damaged part, with the frames of its blocks that are intact by themselves.
    fn damage(
        &self,
        file: &InspectedFile,
        bytes: Range<u32>,
        blocks: Range<BlockNumber>,
    ) -> Result<Piece, DiskError> {
        let mut damage = damage(file, bytes.clone(), blocks.clone());
        let within = read(file, bytes.start, bytes.end - bytes.start)?;
        let mut position = 0;
        while position + FRAME_HEADER_LENGTH as usize <= within.len() {
            match saved_frame(&within.slice(position..), |block| blocks.contains(&block)) {
                Some(frame) => {
                    let start = bytes.start.saturating_add(u32::try_from(position).unwrap_or(u32::MAX));
                    let place = frame.place.at(At { segment: file.segment, position: start });
                    position += frame.header.frame_length().unwrap_or(1) as usize;
                    damage.saved.push((frame, place));
                }
                None => position += 1,
            }
        }
        Ok(Piece::Damage(damage))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, DiskError>;

    fn next(&mut self) -> Option<Result<Piece, DiskError>> {
        self.step().transpose()
    }
}

fn damage(file: &InspectedFile, bytes: Range<u32>, blocks: Range<BlockNumber>) -> Damage {
    let blocks = blocks.start.0..blocks.end.0;
    Damage { path: file.path.clone(), bytes, blocks, saved: Vec::new() }
}

fn read(file: &InspectedFile, position: u32, length: u32) -> Result<Bytes, DiskError> {
    let mut bytes = Vec::new();
    file.file.read_at(u64::from(position), length as usize, &mut bytes).tried("read", &file.path)?;
    Ok(bytes.into())
}

/// The frame that `bytes` begin with, if it is of a `wanted` block and all of its checksums are right.
fn saved_frame(bytes: &Bytes, wanted: impl Fn(BlockNumber) -> bool) -> Option<Frame> {
    let header = FrameHeader::decode(bytes)?;
    let length = header.frame_length()? as usize;
    if !wanted(header.block) || length > bytes.len() {
        return None;
    }
    Frame::checked(header, &bytes.slice(..length))
}
