//! The index: where a partition's batches lie in the log, and what a reader must know to skip one without reading it.

use crate::core::{Outcome, Totals};
use crate::log::Place;
use crate::types::*;
use crate::{codec, codec_enum};

/// One batch of a partition. Its key holds the batch's last offset.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexEntry {
    /// The batch's first offset.
    pub base_offset: Offset,
    /// Where the batch lies.
    pub place: Place,
    /// The newest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// The partition's batches before it: what is searched by time and by bytes.
    pub before: Totals,
    /// What it is.
    pub kind: IndexKind,
}
codec!(Place { segment, position, length, checksum });
codec!(IndexEntry { base_offset, place, max_timestamp, before, kind });

/// What a batch is, to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Records outside any transaction.
    Plain,
    /// Records of a transaction of this producer.
    Transactional {
        /// Whose.
        producer: ProducerId,
    },
    /// The end of this producer's transaction here. Readers of committed records get a word on each abort.
    Marker {
        /// Whose.
        producer: ProducerId,
        /// How it ended.
        outcome: Outcome,
    },
}
codec_enum!(IndexKind { 0 => Plain, 1 => Transactional { producer }, 2 => Marker { producer, outcome } });
