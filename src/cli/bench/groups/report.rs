//! What was found.

use super::super::measure::{Cost, Percentiles};
use super::super::report::real;
use crate::cli::output::{bytes_text, time_text};
use serde::Serialize;
use std::io::{self, Write as _};
use std::time::Duration;

#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) measured: &'static str,
    /// The parameters, in words.
    pub(super) conditions: String,
    /// From the first join until a group was stable for its members, of all groups: the last one is the greatest.
    pub(super) stable: Percentiles,
    pub(super) heartbeat_alone: Percentiles,
    pub(super) heartbeat_beside: Percentiles,
    /// From send to acknowledgement, one in flight: before the members came,
    pub(super) produce_alone: Percentiles,
    /// and while they beat.
    pub(super) produce_beside: Percentiles,
    /// How often members had to join again after all groups were stable.
    pub(super) rejoined: u64,
    /// How long each count took.
    pub(super) seconds: f64,
    /// Of the count without a producer.
    #[serde(flatten)]
    pub(super) cost: Cost,
    pub(super) resident_before_bytes: Option<u64>,
    pub(super) resident_connected_bytes: Option<u64>,
    pub(super) resident_stable_bytes: Option<u64>,
}

impl Found {
    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        writeln!(out, "{}", self.conditions)?;
        let millis = |millis: f64| time_text(Duration::from_secs_f64(millis / 1000.0));
        let stable = self.stable;
        writeln!(
            out,
            "  all groups stable         {} after the first join (half of them {})",
            millis(stable.max_ms),
            millis(stable.p50_ms)
        )?;
        for (name, found) in [
            ("heartbeat alone", self.heartbeat_alone),
            ("heartbeat, producing", self.heartbeat_beside),
            ("produce alone", self.produce_alone),
            ("produce, members beating", self.produce_beside),
        ] {
            let [p50, p99, p999, max] = [found.p50_ms, found.p99_ms, found.p999_ms, found.max_ms].map(millis);
            let rate = real(found.count) / self.seconds.max(f64::EPSILON);
            writeln!(out, "  {name:25} p50 {p50}, p99 {p99}, p99.9 {p999}, max {max} ({rate:.0}/s)")?;
        }
        writeln!(out, "  joined again              {} times after that", self.rejoined)?;
        let share = |cpu: f64| cpu / self.seconds.max(f64::EPSILON) * 100.0;
        for (name, cpu) in [("client", self.cost.client_cpu_s), ("broker", self.cost.broker_cpu_s)] {
            if let Some(cpu) = cpu {
                writeln!(
                    out,
                    "  {name} CPU                {:.0} % of a processor, heartbeats alone",
                    share(cpu)
                )?;
            }
        }
        let resident =
            [self.resident_before_bytes, self.resident_connected_bytes, self.resident_stable_bytes];
        if let [Some(before), Some(connected), Some(stable)] =
            resident.map(|bytes| bytes.map(|bytes| bytes_text(real(bytes))))
        {
            writeln!(
                out,
                "  broker memory             {before}, with all connections {connected}, stable {stable}"
            )?;
        }
        Ok(())
    }
}
