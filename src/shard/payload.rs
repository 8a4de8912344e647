//! What travels behind an event in the log, and what the index says of it. Offsets and times are decided in `core`; here
//! they are written into the bytes.

use crate::core::{Compacted, CompactedRange, Event, Outcome};
use crate::log::Place;
use crate::store::{Cleaned, IndexEntry, IndexKind};
use crate::types::codec::{Codec, CodecError};
use crate::types::{LeaderEpoch, Offset, PartitionId, Timestamp};
use crate::wire::batch::{
    BatchError, Marker, MarkerOutcome, control_batch, rewrite_base, rewrite_log_append_time,
};
use bytes::Bytes;

/// On one node the coordinator is always the same one.
const COORDINATOR_EPOCH: i32 = 0;

/// The control batch that a `MarkerWritten` stands for; nothing for any other event.
pub(super) fn marker_batch(event: &Event, leader_epoch: LeaderEpoch) -> Result<Bytes, BatchError> {
    let Event::MarkerWritten(marker) = event else { return Ok(Bytes::new()) };
    let outcome = match marker.outcome {
        Outcome::Commit => MarkerOutcome::Commit,
        Outcome::Abort => MarkerOutcome::Abort,
    };
    let marker = Marker {
        outcome,
        producer_id: marker.producer.id,
        producer_epoch: marker.producer.epoch,
        offset: marker.offset,
        timestamp: marker.timestamp,
        coordinator_epoch: COORDINATOR_EPOCH,
    };
    control_batch(&marker, leader_epoch)
}

/// Writes into a batch what was decided of it: its first offset, the leader epoch, and the time of its append where the topic
/// wants that.
pub(super) fn rewrite(event: &Event, batch: &mut [u8], leader_epoch: LeaderEpoch) -> Result<(), BatchError> {
    let Event::BatchAppended(appended) = event else { return Ok(()) };
    if let Some(time) = appended.append_time {
        rewrite_log_append_time(batch, time)?;
    }
    rewrite_base(batch, appended.base_offset, leader_epoch)
}

/// The index entry of a frame, whatever is in it: an event, or what compaction has written.
pub(super) fn frame_entry(
    frame: &[u8],
    place: Place,
) -> Result<Option<(PartitionId, Offset, IndexEntry)>, CodecError> {
    if Compacted::is_in(frame) {
        return Compacted::from_bytes(frame).map(|compacted| Some(compacted_entry(&compacted, place)));
    }
    Event::from_bytes(frame).map(|event| index_entry(&event, place))
}

/// The index entry of what compaction has written.
fn compacted_entry(compacted: &Compacted, place: Place) -> (PartitionId, Offset, IndexEntry) {
    let CompactedRange { partition, first, last, before, bytes, generation } = *compacted.range();
    let cleaned = Cleaned { generation, bytes };
    let (max_timestamp, kind) = match compacted {
        Compacted::Batch { max_timestamp, producer, .. } => {
            (*max_timestamp, IndexKind::Rewritten { producer: *producer, cleaned })
        }
        Compacted::Gap { .. } => (Timestamp::NONE, IndexKind::Gap { cleaned }),
    };
    (partition, last, IndexEntry { base_offset: first, place, max_timestamp, before, kind })
}

/// Where an event's batch is to be found, and what it is: (partition, last offset, entry). None if it has no batch.
pub(super) fn index_entry(event: &Event, place: Place) -> Option<(PartitionId, Offset, IndexEntry)> {
    match event {
        Event::BatchAppended(batch) => {
            let kind = match &batch.producer {
                Some(append) if append.transaction.is_some() => {
                    IndexKind::Transactional { producer: append.identity.id }
                }
                _ => IndexKind::Plain,
            };
            let entry = IndexEntry {
                base_offset: batch.base_offset,
                place,
                max_timestamp: batch.max_timestamp,
                before: batch.before,
                kind,
            };
            Some((batch.partition, batch.last_offset(), entry))
        }
        Event::MarkerWritten(marker) => {
            let kind = IndexKind::Marker { producer: marker.producer.id, outcome: marker.outcome };
            let entry = IndexEntry {
                base_offset: marker.offset,
                place,
                max_timestamp: marker.timestamp,
                before: marker.before,
                kind,
            };
            Some((marker.partition, marker.offset, entry))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Identity, MARKER_BYTES, MarkerWritten, Totals};
    use crate::types::*;
    use uuid::Uuid;

    #[test]
    fn a_marker_is_as_long_as_the_state_machine_counts_it() {
        for outcome in [Outcome::Commit, Outcome::Abort] {
            let marker = Event::MarkerWritten(MarkerWritten {
                partition: PartitionId::new(TopicId(Uuid::nil()), PartitionIndex(0)),
                offset: Offset(i64::MAX - 1),
                before: Totals::default(),
                producer: Identity { id: ProducerId(i64::MAX), epoch: ProducerEpoch(i16::MAX) },
                number: TxnNumber(u64::MAX),
                outcome,
                timestamp: Timestamp(i64::MAX),
            });
            assert_eq!(
                marker_batch(&marker, LeaderEpoch(3)).unwrap().len(),
                usize::try_from(MARKER_BYTES).unwrap()
            );
        }
    }
}
