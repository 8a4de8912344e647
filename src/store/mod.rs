//! The rows on disk: the fold of the log, in fjall, off the reply path.
//!
//! Comes in: the row changes of durable blocks, in order. Goes out: rows, as of one moment ([`ReadView`]), and how far the
//! log has been applied. A crash may set the rows back to any earlier prefix of the batches applied, never behind the last
//! completed checkpoint; the log above it brings them forward again. This room decides nothing and must never hold a row
//! that is not durable in the log. Formats: `spec/rows.md`.

mod aborted;
mod background;
mod compaction;
mod compare;
mod database;
mod dead;
mod idle;
mod index;
mod keys;
mod layer;
#[cfg(test)]
mod model;
mod pages;
mod remembered;
mod search;
pub(crate) mod segments;
mod snapshot;
mod stamps;
mod suspicion;
mod tables;
mod view;

#[cfg(test)]
pub(crate) use model::{Model, is_state};

pub use aborted::{AbortedOutlook, AbortedRanges};
pub use compaction::{CompactionRow, Overlay};
pub use database::{Applied, Database, StoreError, StoreLimits, StoreSizes, WallClockRow};
pub use dead::{DeadKeys, DeadRows, Removed, Swept};
pub use index::{Cleaned, IndexEntry, IndexKind};
pub use keys::{encode_index_key, encode_key};
pub use layer::{Changes, Layer, LayerBuilder};
pub use segments::{Places, SegmentUse};
pub use snapshot::{Snapshot, SnapshotError, SnapshotHeader, SnapshotWriter, Snapshots};
pub use stamps::Stamps;
pub use suspicion::suspect;
pub use view::ReadView;
