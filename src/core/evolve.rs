//! How each event changes the rows. Total: an event that was decided always takes effect, and says everything its effect
//! depends on. The same code runs as a decision is made and as the log is replayed.

mod groups;

use super::draft::{Draft, Need};
use super::events::{BatchAppended, Enrolment, Event, MARKER_BYTES, MarkerWritten};
use super::rows::*;
use crate::types::*;

/// Lets one event take effect on the rows, at served time `at`. On `Err`, the draft is to be dropped and tried again once
/// the needed rows are known.
pub fn evolve(rows: &mut Draft<'_>, at: ServedTime, event: &Event) -> Result<(), Need> {
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
        Event::ProducerIdsReserved { until } => {
            rows.put(&(), ProducerIdsRow { reserved_until: *until });
            Ok(())
        }
        Event::ProducerInitialized { transactional_id, holder, recoverable, timeout } => {
            let number = rows.get::<TransactionRow>(transactional_id)?.map_or(TxnNumber(0), |row| row.number);
            let row = TransactionRow {
                holder: *holder,
                recoverable: *recoverable,
                number,
                timeout: *timeout,
                state: TransactionState::Empty,
                last_used: at,
            };
            rows.put(transactional_id, row);
            Ok(())
        }
        Event::PartitionsEnrolled { enrolment, partitions } => {
            enrolled(rows, at, enrolment, |ongoing| ongoing.partitions.extend(partitions.iter().copied()))
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
        Event::GenerationFormed { .. }
        | Event::GroupAssigned { .. }
        | Event::MemberReplaced { .. }
        | Event::MembersLeft { .. }
        | Event::GroupDeleted { .. } => groups::evolve(rows, at, event),
        Event::OffsetsForgotten { offsets } => {
            offsets.iter().for_each(|key| rows.remove::<CommittedOffset>(key));
            Ok(())
        }
        Event::LogStartMoved { partition, to, .. } => rows.change(partition, |row: &mut PartitionRow| {
            row.log_start = to.offset;
            row.bytes_below_start = to.bytes;
        }),
        Event::OffsetsCommitted { offsets } => {
            for (key, committed) in offsets {
                rows.put(key, committed.clone());
            }
            Ok(())
        }
        Event::RowsSwept { producers, aborted } => {
            producers.iter().for_each(|key| rows.remove::<ProducerRow>(key));
            aborted.iter().for_each(|key| rows.remove::<AbortedRow>(key));
            Ok(())
        }
    }
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
    for partition in partitions_of(topic, 0..row.partitions) {
        rows.remove::<PartitionRow>(&partition);
        rows.remove::<OpenTransactionsRow>(&partition);
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

/// Opens the transaction if this is its first enrolment.
fn enrolled(
    rows: &mut Draft<'_>,
    at: ServedTime,
    enrolment: &Enrolment,
    change: impl FnOnce(&mut Ongoing),
) -> Result<(), Need> {
    let id = &enrolment.transactional_id;
    match rows.get::<TransactionRow>(id)?.map(|row| &row.state) {
        None => return Ok(()),
        Some(TransactionState::Ongoing(_)) => {}
        Some(_) => {
            rows.put(&Timer::Transaction(id.clone()), DeadlineRow { deadline: enrolment.deadline });
        }
    }
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
        row.next_offset = batch.last_offset().next();
        row.totals = batch.before.with(batch.bytes, batch.max_timestamp);
    })?;
    let Some(append) = &batch.producer else { return Ok(()) };
    let key = ProducerKey { partition, producer: append.identity.id };
    let opens = match append.transaction {
        Some(number) if rows.get::<ProducerRow>(&key)?.is_none_or(|row| row.open.is_none()) => Some(number),
        _ => None,
    };
    let fresh = || ProducerRow::fresh(append.identity.epoch, at);
    rows.update(&key, fresh, |row| {
        row.enter_epoch(append.identity.epoch);
        row.stored_in_epoch = row.stored_in_epoch.saturating_add(u64::from(batch.records));
        if row.batches.len() >= REMEMBERED_BATCHES {
            row.batches.remove(0);
        }
        row.batches.push(RememberedBatch {
            sequences: append.sequences,
            base_offset: batch.base_offset,
            append_time: batch.append_time.unwrap_or(Timestamp::NONE),
        });
        row.last_used = at;
        if let Some(number) = opens {
            row.open = Some((number, batch.base_offset));
        }
    })?;
    match opens {
        Some(number) => transaction_opened(rows, partition, batch.base_offset, append.identity.id, number),
        None => Ok(()),
    }
}

