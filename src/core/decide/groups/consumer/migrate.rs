//! From one protocol to the other, also while the group lives (`spec/groups.md`, section 16).

use super::{ConsumerGroup, Stop};
use crate::core::commands::{
    ConsumerHeartbeat, ConsumerTold, GroupStatus, JoinGroup, Now, ReadMember, ReadMembers, RebalanceCause,
    Refusal, UnreadMember,
};
use crate::core::decide::groups::{Group, rebalance};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The protocol type of consumers: the only groups that change their protocol while they live.
pub(super) const CONSUMER: &str = "consumer";

/// U2, U5: a group is a classic one from now on if it has no members, or if `join` takes the place of its last member of
/// the consumer protocol.
pub(in crate::core::decide::groups) fn downgrade_for(
    rows: &mut Draft<'_>,
    now: Now,
    join: &JoinGroup,
) -> Result<(), Need> {
    let mut group = ConsumerGroup::new(rows, now, &join.group)?;
    if let Some(former) = group.last_of_its_protocol(join)? {
        group.remove(&[former], RebalanceCause::StaticReplaced)?;
    }
    let Some(row) = group.row()?.filter(|row| row.members == 0) else { return Ok(()) };
    let generation = Generation(row.epoch.0);
    group.downgrade(generation, &[])
}

impl ConsumerGroup<'_, '_> {
    /// U1: makes a classic group one of this protocol for a member that joins it. Refused if it cannot become one now, and
    /// not done yet if something of its members has to be read outside.
    pub(super) fn upgrade(&mut self, beat: &ConsumerHeartbeat) -> Result<Option<ConsumerTold>, Stop> {
        if self.row()?.is_some() {
            return Ok(None);
        }
        let classic = Group::new(self.rows, self.now, self.id)?;
        let (status, generation) = (classic.status()?, classic.generation()?);
        let of_consumers = classic.protocol_type()? == CONSUMER;
        match status {
            // Who goes on has been a member before the group was another one.
            _ if beat.epoch != GroupEpoch::JOIN => Err(Refusal::UnknownMember.into()),
            GroupStatus::Dead => Ok(None),
            GroupStatus::Empty => {
                let epoch = GroupEpoch(generation.0);
                self.state(Event::GroupUpgraded { group: self.id.clone(), epoch, members: Vec::new() })?;
                Ok(None)
            }
            GroupStatus::Stable if of_consumers => self.upgrade_live(beat, generation),
            GroupStatus::PreparingRebalance | GroupStatus::CompletingRebalance if of_consumers => {
                Err(Refusal::GroupRebalances.into())
            }
            _ => Err(Refusal::GroupNotFound.into()),
        }
    }

    /// U3: what each member has stays its own, and is its target.
    fn upgrade_live(
        &mut self,
        beat: &ConsumerHeartbeat,
        generation: Generation,
    ) -> Result<Option<ConsumerTold>, Stop> {
        let Some(classic) = self.rows.get::<MembersRow>(self.id)?.cloned() else { return Ok(None) };
        let is_of_these = |read: &&ReadMembers| {
            read.generation == generation && read.members.keys().eq(classic.members.keys())
        };
        let Some(read) = beat.read.as_ref().filter(is_of_these) else {
            let unread = |(id, member): (&MemberId, &Member)| UnreadMember {
                member: id.clone(),
                metadata: member.metadata(&classic.protocol),
                assignment: member.assignment.clone(),
            };
            let members = classic.members.iter().map(unread).collect();
            return Ok(Some(ConsumerTold::Read { generation, members }));
        };
        let epoch = GroupEpoch(generation.0);
        let members = self.upgraded(classic, read, epoch)?;
        for (id, row) in &members {
            self.await_revocation(id, &Holding::default(), &row.held, row.said.rebalance_timeout)?;
        }
        self.state(Event::GroupUpgraded { group: self.id.clone(), epoch, members })?;
        self.rows.remove::<DeadlineRow>(&Timer::Group(self.id.clone()));
        Ok(None)
    }

