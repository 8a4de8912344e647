//! A stopped data directory that was damaged: it is refused with a word on what is damaged, or it serves what it served
//! before; and what it cannot serve any more, it says so. It never serves something else, and nothing is lost silently but
//! what `spec/guarantees.md` ("The window that is stated") says.
//!
//! `DAMAGE_CASES` says how many cases are tried, `DAMAGE_SEED` with which number they begin.

use super::cases::{Dice, alone, in_parallel, number};
use super::contents::Contents;
use super::space::copy;
use super::workload::{Workload, open_tiny, scratch};
use super::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

const PAGE: usize = 4096;

const REMOVED: &str = "removed";

/// What was done to a copy of a data directory.
struct Damage {
    clean: bool,
    kind: &'static str,
    file: PathBuf,
    what: String,
}

/// All files below `dir` that may be damaged, by what they are.
fn files(dir: &Path) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut found: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let inside = path.strip_prefix(dir).unwrap().to_path_buf();
            let name = inside.to_str().unwrap().to_owned();
            let kind = match () {
                () if name == "lock" || name.contains("spare-") => continue,
                () if name.starts_with("log/moved-") => "moved frames",
                () if name == "log/clean" => "mark",
                () if name.starts_with("log/") => "segment",
                () if name.starts_with("snapshots/") => "snapshot",
                () if name.contains("/tables/") => "table",
                () if name.ends_with(".jnl") => "journal",
                () => "store",
            };
            found.entry(kind).or_default().push(inside);
        }
    }
    found.values_mut().for_each(|paths| paths.sort());
    found
}

/// A position in a file; more often one where there is something but zeroes.
fn position(dice: &mut Dice, content: &[u8]) -> usize {
    for _ in 0..64 {
        let at = dice.roll(content.len());
        if content.get(at).is_some_and(|byte| *byte != 0) {
            return at;
        }
    }
    dice.roll(content.len())
}

/// Damages one file of the copy in `dir`; none if that would change nothing.
fn inflict(dice: &mut Dice, workload: &Workload, clean: bool, dir: &Path) -> Option<Damage> {
    let files = files(dir);
    let kinds: Vec<_> = files.iter().collect();
    let (kind, paths) = kinds[dice.roll(kinds.len())];
    let file = paths[dice.roll(paths.len())].clone();
    let path = dir.join(&file);
    let before = std::fs::read(&path).unwrap();
    let mut content = before.clone();
    let at = position(dice, &content);
    let page = at - at % PAGE;
    let end = (page + PAGE).min(content.len());
    let what = match dice.roll(8) {
        0..=2 => {
            *content.get_mut(at)? ^= 1 << dice.roll(8);
            format!("a bit flipped at {at}")
        }
        3 => {
            content[page..end].fill(0);
            format!("a page zeroed at {page}")
        }
        4 => {
            content.truncate(at);
            format!("cut at {at}")
        }
        5 => {
            let other = position(dice, &content);
            let other = other - other % PAGE;
            let both = (PAGE).min(content.len() - page).min(content.len() - other);
            for byte in 0..both {
                content.swap(page + byte, other + byte);
            }
            format!("pages at {page} and {other} swapped")
        }
        6 => {
            std::fs::remove_file(&path).unwrap();
            return Some(Damage { clean, kind, file, what: REMOVED.to_owned() });
        }
        _ => {
            content = std::fs::read(workload.older.join(&file)).ok()?;
            "replaced by an older copy".to_owned()
        }
    };
    (content != before).then(|| std::fs::write(&path, content).unwrap())?;
    Some(Damage { clean, kind, file, what })
}

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Whole,
    SaysWhatItCannot,
    Refused,
    LastBlockCut,
}

