//! DeleteRecords, timestamps, and finding offsets by time.

use super::harness::*;
use crate::types::Timestamp;
use crate::types::TopicId;
use crate::wire::batch::{BatchBuilder, BatchProducer, Compression, Record};
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};
use bytes::Bytes;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

/// A batch with one record for each of these times.
fn timed(times: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for time in times {
        let record = Record { value: Some(Bytes::from_static(b"v")), ..Default::default() };
        builder.append(Timestamp(*time), &record).unwrap();
    }
    builder.build(Compression::None, BatchProducer::Anonymous).unwrap()
}

pub(super) async fn delete(
    client: &mut Client,
    version: i16,
    name: &str,
    index: i32,
    offset: i64,
) -> (ErrorCode, i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index: index, offset }];
    let topics = vec![DeleteRecordsTopic { name: name.to_owned(), partitions }];
    let request = DeleteRecordsRequest { topics, ..Default::default() };
    let result = client.call(version, &request).await.topics.remove(0).partitions.remove(0);
    (result.error_code, result.low_watermark)
}

/// What ListOffsets finds for a time: (offset, timestamp).
async fn list(client: &mut Client, timestamp: i64, committed: bool) -> (i64, i64) {
    let partition = ListOffsetsPartition { timestamp, ..Default::default() };
    let request = ListOffsetsRequest {
        isolation_level: i8::from(committed),
        topics: vec![ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] }],
        ..Default::default()
    };
    let found = client.call(10, &request).await.topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, ErrorCode::None);
    (found.offset, found.timestamp)
}

