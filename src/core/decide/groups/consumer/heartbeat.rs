//! `ConsumerHeartbeat`: a member joins, goes on, or says that it leaves.

use super::target::Plan;
use super::{ConsumerGroup, Stop, sessions, settled};
use crate::core::commands::{ConsumerHeartbeat, ConsumerTold, GroupLimit, Now, RebalanceCause, Refusal};
use crate::core::decide::groups::check_name;
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::{
    DECISION_OVERHEAD_BYTES, GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, GROUP_PATTERNS_BYTES_MAX,
    GROUP_PATTERNS_MAX, MEMBER_ID_BYTES_MAX, SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_BYTES_MAX,
};
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;

/// Who a heartbeat comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A member that there has not been.
    Newcomer,
    /// A member that joins again: it has given up what it held.
    Again,
    /// A static member, in the place of its former life, which is away; it may have the same member id.
    Successor { former: MemberId },
    /// A member that goes on.
    Known,
}

impl Arrival {
    /// Whether the member holds nothing, whatever its row says.
    fn has_nothing(&self) -> bool {
        *self != Arrival::Known
    }

    /// Why the group epoch grows, if it does.
    fn cause(&self) -> RebalanceCause {
        match self {
            Arrival::Newcomer | Arrival::Again => RebalanceCause::MemberJoined,
            Arrival::Successor { .. } => RebalanceCause::StaticReplaced,
            Arrival::Known => RebalanceCause::SubscriptionChanged,
        }
    }
}

/// `ConsumerHeartbeat`.
pub(in crate::core::decide) fn heartbeat(
    rows: &mut Draft<'_>,
    now: Now,
    beat: &ConsumerHeartbeat,
) -> Result<Result<ConsumerTold, Refusal>, Need> {
    let mut group = ConsumerGroup::new(rows, now, &beat.group)?;
    let told = match beat.epoch {
        GroupEpoch::LEAVE => settled(group.leave(beat)),
        GroupEpoch::AWAY => settled(group.go_away(beat)),
        _ => settled(group.go_on(beat)),
    }?;
    if !matches!(told, Ok(ConsumerTold::Epoch { .. })) {
        // The group may have changed its protocol for a member that is not let in, or not yet.
        rows.take_back();
    }
    Ok(told)
}

impl ConsumerGroup<'_, '_> {
    fn go_on(&mut self, beat: &ConsumerHeartbeat) -> Result<ConsumerTold, Stop> {
        check_name(self.id)?;
        if let Some(read) = self.upgrade(beat)? {
            return Ok(read);
        }
        let arrival = self.arrival(beat)?;
        let former = self.former(beat, &arrival)?;
        let said = said(beat, former.map(|row| &*row.said));
        if let Some(resolve) = self.unresolved(beat, &said)? {
            return Ok(resolve);
        }
        let told = self.proceed(beat, &arrival, said)?;
        self.check_size(beat.decision_bytes_max)?;
        Ok(told)
    }

    /// What has been decided fits into a block.
    pub(super) fn check_size(&self, decision_bytes_max: usize) -> Result<(), Stop> {
        match self.rows.event_bytes() > decision_bytes_max.saturating_sub(DECISION_OVERHEAD_BYTES) {
            true => Err(Refusal::GroupFull(GroupLimit::Decision).into()),
            false => Ok(()),
        }
    }

    /// What there is of the member so far.
    fn former(&self, beat: &ConsumerHeartbeat, arrival: &Arrival) -> Result<Option<&ConsumerRow>, Need> {
        match arrival {
            Arrival::Newcomer => Ok(None),
            Arrival::Successor { former } => self.member(former),
            Arrival::Again | Arrival::Known => self.member(&beat.member),
        }
    }

    /// The member, who says this of itself, comes in or goes on, and takes its next step.
    pub(super) fn proceed(
        &mut self,
        beat: &ConsumerHeartbeat,
        arrival: &Arrival,
        said: Subscription,
    ) -> Result<ConsumerTold, Stop> {
        let former = self.former(beat, arrival)?;
        let same = former.is_some_and(|row| row.said.subscribes_like(&said));
        let raises = !same || matches!(arrival, Arrival::Newcomer | Arrival::Again);
        let news = former.is_none_or(|row| *row.said != said);
        if news {
            self.check_room(beat, arrival, &said)?;
        }
        let plan = match raises || self.is_target_old()? {
            true => Some(self.plan(beat, arrival, &said, raises)?),
            false => None,
        };
        // Nothing is refused from here on, but what becomes too large as a whole.
        let raised = self.row()?.map_or(GroupEpoch::default(), |row| row.epoch).next();
        self.enter(beat, arrival, said, news, raises.then_some(raised))?;
        if let Some(plan) = plan {
            self.assign(plan)?;
        }
        Ok(self.take_step(beat, arrival)?)
    }

    /// C2, C3, C6: who this is.
    fn arrival(&self, beat: &ConsumerHeartbeat) -> Result<Arrival, Stop> {
        match beat.epoch {
            GroupEpoch::JOIN => self.joining(beat),
            _ => self.going_on(beat),
        }
    }

