//! A fetch from its request to its frame.

use super::plan::Kept;
use super::reading::{self, Found, Reading, Terms};
use super::sessions::{Opened, Then};
use super::{TopicRef, Wanted};
use crate::broker::failure::Failure;
use crate::broker::limits::{FETCH_ANSWER_BYTES_MAX, FETCH_ATTEMPTS_MAX, FETCH_WAIT_MAX};
use crate::broker::list_offsets::READ_COMMITTED;
use crate::broker::session::Context;
use crate::log::{Payload, ReadError};
use crate::net::{Budget, Permit, Transport};
use crate::wire::batch::{BatchError, BatchHeader};
use crate::wire::messages::*;
use crate::wire::{ErrorCode, Records, gathered_for_quic};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn serve(cx: Context, request: FetchRequest) -> Result<Vec<Bytes>, Failure> {
    let principal = &cx.caller.connection.principal;
    let terms = terms(&cx, &request);
    let Opened { wanted, then } =
        match cx.node.sessions.open(&request, cx.version, principal, Instant::now().into_std()) {
            Ok(opened) => opened,
            Err(error_code) => return cx.encode(&FetchResponse { error_code, ..Default::default() }),
        };
    let (found, mut permit) = read(&cx, &wanted, terms).await?;
    let mut partitions: Vec<_> = wanted.into_iter().zip(found).collect();
    let session_id = match then {
        Then::Nothing => 0,
        Then::Begin => cx.node.sessions.begin(cx.version, principal, &partitions, Instant::now().into_std()),
        Then::GoOn(session) => session.report(&mut partitions),
    };
    let copied = partitions.iter().map(|(_, answer)| copied_bytes(answer)).sum();
    let response = FetchResponse { session_id, responses: topics(partitions), ..Default::default() };
    let mut chunks = cx.encode_large(&response, copied)?;
    if cx.caller.connection.transport == Transport::Quic {
        chunks = gathered_for_quic(chunks);
    }
    permit.shrink_to(chunks.iter().map(Bytes::len).sum());
    if let Some(last) = chunks.last_mut() {
        *last = permit.attach(std::mem::take(last));
    }
    Ok(chunks)
}

/// What a partition's answer takes in a frame, about, but for large batches, which are not copied.
fn copied_bytes(answer: &FetchPartitionResponse) -> usize {
    /// Beside its records: a few numbers and lengths.
    const USUAL_BYTES: usize = 64;
    USUAL_BYTES + answer.records.as_ref().map_or(0, Records::copied_bytes)
}

fn terms(cx: &Context, request: &FetchRequest) -> Terms {
    let bytes = |number: i32| usize::try_from(number).unwrap_or(0);
    // Half of the budget, so that two large answers can be made at a time.
    let affordable = cx.node.budgets.capacity(Budget::Fetch) / 2;
    let bytes_max = bytes(request.max_bytes).min(FETCH_ANSWER_BYTES_MAX).min(affordable);
    let wait = u64::try_from(request.max_wait_ms).map_or(Duration::ZERO, Duration::from_millis);
    Terms {
        committed: request.isolation_level == READ_COMMITTED,
        bytes_min: bytes(request.min_bytes).min(bytes_max),
        bytes_max,
        deadline: Instant::now() + wait.min(FETCH_WAIT_MAX),
    }
}

/// Finds and reads; again, with a newer view, if what was found is deleted before it is read.
async fn read(
    cx: &Context,
    wanted: &[Wanted],
    terms: Terms,
) -> Result<(Vec<FetchPartitionResponse>, Permit), Failure> {
    for _ in 1..FETCH_ATTEMPTS_MAX {
        let found = reading::find(cx, wanted, terms).await?;
        match read_found(cx, wanted, found, terms.committed, Gone::Retry).await? {
            Some(read) => return Ok(read),
            None => tracing::debug!("what a fetch was about to read has been deleted: it starts again"),
        }
    }
    let found = reading::find(cx, wanted, terms).await?;
    let read = read_found(cx, wanted, found, terms.committed, Gone::Answer).await?;
    read.ok_or_else(|| Failure::Mismatch("a last attempt asked for another".to_owned()))
}

/// What to do when a segment has been deleted meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    Retry,
    /// Answer its partition with what lies before, or an error that clients retry.
    Answer,
}

