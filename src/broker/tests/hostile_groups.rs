//! Requests about groups that are far too large, or lie: answered with an error that says what to do, in bounded memory.

use super::harness::*;
use crate::broker::limits::DESCRIBED_BYTES_MAX;
use crate::core::limits::{GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, MEMBER_ID_BYTES_MAX};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use bytes::Bytes;
use std::time::Duration;

fn join_request(group: &str, metadata: usize) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol { name: "range".to_owned(), metadata: Bytes::from(vec![0; metadata]) };
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "not consumers".to_owned(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

fn beat_request() -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "greedy".to_owned(),
        member_epoch: 0,
        rebalance_timeout_ms: 10_000,
        topic_partitions: Some(Vec::new()),
        subscribed_topic_names: Some(Vec::new()),
        ..Default::default()
    }
}

/// A harness whose groups wait for nobody.
fn start() -> Harness {
    Harness::with(|config| config.group_initial_rebalance_delay = Duration::ZERO)
}

#[tokio::test]
async fn a_subscription_to_100_000_topics_is_refused_in_words_that_say_what_to_do() {
    let harness = start();
    let mut client = harness.user();
    let topics = (0..100_000).map(|number| format!("topic {number}")).collect();
    let request = ConsumerGroupHeartbeatRequest { subscribed_topic_names: Some(topics), ..beat_request() };
    let refused = client.call(1, &request).await;
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached);
    let message = refused.error_message.unwrap();
    assert!(message.contains("subscribe to fewer topics, or with a regular expression"), "{message}");
    let refused = client.call(9, &join_request("g", GROUP_METADATA_BYTES_MAX)).await;
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(client.call(1, &beat_request()).await.error_code, ErrorCode::None);
}

#[tokio::test]
async fn a_hostile_regular_expression_is_refused_in_words_that_say_what_to_do() {
    let harness = start();
    let mut client = harness.user();
    for (pattern, says) in [
        ("a".repeat(5_000), "shorten it"),
        (format!("{}a{}", "(".repeat(1_000), ")".repeat(1_000)), "no regular expression"),
        ("((((a{10}){10}){10}){10}){10}".to_owned(), "repeat less"),
        ("(".to_owned(), "no regular expression: unclosed group"),
        (format!("{}(", "\n".repeat(4_095)), "no regular expression: unclosed group"),
    ] {
        let request =
            ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some(pattern), ..beat_request() };
        let refused = client.call(1, &request).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidRegularExpression);
        let message = refused.error_message.unwrap();
        assert!(message.contains(says), "{message}");
    }
}

