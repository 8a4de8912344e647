//! A batch's header: its fields, and the few that a broker writes.

use super::compression::Compression;
use super::record::bytes_at;
use super::{BatchError, BatchLimits, RecordReader};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp};
use bytes::Bytes;

/// The size of a batch's header, in bytes: everything before the first record.
pub const HEADER_SIZE: usize = 61;
/// The part of the header that a broker writes without touching the checksum: base offset, length, leader epoch.
pub const PREFIX_SIZE: usize = 16;
/// The format this room reads and writes.
const MAGIC: i8 = 2;
/// What the length field does not count: the base offset and itself.
const LENGTH_OVERHEAD: usize = 12;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where the bytes begin that the checksum covers.
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Whose clock a batch's timestamps are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's, one for each record.
    CreateTime,
    /// The broker's: the header's maximum is every record's timestamp.
    LogAppendTime,
}

/// The header of a batch, as it stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset (in a produced batch: 0, or whatever the client wrote).
    pub base_offset: Offset,
    /// The whole batch's size in bytes, header included.
    pub size: usize,
    /// The epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// How the records are compressed.
    pub compression: Compression,
    /// Whose clock the timestamps are from.
    pub timestamp_type: TimestampType,
    /// Whether the records belong to a transaction.
    pub transactional: bool,
    /// Whether the record is for clients and brokers, not for applications: a transaction marker.
    pub control: bool,
    /// Whether the base timestamp is a delete horizon instead (compaction, KIP-534).
    pub delete_horizon: bool,
    /// The last record's offset, counted from the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are counted from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records.
    pub max_timestamp: Timestamp,
    /// The producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// The producer's epoch; meaningless without a producer.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence; −1 in markers, meaningless without a producer.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

/// Whose records a produced batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchProducer {
    /// Nobody's in particular: no duplicate can be recognised.
    Anonymous,
    /// An idempotent producer's.
    Idempotent(ProducerBatch),
    /// Part of a transaction.
    Transactional(ProducerBatch),
}

/// A producer's identity and the sequences of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The records' sequences.
    pub sequences: SequenceRange,
}

