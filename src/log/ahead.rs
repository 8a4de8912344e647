//! Gets the next segment file ready while the current one is being filled, so that rolling over costs no stall.

use super::disk::DiskError;
use super::place::SegmentNumber;
use super::reader::Retired;
use super::segment::{Prepared, Supply};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

/// Who gets segment files ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preparation {
    /// A thread of its own, which has time to write new files full of zeroes.
    #[default]
    Background,
    /// The writer, when it needs one: deterministic, for simulation.
    Inline,
}

/// Jobs that may wait for the preparing thread. One is the next segment; the others are freed segments, which come
/// from the cleaner one at a time and rarely. A full queue makes the one who frees wait.
const JOBS_MAX: usize = 64;

enum Job {
    /// Gets a segment ready, written full of zeroes or not.
    Prepare(SegmentNumber, bool),
    /// Takes a segment back, and keeps so many spares if the options say no more.
    Recycle(SegmentNumber, usize),
    Release,
}

/// Takes freed segments back while the writer goes on. The writer's end waits until there is none of these any more.
#[derive(Clone)]
pub struct Recycler(Take);

#[derive(Clone)]
enum Take {
    Inline(Arc<Mutex<Supply>>),
    /// None once the thread is being ended.
    Background(Option<SyncSender<Job>>),
}

impl fmt::Debug for Recycler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recycler")
    }
}

impl Recycler {
    /// Takes a segment out of the log and keeps its file for later use, or removes it if there are `spares` of those
    /// already, and as many as the options say. All of its blocks must lie below the
    /// last completed checkpoint, nothing may point into it any more, and the reader must have let go of it
    /// ([`super::Reader::retire`]), which the token proves.
    #[expect(clippy::needless_pass_by_value, reason = "the token is spent")]
    pub fn recycle(&self, retired: Retired, spares: usize) -> Result<(), DiskError> {
        self.job(Job::Recycle(retired.segment(), spares))
    }

    /// Removes the files that are kept for later use.
    pub fn release(&self) -> Result<(), DiskError> {
        self.job(Job::Release)
    }

    fn job(&self, job: Job) -> Result<(), DiskError> {
        match &self.0 {
            Take::Inline(supply) => take_back(&mut lock(supply), &job),
            Take::Background(jobs) => {
                // If the thread is gone the log has failed, and the next start finds the file.
                let _gone = jobs.as_ref().map(|jobs| jobs.send(job));
                Ok(())
            }
        }
    }
}

fn take_back(supply: &mut Supply, job: &Job) -> Result<(), DiskError> {
    match job {
        Job::Recycle(segment, _) if segment.is_moved() => supply.remove(*segment),
        Job::Recycle(segment, spares) => supply.recycle(*segment, *spares),
        Job::Release => supply.release(),
        Job::Prepare(..) => Ok(()),
    }
}

/// A panic elsewhere leaves the supply whole: it changes after what it speaks of.
fn lock(supply: &Mutex<Supply>) -> MutexGuard<'_, Supply> {
    supply.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The supply of segment files, inline or behind a thread.
pub(super) enum Ahead {
    Inline(Arc<Mutex<Supply>>),
    Background(Background),
}

pub(super) struct Background {
    /// `None` only while it is being dropped.
    jobs: Option<SyncSender<Job>>,
    ready: Receiver<Result<Prepared, DiskError>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ahead::Inline(_) => "Ahead::Inline",
            Ahead::Background(_) => "Ahead::Background",
        })
    }
}

impl Ahead {
    pub(super) fn new(preparation: Preparation, supply: Supply) -> io::Result<Ahead> {
        Ok(match preparation {
            Preparation::Inline => Ahead::Inline(Arc::new(Mutex::new(supply))),
            Preparation::Background => Ahead::Background(Background::start(supply)?),
        })
    }

    /// Asks for a segment that will be taken later, and if it is a new file, whether to write it full of zeroes.
    pub(super) fn ask(&self, segment: SegmentNumber, zeroes: bool) {
        if let Ahead::Background(background) = self {
            background.send(Job::Prepare(segment, zeroes));
        }
    }

    /// The segment that was asked for; waits if it is not ready. `None` if nobody can make one any more.
    pub(super) fn take(&mut self, segment: SegmentNumber) -> Option<Result<Prepared, DiskError>> {
        match self {
            Ahead::Inline(supply) => Some(lock(supply).prepare(segment, false)),
            Ahead::Background(background) => {
                match background.ready.recv().ok()? {
                    // Space may have come back since: this time the answer counts, and it is waited for.
                    Err(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                        background.send(Job::Prepare(segment, false));
                        background.ready.recv().ok()
                    }
                    other => Some(other),
                }
            }
        }
    }

    /// What takes freed segments back.
    pub(super) fn recycler(&self) -> Recycler {
        Recycler(match self {
            Ahead::Inline(supply) => Take::Inline(Arc::clone(supply)),
            Ahead::Background(background) => Take::Background(background.jobs.clone()),
        })
    }
}

impl Background {
    fn start(supply: Supply) -> io::Result<Background> {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        // One segment is asked for at a time, so one answer is all that ever waits; a second slot for a retry.
        let (answers, ready) = sync_channel(2);
        let thread = thread::Builder::new()
            .name("log-prepare".to_owned())
            .spawn(move || Self::run(supply, &queue, &answers))?;
        Ok(Background { jobs: Some(jobs), ready, thread: Some(thread) })
    }

    fn run(mut supply: Supply, queue: &Receiver<Job>, answers: &SyncSender<Result<Prepared, DiskError>>) {
        for job in queue {
            match job {
                Job::Prepare(segment, zeroes) => {
                    if answers.send(supply.prepare(segment, zeroes)).is_err() {
                        return;
                    }
                }
                // The segment is lost to the log already, and costs no more than its space until the next start.
                job => {
                    if let Err(error) = take_back(&mut supply, &job) {
                        tracing::warn!(%error, "a freed log segment could not be taken back");
                    }
                }
            }
        }
    }

    /// A thread that has gone shows when its answer is waited for.
    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _gone = jobs.send(job);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
