//! Blocks in memory: built by the shard from frames, and taken apart again by recovery.

use super::buffer::PageBuffer;
use super::format::{
    BLOCK_HEADER_LENGTH, BlockHeader, FRAME_HEADER_LENGTH, FrameHeader, Identity, PAGE, block_is_intact,
};
use super::place::{At, Checkpoint, Place, PlaceInBlock};
use crate::types::{BlockNumber, LeaderEpoch, ServedTime};
use bytes::Bytes;
use thiserror::Error;

/// What a block's header says of it besides its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStamp {
    /// Which log the block is of.
    pub identity: Identity,
    /// The term in which it is decided.
    pub term: LeaderEpoch,
    /// Its number.
    pub number: BlockNumber,
    /// The last block known to be durable; below `number`.
    pub last_durable: BlockNumber,
    /// Served time at which it is decided.
    pub served_time: ServedTime,
}

/// Collects the frames of one block. Shard thread only; no I/O.
#[derive(Debug)]
pub struct BlockBuilder {
    stamp: BlockStamp,
    length_max: u32,
    frames: u32,
    bytes: PageBuffer,
}

/// The frame would make the block longer than its limit; the block is as it was.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a frame of {frame} bytes does not fit into the {room} bytes that are left of the block")]
pub struct BlockFull {
    /// Bytes that the frame needs.
    pub frame: u64,
    /// Bytes that the block has left for frames.
    pub room: u32,
}

impl BlockBuilder {
    /// An empty block that will be at most `length_max` bytes long ([`super::LogOptions::block_length_max`]).
    #[must_use]
    pub fn new(stamp: BlockStamp, length_max: u32) -> BlockBuilder {
        BlockBuilder::with_buffer(stamp, length_max, Vec::new())
    }

    /// The same, in a buffer that was used before ([`super::Reader::buffer`]), which saves the system from clearing new
    /// memory.
    #[must_use]
    pub fn with_buffer(stamp: BlockStamp, length_max: u32, memory: Vec<u8>) -> BlockBuilder {
        let mut bytes = PageBuffer::reusing(memory);
        bytes.resize(BLOCK_HEADER_LENGTH as usize);
        BlockBuilder { stamp, length_max, frames: 0, bytes }
    }

    /// Bytes that a frame takes in a block.
    #[must_use]
    pub fn frame_length(event_length: usize, payload_length: usize) -> u64 {
        (event_length as u64)
            .saturating_add(payload_length as u64)
            .saturating_add(u64::from(FRAME_HEADER_LENGTH))
    }

    /// Bytes left for frames. A decision whose frames together are longer goes into the next block.
    #[must_use]
    pub fn room(&self) -> u32 {
        let limit = self.length_max - self.length_max % PAGE;
        limit.saturating_sub(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    /// How many frames there are so far.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes of the block as it would be written now.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len().next_multiple_of(PAGE as usize)
    }

    /// Adds a frame and says where its payload lies.
    pub fn push(&mut self, event: &[u8], payload: &[u8]) -> Result<PlaceInBlock, BlockFull> {
        self.push_patched(event, payload, |_| {})
    }

    /// Adds a frame whose payload is changed by `patch` once it is in the block (base offset, append time), so that it
    /// is copied only once.
    pub fn push_patched(
        &mut self,
        event: &[u8],
        payload: &[u8],
        patch: impl FnOnce(&mut [u8]),
    ) -> Result<PlaceInBlock, BlockFull> {
        let full = BlockFull { frame: Self::frame_length(event.len(), payload.len()), room: self.room() };
        if full.frame > u64::from(full.room) {
            return Err(full);
        }
        // All three are below the block's limit now, which is a u32.
        let (Ok(position), Ok(payload_length), Ok(event_length)) =
            (u32::try_from(self.bytes.len()), u32::try_from(payload.len()), u32::try_from(event.len()))
        else {
            return Err(full);
        };
        let header_at = self.bytes.len();
        let payload_at = header_at + FRAME_HEADER_LENGTH as usize;
        self.bytes.resize(payload_at);
        self.bytes.extend_from_slice(payload);
        let (before, payload) = self.bytes.as_mut().split_at_mut(payload_at);
        patch(payload);
        let header = FrameHeader {
            payload_length,
            event_length,
            ordinal: self.frames,
            block: self.stamp.number,
            payload_checksum: crc32c::crc32c(payload),
            event_checksum: crc32c::crc32c(event),
        };
        if let Some(place) = before.get_mut(header_at..) {
            place.copy_from_slice(&header.encode());
        }
        self.bytes.extend_from_slice(event);
        self.frames += 1;
        Ok(header.place(position))
    }

    /// Raises the number of the last durable block, if it has become higher since the block was begun.
    pub fn known_durable(&mut self, block: BlockNumber) {
        debug_assert!(block < self.stamp.number, "a block is not durable before it is written");
        self.stamp.last_durable = self.stamp.last_durable.max(block);
    }

    /// Pads and seals the block.
    #[must_use]
    pub fn finish(self) -> Block {
        let BlockBuilder { stamp, frames, mut bytes, .. } = self;
        let used = bytes.len();
        bytes.resize(used.next_multiple_of(PAGE as usize));
        // A builder never grows beyond its limit, which is a u32.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let frames_length = u32::try_from(used).unwrap_or(u32::MAX) - BLOCK_HEADER_LENGTH;
        let header = BlockHeader {
            identity: stamp.identity,
            term: stamp.term,
            number: stamp.number,
            last_durable: stamp.last_durable,
            served_time: stamp.served_time,
            length,
            frames,
            frames_length,
        };
        header.seal(bytes.as_mut());
        Block { header, bytes: bytes.into_bytes() }
    }
}

/// A sealed block, as it is written. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    header: BlockHeader,
    bytes: Bytes,
}

