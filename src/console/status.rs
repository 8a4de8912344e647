//! The state of the broker in one document, for `semel status`: from the same numbers as the metrics.

use super::survey::{STATES, Survey};
use super::{Console, VERSION, process};
use crate::net::Budget;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Groups that are listed, the most lagging ones, and those that rebalanced last: one screen.
const GROUPS_LISTED: usize = 5;

impl Console {
    /// Everything a person asks first.
    pub(super) fn status(&self, survey: &Survey) -> Value {
        let parts = &self.0;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let process = process::Process::look(parts.port.get().copied());
        let memory = |budget| json!({ "reserved_bytes": parts.budgets.in_use(budget), "budget_bytes": parts.budgets.capacity(budget) });
        json!({
            "version": VERSION,
            "serving": self.obstacle().is_none(),
            "obstacle": self.obstacle(),
            "started": process::started(),
            "serving_for_seconds": now - process::started(),
            "resident_bytes": process.resident_bytes,
            "connections": parts.net.connections(),
            "memory": {
                "produce": memory(Budget::Produce),
                "fetch": memory(Budget::Fetch),
                "control": memory(Budget::Control),
            },
            "log": self.log_status(),
            "disk": self.disk_status(),
            "topics": survey.topics,
            "partitions": survey.partitions,
            "transactions": transactions(survey),
            "groups": self.groups(survey),
            "complete": survey.complete,
        })
    }

    fn log_status(&self) -> Value {
        let metrics = self.0.shard.metrics();
        let space = metrics.space();
        let [applied, durable, decided] = metrics.blocks();
        let (write_p50, write_p99) = (metrics.write_quantile(0.5), metrics.write_quantile(0.99));
        json!({
            "block_applied": applied,
            "block_durable": durable,
            "block_decided": decided,
            "backlog_rows": metrics.backlog_rows(),
            "write_seconds_p50_at_most": write_p50,
            "write_seconds_p99_at_most": write_p99,
            "bytes": space.bytes.get(),
            "dead_bytes": space.bytes.get().saturating_sub(space.live_bytes.get()),
            "snapshot_age_seconds": space.snapshot_age_ms.get() / 1000,
        })
    }

    fn disk_status(&self) -> Value {
        let space = self.0.shard.metrics().space();
        json!({
            "free_bytes": space.free_bytes.get(),
            "reserve_bytes": space.reserve_bytes.get(),
            "short": self.0.shard.space_is_short(),
        })
    }

    fn groups(&self, survey: &Survey) -> Value {
        let states: serde_json::Map<String, Value> = STATES
            .iter()
            .zip(survey.groups.states)
            .map(|(state, count)| ((*state).to_owned(), count.into()))
            .collect();
        let lagging = survey.groups.named.iter().take(GROUPS_LISTED);
        let lagging = lagging.map(|group| {
            json!({
                "group": group.name,
                "lag": group.lag.unwrap_or(0),
                "members": group.members,
                "state": group.state,
            })
        });
        let rebalanced = self.0.shard.metrics().rebalancers().into_iter().take(GROUPS_LISTED);
        let rebalanced = rebalanced.map(|one| {
            json!({
                "group": one.group.as_str(),
                "cause": one.cause.name(),
                "age_seconds": one.at.elapsed().as_secs_f64(),
                "times": one.times.iter().sum::<u64>(),
            })
        });
        json!({
            "states": states,
            "rebalancing": self.0.shard.metrics().groups_rebalancing(),
            "most_lagging": lagging.collect::<Vec<_>>(),
            "last_rebalanced": rebalanced.collect::<Vec<_>>(),
        })
    }
}

fn transactions(survey: &Survey) -> Value {
    let in_doubt = survey.in_doubt.iter().map(|transaction| {
        json!({
            "transactional_id": transaction.transactional_id,
            "age_seconds": transaction.age.as_secs_f64(),
        })
    });
    let blockers = survey.blockers.iter().map(|blocker| {
        json!({
            "topic": blocker.topic,
            "partition": blocker.partition,
            "held_at": blocker.offset.0,
            "transactional_id": blocker.transactional_id,
            "producer_id": blocker.producer.0,
            "prepared": blocker.prepared,
            "age_seconds": blocker.age.as_secs_f64(),
        })
    });
    json!({
        "ongoing": survey.ongoing.count,
        "ongoing_oldest_seconds": survey.ongoing.oldest.as_secs_f64(),
        "prepared": survey.prepared.count,
        "in_doubt": in_doubt.collect::<Vec<_>>(),
        "blocked_partitions": survey.blocked,
        "blockers": blockers.collect::<Vec<_>>(),
    })
}
