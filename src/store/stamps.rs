//! Every batch leaves its number in both keyspaces, and takes the number before it away. So each keyspace holds 0, for the
//! first one, and one number, the same in both; and whatever batch is lost there, from a journal or with a table, leaves
//! another one or none (`spec/rows.md`, "Nothing between").

use super::database::StoreError;
use super::keys::{KeyBytes, kind};
use super::suspicion::Suspicion;
use super::tables::{Batch, Entries, Space};
use crate::types::codec::Codec;
use std::fmt;

/// The version of the rows' format. Rows of another one are made anew (`spec/rows.md`, "Versions").
const VERSION: u16 = 3;

/// The number that the first batch leaves for ever: without it, the beginning is lost.
const FIRST: u64 = 0;

/// Numbers of batches that are looked at in a keyspace: more than two are too many.
const LOOKED_AT_MAX: usize = 3;

/// The numbers of batches in the keyspaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// In `rows`.
    pub rows: Vec<u64>,
    /// In `index`.
    pub index: Vec<u64>,
}

impl fmt::Display for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamps { rows, index } = self;
        write!(
            f,
            "the last batch is {rows:?} in its rows and {index:?} in its index, where 0 and one number should be"
        )
    }
}

impl Stamps {
    fn key(batch: u64) -> Vec<u8> {
        KeyBytes::new(kind::STAMP).unsigned(batch).done()
    }

    /// Puts a batch's number into it.
    pub(super) fn put(batch: &mut Batch, space: Space, number: u64) {
        batch.insert(space, &Stamps::key(number), &VERSION.to_bytes());
        // Each number is put once and removed once. This kind of removal goes together with what it removes when they meet
        // in a compaction, so that they do not pile up.
        if number > 1 {
            batch.remove_once(space, &Stamps::key(number - 1));
        } else {
            batch.insert(space, &Stamps::key(FIRST), &VERSION.to_bytes());
        }
    }

    /// The key that all numbers begin with.
    pub(super) fn prefix() -> [u8; 1] {
        [kind::STAMP]
    }

    /// The last batch's number, if no batch is missing; 0 in a new store.
    pub(super) fn whole(&self, is_empty: bool) -> Option<u64> {
        match (&self.rows[..], &self.index[..]) {
            ([], []) if is_empty => Some(0),
            ([FIRST, rows], [FIRST, index]) if rows == index => Some(*rows),
            _ => None,
        }
    }
}

/// The numbers that are found in a keyspace, the first few.
pub(super) fn numbers(keys: Entries, suspicion: &Suspicion) -> Result<Vec<u64>, StoreError> {
    let keys = keys.take(LOOKED_AT_MAX);
    let number = |key: &[u8]| key.get(1..).and_then(|n| n.try_into().ok()).map(u64::from_be_bytes);
    keys.map(|entry| {
        let (key, row) = entry.map_err(|error| suspicion.of(error))?;
        match u16::from_bytes(&row).map_err(|source| StoreError::damaged(&key, source))? {
            VERSION => {}
            found => return Err(StoreError::Version { found, expected: VERSION }),
        }
        number(&key).ok_or_else(|| StoreError::damaged_key(&key))
    })
    .collect()
}
