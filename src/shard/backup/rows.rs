//! Makes the rows anew of a data directory or a backup, somewhere else, and looks whether they agree: with themselves, and
//! with the row store that is there. Nothing is changed in what is looked at.

use super::error::{BackupError, Tried as _};
use super::index::what_is_odd;
use super::manifest::{Manifest, PartitionEnd};
use crate::log::{InspectError, LogFiles, Piece, Pieces, RealDisk, Segments};
use crate::shard::limits::ShardLimits;
use crate::shard::rebuild::{ROWS, Sources, check_complete, lay_over_compacted};
use crate::shard::replay::replay;
use crate::shard::start::StartError;
use crate::store::{Database, Snapshots, StoreError};
use crate::types::BlockNumber;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Differences that are listed: with more, the rows are simply wrong.
const DIFFERENCES_MAX: usize = 20;

/// Why rows cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum RowsProblem {
    /// They cannot be made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The log's files cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The disk refused.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the rows say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedRows {
    /// Up to which block they were made.
    pub last_block: u64,
    /// Where each partition begins and ends.
    pub partitions: Vec<PartitionEnd>,
    /// What does not agree.
    pub problems: Vec<String>,
}

/// Makes the rows of `dir` in `scratch`, which is empty, and compares. `progress` is told how many bytes of the log have been
/// read.
pub fn check_rows(
    dir: &Path,
    scratch: &Path,
    mut progress: impl FnMut(u64),
) -> Result<CheckedRows, RowsProblem> {
    let mut checked = CheckedRows::default();
    let limits = ShardLimits::default();
    let (disk, log_dir) = (Arc::new(RealDisk), dir.join("log"));
    let files = LogFiles::open(&*disk, &log_dir)?;
    let segments = Segments::find(Arc::clone(&disk) as _, log_dir).map_err(StartError::from)?;
    let snapshots = Snapshots::open(disk, dir.join("snapshots")).map_err(StartError::from)?;
    let snapshot = snapshots.newest().map_err(StartError::from)?;
    let compacted = |store: &Database| match &segments {
        Some(segments) => lay_over_compacted(segments, store).map_err(StartError::from),
        None => Ok(()),
    };
    let sources =
        Sources { dir, limits: &limits, segments: segments.clone(), snapshots: &snapshots, snapshot };
    let made = scratch.join("made");
    let store = match sources.make(&made).map_err(StartError::from)? {
        Some(store) => store,
        None => Database::open(&made, limits.store)?,
    };

    let mut blocks = Blocks { pieces: files.pieces(), held: None, missing: None };
    if let Some(own) = own_rows(dir, scratch, &mut checked.problems)? {
        let applied = own.applied()?.checkpoint.block;
        if applied < store.applied()?.checkpoint.block {
            let problem = format!("the row store ends at block {applied}, before the newest snapshot");
            checked.problems.push(problem);
        } else {
            blocks.replay(&store, &limits, applied, &mut progress)?;
            let reached = store.applied()?.checkpoint.block;
            match reached == applied {
                true => {
                    // A crash may have kept the own rows from what compaction had made durable.
                    compacted(&own)?;
                    compacted(&store)?;
                    checked.problems.extend(own.differences(&store, DIFFERENCES_MAX)?);
                    checked.problems.extend(what_is_odd(&own.view_now()?, DIFFERENCES_MAX)?);
                }
                false => checked
                    .problems
                    .push(format!("the row store ends at block {applied}, and the log at block {reached}")),
            }
        }
    }
    blocks.replay(&store, &limits, BlockNumber(u64::MAX), &mut progress)?;
    compacted(&store)?;
    if let Some(missing) = blocks.missing {
        checked
            .problems
            .push(format!("block {missing} is missing or damaged: the rows behind it cannot be made"));
    }
    let view = store.view_now()?;
    if let Err(error) = check_complete(&view) {
        checked.problems.push(error.to_string());
    }
    checked.problems.extend(what_is_odd(&view, DIFFERENCES_MAX)?);
    checked.last_block = store.applied()?.checkpoint.block.0;
    checked.partitions = Manifest::partitions_of(&view)?;
    Ok(checked)
}

/// The row store that is there, as a copy: to open one writes to it.
fn own_rows(dir: &Path, scratch: &Path, problems: &mut Vec<String>) -> Result<Option<Database>, RowsProblem> {
    let (rows, copy) = (dir.join(ROWS), scratch.join("own"));
    if !rows.exists() {
        return Ok(None);
    }
    copy_all(&rows, &copy)?;
    match Database::open(&copy, ShardLimits::default().store) {
        Ok(store) => Ok(Some(store)),
        // The next start makes them anew: there is nothing to be compared.
        Err(StoreError::Version { .. }) => Ok(None),
        Err(error) if error.is_damage() => {
            problems.push(format!("the row store is damaged, and the next start makes it anew: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_all(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::create_dir_all(to).tried("create the directory", to)?;
    for entry in fs::read_dir(from).tried("list", from)? {
        let entry = entry.tried("list", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_all(&source, &target)?;
        } else {
            fs::copy(&source, &target).tried("copy", &source)?;
        }
    }
    Ok(())
}

/// The blocks of a log, in order.
struct Blocks<'l> {
    pieces: Pieces<'l>,
    /// One that was read and not asked for yet.
    held: Option<crate::log::PlacedBlock>,
    /// The block that is not there, though a later one is.
    missing: Option<u64>,
}

impl Blocks<'_> {
    /// Brings the rows up to a block, or to the last one that can be had.
    fn replay(
        &mut self,
        store: &Database,
        limits: &ShardLimits,
        until: BlockNumber,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), RowsProblem> {
        let mut expected = store.applied()?.checkpoint.block.next();
        let next = || -> Result<Option<crate::log::PlacedBlock>, StartError> {
            while expected <= until && self.missing.is_none() {
                let block = match self.held.take() {
                    Some(block) => block,
                    None => match self.pieces.next().transpose()? {
                        Some(Piece::Block(block)) => block,
                        Some(_) => continue,
                        None => return Ok(None),
                    },
                };
                progress(self.pieces.bytes_read());
                let number = block.block.number();
                if number > expected {
                    self.missing = Some(expected.0);
                } else if number == expected {
                    expected = expected.next();
                    return Ok(Some(block));
                }
            }
            Ok(None)
        };
        replay(next, store, limits)?;
        Ok(())
    }
}
