//! What is done to a shard while it is recorded, in a process of its own; and its diary: after each step, the block that was
//! durable by then, as a line in a file that is recorded too, and elsewhere what the shard served.

use super::super::contents::Contents;
use super::super::workload::{join, offsets, stage, tiny};
use super::super::*;
use super::faults::ENDED;
use crate::shard::tests::cases::{Dice, number};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// The data directory and the diary, in the directory that is recorded.
pub(super) const DATA: &str = "data";
pub(super) const DIARY: &str = "diary";

/// Where the recorded process works, where it puts what was served, how many steps it takes, and by which numbers.
pub(super) const ROOT: &str = "POWER_ROOT";
pub(super) const SERVED: &str = "POWER_SERVED";
pub(super) const STEPS: &str = "POWER_STEPS";
pub(super) const SEED: &str = "POWER_LOAD_SEED";
/// Whether it stops in order in the end; if not, it dies.
pub(super) const STOPS: &str = "POWER_STOPS";

struct Diary {
    file: File,
    served: PathBuf,
}

impl Diary {
    fn begin(root: &Path, served: &Path) -> Diary {
        let file = OpenOptions::new().create(true).append(true).open(root.join(DIARY)).unwrap();
        Diary { file, served: served.to_owned() }
    }

    /// Everything up to here has been acknowledged, or shown.
    async fn note(&mut self, running: &Running) {
        let view = running.shard.view();
        let contents = Contents::in_view(running, &view).await;
        // What was moved or freed meanwhile cannot be read at its old place.
        if contents.errors() == 0 {
            std::fs::write(self.served.join(view.durable().0.to_string()), contents.readable()).unwrap();
        }
        self.file.write_all(format!("{}\n", view.durable().0).as_bytes()).unwrap();
    }
}

/// What the load knows of a shard: it may have been used before.
struct Load<'r> {
    running: &'r Running,
    dice: Dice,
    transactional: Option<Identity>,
    idempotent: BTreeMap<PartitionId, (Identity, i32)>,
}

impl Load<'_> {
    fn partitions(&self) -> Vec<PartitionId> {
        let view = self.running.shard.view();
        view.all_partitions().map(|partition| partition.unwrap().0).collect()
    }

    fn pick(&mut self) -> Option<PartitionId> {
        let partitions = self.partitions();
        let picked = self.dice.roll(partitions.len());
        partitions.get(picked).copied()
    }

    async fn step(&mut self) {
        let Some(partition) = self.pick() else {
            let name = format!("topic-{}", self.dice.roll(1 << 30));
            create_topic(self.running, &name, 2).await;
            return;
        };
        match self.dice.roll(16) {
            0..=3 => drop(produce(self.running, partition, None, None, self.records()).await.unwrap()),
            4..=6 => self.produce_once(partition).await,
            7..=11 => self.transact(partition).await,
            12 => offsets(self.running, "plain", partition, 1).await,
            13 => self.delete_records(partition).await,
            14 => {
                let name = format!("topic-{}", self.dice.roll(1 << 30));
                create_topic(self.running, &name, 1).await;
            }
            _ if self.partitions().len() > 4 => {
                let reply = ask(self.running, Command::DeleteTopic { topic: partition.topic }, vec![]).await;
                assert_eq!(reply, Reply::Done(Ok(())));
            }
            _ => join(self.running, &format!("group-{}", self.dice.roll(1 << 30))).await,
        }
    }

    fn records(&mut self) -> u32 {
        [1, 5, 40, 150][self.dice.roll(4)]
    }

    async fn produce_once(&mut self, partition: PartitionId) {
        let (identity, next) = match self.idempotent.get(&partition) {
            Some(known) => *known,
            None => (init(self.running, None).await, 0),
        };
        let records = self.records();
        let first = produce(self.running, partition, Some((identity, next, false)), None, records).await;
        let again = produce(self.running, partition, Some((identity, next, false)), None, records).await;
        let (first, again) = (first.unwrap(), again.unwrap());
        assert_eq!((again.base_offset, again.duplicate), (first.base_offset, true));
        self.idempotent.insert(partition, (identity, next + records.cast_signed()));
    }

    async fn transact(&mut self, partition: PartitionId) {
        let identity = match self.transactional {
            Some(identity) => identity,
            None => init(self.running, Some("tx")).await,
        };
        let records = self.records();
        produce(self.running, partition, Some((identity, 0, true)), Some("tx"), records).await.unwrap();
        stage(self.running, "tx", identity, "staged", partition, 3).await;
        let outcome = if self.dice.roll(3) == 0 { Outcome::Abort } else { Outcome::Commit };
        self.transactional = Some(end(self.running, "tx", identity, outcome).await.unwrap());
    }

    async fn delete_records(&mut self, partition: PartitionId) {
        let row = partition_row(self.running, partition);
        let view = self.running.shard.view();
        let Some(cut) = view.cut_at(partition, row.last_stable_offset()).unwrap() else { return };
        ask(self.running, Command::DeleteRecords { partition, to: cut }, vec![]).await;
    }
}

/// A shard that ends by itself says so in time.
const ENDS: Duration = Duration::from_secs(20);

/// What happens to the shard; ends with a panic if the shard does.
async fn work(running: Arc<Running>, root: PathBuf, served: PathBuf) {
    let mut diary = Diary::begin(&root, &served);
    let formed = || running.shard.view().get::<ClusterRow>(&()).unwrap().is_some();
    until("the cluster is formed", formed).await;
    diary.note(&running).await;
    let dice = Dice(number(SEED, 0));
    let mut load = Load { running: &running, dice, transactional: None, idempotent: BTreeMap::new() };
    for _ in 0..number(STEPS, 0) {
        load.step().await;
        diary.note(&running).await;
    }
}

#[test]
#[ignore = "run by the power-cut tests, in a process that is recorded"]
fn apart() {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(root), Some(served)) = (variable(ROOT), variable(SERVED)) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = runtime.block_on(async {
        let running = match start(&root.join(DATA), Arc::new(RealDisk), &tiny(false)) {
            Ok(running) => Arc::new(running),
            Err(error) => return Some(error.to_string()),
        };
        let worked = tokio::spawn(work(Arc::clone(&running), root, served)).await;
        let mut running = Arc::into_inner(running).unwrap();
        if worked.is_err() {
            let reason = tokio::time::timeout(ENDS, running.failed()).await.expect("the shard goes on");
            return Some(format!("{reason}; {}", reason.advice()));
        }
        if number(STOPS, 1) == 0 {
            std::process::exit(0);
        }
        running.stop().await.err().map(|reason| format!("{reason}; {}", reason.advice()))
    });
    if let Some(reason) = ended {
        println!("ended: {reason}");
        std::process::exit(ENDED);
    }
}
