//! Idempotency keys, rule by rule.

use super::world::World;
use crate::core::topic_settings::KEY_WINDOW_MS;
use crate::core::*;
use crate::types::*;
use std::time::Duration;

use Outcome::{Abort, Commit};
use Protocol::V2;

const NOBODY: Identity = Identity { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };
const WINDOW: Duration = Duration::from_secs(100);

fn world() -> World {
    let mut world = World::new(2);
    world.set(KEY_WINDOW_MS, "100000");
    world
}

/// A plain batch of as many records as keys.
fn plain(world: &mut World, index: i32, keys: &[&str]) -> Result<Appended, NotAppended> {
    let records = u32::try_from(keys.len()).unwrap();
    world.produce_keyed(V2, (None, NOBODY), index, (0, records), keys)
}

fn conflict(record: u32, at: Option<(i32, i64)>) -> KeyConflict {
    KeyConflict { record, accepted_at: at.map(|(index, offset)| (PartitionIndex(index), Offset(offset))) }
}

#[test]
fn a_key_is_accepted_once_in_all_partitions_of_a_topic_and_the_answer_says_where() {
    let mut world = world();
    plain(&mut world, 0, &["a", "b"]).unwrap();
    let before = world.rows.durable();
    let refused = plain(&mut world, 1, &["c", "b", "c"]).unwrap_err();
    assert_eq!(refused.refusal, Refusal::KeyAccepted);
    assert_eq!(refused.keys, [conflict(1, Some((0, 1))), conflict(2, None)]);
    assert_eq!(world.rows.durable(), before, "nothing of the batch is left, nor its other keys");
    plain(&mut world, 1, &["c"]).unwrap();
}

#[test]
fn a_refused_batch_uses_no_sequence_and_enrols_nothing() {
    let mut world = world();
    plain(&mut world, 0, &["a"]).unwrap();
    let p = world.init(None, None).unwrap();
    let refused = world.produce_keyed(V2, (None, p), 0, (0, 1), &["a"]).unwrap_err();
    assert_eq!(refused.refusal, Refusal::KeyAccepted);
    world.produce(V2, None, p, 0, 0, 1).unwrap();
    let t = world.init(Some("x"), None).unwrap();
    world.produce_keyed(V2, (Some("x"), t), 0, (0, 1), &["a"]).unwrap_err();
    assert_eq!(world.transaction("x").state, TransactionState::Empty);
}

#[test]
fn a_retry_of_a_stored_batch_is_a_duplicate_and_not_a_known_key() {
    let mut world = world();
    let p = world.init(None, None).unwrap();
    let first = world.produce_keyed(V2, (None, p), 0, (0, 2), &["a", "b"]).unwrap();
    let again = world.produce_keyed(V2, (None, p), 0, (0, 2), &["a", "b"]).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (first.base_offset, true));
    for sequence in 2..8 {
        world.produce(V2, None, p, 0, sequence, 1).unwrap();
    }
    let late = world.produce_keyed(V2, (None, p), 0, (0, 2), &["a", "b"]).unwrap_err();
    assert_eq!(late.refusal, Refusal::DuplicateSequence, "also where its offset is forgotten");
}

#[test]
fn the_end_of_its_window_frees_a_key_and_nothing_before_it_does() {
    let mut world = world();
    plain(&mut world, 0, &["a"]).unwrap();
    let end = Cut { offset: Offset(1), bytes: 100 };
    world.ask(Command::DeleteRecords { partition: world.partition(0), to: end });
    world.pass(WINDOW - Duration::from_millis(1));
    world.restart();
    world.forget_keys();
    world.expire_idle(Duration::from_secs(1));
    assert_eq!(plain(&mut world, 0, &["a"]).unwrap_err().refusal, Refusal::KeyAccepted);
    world.pass(Duration::from_millis(1));
    let again = plain(&mut world, 1, &["a"]).unwrap();
    world.forget_keys();
    let refused = plain(&mut world, 0, &["a"]).unwrap_err();
    assert_eq!(refused.keys, [conflict(0, Some((1, again.base_offset.0)))], "it has the newer one's window");
    assert_eq!(world.replayed().durable(), world.rows.durable());
    world.pass(WINDOW);
    world.forget_keys();
    let left = |key: &RowKey| matches!(key, RowKey::IdempotencyKey(_) | RowKey::KeyEnd(_));
    assert!(!world.rows.0.keys().any(left), "nothing is left of it");
}

