//! librdkafka's own test suite against the release binary, over TLS and over QUIC.
//!
//! Nobody here has written these tests. Each runs as a process of its own, several at a time, because they mostly wait;
//! all of a site share one broker. `suite.rs` tells where they come from and what is changed in them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;
mod suite;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::thread;

use common::actor::Access;
use common::behind_splice::BehindSplice;
use common::broker::Broker;
use common::tools::announce;
use suite::{Outcome, Suite, suite};

/// Whole, with every part and all the data that their authors thought of. Longest first, so that the end is not spent on
/// waiting for one of them.
const WHOLE: &[&str] = &[
    "0098", // transactions: what readers of both isolation levels see of Java's producer
    "0089", // groups: who does not poll leaves
    "0045", // groups: subscriptions follow topics that come and go
    "0026", // groups: pause and resume across rebalances
    "0102", // groups: static members, and the fencing of their twins
    "0103", // transactions: commit, abort, fencing, offsets, timeouts, many partitions
    "0122", // groups: nothing of a former assignment is delivered
    "0061", "0050", // groups: subscribing again
    "0129", // transactions: a fetch of nothing but aborted messages
    "0118", // groups: commits while rebalancing
    "0019", "0132", "0090", // idempotence
    "0056", // groups: members in several threads
    "0012", "0140", "0130",
];

/// In librdkafka's quick mode: with less data. None of these but the first has parts that are left out then.
const QUICKLY: &[&str] = &[
    // groups: cooperative rebalancing; its further parts are runs of their own ([`PARTS_OF_0113`])
    "0113", "0091", // groups: what is in flight when somebody leaves who does not poll
    "0076", // idempotence: retries when connections break and answers come late
    "0033", // groups: subscriptions by pattern
    "0093", "0094", // idempotence: no gap when messages time out
    "0088", "0114", "0123", "0051", "0049", "0125", "0015", "0084", "0017", "0069", "0109", "0110", "0041",
    "0030", "0014", "0083", "0086", // idempotence: purged messages and what follows them
    "0067", "0053", "0112", "0040", "0137", "0020", "0085", "0060", "0029", "0034", "0036", "0048", "0042",
    "0021", "0099", "0001", "0002", "0013", "0070", "0044", "0073", "0022", "0064", "0054", "0065", "0035",
    "0063", "0031", "0057", "0059", "0008", "0003", "0005", "0007", "0039", "0127",
];

const WHOLE_OVER_QUIC: &[&str] = &["0102", "0103", "0050", "0129", "0118", "0090", "0056", "0012"];
const QUICKLY_OVER_QUIC: &[&str] = &["0094", "0017", "0086"];

/// What makes the suite's consumers members of the consumer protocol.
const CONSUMER_PROTOCOL: Variables = &[("TEST_CONSUMER_GROUP_PROTOCOL", "consumer")];

/// Those of the whole ones that say something about groups, and others that are members on the way.
const WITH_THE_CONSUMER_PROTOCOL: &[&str] =
    &["0050", "0061", "0118", "0102", "0112", "0056", "0140", "0130", "0022"];

/// Others of them that take longer than half a minute, whatever the broker does.
const LONG_WITH_THE_CONSUMER_PROTOCOL: &[&str] = &["0089", "0026", "0122", "0033"];

/// Of 0045 this part alone. `do_test_resubscribe_with_regex` asks that named topics are assigned first, and what a pattern
/// matches later; here it is together (`spec/differences.md`, C8). `do_test_subscribe_many_updates` fails by the client once in
/// four: unsubscribed while it gives up partitions, it leaves the group and is steady to itself. So it joins next time as one who
/// goes on, without its rebalance timeout, which Kafka, too, refuses with `INVALID_REQUEST`
/// (<https://github.com/confluentinc/librdkafka/issues/5541> has another way there), or it does not join at all.
const PART_OF_0045: &str = "do_test_regex";

