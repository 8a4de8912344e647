//! The keys of rows, as bytes that sort as the rows are read: a kind, then the fields, numbers big-endian, texts behind
//! their length. Kinds are never reused.

use super::pages::INDEX_KEY_BYTES;
use crate::core::{
    AbortedKey, EnrolledKey, FreedKeysEndKey, GroupOffsetKey, IdleProducerKey, IdleSpan, KeyEndKey,
    KeyTransaction, MemberKey, OutcomeKey, RowKey, Timer, TopicKey,
};
use crate::types::*;
use bytes::{BufMut, Bytes};

/// What kind of row a key belongs to: its first byte.
pub(super) mod kind {
    pub const APPLIED: u8 = 0;
    pub const CLUSTER: u8 = 1;
    pub const PRODUCER_IDS: u8 = 2;
    pub const TOPIC_NAME: u8 = 3;
    pub const TOPIC: u8 = 4;
    pub const PARTITION: u8 = 5;
    pub const OPEN_TRANSACTIONS: u8 = 6;
    pub const PRODUCER: u8 = 7;
    pub const ABORTED: u8 = 8;
    pub const TRANSACTION: u8 = 9;
    pub const GROUP_OFFSET: u8 = 10;
    pub const PENDING_OFFSET: u8 = 11;
    pub const INDEX: u8 = 12;
    pub const DEADLINE: u8 = 13;
    pub const PRODUCER_OWNER: u8 = 60;
    pub const IDLE_TRANSACTIONAL_ID: u8 = 61;
    pub const IDLE_PRODUCER: u8 = 62;
    pub const OUTCOME: u8 = 63;
    pub const SEGMENT: u8 = 48;
    pub const STAMP: u8 = 49;
    pub const GROUP: u8 = 80;
    pub const MEMBERS: u8 = 81;
    pub const RESTORED: u8 = 110;
    pub const LEADER_EPOCHS: u8 = 111;
    pub const COMPACTION: u8 = 100;
    pub const LAYING_OVER: u8 = 101;
    pub const WALL_CLOCK: u8 = 102;
    pub const IDEMPOTENCY_KEY: u8 = 120;
    pub const KEY_END: u8 = 121;
    pub const FREED_KEYS: u8 = 122;
    pub const FREED_KEYS_END: u8 = 123;
    pub const KEY_HOLDER: u8 = 124;
    pub const OPEN_QUEUE: u8 = 140;
    pub const QUEUED: u8 = 141;
    pub const MORE_ENROLLED: u8 = 142;
    pub const ENROLLED: u8 = 143;
    pub const CONSUMER_GROUP: u8 = 130;
    pub const CONSUMERS: u8 = 131;
    pub const CONSUMER: u8 = 132;
    pub const PATTERNS: u8 = 133;
}

/// Whether a row speaks of places, or of this machine's clock, and not of state: then it is no part of a snapshot.
pub(super) fn is_of_places(key: &[u8]) -> bool {
    const OF_PLACES: [u8; 6] =
        [kind::APPLIED, kind::SEGMENT, kind::STAMP, kind::COMPACTION, kind::LAYING_OVER, kind::WALL_CLOCK];
    key.first().is_some_and(|kind| OF_PLACES.contains(kind))
}

/// A key under construction, alone or behind other bytes.
pub(super) struct KeyBytes<B = Vec<u8>>(B);

/// Most keys are no longer.
const USUAL_BYTES: usize = 48;

