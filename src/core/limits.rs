//! The limits of the state machine. Each bounds a row or a decision, so that no client can grow either without end.

use std::time::Duration;

/// Partitions of one topic. Creating or deleting a topic writes a row for each, in one block.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;

/// Partitions of all topics together. Each costs a row; names and layouts are answered from memory.
pub const PARTITIONS_MAX: u32 = 200_000;

/// Partitions that one transaction may write to. Its end writes a marker to each, in one block: about 200 bytes each.
pub const PARTITIONS_PER_TRANSACTION_MAX: usize = 4_096;

/// Consumed offsets that one transaction may carry; its end moves each, in one block.
pub const OFFSETS_PER_TRANSACTION_MAX: usize = 16_384;

/// Groups whose offsets one transaction may carry.
pub const GROUPS_PER_TRANSACTION_MAX: usize = 256;

/// Transactions that may have records in one partition at the same time: whoever asks what is open there sees so many.
pub const OPEN_TRANSACTIONS_PER_PARTITION_MAX: usize = 4_096;

/// Of these, how many are in the partition's row, which is written anew with each first append and each marker.
pub const OPEN_TRANSACTIONS_PER_ROW_MAX: usize = 64;

/// Partitions of a transaction that are in its own row, which is written anew with each that is enrolled. Part of the rows'
/// format: whoever finds fewer looks for no others.
pub const PARTITIONS_PER_ROW_MAX: usize = 64;

/// [`OPEN_TRANSACTIONS_PER_ROW_MAX`]; tests can have small rows.
#[must_use]
pub fn open_transactions_per_row_max() -> usize {
    small_rows().unwrap_or(OPEN_TRANSACTIONS_PER_ROW_MAX)
}

/// [`PARTITIONS_PER_ROW_MAX`]; tests can have small rows.
#[must_use]
pub fn partitions_per_row_max() -> usize {
    small_rows().unwrap_or(PARTITIONS_PER_ROW_MAX)
}

/// Outcomes kept of each transactional id: a client that has lost an answer asks for its last one; more are for people.
pub const OUTCOMES_PER_ID_MAX: u64 = 16;

/// How exactly it is known since when something has been idle: its row in the order of idleness moves at most once in this
/// time, however busy it is.
pub const IDLE_SPAN: Duration = Duration::from_secs(1);

/// How far the wall clock may go another way than served time before retention distrusts it. NTP corrects a running clock
/// by far less; a clock that was set, or a suspended machine, shows as more.
pub const RETENTION_CLOCK_STEP_MAX: Duration = Duration::from_secs(10 * 60);

/// Producer ids reserved by one event. A restart skips what is left of the block: 2⁶³ ids are enough for that.
pub const PRODUCER_IDS_PER_RESERVATION: i64 = 1_000;

/// Producer ids that a restore skips at least. Those given out after the backup are far fewer: each costs a request.
pub const PRODUCER_IDS_SKIPPED: i64 = 1 << 32;

/// Producer ids from a restore on begin at its wall time in milliseconds times two to this: so those of two restores of one
/// backup differ, as long as no broker gives out more than a million a millisecond. They reach the end in the year 2248.
pub const PRODUCER_IDS_PER_MILLISECOND_BITS: u32 = 20;

/// Leader epochs of a partition that are remembered: one for each restore after which something was appended there.
pub const LEADER_EPOCHS_MAX: usize = 64;

/// Rows that one sweep may remove: a block and a fjall batch stay small beside those of clients.
pub const SWEPT_ROWS_MAX: usize = 1_000;

/// Idempotency keys of one batch: each is looked up and takes two rows. As many records of a hundred bytes fill a batch of
/// the default size.
pub const KEYS_PER_BATCH_MAX: usize = 10_000;

/// Idempotency keys, and freed transactions, that one decision forgets: it reads and removes two rows for each.
pub const KEYS_FORGOTTEN_MAX: usize = 1_000;

/// The longest group id, in bytes.
pub const GROUP_ID_BYTES_MAX: usize = 1_024;

