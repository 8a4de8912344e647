//! Opens a log: reads what the rows do not have yet, settles the end, and hands over what goes on from there
//! (`spec/log-format.md`, "Recovery").

use super::ahead::{Ahead, Preparation};
use super::block::PlacedBlock;
use super::corruption::{Evidence, RecoverError};
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{FILE_HEADER_LENGTH, FileHeader, Identity};
use super::mark::{self, MarkRead};
use super::options::LogOptions;
use super::place::{At, Checkpoint, Cursor, SegmentNumber};
use super::reader::Reader;
use super::scan::Segments;
use super::segment::{Prepared, Supply, segment_path, unfinished};
use super::survey::{HeaderState, Survey};
use super::walk::Walk;
use super::writer::{Writer, WriterStart};
use crate::types::{BlockNumber, ServedTime};
use std::path::PathBuf;
use std::sync::Arc;

/// A log that is ready to go on.
#[derive(Debug)]
pub struct Log {
    /// Says where blocks go; for the thread that decides.
    pub cursor: Cursor,
    /// Writes them; for the thread that writes.
    pub writer: Writer,
    /// Reads payloads; for everybody.
    pub reader: Arc<Reader>,
    /// The last block there is; it is durable.
    pub last: BlockNumber,
    /// Served time of that block.
    pub served_time: ServedTime,
    /// How the log was left.
    pub left: Left,
    /// The segment files below that of the checkpoint, ascending: what no row points to can be freed.
    pub segments_below: Vec<SegmentNumber>,
    /// The files of moved frames.
    pub segments_moved: Vec<SegmentNumber>,
    /// The log's files, for who keeps them in order.
    pub segments: Segments,
}

/// How the last run left the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There was none.
    New,
    /// It was stopped in order.
    Stopped,
    /// The process was killed, or the power failed.
    Crashed,
}

/// A log that is being read back. Hand each block to the rows, then take the log.
#[derive(Debug)]
pub struct Recovery {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    applied: Checkpoint,
    below: Vec<SegmentNumber>,
    moved: Vec<SegmentNumber>,
    spares: Vec<u64>,
    leftovers: Vec<PathBuf>,
    mark: MarkRead,
    walk: Walk,
    served_time: ServedTime,
    state: State,
}

#[derive(Debug)]
enum State {
    /// One block is held back, because the last one may have to be written again before anybody may rely on it.
    Reading { held: Option<PlacedBlock> },
    /// The end is settled.
    Settled(End),
    /// Something went wrong.
    Failed,
}

#[derive(Debug)]
struct End {
    current: Prepared,
    end: At,
    length: u32,
    supply: Supply,
    identity: Identity,
    left: Left,
}

/// Begins to open the log in `options.dir`. `applied` is how far the rows are, as the store has it; a new store has
/// [`Checkpoint::START`]. Holding the data directory's lock is the caller's part.
pub fn recover(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    applied: Checkpoint,
) -> Result<Recovery, RecoverError> {
    options.check()?;
    let Survey { identity, below, moved, started, unused, spares, leftovers, mark } =
        Survey::take(&*disk, &options, applied)?;
    let walk = Walk {
        dir: options.dir.clone(),
        shard: options.shard,
        identity,
        started: started.into(),
        unused: unused.into(),
        at: applied.at,
        expected: applied.block.max(BlockNumber(1)),
    };
    let state = State::Reading { held: None };
    let served_time = ServedTime::default();
    let mut recovery =
        Recovery { disk, options, applied, below, moved, spares, leftovers, mark, walk, served_time, state };
    if applied.block > BlockNumber::ZERO {
        recovery.check_applied()?;
    }
    Ok(recovery)
}

impl Recovery {
    /// The next block above what is applied, or `None` at the end. The places in it are those that hold from now on.
    pub fn next_block(&mut self) -> Result<Option<PlacedBlock>, RecoverError> {
        loop {
            let State::Reading { held } = &mut self.state else { return Ok(None) };
            let held = held.take();
            let next = self.walk.next().inspect_err(|_| self.state = State::Failed)?;
            match (held, next) {
                (held, Some(next)) => {
                    self.served_time = next.block.header().served_time;
                    self.state = State::Reading { held: Some(next) };
                    if held.is_some() {
                        return Ok(held);
                    }
                }
                (held, None) => return self.settle(held).inspect_err(|_| self.state = State::Failed),
            }
        }
    }

    /// The log, ready to go on. Reads what has not been read.
    pub fn into_log(mut self) -> Result<Log, RecoverError> {
        while self.next_block()?.is_some() {}
        let State::Settled(End { current, end, length, supply, identity, left }) = self.state else {
            return Err(self.walk.corruption(Evidence::Missing).into());
        };
        let Recovery { disk, options, walk, served_time, below, moved, .. } = self;
        let LogOptions { dir, segment_length, recent_bytes_max, open_files_max, preparation, .. } = options;
        let last = BlockNumber(walk.expected.0 - 1);
        let reader = Reader::new(Arc::clone(&disk), dir.clone(), identity, recent_bytes_max, open_files_max);
        let segments = Segments::new(Arc::clone(&disk), dir.clone(), identity);
        let ahead = Ahead::new(preparation, supply).map_err(RecoverError::Thread)?;
        let start = WriterStart { disk, dir, identity, segment_length, current, last, end, ahead };
        Ok(Log {
            cursor: Cursor::new(end, length, segment_length),
            writer: Writer::new(start),
            reader: Arc::new(reader),
            last,
            served_time,
            left,
            segments_below: below,
            segments_moved: moved,
            segments,
        })
    }

