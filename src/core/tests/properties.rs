//! Random histories, judged by the properties of `spec/guarantees.md` from the events alone.

use super::world::World;
use crate::core::*;
use crate::types::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

const IDS: [&str; 2] = ["x", "y"];

/// What somebody does. Producers may be new, current or old; requests may be repeated or come late.
#[derive(Clone, Debug)]
enum Step {
    Init { id: usize, keeps: bool },
    Produce { id: usize, epoch_back: i16, partition: i32, skew: i32, records: u32, v2: bool },
    Enrol { id: usize, partition: i32 },
    Stage { id: usize, offset: i64 },
    End { id: usize, epoch_back: i16, commit: bool, v2: bool },
    Pass { seconds: u64 },
    Force { id: usize },
    Prepare { id: usize },
    Age { id: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..IDS.len();
    prop_oneof![
        2 => (id.clone(), any::<bool>()).prop_map(|(id, keeps)| Step::Init { id, keeps }),
        8 => (id.clone(), prop_oneof![4 => Just(0i16), 1 => Just(1)], 0..2, prop_oneof![6 => Just(0), 1 => -3..3], 1u32..4, any::<bool>())
            .prop_map(|(id, epoch_back, partition, skew, records, v2)| Step::Produce { id, epoch_back, partition, skew, records, v2 }),
        2 => (id.clone(), 0..2).prop_map(|(id, partition)| Step::Enrol { id, partition }),
        1 => (id.clone(), 0i64..9).prop_map(|(id, offset)| Step::Stage { id, offset }),
        4 => (id.clone(), prop_oneof![4 => Just(0i16), 1 => Just(1)], any::<bool>(), any::<bool>())
            .prop_map(|(id, epoch_back, commit, v2)| Step::End { id, epoch_back, commit, v2 }),
        1 => (1u64..90).prop_map(|seconds| Step::Pass { seconds }),
        1 => id.clone().prop_map(|id| Step::Force { id }),
        1 => id.clone().prop_map(|id| Step::Prepare { id }),
        1 => id.prop_map(|id| Step::Age { id }),
        1 => Just(Step::Restart),
    ]
}

/// Producers as they know themselves.
#[derive(Default)]
struct Clients {
    identity: [Option<Identity>; 2],
    /// The next sequence, by identity and partition.
    next: HashMap<(Identity, i32), i32>,
}

impl Clients {
    fn identity(&self, id: usize, epoch_back: i16) -> Option<Identity> {
        let identity = self.identity[id]?;
        let epoch = ProducerEpoch((identity.epoch.0 - epoch_back).max(0));
        Some(Identity { epoch, ..identity })
    }

    fn take(&mut self, world: &mut World, step: &Step) {
        let protocol = |v2| if v2 { Protocol::V2 } else { Protocol::V1 };
        match step {
            Step::Init { id, keeps } => {
                let current = self.identity[*id].filter(|_| *keeps);
                if let Ok(identity) = world.init(Some(IDS[*id]), current) {
                    self.identity[*id] = Some(identity);
                }
            }
            Step::Produce { id, epoch_back, partition, skew, records, v2 } => {
                let Some(identity) = self.identity(*id, *epoch_back) else { return };
                let next = self.next.entry((identity, *partition)).or_insert(0);
                let first = (*next + skew).max(0);
                let answer =
                    world.produce(protocol(*v2), Some(IDS[*id]), identity, *partition, first, *records);
                if answer.is_ok_and(|appended| !appended.duplicate) {
                    *next = first + i32::try_from(*records).unwrap();
                }
            }
            Step::Enrol { id, partition } => {
                if let Some(identity) = self.identity[*id] {
                    world.enrol(IDS[*id], identity, &[*partition]);
                }
            }
            Step::Stage { id, offset } => {
                if let Some(identity) = self.identity[*id] {
                    let _ = world.stage(IDS[*id], identity, *offset);
                }
            }
            Step::End { id, epoch_back, commit, v2 } => {
                let Some(identity) = self.identity(*id, *epoch_back) else { return };
                let outcome = if *commit { Outcome::Commit } else { Outcome::Abort };
                if let Ok(next) = world.end(protocol(*v2), IDS[*id], identity, outcome) {
                    self.identity[*id] = Some(next);
                }
            }
            Step::Pass { seconds } => {
                world.pass(Duration::from_secs(*seconds));
                IDS.iter().for_each(|id| world.expire(id));
            }
            Step::Prepare { id } => {
                if let Some(identity) = self.identity[*id] {
                    let _ = world.prepare(IDS[*id], identity, None);
                }
            }
            Step::Force { id } => {
                let _ = world.end_by_operator(IDS[*id], None, Outcome::Abort);
            }
            Step::Age { id } => {
                // Only where nothing is open: a transaction's records carry their epoch.
                let key = TransactionalId::new(IDS[*id]).unwrap();
                let idle = world
                    .rows
                    .get::<TransactionRow>(&key)
                    .is_some_and(|row| row.state == TransactionState::Empty);
                if let (true, Some(identity)) = (idle, self.identity[*id])
                    && world.transaction(IDS[*id]).holder == identity
                {
                    world.age(IDS[*id], 32766);
                    self.identity[*id] = Some(Identity { epoch: ProducerEpoch(32766), ..identity });
                }
            }
            Step::Restart => world.restart(),
        }
    }
}

/// Reads the events as a reader of the log would, and checks the properties by their names.
#[derive(Default)]
struct Judge {
    next_offset: BTreeMap<PartitionId, Offset>,
    stored: BTreeSet<(PartitionId, Identity, i32)>,
    newest: BTreeMap<(PartitionId, Identity), i32>,
    fenced_below: BTreeMap<(PartitionId, ProducerId), ProducerEpoch>,
    enrolled: BTreeMap<(TransactionalId, TxnNumber), BTreeSet<PartitionId>>,
    open: BTreeMap<(PartitionId, ProducerId), TxnNumber>,
    ended: BTreeMap<(TransactionalId, TxnNumber), Outcome>,
    owed: BTreeSet<(PartitionId, ProducerId, TxnNumber)>,
    holder: BTreeMap<TransactionalId, Identity>,
}

impl Judge {
    fn place(&mut self, partition: PartitionId, offset: Offset, count: i64) {
        let next = self.next_offset.entry(partition).or_default();
        assert_eq!(*next, offset, "CommittedPrefixStable: offsets follow one another and are never reused");
        *next = offset.plus(count);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::BatchAppended(batch) => self.appended(batch),
            Event::PartitionsEnrolled { enrolment, partitions } => {
                let key = (enrolment.transactional_id.clone(), enrolment.number);
                assert!(!self.ended.contains_key(&key), "NoTornTxn: nothing is enrolled after the end");
                self.enrolled.entry(key).or_default().extend(partitions);
            }
            Event::ProducerInitialized { transactional_id, holder, .. } => {
                self.held(transactional_id, *holder)
            }
            Event::TransactionEnded { transactional_id, number, outcome, holder, .. } => {
                let key = (transactional_id.clone(), *number);
                let producer = self.holder[transactional_id].id;
                if let Some(partitions) = self.enrolled.get(&key) {
                    assert!(self.ended.insert(key, *outcome).is_none(), "NoTornTxn: one outcome");
                    self.owed.extend(partitions.iter().map(|partition| (*partition, producer, *number)));
                }
                self.held(transactional_id, *holder);
            }
            Event::MarkerWritten(marker) => self.marked(marker),
            _ => {}
        }
    }

