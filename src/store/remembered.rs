//! Rows that hardly ever change, and that nearly every request asks for: which topic a name stands for, how many partitions it
//! has, whether the log was restored. Views of one content share what was read of them, so that a request need not go to the
//! store's files, nor wait while these change hands.

use super::keys::kind;
use super::layer::Layer;
use crate::core::{RowKey, RowValue};
use crate::types::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two for each of as many topics as are in use at a time, mostly. When there are more, all are read anew.
const ROWS_MAX: usize = 4_096;

/// What has been read of them, by all who read views in which they are the same.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<RowKey, Option<RowValue>>>);

impl Remembered {
    fn rows(&self) -> MutexGuard<'_, HashMap<RowKey, Option<RowValue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the rows are the same after a layer as before it.
    pub(super) fn outlives(layer: &Layer) -> bool {
        ![kind::TOPIC_NAME, kind::TOPIC, kind::RESTORED].into_iter().any(|kind| layer.has(kind))
    }

    fn is_of(key: &RowKey) -> bool {
        matches!(key, RowKey::TopicName(_) | RowKey::Topic(_) | RowKey::Restored(()))
    }

    /// A row, or its absence, if it is known.
    pub(super) fn get(&self, key: &RowKey) -> Option<Option<RowValue>> {
        if Remembered::is_of(key) { self.rows().get(key).cloned() } else { None }
    }

    /// Takes note of what was read. Names that stand for nothing are not kept: clients can think of any number.
    pub(super) fn put(&self, key: &RowKey, row: Option<&RowValue>) {
        let is_kept = row.is_some() || matches!(key, RowKey::Restored(()));
        if !(Remembered::is_of(key) && is_kept) {
            return;
        }
        let mut rows = self.rows();
        if rows.len() >= ROWS_MAX {
            rows.clear();
        }
        rows.insert(key.clone(), row.cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{RestoredRow, Row as _, TopicConfig, TopicNameRow, TopicRow};
    use crate::store::{Applied, Database, LayerBuilder, ReadView, StoreLimits};
    use crate::types::{BlockNumber, TopicId, TopicName};
    use uuid::Uuid;

    fn name(text: &str) -> TopicName {
        TopicName::new(text).unwrap()
    }

    fn topic(partitions: u32) -> RowValue {
        TopicRow { name: name("t"), partitions, config: TopicConfig::new() }.into()
    }

    fn partitions(view: &ReadView, id: TopicId) -> Option<u32> {
        view.get::<TopicRow>(&id).unwrap().map(|row| row.partitions)
    }

    #[test]
    fn each_view_has_the_topics_of_its_own_block() {
        let dir = tempfile::tempdir().unwrap();
        let store = Database::open(&dir.path().join("rows"), StoreLimits::default()).unwrap();
        let id = TopicId(Uuid::from_u128(1));
        let with = |view: &ReadView, block, rows: &[(RowKey, Option<RowValue>)]| {
            let mut layer = LayerBuilder::default();
            rows.iter().for_each(|(key, row)| layer.put(key, row.as_ref()));
            view.with_layer(layer.finish(BlockNumber(block)))
        };
        let none = store.view_now().unwrap();
        assert_eq!(partitions(&none, id), None);
        let one = with(&none, 1, &[(TopicRow::key(&id), Some(topic(1)))]);
        assert_eq!((partitions(&one, id), partitions(&none, id)), (Some(1), None));
        // A block that is about something else.
        let other = with(&one, 2, &[(RowKey::ProducerIds(()), None)]);
        assert_eq!(partitions(&other, id), Some(1));
        let grown = with(&other, 3, &[(TopicRow::key(&id), Some(topic(9)))]);
        assert_eq!((partitions(&grown, id), partitions(&other, id)), (Some(9), Some(1)));
        let gone = with(&grown, 4, &[(TopicRow::key(&id), None)]);
        assert_eq!((partitions(&gone, id), partitions(&grown, id)), (None, Some(9)));
    }

    #[test]
    fn what_is_asked_for_again_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Database::open(&dir.path().join("rows"), StoreLimits::default()).unwrap();
        let id = TopicId(Uuid::from_u128(1));
        let mut layer = LayerBuilder::default();
        layer.put(&TopicRow::key(&id), Some(&topic(3)));
        store.apply([&layer.finish(BlockNumber(1))], Applied::NOTHING).unwrap();
        let view = store.view_now().unwrap();
        let before = store.reads().get();
        for _ in 0..10 {
            assert_eq!(partitions(&view, id), Some(3));
            assert!(view.get::<RestoredRow>(&()).unwrap().is_none());
        }
        assert_eq!(store.reads().get() - before, 2);
    }

    #[test]
    fn there_are_so_many_of_them_and_none_that_is_not_there() {
        let remembered = Remembered::default();
        let key = |number: usize| TopicNameRow::key(&name(&format!("t-{number}")));
        for number in 0..=2 * ROWS_MAX {
            remembered.put(&key(number), Some(&TopicNameRow { id: TopicId::NIL }.into()));
            remembered.put(&TopicNameRow::key(&name(&format!("unknown-{number}"))), None);
            remembered.put(&RowKey::ProducerIds(()), None);
            assert!(remembered.get(&key(number)).is_some() && remembered.rows().len() <= ROWS_MAX);
        }
        remembered.put(&RowKey::Restored(()), None);
        assert_eq!(remembered.rows().len(), 2, "the last name, and that there was no restore");
    }
}
