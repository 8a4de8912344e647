//! What a shard counts of groups: how many rebalance, and why; by name those that did so last.

use super::count;
use crate::core::RebalanceCause;
use crate::metrics::{Counter, Exposition, Family, Gauge, Unit};
use crate::types::GroupId;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Groups whose rebalances are counted by name: those that rebalanced last. As many as are named with their lag.
const REBALANCERS: usize = 100;

const CAUSES: usize = RebalanceCause::ALL.len();

#[derive(Debug, Default)]
pub(super) struct GroupMetrics {
    pub(super) sessions: Gauge,
    pub(super) rebalancing: Gauge,
    pub(super) generations: Counter,
    /// By cause, as in `RebalanceCause::ALL`.
    rebalances: [Counter; CAUSES],
    /// Who rebalanced last is last. Locked per rebalance and per scrape, for as long as it takes to look through it once.
    last: Mutex<VecDeque<Rebalancer>>,
}

/// A group that has rebalanced.
#[derive(Clone, Debug)]
pub struct Rebalancer {
    /// Its name.
    pub group: GroupId,
    /// How often, by cause, as in [`RebalanceCause::ALL`]: since it is among those that are counted by name.
    pub times: [u64; CAUSES],
    /// Why it did so last.
    pub cause: RebalanceCause,
    /// When.
    pub at: Instant,
}

impl GroupMetrics {
    pub(super) fn rebalanced(&self, group: &GroupId, cause: RebalanceCause) {
        let place = cause as usize;
        count(&self.rebalances, place);
        let at = Instant::now();
        let mut last = self.last();
        let known = last.iter().position(|one| one.group == *group).and_then(|index| last.remove(index));
        if last.len() >= REBALANCERS {
            last.pop_front();
        }
        let mut one =
            known.unwrap_or_else(|| Rebalancer { group: group.clone(), times: [0; CAUSES], cause, at });
        (one.cause, one.at) = (cause, at);
        one.times.iter_mut().skip(place).take(1).for_each(|times| *times += 1);
        last.push_back(one);
    }

    /// The group is gone.
    pub(super) fn forget(&self, group: &GroupId) {
        self.last().retain(|one| one.group != *group);
    }

    pub(super) fn rebalancers(&self) -> Vec<Rebalancer> {
        self.last().iter().rev().cloned().collect()
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<Rebalancer>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        static SESSIONS: Family =
            Family::gauge("semel_group_sessions", Unit::None, "Sessions of members, in all groups together.");
        static REBALANCING: Family =
            Family::gauge("semel_groups_rebalancing", Unit::None, "Groups that form a new generation now.");
        static REBALANCES: Family = Family::counter(
            "semel_group_rebalances",
            Unit::None,
            "Rebalances of groups begun, of either protocol, by cause.",
        )
        .by(&["cause"]);
        static NAMED: Family = Family::counter(
            "semel_named_group_rebalances",
            Unit::None,
            "The same by group, for the groups that rebalanced last: one that comes among them begins at 0.",
        )
        .by(&["group", "cause"]);
        static GENERATIONS: Family =
            Family::counter("semel_group_generations", Unit::None, "Generations of groups formed.");
        out.gauge(&SESSIONS, &self.sessions);
        out.gauge(&REBALANCING, &self.rebalancing);
        let mut samples = out.family(&REBALANCES);
        for (cause, counter) in RebalanceCause::ALL.iter().zip(&self.rebalances) {
            samples.value(&[("cause", cause.name())], counter.get());
        }
        let mut samples = out.family(&NAMED);
        for one in self.rebalancers() {
            let times = RebalanceCause::ALL.iter().zip(one.times).filter(|(_, times)| *times > 0);
            for (cause, times) in times {
                samples.value(&[("group", one.group.as_str()), ("cause", cause.name())], times);
            }
        }
        out.counter(&GENERATIONS, &self.generations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_that_rebalanced_last_are_counted_by_name() {
        let metrics = GroupMetrics::default();
        let group = |number: usize| GroupId::new(&format!("g{number}"));
        for (place, cause) in RebalanceCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place, "{}", cause.name());
            metrics.rebalanced(&group(0), cause);
        }
        metrics.rebalanced(&group(0), RebalanceCause::TopicsChanged);
        let [first] = &metrics.rebalancers()[..] else { panic!("{metrics:?}") };
        assert_eq!(first.times.iter().sum::<u64>(), CAUSES as u64 + 1);
        assert_eq!(
            (first.times[RebalanceCause::TopicsChanged as usize], first.cause.name()),
            (2, "topics_changed")
        );
        for number in 1..REBALANCERS {
            metrics.rebalanced(&group(number), RebalanceCause::MemberJoined);
        }
        // The first one is among them again, at the front; so the next one takes the second's place.
        metrics.rebalanced(&group(0), RebalanceCause::MemberLeft);
        metrics.rebalanced(&group(REBALANCERS), RebalanceCause::MemberJoined);
        let named = metrics.rebalancers();
        assert_eq!(named.len(), REBALANCERS);
        assert_eq!((&named[0].group, &named[1].group), (&group(REBALANCERS), &group(0)));
        assert_eq!(named[1].times.iter().sum::<u64>(), CAUSES as u64 + 2);
        assert!(named.iter().all(|one| one.group != group(1)), "it rebalanced longest ago");
        metrics.forget(&group(0));
        assert_eq!(metrics.rebalancers().len(), REBALANCERS - 1);
        metrics.rebalanced(&group(1), RebalanceCause::MemberLeft);
        assert_eq!(metrics.rebalancers()[0].times.iter().sum::<u64>(), 1, "it begins at 0");
    }
}
