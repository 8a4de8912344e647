//! Handlers against a real shard, frame by frame, as the network drives them.

mod administration;
mod configs;
mod consumer_groups;
mod defects;
mod forgeries;
mod groups;
mod harness;
mod hostile_groups;
mod keys;
mod offsets;
mod produce_and_fetch;
mod retention;
mod space;
mod transaction_admin;
mod transactions;
mod two_phase;
