//! Examples: each a rule that has a name.

use super::world::{TIMEOUT, World};
use crate::core::*;
use crate::types::*;
use std::time::Duration;

use Outcome::{Abort, Commit};
use Protocol::{V1, V2};

fn bumped(identity: Identity) -> Identity {
    Identity { epoch: identity.epoch.bumped().unwrap(), ..identity }
}

#[test]
fn the_next_batch_is_stored_and_a_remembered_one_is_recognised() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    for n in 0..7 {
        assert_eq!(world.produce(V2, None, p, 0, n * 2, 2).unwrap().base_offset, Offset(i64::from(n) * 2));
    }
    let again = world.produce(V2, None, p, 0, 8, 2).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (Offset(8), true));
    assert_eq!(
        world.produce(V2, None, p, 0, 2, 2),
        Err(Refusal::DuplicateSequence),
        "stored, no longer remembered"
    );
    assert_eq!(
        world.produce(V2, None, p, 0, 1, 2),
        Err(Refusal::DuplicateSequence),
        "stored, in other batches"
    );
    assert_eq!(
        world.produce(V2, None, p, 0, 8, 3),
        Err(Refusal::OutOfOrderSequence),
        "overlaps what is remembered"
    );
    assert_eq!(world.produce(V2, None, p, 0, 15, 1), Err(Refusal::OutOfOrderSequence), "a gap");
    assert_eq!(world.partition_row(0).next_offset, Offset(14));
}

#[test]
fn a_duplicate_is_never_claimed_of_records_that_were_not_stored() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    // A producer that is unknown here goes on at 100 (KIP-360): 0..99 were never stored in this epoch.
    for n in 0..6 {
        world.produce(V2, None, p, 0, 100 + n, 1).unwrap();
    }
    assert_eq!(world.produce(V2, None, p, 0, 100, 1), Err(Refusal::DuplicateSequence));
    assert_eq!(world.produce(V2, None, p, 0, 99, 1), Err(Refusal::OutOfOrderSequence));
}

#[test]
fn sequences_wrap_and_a_batch_may_straddle_the_wrap() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, i32::MAX - 1, 1).unwrap();
    let straddling = world.produce(V2, None, p, 0, i32::MAX, 3).unwrap();
    assert_eq!(straddling.base_offset, Offset(1));
    assert!(world.produce(V2, None, p, 0, i32::MAX, 3).unwrap().duplicate);
    assert_eq!(world.produce(V2, None, p, 0, 2, 1).unwrap().base_offset, Offset(4));
}

#[test]
fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, 0, 1).unwrap();
    assert_eq!(world.produce(V2, None, bumped(p), 0, 1, 1), Err(Refusal::OutOfOrderSequence));
    world.produce(V2, None, bumped(p), 0, 0, 1).unwrap();
    assert_eq!(world.produce(V2, None, p, 0, 1, 1), Err(Refusal::StaleEpoch));
}

#[test]
fn producer_ids_are_never_given_out_twice_not_even_after_a_crash() {
    let mut world = World::new(1);
    let mut last = world.init(None, None).unwrap().id;
    for round in 0..2_500 {
        if round % 700 == 0 {
            world.restart();
        }
        let id = world.init(None, None).unwrap().id;
        assert!(id > last);
        last = id;
    }
}

#[test]
fn in_version_2_an_append_enrols_and_the_end_raises_the_epoch() {
    let mut world = World::new(2);
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 3).unwrap();
    world.produce(V2, Some("x"), p, 1, 0, 1).unwrap();
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(0));
    let next = world.end(V2, "x", p, Commit).unwrap();
    assert_eq!(next, bumped(p));
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(4), "three records and a marker");
    assert_eq!(world.partition_row(1).last_stable_offset(), Offset(2));
    assert_eq!(world.end(V2, "x", p, Commit), Ok(next), "an exact retry");
    assert_eq!(world.end(V2, "x", p, Abort), Err(Refusal::TransactionState), "what is committed stays so");
    assert_eq!(world.produce(V2, Some("x"), p, 0, 3, 1), Err(Refusal::StaleEpoch), "a late append is fenced");
    assert_eq!(
        world.produce(V2, Some("x"), next, 0, 3, 1),
        Err(Refusal::OutOfOrderSequence),
        "and starts anew"
    );
    world.produce(V2, Some("x"), next, 0, 0, 1).unwrap();
    assert_eq!(world.transaction("x").number, TxnNumber(2));
}

