//! Compaction: of each key only the newest record is left, below the last stable offset (`spec/transactions.md`, X8).
//!
//! A pass over a partition first notes the newest offset of each key among the records that no pass has seen, then goes
//! through the partition from its log start on and writes what has become of its batches into files of their own: batches
//! without the records that are superseded, and gaps where nothing is left. A file is made durable, and laid over the
//! index from its beginning to its end, before the next one is begun: so that an older record is gone before the tombstone
//! that speaks of it can be (`spec/log-format.md`, "Compacted frames"). All of it in turns that are bounded, with rests
//! between them. A crash leaves what was laid over, and the pass is made again.

mod find;
mod key_map;
mod pass;
mod unneeded;

use super::ground::Ground;
use super::round::{Round, Visit};
use super::{Duty, Turn};
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Now, PartitionRow, TopicRow};
use crate::log::{DiskError, MovedWriter, Payload, Place, ReadError, Scan, ScanError, SegmentNumber};
use crate::shard::limits::CompactionLimits;
use crate::shard::payload::frame_entry;
use crate::store::{AbortedOutlook, IndexEntry, IndexKind, Overlay, ReadView, StoreError};
use crate::types::codec::{Codec, CodecError};
use crate::types::{Offset, PartitionId, ProducerId};
use crate::wire::batch::{BatchError, Retained};
use pass::{Judged, Made, Pass};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use unneeded::Unneeded;

/// See the module.
pub(in crate::shard) struct Compact {
    ground: Ground,
    state: State,
    round: Round,
    /// Partitions that cannot be read, until the next start: each has been complained of.
    unreadable: BTreeSet<PartitionId>,
    /// How long to rest after the last turn.
    rest: Duration,
    /// Rows that the last pass has made superfluous, as long as they are there.
    unneeded: Option<Unneeded>,
    /// A file that cannot be laid over to its end, until the next start: so long nothing is compacted.
    stuck: Option<SegmentNumber>,
}

enum State {
    Idle,
    /// A file that an earlier pass has made is laid over the index to its end: until then there is no other pass. What is in
    /// it counts when the index is made anew, and then two gaps could overlap, neither of which covers the other.
    Resuming {
        file: SegmentNumber,
        scan: Scan,
    },
    /// Keys are being noted, up to `at`.
    Noting {
        pass: Pass,
        at: Offset,
    },
    /// What has become of the batches is being written, up to `at`.
    Writing {
        pass: Pass,
        at: Offset,
        output: Output,
    },
    /// A file is durable and is being laid over the index; then the pass goes on, unless it is at its end.
    LayingOver {
        pass: Pass,
        at: Offset,
        file: SegmentNumber,
        scan: Scan,
    },
}

/// A file that is being written, once there is something to be written.
struct Output {
    number: SegmentNumber,
    writer: Option<MovedWriter>,
}

impl Output {
    /// The generation of what is written here. Frames lie in files of this number or, moved, of a higher one: so as long as
    /// there are any, no later file has a lower number.
    fn generation(&self) -> u64 {
        self.number.in_name()
    }

    fn is_full(&self, ground: &Ground) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.length() >= ground.parts().segment_length)
    }

    fn push(&mut self, ground: &Ground, (compacted, batch): &Made) -> Result<(), DiskError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let parts = ground.parts();
                self.writer.insert(parts.segments.begin_moved(self.number, parts.segment_length)?)
            }
        };
        writer.write(&compacted.to_bytes(), batch)
    }

    fn abandon(self) {
        if let Some(Err(error)) = self.writer.map(MovedWriter::abandon) {
            tracing::warn!(%error, "an unfinished file cannot be removed; the next start does");
        }
    }
}

/// Why a pass does not go on.
#[derive(Debug, thiserror::Error)]
enum CompactError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a stored batch cannot be opened: {0}")]
    Batch(#[from] BatchError),
    #[error("what was written of it cannot be read: {0}")]
    Frame(#[from] CodecError),
}

/// What one turn may still do.
struct Budget {
    bytes: u64,
    entries: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.bytes == 0 || self.entries == 0
    }

    fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.entries = self.entries.saturating_sub(1);
    }
}

