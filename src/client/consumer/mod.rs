//! Reading partitions: those that one chooses, or those that a group's coordinator assigns. [`Cursor`] decides what to fetch
//! and [`Consumer`] is its shell; [`Membership`] decides about the group and [`GroupConsumer`] is its shell.

mod commits;
mod cursor;
mod group;
mod heart;
mod locate;
mod membership;
#[cfg(test)]
mod tests;
mod visible;

pub use commits::Commit;
pub use cursor::{Cursor, CursorLimits, FetchPart, FetchPlan};
pub use group::{GroupConfig, GroupConsumer, GroupEvent, Rebalance};
pub use membership::{Beat, BeatAnswer, Handover, Membership, MembershipConfig, Next, Subscription};

use super::cluster::Client;
use super::error::ClientError;
use super::lane::{Lane, Purpose};
use super::metadata::{Metadata, TopicPartition};
use super::versions::{ANY_VERSION, up_to};
use crate::types::{Offset, PartitionIndex, Timestamp, TopicId, TopicName, outside};
use crate::wire::batch::{BatchLimits, Record, RecordReader};
use crate::wire::messages::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use cursor::{Chunk, Fetched};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// The last version of Fetch that names topics by their names (KIP-516).
const FETCH_BY_NAME: i16 = 12;

/// What a reader sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Every durable record.
    ReadUncommitted,
    /// No record of an aborted transaction, and nothing beyond the oldest open one.
    ReadCommitted,
}

impl Isolation {
    /// The protocol's number.
    pub(super) fn level(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// Where to start reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// After the newest record that the isolation lets one see.
    Latest,
    /// At the first record whose time is this or later; at the end, if there is none.
    Time(Timestamp),
    /// At the first record that is at most so old when it is looked for; at the end, if there is none.
    Ago(Duration),
    /// At an offset.
    Offset(Offset),
}

impl Start {
    /// Whether it may be beyond every record: then it means the end.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Start::Time(_) | Start::Ago(_))
    }
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerConfig {
    /// What it sees of transactions.
    pub isolation: Isolation,
    /// Where to go on when the offset to read is not there (any more); none: that is an error.
    pub reset: Option<Start>,
    /// How long the broker may hold back an answer until there is something.
    pub wait_max: Duration,
    /// It does not hold it back once there are so many bytes.
    pub bytes_min: i32,
    /// The most bytes of one answer, but for a first batch that is larger.
    pub bytes_max: i32,
    /// The most bytes of one partition in an answer, but for a first batch that is larger.
    pub partition_bytes: i32,
    /// Bytes that are fetched and not read yet, beyond which nothing more is fetched.
    pub prefetch_bytes: usize,
    /// What a compressed batch may expand to.
    pub batch_limits: BatchLimits,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            // What exactly-once is for. (Kafka's default is the other.)
            isolation: Isolation::ReadCommitted,
            reset: None,
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: 16 << 20,
            partition_bytes: 1 << 20,
            prefetch_bytes: 16 << 20,
            batch_limits: BatchLimits::default(),
        }
    }
}

/// A partition's batch larger than this is not asked for: no broker accepts it by default.
const PARTITION_BYTES_MAX: i32 = 64 << 20;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// The producer's time or the broker's, as the topic is configured.
    pub timestamp: Timestamp,
    /// Key, value and headers.
    pub record: Record,
}

/// Reads the partitions it is told to, each in order.
///
/// ```no_run
/// # async fn example(client: semel::client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use semel::client::{Consumer, ConsumerConfig, Start};
/// let topic = semel::types::TopicName::new("payments")?;
/// let partitions = client.metadata_of(&[topic.clone()]).await?.partitions(&topic).unwrap_or_default();
/// let mut consumer = Consumer::new(&client, ConsumerConfig::default());
/// partitions.into_iter().for_each(|partition| consumer.seek(partition, Start::Earliest));
/// let first = consumer.next().await?;
/// println!("{} at {}: {:?}", first.partition, first.offset, first.record.value);
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    reading: Option<Reading>,
    positions: BTreeMap<TopicPartition, Offset>,
    fetcher: AbortHandle,
}

/// A chunk that is being read.
struct Reading {
    chunk: Chunk,
    records: Option<RecordReader>,
}

