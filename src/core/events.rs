//! The events: facts that have been decided. The log is made of them, and [`evolve`](super::evolve()) folds them into rows.
//! An event carries everything its effect depends on, so that what an upgrade replays is facts, not questions.

use super::rows::{
    AbortedKey, Assignor, CommittedOffset, ConsumerRow, EndReason, GroupOffsetKey, Holding, Identity,
    IdleSpan, KeyTransaction, Member, OperatorDecision, Outcome, ProducerKey, Subscription, TopicConfig,
    TopicKey, Totals,
};
use crate::types::*;
use crate::{codec, codec_enum};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// A fact.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are what their names say; what an event states, its own line says"
)]
pub enum Event {
    /// The cluster has its identity: the first event of every log.
    ClusterFormed { id: Uuid },
    /// A topic exists.
    TopicCreated { id: TopicId, name: TopicName, partitions: u32, config: TopicConfig },
    /// A topic has more partitions: `partitions` in all.
    PartitionsAdded { id: TopicId, partitions: u32 },
    /// A topic and all it held are gone.
    TopicDeleted { id: TopicId },
    /// A topic's settings are these.
    TopicConfigured { id: TopicId, config: TopicConfig },
    /// Producer ids below `until` are reserved.
    ProducerIdsReserved { until: ProducerId },
    /// A transactional id has a holder, with no transaction.
    ProducerInitialized {
        transactional_id: TransactionalId,
        holder: Identity,
        recoverable: Option<Identity>,
        timeout: Duration,
    },
    /// Partitions belong to a transaction, and will get its marker. Begins transaction `number` if it is not open yet.
    PartitionsEnrolled { enrolment: Enrolment, partitions: Vec<PartitionId> },
    /// A group's offsets may travel with a transaction.
    GroupEnrolled { enrolment: Enrolment, group: GroupId },
    /// A record batch is in a partition. The batch itself follows the event in the log.
    BatchAppended(BatchAppended),
    /// Offsets wait for their transaction.
    OffsetsStaged { enrolment: Enrolment, offsets: Vec<(GroupOffsetKey, CommittedOffset)> },
    /// A transaction has ended: its offsets take effect or vanish. Its markers follow in the same block.
    TransactionEnded {
        transactional_id: TransactionalId,
        number: TxnNumber,
        outcome: Outcome,
        reason: EndReason,
        /// Who holds the id from now on.
        holder: Identity,
    },
    /// A transaction's marker is in a partition. The log writes it as Kafka's control batch.
    MarkerWritten(MarkerWritten),
    /// A transaction takes nothing more; its outcome is decided outside.
    TransactionPrepared {
        transactional_id: TransactionalId,
        number: TxnNumber,
        at: Timestamp,
        deadline: Option<ServedTime>,
    },
    /// A transactional id has a new holder, and its prepared transaction stays.
    HolderReplaced {
        transactional_id: TransactionalId,
        holder: Identity,
        recoverable: Option<Identity>,
        timeout: Duration,
    },
    /// A transaction must end earlier, because of the LSO budget of a topic in which it is enrolled.
    DeadlineMoved { transactional_id: TransactionalId, deadline: ServedTime, topic: TopicId },
    /// An operator has decided the outcome of a transaction that has ended in this decision.
    OperatorDecided { transactional_id: TransactionalId, number: TxnNumber, decision: OperatorDecision },
    /// A transactional id that has not been heard of for long is forgotten, with its outcomes.
    TransactionalIdExpired { transactional_id: TransactionalId },
    /// What a partition remembers of a producer that has not been heard of since `span` is forgotten.
    ProducerExpired { partition: PartitionId, producer: ProducerId, span: IdleSpan },
    /// A partition's log start has moved forward: what lies below `to` is not read any more.
    LogStartMoved { partition: PartitionId, to: Cut, reason: CutReason },
    /// A group has a new generation, which waits for its assignment.
    GenerationFormed {
        group: GroupId,
        generation: Generation,
        protocol_type: String,
        protocol: String,
        leader: MemberId,
        members: Vec<(MemberId, Member)>,
    },
    /// A group's newest generation has its assignment.
    GroupAssigned { group: GroupId, assignments: Vec<(MemberId, Bytes)> },
    /// A static member has come back under a new member id, which has all that was the former's.
    MemberReplaced { group: GroupId, former: MemberId, id: MemberId, member: Member },
    /// Members of a group have left, or were silent for too long.
    MembersLeft { group: GroupId, members: Vec<MemberId> },
    /// A group is gone.
    GroupDeleted { group: GroupId },
    /// A member of a group of the consumer protocol is new, or says something new of itself. The group is in `epoch`.
    ConsumerSubscribed { group: GroupId, epoch: GroupEpoch, member: MemberId, said: Box<Subscription> },
    /// A group's target is as of `epoch`, and so is the group: these members have new ones, the others keep theirs.
    TargetAssigned {
        group: GroupId,
        epoch: GroupEpoch,
        assignor: Assignor,
        targets: Vec<(MemberId, BTreeSet<PartitionId>)>,
    },
    /// A member holds this.
    ConsumerReconciled { group: GroupId, member: MemberId, held: Holding },
    /// A static member has come back under a new member id, and has target and assignment of the former.
    ConsumerReplaced { group: GroupId, former: MemberId, member: MemberId, said: Box<Subscription> },
    /// Members of a group of the consumer protocol are gone. The group is in `epoch`.
    ConsumersLeft { group: GroupId, epoch: GroupEpoch, members: Vec<MemberId> },
    /// The regular expressions that a group subscribes with match these topics.
    PatternsResolved { group: GroupId, patterns: BTreeMap<String, BTreeSet<TopicId>> },
    /// A classic group is one of the consumer protocol, with these members.
    GroupUpgraded { group: GroupId, epoch: GroupEpoch, members: Vec<(MemberId, ConsumerRow)> },
    /// A group of the consumer protocol is a classic one, with these members, who rebalance.
    GroupDowngraded {
        group: GroupId,
        generation: Generation,
        protocol: String,
        leader: MemberId,
        members: Vec<(MemberId, Member)>,
    },
    /// Offsets of a group are forgotten.
    OffsetsForgotten { offsets: Vec<GroupOffsetKey> },
    /// A group's offsets are committed.
    OffsetsCommitted { offsets: Vec<(GroupOffsetKey, CommittedOffset)> },
    /// The log was restored from a backup: producer ids below `ids_from` may speak of what is not in it.
    LogRestored { restore: Uuid, ids_from: ProducerId, leader_epoch: LeaderEpoch },
    /// A topic has taken the keys of a batch that has been appended.
    KeysAccepted(KeysAccepted),
    /// Keys, and the word that those of transactions are free, are forgotten.
    KeysForgotten { keys: Vec<TopicKey>, freed: Vec<KeyTransaction> },
    /// Rows are gone whose partition is gone, and aborted ranges that end below the log start.
    RowsSwept { producers: Vec<ProducerKey>, aborted: Vec<AbortedKey> },
}

