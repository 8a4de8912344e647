//! A power cut of the whole thing, fjall included: a process that runs the shard on its real store is recorded, system call
//! by system call; disks as a power cut at any moment may leave them are made of the recording (`disk.rs`), and opened.
//! Every one must start; must serve exactly what was served when its last block was the last, and no earlier block than was
//! acknowledged; must make the same rows anew from its snapshot and its log alone; and must go on, also through a second cut.
//!
//! How a recording goes is the scheduler's choice; what is cut of it is decided by a number. `POWER_CASES` says how many
//! states are tried in each test, `POWER_SEED` with which number they begin. A failure keeps the recording
//! and the states that failed, and `POWER_RECORDED=<directory>` tries that recording again.

mod disk;
mod faults;
mod load;
mod recording;

use self::disk::{Change, Disk, Names, State};
use self::load::{DATA, DIARY, ROOT, SEED, SERVED, STEPS, STOPS};
use self::recording::{Deed, Recording, recorder};
use super::cases::{Dice, alone, in_parallel, number};
use super::contents::Contents;
use super::workload::{open_tiny, scratch};
use super::*;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Mutex;

/// A recorded run, what was on the disk before it, and what it served.
struct Run {
    dir: PathBuf,
    /// The disk before, for either order of names.
    before: [Disk; 2],
    recording: Recording,
    /// What was served when a block was the last one.
    served: BTreeMap<u64, String>,
    /// The last block that was acknowledged before the run.
    acknowledged: u64,
}

const NAMES: [Names; 2] = [Names::Single, Names::InOrder];

/// What a run does.
#[derive(Clone, Copy)]
struct Load {
    seed: u64,
    steps: u64,
    stops: bool,
}

impl Run {
    /// Records a run in `dir`, on the data that are in `dir/root`.
    fn record(dir: &Path, before: [Disk; 2], acknowledged: u64, load: Load) -> Run {
        let (status, said) = Run::attempt(dir, load, &[]);
        assert_eq!(status, Some(0), "{said}");
        Run::read(dir, before, acknowledged)
    }

    /// The same, where some of it may fail: how it ended, and what it said.
    fn attempt(dir: &Path, load: Load, rules: &[String]) -> (Option<i32>, String) {
        let (root, served) = (dir.join("root"), dir.join("served"));
        for path in [&root.join(DATA), &served] {
            std::fs::create_dir_all(path).unwrap();
        }
        let test =
            ["--exact", "shard::tests::power::load::apart", "--ignored", "--nocapture", "--test-threads=1"];
        // A kept recording lies elsewhere.
        std::fs::write(dir.join("of"), root.canonicalize().unwrap().to_str().unwrap()).unwrap();
        let mut program = Program::new(recorder().unwrap());
        program
            .arg(dir.join("recording"))
            .arg(&root)
            .args(rules.iter().flat_map(|rule| ["--fail", rule]))
            .arg("--")
            .arg(std::env::current_exe().unwrap());
        program.args(test).env(ROOT, &root).env(SERVED, &served).env(STEPS, load.steps.to_string());
        program.env(SEED, load.seed.to_string()).env(STOPS, u64::from(load.stops).to_string());
        let output = program.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), said(&output.stdout) + &said(&output.stderr))
    }

    fn read(dir: &Path, before: [Disk; 2], acknowledged: u64) -> Run {
        let root = std::fs::read_to_string(dir.join("of")).unwrap();
        let recording = Recording::read(&dir.join("recording"), Path::new(root.trim()));
        let mut served = BTreeMap::new();
        for entry in std::fs::read_dir(dir.join("served")).unwrap().map(|entry| entry.unwrap().path()) {
            let block = entry.file_name().unwrap().to_str().unwrap().parse().unwrap();
            served.insert(block, std::fs::read_to_string(entry).unwrap());
        }
        Run { dir: dir.to_owned(), before, recording, served, acknowledged }
    }

    /// Otherwise the cuts would not show what they are to show.
    fn has_something_of_everything(&self) {
        let events = self.recording.events.iter();
        let done: Vec<String> = events.map(|event| format!("{:?}", event.deed.named())).collect();
        for part in [
            "log/moved-",
            "log/spare-",
            "snapshots/snapshot-",
            "rows/keyspaces/2/tables/",
            ".jnl",
            "log/clean",
        ] {
            assert!(done.iter().any(|path| path.contains(part)), "no {part} in {}", self.dir.display());
        }
    }

    /// The last block that was acknowledged by then.
    fn acknowledged(&self, cut: u64) -> u64 {
        let noted = self.recording.events.iter().filter_map(|event| match &event.deed {
            Deed::Written { path, data, .. } if event.begin <= cut && path == Path::new(DIARY) => {
                let text = std::str::from_utf8(data).unwrap();
                text.trim().parse().ok()
            }
            _ => None,
        });
        noted.max().unwrap_or(self.acknowledged)
    }

    /// The disk when the power is cut.
    fn cut(&self, cut: u64, names: Names) -> Disk {
        let before = NAMES.iter().position(|other| *other == names).unwrap();
        let mut disk = self.before[before].clone();
        disk.play(&self.recording, cut);
        disk
    }
}

