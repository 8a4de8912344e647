//! The bytes of the log (`spec/log-format.md`): file header, block header, frame header. Integers are little-endian;
//! checksums are CRC-32C. Pure: bytes in, values out.

use super::place::{PlaceInBlock, SegmentNumber};
use crate::types::{BlockNumber, LeaderEpoch, ServedTime};
use bytes::BufMut;
use std::fmt;

/// Everything that is written is padded to this many bytes, so that no write has to read what it does not replace.
pub const PAGE: u32 = 4096;
/// Bytes before a segment's first block.
pub const FILE_HEADER_LENGTH: u32 = PAGE;
/// Bytes before a block's first frame.
pub const BLOCK_HEADER_LENGTH: u32 = 80;
/// Bytes before a frame's payload.
pub const FRAME_HEADER_LENGTH: u32 = 32;
/// The version of everything that this file describes.
pub const FORMAT_VERSION: u16 = 1;

const FILE_MAGIC: [u8; 8] = *b"semelSEG";
const BLOCK_MAGIC: [u8; 8] = *b"semelBLK";
const MARK_MAGIC: [u8; 8] = *b"semelEND";
/// Where the checksum lies in a file header, a block header and a clean-stop mark; it counts as zero in itself.
const CHECKSUM_AT: usize = 8;
const CHECKSUM_END: usize = CHECKSUM_AT + 4;

/// A log's identity: random, made once when the log is, and never told to a client. It keeps the files of two logs
/// apart, and a client cannot make a payload that looks like a block without knowing it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub u128);

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogId(secret)")
    }
}

/// The number of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardNumber(pub u32);

/// Which log a file or a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log.
    pub log: LogId,
    /// Its shard.
    pub shard: ShardNumber,
}

/// The first page of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Which log the segment is of.
    pub identity: Identity,
    /// The segment's number; a recycled file that is not yet in use has the number of its earlier life.
    pub segment: SegmentNumber,
    /// The block at position 4096. Blocks of this or a higher number in earlier segments do not count.
    pub first_block: BlockNumber,
    /// How far blocks may reach in this file, in bytes.
    pub length: u32,
}

/// What the first page of a segment file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileHeaderRead {
    /// A header in full.
    Valid(FileHeader),
    /// A header in full, of a version that this program does not know.
    UnknownVersion(u16),
    /// Anything else: never written, torn or damaged.
    Invalid,
}

impl FileHeader {
    /// The page, checksum included.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(FILE_HEADER_LENGTH as usize);
        put_start(&mut page, FILE_MAGIC, self.identity);
        page.extend_from_slice(&self.length.to_le_bytes());
        page.extend_from_slice(&self.segment.0.to_le_bytes());
        page.extend_from_slice(&self.first_block.0.to_le_bytes());
        page.resize(FILE_HEADER_LENGTH as usize, 0);
        seal(&mut page);
        page
    }

    /// Reads a page.
    #[must_use]
    pub fn decode(page: &[u8]) -> FileHeaderRead {
        if page.len() != FILE_HEADER_LENGTH as usize || !is_sealed(page) {
            return FileHeaderRead::Invalid;
        }
        let mut fields = Fields(page);
        match Self::fields(&mut fields) {
            Some((FORMAT_VERSION, header)) => FileHeaderRead::Valid(header),
            Some((version, _)) => FileHeaderRead::UnknownVersion(version),
            None => FileHeaderRead::Invalid,
        }
    }

    fn fields(fields: &mut Fields<'_>) -> Option<(u16, FileHeader)> {
        let (version, identity) = fields.start(FILE_MAGIC)?;
        let length = fields.u32()?;
        let segment = SegmentNumber(fields.u64()?);
        let first_block = BlockNumber(fields.u64()?);
        Some((version, FileHeader { identity, segment, first_block, length }))
    }
}

/// The first bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Which log the block is of.
    pub identity: Identity,
    /// The term in which it was decided.
    pub term: LeaderEpoch,
    /// Its number: one more than that of the block before.
    pub number: BlockNumber,
    /// The last block known to be durable when this one was sealed: at most `number` − 1.
    pub last_durable: BlockNumber,
    /// Served time when the block was decided.
    pub served_time: ServedTime,
    /// Bytes of the whole block with header and padding, a multiple of 4 KiB.
    pub length: u32,
    /// How many frames it has.
    pub frames: u32,
    /// Bytes of all frames together, without header and padding.
    pub frames_length: u32,
}

impl BlockHeader {
    /// Writes the header and the checksum into `block`, which is complete but for its first 80 bytes.
    pub(super) fn seal(&self, block: &mut [u8]) {
        let mut header = Vec::with_capacity(BLOCK_HEADER_LENGTH as usize);
        put_start(&mut header, BLOCK_MAGIC, self.identity);
        header.extend_from_slice(&self.term.0.to_le_bytes());
        header.extend_from_slice(&self.number.0.to_le_bytes());
        header.extend_from_slice(&self.last_durable.0.to_le_bytes());
        header.extend_from_slice(&self.served_time.0.to_le_bytes());
        header.extend_from_slice(&self.length.to_le_bytes());
        header.extend_from_slice(&self.frames.to_le_bytes());
        header.extend_from_slice(&self.frames_length.to_le_bytes());
        header.resize(BLOCK_HEADER_LENGTH as usize, 0);
        if let Some(start) = block.get_mut(..header.len()) {
            start.copy_from_slice(&header);
        }
        seal(block);
    }

