//! One partition's batches, oldest first, and the rules of their order and sequences (see [`super::outbox`]).

use super::super::backoff::Backoff;
use super::super::metadata::TopicPartition;
use super::delivery::{ProduceError, Promise};
use super::outbox::{OutboxLimits, RequestNumber};
use crate::types::{NodeId, ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp};
use crate::wire::batch::{BatchBuilder, BatchError, BatchProducer, ProducerBatch, Record};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A batch's number in its outbox: later batches have higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(pub(super) u64);

/// Where a batch's bytes are.
#[derive(Debug)]
pub(super) enum Body {
    /// Records are still being added, or it has never been sent.
    Open(BatchBuilder),
    /// Built, under this identity and these sequences.
    Built { bytes: Bytes, producer: BatchProducer },
    /// With the request that is being built.
    Away,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: BatchNumber,
    pub(super) promise: Arc<Promise>,
    pub(super) body: Body,
    /// Identity and sequences, from the first time it is sent until it is known not to be stored.
    pub(super) stamp: Option<ProducerBatch>,
    pub(super) in_flight: Option<RequestNumber>,
    /// What it takes of the buffer.
    pub(super) bytes: usize,
    pub(super) count: u32,
    pub(super) created: Instant,
    /// No record is added any more.
    pub(super) sealed: bool,
    /// Whether an attempt got no answer: the broker may have stored it, or may yet.
    pub(super) lost: bool,
}

impl Batch {
    pub(super) fn new(number: BatchNumber, now: Instant, capacity: usize) -> Batch {
        Batch {
            number,
            promise: Arc::default(),
            body: Body::Open(BatchBuilder::new(capacity)),
            stamp: None,
            in_flight: None,
            bytes: 0,
            count: 0,
            created: now,
            sealed: false,
            lost: false,
        }
    }

    /// Adds a record and returns its place.
    pub(super) fn append(
        &mut self,
        timestamp: Timestamp,
        record: &Record,
        size: usize,
    ) -> Result<u32, BatchError> {
        let Body::Open(builder) = &mut self.body else { return Err(BatchError::Empty) };
        builder.append(timestamp, record)?;
        self.bytes += size;
        self.count += 1;
        Ok(self.count - 1)
    }
}

/// An outbox that is dropped leaves nobody waiting.
impl Drop for Batch {
    fn drop(&mut self) {
        self.promise.settle(self.created, Err(ProduceError::Closed));
    }
}

/// Whether a queue has an identity for its next batch.
pub(super) enum Renewal {
    Ready,
    /// Batches of the old epoch are unsettled, or no identity is known.
    Waiting,
    /// The epochs of its producer id are used up.
    Exhausted,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) partition: TopicPartition,
    pub(super) lane: u16,
    node: Option<NodeId>,
    /// Who leads the partition now; `node` follows when nothing is in flight.
    pub(super) wanted_node: Option<NodeId>,
    identity: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: Sequence,
    pub(super) batches: VecDeque<Batch>,
    /// How large the batch was that left last.
    pub(super) last_bytes: usize,
    in_flight: usize,
    /// After a failure: when to go on, at the earliest, once nothing is in flight.
    paused_until: Option<Instant>,
    /// Batches from this one on are not stored and need a new epoch.
    renewed_from: Option<BatchNumber>,
    pub(super) backoff: Backoff,
}

impl Queue {
    pub(super) fn new(
        partition: TopicPartition,
        lane: u16,
        leader: Option<NodeId>,
        backoff: Backoff,
    ) -> Queue {
        Queue {
            partition,
            lane,
            node: leader,
            wanted_node: leader,
            identity: None,
            next_sequence: Sequence::FIRST,
            batches: VecDeque::new(),
            last_bytes: 0,
            in_flight: 0,
            paused_until: None,
            renewed_from: None,
            backoff,
        }
    }

    pub(super) fn has_open_batch(&self) -> bool {
        self.batches.back().is_some_and(|batch| !batch.sealed)
    }

    /// Closes the open batch if `size` more bytes would make it too large. Whether it did.
    pub(super) fn seal_if_full(&mut self, size: usize, batch_bytes: usize) -> bool {
        let last = self.batches.back_mut().filter(|batch| !batch.sealed && batch.bytes + size > batch_bytes);
        last.map(|batch| batch.sealed = true).is_some()
    }

