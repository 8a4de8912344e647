//! The broker as a process that can die: its lives follow one another on one disk.

use super::chance::Chance;
use super::clients::CONSUMER_SESSION;
use super::faults::{Busy, Fault, Faults};
use super::net::{Net, Power, Stream};
use super::plan::Plan;
use super::recorder::Recorder;
use crate::broker::{Broker, BrokerConfig, Endpoint};
use crate::core::invariants::INVARIANTS;
use crate::log::Disk;
use crate::log::tests::sim_disk::{self, SimDisk};
use crate::net::simulated::Sessions;
use crate::net::{Authority, Budgets, Connection, Limits, Principal, Transport};
use crate::shard::simulated::{Pace, Serving, Work, serve};
use crate::shard::{ShardLimits, StartError, StopReason};
use crate::store::Model;
use crate::types::ConnectionId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

/// What the world does to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    Kill,
    PowerCut,
    /// At a later call to the disk.
    KillInCall(u64),
    PowerCutInCall(u64),
    FailCall(u64),
    Restart,
    /// The last one: it does not come back.
    End,
}

/// The broker. All clones are one.
#[derive(Clone)]
pub(crate) struct Node(Arc<Shared>);

struct Shared {
    net: Net,
    faults: Faults,
    recorder: Recorder,
    limits: ShardLimits,
    pace: Arc<dyn Pace>,
    dies_in_start: bool,
    disk: SimDisk,
    rows: Model,
    blows: UnboundedSender<Blow>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    life: Option<Life>,
    /// How many lives there have been.
    lives: u64,
    connections: u64,
}

/// A broker that lives.
struct Life {
    sessions: Sessions<Broker>,
    tasks: JoinSet<()>,
    power: Power,
}

/// What is left of a broker.
pub(crate) struct Remains {
    pub(crate) disk: SimDisk,
    pub(crate) rows: Model,
    pub(crate) limits: ShardLimits,
}

/// How a shard has ended.
type Ended = oneshot::Receiver<Result<(), StopReason>>;

/// How often it is looked whether a fault has come.
const TICK: Duration = Duration::from_millis(20);

/// How slow the disk is.
pub(crate) struct Slowness {
    chance: Mutex<Chance>,
    most: Duration,
}

impl Slowness {
    pub(crate) fn of(seed: u64, most: Duration) -> Arc<dyn Pace> {
        Arc::new(Slowness { chance: Mutex::new(Chance::of(seed, "pace")), most })
    }
}

impl Pace for Slowness {
    fn takes(&self, work: Work) -> Duration {
        let most = if work == Work::Write { self.most } else { self.most * 4 };
        self.chance.lock().unwrap().time(most)
    }
    fn loop_writes(&self) -> bool {
        self.chance.lock().unwrap().once_in(3)
    }
}

impl Node {
    /// A broker on an empty disk; it lives when [`Node::run`] is polled.
    pub(crate) fn new(
        plan: &Plan,
        net: Net,
        faults: Faults,
        recorder: Recorder,
    ) -> (Node, UnboundedReceiver<Blow>) {
        let most = Duration::from_millis(if plan.troubles.slow_disk { 400 } else { 10 });
        let (blows, queue) = unbounded_channel();
        let node = Node(Arc::new(Shared {
            net,
            faults,
            recorder,
            limits: plan.limits(),
            pace: Slowness::of(plan.seed, most),
            dies_in_start: plan.troubles.kills + plan.troubles.power_cuts > 0,
            disk: SimDisk::default(),
            rows: Model::default(),
            blows,
            state: Mutex::default(),
        }));
        (node, queue)
    }

