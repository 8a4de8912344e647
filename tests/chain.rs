//! A chain of topics under fire: three processes of `examples/invoices.rs` read orders and write invoices, in transactions, as
//! members of one group, while orders keep coming. They and the broker are killed at random; in the end each order has one
//! invoice, and each that cannot be read is in quarantine once.

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
    NewTopic, OffsetQuery, OutcomeQuery, Outcomes, Producer, ProducerConfig, ProducerRecord,
    QUARANTINE_ATTEMPTS_HEADER, QUARANTINE_OFFSET_HEADER, QUARANTINE_PARTITION_HEADER, Standing, Start,
    TlsFiles, TopicPartition, TransactionOutcome,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

const MEMBERS: usize = 3;
const PARTITIONS: usize = 4;
/// Kills; `SEMEL_TEST_KILLS` says how many.
const KILLS: usize = 12;
/// After how many orders that have come through the next victim's time begins to run out: so each is in the middle of its work.
const THROUGH: usize = 300;
/// The longest that this takes then.
const LIFE_MAX_MS: usize = 600;
/// How far each partition's orders run ahead of what has come through, so that there always is something to do.
const AHEAD: usize = 200;
/// Of a partition's orders every so many cannot be read.
const UNREADABLE: usize = 50;
/// Nothing that should happen takes longer.
const DEADLINE: Duration = Duration::from_secs(60);
/// The broker remembers the newest 16 transactions of each member, none of which is shorter than 100 ms under load.
const LOOK: Duration = Duration::from_millis(200);

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn index(partition: usize) -> PartitionIndex {
    PartitionIndex(i32::try_from(partition).unwrap())
}

fn partitions(name: &str, count: usize) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition::new(topic(name), index(partition))).collect()
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
    kills: usize,
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
            kills: 0,
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
        command.arg(&self.data_dir);
        Process::spawn("a member", command, &self.heard)
    }

    fn kill(&mut self, who: usize) {
        self.running[who].kill();
        self.running[who] = self.spawn(who);
        self.kills += 1;
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

/// How many orders of each partition have come through so far.
type Through = watch::Sender<[usize; PARTITIONS]>;

/// Reads a topic for as long as it is let, and tells of each record that is about an order of which there was none before.
fn watch_topic(
    client: &Client,
    partitions: Vec<TopicPartition>,
    about: fn(&ConsumedRecord) -> (String, usize),
    through: &Arc<Through>,
) -> JoinHandle<()> {
    let isolation = Isolation::ReadCommitted;
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    partitions.into_iter().for_each(|partition| consumer.seek(partition, Start::Offset(Offset::ZERO)));
    let through = Arc::clone(through);
    tokio::spawn(async move {
        let mut seen = BTreeMap::new();
        loop {
            let (name, partition) = about(&consumer.next().await.unwrap());
            if seen.insert(name, ()).is_none() {
                through.send_modify(|through| through[partition] += 1);
            }
        }
    })
}

/// An order's number, and its partition.
fn order_of(invoice: &ConsumedRecord) -> (String, usize) {
    let value: Value = serde_json::from_slice(invoice.record.value.as_deref().unwrap()).unwrap();
    let order = value["order"].as_u64().unwrap();
    (order.to_string(), usize::try_from(order).unwrap() % PARTITIONS)
}

fn header<'r>(record: &'r ConsumedRecord, name: &str) -> &'r str {
    let found = record.record.headers.iter().find(|header| header.name == name.as_bytes());
    std::str::from_utf8(found.and_then(|header| header.value.as_deref()).unwrap()).unwrap()
}

/// Where a record in quarantine comes from.
fn origin_of(failed: &ConsumedRecord) -> (String, usize) {
    assert_eq!(header(failed, QUARANTINE_ATTEMPTS_HEADER), "3");
    let partition = header(failed, QUARANTINE_PARTITION_HEADER);
    let origin = format!("{partition}-{}", header(failed, QUARANTINE_OFFSET_HEADER));
    (origin, partition.parse().unwrap())
}

/// What a partition was fed with.
#[derive(Default)]
struct Fed {
    /// The numbers of orders.
    readable: Vec<String>,
    /// The places of what cannot be read.
    unreadable: Vec<String>,
}

