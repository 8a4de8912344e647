//! Making a batch.

use super::BatchError;
use super::compression::{Compression, compress};
use super::header::{BatchHeader, BatchProducer, HEADER_SIZE, TimestampType};
use super::record::varlong_size;
use crate::types::codec::put_varlong;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::Bytes;

/// A record's content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// What partitioning and compaction go by.
    pub key: Option<Bytes>,
    /// The payload; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Named annotations, in order; names may repeat.
    pub headers: Vec<RecordHeader>,
}

/// One annotation of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name, which should be UTF-8.
    pub name: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Collects records and makes them one batch.
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    /// Uncompressed, after room for the header, so that nothing moves where there is no compression.
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// A builder with room for about `capacity` bytes of records.
    #[must_use]
    pub fn new(capacity: usize) -> BatchBuilder {
        let mut bytes = Vec::with_capacity(HEADER_SIZE.saturating_add(capacity));
        bytes.resize(HEADER_SIZE, 0);
        BatchBuilder { bytes, count: 0, base_timestamp: Timestamp::NONE, max_timestamp: Timestamp::NONE }
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.count.cast_unsigned()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's size in bytes, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len().max(HEADER_SIZE)
    }

    /// Appends a record. Its time is the producer's.
    pub fn append(&mut self, timestamp: Timestamp, record: &Record) -> Result<(), BatchError> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_SIZE, 0);
        }
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let length = record_length(timestamp_delta, self.count, record);
        let (size, limit) = (self.bytes.len().saturating_add(length), i32::MAX as usize);
        if size > limit || self.count == i32::MAX {
            return Err(BatchError::TooLarge { size, limit });
        }
        let to = &mut self.bytes;
        put_varlong(to, length_field(length));
        to.push(0);
        put_varlong(to, timestamp_delta);
        put_varlong(to, self.count.into());
        put_nullable(to, record.key.as_ref());
        put_nullable(to, record.value.as_ref());
        put_varlong(to, length_field(record.headers.len()));
        for header in &record.headers {
            put_nullable(to, Some(&header.name));
            put_nullable(to, header.value.as_ref());
        }
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Appends a record as it stands in another batch of the same base offset and base timestamp.
    pub(super) fn append_encoded(&mut self, record: &[u8]) -> Result<(), BatchError> {
        let (size, limit) = (self.bytes.len().saturating_add(record.len()), i32::MAX as usize);
        if size > limit || self.count == i32::MAX {
            return Err(BatchError::TooLarge { size, limit });
        }
        self.bytes.extend_from_slice(record);
        self.count += 1;
        Ok(())
    }

    /// The finished batch, with base offset 0.
    pub fn build(self, compression: Compression, producer: BatchProducer) -> Result<Bytes, BatchError> {
        let (id, epoch, sequence) = match producer.batch() {
            None => (ProducerId::NONE, ProducerEpoch::NONE, -1),
            Some(batch) => (batch.id, batch.epoch, batch.sequences.first.get()),
        };
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            size: 0,
            leader_epoch: LeaderEpoch(-1),
            crc: 0,
            compression,
            timestamp_type: TimestampType::CreateTime,
            transactional: matches!(producer, BatchProducer::Transactional(_)),
            control: false,
            delete_horizon: false,
            last_offset_delta: self.count.saturating_sub(1),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: sequence,
            record_count: self.count,
        };
        self.finish(&header)
    }

    /// The finished batch under a given header; its length and checksum are filled in.
    pub(super) fn finish(self, header: &BatchHeader) -> Result<Bytes, BatchError> {
        if self.count == 0 {
            return Err(BatchError::InvalidCount { declared: 0, last_offset_delta: -1 });
        }
        let compression = header.compression;
        let mut batch = self.bytes;
        if compression != Compression::None {
            let mut compressed = Vec::with_capacity(HEADER_SIZE + batch.len() / 2);
            compressed.resize(HEADER_SIZE, 0);
            compress(compression, batch.get(HEADER_SIZE..).unwrap_or_default(), &mut compressed)
                .map_err(|error| BatchError::Decompression { compression, reason: error.to_string() })?;
            batch = compressed;
        }
        header.write(&mut batch)?;
        Ok(batch.into())
    }
}

/// A length as it is written. Lengths beyond 2⁶³ do not exist.
fn length_field(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn put_nullable(to: &mut Vec<u8>, value: Option<&Bytes>) {
    match value {
        None => put_varlong(to, -1),
        Some(value) => {
            put_varlong(to, length_field(value.len()));
            to.extend_from_slice(value);
        }
    }
}

fn nullable_size(value: Option<&Bytes>) -> usize {
    value.map_or(1, |value| varlong_size(length_field(value.len())).saturating_add(value.len()))
}

/// The length of a record after its length field, in bytes.
fn record_length(timestamp_delta: i64, offset_delta: i32, record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| nullable_size(Some(&header.name)).saturating_add(nullable_size(header.value.as_ref())))
        .fold(0, usize::saturating_add);
    1_usize
        .saturating_add(varlong_size(timestamp_delta))
        .saturating_add(varlong_size(offset_delta.into()))
        .saturating_add(nullable_size(record.key.as_ref()))
        .saturating_add(nullable_size(record.value.as_ref()))
        .saturating_add(varlong_size(length_field(record.headers.len())))
        .saturating_add(headers)
}
