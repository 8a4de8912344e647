//! The plan against a naive reader of the same partition.

use super::*;
use crate::core::Totals;
use crate::log::SegmentNumber;
use crate::store::Cleaned;
use crate::types::{HashMap, Timestamp};
use proptest::prelude::*;
use std::convert::Infallible;

/// What happens in a partition, in order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plain {
        records: i64,
        length: u32,
    },
    Append {
        producer: i64,
        records: i64,
        length: u32,
    },
    End {
        producer: i64,
        commit: bool,
    },
    /// Compaction has left nothing of some offsets.
    Gap {
        records: i64,
    },
}

/// A batch, and whether a committed reader sees it, as the history says.
#[derive(Clone, Debug)]
struct Written {
    last: Offset,
    entry: IndexEntry,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Visible,
    Aborted,
    Open,
    Gone,
}

#[derive(Debug, Default)]
struct Partition {
    written: Vec<Written>,
    aborted: Vec<(ProducerId, Offset, Offset)>,
    open: HashMap<i64, Offset>,
    next: i64,
}

const MARKER_LENGTH: u32 = 78;

impl Partition {
    fn of(steps: &[Step]) -> Partition {
        let mut partition = Partition::default();
        for step in steps {
            partition.apply(*step);
        }
        partition
    }

    fn write(&mut self, records: i64, length: u32, kind: IndexKind, fate: Fate) -> Offset {
        let base = Offset(self.next);
        self.next += records;
        let place = Place {
            segment: SegmentNumber(1),
            position: u32::try_from(base.0).unwrap(),
            length,
            checksum: 0,
        };
        let entry = IndexEntry {
            base_offset: base,
            place,
            max_timestamp: Timestamp(0),
            before: Totals::default(),
            kind,
        };
        self.written.push(Written { last: Offset(self.next - 1), entry, fate });
        base
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Plain { records, length } => {
                self.write(records, length, IndexKind::Plain, Fate::Visible);
            }
            Step::Gap { records } => {
                let cleaned = Cleaned { generation: 1, bytes: 9 };
                self.write(records, 0, IndexKind::Gap { cleaned }, Fate::Gone);
            }
            Step::Append { producer, records, length } => {
                let kind = IndexKind::Transactional { producer: ProducerId(producer) };
                let base = self.write(records, length, kind, Fate::Open);
                self.open.entry(producer).or_insert(base);
            }
            Step::End { producer, commit } => {
                let producer_id = ProducerId(producer);
                let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
                let kind = IndexKind::Marker { producer: producer_id, outcome };
                let marker = self.write(1, MARKER_LENGTH, kind, Fate::Visible);
                let Some(first) = self.open.remove(&producer) else { return };
                let fate = if commit { Fate::Visible } else { Fate::Aborted };
                let own = IndexKind::Transactional { producer: producer_id };
                for written in self.written.iter_mut().filter(|w| w.entry.kind == own && w.fate == Fate::Open)
                {
                    written.fate = fate;
                }
                if !commit {
                    self.aborted.push((producer_id, first, marker));
                }
            }
        }
    }

    fn last_stable_offset(&self) -> Offset {
        self.open.values().copied().min().unwrap_or(Offset(self.next))
    }
}

impl Rows for Partition {
    type Error = Infallible;

    fn batches(&self, offset: Offset, count: usize) -> Result<Few<(Offset, IndexEntry)>, Infallible> {
        let from = self.written.iter().filter(|written| written.last >= offset);
        Ok(from.take(count).map(|written| (written.last, written.entry.clone())).collect())
    }

    fn next_aborted(
        &self,
        producer: ProducerId,
        offset: Offset,
    ) -> Result<Option<(Offset, Offset)>, Infallible> {
        let own = self.aborted.iter().filter(|(id, _, marker)| *id == producer && *marker >= offset);
        Ok(own.map(|(_, first, marker)| (*first, *marker)).min_by_key(|(_, marker)| *marker))
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..4_i64, 1..4_i64, 1..200_u32).prop_map(|(producer, records, length)| Step::Append {
        producer,
        records,
        length,
    });
    let plain = (1..4_i64, 1..200_u32).prop_map(|(records, length)| Step::Plain { records, length });
    let end = (0..4_i64, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit });
    let gap = (1..4_i64).prop_map(|records| Step::Gap { records });
    prop::collection::vec(prop_oneof![4 => append, 1 => plain, 2 => end, 1 => gap], 0..60)
}

