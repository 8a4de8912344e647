//! Every mutant (`core/mutant.rs`) is caught by the properties over random histories; `spec/mutants.md` tells by which.

use super::traces::{self, Source};
use super::{compaction, history};
use crate::core::invariants::noting;
use crate::core::limits::with_small_rows;
use crate::core::mutant::{Mutant, with_mutant};
use crate::core::tests::findings::Broken;
use crate::core::tests::{consumers, groups, migration, properties, restores};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fmt::Write as _;

/// Histories with their judge.
#[derive(Clone, Copy)]
struct Kind {
    /// Judges one: how many steps it took, and what did not hold then.
    judge_one: fn(&mut TestRunner) -> (usize, Result<(), Broken>),
    /// So many a mutant may live through, and pass without one.
    histories: u64,
    /// The same as traces, where there are such.
    source: Option<Source>,
}

const TRANSACTIONS: Kind =
    Kind { judge_one: properties::judge_one, histories: 500, source: Some(Source::Transactions) };
const RESTORES: Kind =
    Kind { judge_one: restores::judge_one, histories: 500, source: Some(Source::Transactions) };
const GROUPS: Kind = Kind { judge_one: groups::judge_one, histories: 300, source: Some(Source::Groups) };
const CONSUMERS: Kind =
    Kind { judge_one: consumers::judge_one, histories: 300, source: Some(Source::Groups) };
/// Only the events of the other two kinds are held against the specification.
const MIGRATION: Kind = Kind { judge_one: migration::judge_one, histories: 300, source: None };
/// Each has a store of its own.
const SHARD: Kind = Kind { judge_one: history::judge_one, histories: 300, source: Some(Source::Shard) };

/// Each has a log and a store of its own.
const COMPACTION: Kind = Kind { judge_one: compaction::judge_one, histories: 40, source: None };

/// Where a mutant is looked for.
fn kind(mutant: Mutant) -> Kind {
    match mutant {
        Mutant::GenerationGoesBack
        | Mutant::DepartureNotDurable
        | Mutant::OldGenerationCommits
        | Mutant::LeaverNotAnswered => GROUPS,
        Mutant::IdsReusedAfterRestore | Mutant::RestoreForgotten | Mutant::EpochsReusedAfterRestore => {
            RESTORES
        }
        Mutant::AssignedBeforeRevoked
        | Mutant::RevocationNotAwaited
        | Mutant::OldMemberEpochGoesOn
        | Mutant::OldMemberEpochCommits
        | Mutant::GroupEpochGoesBack => CONSUMERS,
        Mutant::UpgradeHoldsNothing | Mutant::ClassicMemberNotAsked => MIGRATION,
        Mutant::ReplyBeforeFsync
        | Mutant::RefusalDoesNotWait
        | Mutant::WatermarkBeforeFsync
        | Mutant::AbortedRangeNotShown
        | Mutant::LayerDropped
        | Mutant::EvictedBeforeApplied
        | Mutant::StaleLoadedRow
        | Mutant::LoadingTakenForAbsent
        | Mutant::OvertakesItsConnection
        | Mutant::ReplayOneShort
        | Mutant::TimersForgotten => SHARD,
        Mutant::CompactsUndecided
        | Mutant::LastBatchCompacted
        | Mutant::TombstoneForgottenAtOnce
        | Mutant::AbortedSupersedes
        | Mutant::AbortedRangeSweptTooEarly
        | Mutant::GapNotWritten
        | Mutant::OlderGenerationCounts => COMPACTION,
        _ => TRANSACTIONS,
    }
}

/// The worlds of the simulation in which a mutant has to show, at most: the first ones.
const WORLDS: u64 = 100;

/// The mutants that the simulation claims: those that clients of a whole broker see in its first worlds. Nothing is
/// restored there, and nobody's epochs are used up.
const SIMULATED: &[Mutant] = &[
    Mutant::DuplicateAppended,
    Mutant::SequenceGapAccepted,
    Mutant::OffsetReused,
    Mutant::HolderNotCompared,
    Mutant::FenceSkipped,
    Mutant::EpochNotRaised,
    Mutant::MarkerTwice,
    Mutant::MarkerSkipped,
    Mutant::MarkerOfOtherOutcome,
    Mutant::CommitAfterAbort,
    Mutant::DeadlineLost,
    Mutant::OffsetsBeforeOutcome,
    Mutant::OffsetsKeptOnAbort,
    Mutant::LsoOffByOne,
    Mutant::LsoOverlooksOthers,
    Mutant::AbortedRangeOneShort,
    Mutant::ReplyBeforeFsync,
    Mutant::WatermarkBeforeFsync,
    Mutant::AbortedRangeNotShown,
    Mutant::LayerDropped,
    Mutant::LoadingTakenForAbsent,
    Mutant::OvertakesItsConnection,
    Mutant::ReplayOneShort,
    Mutant::TimersForgotten,
    Mutant::CompactsUndecided,
    Mutant::TombstoneForgottenAtOnce,
    Mutant::AbortedSupersedes,
    Mutant::AbortedRangeSweptTooEarly,
    Mutant::GapNotWritten,
    Mutant::AssignedBeforeRevoked,
    Mutant::RevocationNotAwaited,
    Mutant::OldMemberEpochGoesOn,
    Mutant::OldMemberEpochCommits,
    Mutant::GroupEpochGoesBack,
];

