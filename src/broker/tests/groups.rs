//! Members of a group, over frames: the classic protocol as clients speak it.

use super::harness::*;
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode};
use bytes::Bytes;
use std::time::Duration;

/// A member, over a connection of its own: requests that wait hold up only their own connection.
struct Member {
    client: Client,
    id: String,
    instance: Option<String>,
    generation: i32,
}

fn subscription() -> Bytes {
    Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")
}

impl Member {
    fn new(harness: &Harness, instance: Option<&str>) -> Member {
        let instance = instance.map(str::to_owned);
        Member { client: harness.user(), id: String::new(), instance, generation: -1 }
    }

    fn join_request(&self, protocols: &[&str]) -> JoinGroupRequest {
        let protocol =
            |name: &&str| JoinGroupRequestProtocol { name: (*name).to_owned(), metadata: subscription() };
        JoinGroupRequest {
            group_id: "g".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: protocols.iter().map(protocol).collect(),
            ..Default::default()
        }
    }

    /// Sends a JoinGroup with the member's id, which it gets first if it has none (KIP-394).
    async fn join(&mut self) -> Pending<JoinGroupRequest> {
        if self.id.is_empty() && self.instance.is_none() {
            let refused = self.client.call(9, &self.join_request(&["range"])).await;
            assert_eq!(refused.error_code, ErrorCode::MemberIdRequired);
            self.id = refused.member_id;
        }
        let request = self.join_request(&["range"]);
        self.client.send(9, &request).await.unwrap()
    }

    async fn joined(&mut self, pending: Pending<JoinGroupRequest>) -> JoinGroupResponse {
        let joined = pending.reply().await.unwrap();
        assert_eq!(joined.error_code, ErrorCode::None);
        self.id.clone_from(&joined.member_id);
        self.generation = joined.generation_id;
        joined
    }

    async fn sync(&mut self, assignments: &[(&str, &'static [u8])]) -> Pending<SyncGroupRequest> {
        let assignments = assignments.iter().map(|(member, assignment)| SyncGroupRequestAssignment {
            member_id: (*member).to_owned(),
            assignment: Bytes::from_static(assignment),
        });
        let request = SyncGroupRequest {
            group_id: "g".to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: assignments.collect(),
        };
        self.client.send(5, &request).await.unwrap()
    }

    async fn heartbeat(&mut self) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g".to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
        };
        self.client.call(4, &request).await.error_code
    }

    async fn leave(&mut self) -> ErrorCode {
        let member = LeaveGroupMember { member_id: self.id.clone(), ..Default::default() };
        let request =
            LeaveGroupRequest { group_id: "g".to_owned(), members: vec![member], ..Default::default() };
        self.client.call(5, &request).await.members.remove(0).error_code
    }

    async fn commit(&mut self, offset: i64) -> ErrorCode {
        let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: "g".to_owned(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        self.client.call(9, &request).await.topics[0].partitions[0].error_code
    }
}

async fn describe(client: &mut Client) -> DescribedGroup {
    let request = DescribeGroupsRequest { groups: vec!["g".to_owned()], ..Default::default() };
    client.call(6, &request).await.groups.remove(0)
}

/// Two members in a stable group; the first leads.
async fn two_members(harness: &Harness) -> [Member; 2] {
    let (mut leader, mut follower) = (Member::new(harness, None), Member::new(harness, None));
    let joining = leader.join().await;
    leader.joined(joining).await;
    let id = leader.id.clone();
    leader.sync(&[(&id, b"all")]).await.reply().await.unwrap();
    let following = follower.join().await;
    assert_eq!(leader.heartbeat().await, ErrorCode::RebalanceInProgress);
    let leading = leader.join().await;
    let joined = [leader.joined(leading).await, follower.joined(following).await];
    assert!(joined.iter().all(|joined| joined.leader == leader.id));
    let members = joined.map(|joined| joined.members.len());
    assert_eq!(members, [2, 0], "the leader alone is told who the members are");
    let waiting = follower.sync(&[]).await;
    let ids = (leader.id.clone(), follower.id.clone());
    let led = leader.sync(&[(&ids.0, b"to the leader"), (&ids.1, b"to the follower")]).await;
    assert_eq!(led.reply().await.unwrap().assignment, b"to the leader"[..]);
    assert_eq!(waiting.reply().await.unwrap().assignment, b"to the follower"[..]);
    [leader, follower]
}

#[tokio::test]
async fn members_join_are_assigned_and_rebalance_when_one_leaves() {
    let harness = Harness::start();
    let (mut admin, _) = harness.with_topic("t", 2).await;
    let [mut leader, mut follower] = two_members(&harness).await;
    assert_eq!((leader.heartbeat().await, follower.heartbeat().await), (ErrorCode::None, ErrorCode::None));
    assert_eq!(leader.commit(5).await, ErrorCode::None);
    let group = describe(&mut admin).await;
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("Stable", "range"));
    assert_eq!(group.members.len(), 2);
    assert_eq!(group.members[0].client_id, "test");

