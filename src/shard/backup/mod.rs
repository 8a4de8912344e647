//! Backups: a consistent state of a shard in a directory of its own, taken while it serves; and a shard made of one
//! (`spec/backup.md`).
//!
//! A backup is laid out as a data directory is, without rows, and with a manifest that says what belongs to it. What does
//! not change any more is linked into it; only the end of the log is copied. It gets its name when it is complete: what has
//! one is whole, or was damaged later.

mod error;
mod index;
mod manifest;
mod restore;
mod rows;
mod standing;
mod take;
mod whole;

pub use error::BackupError;
pub use manifest::{BackupFile, Manifest, PartitionEnd};
pub use restore::{Restored, restore};
pub use rows::{CheckedRows, RowsProblem, check_rows};
pub use standing::{BackupRefused, BackupStanding, Backups};
pub use whole::WholeTransactions;

pub(super) use restore::{is_half_restored, restore_of};
pub(super) use standing::Work;
pub(super) use take::{AsOf, Plan, Source, take};
