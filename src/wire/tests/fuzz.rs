//! Frames and batches that are nearly right (`src/fuzz/`).

use super::{Declared, Random, every_api, every_private_api};
use crate::fuzz::Target;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp};
use crate::wire::batch::*;
use crate::wire::tests::codec::shape;
use crate::wire::{
    ApiKey, Message, Request, RequestHeader, Response, decode_response, encode_request, encode_response,
};
use bytes::{Bytes, BytesMut};

fn joined(chunks: &[Bytes]) -> Vec<u8> {
    chunks.concat()[4..].to_vec()
}

/// A request of an api in some versions, as a frame without its length.
fn requests_of<R: Request + Declared>(into: &mut Vec<Vec<u8>>) {
    for version in R::API.versions().iter() {
        let request = R::generate(&mut Random(7 + u64::from(version.unsigned_abs())), shape::<R>(version));
        into.push(joined(&encode_request(&request, version, 1, Some("fuzz")).unwrap()));
    }
}

/// A response: api and version, then the frame without its length.
fn responses_of<R: Response + Declared>(into: &mut Vec<Vec<u8>>) {
    for version in R::API.versions().iter() {
        let response = R::generate(&mut Random(9 + u64::from(version.unsigned_abs())), shape::<R>(version));
        let frame = joined(&encode_response(&response, version, 1, 0).unwrap().0);
        into.push([&i16::from(R::API).to_be_bytes()[..], &version.to_be_bytes(), &frame].concat());
    }
}

/// What is decoded can be written and read again.
fn again<M: Message + std::fmt::Debug>(message: &M, version: i16) -> String {
    let mut to = crate::wire::primitives::Encoder::frame(0);
    match message.encode(version, &mut to) {
        Err(error) => format!("not written: {error}"),
        Ok(()) => {
            let body = Bytes::from(joined(&to.into_frame().unwrap()));
            // As text: a number that is none is not equal to itself.
            let (again, before) =
                (format!("{:?}", M::decode(body, version)), format!("{:?}", Ok::<_, ()>(message)));
            assert_eq!(again, before, "it is read as it was written");
            "read".to_owned()
        }
    }
}

fn read_body<R: Request + std::fmt::Debug>(body: Bytes, version: i16) -> String {
    match R::decode_leading(body, version) {
        Ok(request) => again(&request, version),
        Err(error) => error.to_string(),
    }
}

fn read_answer<R: Response + std::fmt::Debug>(frame: Bytes, version: i16) -> String {
    match decode_response::<R>(frame, version) {
        Ok((_, response)) => again(&response, version),
        Err(error) => error.to_string(),
    }
}

macro_rules! collect {
    ({ $visit:ident $side:ident $into:ident } $($api:ident $request:ident $response:ident,)*) => {
        $(collect!(@$side $visit $into $request $response);)*
    };
    (@request $visit:ident $into:ident $request:ident $response:ident) => {
        $visit::<crate::wire::messages::$request>(&mut $into)
    };
    (@response $visit:ident $into:ident $request:ident $response:ident) => {
        $visit::<crate::wire::messages::$response>(&mut $into)
    };
}

macro_rules! read_as {
    ({ $read:ident $side:ident $key:ident $bytes:ident $version:ident $said:ident }
        $($api:ident $request:ident $response:ident,)*) => {
        match $key {
            $(ApiKey::$api => $said = read_as!(@$side $read $request $response $bytes $version),)*
            #[allow(unreachable_patterns, reason = "the two lists are matched one after the other")]
            _ => {}
        }
    };
    (@request $read:ident $request:ident $response:ident $bytes:ident $version:ident) => {
        $read::<crate::wire::messages::$request>($bytes.clone(), $version)
    };
    (@response $read:ident $request:ident $response:ident $bytes:ident $version:ident) => {
        $read::<crate::wire::messages::$response>($bytes.clone(), $version)
    };
}

#[test]
fn fuzz_requests() {
    let mut valid = Vec::new();
    every_api!(collect requests_of request valid);
    every_private_api!(collect requests_of request valid);
    let read = |bytes: &[u8]| {
        let (header, body) = match RequestHeader::decode(Bytes::copy_from_slice(bytes)) {
            Ok(read) => read,
            Err(error) => return error.to_string(),
        };
        let (key, version, mut said) = (header.api, header.version, String::new());
        if !key.versions().contains(version) {
            return format!("{key} {version}: no such version");
        }
        every_api!(read_as read_body request key body version said);
        every_private_api!(read_as read_body request key body version said);
        format!("{key}: {said}")
    };
    Target { name: "requests", valid, mend: &|_| {}, read: &read }.fuzz();
}

