use super::harness::*;
use crate::types::Timestamp;
use crate::types::TopicId;
use crate::wire::batch::{BatchBuilder, BatchProducer, Compression, Record};
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn change(name: &str, config_operation: i8, value: Option<&str>) -> AlterableConfig {
    AlterableConfig { name: name.to_owned(), config_operation, value: value.map(str::to_owned) }
}

fn set(name: &str, value: &str) -> AlterableConfig {
    change(name, SET, Some(value))
}

fn resource(resource_type: i8, name: &str, configs: Vec<AlterableConfig>) -> AlterConfigsResource {
    AlterConfigsResource { resource_type, resource_name: name.to_owned(), configs }
}

/// What becomes of one resource.
async fn alter(
    client: &mut Client,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> AlterConfigsResourceResponse {
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    client.call(1, &request).await.responses.remove(0)
}

/// A topic's setting: its value and where that comes from.
async fn described(client: &mut Client, topic: &str, name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.to_owned(),
        configuration_keys: Some(vec![name.to_owned()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let config = client.call(4, &request).await.results.remove(0).configs.remove(0);
    (config.value.unwrap(), config.config_source)
}

#[tokio::test]
async fn settings_are_set_and_unset_and_take_effect() {
    let harness = Harness::start();
    let (mut client, id) = harness.with_topic("t", 1).await;
    for version in ApiKey::IncrementalAlterConfigs.versions().iter() {
        let resources = vec![resource(TOPIC, "t", vec![set("max.message.bytes", " 5000 ")])];
        let dry = IncrementalAlterConfigsRequest { resources: resources.clone(), validate_only: true };
        assert_eq!(client.call(version, &dry).await.responses[0].error_code, ErrorCode::None);
        assert_eq!(described(&mut client, "t", "max.message.bytes").await, ("1048588".to_owned(), 5));
        let wet = IncrementalAlterConfigsRequest { resources, validate_only: false };
        assert_eq!(client.call(version, &wet).await.responses[0].error_code, ErrorCode::None);
        assert_eq!(described(&mut client, "t", "max.message.bytes").await, ("5000".to_owned(), 1));
        let large = batch(None, &[&"x".repeat(6_000)]);
        let refused = client.produce(9, ("t", TopicId::NIL, 0), None, large.clone()).await;
        assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);

        let unset = resource(TOPIC, "t", vec![change("max.message.bytes", DELETE, None)]);
        assert_eq!(alter(&mut client, unset, false).await.error_code, ErrorCode::None);
        assert_eq!(described(&mut client, "t", "max.message.bytes").await, ("1048588".to_owned(), 5));
        let stored = client.produce(13, ("", id, 0), None, large).await;
        assert_eq!(stored.error_code, ErrorCode::None);
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_changes_nothing_and_says_what_can() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    let good = || set("max.message.bytes", "5000");
    for (bad, code, says) in [
        (set("preallocate", "true"), ErrorCode::InvalidConfig, "max.message.bytes"),
        (set("max.message.bytes", "-1"), ErrorCode::InvalidRequest, "more than once"),
        (set("cleanup.policy", "compress"), ErrorCode::InvalidConfig, "compact or delete"),
        (change("cleanup.policy", SUBTRACT, Some("delete")), ErrorCode::InvalidConfig, "compact or delete"),
        (set("max.compaction.lag.ms", "0"), ErrorCode::InvalidConfig, "from 1"),
        (set("min.compaction.lag.ms", "9223372036854775808"), ErrorCode::InvalidConfig, "from 0"),
        (set("min.cleanable.dirty.ratio", "2"), ErrorCode::InvalidConfig, "from 0 to 1"),
        (
            change("message.timestamp.type", APPEND, Some("CreateTime")),
            ErrorCode::InvalidConfig,
            "not a list",
        ),
        (change("message.timestamp.type", SET, None), ErrorCode::InvalidRequest, "needs a value"),
        (change("message.timestamp.type", 9, Some("x")), ErrorCode::InvalidRequest, "9 is no operation"),
    ] {
        let answer = alter(&mut client, resource(TOPIC, "t", vec![good(), bad]), false).await;
        let message = answer.error_message.unwrap_or_default();
        assert_eq!(answer.error_code, code, "{message}");
        assert!(message.contains(says), "{message}");
        assert_eq!(described(&mut client, "t", "max.message.bytes").await.1, 5, "nothing has changed");
    }
    let appended = resource(TOPIC, "t", vec![change("cleanup.policy", APPEND, Some("delete"))]);
    assert_eq!(alter(&mut client, appended, false).await.error_code, ErrorCode::None);
    assert_eq!(described(&mut client, "t", "cleanup.policy").await, ("delete".to_owned(), 1));
}

#[tokio::test]
async fn a_topic_becomes_compacted_and_back_and_then_takes_or_refuses_records_without_a_key() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    let names = || ("t", TopicId::NIL, 0);
    assert_eq!(
        client.produce(9, names(), None, batch(None, &["a", "b", "c"])).await.error_code,
        ErrorCode::None
    );

    let both = resource(TOPIC, "t", vec![change("cleanup.policy", APPEND, Some("compact"))]);
    assert_eq!(alter(&mut client, both, false).await.error_code, ErrorCode::None);
    assert_eq!(described(&mut client, "t", "cleanup.policy").await, ("delete,compact".to_owned(), 1));
    let refused = client.produce(9, names(), None, batch(None, &["a", "b", "c"])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord);
    let blamed: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(blamed, [0, 1, 2]);
    let each = refused.record_errors[0].batch_index_error_message.as_deref();
    assert_eq!(each, Some("Compacted topic cannot accept message without key in topic partition t-0."));
    assert!(refused.error_message.unwrap().contains("3 records have no key"));
    let mut keyed = BatchBuilder::new(0);
    let record = Record { key: Some("k".into()), value: None, headers: Vec::new() };
    keyed.append(Timestamp(1), &record).unwrap();
    let keyed = keyed.build(Compression::None, BatchProducer::Anonymous).unwrap();
    assert_eq!(client.produce(9, names(), None, keyed).await.error_code, ErrorCode::None);

    // Each setting by itself may be; together they may not.
    let lags = |name, value| resource(TOPIC, "t", vec![set(name, value)]);
    assert_eq!(
        alter(&mut client, lags("min.compaction.lag.ms", "500"), false).await.error_code,
        ErrorCode::None
    );
    let answer = alter(&mut client, lags("max.compaction.lag.ms", "499"), false).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidConfig);
    assert!(answer.error_message.unwrap().contains("must not be above"));

    let back = resource(TOPIC, "t", vec![change("cleanup.policy", SUBTRACT, Some("compact"))]);
    assert_eq!(alter(&mut client, back, false).await.error_code, ErrorCode::None);
    assert_eq!(
        client.produce(9, names(), None, batch(None, &["a", "b", "c"])).await.error_code,
        ErrorCode::None
    );
}

#[tokio::test]
async fn each_resource_is_changed_on_its_own_merits_and_by_admins_alone() {
    let harness = Harness::start();
    let (mut admin, _) = harness.with_topic("t", 1).await;
    let resources = vec![
        resource(TOPIC, "t", vec![set("max.message.bytes", "5000")]),
        resource(TOPIC, "nowhere", vec![]),
        resource(TOPIC, "", vec![]),
        resource(TOPIC, "not/a/name", vec![]),
        resource(BROKER, "0", vec![set("num.partitions", "3")]),
        resource(99, "x", vec![]),
        resource(TOPIC, "twice", vec![]),
        resource(TOPIC, "twice", vec![]),
    ];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let codes = |responses: Vec<AlterConfigsResourceResponse>| {
        responses.into_iter().map(|response| response.error_code).collect::<Vec<_>>()
    };
    assert_eq!(
        codes(admin.call(1, &request).await.responses),
        [
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
        ]
    );
    let refused = harness.user().call(1, &request).await.responses;
    assert_eq!(refused[0].error_code, ErrorCode::TopicAuthorizationFailed);
}

#[tokio::test]
async fn the_older_request_replaces_all_settings() {
    let harness = Harness::start();
    let (mut client, _) = harness.with_topic("t", 1).await;
    let replace = |name: &str, value: Option<&str>| AlterConfigsRequest {
        resources: vec![ReplaceConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".to_owned(),
            configs: vec![ReplacedConfig { name: name.to_owned(), value: value.map(str::to_owned) }],
        }],
        validate_only: false,
    };
    for version in ApiKey::AlterConfigs.versions().iter() {
        let first = client.call(version, &replace("max.message.bytes", Some("5000"))).await;
        assert_eq!(first.responses[0].error_code, ErrorCode::None);
        let second = client.call(version, &replace("message.timestamp.type", Some("LogAppendTime"))).await;
        assert_eq!(second.responses[0].error_code, ErrorCode::None);
        assert_eq!(described(&mut client, "t", "max.message.bytes").await.1, 5);
        assert_eq!(
            described(&mut client, "t", "message.timestamp.type").await,
            ("LogAppendTime".to_owned(), 1)
        );
        let null = client.call(version, &replace("message.timestamp.type", None)).await;
        assert_eq!(null.responses[0].error_code, ErrorCode::InvalidRequest);
        let unknown = client.call(version, &replace("preallocate", Some("true"))).await;
        assert_eq!(unknown.responses[0].error_code, ErrorCode::InvalidConfig);
    }
}
