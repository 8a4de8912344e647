//! Makes a data directory that a broker of years could have: by asking a shard what clients would ask a broker, so that every
//! row and every block of it is one that the broker's own code has written.

use crate::core::{
    BatchFacts, BatchProducer, Command, EndTxn, Identity, InitProducerId, NewTopic, Outcome, Produce,
    ProduceBatch, Protocol, Reply, TopicConfig, TransactionalProducer, TwoPhase,
};
use crate::shard::{Answer, Origin, Shard};
use crate::types::{
    ConnectionId, PartitionId, PartitionIndex, Sequence, SequenceRange, Timestamp, TopicId, TopicName,
    TransactionalId,
};
use crate::wire::batch::{BatchBuilder, BatchProducer as Whose, Compression, ProducerBatch, Record};
use bytes::Bytes;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Size {
    /// Partitions, of one topic.
    pub(in super::super) partitions: u32,
    /// Producer ids without a transactional id, each with one batch in one partition.
    pub(in super::super) producers: u64,
    /// Transactional ids, each with one committed transaction.
    pub(in super::super) transactional_ids: u64,
    /// Transactional ids with an open transaction, beside them.
    pub(in super::super) open_transactions: u64,
    /// Bytes of batches in the log, beside those of the ids.
    pub(in super::super) log_bytes: u64,
    /// Bytes of each of those batches.
    pub(in super::super) batch_bytes: u64,
}

/// What has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Made {
    pub(super) size: Size,
    /// The first of the producer ids; the others follow without gaps. The n-th has written one record to partition n modulo
    /// the number of partitions.
    pub(super) first_producer: i64,
}

/// The topic.
pub(super) const TOPIC: &str = "start";
/// Commands that are asked at once, each over a connection of its own, so that none waits for another's rows.
const AT_ONCE: u64 = 256;
/// Commands that are asked before it is waited for others: less than half of what the shard's queue takes, so that nobody
/// waits for room in it, a place at a time.
const IN_QUEUE: usize = 500;
/// Batches of one command.
const BATCHES_PER_COMMAND: u64 = 64;
/// How long transactions that stay open may do so.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is asked: a command, and the batches that go with it.
pub(in super::super) type Asked = (Command, Vec<Bytes>);

/// Asks a shard, many commands at a time.
pub(in super::super) struct Asking<'s> {
    shard: &'s Shard,
    origins: Vec<Origin>,
    topic: TopicId,
    now: Timestamp,
}

/// Makes it; `told` hears how much is done, of as many steps as [`Size::steps`] says.
pub(super) async fn make(shard: &Shard, size: Size, mut told: impl FnMut(u64)) -> Result<Made, String> {
    let asking = Asking::begin(shard, size.partitions).await?;
    asking.fill(&size, &mut told).await?;
    let first_producer = asking.producers(&size, &mut told).await?;
    asking.transactions(&size, &mut told).await?;
    Ok(Made { size, first_producer })
}

impl Size {
    /// Commands that it takes, about.
    pub(super) fn steps(&self) -> u64 {
        let filled = self.log_bytes.div_ceil(self.batch_bytes.max(1));
        filled + self.producers + self.transactional_ids + self.open_transactions
    }

    /// Where the n-th of something goes.
    pub(super) fn partition_of(&self, number: u64) -> PartitionIndex {
        PartitionIndex(i32::try_from(number % u64::from(self.partitions.max(1))).unwrap_or(0))
    }

    /// Which of the producers has this turn, and in which lap. In a lap each has one, and between two that lie beside each
    /// other in the store there are many others: so the rows of each turn lie somewhere else. Turns in a row are of
    /// partitions in a row.
    pub(super) fn scattered(&self, turn: u64) -> (u64, u64) {
        let partitions = u64::from(self.partitions.max(1));
        let in_each = self.producers / partitions;
        if in_each == 0 {
            let all = self.producers.max(1);
            return (turn % all, turn / all);
        }
        let (partition, round) = (turn % partitions, turn / partitions);
        (partition + partitions * (round % in_each * stride(in_each) % in_each), round / in_each)
    }
}

