//! The shard as a whole, on a real disk in a temporary directory: decide, make durable, show, come back after a crash.

mod cases;
mod compaction;
mod contents;
mod damage;
mod golden;
mod history;
mod mutants;
mod power;
mod space;
mod store_fails;
pub(crate) mod traces;
mod workload;

use super::*;
use crate::core::*;
use crate::log::RealDisk;
use crate::types::*;
use crate::wire::batch::{BatchBuilder, BatchProducer as WireProducer, Compression, ProducerBatch, Record};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const CLIENT: ConnectionId = ConnectionId(1);

fn limits() -> ShardLimits {
    ShardLimits { segment_bytes: 1 << 20, block_bytes: 1 << 18, ..ShardLimits::default() }
}

fn open(dir: &Path) -> Running {
    start(dir, Arc::new(RealDisk), &limits()).unwrap()
}

pub(crate) async fn ask(running: &Running, command: Command, batches: Vec<Bytes>) -> Reply {
    running.shard.ask(&Origin::new(CLIENT), command, batches).await.unwrap().await.unwrap()
}

pub(crate) async fn create_topic(running: &Running, name: &str, partitions: u32) -> TopicId {
    create_topic_with(running, name, partitions, TopicConfig::new()).await
}

async fn create_topic_with(running: &Running, name: &str, partitions: u32, config: TopicConfig) -> TopicId {
    let id = TopicId(Uuid::new_v4());
    let topic = NewTopic { id, name: TopicName::new(name).unwrap(), partitions, config };
    let reply = ask(running, Command::CreateTopic { topic, validate_only: false }, vec![]).await;
    assert_eq!(reply, Reply::Done(Ok(())));
    id
}

/// A batch of `records` records as a producer would send it, and what the state machine is told of it.
fn batch(producer: Option<(Identity, i32, bool)>, records: u32) -> (BatchFacts, Bytes) {
    let value = |number| Some(format!("value {number}").into());
    batch_of(producer, (0..records).map(|number| (None, value(number))))
}

/// The same of records with these keys and values.
fn batch_of(
    producer: Option<(Identity, i32, bool)>,
    of: impl Iterator<Item = (Option<Bytes>, Option<Bytes>)>,
) -> (BatchFacts, Bytes) {
    let mut builder = BatchBuilder::new(1024);
    let mut records = 0;
    for (key, value) in of {
        builder.append(Timestamp(1000), &Record { key, value, headers: vec![] }).unwrap();
        records += 1;
    }
    let sequence = |first| SequenceRange::starting_at(Sequence::new(first).unwrap(), records);
    let wire = match producer {
        None => WireProducer::Anonymous,
        Some((Identity { id, epoch }, first, transactional)) => {
            let batch = ProducerBatch { id, epoch, sequences: sequence(first) };
            if transactional { WireProducer::Transactional(batch) } else { WireProducer::Idempotent(batch) }
        }
    };
    let producer = producer.map(|(identity, first, transactional)| BatchProducer {
        identity,
        first_sequence: Sequence::new(first).unwrap(),
        transactional,
    });
    let bytes = builder.build(Compression::None, wire).unwrap();
    let facts = BatchFacts {
        records,
        bytes: u32::try_from(bytes.len()).unwrap(),
        oldest_timestamp: Timestamp(1000),
        max_timestamp: Timestamp(1000),
        producer,
        keys: Vec::new(),
    };
    (facts, bytes)
}

pub(crate) async fn produce(
    running: &Running,
    partition: PartitionId,
    producer: Option<(Identity, i32, bool)>,
    transactional_id: Option<&str>,
    records: u32,
) -> Result<Appended, Refusal> {
    produce_batch(running, partition, transactional_id, batch(producer, records)).await
}

