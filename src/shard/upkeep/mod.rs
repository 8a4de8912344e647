//! Upkeep: work over many rows that the broker does by itself, in small turns, on a thread of its own.
//!
//! Each duty is a file here. It looks at a bounded part of the published view and *proposes* commands, which go through the
//! shard's queue like any client's and are decided there again; so it may work on what is already old, and everything goes
//! on the same after a crash. Where a duty goes on looking is its own, in memory only. What a duty must never do: hold up
//! anybody, keep what grows, or rely on having seen everything.

mod backup;
mod compact;
mod expire;
mod expire_offsets;
mod forget_keys;
mod free;
mod ground;
mod move_live;
mod pressure;
mod retention;
mod round;
mod snapshot;
mod survey;
mod sweep;
mod trim;
mod wall_clock;

use super::applier::{Signal, Signals};
use super::handle::{Origin, Shard, ShardStopped};
use super::ports::Clock;
use super::start::StopReason;
use crate::core::{Command, Now};
use crate::store::{ReadView, StoreError};
use crate::types::ConnectionId;
use std::time::Duration;
use tokio::time::Instant;

pub(super) use backup::TakeBackups;
pub(super) use compact::Compact;
pub(super) use expire::ExpireIdle;
pub(super) use expire_offsets::ExpireOffsets;
pub(super) use forget_keys::ForgetKeys;
pub(super) use free::FreeSegments;
pub(super) use ground::{Ground, GroundStart};
pub(super) use move_live::MoveLive;
pub(super) use pressure::{Pressure, WatchSpace};
pub(super) use retention::Retention;
pub(super) use snapshot::TakeSnapshots;
pub(super) use survey::SurveySpace;
pub(super) use sweep::SweepRows;
pub(super) use trim::TrimIndex;

/// The connection that commands of the upkeep come from: no client has it.
const UPKEEP_CONNECTION: ConnectionId = ConnectionId(u64::MAX - 1);

/// Commands that one turn may propose: so many are in the queue at once beside those of clients.
pub(super) const COMMANDS_PER_TURN_MAX: usize = 64;

/// What one turn of a duty has come to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// What is to be asked of the shard; of more than [`COMMANDS_PER_TURN_MAX`] the rest is dropped.
    pub(super) commands: Vec<Command>,
    /// Whether more work is at hand: then the next turn follows at once, else after the duty's period.
    pub(super) more: bool,
}

/// A piece of work that is never finished.
pub(super) trait Duty: Send {
    /// What it is called in logs and metrics.
    fn name(&self) -> &'static str;
    /// How long it rests when there is nothing more to do.
    fn period(&self) -> Duration;
    /// Does or proposes a bounded amount of work.
    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError>;
}

/// The duties, and when each is due.
pub(super) struct Upkeep {
    shard: Shard,
    clock: Clock,
    duties: Vec<(Instant, Box<dyn Duty>)>,
    origin: Origin,
}

impl Upkeep {
    pub(super) fn new(shard: Shard, clock: Clock, duties: Vec<Box<dyn Duty>>) -> Upkeep {
        let begun = Instant::now();
        let duties = duties.into_iter().map(|duty| (begun + duty.period(), duty)).collect();
        Upkeep { shard, clock, duties, origin: Origin::new(UPKEEP_CONNECTION) }
    }

    /// Goes on until the shard stops.
    pub(super) async fn run(mut self, signals: Signals) {
        loop {
            let Some(due) = self.duties.iter().map(|(due, _)| *due).min() else { return };
            tokio::select! {
                biased;
                () = self.shard.stopped() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            let Some((at, duty)) = self.duties.iter_mut().min_by_key(|(due, _)| *due) else { return };
            let turn = match duty.turn(&self.shard.view(), self.clock.now()) {
                Ok(turn) => turn,
                Err(error) => {
                    tracing::error!(duty = duty.name(), %error, "the rows cannot be kept up");
                    let _ = signals.send(Signal::Failed(StopReason::Store(error)));
                    return;
                }
            };
            // Behind those that are due by now, so that no duty keeps the others waiting.
            *at = Instant::now() + if turn.more { Duration::ZERO } else { duty.period() };
            if ask(&self.shard, &self.origin, turn.commands).await.is_err() {
                return;
            }
        }
    }
}

/// Asks, and waits until all of it is durable: the next turn sees what became of this one.
async fn ask(shard: &Shard, origin: &Origin, commands: Vec<Command>) -> Result<(), ShardStopped> {
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands.into_iter().take(COMMANDS_PER_TURN_MAX) {
        answers.push(shard.ask(origin, command, Vec::new()).await?);
    }
    for answer in answers {
        // A proposal that is refused was old.
        let _ = answer.await?;
    }
    Ok(())
}
