//! `semel produce`.

use super::CliError;
use super::connect::ConnectArgs;
use super::topic::{pair, topic_name};
use crate::client::{
    Admin, Client, Compression, Delivered, Delivery, IDEMPOTENCY_KEY_HEADER, ProduceError, Producer,
    ProducerConfig, ProducerRecord, RecordHeader, TransactionConfig, TransactionalProducer,
};
use crate::core::topic_settings::KEY_HEADER;
use crate::types::{PartitionIndex, TopicName, TransactionalId};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines that have been read and not been sent.
const LINES_AHEAD: usize = 1024;

/// Records that were refused for the idempotency keys of others in their batch; beyond, they are sent again before more
/// lines are read.
const REFUSED_MAX: usize = 1024;

/// `semel produce`.
#[derive(Debug, Args)]
#[command(after_help = "Reads standard input to its end. An empty line is a record with an empty value.\n\n\
    Examples:\n  echo 'hello' | semel produce greetings\n  \
    printf 'alice:5\\nbob:7\\n' | semel produce payments --key-separator : --transactional teller-1\n\n\
    Once, however often it is sent (the topic must have been created with\n\
    --config semel.idempotency.key.header=semel-idempotency-key):\n  \
    printf 'order-17|alice:5\\n' | semel produce payments --idempotency-separator '|' --key-separator :\n  \
    semel produce payments --idempotency-key orders-2026-11-28.txt < orders-2026-11-28.txt")]
pub struct ProduceArgs {
    /// The topic
    #[arg(value_parser = topic_name)]
    topic: TopicName,
    /// What stands between key and value; without it lines are values
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record; may be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// The partition [default: by the key's hash, or without a key whichever has its turn]
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How batches are compressed
    #[arg(long, short = 'z', value_enum, default_value = "none")]
    compression: CompressionChoice,
    /// Send everything as one transaction of this transactional id: all of it becomes visible, or nothing
    #[arg(long, short = 't', value_name = "ID", value_parser = transactional_id)]
    transactional: Option<TransactionalId>,
    /// Names the input: its line number n has the idempotency key NAME/n, so that sending it again stores what is missing and
    /// nothing twice
    #[arg(long, value_name = "NAME", conflicts_with = "idempotency_separator")]
    idempotency_key: Option<String>,
    /// Each line begins with its idempotency key and this: the topic stores a record of each key once
    #[arg(long, value_name = "TEXT")]
    idempotency_separator: Option<String>,
    /// How long a batch waits for more, in milliseconds
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// Say nothing but errors
    #[arg(long, short = 'q')]
    quiet: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The compressions by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionChoice {
    /// No compression.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl From<CompressionChoice> for Compression {
    fn from(choice: CompressionChoice) -> Compression {
        match choice {
            CompressionChoice::None => Compression::None,
            CompressionChoice::Gzip => Compression::Gzip,
            CompressionChoice::Snappy => Compression::Snappy,
            CompressionChoice::Lz4 => Compression::Lz4,
            CompressionChoice::Zstd => Compression::Zstd,
        }
    }
}

pub(super) fn transactional_id(text: &str) -> Result<TransactionalId, String> {
    TransactionalId::new(text)
        .ok_or_else(|| format!("a transactional id has 1 to {} bytes", TransactionalId::BYTES_MAX))
}

pub(super) async fn run(arguments: ProduceArgs) -> Result<(), CliError> {
    if io::stdin().is_terminal() && !arguments.quiet {
        writeln!(io::stderr(), "one record per line; end with Ctrl-D")?;
    }
    let client = arguments.connect.connect().await?;
    let config = ProducerConfig {
        linger: Duration::from_millis(arguments.linger_ms),
        compression: arguments.compression.into(),
        ..ProducerConfig::default()
    };
    let mut lines = read_lines(config.request_bytes);
    let sent = send(&client, &arguments, config, &mut lines).await;
    client.close().await;
    let tally = sent?;
    if !arguments.quiet {
        tally.report(&arguments.topic)?;
    }
    Ok(())
}

async fn send(
    client: &Client,
    arguments: &ProduceArgs,
    config: ProducerConfig,
    lines: &mut Lines,
) -> Result<Tally, CliError> {
    let mut records = Records::new(client, arguments).await?;
    match arguments.transactional.clone() {
        None => {
            let producer = Producer::new(client, config)?;
            send_all(&producer, &mut records, lines).await
        }
        Some(id) => {
            let config = TransactionConfig { producer: config, ..TransactionConfig::default() };
            let mut producer = TransactionalProducer::init(client, id, config).await?;
            send_transaction(&mut producer, &mut records, lines).await
        }
    }
}

async fn send_all(
    producer: &Producer,
    records: &mut Records<'_>,
    lines: &mut Lines,
) -> Result<Tally, CliError> {
    let mut tally = Tally::default();
    while let Some(line) = lines.recv().await {
        let record = records.next(line?)?;
        let delivery = producer.send(record.clone()).await?;
        tally.add(record, delivery)?;
        if tally.refused.len() >= REFUSED_MAX {
            tally.send_refused(producer).await?;
        }
    }
    // Each delivery tells its own failure.
    let _ = producer.flush().await;
    tally.finish()?;
    tally.send_refused(producer).await?;
    Ok(tally)
}

async fn send_transaction(
    producer: &mut TransactionalProducer,
    records: &mut Records<'_>,
    lines: &mut Lines,
) -> Result<Tally, CliError> {
    let mut tally = Tally::default();
    let mut transaction = producer.begin().await?;
    let sent: Result<(), CliError> = async {
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                _ = tokio::signal::ctrl_c() => {
                    return Err(CliError::usage("interrupted: the transaction is aborted", "nothing was stored"));
                }
            };
            let Some(line) = line else { return Ok(()) };
            let record = records.next(line?)?;
            tally.add(record.clone(), transaction.send(record).await?)?;
        }
    }
    .await;
    if let Err(error) = sent {
        transaction.abort().await?;
        return Err(error);
    }
    transaction.commit().await?;
    tally.finish()?;
    Ok(tally)
}

