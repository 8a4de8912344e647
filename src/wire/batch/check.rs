//! Judging a produced batch.

use super::compression::{Compression, Expander};
use super::header::{BatchHeader, BatchProducer, TimestampType, exactly_one, rewrite_max_timestamp};
use super::record::{ReadFault, RecordParts};
use super::{BatchError, HEADER_SIZE, RecordFault};
use crate::types::{IdempotencyKey, Timestamp};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::io::BufRead;

/// What a batch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest batch as it travels, in bytes (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// The most bytes its records may expand to.
    pub expanded_bytes_max: u64,
    /// How many times its compressed size they may expand to, once that is beyond `expanded_bytes_free`.
    pub expansion_ratio_max: u64,
    /// How many bytes any batch may expand to, whatever the ratio: very regular small batches compress a thousandfold.
    pub expanded_bytes_free: u64,
    /// The most headers of one record.
    pub record_headers_max: u32,
    /// The most idempotency keys of one batch.
    pub keys_max: usize,
}

impl Default for BatchLimits {
    /// Kafka's default batch size, and what a second of a core's decompression comes to.
    fn default() -> BatchLimits {
        BatchLimits {
            batch_bytes_max: 1024 * 1024 + 12,
            expanded_bytes_max: 128 * 1024 * 1024,
            expansion_ratio_max: 1_000,
            expanded_bytes_free: 4 * 1024 * 1024,
            record_headers_max: 10_000,
            keys_max: 10_000,
        }
    }
}

impl BatchLimits {
    /// How many bytes the records of a batch may expand to.
    pub(super) fn expansion_of(&self, compressed: usize) -> u64 {
        let by_ratio = self.expansion_ratio_max.saturating_mul(compressed as u64);
        by_ratio.max(self.expanded_bytes_free).min(self.expanded_bytes_max)
    }
}

/// A produced batch that may be appended, and what the state machine needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBatch {
    /// The batch. It is what was sent, except that a wrong maximum timestamp in the header has been put right, as
    /// Kafka does.
    pub bytes: Bytes,
    /// Its header.
    pub header: BatchHeader,
    /// Whose it is.
    pub producer: BatchProducer,
    /// How many records it has; at least one.
    pub record_count: u32,
    /// The largest timestamp of its records; [`Timestamp::NONE`] if they have none.
    pub max_timestamp: Timestamp,
    /// The smallest timestamp of those records that have one; [`Timestamp::NONE`] if none has.
    pub oldest_timestamp: Timestamp,
    /// The records that have no key, which a compacted topic refuses.
    pub without_key: WithoutKey,
    /// How many bytes its records take when expanded.
    pub expanded_bytes: u64,
    /// The idempotency keys of its records, each with its record's number; none unless they were asked for.
    pub keys: Vec<(u32, IdempotencyKey)>,
}

/// Records without a key: how many, and which are the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WithoutKey {
    /// How many there are.
    pub count: u32,
    /// The first of them, by their number within the batch, from 0; at most [`WithoutKey::FIRST_MAX`].
    pub first: SmallVec<[u32; 4]>,
}

impl WithoutKey {
    /// So many are named: an answer for each of millions would be larger than the batch.
    pub const FIRST_MAX: usize = 1_000;

    fn add(&mut self, index: u32) {
        self.count += 1;
        if self.first.len() < WithoutKey::FIRST_MAX {
            self.first.push(index);
        }
    }
}

impl CheckedBatch {
    /// How the records are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.header.compression
    }
}

