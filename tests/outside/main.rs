//! Third-party Kafka clients drive the release binary over TLS.
//!
//! `stories.rs` tells what happens, for whoever plays the part; here the parts are given out. A client that cannot be
//! set up on this machine is SKIPPED with the reason, or fails the test when `REQUIRE_ALL=1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod all_at_once;
#[path = "../common/mod.rs"]
mod common;
mod compaction;
mod groups;
mod kcat;
mod keys;
mod operators;
mod over_quic;
mod stories;
mod together;

use common::actor::Actor;
use common::broker::Broker;

const ALL_CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// What every client can do that both writes and reads.
fn every_story(client: &Actor, codecs: &[&str]) {
    stories::a_transaction_over_three_partitions_is_seen_whole_or_never(client, client);
    stories::overlapping_transactions_show_only_what_was_committed(client, client);
    stories::group_offsets_take_effect_with_the_transaction(client);
    stories::a_new_holder_of_the_id_fences_the_old_one(client, client);
    stories::an_abandoned_transaction_is_ended_by_the_broker(client, client);
    stories::idempotent_batches_arrive_once_and_in_order(client, client);
    stories::every_codec_is_kept(client, client, codecs);
}

#[test]
fn librdkafka() {
    let broker = Broker::start();
    let Some(client) = Actor::librdkafka(&broker) else { return };
    every_story(&client, &ALL_CODECS);
}

#[test]
fn aiokafka() {
    let broker = Broker::start();
    let Some(client) = Actor::aiokafka(&broker) else { return };
    every_story(&client, &ALL_CODECS);
}

#[test]
fn kafka_python() {
    let broker = Broker::start();
    let Some(client) = Actor::kafka_python(&broker) else { return };
    every_story(&client, &ALL_CODECS);
}

#[test]
fn java() {
    let broker = Broker::start();
    let Some(client) = Actor::java(&broker) else { return };
    every_story(&client, &ALL_CODECS);
    // The second version of the transaction protocol (KIP-890), without which none of its guarantees were tested.
    let ends = client
        .log()
        .lines()
        .filter(|line| line.contains("Sending END_TXN request"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(ends.contains("apiVersion=5"), "no EndTxn of version 5:\n{ends}");
    assert!(!ends.contains("apiVersion=4"), "EndTxn of version 4:\n{ends}");
}

/// kafkajs writes; librdkafka reads, because kafkajs reads only as a member of a group.
#[test]
fn kafkajs() {
    let broker = Broker::start();
    let (Some(writer), Some(reader)) = (Actor::kafkajs(&broker), Actor::librdkafka(&broker)) else { return };
    stories::a_transaction_over_three_partitions_is_seen_whole_or_never(&writer, &reader);
    stories::overlapping_transactions_show_only_what_was_committed(&writer, &reader);
    stories::group_offsets_take_effect_with_the_transaction(&writer);
    stories::a_new_holder_of_the_id_fences_the_old_one(&writer, &reader);
    stories::an_abandoned_transaction_is_ended_by_the_broker(&writer, &reader);
    stories::idempotent_batches_arrive_once_and_in_order(&writer, &reader);
    stories::every_codec_is_kept(&writer, &reader, &["none", "gzip"]);
}

/// All of them at once on one topic: what each has committed is what each other one reads.
#[test]
fn every_client_reads_what_every_other_wrote() {
    let broker = Broker::start();
    let readers = [
        Actor::librdkafka(&broker),
        Actor::aiokafka(&broker),
        Actor::kafka_python(&broker),
        Actor::java(&broker),
    ];
    let readers = readers.into_iter().flatten().collect::<Vec<_>>();
    let kafkajs = Actor::kafkajs(&broker);
    let writers = readers.iter().chain(&kafkajs).collect::<Vec<_>>();
    if writers.len() < 2 {
        return;
    }
    stories::all_write_and_all_read_the_same(&writers, &readers.iter().collect::<Vec<_>>());
}
