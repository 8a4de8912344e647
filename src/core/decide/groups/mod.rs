//! Groups (`spec/groups.md`). Of the classic protocol: members join, are assigned, live and leave. One file for each of
//! these; this one knows what a classic group is, whichever of its rows says so. Groups of the consumer protocol are in
//! `consumer`; what concerns groups of both asks there first.
//!
//! The durable rows hold the newest generation. A rebalance is volatile: it is in the [`RebalanceRow`], together with the
//! numbers of the requests that wait for it.

mod admin;
mod consumer;
mod expire;
mod join;
mod leave;
mod rebalance;
mod sessions;
mod sync;

pub(super) use admin::{delete_group, describe, forget_offsets, may_commit};
pub(super) use consumer::expire_revocation;
pub(super) use consumer::heartbeat as consumer_heartbeat;
pub use consumer::status as consumer_group_status;
pub use expire::{GroupUse, may_expire};
pub(super) use expire::{expire_group_row, expire_offsets};
pub(super) use join::join;
pub(super) use leave::{expire_member, leave};
pub(super) use rebalance::expire_group;
pub(super) use sync::{heartbeat, sync};

use crate::core::commands::{GroupMember, GroupStatus, Now, Refusal, Reply};
use crate::core::draft::{Draft, Need};
use crate::core::limits::GROUP_ID_BYTES_MAX;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::time::Duration;

/// Why a decision about a group goes no further: rows are missing, or the request is refused.
enum Stop {
    Need(Need),
    Refuse(Refusal),
}

impl From<Need> for Stop {
    fn from(need: Need) -> Stop {
        Stop::Need(need)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refuse(refusal)
    }
}

/// A refusal is an answer; only missing rows stop the decision.
fn settled<T>(result: Result<T, Stop>) -> Result<Result<T, Refusal>, Need> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refuse(refusal)) => Ok(Err(refusal)),
        Err(Stop::Need(need)) => Err(need),
    }
}

/// What says which protocol a group is of, and who its members are: in one round.
fn require_rows_of(rows: &Draft<'_>, id: &GroupId) -> Result<(), Need> {
    let classic = [GroupRow::key(id), MembersRow::key(id)];
    rows.require(classic.into_iter().chain([
        ConsumerGroupRow::key(id),
        ConsumersRow::key(id),
        PatternsRow::key(id),
    ]))
}

/// A group of the classic protocol in a decision.
struct Group<'d, 'v> {
    rows: &'d mut Draft<'v>,
    now: Now,
    id: &'d GroupId,
}

impl<'d, 'v> Group<'d, 'v> {
    fn new(rows: &'d mut Draft<'v>, now: Now, id: &'d GroupId) -> Result<Group<'d, 'v>, Need> {
        require_rows_of(rows, id)?;
        Ok(Group { rows, now, id })
    }

    fn row(&self) -> Result<Option<&GroupRow>, Need> {
        self.rows.get::<GroupRow>(self.id)
    }

    /// The newest generation's members; none if nobody is left of it.
    fn members(&self) -> Result<Option<&MembersRow>, Need> {
        self.rows.get::<MembersRow>(self.id)
    }

    fn rebalance(&self) -> Result<Option<&RebalanceRow>, Need> {
        self.rows.get::<RebalanceRow>(self.id)
    }

    fn joining(&self) -> Result<Option<&Joining>, Need> {
        Ok(self.rebalance()?.and_then(|row| row.joining.as_ref()))
    }

    /// Changes the rebalance; the row goes when nobody takes part any more.
    fn change_rebalance<T>(&mut self, change: impl FnOnce(&mut RebalanceRow) -> T) -> Result<T, Need> {
        let mut row = self.rebalance()?.cloned().unwrap_or_default();
        let before = row.weight();
        let result = change(&mut row);
        sessions::weigh_rebalance(self.rows, before, row.weight())?;
        if row.is_idle() {
            self.rows.remove::<RebalanceRow>(self.id);
        } else {
            self.rows.put(self.id, row);
        }
        Ok(result)
    }

    fn status(&self) -> Result<GroupStatus, Need> {
        if self.joining()?.is_some() {
            return Ok(GroupStatus::PreparingRebalance);
        }
        Ok(self.row()?.map_or(GroupStatus::Dead, |row| row.state.into()))
    }

