//! Makes a data directory of a backup. The shard that starts there makes its rows anew, and takes note that it was restored
//! before it decides anything else.

use super::error::{BackupError, Tried as _};
use super::manifest::{BackupFile, Manifest, as_text};
use super::take::sync_dir;
use crate::log::{Disk, DiskError, DiskFile};
use crate::store::Snapshots;
use crate::types::outside;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// Says that a data directory was restored; it stays there.
const RESTORED: &str = "restored";
/// Is there until the directory is complete.
const RESTORING: &str = "restoring";
/// What may be in an empty directory: the root of a file system has it.
const LOST_AND_FOUND: &str = "lost+found";

/// Bytes that are copied at once.
const COPY_AT_ONCE: usize = 1 << 20;

/// Which restore has made a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The restore: no other has this id.
    #[serde(with = "as_text")]
    pub id: Uuid,
    /// The backup's name.
    pub backup: String,
    /// When the backup was taken, in milliseconds of wall time.
    pub taken_ms: i64,
}

/// Copies a backup whose log is known to be intact into a data directory, which is made if it is not there, and else must be
/// empty; if the backup's snapshot is. `progress` is told the bytes copied since the last call. If it fails, or the process dies, nothing can be started there.
pub fn restore(
    disk: &Arc<dyn Disk>,
    backup: &Path,
    manifest: &Manifest,
    data_dir: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Restored, BackupError> {
    let snapshots = Snapshots::open(Arc::clone(disk), backup.join("snapshots"))?;
    if let Some(snapshot) = snapshots.newest()? {
        snapshots.read(&snapshot.path, |_, _| Ok(()))?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .tried("create the directory", data_dir)?;
    for entry in fs::read_dir(data_dir).tried("list", data_dir)? {
        if entry.tried("list", data_dir)?.file_name() != LOST_AND_FOUND {
            return Err(BackupError::NotEmpty(data_dir.to_path_buf()));
        }
    }
    let restored =
        Restored { id: outside::uuid(), backup: manifest.name.clone(), taken_ms: manifest.taken_ms };
    let (restoring, path) = (data_dir.join(RESTORING), data_dir.join(RESTORED));
    write(&restoring, &restored)?;
    sync_dir(data_dir)?;
    for part in ["log", "snapshots"].map(|part| data_dir.join(part)) {
        disk.create_dir(&part).tried("create the directory", &part)?;
    }
    for file in &manifest.files {
        copy(&**disk, &backup.join(&file.path), &data_dir.join(&file.path), file, &mut progress)?;
    }
    for part in ["log", "snapshots"].map(|part| data_dir.join(part)) {
        sync_dir(&part)?;
    }
    sync_dir(data_dir)?;
    fs::rename(&restoring, &path).tried("rename", &restoring)?;
    sync_dir(data_dir)?;
    Ok(restored)
}

fn write(path: &Path, restored: &Restored) -> Result<(), BackupError> {
    let text = serde_json::to_string_pretty(restored).unwrap_or_default();
    let mut file = fs::File::create(path).tried("create", path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).tried("write", path)
}

/// Copies a file, and sets aside the space that it has in a data directory. It is never linked: the broker writes to its
/// files, and the backup stays as it is.
fn copy(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    file: &BackupFile,
    progress: &mut impl FnMut(u64),
) -> Result<(), BackupError> {
    let failed = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| BackupError::Disk(DiskError { action, path, source })
    };
    let source = disk.open(from).map_err(failed("open", from))?;
    let target = disk.create(to, file.length).map_err(failed("create", to))?;
    let mut position = 0;
    while position < file.bytes {
        let mut piece = Vec::new();
        let read = source.read_at(position, COPY_AT_ONCE, &mut piece).map_err(failed("read", from))?;
        if read == 0 {
            return Err(BackupError::Length {
                path: from.to_path_buf(),
                found: position,
                expected: file.bytes,
            });
        }
        target.write_at(position, &piece).map_err(failed("write", to))?;
        position += read as u64;
        progress(read as u64);
    }
    DiskFile::sync(&*target).map_err(failed("sync", to))
}

/// Whether a restore into a data directory was begun and did not come to its end.
pub(in crate::shard) fn is_half_restored(data_dir: &Path) -> bool {
    data_dir.join(RESTORING).exists()
}

/// The restore that has made a data directory, if one has.
pub(in crate::shard) fn restore_of(data_dir: &Path) -> Result<Option<Restored>, BackupError> {
    let path = data_dir.join(RESTORED);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.tried("read", &path)?,
    };
    let read = serde_json::from_str(&text);
    read.map(Some).map_err(|error| BackupError::Manifest { path, reason: error.to_string() })
}
