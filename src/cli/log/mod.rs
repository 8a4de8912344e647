//! `semel log`: looks into the log of a broker that does not run. Nothing is changed.

mod export;
mod inspect;
pub(super) mod verify;

use super::CliError;
use super::output::Progress;
use crate::core::{Compacted, Event};
use crate::log::{Damage, DirectoryLock, Frame, LogFiles, Pieces, Place, RealDisk};
use crate::shard::Manifest;
use crate::types::codec::Codec;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::PathBuf;

/// What to do with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Check every checksum and say what is there
    Verify(verify::VerifyArgs),
    /// Print blocks and events
    Inspect(inspect::InspectArgs),
    /// Write the intact records of a partition, whatever else is damaged
    Export(export::ExportArgs),
}

pub(super) fn run(command: LogCommand) -> Result<(), CliError> {
    match command {
        LogCommand::Verify(arguments) => verify::run(&arguments),
        LogCommand::Inspect(arguments) => inspect::run(&arguments),
        LogCommand::Export(arguments) => export::run(&arguments),
    }
}

/// Where the log is.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The data directory of a broker that does not run, a backup, or a copy of its `log` directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// A log that nobody else writes to meanwhile.
pub(super) struct Opened {
    pub(super) files: LogFiles,
    _lock: Option<DirectoryLock>,
}

impl Where {
    pub(super) fn new(dir: PathBuf) -> Where {
        Where { dir }
    }

    pub(super) fn open(&self) -> Result<Opened, CliError> {
        let inside = self.dir.join("log");
        // A data directory is a broker's to lock; a copy of the log alone is nobody's.
        let (dir, lock) = match inside.is_dir() {
            // Nobody writes to a backup.
            true if Manifest::is_in(&self.dir) => (inside, None),
            true => (inside, Some(DirectoryLock::take(&self.dir)?)),
            false => (self.dir.clone(), None),
        };
        Ok(Opened { files: LogFiles::open(&RealDisk, &dir)?, _lock: lock })
    }
}

impl Progress {
    fn over(files: &LogFiles) -> Progress {
        Progress::of_bytes(files.files().iter().map(|file| u64::from(file.length)).sum())
    }

    fn at(&self, pieces: &Pieces<'_>) {
        self.reach(pieces.bytes_read());
    }
}

/// An event of a frame; none if this version cannot read it, or if compaction has written the frame.
fn event_of(frame: &Frame) -> Option<Event> {
    Event::from_bytes(&frame.event).ok()
}

/// What compaction has written into a frame; none if it was not compaction.
fn compacted_of(frame: &Frame) -> Option<Compacted> {
    Compacted::from_bytes(&frame.event).ok()
}

fn damage_json(damage: &Damage) -> Value {
    json!({
        "damaged": damage.path.display().to_string(),
        "from_byte": damage.bytes.start,
        "to_byte": damage.bytes.end,
        "from_block": damage.blocks.start,
        "to_block": damage.blocks.end,
        "saved_frames": damage.saved.len(),
    })
}

fn damage_text(damage: &Damage) -> String {
    let place = format!("{}, bytes {} to {}", damage.path.display(), damage.bytes.start, damage.bytes.end);
    if damage.blocks.is_empty() {
        return format!("{place}: not intact");
    }
    let (first, last) = (damage.blocks.start, damage.blocks.end - 1);
    let blocks = if first == last { format!("block {first}") } else { format!("blocks {first} to {last}") };
    format!("{place}: {blocks} not intact; {} records or events in it are", damage.saved.len())
}

/// Blocks that are not there, which is no damage where they have been freed.
fn absent_line(blocks: &Range<u64>, json: bool) -> String {
    match json {
        true => json!({"absent": "freed, or lost", "from_block": blocks.start, "to_block": blocks.end})
            .to_string(),
        false => format!("blocks {} to {} are not there: freed, or lost", blocks.start, blocks.end - 1),
    }
}

/// Where a frame is, as `SEGMENT:BYTE`.
fn place_text(place: Place) -> String {
    format!("{}:{}", place.segment, place.position)
}

/// People look at a terminal; everything else is a program.
pub(super) fn is_json(output: Option<super::topic::TableFormat>) -> bool {
    match output {
        Some(format) => format == super::topic::TableFormat::Json,
        None => !io::stdout().is_terminal(),
    }
}
