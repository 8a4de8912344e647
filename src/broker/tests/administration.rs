use super::harness::*;
use crate::net::Reply;
use crate::types::TopicId;
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode, decode_response};
use bytes::Bytes;

#[tokio::test]
async fn a_client_from_the_future_learns_what_is_served() {
    let harness = Harness::start();
    let mut client = harness.user();
    let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff]);
    let Reply::Now(answer) = client.frame(frame).await.unwrap() else { panic!("an answer at once") };
    let (correlation_id, answer) = decode_response::<ApiVersionsResponse>(joined(answer), 0).unwrap();
    assert_eq!((correlation_id, answer.error_code), (7, ErrorCode::UnsupportedVersion));
    assert_eq!(answer.api_keys[0].api_key, 18);

    for frame in [
        &[0x03, 0xe7, 0, 0, 0, 0, 0, 7, 0xff, 0xff][..], // no such api
        &[0, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff][..],       // Produce 2
        &[0, 11, 0, 5, 0, 0, 0, 7, 0xff, 0xff][..],      // JoinGroup, not served yet
        &[0, 3, 0, 1, 0, 0, 0, 7][..],                   // cut off
    ] {
        let closed = client.frame(Bytes::copy_from_slice(frame)).await;
        assert!(closed.is_err(), "{frame:?}");
    }
}

#[tokio::test]
async fn what_librdkafka_leaves_behind_a_request_is_ignored() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    // Metadata 12 for all topics as librdkafka 2.16 writes it: the null of four bytes, where one is the null.
    let header = [0, 3, 0, 12, 0, 0, 0, 7, 0xff, 0xff, 0];
    let frame = [&header[..], &[0, 0, 0, 0, 1, 0, 0]].concat();
    let Reply::Later(answer) = client.frame(frame.into()).await.unwrap() else { panic!("an answer to come") };
    let (_, answer) = decode_response::<MetadataResponse>(joined(answer.await.unwrap()), 12).unwrap();
    assert_eq!(answer.topics.len(), 1);
}

#[tokio::test]
async fn every_version_of_the_handshake_is_answered() {
    let harness = Harness::start();
    let mut client = harness.user();
    for version in ApiKey::ApiVersions.versions().iter() {
        let request = ApiVersionsRequest {
            client_software_name: "test".to_owned(),
            client_software_version: "1".to_owned(),
            ..Default::default()
        };
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, ErrorCode::None);
        assert!(
            answer.api_keys.iter().any(|api| (api.api_key, api.min_version, api.max_version) == (0, 0, 13))
        );
    }
    for version in ApiKey::FindCoordinator.versions().iter() {
        let request = match version {
            0..=3 => FindCoordinatorRequest { key: "g".to_owned(), ..Default::default() },
            _ => FindCoordinatorRequest { coordinator_keys: vec!["g".to_owned()], ..Default::default() },
        };
        let answer = client.call(version, &request).await;
        let port = answer.coordinators.first().map_or(answer.port, |found| found.port);
        assert_eq!(port, 9092);
    }
}

#[tokio::test]
async fn topics_are_found_by_name_and_by_id_and_made_on_demand() {
    let harness = Harness::with(|config| config.auto_create_topics = true);
    let (_, id) = harness.with_topic("t", 3).await;
    let mut client = harness.user();
    let named = |name: &str, allow_auto_topic_creation| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }]),
        allow_auto_topic_creation,
        ..Default::default()
    };
    for version in ApiKey::Metadata.versions().iter() {
        let answer = client.call(version, &named("t", true)).await;
        let topic = &answer.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::None, 3));
        assert_eq!((answer.brokers[0].node_id, answer.brokers[0].port), (0, 9092));
        let topics = if version == 0 { Some(Vec::new()) } else { None };
        let all = MetadataRequest { topics, ..Default::default() };
        assert_eq!(client.call(version, &all).await.topics.len(), 1);
    }
    let by_id = MetadataRequestTopic { topic_id: id, name: None };
    let nowhere = MetadataRequestTopic { topic_id: TopicId(uuid::Uuid::new_v4()), name: None };
    let request = MetadataRequest { topics: Some(vec![by_id, nowhere]), ..Default::default() };
    let answer = client.call(12, &request).await;
    assert_eq!(answer.topics[0].name.as_deref(), Some("t"));
    assert_eq!(answer.topics[1].error_code, ErrorCode::UnknownTopicId);
    assert!(answer.cluster_id.is_some());

    let absent = client.call(9, &named("demand", false)).await;
    assert_eq!(absent.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
    let made = client.call(9, &named("demand", true)).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len()), (ErrorCode::None, 1));
    let invalid = client.call(9, &named("not/a/name", true)).await;
    assert_eq!(invalid.topics[0].error_code, ErrorCode::InvalidTopicException);

    let strict = Harness::start();
    let absent = strict.admin().call(9, &named("demand", true)).await;
    assert_eq!(absent.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
}

fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic { name: name.to_owned(), num_partitions: -1, replication_factor: -1, ..Default::default() }
}