#[test]
fn fuzz_responses() {
    let mut valid = Vec::new();
    every_api!(collect responses_of response valid);
    every_private_api!(collect responses_of response valid);
    let read = |bytes: &[u8]| {
        let Some((start, frame)) = bytes.split_first_chunk::<4>() else { return "short".to_owned() };
        let Ok(key) = ApiKey::try_from(i16::from_be_bytes([start[0], start[1]])) else {
            return "no such api".to_owned();
        };
        let version = i16::from_be_bytes([start[2], start[3]]);
        if !key.versions().contains(version) {
            return "no such version".to_owned();
        }
        let (frame, mut said) = (Bytes::copy_from_slice(frame), String::new());
        every_api!(read_as read_answer response key frame version said);
        every_private_api!(read_as read_answer response key frame version said);
        format!("{key}: {said}")
    };
    Target { name: "responses", valid, mend: &|_| {}, read: &read }.fuzz();
}

const CRC_AT: usize = 17;
const LENGTH_AT: usize = 8;

/// Makes length and checksum those of the batch.
fn mend(batch: &mut [u8]) {
    if batch.len() < HEADER_SIZE {
        return;
    }
    let length = i32::try_from(batch.len() - LENGTH_AT - 4).unwrap();
    batch[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_AT + 4..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

fn batches() -> Vec<Vec<u8>> {
    let mut valid = Vec::new();
    let compressions =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (number, compression) in compressions.into_iter().enumerate() {
        for count in [1, 3, 40] {
            let mut builder = BatchBuilder::new(1024);
            for time in 0..count {
                let header = RecordHeader { name: "key".into(), value: Some("payment".into()) };
                let record =
                    Record { key: Some(format!("{time}").into()), value: None, headers: vec![header] };
                builder.append(Timestamp(time), &record).unwrap();
            }
            let sequences =
                SequenceRange::starting_at(Sequence::new(0).unwrap(), u32::try_from(count).unwrap());
            let batch = ProducerBatch { id: ProducerId(7), epoch: ProducerEpoch(1), sequences };
            let producer = match (number + usize::try_from(count).unwrap()) % 3 {
                0 => BatchProducer::Anonymous,
                1 => BatchProducer::Idempotent(batch),
                _ => BatchProducer::Transactional(batch),
            };
            valid.push(builder.build(compression, producer).unwrap().to_vec());
        }
    }
    let marker = Marker {
        outcome: MarkerOutcome::Commit,
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(1),
        offset: Offset(9),
        timestamp: Timestamp(3),
        coordinator_epoch: 0,
    };
    valid.push(control_batch(&marker, LeaderEpoch(0)).unwrap().to_vec());
    valid
}

/// Everything that is ever done with a batch.
fn read_batch(bytes: &[u8]) -> String {
    let bytes = Bytes::copy_from_slice(bytes);
    let limits = BatchLimits { batch_bytes_max: 64 << 10, ..BatchLimits::default() };
    let produced = match check_produced(&bytes, &limits, Some("key")) {
        Ok(checked) => {
            let mut stored = BytesMut::from(&bytes[..]);
            rewrite_base(&mut stored, Offset(5), LeaderEpoch(1)).unwrap();
            rewrite_log_append_time(&mut stored, Timestamp(8)).unwrap();
            let batch = Batch::new(stored.freeze()).unwrap();
            let records = batch.records(&limits).unwrap().filter(Result::is_ok).count();
            assert_eq!(u32::try_from(records).unwrap(), checked.record_count, "what was checked can be read");
            format!("{:?}", checked.compression())
        }
        Err(error) => error.to_string(),
    };
    let mut stored = String::new();
    for batch in Batches::new(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                stored = error.to_string();
                break;
            }
        };
        let mut turn = false;
        let retained = retain(&batch, &limits, |_| {
            turn = !turn;
            turn
        });
        let marker = Marker::parse(&batch).is_ok();
        stored = match retained {
            Ok(Retained::Some { batch, .. }) => {
                assert!(Batch::new(batch).is_ok(), "what is left of a batch is a batch");
                format!("some {marker}")
            }
            Ok(_) => format!("all or nothing {marker}"),
            Err(error) => error.to_string(),
        };
    }
    format!("{produced} | {stored}")
}

#[test]
fn fuzz_batches() {
    Target { name: "batches", valid: batches(), mend: &|batch| mend(batch), read: &read_batch }.fuzz();
}
