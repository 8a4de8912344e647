//! Members of groups of the consumer protocol, over frames (KIP-848).

use super::harness::*;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::BTreeSet;
use std::time::Duration;

const GROUP: &str = "g";

/// A member that does what it is told at once.
struct Member {
    client: Client,
    id: String,
    instance: Option<String>,
    epoch: i32,
    owned: Vec<ConsumerGroupTopicPartitions>,
    names: Vec<String>,
    pattern: Option<String>,
    assignor: Option<String>,
}

impl Member {
    fn new(harness: &Harness, id: &str, topics: &[&str]) -> Member {
        Member {
            client: harness.user(),
            id: id.to_owned(),
            instance: None,
            epoch: 0,
            owned: Vec::new(),
            names: topics.iter().map(|name| (*name).to_owned()).collect(),
            pattern: None,
            assignor: None,
        }
    }

    fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            instance_id: self.instance.clone(),
            rack_id: Some("here".to_owned()),
            rebalance_timeout_ms: 30_000,
            subscribed_topic_names: Some(self.names.clone()),
            subscribed_topic_regex: self.pattern.clone(),
            server_assignor: self.assignor.clone(),
            topic_partitions: Some(self.owned.clone()),
        }
    }

    async fn send(&mut self, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        let request = self.request(epoch);
        self.client.call(1, &request).await
    }

    /// Is heard of, and does what it is told.
    async fn beat(&mut self) {
        let answer = self.send(self.epoch).await;
        assert_eq!(answer.error_code, ErrorCode::None, "{:?}", answer.error_message);
        assert_eq!(
            (answer.member_id.as_deref(), answer.heartbeat_interval_ms),
            (Some(self.id.as_str()), 5_000)
        );
        self.epoch = answer.member_epoch;
        self.owned = answer.assignment.map_or(self.owned.clone(), |assignment| assignment.topic_partitions);
    }

    async fn refused(&mut self, epoch: i32) -> ErrorCode {
        self.send(epoch).await.error_code
    }

    fn owned(&self) -> BTreeSet<(TopicId, i32)> {
        let topics = self.owned.iter();
        topics.flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect()
    }

    async fn commit(&mut self, topic: TopicId, epoch: i32, version: i16) -> ErrorCode {
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { name: "t".to_owned(), topic_id: topic, partitions: vec![partition] };
        let request = OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            generation_id_or_member_epoch: epoch,
            member_id: self.id.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        self.client.call(version, &request).await.topics[0].partitions[0].error_code
    }

    async fn fetch_offsets(&mut self, member: Option<&str>, epoch: i32) -> ErrorCode {
        let group = OffsetFetchRequestGroup {
            group_id: GROUP.to_owned(),
            member_id: member.map(str::to_owned),
            member_epoch: epoch,
            topics: None,
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        self.client.call(9, &request).await.groups[0].error_code
    }
}

/// Lets all members be heard of until nothing changes any more.
async fn settle(members: &mut [&mut Member]) {
    for _ in 0..10 {
        for member in members.iter_mut() {
            member.beat().await;
        }
    }
}

async fn describe(client: &mut Client) -> ConsumerGroupDescribed {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![GROUP.to_owned()], ..Default::default() };
    client.call(1, &request).await.groups.remove(0)
}

async fn list(client: &mut Client, kind: &str) -> Vec<ListedGroup> {
    let request = ListGroupsRequest { types_filter: vec![kind.to_owned()], ..Default::default() };
    client.call(5, &request).await.groups
}

