//! Members of groups of the consumer protocol (`spec/groups.md`, 10 to 17): what they were told is theirs was nobody else's,
//! epochs do not go back, and whoever is not a member in its epoch any more is not heard.
//!
//! Only what a member was told counts. That its session has ended, nobody tells it; but what it was answered afterwards tells
//! that it had not.

use super::Verdict;
use super::facts::Facts;
use crate::history::format::{Answer, Done, Operation, PartitionName, Returned};
use crate::history::property::Property;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a heartbeat says in place of an epoch.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
const AWAY: i32 = -2;

/// A member's heartbeat, or its commit.
#[derive(Clone, Copy)]
struct Sent<'a> {
    done: &'a Done,
    epoch: i32,
    what: What<'a>,
}

#[derive(Clone, Copy)]
enum What<'a> {
    Beat { instance: Option<&'a str>, owned: Option<&'a BTreeSet<PartitionName>> },
    Commit,
}

impl<'a> Sent<'a> {
    fn is_beat_of(&self, epoch: i32) -> bool {
        matches!(self.what, What::Beat { .. }) && self.epoch == epoch
    }

    /// When a heartbeat was answered, and what.
    fn told(&self) -> Option<(u64, &'a Answer)> {
        self.done.ok().filter(|_| matches!(self.what, What::Beat { .. }))
    }

    /// The epoch in which the member was told to be, and when.
    fn told_epoch(&self) -> Option<(u64, i32)> {
        let (at, answer) = self.told()?;
        answer.member_epoch.filter(|epoch| *epoch > JOIN).map(|epoch| (at, epoch))
    }

    /// Whether it was certainly that of a member, in the epoch that it names.
    fn is_heard(&self) -> bool {
        match self.what {
            What::Beat { .. } => self.epoch > JOIN && self.told_epoch().is_some(),
            What::Commit => self.epoch >= JOIN && self.done.ok().is_some(),
        }
    }

    /// The latest moment at which it may have taken effect.
    fn until(&self) -> u64 {
        match &self.done.returned {
            Some((_, at, Returned::Ok(_) | Returned::Failed)) => *at,
            _ => u64::MAX,
        }
    }
}

/// By member, in the order of the calls.
type Members<'a> = BTreeMap<&'a str, Vec<Sent<'a>>>;

/// What is said of one group.
#[derive(Default)]
struct Group<'a> {
    members: Members<'a>,
    /// What somebody has committed in a call, whoever it was.
    commits: Vec<(&'a Done, &'a BTreeMap<PartitionName, i64>)>,
    /// Who asked for what is committed.
    fetches: Vec<&'a Done>,
}

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for done in &facts.history.calls {
        match &done.operation {
            Operation::Heartbeat { group, member, epoch, instance, owned } => {
                let what = What::Beat { instance: instance.as_deref(), owned: owned.as_ref() };
                let sent = groups.entry(group).or_default().members.entry(member).or_default();
                sent.push(Sent { done, epoch: *epoch, what });
            }
            Operation::CommitOffsets { group, offsets, member, member_epoch, .. } => {
                let group = groups.entry(group).or_default();
                group.commits.push((done, offsets));
                if let (Some(member), Some(epoch)) = (member, member_epoch) {
                    let sent = group.members.entry(member).or_default();
                    sent.push(Sent { done, epoch: *epoch, what: What::Commit });
                }
            }
            Operation::SendOffsets { group, offsets, .. } => {
                groups.entry(group).or_default().commits.push((done, offsets));
            }
            Operation::FetchOffsets { group } => groups.entry(group).or_default().fetches.push(done),
            _ => {}
        }
    }
    for (name, mut group) in groups {
        group.members.values_mut().for_each(|sent| sent.sort_by_key(|one| one.done.called));
        monotone(facts, name, &group.members, verdict);
        let late = fences(facts, &group.members, verdict);
        no_late_commit(name, &group, &late, verdict);
        one_owner(facts, name, &group.members, verdict);
    }
}

/// Moments at which somebody was told an epoch, and the highest that anybody had been told by then.
struct Told(Vec<(u64, i32, usize)>);