#[test]
fn the_last_records_of_a_transaction_are_stored_and_committed_as_one() {
    let mut world = World::new(2);
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    let last = |world: &World, p| {
        vec![world.batch((Some("x"), p), 0, (1, 2), &[]), world.batch((Some("x"), p), 1, (0, 1), &[])]
    };
    let (stored, next) = world.produce_and_commit("x", p, last(&world, p));
    assert_eq!((stored.iter().all(Result::is_ok), next), (true, Some(bumped(p))));
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(4), "three records and a marker");
    assert_eq!(world.partition_row(1).last_stable_offset(), Offset(2));
    assert_eq!(world.outcome("x", 1).unwrap().outcome, Commit);

    // Repeated, since the answer was lost: nothing is stored any more under that identity, and the outcome is told.
    let (stored, again) = world.produce_and_commit("x", p, last(&world, p));
    assert!(stored.iter().all(|stored| stored.as_ref().is_err_and(|not| not.refusal == Refusal::StaleEpoch)));
    assert_eq!(again, next);
    assert_eq!(world.end(V2, "x", p, Commit), Ok(bumped(p)), "it is a retry of this end as well");
    assert_eq!(world.partition_row(0).next_offset, Offset(4));
}

#[test]
fn nothing_is_committed_with_records_of_which_one_is_refused() {
    let mut world = World::new(2);
    let p = world.init(Some("x"), None).unwrap();
    let gap = vec![world.batch((Some("x"), p), 0, (0, 1), &[]), world.batch((Some("x"), p), 1, (5, 1), &[])];
    let (stored, next) = world.produce_and_commit("x", p, gap);
    assert!(stored[0].is_ok());
    assert_eq!(stored[1].as_ref().unwrap_err().refusal, Refusal::OutOfOrderSequence);
    assert_eq!(next, None);
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(0), "what is stored stays open");
    // What was refused is sent again as it should be, with what is stored already.
    let whole =
        vec![world.batch((Some("x"), p), 0, (0, 1), &[]), world.batch((Some("x"), p), 1, (0, 1), &[])];
    let (stored, next) = world.produce_and_commit("x", p, whole);
    assert!(stored[0].as_ref().is_ok_and(|stored| stored.duplicate));
    assert_eq!(next, Some(bumped(p)));
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(2));
}

#[test]
fn who_was_fenced_commits_nothing_with_his_last_records() {
    let mut world = World::new(1);
    let old = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), old, 0, 0, 1).unwrap();
    let new = world.init(Some("x"), None).unwrap();
    let late = vec![world.batch((Some("x"), old), 0, (1, 1), &[])];
    let (stored, next) = world.produce_and_commit("x", old, late);
    assert_eq!(stored[0].as_ref().unwrap_err().refusal, Refusal::StaleEpoch);
    assert_eq!(next, None);
    assert_eq!(world.outcome("x", 1).unwrap().outcome, Abort, "by whoever took over");
    let own = vec![world.batch((Some("x"), new), 0, (0, 1), &[])];
    assert_eq!(world.produce_and_commit("x", new, own).1, Some(bumped(new)));
}

