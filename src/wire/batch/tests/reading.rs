//! Reading and writing batches: against Java's bytes, an independent codec, and itself.

use super::fixtures;
use super::{BASE_TIME, batch_of, header, limits, plain_batch, producer, record};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::wire::batch::{
    Batch, BatchError, BatchHeader, BatchProducer, Batches, Compression, Marker, MarkerOutcome, Record,
    TimestampType, WithoutKey, check_produced, control_batch, rebased_prefix, rewrite_base,
    rewrite_log_append_time,
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression as OracleCompression, Record as OracleRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType as OracleTimestampType,
};
use proptest::prelude::*;

/// The records of Java's fixtures.
fn java_records() -> [(i64, Record); 3] {
    let mut first = record(Some("key"), Some("value"));
    first.headers = vec![header("h", Some("x")), header("n", None)];
    let second = Record { key: None, value: Some(vec![0; 200].into()), headers: Vec::new() };
    [(BASE_TIME, first), (BASE_TIME + 5, second), (BASE_TIME - 1, record(Some("k2"), None))]
}

#[test]
fn javas_batches_are_read_in_every_compression() {
    let fixtures = [fixtures::NONE, fixtures::GZIP, fixtures::SNAPPY, fixtures::LZ4, fixtures::ZSTD];
    for (compression, fixture) in Compression::ALL.into_iter().zip(fixtures) {
        let bytes = Bytes::from(fixtures::bytes(fixture));
        let checked =
            check_produced(&bytes, &limits(), None).unwrap_or_else(|e| panic!("{compression}: {e}"));
        assert_eq!(checked.compression(), compression);
        assert_eq!(checked.producer, BatchProducer::Transactional(producer(3)));
        assert_eq!((checked.record_count, checked.without_key.count), (3, 1));
        assert_eq!(checked.max_timestamp, Timestamp(BASE_TIME + 5));
        assert_eq!(checked.bytes.as_ptr(), bytes.as_ptr(), "kept as received");
        let read: Vec<_> =
            Batch::new(bytes).unwrap().records(&limits()).unwrap().map(Result::unwrap).collect();
        for (offset, (read, (timestamp, record))) in read.iter().zip(java_records()).enumerate() {
            assert_eq!(read.offset, Offset(offset.try_into().unwrap()));
            assert_eq!((read.timestamp, &read.record), (Timestamp(timestamp), &record), "{compression}");
        }
        assert_eq!(read.len(), 3);
    }
}

#[test]
fn an_uncompressed_batch_is_written_as_java_writes_it() {
    let mut written =
        batch_of(&java_records(), Compression::None, BatchProducer::Transactional(producer(3))).to_vec();
    rewrite_base(&mut written, Offset::ZERO, LeaderEpoch(7)).unwrap();
    assert_eq!(written, fixtures::bytes(fixtures::NONE));
}

#[test]
fn markers_are_javas_byte_for_byte() {
    let commit = Marker {
        outcome: MarkerOutcome::Commit,
        producer_id: ProducerId(4711),
        producer_epoch: ProducerEpoch(4),
        offset: Offset(42),
        timestamp: Timestamp(BASE_TIME + 123),
        coordinator_epoch: 9,
    };
    let timestamp = Timestamp(BASE_TIME + 124);
    let abort = Marker { outcome: MarkerOutcome::Abort, offset: Offset(43), timestamp, ..commit };
    for (marker, fixture) in [(commit, fixtures::COMMIT), (abort, fixtures::ABORT)] {
        let bytes = control_batch(&marker, LeaderEpoch(5)).unwrap();
        assert_eq!(bytes, fixtures::bytes(fixture));
        assert_eq!(Marker::parse(&Batch::new(bytes).unwrap()), Ok(marker));
    }
    let data = Batch::new(plain_batch().into()).unwrap();
    assert!(matches!(Marker::parse(&data), Err(BatchError::InvalidMarker(_))));
}

fn oracle_record(index: usize, timestamp: i64, record: &Record) -> OracleRecord {
    let name = |name: &Bytes| String::from_utf8(name.to_vec()).unwrap().into();
    let index = i32::try_from(index).unwrap();
    OracleRecord {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 7,
        producer_id: 4711,
        producer_epoch: 3,
        timestamp_type: OracleTimestampType::Creation,
        offset: index.into(),
        sequence: 10 + index,
        timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|header| (name(&header.name), header.value.clone())).collect(),
    }
}