    assert_eq!(leader.leave().await, ErrorCode::None);
    assert_eq!(leader.heartbeat().await, ErrorCode::UnknownMemberId);
    assert_eq!(leader.commit(6).await, ErrorCode::UnknownMemberId, "who has left commits nothing");
    assert_eq!(follower.heartbeat().await, ErrorCode::RebalanceInProgress);
    let generation = follower.generation;
    let joining = follower.join().await;
    let joined = follower.joined(joining).await;
    assert_eq!((joined.generation_id, &joined.leader), (generation + 1, &follower.id));
    assert_eq!(follower.commit(7).await, ErrorCode::RebalanceInProgress, "before its assignment");
    let id = follower.id.clone();
    let synced = follower.sync(&[(&id, b"all")]).await.reply().await.unwrap();
    assert_eq!((synced.assignment, synced.protocol_name.as_deref()), (Bytes::from("all"), Some("range")));
    assert_eq!(follower.commit(7).await, ErrorCode::None);
    follower.generation -= 1;
    assert_eq!(follower.commit(8).await, ErrorCode::IllegalGeneration);
    assert_eq!(follower.heartbeat().await, ErrorCode::IllegalGeneration);
    assert_eq!(follower.leave().await, ErrorCode::None);
    assert_eq!(describe(&mut admin).await.group_state, "Empty");
}

#[tokio::test]
async fn a_silent_member_is_removed_and_the_others_go_on() {
    let harness = Harness::start();
    harness.with_topic("t", 2).await;
    let mut loud = Member::new(&harness, None);
    let joining = loud.join().await;
    loud.joined(joining).await;
    let id = loud.id.clone();
    loud.sync(&[(&id, b"all")]).await.reply().await.unwrap();
    let mut silent = Member::new(&harness, None);
    let request = JoinGroupRequest { session_timeout_ms: 5_000, ..silent.join_request(&["range"]) };
    silent.id = silent.client.call(9, &request).await.member_id;
    let request = JoinGroupRequest { member_id: silent.id.clone(), ..request };
    let waiting = silent.client.send(9, &request).await.unwrap();
    assert_eq!(loud.heartbeat().await, ErrorCode::RebalanceInProgress);
    let joining = loud.join().await;
    let joined = loud.joined(joining).await;
    assert_eq!(waiting.reply().await.unwrap().generation_id, joined.generation_id);
    // The silent one never asks for its assignment; until its session ends, there is none to ask for either.
    let assigned = loud.sync(&[]).await;
    assert_eq!(assigned.reply().await.unwrap().error_code, ErrorCode::None);
    let alone = async {
        while loud.heartbeat().await != ErrorCode::RebalanceInProgress {
            tokio::task::yield_now().await;
        }
        let joining = loud.join().await;
        loud.joined(joining).await
    };
    let joined = tokio::time::timeout(DEADLINE, alone).await.unwrap();
    assert_eq!(joined.members.len(), 1);
    assert_eq!(silent.heartbeat().await, ErrorCode::UnknownMemberId);
}