    fn upgraded(
        &self,
        classic: MembersRow,
        read: &ReadMembers,
        epoch: GroupEpoch,
    ) -> Result<Vec<(MemberId, ConsumerRow)>, Stop> {
        // Who speaks in a form that is not known here can only stay among its like.
        let known = |read: &Option<ReadMember>| read.clone().ok_or(Stop::Refuse(Refusal::GroupNotFound));
        let read: Vec<ReadMember> = read.members.values().map(known).collect::<Result<_, _>>()?;
        let named = read.iter().flat_map(|read| read.assigned.iter().chain(&read.owned));
        let ids = self.ids_of(named.map(|(topic, _)| topic.as_str()).collect())?;
        // A leader should have given each to one, and nothing that another one still owns.
        let mut taken = BTreeSet::new();
        let mut members = Vec::with_capacity(classic.members.len());
        for ((id, member), read) in classic.members.into_iter().zip(&read) {
            let assigned = of_names(&ids, &read.assigned).filter(|partition| taken.insert(*partition));
            let assigned: BTreeSet<PartitionId> = assigned.collect();
            let said = said(member, read.topics.clone());
            let revoking = of_names(&ids, &read.owned).filter(|partition| taken.insert(*partition));
            let revoking = revoking.collect();
            let mut held = Holding { epoch, previous: epoch, assigned: assigned.clone(), revoking };
            if mutated(Mutant::UpgradeHoldsNothing) {
                held.assigned.clear();
            }
            members.push((id, ConsumerRow { said: Box::new(said), target: assigned, held }));
        }
        Ok(members)
    }

    /// U4: whether only members of the classic protocol are left without these.
    pub(super) fn is_classic_without(&self, gone: &[MemberId]) -> Result<bool, Need> {
        let everybody = self.everybody()?;
        let mut left = everybody.into_iter().filter(|(id, _)| !gone.contains(id)).peekable();
        Ok(left.peek().is_some() && left.all(|(_, row)| row.said.is_classic()))
    }

    /// U5: the member whose place `join` takes, if it is the last one of the consumer protocol.
    fn last_of_its_protocol(&self, join: &JoinGroup) -> Result<Option<MemberId>, Need> {
        let (Some(instance), true) = (&join.joiner.instance, join.member.is_empty()) else { return Ok(None) };
        let Some(bearer) = self.bearer(instance)? else { return Ok(None) };
        // Somebody is of the consumer protocol (U4): the bearer, if nobody else is.
        let others = self.everybody()?.into_iter().filter(|(id, _)| **id != bearer);
        let last = others.map(|(_, row)| row).all(|row| row.said.is_classic());
        let fits = join.consumes.is_some() && self.shares_protocol(join)?;
        Ok(Some(bearer).filter(|_| last && fits))
    }

    /// U4: the group is a classic one from now on, without these members. The others form its next generation.
    pub(super) fn downgrade(&mut self, generation: Generation, gone: &[MemberId]) -> Result<(), Need> {
        let left = self.everybody()?.into_iter().filter(|(id, _)| !gone.contains(id));
        let members: Vec<(MemberId, Member)> =
            left.filter_map(|(id, row)| Some((id.clone(), as_classic(row)?))).collect();
        let everybody: Vec<&Member> = members.iter().map(|(_, member)| member).collect();
        let protocol = rebalance::select_protocol(&everybody).unwrap_or_default();
        let leader = members.first().map_or_else(|| MemberId::new(""), |(id, _)| id.clone());
        let live = !members.is_empty();
        for (id, _) in &members {
            self.rows.remove::<DeadlineRow>(&Timer::Revocation(self.key(id)));
        }
        self.rows.remove::<TopicsSeenRow>(self.id);
        self.state(Event::GroupDowngraded { group: self.id.clone(), generation, protocol, leader, members })?;
        if live {
            Group::new(self.rows, self.now, self.id)?
                .begin_rebalance(None, RebalanceCause::ProtocolChanged)?;
        }
        Ok(())
    }
}

/// Partitions by name, as far as there are topics of these names.
pub(super) fn of_names<'n>(
    ids: &BTreeMap<&'n str, TopicId>,
    named: &'n [(String, Vec<PartitionIndex>)],
) -> impl Iterator<Item = PartitionId> {
    let known = named.iter().filter_map(|(name, indexes)| Some((*ids.get(name.as_str())?, indexes)));
    known.flat_map(|(id, indexes)| indexes.iter().map(move |index| PartitionId::new(id, *index)))
}

/// What a member of the classic protocol that subscribes to these topics is in a group of this one.
pub(super) fn said(member: Member, topics: BTreeSet<String>) -> Subscription {
    Subscription {
        instance: member.instance,
        rack: None,
        client_id: member.client_id,
        client_host: member.client_host,
        session_timeout: member.session_timeout,
        rebalance_timeout: member.rebalance_timeout,
        topics,
        pattern: None,
        assignor: None,
        speaks: Speaks::Classic { protocols: member.protocols },
    }
}

/// The other way round.
fn as_classic(row: &ConsumerRow) -> Option<Member> {
    let said = row.said.as_ref();
    let Speaks::Classic { protocols } = &said.speaks else { return None };
    Some(Member {
        instance: said.instance.clone(),
        client_id: said.client_id.clone(),
        client_host: said.client_host.clone(),
        session_timeout: said.session_timeout,
        rebalance_timeout: said.rebalance_timeout,
        protocols: protocols.clone(),
        // The next generation's leader assigns anew.
        assignment: Bytes::new(),
    })
}
