//! The shell around the [`Outbox`]: one task that opens lanes, sends requests, asks for leaders and for a producer id,
//! and wakes the outbox when time has passed. Answers go from the lanes' tasks straight into the outbox.

use super::super::backoff::Backoff;
use super::super::cluster::Client;
use super::super::connection::{AnswerSink, Connection};
use super::super::error::ClientError;
use super::super::lane::{Lane, Purpose};
use super::super::metadata::{Metadata, TopicPartition};
use super::super::partitioner::Partitioner;
use super::super::versions::{ANY_VERSION, TransactionProtocol};
use super::delivery::{Delivery, ProduceError};
use super::outbox::{
    AcceptedKey, BuiltRequest, Mode, Outbox, PartitionAnswer, ProduceLane, Refusal, RequestNumber,
    record_size,
};
use super::{ProducerConfig, ProducerRecord};
use crate::types::{
    HashMap, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName, outside,
};
use crate::wire::batch::Record;
use crate::wire::messages::{
    InitProducerIdRequest, ProduceAcceptedKey, ProduceCommitted, ProducePartition, ProduceRequest,
    ProduceResponse, ProduceTopic, ProduceTopicResponse,
};
use crate::wire::{ApiKey, ErrorCode, Records, VersionRange};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// The first version of Produce that names topics by their ids (KIP-516).
const TOPIC_IDS: i16 = 13;
/// The first version of Produce that enrols its partitions in the transaction (KIP-890).
const ENROLS: i16 = 12;
/// All replicas, which for semel means: on disk.
const ACKS_ALL: i16 = -1;

/// A running producer. Ends when it is dropped and everything it took is settled.
pub(in super::super) struct Engine {
    shared: Arc<Shared>,
}

pub(in super::super) struct Shared {
    client: Client,
    owner: u32,
    config: ProducerConfig,
    mode: Mode,
    /// The transactional id, and the protocol of its coordinator.
    transactional: Mutex<Option<(String, TransactionProtocol)>>,
    outbox: Mutex<Outbox>,
    committing: Mutex<Committing>,
    partitioner: Mutex<Partitioner>,
    /// Held while requests are put together and submitted: so they leave in the order of their batches.
    sending: Mutex<()>,
    lanes: Mutex<HashMap<ProduceLane, Arc<Connection>>>,
    wake: Notify,
    room: Notify,
    closing: AtomicBool,
    /// Lanes that are being opened.
    opening: Mutex<BTreeSet<ProduceLane>>,
    refreshing: AtomicBool,
    identifying: AtomicBool,
}

