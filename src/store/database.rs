//! The row store, as semel uses it: two keyspaces, one writer (the applier), snapshots for readers, checkpoints now and then.

use super::background;
use super::compaction::CompactionRow;
use super::index::IndexEntry;
use super::keys::{KeyReader, encode_key, kind};
use super::layer::{Layer, last_changes};
use super::pages::{self, IndexChanges, Page};
use super::segments::{SegmentUse, SegmentUses};
use super::stamps::{Stamps, numbers};
use super::suspicion::{Suspicion, said};
use super::tables::{Batch, Flush, Snapshot, Space, Tables};
use super::view::{ReadView, Reading, space_of};
use crate::codec;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Now, RowKey, RowValue};
use crate::log::{At, Checkpoint, Place, SegmentNumber};
use crate::metrics::Counter;
use crate::types::codec::{Codec, CodecError};
use crate::types::{BlockNumber, PartitionId, ServedTime};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store failed, or holds something that is no row.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// fjall failed.
    #[error("the row store in {} failed: {source}", path.display())]
    Fjall {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        source: fjall::Error,
    },
    /// A row is damaged.
    #[error("the row with key {key} is damaged ({source}): stop semel and rebuild the rows from the log")]
    Damaged {
        /// The row's key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// Changes are missing that were followed by others.
    #[error("the row store in {} has lost changes: {found}", path.display())]
    Lost {
        /// Where it lies.
        path: PathBuf,
        /// What is there in place of one number.
        found: Stamps,
    },
    /// A task that fjall does by itself has failed, and fjall takes nothing more.
    #[error("the row store in {} takes nothing more: a task of its own has failed; the log says above with what", path.display())]
    Refuses {
        /// Where it lies.
        path: PathBuf,
    },
    /// The store has failed with a panic.
    #[error("the row store in {} has failed with a panic: {panic}", path.display())]
    Panic {
        /// Where it lies.
        path: PathBuf,
        /// What it said.
        panic: String,
    },
    /// Its rows are of another version than this program's.
    #[error("the rows are of version {found}, and this program's are of version {expected}")]
    Version {
        /// Theirs.
        found: u16,
        /// This program's.
        expected: u16,
    },
    /// The store cannot be opened.
    #[error("the row store in {} cannot be opened: {source}", path.display())]
    Open {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        source: fjall::Error,
    },
}

impl StoreError {
    /// Whether what is on disk is damaged, so that it can only be made anew; not whether the system refuses something.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use std::io::ErrorKind;
        if let Some(kind) = self.io_kind() {
            // What exists already is of a store that a crash has left half made.
            return matches!(
                kind,
                ErrorKind::UnexpectedEof
                    | ErrorKind::InvalidData
                    | ErrorKind::NotFound
                    | ErrorKind::AlreadyExists
            );
        }
        match self {
            StoreError::Damaged { .. }
            | StoreError::Lost { .. }
            | StoreError::Version { .. }
            | StoreError::Panic { .. } => true,
            StoreError::Refuses { .. } => false,
            StoreError::Fjall { source, .. } | StoreError::Open { source, .. } => !matches!(
                source,
                fjall::Error::Locked | fjall::Error::InvalidVersion(Some(_)) | fjall::Error::Poisoned
            ),
        }
    }

    /// What the system has answered, if it was the system.
    #[must_use]
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        match self {
            StoreError::Fjall { source, .. } | StoreError::Open { source, .. } => match source {
                fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                    Some(error.kind())
                }
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn damaged(key: &[u8], source: CodecError) -> StoreError {
        StoreError::Damaged { key: key.iter().map(|byte| format!("{byte:02x}")).collect(), source }
    }

    pub(super) fn damaged_key(key: &[u8]) -> StoreError {
        StoreError::damaged(key, CodecError::Invalid("a key that cannot be read"))
    }
}

/// The file that fjall writes last when it makes a store.
const MADE: &str = "version";

