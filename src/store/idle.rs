//! What has not been heard of for longest, and what ends next, in that order: found without looking at the rest.

use super::database::StoreError;
use super::keys::{KeyReader, idle, kind};
use super::view::ReadView;
use crate::core::{
    FreedKeysEndKey, IdleProducerKey, IdleSpan, IdleTransactionalIdKey, KeyEndKey, ProducerKey,
};
use crate::types::{ProducerId, TransactionalId};

impl ReadView {
    /// Up to `count_max` transactional ids that were last heard of before `until`, behind `from`, longest idle first.
    pub fn idle_transactional_ids(
        &self,
        from: Option<&IdleTransactionalIdKey>,
        until: IdleSpan,
        count_max: usize,
    ) -> Result<Vec<IdleTransactionalIdKey>, StoreError> {
        let begin = from.map_or_else(
            || idle(kind::IDLE_TRANSACTIONAL_ID, IdleSpan(0)).done(),
            |key| idle(kind::IDLE_TRANSACTIONAL_ID, key.span).text(key.transactional_id.as_str()).behind(),
        );
        let read = |mut key: KeyReader<'_>| {
            let span = IdleSpan(key.count()?);
            Some(IdleTransactionalIdKey {
                span,
                transactional_id: key.text().and_then(TransactionalId::new)?,
            })
        };
        self.idle(&begin, &idle(kind::IDLE_TRANSACTIONAL_ID, until).done(), count_max, read)
    }

    /// Up to `count_max` producers of partitions that were last heard of there before `until`, behind `from`, longest idle
    /// first.
    pub fn idle_producers(
        &self,
        from: Option<&IdleProducerKey>,
        until: IdleSpan,
        count_max: usize,
    ) -> Result<Vec<IdleProducerKey>, StoreError> {
        let begin = from.map_or_else(
            || idle(kind::IDLE_PRODUCER, IdleSpan(0)).done(),
            |IdleProducerKey { span, producer }| {
                let key = idle(kind::IDLE_PRODUCER, *span).partition(producer.partition);
                key.number(producer.producer.0).behind()
            },
        );
        let read = |mut key: KeyReader<'_>| {
            let (span, partition) = (IdleSpan(key.count()?), key.partition()?);
            let producer = ProducerKey { partition, producer: ProducerId(key.number()?) };
            Some(IdleProducerKey { span, producer })
        };
        self.idle(&begin, &idle(kind::IDLE_PRODUCER, until).done(), count_max, read)
    }

    /// Up to `count_max` idempotency keys whose window ends before `until`, behind `from`, those that end first before the
    /// others.
    pub fn key_ends(
        &self,
        from: Option<&KeyEndKey>,
        until: IdleSpan,
        count_max: usize,
    ) -> Result<Vec<KeyEndKey>, StoreError> {
        let begin = from.map_or_else(
            || idle(kind::KEY_END, IdleSpan(0)).done(),
            |end| idle(kind::KEY_END, end.span).topic_key(&end.key).behind(),
        );
        let read = |mut key: KeyReader<'_>| {
            let span = IdleSpan(key.count()?);
            Some(KeyEndKey { span, key: key.topic_key()? })
        };
        self.idle(&begin, &idle(kind::KEY_END, until).done(), count_max, read)
    }

    /// The same of transactions whose keys were freed.
    pub fn freed_keys_ends(
        &self,
        from: Option<&FreedKeysEndKey>,
        until: IdleSpan,
        count_max: usize,
    ) -> Result<Vec<FreedKeysEndKey>, StoreError> {
        let begin = from.map_or_else(
            || idle(kind::FREED_KEYS_END, IdleSpan(0)).done(),
            |end| idle(kind::FREED_KEYS_END, end.span).key_transaction(end.transaction).behind(),
        );
        let read = |mut key: KeyReader<'_>| {
            let span = IdleSpan(key.count()?);
            Some(FreedKeysEndKey { span, transaction: key.key_transaction()? })
        };
        self.idle(&begin, &idle(kind::FREED_KEYS_END, until).done(), count_max, read)
    }

    fn idle<K>(
        &self,
        from: &[u8],
        until: &[u8],
        count_max: usize,
        read: impl Fn(KeyReader<'_>) -> Option<K>,
    ) -> Result<Vec<K>, StoreError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let rows = self.range(from, until).take(count_max);
        rows.map(|row| {
            let (key, _) = row?;
            KeyReader::new(&key).and_then(&read).ok_or_else(|| StoreError::damaged_key(&key))
        })
        .collect()
    }
}
