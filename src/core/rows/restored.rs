//! What a restore from a backup leaves behind (`spec/transactions.md`, section 10).

use crate::codec;
use crate::core::limits::LEADER_EPOCHS_MAX;
use crate::types::*;
use uuid::Uuid;

/// That the log was restored: what happened between the backup and the restore is not in it, and was acknowledged all the
/// same. There is no such row as long as that never happened.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredRow {
    /// The last restore. Done twice it counts once.
    pub restore: Uuid,
    /// Every producer id below may have been given out before it: what is said under such an id may speak of what is gone.
    pub ids_from: ProducerId,
    /// The leader epoch of what is appended from then on: how often the log has been restored.
    pub leader_epoch: LeaderEpoch,
}
codec!(RestoredRow { restore, ids_from, leader_epoch });

/// Where a partition's leader epochs begin, from the first restore on: each with the offset of its first batch. An epoch in
/// which nothing was appended is not there; epoch 0 begins where the log does.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeaderEpochsRow {
    /// Oldest first; at most [`LEADER_EPOCHS_MAX`].
    pub begins: Vec<(LeaderEpoch, Offset)>,
}
codec!(LeaderEpochsRow { begins });

impl LeaderEpochsRow {
    /// A batch of `epoch` is appended at `offset`.
    pub fn reach(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.begins.last().is_some_and(|(newest, _)| *newest >= epoch) {
            return;
        }
        if self.begins.len() >= LEADER_EPOCHS_MAX {
            self.begins.remove(0);
        }
        self.begins.push((epoch, offset));
    }

    /// The epoch in which the record at an offset is appended, or will be. None if that is not remembered any more.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let begun = self.begins.iter().rev().find(|(_, begin)| *begin <= offset);
        begun.map(|(epoch, _)| *epoch).or(self.first())
    }

    /// The epoch before those that are listed, if that is the log's first one.
    fn first(&self) -> Option<LeaderEpoch> {
        (self.begins.len() < LEADER_EPOCHS_MAX).then_some(LeaderEpoch(0))
    }

    /// The newest epoch up to `asked` in which something was appended, and the offset behind it (KIP-320). `end` is the
    /// partition's next offset. None if it cannot be told any more.
    #[must_use]
    pub fn end_of(&self, asked: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let behind = self.begins.iter().position(|(epoch, _)| *epoch > asked);
        let offset = behind.and_then(|next| self.begins.get(next)).map_or(end, |(_, begin)| *begin);
        let before = self.begins.get(..behind.unwrap_or(self.begins.len())).unwrap_or_default();
        let epoch = before.last().map(|(epoch, _)| *epoch).or(self.first())?;
        Some((epoch, offset))
    }
}