impl Compact {
    pub(in crate::shard) fn new(ground: Ground) -> Compact {
        let rest = ground.parts().limits.compaction.check;
        let (state, round, unreadable) = (State::Idle, Round::default(), BTreeSet::new());
        Compact { ground, state, round, unreadable, rest, unneeded: None, stuck: None }
    }

    fn limits(&self) -> &CompactionLimits {
        &self.ground.parts().limits.compaction
    }

    fn budget(&self) -> Budget {
        Budget { bytes: self.limits().turn_bytes, entries: self.limits().turn_entries }
    }

    /// Goes on for one turn. False if there is nothing to do for now.
    fn advance(&mut self, now: Now) -> Result<bool, CompactError> {
        // What is laid over lets space be freed; what is written takes some first, and the reserve is not for that.
        if self.ground.parts().pressure.is_short() && !self.is_laying_over() {
            return Ok(false);
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => match self.ground.parts().store.laying_over()? {
                Some(file) => return self.resume(file),
                None => return self.look(now),
            },
            State::Resuming { file, mut scan } => {
                if self.lay_over(&mut scan)? {
                    self.state = State::Resuming { file, scan };
                } else {
                    self.laid_over(file)?;
                }
            }
            State::Noting { mut pass, mut at } => {
                if !self.is_wanted(&pass)? {
                    return Ok(true);
                }
                if !self.note(&mut pass, &mut at)? {
                    self.state = State::Noting { pass, at };
                } else if pass.end > pass.from {
                    self.state = self.begin_file(pass.start, pass);
                }
            }
            State::Writing { mut pass, mut at, mut output } => {
                if !self.is_wanted(&pass)? {
                    output.abandon();
                    return Ok(true);
                }
                match self.write(&mut pass, &mut at, &mut output) {
                    Ok(is_at_end) => self.state = self.written(pass, at, output, is_at_end, now)?,
                    Err(error) => {
                        output.abandon();
                        return Err(error);
                    }
                }
            }
            State::LayingOver { pass, at, file, mut scan } => match self.lay_over(&mut scan) {
                Ok(true) => self.state = State::LayingOver { pass, at, file, scan },
                Ok(false) => {
                    self.laid_over(file)?;
                    self.state = self.begin_file(at, pass);
                }
                // It is gone on with later.
                Err(error) => return Err(error),
            },
        }
        Ok(true)
    }

    /// Goes on with a file that was not laid over to its end; a crash may have come before there was one.
    fn resume(&mut self, file: SegmentNumber) -> Result<bool, CompactError> {
        if self.stuck == Some(file) {
            return Ok(false);
        }
        let segments = &self.ground.parts().segments;
        let is_there = segments.list()?.contains(&file);
        let scan = if is_there { segments.scan(file, None)? } else { None };
        match scan {
            Some(scan) => self.state = State::Resuming { file, scan },
            None => self.ground.parts().store.set_laying_over(None)?,
        }
        Ok(true)
    }

    /// A file is laid over the index to its end: only now it may be freed when nothing points to it.
    fn laid_over(&self, file: SegmentNumber) -> Result<(), StoreError> {
        self.ground.add(file);
        self.ground.parts().store.set_laying_over(None)
    }

    fn begin_file(&self, at: Offset, pass: Pass) -> State {
        let output = Output { number: self.ground.next_moved(), writer: None };
        State::Writing { pass, at, output }
    }

    /// What comes after a turn of writing.
    fn written(
        &mut self,
        pass: Pass,
        at: Offset,
        mut output: Output,
        is_at_end: bool,
        now: Now,
    ) -> Result<State, CompactError> {
        let is_full = output.is_full(&self.ground);
        match &mut output.writer {
            Some(writer) if is_at_end || is_full => {
                let store = &self.ground.parts().store;
                store.set_laying_over(Some(output.number))?;
                store.persist()?;
                let file = writer.finish()?;
                self.ground.parts().metrics.log.compacted.add(writer.length().into());
                match self.ground.parts().segments.scan(file, None)? {
                    Some(scan) => Ok(State::LayingOver { pass, at, file, scan }),
                    None => Ok(State::Idle),
                }
            }
            None if is_at_end => {
                self.passed(&pass, now)?;
                Ok(State::Idle)
            }
            _ => Ok(State::Writing { pass, at, output }),
        }
    }

