//! Bytes that are nearly right: valid ones, changed a little again and again, are given to everything that reads bytes.
//!
//! Comes in: a [`Target`]: valid bytes, what makes their lengths and checksums right again after a change, and the code that
//! reads them. Goes out: nothing, if the code answers whatever it is given; else the bytes at which it panicked, kept in
//! `tests/corpus/`, which is read first in every run. What makes the code say something new is changed further, so that
//! changes add up; with `FUZZ_KEEP=1` the last of it is kept, too, so that later runs begin where that one has come to.
//! In tests only; `FUZZ_CASES=1000000 cargo test --lib fuzz_` for a night of it.

mod mutate;

use mutate::mutate;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Cases of each target in an ordinary run.
const CASES: u64 = 4_000;
/// Bytes that made the code say something new, of one run, at most.
const POOL_MAX: usize = 1_000;
/// Files that `FUZZ_KEEP=1` leaves in a target's corpus, and how long each may be.
const KEPT_MAX: usize = 40;
const KEPT_BYTES_MAX: usize = 1 << 10;
/// The corpus of all targets together, in bytes: it is a part of the repository.
const CORPUS_BYTES_MAX: u64 = 300_000;

/// Something that reads bytes.
pub(crate) struct Target<'t> {
    pub(crate) name: &'static str,
    /// Bytes as they should be.
    pub(crate) valid: Vec<Vec<u8>>,
    /// Makes lengths and checksums right again, so that what lies behind them is reached.
    pub(crate) mend: &'t dyn Fn(&mut Vec<u8>),
    /// Has the code read the bytes; gives what it said, without what depends on them. It may do anything but panic.
    pub(crate) read: &'t dyn Fn(&[u8]) -> String,
}

/// Choices from a seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, options: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = usize::try_from((z ^ (z >> 31)) >> 1).unwrap();
        if options == 0 { 0 } else { z % options }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The bytes that are kept for a target.
fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn kept(dir: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// What the code said, without the numbers.
fn kind(said: &str) -> String {
    said.chars().filter(|c| !c.is_ascii_digit()).take(200).collect()
}

impl Target<'_> {
    /// Has the code read all that is kept, and as many changed bytes as an ordinary run has.
    pub(crate) fn fuzz(&self) {
        self.fuzz_some(CASES);
    }

    /// The same, with so many cases in an ordinary run: for code that takes long.
    pub(crate) fn fuzz_some(&self, cases: u64) {
        let dir = corpus(self.name);
        let kept = kept(&dir);
        let before = kept.len();
        let mut pool: Vec<Vec<u8>> = self.valid.iter().cloned().chain(kept).collect();
        let mut known = BTreeSet::new();
        for bytes in &pool {
            known.insert(self.read_one(bytes));
        }
        let mut dice = Dice(number("FUZZ_SEED").unwrap_or(1));
        let mut new = Vec::new();
        let cases = number("FUZZ_CASES").unwrap_or(cases);
        for _ in 0..cases {
            let mut bytes = pool[dice.below(pool.len())].clone();
            let other = &pool[dice.below(pool.len())];
            mutate(&mut bytes, other, &mut dice);
            if dice.below(4) > 0 {
                (self.mend)(&mut bytes);
            }
            if known.insert(self.read_one(&bytes)) && pool.len() < POOL_MAX {
                if bytes.len() <= KEPT_BYTES_MAX {
                    new.push(bytes.clone());
                }
                pool.push(bytes);
            }
        }
        if number("FUZZ_KEEP").is_some() {
            // The last ones: what is changed most often lies deepest.
            let room = KEPT_MAX.saturating_sub(before);
            new.iter().rev().take(room).for_each(|bytes| drop(self.keep(bytes, "kept")));
        } else {
            let is_short = self.valid.iter().any(|bytes| bytes.len() <= KEPT_BYTES_MAX);
            assert!(before > 0 || !is_short, "{}: no corpus; FUZZ_KEEP=1 makes one", self.name);
        }
        println!("{}: {cases} cases, {} kept before, {} different answers", self.name, before, known.len());
        assert!(known.len() > 2, "{}: the code says nothing but {known:?}, so nothing is reached", self.name);
    }

    fn read_one(&self, bytes: &[u8]) -> String {
        match catch_unwind(AssertUnwindSafe(|| (self.read)(bytes))) {
            Ok(said) => kind(&said),
            Err(panic) => {
                let path = self.keep(bytes, "found");
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                panic!("{}: {text}; the bytes are kept as {}", self.name, path.display());
            }
        }
    }

    fn keep(&self, bytes: &[u8], why: &str) -> PathBuf {
        let dir = corpus(self.name);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{why}-{:08x}", crc32c::crc32c(bytes)));
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn the_corpus_is_small() {
    let targets = std::fs::read_dir(corpus("")).unwrap().map(|entry| entry.unwrap().path());
    let files = targets.flat_map(|target| std::fs::read_dir(target).unwrap());
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((1..=CORPUS_BYTES_MAX).contains(&bytes), "{bytes} bytes, of at most {CORPUS_BYTES_MAX}");
}
