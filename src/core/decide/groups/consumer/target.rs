//! `AssignTarget`: what the members of a group are to have.

use super::assignors::{self, Reader};
use super::heartbeat::Arrival;
use super::{ConsumerGroup, Stop};
use crate::core::commands::{ConsumerHeartbeat, ConsumerTold, GroupLimit, Refusal};
use crate::core::draft::Need;
use crate::core::limits::group_partitions_max;
use crate::core::rows::*;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};

/// A target that has not been stated yet.
pub(super) struct Plan {
    /// What the members' patterns match.
    pub(super) patterns: BTreeMap<String, BTreeSet<TopicId>>,
    /// As of which version of the topics; none if the patterns have still to be looked at.
    pub(super) version: Option<u64>,
    pub(super) assignor: Assignor,
    /// Of every member.
    pub(super) targets: BTreeMap<MemberId, BTreeSet<PartitionId>>,
}

/// A member that is to be assigned something, with its last target.
struct Candidate<'r> {
    said: &'r Subscription,
    target: &'r BTreeSet<PartitionId>,
}

type Candidates<'r> = BTreeMap<&'r MemberId, Candidate<'r>>;

/// What a subscription names: topics, and a pattern.
type Named<'r> = (&'r BTreeSet<String>, Option<&'r String>);

impl ConsumerGroup<'_, '_> {
    /// T1: whether members have come or gone, or topics changed, since the target was made.
    pub(super) fn is_target_old(&self) -> Result<bool, Need> {
        let old = self.row()?.is_none_or(|row| row.target_epoch < row.epoch);
        Ok(old || self.are_topics_new()?)
    }

    fn topics_version(&self) -> Result<u64, Need> {
        Ok(self.rows.get::<TopicsVersionRow>(&())?.map_or(0, |row| row.version))
    }

    fn are_topics_new(&self) -> Result<bool, Need> {
        let seen = self.rows.get::<TopicsSeenRow>(self.id)?.map(|row| row.version);
        Ok(seen != Some(self.topics_version()?))
    }

    /// T5: the patterns that have to be looked at outside before anything can be decided, if there are any.
    pub(super) fn unresolved(
        &self,
        beat: &ConsumerHeartbeat,
        said: &Subscription,
    ) -> Result<Option<ConsumerTold>, Need> {
        let known = self.rows.get::<PatternsRow>(self.id)?;
        let is_known = |pattern: &String| known.is_some_and(|row| row.topics.contains_key(pattern));
        let mut patterns: BTreeSet<String> =
            known.map(|row| row.topics.keys().cloned().collect()).unwrap_or_default();
        let new = said.pattern.as_ref().filter(|pattern| !is_known(pattern));
        let must = new.is_some() || (!patterns.is_empty() && self.are_topics_new()?);
        patterns.extend(new.cloned());
        let found = beat.resolved.as_ref();
        let all_found = |found: &crate::core::commands::ResolvedPatterns| {
            patterns.iter().all(|pattern| found.topics.contains_key(pattern))
        };
        if !must || found.is_some_and(all_found) {
            return Ok(None);
        }
        // Every change of topics changes this row: so the answer waits until whoever looks can see them.
        self.rows.get::<ClusterRow>(&())?;
        Ok(Some(ConsumerTold::Resolve { version: self.topics_version()?, patterns }))
    }

