//! Measuring: a window of time, latencies in it, and what the processes used.

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Latencies above this count as this much, in microseconds.
const LATENCY_MAX: u64 = 600_000_000;
/// The unit in which a file says what it takes of the disk, in bytes (POSIX `st_blocks`, as Linux has it).
const DISK_BLOCK: u64 = 512;

/// Latencies, in microseconds, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// The figures of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constants, and a test makes one")]
    pub(super) fn new() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("1 < LATENCY_MAX, and 3 is at most 5"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX);
        self.0.saturating_record(micros.clamp(1, LATENCY_MAX));
    }

    pub(super) fn merge(&mut self, other: &Latencies) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        Percentiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: millis(self.0.value_at_quantile(0.5)),
            p99_ms: millis(self.0.value_at_quantile(0.99)),
            p999_ms: millis(self.0.value_at_quantile(0.999)),
            max_ms: millis(self.0.max()),
        }
    }
}

/// The time that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) end: Instant,
}

impl Window {
    pub(super) fn after(warmup: Duration, duration: Duration) -> Window {
        let start = Instant::now() + warmup;
        Window { start, end: start + duration }
    }

    pub(super) fn contains(&self, at: Instant) -> bool {
        self.start <= at && at < self.end
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.start).as_secs_f64()
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// Reads a process's usage where the system tells it (Linux).
fn usage(pid: &str) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = u32::try_from(number(11)? + number(12)?).ok()?;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    Some(Usage {
        cpu_seconds: f64::from(ticks) / f64::from(per_second.max(1)),
        resident_bytes: number(21)?.saturating_mul(page),
    })
}

/// What a process uses of memory.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    Some(usage(&pid.to_string())?.resident_bytes)
}

/// What a process has written to disks so far.
pub(super) fn written_bytes(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok())
}

/// What the files below a directory take of the disk; those that vanish meanwhile take nothing.
pub(super) fn disk_bytes(dir: &Path) -> Option<u64> {
    let of_entry = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let inside = if metadata.is_dir() { disk_bytes(&entry.path())? } else { 0 };
        Some(inside + metadata.blocks() * DISK_BLOCK)
    };
    Some(std::fs::read_dir(dir).ok()?.flatten().filter_map(of_entry).sum())
}

/// What the two sides used in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cost {
    pub(super) client_cpu_s: Option<f64>,
    pub(super) broker_cpu_s: Option<f64>,
    pub(super) broker_resident_bytes: Option<u64>,
}

/// Measures the cost of a window. To be spawned before it starts.
pub(super) async fn cost(window: Window, broker: Option<u32>) -> Cost {
    let of_broker = || broker.and_then(|pid| usage(&pid.to_string()));
    tokio::time::sleep_until(window.start.into()).await;
    let (client_before, broker_before) = (usage("self"), of_broker());
    tokio::time::sleep_until(window.end.into()).await;
    cost_between((client_before, usage("self")), (broker_before, of_broker()))
}

/// A measurement of cost that ends when its maker says so.
pub(super) struct RunningCost {
    broker: Option<u32>,
    before: (Option<Usage>, Option<Usage>),
}

impl RunningCost {
    pub(super) fn start(broker: Option<u32>) -> RunningCost {
        let of_broker = broker.and_then(|pid| usage(&pid.to_string()));
        RunningCost { broker, before: (usage("self"), of_broker) }
    }

    pub(super) fn stop(self) -> Cost {
        let of_broker = self.broker.and_then(|pid| usage(&pid.to_string()));
        cost_between((self.before.0, usage("self")), (self.before.1, of_broker))
    }
}

type Both = (Option<Usage>, Option<Usage>);

fn cost_between(client: Both, broker: Both) -> Cost {
    let cpu = |(before, after): Both| Some(after?.cpu_seconds - before?.cpu_seconds);
    Cost {
        client_cpu_s: cpu(client),
        broker_cpu_s: cpu(broker),
        broker_resident_bytes: broker.1.map(|usage| usage.resident_bytes),
    }
}

/// A progress bar on a terminal, nothing elsewhere.
pub(super) fn progress(window: Window, wanted: bool) -> Option<tokio::task::JoinHandle<()>> {
    if !wanted || !std::io::stderr().is_terminal() {
        return None;
    }
    Some(tokio::spawn(async move {
        let begun = Instant::now();
        let whole = window.end.saturating_duration_since(begun);
        let bar = ProgressBar::new(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{msg:9} {bar:40.cyan} {percent:>3} %") {
            bar.set_style(style);
        }
        while !window.is_over() {
            bar.set_message(if window.contains(Instant::now()) { "measuring" } else { "warming up" });
            bar.set_position(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bar.finish_and_clear();
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_summed_up() {
        let mut one = Latencies::new();
        (1..=1000).for_each(|millis| one.record(Duration::from_millis(millis)));
        let mut other = Latencies::new();
        other.record(Duration::from_secs(100_000));
        one.merge(&other);
        let found = one.percentiles();
        assert_eq!(found.count, 1001);
        assert!((found.p50_ms - 501.0).abs() < 1.0, "{found:?}");
        assert!((found.p99_ms - 991.0).abs() < 1.5, "{found:?}");
        assert!((found.max_ms - 600_000.0).abs() < 600.0, "{found:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_used_something() {
        let before = usage("self").unwrap();
        assert!(before.resident_bytes > 1 << 20, "{before:?}");
        let cost = RunningCost::start(Some(std::process::id())).stop();
        assert!(
            cost.client_cpu_s.unwrap() >= 0.0 && cost.broker_resident_bytes.unwrap() > 1 << 20,
            "{cost:?}"
        );
    }
}
