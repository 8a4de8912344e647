//! Frames: headers, length prefix, chunks.

use crate::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchPartitionResponse, FetchResponse, FetchTopicResponse,
    ProduceRequest,
};
use crate::wire::primitives::CHUNK_SHARED_MIN;
use crate::wire::{
    ApiKey, ErrorCode, HeaderError, Message, Records, RequestHeader, decode_response, encode_request,
    encode_response, gathered_for_quic, peek_correlation_id,
};
use bytes::{Bytes, BytesMut};

/// The frame in one piece, without its length prefix, which is checked.
fn whole(frame: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::new();
    frame.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    let length = i32::from_be_bytes(*whole.first_chunk().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), whole.len() - 4);
    whole.freeze().slice(4..)
}

#[test]
fn a_request_is_read_header_first() {
    let request = ApiVersionsRequest { client_software_name: "semel".into(), ..Default::default() };
    for version in ApiKey::ApiVersions.versions().iter() {
        for client_id in [None, Some(""), Some("a client")] {
            let sent = if version >= 3 { request.clone() } else { ApiVersionsRequest::default() };
            let frame = whole(&encode_request(&sent, version, 77, client_id).unwrap());
            let (header, body) = RequestHeader::decode(frame).unwrap();
            let client_id = client_id.map(str::to_owned);
            let api = ApiKey::ApiVersions;
            assert_eq!(header, RequestHeader { api, version, correlation_id: 77, client_id });
            assert_eq!(ApiVersionsRequest::decode(body, version), Ok(sent));
        }
    }
}

#[test]
fn a_header_of_an_unknown_version_still_gives_its_correlation_id() {
    let frame = |key: i16, version: i16| {
        Bytes::from(
            [&key.to_be_bytes()[..], &version.to_be_bytes(), &9_i32.to_be_bytes(), &[0xff; 3]].concat(),
        )
    };
    let api = ApiKey::ApiVersions;
    let newer = RequestHeader::decode(frame(18, 99));
    assert_eq!(newer, Err(HeaderError::UnsupportedVersion { api, version: 99, correlation_id: 9 }));
    let api = ApiKey::Produce;
    let removed = RequestHeader::decode(frame(0, 2));
    assert_eq!(removed, Err(HeaderError::UnsupportedVersion { api, version: 2, correlation_id: 9 }));
    let unknown = RequestHeader::decode(frame(4711, 0));
    assert_eq!(unknown, Err(HeaderError::UnknownApi { api_key: 4711, version: 0, correlation_id: 9 }));
    assert!(matches!(RequestHeader::decode(Bytes::from_static(&[0; 7])), Err(HeaderError::Malformed(_))));
}

#[test]
fn the_answer_to_api_versions_always_has_the_old_header() {
    let answer = ApiVersionsResponse { error_code: ErrorCode::UnsupportedVersion, ..Default::default() };
    let frame = whole(&encode_response(&answer, 3, 5, 0).unwrap().0);
    assert_eq!(peek_correlation_id(&frame), Ok(5));
    assert_eq!(ApiVersionsResponse::decode(frame.slice(4..), 3), Ok(answer.clone()));
    assert_eq!(decode_response(frame, 3), Ok((5, answer)));
}

#[test]
fn record_data_is_neither_copied_in_nor_out() {
    let records = Bytes::from(vec![7; CHUNK_SHARED_MIN]);
    let small = Bytes::from_static(b"small");
    let chunks = Records::from_chunks(vec![records.clone(), small, records.clone()]);
    let partition = FetchPartitionResponse { records: Some(chunks), ..Default::default() };
    let topic = FetchTopicResponse { partitions: vec![partition], ..Default::default() };
    let answer = FetchResponse { responses: vec![topic], ..Default::default() };
    for version in ApiKey::Fetch.versions().iter() {
        let (frame, _) = encode_response(&answer, version, 1, 0).unwrap();
        let shared = frame.iter().filter(|chunk| chunk.as_ptr() == records.as_ptr()).count();
        assert_eq!(shared, 2, "v{version}: both large chunks are sent as they are");
        let frame = whole(&frame);
        let (_, read) = decode_response::<FetchResponse>(frame.clone(), version).unwrap();
        let read = read.responses[0].partitions[0].records.clone().unwrap().to_bytes();
        assert!(frame.as_ptr_range().contains(&read.as_ptr()), "v{version}: a slice of the frame");
        assert_eq!(read.len(), 2 * CHUNK_SHARED_MIN + 5);
    }
}

#[test]
fn quic_gets_small_chunks_together_and_large_ones_as_they_are() {
    let large = Bytes::from(vec![7; 4 * CHUNK_SHARED_MIN]);
    let small = Bytes::from(vec![8; CHUNK_SHARED_MIN]);
    for (chunks, lengths) in [
        (vec![], vec![]),
        (vec![&large, &large], vec![4, 4]),
        (vec![&small, &small, &large, &small], vec![2, 4, 1]),
        (vec![&large, &small, &small, &small, &small, &small], vec![4, 5]),
    ] {
        let chunks: Vec<Bytes> = chunks.into_iter().cloned().collect();
        let gathered = gathered_for_quic(chunks.clone());
        assert_eq!(gathered.iter().map(|chunk| chunk.len() / CHUNK_SHARED_MIN).collect::<Vec<_>>(), lengths);
        assert_eq!(gathered.concat(), chunks.concat());
        let shared = gathered.iter().filter(|chunk| chunk.as_ptr() == large.as_ptr()).count();
        assert_eq!(shared, lengths.iter().filter(|length| **length == 4).count());
    }
}

#[test]
fn produce_is_listed_from_version_0_and_refused_below_3() {
    assert_eq!(ApiKey::Produce.listed_versions().map(|range| (range.min, range.max)), Some((0, 13)));
    assert!(!ApiKey::Produce.versions().contains(2));
    assert_eq!(ApiKey::InitProducerId.listed_versions().map(|range| range.max), Some(5));
    assert!(ProduceRequest::decode(Bytes::new(), 2).is_err());
}
