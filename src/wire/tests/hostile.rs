//! Bytes that are not what they should be: an error, never a panic, and no more memory than the bytes justify.

use super::codec::{encoded, shape};
use super::{Declared, Random, for_every_message, visit_messages};
use crate::wire::messages::{MetadataRequest, ProduceRequest};
use crate::wire::{DecodeFault, Message, RequestHeader};
use bytes::Bytes;
use proptest::prelude::*;

/// The decoder's promise about memory: a constant factor of the frame, and a floor.
const FACTOR: usize = 32;
const FLOOR: usize = 16 * 1024;

fn stays_within<M: Message + Declared>(bytes: &Bytes, version: i16) {
    if let Ok(message) = M::decode(bytes.clone(), version) {
        let bound = bytes.len() * FACTOR + FLOOR;
        assert!(message.heap_size() <= bound, "{} v{version}: {} bytes", M::NAME, message.heap_size());
    }
}

fn survives<M: Message + Declared>(bytes: &Bytes) {
    M::API.versions().iter().for_each(|version| stays_within::<M>(bytes, version));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = RequestHeader::decode(bytes.clone());
        for_every_message!(survives(&bytes));
    }

    #[test]
    fn small_bytes_are_survived(bytes in proptest::collection::vec(0_u8..4, 0..200)) {
        // Small numbers make plausible lengths, so decoding gets further.
        let bytes = Bytes::from(bytes);
        for_every_message!(survives(&bytes));
    }
}

fn every_cut_is_an_error<M: Message + Declared>() {
    for version in M::API.versions().iter() {
        let message = M::generate(&mut Random(u64::from(version.unsigned_abs()) + 3), shape::<M>(version));
        let bytes = encoded(&message, version);
        for end in 0..bytes.len() {
            assert!(M::decode(bytes.slice(..end), version).is_err(), "{} v{version} cut at {end}", M::NAME);
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert!(M::decode(longer, version).is_err(), "{} v{version} with a byte more", M::NAME);
    }
}

#[test]
fn truncated_messages_and_trailing_bytes_are_errors() {
    for_every_message!(every_cut_is_an_error());
}

fn mutations_are_survived<M: Message + Declared>() {
    for version in M::API.versions().iter() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let mut bytes = encoded(&M::generate(&mut random, shape::<M>(version)), version).to_vec();
            for _ in 0..=random.below(4) {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len());
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random.next().to_le_bytes()[0]][random.below(6)];
                }
            }
            stays_within::<M>(&bytes.into(), version);
        }
    }
}

#[test]
fn mutated_messages_are_survived() {
    for_every_message!(mutations_are_survived());
}

#[test]
fn an_array_is_not_believed() {
    // transactional id null, acks, timeout, and then 2^31-1 topics in no bytes.
    let plain = [&[0xff, 0xff, 0, 0, 0, 0, 0, 0][..], &i32::MAX.to_be_bytes()].concat();
    let error = ProduceRequest::decode(plain.into(), 3).unwrap_err();
    assert_eq!(error.fault, DecodeFault::ArrayTooLong { elements: 0x7fff_ffff, remaining: 0 });
    assert_eq!((error.field, error.offset), ("topic_data", 12));
}

#[test]
fn many_small_elements_meet_the_budget() {
    // A topic of MetadataRequest 12 takes at least 18 bytes; a frame of nothing but empty names in version 1 takes two
    // bytes for each, of which each becomes a structure of more than forty.
    let count = 1_000_000_u32;
    let mut frame = count.to_be_bytes().to_vec();
    frame.resize(4 + 2 * count as usize, 0);
    let decoded = MetadataRequest::decode(frame.clone().into(), 1);
    let expanded = count as usize * size_of::<crate::wire::messages::MetadataRequestTopic>();
    let budget = (frame.len() * FACTOR + FLOOR).min(64 * 1024 * 1024);
    assert_eq!(decoded.is_ok(), expanded <= budget);

    let count = 3_000_000_u32;
    let mut frame = count.to_be_bytes().to_vec();
    frame.resize(4 + 2 * count as usize, 0);
    let error = MetadataRequest::decode(frame.into(), 1).unwrap_err();
    assert_eq!(error.fault, DecodeFault::BudgetExceeded { budget: 64 * 1024 * 1024 });
}

#[test]
fn a_hundred_thousand_unknown_tags_are_skipped_and_a_lying_count_ends() {
    use crate::wire::messages::HeartbeatResponse;
    let mut frame = vec![0; 6];
    let put = |frame: &mut Vec<u8>, mut value: u32| {
        while value >= 0x80 {
            frame.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        frame.push(value.to_le_bytes()[0]);
    };
    put(&mut frame, 100_000);
    for tag in 0..100_000 {
        put(&mut frame, tag);
        frame.push(0);
    }
    assert!(HeartbeatResponse::decode(frame.into(), 4).is_ok());
    let lying = [&[0; 6][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert!(matches!(
        HeartbeatResponse::decode(lying.into(), 4).unwrap_err().fault,
        DecodeFault::Truncated { needed: 1, remaining: 0 }
    ));
}