#[tokio::test]
async fn deleted_records_are_not_found_any_more() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    for _ in 0..3 {
        client.produce(13, ("", id, 0), None, batch(None, &["a", "b", "c"])).await;
    }
    for version in ApiKey::DeleteRecords.versions().iter() {
        let offset = i64::from(version) + 3;
        assert_eq!(delete(&mut client, version, "t", 0, offset).await, (ErrorCode::None, offset));
    }
    assert_eq!(delete(&mut client, 2, "t", 0, 1).await, (ErrorCode::None, 5), "deleted before");
    assert_eq!(delete(&mut client, 2, "t", 0, 10).await, (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(delete(&mut client, 2, "t", 0, -2).await, (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(delete(&mut client, 2, "t", 2, 0).await, (ErrorCode::UnknownTopicOrPartition, -1));
    assert_eq!(delete(&mut client, 2, "u", 0, 0).await, (ErrorCode::UnknownTopicOrPartition, -1));
    assert_eq!(delete(&mut client, 2, "t", 1, -1).await, (ErrorCode::None, 0), "an empty partition");
    let refused = delete(&mut harness.user(), 2, "t", 0, 6).await;
    assert_eq!(refused, (ErrorCode::TopicAuthorizationFailed, -1));

    assert_eq!(client.fetch(13, ("", id, 0), 4, false).await.error_code, ErrorCode::OffsetOutOfRange);
    let rest = client.fetch(13, ("", id, 0), 5, false).await;
    assert_eq!((rest.error_code, rest.log_start_offset), (ErrorCode::None, 5));
    assert_eq!(batches(&rest)[0].header.base_offset.0, 3, "whole batches, as in Kafka");
    assert_eq!(list(&mut client, EARLIEST, false).await.0, 5);
    assert_eq!(list(&mut client, EARLIEST_LOCAL, false).await.0, 5);
    assert_eq!(list(&mut client, 0, false).await.0, 5, "not below the log start");

    assert_eq!(delete(&mut client, 2, "t", 0, -1).await, (ErrorCode::None, 9), "all of it");
    let end = client.fetch(13, ("", id, 0), 9, false).await;
    assert_eq!((end.error_code, end.high_watermark), (ErrorCode::None, 9));
    assert_eq!(list(&mut client, MAX_TIMESTAMP, false).await, (-1, -1));
    let stored = client.produce(13, ("", id, 0), None, batch(None, &["d"])).await;
    assert_eq!((stored.base_offset, stored.log_start_offset), (9, 9));
}

/// As in Kafka: what somebody deletes there is the newest of a key as well.
#[tokio::test]
async fn records_of_a_topic_that_is_only_compacted_are_not_deleted() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    client.produce(9, ("t", TopicId::NIL, 0), None, batch(None, &["a", "b"])).await;
    for (policy, answer) in [
        ("compact", (ErrorCode::PolicyViolation, -1)),
        ("compact,delete", (ErrorCode::None, 1)),
        ("delete", (ErrorCode::None, 1)),
    ] {
        let config = AlterableConfig {
            name: "cleanup.policy".to_owned(),
            config_operation: 0,
            value: Some(policy.to_owned()),
        };
        let resource =
            AlterConfigsResource { resource_type: 2, resource_name: "t".to_owned(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        client.call(1, &request).await;
        assert_eq!(delete(&mut client, 2, "t", 0, 1).await, answer, "{policy}");
    }
}

#[tokio::test]
async fn a_fetch_that_waits_hears_that_its_offset_is_deleted() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let mut reader = harness.user();
    client.produce(13, ("", id, 0), None, batch(None, &["a", "b"])).await;
    let mut request = fetch_request(("", id, 0), 0, false);
    (request.max_wait_ms, request.min_bytes) = (30_000, 1 << 20);
    let waiting = tokio::spawn(reader.send(13, &request).await.unwrap().reply());
    delete(&mut client, 2, "t", 0, 2).await;
    let answer = waiting.await.unwrap().unwrap().responses.remove(0).partitions.remove(0);
    assert_eq!(answer.error_code, ErrorCode::OffsetOutOfRange);
}

#[tokio::test]
async fn an_open_transaction_does_not_hold_back_a_deletion() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let producer = client.init(Some("x")).await;
    client.produce(13, ("", id, 0), Some("x"), batch(Some((producer, 0, true)), &["a", "b"])).await;
    assert_eq!(list(&mut client, LATEST, true).await.0, 0);
    assert_eq!(delete(&mut client, 2, "t", 0, -1).await, (ErrorCode::None, 2));
    assert_eq!(
        list(&mut client, LATEST, true).await.0,
        2,
        "the last stable offset is at least the log start"
    );
    let raised = client.end(5, "x", producer, true).await;
    assert_eq!(raised.error_code, ErrorCode::None);
    assert_eq!(list(&mut client, LATEST, true).await.0, 3);
    let rest = client.fetch(13, ("", id, 0), 2, true).await;
    assert!(batches(&rest)[0].header.control);
}

#[tokio::test]
async fn offsets_are_found_by_time_whatever_the_order_of_the_times() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    assert_eq!(list(&mut client, MAX_TIMESTAMP, false).await, (-1, -1));
    for times in [&[100, 300][..], &[50, 60], &[400, 200], &[400, 500, 350], &[10]] {
        client.produce(13, ("", id, 0), None, timed(times)).await;
    }
    let mut found = Vec::new();
    for time in [0, 101, 301, 401, 501, MAX_TIMESTAMP] {
        found.push(list(&mut client, time, false).await);
    }
    assert_eq!(found, [(0, 100), (1, 300), (4, 400), (7, 500), (-1, -1), (7, 500)]);
    // The newest record goes; of what is left, some lies in its batch.
    delete(&mut client, 2, "t", 0, 8).await;
    let mut found = Vec::new();
    for time in [0, 11, 351, MAX_TIMESTAMP] {
        found.push(list(&mut client, time, false).await);
    }
    assert_eq!(found, [(8, 350), (8, 350), (-1, -1), (8, 350)]);
    delete(&mut client, 2, "t", 0, 9).await;
    assert_eq!(list(&mut client, MAX_TIMESTAMP, false).await, (9, 10));
    assert_eq!(list(&mut client, 5, false).await, (9, 10));
    assert_eq!(list(&mut client, 11, false).await, (-1, -1));
}

#[tokio::test]
async fn a_topic_stamps_records_itself_or_judges_their_stamps() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    let ahead = timed(&[i64::MAX / 2]);
    let refused = client.produce(13, ("", id, 0), None, ahead.clone()).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp);
    assert!(refused.error_message.unwrap().contains("message.timestamp.after.max.ms"));
    let change = |name: &str, value: &str| {
        let config =
            AlterableConfig { name: name.to_owned(), config_operation: 0, value: Some(value.to_owned()) };
        let resource =
            AlterConfigsResource { resource_type: 2, resource_name: "t".to_owned(), configs: vec![config] };
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
    };
    client.call(1, &change("message.timestamp.type", "LogAppendTime")).await;
    let stamped = client.produce(13, ("", id, 0), None, ahead).await;
    assert_eq!(stamped.error_code, ErrorCode::None);
    let read = client.fetch(13, ("", id, 0), 0, false).await;
    assert_eq!(batches(&read)[0].header.max_timestamp.0, stamped.log_append_time_ms);
    client.call(1, &change("message.timestamp.type", "CreateTime")).await;
    client.call(1, &change("message.timestamp.before.max.ms", "1000")).await;
    let refused = client.produce(9, ("t", TopicId::NIL, 0), None, timed(&[5])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp);
}
