//! How each event changes the rows. Total: an event that was decided always takes effect, and says everything its effect
//! depends on. The same code runs as a decision is made and as the log is replayed.

mod consumers;
mod groups;
mod keys;
mod open;
mod restored;

use super::draft::{Draft, Need};
use super::events::{BatchAppended, Enrolment, Event, MARKER_BYTES, MarkerWritten};
use super::limits::OUTCOMES_PER_ID_MAX;
use super::mutant::{Mutant, mutated};
use super::rows::*;
use crate::types::*;
use smallvec::SmallVec;
use std::time::Duration;

/// Lets one event take effect on the rows, at served time `at`. On `Err`, the draft is to be dropped and tried again once
/// the needed rows are known.
pub fn evolve(rows: &mut Draft<'_>, at: ServedTime, event: &Event) -> Result<(), Need> {
    match event {
        Event::ClusterFormed { .. }
        | Event::TopicCreated { .. }
        | Event::PartitionsAdded { .. }
        | Event::TopicDeleted { .. }
        | Event::TopicConfigured { .. } => evolve_topics(rows, event),
        Event::ProducerIdsReserved { until } => {
            rows.put(&(), ProducerIdsRow { reserved_until: *until });
            Ok(())
        }
        Event::ProducerInitialized { transactional_id, holder, recoverable, timeout } => {
            producer_initialized(rows, at, transactional_id, (*holder, *recoverable, *timeout))
        }
        Event::PartitionsEnrolled { enrolment, partitions } => {
            partitions_enrolled(rows, at, enrolment, partitions)
        }
        Event::GroupEnrolled { enrolment, group } => enrolled(rows, at, enrolment, |ongoing| {
            ongoing.groups.insert(group.clone());
        }),
        Event::BatchAppended(batch) => batch_appended(rows, at, batch),
        Event::OffsetsStaged { enrolment, offsets } => offsets_staged(rows, at, enrolment, offsets),
        Event::TransactionEnded { transactional_id, number, outcome, reason, holder } => {
            transaction_ended(rows, at, transactional_id, *number, (*outcome, *reason, *holder))
        }
        Event::MarkerWritten(marker) => marker_written(rows, at, marker),
        Event::TransactionPrepared { transactional_id, number: _, at: prepared_at, deadline } => {
            transaction_prepared(rows, at, transactional_id, *prepared_at, *deadline)
        }
        Event::HolderReplaced { transactional_id, holder, recoverable, timeout } => {
            holder_replaced(rows, at, transactional_id, (*holder, *recoverable, *timeout))
        }
        Event::DeadlineMoved { transactional_id, deadline, topic } => {
            deadline_moved(rows, transactional_id, *deadline, *topic)
        }
        Event::OperatorDecided { transactional_id, number, decision } => {
            operator_decided(rows, transactional_id, *number, decision)
        }
        Event::TransactionalIdExpired { transactional_id } => {
            transactional_id_expired(rows, transactional_id)
        }
        Event::ProducerExpired { partition, producer, span } => {
            let key = ProducerKey { partition: *partition, producer: *producer };
            producer_expired(rows, key, *span)
        }
        Event::LogStartMoved { partition, to, .. } => rows.change(partition, |row: &mut PartitionRow| {
            row.log_start = to.offset;
            row.bytes_below_start = to.bytes;
        }),
        Event::GenerationFormed { .. }
        | Event::GroupAssigned { .. }
        | Event::MemberReplaced { .. }
        | Event::MembersLeft { .. }
        | Event::GroupDeleted { .. } => groups::evolve(rows, at, event),
        Event::ConsumerSubscribed { .. }
        | Event::TargetAssigned { .. }
        | Event::ConsumerReconciled { .. }
        | Event::ConsumerReplaced { .. }
        | Event::ConsumersLeft { .. }
        | Event::PatternsResolved { .. }
        | Event::GroupUpgraded { .. }
        | Event::GroupDowngraded { .. } => consumers::evolve(rows, at, event),
        Event::OffsetsForgotten { offsets } => removed::<CommittedOffset>(rows, offsets),
        Event::OffsetsCommitted { offsets } => offsets_committed(rows, offsets),
        Event::LogRestored { .. } => restored::log_restored(rows, event),
        Event::KeysAccepted(_) | Event::KeysForgotten { .. } => keys::evolve(rows, event),
        Event::RowsSwept { producers, aborted } => rows_swept(rows, producers, aborted),
    }
}

