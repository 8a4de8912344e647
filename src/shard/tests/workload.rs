//! A data directory with something of everything in it, in little space: the ground of the tests of damage, and of the
//! golden data directory.

use super::contents::Contents;
use super::space::copy;
use super::*;
use crate::shard::limits::CompactionLimits;
use std::path::PathBuf;
use std::time::Duration;

/// Segments and memtables of the smallest kind, so that all kinds of files are there. With `rest`, the upkeep has nothing
/// to do with the files.
pub(super) fn tiny(rest: bool) -> ShardLimits {
    let pause = if rest { Duration::from_secs(3600) } else { Duration::from_millis(2) };
    // A pass has room for a few keys.
    let compaction = CompactionLimits {
        check: pause,
        map_bytes: 24 * 24,
        turn_bytes: 4 << 10,
        share_percent: 99,
        ..CompactionLimits::default()
    };
    let space = SpaceLimits {
        rest: pause,
        move_rest: pause,
        compaction,
        snapshot_log_bytes: 48 << 10,
        snapshot_turn_bytes: 64 << 10,
        trim_entries: 50,
        reserve_bytes: 0,
        ..SpaceLimits::default()
    };
    let store = crate::store::StoreLimits { memtable_bytes: 8 << 10, ..Default::default() };
    ShardLimits {
        segment_bytes: 32 << 10,
        block_bytes: 8 << 10,
        recent_bytes: 0,
        checkpoint_bytes: 40 << 10,
        space,
        store,
        ..ShardLimits::default()
    }
}

pub(super) fn open_tiny(dir: &Path) -> Result<Running, StartError> {
    start(dir, Arc::new(RealDisk), &tiny(true))
}

/// Where test directories are: in memory if there is such a place, because every case syncs many files.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

pub(super) async fn offsets(running: &Running, group: &str, partition: PartitionId, offset: i64) {
    let member = GroupMember::nobody(GroupId::new(group));
    let offsets = vec![to_commit(partition, offset)];
    let reply = ask(running, Command::CommitOffsets { member, offsets }, vec![]).await;
    assert_eq!(reply, Reply::Each(vec![Ok(())]));
}

fn to_commit(partition: PartitionId, offset: i64) -> OffsetToCommit {
    OffsetToCommit {
        partition,
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(0),
        metadata: "read so far".to_owned(),
    }
}

pub(super) async fn stage(
    running: &Running,
    id: &str,
    identity: Identity,
    group: &str,
    partition: PartitionId,
    offset: i64,
) {
    let stage = StageOffsets {
        producer: TransactionalProducer {
            transactional_id: TransactionalId::new(id).unwrap(),
            identity,
            connection: CLIENT,
        },
        protocol: Protocol::V2,
        member: GroupMember::nobody(GroupId::new(group)),
        offsets: vec![to_commit(partition, offset)],
    };
    let reply = ask(running, Command::StageOffsets(stage), vec![]).await;
    assert_eq!(reply, Reply::Each(vec![Ok(())]));
}

/// A group of one static member, in its first generation.
pub(super) async fn join(running: &Running, group: &str) {
    let joiner = Member {
        instance: Some(InstanceId::new("one")),
        client_id: "reader".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(3600),
        rebalance_timeout: Duration::from_secs(3600),
        protocols: vec![MemberProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"topics") }],
        assignment: Bytes::new(),
    };
    let group = GroupId::new(group);
    let join = JoinGroup {
        request: RequestId(1),
        group: group.clone(),
        member: MemberId::new(""),
        fresh: MemberId::new("reader-1"),
        joiner,
        protocol_type: "consumer".to_owned(),
        requires_known_member: false,
        can_skip_assignment: true,
        initial_delay: Duration::ZERO,
        decision_bytes_max: 1 << 20,
        consumes: None,
    };
    let Reply::Joined(Ok(joined)) = ask(running, Command::JoinGroup(Box::new(join)), vec![]).await else {
        panic!("the group is joined")
    };
    let member = GroupMember {
        group,
        generation: joined.generation,
        member: joined.member.clone(),
        instance: Some(InstanceId::new("one")),
    };
    let assignments = vec![(joined.member, Bytes::from_static(b"all of it"))];
    let sync = SyncGroup { request: RequestId(2), member, protocol_type: None, protocol: None, assignments };
    let reply = ask(running, Command::SyncGroup(sync), vec![]).await;
    assert!(matches!(reply, Reply::Synced(Ok(_))), "{reply:?}");
}

const COMPACTED_KEYS: usize = 30;

/// A compacted topic, whose keys are written often: by nobody in particular, and in transactions of which some are aborted.
async fn write_compacted(running: &Running) -> PartitionId {
    let config = [
        (topic_settings::CLEANUP_POLICY, "compact"),
        (topic_settings::MIN_DIRTY_RATIO, "0"),
        (topic_settings::DELETE_RETENTION_MS, "0"),
    ];
    let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let topic = create_topic_with(running, "compacted", 1, config).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    let records = |round: usize| {
        (0..12).map(move |number| {
            let key = format!("key {}", (number * (round + 1) + round) % COMPACTED_KEYS);
            let value = !(number + round).is_multiple_of(7);
            (Some(key.into()), value.then(|| format!("{round} {number}").into()))
        })
    };
    let mut tx = init(running, Some("compacted")).await;
    for round in 0..30 {
        produce_batch(running, partition, None, batch_of(None, records(round))).await.unwrap();
        let transactional = batch_of(Some((tx, 0, true)), records(round + 1));
        produce_batch(running, partition, Some("compacted"), transactional).await.unwrap();
        let outcome = if round % 3 == 1 { Outcome::Abort } else { Outcome::Commit };
        tx = end(running, "compacted", tx, outcome).await.unwrap();
    }
    partition
}

