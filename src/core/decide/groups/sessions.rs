//! Sessions: how long members of groups may be silent. Volatile, and counted over all groups.

use crate::core::commands::Now;
use crate::core::draft::{Draft, Need};
use crate::core::limits::SESSIONS_MAX;
use crate::core::rows::*;
use std::time::Duration;

/// Begins a member's session anew: it ends `timeout` from now.
pub(super) fn keep(rows: &mut Draft<'_>, now: Now, member: MemberKey, timeout: Duration) -> Result<(), Need> {
    let timer = Timer::Member(member);
    if rows.get::<DeadlineRow>(&timer)?.is_none() {
        rows.update(&(), SessionsRow::default, |row| row.sessions += 1)?;
    }
    rows.put(&timer, DeadlineRow { deadline: now.served.plus(timeout) });
    Ok(())
}

/// Ends a member's session, if it has one.
pub(super) fn end(rows: &mut Draft<'_>, member: MemberKey) -> Result<(), Need> {
    let timer = Timer::Member(member);
    if rows.get::<DeadlineRow>(&timer)?.is_some() {
        rows.change(&(), |row: &mut SessionsRow| row.sessions = row.sessions.saturating_sub(1))?;
        rows.remove::<DeadlineRow>(&timer);
    }
    Ok(())
}

/// Whether there is room for one more.
pub(super) fn has_room(rows: &Draft<'_>) -> Result<bool, Need> {
    Ok(rows.get::<SessionsRow>(&())?.map_or(0, |row| row.sessions) < SESSIONS_MAX)
}

/// Whether the time of `timer` has come; not if it has been moved meanwhile.
pub(super) fn is_over(rows: &Draft<'_>, now: Now, timer: &Timer) -> Result<bool, Need> {
    Ok(rows.get::<DeadlineRow>(timer)?.is_some_and(|row| row.deadline <= now.served))
}
