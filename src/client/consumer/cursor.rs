//! The consumer's state machine: where each partition stands, what to fetch next, and what an answer means.
//!
//! Pure: no I/O, no clock; time is an argument. At each broker at most one fetch is under way, for all partitions that it
//! leads; nothing is fetched while more than [`CursorLimits::prefetch_bytes`] are waiting to be read.

use super::super::backoff::{Backoff, BackoffLimits};
use super::super::error::{ClientError, stale_metadata};
use super::super::metadata::TopicPartition;
use super::visible::visible;
use super::{Isolation, Start};
use crate::types::{NodeId, Offset, TopicName};
use crate::wire::batch::Batch;
use crate::wire::messages::FetchPartitionResponse;
use crate::wire::{ErrorCode, Records};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// What a consumer may hold, and how much it asks for.
#[derive(Clone, Copy, Debug)]
pub struct CursorLimits {
    /// Bytes that are fetched and not read yet, beyond which nothing is fetched.
    pub prefetch_bytes: usize,
    /// Bytes to ask for of each partition at once.
    pub partition_bytes: i32,
    /// The most to ask for of one partition, for a batch that is larger than `partition_bytes`.
    pub partition_bytes_max: i32,
    /// Pauses after failures.
    pub backoff: BackoffLimits,
}

/// A fetch to be sent.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    /// To which broker.
    pub node: NodeId,
    /// Partition, offset, bytes; in the order of the partitions.
    pub parts: Vec<FetchPart>,
    /// The place of the one to begin with.
    first: usize,
}

impl FetchPlan {
    /// The parts as they are to be asked for.
    pub fn asked(&self) -> impl Iterator<Item = &FetchPart> {
        self.parts.iter().cycle().skip(self.first).take(self.parts.len())
    }

    /// How many are asked for before the one at `place`.
    fn behind_first(&self, place: usize) -> usize {
        (place + self.parts.len() - self.first) % self.parts.len()
    }
}

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub struct FetchPart {
    /// The partition.
    pub partition: TopicPartition,
    /// From where.
    pub offset: Offset,
    /// How much.
    pub bytes_max: i32,
    generation: u64,
}

/// Fetched batches of one partition.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) partition: TopicPartition,
    pub(super) batches: VecDeque<Batch>,
    /// The first offset that was asked for: records before it are not meant.
    pub(super) from: Offset,
    /// Where the partition stands when all of it is read.
    pub(super) next: Offset,
    pub(super) bytes: usize,
    generation: u64,
}

/// What an answer brought for one partition.
#[derive(Debug)]
pub(super) enum Fetched {
    Chunk(Chunk),
    Failed(ClientError),
}

#[derive(Debug)]
enum Position {
    /// To be looked up.
    Wanted(Start),
    /// The next offset to fetch.
    At(Offset),
    /// Stopped, or reported as failed: nothing is fetched until a seek.
    Stopped,
}

#[derive(Debug)]
struct Assigned {
    position: Position,
    /// A new one after every seek: what was fetched before it is not meant any more.
    generation: u64,
    bytes_max: i32,
    /// Where readers of this isolation came to an end when it was last fetched.
    end: Option<Offset>,
    trouble: Option<Trouble>,
}

/// A partition of which nothing could be had, for a reason that may pass: others of its broker go on meanwhile.
#[derive(Debug)]
struct Trouble {
    backoff: Backoff,
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Cursor {
    limits: CursorLimits,
    isolation: Isolation,
    /// What an offset out of range means.
    reset: Option<Start>,
    assigned: BTreeMap<TopicPartition, Assigned>,
    /// Not to be fetched until they are to be read again.
    withheld: BTreeSet<TopicPartition>,
    generations: u64,
    fetching: BTreeSet<NodeId>,
    /// With which of its partitions a fetch from a broker begins: the first that had something of which the last answer had
    /// nothing. Brokers fill an answer in the order of the partitions. (It stays with an answer that had something of each: for the
    /// same fetch again they need to do less.)
    first: BTreeMap<NodeId, TopicPartition>,
    paused: BTreeMap<NodeId, Instant>,
    stale: BTreeSet<TopicName>,
    backoff: Backoff,
    buffered: usize,
}

impl Cursor {
    /// A cursor without partitions. `seed` spreads its pauses; `reset` says where to go on after an offset that is not
    /// there (any more), none that this is an error.
    #[must_use]
    pub fn new(limits: CursorLimits, isolation: Isolation, reset: Option<Start>, seed: u64) -> Cursor {
        Cursor {
            limits,
            isolation,
            reset,
            assigned: BTreeMap::new(),
            withheld: BTreeSet::new(),
            generations: 0,
            fetching: BTreeSet::new(),
            first: BTreeMap::new(),
            paused: BTreeMap::new(),
            stale: BTreeSet::new(),
            backoff: Backoff::new(limits.backoff, seed),
            buffered: 0,
        }
    }