async fn produce_batch(
    running: &Running,
    partition: PartitionId,
    transactional_id: Option<&str>,
    (facts, bytes): (BatchFacts, Bytes),
) -> Result<Appended, Refusal> {
    let produce = Produce {
        transactional_id: transactional_id.and_then(TransactionalId::new),
        protocol: Protocol::V2,
        batches: vec![ProduceBatch { partition, batch: facts }],
    };
    match ask(running, Command::Produce(produce), vec![bytes]).await {
        Reply::Produced(mut answers) => answers.remove(0).map_err(|refused| refused.refusal),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn init(running: &Running, id: Option<&str>) -> Identity {
    let init = InitProducerId {
        transactional_id: id.and_then(TransactionalId::new).map(|id| (id, CLIENT)),
        timeout: std::time::Duration::from_secs(60),
        current: None,
        two_phase: TwoPhase::Unaware,
    };
    match ask(running, Command::InitProducerId(init), vec![]).await {
        Reply::Identity(identity) => identity.unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn end(
    running: &Running,
    id: &str,
    identity: Identity,
    outcome: Outcome,
) -> Result<Identity, Refusal> {
    let producer = TransactionalProducer {
        transactional_id: TransactionalId::new(id).unwrap(),
        identity,
        connection: CLIENT,
    };
    match ask(running, Command::EndTxn(EndTxn { producer, outcome, protocol: Protocol::V2 }), vec![]).await {
        Reply::Identity(identity) => identity,
        other => panic!("{other:?}"),
    }
}

fn partition_row(running: &Running, partition: PartitionId) -> PartitionRow {
    running.shard.view().get::<PartitionRow>(&partition).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_ids_and_producers_are_forgotten_by_the_shard_itself_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let topic = create_topic(&running, "payments", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    let (idle, busy) = (init(&running, Some("idle")).await, init(&running, Some("busy")).await);
    produce(&running, partition, Some((idle, 0, true)), Some("idle"), 1).await.unwrap();
    end(&running, "idle", idle, Outcome::Commit).await.unwrap();
    produce(&running, partition, Some((busy, 0, true)), Some("busy"), 1).await.unwrap();
    running.stop().await.unwrap();

    let at_once = std::time::Duration::ZERO;
    let limits =
        ShardLimits { transactional_id_expiration: at_once, producer_id_expiration: at_once, ..limits() };
    let running = start(dir.path(), Arc::new(RealDisk), &limits).unwrap();
    let known = |running: &Running| {
        let view = running.shard.view();
        let ids: Vec<_> = view.transactions().map(|row| row.unwrap().0.as_str().to_owned()).collect();
        let producers: Vec<_> = view.producers(partition).map(|row| row.unwrap().0).collect();
        (ids, producers)
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let left = (vec!["busy".to_owned()], vec![busy.id]);
    while known(&running) != left {
        assert!(std::time::Instant::now() < deadline, "{:?}", known(&running));
        tokio::task::yield_now().await;
    }
    assert!(end(&running, "busy", busy, Outcome::Commit).await.is_ok(), "what is open is never forgotten");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart_and_duplicates_are_still_known() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let topic = create_topic(&running, "payments", 2).await;
    let partition = PartitionId::new(topic, PartitionIndex(1));
    let producer = init(&running, None).await;
    let first = produce(&running, partition, Some((producer, 0, false)), None, 3).await.unwrap();
    let second = produce(&running, partition, Some((producer, 3, false)), None, 2).await.unwrap();
    assert_eq!((first.base_offset, second.base_offset), (Offset(0), Offset(3)));
    let gap = produce(&running, partition, Some((producer, 6, false)), None, 1).await;
    assert_eq!(gap, Err(Refusal::OutOfOrderSequence));
    running.stop().await.unwrap();

    let running = open(dir.path());
    assert_eq!(partition_row(&running, partition).next_offset, Offset(5));
    let again = produce(&running, partition, Some((producer, 3, false)), None, 2).await.unwrap();
    assert_eq!((again.base_offset, again.duplicate), (Offset(3), true));
    assert!(init(&running, None).await.id > producer.id, "ids are never given out twice");
    let view = running.shard.view();
    let entries: Vec<_> = view.index(partition, Offset(4)).map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1, "offset 4 is in the second batch");
    let bytes = running.shard.read(&[entries[0].1.place]).await.pop().unwrap().unwrap();
    assert_eq!(bytes[..8], 3i64.to_be_bytes(), "the base offset is written into the batch");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_holds_the_last_stable_offset_back_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let topic = create_topic(&running, "ledger", 2).await;
    let [a, b] = [0, 1].map(|index| PartitionId::new(topic, PartitionIndex(index)));
    let producer = init(&running, Some("tx")).await;
    for partition in [a, b] {
        produce(&running, partition, Some((producer, 0, true)), Some("tx"), 2).await.unwrap();
    }
    produce(&running, a, None, None, 1).await.unwrap();
    let watch = running.shard.watch(UpTo::LastStableOffset, vec![a]);
    assert_eq!(partition_row(&running, a).last_stable_offset(), Offset(0));
    assert_eq!(partition_row(&running, a).next_offset, Offset(3));

    let next = end(&running, "tx", producer, Outcome::Abort).await.unwrap();
    watch.changed().await;
    assert_eq!(next, Identity { id: producer.id, epoch: ProducerEpoch(1) });
    assert_eq!(partition_row(&running, a).last_stable_offset(), Offset(4));
    assert_eq!(partition_row(&running, b).last_stable_offset(), Offset(3));
    let aborted = running.shard.view().next_aborted(a, producer.id, Offset(0)).unwrap();
    assert_eq!(aborted, Some((Offset(0), Offset(3))), "its first offset, and its marker's");

    let retried = end(&running, "tx", producer, Outcome::Abort).await;
    assert_eq!(retried, Ok(next), "an exact retry gets the same answer");
    let late = produce(&running, a, Some((producer, 2, true)), Some("tx"), 1).await;
    assert_eq!(late, Err(Refusal::StaleEpoch), "a late append is fenced");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_of_the_whole_log_makes_the_rows_that_were_lost() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let topic = create_topic(&running, "replayed", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    let producer = init(&running, Some("tx")).await;
    produce(&running, partition, Some((producer, 0, true)), Some("tx"), 4).await.unwrap();
    end(&running, "tx", producer, Outcome::Commit).await.unwrap();
    let before = partition_row(&running, partition);
    running.stop().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("rows")).unwrap();

    let running = open(dir.path());
    assert_eq!(partition_row(&running, partition), before);
    assert_eq!(running.shard.view().index(partition, Offset(0)).count(), 2, "a batch and a marker");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_lost_whole_do_not_come_back_out_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let topic = create_topic(&running, "lost", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    produce(&running, partition, None, None, 4).await.unwrap();
    running.stop().await.unwrap();
    // As a crash would leave it: then the log's last block is written again, in another segment.
    std::fs::remove_file(dir.path().join("log/clean")).unwrap();
    for keyspace in ["1", "2"] {
        std::fs::remove_dir_all(dir.path().join("rows/keyspaces").join(keyspace)).unwrap();
    }
    for batches in 2..5 {
        let running = open(dir.path());
        produce(&running, partition, None, None, 1).await.unwrap();
        let view = running.shard.view();
        let places: Vec<_> = view.index(partition, Offset(0)).map(|entry| entry.unwrap().1.place).collect();
        assert_eq!(running.shard.read(&places).await.iter().flatten().count(), batches);
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_that_do_not_fit_into_a_block_wait_for_the_next_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let topic = create_topic(&running, "large", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    // About 60 kB each: four of them fill a block.
    let (facts, bytes) = batch(None, 3_000);
    let mut answers = Vec::new();
    let origin = Origin::new(CLIENT);
    for _ in 0..50 {
        let batches = vec![ProduceBatch { partition, batch: facts.clone() }];
        let produce = Produce { transactional_id: None, protocol: Protocol::V2, batches };
        answers
            .push(running.shard.ask(&origin, Command::Produce(produce), vec![bytes.clone()]).await.unwrap());
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let Reply::Produced(appended) = answer.await.unwrap() else { panic!("another reply") };
        assert_eq!(appended[0].clone().unwrap().base_offset.0, i64::try_from(number).unwrap() * 3_000);
    }
    assert_eq!(running.shard.view().index(partition, Offset(0)).count(), 50);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_let_go_of_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let few = ShardLimits { resident_rows: 8, ..limits() };
    let running = start(dir.path(), Arc::new(RealDisk), &few).unwrap();
    let topic = create_topic(&running, "cold", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    let mut producers = Vec::new();
    for _ in 0..40 {
        let producer = init(&running, None).await;
        produce(&running, partition, Some((producer, 0, false)), None, 1).await.unwrap();
        producers.push(producer);
    }
    for (number, producer) in producers.into_iter().enumerate() {
        let again = produce(&running, partition, Some((producer, 0, false)), None, 1).await.unwrap();
        assert_eq!((again.base_offset.0, again.duplicate), (i64::try_from(number).unwrap(), true));
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_thread_that_panics_ends_the_shard() {
    let (signals, mut told) = tokio::sync::mpsc::unbounded_channel();
    let thread = start::spawn_beside("semel-rows", &signals, || panic!("fjall could not")).unwrap();
    assert!(thread.join().is_err(), "a stop in order waits for the thread, and hears of it too");
    let signal = told.recv().await.unwrap();
    assert!(matches!(signal, applier::Signal::Failed(StopReason::Panic)), "{signal:?}");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = open(dir.path());
    assert!(matches!(start(dir.path(), Arc::new(RealDisk), &limits()), Err(StartError::Lock(_))));
    runtime.block_on(running.stop()).unwrap();
}

/// Waits until `done` says so; what it waits for comes by itself.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
    assert!(in_time.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_deleted_topic_are_swept_and_stay_away() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    let [gone, kept] = [create_topic(&running, "gone", 1).await, create_topic(&running, "kept", 1).await];
    let [gone, kept] = [gone, kept].map(|topic| PartitionId::new(topic, PartitionIndex(0)));
    let producer = init(&running, Some("tx")).await;
    for partition in [gone, kept] {
        produce(&running, partition, Some((producer, 0, true)), Some("tx"), 2).await.unwrap();
    }
    end(&running, "tx", producer, Outcome::Abort).await.unwrap();
    ask(&running, Command::DeleteTopic { topic: gone.topic }, vec![]).await;
    let rows = |running: &Running, partition| {
        let view = running.shard.view();
        let aborted = view.next_aborted(partition, producer.id, Offset(0)).unwrap();
        (view.producers(partition).count(), aborted.is_some())
    };
    until("the rows are swept", || rows(&running, gone) == (0, false)).await;
    assert_eq!(rows(&running, kept), (1, true));
    running.stop().await.unwrap();

    let running = open(dir.path());
    assert_eq!(rows(&running, gone), (0, false));
    assert_eq!(rows(&running, kept), (1, true));
    running.stop().await.unwrap();
}

/// Waits until a partition's log start is `offset`.
async fn log_start_reaches(running: &Running, partition: PartitionId, offset: i64) {
    let deadline = std::time::Duration::from_secs(30);
    let reached = async {
        let watch = running.shard.watch(UpTo::HighWatermark, vec![partition]);
        while partition_row(running, partition).log_start < Offset(offset) {
            watch.changed().await;
        }
    };
    tokio::time::timeout(deadline, reached).await.expect("the log start moves in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_past_their_retention_expire_and_stay_so_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ShardLimits { retention_check: std::time::Duration::from_millis(5), ..limits() };
    let running = start(dir.path(), Arc::new(RealDisk), &limits).unwrap();
    let create = async |name: &str, settings: &[(&str, &str)]| {
        let id = TopicId(Uuid::new_v4());
        let config = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic { id, name: TopicName::new(name).unwrap(), partitions: 1, config };
        ask(&running, Command::CreateTopic { topic, validate_only: false }, vec![]).await;
        PartitionId::new(id, PartitionIndex(0))
    };
    let for_ever = create("for-ever", &[("retention.ms", "-1")]).await;
    let by_size = create("by-size", &[("retention.ms", "-1"), ("retention.bytes", "1000")]).await;
    let by_time = create("by-time", &[]).await;
    let open = create("open", &[]).await;
    let producer = init(&running, Some("x")).await;
    produce(&running, open, None, None, 1).await.unwrap();
    produce(&running, open, Some((producer, 0, true)), Some("x"), 2).await.unwrap();
    for partition in [for_ever, by_size, by_time] {
        for _ in 0..40 {
            produce(&running, partition, None, None, 2).await.unwrap();
        }
    }
    log_start_reaches(&running, by_time, 80).await;
    log_start_reaches(&running, open, 1).await;
    let length = partition_row(&running, by_size).totals.bytes / 40;
    let kept = 1000_u64.div_ceil(length);
    log_start_reaches(&running, by_size, i64::try_from(80 - 2 * kept).unwrap()).await;
    let row = partition_row(&running, by_size);
    assert!(row.totals.bytes - row.bytes_below_start >= 1000, "at least that much is kept");
    assert_eq!(partition_row(&running, open).log_start, Offset(1), "not above the last stable offset");
    assert_eq!(partition_row(&running, for_ever).log_start, Offset(0));
    running.stop().await.unwrap();
    let running = start(dir.path(), Arc::new(RealDisk), &self::limits()).unwrap();
    assert_eq!(partition_row(&running, by_size), row);
    assert_eq!(partition_row(&running, by_time).log_start, Offset(80));
    running.stop().await.unwrap();
}