#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self() {
    let harness = Harness::start();
    harness.with_topic("t", 2).await;
    let mut first = Member::new(&harness, Some("i"));
    let joining = first.join().await;
    first.joined(joining).await;
    let id = first.id.clone();
    first.sync(&[(&id, b"mine")]).await.reply().await.unwrap();

    let mut second = Member::new(&harness, Some("i"));
    let joining = second.join().await;
    let joined = second.joined(joining).await;
    assert_eq!(joined.generation_id, first.generation, "no rebalance");
    assert!(joined.skip_assignment && joined.leader == second.id);
    assert_eq!(second.sync(&[]).await.reply().await.unwrap().assignment, b"mine"[..]);
    assert_eq!(first.heartbeat().await, ErrorCode::FencedInstanceId);
    assert_eq!(first.commit(3).await, ErrorCode::FencedInstanceId);
    assert_eq!(second.heartbeat().await, ErrorCode::None);
}

#[tokio::test]
async fn every_version_of_the_classic_protocol_works() {
    let harness = Harness::start();
    harness.with_topic("t", 1).await;
    for version in ApiKey::JoinGroup.versions().iter() {
        let mut client = harness.user();
        let group_id = format!("g{version}");
        let mut join = JoinGroupRequest {
            group_id: group_id.clone(),
            ..Member::new(&harness, None).join_request(&["range"])
        };
        if version >= 4 {
            let refused = client.call(version, &join).await;
            assert_eq!(refused.error_code, ErrorCode::MemberIdRequired);
            join.member_id = refused.member_id;
        }
        let joined = client.call(version, &join).await;
        assert_eq!(joined.error_code, ErrorCode::None, "version {version}");
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
        let newest = |api: ApiKey| version.min(api.versions().max);
        let sync = SyncGroupRequest {
            group_id: group_id.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: (version >= 5).then(|| "consumer".to_owned()),
            protocol_name: (version >= 5).then(|| "range".to_owned()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: Bytes::from_static(b"x"),
            }],
            ..Default::default()
        };
        assert_eq!(client.call(newest(ApiKey::SyncGroup), &sync).await.assignment, b"x"[..]);
        let heartbeat = HeartbeatRequest {
            group_id: group_id.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..Default::default()
        };
        assert_eq!(client.call(newest(ApiKey::Heartbeat), &heartbeat).await.error_code, ErrorCode::None);
        let member_id = joined.member_id;
        let members = vec![LeaveGroupMember { member_id: member_id.clone(), ..Default::default() }];
        let leave = match newest(ApiKey::LeaveGroup) {
            0..=2 => LeaveGroupRequest { group_id, member_id, ..Default::default() },
            _ => LeaveGroupRequest { group_id, members, ..Default::default() },
        };
        assert_eq!(client.call(newest(ApiKey::LeaveGroup), &leave).await.error_code, ErrorCode::None);
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_its_name() {
    let harness = Harness::start();
    harness.with_topic("t", 1).await;
    let mut member = Member::new(&harness, None);
    let join = member.join_request(&["range"]);
    let code =
        async |client: &mut Client, request: JoinGroupRequest| client.call(9, &request).await.error_code;
    let client = &mut member.client;
    let nameless = JoinGroupRequest { group_id: String::new(), ..join.clone() };
    assert_eq!(code(client, nameless).await, ErrorCode::InvalidGroupId);
    for session_timeout_ms in [-1, 0, i32::MAX] {
        let request = JoinGroupRequest { session_timeout_ms, ..join.clone() };
        assert_eq!(code(client, request).await, ErrorCode::InvalidSessionTimeout);
    }
    let stranger = JoinGroupRequest { member_id: "stranger".to_owned(), ..join.clone() };
    assert_eq!(code(client, stranger).await, ErrorCode::UnknownMemberId);
    let mute = JoinGroupRequest { protocols: vec![], ..join.clone() };
    assert_eq!(code(client, mute).await, ErrorCode::InconsistentGroupProtocol);
    two_members(&harness).await;
    let other = JoinGroupRequest { protocol_type: "connect".to_owned(), ..join.clone() };
    assert_eq!(code(client, other).await, ErrorCode::InconsistentGroupProtocol);
    let foreign = member.join_request(&["sticky"]);
    assert_eq!(code(&mut member.client, foreign).await, ErrorCode::InconsistentGroupProtocol);
}

#[tokio::test]
async fn groups_are_listed_and_deleted_when_nobody_needs_them() {
    let harness = Harness::start();
    let (mut admin, _) = harness.with_topic("t", 2).await;
    let [mut a, mut b] = two_members(&harness).await;
    a.commit(4).await;
    let mut nobody = Member::new(&harness, None);
    nobody.client = harness.user();
    let list = async |admin: &mut Client, states: &[&str]| {
        let states_filter = states.iter().map(|state| (*state).to_owned()).collect();
        let groups = admin.call(5, &ListGroupsRequest { states_filter, ..Default::default() }).await.groups;
        groups.into_iter().map(|group| (group.group_id, group.group_state)).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut admin, &[]).await, [("g".to_owned(), "Stable".to_owned())]);
    assert_eq!(list(&mut admin, &["empty"]).await, []);
    let delete = DeleteGroupsRequest { groups_names: vec!["g".to_owned(), "other".to_owned()] };
    let codes = async |admin: &mut Client| {
        let results = admin.call(2, &delete).await.results;
        results.into_iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&mut admin).await, [ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);

    let topics = vec![OffsetDeleteRequestTopic {
        name: "t".to_owned(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    }];
    let forget = OffsetDeleteRequest { group_id: "g".to_owned(), topics };
    let subscribed = admin.call(0, &forget).await.topics[0].partitions[0].error_code;
    assert_eq!(subscribed, ErrorCode::GroupSubscribedToTopic);
    a.leave().await;
    b.leave().await;
    let fetch = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup { group_id: "g".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(admin.call(8, &fetch).await.groups[0].topics.len(), 1);
    assert_eq!(admin.call(0, &forget).await.topics[0].partitions[0].error_code, ErrorCode::None);
    assert_eq!(admin.call(8, &fetch).await.groups[0].topics.len(), 0);
    assert_eq!(nobody.commit(1).await, ErrorCode::None, "an empty group takes anybody's offsets");
    assert_eq!(codes(&mut admin).await, [ErrorCode::None, ErrorCode::GroupIdNotFound]);
    assert_eq!(admin.call(8, &fetch).await.groups[0].topics.len(), 0);
    assert_eq!(list(&mut admin, &[]).await, []);
    assert_eq!(describe(&mut admin).await.error_code, ErrorCode::GroupIdNotFound);
}

#[tokio::test]
async fn a_request_that_waits_holds_up_nobody_else() {
    let harness = Harness::with(|config| config.group_initial_rebalance_delay = Duration::from_secs(600));
    harness.with_topic("t", 1).await;
    let mut member = Member::new(&harness, None);
    let waiting = member.join().await;
    let mut other = harness.user();
    let state = describe(&mut other).await;
    assert_eq!((state.group_state.as_str(), state.members.len()), ("PreparingRebalance", 1));
    assert_eq!(
        other.produce(9, ("t", Default::default(), 0), None, batch(None, &["x"])).await.error_code,
        ErrorCode::None
    );
    // It gives up: whoever waits under this member id is told that it is gone.
    let members = vec![LeaveGroupMember { member_id: member.id.clone(), ..Default::default() }];
    let leave = LeaveGroupRequest { group_id: "g".to_owned(), members, ..Default::default() };
    assert_eq!(other.call(5, &leave).await.members[0].error_code, ErrorCode::None);
    assert_eq!(waiting.reply().await.unwrap().error_code, ErrorCode::UnknownMemberId);
}
