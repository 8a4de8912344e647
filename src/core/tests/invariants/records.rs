//! Of partitions, and of what they remember of producers.

use super::*;

pub(super) const PLANTS: &[Plant] = &[
    ("a partition's epoch of a producer never goes back", |step, broken| {
        step.changes(&producer(1), remembers(4, None, None), remembers(pick(broken, 3, 5), None, None));
    }),
    ("an epoch that was fenced appends nothing", |step, broken| {
        step.found(&producer(1), remembers(4, None, None));
        step.states(batch(10, pick(broken, 3, 4), 0, None));
    }),
    ("a batch follows the one before, or begins its epoch", |step, broken| {
        step.found(&producer(1), remembers(4, Some((8, 6)), None));
        step.states(batch(10, 4, pick(broken, 9, 8), None));
    }),
    ("a batch follows the one before, or begins its epoch", |step, broken| {
        step.found(&producer(1), remembers(4, Some((8, 6)), None));
        step.states(batch(10, 5, pick(broken, 8, 0), None));
    }),
    ("a batch follows the one before, or begins its epoch", |step, broken| {
        let ids_from = ProducerId(pick(broken, 2, 1));
        step.found(&(), RestoredRow { restore: Uuid::nil(), ids_from, leader_epoch: LeaderEpoch(1) });
        step.states(batch(10, 4, 8, None));
    }),
    ("a partition remembers the newest five batches of a producer (A11)", |step, broken| {
        step.states(batch(10, 4, 8, None));
        let mut row = remembers(4, Some((8, 6)), None);
        row.batches.extend(remembers(4, Some((10, 8)), None).batches);
        row.batches.drain(..usize::from(broken));
        step.changes(&producer(1), remembers(4, Some((8, 6)), None), row);
    }),
    ("what an epoch has stored is counted (A9)", |step, broken| {
        step.states(batch(10, 4, 8, None));
        let mut row = remembers(4, Some((10, 8)), None);
        row.stored_in_epoch = pick(broken, 5, 4);
        step.changes(&producer(1), remembers(4, Some((8, 6)), None), row);
    }),
    ("who has something open in a partition is not forgotten there (A12)", |step, broken| {
        step.found(&partition(0), log(10, None));
        step.removes(&producer(1), remembers(4, None, broken.then_some((3, 8))));
    }),
    ("who is forgotten in a partition was idle (A12)", |step, broken| {
        let key = IdleProducerKey { span: IdleSpan(0), producer: producer(1) };
        let idle = Duration::from_millis(pick(broken, 1_000, 999));
        step.command = Command::ExpireProducer(ExpireProducer { key, idle });
        step.removes(&producer(1), remembers(4, None, None));
    }),
    ("offsets follow one another and are never reused", |step, broken| {
        step.states(batch(pick(broken, 9, 10), 4, 8, None));
        step.changes(&partition(0), log(10, None), log(pick(broken, 11, 12), None));
    }),
    ("offsets follow one another and are never reused", |step, broken| {
        step.states(batch(10, 4, 8, None));
        step.changes(&partition(0), log(10, None), log(pick(broken, 11, 12), None));
    }),
    ("a partition's totals are those of its batches", |step, broken| {
        step.states(batch(10, 4, 8, None));
        let totals = Totals { bytes: pick(broken, 500, 600), newest: Timestamp(6) };
        step.changes(&partition(0), log(10, None), PartitionRow { totals, ..log(12, None) });
    }),
    ("what a producer has open is among the partition's open transactions", |step, broken| {
        opens(step, remembers(4, None, Some((3, 10))), pick(broken, None, Some(10)));
    }),
    ("what a producer has open is among the partition's open transactions", |step, broken| {
        let mut listed = listed(Some(10));
        step.found(&partition(0), log(12, Some(10)));
        step.found(&partition(0), listed.clone());
        step.found(&producer(1), remembers(4, None, broken.then_some((3, 10))));
        listed.by_first_offset.clear();
        step.leaves(&partition(0), listed);
    }),
    ("what is among a partition's open transactions is open", |step, broken| {
        opens(step, remembers(4, None, pick(broken, None, Some((3, 10)))), Some(10));
    }),
    ("what is among a partition's open transactions is open", |step, broken| {
        step.found(&partition(0), pick(broken, listed(Some(10)), listed(None)));
        step.changes(&producer(1), remembers(4, None, Some((3, 10))), remembers(4, None, None));
    }),
    ("open transactions beyond a partition's row are a list, oldest first", |step, broken| {
        let queue = |newest, length| OpenQueueRow {
            oldest: ProducerId(1),
            first: Offset(10),
            newest: ProducerId(newest),
            length,
        };
        let of = |first, before: bool, after: bool| QueuedRow {
            first: Offset(first),
            number: TxnNumber(3),
            before: before.then_some(ProducerId(1)),
            after: after.then_some(ProducerId(2)),
        };
        step.changes(&producer(1), of(10, false, false), of(10, false, true));
        step.leaves(&producer(2), of(pick(broken, 9, 12), true, false));
        step.changes(&partition(0), queue(1, 1), queue(2, 2));
    }),
    ("open transactions beyond a partition's row are a list, oldest first", |step, broken| {
        let queue =
            |length| OpenQueueRow { oldest: ProducerId(1), first: Offset(10), newest: ProducerId(1), length };
        let of = QueuedRow { first: Offset(10), number: TxnNumber(3), before: None, after: None };
        step.leaves(&producer(1), of);
        step.leaves(&partition(0), queue(pick(broken, 2, 1)));
    }),
    ("what is open holds readers back", |step, broken| {
        step.found(&partition(0), listed(Some(10)));
        step.leaves(&partition(0), log(12, pick(broken, None, Some(10))));
    }),
    ("only what is open holds readers back", |step, broken| {
        step.found(&partition(0), pick(broken, listed(None), listed(Some(10))));
        step.leaves(&partition(0), log(12, Some(10)));
    }),
    ("the last stable offset never goes back", |step, broken| {
        step.changes(&partition(0), log(10, Some(8)), log(10, Some(pick(broken, 7, 9))));
    }),
    ("the last stable offset is within the log", |step, broken| {
        step.leaves(&partition(0), log(10, Some(pick(broken, 11, 9))));
    }),
    ("leader epochs begin one behind the other", |step, broken| {
        let epochs = |begins: &[(i32, i64)]| LeaderEpochsRow {
            begins: begins.iter().map(|(epoch, at)| (LeaderEpoch(*epoch), Offset(*at))).collect(),
        };
        step.changes(&partition(0), epochs(&[(1, 5)]), epochs(&[(1, 5), (pick(broken, 1, 2), 9)]));
    }),
    ("a log start moves forward, and not past the end", |step, broken| {
        let from = |start| PartitionRow { log_start: Offset(start), ..log(10, None) };
        step.changes(&partition(0), from(5), from(pick(broken, 4, 6)));
    }),
    ("a log start moves forward, and not past the end", |step, broken| {
        let from = |start| PartitionRow { log_start: Offset(start), ..log(10, None) };
        step.changes(&partition(0), from(5), from(pick(broken, 11, 10)));
    }),
    ("retention spares what is not decided (X7)", |step, broken| {
        step.found(&partition(0), log(10, Some(6)));
        let (to, reason) = (Cut { offset: Offset(pick(broken, 7, 6)), bytes: 0 }, CutReason::RetentionTime);
        step.states(Event::LogStartMoved { partition: partition(0), to, reason });
    }),
    ("a topic keeps its partitions", |step, broken| {
        let of = |partitions| TopicRow {
            name: TopicName::new("t").unwrap(),
            partitions,
            config: TopicConfig::new(),
        };
        step.changes(&topic(), of(3), of(pick(broken, 2, 4)));
    }),
    ("a topic keeps its partitions", |step, broken| {
        let name = TopicName::new("t").unwrap();
        let row = TopicRow { name, partitions: 1, config: TopicConfig::new() };
        if broken {
            step.found(&topic(), row);
        }
        step.removes(&partition(0), log(10, None));
    }),
    ("durable rows are made of events alone", |step, broken| {
        let id = Uuid::from_u128(5);
        step.leaves(&(), ClusterRow { id, partitions: 0 });
        if !broken {
            step.states(Event::ClusterFormed { id });
        }
    }),
    ("durable rows are made of events alone", |step, broken| {
        let id = Uuid::from_u128(5);
        step.states(Event::ClusterFormed { id });
        if !broken {
            step.leaves(&(), ClusterRow { id, partitions: 0 });
        }
    }),
];

/// The open transactions of partition 0, of which producer 1 may have one.
fn listed(first: Option<i64>) -> OpenTransactionsRow {
    let open = OpenTransaction { producer: ProducerId(1), number: TxnNumber(3) };
    OpenTransactionsRow { by_first_offset: first.map(|first| (Offset(first), open)).into_iter().collect() }
}

/// A transaction comes to partition 0.
fn opens(step: &mut Planted, row: ProducerRow, first: Option<i64>) {
    step.found(&partition(0), log(12, Some(10)));
    step.changes(&producer(1), remembers(4, None, None), row);
    step.changes(&partition(0), listed(None), listed(first));
}
