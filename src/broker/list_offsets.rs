//! ListOffsets and OffsetForLeaderEpoch: finding places in a partition.

use super::failure::Failure;
use super::session::Context;
use super::{leader_epoch, names};
use crate::core::PartitionRow;
use crate::log::Place;
use crate::store::{IndexEntry, ReadView};
use crate::types::{HashSet, LeaderEpoch, Offset, PartitionId, Timestamp};
use crate::wire::ErrorCode;
use crate::wire::batch::{Batch, BatchError, BatchLimits};
use crate::wire::messages::*;
use bytes::Bytes;
use std::ops::Range;

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
        let mut seen = HashSet::with_capacity_and_hasher(asked.len(), Default::default());
        let mut partitions = Vec::with_capacity(asked.len());
        for asked in asked {
            let index = asked.partition_index;
            let partition = topic.as_ref().and_then(|topic| topic.partition(index));
            let found = match partition {
                _ if !seen.insert(index) => Err(ErrorCode::InvalidRequest),
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(partition) => find(&cx, partition, &asked, committed).await?,
            };
            partitions.push(partition_response(&cx, partition, index, found)?);
        }
        topics.push(ListOffsetsTopicResponse { name, partitions });
    }
    Ok(ListOffsetsResponse { topics, ..Default::default() })
}

/// A place that was found: its offset, and its record's timestamp where it was found by one.
type Found = Option<(Offset, Timestamp)>;

fn partition_response(
    cx: &Context,
    partition: Option<PartitionId>,
    partition_index: i32,
    found: Result<Found, ErrorCode>,
) -> Result<ListOffsetsPartitionResponse, Failure> {
    Ok(match found {
        Err(error_code) => ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() },
        Ok(None) => ListOffsetsPartitionResponse { partition_index, ..Default::default() },
        Ok(Some((offset, timestamp))) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: timestamp.0,
            offset: offset.0,
            leader_epoch: match partition {
                Some(partition) if cx.version >= LEADER_EPOCHS => {
                    leader_epoch::at(&cx.view(), partition, offset)?
                }
                _ => -1,
            },
            ..Default::default()
        },
    })
}

/// The first version of ListOffsets whose answers have leader epochs.
const LEADER_EPOCHS: i16 = 4;

async fn find(
    cx: &Context,
    partition: PartitionId,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let target = match leader_epoch::check(&cx.view(), asked.current_leader_epoch)?
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
        Target::MaxTimestamp => find_newest(cx, partition, row.log_start..end).await?,
        Target::Since(timestamp) => find_since(cx, partition, row.log_start..end, timestamp).await?,
    })
}

/// The newest record by its timestamp. The batch that holds the log start may have lost the one that its entry speaks of, so
/// it is judged by its records.
async fn find_newest(
    cx: &Context,
    partition: PartitionId,
    mut offsets: Range<Offset>,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let start = offsets.start;
    let first = cx.view().index(partition, start).next().transpose()?;
    let mut newest = None;
    if let Some((last, entry)) = first.filter(|(_, entry)| entry.base_offset < start && !entry.kind.is_gap())
    {
        let within = offsets.clone();
        match in_batch(cx, entry.place, move |bytes| newest_record(bytes, &within)).await? {
            Ok(found) => newest = found,
            Err(code) => return Ok(Err(code)),
        }
        offsets.start = last.next();
    }
    let within = offsets.clone();
    let batch = cx.node.scan(move |view| Ok(view.newest_batch(partition, &within)?)).await?;
    let Some(IndexEntry { place, max_timestamp, .. }) =
        batch.filter(|batch| newest.is_none_or(|(_, timestamp)| batch.max_timestamp > timestamp))
    else {
        return Ok(Ok(newest));
    };
    in_batch(cx, place, move |bytes| first_record(bytes, &offsets, max_timestamp)).await
}

