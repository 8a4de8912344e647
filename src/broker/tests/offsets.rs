use super::harness::*;
use crate::core::{Command, Reply};
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};

#[tokio::test]
async fn offsets_are_found_at_both_ends_and_by_time() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    // Timestamps 1000, 1001, 1002 in each batch.
    client.produce(9, ("t", id, 0), None, batch(None, &["a", "b", "c"])).await;
    client.produce(9, ("t", id, 0), None, batch(None, &["d", "e", "f"])).await;
    let producer = client.init(Some("x")).await;
    client.produce(12, ("t", id, 0), Some("x"), batch(Some((producer, 0, true)), &["open"])).await;
    let list = |timestamp, isolation_level, partition_index| ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![ListOffsetsTopic {
            name: "t".to_owned(),
            partitions: vec![ListOffsetsPartition { partition_index, timestamp, ..Default::default() }],
        }],
        ..Default::default()
    };
    let found = async |client: &mut Client, timestamp, isolation| {
        let response = client.call(9, &list(timestamp, isolation, 0)).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::None);
        (partition.offset, partition.timestamp)
    };
    assert_eq!(found(&mut client, -1, 0).await, (7, -1));
    assert_eq!(found(&mut client, -1, 1).await, (6, -1));
    assert_eq!(found(&mut client, -2, 1).await, (0, -1));
    assert_eq!(found(&mut client, -4, 1).await, (0, -1));
    assert_eq!(found(&mut client, -5, 1).await, (-1, -1));
    assert_eq!(found(&mut client, 1_001, 1).await, (1, 1_001));
    assert_eq!(found(&mut client, 0, 1).await, (0, 1_000));
    assert_eq!(found(&mut client, 1_003, 1).await, (-1, -1));
    assert_eq!(found(&mut client, -3, 1).await, (2, 1_002));
    for version in ApiKey::ListOffsets.versions().iter() {
        let isolation = i8::from(version >= 2);
        let response = client.call(version, &list(-2, isolation, 0)).await;
        assert_eq!(response.topics[0].partitions[0].offset, 0);
    }
    let unknown = client.call(9, &list(-1, 0, 5)).await;
    assert_eq!(unknown.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition);

    let epoch = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".to_owned(),
            partitions: vec![OffsetForLeaderPartition { leader_epoch: 0, ..Default::default() }],
        }],
        ..Default::default()
    };
    assert_eq!(client.call(4, &epoch).await.topics[0].partitions[0].end_offset, 7);
}

#[tokio::test]
async fn after_a_restore_readers_learn_up_to_where_what_they_have_read_is_there() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    client.produce(9, ("t", id, 0), None, batch(None, &["a", "b", "c"])).await;
    let restore = Command::RestoreLog { restore: uuid::Uuid::from_u128(1) };
    assert_eq!(harness.decide(restore).await, Reply::Done(Ok(())));

    let metadata = client.call(12, &MetadataRequest { topics: None, ..Default::default() }).await;
    assert_eq!(metadata.topics[0].partitions[0].leader_epoch, 1);
    let fetch = async |client: &mut Client, current_leader_epoch| {
        let mut request = fetch_request(("t", id, 0), 0, false);
        request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
        client.call(12, &request).await.responses.remove(0).partitions.remove(0)
    };
    assert_eq!(fetch(&mut client, 0).await.error_code, ErrorCode::FencedLeaderEpoch);
    assert_eq!(fetch(&mut client, 2).await.error_code, ErrorCode::UnknownLeaderEpoch);
    let end = async |client: &mut Client, leader_epoch, current_leader_epoch| {
        let asked = OffsetForLeaderPartition { leader_epoch, current_leader_epoch, ..Default::default() };
        let topic = OffsetForLeaderTopic { topic: "t".to_owned(), partitions: vec![asked] };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let answer = client.call(4, &request).await.topics.remove(0).partitions.remove(0);
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(end(&mut client, 0, 1).await, (ErrorCode::None, 0, 3));
    assert_eq!(end(&mut client, 0, 0).await.0, ErrorCode::FencedLeaderEpoch);
    assert_eq!(end(&mut client, 2, -1).await, (ErrorCode::None, -1, -1));

    client.produce(9, ("t", id, 0), None, batch(None, &["d", "e"])).await;
    assert_eq!(end(&mut client, 0, 1).await, (ErrorCode::None, 0, 3), "what was read behind it is gone");
    assert_eq!(end(&mut client, 1, 1).await, (ErrorCode::None, 1, 5));
    let fetched = fetch(&mut client, 1).await;
    let epochs: Vec<i32> = batches(&fetched).iter().map(|batch| batch.header.leader_epoch.0).collect();
    assert_eq!(epochs, [0, 1]);
}

