//! `semel bench consume`.

use super::super::consume::IsolationChoice;
use super::measure::RunningCost;
use super::report::{Report, Volume};
use super::{BenchArgs, BenchTopic, CliError, RecordArgs, payload, value};
use crate::client::{Client, Consumer, ConsumerConfig, Isolation, Producer, ProducerRecord, Start};
use crate::types::Offset;
use clap::Args;
use std::io::Write;
use std::time::Instant;

/// `semel bench consume`.
#[derive(Debug, Args)]
#[command(after_help = "Without --topic, a new topic is filled first.")]
pub struct ConsumeBench {
    /// Records to fill a new topic with
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Which records to read
    #[arg(long, value_enum, default_value = "read-committed")]
    isolation: IsolationChoice,
    /// Bytes to ask for of each partition at once
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(i32).range(1024..))]
    partition_bytes: i32,
    #[command(flatten)]
    values: RecordArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

pub(super) async fn run(arguments: ConsumeBench) -> Result<(), CliError> {
    let client = arguments.bench.connect.connect().await?;
    let topic = BenchTopic::prepare(&client, &arguments.bench).await?;
    if topic.temporary {
        fill(&client, &topic, &arguments).await?;
    }
    let isolation: Isolation = arguments.isolation.into();
    let ends = topic.ends(&client, isolation).await?;
    let config =
        ConsumerConfig { isolation, partition_bytes: arguments.partition_bytes, ..ConsumerConfig::default() };
    let cost = RunningCost::start(arguments.bench.broker_pid);
    let begun = Instant::now();
    let mut consumer = Consumer::new(&client, config);
    topic.partitions.iter().for_each(|partition| consumer.seek(partition.clone(), Start::Earliest));
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let behind = |consumer: &Consumer| {
        ends.iter().any(|(partition, end)| *end > consumer.position(partition).unwrap_or(Offset::ZERO))
    };
    while behind(&consumer) {
        for read in consumer.next_chunk().await? {
            records += 1;
            bytes += read.record.value.as_ref().map_or(0, |value| value.len() as u64);
        }
    }
    let volume = Volume { records, bytes, seconds: begun.elapsed().as_secs_f64(), transactions: None };
    let conditions = format!(
        "{} partitions, {isolation:?}, {} bytes asked for at once",
        ends.len(),
        arguments.partition_bytes
    );
    let report = Report::new("consume", &arguments.bench, conditions, &volume, cost.stop(), Vec::new());
    report.print(arguments.bench.json)?;
    topic.clean_up(&client).await?;
    client.close().await;
    Ok(())
}

async fn fill(client: &Client, topic: &BenchTopic, arguments: &ConsumeBench) -> Result<(), CliError> {
    if !arguments.bench.json {
        writeln!(std::io::stderr(), "filling {} with {} records", topic.name, arguments.records)?;
    }
    let producer = Producer::new(client, arguments.values.config())?;
    let payload = payload(1);
    for index in 0..arguments.records {
        let value = value(&payload, index, arguments.values.record_bytes());
        producer.send(ProducerRecord::new(topic.name.clone(), value)).await?;
    }
    Ok(producer.close().await?)
}
