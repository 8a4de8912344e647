//! `SyncGroup` and `Heartbeat`: members get their assignment, and stay alive.

use super::{Group, Stop, consumer, settled};
use crate::core::commands::{
    Assignment, GroupLimit, GroupMember, GroupStatus, Now, Refusal, Reply, SyncGroup, Synced,
};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::GROUP_ASSIGNMENT_BYTES_MAX;
use crate::core::rows::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// `SyncGroup`. None: the request waits for the leader's.
pub(in crate::core::decide) fn sync(
    rows: &mut Draft<'_>,
    now: Now,
    sync: &SyncGroup,
) -> Result<Option<Reply>, Need> {
    if let Some(synced) = consumer::sync(rows, now, sync)? {
        return Ok(Some(Reply::Synced(synced)));
    }
    let mut group = Group::new(rows, now, &sync.member.group)?;
    Ok(settled(group.sync(sync))?.transpose().map(Reply::Synced))
}

/// `Heartbeat`.
pub(in crate::core::decide) fn heartbeat(
    rows: &mut Draft<'_>,
    now: Now,
    member: &GroupMember,
) -> Result<Result<(), Refusal>, Need> {
    match consumer::classic_heartbeat(rows, now, member)? {
        Some(answer) => Ok(answer),
        None => settled(Group::new(rows, now, &member.group)?.heartbeat(member)),
    }
}

impl Group<'_, '_> {
    fn sync(&mut self, sync: &SyncGroup) -> Result<Option<Synced>, Stop> {
        let SyncGroup { request, member, assignments, .. } = sync;
        self.check_generation(member)?;
        self.check_selected(sync)?;
        match self.status()? {
            GroupStatus::Dead | GroupStatus::Empty => Err(Refusal::UnknownMember.into()),
            GroupStatus::PreparingRebalance => Err(Refusal::RebalanceInProgress.into()),
            GroupStatus::Stable => {
                self.heard_of(&member.member)?;
                Ok(Some(self.assignment(&member.member)?))
            }
            GroupStatus::CompletingRebalance => {
                let leads = self.members()?.is_some_and(|row| row.leader == member.member);
                if leads {
                    check_assignments(assignments)?;
                }
                let id = member.member.clone();
                let before = self.change_rebalance(|row| row.syncing.insert(id, *request))?;
                if let Some(before) = before {
                    self.refuse_syncing(before, Refusal::RebalanceInProgress);
                }
                if leads {
                    self.assign(assignments)?;
                }
                Ok(None)
            }
        }
    }

    /// Y2: what the member says of the protocol is what was selected (KIP-559).
    fn check_selected(&self, sync: &SyncGroup) -> Result<(), Stop> {
        let selected = self.members()?.map_or("", |row| row.protocol.as_str());
        let type_differs =
            sync.protocol_type.as_ref().is_some_and(|said| self.protocol_type().is_ok_and(|is| *said != is));
        if type_differs || sync.protocol.as_deref().is_some_and(|said| said != selected) {
            return Err(Refusal::InconsistentProtocol.into());
        }
        Ok(())
    }

    /// Y3: the leader has assigned: everybody gets what is theirs, and nothing where it named nothing.
    fn assign(&mut self, assignments: &[(MemberId, Bytes)]) -> Result<(), Need> {
        let given: BTreeMap<&MemberId, &Bytes> = assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        let members = self.members()?.into_iter().flat_map(|row| row.members.keys());
        let assignments = members
            .map(|id| (id.clone(), given.get(id).map_or_else(Bytes::new, |bytes| Bytes::clone(bytes))))
            .collect();
        self.rows.state(Event::GroupAssigned { group: self.id.clone(), assignments })?;
        let waiting = self.change_rebalance(|row| std::mem::take(&mut row.syncing))?;
        for (id, request) in waiting {
            self.heard_of(&id)?;
            let synced = self.assignment(&id)?;
            self.rows.answer(request, Reply::Synced(Ok(synced)));
        }
        self.rows.remove::<DeadlineRow>(&Timer::Group(self.id.clone()));
        Ok(())
    }

    fn assignment(&self, id: &MemberId) -> Result<Synced, Need> {
        let members = self.members()?;
        let assignment = members.and_then(|row| row.members.get(id)).map(|member| member.assignment.clone());
        Ok(Synced {
            protocol_type: self.protocol_type()?,
            protocol: members.map_or_else(String::new, |row| row.protocol.clone()),
            assignment: Assignment::ByLeader(assignment.unwrap_or_default()),
        })
    }

    fn heartbeat(&mut self, claim: &GroupMember) -> Result<(), Stop> {
        self.check_generation(claim)?;
        match self.status()? {
            GroupStatus::Dead | GroupStatus::Empty => Err(Refusal::UnknownMember.into()),
            GroupStatus::PreparingRebalance => {
                self.heard_of(&claim.member)?;
                Err(Refusal::RebalanceInProgress.into())
            }
            GroupStatus::CompletingRebalance | GroupStatus::Stable => Ok(self.heard_of(&claim.member)?),
        }
    }

    /// The member is alive: its session begins anew.
    pub(super) fn heard_of(&mut self, id: &MemberId) -> Result<(), Need> {
        match self.member(id)?.map(|member| member.session_timeout) {
            Some(timeout) => self.keep_session(id, timeout),
            None => Ok(()),
        }
    }
}

fn check_assignments(assignments: &[(MemberId, Bytes)]) -> Result<(), Stop> {
    let bytes = assignments.iter().map(|(_, assignment)| assignment.len()).sum::<usize>();
    match bytes > GROUP_ASSIGNMENT_BYTES_MAX {
        true => Err(Refusal::GroupFull(GroupLimit::Assignment).into()),
        false => Ok(()),
    }
}
