//! The rows: semel's state, as the fold of its events. A row is found by its key alone; `decide` reads no ranges.

mod consumers;
mod groups;
mod keys;
mod open;
mod overflow;
mod restored;
mod weight;

pub use consumers::*;
pub use groups::*;
pub use keys::*;
pub use open::*;
pub use overflow::*;
pub use restored::*;

use super::limits::{IDLE_SPAN, PARTITIONS_PER_TOPIC_MAX, partitions_per_row_max};
use super::mutant::{Mutant, mutated};
use crate::types::codec::{Codec, CodecError};
use crate::types::*;
use crate::{codec, codec_enum};
use smallvec::SmallVec;
use std::borrow::{Borrow as _, BorrowMut as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;
use uuid::Uuid;

/// A kind of row: its key, and how it stands among all rows.
pub trait Row: Clone + Debug + Into<RowValue> + 'static {
    /// What finds one row of this kind.
    type Key: Debug + PartialEq + 'static;
    /// Which kind it is, as a number.
    const KIND: usize;
    /// The key among all rows' keys.
    fn key(key: &Self::Key) -> RowKey;
    /// The key, if it is of this kind.
    fn of_key(key: &RowKey) -> Option<&Self::Key>;
    /// The row, if `value` is of this kind.
    fn of(value: &RowValue) -> Option<&Self>;
    /// The row, if `value` is of this kind, to be changed.
    fn of_mut(value: &mut RowValue) -> Option<&mut Self>;
}

/// As what a row is kept: the few large ones apart, since all rows take as much room as the largest.
macro_rules! stored {
    ($row:ty) => {
        $row
    };
    ($row:ty, $stored:ty) => {
        $stored
    };
}

