//! The protocol's error codes.

use std::fmt;

/// Declares the codes: number, retriable or fatal, variant, name in the protocol, meaning.
macro_rules! error_codes {
    ($($number:literal $class:ident $variant:ident $name:literal $meaning:literal;)*) => {
        /// An error code of the protocol (Kafka's numbers and names). Every 16-bit number is one: those that semel does
        /// not know, from a newer peer, are [`ErrorCode::Unknown`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant,)*
            /// A number that is none of the above.
            Unknown(i16),
        }

        impl ErrorCode {
            /// Every known code, by number.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),*];

            /// The name in the protocol, such as `NOT_LEADER_OR_FOLLOWER`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                    ErrorCode::Unknown(_) => "UNKNOWN",
                }
            }

            /// What it means, in a few words.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $meaning,)*
                    ErrorCode::Unknown(_) => "An error code that this version does not know.",
                }
            }

            /// Whether the same request may succeed when it is sent again.
            #[must_use]
            pub const fn retriable(self) -> bool {
                match self {
                    $(ErrorCode::$variant => class!($class),)*
                    ErrorCode::Unknown(_) => false,
                }
            }
        }

        impl From<i16> for ErrorCode {
            fn from(number: i16) -> ErrorCode {
                match number {
                    $($number => ErrorCode::$variant,)*
                    unknown => ErrorCode::Unknown(unknown),
                }
            }
        }

        impl From<ErrorCode> for i16 {
            fn from(code: ErrorCode) -> i16 {
                match code {
                    $(ErrorCode::$variant => $number,)*
                    ErrorCode::Unknown(number) => number,
                }
            }
        }
    };
}

macro_rules! class {
    (retriable) => {
        true
    };
    (fatal) => {
        false
    };
}

#[expect(clippy::derivable_impls, reason = "the variants come from a table, which cannot mark one")]
impl Default for ErrorCode {
    fn default() -> ErrorCode {
        ErrorCode::None
    }
}

impl ErrorCode {
    /// Whether there is no error.
    #[must_use]
    pub const fn is_none(self) -> bool {
        matches!(self, ErrorCode::None)
    }

    /// This as a result: `Ok` where there is no error.
    pub const fn ok(self) -> Result<(), ErrorCode> {
        if self.is_none() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorCode::Unknown(number) => write!(f, "unknown error code {number}"),
            known => write!(f, "{} ({})", known.name(), i16::from(*known)),
        }
    }
}

impl std::error::Error for ErrorCode {}