/// A step that comes to each of `count` things before it comes to the first again, about three fifths of them long.
fn stride(count: u64) -> u64 {
    let divisor = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (count * 3 / 5..).find(|step| divisor(*step, count) == 1).unwrap_or(1)
}

impl<'s> Asking<'s> {
    /// Creates the topic.
    pub(in super::super) async fn begin(shard: &'s Shard, partitions: u32) -> Result<Asking<'s>, String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let asking = Asking {
            shard,
            origins: (1..=AT_ONCE).map(|number| Origin::new(ConnectionId(number))).collect(),
            topic: TopicId(uuid::Uuid::new_v4()),
            now: Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        };
        asking.create_topic(partitions).await?;
        Ok(asking)
    }

    /// Asks all of it, and waits until all of it is durable. The shard has the next ones already while it is waited for the
    /// ones before.
    pub(in super::super) async fn all(&self, commands: Vec<Asked>) -> Result<Vec<Reply>, String> {
        let mut replies = Vec::with_capacity(commands.len());
        let mut commands = commands.into_iter().zip(self.origins.iter().cycle());
        let mut before = Vec::new();
        loop {
            let mut asked = Vec::new();
            for ((command, batches), origin) in commands.by_ref().take(IN_QUEUE) {
                let answer = self.shard.ask(origin, command, batches).await;
                asked.push(answer.map_err(|error| error.to_string())?);
            }
            let is_last = asked.is_empty();
            replies.extend(answered(std::mem::replace(&mut before, asked)).await?);
            if is_last {
                break;
            }
        }
        match replies.iter().find(|reply| !is_good(reply)) {
            Some(refused) => Err(format!("{refused:?}")),
            None => Ok(replies),
        }
    }

    async fn create_topic(&self, partitions: u32) -> Result<(), String> {
        let name = TopicName::new(TOPIC).map_err(|error| error.to_string())?;
        let topic = NewTopic { id: self.topic, name, partitions, config: TopicConfig::new() };
        self.all(vec![(Command::CreateTopic { topic, validate_only: false }, Vec::new())]).await.map(drop)
    }

    /// The log, of large batches of zeroes.
    async fn fill(&self, size: &Size, told: &mut impl FnMut(u64)) -> Result<(), String> {
        let length = usize::try_from(size.batch_bytes).unwrap_or(usize::MAX);
        let large = batch(self.now, Bytes::from(vec![0; length]), None)?;
        let mut numbers = 0..size.log_bytes.div_ceil(size.batch_bytes.max(1));
        loop {
            let some = numbers.by_ref().take(32);
            let commands: Vec<Asked> = some
                .map(|number| self.produce(None, vec![(size.partition_of(number), large.clone())]))
                .collect();
            if commands.is_empty() {
                return Ok(());
            }
            let count = commands.len() as u64;
            self.all(commands).await?;
            told(count);
        }
    }

    /// Gives out producer ids, and lets each write a record. Returns the first.
    async fn producers(&self, size: &Size, told: &mut impl FnMut(u64)) -> Result<i64, String> {
        let (mut first, mut done) = (None, 0);
        let per_command = BATCHES_PER_COMMAND.min(size.partitions.into());
        while done < size.producers {
            let some = (size.producers - done).min(AT_ONCE * per_command);
            let init = || (Command::InitProducerId(init(None)), Vec::new());
            let replies = self.all((0..some).map(|_| init()).collect()).await?;
            // Who waits for room in a block may be overtaken by another connection.
            let mut identities: Vec<_> = replies.iter().map(identity).collect::<Result<_, _>>()?;
            identities.sort_unstable();
            let mut batches = Vec::new();
            for (identity, number) in identities.into_iter().zip(done..) {
                let expected =
                    *first.get_or_insert(identity.id.0) + i64::try_from(number).unwrap_or(i64::MAX);
                if identity.id.0 != expected {
                    return Err("producer ids are given out with gaps".to_owned());
                }
                let batch = batch(self.now, Bytes::from_static(b"one"), Some((identity, 0, false)))?;
                batches.push((size.partition_of(number), batch));
            }
            let step = usize::try_from(per_command).unwrap_or(1).max(1);
            let commands = batches.chunks(step).map(|some| self.produce(None, some.to_vec()));
            self.all(commands.collect()).await?;
            done += some;
            told(some);
        }
        Ok(first.unwrap_or(0))
    }