    pub(super) fn batch_mut(&mut self, number: BatchNumber) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.number == number)
    }

    pub(super) fn remove(&mut self, number: BatchNumber) -> Option<Batch> {
        let at = self.batches.iter().position(|batch| batch.number == number)?;
        let batch = self.batches.remove(at)?;
        self.last_bytes = batch.bytes;
        if batch.in_flight.is_some() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        Some(batch)
    }

    /// The batches that are not in flight.
    pub(super) fn waiting(&self) -> Vec<BatchNumber> {
        let waiting = self.batches.iter().filter(|batch| batch.in_flight.is_none());
        waiting.map(|batch| batch.number).collect()
    }

    /// The first batch that is not in flight. Those before it are: batches are sent in order.
    fn next_waiting(&self) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.in_flight.is_none())
    }

    /// Goes on after a pause if it is over and everything is back.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.in_flight == 0 && self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
    }

    /// The size of the batch to send next, if it is time and its turn.
    pub(super) fn ready_size(&self, now: Instant, limits: &OutboxLimits) -> Option<usize> {
        if self.paused_until.is_some() || self.in_flight >= limits.partition_batches {
            return None;
        }
        let batch = self.next_waiting()?;
        let due = batch.sealed || batch.created + limits.linger <= now;
        due.then_some(batch.bytes)
    }

    /// The broker to send to; none while the leader is not known, or while batches are in flight to the old one.
    pub(super) fn node_to_use(&mut self) -> Option<NodeId> {
        if self.in_flight == 0 {
            self.node = self.wanted_node;
        }
        self.node.filter(|node| Some(*node) == self.wanted_node)
    }

    /// Sees that the next batch can get an identity and sequences, if it has none.
    pub(super) fn prepare_identity(&mut self, known: Option<(ProducerId, ProducerEpoch)>) -> Renewal {
        if self.next_waiting().is_none_or(|batch| batch.stamp.is_some()) {
            return Renewal::Ready;
        }
        if self.renewed_from.is_some() {
            if self.batches.iter().any(|batch| batch.stamp.is_some()) {
                return Renewal::Waiting;
            }
            match self.identity.map(|(id, epoch)| (id, epoch.bumped())) {
                Some((id, Ok(epoch))) => self.identity = Some((id, epoch)),
                Some((id, Err(_))) if known.is_none_or(|(known, _)| known == id) => {
                    return Renewal::Exhausted;
                }
                // A new id has come.
                _ => self.identity = None,
            }
            self.renewed_from = None;
            self.next_sequence = Sequence::FIRST;
        }
        if self.identity.is_none() {
            self.identity = known;
            self.next_sequence = Sequence::FIRST;
        }
        if self.identity.is_some() { Renewal::Ready } else { Renewal::Waiting }
    }

    pub(super) fn producer_id(&self) -> Option<ProducerId> {
        self.identity.map(|(id, _)| id)
    }

    /// Starts anew: another identity will come.
    pub(super) fn forget_identity(&mut self) {
        self.identity = None;
        self.renewed_from = None;
        self.paused_until = None;
    }

    /// Takes the next batch's body for a request, giving it an identity and sequences if it has none.
    pub(super) fn take_next(&mut self) -> Option<(BatchNumber, Body, ProducerBatch)> {
        let (id, epoch) = self.identity?;
        let next_sequence = self.next_sequence;
        let batch = self.batches.iter_mut().find(|batch| batch.in_flight.is_none())?;
        let stamp = batch.stamp.unwrap_or_else(|| ProducerBatch {
            id,
            epoch,
            sequences: SequenceRange::starting_at(next_sequence, batch.count),
        });
        if batch.stamp.is_none() {
            self.next_sequence = next_sequence.plus(batch.count);
        }
        batch.stamp = Some(stamp);
        batch.sealed = true;
        // The caller names the request when it has put it together.
        self.in_flight += 1;
        Some((batch.number, std::mem::replace(&mut batch.body, Body::Away), stamp))
    }

    /// A batch is no longer in flight.
    pub(super) fn returned(&mut self, number: BatchNumber) {
        let renewed_from = self.renewed_from;
        let Some(batch) = self.batch_mut(number) else { return };
        if batch.in_flight.take().is_none() {
            return;
        }
        if renewed_from.is_some_and(|from| number >= from) {
            batch.stamp = None;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// This batch and those after it are not stored, and never will be under the sequences they have.
    pub(super) fn renew_from(&mut self, number: BatchNumber) {
        let from = self.renewed_from.map_or(number, |before| before.min(number));
        self.renewed_from = Some(from);
        for batch in &mut self.batches {
            if batch.number >= from && batch.in_flight.is_none() {
                batch.stamp = None;
            }
        }
    }

    /// Sends nothing until everything is back and a pause is over.
    pub(super) fn pause(&mut self, now: Instant) {
        if self.paused_until.is_none() {
            self.paused_until = Some(now + self.backoff.pause());
        }
    }

    /// The oldest batch, if it was made at or before `limit` and is not in flight; and whether it was ever sent and may
    /// be stored.
    pub(super) fn expired(&self, limit: Instant) -> Option<(BatchNumber, bool)> {
        let oldest = self.batches.front()?;
        let expired = oldest.in_flight.is_none() && oldest.created <= limit;
        expired.then_some((oldest.number, oldest.stamp.is_some()))
    }

    /// When the queue will have something to do although nothing happens.
    pub(super) fn wakeup(&self, limits: &OutboxLimits) -> Option<Instant> {
        let oldest = self.batches.front()?;
        let expiry = oldest.in_flight.is_none().then(|| oldest.created + limits.delivery_timeout);
        if self.in_flight >= limits.partition_batches {
            return expiry;
        }
        let due = match self.paused_until {
            // Until everything is back there is nothing to wait for but answers.
            Some(until) => Some(until).filter(|_| self.in_flight == 0),
            None => {
                self.next_waiting().filter(|batch| !batch.sealed).map(|batch| batch.created + limits.linger)
            }
        };
        due.into_iter().chain(expiry).min()
    }
}