/// A pattern that takes a while with each name, and one that takes none: nobody waits for the whole of another one's.
#[tokio::test]
async fn a_slow_pattern_does_not_hold_up_other_groups() {
    const TOPICS: usize = 400;
    let harness = Harness::untraced();
    let topic = |number: usize| CreatableTopic {
        name: format!("{}{number}", "ab".repeat(120)),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = (0..TOPICS).map(topic).collect();
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let created = harness.admin().call(7, &request).await.topics;
    assert!(created.iter().all(|topic| topic.error_code == ErrorCode::None), "{created:?}");
    let with = |group: &str, pattern: &str| ConsumerGroupHeartbeatRequest {
        group_id: group.to_owned(),
        subscribed_topic_regex: Some(pattern.to_owned()),
        ..beat_request()
    };
    let slow = harness.user().send(1, &with("slow", "(?:[a-z0-9]?){700}c")).await.unwrap();
    let mut client = harness.user();
    let others = async {
        for (number, pattern) in ["ab.*", "[ab]+[0-9]", "none"].iter().enumerate() {
            let told = client.call(1, &with(&format!("group {number}"), pattern)).await;
            assert_eq!(told.error_code, ErrorCode::None, "{pattern}");
        }
    };
    tokio::select! {
        biased;
        told = slow.reply() => panic!("nobody was answered before {:?}", told.unwrap().error_code),
        () = others => {}
    }
}

#[tokio::test]
async fn groups_are_not_listed_in_part() {
    let harness = Harness::with(|config| config.groups_listed_bytes_max = 1_000);
    harness.with_topic("t", 1).await;
    let mut client = harness.user();
    let commit = |group: usize| OffsetCommitRequest {
        group_id: format!("group {group}"),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let list = |states: &[&str], types: &[&str]| ListGroupsRequest {
        states_filter: states.iter().map(|state| (*state).to_owned()).collect(),
        types_filter: types.iter().map(|kind| (*kind).to_owned()).collect(),
    };
    let mut listed = Vec::new();
    for group in 0.. {
        client.call(9, &commit(group)).await;
        let answer = client.call(5, &list(&[], &[])).await;
        if answer.error_code != ErrorCode::None {
            assert_eq!((answer.error_code, answer.groups.len()), (ErrorCode::InvalidRequest, 0));
            break;
        }
        listed = answer.groups;
        assert_eq!(listed.len(), group + 1);
    }
    assert!((4..10).contains(&listed.len()), "{}", listed.len());
    let request = join_request("group 1", 1);
    client.call(3, &request).await;
    for (states, types, expected) in [
        (&["Stable", "completingrebalance"][..], &[][..], 1),
        (&["Stable"], &["consumer"], 0),
        (&[], &["Consumer"], 0),
    ] {
        let answer = client.call(5, &list(states, types)).await;
        assert_eq!(
            (answer.error_code, answer.groups.len()),
            (ErrorCode::None, expected),
            "{states:?} {types:?}"
        );
    }
}

#[tokio::test]
async fn what_a_client_calls_itself_is_cut_where_a_member_id_is_drawn() {
    let harness = start();
    let mut client = harness.user();
    let request = JoinGroupRequest { group_instance_id: Some("x".repeat(1_000)), ..join_request("g", 1) };
    assert_eq!(client.call(9, &request).await.error_code, ErrorCode::InvalidRequest);
    let request = JoinGroupRequest { group_instance_id: Some("ä".repeat(120)), ..join_request("g", 1) };
    let joined = client.call(9, &request).await;
    assert_eq!(joined.error_code, ErrorCode::None);
    let length = joined.member_id.len();
    assert!((MEMBER_ID_BYTES_MAX - 1..=MEMBER_ID_BYTES_MAX).contains(&length), "{length}");
}

/// A group of nearly a mebibyte, asked for so often that the answers would be hundreds of them.
#[tokio::test]
async fn one_answer_describes_no_more_than_there_is_room_for() {
    const TIMES: usize = 400;
    let harness = start();
    let mut member = harness.user();
    let request = JoinGroupRequest {
        group_instance_id: Some("static".to_owned()),
        ..join_request("large", GROUP_METADATA_BYTES_MAX - 1_000)
    };
    let joined = member.call(9, &request).await;
    assert_eq!(joined.error_code, ErrorCode::None);
    let request = DescribeGroupsRequest { groups: vec!["large".to_owned(); TIMES], ..Default::default() };
    let described = harness.user().call(6, &request).await.groups;
    assert_eq!(described.len(), TIMES);
    let told = described.iter().filter(|group| group.error_code == ErrorCode::None).count();
    let fit = DESCRIBED_BYTES_MAX / GROUP_METADATA_BYTES_MAX;
    assert!((fit..fit + 8).contains(&told), "{told}");
    let refused = described.last().unwrap();
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest);
    assert!(refused.error_message.as_ref().unwrap().contains("ask for fewer of them at once"));
    let request = DescribeGroupsRequest { groups: vec!["large".to_owned()], ..Default::default() };
    assert_eq!(harness.user().call(6, &request).await.groups[0].members.len(), 1);
}

#[tokio::test]
async fn more_members_than_a_group_has_do_not_leave_it_at_once() {
    let harness = start();
    let mut client = harness.user();
    let leave = |count: usize| LeaveGroupRequest {
        group_id: "g".to_owned(),
        members: vec![LeaveGroupMember { member_id: "nobody".to_owned(), ..Default::default() }; count],
        ..Default::default()
    };
    let answer = client.call(5, &leave(GROUP_MEMBERS_MAX + 1)).await;
    assert_eq!((answer.error_code, answer.members.len()), (ErrorCode::InvalidRequest, 0));
    let answer = client.call(5, &leave(GROUP_MEMBERS_MAX)).await;
    assert_eq!((answer.error_code, answer.members.len()), (ErrorCode::None, GROUP_MEMBERS_MAX));
}

/// A name may be as long as the texts of the protocol; keys of rows may not, nor what is said of it in another text.
#[tokio::test]
async fn names_of_any_length_are_refused_by_everybody_who_is_asked() {
    let harness = start();
    let (mut client, topic) = harness.with_topic("t", 1).await;
    for length in [1_025, 32_767] {
        let long = "g".repeat(length);
        let refused = client.call(9, &join_request(&long, 1)).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidGroupId, "{length}");
        let beat = ConsumerGroupHeartbeatRequest { group_id: long.clone(), ..beat_request() };
        let refused = client.call(1, &beat).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidRequest, "{length}");
        assert!(refused.error_message.unwrap().contains("too long"));
        let heartbeat = HeartbeatRequest { group_id: long.clone(), ..Default::default() };
        assert_eq!(client.call(4, &heartbeat).await.error_code, ErrorCode::UnknownMemberId);
        let request = DescribeGroupsRequest { groups: vec![long.clone()], ..Default::default() };
        assert_eq!(client.call(6, &request).await.groups[0].error_code, ErrorCode::GroupIdNotFound);
        let request = ConsumerGroupDescribeRequest { group_ids: vec![long.clone()], ..Default::default() };
        assert_eq!(client.call(1, &request).await.groups[0].error_code, ErrorCode::GroupIdNotFound);
        let beat = ConsumerGroupHeartbeatRequest { server_assignor: Some(long.clone()), ..beat_request() };
        assert_eq!(client.call(1, &beat).await.error_code, ErrorCode::UnsupportedAssignor);
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { topic_id: topic, partitions: vec![partition], ..Default::default() };
        let commit = OffsetCommitRequest {
            group_id: long.clone(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let refused = client.call(10, &commit).await;
        assert_eq!(refused.topics[0].partitions[0].error_code, ErrorCode::InvalidGroupId, "{length}");
        let group = OffsetFetchRequestGroup { group_id: long.clone(), ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        assert!(client.call(9, &request).await.groups[0].topics.is_empty());
        let request = DeleteGroupsRequest { groups_names: vec![long] };
        assert_eq!(client.call(2, &request).await.results[0].error_code, ErrorCode::GroupIdNotFound);
    }
}
