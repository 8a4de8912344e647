//! The next generation: who is waited for, when it is formed, by which protocol.

use super::{Group, consumer};
use crate::core::commands::{GroupStatus, JoinGroup, Now, RebalanceCause, Refusal, Reply};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// `ExpireRebalance`: a group's rebalance goes on without those who have not come; after a restart, members get their
/// sessions back.
pub(in crate::core::decide) fn expire_group(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<(), Need> {
    if consumer::resume(rows, now, id)? {
        return Ok(());
    }
    let timer = Timer::Group(id.clone());
    let mut group = Group::new(rows, now, id)?;
    match group.rows.get::<DeadlineRow>(&timer)?.map(|row| row.deadline) {
        Some(deadline) if deadline > now.served => Ok(()),
        Some(_) => group.time_is_up(),
        None => group.resume(),
    }
}

impl Group<'_, '_> {
    /// B1: a generation is to be formed, if none is already; whoever waits for an assignment will get none.
    pub(super) fn begin_rebalance(
        &mut self,
        first: Option<&JoinGroup>,
        cause: RebalanceCause,
    ) -> Result<(), Need> {
        if self.joining()?.is_some() {
            return Ok(());
        }
        self.rows.rebalance(self.id, cause);
        let initial = matches!(self.status()?, GroupStatus::Dead | GroupStatus::Empty);
        let timeouts = self.everybody()?.into_iter().map(|(_, member)| member.rebalance_timeout);
        let timeout = timeouts.chain(first.map(|join| join.joiner.rebalance_timeout)).max();
        let until = self.now.served.plus(timeout.unwrap_or_default());
        let delay = first.filter(|_| initial).map(|join| join.initial_delay).filter(|delay| !delay.is_zero());
        let delay = delay.map(|interval| InitialDelay { interval, newcomers: false });
        let protocol_type = self.protocol_type()?;
        let waiting = self.change_rebalance(|row| {
            row.joining = Some(Joining { joined: BTreeMap::new(), until, delay, protocol_type });
            std::mem::take(&mut row.syncing)
        })?;
        for (id, request) in waiting {
            // It did not beat while it waited.
            self.heard_of(&id)?;
            self.refuse_syncing(request, Refusal::RebalanceInProgress);
        }
        self.look_again(delay.map_or(until, |delay| self.now.served.plus(delay.interval).min(until)));
        Ok(())
    }

    fn look_again(&mut self, deadline: ServedTime) {
        self.rows.put(&Timer::Group(self.id.clone()), DeadlineRow { deadline });
    }

    fn time_is_up(&mut self) -> Result<(), Need> {
        let Some(Joining { until, delay, .. }) = self.joining()?.cloned() else {
            return match self.status()? {
                GroupStatus::CompletingRebalance => self.remove_those_who_did_not_sync(),
                _ => {
                    self.rows.remove::<DeadlineRow>(&Timer::Group(self.id.clone()));
                    Ok(())
                }
            };
        };
        match delay {
            Some(InitialDelay { interval, newcomers: true }) if self.now.served < until => {
                self.change_rebalance(|row| {
                    if let Some(joining) = &mut row.joining {
                        joining.delay = Some(InitialDelay { interval, newcomers: false });
                    }
                })?;
                self.look_again(self.now.served.plus(interval).min(until));
                Ok(())
            }
            _ => self.form_generation(),
        }
    }

    /// R2: after a restart, members have a whole session to be heard of, and a rebalance that was lost begins anew.
    fn resume(&mut self) -> Result<(), Need> {
        let sessions = self.everybody()?.into_iter();
        self.begin_sessions(sessions.map(|(id, member)| (id.clone(), member.session_timeout)).collect())?;
        match self.status()? {
            GroupStatus::PreparingRebalance => self.begin_rebalance(None, RebalanceCause::BrokerRestarted),
            GroupStatus::CompletingRebalance => self.await_assignment(),
            GroupStatus::Dead | GroupStatus::Empty | GroupStatus::Stable => Ok(()),
        }
    }

    fn begin_sessions(&mut self, sessions: Vec<(MemberId, Duration)>) -> Result<(), Need> {
        for (id, timeout) in sessions {
            if self.rows.get::<DeadlineRow>(&self.timer(&id))?.is_none() {
                self.keep_session(&id, timeout)?;
            }
        }
        Ok(())
    }

    /// B3: members have their rebalance timeout to ask for their assignment.
    fn await_assignment(&mut self) -> Result<(), Need> {
        let timeout = self.everybody()?.into_iter().map(|(_, member)| member.rebalance_timeout).max();
        self.look_again(self.now.served.plus(timeout.unwrap_or_default()));
        Ok(())
    }

    fn remove_those_who_did_not_sync(&mut self) -> Result<(), Need> {
        let synced: BTreeSet<MemberId> =
            self.rebalance()?.into_iter().flat_map(|row| row.syncing.keys().cloned()).collect();
        let everybody = self.everybody()?.into_iter().map(|(id, _)| id.clone());
        let gone: Vec<MemberId> = everybody.filter(|id| !synced.contains(id)).collect();
        self.remove(&gone, RebalanceCause::RebalanceExpired)
    }

    /// Forms the generation if nobody is waited for any more.
    pub(super) fn try_form_generation(&mut self) -> Result<(), Need> {
        let Some(joining) = self.joining()? else { return Ok(()) };
        let pending = self.rebalance()?.is_some_and(|row| !row.pending.is_empty());
        let members = self.members()?;
        let all = members.is_none_or(|row| row.members.keys().all(|id| joining.joined.contains_key(id)));
        if joining.delay.is_some() || pending || !all {
            return Ok(());
        }
        self.form_generation()
    }

    /// B2: whoever has joined is in the next generation; so are static members that have not, until their sessions end.
    /// Dynamic ones that have not are gone.
    pub(super) fn form_generation(&mut self) -> Result<(), Need> {
        let Some(Joining { joined, protocol_type, .. }) = self.joining()?.cloned() else { return Ok(()) };
        let absent = self.members()?.into_iter().flat_map(|row| &row.members);
        let absent = absent.filter(|(id, _)| !joined.contains_key(*id));
        let (kept, gone): (Vec<_>, Vec<_>) = absent.partition(|(_, member)| member.instance.is_some());
        let kept: Vec<(MemberId, Member)> =
            kept.into_iter().map(|(id, member)| (id.clone(), member.clone())).collect();
        let gone: Vec<MemberId> = gone.into_iter().map(|(id, _)| id.clone()).collect();
        if joined.is_empty() {
            return self.wait_for_static_members(&gone, &kept);
        }
        let members: Vec<&Member> = joined
            .values()
            .map(|joiner| &joiner.member)
            .chain(kept.iter().map(|(_, member)| member))
            .collect();
        // Whoever joined shares a protocol with everybody (J2), so there is one.
        let Some(protocol) = select_protocol(&members) else { return Ok(()) };
        for id in &gone {
            self.end_session(id)?;
        }
        let leader = self.members()?.map(|row| row.leader.clone()).filter(|id| joined.contains_key(id));
        let leader = leader.or_else(|| joined.keys().next().cloned()).unwrap_or_else(|| MemberId::new(""));
        // Since a restart, nobody may have begun the session of a static member that has not come back.
        self.begin_sessions(kept.iter().map(|(id, member)| (id.clone(), member.session_timeout)).collect())?;
        let joiners = joined.iter().map(|(id, joiner)| (id.clone(), joiner.member.clone()));
        self.rows.state(Event::GenerationFormed {
            group: self.id.clone(),
            generation: self.generation()?.next(),
            protocol_type,
            protocol,
            leader,
            members: joiners.chain(kept).collect(),
        })?;
        self.change_rebalance(|row| row.joining = None)?;
        for (id, joiner) in joined {
            self.keep_session(&id, joiner.member.session_timeout)?;
            let joined = self.joined(&id)?;
            self.rows.answer(joiner.request, Reply::Joined(Ok(joined)));
        }
        self.await_assignment()
    }

    /// Nobody has joined. Static members are waited for until their sessions end; without any, the group is empty.
    fn wait_for_static_members(
        &mut self,
        gone: &[MemberId],
        kept: &[(MemberId, Member)],
    ) -> Result<(), Need> {
        if !gone.is_empty() {
            for id in gone {
                self.end_session(id)?;
            }
            self.rows.state(Event::MembersLeft { group: self.id.clone(), members: gone.to_vec() })?;
        }
        let Some(timeout) = kept.iter().map(|(_, member)| member.rebalance_timeout).max() else {
            self.change_rebalance(|row| row.joining = None)?;
            self.rows.remove::<DeadlineRow>(&Timer::Group(self.id.clone()));
            return Ok(());
        };
        let until = self.now.served.plus(timeout);
        self.change_rebalance(|row| {
            if let Some(joining) = &mut row.joining {
                joining.until = until;
            }
        })?;
        self.look_again(until);
        Ok(())
    }

    /// B4: of the protocols that all members can use, the one that most of them prefer.
    pub(super) fn select_protocol(&self) -> Result<Option<String>, Need> {
        let members: Vec<&Member> = self.everybody()?.into_iter().map(|(_, member)| member).collect();
        Ok(select_protocol(&members))
    }
}

/// B4, J2: the names of the protocols that all of these know.
pub(super) fn known_to_all<'m>(mut members: impl Iterator<Item = &'m Member>) -> BTreeSet<&'m str> {
    let names = |member: &'m Member| member.protocols.iter().map(|protocol| protocol.name.as_str());
    let mut known: BTreeSet<&str> = members.next().into_iter().flat_map(names).collect();
    for member in members {
        known.retain(|name| names(member).any(|theirs| theirs == *name));
    }
    known
}

pub(super) fn select_protocol(members: &[&Member]) -> Option<String> {
    let known = known_to_all(members.iter().copied());
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members {
        let names = member.protocols.iter().map(|protocol| protocol.name.as_str());
        let choice = names.into_iter().find(|name| known.contains(name))?;
        *votes.entry(choice).or_default() += 1;
    }
    // Of those with equally many votes, the first by name, so that the choice is the same everywhere.
    let most = votes.values().max().copied()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
}
