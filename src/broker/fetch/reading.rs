//! From what a client wants to places in the log: looks at the view, waits for more where there is too little, and goes on
//! where it stopped.

use super::Wanted;
use super::plan::{Few, Halt, Room, Rows, Scan};
use super::watched::{Kept, Known};
use crate::broker::errors::names_topics_by_id;
use crate::broker::failure::Failure;
use crate::broker::leader_epoch;
use crate::broker::limits::FETCH_SLICE_ENTRIES;
use crate::broker::names::{self, Topic};
use crate::broker::session::Context;
use crate::core::PartitionRow;
use crate::shard::{Readable, UpTo, Watch};
use crate::store::{IndexEntry, ReadView, StoreError};
use crate::types::{Offset, PartitionId, ProducerId};
use crate::wire::{ApiKey, ErrorCode};
use tokio::time::{Instant, sleep_until};

/// How much a fetch wants, and by when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) committed: bool,
    pub(super) bytes_min: usize,
    pub(super) bytes_max: usize,
    pub(super) deadline: Instant,
}

/// What has been found of one partition; or why there is nothing to be had.
pub(super) type Found = Result<Reading, ErrorCode>;

/// A partition that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) partition: PartitionId,
    pub(super) row: PartitionRow,
    pub(super) scan: Scan,
    asked: Offset,
    halt: Halt,
    /// Up to where the scan has looked, if it has reached the end.
    seen: Option<Offset>,
}

/// Looks for what is wanted, until there is enough, something is wrong, or the deadline is there. One answer for each
/// partition, in order.
pub(super) async fn find(cx: &Context, wanted: &[Wanted], terms: Terms) -> Result<Vec<Found>, Failure> {
    let partitions = resolve(cx, &cx.view(), wanted)?;
    let up_to = up_to(terms.committed);
    let known = || match cx.caller.last_fetch.begin(up_to, &partitions) {
        Known::Watched(kept, rows) => (Some(kept), Some(rows)),
        Known::FetchedAgain => (Some(watch_all(cx, up_to, partitions.iter().flatten().copied())), None),
        Known::Nothing => (None, None),
    };
    // The view comes after the watch has begun: what is not in it will be heard.
    let ((mut watched, rows), mut view, are_of_one_moment) = cx.node.shard.with_view(known);
    let is_new = rows.is_none();
    let rows = rows.filter(|_| are_of_one_moment);
    let mut found = begin(cx, &view, wanted, partitions, rows, terms)?;
    watched = watched.filter(|watched| !is_new || learn(watched, &found));
    let (first, all) = (view.durable(), 0..found.len());
    let mut room = Room::shared(terms.bytes_max, found.len());
    // Those to be looked at. With many partitions and small transactions, to look at all of them each time is most of the work.
    let mut due: Vec<usize> = all.clone().collect();
    loop {
        room.divide(&due, |index, room| match found.get_mut(index) {
            Some(Ok(reading)) => reading.advance(&view, terms.committed, room),
            _ => Ok(Halt::End),
        })?;
        if is_enough(&found, &room, terms.bytes_min) || Instant::now() >= terms.deadline {
            break;
        }
        due = all.clone().filter(|index| has_more(found.get(*index))).collect();
        if !due.is_empty() {
            tokio::task::yield_now().await;
            view = cx.view();
            renew_from(cx, &view, &mut found, &due)?;
        } else if let Some(watched) = &watched {
            if !changed(&watched.watch, terms.deadline).await {
                break;
            }
            let (changed, newer, are_of_one_moment) = cx.node.shard.with_view(|| watched.watch.take());
            view = newer;
            due = changed.iter().map(|(index, _)| *index).collect();
            if are_of_one_moment {
                changed.into_iter().for_each(|(index, row)| renew(cx, &mut found, index, row));
            } else {
                renew_from(cx, &view, &mut found, &due)?;
            }
        } else {
            // What changes from here on wakes; what has changed before is looked at once more.
            let begun = watch_all(cx, up_to, found.iter().flatten().map(|reading| reading.partition));
            view = cx.view();
            if view.durable() > first {
                due.extend(all.clone());
                renew_from(cx, &view, &mut found, &due)?;
            }
            watched = Some(begun).filter(|begun| learn(begun, &found));
        }
    }
    cx.caller.last_fetch.keep(watched, &cx.node.watched);
    for reading in found.iter().flatten() {
        cx.node.metrics.dropped_bytes.add(reading.scan.dropped_bytes);
        reading.leave_word(cx, up_to);
    }
    Ok(found)
}

