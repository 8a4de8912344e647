//! fjall, as semel uses it: two keyspaces, one writer (the applier), snapshots for readers, checkpoints now and then.

use super::keys::{encode_key, kind};
use super::view::{Layer, ReadView};
use crate::codec;
use crate::core::{RowKey, RowValue};
use crate::log::{At, Checkpoint, SegmentNumber};
use crate::types::codec::{Codec, CodecError};
use crate::types::{BlockNumber, ServedTime};
use fjall::{CompressionType, KeyspaceCreateOptions, PersistMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store failed, or holds something that is no row.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// fjall failed.
    #[error("the row store failed: {0}")]
    Fjall(#[from] fjall::Error),
    /// A row is damaged.
    #[error("the row with key {key} is damaged ({source}): stop semel and rebuild the rows from the log")]
    Damaged {
        /// The row's key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        source: CodecError,
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
    pub(super) fn damaged(key: &[u8], source: CodecError) -> StoreError {
        StoreError::Damaged { key: key.iter().map(|byte| format!("{byte:02x}")).collect(), source }
    }

    pub(super) fn damaged_key(key: &[u8]) -> StoreError {
        StoreError::damaged(key, CodecError::Invalid("a key that cannot be read"))
    }
}

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

/// How far the log is in the rows. Written in the same batch as the rows themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last block whose changes are in the rows, and where it lies.
    pub checkpoint: Checkpoint,
    /// That block's served time.
    pub served: ServedTime,
}

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
    fjall: fjall::Database,
    rows: fjall::Keyspace,
    index: fjall::Keyspace,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the store in `path`, or makes it.
    pub fn open(path: &Path, limits: StoreLimits) -> Result<Database, StoreError> {
        let open = || {
            let fjall = fjall::Database::builder(path)
                .cache_size(limits.cache_bytes)
                .max_journaling_size(limits.journal_bytes)
                .journal_compression(CompressionType::None)
                .worker_threads(1)
                .open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(limits.memtable_bytes);
            let rows = fjall.keyspace("rows", options)?;
            let index = fjall.keyspace("index", options)?;
            Ok(Database { fjall, rows, index })
        };
        open().map_err(|source| StoreError::Open { path: path.to_owned(), source })
    }

    /// How far the log is in the rows.
    pub fn applied(&self) -> Result<Applied, StoreError> {
        match self.rows.get([kind::APPLIED])? {
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
        layers: impl IntoIterator<Item = &'l Arc<Layer>>,
        applied: Applied,
    ) -> Result<(), StoreError> {
        let mut batch = self.fjall.batch();
        for layer in layers {
            for (key, row) in layer.changes() {
                let keyspace = if key.first() == Some(&kind::INDEX) { &self.index } else { &self.rows };
                match row {
                    Some(row) => batch.insert(keyspace, key, &row[..]),
                    None => batch.remove(keyspace, key),
                }
            }
        }
        batch.insert(&self.rows, [kind::APPLIED], applied.to_bytes());
        Ok(batch.commit()?)
    }

    /// Makes everything applied so far durable: a checkpoint.
    pub fn persist(&self) -> Result<(), StoreError> {
        Ok(self.fjall.persist(PersistMode::SyncAll)?)
    }

    /// The rows as they are, for readers. Call it where nothing is being applied.
    #[must_use]
    pub fn view(&self, applied: BlockNumber) -> ReadView {
        ReadView::new(self.fjall.snapshot(), self.rows.clone(), self.index.clone(), applied)
    }

    /// One row, as of now.
    pub fn look(&self, key: &RowKey) -> Result<Option<RowValue>, StoreError> {
        let Some(bytes) = encode_key(key) else { return Ok(None) };
        match self.rows.get(&bytes)? {
            Some(row) => {
                RowValue::decode(key, &row).map(Some).map_err(|source| StoreError::damaged(&bytes, source))
            }
            None => Ok(None),
        }
    }
}
