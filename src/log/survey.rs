//! What there is on disk before anything of it is believed: the log's directory and the headers of its segments.

use super::corruption::{Corruption, Evidence, RecoverError};
use super::disk::{Disk, DiskError, DiskFile, Tried};
use super::format::{FileHeaderRead, Identity};
use super::look;
use super::mark::{self, MarkRead};
use super::options::{LogOptions, SEGMENT_LENGTH_MIN};
use super::place::{Checkpoint, SegmentNumber};
use super::segment::{FileKind, segment_path};
use crate::types::BlockNumber;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment file that recovery reads.
#[derive(Clone, Debug)]
pub(super) struct SegmentFile {
    pub(super) number: SegmentNumber,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length: u32,
}

/// A segment in use.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) file: SegmentFile,
    pub(super) first_block: BlockNumber,
    pub(super) header: HeaderState,
}

/// How it is known that a segment is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderState {
    /// Its header says so; blocks may reach this far.
    Written { length: u32 },
    /// Its first block says so; the header, which is synced together with that block, is not there.
    Lost,
}

/// The log's directory.
#[derive(Debug)]
pub(super) struct Survey {
    /// Which log; `None` if no file says so.
    pub(super) identity: Option<Identity>,
    /// Segments below the checkpoint: not looked at.
    pub(super) below: Vec<SegmentNumber>,
    /// Files of moved frames: not looked at.
    pub(super) moved: Vec<SegmentNumber>,
    /// Segments in use from that of the checkpoint on, without gaps.
    pub(super) started: Vec<Started>,
    /// Files of later segments without a header of theirs, ascending.
    pub(super) unused: Vec<SegmentFile>,
    pub(super) spares: Vec<u64>,
    pub(super) leftovers: Vec<PathBuf>,
    pub(super) mark: MarkRead,
}

impl Survey {
    /// Looks at the directory. Changes nothing, but makes it if it is missing.
    pub(super) fn take(
        disk: &dyn Disk,
        options: &LogOptions,
        applied: Checkpoint,
    ) -> Result<Survey, RecoverError> {
        let dir = &options.dir;
        disk.create_dir(dir).tried("create the directory", dir)?;
        let mut survey = Survey {
            identity: None,
            below: Vec::new(),
            moved: Vec::new(),
            started: Vec::new(),
            unused: Vec::new(),
            spares: Vec::new(),
            leftovers: Vec::new(),
            mark: MarkRead::Absent,
        };
        let mut numbers = Vec::new();
        let mut marked = false;
        for name in disk.list(dir).tried("list", dir)? {
            match FileKind::of(&name) {
                FileKind::Segment(number) if number < applied.at.segment => survey.below.push(number),
                FileKind::Segment(number) => numbers.push(number),
                FileKind::Moved(number) => survey.moved.push(number),
                FileKind::Spare(number) => survey.spares.push(number),
                FileKind::Leftover => survey.leftovers.push(dir.join(name)),
                FileKind::Mark => marked = true,
                FileKind::Foreign => {}
            }
        }
        survey.below.sort_unstable();
        survey.mark = mark::read(disk, dir, marked)?;
        survey.check_mark(options, applied)?;
        numbers.sort_unstable();
        let mut next = applied.at.segment;
        for number in numbers {
            // Files are made in order, and taken away from below the checkpoint or from the end.
            if number != next {
                return Err(survey.gap(dir, next, applied, Evidence::Missing).into());
            }
            next = next.next();
            survey.classify(SegmentFile::open(disk, dir, number)?, options, applied)?;
        }
        survey.check_beginning(dir, applied)?;
        Ok(survey)
    }

    fn check_mark(&mut self, options: &LogOptions, applied: Checkpoint) -> Result<(), RecoverError> {
        match &self.mark {
            MarkRead::Absent => Ok(()),
            MarkRead::Stopped(stop) if stop.identity.shard == options.shard => {
                self.identity = Some(stop.identity);
                Ok(())
            }
            MarkRead::Stopped(stop) => {
                let path = options.dir.join(super::segment::MARK_NAME);
                let evidence = Evidence::Foreign;
                Err(Corruption { path, position: 0, block: stop.block, evidence }.into())
            }
            MarkRead::Damaged(path) => {
                let (path, block) = (path.clone(), applied.block.next());
                Err(Corruption { path, position: 0, block, evidence: Evidence::Mark }.into())
            }
        }
    }

