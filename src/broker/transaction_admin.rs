//! ListTransactions, DescribeTransactions, DescribeProducers (KIP-664, KIP-994, KIP-1152): who holds back what.

use super::failure::Failure;
use super::limits::DESCRIBED_MAX;
use super::names;
use super::patterns::{self, BadPattern};
use super::session::Context;
use crate::core::{Outcome, ProducerRow, TransactionRow, TransactionState};
use crate::store::ReadView;
use crate::types::{Offset, PartitionId, ProducerId, Timestamp, TopicId, TransactionalId, outside};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use regex::Regex;
use std::collections::BTreeMap;

/// Kafka's names of the states a transactional id can be in, and one of semel's own: its outcome is decided outside.
const STATE_NAMES: [&str; 9] = [
    "Empty",
    "Ongoing",
    "Prepared",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "PrepareEpochFence",
    "Dead",
];

fn state_name(state: &TransactionState) -> &'static str {
    match state {
        TransactionState::Empty => "Empty",
        TransactionState::Ongoing(_) => "Ongoing",
        TransactionState::Prepared(_) => "Prepared",
        TransactionState::Complete(ended) => match ended.outcome {
            Outcome::Commit => "CompleteCommit",
            Outcome::Abort => "CompleteAbort",
        },
    }
}

/// When the open transaction began; none if there is none.
fn began(row: &TransactionRow) -> Option<Timestamp> {
    row.state.open().map(|open| open.began)
}

pub(super) async fn answer_list(
    cx: Context,
    request: ListTransactionsRequest,
) -> Result<ListTransactionsResponse, Failure> {
    cx.check_listed(request.state_filters.len().max(request.producer_id_filters.len()))?;
    let ListTransactionsRequest {
        state_filters,
        producer_id_filters,
        duration_filter,
        transactional_id_pattern,
    } = request;
    let Ok(pattern) = transactional_id_pattern.as_deref().map(compile).transpose() else {
        let error_code = ErrorCode::InvalidRegularExpression;
        return Ok(ListTransactionsResponse { error_code, ..Default::default() });
    };
    let known = |name: &String| STATE_NAMES.contains(&name.as_str());
    let (states, unknown): (Vec<_>, Vec<_>) = state_filters.into_iter().partition(known);
    if states.is_empty() && !unknown.is_empty() {
        return Ok(ListTransactionsResponse { unknown_state_filters: unknown, ..Default::default() });
    }
    let filter = Filter {
        states,
        producers: producer_id_filters,
        began_before: began_before(duration_filter),
        pattern: pattern.flatten(),
    };
    let transaction_states = cx.node.scan(move |view| list(&view, &filter)).await?;
    Ok(ListTransactionsResponse { unknown_state_filters: unknown, transaction_states, ..Default::default() })
}

/// Which transactions are wanted.
struct Filter {
    /// In one of these states; any if empty.
    states: Vec<String>,
    /// Of one of these producers; any if empty.
    producers: Vec<i64>,
    /// Open since before then.
    began_before: Option<Timestamp>,
    /// With a transactional id that is all of this; any if none.
    pattern: Option<Regex>,
}

/// A pattern that a whole transactional id must match; an empty one matches all (KIP-1152).
fn compile(pattern: &str) -> Result<Option<Regex>, BadPattern> {
    (!pattern.is_empty()).then(|| patterns::whole(pattern)).transpose()
}

/// The latest beginning of a transaction that has been open for longer than `duration` milliseconds; none if that was
/// not asked for (−1). For people: nothing is decided by it.
fn began_before(duration: i64) -> Option<Timestamp> {
    (duration >= 0).then(|| Timestamp(outside::wall_clock().0.saturating_sub(duration)))
}

impl Filter {
    fn takes(&self, id: &TransactionalId, row: &TransactionRow) -> bool {
        let state = state_name(&row.state);
        (self.states.is_empty() || self.states.iter().any(|wanted| wanted == state))
            && (self.producers.is_empty() || self.producers.contains(&row.holder.id.0))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id.as_str()))
            && self.began_before.is_none_or(|before| began(row).is_some_and(|began| began < before))
    }
}

fn list(view: &ReadView, filter: &Filter) -> Result<Vec<ListedTransaction>, Failure> {
    let mut listed = Vec::new();
    for transaction in view.transactions() {
        let (id, row) = transaction?;
        if !filter.takes(&id, &row) {
            continue;
        }
        if listed.len() >= DESCRIBED_MAX {
            tracing::warn!(
                limit = DESCRIBED_MAX,
                "an answer to ListTransactions leaves out what is beyond the limit"
            );
            break;
        }
        listed.push(ListedTransaction {
            transactional_id: id.as_str().to_owned(),
            producer_id: row.holder.id.0,
            transaction_state: state_name(&row.state).to_owned(),
        });
    }
    Ok(listed)
}

