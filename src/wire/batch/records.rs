//! Opening a batch for a consumer.

use super::builder::{Record, RecordHeader};
use super::compression::{Compression, Expander};
use super::header::{Batch, TimestampType};
use super::record::{ReadFault, RecordParts};
use super::{BatchError, BatchLimits, HEADER_SIZE, RecordFault};
use crate::types::{Offset, Timestamp};
use bytes::Bytes;
use std::io::Read;

/// A record as a consumer sees it. Key, value and headers are slices of the batch, or of its expanded records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedRecord {
    /// Its position in the partition.
    pub offset: Offset,
    /// The producer's time or the broker's, as the batch says.
    pub timestamp: Timestamp,
    /// Key, value and headers.
    pub record: Record,
}

/// The records of one batch, in order. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct RecordReader {
    records: Bytes,
    at: usize,
    index: u32,
    left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
    headers_max: u32,
}

impl RecordReader {
    /// Opens a batch, expanding its records within the limits.
    pub(super) fn open(batch: &Batch, limits: &BatchLimits) -> Result<RecordReader, BatchError> {
        let header = &batch.header;
        let compressed = batch.bytes.slice(HEADER_SIZE.min(batch.bytes.len())..);
        let records = match header.compression {
            Compression::None => compressed,
            compression => expand(compression, &compressed, limits.expansion_of(compressed.len()))?,
        };
        if header.record_count < 0 {
            let (declared, last_offset_delta) = (header.record_count, header.last_offset_delta);
            return Err(BatchError::InvalidCount { declared, last_offset_delta });
        }
        Ok(RecordReader {
            records,
            at: 0,
            index: 0,
            left: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: match header.timestamp_type {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(header.max_timestamp),
            },
            headers_max: limits.record_headers_max,
        })
    }

    /// How far it has read, in bytes of the expanded records.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Expanded records, as they stand in the batch.
    pub(super) fn encoded(&self, span: std::ops::Range<usize>) -> &[u8] {
        self.records.get(span).unwrap_or_default()
    }

    fn read(&mut self) -> Result<FetchedRecord, ReadFault> {
        let mut rest = self.records.get(self.at..).unwrap_or_default();
        let whole = rest.len();
        let record = RecordParts::begin(&mut rest)?;
        let length = usize::try_from(record.left()).map_err(|_| RecordFault::Truncated)?;
        let start = self.at + (whole - rest.len());
        if length > rest.len() {
            return Err(RecordFault::Truncated.into());
        }
        let bytes = self.records.slice(start..start + length);
        self.at = start + length;
        self.parse(&bytes)
    }

    fn parse(&self, bytes: &Bytes) -> Result<FetchedRecord, ReadFault> {
        let mut from = &bytes[..];
        let mut parts = RecordParts::within(&mut from, bytes.len() as u64);
        parts.byte()?;
        let timestamp_delta = parts.varlong()?;
        let offset_delta = parts.varint()?;
        let key = slice_of(bytes, &mut parts)?;
        let value = slice_of(bytes, &mut parts)?;
        let count = parts.varint()?;
        if !u32::try_from(count).is_ok_and(|count| count <= self.headers_max) {
            return Err(RecordFault::TooManyHeaders(count).into());
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = slice_of(bytes, &mut parts)?.ok_or(RecordFault::InvalidLength(-1))?;
            headers.push(RecordHeader { name, value: slice_of(bytes, &mut parts)? });
        }
        if parts.left() > 0 {
            return Err(RecordFault::TrailingBytes(parts.left()).into());
        }
        let created = Timestamp(self.base_timestamp.0.saturating_add(timestamp_delta));
        Ok(FetchedRecord {
            offset: self.base_offset.plus(offset_delta.into()),
            timestamp: self.append_time.unwrap_or(created),
            record: Record { key, value, headers },
        })
    }
}

/// The next length-prefixed bytes of a record, as a slice of it; none is null.
fn slice_of(record: &Bytes, parts: &mut RecordParts<'_, &[u8]>) -> Result<Option<Bytes>, ReadFault> {
    let Some(length) = parts.nullable_length()? else { return Ok(None) };
    let left = usize::try_from(parts.left()).map_err(|_| RecordFault::Truncated)?;
    let start = record.len() - left;
    parts.skip(length)?;
    let end = record.len() - usize::try_from(parts.left()).map_err(|_| RecordFault::Truncated)?;
    Ok(Some(record.slice(start..end)))
}

impl Iterator for RecordReader {
    type Item = Result<FetchedRecord, BatchError>;

    fn next(&mut self) -> Option<Result<FetchedRecord, BatchError>> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let index = self.index;
        self.index += 1;
        let record = self.read().map_err(|fault| match fault {
            ReadFault::Record(fault) => BatchError::InvalidRecord { index, fault },
            ReadFault::Source(_) => BatchError::InvalidRecord { index, fault: RecordFault::Truncated },
        });
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn expand(compression: Compression, compressed: &[u8], limit: u64) -> Result<Bytes, BatchError> {
    let failed = |error: std::io::Error| Expander::error(compression, limit, &error);
    let mut expanded = Vec::with_capacity(compressed.len());
    let mut expander = Expander::new(compression, compressed, limit).map_err(failed)?;
    expander.read_to_end(&mut expanded).map_err(failed)?;
    Ok(expanded.into())
}