    /// Reads `partition` from `start` on, from now on. What was fetched before is not returned.
    pub fn seek(&mut self, partition: TopicPartition, start: Start) {
        let position = match start {
            Start::Offset(offset) => Position::At(offset),
            other => Position::Wanted(other),
        };
        self.generations += 1;
        let (generation, bytes_max) = (self.generations, self.limits.partition_bytes);
        let end = self.assigned.get(&partition).and_then(|assigned| assigned.end);
        self.assigned.insert(partition, Assigned { position, generation, bytes_max, end, trouble: None });
    }

    /// Reads nothing more of `partition` until a seek. What was fetched of it is not returned.
    pub fn stop(&mut self, partition: &TopicPartition) {
        self.generations += 1;
        if let Some(assigned) = self.assigned.get_mut(partition) {
            (assigned.position, assigned.generation) = (Position::Stopped, self.generations);
        }
    }

    /// Forgets `partition`.
    pub fn remove(&mut self, partition: &TopicPartition) {
        self.assigned.remove(partition);
        self.withheld.remove(partition);
    }

    /// Fetches nothing of `partition` until [`Cursor::resume`]. What was fetched is not returned, so it takes no room from the
    /// others: reading goes on at `from`, if that is known, or where it would have begun.
    pub fn pause(&mut self, partition: &TopicPartition, from: Option<Offset>) {
        self.withheld.insert(partition.clone());
        if let Some(from) = from.filter(|_| self.assigned.contains_key(partition)) {
            self.seek(partition.clone(), Start::Offset(from));
        }
    }

    /// Goes on reading `partition`.
    pub fn resume(&mut self, partition: &TopicPartition) {
        self.withheld.remove(partition);
    }

    /// Where readers came to an end when the partition was last fetched.
    #[must_use]
    pub fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.assigned.get(partition)?.end
    }

    /// The partitions whose first offset must be looked up.
    #[must_use]
    pub fn wanted(&self) -> Vec<(TopicPartition, Start)> {
        let wanted = self.assigned.iter().filter_map(|(partition, assigned)| match assigned.position {
            Position::Wanted(start) => Some((partition.clone(), start)),
            _ => None,
        });
        wanted.collect()
    }

    /// The answer to one of [`Cursor::wanted`].
    pub fn found(&mut self, partition: &TopicPartition, start: Start, offset: Offset) {
        let assigned = self.assigned.get_mut(partition);
        let waiting = |position: &Position| matches!(position, Position::Wanted(wanted) if *wanted == start);
        if let Some(assigned) = assigned.filter(|assigned| waiting(&assigned.position)) {
            assigned.position = Position::At(offset);
        }
    }

