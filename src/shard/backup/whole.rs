//! Looks whether the transactions that a log ends are whole: the outcome and its markers are one decision, in one block.

use crate::core::{Event, MarkerWritten, Outcome};
use crate::types::{HashMap, HashSet, PartitionId, ProducerId, TopicId, TransactionalId, TxnNumber};
use std::collections::BTreeSet;

/// What is open as far as the log that was read tells. Bounded by what a log may have open at a time.
#[derive(Debug, Default)]
pub struct WholeTransactions {
    /// Where each open transaction is enrolled, if its beginning was seen.
    open: HashMap<TransactionalId, (TxnNumber, BTreeSet<PartitionId>)>,
    /// Ids of which it is known whether anything is open.
    seen: HashSet<TransactionalId>,
    /// Transactions that have ended.
    ended: u64,
}

/// An end, and what it owes.
struct End<'e> {
    id: &'e TransactionalId,
    number: TxnNumber,
    outcome: Outcome,
    /// Where a marker must be; none if the beginning was not seen.
    owed: Option<BTreeSet<PartitionId>>,
    paid: BTreeSet<PartitionId>,
    /// Whose markers they are.
    producer: Option<ProducerId>,
}

impl WholeTransactions {
    /// How many transactions have been seen to end.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Blocks are missing: what was open before them is not known any more.
    pub fn interrupted(&mut self) {
        self.open.clear();
        self.seen.clear();
    }

    /// The events of the next block, in order. Returns what is wrong with the transactions that end in it.
    pub fn block<'e>(&mut self, events: impl IntoIterator<Item = &'e Event>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut end: Option<End<'e>> = None;
        for event in events {
            match event {
                Event::MarkerWritten(marker) => match &mut end {
                    Some(end) => end.pay(marker, &mut problems),
                    None => problems.push(format!(
                        "a marker of producer {} in partition {} belongs to no end of a transaction",
                        marker.producer.id, marker.partition
                    )),
                },
                Event::TransactionEnded { transactional_id, number, outcome, .. } => {
                    self.close(end.take(), &mut problems);
                    end = Some(self.end(transactional_id, *number, *outcome));
                }
                other => {
                    self.close(end.take(), &mut problems);
                    self.other(other);
                }
            }
        }
        self.close(end, &mut problems);
        problems
    }

    fn end<'e>(&mut self, id: &'e TransactionalId, number: TxnNumber, outcome: Outcome) -> End<'e> {
        let known = self.seen.contains(id);
        let open = self.open.remove(id).filter(|(open, _)| *open == number).map(|(_, enrolled)| enrolled);
        // What is known and has nothing open is the end of an empty transaction.
        let owed = if known { Some(open.unwrap_or_default()) } else { None };
        self.seen.insert(id.clone());
        self.ended += 1;
        End { id, number, outcome, owed, paid: BTreeSet::new(), producer: None }
    }

    fn close(&self, end: Option<End<'_>>, problems: &mut Vec<String>) {
        let Some(End { id, number, owed: Some(owed), paid, .. }) = end else { return };
        if owed != paid {
            let name = |partitions: Vec<&PartitionId>| {
                let names: Vec<String> = partitions.into_iter().map(ToString::to_string).collect();
                names.join(", ")
            };
            problems.push(format!(
                "transaction {} of {id} is not whole: no marker in [{}], one too many in [{}]",
                number.0,
                name(owed.difference(&paid).collect()),
                name(paid.difference(&owed).collect()),
            ));
        }
    }

    /// What else says where transactions stand.
    fn other(&mut self, event: &Event) {
        match event {
            Event::ProducerInitialized { transactional_id, .. } => {
                self.open.remove(transactional_id);
                self.seen.insert(transactional_id.clone());
            }
            Event::PartitionsEnrolled { enrolment, partitions } => {
                self.enrolled(&enrolment.transactional_id, enrolment.number, partitions);
            }
            Event::GroupEnrolled { enrolment, .. } | Event::OffsetsStaged { enrolment, .. } => {
                self.enrolled(&enrolment.transactional_id, enrolment.number, &[]);
            }
            Event::TransactionalIdExpired { transactional_id } => {
                self.open.remove(transactional_id);
                self.seen.remove(transactional_id);
            }
            Event::TopicDeleted { id } => self.deleted(*id),
            _ => {}
        }
    }

    fn enrolled(&mut self, id: &TransactionalId, number: TxnNumber, partitions: &[PartitionId]) {
        if !self.seen.contains(id) {
            return;
        }
        let open = self.open.entry(id.clone()).or_insert_with(|| (number, BTreeSet::new()));
        if open.0 != number {
            *open = (number, BTreeSet::new());
        }
        open.1.extend(partitions.iter().copied());
    }

    /// To a deleted topic no marker is owed (X2).
    fn deleted(&mut self, topic: TopicId) {
        for (_, enrolled) in self.open.values_mut() {
            enrolled.retain(|partition| partition.topic != topic);
        }
    }
}

