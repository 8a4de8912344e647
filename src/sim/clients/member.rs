//! A member of a group of the classic protocol: it joins, hears of its generation, is heard of, commits, and leaves or is
//! gone. Whoever leads gives everything to everybody: what matters here is that everybody is answered.

use super::commit_of;
use crate::sim::faults::Busy;
use crate::sim::peer::Peer;
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use bytes::Bytes;

/// Their group, which has no part in transactions.
const GROUP: &str = "members";
/// How long a rebalance waits for a member, and how long one may be silent: less than anybody's patience.
const REBALANCE_MS: i32 = 20_000;
const SESSION_MS: i32 = 10_000;

/// A place in a generation.
struct Place {
    member_id: String,
    generation: i32,
}

pub(super) async fn run(mut peer: Peer) {
    let mut member_id = String::new();
    while peer.world.goes_on() {
        let Some(place) = join(&mut peer, &mut member_id).await else {
            peer.pause(1_000).await;
            continue;
        };
        for _ in 0..peer.chance.between(1, 20) {
            if !peer.world.goes_on() || !beat(&mut peer, &place).await {
                break;
            }
            if peer.chance.once_in(3) {
                commit(&mut peer, &place).await;
            }
            peer.pause(4_000).await;
        }
        match peer.chance.below(6) {
            0 => {
                leave(&mut peer, &place).await;
                member_id.clear();
            }
            // It is gone without a word, and comes back as somebody else.
            1 => {
                peer.leave();
                member_id.clear();
            }
            _ => {}
        }
    }
    // Nobody is to wait for it.
    let place = Place { member_id, generation: -1 };
    leave(&mut peer, &place).await;
}

/// Joins, and learns what its part is.
async fn join(peer: &mut Peer, member_id: &mut String) -> Option<Place> {
    let _busy = peer.world.faults.during(Busy::Joining);
    let protocol = JoinGroupRequestProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"m") };
    let request = JoinGroupRequest {
        group_id: GROUP.to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id: member_id.clone(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..Default::default()
    };
    let joined = peer.call(7, &request).await.ok()?;
    match joined.error_code {
        ErrorCode::None | ErrorCode::MemberIdRequired => *member_id = joined.member_id.clone(),
        _ => member_id.clear(),
    }
    if joined.error_code != ErrorCode::None {
        return None;
    }
    let assignments = joined.members.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: Bytes::copy_from_slice(member.member_id.as_bytes()),
    });
    let request = SyncGroupRequest {
        group_id: GROUP.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: assignments.collect(),
        ..Default::default()
    };
    let synced = peer.call(5, &request).await.ok()?;
    if synced.error_code != ErrorCode::None {
        return None;
    }
    if synced.assignment != joined.member_id.as_bytes() {
        peer.world.recorder.broken("OneOwner", "a member is told the part of another one");
    }
    Some(Place { member_id: joined.member_id, generation: joined.generation_id })
}

async fn beat(peer: &mut Peer, place: &Place) -> bool {
    let request = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id: place.generation,
        member_id: place.member_id.clone(),
        ..Default::default()
    };
    peer.call(4, &request).await.is_ok_and(|response| response.error_code == ErrorCode::None)
}

async fn commit(peer: &mut Peer, place: &Place) {
    let request = OffsetCommitRequest {
        generation_id_or_member_epoch: place.generation,
        member_id: place.member_id.clone(),
        ..commit_of(GROUP, 0, i64::try_from(peer.world.recorder.number()).unwrap())
    };
    let _ = peer.call(8, &request).await;
}

async fn leave(peer: &mut Peer, place: &Place) {
    let member = LeaveGroupMember { member_id: place.member_id.clone(), ..Default::default() };
    let request =
        LeaveGroupRequest { group_id: GROUP.to_owned(), members: vec![member], ..Default::default() };
    let _ = peer.call(4, &request).await;
}
