//! Moves what is live out of segments that are mostly dead, so that these can be freed: data of short and of long retention
//! share segments. First the frames are copied into a file of their own, which is made durable; then the index is pointed
//! to it, a slice at a time. A crash in between leaves both, and every entry points to one of them.
//!
//! What is live is found by going through the index, which costs as much as there is data, or by reading the segments, which
//! costs as much as is dead: whatever is less.

use super::ground::Ground;
use super::{Duty, Turn};
use crate::core::{Now, PartitionRow};
use crate::log::{DiskError, MovedWriter, Pick, Place, Scan, ScanError, ScannedFrame, SegmentNumber};
use crate::shard::payload::frame_entry;
use crate::store::{IndexEntry, ReadView, StoreError, encode_index_key};
use crate::types::ServedTime;
use crate::types::codec::CodecError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
pub(in crate::shard) struct MoveLive {
    ground: Ground,
    state: State,
    not_before: ServedTime,
    /// Segments that are mostly dead, as of a moment: how much was live in each, and since when it has been so much.
    seen: BTreeMap<SegmentNumber, (u64, ServedTime)>,
    /// Dead bytes in them.
    debt: u64,
    looked_at: ServedTime,
}

/// A segment whose data die is left alone for so many rests after the last that did: where all data have one retention it
/// is soon dead as a whole, and costs nothing.
const SETTLED_AFTER_RESTS: u32 = 20;

/// Index entries that are looked at in one turn.
const LOOKS_PER_TURN: usize = 10_000;

/// Places that are remembered at once, in 6 MiB of memory. Where there are more, the segments are read.
const PLACES_MAX: u64 = 1 << 18;

/// A segment that is mostly dead.
struct Candidate {
    percent: u64,
    live: u64,
    entries: u64,
    dead: u64,
    file: SegmentNumber,
}

enum State {
    Idle,
    /// What is live in some segments is looked for in the index, from `at` on.
    Finding {
        wanted: BTreeSet<SegmentNumber>,
        at: Vec<u8>,
        found: Vec<Place>,
    },
    /// Frames are being copied.
    Copying {
        writer: MovedWriter,
        source: Source,
    },
    /// The file is durable; the index is being pointed to it.
    Pointing {
        file: SegmentNumber,
        scan: Scan,
    },
}

/// Where the frames to copy come from.
enum Source {
    /// Segments that are read from end to end. The last is the next.
    Whole { from: Option<(SegmentNumber, Scan)>, left: Vec<SegmentNumber> },
    /// Places that the index points to. The last is the next.
    Picked { from: Option<(SegmentNumber, Pick)>, left: Vec<Place> },
}

impl Source {
    /// Goes on with the next segment.
    fn leave(&mut self, segment: SegmentNumber) {
        match self {
            Source::Whole { from, .. } => *from = None,
            Source::Picked { left, .. } => left.retain(|place| place.segment != segment),
        }
    }
}

/// Why moving does not go on.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an event in the log cannot be read: {0}")]
    Event(#[from] CodecError),
}

impl MoveLive {
    pub(in crate::shard) fn new(ground: Ground) -> MoveLive {
        let start = ServedTime(0);
        MoveLive {
            ground,
            state: State::Idle,
            not_before: start,
            seen: BTreeMap::new(),
            debt: 0,
            looked_at: start,
        }
    }

