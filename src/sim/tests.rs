//! Seeds, replay, determinism, and what the simulation is able to find.

use super::faults::{Busy, Counts, Fault};
use super::plan::{Part, Plan};
use super::shrink::shrink;
use super::world::{Outcome, run};
use crate::core::mutant::{Mutant, with_mutant};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Worlds of one run of the tests, each of which is run twice; `SIM_SEEDS` says how many others, `SIM_FIRST` where to begin.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Looks at each of many seeds, on all processors.
fn each(first: u64, count: u64, look: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let _watched = watch(seed);
                    let begun = std::time::Instant::now();
                    look(seed);
                    if number("SIM_VERBOSE").is_some() {
                        println!("seed {seed}: {:?}", begun.elapsed());
                    }
                }
            });
        }
    });
}

/// Says so when a world takes so long that something must turn in a circle.
fn watch(seed: u64) -> std::sync::mpsc::Sender<()> {
    let (over, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if wait.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            println!("seed {seed} has been running for two minutes: {}", Plan::of(seed));
        }
    });
    over
}

#[derive(Default)]
struct Sum {
    counts: Counts,
    lives: u64,
    events: usize,
    looked_at: BTreeMap<crate::history::Property, u64>,
    broken: Vec<Outcome>,
}

/// The first world, of so many, in which a mutant breaks something: its seed, and what.
fn search(mutant: Mutant, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| {
        let outcome = with_mutant(Some(mutant), || run(&Plan::of(seed), false));
        outcome.broken.into_iter().next().map(|broken| (seed, broken))
    })
}

/// For each of these mutants the first world that finds it, of so many.
pub(crate) fn search_all(mutants: &[Mutant], seeds: u64) -> BTreeMap<Mutant, (u64, String)> {
    let next = AtomicUsize::new(0);
    let found: Mutex<BTreeMap<Mutant, (u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let first = search(*mutant, seeds);
                    if number("SIM_VERBOSE").is_some() {
                        println!("{mutant:?}: {first:?}");
                    }
                    first.into_iter().for_each(|first| drop(found.lock().unwrap().insert(*mutant, first)));
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Runs a world twice, to see whether it is the same one, line by line.
fn run_twice(plan: &Plan) -> Outcome {
    let (one, other) = (run(plan, true), run(plan, true));
    for (number, (one, other)) in one.log.lines().zip(other.log.lines()).enumerate() {
        assert_eq!(one, other, "line {} of the world of seed {}", number + 1, plan.seed);
    }
    assert_eq!(one.log.len(), other.log.len(), "seed {}", plan.seed);
    assert_eq!(one.events, other.events, "seed {}", plan.seed);
    assert_eq!(one.counts, other.counts, "seed {}", plan.seed);
    one
}

#[test]
fn nothing_is_broken_in_any_world_and_the_same_seed_is_the_same_world() {
    let (first, count) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(SEEDS));
    let is_usual = (first, count) == (1, SEEDS);
    let sum = Arc::new(Mutex::new(Sum::default()));
    let begun = std::time::Instant::now();
    each(first, count, |seed| {
        let plan = Plan::of(seed);
        let outcome = if is_usual { run_twice(&plan) } else { run(&plan, false) };
        let mut sum = sum.lock().unwrap();
        sum.counts.add(&outcome.counts);
        sum.lives += outcome.lives;
        sum.events += outcome.events.len();
        for (property, times) in &outcome.looked_at {
            *sum.looked_at.entry(*property).or_default() += times;
        }
        if !outcome.broken.is_empty() {
            println!("seed {}: {:#?}", outcome.plan.seed, &outcome.broken[..outcome.broken.len().min(3)]);
            sum.broken.push(outcome);
        }
    });
    let sum = sum.lock().unwrap();
    println!("{count} seeds in {:?}: {} lives, {} steps of clients", begun.elapsed(), sum.lives, sum.events);
    let of = |faults: [Fault; 2]| faults.map(|fault| sum.counts.of(fault)).iter().sum::<u64>();
    let crashes = of([Fault::Crash, Fault::CrashInCall]);
    println!("{crashes} crashes, {} power cuts", of([Fault::PowerCut, Fault::PowerCutInCall]));
    println!("{}", sum.counts);
    println!("looked at: {:?}", sum.looked_at);
    if is_usual {
        assert_eq!(missing(&sum.counts), [], "these never come together, so nothing is known about them");
    }
    if let Some(first) = sum.broken.first() {
        let smallest = shrink(&first.plan, |plan| !run(plan, false).broken.is_empty());
        let mut report = String::new();
        sum.broken
            .iter()
            .for_each(|outcome| writeln!(report, "{}: {}", outcome.plan, outcome.broken[0]).unwrap());
        panic!(
            "{} of {count} worlds are broken:\n{report}the first, made smaller: {smallest}",
            sum.broken.len()
        );
    }
}

/// The faults that never came while somebody was busy with that, though they can.
fn missing(counts: &Counts) -> Vec<(Fault, Busy)> {
    let in_calls = [Fault::CrashInCall, Fault::PowerCutInCall];
    let kills = [Fault::Crash, Fault::PowerCut, Fault::CrashInCall, Fault::PowerCutInCall];
    let can = |fault: Fault, busy: Busy| match busy {
        // The start is one step, but for its calls to the disk.
        Busy::Starting => in_calls.contains(&fault),
        Busy::RowsBehind => kills.contains(&fault),
        _ => true,
    };
    let pairs = Fault::ALL.into_iter().flat_map(|fault| Busy::ALL.map(|busy| (fault, busy)));
    pairs.filter(|(fault, busy)| can(*fault, *busy) && !counts.pairs.contains_key(&(*fault, *busy))).collect()
}

/// One world once more, with a log that can be read: `SIM_SEED`, and `SIM_WITHOUT` what was taken away from it.
#[test]
fn replay() {
    let Some(seed) = number("SIM_SEED") else { return };
    let without = std::env::var("SIM_WITHOUT").unwrap_or_default();
    let parts = without.split(',').filter_map(Part::named);
    let plan = parts.fold(Plan::of(seed), |plan, part| plan.without(part).unwrap_or(plan));
    let outcome = run(&plan, true);
    let path = std::env::temp_dir().join(format!("semel-sim-{seed}.log"));
    std::fs::write(&path, &outcome.log).unwrap();
    println!("{plan}\n{}\n{} lives; the log is {}", outcome.counts, outcome.lives, path.display());
    assert!(outcome.broken.is_empty(), "{:#?}", outcome.broken);
}

/// Which mutants the first worlds find: for whoever changes the worlds. `SIM_MUTANTS` names some, or all.
#[test]
#[ignore = "takes as long as there are mutants"]
fn mutants() {
    let named = std::env::var("SIM_MUTANTS").unwrap_or_default();
    let is_named =
        |mutant: &Mutant| named.is_empty() || named.split(',').any(|name| format!("{mutant:?}") == name);
    let looked_for: Vec<Mutant> = Mutant::ALL.iter().copied().filter(is_named).collect();
    let found = search_all(&looked_for, number("SIM_SEEDS").unwrap_or(20));
    let most = found.values().map(|(seed, _)| seed).max();
    println!("{} of {} are found, the last in world {most:?}: {found:#?}", found.len(), looked_for.len());
}
