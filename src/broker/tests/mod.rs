//! Handlers against a real shard, frame by frame, as the network drives them.

mod administration;
mod configs;
mod groups;
mod harness;
mod offsets;
mod produce_and_fetch;
mod retention;
mod space;
mod transactions;