/// Opens the damaged copy, and judges what it serves.
async fn judge(workload: &Workload, damage: &Damage, dir: &Path) -> Result<Verdict, String> {
    let running = match open_tiny(dir) {
        Ok(running) => running,
        Err(error) => return refused(damage, dir, &error.to_string()),
    };
    let served = Contents::of(&running).await;
    let wrong = wrong_in(damage, &served, &workload.whole);
    // What may be cut is what the log's end alone speaks of.
    let cut = !wrong.is_empty() && served.wrong_against(&workload.before_last).is_empty();
    let verdict = match () {
        () if cut && !damage.clean && damage.file == workload.last_segment => Verdict::LastBlockCut,
        () if !wrong.is_empty() => return Err(format!("wrong: {}", wrong.join("\n    "))),
        () if served.errors() > 0 => Verdict::SaysWhatItCannot,
        () => Verdict::Whole,
    };
    let whole = if verdict == Verdict::LastBlockCut { &workload.before_last } else { &workload.whole };
    match running.stop().await {
        Ok(()) => {}
        Err(StopReason::Store(error)) if error.is_damage() => {}
        Err(other) => return Err(format!("stopped with: {other}")),
    }
    // And once more: what was found is found again, or has been mended.
    match open_tiny(dir) {
        Ok(again) => {
            let wrong = wrong_in(damage, &Contents::of(&again).await, whole);
            let _ = again.stop().await;
            if wrong.is_empty() { Ok(verdict) } else { Err(format!("later: {}", wrong.join("\n    "))) }
        }
        Err(error) => refused(damage, dir, &error.to_string()),
    }
}

/// What is served otherwise than before the damage, and may not be.
fn wrong_in(damage: &Damage, served: &Contents, whole: &Contents) -> Vec<String> {
    let mut wrong = served.wrong_against(whole);
    let frames_lost = damage.kind == "moved frames" && damage.what == REMOVED;
    if frames_lost || ["journal", "store"].contains(&damage.kind) {
        // Where a file of compacted frames is lost, what it was made of is there again, and so it is where the rows fall back
        // to what they were before a pass (`spec/log-format.md`, "Compacted frames").
        let compacted = whole.compacted();
        assert!(!compacted.is_empty());
        wrong.retain(|wrong| !compacted.iter().any(|listing| wrong.starts_with(&format!("({listing:?},"))));
    }
    wrong
}

/// A refusal must name a file, or the partitions whose records are missing.
fn refused(_damage: &Damage, dir: &Path, error: &str) -> Result<Verdict, String> {
    let names = error.contains(dir.to_str().unwrap()) || error.contains("partition");
    if names { Ok(Verdict::Refused) } else { Err(format!("a refusal without a file: {error}")) }
}

/// What to open, in a process of its own.
const OPEN_APART: &str = "DAMAGE_OPEN";

/// Some damage makes fjall end the whole process: so a process of its own opens and stops, as often as a supervisor would
/// start it, until it does not die any more.
fn open_apart(dir: &Path) {
    for _ in 0..4 {
        let test = ["--exact", "shard::tests::damage::apart", "--ignored"];
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        let output = process.args(test).env(OPEN_APART, dir).output().unwrap();
        if output.status.code().is_some() {
            return;
        }
    }
    panic!("every start dies");
}

#[test]
#[ignore = "run by the test of damage, in a process of its own"]
fn apart() {
    let Some(dir) = std::env::var_os(OPEN_APART) else { return };
    if let Ok(running) = open_tiny(Path::new(&dir)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(running.stop()).unwrap();
    }
}

