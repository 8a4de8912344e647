//! `semel log inspect`.

use super::{Where, absent_line, compacted_of, damage_json, damage_text, event_of, is_json, place_text};
use crate::cli::CliError;
use crate::cli::topic::TableFormat;
use crate::log::{Frame, Piece, Place, PlacedBlock};
use clap::Args;
use serde_json::json;
use std::io::{self, BufWriter, Write};

/// `semel log inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    place: Where,
    /// Only this segment, as `verify` calls it
    #[arg(long)]
    segment: Option<String>,
    /// Only from this block on
    #[arg(long, value_name = "NUMBER")]
    from_block: Option<u64>,
    /// Only up to this block, which is included
    #[arg(long, value_name = "NUMBER")]
    to_block: Option<u64>,
    /// Only blocks, not what is in them
    #[arg(long)]
    blocks: bool,
    /// How to write it [default: text on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
}

impl InspectArgs {
    fn wants(&self, block: &PlacedBlock) -> bool {
        self.wants_number(block.block.number().0)
            && self.segment.as_ref().is_none_or(|segment| *segment == block.at.segment.to_string())
    }

    fn wants_moved(&self, frame: &Frame, place: Place) -> bool {
        !self.blocks
            && self.wants_number(frame.header.block.0)
            && self.segment.as_ref().is_none_or(|segment| *segment == place.segment.to_string())
    }

    fn wants_number(&self, number: u64) -> bool {
        self.from_block.is_none_or(|from| from <= number) && self.to_block.is_none_or(|to| number <= to)
    }
}

pub(super) fn run(arguments: &InspectArgs) -> Result<(), CliError> {
    let log = arguments.place.open()?;
    let json = is_json(arguments.output);
    let mut out = BufWriter::new(io::stdout().lock());
    for piece in log.files.pieces() {
        match piece? {
            Piece::Block(block) if arguments.wants(&block) => {
                print_block(&mut out, &block, json)?;
                for (frame, place) in block.frames().filter(|_| !arguments.blocks) {
                    print_frame(&mut out, &frame, place, json)?;
                }
            }
            Piece::Block(_) => {}
            Piece::Moved(frames) => {
                for (frame, place) in
                    frames.iter().filter(|(frame, place)| arguments.wants_moved(frame, *place))
                {
                    print_frame(&mut out, frame, *place, json)?;
                }
            }
            Piece::Absent(blocks) => writeln!(out, "{}", absent_line(&blocks, json))?,
            Piece::Damage(damage) => {
                let line = if json { damage_json(&damage).to_string() } else { damage_text(&damage) };
                writeln!(out, "{line}")?;
                for (frame, place) in damage.saved.iter().filter(|_| !arguments.blocks) {
                    print_frame(&mut out, frame, *place, json)?;
                }
            }
        }
    }
    Ok(out.flush()?)
}

fn print_block(out: &mut impl Write, placed: &PlacedBlock, json: bool) -> io::Result<()> {
    let (header, at) = (placed.block.header(), placed.at);
    if !json {
        return writeln!(
            out,
            "block {} at {}:{}, {} bytes, {} events, served time {}",
            header.number.0, at.segment, at.position, header.length, header.frames, header.served_time
        );
    }
    let line = json!({
        "block": header.number.0,
        "segment": at.segment.to_string(),
        "position": at.position,
        "bytes": header.length,
        "events": header.frames,
        "served_ms": header.served_time.0,
        "last_durable": header.last_durable.0,
    });
    writeln!(out, "{line}")
}

fn print_frame(out: &mut impl Write, frame: &Frame, place: Place, json: bool) -> io::Result<()> {
    let event = event_of(frame).map(|event| format!("{event:?}"));
    let event = event.or_else(|| compacted_of(frame).map(|compacted| format!("Compacted{compacted:?}")));
    let event = event.unwrap_or_else(|| "an event that cannot be read".to_owned());
    if !json {
        return writeln!(out, "  {:<18} {event}", place_text(place));
    }
    let line = json!({
        "block": frame.header.block.0,
        "ordinal": frame.header.ordinal,
        "segment": place.segment.to_string(),
        "position": place.position,
        "payload_bytes": place.length,
        "event": event,
    });
    writeln!(out, "{line}")
}
