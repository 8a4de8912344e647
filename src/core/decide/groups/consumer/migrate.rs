//! From one protocol to the other (`spec/groups.md`, section 16).

use super::{ConsumerGroup, Stop};
use crate::core::commands::{ConsumerHeartbeat, GroupStatus, Now, Refusal};
use crate::core::decide::groups::Group;
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::types::*;

/// U2: a group without members is a classic one from now on, whose generation goes on from the epoch.
pub(in crate::core::decide::groups) fn downgrade_empty(
    rows: &mut Draft<'_>,
    now: Now,
    id: &GroupId,
) -> Result<(), Need> {
    let mut group = ConsumerGroup::new(rows, now, id)?;
    let Some(epoch) = group.row()?.map(|row| row.epoch) else { return Ok(()) };
    group.state(Event::GroupDowngraded {
        group: id.clone(),
        generation: Generation(epoch.0),
        protocol: String::new(),
        leader: MemberId::new(""),
        members: Vec::new(),
    })
}

impl ConsumerGroup<'_, '_> {
    /// U1: the epoch with which the group begins if it is not one of this protocol yet; refused if it cannot become one.
    pub(super) fn begins_at(&mut self, beat: &ConsumerHeartbeat) -> Result<GroupEpoch, Stop> {
        if self.row()?.is_some() {
            return Ok(GroupEpoch::default());
        }
        let classic = Group::new(self.rows, self.now, self.id)?;
        match classic.status()? {
            GroupStatus::Dead | GroupStatus::Empty if beat.epoch != GroupEpoch::JOIN => {
                Err(Refusal::UnknownMember.into())
            }
            GroupStatus::Dead => Ok(GroupEpoch::default()),
            GroupStatus::Empty => Ok(GroupEpoch(classic.generation()?.0)),
            _ => Err(Refusal::GroupNotFound.into()),
        }
    }

    /// U1: an empty classic group is one of this protocol from now on. (One that never was anything needs no event.)
    pub(super) fn upgrade_empty(&mut self, begins_at: GroupEpoch) -> Result<(), Need> {
        if self.row()?.is_some() || begins_at == GroupEpoch::default() {
            return Ok(());
        }
        self.state(Event::GroupUpgraded { group: self.id.clone(), epoch: begins_at, members: Vec::new() })
    }
}
