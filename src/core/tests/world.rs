//! A world in memory: all rows known, every command decided at once, every event kept.

use crate::core::*;
use crate::types::*;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

pub const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Rows(pub HashMap<RowKey, RowValue>);

impl View for Rows {
    fn look(&self, key: &RowKey) -> Look<'_> {
        Look::Known(self.0.get(key), BlockNumber::ZERO)
    }
}

impl Rows {
    fn take(&mut self, drafted: Drafted) -> Vec<Event> {
        for (key, row) in drafted.changes {
            match row {
                Some(row) => self.0.insert(key, row),
                None => self.0.remove(&key),
            };
        }
        drafted.events
    }

    pub fn get<R: Row>(&self, key: &R::Key) -> Option<&R> {
        self.0.get(&R::key(key)).and_then(R::of)
    }

    /// The rows that a crash leaves: those that were logged.
    pub fn durable(&self) -> BTreeMap<RowKey, RowValue> {
        self.0
            .iter()
            .filter(|(key, _)| !key.is_volatile())
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }
}

/// Whoever has to come to another generation or epoch of a group is counted once, with why: no more, no less.
fn rebalances_have_causes(before: &Rows, drafted: &Drafted) {
    let forms =
        |row: Option<&RowValue>| row.and_then(RebalanceRow::of).is_some_and(|row| row.joining.is_some());
    let epoch =
        |row: Option<&RowValue>| row.and_then(ConsumerGroupRow::of).map(|row| (row.epoch, row.members));
    let formed = |id: &GroupId| {
        drafted
            .events
            .iter()
            .any(|event| matches!(event, Event::GenerationFormed { group, .. } if group == id))
    };
    // Whose classic group becomes one of the other protocol stays where it is.
    let upgraded = |id: &GroupId| {
        drafted.events.iter().find_map(|event| match event {
            Event::GroupUpgraded { group, epoch, .. } if group == id => Some((*epoch, 0)),
            _ => None,
        })
    };
    let mut begun: Vec<&GroupId> = Vec::new();
    for (key, row) in &drafted.changes {
        let (before, after) = (before.0.get(key), row.as_ref());
        match key {
            RowKey::Rebalance(id) if !forms(before) && (forms(after) || formed(id)) => begun.push(id),
            RowKey::ConsumerGroup(id) => {
                let before = epoch(before).or_else(|| upgraded(id)).unwrap_or_default();
                let after = epoch(after).unwrap_or_default();
                begun.extend((after.0 > before.0 && after.1 > 0).then_some(id));
            }
            _ => {}
        }
    }
    let mut counted: Vec<&GroupId> = drafted.rebalances.iter().map(|(group, _)| group).collect();
    begun.sort();
    counted.sort();
    assert_eq!(counted, begun, "{:?} of {:?}", drafted.rebalances, drafted.events);
}

/// What somebody who watches a world is told.
pub(crate) enum Happened<'a> {
    /// A command was decided on these rows.
    Decided(&'a dyn View, &'a Command, &'a Decided),
    /// Volatile rows were lost.
    Restarted,
    /// A row was put where no event has brought it.
    Moved(RowKey),
}

