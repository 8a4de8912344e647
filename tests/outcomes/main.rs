//! What becomes of transactions that go wrong, compared with Apache Kafka: the same program drives every error path against
//! both and prints one line for each step. Kafka's lines are in `kafka-4.4.0.txt`, made by
//!
//! `RECORD_OUTCOMES=1 SEMEL_TEST_BINARY=tests/kafka/serve cargo test --test outcomes`
//!
//! Every line in which semel differs stands in `spec/differences.md`, and nothing else does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::actor::Access;
use common::broker::Broker;
use common::process::{pipe, text_of};
use common::tools::{self, Java};

/// What was recorded of Kafka.
const RECORDS: [&str; 3] = ["kafka-4.4.0.txt", "client-3.9.1.txt", "client-4.4.0.txt"];

const DEADLINE: Duration = Duration::from_secs(300);

/// Where the list of differences begins, in the document.
const HEADING: &str = "## Outcomes that differ";

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outcomes").join(file)
}

/// A step, and what came of it.
type Outcomes = BTreeMap<String, String>;

/// Runs a program against a broker of its own, up to its last word.
fn outcomes(java: &Java, class: &str, version: &str) -> Outcomes {
    let broker = Broker::start();
    let access = Access::from(&broker);
    let mut command = java.command(&[], class);
    command.arg(access.bootstrap).arg(access.properties).arg(version);
    let mut told = pipe(class, command, b"", DEADLINE);
    assert!(told.status.success(), "{class}: {}\n{}\n{}", told.status, told.lines.join("\n"), told.errors);
    assert_eq!(told.lines.pop().as_deref(), Some("done"), "{class} has not come to its end");
    parse(class, told.lines.iter().map(String::as_str))
}

fn parse<'l>(what: &str, lines: impl Iterator<Item = &'l str>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in lines {
        let (step, outcome) = line.rsplit_once(": ").unwrap_or_else(|| panic!("{what}: {line}"));
        let before = outcomes.insert(step.to_owned(), outcome.to_owned());
        assert_eq!(before, None, "{what}: {step} is told twice");
    }
    outcomes
}

/// Compares with what Kafka does, or records it.
fn compare(outcomes: &Outcomes, record: &str) {
    let path = here(record);
    if env::var_os("RECORD_OUTCOMES").is_some() {
        assert!(!Broker::runs_semel(), "Kafka's outcomes are recorded, not semel's");
        let lines = outcomes.iter().map(|(step, outcome)| format!("{step}: {outcome}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        return;
    }
    let kafka = parse(record, text_of(&path).lines());
    if !Broker::runs_semel() {
        assert_eq!(*outcomes, kafka, "Kafka differs from what was recorded of it");
        return;
    }
    assert_eq!(steps(outcomes), steps(&kafka), "other steps than were recorded");
    let differs = outcomes.iter().filter(|(step, outcome)| kafka[step.as_str()] != **outcome);
    let row = |(step, outcome): (&String, &String)| [step.clone(), kafka[step].clone(), outcome.clone()];
    let found = differs.map(row).collect::<BTreeSet<_>>();
    let known = known_differences().into_iter().filter(|[step, ..]| kafka.contains_key(step));
    let known = known.collect::<BTreeSet<_>>();
    assert!(found == known, "spec/differences.md is not what was found:\n{}", show(&found, &known));
}

fn steps(outcomes: &Outcomes) -> BTreeSet<&String> {
    outcomes.keys().collect()
}

/// The rows of the list in the document: step, Kafka's outcome, semel's.
fn known_differences() -> BTreeSet<[String; 3]> {
    let document = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/differences.md"));
    let list = document.split(HEADING).nth(1).unwrap_or_else(|| panic!("no {HEADING:?}")).to_owned();
    let rows = list.lines().filter(|line| line.starts_with("| V") || line.starts_with("| client "));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().to_owned());
        [(); 3].map(|()| cells.next().unwrap_or_else(|| panic!("{row}")))
    })
    .collect()
}

fn show(found: &BTreeSet<[String; 3]>, known: &BTreeSet<[String; 3]>) -> String {
    let row = |[step, kafka, semel]: &[String; 3]| format!("| {step} | {kafka} | {semel} |\n");
    let missing = found.difference(known).map(row).collect::<String>();
    let stale = known.difference(found).map(row).collect::<String>();
    format!("found, and not in the list:\n{missing}in the list, and not found:\n{stale}")
}

#[test]
fn every_error_path_request_by_request() {
    let Some(java) = tools::outcomes("4.4.0") else { return };
    compare(&outcomes(&java, "Outcomes", "4.4.0"), "kafka-4.4.0.txt");
}

/// Kafka's client speaks version 1 of the protocol up to 3.9, and version 2 since 4.0.
#[test]
fn what_the_clients_of_both_versions_make_of_it() {
    for version in ["3.9.1", "4.4.0"] {
        let Some(java) = tools::outcomes(version) else { return };
        compare(&outcomes(&java, "ClientOutcomes", version), &format!("client-{version}.txt"));
    }
}

#[test]
fn every_difference_is_one_of_a_step_that_was_recorded() {
    let recorded = RECORDS.map(|record| text_of(&here(record))).concat();
    let known = known_differences();
    let stale = known.iter().filter(|[step, kafka, _]| !recorded.contains(&format!("{step}: {kafka}\n")));
    assert_eq!(stale.collect::<Vec<_>>(), Vec::<&[String; 3]>::new());
    assert!(!known.is_empty(), "the check must see the list");
}
