//! Makes topics and deletes them, grows them, and deletes records of them. They are not those that histories are about.

use crate::sim::peer::Peer;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

pub(super) async fn run(mut peer: Peer) {
    let mut made: Vec<String> = Vec::new();
    while peer.world.goes_on() {
        if made.len() < 3 && peer.chance.once_in(2) {
            let name = peer.world.recorder.name("scratch");
            if create(&mut peer, &name).await {
                made.push(name);
            }
        } else if !made.is_empty() {
            let index = usize::try_from(peer.chance.below(made.len() as u64)).unwrap();
            if delete(&mut peer, &made[index]).await {
                made.remove(index);
            }
        }
        peer.pause(5_000).await;
    }
}

async fn create(peer: &mut Peer, name: &str) -> bool {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: i32::try_from(peer.chance.between(1, 8)).unwrap(),
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    // Where the answer is lost, it may be there.
    let Ok(mut response) = peer.call(7, &request).await else { return true };
    matches!(response.topics.remove(0).error_code, ErrorCode::None | ErrorCode::TopicAlreadyExists)
}

async fn delete(peer: &mut Peer, name: &str) -> bool {
    let topic = DeleteTopicState { name: Some(name.to_owned()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], ..Default::default() };
    let Ok(mut response) = peer.call(6, &request).await else { return false };
    matches!(response.responses.remove(0).error_code, ErrorCode::None | ErrorCode::UnknownTopicOrPartition)
}
