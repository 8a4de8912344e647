//! Looks whether an index agrees with itself, with what is known of partitions, and with what is known of transactions.

use crate::core::{Outcome, PartitionRow, Totals};
use crate::store::{IndexEntry, IndexKind, ReadView, StoreError};
use crate::types::{Offset, PartitionId, ProducerId};
use std::collections::BTreeMap;

/// What is wrong with the index, at most one thing of a partition, and so many in all.
pub(super) fn what_is_odd(view: &ReadView, count_max: usize) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    for partition in view.all_partitions() {
        let (partition, row) = partition?;
        let checks = [sums_of, removed_of, transactions_of];
        for check in checks {
            if let Some(problem) = check(view, partition, &row)? {
                problems.push(format!("partition {partition}: {problem}"));
                break;
            }
        }
        if problems.len() >= count_max {
            break;
        }
    }
    Ok(problems)
}

/// Each offset is in the index once, and the batches add up: what is before a batch is what was before the one before it, and
/// that. What compaction has written says what it stands for.
fn sums_of(
    view: &ReadView,
    partition: PartitionId,
    row: &PartitionRow,
) -> Result<Option<String>, StoreError> {
    let mut before: Option<(Offset, IndexEntry)> = None;
    for entry in view.index(partition, row.log_start) {
        let (last, entry) = entry?;
        let fits = match &before {
            None => {
                let within = entry.before.bytes..=entry.bytes_so_far();
                entry.base_offset <= row.log_start && within.contains(&row.bytes_below_start)
            }
            Some((before_last, before)) => {
                entry.base_offset == before_last.next() && adds_up(before, entry.before)
            }
        };
        if !fits {
            return Ok(Some(format!("the batches before offset {last} do not add up")));
        }
        before = Some((last, entry));
    }
    let fits = match &before {
        None => row.bytes_below_start == row.totals.bytes,
        Some((_, last)) => adds_up(last, row.totals),
    };
    Ok((!fits).then(|| "its batches do not add up to its totals".to_owned()))
}

/// Whether `after` is what the totals are behind an entry. Where compaction has taken records away, theirs may have been the
/// newest time.
fn adds_up(entry: &IndexEntry, after: Totals) -> bool {
    let newest = entry.before.newest.max(entry.max_timestamp);
    let in_time =
        if entry.kind.cleaned().is_some() { after.newest >= newest } else { after.newest == newest };
    entry.bytes_so_far() == after.bytes && in_time
}

/// What compaction is said to have taken away is what it has.
fn removed_of(
    view: &ReadView,
    partition: PartitionId,
    _row: &PartitionRow,
) -> Result<Option<String>, StoreError> {
    let told = view.compaction(partition)?.map_or(0, |row| row.removed_bytes);
    let mut found = 0_u64;
    for entry in view.index(partition, Offset::ZERO) {
        found = found.saturating_add(entry?.1.removed_bytes());
    }
    let problem = || format!("compaction has taken away {found} bytes, and is said to have taken {told}");
    Ok((told != found).then(problem))
}

/// Behind the records of each transaction that has ended there is its marker, and where it was aborted, that is known: so no
/// reader of committed records gets them. Compaction keeps the marker of a transaction that has records.
fn transactions_of(
    view: &ReadView,
    partition: PartitionId,
    row: &PartitionRow,
) -> Result<Option<String>, StoreError> {
    // What lies before a marker: where it begins, and whether compaction has been there, which leaves only what was committed.
    let mut open: BTreeMap<ProducerId, (Offset, bool)> = BTreeMap::new();
    for entry in view.index(partition, row.log_start) {
        let (last, entry) = entry?;
        match entry.kind {
            IndexKind::Transactional { producer } | IndexKind::Rewritten { producer: Some(producer), .. } => {
                let records = open.entry(producer).or_insert((entry.base_offset, false));
                records.1 |= entry.kind.cleaned().is_some();
            }
            IndexKind::Marker { producer, outcome } => {
                let Some((first, is_rewritten)) = open.remove(&producer) else { continue };
                let aborted = view.next_aborted(partition, producer, first)?;
                let is_aborted = aborted.is_some_and(|(from, marker)| from <= first && marker == last);
                if is_aborted != (outcome == Outcome::Abort) || (is_aborted && is_rewritten) {
                    return Ok(Some(format!(
                        "the marker at offset {last} does not say what is known of the transaction before it"
                    )));
                }
            }
            IndexKind::Plain | IndexKind::Rewritten { producer: None, .. } | IndexKind::Gap { .. } => {}
        }
    }
    let stable = row.last_stable_offset();
    let lost = open.into_iter().find(|(_, (first, _))| *first < stable);
    Ok(lost.map(|(producer, (first, _))| {
        format!("the transaction of producer {producer} from offset {first} on has ended, and has no marker")
    }))
}
