//! A producer without transactions that has several batches in flight, sends again what is not answered, and sometimes what
//! was answered long ago.

use super::records::{self, Identity, answer, batch, init, produce};
use crate::history::{Answer, Returned};
use crate::sim::faults::{Busy, Fault};
use crate::sim::peer::{Lost, Peer};
use crate::wire::ErrorCode;
use bytes::Bytes;
use std::collections::VecDeque;

/// As many as a partition remembers.
const IN_FLIGHT_MOST: u64 = 5;

/// A batch that has been sent, or is to be.
struct Outgoing {
    index: i32,
    batch: Bytes,
    /// The calls of its records, in order.
    calls: Vec<u64>,
    /// Whether it is this producer's first one there.
    is_first: bool,
    /// Whether it has been refused for a while: those behind it may have been taken meanwhile.
    was_refused: bool,
}

/// What became of a round of sending.
enum Round {
    /// Those that are left are to be sent again.
    Again,
    /// The broker does not take them from this producer any more.
    Over,
}

pub(super) async fn run(mut peer: Peer) {
    while peer.world.goes_on() {
        let process = peer.world.recorder.name(&peer.name);
        if let Some(identity) = begin(&mut peer).await {
            serve(&mut peer, &process, identity).await;
        }
        peer.world.recorder.gone(&process);
    }
}

/// Takes a producer id.
pub(super) async fn begin(peer: &mut Peer) -> Option<Identity> {
    while peer.world.goes_on() {
        if let Ok(response) = peer.call(4, &init(None, 0)).await
            && response.error_code == ErrorCode::None
        {
            return Some(Identity { id: response.producer_id, epoch: response.producer_epoch });
        }
        peer.pause(500).await;
    }
    None
}

async fn serve(peer: &mut Peer, process: &str, identity: Identity) {
    let partitions = usize::try_from(peer.world.plan.partitions).unwrap();
    let mut next = vec![0i32; partitions];
    let mut waiting: VecDeque<Outgoing> = VecDeque::new();
    let mut old: Option<(i32, Bytes)> = None;
    while peer.world.goes_on() {
        let mut room = vec![IN_FLIGHT_MOST; partitions];
        waiting.iter().for_each(|outgoing| room[usize::try_from(outgoing.index).unwrap()] -= 1);
        for _ in 0..peer.chance.between(1, 6) {
            let partition = usize::try_from(peer.chance.below(partitions as u64)).unwrap();
            if room[partition] > 0 {
                room[partition] -= 1;
                waiting.push_back(compose(peer, process, identity, partition, &mut next[partition]));
            }
        }
        let first = waiting.front().map(|outgoing| (outgoing.index, outgoing.batch.clone()));
        if let Round::Over = send(peer, &mut waiting).await {
            return;
        }
        if waiting.is_empty() && peer.chance.once_in(6) {
            old = first;
        }
        if peer.chance.once_in(10)
            && let Some((index, batch)) = old.clone()
        {
            send_late(peer, index, batch).await;
        }
        peer.pause(1_500).await;
        if peer.chance.once_in(60) {
            return;
        }
    }
}

fn compose(peer: &mut Peer, process: &str, identity: Identity, partition: usize, next: &mut i32) -> Outgoing {
    let index = i32::try_from(partition).unwrap();
    let count = peer.chance.between(1, 4);
    let written = records::compose(peer, process, index, None, count);
    let calls = written.iter().map(|one| one.call).collect();
    let (batch, is_first) = (batch(identity, *next, false, &written), *next == 0);
    *next += i32::try_from(written.len()).unwrap();
    Outgoing { index, batch, calls, is_first, was_refused: false }
}

/// Sends what waits, in order, and hears what becomes of it; what is not answered goes on waiting.
async fn send(peer: &mut Peer, waiting: &mut VecDeque<Outgoing>) -> Round {
    let busy = peer.world.faults.during(Busy::Producing);
    let mut sent = Vec::new();
    for outgoing in &*waiting {
        let request = produce(&peer.world, outgoing.index, None, outgoing.batch.clone());
        match peer.send(9, &request).await {
            Ok(one) => sent.push(one),
            Err(_) => return Round::Again,
        }
    }
    let mut left: VecDeque<Outgoing> = VecDeque::new();
    let mut round = Round::Again;
    for sent in sent {
        match peer.receive(sent).await {
            Ok(response) => {
                let Some(mut outgoing) = waiting.pop_front() else { break };
                let behind_refused = left.iter().any(|refused| refused.index == outgoing.index);
                let response = answer(response);
                match response.error_code {
                    ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                        acknowledged(peer, &outgoing, response.error_code, response.base_offset);
                    }
                    code if code.retriable() || behind_refused => {
                        outgoing.was_refused = true;
                        left.push_back(outgoing);
                    }
                    // A partition that does not know a producer takes any first batch of it (A5): this one is too late.
                    ErrorCode::OutOfOrderSequenceNumber if outgoing.is_first && outgoing.was_refused => {
                        round = Round::Over;
                    }
                    code => {
                        let how = format!("a batch that was sent in order is refused: {code:?}");
                        peer.world.recorder.broken("SeqContiguous", how);
                        round = Round::Over;
                    }
                }
            }
            Err(Lost) => break,
        }
    }
    drop(busy);
    left.append(waiting);
    *waiting = left;
    round
}

fn acknowledged(peer: &Peer, outgoing: &Outgoing, code: ErrorCode, base: i64) {
    for (call, offset) in outgoing.calls.iter().zip(base..) {
        let offset = (code == ErrorCode::None && base >= 0).then_some(offset);
        peer.world.recorder.returned(*call, Returned::Ok(Answer { offset, ..Answer::default() }));
    }
}

/// A duplicate from another time, over another connection. Whatever is answered, nothing new is stored.
async fn send_late(peer: &mut Peer, index: i32, batch: Bytes) {
    peer.world.faults.note(Fault::LateDuplicate);
    let request = produce(&peer.world, index, None, batch);
    let mut other = peer.beside();
    if other.send(9, &request).await.is_ok() {
        other.leave();
    }
}
