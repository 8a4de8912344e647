//! Members of the classic protocol in a group of this one (`spec/groups.md`, section 16): what is a heartbeat of the others
//! is a JoinGroup of theirs, and they are asked to join again whenever there is a step to take.

use super::heartbeat::Arrival;
use super::migrate::{CONSUMER, of_names, said};
use super::{ConsumerGroup, Stop, sessions, settled};
use crate::core::commands::{
    Assignment, ConsumerHeartbeat, ConsumerTold, GroupLimit, GroupMember, JoinGroup, Joined, LeavingMember,
    NamedPartitions, Now, RebalanceCause, Refusal, SyncGroup, Synced,
};
use crate::core::decide::groups::Group;
use crate::core::draft::{Draft, Need};
use crate::core::limits::GROUP_MEMBERS_MAX;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};

/// `JoinGroup`. It waits for nobody.
pub(in crate::core::decide::groups) fn classic_join(
    rows: &mut Draft<'_>,
    now: Now,
    join: &JoinGroup,
) -> Result<Result<Joined, Refusal>, Need> {
    let joined = settled(ConsumerGroup::new(rows, now, &join.group)?.classic_join(join))?;
    if matches!(joined, Err(Refusal::GroupFull(_))) {
        rows.take_back();
    }
    Ok(joined)
}

/// `SyncGroup`; none if the group is not of this protocol.
pub(in crate::core::decide::groups) fn sync(
    rows: &mut Draft<'_>,
    now: Now,
    sync: &SyncGroup,
) -> Result<Option<Result<Synced, Refusal>>, Need> {
    let mut group = ConsumerGroup::new(rows, now, &sync.member.group)?;
    match group.row()?.is_some() {
        true => settled(group.classic_sync(sync)).map(Some),
        false => Ok(None),
    }
}

/// `Heartbeat`; none if the group is not of this protocol.
pub(in crate::core::decide::groups) fn classic_heartbeat(
    rows: &mut Draft<'_>,
    now: Now,
    claim: &GroupMember,
) -> Result<Option<Result<(), Refusal>>, Need> {
    let mut group = ConsumerGroup::new(rows, now, &claim.group)?;
    match group.row()?.is_some() {
        true => settled(group.classic_heartbeat(claim)).map(Some),
        false => Ok(None),
    }
}

/// `LeaveGroup`, each member on its own merits; none if the group is not of this protocol.
pub(in crate::core::decide::groups) fn leave(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
    members: &[LeavingMember],
) -> Result<Option<Vec<Result<(), Refusal>>>, Need> {
    let mut group = ConsumerGroup::new(rows, now, id)?;
    if group.row()?.is_none() {
        return Ok(None);
    }
    let (mut gone, mut answers) = (Vec::new(), Vec::with_capacity(members.len()));
    for member in members {
        let leaving = settled(group.classic_leaving(member))?;
        answers.push(leaving.as_ref().map(|_| ()).map_err(|refusal| *refusal));
        gone.extend(leaving.ok().filter(|id| !gone.contains(id)).into_iter().collect::<Vec<_>>());
    }
    for id in &gone {
        group.pending(|row| row.remove(id))?;
        group.forget_deadlines(id)?;
    }
    let members = group.members()?.map(|row| row.members.clone()).unwrap_or_default();
    gone.retain(|id| members.contains(id));
    if !gone.is_empty() {
        group.remove(&gone, RebalanceCause::MemberLeft)?;
    }
    Ok(Some(answers))
}

impl ConsumerGroup<'_, '_> {
    fn classic_join(&mut self, join: &JoinGroup) -> Result<Joined, Stop> {
        let Some(consumes) = join.consumes.as_ref().filter(|_| join.protocol_type == CONSUMER) else {
            return Err(Refusal::InconsistentProtocol.into());
        };
        if !self.shares_protocol(join)? {
            return Err(Refusal::InconsistentProtocol.into());
        }
        let (member, arrival) = self.classic_arrival(join)?;
        let held = self.member(&member)?.map(|row| row.held.clone()).unwrap_or_default();
        let names = consumes.owned.iter().map(|(topic, _)| topic.as_str()).collect();
        let owned: BTreeSet<PartitionId> = of_names(&self.ids_of(names)?, &consumes.owned).collect();
        if !owned.iter().all(|partition| held.holds(partition)) {
            // It has missed that something was taken from it: told that it is gone, it gives up everything.
            if arrival == Arrival::Known {
                self.remove(std::slice::from_ref(&member), RebalanceCause::MemberFenced)?;
            }
            return Err(Refusal::UnknownMember.into());
        }
        let said = said(join.joiner.clone(), consumes.topics.clone());
        let timeout = said.rebalance_timeout;
        let beat = as_beat(join, &member, held.epoch, owned);
        let ConsumerTold::Epoch { epoch, .. } = self.proceed(&beat, &arrival, said)? else {
            return Err(Refusal::Undecidable.into());
        };
        self.check_size(join.decision_bytes_max)?;
        self.pending(|row| row.remove(&member))?;
        // Until it has asked for its assignment, or, if it has to revoke something, joined once more.
        let deadline = self.now.served.plus(timeout);
        self.rows.put(&Timer::Revocation(self.key(&member)), DeadlineRow { deadline });
        Ok(Joined {
            generation: Generation(epoch.0),
            protocol_type: CONSUMER.to_owned(),
            protocol: join.protocols().first().map(|first| first.name.clone()).unwrap_or_default(),
            // Nobody leads: the broker assigns.
            leader: MemberId::new(""),
            member,
            skip_assignment: false,
            members: Vec::new(),
        })
    }

