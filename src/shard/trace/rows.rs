//! Rows as the specification has them: their names and what it knows of them, and nothing else.

use crate::core::*;
use crate::types::*;
use serde_json::{Value, json};

/// Open transactions of a partition that a line names, the oldest first: the last stable offset is about the oldest.
const OPEN_SHOWN: usize = 16;

/// A row's name in a trace; none if the specification knows no such row.
pub(super) fn name(key: &RowKey) -> Option<Value> {
    Some(match key {
        RowKey::Transaction(id) => json!(["txn", id.as_str()]),
        RowKey::Producer(key) => json!(["producer", key.partition.to_string(), key.producer.0]),
        RowKey::Partition(partition) => json!(["partition", partition.to_string()]),
        RowKey::OpenTransactions(partition) => json!(["open", partition.to_string()]),
        RowKey::GroupOffset(key) => json!(["offset", key.group.as_str(), key.partition.to_string()]),
        RowKey::PendingOffset(key) => {
            json!(["pending", key.producer.0, key.offset.group.as_str(), key.offset.partition.to_string()])
        }
        RowKey::Group(group) => json!(["generation", group.as_str()]),
        RowKey::Coordinator(key) => {
            let kind = match key.kind {
                CoordinatorKind::Transaction => "transaction",
                CoordinatorKind::Group => "group",
            };
            json!(["newest", key.transactional_id.as_str(), kind])
        }
        RowKey::NextProducerId(()) => json!(["nextPid"]),
        RowKey::Restored(()) => json!(["restored"]),
        RowKey::Aborted(key) => {
            json!(["aborted", key.partition.to_string(), key.producer.0, key.marker.0])
        }
        RowKey::Outcome(key) => json!(["outcome", key.transactional_id.as_str(), key.number.0]),
        _ => return None,
    })
}

/// What the specification knows of a row.
pub(super) fn content(row: Option<&RowValue>) -> Value {
    match row {
        Some(RowValue::Transaction(row)) => transaction(row),
        Some(RowValue::Producer(row)) => producer(row),
        Some(RowValue::Partition(row)) => {
            json!({"start": row.log_start.0, "next": row.next_offset.0, "stable": row.last_stable_offset().0})
        }
        Some(RowValue::OpenTransactions(row)) => {
            let open = row.by_first_offset.iter().take(OPEN_SHOWN);
            open.map(|(first, open)| json!([open.producer.0, first.0])).collect()
        }
        Some(RowValue::GroupOffset(row)) => json!(row.offset.0),
        Some(RowValue::PendingOffset(row)) => {
            json!({"offset": row.committed.offset.0, "number": row.number.0})
        }
        Some(RowValue::Group(row)) => json!(row.generation.0),
        Some(RowValue::Coordinator(row)) => json!(row.connection),
        Some(RowValue::NextProducerId(row)) => json!(row.id.0),
        Some(RowValue::Restored(row)) => json!(row.ids_from.0),
        Some(RowValue::Aborted(row)) => json!(row.first.0),
        Some(RowValue::Outcome(row)) => {
            json!({"outcome": outcome(row.outcome), "pid": row.producer.id.0, "epoch": row.producer.epoch.0})
        }
        _ => Value::Null,
    }
}

fn transaction(row: &TransactionRow) -> Value {
    let state = match &row.state {
        TransactionState::Empty => "Empty",
        TransactionState::Ongoing(_) => "Ongoing",
        TransactionState::Prepared(_) => "Prepared",
        TransactionState::Complete(Ended { outcome: Outcome::Commit, .. }) => "CompleteCommit",
        TransactionState::Complete(Ended { outcome: Outcome::Abort, .. }) => "CompleteAbort",
    };
    let ended = match &row.state {
        TransactionState::Complete(ended) => {
            json!({"by": identity(ended.by), "reason": reason(ended.reason)})
        }
        _ => Value::Null,
    };
    let prepared = match &row.state {
        TransactionState::Prepared(prepared) => {
            json!({"by": identity(prepared.producer), "timed": prepared.deadline.is_some()})
        }
        _ => Value::Null,
    };
    let open = row.state.open();
    let enrolled: Vec<String> =
        open.into_iter().flat_map(|open| &open.partitions).map(ToString::to_string).collect();
    let grouped: Vec<&str> = open.into_iter().flat_map(|open| &open.groups).map(GroupId::as_str).collect();
    json!({
        "state": state,
        "pid": row.holder.id.0,
        "epoch": row.holder.epoch.0,
        "recoverable": row.recoverable.map(identity),
        "ended": ended,
        "number": row.number.0,
        "enrolled": enrolled,
        "grouped": grouped,
        "prepared": prepared,
    })
}

