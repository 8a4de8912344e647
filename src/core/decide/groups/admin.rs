//! What operators ask of groups, and whether somebody may commit a group's offsets.

use super::{Group, Stop, consumer, settled};
use crate::core::commands::{AnyGroup, GroupDescription, GroupMember, GroupStatus, Now, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use bytes::Bytes;

/// Where a group stands, of whichever protocol it is.
pub(in crate::core::decide) fn describe(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<AnyGroup, Need> {
    Ok(match consumer::describe(rows, now, id)? {
        Some(group) => AnyGroup::Consumer(group),
        None => AnyGroup::Classic(describe_classic(rows, now, id)?),
    })
}

fn describe_classic(rows: &mut Draft<'_>, now: Now, id: &GroupId) -> Result<GroupDescription, Need> {
    let group = Group::new(rows, now, id)?;
    let status = group.status()?;
    let protocol = match (status, group.members()?) {
        (GroupStatus::Stable, Some(row)) => row.protocol.clone(),
        _ => String::new(),
    };
    let described = |(id, member): (&MemberId, &Member)| {
        // What is not assigned yet is nobody's.
        let assignment = if status == GroupStatus::Stable { member.assignment.clone() } else { Bytes::new() };
        (id.clone(), Member { assignment, ..member.clone() })
    };
    let members = group.everybody()?.into_iter().map(described).collect();
    Ok(GroupDescription { status, protocol_type: group.protocol_type()?, protocol, members })
}

/// `DeleteGroup`: only an empty one.
pub(in crate::core::decide) fn delete_group(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<Result<(), Refusal>, Need> {
    if let Some(deleted) = consumer::delete(rows, now, id)? {
        return Ok(deleted);
    }
    let group = Group::new(rows, now, id)?;
    match group.status()? {
        GroupStatus::Dead => {}
        GroupStatus::Empty => group.rows.state(Event::GroupDeleted { group: id.clone() })?,
        _ => return Ok(Err(Refusal::GroupNotEmpty)),
    }
    Ok(Ok(()))
}

/// `ForgetOffsets`.
pub(in crate::core::decide) fn forget_offsets(
    rows: &mut Draft<'_>,
    group: &GroupId,
    partitions: &[PartitionId],
) -> Result<Result<(), Refusal>, Need> {
    let key = |partition: &PartitionId| GroupOffsetKey { group: group.clone(), partition: *partition };
    rows.require(partitions.iter().map(|partition| CommittedOffset::key(&key(partition))))?;
    let mut offsets = Vec::new();
    for partition in partitions {
        if rows.get::<CommittedOffset>(&key(partition))?.is_some() {
            offsets.push(key(partition));
        }
    }
    if !offsets.is_empty() {
        rows.state(Event::OffsetsForgotten { offsets })?;
    }
    Ok(Ok(()))
}

/// G1, G9: whether `claim` may commit offsets of its group, at once or with a transaction. A member's commit keeps its session.
pub(in crate::core::decide) fn may_commit(
    rows: &mut Draft<'_>,
    now: Now,
    claim: &GroupMember,
    transactional: bool,
) -> Result<Result<(), Refusal>, Need> {
    match consumer::may_commit(rows, now, claim, transactional)? {
        Some(may) => Ok(may),
        None => settled(Group::new(rows, now, &claim.group)?.may_commit(claim, transactional)),
    }
}

impl Group<'_, '_> {
    fn may_commit(&mut self, claim: &GroupMember, transactional: bool) -> Result<(), Stop> {
        let status = self.status()?;
        let claims = claim.generation.0 >= 0 || !claim.member.is_empty() || claim.instance.is_some();
        match status {
            GroupStatus::Dead | GroupStatus::Empty if claim.generation.0 < 0 => return Ok(()),
            GroupStatus::Dead => return Err(Refusal::GroupNotFound.into()),
            _ if claims => self.check_generation(claim)?,
            // Version-1 transactions know no members.
            _ if transactional => return Ok(()),
            _ => return Err(Refusal::UnknownMember.into()),
        }
        if status == GroupStatus::CompletingRebalance && !transactional {
            return Err(Refusal::RebalanceInProgress.into());
        }
        self.heard_of(&claim.member)?;
        Ok(())
    }
}
