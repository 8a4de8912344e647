//! Every message against an independent codec: it must read what is written here, and write the same bytes again.
//!
//! The oracle aborts on malformed input, so it only ever sees valid bytes.

use super::codec::{CASES, encoded, shape};
use super::{Declared, Random, every_api};
use crate::wire::{ApiKey, ErrorCode, Message, messages};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use std::fmt::Debug;

/// Versions of Kafka 4.4 that the oracle does not know yet; `layouts` covers their declarations. A test asserts that
/// this list is exact, so that a newer oracle shortens it.
const UNKNOWN_TO_ORACLE: &[(ApiKey, i16)] = &[
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::ApiVersions, 5),
    (ApiKey::InitProducerId, 6),
    (ApiKey::WriteTxnMarkers, 2),
    (ApiKey::TxnOffsetCommit, 6),
    (ApiKey::DeleteGroups, 3),
];

fn knows<O: OracleMessage>(version: i16) -> bool {
    (O::VERSIONS.min..=O::VERSIONS.max).contains(&version)
}

fn agrees<M, O>()
where
    M: Message + Declared + PartialEq + Debug,
    O: OracleMessage + Decodable + Encodable,
{
    for version in M::API.versions().iter().filter(|version| knows::<O>(*version)) {
        for seed in 0..CASES {
            let message = M::generate(&mut Random(seed), shape::<M>(version));
            let bytes = encoded(&message, version);
            let again = through_oracle::<O>(bytes.clone(), version);
            let case = format!("{} v{version} seed {seed}: {message:?}", M::NAME);
            assert_eq!(M::decode(again.clone(), version).as_ref(), Ok(&message), "{case}");
            assert_eq!(again, bytes, "{case}");
        }
    }
}

/// Reads and writes bytes with the oracle.
fn through_oracle<O: Decodable + Encodable>(mut bytes: Bytes, version: i16) -> Bytes {
    let mut again = BytesMut::new();
    let name = std::any::type_name::<O>();
    let read = O::decode(&mut bytes, version).unwrap_or_else(|error| panic!("{name} v{version}: {error:?}"));
    assert!(bytes.is_empty(), "{name} v{version}: the oracle left {} bytes", bytes.len());
    read.encode(&mut again, version).unwrap_or_else(|error| panic!("{name} v{version}: {error:?}"));
    again.freeze()
}

macro_rules! every_pair_agrees {
    ({} $($api:ident $request:ident $response:ident,)*) => {$(
        agrees::<messages::$request, kafka_protocol::messages::$request>();
        agrees::<messages::$response, kafka_protocol::messages::$response>();
    )*};
}

#[test]
fn the_oracle_agrees_on_every_message() {
    every_api!(every_pair_agrees);
}

macro_rules! unknown_versions {
    ({} $($api:ident $request:ident $response:ident,)*) => {[$(
        ApiKey::$api
            .versions()
            .iter()
            .filter(|version| !knows::<kafka_protocol::messages::$request>(*version))
            .map(|version| (ApiKey::$api, version))
            .collect::<Vec<_>>(),
    )*].concat()};
}

#[test]
fn the_oracle_knows_all_versions_but_the_listed_ones() {
    assert_eq!(every_api!(unknown_versions), UNKNOWN_TO_ORACLE);
}

#[test]
fn header_versions_are_the_oracles() {
    for api in ApiKey::ALL.iter().filter(|api| !api.is_private()) {
        let oracle = kafka_protocol::messages::ApiKey::try_from(i16::from(*api)).unwrap();
        for version in api.versions().iter().filter(|version| !UNKNOWN_TO_ORACLE.contains(&(*api, *version)))
        {
            assert_eq!(api.request_header_version(version), oracle.request_header_version(version), "{api}");
            assert_eq!(
                api.response_header_version(version),
                oracle.response_header_version(version),
                "{api}"
            );
        }
    }
}

/// Codes that became retriable after the oracle's table was made; Kafka 4.4's own classes say so.
const RETRIABLE_SINCE: &[ErrorCode] = &[ErrorCode::ConcurrentTransactions];

#[test]
fn error_codes_are_the_oracles() {
    let mut compared = 0;
    for code in ErrorCode::ALL {
        let number = i16::from(*code);
        assert_eq!(ErrorCode::from(number), *code);
        match ResponseError::try_from_code(number) {
            None => assert_eq!(*code, ErrorCode::None),
            Some(ResponseError::Unknown(_)) => {}
            Some(known) => {
                compared += 1;
                let name = code.name().replace('_', "").to_lowercase();
                assert_eq!(name, format!("{known:?}").to_lowercase(), "{number}");
                assert_eq!(format!("{code:?}").to_lowercase(), name, "{number}");
                let retriable = known.is_retriable() || RETRIABLE_SINCE.contains(code);
                assert_eq!(code.retriable(), retriable, "{code}");
            }
        }
    }
    assert!(compared > 100, "only {compared} codes are known to the oracle");
}
