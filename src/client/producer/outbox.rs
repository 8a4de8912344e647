//! The producer's state machine: records become batches, batches get sequences, requests are made of batches, answers
//! settle them, and what failed is sent again in the same order under the same sequences.
//!
//! Pure: no I/O, no clock; time is an argument. The rules, for each partition:
//!
//! - Batches are sent in the order of their sequences, on one lane, at most [`OutboxLimits::partition_batches`] at a
//!   time: as many as a broker remembers to tell a duplicate (KIP-98).
//! - After a failure nothing is sent until everything in flight has come back; then the oldest goes first.
//! - A batch that may have been stored keeps its sequences. Only batches of which that can be ruled out get new ones,
//!   under a new epoch, when no batch of the old epoch is left (KIP-360): the broker has said that the first of them is
//!   not stored, no copy of it is under way on a connection that was lost, and so those behind it never can be.
//! - In a transaction nothing gets a new epoch: the first failure is the transaction's.

use super::super::backoff::{Backoff, BackoffLimits};
use super::super::error::seconds;
use super::super::metadata::TopicPartition;
use super::delivery::{ProduceError, Promise, Stored};
use super::queue::{Batch, BatchNumber, Body, Queue, Renewal};
use crate::types::{
    HashMap, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName,
};
use crate::wire::ErrorCode;
use crate::wire::batch::{BatchError, BatchProducer, Compression, ProducerBatch, Record, rewrite_producer};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a producer may hold and how long it may wait.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// A batch that has grown to this size is sent, in bytes before compression.
    pub batch_bytes: usize,
    /// A batch that is this old is sent, however small.
    pub linger: Duration,
    /// Records that are not settled, in bytes before compression; beyond, senders wait.
    pub buffer_bytes: usize,
    /// The largest request, in bytes before compression.
    pub request_bytes: usize,
    /// Requests without an answer on one lane.
    pub lane_requests: usize,
    /// Batches without an answer of one partition. At most 5: a broker remembers no more.
    pub partition_batches: usize,
    /// Lanes to each broker; a partition always uses the same.
    pub lanes: u16,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long a record may take from `append` to its outcome, with all retries.
    pub delivery_timeout: Duration,
    /// Pauses between attempts.
    pub backoff: BackoffLimits,
    /// How batches are compressed.
    pub compression: Compression,
}

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An idempotent producer: failures of a batch are its own.
    Idempotent,
    /// A transaction: the first failure is everybody's.
    Transactional,
}

/// A lane for batches: to which broker, and which of the lanes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProduceLane {
    /// The broker.
    pub node: NodeId,
    /// The lane's number, below [`OutboxLimits::lanes`].
    pub number: u16,
}

/// A request's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestNumber(u64);

/// A request to be built and sent.
#[derive(Debug)]
pub struct ReadyRequest {
    /// Its number, by which its answer or failure is reported.
    pub number: RequestNumber,
    /// The lane to send it on.
    pub lane: ProduceLane,
    parts: Vec<ReadyPart>,
}

#[derive(Debug)]
struct ReadyPart {
    partition: TopicPartition,
    body: Body,
    producer: BatchProducer,
    compression: Compression,
}

/// A request's batches, built.
#[derive(Debug)]
pub struct BuiltRequest {
    /// The request's number.
    pub number: RequestNumber,
    /// The lane to send it on.
    pub lane: ProduceLane,
    /// Partition and batch; an error where the batch cannot be built.
    pub parts: Vec<(TopicPartition, Result<Bytes, BatchError>)>,
}

impl ReadyRequest {
    /// Compresses and checksums the batches. The only expensive step, and it needs nothing of the outbox.
    #[must_use]
    pub fn build(self) -> BuiltRequest {
        let parts = self.parts.into_iter().map(|part| {
            let built = build(part.body, part.producer, part.compression);
            (part.partition, built)
        });
        BuiltRequest { number: self.number, lane: self.lane, parts: parts.collect() }
    }
}

fn build(body: Body, producer: BatchProducer, compression: Compression) -> Result<Bytes, BatchError> {
    match body {
        Body::Open(builder) => builder.build(compression, producer),
        Body::Built { bytes, producer: before } if before == producer => Ok(bytes),
        Body::Built { bytes, .. } => {
            let mut renewed = BytesMut::from(&bytes[..]);
            if let Some(batch) = producer.batch() {
                rewrite_producer(&mut renewed, batch)?;
            }
            Ok(renewed.freeze())
        }
        Body::Away => Err(BatchError::Empty),
    }
}

