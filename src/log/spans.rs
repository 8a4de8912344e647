//! Which payloads are read from a file together. Pure.
//!
//! The log has what all partitions wrote in the order in which it came, and a fetch asks for one partition after the other: read as it
//! asks, each batch would be a read of its own, from all over a segment.

use super::format::{FRAME_HEADER_LENGTH, PAGE};
use super::place::{Place, SegmentNumber};

/// Bytes between two frames that are read along with them: a disk with several reads under way takes about as long for them as for
/// one read more (`spec/performance.md`).
const GAP_MAX: u32 = 16 << 10;

/// Bytes of a file read at once, but where a single frame has more: long enough for a disk's full speed.
const SPAN_MAX: u32 = 1 << 20;

/// A payload that is to be read from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) place: Place,
    /// Which one it is of those that were asked for.
    pub(super) index: usize,
}

impl Wanted {
    fn end(&self) -> u32 {
        self.place.position.saturating_add(FRAME_HEADER_LENGTH).saturating_add(self.place.length)
    }
}

/// Neighbours in a file, in the order in which they lie there; at least one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'w> {
    pub(super) wanted: &'w [Wanted],
    pub(super) segment: SegmentNumber,
    /// Bytes from the start of the file.
    pub(super) start: u32,
    pub(super) length: u32,
}

impl<'w> Span<'w> {
    /// The same frames, each by itself.
    pub(super) fn apart(self) -> impl Iterator<Item = Span<'w>> {
        self.wanted.chunks(1).filter_map(Span::of)
    }

    /// The page of its file that holds all of it, if one does.
    pub(super) fn page(&self) -> Option<u32> {
        let page = self.start / PAGE;
        let last = self.start.saturating_add(self.length.saturating_sub(1));
        (last / PAGE == page).then_some(page)
    }

    fn of(wanted: &'w [Wanted]) -> Option<Span<'w>> {
        let first = wanted.first()?.place;
        let end = wanted.iter().map(Wanted::end).max()?;
        Some(Span { wanted, segment: first.segment, start: first.position, length: end - first.position })
    }
}

/// Sorts them as they lie in their files, and puts neighbours together.
pub(super) fn spans(wanted: &mut [Wanted]) -> impl Iterator<Item = Span<'_>> {
    wanted.sort_unstable_by_key(|wanted| (wanted.place.segment, wanted.place.position));
    let mut begins: Option<u32> = None;
    let neighbours = move |one: &Wanted, next: &Wanted| {
        let begin = *begins.get_or_insert(one.place.position);
        let together = next.place.segment == one.place.segment
            && next.place.position <= one.end().saturating_add(GAP_MAX)
            && next.end() - begin <= SPAN_MAX;
        if !together {
            begins = None;
        }
        together
    };
    wanted.chunk_by(neighbours).filter_map(Span::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(places: &[(u64, u32, u32)]) -> Vec<Wanted> {
        let wanted = |(index, &(segment, position, length)): (usize, &(u64, u32, u32))| Wanted {
            place: Place { segment: SegmentNumber(segment), position, length, checksum: 0 },
            index,
        };
        places.iter().enumerate().map(wanted).collect()
    }

    fn found(places: &[(u64, u32, u32)]) -> Vec<(u64, u32, u32, Vec<usize>)> {
        let mut wanted = wanted(places);
        let shown = |span: Span<'_>| {
            let which = span.wanted.iter().map(|wanted| wanted.index).collect();
            (span.segment.0, span.start, span.length, which)
        };
        spans(&mut wanted).map(shown).collect()
    }

    #[test]
    fn neighbours_are_read_together_whatever_order_they_are_asked_for_in() {
        let frame = FRAME_HEADER_LENGTH + 100;
        assert_eq!(
            found(&[
                (1, 4096, 100),
                (1, 90_000, 100),
                (2, 4096, 100),
                (1, 4400, 100),
                (1, 90_000 + frame + GAP_MAX, 100)
            ]),
            [
                (1, 4096, 304 + frame, vec![0, 3]),
                (1, 90_000, 2 * frame + GAP_MAX, vec![1, 4]),
                (2, 4096, frame, vec![2]),
            ]
        );
        let just_too_far = 4096 + frame + GAP_MAX + 1;
        assert_eq!(found(&[(1, 4096, 100), (1, just_too_far, 100)]).len(), 2);
    }

    #[test]
    fn a_frame_that_is_longer_than_a_span_is_read_alone() {
        let at = |number: u32| 4096 + number * (FRAME_HEADER_LENGTH + SPAN_MAX);
        let places = [(1, at(0), SPAN_MAX), (1, at(1), SPAN_MAX), (1, at(2), 10), (1, at(2) + 100, 10)];
        let which: Vec<_> = found(&places).into_iter().map(|span| span.3).collect();
        assert_eq!(which, [vec![0], vec![1], vec![2, 3]]);
    }

    proptest! {
        #[test]
        fn each_is_in_one_span_that_has_all_of_it(
            places in proptest::collection::vec((1_u64..4, 0_u32..(8 << 20), 0_u32..300_000), 0..200),
        ) {
            let mut all = wanted(&places);
            let mut seen = vec![0; places.len()];
            let mut before = None;
            for span in spans(&mut all) {
                prop_assert!(span.length <= SPAN_MAX || span.wanted.len() == 1);
                for wanted in span.wanted {
                    seen[wanted.index] += 1;
                    let (segment, position, length) = places[wanted.index];
                    let end = u64::from(position) + u64::from(FRAME_HEADER_LENGTH + length);
                    prop_assert_eq!(span.segment.0, segment);
                    prop_assert!(position >= span.start && end <= u64::from(span.start) + u64::from(span.length));
                }
                let begin = (span.segment, span.start);
                prop_assert!(before.is_none_or(|before| before <= begin), "in order");
                before = Some(begin);
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