    /// What is on its disk, and in its row store.
    pub(crate) fn remains(&self) -> Remains {
        Remains { disk: self.0.disk.clone(), rows: self.0.rows.clone(), limits: self.0.limits.clone() }
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    pub(crate) fn strike(&self, blow: Blow) {
        let _ = self.0.blows.send(blow);
    }

    /// Which life it is, if it lives.
    pub(crate) fn life(&self) -> Option<u64> {
        let state = self.0.state.lock().unwrap();
        state.life.as_ref().filter(|life| life.power.is_on()).map(|_| state.lives)
    }

    pub(crate) fn lives(&self) -> u64 {
        self.0.state.lock().unwrap().lives
    }

    /// A connection to it, and in which life; none if it does not live.
    pub(crate) fn connect(&self, transport: Transport) -> Option<(Stream, u64)> {
        let mut state = self.0.state.lock().unwrap();
        state.connections += 1;
        let (number, lives) = (state.connections, state.lives);
        let life = state.life.as_mut().filter(|life| life.power.is_on())?;
        let (here, there) = self.0.net.connect(&life.power);
        let connection = Connection {
            id: ConnectionId(number),
            peer: ([127, 0, 0, 1], 1).into(),
            transport,
            principal: Principal::named("client"),
            authority: Authority::Admin,
        };
        let (source, sink) = tokio::io::split(there);
        life.tasks.spawn(life.sessions.serve(connection, source, sink));
        while let Some(ended) = life.tasks.try_join_next() {
            self.no_panic(ended);
        }
        Some((here, lives))
    }

    /// Lives, dies and lives again, until the end.
    pub(crate) async fn run(self, mut blows: UnboundedReceiver<Blow>, mut chance: Chance) {
        loop {
            let in_start = self.plan_in_start(&mut chance);
            let starting = self.0.faults.during(Busy::Starting);
            let begun = self.begin().await;
            let Some((mut ended, stop)) = begun else {
                self.die(&mut chance, in_start.unwrap_or(Blow::FailCall(0))).await;
                drop(starting);
                if matches!(blows.try_recv(), Ok(Blow::End)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(chance.between(100, 2_000))).await;
                continue;
            };
            drop(starting);
            self.0.disk.plan(None);
            let blow = match self.live(&mut ended, &mut blows).await {
                Blow::Restart => {
                    self.stop(stop, &mut ended).await;
                    Blow::Restart
                }
                blow => blow,
            };
            self.die(&mut chance, blow).await;
            if blow == Blow::End {
                return;
            }
            let down = if chance.once_in(4) { 10_000 } else { 500 };
            tokio::time::sleep(Duration::from_millis(chance.between(0, down))).await;
        }
    }

    /// Lives until something ends it.
    async fn live(&self, ended: &mut Ended, blows: &mut UnboundedReceiver<Blow>) -> Blow {
        let mut planned: Option<(Blow, Arc<AtomicBool>)> = None;
        loop {
            tokio::select! {
                biased;
                result = &mut *ended => {
                    // If it has panicked, `die` tells of what.
                    self.0.recorder.note(|| format!("the broker has failed: {result:?}"));
                    return planned.map_or(Blow::FailCall(0), |(blow, _)| blow);
                }
                blow = blows.recv() => match blow.unwrap_or(Blow::End) {
                    blow @ (Blow::KillInCall(_) | Blow::PowerCutInCall(_) | Blow::FailCall(_)) => {
                        planned = self.plan_in_call(blow).map(|came| (blow, came));
                    }
                    blow => return blow,
                },
                () = tokio::time::sleep(TICK), if planned.is_some() => {
                    match planned.take_if(|(_, came)| came.load(Ordering::Relaxed)) {
                        // It may live on: not every call is vital.
                        Some((Blow::FailCall(_), _)) => self.0.faults.note(Fault::CallFailed),
                        Some((blow, _)) => return blow,
                        None => {}
                    }
                }
            }
        }
    }

    /// Now and then it dies before it has started.
    fn plan_in_start(&self, chance: &mut Chance) -> Option<Blow> {
        if !self.0.dies_in_start || self.lives() == 0 || !chance.once_in(4) {
            return None;
        }
        let operation = chance.between(1, 12);
        self.0.disk.plan(Some(sim_disk::Fault::PowerCut { operation }));
        Some(if chance.once_in(2) { Blow::PowerCutInCall(operation) } else { Blow::KillInCall(operation) })
    }

    /// Has a later call to the disk go wrong; gives what becomes true then.
    fn plan_in_call(&self, blow: Blow) -> Option<Arc<AtomicBool>> {
        let state = self.0.state.lock().unwrap();
        let power = &state.life.as_ref()?.power;
        let (fault, came) = match blow {
            Blow::KillInCall(operation) => {
                (sim_disk::Fault::PowerCut { operation }, Arc::clone(power.switch(false)))
            }
            Blow::PowerCutInCall(operation) => {
                (sim_disk::Fault::PowerCut { operation }, Arc::clone(power.switch(true)))
            }
            Blow::FailCall(operation) => (sim_disk::Fault::Error { operation }, Arc::default()),
            _ => return None,
        };
        self.0.disk.plan_and_tell(fault, &came);
        Some(came)
    }

    /// Starts the broker; none if that fails.
    async fn begin(&self) -> Option<(Ended, oneshot::Sender<()>)> {
        let Shared { disk, rows, limits, pace, recorder, .. } = &*self.0;
        let mut tasks = JoinSet::new();
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let served = serve(&disk, rows, limits, pace, &mut tasks);
        let Serving { shard, stop, ended } = match served {
            Ok(served) => served,
            Err(error) => {
                recorder.note(|| format!("the broker does not start: {error}"));
                if !is_of_disk(&error) {
                    recorder.broken("NoLostWrite", format!("the broker does not start: {error}"));
                }
                tasks.shutdown().await;
                return None;
            }
        };
        let net_limits = Limits { threads: 0, ..Limits::default() };
        let budgets = Budgets::new(&net_limits);
        let endpoint = Endpoint { host: "localhost".to_owned(), port: 9092 };
        let config = BrokerConfig {
            two_phase_commit: true,
            consumer_session_timeout: CONSUMER_SESSION,
            ..BrokerConfig::new(endpoint)
        };
        let broker = Broker::new(shard, budgets.clone(), config);
        let sessions = Sessions::new(Arc::new(broker), net_limits, budgets);
        let mut state = self.0.state.lock().unwrap();
        state.lives += 1;
        recorder.note(|| format!("life {} begins", state.lives));
        state.life = Some(Life { sessions, tasks, power: Power::default() });
        Some((ended, stop))
    }

    fn no_panic(&self, ended: Result<(), JoinError>) {
        let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) else { return };
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        // A decision that breaks an invariant panics with the name of its property.
        match text.split_once(": ") {
            Some((property, how)) if INVARIANTS.iter().any(|invariant| invariant.property == property) => {
                self.0.recorder.broken(property, how);
            }
            _ => self.0.recorder.broken("NoPanic", format!("a task of the broker has panicked: {text}")),
        }
    }