fn rows_swept(rows: &mut Draft<'_>, producers: &[ProducerKey], aborted: &[AbortedKey]) -> Result<(), Need> {
    removed::<ProducerRow>(rows, producers)?;
    // With the partition of a list of open transactions, only the list's own row has gone.
    removed::<QueuedRow>(rows, producers)?;
    removed::<AbortedRow>(rows, aborted)
}

/// Topics come, change and go.
fn evolve_topics(rows: &mut Draft<'_>, event: &Event) -> Result<(), Need> {
    match event {
        Event::ClusterFormed { id } => {
            rows.put(&(), ClusterRow { id: *id, partitions: 0 });
            Ok(())
        }
        Event::TopicCreated { id, name, partitions, config } => {
            rows.put(name, TopicNameRow { id: *id });
            rows.put(id, TopicRow { name: name.clone(), partitions: 0, config: config.clone() });
            partitions_added(rows, *id, *partitions)
        }
        Event::PartitionsAdded { id, partitions } => partitions_added(rows, *id, *partitions),
        Event::TopicDeleted { id } => topic_deleted(rows, *id),
        Event::TopicConfigured { id, config } => {
            rows.change(id, |row: &mut TopicRow| row.config.clone_from(config))
        }
        _ => Ok(()),
    }
}

fn removed<R: Row>(rows: &mut Draft<'_>, keys: &[R::Key]) -> Result<(), Need> {
    keys.iter().for_each(|key| rows.remove::<R>(key));
    Ok(())
}

fn offsets_committed(
    rows: &mut Draft<'_>,
    offsets: &[(GroupOffsetKey, CommittedOffset)],
) -> Result<(), Need> {
    for (key, committed) in offsets {
        rows.put(key, committed.clone());
    }
    Ok(())
}

fn operator_decided(
    rows: &mut Draft<'_>,
    transactional_id: &TransactionalId,
    number: TxnNumber,
    decision: &OperatorDecision,
) -> Result<(), Need> {
    let key = OutcomeKey { transactional_id: transactional_id.clone(), number };
    rows.change(&key, |row: &mut OutcomeRow| row.operator = Some(decision.clone()))
}

/// The partitions of a topic, by number.
pub(super) fn partitions_of(
    topic: TopicId,
    range: std::ops::Range<u32>,
) -> impl Iterator<Item = PartitionId> {
    range.filter_map(move |index| Some(PartitionId::new(topic, PartitionIndex(i32::try_from(index).ok()?))))
}

fn partitions_added(rows: &mut Draft<'_>, topic: TopicId, partitions: u32) -> Result<(), Need> {
    let before = rows.get::<TopicRow>(&topic)?.map_or(0, |row| row.partitions);
    if let Some(mut row) = rows.get::<TopicRow>(&topic)?.cloned() {
        row.partitions = partitions;
        rows.put(&topic, row);
    }
    count_partitions(rows, |count| count.saturating_add(partitions.saturating_sub(before)))?;
    for partition in partitions_of(topic, before..partitions) {
        rows.put(&partition, PartitionRow::default());
        rows.put(&partition, OpenTransactionsRow::default());
    }
    Ok(())
}

