//! DeleteRecords: partitions begin later. Each partition on its own merits.

use super::authorise::Operation;
use super::errors;
use super::failure::{Failure, expect};
use super::names;
use super::service::reply_to;
use super::session::Context;
use crate::core::{Command, Cut, PartitionRow};
use crate::shard::Answer;
use crate::store::ReadView;
use crate::types::{HashSet, Offset, PartitionId};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::future::Future;

/// What stands for the high watermark in a request.
const HIGH_WATERMARK: i64 = -1;
/// The low watermark of a partition that has been refused.
const NO_LOW_WATERMARK: i64 = -1;

/// What has become of one partition of a request.
type Asked = (i32, Result<(PartitionId, Answer), ErrorCode>);

pub(super) async fn accept(
    cx: Context,
    request: DeleteRecordsRequest,
) -> Result<impl Future<Output = Result<DeleteRecordsResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.topics.iter().map(|topic| 1 + topic.partitions.len()).sum())?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for DeleteRecordsTopic { name, partitions } in request.topics {
        let mut seen = HashSet::default();
        let mut asked: Vec<Asked> = Vec::with_capacity(partitions.len());
        for DeleteRecordsPartition { partition_index, offset } in partitions {
            let outcome = match seen.insert(partition_index) {
                true => ask(&cx, &name, partition_index, offset).await?,
                false => Err(ErrorCode::InvalidRequest),
            };
            asked.push((partition_index, outcome));
        }
        topics.push((name, asked));
    }
    Ok(async move {
        let mut results = Vec::with_capacity(topics.len());
        for (name, asked) in topics {
            let mut partitions = Vec::with_capacity(asked.len());
            for (partition_index, asked) in asked {
                partitions.push(settle(&cx, partition_index, asked).await?);
            }
            results.push(DeleteRecordsTopicResult { name, partitions });
        }
        Ok(DeleteRecordsResponse { topics: results, ..Default::default() })
    })
}

async fn ask(
    cx: &Context,
    name: &str,
    index: i32,
    offset: i64,
) -> Result<Result<(PartitionId, Answer), ErrorCode>, Failure> {
    if !cx.may(Operation::DeleteRecords) {
        return Ok(Err(ErrorCode::TopicAuthorizationFailed));
    }
    let view = cx.view();
    let topic = names::by_name(&view, name)?;
    let Some((topic, partition)) = topic.and_then(|topic| topic.partition(index).map(|part| (topic, part)))
    else {
        return Ok(Err(ErrorCode::UnknownTopicOrPartition));
    };
    // The newest record of a key is to stay, whoever asks.
    if !topic.row.deletes() {
        return Ok(Err(ErrorCode::PolicyViolation));
    }
    Ok(match find(&view, partition, offset)? {
        Ok(to) => Ok((partition, cx.ask(Command::DeleteRecords { partition, to }).await?)),
        Err(code) => Err(code),
    })
}

/// Where the partition is to be cut. The high watermark is the end of what is durable: that of the view.
fn find(view: &ReadView, partition: PartitionId, offset: i64) -> Result<Result<Cut, ErrorCode>, Failure> {
    let Some(row) = view.get::<PartitionRow>(&partition)? else {
        return Ok(Err(ErrorCode::UnknownTopicOrPartition));
    };
    let offset = if offset == HIGH_WATERMARK { row.next_offset } else { Offset(offset) };
    if offset < Offset::ZERO || offset > row.next_offset {
        return Ok(Err(ErrorCode::OffsetOutOfRange));
    }
    let end = Cut { offset, bytes: row.totals.bytes };
    Ok(Ok(if offset == row.next_offset { end } else { view.cut_at(partition, offset)?.unwrap_or(end) }))
}

async fn settle(
    cx: &Context,
    partition_index: i32,
    asked: Result<(PartitionId, Answer), ErrorCode>,
) -> Result<DeleteRecordsPartitionResult, Failure> {
    let refused = |error_code| DeleteRecordsPartitionResult {
        partition_index,
        low_watermark: NO_LOW_WATERMARK,
        error_code,
    };
    let (partition, answer) = match asked {
        Ok(asked) => asked,
        Err(code) => return Ok(refused(code)),
    };
    if let Err(refusal) = expect::done(reply_to(answer).await?)? {
        return Ok(refused(errors::code(refusal, cx.api, cx.version)?));
    }
    // The view has been published before the reply was sent.
    Ok(match cx.view().get::<PartitionRow>(&partition)? {
        Some(row) => DeleteRecordsPartitionResult {
            partition_index,
            low_watermark: row.log_start.0,
            error_code: ErrorCode::None,
        },
        None => refused(ErrorCode::UnknownTopicOrPartition),
    })
}
