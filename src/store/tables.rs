//! What the row store is made of: two keyspaces, batches that change both or nothing, and snapshots. That is fjall; and in
//! tests also a model of what fjall promises (`model.rs`), behind the same calls.

use super::database::{StoreLimits, StoreSizes};
#[cfg(test)]
use super::model::{Model, ModelBatch, ModelIter, ModelSnapshot};
use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::PartitioningPolicy;
use fjall::{AbstractTree as _, CompressionType, KeyspaceCreateOptions, PersistMode, Readable as _};
use lsm_tree::{Guard as _, IterGuardImpl};
use std::fs::File;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    /// The state.
    Rows,
    /// From (partition, offset) to a place in the log.
    Index,
}

/// How far batches are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// To the system, which does not lose them when the process ends.
    Buffers,
    /// To the disk.
    Durably,
}

impl Space {
    pub(super) const ALL: [Space; 2] = [Space::Rows, Space::Index];
}

/// The keyspaces. Cheap to clone: all clones are one store.
#[derive(Clone)]
pub(super) enum Tables {
    Fjall(Keyspaces),
    #[cfg(test)]
    Model(Model),
}

#[derive(Clone)]
pub(super) struct Keyspaces {
    fjall: fjall::Database,
    rows: fjall::Keyspace,
    index: fjall::Keyspace,
    memtable_bytes: u64,
}

/// Changes that are made together.
pub(super) enum Batch {
    Fjall(Keyspaces, fjall::OwnedWriteBatch),
    #[cfg(test)]
    Model(ModelBatch),
}

/// The keyspaces as of one moment.
#[derive(Clone)]
pub(super) enum Snapshot {
    Fjall(Keyspaces, fjall::Snapshot),
    #[cfg(test)]
    Model(ModelSnapshot),
}

/// Keys and rows, in the order of the keys.
pub(super) enum Entries {
    Fjall(fjall::Iter),
    Lasting(Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>),
    #[cfg(test)]
    Model(ModelIter),
}

/// Full memtables of a keyspace that wait to be written out, at most: with the one that is written to, a keyspace has three
/// in memory. fjall has a limit of its own, 4, at which it waits without looking whether anybody writes them out.
const SEALED_MAX: usize = 2;

/// How often it is looked whether one has been written out, which fjall tells nobody. That takes tenths of a second each.
const SEALED_LOOK: Duration = Duration::from_millis(5);

/// Bytes of a table, about. fjall merges one table with those below it that have keys of its range, a dozen or so, and
/// meanwhile writes no memtable out: so this is how long that takes. Smaller ones would be more heads to read at a start.
const TABLE_BYTES: u64 = 16 << 20;

/// How a keyspace is laid out. fjall notes it down when it makes one: those that earlier programs have made stay as they are.
///
/// A row is found through a part of a table's filter and a part of its index, of 4 KiB each like what holds the row. fjall's
/// own choice is to have filters and indices whole in all levels but the lowest ones; what is not in the cache is read whole,
/// megabytes for one row once there are many, or it is in memory for as long as the table is.
fn layout(limits: StoreLimits) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(limits.memtable_bytes)
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .compaction_strategy(Arc::new(merging()))
}

fn merging() -> Leveled {
    Leveled::default().with_table_target_size(TABLE_BYTES)
}

impl Keyspaces {
    /// Has memtables that are full written out, and lets whoever writes wait for it when several are full. fjall would seal
    /// them itself, but on the thread on which it also merges tables: as long as that took, the memtable grew with all that
    /// was written, and another request to seal it was queued with each batch, up to where fjall's thread would have waited
    /// for itself.
    fn seal_full(&self) -> fjall::Result<()> {
        for space in [&self.rows, &self.index] {
            if space.tree.active_memtable().size() <= self.memtable_bytes {
                continue;
            }
            while space.sealed_memtable_count() >= SEALED_MAX {
                // It says so if fjall's thread has ended, and nothing will be written out any more.
                self.fjall.persist(PersistMode::Buffer)?;
                thread::sleep(SEALED_LOOK);
            }
            space.rotate_memtable()?;
        }
        Ok(())
    }

