//! Tests of the batch view.

mod checking;
mod fixtures;
mod hostile;
mod reading;
mod retaining;

use super::{BatchBuilder, BatchLimits, BatchProducer, Compression, ProducerBatch, Record, RecordHeader};
use crate::types::{ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp};
use bytes::Bytes;

const BASE_TIME: i64 = 1_700_000_000_000;

/// Limits that the tests' batches stay within.
fn limits() -> BatchLimits {
    BatchLimits { batch_bytes_max: 16 * 1024 * 1024, ..BatchLimits::default() }
}

fn record(key: Option<&str>, value: Option<&str>) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record { key: key.map(bytes), value: value.map(bytes), headers: Vec::new() }
}

fn header(name: &str, value: Option<&str>) -> RecordHeader {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    RecordHeader { name: bytes(name), value: value.map(bytes) }
}

/// Producer 4711 in epoch 3, from sequence 10 on.
fn producer(records: u32) -> ProducerBatch {
    let first = Sequence::new(10).unwrap();
    let sequences = SequenceRange { first, last: first.plus(records - 1) };
    ProducerBatch { id: ProducerId(4711), epoch: ProducerEpoch(3), sequences }
}

fn batch_of(records: &[(i64, Record)], compression: Compression, producer: BatchProducer) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    for (timestamp, record) in records {
        builder.append(Timestamp(*timestamp), record).unwrap();
    }
    builder.build(compression, producer).unwrap()
}

/// Three records, uncompressed.
fn plain_batch() -> Vec<u8> {
    let records = [
        (BASE_TIME, record(Some("a"), Some("first"))),
        (BASE_TIME + 9, record(None, Some("second"))),
        (BASE_TIME + 4, record(Some("c"), None)),
    ];
    batch_of(&records, Compression::None, BatchProducer::Idempotent(producer(3))).to_vec()
}

/// Overwrites bytes and makes the checksum right again, as a liar would.
fn forged(mut batch: Vec<u8>, at: usize, value: &[u8]) -> Bytes {
    batch[at..at + value.len()].copy_from_slice(value);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A batch of given record bytes under a header that declares `count` records, with a right length and checksum.
fn batch_around(records: &[u8], compression: Compression, count: i32) -> Bytes {
    let mut batch = plain_batch();
    batch.truncate(super::HEADER_SIZE);
    batch.extend_from_slice(records);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = u8::try_from(compression.attributes()).unwrap();
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    forged(batch, 57, &count.to_be_bytes())
}
