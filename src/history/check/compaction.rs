//! What compaction may have taken away, in topics that ask for it: records of which a newer one has the same key, tombstones
//! after their time, what was aborted, and what has no key. The newest record of a key stays.

use super::facts::{Facts, Fate, Read, Write};
use std::collections::HashMap;

/// The newer records of one key.
#[derive(Default)]
struct Newer {
    /// Offset, and the earliest call of this record and of those behind it. By offset.
    placed: Vec<(i64, u64)>,
    /// The earliest call of those of which nobody knows where they lie, if they lie anywhere.
    anywhere: Option<u64>,
}

/// Which records may be gone.
pub(super) struct Superseded<'a> {
    facts: &'a Facts<'a>,
    by_key: HashMap<(&'a str, &'a str), Newer>,
}

impl<'a> Superseded<'a> {
    /// `offset_of` says where a write lies, if anybody has seen it.
    pub(super) fn of(facts: &'a Facts<'a>, offset_of: impl Fn(usize) -> Option<i64>) -> Superseded<'a> {
        let mut by_key: HashMap<_, Newer> = HashMap::new();
        for (index, write) in facts.writes.iter().enumerate() {
            let Some(key) = write.key.filter(|_| facts.compacted(write.partition).is_some()) else {
                continue;
            };
            if !may_supersede(facts, write) {
                continue;
            }
            let (newer, called) = (by_key.entry((write.partition, key)).or_default(), write.done.called);
            match offset_of(index) {
                Some(offset) => newer.placed.push((offset, called)),
                None => newer.anywhere = Some(newer.anywhere.map_or(called, |earliest| earliest.min(called))),
            }
        }
        for newer in by_key.values_mut() {
            newer.placed.sort_unstable();
            let mut earliest = u64::MAX;
            for (_, called) in newer.placed.iter_mut().rev() {
                earliest = earliest.min(*called);
                *called = earliest;
            }
        }
        Superseded { facts, by_key }
    }

    /// Whether a reader who passes over the record at `offset` may miss it.
    pub(super) fn may_be_gone(&self, write: &Write<'a>, offset: i64, read: &Read<'a>) -> bool {
        let Some(tombstones_kept) = self.facts.compacted(write.partition) else { return false };
        let Some(key) = write.key else { return true };
        // What was aborted is taken away, and who may have been told otherwise is not to be told twice.
        let is_certain =
            self.facts.txn_of(write).is_none_or(|txn| matches!(txn.fate(), Fate::Committed { .. }));
        let is_old =
            write.tombstone && self.facts.before(write.done.called.saturating_add(tombstones_kept), read.at);
        !is_certain || is_old || self.is_superseded((write.partition, key), offset, read.at)
    }

    fn is_superseded(&self, key: (&str, &str), offset: i64, at: u64) -> bool {
        let Some(newer) = self.by_key.get(&key) else { return false };
        let behind = newer.placed.partition_point(|(other, _)| *other <= offset);
        let placed = newer.placed.get(behind).map(|(_, called)| *called);
        let was_there = |called: u64| !self.facts.before(at, called);
        placed.is_some_and(was_there) || newer.anywhere.is_some_and(was_there)
    }
}

/// Whether a record may have been stored and, if it is in a transaction, committed: what was aborted supersedes nothing.
fn may_supersede(facts: &Facts<'_>, write: &Write<'_>) -> bool {
    let may_commit = facts.txn_of(write).is_none_or(|txn| match txn.fate() {
        Fate::Committed { .. } | Fate::Unknown => true,
        Fate::Aborted { .. } | Fate::Open => false,
    });
    may_commit && !write.done.failed()
}
