//! Readers of both kinds, and whoever asks where partitions end and what a group has committed.

use super::consumer::GROUP as CONSUMERS;
use super::records::name_of;
use super::{GROUP, partition_name};
use crate::history::{Answer, Isolation, Operation, Returned};
use crate::sim::faults::Busy;
use crate::sim::peer::Peer;
use crate::sim::plan::Keeps;
use crate::sim::world::TOPIC;
use crate::wire::ErrorCode;
use crate::wire::batch::{BatchLimits, Batches};
use crate::wire::messages::*;
use std::collections::BTreeMap;

/// Bytes of one answer, about: little, so that there are many.
const FETCH_BYTES: i32 = 16 << 10;

/// Reads everything from the beginning, again and again.
pub(super) async fn run(mut peer: Peer, isolation: Isolation) {
    let partitions = peer.world.plan.partitions;
    while peer.world.goes_on() {
        let mut positions = vec![0i64; usize::try_from(partitions).unwrap()];
        while peer.world.goes_on() && !peer.chance.once_in(40) {
            let index = i32::try_from(peer.chance.below(u64::try_from(partitions).unwrap())).unwrap();
            let position = &mut positions[usize::try_from(index).unwrap()];
            *position = match read(&mut peer, index, *position, isolation, 500).await {
                Some(Reached { next, .. }) => next,
                None => from_start(&mut peer, index, *position).await,
            };
            peer.pause(1_000).await;
        }
    }
}

/// How often a reader at peace asks again who gets nothing although there is something.
const EMPTY_MOST: u64 = 20;

/// Reads every partition from its beginning to its end.
pub(super) async fn read_all(peer: &mut Peer, isolation: Isolation) {
    for index in 0..peer.world.plan.partitions {
        let (mut position, mut empty) = (0, 0);
        loop {
            match read(peer, index, position, isolation, 0).await {
                Some(Reached { next, end }) if next == position => {
                    if next >= end {
                        break;
                    }
                    empty += 1;
                    if empty > EMPTY_MOST {
                        let how =
                            format!("a reader of {index} gets nothing at {next}, and may read to {end}");
                        peer.world.recorder.broken("NoHang", how);
                        break;
                    }
                    peer.pause(100).await;
                }
                Some(Reached { next, .. }) => (position, empty) = (next, 0),
                None => {
                    peer.pause(100).await;
                    position = from_start(peer, index, position).await;
                }
            }
        }
    }
}

/// Where a reader goes on who was not answered: there, or where the partition begins by now.
async fn from_start(peer: &mut Peer, index: i32, position: i64) -> i64 {
    if !peer.world.plan.keeps.moves_start() {
        return position;
    }
    let Some(start) = offset_at(peer, index, 0, EARLIEST).await else { return position };
    let asked = peer.world.deleted.lock().unwrap().get(&index).copied().unwrap_or(0);
    if peer.world.plan.keeps == Keeps::NotDeleted && start > asked {
        let how = format!("{index} begins at {start}, and only what lies below {asked} was to be deleted");
        peer.world.recorder.broken("NoLostWrite", how);
    }
    position.max(start)
}

/// How far a reader has come.
struct Reached {
    next: i64,
    /// How far it may read.
    end: i64,
}

/// One read; where to go on, if there was an answer.
async fn read(peer: &mut Peer, index: i32, from: i64, isolation: Isolation, wait_ms: i32) -> Option<Reached> {
    let busy = peer.world.faults.during(Busy::Reading);
    let version = *peer.chance.of_these(&[4, 7, 11, 12, 13, 16, 17]);
    let request = request(peer, index, from, isolation, wait_ms);
    let operation = Operation::Read { partition: partition_name(index), from, isolation };
    let call = peer.world.recorder.call(&peer.name, operation);
    let answered = peer.call(version, &request).await;
    drop(busy);
    let answer = answered.ok().and_then(|response| answer(peer, response, from));
    let reached = answer.as_ref().and_then(|answer| {
        let end = match isolation {
            Isolation::ReadCommitted => answer.last_stable,
            Isolation::ReadUncommitted => answer.high_watermark,
        };
        Some(Reached { next: answer.next?, end: end? })
    });
    peer.world.recorder.returned(call, answer.map_or(Returned::Unknown, Returned::Ok));
    reached
}

fn request(peer: &mut Peer, partition: i32, from: i64, isolation: Isolation, wait_ms: i32) -> FetchRequest {
    let partition_max_bytes = if peer.chance.once_in(8) { 1 } else { FETCH_BYTES };
    let partition =
        FetchPartition { partition, fetch_offset: from, partition_max_bytes, ..Default::default() };
    let topic_id = *peer.world.topic.get().expect("the topic is there");
    let topic = FetchTopic { topic: TOPIC.to_owned(), topic_id, partitions: vec![partition] };
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        isolation_level: i8::from(isolation == Isolation::ReadCommitted),
        topics: vec![topic],
        ..Default::default()
    }
}

