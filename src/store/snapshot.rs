//! Snapshots: all state rows as of one block, in a file of their own, from which a damaged store is made anew. The index is
//! not in them; it is made from the segments (`spec/rows.md`, "Snapshots").

use super::database::{Applied, Database, StoreError};
use super::keys::is_of_places;
use super::view::{LastingRows, ReadView};
use crate::codec;
use crate::log::{Disk, DiskError, DiskFile, Identity, LogId, ShardNumber};
use crate::types::BlockNumber;
use crate::types::codec::{Codec, CodecError, take};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"semelSNP";
const VERSION: u16 = 1;
const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".rows";
const UNFINISHED: &str = ".tmp";
const DIGITS: usize = 20;
/// Bytes of rows in a section, about: what is read and checked at once.
const SECTION_BYTES: usize = 256 << 10;
/// The longest section: one row of the largest kind is far below it.
const SECTION_BYTES_MAX: u32 = 64 << 20;

/// A snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not as it was written.
    #[error("the snapshot {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Whose rows they are.
    pub identity: Identity,
    /// How far the log is in them.
    pub applied: Applied,
}
codec!(LogId(u128));
codec!(ShardNumber(u32));
codec!(Identity { log, shard });
codec!(SnapshotHeader { identity, applied });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footer {
    rows: u64,
    sections: u64,
}
codec!(Footer { rows, sections });

/// What a section holds: its first byte.
mod section {
    pub(super) const HEADER: u8 = 0;
    pub(super) const ROWS: u8 = 1;
    pub(super) const END: u8 = 2;
}

fn tried<T>(result: std::io::Result<T>, action: &'static str, path: &Path) -> Result<T, DiskError> {
    result.map_err(|source| DiskError { action, path: path.to_path_buf(), source })
}

/// The snapshots in a directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// A snapshot that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its file.
    pub path: PathBuf,
    /// What it is of.
    pub header: SnapshotHeader,
    /// How long it is.
    pub bytes: u64,
}