fn topic_deleted(rows: &mut Draft<'_>, topic: TopicId) -> Result<(), Need> {
    let Some(row) = rows.get::<TopicRow>(&topic)?.cloned() else { return Ok(()) };
    rows.remove::<TopicNameRow>(&row.name);
    rows.remove::<TopicRow>(&topic);
    restored::deleted(rows, partitions_of(topic, 0..row.partitions))?;
    for partition in partitions_of(topic, 0..row.partitions) {
        rows.remove::<PartitionRow>(&partition);
        rows.remove::<OpenTransactionsRow>(&partition);
        rows.remove::<OpenQueueRow>(&partition);
    }
    count_partitions(rows, |count| count.saturating_sub(row.partitions))
}

fn count_partitions(rows: &mut Draft<'_>, change: impl FnOnce(u32) -> u32) -> Result<(), Need> {
    if let Some(mut cluster) = rows.get::<ClusterRow>(&())?.cloned() {
        cluster.partitions = change(cluster.partitions);
        rows.put(&(), cluster);
    }
    Ok(())
}

fn producer_initialized(
    rows: &mut Draft<'_>,
    at: ServedTime,
    id: &TransactionalId,
    (holder, recoverable, timeout): (Identity, Option<Identity>, Duration),
) -> Result<(), Need> {
    let before = rows.get::<TransactionRow>(id)?.map(|row| (row.holder.id, row.number, row.last_used));
    let number = before.map_or(TxnNumber(0), |(_, number, _)| number);
    own_producer_id(rows, id, before.map(|(id, ..)| id), holder.id);
    transactional_id_used(rows, id, before.map(|(_, _, used)| used), at);
    let state = TransactionState::Empty;
    rows.put(id, TransactionRow { holder, recoverable, number, timeout, state, last_used: at });
    Ok(())
}

/// The producer id of a transactional id leads back to it, and the one before that no longer does.
fn own_producer_id(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    before: Option<ProducerId>,
    producer: ProducerId,
) {
    if before == Some(producer) {
        return;
    }
    if let Some(before) = before {
        rows.remove::<ProducerOwnerRow>(&before);
    }
    rows.put(&producer, ProducerOwnerRow { transactional_id: id.clone() });
}

/// Also how one of several partitions takes effect that one event states.
pub(super) fn partitions_enrolled(
    rows: &mut Draft<'_>,
    at: ServedTime,
    enrolment: &Enrolment,
    partitions: &[PartitionId],
) -> Result<(), Need> {
    // One decision mostly enrols many, one after the other.
    let is_in_it = |row: &TransactionRow| {
        let is_open = matches!(row.state, TransactionState::Ongoing(_));
        is_open && (row.number, row.last_used) == (enrolment.number, at)
    };
    if !rows.get::<TransactionRow>(&enrolment.transactional_id)?.is_some_and(is_in_it) {
        enrolled(rows, at, enrolment, |_| {})?;
    }
    open::partitions_enrolled(rows, &enrolment.transactional_id, partitions)
}

/// Opens the transaction if this is its first enrolment.
fn enrolled(
    rows: &mut Draft<'_>,
    at: ServedTime,
    enrolment: &Enrolment,
    change: impl FnOnce(&mut Ongoing),
) -> Result<(), Need> {
    let id = &enrolment.transactional_id;
    let Some((state, used)) = rows.get::<TransactionRow>(id)?.map(|row| (&row.state, row.last_used)) else {
        return Ok(());
    };
    match state {
        TransactionState::Ongoing(_) => {}
        _ => {
            rows.put(&Timer::Transaction(id.clone()), DeadlineRow { deadline: enrolment.deadline });
        }
    }
    transactional_id_used(rows, id, Some(used), at);
    rows.change(id, |row: &mut TransactionRow| {
        row.last_used = at;
        row.number = enrolment.number;
        if !matches!(row.state, TransactionState::Ongoing(_)) {
            let ongoing =
                Ongoing { began: enrolment.began, deadline: enrolment.deadline, ..Ongoing::default() };
            row.state = TransactionState::Ongoing(ongoing);
        }
        if let TransactionState::Ongoing(ongoing) = &mut row.state {
            change(ongoing);
        }
    })
}

