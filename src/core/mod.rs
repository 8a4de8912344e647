//! The state machine: what semel decides, and what follows from a decision.
//!
//! Comes in: a [`Command`] (what somebody asks), the time, and a [`View`] of the rows. Goes out: [`Event`]s (facts that
//! have been decided), the row changes that follow from them, and a [`Reply`]. [`decide`] says which events a command
//! leads to, or which rows it still needs; [`evolve`] says how one event changes the rows, live and in recovery alike.
//! The rules, their names and their sources stand in `spec/transactions.md`; each rule is one action of `tla/`. In debug
//! builds and tests every decision is held against what must be true of each (`invariants`).
//!
//! This room must never do I/O, wait, read a clock, draw a random number, or know of the wire, the log or the store:
//! the same commands at the same times on the same rows give the same events, for ever.

mod commands;
mod decide;
mod draft;
mod events;
mod evolve;
#[cfg(any(test, debug_assertions))]
pub(crate) mod invariants;
pub mod limits;
pub(crate) mod mutant;
mod rows;
pub mod topic_settings;

#[cfg(test)]
pub(crate) mod tests;

pub use commands::{
    AnyGroup, ConsumerGroupDescription, ConsumerGroupStatus, ConsumerHeartbeat, ConsumerTold, ReadMember,
    ReadMembers, ResolvedPatterns, UnreadMember,
};
pub use commands::{
    Appended, BatchFacts, BatchProducer, Command, ConfigChange, EndByOperator, EndTxn, Enrol, ExpireProducer,
    ExpireRecords, ExpireTransactionalId, ForceAbort, ForgetKeys, InitProducerId, Kept, KeyConflict,
    NewTopic, NotAppended, Now, OffsetToCommit, PrepareTxn, Produce, ProduceAndCommit, ProduceBatch,
    Protocol, Refusal, Reply, StageOffsets, Sweep, TransactionalProducer, TwoPhase,
};
pub use commands::{
    Assignment, ConsumerMetadata, GroupDescription, GroupLimit, GroupMember, GroupStatus, JoinGroup, Joined,
    JoinedMember, LeavingMember, NamedPartitions, RebalanceCause, SyncGroup, Synced,
};
pub use decide::{Decided, GroupUse, clock_stepped, consumer_group_status, decide, may_expire};
pub use draft::{Changes, Draft, Drafted, Look, Need, View};
pub use events::{
    BatchAppended, Compacted, CompactedRange, Cut, CutReason, Enrolment, Event, KeysAccepted, MARKER_BYTES,
    MarkerWritten, ProducerAppend, RecordKey,
};
pub use evolve::evolve;
pub use rows::{
    AbortedKey, AbortedRow, ClusterRow, CommittedOffset, CoordinatorKey, CoordinatorKind, CoordinatorRow,
    DeadlineRow, EndReason, Ended, GroupOffsetKey, Identity, IdleProducerKey, IdleProducerRow, IdleSpan,
    IdleTransactionalIdKey, IdleTransactionalIdRow, LSO_BUDGET, MemberKey, NextProducerIdRow, Ongoing,
    OpenTransaction, OpenTransactionsRow, OperatorDecision, Outcome, OutcomeKey, OutcomeRow, PartitionRow,
    PendingOffsetKey, PendingOffsetRow, Prepared, ProducerIdsRow, ProducerKey, ProducerOwnerRow, ProducerRow,
    REMEMBERED_BATCHES, RememberedBatch, Row, RowKey, RowValue, Timer, TopicConfig, TopicNameRow, TopicRow,
    Totals, TransactionRow, TransactionState,
};
pub use rows::{
    Assignor, ConsumerGroupRow, ConsumerRow, ConsumersRow, Holding, PatternsRow, Speaks, Subscription,
    TopicsSeenRow, TopicsVersionRow,
};
pub use rows::{EnrolledKey, EnrolledRow, MoreEnrolledRow, OpenQueueRow, QueuedRow};
pub use rows::{
    FreedKeysEndKey, FreedKeysEndRow, FreedKeysRow, KeyEndKey, KeyEndRow, KeyHolderRow, KeyRow, KeyStanding,
    KeyTransaction, TopicKey,
};
pub use rows::{
    GroupRow, GroupState, InitialDelay, Joiner, Joining, Member, MemberProtocol, MembersRow, RebalanceRow,
    SessionsRow,
};
pub use rows::{LeaderEpochsRow, RestoredRow};