    /// Segments that are mostly dead, and not wholly: those are freed as they are.
    fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let parts = self.ground.parts();
        let uses = parts.store.segment_uses();
        let mut chosen = Vec::new();
        for file in self.ground.files()? {
            let Some(used) = uses.get(&file) else { continue };
            let Some(percent) = self.ground.live_percent(file, used.bytes) else { continue };
            if percent < parts.limits.move_live_percent {
                let (live, dead) = (used.bytes, self.ground.length(file).saturating_sub(used.bytes));
                chosen.push(Candidate { percent, live, entries: used.entries, dead, file });
            }
        }
        Ok(chosen)
    }

    /// The emptiest of those that have settled first, as many as fit into one file; of all, if too much is dead.
    fn choose(&self, now: ServedTime) -> Result<Vec<Candidate>, StoreError> {
        let parts = self.ground.parts();
        let mut chosen = self.candidates()?;
        if self.debt_percent() < 100 && !parts.pressure.is_short() {
            let settled = |live: u64, file| {
                let since = self.seen.get(&file).filter(|(seen, _)| *seen == live);
                since.is_some_and(|(_, since)| now >= since.plus(parts.limits.rest * SETTLED_AFTER_RESTS))
            };
            chosen.retain(|candidate| settled(candidate.live, candidate.file));
        }
        chosen.sort_unstable_by_key(|candidate| (candidate.percent, candidate.file));
        let mut room = u64::from(parts.segment_length);
        chosen.retain(|candidate| {
            let fits = candidate.live <= room;
            room = room.saturating_sub(candidate.live);
            fits
        });
        chosen.truncate(parts.limits.move_segments);
        Ok(chosen)
    }

    /// Whether it is less work to go through the index than to read the chosen segments.
    fn better_by_index(&self, chosen: &[Candidate]) -> bool {
        let parts = self.ground.parts();
        let looks: u64 = parts.store.segment_uses().values().map(|used| used.entries).sum();
        let places: u64 = chosen.iter().map(|candidate| candidate.entries).sum();
        let bytes: u64 = chosen.iter().map(|candidate| self.ground.length(candidate.file)).sum();
        places <= PLACES_MAX && looks < (bytes >> 20).max(1).saturating_mul(parts.limits.move_looks_per_mib)
    }

    fn begin_copying(&self, source: Source) -> Result<State, MoveError> {
        let parts = self.ground.parts();
        let writer = parts.segments.begin_moved(self.ground.next_moved(), parts.segment_length)?;
        Ok(State::Copying { writer, source })
    }

    /// Looks now and then at what waits.
    fn look(&mut self, now: ServedTime) -> Result<(), StoreError> {
        if now < self.looked_at.plus(self.ground.parts().limits.rest * 10) {
            return Ok(());
        }
        let candidates = self.candidates()?;
        self.debt = candidates.iter().map(|candidate| candidate.dead).sum();
        self.looked_at = now;
        let before = std::mem::take(&mut self.seen);
        let since = |Candidate { live, file, .. }: Candidate| {
            let same = before.get(&file).filter(|(seen, _)| *seen == live);
            (file, (live, same.map_or(now, |(_, since)| *since)))
        };
        self.seen = candidates.into_iter().map(since).collect();
        Ok(())
    }

    /// How much waits, in percent of what may.
    fn debt_percent(&self) -> u64 {
        let parts = self.ground.parts();
        let segment = u64::from(parts.segment_length).max(1);
        (self.debt / (segment * parts.limits.move_debt_segments.max(1) / 100).max(1)).min(100)
    }

    /// How long to rest between two turns: less, the more waits.
    fn rest(&self) -> Duration {
        self.ground.parts().limits.move_rest * u32::try_from(100 - self.debt_percent()).unwrap_or(0) / 100
    }

    fn advance(&mut self, now: ServedTime) -> Result<bool, MoveError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                let chosen = self.choose(now)?;
                if chosen.is_empty() {
                    return Ok(false);
                }
                let files = chosen.iter().map(|candidate| candidate.file);
                self.state = if self.better_by_index(&chosen) {
                    State::Finding { wanted: files.collect(), at: Vec::new(), found: Vec::new() }
                } else {
                    self.begin_copying(Source::Whole { from: None, left: files.rev().collect() })?
                };
            }
            State::Finding { wanted, at, mut found } => {
                let view = self.ground.parts().store.view_now()?;
                let more = view.places_in(&wanted, &at, LOOKS_PER_TURN)?;
                found.extend(more.places);
                self.state = match more.next {
                    Some(at) => State::Finding { wanted, at, found },
                    None => {
                        // As they lie in the segments.
                        found.sort_unstable_by(|a, b| b.cmp(a));
                        self.begin_copying(Source::Picked { from: None, left: found })?
                    }
                };
            }
            State::Copying { mut writer, mut source } => match self.copy(&mut writer, &mut source) {
                Ok(None) => self.state = State::Copying { writer, source },
                Ok(Some(next)) => self.state = next,
                Err(error) => {
                    let _ = writer.abandon();
                    return Err(error);
                }
            },
            State::Pointing { file, mut scan } => match self.point(file, &mut scan) {
                Ok(true) => self.state = State::Pointing { file, scan },
                // Only now it may be freed when nothing points to it.
                Ok(false) => self.ground.add(file),
                Err(error) => {
                    self.ground.add(file);
                    self.ground.mark_damaged(file);
                    return Err(error);
                }
            },
        }
        Ok(true)
    }

    /// Copies live frames for one turn. Returns what comes next, if not more of this.
    fn copy(&self, writer: &mut MovedWriter, source: &mut Source) -> Result<Option<State>, MoveError> {
        let mut bytes = 0;
        while bytes < self.ground.parts().limits.move_turn_bytes {
            let frames = match self.next_frames(source) {
                Ok(Some(frames)) => frames,
                Ok(None) => return self.finish(writer).map(Some),
                Err((_, ScanError::Disk(error))) => return Err(error.into()),
                Err((segment, error)) => {
                    tracing::error!(%segment, %error, "what is live in a segment cannot be moved out of it");
                    self.ground.mark_damaged(segment);
                    source.leave(segment);
                    continue;
                }
            };
            bytes += frames.iter().map(|(frame, _)| frame.payload.len() as u64 + 64).sum::<u64>();
            if !self.copy_live(writer, &frames)? {
                return self.finish(writer).map(Some);
            }
        }
        Ok(None)
    }

    /// A segment in which all has died since may be freed already.
    fn has_live(&self, segment: SegmentNumber) -> bool {
        self.ground.parts().store.segment_uses().contains_key(&segment)
    }

    /// The next frames of a source, live or not; none at its end. An error names the segment that it is about.
    fn next_frames(
        &self,
        source: &mut Source,
    ) -> Result<Option<Vec<ScannedFrame>>, (SegmentNumber, ScanError)> {
        let segments = &self.ground.parts().segments;
        match source {
            Source::Whole { from, left } => loop {
                if let Some((segment, scan)) = from {
                    if let Some(frames) = scan.next_frames().map_err(|error| (*segment, error))? {
                        return Ok(Some(frames));
                    }
                    *from = None;
                }
                let Some(next) = left.pop() else { return Ok(None) };
                if !self.has_live(next) {
                    continue;
                }
                let scan = segments.scan(next, None).map_err(|error| (next, error.into()))?;
                *from = scan.map(|scan| (next, scan));
            },
            Source::Picked { from, left } => loop {
                let Some(place) = left.pop() else { return Ok(None) };
                if from.as_ref().is_none_or(|(segment, _)| *segment != place.segment) {
                    *from = None;
                    if self.has_live(place.segment) {
                        let pick =
                            segments.pick(place.segment).map_err(|error| (place.segment, error.into()))?;
                        *from = pick.map(|pick| (place.segment, pick));
                    }
                }
                let Some((segment, pick)) = from else { continue };
                return pick.frame(place).map(|frame| Some(vec![frame])).map_err(|error| (*segment, error));
            },
        }
    }

    /// False if the file has no room for a frame: what was copied before is enough.
    fn copy_live(&self, writer: &mut MovedWriter, frames: &[ScannedFrame]) -> Result<bool, MoveError> {
        let store = &self.ground.parts().store;
        let view = store.view_now()?;
        for (frame, place) in frames {
            let Some((partition, last, _)) = frame_entry(&frame.event, *place)? else { continue };
            // Most frames here are dead. A row is read sooner than it is found out that the index has none.
            let row = view.get::<PartitionRow>(&partition)?;
            let is_kept = row.is_some_and(|row| last >= row.log_start);
            let entry = if is_kept { store.index_entry(&encode_index_key(partition, last))? } else { None };
            let live = entry.is_some_and(|entry| entry.place == *place);
            if live && writer.push(frame)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finish(&self, writer: &mut MovedWriter) -> Result<State, MoveError> {
        let file = writer.finish()?;
        let parts = self.ground.parts();
        parts.metrics.log.moved.add(self.ground.length(file));
        match parts.segments.scan(file, None)? {
            Some(scan) => Ok(State::Pointing { file, scan }),
            None => Ok(State::Idle),
        }
    }

    /// Points the index to some of the frames in a new file: those that are still live. False after the last.
    fn point(&self, file: SegmentNumber, scan: &mut Scan) -> Result<bool, MoveError> {
        let store = &self.ground.parts().store;
        let Some(frames) = scan.next_frames()? else { return Ok(false) };
        let mut moves: Vec<(Vec<u8>, IndexEntry, Place)> = Vec::with_capacity(frames.len());
        let mut seen = BTreeSet::new();
        for (frame, place) in frames {
            let Some((key, moved)) = entry_of(&frame.event, place)? else { continue };
            let same = |entry: &IndexEntry| {
                // Compaction may have been here since the frame was copied.
                (entry.base_offset, entry.kind) == (moved.base_offset, moved.kind)
                    && (entry.place.length, entry.place.checksum) == (place.length, place.checksum)
                    && entry.place.segment != file
            };
            if let Some(entry) = store.index_entry(&key)?.filter(same)
                && seen.insert(key.clone())
            {
                moves.push((key, entry, place));
            }
        }
        store.move_index(moves)?;
        Ok(true)
    }
}

/// The index entry of a frame that lies at `place`, and its key; none if it has none.
fn entry_of(event: &[u8], place: Place) -> Result<Option<(Vec<u8>, IndexEntry)>, CodecError> {
    let entry = frame_entry(event, place)?;
    Ok(entry.map(|(partition, last, entry)| (encode_index_key(partition, last), entry)))
}

impl Duty for MoveLive {
    fn name(&self) -> &'static str {
        "move-live"
    }

    fn period(&self) -> Duration {
        if matches!(self.state, State::Idle) { self.ground.parts().limits.rest } else { self.rest() }
    }

    fn turn(&mut self, _view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        if now.served < self.not_before || self.ground.is_paused() {
            return Ok(Turn::default());
        }
        let rest = now.served.plus(self.ground.parts().limits.rest * 10);
        self.look(now.served)?;
        match self.advance(now.served) {
            Ok(true) => {}
            Ok(false) => self.not_before = rest,
            Err(MoveError::Store(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "what is live in dead segments could not be moved; it is tried again");
                self.not_before = rest;
            }
        }
        Ok(Turn::default())
    }
}
