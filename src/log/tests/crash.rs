//! Crashes at every operation, with every outcome that a disk may leave, over and over in one life of a log: what was
//! called durable is there, nothing else is, and every place still holds.

use super::sim_disk::{Choose, Fault, Sampled, SimDisk};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All choices, one sequence after the other, like the digits of a counter.
#[derive(Debug, Default)]
struct Enumerated {
    digits: Vec<(u64, u64)>,
    at: usize,
}

impl Enumerated {
    /// Moves on to the next sequence; `false` after the last one.
    fn advance(&mut self) -> bool {
        self.digits.truncate(self.at);
        self.at = 0;
        while let Some((digit, options)) = self.digits.last_mut() {
            *digit += 1;
            if digit < options {
                return true;
            }
            self.digits.pop();
        }
        false
    }
}

impl Choose for Enumerated {
    fn choose(&mut self, options: u64) -> u64 {
        if self.at == self.digits.len() {
            self.digits.push((0, options));
        }
        self.at += 1;
        self.digits[self.at - 1].0
    }
}

/// What the world outside knows of a log: what must be there, and what may.
#[derive(Clone, Debug)]
struct World {
    disk: SimDisk,
    options: LogOptions,
    /// Durable blocks: seed and payload length by number.
    durable: BTreeMap<u64, (u64, usize)>,
    /// The block that was being written when the log failed.
    doubtful: Option<(u64, usize)>,
    /// What the store may say is applied, oldest first; the first is what it has persisted.
    checkpoints: Vec<Checkpoint>,
    seeds: u64,
}

impl World {
    fn new() -> World {
        let mut options = small_options(Path::new("/log"));
        options.spares_max = 2;
        World {
            disk: SimDisk::default(),
            options,
            durable: BTreeMap::new(),
            doubtful: None,
            checkpoints: vec![Checkpoint::START],
            seeds: 0,
        }
    }