struct Caught {
    broken: Broken,
    history: u64,
    /// In all histories together.
    steps: usize,
}

/// How much has room in a row of a history: in some nothing, so that what lies beyond is reached soon.
fn room(history: u64) -> usize {
    usize::try_from(history % 3).unwrap()
}

/// Judges the history of this number.
fn judge_history(mutant: Option<Mutant>, kind: Kind, history: u64) -> (usize, Result<(), Broken>) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&history.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    with_mutant(mutant, || with_small_rows(room(history), || (kind.judge_one)(&mut runner)))
}

/// Histories number 1, 2, … until something does not hold. They are the same each time.
fn search(mutant: Option<Mutant>, kind: Kind) -> Option<Caught> {
    let mut steps = 0;
    for history in 1..=kind.histories {
        let (taken, verdict) = judge_history(mutant, kind, history);
        steps += taken;
        if let Err(broken) = verdict {
            return Some(Caught { broken, history, steps });
        }
    }
    None
}

#[test]
fn without_a_mutant_the_same_histories_pass() {
    for kind in [TRANSACTIONS, RESTORES, GROUPS, CONSUMERS, MIGRATION, SHARD, COMPACTION] {
        if let Some(Caught { broken, history, .. }) = search(None, kind) {
            panic!("{broken}, in history {history}");
        }
    }
}

/// The mutants with which a decision breaks an invariant (`core/invariants/`), in one of the first histories, and the property
/// that it breaks. The others do not decide wrongly: they show, forget or take for durable what they should not, or say
/// something wrong of what is as it should be.
const BREAK_INVARIANTS: &[(Mutant, &str)] = &[
    (Mutant::EpochNotCompared, "FenceZombie"),
    (Mutant::DuplicateAppended, "SeqContiguous"),
    (Mutant::FifthBatchForgotten, "NoDuplicate"),
    (Mutant::SequenceGapAccepted, "SeqContiguous"),
    (Mutant::ForgottenTooEarly, "NoDuplicate"),
    (Mutant::OffsetReused, "CommittedPrefixStable"),
    (Mutant::HolderNotCompared, "FenceZombie"),
    (Mutant::StaleHolderTakesOver, "FenceZombie"),
    (Mutant::FenceSkipped, "NoTornTxn"),
    (Mutant::OlderConnectionCounts, "NoTornTxn"),
    (Mutant::EpochNotRaised, "FenceZombie"),
    (Mutant::MarkerEpochNotRaised, "FenceZombie"),
    (Mutant::RotationReusesId, "EpochMonotone"),
    (Mutant::ReservationReused, "NoDuplicate"),
    (Mutant::IdsReusedAfterRestore, "EpochMonotone"),
    (Mutant::RestoreForgotten, "SeqContiguous"),
    (Mutant::EpochsReusedAfterRestore, "EpochMonotone"),
    (Mutant::AppendWithoutEnrolment, "LsoAdvances"),
    (Mutant::CommittedInPart, "NoTornTxn"),
    (Mutant::PreparedEnrols, "NoTornTxn"),
    (Mutant::NumberReused, "NoTornTxn"),
    (Mutant::NumberNotCompared, "NoTornTxn"),
    (Mutant::EnrolledOverlooked, "MarkerExactlyOnce"),
    (Mutant::QueueOverlooked, "NoUncommittedRead"),
    (Mutant::MarkerTwice, "MarkerExactlyOnce"),
    (Mutant::MarkerSkipped, "MarkerExactlyOnce"),
    (Mutant::MarkerOfOtherOutcome, "NoTornTxn"),
    (Mutant::CommitAfterAbort, "NoLostWrite"),
    (Mutant::PreparedExpires, "NoTornTxn"),
    (Mutant::DeadlineLost, "LsoAdvances"),
    (Mutant::OffsetsBeforeOutcome, "OffsetsAtomicWithTxn"),
    (Mutant::OffsetsKeptOnAbort, "OffsetsAtomicWithTxn"),
    (Mutant::AcceptedKeyTaken, "KeyOnce"),
    (Mutant::HeldKeyTaken, "KeyOnce"),
    (Mutant::KeyOutsideTransaction, "KeysAtomicWithTxn"),
    (Mutant::KeysFreedOnCommit, "KeysAtomicWithTxn"),
    (Mutant::KeysKeptOnAbort, "KeysAtomicWithTxn"),
    (Mutant::KeyForgottenTooEarly, "KeyOnce"),
    (Mutant::LsoOffByOne, "NoUncommittedRead"),
    (Mutant::LsoOverlooksOthers, "NoUncommittedRead"),
    (Mutant::AbortedRangeOneShort, "NoAbortedRead"),
    (Mutant::GenerationGoesBack, "GenerationMonotone"),
    (Mutant::DepartureNotDurable, "DurableBeforeVisible"),
    (Mutant::OldGenerationCommits, "FenceMember"),
    (Mutant::AssignedBeforeRevoked, "OneOwner"),
    (Mutant::RevocationNotAwaited, "OneOwner"),
    (Mutant::OldMemberEpochCommits, "FenceMember"),
    (Mutant::GroupEpochGoesBack, "GroupEpochMonotone"),
    (Mutant::UpgradeHoldsNothing, "OneOwner"),
    (Mutant::LeaverNotAnswered, "EveryMemberAnswered"),
];

