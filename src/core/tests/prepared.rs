//! Two-phase commit and LSO budgets: who may end what, and when.

use super::world::{TIMEOUT, World};
use crate::core::*;
use crate::types::*;
use std::time::Duration;

use Outcome::{Abort, Commit};
use Protocol::V2;

const LONG: Duration = Duration::from_secs(1_000_000);

/// A prepared transaction of `x` with two records in partition 0 and an offset.
fn prepared(timeout: Option<Duration>) -> (World, Identity) {
    let mut world = World::new(2);
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 2).unwrap();
    world.stage("x", p, 7).unwrap();
    world.prepare("x", p, timeout).unwrap();
    (world, p)
}

#[test]
fn a_prepared_transaction_takes_nothing_more_and_outlives_timeouts_restarts_and_new_holders() {
    let (mut world, p) = prepared(None);
    assert_eq!(world.prepare("x", p, None), Ok(()), "again");
    assert_eq!(world.produce(V2, Some("x"), p, 0, 2, 1), Err(Refusal::TransactionState));
    assert_eq!(world.produce(V2, Some("x"), p, 1, 0, 1), Err(Refusal::TransactionState));
    assert_eq!(world.enrol("x", p, &[1]), vec![Err(Refusal::TransactionState)]);
    assert_eq!(world.stage("x", p, 8), Err(Refusal::TransactionState));
    world.pass(LONG);
    world.restart();
    world.expire("x");
    world.expire_idle(Duration::from_secs(1));
    assert_eq!(world.init(Some("x"), None), Err(Refusal::TransactionState), "P10");
    assert_eq!(world.init(Some("x"), Some(p)), Err(Refusal::TransactionState));
    assert_eq!(world.partition_row(0).last_stable_offset(), Offset(0), "it still holds it back");
    assert_eq!(world.end(V2, "x", p, Commit).map(|next| next.id), Ok(p.id));
    assert_eq!((world.partition_row(0).first_open, world.committed_offset()), (None, Some(Offset(7))));
    assert_eq!(world.replayed().durable(), world.rows.durable());
}

#[test]
fn a_new_holder_that_knows_of_it_keeps_a_prepared_transaction_or_aborts_it() {
    let (mut world, p) = prepared(None);
    let kept = world.init_two_phase("x", Some(p), TwoPhase::Keep);
    let Reply::Kept(Kept { holder, prepared: ran_under }) = kept else { panic!("{kept:?}") };
    assert_eq!((holder.id, holder > p, ran_under), (p.id, true, p));
    assert_eq!(world.init_two_phase("x", Some(p), TwoPhase::Keep), kept, "its first reply was lost");
    assert_eq!(
        world.end(V2, "x", p, Commit),
        Err(Refusal::Fenced),
        "the last holder decides nothing any more"
    );
    let next = world.end(V2, "x", holder, Commit).unwrap();
    assert_eq!((world.partition_row(0).first_open, world.committed_offset()), (None, Some(Offset(7))));
    assert_eq!(world.outcome("x", 1).unwrap().producer, p, "the identity of its records");
    assert_eq!(world.produce(V2, Some("x"), holder, 0, 0, 1), Err(Refusal::StaleEpoch));
    world.produce(V2, Some("x"), next, 0, 0, 1).unwrap();

    let (mut world, _) = prepared(None);
    let Reply::Identity(Ok(_)) = world.init_two_phase("x", None, TwoPhase::Abort) else { panic!() };
    assert_eq!((world.partition_row(0).first_open, world.committed_offset()), (None, None));
    assert_eq!(world.outcome("x", 1).unwrap().reason, EndReason::Fenced);
}

