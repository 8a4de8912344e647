//! A chain of topics under fire: three processes of `examples/invoices.rs` read orders and write invoices, in transactions, as
//! members of one group. They and the broker are killed again and again; in the end each order has one invoice, and each that
//! cannot be read is in quarantine once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use common::broker::Broker;
use common::process::{Heard, Process, Said};
use common::tools::{announce, inner_cargo, target_dir};
use semel::client::{
    Admin, BackoffLimits, Client, ClientConfig, ConsumedRecord, Consumer, ConsumerConfig, Isolation,
    NewTopic, OffsetQuery, Producer, ProducerConfig, ProducerRecord, QUARANTINE_ATTEMPTS_HEADER,
    QUARANTINE_OFFSET_HEADER, QUARANTINE_PARTITION_HEADER, Start, TlsFiles, TopicPartition,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const MEMBERS: usize = 3;
const PARTITIONS: i32 = 4;
/// Kills; `SEMEL_TEST_KILLS` says how many. Every third also, or only, takes the broker.
const KILLS: usize = 9;
/// Orders that come in between two kills,
const ORDERS: u64 = 300;
/// of which every so many cannot be read.
const UNREADABLE: u64 = 50;
/// How many of a slice must be through before the next kill: so kills come in the middle of the work.
const THROUGH: u64 = 150;
const DEADLINE: Duration = Duration::from_secs(300);

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn partitions(name: &str, count: i32) -> Vec<TopicPartition> {
    (0..count).map(|index| TopicPartition::new(topic(name), PartitionIndex(index))).collect()
}

async fn connect(broker: &Broker, scheme: &str) -> Client {
    let endpoint = format!("{scheme}://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    config.backoff = BackoffLimits { first: Duration::from_millis(10), longest: Duration::from_millis(200) };
    Client::connect(config).await.unwrap()
}

/// The program of the members, built once.
fn program() -> PathBuf {
    let built = inner_cargo().args(["build", "--example", "invoices"]).status().unwrap();
    assert!(built.success(), "the example does not build");
    target_dir().join("debug").join("examples").join("invoices")
}

/// The members of the group, as processes.
struct Members {
    program: PathBuf,
    bootstrap: String,
    data_dir: PathBuf,
    heard: Arc<Heard>,
    running: Vec<Process>,
    ended_by_themselves: usize,
}

impl Members {
    fn start(program: PathBuf, broker: &Broker) -> Members {
        let mut members = Members {
            program,
            bootstrap: format!("quic://{}", broker.address()),
            data_dir: broker.data_dir(),
            heard: Arc::default(),
            running: Vec::new(),
            ended_by_themselves: 0,
        };
        members.running = (0..MEMBERS).map(|who| members.spawn(who)).collect();
        for member in &mut members.running {
            assert!(matches!(member.next(DEADLINE), Said::Line(_)), "{}", member.report());
        }
        members
    }

    fn spawn(&self, who: usize) -> Process {
        let mut command = Command::new(&self.program);
        command.args(["--name", &format!("m{who}"), "--bootstrap", &self.bootstrap, "--data-dir"]);
        Process::spawn(
            "a member",
            {
                command.arg(&self.data_dir);
                command
            },
            &self.heard,
        )
    }

    fn kill(&mut self, who: usize) {
        self.running[who].kill();
        self.running[who] = self.spawn(who);
    }

    /// Starts those again that gave up, as a service manager would.
    fn revive(&mut self) {
        for who in 0..MEMBERS {
            if self.running[who].wait(Duration::ZERO).is_some() {
                self.running[who] = self.spawn(who);
                self.ended_by_themselves += 1;
            }
        }
    }
}

/// What has come through so far, by what it is about, and how often.
type Through = Arc<Mutex<BTreeMap<String, usize>>>;

/// Reads a topic for as long as it is let.
fn watch(
    client: &Client,
    partitions: Vec<TopicPartition>,
    name: fn(&ConsumedRecord) -> String,
) -> (Through, JoinHandle<()>) {
    let isolation = Isolation::ReadCommitted;
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    partitions.into_iter().for_each(|partition| consumer.seek(partition, Start::Offset(Offset::ZERO)));
    let through = Through::default();
    let seen = Arc::clone(&through);
    let task = tokio::spawn(async move {
        loop {
            let record = consumer.next().await.unwrap();
            *seen.lock().unwrap().entry(name(&record)).or_default() += 1;
        }
    });
    (through, task)
}

fn order_of(invoice: &ConsumedRecord) -> String {
    let value: Value = serde_json::from_slice(invoice.record.value.as_deref().unwrap()).unwrap();
    value["order"].to_string()
}

fn header<'r>(record: &'r ConsumedRecord, name: &str) -> &'r str {
    let found = record.record.headers.iter().find(|header| header.name == name.as_bytes());
    std::str::from_utf8(found.and_then(|header| header.value.as_deref()).unwrap()).unwrap()
}

/// Where a record in quarantine comes from.
fn origin_of(failed: &ConsumedRecord) -> String {
    assert_eq!(header(failed, QUARANTINE_ATTEMPTS_HEADER), "3");
    format!("{}-{}", header(failed, QUARANTINE_PARTITION_HEADER), header(failed, QUARANTINE_OFFSET_HEADER))
}

