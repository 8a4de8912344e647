//! WriteTxnMarkers from outside (KIP-664's abort): an abort fences and aborts the whole transaction of the producer id that
//! it names, and a commit is refused. Never a single marker: that would tear a transaction (`spec/transactions.md`, O11).

use super::authorise::Operation;
use super::failure::{Failure, expect};
use super::service::reply_to;
use super::session::Context;
use super::{errors, names};
use crate::core::{Command, ForceAbort, Identity};
use crate::shard::Answer;
use crate::types::{PartitionId, ProducerEpoch, ProducerId};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::future::Future;

/// One marker: what the shard was asked of it, and what is answered where it was not asked.
struct Asked {
    marker: WritableTxnMarker,
    /// In the order of the request; none where a partition is unknown.
    partitions: Vec<Option<PartitionId>>,
    answer: Option<Answer>,
}

pub(super) async fn accept(
    cx: Context,
    request: WriteTxnMarkersRequest,
) -> Result<impl Future<Output = Result<WriteTxnMarkersResponse, Failure>> + Send + 'static, Failure> {
    let topics = request.markers.iter().flat_map(|marker| &marker.topics);
    cx.check_listed(
        request.markers.len() + topics.map(|topic| 1 + topic.partition_indexes.len()).sum::<usize>(),
    )?;
    let allowed = cx.may(Operation::ActForCluster);
    let mut asked = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        asked.push(ask(&cx, marker, allowed).await?);
    }
    Ok(async move {
        let mut markers = Vec::with_capacity(asked.len());
        for asked in asked {
            let otherwise =
                if allowed { ErrorCode::InvalidTxnState } else { ErrorCode::ClusterAuthorizationFailed };
            markers.push(asked.result(&cx, otherwise).await?);
        }
        Ok(WriteTxnMarkersResponse { markers })
    })
}

async fn ask(cx: &Context, marker: WritableTxnMarker, allowed: bool) -> Result<Asked, Failure> {
    let view = cx.view();
    let mut partitions = Vec::new();
    for topic in &marker.topics {
        let found = names::by_name(&view, &topic.name)?;
        let of_index = |index: &i32| found.as_ref().and_then(|topic| topic.partition(*index));
        partitions.extend(topic.partition_indexes.iter().map(of_index));
    }
    let known: Vec<PartitionId> = partitions.iter().copied().flatten().collect();
    let answer = match !allowed || marker.transaction_result || known.is_empty() {
        true => None,
        false => {
            let (id, epoch) = (ProducerId(marker.producer_id), ProducerEpoch(marker.producer_epoch));
            let operator = cx.caller.connection.principal.to_string();
            tracing::warn!(
                operator,
                producer_id = id.0,
                epoch = epoch.0,
                "an operator asks for a transaction to be aborted"
            );
            let abort = ForceAbort { producer: Identity { id, epoch }, partitions: known, operator };
            Some(cx.ask(Command::ForceAbort(abort)).await?)
        }
    };
    Ok(Asked { marker, partitions, answer })
}

impl Asked {
    /// What became of the marker; `otherwise` where the shard was not asked.
    async fn result(self, cx: &Context, otherwise: ErrorCode) -> Result<WritableTxnMarkerResult, Failure> {
        let Asked { marker, partitions, answer } = self;
        let mut answers = match answer {
            Some(answer) => expect::each(reply_to(answer).await?, partitions.iter().flatten().count())?,
            None => Vec::new(),
        }
        .into_iter();
        let mut codes = Vec::with_capacity(partitions.len());
        for partition in partitions {
            codes.push(match partition {
                None if otherwise == ErrorCode::ClusterAuthorizationFailed => otherwise,
                None => ErrorCode::UnknownTopicOrPartition,
                Some(_) => match answers.next() {
                    Some(answer) => errors::outcome(answer, cx.api, cx.version)?,
                    None => otherwise,
                },
            });
        }
        let mut codes = codes.into_iter();
        let partition =
            |(partition_index, error_code)| WritableTxnMarkerPartitionResult { partition_index, error_code };
        let topics = marker.topics.into_iter().map(|topic| WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions: topic.partition_indexes.into_iter().zip(&mut codes).map(partition).collect(),
        });
        Ok(WritableTxnMarkerResult { producer_id: marker.producer_id, topics: topics.collect() })
    }
}
