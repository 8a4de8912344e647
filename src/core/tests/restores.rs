//! A log that was restored from a backup (`spec/transactions.md`, section 10): its clients go on, and know what it does not.

use super::findings::Broken;
use super::history::{Clients, IDS, Step, step};
use super::judge::Judge;
use super::world::World;
use crate::core::*;
use crate::types::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::time::Duration;
use uuid::Uuid;

use Outcome::{Abort, Commit};
use Protocol::{V1, V2};

/// What a backup has.
struct Backup(Vec<(ServedTime, Event)>);

impl Backup {
    fn of(world: &World) -> Backup {
        Backup(world.log.clone())
    }

    /// The world goes on from here, as the shard starts after a restore: what was open is looked at at once.
    fn restore(&self, world: &mut World, restore: u128) {
        world.log.clone_from(&self.0);
        world.restart();
        world.now.wall = Timestamp(world.now.wall.0 + 1);
        restored(world, restore);
        IDS.iter().for_each(|id| world.expire(id));
    }
}

pub(super) fn restored(world: &mut World, restore: u128) {
    let command = Command::RestoreLog { restore: Uuid::from_u128(restore) };
    assert_eq!(world.ask(command), Reply::Done(Ok(())));
}

#[test]
fn a_producer_that_wrote_after_the_backup_is_neither_taken_for_a_duplicate_nor_goes_on_behind_a_gap() {
    let mut world = World::new(2);
    let p = world.init(None, None).unwrap();
    world.produce(V2, None, p, 0, 0, 2).unwrap();
    let backup = Backup::of(&world);
    world.produce(V2, None, p, 0, 2, 2).unwrap();
    world.produce(V2, None, p, 1, 0, 2).unwrap();
    let late = world.init(None, None).unwrap();
    world.produce(V2, None, late, 0, 0, 2).unwrap();

    backup.restore(&mut world, 1);
    assert!(world.produce(V2, None, p, 0, 0, 2).unwrap().duplicate, "it is in the backup");
    assert_eq!(world.produce(V2, None, p, 0, 4, 1), Err(Refusal::OutOfOrderSequence), "2 and 3 are gone");
    assert_eq!(world.produce(V2, None, p, 1, 2, 1), Err(Refusal::OutOfOrderSequence), "unknown here (B2)");
    assert_eq!(world.produce(V2, None, late, 0, 2, 1), Err(Refusal::OutOfOrderSequence));
    assert_eq!(world.produce(V2, None, p, 0, 2, 2).unwrap().base_offset, Offset(2), "sent once more");
    let bumped = Identity { epoch: ProducerEpoch(1), ..late };
    world.produce(V2, None, bumped, 0, 0, 1).unwrap();

    let fresh = world.init(None, None).unwrap();
    assert!(fresh.id > late.id);
    world.produce(V2, None, fresh, 0, 7, 1).expect("an id of after the restore may go on (KIP-360)");
}

#[test]
fn ids_of_two_restores_of_one_backup_differ() {
    let mut world = World::new(1);
    world.now.wall = Timestamp(1_700_000_000_000);
    let backup = Backup::of(&world);
    let mut last = ProducerId(-1);
    for restore in 1..4 {
        backup.restore(&mut world, restore);
        for _ in 0..3 {
            let id = world.init(None, None).unwrap().id;
            assert!(id > last);
            last = id;
        }
    }
}

#[test]
fn a_restore_counts_once_however_often_it_is_said() {
    let mut world = World::new(1);
    restored(&mut world, 5);
    let (p, events) = (world.init(Some("x"), None).unwrap(), world.log.len());
    restored(&mut world, 5);
    assert_eq!(world.log.len(), events);
    world.produce(V2, Some("x"), p, 0, 0, 1).unwrap();
    restored(&mut world, 6);
    assert_eq!(world.produce(V2, Some("x"), p, 0, 1, 1), Err(Refusal::StaleEpoch));
    assert_eq!(world.rows.get::<RestoredRow>(&()).unwrap().leader_epoch, LeaderEpoch(2));
}

