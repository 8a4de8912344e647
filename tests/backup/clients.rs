//! Other people's clients that were connected before a backup and wrote after it go on against what was restored of it, on
//! the same port: what they are told, and what is there, is what `spec/backup.md` promises.

use super::*;
use common::actor::{Actor, Producer};
use serde_json::json;
use std::time::Instant;

const DEADLINE: Duration = Duration::from_secs(90);

/// The parts that a client plays, in a topic of its own of one partition.
struct Cast<'a> {
    client: &'a Actor,
    topic: String,
    /// Writes before the backup and after the restore.
    steady: Producer<'a>,
    /// Writes in between too.
    ahead: Producer<'a>,
    /// Begins after the backup.
    late: Option<Producer<'a>>,
    /// Commits before the backup and after it.
    committing: Producer<'a>,
    /// Has a transaction open while the backup is taken.
    open: Producer<'a>,
    /// What was acknowledged and is in the backup.
    kept: Vec<String>,
    /// What a member of a group has read, by offset.
    read: BTreeMap<i64, String>,
}

const MEMBER: u64 = 99;

impl<'a> Cast<'a> {
    fn new(client: &'a Actor) -> Cast<'a> {
        let topic = format!("restored-{}", client.name());
        client.create_topic(&topic, 1);
        let request = json!({
            "op": "subscribe", "id": MEMBER, "topic": topic, "group": topic, "assignor": "range",
        });
        client.ask(&request).unwrap();
        Cast {
            client,
            steady: client.producer("none"),
            ahead: client.producer("none"),
            late: None,
            committing: client.transactional(&format!("{topic}-committing")),
            open: client.transactional(&format!("{topic}-open")),
            topic,
            kept: Vec::new(),
            read: BTreeMap::new(),
        }
    }

    fn send(&self, producer: &Producer<'_>, values: &[&str]) {
        let records: Vec<_> = values.iter().map(|value| (0, None, *value)).collect();
        producer.send(&self.topic, &records);
    }

    fn before_the_backup(&mut self) {
        self.send(&self.steady, &["steady 1"]);
        self.send(&self.ahead, &["ahead 1", "ahead 2"]);
        self.committing.begin();
        self.send(&self.committing, &["committed 1"]);
        self.committing.commit();
        self.kept = ["steady 1", "ahead 1", "ahead 2", "committed 1"].map(str::to_owned).to_vec();
        self.open.begin();
        self.send(&self.open, &["never committed"]);
    }

    fn after_the_backup(&mut self) {
        self.send(&self.ahead, &["lost 1", "lost 2"]);
        let late = self.client.producer("none");
        self.send(&late, &["lost 3"]);
        self.late = Some(late);
        self.open.commit();
        self.committing.begin();
        self.send(&self.committing, &["lost 4", "lost 5", "lost 6"]);
        self.committing.commit();
        self.poll_until("lost 6");
    }

    /// The member reads on until it has seen a value.
    fn poll_until(&mut self, value: &str) {
        let begun = Instant::now();
        while self.read.values().all(|read| read != value) {
            let answer = self.client.ask(&json!({"op": "poll", "id": MEMBER, "ms": 200})).unwrap();
            for row in answer["rows"].as_array().unwrap() {
                self.read.insert(row[1].as_i64().unwrap(), row[2].as_str().unwrap().to_owned());
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{value} is not read: {:?}\n{}",
                self.read,
                self.client.log()
            );
        }
    }

    /// What is there now, by offset.
    fn there(&self) -> BTreeMap<i64, String> {
        let rows = self.client.read_committed(&self.topic, 1).rows.remove(&0).unwrap();
        rows.into_iter().map(|row| (row.offset, row.value)).collect()
    }

    fn after_the_restore(mut self) {
        let there: Vec<String> = self.there().into_values().collect();
        assert_eq!(there, self.kept, "what was open in the backup was aborted, what came after it is gone");

        // Who wrote nothing that is gone goes on, and hears of nothing.
        self.send(&self.steady, &["steady 2"]);
        self.kept.push("steady 2".to_owned());
        // Who was told of what is gone is never told that something is stored that is not, and stores nothing twice.
        for producer in ["ahead", "late"] {
            let value = format!("{producer} after");
            let writer = if producer == "ahead" { &self.ahead } else { self.late.as_ref().unwrap() };
            let told = writer.try_send(&self.topic, &[(0, None, &value)]);
            let there = self.there();
            let at = there.iter().find(|(_, there)| **there == value).map(|(offset, _)| *offset);
            // The Java client begins an epoch of its own and sends the record again; librdkafka gives up.
            assert_eq!(told.is_ok(), self.client.name() == "kafka-clients", "{told:?}");
            match told {
                Ok(offsets) => {
                    assert_eq!(at, Some(offsets[0]), "{}: {producer} was told so", self.client.name());
                    self.kept.push(value);
                }
                Err(failure) => {
                    let told = format!("{failure:?}").to_lowercase();
                    assert!(told.contains("sequence") || told.contains("order"), "{told}");
                    assert_eq!(at, None, "{}: {producer} was told that it is not", self.client.name());
                }
            }
        }
        self.transactions_begin_anew();
        let there: Vec<String> = self.there().into_values().collect();
        assert_eq!(there, self.kept, "each once, in order");
        // The member had read further than the log now reaches, and misses nothing of what came then.
        self.poll_until("committed anew");
        for (offset, value) in self.there() {
            if !value.starts_with("ahead 1") && !value.starts_with("steady 1") {
                assert_eq!(self.read.get(&offset), Some(&value), "{}", self.client.name());
            }
        }
    }

    /// Whoever held a transactional id is fenced; who begins anew commits.
    fn transactions_begin_anew(&mut self) {
        let began = self.committing.try_begin();
        let told = began.and_then(|()| {
            self.committing.try_send(&self.topic, &[(0, None, "of one that is fenced")])?;
            self.committing.try_commit()
        });
        assert!(told.is_err(), "{} goes on as if nothing had happened", self.client.name());
        let anew = self.client.transactional(&format!("{}-committing", self.topic));
        anew.begin();
        self.send(&anew, &["committed anew"]);
        anew.commit();
        self.kept.push("committed anew".to_owned());
    }
}

#[test]
fn other_peoples_clients_go_on_after_a_restore() {
    let (_backups, mut broker) = start();
    let clients: Vec<Actor> =
        [Actor::java(&broker), Actor::librdkafka(&broker)].into_iter().flatten().collect();
    if clients.is_empty() {
        return;
    }
    let mut casts: Vec<Cast<'_>> = clients.iter().map(Cast::new).collect();
    casts.iter_mut().for_each(Cast::before_the_backup);
    let backup = back_up(&broker, "before");
    casts.iter_mut().for_each(Cast::after_the_backup);
    restore(&mut broker, &backup, "lost");
    casts.into_iter().for_each(Cast::after_the_restore);
}