macro_rules! rows {
    ($($(#[$doc:meta])* $variant:ident [$key:ty] => $row:ty $(as $stored:ty)?),* $(,)?) => {
        /// The key of any row.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RowKey { $($(#[$doc])* $variant($key)),* }

        /// Any row.
        #[derive(Clone, Debug, PartialEq)]
        pub enum RowValue { $($(#[$doc])* $variant(stored!($row $(, $stored)?))),* }

        /// A kind of row, by its key.
        enum Kind { $($variant),* }

        impl RowKey {
            /// Which kind of row it is the key of, as a number.
            pub(super) fn kind(&self) -> usize {
                match self { $(RowKey::$variant(_) => Kind::$variant as usize),* }
            }
        }

        impl RowValue {
            /// The byte form; which kind it is, the key says.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self { $(RowValue::$variant(row) => codec::Codec::encode(row, out)),* }
            }

            /// The row that `bytes` are, for this key.
            pub fn decode(key: &RowKey, bytes: &[u8]) -> Result<RowValue, codec::CodecError> {
                match key { $(RowKey::$variant(_) => <$row as codec::Codec>::from_bytes(bytes).map(RowValue::from)),* }
            }
        }

        $(
            impl From<$row> for RowValue {
                fn from(row: $row) -> RowValue { RowValue::$variant(row.into()) }
            }
            impl Row for $row {
                type Key = $key;
                const KIND: usize = Kind::$variant as usize;
                fn key(key: &$key) -> RowKey { RowKey::$variant(key.clone()) }
                fn of_key(key: &RowKey) -> Option<&$key> {
                    match key { RowKey::$variant(key) => Some(key), _ => None }
                }
                fn of(value: &RowValue) -> Option<&Self> {
                    match value { RowValue::$variant(row) => Some(row.borrow()), _ => None }
                }
                fn of_mut(value: &mut RowValue) -> Option<&mut Self> {
                    match value { RowValue::$variant(row) => Some(row.borrow_mut()), _ => None }
                }
            }
        )*
    };
}

rows! {
    /// What is true of the whole cluster.
    Cluster[()] => ClusterRow,
    /// How far producer ids are reserved.
    ProducerIds[()] => ProducerIdsRow,
    /// Which topic a name stands for.
    TopicName[TopicName] => TopicNameRow,
    /// A topic.
    Topic[TopicId] => TopicRow,
    /// A partition.
    Partition[PartitionId] => PartitionRow,
    /// The open transactions with records in a partition.
    OpenTransactions[PartitionId] => OpenTransactionsRow,
    /// What a partition remembers of a producer.
    Producer[ProducerKey] => ProducerRow,
    /// An aborted transaction's range in a partition.
    Aborted[AbortedKey] => AbortedRow,
    /// A transactional id.
    Transaction[TransactionalId] => TransactionRow as Box<TransactionRow>,
    /// When something must happen; durable or volatile, as its timer is.
    Deadline[Timer] => DeadlineRow,
    /// A group's committed offset.
    GroupOffset[GroupOffsetKey] => CommittedOffset,
    /// An offset that waits for its transaction.
    PendingOffset[PendingOffsetKey] => PendingOffsetRow,
    /// A group that has had members.
    Group[GroupId] => GroupRow,
    /// The members of a group.
    Members[GroupId] => MembersRow,
    /// Volatile: a group's rebalance.
    Rebalance[GroupId] => RebalanceRow as Box<RebalanceRow>,
    /// Volatile: how many sessions there are.
    Sessions[()] => SessionsRow,
    /// A group of the consumer protocol that has had members.
    ConsumerGroup[GroupId] => ConsumerGroupRow,
    /// Who its members are.
    Consumers[GroupId] => ConsumersRow,
    /// One of them.
    Consumer[MemberKey] => ConsumerRow,
    /// What its members' regular expressions match.
    Patterns[GroupId] => PatternsRow,
    /// Volatile: how often topics have come, grown or gone.
    TopicsVersion[()] => TopicsVersionRow,
    /// Volatile: as of when a group's target was last looked at.
    TopicsSeen[GroupId] => TopicsSeenRow,
    /// Which transactional id a producer id belongs to.
    ProducerOwner[ProducerId] => ProducerOwnerRow,
    /// Since when a transactional id has not been heard of.
    IdleTransactionalId[IdleTransactionalIdKey] => IdleTransactionalIdRow,
    /// Since when a producer has not been heard of in a partition.
    IdleProducer[IdleProducerKey] => IdleProducerRow,
    /// How one of a transactional id's newest transactions ended.
    Outcome[OutcomeKey] => OutcomeRow,
    /// That the log was restored from a backup.
    Restored[()] => RestoredRow,
    /// Where a partition's leader epochs begin.
    LeaderEpochs[PartitionId] => LeaderEpochsRow,
    /// A key that has been taken in a topic.
    IdempotencyKey[TopicKey] => KeyRow,
    /// When a key's window ends.
    KeyEnd[KeyEndKey] => KeyEndRow,
    /// The keys that a transaction took are free.
    FreedKeys[KeyTransaction] => FreedKeysRow,
    /// When the last window among them ends.
    FreedKeysEnd[FreedKeysEndKey] => FreedKeysEndRow,
    /// The open transaction of a transactional id that has taken keys.
    KeyHolder[TransactionalId] => KeyHolderRow,
    /// The open transactions of a partition beyond those in its row.
    OpenQueue[PartitionId] => OpenQueueRow,
    /// One of them.
    Queued[ProducerKey] => QueuedRow,
    /// That a transaction has partitions beyond those in its row.
    MoreEnrolled[TransactionalId] => MoreEnrolledRow,
    /// Some of them.
    Enrolled[EnrolledKey] => EnrolledRow,
    /// Volatile: the next producer id to give out.
    NextProducerId[()] => NextProducerIdRow,
    /// Volatile: a transactional id's newest connection to one kind of coordinator.
    Coordinator[CoordinatorKey] => CoordinatorRow,
}

impl RowKey {
    /// Whether rows of this kind are never logged and are lost at a crash.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        match self {
            RowKey::NextProducerId(()) | RowKey::Coordinator(_) => true,
            RowKey::Rebalance(_) | RowKey::Sessions(()) => true,
            RowKey::TopicsVersion(()) | RowKey::TopicsSeen(_) => true,
            RowKey::Deadline(timer) => timer.is_volatile(),
            _ => false,
        }
    }

    /// Whether a volatile row of this kind is needed for as long as it is there: it is nowhere else, so it must not be
    /// let go of to make room.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.is_volatile() && !matches!(self, RowKey::Coordinator(_) | RowKey::TopicsSeen(_))
    }
}

/// What is true of the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterRow {
    /// The cluster's identity, drawn once.
    pub id: Uuid,
    /// Partitions of all topics together.
    pub partitions: u32,
}
codec!(ClusterRow { id, partitions });

