//! How the events of groups change the rows (`spec/groups.md`).

use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use bytes::Bytes;

/// Lets an event of a group take effect; any other is none of this file's.
pub(super) fn evolve(rows: &mut Draft<'_>, at: ServedTime, event: &Event) -> Result<(), Need> {
    match event {
        Event::GenerationFormed { group, generation, protocol_type, protocol, leader, members } => {
            let members = members.iter().cloned().collect();
            let row = MembersRow { protocol: protocol.clone(), leader: leader.clone(), members };
            generation_formed(rows, at, group, (*generation, protocol_type), row);
            Ok(())
        }
        Event::GroupAssigned { group, assignments } => group_assigned(rows, at, group, assignments),
        Event::MemberReplaced { group, former, id, member } => {
            member_replaced(rows, group, former, id, member)
        }
        Event::MembersLeft { group, members } => members_left(rows, at, group, members),
        Event::GroupDeleted { group } => {
            group_deleted(rows, group);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A generation has been formed; it waits for its assignment.
fn generation_formed(
    rows: &mut Draft<'_>,
    since: ServedTime,
    group: &GroupId,
    (generation, protocol_type): (Generation, &str),
    members: MembersRow,
) {
    let protocol_type = protocol_type.to_owned();
    rows.put(group, GroupRow { generation, protocol_type, state: GroupState::CompletingRebalance, since });
    rows.put(group, members);
}

/// Every member has its assignment.
fn group_assigned(
    rows: &mut Draft<'_>,
    since: ServedTime,
    group: &GroupId,
    assignments: &[(MemberId, Bytes)],
) -> Result<(), Need> {
    rows.change(group, |row: &mut MembersRow| {
        for (id, assignment) in assignments {
            if let Some(member) = row.members.get_mut(id) {
                member.assignment = assignment.clone();
            }
        }
    })?;
    rows.change(group, |row: &mut GroupRow| {
        row.state = GroupState::Stable;
        row.since = since;
    })
}

/// A static member has a new member id; all else that is its own stays.
fn member_replaced(
    rows: &mut Draft<'_>,
    group: &GroupId,
    former: &MemberId,
    id: &MemberId,
    member: &Member,
) -> Result<(), Need> {
    rows.change(group, |row: &mut MembersRow| {
        let Some(before) = row.members.remove(former) else { return };
        row.members.insert(id.clone(), Member { assignment: before.assignment, ..member.clone() });
        if row.leader == *former {
            row.leader = id.clone();
        }
    })
}

/// Members have gone. When nobody is left, the generation is over.
fn members_left(
    rows: &mut Draft<'_>,
    since: ServedTime,
    group: &GroupId,
    gone: &[MemberId],
) -> Result<(), Need> {
    let mut empty = true;
    rows.change(group, |row: &mut MembersRow| {
        row.members.retain(|id, _| !gone.contains(id));
        empty = row.members.is_empty();
    })?;
    if empty {
        rows.remove::<MembersRow>(group);
    }
    rows.change(group, |row: &mut GroupRow| {
        row.since = since;
        if empty {
            let back = mutated(Mutant::GenerationGoesBack);
            row.generation = if back { Generation(0) } else { row.generation.next() };
            row.state = GroupState::Empty;
        } else {
            row.state = GroupState::PreparingRebalance;
        }
    })
}

/// The group and what it knew of members is gone. Its offsets have events of their own.
fn group_deleted(rows: &mut Draft<'_>, group: &GroupId) {
    rows.remove::<GroupRow>(group);
    rows.remove::<MembersRow>(group);
    // It was of one of the two protocols, and is deleted only without members.
    rows.remove::<ConsumerGroupRow>(group);
    rows.remove::<PatternsRow>(group);
}