    /// A stop in order.
    async fn stop(&self, stop: oneshot::Sender<()>, ended: &mut Ended) {
        drop(stop);
        match ended.await {
            Ok(Ok(())) => {}
            other => self.0.recorder.note(|| format!("the stop was not in order: {other:?}")),
        }
    }

    /// Everything of this life ends, at whatever it waits for; the disk keeps what it must.
    async fn die(&self, chance: &mut Chance, blow: Blow) {
        let Shared { disk, rows, faults, recorder, .. } = &*self.0;
        let life = self.0.state.lock().unwrap().life.take();
        let (fault, is_power_cut) = match blow {
            Blow::Kill => (Fault::Crash, false),
            Blow::PowerCut => (Fault::PowerCut, true),
            Blow::KillInCall(_) => (Fault::CrashInCall, false),
            Blow::PowerCutInCall(_) => (Fault::PowerCutInCall, true),
            Blow::FailCall(_) => (Fault::CallFailed, chance.once_in(2)),
            Blow::Restart | Blow::End => (Fault::Restart, false),
        };
        let behind = (rows.behind() > 0).then(|| faults.during(Busy::RowsBehind));
        if blow != Blow::End {
            faults.note(fault);
        }
        drop(behind);
        if let Some(mut life) = life {
            if is_power_cut {
                life.power.cut()
            } else {
                life.power.kill()
            }
            life.tasks.abort_all();
            while let Some(ended) = life.tasks.join_next().await {
                self.no_panic(ended);
            }
        }
        recorder.crashed();
        if is_power_cut {
            disk.power_cut(chance);
        } else {
            disk.process_dies();
        }
        rows.crash(|undecided| chance.between(0, undecided));
        recorder.note(|| format!("the broker is dead: {blow:?}"));
    }
}

/// Whether the disk has refused something: then it will start when the disk does not.
fn is_of_disk(error: &StartError) -> bool {
    use crate::log::RecoverError;
    use crate::store::SnapshotError;
    matches!(
        error,
        StartError::Disk(_)
            | StartError::Log(RecoverError::Disk(_))
            | StartError::Snapshot(SnapshotError::Disk(_))
    )
}
