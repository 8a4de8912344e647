//! `semel consume`, without a group; `consume_group.rs` has the rest.

use super::CliError;
use super::connect::ConnectArgs;
use super::consume_group::{self, CommitChoice};
use super::group::group_id;
use super::output::safe_text;
use super::topic::topic_name;
use crate::client::{
    Admin, Client, ClientError, ConsumedRecord, Consumer, ConsumerConfig, Isolation, Start, TopicPartition,
};
use crate::types::{GroupId, Offset, PartitionIndex, Timestamp, TopicName};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// `semel consume`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ConsumeArgs {
    /// The topic; with --group there may be several
    #[arg(value_parser = topic_name, required_unless_present = "pattern")]
    pub(super) topic: Vec<TopicName>,
    /// Read as a member of this group: what others of it read is not read here, and what was committed is not read again
    #[arg(long, short = 'g', value_parser = group_id)]
    pub(super) group: Option<GroupId>,
    /// With --group: also all topics whose whole names match this regular expression
    #[arg(long, value_name = "REGEX", requires = "group")]
    pub(super) pattern: Option<String>,
    /// With --group: what is committed
    #[arg(long, value_enum, default_value = "printed", requires = "group")]
    pub(super) commit: CommitChoice,
    /// With --group: a name that the member keeps when it is started again, so that its partitions stay with it
    #[arg(long, value_name = "NAME", requires = "group")]
    pub(super) instance: Option<String>,
    /// Where to start: earliest, latest, an offset, or a time such as 2026-05-01T12:00:00Z; with --group, where it has committed
    /// nothing
    #[arg(long, short = 'f', default_value = "earliest", value_parser = start)]
    pub(super) from: Start,
    /// Only this partition; may be repeated [default: all]
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(0..), conflicts_with = "group")]
    partition: Vec<i32>,
    /// Which records: only those of committed transactions and of none, or all
    #[arg(long, value_enum, default_value = "read-committed")]
    pub(super) isolation: IsolationChoice,
    /// Go on when the end is reached
    #[arg(long, short = 'F')]
    pub(super) follow: bool,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "RECORDS")]
    pub(super) count: Option<u64>,
    /// How to write records [default: pretty on a terminal, plain in a pipe]
    #[arg(long, short = 'o', value_enum)]
    output: Option<RecordFormat>,
    /// With --output plain: print the key and this before the value
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

const AFTER_HELP: &str = "\
Reads up to the end as it was at the start (with --group: as it was when a partition was assigned), unless --follow is given.

Examples:
  semel consume payments --from 2026-05-01T00:00:00Z
  semel consume payments refunds --group audit --follow
  semel consume --pattern 'orders-.*' --group audit --output json";

/// The isolation levels by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsolationChoice {
    /// No record of an aborted or open transaction.
    #[value(alias = "read_committed")]
    ReadCommitted,
    /// Every durable record.
    #[value(alias = "read_uncommitted")]
    ReadUncommitted,
}

