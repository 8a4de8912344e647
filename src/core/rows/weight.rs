//! About how much memory rows and their keys take beyond what every row does: what grows with what clients say. Cheap enough
//! to be asked for with every change.

use super::*;

/// An item of an ordered set or map: an id, an offset or the like, and its share of the tree, in bytes.
const ITEM: usize = 48;

impl RowKey {
    /// Bytes of the texts in it.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            RowKey::Transaction(id) | RowKey::KeyHolder(id) | RowKey::MoreEnrolled(id) => id.as_str().len(),
            RowKey::Enrolled(key) => key.transactional_id.as_str().len(),
            RowKey::Deadline(timer) => timer.weight(),
            RowKey::GroupOffset(key) => key.group.as_str().len(),
            RowKey::PendingOffset(key) => key.offset.group.as_str().len(),
            RowKey::Group(group)
            | RowKey::Members(group)
            | RowKey::Rebalance(group)
            | RowKey::ConsumerGroup(group)
            | RowKey::Consumers(group)
            | RowKey::Patterns(group)
            | RowKey::TopicsSeen(group) => group.as_str().len(),
            RowKey::Consumer(key) => key.weight(),
            RowKey::IdleTransactionalId(key) => key.transactional_id.as_str().len(),
            RowKey::Outcome(key) => key.transactional_id.as_str().len(),
            RowKey::Coordinator(key) => key.transactional_id.as_str().len(),
            RowKey::IdempotencyKey(key) => key.key.as_bytes().len(),
            RowKey::KeyEnd(key) => key.key.key.as_bytes().len(),
            _ => 0,
        }
    }
}

impl Timer {
    fn weight(&self) -> usize {
        match self {
            Timer::Transaction(id) => id.as_str().len(),
            Timer::Group(group) => group.as_str().len(),
            Timer::Member(key) | Timer::Revocation(key) => key.weight(),
        }
    }
}

impl MemberKey {
    /// Bytes of the texts in it.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.group.as_str().len() + self.member.as_str().len()
    }
}

impl RowValue {
    /// Bytes of what clients choose the number or the length of.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            RowValue::Topic(row) => {
                row.config.iter().map(|(name, value)| name.len() + value.len() + ITEM).sum()
            }
            RowValue::OpenTransactions(row) => row.by_first_offset.len() * ITEM,
            RowValue::Enrolled(row) => row.partitions.len() * ITEM,
            RowValue::Transaction(row) => row.state.open().map_or(0, Ongoing::weight),
            RowValue::GroupOffset(row) => row.metadata.len(),
            RowValue::PendingOffset(row) => row.committed.metadata.len(),
            RowValue::Members(row) => {
                row.members.values().map(|member| member.weight() + member.assignment.len() + ITEM).sum()
            }
            RowValue::Consumers(row) => (row.members.len() + row.instances.len()) * 2 * ITEM,
            RowValue::Consumer(row) => row.weight(),
            RowValue::Patterns(row) => {
                row.topics.iter().map(|(pattern, topics)| pattern.len() + (1 + topics.len()) * ITEM).sum()
            }
            _ => 0,
        }
    }
}

impl Ongoing {
    fn weight(&self) -> usize {
        let groups: usize = self.groups.iter().map(|group| group.as_str().len()).sum();
        groups + (self.partitions.len() + self.groups.len() + 2 * self.offsets.len()) * ITEM
    }
}

impl ConsumerRow {
    /// Bytes of what its client chooses the number or the length of.
    #[must_use]
    pub fn weight(&self) -> usize {
        let partitions = self.target.len() + self.held.assigned.len() + self.held.revoking.len();
        self.said.weight() + partitions * ITEM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_make_long_weighs() {
        let id = TransactionalId::new(&"x".repeat(1_000)).unwrap();
        assert_eq!(TransactionRow::key(&id).weight(), 1_000);
        let identity = Identity { id: ProducerId(1), epoch: ProducerEpoch(0) };
        let mut row = TransactionRow {
            holder: identity,
            recoverable: None,
            number: TxnNumber(1),
            timeout: Duration::ZERO,
            state: TransactionState::Empty,
            last_used: ServedTime(0),
        };
        assert_eq!(RowValue::from(row.clone()).weight(), 0);
        let partitions =
            (0..4_096).map(|index| PartitionId::new(TopicId::NIL, PartitionIndex(index))).collect();
        row.state = TransactionState::Ongoing(Ongoing { partitions, ..Ongoing::default() });
        assert!(RowValue::from(row).weight() >= 4_096 * size_of::<PartitionId>());
    }
}