/// How much memory and disk fjall may use.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Bytes of blocks that fjall caches.
    pub cache_bytes: u64,
    /// Bytes of one keyspace's rows in memory before they are written out. Small, because a restart reads them again.
    pub memtable_bytes: u64,
    /// Bytes of fjall's journal on disk.
    pub journal_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits { cache_bytes: 64 << 20, memtable_bytes: 16 << 20, journal_bytes: 128 << 20 }
    }
}

/// How large the store is.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSizes {
    /// Bytes of tables on disk.
    pub tables_bytes: u64,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
    /// Bytes of rows in memory that are not in tables yet.
    pub memtables_bytes: u64,
    /// Bytes of the cache that are in use.
    pub cache_bytes: u64,
    /// Tables that no compaction has merged yet.
    pub tables_l0: u64,
    /// Memtables that wait to be written out.
    pub flushes_waiting: u64,
}

/// How far the log is in the rows. Written in the same batch as the rows themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last block whose changes are in the rows, and where it lies.
    pub checkpoint: Checkpoint,
    /// That block's served time.
    pub served: ServedTime,
}

/// How the wall clock was found to stand against served time (`spec/transactions.md`, X7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClockRow {
    /// The two clocks, at one moment.
    pub seen: Now,
    /// It has stepped, and is not relied on before then.
    pub distrusted_until: Option<ServedTime>,
}

codec!(Now { served, wall });
codec!(WallClockRow { seen, distrusted_until });
codec!(SegmentNumber(u64));
codec!(At { segment, position });
codec!(Checkpoint { block, at });
codec!(Applied { checkpoint, served });

impl Applied {
    /// Nothing is applied.
    pub const NOTHING: Applied = Applied { checkpoint: Checkpoint::START, served: ServedTime(0) };
}

/// The rows on disk. Cheap to clone: all clones are one store.
#[derive(Clone)]
pub struct Database {
    tables: Tables,
    /// What the last batch has. Locked while a batch is made, so that what is written of it and what it says agree.
    written: Arc<Mutex<Written>>,
    suspicion: Suspicion,
    /// Rows that were read.
    reads: Arc<Counter>,
    /// How far the rows are known to be durable.
    persisted: Arc<Mutex<Applied>>,
    /// Whether memtables are being written out. fjall does that by itself: in a batch that makes one too large it is begun.
    rewriting: Arc<AtomicBool>,
}

/// What the last batch has.
#[derive(Debug, Default)]
struct Written {
    /// What the segments are used for.
    uses: SegmentUses,
    /// The batch's number: from 1 without gaps.
    batch: u64,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the store in `path`, or makes it. It is whole then, or there is an error that says what is wrong with it; a
    /// damaged part of a table may be found out later, when it is read.
    pub fn open(path: &Path, limits: StoreLimits) -> Result<Database, StoreError> {
        background::listen();
        // fjall asserts what damage can break.
        let opened = catch_unwind(AssertUnwindSafe(|| Database::open_fjall(path, limits)));
        opened.unwrap_or_else(|panic| Err(StoreError::Panic { path: path.to_owned(), panic: said(&*panic) }))
    }

    fn open_fjall(path: &Path, limits: StoreLimits) -> Result<Database, StoreError> {
        let is_new = !path.join(MADE).exists();
        let tables = Tables::open(path, limits);
        Database::over(
            tables.map_err(|source| StoreError::Open { path: path.to_owned(), source })?,
            path,
            Suspicion::about(path),
            is_new,
        )
    }

    /// The store whose rows after a crash, or at first, a model has.
    #[cfg(test)]
    pub(crate) fn modelled(model: &super::Model) -> Result<Database, StoreError> {
        let tables = Tables::Model(model.clone());
        let is_new = tables.snapshot().age() == 0;
        Database::over(tables, Path::new("model"), Suspicion::of_a_model(), is_new)
    }

    fn over(tables: Tables, path: &Path, suspicion: Suspicion, is_new: bool) -> Result<Database, StoreError> {
        let database = Database {
            tables,
            written: Arc::new(Mutex::new(Written::default())),
            suspicion,
            reads: Arc::default(),
            persisted: Arc::new(Mutex::new(Applied::NOTHING)),
            rewriting: Arc::default(),
        };
        let batch = database.last_batch(path, is_new)?;
        *lock(&database.written) = Written { uses: SegmentUses::load(&database.view_now()?)?, batch };
        // What can be read may be in the page cache only: it is made durable before anybody relies on it.
        database.persist()?;
        Ok(database)
    }

