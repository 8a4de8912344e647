//! The loop that makes decisions real: queue → decide → log → publish → release → evolve into the store.
//!
//! Comes in: commands, each from a connection, in that connection's order. Goes out: replies, none before what it speaks
//! of is durable, and one view of the rows as of the last durable block, which every reader shares. One block is written
//! at a time; what arrives meanwhile is decided into the next one. This room must never answer or show anything that a
//! power cut could undo, must never decide anything itself (that is `core`), and ends when a write or a sync fails.

mod applier;
mod backup;
mod block;
mod engine;
mod handle;
mod limits;
mod metrics;
mod off_thread;
mod payload;
mod ports;
mod rebuild;
mod replay;
#[cfg(test)]
pub(crate) mod simulated;
mod start;
mod table;
pub(crate) mod trace;
mod upkeep;
mod waiting;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

pub use backup::{
    BackupError, BackupFile, BackupRefused, BackupStanding, CheckedRows, Manifest, PartitionEnd, Restored,
    RowsProblem, WholeTransactions, check_rows, restore,
};
pub use handle::{Answer, Origin, Shard, ShardStopped};
pub use limits::{CompactionLimits, ShardLimits, SpaceLimits};
pub use metrics::{Marks, Rebalancer, ShardMetrics, SpaceMetrics};
pub use off_thread::off_thread;
pub use rebuild::RebuildError;
pub use start::{Running, StartError, StopReason, start};
pub use watch::{Readable, UpTo, Watch};