/// A broker's answer for one partition.
#[derive(Clone, Debug)]
pub struct PartitionAnswer {
    /// The partition.
    pub partition: TopicPartition,
    /// The error, or none.
    pub code: ErrorCode,
    /// The broker's own words, if it had any.
    pub detail: Option<String>,
    /// The first record's offset.
    pub base_offset: Offset,
    /// The broker's time, or [`Timestamp::NONE`].
    pub append_time: Timestamp,
    /// The records whose idempotency keys are accepted already.
    pub accepted_keys: Vec<AcceptedKey>,
}

/// A record that was refused because its idempotency key is accepted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedKey {
    /// The record's place in its batch.
    pub index: u32,
    /// Where the record is that bears the key; none: it is an earlier one of the same batch.
    pub at: Option<(PartitionIndex, Offset)>,
}

/// Why a record was not taken.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The buffer is full: wait until something is settled.
    Full,
    /// It never will be.
    Never(ProduceError),
}

/// A record that was taken.
pub(super) struct Appended {
    pub(super) promise: Arc<Promise>,
    pub(super) index: u32,
    /// Whether the sender has something new to do.
    pub(super) wake: bool,
}

#[derive(Debug, Default)]
struct LaneState {
    in_flight: usize,
    open: bool,
}

#[derive(Debug)]
struct Sent {
    lane: ProduceLane,
    deadline: Instant,
    parts: Vec<(usize, BatchNumber)>,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    mode: Mode,
    identity: Option<(ProducerId, ProducerEpoch)>,
    queues: Vec<Queue>,
    by_partition: HashMap<TopicPartition, usize>,
    /// Queues that hold a batch.
    active: BTreeSet<usize>,
    /// Where the next search for something to send starts, so that every partition gets its turn.
    turn: usize,
    lanes: BTreeMap<ProduceLane, LaneState>,
    wanted_lanes: BTreeSet<ProduceLane>,
    stale_topics: BTreeSet<TopicName>,
    requests: BTreeMap<RequestNumber, Sent>,
    buffered: usize,
    next_request: u64,
    next_batch: u64,
    failure: Option<Arc<ProduceError>>,
    /// The latest time it was told.
    now: Instant,
    /// When the shell will look again by itself, at the latest.
    looked_at_by: Option<Instant>,
    seed: u64,
}

/// What a record takes beside its key, value and headers: lengths, deltas, attributes.
const RECORD_OVERHEAD: usize = 24;

/// A record's size in the buffer, in bytes.
pub(super) fn record_size(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|header| header.name.len() + length(&header.value) + 8);
    length(&record.key) + length(&record.value) + headers.sum::<usize>() + RECORD_OVERHEAD
}

impl Outbox {
    /// An empty outbox. `seed` spreads its pauses.
    #[must_use]
    pub fn new(limits: OutboxLimits, mode: Mode, now: Instant, seed: u64) -> Outbox {
        Outbox {
            limits,
            mode,
            identity: None,
            queues: Vec::new(),
            by_partition: HashMap::default(),
            active: BTreeSet::new(),
            turn: 0,
            lanes: BTreeMap::new(),
            wanted_lanes: BTreeSet::new(),
            stale_topics: BTreeSet::new(),
            requests: BTreeMap::new(),
            buffered: 0,
            next_request: 0,
            next_batch: 0,
            failure: None,
            now,
            looked_at_by: None,
            seed,
        }
    }

    /// Takes a record. Its time is the producer's.
    pub(super) fn append(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        leader: Option<NodeId>,
        timestamp: Timestamp,
        record: &Record,
    ) -> Result<Appended, Refusal> {
        if let Some(failure) = &self.failure {
            return Err(Refusal::Never(self.after_failure(failure)));
        }
        let size = record_size(record);
        if size > self.limits.request_bytes {
            let limit = self.limits.request_bytes;
            return Err(Refusal::Never(ProduceError::TooLarge { size, limit }));
        }
        // One record always fits, however small the buffer.
        if self.buffered > 0 && self.buffered + size > self.limits.buffer_bytes {
            return Err(Refusal::Full);
        }
        let index = self.queue_of(partition, leader);
        let Some(queue) = self.queues.get_mut(index) else { return Err(Refusal::Full) };
        let sealed = queue.seal_if_full(size, self.limits.batch_bytes);
        let fresh = !queue.has_open_batch();
        if fresh {
            self.next_batch += 1;
            // Room for what is likely to come, not for what never may.
            let capacity = queue.last_bytes.min(self.limits.batch_bytes).max(size);
            queue.batches.push_back(Batch::new(BatchNumber(self.next_batch), now, capacity));
        }
        let Some(batch) = queue.batches.back_mut() else { return Err(Refusal::Full) };
        let at = batch.append(timestamp, record, size).map_err(|error| Refusal::Never(error.into()))?;
        self.buffered += size;
        let full = batch.bytes >= self.limits.batch_bytes;
        if full {
            batch.sealed = true;
        }
        let promise = Arc::clone(&batch.promise);
        self.active.insert(index);
        // A batch that may linger needs nobody, if somebody looks in time.
        let wake = sealed || full || (fresh && !self.is_looked_at_by(now + self.limits.linger));
        Ok(Appended { promise, index: at, wake })
    }

