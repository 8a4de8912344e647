//! Judges what clients saw: their calls, the answers, and when, against the promises of `spec/guarantees.md`, by the names
//! that the specification has for them.
//!
//! Comes in: a history, one line of JSON for each call and each answer (`spec/history.md`). Goes out: findings, each with
//! the property that is broken and the lines that show it, and for each property how often the history spoke of it at all.
//! It knows nothing of the broker: neither its state nor its protocol, so that any broker's clients can be judged, and so
//! that a defect of the broker cannot hide in its own bookkeeping.
//!
//! Nearly linear: everything is sorted once, and each record that was read is looked up once.

mod check;
mod format;
mod property;

#[cfg(test)]
mod tests;

pub use check::{Finding, Verdict, check};
pub use format::{
    Answer, Call, Event, History, HistoryError, Isolation, Operation, PartitionName, Returned, VERSION,
};
pub use property::Property;