#[tokio::test]
async fn members_share_a_topic_and_take_over() {
    let harness = Harness::start();
    let (mut admin, topic) = harness.with_topic("t", 4).await;
    let (mut one, mut two) = (Member::new(&harness, "one", &["t"]), Member::new(&harness, "two", &["t"]));
    one.beat().await;
    assert_eq!(one.owned().len(), 4);
    settle(&mut [&mut one, &mut two]).await;
    assert!(one.owned().len() == 2 && two.owned().len() == 2 && one.owned().is_disjoint(&two.owned()));
    let group = describe(&mut admin).await;
    assert_eq!((group.group_state.as_str(), group.assignor_name.as_str()), ("Stable", "uniform"));
    assert_eq!((group.group_epoch, group.assignment_epoch), (one.epoch, two.epoch));
    let member = &group.members[0];
    assert_eq!((member.rack_id.as_deref(), member.member_type), (Some("here"), 1));
    assert_eq!(member.subscribed_topic_names, ["t"]);
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(member.assignment.topic_partitions[0].topic_name, "t");

    assert_eq!(one.commit(topic, one.epoch, 9).await, ErrorCode::None);
    assert_eq!(one.commit(topic, one.epoch - 1, 10).await, ErrorCode::StaleMemberEpoch);
    assert_eq!(one.commit(topic, one.epoch - 1, 8).await, ErrorCode::IllegalGeneration);
    assert_eq!(one.fetch_offsets(Some("one"), one.epoch).await, ErrorCode::None);
    assert_eq!(one.fetch_offsets(Some("one"), one.epoch - 1).await, ErrorCode::StaleMemberEpoch);
    assert_eq!(one.fetch_offsets(Some("nobody"), one.epoch).await, ErrorCode::UnknownMemberId);
    assert_eq!(one.fetch_offsets(None, -1).await, ErrorCode::None);

    assert_eq!(two.refused(two.epoch + 1).await, ErrorCode::FencedMemberEpoch);
    assert_eq!(two.send(-1).await.member_epoch, -1);
    assert_eq!(two.refused(two.epoch).await, ErrorCode::UnknownMemberId);
    assert_eq!(two.commit(topic, two.epoch, 9).await, ErrorCode::UnknownMemberId);
    settle(&mut [&mut one]).await;
    assert_eq!(one.owned().len(), 4);
}

#[tokio::test]
async fn topics_that_a_pattern_matches_are_read_when_they_come() {
    let harness = Harness::start();
    let (mut admin, first) = harness.with_topic("orders-1", 1).await;
    admin.create_topic("payments", 1).await;
    let mut member = Member::new(&harness, "one", &[]);
    member.pattern = Some("orders-[0-9]+".to_owned());
    member.beat().await;
    assert_eq!(member.owned(), BTreeSet::from([(first, 0)]));
    let second = admin.create_topic("orders-2", 2).await;
    settle(&mut [&mut member]).await;
    assert_eq!(member.owned(), BTreeSet::from([(first, 0), (second, 0), (second, 1)]));
    let described = describe(&mut admin).await;
    assert_eq!(described.members[0].subscribed_topic_regex.as_deref(), Some("orders-[0-9]+"));
    for hostile in ["a(", r"(?:\w{1000}){1000}"] {
        member.pattern = Some(hostile.to_owned());
        assert_eq!(member.refused(member.epoch).await, ErrorCode::InvalidRegularExpression);
    }
    // From a pattern to names.
    (member.pattern, member.names) = (Some(String::new()), vec!["payments".to_owned()]);
    settle(&mut [&mut member]).await;
    assert_eq!(member.owned().len(), 1);
    assert_eq!(describe(&mut admin).await.members[0].subscribed_topic_regex, None);
}

#[tokio::test]
async fn a_static_member_goes_and_comes_back() {
    let harness = Harness::start();
    harness.with_topic("t", 2).await;
    let mut one = Member::new(&harness, "one", &["t"]);
    one.instance = Some("alice".to_owned());
    one.assignor = Some("range".to_owned());
    one.beat().await;
    let epoch = one.epoch;
    let mut heir = Member::new(&harness, "heir", &["t"]);
    (heir.instance, heir.assignor) = (one.instance.clone(), one.assignor.clone());
    assert_eq!(heir.refused(0).await, ErrorCode::UnreleasedInstanceId);
    assert_eq!(one.send(-2).await.member_epoch, -2);
    heir.beat().await;
    assert_eq!((heir.epoch, heir.owned()), (epoch, one.owned()));
    assert_eq!(one.refused(epoch).await, ErrorCode::FencedInstanceId);
}