    fn space(&self, space: Space) -> &fjall::Keyspace {
        match space {
            Space::Rows => &self.rows,
            Space::Index => &self.index,
        }
    }
}

impl Tables {
    /// Opens fjall in `path`, or makes it.
    pub(super) fn open(path: &Path, limits: StoreLimits) -> fjall::Result<Tables> {
        let fjall = fjall::Database::builder(path)
            .cache_size(limits.cache_bytes)
            .max_journaling_size(limits.journal_bytes)
            .journal_compression(CompressionType::None)
            .worker_threads(1)
            .open()?;
        let rows = fjall.keyspace("rows", || layout(limits))?;
        let index = fjall.keyspace("index", || layout(limits))?;
        // fjall makes a directory for each and does not sync its name. Lost in a power cut, it would be made anew
        // empty, and later take the changes of the old one out of the journal.
        File::open(path.join("keyspaces"))?.sync_all()?;
        Ok(Tables::Fjall(Keyspaces { fjall, rows, index, memtable_bytes: limits.memtable_bytes }))
    }

    pub(super) fn batch(&self) -> Batch {
        match self {
            Tables::Fjall(spaces) => Batch::Fjall(spaces.clone(), spaces.fjall.batch()),
            #[cfg(test)]
            Tables::Model(model) => Batch::Model(model.batch()),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        match self {
            Tables::Fjall(spaces) => Snapshot::Fjall(spaces.clone(), spaces.fjall.snapshot()),
            #[cfg(test)]
            Tables::Model(model) => Snapshot::Model(model.snapshot()),
        }
    }

    /// A row, as it is now.
    pub(super) fn get(&self, space: Space, key: &[u8]) -> fjall::Result<Option<Bytes>> {
        match self {
            Tables::Fjall(spaces) => {
                Ok(spaces.space(space).get(key)?.map(|row| Bytes::copy_from_slice(&row)))
            }
            #[cfg(test)]
            Tables::Model(model) => Ok(model.snapshot().get(space, key)),
        }
    }

    /// The rows as they are now, with keys that begin thus.
    pub(super) fn prefix(&self, space: Space, prefix: &[u8]) -> Entries {
        match self {
            Tables::Fjall(spaces) => Entries::Fjall(spaces.space(space).prefix(prefix)),
            #[cfg(test)]
            Tables::Model(_) => self.snapshot().prefix(space, prefix),
        }
    }

    pub(super) fn is_empty(&self, space: Space) -> fjall::Result<bool> {
        match self {
            Tables::Fjall(spaces) => spaces.space(space).is_empty(),
            #[cfg(test)]
            Tables::Model(_) => Ok(self.snapshot().prefix(space, &[]).next().is_none()),
        }
    }

    /// Hands all batches so far on.
    pub(super) fn flush(&self, how: Flush) -> fjall::Result<()> {
        match self {
            Tables::Fjall(spaces) => spaces.fjall.persist(match how {
                Flush::Durably => PersistMode::SyncAll,
                Flush::Buffers => PersistMode::Buffer,
            }),
            #[cfg(test)]
            Tables::Model(model) => {
                if how == Flush::Durably {
                    model.persist();
                }
                Ok(())
            }
        }
    }

    /// Reads all tables from end to end and past the cache, as fjall's own tasks do.
    pub(super) fn read_tables(&self, space: Space) -> fjall::Result<()> {
        match self {
            Tables::Fjall(spaces) => {
                for table in spaces.space(space).tree.current_version().iter_tables() {
                    for row in table.scan().map_err(fjall::Error::Storage)? {
                        row.map_err(fjall::Error::Storage)?;
                    }
                }
                Ok(())
            }
            #[cfg(test)]
            Tables::Model(_) => Ok(()),
        }
    }

    /// Whether tables are being merged.
    pub(super) fn is_merging(&self) -> bool {
        match self {
            Tables::Fjall(spaces) => spaces.fjall.active_compactions() > 0,
            #[cfg(test)]
            Tables::Model(_) => false,
        }
    }

    /// Whether memtables are being written out, or about to be.
    pub(super) fn is_flushing(&self) -> bool {
        match self {
            Tables::Fjall(spaces) => [&spaces.rows, &spaces.index].into_iter().any(|space| {
                space.sealed_memtable_count() > 0
                    || space.tree.active_memtable().size() > spaces.memtable_bytes
            }),
            #[cfg(test)]
            Tables::Model(_) => false,
        }
    }

    pub(super) fn sizes(&self) -> fjall::Result<StoreSizes> {
        match self {
            Tables::Fjall(Keyspaces { fjall, rows, index, .. }) => {
                let tables_bytes = rows.disk_space() + index.disk_space();
                Ok(StoreSizes {
                    tables_bytes,
                    journal_bytes: fjall.disk_space()?.saturating_sub(tables_bytes),
                    memtables_bytes: fjall.write_buffer_size(),
                    cache_bytes: fjall.cache_size(),
                    tables_l0: (rows.l0_table_count() + index.l0_table_count()) as u64,
                    flushes_waiting: fjall.outstanding_flushes() as u64,
                })
            }
            #[cfg(test)]
            Tables::Model(_) => Ok(StoreSizes::default()),
        }
    }
}

impl Batch {
    pub(super) fn insert(&mut self, space: Space, key: &[u8], row: &[u8]) {
        match self {
            Batch::Fjall(spaces, batch) => batch.insert(spaces.space(space), key, row),
            #[cfg(test)]
            Batch::Model(batch) => batch.set(space, key, Some(row)),
        }
    }