/// Histories in which they have to.
const FIRST_HISTORIES: u64 = 150;

#[test]
fn mutants_break_invariants() {
    let mut wrong = Vec::new();
    for (mutant, property) in BREAK_INVARIANTS {
        let broken = |history| noting(|| judge_history(Some(*mutant), kind(*mutant), history)).1;
        let first = (1..=FIRST_HISTORIES).find_map(broken);
        if first.as_ref().is_none_or(|violation| violation.property != *property) {
            wrong.push(format!("{mutant:?}: {first:?}"));
        }
    }
    assert!(wrong.is_empty(), "these break something else, or nothing: {wrong:#?}");
}

#[test]
fn every_mutant_is_caught() {
    let mut table = String::from(HEAD);
    let (mut survivors, mut in_traces) = (Vec::new(), 0);
    let in_worlds = crate::sim::search_all(SIMULATED, WORLDS);
    let unseen: Vec<_> = SIMULATED.iter().filter(|mutant| !in_worlds.contains_key(mutant)).collect();
    assert!(unseen.is_empty(), "no world of the first {WORLDS} shows {unseen:?}");
    for mutant in Mutant::ALL {
        match search(Some(*mutant), kind(*mutant)) {
            None => survivors.push(*mutant),
            Some(Caught { broken, history, steps }) => {
                let breaks = mutant.breaks();
                let shown = kind(*mutant).source.and_then(|source| traces::search(*mutant, source));
                in_traces += usize::from(shown.is_some());
                let shown = shown.map_or("– | | ".into(), |shown| shown.to_string());
                let world = in_worlds.get(mutant).map_or("– |".into(), |(seed, broken)| {
                    format!("{} | {seed}", broken.split(':').next().unwrap_or_default())
                });
                writeln!(
                    table,
                    "| {mutant:?} | {breaks} | {broken} | {history} | {steps} | {shown} | {world} |"
                )
                .unwrap();
            }
        }
    }
    assert!(survivors.is_empty(), "nothing catches {survivors:?}");
    let (worlds, all) = (in_worlds.len(), Mutant::ALL.len());
    writeln!(table, "\nTraces show {in_traces} of {all}, simulated worlds {worlds}.").unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/mutants.md");
    if std::env::var_os("UPDATE_MUTANTS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == table,
        "spec/mutants.md is old; to renew it: UPDATE_MUTANTS=1 cargo test --lib mutant"
    );
}

const HEAD: &str = "# Mutants

A property that cannot fail says nothing. Each mutant is one guard of the code that is taken away (`src/core/mutant.rs`; they
exist in tests only), and random histories must then break a property by its name. Without a mutant the same histories pass.
This table is made by the test `every_mutant_is_caught`; `tla/negative/` has the like for the specification.

The last two columns are about the simulation (`testing.md`), which judges from what clients of a whole broker see: the first
of its worlds, of the first hundred, in which something is broken, and what. Which mutants it claims is listed in the test, and if
one of them no longer shows, the test fails.

The three columns before are about the same histories as traces (`tla/README.md`, section on traces), which nothing judges but the
specification: the first thing that it does not allow, in which history, and after how many lines of all histories so far. What
a trace does not show is either no step that is wrong but one that does not come (a deadline, an answer), or about what the
specification leaves out (time, members, the order of a connection).

| mutant | what is wrong | caught by | in history | after steps | not allowed in a trace | in history | after lines | broken in a world | of seed |
|---|---|---|---|---|---|---|---|---|---|
";