#[test]
fn in_version_1_what_is_not_enrolled_is_refused() {
    let mut world = World::new(2);
    let p = world.init(Some("x"), None).unwrap();
    assert_eq!(world.produce(V1, Some("x"), p, 0, 0, 1), Err(Refusal::NotEnrolled));
    assert_eq!(world.enrol("x", p, &[0]), vec![Ok(())]);
    world.produce(V1, Some("x"), p, 0, 0, 1).unwrap();
    assert_eq!(world.produce(V1, Some("x"), p, 1, 0, 1), Err(Refusal::NotEnrolled));
    assert_eq!(world.end(V1, "x", p, Commit), Ok(p), "the epoch stays");
    assert_eq!(world.end(V1, "x", p, Commit), Ok(p), "an exact retry");
    assert_eq!(world.end(V1, "x", p, Abort), Err(Refusal::TransactionState));
    assert_eq!(
        world.produce(V1, Some("x"), p, 0, 1, 1),
        Err(Refusal::NotEnrolled),
        "no append after the marker"
    );
    assert!(world.produce(V1, Some("x"), p, 0, 0, 1).unwrap().duplicate, "but a repeated one is recognised");
}

#[test]
fn enrolment_is_of_all_partitions_or_none() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    let answers = world.enrol("x", p, &[0, 9]);
    assert_eq!(answers, vec![Err(Refusal::NotAttempted), Err(Refusal::UnknownPartition)]);
    assert_eq!(world.transaction("x").state, TransactionState::Empty);
}

#[test]
fn a_delayed_version_1_request_of_an_older_connection_does_not_count() {
    let mut world = World::new(1);
    let p = world.init_over(Some("x"), None, 3).unwrap();
    let producer = World::producer("x", p, 8);
    let partitions = vec![world.partition(0)];
    world.ask(Command::Enrol(Enrol { producer, partitions }));
    world.produce(V1, Some("x"), p, 0, 0, 1).unwrap();
    assert_eq!(world.end_over(V1, "x", p, Commit, 3), Err(Refusal::NotCoordinator));
    assert_eq!(world.end_over(V1, "x", p, Commit, 8), Ok(p));
}

#[test]
fn delayed_offsets_of_an_older_connection_do_not_replace_newer_ones() {
    let mut world = World::new(1);
    let p = world.init_over(Some("x"), None, 9).unwrap();
    world.stage_over("x", p, 3, 4).unwrap();
    assert_eq!(
        world.stage_over("x", p, 5, 6),
        Ok(()),
        "a newer connection, though older than the other kind's"
    );
    assert_eq!(world.stage_over("x", p, 3, 4), Err(Refusal::NotCoordinator));
    assert_eq!(
        world.stage_over("x", bumped(p), 3, 4),
        Err(Refusal::Fenced),
        "who is nobody is told that first"
    );
    let p = world.end_over(V2, "x", p, Commit, 9).unwrap();
    assert_eq!(world.committed_offset(), Some(Offset(5)));
    assert_eq!(
        world.stage_over("x", p, 3, 4),
        Err(Refusal::NotCoordinator),
        "in the next transaction as well"
    );
    let p = world.init_over(Some("x"), None, 10).unwrap();
    assert_eq!(world.stage_over("x", p, 7, 2), Ok(()), "a new holder begins anew");
}

#[test]
fn a_commit_of_nothing_is_refused_and_an_abort_of_nothing_raises_the_epoch() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    assert_eq!(world.end(V2, "x", p, Commit), Err(Refusal::TransactionState));
    assert_eq!(world.end(V1, "x", p, Abort), Err(Refusal::TransactionState));
    let next = world.end(V2, "x", p, Abort).unwrap();
    assert_eq!(next, bumped(p));
    assert_eq!(world.end(V2, "x", p, Abort), Ok(next), "an exact retry raises nothing");
}

#[test]
fn a_new_holder_aborts_the_open_transaction_and_fences_the_old_one_everywhere() {
    let mut world = World::new(1);
    let old = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), old, 0, 0, 2).unwrap();
    world.stage("x", old, 5).unwrap();
    let new = world.init(Some("x"), None).unwrap();
    assert!(new > old);
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(3));
    assert_eq!(world.produce(V2, Some("x"), old, 0, 2, 1), Err(Refusal::StaleEpoch));
    assert_eq!(world.stage("x", old, 6), Err(Refusal::Fenced));
    assert_eq!(world.end(V2, "x", old, Commit), Err(Refusal::Fenced));
    assert_eq!(world.init(Some("x"), Some(old)), Err(Refusal::Fenced));
    assert_eq!(world.committed_offset(), None);
}

