//! A third-party client as an actor: a small program around somebody else's Kafka client, which obeys one line of JSON
//! on standard input after the other and answers each with one line of JSON. The story is told once, in Rust; every
//! client can play every part in it.
//!
//! A request is `{"op": NAME, ...}`, its answer an object, or `{"error": NAME, "message": TEXT}`. The programs lie in
//! `tests/outside/`; what the operations take and give is said there, in `python/actor.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::broker::Broker;
use super::process::{Heard, Process};
use super::tools;

/// No operation of a healthy client takes longer, not on a machine whose cores are all busy either.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

/// Makes Apache Kafka's client log each request that it sends, with its version.
const LOG_REQUESTS: &str = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients.NetworkClient=debug";

/// And say why it rebalances.
const LOG_GROUPS: &str = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients.consumer.internals=info";

/// Where the broker is and how to be let in: what each program gets as its only argument.
#[derive(Clone, Debug)]
pub struct Access {
    pub bootstrap: String,
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The settings that the broker itself wrote for Java clients.
    pub properties: PathBuf,
}

impl From<&Broker> for Access {
    fn from(broker: &Broker) -> Access {
        Access {
            bootstrap: broker.address().to_string(),
            ca: broker.tls("ca.pem"),
            cert: broker.tls("client.pem"),
            key: broker.tls("client.key"),
            properties: broker.data_dir().join("client.properties"),
        }
    }
}

impl Access {
    pub fn to_json(&self) -> Value {
        json!({
            "bootstrap": self.bootstrap,
            "ca": self.ca,
            "cert": self.cert,
            "key": self.key,
            "properties": self.properties,
        })
    }
}

pub struct Actor {
    name: &'static str,
    process: Mutex<Process>,
    producers: AtomicU64,
    heard: Arc<Heard>,
}

/// What a client reports when an operation fails: the name of the error in its own words, and its message.
#[derive(Debug, Clone)]
pub struct Failure {
    pub error: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub offset: i64,
    pub key: Option<String>,
    pub value: String,
}

/// What a reader found from offset 0 to the end that its isolation level shows, by partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub rows: BTreeMap<i32, Vec<Row>>,
}

impl Read {
    /// The values of each partition in the order in which the reader got them.
    pub fn values(&self) -> Vec<Vec<&str>> {
        self.rows.values().map(|rows| rows.iter().map(|row| row.value.as_str()).collect()).collect()
    }
}

/// A record to send: partition, key, value.
pub type Record<'a> = (i32, Option<&'a str>, &'a str);

impl Actor {
    /// librdkafka, through confluent-kafka for Python.
    pub fn librdkafka(access: impl Into<Access>) -> Option<Actor> {
        Actor::python(&access.into(), "librdkafka", "librdkafka.py")
    }

    pub fn aiokafka(access: impl Into<Access>) -> Option<Actor> {
        Actor::python(&access.into(), "aiokafka", "aio.py")
    }

    pub fn kafka_python(access: impl Into<Access>) -> Option<Actor> {
        Actor::python(&access.into(), "kafka-python", "pure.py")
    }

    fn python(access: &Access, name: &'static str, program: &str) -> Option<Actor> {
        let mut command = Command::new(tools::python()?);
        // Nothing but the sources in the source tree.
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg("-u").arg(tools::programs("python").join(program));
        Some(Actor::spawn(name, command, access))
    }

    /// Apache Kafka's own client, as `DIR/client.properties` configures it.
    pub fn java(access: impl Into<Access>) -> Option<Actor> {
        let command = tools::java()?.command(&[LOG_REQUESTS, LOG_GROUPS], "Actor");
        Some(Actor::spawn("kafka-clients", command, &access.into()))
    }

    pub fn kafkajs(access: impl Into<Access>) -> Option<Actor> {
        let mut command = Command::new("node");
        command.arg(tools::node()?.join("actor.js"));
        Some(Actor::spawn("kafkajs", command, &access.into()))
    }

    fn spawn(name: &'static str, mut command: Command, access: &Access) -> Actor {
        let heard = Arc::new(Heard::default());
        command.arg(access.to_json().to_string());
        let process = Mutex::new(Process::spawn(name, command, &heard));
        Actor { name, process, producers: AtomicU64::new(0), heard }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// kill -9.
    pub fn kill(&self) {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).kill();
    }

    /// All that the client logged so far.
    pub fn log(&self) -> String {
        self.heard.text()
    }