    /// U6: it names a protocol that all other members of the classic protocol could use, too.
    pub(super) fn shares_protocol(&self, join: &JoinGroup) -> Result<bool, Need> {
        let own = match (&join.joiner.instance, join.member.is_empty()) {
            (Some(instance), true) => self.bearer(instance)?,
            _ => Some(join.member.clone()),
        };
        let everybody = self.everybody()?;
        let others = everybody.iter().filter(|(id, _)| Some(*id) != own.as_ref());
        let spoken = others.filter_map(|(_, row)| match &row.said.speaks {
            Speaks::Classic { protocols } => Some(protocols),
            Speaks::Consumer => None,
        });
        let spoken: Vec<&Vec<MemberProtocol>> = spoken.collect();
        let is_known = |mine: &MemberProtocol| {
            spoken.iter().all(|theirs| theirs.iter().any(|protocol| protocol.name == mine.name))
        };
        Ok(join.protocols().iter().any(is_known))
    }

    /// J3, J4, M2: who joins.
    fn classic_arrival(&mut self, join: &JoinGroup) -> Result<(MemberId, Arrival), Stop> {
        let instance = join.joiner.instance.as_ref();
        if !join.member.is_empty() {
            let id = join.member.clone();
            if instance.is_none() && self.is_pending(&id)? {
                return Ok((id, Arrival::Newcomer));
            }
            self.check_classic(&id, instance)?;
            return Ok((id, Arrival::Known));
        }
        let id = join.fresh.clone();
        if let Some(instance) = instance {
            return Ok(match self.bearer(instance)? {
                Some(former) => (id, Arrival::Successor { former }),
                None => (id, Arrival::Newcomer),
            });
        }
        if !join.requires_known_member {
            return Ok((id, Arrival::Newcomer));
        }
        let pending = self.rows.get::<RebalanceRow>(self.id)?.map_or(0, |row| row.pending.len());
        let members = self.members()?.map_or(0, |row| row.members.len());
        if members + pending >= GROUP_MEMBERS_MAX {
            return Err(Refusal::GroupFull(GroupLimit::Members).into());
        }
        sessions::check_room(self.rows, &self.key(&id))?;
        sessions::check_rebalances(self.rows, id.as_str().len())?;
        self.pending(|row| row.insert(id.clone()))?;
        self.keep_session(&id, join.joiner.session_timeout)?;
        Err(Refusal::MemberIdRequired.into())
    }

    fn is_pending(&self, id: &MemberId) -> Result<bool, Need> {
        Ok(self.rows.get::<RebalanceRow>(self.id)?.is_some_and(|row| row.pending.contains(id)))
    }

    fn pending<T>(&mut self, change: impl FnOnce(&mut BTreeSet<MemberId>) -> T) -> Result<T, Need> {
        Group::new(self.rows, self.now, self.id)?.change_rebalance(|row| change(&mut row.pending))
    }

    /// M2: it is a member of the classic protocol, and bears the instance id it names.
    fn check_classic(&self, id: &MemberId, instance: Option<&InstanceId>) -> Result<&ConsumerRow, Stop> {
        if let Some(instance) = instance {
            match self.bearer(instance)? {
                None => return Err(Refusal::UnknownMember.into()),
                Some(bearer) if bearer != *id => return Err(Refusal::FencedInstance.into()),
                Some(_) => {}
            }
        }
        let member = self.member(id)?.filter(|row| row.said.is_classic());
        member.ok_or(Stop::Refuse(Refusal::UnknownMember))
    }

    /// M2, M3: and in the epoch that it has for its generation.
    fn check_classic_epoch(&self, claim: &GroupMember) -> Result<ConsumerRow, Stop> {
        let row = self.check_classic(&claim.member, claim.instance.as_ref())?;
        match row.held.epoch.0 == claim.generation.0 {
            true => Ok(row.clone()),
            false => Err(Refusal::IllegalGeneration.into()),
        }
    }