    /// Lets transactional ids come, each with a transaction: the last ones' stay open.
    pub(in super::super) async fn transactions(
        &self,
        size: &Size,
        told: &mut impl FnMut(u64),
    ) -> Result<(), String> {
        let (all, mut done) = (size.transactional_ids + size.open_transactions, 0);
        while done < all {
            let numbers = done..(done + AT_ONCE * 4).min(all);
            let ids: Vec<TransactionalId> = numbers.clone().filter_map(transactional_id).collect();
            let connections = self.origins.iter().cycle().map(|origin| origin.connection);
            let inits = ids.iter().zip(connections.clone());
            let inits =
                inits.map(|(id, connection)| Command::InitProducerId(init(Some((id.clone(), connection)))));
            let replies = self.all(inits.map(|command| (command, Vec::new())).collect()).await?;
            let holders: Vec<Identity> = replies.iter().map(identity).collect::<Result<_, _>>()?;
            let mut produces = Vec::new();
            for ((id, holder), number) in ids.iter().zip(&holders).zip(numbers.clone()) {
                let batch = batch(self.now, Bytes::from_static(b"one"), Some((*holder, 0, true)))?;
                produces.push(self.produce(Some(id), vec![(size.partition_of(number), batch)]));
            }
            self.all(produces).await?;
            let ending = ids.iter().zip(&holders).zip(connections).zip(numbers.clone());
            let ends = ending.filter(|(_, number)| *number < size.transactional_ids).map(|(one, _)| {
                let ((id, identity), connection) = one;
                (commit(id, *identity, connection), Vec::new())
            });
            self.all(ends.collect()).await?;
            told(numbers.end - done);
            done = numbers.end;
        }
        Ok(())
    }

    /// Lets a transactional id have a holder.
    pub(in super::super) async fn hold(&self, id: &TransactionalId) -> Result<Identity, String> {
        let init = init(Some((id.clone(), ConnectionId(1))));
        let replies = self.all(vec![(Command::InitProducerId(init), Vec::new())]).await?;
        replies.first().map_or_else(|| Err("no answer".to_owned()), identity)
    }

    /// Commits the transaction of an id. Returns who holds the id from then on.
    pub(in super::super) async fn commit(
        &self,
        id: &TransactionalId,
        holder: Identity,
    ) -> Result<Identity, String> {
        let end = commit(id, holder, ConnectionId(1));
        let replies = self.all(vec![(end, Vec::new())]).await?;
        replies.first().map_or_else(|| Err("no answer".to_owned()), identity)
    }

    /// One record for a partition, in a transaction of `id`.
    pub(in super::super) fn one(
        &self,
        id: &TransactionalId,
        holder: Identity,
        partition: PartitionIndex,
    ) -> Result<Asked, String> {
        let batch = batch(self.now, Bytes::from_static(b"one"), Some((holder, 0, true)))?;
        Ok(self.produce(Some(id), vec![(partition, batch)]))
    }

    fn produce(
        &self,
        id: Option<&TransactionalId>,
        batches: Vec<(PartitionIndex, (BatchFacts, Bytes))>,
    ) -> Asked {
        let (batches, bytes) = batches
            .into_iter()
            .map(|(index, (batch, bytes))| {
                (ProduceBatch { partition: PartitionId::new(self.topic, index), batch }, bytes)
            })
            .unzip();
        let produce = Produce { transactional_id: id.cloned(), protocol: Protocol::V2, batches };
        (Command::Produce(produce), bytes)
    }
}

