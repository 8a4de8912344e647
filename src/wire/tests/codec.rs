//! What is written is what is read, in every version of every message.

use super::{Declared, Random, every_api, every_private_api, for_every_message, visit_messages};
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::{Decoder, EncodeError, Encoder, Shape, Structure, since};
use crate::wire::{ApiKey, DecodeFault, Message};
use bytes::Bytes;
use std::fmt::Debug;

/// Random values tried for each version.
pub(super) const CASES: u64 = 25;

pub(super) fn shape<M: Message>(version: i16) -> Shape {
    Shape { version, flexible: M::API.is_flexible(version), nullable: false }
}

pub(super) fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut encoder = Encoder::new();
    message.encode(version, &mut encoder).unwrap_or_else(|error| panic!("{} v{version}: {error}", M::NAME));
    encoder.into_bytes()
}

fn comes_back<M: Message + Declared + PartialEq + Debug>() {
    for version in M::API.versions().iter() {
        for seed in 0..CASES {
            let message = M::generate(&mut Random(seed), shape::<M>(version));
            let bytes = encoded(&message, version);
            let read = M::decode(bytes.clone(), version);
            let read = read.unwrap_or_else(|error| panic!("{} v{version} seed {seed}: {error}", M::NAME));
            assert_eq!(read, message, "{} v{version} seed {seed}", M::NAME);
            assert_eq!(encoded(&read, version), bytes, "{} v{version} seed {seed}", M::NAME);
        }
    }
}

#[test]
fn every_message_comes_back_as_it_was_written() {
    for_every_message!(comes_back());
}

fn default_comes_back<M: Message + PartialEq + Debug>() {
    for version in M::API.versions().iter() {
        let bytes = encoded(&M::default(), version);
        assert_eq!(M::decode(bytes, version).as_ref(), Ok(&M::default()), "{} v{version}", M::NAME);
    }
}

#[test]
fn every_default_can_be_written_in_every_version() {
    for_every_message!(default_comes_back());
}

#[test]
fn every_api_is_tested() {
    macro_rules! names {
        ({} $($api:ident $request:ident $response:ident,)*) => { [$((ApiKey::$api, stringify!($request))),*] };
    }
    let tested = [&every_api!(names)[..], &every_private_api!(names)[..]].concat();
    assert_eq!(tested.iter().map(|(api, _)| *api).collect::<Vec<_>>(), ApiKey::ALL);
    for (api, request) in tested {
        assert_eq!(request, format!("{api}Request"));
    }
}

#[test]
fn a_value_that_a_version_cannot_carry_is_refused_unless_it_may_be_dropped() {
    use crate::wire::messages::{FetchRequest, ForgottenTopic, InitProducerIdRequest};
    let request = InitProducerIdRequest { producer_id: 5, ..Default::default() };
    let refused = request.encode(2, &mut Encoder::new());
    let expected = EncodeError::FieldNotInVersion {
        structure: "InitProducerIdRequest",
        field: "producer_id",
        version: 2,
    };
    assert_eq!(refused, Err(expected));
    assert_eq!(request.encode(3, &mut Encoder::new()), Ok(()));

    let mut request = FetchRequest { session_id: 7, ..Default::default() };
    assert_eq!(request.encode(6, &mut Encoder::new()), Ok(()), "session_id is ignorable");
    request.forgotten_topics_data = vec![ForgottenTopic::default()];
    assert!(request.encode(6, &mut Encoder::new()).is_err(), "forgotten topics are not");
}

#[test]
fn a_null_is_refused_where_the_version_has_none() {
    use crate::wire::messages::MetadataRequest;
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(all.encode(0, &mut Encoder::new()), Err(EncodeError::NullNotInVersion { version: 0 }));
    assert_eq!(all.encode(1, &mut Encoder::new()), Ok(()));
    let error = MetadataRequest::decode(Bytes::from_static(&[0xff; 4]), 0).unwrap_err();
    assert_eq!(error.fault, DecodeFault::UnexpectedNull);
    assert_eq!(
        (error.message, error.structure, error.field),
        ("MetadataRequest", "MetadataRequest", "topics")
    );
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    use crate::wire::messages::HeartbeatResponse;
    // throttle 0, no error, two tagged fields: 3 of two bytes, 9 of none.
    let bytes = [0, 0, 0, 0, 0, 0, 2, 3, 2, 0xaa, 0xbb, 9, 0];
    assert_eq!(
        HeartbeatResponse::decode(Bytes::copy_from_slice(&bytes), 4),
        Ok(HeartbeatResponse::default())
    );
    let disordered = [0, 0, 0, 0, 0, 0, 2, 9, 0, 3, 2, 0xaa, 0xbb];
    let error = HeartbeatResponse::decode(Bytes::copy_from_slice(&disordered), 4).unwrap_err();
    assert_eq!(error.fault, DecodeFault::TagOutOfOrder(3));
}

#[test]
fn no_text_is_longer_than_the_plain_encoding_can_say() {
    use crate::wire::messages::HeartbeatRequest;
    let with = |length: usize| HeartbeatRequest { member_id: "m".repeat(length), ..Default::default() };
    for version in ApiKey::Heartbeat.versions().iter() {
        assert_eq!(HeartbeatRequest::decode(encoded(&with(32_767), version), version), Ok(with(32_767)));
        let refused = with(32_768).encode(version, &mut Encoder::new());
        assert_eq!(refused, Err(EncodeError::TooLong { length: 32_768, max: 32_767 }));
    }
    // group id "", generation 0, and a member id of 32 768 bytes in the compact encoding.
    let compact = [&[1, 0, 0, 0, 0, 0x81, 0x80, 0x02][..], &[b'm'; 32_768], &[0, 0]].concat();
    let error = HeartbeatRequest::decode(compact.into(), 4).unwrap_err();
    assert_eq!((error.field, error.fault), ("member_id", DecodeFault::InvalidLength(32_768)));
}

messages! {
    /// Fields whose tags are far apart, and in another order.
    part Scattered {
        last: i32 => since(1).tagged(28_000).ignorable(),
        plain: i16 => since(0),
        first: i16 => since(0).tagged(0).ignorable(),
        middle: i16 = 5 => since(1).tagged(3).ignorable(),
    }
}

#[test]
fn tagged_fields_stand_in_the_order_of_their_tags() {
    let written = |value: &Scattered, version| {
        let mut encoder = Encoder::new();
        value.write_fields(&mut encoder, Shape { version, flexible: true, nullable: false }).unwrap();
        encoder.into_bytes()
    };
    for chosen in 0..8_i16 {
        let of = |bit: i16| (chosen >> bit) & 1;
        let value = Scattered { last: i32::from(of(0)), plain: 9, first: of(1), middle: 5 + of(2) };
        let shape = Shape { version: 1, flexible: true, nullable: false };
        let read = Scattered::read_fields(&mut Decoder::new(written(&value, 1)), shape);
        assert_eq!(read, Ok(value));
    }
    let all = Scattered { last: 1, plain: 2, first: 3, middle: 4 };
    let last = [&[0xe0, 0xda, 0x01][..], &[4, 0, 0, 0, 1]].concat();
    assert_eq!(written(&all, 1), [&[0, 2, 3, 0, 2, 0, 3, 3, 2, 0, 4][..], &last].concat());
    assert_eq!(written(&all, 0)[..], [0, 2, 1, 0, 2, 0, 3], "what a version has not is not counted");
}
