//! `semel bench retention`: much more is written than is kept, by topics that keep little and topics that keep much and
//! share the log's segments. What a filling broker does is set beside what one does that has to give space back.

use super::super::output::bytes_text;
use super::measure::{Latencies, Percentiles, disk_bytes, resident_bytes, written_bytes};
use super::report::real;
use super::{CliError, RecordArgs, payload, value};
use crate::cli::connect::ConnectArgs;
use crate::client::{
    Admin, Client, Delivery, NewTopic, ProduceError, Producer, ProducerConfig, ProducerRecord,
};
use crate::types::{PartitionIndex, TopicName};
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often disk and memory are looked at.
const SAMPLE: Duration = Duration::from_millis(250);

/// `semel bench retention`.
#[derive(Debug, Args)]
#[command(after_help = "The broker should look for what is past its retention often:\n  \
    semel serve --retention-check-ms 500")]
pub struct RetentionBench {
    /// How much is written in all, in MB
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    write_mb: u64,
    /// How much is kept in all (`retention.bytes`), in MB
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    keep_mb: u64,
    /// How much of what is written goes to the topic of short retention, in percent; it keeps a tenth of the rest's part
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u64).range(0..=99))]
    short_percent: u64,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// MB of records per second [default: as fast as it goes]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// The broker's process on this machine: what it has written to disk, and its memory
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    records: RecordArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// One part of the run.
#[derive(Debug, Serialize)]
struct Phase {
    megabytes_per_s: f64,
    /// From send to acknowledgement, of the load.
    acknowledgement: Percentiles,
    /// The same of a producer with one record in flight, in a topic of its own.
    beside: Percentiles,
    /// Bytes that the broker has written to disk for one byte of records.
    write_amplification: Option<f64>,
    disk_bytes_max: Option<u64>,
    broker_resident_bytes_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Found {
    measured: &'static str,
    written_bytes: u64,
    kept_bytes: u64,
    short_percent: u64,
    /// Until as much is written as is kept: nothing has to be given back.
    filling: Phase,
    /// From then on.
    giving_back: Phase,
}

pub(super) async fn run(arguments: RetentionBench) -> Result<(), CliError> {
    let client = arguments.connect.connect().await?;
    let topics = Topics::create(&client, &arguments).await?;
    let found = measure(&arguments, &topics).await;
    for name in topics.names() {
        Admin::new(&client).delete_topic(name).await?;
    }
    client.close().await;
    Ok(print(&found?, arguments.json)?)
}

/// What is written to.
struct Topics {
    short: TopicName,
    long: TopicName,
    beside: TopicName,
}

impl Topics {
    async fn create(client: &Client, arguments: &RetentionBench) -> Result<Topics, CliError> {
        let name = |part: &str| {
            super::topic_name(&format!("semel-bench-{}-{part}", std::process::id()))
                .map_err(|problem| CliError::usage(problem, "this is a defect"))
        };
        let topics = Topics { short: name("short")?, long: name("long")?, beside: name("beside")? };
        let keep = arguments.keep_mb.saturating_mul(1_000_000);
        let short_keep = if arguments.short_percent == 0 { 0 } else { keep / 10 };
        let admin = Admin::new(client);
        for (name, keep, partitions) in [
            (&topics.short, short_keep, arguments.partitions),
            (&topics.long, keep - short_keep, arguments.partitions),
            (&topics.beside, keep, 1),
        ] {
            let mut topic = NewTopic::new(name.clone(), partitions);
            let each = (keep / u64::from(partitions.unsigned_abs())).max(1);
            topic.configs.insert("retention.bytes".to_owned(), each.to_string());
            admin.create_topic(&topic).await?;
        }
        Ok(topics)
    }