    fn is_looked_at_by(&self, at: Instant) -> bool {
        self.looked_at_by.is_some_and(|looked_at| looked_at <= at)
    }

    fn queue_of(&mut self, partition: &TopicPartition, leader: Option<NodeId>) -> usize {
        if let Some(index) = self.by_partition.get(partition) {
            return *index;
        }
        let index = self.queues.len();
        let number = u16::try_from(index % usize::from(self.limits.lanes.max(1))).unwrap_or(0);
        let backoff = Backoff::new(self.limits.backoff, self.seed.wrapping_add(index as u64));
        self.queues.push(Queue::new(partition.clone(), number, leader, backoff));
        self.by_partition.insert(partition.clone(), index);
        index
    }

    /// The next request that can be sent now, if there is one.
    pub fn next_request(&mut self, now: Instant) -> Option<ReadyRequest> {
        let order = self.active_in_turn();
        let mut chosen: Option<ProduceLane> = None;
        let mut parts = Vec::new();
        let mut sent = Vec::new();
        let mut bytes = 0;
        for index in order {
            let Some((lane, size)) = self.sendable(index, now) else { continue };
            if chosen.is_some_and(|chosen| chosen != lane)
                || bytes + size > self.limits.request_bytes && bytes > 0
            {
                continue;
            }
            let Some((number, part)) = self.take_batch(index) else { continue };
            if chosen.is_none() {
                self.turn = index + 1;
            }
            chosen = Some(lane);
            bytes += size;
            sent.push((index, number));
            parts.push(part);
        }
        let lane = chosen?;
        self.next_request += 1;
        let number = RequestNumber(self.next_request);
        for (index, batch) in &sent {
            if let Some(batch) = self.queues.get_mut(*index).and_then(|queue| queue.batch_mut(*batch)) {
                batch.in_flight = Some(number);
            }
        }
        self.lanes.entry(lane).or_default().in_flight += 1;
        self.requests.insert(number, Sent { lane, deadline: now + self.limits.request_timeout, parts: sent });
        Some(ReadyRequest { number, lane, parts })
    }

    fn active_in_turn(&self) -> Vec<usize> {
        self.active.range(self.turn..).chain(self.active.range(..self.turn)).copied().collect()
    }

    /// The lane and size of the batch that a queue could send now. Notes what is missing if there is something to send.
    fn sendable(&mut self, index: usize, now: Instant) -> Option<(ProduceLane, usize)> {
        let limits = self.limits;
        let queue = self.queues.get_mut(index)?;
        queue.resume(now);
        let size = queue.ready_size(now, &limits)?;
        let Some(node) = queue.node_to_use() else {
            self.stale_topics.insert(queue.partition.topic.clone());
            return None;
        };
        let lane = ProduceLane { node, number: queue.lane };
        let state = self.lanes.entry(lane).or_default();
        if !state.open {
            self.wanted_lanes.insert(lane);
            return None;
        }
        let free = state.in_flight < limits.lane_requests;
        (free && self.give_identity(index)).then_some((lane, size))
    }

    /// Whether the queue has a producer id and epoch under which its next batch can be sent.
    fn give_identity(&mut self, index: usize) -> bool {
        let identity = self.identity;
        let Some(queue) = self.queues.get_mut(index) else { return false };
        match queue.prepare_identity(identity) {
            Renewal::Ready => true,
            Renewal::Waiting => false,
            Renewal::Exhausted => {
                // Everybody goes on with a new id; the others when they next need an identity.
                if self.identity.map(|(id, _)| id) == queue.producer_id() {
                    self.identity = None;
                }
                false
            }
        }
    }