impl Snapshots {
    /// The snapshots in `dir`, which is made if it is not there.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Snapshots, DiskError> {
        tried(disk.create_dir(&dir), "create the directory", &dir)?;
        Ok(Snapshots { disk, dir })
    }

    fn path(&self, block: BlockNumber) -> PathBuf {
        self.dir.join(format!("{PREFIX}{:0DIGITS$}{SUFFIX}", block.0))
    }

    /// Files of snapshots, the newest first; and what was left half made.
    fn list(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DiskError> {
        let mut names = tried(self.disk.list(&self.dir), "list", &self.dir)?;
        names.retain(|name| name.starts_with(PREFIX));
        names.sort_unstable_by(|a, b| b.cmp(a));
        let (whole, half): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.ends_with(SUFFIX));
        let path = |names: Vec<String>| names.iter().map(|name| self.dir.join(name)).collect();
        Ok((path(whole), path(half)))
    }

    /// The newest snapshot. It is complete, because it has its name; that it is intact is known when it is read.
    pub fn newest(&self) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(path) = self.list()?.0.into_iter().next() else { return Ok(None) };
        let file = tried(self.disk.open(&path), "open", &path)?;
        let bytes = tried(file.length(), "measure", &path)?;
        let header = Reading { file: &*file, path: &path, position: 0 }.header()?;
        Ok(Some(Snapshot { path, header, bytes }))
    }

    /// Removes all snapshots but this one, and what was left half made.
    pub fn retain(&self, kept: Option<&Snapshot>) -> Result<(), DiskError> {
        let (whole, half) = self.list()?;
        for path in whole.into_iter().chain(half) {
            if kept.is_none_or(|kept| kept.path != path) {
                tried(self.disk.remove(&path), "remove", &path)?;
            }
        }
        tried(self.disk.sync_dir(&self.dir), "sync the directory", &self.dir)
    }

    /// Reads a snapshot from end to end and hands its rows over in the order of their keys, section by section.
    pub fn read(
        &self,
        path: &Path,
        mut rows: impl FnMut(&SnapshotHeader, &[(&[u8], &[u8])]) -> Result<(), StoreError>,
    ) -> Result<Snapshot, SnapshotError> {
        let damaged = |reason| SnapshotError::Damaged { path: path.to_path_buf(), reason };
        let cut = |_: CodecError| damaged("a section is cut off");
        let file = tried(self.disk.open(path), "open", path)?;
        let mut reading = Reading { file: &*file, path, position: 0 };
        let header = reading.header()?;
        let (mut count, mut sections) = (0u64, 0u64);
        loop {
            let body = reading.section()?;
            match body.split_first() {
                Some((&section::ROWS, body)) => {
                    let found = split_rows(body).map_err(cut)?;
                    count += found.len() as u64;
                    sections += 1;
                    rows(&header, &found)?;
                }
                Some((&section::END, body)) => {
                    let end = Footer::from_bytes(body).map_err(cut)?;
                    if end != (Footer { rows: count, sections }) {
                        return Err(damaged("sections are missing"));
                    }
                    let (path, bytes) = (path.to_path_buf(), reading.position);
                    return Ok(Snapshot { path, header, bytes });
                }
                _ => return Err(damaged("a section is of no known kind")),
            }
        }
    }

    /// Puts the rows of a snapshot into a store that is empty. How far the log is in them is left to be said.
    pub fn restore(&self, snapshot: &Snapshot, store: &Database) -> Result<(), SnapshotError> {
        let restored = self.read(&snapshot.path, |_, rows| store.put_raw(rows.iter().copied()))?;
        debug_assert_eq!(restored, *snapshot, "it was read before");
        Ok(())
    }

    /// Begins a snapshot of what a view has, without its layers.
    pub fn begin(&self, view: &ReadView, identity: Identity) -> Result<SnapshotWriter, SnapshotError> {
        let header = SnapshotHeader { identity, applied: view.applied()? };
        let target = self.path(header.applied.checkpoint.block);
        let mut new = target.clone().into_os_string();
        new.push(UNFINISHED);
        let path = PathBuf::from(new);
        let file = tried(self.disk.create(&path, 0), "create", &path)?;
        let snapshots = self.clone();
        let (rows, written) = (view.lasting_rows(), Footer { rows: 0, sections: 0 });
        let mut writer =
            SnapshotWriter { snapshots, rows, header, file, path, target, position: 0, next: None, written };
        writer.write(&MAGIC)?;
        let mut body = vec![section::HEADER];
        VERSION.encode(&mut body);
        header.encode(&mut body);
        writer.write_section(&body)?;
        Ok(writer)
    }
}

/// A key and its row, as they are stored.
type RawRow<'b> = (&'b [u8], &'b [u8]);

fn split_rows(mut body: &[u8]) -> Result<Vec<RawRow<'_>>, CodecError> {
    let mut rows = Vec::new();
    while !body.is_empty() {
        let key = u32::decode(&mut body)?;
        let key = take(&mut body, key as usize)?;
        let row = u32::decode(&mut body)?;
        rows.push((key, take(&mut body, row as usize)?));
    }
    Ok(rows)
}

struct Reading<'f> {
    file: &'f dyn DiskFile,
    path: &'f Path,
    position: u64,
}

impl Reading<'_> {
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = Vec::new();
        let read = tried(self.file.read_at(self.position, length, &mut bytes), "read", self.path)?;
        if read < length {
            return Err(self.damaged("it ends too early"));
        }
        self.position += read as u64;
        Ok(bytes)
    }

    fn damaged(&self, reason: &'static str) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.to_path_buf(), reason }
    }

    fn header(&mut self) -> Result<SnapshotHeader, SnapshotError> {
        if self.bytes(MAGIC.len())? != MAGIC {
            return Err(self.damaged("it does not begin as a snapshot does"));
        }
        let first = self.section()?;
        let mut input = match first.split_first() {
            Some((&section::HEADER, input)) => input,
            _ => return Err(self.damaged("it has no header")),
        };
        if u16::decode(&mut input) != Ok(VERSION) {
            return Err(self.damaged("its version is unknown to this program"));
        }
        SnapshotHeader::from_bytes(input).map_err(|_| self.damaged("its header cannot be read"))
    }

    fn section(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let start = self.bytes(8)?;
        let mut fields = &start[..];
        let (Ok(length), Ok(checksum)) = (u32::decode(&mut fields), u32::decode(&mut fields)) else {
            return Err(self.damaged("a section is cut off"));
        };
        if length > SECTION_BYTES_MAX {
            return Err(self.damaged("a section is too long"));
        }
        let body = self.bytes(length as usize)?;
        if crc32c::crc32c(&body) != checksum {
            return Err(self.damaged("a section does not match its checksum"));
        }
        Ok(body)
    }
}

