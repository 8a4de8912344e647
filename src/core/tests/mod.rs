//! The rules of `spec/transactions.md` and `spec/groups.md`, one by one, and the properties over random histories.

pub(crate) mod findings;
pub(crate) mod groups;
mod history;
pub(crate) mod judge;
mod keys;
mod prepared;
pub(crate) mod properties;
mod rules;
pub(crate) mod world;
