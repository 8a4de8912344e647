//! The life of the log's space: what is deleted is freed, what is live is moved, and what is lost is made anew.

use super::*;
use crate::log::{Disk, DiskFile, ReadError};
use crate::store::segments::tests::{Dump, dump};
use crate::store::{Database, Snapshots};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Segments of the smallest kind, and snapshots whenever they are worth anything.
fn small() -> ShardLimits {
    let space = SpaceLimits {
        rest: std::time::Duration::from_millis(2),
        move_rest: std::time::Duration::from_millis(2),
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

pub(super) fn segment_files(dir: &Path) -> Vec<PathBuf> {
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
        match running.shard.read(&[entry.place]).await.remove(0) {
            Ok(batch) => {
                let base = i64::from_be_bytes(batch[..8].try_into().unwrap());
                assert_eq!(base, entry.base_offset.0, "the batch is the one that was looked up");
                read.insert(base, batch);
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
async fn fill(running: &Running, [short, long]: [PartitionId; 2], rounds: usize) -> BTreeMap<i64, Bytes> {
    let mut producer = init(running, Some("tx")).await;
    for round in 0..rounds {
        for _ in 0..8 {
            produce(running, short, None, None, 300).await.unwrap();
        }
        produce(running, long, Some((producer, 0, true)), Some("tx"), 20).await.unwrap();
        let outcome = if round % 4 == 3 { Outcome::Abort } else { Outcome::Commit };
        producer = end(running, "tx", producer, outcome).await.unwrap();
    }
    let read = batches(running, long).await;
    assert_eq!(read.len(), 2 * rounds, "a batch and a marker each");
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
    space_comes_back(small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_does_where_the_segments_are_read_to_find_what_is_live() {
    let mut limits = small();
    limits.space.move_looks_per_mib = 0;
    space_comes_back(limits).await;
}

async fn space_comes_back(limits: ShardLimits) {
    let open_small = |dir: &Path| start(dir, Arc::new(RealDisk), &limits).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let running = open_small(dir.path());
    let [short, long] = topics(&running).await;
    let written = fill(&running, [short, long], 40).await;
    let before = log_bytes(dir.path());
    let rows = known(&running, long);
    assert_eq!(rows.2, 10, "every fourth transaction was aborted");
    ask(&running, Command::DeleteTopic { topic: short.topic }, vec![]).await;
    let live: usize = written.values().map(Bytes::len).sum();
    // What is left: what is live, the segments above the last snapshot, and the one prepared ahead.
    // Readers go on all the while.
    let reading = async {
        while log_bytes(dir.path()) >= live as u64 * 5 / 2 + (6 << 16) {
            assert_eq!(batches(&running, long).await, written);
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await;
    assert!(in_time.is_ok(), "the space comes back: {:?}", segment_files(dir.path()));
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
        let before = dump_rows(dir.path());
        spoil(dir.path());
        // Started with nothing to do, so that the rows stay as they are made.
        let mut idle = limits.clone();
        idle.space.rest = std::time::Duration::from_secs(3600);
        start(dir.path(), Arc::new(RealDisk), &idle).unwrap().stop().await.unwrap();
        assert!(dump_rows(dir.path()) == before, "the rows that were made anew are others");
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

/// What the store of a broker that has stopped holds.
fn dump_rows(dir: &Path) -> Dump {
    dump(&Database::open(&dir.join("rows"), ShardLimits::default().store).unwrap())
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
    fill(&running, partitions, 24).await;
    until("there is a snapshot", || {
        std::fs::read_dir(dir.path().join("snapshots"))
            .unwrap()
            .any(|f| f.unwrap().file_name().to_str().unwrap().ends_with(".rows"))
    })
    .await;
    running.stop().await.unwrap();
    let files = segment_files(dir.path());
    std::fs::remove_file(&files[1]).unwrap();
    for _ in 0..2 {
        let error = start(dir.path(), Arc::new(RealDisk), &small()).unwrap_err();
        assert!(matches!(error, StartError::Rebuild(RebuildError::Missing { .. })), "{error}");
    }
    assert!(dir.path().join("rows.damaged").exists(), "nothing was taken away");
}

/// As after the restore of a backup that ends with the block of its snapshot: no rows are there, and that the block is durable
/// only the snapshot says. When rows are to be made anew from the snapshot, the block is still where it has it.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_block_stays_where_the_newest_snapshot_has_it() {
    let (dir, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut limits = small();
    limits.space.snapshot_log_bytes = 1;
    limits.space.snapshot_share = 0;
    // All of the log stays, so that it is read from its beginning where there are no rows.
    limits.space.move_live_percent = 0;
    let running = start(dir.path(), Arc::new(RealDisk), &limits).unwrap();
    let partitions = topics(&running).await;
    let written = fill(&running, partitions, 8).await;
    let snapshots = Snapshots::open(Arc::new(RealDisk), dir.path().join("snapshots")).unwrap();
    // One that is being replaced cannot be opened: it is looked at again.
    let newest = || snapshots.newest().ok().flatten().map(|newest| newest.header.applied.checkpoint.block);
    until("a snapshot has the last block", || newest() == Some(running.shard.view().durable())).await;
    for part in ["log", "snapshots"] {
        copy(&dir.path().join(part), &restored.path().join(part));
    }
    running.stop().await.unwrap();

    // No later snapshot takes the place of this one.
    limits.space.snapshot_log_bytes = u64::MAX;
    for _ in 0..2 {
        let running = start(restored.path(), Arc::new(RealDisk), &limits).unwrap();
        assert_eq!(batches(&running, partitions[1]).await, written);
        running.stop().await.unwrap();
        damage_rows(restored.path());
    }
}

/// The system's disk, until a certain operation: from then on nothing works any more, as if the process had been killed.
#[derive(Debug)]
struct Killed {
    at: u64,
    operations: AtomicU64,
}

impl Killed {
    fn at(operation: u64) -> Arc<Killed> {
        Arc::new(Killed { at: operation, operations: AtomicU64::new(0) })
    }

    fn step(&self) -> io::Result<()> {
        let operation = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        if operation < self.at { Ok(()) } else { Err(io::Error::other("killed")) }
    }

    fn is_over(&self) -> bool {
        self.operations.load(Ordering::SeqCst) >= self.at
    }
}

#[derive(Debug)]
struct KilledFile(Arc<Killed>, Box<dyn DiskFile>);

/// All of its files share one fate.
#[derive(Clone, Debug)]
struct KilledDisk(Arc<Killed>);

impl Disk for KilledDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        self.0.step()?;
        Ok(Box::new(KilledFile(Arc::clone(&self.0), RealDisk.create(path, length)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(KilledFile(Arc::clone(&self.0), RealDisk.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.sync_dir(dir)
    }
    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for KilledFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.step()?;
        self.1.write_at(position, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.step()?;
        self.1.sync()
    }
    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.1.read_at(position, length, into)
    }
    fn length(&self) -> io::Result<u64> {
        self.1.length()
    }
    fn resize(&self, length: u64) -> io::Result<()> {
        self.0.step()?;
        self.1.resize(length)
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A data directory whose space has not been kept yet, and what is in it.
async fn unkept(dir: &Path) -> ([PartitionId; 2], BTreeMap<i64, Bytes>) {
    let mut limits = small();
    limits.space.snapshot_log_bytes = u64::MAX;
    let running = start(dir, Arc::new(RealDisk), &limits).unwrap();
    let partitions = topics(&running).await;
    let written = fill(&running, partitions, 24).await;
    running.stop().await.unwrap();
    (partitions, written)
}

/// Deletes what is much, and waits until its space is back or the disk is dead.
async fn keep_space(dir: &Path, disk: &Arc<Killed>, short: PartitionId, enough: u64) {
    let Ok(running) = start(dir, Arc::new(KilledDisk(Arc::clone(disk))), &small()) else {
        assert!(disk.is_over());
        return;
    };
    // No answer comes if the log has failed.
    let command = Command::DeleteTopic { topic: short.topic };
    if let Ok(answer) = running.shard.ask(&Origin::new(CLIENT), command, vec![]).await {
        let _ = answer.await;
    }
    let what = || format!("{} of {enough}: {:?}", log_bytes(dir), segment_files(dir));
    let waiting = async {
        while !disk.is_over() && log_bytes(dir) >= enough {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
    assert!(in_time.is_ok(), "{}", what());
    let stopped = running.stop().await;
    assert!(stopped.is_ok() || disk.is_over(), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_while_space_is_kept_nothing_is_lost() {
    let base = tempfile::tempdir().unwrap();
    let ([short, long], written) = unkept(base.path()).await;
    let live: usize = written.values().map(Bytes::len).sum();
    let enough = live as u64 * 5 / 2 + (6 << 16);
    let rehearsal = tempfile::tempdir().unwrap();
    copy(base.path(), rehearsal.path());
    let disk = Killed::at(u64::MAX);
    keep_space(rehearsal.path(), &disk, short, enough).await;
    let operations = disk.operations.load(Ordering::SeqCst);
    assert!(operations > 20, "{operations}");

    // Rows from before anything was freed point into segments that are gone: they are made anew.
    std::fs::remove_dir_all(rehearsal.path().join("rows")).unwrap();
    copy(&base.path().join("rows"), &rehearsal.path().join("rows"));
    let running = open_small(rehearsal.path());
    assert_eq!(batches(&running, long).await, written);
    assert!(rehearsal.path().join("rows.damaged").exists());
    running.stop().await.unwrap();

    // Steps that differ from run to run are met at one operation or another.
    let step = usize::try_from(operations / 16).unwrap().max(1);
    for operation in (1..=operations + 5).step_by(step) {
        let dir = tempfile::tempdir().unwrap();
        copy(base.path(), dir.path());
        keep_space(dir.path(), &Killed::at(operation), short, enough).await;
        let running = open_small(dir.path());
        assert_eq!(batches(&running, long).await, written, "killed at operation {operation}");
        ask(&running, Command::DeleteTopic { topic: short.topic }, vec![]).await;
        until("the space comes back", || log_bytes(dir.path()) < enough).await;
        assert_eq!(batches(&running, long).await, written, "killed at operation {operation}");
        running.stop().await.unwrap();
        assert_eq!(dump_rows(dir.path()).1.len(), written.len());
    }
}
