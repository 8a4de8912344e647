//! The histories of core and shard as traces, held against the specification (`tla/README.md`, "Traces").

use super::history;
use crate::core::mutant::{Mutant, with_mutant};
use crate::core::tests::world::{Happened, Watch};
use crate::core::tests::{groups, properties, scenarios};
use crate::shard::trace::{Sink, Trace, moved};
use crate::types::BlockNumber;
use checker::{Checker, Coverage, Rejected, parse, source, source_of, specification};
use guard::{Guard, Line, guards};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

#[path = "../../../tests/traces/checker.rs"]
mod checker;
#[path = "../../../tests/tla/guard.rs"]
mod guard;

/// The lines of a trace.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<Value>>>);

impl Lines {
    fn sink(&self) -> Sink {
        let lines = Arc::clone(&self.0);
        Box::new(move |line| lines.lock().unwrap().push(line.clone()))
    }

    pub(super) fn trace(&self) -> Trace {
        Trace::new(self.sink())
    }

    /// Watches a world, in which each decision is a block that is durable at once.
    fn watch(&self) -> Watch {
        let (mut trace, mut sink, mut block) = (self.trace(), self.sink(), BlockNumber::ZERO);
        Box::new(move |happened| match happened {
            Happened::Decided(view, command, decided) => {
                let changes = !decided.drafted.events.is_empty();
                let awaited = trace.decided(*view, command, decided, changes.then(|| block.next()));
                if changes {
                    block = block.next();
                    trace.durable(block);
                }
                awaited.into_iter().for_each(|awaited| trace.released(awaited));
            }
            Happened::Restarted => trace.recovered(block),
            Happened::Moved(key) => moved(key).iter().for_each(&mut sink),
        })
    }
}

/// Where histories come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Transactional and idempotent producers, asking the core.
    Transactions,
    /// What hardly comes about at random: each a history of its own.
    Scenarios,
    /// Members of a group, asking the core.
    Groups,
    /// A whole shard, with writes, loads, layers and crashes in any order.
    Shard,
}

/// So many of each source pass, and so many a mutant may live through.
const HISTORIES: u64 = 120;

fn runner(history: u64) -> TestRunner {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&history.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn lines_of(source: Source, history: u64) -> Vec<Value> {
    let (lines, mut runner) = (Lines::default(), runner(history));
    match source {
        Source::Transactions => properties::watch_one(&mut runner, lines.watch()),
        Source::Scenarios => scenarios::watch_one(history, lines.watch()),
        Source::Groups => groups::watch_one(&mut runner, lines.watch()),
        Source::Shard => history::trace_one(&mut runner, &lines),
    };
    std::mem::take(&mut lines.0.lock().unwrap())
}

/// Checks the lines; how many there were, or the first that the specification does not allow.
fn check(spec: &tla_eval::Spec, lines: &[Value]) -> (Coverage, Result<(), Rejected>) {
    let mut checker = Checker::new(spec);
    let verdict = lines.iter().try_for_each(|line| checker.line(line));
    (checker.coverage, verdict)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tla")
}

/// Lines that are looked at of the trace of one broker in a test: most write fewer.
const LINES_MAX: usize = 2_000;

/// Checks what a shard has noted down in a file so far, as much as is looked at.
pub(crate) fn check_file(path: &Path) {
    static SPEC: OnceLock<tla_eval::Spec> = OnceLock::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The shard may be writing the last line.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let all = whole.lines().count();
    let lines: Vec<Value> =
        whole.lines().take(LINES_MAX).map(|line| serde_json::from_str(line).unwrap()).collect();
    let (coverage, verdict) = check(SPEC.get_or_init(|| specification(&folder())), &lines);
    if let Err(rejected) = verdict {
        panic!("the trace is not one of the specification's: {rejected}\n{}", lines[rejected.line - 1]);
    }
    println!("held against the specification, of {all} lines: {coverage}");
}

/// A mutant that a trace has shown.
pub(super) struct Shown {
    pub(super) rejected: Rejected,
    pub(super) history: u64,
    /// In all histories together.
    pub(super) lines: usize,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {}", self.rejected.wrong.what, self.history, self.lines)
    }
}

/// Histories number 1, 2, … until the specification does not allow a step.
pub(super) fn search(mutant: Mutant, source: Source) -> Option<Shown> {
    find(&specification(&folder()), mutant.into(), source)
}

fn find(spec: &tla_eval::Spec, mutant: Option<Mutant>, source: Source) -> Option<Shown> {
    let mut lines = 0;
    (1..=HISTORIES).find_map(|history| {
        let trace = with_mutant(mutant, || lines_of(source, history));
        let (coverage, verdict) = check(spec, &trace);
        lines += coverage.lines;
        verdict.err().map(|rejected| Shown { rejected, history, lines })
    })
}

#[test]
fn every_step_of_every_history_is_one_of_the_specification() {
    let spec = specification(&folder());
    for source in SOURCES.map(|(_, source)| source) {
        let mut all = Coverage::default();
        for history in 1..=HISTORIES {
            let lines = lines_of(source, history);
            let (coverage, verdict) = check(&spec, &lines);
            if let Err(rejected) = verdict {
                let line = &lines[rejected.line - 1];
                panic!("{source:?}, history {history}, {rejected}\n{line}");
            }
            all.add(&coverage);
        }
        println!("{source:?}: {all}");
    }
}

