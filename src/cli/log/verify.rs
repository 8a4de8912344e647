//! `semel log verify`.

use super::{
    Progress, Where, absent_line, compacted_of, damage_json, damage_text, event_of, is_json, place_text,
};
use crate::cli::CliError;
use crate::cli::output::{number, print_table, text};
use crate::cli::topic::TableFormat;
use crate::core::{Compacted, Event};
use crate::log::{Frame, LogFiles, Piece, Place, PlacedBlock, SegmentNumber};
use crate::shard::WholeTransactions;
use crate::types::{Offset, Timestamp};
use crate::wire::batch::{Batch, BatchHeader, BatchLimits};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// `semel log verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    place: Where,
    /// How to write it [default: a table on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct Counts {
    first_block: u64,
    blocks: u64,
    events: u64,
    batches: u64,
    bytes: u64,
}

/// What is wrong with a frame whose own checksums are right.
struct Strange {
    place: Place,
    problem: String,
}

pub(super) fn run(arguments: &VerifyArgs) -> Result<(), CliError> {
    let log = arguments.place.open()?;
    let json = is_json(arguments.output);
    let checked = check(&log.files, &mut io::stdout().lock(), json)?;
    report(&checked.segments, json)?;
    checked.verdict()
}

/// What has been found in a log.
#[derive(Debug, Default)]
pub(in crate::cli) struct Checked {
    /// How many things are wrong.
    pub(in crate::cli) problems: u64,
    /// The last block.
    pub(in crate::cli) last_block: u64,
    /// Transactions that have been seen to end, whole.
    pub(in crate::cli) transactions: u64,
    /// What the files hold.
    pub(in crate::cli) segments: Segments,
}

/// What the segments of a log hold.
type Segments = BTreeMap<SegmentNumber, Counts>;

impl Checked {
    pub(in crate::cli) fn verdict(&self) -> Result<(), CliError> {
        match self.problems {
            0 => Ok(()),
            problems => Err(CliError::Damaged { problems }),
        }
    }
}

/// Checks every checksum, every record batch, and whether the transactions are whole; says on `out` what is wrong.
pub(in crate::cli) fn check(files: &LogFiles, out: &mut dyn Write, json: bool) -> Result<Checked, CliError> {
    let progress = Progress::over(files);
    let mut transactions = WholeTransactions::default();
    let mut checked = Checked::default();
    let mut pieces = files.pieces();
    while let Some(piece) = pieces.next() {
        progress.at(&pieces);
        match piece? {
            Piece::Block(block) => {
                count(checked.segments.entry(block.at.segment).or_default(), &block);
                checked.last_block = block.block.number().0;
                checked.problems += report_strange(block.frames(), out, json)?;
                checked.problems += report_torn(&mut transactions, &block, out, json)?;
            }
            Piece::Moved(frames) => {
                count_moved(&mut checked.segments, &frames);
                checked.problems += report_strange(frames.into_iter(), out, json)?;
            }
            Piece::Absent(blocks) => {
                transactions.interrupted();
                writeln!(out, "{}", absent_line(&blocks, json))?;
            }
            Piece::Damage(damage) => {
                transactions.interrupted();
                checked.problems += 1;
                let line = if json { damage_json(&damage).to_string() } else { damage_text(&damage) };
                writeln!(out, "{line}")?;
            }
        }
    }
    drop(progress);
    checked.transactions = transactions.ended();
    Ok(checked)
}

/// Says which transactions that end in a block are not whole, and how many.
fn report_torn(
    transactions: &mut WholeTransactions,
    block: &PlacedBlock,
    out: &mut dyn Write,
    json: bool,
) -> io::Result<u64> {
    let events: Vec<Event> = block.block.frames().filter_map(|frame| event_of(&frame)).collect();
    let number = block.block.number().0;
    let mut count = 0;
    for problem in transactions.block(&events) {
        count += 1;
        let line = match json {
            true => json!({"block": number, "problem": problem}).to_string(),
            false => format!("block {number}: {problem}"),
        };
        writeln!(out, "{line}")?;
    }
    Ok(count)
}

fn count(counts: &mut Counts, block: &PlacedBlock) {
    if counts.blocks == 0 {
        counts.first_block = block.block.number().0;
    }
    counts.blocks += 1;
    counts.bytes += u64::from(block.block.length());
    for frame in block.block.frames() {
        counts.events += 1;
        counts.batches += u64::from(!frame.payload.is_empty());
    }
}

