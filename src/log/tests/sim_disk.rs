//! A disk that keeps only what it must: after a power cut each page that was not synced is old, new or torn, each name
//! that was not synced is there or not, as a [`Choose`] has it. It can fail or lose power at any operation.

use super::super::disk::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

const PAGE: usize = super::PAGE as usize;
/// What a disk writes in one step at least.
const SECTOR: usize = 512;

/// Picks one of some possibilities: a number below `options`.
pub(crate) trait Choose {
    fn choose(&mut self, options: u64) -> u64;
}

/// Choices from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Sampled(pub(crate) u64);

impl Choose for Sampled {
    fn choose(&mut self, options: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % options
    }
}

/// What goes wrong, and at which operation (counted from the last [`SimDisk::plan`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This operation and all later ones fail, until [`SimDisk::power_cut`].
    PowerCut { operation: u64 },
    /// This operation fails. A failed sync loses pages, which can still be read until the power is cut.
    Error { operation: u64 },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Sim>>);

#[derive(Clone, Debug, Default)]
struct Sim {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes since the last sync of the directory, in order.
    name_changes: Vec<NameChange>,
    operations: u64,
    fault: Option<Fault>,
    /// Whether files can get no more space.
    full: bool,
    /// Which read from here gives a flipped bit.
    flip: Option<u64>,
    /// Bytes of each file that cannot be read.
    unreadable: Range<u64>,
    /// Told when a planned fault has come.
    came: Option<Arc<AtomicBool>>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a read sees.
    cached: Vec<u8>,
    /// What a power cut leaves, before the pages in `dirty` have been decided.
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

impl SimDisk {
    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap()
    }

    /// A disk of its own in the same state.
    pub(crate) fn fork(&self) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(self.sim().clone())))
    }

    /// Counts operations from here, and makes one of them go wrong.
    pub(crate) fn plan(&self, fault: Option<Fault>) {
        let mut sim = self.sim();
        sim.operations = 0;
        sim.fault = fault;
    }

    /// The same; and `came` becomes true at that moment.
    pub(crate) fn plan_and_tell(&self, fault: Fault, came: &Arc<AtomicBool>) {
        self.plan(Some(fault));
        self.sim().came = Some(Arc::clone(came));
    }

    /// Whether files can get no more space from now on.
    pub(crate) fn set_full(&self, full: bool) {
        self.sim().full = full;
    }

    /// After so many reads, one gives a flipped bit.
    pub(crate) fn flip_read(&self, after: u64) {
        self.sim().flip = Some(after);
    }

    /// From now on no read goes over the page of this place of any file.
    pub(crate) fn spoil(&self, position: u64) {
        let page = PAGE as u64;
        let start = position / page * page;
        self.sim().unreadable = start..start + page;
    }

    /// Whether the flipped bit is still to come.
    pub(crate) fn has_flip(&self) -> bool {
        self.sim().flip.is_some()
    }

    /// The process dies, and the system goes on: what was written can be read.
    pub(crate) fn process_dies(&self) {
        let mut sim = self.sim();
        sim.operations = 0;
        (sim.fault, sim.came, sim.flip) = (None, None, None);
    }

    /// Operations since the last plan.
    pub(crate) fn operations(&self) -> u64 {
        self.sim().operations
    }

    /// Cuts the power and restores it.
    pub(crate) fn power_cut(&self, choose: &mut dyn Choose) {
        self.process_dies();
        let mut sim = self.sim();
        for inode in &mut sim.inodes {
            inode.power_cut(choose);
        }
        for change in std::mem::take(&mut sim.name_changes) {
            if choose.choose(2) == 1 {
                change.apply(&mut sim.durable_names);
            }
        }
        sim.names = sim.durable_names.clone();
    }

    /// The content of a file.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let sim = self.sim();
        sim.inodes[sim.names[path]].cached.clone()
    }

    /// Changes a file behind the log's back, for good.
    pub(crate) fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut sim = self.sim();
        let inode = sim.names[path];
        sim.inodes[inode] = Inode { cached: content.clone(), durable: content, dirty: BTreeSet::new() };
    }
}

