//! Many Rust clients at once, over QUIC and TLS, each of which tells what it sees: one history (`spec/history.md`).

use super::broker::Broker;
use super::tools::announce;
use semel::client::{
    Admin, BackoffLimits, Client, ClientConfig, CommitError, Consumer, ConsumerConfig, GroupMember,
    Isolation, NewTopic, OffsetQuery, OffsetToCommit, Producer, ProducerConfig, ProducerRecord, Resolved,
    Start, TlsFiles, TopicPartition, TransactionConfig, TransactionError, TransactionalProducer,
};
use semel::history::{Answer, Call, Event, History, Operation, Property, Returned, check};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const PARTITIONS: i32 = 3;
const GROUP: &str = "g";
/// Within this time some transactions end, whatever happens to the machine.
const GETS_ON: Duration = Duration::from_secs(600);

/// What is told, in the order in which it was told.
pub struct Recorder {
    begun: Instant,
    told: Mutex<Told>,
    over: AtomicBool,
}

#[derive(Default)]
struct Told {
    events: Vec<Event>,
    calls: u64,
    names: u64,
    ended: usize,
}

impl Recorder {
    fn new() -> Arc<Recorder> {
        let events = vec![Event::History { version: semel::history::VERSION, clock_skew_us: 0 }];
        let told = Mutex::new(Told { events, ..Told::default() });
        Arc::new(Recorder { begun: Instant::now(), told, over: AtomicBool::new(false) })
    }

