//! A world: one thread, one seed, a time of its own.

use super::chance::Chance;
use super::clients;
use super::faults::{Counts, Fault, Faults};
use super::net::{Net, Weather};
use super::node::{Blow, Node, Remains};
use super::plan::{Plan, Troubles};
use super::recorder::Recorder;
use crate::history::{Event, History, Property, check};
use crate::types::outside::{Outside, with_outside};
use crate::types::{Timestamp, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The topic that histories are about.
pub(crate) const TOPIC: &str = "t";

/// How long a world may take to come to its end once nothing goes wrong any more, in its own time.
const ENDING_MOST: Duration = Duration::from_secs(3_600);

/// Idempotency keys that somebody has sent, or is about to.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) sent: Vec<String>,
    /// Those of them that are sent in more than one record.
    pub(crate) again: BTreeSet<String>,
}

/// What everybody in a world shares.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) node: Node,
    pub(crate) net: Net,
    pub(crate) recorder: Recorder,
    pub(crate) faults: Faults,
    pub(crate) topic: Arc<OnceLock<TopicId>>,
    /// Of each partition, the offset up to which somebody has asked to delete.
    pub(crate) deleted: Arc<Mutex<BTreeMap<i32, i64>>>,
    /// Of each partition, the offset behind all that workers have read.
    pub(crate) reached: Arc<Mutex<BTreeMap<i32, i64>>>,
    pub(crate) keys: Arc<Mutex<Keys>>,
    over: Arc<AtomicBool>,
    wall: Arc<AtomicI64>,
}

/// What a world has come to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    /// What was broken, and how; the names of properties first.
    pub(crate) broken: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) log: String,
    pub(crate) counts: Counts,
    pub(crate) lives: u64,
    /// How often each property was looked at.
    pub(crate) looked_at: BTreeMap<Property, u64>,
}

impl World {
    /// Whether clients are to go on.
    pub(crate) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn of(
        plan: &Plan,
        with_log: bool,
        wall: Arc<AtomicI64>,
    ) -> (World, impl Future<Output = ()> + Send + use<>) {
        let faults = Faults::default();
        let recorder = Recorder::new(with_log);
        let net = Net::new(weather(&plan.troubles), Chance::of(plan.seed, "net"), faults.clone());
        let (node, blows) = Node::new(plan, net.clone(), faults.clone(), recorder.clone());
        let living = node.clone().run(blows, Chance::of(plan.seed, "node"));
        let world = World {
            plan: Arc::new(plan.clone()),
            node,
            net,
            recorder,
            faults,
            topic: Arc::default(),
            deleted: Arc::default(),
            reached: Arc::default(),
            keys: Arc::default(),
            over: Arc::default(),
            wall,
        };
        (world, living)
    }
}

fn weather(troubles: &Troubles) -> Weather {
    let Troubles { delay, breaks, holes, .. } = *troubles;
    Weather { delay, breaks, holes }
}

/// What a world takes from outside.
struct Given {
    chance: Chance,
    begun: Instant,
    wall: Arc<AtomicI64>,
}

impl Outside for Given {
    fn chance(&mut self) -> u64 {
        self.chance.bits()
    }
    fn wall_clock(&self) -> Timestamp {
        let elapsed = i64::try_from(self.begun.elapsed().as_millis()).unwrap();
        Timestamp(1_700_000_000_000 + elapsed + self.wall.load(Ordering::Relaxed))
    }
}

/// Lets a world run from its beginning to its end, and judges it.
pub(crate) fn run(plan: &Plan, with_log: bool) -> Outcome {
    run_to_end(plan, with_log).0
}

/// The same, with what is left of the broker.
pub(crate) fn run_to_end(plan: &Plan, with_log: bool) -> (Outcome, Remains) {
    let wall = Arc::new(AtomicI64::new(0));
    within(plan.seed, Arc::clone(&wall), || live(plan, with_log, wall))
}

/// Does something in a world of its own: in one thread, in a time of its own, with chance from a seed.
pub(crate) fn within<T, F: Future<Output = T>>(
    seed: u64,
    wall: Arc<AtomicI64>,
    work: impl FnOnce() -> F,
) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let begun = runtime.block_on(async { Instant::now() });
    let outside = Given { chance: Chance::of(seed, "outside"), begun, wall };
    with_outside(Box::new(outside), || runtime.block_on(work()))
}