pub(super) async fn answer_describe(
    cx: Context,
    request: DescribeTransactionsRequest,
) -> Result<DescribeTransactionsResponse, Failure> {
    let ids = request.transactional_ids;
    cx.check_listed(ids.len())?;
    let describe = |view: &ReadView| ids.into_iter().map(|id| describe(view, id)).collect();
    let transaction_states = cx.node.scan(move |view| describe(&view)).await?;
    Ok(DescribeTransactionsResponse { transaction_states, ..Default::default() })
}

fn describe(view: &ReadView, transactional_id: String) -> Result<DescribedTransaction, Failure> {
    let id = TransactionalId::new(&transactional_id);
    let row = id.as_ref().map(|id| view.get::<TransactionRow>(id)).transpose()?.flatten();
    let (Some(id), Some(row)) = (id, row) else {
        let error_code = match transactional_id.is_empty() {
            true => ErrorCode::InvalidRequest,
            false => ErrorCode::TransactionalIdNotFound,
        };
        return Ok(DescribedTransaction { error_code, transactional_id, ..Default::default() });
    };
    let partitions = match row.state.open() {
        Some(open) => by_topic(view, view.enrolled(&id, open.clone())?.into_iter())?,
        None => Vec::new(),
    };
    Ok(DescribedTransaction {
        transactional_id,
        transaction_state: state_name(&row.state).to_owned(),
        transaction_timeout_ms: i32::try_from(row.timeout.as_millis()).unwrap_or(i32::MAX),
        transaction_start_time_ms: began(&row).unwrap_or(Timestamp::NONE).0,
        producer_id: row.holder.id.0,
        producer_epoch: row.holder.epoch.0,
        topics: partitions,
        error_code: ErrorCode::None,
    })
}

/// Partitions under the names of their topics; those of deleted topics are left out.
fn by_topic(
    view: &ReadView,
    partitions: impl Iterator<Item = PartitionId>,
) -> Result<Vec<DescribedTransactionTopic>, Failure> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic).or_default().push(partition.index.0);
    }
    let mut named = Vec::with_capacity(topics.len());
    for (id, partitions) in topics {
        if let Some(topic) = names::by_id(view, id)? {
            let topic = topic.row.name.as_str().to_owned();
            named.push(DescribedTransactionTopic { topic, partitions });
        }
    }
    Ok(named)
}

pub(super) async fn answer_producers(
    cx: Context,
    request: DescribeProducersRequest,
) -> Result<DescribeProducersResponse, Failure> {
    cx.check_listed(request.topics.iter().map(|topic| 1 + topic.partition_indexes.len()).sum())?;
    let topics = cx.node.scan(move |view| producers(&view, request.topics)).await?;
    Ok(DescribeProducersResponse { topics, ..Default::default() })
}

fn producers(
    view: &ReadView,
    asked: Vec<DescribeProducersTopic>,
) -> Result<Vec<DescribeProducersTopicResponse>, Failure> {
    let mut left = DESCRIBED_MAX;
    let mut topics = Vec::with_capacity(asked.len());
    for DescribeProducersTopic { name, partition_indexes } in asked {
        let topic = names::by_name(view, &name)?;
        let mut partitions = Vec::with_capacity(partition_indexes.len());
        for index in partition_indexes {
            let partition = topic.as_ref().and_then(|topic| topic.partition(index));
            let answer = DescribeProducersPartitionResponse { partition_index: index, ..Default::default() };
            partitions.push(match partition {
                None => DescribeProducersPartitionResponse {
                    error_code: ErrorCode::UnknownTopicOrPartition,
                    ..answer
                },
                Some(partition) => DescribeProducersPartitionResponse {
                    active_producers: producers_of(view, partition, &mut left)?,
                    ..answer
                },
            });
        }
        topics.push(DescribeProducersTopicResponse { name, partitions });
    }
    Ok(topics)
}

fn producers_of(
    view: &ReadView,
    partition: PartitionId,
    left: &mut usize,
) -> Result<Vec<ProducerState>, Failure> {
    let mut producers = Vec::new();
    for producer in view.producers(partition) {
        let (id, row) = producer?;
        if *left == 0 {
            tracing::warn!(
                limit = DESCRIBED_MAX,
                "an answer to DescribeProducers leaves out what is beyond the limit"
            );
            break;
        }
        *left -= 1;
        producers.push(producer_state(id, &row));
    }
    Ok(producers)
}

fn producer_state(id: ProducerId, row: &ProducerRow) -> ProducerState {
    let newest = row.batches.last();
    ProducerState {
        producer_id: id.0,
        producer_epoch: row.epoch.0.into(),
        last_sequence: newest.map_or(-1, |batch| batch.sequences.last.get()),
        last_timestamp: row.last_timestamp.0,
        coordinator_epoch: 0,
        current_txn_start_offset: row.open.map_or(-1, |(_, Offset(first))| first),
    }
}
