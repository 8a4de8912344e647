//! Other people's readers of a topic that is compacted under them: what they fold by key is what was written, at every
//! moment, and in the end little more than that is left.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::actor::{Actor, Producer, Row};
use crate::common::broker::{self, Broker};

/// As fast as it goes, in segments so small that some are freed meanwhile.
const OPTIONS: &[&str] = &[
    "--compaction-check-ms=20",
    "--compaction-share=100",
    "--compaction-memory-bytes=4096",
    "--segment-bytes=4194304",
    "--frame-bytes=524288",
    "--snapshot-bytes=1048576",
    "--reserve-bytes=0",
];
const TOPIC: &str = "changelog";
const KEYS: usize = 12;
const ROUNDS: usize = 12;
const DEADLINE: Duration = Duration::from_secs(60);

/// `semel topic` towards the broker.
fn semel_topic(broker: &Broker, words: &[&str]) {
    let mut command = Command::new(broker::binary());
    command.arg("topic").args(words).arg("--bootstrap").arg(format!("tls://{}", broker.address()));
    command.env("SEMEL_TIMEOUT", "60");
    let status = command.arg("--data-dir").arg(broker.data_dir()).status().unwrap();
    assert!(status.success(), "semel topic {words:?}");
}

/// What was written: the newest value of each key, and where it is.
#[derive(Default)]
struct Model {
    newest: BTreeMap<String, Row>,
    records: usize,
}

impl Model {
    /// Records of this round; those of a transaction that is aborted are not kept in mind.
    fn send(&mut self, producer: &Producer<'_>, round: usize, counts: bool) {
        let large = "x".repeat(2_000);
        let records: Vec<(String, String)> = (0..2 * KEYS)
            .map(|number| {
                (format!("key {}", (number * (round + 1)) % KEYS), format!("{round} {number} {large}"))
            })
            .collect();
        let sent: Vec<_> =
            records.iter().map(|(key, value)| (0, Some(key.as_str()), value.as_str())).collect();
        let offsets = producer.send(TOPIC, &sent);
        self.records += sent.len();
        for ((key, value), offset) in records.into_iter().zip(offsets).filter(|_| counts) {
            self.newest.insert(key.clone(), Row { offset, key: Some(key), value });
        }
    }

    /// Reads it all; returns how many records there were.
    fn check(&self, reader: &Actor) -> usize {
        let read = reader.read_committed(TOPIC, 1);
        let rows = read.rows.get(&0).cloned().unwrap_or_default();
        assert!(rows.is_sorted_by_key(|row| row.offset), "in order");
        let count = rows.len();
        let folded: BTreeMap<String, Row> =
            rows.into_iter().map(|row| (row.key.clone().unwrap(), row)).collect();
        assert_eq!(folded, self.newest, "{}", reader.name());
        count
    }
}

#[test]
fn readers_of_a_compacted_topic_miss_nothing() {
    // Kafka compacts closed segments only, and when it is not told otherwise every 15 seconds.
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start_with(OPTIONS);
    let (Some(java), Some(librdkafka)) = (Actor::java(&broker), Actor::librdkafka(&broker)) else { return };
    let settings = [
        "--config",
        "cleanup.policy=compact",
        "--config",
        "min.cleanable.dirty.ratio=0.01",
        "--partitions",
        "1",
    ];
    semel_topic(&broker, &[&["create", TOPIC], &settings[..]].concat());
    let mut model = Model::default();
    let plain = java.producer("lz4");
    let transactional = librdkafka.transactional("changelog");
    for round in 0..ROUNDS {
        model.send(&plain, round, true);
        if round % 2 == 0 {
            let commits = round % 4 == 0;
            transactional.begin();
            model.send(&transactional, round, commits);
            // What is open holds back compaction, not readers of what lies below it.
            java.read_committed(TOPIC, 1);
            if commits { transactional.commit() } else { transactional.abort() }
        }
        for reader in [&java, &librdkafka] {
            model.check(reader);
        }
    }
    // One record of each key, and what is in the last batches.
    let left = KEYS * 4;
    let begun = Instant::now();
    while model.check(&java) > left {
        assert!(begun.elapsed() < DEADLINE, "of {} records too many are left", model.records);
    }
    assert!(model.check(&librdkafka) <= left && model.records > 10 * KEYS);
}