    fn take_batch(&mut self, index: usize) -> Option<(BatchNumber, ReadyPart)> {
        let (mode, compression) = (self.mode, self.limits.compression);
        let queue = self.queues.get_mut(index)?;
        let (number, body, stamp) = queue.take_next()?;
        let producer = producer_of(mode, stamp);
        Some((number, ReadyPart { partition: queue.partition.clone(), body, producer, compression }))
    }

    /// Keeps a request's built batches, in case they must be sent again. A batch that cannot be built has failed.
    pub fn built(&mut self, request: &BuiltRequest) {
        let Some(sent) = self.requests.get(&request.number) else { return };
        let parts = sent.parts.clone();
        for ((index, number), (partition, built)) in parts.into_iter().zip(&request.parts) {
            let mode = self.mode;
            let Some(batch) = self.queues.get_mut(index).and_then(|queue| queue.batch_mut(number)) else {
                continue;
            };
            match (built, batch.stamp) {
                (Ok(bytes), Some(stamp)) => {
                    batch.body = Body::Built { bytes: bytes.clone(), producer: producer_of(mode, stamp) };
                }
                (Err(error), _) => self.refuse(index, number, ProduceError::Unbuildable(error.clone())),
                (Ok(_), None) => tracing::error!(%partition, "a batch without sequences was built"),
            }
        }
    }

    /// A request was answered.
    pub fn answered(&mut self, now: Instant, request: RequestNumber, answers: &[PartitionAnswer]) {
        self.now = now;
        let Some(sent) = self.close_request(request) else { return };
        for (place, (index, number)) in sent.parts.into_iter().enumerate() {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            let is_its = |answer: &&PartitionAnswer| answer.partition == queue.partition;
            // Mostly they are answered in the order in which they were sent.
            let answer = answers.get(place).filter(is_its).or_else(|| answers.iter().find(is_its));
            queue.returned(number);
            match answer {
                Some(answer) => self.judge(now, index, number, answer),
                // An answer that leaves a partition out says nothing about it.
                None => self.lost(now, index, number),
            }
        }
        self.forget_idle();
    }

