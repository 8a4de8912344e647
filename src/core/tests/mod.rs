//! The rules of `spec/transactions.md` and `spec/groups.md`, one by one, and the properties over random histories.

pub(crate) mod consumers;
pub(crate) mod findings;
pub(crate) mod groups;
mod history;
mod hostile_groups;
mod invariants;
pub(crate) mod judge;
mod keys;
mod limits;
pub(crate) mod migration;
mod overflow;
mod prepared;
pub(crate) mod properties;
mod rebalances;
pub(crate) mod restores;
mod rules;
pub(crate) mod scenarios;
pub(crate) mod world;
