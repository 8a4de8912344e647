//! The limits of the broker, each with its reason. Those that people set are in [`BrokerConfig`](super::BrokerConfig).

use std::time::Duration;

/// Offsets of a group that one command forgets: a row each.
pub(super) const OFFSETS_FORGOTTEN_AT_ONCE: usize = 4_096;

/// Elements of any one list in a request, and partitions of one request in all. A topic or a cluster may have this many
/// partitions (`core::limits::PARTITIONS_MAX`), and a client may name each of them once.
pub(super) const LISTED_MAX: usize = 200_000;

/// Bytes of record batches in one command. A shard's block holds twice as much, and a decision is never split over
/// blocks; a larger request becomes several commands, in order.
pub(super) const COMMAND_BYTES_MAX: usize = 16 << 20;

/// Record batches in one command: each takes a few rows of one decision.
pub(super) const COMMAND_BATCHES_MAX: usize = 1_024;

/// Idempotency keys in one command, but for a single batch with more: each takes up to 300 bytes of its block, and two rows.
pub(super) const COMMAND_KEYS_MAX: usize = crate::core::limits::KEYS_PER_BATCH_MAX;

/// The largest `max.message.bytes`: a batch must fit into a command.
pub(super) const MESSAGE_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// Compressed batches of a request from this size on are checked off the async threads: expanding them may take longer
/// than other connections should wait.
pub(super) const INLINE_EXPANSION_BYTES_MAX: usize = 16 << 10;

/// Record bytes of one fetch answer (Kafka's `fetch.max.bytes`); the first batch is returned even if it alone is larger.
pub(super) const FETCH_ANSWER_BYTES_MAX: usize = 55 << 20;

/// How long a fetch may wait, whatever it asks for. Longer waits serve nobody: clients ask for half a second.
pub(super) const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// Index entries of a partition looked at before other tasks of the thread get their turn, and the deadline is looked at again; once
/// for each time that the answer's room is gone through.
pub(super) const FETCH_SLICE_ENTRIES: usize = 2_048;

/// How often a fetch starts again because what it was about to read has been deleted meanwhile. Each time the view is
/// newer, so twice is rare already.
pub(super) const FETCH_ATTEMPTS_MAX: usize = 4;

/// Places in long runs of what is left out that one connection remembers between two fetches.
pub(super) const REMEMBERED_SKIPS_MAX: usize = 1_024;

/// Partitions that stay watched between two fetches of one connection: with more, they are looked up each time.
pub(super) const WATCHED_OF_CONNECTION_MAX: usize = 4_096;

/// The same of all connections together, at about 250 bytes each.
pub(super) const WATCHED_MAX: usize = 200_000;

/// Fetch sessions at a time (Kafka's `max.incremental.fetch.session.cache.slots`).
pub(super) const FETCH_SESSIONS_MAX: usize = 1_000;

/// Partitions of all fetch sessions together, at about 150 bytes each.
pub(super) const FETCH_SESSION_PARTITIONS_MAX: usize = 500_000;

/// A fetch session is safe from others for this long (Kafka's `min.incremental.fetch.session.eviction.ms`).
pub(super) const FETCH_SESSION_EVICTION_AGE: Duration = Duration::from_secs(120);

/// Requests that look through many rows (all topics, all transactions, offsets by time) and run at the same time, each
/// on a thread of its own; others wait. More would only compete for the disk.
pub(super) const SCANS_MAX: usize = 4;

/// Answers of this size or more wait for the memory that there is for answers.
pub(super) const UNRESERVED_ANSWER_BYTES: usize = 64 << 10;

/// Partitions in one answer to DescribeTopicPartitions (Kafka's `max.request.partition.size.limit`).
pub(super) const DESCRIBED_PARTITIONS_MAX: usize = 2_000;

/// Bytes of a pattern that a client sends: longer than any transactional id or topic name that is served.
pub(super) const PATTERN_BYTES_MAX: usize = 4_096;

/// Bytes that such a pattern may take when compiled: a short one can ask for a large automaton.
pub(super) const PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;

/// The same for a pattern of topic names, whose characters have one byte: as many names as fit into a pattern fit into this.
/// A name of 250 bytes is then compared in a few milliseconds, whatever the pattern; an ordinary one takes microseconds.
pub(super) const TOPIC_PATTERN_COMPILED_BYTES_MAX: usize = 256 << 10;

/// Patterns that are compared with the topics' names at the same time: hostile ones keep no more than so many processors busy.
pub(super) const PATTERN_SCANS_MAX: usize = 1;

/// Patterns that are compared turn by turn; each keeps what it has matched so far, 16 bytes for a topic. Others wait.
pub(super) const PATTERNS_UNDERWAY_MAX: usize = 256;

/// How long a pattern is compared before the next one has its turn. All topics that a cluster usually has are compared with an
/// ordinary pattern in one turn.
pub(super) const PATTERN_TURN: Duration = Duration::from_millis(20);

/// Bytes of groups that one answer describes: what is asked for beyond that is refused by name, as the same group may be asked
/// for many times.
pub(super) const DESCRIBED_BYTES_MAX: usize = 32 << 20;

/// Bytes of the groups in one answer to ListGroups: some 200,000 with names of ordinary length. More are refused, as half a list
/// would be taken for the whole.
pub(super) const GROUPS_LISTED_BYTES_MAX: usize = 32 << 20;

/// Bytes of offsets in one answer, metadata included: twice as much as all partitions that there may be take without. Groups
/// beyond it are refused by name.
pub(super) const OFFSETS_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Groups that are asked for at the same time while one answer is made: each may have megabytes.
pub(super) const DESCRIBED_AT_ONCE: usize = 4;

/// Log lines about members that are refused because of a limit, at most one in this time: a client can cause any number.
pub(super) const REFUSAL_LINE_EVERY: Duration = Duration::from_secs(1);

/// Transactions, or producers of one partition, in one answer. What is beyond is left out, and the log says so.
pub(super) const DESCRIBED_MAX: usize = 100_000;

/// How often the patterns of a group are looked at for one heartbeat: members that come with new ones meanwhile make it look
/// again, and the next heartbeat comes soon.
pub(super) const RESOLUTIONS_MAX: usize = 4;
