//! What a producer may not send.

use super::{BASE_TIME, batch_around, batch_of, forged, header, limits, plain_batch, record};
use crate::types::{IdempotencyKey, Timestamp};
use crate::wire::ErrorCode;
use crate::wire::batch::compression::compress;
use crate::wire::batch::{
    BatchError, BatchLimits, BatchProducer, Compression, HEADER_SIZE, Record, RecordFault, RecordHeader,
    check_produced,
};
use bytes::Bytes;

fn refused(bytes: impl Into<Bytes>) -> BatchError {
    check_produced(&bytes.into(), &limits(), None).expect_err("the batch must be refused")
}

fn refused_record(bytes: impl Into<Bytes>) -> RecordFault {
    match refused(bytes) {
        BatchError::InvalidRecord { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn nothing_is_not_a_batch() {
    assert_eq!(refused(Bytes::new()), BatchError::Empty);
}

#[test]
fn a_batch_that_is_cut_anywhere_is_refused() {
    let whole = plain_batch();
    for end in 1..whole.len() {
        let error = refused(whole[..end].to_vec());
        assert!(matches!(error, BatchError::Truncated { .. }), "cut at {end}: {error}");
        assert_eq!(error.code(), ErrorCode::CorruptMessage);
    }
}

#[test]
fn exactly_one_batch_is_taken() {
    let whole = plain_batch();
    assert_eq!(refused([&whole[..], &whole].concat()), BatchError::MoreThanOne(whole.len()));
    assert_eq!(refused([&whole[..], &[0]].concat()), BatchError::MoreThanOne(1));
}

#[test]
fn every_changed_byte_under_the_checksum_is_noticed() {
    let whole = plain_batch();
    for at in 21..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let error = check_produced(&damaged.into(), &limits(), None).unwrap_err();
        let noticed = matches!(error, BatchError::WrongCrc { .. } | BatchError::UnknownCompression(_));
        assert!(noticed, "byte {at}: {error}");
    }
    let mut damaged = whole;
    damaged[17] ^= 1;
    assert_eq!(refused(damaged).code(), ErrorCode::CorruptMessage);
}

#[test]
fn older_formats_are_named() {
    for magic in [0, 1, 3, -1_i8] {
        let error = refused(forged(plain_batch(), 16, &magic.to_be_bytes()));
        assert_eq!(error, BatchError::UnsupportedMagic(magic));
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn lengths_that_leave_no_room_are_refused() {
    for length in [-1, 0, 48, i32::MIN] {
        assert_eq!(
            refused(forged(plain_batch(), 8, &length.to_be_bytes())),
            BatchError::InvalidLength(length)
        );
    }
    let error = refused(forged(plain_batch(), 8, &i32::MAX.to_be_bytes()));
    assert!(matches!(error, BatchError::Truncated { .. }));
}

#[test]
fn a_batch_beyond_the_limit_is_refused() {
    let limits = BatchLimits { batch_bytes_max: 90, ..limits() };
    let error = check_produced(&plain_batch().into(), &limits, None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
}

#[test]
fn a_lying_count_is_refused() {
    let count = |count: i32, last: i32| {
        let batch = forged(plain_batch(), 23, &last.to_be_bytes());
        forged(batch.to_vec(), 57, &count.to_be_bytes())
    };
    for (declared, last_offset_delta) in [(0, -1), (-1, -2), (3, 1), (3, 3), (2, 2)] {
        let expected = BatchError::InvalidCount { declared, last_offset_delta };
        assert_eq!(refused(count(declared, last_offset_delta)), expected);
    }
    assert_eq!(refused(count(2, 1)), BatchError::TrailingRecords(2));
    assert_eq!(refused_record(count(4, 3)), RecordFault::Truncated);
    assert_eq!(refused_record(count(i32::MAX, i32::MAX - 1)), RecordFault::Truncated);
}

#[test]
fn attributes_that_are_the_brokers_are_refused() {
    let with = |attributes: i16| refused(forged(plain_batch(), 21, &attributes.to_be_bytes()));
    assert_eq!(with(0x20), BatchError::ControlFromClient);
    assert_eq!(with(0x30), BatchError::ControlFromClient);
    assert!(matches!(with(0x08), BatchError::BrokerAttribute(_)));
    assert!(matches!(with(0x40), BatchError::BrokerAttribute(_)));
    for compression in 5..8 {
        assert_eq!(with(compression), BatchError::UnknownCompression(compression));
    }
}

#[test]
fn producer_fields_must_belong_together() {
    let with = |id: i64, epoch: i16, sequence: i32, attributes: i16| {
        let bytes = [&id.to_be_bytes()[..], &epoch.to_be_bytes(), &sequence.to_be_bytes()].concat();
        let batch = forged(plain_batch(), 43, &bytes);
        check_produced(&forged(batch.to_vec(), 21, &attributes.to_be_bytes()), &limits(), None)
    };
    let producer = |checked: Result<super::super::CheckedBatch, _>| checked.unwrap().producer;
    assert_eq!(producer(with(-1, -1, -1, 0)), BatchProducer::Anonymous);
    assert_eq!(producer(with(-1, 0, 0, 0)), BatchProducer::Anonymous, "as kafkajs writes it");
    assert!(matches!(producer(with(7, 0, 0, 0)), BatchProducer::Idempotent(_)));
    assert!(matches!(producer(with(7, 0, i32::MAX, 0x10)), BatchProducer::Transactional(batch)
        if batch.sequences.last.get() == 1));
    for (id, epoch, sequence, attributes) in [(-1, -1, -1, 0x10), (7, -1, 0, 0), (7, 0, -1, 0), (-2, 0, 0, 0)]
    {
        let error = with(id, epoch, sequence, attributes).unwrap_err();
        assert_eq!(error, BatchError::InconsistentProducer { producer_id: id, epoch, sequence });
    }
}

#[test]
fn a_wrong_maximum_timestamp_is_put_right_and_an_impossible_one_refused() {
    let wrong = forged(plain_batch(), 35, &7_i64.to_be_bytes());
    let checked = check_produced(&wrong, &limits(), None).unwrap();
    assert_eq!(checked.max_timestamp, Timestamp(BASE_TIME + 9));
    assert_eq!(checked.bytes, plain_batch());
    assert_eq!(checked.header.max_timestamp, Timestamp(BASE_TIME + 9));
    for base in [-2, i64::MIN, i64::MAX] {
        let error = refused(forged(plain_batch(), 27, &i64::to_be_bytes(base)));
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp, "{base}: {error}");
    }
    let untimed = batch_of(&[(-1, record(None, None))], Compression::None, BatchProducer::Anonymous);
    assert_eq!(check_produced(&untimed, &limits(), None).unwrap().max_timestamp, Timestamp::NONE);
}

/// A record's bytes after its length, one byte for each field: attributes, timestamp delta, offset delta, key length,
/// value length, header count. Zigzag: 0 is 0, 1 is -1, 2 is 1.
const SMALLEST: [u8; 6] = [0, 0, 0, 1, 1, 0];

fn record_bytes(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(body.len() * 2).unwrap()];
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let single = |body: &[u8]| batch_around(&record_bytes(body), Compression::None, 1);
    assert!(check_produced(&single(&SMALLEST), &limits(), None).is_ok());
    let with = |at: usize, byte: u8| {
        let mut body = SMALLEST;
        body[at] = byte;
        refused_record(single(&body))
    };
    assert_eq!(with(2, 2), RecordFault::OffsetDelta(1));
    assert_eq!(with(3, 3), RecordFault::InvalidLength(-2));
    assert_eq!(with(3, 200), RecordFault::InvalidLength(100), "a varint of two bytes");
    assert_eq!(with(4, 8), RecordFault::InvalidLength(4));
    assert_eq!(with(5, 1), RecordFault::TooManyHeaders(-1));
    assert_eq!(with(5, 2), RecordFault::Truncated, "a header that is not there");
    assert_eq!(refused_record(single(&[0, 0, 0, 1, 1, 0, 0])), RecordFault::TrailingBytes(1));
    assert_eq!(
        refused_record(single(&[0, 0, 0, 1, 1, 2, 1, 1])),
        RecordFault::InvalidLength(-1),
        "a null name"
    );
    assert_eq!(
        refused_record(single(&[0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 0, 1, 1, 0])),
        RecordFault::InvalidVarint
    );
    let endless = batch_around(&[0xff; 20], Compression::None, 1);
    assert_eq!(refused_record(endless), RecordFault::InvalidVarint);
    let negative = batch_around(&[1], Compression::None, 1);
    assert_eq!(refused_record(negative), RecordFault::InvalidLength(-1));
    let longer = batch_around(&[0xfe, 0xff, 0xff, 0xff, 0x0f], Compression::None, 1);
    assert_eq!(refused_record(longer), RecordFault::Truncated);
}

#[test]
fn too_many_headers_are_refused() {
    let mut body = vec![0, 0, 0, 1, 1, 20];
    body.extend_from_slice(&[0, 1].repeat(10));
    let batch = batch_around(&record_bytes(&body), Compression::None, 1);
    assert!(check_produced(&batch, &limits(), None).is_ok());
    let limits = BatchLimits { record_headers_max: 9, ..limits() };
    let error = check_produced(&batch, &limits, None).unwrap_err();
    assert_eq!(error, BatchError::InvalidRecord { index: 0, fault: RecordFault::TooManyHeaders(10) });
}

fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    compress(compression, plain, &mut bytes).unwrap();
    bytes
}

const COMPRESSIONS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[test]
fn compressed_records_are_walked_as_strictly() {
    let one = record_bytes(&SMALLEST);
    for compression in COMPRESSIONS {
        let batch = |plain: &[u8], count| batch_around(&compressed(compression, plain), compression, count);
        let checked = check_produced(&batch(&one, 1), &limits(), None).unwrap();
        assert_eq!(checked.expanded_bytes, one.len() as u64, "{compression}");
        assert_eq!(refused_record(batch(&one, 2)), RecordFault::Truncated, "{compression}");
        assert_eq!(refused(batch(&one.repeat(2), 1)), BatchError::TrailingRecords(1), "{compression}");
        let mut trailing = compressed(compression, &one);
        trailing.extend_from_slice(&[0; 7]);
        let error = refused(batch_around(&trailing, compression, 1));
        assert!(
            matches!(error, BatchError::TrailingRecords(1) | BatchError::Decompression { .. }),
            "{error}"
        );
        let whole = compressed(compression, &one.repeat(50));
        for end in 0..whole.len() - 12 {
            refused(batch_around(&whole[..end], compression, 50));
        }
    }
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    // One record of 64 MiB of zeros, which compresses to next to nothing.
    let value = Bytes::from(vec![0; 64 * 1024 * 1024]);
    let zeros = super::Record { key: None, value: Some(value), headers: Vec::new() };
    for compression in COMPRESSIONS {
        let bomb = batch_of(&[(BASE_TIME, zeros.clone())], compression, BatchProducer::Anonymous);
        let tight = BatchLimits { expanded_bytes_max: 8 * 1024 * 1024, ..limits() };
        let error = check_produced(&bomb, &tight, None).unwrap_err();
        let limit = tight.expansion_of(bomb.len() - HEADER_SIZE);
        assert!(limit <= 8 * 1024 * 1024);
        assert_eq!(error, BatchError::Expansion { limit }, "{compression}");
        let batch = super::super::Batch::new(bomb.clone()).unwrap();
        assert_eq!(batch.records(&tight).unwrap_err(), error, "{compression}, as a consumer");
        let by_ratio = BatchLimits { expansion_ratio_max: 2, expanded_bytes_free: 1000, ..limits() };
        let error = check_produced(&bomb, &by_ratio, None).unwrap_err();
        assert!(matches!(error, BatchError::Expansion { .. }), "{compression}: {error}");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn snappy_is_read_bare_and_a_lying_block_is_not_believed() {
    let one = record_bytes(&SMALLEST);
    let bare = snap::raw::Encoder::new().compress_vec(&one).unwrap();
    assert!(check_produced(&batch_around(&bare, Compression::Snappy, 1), &limits(), None).is_ok());
    // A length of 100 MB and no data.
    let lying = [0x80, 0xc2, 0xd7, 0x2f];
    let error = refused(batch_around(&lying, Compression::Snappy, 1));
    assert!(matches!(error, BatchError::Decompression { .. } | BatchError::Expansion { .. }), "{error}");
}

#[test]
fn gzip_of_several_members_is_read() {
    let mut members = compressed(Compression::Gzip, &record_bytes(&SMALLEST)[..3]);
    members.extend(compressed(Compression::Gzip, &record_bytes(&SMALLEST)[3..]));
    assert!(check_produced(&batch_around(&members, Compression::Gzip, 1), &limits(), None).is_ok());
}

#[test]
fn lz4_that_java_cannot_read_is_refused() {
    use std::io::Write as _;
    let plain = record_bytes(&SMALLEST);
    let linked = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(linked, Vec::new());
    encoder.write_all(&plain).unwrap();
    let error = refused(batch_around(&encoder.finish().unwrap(), Compression::Lz4, 1));
    assert!(matches!(error, BatchError::Decompression { .. }), "{error}");
}

#[test]
fn zstd_with_an_archives_window_is_refused() {
    use std::io::Write as _;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&record_bytes(&SMALLEST)).unwrap();
    let error = refused(batch_around(&encoder.finish().unwrap(), Compression::Zstd, 1));
    assert!(matches!(error, BatchError::Decompression { .. }), "{error}");
}

#[test]
fn the_header_is_where_the_specification_says() {
    assert_eq!(HEADER_SIZE, 61);
    assert_eq!(plain_batch()[16], 2);
}

#[test]
fn idempotency_keys_are_the_values_of_the_header_that_is_asked_for() {
    let with = |headers: Vec<RecordHeader>| Record { headers, ..record(None, Some("value")) };
    let records = [
        (BASE_TIME, with(vec![header("other", Some("no")), header("id", Some("a"))])),
        (BASE_TIME, with(vec![header("idx", Some("no")), header("di", Some("no"))])),
        (BASE_TIME, with(vec![header("id", Some("b")), header("other", None)])),
    ];
    let key = |text: &'static str| IdempotencyKey::new(Bytes::from_static(text.as_bytes())).unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Lz4] {
        let batch = batch_of(&records, compression, BatchProducer::Anonymous);
        let checked = check_produced(&batch, &limits(), Some("id")).unwrap();
        assert_eq!(checked.keys, [(0, key("a")), (2, key("b"))]);
        assert!(check_produced(&batch, &limits(), None).unwrap().keys.is_empty());
        let few = BatchLimits { keys_max: 1, ..limits() };
        let error = check_produced(&batch, &few, Some("id")).unwrap_err();
        assert_eq!(error, BatchError::InvalidRecord { index: 2, fault: RecordFault::TooManyKeys(1) });
    }
    let fault = |headers| {
        let batch = batch_of(&[(BASE_TIME, with(headers))], Compression::None, BatchProducer::Anonymous);
        match check_produced(&batch, &limits(), Some("id")).unwrap_err() {
            BatchError::InvalidRecord { index: 0, fault } => fault,
            other => panic!("{other}"),
        }
    };
    let long = "k".repeat(IdempotencyKey::BYTES_MAX + 1);
    assert_eq!(fault(vec![header("id", None)]), RecordFault::EmptyKey);
    assert_eq!(fault(vec![header("id", Some(""))]), RecordFault::EmptyKey);
    assert_eq!(fault(vec![header("id", Some(&long))]), RecordFault::KeyTooLong(257));
    assert_eq!(fault(vec![header("id", Some("a")), header("id", Some("a"))]), RecordFault::SecondKey);
}