fn scan_to_the_end(scan: &mut Scan, rows: &Partition, end: Offset, slice: usize, room: &mut Room) -> Halt {
    loop {
        let Ok(halt) = scan.advance(rows, end, slice, room);
        if halt != Halt::Slice {
            return halt;
        }
    }
}

proptest! {
    #[test]
    fn a_committed_reader_gets_what_the_history_says(
        steps in steps(), start in 0..120_i64, limit in 0..3_000_usize, answer in 0..3_000_usize, slice in 1..80_usize,
    ) {
        let partition = Partition::of(&steps);
        let end = partition.last_stable_offset();
        let (mut scan, mut room) = (Scan::new(true, Offset(start), limit), Room::new(answer));
        let halt = scan_to_the_end(&mut scan, &partition, end, slice, &mut room);

        let (mut expected, mut bytes, mut full) = (Vec::new(), 0_usize, false);
        for written in partition.written.iter().filter(|w| w.last >= Offset(start) && w.entry.base_offset < end) {
            prop_assert_ne!(written.fate, Fate::Open, "below the last stable offset everything is decided");
            if matches!(written.fate, Fate::Aborted | Fate::Gone) {
                continue;
            }
            let length = written.entry.place.length as usize;
            if !expected.is_empty() && bytes + length > limit.min(answer) {
                full = true;
                break;
            }
            bytes += length;
            expected.push(written.clone());
        }
        let bases = |kept: &[Kept]| kept.iter().map(|kept| kept.base).collect::<Vec<_>>();
        prop_assert_eq!(bases(&scan.kept), expected.iter().map(|w| w.entry.base_offset).collect::<Vec<_>>());
        prop_assert_eq!(scan.kept_bytes, bytes);
        prop_assert_eq!(halt, if full { Halt::Full } else { Halt::End });

        let aborts = expected.iter().filter_map(|written| match written.entry.kind {
            IndexKind::Marker { producer, outcome: Outcome::Abort } => Some(Abort { producer, marker: written.last }),
            _ => None,
        });
        prop_assert_eq!(&scan.aborts, &aborts.collect::<Vec<_>>());
        prop_assert!(scan.aborts.is_sorted_by_key(|abort| abort.marker));
    }

    #[test]
    fn no_partition_waits_for_what_others_have_beyond_their_share(
        lengths in prop::collection::vec(prop::collection::vec(1..200_u32, 0..40), 1..10),
        answer in 200..6_000_usize, limit in 200..2_000_usize,
    ) {
        let plain = |length: &u32| Step::Plain { records: 1, length: *length };
        let partitions: Vec<_> =
            lengths.iter().map(|lengths| Partition::of(&lengths.iter().map(plain).collect::<Vec<_>>())).collect();
        let mut scans: Vec<_> = partitions.iter().map(|_| (Scan::new(true, Offset(0), limit), Halt::Slice)).collect();
        let (mut room, all) = (Room::shared(answer, partitions.len()), (0..partitions.len()).collect::<Vec<_>>());
        let Ok(()) = room.divide(&all, |index, room| {
            let (partition, (scan, halt)) = (&partitions[index], &mut scans[index]);
            *halt = scan_to_the_end(scan, partition, Offset(partition.next), 7, room);
            Ok::<_, Infallible>(*halt)
        });
        let kept: usize = scans.iter().map(|(scan, _)| scan.kept_bytes).sum();
        prop_assert!(kept <= answer);
        let longest = lengths.iter().filter_map(|lengths| lengths.first()).max().map_or(0, |length| *length as usize);
        let share = answer / partitions.len();
        let mut without_room = false;
        for (lengths, (scan, halt)) in lengths.iter().zip(&scans) {
            let Some(next) = lengths.get(scan.kept.len()).map(|length| *length as usize) else {
                prop_assert_eq!(*halt, Halt::End);
                continue;
            };
            prop_assert_eq!(*halt, Halt::Full);
            let wanted = scan.kept_bytes + next;
            // First batches may take what was another's.
            prop_assert!(wanted > share.min(limit) || longest > share, "{} bytes of a share of {}", wanted, share);
            prop_assert!(wanted > limit || kept + next > answer, "there was room for {} bytes more", next);
            without_room |= kept + next > answer && wanted <= limit;
        }
        prop_assert!(room.full || !without_room);
    }

    #[test]
    fn an_uncommitted_reader_gets_everything_and_no_list(steps in steps(), start in 0..120_i64) {
        let partition = Partition::of(&steps);
        let (mut scan, mut room) = (Scan::new(false, Offset(start), usize::MAX), Room::new(usize::MAX));
        let halt = scan_to_the_end(&mut scan, &partition, Offset(partition.next), 7, &mut room);
        prop_assert_eq!(halt, Halt::End);
        let there = |w: &&Written| w.last >= Offset(start) && w.fate != Fate::Gone;
        prop_assert_eq!(scan.kept.len(), partition.written.iter().filter(there).count());
        prop_assert!(scan.aborts.is_empty());
    }

    #[test]
    fn a_scan_that_goes_on_with_a_newer_view_misses_nothing(steps in steps(), cut in 0..60_usize) {
        let (early, late) = (Partition::of(&steps[..cut.min(steps.len())]), Partition::of(&steps));
        let (mut scan, mut room) = (Scan::new(true, Offset(0), usize::MAX), Room::new(usize::MAX));
        scan_to_the_end(&mut scan, &early, early.last_stable_offset(), 5, &mut room);
        scan_to_the_end(&mut scan, &late, late.last_stable_offset(), 5, &mut room);
        let (mut whole, mut room) = (Scan::new(true, Offset(0), usize::MAX), Room::new(usize::MAX));
        scan_to_the_end(&mut whole, &late, late.last_stable_offset(), 1_000, &mut room);
        prop_assert_eq!(scan.kept, whole.kept);
        prop_assert_eq!(scan.aborts, whole.aborts);
    }
}