/// The replies. It is waited for the last one first: the others have mostly come by then, and wake nobody.
async fn answered(mut answers: Vec<Answer>) -> Result<Vec<Reply>, String> {
    let mut replies = Vec::with_capacity(answers.len());
    while let Some(answer) = answers.pop() {
        replies.push(answer.await.map_err(|error| error.to_string())?);
    }
    replies.reverse();
    Ok(replies)
}

fn is_good(reply: &Reply) -> bool {
    match reply {
        Reply::Done(done) => done.is_ok(),
        Reply::Identity(identity) => identity.is_ok(),
        Reply::Produced(batches) => batches.iter().all(Result::is_ok),
        _ => false,
    }
}

fn identity(reply: &Reply) -> Result<Identity, String> {
    match reply {
        Reply::Identity(Ok(identity)) => Ok(*identity),
        other => Err(format!("{other:?}")),
    }
}

/// The n-th transactional id.
fn transactional_id(number: u64) -> Option<TransactionalId> {
    TransactionalId::new(&format!("payments-{number}"))
}

fn init(transactional_id: Option<(TransactionalId, ConnectionId)>) -> InitProducerId {
    InitProducerId { transactional_id, timeout: LONG, current: None, two_phase: TwoPhase::Unaware }
}

fn commit(id: &TransactionalId, identity: Identity, connection: ConnectionId) -> Command {
    let producer = TransactionalProducer { transactional_id: id.clone(), identity, connection };
    Command::EndTxn(EndTxn { producer, outcome: Outcome::Commit, protocol: Protocol::V2 })
}

/// Whose a batch is, which sequence it begins with, and whether it is in a transaction.
type Producer = (Identity, i32, bool);