impl Told {
    fn of<'a>(sent: impl Iterator<Item = &'a Sent<'a>>) -> Told {
        let mut told: Vec<_> =
            sent.filter_map(|one| one.told_epoch().map(|(at, epoch)| (at, epoch, one.done.line))).collect();
        told.sort_unstable();
        let mut highest = None;
        for (_, epoch, line) in &mut told {
            let (most, shown) = *highest.insert((*epoch, *line).max(highest.unwrap_or((*epoch, *line))));
            (*epoch, *line) = (most, shown);
        }
        Told(told)
    }

    /// The highest epoch that was told before this moment, and where.
    fn before(&self, facts: &Facts<'_>, moment: u64) -> Option<(i32, usize)> {
        let until = self.0.partition_point(|(at, ..)| facts.before(*at, moment));
        self.0.get(until.checked_sub(1)?).map(|(_, epoch, line)| (*epoch, *line))
    }
}

/// A member's epoch does not go back; who comes to the group is not behind anybody who is there.
fn monotone(facts: &Facts<'_>, group: &str, members: &Members<'_>, verdict: &mut Verdict) {
    let anybody = Told::of(members.values().flatten());
    for (member, sent) in members {
        let own = Told::of(sent.iter());
        for (index, one) in sent.iter().enumerate() {
            let Some((_, epoch)) = one.told_epoch() else { continue };
            // Who asks again to join may be told what it was to be told the first time.
            let first = index == 0 && one.epoch == JOIN;
            let told = if first { &anybody } else { &own };
            let Some((before, line)) = told.before(facts, one.done.called) else { continue };
            verdict.holds_if(epoch >= before, Property::GroupEpochMonotone, [line, one.done.line], || {
                format!(
                    "{member:?} is told that it is in epoch {epoch} of {group:?}, after {before} was told"
                )
            });
        }
    }
}

/// A member is none any more, until it joins again.
#[derive(Clone, Copy)]
struct Fence {
    /// The earliest moment at which it may have been fenced, and when that was known.
    from: u64,
    at: u64,
    line: usize,
    /// In these epochs and those before.
    epoch: i32,
}

/// Who was told that it is not a member is not heard any more, nor is who has been in a later epoch since. Gives the commits
/// that nobody may have heard, with what fenced those who sent them.
fn fences<'a>(facts: &Facts<'_>, members: &Members<'a>, verdict: &mut Verdict) -> Vec<(&'a Done, usize)> {
    let successors = successors(members);
    let mut late = Vec::new();
    for (member, sent) in members {
        let mut fences: Vec<Fence> = sent.iter().filter_map(fence).collect();
        for one in sent {
            let What::Beat { instance: Some(instance), .. } = one.what else { continue };
            let Some((joined, _)) = one.told_epoch().filter(|_| one.epoch == JOIN) else { continue };
            fences.extend(successor(facts, successors.get(instance), member, joined));
        }
        fences.sort_unstable_by_key(|fence| fence.at);
        let joins = Joins::of(sent);
        let own = Told::of(sent.iter());
        for one in sent {
            let Some(line) = fenced(facts, one, &fences, &joins).or_else(|| overtaken(facts, one, &own))
            else {
                continue;
            };
            verdict.holds_if(!one.is_heard(), Property::FenceMember, [line, one.done.line], || {
                format!("{member:?} was not a member in epoch {} any more, and is heard", one.epoch)
            });
            if matches!(one.what, What::Commit) && !one.done.failed() {
                late.push((one.done, line));
            }
        }
    }
    late
}

/// Joins that were answered, of those who bear an instance id: when they asked, and when they were told; and who.
type Successors<'a> = HashMap<&'a str, Vec<(u64, u64, usize, &'a str)>>;

fn successors<'a>(members: &Members<'a>) -> Successors<'a> {
    let mut successors = Successors::new();
    for (member, sent) in members {
        for one in sent {
            if let What::Beat { instance: Some(instance), .. } = one.what
                && let Some((at, _)) = one.told_epoch().filter(|_| one.epoch == JOIN)
            {
                let join = (one.done.called, at, one.done.line, *member);
                successors.entry(instance).or_default().push(join);
            }
        }
    }
    successors.values_mut().for_each(|joins| joins.sort_unstable());
    successors
}

