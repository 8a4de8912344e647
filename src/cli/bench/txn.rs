//! `semel bench txn`.

use super::measure::{Latencies, Window, cost, progress};
use super::report::{Distribution, Report, Volume};
use super::{BenchArgs, BenchTopic, CliError, ConnectArgs, RecordArgs, SpanArgs, payload, value};
use crate::client::{
    Client, ClientError, Consumer, ConsumerConfig, ProducerRecord, RecordHeader, Start, TopicPartition,
    TransactionConfig, TransactionalProducer,
};
use crate::types::TransactionalId;
use bytes::Bytes;
use clap::Args;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Interval;

/// `semel bench txn`.
#[derive(Debug, Args)]
pub struct TxnBench {
    /// Transactional producers, each with a connection and an id of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    producers: u16,
    /// Partitions that each transaction writes to
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    partitions_per_txn: u32,
    /// Records of each transaction
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    records_per_txn: u32,
    /// Begin so many transactions a second, all producers together; without it, each begins the next one at once
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Commit with a request of its own, as every client of Kafka's has to, not with the last records
    #[arg(long)]
    commit_apart: bool,
    /// Do not read what is committed: no commit-to-visible times
    #[arg(long)]
    no_reader: bool,
    #[command(flatten)]
    records: RecordArgs,
    #[command(flatten)]
    span: SpanArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

/// How long the reader may take for what was committed last.
const LAST_RECORDS: Duration = Duration::from_secs(10);
/// The header that names a record's transaction.
const HEADER: &str = "txn";

/// A transaction: which producer's, and which of them.
type TxnKey = (u64, u64);

/// When commits were called, for the reader to look up.
type Calls = Arc<Mutex<HashMap<TxnKey, Instant>>>;

pub(super) async fn run(arguments: TxnBench) -> Result<(), CliError> {
    let client = arguments.bench.connect.connect().await?;
    let topic = BenchTopic::prepare(&client, &arguments.bench).await?;
    if usize::try_from(arguments.partitions_per_txn).is_ok_and(|wanted| wanted > topic.partitions.len()) {
        return Err(CliError::usage(
            format!("--partitions-per-txn is more than the topic's {} partitions", topic.partitions.len()),
            "raise --partitions",
        ));
    }
    let calls = Calls::default();
    let mut workers = JoinSet::new();
    let mut ready = Vec::new();
    for number in 0..u64::from(arguments.producers) {
        ready.push(Worker::prepare(&arguments, &topic, number, Arc::clone(&calls)).await?);
    }
    let reader = if arguments.no_reader {
        None
    } else {
        Some(Reader::start(&arguments, &topic, Arc::clone(&calls)).await?)
    };
    let window = Window::after(arguments.span.warmup(), arguments.span.duration());
    let reader = reader.map(|reader| reader.measure(window));
    let cost = tokio::spawn(cost(window, arguments.bench.broker_pid));
    let bar = progress(window, !arguments.bench.json);
    for worker in ready {
        workers.spawn(worker.run(window));
    }
    let (mut commits, mut wholes) = (Latencies::new(), Latencies::new());
    for worker in workers.join_all().await {
        let worker = worker?;
        commits.merge(&worker.commits);
        wholes.merge(&worker.wholes);
    }
    if let Some(bar) = bar {
        bar.abort();
    }
    let mut distributions = vec![
        Distribution { name: "commit", percentiles: commits.percentiles() },
        Distribution { name: "transaction", percentiles: wholes.percentiles() },
    ];
    if let Some(reader) = reader {
        let visible = reader.await.map_err(std::io::Error::other)??;
        distributions.push(Distribution { name: "commit to seen", percentiles: visible.percentiles() });
    }
    let cost = cost.await.map_err(std::io::Error::other)?;
    let transactions = commits.percentiles().count;
    let records = transactions.saturating_mul(arguments.records_per_txn.into());
    let bytes = records.saturating_mul(arguments.records.record_size.into());
    let volume = Volume { records, bytes, seconds: window.seconds(), transactions: Some(transactions) };
    let conditions = conditions(&arguments, topic.partitions.len());
    let report = Report::new("txn", &arguments.bench, conditions, &volume, cost, distributions);
    report.print(arguments.bench.json)?;
    topic.clean_up(&client).await?;
    client.close().await;
    Ok(())
}

fn conditions(arguments: &TxnBench, partitions: usize) -> String {
    let rate = arguments.rate.map(|rate| format!(", {rate} transactions/s")).unwrap_or_default();
    let apart = if arguments.commit_apart { ", commits apart" } else { "" };
    format!(
        "{} producers, {} records of {} bytes in {} of {partitions} partitions per transaction, linger {} ms{rate}{apart}",
        arguments.producers,
        arguments.records_per_txn,
        arguments.records.record_size,
        arguments.partitions_per_txn,
        arguments.records.linger_ms,
    )
}

/// One transactional producer and what it measures.
struct Worker {
    producer: TransactionalProducer,
    number: u64,
    partitions: Vec<TopicPartition>,
    partitions_per_txn: usize,
    records_per_txn: u32,
    payload: Bytes,
    size: usize,
    pace: Option<Pace>,
    calls: Option<Calls>,
    /// From the call of commit to its return.
    commits: Latencies,
    /// From begin to the return of commit.
    wholes: Latencies,
}

/// When a producer begins its transactions.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The first one.
    after: Duration,
    /// The others, each after the one before.
    period: Duration,
}