fn any_record() -> impl Strategy<Value = (i64, Record)> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from));
    let headers = proptest::collection::btree_map("[a-zé]{0,5}", bytes(), 0..4);
    (0..10_000_i64, bytes(), bytes(), headers).prop_map(|(time, key, value, headers)| {
        let headers =
            headers.into_iter().map(|(name, value)| super::RecordHeader { name: name.into(), value });
        (BASE_TIME + time, Record { key, value, headers: headers.collect() })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_built_is_accepted_and_read_back(records in proptest::collection::vec(any_record(), 1..40)) {
        let count = u32::try_from(records.len()).unwrap();
        for compression in Compression::ALL {
            let bytes = batch_of(&records, compression, BatchProducer::Idempotent(producer(count)));
            let checked = check_produced(&bytes, &limits(), None).unwrap();
            prop_assert_eq!(checked.record_count, count);
            prop_assert_eq!(checked.producer, BatchProducer::Idempotent(producer(count)));
            let without_key = (0..).zip(&records).filter(|(_, (_, record))| record.key.is_none());
            let without_key: Vec<u32> = without_key.map(|(index, _)| index).collect();
            prop_assert_eq!(checked.without_key.count as usize, without_key.len());
            prop_assert_eq!(&checked.without_key.first[..], &without_key[..without_key.len().min(WithoutKey::FIRST_MAX)]);
            let latest = records.iter().map(|(timestamp, _)| *timestamp).max().unwrap();
            prop_assert_eq!(checked.max_timestamp, Timestamp(latest));
            let read = Batch::new(bytes).unwrap().records(&limits()).unwrap();
            let read: Vec<_> = read.map(|read| read.map(|read| (read.timestamp.0, read.record)).unwrap()).collect();
            prop_assert_eq!(&read, &records);
        }
    }

    #[test]
    fn the_oracle_writes_and_reads_the_same(records in proptest::collection::vec(any_record(), 1..40)) {
        let count = u32::try_from(records.len()).unwrap();
        let mut ours = batch_of(&records, Compression::None, BatchProducer::Transactional(producer(count))).to_vec();
        rewrite_base(&mut ours, Offset::ZERO, LeaderEpoch(7)).unwrap();
        let theirs: Vec<_> =
            records.iter().enumerate().map(|(index, (time, record))| oracle_record(index, *time, record)).collect();
        let options = RecordEncodeOptions { version: 2, compression: OracleCompression::None };
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        // The oracle counts timestamps from the smallest, not from the first: the records are the same, the bytes not.
        let checked = check_produced(&bytes.clone().freeze(), &limits(), None).unwrap();
        prop_assert_eq!(checked.producer, BatchProducer::Transactional(producer(count)));
        let read = Batch::new(bytes.freeze()).unwrap().records(&limits()).unwrap();
        let read: Vec<_> = read.map(|read| read.map(|read| (read.timestamp.0, read.record)).unwrap()).collect();
        prop_assert_eq!(&read, &records);
        let decoded = RecordBatchDecoder::decode(&mut Bytes::from(ours)).unwrap();
        prop_assert_eq!(decoded.records, theirs);
    }
}

#[test]
fn the_broker_sets_base_offset_and_leader_epoch_without_touching_the_checksum() {
    let received = plain_batch();
    let mut rewritten = received.clone();
    rewrite_base(&mut rewritten, Offset(1000), LeaderEpoch(2)).unwrap();
    let batch = Batch::new(rewritten.clone().into()).unwrap();
    assert_eq!((batch.header.base_offset, batch.header.leader_epoch), (Offset(1000), LeaderEpoch(2)));
    assert_eq!((batch.header.last_offset(), batch.header.next_offset()), (Offset(1002), Offset(1003)));
    let offsets: Vec<_> = batch.records(&limits()).unwrap().map(|record| record.unwrap().offset.0).collect();
    assert_eq!(offsets, [1000, 1001, 1002]);
    let prefix = rebased_prefix(&received, Offset(1000), LeaderEpoch(2)).unwrap();
    assert_eq!([&prefix[..], &received[prefix.len()..]].concat(), rewritten);
}

#[test]
fn log_append_time_replaces_every_timestamp() {
    let mut bytes = plain_batch();
    rewrite_log_append_time(&mut bytes, Timestamp(99)).unwrap();
    let batch = Batch::new(bytes.into()).unwrap();
    assert_eq!(batch.header.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(batch.header.max_timestamp, Timestamp(99));
    assert!(batch.records(&limits()).unwrap().all(|record| record.unwrap().timestamp == Timestamp(99)));
}

#[test]
fn a_fetch_answer_is_cut_into_its_batches_and_a_partial_last_one_is_left_out() {
    let whole = plain_batch();
    let two = [&whole[..], &whole].concat();
    assert_eq!(Batches::new(two.clone().into()).map(Result::unwrap).count(), 2);
    for end in whole.len()..two.len() {
        let batches: Vec<_> = Batches::new(Bytes::copy_from_slice(&two[..end])).map(Result::unwrap).collect();
        assert_eq!(batches.len(), 1, "cut at {end}");
        assert_eq!(batches[0].bytes, whole);
    }
    let mut damaged = two;
    damaged[30] ^= 1;
    let mut batches = Batches::new(damaged.into());
    assert!(matches!(batches.next(), Some(Err(BatchError::WrongCrc { .. }))));
    assert_eq!(batches.next(), None);
}

#[test]
fn the_header_can_be_read_from_its_bytes_alone() {
    let bytes = plain_batch();
    let header = BatchHeader::parse(&bytes[..61]).unwrap();
    assert_eq!((header.size, header.record_count), (bytes.len(), 3));
    assert!(BatchHeader::parse(&bytes[..60]).is_err());
}
