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
    -1 fatal UnknownServerError "UNKNOWN_SERVER_ERROR" "The broker failed in a way that it did not foresee.";
    0 fatal None "NONE" "No error.";
    1 fatal OffsetOutOfRange "OFFSET_OUT_OF_RANGE" "The offset lies outside what the partition holds.";
    2 retriable CorruptMessage "CORRUPT_MESSAGE" "The records are damaged: wrong checksum, wrong size, or a key missing in a compacted topic.";
    3 retriable UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" "This broker has no such topic or partition.";
    4 fatal InvalidFetchSize "INVALID_FETCH_SIZE" "The fetch size is impossible.";
    5 retriable LeaderNotAvailable "LEADER_NOT_AVAILABLE" "The partition is between leaders.";
    6 retriable NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" "Another broker leads this partition, or none of its replicas is here.";
    7 retriable RequestTimedOut "REQUEST_TIMED_OUT" "The request was not completed in its time.";
    8 fatal BrokerNotAvailable "BROKER_NOT_AVAILABLE" "The broker is not there.";
    9 retriable ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" "The replica is not there.";
    10 fatal MessageTooLarge "MESSAGE_TOO_LARGE" "A record batch is larger than the broker takes.";
    11 fatal StaleControllerEpoch "STALE_CONTROLLER_EPOCH" "Another controller has taken over.";
    12 fatal OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" "The metadata beside an offset is too long.";
    13 retriable NetworkException "NETWORK_EXCEPTION" "The connection ended before the answer came.";
    14 retriable CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" "The coordinator is still loading its state.";
    15 retriable CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" "There is no coordinator yet.";
    16 retriable NotCoordinator "NOT_COORDINATOR" "Another broker is the coordinator.";
    17 fatal InvalidTopicException "INVALID_TOPIC_EXCEPTION" "The topic's name is invalid, or the topic is internal.";
    18 fatal RecordListTooLarge "RECORD_LIST_TOO_LARGE" "The records are larger than a segment.";
    19 retriable NotEnoughReplicas "NOT_ENOUGH_REPLICAS" "Too few replicas are in sync to accept the records.";
    20 retriable NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" "The records are written, but to fewer replicas than required.";
    21 fatal InvalidRequiredAcks "INVALID_REQUIRED_ACKS" "The number of acknowledgements asked for does not exist.";
    22 fatal IllegalGeneration "ILLEGAL_GENERATION" "The member belongs to another generation of the group.";
    23 fatal InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" "The members of the group share no protocol.";
    24 fatal InvalidGroupId "INVALID_GROUP_ID" "The group's name is invalid.";
    25 fatal UnknownMemberId "UNKNOWN_MEMBER_ID" "The group has no such member.";
    26 fatal InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" "The session timeout is outside the allowed range.";
    27 fatal RebalanceInProgress "REBALANCE_IN_PROGRESS" "The group is rebalancing: join again.";
    28 fatal InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" "The offsets to be committed are too large.";
    29 fatal TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" "Not allowed on this topic.";
    30 fatal GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" "Not allowed on this group.";
    31 fatal ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" "Not allowed on this cluster.";
    32 fatal InvalidTimestamp "INVALID_TIMESTAMP" "A record's timestamp is out of range.";
    33 fatal UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" "The SASL mechanism is not supported.";
    34 fatal IllegalSaslState "ILLEGAL_SASL_STATE" "The request does not fit the state of authentication.";
    35 fatal UnsupportedVersion "UNSUPPORTED_VERSION" "This version of the request is not supported.";
    36 fatal TopicAlreadyExists "TOPIC_ALREADY_EXISTS" "There already is a topic of this name.";
    37 fatal InvalidPartitions "INVALID_PARTITIONS" "The number of partitions is impossible.";
    38 fatal InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" "The replication factor is below one or above the number of brokers.";
    39 fatal InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" "The assignment of replicas is impossible.";
    40 fatal InvalidConfig "INVALID_CONFIG" "A configuration is unknown or its value invalid.";
    41 retriable NotController "NOT_CONTROLLER" "Another broker is the controller.";
    42 fatal InvalidRequest "INVALID_REQUEST" "The request makes no sense.";
    43 fatal UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" "The stored message format does not support this request.";
    44 fatal PolicyViolation "POLICY_VIOLATION" "The request breaks a rule of this cluster.";
    45 fatal OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" "The batch's sequence does not follow the producer's last one.";
    46 fatal DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" "The batch was stored before; its offset is no longer known.";
    47 fatal InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" "The producer's epoch is old: a newer producer has taken over.";
    48 fatal InvalidTxnState "INVALID_TXN_STATE" "The transaction is not in a state that allows this.";
    49 fatal InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" "The producer id does not belong to the transactional id.";
    50 fatal InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" "The transaction timeout is larger than the broker allows.";
    51 retriable ConcurrentTransactions "CONCURRENT_TRANSACTIONS" "The previous step of this transaction is not completed yet.";
    52 fatal TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" "A newer transaction coordinator has taken over.";
    53 fatal TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" "Not allowed for this transactional id.";
    54 fatal SecurityDisabled "SECURITY_DISABLED" "Security is not configured here.";
    55 fatal OperationNotAttempted "OPERATION_NOT_ATTEMPTED" "Not tried, because another part of the request failed.";
    56 retriable KafkaStorageError "KAFKA_STORAGE_ERROR" "The broker cannot use its disk.";
    57 fatal LogDirNotFound "LOG_DIR_NOT_FOUND" "The log directory does not exist.";
    58 fatal SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" "Authentication failed.";
    59 fatal UnknownProducerId "UNKNOWN_PRODUCER_ID" "The broker knows nothing of this producer id.";
    60 fatal ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" "The partition is being reassigned.";
    61 fatal DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" "Delegation tokens are not in use.";
    62 fatal DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" "There is no such delegation token.";
    63 fatal DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" "The delegation token belongs to somebody else.";
    64 fatal DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" "Delegation tokens cannot be asked for over this connection.";
    65 fatal DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" "Not allowed for this delegation token.";
    66 fatal DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" "The delegation token has expired.";
    67 fatal InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" "This kind of principal is not supported.";
    68 fatal NonEmptyGroup "NON_EMPTY_GROUP" "The group still has members.";
    69 fatal GroupIdNotFound "GROUP_ID_NOT_FOUND" "There is no such group.";
    70 retriable FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" "There is no such fetch session: start a full one.";
    71 retriable InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" "The fetch session's epoch is not the next one: start a full one.";
    72 retriable ListenerNotFound "LISTENER_NOT_FOUND" "The leader has no listener of the name that was used.";
    73 fatal TopicDeletionDisabled "TOPIC_DELETION_DISABLED" "Topics cannot be deleted here.";
    74 retriable FencedLeaderEpoch "FENCED_LEADER_EPOCH" "The leader epoch in the request is older than the broker's.";
    75 retriable UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" "The leader epoch in the request is newer than the broker's.";
    76 fatal UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" "The client's version cannot carry records compressed this way.";
    77 fatal StaleBrokerEpoch "STALE_BROKER_EPOCH" "The broker has been registered anew.";
    78 retriable OffsetNotAvailable "OFFSET_NOT_AVAILABLE" "The new leader does not know its high watermark yet.";
    79 fatal MemberIdRequired "MEMBER_ID_REQUIRED" "Join again with the member id that this answer gives.";
    80 retriable PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" "The preferred leader is not there.";
    81 fatal GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" "The group is full.";
    82 fatal FencedInstanceId "FENCED_INSTANCE_ID" "Another member has joined with this static instance id.";
    83 retriable EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" "No replica may become leader.";
    84 retriable ElectionNotNeeded "ELECTION_NOT_NEEDED" "The partition's leader is the right one already.";
    85 fatal NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" "The partition is not being reassigned.";
    86 fatal GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" "The group is subscribed to the topic.";
    87 fatal InvalidRecord "INVALID_RECORD" "A record or batch breaks the format's rules.";
    88 retriable UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" "A transaction holds pending offsets: ask again when it has ended.";
    89 retriable ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" "A quota is used up: slow down.";
    90 fatal ProducerFenced "PRODUCER_FENCED" "A newer producer with this transactional id has taken over.";
    91 fatal ResourceNotFound "RESOURCE_NOT_FOUND" "There is no such resource.";
    92 fatal DuplicateResource "DUPLICATE_RESOURCE" "The request names one resource twice.";
    93 fatal UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" "The credential does not meet the rules.";
    94 fatal InconsistentVoterSet "INCONSISTENT_VOTER_SET" "Not one of the expected voters.";
    95 fatal InvalidUpdateVersion "INVALID_UPDATE_VERSION" "The update's version is impossible.";
    96 fatal FeatureUpdateFailed "FEATURE_UPDATE_FAILED" "The features could not be updated.";
    97 fatal PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" "The forwarded principal cannot be read.";
    98 fatal SnapshotNotFound "SNAPSHOT_NOT_FOUND" "There is no such snapshot.";
    99 fatal PositionOutOfRange "POSITION_OUT_OF_RANGE" "The position lies outside the snapshot.";
    100 retriable UnknownTopicId "UNKNOWN_TOPIC_ID" "This broker has no topic with this id.";
    101 fatal DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" "Another broker has this id.";
    102 fatal BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" "No broker with this id is registered.";
    103 retriable InconsistentTopicId "INCONSISTENT_TOPIC_ID" "The topic's id is not the one in the log.";
    104 fatal InconsistentClusterId "INCONSISTENT_CLUSTER_ID" "The cluster's id is not the one in the request.";
    105 fatal TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" "There is no such transactional id.";
    106 retriable FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" "The fetch session mixes topic ids and names.";
    107 fatal IneligibleReplica "INELIGIBLE_REPLICA" "A replica may not be part of the in-sync set.";
    108 fatal NewLeaderElected "NEW_LEADER_ELECTED" "The change was made, but there is a new leader.";
    109 fatal OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" "The offset is in tiered storage now.";
    110 fatal FencedMemberEpoch "FENCED_MEMBER_EPOCH" "The member's epoch is old: give up all partitions and join again.";
    111 fatal UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" "The static instance id is still in use.";
    112 fatal UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" "The assignor is not supported.";
    113 fatal StaleMemberEpoch "STALE_MEMBER_EPOCH" "The member's epoch is old: ask again after the next heartbeat.";
    114 fatal MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" "The request came to the wrong kind of endpoint.";
    115 fatal UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" "This kind of endpoint is not supported.";
    116 fatal UnknownControllerId "UNKNOWN_CONTROLLER_ID" "There is no such controller.";
    117 fatal UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" "The telemetry subscription is unknown or old.";
    118 fatal TelemetryTooLarge "TELEMETRY_TOO_LARGE" "The telemetry is larger than the broker takes.";
    119 fatal InvalidRegistration "INVALID_REGISTRATION" "The registration is invalid.";
    120 fatal TransactionAbortable "TRANSACTION_ABORTABLE" "The transaction cannot go on: abort it, and begin another.";
    121 fatal InvalidRecordState "INVALID_RECORD_STATE" "The delivery's state does not allow this acknowledgement.";
    122 retriable ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" "There is no such share session.";
    123 retriable InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" "The share session's epoch is not the next one.";
    124 fatal FencedStateEpoch "FENCED_STATE_EPOCH" "The state's epoch is old.";
    125 fatal InvalidVoterKey "INVALID_VOTER_KEY" "The voter's key is not this replica's.";
    126 fatal DuplicateVoter "DUPLICATE_VOTER" "There already is such a voter.";
    127 fatal VoterNotFound "VOTER_NOT_FOUND" "There is no such voter.";
    128 fatal InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" "The regular expression is invalid.";
    129 fatal RebootstrapRequired "REBOOTSTRAP_REQUIRED" "The client's metadata is too old: bootstrap again.";
    130 fatal StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" "The streams topology is invalid.";
    131 fatal StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" "The streams topology's epoch is invalid.";
    132 fatal StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" "The streams topology's epoch is old.";
    133 retriable ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" "There are too many share sessions.";
    134 fatal GroupDeletionFailed "GROUP_DELETION_FAILED" "A group could not be deleted; its own message says why.";
    135 fatal StreamsTopologyDescriptionUpdateFailed "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED" "The streams topology's description could not be updated.";
    136 fatal ControllerIdNotRegistered "CONTROLLER_ID_NOT_REGISTERED" "No controller with this id is registered.";
}
