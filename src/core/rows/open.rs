//! The transactions that are open in a partition.
//!
//! They hold back its last stable offset, so they are in the order of their first offsets; those beyond what one row has room
//! for are in `overflow`.

use crate::codec;
use crate::types::*;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};

/// A transaction that has records in a partition and has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenTransaction {
    /// Whose it is.
    pub producer: ProducerId,
    /// Which of its transactional id's transactions it is.
    pub number: TxnNumber,
}
codec!(OpenTransaction { producer, number });

/// The open transactions with records in a partition, by the offset of their first record here; those that find no room
/// here are in the list of [`OpenQueueRow`](super::OpenQueueRow). At most
/// [`OPEN_TRANSACTIONS_PER_ROW_MAX`](crate::core::limits::OPEN_TRANSACTIONS_PER_ROW_MAX); more where an earlier version has put them.
#[derive(Clone, PartialEq, Default)]
pub struct OpenTransactionsRow {
    /// First offset and transaction, in the order of the offsets: a row that is copied with every batch and every marker is one
    /// piece of memory, or has one transaction.
    pub by_first_offset: SmallVec<[(Offset, OpenTransaction); 1]>,
}
codec!(OpenTransactionsRow { by_first_offset });

impl Debug for OpenTransactionsRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_first_offset: BTreeMap<_, _> = self.by_first_offset.iter().cloned().collect();
        f.debug_struct("OpenTransactionsRow").field("by_first_offset", &by_first_offset).finish()
    }
}

impl OpenTransactionsRow {
    fn position(&self, first: Offset) -> Result<usize, usize> {
        self.by_first_offset.binary_search_by_key(&first, |(first, _)| *first)
    }

    /// The transaction that begins at this offset.
    #[must_use]
    pub fn get(&self, first: Offset) -> Option<&OpenTransaction> {
        self.by_first_offset.get(self.position(first).ok()?).map(|(_, open)| open)
    }

    /// Takes one in, in the place of one that began at the same offset.
    pub fn insert(&mut self, first: Offset, open: OpenTransaction) {
        match self.position(first) {
            Ok(at) => {
                self.by_first_offset.get_mut(at).into_iter().for_each(|(_, place)| *place = open.clone())
            }
            Err(at) => self.by_first_offset.insert(at, (first, open)),
        }
    }

    /// Takes the one away that begins at this offset.
    pub fn remove(&mut self, first: Offset) {
        if let Ok(at) = self.position(first) {
            self.by_first_offset.remove(at);
        }
    }

    /// Where the oldest one begins, and whose it is.
    #[must_use]
    pub fn oldest(&self) -> Option<(Offset, ProducerId)> {
        self.by_first_offset.first().map(|(first, open)| (*first, open.producer))
    }
}