    fn at(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    fn name(&self, what: &str) -> String {
        let mut told = self.told.lock().unwrap();
        told.names += 1;
        format!("{what}{}", told.names)
    }

    fn call(&self, process: &str, operation: Operation) -> u64 {
        let mut told = self.told.lock().unwrap();
        told.calls += 1;
        let (call, process, at) = (told.calls, process.to_owned(), self.at());
        told.events.push(Event::Call(Call { call, process, at, operation }));
        call
    }

    fn returned(&self, call: u64, returned: Returned) {
        let mut told = self.told.lock().unwrap();
        let at = self.at();
        told.events.push(Event::Return { call, at, returned });
    }

    fn ended_one(&self) {
        self.told.lock().unwrap().ended += 1;
    }

    pub fn crashed(&self) {
        let mut told = self.told.lock().unwrap();
        let at = self.at();
        told.events.push(Event::Crash { at });
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

fn partition_name(partition: &TopicPartition) -> String {
    format!("{}/{}", partition.topic, partition.partition.0)
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), PartitionIndex(index))
}

fn input() -> TopicPartition {
    TopicPartition::new(TopicName::new("in").unwrap(), PartitionIndex(0))
}

fn config(broker: &Broker, scheme: &str) -> ClientConfig {
    let endpoint = format!("{scheme}://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    config.backoff = BackoffLimits { first: Duration::from_millis(10), longest: Duration::from_millis(200) };
    config
}

fn record(index: i32, value: &str) -> ProducerRecord {
    ProducerRecord::new(TopicName::new("t").unwrap(), value.to_owned()).partition(PartitionIndex(index))
}

/// Takes a transactional id over.
async fn hold(
    recorder: &Recorder,
    client: &Client,
    process: &str,
    id: &str,
) -> Option<TransactionalProducer> {
    let operation = Operation::Init { transactional_id: id.to_owned(), resumes: false };
    let call = recorder.call(process, operation);
    let config =
        TransactionConfig { commit_timeout: Duration::from_millis(500), ..TransactionConfig::default() };
    let Ok(producer) = TransactionalProducer::init(client, TransactionalId::new(id).unwrap(), config).await
    else {
        recorder.returned(call, Returned::Unknown);
        return None;
    };
    let (producer_id, epoch) = producer.identity().await;
    let (producer_id, epoch) = (Some(producer_id.0), Some(epoch.0));
    recorder.returned(call, Returned::Ok(Answer { producer_id, epoch, ..Answer::default() }));
    Some(producer)
}

/// A holder is fenced, and goes on as if it were not: in a short history that need not happen by itself.
async fn haunt(recorder: &Recorder, client: &Client) {
    let (former, next) = (recorder.name("former"), recorder.name("next"));
    let mut zombie = hold(recorder, client, &former, "x").await.unwrap();
    let holder = hold(recorder, client, &next, "x").await;
    assert!(transaction(recorder, client, &former, &mut zombie, 0).await.is_err() && holder.is_some());
}

/// One holder of a transactional id after the other, until it is over.
async fn transact(recorder: Arc<Recorder>, config: ClientConfig, id: &'static str) {
    while recorder.goes_on() {
        let Ok(client) = Client::connect(config.clone()).await else { continue };
        let process = recorder.name(id);
        let Some(mut producer) = hold(&recorder, &client, &process, id).await else { continue };
        // After that many somebody else with the same id has its turn, in the middle of ours.
        for turn in 0..25 {
            if !recorder.goes_on()
                || transaction(&recorder, &client, &process, &mut producer, turn).await.is_err()
            {
                break;
            }
        }
    }
}

/// One transaction; an error ends the holder.
async fn transaction(
    recorder: &Recorder,
    client: &Client,
    process: &str,
    producer: &mut TransactionalProducer,
    turn: i32,
) -> Result<(), TransactionError> {
    let name = recorder.name("txn");
    let mut transaction = producer.begin().await?;
    let mut sent = Vec::new();
    for index in 0..4 {
        let value = recorder.name("r");
        let to = partition((index + turn) % PARTITIONS);
        let operation = Operation::Produce {
            partition: partition_name(&to),
            record: value.clone(),
            txn: Some(name.clone()),
            key: None,
            tombstone: false,
            idempotency_key: None,
        };
        let call = recorder.call(process, operation);
        match transaction.send(record(to.partition.0, &value)).await {
            Ok(delivery) => sent.push((call, delivery)),
            Err(error) => {
                recorder.returned(call, Returned::Unknown);
                settle(recorder, sent).await;
                return Err(error);
            }
        }
    }
    let flushed = transaction.flush().await;
    settle(recorder, sent).await;
    flushed?;
    let next = i64::try_from(recorder.at()).unwrap();
    let offsets = [(partition_name(&input()), next)].into();
    let call = recorder
        .call(process, Operation::SendOffsets { txn: name.clone(), group: GROUP.to_owned(), offsets });
    let offsets = [(input(), OffsetToCommit::new(Offset(next)))].into();
    let staged = transaction.send_offsets(&GroupMember::none(GroupId::new(GROUP)), &offsets).await;
    recorder.returned(call, if staged.is_ok() { done() } else { Returned::Unknown });
    staged?;
    if turn % 4 == 3 {
        let call = recorder.call(process, Operation::Abort { txn: name });
        let aborted = transaction.abort().await;
        recorder.returned(call, if aborted.is_ok() { done() } else { Returned::Unknown });
        recorder.ended_one();
        return aborted;
    }
    let call = recorder.call(process, Operation::Commit { txn: name.clone() });
    let committed = transaction.commit().await;
    recorder.ended_one();
    match committed {
        Ok(_) => recorder.returned(call, done()),
        Err(CommitError::Unknown(unknown)) => {
            recorder.returned(call, Returned::Unknown);
            let call = recorder.call(process, Operation::Outcome { txn: name });
            let outcome = match unknown.resolve(client).await {
                Ok(Resolved::Committed) => "committed",
                Ok(Resolved::Aborted) => "aborted",
                Err(_) => "unknown",
            };
            let outcome = Some(outcome.to_owned());
            recorder.returned(call, Returned::Ok(Answer { outcome, ..Answer::default() }));
            return Err(TransactionError::InDoubt(producer.transactional_id().clone()));
        }
        Err(_) => {
            recorder.returned(call, Returned::Failed);
            return Err(TransactionError::Fenced(producer.transactional_id().clone()));
        }
    }
    Ok(())
}

fn done() -> Returned {
    Returned::Ok(Answer::default())
}

/// What is not known to be stored may be: also in a transaction that was given up.
async fn settle(recorder: &Recorder, sent: Vec<(u64, semel::client::Delivery)>) {
    for (call, delivery) in sent {
        match delivery.wait().await {
            Ok(delivered) => {
                let offset = delivered.offset.map(|offset| offset.0);
                recorder.returned(call, Returned::Ok(Answer { offset, ..Answer::default() }));
            }
            Err(_) => recorder.returned(call, Returned::Unknown),
        }
    }
}

/// Batches in flight, without transactions.
async fn produce(recorder: Arc<Recorder>, config: ClientConfig) {
    while recorder.goes_on() {
        let Ok(client) = Client::connect(config.clone()).await else { continue };
        let process = recorder.name("idempotent");
        let linger = Duration::from_millis(1);
        let producer =
            Producer::new(&client, ProducerConfig { linger, ..ProducerConfig::default() }).unwrap();
        let mut healthy = true;
        while recorder.goes_on() && healthy {
            let mut sent = Vec::new();
            for index in 0..40 {
                let value = recorder.name("r");
                let to = partition(index % PARTITIONS);
                let operation = Operation::Produce {
                    partition: partition_name(&to),
                    record: value.clone(),
                    txn: None,
                    key: None,
                    tombstone: false,
                    idempotency_key: None,
                };
                let call = recorder.call(&process, operation);
                match producer.send(record(to.partition.0, &value)).await {
                    Ok(delivery) => sent.push((call, delivery)),
                    Err(_) => recorder.returned(call, Returned::Unknown),
                }
            }
            healthy = sent.len() == 40;
            settle(&recorder, sent).await;
            // What is written is read again and again, and judged.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn isolation_of(isolation: Isolation) -> semel::history::Isolation {
    match isolation {
        Isolation::ReadCommitted => semel::history::Isolation::ReadCommitted,
        Isolation::ReadUncommitted => semel::history::Isolation::ReadUncommitted,
    }
}

/// Reads everything from the beginning, again and again.
async fn read(recorder: Arc<Recorder>, config: ClientConfig, isolation: Isolation) {
    let process = recorder.name("reader");
    while recorder.goes_on() {
        let Ok(client) = Client::connect(config.clone()).await else { continue };
        let until = Instant::now() + Duration::from_secs(3);
        read_on(&recorder, &client, &process, isolation, || recorder.goes_on() && Instant::now() < until)
            .await;
    }
}

/// Reads from the beginning for as long as wanted. A read is noted when it has moved the reader.
async fn read_on(
    recorder: &Recorder,
    client: &Client,
    process: &str,
    isolation: Isolation,
    wanted: impl Fn() -> bool,
) {
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    let mut positions: HashMap<TopicPartition, i64> = HashMap::new();
    for index in 0..PARTITIONS {
        consumer.seek(partition(index), Start::Offset(Offset::ZERO));
        positions.insert(partition(index), 0);
    }
    while wanted() {
        let begun = recorder.at();
        let Ok(Ok(chunk)) = tokio::time::timeout(Duration::from_millis(300), consumer.next_chunk()).await
        else {
            continue;
        };
        let mut told = recorder.told.lock().unwrap();
        for (partition, position) in &mut positions {
            let next = consumer.position(partition).map_or(0, |offset| offset.0);
            if next == *position {
                continue;
            }
            let records = chunk.iter().filter(|read| read.partition == *partition).map(|read| {
                let value = read.record.value.as_ref().unwrap();
                (read.offset.0, String::from_utf8(value.to_vec()).unwrap())
            });
            let answer = Answer { records: records.collect(), next: Some(next), ..Answer::default() };
            let (name, from, isolation) = (partition_name(partition), *position, isolation_of(isolation));
            told.calls += 1;
            let (call, process) = (told.calls, process.to_owned());
            let operation = Operation::Read { partition: name, from, isolation };
            told.events.push(Event::Call(Call { call, process, at: begun, operation }));
            let at = recorder.at();
            told.events.push(Event::Return { call, at, returned: Returned::Ok(answer) });
            *position = next;
        }
    }
}

/// Where partitions end, and what the group has committed.
async fn watch(recorder: Arc<Recorder>, config: ClientConfig) {
    let process = recorder.name("watcher");
    while recorder.goes_on() {
        let Ok(client) = Client::connect(config.clone()).await else { continue };
        while recorder.goes_on() {
            if look(&recorder, &client, &process).await.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One look; none if an answer was lost.
async fn look(recorder: &Recorder, client: &Client, process: &str) -> Option<()> {
    let admin = Admin::new(client);
    for index in 0..PARTITIONS {
        let call = recorder.call(process, Operation::End { partition: partition_name(&partition(index)) });
        let asked = [(partition(index), Start::Latest)];
        // The high watermark first: what is stable by the second answer is at least what it is by then.
        let high = admin.find_offsets(&asked, Isolation::ReadUncommitted).await.ok();
        let stable = admin.find_offsets(&asked, Isolation::ReadCommitted).await.ok();
        let mark = |found: Option<Vec<Result<Offset, _>>>| found?.pop()?.ok().map(|offset| offset.0);
        let (high_watermark, last_stable) = (mark(high), mark(stable));
        let whole = high_watermark.is_some() && last_stable.is_some();
        let answer = Answer { high_watermark, last_stable, ..Answer::default() };
        recorder.returned(call, if whole { Returned::Ok(answer) } else { Returned::Unknown });
        if !whole {
            return None;
        }
    }
    let call = recorder.call(process, Operation::FetchOffsets { group: GROUP.to_owned() });
    let found = client.committed_offsets(&GroupId::new(GROUP), &[input()], OffsetQuery::Latest).await;
    let Ok(found) = found else {
        recorder.returned(call, Returned::Unknown);
        return None;
    };
    let offsets: BTreeMap<_, _> =
        found.into_iter().map(|(partition, offset)| (partition_name(&partition), offset.next.0)).collect();
    recorder.returned(call, Returned::Ok(Answer { offsets, ..Answer::default() }));
    Some(())
}

/// A dozen clients at work.
pub struct Crowd {
    pub recorder: Arc<Recorder>,
    clients: JoinSet<()>,
}

impl Crowd {
    /// Makes the topics, and lets the clients begin: over QUIC and TLS, holders of ids that fence one another, producers
    /// without transactions, readers of both kinds.
    pub async fn start(broker: &Broker) -> Crowd {
        let client = Client::connect(config(broker, "quic")).await.unwrap();
        for (name, partitions) in [("t", PARTITIONS), ("in", 1)] {
            let topic = NewTopic::new(TopicName::new(name).unwrap(), partitions);
            Admin::new(&client).create_topic(&topic).await.unwrap();
        }
        let recorder = Recorder::new();
        let mut clients = JoinSet::new();
        for (id, scheme) in [("x", "quic"), ("x", "tls"), ("y", "quic"), ("z", "tls")] {
            clients.spawn(transact(Arc::clone(&recorder), config(broker, scheme), id));
        }
        for scheme in ["quic", "tls"] {
            clients.spawn(produce(Arc::clone(&recorder), config(broker, scheme)));
            clients.spawn(read(Arc::clone(&recorder), config(broker, scheme), Isolation::ReadCommitted));
            clients.spawn(read(Arc::clone(&recorder), config(broker, scheme), Isolation::ReadUncommitted));
        }
        clients.spawn(watch(Arc::clone(&recorder), config(broker, "tls")));
        Crowd { recorder, clients }
    }

    /// Waits until so many more transactions have ended.
    pub async fn goes_on(&self, transactions: usize, broker: &Broker) {
        let deadline = Instant::now() + GETS_ON;
        let enough = self.recorder.told.lock().unwrap().ended + transactions;
        while self.recorder.told.lock().unwrap().ended < enough {
            assert!(Instant::now() < deadline, "nobody gets on\n{}", broker.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it, reads everything once more, and gives what was told.
    pub async fn finish(self, broker: &Broker) -> Vec<Event> {
        let recorder = self.recorder;
        recorder.over.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let client = Client::connect(config(broker, "tls")).await.unwrap();
        haunt(&recorder, &client).await;
        // Whoever takes an id over ends what is open under it; then nothing may hold readers back.
        for id in ["x", "y", "z"] {
            let id = TransactionalId::new(id).unwrap();
            TransactionalProducer::init(&client, id, TransactionConfig::default()).await.unwrap();
        }
        let at = recorder.at();
        recorder.told.lock().unwrap().events.push(Event::Settled { at });
        look(&recorder, &client, "last").await.unwrap();
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let until = Instant::now() + Duration::from_millis(1500);
            read_on(&recorder, &client, "last", isolation, || Instant::now() < until).await;
        }
        let told = recorder.told.lock().unwrap();
        told.events.clone()
    }
}

/// Judges what was told, which has to speak of these.
pub fn judge(events: &[Event], speaks_of: &[Property]) {
    let history = History::of(events.iter().cloned()).unwrap();
    let verdict = check(&history).unwrap();
    announce(&format!("{} calls; looked at: {:?}", history.calls(), verdict.looked_at));
    if !verdict.holds() {
        let kept = std::env::temp_dir().join(format!("semel-history-{}.jsonl", std::process::id()));
        let lines: Vec<_> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        std::fs::write(&kept, lines.join("\n")).unwrap();
        panic!("{:#?}\nthe history is kept: semel check {}", verdict.findings, kept.display());
    }
    let missing: Vec<_> =
        speaks_of.iter().filter(|property| !verdict.looked_at.contains_key(property)).collect();
    assert!(missing.is_empty(), "the history never speaks of {missing:?}");
}