    fn joining(&self, beat: &ConsumerHeartbeat) -> Result<Arrival, Stop> {
        if let Some(instance) = &beat.instance
            && let Some(bearer) = self.bearer(instance)?
        {
            let former = self.member(&bearer)?;
            let is_away = former.is_some_and(|row| row.held.epoch == GroupEpoch::AWAY);
            // A static member of the classic protocol leaves without a word (U9).
            let leaves_silently = former.is_some_and(|row| row.said.is_classic());
            if is_away || leaves_silently {
                return Ok(Arrival::Successor { former: bearer });
            }
            if bearer != beat.member {
                return Err(Refusal::UnreleasedInstance.into());
            }
        }
        Ok(match self.member(&beat.member)?.map(|row| &row.held) {
            None => Arrival::Newcomer,
            // It has never said that it has heard of this: it asks again.
            Some(held) if held.previous == GroupEpoch::JOIN && held.revoking.is_empty() => Arrival::Known,
            Some(_) => Arrival::Again,
        })
    }

    fn going_on(&self, beat: &ConsumerHeartbeat) -> Result<Arrival, Stop> {
        self.check_bearer(beat)?;
        let member = self.member(&beat.member)?.filter(|row| !row.said.is_classic());
        let held = member.map(|row| &row.held).ok_or(Refusal::UnknownMember)?;
        let owns_no_more = beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&held.assigned));
        // Who is away has said so later than that.
        let answer_lost = beat.epoch == held.previous && owns_no_more && held.epoch != GroupEpoch::AWAY;
        if beat.epoch != held.epoch && !answer_lost && !mutated(Mutant::OldMemberEpochGoesOn) {
            return Err(Refusal::FencedMemberEpoch.into());
        }
        Ok(Arrival::Known)
    }

    /// The member bears the instance id that it names, if it names one.
    pub(super) fn check_bearer(&self, beat: &ConsumerHeartbeat) -> Result<(), Stop> {
        let Some(instance) = &beat.instance else { return Ok(()) };
        match self.bearer(instance)? {
            None => Err(Refusal::UnknownMember.into()),
            Some(bearer) if bearer != beat.member => Err(Refusal::FencedInstance.into()),
            Some(_) => Ok(()),
        }
    }

    /// C1: members, their bytes, patterns and sessions are bounded.
    fn check_room(
        &self,
        beat: &ConsumerHeartbeat,
        arrival: &Arrival,
        said: &Subscription,
    ) -> Result<(), Stop> {
        let instance = said.instance.as_ref().map_or(0, |instance| instance.as_str().len());
        if beat.member.as_str().len().max(instance) > MEMBER_ID_BYTES_MAX {
            return Err(Refusal::MemberIdTooLong.into());
        }
        let full = |limit| Err(Refusal::GroupFull(limit).into());
        if said.weight() > SUBSCRIPTION_BYTES_MAX {
            return full(GroupLimit::Subscription);
        }
        let replaced = match arrival {
            Arrival::Newcomer => None,
            Arrival::Successor { former } => Some(former),
            Arrival::Again | Arrival::Known => Some(&beat.member),
        };
        let everybody = self.everybody()?;
        let others = everybody.into_iter().filter(|(id, _)| Some(*id) != replaced);
        let (mut members, mut bytes, mut classic) = (1, said.weight(), said.classic_weight());
        let mut patterns: BTreeSet<&String> = said.pattern.iter().collect();
        for (_, other) in others {
            members += 1;
            bytes = bytes.saturating_add(other.said.weight());
            classic = classic.saturating_add(other.said.classic_weight());
            patterns.extend(&other.said.pattern);
        }
        let pattern_bytes: usize = patterns.iter().map(|pattern| pattern.len()).sum();
        if bytes > SUBSCRIPTIONS_BYTES_MAX {
            return full(GroupLimit::Subscriptions);
        } else if classic > GROUP_METADATA_BYTES_MAX {
            return full(GroupLimit::Metadata);
        } else if patterns.len() > GROUP_PATTERNS_MAX || pattern_bytes > GROUP_PATTERNS_BYTES_MAX {
            return full(GroupLimit::Patterns);
        }
        match *arrival == Arrival::Newcomer {
            true if members > GROUP_MEMBERS_MAX => full(GroupLimit::Members),
            true => sessions::check_room(self.rows, &self.key(&beat.member)),
            false => Ok(()),
        }
    }

    /// The member is one of the group, which is in `epoch` if the member has raised that.
    fn enter(
        &mut self,
        beat: &ConsumerHeartbeat,
        arrival: &Arrival,
        said: Subscription,
        news: bool,
        raised: Option<GroupEpoch>,
    ) -> Result<(), Need> {
        if raised.is_some() {
            self.rows.rebalance(self.id, arrival.cause());
        }
        let (group, member, said) = (self.id.clone(), beat.member.clone(), Box::new(said));
        let mut subscribes = news || raised.is_some();
        if let Arrival::Successor { former } = arrival {
            self.forget_deadlines(former)?;
            let (group, former, member, said) = (group.clone(), former.clone(), member.clone(), said.clone());
            self.state(Event::ConsumerReplaced { group, former, member, said })?;
            subscribes = raised.is_some();
        }
        let epoch = match raised {
            Some(epoch) => epoch,
            None => self.row()?.map(|row| row.epoch).unwrap_or_default(),
        };
        match subscribes {
            true => self.state(Event::ConsumerSubscribed { group, epoch, member, said }),
            false => Ok(()),
        }
    }

    /// K1 to K4: the member's next step towards its target, and what it is told.
    fn take_step(&mut self, beat: &ConsumerHeartbeat, arrival: &Arrival) -> Result<ConsumerTold, Need> {
        let Some(before) = self.member(&beat.member)?.cloned() else {
            // It has just been entered.
            return Ok(ConsumerTold::Epoch { epoch: beat.epoch, assigned: None });
        };
        let start = match arrival {
            Arrival::Newcomer | Arrival::Again => Holding::default(),
            Arrival::Successor { .. } | Arrival::Known => before.held.clone(),
        };
        let nothing = BTreeSet::new();
        let owned = match (arrival.has_nothing(), beat.epoch == GroupEpoch::JOIN) {
            (true, _) => Some(&nothing),
            // That it owns nothing may have been said before it was told of anything.
            (false, true) => None,
            (false, false) => beat.owned.as_ref(),
        };
        let held = self.reconciled(&beat.member, &start, owned)?;
        // What it was told last may not have reached it.
        let owns_others = beat.owned.as_ref().is_some_and(|owned| *owned != held.assigned);
        let told_anew = beat.is_full() || beat.epoch != before.held.epoch || owns_others;
        let assigned = (told_anew || held.assigned != before.held.assigned).then(|| held.assigned.clone());
        let epoch = held.epoch;
        self.await_revocation(&beat.member, &start, &held, before.said.rebalance_timeout)?;
        if held != before.held {
            let (group, member) = (self.id.clone(), beat.member.clone());
            self.state(Event::ConsumerReconciled { group, member, held })?;
        }
        self.keep_session(&beat.member, before.said.session_timeout)?;
        Ok(ConsumerTold::Epoch { epoch, assigned })
    }

    /// States what has been planned.
    fn assign(&mut self, plan: Plan) -> Result<(), Need> {
        let Plan { patterns, version, assignor, targets } = plan;
        if self.rows.get::<PatternsRow>(self.id)?.is_none_or(|row| row.topics != patterns)
            && (!patterns.is_empty() || self.rows.get::<PatternsRow>(self.id)?.is_some())
        {
            self.state(Event::PatternsResolved { group: self.id.clone(), patterns })?;
        }
        let mut changed = Vec::new();
        for (member, target) in targets {
            if self.member(&member)?.is_none_or(|row| row.target != target) {
                changed.push((member, target));
            }
        }
        let Some(row) = self.row()?.cloned() else { return Ok(()) };
        let raised = row.epoch > row.target_epoch;
        if raised || !changed.is_empty() {
            // If only topics have changed, nobody has raised the epoch yet.
            let epoch = if raised { row.epoch } else { row.epoch.next() };
            if !raised {
                self.rows.rebalance(self.id, RebalanceCause::TopicsChanged);
            }
            let group = self.id.clone();
            self.state(Event::TargetAssigned { group, epoch, assignor, targets: changed })?;
        }
        if let Some(version) = version {
            self.rows.put(self.id, TopicsSeenRow { version });
        }
        Ok(())
    }
}

/// C8: what the member says from now on. Who joins says everything; else what is not said stays.
fn said(beat: &ConsumerHeartbeat, former: Option<&Subscription>) -> Subscription {
    let stays = former.filter(|_| beat.epoch != GroupEpoch::JOIN);
    let pattern = match &beat.pattern {
        Some(pattern) => Some(pattern.clone()).filter(|pattern| !pattern.is_empty()),
        None => stays.and_then(|said| said.pattern.clone()),
    };
    Subscription {
        instance: beat.instance.clone().or_else(|| stays.and_then(|said| said.instance.clone())),
        rack: beat.rack.clone().or_else(|| stays.and_then(|said| said.rack.clone())),
        client_id: beat.client_id.clone(),
        client_host: beat.client_host.clone(),
        session_timeout: beat.session_timeout,
        rebalance_timeout: beat
            .rebalance_timeout
            .or_else(|| stays.map(|said| said.rebalance_timeout))
            .unwrap_or_default(),
        topics: beat.topics.clone().or_else(|| stays.map(|said| said.topics.clone())).unwrap_or_default(),
        pattern,
        assignor: beat.assignor.or_else(|| stays.and_then(|said| said.assignor)),
        speaks: Speaks::Consumer,
    }
}
