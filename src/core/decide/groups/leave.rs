//! `LeaveGroup` and `ExpireMember`: members go.

use super::{Group, Stop, consumer, sessions, settled};
use crate::core::commands::{LeavingMember, Now, RebalanceCause, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// `LeaveGroup`: each on its own merits.
pub(in crate::core::decide) fn leave(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
    members: &[LeavingMember],
) -> Result<Vec<Result<(), Refusal>>, Need> {
    if let Some(answers) = consumer::leave(rows, now, id, members)? {
        return Ok(answers);
    }
    let mut group = Group::new(rows, now, id)?;
    let mut gone = Vec::new();
    let mut answers = Vec::with_capacity(members.len());
    for member in members {
        let found = settled(group.leaving(member))?;
        answers.push(found.as_ref().map(|_| ()).map_err(|refusal| *refusal));
        gone.extend(found.ok().filter(|id| !gone.contains(id)).into_iter().collect::<Vec<_>>());
    }
    group.remove(&gone, RebalanceCause::MemberLeft)?;
    Ok(answers)
}

/// `ExpireMember`: a member that has been silent for its session's length is gone.
pub(in crate::core::decide) fn expire_member(
    rows: &mut Draft<'_>,
    now: Now,
    key: &MemberKey,
) -> Result<(), Need> {
    if consumer::expire_member(rows, now, key)? {
        return Ok(());
    }
    let mut group = Group::new(rows, now, &key.group)?;
    let timer = Timer::Member(key.clone());
    if !sessions::is_over(group.rows, now, &timer)? {
        return Ok(());
    }
    let waits = group.rebalance()?.is_some_and(|row| {
        row.syncing.contains_key(&key.member)
            || row.joining.as_ref().is_some_and(|joining| joining.joined.contains_key(&key.member))
    });
    if waits {
        return group.heard_of(&key.member);
    }
    group.remove(std::slice::from_ref(&key.member), RebalanceCause::SessionExpired)
}

impl Group<'_, '_> {
    /// Who is to go.
    fn leaving(&self, leaving: &LeavingMember) -> Result<MemberId, Stop> {
        if !leaving.member.is_empty() {
            if !self.is_pending(&leaving.member)? {
                self.check_member(&leaving.member, leaving.instance.as_ref())?;
            }
            return Ok(leaving.member.clone());
        }
        let bearer = match &leaving.instance {
            Some(instance) => self.bearer(instance)?,
            None => None,
        };
        bearer.ok_or(Stop::Refuse(Refusal::UnknownMember))
    }

    /// L1: these members are gone, and whatever of theirs still comes is refused. The others go on to the next generation.
    pub(super) fn remove(&mut self, gone: &[MemberId], cause: RebalanceCause) -> Result<(), Need> {
        if gone.is_empty() {
            return Ok(());
        }
        let (joiners, syncing) = self.change_rebalance(|row| {
            row.pending.retain(|id| !gone.contains(id));
            let joined = row.joining.as_mut().map(|joining| &mut joining.joined);
            let joiners: Vec<Joiner> = joined
                .into_iter()
                .flat_map(|joined| gone.iter().filter_map(|id| joined.remove(id)))
                .collect();
            let syncing: Vec<RequestId> = gone.iter().filter_map(|id| row.syncing.remove(id)).collect();
            (joiners, syncing)
        })?;
        let answered = joiners.iter().filter(|_| !mutated(Mutant::LeaverNotAnswered));
        answered.for_each(|joiner| self.refuse_joiner(joiner, Refusal::UnknownMember));
        syncing.into_iter().for_each(|request| self.refuse_syncing(request, Refusal::UnknownMember));
        for id in gone {
            self.end_session(id)?;
        }
        let known =
            |row: &MembersRow| gone.iter().filter(|id| row.members.contains_key(*id)).cloned().collect();
        let members: Vec<MemberId> = self.members()?.map_or_else(Vec::new, known);
        let rebalances = !members.is_empty();
        if rebalances {
            self.rows.state(Event::MembersLeft { group: self.id.clone(), members })?;
        }
        if self.everybody()?.is_empty() {
            // Nobody is there. Who only has a member id begins a rebalance when they come.
            self.change_rebalance(|row| row.joining = None)?;
            self.rows.remove::<DeadlineRow>(&Timer::Group(self.id.clone()));
            return Ok(());
        }
        if rebalances {
            self.begin_rebalance(None, cause)?;
        }
        self.try_form_generation()
    }
}
