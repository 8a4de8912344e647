//! Of groups of the consumer protocol, and of those that change from one protocol to the other.

use super::step::{Change, Step, Verdict, holds};
use crate::core::commands::Command;
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn epochs_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<ConsumerGroupRow>(|change| {
        change.never_goes_back(|row| row.epoch) && change.never_goes_back(|row| row.target_epoch)
    })
}

pub(super) fn the_target_never_overtakes(step: &Step<'_>) -> Verdict {
    step.every::<ConsumerGroupRow>(|change| change.is_left(|row| row.target_epoch <= row.epoch))?;
    step.every::<ConsumerRow>(|change| {
        let group = step.after::<ConsumerGroupRow>(&change.key.group).flatten();
        change.is_left(|row| group.is_none_or(|group| row.held.epoch <= group.target_epoch))
    })
}

/// So a member of the classic protocol that is to revoke something is asked to join again for being behind (U7).
pub(super) fn who_revokes_is_behind(step: &Step<'_>) -> Verdict {
    step.every::<ConsumerRow>(|change| {
        let group = step.after::<ConsumerGroupRow>(&change.key.group).flatten();
        change.is_left(|row| {
            row.held.revoking.is_empty() || group.is_none_or(|group| row.held.epoch < group.epoch)
        })
    })
}

/// A member that is away comes back as one that has not reached any target yet.
pub(super) fn members_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<ConsumerRow>(|change| {
        change.never_goes_back(|row| row.held.epoch)
            || change.is_left(|row| row.held.epoch == GroupEpoch::AWAY)
    })
}

/// Section 16: the epoch goes on from the generation, and the other way round.
pub(super) fn epochs_go_on_from_generations(step: &Step<'_>) -> Verdict {
    for change in step.changes::<ConsumerGroupRow>().filter(|change| change.before.is_none()) {
        let classic = step.before::<GroupRow>(change.key).flatten();
        let goes_on = |row: &ConsumerGroupRow| classic.is_none_or(|of| row.epoch.0 >= of.generation.0);
        holds(change.is_left(goes_on), (&change, classic))?;
    }
    for change in step.changes::<GroupRow>().filter(|change| change.before.is_none()) {
        let consumers = step.before::<ConsumerGroupRow>(change.key).flatten();
        let goes_on = |row: &GroupRow| consumers.is_none_or(|of| row.generation.0 >= of.epoch.0);
        holds(change.is_left(goes_on), (&change, consumers))?;
    }
    Ok(())
}

pub(super) fn groups_are_of_one_protocol(step: &Step<'_>) -> Verdict {
    let classic = step.changes::<GroupRow>().map(|change| change.key);
    for group in classic.chain(step.changes::<ConsumerGroupRow>().map(|change| change.key)) {
        let (classic, consumers) = (step.after::<GroupRow>(group), step.after::<ConsumerGroupRow>(group));
        holds(!matches!((classic, consumers), (Some(Some(_)), Some(Some(_)))), (group, classic, consumers))?;
    }
    Ok(())
}

/// Its own row, the list of members and their number say the same.
pub(super) fn rows_name_the_same_members(step: &Step<'_>) -> Verdict {
    step.every::<ConsumerRow>(|change| {
        let listed = step.after::<ConsumersRow>(&change.key.group);
        let is_listed =
            |row: Option<&ConsumersRow>| row.is_some_and(|row| row.members.contains(&change.key.member));
        listed.is_none_or(|row| is_listed(row) == change.after.is_some())
    })?;
    let groups = step.changes::<ConsumerGroupRow>().map(|change| change.key);
    for group in groups.chain(step.changes::<ConsumersRow>().map(|change| change.key)) {
        let (Some(row), Some(members)) =
            (step.after::<ConsumerGroupRow>(group), step.after::<ConsumersRow>(group))
        else {
            continue;
        };
        let listed = members.map_or(0, |row| row.members.len());
        let counted = row.map_or(0, |row| usize::try_from(row.members).unwrap_or(usize::MAX));
        holds(listed == counted && (listed > 0) == members.is_some(), (group, row, members))?;
    }
    Ok(())
}

/// K2, K3.
pub(super) fn partitions_have_one_owner(step: &Step<'_>) -> Verdict {
    of_one_member_each(step, |row| row.held.assigned.union(&row.held.revoking).copied().collect())
}

pub(super) fn partitions_are_one_members_target(step: &Step<'_>) -> Verdict {
    of_one_member_each(step, |row| row.target.clone())
}

/// What of a group comes to its members.
type Gained<'d> = BTreeMap<PartitionId, &'d MemberId>;

/// What members gain, no other member has.
fn of_one_member_each(step: &Step<'_>, has: fn(&ConsumerRow) -> BTreeSet<PartitionId>) -> Verdict {
    let mut groups: BTreeMap<&GroupId, Gained<'_>> = BTreeMap::new();
    for change in step.changes::<ConsumerRow>() {
        let had = change.before.map(has).unwrap_or_default();
        for partition in change.after.map(has).unwrap_or_default().difference(&had) {
            let gained = groups.entry(&change.key.group).or_default();
            let other = gained.insert(*partition, &change.key.member);
            holds(other.is_none(), (partition, other, &change))?;
        }
    }
    for (group, gained) in groups {
        let members = step.after::<ConsumersRow>(group).flatten();
        for member in members.into_iter().flat_map(|row| &row.members) {
            let key = MemberKey { group: group.clone(), member: member.clone() };
            let Some(row) = step.after::<ConsumerRow>(&key).flatten() else { continue };
            let others = has(row).into_iter().find_map(|partition| {
                gained.get(&partition).filter(|owner| **owner != member).map(|owner| (partition, *owner))
            });
            holds(others.is_none(), (&key, row, others))?;
        }
    }
    Ok(())
}

/// K1: while it goes on, what it has said that it owns stays its own.
pub(super) fn revocations_are_awaited(step: &Step<'_>) -> Verdict {
    let Command::ConsumerHeartbeat(beat) = step.command else { return Ok(()) };
    let of_member = |change: &Change<'_, ConsumerRow>| {
        change.key.group == beat.group && change.key.member == beat.member && beat.epoch > GroupEpoch::JOIN
    };
    step.every::<ConsumerRow>(|change| {
        let (Some(before), Some(after), true) = (change.before, change.after, of_member(change)) else {
            return true;
        };
        let held = before.held.assigned.union(&before.held.revoking);
        let mut given_up = held.filter(|partition| !after.held.holds(partition));
        given_up.all(|partition| beat.owned.as_ref().is_some_and(|owned| !owned.contains(partition)))
    })
}

/// U3.
pub(super) fn an_upgrade_takes_nothing_away(step: &Step<'_>) -> Verdict {
    step.events().iter().try_for_each(|event| match event {
        Event::GroupUpgraded { members, .. } => {
            members.iter().try_for_each(|(id, row)| holds(row.held.assigned == row.target, (id, row)))
        }
        _ => Ok(()),
    })
}