impl Pace {
    /// Of one of so many producers, which take turns.
    fn of(number: u64, producers: u16, rate: u32) -> Pace {
        let turn = Duration::from_secs(1) / rate;
        Pace {
            after: turn.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX)),
            period: turn * producers.into(),
        }
    }

    /// Ticks when one is due. Those that are late are due at once.
    fn ticks(self) -> Interval {
        tokio::time::interval_at(tokio::time::Instant::now() + self.after, self.period)
    }
}

impl Worker {
    async fn prepare(
        arguments: &TxnBench,
        topic: &BenchTopic,
        number: u64,
        calls: Calls,
    ) -> Result<Worker, CliError> {
        let client = arguments.bench.connect.connect().await?;
        let id = format!("{}-{number}", topic.name);
        let id = TransactionalId::new(&id)
            .ok_or_else(|| CliError::usage("an id that cannot be", "name a topic"))?;
        let config = TransactionConfig {
            producer: arguments.records.config(),
            commit_with_records: !arguments.commit_apart,
            ..TransactionConfig::default()
        };
        Ok(Worker {
            producer: TransactionalProducer::init(&client, id, config).await?,
            number,
            partitions: topic.partitions.clone(),
            partitions_per_txn: usize::try_from(arguments.partitions_per_txn).unwrap_or(usize::MAX),
            records_per_txn: arguments.records_per_txn,
            payload: payload(number + 1),
            size: arguments.records.record_bytes(),
            pace: arguments.rate.map(|rate| Pace::of(number, arguments.producers, rate)),
            calls: (!arguments.no_reader).then_some(calls),
            commits: Latencies::new(),
            wholes: Latencies::new(),
        })
    }

    async fn run(mut self, window: Window) -> Result<Worker, CliError> {
        let mut index = 0;
        let mut ticks = self.pace.map(Pace::ticks);
        while !window.is_over() {
            if let Some(ticks) = &mut ticks
                && tokio::time::timeout_at(window.end.into(), ticks.tick()).await.is_err()
            {
                break;
            }
            self.transact(index, window).await?;
            index += 1;
        }
        Ok(self)
    }

