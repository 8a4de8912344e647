//! The rules of `spec/transactions.md` and `spec/groups.md`, one by one, and the properties over random histories.

mod beats;
mod commits;
pub(crate) mod consumers;
pub(crate) mod findings;
pub(crate) mod groups;
mod history;
mod hostile_groups;
mod invariants;
mod joins;
pub(crate) mod judge;
mod kept;
mod keys;
mod limits;
pub(crate) mod migration;
mod mixed;
mod overflow;
mod prepared;
pub(crate) mod properties;
mod rebalances;
mod refusals;
pub(crate) mod restores;
mod rules;
pub(crate) mod scenarios;
pub(crate) mod world;
