//! A hostile world in one thread: the real state machine, log, shard loop and sessions, with many clients, on a virtual
//! network, a virtual disk and virtual time, all of it chosen by one seed.
//!
//! Comes in: a seed ([`plan`]). Goes out: what broke, judged by `semel::history` from what clients saw alone, and what went
//! wrong in the middle of what ([`faults`]). The same seed always does the same, so a failure can be looked at again
//! (`spec/testing.md`). In tests only. This room must never decide what is right, never wait for real time, and never use
//! chance that is not the seed's.

mod chance;
mod clients;
mod faults;
mod fuzz;
mod net;
mod node;
mod peer;
mod plan;
mod recorder;
mod shrink;
mod tests;
mod world;

pub(crate) use tests::search_all;
