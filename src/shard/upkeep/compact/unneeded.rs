//! Aborted ranges that nobody needs any more: compaction has left no record of those transactions (`spec/transactions.md`,
//! X4). Their rows go once what it has left is durable, and is what readers look at.

use super::pass::Pass;
use crate::core::limits::SWEPT_ROWS_MAX;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Command, Sweep};
use crate::store::{Database, ReadView, StoreError};
use crate::types::{BlockNumber, Offset, PartitionId};

/// See the module.
pub(super) struct Unneeded {
    partition: PartitionId,
    /// All records of transactions that were aborted by a marker below it are gone.
    below: Offset,
    /// How new a reader's view is at least that has that,
    age: u64,
    /// and the last block whose index entries were still as they had been appended: no layer may bring them back.
    block: BlockNumber,
    /// Where the next look begins.
    from: Vec<u8>,
}

impl Unneeded {
    /// By a pass that is at its end, as of a view of the store and the last block that was applied.
    pub(super) fn by(pass: &Pass, age: u64, block: BlockNumber) -> Unneeded {
        let below = if mutated(Mutant::AbortedRangeSweptTooEarly) { Offset(i64::MAX) } else { pass.end };
        Unneeded { partition: pass.partition, below, age, block, from: Vec::new() }
    }

    /// The commands that remove some of the rows, and what is left to be done.
    pub(super) fn sweep(
        mut self,
        view: &ReadView,
        store: &Database,
    ) -> Result<(Vec<Command>, Option<Unneeded>), StoreError> {
        let is_shown = view.age() >= self.age && view.layers_begin().is_none_or(|first| first > self.block);
        if !is_shown {
            return Ok((Vec::new(), Some(self)));
        }
        let found = view.aborted_below(self.partition, self.below, &self.from, SWEPT_ROWS_MAX)?;
        let mut commands = Vec::new();
        if !found.keys.is_empty() {
            // A crash must not bring the records back and leave the rows away.
            store.persist()?;
            commands.push(Command::Sweep(Sweep { compacted: found.keys, ..Sweep::default() }));
        }
        let left = found.next.map(|next| {
            self.from = next;
            self
        });
        Ok((commands, left))
    }
}
