//! Members go: they say so, or are silent for too long, or do not revoke in time. And what begins anew after a restart.

use super::{ConsumerGroup, Stop, sessions};
use crate::core::commands::{ConsumerHeartbeat, ConsumerTold, Now, RebalanceCause, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;

/// `ExpireMember`, of a group of this protocol: whether the member is one of it.
pub(in crate::core::decide::groups) fn expire_member(
    rows: &mut Draft<'_>,
    now: Now,
    key: &MemberKey,
) -> Result<bool, Need> {
    let mut group = ConsumerGroup::new(rows, now, &key.group)?;
    if group.member(&key.member)?.is_none() {
        return Ok(false);
    }
    if sessions::is_over(group.rows, now, &Timer::Member(key.clone()))? {
        group.remove(std::slice::from_ref(&key.member), RebalanceCause::SessionExpired)?;
    }
    Ok(true)
}

/// `ExpireRevocation`.
pub(in crate::core::decide) fn expire_revocation(
    rows: &mut Draft<'_>,
    now: Now,
    key: &MemberKey,
) -> Result<(), Need> {
    let mut group = ConsumerGroup::new(rows, now, &key.group)?;
    if !sessions::is_over(group.rows, now, &Timer::Revocation(key.clone()))? {
        return Ok(());
    }
    // A classic member that was told to join, or to ask for its assignment, has not.
    let is_due = |row: &ConsumerRow| !row.held.revoking.is_empty() || row.said.is_classic();
    match group.member(&key.member)?.is_some_and(is_due) {
        true => group.remove(std::slice::from_ref(&key.member), RebalanceCause::RebalanceExpired),
        false => {
            group.rows.remove::<DeadlineRow>(&Timer::Revocation(key.clone()));
            Ok(())
        }
    }
}

/// R6: after a restart members have a whole session to be heard of, and a whole rebalance timeout to revoke. Says whether
/// the group has members.
pub(in crate::core::decide::groups) fn resume(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<bool, Need> {
    let mut group = ConsumerGroup::new(rows, now, id)?;
    let everybody: Vec<(MemberId, ConsumerRow)> =
        group.everybody()?.into_iter().map(|(id, row)| (id.clone(), row.clone())).collect();
    for (member, row) in &everybody {
        if group.rows.get::<DeadlineRow>(&Timer::Member(group.key(member)))?.is_none() {
            group.keep_session(member, row.said.session_timeout)?;
            group.await_revocation(member, &row.held, &row.held, row.said.rebalance_timeout)?;
        }
    }
    Ok(!everybody.is_empty())
}

impl ConsumerGroup<'_, '_> {
    /// C4: the member is gone.
    pub(super) fn leave(&mut self, beat: &ConsumerHeartbeat) -> Result<ConsumerTold, Stop> {
        self.check_bearer(beat)?;
        if self.member(&beat.member)?.is_none() {
            return Err(Refusal::UnknownMember.into());
        }
        self.remove(std::slice::from_ref(&beat.member), RebalanceCause::MemberLeft)?;
        Ok(ConsumerTold::Epoch { epoch: GroupEpoch::LEAVE, assigned: None })
    }

    /// C5: a static member is away, and will be back. It has let go of everything.
    pub(super) fn go_away(&mut self, beat: &ConsumerHeartbeat) -> Result<ConsumerTold, Stop> {
        self.check_bearer(beat)?;
        let Some(row) = self.member(&beat.member)?.filter(|row| row.said.instance.is_some()).cloned() else {
            return Err(Refusal::UnknownMember.into());
        };
        let held = Holding { epoch: GroupEpoch::AWAY, revoking: BTreeSet::new(), ..row.held.clone() };
        if held != row.held {
            let (group, member) = (self.id.clone(), beat.member.clone());
            self.state(Event::ConsumerReconciled { group, member, held })?;
        }
        self.rows.remove::<DeadlineRow>(&Timer::Revocation(self.key(&beat.member)));
        self.keep_session(&beat.member, row.said.session_timeout)?;
        Ok(ConsumerTold::Epoch { epoch: GroupEpoch::AWAY, assigned: None })
    }

    /// These members are gone, and whatever of theirs still comes is refused. What they held is free.
    pub(super) fn remove(&mut self, gone: &[MemberId], cause: RebalanceCause) -> Result<(), Need> {
        for member in gone {
            self.forget_deadlines(member)?;
        }
        if self.is_classic_without(gone)? {
            let generation = Generation(self.row()?.map_or(0, |row| row.epoch.0));
            return self.downgrade(generation, gone);
        }
        let epoch = self.row()?.map_or(GroupEpoch::default(), |row| row.epoch).next();
        self.state(Event::ConsumersLeft { group: self.id.clone(), epoch, members: gone.to_vec() })?;
        match self.members()?.is_some() {
            true => self.rows.rebalance(self.id, cause),
            false => self.rows.remove::<TopicsSeenRow>(self.id),
        }
        Ok(())
    }
}
