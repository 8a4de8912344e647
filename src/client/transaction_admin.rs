//! Administration of transactions: which are open, since when, and what they hold back (KIP-664).

use super::admin::Admin;
use super::cluster::Client;
use super::error::ClientError;
use super::metadata::TopicPartition;
use super::versions::ANY_VERSION;
use crate::types::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName, TransactionalId,
};
use crate::wire::messages::{
    DescribeProducersRequest, DescribeProducersTopic, DescribeTransactionsRequest, DescribedTransaction,
    ListTransactionsRequest,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The first version of ListTransactions that takes a pattern.
const LIST_BY_PATTERN: i16 = 2;

/// Which transactions are wanted.
#[derive(Clone, Debug, Default)]
pub struct TransactionFilter {
    /// In one of these states; any if empty.
    pub states: Vec<String>,
    /// Of one of these producers; any if empty.
    pub producers: Vec<ProducerId>,
    /// Open for longer than this.
    pub open_for: Option<Duration>,
    /// With a transactional id that matches all of this pattern.
    pub pattern: Option<String>,
}

/// A transactional id's newest transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The transactional id.
    pub transactional_id: String,
    /// Its state, by Kafka's names and `Prepared`.
    pub state: String,
    /// Who holds the id.
    pub producer_id: ProducerId,
    /// In which epoch.
    pub epoch: ProducerEpoch,
    /// How long its transactions may stay open.
    pub timeout: Duration,
    /// When the open one began.
    pub began: Option<Timestamp>,
    /// Where it is enrolled.
    pub partitions: Vec<(String, i32)>,
}

/// What holds back a partition's last stable offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset of the transaction there: readers of committed records see nothing from it on.
    pub first_offset: Offset,
    /// Whose transaction it is.
    pub producer_id: ProducerId,
    /// The transaction, if its transactional id is known.
    pub transaction: Option<TransactionDescription>,
}

impl Admin {
    /// Transactional ids and where their newest transactions stand.
    pub async fn list_transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionDescription>, ClientError> {
        let request = &ListTransactionsRequest {
            state_filters: filter.states.clone(),
            producer_id_filters: filter.producers.iter().map(|id| id.0).collect(),
            duration_filter: filter
                .open_for
                .map_or(-1, |open| i64::try_from(open.as_millis()).unwrap_or(i64::MAX)),
            transactional_id_pattern: filter.pattern.clone(),
        };
        let wanted = match filter.pattern {
            Some(_) => crate::wire::VersionRange { min: LIST_BY_PATTERN, ..ANY_VERSION },
            None => ANY_VERSION,
        };
        let client = self.client();
        let timeout = client.config().request_timeout;
        let list = || async { client.any_broker().await?.call_version(request, wanted, timeout).await };
        let answer = client.retry("listing transactions", list).await?;
        answer.error_code.ok().map_err(|code| ClientError::broker("listing transactions", code, None))?;
        if let Some(unknown) = answer.unknown_state_filters.first() {
            return Err(ClientError::Unknown { what: format!("transaction state {unknown}") });
        }
        let ids = answer.transaction_states.into_iter().map(|listed| listed.transactional_id).collect();
        self.describe_transactions(ids).await
    }

    /// Where the newest transactions of these ids stand. One that is not known any more is left out.
    pub async fn describe_transactions(
        &self,
        transactional_ids: Vec<String>,
    ) -> Result<Vec<TransactionDescription>, ClientError> {
        if transactional_ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = &DescribeTransactionsRequest { transactional_ids };
        let client = self.client();
        let describe = || async { client.any_broker().await?.call(request).await };
        let answer = client.retry("describing transactions", describe).await?;
        let mut described: Vec<_> = answer
            .transaction_states
            .into_iter()
            .filter(|state| state.error_code.is_none())
            .map(description)
            .collect();
        described.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
        Ok(described)
    }

    /// One transactional id.
    pub async fn describe_transaction(
        &self,
        id: &TransactionalId,
    ) -> Result<TransactionDescription, ClientError> {
        let described = self.describe_transactions(vec![id.as_str().to_owned()]).await?;
        let unknown = || ClientError::Unknown { what: format!("transactional id {id}") };
        described.into_iter().next().ok_or_else(unknown)
    }

    /// The oldest open transaction of each partition of these topics: what holds back their last stable offsets.
    pub async fn blockers(&self, topics: &[TopicName]) -> Result<Vec<Blocker>, ClientError> {
        let mut partitions = Vec::new();
        for topic in topics {
            let described = self.describe_topic(topic).await?.partitions.into_iter();
            partitions.extend(described.map(|partition| TopicPartition::new(topic.clone(), partition.index)));
        }
        self.blockers_of(&partitions).await
    }

    /// The oldest open transaction of each of these partitions.
    pub async fn blockers_of(&self, partitions: &[TopicPartition]) -> Result<Vec<Blocker>, ClientError> {
        let mut oldest: BTreeMap<TopicPartition, (Offset, ProducerId)> = BTreeMap::new();
        for partition in partitions {
            if let Some(first) = self.oldest_open(partition).await? {
                oldest.insert(partition.clone(), first);
            }
        }
        let mut producers: Vec<ProducerId> = oldest.values().map(|(_, producer)| *producer).collect();
        producers.sort_unstable();
        producers.dedup();
        let named = match producers.is_empty() {
            true => Vec::new(),
            false => self.list_transactions(&TransactionFilter { producers, ..Default::default() }).await?,
        };
        let blocker = |(partition, (first_offset, producer_id))| Blocker {
            partition,
            first_offset,
            producer_id,
            transaction: named.iter().find(|named| named.producer_id == producer_id).cloned(),
        };
        Ok(oldest.into_iter().map(blocker).collect())
    }

    /// The first offset of a partition's oldest open transaction, and whose it is.
    async fn oldest_open(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<(Offset, ProducerId)>, ClientError> {
        let PartitionIndex(index) = partition.partition;
        let topic = DescribeProducersTopic {
            name: partition.topic.as_str().to_owned(),
            partition_indexes: vec![index],
        };
        let request = &DescribeProducersRequest { topics: vec![topic] };
        let client: &Client = self.client();
        let describe = || async {
            let leader = client.leader(partition).await?;
            client.control(leader).await?.call(request).await
        };
        let answer = client.retry("describing producers", describe).await?;
        let mut oldest = None;
        for described in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
            let context = format!("producers of {partition}");
            described
                .error_code
                .ok()
                .map_err(|code| ClientError::broker(context, code, described.error_message))?;
            let open = described.active_producers.iter().filter(|state| state.current_txn_start_offset >= 0);
            let first =
                open.map(|state| (Offset(state.current_txn_start_offset), ProducerId(state.producer_id)));
            oldest = first.chain(oldest).min();
        }
        Ok(oldest)
    }
}

fn description(state: DescribedTransaction) -> TransactionDescription {
    let partitions = state.topics.into_iter().flat_map(|topic| {
        let name = topic.topic;
        topic.partitions.into_iter().map(move |index| (name.clone(), index)).collect::<Vec<_>>()
    });
    TransactionDescription {
        partitions: partitions.collect(),
        transactional_id: state.transactional_id,
        state: state.transaction_state,
        producer_id: ProducerId(state.producer_id),
        epoch: ProducerEpoch(state.producer_epoch),
        timeout: Duration::from_millis(u64::try_from(state.transaction_timeout_ms).unwrap_or(0)),
        began: (state.transaction_start_time_ms >= 0).then_some(Timestamp(state.transaction_start_time_ms)),
    }
}