fn producer(row: &ProducerRow) -> Value {
    let batches: Vec<Value> = row.batches.iter().map(batch).collect();
    let open = row.open.map(|(number, first)| json!({"number": number.0, "first": first.0}));
    json!({"epoch": row.epoch.0, "stored": row.stored_in_epoch, "batches": batches, "open": open})
}

fn batch(batch: &RememberedBatch) -> Value {
    json!({
        "first": batch.sequences.first.get(),
        "last": batch.sequences.last.get(),
        "offset": batch.base_offset.0,
    })
}

pub(super) fn identity(identity: Identity) -> Value {
    json!([identity.id.0, identity.epoch.0])
}

/// An LSO budget is a deadline like the timeout.
fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Requested => "Requested",
        EndReason::Expired | EndReason::Budget => "Expired",
        // A restore fences as a new holder does.
        EndReason::Fenced | EndReason::Restored => "Fenced",
        EndReason::Operator => "Operator",
    }
}

pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Commit => "commit",
        Outcome::Abort => "abort",
    }
}

/// The rows that a decision concerns, before it and after it.
pub(super) struct Seen<'a> {
    view: &'a dyn View,
    changes: &'a Changes,
}

impl<'a> Seen<'a> {
    pub(super) fn new(view: &'a dyn View, changes: &'a Changes) -> Seen<'a> {
        Seen { view, changes }
    }

    /// The row before the decision, if it was known then.
    pub(super) fn before(&self, key: &RowKey) -> Option<Option<&'a RowValue>> {
        match self.view.look(key) {
            Look::Known(row, _) => Some(row),
            Look::Unknown => None,
        }
    }

    /// The transactional id's row before the decision.
    pub(super) fn transaction(&self, id: &TransactionalId) -> Option<&'a TransactionRow> {
        self.before(&TransactionRow::key(id)).flatten().and_then(TransactionRow::of)
    }

    /// What a row has been changed to, if it has been.
    pub(super) fn after(&self, key: &RowKey) -> Option<&'a RowValue> {
        self.changes.get(key)?.as_ref()
    }

    pub(super) fn has_changed(&self, key: &RowKey) -> bool {
        self.changes.contains_key(key)
    }

    /// The rows before the decision, as far as they were known, with their names.
    pub(super) fn all_before(&self, keys: &[RowKey]) -> Vec<Value> {
        let named = |key: &RowKey| Some(json!([name(key)?, self.content_before(key)?]));
        keys.iter().filter_map(named).collect()
    }

    /// The rows that the decision has changed.
    pub(super) fn all_after(&self, keys: &[RowKey]) -> Vec<Value> {
        let named = |key: &RowKey| {
            let content = match (key, self.changes.get(key)) {
                // What was reserved for later has changed, and none of it was given out yet.
                (RowKey::NextProducerId(()), None | Some(None)) => {
                    first_not_reserved(Some(self.after(&ProducerIdsRow::key(&()))?))
                }
                (_, changed) => content(changed?.as_ref()),
            };
            Some(json!([name(key)?, content]))
        };
        keys.iter().filter_map(named).collect()
    }

    /// Whether what is shown of `keys` is only a part, because there is more of it in rows beside them.
    pub(super) fn overflows(&self, keys: &[RowKey]) -> bool {
        let is_there = |key: &RowKey| self.before(key).flatten().is_some() || self.after(key).is_some();
        keys.iter().any(|key| match key {
            RowKey::OpenTransactions(partition) => is_there(&OpenQueueRow::key(partition)),
            RowKey::Transaction(id) => is_there(&MoreEnrolledRow::key(id)),
            _ => false,
        })
    }

    fn content_before(&self, key: &RowKey) -> Option<Value> {
        let row = self.before(key)?;
        match (key, row) {
            // What is open there is known only with what there may be beside it.
            (RowKey::OpenTransactions(partition), _) => {
                self.before(&OpenQueueRow::key(partition))?;
                Some(content(row))
            }
            // None has been given out since the start: the next one is the first that is not reserved.
            (RowKey::NextProducerId(()), None) => {
                Some(first_not_reserved(self.before(&ProducerIdsRow::key(&()))?))
            }
            _ => Some(content(row)),
        }
    }
}

fn first_not_reserved(reserved: Option<&RowValue>) -> Value {
    json!(reserved.and_then(ProducerIdsRow::of).map_or(0, |row| row.reserved_until.0))
}
