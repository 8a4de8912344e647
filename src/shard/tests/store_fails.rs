//! The row store fails while the shard serves: by a panic, or in work that it does by itself. The shard ends and says so, and
//! the next start makes the rows anew; it never waits for ever.

use super::contents::Contents;
use super::*;
use crate::shard::applier::{Applier, Apply, Signal, apply_layers};
use crate::store::{Applied, Database, LayerBuilder, StoreError, StoreLimits, suspect};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_panic_of_the_store_ends_the_shard_and_makes_the_rows_suspect() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows");
    let store = Database::open(&rows, StoreLimits::default()).unwrap();
    let (signals, mut told) = tokio::sync::mpsc::unbounded_channel();
    // A key that fjall does not take, and panics at; no request can make one.
    let mut layer = LayerBuilder::default();
    layer.put(&RowKey::Group(GroupId::new(&"g".repeat(70_000))), None);
    let layer = layer.finish(BlockNumber(1));
    let (send, layers) = std::sync::mpsc::channel();
    send.send(Apply { layer, applied: Applied::NOTHING, log_bytes: 1 }).unwrap();
    let hurry = AtomicBool::new(true);
    apply_layers(Applier::new(store, limits(), Arc::default()), &layers, &signals, &hurry);
    let signal = told.recv().await.unwrap();
    let Signal::Failed(reason @ StopReason::Store(StoreError::Panic { .. })) = signal else {
        panic!("{signal:?}")
    };
    assert!(reason.to_string().contains(rows.to_str().unwrap()), "{reason}");
    assert!(reason.advice().contains("anew"), "{}", reason.advice());
    assert!(suspect(&rows).exists(), "the next start is to make them anew");
}

/// Row tables that are soon full, and nobody who reads them but the store itself.
fn small_tables() -> ShardLimits {
    let mut limits = limits();
    limits.store.memtable_bytes = 64 << 10;
    limits.space.rest = Duration::from_secs(3600);
    limits.space.reserve_bytes = 0;
    limits
}

/// The files of the row store's tables.
fn tables(dir: &Path) -> Vec<PathBuf> {
    let mut tables = Vec::new();
    for keyspace in ["1", "2"] {
        let files = std::fs::read_dir(dir.join("rows/keyspaces").join(keyspace).join("tables")).unwrap();
        tables
            .extend(files.map(|file| file.unwrap().path()).filter(|path| path.metadata().unwrap().len() > 0));
    }
    tables
}

const PARTITIONS: usize = 16;

/// Produces to all partitions in turn and counts what was acknowledged, until `done`; false if the shard ends before.
async fn fill(
    running: &Running,
    topic: TopicId,
    acknowledged: &mut [i64; PARTITIONS],
    mut done: impl FnMut() -> bool,
) -> bool {
    let deadline = Instant::now() + DEADLINE;
    for index in (0..PARTITIONS).cycle() {
        let partition = PartitionId::new(topic, PartitionIndex(i32::try_from(index).unwrap()));
        for _ in 0..16 {
            let (facts, bytes) = batch(None, 1);
            let batches = vec![ProduceBatch { partition, batch: facts }];
            let produce = Produce { transactional_id: None, protocol: Protocol::V2, batches };
            let asked = running.shard.ask(&Origin::new(CLIENT), Command::Produce(produce), vec![bytes]).await;
            let Ok(answer) = asked else { return false };
            if answer.await.is_err() {
                return false;
            }
            acknowledged[index] += 1;
        }
        assert!(Instant::now() < deadline, "nothing has come of it");
        if done() {
            return true;
        }
    }
    unreachable!("the partitions are without end")
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_the_store_finds_by_itself_ends_the_shard_and_the_rows_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path(), Arc::new(RealDisk), &small_tables()).unwrap();
    let topic = create_topic(&running, "payments", PARTITIONS.try_into().unwrap()).await;
    let mut acknowledged = [0; PARTITIONS];
    assert!(fill(&running, topic, &mut acknowledged, || tables(dir.path()).len() >= 2).await);
    for table in tables(dir.path()) {
        // Rows are at a table's beginning. What is merged later is read from there again.
        let file = OpenOptions::new().read(true).write(true).open(table).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 200).unwrap();
        file.write_all_at(&[!byte[0]], 200).unwrap();
    }
    assert!(!fill(&running, topic, &mut acknowledged, || false).await, "it ends when it merges tables");
    let reason = tokio::time::timeout(DEADLINE, running.failed()).await.expect("it ends");
    assert!(matches!(&reason, StopReason::Store(error) if error.is_damage()), "{reason}");
    assert!(suspect(&dir.path().join("rows")).exists());
    drop(running);

    let running = start(dir.path(), Arc::new(RealDisk), &small_tables()).unwrap();
    assert!(dir.path().join("rows.damaged").exists(), "the rows are new ones");
    let contents = Contents::of(&running).await;
    assert!(contents.broken.is_empty() && contents.lines.values().all(Result::is_ok), "{contents:?}");
    for (index, acknowledged) in (0..).zip(acknowledged) {
        let row = partition_row(&running, PartitionId::new(topic, PartitionIndex(index)));
        assert!(row.next_offset >= Offset(acknowledged), "{row:?}: {acknowledged} were acknowledged");
    }
    running.stop().await.unwrap();
}
