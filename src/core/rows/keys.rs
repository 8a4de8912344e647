//! The rows of idempotency keys (`spec/transactions.md`, K1 to K7).

use super::{IdleSpan, Row};
use crate::codec;
use crate::core::draft::{Draft, Need};
use crate::types::*;

/// A key of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicKey {
    /// The topic: all its partitions share its keys.
    pub topic: TopicId,
    /// The key.
    pub key: IdempotencyKey,
}
codec!(TopicKey { topic, key });

/// A transaction by what is never used for another one: its transactional id may be forgotten and begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyTransaction {
    /// Under which producer id it ran.
    pub producer: ProducerId,
    /// Its number.
    pub number: TxnNumber,
}
codec!(KeyTransaction { producer, number });

/// A key that has been taken. If a transaction took it, that decides what it is: see [`KeyStanding`].
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRow {
    /// The partition of the record that bears it.
    pub partition: PartitionIndex,
    /// The record's offset.
    pub offset: Offset,
    /// The end of its window: from then on it is free.
    pub until: ServedTime,
    /// The transaction that took it.
    pub transaction: Option<KeyTransaction>,
}
codec!(KeyRow { partition, offset, until, transaction });

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStanding {
    /// It can be taken.
    Free,
    /// A record bears it that is not, and will not be, undone.
    Accepted,
    /// The outcome of the transaction that took it is not decided.
    Held(KeyTransaction),
}

impl KeyRow {
    /// The rows that say where the key stands, beside its own.
    #[must_use]
    pub fn judged_by(&self, topic: TopicId) -> Option<[super::RowKey; 2]> {
        let transaction = self.transaction?;
        Some([FreedKeysRow::key(&transaction), super::ProducerRow::key(&self.producer(topic, transaction))])
    }

    fn producer(&self, topic: TopicId, transaction: KeyTransaction) -> super::ProducerKey {
        let partition = PartitionId::new(topic, self.partition);
        super::ProducerKey { partition, producer: transaction.producer }
    }

    /// Where the key stands at `now`.
    pub fn standing(&self, rows: &Draft<'_>, topic: TopicId, now: ServedTime) -> Result<KeyStanding, Need> {
        if self.until <= now {
            return Ok(KeyStanding::Free);
        }
        let Some(transaction) = self.transaction else { return Ok(KeyStanding::Accepted) };
        if rows.get::<FreedKeysRow>(&transaction)?.is_some() {
            return Ok(KeyStanding::Free);
        }
        let producer = rows.get::<super::ProducerRow>(&self.producer(topic, transaction))?;
        let open = producer.and_then(|row| row.open).is_some_and(|(number, _)| number == transaction.number);
        Ok(if open { KeyStanding::Held(transaction) } else { KeyStanding::Accepted })
    }
}

/// A key by the span in which its window ends, so that what is over is found without looking at the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyEndKey {
    /// When.
    pub span: IdleSpan,
    /// Which.
    pub key: TopicKey,
}

/// The key says it all.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyEndRow {}
codec!(KeyEndRow {});

/// The keys that a transaction took are free: it was aborted. There is no such row after a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct FreedKeysRow {
    /// The last end of a window among its keys: from then on nothing refers to it.
    pub until: ServedTime,
}
codec!(FreedKeysRow { until });

/// A transaction whose keys were freed, by the span in which the last window among them ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FreedKeysEndKey {
    /// When.
    pub span: IdleSpan,
    /// Which.
    pub transaction: KeyTransaction,
}

/// The key says it all.
#[derive(Clone, Debug, PartialEq)]
pub struct FreedKeysEndRow {}
codec!(FreedKeysEndRow {});

/// The open transaction of a transactional id, where it has taken keys.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyHolderRow {
    /// Which transaction.
    pub transaction: KeyTransaction,
    /// The last end of a window among its keys.
    pub until: ServedTime,
}
codec!(KeyHolderRow { transaction, until });