struct Shared {
    client: Client,
    owner: u32,
    config: ConsumerConfig,
    state: Mutex<State>,
    /// Something has been fetched or has failed.
    fetched: Notify,
    /// The fetcher has something to do.
    wake: Notify,
}

struct State {
    cursor: Cursor,
    ready: VecDeque<Fetched>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetcher.abort();
        self.shared.client.release(self.shared.owner);
    }
}

impl Consumer {
    /// A consumer without partitions: [`Consumer::seek`] adds them.
    #[must_use]
    pub fn new(client: &Client, config: ConsumerConfig) -> Consumer {
        let limits = CursorLimits {
            prefetch_bytes: config.prefetch_bytes,
            partition_bytes: config.partition_bytes,
            partition_bytes_max: PARTITION_BYTES_MAX.max(config.partition_bytes),
            backoff: client.config().backoff,
        };
        let cursor = Cursor::new(limits, config.isolation, config.reset, outside::seed());
        let shared = Arc::new(Shared {
            client: client.clone(),
            owner: client.new_owner(),
            config,
            state: Mutex::new(State { cursor, ready: VecDeque::new() }),
            fetched: Notify::new(),
            wake: Notify::new(),
        });
        let fetcher = tokio::spawn(Arc::clone(&shared).fetch_all()).abort_handle();
        Consumer { shared, reading: None, positions: BTreeMap::new(), fetcher }
    }

    /// Reads `partition` from `start` on. What has been fetched of it before is not returned any more.
    pub fn seek(&mut self, partition: TopicPartition, start: Start) {
        match start {
            Start::Offset(offset) => drop(self.positions.insert(partition.clone(), offset)),
            _ => drop(self.positions.remove(&partition)),
        }
        self.shared.state().cursor.seek(partition, start);
        self.shared.wake.notify_one();
    }

    /// Returns nothing more of `partition` until a seek. Its position stays.
    fn stop(&mut self, partition: &TopicPartition) {
        self.shared.state().cursor.stop(partition);
    }

    /// Knows nothing of `partition` any more.
    fn forget(&mut self, partition: &TopicPartition) {
        self.shared.state().cursor.remove(partition);
        self.positions.remove(partition);
    }

    /// Returns nothing more of `partition`, and fetches nothing more of it, until [`Consumer::resume`].
    pub fn pause(&mut self, partition: &TopicPartition) {
        let mut state = self.shared.state();
        let reading = self.reading.as_ref().map(|reading| &reading.chunk);
        let ready = state.ready.iter().filter_map(|fetched| match fetched {
            Fetched::Chunk(chunk) => Some(chunk),
            Fetched::Failed(_) => None,
        });
        // The first that was not returned, of what was fetched since the last seek.
        let fetched = reading
            .into_iter()
            .chain(ready)
            .find(|chunk| chunk.partition == *partition && state.cursor.is_current(chunk));
        let from = self.positions.get(partition).copied().or(fetched.map(|chunk| chunk.from));
        state.cursor.pause(partition, from);
    }

    /// Goes on with `partition` where it was when it was paused.
    pub fn resume(&mut self, partition: &TopicPartition) {
        self.shared.state().cursor.resume(partition);
        self.shared.wake.notify_one();
    }