/// The first one who has taken the place of a static member that was told at this moment that it is one.
fn successor(
    facts: &Facts<'_>,
    joins: Option<&Vec<(u64, u64, usize, &str)>>,
    member: &str,
    joined: u64,
) -> Option<Fence> {
    let joins = joins?;
    let later = joins.partition_point(|(called, ..)| !facts.before(joined, *called));
    let mut later = joins.iter().skip(later);
    let (from, at, line, _) = *later.find(|(.., other)| *other != member)?;
    Some(Fence { from, at, line, epoch: i32::MAX })
}

/// What a heartbeat's answer ends.
fn fence(one: &Sent<'_>) -> Option<Fence> {
    let (at, answer) = one.told()?;
    let ends = answer.fenced || one.epoch == LEAVE || one.epoch == AWAY;
    // Who leaves, or is not there to leave, is gone with all its epochs.
    let epoch = if one.epoch > JOIN { one.epoch } else { i32::MAX };
    ends.then_some(Fence { from: one.done.called, at, line: one.done.line, epoch })
}

/// When a member has asked to join: the calls, and up to when one of them or of those before may have taken effect.
struct Joins(Vec<(u64, u64)>);

impl Joins {
    fn of(sent: &[Sent<'_>]) -> Joins {
        let mut until = 0;
        let joins = sent.iter().filter(|one| one.is_beat_of(JOIN) && !one.done.failed());
        Joins(
            joins
                .map(|one| {
                    until = one.until().max(until);
                    (one.done.called, until)
                })
                .collect(),
        )
    }

    /// Whether the member may have joined in this span.
    fn within(&self, facts: &Facts<'_>, from: u64, to: u64) -> bool {
        let until = self.0.partition_point(|(called, _)| !facts.before(to, *called));
        let last = until.checked_sub(1).and_then(|last| self.0.get(last));
        last.is_some_and(|(_, until)| !facts.before(*until, from))
    }
}

/// What fenced the member before it asked.
fn fenced(facts: &Facts<'_>, one: &Sent<'_>, fences: &[Fence], joins: &Joins) -> Option<usize> {
    if one.epoch <= JOIN {
        return None;
    }
    let until = fences.partition_point(|fence| facts.before(fence.at, one.done.called));
    let fence = fences.get(until.checked_sub(1)?)?;
    let counts = one.epoch <= fence.epoch && !joins.within(facts, fence.from, one.until());
    counts.then_some(fence.line)
}

/// What it was told before it asked, in an epoch of long ago. A heartbeat may be in the one before, if it says what it owns.
fn overtaken(facts: &Facts<'_>, one: &Sent<'_>, own: &Told) -> Option<usize> {
    let (highest, line) = own.before(facts, one.done.called)?;
    let old = one.epoch > JOIN && one.epoch < highest;
    let may_be_before = matches!(one.what, What::Beat { owned: Some(_), .. });
    (old && !may_be_before).then_some(line)
}

/// What a fenced member has committed is not found.
fn no_late_commit(name: &str, group: &Group<'_>, late: &[(&Done, usize)], verdict: &mut Verdict) {
    if late.is_empty() {
        return;
    }
    let mut offsets: HashMap<(&str, i64), Option<(usize, usize)>> = HashMap::new();
    let lines: HashMap<usize, usize> = late.iter().map(|(done, fence)| (done.line, *fence)).collect();
    for (done, committed) in &group.commits {
        let fence = lines.get(&done.line).map(|fence| (*fence, done.line));
        for (partition, offset) in *committed {
            // Another one who may commit the same explains it.
            let known = offsets.entry((partition, *offset)).or_insert(fence);
            *known = known.and(fence);
        }
    }
    for done in &group.fetches {
        let Some((_, answer)) = done.ok() else { continue };
        for (partition, offset) in &answer.offsets {
            let Some(Some((fence, commit))) = offsets.get(&(partition.as_str(), *offset)) else { continue };
            verdict.holds_if(false, Property::FenceMember, [*fence, *commit, done.line], || {
                format!("{partition} of {name:?} is at {offset}: a member committed it that had been fenced")
            });
        }
    }
}

/// A time in which a member has certainly held a partition.
struct Span<'a> {
    from: u64,
    to: u64,
    member: &'a str,
    lines: [usize; 2],
}

