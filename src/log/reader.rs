//! Reads payloads by their place: from the newest blocks in memory, or from the segment files.

use super::block::{Block, PlacedBlock};
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{FRAME_HEADER_LENGTH, FileHeaderRead, FrameHeader, Identity};
use super::look;
use super::place::{At, Place, SegmentNumber};
use super::segment::segment_path;
use super::spans::{Span, Wanted, spans};
use crate::types::HashMap;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Reads payloads. Shared by everybody who fetches; blocks on the disk, so not for an async thread.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    recent: Mutex<Recent>,
    open: Mutex<OpenFiles>,
    /// How many segments have been retired: a read during which this changes is done again.
    retirements: AtomicU64,
}

/// Why a payload could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The segment is no longer in the log: its data were deleted after the place was looked up.
    #[error("segment {segment} is no longer in the log")]
    Gone {
        /// The segment.
        segment: SegmentNumber,
    },
    /// The bytes are not what was written.
    #[error("{} is damaged at byte {position}: {finding}; the data there cannot be served", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where in it.
        position: u32,
        /// What is wrong.
        finding: Finding,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ReadError {
    /// The same, of another payload.
    fn again(&self) -> ReadError {
        match self {
            ReadError::Gone { segment } => ReadError::Gone { segment: *segment },
            ReadError::Damaged { path, position, finding } => {
                ReadError::Damaged { path: path.clone(), position: *position, finding: *finding }
            }
            ReadError::Disk(error) => ReadError::Disk(error.again()),
        }
    }
}

/// What is wrong with some bytes of a segment file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Finding {
    /// The file's header is not that of this segment of this log.
    #[error("the file's header is not that of this segment")]
    FileHeader,
    /// There is no frame.
    #[error("there is no frame")]
    NoFrame,
    /// There is a frame, but not the one that was looked for.
    #[error("the frame is another one than its index entry speaks of")]
    OtherFrame,
    /// The payload fails its checksum.
    #[error("the payload does not match its checksum")]
    Payload,
    /// The file ends before the payload does.
    #[error("the file is too short")]
    TooShort,
}

/// Says that no reader will touch a segment again; see [`super::Recycler::recycle`].
#[derive(Debug)]
pub struct Retired(SegmentNumber);

impl Retired {
    /// Which segment.
    #[must_use]
    pub fn segment(&self) -> SegmentNumber {
        self.0
    }
}

/// Bytes of blocks that whoever has read payloads together may keep in memory for each byte of these. A block may be a thousand
/// times as long as a batch in it, and who reads slowly has it for as long as it takes.
const HELD_PER_BYTE_MAX: usize = 4;

/// The blocks behind some payloads: mostly a few.
#[derive(Debug, Default)]
struct Held {
    blocks: SmallVec<[At; 8]>,
    bytes: usize,
}

impl Held {
    fn add(&mut self, at: At, block: &Block) {
        if let Err(place) = self.blocks.binary_search(&at) {
            self.blocks.insert(place, at);
            self.bytes += block.bytes().len();
        }
    }
}

/// A payload, or why it could not be read.
pub type Payload = Result<Bytes, ReadError>;

/// What of some payloads was in memory; see [`Reader::recent`] and [`Reader::read_missing`].
#[derive(Debug)]
pub struct Recents {
    /// In the order of their places; empty where one is missing.
    payloads: Vec<Payload>,
    missing: Vec<Wanted>,
}

impl Recents {
    /// All payloads, if none is missing.
    pub fn all(self) -> Result<Vec<Payload>, Recents> {
        if self.missing.is_empty() { Ok(self.payloads) } else { Err(self) }
    }
}

/// Of what is read together from a file, payloads may keep that part in memory beside themselves: one in so many. Where more lies
/// between them, they are copied out: memory for what is read has been reserved by its length.
const SPARE_PART_MAX: usize = 4;

/// Reads of a file that the disk is told of before the first is waited for: about as many as a disk does at a time.
const SPANS_AHEAD: usize = 64;

/// How often a read is begun again because a segment was retired meanwhile. Segments are retired seldom, so this many
/// in the time of as many reads does not happen; and then the reader is told to look the place up again.
const ATTEMPTS_MAX: u32 = 16;

