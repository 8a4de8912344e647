//! kill -9 in the middle of the work, again and again: what was acknowledged is there once, every transaction is whole,
//! what a reader has seen stays as it was, and the broker is back in a moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::actor::{Access, Actor, Row};
use common::broker::Broker;
use common::frames::Connection;
use common::process::{Heard, Process};
use common::tools::{self, announce};
use serde_json::{Value, json};

const KILLS: usize = 20;
const TOPIC: &str = "load";
const PARTITIONS: i32 = 3;

/// The clients' own back-off and the work in flight, on a busy machine.
const LOAD_DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn killed_twenty_times_under_librdkafka() {
    let Some(python) = tools::python() else { return };
    let mut load = Command::new(python);
    load.env("PYTHONDONTWRITEBYTECODE", "1").arg("-u").arg(tools::programs("python").join("load.py"));
    killed_twenty_times_under(load);
}

/// The second version of the transaction protocol.
#[test]
fn killed_twenty_times_under_java() {
    let Some(java) = tools::java() else { return };
    killed_twenty_times_under(java.command(&[], "Load"));
}

fn killed_twenty_times_under(mut load: Command) {
    let mut broker = Broker::start();
    let Some(reader) = Actor::librdkafka(&broker) else { return };
    reader.create_topic(TOPIC, PARTITIONS);
    let mut access = Access::from(&broker).to_json();
    (access["topic"], access["partitions"]) = (json!(TOPIC), json!(PARTITIONS));
    load.arg(access.to_string());
    let mut load = Process::spawn("the load", load, &Arc::new(Heard::default()));

    let mut ledger = Ledger::default();
    let mut seen = BTreeMap::new();
    let mut ready_after = Vec::new();
    for round in 0..kills() {
        load.say("run");
        // Each time at another moment: after a few transactions, or after many, and the other records meanwhile.
        let enough = ledger.ended.len() + 10 + round * 7 % 40;
        while ledger.ended.len() < enough {
            ledger.hear(&mut load);
        }
        broker.kill();
        broker.restart();
        ready_after.push(broker.ready_after());
        load.say("pause");
        while !ledger.hear(&mut load) {}

        nothing_holds_back_readers(&broker);
        let committed = reader.read_committed(TOPIC, PARTITIONS).rows;
        ledger.agrees_with(&committed);
        keeps_prefix(&seen, &committed);
        seen = committed;
    }
    report(&ledger, ready_after);
}

/// LsoAdvances: with every transaction ended, the last stable offset is at the high watermark. At once in semel; Apache
/// Kafka writes its markers some time after it has acknowledged the commit.
fn nothing_holds_back_readers(broker: &Broker) {
    let mut connection = Connection::open(broker);
    for partition in 0..PARTITIONS {
        let mut marks = || {
            let fetched = connection.fetch(TOPIC, partition, 0);
            (fetched.last_stable_offset, fetched.high_watermark)
        };
        let (mut stable, mut high) = marks();
        while stable < high && !Broker::runs_semel() {
            (stable, high) = marks();
        }
        assert_eq!(stable, high, "an ended transaction still holds back partition {partition}");
    }
}

/// Fewer, to compare with a broker that takes its time to come back.
fn kills() -> usize {
    std::env::var("SEMEL_TEST_KILLS")
        .map_or(KILLS, |number| number.parse().expect("SEMEL_TEST_KILLS is a number"))
}

fn report(ledger: &Ledger, mut ready_after: Vec<Duration>) {
    let count = |wanted| ledger.ended.values().filter(|outcome| **outcome == wanted).count();
    announce(&format!(
        "{} records acknowledged; {} transactions committed, {} aborted, {} unknown; ready after {:?} ms",
        ledger.acknowledged.len(),
        count(Outcome::Committed),
        count(Outcome::Aborted),
        count(Outcome::Unknown),
        ready_after.iter().map(Duration::as_millis).collect::<Vec<_>>(),
    ));
    ready_after.sort();
    let (median, worst) = (ready_after[ready_after.len() / 2], ready_after[ready_after.len() - 1]);
    announce(&format!("ready after {median:.0?} in the median, {worst:.0?} at worst"));
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Committed,
    Aborted,
    Unknown,
}

/// What the load was told.
#[derive(Default)]
struct Ledger {
    /// Partition and offset of each acknowledged record.
    acknowledged: HashMap<String, (i32, i64)>,
    ended: HashMap<String, Outcome>,
}

