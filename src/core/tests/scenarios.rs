//! What hardly comes about in histories drawn at random, as short histories of their own, for traces.

use super::world::{Watch, World};
use crate::core::*;
use crate::types::*;

/// The scenarios, by their numbers.
const SCENARIOS: [fn(&mut World); 3] = [
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
        // A producer enrols a group in a transaction that it has prepared (E5, O10).
        let identity = world.init(Some("x"), None).unwrap();
        world.enrol("x", identity, &[0]).remove(0).unwrap();
        world.produce(Protocol::V1, Some("x"), identity, 0, 0, 1).unwrap();
        world.prepare("x", identity, None).unwrap();
        let producer = World::producer("x", identity, 1);
        let enrolled = world.ask(Command::EnrolGroup { producer, group: GroupId::new("g") });
        assert_eq!(enrolled, Reply::Done(Err(Refusal::TransactionState)));
    },
];

/// The scenario of this number, from 1, watched: how many there were, one or none.
pub(crate) fn watch_one(number: u64, watch: Watch) -> usize {
    let at = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
    let Some(scenario) = SCENARIOS.get(at) else { return 0 };
    let mut world = World::new(2);
    world.watch = Some(watch);
    scenario(&mut world);
    1
}
