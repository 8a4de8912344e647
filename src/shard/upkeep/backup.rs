//! Takes backups when somebody has asked for one (`spec/backup.md`). What belongs to it is found here, between two turns of
//! the other duties, so that nothing is freed or moved meanwhile; then they pause, and a thread of its own does the work.

use super::ground::{Ground, Pause};
use super::{Duty, Turn};
use crate::core::Now;
use crate::shard::backup::{AsOf, BackupError, Backups, Plan, Source, Work, take};
use crate::store::{ReadView, StoreError};
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// See the module.
pub(in crate::shard) struct TakeBackups {
    ground: Ground,
    backups: Backups,
    view: Arc<ArcSwap<ReadView>>,
    running: Option<(Work, JoinHandle<()>)>,
}

impl TakeBackups {
    /// `view` is what readers take.
    pub(in crate::shard) fn new(
        ground: Ground,
        backups: Backups,
        view: Arc<ArcSwap<ReadView>>,
    ) -> TakeBackups {
        TakeBackups { ground, backups, view, running: None }
    }

    /// What belongs to a backup taken now: the newest snapshot; the log from there on; and what older files hold that is
    /// live. The order matters: what is applied is published, so the view has everything because of which a file could
    /// have been freed.
    fn plan(&self, work: Work, now: Now) -> Result<Plan, BackupError> {
        let parts = self.ground.parts();
        let written = self.ground.files()?;
        let tail = self.ground.tail();
        let view = self.view.load_full();
        let uses = parts.store.segment_uses();
        let snapshot = self.ground.snapshot();
        let needed = snapshot.as_ref().map(|snapshot| snapshot.header.applied.checkpoint.at.segment);
        let of_log = written.into_iter().filter(|file| {
            let replayed = needed.is_none_or(|needed| *file >= needed);
            !file.is_moved() && (replayed || uses.contains_key(file))
        });
        // Index entries may point into a file of moved frames before the duties know it.
        let moved = parts.segments.list()?.into_iter().filter(|file| file.is_moved());
        let moved = moved.filter(|file| uses.contains_key(file));
        let mut complete: Vec<Source> =
            of_log.map(|file| source(&parts.segments.path(file), "log", true)).collect();
        complete.extend(moved.map(|file| source(&parts.segments.path(file), "log", false)));
        complete.extend(snapshot.map(|snapshot| source(&snapshot.path, "snapshots", false)));
        let segments = parts.segments.clone();
        Ok(Plan {
            work,
            as_of: AsOf::of(&view)?,
            segments,
            complete,
            tail,
            taken: now.wall,
            served_ms: now.served.0,
        })
    }

    fn begin(&mut self, work: Work, now: Now) {
        let name = work.name.clone();
        let started = self.plan(work.clone(), now).and_then(|plan| {
            let (backups, pause) = (self.backups.clone(), self.ground.pause());
            let run = move || run(&plan, &backups, pause);
            let thread = std::thread::Builder::new().name("semel-backup".into()).spawn(run);
            thread.map_err(|source| BackupError::Io {
                action: "start a thread for",
                path: work.root.clone(),
                source,
            })
        });
        match started {
            Ok(thread) => self.running = Some((work, thread)),
            Err(error) => {
                tracing::error!(name, %error, "a backup could not be taken");
                self.backups.ended(&name, Err(error));
            }
        }
    }
}

fn source(path: &Path, part: &str, unique: bool) -> Source {
    let name = format!("{part}/{}", path.file_name().unwrap_or_default().to_string_lossy());
    Source { path: path.to_path_buf(), name, unique }
}

fn run(plan: &Plan, backups: &Backups, pause: Pause) {
    let (name, root, block) = (&plan.work.name, plan.work.root.display(), plan.as_of.last_block);
    tracing::info!(name, %root, %block, files = plan.complete.len(), "a backup is being taken");
    let result = take(plan);
    drop(pause);
    match &result {
        Ok(()) => tracing::info!(name, "the backup is complete"),
        Err(error) => tracing::error!(name, %error, "the backup could not be taken"),
    }
    backups.ended(name, result);
}

impl Duty for TakeBackups {
    fn name(&self) -> &'static str {
        "take-backups"
    }

    fn period(&self) -> Duration {
        self.ground.parts().limits.rest
    }

    fn turn(&mut self, _view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        if let Some((work, thread)) = self.running.take_if(|(_, thread)| thread.is_finished())
            && thread.join().is_err()
        {
            self.backups.ended(&work.name, Err(BackupError::GivenUp("its thread has panicked")));
        }
        match &self.running {
            // It takes space, and keeps others from giving any back.
            Some((work, _)) if self.ground.parts().pressure.is_short() => work.give_up(),
            Some(_) => {}
            None => {
                if let Some(work) = self.backups.begin() {
                    self.begin(work, now);
                }
            }
        }
        Ok(Turn::default())
    }
}

impl Drop for TakeBackups {
    fn drop(&mut self) {
        if let Some((work, thread)) = self.running.take() {
            work.give_up();
            let _ = thread.join();
        }
    }
}
