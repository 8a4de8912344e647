//! The binary on a bad day: thousands of connections, peers that send a byte now and then or never read, a process that
//! stands still, a wall clock that is set, a disk that somebody else fills, kill -9, all of it in little memory. Meanwhile a
//! crowd of clients works, and in the end what they saw is judged (`spec/history.md`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use common::broker::Broker;
use common::clock::{SetClock, YEAR_S};
use common::crowd::{Crowd, judge};
use common::disk::{Kind, SmallDisk};
use common::frames::{Bytes, Connection, FETCH, PRODUCE, frame, produce_request, request};
use common::tools::{announce, or_skip};
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
/// Memory that the broker may have in use: its budgets (below), TLS for each connection, and what it always has.
const RESIDENT_KIB_MAX: u64 = 900 << 10;
/// Transactions of the crowd after each of the bad things.
const ENOUGH: usize = 30;
const DISK_MIB: u64 = 768;
const RESERVE: u64 = 192 << 20;

const OPTIONS: [&str; 6] = [
    "--produce-memory-bytes=134217728",
    "--fetch-memory-bytes=67108864",
    "--segment-bytes=16777216",
    "--frame-bytes=1048576",
    "--snapshot-bytes=33554432",
    "--reserve-bytes=201326592",
];

/// As many connections as there may be files, here and in the broker.
fn idle_connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(IDLE + FILES);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).unwrap();
    most - FILES
}

/// A peer that announces a frame and sends little of it.
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

/// A broker with everything that is to go wrong, and the crowd.
struct Day {
    broker: Broker,
    crowd: Crowd,
    clock: SetClock,
}

impl Day {
    async fn goes_on(&self) {
        self.crowd.goes_on(ENOUGH, &self.broker).await;
    }

    fn memory_is_bounded(&self, when: &str) {
        let resident = self.broker.resident_kib();
        announce(&format!("{when}: {resident} KiB resident"));
        assert!(resident <= RESIDENT_KIB_MAX, "{when}: {resident} KiB are resident");
    }

    async fn stands_still(&mut self) {
        for pause in [200, 3_000, 8_000] {
            self.broker.freeze();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.broker.thaw();
            self.goes_on().await;
        }
    }

    async fn the_clock_is_set(&mut self) {
        for ahead in [YEAR_S, 0] {
            self.clock.set(ahead);
            tokio::task::block_in_place(|| self.clock.is_noticed_by(&self.broker));
            self.goes_on().await;
        }
    }

    /// Somebody else takes half of the reserve, too, and gives it back.
    async fn the_disk_is_full(&self) {
        tokio::task::block_in_place(|| {
            self.broker.disk().fill_to(RESERVE / 2);
            self.broker
                .wait_for_log("that the disk is nearly full", |log| log.contains("the disk is nearly full"));
            self.broker.disk().empty();
        });
        self.goes_on().await;
    }

    async fn is_killed(&mut self) {
        for _ in 0..2 {
            self.broker.kill();
            self.crowd.recorder.crashed();
            self.broker.restart();
            self.goes_on().await;
        }
    }
}

fn small_disk() -> Option<SmallDisk> {
    let disk = SmallDisk::new(Kind::Ext4, DISK_MIB).or_else(|_| SmallDisk::new(Kind::Memory, DISK_MIB));
    or_skip("small file system", &disk.as_ref().map(|_| ()).map_err(Clone::clone))?;
    disk.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_it_the_broker_keeps_its_promises_in_bounded_memory() {
    let (Some(clock), Some(disk)) = (SetClock::new(), small_disk()) else { return };
    let count = idle_connections();
    let broker = Broker::start_on(disk, &OPTIONS, &clock.environment());
    let crowd = Crowd::start(&broker).await;
    let mut day = Day { broker, crowd, clock };
    day.goes_on().await;

    let begun = Instant::now();
    let open = |_| Connection::open(&day.broker);
    let idle: Vec<Connection> = tokio::task::block_in_place(|| (0..count).map(open).collect());
    announce(&format!("{} connections in {:?}", idle.len(), begun.elapsed()));
    day.memory_is_bounded("connected");
    day.goes_on().await;

    let (mut writers, readers) = tokio::task::block_in_place(|| {
        let writers: Vec<_> = (0..HOSTILE).map(|_| slow_writer(&day.broker)).collect();
        let readers: Vec<_> = (0..HOSTILE).map(|_| slow_reader(&day.broker)).collect();
        (writers, readers)
    });
    day.goes_on().await;
    day.stands_still().await;
    day.the_clock_is_set().await;
    day.the_disk_is_full().await;
    // Whoever was too slow has been sent away, and the log says so.
    tokio::task::block_in_place(|| {
        assert!(writers.iter_mut().all(Connection::is_closed));
        day.broker.wait_for_log("that frames were too slow", |log| log.contains("a frame was too slow"));
        day.broker.wait_for_log("that replies were not read", |log| log.contains("did not read its replies"));
    });
    day.memory_is_bounded("before the kills");
    drop((idle, readers));
    day.is_killed().await;

    let is_there = |property: &Property| property.is_of_all() && *property != Property::DurableBeforeVisible;
    let looked_at: Vec<Property> = Property::ALL.into_iter().filter(is_there).collect();
    let Day { broker, crowd, .. } = day;
    judge(&crowd.finish(&broker).await, &looked_at);
}
