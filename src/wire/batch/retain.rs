//! Leaving records out of a stored batch, as compaction does: what is left stays byte for byte as it was written.

use super::{Batch, BatchBuilder, BatchError, BatchHeader, BatchLimits, FetchedRecord};
use crate::types::Timestamp;
use bytes::Bytes;

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// Every record: the batch as it is.
    All,
    /// Some: the batch without the others, and the newest timestamp of those that are left. Base offset, last offset
    /// delta, producer and sequences are those of the whole batch, so its offsets have holes.
    Some {
        /// The batch.
        batch: Bytes,
        /// The newest timestamp in it.
        max_timestamp: Timestamp,
    },
    /// No record.
    Nothing,
}

/// Leaves out the records of a batch for which `keep` says no; they are compressed again as they were.
pub fn retain(
    batch: &Batch,
    limits: &BatchLimits,
    mut keep: impl FnMut(&FetchedRecord) -> bool,
) -> Result<Retained, BatchError> {
    let mut records = batch.records(limits)?;
    let mut kept = BatchBuilder::new(batch.bytes.len());
    let mut max_timestamp = Timestamp::NONE;
    let mut start = records.position();
    while let Some(record) = records.next() {
        let record = record?;
        let end = records.position();
        if keep(&record) {
            kept.append_encoded(records.encoded(start..end))?;
            max_timestamp = max_timestamp.max(record.timestamp);
        }
        start = end;
    }
    let record_count = i32::try_from(kept.record_count()).unwrap_or(i32::MAX);
    if record_count == batch.header.record_count {
        return Ok(Retained::All);
    }
    if kept.is_empty() {
        return Ok(Retained::Nothing);
    }
    let header = BatchHeader { record_count, max_timestamp, ..batch.header };
    Ok(Retained::Some { batch: kept.finish(&header)?, max_timestamp })
}
