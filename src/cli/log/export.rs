//! `semel log export`: a partition's records out of whatever is left of a log.
//!
//! A first pass over the log finds the topic and how its transactions ended, a second one where its batches lie. Records are
//! written in the order of their offsets, deleted ones included as long as they are there; but for what compaction has taken
//! away, since a record without its tombstone would say what is not true any more.

use super::{Progress, Where, compacted_of, damage_text, event_of};
use crate::cli::CliError;
use crate::cli::consume::json_of;
use crate::client::{ConsumedRecord, TopicPartition};
use crate::core::{Compacted, Event, Outcome};
use crate::log::{Frame, LogFiles, Piece, Place};
use crate::types::{Offset, PartitionId, PartitionIndex, ProducerId, TopicId, TopicName, TxnNumber};
use crate::wire::batch::{Batch, BatchLimits};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// `semel log export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    place: Where,
    /// The topic, by its name (the newest one that had it) or its id
    #[arg(long)]
    topic: String,
    /// The partition
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// Only from this offset on
    #[arg(long, value_name = "OFFSET")]
    from_offset: Option<i64>,
    /// Only below this offset
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// What to write
    #[arg(long, value_enum, default_value = "records")]
    format: ExportFormat,
    /// The file to write, which must not exist [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What an export is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A JSON object for each record, with what became of its transaction.
    Records,
    /// Record batches as they are stored, markers included, one after the other: Kafka's own log format.
    Batches,
}

/// What the first pass finds.
#[derive(Debug, Default)]
struct Known {
    topics: HashMap<String, TopicId>,
    outcomes: HashMap<(ProducerId, TxnNumber), Outcome>,
}

impl Known {
    /// What matters of an event to who exports a partition of this number.
    fn learn(&mut self, event: Event, partition: PartitionIndex) {
        match event {
            Event::TopicCreated { id, name, .. } => drop(self.topics.insert(name.as_str().to_owned(), id)),
            Event::MarkerWritten(marker) if marker.partition.index == partition => {
                self.outcomes.insert((marker.producer.id, marker.number), marker.outcome);
            }
            _ => {}
        }
    }

    /// The topic of a name or an id, and what to call it.
    fn topic(&self, wanted: &str) -> Result<(TopicId, TopicName), CliError> {
        let name = TopicName::new(wanted)
            .map_err(|error| CliError::usage(error.to_string(), "name a topic, or give its id"))?;
        let by_id = || uuid::Uuid::parse_str(wanted).ok().map(TopicId);
        let id = self.topics.get(wanted).copied().or_else(by_id).ok_or_else(|| {
            CliError::usage(
                format!("the log does not say what topic {wanted} is"),
                "name the topic by its id: `semel log inspect DIR` shows the ids that the log speaks of",
            )
        })?;
        Ok((id, name))
    }
}

pub(super) fn run(arguments: &ExportArgs) -> Result<(), CliError> {
    let log = arguments.place.open()?;
    let (known, damages) = learn(&log.files, PartitionIndex(arguments.partition))?;
    let (topic, name) = known.topic(&arguments.topic)?;
    let partition = PartitionId::new(topic, PartitionIndex(arguments.partition));
    let stored = find(&log.files, partition)?;
    let out: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(File::create_new(path)?),
        None => Box::new(io::stdout().lock()),
    };
    let name = TopicPartition::new(name, partition.index);
    let offsets = Offset(arguments.from_offset.unwrap_or(0))..Offset(arguments.to_offset.unwrap_or(i64::MAX));
    let mut export = Export { known, name, offsets, out: BufWriter::new(out), batches: 0, records: 0 };
    for stored in stored.into_values() {
        export.write(&log.files, &stored, arguments.format)?;
    }
    export.out.flush()?;
    let Export { records, batches, .. } = export;
    writeln!(
        io::stderr(),
        "exported {batches} batches with {records} records; {damages} places are damaged"
    )?;
    Ok(())
}

/// The first pass: what matters to who exports a partition of this number; and how many places are damaged.
fn learn(files: &LogFiles, partition: PartitionIndex) -> Result<(Known, u64), CliError> {
    let (mut known, mut damages) = (Known::default(), 0);
    let progress = Progress::over(files);
    let mut pieces = files.pieces();
    while let Some(piece) = pieces.next() {
        progress.at(&pieces);
        let piece = piece?;
        if let Piece::Damage(damage) = &piece {
            damages += 1;
            writeln!(io::stderr(), "{}", damage_text(damage))?;
        }
        for event in frames_of(piece).iter().filter_map(|(frame, _)| event_of(frame)) {
            known.learn(event, partition);
        }
    }
    Ok((known, damages))
}