impl KeyBytes {
    pub(super) fn new(kind: u8) -> KeyBytes {
        KeyBytes::begin(Vec::with_capacity(USUAL_BYTES), kind)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    /// The first key behind this one.
    pub(super) fn behind(self) -> Vec<u8> {
        let mut key = self.done();
        key.push(0);
        key
    }
}

impl<B: BufMut> KeyBytes<B> {
    fn begin(mut bytes: B, kind: u8) -> KeyBytes<B> {
        bytes.put_u8(kind);
        KeyBytes(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> KeyBytes<B> {
        self.0.put_slice(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> KeyBytes<B> {
        self.bytes(text.as_bytes())
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> KeyBytes<B> {
        // Texts in keys are bounded far below 64 KiB (`core::limits`, topic names).
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.put(&length.to_be_bytes()).put(bytes)
    }

    pub(super) fn topic_key(self, key: &TopicKey) -> KeyBytes<B> {
        self.topic(key.topic).bytes(key.key.as_bytes())
    }

    pub(super) fn key_transaction(self, transaction: KeyTransaction) -> KeyBytes<B> {
        self.number(transaction.producer.0).unsigned(transaction.number.0)
    }

    pub(super) fn topic(self, topic: TopicId) -> KeyBytes<B> {
        self.put(topic.0.as_bytes())
    }

    pub(super) fn partition(self, partition: PartitionId) -> KeyBytes<B> {
        self.topic(partition.topic).put(&partition.index.0.to_be_bytes())
    }

    /// A number that is never negative: offsets, ids.
    pub(super) fn number(self, number: i64) -> KeyBytes<B> {
        self.put(&number.to_be_bytes())
    }

    /// A number that is not signed: spans of time, numbers of transactions.
    pub(super) fn unsigned(self, number: u64) -> KeyBytes<B> {
        self.put(&number.to_be_bytes())
    }

    /// One of few.
    pub(super) fn byte(self, byte: u8) -> KeyBytes<B> {
        self.put(&[byte])
    }

    pub(super) fn group_offset(self, key: &GroupOffsetKey) -> KeyBytes<B> {
        self.text(key.group.as_str()).partition(key.partition)
    }
}

/// The bytes of a row's key; none for a volatile row, which is never stored.
#[must_use]
pub fn encode_key(key: &RowKey) -> Option<Vec<u8>> {
    put_key(key, KeyBytes::new).map(KeyBytes::done)
}

/// Appends the bytes of a row's key; says whether there are any.
pub(super) fn append_key(key: &RowKey, bytes: &mut Vec<u8>) -> bool {
    put_key(key, |kind| KeyBytes::begin(bytes, kind)).is_some()
}

fn put_key<B: BufMut>(key: &RowKey, begin: impl FnOnce(u8) -> KeyBytes<B>) -> Option<KeyBytes<B>> {
    Some(match key {
        RowKey::Cluster(()) => begin(kind::CLUSTER),
        RowKey::Restored(()) => begin(kind::RESTORED),
        RowKey::LeaderEpochs(partition) => begin(kind::LEADER_EPOCHS).partition(*partition),
        RowKey::ProducerIds(()) => begin(kind::PRODUCER_IDS),
        RowKey::TopicName(name) => begin(kind::TOPIC_NAME).text(name.as_str()),
        RowKey::Topic(id) => begin(kind::TOPIC).topic(*id),
        RowKey::Partition(partition) => begin(kind::PARTITION).partition(*partition),
        RowKey::OpenTransactions(partition) => begin(kind::OPEN_TRANSACTIONS).partition(*partition),
        RowKey::Producer(key) => begin(kind::PRODUCER).partition(key.partition).number(key.producer.0),
        RowKey::Aborted(AbortedKey { partition, producer, marker }) => {
            begin(kind::ABORTED).partition(*partition).number(producer.0).number(marker.0)
        }
        RowKey::Transaction(id) => begin(kind::TRANSACTION).text(id.as_str()),
        RowKey::Deadline(Timer::Transaction(id)) => begin(kind::DEADLINE).text(id.as_str()),
        RowKey::GroupOffset(key) => begin(kind::GROUP_OFFSET).group_offset(key),
        RowKey::PendingOffset(key) => {
            begin(kind::PENDING_OFFSET).group_offset(&key.offset).number(key.producer.0)
        }
        RowKey::Group(group) => begin(kind::GROUP).text(group.as_str()),
        RowKey::Members(group) => begin(kind::MEMBERS).text(group.as_str()),
        RowKey::ConsumerGroup(group) => begin(kind::CONSUMER_GROUP).text(group.as_str()),
        RowKey::Consumers(group) => begin(kind::CONSUMERS).text(group.as_str()),
        RowKey::Consumer(MemberKey { group, member }) => {
            begin(kind::CONSUMER).text(group.as_str()).text(member.as_str())
        }
        RowKey::Patterns(group) => begin(kind::PATTERNS).text(group.as_str()),
        RowKey::IdleTransactionalId(key) => {
            begin(kind::IDLE_TRANSACTIONAL_ID).unsigned(key.span.0).text(key.transactional_id.as_str())
        }
        RowKey::IdleProducer(IdleProducerKey { span, producer }) => begin(kind::IDLE_PRODUCER)
            .unsigned(span.0)
            .partition(producer.partition)
            .number(producer.producer.0),
        RowKey::Outcome(OutcomeKey { transactional_id, number }) => {
            begin(kind::OUTCOME).text(transactional_id.as_str()).unsigned(number.0)
        }
        RowKey::IdempotencyKey(key) => begin(kind::IDEMPOTENCY_KEY).topic_key(key),
        RowKey::KeyEnd(KeyEndKey { span, key }) => begin(kind::KEY_END).unsigned(span.0).topic_key(key),
        RowKey::FreedKeys(transaction) => begin(kind::FREED_KEYS).key_transaction(*transaction),
        RowKey::FreedKeysEnd(FreedKeysEndKey { span, transaction }) => {
            begin(kind::FREED_KEYS_END).unsigned(span.0).key_transaction(*transaction)
        }
        RowKey::KeyHolder(id) => begin(kind::KEY_HOLDER).text(id.as_str()),
        RowKey::OpenQueue(partition) => begin(kind::OPEN_QUEUE).partition(*partition),
        RowKey::Queued(key) => begin(kind::QUEUED).partition(key.partition).number(key.producer.0),
        RowKey::MoreEnrolled(id) => begin(kind::MORE_ENROLLED).text(id.as_str()),
        RowKey::Enrolled(EnrolledKey { transactional_id, bucket }) => {
            begin(kind::ENROLLED).text(transactional_id.as_str()).byte(*bucket)
        }
        RowKey::ProducerOwner(id) => begin(kind::PRODUCER_OWNER).number(id.0),
        RowKey::NextProducerId(())
        | RowKey::Rebalance(_)
        | RowKey::Sessions(())
        | RowKey::Coordinator(_)
        | RowKey::TopicsVersion(())
        | RowKey::TopicsSeen(_)
        | RowKey::Deadline(Timer::Group(_) | Timer::Member(_) | Timer::Revocation(_)) => return None,
    })
}

/// The beginning of the keys of what was last heard of in a span.
pub(super) fn idle(kind: u8, span: IdleSpan) -> KeyBytes {
    KeyBytes::new(kind).unsigned(span.0)
}

/// The bytes of an index entry's key: a partition and the batch's last offset, so that the first key at or after
/// (partition, offset) is the batch that holds the offset.
#[must_use]
pub fn encode_index_key(partition: PartitionId, last_offset: Offset) -> Vec<u8> {
    index_key(partition, last_offset).to_vec()
}

/// The same without memory of its own, to look for it.
pub(super) fn index_key(partition: PartitionId, last_offset: Offset) -> [u8; INDEX_KEY_BYTES] {
    let mut key = [0; INDEX_KEY_BYTES];
    KeyBytes::begin(&mut key[..], kind::INDEX).partition(partition).number(last_offset.0);
    key
}

/// Appends the bytes of an index entry's key.
pub(super) fn append_index_key(partition: PartitionId, last_offset: Offset, bytes: &mut Vec<u8>) {
    KeyBytes::begin(bytes, kind::INDEX).partition(partition).number(last_offset.0);
}

/// Reads a key's fields back.
pub(super) struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// A reader of the fields behind the kind byte.
    pub(super) fn new(key: &'a [u8]) -> Option<KeyReader<'a>> {
        key.split_first().map(|(_, fields)| KeyReader(fields))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(usize::from(length))
    }

    pub(super) fn topic_key(&mut self) -> Option<TopicKey> {
        let topic = self.topic()?;
        let key = IdempotencyKey::new(Bytes::copy_from_slice(self.bytes()?))?;
        Some(TopicKey { topic, key })
    }

    pub(super) fn key_transaction(&mut self) -> Option<KeyTransaction> {
        Some(KeyTransaction { producer: ProducerId(self.number()?), number: TxnNumber(self.unsigned()?) })
    }

    pub(super) fn topic(&mut self) -> Option<TopicId> {
        uuid::Uuid::from_slice(self.take(16)?).ok().map(TopicId)
    }

    pub(super) fn partition(&mut self) -> Option<PartitionId> {
        let topic = self.topic()?;
        Some(PartitionId::new(topic, PartitionIndex(i32::from_be_bytes(self.take(4)?.try_into().ok()?))))
    }

    pub(super) fn count(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn number(&mut self) -> Option<i64> {
        self.take(8)?.try_into().ok().map(i64::from_be_bytes)
    }

    pub(super) fn unsigned(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }
}