/// A section to be: its rows, how many they are, and whether there are no others.
struct Section {
    body: Vec<u8>,
    rows: u64,
    is_last: bool,
}

/// A snapshot that is being written, a few sections at a time. It counts once [`SnapshotWriter::finish`] has returned.
#[derive(Debug)]
pub struct SnapshotWriter {
    snapshots: Snapshots,
    rows: LastingRows,
    header: SnapshotHeader,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    target: PathBuf,
    position: u64,
    /// The row to go on with, if it has been read.
    next: Option<(Vec<u8>, Bytes)>,
    written: Footer,
}

impl SnapshotWriter {
    /// Writes about `bytes` more; true when all rows are written.
    pub fn advance(&mut self, bytes: usize) -> Result<bool, SnapshotError> {
        let mut done = 0;
        while done < bytes {
            let Section { body, rows, is_last } = self.collect()?;
            if rows > 0 {
                self.write_section(&body)?;
                self.written = Footer { rows: self.written.rows + rows, sections: self.written.sections + 1 };
            }
            done += body.len();
            if is_last {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn collect(&mut self) -> Result<Section, SnapshotError> {
        let mut body = vec![section::ROWS];
        let mut rows = 0;
        loop {
            let next = self.next.take().map_or_else(|| self.rows.next(), |next| Ok(Some(next)))?;
            let Some((key, row)) = next else { return Ok(Section { body, rows, is_last: true }) };
            if body.len() >= SECTION_BYTES {
                self.next = Some((key, row));
                return Ok(Section { body, rows, is_last: false });
            }
            // What speaks of places, not of state, is made anew.
            if is_of_places(&key) {
                continue;
            }
            for part in [&key[..], &row[..]] {
                u32::try_from(part.len()).unwrap_or(u32::MAX).encode(&mut body);
                body.extend_from_slice(part);
            }
            rows += 1;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        tried(self.file.write_at(self.position, bytes), "write", &self.path)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn write_section(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        let mut bytes = Vec::with_capacity(body.len() + 8);
        u32::try_from(body.len()).unwrap_or(u32::MAX).encode(&mut bytes);
        crc32c::crc32c(body).encode(&mut bytes);
        bytes.extend_from_slice(body);
        self.write(&bytes)
    }

    /// Makes the snapshot and its name durable.
    pub fn finish(mut self) -> Result<Snapshot, SnapshotError> {
        let mut body = vec![section::END];
        self.written.encode(&mut body);
        self.write_section(&body)?;
        let Snapshots { disk, dir } = &self.snapshots;
        tried(self.file.sync(), "sync", &self.path)?;
        tried(disk.rename(&self.path, &self.target), "rename", &self.path)?;
        tried(disk.sync_dir(dir), "sync the directory", dir)?;
        Ok(Snapshot { path: self.target, header: self.header, bytes: self.position })
    }

    /// Gives the snapshot up.
    pub fn abandon(self) -> Result<(), SnapshotError> {
        Ok(tried(self.snapshots.disk.remove(&self.path), "remove", &self.path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{RowKey, TopicNameRow};
    use crate::log::tests::sim_disk::{Fault, Sampled, SimDisk};
    use crate::log::{At, Checkpoint, SegmentNumber};
    use crate::store::keys::kind;
    use crate::store::{LayerBuilder, StoreLimits};
    use crate::types::{ServedTime, TopicId, TopicName};

    const IDENTITY: Identity = Identity { log: LogId(7), shard: ShardNumber(0) };

    fn applied(block: u64) -> Applied {
        let at = At { segment: SegmentNumber(3), position: 4096 };
        Applied { checkpoint: Checkpoint { block: BlockNumber(block), at }, served: ServedTime(9) }
    }

    /// A store with rows that fill several sections.
    fn store(dir: &Path) -> Database {
        let store = Database::open(dir, StoreLimits::default()).unwrap();
        let mut layer = LayerBuilder::default();
        for number in 0..20_000 {
            let name = TopicName::new(&format!("topic-{number:06}")).unwrap();
            layer.put(&RowKey::TopicName(name), Some(&TopicNameRow { id: TopicId::NIL }.into()));
        }
        store.apply([&layer.finish(BlockNumber(5))], applied(5)).unwrap();
        store
    }

    fn take(snapshots: &Snapshots, store: &Database) -> Result<Snapshot, SnapshotError> {
        let mut writer = snapshots.begin(&store.view_now()?, IDENTITY)?;
        while !writer.advance(1)? {}
        writer.finish()
    }

    fn dump(store: &Database) -> Vec<(Vec<u8>, bytes::Bytes)> {
        let view = store.view_now().unwrap();
        let rows = view.snapshot_rows(&[1]).map(Result::unwrap);
        rows.filter(|(key, _)| key.first() != Some(&kind::STAMP)).collect()
    }

    #[test]
    fn what_a_snapshot_holds_comes_back_whole_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("a"));
        let disk = SimDisk::default();
        let snapshots = Snapshots::open(Arc::new(disk.clone()), PathBuf::from("/s")).unwrap();
        let taken = take(&snapshots, &store).unwrap();
        assert_eq!(taken.header, SnapshotHeader { identity: IDENTITY, applied: applied(5) });
        assert_eq!(snapshots.newest().unwrap(), Some(taken.clone()));
        let anew = Database::open(&dir.path().join("b"), StoreLimits::default()).unwrap();
        snapshots.restore(&taken, &anew).unwrap();
        anew.made_anew(taken.header.applied).unwrap();
        assert_eq!(dump(&anew), dump(&store));
        assert_eq!(anew.persisted(), applied(5));

        let intact = disk.content(&taken.path);
        assert!(intact.len() > 2 * SECTION_BYTES, "several sections");
        for at in [0, 9, 20, 40, 5_000, SECTION_BYTES + 300, intact.len() - 1] {
            let mut content = intact.clone();
            content[at] ^= 0x10;
            disk.set_content(&taken.path, content);
            let read = snapshots.read(&taken.path, |_, _| Ok(()));
            assert!(matches!(read, Err(SnapshotError::Damaged { .. })), "byte {at}");
        }
        for length in [0, 7, 100, SECTION_BYTES, intact.len() - 1] {
            disk.set_content(&taken.path, intact[..length].to_vec());
            let read = snapshots.read(&taken.path, |_, _| Ok(()));
            assert!(matches!(read, Err(SnapshotError::Damaged { .. })), "cut to {length}");
        }
    }

    #[test]
    fn a_power_cut_leaves_the_old_snapshot_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("a"));
        let rehearsal = SimDisk::default();
        let first = |disk: &SimDisk| {
            let snapshots = Snapshots::open(Arc::new(disk.clone()), PathBuf::from("/s")).unwrap();
            let old = take(&snapshots, &store).unwrap();
            (snapshots, old)
        };
        let second = |snapshots: &Snapshots| -> Result<Snapshot, SnapshotError> {
            let new = take(snapshots, &store)?;
            snapshots.retain(Some(&new))?;
            Ok(new)
        };
        first(&rehearsal);
        store.apply([], applied(6)).unwrap();
        let snapshots = Snapshots::open(Arc::new(rehearsal.clone()), PathBuf::from("/s")).unwrap();
        rehearsal.plan(None);
        second(&snapshots).unwrap();
        let operations = rehearsal.operations();
        for operation in 1..=operations + 1 {
            store.apply([], applied(5)).unwrap();
            let disk = SimDisk::default();
            let (snapshots, old) = first(&disk);
            store.apply([], applied(6)).unwrap();
            disk.plan(Some(Fault::PowerCut { operation }));
            let done = second(&snapshots).is_ok();
            assert_eq!(done, operation > operations);
            disk.power_cut(&mut Sampled(operation));
            let newest = snapshots.newest().unwrap().expect("one of them");
            assert!(newest == old || newest.header.applied == applied(6));
            assert!(!done || newest.header.applied == applied(6));
            snapshots.read(&newest.path, |_, _| Ok(())).unwrap();
            snapshots.retain(Some(&newest)).unwrap();
            assert_eq!(snapshots.list().unwrap(), (vec![newest.path], vec![]));
        }
    }
}
