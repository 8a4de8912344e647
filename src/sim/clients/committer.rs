//! Commits offsets by hand, each higher than the one before, for a partition that no transaction commits.

use super::{GROUP, commit_of, partition_name};
use crate::history::{Operation, Returned};
use crate::sim::peer::Peer;
use crate::wire::ErrorCode;

/// Past those that transactions commit: offsets may be committed of partitions that get no records.
pub(super) const BY_HAND: i32 = 0;

pub(super) async fn run(mut peer: Peer) {
    let process = peer.world.recorder.name(&peer.name);
    while peer.world.goes_on() {
        let offset = i64::try_from(peer.world.recorder.number()).unwrap();
        let offsets = [(partition_name(BY_HAND), offset)].into();
        let operation =
            Operation::CommitOffsets { group: GROUP.to_owned(), member: None, member_epoch: None, offsets };
        let call = peer.world.recorder.call(&process, operation);
        let returned = match peer.call(8, &commit_of(GROUP, BY_HAND, offset)).await {
            Ok(mut response) => match response.topics.remove(0).partitions.remove(0).error_code {
                ErrorCode::None => Returned::Ok(Default::default()),
                _ => Returned::Failed,
            },
            Err(_) => Returned::Unknown,
        };
        // What was not answered may still come; what is committed next must come after it.
        let lost = returned == Returned::Unknown;
        peer.world.recorder.returned(call, returned);
        if lost {
            return;
        }
        peer.pause(2_000).await;
    }
}