pub(crate) type Watch = Box<dyn FnMut(&Happened<'_>)>;

pub struct World {
    pub(crate) watch: Option<Watch>,
    pub rows: Rows,
    pub now: Now,
    /// Every event, with the served time at which it was decided.
    pub log: Vec<(ServedTime, Event)>,
    pub topic: TopicId,
    /// Replies to requests that waited, in the order in which they were decided.
    pub answered: Vec<(RequestId, Reply)>,
    /// Why groups rebalanced, in the order in which it was decided.
    pub rebalances: Vec<(GroupId, RebalanceCause)>,
}

impl World {
    /// A cluster with one topic of `partitions` partitions.
    pub fn new(partitions: u32) -> World {
        let topic = TopicId(Uuid::from_u128(7));
        let now = Now { served: ServedTime(1), wall: Timestamp(1_000) };
        let (log, answered, rebalances) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = World { watch: None, rows: Rows::default(), now, log, topic, answered, rebalances };
        world.ask(Command::FormCluster { id: Uuid::from_u128(1) });
        let name = TopicName::new("t").unwrap();
        let new = NewTopic { id: topic, name, partitions, config: TopicConfig::new() };
        assert_eq!(world.ask(Command::CreateTopic { topic: new, validate_only: false }), Reply::Done(Ok(())));
        world
    }

    /// Asks what is answered at once.
    pub fn ask(&mut self, command: Command) -> Reply {
        self.ask_waiting(command).expect("an answer at once")
    }

    /// Asks what is answered at once: the answer, and the events that the command states.
    pub fn stated(&mut self, command: Command) -> (Reply, Vec<Event>) {
        let logged = self.log.len();
        let reply = self.ask(command);
        (reply, self.log[logged..].iter().map(|(_, event)| event.clone()).collect())
    }

    /// Asks what may have to wait for its answer.
    #[expect(clippy::needless_pass_by_value, reason = "commands are made where they are asked")]
    pub fn ask_waiting(&mut self, command: Command) -> Option<Reply> {
        let decided = decide(&self.rows, self.now, &command).expect("all rows are known");
        if let Some(watch) = &mut self.watch {
            watch(&Happened::Decided(&self.rows, &command, &decided));
        }
        rebalances_have_causes(&self.rows, &decided.drafted);
        let Decided { reply, mut drafted } = decided;
        self.answered.append(&mut drafted.answered);
        self.rebalances.append(&mut drafted.rebalances);
        let events = self.rows.take(drafted);
        self.log.extend(events.into_iter().map(|event| (self.now.served, event)));
        reply
    }

    pub fn pass(&mut self, duration: Duration) {
        self.now.served = self.now.served.plus(duration);
    }

    /// What is left after a crash, made anew from the events alone.
    pub fn replayed(&self) -> Rows {
        let mut rows = Rows::default();
        for (at, event) in &self.log {
            let drafted = {
                let mut draft = Draft::new(&rows, *at);
                evolve(&mut draft, *at, event).unwrap();
                draft.finish()
            };
            rows.take(drafted);
        }
        rows.0.retain(|key, _| !key.is_volatile());
        rows
    }

    /// Asks for everything whose time has come, as the shard does.
    pub fn fire_timers(&mut self) {
        let due = |(key, row): (&RowKey, &RowValue)| match (key, row) {
            (RowKey::Deadline(timer), RowValue::Deadline(row)) if row.deadline <= self.now.served => {
                Some((row.deadline, timer.clone()))
            }
            _ => None,
        };
        let mut due: Vec<(ServedTime, Timer)> = self.rows.0.iter().filter_map(due).collect();
        due.sort();
        for (_, timer) in due {
            self.ask(Command::Expire { timer });
        }
    }

    /// A restart: volatile rows are lost.
    pub fn restart(&mut self) {
        self.rows = self.replayed();
        if let Some(watch) = &mut self.watch {
            watch(&Happened::Restarted);
        }
    }

    pub fn partition(&self, index: i32) -> PartitionId {
        PartitionId::new(self.topic, PartitionIndex(index))
    }

    pub fn partition_row(&self, index: i32) -> &PartitionRow {
        self.rows.get::<PartitionRow>(&self.partition(index)).unwrap()
    }

    pub fn init(&mut self, id: Option<&str>, current: Option<Identity>) -> Result<Identity, Refusal> {
        self.init_over(id, current, 1)
    }

    pub fn init_over(
        &mut self,
        id: Option<&str>,
        current: Option<Identity>,
        connection: u64,
    ) -> Result<Identity, Refusal> {
        let transactional_id = id.map(|id| (TransactionalId::new(id).unwrap(), ConnectionId(connection)));
        match self.ask(Command::InitProducerId(InitProducerId {
            transactional_id,
            timeout: TIMEOUT,
            current,
            two_phase: TwoPhase::Unaware,
        })) {
            Reply::Identity(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    pub fn produce(
        &mut self,
        protocol: Protocol,
        id: Option<&str>,
        identity: Identity,
        index: i32,
        first: i32,
        records: u32,
    ) -> Result<Appended, Refusal> {
        self.produce_keyed(protocol, (id, identity), index, (first, records), &[])
            .map_err(|refused| refused.refusal)
    }

    /// A batch whose first records bear these keys.
    pub fn produce_keyed(
        &mut self,
        protocol: Protocol,
        (id, identity): (Option<&str>, Identity),
        index: i32,
        (first, records): (i32, u32),
        keys: &[&str],
    ) -> Result<Appended, NotAppended> {
        let batches = vec![self.batch((id, identity), index, (first, records), keys)];
        let transactional_id = id.and_then(TransactionalId::new);
        match self.ask(Command::Produce(Produce { transactional_id, protocol, batches })) {
            Reply::Produced(mut answers) => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// A batch of so many records, from this sequence on, of which the first bear these keys.
    pub fn batch(
        &self,
        (id, identity): (Option<&str>, Identity),
        index: i32,
        (first, records): (i32, u32),
        keys: &[&str],
    ) -> ProduceBatch {
        let producer = Some(BatchProducer {
            identity,
            first_sequence: Sequence::new(first).unwrap(),
            transactional: id.is_some(),
        });
        let producer = producer.filter(|producer| producer.identity.id != ProducerId::NONE);
        let (bytes, time) = (100 * records, Timestamp(5));
        let keys = (0..).zip(keys).map(|(record, key)| RecordKey { record, key: key_of(key) }).collect();
        let batch =
            BatchFacts { records, bytes, oldest_timestamp: time, max_timestamp: time, producer, keys };
        ProduceBatch { partition: self.partition(index), batch }
    }

    /// The last batches of a transaction, with its commit.
    pub fn produce_and_commit(
        &mut self,
        id: &str,
        identity: Identity,
        batches: Vec<ProduceBatch>,
    ) -> (Vec<Result<Appended, NotAppended>>, Option<Identity>) {
        let last = Produce { transactional_id: TransactionalId::new(id), protocol: Protocol::V2, batches };
        let producer = World::producer(id, identity, 1);
        match self.ask(Command::ProduceAndCommit(ProduceAndCommit { last, producer })) {
            Reply::ProducedAndCommitted(answers, holder) => (answers, holder),
            other => panic!("{other:?}"),
        }
    }

    pub fn producer(id: &str, identity: Identity, connection: u64) -> TransactionalProducer {
        TransactionalProducer {
            transactional_id: TransactionalId::new(id).unwrap(),
            identity,
            connection: ConnectionId(connection),
        }
    }

    pub fn enrol(&mut self, id: &str, identity: Identity, indexes: &[i32]) -> Vec<Result<(), Refusal>> {
        self.enrol_over(id, identity, indexes, 1)
    }

    pub fn enrol_over(
        &mut self,
        id: &str,
        identity: Identity,
        indexes: &[i32],
        connection: u64,
    ) -> Vec<Result<(), Refusal>> {
        let partitions = indexes.iter().map(|index| self.partition(*index)).collect();
        let producer = World::producer(id, identity, connection);
        match self.ask(Command::Enrol(Enrol { producer, partitions })) {
            Reply::Each(answers) => answers,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(
        &mut self,
        protocol: Protocol,
        id: &str,
        identity: Identity,
        outcome: Outcome,
    ) -> Result<Identity, Refusal> {
        self.end_over(protocol, id, identity, outcome, 1)
    }

    pub fn end_over(
        &mut self,
        protocol: Protocol,
        id: &str,
        identity: Identity,
        outcome: Outcome,
        connection: u64,
    ) -> Result<Identity, Refusal> {
        let producer = World::producer(id, identity, connection);
        match self.ask(Command::EndTxn(EndTxn { producer, outcome, protocol })) {
            Reply::Identity(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    pub fn stage(&mut self, id: &str, identity: Identity, offset: i64) -> Result<(), Refusal> {
        self.stage_over(id, identity, offset, 1)
    }

    pub fn stage_over(
        &mut self,
        id: &str,
        identity: Identity,
        offset: i64,
        connection: u64,
    ) -> Result<(), Refusal> {
        self.stage_by(Protocol::V2, World::producer(id, identity, connection), offset)
    }

    pub fn stage_by(
        &mut self,
        protocol: Protocol,
        producer: TransactionalProducer,
        offset: i64,
    ) -> Result<(), Refusal> {
        let offsets = vec![OffsetToCommit {
            partition: self.partition(0),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }];
        let member = GroupMember::nobody(GroupId::new("g"));
        let stage = StageOffsets { producer, protocol, member, offsets };
        match self.ask(Command::StageOffsets(stage)) {
            Reply::Each(mut answers) => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn committed_offset(&self) -> Option<Offset> {
        let key = GroupOffsetKey { group: GroupId::new("g"), partition: self.partition(0) };
        self.rows.get::<CommittedOffset>(&key).map(|committed| committed.offset)
    }

    pub fn expire(&mut self, id: &str) {
        self.ask(Command::Expire { timer: Timer::Transaction(TransactionalId::new(id).unwrap()) });
    }

    pub fn transaction(&self, id: &str) -> &TransactionRow {
        self.rows.get::<TransactionRow>(&TransactionalId::new(id).unwrap()).unwrap()
    }

    pub fn init_two_phase(&mut self, id: &str, current: Option<Identity>, two_phase: TwoPhase) -> Reply {
        let transactional_id = Some((TransactionalId::new(id).unwrap(), ConnectionId(1)));
        self.ask(Command::InitProducerId(InitProducerId {
            transactional_id,
            timeout: TIMEOUT,
            current,
            two_phase,
        }))
    }

    pub fn prepare(
        &mut self,
        id: &str,
        identity: Identity,
        timeout: Option<Duration>,
    ) -> Result<(), Refusal> {
        self.prepare_over(id, identity, timeout, 1)
    }

    pub fn prepare_over(
        &mut self,
        id: &str,
        identity: Identity,
        timeout: Option<Duration>,
        connection: u64,
    ) -> Result<(), Refusal> {
        let producer = World::producer(id, identity, connection);
        match self.ask(Command::PrepareTxn(PrepareTxn { producer, timeout })) {
            Reply::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    pub fn end_by_operator(
        &mut self,
        id: &str,
        number: Option<u64>,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let transactional_id = TransactionalId::new(id).unwrap();
        let (number, operator) = (number.map(TxnNumber), "User:ann".to_owned());
        match self.ask(Command::EndByOperator(EndByOperator { transactional_id, number, outcome, operator }))
        {
            Reply::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    /// Gives the topic a setting, as the row of one that was made with it.
    pub fn configure(&mut self, name: &str, value: &str) {
        if let Some(RowValue::Topic(row)) = self.rows.0.get_mut(&RowKey::Topic(self.topic)) {
            row.config.insert(name.to_owned(), value.to_owned());
        }
    }

    pub fn find_transaction(&self, id: &str) -> Option<&TransactionRow> {
        self.rows.get::<TransactionRow>(&TransactionalId::new(id).unwrap())
    }

    pub fn outcome(&self, id: &str, number: u64) -> Option<&OutcomeRow> {
        let transactional_id = TransactionalId::new(id).unwrap();
        self.rows.get::<OutcomeRow>(&OutcomeKey { transactional_id, number: TxnNumber(number) })
    }

    /// What the upkeep does: proposes everything that has a place in the order of idleness.
    pub fn expire_idle(&mut self, idle: Duration) {
        let mut keys: Vec<RowKey> = self.rows.0.keys().cloned().collect();
        keys.sort();
        for key in keys {
            match key {
                RowKey::IdleTransactionalId(key) => {
                    self.ask(Command::ExpireTransactionalId(ExpireTransactionalId { key, idle }));
                }
                RowKey::IdleProducer(key) => {
                    self.ask(Command::ExpireProducer(ExpireProducer { key, idle }));
                }
                _ => {}
            }
        }
    }

    /// The same of idempotency keys.
    pub fn forget_keys(&mut self) {
        let mut forget = ForgetKeys::default();
        for key in self.rows.0.keys() {
            match key {
                RowKey::KeyEnd(end) => forget.keys.push(end.key.clone()),
                RowKey::FreedKeysEnd(end) => forget.freed.push(end.transaction),
                _ => {}
            }
        }
        forget.keys.sort();
        self.ask(Command::ForgetKeys(forget));
    }

    /// Gives the topic a setting, by a decision.
    pub fn set(&mut self, name: &str, value: &str) {
        let change = ConfigChange::Some([(name.to_owned(), Some(value.to_owned()))].into());
        let configure = Command::ConfigureTopic { topic: self.topic, change, validate_only: false };
        assert_eq!(self.ask(configure), Reply::Done(Ok(())));
    }

    /// Puts the epoch of an id where a long life would have brought it.
    pub fn age(&mut self, id: &str, epoch: i16) {
        let key = RowKey::Transaction(TransactionalId::new(id).unwrap());
        if let Some(RowValue::Transaction(row)) = self.rows.0.get_mut(&key) {
            row.holder.epoch = ProducerEpoch(epoch);
        }
        if let Some(watch) = &mut self.watch {
            watch(&Happened::Moved(key));
        }
    }
}

/// A key of this text.
pub fn key_of(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap()
}
