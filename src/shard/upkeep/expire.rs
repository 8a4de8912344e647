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

/// Reads the keys of what was last heard of before a time, behind a key, longest idle first: so many at most.
type Look<K> = fn(&ReadView, Option<&K>, IdleSpan, usize) -> Result<Vec<K>, StoreError>;

/// See the module.
#[derive(Debug)]
pub(in crate::shard) struct ExpireIdle<K> {
    name: &'static str,
    idle: Duration,
    look: Look<K>,
    expire: fn(K, Duration) -> Command,
    /// The last one looked at: what was refused (a transaction is open) is passed over until the next round.
    behind: Option<K>,
}

impl ExpireIdle<IdleTransactionalIdKey> {
    pub(in crate::shard) fn transactional_ids(idle: Duration) -> Self {
        let expire = |key, idle| Command::ExpireTransactionalId(ExpireTransactionalId { key, idle });
        let look = ReadView::idle_transactional_ids;
        ExpireIdle { name: "expire-transactional-ids", idle, look, expire, behind: None }
    }
}

impl ExpireIdle<IdleProducerKey> {
    pub(in crate::shard) fn producers(idle: Duration) -> Self {
        let expire = |key, idle| Command::ExpireProducer(ExpireProducer { key, idle });
        ExpireIdle { name: "expire-producers", idle, look: ReadView::idle_producers, expire, behind: None }
    }
}

impl<K: Clone + Send> Duty for ExpireIdle<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let until = IdleSpan::first_not_idle_for(self.idle, now.served);
        let due = (self.look)(view, self.behind.as_ref(), until, COMMANDS_PER_TURN_MAX)?;
        self.behind = due.last().cloned();
        let more = !due.is_empty();
        let commands = due.into_iter().map(|key| (self.expire)(key, self.idle)).collect();
        Ok(Turn { commands, more })
    }
}