    /// Whether the topic is still compacted, and still there.
    fn is_wanted(&self, pass: &Pass) -> Result<bool, StoreError> {
        let view = self.ground.parts().store.view_now()?;
        Ok(view.get::<TopicRow>(&pass.partition.topic)?.is_some_and(|topic| topic.is_compacted()))
    }

    /// Looks for a partition that is worth a pass.
    fn look(&mut self, now: Now) -> Result<bool, CompactError> {
        let view = self.ground.parts().store.view_now()?;
        let wall = self.ground.clock().is_steady(now)?.then_some(now.wall);
        let map_bytes = self.limits().map_bytes;
        let mut found = None;
        let is_over = self.round.visit(&view, TopicRow::is_compacted, |topic, partition| {
            if self.unreadable.contains(&partition) {
                return Ok(Visit::Next);
            }
            found = find::find(&view, topic, partition, now, (wall, map_bytes))?;
            Ok(if found.is_some() { Visit::PauseBehind } else { Visit::Next })
        })?;
        if is_over {
            for partition in view.forgotten_compactions()? {
                self.ground.parts().store.set_compaction(partition, None)?;
            }
        }
        let Some(pass) = found else { return Ok(!is_over) };
        // What is compacted is durable in the rows as well: no start takes its blocks for torn.
        self.ground.parts().store.persist()?;
        let at = pass.from;
        self.state = State::Noting { pass, at };
        Ok(true)
    }

    /// Notes keys for one turn. True when all are noted for which there is room.
    fn note(&self, pass: &mut Pass, at: &mut Offset) -> Result<bool, CompactError> {
        let mut budget = self.budget();
        let view = self.ground.parts().store.view_now()?;
        let mut outlook = AbortedOutlook::default();
        for entry in view.index(pass.partition, *at) {
            let (last, entry) = entry?;
            if entry.base_offset >= pass.end {
                return Ok(true);
            }
            if budget.is_spent() {
                return Ok(false);
            }
            budget.spend(0);
            let has_records = !matches!(entry.kind, IndexKind::Marker { .. } | IndexKind::Gap { .. });
            if has_records
                && (!is_aborted(&view, pass.partition, &entry, &mut outlook)?
                    || mutated(Mutant::AbortedSupersedes))
            {
                budget.spend(entry.place.length.into());
                if !pass.note(self.read(entry.place)?)? {
                    return Ok(true);
                }
            }
            *at = last.next();
        }
        Ok(true)
    }

    /// Judges batches for one turn, and writes what becomes of them. True when the pass is at its end.
    fn write(&self, pass: &mut Pass, at: &mut Offset, output: &mut Output) -> Result<bool, CompactError> {
        let mut budget = self.budget();
        let view = self.ground.parts().store.view_now()?;
        let mut outlook = AbortedOutlook::default();
        let generation = output.generation();
        for entry in view.index(pass.partition, *at) {
            let (last, entry) = entry?;
            if entry.base_offset >= pass.end {
                break;
            }
            if budget.is_spent() || output.is_full(&self.ground) {
                return Ok(false);
            }
            budget.spend(0);
            let is_aborted = is_aborted(&view, pass.partition, &entry, &mut outlook)?;
            let (producer, retained) = match pass.judge(last, &entry, is_aborted) {
                Judged::Drop => (None, Retained::Nothing),
                Judged::Keep => (None, Retained::All),
                Judged::ByRecords(producer) => {
                    budget.spend(entry.place.length.into());
                    (producer, pass.retain(self.read(entry.place)?)?)
                }
            };
            for made in become_of(pass, last, &entry, producer, retained, generation) {
                output.push(&self.ground, &made)?;
            }
            *at = last.next();
        }
        if let Some(gap) = pass.end_gap(generation) {
            output.push(&self.ground, &gap)?;
        }
        Ok(true)
    }

