//! Which error code a refusal is, for which request in which version. The table is Kafka 4.4's
//! (`spec/transactions.md`, "Request × situation → error code"; `spec/differences.md`).

use super::failure::Failure;
use crate::core::Refusal;
use crate::wire::{ApiKey, ErrorCode};

/// The code that tells a client of `api` in `version` of `refusal`; or the failure that closes its connection.
pub(super) fn code(refusal: Refusal, api: ApiKey, version: i16) -> Result<ErrorCode, Failure> {
    Ok(match refusal {
        Refusal::UnknownPartition if names_topics_by_id(api, version) => ErrorCode::UnknownTopicId,
        Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Refusal::TopicExists => ErrorCode::TopicAlreadyExists,
        Refusal::PartitionCount => ErrorCode::InvalidPartitions,
        Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::DuplicateSequence => ErrorCode::DuplicateSequenceNumber,
        Refusal::StaleEpoch => ErrorCode::InvalidProducerEpoch,
        Refusal::Fenced => fenced(api, version),
        Refusal::ProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
        Refusal::UnknownTransactionalId => ErrorCode::TransactionalIdNotFound,
        Refusal::TransactionState => ErrorCode::InvalidTxnState,
        Refusal::NotEnrolled | Refusal::TransactionTooLarge => abortable(api, version),
        Refusal::NotAttempted => ErrorCode::OperationNotAttempted,
        Refusal::TransactionTimeout => ErrorCode::InvalidTransactionTimeout,
        Refusal::NotCoordinator => return Err(Failure::OlderConnection(api)),
        Refusal::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        Refusal::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        Refusal::KeyAccepted => ErrorCode::InvalidRecord,
        Refusal::KeyHeld => held(version),
        Refusal::KeyHeldFromTransaction => abortable(api, version),
        Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        Refusal::InvalidName => invalid_name(api),
        Refusal::UnknownMember => ErrorCode::UnknownMemberId,
        Refusal::IllegalGeneration => ErrorCode::IllegalGeneration,
        Refusal::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        Refusal::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        Refusal::FencedInstance => ErrorCode::FencedInstanceId,
        Refusal::GroupRebalances => ErrorCode::CoordinatorLoadInProgress,
        Refusal::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        Refusal::StaleMemberEpoch => stale_member_epoch(api, version),
        Refusal::UnreleasedInstance => ErrorCode::UnreleasedInstanceId,
        Refusal::MemberIdRequired => ErrorCode::MemberIdRequired,
        Refusal::GroupFull(_) => ErrorCode::GroupMaxSizeReached,
        Refusal::MemberIdTooLong => ErrorCode::InvalidRequest,
        Refusal::GroupNotEmpty => ErrorCode::NonEmptyGroup,
        Refusal::GroupNotFound => group_not_found(api, version),
        Refusal::Undecidable => {
            tracing::error!(%api, version, "a command could not be decided, which is a defect of semel");
            ErrorCode::UnknownServerError
        }
    })
}

/// The code of an outcome: none where it went well.
pub(super) fn outcome(outcome: Result<(), Refusal>, api: ApiKey, version: i16) -> Result<ErrorCode, Failure> {
    match outcome {
        Ok(()) => Ok(ErrorCode::None),
        Err(refusal) => code(refusal, api, version),
    }
}

/// The versions whose clients know PRODUCER_FENCED. Produce and TxnOffsetCommit never say it: clients die of it.
fn fenced(api: ApiKey, version: i16) -> ErrorCode {
    let known_from = match api {
        ApiKey::InitProducerId => 4,
        ApiKey::AddPartitionsToTxn | ApiKey::AddOffsetsToTxn | ApiKey::EndTxn => 2,
        ApiKey::PrepareTxn => 0,
        _ => return ErrorCode::InvalidProducerEpoch,
    };
    if version >= known_from { ErrorCode::ProducerFenced } else { ErrorCode::InvalidProducerEpoch }
}

/// The transaction cannot go on, but it can be aborted, and the producer then go on: TRANSACTION_ABORTABLE, in the
/// versions that have it (KIP-890, KIP-1050).
fn abortable(api: ApiKey, version: i16) -> ErrorCode {
    let known_from = match api {
        ApiKey::Produce => 11,
        ApiKey::TxnOffsetCommit | ApiKey::AddOffsetsToTxn | ApiKey::EndTxn => 4,
        _ => return ErrorCode::InvalidTxnState,
    };
    if version >= known_from { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState }
}

