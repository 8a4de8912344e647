//! What was read, against what was written: by place, by transaction, by order.

use super::Verdict;
use super::compaction::Superseded;
use super::facts::{Facts, Fate, Read, Txn, Write};
use crate::history::format::Isolation;
use crate::history::property::Property;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Where a record lies, and who says so.
#[derive(Clone, Copy)]
struct Place {
    write: usize,
    line: usize,
    at: u64,
}

/// What readers of committed records saw of a transaction, and what they did not see of it although they were there.
#[derive(Default, Clone, Copy)]
struct Shown {
    seen: Option<usize>,
    absent: Option<usize>,
}

struct Places<'a> {
    facts: &'a Facts<'a>,
    /// By partition, then by offset.
    by_offset: HashMap<&'a str, BTreeMap<i64, Place>>,
    by_write: HashMap<usize, (i64, Place)>,
}

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut places = Places { facts, by_offset: HashMap::new(), by_write: HashMap::new() };
    for (index, write) in facts.writes.iter().enumerate() {
        if let Some((at, Some(offset))) = write.done.ok().map(|(at, answer)| (at, answer.offset)) {
            places.put(write.partition, offset, Place { write: index, line: write.done.line, at }, verdict);
        }
    }
    let mut shown = vec![Shown::default(); facts.txns.len()];
    for read in &facts.reads {
        places.look(read, &mut shown, verdict);
    }
    let offset_of = |write: usize| places.by_write.get(&write).map(|(offset, _)| *offset);
    let superseded = Superseded::of(facts, offset_of);
    for read in &facts.reads {
        places.miss(read, &superseded, &mut shown, verdict);
    }
    for (txn, shown) in facts.txns.iter().zip(&shown) {
        if let Some(seen) = shown.seen {
            let lines = shown.absent.into_iter().chain([seen]);
            verdict.holds_if(shown.absent.is_none(), Property::NoTornTxn, lines, || {
                format!("of transaction {:?} one record was read and another one, at an offset that was read, was not", txn.name)
            });
        }
    }
    places.order(verdict);
    places.markers(verdict);
}

impl<'a> Places<'a> {
    /// Notes where a record lies: nowhere else, and nothing else lies there.
    fn put(&mut self, partition: &'a str, offset: i64, place: Place, verdict: &mut Verdict) {
        let name = |write: usize| self.facts.writes.get(write).map_or("", |write| write.record);
        let (other, first) = *self.by_write.entry(place.write).or_insert((offset, place));
        verdict.holds_if(other == offset, Property::NoDuplicate, [first.line, place.line], || {
            format!("record {:?} lies at offsets {other} and {offset} of {partition}", name(place.write))
        });
        let there = *self.by_offset.entry(partition).or_default().entry(offset).or_insert(place);
        let property = self.unstable(there, place);
        verdict.holds_if(there.write == place.write, property, [there.line, place.line], || {
            let (one, other) = (name(there.write), name(place.write));
            format!("offset {offset} of {partition} has record {one:?}, and then {other:?}")
        });
    }

    /// What it is called when something changes between two looks.
    fn unstable(&self, one: Place, other: Place) -> Property {
        let (from, to) = (one.at.min(other.at), one.at.max(other.at));
        match self.facts.crash_between(from, to) {
            Some(_) => Property::DurableBeforeVisible,
            None => Property::CommittedPrefixStable,
        }
    }

    /// What somebody was shown.
    fn look(&mut self, read: &Read<'a>, shown: &mut [Shown], verdict: &mut Verdict) {
        let mut behind = read.from - 1;
        for (offset, record) in &read.answer.records {
            let in_order = *offset > behind && *offset < read.next;
            verdict.holds_if(in_order, Property::CommittedPrefixStable, [read.done.line, read.line], || {
                let (from, next) = (read.from, read.next);
                format!("a read from {from} to {next} returned offset {offset} behind {behind}")
            });
            behind = *offset;
            let found = self.facts.by_record.get(record.as_str()).copied();
            let write = found.and_then(|index| self.facts.writes.get(index)).filter(|write| {
                write.partition == read.partition && !self.facts.before(read.at, write.done.called)
            });
            verdict.holds_if(write.is_some(), Property::NoUncommittedRead, [read.line], || {
                format!("record {record:?} was read in {} and nobody had written it there", read.partition)
            });
            let (Some(index), Some(write)) = (found, write) else { continue };
            let place = Place { write: index, line: read.line, at: read.at };
            self.put(read.partition, *offset, place, verdict);
            let lines = [write.done.line, read.line];
            verdict.holds_if(!write.done.failed(), Property::NoDuplicate, lines, || {
                format!("record {record:?} was refused, and stored all the same: its sender sends it again")
            });
            if read.isolation == Isolation::ReadCommitted
                && let Some(txn) = self.facts.txn_of(write)
            {
                self.committed(txn, write, read, verdict);
                if let Some(shown) = write.txn.and_then(|txn| shown.get_mut(txn)) {
                    shown.seen.get_or_insert(read.line);
                }
            }
        }
    }