/// What no checksum of the log shows: that the event can be read, and the record batch is the one that it speaks of.
fn look_closer(frame: &Frame, place: Place) -> Option<Strange> {
    let problem = match event_of(frame) {
        Some(Event::BatchAppended(batch)) => {
            look_at_batch(&frame.payload, (batch.base_offset, batch.last_offset()))
        }
        Some(Event::MarkerWritten(marker)) => look_at_batch(&frame.payload, (marker.offset, marker.offset)),
        Some(_) => Ok(()),
        None => match compacted_of(frame) {
            Some(compacted) => look_at_compacted(&compacted, &frame.payload, place.segment),
            None => Err("an event that this version of semel cannot read".to_owned()),
        },
    };
    problem.err().map(|problem| Strange { place, problem })
}

fn look_at_batch(payload: &Bytes, offsets: (Offset, Offset)) -> Result<(), String> {
    let none = |error| format!("a record batch that is none: {error}");
    let header = BatchHeader::parse(payload).map_err(none)?;
    header.check_crc(payload).map_err(none)?;
    let found = (header.base_offset, header.last_offset());
    if found == offsets { Ok(()) } else { Err(another(found, offsets)) }
}

fn another(found: (Offset, Offset), said: (Offset, Offset)) -> String {
    format!("a record batch of offsets {} to {}, and not {} to {}", found.0, found.1, said.0, said.1)
}

/// Whether what compaction says of a batch, or of several of which nothing is left, is so (`spec/log-format.md`,
/// "Compacted frames").
fn look_at_compacted(compacted: &Compacted, payload: &Bytes, file: SegmentNumber) -> Result<(), String> {
    let of = compacted.range();
    if !file.is_moved() || of.generation > file.in_name() {
        return Err(format!(
            "what compaction has written lies in an older file than its own, {}",
            of.generation
        ));
    }
    let Compacted::Batch { max_timestamp, producer, .. } = compacted else {
        let is_gap = payload.is_empty() && of.first <= of.last;
        return if is_gap { Ok(()) } else { Err("a gap that is none".to_owned()) };
    };
    look_at_batch(payload, (of.first, of.last))?;
    let none = |error| format!("a record batch that is none: {error}");
    let batch = Batch::new(payload.clone()).map_err(none)?;
    let (mut newest, mut records) = (Timestamp::NONE, 0_u32);
    for record in batch.records(&BatchLimits::default()).map_err(none)? {
        newest = newest.max(record.map_err(none)?.timestamp);
        records += 1;
    }
    let wrote = batch.header.transactional.then_some(batch.header.producer_id);
    match () {
        () if records == 0 => Err("a compacted batch without records".to_owned()),
        () if newest != *max_timestamp => {
            Err(format!("a compacted batch whose newest record is of {newest}, and not of {max_timestamp}"))
        }
        () if wrote != *producer => Err("a compacted batch of another transaction".to_owned()),
        () => Ok(()),
    }
}

/// Says what is strange about frames, and of how many.
fn report_strange(
    frames: impl Iterator<Item = (Frame, Place)>,
    out: &mut dyn Write,
    json: bool,
) -> io::Result<u64> {
    let mut count = 0;
    for Strange { place, problem } in frames.filter_map(|(frame, place)| look_closer(&frame, place)) {
        count += 1;
        let line = match json {
            true => {
                json!({"segment": place.segment.to_string(), "position": place.position, "problem": problem})
                    .to_string()
            }
            false => format!("{}: {problem}", place_text(place)),
        };
        writeln!(out, "{line}")?;
    }
    Ok(count)
}

fn count_moved(segments: &mut Segments, frames: &[(Frame, Place)]) {
    for (frame, place) in frames {
        let counts = segments.entry(place.segment).or_default();
        counts.events += 1;
        counts.batches += u64::from(!frame.payload.is_empty());
        counts.bytes += u64::from(frame.header.frame_length().unwrap_or(0));
    }
}

pub(in crate::cli) fn report(segments: &Segments, json: bool) -> io::Result<()> {
    if json {
        let mut out = io::stdout().lock();
        for (segment, counts) in segments {
            let Counts { first_block, blocks, events, batches, bytes } = counts;
            let line = json!({"segment": segment.to_string(), "first_block": first_block, "blocks": blocks, "events": events, "batches": batches, "bytes": bytes});
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = segments
        .iter()
        .map(|(segment, counts)| {
            let Counts { first_block, blocks, events, batches, bytes } = counts;
            let numbers = [first_block, blocks, events, batches, bytes].map(ToString::to_string);
            std::iter::once(segment.to_string()).chain(numbers).collect()
        })
        .collect();
    let columns = [
        text("SEGMENT"),
        number("FIRST BLOCK"),
        number("BLOCKS"),
        number("EVENTS"),
        number("BATCHES"),
        number("BYTES"),
    ];
    print_table(&columns, &rows)
}
