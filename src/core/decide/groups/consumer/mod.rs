//! Groups of the consumer protocol (`spec/groups.md`, sections 10 to 16): the broker assigns, and each member takes steps
//! of its own towards its target. One file each for what a heartbeat does, for the target, for the assignors that make it,
//! for a member's step towards it, for leaving, for operators and offsets, for members of the classic protocol, and for how
//! a group goes from one protocol to the other.
//!
//! Whatever may be refused is refused before the first event is stated.

mod admin;
mod assignors;
mod classic;
mod heartbeat;
mod leave;
mod migrate;
mod reconcile;
mod target;

pub use admin::status;
pub(super) use admin::{delete, describe, expire, may_commit};
pub(super) use classic::{classic_heartbeat, classic_join, leave, sync};
pub(in crate::core::decide) use heartbeat::heartbeat;
pub(in crate::core::decide) use leave::expire_revocation;
pub(super) use leave::{expire_member, resume};
pub(super) use migrate::downgrade_for;

use super::{Stop, require_rows_of, sessions, settled};
use crate::core::commands::Now;
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::rows::*;
use crate::types::*;
use std::time::Duration;

/// A group of the consumer protocol in a decision.
struct ConsumerGroup<'d, 'v> {
    rows: &'d mut Draft<'v>,
    now: Now,
    id: &'d GroupId,
}

impl<'d, 'v> ConsumerGroup<'d, 'v> {
    fn new(rows: &'d mut Draft<'v>, now: Now, id: &'d GroupId) -> Result<ConsumerGroup<'d, 'v>, Need> {
        require_rows_of(rows, id)?;
        Ok(ConsumerGroup { rows, now, id })
    }

    fn row(&self) -> Result<Option<&ConsumerGroupRow>, Need> {
        self.rows.get::<ConsumerGroupRow>(self.id)
    }

    /// Who the members are; none if nobody is left.
    fn members(&self) -> Result<Option<&ConsumersRow>, Need> {
        self.rows.get::<ConsumersRow>(self.id)
    }

    fn member(&self, id: &MemberId) -> Result<Option<&ConsumerRow>, Need> {
        match self.members()?.is_some_and(|row| row.members.contains(id)) {
            true => self.rows.get::<ConsumerRow>(&self.key(id)),
            false => Ok(None),
        }
    }

    /// Every member, with its row.
    fn everybody(&self) -> Result<Vec<(&MemberId, &ConsumerRow)>, Need> {
        let Some(row) = self.members()? else { return Ok(Vec::new()) };
        self.rows.require(row.members.iter().map(|id| ConsumerRow::key(&self.key(id))))?;
        let mut everybody = Vec::with_capacity(row.members.len());
        for id in &row.members {
            everybody.extend(self.rows.get::<ConsumerRow>(&self.key(id))?.map(|member| (id, member)));
        }
        Ok(everybody)
    }

    /// Who bears an instance id.
    fn bearer(&self, instance: &InstanceId) -> Result<Option<MemberId>, Need> {
        Ok(self.members()?.and_then(|row| row.instances.get(instance)).cloned())
    }

    fn key(&self, member: &MemberId) -> MemberKey {
        MemberKey { group: self.id.clone(), member: member.clone() }
    }

    fn keep_session(&mut self, member: &MemberId, timeout: Duration) -> Result<(), Need> {
        sessions::keep(self.rows, self.now, self.key(member), timeout)
    }

    /// Nothing is waited for of this member id any more.
    fn forget_deadlines(&mut self, member: &MemberId) -> Result<(), Need> {
        self.rows.remove::<DeadlineRow>(&Timer::Revocation(self.key(member)));
        sessions::end(self.rows, self.key(member))
    }

    fn state(&mut self, event: Event) -> Result<(), Need> {
        self.rows.state(event)
    }
}