impl Inode {
    fn power_cut(&mut self, choose: &mut dyn Choose) {
        let length_changed = self.cached.len() != self.durable.len();
        if length_changed && choose.choose(2) == 1 {
            self.durable.resize(self.cached.len(), 0);
        }
        for page in std::mem::take(&mut self.dirty) {
            let range = page * PAGE..((page + 1) * PAGE).min(self.cached.len()).min(self.durable.len());
            if range.is_empty() {
                continue;
            }
            let torn = match choose.choose(3) {
                0 => continue,
                1 => range,
                // The page is torn: new up to a sector, old from there, or the other way round.
                _ => {
                    let at = range.start + usize::try_from(1 + choose.choose(7)).unwrap() * SECTOR;
                    let at = at.min(range.end);
                    if choose.choose(2) == 0 { range.start..at } else { at..range.end }
                }
            };
            self.durable[torn.clone()].copy_from_slice(&self.cached[torn]);
        }
        self.cached = self.durable.clone();
    }

    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            let range = page * PAGE..((page + 1) * PAGE).min(self.cached.len());
            if !range.is_empty() {
                self.durable[range.clone()].copy_from_slice(&self.cached[range]);
            }
        }
    }

    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if end > self.cached.len() {
            self.cached.resize(end, 0);
        }
        self.cached[position..end].copy_from_slice(bytes);
        self.dirty.extend(position / PAGE..end.div_ceil(PAGE));
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Link(path, inode) => {
                names.insert(path, inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
            NameChange::Unlink(path) => {
                names.remove(&path);
            }
        }
    }
}

impl Sim {
    /// Counts an operation; an error if it is to go wrong.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        let error = match self.fault {
            Some(Fault::PowerCut { operation }) if self.operations >= operation => "the power is cut",
            Some(Fault::Error { operation }) if self.operations == operation => "the disk fails",
            _ => return Ok(()),
        };
        self.came.iter().for_each(|came| came.store(true, Ordering::Relaxed));
        Err(io::Error::other(error))
    }

    /// More space for a file.
    fn grow(&self) -> io::Result<()> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// What becomes of what was read.
    fn flip(&mut self, read: &mut [u8]) {
        match &mut self.flip {
            Some(0) if !read.is_empty() => {
                let at = read.len() / 2;
                read[at] ^= 1;
                self.flip = None;
            }
            Some(after) if *after > 0 => *after -= 1,
            _ => {}
        }
    }

    fn rename_now(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut sim = self.sim();
        sim.step()?;
        if length > 0 {
            sim.grow()?;
        }
        let cached = vec![0; usize::try_from(length).unwrap()];
        sim.inodes.push(Inode { cached, ..Inode::default() });
        let inode = sim.inodes.len() - 1;
        sim.rename_now(NameChange::Link(path.to_path_buf(), inode));
        drop(sim);
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.sim().find(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.find(from)?;
        sim.step()?;
        sim.rename_now(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.find(path)?;
        sim.step()?;
        sim.rename_now(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let sim = self.sim();
        let inside = sim.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.step()?;
        for change in std::mem::take(&mut sim.name_changes) {
            change.apply(&mut sim.durable_names);
        }
        Ok(())
    }

    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(if self.sim().full { 0 } else { u64::MAX })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sim = self.disk.sim();
        let position = usize::try_from(position).unwrap();
        let grows = position + bytes.len() > sim.inodes[self.inode].cached.len();
        if grows {
            sim.grow()?;
        }
        let step = sim.step();
        // A write that fails has got half way.
        let done = if step.is_ok() { bytes.len() } else { bytes.len() / 2 };
        sim.inodes[self.inode].write(position, &bytes[..done]);
        step
    }

    fn sync(&self) -> io::Result<()> {
        let mut sim = self.disk.sim();
        let step = sim.step();
        let lost = matches!(sim.fault, Some(Fault::Error { .. }));
        let inode = &mut sim.inodes[self.inode];
        match &step {
            Ok(()) => inode.sync(),
            // Clean in the cache, and on no disk.
            Err(_) if lost => inode.dirty.clear(),
            // Under way when the power is cut: each page may have made it.
            Err(_) => {}
        }
        step
    }

    fn read_at(&self, position: u64, length: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut sim = self.disk.sim();
        if position < sim.unreadable.end && sim.unreadable.start < position + length as u64 {
            return Err(io::Error::other("the disk cannot read there"));
        }
        let cached = &sim.inodes[self.inode].cached;
        let start = usize::try_from(position).unwrap().min(cached.len());
        let read = &cached[start..(start + length).min(cached.len())];
        let (before, count) = (into.len(), read.len());
        into.extend_from_slice(read);
        sim.flip(&mut into[before..]);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.sim().inodes[self.inode].cached.len() as u64)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let mut sim = self.disk.sim();
        let length = usize::try_from(length).unwrap();
        if length > sim.inodes[self.inode].cached.len() {
            sim.grow()?;
        }
        sim.step()?;
        let inode = &mut sim.inodes[self.inode];
        let cut = length < inode.cached.len();
        inode.cached.resize(length, 0);
        if cut {
            // What is grown back reads as zero, whatever was there.
            inode.dirty.extend(length / PAGE..inode.durable.len().div_ceil(PAGE));
        }
        Ok(())
    }
}
