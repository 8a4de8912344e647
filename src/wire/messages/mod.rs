//! Every message, declared: one file for each family of requests.
//!
//! Field names are those of Kafka's message definitions, so that its documentation speaks of the same things. A field
//! that a version does not have keeps its default when that version is read.

#![allow(missing_docs, reason = "the fields are the protocol's own, under their own names")]

mod api_versions;
mod configs;
mod consumer_groups;
mod coordinator;
mod fetch;
mod group_admin;
mod groups;
mod metadata;
mod offsets;
mod private;
mod produce;
mod topics;
mod transaction_admin;
mod transactions;

pub use api_versions::*;
pub use configs::*;
pub use consumer_groups::*;
pub use coordinator::*;
pub use fetch::*;
pub use group_admin::*;
pub use groups::*;
pub use metadata::*;
pub use offsets::*;
pub use private::*;
pub use produce::*;
pub use topics::*;
pub use transaction_admin::*;
pub use transactions::*;
