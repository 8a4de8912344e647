//! A member of a classic group.

use super::member::{Member, REBALANCE_TIMEOUT_MS};
use crate::client::ClientError;
use crate::wire::ErrorCode;
use crate::wire::consumer_protocol::{self, CONSUMER};
use crate::wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupMember,
    LeaveGroupRequest, SyncGroupRequest, SyncGroupRequestAssignment,
};
use std::time::Duration;

/// What clients set by default.
const SESSION_TIMEOUT_MS: i32 = 45_000;
/// A JoinGroup or SyncGroup is answered when the others have come: within the rebalance timeout.
const ANSWER: Duration = Duration::from_millis(REBALANCE_TIMEOUT_MS.unsigned_abs() as u64 + 10_000);
const PROTOCOL: &str = "range";

/// What a member knows of itself.
struct State {
    /// Empty before the coordinator has given it one.
    id: String,
    generation: i32,
    interval: Duration,
}

/// Why a member is no longer in its generation.
enum Ended {
    /// It joins again.
    Rejoins,
    /// It leaves.
    Stops,
}

/// Lives until it is told to stop.
pub(super) async fn live(mut member: Member, interval: Duration) -> Result<(), ClientError> {
    member.ledger.beats_every(interval);
    let mut state = State { id: String::new(), generation: -1, interval };
    loop {
        let joined = state.join(&member).await?;
        state.generation = joined.generation_id;
        if !state.sync(&member, &joined).await? {
            continue;
        }
        match state.stay(&mut member).await? {
            Ended::Rejoins => member.rejoins(),
            Ended::Stops => return state.leave(&member).await,
        }
    }
}

impl State {
    async fn join(&mut self, member: &Member) -> Result<JoinGroupResponse, ClientError> {
        loop {
            let request = JoinGroupRequest {
                group_id: member.group.as_str().to_owned(),
                session_timeout_ms: SESSION_TIMEOUT_MS,
                rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
                member_id: self.id.clone(),
                protocol_type: CONSUMER.to_owned(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: PROTOCOL.to_owned(),
                    metadata: consumer_protocol::subscription(&[member.topic.as_str().to_owned()]),
                }],
                ..JoinGroupRequest::default()
            };
            let answer = member.lane.call_within(&request, ANSWER).await?;
            match answer.error_code {
                ErrorCode::None => {
                    self.id.clone_from(&answer.member_id);
                    return Ok(answer);
                }
                ErrorCode::MemberIdRequired => self.id = answer.member_id,
                ErrorCode::UnknownMemberId => self.id.clear(),
                code => member.wait_out(code, "join").await?,
            }
        }
    }

    /// Gets its assignment; false if it has to join again.
    async fn sync(&mut self, member: &Member, joined: &JoinGroupResponse) -> Result<bool, ClientError> {
        let request = SyncGroupRequest {
            group_id: member.group.as_str().to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol_name: Some(PROTOCOL.to_owned()),
            assignments: assignments(member, joined),
            ..SyncGroupRequest::default()
        };
        let answer = member.lane.call_within(&request, ANSWER).await?;
        match answer.error_code {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => return Ok(false),
            ErrorCode::UnknownMemberId => {
                self.id.clear();
                return Ok(false);
            }
            code => {
                member.wait_out(code, "sync").await?;
                return Ok(false);
            }
        }
        let assigned = consumer_protocol::assigned_partitions(answer.assignment).unwrap_or_default();
        let partitions = assigned.into_iter().flat_map(|(_, partitions)| partitions).collect();
        member.ledger.told(member.group_number, member.number, self.generation, partitions);
        Ok(true)
    }

    /// Beats for as long as the generation lasts.
    async fn stay(&mut self, member: &mut Member) -> Result<Ended, ClientError> {
        let request = HeartbeatRequest {
            group_id: member.group.as_str().to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        while member.rest(self.interval).await {
            match member.beat(&request).await?.error_code {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => return Ok(Ended::Rejoins),
                ErrorCode::UnknownMemberId => {
                    self.id.clear();
                    return Ok(Ended::Rejoins);
                }
                code => member.wait_out(code, "heartbeat").await?,
            }
        }
        Ok(Ended::Stops)
    }

    async fn leave(&self, member: &Member) -> Result<(), ClientError> {
        let leaving = LeaveGroupMember { member_id: self.id.clone(), ..LeaveGroupMember::default() };
        let request = LeaveGroupRequest {
            group_id: member.group.as_str().to_owned(),
            members: vec![leaving],
            ..LeaveGroupRequest::default()
        };
        // Whoever is gone already has left, too.
        member.lane.call(&request).await.map(|_| ())
    }
}

/// What the leader gives to everybody, partition by partition in turn; nothing from the others.
fn assignments(member: &Member, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
    let mut ids: Vec<&String> = joined.members.iter().map(|member| &member.member_id).collect();
    ids.sort();
    let share = |place: usize| {
        let partitions = (0..member.partitions).skip(place).step_by(ids.len().max(1)).collect();
        consumer_protocol::assignment(&[(member.topic.as_str().to_owned(), partitions)])
    };
    let of_member = |(place, id): (usize, &&String)| SyncGroupRequestAssignment {
        member_id: (*id).clone(),
        assignment: share(place),
    };
    ids.iter().enumerate().map(of_member).collect()
}
