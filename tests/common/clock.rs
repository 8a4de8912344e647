//! A wall clock that a test sets, for one process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::broker::Broker;
use super::process::{run, text_of};
use super::tools::{find, or_skip, set_up};

pub const YEAR_S: i64 = 365 * 86_400;
const STEPPED: &str = "the wall clock has stepped";

/// The library that tells a process another time.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let compiler = find("cc")?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/wall.c");
        let home = set_up("clock", &text_of(&source), |home| {
            let library = home.join("wall.so");
            run(Command::new(compiler)
                .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
                .arg(library)
                .arg(&source))?;
            Ok(())
        })?;
        Ok(home.join("wall.so"))
    });
    or_skip("a clock that can be set", library).map(PathBuf::as_path)
}

/// A clock, and how often it was set.
pub struct SetClock {
    library: &'static Path,
    path: PathBuf,
    file: File,
    steps: usize,
    _home: TempDir,
}

impl SetClock {
    /// None where there is no such clock.
    pub fn new() -> Option<SetClock> {
        let library = library()?;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("clock");
        fs::write(&path, 0_i64.to_ne_bytes()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        Some(SetClock { library, path, file, steps: 0, _home: home })
    }

    /// What a process is started with to have it.
    pub fn environment(&self) -> [(&str, &Path); 2] {
        [("LD_PRELOAD", self.library), ("SEMEL_TEST_CLOCK", &self.path)]
    }

    /// Sets it so far ahead of the true one.
    pub fn set(&mut self, ahead_s: i64) {
        self.file.write_all_at(&ahead_s.to_ne_bytes(), 0).unwrap();
        self.steps += 1;
    }

    /// Waits until a broker has noticed every step there was.
    pub fn is_noticed_by(&self, broker: &Broker) {
        broker.wait_for_log("that the clock has stepped", |log| log.matches(STEPPED).count() >= self.steps);
    }
}
