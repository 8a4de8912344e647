//! What has been idle for long is forgotten. Who proposes it has looked at older rows, so everything is looked at again.

use crate::core::commands::{ExpireProducer, ExpireTransactionalId, Now};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use std::time::Duration;

fn is_idle(last_used: crate::types::ServedTime, idle: Duration, now: Now) -> bool {
    last_used.plus(idle) <= now.served
}

/// `ExpireTransactionalId` (P11): one that has nothing open and has not been heard of for as long as is configured.
pub(super) fn expire_transactional_id(
    rows: &mut Draft<'_>,
    now: Now,
    expire: &ExpireTransactionalId,
) -> Result<(), Need> {
    let id = &expire.key.transactional_id;
    let Some(row) = rows.get::<TransactionRow>(id)? else { return Ok(()) };
    if row.state.open().is_some() || !is_idle(row.last_used, expire.idle, now) {
        return Ok(());
    }
    rows.state(Event::TransactionalIdExpired { transactional_id: id.clone() })?;
    for kind in [CoordinatorKind::Transaction, CoordinatorKind::Group] {
        rows.remove::<CoordinatorRow>(&CoordinatorKey { transactional_id: id.clone(), kind });
    }
    Ok(())
}

/// `ExpireProducer` (A12): one that has nothing open here and has not been heard of here for as long as is configured.
pub(super) fn expire_producer(rows: &mut Draft<'_>, now: Now, expire: &ExpireProducer) -> Result<(), Need> {
    let IdleProducerKey { span, producer } = &expire.key;
    let is_idle = |last_used| is_idle(last_used, expire.idle, now) || mutated(Mutant::ForgottenTooEarly);
    match rows.get::<ProducerRow>(producer)? {
        Some(row) if row.open.is_some() || !is_idle(row.last_used) => return Ok(()),
        // The row has gone with its partition: only its place in the order of idleness is left.
        Some(_) | None => {}
    }
    let (partition, producer) = (producer.partition, producer.producer);
    rows.state(Event::ProducerExpired { partition, producer, span: *span })
}
