//! Handlers against a real shard.
