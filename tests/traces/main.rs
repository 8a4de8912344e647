//! Traces of the binary (`semel serve --trace FILE`), held against the specification: each step that a broker took under a real
//! client's load, through crashes, is one of the specification's (`tla/README.md`, "Traces").

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[allow(dead_code, reason = "the tests of the crate itself use all of it")]
mod checker;
#[path = "../common/mod.rs"]
mod common;

use checker::{Checker, specification};
use common::actor::{Access, Actor};
use common::broker::Broker;
use common::process::{Heard, Process};
use common::tools::{self, announce};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const TOPIC: &str = "load";
const PARTITIONS: i32 = 3;
const KILLS: usize = 2;
/// Before each kill, and after the last one.
const TRANSACTIONS: usize = 15;
const LOAD_DEADLINE: Duration = Duration::from_secs(60);

/// Lines that are looked at in one run of the test: mostly all, some 10,000. The load goes on while clients find the broker again,
/// so there may be several times as many, and what comes after the last kill must be among them.
const LINES_MAX: usize = 80_000;

#[test]
fn librdkafka_s_transactions_through_crashes_are_those_of_the_specification() {
    let Some(python) = tools::python() else { return };
    if !Broker::runs_semel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut broker = Broker::start_with(&["--trace", trace.to_str().unwrap()]);
    let Some(admin) = Actor::librdkafka(&broker) else { return };
    admin.create_topic(TOPIC, PARTITIONS);
    let mut access = Access::from(&broker).to_json();
    (access["topic"], access["partitions"]) = (json!(TOPIC), json!(PARTITIONS));
    let mut load = Command::new(python);
    load.env("PYTHONDONTWRITEBYTECODE", "1").arg("-u").arg(tools::programs("python").join("load.py"));
    load.arg(access.to_string());
    let mut load = Process::spawn("the load", load, &Arc::new(Heard::default()));
    load.say("run");
    for round in 0..=KILLS {
        let mut ended = 0;
        while ended < TRANSACTIONS {
            ended += usize::from(told(&mut load).is_transaction);
        }
        if round < KILLS {
            broker.kill();
            broker.restart();
        }
    }
    load.say("pause");
    while !told(&mut load).is_pause {}
    broker.stop();
    let taken = check(&trace, LINES_MAX);
    for action in ["AppendBatch", "EnrolPartitions", "EndTransaction", "InitProducerId", "Recover"] {
        let often = taken.actions.get(action).is_some_and(|count| *count > KILLS);
        assert!(often, "{action} is in the trace, more often than there were kills: {taken}");
    }
}

/// What the load says.
struct Told {
    is_transaction: bool,
    is_pause: bool,
}

fn told(load: &mut Process) -> Told {
    let line: Value = serde_json::from_str(&load.line(LOAD_DEADLINE)).expect("a line of JSON");
    let what = line[0].as_str().unwrap_or_default();
    Told { is_transaction: ["committed", "aborted", "unknown"].contains(&what), is_pause: what == "paused" }
}

/// For `tla/check trace FILE`: all of a trace that somebody has.
#[test]
fn the_trace_that_is_named() {
    let Some(trace) = std::env::var_os("SEMEL_TRACE_TO_CHECK") else { return };
    check(Path::new(&trace), usize::MAX);
}

fn check(trace: &Path, lines_max: usize) -> checker::Coverage {
    let spec = specification(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tla"));
    let mut checker = Checker::new(&spec);
    let mut all = 0;
    for line in BufReader::new(File::open(trace).unwrap()).lines() {
        let line = line.unwrap();
        all += 1;
        if all > lines_max {
            continue;
        }
        let step: Value = serde_json::from_str(&line).expect("a line of JSON");
        if let Err(rejected) = checker.line(&step) {
            panic!("{}: {rejected}\n{line}", trace.display());
        }
    }
    announce(&format!("held against the specification, of {all} lines: {}", checker.coverage));
    checker.coverage.clone()
}