    pub(super) fn remove(&mut self, space: Space, key: &[u8]) {
        match self {
            Batch::Fjall(spaces, batch) => batch.remove(spaces.space(space), key),
            #[cfg(test)]
            Batch::Model(batch) => batch.set(space, key, None),
        }
    }

    /// Removes what was put once, and is removed once.
    pub(super) fn remove_once(&mut self, space: Space, key: &[u8]) {
        match self {
            Batch::Fjall(spaces, batch) => batch.remove_weak(spaces.space(space), key),
            #[cfg(test)]
            Batch::Model(batch) => batch.set(space, key, None),
        }
    }

    pub(super) fn commit(self) -> fjall::Result<()> {
        match self {
            Batch::Fjall(spaces, batch) => {
                batch.commit()?;
                spaces.seal_full()
            }
            #[cfg(test)]
            Batch::Model(batch) => {
                batch.commit();
                Ok(())
            }
        }
    }
}

impl Snapshot {
    /// Which state it is: of two, the newer has the higher age.
    pub(super) fn age(&self) -> u64 {
        match self {
            Snapshot::Fjall(_, snapshot) => snapshot.seqno(),
            #[cfg(test)]
            Snapshot::Model(snapshot) => snapshot.age(),
        }
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> fjall::Result<Option<Bytes>> {
        match self {
            Snapshot::Fjall(spaces, snapshot) => {
                Ok(snapshot.get(spaces.space(space), key)?.map(|row| Bytes::copy_from_slice(&row)))
            }
            #[cfg(test)]
            Snapshot::Model(snapshot) => Ok(snapshot.get(space, key)),
        }
    }

    /// From a key up to, but not including, another one, or up to the end.
    pub(super) fn range(&self, space: Space, from: &[u8], to: Bound<&[u8]>) -> Entries {
        match self {
            Snapshot::Fjall(spaces, snapshot) => {
                let range = (Bound::Included(from.to_vec()), to.map(<[u8]>::to_vec));
                Entries::Fjall(snapshot.range(spaces.space(space), range))
            }
            #[cfg(test)]
            Snapshot::Model(snapshot) => Entries::Model(snapshot.range(space, from, to)),
        }
    }

    /// All of a keyspace, for who reads it for long. A snapshot, or what fjall itself lets one read of it, keeps every memtable
    /// that has been filled since in memory, also those that are written out. This keeps the tables and memtables of its moment,
    /// and nothing else: so the snapshot is best let go of.
    pub(super) fn lasting(&self, space: Space) -> Entries {
        match self {
            Snapshot::Fjall(spaces, snapshot) => {
                Entries::Lasting(spaces.space(space).tree.iter(snapshot.seqno(), None))
            }
            #[cfg(test)]
            Snapshot::Model(snapshot) => Entries::Model(snapshot.range(space, &[], Bound::Unbounded)),
        }
    }

    pub(super) fn prefix(&self, space: Space, prefix: &[u8]) -> Entries {
        match self {
            Snapshot::Fjall(spaces, snapshot) => Entries::Fjall(snapshot.prefix(spaces.space(space), prefix)),
            #[cfg(test)]
            Snapshot::Model(snapshot) => Entries::Model(snapshot.prefix(space, prefix)),
        }
    }
}

impl Iterator for Entries {
    type Item = fjall::Result<(Vec<u8>, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Entries::Fjall(entries) => {
                let entry = entries.next()?.into_inner();
                Some(entry.map(|(key, row)| (key.to_vec(), Bytes::copy_from_slice(&row))))
            }
            Entries::Lasting(entries) => {
                let entry = entries.next()?.into_inner().map_err(fjall::Error::Storage);
                Some(entry.map(|(key, row)| (key.to_vec(), Bytes::copy_from_slice(&row))))
            }
            #[cfg(test)]
            Entries::Model(entries) => entries.next().map(Ok),
        }
    }
}

#[cfg(test)]
mod large;

#[cfg(test)]
mod tests {
    //! One suite for both: what fjall does, and what the model does, is what is promised.

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tempfile::TempDir;