    async fn transact(&mut self, index: u64, window: Window) -> Result<(), CliError> {
        let begun = Instant::now();
        let mut transaction = self.producer.begin().await?;
        // Each transaction starts at another partition, so that they overlap.
        let start = usize::try_from(index.wrapping_add(self.number)).unwrap_or(0);
        let chosen = self.partitions.iter().cycle().skip(start % self.partitions.len().max(1));
        let chosen: Vec<_> = chosen.take(self.partitions_per_txn).collect();
        let name = format!("{}:{index}", self.number);
        let header = RecordHeader { name: HEADER.into(), value: Some(name.into()) };
        for (place, partition) in (0..u64::from(self.records_per_txn)).zip(chosen.iter().cycle()) {
            let value = value(&self.payload, index.wrapping_mul(31).wrapping_add(place), self.size);
            let mut record =
                ProducerRecord::new(partition.topic.clone(), value).partition(partition.partition);
            record.headers.push(header.clone());
            transaction.send(record).await?;
        }
        let called = Instant::now();
        if let Some(calls) = self.calls.as_ref().filter(|_| window.contains(called)) {
            calls.lock().unwrap_or_else(PoisonError::into_inner).insert((self.number, index), called);
        }
        transaction.commit().await?;
        let done = Instant::now();
        if window.contains(done) {
            self.commits.record(done - called);
            self.wholes.record(done - begun);
        }
        Ok(())
    }
}

/// A reader of everything that is committed from now on. It has a thread of its own, as if it were another program: on those of the
/// producers it would wait behind each of them.
struct Reader {
    begin: oneshot::Sender<Window>,
    seen: oneshot::Receiver<Result<Latencies, ClientError>>,
}

impl Reader {
    async fn start(arguments: &TxnBench, topic: &BenchTopic, calls: Calls) -> Result<Reader, CliError> {
        let (ready, is_ready) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let (tell, seen) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connect, partitions) = (arguments.bench.connect.clone(), topic.partitions.clone());
        let records_per_txn = arguments.records_per_txn;
        std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
            runtime.block_on(async {
                // Whoever does not listen any more has failed itself.
                let (consumer, is_reading) = match reading(&connect, &partitions).await {
                    Ok(consumer) => (Some(consumer), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let _ = ready.send(is_reading);
                if let (Some(consumer), Ok(window)) = (consumer, begun.await) {
                    let _ = tell.send(read(consumer, calls, window, records_per_txn).await);
                }
            });
        })?;
        is_ready.await.map_err(std::io::Error::other)??;
        Ok(Reader { begin, seen })
    }

    /// Reads until the window is over; how long it took until the last records were at hand.
    fn measure(self, window: Window) -> oneshot::Receiver<Result<Latencies, ClientError>> {
        let _ = self.begin.send(window);
        self.seen
    }
}

async fn reading(connect: &ConnectArgs, partitions: &[TopicPartition]) -> Result<Consumer, CliError> {
    let client: Client = connect.connect().await?;
    let config = ConsumerConfig::default();
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
    let found = crate::client::Admin::new(&client).find_offsets(&asked, config.isolation).await?;
    let mut consumer = Consumer::new(&client, config);
    for (partition, offset) in partitions.iter().zip(found) {
        consumer.seek(partition.clone(), Start::Offset(offset?));
    }
    Ok(consumer)
}

/// Measures from the call of commit until the last record of the transaction is at hand.
async fn read(
    mut consumer: Consumer,
    calls: Calls,
    window: Window,
    records_per_txn: u32,
) -> Result<Latencies, ClientError> {
    let mut latencies = Latencies::new();
    let mut seen: HashMap<TxnKey, u32> = HashMap::new();
    let deadline = tokio::time::Instant::from_std(window.end + LAST_RECORDS);
    let all_seen = || calls.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    while !(window.is_over() && all_seen()) {
        let Ok(chunk) = tokio::time::timeout_at(deadline, consumer.next_chunk()).await else { break };
        let at = Instant::now();
        for read in chunk? {
            let Some(key) = read.record.headers.first().and_then(transaction_of) else { continue };
            let count = seen.entry(key).or_default();
            *count += 1;
            if *count >= records_per_txn {
                seen.remove(&key);
                if let Some(called) = calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&key) {
                    latencies.record(at.saturating_duration_since(called));
                }
            }
        }
    }
    Ok(latencies)
}

fn transaction_of(header: &RecordHeader) -> Option<TxnKey> {
    let (producer, index) = std::str::from_utf8(header.value.as_ref()?).ok()?.split_once(':')?;
    Some((producer.parse().ok()?, index.parse().ok()?))
}