#[test]
fn whoever_held_a_transactional_id_is_fenced_and_what_was_open_is_aborted() {
    for protocol in [V1, V2] {
        let mut world = World::new(2);
        let p = world.init(Some("x"), None).unwrap();
        world.enrol("x", p, &[0]);
        world.produce(protocol, Some("x"), p, 0, 0, 2).unwrap();
        world.stage("x", p, 7).unwrap();
        let backup = Backup::of(&world);
        let next = world.end(protocol, "x", p, Commit).unwrap();

        backup.restore(&mut world, 1);
        assert_eq!(
            world.outcome("x", 1).map(|row| (row.outcome, row.reason)),
            Some((Abort, EndReason::Restored))
        );
        assert_eq!((world.partition_row(0).first_open, world.committed_offset()), (None, None));
        for old in [p, next] {
            assert_eq!(world.end(protocol, "x", old, Commit), Err(Refusal::Fenced), "also not as a retry");
            assert_eq!(world.init(Some("x"), Some(old)), Err(Refusal::Fenced));
            assert_eq!(world.enrol("x", old, &[1]), vec![Err(Refusal::Fenced)]);
            assert_eq!(world.stage("x", old, 9), Err(Refusal::Fenced));
            let late = world.produce(protocol, Some("x"), old, 1, 0, 1);
            assert_eq!(late, Err(Refusal::StaleEpoch));
        }
        let fresh = world.init(Some("x"), None).unwrap();
        assert!(fresh.id > p.id, "no epoch of the old id is given out again (B4)");
        world.produce(V2, Some("x"), fresh, 0, 0, 1).unwrap();
        world.end(V2, "x", fresh, Commit).unwrap();
        assert_eq!(world.transaction("x").number, TxnNumber(2));
    }
}

#[test]
fn a_retry_of_a_commit_in_the_backup_is_not_told_from_one_of_a_later_commit_and_so_refused() {
    let mut world = World::new(1);
    let p = world.init(Some("x"), None).unwrap();
    world.enrol("x", p, &[0]);
    world.end(V1, "x", p, Commit).unwrap();
    let backup = Backup::of(&world);
    backup.restore(&mut world, 1);
    assert_eq!(world.end(V1, "x", p, Commit), Err(Refusal::Fenced));
}

#[test]
fn what_is_prepared_stays_for_who_takes_it_over_or_an_operator() {
    for by_operator in [false, true] {
        let mut world = World::new(1);
        let p = world.init(Some("x"), None).unwrap();
        world.produce(V2, Some("x"), p, 0, 0, 2).unwrap();
        world.prepare("x", p, None).unwrap();
        let backup = Backup::of(&world);
        backup.restore(&mut world, 1);
        assert_eq!(world.end(V2, "x", p, Commit), Err(Refusal::Fenced), "it may mean a later one");
        assert_eq!(world.init(Some("x"), None), Err(Refusal::TransactionState), "P10");
        let fresh = if by_operator {
            world.end_by_operator("x", Some(1), Commit).unwrap();
            world.init(Some("x"), None).unwrap()
        } else {
            let kept = world.init_two_phase("x", None, TwoPhase::Keep);
            let Reply::Kept(Kept { holder, prepared }) = kept else { panic!("{kept:?}") };
            assert_eq!(prepared, p);
            world.end(V2, "x", holder, Commit).unwrap()
        };
        assert!(fresh.id > p.id);
        assert_eq!(world.outcome("x", 1).unwrap().outcome, Commit);
        assert_eq!(world.partition_row(0).last_stable_offset(), Offset(3));
        assert_eq!(world.produce(V2, Some("x"), p, 0, 2, 1), Err(Refusal::StaleEpoch));
    }
}

