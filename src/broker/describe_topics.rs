//! DescribeTopicPartitions: topics in the order of their names, page by page (KIP-966).

use super::authorise::topic_operations;
use super::failure::Failure;
use super::leader_epoch;
use super::limits::DESCRIBED_PARTITIONS_MAX;
use super::names::{self, Topic};
use super::service::NODE;
use super::session::Context;
use crate::store::ReadView;
use crate::types::{LeaderEpoch, TopicName};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::BTreeSet;

pub(super) async fn answer(
    cx: Context,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, Failure> {
    cx.check_listed(request.topics.len())?;
    if request.cursor.as_ref().is_some_and(|cursor| cursor.partition_index < 0) {
        return Err(Failure::protocol("the cursor of DescribeTopicPartitions has a negative partition"));
    }
    let operations = topic_operations(cx.caller.connection.authority);
    cx.node.scan(move |view| describe(&view, request, operations)).await
}

/// What the client asked for, from the cursor on: a name, and the topic if there is one.
type Asked = Vec<(String, Option<Topic>)>;

fn asked_topics(view: &ReadView, request: &DescribeTopicPartitionsRequest) -> Result<Asked, Failure> {
    let from = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
    if request.topics.is_empty() {
        let all = names::all(view)?.into_iter();
        let named = all.map(|topic| (topic.row.name.as_str().to_owned(), Some(topic)));
        return Ok(named.filter(|(name, _)| name.as_str() >= from).collect());
    }
    let sorted: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    let wanted = sorted.into_iter().filter(|name| *name >= from);
    wanted.map(|name| Ok((name.to_owned(), names::by_name(view, name)?))).collect()
}

fn describe(
    view: &ReadView,
    request: DescribeTopicPartitionsRequest,
    operations: i32,
) -> Result<DescribeTopicPartitionsResponse, Failure> {
    let asked = asked_topics(view, &request)?;
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, DESCRIBED_PARTITIONS_MAX);
    let cursor = request.cursor.map(|cursor| (cursor.topic_name, cursor.partition_index));
    let leader_epoch = leader_epoch::current(view)?;
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for (name, topic) in asked {
        let first = cursor.as_ref().filter(|(at, _)| *at == name).map_or(0, |(_, partition)| *partition);
        let Some(topic) = topic else {
            topics.push(missing(name));
            continue;
        };
        if left == 0 {
            next_cursor =
                Some(DescribeTopicPartitionsNextCursor { topic_name: name, partition_index: first });
            break;
        }
        let mut indexes = topic.indexes().filter(|index| *index >= first);
        let partitions: Vec<_> =
            indexes.by_ref().take(left).map(|index| partition(index, leader_epoch)).collect();
        left -= partitions.len();
        let rest = indexes.next();
        topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: topic.id,
            partitions,
            topic_authorized_operations: operations,
            ..Default::default()
        });
        if let Some(partition_index) = rest {
            next_cursor = Some(DescribeTopicPartitionsNextCursor { topic_name: name, partition_index });
            break;
        }
    }
    Ok(DescribeTopicPartitionsResponse { topics, next_cursor, ..Default::default() })
}

fn missing(name: String) -> DescribeTopicPartitionsResponseTopic {
    let error_code = match TopicName::new(&name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic { error_code, name: Some(name), ..Default::default() }
}

fn partition(index: i32, leader_epoch: LeaderEpoch) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        partition_index: index,
        leader_id: NODE.0,
        leader_epoch: leader_epoch.0,
        replica_nodes: vec![NODE.0],
        isr_nodes: vec![NODE.0],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..Default::default()
    }
}