/// Which transaction something is enrolled in, and what its first enrolment begins it with.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolment {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// The transaction.
    pub number: TxnNumber,
    /// When it began, in wall time.
    pub began: Timestamp,
    /// When it is aborted unless it has ended.
    pub deadline: ServedTime,
}
codec!(Enrolment { transactional_id, number, began, deadline });

/// A place between two offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first offset behind it.
    pub offset: Offset,
    /// Bytes of all batches that lie wholly below it, deleted ones included.
    pub bytes: u64,
}
codec!(Cut { offset, bytes });

/// Why a log start has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// Somebody said so (DeleteRecords).
    Deleted,
    /// The records were older than `retention.ms`.
    RetentionTime,
    /// The partition was larger than `retention.bytes`.
    RetentionBytes,
}
codec_enum!(CutReason { 0 => Deleted, 1 => RetentionTime, 2 => RetentionBytes });

/// A record batch is in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchAppended {
    /// Where.
    pub partition: PartitionId,
    /// Its first record's offset.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub records: u32,
    /// How many bytes it takes.
    pub bytes: u32,
    /// The partition's batches before it.
    pub before: Totals,
    /// The newest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// The time the records get, where the topic wants the time of the append.
    pub append_time: Option<Timestamp>,
    /// Its producer, if it has an identity.
    pub producer: Option<ProducerAppend>,
}
codec!(BatchAppended {
    partition,
    base_offset,
    records,
    bytes,
    before,
    max_timestamp,
    append_time,
    producer
});

impl BatchAppended {
    /// The offset of the batch's last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.records) - 1)
    }
}

/// What a batch says of its producer.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerAppend {
    /// Who.
    pub identity: Identity,
    /// Which of its records.
    pub sequences: SequenceRange,
    /// In which transaction, if in one.
    pub transaction: Option<TxnNumber>,
}
codec!(ProducerAppend { identity, sequences, transaction });

/// A topic has taken the keys of a batch that has been appended, in the same decision.
#[derive(Clone, Debug, PartialEq)]
pub struct KeysAccepted {
    /// Where the batch is.
    pub partition: PartitionId,
    /// Its first record's offset.
    pub base_offset: Offset,
    /// The end of the keys' window.
    pub until: ServedTime,
    /// The transaction whose outcome decides, if the batch is in one.
    pub transaction: Option<(TransactionalId, KeyTransaction)>,
    /// The keys, each with the number of its record in the batch.
    pub keys: Vec<RecordKey>,
}
codec!(KeysAccepted { partition, base_offset, until, transaction, keys });