    /// How many offsets lie between the position and the end that readers of this isolation had when the partition was last
    /// fetched; none if either is not known.
    #[must_use]
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let (position, end) = (self.position(partition)?, self.shared.state().cursor.end(partition)?);
        Some(end.0.saturating_sub(position.0).max(0))
    }

    /// The offset of the next record to be returned, where it is known: what to commit.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.positions.get(partition).copied()
    }

    /// Every known position.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<TopicPartition, Offset> {
        &self.positions
    }

    /// The next record. Waits as long as there is none. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<ConsumedRecord, ClientError> {
        loop {
            if let Some(record) = self.next_at_hand()? {
                return Ok(record);
            }
            self.wait_for_chunk().await?;
        }
    }

    /// A record that is at hand, without waiting. The position is behind it then.
    fn next_at_hand(&mut self) -> Result<Option<ConsumedRecord>, ClientError> {
        self.drop_overtaken();
        let next = self.next_of_chunk()?;
        if let Some(record) = &next {
            self.positions.insert(record.partition.clone(), record.offset.next());
        }
        Ok(next)
    }

    /// Waits until a position moves, and returns the records that were passed: those of one partition, and none at all
    /// where there were only markers or aborted ones. Nothing is lost if the future is dropped.
    pub async fn next_chunk(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        if self.reading.is_none() {
            self.wait_for_chunk().await?;
        }
        self.drop_overtaken();
        let mut records = Vec::new();
        while let Some(record) = self.next_of_chunk()? {
            records.push(record);
        }
        Ok(records)
    }

    /// Gives up what is being read if a seek has overtaken it.
    fn drop_overtaken(&mut self) {
        let is_current = |reading: &mut Reading| self.shared.state().cursor.is_current(&reading.chunk);
        self.reading.take_if(|reading| !is_current(reading));
    }

    /// The next record of the chunk that is being read; behind the last one the position is the chunk's end.
    fn next_of_chunk(&mut self) -> Result<Option<ConsumedRecord>, ClientError> {
        while let Some(reading) = &mut self.reading {
            let partition = &reading.chunk.partition;
            if let Some(next) = reading.records.as_mut().and_then(Iterator::next) {
                let found = next.map_err(|error| unreadable(partition, &error))?;
                if found.offset < reading.chunk.from {
                    continue;
                }
                let (offset, timestamp, record) = (found.offset, found.timestamp, found.record);
                return Ok(Some(ConsumedRecord { partition: partition.clone(), offset, timestamp, record }));
            }
            match reading.chunk.batches.pop_front() {
                Some(batch) => {
                    let records = batch.records(&self.shared.config.batch_limits);
                    reading.records = Some(records.map_err(|error| unreadable(partition, &error))?);
                }
                None => {
                    self.positions.insert(partition.clone(), reading.chunk.next);
                    self.reading = None;
                }
            }
        }
        Ok(None)
    }

    async fn wait_for_chunk(&mut self) -> Result<(), ClientError> {
        loop {
            // Registered before looking: what is fetched in between is not missed.
            let mut fetched = std::pin::pin!(self.shared.fetched.notified());
            fetched.as_mut().enable();
            while let Some(next) = self.shared.take_ready() {
                match next {
                    Some(Fetched::Chunk(chunk)) => {
                        self.reading = Some(Reading { chunk, records: None });
                        return Ok(());
                    }
                    Some(Fetched::Failed(error)) => return Err(error),
                    // Overtaken by a seek.
                    None => {}
                }
            }
            fetched.await;
        }
    }
}