    /// Reads a header whose block has still to be checked with [`block_is_intact`]. `None` if these bytes cannot be the
    /// start of a block.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<BlockHeader> {
        let mut fields = Fields(bytes);
        let (version, identity) = fields.start(BLOCK_MAGIC)?;
        let header = BlockHeader {
            identity,
            term: LeaderEpoch(fields.u32()?.cast_signed()),
            number: BlockNumber(fields.u64()?),
            last_durable: BlockNumber(fields.u64()?),
            served_time: ServedTime(fields.u64()?),
            length: fields.u32()?,
            frames: fields.u32()?,
            frames_length: fields.u32()?,
        };
        let used = header.frames_length.checked_add(BLOCK_HEADER_LENGTH)?;
        let plausible = version == FORMAT_VERSION
            && header.number > BlockNumber::ZERO
            && header.last_durable < header.number
            && header.length.is_multiple_of(PAGE)
            && used.checked_next_multiple_of(PAGE) == Some(header.length)
            && header.frames <= header.frames_length / FRAME_HEADER_LENGTH;
        plausible.then_some(header)
    }
}

/// Whether a whole block, padding included, is as it was sealed.
#[must_use]
pub fn block_is_intact(block: &[u8]) -> bool {
    is_sealed(block)
}

/// The first bytes of a frame. The payload follows it, then the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload (a record batch), 0 if there is none.
    pub payload_length: u32,
    /// Bytes of the event.
    pub event_length: u32,
    /// Which frame of its block this is, from 0.
    pub ordinal: u32,
    /// The block in which the frame was decided; a frame that is copied elsewhere keeps it.
    pub block: BlockNumber,
    /// Checksum of the payload.
    pub payload_checksum: u32,
    /// Checksum of the event.
    pub event_checksum: u32,
}

impl FrameHeader {
    /// Where the payload of a frame with this header lies, if the frame lies at `position` in its block.
    pub(super) fn place(&self, position: u32) -> PlaceInBlock {
        PlaceInBlock { position, length: self.payload_length, checksum: self.payload_checksum }
    }

    /// The header's bytes, its own checksum first.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_LENGTH as usize] {
        let mut bytes = [0; FRAME_HEADER_LENGTH as usize];
        let (checksum, rest) = bytes.split_at_mut(4);
        let mut fields = &mut *rest;
        fields.put_u32_le(self.payload_length);
        fields.put_u32_le(self.event_length);
        fields.put_u32_le(self.ordinal);
        fields.put_u64_le(self.block.0);
        fields.put_u32_le(self.payload_checksum);
        fields.put_u32_le(self.event_checksum);
        checksum.copy_from_slice(&crc32c::crc32c(rest).to_le_bytes());
        bytes
    }

    /// Reads a header and checks it against its own checksum; `None` if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let (checksum, rest) = bytes.get(..FRAME_HEADER_LENGTH as usize)?.split_first_chunk::<4>()?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut fields = Fields(rest);
        Some(FrameHeader {
            payload_length: fields.u32()?,
            event_length: fields.u32()?,
            ordinal: fields.u32()?,
            block: BlockNumber(fields.u64()?),
            payload_checksum: fields.u32()?,
            event_checksum: fields.u32()?,
        })
    }

    /// Bytes of the whole frame; `None` if it is longer than any segment.
    #[must_use]
    pub fn frame_length(&self) -> Option<u32> {
        FRAME_HEADER_LENGTH.checked_add(self.payload_length)?.checked_add(self.event_length)
    }
}

/// The file that says that the log was stopped in order, and where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanStop {
    /// Which log.
    pub identity: Identity,
    /// Its last block; it is durable.
    pub block: BlockNumber,
}

/// Bytes of a clean-stop mark.
pub const MARK_LENGTH: u32 = 48;

impl CleanStop {
    /// The mark's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MARK_LENGTH as usize);
        put_start(&mut bytes, MARK_MAGIC, self.identity);
        // Four bytes of nothing, so that the number is aligned.
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.block.0.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// Reads a mark; `None` if it is damaged or of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<CleanStop> {
        if bytes.len() != MARK_LENGTH as usize || !is_sealed(bytes) {
            return None;
        }
        let mut fields = Fields(bytes);
        let (version, identity) = fields.start(MARK_MAGIC)?;
        fields.u32()?;
        let block = BlockNumber(fields.u64()?);
        (version == FORMAT_VERSION).then_some(CleanStop { identity, block })
    }
}

/// What file header, block header and mark begin with: magic, checksum (zero until sealed), version, identity.
fn put_start(bytes: &mut Vec<u8>, magic: [u8; 8], identity: Identity) {
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&identity.log.0.to_le_bytes());
    bytes.extend_from_slice(&identity.shard.0.to_le_bytes());
}

/// The checksum of all of `bytes` with the four bytes of the checksum itself counted as zero.
fn checksum(bytes: &[u8]) -> Option<u32> {
    let before = crc32c::crc32c_append(crc32c::crc32c(bytes.get(..CHECKSUM_AT)?), &[0; 4]);
    Some(crc32c::crc32c_append(before, bytes.get(CHECKSUM_END..)?))
}

fn seal(bytes: &mut [u8]) {
    if let Some(checksum) = checksum(bytes)
        && let Some(place) = bytes.get_mut(CHECKSUM_AT..CHECKSUM_END)
    {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

fn is_sealed(bytes: &[u8]) -> bool {
    checksum(bytes)
        .is_some_and(|checksum| bytes.get(CHECKSUM_AT..CHECKSUM_END) == Some(&checksum.to_le_bytes()[..]))
}

/// Takes fields off the front of some bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// The counterpart of [`put_start`]: version and identity.
    fn start(&mut self, magic: [u8; 8]) -> Option<(u16, Identity)> {
        if self.take()? != magic {
            return None;
        }
        self.u32()?;
        let version = self.take().map(u16::from_le_bytes)?;
        self.take::<2>()?;
        let log = LogId(self.take().map(u128::from_le_bytes)?);
        Some((version, Identity { log, shard: ShardNumber(self.u32()?) }))
    }
}