    fn classify(
        &mut self,
        file: SegmentFile,
        options: &LogOptions,
        applied: Checkpoint,
    ) -> Result<(), RecoverError> {
        let header = match file.header()? {
            FileHeaderRead::Valid(header) => header,
            FileHeaderRead::UnknownVersion(version) => {
                return Err(RecoverError::UnknownVersion { path: file.path, version });
            }
            FileHeaderRead::Invalid => return self.add_unused(file, applied),
        };
        let wrong = |evidence| Corruption {
            path: file.path.clone(),
            position: 0,
            block: header.first_block.max(applied.block.next()),
            evidence,
        };
        let identity = *self.identity.get_or_insert(header.identity);
        if header.identity != identity || identity.shard != options.shard {
            return Err(wrong(Evidence::Foreign).into());
        }
        if header.segment > file.number {
            return Err(wrong(Evidence::FileHeader).into());
        }
        if header.segment < file.number {
            // An earlier life of the file.
            return self.add_unused(file, applied);
        }
        let expected =
            self.started.last().map_or(applied.at.segment, |started: &Started| started.file.number.next());
        if file.number != expected {
            return Err(self.gap(&options.dir, expected, applied, Evidence::FileHeader).into());
        }
        let header_state = HeaderState::Written { length: header.length };
        self.started.push(Started { file, first_block: header.first_block, header: header_state });
        Ok(())
    }

    /// A file gets its length before it gets its name, so a short one has been cut by somebody else, with whatever
    /// blocks it had.
    fn add_unused(&mut self, file: SegmentFile, applied: Checkpoint) -> Result<(), RecoverError> {
        if file.length < SEGMENT_LENGTH_MIN {
            let evidence = Evidence::TooShort { length: file.length, written: SEGMENT_LENGTH_MIN };
            let block = applied.block.next();
            return Err(Corruption { path: file.path, position: file.length, block, evidence }.into());
        }
        self.unused.push(file);
        Ok(())
    }

    /// The segment `missing` is not there as one in use, but a later one is.
    fn gap(&self, dir: &Path, missing: SegmentNumber, applied: Checkpoint, evidence: Evidence) -> Corruption {
        let last = self.started.last().map_or(BlockNumber::ZERO, |started| started.first_block);
        let block = last.max(applied.block).next();
        Corruption { path: segment_path(dir, missing), position: 0, block, evidence }
    }

    /// The segment of the checkpoint must be there, unless the log is new.
    fn check_beginning(&self, dir: &Path, applied: Checkpoint) -> Result<(), RecoverError> {
        let missing = |evidence| Corruption {
            path: segment_path(dir, applied.at.segment),
            position: applied.at.position,
            block: applied.block.max(BlockNumber(1)),
            evidence,
        };
        let Some(first) = self.started.first() else {
            if applied.block == BlockNumber::ZERO && self.below.is_empty() {
                return Ok(());
            }
            let there = self.unused.first().is_some_and(|file| file.number == applied.at.segment);
            let evidence = if there { Evidence::FileHeader } else { Evidence::Missing };
            return Err(missing(evidence).into());
        };
        if first.first_block > applied.block.max(BlockNumber(1)) {
            return Err(missing(Evidence::FileHeader).into());
        }
        Ok(())
    }
}

impl SegmentFile {
    fn open(disk: &dyn Disk, dir: &Path, number: SegmentNumber) -> Result<SegmentFile, DiskError> {
        let path = segment_path(dir, number);
        let file: Arc<dyn DiskFile> = disk.open(&path).tried("open", &path)?.into();
        let length = file.length().tried("measure", &path)?;
        // No position lies beyond 32 bits.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Ok(SegmentFile { number, path, file, length })
    }

    fn header(&self) -> Result<FileHeaderRead, DiskError> {
        look::file_header(&*self.file, &self.path)
    }
}
