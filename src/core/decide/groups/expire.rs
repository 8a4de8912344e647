//! `ExpireOffsets` and `ExpireGroup` (G8): what nobody has used for long is forgotten.

use super::Group;
use crate::core::commands::{GroupStatus, Now};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::time::Duration;

/// Whether an offset of a group with this row (none: it never had members) is old enough to be forgotten.
#[must_use]
pub fn may_expire(
    group: Option<&GroupRow>,
    committed: &CommittedOffset,
    retention: Duration,
    now: Now,
) -> bool {
    let unused = match group {
        None => committed.since,
        Some(row) if row.state == GroupState::Empty => row.since.max(committed.since),
        Some(_) => return false,
    };
    unused.plus(retention) <= now.served
}

/// `ExpireOffsets`.
pub(in crate::core::decide) fn expire_offsets(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
    partitions: &[PartitionId],
    retention: Duration,
) -> Result<(), Need> {
    let key = |partition: &PartitionId| GroupOffsetKey { group: id.clone(), partition: *partition };
    rows.require(partitions.iter().flat_map(|p| [CommittedOffset::key(&key(p)), PartitionRow::key(p)]))?;
    let group = Group::new(rows, now, id)?;
    // A rebalance of newcomers is in no durable row.
    let in_use = group.joining()?.is_some();
    let row = group.row()?.cloned();
    let mut offsets = Vec::new();
    for partition in partitions {
        let Some(committed) = rows.get::<CommittedOffset>(&key(partition))? else { continue };
        let deleted = rows.get::<PartitionRow>(partition)?.is_none();
        if deleted || (!in_use && may_expire(row.as_ref(), committed, retention, now)) {
            offsets.push(key(partition));
        }
    }
    if !offsets.is_empty() {
        rows.state(Event::OffsetsForgotten { offsets })?;
    }
    Ok(())
}

/// `ExpireGroup`.
pub(in crate::core::decide) fn expire_group_row(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
    retention: Duration,
) -> Result<(), Need> {
    let group = Group::new(rows, now, id)?;
    let over = group.row()?.is_some_and(|row| row.since.plus(retention) <= now.served);
    if over && group.status()? == GroupStatus::Empty {
        group.rows.state(Event::GroupDeleted { group: id.clone() })?;
    }
    Ok(())
}
