//! Random histories, judged by the properties of `spec/guarantees.md`.

use super::findings::Broken;
use super::history::{Clients, IDS, Step, step};
use super::judge::Judge;
use super::world::{TIMEOUT, Watch, World};
use crate::core::limits::with_small_rows;
use crate::core::{RowKey, RowValue, TransactionState, topic_settings};
use crate::types::{Offset, ProducerId};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::time::Duration;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..60)
}

/// A history that `runner` draws: how many steps it took, and what did not hold then.
pub(crate) fn judge_one(runner: &mut TestRunner) -> (usize, Result<(), Broken>) {
    judge(&steps().new_tree(runner).unwrap().current())
}

/// A history that `runner` draws, watched: what it breaks is not looked at.
pub(crate) fn watch_one(runner: &mut TestRunner, watch: Watch) -> usize {
    let steps = steps().new_tree(runner).unwrap().current();
    let (mut world, mut clients) = (World::new(2), Clients::default());
    world.watch = Some(watch);
    let mut aged = false;
    for step in &steps {
        aged |= matches!(step, Step::Age { .. });
        if !(aged && matches!(step, Step::Restart)) {
            clients.take(&mut world, step);
        }
    }
    steps.len()
}

fn judge(steps: &[Step]) -> (usize, Result<(), Broken>) {
    let mut world = World::new(2);
    // So long that some keys are sent again before it is over, and some after.
    world.set(topic_settings::KEY_WINDOW_MS, "100000");
    let (mut clients, mut judge) = (Clients::default(), Judge::of(world.topic));
    let (mut judged, mut aged) = (0, false);
    for (number, step) in steps.iter().enumerate() {
        // Ageing puts a row where no event has brought it; after it, rows and events no longer agree.
        aged |= matches!(step, Step::Age { .. });
        if matches!(step, Step::Restart) && aged {
            continue;
        }
        judge.begin(&world, matches!(step, Step::Restart));
        let said = clients.take(&mut world, step);
        judge.events(&world.log[judged..]);
        judged = world.log.len();
        said.iter().for_each(|said| judge.said(said));
        judge.offset(world.committed_offset());
        (0..2).for_each(|index| {
            judge.reads(world.partition(index), world.partition_row(index), &aborted(&world, index))
        });
        if !aged {
            let same = world.replayed().durable() == world.rows.durable();
            judge.findings.holds(same, "DurableBeforeVisible", "the rows are the fold of the log");
        }
        if let Err(broken) = judge.findings.verdict() {
            return (number + 1, Err(broken));
        }
    }
    world.pass(TIMEOUT + Duration::from_secs(1));
    world.fire_timers();
    for id in IDS {
        let row = world.find_transaction(id);
        let open = row.is_some_and(|row| matches!(row.state, TransactionState::Ongoing(_)));
        judge.findings.holds(!open, "LsoAdvances", "a transaction that is not prepared ends by itself");
    }
    (steps.len(), judge.findings.verdict())
}

/// The ranges of aborted transactions in a partition: producer, first offset, marker.
fn aborted(world: &World, index: i32) -> Vec<(ProducerId, Offset, Offset)> {
    let partition = world.partition(index);
    let range = |(key, row): (&RowKey, &RowValue)| match (key, row) {
        (RowKey::Aborted(key), RowValue::Aborted(row)) if key.partition == partition => {
            Some((key.producer, row.first, key.marker))
        }
        _ => None,
    };
    world.rows.0.iter().filter_map(range).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_properties_hold_in_every_history(steps in steps(), room in 0usize..3) {
        let (_, verdict) = with_small_rows(room, || judge(&steps));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}