impl BatchProducer {
    /// The identity and sequences, where there are any.
    #[must_use]
    pub fn batch(&self) -> Option<ProducerBatch> {
        match self {
            BatchProducer::Anonymous => None,
            BatchProducer::Idempotent(batch) | BatchProducer::Transactional(batch) => Some(*batch),
        }
    }
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may hold more than the batch, or only its header. The checksum
    /// is not checked here: see [`BatchHeader::check_crc`].
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.is_empty() {
            return Err(BatchError::Empty);
        }
        // The magic stands at the same place in every format, and says most about what went wrong.
        let magic = bytes.get(MAGIC_AT).map(|byte| byte.cast_signed());
        if let Some(magic) = magic.filter(|magic| *magic != MAGIC) {
            return Err(BatchError::UnsupportedMagic(magic));
        }
        if bytes.len() < HEADER_SIZE {
            return Err(BatchError::Truncated { needed: HEADER_SIZE, present: bytes.len() });
        }
        let length = i32::from_be_bytes(bytes_at(bytes, LENGTH_AT));
        let size = usize::try_from(length).ok().map(|length| length + LENGTH_OVERHEAD);
        let size = size.filter(|size| *size >= HEADER_SIZE).ok_or(BatchError::InvalidLength(length))?;
        let attributes = i16::from_be_bytes(bytes_at(bytes, ATTRIBUTES_AT));
        let timestamp = |at| Timestamp(i64::from_be_bytes(bytes_at(bytes, at)));
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(bytes_at(bytes, 0))),
            size,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(bytes_at(bytes, LEADER_EPOCH_AT))),
            crc: u32::from_be_bytes(bytes_at(bytes, CRC_AT)),
            compression: Compression::from_attributes(attributes & COMPRESSION_MASK)?,
            timestamp_type: match attributes & LOG_APPEND_TIME {
                0 => TimestampType::CreateTime,
                _ => TimestampType::LogAppendTime,
            },
            transactional: attributes & TRANSACTIONAL != 0,
            control: attributes & CONTROL != 0,
            delete_horizon: attributes & DELETE_HORIZON != 0,
            last_offset_delta: i32::from_be_bytes(bytes_at(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: timestamp(BASE_TIMESTAMP_AT),
            max_timestamp: timestamp(MAX_TIMESTAMP_AT),
            producer_id: ProducerId(i64::from_be_bytes(bytes_at(bytes, PRODUCER_ID_AT))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(bytes_at(bytes, PRODUCER_EPOCH_AT))),
            base_sequence: i32::from_be_bytes(bytes_at(bytes, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(bytes_at(bytes, RECORD_COUNT_AT)),
        })
    }

    /// The last record's offset.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Checks the checksum of `batch`, which is exactly this batch.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default());
        if computed == self.crc { Ok(()) } else { Err(BatchError::WrongCrc { declared: self.crc, computed }) }
    }

    /// Whose batch it is. `record_count` records; an error if the fields contradict one another.
    pub fn producer(&self, record_count: u32) -> Result<BatchProducer, BatchError> {
        let inconsistent = || BatchError::InconsistentProducer {
            producer_id: self.producer_id.0,
            epoch: self.producer_epoch.0,
            sequence: self.base_sequence,
        };
        if self.producer_id == ProducerId::NONE {
            // Some clients (kafkajs) write epoch and sequence 0 then; like Kafka, nobody looks at them.
            return if self.transactional { Err(inconsistent()) } else { Ok(BatchProducer::Anonymous) };
        }
        let first = Sequence::new(self.base_sequence).ok_or_else(inconsistent)?;
        if self.producer_id.0 < 0 || self.producer_epoch.0 < 0 {
            return Err(inconsistent());
        }
        let batch = ProducerBatch {
            id: self.producer_id,
            epoch: self.producer_epoch,
            sequences: SequenceRange { first, last: first.plus(record_count.saturating_sub(1)) },
        };
        Ok(match self.transactional {
            true => BatchProducer::Transactional(batch),
            false => BatchProducer::Idempotent(batch),
        })
    }

    /// Writes the whole header over the first [`HEADER_SIZE`] bytes of `batch`, and the checksum of what follows.
    pub(super) fn write(&self, batch: &mut [u8]) -> Result<(), BatchError> {
        let length = batch.len().saturating_sub(LENGTH_OVERHEAD);
        let length = i32::try_from(length)
            .map_err(|_| BatchError::TooLarge { size: length, limit: i32::MAX as usize })?;
        let mut attributes = self.compression.attributes();
        let flags = [
            (self.timestamp_type == TimestampType::LogAppendTime, LOG_APPEND_TIME),
            (self.transactional, TRANSACTIONAL),
            (self.control, CONTROL),
            (self.delete_horizon, DELETE_HORIZON),
        ];
        for (_, flag) in flags.iter().filter(|(set, _)| *set) {
            attributes |= flag;
        }
        put_at(batch, 0, &self.base_offset.0.to_be_bytes());
        put_at(batch, LENGTH_AT, &length.to_be_bytes());
        put_at(batch, LEADER_EPOCH_AT, &self.leader_epoch.0.to_be_bytes());
        put_at(batch, MAGIC_AT, &MAGIC.to_be_bytes());
        put_at(batch, ATTRIBUTES_AT, &attributes.to_be_bytes());
        put_at(batch, LAST_OFFSET_DELTA_AT, &self.last_offset_delta.to_be_bytes());
        put_at(batch, BASE_TIMESTAMP_AT, &self.base_timestamp.0.to_be_bytes());
        put_at(batch, MAX_TIMESTAMP_AT, &self.max_timestamp.0.to_be_bytes());
        put_at(batch, PRODUCER_ID_AT, &self.producer_id.0.to_be_bytes());
        put_at(batch, PRODUCER_EPOCH_AT, &self.producer_epoch.0.to_be_bytes());
        put_at(batch, BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put_at(batch, RECORD_COUNT_AT, &self.record_count.to_be_bytes());
        write_crc(batch);
        Ok(())
    }
}

/// Overwrites bytes in place; nothing happens beyond the end, which callers have checked.
fn put_at(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default());
    put_at(batch, CRC_AT, &crc.to_be_bytes());
}

