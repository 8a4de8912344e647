//! What others have built upon Kafka's protocol runs upon semel unchanged, over TLS: Kafka Streams, Kafka Connect, a
//! schema registry.
//!
//! `serve` in this folder starts Apache Kafka itself in the place of the binary, for these and other tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;
mod connect;
mod program;
mod registry;
mod streams;

/// Compaction as fast as it goes, in segments so small that some are freed meanwhile.
const COMPACTION: &[&str] = &[
    "--compaction-check-ms=20",
    "--compaction-share=100",
    "--segment-bytes=4194304",
    "--frame-bytes=524288",
    "--snapshot-bytes=1048576",
    "--reserve-bytes=0",
];