impl From<IsolationChoice> for Isolation {
    fn from(choice: IsolationChoice) -> Isolation {
        match choice {
            IsolationChoice::ReadCommitted => Isolation::ReadCommitted,
            IsolationChoice::ReadUncommitted => Isolation::ReadUncommitted,
        }
    }
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordFormat {
    /// A line with place, time, key, value and headers; what is not printable is escaped.
    Pretty,
    /// The value's bytes and a line end.
    Plain,
    /// One JSON object per line; bytes that are not UTF-8 stand as hexadecimal digits under `key_hex` and `value_hex`.
    Json,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse::<i64>() {
        let valid = (offset >= 0).then_some(Start::Offset(Offset(offset)));
        return valid.ok_or_else(|| "an offset is not negative".to_owned());
    }
    let time = text.parse::<jiff::Timestamp>();
    time.map(|time| Start::Time(Timestamp(time.as_millisecond())))
        .map_err(|_| "write earliest, latest, an offset, or a time such as 2026-05-01T12:00:00Z".to_owned())
}

pub(super) async fn run(arguments: ConsumeArgs) -> Result<(), CliError> {
    let client = arguments.connect.connect().await?;
    let read = match (&arguments.group, arguments.topic.as_slice()) {
        (Some(group), _) => consume_group::read(&client, &arguments, group).await,
        (None, [topic]) => read(&client, &arguments, topic).await,
        (None, _) => {
            Err(CliError::usage("several topics are read by a group", "name one with --group, or one topic"))
        }
    };
    client.close().await;
    read
}

async fn read(client: &Client, arguments: &ConsumeArgs, topic: &TopicName) -> Result<(), CliError> {
    let isolation = arguments.isolation.into();
    let partitions = chosen_partitions(client, arguments, topic).await?;
    let ends = if arguments.follow { None } else { Some(ends(client, &partitions, isolation).await?) };
    let starts = starts(client, &partitions, arguments.from, isolation).await?;
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    for (partition, offset) in starts {
        consumer.seek(partition, Start::Offset(offset));
    }
    let mut printer = Printer::new(arguments);
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 && !ends.as_ref().is_some_and(|ends| reached(&consumer, ends)) {
        for record in consumer.next_chunk().await? {
            // What was written after the start belongs to the next run.
            let beyond = ends.as_ref().and_then(|ends| ends.get(&record.partition));
            if left == 0 || beyond.is_some_and(|end| record.offset >= *end) {
                continue;
            }
            printer.print(&record)?;
            left -= 1;
        }
        printer.flush()?;
    }
    Ok(())
}

async fn chosen_partitions(
    client: &Client,
    arguments: &ConsumeArgs,
    topic: &TopicName,
) -> Result<Vec<TopicPartition>, CliError> {
    let metadata = client.metadata_of(std::slice::from_ref(topic)).await?;
    let all = metadata.partitions(topic).unwrap_or_default();
    if arguments.partition.is_empty() {
        return Ok(all);
    }
    let mut chosen = Vec::new();
    for index in &arguments.partition {
        let partition = TopicPartition::new(topic.clone(), PartitionIndex(*index));
        if !all.contains(&partition) {
            return Err(ClientError::Unknown {
                what: format!("partition {partition}: {} are there", all.len()),
            }
            .into());
        }
        chosen.push(partition);
    }
    Ok(chosen)
}

pub(super) type Offsets = BTreeMap<TopicPartition, Offset>;

/// Where each partition ends now, for a reader of this isolation.
pub(super) async fn ends(
    client: &Client,
    partitions: &[TopicPartition],
    isolation: Isolation,
) -> Result<Offsets, CliError> {
    starts(client, partitions, Start::Latest, isolation).await
}

/// Where to start in each partition.
async fn starts(
    client: &Client,
    partitions: &[TopicPartition],
    from: Start,
    isolation: Isolation,
) -> Result<Offsets, CliError> {
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), from)).collect();
    let found = Admin::new(client).find_starts(&asked, isolation).await?;
    partitions.iter().cloned().zip(found).map(|(partition, found)| Ok((partition, found?))).collect()
}

fn reached(consumer: &Consumer, ends: &Offsets) -> bool {
    ends.iter().all(|(partition, end)| consumer.position(partition).is_some_and(|position| position >= *end))
}

/// Writes records to standard output.
pub(super) struct Printer {
    out: io::BufWriter<io::Stdout>,
    format: RecordFormat,
    key_separator: Option<String>,
}

impl Printer {
    pub(super) fn new(arguments: &ConsumeArgs) -> Printer {
        let usual = if io::stdout().is_terminal() { RecordFormat::Pretty } else { RecordFormat::Plain };
        let format = arguments.output.unwrap_or(usual);
        let out = io::BufWriter::new(io::stdout());
        Printer { out, format, key_separator: arguments.key_separator.clone() }
    }

