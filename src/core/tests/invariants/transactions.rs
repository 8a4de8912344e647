//! Of transactions: who holds an id, how one ends, and what it takes with it.

use super::*;

pub(super) const PLANTS: &[Plant] = &[
    ("an id's holder never goes back", |step, broken| {
        let of = |epoch| transaction(identity(1, epoch), 3, TransactionState::Empty);
        step.changes(&id(), of(4), of(pick(broken, 3, 5)));
    }),
    ("an id's transaction number never goes back", |step, broken| {
        let of = |number| transaction(identity(1, 0), number, TransactionState::Empty);
        step.changes(&id(), of(3), of(pick(broken, 2, 4)));
    }),
    ("a restore never goes back, and skips the ids of before (B1)", |step, broken| {
        let (restore, ids_from, leader_epoch) = (Uuid::nil(), ProducerId(900), LeaderEpoch(1));
        step.leaves(&(), RestoredRow { restore, ids_from, leader_epoch });
        step.leaves(&(), ProducerIdsRow { reserved_until: ProducerId(pick(broken, 500, 900)) });
        step.states(Event::LogRestored { restore, ids_from, leader_epoch });
    }),
    ("nothing of before a restore is given out again (B1, B4)", |step, broken| {
        let (restore, leader_epoch) = (Uuid::nil(), LeaderEpoch(1));
        step.found(&(), RestoredRow { restore, ids_from: ProducerId(900), leader_epoch });
        let of = |holder| transaction(holder, 3, TransactionState::Empty);
        step.changes(&id(), of(identity(1, 0)), of(pick(broken, identity(1, 1), identity(900, 0))));
    }),
    ("who was fenced takes nothing over (P7)", |step, broken| {
        let (transactional_id, current) = (Some((id(), ConnectionId(1))), Some(identity(1, 4)));
        let (timeout, two_phase) = (Duration::from_secs(60), TwoPhase::Unaware);
        let init = InitProducerId { transactional_id, timeout, current, two_phase };
        step.command = Command::InitProducerId(init);
        step.found(&id(), transaction(identity(1, pick(broken, 5, 4)), 3, TransactionState::Empty));
        let (holder, recoverable) = (identity(1, 6), current);
        step.states(Event::ProducerInitialized { transactional_id: id(), holder, recoverable, timeout });
    }),
    ("a delayed request has no effect (E10)", |step, broken| {
        let (producer, timeout) = (speaker(), None);
        step.command = Command::PrepareTxn(PrepareTxn { producer, timeout });
        let key = CoordinatorKey { transactional_id: id(), kind: CoordinatorKind::Transaction };
        step.found(&key, CoordinatorRow { connection: pick(broken, 2, 1) });
        let (transactional_id, number, at, deadline) = (id(), TxnNumber(3), Timestamp(1), None);
        step.states(Event::TransactionPrepared { transactional_id, number, at, deadline });
    }),
    ("an operator ends what he names, and no other (O11)", |step, broken| {
        let (number, outcome) = (Some(TxnNumber(pick(broken, 2, 3))), Outcome::Abort);
        let (transactional_id, operator) = (id(), "User:ann".to_owned());
        step.command = Command::EndByOperator(EndByOperator { transactional_id, number, outcome, operator });
        ends(step, Outcome::Abort, EndReason::Operator, identity(1, 1));
    }),
    ("the outcome that is answered is the outcome (O4, O8)", |step, broken| {
        let (producer, outcome, protocol) = (speaker(), Outcome::Commit, Protocol::V2);
        step.command = Command::EndTxn(EndTxn { producer, outcome, protocol });
        step.decided.reply = Some(Reply::Identity(Ok(identity(1, 1))));
        let state = complete(pick(broken, Outcome::Abort, Outcome::Commit));
        step.found(&id(), transaction(identity(1, 1), 3, state));
    }),
    ("a producer id is given out once (P1)", |step, broken| {
        step.found(&(), ProducerIdsRow { reserved_until: ProducerId(1_000) });
        step.leaves(&(), NextProducerIdRow { id: ProducerId(pick(broken, 1, 1_001)) });
    }),
    ("a producer id is given out once (P1)", |step, broken| {
        let of = |id| ProducerOwnerRow { transactional_id: TransactionalId::new(id).unwrap() };
        step.changes(&ProducerId(1), of("x"), of(pick(broken, "y", "x")));
    }),
    ("a producer id that is given out is reserved (P1)", |step, broken| {
        step.found(&(), ProducerIdsRow { reserved_until: ProducerId(1_000) });
        step.leaves(&(), NextProducerIdRow { id: ProducerId(pick(broken, 1_001, 1_000)) });
    }),
    ("a holder's epoch leaves one to fence it with (P9)", |step, broken| {
        let epoch = pick(broken, i16::MAX, i16::MAX - 1);
        step.leaves(&id(), transaction(identity(1, epoch), 3, TransactionState::Empty));
    }),
    ("whoever did not ask for the end is fenced (O5)", |step, broken| {
        ends(step, Outcome::Abort, EndReason::Fenced, identity(1, pick(broken, 0, 1)));
    }),
    ("a batch in a transaction is its holder's (E2)", |step, broken| {
        produces(step, identity(pick(broken, 2, 1), 0), &[0]);
    }),
    ("nothing is appended without enrolment (E3, E4)", |step, broken| {
        produces(step, identity(1, 0), pick(broken, &[1], &[0]));
    }),
    ("a transaction goes along the arrows of its states", |step, broken| {
        let state = TransactionState::Ongoing(ongoing(&[0], 2_000));
        let before =
            transaction(identity(1, 0), 3, pick(broken, prepared(ongoing(&[0], 2_000), None), state));
        let after = transaction(identity(1, 0), 3, TransactionState::Ongoing(ongoing(&[0, 1], 2_000)));
        step.states(enrolled(3));
        step.changes(&id(), before, after);
    }),
    ("a transaction goes along the arrows of its states", |step, broken| {
        let before = transaction(identity(1, 0), 3, complete(Outcome::Commit));
        let number = pick(broken, 3, 4);
        step.states(enrolled(number));
        let state = TransactionState::Ongoing(ongoing(&[0], 2_000));
        step.changes(&id(), before, transaction(identity(1, 0), number, state));
    }),
    ("a transaction goes along the arrows of its states", |step, broken| {
        // The end of nothing is an abort.
        let outcome = pick(broken, Outcome::Commit, Outcome::Abort);
        step.states(ended(4, outcome, EndReason::Requested, identity(1, 1)));
        let before = transaction(identity(1, 0), 3, TransactionState::Empty);
        step.changes(&id(), before, transaction(identity(1, 1), 4, complete(outcome)));
    }),
    ("a transaction goes along the arrows of its states", |step, broken| {
        let state = TransactionState::Ongoing(ongoing(&[0], 2_000));
        let before = transaction(identity(1, 0), 3, state);
        let after = pick(broken, transaction(identity(1, 0), 3, TransactionState::Empty), before.clone());
        step.changes(&id(), before, after);
    }),
    ("a transaction has one outcome", |step, broken| {
        ends(step, Outcome::Abort, EndReason::Fenced, identity(1, 1));
        let outcome = pick(broken, Outcome::Commit, Outcome::Abort);
        step.leaves(&outcome_key(), outcome_row(outcome, EndReason::Fenced));
    }),
    ("a transaction has one outcome", |step, broken| {
        let before = outcome_row(pick(broken, Outcome::Commit, Outcome::Abort), EndReason::Operator);
        step.changes(&outcome_key(), before, outcome_row(Outcome::Abort, EndReason::Operator));
    }),
    ("what is prepared stays as it is (E9)", |step, broken| {
        let of =
            |partitions: &[i32]| transaction(identity(1, 0), 3, prepared(ongoing(partitions, 2_000), None));
        step.changes(&id(), of(&[0]), of(pick(broken, &[0, 1], &[0])));
    }),
    ("what is prepared waits for its owner (D3)", |step, broken| {
        let deadline = pick(broken, None, Some(900));
        step.found(&id(), transaction(identity(1, 0), 3, prepared(ongoing(&[0], 500), deadline)));
        step.states(ended(3, Outcome::Abort, EndReason::Expired, identity(1, 1)));
    }),
    ("nothing is ended by time before its deadline (D2)", |step, broken| {
        let open = ongoing(&[0], pick(broken, 1_001, 1_000));
        step.found(&id(), transaction(identity(1, 0), 3, TransactionState::Ongoing(open)));
        step.states(ended(3, Outcome::Abort, EndReason::Expired, identity(1, 1)));
    }),
    ("a deadline is only moved earlier (D1)", |step, broken| {
        let of = |at| transaction(identity(1, 0), 3, TransactionState::Ongoing(ongoing(&[0], at)));
        step.changes(&id(), of(2_000), of(pick(broken, 2_001, 1_999)));
    }),
    ("an open transaction's deadline is known, and no other (D4)", |step, broken| {
        let open = TransactionState::Ongoing(ongoing(&[0], 2_000));
        step.leaves(&id(), transaction(identity(1, 0), 3, open));
        let deadline = ServedTime(pick(broken, 2_001, 2_000));
        step.leaves(&Timer::Transaction(id()), DeadlineRow { deadline });
    }),
    ("an open transaction's deadline is known, and no other (D4)", |step, broken| {
        step.leaves(&id(), transaction(identity(1, 0), 3, complete(Outcome::Commit)));
        if broken {
            step.found(&Timer::Transaction(id()), DeadlineRow { deadline: ServedTime(2_000) });
        }
    }),
    ("partitions beyond a transaction's row are counted", |step, broken| {
        let key = EnrolledKey::of(&id(), partition(0));
        let mut more = MoreEnrolledRow::default();
        more.add(&key);
        more.partitions = pick(broken, 2, 1);
        step.leaves(&id(), more);
        step.leaves(&key, EnrolledRow { partitions: [partition(0)].into() });
    }),
    ("partitions beyond a transaction's row are counted", |step, broken| {
        let key = EnrolledKey::of(&id(), partition(0));
        let mut more = MoreEnrolledRow::default();
        more.add(&EnrolledKey { bucket: pick(broken, (key.bucket + 1) % 64, key.bucket), ..key.clone() });
        step.leaves(&id(), more);
        step.leaves(&key, EnrolledRow { partitions: [partition(0)].into() });
    }),
    ("each marker is owed, and once (O6)", |step, broken| {
        ends(step, Outcome::Commit, EndReason::Requested, identity(1, 1));
        step.states(marker(pick(broken, 1, 0), 10, 1, Outcome::Commit));
    }),
    ("each marker is owed, and once (O6)", |step, broken| {
        ends(step, Outcome::Commit, EndReason::Requested, identity(1, 1));
        (0..pick(broken, 2, 1)).for_each(|more| step.states(marker(0, 10 + more, 1, Outcome::Commit)));
    }),
    ("every enrolled partition has its marker (O6)", |step, broken| {
        ends(step, Outcome::Commit, EndReason::Requested, identity(1, 1));
        step.found(&partition(0), log(10, None));
        (0..pick(broken, 0, 1)).for_each(|more| step.states(marker(0, 10 + more, 1, Outcome::Commit)));
    }),
    ("a marker says what was decided", |step, broken| {
        ends(step, Outcome::Commit, EndReason::Requested, identity(1, 1));
        step.states(marker(0, 10, 1, pick(broken, Outcome::Abort, Outcome::Commit)));
    }),
    ("a marker carries the raised epoch (O3, O5)", |step, broken| {
        ends(step, Outcome::Commit, EndReason::Requested, identity(1, 1));
        step.states(marker(0, 10, pick(broken, 0, 1), Outcome::Commit));
    }),
    ("a marker carries the raised epoch (O3, O5)", |step, broken| {
        // P9: the id goes on under another producer id.
        ends(step, Outcome::Commit, EndReason::Requested, identity(2, 0));
        step.states(marker(0, 10, pick(broken, 1, i16::MAX), Outcome::Commit));
    }),
    ("a marker closes its transaction", |step, broken| {
        step.states(marker(0, 10, 1, Outcome::Commit));
        step.leaves(&producer(1), remembers(1, None, broken.then_some((3, 8))));
    }),
    ("records of an abort are in its range", |step, broken| {
        step.states(marker(0, 10, 1, Outcome::Abort));
        step.found(&producer(1), remembers(0, None, Some((3, 8))));
        step.leaves(&aborted(10), AbortedRow { first: Offset(pick(broken, 9, 8)) });
    }),
    ("records of an abort alone are in a range", |step, broken| {
        step.states(marker(0, 10, 1, pick(broken, Outcome::Commit, Outcome::Abort)));
        step.found(&producer(1), remembers(0, None, Some((3, 8))));
        step.leaves(&aborted(10), AbortedRow { first: Offset(8) });
    }),
    ("a commit brings its offsets into effect (G3)", |step, broken| {
        ends(step, Outcome::Commit, EndReason::Requested, identity(1, 1));
        step.removes(&pending_key(), pending(3));
        step.changes(&offset_key(0), committed(3), committed(pick(broken, 3, 7)));
    }),
    ("only a commit brings offsets into effect (G1, G3)", |step, broken| {
        ends(step, pick(broken, Outcome::Abort, Outcome::Commit), EndReason::Requested, identity(1, 1));
        step.removes(&pending_key(), pending(3));
        step.leaves(&offset_key(0), committed(7));
    }),
    ("offsets wait for the end of their transaction (G2, G5)", |step, broken| {
        if !broken {
            ends(step, Outcome::Abort, EndReason::Requested, identity(1, 1));
        }
        step.removes(&pending_key(), pending(3));
    }),
    ("offsets wait for the end of their transaction (G2, G5)", |step, broken| {
        ends(step, Outcome::Abort, EndReason::Requested, identity(1, 1));
        if broken {
            step.found(&pending_key(), pending(3));
        }
    }),
    ("offsets wait for the end of their transaction (G2, G5)", |step, broken| {
        let (began, deadline) = (Timestamp(1), ServedTime(2_000));
        let enrolment = Enrolment { transactional_id: id(), number: TxnNumber(3), began, deadline };
        step.states(Event::OffsetsStaged { enrolment, offsets: vec![(offset_key(0), committed(7))] });
        step.leaves(&pending_key(), pending(3));
        let carries = ongoing(pick(broken, &[], &[0]), 2_000);
        step.leaves(&id(), transaction(identity(1, 0), 3, TransactionState::Ongoing(carries)));
    }),
    ("offsets are forgotten by decision alone", |step, broken| {
        step.removes(&offset_key(0), committed(7));
        step.states(Event::OffsetsForgotten { offsets: vec![offset_key(pick(broken, 1, 0))] });
    }),
    ("a key is taken while it is free (K1, K5)", |step, broken| {
        step.changes(&key(), taken(pick(broken, 1_001, 1_000), None), taken(5_000, None));
    }),
    ("a key is taken while it is free (K1, K5)", |step, broken| {
        if !broken {
            step.found(&of_keys(), FreedKeysRow { until: ServedTime(4_000) });
        }
        step.changes(&key(), taken(4_000, Some(of_keys())), taken(5_000, None));
    }),
    ("a key is known for its window (K6)", |step, broken| {
        let (name, config) = (TopicName::new("t").unwrap(), TopicConfig::new());
        step.found(&topic(), TopicRow { name, partitions: 1, config });
        step.removes(&key(), taken(pick(broken, 1_001, 1_000), None));
    }),
    ("keys are of the transaction that their batch is in (K4)", |step, broken| {
        step.states(batch(10, 0, 0, Some(3)));
        let transaction = Some((id(), of_keys())).filter(|_| !broken);
        let (partition, base_offset, until) = (partition(0), Offset(10), ServedTime(5_000));
        let keys = vec![RecordKey { record: 0, key: key().key }];
        step.states(Event::KeysAccepted(KeysAccepted { partition, base_offset, until, transaction, keys }));
        step.leaves(&id(), KeyHolderRow { transaction: of_keys(), until });
    }),
    ("a transaction's end decides about its keys (K4)", |step, broken| {
        let until = ServedTime(5_000);
        ends(step, pick(broken, Outcome::Commit, Outcome::Abort), EndReason::Requested, identity(1, 1));
        step.removes(&id(), KeyHolderRow { transaction: of_keys(), until });
        step.leaves(&of_keys(), FreedKeysRow { until });
    }),
    ("a transaction's end decides about its keys (K4)", |step, broken| {
        ends(step, pick(broken, Outcome::Abort, Outcome::Commit), EndReason::Requested, identity(1, 1));
        step.removes(&id(), KeyHolderRow { transaction: of_keys(), until: ServedTime(5_000) });
    }),
    (
        "a commit with the last records is of all of them, and what both would come to (O13)",
        |step, broken| {
            // Nothing is open, so there is nothing to commit, whatever is told.
            let last = Produce { transactional_id: Some(id()), protocol: Protocol::V2, batches: Vec::new() };
            step.found(&id(), transaction(identity(1, 0), 3, TransactionState::Empty));
            step.command = Command::ProduceAndCommit(ProduceAndCommit { last, producer: speaker() });
            let told = pick(broken, Some(identity(1, 1)), None);
            step.decided.reply = Some(Reply::ProducedAndCommitted(Vec::new(), told));
        },
    ),
    ("only an abort frees keys (K4)", |step, broken| {
        ends(step, pick(broken, Outcome::Commit, Outcome::Abort), EndReason::Requested, identity(1, 1));
        step.leaves(&of_keys(), FreedKeysRow { until: ServedTime(5_000) });
    }),
    ("only an abort frees keys (K4)", |step, broken| {
        step.removes(&of_keys(), FreedKeysRow { until: ServedTime(pick(broken, 1_001, 1_000)) });
    }),
];