/// The second pass: where the partition's batches lie, by their first offsets. A batch that has been moved may still lie in
/// its old place too.
fn find(files: &LogFiles, partition: PartitionId) -> Result<BTreeMap<Offset, Stored>, CliError> {
    let mut found = BTreeMap::new();
    for piece in files.pieces() {
        for (frame, place) in frames_of(piece?) {
            let stored = match event_of(&frame) {
                Some(Event::BatchAppended(batch)) if batch.partition == partition => {
                    let producer = batch.producer.as_ref();
                    let transaction = producer.and_then(|p| Some((p.identity.id, p.transaction?)));
                    let kind =
                        transaction.map_or(Kind::Plain, |(id, number)| Kind::Transactional(id, number));
                    Stored { place, first: batch.base_offset, last: batch.last_offset(), kind, generation: 0 }
                }
                Some(Event::MarkerWritten(marker)) if marker.partition == partition => {
                    let offset = marker.offset;
                    Stored { place, first: offset, last: offset, kind: Kind::Marker, generation: 0 }
                }
                Some(_) => continue,
                None => match compacted_of(&frame) {
                    Some(compacted) if compacted.range().partition == partition => {
                        compacted_batch(&compacted, place)
                    }
                    _ => continue,
                },
            };
            lay_over(&mut found, stored);
        }
    }
    Ok(found)
}

fn compacted_batch(compacted: &Compacted, place: Place) -> Stored {
    let kind = match compacted {
        Compacted::Batch { producer: None, .. } => Kind::Plain,
        Compacted::Batch { producer: Some(_), .. } => Kind::Committed,
        Compacted::Gap { .. } => Kind::Gap,
    };
    let range = compacted.range();
    Stored { place, first: range.first, last: range.last, kind, generation: range.generation }
}

/// Of several frames for an offset the newest counts, and it covers whole older ones.
fn lay_over(found: &mut BTreeMap<Offset, Stored>, stored: Stored) {
    let before = found.range(..=stored.first).next_back().map(|(_, other)| *other);
    let covered = found.range(stored.first..=stored.last).map(|(_, other)| *other);
    let met: Vec<Stored> =
        before.filter(|other| other.last >= stored.first).into_iter().chain(covered).collect();
    if met.iter().all(|other| other.generation <= stored.generation) {
        for other in met {
            found.remove(&other.first);
        }
        found.insert(stored.first, stored);
    }
}

/// The intact frames of a piece.
fn frames_of(piece: Piece) -> Vec<(Frame, Place)> {
    match piece {
        Piece::Block(block) => block.frames().collect(),
        Piece::Moved(frames) => frames,
        Piece::Damage(damage) => damage.saved,
        Piece::Absent(_) => Vec::new(),
    }
}

/// A batch of the partition.
#[derive(Clone, Copy, Debug)]
struct Stored {
    place: Place,
    first: Offset,
    last: Offset,
    kind: Kind,
    /// 0 as it was appended; higher each time that compaction has written it anew.
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Transactional(ProducerId, TxnNumber),
    /// What compaction has left of a transaction's batch: it was committed.
    Committed,
    Marker,
    /// Compaction has left nothing.
    Gap,
}

/// Writes what has been found.
struct Export<W> {
    known: Known,
    name: TopicPartition,
    offsets: std::ops::Range<Offset>,
    out: W,
    batches: u64,
    records: u64,
}

impl<W: Write> Export<W> {
    fn write(&mut self, files: &LogFiles, stored: &Stored, format: ExportFormat) -> Result<(), CliError> {
        let outside = stored.last < self.offsets.start || stored.first >= self.offsets.end;
        let is_left_out = match stored.kind {
            Kind::Gap => true,
            Kind::Marker => format == ExportFormat::Records,
            Kind::Plain | Kind::Transactional(..) | Kind::Committed => false,
        };
        if outside || is_left_out {
            return Ok(());
        }
        let Some(payload) = files.read(stored.place)? else { return Ok(()) };
        self.batches += 1;
        match format {
            ExportFormat::Batches => Ok(self.out.write_all(&payload)?),
            ExportFormat::Records => self.write_records(payload, stored.kind),
        }
    }

    fn write_records(&mut self, batch: Bytes, kind: Kind) -> Result<(), CliError> {
        let outcome = match kind {
            Kind::Plain | Kind::Marker | Kind::Gap => Value::Null,
            Kind::Committed => json!("committed"),
            Kind::Transactional(id, number) => json!(match self.known.outcomes.get(&(id, number)) {
                Some(Outcome::Commit) => "committed",
                Some(Outcome::Abort) => "aborted",
                None => "unknown",
            }),
        };
        for record in Batch::new(batch)?.records(&BatchLimits::default())? {
            let record = record?;
            if !self.offsets.contains(&record.offset) {
                continue;
            }
            let record = ConsumedRecord {
                partition: self.name.clone(),
                offset: record.offset,
                timestamp: record.timestamp,
                record: record.record,
            };
            let mut line = json_of(&record);
            if let Value::Object(fields) = &mut line {
                fields.insert("transaction".to_owned(), outcome.clone());
            }
            writeln!(self.out, "{line}")?;
            self.records += 1;
        }
        Ok(())
    }
}