/// 0113, which in quick mode does next to nothing: each of its parts is a run of its own, named by its function or by what it
/// says of itself.
const PARTS_OF_0113: &[&str] = &[
    "b_subscribe_with_cb_test",
    "x_incremental_rebalances",
    "n_wildcard",
    "c_subscribe_no_cb_test",
    "d_change_subscription_add_topic",
    "e_change_subscription_remove_topic",
    "l_unsubscribe",
    "h_delete_topic",
    "i_delete_topic_2",
    "j_delete_topic_no_rb_callback",
    "k_add_partition",
    "m_unsubscribe_2",
    "f_assign_call_cooperative",
    "g_incremental_assign_call_eager",
    "a_assign_tests",
];

/// These mostly wait, for forty seconds and more.
const LONG_PARTS_OF_0113: &[&str] = &[
    "use_rebalance_cb: 1, subscription_variation: 0",
    "use_rebalance_cb: 0, subscription_variation: 0",
    "use_rebalance_cb: 1, subscription_variation: 1",
    "use_rebalance_cb: 0, subscription_variation: 1",
    "use_rebalance_cb: 1, subscription_variation: 2",
    "use_rebalance_cb: 0, subscription_variation: 2",
    "t_max_poll_interval_exceeded",
    "s_subscribe_when_rebalancing",
    "v_commit_during_rebalance",
];

/// Counts what happens within half a second, in which the first heartbeat of a Java member, sent as soon as that has got its
/// assignment, finds the next rebalance begun or does not: it passes now and then. `outside/together.rs` has members of Java's
/// and librdkafka's in a cooperative group.
const PART_LEFT_OUT: &str = "o_java_interop";

/// Waits, until its time is over, for as many calls of a callback as there are where each member has its assignment before the next
/// rebalance. On a busy machine the second member may send SyncGroup when the first has joined again already: it is told that
/// a rebalance is in progress, here as by Kafka, and the call is never made. So what has timed out is run again.
const WAITS_FOR_A_LOST_CALL: &str = "b_subscribe_with_cb_test";
const TRIES: usize = 3;

/// With more that fail it is not the machine.
const TRIED_AGAIN_MAX: usize = 5;

/// The second does nothing then. The first makes two topics, one after the other, and asks that of two members both have them
/// in one step or both in two. A heartbeat may come between the topics, here as in Kafka; but Kafka compares a pattern at most
/// every ten seconds, and so seldom meets that moment (`spec/differences.md`, C8).
const NOT_WITH_THE_CONSUMER_PROTOCOL: &[&str] = &["n_wildcard", "g_incremental_assign_call_eager"];

/// Topics are not made by asking for them.
const WITHOUT_AUTO_CREATION: &[&str] = &["0107", "0111"];

/// Those that need a broker and are not run, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("0011", "its last part needs a compacted topic"),
    ("0016", "reads a broker's JMX metrics"),
    ("0018", "its last part has a mock broker, which does not know TLS; 0113 and 0102 have the same"),
    ("0028", "a known issue of librdkafka's"),
    ("0038", "measures throughput"),
    ("0047", "a known issue of librdkafka's"),
    ("0052", "does not run over TLS"),
    ("0055", "measures latencies"),
    ("0068", "has a mock broker, which does not know TLS"),
    ("0075", "does not run over TLS"),
    ("0077", "needs a compacted topic"),
    ("0081", "creates topics with compression.type=lz4, which semel refuses"),
    ("0082", "runs only without quick mode, for minutes"),
    ("0092", "needs message formats that Kafka 4.0 has removed"),
    ("0097", "needs certificates of its own making"),
    ("0101", "needs three brokers in several racks"),
    ("0115", "needs ACLs"),
    ("0119", "needs ACLs"),
    ("0126", "needs an OAuth server"),
    ("0135", "needs SASL"),
    ("0139", "has a mock broker, which does not know TLS"),
    ("0142", "needs SASL"),
    ("0150", "has a mock broker, which does not know TLS"),
    ("0170", "share groups"),
    ("0171", "share groups"),
    ("0172", "share groups"),
    ("0173", "share groups"),
    ("0174", "share groups"),
    ("0175", "share groups"),
    ("0176", "share groups"),
    ("0177", "share groups"),
    ("0178", "share groups"),
    ("0179", "share groups"),
    ("0180", "share groups"),
    ("0181", "share groups"),
    ("0184", "share groups"),
    ("0185", "share groups"),
    ("0190", "share groups"),
    ("8000", "does nothing until somebody ends it"),
    ("8001", "is played by hand"),
];