#[test]
fn offsets_take_effect_with_the_commit_and_only_then() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    world.stage("x", p, 5).unwrap();
    assert_eq!(world.committed_offset(), None);
    let p = world.end(V2, "x", p, Abort).unwrap();
    assert_eq!(world.committed_offset(), None);
    world.stage("x", p, 6).unwrap();
    world.end(V2, "x", p, Commit).unwrap();
    assert_eq!(world.committed_offset(), Some(Offset(6)));
}

#[test]
fn past_its_deadline_a_transaction_is_aborted_and_its_producer_may_recover() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    world.expire("x");
    assert!(matches!(world.transaction("x").state, TransactionState::Ongoing(_)), "not before its deadline");
    world.pass(TIMEOUT + Duration::from_millis(1));
    world.restart();
    world.expire("x");
    assert_eq!(world.partition_row(0).first_open, None);
    assert_eq!(world.end(V2, "x", p, Commit), Err(Refusal::Fenced));
    assert_eq!(world.end(V2, "x", p, Abort), Ok(bumped(p)), "what it wants has been done");
    assert_eq!(world.init(Some("x"), Some(p)), Ok(bumped(p)), "KIP-588");
}

#[test]
fn when_the_epochs_are_used_up_the_id_is_rotated_in_the_same_step() {
    let mut world = World::new(1);
    let first = world.init(Some("x"), None).unwrap();
    world.age("x", 32766);
    let p = Identity { epoch: ProducerEpoch(32766), ..first };
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    let next = world.end(V2, "x", p, Commit).unwrap();
    assert!(next.id > p.id && next.epoch == ProducerEpoch::FIRST);
    let row = world
        .rows
        .get::<ProducerRow>(&ProducerKey { partition: world.partition(0), producer: p.id })
        .unwrap();
    assert_eq!(row.epoch, ProducerEpoch::FENCED_FOR_GOOD);
    assert_eq!(world.end(V2, "x", p, Commit), Ok(next), "an exact retry");
    assert_eq!(world.produce(V2, Some("x"), p, 0, 1, 1), Err(Refusal::StaleEpoch));
    world.produce(V2, Some("x"), next, 0, 0, 1).unwrap();
}

#[test]
fn what_is_idle_is_forgotten_but_nothing_that_is_open() {
    let mut world = World::new(2);
    let idle = Duration::from_secs(3600);
    let open = world.init(Some("open"), None).unwrap();
    world.produce(V2, Some("open"), open, 0, 0, 1).unwrap();
    let used = world.init(Some("used"), None).unwrap();
    world.produce(V2, Some("used"), used, 0, 0, 1).unwrap();
    let next = world.end(V2, "used", used, Commit).unwrap();
    world.expire_idle(idle);
    assert_eq!(world.transaction("used").holder, next, "not yet");
    world.pass(idle);
    world.restart();
    world.expire_idle(idle);
    assert!(world.find_transaction("used").is_none());
    assert_eq!(world.transaction("open").holder, open);
    let producer = |world: &World, id| {
        let key = ProducerKey { partition: world.partition(0), producer: id };
        world.rows.get::<ProducerRow>(&key).is_some()
    };
    assert!(!producer(&world, used.id) && producer(&world, open.id));
    assert_eq!(world.end(V2, "used", next, Abort), Err(Refusal::ProducerIdMapping));
    let again = world.init(Some("used"), Some(next)).unwrap();
    assert!(again.id > open.id && again.epoch == ProducerEpoch::FIRST, "a producer id never comes back: P3");
    // What has ended goes too, in its time; and nothing of anybody is left but the new holder and his place in the order.
    world.end(V2, "open", open, Commit).unwrap();
    world.pass(idle);
    world.expire_idle(idle);
    let left = |key: &&RowKey| {
        !matches!(
            key,
            RowKey::Cluster(())
                | RowKey::ProducerIds(())
                | RowKey::TopicName(_)
                | RowKey::Topic(_)
                | RowKey::Partition(_)
                | RowKey::OpenTransactions(_)
        )
    };
    assert_eq!(world.rows.durable().keys().filter(left).count(), 0, "{:?}", world.rows.durable());
    assert_eq!(world.replayed().durable(), world.rows.durable());
}

