//! What operators ask of groups of the consumer protocol, and whether somebody may commit offsets of one.

use super::{ConsumerGroup, Stop, settled};
use crate::core::commands::{ConsumerGroupDescription, ConsumerGroupStatus, GroupMember, Now, Refusal};
use crate::core::decide::groups::GroupUse;
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::time::Duration;

/// Where a group stands; none if it is not one of this protocol.
pub(in crate::core::decide::groups) fn describe(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<Option<ConsumerGroupDescription>, Need> {
    let group = ConsumerGroup::new(rows, now, id)?;
    let Some(row) = group.row()? else { return Ok(None) };
    let members = group.everybody()?;
    let patterns = group.rows.get::<PatternsRow>(id)?;
    Ok(Some(ConsumerGroupDescription {
        status: status(row, members.iter().map(|(_, member)| *member)),
        epoch: row.epoch,
        target_epoch: row.target_epoch,
        assignor: row.assignor,
        members: members.into_iter().map(|(id, member)| (id.clone(), member.clone())).collect(),
        matched: patterns.into_iter().flat_map(|row| row.topics.values().flatten().copied()).collect(),
    }))
}

/// Where a group with these members stands (`spec/groups.md`, section 10).
pub fn status<'r>(
    row: &ConsumerGroupRow,
    mut members: impl Iterator<Item = &'r ConsumerRow>,
) -> ConsumerGroupStatus {
    let is_there = |member: &ConsumerRow| {
        member.held.epoch == row.target_epoch
            && member.held.revoking.is_empty()
            && member.held.assigned == member.target
    };
    match (row.members, row.target_epoch < row.epoch) {
        (0, _) => ConsumerGroupStatus::Empty,
        (_, true) => ConsumerGroupStatus::Assigning,
        _ if members.all(is_there) => ConsumerGroupStatus::Stable,
        _ => ConsumerGroupStatus::Reconciling,
    }
}

/// `DeleteGroup`: none if it is not of this protocol.
pub(in crate::core::decide::groups) fn delete(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<Option<Result<(), Refusal>>, Need> {
    let mut group = ConsumerGroup::new(rows, now, id)?;
    Ok(match group.row()?.map(|row| row.members) {
        None => None,
        Some(0) => {
            group.state(Event::GroupDeleted { group: id.clone() })?;
            Some(Ok(()))
        }
        Some(_) => Some(Err(Refusal::GroupNotEmpty)),
    })
}

/// `ExpireGroup`.
pub(in crate::core::decide::groups) fn expire(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
    retention: Duration,
) -> Result<(), Need> {
    let mut group = ConsumerGroup::new(rows, now, id)?;
    let over = group.row()?.is_some_and(|row| GroupUse::of_consumers(row).is_over(retention, now));
    match over {
        true => group.state(Event::GroupDeleted { group: id.clone() }),
        false => Ok(()),
    }
}

/// G9: whether `claim` may commit offsets of its group; none if that is not of this protocol.
pub(in crate::core::decide::groups) fn may_commit(
    rows: &mut Draft<'_>,
    now: Now,
    claim: &GroupMember,
    transactional: bool,
) -> Result<Option<Result<(), Refusal>>, Need> {
    let group = ConsumerGroup::new(rows, now, &claim.group)?;
    match group.row()?.is_some() {
        true => settled(group.may_commit(claim, transactional)).map(Some),
        false => Ok(None),
    }
}

impl ConsumerGroup<'_, '_> {
    fn may_commit(&self, claim: &GroupMember, transactional: bool) -> Result<(), Stop> {
        let names_nobody = claim.generation.0 < 0 && claim.member.is_empty() && claim.instance.is_none();
        let empty = self.members()?.is_none();
        if (empty && claim.generation.0 < 0) || (names_nobody && transactional) {
            // Version-1 transactions know no members.
            return Ok(());
        }
        let member = self.member(&claim.member)?.ok_or(Refusal::UnknownMember)?;
        let own = claim.generation.0 == member.held.epoch.0 && claim.generation.0 >= 0;
        if own || mutated(Mutant::OldMemberEpochCommits) {
            return Ok(());
        }
        Err(match (transactional, &member.said.speaks) {
            (false, Speaks::Consumer) => Refusal::StaleMemberEpoch,
            _ => Refusal::IllegalGeneration,
        }
        .into())
    }
}