/// What the suite's own set-up of a broker says, where semel's default is another one.
const OPTIONS: &[&str] = &["--default-partitions", "4"];
const AUTO_CREATION: &[&str] = &["--default-partitions", "4", "--auto-create-topics", "true"];

#[test]
fn over_tls() {
    let Some(suite) = suite() else { return };
    let broker = Broker::start_with(AUTO_CREATION);
    let runs = [runs(WHOLE, &[], &[]), runs(QUICKLY, &["-Q"], &[])].concat();
    all_pass(suite, &runs, &Access::from(&broker), 8);
}

#[test]
fn over_quic() {
    let Some(suite) = suite() else { return };
    let site = BehindSplice::start_with(AUTO_CREATION);
    let runs = [runs(WHOLE_OVER_QUIC, &[], &[]), runs(QUICKLY_OVER_QUIC, &["-Q"], &[])].concat();
    all_pass(suite, &runs, &site.access(), 3);
    assert!(site.lanes() > runs.len(), "nothing went through QUIC");
}

/// KIP-848: the same programs, whose members speak the consumer protocol.
#[test]
fn with_the_consumer_protocol() {
    let parts = [parts("0045", &[PART_OF_0045], CONSUMER_PROTOCOL), parts_of_0113(PARTS_OF_0113)].concat();
    let whole = runs(WITH_THE_CONSUMER_PROTOCOL, &[], CONSUMER_PROTOCOL);
    pass_with_the_consumer_protocol(&[parts, whole].concat());
}

#[test]
#[ignore = "takes minutes"]
fn with_the_consumer_protocol_at_length() {
    let whole = runs(LONG_WITH_THE_CONSUMER_PROTOCOL, &[], CONSUMER_PROTOCOL);
    pass_with_the_consumer_protocol(&[parts_of_0113(LONG_PARTS_OF_0113), whole].concat());
}

fn parts_of_0113(all: &[&'static str]) -> Vec<Run> {
    let known = all.iter().filter(|part| !NOT_WITH_THE_CONSUMER_PROTOCOL.contains(part));
    parts("0113", &known.copied().collect::<Vec<_>>(), CONSUMER_PROTOCOL)
}

fn pass_with_the_consumer_protocol(runs: &[Run]) {
    let Some(suite) = suite() else { return };
    let timeouts = ["--consumer-session-timeout", "10000", "--consumer-heartbeat-interval", "1000"];
    let broker = Broker::start_with(&[AUTO_CREATION, &timeouts].concat());
    all_pass(suite, runs, &Access::from(&broker), 6);
}

/// KIP-429: members give up only what others are to have.
#[test]
fn cooperative_rebalancing() {
    pass_cooperatively(PARTS_OF_0113);
}

#[test]
#[ignore = "takes minutes"]
fn cooperative_rebalancing_at_length() {
    pass_cooperatively(LONG_PARTS_OF_0113);
}

fn pass_cooperatively(of_0113: &[&'static str]) {
    let Some(suite) = suite() else { return };
    let broker = Broker::start_with(&[AUTO_CREATION, &["--group-initial-rebalance-delay", "3000"]].concat());
    all_pass(suite, &parts("0113", of_0113, &[]), &Access::from(&broker), 6);
}

#[test]
fn without_automatic_creation_of_topics() {
    let Some(suite) = suite() else { return };
    let broker = Broker::start_with(OPTIONS);
    let runs = runs(WITHOUT_AUTO_CREATION, &["-s", "noautocreate"], &[]);
    all_pass(suite, &runs, &Access::from(&broker), 2);
}

#[test]
fn every_part_of_0113_is_run() {
    let Some(suite) = suite() else { return };
    let called = suite.parts("0113-cooperative_rebalance.cpp", "main_0113_cooperative_rebalance(int");
    let of_u = |part: &&&str| part.starts_with("use_rebalance_cb");
    let parts = [PARTS_OF_0113, LONG_PARTS_OF_0113].concat();
    let known: BTreeSet<&str> = parts.iter().filter(|part| !of_u(part)).copied().collect();
    let called: BTreeSet<&str> = called.iter().map(String::as_str).collect();
    let further = BTreeSet::from(["u_multiple_subscription_changes", PART_LEFT_OUT]);
    assert_eq!(known.union(&further).copied().collect::<BTreeSet<_>>(), called);
    // With and without a callback, each of three subscriptions.
    assert_eq!(parts.iter().filter(of_u).count(), 6);
}

#[test]
fn every_test_is_run_or_left_out_for_a_reason() {
    let Some(suite) = suite() else { return };
    let left_out = LEFT_OUT.iter().map(|(number, _)| *number);
    let known =
        [WHOLE, QUICKLY, WITHOUT_AUTO_CREATION].concat().into_iter().chain(left_out).collect::<Vec<_>>();
    let numbers = suite.numbers();
    let there = numbers.iter().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), there);
    assert_eq!(known.len(), there.len(), "a test is named twice");
}

