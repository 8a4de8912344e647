//! Of groups of both protocols.

use super::*;
use bytes::Bytes;

pub(super) const PLANTS: &[Plant] = &[
    ("a group's generation never goes back", |step, broken| {
        let of = |generation| classic(generation, GroupState::Stable);
        step.changes(&group(), of(5), of(pick(broken, 4, 6)));
    }),
    ("a generation is formed once", |step, broken| {
        step.found(&group(), classic(5, GroupState::Stable));
        step.states(Event::GenerationFormed {
            group: group(),
            generation: Generation(pick(broken, 5, 6)),
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            leader: member("a"),
            members: vec![(member("a"), joiner())],
        });
    }),
    ("a member commits in its own generation or epoch alone (G1, G9)", |step, broken| {
        commits(step);
        step.found(&group(), classic(pick(broken, 6, 5), GroupState::Stable));
        step.found(&group(), members());
    }),
    ("a member commits in its own generation or epoch alone (G1, G9)", |step, broken| {
        commits(step);
        step.found(&group(), consumer_group(6, 6));
        step.found(&consumer_key("a"), consumer(pick(broken, 6, 5), &[], &[]));
    }),
    ("a request that waits no more is answered", |step, broken| {
        step.removes(&group(), rebalance());
        if !broken {
            let reply = Reply::Joined(Err(Refusal::UnknownMember));
            step.decided.drafted.answered.push((RequestId(9), reply));
        }
    }),
    ("a request that waits no more is answered", |step, broken| {
        let claim =
            GroupMember { group: group(), generation: Generation(5), member: member("a"), instance: None };
        let (request, assignments) = (RequestId(9), Vec::new());
        let (protocol_type, protocol) = (None, None);
        step.command =
            Command::SyncGroup(SyncGroup { request, member: claim, protocol_type, protocol, assignments });
        step.decided.reply = None;
        if !broken {
            step.leaves(&group(), rebalance());
        }
    }),
    ("a group without members is Empty, and no other", |step, broken| {
        let state = pick(broken, GroupState::Empty, GroupState::Stable);
        step.changes(&group(), classic(5, GroupState::Stable), classic(6, state));
        step.found(&group(), members());
    }),
    ("sessions, and what waits in rebalances, are counted (J1)", |step, broken| {
        let bytes = consumer_key("a").weight() as u64;
        let of = |sessions| SessionsRow { sessions, bytes: bytes * sessions, rebalances_bytes: 0 };
        step.changes(&(), of(1), of(pick(broken, 1, 2)));
        step.leaves(&Timer::Member(consumer_key("a")), DeadlineRow { deadline: ServedTime(5_000) });
    }),
    ("sessions, and what waits in rebalances, are counted (J1)", |step, broken| {
        let weight = rebalance().weight() as u64;
        let of = |rebalances_bytes| SessionsRow { sessions: 1, bytes: 20, rebalances_bytes };
        step.changes(&(), of(3), of(pick(broken, 3, 3 + weight)));
        step.leaves(&group(), rebalance());
    }),
    ("a group's epochs never go back", |step, broken| {
        step.changes(&group(), consumer_group(5, 5), consumer_group(pick(broken, 4, 6), 5));
    }),
    ("the target never overtakes the group, nor a member the target", |step, broken| {
        step.leaves(&group(), consumer_group(5, pick(broken, 6, 5)));
    }),
    ("the target never overtakes the group, nor a member the target", |step, broken| {
        step.found(&group(), consumer_group(5, 4));
        step.leaves(&consumer_key("a"), consumer(pick(broken, 5, 4), &[], &[]));
    }),
    ("a member's epoch never goes back", |step, broken| {
        step.changes(&consumer_key("a"), consumer(5, &[], &[]), consumer(pick(broken, 4, 6), &[], &[]));
    }),
    ("who is to revoke something has not reached the group's epoch (K1)", |step, broken| {
        step.found(&group(), consumer_group(5, 5));
        let mut revokes = consumer(pick(broken, 5, 4), &[], &[]);
        revokes.held.revoking = [partition(0)].into();
        step.leaves(&consumer_key("a"), revokes);
    }),
    ("a group that changes its protocol goes on from where it was", |step, broken| {
        step.removes(&group(), classic(5, GroupState::Stable));
        step.leaves(&group(), consumer_group(pick(broken, 4, 5), 4));
    }),
    ("a group that changes its protocol goes on from where it was", |step, broken| {
        step.removes(&group(), consumer_group(5, 5));
        step.leaves(&group(), classic(pick(broken, 4, 5), GroupState::PreparingRebalance));
    }),
    ("a group is of one protocol", |step, broken| {
        if broken {
            step.found(&group(), classic(5, GroupState::Stable));
        }
        step.leaves(&group(), consumer_group(5, 5));
    }),
    ("no partition is held by two members (K2)", |step, broken| {
        step.found(&group(), consumers());
        step.found(&consumer_key("b"), consumer(5, &[], pick(broken, &[0], &[1])));
        step.changes(&consumer_key("a"), consumer(5, &[], &[]), consumer(5, &[], &[0]));
    }),
    ("no partition is in the targets of two members", |step, broken| {
        step.found(&group(), consumers());
        step.found(&consumer_key("b"), consumer(5, pick(broken, &[0], &[1]), &[]));
        step.changes(&consumer_key("a"), consumer(5, &[], &[]), consumer(5, &[0], &[]));
    }),
    ("what a member is to revoke is its own until it says that it has (K1)", |step, broken| {
        let owned = pick(broken, &[0][..], &[]).iter().map(|index| partition(*index)).collect();
        step.command = Command::ConsumerHeartbeat(Box::new(heartbeat(owned)));
        step.changes(&consumer_key("a"), consumer(5, &[], &[0]), consumer(6, &[], &[]));
    }),
    ("a group that changes its protocol takes nothing from its members (U3)", |step, broken| {
        let row = consumer(5, &[0], pick(broken, &[], &[0]));
        let members = vec![(member("a"), row)];
        step.states(Event::GroupUpgraded { group: group(), epoch: GroupEpoch(5), members });
    }),
    ("a group's rows name the same members", |step, broken| {
        let row = ConsumerGroupRow { members: pick(broken, 1, 2), ..consumer_group(5, 5) };
        step.found(&group(), consumers());
        step.leaves(&group(), row);
    }),
    ("a group's rows name the same members", |step, broken| {
        step.found(&group(), consumers());
        step.leaves(&consumer_key(pick(broken, "c", "a")), consumer(5, &[], &[]));
    }),
];

