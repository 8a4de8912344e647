//! Opens the store; and makes it anew where it is damaged, gone, or older than what the log still has: rows from the newest
//! snapshot, the index from the segments that are there, the rest by replay (`spec/rows.md`, "Made anew").

use super::limits::ShardLimits;
use super::payload::frame_entry;
use crate::core::PartitionRow;
use crate::log::{DiskError, Frame, Place, ScanError, ScannedFrame, SegmentNumber, Segments};
use crate::store::{
    Applied, Database, IndexEntry, Overlay, ReadView, Snapshot, SnapshotError, Snapshots, StoreError,
    encode_index_key, suspect,
};
use crate::types::codec::{Codec, CodecError};
use crate::types::{BlockNumber, Offset, PartitionId};
use std::fs;
use std::path::{Path, PathBuf};

/// Why the rows cannot be made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A segment.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A directory of the store.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An event.
    #[error("an event of block {block} cannot be read ({source}): is the data directory from a newer semel?")]
    Event {
        /// The block.
        block: BlockNumber,
        /// What is wrong.
        source: CodecError,
    },
    /// The log does not go back to its beginning.
    #[error(
        "there is no snapshot, and the log no longer goes back to its beginning: restore the snapshots directory"
    )]
    NoSnapshot,
    /// The snapshot is another log's.
    #[error("the snapshot {} belongs to another log", .0.display())]
    Foreign(PathBuf),
    /// Records are gone.
    #[error(
        "the records of partition {partition} from offset {from} to {to} are in no segment: restore the missing segment \
         files"
    )]
    Missing {
        /// The partition.
        partition: PartitionId,
        /// The first offset that is missing.
        from: Offset,
        /// The last one.
        to: Offset,
    },
}

/// The directory of the rows, in the data directory.
pub(super) const ROWS: &str = "rows";

/// How often semel may have died while it opened the rows: some damage makes fjall end the process. Once may have been a
/// kill that had nothing to do with it.
const DEATHS_MAX: u32 = 2;

/// How often in a row that has happened: the file is there while the rows are being opened.
fn deaths(opening: &Path) -> u32 {
    fs::read_to_string(opening).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn io_error(path: &Path, source: std::io::Error) -> RebuildError {
    RebuildError::Io { path: path.to_path_buf(), source }
}

/// Index entries that are put into the store at once.
const ENTRIES_AT_ONCE: usize = 5_000;

/// Where the rows are, and what they can be made anew from.
pub(super) struct Sources<'s> {
    pub(super) dir: &'s Path,
    pub(super) limits: &'s ShardLimits,
    /// None if there is no log yet.
    pub(super) segments: Option<Segments>,
    pub(super) snapshots: &'s Snapshots,
    pub(super) snapshot: Option<Snapshot>,
}

