//! Who asks for a backup, and where it stands: what the broker's requests and the upkeep have in common.

use super::error::BackupError;
use super::manifest::Manifest;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest name of a backup, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Why there is no backup of that name.
#[derive(Debug, thiserror::Error)]
pub enum BackupRefused {
    /// The broker has no place for them.
    #[error("this broker takes no backups: set backup-dir to a directory on the file system of its data")]
    NoDirectory,
    /// It is no name.
    #[error(
        "a backup's name is made of up to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.', and begins with no '.'"
    )]
    Name,
    /// One at a time.
    #[error("the backup {0} is being taken: one at a time")]
    Busy(String),
    /// It could not be taken.
    #[error("the backup could not be taken: {0}")]
    Failed(String),
    /// There is one, and it cannot be read.
    #[error(transparent)]
    Damaged(#[from] BackupError),
}

/// Where a backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupStanding {
    /// It is being taken: bytes done, and in all.
    Running {
        /// Bytes linked and copied so far.
        done: u64,
        /// Bytes in all, about.
        total: u64,
    },
    /// It is complete.
    Complete {
        /// Where it is.
        path: PathBuf,
        /// What belongs to it.
        manifest: Box<Manifest>,
    },
}

/// The backups of a shard. Cheap to clone: all clones are the same.
#[derive(Clone, Debug)]
pub struct Backups {
    dir: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Somebody has asked for it; or it is being taken.
    Taking {
        work: Work,
        begun: bool,
    },
    Failed {
        name: String,
        reason: String,
    },
}

/// A backup to be taken, and how far that is.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Work {
    pub(in crate::shard) name: String,
    /// The directory of all backups.
    pub(in crate::shard) root: PathBuf,
    pub(super) done: Arc<AtomicU64>,
    pub(super) total: Arc<AtomicU64>,
    given_up: Arc<AtomicBool>,
}

impl Work {
    pub(super) fn goes_on(&self) -> bool {
        !self.given_up.load(Ordering::Relaxed)
    }

    /// To be called when the shard stops.
    pub(in crate::shard) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl Backups {
    pub(in crate::shard) fn new(dir: Option<PathBuf>) -> Backups {
        Backups { dir, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step, so a panic leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a backup: takes it if there is none of that name, and says where it stands. So who has lost an answer asks
    /// again. Of one that failed that is told once; then it is taken anew.
    pub fn ask(&self, name: &str) -> Result<BackupStanding, BackupRefused> {
        let Some(root) = &self.dir else { return Err(BackupRefused::NoDirectory) };
        if !is_name(name) {
            return Err(BackupRefused::Name);
        }
        let mut state = self.state();
        match &*state {
            State::Taking { work, .. } if work.name == name => {
                let (done, total) = (work.done.load(Ordering::Relaxed), work.total.load(Ordering::Relaxed));
                return Ok(BackupStanding::Running { done, total });
            }
            State::Taking { work, .. } => return Err(BackupRefused::Busy(work.name.clone())),
            State::Failed { name: failed, reason } if failed == name => {
                let reason = reason.clone();
                *state = State::Idle;
                return Err(BackupRefused::Failed(reason));
            }
            State::Failed { .. } | State::Idle => {}
        }
        let path = root.join(name);
        if path.exists() {
            let manifest = Box::new(Manifest::open(&path)?);
            return Ok(BackupStanding::Complete { path, manifest });
        }
        let (done, total, given_up) = (Arc::default(), Arc::default(), Arc::default());
        let work = Work { name: name.to_owned(), root: root.clone(), done, total, given_up };
        *state = State::Taking { work, begun: false };
        Ok(BackupStanding::Running { done: 0, total: 0 })
    }

    /// The backup that somebody has asked for and nobody takes yet: the caller takes it, and tells how it ended.
    pub(in crate::shard) fn begin(&self) -> Option<Work> {
        match &mut *self.state() {
            State::Taking { work, begun } if !*begun => {
                *begun = true;
                Some(work.clone())
            }
            _ => None,
        }
    }

    pub(in crate::shard) fn ended(&self, name: &str, result: Result<(), BackupError>) {
        *self.state() = match result {
            Ok(()) => State::Idle,
            Err(error) => State::Failed { name: name.to_owned(), reason: error.to_string() },
        };
    }
}

/// Nothing but a name below the directory of all backups, on any file system, and never that of an unfinished one.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(is_plain)
}

/// What a backup is called until it is complete: no name that anybody can ask for.
pub(super) fn unfinished(root: &Path, name: &str) -> PathBuf {
    root.join(format!("{UNFINISHED}{name}"))
}

/// Names that begin so are of backups that were never completed.
pub(super) const UNFINISHED: &str = ".unfinished-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["a", "2026-11-28T06.00", "A_b-c.1"] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", ".unfinished-a", "a/b", "/a", "a\\b", "a b", "ä", "a\0", &long] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn one_at_a_time_and_a_failure_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let backups = Backups::new(Some(dir.path().to_path_buf()));
        let running = |done, total| Ok(BackupStanding::Running { done, total });
        let ask = |name| backups.ask(name).map_err(|refused| refused.to_string());
        assert_eq!(ask("a"), running(0, 0));
        assert!(ask("b").unwrap_err().contains("the backup a is being taken"));
        let work = backups.begin().unwrap();
        assert!(backups.begin().is_none(), "it is taken once");
        work.done.store(3, Ordering::Relaxed);
        work.total.store(9, Ordering::Relaxed);
        assert_eq!(ask("a"), running(3, 9));
        backups.ended("a", Err(BackupError::GivenUp("of a test")));
        assert!(ask("a").unwrap_err().contains("of a test"));
        assert_eq!(ask("a"), running(0, 0));
        assert!(matches!(Backups::new(None).ask("a"), Err(BackupRefused::NoDirectory)));
    }
}