/// Whether compaction has been as far as it goes.
fn is_compacted(running: &Running, partition: PartitionId) -> bool {
    let view = running.shard.view();
    let next = view.get::<PartitionRow>(&partition).unwrap().unwrap().next_offset;
    let last = view.index(partition, Offset(next.0 - 1)).next().unwrap().unwrap().1.base_offset;
    view.compaction(partition).unwrap().is_some_and(|row| row.cleaned_to == last)
}

/// The partitions that stay.
pub(super) async fn write_much(running: &Running) -> Vec<PartitionId> {
    let kept = create_topic(running, "kept", 2).await;
    let kept = [0, 1].map(|index| PartitionId::new(kept, PartitionIndex(index)));
    let short = PartitionId::new(create_topic(running, "short", 1).await, PartitionIndex(0));
    let mut tx = init(running, Some("tx")).await;
    let idempotent = [init(running, None).await, init(running, None).await];
    for round in 0..12 {
        for _ in 0..3 {
            produce(running, short, None, None, 120).await.unwrap();
        }
        for (number, producer) in idempotent.iter().enumerate() {
            produce(running, kept[number], Some((*producer, round * 3, false)), None, 3).await.unwrap();
        }
        for partition in kept {
            produce(running, partition, Some((tx, 0, true)), Some("tx"), 5).await.unwrap();
        }
        stage(running, "tx", tx, "staged", kept[0], i64::from(round)).await;
        let outcome = if round % 4 == 3 { Outcome::Abort } else { Outcome::Commit };
        tx = end(running, "tx", tx, outcome).await.unwrap();
        offsets(running, "plain", kept[1], i64::from(round)).await;
    }
    join(running, "readers").await;
    let reply = ask(running, Command::DeleteTopic { topic: short.topic }, vec![]).await;
    assert_eq!(reply, Reply::Done(Ok(())));
    kept.to_vec()
}

fn files_with(dir: &Path, part: &str) -> usize {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name());
    files.filter(|name| name.to_str().unwrap().contains(part)).count()
}

/// After the space has been kept: more batches, a transaction that stays open, with records and offsets.
pub(super) async fn write_more(running: &Running, kept: &[PartitionId]) {
    let idempotent = init(running, None).await;
    for round in 0..10 {
        produce(running, kept[0], Some((idempotent, round * 40, false)), None, 40).await.unwrap();
    }
    let tx = init(running, Some("tx")).await;
    produce(running, kept[0], Some((tx, 0, true)), Some("tx"), 2).await.unwrap();
    end(running, "tx", tx, Outcome::Abort).await.unwrap();
    let open = init(running, Some("open")).await;
    produce(running, kept[1], Some((open, 0, true)), Some("open"), 4).await.unwrap();
    stage(running, "open", open, "staged", kept[1], 7).await;
}

/// Data directories of one shard at different moments, and what it served.
pub(super) struct Workload {
    _all: tempfile::TempDir,
    /// As it was a while before.
    pub(super) older: PathBuf,
    /// As a crash leaves it.
    pub(super) crashed: PathBuf,
    /// As an orderly stop leaves it.
    pub(super) clean: PathBuf,
    /// What it served at the end, and before its last block.
    pub(super) whole: Contents,
    pub(super) before_last: Contents,
    /// The file that the last block is in.
    pub(super) last_segment: PathBuf,
}

impl Workload {
    pub(super) async fn make() -> Workload {
        let all = scratch();
        let (dir, older, crashed) =
            (all.path().join("data"), all.path().join("older"), all.path().join("crashed"));
        std::fs::create_dir_all(&dir).unwrap();
        let running = start(&dir, Arc::new(RealDisk), &tiny(false)).unwrap();
        let compacted = write_compacted(&running).await;
        let kept = write_much(&running).await;
        until("space is kept", || {
            files_with(&dir.join("log"), "moved-") > 0
                && files_with(&dir.join("snapshots"), ".rows") > 0
                && is_compacted(&running, compacted)
        })
        .await;
        running.stop().await.unwrap();
        copy(&dir, &older);
        let running = open_tiny(&dir).unwrap();
        write_more(&running, &kept).await;
        let before_last = Contents::of(&running).await;
        produce(&running, kept[0], None, None, 3).await.unwrap();
        let whole = Contents::of(&running).await;
        copy(&dir, &crashed);
        running.stop().await.unwrap();
        let segments = super::space::segment_files(&crashed);
        let in_use = |path: &&PathBuf| {
            // A spare that waits to be used has the header of an earlier segment.
            let number = path.file_stem().unwrap().to_str().unwrap().parse::<u64>();
            let content = std::fs::read(path).unwrap();
            content.starts_with(b"semelSEG")
                && number.is_ok_and(|number| content[40..48] == number.to_le_bytes())
        };
        let last_segment = segments.iter().rfind(in_use).unwrap();
        let last_segment = last_segment.strip_prefix(&crashed).unwrap().to_path_buf();
        Workload { _all: all, older, crashed, clean: dir, whole, before_last, last_segment }
    }
}
