//! `semel bench produce`.

use super::measure::{Latencies, Window, cost, progress};
use super::report::{Distribution, Report, Volume};
use super::{BenchArgs, BenchTopic, CliError, RecordArgs, SpanArgs, payload, value};
use crate::client::{Client, Delivery, IDEMPOTENCY_KEY_HEADER, ProduceError, Producer, ProducerRecord};
use crate::core::topic_settings::KEY_HEADER;
use bytes::Bytes;
use clap::Args;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// `semel bench produce`.
#[derive(Debug, Args)]
#[command(after_help = "The time of one acknowledgement, with nothing else going on:\n  \
    semel bench produce --outstanding 1 --linger-ms 0 --partitions 1\n\n\
    What idempotency keys cost, beside records that bear them where nobody asks:\n  \
    semel bench produce --record-size 100 --idempotency-keys\n  \
    semel topic create plain -p 6 && semel bench produce --record-size 100 --idempotency-keys --topic plain")]
pub struct ProduceBench {
    /// Producers, each with a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    producers: u16,
    /// Records without an acknowledgement per producer; the next one waits [default: as the buffer allows]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    outstanding: Option<u32>,
    /// Let each record bear an idempotency key of 36 bytes that is new; a topic that is created asks for them
    #[arg(long)]
    idempotency_keys: bool,
    #[command(flatten)]
    records: RecordArgs,
    #[command(flatten)]
    span: SpanArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

pub(super) async fn run(arguments: ProduceBench) -> Result<(), CliError> {
    let client = arguments.bench.connect.connect().await?;
    let asks = (KEY_HEADER.to_owned(), IDEMPOTENCY_KEY_HEADER.to_owned());
    let settings = BTreeMap::from_iter(arguments.idempotency_keys.then_some(asks));
    let topic = BenchTopic::prepare_with(&client, &arguments.bench, settings).await?;
    let mut producers = Vec::new();
    for _ in 0..arguments.producers {
        let client = arguments.bench.connect.connect().await?;
        producers.push(Producer::new(&client, arguments.records.config())?);
        // The producer keeps its client alive.
        drop::<Client>(client);
    }
    let window = Window::after(arguments.span.warmup(), arguments.span.duration());
    let cost = tokio::spawn(cost(window, arguments.bench.broker_pid));
    let bar = progress(window, !arguments.bench.json);
    let mut workers = tokio::task::JoinSet::new();
    for (number, producer) in (0_u64..).zip(producers) {
        let worker = Worker {
            producer,
            record: ProducerRecord::new(topic.name.clone(), Bytes::new()),
            payload: payload(number + 1),
            size: arguments.records.record_bytes(),
            outstanding_max: arguments
                .outstanding
                .map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX)),
            keys: arguments.idempotency_keys.then(|| Keys::of(number)),
            window,
            waiting: VecDeque::new(),
            latencies: Latencies::new(),
            settled: 0,
        };
        workers.spawn(worker.run());
    }
    let mut latencies = Latencies::new();
    let mut records = 0;
    for worker in workers.join_all().await {
        let worker = worker?;
        latencies.merge(&worker.latencies);
        records += worker.settled;
    }
    if let Some(bar) = bar {
        bar.abort();
    }
    let cost = cost.await.map_err(std::io::Error::other)?;
    let bytes = records.saturating_mul(arguments.records.record_size.into());
    let volume = Volume { records, bytes, seconds: window.seconds(), transactions: None };
    let distributions = vec![Distribution { name: "acknowledgement", percentiles: latencies.percentiles() }];
    let conditions = conditions(&arguments, topic.partitions.len());
    let report = Report::new("produce", &arguments.bench, conditions, &volume, cost, distributions);
    report.print(arguments.bench.json)?;
    topic.clean_up(&client).await?;
    client.close().await;
    Ok(())
}

fn conditions(arguments: &ProduceBench, partitions: usize) -> String {
    let records = &arguments.records;
    let outstanding = arguments.outstanding.map_or_else(String::new, |max| format!(", {max} outstanding"));
    format!(
        "{} producers, {partitions} partitions, {} lanes, records of {} bytes{}, batches of {} bytes, linger {} ms, \
         {} in flight, compression {:?}{outstanding}",
        arguments.producers,
        records.lanes,
        records.record_size,
        if arguments.idempotency_keys { " with idempotency keys" } else { "" },
        records.batch_size,
        records.linger_ms,
        records.in_flight,
        records.compression,
    )
}

/// Idempotency keys that nobody has used: by the time of the run, the producer and the record.
struct Keys {
    run: u64,
    producer: u64,
}

impl Keys {
    fn of(producer: u64) -> Keys {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Keys { run: u64::try_from(since.as_nanos()).unwrap_or_default(), producer }
    }

    /// As long as a UUID's text.
    fn next(&self, index: u64) -> Bytes {
        format!("{:016x}{:04x}{index:016x}", self.run, self.producer).into()
    }
}

/// One producer and what it measures.
struct Worker {
    producer: Producer,
    record: ProducerRecord,
    payload: Bytes,
    size: usize,
    outstanding_max: usize,
    keys: Option<Keys>,
    window: Window,
    waiting: VecDeque<(Instant, Delivery)>,
    latencies: Latencies,
    /// Records that were acknowledged in the window.
    settled: u64,
}

impl Worker {
    async fn run(mut self) -> Result<Worker, ProduceError> {
        let mut index = 0;
        loop {
            let sent = Instant::now();
            if sent >= self.window.end {
                break;
            }
            let value = Some(value(&self.payload, index, self.size));
            let mut record = ProducerRecord { value, ..self.record.clone() };
            if let Some(keys) = &self.keys {
                record = record.idempotency_key(keys.next(index));
            }
            let delivery = self.producer.send(record).await?;
            index += 1;
            self.waiting.push_back((sent, delivery));
            while self.waiting.len() >= self.outstanding_max {
                let Some((_, first)) = self.waiting.front() else { break };
                first.clone().wait().await?;
                self.count_settled()?;
            }
            self.count_settled()?;
        }
        self.producer.flush().await?;
        self.count_settled()?;
        Ok(self)
    }

    /// Counts from the oldest on, as far as they are settled.
    fn count_settled(&mut self) -> Result<(), ProduceError> {
        while let Some((sent, settled, outcome)) = self
            .waiting
            .front()
            .and_then(|(sent, delivery)| Some((*sent, delivery.settled_at()?, delivery.outcome()?)))
        {
            outcome?;
            self.waiting.pop_front();
            if self.window.contains(settled) {
                self.settled += 1;
                self.latencies.record(settled.saturating_duration_since(sent));
            }
        }
        Ok(())
    }
}