/// A batch of one record.
pub(super) fn batch(
    now: Timestamp,
    value: Bytes,
    whose: Option<Producer>,
) -> Result<(BatchFacts, Bytes), String> {
    let mut builder = BatchBuilder::new(value.len() + 128);
    let record = Record { key: None, value: Some(value), headers: Vec::new() };
    builder.append(now, &record).map_err(|error| error.to_string())?;
    let sequence = |number| Sequence::new(number).unwrap_or(Sequence::FIRST);
    let wire = whose.map_or(Whose::Anonymous, |(Identity { id, epoch }, first, transactional)| {
        let batch = ProducerBatch { id, epoch, sequences: SequenceRange::starting_at(sequence(first), 1) };
        if transactional { Whose::Transactional(batch) } else { Whose::Idempotent(batch) }
    });
    let bytes = builder.build(Compression::None, wire).map_err(|error| error.to_string())?;
    let facts = BatchFacts {
        records: 1,
        bytes: u32::try_from(bytes.len()).map_err(|error| error.to_string())?,
        oldest_timestamp: now,
        max_timestamp: now,
        producer: whose.map(|(identity, first, transactional)| BatchProducer {
            identity,
            first_sequence: sequence(first),
            transactional,
        }),
        keys: Vec::new(),
    };
    Ok((facts, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::RealDisk;
    use crate::shard::{Running, ShardLimits, SpaceLimits, StartError, start};
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    /// Row tables that are soon full, so that there are many; and nobody who reads beside the start.
    fn limits() -> ShardLimits {
        let space =
            SpaceLimits { rest: Duration::from_secs(3600), reserve_bytes: 0, ..SpaceLimits::default() };
        let mut limits = ShardLimits { segment_bytes: 64 << 20, space, ..ShardLimits::default() };
        limits.store.memtable_bytes = 1 << 20;
        limits
    }

    fn open(dir: &Path) -> Result<Running, StartError> {
        start(dir, Arc::new(RealDisk), &limits())
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    /// Rows read by a start after a stop in order; and by one that has to make up for the same few blocks, which speak of
    /// producers that are not in memory.
    async fn rows_read_by_starts(ids: u64) -> [u64; 2] {
        let dir = tempfile::tempdir().unwrap();
        let size = Size {
            partitions: 200,
            producers: ids,
            transactional_ids: ids / 5,
            open_transactions: 10,
            log_bytes: 2_000_000,
            batch_bytes: 100_000,
        };
        let running = open(dir.path()).unwrap();
        let mut steps = 0;
        let made = make(&running.shard, size, |more| steps += more).await.unwrap();
        assert_eq!(steps, size.steps());
        running.stop().await.unwrap();

        let running = open(dir.path()).unwrap();
        let clean = running.shard.metrics().rows_read();
        let transactions = running.shard.view().transactions().count() as u64;
        assert_eq!(transactions, size.transactional_ids + size.open_transactions);
        running.stop().await.unwrap();
        copy(&dir.path().join("rows"), &dir.path().join("rows.before"));

        let running = open(dir.path()).unwrap();
        let asking = Asking {
            shard: &running.shard,
            origins: vec![Origin::new(ConnectionId(1))],
            topic: running.shard.view().topics().next().unwrap().unwrap().0,
            now: Timestamp(1_000),
        };
        let producer = |number: u64| {
            let id = crate::types::ProducerId(made.first_producer + i64::try_from(number).unwrap());
            let identity = Identity { id, epoch: crate::types::ProducerEpoch(0) };
            let batch = batch(asking.now, Bytes::from_static(b"two"), Some((identity, 1, false))).unwrap();
            asking.produce(None, vec![(size.partition_of(number), batch)])
        };
        for number in 0..100 {
            asking.all(vec![producer(number)]).await.unwrap();
        }
        running.stop().await.unwrap();
        fs::remove_dir_all(dir.path().join("rows")).unwrap();
        fs::rename(dir.path().join("rows.before"), dir.path().join("rows")).unwrap();
        fs::remove_file(dir.path().join("log/clean")).unwrap();

        let running = open(dir.path()).unwrap();
        let behind = running.shard.metrics().rows_read();
        running.stop().await.unwrap();
        assert!(behind > clean + 100, "each of the producers was read: {behind}, {clean}");
        [clean, behind]
    }

    #[test]
    fn each_producer_has_a_turn_in_each_lap() {
        for (partitions, producers) in [(1, 1), (7, 3), (4, 1_000), (10, 1_009), (3, 30)] {
            let size = Size {
                partitions,
                producers,
                transactional_ids: 0,
                open_transactions: 0,
                log_bytes: 0,
                batch_bytes: 1,
            };
            let lap = (producers / u64::from(partitions) * u64::from(partitions))
                .max(1)
                .max(if producers < partitions.into() { producers } else { 0 });
            for first in [0, lap, 5 * lap] {
                let turns: std::collections::BTreeSet<_> =
                    (first..first + lap).map(|turn| size.scattered(turn)).collect();
                let expected = (0..lap).map(|number| (number, first / lap)).collect();
                assert_eq!(turns, expected, "{partitions} partitions, {producers} producers");
            }
            let in_a_row: std::collections::BTreeSet<_> = (lap / 2..)
                .map(|turn| size.scattered(turn).0)
                .map(|number| size.partition_of(number))
                .take(partitions.min(u32::try_from(lap).unwrap()) as usize)
                .collect();
            assert_eq!(in_a_row.len() as u64, u64::from(partitions).min(lap));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_start_reads_as_many_rows_however_many_ids_there_are() {
        let few = rows_read_by_starts(500).await;
        let many = rows_read_by_starts(20_000).await;
        for (few, many) in few.into_iter().zip(many) {
            // Segments have a row each.
            assert!(many <= few + 4, "{few} rows with 500 ids, {many} with 20,000");
        }
    }
}