#[test]
fn the_first_batch_of_an_answer_is_whole_and_the_next_partition_waits() {
    let partition =
        Partition::of(&[Step::Plain { records: 1, length: 1_000 }, Step::Plain { records: 1, length: 10 }]);
    let mut room = Room::new(100);
    let mut first = Scan::new(true, Offset(0), 50);
    assert_eq!(first.advance(&partition, Offset(2), 10, &mut room), Ok(Halt::Full));
    assert_eq!((first.kept.len(), first.kept_bytes, first.next), (1, 1_000, Offset(1)));
    let mut second = Scan::new(true, Offset(0), 2_000);
    assert_eq!(second.advance(&partition, Offset(2), 10, &mut room), Ok(Halt::Full));
    assert!(second.kept.is_empty() && room.full);
}

#[test]
fn a_full_partition_counts_as_its_limit() {
    let scan = Scan::new(true, Offset(0), 50);
    assert_eq!((scan.credit(Halt::Full), scan.credit(Halt::End)), (50, 0));
}

#[test]
fn partitions_that_have_more_than_others_advance_side_by_side() {
    let many = Partition::of(&[Step::Plain { records: 1, length: 10 }; 400]);
    let few = Partition::of(&[Step::Plain { records: 1, length: 10 }; 2]);
    let partitions = [&few, &many, &few, &few, &few, &many, &few, &few, &few, &few];
    let mut scans = partitions.map(|_| Scan::new(false, Offset(0), usize::MAX));
    let (mut room, all) = (Room::shared(2_000, partitions.len()), (0..partitions.len()).collect::<Vec<_>>());
    let Ok(()) = room.divide(&all, |index, room| {
        scans[index].advance(partitions[index], Offset(partitions[index].next), 500, room)
    });
    let kept = scans.map(|scan| scan.kept_bytes);
    assert_eq!(kept.iter().sum::<usize>(), 2_000);
    assert!(kept[1].abs_diff(kept[5]) <= 20, "{kept:?}");
}