/// One state that is tried.
struct Case {
    cut: u64,
    what: String,
    state: State,
    /// Whether the rows are made anew too, which takes as long as all the rest.
    anew: bool,
}

/// One state of a run, decided by a number.
fn sample(run: &Run, seed: u64) -> Case {
    let mut dice = Dice(seed.wrapping_mul(0x1_0001));
    let names = NAMES[dice.roll(2)];
    let cut = dice.roll(usize::try_from(run.recording.end()).unwrap() + 1) as u64;
    let disk = run.cut(cut, names);
    let pending = disk.pending();
    let manner = dice.roll(6);
    let kept: HashSet<Change> = match manner {
        // As a kill would leave it.
        0 => pending.into_iter().collect(),
        1 => HashSet::new(),
        2 => {
            let some = dice.roll(pending.len() + 1);
            pending.into_iter().take(some).collect()
        }
        chance => pending.into_iter().filter(|_| dice.roll(8) < [1, 4, 7][chance - 3]).collect(),
    };
    let torn = (dice.roll(2) == 0 && manner > 1).then(|| dice.clone());
    let what = format!(
        "cut at {cut} of {}, names {names:?}, manner {manner}, torn {}",
        run.recording.end(),
        torn.is_some()
    );
    Case { cut, what, state: disk.state(&kept, torn), anew: dice.roll(4) == 0 }
}

/// Opens a state and judges what it serves. Leaves what is there after an orderly stop.
fn judge(run: &Run, case: &Case, dir: &Path) -> Result<(), String> {
    case.state.write(dir);
    let data = dir.join(DATA);
    let expected = |block: u64| run.served.get(&block).cloned();
    let acknowledged = run.acknowledged(case.cut);
    let anew = case.anew;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        std::fs::create_dir_all(&data).unwrap();
        let running = open_tiny(&data).map_err(|error| format!("refused: {error}"))?;
        let view = running.shard.view();
        let contents = Contents::in_view(&running, &view).await;
        let block = view.durable().0;
        drop(view);
        if contents.errors() > 0 {
            return Err(format!("cannot be read: {contents:?}"));
        }
        if block < acknowledged {
            return Err(format!("block {acknowledged} was acknowledged, {block} is the last"));
        }
        let served = contents.readable();
        // A cluster whose identity nobody has heard of gets another one, in the first block.
        let is_formed = acknowledged > 0 || block > 1;
        if let Some(expected) = expected(block).filter(|_| is_formed) {
            same(&expected, &served).map_err(|difference| format!("at block {block}: {difference}"))?;
        }
        goes_on(&running).await?;
        let served = Contents::of(&running).await.readable();
        running.stop().await.map_err(|error| format!("stops with: {error}"))?;
        if anew {
            std::fs::remove_dir_all(data.join("rows")).unwrap();
        }
        let again = open_tiny(&data).map_err(|error| format!("refused the second time: {error}"))?;
        let found = Contents::of(&again).await.readable();
        again.stop().await.map_err(|error| format!("stops with: {error}"))?;
        let when = if anew { "with rows made anew" } else { "the second time" };
        same(&served, &found).map_err(|difference| format!("{when}: {difference}"))
    })
}