/// Takes these partitions as a newer view has them.
fn renew_from(cx: &Context, view: &ReadView, found: &mut [Found], due: &[usize]) -> Result<(), Failure> {
    for index in due {
        if let Some(Ok(reading)) = found.get(*index) {
            let row = view.get::<PartitionRow>(&reading.partition)?;
            renew(cx, found, *index, row);
        }
    }
    Ok(())
}

/// Takes one of them as it is by now.
fn renew(cx: &Context, found: &mut [Found], index: usize, row: Option<PartitionRow>) {
    if let Some(found) = found.get_mut(index)
        && let Ok(reading) = found
        && let Err(code) = reading.renew(cx, row)
    {
        *found = Err(code);
    }
}

/// Whether it has not been looked through to its end yet.
fn has_more(found: Option<&Found>) -> bool {
    found.is_some_and(|found| found.as_ref().is_ok_and(|reading| reading.halt == Halt::Slice))
}

fn up_to(committed: bool) -> UpTo {
    if committed { UpTo::LastStableOffset } else { UpTo::HighWatermark }
}

/// Watches what is being read, each under its place in what is found: where one is refused there is no waiting.
fn watch_all(cx: &Context, up_to: UpTo, partitions: impl Iterator<Item = PartitionId>) -> Kept {
    Kept::from(cx.node.shard.watch(up_to, partitions.collect()))
}

/// Tells a watch that has begun how the partitions are; false where one has been refused, so that it is of others.
fn learn(watched: &Kept, found: &[Found]) -> bool {
    let is_whole = found.iter().flatten().count() == watched.watch.len();
    if is_whole {
        watched.watch.learn(found.iter().flatten().map(|reading| &reading.row));
    }
    is_whole
}

/// Returns true as soon as something has changed, and false at the deadline.
async fn changed(watch: &Watch, deadline: Instant) -> bool {
    tokio::select! {
        biased;
        () = watch.changed() => true,
        () = sleep_until(deadline) => false,
    }
}

/// What a partition answers that was deleted after its topic had been found.
fn deleted(cx: &Context) -> ErrorCode {
    match names_topics_by_id(ApiKey::Fetch, cx.version) {
        true => ErrorCode::UnknownTopicId,
        false => ErrorCode::UnknownTopicOrPartition,
    }
}

fn is_enough(found: &[Found], room: &Room, bytes_min: usize) -> bool {
    let credit = |found: &Found| found.as_ref().map_or(0, |reading| reading.scan.credit(reading.halt));
    found.is_empty()
        || room.full
        || found.iter().any(Result::is_err)
        || found.iter().map(credit).fold(0, usize::saturating_add) >= bytes_min
}

/// Finds the partitions by what they are called.
fn resolve(
    cx: &Context,
    view: &ReadView,
    wanted: &[Wanted],
) -> Result<Vec<Result<PartitionId, ErrorCode>>, Failure> {
    let leader = leader_epoch::current(view)?;
    let mut partitions = Vec::with_capacity(wanted.len());
    // Partitions of one topic mostly come together.
    let mut last: Option<(&super::TopicRef, Result<Topic, ErrorCode>)> = None;
    for wanted in wanted {
        let topic = match last.take() {
            Some((name, topic)) if *name == wanted.topic => topic,
            _ => names::find(view, (ApiKey::Fetch, cx.version), &wanted.topic.name, wanted.topic.id)?,
        };
        let partition = match &topic {
            Ok(topic) => topic.partition(wanted.index).ok_or(ErrorCode::UnknownTopicOrPartition),
            Err(code) => Err(*code),
        };
        let known = leader_epoch::compare(leader, wanted.leader_epoch);
        partitions.push(partition.and_then(|partition| known.map(|()| partition)));
        last = Some((&wanted.topic, topic));
    }
    Ok(partitions)
}