fn batch_appended(rows: &mut Draft<'_>, at: ServedTime, batch: &BatchAppended) -> Result<(), Need> {
    let partition = batch.partition;
    rows.change(&partition, |row: &mut PartitionRow| {
        let last = batch.last_offset();
        row.next_offset = if mutated(Mutant::OffsetReused) { last } else { last.next() };
        row.totals = batch.before.with(batch.bytes, batch.max_timestamp);
    })?;
    restored::appended(rows, partition, batch.base_offset)?;
    let Some(append) = &batch.producer else { return Ok(()) };
    let key = ProducerKey { partition, producer: append.identity.id };
    let opens = match append.transaction {
        Some(number) if rows.get::<ProducerRow>(&key)?.is_none_or(|row| row.open.is_none()) => Some(number),
        _ => None,
    };
    producer_used(rows, &key, at)?;
    let fresh = || ProducerRow::fresh(append.identity.epoch, at);
    rows.update(&key, fresh, |row| {
        row.enter_epoch(append.identity.epoch);
        row.stored_in_epoch = row.stored_in_epoch.saturating_add(u64::from(batch.records));
        let forgotten = usize::from(mutated(Mutant::FifthBatchForgotten));
        if row.batches.len() + forgotten >= REMEMBERED_BATCHES {
            row.batches.remove(0);
        }
        row.batches.push(RememberedBatch {
            sequences: append.sequences,
            base_offset: batch.base_offset,
            append_time: batch.append_time.unwrap_or(Timestamp::NONE),
        });
        row.last_used = at;
        row.last_timestamp = batch.max_timestamp;
        if let Some(number) = opens {
            row.open = Some((number, batch.base_offset));
        }
    })?;
    match opens {
        Some(number) => {
            open::transaction_opened(rows, partition, batch.base_offset, append.identity.id, number)
        }
        None => Ok(()),
    }
}

fn marker_written(rows: &mut Draft<'_>, at: ServedTime, marker: &MarkerWritten) -> Result<(), Need> {
    let partition = marker.partition;
    rows.change(&partition, |row: &mut PartitionRow| {
        row.next_offset = marker.offset.next();
        row.totals = marker.before.with(MARKER_BYTES, marker.timestamp);
    })?;
    restored::appended(rows, partition, marker.offset)?;
    let key = ProducerKey { partition, producer: marker.producer.id };
    producer_used(rows, &key, at)?;
    let mut closed = None;
    rows.update(
        &key,
        || ProducerRow::fresh(marker.producer.epoch, at),
        |row| {
            row.enter_epoch(marker.producer.epoch);
            row.last_used = at;
            row.last_timestamp = marker.timestamp;
            closed = row.open.take_if(|(number, _)| *number == marker.number);
        },
    )?;
    let Some((_, first)) = closed else { return Ok(()) };
    if marker.outcome == Outcome::Abort {
        rows.put(
            &AbortedKey { partition, producer: marker.producer.id, marker: marker.offset },
            AbortedRow { first: if mutated(Mutant::AbortedRangeOneShort) { first.next() } else { first } },
        );
    }
    open::transaction_closed(rows, partition, first, marker.producer.id)
}

fn offsets_staged(
    rows: &mut Draft<'_>,
    at: ServedTime,
    enrolment: &Enrolment,
    offsets: &[(GroupOffsetKey, CommittedOffset)],
) -> Result<(), Need> {
    let Some(producer) = rows.get::<TransactionRow>(&enrolment.transactional_id)?.map(|row| row.holder.id)
    else {
        return Ok(());
    };
    for (key, committed) in offsets {
        if mutated(Mutant::OffsetsBeforeOutcome) {
            rows.put(key, committed.clone());
        }
        let pending = PendingOffsetRow { number: enrolment.number, committed: committed.clone() };
        rows.put(&PendingOffsetKey { offset: key.clone(), producer }, pending);
    }
    enrolled(rows, at, enrolment, |ongoing| {
        ongoing.offsets.extend(offsets.iter().map(|(key, _)| key.clone()))
    })
}