impl Block {
    /// Checks some bytes and makes a block of them: `None` unless they are exactly one intact block.
    #[must_use]
    pub fn parse(bytes: Bytes) -> Option<Block> {
        let header = BlockHeader::decode(&bytes)?;
        let block = Block { header, bytes };
        (block.bytes.len() == header.length as usize
            && block_is_intact(&block.bytes)
            && block.frames_are_in_order())
        .then_some(block)
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> BlockNumber {
        self.header.number
    }

    /// Bytes that it takes in the log, a multiple of 4 KiB.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.header.length
    }

    /// The bytes to write.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The frames, in order.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames { block: self, position: BLOCK_HEADER_LENGTH, left: self.header.frames }
    }

    /// The buffer, for the next block, if nobody else holds a part of it.
    #[must_use]
    pub(super) fn reclaim(self) -> Option<Vec<u8>> {
        PageBuffer::reclaim(self.bytes)
    }

    fn frames_are_in_order(&self) -> bool {
        let mut frames = self.frames();
        let all_ours = (0..).zip(frames.by_ref()).all(|(ordinal, frame)| {
            (frame.header.ordinal, frame.header.block) == (ordinal, self.header.number)
        });
        if !all_ours {
            return false;
        }
        frames.left == 0 && frames.position - BLOCK_HEADER_LENGTH == self.header.frames_length
    }
}

/// One frame of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Lengths and origin.
    pub header: FrameHeader,
    /// Where it lies, counted from the start of the block.
    pub place: PlaceInBlock,
    /// The event, as the caller encoded it.
    pub event: Bytes,
    /// The payload, empty if there is none. It shares the block's memory.
    pub payload: Bytes,
}

impl Frame {
    /// The frame in `bytes`, which are exactly as long as `header` says; none if it is not as it was written.
    pub(super) fn checked(header: FrameHeader, bytes: &Bytes) -> Option<Frame> {
        let payload_at = FRAME_HEADER_LENGTH as usize;
        let event_at = payload_at + header.payload_length as usize;
        let (payload, event) = (bytes.slice(payload_at..event_at), bytes.slice(event_at..));
        let intact = crc32c::crc32c(&payload) == header.payload_checksum
            && crc32c::crc32c(&event) == header.event_checksum;
        intact.then_some(Frame { header, place: header.place(0), event, payload })
    }
}

/// Walks the frames of a block; ends early at a frame that does not fit the block's lengths.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    block: &'a Block,
    position: u32,
    left: u32,
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let left = self.left.checked_sub(1)?;
        let header = FrameHeader::decode(self.block.bytes.get(self.position as usize..)?)?;
        let end = self.position.checked_add(header.frame_length()?)?;
        if end > BLOCK_HEADER_LENGTH + self.block.header.frames_length {
            return None;
        }
        let place = header.place(self.position);
        let payload_at = (self.position + FRAME_HEADER_LENGTH) as usize;
        let event_at = payload_at + header.payload_length as usize;
        let payload = self.block.bytes.slice(payload_at..event_at);
        let event = self.block.bytes.slice(event_at..end as usize);
        self.position = end;
        self.left = left;
        Some(Frame { header, place, event, payload })
    }
}

/// A block and where it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBlock {
    /// The block.
    pub block: Block,
    /// Where it begins.
    pub at: At,
}

