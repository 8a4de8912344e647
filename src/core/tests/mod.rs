//! The rules of `spec/transactions.md` and `spec/groups.md`, one by one, and the properties over random histories.

mod groups;
mod prepared;
mod properties;
mod rules;
mod world;
