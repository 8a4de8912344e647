//! A group's offsets: what is fetched was committed by somebody, and nobody has certainly committed another one since.

use super::Verdict;
use super::facts::Facts;
use crate::history::format::{Done, Operation};
use crate::history::property::Property;
use std::collections::{BTreeMap, HashMap};

/// An offset that takes effect at some moment of a span; with no end, at any time or never.
#[derive(Clone, Copy)]
struct Commit {
    from: u64,
    /// When it was known to be done.
    to: Option<u64>,
    offset: i64,
    line: usize,
    transactional: bool,
}

#[derive(Default)]
struct Key {
    commits: Vec<Commit>,
    /// Those of transactions that have not committed.
    undone: Vec<(i64, usize)>,
}

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut keys: HashMap<(&str, &str), Key> = HashMap::new();
    for done in &facts.history.calls {
        match &done.operation {
            Operation::CommitOffsets { group, offsets, .. } if !done.failed() => {
                let to = done.ok().map(|(at, _)| at);
                for (partition, offset) in offsets {
                    let key = keys.entry((group, partition)).or_default();
                    let (from, offset, line) = (done.called, *offset, done.line);
                    key.commits.push(Commit { from, to, offset, line, transactional: false });
                }
            }
            Operation::SendOffsets { txn, group, offsets } => {
                for (partition, offset) in offsets {
                    let key = keys.entry((group, partition)).or_default();
                    sent(facts, done, txn, *offset, key);
                }
            }
            _ => {}
        }
    }
    let keys: HashMap<_, _> = keys.into_iter().map(|(name, key)| (name, Known::of(key))).collect();
    for done in &facts.history.calls {
        let Operation::FetchOffsets { group } = &done.operation else { continue };
        let Some((at, answer)) = done.ok() else { continue };
        for ((_, partition), known) in keys.iter().filter(|((of, _), _)| of == group) {
            let fetched = answer.offsets.get(*partition).copied();
            known.judge(facts, (done, at, fetched), &format!("{group:?} in {partition}"), verdict);
        }
    }
}

fn sent(facts: &Facts<'_>, done: &Done, txn: &str, offset: i64, key: &mut Key) {
    let Some(txn) = facts.txn_named(txn) else { return };
    let may = facts_may_commit(txn);
    match may {
        Some((from, to)) if !done.failed() => {
            // What was not acknowledged may be missing from the transaction.
            let to = done.ok().and(to);
            key.commits.push(Commit { from, to, offset, line: done.line, transactional: true });
        }
        _ => key.undone.push((offset, done.line)),
    }
}

/// When a transaction may commit, and when it has done so for sure; none if it never does.
fn facts_may_commit(txn: &super::facts::Txn<'_>) -> Option<(u64, Option<u64>)> {
    if txn.committed().is_none() && txn.aborted().is_some() {
        return None;
    }
    let from = txn.commit_called()?;
    let to = txn.commits.iter().filter_map(|commit| commit.ok()).map(|(at, _)| at).min();
    Some((from, to))
}

/// The commits of one key, so that a fetch is judged without going through them all.
struct Known {
    /// By the offset, those that begin at some moment or earlier, with the latest end of any of them.
    by_offset: HashMap<i64, Vec<(u64, u64)>>,
    /// When something was known to be done, and of all that were by then, the one that began last.
    done: Vec<(u64, Commit)>,
    undone: BTreeMap<i64, usize>,
}

impl Known {
    fn of(mut key: Key) -> Known {
        key.commits.sort_unstable_by_key(|commit| commit.from);
        let mut by_offset: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
        for commit in &key.commits {
            let spans = by_offset.entry(commit.offset).or_default();
            let latest = spans.last().map_or(0, |(_, latest)| *latest);
            spans.push((commit.from, latest.max(commit.to.unwrap_or(u64::MAX))));
        }
        key.commits.sort_unstable_by_key(|commit| commit.to.unwrap_or(u64::MAX));
        let mut done: Vec<(u64, Commit)> = Vec::new();
        for commit in &key.commits {
            let Some(to) = commit.to else { break };
            let newest = done.last().map(|(_, newest)| *newest).filter(|newest| newest.from >= commit.from);
            done.push((to, newest.unwrap_or(*commit)));
        }
        Known { by_offset, done, undone: key.undone.into_iter().collect() }
    }

    fn judge(
        &self,
        facts: &Facts<'_>,
        (fetch, at, fetched): (&Done, u64, Option<i64>),
        of: &str,
        verdict: &mut Verdict,
    ) {
        let until = self.done.partition_point(|(to, _)| facts.before(*to, fetch.called));
        let newest = until.checked_sub(1).and_then(|last| self.done.get(last)).map(|(_, commit)| *commit);
        let Some(offset) = fetched else {
            let property = property_of(newest);
            let lines = newest.map(|newest| newest.line).into_iter().chain([fetch.line]);
            verdict.holds_if(newest.is_none(), property, lines, || format!("the offset of {of} is gone"));
            return;
        };
        let spans = self.by_offset.get(&offset).map(Vec::as_slice).unwrap_or_default();
        let begun = spans.partition_point(|(from, _)| !facts.before(at, *from));
        let latest = begun.checked_sub(1).and_then(|last| spans.get(last)).map(|(_, latest)| *latest);
        let undone = self.undone.get(&offset).copied();
        let lines = undone.into_iter().chain([fetch.line]);
        verdict.holds_if(latest.is_some(), Property::OffsetsAtomicWithTxn, lines, || match undone {
            Some(_) => {
                format!("offset {offset} of {of} was fetched; the transaction that sent it has not committed")
            }
            None => format!("offset {offset} of {of} was fetched, and nobody had committed it"),
        });
        let Some((newest, latest)) = newest.zip(latest) else { return };
        let current = !facts.before(latest, newest.from);
        verdict.holds_if(current, property_of(Some(newest)), [newest.line, fetch.line], || {
            format!("offset {offset} of {of} was fetched, although {} was committed after it", newest.offset)
        });
    }
}

fn property_of(commit: Option<Commit>) -> Property {
    if commit.is_some_and(|commit| commit.transactional) {
        Property::OffsetsAtomicWithTxn
    } else {
        Property::NoLostWrite
    }
}