/// How far a commit has come that is asked for with the last records (semel's own, `spec/protocol.md`).
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Committing {
    /// Whose transaction is to be committed; none while none is.
    of: Option<(ProducerId, ProducerEpoch)>,
    /// A request has asked for it: it may have happened, or may happen yet.
    pub(in super::super) asked: bool,
    /// One of these got no answer.
    pub(in super::super) lost: bool,
    /// It has happened: the identity of the next transaction.
    pub(in super::super) done: Option<(ProducerId, ProducerEpoch)>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.outbox().seal_all();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Engine {
    pub(in super::super) fn start(
        client: &Client,
        config: ProducerConfig,
        mode: Mode,
    ) -> Result<Engine, ClientError> {
        let seed = outside::seed();
        let shared = Arc::new(Shared {
            client: client.clone(),
            owner: client.new_owner(),
            config,
            mode,
            transactional: Mutex::default(),
            outbox: Mutex::new(Outbox::new(config.limits(client)?, mode, instant(), seed)),
            committing: Mutex::default(),
            partitioner: Mutex::new(Partitioner::new(config.batch_bytes, seed)),
            sending: Mutex::default(),
            lanes: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            closing: AtomicBool::new(false),
            opening: Mutex::default(),
            refreshing: AtomicBool::new(false),
            identifying: AtomicBool::new(false),
        });
        tokio::spawn(Arc::clone(&shared).run());
        Ok(Engine { shared })
    }

    /// The lanes' owner.
    pub(in super::super) fn owner(&self) -> u32 {
        self.shared.owner
    }

    /// Sets the identity that a transaction's coordinator gave.
    pub(in super::super) fn identify(
        &self,
        transactional_id: &str,
        protocol: TransactionProtocol,
        id: ProducerId,
        epoch: ProducerEpoch,
    ) {
        *lock(&self.shared.transactional) = Some((transactional_id.to_owned(), protocol));
        self.shared.outbox().identify(id, epoch);
    }

    /// Chooses a record's partition.
    pub(in super::super) async fn partition_of(
        &self,
        record: &ProducerRecord,
    ) -> Result<TopicPartition, ProduceError> {
        let known = self.shared.client.metadata();
        let metadata = match known.topic(&record.topic) {
            Some(topic) if topic.usable(self.shared.client.config().metadata_max_age) => known,
            _ => self.shared.client.metadata_of(std::slice::from_ref(&record.topic)).await?,
        };
        let count = metadata.topic(&record.topic).map_or(0, |topic| topic.leaders.len());
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let partition = match record.partition {
            Some(partition) => partition,
            None => {
                let size = record.value.as_ref().map_or(0, bytes::Bytes::len);
                lock(&self.shared.partitioner).choose(&record.topic, record.key.as_deref(), size, count)
            }
        };
        let chosen = TopicPartition::new(record.topic.clone(), partition);
        if !(0..i64::from(count)).contains(&i64::from(partition.0)) {
            return Err(
                ClientError::Unknown { what: format!("partition {chosen}: {count} are there") }.into()
            );
        }
        Ok(chosen)
    }

    /// Takes a record for `partition`.
    pub(in super::super) async fn send(
        &self,
        partition: &TopicPartition,
        record: ProducerRecord,
    ) -> Result<Delivery, ProduceError> {
        let timestamp = record.timestamp.unwrap_or_else(outside::wall_clock);
        let record = Record { key: record.key, value: record.value, headers: record.headers };
        match self.shared.try_append(partition, timestamp, &record) {
            Err(Refusal::Full) => {}
            Err(Refusal::Never(error)) => return Err(error),
            Ok(delivery) => return Ok(delivery),
        }
        let after = self.shared.config.buffer_timeout;
        tokio::time::timeout(after, self.shared.append_when_there_is_room(partition, timestamp, &record))
            .await
            .unwrap_or(Err(ProduceError::BufferFull { after }))
    }

    /// Sends everything now and waits until it is settled; the first failure.
    pub(in super::super) async fn flush(&self) -> Result<(), ProduceError> {
        let promises = self.shared.outbox().seal_all();
        self.shared.send_now();
        let mut first_failure = Ok(());
        for promise in promises {
            let outcome = promise.wait().await;
            if let (Ok(()), Err(error)) = (&first_failure, outcome) {
                first_failure = Err(error.clone());
            }
        }
        first_failure
    }

    /// The same, and has the transaction of this identity committed with the request that has the last of it, where the broker
    /// can do that. How far it has come, also if this future is dropped, [`Engine::stop_committing`] says; to be called then.
    pub(in super::super) async fn flush_committing(
        &self,
        of: (ProducerId, ProducerEpoch),
    ) -> Result<(), ProduceError> {
        *lock(&self.shared.committing) = Committing { of: Some(of), ..Committing::default() };
        self.flush().await
    }

    /// No request asks for a commit from now on; how far it has come.
    pub(in super::super) fn stop_committing(&self) -> Committing {
        std::mem::take(&mut *lock(&self.shared.committing))
    }

    /// Gives up everything that is not in flight, and waits for what is.
    pub(in super::super) async fn abandon(&self) {
        self.shared.outbox().fail(ProduceError::TransactionEnded);
        // The failure of some is expected, and theirs.
        let _ = self.flush().await;
    }

    /// Why the transaction cannot commit, if it cannot; forgets it.
    pub(in super::super) fn take_failure(&self) -> Option<Arc<ProduceError>> {
        self.shared.outbox().clear_failure()
    }

    /// Why the transaction cannot commit, if it cannot.
    pub(in super::super) fn failure(&self) -> Option<Arc<ProduceError>> {
        self.shared.outbox().failure()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The instant, from the clock that tests may set.
fn instant() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    fn try_append(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
        record: &Record,
    ) -> Result<Delivery, Refusal> {
        let leader = self.client.metadata().leader(partition);
        let appended = self.outbox().append(instant(), partition, leader, timestamp, record)?;
        if appended.wake {
            self.wake.notify_one();
        }
        Ok(Delivery { promise: appended.promise, index: appended.index })
    }

    async fn append_when_there_is_room(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
        record: &Record,
    ) -> Result<Delivery, ProduceError> {
        tracing::trace!(%partition, bytes = record_size(record), "waiting for room in the buffer");
        loop {
            // Registered before looking: room that is made in between is not missed.
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.try_append(partition, timestamp, record) {
                Ok(delivery) => return Ok(delivery),
                Err(Refusal::Never(error)) => return Err(error),
                Err(Refusal::Full) => room.await,
            }
        }
    }

    async fn run(self: Arc<Self>) {
        loop {
            let now = instant();
            self.send_what_is_ready(now, &lock(&self.sending));
            let (lanes, topics, wants_identity, overdue, wakeup, done) = {
                let mut outbox = self.outbox();
                (
                    outbox.take_wanted_lanes(),
                    outbox.take_stale_topics(),
                    outbox.wants_identity() && !outbox.is_empty(),
                    outbox.overdue_lanes(now),
                    outbox.next_wakeup(now),
                    outbox.is_empty() && !outbox.has_requests() && self.closing.load(Ordering::Acquire),
                )
            };
            if done {
                break;
            }
            lanes.into_iter().for_each(|lane| self.open_lane(lane));
            self.close_overdue(&overdue);
            if !topics.is_empty() {
                self.refresh_leaders(topics);
            }
            if wants_identity && self.mode == Mode::Idempotent {
                self.ask_identity();
            }
            match wakeup {
                Some(at) => {
                    // Either it is time, or something happened: both mean another look.
                    let _ = tokio::time::timeout_at(at.into(), self.wake.notified()).await;
                }
                None => self.wake.notified().await,
            }
        }
        lock(&self.lanes).clear();
        self.client.release(self.owner);
    }

    /// Sends what is ready without a change of task, if nobody is sending.
    fn send_now(self: &Arc<Self>) {
        let now = instant();
        if let Ok(turn) = self.sending.try_lock() {
            self.send_what_is_ready(now, &turn);
            if !self.outbox().wants_a_look(now) {
                return;
            }
        }
        self.wake.notify_one();
    }

    fn send_what_is_ready(self: &Arc<Self>, now: Instant, _turn: &MutexGuard<'_, ()>) {
        self.outbox().expire(now);
        loop {
            let Some(ready) = self.outbox().next_request(now) else { break };
            let built = ready.build();
            self.outbox().built(&built);
            self.submit(built);
        }
        self.room.notify_waiters();
    }

    fn submit(self: &Arc<Self>, built: BuiltRequest) {
        let (number, lane) = (built.number, built.lane);
        let connection = lock(&self.lanes).get(&lane).cloned();
        let Some(connection) = connection.filter(|connection| connection.is_open()) else {
            return self.lane_lost(lane, number);
        };
        let Some(seat) = connection.try_seat() else { return self.lane_lost(lane, number) };
        let metadata = self.client.metadata();
        let mut request = self.request(built, &metadata);
        let commits = self.ask_for_commit(&connection, number);
        request.commits = commits.is_some();
        let version = match self.version(&connection, &request) {
            Ok(version) => version,
            Err(error) => {
                self.outbox().fail(error.into());
                return self.lane_lost(lane, number);
            }
        };
        let shared = Arc::clone(self);
        let answered_on = Arc::clone(&connection);
        let sink: AnswerSink = Box::new(move |answer| {
            let answer = answer.and_then(|frame| answered_on.decode::<ProduceRequest>(version, frame));
            match answer {
                Ok(answer) => {
                    shared.commit_answered(commits, |committing| {
                        committing.done = identity_of(&answer.committed)
                    });
                    shared.answered(number, answer, &metadata);
                }
                Err(error) => {
                    tracing::debug!(%error, "a produce request got no answer");
                    shared.commit_answered(commits, |committing| committing.lost = true);
                    shared.lane_lost(lane, number);
                }
            }
        });
        connection.submit(&request, version, seat, sink);
    }

    /// Has a request ask for the commit of the transaction that it has the last of, if one is wanted, and if a broker has what
    /// semel has beside Kafka; gives whose transaction it is.
    fn ask_for_commit(
        &self,
        connection: &Connection,
        request: RequestNumber,
    ) -> Option<(ProducerId, ProducerEpoch)> {
        let mut committing = lock(&self.committing);
        let of = committing.of?;
        let can = connection.versions().highest(ApiKey::DescribeOutcomes, ANY_VERSION).is_ok();
        let asks = can && self.outbox().is_last(request);
        committing.asked |= asks;
        asks.then_some(of)
    }

    /// Takes note of what a request came to that asked for a commit, if that is still the one in question.
    fn commit_answered(
        &self,
        asked: Option<(ProducerId, ProducerEpoch)>,
        note: impl FnOnce(&mut Committing),
    ) {
        let mut committing = lock(&self.committing);
        if asked.is_some() && committing.of == asked {
            note(&mut committing);
        }
    }

    fn request(&self, built: BuiltRequest, metadata: &Metadata) -> ProduceRequest {
        let mut topics: Vec<ProduceTopic> = Vec::new();
        for (partition, batch) in built.parts {
            // A batch that could not be built has been settled already.
            let Ok(batch) = batch else { continue };
            let part = ProducePartition { index: partition.partition.0, records: Some(Records::from(batch)) };
            match topics.iter_mut().find(|topic| topic.name == partition.topic.as_str()) {
                Some(topic) => topic.partition_data.push(part),
                None => topics.push(ProduceTopic {
                    name: partition.topic.as_str().to_owned(),
                    topic_id: metadata.topic_id(&partition.topic).unwrap_or_default(),
                    partition_data: vec![part],
                }),
            }
        }
        let timeout = self.client.config().request_timeout.as_millis();
        ProduceRequest {
            transactional_id: lock(&self.transactional).as_ref().map(|(id, _)| id.clone()),
            acks: ACKS_ALL,
            timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
            topic_data: topics,
            commits: false,
        }
    }

    fn version(&self, connection: &Connection, request: &ProduceRequest) -> Result<i16, ClientError> {
        let mut wanted = match lock(&self.transactional).as_ref() {
            None => ANY_VERSION,
            Some((_, TransactionProtocol::Explicit)) => VersionRange { min: 0, max: ENROLS - 1 },
            Some((_, TransactionProtocol::Implicit)) => VersionRange { min: ENROLS, ..ANY_VERSION },
        };
        if request.topic_data.iter().any(|topic| topic.topic_id == crate::types::TopicId::NIL) {
            wanted.max = wanted.max.min(TOPIC_IDS - 1);
        }
        connection.versions().highest(ApiKey::Produce, wanted)
    }

    fn answered(&self, number: RequestNumber, answer: ProduceResponse, metadata: &Metadata) {
        let is_committed = identity_of(&answer.committed).is_some();
        let mut answers: Vec<_> =
            answer.responses.into_iter().flat_map(|topic| partition_answers(topic, metadata)).collect();
        if is_committed {
            // A repetition: under an identity that has ended nothing is stored any more, but all of this was.
            let refused = answers.iter_mut().filter(|answer| !answer.code.is_none());
            refused.for_each(|answer| answer.code = ErrorCode::DuplicateSequenceNumber);
        }
        let is_idle = {
            let mut outbox = self.outbox();
            outbox.answered(instant(), number, &answers);
            outbox.is_empty() && !outbox.wants_a_look(instant())
        };
        self.room.notify_waiters();
        if !is_idle || self.closing.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    fn lane_lost(&self, lane: ProduceLane, number: RequestNumber) {
        let mut lanes = lock(&self.lanes);
        if lanes.get(&lane).is_none_or(|connection| !connection.is_open()) {
            lanes.remove(&lane);
            self.outbox().lane_is_open(lane, false);
        }
        drop(lanes);
        self.outbox().failed(instant(), number);
        self.wake.notify_one();
    }

    fn close_overdue(&self, overdue: &BTreeSet<ProduceLane>) {
        let lanes = lock(&self.lanes);
        for lane in overdue {
            if let Some(connection) = lanes.get(lane) {
                connection.kill("a produce request got no answer in time");
            }
        }
    }

    /// Opens a lane, trying again until it works or nobody waits for it; nothing if that is under way.
    fn open_lane(self: &Arc<Self>, lane: ProduceLane) {
        if !lock(&self.opening).insert(lane) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let mut backoff = Backoff::unseeded(shared.client.config().backoff);
            let address =
                Lane { node: Some(lane.node), purpose: Purpose::Produce(lane.number), owner: shared.owner };
            while !shared.outbox().is_empty() {
                match shared.client.lane(address).await {
                    Ok(connection) => {
                        lock(&shared.lanes).insert(lane, connection);
                        shared.outbox().lane_is_open(lane, true);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a produce lane cannot be opened; trying again");
                        tokio::time::sleep(backoff.pause()).await;
                        // The broker may have moved.
                        if let Err(error) = shared.client.refresh(&[]).await {
                            tracing::debug!(%error, "no metadata either");
                        }
                    }
                }
            }
            lock(&shared.opening).remove(&lane);
            shared.wake.notify_one();
        });
    }

    /// Asks for the leaders of topics, unless somebody already does.
    fn refresh_leaders(self: &Arc<Self>, topics: BTreeSet<TopicName>) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let topics: Vec<_> = topics.into_iter().collect();
            if let Err(error) = shared.client.refresh(&topics).await {
                tracing::debug!(%error, "the leaders of topics are not known; asking again");
            }
            // What is still needed is asked for again, but not so fast; batches that wait too long expire.
            tokio::time::sleep(shared.client.config().backoff.first).await;
            let metadata = shared.client.metadata();
            shared.outbox().route(|partition| metadata.leader(partition));
            shared.refreshing.store(false, Ordering::Release);
            shared.wake.notify_one();
        });
    }

    /// Asks for a producer id, unless that is under way.
    fn ask_identity(self: &Arc<Self>) {
        if self.identifying.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let request = InitProducerIdRequest {
                transaction_timeout_ms: i32::MAX,
                ..InitProducerIdRequest::default()
            };
            let (client, request) = (&shared.client, &request);
            let answer = client
                .retry("asking for a producer id", || async {
                    let answer = client.any_broker().await?.call(request).await?;
                    answer.error_code.ok().map_err(|code| ClientError::broker("producer id", code, None))?;
                    Ok(answer)
                })
                .await;
            match answer {
                Ok(answer) => shared
                    .outbox()
                    .identify(ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)),
                // It is asked for again, until the batches that wait for it expire.
                Err(error) if error.retriable() => tracing::debug!(%error, "no producer id yet"),
                Err(error) => shared.outbox().fail(error.into()),
            }
            shared.identifying.store(false, Ordering::Release);
            shared.wake.notify_one();
        });
    }
}

