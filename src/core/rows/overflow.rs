//! What has no room in a row that is written anew with each change: the open transactions of a partition beyond the first
//! few, and the partitions of a transaction beyond the first few (`spec/rows.md`, "Rows that stay small").

use super::ProducerKey;
use crate::codec;
use crate::types::*;
use std::collections::BTreeSet;

/// The open transactions with records in a partition for which its row has no room, as a list in the order of their first
/// records. There is no such row while the list is empty.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenQueueRow {
    /// Whose transaction is the oldest in the list.
    pub oldest: ProducerId,
    /// The offset of its first record here.
    pub first: Offset,
    /// Whose transaction is the newest in the list.
    pub newest: ProducerId,
    /// How many there are.
    pub length: u32,
}
codec!(OpenQueueRow { oldest, first, newest, length });

/// A transaction in that list. A producer has one at most in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedRow {
    /// The offset of its first record here.
    pub first: Offset,
    /// Which of its transactional id's transactions it is.
    pub number: TxnNumber,
    /// Whose transaction is the next older one in the list.
    pub before: Option<ProducerId>,
    /// Whose transaction is the next newer one in the list.
    pub after: Option<ProducerId>,
}
codec!(QueuedRow { first, number, before, after });

impl OpenQueueRow {
    /// Where the newest one is found.
    #[must_use]
    pub fn newest(&self, partition: PartitionId) -> ProducerKey {
        ProducerKey { partition, producer: self.newest }
    }
}

impl QueuedRow {
    /// Where its neighbours in the list are found.
    pub fn neighbours(&self, partition: PartitionId) -> impl Iterator<Item = ProducerKey> + use<> {
        [self.before, self.after]
            .into_iter()
            .flatten()
            .map(move |producer| ProducerKey { partition, producer })
    }
}

/// How many rows the partitions of one transaction are spread over. It is part of the rows' format.
const BUCKETS: u64 = 64;

/// Some of the partitions of a transaction are found by its transactional id, and by what the partitions have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnrolledKey {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// Which of the rows, below 64.
    pub bucket: u8,
}

impl EnrolledKey {
    /// Where a partition is, if the transaction's row has no room for it. Which row that is, is part of the rows' format.
    #[must_use]
    pub fn of(transactional_id: &TransactionalId, partition: PartitionId) -> EnrolledKey {
        let topic = partition.topic.0.as_u64_pair().1;
        let index = u64::try_from(partition.index.0).unwrap_or(0);
        let bucket = u8::try_from(topic.wrapping_add(index) % BUCKETS).unwrap_or(0);
        EnrolledKey { transactional_id: transactional_id.clone(), bucket }
    }
}

/// The partitions of an open transaction for which its row has no room: those of one bucket.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EnrolledRow {
    /// They will get a marker like those in the transaction's row.
    pub partitions: BTreeSet<PartitionId>,
}
codec!(EnrolledRow { partitions });

/// That an open transaction has partitions for which its row has no room.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MoreEnrolledRow {
    /// How many.
    pub partitions: u32,
    /// In which rows they are: a bit for each bucket.
    pub buckets: u64,
}
codec!(MoreEnrolledRow { partitions, buckets });

impl MoreEnrolledRow {
    /// Where they are.
    pub fn keys(&self, id: &TransactionalId) -> impl Iterator<Item = EnrolledKey> + use<> {
        let (buckets, id) = (self.buckets, id.clone());
        (0..u8::MAX)
            .take_while(|bucket| u64::from(*bucket) < BUCKETS)
            .filter(move |bucket| buckets & (1 << bucket) != 0)
            .map(move |bucket| EnrolledKey { transactional_id: id.clone(), bucket })
    }

    /// One more, in this row.
    pub fn add(&mut self, key: &EnrolledKey) {
        self.partitions = self.partitions.saturating_add(1);
        self.buckets |= 1 << (u64::from(key.bucket) % BUCKETS);
    }
}
