//! Gets the next segment file ready while the current one is being filled, so that rolling over costs no stall.

use super::disk::DiskError;
use super::place::SegmentNumber;
use super::segment::{Prepared, Supply};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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
    Prepare(SegmentNumber),
    Recycle(SegmentNumber),
}

/// The supply of segment files, inline or behind a thread.
pub(super) enum Ahead {
    Inline(Supply),
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
            Preparation::Inline => Ahead::Inline(supply),
            Preparation::Background => Ahead::Background(Background::start(supply)?),
        })
    }

    /// Asks for a segment that will be taken later.
    pub(super) fn ask(&self, segment: SegmentNumber) {
        if let Ahead::Background(background) = self {
            background.send(Job::Prepare(segment));
        }
    }

    /// The segment that was asked for; waits if it is not ready. `None` if nobody can make one any more.
    pub(super) fn take(&mut self, segment: SegmentNumber) -> Option<Result<Prepared, DiskError>> {
        match self {
            Ahead::Inline(supply) => Some(supply.prepare(segment)),
            Ahead::Background(background) => {
                match background.ready.recv().ok()? {
                    // Space may have come back since: this time the answer counts.
                    Err(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                        background.send(Job::Prepare(segment));
                        background.ready.recv().ok()
                    }
                    other => Some(other),
                }
            }
        }
    }

    /// Takes a freed segment back.
    pub(super) fn recycle(&mut self, segment: SegmentNumber) -> Result<(), DiskError> {
        match self {
            Ahead::Inline(supply) => supply.recycle(segment),
            Ahead::Background(background) => {
                background.send(Job::Recycle(segment));
                Ok(())
            }
        }
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
                Job::Prepare(segment) => {
                    if answers.send(supply.prepare(segment)).is_err() {
                        return;
                    }
                }
                Job::Recycle(segment) => {
                    // The segment is lost to the log already, and costs no more than its space until the next start.
                    if let Err(error) = supply.recycle(segment) {
                        tracing::warn!(%segment, %error, "a freed log segment could not be taken back");
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