/// A test's number, and how the suite is told to run it: its options, and variables of its environment.
#[derive(Clone, Copy)]
struct Run {
    number: &'static str,
    options: &'static [&'static str],
    variables: Variables,
}

impl Run {
    fn outcome(self, suite: &Suite, access: &Access) -> Outcome {
        let Run { number, options, variables } = self;
        let mut left = if variables.contains(&("SUBTESTS", WAITS_FOR_A_LOST_CALL)) { TRIES } else { 1 };
        loop {
            let outcome = suite.run(number, options, variables, access);
            eprintln!("{number}: {variables:?} {}", outcome.summary.join("\n      "));
            left -= 1;
            if outcome.passed || left == 0 || !outcome.log.contains("timed out (timeout set to") {
                return outcome;
            }
        }
    }
}

type Variables = &'static [(&'static str, &'static str)];

fn runs(numbers: &[&'static str], options: &'static [&'static str], variables: Variables) -> Vec<Run> {
    numbers.iter().map(|number| Run { number, options, variables }).collect()
}

/// The parts of a test, each by itself.
fn parts(number: &'static str, names: &[&'static str], variables: Variables) -> Vec<Run> {
    let part = |name: &&'static str| Run {
        number,
        options: &[],
        variables: [variables, &[("SUBTESTS", *name)]].concat().leak(),
    };
    names.iter().map(part).collect()
}

/// Runs tests, so many at a time; what each said is shown if it has not passed.
fn all_pass(suite: &Suite, runs: &[Run], access: &Access, at_once: usize) {
    let waiting = Mutex::new(runs.iter().copied().collect::<VecDeque<_>>());
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = waiting.lock().unwrap().pop_front();
            let Some(run) = next else { break };
            let outcome = run.outcome(suite, access);
            if !outcome.passed {
                failed.lock().unwrap().push((run, outcome));
            }
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner().unwrap();
    // They have deadlines of their own, of seconds, which a busy machine may not keep: a few are tried again with nothing beside them.
    if failed.len() <= TRIED_AGAIN_MAX {
        let again = |(run, outcome): (Run, Outcome)| {
            announce(&format!("tried again: {}", report(&run, &outcome)));
            (run, run.outcome(suite, access))
        };
        failed = failed.into_iter().map(again).collect();
        failed.retain(|(_, outcome)| !outcome.passed);
    }
    suite.tidy();
    let reports = failed.iter().map(|(run, outcome)| report(run, outcome)).collect::<String>();
    assert!(failed.is_empty(), "{} of {} failed:\n{reports}", failed.len(), runs.len());
}

fn report(Run { number, variables, .. }: &Run, outcome: &Outcome) -> String {
    const LINES: usize = 80;
    let says_something = |line: &&str| !line.contains("test(s) running:");
    let lines = outcome.log.lines().filter(says_something).collect::<Vec<_>>();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("--- {number} {variables:?} {:?}\n{end}\n", outcome.summary)
}