#[test]
fn leader_epochs_say_up_to_where_what_was_read_is_there() {
    let mut world = World::new(2);
    let plain = |world: &mut World, index| {
        let p = world.init(None, None).unwrap();
        world.produce(V2, None, p, index, 0, 2).unwrap();
    };
    plain(&mut world, 0);
    restored(&mut world, 1);
    let row = |world: &World, index| world.rows.get::<LeaderEpochsRow>(&world.partition(index)).cloned();
    let end = |world: &World, index, epoch| {
        let (row, next) = (row(world, index).unwrap_or_default(), world.partition_row(index).next_offset);
        row.end_of(LeaderEpoch(epoch), next).map(|(epoch, end)| (epoch.0, end.0))
    };
    assert_eq!(end(&world, 0, 0), Some((0, 2)), "nothing is appended yet");
    plain(&mut world, 0);
    plain(&mut world, 0);
    assert_eq!((end(&world, 0, 0), end(&world, 0, 1)), (Some((0, 2)), Some((1, 6))));
    restored(&mut world, 2);
    restored(&mut world, 3);
    plain(&mut world, 0);
    plain(&mut world, 1);
    assert_eq!((end(&world, 0, 1), end(&world, 0, 2)), (Some((1, 6)), Some((1, 6))));
    assert_eq!((end(&world, 0, 3), end(&world, 1, 0)), (Some((3, 8)), Some((0, 0))));
    let at = |offset| row(&world, 0).unwrap().at(Offset(offset)).map(|epoch| epoch.0);
    assert_eq!([at(0), at(1), at(2), at(5), at(6), at(9)], [0, 0, 1, 1, 3, 3].map(Some));
    assert_eq!(world.replayed().durable(), world.rows.durable());

    for restore in 4..90 {
        restored(&mut world, restore);
        plain(&mut world, 0);
    }
    assert_eq!(
        (end(&world, 0, 0), at_first(&row(&world, 0).unwrap())),
        (None, None),
        "forgotten, and said so"
    );
}

fn at_first(row: &LeaderEpochsRow) -> Option<LeaderEpoch> {
    row.at(Offset::ZERO)
}

/// A history, the moment of a backup in it, and what the same clients do after the restore.
type Story = (Vec<Step>, prop::sample::Index, Vec<Step>);

fn story() -> impl Strategy<Value = Story> {
    let steps = || {
        // Ageing puts a row where no event has brought it: a restart, and a restore, would lose that.
        let step = step().prop_filter("only what is logged", |step| !matches!(step, Step::Age { .. }));
        proptest::collection::vec(step, 1..50)
    };
    (steps(), any::<prop::sample::Index>(), steps())
}

/// A story that `runner` draws: how many steps it took, and what did not hold then.
pub(crate) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    judge(&story().new_tree(runner).unwrap().current())
}

fn judge((before, backed_up, after): &Story) -> (usize, Result<(), Broken>) {
    let mut world = World::new(2);
    let (mut clients, mut judge) = (Clients::default(), Judge::of(world.topic));
    let mut judged = 0;
    let (mut backup, mut judge_of_backup) = (Backup::of(&world), judge.clone());
    for (number, step) in before.iter().enumerate() {
        take(&mut world, &mut clients, &mut judge, &mut judged, step);
        if number == backed_up.index(before.len()) {
            (backup, judge_of_backup) = (Backup::of(&world), judge.clone());
        }
    }
    judge_of_backup.restored(&judge);
    judge = judge_of_backup;
    judged = backup.0.len();
    backup.restore(&mut world, 1);
    judge.events(&world.log[judged..]);
    judged = world.log.len();
    for (number, step) in after.iter().enumerate() {
        take(&mut world, &mut clients, &mut judge, &mut judged, step);
        if let Err(broken) = judge.findings.verdict() {
            return (before.len() + number + 1, Err(broken));
        }
    }
    world.pass(Duration::from_secs(100));
    world.fire_timers();
    (before.len() + after.len(), judge.findings.verdict())
}

fn take(world: &mut World, clients: &mut Clients, judge: &mut Judge, judged: &mut usize, step: &Step) {
    judge.begin(world, matches!(step, Step::Restart));
    let said = clients.take(world, step);
    judge.events(&world.log[*judged..]);
    *judged = world.log.len();
    said.iter().for_each(|said| judge.said(said));
    judge.offset(world.committed_offset());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_hold_over_a_restore(story in story()) {
        let (_, verdict) = judge(&story);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}
