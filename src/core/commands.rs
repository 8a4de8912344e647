//! The commands (what somebody asks) and the replies (what they are told). A command has been authorised and its records
//! checked before it comes here.

mod consumers;
mod groups;

pub use consumers::*;
pub use groups::*;

use super::events::{Cut, RecordKey};
use super::limits;
use super::rows::{
    AbortedKey, Identity, IdleProducerKey, IdleTransactionalIdKey, KeyTransaction, Outcome, ProducerKey,
    Timer, TopicConfig, TopicKey,
};
use crate::types::*;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// What time it is, for one block of decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Served time: deadlines.
    pub served: ServedTime,
    /// Wall time: timestamps.
    pub wall: Timestamp,
}

/// What somebody asks.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are what their names say; what a command does, its own line says"
)]
pub enum Command {
    /// Give the cluster its identity, unless it has one.
    FormCluster { id: Uuid },
    /// Create a topic; or only say whether it could be.
    CreateTopic { topic: NewTopic, validate_only: bool },
    /// Give a topic `partitions` partitions in all; or only say whether that could be.
    AddPartitions { topic: TopicId, partitions: u32, validate_only: bool },
    /// Delete a topic.
    DeleteTopic { topic: TopicId },
    /// Change a topic's settings; or only say whether that could be.
    ConfigureTopic { topic: TopicId, change: ConfigChange, validate_only: bool },
    /// Move a partition's log start forward, because somebody says so.
    DeleteRecords { partition: PartitionId, to: Cut },
    /// Move a partition's log start forward, if the topic's retention says so.
    ExpireRecords(ExpireRecords),
    /// Store batches.
    Produce(Produce),
    /// Store the last batches of a transaction, and commit it if all of them are stored.
    ProduceAndCommit(ProduceAndCommit),
    /// Give out a producer id.
    InitProducerId(InitProducerId),
    /// Enrol partitions in a transaction (version 1).
    Enrol(Enrol),
    /// Enrol a group's offsets in a transaction (version 1).
    EnrolGroup { producer: TransactionalProducer, group: GroupId },
    /// Stage offsets in a transaction.
    StageOffsets(StageOffsets),
    /// End a transaction.
    EndTxn(EndTxn),
    /// Prepare a transaction: its outcome is decided outside.
    PrepareTxn(PrepareTxn),
    /// Commit a group's offsets.
    CommitOffsets { member: GroupMember, offsets: Vec<OffsetToCommit> },
    /// Join a group.
    JoinGroup(Box<JoinGroup>),
    /// Hand in a generation's assignment, and get one's own.
    SyncGroup(SyncGroup),
    /// Keep a member's session.
    Heartbeat(GroupMember),
    /// Be a member of a group of the consumer protocol.
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    /// Take leave of a group.
    LeaveGroup { group: GroupId, members: Vec<LeavingMember> },
    /// Say where a group stands.
    DescribeGroup { group: GroupId },
    /// Delete a group that has no members. Its offsets are forgotten before.
    DeleteGroup { group: GroupId },
    /// Delete an empty group that nobody has used for so long.
    ExpireGroup { group: GroupId, retention: Duration },
    /// Forget those of a group's offsets that nobody has used for so long.
    ExpireOffsets { group: GroupId, partitions: Vec<PartitionId>, retention: Duration },
    /// Forget a group's offsets.
    ForgetOffsets { group: GroupId, partitions: Vec<PartitionId> },
    /// Abort the open transaction of a producer id because an operator says so.
    ForceAbort(ForceAbort),
    /// Forget idempotency keys that are over.
    ForgetKeys(ForgetKeys),
    /// Remove rows that speak of nothing any more: of deleted partitions, or of offsets below the log start.
    Sweep(Sweep),
    /// End the transaction of a transactional id because an operator says so.
    EndByOperator(EndByOperator),
    /// Forget a transactional id that has been idle for long enough.
    ExpireTransactionalId(ExpireTransactionalId),
    /// Forget what a partition remembers of a producer that has been idle for long enough.
    ExpireProducer(ExpireProducer),
    /// Take note that the log was restored from a backup; each restore once.
    RestoreLog { restore: Uuid },
    /// Do what a timer is for, if its deadline has passed.
    Expire { timer: Timer },
}

impl Command {
    /// The number of a request that a later decision may answer.
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Command::JoinGroup(join) => Some(join.request),
            Command::SyncGroup(sync) => Some(sync.request),
            _ => None,
        }
    }
}