    /// A partition cannot be read on; it stays so until a seek.
    pub fn give_up(&mut self, partition: &TopicPartition) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.position = Position::Stopped;
        }
    }

    /// The next fetch that can be sent now, if there is one.
    pub fn next_fetch(
        &mut self,
        now: Instant,
        leader_of: impl Fn(&TopicPartition) -> Option<NodeId>,
    ) -> Option<FetchPlan> {
        if self.buffered >= self.limits.prefetch_bytes {
            return None;
        }
        self.paused.retain(|_, until| *until > now);
        let mut plan: Option<FetchPlan> = None;
        for (partition, assigned) in &self.assigned {
            let Position::At(offset) = assigned.position else { continue };
            let is_in_trouble = assigned.trouble.as_ref().is_some_and(|trouble| trouble.until > now);
            if is_in_trouble || self.withheld.contains(partition) {
                continue;
            }
            let Some(node) = leader_of(partition) else {
                self.stale.insert(partition.topic.clone());
                continue;
            };
            if self.fetching.contains(&node) || self.paused.contains_key(&node) {
                continue;
            }
            let plan = plan.get_or_insert_with(|| FetchPlan { node, parts: Vec::new(), first: 0 });
            if plan.node == node {
                let (generation, bytes_max) = (assigned.generation, assigned.bytes_max);
                plan.parts.push(FetchPart { partition: partition.clone(), offset, bytes_max, generation });
            }
        }
        if let Some(plan) = &mut plan {
            self.fetching.insert(plan.node);
            let first = self.first.get(&plan.node);
            let before = |part: &FetchPart| first.is_some_and(|first| part.partition < *first);
            plan.first = plan.parts.partition_point(before) % plan.parts.len();
        }
        plan
    }

    /// A fetch was answered. Partitions that the answer leaves out have nothing new.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        plan: &FetchPlan,
        answers: impl IntoIterator<Item = (TopicPartition, FetchPartitionResponse)>,
    ) -> Vec<Fetched> {
        self.fetching.remove(&plan.node);
        let (mut trouble, mut success) = (false, false);
        // How far behind the first the nearest one comes of which there was nothing; if it is the first itself, another is to be.
        let mut passed_over: Option<usize> = None;
        let mut fetched = Vec::new();
        for (partition, answer) in answers {
            // They are in the order of the partitions.
            let place = plan.parts.binary_search_by(|part| part.partition.cmp(&partition)).ok();
            let asked = place.and_then(|place| plan.parts.get(place));
            let current = self.assigned.get(&partition).map(|assigned| assigned.generation);
            let Some(asked) = asked.filter(|part| Some(part.generation) == current) else { continue };
            match answer.error_code {
                ErrorCode::None => {
                    success = true;
                    let end = self.note_end(asked, &answer);
                    if end > Some(asked.offset) && answer.records.as_ref().is_none_or(Records::is_empty) {
                        let behind = place.map(|place| plan.behind_first(place).max(1));
                        passed_over = [passed_over, behind].into_iter().flatten().min();
                    }
                    fetched.extend(self.take(asked, answer));
                }
                ErrorCode::OffsetOutOfRange => fetched.extend(self.out_of_range(asked)),
                code if code.retriable() => {
                    trouble = true;
                    self.set_back(now, &partition);
                    if stale_metadata(code) {
                        self.stale.insert(partition.topic.clone());
                    }
                }
                code => fetched.push(
                    self.fail(&partition, ClientError::broker(format!("reading {partition}"), code, None)),
                ),
            }
        }
        if let Some(part) = passed_over.and_then(|behind| plan.asked().nth(behind % plan.parts.len())) {
            self.first.insert(plan.node, part.partition.clone());
        }
        if trouble && !success {
            self.back_off(now, plan.node);
        } else {
            self.backoff.succeeded();
        }
        fetched
    }

    /// A fetch got no answer.
    pub fn failed(&mut self, now: Instant, plan: &FetchPlan) {
        self.fetching.remove(&plan.node);
        self.stale.extend(plan.parts.iter().map(|part| part.partition.topic.clone()));
        self.back_off(now, plan.node);
    }

    fn back_off(&mut self, now: Instant, node: NodeId) {
        let until = now + self.backoff.pause();
        self.paused.insert(node, until);
    }

    /// Leaves a partition alone for a while, longer each time.
    fn set_back(&mut self, now: Instant, partition: &TopicPartition) {
        let limits = self.limits.backoff;
        if let Some(assigned) = self.assigned.get_mut(partition) {
            let mut backoff = match assigned.trouble.take() {
                Some(trouble) => trouble.backoff,
                None => Backoff::new(limits, assigned.generation),
            };
            let until = now + backoff.pause();
            assigned.trouble = Some(Trouble { backoff, until });
        }
    }

    fn note_end(&mut self, asked: &FetchPart, answer: &FetchPartitionResponse) -> Option<Offset> {
        let stable = Some(answer.last_stable_offset).filter(|_| self.isolation == Isolation::ReadCommitted);
        let end = stable.filter(|offset| *offset >= 0).unwrap_or(answer.high_watermark);
        let end = Some(Offset(end)).filter(|_| end >= 0);
        if let Some(assigned) = self.assigned.get_mut(&asked.partition) {
            (assigned.end, assigned.trouble) = (end, None);
        }
        end
    }

    fn take(&mut self, asked: &FetchPart, answer: FetchPartitionResponse) -> Option<Fetched> {
        let records = answer.records.unwrap_or_default().to_bytes();
        let bytes = records.len();
        let aborted = answer.aborted_transactions.unwrap_or_default();
        let seen = match visible(records, aborted, self.isolation) {
            Ok(seen) => seen,
            Err(error) => {
                let problem = format!("at or after offset {}: {error}", asked.offset);
                let error = ClientError::Unreadable { partition: asked.partition.to_string(), problem };
                return Some(self.fail(&asked.partition, error));
            }
        };
        let assigned = self.assigned.get_mut(&asked.partition)?;
        let Some(next) = seen.next else {
            // Some bytes, but no whole batch: it is larger than was asked for.
            if bytes > 0 {
                assigned.bytes_max =
                    assigned.bytes_max.saturating_mul(2).min(self.limits.partition_bytes_max);
            }
            return None;
        };
        let next = next.max(asked.offset);
        assigned.position = Position::At(next);
        self.buffered += bytes;
        Some(Fetched::Chunk(Chunk {
            partition: asked.partition.clone(),
            batches: seen.batches,
            from: asked.offset,
            next,
            bytes,
            generation: asked.generation,
        }))
    }

    fn out_of_range(&mut self, asked: &FetchPart) -> Option<Fetched> {
        match self.reset {
            Some(start) => {
                tracing::info!(partition = %asked.partition, offset = %asked.offset, "out of range: starting again");
                self.seek(asked.partition.clone(), start);
                None
            }
            None => {
                let context = format!("reading {} at offset {}", asked.partition, asked.offset);
                let error = ClientError::broker(context, ErrorCode::OffsetOutOfRange, None);
                Some(self.fail(&asked.partition, error))
            }
        }
    }

    fn fail(&mut self, partition: &TopicPartition, error: ClientError) -> Fetched {
        self.give_up(partition);
        Fetched::Failed(error)
    }

    /// A chunk leaves the buffer. Whether it is still meant.
    pub(super) fn read(&mut self, chunk: &Chunk) -> bool {
        self.buffered = self.buffered.saturating_sub(chunk.bytes);
        self.is_current(chunk)
    }

    /// Whether no seek has overtaken the chunk.
    pub(super) fn is_current(&self, chunk: &Chunk) -> bool {
        self.assigned.get(&chunk.partition).is_some_and(|assigned| assigned.generation == chunk.generation)
    }

    /// The topics whose leaders must be asked for.
    pub fn take_stale_topics(&mut self) -> BTreeSet<TopicName> {
        std::mem::take(&mut self.stale)
    }

    /// When something will have to be done although nothing happens.
    #[must_use]
    pub fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        let troubled = self.assigned.values().filter_map(|assigned| assigned.trouble.as_ref());
        let troubled = troubled.map(|trouble| trouble.until);
        self.paused.values().copied().chain(troubled).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PartitionIndex;
    use bytes::Bytes;
    use std::time::Duration;

    fn partition(index: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("t").unwrap(), PartitionIndex(index))
    }

    fn cursor(partitions: i32) -> Cursor {
        let limits = CursorLimits {
            prefetch_bytes: 1 << 20,
            partition_bytes: 1 << 10,
            partition_bytes_max: 1 << 20,
            backoff: BackoffLimits::default(),
        };
        let mut cursor = Cursor::new(limits, Isolation::ReadCommitted, None, 0);
        (0..partitions).for_each(|index| cursor.seek(partition(index), Start::Offset(Offset(5))));
        cursor
    }

    /// Fetches once: `has` are the partitions of which there is something, `given` those of which the answer has it. The order
    /// in which they were asked for.
    fn fetch(cursor: &mut Cursor, has: &[i32], given: &[i32]) -> Vec<i32> {
        let now = Instant::now();
        let plan = cursor.next_fetch(now, |_| Some(NodeId(1))).unwrap();
        let answer = |part: &FetchPart| {
            let index = part.partition.partition.0;
            let records = if given.contains(&index) {
                Records::from(Bytes::from_static(b"a part"))
            } else {
                Records::default()
            };
            let end = part.offset.0 + i64::from(has.contains(&index));
            let answer = FetchPartitionResponse {
                partition_index: index,
                high_watermark: end,
                last_stable_offset: end,
                records: Some(records),
                ..FetchPartitionResponse::default()
            };
            (part.partition.clone(), answer)
        };
        let answers: Vec<_> = plan.asked().map(answer).collect();
        cursor.answered(now, &plan, answers);
        plan.asked().map(|part| part.partition.partition.0).collect()
    }

    /// An answer of which nothing can be had for now of some of the partitions, and the rest has nothing new.
    fn refuse(cursor: &mut Cursor, now: Instant, refused: &[i32]) -> Option<Vec<i32>> {
        let plan = cursor.next_fetch(now, |_| Some(NodeId(1)))?;
        let answer = |part: &FetchPart| {
            let is_refused = refused.contains(&part.partition.partition.0);
            let error_code = if is_refused { ErrorCode::KafkaStorageError } else { ErrorCode::None };
            (
                part.partition.clone(),
                FetchPartitionResponse { error_code, ..FetchPartitionResponse::default() },
            )
        };
        let answers: Vec<_> = plan.asked().map(answer).collect();
        cursor.answered(now, &plan, answers);
        Some(plan.asked().map(|part| part.partition.partition.0).collect())
    }

    #[test]
    fn a_partition_that_cannot_be_read_for_now_does_not_keep_the_others_waiting() {
        let (mut cursor, mut now) = (cursor(3), Instant::now());
        let mut asked = 0;
        for _ in 0..1_000 {
            let fetched = refuse(&mut cursor, now, &[1]).expect("the others are not paused");
            assert!(fetched.contains(&0) && fetched.contains(&2));
            asked += usize::from(fetched.contains(&1));
            now += Duration::from_millis(10);
        }
        assert!(
            (10..25).contains(&asked),
            "of ten seconds, twice as long a pause each time up to one: {asked}"
        );
        // Of a broker that has nothing at all for now, nothing is asked.
        now += Duration::from_secs(2);
        assert_eq!(refuse(&mut cursor, now, &[0, 1, 2]), Some(vec![0, 1, 2]));
        assert_eq!(refuse(&mut cursor, now, &[]), None);
        assert!(cursor.next_wakeup(now).is_some_and(|wakes| wakes > now));
        // What is read again is in no trouble.
        now += Duration::from_secs(2);
        assert_eq!(refuse(&mut cursor, now, &[]), Some(vec![0, 1, 2]));
        assert_eq!(refuse(&mut cursor, now, &[]), Some(vec![0, 1, 2]));
    }

    #[test]
    fn partitions_for_which_an_answer_had_no_room_come_first_the_next_time() {
        let all = [0, 1, 2, 3, 4];
        let mut cursor = cursor(5);
        assert_eq!(fetch(&mut cursor, &[0, 1], &[0, 1]), all);
        assert_eq!(fetch(&mut cursor, &all, &[0, 1]), all, "so far nobody has been passed over");
        assert_eq!(fetch(&mut cursor, &all, &[2, 3]), [2, 3, 4, 0, 1]);
        assert_eq!(fetch(&mut cursor, &all, &[4, 1, 2]), [4, 0, 1, 2, 3]);
        assert_eq!(fetch(&mut cursor, &all, &all), [0, 1, 2, 3, 4]);
        assert_eq!(
            fetch(&mut cursor, &all, &[1, 2, 3, 4]),
            [0, 1, 2, 3, 4],
            "the same, which asks less of the broker"
        );
        assert_eq!(fetch(&mut cursor, &[], &[]), [1, 2, 3, 4, 0], "the first itself had nothing");
    }
}