    fn classic_sync(&mut self, sync: &SyncGroup) -> Result<Synced, Stop> {
        let member = &sync.member.member;
        let row = self.check_classic_epoch(&sync.member)?;
        let Speaks::Classic { protocols } = &row.said.speaks else {
            return Err(Refusal::UnknownMember.into());
        };
        let protocol = protocols.first().map(|first| first.name.clone()).unwrap_or_default();
        let other_type = sync.protocol_type.as_deref().is_some_and(|said| said != CONSUMER);
        if other_type || sync.protocol.as_ref().is_some_and(|said| *said != protocol) {
            return Err(Refusal::InconsistentProtocol.into());
        }
        self.keep_session(member, row.said.session_timeout)?;
        if row.held.revoking.is_empty() {
            if self.row()?.is_some_and(|group| group.epoch > row.held.epoch) {
                self.await_join(member, &row)?;
                return Err(Refusal::RebalanceInProgress.into());
            }
            self.rows.remove::<DeadlineRow>(&Timer::Revocation(self.key(member)));
        }
        let assignment = Assignment::ByBroker(self.by_name(&row.held.assigned)?);
        Ok(Synced { protocol_type: CONSUMER.to_owned(), protocol, assignment })
    }

    fn by_name(&self, partitions: &BTreeSet<PartitionId>) -> Result<Vec<NamedPartitions>, Need> {
        let mut topics: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(partition.topic).or_default().push(partition.index);
        }
        self.rows.require(topics.keys().map(TopicRow::key))?;
        let mut named = Vec::with_capacity(topics.len());
        for (id, partitions) in topics {
            let topic = self.rows.get::<TopicRow>(&id)?;
            named.extend(topic.map(|topic| (topic.name.as_str().to_owned(), partitions)));
        }
        Ok(named)
    }

    /// U7.
    fn classic_heartbeat(&mut self, claim: &GroupMember) -> Result<(), Stop> {
        let row = self.check_classic_epoch(claim)?;
        self.keep_session(&claim.member, row.said.session_timeout)?;
        if self.has_step(&claim.member, &row)? && !mutated(Mutant::ClassicMemberNotAsked) {
            self.await_join(&claim.member, &row)?;
            return Err(Refusal::RebalanceInProgress.into());
        }
        Ok(())
    }

    /// Whether the member would come nearer to its target by joining again.
    fn has_step(&self, member: &MemberId, row: &ConsumerRow) -> Result<bool, Need> {
        // Who has something to revoke has not reached the target (K1).
        if self.row()?.is_some_and(|group| group.epoch > row.held.epoch) {
            return Ok(true);
        }
        let wanted: BTreeSet<PartitionId> = row.target.difference(&row.held.assigned).copied().collect();
        Ok(!self.free(member, wanted)?.is_empty())
    }

    /// A member that has been asked to join has its rebalance timeout for that (C7).
    fn await_join(&mut self, member: &MemberId, row: &ConsumerRow) -> Result<(), Need> {
        let timer = Timer::Revocation(self.key(member));
        if self.rows.get::<DeadlineRow>(&timer)?.is_none() {
            let deadline = self.now.served.plus(row.said.rebalance_timeout);
            self.rows.put(&timer, DeadlineRow { deadline });
        }
        Ok(())
    }

    /// U8: who is to go.
    fn classic_leaving(&self, leaving: &LeavingMember) -> Result<MemberId, Stop> {
        if leaving.member.is_empty() {
            let bearer = match &leaving.instance {
                Some(instance) => self.bearer(instance)?,
                None => None,
            };
            return bearer.ok_or(Stop::Refuse(Refusal::UnknownMember));
        }
        if !self.is_pending(&leaving.member)? {
            self.check_classic(&leaving.member, leaving.instance.as_ref())?;
        }
        Ok(leaving.member.clone())
    }
}

/// What a member that joins would say in a heartbeat. It goes on in whatever epoch it is in: what it has given up it says.
fn as_beat(
    join: &JoinGroup,
    member: &MemberId,
    epoch: GroupEpoch,
    owned: BTreeSet<PartitionId>,
) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: join.group.clone(),
        member: member.clone(),
        epoch,
        instance: join.joiner.instance.clone(),
        rack: None,
        rebalance_timeout: Some(join.joiner.rebalance_timeout),
        topics: None,
        pattern: None,
        assignor: None,
        owned: Some(owned),
        client_id: join.joiner.client_id.clone(),
        client_host: join.joiner.client_host.clone(),
        session_timeout: join.joiner.session_timeout,
        decision_bytes_max: join.decision_bytes_max,
        resolved: None,
        read: None,
    }
}
