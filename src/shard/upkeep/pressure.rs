//! Watches the free space of the disk. Below the reserve, what takes more space is refused; it recovers by itself.

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::Now;
use crate::log::{Disk, Space};
use crate::store::{ReadView, StoreError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether the reserve has been reached. All clones say the same.
#[derive(Clone, Debug, Default)]
pub(in crate::shard) struct Pressure(Arc<AtomicBool>);

impl Pressure {
    pub(in crate::shard) fn is_short(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(in crate::shard) struct WatchSpace {
    ground: Ground,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl WatchSpace {
    pub(in crate::shard) fn new(ground: Ground, disk: Arc<dyn Disk>, dir: PathBuf) -> WatchSpace {
        WatchSpace { ground, disk, dir }
    }

    fn enter(&self, free: u64, reserve: u64) {
        let parts = self.ground.parts();
        tracing::error!(
            dir = %self.dir.display(),
            free,
            reserve,
            "the disk is nearly full: nothing is produced and no topic created until there is space; delete topics or records, or make room on the file system"
        );
        if let Err(error) = parts.recycler.release() {
            tracing::warn!(%error, "segment files kept for later use could not be removed");
        }
    }
}

impl Duty for WatchSpace {
    fn name(&self) -> &'static str {
        "watch-space"
    }

    fn period(&self) -> Duration {
        // What is written between two looks comes out of the reserve.
        self.ground.parts().limits.rest * 2
    }

    fn turn(&mut self, _view: &ReadView, _now: Now) -> Result<Turn, StoreError> {
        let store = &self.ground.parts().store;
        store.check()?;
        // When nobody writes any more, nobody else notices that the store is done.
        store.look_for_rewriting();
        self.look();
        Ok(Turn::default())
    }
}

impl WatchSpace {
    /// Looks how much is free, and says so: once before anybody is served, then now and then.
    pub(in crate::shard) fn look(&self) {
        let parts = self.ground.parts();
        let was = parts.pressure.is_short();
        let reserve = parts.limits.reserve_bytes;
        // An eighth more before it counts as enough again, so that it does not go to and fro.
        let wanted = if was { reserve.saturating_add(reserve / 8) } else { reserve };
        let looked = Space::look(&*self.disk, &self.dir, wanted);
        if let Ok(Space::Enough { free } | Space::Reserved { free, .. }) = looked {
            parts.metrics.space.free_bytes.set(free);
            parts.metrics.space.reserve_bytes.set(reserve);
        }
        match looked {
            Ok(Space::Enough { free }) if was => {
                parts.pressure.0.store(false, Ordering::Relaxed);
                tracing::info!(free, "there is space on the disk again: producing goes on");
            }
            Ok(Space::Reserved { free, .. }) if !was => {
                parts.pressure.0.store(true, Ordering::Relaxed);
                self.enter(free, reserve);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the free space of the disk is not known"),
        }
        parts.metrics.space.short.set(u64::from(parts.pressure.is_short()));
    }
}