    /// The last applied block must be where the store says.
    fn check_applied(&mut self) -> Result<(), RecoverError> {
        let applied = self.applied;
        let damage = self.walk.corruption(Evidence::Applied { applied: applied.block });
        match self.walk.next()? {
            Some(found) if found.at == applied.at => {
                self.served_time = found.block.header().served_time;
                Ok(())
            }
            _ => Err(damage.into()),
        }
    }

    /// The walk has come to an end; `last` is the last block, unless that is applied. Finds out whether the end may be
    /// believed, and makes it certain. Until that is known nothing on disk is changed.
    fn settle(&mut self, last: Option<PlacedBlock>) -> Result<Option<PlacedBlock>, RecoverError> {
        let left = self.judge_end()?;
        for path in std::mem::take(&mut self.leftovers) {
            self.disk.remove(&path).tried("remove", &path)?;
        }
        let LogOptions { dir, segment_length, spares_max, .. } = &self.options;
        let mut supply = Supply::new(
            Arc::clone(&self.disk),
            dir.clone(),
            *segment_length,
            *spares_max,
            std::mem::take(&mut self.spares),
        );
        supply.trim()?;
        let identity =
            self.walk.identity.unwrap_or(Identity { log: self.options.id_if_new, shard: self.options.shard });
        let last = match last {
            Some(last) if left == Left::Crashed && self.may_be_volatile(&last) => Some(self.rewrite(last)?),
            other => other,
        };
        let (current, length) = self.current(&mut supply)?;
        // The highest first: a crash in between leaves no gap.
        while let Some(file) = self.walk.unused.pop_back() {
            if file.number > current.segment {
                supply.recycle(file.number, 0)?;
            }
        }
        if self.mark != MarkRead::Absent {
            mark::remove(&*self.disk, &self.options.dir)?;
        }
        self.state = State::Settled(End { current, end: self.walk.at, length, supply, identity, left });
        Ok(last)
    }

    /// Says how the log was left, or that the end is not where it should be.
    fn judge_end(&self) -> Result<Left, RecoverError> {
        let lost_header = self.walk.started.front().filter(|current| current.header == HeaderState::Lost);
        if let MarkRead::Stopped(stop) = &self.mark {
            let stopped = stop.block;
            if stopped >= self.walk.expected {
                return Err(self.walk.corruption(Evidence::Stopped { stopped }).into());
            }
            if stopped.next() == self.walk.expected {
                if lost_header.is_some() {
                    return Err(self.walk.corruption(Evidence::FileHeader).into());
                }
                self.walk.check_length()?;
                return Ok(Left::Stopped);
            }
        }
        self.walk.check_length()?;
        self.walk.check_end()?;
        Ok(if self.walk.started.is_empty() { Left::New } else { Left::Crashed })
    }

    /// Whether `last`, the last block, may be in the page cache only: nothing says that it is durable, and a sync that
    /// failed leaves pages that can be read but are on no disk. A segment that begins behind it does say so, and a
    /// snapshot of the rows that has it.
    fn may_be_volatile(&self, last: &PlacedBlock) -> bool {
        self.walk.at.segment == last.at.segment && last.block.number() > self.options.durable
    }

    /// Writes the last block again, as the first of a new file, so that it is durable before anybody relies on it. What
    /// the old file holds from that block on does not count any more.
    fn rewrite(&mut self, last: PlacedBlock) -> Result<PlacedBlock, DiskError> {
        let block = last.block;
        let segment = if last.at.is_first() { last.at.segment } else { last.at.segment.next() };
        let at = At::start_of(segment);
        let used = FILE_HEADER_LENGTH.saturating_add(block.length());
        let length = self.options.segment_length.max(used);
        let header =
            FileHeader { identity: block.header().identity, segment, first_block: block.number(), length };
        let dir = &self.options.dir;
        let path = segment_path(dir, segment);
        let new = unfinished(&path);
        let file = self.disk.create(&new, u64::from(length)).tried("create", &new)?;
        file.write_at(0, &header.encode()).tried("write", &new)?;
        file.write_at(u64::from(at.position), block.bytes()).tried("write", &new)?;
        file.sync().tried("sync", &new)?;
        self.disk.rename(&new, &path).tried("rename", &new)?;
        self.disk.sync_dir(dir).tried("sync the directory", dir)?;
        if let Some(old) = self.walk.started.pop_front()
            && old.file.number != segment
        {
            // Gives back the space; the file holds nothing more that counts.
            old.file.file.resize(u64::from(last.at.position)).tried("truncate", &old.file.path)?;
        }
        let file: Arc<dyn DiskFile> = file.into();
        let file = super::survey::SegmentFile { number: segment, path, file, length };
        let header = HeaderState::Written { length };
        self.walk.started.push_front(super::survey::Started { file, first_block: block.number(), header });
        self.walk.at = At { segment, position: used };
        Ok(PlacedBlock { block, at })
    }

    /// The file that the next block goes to, and how far blocks may reach in it.
    fn current(&mut self, supply: &mut Supply) -> Result<(Prepared, u32), DiskError> {
        let segment_length = self.options.segment_length;
        let Some(current) = self.walk.started.front() else {
            let zeroes = self.options.preparation == Preparation::Background;
            return Ok((supply.prepare(SegmentNumber::FIRST, zeroes)?, segment_length));
        };
        let super::survey::SegmentFile { number, path, file, length } = &current.file;
        let opened = self.disk.open(path).tried("open", path)?;
        let reach = match current.header {
            // Its header will be written again, with its first block.
            _ if self.walk.at.is_first() => {
                if *length < segment_length {
                    file.resize(u64::from(segment_length)).tried("set space aside for", path)?;
                }
                segment_length
            }
            HeaderState::Written { length: reach } => reach.min(*length),
            HeaderState::Lost => *length,
        };
        Ok((Prepared { segment: *number, path: path.clone(), file: opened }, reach))
    }
}