/// How far producer ids are reserved: ids below `reserved_until` may have been given out, those from it on have not.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerIdsRow {
    /// The first id that is not reserved.
    pub reserved_until: ProducerId,
}
codec!(ProducerIdsRow { reserved_until });

/// Which topic a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicNameRow {
    /// The topic.
    pub id: TopicId,
}
codec!(TopicNameRow { id });

/// A topic's own settings, by Kafka's names; those not listed have their defaults.
pub type TopicConfig = BTreeMap<String, String>;

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRow {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has, numbered from 0.
    pub partitions: u32,
    /// Its settings.
    pub config: TopicConfig,
}

impl Codec for TopicRow {
    fn encode(&self, out: &mut Vec<u8>) {
        let TopicRow { name, partitions, config } = self;
        name.encode(out);
        partitions.encode(out);
        config.encode(out);
    }

    /// Upkeep and answers go through all partitions there are, so a row that is damaged must not say that there are more than
    /// there can be.
    fn decode(input: &mut &[u8]) -> Result<TopicRow, CodecError> {
        let (name, partitions) = (Codec::decode(input)?, Codec::decode(input)?);
        if partitions > PARTITIONS_PER_TOPIC_MAX {
            return Err(CodecError::Invalid("more partitions than a topic can have"));
        }
        Ok(TopicRow { name, partitions, config: Codec::decode(input)? })
    }
}

/// All batches of a partition up to some offset, since the partition exists, deleted ones included. What lies below an
/// offset never changes, so neither do its totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of the batches.
    pub bytes: u64,
    /// The newest timestamp of their records; [`Timestamp::NONE`] if none has one.
    pub newest: Timestamp,
}
codec!(Totals { bytes, newest });

impl Default for Totals {
    fn default() -> Totals {
        Totals { bytes: 0, newest: Timestamp::NONE }
    }
}

impl Totals {
    /// The totals with one more batch.
    #[must_use]
    pub fn with(self, bytes: u32, newest: Timestamp) -> Totals {
        Totals { bytes: self.bytes.saturating_add(u64::from(bytes)), newest: self.newest.max(newest) }
    }
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PartitionRow {
    /// The first offset that may still be read.
    pub log_start: Offset,
    /// Bytes of all batches that lie wholly below the log start.
    pub bytes_below_start: u64,
    /// The offset of the next record: durable, this is the high watermark.
    pub next_offset: Offset,
    /// The first offset of the oldest open transaction, which holds back the last stable offset.
    pub first_open: Option<Offset>,
    /// All batches up to the next offset.
    pub totals: Totals,
}
codec!(PartitionRow { log_start, bytes_below_start, next_offset, first_open, totals });

/// A topic's setting: how many milliseconds a transaction may hold back the last stable offset of one of its partitions.
pub const LSO_BUDGET: &str = "semel.lso.budget.ms";

impl TopicRow {
    /// How long a transaction may hold back this topic's last stable offsets, if that is limited.
    #[must_use]
    pub fn lso_budget(&self) -> Option<Duration> {
        self.config.get(LSO_BUDGET)?.parse().ok().map(Duration::from_millis)
    }
}

impl PartitionRow {
    /// The last stable offset: nothing at or above it is decided yet (`spec/transactions.md`, "Reading").
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        let too_high = i64::from(mutated(Mutant::LsoOffByOne));
        self.first_open.map_or(self.next_offset, |first| first.plus(too_high).max(self.log_start))
    }
}

/// A producer's identity: an id, and the life under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The producer id.
    pub id: ProducerId,
    /// The producer epoch.
    pub epoch: ProducerEpoch,
}
codec!(Identity { id, epoch });

/// How many of a producer's batches a partition remembers: as many as Kafka's clients keep in flight.
pub const REMEMBERED_BATCHES: usize = 5;

/// A partition's memory of one producer is found by both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerKey {
    /// The partition.
    pub partition: PartitionId,
    /// The producer.
    pub producer: ProducerId,
}
codec!(ProducerKey { partition, producer });

