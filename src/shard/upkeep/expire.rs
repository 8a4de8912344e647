//! Forgets transactional ids (P11) and what partitions remember of producers (A12), once they have been idle for as long as
//! is configured, in served time. The longest idle come first, so a turn reads no more than it proposes.

use super::{COMMANDS_PER_TURN_MAX, Duty, Turn};
use crate::core::{
    Command, ExpireProducer, ExpireTransactionalId, IdleProducerKey, IdleSpan, IdleTransactionalIdKey, Now,
};
use crate::store::{ReadView, StoreError};
use std::time::Duration;

/// How long to rest when nothing is due. What is forgotten a little late does no harm.
const PERIOD: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(in crate::shard) struct ExpireTransactionalIds {
    idle: Duration,
    /// The last one looked at: what was refused (a transaction is open) is passed over until the next round.
    behind: Option<IdleTransactionalIdKey>,
}

/// See the module.
#[derive(Debug)]
pub(in crate::shard) struct ExpireProducers {
    idle: Duration,
    /// The last one looked at, as above.
    behind: Option<IdleProducerKey>,
}

impl ExpireTransactionalIds {
    pub(in crate::shard) fn after(idle: Duration) -> ExpireTransactionalIds {
        ExpireTransactionalIds { idle, behind: None }
    }
}

impl ExpireProducers {
    pub(in crate::shard) fn after(idle: Duration) -> ExpireProducers {
        ExpireProducers { idle, behind: None }
    }
}

impl Duty for ExpireTransactionalIds {
    fn name(&self) -> &'static str {
        "expire-transactional-ids"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let until = IdleSpan::first_not_idle_for(self.idle, now.served);
        let due = view.idle_transactional_ids(self.behind.as_ref(), until, COMMANDS_PER_TURN_MAX)?;
        self.behind = due.last().cloned();
        let idle = self.idle;
        let expire = |key| Command::ExpireTransactionalId(ExpireTransactionalId { key, idle });
        Ok(Turn { more: !due.is_empty(), commands: due.into_iter().map(expire).collect() })
    }
}

impl Duty for ExpireProducers {
    fn name(&self) -> &'static str {
        "expire-producers"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let until = IdleSpan::first_not_idle_for(self.idle, now.served);
        let due = view.idle_producers(self.behind.as_ref(), until, COMMANDS_PER_TURN_MAX)?;
        self.behind = due.last().cloned();
        let idle = self.idle;
        let expire = |key| Command::ExpireProducer(ExpireProducer { key, idle });
        Ok(Turn { more: !due.is_empty(), commands: due.into_iter().map(expire).collect() })
    }
}
