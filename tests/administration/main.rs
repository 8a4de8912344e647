//! Administration from outside: topics with settings, deleted records, retention, the log's tools; by Kafka's clients and
//! tools and by the `semel` command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;
mod groups;
mod transactions;

use common::actor::{Access, Actor};
use common::broker::{self, Broker};
use common::process::{Piped, pipe};
use common::tools::{self, Java};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a program to its end and expects it to say that all is well.
fn expect_done(name: &str, command: Command) {
    let told = pipe(name, command, b"", DEADLINE);
    let done = told.status.success() && told.lines.last().is_some_and(|line| line == "done");
    assert!(done, "{name}: {}\n{}\n{}", told.status, told.lines.join("\n"), told.errors);
}

/// Runs a Java program that knows what it expects.
fn java_program(class: &str) {
    let broker = Broker::start();
    let Some(java) = tools::java() else { return };
    let access = Access::from(&broker);
    let mut command = java.command(&[], class);
    command.arg(access.bootstrap).arg(access.properties);
    expect_done(class, command);
}

#[test]
fn kafkas_own_client_administers_topics() {
    java_program("Administrator");
}

#[test]
fn kafkas_own_client_administers_groups() {
    java_program("Groups");
}

#[test]
fn librdkafka_administers_topics() {
    let broker = Broker::start();
    let Some(python) = tools::python() else { return };
    let mut command = Command::new(python);
    command.arg(tools::programs("python").join("administrator.py"));
    command.arg(Access::from(&broker).to_json().to_string());
    expect_done("librdkafka's administrator", command);
}

/// Runs one of Kafka's tools to its end, and returns what it printed.
fn tool(java: &Java, access: &Access, class: &str, config: &str, words: &[&str], input: &str) -> String {
    let mut command = java.command(&[], &format!("org.apache.kafka.tools.{class}"));
    command.args(["--bootstrap-server", &access.bootstrap, config]).arg(&access.properties).args(words);
    let told = pipe(class, command, input.as_bytes(), DEADLINE);
    assert!(told.status.success(), "{class} {words:?}: {}\n{}", told.lines.join("\n"), told.errors);
    told.lines.join("\n")
}