/// With which identity a producer goes on whose transaction a request has committed.
fn identity_of(committed: &ProduceCommitted) -> Option<(ProducerId, ProducerEpoch)> {
    let ProduceCommitted { producer_id, producer_epoch } = *committed;
    (producer_id >= 0).then_some((ProducerId(producer_id), ProducerEpoch(producer_epoch)))
}

fn partition_answers(
    topic: ProduceTopicResponse,
    metadata: &Metadata,
) -> impl Iterator<Item = PartitionAnswer> {
    let name = match topic.topic_id {
        crate::types::TopicId::NIL => TopicName::new(&topic.name).ok(),
        id => metadata.topic_of(id).cloned(),
    };
    name.into_iter().flat_map(move |name| {
        let answers = topic.partition_responses.clone();
        answers.into_iter().map(move |answer| PartitionAnswer {
            partition: TopicPartition::new(name.clone(), PartitionIndex(answer.index)),
            code: answer.error_code,
            detail: answer.error_message,
            base_offset: Offset(answer.base_offset),
            append_time: Timestamp(answer.log_append_time_ms),
            accepted_keys: answer.accepted_keys.iter().filter_map(accepted_key).collect(),
        })
    })
}

fn accepted_key(key: &ProduceAcceptedKey) -> Option<AcceptedKey> {
    let at = (key.offset >= 0).then_some((PartitionIndex(key.partition_index), Offset(key.offset)));
    Some(AcceptedKey { index: u32::try_from(key.batch_index).ok()?, at })
}
