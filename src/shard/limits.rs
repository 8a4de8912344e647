//! The limits of a shard, in one place, each with its reason.

use crate::store::StoreLimits;
use std::time::Duration;

/// The limits of a shard.
#[derive(Clone, Debug)]
pub struct ShardLimits {
    /// Commands queued before those who ask have to wait. Enough for a block's worth of small requests.
    pub queue: usize,
    /// Bytes of a block, which is also the most that one decision may write. At most a quarter of a segment.
    pub block_bytes: u32,
    /// Bytes of a segment file.
    pub segment_bytes: u32,
    /// Bytes of recent blocks kept in memory for those who read the end of the log.
    pub recent_bytes: usize,
    /// Row changes that are durable in the log and not yet in the store: past it nothing is decided until the store has
    /// caught up, so that memory is bounded when fjall stalls.
    pub backlog_rows: usize,
    /// Rows kept in memory for decisions.
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
    /// How long a stop waits for what is in flight.
    pub stop: Duration,
    /// The row store's own limits.
    pub store: StoreLimits,
}

impl Default for ShardLimits {
    fn default() -> ShardLimits {
        ShardLimits {
            queue: 1024,
            block_bytes: 32 << 20,
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
            stop: Duration::from_secs(10),
            store: StoreLimits::default(),
        }
    }
}
