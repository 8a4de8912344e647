//! Sessions: how long members of groups may be silent. Volatile, and counted over all groups; so is what waits in rebalances.

use super::Stop;
use crate::core::commands::{GroupLimit, Now, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::limits::{REBALANCES_BYTES_MAX, SESSIONS_BYTES_MAX, SESSIONS_MAX};
use crate::core::rows::*;
use std::time::Duration;

/// Begins a member's session anew: it ends `timeout` from now.
pub(super) fn keep(rows: &mut Draft<'_>, now: Now, member: MemberKey, timeout: Duration) -> Result<(), Need> {
    let bytes = member.weight() as u64;
    let timer = Timer::Member(member);
    if rows.get::<DeadlineRow>(&timer)?.is_none() {
        rows.update(&(), SessionsRow::default, |row| {
            row.sessions += 1;
            row.bytes += bytes;
        })?;
    }
    rows.put(&timer, DeadlineRow { deadline: now.served.plus(timeout) });
    Ok(())
}

/// Ends a member's session, if it has one.
pub(super) fn end(rows: &mut Draft<'_>, member: MemberKey) -> Result<(), Need> {
    let bytes = member.weight() as u64;
    let timer = Timer::Member(member);
    if rows.get::<DeadlineRow>(&timer)?.is_some() {
        rows.change(&(), |row: &mut SessionsRow| {
            row.sessions = row.sessions.saturating_sub(1);
            row.bytes = row.bytes.saturating_sub(bytes);
        })?;
        rows.remove::<DeadlineRow>(&timer);
    }
    Ok(())
}

/// J1: one more session fits among those of all groups.
pub(super) fn check_room(rows: &Draft<'_>, member: &MemberKey) -> Result<(), Stop> {
    let row = rows.get::<SessionsRow>(&())?.copied().unwrap_or_default();
    let bytes = row.bytes.saturating_add(member.weight() as u64);
    match row.sessions >= SESSIONS_MAX || bytes > SESSIONS_BYTES_MAX as u64 {
        true => Err(Refusal::GroupFull(GroupLimit::Sessions).into()),
        false => Ok(()),
    }
}

/// J1: so many more bytes fit among what waits in the rebalances of all groups.
pub(super) fn check_rebalances(rows: &Draft<'_>, more: usize) -> Result<(), Stop> {
    let waiting = rows.get::<SessionsRow>(&())?.map_or(0, |row| row.rebalances_bytes);
    match waiting.saturating_add(more as u64) > REBALANCES_BYTES_MAX as u64 {
        true => Err(Refusal::GroupFull(GroupLimit::Rebalances).into()),
        false => Ok(()),
    }
}

/// What waits in a rebalance has been so many bytes, and is now so many.
pub(super) fn weigh_rebalance(rows: &mut Draft<'_>, before: usize, after: usize) -> Result<(), Need> {
    if before == after {
        return Ok(());
    }
    rows.update(&(), SessionsRow::default, |row| {
        let others = row.rebalances_bytes.saturating_sub(before as u64);
        row.rebalances_bytes = others.saturating_add(after as u64);
    })
}

/// Whether the time of `timer` has come; not if it has been moved meanwhile.
pub(super) fn is_over(rows: &Draft<'_>, now: Now, timer: &Timer) -> Result<bool, Need> {
    Ok(rows.get::<DeadlineRow>(timer)?.is_some_and(|row| row.deadline <= now.served))
}