/// New work is taken, and is not taken for old.
async fn goes_on(running: &Running) -> Result<(), String> {
    let topic = create_topic(running, "afterwards", 1).await;
    let partition = PartitionId::new(topic, PartitionIndex(0));
    let producer = init(running, Some("afterwards")).await;
    let appended = produce(running, partition, Some((producer, 0, true)), Some("afterwards"), 2).await;
    let ended = end(running, "afterwards", producer, Outcome::Commit).await;
    match (appended, ended) {
        (Ok(Appended { base_offset: Offset(0), duplicate: false, .. }), Ok(_)) => Ok(()),
        other => Err(format!("new work is answered with {other:?}")),
    }
}

/// The lines in which two texts differ.
fn same(expected: &str, found: &str) -> Result<(), String> {
    let [expected, found] = [expected, found].map(|text| text.lines().collect::<HashSet<_>>());
    let gone: Vec<_> = expected.difference(&found).collect();
    let new: Vec<_> = found.difference(&expected).collect();
    if gone.is_empty() && new.is_empty() { Ok(()) } else { Err(format!("gone {gone:#?}, new {new:#?}")) }
}

/// Tries the states of a run that each number gives, each once, and says how many.
fn try_all(run: &Arc<Run>, numbers: std::ops::Range<u64>, cases: impl Fn(u64) -> Vec<Case> + Sync) {
    let kept = std::env::temp_dir().join(format!("power-{}", std::process::id()));
    let failures = Mutex::new(Vec::new());
    let seen = Mutex::new(HashSet::new());
    in_parallel(numbers, |number| {
        for case in cases(number) {
            let fingerprint = (run.acknowledged(case.cut), case.state.fingerprint());
            if !seen.lock().unwrap().insert(fingerprint) {
                continue;
            }
            let case = Arc::new(case);
            let (own_run, own) = (Arc::clone(run), Arc::clone(&case));
            let dir = scratch();
            let path = dir.path().to_owned();
            let judged = alone(move || judge(&own_run, &own, &path)).and_then(|judged| judged);
            if let Err(error) = judged {
                let mut failures = failures.lock().unwrap();
                case.state.write(&kept.join(format!("state-{}", failures.len())));
                let error: String = error.chars().take(3_000).collect();
                failures.push(format!("{number}, {}: {error}", case.what));
            }
        }
    });
    let (failures, seen) = (failures.into_inner().unwrap(), seen.into_inner().unwrap());
    println!("{} states of {} recorded calls", seen.len(), run.recording.events.len());
    if !failures.is_empty() {
        super::space::copy(&run.dir, &kept);
        panic!("{} failed; the run is in {}\n{}", failures.len(), kept.display(), failures.join("\n"));
    }
}

/// Whether there is a recorder; says so if not.
fn can_record() -> bool {
    match recorder() {
        Ok(_) => true,
        Err(reason) => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{reason}");
            println!("SKIPPED: {reason}");
            false
        }
    }
}

/// A disk with nothing on it but an empty data directory.
fn empty(dir: &Path) -> [Disk; 2] {
    std::fs::create_dir_all(dir.join("root").join(DATA)).unwrap();
    disks(&dir.join("root"))
}

/// What is in a directory, durably.
fn disks(root: &Path) -> [Disk; 2] {
    NAMES.map(|names| Disk::of(root, names))
}

fn recorded(dir: &Path, load: Load) -> Arc<Run> {
    let before = empty(dir);
    Arc::new(match std::env::var_os("POWER_RECORDED") {
        Some(kept) => Run::read(Path::new(&kept), before, 0),
        None => Run::record(dir, before, 0, load),
    })
}

