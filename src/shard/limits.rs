//! The limits of a shard, in one place, each with its reason.

use crate::store::StoreLimits;
use std::path::PathBuf;
use std::time::Duration;

/// The limits of a shard.
#[derive(Clone, Debug)]
pub struct ShardLimits {
    /// Commands queued before those who ask have to wait. Enough for a block's worth of small requests.
    pub queue: usize,
    /// Bytes of a block, which is also the most that one decision may write. At most a quarter of a segment.
    pub block_bytes: u32,
    /// Bytes from which on a block is long. An open one is written at once, if no other is being written, and by the log's
    /// thread, so that what comes then is decided meanwhile; a shorter one waits until no more commands are at hand, and the
    /// loop may write it itself.
    pub long_block_bytes: u32,
    /// Bytes of a segment file.
    pub segment_bytes: u32,
    /// Bytes of recent blocks kept in memory for those who read the end of the log.
    pub recent_bytes: usize,
    /// Row changes that are durable in the log and not yet in the store: past it nothing is decided until the store has
    /// caught up, so that memory is bounded when fjall stalls.
    pub backlog_rows: usize,
    /// Rows kept in memory for decisions. One to which clients have added more than a kilobyte counts as several.
    pub resident_rows: usize,
    /// How often one command may need more rows before it is given up: more is a defect.
    pub rounds: u32,
    /// Bytes of log after which the store is made durable: what a restart reads again, at most, is about this much.
    pub checkpoint_bytes: u64,
    /// Row changes after which the store is made durable: small records cost a restart more per byte.
    pub checkpoint_rows: u64,
    /// Timers that are due and looked at in one turn of the loop; the rest wait for the next turn.
    pub expired_at_once: usize,
    /// Served time after which a transactional id that has nothing open and is not used is forgotten, with its outcomes
    /// (Kafka's `transactional.id.expiration.ms`).
    pub transactional_id_expiration: Duration,
    /// Served time after which a partition forgets a producer that has nothing open there and does not write (Kafka's
    /// `producer.id.expiration.ms`): from then on, what it wrote before is not recognised if it comes again.
    pub producer_id_expiration: Duration,
    /// How often records that are past their retention are looked for (Kafka's `log.retention.check.interval.ms`).
    pub retention_check: Duration,
    /// How long a stop waits for what is in flight.
    pub stop: Duration,
    /// How long the offsets of an empty group are kept, in served time (Kafka's `offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// Where each step is noted down, for those who check it against the specification; nowhere by default.
    pub trace: Option<PathBuf>,
    /// The row store's own limits.
    pub store: StoreLimits,
    /// How the log's space is kept.
    pub space: SpaceLimits,
    /// The directory of this broker's backups; without one, none are taken.
    pub backup_dir: Option<PathBuf>,
}

/// How the log's space is kept, and how much of the disk's time that may take.
#[derive(Clone, Debug)]
pub struct SpaceLimits {
    /// How long the duties that keep the space rest between two turns (those that only look, ten times as long): together
    /// with what is done in one turn it bounds what they take of the disk.
    pub rest: Duration,
    /// Bytes of log after which the rows are dumped anew: the log above the last snapshot is not freed.
    pub snapshot_log_bytes: u64,
    /// Log bytes (or dead bytes that wait for it) per byte of a snapshot, at least: so snapshots are at most a quarter of
    /// what is written besides.
    pub snapshot_share: u64,
    /// Bytes of a snapshot written in one turn.
    pub snapshot_turn_bytes: usize,
    /// Live bytes of a segment, in percent of its file, below which they are moved out of it: at 40, moving writes two
    /// bytes for three that it frees, and data take at most two and a half times their size.
    pub move_live_percent: u64,
    /// Bytes of segments looked through in one turn of moving: so few that no client waits for long behind a turn.
    pub move_turn_bytes: u64,
    /// How long moving rests between two turns if little is dead: at forty turns a second clients keep most of the disk.
    pub move_rest: Duration,
    /// Dead bytes that wait for what is live beside them to be moved, in segments: the nearer to it, the shorter moving
    /// rests, and from here on it does not rest. So what is dead does not grow with how fast clients write.
    pub move_debt_segments: u64,
    /// Segments that are moved into one file: a crash repeats the work of so many.
    pub move_segments: usize,
    /// Index entries that are looked at in the time in which a mebibyte of a segment is read: what is live in segments is
    /// found in the index or by reading them, whatever is less work.
    pub move_looks_per_mib: u64,
    /// Index entries removed at once: fjall's other writer waits for no longer than that.
    pub trim_entries: usize,
    /// Segments freed in one turn.
    pub free_segments: usize,
    /// How compacted topics are compacted.
    pub compaction: CompactionLimits,
    /// Bytes of the file system that are kept free: below it nothing is produced and no topic is made. It covers a segment
    /// prepared ahead, fjall's journal and its compaction, and a snapshot.
    pub reserve_bytes: u64,
}

impl Default for SpaceLimits {
    fn default() -> SpaceLimits {
        SpaceLimits {
            rest: Duration::from_millis(100),
            snapshot_log_bytes: 256 << 20,
            snapshot_share: 4,
            snapshot_turn_bytes: 2 << 20,
            move_live_percent: 40,
            move_turn_bytes: 1 << 20,
            move_rest: Duration::from_millis(25),
            move_debt_segments: 8,
            move_segments: 16,
            move_looks_per_mib: 1_000,
            trim_entries: 2_000,
            free_segments: 16,
            compaction: CompactionLimits::default(),
            reserve_bytes: 512 << 20,
        }
    }
}

/// How compacted topics are compacted, and how much memory and time of the disk that may take.
#[derive(Clone, Debug)]
pub struct CompactionLimits {
    /// How often partitions are looked for that are worth it (Kafka's `log.cleaner.backoff.ms`).
    pub check: Duration,
    /// Bytes of memory for the keys of one pass, 24 for each (Kafka's `log.cleaner.dedupe.buffer.size`): with more keys,
    /// a partition takes several passes. Taken only while a pass is made, and no more than the partition's records need.
    pub map_bytes: usize,
    /// Bytes of batches that one turn reads.
    pub turn_bytes: u64,
    /// Index entries that one turn looks at.
    pub turn_entries: usize,
    /// The share of the time that turns take, in percent; between them it rests.
    pub share_percent: u32,
}

impl Default for CompactionLimits {
    fn default() -> CompactionLimits {
        CompactionLimits {
            check: Duration::from_secs(15),
            map_bytes: 128 << 20,
            turn_bytes: 4 << 20,
            turn_entries: 4_096,
            share_percent: 50,
        }
    }
}

impl Default for ShardLimits {
    fn default() -> ShardLimits {
        ShardLimits {
            queue: 1024,
            block_bytes: 32 << 20,
            long_block_bytes: 128 << 10,
            segment_bytes: 128 << 20,
            recent_bytes: 64 << 20,
            backlog_rows: 200_000,
            resident_rows: 100_000,
            rounds: 16,
            checkpoint_bytes: 64 << 20,
            checkpoint_rows: 200_000,
            expired_at_once: 64,
            transactional_id_expiration: Duration::from_secs(7 * 24 * 3600),
            producer_id_expiration: Duration::from_secs(7 * 24 * 3600),
            retention_check: Duration::from_secs(300),
            stop: Duration::from_secs(10),
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            trace: None,
            store: StoreLimits::default(),
            space: SpaceLimits::default(),
            backup_dir: None,
        }
    }
}
