//! Removes rows of deleted topics, and aborted ranges below the log start (rule X4): slice by slice, each a decision of its
//! own. Index entries, which no decision reads, are removed elsewhere.

use super::{Duty, Turn};
use crate::core::limits::SWEPT_ROWS_MAX;
use crate::core::{Command, Now, Sweep};
use crate::store::{DeadRows, ReadView, Removed, StoreError, Swept};
use crate::types::BlockNumber;
use std::time::Duration;

/// How long to rest after a round that found nothing. What is dead does no harm but take space.
const PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct SweepRows {
    aborted: bool,
    /// Where the next look begins.
    from: Vec<u8>,
    /// The view in which the round began, and in which the last one that found nothing did: nothing dies on its own.
    began: BlockNumber,
    swept: Option<BlockNumber>,
    found: bool,
}

impl SweepRows {
    fn look(&mut self, view: &ReadView) -> Result<Sweep, StoreError> {
        let swept = if self.aborted { Swept::Aborted } else { Swept::Producers };
        let dead: DeadRows = view.dead_rows(swept, &self.from, SWEPT_ROWS_MAX, &Removed::new())?;
        let sweep = match swept {
            Swept::Aborted => Sweep { aborted: dead.aborted()?, ..Sweep::default() },
            _ => Sweep { producers: dead.producers()?, ..Sweep::default() },
        };
        self.found |= !dead.rows.is_empty();
        self.from = dead.next.unwrap_or_default();
        Ok(sweep)
    }
}

impl Duty for SweepRows {
    fn name(&self) -> &'static str {
        "sweep-rows"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn turn(&mut self, view: &ReadView, _now: Now) -> Result<Turn, StoreError> {
        let begins = self.from.is_empty() && !self.aborted;
        if begins {
            if self.swept == Some(view.durable()) {
                return Ok(Turn::default());
            }
            self.began = view.durable();
            self.found = false;
        }
        let sweep = self.look(view)?;
        if self.from.is_empty() {
            if self.aborted && !self.found {
                self.swept = Some(self.began);
            }
            self.aborted = !self.aborted;
        }
        let found = !sweep.producers.is_empty() || !sweep.aborted.is_empty();
        let commands = if found { vec![Command::Sweep(sweep)] } else { Vec::new() };
        // A round over rows that live goes on slowly; what is dead goes at once.
        Ok(Turn { commands, more: found || (self.aborted && self.from.is_empty()) })
    }
}