#[tokio::test]
async fn what_is_not_said_rightly_is_refused() {
    let harness = Harness::start();
    let mut member = Member::new(&harness, "one", &["t"]);
    member.assignor = Some("sticky".to_owned());
    assert_eq!(member.refused(0).await, ErrorCode::UnsupportedAssignor);
    member.assignor = None;
    assert_eq!(member.refused(7).await, ErrorCode::UnknownMemberId);
    assert_eq!(member.refused(-3).await, ErrorCode::InvalidRequest);
    assert_eq!(member.refused(-2).await, ErrorCode::InvalidRequest, "no static member");
    let whole = member.request(0);
    let faults = [
        ConsumerGroupHeartbeatRequest { group_id: String::new(), ..whole.clone() },
        ConsumerGroupHeartbeatRequest { member_id: String::new(), ..whole.clone() },
        ConsumerGroupHeartbeatRequest { instance_id: Some(String::new()), ..whole.clone() },
        ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..whole.clone() },
        ConsumerGroupHeartbeatRequest { topic_partitions: None, ..whole.clone() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..whole.clone() },
    ];
    for fault in faults {
        assert_eq!(member.client.call(1, &fault).await.error_code, ErrorCode::InvalidRequest, "{fault:?}");
    }
    let unnamed = ConsumerGroupHeartbeatRequest { member_id: String::new(), ..whole.clone() };
    let drawn = member.client.call(0, &unnamed).await;
    assert!(drawn.error_code == ErrorCode::None && drawn.member_id.is_some_and(|id| !id.is_empty()));
    let heavy = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some((0..10_000).map(|number| format!("topic-{number}")).collect()),
        ..whole
    };
    assert_eq!(member.client.call(1, &heavy).await.error_code, ErrorCode::GroupMaxSizeReached);
}

#[tokio::test]
async fn operators_see_groups_of_this_protocol_and_delete_empty_ones() {
    let harness = Harness::start();
    let (mut admin, topic) = harness.with_topic("t", 1).await;
    let mut member = Member::new(&harness, "one", &["t"]);
    member.beat().await;
    assert_eq!(member.commit(topic, member.epoch, 10).await, ErrorCode::None);
    assert!(list(&mut admin, "classic").await.is_empty());
    let listed = list(&mut admin, "Consumer").await;
    assert_eq!((listed[0].group_type.as_str(), listed[0].group_state.as_str()), ("consumer", "Stable"));
    let classic = DescribeGroupsRequest { groups: vec![GROUP.to_owned()], ..Default::default() };
    assert_eq!(admin.call(6, &classic).await.groups[0].error_code, ErrorCode::GroupIdNotFound);
    assert_eq!(admin.call(5, &classic).await.groups[0].group_state, "Dead");

    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: "t".to_owned(), partitions }];
    let forget = OffsetDeleteRequest { group_id: GROUP.to_owned(), topics };
    let forgotten = admin.call(0, &forget).await;
    assert_eq!(forgotten.topics[0].partitions[0].error_code, ErrorCode::GroupSubscribedToTopic);

    let delete = DeleteGroupsRequest { groups_names: vec![GROUP.to_owned()] };
    assert_eq!(admin.call(2, &delete).await.results[0].error_code, ErrorCode::NonEmptyGroup);
    member.send(-1).await;
    assert_eq!(describe(&mut admin).await.group_state, "Empty");
    assert_eq!(admin.call(2, &delete).await.results[0].error_code, ErrorCode::None);
    assert_eq!(describe(&mut admin).await.error_code, ErrorCode::GroupIdNotFound);
}

#[tokio::test]
async fn a_silent_member_is_gone_after_its_session() {
    let harness = Harness::with(|config| config.consumer_session_timeout = Duration::from_secs(3));
    harness.with_topic("t", 2).await;
    let (mut silent, mut other) =
        (Member::new(&harness, "silent", &["t"]), Member::new(&harness, "other", &["t"]));
    silent.beat().await;
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while other.owned().len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", other.owned());
        other.beat().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(silent.refused(silent.epoch).await, ErrorCode::UnknownMemberId);
}
