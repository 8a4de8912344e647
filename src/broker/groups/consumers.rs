//! ConsumerGroupHeartbeat: members of groups of the consumer protocol join, go on and leave (KIP-848).

use super::{shortened, subscription};
use crate::broker::errors;
use crate::broker::failure::{Failure, expect};
use crate::broker::limits::RESOLUTIONS_MAX;
use crate::broker::patterns::TopicPattern;
use crate::broker::service::reply_to;
use crate::broker::session::Context;
use crate::core::{
    Assignor, Command, ConsumerHeartbeat, ConsumerTold, ReadMembers, ResolvedPatterns, UnreadMember,
};
use crate::shard::{Answer, off_thread};
use crate::types::{
    GroupEpoch, GroupId, InstanceId, MemberId, PartitionId, PartitionIndex, TopicId, outside,
};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

/// The first version whose members draw their ids themselves (KIP-1082).
const DRAWS_ITS_ID: i16 = 1;

/// Why a request is refused, and in which words.
type Invalid = (ErrorCode, String);

pub(in crate::broker) async fn accept(
    cx: Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<impl Future<Output = Result<ConsumerGroupHeartbeatResponse, Failure>> + Send + 'static, Failure> {
    let names = request.subscribed_topic_names.as_ref().map_or(0, Vec::len);
    let owned = request.topic_partitions.iter().flatten().map(|topic| 1 + topic.partitions.len());
    cx.check_listed(names + owned.sum::<usize>())?;
    let checked = check_pattern(&request).await;
    let asked = match checked.and_then(|()| heartbeat_of(&cx, request)) {
        Ok(beat) => {
            let answer = cx.ask(Command::ConsumerHeartbeat(Box::new(beat.clone()))).await?;
            Ok((beat, answer))
        }
        Err(invalid) => Err(invalid),
    };
    Ok(async move {
        let (beat, answer) = match asked {
            Ok(asked) => asked,
            Err(invalid) => return Ok(refused(invalid)),
        };
        let member = beat.member.clone();
        match told(&cx, beat, answer).await? {
            Ok((epoch, assigned)) => Ok(ConsumerGroupHeartbeatResponse {
                member_id: Some(member.as_str().to_owned()),
                member_epoch: epoch.0,
                heartbeat_interval_ms: millis(cx.node.config.consumer_heartbeat_interval),
                assignment: assigned.map(|partitions| ConsumerGroupHeartbeatAssignment {
                    topic_partitions: by_topic(&partitions)
                        .into_iter()
                        .map(|(topic_id, partitions)| ConsumerGroupTopicPartitions { topic_id, partitions })
                        .collect(),
                }),
                ..Default::default()
            }),
            Err(invalid) => Ok(refused(invalid)),
        }
    })
}

fn refused((error_code, message): Invalid) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse { error_code, error_message: Some(message), ..Default::default() }
}

type Told = Result<(GroupEpoch, Option<BTreeSet<PartitionId>>), Invalid>;

/// What the member is told, once what the decision asks for has been looked at: patterns, and what classic members say.
async fn told(cx: &Context, mut beat: ConsumerHeartbeat, mut answer: Answer) -> Result<Told, Failure> {
    for _ in 0..RESOLUTIONS_MAX {
        match expect::consumer(reply_to(answer).await?)? {
            Ok(ConsumerTold::Epoch { epoch, assigned }) => return Ok(Ok((epoch, assigned))),
            Ok(ConsumerTold::Resolve { version, patterns }) => {
                let mut topics = BTreeMap::new();
                for pattern in patterns {
                    let matched = cx.node.matching.topics(&cx.node.shard, &pattern, version).await?;
                    topics.insert(pattern, matched);
                }
                beat.resolved = Some(ResolvedPatterns { version, topics });
            }
            Ok(ConsumerTold::Read { generation, members }) => {
                let read = |unread: UnreadMember| (unread.member.clone(), subscription::read(unread));
                beat.read =
                    Some(ReadMembers { generation, members: members.into_iter().map(read).collect() });
            }
            Err(refusal) => {
                return Ok(Err((errors::code(refusal, cx.api, cx.version)?, refusal.to_string())));
            }
        }
        answer = cx.ask(Command::ConsumerHeartbeat(Box::new(beat.clone()))).await?;
    }
    // Others have come with new patterns each time, or the classic group has gone on.
    let code = ErrorCode::CoordinatorLoadInProgress;
    Ok(Err((code, code.meaning().to_owned())))
}