    pub(super) fn print(&mut self, record: &ConsumedRecord) -> io::Result<()> {
        match self.format {
            RecordFormat::Pretty => writeln!(self.out, "{}", pretty(record)),
            RecordFormat::Json => writeln!(self.out, "{}", json_of(record)),
            RecordFormat::Plain => {
                if let Some(separator) = &self.key_separator {
                    self.out.write_all(record.record.key.as_deref().unwrap_or_default())?;
                    self.out.write_all(separator.as_bytes())?;
                }
                self.out.write_all(record.record.value.as_deref().unwrap_or_default())?;
                self.out.write_all(b"\n")
            }
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// RFC 3339, or nothing where there is no time.
fn time(timestamp: Timestamp) -> Option<String> {
    (timestamp.0 >= 0)
        .then(|| jiff::Timestamp::from_millisecond(timestamp.0).ok())
        .flatten()
        .map(|time| format!("{time:.3}"))
}

fn pretty(record: &ConsumedRecord) -> String {
    let bytes = |bytes: &Option<Bytes>| bytes.as_deref().map_or_else(|| "∅".to_owned(), safe_text);
    let (partition, offset) = (record.partition.partition, record.offset);
    let mut line = format!(
        "{partition}:{offset:<8} {}  ",
        time(record.timestamp).unwrap_or_else(|| "no time".to_owned())
    );
    if record.record.key.is_some() {
        line.push_str(&bytes(&record.record.key));
        line.push_str(" → ");
    }
    line.push_str(&bytes(&record.record.value));
    for header in &record.record.headers {
        // Writing to a String cannot fail.
        let _ = write!(line, "  [{}={}]", safe_text(&header.name), bytes(&header.value));
    }
    line
}

pub(super) fn json_of(record: &ConsumedRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(record.partition.topic.as_str()));
    object.insert("partition".to_owned(), json!(record.partition.partition.0));
    object.insert("offset".to_owned(), json!(record.offset.0));
    object.insert("timestamp_ms".to_owned(), json!(record.timestamp.0));
    object.insert("time".to_owned(), json!(time(record.timestamp)));
    put_bytes(&mut object, "key", record.record.key.as_ref());
    put_bytes(&mut object, "value", record.record.value.as_ref());
    let headers = record.record.headers.iter().map(|header| {
        let mut named = Map::new();
        put_bytes(&mut named, "name", Some(&header.name));
        put_bytes(&mut named, "value", header.value.as_ref());
        Value::Object(named)
    });
    object.insert("headers".to_owned(), headers.collect());
    Value::Object(object)
}

/// Text as text; anything else as hexadecimal digits under another name.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    let (name, value) = match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => (name.to_owned(), Value::Null),
        Some(Ok(text)) => (name.to_owned(), json!(text)),
        Some(Err(bytes)) => {
            let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
                // Writing to a String cannot fail.
                let _ = write!(digits, "{byte:02x}");
                digits
            });
            (format!("{name}_hex"), json!(digits))
        }
    };
    object.insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::RecordHeader;
    use crate::wire::batch::Record;

    fn record(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> ConsumedRecord {
        let header = RecordHeader { name: "kind".into(), value: Some(Bytes::from_static(b"\xfe")) };
        ConsumedRecord {
            partition: TopicPartition::new(TopicName::new("t").unwrap(), PartitionIndex(3)),
            offset: Offset(7),
            timestamp: Timestamp(1_700_000_000_123),
            record: Record {
                key: key.map(Bytes::from_static),
                value: value.map(Bytes::from_static),
                headers: vec![header],
            },
        }
    }

    #[test]
    fn starts_are_read() {
        assert_eq!(start("earliest"), Ok(Start::Earliest));
        assert_eq!(start("latest"), Ok(Start::Latest));
        assert_eq!(start("42"), Ok(Start::Offset(Offset(42))));
        assert_eq!(start("2023-11-14T22:13:20Z"), Ok(Start::Time(Timestamp(1_700_000_000_000))));
        assert!(start("-1").is_err());
        assert!(start("soon").unwrap_err().contains("earliest"));
    }

    #[test]
    fn people_get_a_safe_line() {
        let line = pretty(&record(Some(b"k\n"), Some(b"v\xff")));
        assert_eq!(line, "3:7        2023-11-14T22:13:20.123Z  k\\n → v\\xff  [kind=\\xfe]");
    }

    #[test]
    fn programs_get_one_object_that_loses_nothing() {
        let value = json_of(&record(None, Some(b"\x00\xff")));
        let expected = json!({
            "topic": "t", "partition": 3, "offset": 7, "timestamp_ms": 1_700_000_000_123_i64,
            "time": "2023-11-14T22:13:20.123Z", "key": null, "value_hex": "00ff",
            "headers": [{"name": "kind", "value_hex": "fe"}],
        });
        assert_eq!(value, expected);
    }
}
