//! What hardly comes about in histories drawn at random, as short histories of their own, for traces.

use super::restores::restored;
use super::world::{Watch, World};
use crate::core::*;
use crate::types::*;
use std::time::Duration;

/// The scenarios, by their numbers.
const SCENARIOS: [fn(&mut World); 10] = [
    |world| {
        // A producer writes outside of transactions into the partition where its own transaction is open (A1).
        let identity = world.init(Some("x"), None).unwrap();
        world.produce(Protocol::V2, Some("x"), identity, 0, 0, 1).unwrap();
        let plain = world.produce(Protocol::V2, None, identity, 0, 1, 1);
        assert_eq!(plain, Err(Refusal::TransactionState));
    },
    |world| {
        // An operator asks for the commit of a transaction that is open and not prepared (O11).
        let identity = world.init(Some("x"), None).unwrap();
        world.produce(Protocol::V2, Some("x"), identity, 0, 0, 1).unwrap();
        let ended = world.end_by_operator("x", None, Outcome::Commit);
        assert_eq!(ended, Err(Refusal::TransactionState));
    },
    |world| {
        // A producer enrols a group, and a partition, in a transaction that it has prepared (E5, O10).
        let identity = world.init(Some("x"), None).unwrap();
        world.enrol("x", identity, &[0]).remove(0).unwrap();
        world.produce(Protocol::V1, Some("x"), identity, 0, 0, 1).unwrap();
        world.prepare("x", identity, None).unwrap();
        let producer = World::producer("x", identity, 1);
        let enrolled = world.ask(Command::EnrolGroup { producer, group: GroupId::new("g") });
        assert_eq!(enrolled, Reply::Done(Err(Refusal::TransactionState)));
        assert_eq!(world.enrol("x", identity, &[1]), [Err(Refusal::TransactionState)]);
    },
    |world| {
        // A producer of version 1 sends offsets in a transaction in which it has not enrolled the group (E7).
        let identity = world.init(Some("x"), None).unwrap();
        world.enrol("x", identity, &[0]).remove(0).unwrap();
        let staged = world.stage_by(Protocol::V1, World::producer("x", identity, 1), 1);
        assert_eq!(staged, Err(Refusal::NotEnrolled));
    },
    |world| {
        // What a partition no longer remembers of a producer was stored all the same (A9).
        let identity = world.init(None, None).unwrap();
        let mut append = |sequence| world.produce(Protocol::V1, None, identity, 0, sequence, 1);
        (0..7).for_each(|sequence| assert!(append(sequence).is_ok()));
        assert_eq!(append(0), Err(Refusal::DuplicateSequence));
    },
    |world| {
        // The last records come with the commit, once more since the answer was lost, and late when another has begun (O13).
        let identity = world.init(Some("x"), None).unwrap();
        world.produce(Protocol::V2, Some("x"), identity, 0, 0, 1).unwrap();
        let last = |world: &World| {
            let batch = |index, first| world.batch((Some("x"), identity), index, (first, 1), &[]);
            vec![batch(0, 1), batch(1, 0)]
        };
        let (_, next) = world.produce_and_commit("x", identity, last(world));
        assert_eq!(world.produce_and_commit("x", identity, last(world)).1, next);
        world.produce(Protocol::V2, Some("x"), next.unwrap(), 0, 0, 1).unwrap();
        assert_eq!(world.produce_and_commit("x", identity, last(world)).1, None);
        let gap = vec![world.batch((Some("x"), next.unwrap()), 1, (3, 1), &[])];
        assert_eq!(world.produce_and_commit("x", next.unwrap(), gap).1, None);
    },
    |world| {
        // Who takes over what is prepared asks again, since the answer was lost, and is told the same (P6, P10).
        let (identity, kept) = prepared_and_kept(world, None);
        assert_eq!(world.init_two_phase("x", Some(identity), TwoPhase::Keep), kept);
        assert!(matches!(world.transaction("x").state, TransactionState::Prepared(_)));
    },
    |world| {
        // It is taken over at the last epoch: the markers fence the producer id that it was prepared under (P9, P10).
        let identity = world.init(Some("x"), None).unwrap();
        world.age("x", PRODUCER_EPOCH_LAST_USABLE.0);
        let last = Identity { epoch: PRODUCER_EPOCH_LAST_USABLE, ..identity };
        world.produce(Protocol::V2, Some("x"), last, 0, 0, 1).unwrap();
        world.prepare("x", last, None).unwrap();
        let Reply::Kept(Kept { holder, .. }) = world.init_two_phase("x", Some(last), TwoPhase::Keep) else {
            panic!("it is kept")
        };
        assert_ne!(holder.id, identity.id);
        world.end(Protocol::V2, "x", holder, Outcome::Commit).unwrap();
    },
    |world| {
        // What was prepared before a restore, with a timeout of its own, times out as any other (B5, D3).
        prepared_and_kept(world, Some(Duration::from_secs(1)));
        restored(world, 1);
        world.pass(Duration::from_secs(2));
        world.expire("x");
        assert_eq!(world.outcome("x", 1).map(|row| row.outcome), Some(Outcome::Abort));
    },
    |world| {
        // After a restore nobody is taken at his word of batches that a partition does not know (B2).
        let identity = world.init(Some("x"), None).unwrap();
        world.enrol("x", identity, &[0]).remove(0).unwrap();
        restored(world, 1);
        let unknown = world.produce(Protocol::V1, Some("x"), identity, 0, 5, 1);
        assert_eq!(unknown, Err(Refusal::OutOfOrderSequence));
    },
];

/// A transaction of `x` that was prepared, by whom, and what was said when it was taken over.
fn prepared_and_kept(world: &mut World, timeout: Option<Duration>) -> (Identity, Reply) {
    let identity = world.init(Some("x"), None).unwrap();
    world.produce(Protocol::V2, Some("x"), identity, 0, 0, 1).unwrap();
    world.prepare("x", identity, timeout).unwrap();
    let kept = world.init_two_phase("x", Some(identity), TwoPhase::Keep);
    (identity, kept)
}

/// The scenario of this number, from 1, watched: how many there were, one or none.
pub(crate) fn watch_one(number: u64, watch: Watch) -> usize {
    let at = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
    let Some(scenario) = SCENARIOS.get(at) else { return 0 };
    let mut world = World::new(2);
    world.watch = Some(watch);
    scenario(&mut world);
    1
}