/// What a plain producer is to try again because of somebody else's transaction: the code that Kafka has for that from
/// Produce 12 on (KIP-890), and the one that it has before.
fn held(version: i16) -> ErrorCode {
    if version >= 12 { ErrorCode::ConcurrentTransactions } else { ErrorCode::NotEnoughReplicas }
}

/// A generation of a group that does not exist: GROUP_ID_NOT_FOUND, where the version has it (KIP-848).
fn group_not_found(api: ApiKey, version: i16) -> ErrorCode {
    match api {
        ApiKey::OffsetCommit if version < 9 => ErrorCode::IllegalGeneration,
        ApiKey::TxnOffsetCommit => ErrorCode::IllegalGeneration,
        _ => ErrorCode::GroupIdNotFound,
    }
}

/// A member commits with another epoch than its own: STALE_MEMBER_EPOCH, in the versions that members use (KIP-848).
fn stale_member_epoch(api: ApiKey, version: i16) -> ErrorCode {
    match api {
        ApiKey::OffsetCommit if version < 9 => ErrorCode::IllegalGeneration,
        _ => ErrorCode::StaleMemberEpoch,
    }
}

fn invalid_name(api: ApiKey) -> ErrorCode {
    match api {
        ApiKey::OffsetCommit | ApiKey::TxnOffsetCommit | ApiKey::JoinGroup => ErrorCode::InvalidGroupId,
        ApiKey::CreateTopics | ApiKey::Metadata => ErrorCode::InvalidTopicException,
        _ => ErrorCode::InvalidRequest,
    }
}

/// Whether a request names topics by id (KIP-516), so that an unknown one has its own code.
pub(super) fn names_topics_by_id(api: ApiKey, version: i16) -> bool {
    match api {
        ApiKey::Produce | ApiKey::Fetch => version >= 13,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => version >= 10,
        ApiKey::TxnOffsetCommit => version >= 6,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(refusal: Refusal, api: ApiKey, version: i16) -> ErrorCode {
        code(refusal, api, version).unwrap()
    }

    #[test]
    fn fencing_is_named_only_to_clients_that_know_the_word() {
        for (api, known_from) in [
            (ApiKey::InitProducerId, 4),
            (ApiKey::AddPartitionsToTxn, 2),
            (ApiKey::AddOffsetsToTxn, 2),
            (ApiKey::EndTxn, 2),
        ] {
            for version in api.versions().iter() {
                let expected = match version >= known_from {
                    true => ErrorCode::ProducerFenced,
                    false => ErrorCode::InvalidProducerEpoch,
                };
                assert_eq!(of(Refusal::Fenced, api, version), expected, "{api} {version}");
            }
        }
    }

    #[test]
    fn produce_and_offset_commits_never_say_producer_fenced() {
        for api in [ApiKey::Produce, ApiKey::TxnOffsetCommit] {
            for version in api.versions().iter() {
                assert_eq!(of(Refusal::Fenced, api, version), ErrorCode::InvalidProducerEpoch);
                assert_eq!(of(Refusal::StaleEpoch, api, version), ErrorCode::InvalidProducerEpoch);
            }
        }
    }

    #[test]
    fn an_append_that_is_not_enrolled_can_be_aborted_from_produce_11_on() {
        assert_eq!(of(Refusal::NotEnrolled, ApiKey::Produce, 10), ErrorCode::InvalidTxnState);
        assert_eq!(of(Refusal::NotEnrolled, ApiKey::Produce, 11), ErrorCode::TransactionAbortable);
        assert_eq!(of(Refusal::NotEnrolled, ApiKey::TxnOffsetCommit, 3), ErrorCode::InvalidTxnState);
        assert_eq!(of(Refusal::NotEnrolled, ApiKey::TxnOffsetCommit, 4), ErrorCode::TransactionAbortable);
        assert_eq!(
            of(Refusal::TransactionTooLarge, ApiKey::AddPartitionsToTxn, 5),
            ErrorCode::InvalidTxnState
        );
    }

    #[test]
    fn a_request_of_an_older_connection_closes_it() {
        assert!(matches!(code(Refusal::NotCoordinator, ApiKey::EndTxn, 5), Err(Failure::OlderConnection(_))));
    }

    #[test]
    fn duplicates_have_their_own_code() {
        assert_eq!(of(Refusal::DuplicateSequence, ApiKey::Produce, 9), ErrorCode::DuplicateSequenceNumber);
        assert_eq!(of(Refusal::OutOfOrderSequence, ApiKey::Produce, 9), ErrorCode::OutOfOrderSequenceNumber);
    }
}
