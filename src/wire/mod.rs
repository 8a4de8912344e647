//! The Kafka protocol's bytes, and nothing else.
//!
//! Comes in: frames and record batches as [`bytes::Bytes`], from peers that may be broken or hostile. Goes out: typed
//! messages, facts about a batch, and frames as lists of `Bytes` chunks in which record data is never copied.
//! Layouts are *declared* once ([`messages`]); one bounded decoder and one encoder serve broker and client alike.
//! This room must never do I/O, never panic on any input, never allocate more than a constant factor of the bytes it
//! was given, and never decide anything: what a request means is the broker's and the state machine's business.

pub mod api;
pub mod batch;
pub mod consumer_protocol;
pub mod error;
pub mod frame;
pub mod messages;
pub mod primitives;

#[cfg(test)]
mod tests;

pub use api::{ApiKey, VersionRange};
pub use error::ErrorCode;
pub use frame::{
    HeaderError, Message, Request, RequestHeader, Response, decode_response, encode_request, encode_response,
    peek_correlation_id,
};
pub use primitives::{DecodeError, DecodeFault, EncodeError, Records, gathered_for_quic};
