//! The life of the log's space: what is deleted is freed, what is live is moved, and what is lost is made anew.

use super::*;
use crate::log::ReadError;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Segments of the smallest kind, and snapshots whenever they are worth anything.
fn small() -> ShardLimits {
    let space = SpaceLimits {
        snapshot_log_bytes: 64 << 10,
        snapshot_turn_bytes: 64 << 10,
        trim_entries: 50,
        reserve_bytes: 0,
        ..SpaceLimits::default()
    };
    ShardLimits { segment_bytes: 64 << 10, block_bytes: 16 << 10, space, ..ShardLimits::default() }
}

fn open_small(dir: &Path) -> Running {
    start(dir, Arc::new(RealDisk), &small()).unwrap()
}

/// Bytes that the log takes on the disk, spares not counted.
fn log_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log")).unwrap().map(Result::unwrap);
    let counts = |name: &str| name.ends_with(".log") && !name.starts_with("spare-");
    files
        .filter(|f| counts(f.file_name().to_str().unwrap()))
        .map(|f| f.metadata().map_or(0, |m| m.len()))
        .sum()
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("log")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    files.sort();
    files
}

/// All batches of a partition as a reader gets them: base offset → bytes. A reader whose place has gone looks again.
async fn batches(running: &Running, partition: PartitionId) -> BTreeMap<i64, Bytes> {
    let mut read = BTreeMap::new();
    let mut next = Offset::ZERO;
    let mut gone = 0;
    loop {
        let view = running.shard.view();
        let Some((last, entry)) = view.index(partition, next).next().transpose().unwrap() else {
            return read;
        };
        match running.shard.read(vec![entry.place]).await {
            Ok(batch) => {
                let base = i64::from_be_bytes(batch[0][..8].try_into().unwrap());
                assert_eq!(base, entry.base_offset.0, "the batch is the one that was looked up");
                read.insert(base, batch[0].clone());
                next = last.next();
            }
            Err(ReadError::Gone { .. }) => {
                gone += 1;
                assert!(gone < 1000, "a fresh view has places that hold");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two partitions whose batches lie side by side in the log: much of `short`, little of `long`, which is transactional now
/// and then. Returns what `long` holds.
async fn fill(running: &Running, [short, long]: [PartitionId; 2]) -> BTreeMap<i64, Bytes> {
    let mut producer = init(running, Some("tx")).await;
    for round in 0..40 {
        for _ in 0..8 {
            produce(running, short, None, None, 300).await.unwrap();
        }
        produce(running, long, Some((producer, 0, true)), Some("tx"), 20).await.unwrap();
        let outcome = if round % 4 == 3 { Outcome::Abort } else { Outcome::Commit };
        producer = end(running, "tx", producer, outcome).await.unwrap();
    }
    let read = batches(running, long).await;
    assert_eq!(read.len(), 80, "a batch and a marker each");
    read
}

async fn topics(running: &Running) -> [PartitionId; 2] {
    let mut partitions = Vec::new();
    for name in ["short", "long"] {
        partitions.push(PartitionId::new(create_topic(running, name, 1).await, PartitionIndex(0)));
    }
    partitions.try_into().unwrap()
}

/// What is known of a partition besides its batches.
fn known(running: &Running, partition: PartitionId) -> (PartitionRow, Vec<(ProducerId, ProducerRow)>, usize) {
    let view = running.shard.view();
    let row = view.get::<PartitionRow>(&partition).unwrap().unwrap();
    let producers: Vec<_> = view.producers(partition).map(Result::unwrap).collect();
    let (mut aborted, mut from) = (0, Offset::ZERO);
    while let Some((_, marker)) = view.next_aborted(partition, producers[0].0, from).unwrap() {
        aborted += 1;
        from = marker.next();
    }
    (row, producers, aborted)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_a_deleted_topic_comes_back_and_what_shared_its_segments_stays() {
    let dir = tempfile::tempdir().unwrap();
    let running = open_small(dir.path());
    let [short, long] = topics(&running).await;
    let written = fill(&running, [short, long]).await;
    let before = log_bytes(dir.path());
    let rows = known(&running, long);
    assert_eq!(rows.2, 10, "every fourth transaction was aborted");
    ask(&running, Command::DeleteTopic { topic: short.topic }, vec![]).await;
    let live: usize = written.values().map(Bytes::len).sum();
    // What is left: what is live, the segments above the last snapshot, and the one prepared ahead.
    until("the space comes back", || log_bytes(dir.path()) < live as u64 * 5 / 2 + (6 << 16)).await;
    assert!(before > 10 * (64 << 10), "there was something to give back: {before}");
    assert!(segment_files(dir.path()).iter().any(|f| f.to_str().unwrap().contains("moved-")));
    assert_eq!(batches(&running, long).await, written);
    running.stop().await.unwrap();

    let running = open_small(dir.path());
    assert_eq!(batches(&running, long).await, written);
    assert_eq!(known(&running, long), rows);
    running.stop().await.unwrap();

    // The rows are lost, or damaged: they are made anew, and nothing is missing.
    let mut expected = written;
    for (spoil, first) in [(remove_rows as fn(&Path), 0), (damage_rows, 1)] {
        spoil(dir.path());
        let running = open_small(dir.path());
        assert_eq!(batches(&running, long).await, expected);
        assert_eq!(known(&running, long).1[0], rows.1[0], "what is remembered of the producer");
        let idempotent = init(&running, None).await;
        produce(&running, long, Some((idempotent, first, false)), None, 1).await.unwrap();
        expected = batches(&running, long).await;
        running.stop().await.unwrap();
    }
    let running = open_small(dir.path());
    assert_eq!(batches(&running, long).await, expected);
    assert!(dir.path().join("rows.damaged").exists(), "what was there is kept");
    running.stop().await.unwrap();
}

fn remove_rows(dir: &Path) {
    std::fs::remove_dir_all(dir.join("rows")).unwrap();
}

fn damage_rows(dir: &Path) {
    for file in std::fs::read_dir(dir.join("rows")).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "jnl") {
            let length = std::fs::metadata(&file).unwrap().len();
            std::fs::write(file, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_whose_segment_is_gone_are_missed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let running = open_small(dir.path());
    let partitions = topics(&running).await;
    fill(&running, partitions).await;
    until("there is a snapshot", || {
        std::fs::read_dir(dir.path().join("snapshots"))
            .unwrap()
            .any(|f| f.unwrap().file_name().to_str().unwrap().ends_with(".rows"))
    })
    .await;
    running.stop().await.unwrap();
    let files = segment_files(dir.path());
    std::fs::remove_file(&files[1]).unwrap();
    let error = start(dir.path(), Arc::new(RealDisk), &small()).unwrap_err();
    assert!(matches!(error, StartError::Rebuild(RebuildError::Missing { .. })), "{error}");
    assert!(dir.path().join("rows").exists(), "nothing was taken away");
}