impl End<'_> {
    fn pay(&mut self, marker: &MarkerWritten, problems: &mut Vec<String>) {
        let producer = *self.producer.get_or_insert(marker.producer.id);
        let fits =
            marker.number == self.number && marker.outcome == self.outcome && marker.producer.id == producer;
        if !fits {
            problems.push(format!(
                "a marker in partition {} does not say what the end of transaction {} of {} says",
                marker.partition, self.number.0, self.id
            ));
        }
        if !self.paid.insert(marker.partition) {
            problems.push(format!("partition {} has its marker twice", marker.partition));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{EndReason, Enrolment, Identity, Totals};
    use crate::types::{Offset, PartitionIndex, ProducerEpoch, ServedTime, Timestamp};
    use std::time::Duration;

    const HOLDER: Identity = Identity { id: ProducerId(7), epoch: ProducerEpoch(1) };

    fn id() -> TransactionalId {
        TransactionalId::new("x").unwrap()
    }

    fn partition(index: i32) -> PartitionId {
        PartitionId::new(TopicId::NIL, PartitionIndex(index))
    }

    fn begun() -> Event {
        let timeout = Duration::from_secs(1);
        Event::ProducerInitialized { transactional_id: id(), holder: HOLDER, recoverable: None, timeout }
    }

    fn enrolled(number: u64, partitions: &[i32]) -> Event {
        let enrolment = Enrolment {
            transactional_id: id(),
            number: TxnNumber(number),
            began: Timestamp(1),
            deadline: ServedTime(9),
        };
        Event::PartitionsEnrolled {
            enrolment,
            partitions: partitions.iter().map(|p| partition(*p)).collect(),
        }
    }

    fn ended(number: u64, outcome: Outcome) -> Event {
        let (number, reason) = (TxnNumber(number), EndReason::Requested);
        Event::TransactionEnded { transactional_id: id(), number, outcome, reason, holder: HOLDER }
    }

    fn marker(number: u64, index: i32, outcome: Outcome) -> Event {
        Event::MarkerWritten(MarkerWritten {
            partition: partition(index),
            offset: Offset(4),
            before: Totals::default(),
            producer: HOLDER,
            number: TxnNumber(number),
            outcome,
            timestamp: Timestamp(1),
        })
    }

    fn problems(blocks: &[&[Event]]) -> usize {
        let mut whole = WholeTransactions::default();
        blocks.iter().map(|block| whole.block(*block).len()).sum()
    }

    #[test]
    fn a_transaction_is_whole_with_one_marker_of_its_outcome_in_each_enrolled_partition() {
        use Outcome::{Abort, Commit};
        let begin = [begun(), enrolled(1, &[0, 1])];
        let good = [ended(1, Commit), marker(1, 0, Commit), marker(1, 1, Commit)];
        assert_eq!(problems(&[&begin, &good]), 0);
        for (bad, how) in [
            (vec![ended(1, Commit), marker(1, 0, Commit)], "one is missing"),
            (vec![ended(1, Commit)], "all are missing"),
            (vec![ended(1, Commit), marker(1, 0, Commit), marker(1, 1, Abort)], "another outcome"),
            (vec![ended(1, Commit), marker(1, 0, Commit), marker(2, 1, Commit)], "another number"),
            (vec![marker(1, 0, Commit), marker(1, 1, Commit)], "no end"),
        ] {
            assert!(problems(&[&begin, &bad]) > 0, "{how}");
        }
        let twice = [ended(1, Commit), marker(1, 0, Commit), marker(1, 1, Commit), marker(1, 1, Commit)];
        assert_eq!(problems(&[&begin, &twice]), 1);
        // Not in one block.
        assert!(problems(&[&begin, &good[..2], &good[2..]]) > 0);
    }

    #[test]
    fn what_began_before_the_log_that_is_there_is_judged_by_what_is_there() {
        let late = [ended(3, Outcome::Abort), marker(3, 0, Outcome::Abort)];
        assert_eq!(problems(&[&late]), 0);
        assert_eq!(problems(&[&[ended(3, Outcome::Abort), marker(3, 0, Outcome::Commit)]]), 1);
        let next = [enrolled(4, &[0]), ended(4, Outcome::Commit)];
        assert_eq!(problems(&[&late, &next]), 1, "from its end on the id is known");
        let deleted =
            [enrolled(4, &[0]), Event::TopicDeleted { id: TopicId::NIL }, ended(4, Outcome::Commit)];
        assert_eq!(problems(&[&late, &deleted]), 0);
    }
}
