//! Topics by what a request calls them. Looked up in a view each time, so that nothing goes stale.

use super::errors::names_topics_by_id;
use crate::core::{TopicNameRow, TopicRow};
use crate::store::{ReadView, StoreError};
use crate::types::{PartitionId, PartitionIndex, TopicId, TopicName};
use crate::wire::{ApiKey, ErrorCode};

/// A topic that there is.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) row: TopicRow,
}

impl Topic {
    /// The topic's partition of this number, if it has one.
    pub(super) fn partition(&self, index: i32) -> Option<PartitionId> {
        let number = u32::try_from(index).ok()?;
        (number < self.row.partitions).then(|| PartitionId::new(self.id, PartitionIndex(index)))
    }

    /// The numbers of its partitions.
    pub(super) fn indexes(&self) -> impl Iterator<Item = i32> + use<> {
        0..i32::try_from(self.row.partitions).unwrap_or(i32::MAX)
    }
}

/// The topic of a name.
pub(super) fn by_name(view: &ReadView, name: &str) -> Result<Option<Topic>, StoreError> {
    let Ok(name) = TopicName::new(name) else { return Ok(None) };
    match view.get::<TopicNameRow>(&name)? {
        Some(TopicNameRow { id }) => by_id(view, id),
        None => Ok(None),
    }
}

/// The topic of an id.
pub(super) fn by_id(view: &ReadView, id: TopicId) -> Result<Option<Topic>, StoreError> {
    Ok(view.get::<TopicRow>(&id)?.map(|row| Topic { id, row }))
}

/// The topic that a request names, by name or by id as its version has it; or the code that says there is none.
pub(super) fn find(
    view: &ReadView,
    (api, version): (ApiKey, i16),
    name: &str,
    id: TopicId,
) -> Result<Result<Topic, ErrorCode>, StoreError> {
    Ok(match names_topics_by_id(api, version) {
        true => by_id(view, id)?.ok_or(ErrorCode::UnknownTopicId),
        false => by_name(view, name)?.ok_or(ErrorCode::UnknownTopicOrPartition),
    })
}

/// All topics, in the order of their names.
pub(super) fn all(view: &ReadView) -> Result<Vec<Topic>, StoreError> {
    let topics = view.topics().map(|topic| topic.map(|(id, row)| Topic { id, row }));
    let mut topics = topics.collect::<Result<Vec<_>, _>>()?;
    topics.sort_unstable_by(|a, b| a.row.name.cmp(&b.row.name));
    Ok(topics)
}