    fn names(&self) -> [&TopicName; 3] {
        [&self.short, &self.long, &self.beside]
    }
}

async fn measure(arguments: &RetentionBench, topics: &Topics) -> Result<Found, CliError> {
    let (keep, all) = (arguments.keep_mb * 1_000_000, arguments.write_mb * 1_000_000);
    let written = Arc::new(AtomicU64::new(0));
    let bar = progress(all, arguments.json);
    let mut load = Load::start(arguments, topics, Arc::clone(&written)).await?;
    let filling = phase(arguments, topics, &mut load, keep.min(all), bar.as_ref()).await?;
    let giving_back = phase(arguments, topics, &mut load, all, bar.as_ref()).await?;
    load.producer.close().await?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(Found {
        measured: "retention",
        written_bytes: written.load(Ordering::Relaxed),
        kept_bytes: keep,
        short_percent: arguments.short_percent,
        filling,
        giving_back,
    })
}

/// Writes until so much is written in all.
async fn phase(
    arguments: &RetentionBench,
    topics: &Topics,
    load: &mut Load,
    until: u64,
    bar: Option<&ProgressBar>,
) -> Result<Phase, CliError> {
    let over = Arc::new(AtomicBool::new(false));
    let client = arguments.connect.connect().await?;
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let beside = Producer::new(&client, config)?;
    let beside = tokio::spawn(one_in_flight(beside, topics.beside.clone(), Arc::clone(&over)));
    // How large it becomes, if the broker is on this machine.
    let data_dir = Some(arguments.connect.data_dir.clone()).filter(|dir| dir.is_dir());
    let watched = (data_dir, arguments.broker_pid);
    let watching = Arc::clone(&over);
    let watch = tokio::task::spawn_blocking(move || watch(watched.0.as_ref(), watched.1, &watching));
    let (begun, before) = (Instant::now(), load.written.load(Ordering::Relaxed));
    let disk_before = arguments.broker_pid.and_then(written_bytes);
    load.latencies = Latencies::new();
    let wrote = load.write(until, bar).await;
    let seconds = begun.elapsed().as_secs_f64();
    let disk_after = arguments.broker_pid.and_then(written_bytes);
    over.store(true, Ordering::Relaxed);
    let beside = beside.await.map_err(io::Error::other)??;
    let watched = watch.await.map_err(io::Error::other)?;
    wrote?;
    client.close().await;
    let bytes = real(load.written.load(Ordering::Relaxed) - before);
    let of_disk = disk_before.zip(disk_after).map(|(before, after)| real(after.saturating_sub(before)));
    Ok(Phase {
        megabytes_per_s: bytes / 1e6 / seconds,
        acknowledgement: load.latencies.percentiles(),
        beside: beside.percentiles(),
        write_amplification: of_disk.map(|of_disk| of_disk / bytes.max(1.0)),
        disk_bytes_max: watched.disk_bytes_max,
        broker_resident_bytes_max: watched.broker_resident_bytes_max,
    })
}

/// The producer that writes most of it.
struct Load {
    producer: Producer,
    // Kept while the producer lives.
    _client: Client,
    short: ProducerRecord,
    long: ProducerRecord,
    short_percent: u64,
    payload: Bytes,
    size: usize,
    rate: Option<u64>,
    begun: Instant,
    index: u64,
    written: Arc<AtomicU64>,
    waiting: VecDeque<(Instant, Delivery)>,
    latencies: Latencies,
}

impl Load {
    async fn start(
        arguments: &RetentionBench,
        topics: &Topics,
        written: Arc<AtomicU64>,
    ) -> Result<Load, CliError> {
        let client = arguments.connect.connect().await?;
        Ok(Load {
            producer: Producer::new(&client, arguments.records.config())?,
            _client: client,
            short: ProducerRecord::new(topics.short.clone(), Bytes::new()),
            long: ProducerRecord::new(topics.long.clone(), Bytes::new()),
            short_percent: arguments.short_percent,
            payload: payload(1),
            size: arguments.records.record_bytes(),
            rate: arguments.rate,
            begun: Instant::now(),
            index: 0,
            written,
            waiting: VecDeque::new(),
            latencies: Latencies::new(),
        })
    }