async fn live(plan: &Plan, with_log: bool, wall: Arc<AtomicI64>) -> (Outcome, Remains) {
    let (world, living) = World::of(plan, with_log, wall);
    world.recorder.note(|| format!("{plan:#?}"));
    let living = tokio::spawn(living);
    clients::found(&world).await;
    let mut crowd = JoinSet::new();
    clients::begin(&world, &mut crowd);
    let mut nemesis = JoinSet::new();
    nemesis.spawn(torment(world.clone()));
    tokio::time::sleep(plan.load).await;
    nemesis.shutdown().await;
    // Peace: what was begun comes to its end, and what holds readers back has to go by itself.
    world.net.set_weather(Weather { delay: Duration::from_millis(1), breaks: 0, holes: 0 });
    world.node.disk().set_full(false);
    world.over.store(true, Ordering::Relaxed);
    let ending = async {
        while crowd.join_next().await.is_some_and(|ended| panicked(&world, ended)) {}
        tokio::time::sleep(clients::TRANSACTION_TIMEOUT_MOST + Duration::from_secs(60)).await;
        world.recorder.settled();
        clients::conclude(&world).await;
    };
    if tokio::time::timeout(ENDING_MOST, ending).await.is_err() {
        world.recorder.broken("NoHang", "at peace, and yet clients do not come to an end");
    }
    world.node.strike(Blow::End);
    if living.await.is_err() {
        world.recorder.broken("NoPanic", "the broker's life has panicked");
    }
    (judge(&world), world.node.remains())
}

fn panicked(world: &World, ended: Result<(), tokio::task::JoinError>) -> bool {
    if let Err(error) = ended {
        world.recorder.broken("NoPanic", format!("a client has failed: {error}"));
    }
    true
}

fn judge(world: &World) -> Outcome {
    let (events, mut broken, log) = world.recorder.take();
    let history = History::of(events.iter().cloned()).expect("a history");
    let verdict = check(&history).expect("a history that makes sense");
    broken.extend(
        verdict.findings.iter().map(|finding| {
            format!("{}: {} (lines {:?})", finding.property.name(), finding.says, finding.lines)
        }),
    );
    Outcome {
        plan: (*world.plan).clone(),
        broken,
        events,
        log,
        counts: world.faults.counts(),
        lives: world.node.lives(),
        looked_at: verdict.looked_at.iter().map(|(property, count)| (*property, *count)).collect(),
    }
}

/// Lets a read of the broker's give a flipped bit; not of one that starts: it could not tell its last block from a torn one.
fn flip(world: &World, chance: &mut Chance) {
    let (Some(life), after) = (world.node.life(), chance.between(0, 20)) else { return };
    world.node.disk().flip_read(after);
    let world = world.clone();
    tokio::spawn(async move {
        while world.node.life() == Some(life) {
            if !world.node.disk().has_flip() {
                return world.faults.note(Fault::BitFlipped);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Something that is done to a world.
type Strike = fn(&World, &mut Chance);

/// Does to the world what its plan has.
async fn torment(world: World) {
    let troubles = world.plan.troubles.clone();
    let mut tasks = JoinSet::new();
    let often: [(&str, u64, Strike); 6] = [
        ("kills", troubles.kills, |world, chance| {
            let later = chance.between(1, 40);
            world.node.strike(if chance.once_in(2) { Blow::Kill } else { Blow::KillInCall(later) });
        }),
        ("power", troubles.power_cuts, |world, chance| {
            let later = chance.between(1, 40);
            world.node.strike(if chance.once_in(3) { Blow::PowerCut } else { Blow::PowerCutInCall(later) });
        }),
        ("calls", troubles.failing_calls, |world, chance| {
            world.node.strike(Blow::FailCall(chance.between(1, 40)));
        }),
        ("flips", troubles.flips, flip),
        ("clock", troubles.clock_jumps, |world, chance| {
            let jump = i64::try_from(chance.between(0, 7_200_000)).unwrap() - 3_600_000;
            world.faults.note(Fault::ClockJump);
            world.recorder.note(|| format!("the time of day jumps by {jump} ms"));
            world.wall.fetch_add(jump, Ordering::Relaxed);
        }),
        ("restarts", troubles.restarts, |world, _| world.node.strike(Blow::Restart)),
    ];
    if troubles.drift != 0 {
        let (wall, drift) = (Arc::clone(&world.wall), troubles.drift);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                wall.fetch_add(drift, Ordering::Relaxed);
            }
        });
    }
    for (name, per_minute, strike) in often.into_iter().filter(|(_, per_minute, _)| *per_minute > 0) {
        let (world, mut chance) = (world.clone(), Chance::of(world.plan.seed, name));
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(chance.between(0, 120_000 / per_minute))).await;
                strike(&world, &mut chance);
            }
        });
    }
    if troubles.full_disks > 0 {
        let (world, mut chance) = (world.clone(), Chance::of(world.plan.seed, "full"));
        tasks.spawn(async move {
            loop {
                let most = 120_000 / troubles.full_disks;
                tokio::time::sleep(Duration::from_millis(chance.between(0, most))).await;
                world.faults.note(Fault::DiskFull);
                world.node.disk().set_full(true);
                tokio::time::sleep(Duration::from_millis(chance.between(100, 5_000))).await;
                world.node.disk().set_full(false);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
