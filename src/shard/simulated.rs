//! A shard in a simulated world: the real log on a simulated disk, the real loop and upkeep, rows in the model of the store;
//! and what works beside the loop are tasks of one thread, each as slow as the world wants it.

use super::applier::{Apply, load};
use super::handle::Shard;
use super::limits::ShardLimits;
use super::ports::{Beside, Clock, Hands};
use super::start::{Made, Parts, Space, StartError, StopReason, log_options, replay_above};
use crate::core::RowKey;
use crate::log::{Disk, PlacedBlock, Preparation};
use crate::store::{Database, Model, Snapshots};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What is done beside the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Write,
    Apply,
    Load,
}

/// How fast that is done.
pub(crate) trait Pace: Send + Sync + 'static {
    /// How long it takes; half of it before it is done, half of it before the loop hears of it.
    fn takes(&self, work: Work) -> Duration;
    /// Whether the loop itself writes the next block.
    fn loop_writes(&self) -> bool;
}

/// The queues to the tasks beside the loop.
struct Tasks {
    pace: Arc<dyn Pace>,
    blocks: UnboundedSender<PlacedBlock>,
    layers: UnboundedSender<Apply>,
    loads: UnboundedSender<Vec<RowKey>>,
}

impl Hands for Tasks {
    fn leave_to_loop(&mut self, _commands: usize, _bytes: u32) -> bool {
        self.pace.loop_writes()
    }
    fn write(&mut self, block: PlacedBlock) {
        let _ = self.blocks.send(block);
    }
    fn apply(&mut self, changes: Apply) {
        let _ = self.layers.send(changes);
    }
    fn load(&mut self, rows: Vec<RowKey>) {
        let _ = self.loads.send(rows);
    }
}

async fn half(pace: &Arc<dyn Pace>, work: Work) {
    tokio::time::sleep(pace.takes(work) / 2).await;
}

impl Tasks {
    fn start(beside: &Beside, pace: &Arc<dyn Pace>, tasks: &mut JoinSet<()>) -> Tasks {
        let (blocks, mut block_queue) = unbounded_channel::<PlacedBlock>();
        let (log, signals, slow) = (beside.log.clone(), beside.signals.clone(), Arc::clone(pace));
        tasks.spawn(async move {
            while let Some(block) = block_queue.recv().await {
                half(&slow, Work::Write).await;
                let written = log.write_block(&block);
                half(&slow, Work::Write).await;
                let _ = signals.send(written);
            }
        });
        let (layers, layer_queue) = unbounded_channel();
        tasks.spawn(apply(beside, layer_queue, Arc::clone(pace)));
        let (loads, mut load_queue) = unbounded_channel::<Vec<RowKey>>();
        let (store, signals, slow) = (beside.store.clone(), beside.signals.clone(), Arc::clone(pace));
        let metrics = Arc::clone(&beside.metrics);
        tasks.spawn(async move {
            while let Some(keys) = load_queue.recv().await {
                half(&slow, Work::Load).await;
                let loaded = load(&store, keys, &metrics.rows);
                half(&slow, Work::Load).await;
                let _ = signals.send(loaded);
            }
        });
        Tasks { pace: Arc::clone(pace), blocks, layers, loads }
    }
}

fn apply(
    beside: &Beside,
    mut layers: UnboundedReceiver<Apply>,
    pace: Arc<dyn Pace>,
) -> impl Future<Output = ()> + Send + use<> {
    let (mut applier, signals) = (beside.applier(), beside.signals.clone());
    async move {
        while let Some(first) = layers.recv().await {
            half(&pace, Work::Apply).await;
            let applied = applier.apply(first, || layers.try_recv().ok());
            half(&pace, Work::Apply).await;
            let _ = signals.send(applied);
        }
    }
}

/// A shard that serves until its tasks are aborted, or it fails.
pub(crate) struct Serving {
    pub(crate) shard: Shard,
    /// Dropped to stop it in order.
    pub(crate) stop: oneshot::Sender<()>,
    /// How it has ended.
    pub(crate) ended: oneshot::Receiver<Result<(), StopReason>>,
}

/// Starts the shard that is on `disk`, with the rows that `rows` has, as tasks among `tasks`.
pub(crate) fn serve(
    disk: &Arc<dyn Disk>,
    rows: &Model,
    limits: &ShardLimits,
    pace: &Arc<dyn Pace>,
    tasks: &mut JoinSet<()>,
) -> Result<Serving, StartError> {
    let dir = Path::new("/data");
    let snapshots = Snapshots::open(Arc::clone(disk), dir.join("snapshots"))?;
    let snapshot = snapshots.newest()?;
    let mut options = log_options(dir, limits);
    options.preparation = Preparation::Inline;
    let recovered = replay_above(Database::modelled(rows)?, disk, options, limits)?;
    let log = recovered.recovery.into_log()?;
    let clock = Clock::from(log.served_time.max(recovered.served));
    let space = Space { disk: Arc::clone(disk), dir: dir.into(), snapshots, snapshot, restored: None };
    let (store, table, limits) = (recovered.store, recovered.table, limits.clone());
    let parts = Parts { store, log, table, clock, limits, space };
    let (made, ()) = parts.make(|beside| Ok((Tasks::start(beside, pace, tasks), ())))?;
    let Made { shard, turning, stop, upkeep, signals, store, log } = made;
    tasks.spawn(upkeep.run(signals));
    let (end, ended) = oneshot::channel();
    tasks.spawn(async move {
        let result = turning.run().await;
        // The tasks beside the loop see that there is nothing more to do, and let go of the log.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let result = result.and_then(|()| store.persist().map_err(StopReason::from));
        let result = match (result, log.into_writer()) {
            (Ok(()), Some(writer)) => writer.stop().map_err(StopReason::from),
            (result, _) => result,
        };
        let _ = end.send(result);
    });
    Ok(Serving { shard, stop, ended })
}
