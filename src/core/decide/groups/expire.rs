//! `ExpireOffsets` and `ExpireGroup` (G8): what nobody has used for long is forgotten.

use super::{Group, consumer, require_rows_of};
use crate::core::commands::{GroupStatus, Now};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::time::Duration;

/// Who uses a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupUse {
    /// It never had members.
    Never,
    /// It has members.
    Now,
    /// It has had none since then.
    Until(ServedTime),
}

impl GroupUse {
    /// Of a group of the classic protocol.
    #[must_use]
    pub fn of_classic(row: &GroupRow) -> GroupUse {
        match row.state {
            GroupState::Empty => GroupUse::Until(row.since),
            _ => GroupUse::Now,
        }
    }

    /// Of a group of the consumer protocol.
    #[must_use]
    pub fn of_consumers(row: &ConsumerGroupRow) -> GroupUse {
        match row.members {
            0 => GroupUse::Until(row.since),
            _ => GroupUse::Now,
        }
    }

    /// Whether it had members, and has had none for so long.
    #[must_use]
    pub fn is_over(self, retention: Duration, now: Now) -> bool {
        matches!(self, GroupUse::Until(since) if since.plus(retention) <= now.served)
    }
}

/// Whether an offset of a group that is used so is old enough to be forgotten.
#[must_use]
pub fn may_expire(group: GroupUse, committed: &CommittedOffset, retention: Duration, now: Now) -> bool {
    let unused = match group {
        GroupUse::Never => committed.since,
        GroupUse::Until(since) => since.max(committed.since),
        GroupUse::Now => return false,
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
    let used = group_use(rows, now, id)?;
    let mut offsets = Vec::new();
    for partition in partitions {
        let Some(committed) = rows.get::<CommittedOffset>(&key(partition))? else { continue };
        let deleted = rows.get::<PartitionRow>(partition)?.is_none();
        if deleted || may_expire(used, committed, retention, now) {
            offsets.push(key(partition));
        }
    }
    if !offsets.is_empty() {
        rows.state(Event::OffsetsForgotten { offsets })?;
    }
    Ok(())
}

/// Who uses a group, of whichever protocol it is.
fn group_use(rows: &mut Draft<'_>, now: Now, id: &GroupId) -> Result<GroupUse, Need> {
    require_rows_of(rows, id)?;
    if let Some(row) = rows.get::<ConsumerGroupRow>(id)? {
        return Ok(GroupUse::of_consumers(row));
    }
    let group = Group::new(rows, now, id)?;
    // A rebalance of newcomers is in no durable row.
    if group.joining()?.is_some() {
        return Ok(GroupUse::Now);
    }
    Ok(group.row()?.map_or(GroupUse::Never, GroupUse::of_classic))
}

/// `ExpireGroup`.
pub(in crate::core::decide) fn expire_group_row(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
    retention: Duration,
) -> Result<(), Need> {
    consumer::expire(rows, now, id, retention)?;
    let group = Group::new(rows, now, id)?;
    let over = group.row()?.is_some_and(|row| row.since.plus(retention) <= now.served);
    if over && group.status()? == GroupStatus::Empty {
        group.rows.state(Event::GroupDeleted { group: id.clone() })?;
    }
    Ok(())
}