impl Reader {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        identity: Identity,
        recent_bytes_max: usize,
        open_files_max: usize,
    ) -> Reader {
        let recent =
            Recent { blocks: BTreeMap::new(), bytes: 0, bytes_max: recent_bytes_max, buffers: Vec::new() };
        let open = OpenFiles { files: HashMap::default(), files_max: open_files_max.max(1), uses: 0 };
        Reader {
            disk,
            dir,
            identity,
            recent: Mutex::new(recent),
            open: Mutex::new(open),
            retirements: AtomicU64::new(0),
        }
    }

    /// Keeps a block in memory, for those who read the end of the log. To be called before the block can be seen.
    pub fn remember(&self, placed: &PlacedBlock) {
        lock(&self.recent).insert(placed.at, placed.block.clone());
    }

    /// A buffer of a block that is no longer kept, for the next one; or a new one.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        lock(&self.recent).buffers.pop().unwrap_or_default()
    }

    /// What of the payloads at these places is in memory, without touching the disk. They share the memory of their blocks, unless
    /// these are much larger than all of them.
    #[must_use]
    pub fn recent(&self, places: &[Place]) -> Recents {
        let mut found = Recents { payloads: Vec::with_capacity(places.len()), missing: Vec::new() };
        let (mut bytes, mut held) = (0, Held::default());
        // Who is far behind asks for thousands of places. New blocks wait for the lock, so it is not held where these follow one another.
        let oldest = lock(&self.recent).oldest();
        let mut recent = None;
        for (index, place) in places.iter().copied().enumerate() {
            let may_be_there =
                oldest.is_some_and(|oldest| oldest <= begin(place)) && !place.segment.is_moved();
            if !may_be_there {
                recent = None;
            }
            let recent = may_be_there.then(|| recent.get_or_insert_with(|| lock(&self.recent)));
            let in_memory = recent.and_then(|recent| recent.find(place)).and_then(|(at, block)| {
                let start = (place.position - at.position) as usize;
                // If it is not what was asked for, the file will show what is wrong.
                self.payload(place, block.bytes(), start).ok().map(|(_, payload)| (at, block, payload))
            });
            let Some((at, block, payload)) = in_memory else {
                found.payloads.push(Ok(Bytes::new()));
                found.missing.push(Wanted { place, index });
                continue;
            };
            found.payloads.push(Ok(payload));
            bytes += place.length as usize;
            held.add(at, block);
        }
        drop(recent);
        if held.bytes > bytes.saturating_mul(HELD_PER_BYTE_MAX) {
            found
                .payloads
                .iter_mut()
                .flatten()
                .for_each(|payload| *payload = Bytes::copy_from_slice(payload));
        }
        found
    }

    /// All payloads of which some are in memory, in the order of the places. What comes from a file is checked against the checksum
    /// that was made when it was written; what lies close together there is read at once.
    #[must_use]
    pub fn read_missing(&self, recents: Recents) -> Vec<Payload> {
        let Recents { mut payloads, mut missing } = recents;
        let spans: SmallVec<[Span<'_>; 1]> = spans(&mut missing).collect();
        for few in spans.chunks(SPANS_AHEAD) {
            if let [_, _, ..] = few {
                few.iter().for_each(|span| self.will_read(span));
            }
            for span in few {
                self.read_span(span, &mut payloads);
            }
        }
        payloads
    }

    /// The payloads at these places, in their order.
    #[must_use]
    pub fn read_all(&self, places: &[Place]) -> Vec<Payload> {
        self.read_missing(self.recent(places))
    }

    /// The payload at `place`.
    pub fn read(&self, place: Place) -> Payload {
        self.read_all(&[place]).pop().unwrap_or_else(|| Err(self.damaged(place, Finding::NoFrame)))
    }

    /// Lets go of a segment: later reads of it fail, and reads that are under way do not return what is written into
    /// its file afterwards.
    #[must_use]
    pub fn retire(&self, segment: SegmentNumber) -> Retired {
        lock(&self.recent).forget(segment);
        let mut open = lock(&self.open);
        open.files.remove(&segment);
        self.retirements.fetch_add(1, Ordering::SeqCst);
        Retired(segment)
    }

    /// Has the disk begin with it. Whoever reads it gets to know what goes wrong.
    fn will_read(&self, span: &Span<'_>) {
        if let Ok(file) = self.file(span.segment) {
            file.will_read(u64::from(span.start), u64::from(span.length));
        }
    }

    fn read_span(&self, span: &Span<'_>, payloads: &mut [Payload]) {
        for _ in 0..ATTEMPTS_MAX {
            let retirements = self.retirements.load(Ordering::SeqCst);
            self.try_read_span(span, payloads);
            // A segment file is used for other data only after it was retired. None has been: what was read is what
            // was meant. (Errors too: a file that is gone may have been retired.)
            if self.retirements.load(Ordering::SeqCst) == retirements {
                return;
            }
        }
        fail(span, &ReadError::Gone { segment: span.segment }, payloads);
    }

    fn try_read_span(&self, span: &Span<'_>, payloads: &mut [Payload]) {
        let read =
            self.file(span.segment).map(|file| self.bytes_of(&*file, span).map_err(|error| (file, error)));
        match (read, span.wanted) {
            (Ok(Ok(bytes)), _) => self.take_apart(span, &bytes, payloads),
            (Err(error), _) | (Ok(Err((_, error))), [_]) => fail(span, &error, payloads),
            // What the disk cannot read may be one of these, or another's between two of them.
            (Ok(Err((file, _))), _) => self.read_apart(&*file, span, payloads),
        }
    }

    /// Each by itself. A disk may take seconds to find that it cannot read a page, so that is not asked for again by each frame in it.
    fn read_apart(&self, file: &dyn DiskFile, span: &Span<'_>, payloads: &mut [Payload]) {
        let mut unreadable: Option<(u32, ReadError)> = None;
        for alone in span.apart() {
            let page = alone.page();
            match &unreadable {
                Some((bad, error)) if page == Some(*bad) => fail(&alone, error, payloads),
                _ => match self.bytes_of(file, &alone) {
                    Ok(bytes) => self.take_apart(&alone, &bytes, payloads),
                    Err(error) => {
                        fail(&alone, &error, payloads);
                        unreadable = page.map(|page| (page, error)).or(unreadable);
                    }
                },
            }
        }
    }

    /// The payloads of what has been read.
    fn take_apart(&self, span: &Span<'_>, bytes: &Bytes, payloads: &mut [Payload]) {
        let total: usize = span.wanted.iter().map(|wanted| wanted.place.length as usize).sum();
        let shares = bytes.len() <= total.saturating_add(total / SPARE_PART_MAX);
        for wanted in span.wanted {
            let payload = self.checked_payload(wanted.place, bytes, span.start);
            let keep = |payload: Bytes| if shares { payload } else { Bytes::copy_from_slice(&payload) };
            put(payloads, wanted, payload.map(keep));
        }
    }

    fn bytes_of(&self, file: &dyn DiskFile, span: &Span<'_>) -> Result<Bytes, ReadError> {
        let mut bytes = Vec::new();
        let read = file.read_at(u64::from(span.start), span.length as usize, &mut bytes);
        read.tried("read", &segment_path(&self.dir, span.segment))?;
        Ok(bytes.into())
    }

    /// The payload at `place`, of bytes that have been read from `start` of its file on.
    fn checked_payload(&self, place: Place, bytes: &Bytes, start: u32) -> Payload {
        let (header, payload) = self.payload(place, bytes, (place.position - start) as usize)?;
        match crc32c::crc32c(&payload) == header.payload_checksum {
            true => Ok(payload),
            false => Err(self.damaged(place, Finding::Payload)),
        }
    }

    /// The payload whose frame begins at `start` of these bytes.
    fn payload(&self, place: Place, bytes: &Bytes, start: usize) -> Result<(FrameHeader, Bytes), ReadError> {
        let payload = start + FRAME_HEADER_LENGTH as usize;
        let header = bytes.get(start..payload).ok_or_else(|| self.damaged(place, Finding::TooShort))?;
        let header = self.check_header(place, FrameHeader::decode(header))?;
        let end = payload + place.length as usize;
        if end > bytes.len() {
            return Err(self.damaged(place, Finding::TooShort));
        }
        Ok((header, bytes.slice(payload..end)))
    }

    fn check_header(&self, place: Place, header: Option<FrameHeader>) -> Result<FrameHeader, ReadError> {
        let header = header.ok_or_else(|| self.damaged(place, Finding::NoFrame))?;
        if (header.payload_length, header.payload_checksum) != (place.length, place.checksum) {
            return Err(self.damaged(place, Finding::OtherFrame));
        }
        Ok(header)
    }

    fn damaged(&self, place: Place, finding: Finding) -> ReadError {
        ReadError::Damaged { path: segment_path(&self.dir, place.segment), position: place.position, finding }
    }

    fn file(&self, segment: SegmentNumber) -> Result<Arc<dyn DiskFile>, ReadError> {
        if let Some(file) = lock(&self.open).get(segment) {
            return Ok(file);
        }
        let retirements = self.retirements.load(Ordering::SeqCst);
        let path = segment_path(&self.dir, segment);
        let opened = self.disk.open(&path);
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Err(ReadError::Gone { segment });
        }
        let file: Arc<dyn DiskFile> = opened.tried("open", &path)?.into();
        match look::file_header(&*file, &path)? {
            FileHeaderRead::Valid(header)
                if header.segment == segment && header.identity == self.identity => {}
            _ => return Err(ReadError::Damaged { path, position: 0, finding: Finding::FileHeader }),
        }
        let mut open = lock(&self.open);
        // Not kept if it may have been retired between: the read is done again in that case.
        if self.retirements.load(Ordering::SeqCst) == retirements {
            open.insert(segment, &file);
        }
        Ok(file)
    }
}

