//! Transaction markers: control batches of one record (KIP-98), byte for byte as Kafka writes them.

use super::builder::{BatchBuilder, Record};
use super::compression::Compression;
use super::header::{Batch, BatchHeader, TimestampType};
use super::{BatchError, BatchLimits};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::Bytes;

/// The version of a marker's key and of its value.
const VERSION: i16 = 0;
const KEY_SIZE: usize = 4;
const VALUE_SIZE: usize = 6;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkerOutcome {
    /// Its records count.
    Commit,
    /// Its records do not.
    Abort,
}

impl MarkerOutcome {
    /// The control record type.
    fn record_type(self) -> i16 {
        match self {
            MarkerOutcome::Abort => 0,
            MarkerOutcome::Commit => 1,
        }
    }
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// How it ended.
    pub outcome: MarkerOutcome,
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The producer's epoch; in protocol version 2 the raised one (KIP-890).
    pub producer_epoch: ProducerEpoch,
    /// The offset that the marker takes.
    pub offset: Offset,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
}

/// The control batch of a marker.
pub fn control_batch(marker: &Marker, leader_epoch: LeaderEpoch) -> Result<Bytes, BatchError> {
    let mut key = Vec::with_capacity(KEY_SIZE);
    key.extend_from_slice(&VERSION.to_be_bytes());
    key.extend_from_slice(&marker.outcome.record_type().to_be_bytes());
    let mut value = Vec::with_capacity(VALUE_SIZE);
    value.extend_from_slice(&VERSION.to_be_bytes());
    value.extend_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let record = Record { key: Some(key.into()), value: Some(value.into()), headers: Vec::new() };
    let mut builder = BatchBuilder::new(0);
    builder.append(marker.timestamp, &record)?;
    builder.finish(&BatchHeader {
        base_offset: marker.offset,
        size: 0,
        leader_epoch,
        crc: 0,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        transactional: true,
        control: true,
        delete_horizon: false,
        last_offset_delta: 0,
        base_timestamp: marker.timestamp,
        max_timestamp: marker.timestamp,
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        base_sequence: -1,
        record_count: 1,
    })
}

impl Marker {
    /// Reads a control batch.
    pub fn parse(batch: &Batch) -> Result<Marker, BatchError> {
        let invalid = BatchError::InvalidMarker;
        if !batch.header.control {
            return Err(invalid("the batch is not a control batch"));
        }
        let mut records = batch.records(&BatchLimits::default())?;
        let fetched = records.next().ok_or(invalid("it has no record"))??;
        let key = fetched.record.key.as_deref().and_then(<[u8]>::first_chunk::<KEY_SIZE>);
        let [_, _, high, low] = *key.ok_or(invalid("its key is cut off"))?;
        let outcome = match i16::from_be_bytes([high, low]) {
            0 => MarkerOutcome::Abort,
            1 => MarkerOutcome::Commit,
            _ => return Err(invalid("its type is neither commit nor abort")),
        };
        // Later versions may append fields, so what follows is not looked at.
        let value = fetched.record.value.as_deref().and_then(<[u8]>::first_chunk::<VALUE_SIZE>);
        let [_, _, epoch @ ..] = *value.ok_or(invalid("its value is cut off"))?;
        Ok(Marker {
            outcome,
            producer_id: batch.header.producer_id,
            producer_epoch: batch.header.producer_epoch,
            offset: fetched.offset,
            timestamp: fetched.timestamp,
            coordinator_epoch: i32::from_be_bytes(epoch),
        })
    }
}
