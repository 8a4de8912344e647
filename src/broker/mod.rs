//! What each request of the Kafka protocol means here: one file for each family of requests.
//!
//! Comes in: frames of a connection whose principal is known (`net`). A handler turns a request into [`Command`]s for the
//! shard, or reads the shard's view, and turns the outcome into the reply that Kafka 4.4 would give (`spec/differences.md`
//! lists where not). Goes out: reply chunks, in which record data is what the log holds, uncopied.
//!
//! Commands of one connection reach the shard in frame order; reads are made when their turn to be answered comes, so they
//! see what the same connection has asked for before. This room decides nothing that changes state, keeps nothing that
//! could go stale, answers nothing that is not durable, and never lets one connection's wait hold another's.
//!
//! [`Command`]: crate::core::Command

mod alter_configs;
mod api_versions;
mod aside;
mod authorise;
mod backup;
mod config;
mod coordinator;
mod delete_records;
mod describe_configs;
mod describe_topics;
mod enrolment;
mod errors;
mod failure;
mod fetch;
mod group_offsets;
mod groups;
mod leader_epoch;
mod limits;
mod list_offsets;
mod markers;
mod metadata;
mod metrics;
mod names;
mod outcomes;
mod patterns;
mod produce;
mod producer_id;
mod rarely;
mod service;
mod session;
mod topic_config;
mod topics;
mod transaction_admin;
mod transactions;
mod two_phase;
mod txn_offsets;

pub use crate::core::Protocol;
pub use config::{BrokerConfig, Endpoint};
pub use metrics::BrokerMetrics;
pub use service::Broker;
pub use session::Session;

#[cfg(test)]
mod tests;
