//! Who holds a transactional id, and that nobody else's requests take effect.

use super::Verdict;
use super::facts::{Facts, Holder};
use crate::history::format::Operation;
use crate::history::property::Property;
use std::collections::{BTreeMap, HashMap};

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut ids: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, holder) in facts.holders.iter().enumerate() {
        if holder.identity.is_some() {
            ids.entry(holder.transactional_id).or_default().push(index);
        }
    }
    let mut fenced = HashMap::new();
    for holders in ids.into_values() {
        monotone(facts, &holders, verdict);
        fences(facts, holders, &mut fenced);
    }
    zombies(facts, &fenced, verdict);
}

/// Whoever asks after another one was told gets a higher identity.
fn monotone(facts: &Facts<'_>, holders: &[usize], verdict: &mut Verdict) {
    let known: Vec<_> = holders.iter().filter_map(|index| identity(facts.holders.get(*index)?)).collect();
    let mut told = known.clone();
    told.sort_unstable_by_key(|(_, _, at, _)| *at);
    let mut asked = known;
    asked.sort_unstable_by_key(|(_, holder, _, _)| holder.done.called);
    let (mut told, mut highest) = (told.into_iter().peekable(), None);
    for (identity, holder, _, line) in asked {
        while let Some((before, _, _, line)) =
            told.next_if(|(_, _, at, _)| facts.before(*at, holder.done.called))
        {
            highest = highest.max(Some((before, line)));
        }
        let Some((before, before_line)) = highest else { continue };
        let higher = identity > before || (holder.resumes && identity == before);
        verdict.holds_if(higher, Property::EpochMonotone, [before_line, line], || {
            format!("{:?} is held by {before:?}, and then by {identity:?}", holder.transactional_id)
        });
    }
}

type Known<'a> = ((i64, i16), &'a Holder<'a>, u64, usize);

fn identity<'a>(holder: &'a Holder<'a>) -> Option<Known<'a>> {
    let (producer_id, epoch, at) = holder.identity?;
    Some(((producer_id, epoch), holder, at, holder.done.line))
}

/// When each holder was fenced for sure: when somebody with a higher identity was told so.
fn fences(facts: &Facts<'_>, mut holders: Vec<usize>, fenced: &mut HashMap<usize, (u64, usize)>) {
    let of = |index: usize| facts.holders.get(index).and_then(identity);
    holders.sort_unstable_by_key(|index| of(*index).map(|(identity, ..)| identity));
    let mut next: Option<(u64, usize)> = None;
    for group in
        holders.chunk_by(|one, other| of(*one).map(|known| known.0) == of(*other).map(|known| known.0)).rev()
    {
        for index in group {
            if let Some(fence) = next {
                fenced.insert(*index, fence);
            }
        }
        let earliest = group.iter().filter_map(|index| of(*index)).map(|(_, _, at, line)| (at, line)).min();
        next = next.into_iter().chain(earliest).min();
    }
}

/// Nothing that a holder asks for after it was fenced takes effect.
fn zombies(facts: &Facts<'_>, fenced: &HashMap<usize, (u64, usize)>, verdict: &mut Verdict) {
    for (done, held) in facts.history.calls.iter().zip(&facts.held) {
        let transactional = matches!(
            &done.operation,
            Operation::Produce { txn: Some(_), .. }
                | Operation::SendOffsets { .. }
                | Operation::Commit { .. }
                | Operation::Abort { .. }
        );
        let Some((at, line)) = held.and_then(|held| fenced.get(&held)).filter(|_| transactional) else {
            continue;
        };
        if !facts.before(*at, done.called) {
            continue;
        }
        verdict.holds_if(done.ok().is_none(), Property::FenceZombie, [*line, done.line], || {
            format!("process {:?} was fenced, and its call was answered as done", done.process)
        });
    }
    let late = |done: &crate::history::format::Done, held: Option<usize>| {
        let (at, line) = *fenced.get(&held?)?;
        facts.before(at, done.called).then_some(line)
    };
    let mut zombies: HashMap<&str, (usize, usize)> = HashMap::new();
    for (done, held) in facts.history.calls.iter().zip(&facts.held) {
        if let Operation::Produce { record, txn: Some(_), .. } = &done.operation
            && let Some(line) = late(done, *held)
        {
            zombies.insert(record, (line, done.line));
        }
    }
    for read in &facts.reads {
        for (_, record) in &read.answer.records {
            let zombie = zombies.get(record.as_str()).copied();
            let lines = zombie.into_iter().flat_map(|(fence, write)| [fence, write]).chain([read.line]);
            if zombie.is_some() {
                verdict.holds_if(false, Property::FenceZombie, lines, || {
                    format!("record {record:?} was sent by somebody who had been fenced, and is stored")
                });
            }
        }
    }
}
