//! Idempotency keys: a topic takes each once within its window (`spec/transactions.md`, K1 to K7).

use crate::core::commands::{BatchFacts, ForgetKeys, KeyConflict, NotAppended, Now, Refusal};
use crate::core::draft::{Draft, Need};
use crate::core::events::{Event, KeysAccepted, RecordKey};
use crate::core::limits::KEYS_FORGOTTEN_MAX;
use crate::core::mutant::{Mutant, mutated};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeSet;

/// The transaction that a batch is in: its transactional id, and what is never used for another one.
pub(super) type InTransaction = (TransactionalId, KeyTransaction);

/// The rows of a batch's keys, and of who takes them.
pub(super) fn rows_of_keys(
    topic: TopicId,
    batch: &BatchFacts,
    transactional_id: Option<&TransactionalId>,
) -> impl Iterator<Item = RowKey> {
    let key = move |record: &RecordKey| KeyRow::key(&TopicKey { topic, key: record.key.clone() });
    let holder = transactional_id.filter(|_| !batch.keys.is_empty()).map(KeyHolderRow::key);
    batch.keys.iter().map(key).chain(holder)
}

/// Whether a batch may have its keys (K2, K5). `transaction` is the one that it would be in.
pub(super) fn judge_keys(
    rows: &Draft<'_>,
    now: Now,
    topic: TopicId,
    keys: &[RecordKey],
    transaction: Option<KeyTransaction>,
) -> Result<Result<(), NotAppended>, Need> {
    let mut taken: Vec<(&RecordKey, KeyRow)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut conflicts = Vec::new();
    for record in keys {
        if !seen.insert(&record.key) {
            conflicts.push(KeyConflict { record: record.record, accepted_at: None });
        } else if let Some(row) = rows.get::<KeyRow>(&TopicKey { topic, key: record.key.clone() })? {
            taken.push((record, row.clone()));
        }
    }
    rows.require(taken.iter().filter_map(|(_, row)| row.judged_by(topic)).flatten())?;
    let mut held = false;
    for (record, row) in taken {
        let accepted = match row.standing(rows, topic, now.served)? {
            KeyStanding::Free => false,
            KeyStanding::Accepted => true,
            KeyStanding::Held(holder) => {
                let own = transaction == Some(holder);
                held |= !own && !mutated(Mutant::HeldKeyTaken);
                own
            }
        };
        if accepted && !mutated(Mutant::AcceptedKeyTaken) {
            let accepted_at = Some((row.partition, row.offset));
            conflicts.push(KeyConflict { record: record.record, accepted_at });
        }
    }
    Ok(if !conflicts.is_empty() {
        conflicts.sort_by_key(|conflict| conflict.record);
        Err(NotAppended { refusal: Refusal::KeyAccepted, keys: conflicts })
    } else if held && transaction.is_some() {
        Err(Refusal::KeyHeldFromTransaction.into())
    } else if held {
        Err(Refusal::KeyHeld.into())
    } else {
        Ok(())
    })
}

/// `AcceptKeys`: the batch that begins at `base_offset` has been appended, and may have its keys.
pub(super) fn accept_keys(
    rows: &mut Draft<'_>,
    now: Now,
    partition: PartitionId,
    base_offset: Offset,
    keys: &[RecordKey],
    transaction: Option<InTransaction>,
) -> Result<(), Need> {
    if keys.is_empty() {
        return Ok(());
    }
    let Some(window) = rows.get::<TopicRow>(&partition.topic)?.map(TopicRow::idempotency_window) else {
        return Ok(());
    };
    let until = now.served.plus(window);
    let transaction = if mutated(Mutant::KeyOutsideTransaction) { None } else { transaction };
    let accepted = KeysAccepted { partition, base_offset, until, transaction, keys: keys.to_vec() };
    rows.state(Event::KeysAccepted(accepted))
}

/// `ForgetKeys`: those whose window is over, or whose topic is deleted, and the word that a transaction's keys were freed
/// when nothing refers to it any more. At most [`KEYS_FORGOTTEN_MAX`] of each count.
pub(super) fn forget_keys(rows: &mut Draft<'_>, now: Now, forget: &ForgetKeys) -> Result<(), Need> {
    let keys = || forget.keys.iter().take(KEYS_FORGOTTEN_MAX);
    let freed = || forget.freed.iter().take(KEYS_FORGOTTEN_MAX);
    let topics: BTreeSet<TopicId> = keys().map(|key| key.topic).collect();
    let of_rows = keys().map(KeyRow::key).chain(freed().map(FreedKeysRow::key));
    rows.require(topics.iter().map(TopicRow::key).chain(of_rows))?;
    let over = |until: ServedTime| until <= now.served || mutated(Mutant::KeyForgottenTooEarly);
    let mut keys_forgotten = Vec::new();
    for key in keys() {
        let deleted = rows.get::<TopicRow>(&key.topic)?.is_none();
        if rows.get::<KeyRow>(key)?.is_some_and(|row| deleted || over(row.until)) {
            keys_forgotten.push(key.clone());
        }
    }
    let mut freed_forgotten = Vec::new();
    for transaction in freed() {
        if rows.get::<FreedKeysRow>(transaction)?.is_some_and(|row| row.until <= now.served) {
            freed_forgotten.push(*transaction);
        }
    }
    if keys_forgotten.is_empty() && freed_forgotten.is_empty() {
        return Ok(());
    }
    rows.state(Event::KeysForgotten { keys: keys_forgotten, freed: freed_forgotten })
}
