//! `JoinGroup`: a member comes, comes back, or comes under a new id.

use super::rebalance::known_to_all;
use super::{Group, Stop, check_name, consumer, require_rows_of, sessions, settled};
use crate::core::commands::{
    GroupLimit, GroupStatus, JoinGroup, Joined, JoinedMember, Now, RebalanceCause, Refusal, Reply,
};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::{
    GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, GROUP_PROTOCOLS_MAX, MEMBER_ID_BYTES_MAX,
};
use crate::core::rows::*;
use crate::types::*;

/// `JoinGroup`. None: the request waits for its generation.
pub(in crate::core::decide) fn join(
    rows: &mut Draft<'_>,
    now: Now,
    join: &JoinGroup,
) -> Result<Option<Reply>, Need> {
    if let Err(refusal) = check_claim(join) {
        return Ok(Some(Reply::Joined(Err(refusal))));
    }
    require_rows_of(rows, &join.group)?;
    consumer::downgrade_for(rows, now, join)?;
    if rows.get::<ConsumerGroupRow>(&join.group)?.is_some() {
        return consumer::classic_join(rows, now, join).map(|joined| Some(Reply::Joined(joined)));
    }
    let mut group = Group::new(rows, now, &join.group)?;
    Ok(settled(group.join(join))?.transpose().map(Reply::Joined))
}

/// What needs no look at the group: names fit into keys, and what is compared with other members is not much.
fn check_claim(join: &JoinGroup) -> Result<(), Refusal> {
    check_name(&join.group)?;
    let instance = join.joiner.instance.as_ref().map_or(0, |instance| instance.as_str().len());
    if instance.max(join.fresh.as_str().len()) > MEMBER_ID_BYTES_MAX {
        return Err(Refusal::MemberIdTooLong);
    }
    if join.protocols().len() > GROUP_PROTOCOLS_MAX {
        return Err(Refusal::GroupFull(GroupLimit::Protocols));
    }
    if join.joiner.weight() > GROUP_METADATA_BYTES_MAX {
        return Err(Refusal::GroupFull(GroupLimit::Metadata));
    }
    Ok(())
}

impl Group<'_, '_> {
    fn join(&mut self, join: &JoinGroup) -> Result<Option<Joined>, Stop> {
        if !join.member.is_empty() && !self.is_pending(&join.member)? && self.status()? == GroupStatus::Dead {
            return Err(Refusal::UnknownMember.into());
        }
        self.check_room(join)?;
        self.check_protocols(join)?;
        if join.member.is_empty() { self.join_new(join) } else { self.join_known(join) }
    }

    /// J1: members, their bytes and sessions are bounded.
    fn check_room(&self, join: &JoinGroup) -> Result<(), Stop> {
        let replaced = match (&join.joiner.instance, join.member.is_empty()) {
            (Some(instance), true) => self.bearer(instance)?,
            _ => Some(join.member.clone()),
        };
        let mut members = 1;
        let mut bytes = join.joiner.weight();
        for (id, member) in self.everybody()? {
            if Some(id) != replaced.as_ref() {
                members += 1;
                bytes = bytes.saturating_add(member.weight());
            }
        }
        if bytes > GROUP_METADATA_BYTES_MAX {
            return Err(Refusal::GroupFull(GroupLimit::Metadata).into());
        }
        let known = match &replaced {
            Some(id) => self.member(id)?.is_some() || self.is_pending(id)?,
            None => false,
        };
        let pending = self.rebalance()?.map_or(0, |row| row.pending.len());
        if !known && members + pending > GROUP_MEMBERS_MAX {
            return Err(Refusal::GroupFull(GroupLimit::Members).into());
        }
        if !known {
            sessions::check_room(self.rows, &self.key(&join.fresh))?;
        }
        sessions::check_rebalances(self.rows, MEMBER_ID_BYTES_MAX + join.joiner.weight())
    }

    /// J2: it says what it is, and shares a protocol with everybody else.
    fn check_protocols(&self, join: &JoinGroup) -> Result<(), Stop> {
        let everybody = self.everybody()?;
        let others = everybody.iter().map(|(_, other)| *other);
        let shared = known_to_all(others.chain([&join.joiner]));
        let same_type = everybody.is_empty() || self.protocol_type()? == join.protocol_type;
        if join.protocol_type.is_empty() || shared.is_empty() || !same_type {
            return Err(Refusal::InconsistentProtocol.into());
        }
        Ok(())
    }

    /// J3, J4: somebody without a member id.
    fn join_new(&mut self, join: &JoinGroup) -> Result<Option<Joined>, Stop> {
        if let Some(instance) = &join.joiner.instance {
            return match self.bearer(instance)? {
                Some(former) => self.replace_static(join, &former),
                None => self.enter(join, &join.fresh, RebalanceCause::MemberJoined),
            };
        }
        if join.requires_known_member {
            self.change_rebalance(|row| row.pending.insert(join.fresh.clone()))?;
            self.keep_session(&join.fresh, join.joiner.session_timeout)?;
            return Err(Refusal::MemberIdRequired.into());
        }
        self.enter(join, &join.fresh, RebalanceCause::MemberJoined)
    }