impl Ledger {
    /// Takes down the next thing that the load tells; true when it says that it has paused.
    fn hear(&mut self, load: &mut Process) -> bool {
        let line = load.line(LOAD_DEADLINE);
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the load said {line}"));
        let outcome = match told[0].as_str().unwrap() {
            "paused" => return true,
            "acked" => {
                let place = (i32::try_from(told[1].as_i64().unwrap()).unwrap(), told[2].as_i64().unwrap());
                let before = self.acknowledged.insert(told[3].as_str().unwrap().to_owned(), place);
                assert_eq!(before, None, "acknowledged twice: {line}");
                return false;
            }
            "committed" => Outcome::Committed,
            "aborted" => Outcome::Aborted,
            "unknown" => Outcome::Unknown,
            _ => panic!("the load said {line}"),
        };
        assert_eq!(
            self.ended.insert(told[1].as_str().unwrap().to_owned(), outcome),
            None,
            "ended twice: {line}"
        );
        false
    }

    /// With nothing in flight, what is read is what was acknowledged: no more, no less, and no other way round.
    fn agrees_with(&self, read: &BTreeMap<i32, Vec<Row>>) {
        let mut idempotent = HashMap::new();
        let mut transactions: HashMap<&str, Transaction> = HashMap::new();
        for (partition, rows) in read {
            let mut last = HashMap::new();
            for row in rows {
                let words = row.value.split(' ').collect::<Vec<_>>();
                let (producer, number) = match words[..] {
                    ["i", producer, number] => {
                        let before = idempotent.insert(row.value.clone(), (*partition, row.offset));
                        assert_eq!(before, None, "{} is there twice", row.value);
                        (producer, number.parse::<u64>().unwrap())
                    }
                    ["t", transaction, index, size] => {
                        transactions.entry(transaction).or_default().add(transaction, index, size);
                        (transaction, index.parse().unwrap())
                    }
                    _ => panic!("nobody wrote {row:?}"),
                };
                let before = last.insert(producer, number);
                assert!(before.is_none_or(|before| before < number), "{producer}: {number} after {before:?}");
            }
        }
        self.agree_on_idempotent(&idempotent);
        self.agree_on_transactions(&transactions);
    }

    fn agree_on_idempotent(&self, read: &HashMap<String, (i32, i64)>) {
        for (value, place) in &self.acknowledged {
            assert_eq!(read.get(value), Some(place), "{value} was acknowledged");
        }
        assert_eq!(read.len(), self.acknowledged.len(), "records that nobody acknowledged");
    }

    fn agree_on_transactions(&self, read: &HashMap<&str, Transaction>) {
        for (transaction, records) in read {
            assert!(self.ended.contains_key(*transaction), "{transaction} is still in flight");
            let here = records.indices.len();
            assert_eq!(here, records.size, "{transaction} is torn");
        }
        for (transaction, outcome) in &self.ended {
            match outcome {
                Outcome::Committed => {
                    assert!(read.contains_key(&**transaction), "{transaction} was committed")
                }
                Outcome::Aborted => assert!(!read.contains_key(&**transaction), "{transaction} was aborted"),
                Outcome::Unknown => {}
            }
        }
    }
}

/// The records of one transaction that were read.
#[derive(Default)]
struct Transaction {
    size: usize,
    indices: HashSet<usize>,
}

impl Transaction {
    fn add(&mut self, name: &str, index: &str, size: &str) {
        self.size = size.parse().unwrap();
        assert!(self.indices.insert(index.parse().unwrap()), "{name}: record {index} is there twice");
    }
}

/// CommittedPrefixStable: offsets only grow, and what was read before is read again.
fn keeps_prefix(before: &BTreeMap<i32, Vec<Row>>, now: &BTreeMap<i32, Vec<Row>>) {
    for (partition, rows) in now {
        assert!(rows.is_sorted_by(|one, next| one.offset < next.offset), "offsets of partition {partition}");
    }
    for (partition, rows) in before {
        let now = &now[partition];
        assert!(now.len() >= rows.len(), "partition {partition} has lost records");
        let changed = rows.iter().zip(now).find(|(before, now)| before != now);
        assert_eq!(changed, None, "partition {partition} has changed");
    }
}