    /// A request got no answer: whether its batches are stored is not known.
    pub fn failed(&mut self, now: Instant, request: RequestNumber) {
        self.now = now;
        let Some(sent) = self.close_request(request) else { return };
        for (index, number) in sent.parts {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.returned(number);
                self.lost(now, index, number);
            }
        }
    }

    fn close_request(&mut self, request: RequestNumber) -> Option<Sent> {
        let sent = self.requests.remove(&request)?;
        if let Some(lane) = self.lanes.get_mut(&sent.lane) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        Some(sent)
    }

    fn judge(&mut self, now: Instant, index: usize, number: BatchNumber, answer: &PartitionAnswer) {
        let Some(queue) = self.queues.get(index) else { return };
        let oldest = queue.batches.front().is_none_or(|batch| batch.number == number);
        match answer.code {
            ErrorCode::None => self.settle(index, number, Ok(Some(answer.base_offset)), answer.append_time),
            // It is stored, but so long ago that the broker has forgotten where.
            ErrorCode::DuplicateSequenceNumber => self.settle(index, number, Ok(None), Timestamp::NONE),
            // Its predecessor was not stored, so neither was this. The predecessor goes first.
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId if !oldest => {
                self.send_again(now, index);
            }
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::UnknownProducerId
                if self.mode == Mode::Idempotent =>
            {
                self.renew(now, index, number, answer.code);
            }
            // The broker may have stored it before it failed.
            ErrorCode::RequestTimedOut
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::KafkaStorageError
            | ErrorCode::NetworkException => {
                self.note_stale(answer);
                self.lost(now, index, number);
            }
            code if code.retriable() => {
                self.note_stale(answer);
                self.send_again(now, index);
            }
            code => {
                let (partition, detail) = (answer.partition.clone(), answer.detail.clone());
                let keys = answer.accepted_keys.as_slice().into();
                self.refuse(index, number, ProduceError::Refused { partition, code, detail, keys });
            }
        }
    }

    fn note_stale(&mut self, answer: &PartitionAnswer) {
        if super::super::error::stale_metadata(answer.code) {
            self.stale_topics.insert(answer.partition.topic.clone());
        }
    }

    /// The batch may be stored, now or when what was lost on the way turns up.
    fn lost(&mut self, now: Instant, index: usize, number: BatchNumber) {
        if let Some(batch) = self.queues.get_mut(index).and_then(|queue| queue.batch_mut(number)) {
            batch.lost = true;
        }
        self.send_again(now, index);
    }

    /// What is unsettled goes again, oldest first, when everything in flight is back and after a pause.
    fn send_again(&mut self, now: Instant, index: usize) {
        if self.failure.is_some() {
            return self.drop_waiting(index);
        }
        if let Some(queue) = self.queues.get_mut(index) {
            queue.pause(now);
        }
    }

    /// The broker says that this batch is not stored, and it cannot be under the sequences it has: it and all after it
    /// get a new epoch, unless a lost copy of it may still turn up.
    fn renew(&mut self, now: Instant, index: usize, number: BatchNumber, code: ErrorCode) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        queue.pause(now);
        if !queue.batch_mut(number).is_some_and(|batch| batch.lost) {
            return queue.renew_from(number);
        }
        let reason = format!("one attempt got no answer, and the next this one: {code}");
        let error = ProduceError::Unknown { partition: queue.partition.clone(), reason };
        self.settle(index, number, Err(error), Timestamp::NONE);
    }

    /// The broker, or the outbox itself, will not have the batch.
    fn refuse(&mut self, index: usize, number: BatchNumber, error: ProduceError) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        let lost = queue.batch_mut(number).is_some_and(|batch| batch.lost);
        let error = match lost {
            true => ProduceError::Unknown {
                partition: queue.partition.clone(),
                reason: format!("one attempt got no answer, and the next was refused: {error}"),
            },
            false => error,
        };
        if self.mode == Mode::Idempotent && !lost {
            // Those after it would leave a gap; nothing of them can be stored either.
            queue.renew_from(number);
        }
        self.settle(index, number, Err(error.clone()), Timestamp::NONE);
        if self.mode == Mode::Transactional {
            self.fail(error);
        }
    }

    fn settle(
        &mut self,
        index: usize,
        number: BatchNumber,
        outcome: Result<Option<Offset>, ProduceError>,
        append_time: Timestamp,
    ) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        let Some(batch) = queue.remove(number) else { return };
        if outcome.is_ok() {
            queue.backoff.succeeded();
        }
        self.buffered = self.buffered.saturating_sub(batch.bytes);
        let partition = queue.partition.clone();
        batch
            .promise
            .settle(self.now, outcome.map(|base_offset| Stored { partition, base_offset, append_time }));
        if queue.batches.is_empty() {
            self.active.remove(&index);
        }
    }

    /// Everything fails: in a transaction because of one batch, otherwise because the producer cannot go on. What is in
    /// flight is waited for.
    pub fn fail(&mut self, error: ProduceError) {
        if self.failure.is_none() {
            self.failure = Some(Arc::new(error));
        }
        for index in self.active.clone() {
            self.drop_waiting(index);
        }
    }

    fn drop_waiting(&mut self, index: usize) {
        let Some(failure) = self.failure.clone() else { return };
        let error = self.after_failure(&failure);
        let waiting = self.queues.get(index).map(Queue::waiting).unwrap_or_default();
        for number in waiting {
            self.settle(index, number, Err(error.clone()), Timestamp::NONE);
        }
    }

    fn after_failure(&self, failure: &Arc<ProduceError>) -> ProduceError {
        match self.mode {
            Mode::Transactional => ProduceError::TransactionFailed(Arc::clone(failure)),
            Mode::Idempotent => ProduceError::clone(failure),
        }
    }

    /// Settles what has waited too long.
    pub fn expire(&mut self, now: Instant) {
        self.now = now;
        let Some(limit) = now.checked_sub(self.limits.delivery_timeout) else { return };
        let is_late =
            |index: &usize| self.queues.get(*index).is_some_and(|queue| queue.expired(limit).is_some());
        // Mostly there are none.
        let late: Vec<_> = self.active.iter().copied().filter(is_late).collect();
        for index in late {
            while let Some((number, sent)) = self.queues.get(index).and_then(|queue| queue.expired(limit)) {
                let Some(partition) = self.queues.get(index).map(|queue| queue.partition.clone()) else {
                    break;
                };
                let after = self.limits.delivery_timeout;
                let error = match sent {
                    true => {
                        let reason = format!("no answer within {}", seconds(after));
                        ProduceError::Unknown { partition, reason }
                    }
                    false => ProduceError::Expired { partition, after },
                };
                self.settle(index, number, Err(error.clone()), Timestamp::NONE);
                if self.mode == Mode::Transactional {
                    self.fail(error);
                }
            }
        }
    }

    /// When something will have to be done although nothing happens. The shell will look by then.
    #[must_use]
    pub fn next_wakeup(&mut self, now: Instant) -> Option<Instant> {
        self.looked_at_by = self.due(now);
        self.looked_at_by
    }

    /// Whether the shell must look earlier than it said it would: something is missing, or is due before.
    #[must_use]
    pub fn wants_a_look(&self, now: Instant) -> bool {
        let missing = !self.wanted_lanes.is_empty() || !self.stale_topics.is_empty();
        missing || self.wants_identity() || self.due(now).is_some_and(|due| !self.is_looked_at_by(due))
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let requests = self.requests.values().map(|sent| sent.deadline);
        let queues = self.active.iter().filter_map(|index| self.queues.get(*index)?.wakeup(&self.limits));
        // What is due already waits for something else than time: an answer, a lane, a leader.
        requests.chain(queues).filter(|due| *due > now).min()
    }

    /// The lanes on which an answer is overdue. They must be closed; what they carried then fails.
    #[must_use]
    pub fn overdue_lanes(&self, now: Instant) -> BTreeSet<ProduceLane> {
        self.requests.values().filter(|sent| sent.deadline <= now).map(|sent| sent.lane).collect()
    }

    /// Closes every batch, so that it is sent without waiting for more, and returns the promises of all that are not
    /// settled.
    pub(super) fn seal_all(&mut self) -> Vec<Arc<Promise>> {
        let mut promises = Vec::new();
        for index in &self.active {
            let Some(queue) = self.queues.get_mut(*index) else { continue };
            for batch in &mut queue.batches {
                batch.sealed = true;
                promises.push(Arc::clone(&batch.promise));
            }
        }
        promises
    }

    /// Says who the producer is. With another identity every partition starts at sequence 0; nothing may be unsettled
    /// then, but for an idempotent producer's, which go on under the identity they have.
    pub fn identify(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        if self.mode == Mode::Transactional && self.identity != Some((id, epoch)) {
            self.queues.iter_mut().for_each(Queue::forget_identity);
        }
        self.identity = Some((id, epoch));
    }

    /// Whether a producer id is needed.
    #[must_use]
    pub fn wants_identity(&self) -> bool {
        self.identity.is_none() && self.failure.is_none()
    }

    /// A transaction is over: forgets its failure. Nothing may be unsettled.
    pub fn clear_failure(&mut self) -> Option<Arc<ProduceError>> {
        self.failure.take()
    }

    /// Why everything fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<ProduceError>> {
        self.failure.clone()
    }

    /// Whether nothing is unsettled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Whether a request has no answer yet.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether this request has all that is not settled, and nothing has failed: once its batches are stored, everything is.
    #[must_use]
    pub fn is_last(&self, request: RequestNumber) -> bool {
        let mut active = self.active.iter().filter_map(|index| self.queues.get(*index));
        self.failure.is_none()
            && self.requests.len() == 1
            && self.requests.contains_key(&request)
            && active.all(|queue| queue.waiting().is_empty())
    }

    /// The lanes that are needed and not open. They are asked for again if they are still needed then.
    pub fn take_wanted_lanes(&mut self) -> BTreeSet<ProduceLane> {
        std::mem::take(&mut self.wanted_lanes)
    }

    /// A lane can be used, or no longer.
    pub fn lane_is_open(&mut self, lane: ProduceLane, open: bool) {
        self.lanes.entry(lane).or_default().open = open;
    }

    /// The topics whose leaders must be asked for.
    pub fn take_stale_topics(&mut self) -> BTreeSet<TopicName> {
        std::mem::take(&mut self.stale_topics)
    }

    /// Says who leads the partitions. A partition moves when nothing of it is in flight.
    pub fn route(&mut self, leader_of: impl Fn(&TopicPartition) -> Option<NodeId>) {
        for queue in &mut self.queues {
            queue.wanted_node = leader_of(&queue.partition);
        }
    }

    fn forget_idle(&mut self) {
        self.lanes.retain(|_, lane| lane.open || lane.in_flight > 0);
    }
}

fn producer_of(mode: Mode, stamp: ProducerBatch) -> BatchProducer {
    match mode {
        Mode::Idempotent => BatchProducer::Idempotent(stamp),
        Mode::Transactional => BatchProducer::Transactional(stamp),
    }
}