impl Sources<'_> {
    fn rows(&self) -> PathBuf {
        self.dir.join(ROWS)
    }

    /// The store, ready for the log above what is applied.
    pub(super) fn open_store(&self) -> Result<Database, RebuildError> {
        let suspect = suspect(&self.rows());
        let opening = self.dir.join("rows.opening");
        let deaths = deaths(&opening);
        if deaths >= DEATHS_MAX {
            tracing::warn!(deaths, "semel has died while it opened the rows: they are made anew");
            self.make_anew()?;
        }
        fs::write(&opening, (deaths + 1).to_string()).map_err(|source| io_error(&opening, source))?;
        let opened = Database::open(&self.rows(), self.limits.store);
        fs::remove_file(&opening).map_err(|source| io_error(&opening, source))?;
        // fjall makes the directory, but its name is durable only now.
        sync(self.dir).map_err(|source| io_error(self.dir, source))?;
        let reason = match opened {
            Ok(store) => match self.what_is_wrong(&store)? {
                None if !suspect.exists() => {
                    self.expect_check(&store)?;
                    return Ok(store);
                }
                None => format!("damage was found, see {}", suspect.display()),
                Some(reason) => reason,
            },
            Err(error) if error.is_damage() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        tracing::warn!(reason, "the rows are made anew; what is there is kept as rows.damaged");
        self.make_anew()?;
        Ok(Database::open(&self.rows(), self.limits.store)?)
    }

    /// A new store beside a log that is not: the replay makes it anew, and what compaction has written is missing then.
    fn expect_check(&self, store: &Database) -> Result<(), RebuildError> {
        if store.applied()? != Applied::NOTHING || self.files()?.is_empty() {
            return Ok(());
        }
        let unchecked = unchecked(self.dir);
        fs::File::create(&unchecked).map_err(|source| io_error(&unchecked, source))?;
        sync(self.dir).map_err(|source| io_error(self.dir, source))
    }

    /// Whether the store fits the log: what it points to is there, and so is the log above it.
    fn what_is_wrong(&self, store: &Database) -> Result<Option<String>, RebuildError> {
        let files = self.files()?;
        let missing = |segment: &SegmentNumber| files.binary_search(segment).is_err();
        if let Some(segment) = store.segment_uses().keys().find(|segment| missing(segment)) {
            return Ok(Some(format!("the index points into segment {segment}, which is not there")));
        }
        let Some(snapshot) = self.snapshot.as_ref().map(|snapshot| snapshot.header.applied.checkpoint) else {
            return Ok(None);
        };
        let applied = store.applied()?.checkpoint;
        let mut needed = (applied.at.segment.0..=snapshot.at.segment.0).map(SegmentNumber);
        let behind = applied.block < snapshot.block && needed.any(|segment| missing(&segment));
        Ok(behind.then(|| format!("the rows end at block {}, and the log begins later", applied.block)))
    }

    fn files(&self) -> Result<Vec<SegmentNumber>, DiskError> {
        self.segments.as_ref().map_or_else(|| Ok(Vec::new()), Segments::list)
    }

    /// Makes new rows beside the old ones and puts them in their place. A crash at any point leaves the old ones, or none:
    /// then they are made once more.
    fn make_anew(&self) -> Result<(), RebuildError> {
        let (rows, new, damaged) = (self.rows(), self.dir.join("rows.new"), self.dir.join("rows.damaged"));
        let io = |path: &Path, result: std::io::Result<()>| match result {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| RebuildError::Io { path: path.to_path_buf(), source }),
        };
        io(&new, fs::remove_dir_all(&new))?;
        drop(self.make(&new)?);
        io(&damaged, fs::remove_dir_all(&damaged))?;
        let unchecked = unchecked(self.dir);
        io(&unchecked, fs::File::create(&unchecked).map(drop))?;
        io(self.dir, sync(self.dir))?;
        io(&rows, fs::rename(&rows, &damaged))?;
        io(&new, fs::rename(&new, &rows))?;
        io(self.dir, sync(self.dir))?;
        let suspect = suspect(&rows);
        io(&suspect, fs::remove_file(&suspect))?;
        io(self.dir, sync(self.dir))
    }

    /// Makes the rows as of the newest snapshot in `new`. None without one, if the log still goes back to its beginning: then
    /// there are none yet.
    pub(super) fn make(&self, new: &Path) -> Result<Option<Database>, RebuildError> {
        match &self.snapshot {
            Some(snapshot) => self.restore(snapshot, new).map(Some),
            None if self.files()?.first().is_none_or(|first| *first == SegmentNumber::FIRST) => Ok(None),
            None => Err(RebuildError::NoSnapshot),
        }
    }

    fn restore(&self, snapshot: &Snapshot, new: &Path) -> Result<Database, RebuildError> {
        let Some(segments) = &self.segments else {
            return Err(RebuildError::Foreign(snapshot.path.clone()));
        };
        if snapshot.header.identity != segments.identity() {
            return Err(RebuildError::Foreign(snapshot.path.clone()));
        }
        let store = Database::open(new, self.limits.store)?;
        self.snapshots.restore(snapshot, &store)?;
        let checkpoint = snapshot.header.applied.checkpoint;
        let files = self.files()?;
        for file in files.iter().filter(|file| file.is_moved() || **file <= checkpoint.at.segment) {
            let next = file.next();
            let before = if *file == checkpoint.at.segment {
                Some(checkpoint.block.next())
            } else if !file.is_moved() && files.binary_search(&next).is_ok() {
                segments.first_block(next)?
            } else {
                None
            };
            let Some(mut scan) = segments.scan(*file, before)? else { continue };
            let mut entries = Vec::new();
            while let Some(frames) = scan.next_frames()? {
                index_frames(&store, &frames, &mut entries)?;
                if entries.len() >= ENTRIES_AT_ONCE {
                    put(&store, &mut entries)?;
                }
            }
            put(&store, &mut entries)?;
        }
        store.made_anew(snapshot.header.applied)?;
        Ok(store)
    }
}

