//! The binary on a bad day: thousands of connections, peers that send a byte now and then or never read, a process that
//! stands still, in little memory. Meanwhile a crowd of clients works, and in the end what they saw is judged
//! (`spec/history.md`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::broker::Broker;
use common::crowd::{Crowd, judge};
use common::frames::{Bytes, Connection, FETCH, PRODUCE, frame, produce_request, request};
use common::tools::announce;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use semel::history::Property;
use std::time::{Duration, Instant};

/// Connections that are there and say nothing. As many as the broker takes by default, without those of the crowd and of
/// the other peers; fewer where the system does not allow as many files.
const IDLE: u64 = 9_500;
/// Files that a process has beside its connections.
const FILES: u64 = 300;
/// Peers of each hostile kind.
const HOSTILE: usize = 20;
/// Memory that the broker may have in use at the end: its budgets (below), TLS for each connection, and what it always has.
const RESIDENT_KIB_MAX: u64 = 900 << 10;
/// Transactions of the crowd after each of the bad things.
const ENOUGH: usize = 30;

const BUDGETS: [&str; 6] = [
    "--produce-memory-bytes",
    "134217728",
    "--fetch-memory-bytes",
    "67108864",
    "--control-memory-bytes",
    "33554432",
];

/// As many connections as there may be files, here and in the broker.
fn idle_connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(IDLE + FILES);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).unwrap();
    most - FILES
}

/// A peer that announces a frame and sends a byte of it now and then.
fn slow_writer(broker: &Broker) -> Connection {
    let mut peer = Connection::open(broker);
    let bytes = frame(&request(PRODUCE, 3, 1, &produce_request("t", 0, &[0; 100_000])));
    peer.send_bytes(&bytes[..40]).unwrap();
    peer
}

/// A peer that asks for everything again and again, and reads nothing.
fn slow_reader(broker: &Broker) -> Connection {
    let mut peer = Connection::open(broker);
    let body = Bytes::new().i32(-1).i32(0).i32(0).i32(64 << 20).i8(0);
    let body = body.i32(1).string("t").i32(1).i32(0).i64(0).i32(64 << 20).done();
    // The broker stops reading when too many requests are in flight; then this would wait.
    for _ in 0..60 {
        peer.send(FETCH, 4, &body).unwrap();
    }
    peer
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_its_peers_do_the_broker_keeps_its_promises_in_bounded_memory() {
    let count = idle_connections();
    let mut broker = Broker::start_with(&BUDGETS);
    let crowd = Crowd::start(&broker).await;
    crowd.goes_on(ENOUGH, &broker).await;

    let begun = Instant::now();
    let idle: Vec<Connection> =
        tokio::task::block_in_place(|| (0..count).map(|_| Connection::open(&broker)).collect());
    announce(&format!(
        "{} connections in {:?}, {} KiB resident",
        idle.len(),
        begun.elapsed(),
        broker.resident_kib()
    ));
    crowd.goes_on(ENOUGH, &broker).await;

    let (mut writers, readers) = tokio::task::block_in_place(|| {
        let writers: Vec<_> = (0..HOSTILE).map(|_| slow_writer(&broker)).collect();
        let readers: Vec<_> = (0..HOSTILE).map(|_| slow_reader(&broker)).collect();
        (writers, readers)
    });
    crowd.goes_on(ENOUGH, &broker).await;

    for pause in [200, 3_000, 8_000] {
        broker.freeze();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        broker.thaw();
        crowd.goes_on(ENOUGH, &broker).await;
    }

    // Whoever was too slow has been sent away, and the log says so.
    tokio::task::block_in_place(|| assert!(writers.iter_mut().all(Connection::is_closed)));
    broker.wait_for_log("that frames were too slow", |log| log.contains("a frame was too slow"));
    broker.wait_for_log("that replies were not read", |log| log.contains("did not read its replies"));
    let resident = broker.resident_kib();
    announce(&format!("{resident} KiB resident at the end"));
    assert!(resident <= RESIDENT_KIB_MAX, "{resident} KiB are resident");
    drop((idle, readers));

    let looked_at: Vec<Property> =
        Property::ALL.into_iter().filter(|p| *p != Property::DurableBeforeVisible).collect();
    judge(&crowd.finish(&broker).await, &looked_at);
}
