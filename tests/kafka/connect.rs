//! Kafka Connect keeps what it knows in three compacted topics, and writes the lines of a file exactly once: a worker is
//! killed again and again, and finds its connectors, and how far they were, in what compaction has left.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::COMPACTION;
use crate::common::actor::{Access, Actor};
use crate::common::broker::Broker;
use crate::common::tools;
use crate::program::Program;

const TOPIC: &str = "lines";
const DEADLINE: Duration = Duration::from_secs(120);
const LINES_PER_ROUND: usize = 5_000;
/// Where Connect notes down how far sources are.
const OFFSETS: &str = "connect-offset";

fn start(java: &tools::Java, broker: &Broker) -> Program {
    let mut command = java.command(&[], "Worker");
    command.arg(Access::from(broker).to_json().to_string());
    let mut worker = Program::start("kafka-connect", command);
    worker.until(|said| said["serves"].as_bool());
    worker
}

fn make(worker: &mut Program, name: &str, config: &serde_json::Value) {
    worker.say(&json!({"name": name, "config": config}).to_string());
    worker.until(|said| (said["made"] == name).then_some(()));
}

/// The file that is read, and what is in it.
struct Source {
    file: File,
    lines: Vec<String>,
}

impl Source {
    fn append(&mut self, count: usize) {
        let from = self.lines.len();
        self.lines.extend((from..from + count).map(|number| format!("line {number}")));
        let text: String = self.lines[from..].iter().map(|line| format!("{line}\n")).collect();
        self.file.write_all(text.as_bytes()).unwrap();
    }

    /// What has been committed: the beginning of the file, each line once.
    fn committed(&self, reader: &Actor) -> usize {
        let read = reader.read_committed(TOPIC, 1);
        let values = read.values().remove(0);
        let fits = values.iter().zip(&self.lines).position(|(value, line)| value != line);
        assert_eq!(fits, None, "the first that is not what it is in the file, of {}", values.len());
        assert!(values.len() <= self.lines.len(), "more than there is");
        values.len()
    }

    fn until(&self, reader: &Actor, wanted: impl Fn(usize) -> bool) {
        let begun = Instant::now();
        while !wanted(self.committed(reader)) {
            assert!(begun.elapsed() < DEADLINE, "{} of {}", self.committed(reader), self.lines.len());
        }
    }
}

#[test]
fn connect_finds_itself_again_and_writes_the_lines_of_a_file_once() {
    let Some(java) = tools::kafka_connect() else { return };
    let mut broker = Broker::start_with(COMPACTION);
    let (Some(java_client), Some(reader)) = (Actor::java(&broker), Actor::librdkafka(&broker)) else {
        return;
    };
    java_client.create_topic(TOPIC, 1);
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    let mut source = Source { file: File::create(&from).unwrap(), lines: Vec::new() };
    source.append(100);
    let mut worker = start(&java, &broker);
    let reading = json!({
        "connector.class": "LinesConnector", "tasks.max": "1", "file": from, "topic": TOPIC,
        "exactly.once.support": "required", "transaction.boundary": "poll",
    });
    make(&mut worker, "reading", &reading);
    source.until(&reader, |count| count == 100);
    for round in 0..3 {
        let before = source.lines.len();
        source.append(LINES_PER_ROUND);
        source.until(&reader, |count| count > before);
        worker.kill();
        source.append(10);
        if round == 1 {
            broker.kill();
            broker.restart();
        }
        worker = start(&java, &broker);
        source.until(&reader, |count| count == source.lines.len());
    }
    // Kafka compacts only what lies in closed segments.
    if Broker::runs_semel() {
        let begun = Instant::now();
        let left =
            || reader.read_committed(OFFSETS, 2).rows.into_values().map(|rows| rows.len()).sum::<usize>();
        while left() > 30 {
            assert!(begun.elapsed() < DEADLINE, "{} are left", left());
        }
    }
    worker.say("close");
    assert!(worker.ends());
    source.append(10);
    let mut worker = start(&java, &broker);
    source.until(&reader, |count| count == source.lines.len());
    worker.say("close");
    assert!(worker.ends());
}