    /// The target with this member as it will be. Refused if the member's subscription (`raises`) makes it too large.
    pub(super) fn plan(
        &self,
        beat: &ConsumerHeartbeat,
        arrival: &Arrival,
        said: &Subscription,
        raises: bool,
    ) -> Result<Plan, Stop> {
        let nothing = BTreeSet::new();
        let candidates = self.candidates(beat, arrival, said, &nothing)?;
        let patterns = self.patterns(beat, &candidates)?;
        let names = self.named_topics(&candidates)?;
        let ids: BTreeSet<TopicId> =
            names.values().copied().chain(patterns.values().flatten().copied()).collect();
        let partitions_max = group_partitions_max(beat.decision_bytes_max);
        let (topics, too_large) = self.partitions(&ids, partitions_max)?;
        let matched: usize = patterns.values().map(BTreeSet::len).sum();
        if raises && (too_large || matched > partitions_max) {
            return Err(Refusal::GroupFull(GroupLimit::Partitions).into());
        }
        let of_subscription = |said: &Subscription| -> BTreeSet<TopicId> {
            let by_name = said.topics.iter().filter_map(|name| names.get(name.as_str()).copied());
            let matched = said.pattern.as_ref().and_then(|pattern| patterns.get(pattern));
            by_name.chain(matched.into_iter().flatten().copied()).collect()
        };
        // Most members subscribe to the same.
        let mut subscriptions: BTreeMap<Named<'_>, BTreeSet<TopicId>> = BTreeMap::new();
        for candidate in candidates.values() {
            let named = named(candidate.said);
            subscriptions.entry(named).or_insert_with(|| of_subscription(candidate.said));
        }
        let mut ordered: Vec<(&MemberId, &Candidate<'_>)> =
            candidates.iter().map(|(id, candidate)| (*id, candidate)).collect();
        // T4: a static member's place does not depend on its member id.
        ordered.sort_by_key(|(id, candidate)| {
            let instance = candidate.said.instance.as_ref();
            (instance.is_none(), instance, *id)
        });
        let reader = |(_, candidate): &(&MemberId, &Candidate<'_>)| {
            let topics = subscriptions.get(&named(candidate.said)).unwrap_or(const { &BTreeSet::new() });
            Reader { topics: topics.clone(), target: candidate.target.clone() }
        };
        let readers: Vec<Reader> = ordered.iter().map(reader).collect();
        let assignor = preferred(&candidates);
        let given = assignors::assign(assignor, &topics, &readers);
        let targets = ordered.iter().map(|(id, _)| (*id).clone()).zip(given).collect();
        let version = match (patterns.is_empty(), &beat.resolved) {
            // What was looked at outside may be older than what is known here.
            (false, Some(resolved)) => Some(resolved.version),
            (false, None) => self.rows.get::<TopicsSeenRow>(self.id)?.map(|row| row.version),
            (true, _) => Some(self.topics_version()?),
        };
        Ok(Plan { patterns, version, assignor, targets })
    }

    fn candidates<'r>(
        &'r self,
        beat: &'r ConsumerHeartbeat,
        arrival: &Arrival,
        said: &'r Subscription,
        nothing: &'r BTreeSet<PartitionId>,
    ) -> Result<Candidates<'r>, Need> {
        let everybody = self.everybody()?.into_iter();
        let mut candidates: Candidates<'r> =
            everybody.map(|(id, row)| (id, Candidate { said: &row.said, target: &row.target })).collect();
        let before = match arrival {
            Arrival::Successor { former } => candidates.remove(former),
            _ => candidates.remove(&beat.member),
        };
        let target = before.map_or(nothing, |before| before.target);
        candidates.insert(&beat.member, Candidate { said, target });
        Ok(candidates)
    }

    /// What the patterns match that somebody subscribes with.
    fn patterns(
        &self,
        beat: &ConsumerHeartbeat,
        candidates: &Candidates<'_>,
    ) -> Result<BTreeMap<String, BTreeSet<TopicId>>, Need> {
        let known = self.rows.get::<PatternsRow>(self.id)?.map(|row| &row.topics);
        let found = beat.resolved.as_ref().map(|resolved| &resolved.topics);
        let mut left = group_partitions_max(beat.decision_bytes_max) + 1;
        let mut patterns = BTreeMap::new();
        for pattern in candidates.values().filter_map(|candidate| candidate.said.pattern.as_ref()) {
            if patterns.contains_key(pattern) {
                continue;
            }
            let topics = found.and_then(|found| found.get(pattern));
            let topics = topics.or_else(|| known.and_then(|known| known.get(pattern)));
            let topics: BTreeSet<TopicId> = topics.into_iter().flatten().copied().take(left).collect();
            left -= topics.len();
            patterns.insert(pattern.clone(), topics);
        }
        Ok(patterns)
    }

    /// The topics that are subscribed to by name, as far as there are any of these names.
    fn named_topics<'r>(
        &self,
        candidates: &BTreeMap<&'r MemberId, Candidate<'r>>,
    ) -> Result<BTreeMap<&'r str, TopicId>, Need> {
        let distinct: BTreeSet<&'r BTreeSet<String>> =
            candidates.values().map(|candidate| &candidate.said.topics).collect();
        self.ids_of(distinct.into_iter().flatten().map(String::as_str).collect())
    }

    /// The topics of these names, as far as there are any.
    pub(super) fn ids_of<'n>(&self, names: BTreeSet<&'n str>) -> Result<BTreeMap<&'n str, TopicId>, Need> {
        let keys: Vec<(&'n str, TopicName)> =
            names.into_iter().filter_map(|name| TopicName::new(name).ok().map(|key| (name, key))).collect();
        self.rows.require(keys.iter().map(|(_, key)| TopicNameRow::key(key)))?;
        let mut topics = BTreeMap::new();
        for (name, key) in keys {
            topics.extend(self.rows.get::<TopicNameRow>(&key)?.map(|row| (name, row.id)));
        }
        Ok(topics)
    }

    /// How many partitions these topics have, as far as there is room for them; and whether there is not.
    fn partitions(
        &self,
        ids: &BTreeSet<TopicId>,
        partitions_max: usize,
    ) -> Result<(BTreeMap<TopicId, u32>, bool), Need> {
        self.rows.require(ids.iter().map(TopicRow::key))?;
        let mut left = u32::try_from(partitions_max).unwrap_or(u32::MAX);
        let mut too_large = false;
        let mut topics = BTreeMap::new();
        for id in ids {
            let Some(partitions) = self.rows.get::<TopicRow>(id)?.map(|row| row.partitions) else { continue };
            too_large |= partitions > left;
            let taken = partitions.min(left);
            left -= taken;
            topics.insert(*id, taken);
        }
        Ok((topics, too_large))
    }
}

fn named(said: &Subscription) -> Named<'_> {
    (&said.topics, said.pattern.as_ref())
}

/// T2: the assignor that most members ask for; of several, and if nobody asks, the first.
fn preferred(candidates: &Candidates<'_>) -> Assignor {
    let votes = |assignor: &Assignor| {
        candidates.values().filter(|candidate| candidate.said.assignor == Some(*assignor)).count()
    };
    // Of equals, the last in this order is taken.
    Assignor::ALL.into_iter().rev().max_by_key(votes).unwrap_or(Assignor::Uniform)
}