    /// The number of the last batch, if none before it is missing in either keyspace (`spec/rows.md`, "Nothing between").
    /// Only a new store may have none: elsewhere it may still be in the journal, of a keyspace that was lost whole.
    fn last_batch(&self, path: &Path, is_new: bool) -> Result<u64, StoreError> {
        let noted = |error| self.suspicion.of(error);
        let newest = |space| numbers(self.tables.prefix(space, &Stamps::prefix()), &self.suspicion);
        let newest = Stamps { rows: newest(Space::Rows)?, index: newest(Space::Index)? };
        // When a whole journal is gone, fjall counts its writes from 0 again, and what its tables have is in no snapshot.
        let snapshot = self.tables.snapshot();
        let found = |space| numbers(snapshot.prefix(space, &Stamps::prefix()), &self.suspicion);
        let found = Stamps { rows: found(Space::Rows)?, index: found(Space::Index)? };
        if newest != found {
            return Err(StoreError::Lost { path: path.to_owned(), found });
        }
        let is_empty = is_new
            && self.tables.is_empty(Space::Rows).map_err(noted)?
            && self.tables.is_empty(Space::Index).map_err(noted)?;
        found.whole(is_empty).ok_or_else(|| StoreError::Lost { path: path.to_owned(), found })
    }

    /// How far the log is in the rows.
    pub fn applied(&self) -> Result<Applied, StoreError> {
        match self.read(Space::Rows, &[kind::APPLIED])? {
            Some(row) => {
                Applied::from_bytes(&row).map_err(|source| StoreError::damaged(&[kind::APPLIED], source))
            }
            None => Ok(Applied::NOTHING),
        }
    }

