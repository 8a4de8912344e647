//! Writes files of moved frames: what is still live of segments that are to be freed, and what compaction has left of
//! batches. `spec/log-format.md`, "Moved frames" and "Compacted frames".

use super::block::Frame;
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{FILE_HEADER_LENGTH, FileHeader, FrameHeader, Identity};
use super::place::{At, Place, SegmentNumber};
use super::scan::Segments;
use super::segment::{segment_path, unfinished};
use crate::types::BlockNumber;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of moved frames that is being written. Until [`MovedWriter::finish`] has returned it does not exist: nothing may
/// point into it.
#[derive(Debug)]
pub struct MovedWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    segment: SegmentNumber,
    length_max: u32,
    file: Box<dyn DiskFile>,
    /// What is not written yet begins at `written`.
    buffer: Vec<u8>,
    written: u32,
}

/// Bytes collected before they are written, and synced at once: the log's own writes wait behind a sync for as long as it takes,
/// and behind one of 8 MiB a producer with one record in flight waited noticeably longer.
const WRITE_AT_ONCE: usize = 1 << 20;

impl MovedWriter {
    pub(super) fn begin(
        segments: &Segments,
        segment: SegmentNumber,
        length_max: u32,
    ) -> Result<MovedWriter, DiskError> {
        let Segments { disk, dir, identity } = segments.clone();
        let path = unfinished(&segment_path(&dir, segment));
        let file = disk.create(&path, u64::from(FILE_HEADER_LENGTH)).tried("create", &path)?;
        let (buffer, written) = (Vec::new(), FILE_HEADER_LENGTH);
        Ok(MovedWriter { disk, dir, identity, segment, length_max, file, buffer, written })
    }

    /// The file's number.
    #[must_use]
    pub fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// How long the file is so far.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.written.saturating_add(u32::try_from(self.buffer.len()).unwrap_or(u32::MAX))
    }

    /// Adds a frame as it is, origin included. `None` if the file has no room for it, which it has for any one frame.
    pub fn push(&mut self, frame: &Frame) -> Result<Option<Place>, DiskError> {
        let position = self.length();
        let end = frame.header.frame_length().and_then(|length| position.checked_add(length));
        let empty = position == FILE_HEADER_LENGTH;
        if end.is_none_or(|end| end > self.length_max && !empty) {
            return Ok(None);
        }
        self.append(&frame.header, &frame.payload, &frame.event)?;
        Ok(Some(frame.header.place(0).at(At { segment: self.segment, position })))
    }

    /// Adds a frame that was in no block, however long the file becomes by it.
    pub fn write(&mut self, event: &[u8], payload: &[u8]) -> Result<(), DiskError> {
        // Both are far below 4 GiB: a batch, and what is said of it.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let header = FrameHeader {
            payload_length: length(payload),
            event_length: length(event),
            ordinal: 0,
            block: BlockNumber::ZERO,
            payload_checksum: crc32c::crc32c(payload),
            event_checksum: crc32c::crc32c(event),
        };
        self.append(&header, payload, event)
    }

    fn append(&mut self, header: &FrameHeader, payload: &[u8], event: &[u8]) -> Result<(), DiskError> {
        self.buffer.extend_from_slice(&header.encode());
        self.buffer.extend_from_slice(payload);
        self.buffer.extend_from_slice(event);
        if self.buffer.len() >= WRITE_AT_ONCE {
            self.flush()?;
            let path = self.unfinished();
            self.file.sync().tried("sync", &path)?;
        }
        Ok(())
    }

    /// Its path until it is finished.
    fn unfinished(&self) -> PathBuf {
        unfinished(&segment_path(&self.dir, self.segment))
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let path = self.unfinished();
        self.file.write_at(u64::from(self.written), &self.buffer).tried("write", &path)?;
        self.written = self.length();
        self.buffer.clear();
        Ok(())
    }

    /// Makes the file and its name durable: from now on it counts.
    pub fn finish(&mut self) -> Result<SegmentNumber, DiskError> {
        self.flush()?;
        let path = segment_path(&self.dir, self.segment);
        let new = unfinished(&path);
        let header = FileHeader {
            identity: self.identity,
            segment: self.segment,
            first_block: BlockNumber::ZERO,
            length: self.written,
        };
        self.file.write_at(0, &header.encode()).tried("write", &new)?;
        self.file.sync().tried("sync", &new)?;
        self.disk.rename(&new, &path).tried("rename", &new)?;
        self.disk.sync_dir(&self.dir).tried("sync the directory", &self.dir)?;
        Ok(self.segment)
    }

    /// Gives the file up.
    pub fn abandon(self) -> Result<(), DiskError> {
        let path = self.unfinished();
        self.disk.remove(&path).tried("remove", &path)
    }
}