/// C8: that it is a pattern. A hostile one takes milliseconds to compile, which other connections shall not wait for.
async fn check_pattern(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Invalid> {
    let Some(pattern) = request.subscribed_topic_regex.clone().filter(|pattern| !pattern.is_empty()) else {
        return Ok(());
    };
    let checked = off_thread(move || TopicPattern::new(&pattern).map(drop)).await;
    checked.map_err(|error| (ErrorCode::InvalidRegularExpression, error.to_string()))
}

fn heartbeat_of(cx: &Context, request: ConsumerGroupHeartbeatRequest) -> Result<ConsumerHeartbeat, Invalid> {
    check(cx.version, &request)?;
    let ConsumerGroupHeartbeatRequest { group_id, member_id, member_epoch, instance_id, rack_id, .. } =
        request;
    let assignor = request.server_assignor.as_deref().map(assignor).transpose()?;
    let member = match member_id.is_empty() {
        true => outside::uuid().to_string(),
        false => member_id,
    };
    let timeout = u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis);
    let owned = request.topic_partitions.map(|topics| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let id = topic.topic_id;
            topic.partitions.into_iter().map(move |index| PartitionId::new(id, PartitionIndex(index)))
        });
        partitions.collect()
    });
    Ok(ConsumerHeartbeat {
        group: GroupId::new(&group_id),
        member: MemberId::new(&member),
        epoch: GroupEpoch(member_epoch),
        instance: instance_id.as_deref().map(InstanceId::new),
        rack: rack_id,
        rebalance_timeout: timeout.map(|timeout| timeout.min(cx.node.config.group_rebalance_timeout_max)),
        topics: request.subscribed_topic_names.map(BTreeSet::from_iter),
        pattern: request.subscribed_topic_regex,
        assignor,
        owned,
        client_id: cx.client_id.to_string(),
        client_host: format!("/{}", cx.caller.connection.peer.ip()),
        session_timeout: cx.node.config.consumer_session_timeout,
        decision_bytes_max: cx.node.config.decision_bytes_max,
        resolved: None,
        read: None,
    })
}

fn assignor(name: &str) -> Result<Assignor, Invalid> {
    let known = Assignor::ALL.into_iter().find(|known| known.name() == name);
    known.ok_or_else(|| {
        let names = Assignor::ALL.map(Assignor::name).join(", ");
        (
            ErrorCode::UnsupportedAssignor,
            format!("there is no assignor {:?} here, only {names}", shortened(name)),
        )
    })
}

/// What Kafka refuses before it looks at the group.
fn check(version: i16, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Invalid> {
    let joins = request.member_epoch == GroupEpoch::JOIN.0;
    let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    let has_partitions = request.topic_partitions.as_ref().is_none_or(|topics| !topics.is_empty());
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    let draws = version >= DRAWS_ITS_ID || !joins;
    let faults = [
        (request.group_id.is_empty(), "GroupId can't be empty."),
        (request.member_id.is_empty() && draws, "MemberId can't be empty."),
        (is_empty(&request.instance_id), "InstanceId can't be empty."),
        (is_empty(&request.rack_id), "RackId can't be empty."),
        (request.member_epoch < GroupEpoch::AWAY.0, "MemberEpoch is invalid."),
        (
            request.member_epoch == GroupEpoch::AWAY.0 && request.instance_id.is_none(),
            "InstanceId can't be null.",
        ),
        (joins && request.rebalance_timeout_ms < 0, "RebalanceTimeoutMs must be provided in first request."),
        (joins && has_partitions, "TopicPartitions must be empty when (re-)joining."),
        (
            joins && !subscribes,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
    ];
    match faults.into_iter().find(|(fault, _)| *fault) {
        Some((_, message)) => Err((ErrorCode::InvalidRequest, message.to_owned())),
        None => Ok(()),
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Partitions by topic, as the protocol has them.
pub(super) fn by_topic(partitions: &BTreeSet<PartitionId>) -> BTreeMap<TopicId, Vec<i32>> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic).or_default().push(partition.index.0);
    }
    topics
}