/// A frame's begin, to be found among those of blocks.
fn begin(place: Place) -> At {
    At { segment: place.segment, position: place.position }
}

fn fail(span: &Span<'_>, error: &ReadError, payloads: &mut [Payload]) {
    span.wanted.iter().for_each(|wanted| put(payloads, wanted, Err(error.again())));
}

fn put(payloads: &mut [Payload], wanted: &Wanted, payload: Payload) {
    if let Some(place) = payloads.get_mut(wanted.index) {
        *place = payload;
    }
}

/// A panic elsewhere leaves these maps whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The newest blocks, bounded in bytes.
#[derive(Debug)]
struct Recent {
    blocks: BTreeMap<At, Block>,
    bytes: usize,
    bytes_max: usize,
    /// Buffers of blocks that were dropped, for new blocks; at most [`BUFFERS_MAX`].
    buffers: Vec<Vec<u8>>,
}

/// Buffers kept for new blocks: one is being filled, one is being written.
const BUFFERS_MAX: usize = 2;

impl Recent {
    fn insert(&mut self, at: At, block: Block) {
        self.bytes += block.bytes().len();
        if let Some(old) = self.blocks.insert(at, block) {
            self.bytes -= old.bytes().len();
        }
        // Blocks are given places in ascending order, so the first is the oldest.
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.blocks.pop_first()
        {
            self.bytes -= oldest.bytes().len();
            if self.buffers.len() < BUFFERS_MAX
                && let Some(buffer) = oldest.reclaim()
            {
                self.buffers.push(buffer);
            }
        }
    }

