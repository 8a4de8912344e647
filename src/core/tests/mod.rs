//! The rules of `spec/transactions.md`, one by one, and the properties over random histories.

mod prepared;
mod properties;
mod rules;
mod world;
