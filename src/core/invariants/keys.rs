//! Of idempotency keys: taken once within their window, and what becomes of those of a transaction (K1 to K7).

use super::ends::End;
use super::step::{Step, Verdict, holds};
use crate::core::events::{Event, KeysAccepted};
use crate::core::rows::*;
use crate::types::*;
use std::collections::BTreeMap;

/// K1, K5.
pub(super) fn keys_are_taken_while_free(step: &Step<'_>) -> Verdict {
    step.every::<KeyRow>(|change| match (change.before, change.after) {
        (Some(before), Some(_)) => {
            let freed = |transaction| step.before::<FreedKeysRow>(&transaction);
            before.until <= step.now.served
                || before.transaction.is_some_and(|transaction| freed(transaction) != Some(None))
        }
        _ => true,
    })
}

/// K6, K7.
pub(super) fn keys_are_known_for_their_window(step: &Step<'_>) -> Verdict {
    step.every::<KeyRow>(|change| {
        change.gone().is_none_or(|row| row.until <= step.now.served)
            || step.is_gone::<TopicRow>(&change.key.topic)
    })
}

fn accepted<'d>(step: &Step<'d>) -> impl Iterator<Item = &'d KeysAccepted> {
    step.events().iter().filter_map(|event| match event {
        Event::KeysAccepted(accepted) => Some(accepted),
        _ => None,
    })
}

/// K4: keys are of the transaction that their batch is in, and its end finds them.
pub(super) fn keys_are_of_their_batch(step: &Step<'_>) -> Verdict {
    let batches: BTreeMap<(PartitionId, Offset), Option<TxnNumber>> = step
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::BatchAppended(batch) => {
                let transaction = batch.producer.as_ref().and_then(|append| append.transaction);
                Some(((batch.partition, batch.base_offset), transaction))
            }
            _ => None,
        })
        .collect();
    accepted(step).try_for_each(|accepted| {
        let number = accepted.transaction.as_ref().map(|(_, transaction)| transaction.number);
        let batch = batches.get(&(accepted.partition, accepted.base_offset));
        let found = accepted.transaction.as_ref().is_none_or(|(id, transaction)| {
            let holder = step.after::<KeyHolderRow>(id).flatten();
            holder.is_some_and(|row| row.transaction == *transaction && row.until >= accepted.until)
        });
        holds(batch == Some(&number) && found, (accepted, batch))
    })
}

/// K4.
pub(super) fn an_end_decides_about_its_keys(step: &Step<'_>) -> Verdict {
    End::all(step).try_for_each(|end| {
        let held = step.before::<KeyHolderRow>(end.id).flatten();
        let Some(held) = held.filter(|row| row.transaction == end.transaction) else { return Ok(()) };
        let freed = step.after::<FreedKeysRow>(&end.transaction).flatten();
        let decided = match end.outcome {
            Outcome::Commit => freed.is_none(),
            Outcome::Abort => freed.is_some_and(|row| row.until == held.until),
        };
        holds(decided && step.is_gone::<KeyHolderRow>(end.id), (&end, held, freed))
    })
}

/// K4, K7.
pub(super) fn only_an_abort_frees_keys(step: &Step<'_>) -> Verdict {
    step.every::<FreedKeysRow>(|change| match change.after {
        Some(_) => {
            let mut ends = End::all(step);
            ends.any(|end| end.outcome == Outcome::Abort && end.transaction == *change.key)
        }
        None => change.before.is_none_or(|row| row.until <= step.now.served),
    })
}