/// The first record with at least this timestamp.
async fn find_since(
    cx: &Context,
    partition: PartitionId,
    mut offsets: Range<Offset>,
    timestamp: Timestamp,
) -> Result<Result<Found, ErrorCode>, Failure> {
    loop {
        let within = offsets.clone();
        let batch = cx.node.scan(move |view| Ok(view.first_since(partition, &within, timestamp)?)).await?;
        let Some((last, IndexEntry { base_offset, place, .. })) = batch else { return Ok(Ok(None)) };
        let within = offsets.clone();
        let record = in_batch(cx, place, move |bytes| first_record(bytes, &within, timestamp)).await?;
        // Only the batch that holds the log start may have lost its record: so this goes round twice at most.
        if !matches!(record, Ok(None)) || base_offset >= offsets.start {
            return Ok(record);
        }
        offsets.start = last.next();
    }
}

/// Reads a batch, and looks for a record in it on a thread of its own.
async fn in_batch(
    cx: &Context,
    place: Place,
    find: impl FnOnce(Bytes) -> Result<Found, BatchError> + Send + 'static,
) -> Result<Result<Found, ErrorCode>, Failure> {
    let read = match cx.node.shard.read(&[place]).await.pop().transpose() {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "a batch cannot be read to find a record by its time");
            return Ok(Err(ErrorCode::KafkaStorageError));
        }
    };
    let find = move |_| Ok(read.map_or(Ok(None), find));
    Ok(cx.node.scan(find).await?.map_err(|error| {
        tracing::error!(%error, "a stored batch cannot be opened");
        ErrorCode::KafkaStorageError
    }))
}

/// The first record of a batch, within `offsets`, with at least this timestamp.
fn first_record(bytes: Bytes, offsets: &Range<Offset>, timestamp: Timestamp) -> Result<Found, BatchError> {
    for record in Batch::new(bytes)?.records(&BatchLimits::default())? {
        let record = record?;
        if offsets.contains(&record.offset) && record.timestamp >= timestamp {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// The newest record of a batch, within `offsets`; of several the first.
fn newest_record(bytes: Bytes, offsets: &Range<Offset>) -> Result<Found, BatchError> {
    let mut newest: Found = None;
    for record in Batch::new(bytes)?.records(&BatchLimits::default())? {
        let record = record?;
        let than = newest.map_or(Timestamp::NONE, |(_, timestamp)| timestamp);
        if offsets.contains(&record.offset) && record.timestamp > than {
            newest = Some((record.offset, record.timestamp));
        }
    }
    Ok(newest)
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
            partitions.push(epoch_end(&view, &asked, partition)?);
        }
        topics.push(OffsetForLeaderTopicResult { topic: name, partitions });
    }
    Ok(OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

/// Up to where a client that has read in one leader epoch has read what is still there (KIP-320).
fn epoch_end(
    view: &ReadView,
    asked: &OffsetForLeaderPartition,
    partition: Option<PartitionId>,
) -> Result<OffsetForLeaderEpochEndOffset, Failure> {
    let answer = OffsetForLeaderEpochEndOffset { partition: asked.partition, ..Default::default() };
    let refused = |error_code| Ok(OffsetForLeaderEpochEndOffset { error_code, ..answer.clone() });
    let Some(partition) = partition else { return refused(ErrorCode::UnknownTopicOrPartition) };
    let Some(row) = view.get::<PartitionRow>(&partition)? else {
        return refused(ErrorCode::UnknownTopicOrPartition);
    };
    if let Err(code) = leader_epoch::check(view, asked.current_leader_epoch)? {
        return refused(code);
    }
    let end = leader_epoch::end_of(view, partition, &row, LeaderEpoch(asked.leader_epoch))?;
    Ok(end.map_or(answer.clone(), |(epoch, end)| OffsetForLeaderEpochEndOffset {
        leader_epoch: epoch.0,
        end_offset: end.0,
        ..answer
    }))
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
}