async fn feed(producer: &Producer, orders: std::ops::Range<u64>) -> Vec<String> {
    let mut unreadable = Vec::new();
    for id in orders {
        let readable = id % UNREADABLE != UNREADABLE - 1;
        let value = match readable {
            true => json!({"id": id, "customer": format!("c{}", id % 17), "net_cents": id * 100}).to_string(),
            false => "what is this?".to_owned(),
        };
        let to = PartitionIndex(i32::try_from(id % 4).unwrap());
        let delivery =
            producer.send(ProducerRecord::new(topic("orders"), value).partition(to)).await.unwrap();
        if !readable {
            producer.flush().await.unwrap();
            let stored = delivery.await.unwrap();
            unreadable.push(format!("{}-{}", stored.partition.partition, stored.offset.unwrap()));
        }
    }
    producer.flush().await.unwrap();
    unreadable
}

fn count(through: &Through) -> usize {
    through.lock().unwrap().len()
}

/// The same sequence of victims for the same seed.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below
}

#[tokio::test(flavor = "multi_thread")]
async fn each_input_has_one_output_whoever_is_killed() {
    let program = program();
    let mut broker =
        Broker::start_with(&["--consumer-session-timeout", "3000", "--consumer-heartbeat-interval", "200"]);
    let client = connect(&broker, "quic").await;
    let watcher = connect(&broker, "tls").await;
    for (name, partitions) in [("orders", PARTITIONS), ("invoices", PARTITIONS), ("orders-failed", 1)] {
        Admin::new(&client).create_topic(&NewTopic::new(topic(name), partitions)).await.unwrap();
    }
    let mut members = Members::start(program, &broker);
    let (invoices, watching_invoices) = watch(&watcher, partitions("invoices", PARTITIONS), order_of);
    let (failed, watching_failed) = watch(&watcher, partitions("orders-failed", 1), origin_of);
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();

    let kills = std::env::var("SEMEL_TEST_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    let mut seed = std::env::var("SEMEL_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (mut sent, mut unreadable) = (0, Vec::new());
    let deadline = Instant::now() + DEADLINE;
    let wait_for = async |members: &mut Members, wanted: u64| {
        while (count(&invoices) + count(&failed)) < usize::try_from(wanted).unwrap() {
            let so_far = (count(&invoices), count(&failed));
            assert!(Instant::now() < deadline, "{so_far:?} of {wanted}\n{}", members.heard.text());
            members.revive();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for kill in 0..kills {
        unreadable.extend(feed(&producer, sent..sent + ORDERS).await);
        wait_for(&mut members, sent + THROUGH).await;
        sent += ORDERS;
        let victim = random(&mut seed, MEMBERS);
        match kill % 3 {
            2 => {
                broker.kill();
                if random(&mut seed, 2) == 0 {
                    members.kill(victim);
                }
                broker.restart();
            }
            _ => members.kill(victim),
        }
    }
    unreadable.extend(feed(&producer, sent..sent + ORDERS).await);
    sent += ORDERS;
    wait_for(&mut members, sent).await;
    nothing_is_left(&client, &mut members, deadline).await;
    watching_invoices.abort();
    watching_failed.abort();
    announce(&format!(
        "{kills} kills; {} members gave up and were started again",
        members.ended_by_themselves
    ));

    let expected = (0..sent).filter(|id| id % UNREADABLE != UNREADABLE - 1).map(|id| (id.to_string(), 1));
    let expected: BTreeMap<String, usize> = expected.collect();
    // Not only what the watcher has seen so far: all that there is.
    assert_eq!(read_all(&watcher, partitions("invoices", PARTITIONS), order_of).await, expected);
    let expected: BTreeMap<String, usize> = unreadable.into_iter().map(|origin| (origin, 1)).collect();
    assert_eq!(read_all(&watcher, partitions("orders-failed", 1), origin_of).await, expected);
}

/// Waits until the group has committed all that there is. Nobody can do any of it again from then on.
async fn nothing_is_left(client: &Client, members: &mut Members, deadline: Instant) {
    let orders = partitions("orders", PARTITIONS);
    let asked: Vec<_> = orders.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
    let ends = Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await.unwrap();
    let ends: Vec<Offset> = ends.into_iter().map(Result::unwrap).collect();
    loop {
        let group = GroupId::new("invoices");
        let committed = client.committed_offsets(&group, &orders, OffsetQuery::Stable).await.unwrap();
        let committed: Vec<_> =
            orders.iter().filter_map(|one| committed.get(one).map(|one| one.next)).collect();
        if committed == ends {
            return;
        }
        assert!(Instant::now() < deadline, "{committed:?} of {ends:?}\n{}", members.heard.text());
        members.revive();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read_all(
    client: &Client,
    partitions: Vec<TopicPartition>,
    name: fn(&ConsumedRecord) -> String,
) -> BTreeMap<String, usize> {
    let isolation = Isolation::ReadCommitted;
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
    let ends = Admin::new(client).find_offsets(&asked, isolation).await.unwrap();
    let ends: BTreeMap<_, _> = partitions.iter().cloned().zip(ends.into_iter().map(Result::unwrap)).collect();
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    partitions.into_iter().for_each(|partition| consumer.seek(partition, Start::Offset(Offset::ZERO)));
    let mut found = BTreeMap::new();
    while ends.iter().any(|(one, end)| consumer.position(one).unwrap_or(Offset::ZERO) < *end) {
        for record in consumer.next_chunk().await.unwrap() {
            *found.entry(name(&record)).or_default() += 1;
        }
    }
    found
}