/// Rows that may have become dead. Each is looked at again, as far as the rows tell: only what is dead goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sweep {
    /// What partitions remember of producers.
    pub producers: Vec<ProducerKey>,
    /// Aborted ranges.
    pub aborted: Vec<AbortedKey>,
    /// Aborted ranges of which compaction has left no record, which is known only where it was done.
    pub compacted: Vec<AbortedKey>,
}

/// Idempotency keys whose window may be over, and transactions whose freed keys may be. Each is looked at again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForgetKeys {
    /// Keys.
    pub keys: Vec<TopicKey>,
    /// Transactions that were aborted.
    pub freed: Vec<KeyTransaction>,
}

/// A topic to be created. Its id was drawn outside: the state machine draws nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTopic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions.
    pub partitions: u32,
    /// Its settings, checked.
    pub config: TopicConfig,
}

/// Records that somebody has found to be past their topic's retention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpireRecords {
    /// The partition.
    pub partition: PartitionId,
    /// What lies below it may go.
    pub to: Cut,
    /// The newest timestamp of what would go; none if that is not known, so that it can go for its bytes only.
    pub newest: Option<Timestamp>,
    /// What time it was found at.
    pub found: Now,
}

/// A change of a topic's settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigChange {
    /// These get these values, or, without a value, their defaults; the others stay.
    Some(BTreeMap<String, Option<String>>),
    /// All of them get their defaults but for these.
    All(TopicConfig),
}

/// The transaction protocol a request belongs to, by its version (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Enrolment is asked for; epochs stay as they are when a transaction ends.
    V1,
    /// An append or a staged offset enrols; each end raises the epoch.
    V2,
}

/// Who speaks for a transactional id, over which connection.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionalProducer {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// The identity claimed.
    pub identity: Identity,
    /// The connection the request came over.
    pub connection: ConnectionId,
}

/// A batch of records, as far as the state machine is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchFacts {
    /// How many records, at least 1.
    pub records: u32,
    /// How many bytes.
    pub bytes: u32,
    /// The oldest timestamp of its records that have one, or [`Timestamp::NONE`].
    pub oldest_timestamp: Timestamp,
    /// The newest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// Its producer, if it has an identity.
    pub producer: Option<BatchProducer>,
    /// The idempotency keys of its records, where the topic asks for them: at most
    /// [`KEYS_PER_BATCH_MAX`](super::limits::KEYS_PER_BATCH_MAX).
    pub keys: Vec<RecordKey>,
}

/// What a batch says of its producer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchProducer {
    /// Who.
    pub identity: Identity,
    /// The first record's sequence.
    pub first_sequence: Sequence,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
}

/// Batches to store, each on its own merits.
#[derive(Clone, Debug, PartialEq)]
pub struct Produce {
    /// The transactional id the request names.
    pub transactional_id: Option<TransactionalId>,
    /// Whether appends enrol.
    pub protocol: Protocol,
    /// The batches, in the order of the request.
    pub batches: Vec<ProduceBatch>,
}

/// The last batches of a transaction, and its commit.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceAndCommit {
    /// The batches; of version 2, the only one in which an identity has but one transaction.
    pub last: Produce,
    /// Who commits.
    pub producer: TransactionalProducer,
}

impl ProduceAndCommit {
    /// The commit, as a command of its own.
    #[must_use]
    pub fn end(&self) -> EndTxn {
        EndTxn { producer: self.producer.clone(), outcome: Outcome::Commit, protocol: Protocol::V2 }
    }
}

/// One batch to store.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceBatch {
    /// Where.
    pub partition: PartitionId,
    /// What.
    pub batch: BatchFacts,
}

/// A producer asks for an identity.
#[derive(Clone, Debug, PartialEq)]
pub struct InitProducerId {
    /// For which transactional id, over which connection; none for an idempotent producer.
    pub transactional_id: Option<(TransactionalId, ConnectionId)>,
    /// How long its transactions may stay open.
    pub timeout: Duration,
    /// The identity it has and wants to go on from (KIP-360).
    pub current: Option<Identity>,
    /// What becomes of a prepared transaction.
    pub two_phase: TwoPhase,
}

/// What a new holder of a transactional id does about a transaction that the last one has prepared (KIP-939).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwoPhase {
    /// It knows nothing of such things, and is refused.
    Unaware,
    /// It takes it over as it is.
    Keep,
    /// It aborts it.
    Abort,
}

/// A transaction is to be prepared.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareTxn {
    /// Who asks.
    pub producer: TransactionalProducer,
    /// After how long it is aborted, if that is not to wait for ever.
    pub timeout: Option<Duration>,
}