/// A transaction's first record in a partition: from here on it holds back the last stable offset.
fn transaction_opened(
    rows: &mut Draft<'_>,
    partition: PartitionId,
    first: Offset,
    producer: ProducerId,
    number: TxnNumber,
) -> Result<(), Need> {
    rows.update(&partition, OpenTransactionsRow::default, |row| {
        row.by_first_offset.insert(first, OpenTransaction { producer, number });
    })?;
    rows.change(&partition, |row: &mut PartitionRow| {
        row.first_open = Some(row.first_open.map_or(first, |open| open.min(first)));
    })
}

/// The transaction holds the last stable offset of `partition` back no longer.
fn transaction_closed(rows: &mut Draft<'_>, partition: PartitionId, first: Offset) -> Result<(), Need> {
    let mut oldest = None;
    rows.update(&partition, OpenTransactionsRow::default, |row| {
        row.by_first_offset.remove(&first);
        oldest = row.by_first_offset.keys().next().copied();
    })?;
    rows.change(&partition, |row: &mut PartitionRow| row.first_open = oldest)
}

fn marker_written(rows: &mut Draft<'_>, at: ServedTime, marker: &MarkerWritten) -> Result<(), Need> {
    let partition = marker.partition;
    rows.change(&partition, |row: &mut PartitionRow| {
        row.next_offset = marker.offset.next();
        row.totals = marker.before.with(MARKER_BYTES, marker.timestamp);
    })?;
    let key = ProducerKey { partition, producer: marker.producer.id };
    let mut closed = None;
    rows.update(
        &key,
        || ProducerRow::fresh(marker.producer.epoch, at),
        |row| {
            row.enter_epoch(marker.producer.epoch);
            row.last_used = at;
            closed = row.open.take_if(|(number, _)| *number == marker.number);
        },
    )?;
    let Some((_, first)) = closed else { return Ok(()) };
    if marker.outcome == Outcome::Abort {
        rows.put(
            &AbortedKey { partition, producer: marker.producer.id, marker: marker.offset },
            AbortedRow { first },
        );
    }
    transaction_closed(rows, partition, first)
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
    let Some(mut row) = rows.get::<TransactionRow>(id)?.cloned() else { return Ok(()) };
    let by = row.holder;
    row.number = number;
    let ended = TransactionState::Complete(Ended { outcome, reason, by });
    if let TransactionState::Ongoing(ongoing) = std::mem::replace(&mut row.state, ended) {
        rows.remove::<DeadlineRow>(&Timer::Transaction(id.clone()));
        for offset in ongoing.offsets {
            let key = PendingOffsetKey { offset, producer: by.id };
            let pending = rows.get::<PendingOffsetRow>(&key)?.cloned();
            rows.remove::<PendingOffsetRow>(&key);
            if let (Some(pending), Outcome::Commit) = (pending, outcome) {
                rows.put(&key.offset, pending.committed);
            }
        }
    }
    // Who was only too slow may go on (KIP-588); who was fenced by a new holder may not.
    row.recoverable = (reason == EndReason::Expired).then_some(by);
    row.holder = holder;
    row.last_used = at;
    rows.put(id, row);
    Ok(())
}

impl ProducerRow {
    /// A producer that has stored nothing here.
    pub(super) fn fresh(epoch: ProducerEpoch, at: ServedTime) -> ProducerRow {
        ProducerRow { epoch, stored_in_epoch: 0, batches: Vec::new(), open: None, last_used: at }
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