    /// A record of a transaction that a reader of committed records was shown.
    fn committed(&self, txn: &Txn<'_>, write: &Write<'_>, read: &Read<'_>, verdict: &mut Verdict) {
        let ended = match txn.fate() {
            Fate::Aborted { line } => Some(line),
            Fate::Committed { .. } | Fate::Open | Fate::Unknown => None,
        };
        let lines = ended.into_iter().chain([write.done.line, read.line]);
        verdict.holds_if(ended.is_none(), Property::NoAbortedRead, lines, || {
            format!("record {:?} of transaction {:?}, which was aborted, was read", write.record, txn.name)
        });
        let called = txn.commit_called();
        let asked = called.is_some_and(|called| !self.facts.before(read.at, called))
            || txn.told.iter().any(|(_, committed)| *committed);
        verdict.holds_if(
            asked || ended.is_some(),
            Property::NoUncommittedRead,
            [write.done.line, read.line],
            || {
                let (record, name) = (write.record, txn.name);
                format!(
                    "record {record:?} of transaction {name:?} was read before anybody asked for its commit"
                )
            },
        );
    }

    /// What somebody was not shown although it is there.
    fn miss(&self, read: &Read<'a>, superseded: &Superseded<'a>, shown: &mut [Shown], verdict: &mut Verdict) {
        let Some(places) = self.by_offset.get(read.partition) else { return };
        if read.next <= read.from {
            return;
        }
        let there: HashSet<i64> = read.answer.records.iter().map(|(offset, _)| *offset).collect();
        for (offset, place) in places.range(read.from..read.next) {
            let Some(write) = self.facts.writes.get(place.write) else { continue };
            let is_there = there.contains(offset);
            if !is_there && superseded.may_be_gone(write, *offset, read) {
                continue;
            }
            let txn = write.txn.filter(|_| read.isolation == Isolation::ReadCommitted);
            if let Some(shown) = txn.filter(|_| !is_there).and_then(|txn| shown.get_mut(txn)) {
                shown.absent.get_or_insert(read.line);
            }
            let due = match txn.and_then(|txn| self.facts.txns.get(txn)) {
                None => None,
                Some(txn) => match txn.fate() {
                    Fate::Committed { line } => Some(line),
                    Fate::Aborted { .. } | Fate::Open | Fate::Unknown => continue,
                },
            };
            let acknowledged = write.done.ok().is_some();
            let property = if acknowledged || due.is_some() {
                Property::NoLostWrite
            } else {
                self.unstable(*place, Place { at: read.at, ..*place })
            };
            let lines = due.into_iter().chain([place.line, read.line]);
            verdict.holds_if(is_there, property, lines, || {
                let (record, partition) = (write.record, read.partition);
                format!("record {record:?} at offset {offset} of {partition} was passed over by a reader")
            });
        }
    }

    /// A producer's records lie in the order of its calls.
    fn order(&self, verdict: &mut Verdict) {
        let facts = self.facts;
        let mut newest: HashMap<(&str, Option<usize>, &str), (i64, usize)> = HashMap::new();
        let held: HashMap<usize, Option<usize>> =
            facts.history.calls.iter().map(|done| done.line).zip(facts.held.iter().copied()).collect();
        for (index, write) in facts.writes.iter().enumerate() {
            let Some((offset, _)) = self.by_write.get(&index) else { continue };
            let holder = held.get(&write.done.line).copied().flatten();
            let key = (write.done.process.as_str(), holder, write.partition);
            if let Some((before, line)) = newest.insert(key, (*offset, write.done.line)) {
                verdict.holds_if(before < *offset, Property::SeqContiguous, [line, write.done.line], || {
                    let (record, process) = (write.record, &write.done.process);
                    format!("process {process:?} sent record {record:?} later than the one at offset {before}, and it lies at {offset}")
                });
            }
        }
    }

    /// Offsets that readers of everything passed and that hold no record are markers: one for each transaction at most.
    fn markers(&self, verdict: &mut Verdict) {
        let mut txns: HashMap<&str, HashSet<usize>> = HashMap::new();
        for write in &self.facts.writes {
            if let Some(txn) = write.txn {
                txns.entry(write.partition).or_default().insert(txn);
            }
        }
        let mut spans: BTreeMap<&str, Vec<(i64, i64, usize)>> = BTreeMap::new();
        for read in self.facts.reads.iter().filter(|read| read.isolation == Isolation::ReadUncommitted) {
            spans.entry(read.partition).or_default().push((read.from, read.next, read.line));
        }
        for (partition, mut spans) in spans {
            if self.facts.compacted(partition).is_some() {
                continue;
            }
            spans.sort_unstable();
            let (mut covered, mut end, mut last) = (0, i64::MIN, 0);
            for (from, next, line) in spans {
                covered += (next - from.max(end)).max(0);
                if next > end {
                    (end, last) = (next, line);
                }
            }
            let records = self.by_offset.get(partition).map_or(0, BTreeMap::len);
            let records = i64::try_from(records).unwrap_or(i64::MAX);
            let most = i64::try_from(txns.get(partition).map_or(0, HashSet::len)).unwrap_or(i64::MAX);
            let markers = covered - records;
            verdict.holds_if(markers <= most, Property::MarkerExactlyOnce, [last], || {
                format!("{partition} has {markers} offsets without a record, and at most {most} transactions end there")
            });
        }
    }
}