/// Keeps so much ahead of what comes through that there always is something to do, until it is told to stop.
async fn feed(
    producer: Arc<Producer>,
    partition: usize,
    mut through: watch::Receiver<[usize; PARTITIONS]>,
    mut stop: watch::Receiver<bool>,
) -> Fed {
    let (mut fed, mut deliveries) = (Fed::default(), Vec::new());
    for number in 0.. {
        let in_time = |through: &[usize; PARTITIONS]| number < through[partition] + AHEAD;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            _ = through.wait_for(in_time) => {}
        }
        let (id, readable) = (number * PARTITIONS + partition, number % UNREADABLE != UNREADABLE - 1);
        let order = json!({"id": id, "customer": format!("c{}", id % 17), "net_cents": id * 100});
        let value = if readable { order.to_string() } else { "what is this?".to_owned() };
        let record = ProducerRecord::new(topic("orders"), value).partition(index(partition));
        let delivery = producer.send(record).await.unwrap();
        if readable {
            fed.readable.push(id.to_string());
        } else {
            deliveries.push(delivery);
        }
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        fed.unreadable.push(format!("{partition}-{}", delivery.await.unwrap().offset.unwrap()));
    }
    fed
}

/// How the members' transactions ended, as far as it was looked at before the broker forgot.
type Ended = Arc<Mutex<BTreeMap<(usize, u64), Standing>>>;

async fn look_at_transactions(client: &Client, ended: &Ended) {
    for who in 0..MEMBERS {
        let known = transactions_of(client, who).await;
        let known = known.into_iter().map(|one| ((who, one.number), one.standing));
        let known = known.filter(|(_, standing)| *standing != Standing::Open);
        ended.lock().unwrap().extend(known);
    }
}

