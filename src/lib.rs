//! semel: an exactly-once transactional event broker that speaks the Apache Kafka protocol over QUIC and TLS.

pub mod broker;
pub mod cli;
pub mod client;
pub mod console;
pub mod core;
pub mod log;
pub mod net;
pub mod serve;
pub mod shard;
pub mod store;
pub mod types;
pub mod wire;
