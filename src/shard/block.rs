//! The block that is being decided: frames for the log, and what has to happen once it is durable.

use super::payload::{Markers, index_entry, rewrite};
use super::trace::Awaited;
use super::watch::Changed;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Drafted, Event, Now, PartitionRow, Reply, Row, RowKey};
use crate::log::{At, Block, BlockBuilder, PlaceInBlock};
use crate::store::{Layer, LayerBuilder};
use crate::types::codec::Codec;
use crate::types::{BlockNumber, LeaderEpoch};
use crate::wire::batch::BatchError;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A reply that waits until what it speaks of is durable.
#[derive(Debug)]
pub(super) struct HeldReply {
    pub(super) to: oneshot::Sender<Reply>,
    pub(super) reply: Reply,
    /// Its number, if steps are traced.
    pub(super) traced: Option<Awaited>,
}

/// Why a decision does not go into the open block.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// There is no room for it now.
    #[error("the block has no room for the decision")]
    Full,
    /// It fits into no block at all.
    #[error("a decision of {0} bytes fits into no block")]
    TooLarge(u64),
    /// A batch is not what was checked, or a marker cannot be written: a defect.
    #[error("a batch cannot be written: {0}")]
    Batch(#[from] BatchError),
}

/// The block that is being decided.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) number: BlockNumber,
    pub(super) now: Now,
    builder: BlockBuilder,
    /// The rows that it changes, but for volatile ones.
    changed: Vec<RowKey>,
    /// The events of its decisions,
    events: Vec<Vec<Event>>,
    /// and where in the block each of them lies.
    places: Vec<PlaceInBlock>,
    /// Where a decision's events are put into bytes.
    scratch: Vec<u8>,
    /// Who gets a reply once the block is durable.
    pub(super) replies: Vec<HeldReply>,
}

/// A frame to be: an event, where its bytes are among those of its decision, and the batch behind it.
struct Frame<'d> {
    event: &'d Event,
    bytes: Range<usize>,
    batch: Bytes,
}

impl OpenBlock {
    pub(super) fn new(number: BlockNumber, now: Now, builder: BlockBuilder) -> OpenBlock {
        OpenBlock {
            number,
            now,
            builder,
            changed: Vec::new(),
            events: Vec::new(),
            places: Vec::new(),
            scratch: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// Puts a decision into the block, all of it or nothing. `batches` are the command's, by index.
    pub(super) fn push(
        &mut self,
        drafted: &Drafted,
        batches: &[Bytes],
        leader_epoch: LeaderEpoch,
    ) -> Result<(), PushError> {
        /// Of an event, mostly.
        const USUAL_BYTES: usize = 96;
        self.scratch.clear();
        self.scratch.reserve(USUAL_BYTES * drafted.events.len());
        let frames = frames(drafted, batches, leader_epoch, &mut self.scratch)?;
        let needed: u64 =
            frames.iter().map(|f| BlockBuilder::frame_length(f.bytes.len(), f.batch.len())).sum();
        if needed > u64::from(self.builder.room()) {
            return Err(if self.builder.frames() == 0 {
                PushError::TooLarge(needed)
            } else {
                PushError::Full
            });
        }
        let mut places = Vec::with_capacity(frames.len());
        for frame in frames {
            let mut rewritten = Ok(());
            let event = self.scratch.get(frame.bytes).unwrap_or_default();
            let pushed = self.builder.push_patched(event, &frame.batch, |batch| {
                rewritten = rewrite(frame.event, batch, leader_epoch);
            });
            // There is room, and the batch was checked before it was queued: neither fails.
            places.push(pushed.map_err(|_| PushError::TooLarge(needed))?);
            rewritten?;
        }
        self.places.append(&mut places);
        Ok(())
    }

    /// Keeps the events of a decision that has just been pushed: they say what its index entries are.
    pub(super) fn keep(&mut self, events: Vec<Event>) {
        self.events.push(events);
    }

    /// Takes note of a row that its decisions change: of each once.
    pub(super) fn changes(&mut self, row: RowKey) {
        self.changed.push(row);
    }

    /// How long the finished block will be, in bytes.
    pub(super) fn length(&self) -> usize {
        self.builder.length()
    }

    /// Seals the block, which will lie at `at`. `row` tells what has become of a row.
    pub(super) fn seal<'t>(
        mut self,
        at: At,
        durable: BlockNumber,
        row: impl Fn(&RowKey) -> Option<&'t crate::core::RowValue>,
    ) -> SealedBlock {
        let mut layer = LayerBuilder::with_capacity(self.changed.len() + self.places.len());
        let mut partitions = Vec::new();
        for key in &self.changed {
            if mutated(Mutant::AbortedRangeNotShown) && matches!(key, RowKey::Aborted(_)) {
                continue;
            }
            let row = row(key);
            layer.put(key, row);
            if let RowKey::Partition(partition) = key {
                partitions.push((*partition, row.and_then(PartitionRow::of).cloned()));
            }
        }
        for (event, place) in self.events.iter().flatten().zip(&self.places) {
            if let Some((partition, last, entry)) = index_entry(event, place.at(at)) {
                layer.put_index(partition, last, &entry);
            }
        }
        self.builder.known_durable(durable);
        SealedBlock {
            layer: layer.finish(self.number),
            partitions,
            replies: self.replies,
            now: self.now,
            block: self.builder.finish(),
        }
    }
}

/// A block on its way to the disk, and what has to happen once it is there.
#[derive(Debug)]
pub(super) struct SealedBlock {
    pub(super) block: Block,
    pub(super) layer: Arc<Layer>,
    /// The partitions that change.
    pub(super) partitions: Vec<Changed>,
    pub(super) replies: Vec<HeldReply>,
    pub(super) now: Now,
}

fn frames<'d>(
    drafted: &'d Drafted,
    batches: &[Bytes],
    leader_epoch: LeaderEpoch,
    bytes: &mut Vec<u8>,
) -> Result<Vec<Frame<'d>>, PushError> {
    let mut sources = drafted.batches.iter();
    let mut markers = Markers::new(leader_epoch);
    let mut frames = Vec::with_capacity(drafted.events.len());
    for event in &drafted.events {
        let batch = match event {
            Event::BatchAppended(_) => sources.next().and_then(|index| batches.get(*index)).cloned(),
            Event::MarkerWritten(marker) => Some(markers.batch(marker)?),
            _ => Some(Bytes::new()),
        };
        let start = bytes.len();
        event.encode(bytes);
        frames.push(Frame { event, bytes: start..bytes.len(), batch: batch.ok_or(BatchError::Empty)? });
    }
    Ok(frames)
}
