//! The outbox against a broker that loses requests and answers, refuses, goes away, and acts late.

use super::super::backoff::BackoffLimits;
use super::super::metadata::TopicPartition;
use super::delivery::{ProduceError, Promise};
use super::outbox::*;
use crate::types::{
    NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp, TopicName,
};
use crate::wire::ErrorCode;
use crate::wire::batch::{BatchLimits, Compression, Record, check_produced};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODE: NodeId = NodeId(1);

fn limits() -> OutboxLimits {
    OutboxLimits {
        batch_bytes: 100,
        linger: Duration::from_millis(5),
        buffer_bytes: 4000,
        request_bytes: 400,
        lane_requests: 5,
        partition_batches: 5,
        lanes: 2,
        request_timeout: Duration::from_secs(5),
        delivery_timeout: Duration::from_secs(30),
        backoff: BackoffLimits { first: Duration::from_millis(10), longest: Duration::from_millis(100) },
        compression: Compression::None,
    }
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), PartitionIndex(index))
}

/// What a broker remembers of one producer in one partition, and the records it has stored there.
#[derive(Default)]
struct Stored {
    records: Vec<u64>,
    epoch: Option<(ProducerId, ProducerEpoch)>,
    /// The last five batches and their base offsets.
    remembered: VecDeque<(SequenceRange, i64)>,
}

impl Stored {
    /// Judges a batch as `spec/transactions.md` says, and stores it if it is due.
    fn append(&mut self, bytes: &Bytes) -> (ErrorCode, i64) {
        let checked = check_produced(bytes, &BatchLimits::default(), None).unwrap();
        let batch = checked.producer.batch().unwrap();
        let (first, last) = (batch.sequences.first, batch.sequences.last);
        let newer = self.epoch.is_none_or(|(id, epoch)| batch.id != id || batch.epoch > epoch);
        if newer && first != Sequence::FIRST {
            return (ErrorCode::OutOfOrderSequenceNumber, -1);
        }
        if !newer && self.epoch.is_some_and(|(_, epoch)| batch.epoch < epoch) {
            return (ErrorCode::InvalidProducerEpoch, -1);
        }
        if newer {
            self.remembered.clear();
            self.epoch = Some((batch.id, batch.epoch));
        } else {
            if let Some((_, offset)) = self.remembered.iter().find(|(range, _)| *range == batch.sequences) {
                return (ErrorCode::None, *offset);
            }
            let oldest = self.remembered.front().unwrap().0.first;
            if last.is_behind(oldest) {
                return (ErrorCode::DuplicateSequenceNumber, -1);
            }
            if self.remembered.back().unwrap().0.last.next() != first {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
        }
        let offset = i64::try_from(self.records.len()).unwrap();
        let fetched = crate::wire::batch::Batch::new(bytes.clone()).unwrap();
        for record in fetched.records(&BatchLimits::default()).unwrap() {
            let value = record.unwrap().record.value.unwrap();
            self.records.push(u64::from_be_bytes(value[..8].try_into().unwrap()));
        }
        self.remembered.push_back((batch.sequences, offset));
        if self.remembered.len() > 5 {
            self.remembered.pop_front();
        }
        (ErrorCode::None, offset)
    }
}

struct World {
    outbox: Outbox,
    now: Instant,
    stored: BTreeMap<TopicPartition, Stored>,
    /// Requests that the broker has not acted on, by lane, in order.
    queued: BTreeMap<ProduceLane, VecDeque<BuiltRequest>>,
    /// Requests of connections that are gone. The broker may still act on them, in their order.
    late: VecDeque<BuiltRequest>,
    next_record: u64,
    promises: Vec<(i32, u64, Arc<Promise>)>,
    identities: i64,
}

impl World {
    fn new(mode: Mode) -> World {
        let now = Instant::now() + Duration::from_secs(1000);
        World {
            outbox: Outbox::new(limits(), mode, now, 7),
            now,
            stored: BTreeMap::new(),
            queued: BTreeMap::new(),
            late: VecDeque::new(),
            next_record: 0,
            promises: Vec::new(),
            identities: 0,
        }
    }

    fn append(&mut self, index: i32, padding: usize) {
        let number = self.next_record;
        let mut value = number.to_be_bytes().to_vec();
        value.resize(8 + padding, 0);
        let record = Record { value: Some(value.into()), ..Record::default() };
        match self.outbox.append(self.now, &partition(index), Some(NODE), Timestamp(1), &record) {
            Ok(appended) => {
                self.next_record += 1;
                self.promises.push((index, number, appended.promise));
            }
            Err(Refusal::Full) => {}
            Err(Refusal::Never(error)) => assert!(self.outbox.failure().is_some(), "{error}"),
        }
    }

