//! Takes a backup: links what does not change any more, copies the end of the log, and gives it its name at the end.

use super::error::{BackupError, Tried as _};
use super::manifest::{BackupFile, Manifest, PartitionEnd};
use super::standing::{UNFINISHED, Work, unfinished};
use crate::core::RestoredRow;
use crate::log::{CopyError, SegmentNumber, Segments};
use crate::store::{ReadView, StoreError};
use crate::types::{BlockNumber, Timestamp};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What is to be taken. While it is, none of the files is freed.
pub(in crate::shard) struct Plan {
    pub(in crate::shard) work: Work,
    pub(in crate::shard) as_of: AsOf,
    pub(in crate::shard) segments: Segments,
    /// Files that do not change any more.
    pub(in crate::shard) complete: Vec<Source>,
    /// The first segment that may still be written to.
    pub(in crate::shard) tail: SegmentNumber,
    pub(in crate::shard) taken: Timestamp,
    pub(in crate::shard) served_ms: u64,
}

/// What the rows say at the moment of a backup. Not a view of them: while one is kept, so is all that the store has had in
/// memory since.
pub(in crate::shard) struct AsOf {
    /// Everything up to this block is in the backup.
    pub(in crate::shard) last_block: BlockNumber,
    /// The restore that the log was last made by.
    restored: Option<String>,
    partitions: Vec<PartitionEnd>,
}

impl AsOf {
    pub(in crate::shard) fn of(view: &ReadView) -> Result<AsOf, StoreError> {
        Ok(AsOf {
            last_block: view.durable(),
            restored: view.get::<RestoredRow>(&())?.map(|row| row.restore.to_string()),
            partitions: Manifest::partitions_of(view)?,
        })
    }
}

/// A file that does not change any more.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Source {
    pub(in crate::shard) path: PathBuf,
    /// Where it belongs in a data directory.
    pub(in crate::shard) name: String,
    /// Whether no other file ever has this name: then one in an earlier backup is the same.
    pub(in crate::shard) unique: bool,
}

/// Bytes that are copied at once.
const COPY_AT_ONCE: usize = 1 << 20;

/// Takes the backup. What is there before it returns has no name that counts.
pub(in crate::shard) fn take(plan: &Plan) -> Result<(), BackupError> {
    let Work { name, root, .. } = &plan.work;
    make_dir(root)?;
    clear(root)?;
    let dir = unfinished(root, name);
    for part in [&dir, &dir.join("log"), &dir.join("snapshots")] {
        make_dir(part)?;
    }
    let result = fill(plan, &dir);
    if result.is_err() {
        // What is left is removed with the next one; it has no name that counts.
        let _ = fs::remove_dir_all(&dir);
        return result;
    }
    let path = root.join(name);
    fs::rename(&dir, &path).tried("rename", &dir)?;
    sync_dir(root)
}

fn fill(plan: &Plan, dir: &Path) -> Result<(), BackupError> {
    let earlier = Earlier::find(&plan.work.root, plan);
    let mut total = plan.segments.length(plan.tail)?;
    for source in &plan.complete {
        total += fs::metadata(&source.path).tried("look at", &source.path)?.len();
    }
    plan.work.total.store(total, Ordering::Relaxed);
    let mut files = Vec::with_capacity(plan.complete.len() + 1);
    for source in &plan.complete {
        files.push(put(plan, &earlier, source, dir)?);
    }
    files.extend(copy_tail(plan, dir)?);
    let identity = plan.segments.identity();
    let manifest = Manifest {
        name: plan.work.name.clone(),
        taken_ms: plan.taken.0,
        log_id: format!("{:032x}", identity.log.0),
        shard: identity.shard.0,
        restored: plan.as_of.restored.clone(),
        last_block: plan.as_of.last_block.0,
        served_ms: plan.served_ms,
        files,
        partitions: plan.as_of.partitions.clone(),
    };
    for part in [dir.join("log"), dir.join("snapshots")] {
        sync_dir(&part)?;
    }
    manifest.write(dir)?;
    sync_dir(dir)
}

