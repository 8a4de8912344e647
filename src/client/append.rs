//! Batches as they are: for measurements that say themselves whose a batch is, which a producer does not let them.

use super::cluster::Client;
use super::error::ClientError;
use crate::types::{PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicName};
use crate::wire::ErrorCode;
use crate::wire::messages::{InitProducerIdRequest, ProducePartition, ProduceRequest, ProduceTopic};
use crate::wire::primitives::Records;
use bytes::Bytes;
use std::time::Duration;

impl Client {
    /// A producer id that nobody has had, without a transactional id.
    pub(crate) async fn new_producer(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let timeout = self.config().request_timeout;
        let request = InitProducerIdRequest {
            transaction_timeout_ms: millis(timeout),
            ..InitProducerIdRequest::default()
        };
        let answer = self.any_broker().await?.call(&request).await?;
        answer.error_code.ok().map_err(|code| ClientError::broker("a producer id", code, None))?;
        Ok((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)))
    }

    /// Appends batches, each to another partition of a topic, in one request to whichever broker answers. One attempt. Says how
    /// many were not their producers' next ones; if one is refused for another reason, that is the error.
    pub(crate) async fn append(
        &self,
        topic: &TopicName,
        batches: impl IntoIterator<Item = (PartitionIndex, Bytes)>,
    ) -> Result<usize, ClientError> {
        let topic_id = self.metadata_of(std::slice::from_ref(topic)).await?.topic_id(topic);
        let partition = |(index, batch): (PartitionIndex, Bytes)| ProducePartition {
            index: index.0,
            records: Some(Records::from_chunks(vec![batch])),
        };
        let topic = ProduceTopic {
            name: topic.as_str().to_owned(),
            topic_id: topic_id.unwrap_or(TopicId::NIL),
            partition_data: batches.into_iter().map(partition).collect(),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: millis(self.config().request_timeout),
            topic_data: vec![topic],
            commits: false,
        };
        let answer = self.any_broker().await?.call(&request).await?;
        let answers = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let mut out_of_order = 0;
        for answer in answers {
            match answer.error_code {
                ErrorCode::None => {}
                ErrorCode::OutOfOrderSequenceNumber => out_of_order += 1,
                code => return Err(ClientError::broker("an append", code, None)),
            }
        }
        Ok(out_of_order)
    }
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