/// A batch that was stored, to be recognised if it comes again.
#[derive(Clone, Debug, PartialEq)]
pub struct RememberedBatch {
    /// Its sequences.
    pub sequences: SequenceRange,
    /// Its first record's offset.
    pub base_offset: Offset,
    /// Its log-append time, if the topic has one.
    pub append_time: Timestamp,
}
codec!(RememberedBatch { sequences, base_offset, append_time });

/// What a partition remembers of a producer. It does not end with retention (`spec/transactions.md`).
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerRow {
    /// The newest epoch that has reached this partition, by a batch or by a marker.
    pub epoch: ProducerEpoch,
    /// How many records this epoch has stored here: what lies behind the remembered batches by less was stored.
    pub stored_in_epoch: u64,
    /// The newest batches of this epoch, oldest first; none if a marker has raised the epoch.
    pub batches: SmallVec<[RememberedBatch; 1]>,
    /// The open transaction's number and first offset here, if it has records here.
    pub open: Option<(TxnNumber, Offset)>,
    /// When the producer was last heard of here.
    pub last_used: ServedTime,
    /// The newest timestamp of its last batch or marker here: wall time, for people.
    pub last_timestamp: Timestamp,
}
codec!(ProducerRow { epoch, stored_in_epoch, batches, open, last_used, last_timestamp });

/// An aborted range is found by its partition, its producer and its marker's offset: so a reader who has a batch asks
/// once for its producer's next abort, however many others have aborted since.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AbortedKey {
    /// The partition.
    pub partition: PartitionId,
    /// Whose records they are.
    pub producer: ProducerId,
    /// The abort marker's offset.
    pub marker: Offset,
}
codec!(AbortedKey { partition, producer, marker });

/// Records of an aborted transaction: those of its producer from `first` up to the marker.
#[derive(Clone, Debug, PartialEq)]
pub struct AbortedRow {
    /// The first one's offset.
    pub first: Offset,
}
codec!(AbortedRow { first });

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All of it takes effect.
    Commit,
    /// None of it does.
    Abort,
}
codec_enum!(Outcome { 0 => Commit, 1 => Abort });

/// Why a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its producer said so.
    Requested,
    /// Its deadline passed.
    Expired,
    /// A new holder of its transactional id came.
    Fenced,
    /// An operator said so.
    Operator,
    /// It held back a topic's last stable offset for longer than the topic allows.
    Budget,
    /// It was open in a backup from which the log was restored: what it did after that is gone.
    Restored,
}
codec_enum!(EndReason { 0 => Requested, 1 => Expired, 2 => Fenced, 3 => Operator, 4 => Budget, 5 => Restored });

impl EndReason {
    /// Whether its producer was only too slow, and may go on (KIP-588).
    #[must_use]
    pub fn is_recoverable(self) -> bool {
        matches!(self, EndReason::Expired | EndReason::Budget)
    }
}

/// Which transactional id a producer id belongs to: what a partition or an operator knows of a transaction is its producer
/// id. An id that was rotated away, or is idempotent only, has none.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerOwnerRow {
    /// The transactional id.
    pub transactional_id: TransactionalId,
}
codec!(ProducerOwnerRow { transactional_id });

/// A span of served time, [`IDLE_SPAN`](super::limits::IDLE_SPAN) long, in which something was last heard of. What is idle
/// is ordered by it, so that the longest idle is found without looking at the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdleSpan(pub u64);
codec!(IdleSpan(u64));

impl IdleSpan {
    /// The span that `at` is in.
    #[must_use]
    pub fn of(at: ServedTime) -> IdleSpan {
        let length = u64::try_from(IDLE_SPAN.as_millis()).unwrap_or(u64::MAX);
        IdleSpan(at.0 / length.max(1))
    }

    /// The first span that is not over for `idle` at `now`: everything in those before it has been idle for as long.
    #[must_use]
    pub fn first_not_idle_for(idle: Duration, now: ServedTime) -> IdleSpan {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        IdleSpan::of(ServedTime(now.0.saturating_sub(idle)))
    }
}

/// An idle transactional id, by the span in which it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdleTransactionalIdKey {
    /// When.
    pub span: IdleSpan,
    /// Who.
    pub transactional_id: TransactionalId,
}

/// The key says it all.
#[derive(Clone, Debug, PartialEq)]
pub struct IdleTransactionalIdRow {}
codec!(IdleTransactionalIdRow {});