    /// What the shell does whenever it is woken.
    fn pump(&mut self) {
        self.outbox.expire(self.now);
        while let Some(ready) = self.outbox.next_request(self.now) {
            let built = ready.build();
            self.outbox.built(&built);
            let lane = self.queued.entry(built.lane).or_default();
            lane.push_back(built);
            assert!(lane.len() <= 5, "more requests on a lane than allowed");
        }
        for lane in self.outbox.take_wanted_lanes() {
            self.outbox.lane_is_open(lane, true);
        }
        if self.outbox.wants_identity() {
            self.outbox.identify(ProducerId(self.identities), ProducerEpoch(0));
            self.identities += 1;
        }
        self.outbox.take_stale_topics();
        for lane in self.outbox.overdue_lanes(self.now) {
            self.disconnect(lane, 0);
        }
    }

    fn act(&mut self, request: &BuiltRequest) -> Vec<PartitionAnswer> {
        let answers = request.parts.iter().map(|(partition, bytes)| {
            let stored = self.stored.entry(partition.clone()).or_default();
            let (code, offset) = stored.append(bytes.as_ref().unwrap());
            answer(partition, code, offset)
        });
        answers.collect()
    }

    fn lane(&self, number: u16) -> ProduceLane {
        ProduceLane { node: NODE, number }
    }

    /// The broker acts on the first request of a lane and answers.
    fn serve(&mut self, lane: ProduceLane) {
        let Some(request) = self.queued.get_mut(&lane).and_then(VecDeque::pop_front) else { return };
        let answers = self.act(&request);
        self.outbox.answered(self.now, request.number, &answers);
    }

    /// The broker refuses the first request of a lane without storing anything.
    fn refuse(&mut self, lane: ProduceLane, code: ErrorCode) {
        let Some(request) = self.queued.get_mut(&lane).and_then(VecDeque::pop_front) else { return };
        let answers: Vec<_> =
            request.parts.iter().map(|(partition, _)| answer(partition, code, -1)).collect();
        self.outbox.answered(self.now, request.number, &answers);
    }

    /// The connection ends after the broker has acted on `acted` requests; their answers are lost. On the others it may
    /// act later, or never.
    fn disconnect(&mut self, lane: ProduceLane, acted: usize) {
        let mut lost = self.queued.remove(&lane).unwrap_or_default();
        self.outbox.lane_is_open(lane, false);
        let numbers: Vec<_> = lost.iter().map(|request| request.number).collect();
        for request in lost.drain(..acted.min(lost.len())).collect::<Vec<_>>() {
            self.act(&request);
        }
        self.late.extend(lost);
        for number in numbers {
            self.outbox.failed(self.now, number);
        }
    }

    /// Everything works from now on, until nothing is left.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.pump();
            (0..2).for_each(|number| self.serve(self.lane(number)));
            if self.outbox.is_empty() {
                return;
            }
            self.now += Duration::from_millis(20);
        }
        panic!("records are left: {:?}", self.outbox);
    }

    /// What was promised is what is stored.
    fn check(&self) {
        for index in 0..3 {
            let partition = partition(index);
            let stored = self.stored.get(&partition).map(|stored| stored.records.clone()).unwrap_or_default();
            assert!(stored.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice: {stored:?}");
            for (_, number, promise) in self.promises.iter().filter(|(of, ..)| *of == index) {
                let there = stored.binary_search(number).is_ok();
                match promise_outcome(promise) {
                    Ok(()) => assert!(there, "record {number} was acknowledged and is not stored"),
                    Err(error) if error.may_be_stored() => {}
                    Err(error) => assert!(!there, "record {number} is stored in spite of: {error}"),
                }
            }
        }
    }
}

fn promise_outcome(promise: &Arc<Promise>) -> Result<(), ProduceError> {
    let delivery = super::Delivery { promise: Arc::clone(promise), index: 0 };
    delivery.outcome().expect("every promise is settled").map(|_| ())
}

