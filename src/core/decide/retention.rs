//! The log start moves forward: because somebody deletes records, or because they are past their retention
//! (`spec/transactions.md`, X3 and X5). What lies below it is not read any more; its space is given back elsewhere.

use crate::core::commands::{ExpireRecords, Now, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::{Cut, CutReason, Event};
use crate::core::limits::RETENTION_CLOCK_STEP_MAX;
use crate::core::rows::{PartitionRow, Row, TopicRow};
use crate::types::*;

/// `DeleteRecords`: not above the high watermark, but open transactions do not hold it back.
pub(super) fn delete_records(
    rows: &mut Draft<'_>,
    partition: PartitionId,
    to: Cut,
) -> Result<Result<(), Refusal>, Need> {
    let Some(row) = rows.get::<PartitionRow>(&partition)? else {
        return Ok(Err(Refusal::UnknownPartition));
    };
    if to.offset > row.next_offset {
        return Ok(Err(Refusal::OffsetOutOfRange));
    }
    if to.offset > row.log_start {
        rows.state(Event::LogStartMoved { partition, to, reason: CutReason::Deleted })?;
    }
    Ok(Ok(()))
}

/// `ExpireRecords`: what was found is judged again by what holds now. What is not due any more stays.
pub(super) fn expire_records(
    rows: &mut Draft<'_>,
    now: Now,
    expire: &ExpireRecords,
) -> Result<Result<(), Refusal>, Need> {
    let ExpireRecords { partition, to, newest, found } = *expire;
    rows.require([PartitionRow::key(&partition), TopicRow::key(&partition.topic)])?;
    let (Some(row), Some(topic)) =
        (rows.get::<PartitionRow>(&partition)?, rows.get::<TopicRow>(&partition.topic)?)
    else {
        return Ok(Err(Refusal::UnknownPartition));
    };
    if to.offset > row.last_stable_offset() {
        return Ok(Err(Refusal::OffsetOutOfRange));
    }
    if to.offset <= row.log_start || clock_stepped(found, now) {
        return Ok(Ok(()));
    }
    if let Some(reason) = due(row, topic, to, newest, now) {
        rows.state(Event::LogStartMoved { partition, to, reason })?;
    }
    Ok(Ok(()))
}

/// Why what lies below `to` may go, if it may.
fn due(
    row: &PartitionRow,
    topic: &TopicRow,
    to: Cut,
    newest: Option<Timestamp>,
    now: Now,
) -> Option<CutReason> {
    let past = |newest: Timestamp| topic.is_past_retention(newest, now.wall);
    let left = row.totals.bytes.saturating_sub(to.bytes);
    if newest.is_some_and(past) {
        Some(CutReason::RetentionTime)
    } else if topic.retention_bytes().is_some_and(|kept| left >= kept) {
        Some(CutReason::RetentionBytes)
    } else {
        None
    }
}

/// Whether the wall clock has gone another way than served time by more than the limit.
#[must_use]
pub fn clock_stepped(earlier: Now, later: Now) -> bool {
    let served = i64::try_from(later.served.since(earlier.served).as_millis()).unwrap_or(i64::MAX);
    let wall = later.wall.0.saturating_sub(earlier.wall.0);
    let step = u128::from(wall.saturating_sub(served).unsigned_abs());
    step > RETENTION_CLOCK_STEP_MAX.as_millis()
}