fn commit(group: &str, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 1,
                committed_offset: offset,
                committed_metadata: Some("note".to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_group_without_members_keeps_offsets() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 2).await;
    for version in ApiKey::OffsetCommit.versions().iter() {
        let mut request = commit("g", version.into());
        request.topics[0].topic_id = id;
        let response = client.call(version, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None, "version {version}");
    }
    let newest = i64::from(ApiKey::OffsetCommit.versions().max);
    for version in ApiKey::OffsetFetch.versions().iter() {
        let answer = match version {
            0..=7 => {
                let topic = OffsetFetchRequestTopic { name: "t".to_owned(), partition_indexes: vec![0, 1] };
                let (group_id, topics) = ("g".to_owned(), Some(vec![topic]));
                let request = OffsetFetchRequest { group_id, topics, ..Default::default() };
                let response = client.call(version, &request).await;
                response.topics[0]
                    .partitions
                    .iter()
                    .map(|p| (p.partition_index, p.committed_offset))
                    .collect()
            }
            _ => {
                let topics = vec![OffsetFetchRequestTopics {
                    name: "t".to_owned(),
                    topic_id: id,
                    partition_indexes: vec![0, 1],
                }];
                let group = OffsetFetchRequestGroup {
                    group_id: "g".to_owned(),
                    topics: Some(topics),
                    ..Default::default()
                };
                let response = client
                    .call(version, &OffsetFetchRequest { groups: vec![group], ..Default::default() })
                    .await;
                let partitions = &response.groups[0].topics[0].partitions;
                partitions.iter().map(|p| (p.partition_index, p.committed_offset)).collect::<Vec<_>>()
            }
        };
        assert_eq!(answer, [(0, -1), (1, newest)], "version {version}");
    }
    let groups = ["g", "empty"].map(|group| OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        topics: None,
        ..Default::default()
    });
    let all = OffsetFetchRequest { groups: groups.into(), ..Default::default() };
    let response = client.call(8, &all).await;
    assert_eq!(response.groups[0].topics[0].name, "t");
    assert_eq!(response.groups[0].topics[0].partitions[0].metadata.as_deref(), Some("note"));
    assert_eq!(response.groups[1].topics.len(), 0);
}

#[tokio::test]
async fn offsets_of_a_generation_that_is_not_are_refused() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 2).await;
    let code = |response: OffsetCommitResponse| response.topics[0].partitions[0].error_code;
    let member =
        OffsetCommitRequest { member_id: "m".to_owned(), generation_id_or_member_epoch: 1, ..commit("g", 1) };
    assert_eq!(code(client.call(8, &member).await), ErrorCode::IllegalGeneration);
    assert_eq!(code(client.call(9, &member).await), ErrorCode::GroupIdNotFound);
    let long = OffsetCommitRequest { group_id: "g".repeat(2_000), ..commit("g", 1) };
    assert_eq!(code(client.call(8, &long).await), ErrorCode::InvalidGroupId);
    let mut talkative = commit("g", 1);
    talkative.topics[0].partitions[0].committed_metadata = Some("m".repeat(5_000));
    assert_eq!(code(client.call(8, &talkative).await), ErrorCode::OffsetMetadataTooLarge);
}
