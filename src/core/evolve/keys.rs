//! What the events of idempotency keys change.

use crate::core::draft::{Draft, Need};
use crate::core::events::{Event, KeysAccepted};
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;

/// Lets an event of keys take effect; of others, nothing.
pub(super) fn evolve(rows: &mut Draft<'_>, event: &Event) -> Result<(), Need> {
    match event {
        Event::KeysAccepted(accepted) => keys_accepted(rows, accepted),
        Event::KeysForgotten { keys, freed } => keys_forgotten(rows, keys, freed),
        _ => Ok(()),
    }
}

fn keys_accepted(rows: &mut Draft<'_>, accepted: &KeysAccepted) -> Result<(), Need> {
    let KeysAccepted { partition, base_offset, until, transaction, keys } = accepted;
    let topic_key = |key: &IdempotencyKey| TopicKey { topic: partition.topic, key: key.clone() };
    let holder = transaction.iter().map(|(id, _)| KeyHolderRow::key(id));
    rows.require(keys.iter().map(|record| KeyRow::key(&topic_key(&record.key))).chain(holder))?;
    for record in keys {
        let key = topic_key(&record.key);
        let row = KeyRow {
            partition: partition.index,
            offset: base_offset.plus(record.record.into()),
            until: *until,
            transaction: transaction.as_ref().map(|(_, transaction)| *transaction),
        };
        // What had it before is over, or was aborted.
        if let Some(before) = rows.get::<KeyRow>(&key)?.map(|row| row.until) {
            rows.remove::<KeyEndRow>(&key_end(before, key.clone()));
        }
        rows.put(&key, row);
        rows.put(&key_end(*until, key), KeyEndRow {});
    }
    let Some((id, transaction)) = transaction else { return Ok(()) };
    let held = rows.get::<KeyHolderRow>(id)?.filter(|row| row.transaction == *transaction);
    let until = held.map_or(*until, |row| row.until.max(*until));
    rows.put(id, KeyHolderRow { transaction: *transaction, until });
    Ok(())
}

/// A transaction has ended: what it took is accepted, or free (`ReleaseKeys`).
pub(super) fn keys_resolved(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    transaction: KeyTransaction,
    outcome: Outcome,
) -> Result<(), Need> {
    let held = rows.get::<KeyHolderRow>(id)?.filter(|row| row.transaction == transaction);
    let Some(until) = held.map(|row| row.until) else { return Ok(()) };
    rows.remove::<KeyHolderRow>(id);
    let frees = match outcome {
        Outcome::Commit => mutated(Mutant::KeysFreedOnCommit),
        Outcome::Abort => !mutated(Mutant::KeysKeptOnAbort),
    };
    if frees {
        rows.put(&transaction, FreedKeysRow { until });
        rows.put(&freed_keys_end(until, transaction), FreedKeysEndRow {});
    }
    Ok(())
}

fn keys_forgotten(rows: &mut Draft<'_>, keys: &[TopicKey], freed: &[KeyTransaction]) -> Result<(), Need> {
    rows.require(keys.iter().map(KeyRow::key).chain(freed.iter().map(FreedKeysRow::key)))?;
    for key in keys {
        if let Some(until) = rows.get::<KeyRow>(key)?.map(|row| row.until) {
            rows.remove::<KeyRow>(key);
            rows.remove::<KeyEndRow>(&key_end(until, key.clone()));
        }
    }
    for transaction in freed {
        if let Some(until) = rows.get::<FreedKeysRow>(transaction)?.map(|row| row.until) {
            rows.remove::<FreedKeysRow>(transaction);
            rows.remove::<FreedKeysEndRow>(&freed_keys_end(until, *transaction));
        }
    }
    Ok(())
}

fn key_end(until: ServedTime, key: TopicKey) -> KeyEndKey {
    KeyEndKey { span: IdleSpan::of(until), key }
}

fn freed_keys_end(until: ServedTime, transaction: KeyTransaction) -> FreedKeysEndKey {
    FreedKeysEndKey { span: IdleSpan::of(until), transaction }
}