    type Rows = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

    #[derive(Clone, Debug)]
    enum Step {
        /// A batch: a change of each of these keys.
        Commit(Vec<(Space, Vec<u8>, Option<Vec<u8>>)>),
        Persist,
        /// A snapshot is taken, and looked at later.
        Snapshot,
        /// All handles go, and the store is opened again.
        Reopen,
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(7), Just(254), Just(255)], 0..3)
            .prop_map(|rest| [vec![3], rest].concat())
    }

    fn step() -> impl Strategy<Value = Step> {
        let space = prop_oneof![Just(Space::Rows), Just(Space::Index)];
        let row = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
        prop_oneof![
            6 => prop::collection::vec((space, key(), row), 1..5).prop_map(Step::Commit),
            1 => Just(Step::Persist),
            2 => Just(Step::Snapshot),
            1 => Just(Step::Reopen),
        ]
    }

    fn entries(entries: Entries) -> Vec<(Vec<u8>, Vec<u8>)> {
        entries.map(|entry| entry.map(|(key, row)| (key, row.to_vec())).unwrap()).collect()
    }

    fn expected(rows: &Rows, space: Space, wanted: impl Fn(&[u8]) -> bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let of_space = rows.iter().filter(|((of, key), _)| *of == space && wanted(key));
        of_space.map(|((_, key), row)| (key.clone(), row.clone())).collect()
    }

    /// A snapshot has these rows, however one asks.
    fn look(snapshot: &Snapshot, rows: &Rows) {
        for space in Space::ALL {
            let all = expected(rows, space, |_| true);
            assert_eq!(entries(snapshot.range(space, &[], Bound::Unbounded)), all);
            for prefix in [vec![], vec![3], vec![3, 255], vec![3, 7]] {
                let beginning = expected(rows, space, |key| key.starts_with(&prefix));
                assert_eq!(entries(snapshot.prefix(space, &prefix)), beginning);
            }
            let (from, to) = (vec![3, 1], vec![3, 254, 1]);
            let between = expected(rows, space, |key| from[..] <= *key && *key < to[..]);
            assert_eq!(entries(snapshot.range(space, &from, Bound::Excluded(&to))), between);
            assert_eq!(entries(snapshot.range(space, &to, Bound::Excluded(&to))), []);
            for (key, row) in all {
                assert_eq!(snapshot.get(space, &key).unwrap().as_deref(), Some(&row[..]));
            }
            assert_eq!(snapshot.get(space, &[9]).unwrap(), None);
        }
    }

    fn conforms(steps: &[Step], open: impl Fn() -> Tables) {
        let mut tables = Some(open());
        let (mut rows, mut taken) = (Rows::new(), Vec::new());
        for step in steps {
            let store = tables.as_ref().unwrap();
            match step {
                Step::Commit(changes) => {
                    let age = store.snapshot().age();
                    let mut batch = store.batch();
                    // A key comes once in a batch: all of a batch happens at one time.
                    let changes: BTreeMap<_, _> =
                        changes.iter().map(|(space, key, row)| ((*space, key.clone()), row)).collect();
                    for ((space, key), row) in changes {
                        match row {
                            Some(row) => batch.insert(space, &key, row),
                            None => batch.remove(space, &key),
                        }
                        match row {
                            Some(row) => rows.insert((space, key), row.clone()),
                            None => rows.remove(&(space, key)),
                        };
                    }
                    batch.commit().unwrap();
                    assert!(store.snapshot().age() > age);
                }
                Step::Persist => store.flush(Flush::Durably).unwrap(),
                Step::Snapshot => taken.push((store.snapshot(), rows.clone())),
                Step::Reopen => {
                    taken.iter().for_each(|(snapshot, rows)| look(snapshot, rows));
                    taken.clear();
                    drop(tables.take());
                    tables = Some(open());
                }
            }
            look(&tables.as_ref().unwrap().snapshot(), &rows);
        }
        taken.iter().for_each(|(snapshot, rows)| look(snapshot, rows));
        let store = tables.unwrap();
        for space in Space::ALL {
            assert_eq!(store.is_empty(space).unwrap(), expected(&rows, space, |_| true).is_empty());
            assert_eq!(entries(store.prefix(space, &[3])), expected(&rows, space, |_| true));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn fjall_is_what_the_model_is(steps in prop::collection::vec(step(), 1..30)) {
            let model = Model::default();
            conforms(&steps, || Tables::Model(model.clone()));
            let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
            let limits = StoreLimits::default();
            conforms(&steps, || Tables::open(&dir.path().join("rows"), limits).unwrap());
        }

        #[test]
        fn after_a_crash_the_model_has_a_prefix_that_is_no_shorter_than_what_is_durable(
            batches in 0u64..20, durable in 0u64..20, kept in any::<prop::sample::Index>(),
        ) {
            let model = Model::default();
            let tables = Tables::Model(model.clone());
            for number in 0..batches {
                let mut batch = tables.batch();
                for space in Space::ALL {
                    batch.insert(space, &[3], &number.to_be_bytes());
                    batch.insert(space, &[4, u8::try_from(number).unwrap()], &[]);
                }
                batch.commit().unwrap();
                if number + 1 == durable {
                    tables.flush(Flush::Durably).unwrap();
                }
            }
            let durable = if durable <= batches { durable } else { 0 };
            let mut last = 0;
            model.crash(|undecided| {
                assert_eq!(undecided, batches - durable);
                last = durable + kept.index(usize::try_from(undecided).unwrap() + 1) as u64;
                last - durable
            });
            let snapshot = tables.snapshot();
            assert_eq!(model.behind(), 0);
            for space in Space::ALL {
                let newest = snapshot.get(space, &[3]).unwrap();
                let number = last.checked_sub(1).map(u64::to_be_bytes);
                assert_eq!(newest.as_deref(), number.as_ref().map(|number| &number[..]));
                assert_eq!(entries(snapshot.prefix(space, &[4])).len() as u64, last);
            }
        }
    }
}
