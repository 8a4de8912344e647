//! From what a client wants to places in the log: looks at the view, waits for more where there is too little, and goes on
//! where it stopped.

use super::Wanted;
use super::plan::{Halt, Room, Rows, Scan};
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
    let mut view = cx.view();
    let mut found = resolve(cx, &view, wanted, terms)?;
    let (first, all) = (view.durable(), 0..found.len());
    let mut room = Room::new(terms.bytes_max);
    let mut watch = None;
    // Those to be looked at. With many partitions and small transactions, to look at all of them each time is most of the work.
    let mut due: Vec<usize> = all.clone().collect();
    loop {
        for index in &due {
            if let Some(Ok(reading)) = found.get_mut(*index) {
                reading.advance(&view, terms.committed, &mut room)?;
            }
        }
        if is_enough(&found, &room, terms.bytes_min) || Instant::now() >= terms.deadline {
            break;
        }
        due = all.clone().filter(|index| has_more(found.get(*index))).collect();
        if !due.is_empty() {
            tokio::task::yield_now().await;
        } else if let Some(watch) = &watch {
            due = changed(watch, terms.deadline).await;
        } else {
            // What changes from here on wakes; what has changed before is looked at once more.
            watch = Some(watch_all(cx, &found, terms.committed));
            let unchanged = cx.view().durable() == first;
            due = if unchanged { Vec::new() } else { all.clone().collect() };
        }
        view = cx.view();
        for index in &due {
            if let Some(found) = found.get_mut(*index)
                && let Ok(reading) = found
                && let Err(code) = reading.renew(cx, &view)?
            {
                *found = Err(code);
            }
        }
    }
    for reading in found.iter().flatten().filter(|_| terms.committed) {
        cx.node.metrics.dropped_bytes.add(reading.scan.dropped_bytes);
        reading.leave_word(cx);
    }
    Ok(found)
}

/// Whether it has not been looked through to its end yet.
fn has_more(found: Option<&Found>) -> bool {
    found.is_some_and(|found| found.as_ref().is_ok_and(|reading| reading.halt == Halt::Slice))
}

fn up_to(committed: bool) -> UpTo {
    if committed { UpTo::LastStableOffset } else { UpTo::HighWatermark }
}

/// Watches what is being read, each under its place in `found`: where one is refused there is no waiting.
fn watch_all(cx: &Context, found: &[Found], committed: bool) -> Watch {
    let up_to = up_to(committed);
    let readings = found.iter().flatten();
    cx.node.shard.watch(up_to, readings.map(|reading| (reading.partition, Some(up_to.of(&reading.row)))))
}

/// Which have changed, as soon as some have; none at the deadline.
async fn changed(watch: &Watch, deadline: Instant) -> Vec<usize> {
    tokio::select! {
        biased;
        changed = watch.changed() => changed.into_iter().collect(),
        () = sleep_until(deadline) => Vec::new(),
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

/// Finds the partitions by what they are called, and where each is to be read from.
fn resolve(cx: &Context, view: &ReadView, wanted: &[Wanted], terms: Terms) -> Result<Vec<Found>, Failure> {
    let leader = leader_epoch::current(view)?;
    let mut found = Vec::with_capacity(wanted.len());
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
        found.push(match partition {
            Ok(partition) => match leader_epoch::compare(leader, wanted.leader_epoch) {
                Ok(()) => Reading::begin(cx, view, partition, wanted, terms)?,
                Err(code) => Err(code),
            },
            Err(code) => Err(code),
        });
        last = Some((&wanted.topic, topic));
    }
    Ok(found)
}

impl Reading {
    fn begin(
        cx: &Context,
        view: &ReadView,
        partition: PartitionId,
        wanted: &Wanted,
        terms: Terms,
    ) -> Result<Found, Failure> {
        let Some(row) = view.get::<PartitionRow>(&partition)? else {
            return Ok(Err(deleted(cx)));
        };
        let asked = Offset(wanted.fetch_offset);
        if asked < row.log_start || asked > row.next_offset {
            return Ok(Err(ErrorCode::OffsetOutOfRange));
        }
        let start = if terms.committed { cx.caller.skips.start(partition, asked) } else { asked };
        let limit = usize::try_from(wanted.bytes_max).unwrap_or(0);
        let scan = Scan::new(terms.committed, start, limit);
        Ok(Ok(Reading { partition, row, scan, asked, halt: Halt::Slice, seen: None }))
    }

    /// Takes the partition as a newer view has it; or says what to answer if what was asked for is no more.
    fn renew(&mut self, cx: &Context, view: &ReadView) -> Result<Result<(), ErrorCode>, Failure> {
        let Some(row) = view.get::<PartitionRow>(&self.partition)? else { return Ok(Err(deleted(cx))) };
        // To go on would leave out what has been deleted, without a word.
        if self.asked < row.log_start {
            return Ok(Err(ErrorCode::OffsetOutOfRange));
        }
        self.row = row;
        Ok(Ok(()))
    }

    /// Goes on in the view that its row is from.
    fn advance(&mut self, view: &ReadView, committed: bool, room: &mut Room) -> Result<(), Failure> {
        let Readable { end, .. } = up_to(committed).of(&self.row);
        if self.halt == Halt::Full || self.seen == Some(end) {
            return Ok(());
        }
        let rows = PartitionRows { view, partition: self.partition };
        self.halt = match self.scan.next < end {
            true => self.scan.advance(&rows, end, FETCH_SLICE_ENTRIES, room)?,
            false => Halt::End,
        };
        self.seen = (self.halt == Halt::End).then_some(end);
        Ok(())
    }

    /// Tells the next fetch how far this one came without finding anything to answer with.
    fn leave_word(&self, cx: &Context) {
        if self.scan.kept.is_empty() && self.scan.next > self.asked {
            cx.caller.skips.remember(self.partition, self.asked, self.scan.next);
        } else if !self.scan.kept.is_empty() {
            cx.caller.skips.forget(self.partition);
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

    fn batches(&self, offset: Offset, count: usize) -> Result<Vec<(Offset, IndexEntry)>, StoreError> {
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