/// An idle producer of a partition, by the span in which it was last heard of there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdleProducerKey {
    /// When.
    pub span: IdleSpan,
    /// Who, where.
    pub producer: ProducerKey,
}

/// The key says it all.
#[derive(Clone, Debug, PartialEq)]
pub struct IdleProducerRow {}
codec!(IdleProducerRow {});

/// A transaction is found by its transactional id and number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutcomeKey {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// Which of its transactions.
    pub number: TxnNumber,
}

/// How a transaction ended. The newest [`OUTCOMES_PER_ID_MAX`](super::limits::OUTCOMES_PER_ID_MAX) of each id are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeRow {
    /// Under which identity it ran.
    pub producer: Identity,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: EndReason,
    /// Which operator decided it, and when, if one did.
    pub operator: Option<OperatorDecision>,
}
codec!(OutcomeRow { producer, outcome, reason, operator });

/// Who decided about somebody else's transaction, for the record.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorDecision {
    /// The operator's principal.
    pub operator: String,
    /// When, in wall time.
    pub at: Timestamp,
}
codec!(OperatorDecision { operator, at });

/// A transactional id.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionRow {
    /// Who may use it now.
    pub holder: Identity,
    /// The identity from which `holder` was reached, if who has it may still ask for `holder` (KIP-360, KIP-588).
    pub recoverable: Option<Identity>,
    /// The number of the newest transaction; 0 if there was none.
    pub number: TxnNumber,
    /// How long a transaction may stay open.
    pub timeout: Duration,
    /// Where the newest transaction stands.
    pub state: TransactionState,
    /// When the id was last heard of.
    pub last_used: ServedTime,
}
codec!(TransactionRow { holder, recoverable, number, timeout, state, last_used });

impl TransactionRow {
    /// Under which identity the open transaction runs, or the next one would: the holder's, but that of a prepared one may be
    /// an earlier holder's.
    #[must_use]
    pub fn runs_under(&self) -> Identity {
        match &self.state {
            TransactionState::Prepared(prepared) => prepared.producer,
            TransactionState::Empty | TransactionState::Ongoing(_) | TransactionState::Complete(_) => {
                self.holder
            }
        }
    }
}

/// Where a transactional id's newest transaction stands.
#[derive(Clone, Debug, PartialEq)]
pub enum TransactionState {
    /// No transaction since the id was last initialised.
    Empty,
    /// Enrolled somewhere, and not ended.
    Ongoing(Ongoing),
    /// Ended, every marker written.
    Complete(Ended),
    /// Nothing is added any more, and somebody outside decides the outcome (KIP-939).
    Prepared(Box<Prepared>),
}
codec_enum!(TransactionState { 0 => Empty, 1 => Ongoing(ongoing), 2 => Complete(ended), 3 => Prepared(prepared) });

impl TransactionState {
    /// The open transaction, if there is one.
    #[must_use]
    pub fn open(&self) -> Option<&Ongoing> {
        match self {
            TransactionState::Ongoing(ongoing) => Some(ongoing),
            TransactionState::Prepared(prepared) => Some(&prepared.transaction),
            TransactionState::Empty | TransactionState::Complete(_) => None,
        }
    }

    /// The open transaction, taken out.
    #[must_use]
    pub fn into_open(self) -> Option<Ongoing> {
        match self {
            TransactionState::Ongoing(ongoing) => Some(ongoing),
            TransactionState::Prepared(prepared) => Some(prepared.transaction),
            TransactionState::Empty | TransactionState::Complete(_) => None,
        }
    }
}

/// An open transaction.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Ongoing {
    /// The partitions that will get a marker, up to
    /// [`PARTITIONS_PER_ROW_MAX`](super::limits::PARTITIONS_PER_ROW_MAX); those beyond are in [`EnrolledRow`]s.
    pub partitions: BTreeSet<PartitionId>,
    /// The groups whose offsets it may carry.
    pub groups: BTreeSet<GroupId>,
    /// The offsets that it carries.
    pub offsets: BTreeSet<GroupOffsetKey>,
    /// When it began, in wall time, for people.
    pub began: Timestamp,
    /// When it is aborted.
    pub deadline: ServedTime,
    /// The topic whose LSO budget has set the deadline, if one has.
    pub budget_of: Option<TopicId>,
}
codec!(Ongoing { partitions, groups, offsets, began, deadline, budget_of });