    /// J5: somebody with a member id.
    fn join_known(&mut self, join: &JoinGroup) -> Result<Option<Joined>, Stop> {
        let id = &join.member;
        if self.is_pending(id)? && join.joiner.instance.is_none() {
            return self.enter(join, id, RebalanceCause::MemberJoined);
        }
        self.check_member(id, join.joiner.instance.as_ref())?;
        let same = self.member(id)?.is_some_and(|member| member.protocols == join.joiner.protocols);
        let leads = self.members()?.is_some_and(|row| row.leader == *id);
        match self.status()? {
            // It has not heard that the generation is formed.
            GroupStatus::CompletingRebalance if same => self.welcome_back(join).map(Some),
            // Nothing has changed for a follower. A leader that joins wants to assign anew.
            GroupStatus::Stable if same && !leads => self.welcome_back(join).map(Some),
            _ if !same => self.enter(join, id, RebalanceCause::SubscriptionChanged),
            _ if leads => self.enter(join, id, RebalanceCause::LeaderRejoined),
            // Members that have left are why; the restarted broker has not begun yet.
            _ => self.enter(join, id, RebalanceCause::BrokerRestarted),
        }
    }

    /// The member belongs to the newest generation as it is.
    fn welcome_back(&mut self, join: &JoinGroup) -> Result<Joined, Stop> {
        self.keep_session(&join.member, join.joiner.session_timeout)?;
        Ok(self.joined(&join.member)?)
    }

    /// J6: the member waits for the next generation.
    fn enter(
        &mut self,
        join: &JoinGroup,
        id: &MemberId,
        cause: RebalanceCause,
    ) -> Result<Option<Joined>, Stop> {
        self.begin_rebalance(Some(join), cause)?;
        let joiner = Joiner { member: join.joiner.clone(), request: join.request };
        let (before, until) = self.change_rebalance(|row| {
            row.pending.remove(id);
            let Some(joining) = &mut row.joining else { return (None, ServedTime::default()) };
            joining.protocol_type.clone_from(&join.protocol_type);
            if let Some(delay) = &mut joining.delay {
                delay.newcomers |= !joining.joined.is_empty();
            }
            (joining.joined.insert(id.clone(), joiner), joining.until)
        })?;
        if let Some(before) = before {
            self.refuse_joiner(&before, Refusal::RebalanceInProgress);
        }
        // Whoever waits is not asked for heartbeats.
        let wait = until.since(self.now.served);
        self.keep_session(id, wait.saturating_add(join.joiner.session_timeout))?;
        self.try_form_generation()?;
        Ok(None)
    }

    /// J4: a static member comes back under a new id: whoever has the former one is fenced.
    fn replace_static(&mut self, join: &JoinGroup, former: &MemberId) -> Result<Option<Joined>, Stop> {
        let status = self.status()?;
        let led = self.members()?.is_some_and(|row| row.leader == *former);
        self.fence(former)?;
        if self.members()?.is_some_and(|row| row.members.contains_key(former)) {
            self.rows.state(Event::MemberReplaced {
                group: join.group.clone(),
                former: former.clone(),
                id: join.fresh.clone(),
                member: join.joiner.clone(),
            })?;
        }
        let selected = self.select_protocol()?;
        let unaffected = self.members()?.is_some_and(|row| Some(&row.protocol) == selected.as_ref());
        if status != GroupStatus::Stable || !unaffected {
            return self.enter(join, &join.fresh, RebalanceCause::StaticReplaced);
        }
        self.keep_session(&join.fresh, join.joiner.session_timeout)?;
        let joined = self.joined(&join.fresh)?;
        Ok(Some(match (led, join.can_skip_assignment) {
            (true, true) => Joined { skip_assignment: true, ..joined },
            // An older client that leads would assign; so it is told that somebody else does.
            (true, false) => Joined { leader: former.clone(), members: Vec::new(), ..joined },
            (false, _) => joined,
        }))
    }

    /// Whoever waits under this member id is told that its instance id is another's now.
    fn fence(&mut self, former: &MemberId) -> Result<(), Need> {
        let (joiner, syncing) = self.change_rebalance(|row| {
            let joiner = row.joining.as_mut().and_then(|joining| joining.joined.remove(former));
            (joiner, row.syncing.remove(former))
        })?;
        if let Some(joiner) = joiner {
            self.refuse_joiner(&joiner, Refusal::FencedInstance);
        }
        if let Some(request) = syncing {
            self.refuse_syncing(request, Refusal::FencedInstance);
        }
        self.end_session(former)
    }

    /// What a member of the newest generation is told of it.
    pub(super) fn joined(&self, member: &MemberId) -> Result<Joined, Need> {
        let members = self.members()?;
        let (protocol, leader) =
            members.map_or_else(Default::default, |row| (row.protocol.clone(), Some(row.leader.clone())));
        let leader = leader.unwrap_or_else(|| member.clone());
        let seen = |(id, member): (&MemberId, &Member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(&protocol),
        };
        let leads = leader == *member;
        let members = members.filter(|_| leads).into_iter().flat_map(|row| &row.members).map(seen).collect();
        Ok(Joined {
            generation: self.generation()?,
            protocol_type: self.protocol_type()?,
            protocol,
            leader,
            member: member.clone(),
            skip_assignment: false,
            members,
        })
    }
}
