//! semel: an exactly-once transactional event broker that speaks the Apache Kafka protocol over QUIC and TLS.
//!
//! A tour, from the inside out. [`types`] is the vocabulary. [`core`] is the state machine: every promise about *once* and
//! *all or nothing* is decided there, purely. [`log`] makes decisions durable, [`store`] keeps the rows that follow from
//! them, and [`shard`] is the loop that joins the three: decide, make durable, show, evolve. [`wire`] is the Kafka
//! protocol's bytes; [`net`] is everything between a socket and a frame; [`broker`] turns requests into commands and reads.
//! [`metrics`] is how all of them count, and [`console`] shows it.
//! [`serve`] is the process. [`client`] is the Rust client, and [`cli`] the `semel` command.
//!
//! `spec/` has the rules in prose, `tla/` the rules as mathematics.

pub mod broker;
pub mod cli;
pub mod client;
pub mod console;
pub mod core;
#[cfg(test)]
mod fuzz;
pub mod history;
pub mod log;
pub mod metrics;
pub mod net;
pub mod serve;
pub mod shard;
#[cfg(test)]
mod sim;
pub mod store;
mod tls;
pub mod types;
pub mod wire;