impl Ongoing {
    /// Whether there may be partitions beyond those that are listed here.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        self.partitions.len() >= partitions_per_row_max()
    }
}

/// A prepared transaction. No timeout of its producer's ends it, nor a new holder of its transactional id: whoever decides
/// may have decided to commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The transaction as it was when it was prepared.
    pub transaction: Ongoing,
    /// Under which identity it ran: its id's holder may be another one by now.
    pub producer: Identity,
    /// When it was prepared, in wall time.
    pub at: Timestamp,
    /// When it is aborted, if it has a timeout of its own.
    pub deadline: Option<ServedTime>,
}
codec!(Prepared { transaction, producer, at, deadline });

/// What a deadline belongs to: the shard asks [`Command::Expire`](super::Command::Expire) for it when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// An open transaction is aborted. Durable, and apart from the transaction so that a start finds the open ones without
    /// reading all transactional ids.
    Transaction(TransactionalId),
    /// A group's rebalance goes on without those who have not come. Volatile.
    Group(GroupId),
    /// A member's session ends, unless it is heard of. Volatile: after a restart it gets a whole session.
    Member(MemberKey),
    /// A member must have revoked what it was told to. Volatile: after a restart it gets a whole rebalance timeout.
    Revocation(MemberKey),
}

impl Timer {
    /// Whether its deadline is lost at a crash.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        !matches!(self, Timer::Transaction(_)) || mutated(Mutant::DeadlineLost)
    }
}

/// A member of a group is found by both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
}

/// When something must happen.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadlineRow {
    /// When.
    pub deadline: ServedTime,
}
codec!(DeadlineRow { deadline });

/// How the newest transaction ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: EndReason,
    /// Whose it was: an exact retry of the request that ended it carries this identity.
    pub by: Identity,
}
codec!(Ended { outcome, reason, by });

/// A group's committed offset is found by group and partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupOffsetKey {
    /// The group.
    pub group: GroupId,
    /// The partition.
    pub partition: PartitionId,
}
codec!(GroupOffsetKey { group, partition });

/// A group's committed offset in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: Offset,
    /// The leader epoch of the record before it; −1 if the client did not say.
    pub leader_epoch: LeaderEpoch,
    /// The client's own text.
    pub metadata: String,
    /// When it was committed, in wall time.
    pub committed_at: Timestamp,
    /// When it was committed, in served time: it is kept for a configured time from then.
    pub since: ServedTime,
}
codec!(CommittedOffset { offset, leader_epoch, metadata, committed_at, since });

/// An offset that waits for its transaction: who waits is part of the key, so that readers can see that somebody does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PendingOffsetKey {
    /// Group and partition.
    pub offset: GroupOffsetKey,
    /// Whose transaction carries it.
    pub producer: ProducerId,
}

/// An offset that waits for its transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingOffsetRow {
    /// The transaction.
    pub number: TxnNumber,
    /// What becomes the committed offset if it commits.
    pub committed: CommittedOffset,
}
codec!(PendingOffsetRow { number, committed });

/// Volatile: the next producer id to give out; lost at a crash together with what is left of its reservation.
#[derive(Clone, Debug, PartialEq)]
pub struct NextProducerIdRow {
    /// The id.
    pub id: ProducerId,
}
codec!(NextProducerIdRow { id });

/// The kinds of coordinator that a transactional producer speaks to. Clients use separate connections for them, in any
/// order (`spec/transactions.md`, E10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CoordinatorKind {
    /// Of the transaction: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn.
    Transaction,
    /// Of the group whose offsets travel with it: TxnOffsetCommit.
    Group,
}

/// A transactional id's newest connection is found by the id and the kind of coordinator it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoordinatorKey {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// Which coordinator.
    pub kind: CoordinatorKind,
}

/// Volatile: the newest connection that sent a request of a transactional id to one kind of coordinator. Version-1
/// requests, and TxnOffsetCommit in every version, carry nothing that tells an old one from a new one, so only this
/// connection's count (`spec/transactions.md`, E10).
#[derive(Clone, Debug, PartialEq)]
pub struct CoordinatorRow {
    /// The connection.
    pub connection: u64,
}
codec!(CoordinatorRow { connection });