/// kafka-configs, kafka-console-producer and -consumer, kafka-consumer-groups, kafka-transactions.
#[test]
fn kafkas_own_tools_write_read_and_look_after_groups_and_transactions() {
    let broker = Broker::start();
    let (Some(java), Some(client)) = (tools::kafka_tools(), Actor::librdkafka(&broker)) else { return };
    let access = Access::from(&broker);
    let tool = |class: &str, words: &[&str], input: &str| {
        tool(java, &access, class, "--command-config", words, input)
    };
    client.create_topic("tooled", 1);
    let topic = ["--entity-type", "topics", "--entity-name", "tooled"];
    tool(
        "ConfigCommand",
        &[&topic[..], &["--alter", "--add-config", "retention.bytes=1000000"]].concat(),
        "",
    );
    let described = tool("ConfigCommand", &[&topic[..], &["--describe"]].concat(), "");
    assert!(described.contains("retention.bytes=1000000"), "{described}");

    tool("ConsoleProducer", &["--topic", "tooled"], "a\nb\nc\n");
    let reading = ["--topic", "tooled", "--from-beginning", "--group", "readers", "--max-messages", "3"];
    let committed = ["--isolation-level", "read_committed"];
    let read = tool("consumer.ConsoleConsumer", &[&reading[..], &committed].concat(), "");
    assert_eq!(read, "a\nb\nc");

    // KIP-848: the same consumer in the other protocol.
    let modern = ["--topic", "tooled", "--from-beginning", "--group", "modern", "--max-messages", "3"];
    let modern = [&modern[..], &["--command-property", "group.protocol=consumer"]].concat();
    assert_eq!(tool("consumer.ConsoleConsumer", &modern, ""), "a\nb\nc");
    let group_command = |words: &[&str]| tool("consumer.group.ConsumerGroupCommand", words, "");
    let listed = group_command(&["--list", "--state", "Empty", "--type"]);
    for (name, kind) in [("readers", "Classic"), ("modern", "Consumer")] {
        let line = listed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{listed}"));
        assert!(line.contains("Empty") && line.contains(kind), "{listed}");
    }
    let all = group_command(&["--describe", "--all-groups"]);
    assert!(all.contains("readers") && all.contains("modern"), "{all}");

    let group = ["--group", "readers"];
    let groups = |words: &[&str]| group_command(&[&group[..], words].concat());
    let cells = |table: &str| {
        let row = table.lines().find(|line| line.contains("tooled")).unwrap_or_else(|| panic!("{table}"));
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(cells(&groups(&["--describe"]))[1..6], ["tooled", "0", "3", "3", "0"]);
    groups(&["--reset-offsets", "--to-offset", "1", "--topic", "tooled", "--execute"]);
    assert_eq!(cells(&groups(&["--describe"]))[1..6], ["tooled", "0", "1", "3", "2"]);
    let told = groups(&["--reset-offsets", "--shift-by", "1", "--all-topics", "--dry-run"]);
    assert_eq!(cells(&told)[1..4], ["tooled", "0", "2"], "{told}");
    assert_eq!(cells(&groups(&["--describe"]))[1..6], ["tooled", "0", "1", "3", "2"], "nothing is done yet");
    groups(&["--delete-offsets", "--topic", "tooled"]);
    assert!(!groups(&["--describe"]).contains("tooled"));
    groups(&["--delete"]);

    // Several Java programs start before it is ended.
    let writer = client.transactional_within("tooled-writer", Duration::from_secs(600));
    writer.begin();
    writer.send("tooled", &[(0, None, "open")]);
    let transactions = |words: &[&str]| tool("TransactionsCommand", words, "");
    let listed = transactions(&["list"]);
    assert!(listed.contains("tooled-writer") && listed.contains("Ongoing"), "{listed}");
    let place = ["--topic", "tooled", "--partition", "0"];
    let found = transactions(&[&["describe-producers"], &place[..]].concat());
    assert!(found.lines().count() >= 2, "{found}");
    let hanging =
        transactions(&[&["find-hanging"], &place[..], &["--max-transaction-timeout", "0"]].concat());
    assert!(
        hanging.contains("StartOffset") && !hanging.contains("tooled"),
        "its coordinator knows of it: {hanging}"
    );
    transactions(&[&["abort"], &place[..], &["--start-offset", "3"]].concat());
    let described = transactions(&["describe", "--transactional-id", "tooled-writer"]);
    assert!(described.contains("CompleteAbort"), "{described}");
    assert!(writer.try_commit().is_err(), "it has been aborted");
}

#[test]
fn kafkas_own_tools_work() {
    let broker = Broker::start();
    let Some(java) = tools::kafka_tools() else { return };
    let access = Access::from(&broker);
    let tool = |class: &str, config: &str, words: &[&str]| tool(java, &access, class, config, words, "");
    let topics = |words: &[&str]| tool("TopicCommand", "--command-config", words);
    let config = "retention.bytes=1000000";
    topics(&["--create", "--topic", "tooled", "--partitions", "2", "--config", config]);
    let described = topics(&["--describe", "--topic", "tooled"]);
    assert!(described.contains("PartitionCount: 2") && described.contains(config), "{described}");
    let semel = Semel::of(&broker);
    semel.done(&["produce", "tooled", "--partition", "0"], "a\nb\nc\n");
    let offsets = access.properties.with_file_name("delete.json");
    let wanted = r#"{"version": 1, "partitions": [{"topic": "tooled", "partition": 0, "offset": 2}]}"#;
    fs::write(&offsets, wanted).unwrap();
    let file = offsets.display().to_string();
    let deleted = tool("DeleteRecordsCommand", "--command-config", &["--offset-json-file", &file]);
    assert!(deleted.contains("low_watermark: 2"), "{deleted}");
    for (time, expected) in
        [("earliest", "tooled:0:2"), ("latest", "tooled:0:3"), ("max-timestamp", "tooled:0:2")]
    {
        let words = ["--topic", "tooled", "--partitions", "0", "--time", time];
        let found = tool("GetOffsetShell", "--command-config", &words);
        assert!(found.contains(expected), "{time}: {found}");
    }
}

/// The `semel` command, towards one broker.
struct Semel {
    bootstrap: String,
    data_dir: PathBuf,
}

impl Semel {
    fn of(broker: &Broker) -> Semel {
        Semel { bootstrap: format!("tls://{}", broker.address()), data_dir: broker.data_dir() }
    }

    /// Runs a command of the client.
    fn run(&self, words: &[&str], input: &str) -> Piped {
        self.run_within("15", words, input)
    }

    fn run_within(&self, seconds: &str, words: &[&str], input: &str) -> Piped {
        let mut command = Command::new(broker::binary());
        command.args(words).args(["--bootstrap", &self.bootstrap, "--data-dir"]).arg(&self.data_dir);
        command.env("SEMEL_TIMEOUT", seconds);
        pipe("semel", command, input.as_bytes(), DEADLINE)
    }

    fn done(&self, words: &[&str], input: &str) -> Vec<String> {
        let told = self.run_within("60", words, input);
        assert!(told.status.success(), "semel {words:?}: {}\n{}", told.lines.join("\n"), told.errors);
        told.lines
    }

    /// Runs a tool for the log of the stopped broker.
    fn log(&self, tool: &str, words: &[&str]) -> Piped {
        let mut command = Command::new(broker::binary());
        command.args(["log", tool]).arg(&self.data_dir).args(words);
        pipe("semel log", command, b"", DEADLINE)
    }
}

fn objects(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

#[test]
fn the_command_line_configures_topics_and_deletes_records() {
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start();
    let semel = Semel::of(&broker);
    semel.done(&["topic", "create", "t", "--partitions", "2", "--config", "retention.ms=-1"], "");
    let set = ["topic", "config", "t", "--set", "retention.bytes=5000", "--set", "max.message.bytes=900"];
    let entries = objects(&semel.done(&[&set[..], &["--unset", "retention.ms"]].concat(), ""));
    let of = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(
        (&of("retention.bytes")["value"], &of("retention.bytes")["source"]),
        (&"5000".into(), &"topic".into())
    );
    assert_eq!(of("retention.ms")["source"], "default");
    let refused = semel.run(&["topic", "config", "t", "--set", "preallocate=true"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.errors.contains("retention.ms"), "it says what is supported: {}", refused.errors);
    let table = semel.done(&["topic", "config", "t", "--output", "table"], "");
    assert!(
        table.iter().any(|line| line.trim_start().starts_with("retention.bytes") && line.contains("5000")),
        "{table:?}"
    );

    semel.done(&["produce", "t", "--partition", "0"], "a\nb\nc\n");
    let told = objects(
        &semel.done(&["topic", "delete-records", "t", "--partition", "0", "--before-offset", "1"], ""),
    );
    assert_eq!(told[0]["low_watermark"], 1);
    let nowhere = semel.run(&["topic", "delete-records", "t", "--before-offset", "1"], "");
    assert_eq!(nowhere.status.code(), Some(2));
    let all =
        objects(&semel.done(&["topic", "delete-records", "t", "--before-offset", "high-watermark"], ""));
    let marks: Vec<_> = all.iter().map(|line| line["low_watermark"].as_i64().unwrap()).collect();
    assert_eq!(marks, [3, 0]);
}

#[test]
fn the_command_line_stores_a_record_of_each_key_once() {
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start();
    let semel = Semel::of(&broker);
    semel.done(&["topic", "create", "plain"], "");
    let refused = semel.run(&["produce", "plain", "--idempotency-key", "file"], "a\n");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused.errors.contains("--set semel.idempotency.key.header="),
        "it says what to do: {}",
        refused.errors
    );

    // The header's name is the topic's choice.
    let asks = ["--config", "semel.idempotency.key.header=Order-Id"];
    semel.done(&[&["topic", "create", "once", "--partitions", "1"], &asks[..]].concat(), "");
    let produce = |words: &[&str], input: &str| {
        let told = semel.run(&[&["produce", "once"], words].concat(), input);
        assert!(told.status.success(), "{}", told.errors);
        told.errors
    };
    let named = ["--idempotency-key", "file"];
    assert!(produce(&named, "a\nb\n").starts_with("2 records stored"));
    let again = produce(&named, "a\nb\nc\nd\n");
    assert!(
        again.starts_with("2 records stored") && again.contains("2 records had been accepted before"),
        "{again}"
    );
    let separated = ["--idempotency-separator", "|", "--key-separator", ":"];
    let told = produce(&separated, "17|alice:5\n18|bob:7\n17|alice:5\n");
    assert!(
        told.starts_with("2 records stored") && told.contains("1 record had been accepted before"),
        "{told}"
    );

    let whole = ["produce", "once", "--transactional", "teller", "--idempotency-separator", "|"];
    let refused = semel.run(&whole, "19|new\n18|known\n");
    assert!(!refused.status.success(), "a transaction with an accepted key is aborted: {}", refused.errors);
    let told = semel.run(&whole, "19|new\n");
    assert!(told.status.success(), "and has freed its other keys: {}", told.errors);
    let read = semel.done(&["consume", "once"], "");
    assert_eq!(read, ["a", "b", "c", "d", "5", "7", "new"]);
}

#[test]
fn records_expire_while_the_broker_serves_and_stay_gone_when_it_is_killed() {
    if !Broker::runs_semel() {
        return;
    }
    let mut broker = Broker::start_with(&["--retention-check-ms", "50"]);
    let semel = Semel::of(&broker);
    semel.done(
        &["topic", "create", "t", "--config", "retention.bytes=300", "--config", "retention.ms=-1"],
        "",
    );
    for number in 0..20 {
        semel.done(&["produce", "t"], &format!("record {number}\n"));
    }
    let first = || -> i64 {
        let told = objects(&semel.done(&["topic", "describe", "t", "--output", "json"], ""));
        told[0]["partitions"][0]["first_offset"].as_i64().unwrap()
    };
    let begun = Instant::now();
    while first() < 10 {
        assert!(begun.elapsed() < DEADLINE, "nothing expires");
    }
    let before = first();
    broker.kill();
    broker.restart();
    assert!(first() >= before);
    let rest = semel.done(&["consume", "t"], "");
    assert_eq!(rest.last().unwrap(), "record 19");
    assert!(rest.len() >= 2 && rest.len() <= 10, "at least 300 bytes are kept: {rest:?}");
}

#[test]
fn the_log_is_verified_inspected_and_exported_also_when_it_is_damaged() {
    if !Broker::runs_semel() {
        return;
    }
    let mut broker = Broker::start();
    let semel = Semel::of(&broker);
    semel.done(&["topic", "create", "t"], "");
    semel.done(&["topic", "create", "other"], "");
    let used = semel.log("verify", &[]);
    assert!(!used.status.success() && used.errors.contains("in use"), "{}", used.errors);
    for word in ["one", "two", "three"] {
        semel.done(&["produce", "t"], &format!("{word}\n"));
        semel.done(&["produce", "other"], &format!("not {word}\n"));
    }
    broker.kill();
    // What is not applied would be missed at the start, so the rows are left out of it.
    fs::remove_dir_all(broker.data_dir().join("rows")).unwrap();
    let whole = semel.log("verify", &[]);
    assert!(whole.status.success(), "{}", whole.errors);
    assert!(objects(&whole.lines)[0]["batches"].as_u64().unwrap() >= 6);

    // The second record's batch is damaged, where it lies.
    let blocks = objects(&semel.log("inspect", &[]).lines);
    let is_second =
        |line: &&Value| line["event"].as_str().is_some_and(|event| event.contains("base_offset: Offset(1)"));
    let second = blocks.iter().find(is_second).expect("the second record");
    let path = broker
        .data_dir()
        .join(format!("log/{:020}.log", second["segment"].as_str().unwrap().parse::<u64>().unwrap()));
    let mut content = fs::read(&path).unwrap();
    let position = usize::try_from(second["position"].as_u64().unwrap()).unwrap();
    content[position + 32 + 40] ^= 0x55;
    fs::write(&path, content).unwrap();

    let refused = broker.try_restart().unwrap_err();
    assert!(refused.stderr.contains("semel log export"), "{}", refused.stderr);
    let damaged = semel.log("verify", &[]);
    assert_eq!(damaged.status.code(), Some(1), "{}", damaged.errors);
    let finding = objects(&damaged.lines).into_iter().find(|line| line.get("damaged").is_some()).unwrap();
    assert_eq!(finding["from_block"], second["block"]);
    let exported = semel.log("export", &["--topic", "t", "--partition", "0"]);
    assert!(exported.status.success(), "{}", exported.errors);
    let values: Vec<_> = objects(&exported.lines).iter().map(|line| line["value"].clone()).collect();
    assert_eq!(values, ["one", "three"]);
    let whole = semel.log("export", &["--topic", "other", "--partition", "0", "--from-offset", "1"]);
    assert_eq!(objects(&whole.lines).len(), 2, "what shares no damaged place is whole");
    let batches = broker.data_dir().join("exported.batches");
    let name = batches.display().to_string();
    let told = semel.log("export", &["--topic", "t", "--partition", "0", "--format", "batches", "-o", &name]);
    assert!(told.status.success(), "{}", told.errors);
    assert_eq!(fs::read(&batches).unwrap()[16], 2, "record batches, of Kafka's version 2");
}
