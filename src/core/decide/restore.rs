//! A log that was restored from a backup lacks what was acknowledged after it (`spec/transactions.md`, section 10). Nothing
//! can tell how much that was; so whoever may speak of it is known by its producer id, and is not taken at its word.

use crate::core::commands::Now;
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::{PRODUCER_IDS_PER_MILLISECOND_BITS, PRODUCER_IDS_SKIPPED};
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use uuid::Uuid;

/// `RestoreLog` (B1). The same restore again changes nothing.
pub(super) fn restore_log(rows: &mut Draft<'_>, now: Now, restore: Uuid) -> Result<(), Need> {
    let before = rows.get::<RestoredRow>(&())?;
    if before.is_some_and(|row| row.restore == restore) {
        return Ok(());
    }
    let leader_epoch = LeaderEpoch(before.map_or(0, |row| row.leader_epoch.0).saturating_add(1));
    let reserved = rows.get::<ProducerIdsRow>(&())?.map_or(ProducerId(0), |row| row.reserved_until);
    let ids_from = first_id_after(reserved, now.wall);
    rows.state(Event::LogRestored { restore, ids_from, leader_epoch })
}

/// A producer id above all that were ever given out, also by another restore of the same backup.
fn first_id_after(reserved: ProducerId, wall: Timestamp) -> ProducerId {
    let by_time = wall.0.clamp(0, i64::MAX >> PRODUCER_IDS_PER_MILLISECOND_BITS);
    let by_time = by_time << PRODUCER_IDS_PER_MILLISECOND_BITS;
    ProducerId(by_time.max(reserved.0.saturating_add(PRODUCER_IDS_SKIPPED)))
}

/// Whether a producer id is from before a restore: whoever has it may have been told of what is not there any more.
pub(super) fn predates_restore(rows: &Draft<'_>, id: ProducerId) -> Result<bool, Need> {
    let restored = rows.get::<RestoredRow>(&())?;
    Ok(restored.is_some_and(|row| id < row.ids_from) && !mutated(Mutant::RestoreForgotten))
}
