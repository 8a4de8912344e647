//! Rows that speak of nothing any more go.

use crate::core::commands::Sweep;
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::SWEPT_ROWS_MAX;
use crate::core::rows::{AbortedKey, AbortedRow, PartitionRow, ProducerKey, Row};
use crate::types::PartitionId;
use std::collections::BTreeSet;

/// `SweepRows` (rule X4 in `spec/transactions.md`). A partition without a row is a deleted one, and its id never comes
/// back; the log start never goes back: what is dead stays dead, so it does not matter when the sweep was proposed. At most
/// [`SWEPT_ROWS_MAX`] rows of each kind count.
pub(super) fn sweep(rows: &mut Draft<'_>, dead: &Sweep) -> Result<(), Need> {
    let producers = || dead.producers.iter().take(SWEPT_ROWS_MAX);
    let aborted = || dead.aborted.iter().take(SWEPT_ROWS_MAX);
    let partitions: BTreeSet<PartitionId> =
        producers().map(|key| key.partition).chain(aborted().map(|key| key.partition)).collect();
    rows.require(partitions.iter().map(PartitionRow::key))?;
    let log_start =
        |partition: &PartitionId| Ok(rows.get::<PartitionRow>(partition)?.map(|row| row.log_start));
    let mut swept_producers: Vec<ProducerKey> = Vec::new();
    for key in producers() {
        if log_start(&key.partition)?.is_none() {
            swept_producers.push(key.clone());
        }
    }
    let mut swept_aborted: Vec<AbortedKey> = Vec::new();
    for key in aborted() {
        if log_start(&key.partition)?.is_none_or(|start| key.marker < start) {
            swept_aborted.push(key.clone());
        }
    }
    let compacted = || dead.compacted.iter().take(SWEPT_ROWS_MAX);
    rows.require(compacted().map(AbortedRow::key))?;
    for key in compacted() {
        if rows.get::<AbortedRow>(key)?.is_some() {
            swept_aborted.push(key.clone());
        }
    }
    if swept_producers.is_empty() && swept_aborted.is_empty() {
        return Ok(());
    }
    rows.state(Event::RowsSwept { producers: swept_producers, aborted: swept_aborted })
}