/// Reads the batches, and makes each partition's answer. None if it is to be tried again.
async fn read_found(
    cx: &Context,
    wanted: &[Wanted],
    found: Vec<Found>,
    committed: bool,
    gone: Gone,
) -> Result<Option<(Vec<FetchPartitionResponse>, Permit)>, Failure> {
    let bytes = found.iter().flatten().map(|reading| reading.scan.kept_bytes).sum();
    let permit = cx.node.budgets.reserve(Budget::Fetch, bytes).await?;
    cx.node.metrics.fetched_bytes.add(bytes as u64);
    let places = found.iter().flatten().flat_map(|reading| reading.scan.kept.iter().map(|kept| kept.place));
    let places: Vec<_> = places.collect();
    let batches = match places.is_empty() {
        true => Vec::new(),
        false => cx.node.shard.read(&places).await,
    };
    if gone == Gone::Retry && batches.iter().any(|batch| matches!(batch, Err(ReadError::Gone { .. }))) {
        return Ok(None);
    }
    let mut batches = batches.into_iter();
    let answer = |(wanted, found): (&Wanted, Found)| match found {
        Ok(reading) => answered(wanted, &reading, &mut batches, committed),
        Err(code) => refused(wanted, code),
    };
    Ok(Some((wanted.iter().zip(found).map(answer).collect(), permit)))
}

fn refused(wanted: &Wanted, error_code: ErrorCode) -> FetchPartitionResponse {
    FetchPartitionResponse {
        partition_index: wanted.index,
        error_code,
        high_watermark: -1,
        records: Some(Records::default()),
        ..Default::default()
    }
}

/// The answer with what was read, up to the first batch that cannot be served. Takes from `batches` what was found of this partition.
fn answered(
    wanted: &Wanted,
    reading: &Reading,
    batches: impl Iterator<Item = Payload>,
    committed: bool,
) -> FetchPartitionResponse {
    let mut sound = Vec::with_capacity(reading.scan.kept.len());
    let mut whole = true;
    for (kept, batch) in reading.scan.kept.iter().zip(batches) {
        match check(kept, batch) {
            Ok(batch) if whole => sound.push(batch),
            Err(error) if whole => {
                tracing::error!(partition = %reading.partition, offset = %kept.base, %error,
                    "a batch cannot be served from the log");
                whole = false;
            }
            _ => {}
        }
    }
    if sound.is_empty() && !reading.scan.kept.is_empty() {
        return refused(wanted, ErrorCode::KafkaStorageError);
    }
    // Where the answer had to end early, the list ends with it.
    let end = reading.scan.kept.get(sound.len()).map(|kept| kept.base);
    let aborts = reading.scan.aborts.iter().filter(|abort| end.is_none_or(|end| abort.marker < end));
    let aborts = aborts
        .map(|abort| AbortedTransaction { producer_id: abort.producer.0, first_offset: abort.marker.0 });
    FetchPartitionResponse {
        partition_index: wanted.index,
        error_code: ErrorCode::None,
        high_watermark: reading.row.next_offset.0,
        last_stable_offset: reading.row.last_stable_offset().0,
        log_start_offset: reading.row.log_start.0,
        aborted_transactions: committed.then(|| aborts.collect()),
        records: Some(Records::from_chunks(sound)),
        ..Default::default()
    }
}

/// Whether these bytes are the batch that the index speaks of. That they are those that were written, the log has checked where
/// they come from the disk; and the batch's own checksum was checked before that.
fn check(kept: &Kept, batch: Payload) -> Result<Bytes, WrongBatch> {
    let bytes = batch?;
    let header = BatchHeader::parse(&bytes)?;
    if header.size != bytes.len() || header.base_offset != kept.base || header.last_offset() != kept.last {
        return Err(WrongBatch::Other {
            first: header.base_offset.0,
            last: header.last_offset().0,
            size: header.size,
            length: bytes.len(),
        });
    }
    Ok(bytes)
}

/// What was read is not what the index speaks of.
#[derive(Debug, thiserror::Error)]
enum WrongBatch {
    #[error(transparent)]
    Unread(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(
        "it is another one than the index speaks of: a batch of {size} bytes with offsets {first} to {last} lies in {length} bytes"
    )]
    Other { first: i64, last: i64, size: usize, length: usize },
}

/// Partitions under their topics. Neighbours of one topic come together; the order of the request stays.
fn topics(partitions: Vec<(Wanted, FetchPartitionResponse)>) -> Vec<FetchTopicResponse> {
    let mut topics: Vec<(TopicRef, Vec<FetchPartitionResponse>)> = Vec::new();
    for (wanted, answer) in partitions {
        match topics.last_mut() {
            Some((topic, answers)) if *topic == wanted.topic => answers.push(answer),
            _ => topics.push((wanted.topic, vec![answer])),
        }
    }
    let response = |(topic, partitions): (TopicRef, Vec<FetchPartitionResponse>)| FetchTopicResponse {
        topic: (*topic.name).to_owned(),
        topic_id: topic.id,
        partitions,
    };
    topics.into_iter().map(response).collect()
}