/// Checks that `bytes` are exactly one batch that a client may produce: format, length, checksum, attributes, producer
/// fields, and every record, expanding compressed ones as a stream. Takes time linear in the expanded size. The values of
/// the header `key_header`, if one is named, are the records' idempotency keys.
pub fn check_produced(
    bytes: &Bytes,
    limits: &BatchLimits,
    key_header: Option<&str>,
) -> Result<CheckedBatch, BatchError> {
    let header = exactly_one(bytes)?;
    if header.size > limits.batch_bytes_max {
        return Err(BatchError::TooLarge { size: header.size, limit: limits.batch_bytes_max });
    }
    header.check_crc(bytes)?;
    let record_count = check_header(&header)?;
    let producer = header.producer(record_count)?;
    let walked = walk(&header, bytes, &Walk { limits, key_header: key_header.map(str::as_bytes) })?;
    let mut checked = CheckedBatch {
        bytes: bytes.clone(),
        header,
        producer,
        record_count,
        max_timestamp: walked.max_timestamp,
        oldest_timestamp: walked.oldest_timestamp,
        without_key: walked.without_key,
        expanded_bytes: walked.expanded_bytes,
        keys: walked.keys,
    };
    if header.max_timestamp != walked.max_timestamp {
        let mut corrected = BytesMut::from(&bytes[..]);
        rewrite_max_timestamp(&mut corrected, walked.max_timestamp);
        checked.bytes = corrected.freeze();
        checked.header = BatchHeader::parse(&checked.bytes)?;
    }
    Ok(checked)
}

/// The header's fields by themselves. Returns the record count.
fn check_header(header: &BatchHeader) -> Result<u32, BatchError> {
    if header.control {
        return Err(BatchError::ControlFromClient);
    }
    if header.timestamp_type == TimestampType::LogAppendTime {
        return Err(BatchError::BrokerAttribute("log append time"));
    }
    if header.delete_horizon {
        return Err(BatchError::BrokerAttribute("a delete horizon"));
    }
    check_timestamp(header.base_timestamp.0)?;
    let count = u32::try_from(header.record_count).ok().filter(|count| *count > 0);
    match count {
        Some(count) if header.last_offset_delta == header.record_count - 1 => Ok(count),
        _ => Err(BatchError::InvalidCount {
            declared: header.record_count,
            last_offset_delta: header.last_offset_delta,
        }),
    }
}

/// −1 is "none"; nothing else below zero is a time.
fn check_timestamp(timestamp: i64) -> Result<(), BatchError> {
    if timestamp >= Timestamp::NONE.0 { Ok(()) } else { Err(BatchError::InvalidTimestamp(timestamp)) }
}

/// What one pass over the records goes by.
struct Walk<'a> {
    limits: &'a BatchLimits,
    key_header: Option<&'a [u8]>,
}

/// What one pass over the records found.
struct Walked {
    max_timestamp: Timestamp,
    oldest_timestamp: Timestamp,
    without_key: WithoutKey,
    expanded_bytes: u64,
    keys: Vec<(u32, IdempotencyKey)>,
}

fn walk(header: &BatchHeader, batch: &[u8], walk: &Walk<'_>) -> Result<Walked, BatchError> {
    let records = batch.get(HEADER_SIZE..).unwrap_or_default();
    if header.compression == Compression::None {
        // The common case without the stream's indirection.
        let mut rest = records;
        let mut walked = walk_records(header, &mut rest, walk, |_| BatchError::Empty)?;
        walked.expanded_bytes = records.len() as u64;
        return if rest.is_empty() {
            Ok(walked)
        } else {
            Err(BatchError::TrailingRecords(header.record_count))
        };
    }
    let limit = walk.limits.expansion_of(records.len());
    let failed = |error: &std::io::Error| Expander::error(header.compression, limit, error);
    let mut expander = Expander::new(header.compression, records, limit).map_err(|error| failed(&error))?;
    let mut walked = walk_records(header, &mut expander, walk, failed)?;
    walked.expanded_bytes = expander.expanded();
    match expander.at_end().map_err(|error| failed(&error))? {
        true => Ok(walked),
        false => Err(BatchError::TrailingRecords(header.record_count)),
    }
}

