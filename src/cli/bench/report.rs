//! What a measurement found, for people and for programs.

use super::super::output::{bytes_text, time_text};
use super::BenchArgs;
use super::measure::{Cost, Percentiles};
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// What a measurement found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What was measured: produce, consume, txn.
    pub(super) measured: &'static str,
    pub(super) bootstrap: String,
    /// The parameters, in words.
    pub(super) conditions: String,
    pub(super) seconds: f64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) records_per_s: f64,
    pub(super) megabytes_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transactions_per_s: Option<f64>,
    #[serde(flatten)]
    pub(super) cost: Cost,
    pub(super) client_cpu_s_per_gb: Option<f64>,
    pub(super) broker_cpu_s_per_gb: Option<f64>,
    /// Distributions by name.
    pub(super) latencies: Vec<Distribution>,
}

/// A named distribution.
#[derive(Debug, Serialize)]
pub(super) struct Distribution {
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) percentiles: Percentiles,
}

/// How much went through in how long.
pub(super) struct Volume {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) transactions: Option<u64>,
}

/// Numbers this small lose nothing.
#[expect(clippy::cast_precision_loss, reason = "a figure for people: 52 bits are enough")]
pub(super) fn real(number: u64) -> f64 {
    number as f64
}

impl Report {
    pub(super) fn new(
        measured: &'static str,
        arguments: &BenchArgs,
        conditions: String,
        volume: &Volume,
        cost: Cost,
        latencies: Vec<Distribution>,
    ) -> Report {
        let seconds = volume.seconds.max(f64::EPSILON);
        let gigabytes = real(volume.bytes) / 1e9;
        let per_gigabyte = |cpu: Option<f64>| cpu.filter(|_| gigabytes > 0.0).map(|cpu| cpu / gigabytes);
        let bootstrap: Vec<_> = arguments.connect.bootstrap.iter().map(ToString::to_string).collect();
        Report {
            measured,
            bootstrap: bootstrap.join(","),
            conditions,
            seconds: volume.seconds,
            records: volume.records,
            bytes: volume.bytes,
            records_per_s: real(volume.records) / seconds,
            megabytes_per_s: real(volume.bytes) / 1e6 / seconds,
            transactions_per_s: volume.transactions.map(|transactions| real(transactions) / seconds),
            cost,
            client_cpu_s_per_gb: per_gigabyte(cost.client_cpu_s),
            broker_cpu_s_per_gb: per_gigabyte(cost.broker_cpu_s),
            latencies,
        }
    }

    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        writeln!(out, "{} at {}: {}", self.measured, self.bootstrap, self.conditions)?;
        if let Some(transactions) = self.transactions_per_s {
            writeln!(out, "  transactions    {transactions:.0}/s")?;
        }
        let rate = bytes_text(self.megabytes_per_s * 1e6);
        let (records, seconds) = (self.records_per_s, self.seconds);
        writeln!(out, "  throughput      {rate}/s, {records:.0} records/s, for {seconds:.1} s")?;
        for Distribution { name, percentiles: found } in &self.latencies {
            let time = |millis: f64| time_text(Duration::from_secs_f64(millis / 1000.0));
            let [p50, p99, p999, max] = [found.p50_ms, found.p99_ms, found.p999_ms, found.max_ms].map(time);
            writeln!(out, "  {name:15} p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")?;
        }
        let cpu = |name: &str, cpu: Option<f64>, per_gigabyte: Option<f64>| {
            let per = per_gigabyte.map_or_else(String::new, |per| format!(", {per:.2} s per GB"));
            cpu.map(|cpu| format!("  {name:15} {cpu:.2} s{per}"))
        };
        let client = cpu("client CPU", self.cost.client_cpu_s, self.client_cpu_s_per_gb);
        let broker = cpu("broker CPU", self.cost.broker_cpu_s, self.broker_cpu_s_per_gb);
        for line in client.into_iter().chain(broker) {
            writeln!(out, "{line}")?;
        }
        if let Some(resident) = self.cost.broker_resident_bytes {
            writeln!(out, "  broker memory   {}", bytes_text(real(resident)))?;
        }
        Ok(())
    }
}