#[test]
fn the_newest_outcomes_of_an_id_are_kept() {
    let mut world = World::new(1);
    let mut p = world.init(Some("x"), None).unwrap();
    let mut ran = Vec::new();
    for n in 0..=limits::OUTCOMES_PER_ID_MAX {
        world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
        let outcome = if n % 2 == 0 { Commit } else { Abort };
        ran.push((p, outcome));
        p = world.end(V2, "x", p, outcome).unwrap();
    }
    assert_eq!(world.outcome("x", 1), None, "the oldest has gone");
    for (number, (producer, outcome)) in (1..).zip(ran).skip(1) {
        let reason = EndReason::Requested;
        assert_eq!(
            world.outcome("x", number),
            Some(&OutcomeRow { producer, outcome, reason, operator: None })
        );
    }
}

#[test]
fn an_operator_ends_what_is_open_and_it_is_on_record() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    let refused = Err(Refusal::TransactionState);
    assert_eq!(world.end_by_operator("x", None, Abort), refused, "nothing is open");
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    assert_eq!(world.end_by_operator("x", None, Commit), refused, "its producer may not have finished");
    assert_eq!(world.end_by_operator("x", Some(2), Abort), refused, "another one was meant");
    assert_eq!(world.end_by_operator("x", Some(1), Abort), Ok(()));
    assert_eq!(world.produce(V2, Some("x"), p, 0, 1, 1), Err(Refusal::StaleEpoch));
    assert_eq!(world.end(V2, "x", p, Abort), Err(Refusal::Fenced));
    let outcome = world.outcome("x", 1).unwrap();
    assert_eq!((outcome.outcome, outcome.reason), (Abort, EndReason::Operator));
    assert_eq!(outcome.operator.as_ref().unwrap().operator, "User:ann");
}

#[test]
fn deleting_a_topic_closes_what_was_open_in_it() {
    let mut world = World::new(2);
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    assert_eq!(world.ask(Command::DeleteTopic { topic: world.topic }), Reply::Done(Ok(())));
    assert_eq!(world.end(V2, "x", p, Commit), Ok(bumped(p)));
    assert_eq!(world.produce(V2, None, p, 0, 0, 1), Err(Refusal::UnknownPartition));
}

/// X3: the log start moves to what the high watermark allows, and never back; producers and open transactions stay.
#[test]
fn deleted_records_are_not_read_any_more_and_nothing_is_forgotten_with_them() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 4).unwrap();
    let partition = world.partition(0);
    let mut delete = |offset, bytes| {
        world.ask(Command::DeleteRecords { partition, to: Cut { offset: Offset(offset), bytes } })
    };
    assert_eq!(delete(5, 400), Reply::Done(Err(Refusal::OffsetOutOfRange)));
    assert_eq!(delete(4, 400), Reply::Done(Ok(())));
    assert_eq!(delete(2, 0), Reply::Done(Ok(())), "it is below the log start already");
    let row = world.partition_row(0).clone();
    assert_eq!((row.log_start, row.bytes_below_start, row.totals.bytes), (Offset(4), 400, 400));
    assert_eq!(row.last_stable_offset(), Offset(4), "at least the log start");
    assert!(world.produce(V2, Some("x"), p, 0, 0, 4).unwrap().duplicate);
    world.restart();
    assert_eq!(world.partition_row(0), &row);
    world.end(V2, "x", p, Commit).unwrap();
    assert_eq!(world.partition_row(0).totals.bytes, 400 + u64::from(MARKER_BYTES));
    let elsewhere = PartitionId::new(TopicId(uuid::Uuid::from_u128(9)), PartitionIndex(0));
    let nowhere = Command::DeleteRecords { partition: elsewhere, to: Cut { offset: Offset(0), bytes: 0 } };
    assert_eq!(world.ask(nowhere), Reply::Done(Err(Refusal::UnknownPartition)));
}

