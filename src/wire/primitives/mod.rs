//! The protocol's primitive types, and the declaration of messages out of them.
//!
//! [`Decoder`] reads a frame without copying record data and within a fixed memory budget; [`Encoder`] writes one as
//! chunks; [`Field`] says how each Rust type stands on the wire; the `messages!` macro declares messages.

pub(super) mod declare;
mod decoder;
mod encoder;
mod field;
mod records;

pub use declare::{FieldSpec, Shape, Structure, between, since};
pub use decoder::{DecodeError, DecodeFault, Decoder};
pub use encoder::{CHUNK_SHARED_MIN, EncodeError, Encoder, ErrorCounts, gathered_for_quic};
pub use field::{Field, Nullable};
pub use records::Records;