/// Index entries to be: key and value.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// The entries of those frames that are live, and not known to lie elsewhere already.
fn index_frames(
    store: &Database,
    frames: &[ScannedFrame],
    entries: &mut Entries,
) -> Result<(), RebuildError> {
    let view = store.view_now()?;
    for (frame, place) in frames {
        let Some((partition, last, entry)) = read_entry(frame, *place)? else { continue };
        // What compaction has written is laid over the whole, when it is there.
        if entry.kind.cleaned().is_some() {
            continue;
        }
        let live = view
            .get::<PartitionRow>(&partition)?
            .is_some_and(|row| last >= row.log_start && last < row.next_offset);
        let key = encode_index_key(partition, last);
        // Files of moved frames come after all segments of blocks, where each frame is once.
        let is_known = || Ok::<_, StoreError>(place.segment.is_moved() && store.index_entry(&key)?.is_some());
        if live && !is_known()? {
            entries.push((key, entry.to_bytes()));
        }
    }
    Ok(())
}

fn read_entry(
    frame: &Frame,
    place: Place,
) -> Result<Option<(PartitionId, Offset, IndexEntry)>, RebuildError> {
    frame_entry(&frame.event, place)
        .map_err(|source| RebuildError::Event { block: frame.header.block, source })
}

/// Lays what compaction has written over an index that has everything else: what a compacted file says of an offset is
/// newer than what was appended there, and of several the newest counts.
pub(super) fn lay_over_compacted(segments: &Segments, store: &Database) -> Result<(), RebuildError> {
    for file in segments.list()?.into_iter().filter(|file| file.is_moved()) {
        let Some(mut scan) = segments.scan(file, None)? else { continue };
        while let Some(frames) = scan.next_frames()? {
            let mut overlays = Vec::new();
            for (frame, place) in &frames {
                let entry = read_entry(frame, *place)?.filter(|(_, _, entry)| entry.kind.cleaned().is_some());
                overlays.extend(entry.map(|(partition, last, entry)| Overlay { partition, last, entry }));
            }
            store.lay_over(&overlays)?;
        }
    }
    Ok(())
}

fn put(store: &Database, entries: &mut Entries) -> Result<(), StoreError> {
    let rows = entries.iter().map(|(key, row)| (&key[..], &row[..]));
    store.put_raw(rows)?;
    entries.clear();
    Ok(())
}

/// Is there while rows that were made anew have not been found complete.
fn unchecked(dir: &Path) -> PathBuf {
    dir.join("rows.unchecked")
}

fn sync(dir: &Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// After the replay: completes rows that were made anew by what compaction has written, and finds out whether nothing is
/// missing, if that is not known yet. Not before: what was deleted
/// after the snapshot is missing in the segments, and rightly so.
pub(super) fn complete_made_anew(
    dir: &Path,
    segments: Option<&Segments>,
    store: &Database,
) -> Result<(), RebuildError> {
    let unchecked = unchecked(dir);
    if !unchecked.exists() {
        return Ok(());
    }
    if let Some(segments) = segments {
        lay_over_compacted(segments, store)?;
    }
    check_complete(&store.view_now()?)?;
    store.persist()?;
    let removed = fs::remove_file(&unchecked).and_then(|()| sync(dir));
    removed.map_err(|source| RebuildError::Io { path: unchecked, source })
}

/// Every record from the log start to the high watermark is to be found. (Where compaction has left a gap, an entry says so.)
pub(super) fn check_complete(view: &ReadView) -> Result<(), RebuildError> {
    for partition in view.all_partitions() {
        let (partition, row) = partition?;
        let missing = |from: Offset, to: Offset| RebuildError::Missing { partition, from, to };
        let before = |offset: Offset| Offset(offset.0 - 1);
        let mut expected = row.log_start;
        for entry in view.index(partition, row.log_start) {
            let (last, IndexEntry { base_offset, .. }) = entry?;
            if base_offset > expected {
                return Err(missing(expected, before(base_offset)));
            }
            expected = last.next();
        }
        if expected < row.next_offset {
            return Err(missing(expected, before(row.next_offset)));
        }
    }
    Ok(())
}
