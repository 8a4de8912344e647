//! What a survey of the rows has found, as metrics.

use super::survey::{Blocker, STATES, Survey, Topic};
use crate::metrics::{Exposition, Family, Unit};

impl Survey {
    pub(super) fn write(&self, out: &mut Exposition) {
        static TOOK: Family = Family::gauge(
            "semel_survey_seconds",
            Unit::Seconds,
            "Time that the last look at the rows took, from which the numbers of topics, transactions and groups are.",
        );
        static COMPLETE: Family = Family::gauge(
            "semel_survey_complete",
            Unit::None,
            "1 if that look saw everything, 0 if there was more than it may look at.",
        );
        out.family(&TOOK).number(&[], self.took.as_secs_f64());
        out.family(&COMPLETE).value(&[], self.complete.into());
        self.write_topics(out);
        self.write_transactions(out);
        self.write_blockers(out);
        self.write_groups(out);
    }

    fn write_topics(&self, out: &mut Exposition) {
        static TOPICS: Family = Family::gauge("semel_topics", Unit::None, "Topics.");
        static PARTITIONS: Family =
            Family::gauge("semel_partitions", Unit::None, "Partitions of all topics.");
        static BYTES: Family = Family::gauge(
            "semel_topic_bytes",
            Unit::Bytes,
            "Bytes of a topic that can be read; for the largest topics.",
        )
        .by(&["topic"]);
        static ENDS: Family = Family::gauge(
            "semel_topic_high_watermarks",
            Unit::None,
            "The sum of the high watermarks of a topic's partitions: it grows with each record and marker.",
        )
        .by(&["topic"]);
        static UNSTABLE: Family = Family::gauge(
            "semel_topic_unstable_offsets",
            Unit::None,
            "Offsets of a topic between last stable offset and high watermark: readers of committed records wait for them.",
        )
        .by(&["topic"]);
        static OTHERS: Family = Family::gauge(
            "semel_topics_not_named",
            Unit::None,
            "Topics beyond the largest, which are not told of one by one.",
        );
        static OTHERS_BYTES: Family =
            Family::gauge("semel_topics_not_named_bytes", Unit::Bytes, "Bytes of those topics.");
        out.family(&TOPICS).value(&[], self.topics);
        out.family(&PARTITIONS).value(&[], self.partitions);
        let mut each = |family: &'static Family, value: fn(&Topic) -> u64| {
            let mut samples = out.family(family);
            for topic in &self.named_topics {
                samples.value(&[("topic", &topic.name)], value(topic));
            }
        };
        each(&BYTES, |topic| topic.bytes);
        each(&ENDS, |topic| topic.high_watermarks);
        each(&UNSTABLE, |topic| topic.unstable);
        out.family(&OTHERS).value(&[], self.other_topics.count);
        out.family(&OTHERS_BYTES).value(&[], self.other_topics.sum);
    }

    fn write_transactions(&self, out: &mut Exposition) {
        static OPEN: Family = Family::gauge(
            "semel_transactions_open",
            Unit::None,
            "Transactions that have begun and not ended, by state.",
        )
        .by(&["state"]);
        static OLDEST: Family = Family::gauge(
            "semel_transactions_oldest_seconds",
            Unit::Seconds,
            "Age of the oldest of them; 0 if there is none.",
        )
        .by(&["state"]);
        let states = [("ongoing", self.ongoing), ("prepared", self.prepared)];
        let mut samples = out.family(&OPEN);
        for (state, open) in states {
            samples.value(&[("state", state)], open.count);
        }
        let mut samples = out.family(&OLDEST);
        for (state, open) in states {
            samples.number(&[("state", state)], open.oldest.as_secs_f64());
        }
    }

    fn write_blockers(&self, out: &mut Exposition) {
        static BLOCKED: Family = Family::gauge(
            "semel_lso_blocked_partitions",
            Unit::None,
            "Partitions whose last stable offset an open transaction holds back.",
        );
        static BLOCKER: Family = Family::gauge(
            "semel_lso_blocker_seconds",
            Unit::Seconds,
            "Age of the transaction that holds back a partition's last stable offset; for the oldest ones.",
        )
        .by(&["topic", "partition", "transactional_id", "producer_id", "state"]);
        out.family(&BLOCKED).value(&[], self.blocked);
        let mut samples = out.family(&BLOCKER);
        for Blocker { topic, partition, producer, transactional_id, prepared, age, .. } in &self.blockers {
            let labels = [
                ("topic", topic.as_str()),
                ("partition", &partition.to_string()),
                ("transactional_id", transactional_id),
                ("producer_id", &producer.0.to_string()),
                ("state", if *prepared { "prepared" } else { "ongoing" }),
            ];
            samples.number(&labels, age.as_secs_f64());
        }
    }

    fn write_groups(&self, out: &mut Exposition) {
        static GROUPS: Family = Family::gauge(
            "semel_groups",
            Unit::None,
            "Groups that have or had members, by state: of the classic protocol by that of their newest generation, so that those that only add members are Stable here.",
        )
        .by(&["state"]);
        static CONSUMERS: Family = Family::gauge(
            "semel_group_consumers",
            Unit::None,
            "Members of groups of the consumer protocol, whichever protocol they speak.",
        );
        let mut samples = out.family(&GROUPS);
        for (state, count) in STATES.iter().zip(self.groups.states) {
            samples.value(&[("state", state)], count);
        }
        out.family(&CONSUMERS).value(&[], self.groups.consumers);
        self.write_named_groups(out);
        self.write_other_groups(out);
    }

    fn write_named_groups(&self, out: &mut Exposition) {
        static LAG: Family = Family::gauge(
            "semel_group_lag",
            Unit::None,
            "Records between a group's committed offsets and the high watermarks, in all of its partitions; for the most lagging groups, and of these the largest.",
        )
        .by(&["group"]);
        static MEMBERS: Family = Family::gauge(
            "semel_group_members",
            Unit::None,
            "Members of a group, of either protocol; for the same groups.",
        )
        .by(&["group"]);
        static STATE: Family = Family::gauge(
            "semel_group_state",
            Unit::None,
            "1 for the state that a group is in, as in semel_groups, and nothing for the others; for the same groups.",
        )
        .by(&["group", "state"]);
        let named = || self.groups.named.iter().map(|group| (("group", group.name.as_str()), group));
        let mut samples = out.family(&LAG);
        for (label, lag) in named().filter_map(|(label, group)| Some((label, group.lag?))) {
            samples.value(&[label], lag);
        }
        let mut samples = out.family(&MEMBERS);
        for (label, group) in named() {
            samples.value(&[label], group.members);
        }
        let mut samples = out.family(&STATE);
        for (label, state) in named().filter_map(|(label, group)| Some((label, group.state?))) {
            samples.value(&[label, ("state", state)], 1);
        }
    }

    fn write_other_groups(&self, out: &mut Exposition) {
        static OTHERS: Family = Family::gauge(
            "semel_groups_not_named",
            Unit::None,
            "Groups beyond those, which are not told of one by one.",
        );
        static LAG: Family = Family::gauge("semel_groups_not_named_lag", Unit::None, "Lag of those groups.");
        static MEMBERS: Family =
            Family::gauge("semel_groups_not_named_members", Unit::None, "Members of those groups.");
        let others = self.groups.others;
        out.family(&OTHERS).value(&[], others.count);
        out.family(&LAG).value(&[], others.lag);
        out.family(&MEMBERS).value(&[], others.members);
    }
}