/// A record's idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordKey {
    /// The record's number in its batch, from 0.
    pub record: u32,
    /// Its key.
    pub key: IdempotencyKey,
}
codec!(RecordKey { record, key });

/// Bytes of a marker's control batch. It has one record of one form, so its length never varies.
pub const MARKER_BYTES: u32 = 78;

/// A transaction's marker is in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkerWritten {
    /// Where.
    pub partition: PartitionId,
    /// The marker's own offset.
    pub offset: Offset,
    /// The partition's batches before it. It takes [`MARKER_BYTES`] itself.
    pub before: Totals,
    /// Whose transaction, with the epoch that the marker carries.
    pub producer: Identity,
    /// Which transaction.
    pub number: TxnNumber,
    /// How it ended.
    pub outcome: Outcome,
    /// The marker's timestamp.
    pub timestamp: Timestamp,
}
codec!(MarkerWritten { partition, offset, before, producer, number, outcome, timestamp });

/// What stands where an event does in a frame that compaction has written (`spec/log-format.md`, "Compacted frames"). It
/// is no fact that was decided, and never in a block: it says what has become of batches that were.
#[derive(Clone, Debug, PartialEq)]
pub enum Compacted {
    /// A batch without the records that are superseded. The batch itself is the frame's payload.
    Batch {
        /// What is left of what.
        of: CompactedRange,
        /// The newest timestamp of what is left.
        max_timestamp: Timestamp,
        /// Whose committed transaction it is part of, if of one.
        producer: Option<ProducerId>,
    },
    /// Nothing is left of some batches.
    Gap {
        /// Of which.
        of: CompactedRange,
    },
}
codec_enum!(Compacted { 100 => Batch { of, max_timestamp, producer }, 101 => Gap { of } });

impl Compacted {
    /// Whether what stands in a frame is this, and no event.
    #[must_use]
    pub fn is_in(frame: &[u8]) -> bool {
        matches!(frame.first(), Some(100 | 101))
    }

    /// What it speaks of.
    #[must_use]
    pub fn range(&self) -> &CompactedRange {
        match self {
            Compacted::Batch { of, .. } | Compacted::Gap { of } => of,
        }
    }
}

/// One or more neighbouring batches that compaction has looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactedRange {
    /// Where.
    pub partition: PartitionId,
    /// Their first offset.
    pub first: Offset,
    /// Their last offset.
    pub last: Offset,
    /// The partition's batches before them, as they were appended.
    pub before: Totals,
    /// Their bytes as they were appended.
    pub bytes: u64,
    /// Of several frames for an offset, the highest counts. Batches as they were appended have 0.
    pub generation: u64,
}
codec!(CompactedRange { partition, first, last, before, bytes, generation });

codec_enum!(Event {
    1 => ClusterFormed { id },
    2 => TopicCreated { id, name, partitions, config },
    3 => PartitionsAdded { id, partitions },
    4 => TopicDeleted { id },
    5 => ProducerIdsReserved { until },
    6 => ProducerInitialized { transactional_id, holder, recoverable, timeout },
    7 => PartitionsEnrolled { enrolment, partitions },
    8 => GroupEnrolled { enrolment, group },
    10 => OffsetsStaged { enrolment, offsets },
    11 => TransactionEnded { transactional_id, number, outcome, reason, holder },
    13 => OffsetsCommitted { offsets },
    20 => TopicConfigured { id, config },
    21 => LogStartMoved { partition, to, reason },
    22 => BatchAppended(batch),
    23 => MarkerWritten(marker),
    32 => RowsSwept { producers, aborted },
    60 => OperatorDecided { transactional_id, number, decision },
    61 => TransactionalIdExpired { transactional_id },
    62 => ProducerExpired { partition, producer, span },
    63 => TransactionPrepared { transactional_id, number, at, deadline },
    64 => HolderReplaced { transactional_id, holder, recoverable, timeout },
    65 => DeadlineMoved { transactional_id, deadline, topic },
    80 => GenerationFormed { group, generation, protocol_type, protocol, leader, members },
    81 => GroupAssigned { group, assignments },
    82 => MemberReplaced { group, former, id, member },
    83 => MembersLeft { group, members },
    84 => GroupDeleted { group },
    85 => OffsetsForgotten { offsets },
    110 => LogRestored { restore, ids_from, leader_epoch },
    120 => KeysAccepted(accepted),
    121 => KeysForgotten { keys, freed },
    130 => ConsumerSubscribed { group, epoch, member, said },
    131 => TargetAssigned { group, epoch, assignor, targets },
    132 => ConsumerReconciled { group, member, held },
    133 => ConsumerReplaced { group, former, member, said },
    134 => ConsumersLeft { group, epoch, members },
    135 => PatternsResolved { group, patterns },
    136 => GroupUpgraded { group, epoch, members },
    137 => GroupDowngraded { group, generation, protocol, leader, members },
});
