//! Random histories of producers: they may be new, current or old; requests may be repeated, or come late, or over a
//! connection that is not the newest.

use super::world::World;
use crate::core::*;
use crate::types::*;
use proptest::prelude::*;
use std::time::Duration;

pub(super) const IDS: [&str; 2] = ["x", "y"];

/// How long a producer must be idle to be forgotten: no history lasts that long.
const IDLE: Duration = Duration::from_secs(1_000_000);

/// What somebody does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// `current`: with no identity, the client's, or the one before.
    Init {
        id: usize,
        current: u8,
        connection: u64,
    },
    Produce {
        id: usize,
        epoch_back: i16,
        partition: i32,
        skew: i32,
        records: u32,
        v2: bool,
        key: Option<u8>,
    },
    /// The last batch of a transaction, with its commit.
    ProduceAndCommit {
        id: usize,
        epoch_back: i16,
        partition: i32,
        skew: i32,
        key: Option<u8>,
    },
    /// A producer without transactions, which raises its epoch by itself.
    ProduceIdempotent {
        epoch: i16,
        partition: i32,
        skew: i32,
        records: u32,
        key: Option<u8>,
    },
    /// Of the newest batch's producer and partition, the batch so many before is sent again.
    Retry {
        back: usize,
    },
    Enrol {
        id: usize,
        epoch_back: i16,
        partition: i32,
        connection: u64,
    },
    Stage {
        id: usize,
        epoch_back: i16,
        offset: i64,
        connection: u64,
    },
    End {
        id: usize,
        epoch_back: i16,
        commit: bool,
        v2: bool,
        connection: u64,
    },
    Pass {
        seconds: u64,
    },
    /// An operator names the transaction that is open, or the one before.
    Force {
        id: usize,
        number_back: u64,
    },
    Prepare {
        id: usize,
        connection: u64,
    },
    Age {
        id: usize,
    },
    Forget,
    Restart,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let id = 0..IDS.len();
    let epoch_back = || prop_oneof![4 => Just(0i16), 1 => Just(1)];
    let skew = || prop_oneof![6 => Just(0), 1 => -3..3];
    // Few keys, so that they meet.
    let key = || prop_oneof![3 => Just(None), 2 => (0u8..3).prop_map(Some)];
    let connection = || prop_oneof![1 => Just(1u64), 3 => Just(2), 1 => Just(3)];
    prop_oneof![
        2 => (id.clone(), 0u8..3, connection())
            .prop_map(|(id, current, connection)| Step::Init { id, current, connection }),
        8 => (id.clone(), epoch_back(), 0..2, skew(), 1u32..4, any::<bool>(), key())
            .prop_map(|(id, epoch_back, partition, skew, records, v2, key)| Step::Produce { id, epoch_back, partition, skew, records, v2, key }),
        10 => (prop_oneof![19 => Just(0i16), 1 => Just(1)], prop_oneof![3 => Just(0), 1 => Just(1)], prop_oneof![6 => Just(0), 1 => -6..4], 1u32..4, key())
            .prop_map(|(epoch, partition, skew, records, key)| Step::ProduceIdempotent { epoch, partition, skew, records, key }),
        3 => prop_oneof![0usize..6, Just(REMEMBERED_BATCHES - 1)].prop_map(|back| Step::Retry { back }),
        2 => (id.clone(), epoch_back(), 0..2, connection())
            .prop_map(|(id, epoch_back, partition, connection)| Step::Enrol { id, epoch_back, partition, connection }),
        1 => (id.clone(), epoch_back(), 0i64..9, connection())
            .prop_map(|(id, epoch_back, offset, connection)| Step::Stage { id, epoch_back, offset, connection }),
        4 => (id.clone(), epoch_back(), any::<bool>(), any::<bool>(), connection())
            .prop_map(|(id, epoch_back, commit, v2, connection)| Step::End { id, epoch_back, commit, v2, connection }),
        2 => (1u64..90).prop_map(|seconds| Step::Pass { seconds }),
        2 => (id.clone(), epoch_back(), 0..2, skew(), key())
            .prop_map(|(id, epoch_back, partition, skew, key)| Step::ProduceAndCommit { id, epoch_back, partition, skew, key }),
        1 => (id.clone(), 0u64..2).prop_map(|(id, number_back)| Step::Force { id, number_back }),
        1 => (id.clone(), connection()).prop_map(|(id, connection)| Step::Prepare { id, connection }),
        1 => id.prop_map(|id| Step::Age { id }),
        1 => Just(Step::Forget),
        1 => Just(Step::Restart),
    ]
}