fn member(id: &str) -> MemberId {
    MemberId::new(id)
}

fn consumer_key(id: &str) -> MemberKey {
    MemberKey { group: group(), member: member(id) }
}

fn joiner() -> Member {
    Member {
        instance: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
        protocols: vec![MemberProtocol { name: "range".to_owned(), metadata: Bytes::new() }],
        assignment: Bytes::new(),
    }
}

/// Of a classic group: a alone.
fn members() -> MembersRow {
    let members = [(member("a"), joiner())].into();
    MembersRow { protocol: "range".to_owned(), leader: member("a"), members }
}

/// In a classic group: a waits for the next generation.
fn rebalance() -> RebalanceRow {
    let joined = [(member("a"), Joiner { member: joiner(), request: RequestId(9) })].into();
    let (until, protocol_type) = (ServedTime(5_000), "consumer".to_owned());
    RebalanceRow {
        joining: Some(Joining { joined, until, delay: None, protocol_type }),
        ..Default::default()
    }
}

fn consumer_group(epoch: i32, target_epoch: i32) -> ConsumerGroupRow {
    let (epoch, target_epoch) = (GroupEpoch(epoch), GroupEpoch(target_epoch));
    ConsumerGroupRow { epoch, target_epoch, ..ConsumerGroupRow::fresh(ServedTime(1)) }
}

/// Of a group of the consumer protocol: a and b.
fn consumers() -> ConsumersRow {
    ConsumersRow { members: [member("a"), member("b")].into(), ..ConsumersRow::default() }
}

/// A member with this target and assignment.
fn consumer(epoch: i32, target: &[i32], assigned: &[i32]) -> ConsumerRow {
    let of = |indexes: &[i32]| indexes.iter().map(|index| partition(*index)).collect();
    let said = Subscription {
        instance: None,
        rack: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
        topics: ["t".to_owned()].into(),
        pattern: None,
        assignor: None,
        speaks: Speaks::Consumer,
    };
    let (epoch, assigned) = (GroupEpoch(epoch), of(assigned));
    let held = Holding { epoch, previous: epoch, assigned, ..Holding::default() };
    ConsumerRow { said: Box::new(said), target: of(target), held }
}

/// a goes on in epoch 5, and owns this.
fn heartbeat(owned: BTreeSet<PartitionId>) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: group(),
        member: member("a"),
        epoch: GroupEpoch(5),
        instance: None,
        rack: None,
        rebalance_timeout: None,
        topics: None,
        pattern: None,
        assignor: None,
        owned: Some(owned),
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        session_timeout: Duration::from_secs(10),
        decision_bytes_max: 1 << 20,
        resolved: None,
        read: None,
    }
}

/// a commits an offset in generation or epoch 5.
fn commits(step: &mut Planted) {
    let claim =
        GroupMember { group: group(), generation: Generation(5), member: member("a"), instance: None };
    step.command = Command::CommitOffsets { member: claim, offsets: Vec::new() };
    step.states(Event::OffsetsCommitted { offsets: vec![(offset_key(0), committed(7))] });
}