    /// Puts the changes of blocks up to `applied` into the rows, all of them or none. Not durable before [`persist`].
    ///
    /// [`persist`]: Database::persist
    pub fn apply<'l>(
        &self,
        layers: impl IntoIterator<Item = &'l Arc<Layer>, IntoIter: DoubleEndedIterator>,
        applied: Applied,
    ) -> Result<(), StoreError> {
        // Of a row that several blocks have changed, only the last change counts, and a key comes once in a batch.
        let changes = last_changes(layers);
        let mut written = lock(&self.written);
        self.suspicion.watch(|| {
            let mut batch = self.tables.batch();
            let mut appended = Vec::new();
            for (key, row) in changes {
                match (space_of(key), row) {
                    (Space::Rows, Some(row)) => batch.insert(Space::Rows, key, row),
                    (Space::Rows, None) => batch.remove(Space::Rows, key),
                    // What is appended is behind all that is there, so its pages are new ones.
                    (Space::Index, Some(row)) => {
                        let entry = read_entry(key, row)?;
                        written.uses.add(entry.place);
                        appended.push((key, entry));
                    }
                    (Space::Index, None) => debug_assert!(false, "no block takes an index entry away"),
                }
            }
            debug_assert!(mutated(Mutant::OffsetReused) || self.is_behind_all(&appended)?);
            pages::pack(appended.iter().map(|(key, entry)| (*key, entry)), |key, page| {
                batch.insert(Space::Index, key, page)
            });
            batch.insert(Space::Rows, &[kind::APPLIED], &applied.to_bytes());
            self.commit(batch, &mut written)
        })
    }

    /// Removes index entries, as they were found. Readers of older views still see them.
    pub fn remove_index(&self, entries: &[(Vec<u8>, Bytes)]) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        let mut removed: BTreeMap<PartitionId, u64> = BTreeMap::new();
        let mut changes = IndexChanges::new();
        for (key, row) in entries {
            changes.insert(key.clone(), None);
            let entry = read_entry(key, row)?;
            written.uses.take(entry.place);
            if let bytes @ 1.. = entry.removed_bytes() {
                let partition = KeyReader::new(key).and_then(|mut key| key.partition());
                *removed.entry(partition.ok_or_else(|| StoreError::damaged_key(key))?).or_default() += bytes;
            }
        }
        self.edit_index(changes, &mut batch)?;
        for (partition, bytes) in removed {
            if let Some(mut row) = self.compaction(partition)? {
                row.removed_bytes = row.removed_bytes.saturating_sub(bytes);
                batch.insert(Space::Rows, &CompactionRow::key(partition), &row.to_bytes());
            }
        }
        self.commit(batch, &mut written)
    }

    /// Puts index entries in the place of others, and a row that goes with them.
    pub(super) fn replace_index(
        &self,
        gone: &[(Vec<u8>, IndexEntry)],
        put: &[(Vec<u8>, IndexEntry)],
        (row_key, row): (Vec<u8>, Vec<u8>),
    ) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        let mut changes = IndexChanges::new();
        for (key, entry) in gone {
            written.uses.take(entry.place);
            changes.insert(key.clone(), None);
        }
        for (key, entry) in put {
            written.uses.add(entry.place);
            changes.insert(key.clone(), Some(entry.clone()));
        }
        self.edit_index(changes, &mut batch)?;
        batch.insert(Space::Rows, &row_key, &row);
        self.commit(batch, &mut written)
    }

    /// What compaction knows of a partition, as of now.
    pub fn compaction(&self, partition: PartitionId) -> Result<Option<CompactionRow>, StoreError> {
        let key = CompactionRow::key(partition);
        self.read(Space::Rows, &key)?.map(|row| CompactionRow::read(&key, &row)).transpose()
    }

    /// The file that compaction has made, or is about to make, and has not laid over the index to its end.
    pub fn laying_over(&self) -> Result<Option<SegmentNumber>, StoreError> {
        let key = [kind::LAYING_OVER];
        let file = self.read(Space::Rows, &key)?.map(|row| SegmentNumber::from_bytes(&row)).transpose();
        file.map_err(|source| StoreError::damaged(&key, source))
    }

    /// Says which file that is. It must be durable before the file is there: so that a file which is there, and was not laid
    /// over to its end, is known.
    pub fn set_laying_over(&self, file: Option<SegmentNumber>) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        match file {
            Some(file) => batch.insert(Space::Rows, &[kind::LAYING_OVER], &file.to_bytes()),
            None => batch.remove(Space::Rows, &[kind::LAYING_OVER]),
        }
        self.commit(batch, &mut written)
    }

    /// Says what compaction knows of a partition; none if that is gone.
    pub fn set_compaction(
        &self,
        partition: PartitionId,
        row: Option<&CompactionRow>,
    ) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        let key = CompactionRow::key(partition);
        match row {
            Some(row) => batch.insert(Space::Rows, &key, &row.to_bytes()),
            None => batch.remove(Space::Rows, &key),
        }
        self.commit(batch, &mut written)
    }

    /// How the wall clock was last found to stand against served time.
    pub fn wall_clock(&self) -> Result<Option<WallClockRow>, StoreError> {
        let key = [kind::WALL_CLOCK];
        let row = self.read(Space::Rows, &key)?;
        row.map(|row| WallClockRow::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source)))
            .transpose()
    }

    /// Notes how the wall clock stands against served time.
    pub fn set_wall_clock(&self, row: &WallClockRow) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        batch.insert(Space::Rows, &[kind::WALL_CLOCK], &row.to_bytes());
        self.commit(batch, &mut written)
    }

    /// Lets index entries point to where their batches have been moved: (entry's key, entry, new place).
    pub fn move_index(&self, moves: Vec<(Vec<u8>, IndexEntry, Place)>) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        let mut changes = IndexChanges::new();
        for (key, entry, place) in moves {
            written.uses.take(entry.place);
            written.uses.add(place);
            changes.insert(key, Some(IndexEntry { place, ..entry }));
        }
        self.edit_index(changes, &mut batch)?;
        self.commit(batch, &mut written)
    }

    /// Puts rows as they are, and index entries: for rows that are made anew.
    pub fn put_raw<'r>(
        &self,
        rows: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<(), StoreError> {
        let mut batch = self.tables.batch();
        let mut written = lock(&self.written);
        let mut changes = IndexChanges::new();
        for (key, row) in rows {
            match space_of(key) {
                Space::Rows => batch.insert(Space::Rows, key, row),
                Space::Index => {
                    let entry = read_entry(key, row)?;
                    written.uses.add(entry.place);
                    changes.insert(key.to_vec(), Some(entry));
                }
            }
        }
        self.edit_index(changes, &mut batch)?;
        self.commit(batch, &mut written)
    }

    /// Changes index entries in the pages they lie in. Whoever changes the index holds the lock of what is written.
    fn edit_index(&self, changes: IndexChanges, batch: &mut Batch) -> Result<(), StoreError> {
        let snapshot = self.tables.snapshot();
        let page_at = |from: &[u8], end: &[u8]| self.first_page(&snapshot, from, end);
        pages::edit(changes, page_at, |key, page| match page {
            Some(page) => batch.insert(Space::Index, key, page),
            None => batch.remove(Space::Index, key),
        })
    }

    /// The first page with a key from `from` up to, but not including, `end`.
    fn first_page(
        &self,
        snapshot: &Snapshot,
        from: &[u8],
        end: &[u8],
    ) -> Result<Option<(Vec<u8>, Bytes)>, StoreError> {
        self.reads.one();
        self.suspicion.watch(|| {
            let page = snapshot.range(Space::Index, from, Bound::Excluded(end)).next();
            page.transpose().map_err(|error| self.suspicion.of(error))
        })
    }

    /// Whether the first of these entries in each partition are behind all that are there.
    fn is_behind_all(&self, appended: &[(&[u8], IndexEntry)]) -> Result<bool, StoreError> {
        let snapshot = self.tables.snapshot();
        for run in appended.chunk_by(|(a, _), (b, _)| pages::prefix(a) == pages::prefix(b)) {
            if let Some((key, _)) = run.first()
                && self.first_page(&snapshot, key, &pages::partition_end(key))?.is_some()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn commit(&self, mut batch: Batch, written: &mut Written) -> Result<(), StoreError> {
        for (segment, used) in written.uses.changed() {
            let key = SegmentUses::key(segment);
            match used {
                Some(used) => batch.insert(Space::Rows, &key, &used.to_bytes()),
                None => batch.remove(Space::Rows, &key),
            }
        }
        let number = written.batch + 1;
        for space in Space::ALL {
            Stamps::put(&mut batch, space, number);
        }
        self.suspicion.watch(|| batch.commit().map_err(|error| self.refused(error)))?;
        written.batch = number;
        self.note_rewriting(written);
        Ok(())
    }

    /// Whether the store is writing tables. It takes a lock that every read needs for as long as it takes to put them into
    /// use, which is several syncs. Cheap, and never waits.
    #[must_use]
    pub fn is_rewriting(&self) -> bool {
        self.rewriting.load(Ordering::Relaxed) || self.tables.is_merging()
    }

    /// Looks whether the store is writing tables. Waits for as long as a read would.
    pub fn look_for_rewriting(&self) {
        self.note_rewriting(&lock(&self.written));
    }

    /// Under the lock of what is written, so that nobody overwrites a newer finding.
    fn note_rewriting(&self, _written: &Written) {
        self.rewriting.store(self.tables.is_flushing(), Ordering::Relaxed);
    }

    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.reads.one();
        self.suspicion.watch(|| self.tables.get(space, key).map_err(|error| self.suspicion.of(error)))
    }

    /// Says how far the log is in rows that were made anew, and makes them durable.
    pub fn made_anew(&self, applied: Applied) -> Result<(), StoreError> {
        self.apply([], applied)?;
        self.persist()
    }

    /// What is pointed to in each segment; a segment that is not listed is dead as far as the rows applied go.
    #[must_use]
    pub fn segment_uses(&self) -> BTreeMap<SegmentNumber, SegmentUse> {
        lock(&self.written).uses.all()
    }

    /// The index entry with this key, as of now.
    pub fn index_entry(&self, key: &[u8]) -> Result<Option<IndexEntry>, StoreError> {
        let end = pages::partition_end(key);
        let Some((page_key, page)) = self.first_page(&self.tables.snapshot(), key, &end)? else {
            return Ok(None);
        };
        let mut page = Page::new(page_key, page);
        page.begin_at(key)?;
        let found = page.next()?.filter(|(found, _)| found == key);
        Ok(found.map(|(_, entry)| entry))
    }

    /// Makes everything applied so far durable: a checkpoint.
    pub fn persist(&self) -> Result<(), StoreError> {
        let applied = self.applied()?;
        self.flush(Flush::Durably)?;
        let mut persisted = lock(&self.persisted);
        if applied.checkpoint.block > persisted.checkpoint.block {
            *persisted = applied;
        }
        Ok(())
    }

    fn flush(&self, how: Flush) -> Result<(), StoreError> {
        self.suspicion.watch(|| self.tables.flush(how).map_err(|error| self.refused(error)))
    }

    /// Looks whether the store still takes anything: after a task of its own has failed it does not, and nobody else would
    /// notice before the next change. Cheap, and waits for no longer than a change of rows takes to be written.
    pub fn check(&self) -> Result<(), StoreError> {
        self.flush(Flush::Buffers)
    }

    /// Why a change was refused. Once a task of its own has failed, fjall does not say with what; if it was damage, it shows
    /// when the tables are read as that task reads them, from end to end and past the cache.
    fn refused(&self, error: fjall::Error) -> StoreError {
        match self.suspicion.of(error) {
            refuses @ StoreError::Refuses { .. } => {
                let read = self.suspicion.watch(|| {
                    let mut read = Space::ALL.into_iter().map(|space| self.tables.read_tables(space));
                    read.try_for_each(|read| read.map_err(|error| self.suspicion.of(error)))
                });
                read.err().filter(StoreError::is_damage).unwrap_or(refuses)
            }
            error => error,
        }
    }

    /// How far the rows are known to be durable: the last completed checkpoint.
    #[must_use]
    pub fn persisted(&self) -> Applied {
        *lock(&self.persisted)
    }

    /// Counts the rows that are read from it, by whoever reads them, from its opening on.
    #[must_use]
    pub fn reads(&self) -> Arc<Counter> {
        Arc::clone(&self.reads)
    }

    /// How large it is.
    pub fn sizes(&self) -> Result<StoreSizes, StoreError> {
        self.tables.sizes().map_err(|error| self.suspicion.of(error))
    }

    /// The rows as they are, with what they say of how far the log is in them.
    pub fn view_now(&self) -> Result<ReadView, StoreError> {
        let view = self.view(BlockNumber::ZERO);
        let applied = view.applied()?;
        Ok(view.durable_to(applied.checkpoint.block))
    }

    /// The rows as they are, for readers. Call it where nothing is being applied, or use [`Database::view_now`].
    #[must_use]
    pub fn view(&self, applied: BlockNumber) -> ReadView {
        let reading = Reading { suspicion: self.suspicion.clone(), reads: Arc::clone(&self.reads) };
        ReadView::new(self.tables.snapshot(), reading, applied)
    }

    /// One row, as of now.
    pub fn look(&self, key: &RowKey) -> Result<Option<RowValue>, StoreError> {
        let Some(bytes) = encode_key(key) else { return Ok(None) };
        match self.read(Space::Rows, &bytes)? {
            Some(row) => {
                RowValue::decode(key, &row).map(Some).map_err(|source| StoreError::damaged(&bytes, source))
            }
            None => Ok(None),
        }
    }
}

fn read_entry(key: &[u8], row: &[u8]) -> Result<IndexEntry, StoreError> {
    IndexEntry::from_bytes(row).map_err(|source| StoreError::damaged(key, source))
}

/// What is locked is whole after a panic: it is written in one step, or the process ends.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
