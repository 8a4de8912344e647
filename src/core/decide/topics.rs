//! Topics come, grow and go.

use crate::core::commands::{ConfigChange, NewTopic, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::evolve::partitions_of;
use crate::core::limits::{PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX};
use crate::core::rows::{
    ClusterRow, OpenTransactionsRow, PartitionRow, Row, TopicNameRow, TopicRow, TopicsVersionRow,
};
use crate::types::*;
use uuid::Uuid;

pub(super) fn form_cluster(rows: &mut Draft<'_>, id: Uuid) -> Result<Result<(), Refusal>, Need> {
    if rows.get::<ClusterRow>(&())?.is_none() {
        rows.state(Event::ClusterFormed { id })?;
    }
    Ok(Ok(()))
}

/// `CreateTopic` in `spec/transactions.md`.
pub(super) fn create_topic(
    rows: &mut Draft<'_>,
    topic: &NewTopic,
    validate_only: bool,
) -> Result<Result<(), Refusal>, Need> {
    if rows.get::<TopicNameRow>(&topic.name)?.is_some() {
        return Ok(Err(Refusal::TopicExists));
    }
    if let Err(refusal) = may_add(rows, 0, topic.partitions)? {
        return Ok(Err(refusal));
    }
    if !validate_only {
        let NewTopic { id, name, partitions, config } = topic.clone();
        rows.require([TopicRow::key(&id)])?;
        state_topics_changed(rows, Event::TopicCreated { id, name, partitions, config })?;
    }
    Ok(Ok(()))
}

pub(super) fn add_partitions(
    rows: &mut Draft<'_>,
    topic: TopicId,
    partitions: u32,
    validate_only: bool,
) -> Result<Result<(), Refusal>, Need> {
    let Some(before) = rows.get::<TopicRow>(&topic)?.map(|row| row.partitions) else {
        return Ok(Err(Refusal::UnknownPartition));
    };
    if let Err(refusal) = may_add(rows, before, partitions)? {
        return Ok(Err(refusal));
    }
    if !validate_only {
        state_topics_changed(rows, Event::PartitionsAdded { id: topic, partitions })?;
    }
    Ok(Ok(()))
}

/// `ConfigureTopic` in `spec/transactions.md`. A change that changes nothing states nothing.
pub(super) fn configure_topic(
    rows: &mut Draft<'_>,
    topic: TopicId,
    change: &ConfigChange,
    validate_only: bool,
) -> Result<Result<(), Refusal>, Need> {
    let Some(row) = rows.get::<TopicRow>(&topic)? else {
        return Ok(Err(Refusal::UnknownPartition));
    };
    let mut config = row.config.clone();
    match change {
        ConfigChange::All(all) => config.clone_from(all),
        ConfigChange::Some(some) => {
            for (name, value) in some {
                match value {
                    Some(value) => drop(config.insert(name.clone(), value.clone())),
                    None => drop(config.remove(name)),
                }
            }
        }
    }
    if config != row.config && !validate_only {
        rows.state(Event::TopicConfigured { id: topic, config })?;
    }
    Ok(Ok(()))
}

/// States a fact that may change what groups subscribe to: they look again (`spec/groups.md`, T1).
fn state_topics_changed(rows: &mut Draft<'_>, event: Event) -> Result<(), Need> {
    rows.state(event)?;
    rows.update(&(), TopicsVersionRow::default, |row| row.version += 1)
}

/// Whether a topic of `before` partitions may have `after`.
fn may_add(rows: &Draft<'_>, before: u32, after: u32) -> Result<Result<(), Refusal>, Need> {
    let all = rows.get::<ClusterRow>(&())?.map_or(0, |row| row.partitions);
    let possible = after > before
        && after <= PARTITIONS_PER_TOPIC_MAX
        && all.saturating_add(after - before) <= PARTITIONS_MAX;
    Ok(if possible { Ok(()) } else { Err(Refusal::PartitionCount) })
}

/// `DeleteTopic` in `spec/transactions.md`: what the topic held is gone in the same step, open transactions' enrolments
/// included, because a partition without a row is a deleted one, and its id never comes back.
pub(super) fn delete_topic(rows: &mut Draft<'_>, topic: TopicId) -> Result<Result<(), Refusal>, Need> {
    let Some(partitions) = rows.get::<TopicRow>(&topic)?.map(|row| row.partitions) else {
        return Ok(Err(Refusal::UnknownPartition));
    };
    let of_partition = |p| [PartitionRow::key(&p), OpenTransactionsRow::key(&p)];
    rows.require(partitions_of(topic, 0..partitions).flat_map(of_partition))?;
    state_topics_changed(rows, Event::TopicDeleted { id: topic })?;
    Ok(Ok(()))
}
