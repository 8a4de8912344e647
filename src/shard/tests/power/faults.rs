//! What the disk refuses: each kind of write of each kind of file fails once or from then on, for want of space or for no
//! reason. The shard ends and names what it was about, or does without, as where a snapshot is only put off; it never waits
//! for ever; and once the disk is well again everything that was acknowledged is served, also after a power cut that took
//! what the failed sync should have kept.

use super::disk::Disk;
use super::load::DATA;
use super::*;

/// How the recorded process ends when the shard has ended by itself.
pub(super) const ENDED: i32 = 3;

/// A kind of write, of a kind of file; `full` is whatever takes space.
const PLACES: &[(&str, &str)] = &[
    ("create", "/data/log/"),
    ("grow", "/data/log/"),
    ("write", "/data/log/0"),
    ("sync", "/data/log/0"),
    ("write", ".log.tmp"),
    ("sync", ".log.tmp"),
    ("rename", "/data/log/"),
    ("remove", "/data/log/"),
    ("sync", "/data/log"),
    ("write", "/moved-"),
    ("sync", "/moved-"),
    ("create", "/data/snapshots/"),
    ("write", "/data/snapshots/"),
    ("sync", "/data/snapshots/"),
    ("rename", "/data/snapshots/"),
    ("write", ".jnl"),
    ("sync", ".jnl"),
    ("create", ".jnl"),
    ("create", "/tables/"),
    ("write", "/tables/"),
    ("sync", "/tables/"),
    ("create", "/rows/keyspaces/"),
    ("rename", "/rows/keyspaces/"),
    ("sync", "/rows/"),
    ("remove", "/rows/"),
    ("full", "/data/"),
];

/// What a disk without space refuses.
const TAKES_SPACE: &[&str] = &["write", "grow", "create", "rename"];

/// What one kind of failure has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// It was never reached.
    NotReached,
    /// The shard went on, or refused to start and said why.
    WentOn,
    Ended,
}

/// What fails: where, from which time on, how often, and how.
fn rules(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed.wrapping_mul(0x1_0001));
    let (operation, part) = PLACES[usize::try_from(seed).unwrap() % PLACES.len()];
    if operation == "full" {
        let nth = 1 + dice.roll(60);
        return TAKES_SPACE.iter().map(|operation| format!("{operation}:{part}:{nth}:0:ENOSPC")).collect();
    }
    let full = TAKES_SPACE.contains(&operation) && dice.roll(2) == 0;
    // A disk that is full stays so; one that has failed once may seem well afterwards.
    let (count, error) = if full { (0, "ENOSPC") } else { (dice.roll(2), "EIO") };
    vec![format!("{operation}:{part}:{}:{count}:{error}", 1 + dice.roll(12))]
}

fn try_rule(seed: u64) -> Result<Came, String> {
    let dir = scratch();
    let before = empty(dir.path());
    let load = Load { seed, steps: 40, stops: true };
    let (status, said) = Run::attempt(dir.path(), load, &rules(seed));
    let root = dir.path().join("root");
    let failed = said.lines().find(|line| line.starts_with("record: "));
    let came = match (status, failed) {
        (_, None) => Came::NotReached,
        (Some(0), _) => Came::WentOn,
        (Some(ENDED), _) => Came::Ended,
        other => return Err(format!("ends with {other:?}: {said}")),
    };
    if came == Came::Ended {
        let reason = said.split("ended: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        if !reason.contains(root.join(DATA).canonicalize().unwrap().to_str().unwrap()) {
            return Err(format!("does not say where: {reason}"));
        }
    }
    // The disk is well again.
    let run = Run::read(dir.path(), before, 0);
    let end = run.recording.end();
    let judged = |what: String, state: State| {
        let case = Case { cut: end, what, state, anew: seed.is_multiple_of(3) };
        let dir = scratch();
        judge(&run, &case, dir.path()).map_err(|error| format!("{}: {error}\n{said}", case.what))
    };
    let whole = Disk::of(&root, Names::Single);
    judged("started again".to_owned(), whole.state(&HashSet::new(), None))?;
    let disk = run.cut(end, Names::Single);
    for (what, kept) in [("nothing", false), ("everything", true)] {
        let kept = if kept { disk.pending().into_iter().collect() } else { HashSet::new() };
        judged(format!("{what} left of what was not synced"), disk.state(&kept, None))?;
    }
    Ok(came)
}

#[test]
fn whatever_the_disk_refuses_nothing_acknowledged_is_lost() {
    if !can_record() {
        return;
    }
    let (first, cases) = (number("FAULT_SEED", 0), number("FAULT_CASES", PLACES.len() as u64));
    let failures = Mutex::new(Vec::new());
    let came: Mutex<BTreeMap<Came, usize>> = Mutex::default();
    in_parallel(first..first + cases, |seed| match alone(move || try_rule(seed)).and_then(|came| came) {
        Ok(what) => *came.lock().unwrap().entry(what).or_default() += 1,
        Err(error) => {
            let error: String = error.chars().take(3_000).collect();
            failures.lock().unwrap().push(format!("case {seed}, {:?}: {error}", rules(seed)));
        }
    });
    let (failures, came) = (failures.into_inner().unwrap(), came.into_inner().unwrap());
    println!("{came:?}");
    assert!(failures.is_empty(), "{} failed\n{}", failures.len(), failures.join("\n"));
    assert!(
        came.get(&Came::Ended).is_some_and(|ended| *ended * 4 > usize::try_from(cases).unwrap()),
        "{came:?}"
    );
}
