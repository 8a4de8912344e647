//! A member's step towards its target (`spec/groups.md`, section 14).

use super::ConsumerGroup;
use crate::core::draft::Need;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;
use std::time::Duration;

impl ConsumerGroup<'_, '_> {
    /// What a member holds after its next step from `start`. `owned` is what it says that it owns.
    pub(super) fn reconciled(
        &self,
        member: &MemberId,
        start: &Holding,
        owned: Option<&BTreeSet<PartitionId>>,
    ) -> Result<Holding, Need> {
        let epoch = self.row()?.map_or(start.epoch, |row| row.target_epoch);
        let Some(target) = self.member(member)?.map(|row| &row.target) else { return Ok(start.clone()) };
        let wanted: BTreeSet<PartitionId> = target.difference(&start.assigned).copied().collect();
        let free = self.free(member, wanted)?;
        Ok(next(start, target, epoch, owned, &free))
    }

    /// Of these partitions, those that nobody but the member holds.
    pub(super) fn free(
        &self,
        member: &MemberId,
        mut wanted: BTreeSet<PartitionId>,
    ) -> Result<BTreeSet<PartitionId>, Need> {
        if wanted.is_empty() || mutated(Mutant::AssignedBeforeRevoked) {
            return Ok(wanted);
        }
        for (_, other) in self.everybody()?.into_iter().filter(|(id, _)| *id != member) {
            wanted.retain(|partition| !other.held.holds(partition));
        }
        Ok(wanted)
    }

    /// A member that has been told to revoke something has its rebalance timeout for that (C7).
    pub(super) fn await_revocation(
        &mut self,
        member: &MemberId,
        before: &Holding,
        after: &Holding,
        timeout: Duration,
    ) -> Result<(), Need> {
        let timer = Timer::Revocation(self.key(member));
        let waits = self.rows.get::<DeadlineRow>(&timer)?.is_some();
        if after.revoking.is_empty() {
            if waits {
                self.rows.remove::<DeadlineRow>(&timer);
            }
        } else if !waits || before.revoking != after.revoking {
            self.rows.put(&timer, DeadlineRow { deadline: self.now.served.plus(timeout) });
        }
        Ok(())
    }
}

/// K1 to K3.
fn next(
    start: &Holding,
    target: &BTreeSet<PartitionId>,
    epoch: GroupEpoch,
    owned: Option<&BTreeSet<PartitionId>>,
    free: &BTreeSet<PartitionId>,
) -> Holding {
    let has_revoked = |revoking: &BTreeSet<PartitionId>| {
        revoking.is_empty()
            || owned.is_some_and(|owned| owned.is_disjoint(revoking))
            || mutated(Mutant::RevocationNotAwaited)
    };
    if !has_revoked(&start.revoking) {
        return start.clone();
    }
    let revoking: BTreeSet<PartitionId> = start.assigned.difference(target).copied().collect();
    let kept: BTreeSet<PartitionId> = start.assigned.intersection(target).copied().collect();
    if !has_revoked(&revoking) {
        return Holding { assigned: kept, revoking, ..start.clone() };
    }
    Holding {
        epoch,
        previous: if epoch == start.epoch { start.previous } else { start.epoch },
        assigned: kept.into_iter().chain(free.iter().copied()).collect(),
        revoking: BTreeSet::new(),
    }
}