/// Operators of the specification, each with what is left when it is taken out, and whose steps then differ.
const GUARDS: &[(&str, &str, Source)] = &[
    ("EpochFenced(row, b) == b.epoch < row.epoch", "EpochFenced(row, b) == FALSE", Source::Transactions),
    ("EpochCurrent(row, m) == row.epoch = m.epoch", "EpochCurrent(row, m) == TRUE", Source::Transactions),
    ("EpochFencedForGood ELSE row.epoch + 1", "EpochFencedForGood ELSE row.epoch", Source::Transactions),
    (
        r#"Ends(row) == row.state \in {"Ongoing", "Prepared"}"#,
        r#"Ends(row) == row.state = "Ongoing""#,
        Source::Transactions,
    ),
    ("/\\ m.conn < newest[m.tid][KindOf(m.type)]", "/\\ FALSE", Source::Transactions),
    (
        "GenerationCurrent(group, generation) == generation = group.generation",
        "GenerationCurrent(group, generation) == TRUE",
        Source::Groups,
    ),
    ("Publishable == durable", "Publishable == core", Source::Shard),
    ("MayLeave(h) == h.at = 0", "MayLeave(h) == h.at > 0", Source::Shard),
    ("Recovered(found) == found", "Recovered(found) == durable", Source::Shard),
];

#[test]
fn an_operator_that_is_taken_out_of_the_specification_shows() {
    let whole = source(&folder());
    for (guard, without, source) in GUARDS {
        assert_eq!(whole.matches(guard).count(), 1, "the specification has {guard}");
        let broken = parse(&whole.replace(guard, without));
        assert!(find(&broken, None, *source).is_some(), "without {guard} every trace is still allowed");
    }
}

fn module(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.tla"))).unwrap()
}

/// The modules with guards that traces are held against.
const GUARDED: [&str; 4] = ["IdempotentLog", "GroupOffsets", "TxnCoordinator", "Eos"];

const SOURCES: [(&str, Source); 4] = [
    ("Transactions", Source::Transactions),
    ("Scenarios", Source::Scenarios),
    ("Groups", Source::Groups),
    ("Shard", Source::Shard),
];

/// All histories of this source, made once.
fn histories(source: Source) -> &'static [Vec<Value>] {
    static TRANSACTIONS: OnceLock<Vec<Vec<Value>>> = OnceLock::new();
    static SCENARIOS: OnceLock<Vec<Vec<Value>>> = OnceLock::new();
    static GROUPS: OnceLock<Vec<Vec<Value>>> = OnceLock::new();
    static SHARD: OnceLock<Vec<Vec<Value>>> = OnceLock::new();
    let made = match source {
        Source::Transactions => &TRANSACTIONS,
        Source::Scenarios => &SCENARIOS,
        Source::Groups => &GROUPS,
        Source::Shard => &SHARD,
    };
    made.get_or_init(|| (1..=HISTORIES).map(|history| lines_of(source, history)).collect())
}

/// Whether some history of this source shows that the guard is missing.
fn shows(name: &str, guard: &Guard, source: Source) -> bool {
    let broken = source_of(|other| {
        let whole = module(other);
        if other == name { guard.taken_out_of(&whole) } else { whole }
    });
    let spec = parse(&broken);
    histories(source).iter().any(|lines| check(&spec, lines).1.is_err())
}

/// What `tla/guards.tsv` says of a guard that no model shows, and a trace does.
const OF_TRACE: &str = "a trace of ";

/// For `tla/check guards`: what no model shows, a trace may.
#[test]
#[ignore = "long: tla/check guards"]
fn guards_that_no_model_shows_are_shown_by_traces() {
    let table = folder().join("guards.tsv");
    let mut known = guard::lines(&table);
    for name in GUARDED {
        for guard in guards(&module(name)) {
            let before = known.iter().position(|line| line.is_of(name, &guard));
            if before.is_some_and(|at| known[at].shown != "nothing") {
                continue;
            }
            let Some((source, _)) = SOURCES.iter().find(|(_, source)| shows(name, &guard, *source)) else {
                println!("{name}\t{}\t{}\tnothing", guard.definition, guard.text);
                continue;
            };
            let shown = format!("{OF_TRACE}{source}");
            println!("{name}\t{}\t{}\t{shown}", guard.definition, guard.text);
            match before {
                Some(at) => known[at].shown = shown,
                None => known.push(Line {
                    module: name.to_owned(),
                    definition: guard.definition,
                    guard: guard.text,
                    shown,
                }),
            }
            guard::write(&table, &known);
        }
    }
}

#[test]
fn a_guard_that_only_a_trace_shows_is_shown_by_it() {
    let lines = guard::lines(&folder().join("guards.tsv"));
    let of_traces =
        lines.into_iter().filter_map(|line| Some((line.shown.strip_prefix(OF_TRACE)?.to_owned(), line)));
    let (mut tried, mut unseen) = (0, Vec::new());
    for (source, line) in of_traces {
        let all = guards(&module(&line.module));
        let guard = all.iter().find(|guard| line.is_of(&line.module, guard)).expect("a guard of the module");
        let (_, source) = SOURCES.iter().find(|(name, _)| *name == source).expect("a source of histories");
        if !shows(&line.module, guard, *source) {
            unseen.push(line.guard);
        }
        tried += 1;
    }
    assert!(unseen.is_empty(), "without these every trace is still allowed: {unseen:#?}");
    assert!(tried > 0, "some guard is shown by traces");
}