/// Puts a file that does not change into the backup: by another name for it, if that can be had.
fn put(plan: &Plan, earlier: &Earlier, source: &Source, dir: &Path) -> Result<BackupFile, BackupError> {
    let target = dir.join(&source.name);
    if !plan.work.goes_on() {
        return Err(BackupError::GivenUp(STOPPING));
    }
    let bytes = fs::metadata(&source.path).tried("look at", &source.path)?.len();
    let reused = || earlier.path_of(source, bytes).is_some_and(|same| fs::hard_link(same, &target).is_ok());
    if fs::hard_link(&source.path, &target).is_ok() || reused() {
        plan.work.done.fetch_add(bytes, Ordering::Relaxed);
    } else {
        copy(plan, &source.path, &target)?;
    }
    Ok(BackupFile { path: source.name.clone(), bytes, length: bytes, complete: source.unique })
}

const STOPPING: &str = "the broker is stopping, or its disk is nearly full";

/// The files lie on different file systems.
fn copy(plan: &Plan, from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = fs::File::open(from).tried("open", from)?;
    let mut target = fs::File::create(to).tried("create", to)?;
    let mut buffer = vec![0; COPY_AT_ONCE];
    loop {
        let read = source.read(&mut buffer).tried("read", from)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        target.write_all(piece).tried("write", to)?;
        plan.work.done.fetch_add(read as u64, Ordering::Relaxed);
        if !plan.work.goes_on() {
            return Err(BackupError::GivenUp(STOPPING));
        }
    }
    target.sync_all().tried("sync", to)
}

/// Copies the segments that are being written, up to the last block that belongs to the backup.
fn copy_tail(plan: &Plan, dir: &Path) -> Result<Vec<BackupFile>, BackupError> {
    let last = plan.as_of.last_block;
    let mut files = Vec::new();
    let mut segment = plan.tail;
    if last == BlockNumber::ZERO {
        return Ok(files);
    }
    loop {
        let source = plan.segments.path(segment);
        let name = format!("log/{}", source.file_name().unwrap_or_default().to_string_lossy());
        let goes_on = |bytes| {
            plan.work.done.fetch_add(u64::from(bytes), Ordering::Relaxed);
            plan.work.goes_on()
        };
        let copied = plan.segments.copy_until(segment, last, &dir.join(&name), goes_on);
        let copied = copied.map_err(|error| match error {
            CopyError::GivenUp => BackupError::GivenUp(STOPPING),
            CopyError::NotInUse(_) => BackupError::NoEnd { block: last.0 },
            other => BackupError::Copy(other),
        })?;
        let (bytes, length) = (u64::from(copied.bytes), u64::from(copied.length));
        files.push(BackupFile { path: name, bytes, length, complete: false });
        match copied.last {
            Some(found) if found >= last => return Ok(files),
            Some(_) => segment = segment.next(),
            None => return Err(BackupError::NoEnd { block: last.0 }),
        }
    }
}

/// The newest complete backup of the same log beside this one, where links to the log itself cannot be had. A log that was
/// restored is another one: since then its segments have the names, but not the content, of those that were lost.
struct Earlier(Option<(PathBuf, Manifest)>);

impl Earlier {
    fn find(root: &Path, plan: &Plan) -> Earlier {
        let log_id = format!("{:032x}", plan.segments.identity().log.0);
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let manifests = entries.filter_map(|entry| {
            let manifest = Manifest::read(&entry.path()).ok()?;
            let same = manifest.log_id == log_id && manifest.restored == plan.as_of.restored;
            same.then(|| (entry.path(), manifest))
        });
        Earlier(manifests.max_by_key(|(_, manifest)| manifest.last_block))
    }

    fn path_of(&self, source: &Source, bytes: u64) -> Option<PathBuf> {
        let (dir, manifest) = self.0.as_ref()?;
        let file = manifest.files.iter().find(|file| file.path == source.name)?;
        let same = source.unique && file.complete && file.bytes == bytes;
        let path = dir.join(&file.path);
        (same && fs::metadata(&path).is_ok_and(|found| found.size() == bytes)).then_some(path)
    }
}

/// Only the broker's own user may look into it: it holds everybody's records.
fn make_dir(path: &Path) -> Result<(), BackupError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).tried("create the directory", path)
}

/// Removes what was never completed: one backup is taken at a time, and this is the broker's own directory.
fn clear(root: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(root).tried("list", root)? {
        let entry = entry.tried("list", root)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path()).tried("remove", &entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).tried("sync the directory", dir)
}