#[tokio::test]
async fn each_topic_is_created_on_its_own_merits() {
    let harness = Harness::start();
    let mut client = harness.admin();
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let assigned =
        |partition_index, node| CreatableReplicaAssignment { partition_index, broker_ids: vec![node] };
    let topics = vec![
        creatable("good"),
        CreatableTopic { num_partitions: 0, ..creatable("none") },
        CreatableTopic { replication_factor: 3, ..creatable("three") },
        CreatableTopic { configs: vec![config("cleanup.policy", "compress")], ..creatable("compressed") },
        CreatableTopic { configs: vec![config("max.message.bytes", "5000")], ..creatable("small") },
        CreatableTopic { assignments: vec![assigned(0, 0), assigned(1, 0)], ..creatable("assigned") },
        CreatableTopic { assignments: vec![assigned(0, 1)], ..creatable("elsewhere") },
        creatable("not/a/name"),
        creatable("twice"),
        creatable("twice"),
    ];
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let dry = client.call(7, &CreateTopicsRequest { validate_only: true, ..request.clone() }).await;
    let wet = client.call(7, &request).await;
    let codes =
        |answer: &CreateTopicsResponse| answer.topics.iter().map(|t| t.error_code).collect::<Vec<_>>();
    assert_eq!(codes(&dry), codes(&wet));
    assert_eq!(
        codes(&wet),
        [
            ErrorCode::None,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidReplicationFactor,
            ErrorCode::InvalidConfig,
            ErrorCode::None,
            ErrorCode::None,
            ErrorCode::InvalidReplicaAssignment,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
        ]
    );
    assert_eq!(wet.topics[5].num_partitions, 2);
    for version in ApiKey::CreateTopics.versions().iter() {
        let again = CreateTopicsRequest { topics: vec![creatable("good")], ..Default::default() };
        assert_eq!(client.call(version, &again).await.topics[0].error_code, ErrorCode::TopicAlreadyExists);
    }
    let large = batch(None, &[&"x".repeat(6_000)]);
    let refused = client.produce(9, ("small", TopicId::NIL, 0), None, large).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
}

#[tokio::test]
async fn admins_create_delete_and_grow_topics_and_others_do_not() {
    let harness = Harness::start();
    let (mut admin, id) = harness.with_topic("t", 1).await;
    let mut user = harness.user();
    let create = CreateTopicsRequest { topics: vec![creatable("u")], ..Default::default() };
    assert_eq!(user.call(7, &create).await.topics[0].error_code, ErrorCode::TopicAuthorizationFailed);
    let delete = DeleteTopicsRequest { topic_names: vec!["t".to_owned()], ..Default::default() };
    assert_eq!(user.call(3, &delete).await.responses[0].error_code, ErrorCode::TopicAuthorizationFailed);
    let grow = |count| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: "t".to_owned(), count, assignments: None }],
        ..Default::default()
    };
    assert_eq!(user.call(3, &grow(4)).await.results[0].error_code, ErrorCode::TopicAuthorizationFailed);
    assert_eq!(admin.call(3, &grow(1)).await.results[0].error_code, ErrorCode::InvalidPartitions);
    assert_eq!(admin.call(3, &grow(4)).await.results[0].error_code, ErrorCode::None);
    let stored = user.produce(9, ("t", id, 3), None, batch(None, &["v"])).await;
    assert_eq!(stored.error_code, ErrorCode::None);

    // A fetch that waits hears of the deletion.
    let mut request = fetch_request(("t", id, 0), 0, true);
    request.max_wait_ms = 30_000;
    let waiting = tokio::spawn(user.send(13, &request).await.unwrap().reply());
    let by_id = DeleteTopicState { name: None, topic_id: id };
    let both = DeleteTopicState { name: Some("t".to_owned()), topic_id: id };
    let request = DeleteTopicsRequest { topics: vec![both, by_id], ..Default::default() };
    let answer = admin.call(6, &request).await;
    assert_eq!(answer.responses[0].error_code, ErrorCode::InvalidRequest);
    assert_eq!(
        (answer.responses[1].error_code, answer.responses[1].name.as_deref()),
        (ErrorCode::None, Some("t"))
    );
    let told = waiting.await.unwrap().unwrap();
    assert_eq!(told.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId);
    assert_eq!(admin.call(3, &delete).await.responses[0].error_code, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("b", 3).await;
    client.create_topic("a", 2).await;
    let mut request = DescribeTopicPartitionsRequest { response_partition_limit: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = client.call(0, &request).await;
        for topic in &page.topics {
            let name = topic.name.clone().unwrap();
            seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
        }
        let Some(next) = page.next_cursor else { break };
        let DescribeTopicPartitionsNextCursor { topic_name, partition_index } = next;
        request.cursor = Some(DescribeTopicPartitionsCursor { topic_name, partition_index });
    }
    let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)];
    assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
}

#[tokio::test]
async fn settings_and_the_cluster_are_described() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    let resource = |resource_type, name: &str| DescribeConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![
            resource(2, "t"),
            resource(4, "0"),
            resource(4, "7"),
            resource(2, "nowhere"),
            resource(99, "x"),
        ],
        include_synonyms: true,
        include_documentation: true,
    };
    let answer = client.call(4, &request).await;
    let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidRequest
        ]
    );
    let policy = answer.results[0].configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
    assert_eq!((policy.value.as_deref(), policy.config_source, policy.config_type), (Some("delete"), 5, 7));
    assert!(answer.results[1].configs.iter().all(|config| config.read_only));

    for version in ApiKey::DescribeCluster.versions().iter() {
        let cluster = client.call(version, &DescribeClusterRequest::default()).await;
        assert_eq!((cluster.brokers.len(), cluster.controller_id), (1, 0));
        assert!(!cluster.cluster_id.is_empty());
    }
}