    async fn write(&mut self, until: u64, bar: Option<&ProgressBar>) -> Result<(), ProduceError> {
        while self.written.load(Ordering::Relaxed) < until {
            // A step of 37 goes through all hundredths, so that the topics take turns.
            let is_short = self.index.wrapping_mul(37) % 100 < self.short_percent;
            let record = if is_short { &self.short } else { &self.long };
            let value = Some(value(&self.payload, self.index, self.size));
            let sent = Instant::now();
            let delivery = self.producer.send(ProducerRecord { value, ..record.clone() }).await?;
            self.waiting.push_back((sent, delivery));
            self.index += 1;
            let written = self.written.fetch_add(self.size as u64, Ordering::Relaxed) + self.size as u64;
            self.count_settled()?;
            if self.index.is_multiple_of(1024) {
                if let Some(bar) = bar {
                    bar.set_position(written);
                }
                self.keep_to_the_rate(written).await;
            }
        }
        self.producer.flush().await?;
        self.count_settled()
    }

    async fn keep_to_the_rate(&self, written: u64) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(real(written) / real(rate.saturating_mul(1_000_000)));
        tokio::time::sleep_until((self.begun + due).into()).await;
    }

    fn count_settled(&mut self) -> Result<(), ProduceError> {
        while let Some((sent, delivery)) = self.waiting.front() {
            let Some((settled, outcome)) = delivery.settled_at().zip(delivery.outcome()) else { break };
            outcome?;
            self.latencies.record(settled.saturating_duration_since(*sent));
            self.waiting.pop_front();
        }
        Ok(())
    }
}

/// A record at a time, for as long as the rest goes on.
async fn one_in_flight(
    producer: Producer,
    topic: TopicName,
    over: Arc<AtomicBool>,
) -> Result<Latencies, ProduceError> {
    let mut latencies = Latencies::new();
    let record = ProducerRecord::new(topic, Bytes::from_static(&[b'x'; 1024])).partition(PartitionIndex(0));
    while !over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        producer.send(record.clone()).await?.wait().await?;
        latencies.record(sent.elapsed());
    }
    producer.close().await?;
    Ok(latencies)
}

#[derive(Default)]
struct Watched {
    disk_bytes_max: Option<u64>,
    broker_resident_bytes_max: Option<u64>,
}

fn watch(dir: Option<&PathBuf>, broker: Option<u32>, over: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    while !over.load(Ordering::Relaxed) {
        watched.disk_bytes_max = watched.disk_bytes_max.max(dir.and_then(|dir| disk_bytes(dir)));
        watched.broker_resident_bytes_max =
            watched.broker_resident_bytes_max.max(broker.and_then(resident_bytes));
        std::thread::sleep(SAMPLE);
    }
    watched
}

fn progress(bytes: u64, json: bool) -> Option<ProgressBar> {
    if json || !io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template("{bar:40.cyan} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    Some(bar)
}

fn print(found: &Found, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{}", serde_json::to_string(found)?);
    }
    let (written, kept) = (real(found.written_bytes), real(found.kept_bytes));
    let (written, kept, short) = (bytes_text(written), bytes_text(kept), found.short_percent);
    writeln!(out, "{written} written, {kept} kept, {short} % of it to a topic of short retention")?;
    for (name, phase) in [("filling", &found.filling), ("giving back", &found.giving_back)] {
        writeln!(out, "{name}: {}/s", bytes_text(phase.megabytes_per_s * 1e6))?;
        for (name, of) in [("acknowledgement", phase.acknowledgement), ("one in flight", phase.beside)] {
            let (p50, p99, p999, max) = (of.p50_ms, of.p99_ms, of.p999_ms, of.max_ms);
            writeln!(
                out,
                "  {name:16} p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.1} ms"
            )?;
        }
        if let Some(amplification) = phase.write_amplification {
            writeln!(out, "  written to disk  {amplification:.2} bytes per byte of records")?;
        }
        if let Some(bytes) = phase.disk_bytes_max {
            writeln!(out, "  data directory   {} at most", bytes_text(real(bytes)))?;
        }
        if let Some(bytes) = phase.broker_resident_bytes_max {
            writeln!(out, "  broker memory    {} at most", bytes_text(real(bytes)))?;
        }
    }
    Ok(())
}
