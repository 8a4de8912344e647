//! A producer whose records have idempotency keys, some of which have been sent before: by itself, by others, in transactions
//! that are open or have ended. It sends again what is not answered, and what is refused it gives up.

use super::idempotent;
use super::records::{Identity, Written, answer, batch, compose_keyed, produce};
use crate::history::{Answer, Returned};
use crate::sim::faults::Busy;
use crate::sim::peer::{Lost, Peer};
use crate::wire::ErrorCode;
use crate::wire::messages::ProducePartitionResponse;

/// How often a batch is sent that is not answered, or that another transaction holds up.
const TRIES: usize = 6;

/// The broker does not take batches from this producer any more, or it does not know where it is.
struct Finished;

pub(super) async fn run(mut peer: Peer) {
    while peer.world.goes_on() {
        let process = peer.world.recorder.name(&peer.name);
        if let Some(identity) = idempotent::begin(&mut peer).await {
            let mut next = vec![0; usize::try_from(peer.world.plan.partitions).unwrap()];
            while peer.world.goes_on() && write(&mut peer, &process, identity, &mut next).await.is_ok() {
                peer.pause(1_500).await;
            }
        }
        peer.world.recorder.gone(&process);
    }
}

async fn write(peer: &mut Peer, process: &str, identity: Identity, next: &mut [i32]) -> Result<(), Finished> {
    let partition = usize::try_from(peer.chance.below(next.len() as u64)).unwrap();
    let index = i32::try_from(partition).unwrap();
    let count = peer.chance.between(1, 4);
    let written = compose_keyed(peer, process, index, None, count);
    let request = produce(&peer.world, index, None, batch(identity, next[partition], false, &written));
    let recorder = peer.world.recorder.clone();
    let _busy = peer.world.faults.during(Busy::SendingKeys);
    let mut otherwise = Returned::Failed;
    for _ in 0..TRIES {
        match peer.call(9, &request).await.map(answer) {
            Ok(response) => match response.error_code {
                ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                    let is_known = response.error_code == ErrorCode::None && response.base_offset >= 0;
                    for (one, offset) in written.iter().zip(response.base_offset..) {
                        let offset = is_known.then_some(offset);
                        recorder.returned(one.call, Returned::Ok(Answer { offset, ..Answer::default() }));
                    }
                    next[partition] += i32::try_from(written.len()).unwrap();
                    return Ok(());
                }
                // Nothing is stored, and no sequence is used (K2).
                ErrorCode::InvalidRecord => {
                    check_refusal(peer, &written, &response);
                    let is_certain = otherwise == Returned::Failed;
                    written.iter().for_each(|one| recorder.returned(one.call, otherwise.clone()));
                    return if is_certain { Ok(()) } else { Err(Finished) };
                }
                code if code.retriable() => peer.pause(1_000).await,
                code => {
                    recorder.note(|| format!("{process}: not written: {code:?}"));
                    break;
                }
            },
            // From here on it may be stored, whatever is answered.
            Err(Lost) => otherwise = Returned::Unknown,
        }
    }
    written.iter().for_each(|one| recorder.returned(one.call, otherwise.clone()));
    Err(Finished)
}

/// Those records are to blame whose key somebody has sent before, or an earlier record of the batch has; each is named.
fn check_refusal(peer: &Peer, written: &[Written], response: &ProducePartitionResponse) {
    let blamed = |number: usize| {
        response.record_errors.iter().any(|error| usize::try_from(error.batch_index) == Ok(number))
    };
    let is_known = |number: usize| {
        response.accepted_keys.iter().any(|key| usize::try_from(key.batch_index) == Ok(number))
    };
    let broken = |how: &str| peer.world.recorder.broken("KeyOnce", how);
    if response.accepted_keys.is_empty() {
        broken("a batch is refused for its keys, and none of them is named");
    }
    for (number, one) in written.iter().enumerate() {
        if blamed(number) != is_known(number) {
            broken("a record is refused for its key, and nobody is told where that is");
        }
        if is_known(number) && one.is_alone(&peer.world) {
            broken("a record is refused for a key that no other record has");
        }
        let again = written[..number].iter().any(|earlier| earlier.same_key(one));
        if again && !is_known(number) {
            broken("a key that stands twice in a batch that is refused is not named");
        }
    }
}
