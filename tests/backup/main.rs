//! Backups: taken while clients write and segments are freed, restored elsewhere, verified; and the same clients go on
//! against what was restored. `compacted.rs` does that with topics that are compacted, `clients.rs` with other people's
//! clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod compacted;
mod elsewhere;

use common::broker::{Broker, binary};
use semel::client::{
    Admin, Client, ClientConfig, ConsumedRecord, Consumer, ConsumerConfig, Isolation, NewTopic, Producer,
    ProducerConfig, ProducerRecord, Start, TlsFiles, TopicPartition, TransactionConfig,
    TransactionalProducer,
};
use semel::types::{Offset, PartitionIndex, TopicName, TransactionalId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 2;
const RECORDS_PER_TRANSACTION: usize = 3;

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(name(TOPIC), PartitionIndex(index))
}

fn config(broker: &Broker) -> ClientConfig {
    let endpoint = format!("quic://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    config.call_timeout = Duration::from_secs(60);
    config
}

/// A broker with small segments that are freed soon, and a directory for its backups.
fn start() -> (TempDir, Broker) {
    start_with(&[])
}

/// Small segments, which are soon full.
const SMALL: &[&str] = &[
    "--segment-bytes=4194304",
    "--frame-bytes=524288",
    "--snapshot-bytes=1048576",
    "--checkpoint-bytes=1048576",
    "--reserve-bytes=0",
];

fn start_with(further: &[&str]) -> (TempDir, Broker) {
    let backups = tempfile::Builder::new().prefix("semel-backups-").tempdir().unwrap();
    let dir = format!("--backup-dir={}", backups.path().display());
    let broker = Broker::start_with(&[&[dir.as_str()], SMALL, further].concat());
    (backups, broker)
}

fn semel(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(std::env::temp_dir()).env("SEMEL_TIMEOUT", "60");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> Vec<Value> {
    let output = semel(arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn fails(arguments: &[&str], says: &[&str]) {
    let output = semel(arguments);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    says.iter().for_each(|part| assert!(said.contains(part), "{arguments:?} does not say {part:?}: {said}"));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Puts what was restored from a backup in the place of the broker's data, and starts it there; certificates are no part of a
/// backup. Returns where each partition of the topic ends.
fn restore(broker: &mut Broker, backup: &Path, lost: &str) -> BTreeMap<i32, i64> {
    broker.kill();
    let (data_dir, lost) = (broker.data_dir(), broker.data_dir().with_file_name(lost));
    fs::rename(&data_dir, &lost).unwrap();
    let ends = succeeds(&["restore", path(backup), "--data-dir", path(&data_dir)]);
    let copied = Command::new("cp").arg("-r").arg(lost.join("tls")).arg(&data_dir).status().unwrap();
    assert!(copied.success());
    broker.restart();
    let of_topic = ends.iter().filter(|end| end["topic"] == TOPIC);
    of_topic
        .map(|end| (i32::try_from(end["partition"].as_i64().unwrap()).unwrap(), end["end"].as_i64().unwrap()))
        .collect()
}

/// The records of each partition, by offset.
type Records = BTreeMap<i32, BTreeMap<i64, String>>;

/// What a reader of committed records sees in these partitions.
async fn committed(client: &Client, partitions: &[TopicPartition]) -> Vec<ConsumedRecord> {
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
    let ends = Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await.unwrap();
    let ends: Vec<Offset> = ends.into_iter().map(Result::unwrap).collect();
    let isolation = Isolation::ReadCommitted;
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    partitions.iter().for_each(|partition| consumer.seek(partition.clone(), Start::Earliest));
    let mut seen = Vec::new();
    let behind = |consumer: &Consumer| {
        let position = |partition| consumer.position(partition).unwrap_or(Offset::ZERO);
        partitions.iter().zip(&ends).any(|(partition, end)| *end > position(partition))
    };
    while behind(&consumer) {
        seen.extend(consumer.next_chunk().await.unwrap());
    }
    seen
}

async fn read(client: &Client) -> Records {
    let partitions: Vec<_> = (0..PARTITIONS).map(partition).collect();
    let mut seen: Records = BTreeMap::new();
    for record in committed(client, &partitions).await {
        let value = text(&record.record.value.unwrap());
        seen.entry(record.partition.partition.0).or_default().insert(record.offset.0, value);
    }
    seen
}

/// The clients, and what they were told.
struct Load {
    idempotent: Vec<Producer>,
    transactional: Vec<TransactionalProducer>,
    next: usize,
    /// Acknowledged records of idempotent producers: value → partition and offset.
    acknowledged: BTreeMap<String, (i32, i64)>,
    /// Committed transactions.
    committed: BTreeSet<String>,
}

impl Load {
    async fn new(client: &Client) -> Load {
        let producer = || Producer::new(client, ProducerConfig::default()).unwrap();
        let idempotent = (0..PRODUCERS).map(|_| producer()).collect();
        let mut load = Load {
            idempotent,
            transactional: Vec::new(),
            next: 0,
            acknowledged: BTreeMap::new(),
            committed: BTreeSet::new(),
        };
        load.begin_transactional(client).await;
        load
    }

    async fn begin_transactional(&mut self, client: &Client) {
        self.transactional.clear();
        for number in 0..PRODUCERS {
            let id = TransactionalId::new(&format!("load-{number}")).unwrap();
            let config = TransactionConfig::default();
            self.transactional.push(TransactionalProducer::init(client, id, config).await.unwrap());
        }
    }

    /// Each producer writes its next record, each transactional one a transaction.
    async fn round(&mut self) {
        self.next += 1;
        for producer in 0..PRODUCERS {
            self.write(producer).await.unwrap();
            self.transact(producer).await.unwrap();
        }
    }

    async fn write(&mut self, producer: usize) -> Result<(), String> {
        let value = format!("i {producer} {}", self.next);
        let index = i32::try_from(producer).unwrap() % PARTITIONS;
        let record = ProducerRecord::new(name(TOPIC), value.clone()).partition(PartitionIndex(index));
        let delivery = self.idempotent[producer].send(record).await.map_err(|error| error.to_string())?;
        let delivered = delivery.await.map_err(|error| error.to_string())?;
        self.acknowledged.insert(value, (index, delivered.offset.unwrap().0));
        Ok(())
    }

    async fn transact(&mut self, producer: usize) -> Result<(), String> {
        let id = format!("{producer}-{}", self.next);
        let begun = self.transactional[producer].begin().await;
        let mut transaction = begun.map_err(|error| error.to_string())?;
        for record in 0..RECORDS_PER_TRANSACTION {
            let value = format!("t {id} {record}");
            let index = PartitionIndex(i32::try_from(record).unwrap() % PARTITIONS);
            let record = ProducerRecord::new(name(TOPIC), value).partition(index);
            transaction.send(record).await.map_err(|error| error.to_string())?;
        }
        transaction.commit().await.map_err(|error| error.to_string())?;
        self.committed.insert(id);
        Ok(())
    }
}

/// Writes so many records of 16 KiB.
async fn fill(client: &Client, topic: &TopicName, records: usize) {
    let producer = Producer::new(client, ProducerConfig::default()).unwrap();
    for _ in 0..records {
        producer.send(ProducerRecord::new(topic.clone(), vec![0x5a; 16 << 10])).await.unwrap();
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
}

/// Writes much that is deleted at once: its segments are freed, what else is in them is moved.
async fn churn(client: &Client, number: usize) {
    let (admin, topic) = (Admin::new(client), name(&format!("passing-{number}")));
    admin.create_topic(&NewTopic::new(topic.clone(), 1)).await.unwrap();
    fill(client, &topic, 6 * 64).await;
    admin.delete_topic(&topic).await.unwrap();
}

/// Everything in `acknowledged` and `committed` is read where it was acknowledged, nothing twice, every transaction whole.
fn agrees(read: &Records, acknowledged: &BTreeMap<String, (i32, i64)>, committed: &BTreeSet<String>) {
    let mut transactions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (partition, records) in read {
        for (offset, value) in records {
            let before = places.insert(value.as_str(), (*partition, *offset));
            assert_eq!(before, None, "{value} is there twice");
            if let ["t", id, record] = value.split(' ').collect::<Vec<_>>()[..] {
                transactions.entry(id).or_default().insert(record);
            }
        }
    }
    for (value, place) in acknowledged {
        assert_eq!(places.get(value.as_str()), Some(place), "{value} was acknowledged");
    }
    for (id, records) in &transactions {
        assert_eq!(records.len(), RECORDS_PER_TRANSACTION, "transaction {id} is torn");
    }
    for id in committed {
        assert!(transactions.contains_key(id.as_str()), "transaction {id} was committed");
    }
}

/// Of each idempotent producer, what is there has no gap.
fn has_no_gap(read: &Records, from: usize) {
    for producer in 0..PRODUCERS {
        let numbers: Vec<usize> = read[&(i32::try_from(producer).unwrap() % PARTITIONS)]
            .values()
            .filter_map(|value| value.strip_prefix(&format!("i {producer} "))?.parse().ok())
            .filter(|number| *number >= from)
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "producer {producer}: {numbers:?}");
    }
}

fn inodes(dir: &Path) -> BTreeSet<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let files = ["log", "snapshots"].into_iter().flat_map(|part| fs::read_dir(dir.join(part)).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().ino()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_restored_and_its_clients_go_on_without_loss_or_duplicate() {
    let (_backups, mut broker) = start();
    let client = Client::connect(config(&broker)).await.unwrap();
    Admin::new(&client).create_topic(&NewTopic::new(name(TOPIC), PARTITIONS)).await.unwrap();
    let mut load = Load::new(&client).await;
    // Segments that stay as they are, whatever is freed and moved.
    Admin::new(&client).create_topic(&NewTopic::new(name("beside"), 1)).await.unwrap();
    fill(&client, &name("beside"), 10 * 64).await;
    for number in 0..4 {
        load.round().await;
        churn(&client, number).await;
    }
    let one = back_up(&broker, "one");
    for number in 4..6 {
        load.round().await;
        churn(&client, number).await;
    }
    let (before, committed_before) = (load.acknowledged.clone(), load.committed.clone());
    // The second while everybody writes, deletes, frees and moves.
    let two = {
        let taking = tokio::task::spawn_blocking({
            let (address, data_dir) = (broker.address(), broker.data_dir());
            move || back_up_at(&address.to_string(), &data_dir, "two")
        });
        let (churning, mut number) = (Client::connect(config(&broker)).await.unwrap(), 6);
        while !taking.is_finished() {
            load.round().await;
            churn(&churning, number).await;
            number += 1;
        }
        taking.await.unwrap()
    };
    let shared = inodes(&one).intersection(&inodes(&two)).count();
    assert!(shared > 0, "what has not changed since the first is shared with it");
    for number in 100..103 {
        load.round().await;
        churn(&client, number).await;
    }
    for backup in [&one, &two] {
        let said = succeeds(&["verify", path(backup)]);
        assert_eq!(said.last().unwrap()["problems"], 0, "{said:?}");
    }

    let told = (before, committed_before);
    let (restored, written) = goes_on(&mut broker, &client, &two, load, &told).await;
    let acknowledged: BTreeMap<_, _> = told.0.into_iter().chain(written.acknowledged).collect();
    let committed: BTreeSet<_> = told.1.into_iter().chain(written.committed).collect();
    let now = read(&client).await;
    agrees(&now, &acknowledged, &committed);
    for (partition, records) in &restored {
        assert!(
            records.iter().all(|(offset, value)| now[partition].get(offset) == Some(value)),
            "{partition}"
        );
    }

    // A backup of what was restored is restored like any other, and the first one is as it was.
    let three = back_up(&broker, "three");
    assert!(broker.stop().success());
    let said = succeeds(&["verify", path(&broker.data_dir())]);
    assert_eq!(said.last().unwrap()["problems"], 0, "{said:?}");
    broker.restart();
    restore(&mut broker, &three, "lost-again");
    agrees(&read(&client).await, &acknowledged, &committed);
    assert_eq!(succeeds(&["verify", path(&one)]).last().unwrap()["problems"], 0);
}

/// Restores a backup that was taken after all of `told`. Those that were told more do not go on; others begin. Returns what
/// was restored, and what was written then.
async fn goes_on(
    broker: &mut Broker,
    client: &Client,
    backup: &Path,
    mut load: Load,
    told: &(BTreeMap<String, (i32, i64)>, BTreeSet<String>),
) -> (Records, Load) {
    let ends = restore(broker, backup, "lost");
    let restored = read(client).await;
    agrees(&restored, &told.0, &told.1);
    has_no_gap(&restored, 0);
    for (partition, records) in &restored {
        assert!(records.keys().all(|offset| *offset < ends[partition]), "{ends:?}");
    }
    let lost = load.acknowledged.values().filter(|(index, offset)| *offset >= ends[index]).count();
    assert!(lost > 0, "something was acknowledged after the backup");

    // Who was acknowledged what is not there is told so, and does not go on.
    load.next += 1;
    for producer in 0..PRODUCERS {
        let error = load.write(producer).await.unwrap_err();
        assert!(error.contains("OUT_OF_ORDER_SEQUENCE_NUMBER"), "{error}");
        let error = load.transact(producer).await.unwrap_err();
        assert!(error.contains("fenced") || error.contains("taken over"), "{error}");
    }
    assert_eq!(read(client).await, restored, "nothing of it is there");

    let mut next = Load::new(client).await;
    next.next = load.next + 100;
    for number in 200..203 {
        next.round().await;
        churn(client, number).await;
    }
    has_no_gap(&read(client).await, load.next + 100);
    (restored, next)
}

fn back_up_at(address: &str, data_dir: &Path, name: &str) -> PathBuf {
    let address = format!("quic://{address}");
    let said = succeeds(&["backup", name, "--bootstrap", &address, "--data-dir", path(data_dir)]);
    PathBuf::from(said[0]["path"].as_str().unwrap())
}

/// Has the broker take a backup; returns where it is.
fn back_up(broker: &Broker, name: &str) -> PathBuf {
    back_up_at(&broker.address().to_string(), &broker.data_dir(), name)
}

fn copy_of(backup: &Path) -> TempDir {
    let copy = tempfile::Builder::new().prefix("semel-copy-").tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(backup).arg(copy.path().join("b")).status().unwrap();
    assert!(copied.success());
    copy
}

fn has_snapshot(data_dir: &Path) -> bool {
    let files = fs::read_dir(data_dir.join("snapshots")).unwrap();
    files.flatten().any(|file| file.file_name().to_string_lossy().ends_with(".rows"))
}

/// Damages a backup, and says what is to be named.
type Damage = fn(&Path) -> String;

fn file_of(dir: &Path, newest: bool) -> PathBuf {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join("log")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    if newest { files.pop().unwrap() } else { files.remove(0) }
}

const DAMAGES: [(&str, Damage); 6] = [
    ("a byte of the snapshot is another one", |dir| {
        let file = fs::read_dir(dir.join("snapshots")).unwrap().next().unwrap().unwrap().path();
        let mut content = fs::read(&file).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(&file, content).unwrap();
        path(&file).to_owned()
    }),
    ("a byte is another one", |dir| {
        let file = file_of(dir, true);
        let mut content = fs::read(&file).unwrap();
        // In the first block.
        content[4096 + 200] ^= 0x40;
        fs::write(&file, content).unwrap();
        path(&file).to_owned()
    }),
    ("a file is too short", |dir| {
        let file = file_of(dir, false);
        fs::File::options().write(true).open(&file).unwrap().set_len(5000).unwrap();
        path(&file).to_owned()
    }),
    ("a file is missing", |dir| {
        let file = file_of(dir, false);
        fs::remove_file(&file).unwrap();
        path(&file).to_owned()
    }),
    ("the manifest is another one", |dir| {
        let manifest = dir.join("manifest");
        let text = fs::read_to_string(&manifest).unwrap().replace("\"end\": ", "\"end\": 1");
        fs::write(&manifest, text).unwrap();
        path(&manifest).to_owned()
    }),
    ("the manifest is missing", |dir| {
        fs::remove_file(dir.join("manifest")).unwrap();
        path(dir).to_owned()
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_is_refused_by_name() {
    let (backups, mut broker) = start();
    let client = Client::connect(config(&broker)).await.unwrap();
    Admin::new(&client).create_topic(&NewTopic::new(name(TOPIC), PARTITIONS)).await.unwrap();
    let mut load = Load::new(&client).await;
    for number in 0..3 {
        load.round().await;
        churn(&client, number).await;
    }
    // One of the damages is to a snapshot: the log grows until there is one.
    let mut number = 3;
    while !has_snapshot(&broker.data_dir()) {
        assert!(number < 100, "no snapshot is taken\n{}", broker.log());
        churn(&client, number).await;
        number += 1;
    }
    let backup = back_up(&broker, "whole");
    let target = backups.path().join("data");
    for (what, damage) in DAMAGES {
        let copy = copy_of(&backup);
        let dir = copy.path().join("b");
        let named = damage(&dir);
        fails(&["restore", path(&dir), "--data-dir", path(&target)], &[&named]);
        assert!(!target.exists(), "{what}: nothing is left of it");
    }
    // A backup is no data directory, and a data directory no backup; only an empty one is restored into.
    fails(&["serve", "--data-dir", path(&backup), "--listen", "127.0.0.1:0"], &["semel restore"]);
    fails(&["restore", path(&broker.data_dir()), "--data-dir", path(&target)], &["is no backup"]);
    fails(&["restore", path(&backup), "--data-dir", path(&broker.data_dir())], &["not empty"]);
    // Nor can anything be started where a restore did not come to its end.
    succeeds(&["restore", path(&backup), "--data-dir", path(&target)]);
    fs::rename(target.join("restored"), target.join("restoring")).unwrap();
    fails(&["serve", "--data-dir", path(&target), "--listen", "127.0.0.1:0"], &["did not come to its end"]);
    // Clients say what a backup is called, not where it is.
    let (address, data_dir) = (format!("quic://{}", broker.address()), broker.data_dir());
    for name in ["../outside", "a/b", ".hidden"] {
        fails(
            &["backup", name, "--bootstrap", &address, "--data-dir", path(&data_dir)],
            &["a backup's name"],
        );
    }
    assert!(broker.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_leaves_nothing_that_is_taken_for_a_backup() {
    let (backups, mut broker) = start();
    let client = Client::connect(config(&broker)).await.unwrap();
    Admin::new(&client).create_topic(&NewTopic::new(name(TOPIC), PARTITIONS)).await.unwrap();
    let mut load = Load::new(&client).await;
    for number in 0..2 {
        load.round().await;
        churn(&client, number).await;
    }
    for round in 0..6 {
        let name = format!("round-{round}");
        let taking = {
            let (address, data_dir, name) =
                (format!("quic://{}", broker.address()), broker.data_dir(), name.clone());
            let timeout = ["--timeout", "5"];
            tokio::task::spawn_blocking(move || {
                let arguments = ["backup", &name, "--bootstrap", &address, "--data-dir", path(&data_dir)];
                semel(&[&arguments[..], &timeout[..]].concat())
            })
        };
        // As soon as anything of it is there; each round a little later.
        let unfinished = backups.path().join(format!(".unfinished-{name}"));
        let begun = async {
            while !unfinished.exists() && !backups.path().join(&name).exists() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), begun).await.unwrap();
        tokio::time::sleep(Duration::from_micros(round * 1500)).await;
        broker.kill();
        taking.await.unwrap();
        for entry in fs::read_dir(backups.path()).unwrap().map(|entry| entry.unwrap()) {
            let is_unfinished = entry.file_name().to_string_lossy().starts_with(".unfinished-");
            // One that was killed just before it would have got its name is whole, and nobody knows it.
            if !is_unfinished || entry.path().join("manifest").exists() {
                succeeds(&["verify", path(&entry.path())]);
            } else {
                let nowhere = backups.path().join("nowhere");
                fails(&["restore", path(&entry.path()), "--data-dir", path(&nowhere)], &["is no backup"]);
            }
        }
        broker.restart();
    }
    let last = back_up(&broker, "last");
    assert_eq!(succeeds(&["verify", path(&last)]).last().unwrap()["problems"], 0);
    let left = fs::read_dir(backups.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".unfinished-")));
}
