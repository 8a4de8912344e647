//! Leader epochs (KIP-320). On one node there is one leader; but what it had may have been restored from a backup, and then
//! lacks what readers have read. Each restore begins a leader epoch, so that they find that out (`spec/transactions.md`, B6).

use crate::core::{LeaderEpochsRow, PartitionRow, RestoredRow};
use crate::store::{ReadView, StoreError};
use crate::types::{LeaderEpoch, Offset, PartitionId};
use crate::wire::ErrorCode;

/// What a client says when it knows of none.
const UNKNOWN: i32 = -1;

/// The leader epoch of all partitions.
pub(super) fn current(view: &ReadView) -> Result<LeaderEpoch, StoreError> {
    Ok(view.get::<RestoredRow>(&())?.map_or(LeaderEpoch(0), |restored| restored.leader_epoch))
}

/// Whether a client knows the leader as it is. One that knows an older one has not heard of a restore yet; one that knows a
/// newer one, of a later state of this log than this one.
pub(super) fn check(view: &ReadView, known: i32) -> Result<Result<(), ErrorCode>, StoreError> {
    Ok(if known == UNKNOWN { Ok(()) } else { compare(current(view)?, known) })
}

/// The same, where the leader epoch is at hand.
pub(super) fn compare(LeaderEpoch(current): LeaderEpoch, known: i32) -> Result<(), ErrorCode> {
    match known {
        UNKNOWN => Ok(()),
        _ if known < current => Err(ErrorCode::FencedLeaderEpoch),
        _ if known > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// The leader epoch in which the record at an offset is appended, or will be; −1 if that is not remembered.
pub(super) fn at(view: &ReadView, partition: PartitionId, offset: Offset) -> Result<i32, StoreError> {
    let epochs = view.get::<LeaderEpochsRow>(&partition)?.unwrap_or_default();
    Ok(epochs.at(offset).map_or(UNKNOWN, |epoch| epoch.0))
}

/// The newest epoch up to `asked` in which something was appended to a partition, and the offset behind it; none if there
/// has been no such epoch, or it is not remembered.
pub(super) fn end_of(
    view: &ReadView,
    partition: PartitionId,
    row: &PartitionRow,
    asked: LeaderEpoch,
) -> Result<Option<(LeaderEpoch, Offset)>, StoreError> {
    if asked < LeaderEpoch(0) || asked > current(view)? {
        return Ok(None);
    }
    let epochs = view.get::<LeaderEpochsRow>(&partition)?.unwrap_or_default();
    Ok(epochs.end_of(asked, row.next_offset))
}