    fn held(&mut self, id: &TransactionalId, holder: Identity) {
        if let Some(before) = self.holder.insert(id.clone(), holder) {
            assert!(holder >= before, "EpochMonotone");
        }
    }

    fn appended(&mut self, batch: &BatchAppended) {
        self.place(batch.partition, batch.base_offset, i64::from(batch.records));
        let Some(append) = &batch.producer else { return };
        let (partition, identity) = (batch.partition, append.identity);
        let fence = self.fenced_below.get(&(partition, identity.id)).copied().unwrap_or(ProducerEpoch::FIRST);
        assert!(identity.epoch >= fence, "FenceZombie");
        self.fenced_below.insert((partition, identity.id), identity.epoch);
        let first = append.sequences.first.get();
        if let Some(newest) = self.newest.get(&(partition, identity)) {
            assert_eq!(first, newest + 1, "SeqContiguous");
        }
        for sequence in first..=append.sequences.last.get() {
            assert!(self.stored.insert((partition, identity, sequence)), "NoDuplicate");
            self.newest.insert((partition, identity), sequence);
        }
        if let Some(number) = append.transaction {
            let enrolled = self
                .enrolled
                .iter()
                .any(|((_, n), partitions)| *n == number && partitions.contains(&partition));
            assert!(enrolled, "LsoAdvances: no append without enrolment");
            self.open.insert((partition, identity.id), number);
        }
    }

    fn marked(&mut self, marker: &MarkerWritten) {
        self.place(marker.partition, marker.offset, 1);
        let owed = (marker.partition, marker.producer.id, marker.number);
        assert!(self.owed.remove(&owed), "MarkerExactlyOnce: each marker is owed, and once");
        let fence =
            self.fenced_below.entry((marker.partition, marker.producer.id)).or_insert(marker.producer.epoch);
        assert!(marker.producer.epoch >= *fence, "EpochMonotone at the partition");
        *fence = marker.producer.epoch;
        self.open.remove(&(marker.partition, marker.producer.id));
        let outcomes: BTreeSet<bool> = self
            .ended
            .iter()
            .filter(|((id, number), _)| {
                *number == marker.number && self.enrolled[&(id.clone(), *number)].contains(&marker.partition)
            })
            .map(|(_, outcome)| *outcome == Outcome::Commit)
            .collect();
        assert!(
            outcomes.contains(&(marker.outcome == Outcome::Commit)),
            "NoTornTxn: the marker says what was decided"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_hold_in_every_history(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new(2);
        let mut clients = Clients::default();
        let mut judge = Judge::default();
        let mut judged = 0;
        let mut aged = false;
        let mut stable = [Offset::ZERO; 2];
        for step in &steps {
            // Ageing puts a row where no event has brought it; after it, rows and events no longer agree.
            if matches!(step, Step::Age { .. }) {
                aged = true;
            }
            if matches!(step, Step::Restart) && aged {
                continue;
            }
            clients.take(&mut world, step);
            for (_, event) in &world.log[judged..] {
                judge.event(event);
            }
            judged = world.log.len();
            prop_assert!(judge.owed.is_empty(), "MarkerExactlyOnce: every enrolled partition has its marker");
            for (index, before) in stable.iter_mut().enumerate() {
                let row = world.partition_row(i32::try_from(index).unwrap());
                let lso = row.last_stable_offset();
                prop_assert!(lso <= row.next_offset && lso >= *before, "the last stable offset never goes back");
                *before = lso;
                let open = judge.open.keys().any(|(partition, _)| partition.index.0 == i32::try_from(index).unwrap());
                prop_assert_eq!(open, row.first_open.is_some(), "LsoAdvances: held back by open transactions alone");
            }
            if !aged {
                prop_assert_eq!(world.replayed().durable(), world.rows.durable(), "the rows are the fold of the log");
            }
        }
    }
}