fn transaction_ended(
    rows: &mut Draft<'_>,
    at: ServedTime,
    id: &TransactionalId,
    number: TxnNumber,
    (outcome, reason, holder): (Outcome, EndReason, Identity),
) -> Result<(), Need> {
    let mut before = None;
    rows.change(id, |row: &mut TransactionRow| {
        let (by, ran_under, used) = (row.holder, row.runs_under(), row.last_used);
        let ended = TransactionState::Complete(Ended { outcome, reason, by });
        let open = std::mem::replace(&mut row.state, ended).into_open();
        row.number = number;
        // Who was only too slow may go on (KIP-588); who was fenced by a new holder may not.
        row.recoverable = reason.is_recoverable().then_some(by);
        row.holder = holder;
        row.last_used = at;
        before = Some((by, ran_under, used, open));
    })?;
    let Some((by, ran_under, used, open)) = before else { return Ok(()) };
    if let Some(ongoing) = open {
        rows.remove::<DeadlineRow>(&Timer::Transaction(id.clone()));
        open::enrolments_ended(rows, id, &ongoing)?;
        for offset in ongoing.offsets {
            let key = PendingOffsetKey { offset, producer: ran_under.id };
            let pending = rows.get::<PendingOffsetRow>(&key)?.cloned();
            let outcome = if mutated(Mutant::OffsetsKeptOnAbort) { Outcome::Commit } else { outcome };
            rows.remove::<PendingOffsetRow>(&key);
            if let (Some(pending), Outcome::Commit) = (pending, outcome) {
                rows.put(&key.offset, pending.committed);
            }
        }
    }
    keys::keys_resolved(rows, id, KeyTransaction { producer: ran_under.id, number }, outcome)?;
    outcome_known(rows, id, number, OutcomeRow { producer: ran_under, outcome, reason, operator: None });
    transactional_id_used(rows, id, Some(used), at);
    own_producer_id(rows, id, Some(by.id), holder.id);
    Ok(())
}

fn transaction_prepared(
    rows: &mut Draft<'_>,
    at: ServedTime,
    id: &TransactionalId,
    prepared_at: Timestamp,
    deadline: Option<ServedTime>,
) -> Result<(), Need> {
    let Some(mut row) = rows.get::<TransactionRow>(id)?.cloned() else { return Ok(()) };
    let TransactionState::Ongoing(transaction) = row.state else { return Ok(()) };
    let timer = Timer::Transaction(id.clone());
    match deadline {
        Some(deadline) => rows.put(&timer, DeadlineRow { deadline }),
        None => rows.remove::<DeadlineRow>(&timer),
    }
    let prepared = Prepared { transaction, producer: row.holder, at: prepared_at, deadline };
    transactional_id_used(rows, id, Some(row.last_used), at);
    row.state = TransactionState::Prepared(Box::new(prepared));
    row.last_used = at;
    rows.put(id, row);
    Ok(())
}

fn holder_replaced(
    rows: &mut Draft<'_>,
    at: ServedTime,
    id: &TransactionalId,
    (holder, recoverable, timeout): (Identity, Option<Identity>, Duration),
) -> Result<(), Need> {
    let Some(mut row) = rows.get::<TransactionRow>(id)?.cloned() else { return Ok(()) };
    own_producer_id(rows, id, Some(row.holder.id), holder.id);
    transactional_id_used(rows, id, Some(row.last_used), at);
    row.holder = holder;
    row.recoverable = recoverable;
    row.timeout = timeout;
    row.last_used = at;
    rows.put(id, row);
    Ok(())
}