/// The times in which two members have held a partition do not meet.
fn one_owner(facts: &Facts<'_>, group: &str, members: &Members<'_>, verdict: &mut Verdict) {
    let mut spans: BTreeMap<&str, Vec<Span<'_>>> = BTreeMap::new();
    for (member, sent) in members {
        let mut holder = Holder { member, ..Holder::default() };
        sent.iter().for_each(|one| holder.goes_on(one, &mut spans));
        holder.lets_go(&mut spans, |_| false);
    }
    for (partition, mut spans) in spans {
        spans.sort_by_key(|span| span.from);
        let mut longest: Option<&Span<'_>> = None;
        for span in &spans {
            let other = longest.filter(|longest| longest.member != span.member);
            let alone = other.is_none_or(|other| !facts.before(span.from, other.to));
            let lines = other.map_or(span.lines, |other| other.lines).into_iter().chain(span.lines);
            verdict.holds_if(alone, Property::OneOwner, lines, || {
                let other = other.map_or("", |other| other.member);
                format!("{partition} is held by {other:?} and by {:?} in {group:?}", span.member)
            });
            if longest.is_none_or(|longest| longest.to < span.to) {
                longest = Some(span);
            }
        }
    }
}

/// A member, as what it was told makes it.
#[derive(Default)]
struct Holder<'a> {
    member: &'a str,
    /// Since when it has held what, and where it was told so.
    held: BTreeMap<&'a str, (u64, usize)>,
    /// When it last asked something that told that it was still a member, and where.
    heard: Option<(u64, usize)>,
    /// The epoch it was in before, and the one it is in.
    epochs: (i32, i32),
    /// By epoch, what it owned according to each heartbeat whose answer was lost: each may arrive late, and give up the rest.
    strays: BTreeMap<i32, BTreeSet<&'a str>>,
    /// Up to when what it has asked before may be answered.
    until: u64,
}

impl<'a> Holder<'a> {
    fn goes_on(&mut self, one: &Sent<'a>, spans: &mut BTreeMap<&'a str, Vec<Span<'a>>>) {
        let What::Beat { owned, .. } = one.what else {
            if one.is_heard() && one.epoch == self.epochs.1 {
                self.heard = Some((one.done.called, one.done.line));
            }
            return;
        };
        let overlaps = one.done.called < self.until;
        if one.epoch <= JOIN || overlaps {
            self.lets_go(spans, |_| false);
            self.strays.clear();
        } else if let Some(owned) = owned {
            self.lets_go(spans, |partition| owned.contains(partition));
        }
        let answered = one.told();
        let Some((at, answer)) = answered else {
            if let Some(owned) = owned.filter(|_| !one.done.failed()) {
                let owned: BTreeSet<&str> = owned.iter().map(String::as_str).collect();
                let left = self.strays.entry(one.epoch).or_insert_with(|| owned.clone());
                left.retain(|partition| owned.contains(partition));
            }
            return;
        };
        self.until = at;
        let Some((_, epoch)) = one.told_epoch() else { return self.lets_go(spans, |_| false) };
        if epoch != self.epochs.1 {
            self.epochs = (self.epochs.1, epoch);
            self.strays = self.strays.split_off(&self.epochs.0);
        }
        if one.epoch > JOIN {
            self.heard = Some((one.done.called, one.done.line));
        }
        for partition in answer.assigned.iter().flatten() {
            if self.strays.values().all(|owned| owned.contains(partition.as_str())) {
                self.held.entry(partition).or_insert((at, one.done.line));
            }
        }
    }

    /// What it does not keep is not its own any more.
    fn lets_go(&mut self, spans: &mut BTreeMap<&'a str, Vec<Span<'a>>>, keeps: impl Fn(&str) -> bool) {
        let Holder { member, heard, held, .. } = self;
        held.retain(|partition, (from, line)| {
            if keeps(partition) {
                return true;
            }
            if let Some((to, heard)) = heard.filter(|(to, _)| to > from) {
                spans.entry(partition).or_default().push(Span {
                    from: *from,
                    to,
                    member,
                    lines: [*line, heard],
                });
            }
            false
        });
    }
}