fn unreadable(partition: &TopicPartition, error: &crate::wire::batch::BatchError) -> ClientError {
    ClientError::Unreadable { partition: partition.to_string(), problem: error.to_string() }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing that was fetched; none inside if a seek has overtaken it.
    fn take_ready(&self) -> Option<Option<Fetched>> {
        let mut state = self.state();
        let next = state.ready.pop_front()?;
        let Fetched::Chunk(chunk) = next else { return Some(Some(next)) };
        let meant = state.cursor.read(&chunk);
        drop(state);
        self.wake.notify_one();
        Some(meant.then_some(Fetched::Chunk(chunk)))
    }

    fn fail(&self, partition: &TopicPartition, error: ClientError) {
        let mut state = self.state();
        state.cursor.give_up(partition);
        state.ready.push_back(Fetched::Failed(error));
        drop(state);
        self.fetched.notify_one();
    }

    async fn fetch_all(self: Arc<Self>) {
        // One for each broker at most, and one that looks up offsets and leaders.
        let mut fetches = JoinSet::new();
        let mut looking = JoinSet::new();
        loop {
            let now = tokio::time::Instant::now().into_std();
            let metadata = self.client.metadata();
            while let Some(plan) = self.state().cursor.next_fetch(now, |partition| metadata.leader(partition))
            {
                fetches.spawn(Arc::clone(&self).fetch(plan));
            }
            if looking.is_empty() {
                let (wanted, stale) = {
                    let mut state = self.state();
                    (state.cursor.wanted(), state.cursor.take_stale_topics())
                };
                if !wanted.is_empty() || !stale.is_empty() {
                    looking.spawn(Arc::clone(&self).look_up(wanted, stale.into_iter().collect()));
                }
            }
            let wakeup = self.state().cursor.next_wakeup(now);
            let wakeup = wakeup.unwrap_or(now + self.client.config().metadata_max_age);
            tokio::select! {
                biased;
                Some(_) = looking.join_next() => {}
                Some(_) = fetches.join_next() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(wakeup.into()) => {}
            }
        }
    }

    async fn fetch(self: Arc<Self>, plan: FetchPlan) {
        let metadata = self.client.metadata();
        let fetched = self.ask(&plan, &metadata).await;
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.state();
        match fetched {
            Ok(answer) => {
                let answers = partition_answers(answer, &metadata);
                let fetched = state.cursor.answered(now, &plan, answers);
                state.ready.extend(fetched);
                let something = !state.ready.is_empty();
                drop(state);
                if something {
                    self.fetched.notify_one();
                }
            }
            Err(error) if error.retriable() || matches!(error, ClientError::Unknown { .. }) => {
                tracing::debug!(%error, "a fetch got no answer; trying again");
                state.cursor.failed(now, &plan);
            }
            Err(error) => {
                state.cursor.failed(now, &plan);
                drop(state);
                plan.parts.iter().for_each(|part| self.fail(&part.partition, error.clone()));
            }
        }
    }

    async fn ask(&self, plan: &FetchPlan, metadata: &Metadata) -> Result<FetchResponse, ClientError> {
        let lane = Lane { node: Some(plan.node), purpose: Purpose::Fetch, owner: self.owner };
        let connection = self.client.lane(lane).await?;
        let request = self.request(plan, metadata);
        let by_id = request.topics.iter().all(|topic| topic.topic_id != TopicId::NIL);
        let wanted = if by_id { ANY_VERSION } else { up_to(FETCH_BY_NAME) };
        let timeout = self.client.config().request_timeout + self.config.wait_max;
        let answer = connection.call_version(&request, wanted, timeout).await?;
        answer.error_code.ok().map_err(|code| ClientError::broker("a fetch", code, None))?;
        Ok(answer)
    }

    fn request(&self, plan: &FetchPlan, metadata: &Metadata) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for part in plan.asked() {
            let asked = FetchPartition {
                partition: part.partition.partition.0,
                fetch_offset: part.offset.0,
                partition_max_bytes: part.bytes_max,
                ..FetchPartition::default()
            };
            let name = part.partition.topic.as_str();
            // A topic in whose middle it begins comes twice, as Kafka's own client has it.
            match topics.last_mut().filter(|topic| topic.topic == name) {
                Some(topic) => topic.partitions.push(asked),
                None => topics.push(FetchTopic {
                    topic: name.to_owned(),
                    topic_id: metadata.topic_id(&part.partition.topic).unwrap_or_default(),
                    partitions: vec![asked],
                }),
            }
        }
        FetchRequest {
            max_wait_ms: i32::try_from(self.config.wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.bytes_min,
            max_bytes: self.config.bytes_max,
            isolation_level: self.config.isolation.level(),
            topics,
            ..FetchRequest::default()
        }
    }

    async fn look_up(self: Arc<Self>, wanted: Vec<(TopicPartition, Start)>, stale: Vec<TopicName>) {
        if !stale.is_empty() {
            if let Err(error) = self.client.refresh(&stale).await {
                tracing::debug!(%error, "the leaders of topics are not known; asking again");
            }
            // A partition may still have no leader: not so fast.
            tokio::time::sleep(self.client.config().backoff.first).await;
        }
        if wanted.is_empty() {
            return;
        }
        match self.client.find_starts(&wanted, self.config.isolation).await {
            Ok(found) => {
                for ((partition, start), found) in wanted.iter().zip(found) {
                    match found {
                        Ok(offset) => self.state().cursor.found(partition, *start, offset),
                        Err(error) => self.fail(partition, error),
                    }
                }
            }
            Err(error) => wanted.iter().for_each(|(partition, _)| self.fail(partition, error.clone())),
        }
    }
}

fn partition_answers(
    answer: FetchResponse,
    metadata: &Metadata,
) -> Vec<(TopicPartition, FetchPartitionResponse)> {
    let mut answers = Vec::new();
    for topic in answer.responses {
        let name = match topic.topic_id {
            TopicId::NIL => TopicName::new(&topic.topic).ok(),
            id => metadata.topic_of(id).cloned(),
        };
        let Some(name) = name else { continue };
        answers.extend(topic.partitions.into_iter().map(|partition| {
            let index = PartitionIndex(partition.partition_index);
            (TopicPartition::new(name.clone(), index), partition)
        }));
    }
    answers
}