    fn generation(&self) -> Result<Generation, Need> {
        Ok(self.row()?.map_or(Generation(0), |row| row.generation))
    }

    /// The members' protocol type; while a generation is formed, that of those who have joined it (J2).
    fn protocol_type(&self) -> Result<String, Need> {
        Ok(match (self.joining()?, self.row()?) {
            (Some(joining), _) => joining.protocol_type.clone(),
            (None, Some(row)) => row.protocol_type.clone(),
            (None, None) => String::new(),
        })
    }

    /// A member, as it was when it last joined.
    fn member(&self, id: &MemberId) -> Result<Option<&Member>, Need> {
        if let Some(joiner) = self.joining()?.and_then(|joining| joining.joined.get(id)) {
            return Ok(Some(&joiner.member));
        }
        Ok(self.members()?.and_then(|row| row.members.get(id)))
    }

    /// Every member, as it was when it last joined.
    fn everybody(&self) -> Result<Vec<(&MemberId, &Member)>, Need> {
        let joining = self.joining()?;
        let joined = joining.iter().flat_map(|joining| &joining.joined);
        let others = self.members()?.into_iter().flat_map(|row| &row.members);
        let others = others.filter(|(id, _)| joining.is_none_or(|joining| !joining.joined.contains_key(*id)));
        Ok(joined.map(|(id, joiner)| (id, &joiner.member)).chain(others).collect())
    }

    /// Who bears an instance id.
    fn bearer(&self, instance: &InstanceId) -> Result<Option<MemberId>, Need> {
        let everybody = self.everybody()?.into_iter();
        let bears = |member: &Member| member.instance.as_ref() == Some(instance);
        Ok(everybody.filter(|(_, member)| bears(member)).map(|(id, _)| id.clone()).next())
    }

    fn is_pending(&self, id: &MemberId) -> Result<bool, Need> {
        Ok(self.rebalance()?.is_some_and(|row| row.pending.contains(id)))
    }

    /// M2: the member exists, and bears the instance id it names.
    fn check_member(&self, id: &MemberId, instance: Option<&InstanceId>) -> Result<(), Stop> {
        if let Some(instance) = instance {
            match self.bearer(instance)? {
                None => return Err(Refusal::UnknownMember.into()),
                Some(bearer) if bearer != *id => return Err(Refusal::FencedInstance.into()),
                Some(_) => {}
            }
        }
        match self.member(id)? {
            Some(_) => Ok(()),
            None => Err(Refusal::UnknownMember.into()),
        }
    }

    /// M2 and M3: the member exists, and is of the newest generation.
    fn check_generation(&self, claim: &GroupMember) -> Result<(), Stop> {
        self.check_member(&claim.member, claim.instance.as_ref())?;
        // Who has only joined the next generation is not of this one.
        let belongs = self.members()?.is_some_and(|row| row.members.contains_key(&claim.member));
        let newest = claim.generation == self.generation()? || mutated(Mutant::OldGenerationCommits);
        if !belongs || !newest {
            return Err(Refusal::IllegalGeneration.into());
        }
        Ok(())
    }

    fn keep_session(&mut self, member: &MemberId, timeout: Duration) -> Result<(), Need> {
        sessions::keep(self.rows, self.now, self.key(member), timeout)
    }

    fn end_session(&mut self, member: &MemberId) -> Result<(), Need> {
        sessions::end(self.rows, self.key(member))
    }

    fn key(&self, member: &MemberId) -> MemberKey {
        MemberKey { group: self.id.clone(), member: member.clone() }
    }

    fn timer(&self, member: &MemberId) -> Timer {
        Timer::Member(self.key(member))
    }

    /// Answers a request that waits for its generation.
    fn refuse_joiner(&mut self, joiner: &Joiner, refusal: Refusal) {
        self.rows.answer(joiner.request, Reply::Joined(Err(refusal)));
    }

    /// Answers a request that waits for its assignment.
    fn refuse_syncing(&mut self, request: RequestId, refusal: Refusal) {
        self.rows.answer(request, Reply::Synced(Err(refusal)));
    }
}

/// A group id that fits into a row's key.
fn check_name(group: &GroupId) -> Result<(), Refusal> {
    if group.as_str().len() > GROUP_ID_BYTES_MAX { Err(Refusal::InvalidName) } else { Ok(()) }
}