/// What was asked and answered.
pub(super) enum Said {
    Initialized {
        id: Option<usize>,
        current: Option<Identity>,
        connection: u64,
        answer: Result<Identity, Refusal>,
    },
    Produced {
        sent: Sent,
        answer: Result<Appended, Refusal>,
    },
    /// And with which identity the producer goes on, if its transaction is said to be committed.
    ProducedAndCommitted {
        sent: Sent,
        answer: Result<Appended, Refusal>,
        holder: Option<Identity>,
    },
    Enrolled {
        id: usize,
        identity: Identity,
        connection: u64,
    },
    Staged {
        id: usize,
        identity: Identity,
        connection: u64,
    },
    Ended {
        id: usize,
        identity: Identity,
        end: Ending,
        connection: u64,
        answer: Result<Identity, Refusal>,
    },
    Forced {
        id: usize,
        number: TxnNumber,
        answer: Result<(), Refusal>,
    },
    Aged {
        id: usize,
        identity: Identity,
    },
}

/// How a transaction is to end.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) protocol: Protocol,
}

/// A batch as it was sent.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) id: Option<usize>,
    pub(super) identity: Identity,
    pub(super) partition: i32,
    pub(super) first: i32,
    pub(super) records: u32,
    pub(super) protocol: Protocol,
    /// The key of its first record.
    pub(super) key: Option<u8>,
}

/// The keys of the histories.
pub(super) const KEYS: [&str; 3] = ["k0", "k1", "k2"];

impl Sent {
    pub(super) fn sequences(&self) -> SequenceRange {
        SequenceRange::starting_at(Sequence::new(self.first).unwrap(), self.records)
    }
}

/// Producers as they know themselves.
#[derive(Default)]
pub(super) struct Clients {
    identity: [Option<Identity>; 2],
    idempotent: Option<ProducerId>,
    /// The next sequence, by identity and partition.
    next: HashMap<(Identity, i32), i32>,
    /// What was stored, oldest first.
    sent: Vec<Sent>,
}

fn protocol(v2: bool) -> Protocol {
    if v2 { Protocol::V2 } else { Protocol::V1 }
}

impl Clients {
    fn identity(&self, id: usize, epoch_back: i16) -> Option<Identity> {
        let identity = self.identity[id]?;
        let epoch = ProducerEpoch((identity.epoch.0 - epoch_back).max(0));
        Some(Identity { epoch, ..identity })
    }

    /// Takes a step, and tells what was said.
    pub(super) fn take(&mut self, world: &mut World, step: &Step) -> Vec<Said> {
        match *step {
            Step::Init { id, current, connection } => self.init(world, id, current, connection),
            Step::Produce { id, epoch_back, partition, skew, records, v2, key } => {
                let sent = self.next_of((id, epoch_back), (partition, skew), records, protocol(v2), key);
                sent.map(|sent| self.produce(world, sent)).into_iter().collect()
            }
            Step::ProduceAndCommit { id, epoch_back, partition, skew, key } => {
                let sent = self.next_of((id, epoch_back), (partition, skew), 1, Protocol::V2, key);
                sent.map(|sent| self.produce_and_commit(world, sent)).into_iter().collect()
            }
            Step::ProduceIdempotent { epoch, partition, skew, records, key } => {
                self.produce_idempotent(world, (epoch, partition, skew), records, key)
            }
            Step::Retry { back } => {
                self.sent_before(back).map(|sent| self.produce(world, sent)).into_iter().collect()
            }
            Step::Enrol { id, epoch_back, partition, connection } => {
                let Some(identity) = self.identity(id, epoch_back) else { return Vec::new() };
                world.enrol_over(IDS[id], identity, &[partition], connection);
                vec![Said::Enrolled { id, identity, connection }]
            }
            Step::Stage { id, epoch_back, offset, connection } => {
                let Some(identity) = self.identity(id, epoch_back) else { return Vec::new() };
                let _ = world.stage_over(IDS[id], identity, offset, connection);
                vec![Said::Staged { id, identity, connection }]
            }
            Step::End { id, epoch_back, commit, v2, connection } => {
                let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
                let end = Ending { outcome, protocol: protocol(v2) };
                self.end(world, id, epoch_back, end, connection)
            }
            Step::Pass { seconds } => {
                world.pass(Duration::from_secs(seconds));
                world.fire_timers();
                // Whatever else asks for it comes too early.
                IDS.iter().for_each(|id| world.expire(id));
                Vec::new()
            }
            Step::Prepare { id, connection } => {
                if let Some(identity) = self.identity[id] {
                    let _ = world.prepare_over(IDS[id], identity, None, connection);
                }
                Vec::new()
            }
            Step::Force { id, number_back } => {
                let newest = world.find_transaction(IDS[id]).map_or(0, |row| row.number.0);
                let number = newest.saturating_sub(number_back);
                let answer = world.end_by_operator(IDS[id], Some(number), Outcome::Abort);
                vec![Said::Forced { id, number: TxnNumber(number), answer }]
            }
            Step::Age { id } => self.age(world, id),
            Step::Forget => {
                world.expire_idle(IDLE);
                world.forget_keys();
                Vec::new()
            }
            Step::Restart => {
                world.restart();
                Vec::new()
            }
        }
    }