/// X7: what was found is judged again by what holds when it is decided.
#[test]
fn records_expire_by_the_settings_and_the_clock_of_the_decision() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    let set = |world: &mut World, settings: &[(&str, &str)]| {
        let config = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let change = ConfigChange::All(config.collect());
        let topic = world.topic;
        world.ask(Command::ConfigureTopic { topic, change, validate_only: false });
    };
    let expire = |world: &mut World, offset: i64, newest: Option<i64>| {
        let to = Cut { offset: Offset(offset), bytes: u64::try_from(offset).unwrap() * 100 };
        let (partition, found) = (world.partition(0), world.now);
        let newest = newest.map(Timestamp);
        world.ask(Command::ExpireRecords(ExpireRecords { partition, to, newest, found }))
    };
    let start = |world: &World| world.partition_row(0).log_start.0;
    for n in 0..10 {
        world.produce(V2, None, p, 0, n, 1).unwrap();
    }
    set(&mut world, &[("retention.ms", "995")]);
    expire(&mut world, 2, Some(5));
    assert_eq!(start(&world), 0, "exactly as old as may be");
    set(&mut world, &[("retention.ms", "994")]);
    expire(&mut world, 2, None);
    expire(&mut world, 2, Some(-1));
    assert_eq!(start(&world), 0, "of unknown time, or of none");
    expire(&mut world, 2, Some(5));
    assert_eq!(start(&world), 2);
    set(&mut world, &[("retention.ms", "-1"), ("retention.bytes", "601")]);
    expire(&mut world, 4, Some(5));
    assert_eq!(start(&world), 2, "600 bytes would be left");
    set(&mut world, &[("retention.ms", "-1"), ("retention.bytes", "600")]);
    expire(&mut world, 4, Some(5));
    assert_eq!(start(&world), 4);
    assert_eq!(expire(&mut world, 11, Some(5)), Reply::Done(Err(Refusal::OffsetOutOfRange)));
    let t = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), t, 0, 0, 1).unwrap();
    set(&mut world, &[("retention.bytes", "0")]);
    assert_eq!(
        expire(&mut world, 11, None),
        Reply::Done(Err(Refusal::OffsetOutOfRange)),
        "the transaction is open"
    );
    expire(&mut world, 10, None);
    assert_eq!(start(&world), 10);
}

#[test]
fn nothing_expires_when_the_clock_has_stepped_since_it_was_found() {
    let found = Now { served: ServedTime(1_000), wall: Timestamp(1_000_000) };
    let hour = 3_600_000;
    let later = |served: u64, wall: i64| Now { served: ServedTime(served), wall: Timestamp(wall) };
    assert!(!clock_stepped(found, later(1_000 + hour, 1_000_000 + 3_600_000)));
    assert!(clock_stepped(found, later(1_000, 1_000_000 + 3_600_000)));
    assert!(clock_stepped(found, later(1_000 + hour, 1_000_000)));
}

/// The clock is held against what a topic allows, but a batch that is stored is recognised all the same.
#[test]
fn a_timestamp_that_the_topic_does_not_allow_is_refused() {
    let mut world = World::new(1);
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, 0, 1).unwrap();
    let config = [("message.timestamp.before.max.ms".to_owned(), "10".to_owned())].into();
    let change = ConfigChange::All(config);
    world.ask(Command::ConfigureTopic { topic: world.topic, change, validate_only: false });
    assert_eq!(world.produce(V2, None, p, 0, 1, 1), Err(Refusal::InvalidTimestamp));
    assert!(world.produce(V2, None, p, 0, 0, 1).unwrap().duplicate);
}