#[test]
fn keeping_it_with_the_last_epoch_rotates_the_id_and_the_old_one_is_fenced_by_the_marker() {
    let mut world = World::new(1);
    let first = world.init(Some("x"), None).unwrap();
    world.age("x", 32766);
    let p = Identity { epoch: ProducerEpoch(32766), ..first };
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    world.stage("x", p, 7).unwrap();
    world.prepare("x", p, None).unwrap();
    let kept = world.init_two_phase("x", None, TwoPhase::Keep);
    let Reply::Kept(Kept { holder, prepared: ran_under }) = kept else { panic!("{kept:?}") };
    assert!(holder.id > p.id && ran_under == p);
    world.end(V2, "x", holder, Commit).unwrap();
    assert_eq!((world.partition_row(0).first_open, world.committed_offset()), (None, Some(Offset(7))));
    let row = world.rows.get::<ProducerRow>(&ProducerKey { partition: world.partition(0), producer: p.id });
    assert_eq!(row.unwrap().epoch, ProducerEpoch::FENCED_FOR_GOOD);
}

#[test]
fn a_prepared_transaction_may_have_a_timeout_of_its_own_or_be_decided_by_an_operator() {
    let (mut world, p) = prepared(Some(LONG));
    world.pass(TIMEOUT * 2);
    world.expire("x");
    assert!(world.transaction("x").state.open().is_some(), "its producer's timeout does not count any more");
    world.pass(LONG);
    world.restart();
    world.expire("x");
    assert_eq!(world.outcome("x", 1).unwrap().reason, EndReason::Expired);
    assert_eq!(world.end(V2, "x", p, Commit), Err(Refusal::Fenced));

    for outcome in [Commit, Abort] {
        let (mut world, p) = prepared(None);
        assert_eq!(world.end_by_operator("x", Some(1), outcome), Ok(()));
        let committed = (outcome == Commit).then_some(Offset(7));
        assert_eq!((world.partition_row(0).first_open, world.committed_offset()), (None, committed));
        let asked = world.end(V2, "x", p, Commit);
        assert_eq!(asked.is_ok(), outcome == Commit, "a commit succeeds only if it is one: {asked:?}");
    }
}

#[test]
fn only_what_is_open_can_be_prepared_and_only_by_its_holder() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    assert_eq!(world.prepare("x", p, None), Err(Refusal::TransactionState));
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    let next = world.end(V2, "x", p, Commit).unwrap();
    assert_eq!(world.prepare("x", next, None), Err(Refusal::TransactionState));
    assert_eq!(world.prepare("x", p, None), Err(Refusal::Fenced));
}

#[test]
fn a_topics_budget_ends_what_holds_back_its_last_stable_offset() {
    let mut world = World::new(2);
    world.configure(LSO_BUDGET, "5000");
    let p = world.init(Some("x"), None).unwrap();
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    world.pass(Duration::from_secs(4));
    world.produce(V2, Some("x"), p, 1, 0, 1).unwrap();
    world.expire("x");
    assert!(world.transaction("x").state.open().is_some(), "not yet");
    world.pass(Duration::from_secs(1));
    world.expire("x");
    let outcome = world.outcome("x", 1).unwrap();
    assert_eq!((outcome.outcome, outcome.reason), (Abort, EndReason::Budget));
    assert_eq!(world.produce(V2, Some("x"), p, 0, 1, 1), Err(Refusal::StaleEpoch));
    assert!(world.init(Some("x"), Some(p)).is_ok(), "it was only too slow: KIP-588");

    // A prepared one is exempt.
    let p = world.init(Some("y"), None).unwrap();
    world.produce(V2, Some("y"), p, 0, 0, 1).unwrap();
    world.prepare("y", p, None).unwrap();
    world.pass(LONG);
    world.expire("y");
    assert!(world.end(V2, "y", p, Commit).is_ok());
}

#[test]
fn a_budget_as_long_as_the_timeout_or_longer_changes_nothing() {
    for budget in [TIMEOUT.as_millis().to_string(), "999999999".to_owned()] {
        let mut world = World::new(1);
        world.configure(LSO_BUDGET, &budget);
        let p = world.init(Some("x"), None).unwrap();
        assert_eq!(world.enrol("x", p, &[0]), vec![Ok(())]);
        world.pass(TIMEOUT);
        world.expire("x");
        assert_eq!(world.outcome("x", 1).unwrap().reason, EndReason::Expired, "{budget}");
    }
}