/// Members of one group (Kafka's `group.max.size`). Its rows are rewritten with each generation.
pub const GROUP_MEMBERS_MAX: usize = 1_000;

/// Bytes that the members of one group say of themselves: a generation, assignments of the former included, is one decision,
/// and the smallest block that can be configured has 1 MiB.
pub const GROUP_METADATA_BYTES_MAX: usize = 512 << 10;

/// Assignment protocols that one member names: which of them all members share is looked for with each one that joins.
/// Clients know five at most.
pub const GROUP_PROTOCOLS_MAX: usize = 32;

/// Bytes that a leader assigns in all.
pub const GROUP_ASSIGNMENT_BYTES_MAX: usize = 384 << 10;

/// Bytes that one member of a group of the consumer protocol says of itself, names of topics included: its row is rewritten
/// with each change of what it holds.
pub const SUBSCRIPTION_BYTES_MAX: usize = 64 << 10;

/// Bytes that all members of such a group say of themselves: they are in memory while a target is made.
pub const SUBSCRIPTIONS_BYTES_MAX: usize = 4 << 20;

/// Partitions that such a group may be assigned; fewer where blocks are small ([`group_partitions_max`]).
pub const GROUP_PARTITIONS_MAX: usize = 20_000;

/// Bytes of a block for each partition of a group: one that is assigned is written in the target and in what its member
/// holds, at 20 bytes each, and as the topic that a pattern matches, at 16. As much again is for what members say and for
/// their ids.
const DECISION_BYTES_PER_PARTITION: usize = 128;

/// Partitions that a group may be assigned where a decision may take so many bytes.
#[must_use]
pub fn group_partitions_max(decision_bytes_max: usize) -> usize {
    GROUP_PARTITIONS_MAX.min(decision_bytes_max / DECISION_BYTES_PER_PARTITION)
}

/// What a block has of its own, and frames have of theirs, in a decision about a group: a few frames.
pub const DECISION_OVERHEAD_BYTES: usize = 8 << 10;

/// Regular expressions that the members of one group subscribe with: what each matches is looked for whenever topics come.
pub const GROUP_PATTERNS_MAX: usize = 100;

/// Bytes of these expressions: what they match is one decision together with a target.
pub const GROUP_PATTERNS_BYTES_MAX: usize = 64 << 10;

/// The longest member id or instance id, in bytes: with them a target still fits into a block. Clients draw ids of 36 bytes
/// or less; what the broker draws is cut to it.
pub const MEMBER_ID_BYTES_MAX: usize = 256;

/// Sessions of all groups together, pending members included. Each costs a row that is in memory for as long as it lasts.
pub const SESSIONS_MAX: u64 = 100_000;

/// Bytes of the ids that name these sessions: of groups and of members, both of which clients may make long. As many
/// sessions as there may be have 300 bytes each.
pub const SESSIONS_BYTES_MAX: usize = 30 << 20;

/// Bytes of all that waits in rebalances of all groups together: member ids that were given out, and what those who have
/// joined say of themselves. It is in memory alone. 50,000 members that subscribe to a few topics take a third of it.
pub const REBALANCES_BYTES_MAX: usize = 64 << 20;

/// The longest metadata text of a committed offset, in bytes (Kafka's `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;

#[cfg(not(test))]
const fn small_rows() -> Option<usize> {
    None
}

#[cfg(test)]
use small::small_rows;
#[cfg(test)]
pub(crate) use small::with_small_rows;

#[cfg(test)]
mod small {
    use std::cell::Cell;

    thread_local! {
        /// Of this thread alone: tests run side by side.
        static SMALL: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(super) fn small_rows() -> Option<usize> {
        SMALL.get()
    }

    /// Does `work` with rows that have room for so few: what lies beyond is reached by a handful of transactions.
    pub(crate) fn with_small_rows<T>(most: usize, work: impl FnOnce() -> T) -> T {
        let before = SMALL.replace(Some(most));
        let result = work();
        SMALL.set(before);
        result
    }
}