    fn fork(&self) -> World {
        World { disk: self.disk.fork(), ..self.clone() }
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn last(&self) -> u64 {
        self.durable.keys().last().copied().unwrap_or(0)
    }

    /// Opens the log with a store that has forgotten all but its first `kept` checkpoints (never the first), and checks
    /// what comes back. `None` if the disk fails meanwhile.
    fn open(&mut self, kept: usize) -> Option<Log> {
        self.checkpoints.truncate(kept.clamp(1, self.checkpoints.len()));
        let applied = *self.checkpoints.last().unwrap();
        let mut recovery = match recover(self.disk(), self.options.clone(), applied) {
            Ok(recovery) => recovery,
            Err(RecoverError::Disk(_)) => return None,
            Err(error) => panic!("{error}\n{self:#?}"),
        };
        let mut expected = applied.block.0 + 1;
        loop {
            match recovery.next_block() {
                Ok(Some(placed)) => {
                    assert_eq!(placed.block.number().0, expected);
                    self.check_content(&placed.block);
                    self.checkpoints.push(placed.checkpoint());
                    expected += 1;
                }
                Ok(None) => break,
                Err(RecoverError::Disk(_)) => return None,
                Err(error) => panic!("{error}\n{self:#?}"),
            }
        }
        assert!(expected > self.last(), "block {} was durable and is gone", self.last());
        let log = match recovery.into_log() {
            Ok(log) => log,
            Err(RecoverError::Disk(_)) => return None,
            Err(error) => panic!("{error}\n{self:#?}"),
        };
        assert_eq!(log.last.0 + 1, expected);
        // The block in doubt was found, and is durable now; or it is gone for good.
        self.doubtful = None;
        Some(log)
    }

    /// A block that recovery hands out is what was written under that number; and it is durable from then on.
    fn check_content(&mut self, block: &Block) {
        let number = block.number().0;
        let doubtful = self.doubtful.filter(|_| number == self.last() + 1);
        let known = self.durable.get(&number).copied().or(doubtful);
        let (seed, length) = known.unwrap_or_else(|| panic!("block {number} was never written"));
        assert_eq!(contents(block), frames_of(seed, length));
        self.durable.insert(number, (seed, length));
    }

    /// Appends a block; `false` if the disk fails.
    fn append(&mut self, log: &mut Log, payload_length: usize) -> bool {
        let number = self.last() + 1;
        self.seeds += 1;
        match append_seeded(log, number, self.seeds, payload_length) {
            Ok(placed) => {
                self.durable.insert(number, (self.seeds, payload_length));
                self.checkpoints.push(placed.checkpoint());
                true
            }
            Err(WriteError::Disk { .. }) => {
                self.doubtful = Some((self.seeds, payload_length));
                let again = append_seeded(log, number, self.seeds, payload_length);
                assert!(matches!(again, Err(WriteError::Failed)), "{again:?}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads all blocks that the checkpoints know of, by their places.
    fn check_places(&self, log: &Log) {
        for checkpoint in self.checkpoints.iter().filter(|checkpoint| checkpoint.block.0 > 0) {
            let (seed, length) = self.durable[&checkpoint.block.0];
            let written = block(log.writer.identity(), checkpoint.block.0, seed, length);
            let placed = PlacedBlock { block: written, at: checkpoint.at };
            for (read, (_, payload)) in
                payloads(&log.reader, &placed).into_iter().zip(contents(&placed.block))
            {
                assert_eq!(read.unwrap(), payload, "block {}", checkpoint.block);
            }
        }
    }

    /// The store persists what it has, and the segments below that are freed; `false` if the disk fails.
    fn free(&mut self, log: &mut Log) -> bool {
        let floor = self.checkpoints[0].at.segment.0;
        self.checkpoints.drain(..self.checkpoints.len() - 1);
        (floor..self.checkpoints[0].at.segment.0).all(|segment| {
            let retired = log.reader.retire(SegmentNumber(segment));
            log.writer.recycler().recycle(retired, 0).is_ok()
        })
    }
}

/// One life of the process.
#[derive(Clone, Debug)]
struct Run {
    /// How many checkpoints the store has kept.
    kept: usize,
    /// Payload lengths of the blocks it appends.
    appends: Vec<usize>,
    /// After how many of them it frees segments.
    free_after: Option<usize>,
    fault: Option<Fault>,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Stop,
    Kill,
    PowerCut { seed: u64 },
}

impl Run {
    fn play(&self, world: &mut World) {
        world.disk.plan(self.fault);
        let finished = self.play_until_fault(world);
        let power_is_cut = matches!(self.fault, Some(Fault::PowerCut { .. })) && finished.is_none();
        match self.ending {
            Ending::PowerCut { seed } => world.disk.power_cut(&mut Sampled(seed)),
            _ if power_is_cut => world.disk.power_cut(&mut Sampled(world.seeds)),
            Ending::Stop | Ending::Kill => world.disk.plan(None),
        }
    }

    fn play_until_fault(&self, world: &mut World) -> Option<()> {
        let mut log = world.open(self.kept)?;
        world.check_places(&log);
        for (done, length) in self.appends.iter().enumerate() {
            if self.free_after == Some(done) {
                world.free(&mut log).then_some(())?;
            }
            world.append(&mut log, *length).then_some(())?;
        }
        world.check_places(&log);
        match self.ending {
            Ending::Stop => log.writer.stop().ok(),
            Ending::Kill | Ending::PowerCut { .. } => Some(()),
        }
    }
}

/// Payloads of one page and of two (the longest block that fits), and nothing.
fn payload_lengths() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1..3800usize, 4000..7000usize]
}

fn runs() -> impl Strategy<Value = Run> {
    let fault = prop_oneof![
        Just(None),
        (1..60u64).prop_map(|operation| Some(Fault::PowerCut { operation })),
        (1..60u64).prop_map(|operation| Some(Fault::Error { operation })),
    ];
    let ending = prop_oneof![
        Just(Ending::Stop),
        Just(Ending::Kill),
        any::<u64>().prop_map(|seed| Ending::PowerCut { seed })
    ];
    let appends = prop::collection::vec(payload_lengths(), 0..14);
    (prop_oneof![Just(usize::MAX), 1..20usize], appends, prop::option::of(0..14usize), fault, ending)
        .prop_map(|(kept, appends, free_after, fault, ending)| Run {
            kept,
            appends,
            free_after,
            fault,
            ending,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_durable_survives_any_lives(runs in prop::collection::vec(runs(), 1..8)) {
        let mut world = World::new();
        for run in &runs {
            run.play(&mut world);
        }
        let log = world.open(1).unwrap();
        world.check_places(&log);
    }
}

/// Most outcomes of one crash that are tried one by one; of more, this many are sampled.
const OUTCOMES_MAX: u64 = 150;

/// Calls `check` with the outcomes of a power cut: with all of them where they are few.
fn for_outcomes(world: &World, mut check: impl FnMut(World)) {
    let mut choices = Enumerated::default();
    for _ in 0..OUTCOMES_MAX {
        let outcome = world.fork();
        outcome.disk.power_cut(&mut choices);
        check(outcome);
        if !choices.advance() {
            return;
        }
    }
    for seed in 0..OUTCOMES_MAX {
        let outcome = world.fork();
        outcome.disk.power_cut(&mut Sampled(seed));
        check(outcome);
    }
}

/// Appends until the disk fails.
fn live(world: &mut World, appends: &[usize]) {
    if let Some(mut log) = world.open(usize::MAX) {
        for length in appends {
            if !world.append(&mut log, *length) {
                return;
            }
        }
    }
}

/// Two lives, the second of which loses power at each of its operations; each outcome is opened, goes on, and is opened
/// once more.
fn crash_everywhere(before: &World, appends: &[usize]) {
    let rehearsal = before.fork();
    rehearsal.disk.plan(None);
    live(&mut World { disk: rehearsal.disk.clone(), ..rehearsal.clone() }, appends);
    let operations = rehearsal.disk.operations();
    assert!(operations > 3 * appends.len() as u64 / 2, "the rehearsal has run");
    for operation in 1..=operations {
        let mut world = before.fork();
        world.disk.plan(Some(Fault::PowerCut { operation }));
        live(&mut world, appends);
        for_outcomes(&world, |mut outcome| {
            let mut log = outcome.open(usize::MAX).expect("the disk works again");
            outcome.check_places(&log);
            assert!(outcome.append(&mut log, 100));
            outcome.disk.power_cut(&mut Sampled(operation));
            let log = outcome.open(1).expect("the disk works again");
            outcome.check_places(&log);
        });
    }
}

#[test]
fn a_new_log_survives_a_power_cut_anywhere() {
    crash_everywhere(&World::new(), &[10, 5000, 6000, 20, 6000, 6000]);
}

#[test]
fn a_log_on_used_files_survives_a_power_cut_anywhere() {
    let mut world = World::new();
    let mut log = world.open(1).unwrap();
    for length in [6000, 6000, 6000, 10, 6000, 6000, 6000, 6000] {
        assert!(world.append(&mut log, length));
    }
    assert!(world.free(&mut log));
    assert!(world.checkpoints[0].at.segment > SegmentNumber(2), "there are spares");
    drop(log);
    crash_everywhere(&world, &[6000, 6000, 10, 5000]);
}

/// What a failed sync leaves in the page cache is made durable before anybody relies on it.
#[test]
fn a_block_whose_sync_failed_is_written_again_before_it_counts() {
    for operation in 1..40 {
        let mut world = World::new();
        world.disk.plan(Some(Fault::Error { operation }));
        live(&mut world, &[100, 6000, 6000, 100, 6000]);
        world.disk.plan(None);
        // The process is started again, and what it reads back it relies on.
        let log = world.open(usize::MAX).expect("the disk works again");
        drop(log);
        world.disk.power_cut(&mut Sampled(operation));
        let log = world.open(1).expect("the disk works again");
        world.check_places(&log);
    }
}

/// A crash just after a segment was begun leaves two files without headers. They are put away in an order in which no
/// crash makes it look as if a file was missing.
#[test]
fn files_that_were_never_used_are_put_away_in_an_order_that_survives_power_cuts() {
    let mut world = World::new();
    let mut log = world.open(1).unwrap();
    assert!(world.append(&mut log, 100));
    drop(log);
    for segment in [2, 3] {
        let path = super::super::segment::segment_path(&world.options.dir, SegmentNumber(segment));
        world.disk.create(&path, u64::from(SEGMENT_LENGTH_MIN)).unwrap().sync().unwrap();
        world.disk.sync_dir(&world.options.dir).unwrap();
    }
    for operation in 1..12 {
        let mut crashed = world.fork();
        crashed.disk.plan(Some(Fault::PowerCut { operation }));
        drop(crashed.open(usize::MAX));
        for_outcomes(&crashed, |mut outcome| {
            let log = outcome.open(usize::MAX).expect("the disk works again");
            outcome.check_places(&log);
        });
    }
}
