//! The disk's space, from outside: several times what is kept is written and deleted, the directory stays small, and all
//! that was not deleted is read back; after kills, and after the rows were lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use common::broker::Broker;
use semel::client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, Isolation, NewTopic, Producer, ProducerConfig,
    ProducerRecord, Start, TlsFiles, TopicPartition,
};
use semel::types::{Offset, PartitionIndex, TopicName};
use std::fs;
use std::path::Path;
use std::time::Duration;

const OPTIONS: &[&str] = &[
    "--segment-bytes=4194304",
    "--frame-bytes=524288",
    "--snapshot-bytes=4194304",
    "--checkpoint-bytes=4194304",
    "--reserve-bytes=0",
];
const MIB: u64 = 1 << 20;
/// Written in each round into a topic that is deleted in the next.
const ROUND_MIB: usize = 12;
const ROUNDS: usize = 5;
/// What may stay: the last round that is not deleted, what is live, the log above the last snapshot, spares, and the
/// segment prepared ahead.
const KEPT_MIB: u64 = ROUND_MIB as u64 + 36;
const DEADLINE: Duration = Duration::from_secs(60);

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn config(broker: &Broker) -> ClientConfig {
    let endpoint = format!("quic://{}", broker.address()).parse().unwrap();
    ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()))
}

fn log_bytes(broker: &Broker) -> u64 {
    let files = fs::read_dir(broker.data_dir().join("log")).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

/// Waits until the log is small.
async fn shrinks_to(broker: &Broker, bytes: u64) {
    let waiting = async {
        while log_bytes(broker) > bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(in_time.is_ok(), "{} bytes of log are left, {bytes} wanted\n{}", log_bytes(broker), broker.log());
}

async fn read(client: &Client, topic: &TopicName) -> Vec<String> {
    let partition = TopicPartition::new(topic.clone(), PartitionIndex(0));
    let asked = [(partition.clone(), Start::Latest)];
    let end =
        Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await.unwrap().remove(0).unwrap();
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.seek(partition.clone(), Start::Earliest);
    let mut values = Vec::new();
    while consumer.position(&partition).unwrap_or(Offset::ZERO) < end {
        for record in consumer.next_chunk().await.unwrap() {
            values.push(String::from_utf8(record.record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

/// One round: much that will be deleted, and between it some that is kept.
async fn write_round(client: &Client, round: usize, kept: &TopicName, written: &mut Vec<String>) {
    let admin = Admin::new(client);
    let passing = name(&format!("passing-{round}"));
    admin.create_topic(&NewTopic::new(passing.clone(), 1)).await.unwrap();
    let producer = Producer::new(client, ProducerConfig::default()).unwrap();
    let filler = vec![0x5a; 16 << 10];
    for number in 0..ROUND_MIB * 64 {
        let mut value = filler.clone();
        value[..8].copy_from_slice(&number.to_le_bytes());
        producer.send(ProducerRecord::new(passing.clone(), value)).await.unwrap();
        if number % 16 == 0 {
            let value = format!("{round}-{number}");
            producer.send(ProducerRecord::new(kept.clone(), value.clone())).await.unwrap();
            written.push(value);
        }
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
    if (1..ROUNDS).contains(&round) {
        admin.delete_topic(&name(&format!("passing-{}", round - 1))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_gives_its_space_back_and_what_is_kept_is_read_back() {
    let mut broker = Broker::start_with(OPTIONS);
    let client = Client::connect(config(&broker)).await.unwrap();
    let kept = name("kept");
    Admin::new(&client).create_topic(&NewTopic::new(kept.clone(), 1)).await.unwrap();
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        write_round(&client, round, &kept, &mut written).await;
        if round % 2 == 1 {
            // In the middle of freeing, or moving, or of a snapshot.
            broker.kill();
            broker.restart();
        }
        shrinks_to(&broker, KEPT_MIB * MIB).await;
        assert_eq!(read(&client, &kept).await, written);
    }
    Admin::new(&client).delete_topic(&name(&format!("passing-{}", ROUNDS - 1))).await.unwrap();
    shrinks_to(&broker, (KEPT_MIB - ROUND_MIB as u64) * MIB).await;
    assert_eq!(read(&client, &kept).await, written);

    // The rows are lost: they are made anew from the last snapshot and what there is of the log.
    assert!(broker.stop().success());
    remove_rows(&broker.data_dir());
    broker.restart();
    assert_eq!(read(&client, &kept).await, written);
    assert!(broker.log().contains("the rows are made anew"), "{}", broker.log());
    let mut written_again = written.clone();
    write_round(&client, ROUNDS + 1, &kept, &mut written_again).await;
    assert_eq!(read(&client, &kept).await, written_again);
}

fn remove_rows(data_dir: &Path) {
    fs::remove_dir_all(data_dir.join("rows")).unwrap();
}