impl PlacedBlock {
    /// How far the rows have come once this block is in them.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { block: self.block.number(), at: self.at }
    }

    /// The frames with the places of their payloads in the log.
    pub fn frames(&self) -> impl Iterator<Item = (Frame, Place)> + '_ {
        self.block.frames().map(|frame| {
            let place = frame.place.at(self.at);
            (frame, place)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{LogId, ShardNumber};
    use super::*;
    use proptest::prelude::*;

    fn stamp(number: u64) -> BlockStamp {
        BlockStamp {
            identity: Identity { log: LogId(7), shard: ShardNumber(3) },
            term: LeaderEpoch(2),
            number: BlockNumber(number),
            last_durable: BlockNumber(number - 1),
            served_time: ServedTime(99),
        }
    }

    proptest! {
        #[test]
        fn what_is_pushed_comes_back(frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..60),
                prop::collection::vec(any::<u8>(), 0..5000)), 0..12)) {
            let mut builder = BlockBuilder::new(stamp(5), 1 << 20);
            let mut places = Vec::new();
            for (event, payload) in &frames {
                places.push(builder.push(event, payload).unwrap());
            }
            let expected_length = builder.length();
            let block = builder.finish();
            prop_assert_eq!(block.bytes().len(), expected_length);
            let parsed = Block::parse(block.bytes().clone()).unwrap();
            prop_assert_eq!(&parsed, &block);
            let back: Vec<_> = parsed.frames().collect();
            prop_assert_eq!(back.len(), frames.len());
            for ((frame, place), (event, payload)) in back.iter().zip(places).zip(&frames) {
                prop_assert_eq!(&frame.event[..], &event[..]);
                prop_assert_eq!(&frame.payload[..], &payload[..]);
                prop_assert_eq!(frame.place, place);
                prop_assert_eq!(frame.header.payload_checksum, crc32c::crc32c(payload));
            }
        }

        #[test]
        fn any_changed_byte_is_noticed(payload in prop::collection::vec(any::<u8>(), 0..9000),
                at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let mut builder = BlockBuilder::new(stamp(1), 1 << 20);
            builder.push(b"event", &payload).unwrap();
            let mut bytes = builder.finish().bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(Block::parse(bytes.into()), None);
        }

        #[test]
        fn bytes_that_are_no_block_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert_eq!(Block::parse(bytes.into()), None);
        }

        /// A checksum that fits does not make a block of nonsense: lengths and counts are checked on their own.
        #[test]
        fn a_sealed_header_that_lies_is_refused(length in any::<u32>(), frames in any::<u32>(),
                frames_length in any::<u32>(), number in any::<u64>(), last_durable in any::<u64>()) {
            let good = { let mut b = BlockBuilder::new(stamp(4), 1 << 20); b.push(b"e", b"payload").unwrap(); b.finish() };
            let header = BlockHeader { length, frames, frames_length, number: BlockNumber(number),
                last_durable: BlockNumber(last_durable), ..*good.header() };
            let mut bytes = good.bytes().to_vec();
            header.seal(&mut bytes);
            prop_assert!(header == *good.header() || Block::parse(bytes.into()).is_none());
        }
    }

    #[test]
    fn a_block_keeps_to_its_limit() {
        let mut builder = BlockBuilder::new(stamp(1), 2 * PAGE + 100);
        let room = builder.room();
        assert_eq!(room, 2 * PAGE - BLOCK_HEADER_LENGTH);
        let payload = vec![1; (room - FRAME_HEADER_LENGTH) as usize];
        assert_eq!(
            builder.push(b"e", &payload),
            Err(BlockFull { frame: u64::from(room) + 1, room }),
            "one byte too many"
        );
        builder.push(b"", &payload).unwrap();
        assert_eq!(builder.room(), 0);
        assert_eq!(builder.finish().length(), 2 * PAGE);
    }

    #[test]
    fn a_patched_payload_is_what_is_stored() {
        let mut builder = BlockBuilder::new(stamp(1), 1 << 16);
        builder.push_patched(b"e", b"base offset", |payload| payload[..4].copy_from_slice(b"BASE")).unwrap();
        let frame = builder.finish().frames().next().unwrap();
        assert_eq!(&frame.payload[..], b"BASE offset");
        assert_eq!(frame.header.payload_checksum, crc32c::crc32c(b"BASE offset"));
    }

    #[test]
    fn the_buffer_of_a_block_can_be_used_again() {
        let builder = BlockBuilder::with_buffer(stamp(1), 1 << 16, Vec::with_capacity(1 << 16));
        let block = builder.finish();
        let held = block.clone();
        assert!(block.reclaim().is_none(), "somebody still reads it");
        assert!(held.reclaim().is_some_and(|buffer| buffer.capacity() >= PAGE as usize));
    }
}
