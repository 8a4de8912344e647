//! Which partitions are worth being compacted, and how far they may be.

use super::pass::Pass;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Now, PartitionRow, TopicRow};
use crate::store::{ReadView, StoreError};
use crate::types::{Offset, PartitionId, Timestamp};

/// A pass over a partition, if there is enough to do; with a key map of at most `map_bytes`. Without a wall time nothing is
/// old enough where that is asked for, and nothing has waited too long.
pub(super) fn find(
    view: &ReadView,
    topic: &TopicRow,
    partition: PartitionId,
    now: Now,
    (wall, map_bytes): (Option<Timestamp>, usize),
) -> Result<Option<Pass>, StoreError> {
    let Some(row) = view.get::<PartitionRow>(&partition)? else { return Ok(None) };
    let known = view.compaction(partition)?.unwrap_or_default();
    let from = known.cleaned_to.max(row.log_start);
    let Some(end) = end(view, topic, &row, partition, from, wall)? else { return Ok(None) };
    let Some((_, first)) = view.index(partition, from).next().transpose()? else { return Ok(None) };
    let bytes_below = |offset| Ok(view.cut_at(partition, offset)?.map_or(row.totals.bytes, |cut| cut.bytes));
    let clean_end = bytes_below(from)?;
    let dirty = bytes_below(end)?.saturating_sub(clean_end);
    let clean = clean_end.saturating_sub(row.bytes_below_start).saturating_sub(known.removed_bytes);
    let must = |wall| topic.must_be_compacted(first.max_timestamp, wall);
    if !topic.is_dirty(dirty, clean) && !wall.is_some_and(must) {
        return Ok(None);
    }
    let mut forgets_below = known.forgets_below(now.served, topic.delete_retention());
    if mutated(Mutant::TombstoneForgottenAtOnce) {
        forgets_below = end;
    }
    Ok(Some(Pass::new(partition, (row.log_start, from, end), forgets_below, map_bytes)))
}

/// Up to where a partition may be compacted, if that is above `from`. Nothing at or above the last stable offset is decided.
/// The last batch below it stays as it is: so behind every gap there is something to be read, and who reads up to an
/// offset gets there.
fn end(
    view: &ReadView,
    topic: &TopicRow,
    row: &PartitionRow,
    partition: PartitionId,
    from: Offset,
    wall: Option<Timestamp>,
) -> Result<Option<Offset>, StoreError> {
    let stable = if mutated(Mutant::CompactsUndecided) { row.next_offset } else { row.last_stable_offset() };
    if stable <= from {
        return Ok(None);
    }
    let Some((_, last)) = view.index(partition, Offset(stable.0 - 1)).next().transpose()? else {
        return Ok(None);
    };
    let mut end = last.base_offset;
    if mutated(Mutant::LastBatchCompacted) {
        end = stable;
    }
    if topic.min_compaction_lag().is_some() && wall.is_none() {
        return Ok(None);
    }
    if let Some(until) = wall.and_then(|wall| topic.compacted_until(wall))
        && let Some((_, too_new)) = view.first_since(partition, &(from..end), Timestamp(until.0 + 1))?
    {
        end = end.min(too_new.base_offset);
    }
    Ok((end > from).then_some(end))
}