/// Sets the base offset and the leader epoch of a batch in place. The checksum does not cover them.
pub fn rewrite_base(
    batch: &mut [u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(), BatchError> {
    BatchHeader::parse(batch)?;
    put_at(batch, 0, &base_offset.0.to_be_bytes());
    put_at(batch, LEADER_EPOCH_AT, &leader_epoch.0.to_be_bytes());
    Ok(())
}

/// The first [`PREFIX_SIZE`] bytes of a batch with another base offset and leader epoch: to be written in front of the
/// batch's other bytes where those are shared and cannot be changed in place.
pub fn rebased_prefix(
    batch: &[u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<[u8; PREFIX_SIZE], BatchError> {
    BatchHeader::parse(batch)?;
    let mut prefix: [u8; PREFIX_SIZE] = bytes_at(batch, 0);
    put_at(&mut prefix, 0, &base_offset.0.to_be_bytes());
    put_at(&mut prefix, LEADER_EPOCH_AT, &leader_epoch.0.to_be_bytes());
    Ok(prefix)
}

/// Makes `timestamp` the timestamp of every record (`message.timestamp.type=LogAppendTime`), in place, and computes the
/// checksum anew. `batch` is exactly one batch.
pub fn rewrite_log_append_time(batch: &mut [u8], timestamp: Timestamp) -> Result<(), BatchError> {
    exactly_one(batch)?;
    let attributes = i16::from_be_bytes(bytes_at(batch, ATTRIBUTES_AT)) | LOG_APPEND_TIME;
    put_at(batch, ATTRIBUTES_AT, &attributes.to_be_bytes());
    put_at(batch, MAX_TIMESTAMP_AT, &timestamp.0.to_be_bytes());
    write_crc(batch);
    Ok(())
}

/// Gives a produced batch another producer epoch and other sequences, in place, and computes the checksum anew: a client
/// needs it when it starts a new epoch (KIP-360). `batch` is exactly one batch.
pub fn rewrite_producer(batch: &mut [u8], producer: ProducerBatch) -> Result<(), BatchError> {
    exactly_one(batch)?;
    put_at(batch, PRODUCER_ID_AT, &producer.id.0.to_be_bytes());
    put_at(batch, PRODUCER_EPOCH_AT, &producer.epoch.0.to_be_bytes());
    put_at(batch, BASE_SEQUENCE_AT, &producer.sequences.first.get().to_be_bytes());
    write_crc(batch);
    Ok(())
}

/// Sets the header's largest timestamp in place, and computes the checksum anew.
pub(super) fn rewrite_max_timestamp(batch: &mut [u8], timestamp: Timestamp) {
    put_at(batch, MAX_TIMESTAMP_AT, &timestamp.0.to_be_bytes());
    write_crc(batch);
}

/// The header of bytes that are one batch and nothing more.
pub(super) fn exactly_one(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    match bytes.len().checked_sub(header.size) {
        Some(0) => Ok(header),
        Some(more) => Err(BatchError::MoreThanOne(more)),
        None => Err(BatchError::Truncated { needed: header.size, present: bytes.len() }),
    }
}

/// One batch and its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The header.
    pub header: BatchHeader,
    /// The whole batch.
    pub bytes: Bytes,
}

impl Batch {
    /// Takes bytes that are exactly one batch, with a right checksum.
    pub fn new(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = exactly_one(&bytes)?;
        header.check_crc(&bytes)?;
        Ok(Batch { header, bytes })
    }

    /// Opens the records. Control batches have records too: see [`super::marker`].
    pub fn records(&self, limits: &BatchLimits) -> Result<RecordReader, BatchError> {
        RecordReader::open(self, limits)
    }
}

/// The batches of a fetch answer, each with its checksum checked. A last one that is cut off is left out: a fetch may
/// end anywhere. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// The batches in `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Batches {
        Batches { rest: bytes }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Result<Batch, BatchError>> {
        let rest = std::mem::take(&mut self.rest);
        if rest.len() < HEADER_SIZE {
            return None;
        }
        match BatchHeader::parse(&rest) {
            Ok(header) if header.size > rest.len() => None,
            Ok(header) => {
                let bytes = rest.slice(..header.size);
                let checked = header.check_crc(&bytes);
                if checked.is_ok() {
                    self.rest = rest.slice(header.size..);
                }
                Some(checked.map(|()| Batch { header, bytes }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
