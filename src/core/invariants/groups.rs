//! Of groups, of the classic protocol above all (`spec/groups.md`).

use super::step::{Step, Verdict, holds};
use crate::core::commands::{Command, GroupMember};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;

pub(super) fn generations_never_go_back(step: &Step<'_>) -> Verdict {
    step.every::<GroupRow>(|change| change.never_goes_back(|row| row.generation))
}

pub(super) fn generations_are_formed_once(step: &Step<'_>) -> Verdict {
    step.events().iter().try_for_each(|event| match event {
        Event::GenerationFormed { group, generation, .. } => {
            let row = step.before::<GroupRow>(group).flatten();
            holds(row.is_none_or(|row| *generation > row.generation), (event, row))
        }
        _ => Ok(()),
    })
}

/// A start finds the groups that live by their members' rows.
pub(super) fn groups_without_members_are_empty(step: &Step<'_>) -> Verdict {
    let rows = step.changes::<GroupRow>().map(|change| change.key);
    for group in rows.chain(step.changes::<MembersRow>().map(|change| change.key)) {
        let (Some(row), Some(members)) = (step.after::<GroupRow>(group), step.after::<MembersRow>(group))
        else {
            continue;
        };
        let lives = row.is_some_and(|row| row.state != GroupState::Empty);
        let has_members = members.is_some_and(|row| !row.members.is_empty());
        holds(lives == has_members && has_members == members.is_some(), (group, row, members))?;
    }
    Ok(())
}

/// Whose offsets a command commits, and in whose name.
fn committer(command: &Command) -> Option<&GroupMember> {
    match command {
        Command::CommitOffsets { member, .. } => Some(member),
        Command::StageOffsets(stage) => Some(&stage.member),
        _ => None,
    }
}

/// G1, G9: whoever names a generation or an epoch is a member, and it is its own.
pub(super) fn members_commit_for_themselves(step: &Step<'_>) -> Verdict {
    let brings =
        |event: &Event| matches!(event, Event::OffsetsCommitted { .. } | Event::OffsetsStaged { .. });
    let Some(claim) = committer(step.command).filter(|_| step.events().iter().any(brings)) else {
        return Ok(());
    };
    if claim.generation.0 < 0 {
        return Ok(());
    }
    let (group, member) = (claim.group.clone(), claim.member.clone());
    let of_consumers = step.before::<ConsumerGroupRow>(&group);
    if let Some(Some(_)) = of_consumers {
        let row = step.before::<ConsumerRow>(&MemberKey { group, member });
        let own = |row: &ConsumerRow| row.held.epoch.0 == claim.generation.0;
        return holds(row.is_none_or(|row| row.is_some_and(own)), (claim, row));
    }
    let (Some(row), Some(members)) = (step.before::<GroupRow>(&group), step.before::<MembersRow>(&group))
    else {
        return Ok(());
    };
    let newest = row.is_some_and(|row| row.generation == claim.generation);
    let belongs = members.is_some_and(|row| row.members.contains_key(&member));
    holds(newest && belongs, (claim, row, members))
}

/// The requests that wait for a group.
fn waiting(row: Option<&RebalanceRow>) -> BTreeSet<RequestId> {
    let joining = row.and_then(|row| row.joining.as_ref());
    let joined = joining.into_iter().flat_map(|joining| joining.joined.values().map(|joiner| joiner.request));
    joined.chain(row.into_iter().flat_map(|row| row.syncing.values().copied())).collect()
}

pub(super) fn who_waits_no_more_is_answered(step: &Step<'_>) -> Verdict {
    let answered: BTreeSet<RequestId> =
        step.decided.drafted.answered.iter().map(|(request, _)| *request).collect();
    let mut waits = BTreeSet::new();
    for change in step.changes::<RebalanceRow>() {
        let after = waiting(change.after);
        let let_go = waiting(change.before).into_iter().filter(|request| !after.contains(request));
        holds(let_go.into_iter().all(|request| answered.contains(&request)), (&change, &answered))?;
        waits.extend(after);
    }
    match step.command.request().filter(|_| step.decided.reply.is_none()) {
        Some(request) => {
            holds(answered.contains(&request) || waits.contains(&request), (request, &answered, &waits))
        }
        None => Ok(()),
    }
}

/// What is counted too often, members would be refused for.
pub(super) fn sessions_are_counted(step: &Step<'_>) -> Verdict {
    let (mut sessions, mut bytes, mut waiting) = (0, 0, 0);
    for change in step.changes::<DeadlineRow>() {
        let Timer::Member(member) = change.key else { continue };
        let more = i64::from(change.after.is_some()) - i64::from(change.before.is_some());
        sessions += more;
        bytes += more * signed(member.weight() as u64);
    }
    for change in step.changes::<RebalanceRow>() {
        let weight = |row: Option<&RebalanceRow>| signed(row.map_or(0, |row| row.weight() as u64));
        waiting += weight(change.after) - weight(change.before);
    }
    let (Some(before), Some(after)) = (step.before::<SessionsRow>(&()), step.after::<SessionsRow>(&()))
    else {
        return Ok(());
    };
    let counted = |row: Option<&SessionsRow>| {
        let SessionsRow { sessions, bytes, rebalances_bytes } = row.copied().unwrap_or_default();
        (signed(sessions), signed(bytes), signed(rebalances_bytes))
    };
    let (of_before, of_after) = (counted(before), counted(after));
    let expected = (of_before.0 + sessions, of_before.1 + bytes, of_before.2 + waiting);
    holds(of_after == expected, (before, after, expected))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