fn deadline_moved(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    deadline: ServedTime,
    topic: TopicId,
) -> Result<(), Need> {
    rows.change(id, |row: &mut TransactionRow| {
        if let TransactionState::Ongoing(ongoing) = &mut row.state {
            ongoing.deadline = deadline;
            ongoing.budget_of = Some(topic);
        }
    })?;
    rows.put(&Timer::Transaction(id.clone()), DeadlineRow { deadline });
    Ok(())
}

/// The newest outcomes of an id are kept.
fn outcome_known(rows: &mut Draft<'_>, id: &TransactionalId, number: TxnNumber, outcome: OutcomeRow) {
    let key = |number| OutcomeKey { transactional_id: id.clone(), number };
    if let Some(oldest) = number.0.checked_sub(OUTCOMES_PER_ID_MAX) {
        rows.remove::<OutcomeRow>(&key(TxnNumber(oldest)));
    }
    rows.put(&key(number), outcome);
}

/// A transactional id takes its place in the order of idleness anew.
fn transactional_id_used(
    rows: &mut Draft<'_>,
    id: &TransactionalId,
    before: Option<ServedTime>,
    at: ServedTime,
) {
    let key = |at| IdleTransactionalIdKey { span: IdleSpan::of(at), transactional_id: id.clone() };
    match before.map(key) {
        Some(before) if before == key(at) => return,
        Some(before) => rows.remove::<IdleTransactionalIdRow>(&before),
        None => {}
    }
    rows.put(&key(at), IdleTransactionalIdRow {});
}

/// A producer takes its place in the order of idleness anew.
fn producer_used(rows: &mut Draft<'_>, producer: &ProducerKey, at: ServedTime) -> Result<(), Need> {
    let key = |at| IdleProducerKey { span: IdleSpan::of(at), producer: producer.clone() };
    match rows.get::<ProducerRow>(producer)?.map(|row| key(row.last_used)) {
        Some(before) if before == key(at) => return Ok(()),
        Some(before) => rows.remove::<IdleProducerRow>(&before),
        None => {}
    }
    rows.put(&key(at), IdleProducerRow {});
    Ok(())
}

fn transactional_id_expired(rows: &mut Draft<'_>, id: &TransactionalId) -> Result<(), Need> {
    let Some(row) = rows.get::<TransactionRow>(id)? else { return Ok(()) };
    let (newest, producer, span) = (row.number.0, row.holder.id, IdleSpan::of(row.last_used));
    rows.remove::<TransactionRow>(id);
    rows.remove::<ProducerOwnerRow>(&producer);
    rows.remove::<IdleTransactionalIdRow>(&IdleTransactionalIdKey { span, transactional_id: id.clone() });
    for number in newest.saturating_sub(OUTCOMES_PER_ID_MAX)..=newest {
        let number = TxnNumber(number);
        rows.remove::<OutcomeRow>(&OutcomeKey { transactional_id: id.clone(), number });
    }
    Ok(())
}

fn producer_expired(rows: &mut Draft<'_>, producer: ProducerKey, span: IdleSpan) -> Result<(), Need> {
    if rows.get::<ProducerRow>(&producer)?.is_some_and(|row| IdleSpan::of(row.last_used) == span) {
        rows.remove::<ProducerRow>(&producer);
    }
    rows.remove::<IdleProducerRow>(&IdleProducerKey { span, producer });
    Ok(())
}

impl ProducerRow {
    /// A producer that has stored nothing here.
    pub(super) fn fresh(epoch: ProducerEpoch, at: ServedTime) -> ProducerRow {
        ProducerRow {
            epoch,
            stored_in_epoch: 0,
            batches: SmallVec::new(),
            open: None,
            last_used: at,
            last_timestamp: Timestamp::NONE,
        }
    }

    /// A newer epoch forgets the older one's batches: its own sequences start at 0.
    fn enter_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.stored_in_epoch = 0;
            self.batches.clear();
        }
    }
}
