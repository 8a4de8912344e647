//! Idempotency keys: of the records that are committed, no two have one key within its window.

use super::Verdict;
use super::facts::{Facts, Fate, Write};
use crate::history::format::{Isolation, Operation};
use crate::history::property::Property;
use std::collections::{HashMap, HashSet};

/// A record that is committed for sure.
struct Accepted {
    from: u64,
    to: u64,
    line: usize,
    record: String,
}

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let shown: HashSet<&str> = facts
        .reads
        .iter()
        .filter(|read| read.isolation == Isolation::ReadCommitted)
        .flat_map(|read| read.answer.records.iter().map(|(_, record)| record.as_str()))
        .collect();
    let mut keys: HashMap<(&str, &str), Vec<Accepted>> = HashMap::new();
    for write in &facts.writes {
        let Operation::Produce { idempotency_key: Some(key), .. } = &write.done.operation else { continue };
        if !shown.contains(write.record) && !is_committed(facts, write) {
            continue;
        }
        let topic = write.partition.rsplit_once('/').map_or(write.partition, |(topic, _)| topic);
        let to = write.done.returned.as_ref().map_or(u64::MAX, |(_, at, _)| *at);
        let to = if write.done.ok().is_some() { to } else { u64::MAX };
        let (from, line, record) = (write.done.called, write.done.line, write.record.to_owned());
        keys.entry((topic, key)).or_default().push(Accepted { from, to, line, record });
    }
    for ((topic, key), mut accepted) in keys {
        let window = facts.history.key_windows.get(topic).copied().unwrap_or(u64::MAX);
        accepted.sort_by_key(|one| (one.from, one.line));
        let mut before: Option<&Accepted> = None;
        for one in &accepted {
            // The later one of two may have come when the window of the earlier one was over.
            let may_be = before.is_none_or(|before| {
                let apart = |first: &Accepted, second: &Accepted| {
                    second.to.saturating_sub(first.from).saturating_add(facts.history.skew) >= window
                };
                apart(before, one) || apart(one, before)
            });
            let lines = before.map(|before| before.line).into_iter().chain([one.line]);
            verdict.holds_if(may_be, Property::KeyOnce, lines, || {
                let before = before.map_or("", |before| &before.record);
                format!("{before:?} and {:?} are committed in {topic}, both with the key {key:?}", one.record)
            });
            before = Some(one);
        }
    }
}

/// Whether its sender was told that it is stored, and that its transaction has committed, if it is in one.
fn is_committed(facts: &Facts<'_>, write: &Write<'_>) -> bool {
    let committed = facts.txn_of(write).is_none_or(|txn| matches!(txn.fate(), Fate::Committed { .. }));
    write.done.ok().is_some() && committed
}