/// Transaction 3 of producer 1 ends. It was enrolled in partition 0, and carried an offset for it.
fn ends(step: &mut Planted, outcome: Outcome, reason: EndReason, holder: Identity) {
    step.found(&id(), transaction(identity(1, 0), 3, TransactionState::Ongoing(ongoing(&[0], 2_000))));
    step.states(ended(3, outcome, reason, holder));
}

/// Producer 1 appends to partition 0 in transaction 3, which is enrolled in these.
fn produces(step: &mut Planted, holder: Identity, enrolled: &[i32]) {
    let (transactional_id, protocol) = (Some(id()), Protocol::V1);
    step.command = Command::Produce(Produce { transactional_id, protocol, batches: Vec::new() });
    step.found(&id(), transaction(holder, 3, TransactionState::Ongoing(ongoing(enrolled, 2_000))));
    step.states(batch(10, 0, 0, Some(3)));
}

/// Who speaks as producer 1, over connection 1.
fn speaker() -> TransactionalProducer {
    crate::core::tests::world::World::producer("x", identity(1, 0), 1)
}

fn enrolled(number: u64) -> Event {
    let (began, deadline) = (Timestamp(1), ServedTime(2_000));
    let enrolment = Enrolment { transactional_id: id(), number: TxnNumber(number), began, deadline };
    Event::PartitionsEnrolled { enrolment, partitions: vec![partition(1)] }
}

fn outcome_key() -> OutcomeKey {
    OutcomeKey { transactional_id: id(), number: TxnNumber(3) }
}

fn outcome_row(outcome: Outcome, reason: EndReason) -> OutcomeRow {
    OutcomeRow { producer: identity(1, 0), outcome, reason, operator: None }
}

fn aborted(marker: i64) -> AbortedKey {
    AbortedKey { partition: partition(0), producer: ProducerId(1), marker: Offset(marker) }
}

fn pending_key() -> PendingOffsetKey {
    PendingOffsetKey { offset: offset_key(0), producer: ProducerId(1) }
}

fn pending(number: u64) -> PendingOffsetRow {
    PendingOffsetRow { number: TxnNumber(number), committed: committed(7) }
}

fn of_keys() -> KeyTransaction {
    KeyTransaction { producer: ProducerId(1), number: TxnNumber(3) }
}

fn key() -> TopicKey {
    TopicKey { topic: topic(), key: crate::core::tests::world::key_of("order-1") }
}

fn taken(until: u64, transaction: Option<KeyTransaction>) -> KeyRow {
    let (partition, offset, until) = (PartitionIndex(0), Offset(8), ServedTime(until));
    KeyRow { partition, offset, until, transaction }
}
