//! ListOffsets and OffsetForLeaderEpoch: finding places in a partition.

use super::failure::Failure;
use super::metadata::LEADER_EPOCH;
use super::names;
use super::session::Context;
use crate::core::PartitionRow;
use crate::log::Place;
use crate::store::ReadView;
use crate::types::{Offset, PartitionId, Timestamp};
use crate::wire::ErrorCode;
use crate::wire::batch::{Batch, BatchLimits};
use crate::wire::messages::*;
use bytes::Bytes;
use std::collections::HashSet;

/// What a client asks for where it does not give a time, and the first version that knows it.
mod special {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    pub(super) const MAX_TIMESTAMP: (i64, i16) = (-3, 7);
    pub(super) const EARLIEST_LOCAL: (i64, i16) = (-4, 8);
    pub(super) const LATEST_TIERED: (i64, i16) = (-5, 9);
    pub(super) const EARLIEST_PENDING_UPLOAD: (i64, i16) = (-6, 11);
}

/// The isolation level that reads only what is decided.
pub(super) const READ_COMMITTED: i8 = 1;

/// What a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    /// The newest record by its timestamp.
    MaxTimestamp,
    /// The first record with at least this timestamp.
    Since(Timestamp),
    /// Something in tiered storage, of which there is none.
    Tiered,
}

impl Target {
    fn of(timestamp: i64, version: i16) -> Result<Target, ErrorCode> {
        let since = |(number, known_from): (i64, i16)| timestamp == number && version >= known_from;
        Ok(match timestamp {
            special::LATEST => Target::Latest,
            special::EARLIEST => Target::Earliest,
            0.. => Target::Since(Timestamp(timestamp)),
            _ if since(special::MAX_TIMESTAMP) => Target::MaxTimestamp,
            // Everything is local.
            _ if since(special::EARLIEST_LOCAL) => Target::Earliest,
            _ if since(special::LATEST_TIERED) || since(special::EARLIEST_PENDING_UPLOAD) => Target::Tiered,
            _ => return Err(ErrorCode::UnsupportedVersion),
        })
    }
}

pub(super) async fn answer(cx: Context, request: ListOffsetsRequest) -> Result<ListOffsetsResponse, Failure> {
    cx.check_listed(request.topics.iter().map(|topic| 1 + topic.partitions.len()).sum())?;
    let committed = request.isolation_level == READ_COMMITTED;
    let mut topics = Vec::with_capacity(request.topics.len());
    for ListOffsetsTopic { name, partitions: asked } in request.topics {
        let topic = names::by_name(&cx.view(), &name)?;
        let mut seen = HashSet::with_capacity(asked.len());
        let mut partitions = Vec::with_capacity(asked.len());
        for asked in asked {
            let index = asked.partition_index;
            let partition = topic.as_ref().and_then(|topic| topic.partition(index));
            let found = match partition {
                _ if !seen.insert(index) => Err(ErrorCode::InvalidRequest),
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(partition) => find(&cx, partition, &asked, committed).await?,
            };
            partitions.push(partition_response(cx.version, index, found));
        }
        topics.push(ListOffsetsTopicResponse { name, partitions });
    }
    Ok(ListOffsetsResponse { topics, ..Default::default() })
}

/// A place that was found: its offset, and its record's timestamp where it was found by one.
type Found = Option<(Offset, Timestamp)>;

fn partition_response(
    version: i16,
    partition_index: i32,
    found: Result<Found, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    match found {
        Err(error_code) => ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() },
        Ok(None) => ListOffsetsPartitionResponse { partition_index, ..Default::default() },
        Ok(Some((offset, timestamp))) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: timestamp.0,
            offset: offset.0,
            leader_epoch: if version >= LEADER_EPOCHS { LEADER_EPOCH } else { -1 },
            ..Default::default()
        },
    }
}

/// The first version of ListOffsets whose answers have leader epochs.
const LEADER_EPOCHS: i16 = 4;

async fn find(
    cx: &Context,
    partition: PartitionId,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let target = match check_leader_epoch(asked.current_leader_epoch)
        .and_then(|()| Target::of(asked.timestamp, cx.version))
    {
        Ok(target) => target,
        Err(code) => return Ok(Err(code)),
    };
    let Some(row) = cx.view().get::<PartitionRow>(&partition)? else {
        return Ok(Err(ErrorCode::UnknownTopicOrPartition));
    };
    let end = if committed { row.last_stable_offset() } else { row.next_offset };
    Ok(match target {
        Target::Earliest => Ok(Some((row.log_start, Timestamp::NONE))),
        Target::Latest => Ok(Some((end, Timestamp::NONE))),
        Target::Tiered => Ok(None),
        Target::MaxTimestamp => find_newest(cx, partition, row.log_start, end).await?,
        Target::Since(timestamp) => find_since(cx, partition, row.log_start, end, timestamp).await?,
    })
}

/// A client that knows a newer leader than this one waits until it is known here too: there is none.
pub(super) fn check_leader_epoch(current: i32) -> Result<(), ErrorCode> {
    if current > LEADER_EPOCH { Err(ErrorCode::UnknownLeaderEpoch) } else { Ok(()) }
}

async fn find_newest(
    cx: &Context,
    partition: PartitionId,
    start: Offset,
    end: Offset,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let newest = cx.node.scan(move |view| newest_batch(&view, partition, start, end)).await?;
    match newest {
        Some((timestamp, place)) if timestamp >= Timestamp(0) => {
            first_record(cx, place, start, end, timestamp).await
        }
        _ => Ok(Ok(None)),
    }
}

