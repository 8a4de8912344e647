//! Who may do what. One table: whoever has proved who they are uses topics, groups and transactions; the principals in
//! `admins` administer: they create, grow, configure and delete topics and delete records. (The development set-up lists its
//! own client certificate among them.) Finer rules come later.

use crate::net::Authority;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Produce, fetch, look for offsets, describe topics and their configuration.
    UseTopics,
    /// Create a topic.
    CreateTopics,
    /// Delete a topic.
    DeleteTopics,
    /// Delete a topic's records.
    DeleteRecords,
    /// Give a topic more partitions.
    GrowTopics,
    /// Change a topic's configuration.
    AlterTopics,
    /// Initialise and use producer ids and transactional ids, commit offsets, see whose transactions are open.
    UseTransactions,
    /// Delete groups and their offsets.
    DeleteGroups,
    /// See the broker's own configuration.
    DescribeBroker,
    /// Have a backup taken: whoever reads it reads everybody's records.
    TakeBackups,
    /// What only brokers ask of one another: enrolment in the name of others.
    ActForCluster,
}

/// Whether somebody of this authority may do that.
pub(super) fn authorise(authority: Authority, operation: Operation) -> bool {
    match operation {
        Operation::UseTopics | Operation::UseTransactions | Operation::DescribeBroker => true,
        Operation::CreateTopics
        | Operation::DeleteTopics
        | Operation::DeleteRecords
        | Operation::GrowTopics
        | Operation::AlterTopics
        | Operation::DeleteGroups
        | Operation::TakeBackups
        | Operation::ActForCluster => authority == Authority::Admin,
    }
}

/// Kafka's numbers of the operations on a resource (`AclOperation`), each with what it stands for here.
const TOPIC_OPERATIONS: [(u32, Operation); 8] = [
    (3, Operation::UseTopics),    // READ
    (4, Operation::UseTopics),    // WRITE
    (5, Operation::CreateTopics), // CREATE
    (6, Operation::DeleteTopics), // DELETE
    (7, Operation::GrowTopics),   // ALTER
    (8, Operation::UseTopics),    // DESCRIBE
    (10, Operation::UseTopics),   // DESCRIBE_CONFIGS
    (11, Operation::AlterTopics), // ALTER_CONFIGS
];
const CLUSTER_OPERATIONS: [(u32, Operation); 7] = [
    (5, Operation::CreateTopics),     // CREATE
    (7, Operation::ActForCluster),    // ALTER
    (8, Operation::UseTopics),        // DESCRIBE
    (9, Operation::ActForCluster),    // CLUSTER_ACTION
    (10, Operation::DescribeBroker),  // DESCRIBE_CONFIGS
    (11, Operation::ActForCluster),   // ALTER_CONFIGS
    (12, Operation::UseTransactions), // IDEMPOTENT_WRITE
];

/// What may be done to a topic, as the bits of Metadata and DescribeTopicPartitions (KIP-430).
pub(super) fn topic_operations(authority: Authority) -> i32 {
    bits(authority, &TOPIC_OPERATIONS)
}

const GROUP_OPERATIONS: [(u32, Operation); 3] = [
    (3, Operation::UseTransactions), // READ
    (6, Operation::DeleteGroups),    // DELETE
    (8, Operation::UseTransactions), // DESCRIBE
];

/// What may be done to a group, as the bits of DescribeGroups.
pub(super) fn group_operations(authority: Authority) -> i32 {
    bits(authority, &GROUP_OPERATIONS)
}

/// What may be done to the cluster, as the bits of Metadata and DescribeCluster.
pub(super) fn cluster_operations(authority: Authority) -> i32 {
    bits(authority, &CLUSTER_OPERATIONS)
}

fn bits(authority: Authority, operations: &[(u32, Operation)]) -> i32 {
    let allowed = operations.iter().filter(|(_, operation)| authorise(authority, *operation));
    allowed.fold(0, |bits, (number, _)| bits | (1 << number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_do_to_a_topic_what_kafka_allows_without_an_authorizer() {
        assert_eq!(topic_operations(Authority::Admin), 0b1101_1111_1000);
        assert_eq!(topic_operations(Authority::User), 0b0101_0001_1000);
    }

    #[test]
    fn only_admins_act_for_the_cluster() {
        assert!(authorise(Authority::Admin, Operation::ActForCluster));
        assert!(!authorise(Authority::User, Operation::ActForCluster));
    }
}
