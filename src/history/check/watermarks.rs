//! High watermark and last stable offset: they never go back, and stand behind all that was acknowledged or read.

use super::Verdict;
use super::facts::Facts;
use crate::history::format::{Isolation, Operation};
use crate::history::property::Property;
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    High,
    Stable,
}

/// At some moment the mark stood at some offset at least.
#[derive(Clone, Copy)]
struct Known {
    at: u64,
    offset: i64,
    line: usize,
    acknowledged: bool,
}

/// Whoever asked at some moment was told this.
#[derive(Clone, Copy)]
struct Told {
    called: u64,
    at: u64,
    offset: i64,
    line: usize,
}

#[derive(Default)]
struct Mark {
    known: Vec<Known>,
    told: Vec<Told>,
}

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut marks: BTreeMap<(&str, Kind), Mark> = BTreeMap::new();
    for write in &facts.writes {
        if let Some((at, Some(offset))) = write.done.ok().map(|(at, answer)| (at, answer.offset)) {
            let known = Known { at, offset: offset + 1, line: write.done.line, acknowledged: true };
            marks.entry((write.partition, Kind::High)).or_default().known.push(known);
        }
    }
    for read in &facts.reads {
        let known = Known { at: read.at, offset: read.next, line: read.line, acknowledged: false };
        marks.entry((read.partition, Kind::High)).or_default().known.push(known);
        if read.isolation == Isolation::ReadCommitted {
            marks.entry((read.partition, Kind::Stable)).or_default().known.push(known);
        }
    }
    for done in &facts.history.calls {
        let (Operation::Read { partition, .. } | Operation::End { partition }) = &done.operation else {
            continue;
        };
        let Some((at, answer)) = done.ok() else { continue };
        for (kind, offset) in [(Kind::High, answer.high_watermark), (Kind::Stable, answer.last_stable)] {
            let Some(offset) = offset else { continue };
            let mark = marks.entry((partition, kind)).or_default();
            mark.told.push(Told { called: done.called, at, offset, line: done.line });
            mark.known.push(Known { at, offset, line: done.line, acknowledged: false });
        }
    }
    for ((partition, kind), mark) in marks {
        forward(facts, partition, kind, mark, verdict);
    }
}

fn forward(facts: &Facts<'_>, partition: &str, kind: Kind, mut mark: Mark, verdict: &mut Verdict) {
    mark.known.sort_unstable_by_key(|known| known.at);
    mark.told.sort_unstable_by_key(|told| told.called);
    let mut known = mark.known.into_iter().peekable();
    // The highest that was acknowledged, and the highest that was shown; of equal ones the newest.
    let mut highest = [None::<Known>; 2];
    for told in mark.told {
        while let Some(next) = known.next_if(|known| facts.before(known.at, told.called)) {
            let [acknowledged, shown] = &mut highest;
            let highest = if next.acknowledged { acknowledged } else { shown };
            if highest.is_none_or(|highest| highest.offset <= next.offset) {
                *highest = Some(next);
            }
        }
        for before in highest.into_iter().flatten() {
            let property = if before.acknowledged {
                Property::NoLostWrite
            } else if facts.crash_between(before.at, told.at).is_some() {
                Property::DurableBeforeVisible
            } else {
                Property::CommittedPrefixStable
            };
            verdict.holds_if(told.offset >= before.offset, property, [before.line, told.line], || {
                let name = match kind {
                    Kind::High => "high watermark",
                    Kind::Stable => "last stable offset",
                };
                let (told, before) = (told.offset, before.offset);
                format!("the {name} of {partition} is told to be {told}, after {before} was reached")
            });
        }
    }
}