fn walk_records<R: BufRead>(
    header: &BatchHeader,
    from: &mut R,
    walk: &Walk<'_>,
    source_error: impl Fn(&std::io::Error) -> BatchError,
) -> Result<Walked, BatchError> {
    let none = Timestamp::NONE;
    let mut walked = Walked {
        max_timestamp: none,
        oldest_timestamp: none,
        without_key: WithoutKey::default(),
        expanded_bytes: 0,
        keys: Vec::new(),
    };
    for index in 0..header.record_count {
        let invalid = |fault| BatchError::InvalidRecord { index: index.cast_unsigned(), fault };
        let facts = walk_record(from, index, walk).map_err(|fault| match fault {
            ReadFault::Record(fault) => invalid(fault),
            ReadFault::Source(error) => source_error(&error),
        })?;
        if let Some(key) = facts.idempotency_key {
            if walked.keys.len() >= walk.limits.keys_max {
                return Err(invalid(RecordFault::TooManyKeys(walk.limits.keys_max)));
            }
            walked.keys.push((index.cast_unsigned(), key));
        }
        let timestamp = header
            .base_timestamp
            .0
            .checked_add(facts.timestamp_delta)
            .ok_or(BatchError::InvalidTimestamp(facts.timestamp_delta))?;
        check_timestamp(timestamp)?;
        let timestamp = Timestamp(timestamp);
        walked.max_timestamp = walked.max_timestamp.max(timestamp);
        if walked.oldest_timestamp == none || (timestamp != none && timestamp < walked.oldest_timestamp) {
            walked.oldest_timestamp = timestamp;
        }
        if !facts.has_key {
            walked.without_key.add(index.cast_unsigned());
        }
    }
    Ok(walked)
}

struct RecordFacts {
    timestamp_delta: i64,
    has_key: bool,
    idempotency_key: Option<IdempotencyKey>,
}

fn walk_record<R: BufRead>(from: &mut R, index: i32, walk: &Walk<'_>) -> Result<RecordFacts, ReadFault> {
    // A record that lies wholly in the buffer is walked there, without asking the stream for each byte. What fails here
    // is walked again below: at the buffer's end once, or because it is wrong, which ends the walk.
    let present = from.fill_buf().map_err(ReadFault::Source)?;
    let mut rest = present;
    if let Ok(facts) = walk_parts(&mut rest, index, walk) {
        let used = present.len() - rest.len();
        from.consume(used);
        return Ok(facts);
    }
    walk_parts(from, index, walk)
}

fn walk_parts<R: BufRead>(from: &mut R, index: i32, walk: &Walk<'_>) -> Result<RecordFacts, ReadFault> {
    let mut record = RecordParts::begin(from)?;
    record.byte()?; // attributes: none is defined
    let timestamp_delta = record.varlong()?;
    let offset_delta = record.varint()?;
    if offset_delta != index {
        return Err(RecordFault::OffsetDelta(offset_delta).into());
    }
    let key = record.nullable_length()?;
    record.skip(key.unwrap_or(0))?;
    let value = record.nullable_length()?;
    record.skip(value.unwrap_or(0))?;
    let headers = record.varint()?;
    // Each header takes at least two bytes, so the count is bounded by the record's length as well.
    let within = u32::try_from(headers).is_ok_and(|headers| headers <= walk.limits.record_headers_max);
    if !within {
        return Err(RecordFault::TooManyHeaders(headers).into());
    }
    let mut idempotency_key = None;
    for _ in 0..headers {
        let name = record.length()?;
        let bears_key = match walk.key_header {
            Some(wanted) if wanted.len() as u64 == name => record.take(name)? == wanted,
            _ => record.skip(name).map(|()| false)?,
        };
        let value = record.nullable_length()?;
        if !bears_key {
            record.skip(value.unwrap_or(0))?;
            continue;
        }
        let key = walk_key(&mut record, value)?;
        if idempotency_key.replace(key).is_some() {
            return Err(RecordFault::SecondKey.into());
        }
    }
    match record.left() {
        0 => Ok(RecordFacts { timestamp_delta, has_key: key.is_some(), idempotency_key }),
        left => Err(RecordFault::TrailingBytes(left).into()),
    }
}

fn walk_key<R: BufRead>(
    record: &mut RecordParts<'_, R>,
    length: Option<u64>,
) -> Result<IdempotencyKey, ReadFault> {
    let length = length.unwrap_or(0);
    if length > IdempotencyKey::BYTES_MAX as u64 {
        return Err(RecordFault::KeyTooLong(length).into());
    }
    IdempotencyKey::new(record.take(length)?.into()).ok_or_else(|| RecordFault::EmptyKey.into())
}