    pub fn ask(&self, request: &Value) -> Result<Value, Failure> {
        let mut process = self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        process.say(&request.to_string());
        let line = process.line(ANSWER_DEADLINE);
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}: {line}", self.name));
        match answer.get("error").and_then(Value::as_str) {
            None => Ok(answer),
            Some(error) => {
                let message = answer["message"].as_str().unwrap_or_default().to_owned();
                Err(Failure { error: error.to_owned(), message })
            }
        }
    }

    /// Asks for what must succeed.
    fn must(&self, request: &Value) -> Value {
        self.ask(request).unwrap_or_else(|failure| {
            let process = self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            panic!("{}: {request} failed: {failure:?}\n{}", self.name, process.report())
        })
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.must(&json!({"op": "topic", "name": topic, "partitions": partitions}));
    }

    pub fn create_topic_with(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        self.must(&json!({"op": "topic", "name": topic, "partitions": partitions, "config": config}));
    }

    /// A producer that sends each record in a batch of its own, five in flight.
    pub fn producer_singly(&self, transactional_id: Option<&str>) -> Producer<'_> {
        let options = json!({"compression": "none", "singly": true, "transactional_id": transactional_id});
        self.open(&options).unwrap_or_else(|failure| panic!("{}: {failure:?}", self.name))
    }

    /// A producer without transactions; idempotent, as each client understands it.
    pub fn producer(&self, compression: &str) -> Producer<'_> {
        self.open(&json!({"compression": compression}))
            .unwrap_or_else(|failure| panic!("{}: {failure:?}", self.name))
    }

    /// A producer that has become the holder of a transactional id.
    pub fn transactional(&self, transactional_id: &str) -> Producer<'_> {
        self.transactional_with(transactional_id, "none")
    }

    pub fn transactional_with(&self, transactional_id: &str, compression: &str) -> Producer<'_> {
        let options = json!({"transactional_id": transactional_id, "compression": compression});
        self.open(&options).unwrap_or_else(|failure| panic!("{}: {transactional_id}: {failure:?}", self.name))
    }

    /// A transactional producer that the broker does not wait for any longer than this.
    pub fn transactional_within(&self, transactional_id: &str, timeout: Duration) -> Producer<'_> {
        let timeout = u64::try_from(timeout.as_millis()).unwrap();
        let options =
            json!({"transactional_id": transactional_id, "compression": "none", "timeout_ms": timeout});
        self.open(&options).unwrap_or_else(|failure| panic!("{}: {transactional_id}: {failure:?}", self.name))
    }

    fn open(&self, options: &Value) -> Result<Producer<'_>, Failure> {
        let id = self.producers.fetch_add(1, Ordering::Relaxed);
        let mut request = options.clone();
        request["op"] = json!("producer");
        request["id"] = json!(id);
        self.ask(&request)?;
        Ok(Producer { actor: self, id })
    }

    /// Reads the first `partitions` partitions from offset 0 to their present end.
    pub fn read(&self, topic: &str, partitions: i32, isolation: Isolation) -> Read {
        let isolation = match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        let request = json!({"op": "read", "topic": topic, "partitions": partitions, "isolation": isolation});
        let answer = self.must(&request);
        let mut rows = (0..partitions).map(|partition| (partition, Vec::new())).collect::<BTreeMap<_, _>>();
        for row in answer["rows"].as_array().unwrap() {
            let partition = i32::try_from(row[0].as_i64().unwrap()).unwrap();
            rows.get_mut(&partition).unwrap().push(Row {
                offset: row[1].as_i64().unwrap(),
                key: row[2].as_str().map(str::to_owned),
                value: row[3].as_str().unwrap().to_owned(),
            });
        }
        Read { rows }
    }

    pub fn read_committed(&self, topic: &str, partitions: i32) -> Read {
        self.read(topic, partitions, Isolation::ReadCommitted)
    }

    pub fn read_uncommitted(&self, topic: &str, partitions: i32) -> Read {
        self.read(topic, partitions, Isolation::ReadUncommitted)
    }

    /// The offset that a group has committed for a partition.
    pub fn group_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let request = json!({"op": "group_offset", "group": group, "topic": topic, "partition": partition});
        self.must(&request)["offset"].as_i64()
    }
}

/// A producer that lives in an actor.
pub struct Producer<'a> {
    actor: &'a Actor,
    id: u64,
}

impl Producer<'_> {
    fn ask(&self, op: &str, further: Value) -> Result<Value, Failure> {
        let mut request = further;
        request["op"] = json!(op);
        request["id"] = json!(self.id);
        self.actor.ask(&request)
    }

    fn must(&self, op: &str, further: Value) -> Value {
        self.ask(op, further).unwrap_or_else(|failure| {
            panic!("{}: {op}: {failure:?}\n{}", self.actor.name, self.actor.heard.text())
        })
    }

    pub fn begin(&self) {
        self.must("begin", json!({}));
    }

    pub fn try_begin(&self) -> Result<(), Failure> {
        self.ask("begin", json!({})).map(|_| ())
    }

    /// Sends records and waits until all are acknowledged; their offsets in the same order.
    pub fn send(&self, topic: &str, records: &[Record<'_>]) -> Vec<i64> {
        self.try_send(topic, records).unwrap_or_else(|failure| {
            panic!("{}: send: {failure:?}\n{}", self.actor.name, self.actor.heard.text())
        })
    }

    pub fn try_send(&self, topic: &str, records: &[Record<'_>]) -> Result<Vec<i64>, Failure> {
        let answer = self.ask("send", json!({"topic": topic, "records": records}))?;
        Ok(answer["offsets"].as_array().unwrap().iter().map(|offset| offset.as_i64().unwrap()).collect())
    }

    /// Sends records, each (partition, idempotency key, value), and waits until it is known what became of each: its offset,
    /// or why it is not stored.
    pub fn send_keyed(&self, topic: &str, records: &[(i32, String, String)]) -> Vec<Result<i64, Failure>> {
        let answer = self.must("send_keyed", json!({"topic": topic, "records": records}));
        let outcome = |told: &Value| match told[0].as_i64() {
            Some(offset) => Ok(offset),
            None => Err(Failure {
                error: told[0].as_str().unwrap_or_default().to_owned(),
                message: told[1].as_str().unwrap_or_default().to_owned(),
            }),
        };
        answer["outcomes"].as_array().unwrap().iter().map(outcome).collect()
    }

    /// Makes a group's offset part of the open transaction.
    pub fn send_group_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let request = json!({"group": group, "topic": topic, "partition": partition, "offset": offset});
        self.must("send_group_offset", request);
    }

    pub fn commit(&self) {
        self.must("commit", json!({}));
    }

    pub fn try_commit(&self) -> Result<(), Failure> {
        self.ask("commit", json!({})).map(|_| ())
    }

    pub fn abort(&self) {
        self.must("abort", json!({}));
    }

    pub fn close(self) {
        self.must("close", json!({}));
    }
}