error_codes! {
    -1 fatal UnknownServerError "UNKNOWN_SERVER_ERROR" "Unknown server error.";
    0 fatal None "NONE" "None.";
    1 fatal OffsetOutOfRange "OFFSET_OUT_OF_RANGE" "Offset out of range.";
    2 retriable CorruptMessage "CORRUPT_MESSAGE" "Corrupt message.";
    3 retriable UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" "Unknown topic or partition.";
    4 fatal InvalidFetchSize "INVALID_FETCH_SIZE" "Invalid fetch size.";
    5 retriable LeaderNotAvailable "LEADER_NOT_AVAILABLE" "Leader not available.";
    6 retriable NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" "Not leader or follower.";
    7 retriable RequestTimedOut "REQUEST_TIMED_OUT" "Request timed out.";
    8 fatal BrokerNotAvailable "BROKER_NOT_AVAILABLE" "Broker not available.";
    9 retriable ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" "Replica not available.";
    10 fatal MessageTooLarge "MESSAGE_TOO_LARGE" "Message too large.";
    11 fatal StaleControllerEpoch "STALE_CONTROLLER_EPOCH" "Stale controller epoch.";
    12 fatal OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" "Offset metadata too large.";
    13 retriable NetworkException "NETWORK_EXCEPTION" "Network exception.";
    14 retriable CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" "Coordinator load in progress.";
    15 retriable CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" "Coordinator not available.";
    16 retriable NotCoordinator "NOT_COORDINATOR" "Not coordinator.";
    17 fatal InvalidTopicException "INVALID_TOPIC_EXCEPTION" "Invalid topic exception.";
    18 fatal RecordListTooLarge "RECORD_LIST_TOO_LARGE" "Record list too large.";
    19 retriable NotEnoughReplicas "NOT_ENOUGH_REPLICAS" "Not enough replicas.";
    20 retriable NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" "Not enough replicas after append.";
    21 fatal InvalidRequiredAcks "INVALID_REQUIRED_ACKS" "Invalid required acks.";
    22 fatal IllegalGeneration "ILLEGAL_GENERATION" "Illegal generation.";
    23 fatal InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" "Inconsistent group protocol.";
    24 fatal InvalidGroupId "INVALID_GROUP_ID" "Invalid group id.";
    25 fatal UnknownMemberId "UNKNOWN_MEMBER_ID" "Unknown member id.";
    26 fatal InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" "Invalid session timeout.";
    27 fatal RebalanceInProgress "REBALANCE_IN_PROGRESS" "Rebalance in progress.";
    28 fatal InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" "Invalid commit offset size.";
    29 fatal TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" "Topic authorization failed.";
    30 fatal GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" "Group authorization failed.";
    31 fatal ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" "Cluster authorization failed.";
    32 fatal InvalidTimestamp "INVALID_TIMESTAMP" "Invalid timestamp.";
    33 fatal UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" "Unsupported sasl mechanism.";
    34 fatal IllegalSaslState "ILLEGAL_SASL_STATE" "Illegal sasl state.";
    35 fatal UnsupportedVersion "UNSUPPORTED_VERSION" "Unsupported version.";
    36 fatal TopicAlreadyExists "TOPIC_ALREADY_EXISTS" "Topic already exists.";
    37 fatal InvalidPartitions "INVALID_PARTITIONS" "Invalid partitions.";
    38 fatal InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" "Invalid replication factor.";
    39 fatal InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" "Invalid replica assignment.";
    40 fatal InvalidConfig "INVALID_CONFIG" "Invalid config.";
    41 retriable NotController "NOT_CONTROLLER" "Not controller.";
    42 fatal InvalidRequest "INVALID_REQUEST" "Invalid request.";
    43 fatal UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" "Unsupported for message format.";
    44 fatal PolicyViolation "POLICY_VIOLATION" "Policy violation.";
    45 fatal OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" "Out of order sequence number.";
    46 fatal DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" "Duplicate sequence number.";
    47 fatal InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" "Invalid producer epoch.";
    48 fatal InvalidTxnState "INVALID_TXN_STATE" "Invalid txn state.";
    49 fatal InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" "Invalid producer id mapping.";
    50 fatal InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" "Invalid transaction timeout.";
    51 retriable ConcurrentTransactions "CONCURRENT_TRANSACTIONS" "Concurrent transactions.";
    52 fatal TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" "Transaction coordinator fenced.";
    53 fatal TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" "Transactional id authorization failed.";
    54 fatal SecurityDisabled "SECURITY_DISABLED" "Security disabled.";
    55 fatal OperationNotAttempted "OPERATION_NOT_ATTEMPTED" "Operation not attempted.";
    56 retriable KafkaStorageError "KAFKA_STORAGE_ERROR" "Kafka storage error.";
    57 fatal LogDirNotFound "LOG_DIR_NOT_FOUND" "Log dir not found.";
    58 fatal SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" "Sasl authentication failed.";
    59 fatal UnknownProducerId "UNKNOWN_PRODUCER_ID" "Unknown producer id.";
    60 fatal ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" "Reassignment in progress.";
    61 fatal DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" "Delegation token auth disabled.";
    62 fatal DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" "Delegation token not found.";
    63 fatal DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" "Delegation token owner mismatch.";
    64 fatal DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" "Delegation token request not allowed.";
    65 fatal DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" "Delegation token authorization failed.";
    66 fatal DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" "Delegation token expired.";
    67 fatal InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" "Invalid principal type.";
    68 fatal NonEmptyGroup "NON_EMPTY_GROUP" "Non empty group.";
    69 fatal GroupIdNotFound "GROUP_ID_NOT_FOUND" "Group id not found.";
    70 retriable FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" "Fetch session id not found.";
    71 retriable InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" "Invalid fetch session epoch.";
    72 retriable ListenerNotFound "LISTENER_NOT_FOUND" "Listener not found.";
    73 fatal TopicDeletionDisabled "TOPIC_DELETION_DISABLED" "Topic deletion disabled.";
    74 retriable FencedLeaderEpoch "FENCED_LEADER_EPOCH" "Fenced leader epoch.";
    75 retriable UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" "Unknown leader epoch.";
    76 fatal UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" "Unsupported compression type.";
    77 fatal StaleBrokerEpoch "STALE_BROKER_EPOCH" "Stale broker epoch.";
    78 retriable OffsetNotAvailable "OFFSET_NOT_AVAILABLE" "Offset not available.";
    79 fatal MemberIdRequired "MEMBER_ID_REQUIRED" "Member id required.";
    80 retriable PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" "Preferred leader not available.";
    81 fatal GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" "Group max size reached.";
    82 fatal FencedInstanceId "FENCED_INSTANCE_ID" "Fenced instance id.";
    83 retriable EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" "Eligible leaders not available.";
    84 retriable ElectionNotNeeded "ELECTION_NOT_NEEDED" "Election not needed.";
    85 fatal NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" "No reassignment in progress.";
    86 fatal GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" "Group subscribed to topic.";
    87 fatal InvalidRecord "INVALID_RECORD" "Invalid record.";
    88 retriable UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" "Unstable offset commit.";
    89 retriable ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" "Throttling quota exceeded.";
    90 fatal ProducerFenced "PRODUCER_FENCED" "Producer fenced.";
    91 fatal ResourceNotFound "RESOURCE_NOT_FOUND" "Resource not found.";
    92 fatal DuplicateResource "DUPLICATE_RESOURCE" "Duplicate resource.";
    93 fatal UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" "Unacceptable credential.";
    94 fatal InconsistentVoterSet "INCONSISTENT_VOTER_SET" "Inconsistent voter set.";
    95 fatal InvalidUpdateVersion "INVALID_UPDATE_VERSION" "Invalid update version.";
    96 fatal FeatureUpdateFailed "FEATURE_UPDATE_FAILED" "Feature update failed.";
    97 fatal PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" "Principal deserialization failure.";
    98 fatal SnapshotNotFound "SNAPSHOT_NOT_FOUND" "Snapshot not found.";
    99 fatal PositionOutOfRange "POSITION_OUT_OF_RANGE" "Position out of range.";
    100 retriable UnknownTopicId "UNKNOWN_TOPIC_ID" "Unknown topic id.";
    101 fatal DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" "Duplicate broker registration.";
    102 fatal BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" "Broker id not registered.";
    103 retriable InconsistentTopicId "INCONSISTENT_TOPIC_ID" "Inconsistent topic id.";
    104 fatal InconsistentClusterId "INCONSISTENT_CLUSTER_ID" "Inconsistent cluster id.";
    105 fatal TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" "Transactional id not found.";
    106 retriable FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" "Fetch session topic id error.";
    107 fatal IneligibleReplica "INELIGIBLE_REPLICA" "Ineligible replica.";
    108 fatal NewLeaderElected "NEW_LEADER_ELECTED" "New leader elected.";
    109 fatal OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" "Offset moved to tiered storage.";
    110 fatal FencedMemberEpoch "FENCED_MEMBER_EPOCH" "Fenced member epoch.";
    111 fatal UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" "Unreleased instance id.";
    112 fatal UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" "Unsupported assignor.";
    113 fatal StaleMemberEpoch "STALE_MEMBER_EPOCH" "Stale member epoch.";
    114 fatal MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" "Mismatched endpoint type.";
    115 fatal UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" "Unsupported endpoint type.";
    116 fatal UnknownControllerId "UNKNOWN_CONTROLLER_ID" "Unknown controller id.";
    117 fatal UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" "Unknown subscription id.";
    118 fatal TelemetryTooLarge "TELEMETRY_TOO_LARGE" "Telemetry too large.";
    119 fatal InvalidRegistration "INVALID_REGISTRATION" "Invalid registration.";
    120 fatal TransactionAbortable "TRANSACTION_ABORTABLE" "Transaction abortable.";
    121 fatal InvalidRecordState "INVALID_RECORD_STATE" "Invalid record state.";
    122 retriable ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" "Share session not found.";
    123 retriable InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" "Invalid share session epoch.";
    124 fatal FencedStateEpoch "FENCED_STATE_EPOCH" "Fenced state epoch.";
    125 fatal InvalidVoterKey "INVALID_VOTER_KEY" "Invalid voter key.";
    126 fatal DuplicateVoter "DUPLICATE_VOTER" "Duplicate voter.";
    127 fatal VoterNotFound "VOTER_NOT_FOUND" "Voter not found.";
    128 fatal InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" "Invalid regular expression.";
    129 fatal RebootstrapRequired "REBOOTSTRAP_REQUIRED" "Rebootstrap required.";
    130 fatal StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" "Streams invalid topology.";
    131 fatal StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" "Streams invalid topology epoch.";
    132 fatal StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" "Streams topology fenced.";
    133 retriable ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" "Share session limit reached.";
    134 fatal GroupDeletionFailed "GROUP_DELETION_FAILED" "Group deletion failed.";
    135 fatal StreamsTopologyDescriptionUpdateFailed "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED" "Streams topology description update failed.";
    136 fatal ControllerIdNotRegistered "CONTROLLER_ID_NOT_REGISTERED" "Controller id not registered.";
}