    fn read(&self, place: Place) -> Payload {
        self.ground.parts().reader.read(place)
    }

    /// Lays some of a file's frames over the index. False after the last.
    fn lay_over(&self, scan: &mut Scan) -> Result<bool, CompactError> {
        let Some(frames) = scan.next_frames()? else { return Ok(false) };
        let mut overlays = Vec::with_capacity(frames.len());
        for (frame, place) in frames {
            if let Some((partition, last, entry)) = frame_entry(&frame.event, place)? {
                overlays.push(Overlay { partition, last, entry });
            }
        }
        self.ground.parts().store.lay_over(&overlays)?;
        Ok(true)
    }

    /// The pass is at its end.
    fn passed(&mut self, pass: &Pass, now: Now) -> Result<(), StoreError> {
        let store = self.ground.parts().store.clone();
        let view = store.view_now()?;
        let topic = view.get::<TopicRow>(&pass.partition.topic)?;
        if let Some(topic) = topic
            && view.get::<PartitionRow>(&pass.partition)?.is_some()
        {
            let mut row = store.compaction(pass.partition)?.unwrap_or_default();
            row.passed(pass.end, now.served, topic.delete_retention());
            store.set_compaction(pass.partition, Some(&row))?;
        }
        // Readers look at what is left from now on, and retention knows how much that is.
        let age = self.ground.republish()?;
        self.unneeded = Some(Unneeded::by(pass, age, store.applied()?.checkpoint.block));
        tracing::debug!(partition = %pass.partition, to = %pass.end, "a partition is compacted");
        Ok(())
    }

    fn is_laying_over(&self) -> bool {
        matches!(self.state, State::LayingOver { .. } | State::Resuming { .. })
    }

    /// The partition that is being worked on.
    fn partition(&self) -> Option<PartitionId> {
        match &self.state {
            State::Idle | State::Resuming { .. } => None,
            State::Noting { pass, .. } | State::Writing { pass, .. } | State::LayingOver { pass, .. } => {
                Some(pass.partition)
            }
        }
    }
}

fn is_aborted(
    view: &ReadView,
    partition: PartitionId,
    entry: &IndexEntry,
    outlook: &mut AbortedOutlook,
) -> Result<bool, StoreError> {
    outlook.is_aborted(entry, |producer, offset| view.next_aborted(partition, producer, offset))
}

/// The frames that a batch makes.
fn become_of(
    pass: &mut Pass,
    last: Offset,
    entry: &IndexEntry,
    producer: Option<ProducerId>,
    retained: Retained,
    generation: u64,
) -> Vec<Made> {
    match retained {
        Retained::All => pass.kept(last, entry, producer, None, generation),
        Retained::Some { batch, max_timestamp } => {
            pass.kept(last, entry, producer, Some((batch, max_timestamp)), generation)
        }
        Retained::Nothing => pass.dropped(last, entry, generation).into_iter().collect(),
    }
}

impl Duty for Compact {
    fn name(&self) -> &'static str {
        "compact"
    }

    fn period(&self) -> Duration {
        self.rest
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        if let Some(unneeded) = self.unneeded.take() {
            let (commands, left) = unneeded.sweep(view, &self.ground.parts().store)?;
            self.unneeded = left;
            self.rest = self.ground.parts().limits.rest;
            return Ok(Turn { commands, more: false });
        }
        let begun = Instant::now();
        let partition = self.partition();
        let check = self.limits().check;
        self.rest = match self.advance(now) {
            // What is written and read is a share of the time that it takes.
            Ok(true) => {
                begun.elapsed() * (100 - self.limits().share_percent.min(99))
                    / self.limits().share_percent.max(1)
            }
            Ok(false) => check,
            Err(CompactError::Store(error)) => return Err(error),
            Err(CompactError::Disk(error)) => {
                tracing::warn!(%error, "compaction does not go on; it is tried again");
                check
            }
            Err(error) => {
                tracing::error!(?partition, %error, "a partition cannot be compacted: nothing is taken away from it");
                self.unreadable.extend(partition);
                self.stuck = self.ground.parts().store.laying_over()?;
                check
            }
        };
        Ok(Turn::default())
    }
}