/// The newest ones of a member; none if the broker cannot be asked.
async fn transactions_of(client: &Client, who: usize) -> Vec<TransactionOutcome> {
    let id = TransactionalId::new(&format!("invoices-m{who}")).unwrap();
    match client.describe_outcomes(&id, OutcomeQuery::All).await {
        Ok(Outcomes::Known(known)) => known,
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Waits until somebody is in the middle of a transaction, and says who.
async fn in_a_transaction(client: &Client) -> usize {
    let deadline = Instant::now() + DEADLINE;
    loop {
        for who in 0..MEMBERS {
            let newest = transactions_of(client, who).await.into_iter().max_by_key(|one| one.number);
            if newest.is_some_and(|one| one.standing == Standing::Open) {
                return who;
            }
        }
        assert!(Instant::now() < deadline, "nobody works");
    }
}

/// How many were forgotten before they were looked at.
fn missed(ended: &BTreeMap<(usize, u64), Standing>) -> u64 {
    let newest = |who| ended.keys().filter(|(one, _)| *one == who).map(|(_, number)| *number).max();
    let begun: u64 = (0..MEMBERS).filter_map(newest).sum();
    begun.saturating_sub(u64::try_from(ended.len()).unwrap())
}

fn watch_transactions(client: &Client) -> (Ended, JoinHandle<()>) {
    let ended = Ended::default();
    let (client, known) = (client.clone(), Arc::clone(&ended));
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = tokio::spawn(async move {
        loop {
            looks.tick().await;
            look_at_transactions(&client, &known).await;
        }
    });
    (ended, looking)
}

/// The same sequence for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn number_in(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// Waits until so many orders are through.
async fn wait_for(members: &mut Members, through: &Through, wanted: usize) {
    let deadline = Instant::now() + DEADLINE;
    let mut changes = through.subscribe();
    let all = |through: &[usize; PARTITIONS]| through.iter().sum::<usize>() >= wanted;
    while tokio::time::timeout(LOOK, changes.wait_for(all)).await.is_err() {
        let so_far = *through.borrow();
        assert!(Instant::now() < deadline, "{so_far:?} of {wanted}\n{}", members.heard.text());
        members.revive();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_input_has_one_output_whoever_is_killed() {
    let program = program();
    let began = Instant::now();
    let mut broker =
        Broker::start_with(&["--consumer-session-timeout", "3000", "--consumer-heartbeat-interval", "200"]);
    let client = connect(&broker, "quic").await;
    let watcher = connect(&broker, "tls").await;
    for (name, count) in [("orders", PARTITIONS), ("invoices", PARTITIONS), ("orders-failed", 1)] {
        let count = i32::try_from(count).unwrap();
        Admin::new(&client).create_topic(&NewTopic::new(topic(name), count)).await.unwrap();
    }
    let mut members = Members::start(program, &broker);
    let through = Arc::new(Through::new([0; PARTITIONS]));
    let invoiced = watch_topic(&watcher, partitions("invoices", PARTITIONS), order_of, &through);
    let failed = watch_topic(&watcher, partitions("orders-failed", 1), origin_of, &through);
    let (ended, looking) = watch_transactions(&watcher);
    let producer = Arc::new(Producer::new(&client, ProducerConfig::default()).unwrap());
    let stop = watch::Sender::new(false);
    let feeding = (0..PARTITIONS)
        .map(|one| tokio::spawn(feed(Arc::clone(&producer), one, through.subscribe(), stop.subscribe())));
    let feeding: Vec<_> = feeding.collect();

    let seed = number_in("SEMEL_TEST_SEED", 1);
    let mut random = Random(u64::try_from(seed).unwrap());
    let broker_kills = kill_at_random(&watcher, &mut broker, &mut members, &through, &mut random).await;
    stop.send_replace(true);
    let mut fed = Fed::default();
    for feeder in feeding {
        let Fed { readable, unreadable } = feeder.await.unwrap();
        fed.readable.extend(readable);
        fed.unreadable.extend(unreadable);
    }
    let inputs = fed.readable.len() + fed.unreadable.len();
    wait_for(&mut members, &through, inputs).await;
    nothing_is_left(&client, &mut members).await;
    [invoiced, failed, looking].iter().for_each(JoinHandle::abort);
    look_at_transactions(&client, &ended).await;

    // Not only what the watchers have seen so far: all that there is.
    let invoices = read_all(&watcher, partitions("invoices", PARTITIONS), order_of).await;
    let quarantined = read_all(&watcher, partitions("orders-failed", 1), origin_of).await;
    let ended = ended.lock().unwrap();
    let count = |standing| ended.values().filter(|one| **one == standing).count();
    let (committed, aborted) = (count(Standing::Committed), count(Standing::Aborted));
    announce(&format!(
        "chain, seed {seed}: {inputs} inputs, {} invoices, {} in quarantine; kills: {} of members, {broker_kills} of the \
         broker; {} members gave up; transactions seen: {committed} committed, {aborted} aborted, {} not looked at in time; {:?}",
        invoices.values().sum::<usize>(),
        quarantined.values().sum::<usize>(),
        members.kills,
        members.ended_by_themselves,
        missed(&ended),
        began.elapsed()
    ));
    let once = |names: Vec<String>| names.into_iter().map(|name| (name, 1)).collect::<BTreeMap<_, usize>>();
    assert_eq!(invoices, once(fed.readable));
    assert_eq!(quarantined, once(fed.unreadable));
    let kills = number_in("SEMEL_TEST_KILLS", KILLS);
    assert!(inputs >= kills * THROUGH, "too little work: {inputs}");
    assert!(members.kills >= kills / 2 && broker_kills == kills / 3, "too few kills");
    assert!(committed >= 2 * kills && aborted >= kills / 4, "too few transactions");
}

/// Anybody is killed, one who is in the middle of a transaction, or then the broker, and a member with it or not. How often the
/// broker was killed.
async fn kill_at_random(
    client: &Client,
    broker: &mut Broker,
    members: &mut Members,
    through: &Through,
    random: &mut Random,
) -> usize {
    let mut broker_kills = 0;
    for kill in 0..number_in("SEMEL_TEST_KILLS", KILLS) {
        let so_far: usize = through.borrow().iter().sum();
        wait_for(members, through, so_far + THROUGH).await;
        let life = u64::try_from(random.below(LIFE_MAX_MS)).unwrap();
        tokio::time::sleep(Duration::from_millis(life)).await;
        let anybody = random.below(MEMBERS);
        let victim = in_a_transaction(client).await;
        match kill % 3 {
            0 => {
                members.kill(anybody);
                continue;
            }
            1 => {
                members.kill(victim);
                continue;
            }
            _ => broker.kill(),
        }
        broker_kills += 1;
        if random.below(2) == 0 {
            members.kill(victim);
        }
        broker.restart();
    }
    broker_kills
}

/// Waits until the group has committed all that there is. Nobody can do any of it again from then on.
async fn nothing_is_left(client: &Client, members: &mut Members) {
    let deadline = Instant::now() + DEADLINE;
    let orders = partitions("orders", PARTITIONS);
    let asked: Vec<_> = orders.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
    let ends = Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await.unwrap();
    let ends: Vec<Offset> = ends.into_iter().map(Result::unwrap).collect();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let group = GroupId::new("invoices");
        let committed = client.committed_offsets(&group, &orders, OffsetQuery::Stable).await.unwrap();
        let committed: Vec<_> =
            orders.iter().filter_map(|one| committed.get(one).map(|one| one.next)).collect();
        if committed == ends {
            return;
        }
        assert!(Instant::now() < deadline, "{committed:?} of {ends:?}\n{}", members.heard.text());
        members.revive();
    }
}

/// How often there is something about each order.
async fn read_all(
    client: &Client,
    partitions: Vec<TopicPartition>,
    about: fn(&ConsumedRecord) -> (String, usize),
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
            *found.entry(about(&record).0).or_default() += 1;
        }
    }
    found
}
