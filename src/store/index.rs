//! The index: where a partition's batches lie in the log, and what a reader must know to skip one without reading it.

use crate::core::{Outcome, Totals};
use crate::log::Place;
use crate::types::*;
use crate::{codec, codec_enum};

/// One batch of a partition, or where nothing is left of some. Its key holds the last offset.
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
    /// What compaction has left of a batch: records outside any transaction, or of one that was committed.
    Rewritten {
        /// Whose transaction, if of one.
        producer: Option<ProducerId>,
        /// What compaction says of it.
        cleaned: Cleaned,
    },
    /// Compaction has left nothing. Its frame has no payload: nothing is there to be read.
    Gap {
        /// What compaction says of it.
        cleaned: Cleaned,
    },
}
codec_enum!(IndexKind {
    0 => Plain,
    1 => Transactional { producer },
    2 => Marker { producer, outcome },
    3 => Rewritten { producer, cleaned },
    4 => Gap { cleaned }
});

/// What compaction has to say of an entry that it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Which of its files it was first written to: of several frames for an offset the newest counts.
    pub generation: u64,
    /// Bytes of the batches that it stands for, as they were appended.
    pub bytes: u64,
}
codec!(Cleaned { generation, bytes });

impl IndexKind {
    /// What compaction says of the entry, if it has written it.
    #[must_use]
    pub fn cleaned(&self) -> Option<Cleaned> {
        match self {
            IndexKind::Rewritten { cleaned, .. } | IndexKind::Gap { cleaned } => Some(*cleaned),
            IndexKind::Plain | IndexKind::Transactional { .. } | IndexKind::Marker { .. } => None,
        }
    }

    /// 0 for what is as it was appended.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.cleaned().map_or(0, |cleaned| cleaned.generation)
    }

    /// Whether nothing is there to be read.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(self, IndexKind::Gap { .. })
    }
}

impl IndexEntry {
    /// Bytes of the batches that it stands for, as they were appended.
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.kind.cleaned().map_or(u64::from(self.place.length), |cleaned| cleaned.bytes)
    }

    /// Bytes that compaction has taken away.
    #[must_use]
    pub fn removed_bytes(&self) -> u64 {
        self.appended_bytes().saturating_sub(u64::from(self.place.length))
    }
}
