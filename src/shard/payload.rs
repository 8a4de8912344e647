//! What travels behind an event in the log, and what the index says of it. Offsets and times are decided in `core`; here
//! they are written into the bytes.

use crate::core::{Compacted, CompactedRange, Event, MarkerWritten, Outcome};
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

/// The control batches that `MarkerWritten` events stand for. Those of one transaction differ in their offsets alone, which
/// are not in the checksum and are written where the batch lies ([`rewrite`]): so one is made for all of them.
pub(super) struct Markers {
    leader_epoch: LeaderEpoch,
    /// The last one, and what it was made of.
    last: Option<(Marker, Bytes)>,
}

impl Markers {
    pub(super) fn new(leader_epoch: LeaderEpoch) -> Markers {
        Markers { leader_epoch, last: None }
    }

    /// A marker's batch, but for its offset.
    pub(super) fn batch(&mut self, written: &MarkerWritten) -> Result<Bytes, BatchError> {
        let outcome = match written.outcome {
            Outcome::Commit => MarkerOutcome::Commit,
            Outcome::Abort => MarkerOutcome::Abort,
        };
        let marker = Marker {
            outcome,
            producer_id: written.producer.id,
            producer_epoch: written.producer.epoch,
            offset: Offset::ZERO,
            timestamp: written.timestamp,
            coordinator_epoch: COORDINATOR_EPOCH,
        };
        if let Some((last, batch)) = &self.last
            && *last == marker
        {
            return Ok(batch.clone());
        }
        let batch = control_batch(&marker, self.leader_epoch)?;
        self.last = Some((marker, batch.clone()));
        Ok(batch)
    }
}

/// Writes into a batch, or a marker, what was decided of it: its first offset, the leader epoch, and the time of its append
/// where the topic wants that.
pub(super) fn rewrite(event: &Event, batch: &mut [u8], leader_epoch: LeaderEpoch) -> Result<(), BatchError> {
    match event {
        Event::BatchAppended(appended) => {
            if let Some(time) = appended.append_time {
                rewrite_log_append_time(batch, time)?;
            }
            rewrite_base(batch, appended.base_offset, leader_epoch)
        }
        Event::MarkerWritten(marker) => rewrite_base(batch, marker.offset, leader_epoch),
        _ => Ok(()),
    }
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
    use crate::core::{Identity, MARKER_BYTES, Totals};
    use crate::types::*;
    use uuid::Uuid;

    fn written(outcome: Outcome, offset: i64, id: i64) -> MarkerWritten {
        MarkerWritten {
            partition: PartitionId::new(TopicId(Uuid::nil()), PartitionIndex(0)),
            offset: Offset(offset),
            before: Totals::default(),
            producer: Identity { id: ProducerId(id), epoch: ProducerEpoch(i16::MAX) },
            number: TxnNumber(u64::MAX),
            outcome,
            timestamp: Timestamp(i64::MAX),
        }
    }

    #[test]
    fn a_marker_is_as_long_as_the_state_machine_counts_it() {
        for outcome in [Outcome::Commit, Outcome::Abort] {
            let marker = written(outcome, i64::MAX - 1, i64::MAX);
            assert_eq!(
                Markers::new(LeaderEpoch(3)).batch(&marker).unwrap().len(),
                usize::try_from(MARKER_BYTES).unwrap()
            );
        }
    }

    #[test]
    fn a_marker_that_is_made_of_another_one_is_as_one_that_is_made_for_itself() {
        let mut markers = Markers::new(LeaderEpoch(3));
        let all = [
            (Outcome::Commit, 1, 7),
            (Outcome::Commit, 9, 7),
            (Outcome::Abort, 9, 7),
            (Outcome::Abort, 9, 8),
        ];
        for (outcome, offset, id) in all {
            let marker = written(outcome, offset, id);
            let mut batch = markers.batch(&marker).unwrap().to_vec();
            let event = Event::MarkerWritten(marker);
            rewrite(&event, &mut batch, LeaderEpoch(3)).unwrap();
            let outcome =
                if outcome == Outcome::Commit { MarkerOutcome::Commit } else { MarkerOutcome::Abort };
            let alone = Marker {
                outcome,
                producer_id: ProducerId(id),
                producer_epoch: ProducerEpoch(i16::MAX),
                offset: Offset(offset),
                timestamp: Timestamp(i64::MAX),
                coordinator_epoch: COORDINATOR_EPOCH,
            };
            assert_eq!(batch, control_batch(&alone, LeaderEpoch(3)).unwrap());
        }
    }
}
