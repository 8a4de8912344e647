//! Idempotency keys as clients see them (`spec/transactions.md`, K1 to K7).

use super::harness::*;
use crate::core::topic_settings::{KEY_HEADER, KEY_WINDOW_MS};
use crate::types::*;
use crate::wire::batch::*;
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};
use bytes::Bytes;

const HEADER: &str = "payment";

async fn keyed_topic(client: &mut Client, window_ms: &str) -> TopicId {
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: 2,
        replication_factor: 1,
        configs: vec![config(KEY_HEADER, HEADER), config(KEY_WINDOW_MS, window_ms)],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let created = client.call(7, &request).await.topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::None, "{:?}", created.error_message);
    created.topic_id
}

/// A batch of one record for each key.
fn keyed(producer: BatchProducer, keys: &[Option<&str>], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for (key, time) in keys.iter().zip(1_000..) {
        let header = |key: &str| RecordHeader {
            name: Bytes::from_static(HEADER.as_bytes()),
            value: Some(Bytes::copy_from_slice(key.as_bytes())),
        };
        let record = Record { headers: key.map(header).into_iter().collect(), ..Default::default() };
        builder.append(Timestamp(time), &record).unwrap();
    }
    builder.build(compression, producer).unwrap()
}

fn plain(keys: &[Option<&str>]) -> Bytes {
    keyed(BatchProducer::Anonymous, keys, Compression::None)
}

fn sequences((id, epoch): (i64, i16), first: i32, records: u32) -> ProducerBatch {
    let sequences = SequenceRange::starting_at(Sequence::new(first).unwrap(), records);
    ProducerBatch { id: ProducerId(id), epoch: ProducerEpoch(epoch), sequences }
}

#[tokio::test]
async fn an_accepted_key_is_refused_with_an_error_for_each_record_that_bears_one() {
    let harness = Harness::start();
    let mut client = harness.admin();
    let id = keyed_topic(&mut client, "604800000").await;
    for version in ApiKey::Produce.versions().iter() {
        let [first, second] = [format!("a{version}"), format!("b{version}")];
        let stored = client.produce(version, ("t", id, 0), None, plain(&[None, Some(&first)])).await;
        assert_eq!(stored.error_code, ErrorCode::None);
        let again = plain(&[Some(&second), Some(&first), Some(&second)]);
        let refused = client.produce(version, ("t", id, 1), None, again).await;
        assert_eq!((refused.error_code, refused.base_offset), (ErrorCode::InvalidRecord, -1));
        if version >= 8 {
            let told: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(told, [1, 2]);
            let where_it_is = format!("partition 0, offset {}", stored.base_offset + 1);
            let told = refused.record_errors[0].batch_index_error_message.clone().unwrap();
            assert!(told.contains(&where_it_is), "{told}");
        }
        if version >= 9 {
            let key = |batch_index, partition_index, offset| ProduceAcceptedKey {
                batch_index,
                partition_index,
                offset,
            };
            assert_eq!(refused.accepted_keys, [key(1, 0, stored.base_offset + 1), key(2, -1, -1)]);
        }
    }
    let nothing = client.fetch(12, ("t", id, 1), 0, false).await;
    assert_eq!(nothing.high_watermark, 0);
}

#[tokio::test]
async fn a_batch_behind_a_refused_one_has_its_sequence_and_a_retry_is_a_duplicate() {
    let harness = Harness::start();
    let mut client = harness.admin();
    let id = keyed_topic(&mut client, "604800000").await;
    let producer = client.init(None).await;
    let batch = |first, key| {
        keyed(BatchProducer::Idempotent(sequences(producer, first, 1)), &[Some(key)], Compression::Zstd)
    };
    let stored = client.produce(10, ("t", id, 0), None, batch(0, "a")).await;
    let retried = client.produce(10, ("t", id, 0), None, batch(0, "a")).await;
    assert_eq!((retried.error_code, retried.base_offset), (ErrorCode::None, stored.base_offset));
    let refused = client.produce(10, ("t", id, 0), None, batch(1, "a")).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord);
    let behind = client.produce(10, ("t", id, 0), None, batch(2, "b")).await;
    assert_eq!(behind.error_code, ErrorCode::OutOfOrderSequenceNumber);
    let renumbered = client.produce(10, ("t", id, 0), None, batch(1, "b")).await;
    assert_eq!(renumbered.error_code, ErrorCode::None);
}

#[tokio::test]
async fn a_held_key_is_retried_by_plain_producers_and_ends_other_transactions() {
    let harness = Harness::start();
    let mut client = harness.admin();
    let id = keyed_topic(&mut client, "604800000").await;
    let (x, y) = (client.init(Some("x")).await, client.init(Some("y")).await);
    let transactional = |producer| {
        keyed(BatchProducer::Transactional(sequences(producer, 0, 1)), &[Some("a")], Compression::None)
    };
    let held = client.produce(12, ("t", id, 0), Some("x"), transactional(x)).await;
    assert_eq!(held.error_code, ErrorCode::None);
    let other = client.produce(12, ("t", id, 1), Some("y"), transactional(y)).await;
    assert_eq!(other.error_code, ErrorCode::TransactionAbortable);
    for (version, code) in [(11, ErrorCode::NotEnoughReplicas), (12, ErrorCode::ConcurrentTransactions)] {
        let plain = client.produce(version, ("t", id, 1), None, plain(&[Some("a")])).await;
        assert_eq!(plain.error_code, code);
    }
    assert_eq!(client.end(5, "x", x, false).await.error_code, ErrorCode::None);
    let freed = client.produce(12, ("t", id, 1), None, plain(&[Some("a")])).await;
    assert_eq!(freed.error_code, ErrorCode::None);
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_a_topic_that_does_not_ask_takes_any() {
    let harness = Harness::start();
    let (mut client, other) = harness.with_topic("other", 1).await;
    let id = keyed_topic(&mut client, "604800000").await;
    let long = "k".repeat(IdempotencyKey::BYTES_MAX + 1);
    for wrong in ["", &long] {
        let refused = client.produce(9, ("t", id, 0), None, plain(&[None, Some(wrong)])).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidRecord);
        assert_eq!(refused.record_errors[0].batch_index, 1);
        let taken = client.produce(9, ("other", other, 0), None, plain(&[Some(wrong), Some(wrong)])).await;
        assert_eq!(taken.error_code, ErrorCode::None);
    }
    let longest = plain(&[Some(&long[1..])]);
    assert_eq!(client.produce(9, ("t", id, 0), None, longest).await.error_code, ErrorCode::None);
}