/// Where each partition is to be read from. `rows` are those of the partitions that are not refused, where they are known; else
/// they are as the view has them.
fn begin(
    cx: &Context,
    view: &ReadView,
    wanted: &[Wanted],
    partitions: Vec<Result<PartitionId, ErrorCode>>,
    rows: Option<Vec<Option<PartitionRow>>>,
    terms: Terms,
) -> Result<Vec<Found>, Failure> {
    let mut rows = rows.map(Vec::into_iter);
    let mut found = Vec::with_capacity(wanted.len());
    for (wanted, partition) in wanted.iter().zip(partitions) {
        let partition = match partition {
            Ok(partition) => partition,
            Err(code) => {
                found.push(Err(code));
                continue;
            }
        };
        let row = match rows.as_mut().and_then(Iterator::next) {
            Some(row) => row,
            None => view.get::<PartitionRow>(&partition)?,
        };
        found.push(Reading::begin(cx, partition, row, wanted, terms));
    }
    Ok(found)
}

impl Reading {
    fn begin(
        cx: &Context,
        partition: PartitionId,
        row: Option<PartitionRow>,
        wanted: &Wanted,
        terms: Terms,
    ) -> Found {
        let row = row.ok_or_else(|| deleted(cx))?;
        let asked = Offset(wanted.fetch_offset);
        if asked < row.log_start || asked > row.next_offset {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let start = cx.caller.skips.start(partition, up_to(terms.committed), asked);
        let limit = usize::try_from(wanted.bytes_max).unwrap_or(0);
        let scan = Scan::new(terms.committed, start, limit);
        Ok(Reading { partition, row, scan, asked, halt: Halt::Slice, seen: None })
    }

    /// Takes the partition as it is by now; or says what to answer if what was asked for is no more.
    fn renew(&mut self, cx: &Context, row: Option<PartitionRow>) -> Result<(), ErrorCode> {
        let row = row.ok_or_else(|| deleted(cx))?;
        // To go on would leave out what has been deleted, without a word.
        if self.asked < row.log_start {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        self.row = row;
        Ok(())
    }

    /// Goes on in the view that its row is from, and says why it stopped.
    fn advance(&mut self, view: &ReadView, committed: bool, room: &mut Room) -> Result<Halt, Failure> {
        let Readable { end, .. } = up_to(committed).of(&self.row);
        if self.halt == Halt::Full || self.seen == Some(end) {
            return Ok(self.halt);
        }
        let rows = PartitionRows { view, partition: self.partition };
        self.halt = match self.scan.next < end {
            true => self.scan.advance(&rows, end, FETCH_SLICE_ENTRIES, room)?,
            false => Halt::End,
        };
        self.seen = (self.halt == Halt::End).then_some(end);
        Ok(self.halt)
    }

    /// Tells the next fetch how far this one came without finding anything to answer with.
    fn leave_word(&self, cx: &Context, up_to: UpTo) {
        if self.scan.kept.is_empty() && self.scan.next > self.asked {
            cx.caller.skips.remember(self.partition, up_to, self.asked, self.scan.next);
        } else if !self.scan.kept.is_empty() {
            cx.caller.skips.forget(self.partition, up_to);
        }
    }
}

/// One partition's rows in a view.
struct PartitionRows<'v> {
    view: &'v ReadView,
    partition: PartitionId,
}

impl Rows for PartitionRows<'_> {
    type Error = StoreError;

    fn batches(&self, offset: Offset, count: usize) -> Result<Few<(Offset, IndexEntry)>, StoreError> {
        self.view.index(self.partition, offset).take(count).collect()
    }

    fn next_aborted(
        &self,
        producer: ProducerId,
        offset: Offset,
    ) -> Result<Option<(Offset, Offset)>, StoreError> {
        self.view.next_aborted(self.partition, producer, offset)
    }
}