/// X4: only what nothing can ask for any more is swept.
#[test]
fn a_sweep_takes_rows_of_deleted_topics_and_no_others() {
    let mut world = World::new(1);
    let producer = world.init(Some("tx"), None).unwrap();
    world.produce(V2, Some("tx"), producer, 0, 0, 1).unwrap();
    world.end(V2, "tx", producer, Abort).unwrap();
    let partition = world.partition(0);
    let sweep = Sweep {
        producers: vec![ProducerKey { partition, producer: producer.id }],
        aborted: vec![AbortedKey { partition, producer: producer.id, marker: Offset(1) }],
        ..Sweep::default()
    };
    let (producer_key, aborted_key) = (sweep.producers[0].clone(), sweep.aborted[0].clone());
    let events = world.log.len();
    world.ask(Command::Sweep(sweep.clone()));
    assert_eq!(world.log.len(), events, "a proposal that is wrong changes nothing");
    assert!(world.rows.get::<ProducerRow>(&producer_key).is_some());
    assert!(world.rows.get::<AbortedRow>(&aborted_key).is_some());

    world.ask(Command::DeleteTopic { topic: world.topic });
    world.ask(Command::Sweep(sweep.clone()));
    assert!(world.rows.get::<ProducerRow>(&producer_key).is_none());
    assert!(world.rows.get::<AbortedRow>(&aborted_key).is_none());
    assert_eq!(world.replayed().durable(), world.rows.durable());
}

/// X4: what compaction has left no record of is swept once, on its word.
#[test]
fn an_aborted_range_without_records_is_swept_once() {
    let mut world = World::new(1);
    let producer = world.init(Some("tx"), None).unwrap();
    world.produce(V2, Some("tx"), producer, 0, 0, 1).unwrap();
    world.end(V2, "tx", producer, Abort).unwrap();
    let key = AbortedKey { partition: world.partition(0), producer: producer.id, marker: Offset(1) };
    let sweep = Command::Sweep(Sweep { compacted: vec![key.clone()], ..Sweep::default() });
    world.ask(sweep.clone());
    assert!(world.rows.get::<AbortedRow>(&key).is_none());
    let events = world.log.len();
    world.ask(sweep);
    assert_eq!(world.log.len(), events, "nothing is decided twice");
    assert_eq!(world.replayed().durable(), world.rows.durable());
}

#[test]
fn a_repeated_end_makes_its_connection_the_newest_and_an_older_ones_counts_no_more() {
    let mut world = World::new(1);
    let p = world.init_over(Some("x"), None, 1).unwrap();
    world.enrol_over("x", p, &[0], 1);
    assert_eq!(world.end_over(V1, "x", p, Commit, 1), Ok(p));
    assert_eq!(world.end_over(V1, "x", p, Commit, 2), Ok(p), "its first answer was lost");
    assert_eq!(world.end_over(V1, "x", p, Commit, 1), Err(Refusal::NotCoordinator));
    assert_eq!(world.enrol_over("x", p, &[0], 1), vec![Err(Refusal::NotCoordinator)]);
    assert_eq!(world.enrol_over("x", p, &[0], 2), vec![Ok(())]);
}

#[test]
fn a_row_with_more_partitions_than_a_topic_can_have_is_damaged() {
    let key = RowKey::Topic(TopicId::NIL);
    for (partitions, is_read) in [(10_000, true), (10_001, false), (u32::MAX, false)] {
        let name = TopicName::new("t").unwrap();
        let row = RowValue::from(TopicRow { name, partitions, config: TopicConfig::new() });
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(RowValue::decode(&key, &bytes).is_ok(), is_read, "{partitions}");
    }
}
