//! What the system says of this process. What it does not say is left out.

use crate::metrics::{Exposition, Family, Unit};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// When the process began to serve.
static STARTED: LazyLock<f64> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));

/// Notes that the process begins to serve now.
pub(super) fn start() {
    LazyLock::force(&STARTED);
}

/// When the process began to serve, in seconds since the Unix epoch.
pub(super) fn started() -> f64 {
    *STARTED
}

/// What the system says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
    pub(super) written_bytes: Option<u64>,
    pub(super) udp_dropped: Option<u64>,
}

impl Process {
    /// As it is now; `port` is the one that is listened on.
    pub(super) fn look(port: Option<u16>) -> Process {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program, in brackets, may hold anything.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "seconds are told as a floating-point number")]
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Process {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            threads: field(20),
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            open_files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            written_bytes: fs::read_to_string("/proc/self/io").ok().and_then(|io| {
                let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
                line.trim().parse().ok()
            }),
            udp_dropped: port.map(udp_dropped),
        }
    }
}

/// Packets that the system dropped because a socket on this port was not read fast enough.
fn udp_dropped(port: u16) -> u64 {
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
    tables
        .iter()
        .map(|table| dropped_in(&fs::read_to_string(Path::new(table)).unwrap_or_default(), port))
        .sum()
}

fn dropped_in(table: &str, port: u16) -> u64 {
    let ours = format!(":{port:04X}");
    let rows = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        columns.nth(1).filter(|local| local.ends_with(&ours))?;
        columns.next_back()?.parse::<u64>().ok()
    });
    rows.sum()
}

/// Writes it, under the names that Prometheus' own clients use where they have one.
pub(super) fn write(out: &mut Exposition, port: Option<u16>) {
    static START: Family = Family::gauge(
        "process_start_time_seconds",
        Unit::Seconds,
        "When the process began to serve, since the Unix epoch.",
    );
    static CPU: Family =
        Family::counter("process_cpu_seconds", Unit::Seconds, "Processor time of the process.");
    static RESIDENT: Family =
        Family::gauge("process_resident_memory_bytes", Unit::Bytes, "Memory of the process that is in RAM.");
    static THREADS: Family = Family::gauge("process_threads", Unit::None, "Threads of the process.");
    static FILES: Family =
        Family::gauge("process_open_fds", Unit::None, "Files and sockets that the process has open.");
    static FILES_MAX: Family =
        Family::gauge("process_max_fds", Unit::None, "Files and sockets that it may have open.");
    static WRITTEN: Family = Family::counter(
        "process_written_bytes",
        Unit::Bytes,
        "Bytes that the process has caused to be written to disks; over semel_appended_bytes this is the write amplification.",
    );
    static DROPPED: Family = Family::counter(
        "semel_net_udp_dropped_packets",
        Unit::None,
        "QUIC packets that the system dropped because the socket's buffer was full.",
    );
    let process = Process::look(port);
    out.family(&START).number(&[], started());
    let mut samples = out.family(&CPU);
    process.cpu_seconds.into_iter().for_each(|seconds| samples.number(&[], seconds));
    for (family, value) in [
        (&RESIDENT, process.resident_bytes),
        (&THREADS, process.threads),
        (&FILES, process.open_files),
        (&FILES_MAX, process.open_files_max),
        (&WRITTEN, process.written_bytes),
        (&DROPPED, process.udp_dropped),
    ] {
        let mut samples = out.family(family);
        value.into_iter().for_each(|value| samples.value(&[], value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_says_all_of_it() {
        let process = Process::look(Some(1));
        assert!(process.cpu_seconds.is_some_and(|seconds| seconds < 1e6), "{process:?}");
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        assert!(process.threads.is_some_and(|threads| (1..10_000).contains(&threads)), "{process:?}");
        assert!(process.open_files.is_some_and(|files| files > 2), "{process:?}");
        assert!(process.open_files_max.is_some(), "{process:?}");
    }

    #[test]
    fn drops_are_those_of_our_port() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  341: 0100007F:2384 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 12345 2 0000000000000000 17
  342: 0100007F:2385 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 12346 2 0000000000000000 4
";
        assert_eq!(dropped_in(table, 0x2384), 17);
        assert_eq!(dropped_in(table, 9), 0);
    }
}
