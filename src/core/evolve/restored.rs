//! What a restore changes, then and with each batch after it.

use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::{Offset, PartitionId};

pub(super) fn log_restored(rows: &mut Draft<'_>, event: &Event) -> Result<(), Need> {
    let Event::LogRestored { restore, ids_from, leader_epoch } = event else { return Ok(()) };
    let restored = RestoredRow { restore: *restore, ids_from: *ids_from, leader_epoch: *leader_epoch };
    if !mutated(Mutant::IdsReusedAfterRestore) {
        rows.put(&(), ProducerIdsRow { reserved_until: restored.ids_from });
        rows.remove::<NextProducerIdRow>(&());
    }
    rows.put(&(), restored);
    Ok(())
}

/// A batch is appended: the first one after a restore begins a leader epoch.
pub(super) fn appended(rows: &mut Draft<'_>, partition: PartitionId, at: Offset) -> Result<(), Need> {
    let Some(epoch) = rows.get::<RestoredRow>(&())?.map(|row| row.leader_epoch) else { return Ok(()) };
    let reached = |row: &LeaderEpochsRow| row.begins.last().is_some_and(|(newest, _)| *newest >= epoch);
    if rows.get::<LeaderEpochsRow>(&partition)?.is_some_and(reached) {
        return Ok(());
    }
    rows.update(&partition, LeaderEpochsRow::default, |row| row.reach(epoch, at))
}

pub(super) fn deleted(
    rows: &mut Draft<'_>,
    partitions: impl Iterator<Item = PartitionId>,
) -> Result<(), Need> {
    if rows.get::<RestoredRow>(&())?.is_some() {
        partitions.for_each(|partition| rows.remove::<LeaderEpochsRow>(&partition));
    }
    Ok(())
}