/// A new holder, and the prepared transaction that it has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The identity to go on with.
    pub holder: Identity,
    /// The identity under which the transaction ran.
    pub prepared: Identity,
}

/// Partitions to enrol in a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrol {
    /// Who asks.
    pub producer: TransactionalProducer,
    /// The partitions.
    pub partitions: Vec<PartitionId>,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetToCommit {
    /// The partition.
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
    /// The leader epoch of the record before it; −1 if not said.
    pub leader_epoch: LeaderEpoch,
    /// The client's own text.
    pub metadata: String,
}

/// Offsets to commit with a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct StageOffsets {
    /// Who asks.
    pub producer: TransactionalProducer,
    /// Whether staging enrols the group.
    pub protocol: Protocol,
    /// The group, and which of its members asks (KIP-447).
    pub member: GroupMember,
    /// The offsets.
    pub offsets: Vec<OffsetToCommit>,
}

/// A transaction is to end.
#[derive(Clone, Debug, PartialEq)]
pub struct EndTxn {
    /// Who asks.
    pub producer: TransactionalProducer,
    /// How.
    pub outcome: Outcome,
    /// Whether the end raises the epoch.
    pub protocol: Protocol,
}

/// An operator wants the transaction of a producer id aborted, of which some partitions are known.
#[derive(Clone, Debug, PartialEq)]
pub struct ForceAbort {
    /// Whose transaction, as its partitions know it.
    pub producer: Identity,
    /// Where it is to be open.
    pub partitions: Vec<PartitionId>,
    /// The operator's principal, for the record.
    pub operator: String,
}

/// An operator wants the transaction of a transactional id ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndByOperator {
    /// Whose.
    pub transactional_id: TransactionalId,
    /// Which, if it must be a particular one.
    pub number: Option<TxnNumber>,
    /// How. Only one that is prepared can be committed.
    pub outcome: Outcome,
    /// The operator's principal, for the record.
    pub operator: String,
}

/// A transactional id that was last heard of in `span`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpireTransactionalId {
    /// Who, and since when.
    pub key: IdleTransactionalIdKey,
    /// How long it must have been idle.
    pub idle: Duration,
}

/// A producer that was last heard of in a partition in `span`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpireProducer {
    /// Who, where, and since when.
    pub key: IdleProducerKey,
    /// How long it must have been idle.
    pub idle: Duration,
}

/// Where a batch is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its first record's offset.
    pub base_offset: Offset,
    /// The time its records got, or −1.
    pub append_time: Timestamp,
    /// The partition's first offset.
    pub log_start: Offset,
    /// Whether it had been stored before and was not stored again.
    pub duplicate: bool,
}

/// Why a batch is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAppended {
    /// The reason.
    pub refusal: Refusal,
    /// For [`Refusal::KeyAccepted`]: the records that are to blame, in their order.
    pub keys: Vec<KeyConflict>,
}

impl From<Refusal> for NotAppended {
    fn from(refusal: Refusal) -> NotAppended {
        NotAppended { refusal, keys: Vec::new() }
    }
}

/// A record whose idempotency key cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyConflict {
    /// The record's number in its batch.
    pub record: u32,
    /// Where the record is that bears the key; none: it is an earlier one of the same batch.
    pub accepted_at: Option<(PartitionIndex, Offset)>,
}

/// What a command's sender is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done, or refused.
    Done(Result<(), Refusal>),
    /// Per batch, in the order of the request.
    Produced(Vec<Result<Appended, NotAppended>>),
    /// The same, and with which identity the producer goes on if its transaction is committed.
    ProducedAndCommitted(Vec<Result<Appended, NotAppended>>, Option<Identity>),
    /// The identity to go on with.
    Identity(Result<Identity, Refusal>),
    /// The identity to go on with, and the prepared transaction that has been kept.
    Kept(Kept),
    /// Per item, in the order of the request.
    Each(Vec<Result<(), Refusal>>),
    /// The generation that has been joined.
    Joined(Result<Joined, Refusal>),
    /// The member's assignment.
    Synced(Result<Synced, Refusal>),
    /// A group.
    Group(AnyGroup),
    /// What a member of a group of the consumer protocol is told.
    Consumer(Result<ConsumerTold, Refusal>),
}