    fn init(&mut self, world: &mut World, id: usize, current: u8, connection: u64) -> Vec<Said> {
        let current = match current {
            0 => None,
            back => self.identity(id, i16::from(back) - 1),
        };
        let answer = world.init_over(Some(IDS[id]), current, connection);
        if let Ok(identity) = answer {
            self.identity[id] = Some(identity);
        }
        vec![Said::Initialized { id: Some(id), current, connection, answer }]
    }

    fn first(&self, identity: Identity, partition: i32, skew: i32) -> i32 {
        (self.next.get(&(identity, partition)).copied().unwrap_or(0) + skew).max(0)
    }

    /// The next batch of an id, if it has an identity.
    fn next_of(
        &self,
        (id, epoch_back): (usize, i16),
        (partition, skew): (i32, i32),
        records: u32,
        protocol: Protocol,
        key: Option<u8>,
    ) -> Option<Sent> {
        let identity = self.identity(id, epoch_back)?;
        let first = self.first(identity, partition, skew);
        Some(Sent { id: Some(id), identity, partition, first, records, protocol, key })
    }

    /// Of the newest batch's producer and partition, the batch so many before.
    fn sent_before(&self, back: usize) -> Option<Sent> {
        let newest = self.sent.last()?;
        let same = |sent: &&Sent| sent.identity == newest.identity && sent.partition == newest.partition;
        self.sent.iter().rev().filter(same).nth(back).copied()
    }

    fn produce(&mut self, world: &mut World, sent: Sent) -> Said {
        let Sent { id, identity, partition, first, records, protocol, key } = sent;
        let producer = (id.map(|id| IDS[id]), identity);
        let key = key.map(|key| KEYS[usize::from(key)]);
        let answer = world.produce_keyed(protocol, producer, partition, (first, records), key.as_slice());
        let answer = answer.map_err(|refused| refused.refusal);
        self.has_sent(sent, answer);
        Said::Produced { sent, answer }
    }

    fn has_sent(&mut self, sent: Sent, answer: Result<Appended, Refusal>) {
        if answer.is_ok_and(|appended| !appended.duplicate) {
            let next = sent.first + i32::try_from(sent.records).unwrap();
            self.next.insert((sent.identity, sent.partition), next);
            self.sent.push(sent);
        }
    }

    fn produce_and_commit(&mut self, world: &mut World, sent: Sent) -> Said {
        let Sent { id, identity, partition, first, records, key, .. } = sent;
        let id = id.unwrap();
        let key = key.map(|key| KEYS[usize::from(key)]);
        let batch = world.batch((Some(IDS[id]), identity), partition, (first, records), key.as_slice());
        let (mut answers, holder) = world.produce_and_commit(IDS[id], identity, vec![batch]);
        let answer = answers.remove(0).map_err(|refused| refused.refusal);
        self.has_sent(sent, answer);
        if holder.is_some() {
            self.identity[id] = holder;
        }
        Said::ProducedAndCommitted { sent, answer, holder }
    }

    fn produce_idempotent(
        &mut self,
        world: &mut World,
        (epoch, partition, skew): (i16, i32, i32),
        records: u32,
        key: Option<u8>,
    ) -> Vec<Said> {
        let mut said = Vec::new();
        let producer = *self.idempotent.get_or_insert_with(|| {
            let answer = world.init(None, None);
            said.push(Said::Initialized { id: None, current: None, connection: 1, answer });
            answer.unwrap().id
        });
        let identity = Identity { id: producer, epoch: ProducerEpoch(epoch) };
        let first = self.first(identity, partition, skew);
        let sent = Sent { id: None, identity, partition, first, records, protocol: Protocol::V1, key };
        said.push(self.produce(world, sent));
        said
    }

    fn end(
        &mut self,
        world: &mut World,
        id: usize,
        epoch_back: i16,
        end: Ending,
        connection: u64,
    ) -> Vec<Said> {
        let Some(identity) = self.identity(id, epoch_back) else { return Vec::new() };
        let answer = world.end_over(end.protocol, IDS[id], identity, end.outcome, connection);
        if let Ok(next) = answer {
            self.identity[id] = Some(next);
        }
        vec![Said::Ended { id, identity, end, connection, answer }]
    }

    /// Brings an id's epoch to the last one. Only where nothing is open: a transaction's records carry their epoch.
    fn age(&mut self, world: &mut World, id: usize) -> Vec<Said> {
        let Some(row) = world.find_transaction(IDS[id]) else { return Vec::new() };
        if row.state != TransactionState::Empty || self.identity[id] != Some(row.holder) {
            return Vec::new();
        }
        let identity = Identity { epoch: ProducerEpoch(32766), ..row.holder };
        world.age(IDS[id], identity.epoch.0);
        self.identity[id] = Some(identity);
        vec![Said::Aged { id, identity }]
    }
}