/// The first batch whose newest timestamp no other's exceeds.
fn newest_batch(
    view: &ReadView,
    partition: PartitionId,
    start: Offset,
    end: Offset,
) -> Result<Option<(Timestamp, Place)>, Failure> {
    let mut newest: Option<(Timestamp, Place)> = None;
    for entry in view.index(partition, start) {
        let (_, entry) = entry?;
        if entry.base_offset >= end {
            break;
        }
        if newest.is_none_or(|(timestamp, _)| entry.max_timestamp > timestamp) {
            newest = Some((entry.max_timestamp, entry.place));
        }
    }
    Ok(newest)
}

async fn find_since(
    cx: &Context,
    partition: PartitionId,
    start: Offset,
    end: Offset,
    timestamp: Timestamp,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let place = cx.node.scan(move |view| first_batch(&view, partition, start, end, timestamp)).await?;
    match place {
        Some(place) => first_record(cx, place, start, end, timestamp).await,
        None => Ok(Ok(None)),
    }
}

/// The first batch that has a record with at least this timestamp.
fn first_batch(
    view: &ReadView,
    partition: PartitionId,
    start: Offset,
    end: Offset,
    timestamp: Timestamp,
) -> Result<Option<Place>, Failure> {
    for entry in view.index(partition, start) {
        let (_, entry) = entry?;
        if entry.base_offset >= end {
            break;
        }
        if entry.max_timestamp >= timestamp {
            return Ok(Some(entry.place));
        }
    }
    Ok(None)
}

/// The first record in a batch, between `start` and `end`, with at least this timestamp.
async fn first_record(
    cx: &Context,
    place: Place,
    start: Offset,
    end: Offset,
    timestamp: Timestamp,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let read = match cx.node.shard.read(vec![place]).await {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "a batch cannot be read to find a record by its time");
            return Ok(Err(ErrorCode::KafkaStorageError));
        }
    };
    let find = move |_| {
        let mut records = Vec::with_capacity(read.len());
        for bytes in read {
            records.push(record_since(bytes, start, timestamp));
        }
        Ok(records.into_iter().next())
    };
    Ok(match cx.node.scan(find).await? {
        Some(Ok(found)) => Ok(found.filter(|(offset, _)| *offset < end)),
        None => Ok(None),
        Some(Err(error)) => {
            tracing::error!(%error, "a stored batch cannot be opened");
            Err(ErrorCode::KafkaStorageError)
        }
    })
}

fn record_since(
    bytes: Bytes,
    start: Offset,
    timestamp: Timestamp,
) -> Result<Found, crate::wire::batch::BatchError> {
    for record in Batch::new(bytes)?.records(&BatchLimits::default())? {
        let record = record?;
        if record.offset >= start && record.timestamp >= timestamp {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

pub(super) async fn answer_epochs(
    cx: Context,
    request: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, Failure> {
    cx.check_listed(request.topics.iter().map(|topic| 1 + topic.partitions.len()).sum())?;
    let view = cx.view();
    let mut topics = Vec::with_capacity(request.topics.len());
    for OffsetForLeaderTopic { topic: name, partitions: asked } in request.topics {
        let topic = names::by_name(&view, &name)?;
        let mut partitions = Vec::with_capacity(asked.len());
        for asked in asked {
            let partition = topic.as_ref().and_then(|topic| topic.partition(asked.partition));
            let row = match partition {
                Some(partition) => view.get::<PartitionRow>(&partition)?,
                None => None,
            };
            partitions.push(epoch_end(&asked, row.as_ref()));
        }
        topics.push(OffsetForLeaderTopicResult { topic: name, partitions });
    }
    Ok(OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

/// There is one epoch, and it has not ended: its end is the end of the partition. Of any other nothing is known.
fn epoch_end(asked: &OffsetForLeaderPartition, row: Option<&PartitionRow>) -> OffsetForLeaderEpochEndOffset {
    let answer = OffsetForLeaderEpochEndOffset { partition: asked.partition, ..Default::default() };
    let Some(row) = row else {
        return OffsetForLeaderEpochEndOffset { error_code: ErrorCode::UnknownTopicOrPartition, ..answer };
    };
    match check_leader_epoch(asked.current_leader_epoch) {
        Err(error_code) => OffsetForLeaderEpochEndOffset { error_code, ..answer },
        Ok(()) if asked.leader_epoch == LEADER_EPOCH => OffsetForLeaderEpochEndOffset {
            leader_epoch: LEADER_EPOCH,
            end_offset: row.next_offset.0,
            ..answer
        },
        Ok(()) => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_times_are_known_from_their_version_on() {
        assert_eq!(Target::of(-1, 1), Ok(Target::Latest));
        assert_eq!(Target::of(-2, 1), Ok(Target::Earliest));
        assert_eq!(Target::of(-3, 6), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(Target::of(-3, 7), Ok(Target::MaxTimestamp));
        assert_eq!(Target::of(-4, 8), Ok(Target::Earliest));
        assert_eq!(Target::of(-5, 8), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(Target::of(-5, 9), Ok(Target::Tiered));
        assert_eq!(Target::of(-6, 11), Ok(Target::Tiered));
        assert_eq!(Target::of(-7, 11), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(Target::of(5, 1), Ok(Target::Since(Timestamp(5))));
    }

    #[test]
    fn the_one_epoch_ends_where_the_partition_does() {
        let row = PartitionRow { next_offset: Offset(42), ..Default::default() };
        let end = |leader_epoch, current_leader_epoch| {
            let asked = OffsetForLeaderPartition { partition: 3, current_leader_epoch, leader_epoch };
            epoch_end(&asked, Some(&row))
        };
        assert_eq!((end(0, -1).leader_epoch, end(0, 0).end_offset), (0, 42));
        assert_eq!((end(1, -1).leader_epoch, end(1, -1).end_offset), (-1, -1));
        assert_eq!(end(0, 1).error_code, ErrorCode::UnknownLeaderEpoch);
    }
}