/// Why something is refused. Which Kafka error code that is depends on the request's version: `broker::errors` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such topic or partition.
    #[error("no such topic or partition")]
    UnknownPartition,
    /// The topic's name is taken.
    #[error("a topic of this name exists")]
    TopicExists,
    /// Zero partitions, fewer than there are, or more than a limit allows.
    #[error("not a possible number of partitions")]
    PartitionCount,
    /// A gap in the producer's sequence, or an overlap with what is stored.
    #[error("the batch is not the producer's next one")]
    OutOfOrderSequence,
    /// Stored before, but too long ago to say at which offset.
    #[error("the batch was stored before")]
    DuplicateSequence,
    /// The batch's epoch is older than one this partition or the coordinator has seen.
    #[error("the producer epoch is old: another producer has taken over")]
    StaleEpoch,
    /// The requester has been fenced.
    #[error("another producer holds this transactional id now")]
    Fenced,
    /// The producer id is not the transactional id's.
    #[error("the producer id does not belong to this transactional id")]
    ProducerIdMapping,
    /// No such transactional id.
    #[error("no such transactional id")]
    UnknownTransactionalId,
    /// The transaction's state does not allow this.
    #[error("the transaction is in no state for this")]
    TransactionState,
    /// The partition or group is not enrolled in the transaction.
    #[error("the partition is not part of the transaction")]
    NotEnrolled,
    /// Some other partition of the same request was refused, and so nothing was done.
    #[error("refused because of another partition of the request")]
    NotAttempted,
    /// The transaction timeout is zero or above the limit.
    #[error("the transaction timeout is not allowed")]
    TransactionTimeout,
    /// The request came over a connection that is not the transactional id's newest.
    #[error("a newer connection coordinates this transactional id")]
    NotCoordinator,
    /// A transaction would grow past a limit.
    #[error("the transaction has reached a limit")]
    TransactionTooLarge,
    /// The offset's metadata text is too long.
    #[error("the offset's metadata is too long")]
    MetadataTooLarge,
    /// A record's timestamp is further from the broker's clock than the topic allows.
    #[error(
        "a timestamp is further from the broker's clock than message.timestamp.before.max.ms or message.timestamp.after.max.ms allow"
    )]
    InvalidTimestamp,
    /// An idempotency key of the batch is accepted already, or stands twice in it.
    #[error("an idempotency key of the batch is accepted already, or stands twice in it")]
    KeyAccepted,
    /// An idempotency key of the batch is held by an open transaction.
    #[error("an idempotency key of the batch is held by an open transaction: try again when it has ended")]
    KeyHeld,
    /// The same, and the batch is in a transaction itself.
    #[error(
        "an idempotency key of the batch is held by another open transaction: abort this one, and try again"
    )]
    KeyHeldFromTransaction,
    /// An offset that the partition does not have yet.
    #[error("the offset is above the high watermark")]
    OffsetOutOfRange,
    /// A name is too long or empty.
    #[error("the name is too long or empty")]
    InvalidName,
    /// The member is not one of the group's.
    #[error("the group has no such member")]
    UnknownMember,
    /// The member is of another generation than the group's newest.
    #[error("the group has gone on to another generation")]
    IllegalGeneration,
    /// The member is to join the next generation.
    #[error("the group is rebalancing: join it again")]
    RebalanceInProgress,
    /// The member shares no assignment protocol with the others.
    #[error("the other members do not support this protocol")]
    InconsistentProtocol,
    /// Another member bears this instance id now.
    #[error("another member bears this instance id now")]
    FencedInstance,
    /// The member is to join again with the id that it got.
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// The group has as many members, or as many bytes of them, as a limit allows; or all groups together do.
    #[error("{0}")]
    GroupFull(GroupLimit),
    /// A member id or an instance id is longer than a limit allows.
    #[error(
        "a member id or an instance id has more than {} bytes: choose a shorter one",
        limits::MEMBER_ID_BYTES_MAX
    )]
    MemberIdTooLong,
    /// The group has members.
    #[error("the group has members")]
    GroupNotEmpty,
    /// There is no such group.
    #[error("there is no such group")]
    GroupNotFound,
    /// The group's classic members are rebalancing.
    #[error("the group's members of the classic protocol are rebalancing: ask again")]
    GroupRebalances,
    /// The member's epoch is not what the group knows of it.
    #[error("the member's epoch is not the one known: it is to give up everything and join again")]
    FencedMemberEpoch,
    /// The member's epoch is not the one it is in.
    #[error("the member is in another epoch: it is to ask again after its next heartbeat")]
    StaleMemberEpoch,
    /// A member that is not away bears this instance id.
    #[error("another member bears this instance id, and has not left")]
    UnreleasedInstance,
    /// The command needed too many rounds of rows: a defect of the state machine, never of the request.
    #[error("the command could not be decided")]
    Undecidable,
}
