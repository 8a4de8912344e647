//! How the events of groups of the consumer protocol change the rows (`spec/groups.md`, sections 10 to 16).

use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// Lets an event of a consumer group take effect; any other is none of this file's.
pub(super) fn evolve(rows: &mut Draft<'_>, at: ServedTime, event: &Event) -> Result<(), Need> {
    match event {
        Event::ConsumerSubscribed { group, epoch, member, said } => {
            subscribed(rows, at, (group, *epoch), member, said)
        }
        Event::TargetAssigned { group, epoch, assignor, targets } => {
            for (member, target) in targets {
                rows.change(&key(group, member), |row: &mut ConsumerRow| row.target.clone_from(target))?;
            }
            rows.change(group, |row: &mut ConsumerGroupRow| {
                (row.epoch, row.target_epoch, row.assignor, row.since) = (*epoch, *epoch, *assignor, at);
            })
        }
        Event::ConsumerReconciled { group, member, held } => {
            rows.change(&key(group, member), |row: &mut ConsumerRow| row.held.clone_from(held))
        }
        Event::ConsumerReplaced { group, former, member, said } => {
            replaced(rows, group, former, member, said)
        }
        Event::ConsumersLeft { group, epoch, members } => left(rows, at, (group, *epoch), members),
        Event::PatternsResolved { group, patterns } => {
            if patterns.is_empty() {
                rows.remove::<PatternsRow>(group);
            } else {
                rows.put(group, PatternsRow { topics: patterns.clone() });
            }
            Ok(())
        }
        Event::GroupUpgraded { group, epoch, members } => {
            upgraded(rows, at, (group, *epoch), members);
            Ok(())
        }
        Event::GroupDowngraded { group, generation, protocol, leader, members } => {
            let row = MembersRow {
                protocol: protocol.clone(),
                leader: leader.clone(),
                members: members.iter().cloned().collect(),
            };
            downgraded(rows, at, (group, *generation), row)
        }
        _ => Ok(()),
    }
}

fn key(group: &GroupId, member: &MemberId) -> MemberKey {
    MemberKey { group: group.clone(), member: member.clone() }
}

fn subscribed(
    rows: &mut Draft<'_>,
    at: ServedTime,
    (group, epoch): (&GroupId, GroupEpoch),
    member: &MemberId,
    said: &Subscription,
) -> Result<(), Need> {
    let mut count = 0;
    rows.update(group, ConsumersRow::default, |row| {
        row.members.insert(member.clone());
        row.instances.retain(|_, bearer| bearer != member);
        row.instances.extend(said.instance.clone().map(|instance| (instance, member.clone())));
        count = row.members.len();
    })?;
    rows.update(
        group,
        || ConsumerGroupRow::fresh(at),
        |row| {
            row.epoch = epoch;
            row.members = u32::try_from(count).unwrap_or(u32::MAX);
            row.since = at;
        },
    )?;
    let fresh =
        || ConsumerRow { said: Box::new(said.clone()), target: Default::default(), held: Holding::default() };
    rows.update(&key(group, member), fresh, |row| *row.said = said.clone())
}

/// A static member has a new member id. Its former life has let go of everything: what it was revoking is free.
fn replaced(
    rows: &mut Draft<'_>,
    group: &GroupId,
    former: &MemberId,
    member: &MemberId,
    said: &Subscription,
) -> Result<(), Need> {
    let Some(before) = rows.get::<ConsumerRow>(&key(group, former))?.cloned() else { return Ok(()) };
    rows.remove::<ConsumerRow>(&key(group, former));
    let held = Holding { assigned: before.held.assigned, ..Holding::default() };
    rows.put(&key(group, member), ConsumerRow { said: Box::new(said.clone()), target: before.target, held });
    rows.change(group, |row: &mut ConsumersRow| {
        row.members.remove(former);
        row.members.insert(member.clone());
        row.instances.retain(|_, bearer| bearer != former);
        row.instances.extend(said.instance.clone().map(|instance| (instance, member.clone())));
    })
}

fn left(
    rows: &mut Draft<'_>,
    at: ServedTime,
    (group, epoch): (&GroupId, GroupEpoch),
    gone: &[MemberId],
) -> Result<(), Need> {
    let mut count = 0;
    rows.change(group, |row: &mut ConsumersRow| {
        row.members.retain(|member| !gone.contains(member));
        row.instances.retain(|_, bearer| !gone.contains(bearer));
        count = row.members.len();
    })?;
    gone.iter().for_each(|member| rows.remove::<ConsumerRow>(&key(group, member)));
    if count == 0 {
        rows.remove::<ConsumersRow>(group);
        rows.remove::<PatternsRow>(group);
    }
    rows.change(group, |row: &mut ConsumerGroupRow| {
        let back = count == 0 && mutated(Mutant::GroupEpochGoesBack);
        row.epoch = if back { GroupEpoch::default() } else { epoch };
        row.members = u32::try_from(count).unwrap_or(u32::MAX);
        row.since = at;
    })
}

fn upgraded(
    rows: &mut Draft<'_>,
    since: ServedTime,
    (group, epoch): (&GroupId, GroupEpoch),
    members: &[(MemberId, ConsumerRow)],
) {
    rows.remove::<GroupRow>(group);
    rows.remove::<MembersRow>(group);
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    rows.put(
        group,
        ConsumerGroupRow { epoch, target_epoch: epoch, members: count, ..ConsumerGroupRow::fresh(since) },
    );
    if members.is_empty() {
        return;
    }
    let mut consumers = ConsumersRow::default();
    for (member, row) in members {
        consumers.members.insert(member.clone());
        consumers.instances.extend(row.said.instance.clone().map(|instance| (instance, member.clone())));
        rows.put(&key(group, member), row.clone());
    }
    rows.put(group, consumers);
}

fn downgraded(
    rows: &mut Draft<'_>,
    since: ServedTime,
    (group, generation): (&GroupId, Generation),
    members: MembersRow,
) -> Result<(), Need> {
    let consumers = rows.get::<ConsumersRow>(group)?.cloned().unwrap_or_default();
    consumers.members.iter().for_each(|member| rows.remove::<ConsumerRow>(&key(group, member)));
    rows.remove::<ConsumersRow>(group);
    rows.remove::<ConsumerGroupRow>(group);
    rows.remove::<PatternsRow>(group);
    let state = match members.members.is_empty() {
        true => GroupState::Empty,
        false => GroupState::PreparingRebalance,
    };
    rows.put(group, GroupRow { generation, protocol_type: "consumer".to_owned(), state, since });
    if state == GroupState::PreparingRebalance {
        rows.put(group, members);
    }
    Ok(())
}
