//! Which of the fetched batches a reader may see.

use super::Isolation;
use crate::types::{Offset, ProducerId};
use crate::wire::batch::{Batch, BatchError, Batches, Marker, MarkerOutcome};
use crate::wire::messages::AbortedTransaction;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

/// The batches of an answer that a reader may see, and where to read on.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) batches: VecDeque<Batch>,
    /// The offset after the last batch, seen or not; none if there was no whole batch.
    pub(super) next: Option<Offset>,
}

/// Leaves out control batches and, for `read_committed`, the batches of aborted transactions.
///
/// The answer lists aborted transactions by producer and first offset. From that offset on the producer's transactional
/// batches are skipped, until its abort marker. Most brokers leave the skipping to the client; semel sends no aborted
/// batch in the first place, and its list only accounts for the markers.
pub(super) fn visible(
    records: Bytes,
    aborted: Vec<AbortedTransaction>,
    isolation: Isolation,
) -> Result<Visible, BatchError> {
    let mut aborted: VecDeque<_> = sorted(aborted).into();
    let mut skipped: BTreeSet<ProducerId> = BTreeSet::new();
    let mut visible = Visible { batches: VecDeque::new(), next: None };
    for batch in Batches::new(records) {
        let batch = batch?;
        visible.next = Some(batch.header.next_offset());
        if batch.header.control {
            // Mostly there is nothing that a marker could end.
            let matters = !(aborted.is_empty() && skipped.is_empty());
            if matters && Marker::parse(&batch).is_ok_and(|marker| marker.outcome == MarkerOutcome::Abort) {
                // Entries that begin at the marker itself account for nothing but it.
                begin_skipping(&mut aborted, &mut skipped, batch.header.last_offset());
                skipped.remove(&batch.header.producer_id);
            }
            continue;
        }
        if isolation == Isolation::ReadCommitted {
            begin_skipping(&mut aborted, &mut skipped, batch.header.last_offset());
            if batch.header.transactional && skipped.contains(&batch.header.producer_id) {
                continue;
            }
        }
        visible.batches.push_back(batch);
    }
    Ok(visible)
}

fn sorted(mut aborted: Vec<AbortedTransaction>) -> Vec<AbortedTransaction> {
    aborted.sort_by_key(|transaction| transaction.first_offset);
    aborted
}

fn begin_skipping(
    aborted: &mut VecDeque<AbortedTransaction>,
    skipped: &mut BTreeSet<ProducerId>,
    up_to: Offset,
) {
    while let Some(transaction) = aborted.front().filter(|transaction| transaction.first_offset <= up_to.0) {
        skipped.insert(ProducerId(transaction.producer_id));
        aborted.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderEpoch, ProducerEpoch, Sequence, SequenceRange, Timestamp};
    use crate::wire::batch::{
        BatchBuilder, BatchProducer, Compression, ProducerBatch, Record, control_batch, rewrite_base,
    };
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn batch(offset: i64, producer: Option<i64>) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        let record = Record { value: Some("x".into()), ..Record::default() };
        builder.append(Timestamp(1), &record).unwrap();
        let producer = producer.map_or(BatchProducer::Anonymous, |id| {
            BatchProducer::Transactional(ProducerBatch {
                id: ProducerId(id),
                epoch: ProducerEpoch(0),
                sequences: SequenceRange::starting_at(Sequence::FIRST, 1),
            })
        });
        let mut bytes = BytesMut::from(&builder.build(Compression::None, producer).unwrap()[..]);
        rewrite_base(&mut bytes, Offset(offset), LeaderEpoch(0)).unwrap();
        bytes.freeze()
    }

    fn marker(offset: i64, producer: i64, outcome: MarkerOutcome) -> Bytes {
        let marker = Marker {
            outcome,
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(1),
            offset: Offset(offset),
            timestamp: Timestamp(2),
            coordinator_epoch: 0,
        };
        control_batch(&marker, LeaderEpoch(0)).unwrap()
    }

    /// A log of several producers' transactions: what each step appends.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Plain,
        Append(i64),
        End(i64, bool),
    }

    struct Log {
        bytes: BytesMut,
        aborted: Vec<AbortedTransaction>,
        committed: Vec<i64>,
        all: Vec<i64>,
        next: i64,
    }

    /// Writes the steps. `dropping` leaves out what was aborted and lists markers only, as semel does.
    fn write(steps: &[Step], dropping: bool) -> Log {
        let ends = |at: usize, producer| {
            steps[at..].iter().find_map(|step| match step {
                Step::End(who, committed) if *who == producer => Some(*committed),
                _ => None,
            })
        };
        let mut log =
            Log { bytes: BytesMut::new(), aborted: vec![], committed: vec![], all: vec![], next: 0 };
        let mut open = std::collections::BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            let offset = log.next;
            match *step {
                Step::Plain => {
                    log.bytes.extend_from_slice(&batch(offset, None));
                    log.committed.push(offset);
                    log.all.push(offset);
                }
                Step::Append(producer) => {
                    // What is still open at the end lies above the last stable offset: not in an answer.
                    let Some(committed) = ends(at, producer) else { continue };
                    if committed {
                        log.committed.push(offset);
                    } else {
                        open.entry(producer).or_insert(offset);
                    }
                    if committed || !dropping {
                        log.bytes.extend_from_slice(&batch(offset, Some(producer)));
                        log.all.push(offset);
                    }
                }
                Step::End(producer, committed) => {
                    let outcome = if committed { MarkerOutcome::Commit } else { MarkerOutcome::Abort };
                    log.bytes.extend_from_slice(&marker(offset, producer, outcome));
                    if !committed {
                        let first = open.remove(&producer).filter(|_| !dropping).unwrap_or(offset);
                        log.aborted.push(AbortedTransaction { producer_id: producer, first_offset: first });
                    }
                }
            }
            log.next += 1;
        }
        log
    }

    fn offsets(visible: &Visible) -> Vec<i64> {
        visible.batches.iter().map(|batch| batch.header.base_offset.0).collect()
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Plain),
            (0..4_i64).prop_map(Step::Append),
            (0..4_i64, any::<bool>()).prop_map(|(producer, committed)| Step::End(producer, committed)),
        ]
    }

    proptest! {
        #[test]
        fn exactly_the_committed_records_are_seen(steps in proptest::collection::vec(step(), 1..60), dropping in any::<bool>()) {
            let log = write(&steps, dropping);
            let bytes = log.bytes.freeze();
            let committed = visible(bytes.clone(), log.aborted.clone(), Isolation::ReadCommitted).unwrap();
            prop_assert_eq!(offsets(&committed), log.committed);
            let all = visible(bytes, vec![], Isolation::ReadUncommitted).unwrap();
            prop_assert_eq!(offsets(&all), log.all);
            prop_assert_eq!(all.next, committed.next);
        }
    }

    #[test]
    fn a_batch_that_is_cut_off_is_left_for_the_next_fetch() {
        let mut bytes = BytesMut::from(&batch(0, None)[..]);
        bytes.extend_from_slice(&batch(1, None)[..40]);
        let seen = visible(bytes.freeze(), vec![], Isolation::ReadCommitted).unwrap();
        assert_eq!((offsets(&seen), seen.next), (vec![0], Some(Offset(1))));
    }
}
