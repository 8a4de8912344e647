//! semel's own requests (`spec/protocol.md`): the outcome of transactions, two-phase commit with an explicit prepare.

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;

messages! {
    /// Asks how transactions of a transactional id ended: the one of this identity, or of this number, or all that are known.
    request DescribeOutcomesRequest: DescribeOutcomes -> DescribeOutcomesResponse {
        transactional_id: String => since(0),
        producer_id: i64 = -1 => since(0),
        producer_epoch: i16 = -1 => since(0),
        transaction_number: i64 = -1 => since(0),
    }

    /// The transactions that were asked for and are known, newest first; if there are none, why: [`absence`].
    response DescribeOutcomesResponse: DescribeOutcomes {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        absence: i8 => since(0),
        transactions: Vec<DescribedOutcome> => since(0),
    }

    /// A transaction: where it stands ([`outcome_state`]), why it ended ([`outcome_reason`]), and which operator decided that.
    part DescribedOutcome {
        transaction_number: i64 => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        state: i8 => since(0),
        reason: i8 => since(0),
        operator: Option<String> => since(0).nullable(0),
        decided_time_ms: i64 = -1 => since(0),
    }

    /// Prepares the open transaction of a producer: its outcome is decided outside. Without a timeout (−1) it waits for ever.
    request PrepareTxnRequest: PrepareTxn -> PrepareTxnResponse {
        transactional_id: String => since(0),
        producer_id: i64 => since(0),
        producer_epoch: i16 => since(0),
        timeout_ms: i64 = -1 => since(0),
    }

    /// Whether it is prepared.
    response PrepareTxnResponse: PrepareTxn {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
    }

    /// An operator ends the open transaction of a transactional id; only a prepared one can be committed. With a number (not
    /// −1), only that one.
    request EndTxnByOperatorRequest: EndTxnByOperator -> EndTxnByOperatorResponse {
        transactional_id: String => since(0),
        transaction_number: i64 = -1 => since(0),
        committed: bool => since(0),
    }

    /// Takes a backup of this name, if there is none; and asks where it stands.
    request TakeBackupRequest: TakeBackup -> TakeBackupResponse {
        name: String => since(0),
    }

    /// Where it stands ([`backup_state`]). Of one that is complete, where it is and what is in it.
    response TakeBackupResponse: TakeBackup {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        state: i8 => since(0),
        bytes_done: i64 => since(0),
        bytes_total: i64 => since(0),
        path: String => since(0),
        last_block: i64 => since(0),
        files: i32 => since(0),
        partitions: i32 => since(0),
    }

    /// Whether it has ended so.
    response EndTxnByOperatorResponse: EndTxnByOperator {
        throttle_time_ms: i32 => since(0),
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
    }
}

/// Where a backup stands.
pub mod backup_state {
    /// It is being taken.
    pub const RUNNING: i8 = 0;
    /// It is complete.
    pub const COMPLETE: i8 = 1;
}

/// Where a transaction stands.
pub mod outcome_state {
    /// Open.
    pub const OPEN: i8 = 0;
    /// Prepared: its outcome is decided outside.
    pub const PREPARED: i8 = 1;
    /// Committed.
    pub const COMMITTED: i8 = 2;
    /// Aborted.
    pub const ABORTED: i8 = 3;
}

/// Why a transaction ended.
pub mod outcome_reason {
    /// It has not.
    pub const NONE: i8 = 0;
    /// Its producer said so.
    pub const REQUESTED: i8 = 1;
    /// Its deadline passed.
    pub const EXPIRED: i8 = 2;
    /// A new holder of its transactional id came.
    pub const FENCED: i8 = 3;
    /// An operator said so.
    pub const OPERATOR: i8 = 4;
    /// The LSO budget of a topic was used up.
    pub const BUDGET: i8 = 5;
    /// It was open in a backup from which the broker was restored.
    pub const RESTORED: i8 = 6;
}

/// Why no transaction is known as it was asked for.
pub mod absence {
    /// There is one.
    pub const NONE: i8 = 0;
    /// None has begun yet, and one still may.
    pub const NOT_BEGUN: i8 = 1;
    /// None ever began, and none can any more: its identity has been fenced.
    pub const NEVER_BEGUN: i8 = 2;
    /// It may have been, and is not remembered any more.
    pub const FORGOTTEN: i8 = 3;
}
