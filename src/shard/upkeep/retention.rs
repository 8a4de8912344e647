//! Retention: finds records that are past what their topic keeps, and proposes that the log start passes them (rule X7).
//! Space is given back elsewhere. Records grow old by wall time: while that cannot be relied on, only the size of a partition
//! counts.

use super::round::{Round, Visit};
use super::wall_clock::WallClock;
use super::{COMMANDS_PER_TURN_MAX, Duty, Turn};
use crate::core::{Command, Cut, ExpireRecords, Now, PartitionRow, TopicRow};
use crate::store::{ReadView, StoreError};
use crate::types::{PartitionId, Timestamp};
use std::time::Duration;

/// Batches of one partition that one turn lets expire by their time. What is left follows in the next turn.
const BATCHES_PER_TURN_MAX: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub(in crate::shard) struct Retention {
    period: Duration,
    round: Round,
    clock: WallClock,
}

/// What may go of one partition.
struct Found {
    expire: ExpireRecords,
    /// Whether the look ended before the first record that stays.
    more: bool,
}

impl Retention {
    /// Retention that begins a round every `period`.
    pub(in crate::shard) fn every(period: Duration, clock: WallClock) -> Retention {
        Retention { period, round: Round::default(), clock }
    }

    /// Looks at the partitions that are next; true when the round is at its end.
    fn look(&mut self, view: &ReadView, now: Now, turn: &mut Turn) -> Result<bool, StoreError> {
        // What a topic keeps in bytes needs no clock.
        let by_time = self.clock.is_steady(now)?;
        let may_expire = |topic: &TopicRow| {
            (by_time && topic.retention_time().is_some()) || topic.retention_bytes().is_some()
        };
        self.round.visit(view, may_expire, |topic, partition| {
            if turn.commands.len() >= COMMANDS_PER_TURN_MAX {
                return Ok(Visit::PauseHere);
            }
            let Some(found) = find(view, topic, partition, by_time.then_some(now.wall), now)? else {
                return Ok(Visit::Next);
            };
            turn.commands.push(Command::ExpireRecords(found.expire));
            Ok(if found.more { Visit::PauseHere } else { Visit::Next })
        })
    }
}

impl Duty for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn period(&self) -> Duration {
        self.period
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let mut turn = Turn::default();
        turn.more = !self.look(view, now, &mut turn)?;
        Ok(turn)
    }
}

/// What of a partition is past its topic's retention, below the last stable offset. Without a wall time nothing is too old.
fn find(
    view: &ReadView,
    topic: &TopicRow,
    partition: PartitionId,
    wall: Option<Timestamp>,
    now: Now,
) -> Result<Option<Found>, StoreError> {
    let Some(row) = view.get::<PartitionRow>(&partition)? else { return Ok(None) };
    let by_bytes = match topic.retention_bytes() {
        // What compaction has taken away does not count; how much that is it knows once it has been here.
        Some(kept) => match (view.compaction(partition)?, topic.is_compacted()) {
            (None, true) => None,
            (known, _) => {
                let removed = known.map_or(0, |known| known.removed_bytes);
                find_by_bytes(view, &row, partition, kept.saturating_add(removed))?
            }
        },
        None => None,
    };
    let (by_time, more) = match (topic.retention_time(), wall) {
        (Some(_), Some(wall)) => find_by_time(view, topic, &row, partition, wall)?,
        _ => (None, false),
    };
    let (to, newest) = match (by_bytes, by_time) {
        (Some(bytes), Some((time, newest))) if time.offset > bytes.offset => (time, Some(newest)),
        (Some(bytes), _) => (bytes, None),
        (None, Some((time, newest))) => (time, Some(newest)),
        (None, None) => return Ok(None),
    };
    let expire = ExpireRecords { partition, to, newest, found: now };
    Ok((to.offset > row.log_start).then_some(Found { expire, more }))
}

/// The furthest cut that leaves at least `kept` bytes behind it.
fn find_by_bytes(
    view: &ReadView,
    row: &PartitionRow,
    partition: PartitionId,
    kept: u64,
) -> Result<Option<Cut>, StoreError> {
    let Some(below) = row.totals.bytes.checked_sub(kept).filter(|below| *below > row.bytes_below_start)
    else {
        return Ok(None);
    };
    let end = row.last_stable_offset();
    if let Some(cut) = view.cut_after_bytes(partition, &(row.log_start..end), below)? {
        return Ok(Some(cut));
    }
    // Everything that is stable may go.
    Ok(match end == row.next_offset {
        true => Some(Cut { offset: end, bytes: row.totals.bytes }),
        false => view.cut_at(partition, end)?,
    })
}

/// The furthest cut below which every record is past its time, with the newest timestamp below it; and whether more may
/// follow. Records without a time go with the next that has one.
fn find_by_time(
    view: &ReadView,
    topic: &TopicRow,
    row: &PartitionRow,
    partition: PartitionId,
    wall: Timestamp,
) -> Result<(Option<(Cut, Timestamp)>, bool), StoreError> {
    let end = row.last_stable_offset();
    let (mut cut, mut newest) = (None, Timestamp::NONE);
    for entry in view.index(partition, row.log_start).take(BATCHES_PER_TURN_MAX) {
        let (last, entry) = entry?;
        newest = newest.max(entry.max_timestamp);
        if last >= end || (newest != Timestamp::NONE && !topic.is_past_retention(newest, wall)) {
            return Ok((cut, false));
        }
        if entry.max_timestamp != Timestamp::NONE {
            cut = Some((Cut { offset: last.next(), bytes: entry.bytes_so_far() }, newest));
        }
    }
    let more = cut.is_some_and(|(cut, _)| cut.offset < end);
    Ok((cut, more))
}