/// The states that a short run's cut at `cut` can leave: all of them where little is pending, and where much is, those in
/// which a beginning of it, one thing alone, or all but one thing has reached the disk.
fn every_state(run: &Run, cut: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for names in NAMES {
        let disk = run.cut(cut, names);
        let pending = disk.pending();
        let mut subsets: Vec<HashSet<Change>> = Vec::new();
        if pending.len() <= ALL_SUBSETS_OF {
            let subset = |bits: usize| {
                let kept = pending.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0);
                kept.map(|(_, change)| *change).collect()
            };
            subsets.extend((0..1 << pending.len()).map(subset));
        } else {
            for at in 0..pending.len() {
                subsets.push(pending[..at].iter().copied().collect());
                subsets.push([pending[at]].into());
                subsets.push(pending.iter().copied().filter(|change| *change != pending[at]).collect());
            }
            subsets.push(pending.iter().copied().collect());
        }
        for (number, kept) in subsets.into_iter().enumerate() {
            let what = format!("cut at {cut}, names {names:?}, subset {number} of {}", pending.len());
            cases.push(Case { cut, what, state: disk.state(&kept, None), anew: number % 8 == 0 });
        }
    }
    cases
}

/// So many states are tried of one start after a first cut.
const CASES_OF_A_SECOND_RUN: u64 = 30;

/// Of so many pending changes, all subsets are tried.
const ALL_SUBSETS_OF: usize = 4;

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_is_cut() {
    if !can_record() {
        return;
    }
    let (first, cases) = (number("POWER_SEED", 0), number("POWER_CASES", 300));
    let dir = scratch();
    let run = recorded(dir.path(), Load { seed: first, steps: 120, stops: true });
    run.has_something_of_everything();
    try_all(&run, first..first + cases, |seed| vec![sample(&run, seed)]);
}

#[test]
fn every_cut_of_a_short_run_leaves_what_was_acknowledged() {
    if !can_record() {
        return;
    }
    let seed = number("POWER_SEED", 0);
    let dir = scratch();
    let run = recorded(dir.path(), Load { seed, steps: 3, stops: true });
    // Every so many-th moment, from another one on for each seed.
    let stride = number("POWER_STRIDE", 8).max(1);
    let moments = (run.recording.end() + 1).div_ceil(stride);
    try_all(&run, 0..moments, |moment| every_state(&run, moment * stride + seed % stride));
}

/// The start after a cut writes too: the log's tail, perhaps rows made anew. So does one after a kill, which finds in the
/// page cache what no disk has.
#[test]
fn a_second_cut_leaves_what_was_acknowledged() {
    if !can_record() {
        return;
    }
    let (first, cases) = (number("POWER_SEED", 0), number("POWER_CASES", 300));
    let runs = cases.div_ceil(CASES_OF_A_SECOND_RUN);
    let dir = scratch();
    let once = recorded(dir.path(), Load { seed: first, steps: 60, stops: false });
    for number in 0..runs {
        let mut dice = Dice(first + number);
        let dir = scratch();
        let root = dir.path().join("root");
        let (cut, before) = if dice.roll(2) == 0 {
            let cut = dice.roll(usize::try_from(once.recording.end()).unwrap() + 1) as u64;
            let mut killed = NAMES.map(|names| once.cut(cut, names));
            killed.iter_mut().for_each(Disk::finish);
            let all: HashSet<Change> = killed[0].pending().into_iter().collect();
            killed[0].state(&all, None).write(&root);
            (cut, killed)
        } else {
            let Case { cut, state, .. } = sample(&once, dice.roll(1 << 30) as u64);
            state.write(&root);
            (cut, disks(&root))
        };
        let load = Load { seed: number, steps: 3, stops: dice.roll(2) == 0 };
        let mut run = Run::record(dir.path(), before, once.acknowledged(cut), load);
        // Up to its first block, its past is the other's.
        let begins = run.served.keys().next().copied().unwrap_or(0);
        run.served.extend(once.served.range(..begins).map(|(block, text)| (*block, text.clone())));
        let run = Arc::new(run);
        try_all(&run, 0..cases.min(CASES_OF_A_SECOND_RUN), |seed| vec![sample(&run, first + seed)]);
    }
}