/// Makes records of lines.
struct Records<'a> {
    arguments: &'a ProduceArgs,
    /// The header that bears idempotency keys, if the records have any.
    key_header: Option<Bytes>,
    lines: u64,
}

impl Records<'_> {
    async fn new<'a>(client: &Client, arguments: &'a ProduceArgs) -> Result<Records<'a>, CliError> {
        let keyed = arguments.idempotency_key.is_some() || arguments.idempotency_separator.is_some();
        let key_header = if keyed { Some(key_header(client, &arguments.topic).await?) } else { None };
        Ok(Records { arguments, key_header, lines: 0 })
    }

    fn next(&mut self, line: Vec<u8>) -> Result<ProducerRecord, CliError> {
        let ProduceArgs { topic, partition, key_separator, header, .. } = self.arguments;
        self.lines += 1;
        let line = Bytes::from(line);
        let (idempotency_key, line) =
            match (&self.arguments.idempotency_key, &self.arguments.idempotency_separator) {
                (Some(name), _) => (Some(Bytes::from(format!("{name}/{}", self.lines))), line),
                (None, Some(separator)) => split(&line, separator, "idempotency")?,
                (None, None) => (None, line),
            };
        let (key, value) = match key_separator {
            None => (None, line),
            Some(separator) => split(&line, separator, "key")?,
        };
        let given =
            header.iter().map(|(name, value)| (Bytes::from(name.clone()), Bytes::from(value.clone())));
        let headers = given.chain(self.key_header.clone().zip(idempotency_key));
        Ok(ProducerRecord {
            topic: topic.clone(),
            partition: partition.map(PartitionIndex),
            key,
            value: Some(value),
            headers: headers.map(|(name, value)| RecordHeader { name, value: Some(value) }).collect(),
            timestamp: None,
        })
    }
}

/// The header under which a topic asks for idempotency keys.
async fn key_header(client: &Client, topic: &TopicName) -> Result<Bytes, CliError> {
    let settings = Admin::new(client).describe_topic_config(topic).await?;
    let header =
        settings.into_iter().find(|setting| setting.name == KEY_HEADER).and_then(|setting| setting.value);
    header.filter(|name| !name.is_empty()).map(Bytes::from).ok_or_else(|| {
        CliError::usage(
            format!("topic {topic} does not ask for idempotency keys"),
            format!("let it: semel topic config {topic} --set {KEY_HEADER}={IDEMPOTENCY_KEY_HEADER}"),
        )
    })
}

/// What stands before and after the first `separator` of a line, which `option`'s separator is.
fn split(line: &Bytes, separator: &str, option: &str) -> Result<(Option<Bytes>, Bytes), CliError> {
    let at = find(line, separator.as_bytes()).ok_or_else(|| {
        CliError::usage(
            format!(
                "a line without the {option} separator {separator:?}: {:?}",
                String::from_utf8_lossy(line)
            ),
            format!("correct the line, or leave out --{option}-separator"),
        )
    })?;
    Ok((Some(line.slice(..at)), line.slice(at + separator.len()..)))
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    if pattern.is_empty() {
        return None;
    }
    text.windows(pattern.len()).position(|window| window == pattern)
}

