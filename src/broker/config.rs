//! What people may set.

use super::limits::GROUPS_LISTED_BYTES_MAX;
use crate::core::Protocol;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A host and a port under which clients reach this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host name or address, as clients shall use it: the server's certificate must cover it.
    pub host: String,
    /// The port, for TCP and UDP.
    pub port: u16,
}

/// The broker's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Where Metadata and FindCoordinator send clients, unless [`Broker::advertise`](super::Broker::advertise) says
    /// otherwise later (a listener on port 0 learns its port when it is bound).
    pub advertised: Endpoint,
    /// Whether a topic comes into being when any client first asks for it (Kafka's `auto.create.topics.enable`); otherwise
    /// administrators alone create topics.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say how many (Kafka's `num.partitions`).
    pub partitions_default: u32,
    /// The longest transaction timeout that a producer may ask for (Kafka's `transaction.max.timeout.ms`).
    pub transaction_timeout_max: Duration,
    /// The session timeouts that members of groups may ask for (Kafka's `group.min.session.timeout.ms` and
    /// `group.max.session.timeout.ms`).
    pub group_session_timeout: RangeInclusive<Duration>,
    /// The longest that a rebalance waits for a member, whatever it asks for: requests wait as long.
    pub group_rebalance_timeout_max: Duration,
    /// How long an empty group waits for more members than the first (Kafka's `group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay: Duration,
    /// How long a member of a group of the consumer protocol may be silent (Kafka's `group.consumer.session.timeout.ms`).
    pub consumer_session_timeout: Duration,
    /// How often such a member is to be heard of (Kafka's `group.consumer.heartbeat.interval.ms`).
    pub consumer_heartbeat_interval: Duration,
    /// What one decision about a group may take of the log, in bytes: a block's length, as no decision is split.
    pub decision_bytes_max: usize,
    /// What one answer to ListGroups may take, in bytes; more groups than that are not listed at once.
    pub groups_listed_bytes_max: usize,
    /// The oldest version of the transaction protocol that is served: in version 1 nothing in a request tells a delayed one
    /// from a new one (`spec/transactions.md`, E10).
    pub transactions_min: Protocol,
    /// Whether transactions may be prepared (Kafka's `transaction.two.phase.commit.enable`).
    pub two_phase_commit: bool,
}

impl BrokerConfig {
    /// Kafka's defaults, but that topics are created by administrators, and that a few members of a group are served at
    /// once.
    #[must_use]
    pub fn new(advertised: Endpoint) -> BrokerConfig {
        BrokerConfig {
            advertised,
            auto_create_topics: false,
            partitions_default: 1,
            transaction_timeout_max: Duration::from_secs(15 * 60),
            group_session_timeout: Duration::from_secs(1)..=Duration::from_secs(30 * 60),
            group_rebalance_timeout_max: Duration::from_secs(60 * 60),
            group_initial_rebalance_delay: Duration::from_millis(100),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            decision_bytes_max: 1 << 20,
            groups_listed_bytes_max: GROUPS_LISTED_BYTES_MAX,
            transactions_min: Protocol::V1,
            two_phase_commit: false,
        }
    }
}