#[test]
fn a_window_is_the_one_that_held_when_the_key_was_taken() {
    let mut world = world();
    plain(&mut world, 0, &["a"]).unwrap();
    world.set(KEY_WINDOW_MS, "1000");
    plain(&mut world, 0, &["b"]).unwrap();
    world.pass(Duration::from_secs(1));
    assert!(plain(&mut world, 0, &["a"]).is_err());
    plain(&mut world, 0, &["b"]).unwrap();
}

#[test]
fn an_open_transaction_holds_its_keys_an_abort_frees_them_and_a_commit_accepts_them() {
    let mut world = world();
    let x = world.init(Some("x"), None).unwrap();
    let y = world.init(Some("y"), None).unwrap();
    let keyed = |world: &mut World, id, identity, sequence| {
        world
            .produce_keyed(V2, (Some(id), identity), 0, (sequence, 1), &["a"])
            .map_err(|refused| refused.refusal)
    };
    let held = keyed(&mut world, "x", x, 0).unwrap();
    assert_eq!(keyed(&mut world, "x", x, 1), Err(Refusal::KeyAccepted), "it has it itself");
    assert_eq!(keyed(&mut world, "y", y, 0), Err(Refusal::KeyHeldFromTransaction));
    assert_eq!(plain(&mut world, 1, &["a"]).unwrap_err(), Refusal::KeyHeld.into());
    let x = world.end(V2, "x", x, Abort).unwrap();
    let taken = keyed(&mut world, "y", y, 0).unwrap();
    assert!(taken.base_offset > held.base_offset);
    assert_eq!(keyed(&mut world, "x", x, 0), Err(Refusal::KeyHeldFromTransaction));
    world.end(V2, "y", y, Commit).unwrap();
    let refused = world.produce_keyed(V2, (Some("x"), x), 1, (0, 1), &["a"]).unwrap_err();
    assert_eq!(refused.keys, [conflict(0, Some((0, taken.base_offset.0)))]);
    assert_eq!(world.replayed().durable(), world.rows.durable());
    world.pass(WINDOW);
    world.forget_keys();
    let left =
        |key: &RowKey| matches!(key, RowKey::FreedKeys(_) | RowKey::FreedKeysEnd(_) | RowKey::KeyHolder(_));
    assert!(!world.rows.0.keys().any(left), "nor of who had it");
}

#[test]
fn every_kind_of_abort_frees_the_keys() {
    type End = fn(&mut World, Identity);
    let ends: [(&str, End); 4] = [
        ("timeout", |world, _| {
            world.pass(super::world::TIMEOUT);
            world.fire_timers();
        }),
        ("new holder", |world, _| assert!(world.init(Some("x"), None).is_ok())),
        ("operator", |world, _| world.end_by_operator("x", None, Abort).unwrap()),
        ("version 1", |world, x| assert!(world.end(Protocol::V1, "x", x, Abort).is_ok())),
    ];
    for (how, end) in ends {
        let mut world = world();
        let x = world.init(Some("x"), None).unwrap();
        world.produce_keyed(V2, (Some("x"), x), 0, (0, 1), &["a"]).unwrap();
        end(&mut world, x);
        assert!(plain(&mut world, 0, &["a"]).is_ok(), "{how}");
    }
}

#[test]
fn a_prepared_transaction_holds_its_keys_also_under_another_holder() {
    for outcome in [Commit, Abort] {
        let mut world = world();
        let x = world.init(Some("x"), None).unwrap();
        world.produce_keyed(V2, (Some("x"), x), 0, (0, 1), &["a"]).unwrap();
        world.prepare("x", x, None).unwrap();
        world.pass(Duration::from_secs(50));
        world.restart();
        let kept = world.init_two_phase("x", Some(x), TwoPhase::Keep);
        let Reply::Kept(Kept { holder, .. }) = kept else { panic!("{kept:?}") };
        assert_eq!(plain(&mut world, 0, &["a"]).unwrap_err().refusal, Refusal::KeyHeld);
        world.end(V2, "x", holder, outcome).unwrap();
        assert_eq!(plain(&mut world, 0, &["a"]).is_ok(), outcome == Abort);
    }
}

#[test]
fn a_deleted_topics_keys_go_and_a_topic_made_again_has_none_of_them() {
    let mut world = world();
    plain(&mut world, 0, &["a"]).unwrap();
    assert_eq!(world.ask(Command::DeleteTopic { topic: world.topic }), Reply::Done(Ok(())));
    world.forget_keys();
    let left = |key: &RowKey| matches!(key, RowKey::IdempotencyKey(_) | RowKey::KeyEnd(_));
    assert!(!world.rows.0.keys().any(left));
}
