//! Record batches, format version 2 (KIP-98): the unit in which records are produced, stored and fetched.
//!
//! [`check_produced`] judges what a producer sent, in one pass and without holding the decompressed records;
//! [`BatchHeader`] and [`Batches`] read stored batches; [`RecordReader`] opens one for a consumer;
//! [`BatchBuilder`] makes one; [`retain`] leaves records out of one; [`marker`] writes and reads transaction markers; [`rewrite_base`] and
//! [`rewrite_log_append_time`] change the few fields that a broker sets.

mod builder;
mod check;
mod compression;
mod header;
pub mod marker;
mod record;
pub mod records;
mod retain;
#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, Record, RecordHeader};
pub use check::{BatchLimits, CheckedBatch, WithoutKey, check_produced};
pub use compression::Compression;
pub use header::{
    Batch, BatchHeader, BatchProducer, Batches, HEADER_SIZE, PREFIX_SIZE, ProducerBatch, TimestampType,
    rebased_prefix, rewrite_base, rewrite_log_append_time, rewrite_producer,
};
pub use marker::{Marker, MarkerOutcome, control_batch};
pub use records::{FetchedRecord, RecordReader};
pub use retain::{Retained, retain};

use super::ErrorCode;

/// Why bytes are not a batch, or not one that may be produced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no batch at all.
    #[error("there is no record batch: exactly one is needed")]
    Empty,
    /// The bytes end before the header, or the batch, does.
    #[error("a batch of {needed} bytes does not fit the {present} bytes that are there")]
    Truncated {
        /// The batch's size as it says itself, or the header's.
        needed: usize,
        /// How many bytes there are.
        present: usize,
    },
    /// The length field leaves no room for the header.
    #[error("{0} is no batch length")]
    InvalidLength(i32),
    /// Something follows the batch.
    #[error("{0} bytes follow the batch: exactly one batch per partition may be produced")]
    MoreThanOne(usize),
    /// An older message format, or none.
    #[error("message format {0} is not supported: only version 2 is (Kafka 0.11 and later)")]
    UnsupportedMagic(i8),
    /// The batch is larger than it may be.
    #[error("a batch of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The checksum does not match: the bytes were changed on their way.
    #[error("the batch's CRC-32C is {computed:#010x} and its header says {declared:#010x}")]
    WrongCrc {
        /// What the header says.
        declared: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A compression type that does not exist.
    #[error("{0} is no compression type")]
    UnknownCompression(i16),
    /// The compressed records cannot be decompressed.
    #[error("the {compression} records cannot be decompressed: {reason}")]
    Decompression {
        /// The compression.
        compression: Compression,
        /// What the decompressor says.
        reason: String,
    },
    /// The records expand beyond the limits.
    #[error("the records expand to more than {limit} bytes")]
    Expansion {
        /// How many bytes they may take.
        limit: u64,
    },
    /// The header's record count is not positive, or not what there is.
    #[error("the header declares {declared} records with a last offset delta of {last_offset_delta}")]
    InvalidCount {
        /// The header's record count.
        declared: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
    /// Bytes follow the last record.
    #[error("bytes follow the last of {0} records")]
    TrailingRecords(i32),
    /// A record's bytes do not make sense.
    #[error("record {index}: {fault}")]
    InvalidRecord {
        /// The record's number within the batch, from 0.
        index: u32,
        /// What is wrong.
        fault: RecordFault,
    },
    /// Only brokers write control batches.
    #[error("clients must not write control batches")]
    ControlFromClient,
    /// An attribute that only brokers set.
    #[error("clients must not set {0} in a batch's attributes")]
    BrokerAttribute(&'static str),
    /// Timestamps that cannot be.
    #[error("{0} is no timestamp")]
    InvalidTimestamp(i64),
    /// Producer id, epoch and sequence contradict one another.
    #[error("producer id {producer_id}, epoch {epoch} and sequence {sequence} do not belong together")]
    InconsistentProducer {
        /// The producer id.
        producer_id: i64,
        /// The producer epoch.
        epoch: i16,
        /// The first sequence.
        sequence: i32,
    },
    /// A control batch that is no transaction marker.
    #[error("not a transaction marker: {0}")]
    InvalidMarker(&'static str),
}

/// What can be wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The bytes end within it.
    #[error("the bytes end within it")]
    Truncated,
    /// A length that does not fit.
    #[error("{0} is no length within it")]
    InvalidLength(i64),
    /// A variable-length integer that does not end.
    #[error("a variable-length integer does not end")]
    InvalidVarint,
    /// Its fields do not fill its length.
    #[error("{0} bytes follow its last header")]
    TrailingBytes(u64),
    /// Offset deltas must be 0, 1, 2, …
    #[error("its offset delta is {0}")]
    OffsetDelta(i32),
    /// More headers than allowed.
    #[error("it has {0} headers")]
    TooManyHeaders(i32),
    /// A header that is to bear an idempotency key has no value.
    #[error("its idempotency key is empty")]
    EmptyKey,
    /// An idempotency key that is longer than allowed.
    #[error("its idempotency key has {0} bytes, and {max} are allowed", max = crate::types::IdempotencyKey::BYTES_MAX)]
    KeyTooLong(u64),
    /// Two headers bear an idempotency key.
    #[error("it has two idempotency keys")]
    SecondKey,
    /// One idempotency key more than a batch may have.
    #[error("a batch has at most {0} idempotency keys: send smaller batches")]
    TooManyKeys(usize),
}

impl BatchError {
    /// What a producer is told; the codes that Kafka 4.4 answers.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Truncated { .. } | BatchError::InvalidLength(_) | BatchError::WrongCrc { .. } => {
                ErrorCode::CorruptMessage
            }
            BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BatchError::InvalidTimestamp(_) | BatchError::BrokerAttribute(_) => ErrorCode::InvalidTimestamp,
            BatchError::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            _ => ErrorCode::InvalidRecord,
        }
    }
}
