//! A member of a group of the consumer protocol (KIP-848).

use super::member::{Member, REBALANCE_TIMEOUT_MS};
use crate::client::ClientError;
use crate::types::TopicId;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    ConsumerGroupHeartbeatAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupTopicPartitions,
};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// The epochs with which a member joins and leaves.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// What a member of the consumer protocol knows of itself.
struct State {
    id: String,
    epoch: i32,
    /// What it has. Nothing is read, so that it takes over at once what it is told.
    owned: BTreeMap<TopicId, Vec<i32>>,
    /// Whether it has to say what it has now.
    says_owned: bool,
    interval: Duration,
}

/// Lives until it is told to stop.
pub(super) async fn live(mut member: Member) -> Result<(), ClientError> {
    let mut state = State {
        id: Uuid::new_v4().to_string(),
        epoch: JOIN,
        owned: BTreeMap::new(),
        says_owned: false,
        interval: Duration::ZERO,
    };
    loop {
        let request = state.request(&member);
        let answer = member.beat(&request).await?;
        match answer.error_code {
            ErrorCode::None => {
                state.interval = millis(answer.heartbeat_interval_ms);
                member.ledger.beats_every(state.interval);
                state.hear(&member, answer.member_epoch, answer.assignment);
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                member.rejoins();
                (state.epoch, state.owned, state.says_owned) = (JOIN, BTreeMap::new(), false);
                continue;
            }
            code => {
                member.wait_out(code, "heartbeat").await?;
                continue;
            }
        }
        if !state.says_owned && !member.rest(state.interval).await {
            return state.leave(&member).await;
        }
    }
}

impl State {
    fn request(&mut self, member: &Member) -> ConsumerGroupHeartbeatRequest {
        let joins = self.epoch == JOIN;
        let says_owned = std::mem::take(&mut self.says_owned);
        let owned = || {
            let owned = self.owned.iter();
            let topic = |(topic_id, partitions): (&TopicId, &Vec<i32>)| ConsumerGroupTopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.clone(),
            };
            owned.map(topic).collect()
        };
        ConsumerGroupHeartbeatRequest {
            group_id: member.group.as_str().to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { REBALANCE_TIMEOUT_MS } else { -1 },
            subscribed_topic_names: joins.then(|| vec![member.topic.as_str().to_owned()]),
            topic_partitions: (joins || says_owned).then(owned),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Takes over what is assigned, and says so at once if that is something else than before, as real clients do.
    fn hear(&mut self, member: &Member, epoch: i32, assigned: Option<ConsumerGroupHeartbeatAssignment>) {
        if epoch == self.epoch && assigned.is_none() {
            return;
        }
        self.epoch = epoch;
        if let Some(assigned) = assigned {
            let topics = assigned.topic_partitions.into_iter();
            let owned = topics.map(|topic| (topic.topic_id, topic.partitions)).collect();
            self.says_owned = owned != self.owned;
            self.owned = owned;
        }
        let partitions = self.owned.values().flatten().copied().collect();
        member.ledger.told(member.group_number, member.number, epoch, partitions);
    }

    async fn leave(&self, member: &Member) -> Result<(), ClientError> {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: member.group.as_str().to_owned(),
            member_id: self.id.clone(),
            member_epoch: LEAVE,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        // Whoever is gone already has left, too.
        member.lane.call(&request).await.map(|_| ())
    }
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