type Lines = mpsc::Receiver<io::Result<Vec<u8>>>;

/// Reads standard input on a thread of its own: it cannot be read without blocking.
fn read_lines(length_max: usize) -> Lines {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = next_line(&mut input, length_max).transpose() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The next line without its end; an error if it is longer than a record may be.
fn next_line(input: &mut impl BufRead, length_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(length_max).unwrap_or(u64::MAX).saturating_add(1);
    if input.take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    match line.pop() {
        Some(b'\n') => drop(line.pop_if(|last| *last == b'\r')),
        _ if line.len() >= length_max => {
            let problem = format!("a line is longer than {length_max} bytes, more than a record may be");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        // The last line needs no end.
        Some(last) => line.push(last),
        None => {}
    }
    Ok(Some(line))
}

/// What was stored where.
#[derive(Default)]
struct Tally {
    waiting: VecDeque<(ProducerRecord, Delivery)>,
    stored: BTreeMap<PartitionIndex, (u64, Option<i64>)>,
    /// Records whose idempotency keys the topic has accepted before.
    accepted_before: u64,
    /// Records that were refused because of others in their batch.
    refused: Vec<ProducerRecord>,
}

impl Tally {
    /// Keeps a delivery, and counts those that are settled, so that no more are kept than are under way.
    fn add(&mut self, record: ProducerRecord, delivery: Delivery) -> Result<(), CliError> {
        self.waiting.push_back((record, delivery));
        while let Some(outcome) = self.waiting.front().and_then(|(_, delivery)| delivery.outcome())
            && let Some((record, _)) = self.waiting.pop_front()
        {
            self.settle(record, outcome)?;
        }
        Ok(())
    }

    /// Counts the rest. All are settled.
    fn finish(&mut self) -> Result<(), CliError> {
        for (record, delivery) in std::mem::take(&mut self.waiting) {
            if let Some(outcome) = delivery.outcome() {
                self.settle(record, outcome)?;
            }
        }
        Ok(())
    }

    /// Sends what was refused because of others again, one by one: then each is refused for its own key only.
    async fn send_refused(&mut self, producer: &Producer) -> Result<(), CliError> {
        for record in std::mem::take(&mut self.refused) {
            let delivery = producer.send(record.clone()).await?;
            // The delivery tells its own failure.
            let _ = producer.flush().await;
            self.settle(record, delivery.wait().await)?;
        }
        Ok(())
    }

    fn settle(
        &mut self,
        record: ProducerRecord,
        outcome: Result<Delivered, ProduceError>,
    ) -> Result<(), CliError> {
        match outcome {
            Ok(delivered) => self.count(&delivered),
            Err(ProduceError::AlreadyAccepted { .. }) => self.accepted_before += 1,
            Err(ProduceError::Refused { keys, .. }) if !keys.is_empty() => self.refused.push(record),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn count(&mut self, delivered: &Delivered) {
        let (count, last) = self.stored.entry(delivered.partition.partition).or_default();
        *count += 1;
        *last = (*last).max(delivered.offset.map(|offset| offset.0));
    }

    fn report(&self, topic: &TopicName) -> io::Result<()> {
        let mut out = io::stderr().lock();
        let records = |count: u64| format!("{count} record{}", if count == 1 { "" } else { "s" });
        writeln!(out, "{} stored in {topic}", records(self.stored.values().map(|(count, _)| count).sum()))?;
        for (partition, (count, last)) in &self.stored {
            let last = last.map_or_else(String::new, |last| format!(", the last at offset {last}"));
            writeln!(out, "  partition {partition}: {count}{last}")?;
        }
        if self.accepted_before > 0 {
            writeln!(out, "{} had been accepted before", records(self.accepted_before))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], length_max: usize) -> Vec<io::Result<Vec<u8>>> {
        let mut input = input;
        std::iter::from_fn(|| next_line(&mut input, length_max).transpose()).take(10).collect()
    }

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let read: Vec<_> = lines(b"a\nb\r\n\n\xff\x00\nlast", 10).into_iter().map(Result::unwrap).collect();
        assert_eq!(read, [&b"a"[..], b"b", b"", b"\xff\x00", b"last"]);
        assert!(lines(b"", 10).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_without_being_read() {
        assert!(lines(b"0123456789\n", 10)[0].is_ok());
        assert!(lines(b"0123456789x\n", 10)[0].is_err());
    }

    #[test]
    fn a_separator_is_found_where_it_first_stands() {
        assert_eq!(find(b"a::b::c", b"::"), Some(1));
        assert_eq!(find(b"abc", b":"), None);
        assert_eq!(find(b"abc", b""), None);
    }
}