fn answer(partition: &TopicPartition, code: ErrorCode, base_offset: i64) -> PartitionAnswer {
    PartitionAnswer {
        partition: partition.clone(),
        code,
        detail: None,
        base_offset: Offset(base_offset),
        append_time: Timestamp::NONE,
        accepted_keys: Vec::new(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(i32, usize),
    Pass(u64),
    Serve(u16),
    Refuse(u16, ErrorCode),
    Disconnect(u16, usize),
    ActLate,
}

fn step() -> impl Strategy<Value = Step> {
    let code = prop_oneof![
        Just(ErrorCode::NotLeaderOrFollower),
        Just(ErrorCode::KafkaStorageError),
        Just(ErrorCode::MessageTooLarge),
        Just(ErrorCode::InvalidRecord),
    ];
    prop_oneof![
        8 => (0..3_i32, 0..90_usize).prop_map(|(partition, padding)| Step::Append(partition, padding)),
        3 => (0..40_u64).prop_map(Step::Pass),
        1 => (1000..9000_u64).prop_map(Step::Pass),
        4 => (0..2_u16).prop_map(Step::Serve),
        1 => (0..2_u16, code).prop_map(|(lane, code)| Step::Refuse(lane, code)),
        1 => (0..2_u16, 0..5_usize).prop_map(|(lane, acted)| Step::Disconnect(lane, acted)),
        1 => Just(Step::ActLate),
    ]
}

fn live(mode: Mode, steps: &[Step]) -> World {
    let mut world = World::new(mode);
    for step in steps {
        match *step {
            Step::Append(partition, padding) => world.append(partition, padding),
            Step::Pass(millis) => world.now += Duration::from_millis(millis),
            Step::Serve(lane) => world.serve(world.lane(lane)),
            Step::Refuse(lane, code) => world.refuse(world.lane(lane), code),
            Step::Disconnect(lane, acted) => world.disconnect(world.lane(lane), acted),
            Step::ActLate => {
                if let Some(request) = world.late.pop_front() {
                    world.act(&request);
                }
            }
        }
        world.pump();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_promised_is_stored_once_and_in_order(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = live(Mode::Idempotent, &steps);
        world.settle();
        world.check();
        // What a lost connection still brings changes nothing that was promised.
        while let Some(request) = world.late.pop_front() {
            world.act(&request);
        }
        world.check();
    }

    #[test]
    fn a_transaction_promises_nothing_more_after_its_first_failure(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = live(Mode::Transactional, &steps);
        world.settle();
        world.check_promises_of_a_transaction();
    }
}

impl World {
    fn check_promises_of_a_transaction(&self) {
        let failed = self.promises.iter().filter(|(.., promise)| promise_outcome(promise).is_err()).count();
        assert_eq!(
            failed > 0,
            self.outbox.failure().is_some(),
            "a failure is the transaction's, and only a failure"
        );
        if failed == 0 {
            self.check();
        }
        // One epoch only: an abort is what ends it.
        assert!(
            self.stored
                .values()
                .all(|stored| stored.epoch.is_none_or(|(_, epoch)| epoch == ProducerEpoch(0)))
        );
    }
}

#[test]
fn a_full_buffer_refuses_until_something_is_settled() {
    let mut world = World::new(Mode::Idempotent);
    for _ in 0..200 {
        world.append(0, 80);
    }
    assert!(world.next_record < 200, "the buffer has no bound");
    let before = world.next_record;
    world.settle();
    world.append(0, 80);
    assert_eq!(world.next_record, before + 1);
    world.settle();
    world.check();
}

#[test]
fn a_batch_waits_for_more_and_a_full_one_does_not() {
    let mut world = World::new(Mode::Idempotent);
    world.append(0, 0);
    world.pump();
    assert!(world.queued.is_empty(), "a small batch must linger");
    assert_eq!(world.outbox.next_wakeup(world.now), Some(world.now + Duration::from_millis(5)));
    world.append(0, 40);
    // The first look asks for a lane and an identity.
    world.pump();
    world.pump();
    assert_eq!(world.queued[&world.lane(0)].len(), 1);
    world.now += Duration::from_millis(5);
    world.pump();
    assert_eq!(world.queued[&world.lane(0)].len(), 2);
}

#[test]
fn epochs_that_are_used_up_are_followed_by_a_new_producer_id() {
    let mut world = World::new(Mode::Idempotent);
    world.outbox.identify(ProducerId(99), ProducerEpoch(32766));
    world.append(0, 0);
    world.now += Duration::from_millis(5);
    for _ in 0..2 {
        world.pump();
    }
    world.refuse(world.lane(0), ErrorCode::InvalidRecord);
    world.append(0, 0);
    world.settle();
    assert_eq!(world.stored[&partition(0)].epoch, Some((ProducerId(0), ProducerEpoch(0))));
    assert_eq!(world.stored[&partition(0)].records, [1]);
}

#[test]
fn the_last_request_is_the_one_after_which_nothing_is_left_to_settle() {
    let mut world = World::new(Mode::Transactional);
    world.outbox.identify(ProducerId(1), ProducerEpoch(0));
    (0..2).for_each(|number| world.outbox.lane_is_open(world.lane(number), true));
    let next = |world: &mut World| world.outbox.next_request(world.now).unwrap().number;
    let is_last = |world: &World, number| world.outbox.is_last(number);
    // Partitions 0 and 2 share a lane; partition 1 is on the other.
    (0..3).for_each(|index| world.append(index, 0));
    world.outbox.seal_all();
    let first = next(&mut world);
    assert!(!is_last(&world, first), "partition 1 has a batch that waits");
    let second = next(&mut world);
    assert!(!is_last(&world, first) && !is_last(&world, second), "the other is under way");
    let stored = |indexes: &[i32]| -> Vec<_> {
        indexes.iter().map(|index| answer(&partition(*index), ErrorCode::None, 0)).collect()
    };
    world.outbox.answered(world.now, first, &stored(&[0, 2]));
    assert!(is_last(&world, second));
    assert!(!is_last(&world, first), "it has been answered");
    world.outbox.fail(ProduceError::TransactionEnded);
    assert!(!is_last(&world, second), "something has failed");
}
