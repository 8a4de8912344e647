//! Deletes the oldest records of the topic that histories are about.

use super::reader::{LATEST, offset_at};
use crate::sim::peer::Peer;
use crate::sim::world::TOPIC;
use crate::wire::messages::*;

pub(super) async fn run(mut peer: Peer) {
    let partitions = u64::try_from(peer.world.plan.partitions).unwrap();
    while peer.world.goes_on() {
        peer.pause(8_000).await;
        let index = i32::try_from(peer.chance.below(partitions)).unwrap();
        let Some(end) = offset_at(&mut peer, index, 0, LATEST).await else { continue };
        // Mostly a part; now and then all of it, whatever is open.
        let end = u64::try_from(end).unwrap();
        let offset = if peer.chance.once_in(4) { end } else { peer.chance.below(end + 1) };
        let offset = i64::try_from(offset).unwrap();
        let deleted = std::sync::Arc::clone(&peer.world.deleted);
        deleted.lock().unwrap().entry(index).and_modify(|most| *most = offset.max(*most)).or_insert(offset);
        let partitions = vec![DeleteRecordsPartition { partition_index: index, offset }];
        let topics = vec![DeleteRecordsTopic { name: TOPIC.to_owned(), partitions }];
        // Whether it is done nobody needs to know: it may happen, now or later.
        let _ = peer.call(2, &DeleteRecordsRequest { topics, timeout_ms: 10_000 }).await;
    }
}
