//! Forgets idempotency keys whose window is over, or whose topic is deleted, and the word that a transaction's keys were
//! freed (K7): slice by slice, each a decision of its own. What ends first comes first, so a turn reads no more than it
//! proposes.

use super::{Duty, Turn};
use crate::core::limits::KEYS_FORGOTTEN_MAX;
use crate::core::{Command, ForgetKeys as Forget, FreedKeysEndKey, IdleSpan, KeyEndKey, Now};
use crate::store::{ReadView, StoreError};
use crate::types::BlockNumber;
use std::time::Duration;

/// How long to rest when nothing is over. What is over is free, whether its row is there or not.
const PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct ForgetKeys {
    /// The last ones looked at: what a decision did not forget is passed over until the next round.
    key_behind: Option<KeyEndKey>,
    freed_behind: Option<FreedKeysEndKey>,
    /// Where the next look for keys of deleted topics begins.
    deleted_from: Vec<u8>,
    /// The view in which that round began, and in which the last one that found nothing did: topics die by decisions only.
    began: BlockNumber,
    looked: Option<BlockNumber>,
    found: bool,
}

impl ForgetKeys {
    fn over(&mut self, view: &ReadView, now: Now) -> Result<Forget, StoreError> {
        let until = IdleSpan::of(now.served);
        let keys = view.key_ends(self.key_behind.as_ref(), until, KEYS_FORGOTTEN_MAX)?;
        self.key_behind = keys.last().cloned();
        let freed = view.freed_keys_ends(self.freed_behind.as_ref(), until, KEYS_FORGOTTEN_MAX)?;
        self.freed_behind = freed.last().copied();
        Ok(Forget {
            keys: keys.into_iter().map(|end| end.key).collect(),
            freed: freed.into_iter().map(|end| end.transaction).collect(),
        })
    }

    fn deleted(&mut self, view: &ReadView) -> Result<Forget, StoreError> {
        if self.deleted_from.is_empty() {
            if self.looked == Some(view.durable()) {
                return Ok(Forget::default());
            }
            (self.began, self.found) = (view.durable(), false);
        }
        let dead = view.keys_of_deleted_topics(&self.deleted_from, KEYS_FORGOTTEN_MAX)?;
        self.found |= !dead.keys.is_empty();
        self.deleted_from = dead.next.unwrap_or_default();
        if self.deleted_from.is_empty() && !self.found {
            self.looked = Some(self.began);
        }
        Ok(Forget { keys: dead.keys, ..Forget::default() })
    }
}

impl Duty for ForgetKeys {
    fn name(&self) -> &'static str {
        "forget-keys"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let found = [self.over(view, now)?, self.deleted(view)?];
        let asked = found.into_iter().filter(|forget| *forget != Forget::default());
        let commands: Vec<Command> = asked.map(Command::ForgetKeys).collect();
        Ok(Turn { more: !commands.is_empty(), commands })
    }
}
