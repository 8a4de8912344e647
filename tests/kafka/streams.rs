//! Kafka Streams counts words exactly once, in a store of its own whose changelog is compacted meanwhile. It is killed again
//! and again, loses its state directory, and makes the store anew of the changelog; the broker is killed too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::COMPACTION;
use crate::common::actor::{Access, Actor};
use crate::common::broker::Broker;
use crate::common::tools;
use crate::program::Program;

const PARTITIONS: i32 = 2;
const WORDS: usize = 9;
const RECORDS_PER_ROUND: usize = 600;
const DEADLINE: Duration = Duration::from_secs(120);
/// What Streams calls the topic that a store is restored from.
const CHANGELOG: &str = "counting-counts-changelog";

type Counts = BTreeMap<String, u64>;

fn start(java: &tools::Java, broker: &Broker, state: &Path) -> Program {
    let mut access = Access::from(broker).to_json();
    access["state_dir"] = json!(state);
    let mut command = java.command(&[], "Counts");
    command.arg(access.to_string());
    Program::start("kafka-streams", command)
}

/// Waits until it runs; returns how many records of the changelog it has restored till then.
fn runs(streams: &mut Program) -> u64 {
    let mut restored = 0;
    while let Some(records) = streams.until(|said| match said["restored"].as_u64() {
        Some(records) if said["of"] == "counts" => Some(Some(records)),
        _ => (said["state"] == "RUNNING").then_some(None),
    }) {
        restored += records;
    }
    restored
}

/// What is in its store.
fn store(streams: &mut Program) -> Counts {
    streams.say("store");
    streams.until(|said: &Value| {
        let store = said["store"].as_object()?;
        Some(
            store
                .iter()
                .map(|(word, count)| (word.clone(), count.as_str().unwrap().parse().unwrap()))
                .collect(),
        )
    })
}

/// The newest count of each word. Each word's counts are 1, 2, 3, …: nothing was counted twice, and nothing left out.
fn counted(reader: &Actor) -> Counts {
    let mut newest = Counts::new();
    for row in reader.read_committed("counted", PARTITIONS).rows.into_values().flatten() {
        let (word, count) = (row.key.unwrap(), row.value.parse::<u64>().unwrap());
        let before = newest.insert(word.clone(), count).unwrap_or(0);
        assert_eq!(count, before + 1, "of {word}");
    }
    newest
}

fn until_counted(reader: &Actor, written: &Counts) {
    let begun = Instant::now();
    loop {
        let found = counted(reader);
        if found == *written {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{found:?} of {written:?} were counted");
    }
}

/// What the changelog says, and how many records that takes.
fn changelog(reader: &Actor) -> (Counts, usize) {
    let rows: Vec<_> = reader.read_committed(CHANGELOG, PARTITIONS).rows.into_values().flatten().collect();
    let count = rows.len();
    (rows.into_iter().map(|row| (row.key.unwrap(), row.value.parse().unwrap())).collect(), count)
}

/// A round of words is written.
fn write(writer: &Actor, round: usize, written: &mut Counts) {
    let producer = writer.producer("lz4");
    let values: Vec<String> = (0..RECORDS_PER_ROUND)
        .map(|number| format!("word{} {round} {number}", (number * (round + 1) + round) % WORDS))
        .collect();
    let partition = |number: usize| i32::try_from(number).unwrap() % PARTITIONS;
    let records: Vec<_> =
        values.iter().enumerate().map(|(number, value)| (partition(number), None, value.as_str())).collect();
    producer.send("words", &records);
    producer.close();
    for value in &values {
        *written.entry(value.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
}

#[test]
fn words_are_counted_once_through_kills_and_a_lost_state_directory() {
    let Some(java) = tools::kafka_streams() else { return };
    let mut broker = Broker::start_with(COMPACTION);
    let (Some(writer), Some(reader)) = (Actor::java(&broker), Actor::librdkafka(&broker)) else { return };
    for topic in ["words", "counted"] {
        writer.create_topic(topic, PARTITIONS);
    }
    let state: TempDir = tempfile::tempdir().unwrap();
    let mut written = Counts::new();
    write(&writer, 0, &mut written);
    let mut streams = start(&java, &broker, state.path());
    assert_eq!(runs(&mut streams), 0, "there is nothing yet to restore");
    until_counted(&reader, &written);
    for (round, loses_state) in [(1, false), (2, true), (3, true)] {
        let before = written.clone();
        write(&writer, 10 * round, &mut written);
        // In the middle of it, as far as it can be told.
        let begun = Instant::now();
        while counted(&reader) == before {
            assert!(begun.elapsed() < DEADLINE, "nothing is counted");
        }
        streams.kill();
        counted(&reader);
        if loses_state {
            fs::remove_dir_all(state.path()).unwrap();
            fs::create_dir(state.path()).unwrap();
        }
        write(&writer, 10 * round + 1, &mut written);
        streams = start(&java, &broker, state.path());
        let restored = runs(&mut streams);
        assert!(!loses_state || restored > 0, "a lost store is restored");
        if round == 2 {
            broker.kill();
            broker.restart();
        }
        until_counted(&reader, &written);
        assert_eq!(store(&mut streams), written);
    }
    is_compacted(&reader, &written);

    // In the end, in order, and once more of the changelog alone.
    streams.say("close");
    assert!(streams.ends());
    fs::remove_dir_all(state.path()).unwrap();
    fs::create_dir(state.path()).unwrap();
    let mut streams = start(&java, &broker, state.path());
    assert!(runs(&mut streams) >= WORDS as u64);
    assert_eq!(store(&mut streams), written);
    assert_eq!(counted(&reader), written, "nothing is counted again");
    streams.say("close");
    assert!(streams.ends());
}

/// The changelog says the same, and comes to hold little more than the words.
fn is_compacted(reader: &Actor, written: &Counts) {
    // Kafka compacts only what lies in closed segments.
    if !Broker::runs_semel() {
        return;
    }
    let begun = Instant::now();
    let records = usize::try_from(written.values().sum::<u64>()).unwrap();
    loop {
        let (found, count) = changelog(reader);
        assert_eq!(found, *written);
        if count < records / 2 {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "of {records} records {count} are left");
    }
}
