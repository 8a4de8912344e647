//! `semel log`: looks into the log of a broker that does not run. Nothing is changed.

mod export;
mod inspect;
mod verify;

use super::CliError;
use crate::core::{Compacted, Event};
use crate::log::{Damage, DirectoryLock, Frame, LogFiles, Pieces, Place, RealDisk};
use crate::types::codec::Codec;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
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
struct Where {
    /// The data directory of a broker that does not run, or a copy of its `log` directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// A log that nobody else writes to meanwhile.
struct Opened {
    files: LogFiles,
    _lock: Option<DirectoryLock>,
}

impl Where {
    fn open(&self) -> Result<Opened, CliError> {
        let inside = self.dir.join("log");
        // A data directory is a broker's to lock; a copy of the log alone is nobody's.
        let (dir, lock) = match inside.is_dir() {
            true => (inside, Some(DirectoryLock::take(&self.dir)?)),
            false => (self.dir.clone(), None),
        };
        Ok(Opened { files: LogFiles::open(&RealDisk, &dir)?, _lock: lock })
    }
}

/// How far a tool has come, for who looks at it.
struct Progress(ProgressBar);

impl Progress {
    fn over(files: &LogFiles) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(files.files().iter().map(|file| u64::from(file.length)).sum());
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn at(&self, pieces: &Pieces<'_>) {
        self.0.set_position(pieces.bytes_read());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
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
fn is_json(output: Option<super::topic::TableFormat>) -> bool {
    match output {
        Some(format) => format == super::topic::TableFormat::Json,
        None => !io::stdout().is_terminal(),
    }
}