fn try_case(workload: &Workload, seed: u64) -> Option<(Damage, Result<Verdict, String>)> {
    let mut dice = Dice(seed.wrapping_mul(0x1_0001));
    let clean = dice.roll(2) == 0;
    let dir = scratch();
    copy(if clean { &workload.clean } else { &workload.crashed }, dir.path());
    let damage = inflict(&mut dice, workload, clean, dir.path())?;
    if damage.kind == "store" {
        open_apart(dir.path());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let judged = runtime.block_on(judge(workload, &damage, dir.path()));
    Some((damage, judged))
}

/// A case on a thread of its own, so that a panic or a hang is one case's end.
fn case(workload: &Arc<Workload>, seed: u64) -> Option<(Damage, Result<Verdict, String>)> {
    let own = Arc::clone(workload);
    alone(move || try_case(&own, seed)).unwrap_or_else(|end| {
        let nothing = Damage { clean: false, kind: "?", file: PathBuf::new(), what: format!("case {seed}") };
        Some((nothing, Err(end)))
    })
}

#[test]
fn damage_is_named_or_mended_and_never_served() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let workload = Arc::new(runtime.block_on(Workload::make()));
    let (first, cases) = (number("DAMAGE_SEED", 0), number("DAMAGE_CASES", 200));
    let verdicts: Mutex<BTreeMap<(bool, Verdict), usize>> = Mutex::default();
    let failures = Mutex::new(Vec::new());
    in_parallel(first..first + cases, |seed| match case(&workload, seed) {
        None => {}
        Some((damage, Ok(verdict))) => {
            *verdicts.lock().unwrap().entry((damage.clean, verdict)).or_default() += 1;
        }
        Some((damage, Err(what))) => failures.lock().unwrap().push((seed, damage, what)),
    });
    let (verdicts, failures) = (verdicts.into_inner().unwrap(), failures.into_inner().unwrap());
    let mut report = format!("{verdicts:?}");
    for (seed, damage, what) in &failures {
        // What else is wrong of a case is seen when it is run alone.
        let what: String = what.chars().take(if cases == 1 { usize::MAX } else { 300 }).collect();
        let Damage { clean, kind, file, what: damage } = damage;
        let stop = if *clean { "an orderly stop" } else { "a crash" };
        write!(report, "\ncase {seed}, after {stop}, {kind} {}, {damage}: {what}", file.display()).unwrap();
    }
    println!("{report}");
    assert!(failures.is_empty(), "{} of {cases} cases: {report}", failures.len());
    assert!(verdicts.keys().all(|(clean, verdict)| !clean || *verdict != Verdict::LastBlockCut));
}

/// A copy of a data directory, damaged by `damage`, must serve everything; at once, or after the start that found it.
async fn is_mended(workload: &Workload, clean: bool, damage: impl FnOnce(&Path), starts: usize) {
    let dir = scratch();
    copy(if clean { &workload.clean } else { &workload.crashed }, dir.path());
    damage(dir.path());
    for _ in 1..starts {
        let running = open_tiny(dir.path()).unwrap();
        let found = Contents::of(&running).await;
        assert_eq!(found.wrong_against(&workload.whole), Vec::<String>::new());
        let _ = running.stop().await;
    }
    let running = open_tiny(dir.path()).unwrap();
    let found = Contents::of(&running).await;
    assert_eq!(found.wrong_against(&workload.whole), Vec::<String>::new());
    assert_eq!(found, workload.whole);
    let left = ["rows.suspect", "rows.opening", "rows.unchecked"].map(|name| dir.path().join(name).exists());
    assert_eq!(left, [false; 3]);
    running.stop().await.unwrap();
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = std::fs::read(path).unwrap();
    change(&mut content);
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_row_store_has_lost_it_is_made_anew() {
    let workload = Workload::make().await;
    let journal = |dir: &Path| files(dir)["journal"].iter().map(|path| dir.join(path)).min().unwrap();
    // fjall cuts a journal where it is damaged, and says nothing. What its tables have is newer by then.
    is_mended(&workload, true, |dir| overwrite(&journal(dir), |bytes| bytes[9_000] ^= 1), 1).await;
    is_mended(&workload, false, |dir| overwrite(&journal(dir), |bytes| bytes.truncate(9_000)), 1).await;
    is_mended(&workload, true, |dir| std::fs::remove_file(journal(dir)).unwrap(), 1).await;
    // A keyspace without its pointer is removed by fjall as if it had never been made.
    let current = |dir: &Path| dir.join("rows/keyspaces/2/current");
    is_mended(&workload, false, |dir| std::fs::remove_file(current(dir)).unwrap(), 1).await;
    // A damaged part of a table is found when it is read, and the next start does something about it.
    let table = |dir: &Path| {
        dir.join(files(dir)["table"].iter().rfind(|t| t.starts_with("rows/keyspaces/2")).unwrap())
    };
    is_mended(&workload, true, |dir| overwrite(&table(dir), |bytes| bytes[100] ^= 1), 2).await;
    // What fjall writes last when it makes a store: without it the store is half made.
    is_mended(&workload, false, |dir| std::fs::remove_file(dir.join("rows/version")).unwrap(), 1).await;
    // Some damage makes fjall end the process; the third start knows.
    is_mended(&workload, true, |dir| std::fs::write(dir.join("rows.opening"), "2").unwrap(), 1).await;
}