/// What an answer says; none if it is an error.
fn answer(peer: &Peer, mut response: FetchResponse, from: i64) -> Option<Answer> {
    if response.error_code != ErrorCode::None || response.responses.is_empty() {
        return None;
    }
    let partition = response.responses.remove(0).partitions.remove(0);
    if partition.error_code != ErrorCode::None {
        peer.world.recorder.note(|| format!("a read is answered {:?}", partition.error_code));
        return None;
    }
    let (mut records, mut next) = (Vec::new(), from);
    for batch in Batches::new(partition.records.map(|records| records.to_bytes()).unwrap_or_default()) {
        let Ok(batch) = batch else {
            peer.world.recorder.broken("NoLostWrite", "a batch that is read is damaged");
            return None;
        };
        next = batch.header.next_offset().0;
        if batch.header.control {
            continue;
        }
        for record in batch.records(&BatchLimits::default()).expect("records") {
            let record = record.expect("a record");
            if record.offset.0 >= from {
                records.push((record.offset.0, name_of(&record.record).expect("a name")));
            }
        }
    }
    Some(Answer {
        records,
        next: Some(next.max(from)),
        high_watermark: Some(partition.high_watermark),
        last_stable: Some(partition.last_stable_offset).filter(|offset| *offset >= 0),
        ..Answer::default()
    })
}

/// Asks where partitions end and what is committed, again and again.
pub(super) async fn watch(mut peer: Peer) {
    while peer.world.goes_on() {
        look(&mut peer, false).await;
        peer.pause(2_000).await;
    }
}

/// One look at everything; until there are answers, if they are needed.
pub(super) async fn look(peer: &mut Peer, until_answered: bool) {
    for index in 0..peer.world.plan.partitions {
        while end(peer, index).await.is_none() && until_answered {
            peer.pause(100).await;
        }
    }
    let groups: &[&str] = if peer.world.plan.clients.consumers > 0 { &[GROUP, CONSUMERS] } else { &[GROUP] };
    for group in groups {
        while offsets(peer, group).await.is_none() && until_answered {
            peer.pause(100).await;
        }
    }
}

async fn end(peer: &mut Peer, index: i32) -> Option<()> {
    let operation = Operation::End { partition: partition_name(index) };
    let call = peer.world.recorder.call(&peer.name, operation);
    // The high watermark first: what is stable by the second answer is at least what it is by then.
    let high_watermark = offset_at(peer, index, 0, LATEST).await;
    let last_stable = offset_at(peer, index, 1, LATEST).await;
    let whole = high_watermark.is_some() && last_stable.is_some();
    let answer = Answer { high_watermark, last_stable, ..Answer::default() };
    peer.world.recorder.returned(call, if whole { Returned::Ok(answer) } else { Returned::Unknown });
    whole.then_some(())
}

/// The times that ask for the end of a partition, and for its beginning.
pub(super) const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

pub(super) async fn offset_at(
    peer: &mut Peer,
    partition_index: i32,
    isolation_level: i8,
    timestamp: i64,
) -> Option<i64> {
    let partition = ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
    let request =
        ListOffsetsRequest { replica_id: -1, isolation_level, topics: vec![topic], ..Default::default() };
    let mut response = peer.call(9, &request).await.ok()?;
    let partition = response.topics.remove(0).partitions.remove(0);
    (partition.error_code == ErrorCode::None).then_some(partition.offset)
}

async fn offsets(peer: &mut Peer, group: &str) -> Option<()> {
    let operation = Operation::FetchOffsets { group: group.to_owned() };
    let call = peer.world.recorder.call(&peer.name, operation);
    let found = committed(peer, group).await;
    let is_found = found.is_some();
    let returned = found.map(|offsets| Returned::Ok(Answer { offsets, ..Answer::default() }));
    peer.world.recorder.returned(call, returned.unwrap_or(Returned::Unknown));
    is_found.then_some(())
}

async fn committed(peer: &mut Peer, group: &str) -> Option<BTreeMap<String, i64>> {
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: None,
        require_stable: peer.chance.once_in(2),
        ..Default::default()
    };
    let response = peer.call(7, &request).await.ok()?;
    if response.error_code != ErrorCode::None {
        return None;
    }
    let mut offsets = BTreeMap::new();
    for topic in response.topics {
        for partition in topic.partitions {
            if partition.error_code != ErrorCode::None {
                return None;
            }
            if partition.committed_offset >= 0 {
                offsets.insert(
                    format!("{}/{}", topic.name, partition.partition_index),
                    partition.committed_offset,
                );
            }
        }
    }
    Some(offsets)
}