    fn oldest(&self) -> Option<At> {
        self.blocks.first_key_value().map(|(oldest, _)| *oldest)
    }

    fn find(&self, place: Place) -> Option<(At, &Block)> {
        let (at, block) = self.blocks.range(..=begin(place)).next_back()?;
        let inside = at.segment == place.segment && place.position - at.position < block.length();
        inside.then_some((*at, block))
    }

    fn forget(&mut self, segment: SegmentNumber) {
        let bytes = &mut self.bytes;
        self.blocks.retain(|at, block| {
            let keep = at.segment != segment;
            if !keep {
                *bytes -= block.bytes().len();
            }
            keep
        });
    }
}

/// Segment files that are open for reading, bounded in number; the one used longest ago goes first.
#[derive(Debug)]
struct OpenFiles {
    files: HashMap<SegmentNumber, (Arc<dyn DiskFile>, u64)>,
    files_max: usize,
    uses: u64,
}

impl OpenFiles {
    fn get(&mut self, segment: SegmentNumber) -> Option<Arc<dyn DiskFile>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&segment)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    fn insert(&mut self, segment: SegmentNumber, file: &Arc<dyn DiskFile>) {
        if self.files.len() >= self.files_max
            && let Some(oldest) =
                self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(segment, _)| *segment)
        {
            self.files.remove(&oldest);
        }
        self.uses += 1;
        self.files.insert(segment, (Arc::clone(file), self.uses));
    }
}
