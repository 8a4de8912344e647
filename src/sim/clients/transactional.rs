//! A transactional producer, in one of the ways that there are: the protocol with explicit enrolment (version 1), the one
//! with an epoch for each transaction (version 2), or that with a prepare before the commit. Several share an id, so each
//! is fenced by others in the middle of its work, and goes on as long as it does not know.

use super::records::{Identity, answer, batch, compose_keyed, init, produce};
use super::{GROUP, TRANSACTION_TIMEOUT_MOST, partition_name};
use crate::history::{Answer, Operation, Returned};
use crate::sim::faults::Busy;
use crate::sim::peer::{Lost, Peer};
use crate::sim::world::TOPIC;
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::{BTreeMap, BTreeSet};

/// The partition whose offsets go with transactions: not the one that offsets are committed of by hand.
pub(super) const WITH_TRANSACTIONS: i32 = 1;

/// Ids that producers share.
pub(super) const IDS: [&str; 2] = ["x", "y"];

/// How often something is tried again whose answer was lost, or that is refused for a while.
const TRIES: u64 = 8;
/// The same, in a world at peace.
const TRIES_LATE: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    V1,
    V2,
    Prepared,
}

/// The producer cannot go on.
struct Finished;

/// One holder of an id.
struct Holder {
    peer: Peer,
    process: String,
    id: String,
    way: Way,
    identity: Identity,
    /// The next sequence of each partition.
    next: BTreeMap<i32, i32>,
    /// In version 1: what has been enrolled.
    enrolled: BTreeSet<i32>,
}

pub(super) async fn run(mut peer: Peer) {
    let way = *peer.chance.of_these(&[Way::V1, Way::V2, Way::V2, Way::Prepared]);
    // What is prepared is nobody's but its owner's.
    let id = match way {
        Way::Prepared => peer.name.clone(),
        _ => (*peer.chance.of_these(&IDS)).to_owned(),
    };
    while peer.world.goes_on() {
        let process = peer.world.recorder.name(&peer.name);
        let Some(identity) = take_over(&mut peer, &process, &id, way).await else { return };
        let (next, enrolled) = (BTreeMap::new(), BTreeSet::new());
        let mut holder = Holder { peer, process, id: id.clone(), way, identity, next, enrolled };
        for _ in 0..holder.peer.chance.between(1, 20) {
            if !holder.peer.world.goes_on() || holder.transaction().await.is_err() {
                break;
            }
            holder.peer.pause(2_000).await;
        }
        holder.peer.world.recorder.gone(&holder.process);
        peer = holder.peer;
    }
}

/// Becomes the holder of an id.
async fn take_over(peer: &mut Peer, process: &str, id: &str, way: Way) -> Option<Identity> {
    let _busy = peer.world.faults.during(Busy::TakingOver);
    let most = u64::try_from(TRANSACTION_TIMEOUT_MOST.as_millis()).unwrap();
    let timeout = i32::try_from(peer.chance.between(1_000, most)).unwrap();
    let mut request = init(Some(id), timeout);
    let version = match way {
        Way::V1 => 3,
        Way::V2 => 5,
        Way::Prepared => 6,
    };
    request.enable_two_pc = way == Way::Prepared;
    // Whoever has something prepared decides it, also when all others have gone home.
    let mut late = 0;
    while peer.world.goes_on() || (way == Way::Prepared && late < TRIES_LATE) {
        late += u64::from(!peer.world.goes_on());
        let operation = Operation::Init { transactional_id: id.to_owned(), resumes: false };
        let call = peer.world.recorder.call(process, operation);
        match peer.call(version, &request).await {
            Ok(response) if response.error_code == ErrorCode::None => {
                let (id, epoch) = (response.producer_id, response.producer_epoch);
                let answer = Answer { producer_id: Some(id), epoch: Some(epoch), ..Answer::default() };
                peer.world.recorder.returned(call, Returned::Ok(answer));
                return Some(Identity { id, epoch });
            }
            Ok(response) => {
                peer.world.recorder.note(|| format!("no identity: {:?}", response.error_code));
                peer.world.recorder.returned(call, Returned::Failed);
            }
            Err(Lost) => peer.world.recorder.returned(call, Returned::Unknown),
        }
        peer.pause(1_000).await;
    }
    if way == Way::Prepared {
        peer.world.recorder.broken("NoHang", format!("nobody can take over {id:?}"));
    }
    None
}

impl Holder {
    /// One transaction; an error ends the holder.
    async fn transaction(&mut self) -> Result<(), Finished> {
        let name = self.peer.world.recorder.name("txn");
        let _open = self.peer.world.faults.during(Busy::InTransaction);
        self.enrolled.clear();
        for _ in 0..self.peer.chance.between(1, 4) {
            self.write(&name).await?;
            self.peer.pause(500).await;
        }
        if self.peer.chance.once_in(2) {
            self.send_offsets(&name).await?;
        }
        // Now and then it sleeps for so long that others take over, or its time is up; or it says nothing any more.
        if self.peer.chance.once_in(12) {
            self.peer.pause(40_000).await;
        }
        if self.way != Way::Prepared && self.peer.chance.once_in(15) {
            return Err(Finished);
        }
        if self.way == Way::Prepared {
            return self.prepare_and_end(&name).await;
        }
        let commits = self.peer.chance.percent(70);
        self.end(&name, commits, TRIES).await
    }

    /// Writes a batch.
    async fn write(&mut self, txn: &str) -> Result<(), Finished> {
        let partitions = u64::try_from(self.peer.world.plan.partitions).unwrap();
        let index = i32::try_from(self.peer.chance.below(partitions)).unwrap();
        let recorder = self.peer.world.recorder.clone();
        let count = self.peer.chance.between(1, 3);
        let written = compose_keyed(&mut self.peer, &self.process, index, Some(txn), count);
        let calls: Vec<u64> = written.iter().map(|one| one.call).collect();
        if self.way == Way::V1
            && !self.enrolled.contains(&index)
            && let Err(finished) = self.enrol(index).await
        {
            calls.iter().for_each(|call| recorder.returned(*call, Returned::Failed));
            return Err(finished);
        }
        let first = *self.next.entry(index).or_insert(0);
        let batch = batch(self.identity, first, true, &written);
        let request = produce(&self.peer.world, index, Some(&self.id), batch);
        let version = if self.way == Way::V1 { 9 } else { 12 };
        let busy = self.peer.world.faults.during(Busy::Producing);
        let mut returned = Returned::Failed;
        for _ in 0..TRIES {
            match self.peer.call(version, &request).await.map(answer) {
                Ok(response) if response.error_code == ErrorCode::None => {
                    for (call, offset) in calls.iter().zip(response.base_offset..) {
                        let answer = Answer { offset: Some(offset), ..Answer::default() };
                        recorder.returned(*call, Returned::Ok(answer));
                    }
                    self.next.insert(index, first + i32::try_from(written.len()).unwrap());
                    return Ok(());
                }
                Ok(response) if response.error_code.retriable() => self.peer.pause(1_000).await,
                Ok(response) => {
                    recorder.note(|| format!("{txn}: not written: {:?}", response.error_code));
                    break;
                }
                // From here on it may be stored, whatever is answered.
                Err(Lost) => returned = Returned::Unknown,
            }
        }
        drop(busy);
        calls.iter().for_each(|call| recorder.returned(*call, returned.clone()));
        Err(Finished)
    }

    /// Version 1 says what it is going to write to.
    async fn enrol(&mut self, index: i32) -> Result<(), Finished> {
        let topics = vec![AddPartitionsToTxnTopic { name: TOPIC.to_owned(), partitions: vec![index] }];
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: self.identity.id,
            v3_and_below_producer_epoch: self.identity.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        for _ in 0..TRIES {
            if let Ok(mut response) = self.peer.call(3, &request).await {
                let result = response.results_by_topic_v3_and_below.remove(0).results_by_partition.remove(0);
                match result.partition_error_code {
                    ErrorCode::None => {
                        self.enrolled.insert(index);
                        return Ok(());
                    }
                    code if code.retriable() => {}
                    code => {
                        self.peer.world.recorder.note(|| format!("not enrolled: {code:?}"));
                        return Err(Finished);
                    }
                }
            }
            self.peer.pause(1_000).await;
        }
        Err(Finished)
    }

    /// Sends offsets that are to take effect with the transaction: each higher than those before.
    async fn send_offsets(&mut self, txn: &str) -> Result<(), Finished> {
        let _busy = self.peer.world.faults.during(Busy::SendingOffsets);
        if self.way == Way::V1 {
            self.enrol_group().await?;
        }
        let recorder = self.peer.world.recorder.clone();
        let offset = i64::try_from(recorder.number()).unwrap();
        let offsets = [(partition_name(WITH_TRANSACTIONS), offset)].into();
        let operation = Operation::SendOffsets { txn: txn.to_owned(), group: GROUP.to_owned(), offsets };
        let call = recorder.call(&self.process, operation);
        let version = if self.way == Way::V1 { 3 } else { 5 };
        let request = self.offset_commit(offset);
        let mut returned = Returned::Failed;
        for _ in 0..TRIES {
            match self.peer.call(version, &request).await {
                Ok(mut response) => match response.topics.remove(0).partitions.remove(0).error_code {
                    ErrorCode::None => {
                        recorder.ok(call);
                        return Ok(());
                    }
                    code if code.retriable() => self.peer.pause(1_000).await,
                    code => {
                        recorder.note(|| format!("{txn}: offsets are refused: {code:?}"));
                        break;
                    }
                },
                Err(Lost) => returned = Returned::Unknown,
            }
        }
        recorder.returned(call, returned);
        Err(Finished)
    }

    fn offset_commit(&self, committed_offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: WITH_TRANSACTIONS,
            committed_offset,
            committed_metadata: Some(String::new()),
            ..Default::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: TOPIC.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: GROUP.to_owned(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            topics: vec![topic],
            ..Default::default()
        }
    }

    async fn enrol_group(&mut self) -> Result<(), Finished> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            group_id: GROUP.to_owned(),
        };
        for _ in 0..TRIES {
            match self.peer.call(3, &request).await.map(|response| response.error_code) {
                Ok(ErrorCode::None) => return Ok(()),
                Ok(code) if !code.retriable() => return Err(Finished),
                _ => self.peer.pause(1_000).await,
            }
        }
        Err(Finished)
    }

    /// Prepares, lets somebody else decide, and ends it so.
    async fn prepare_and_end(&mut self, txn: &str) -> Result<(), Finished> {
        let request = PrepareTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            timeout_ms: -1,
        };
        let busy = self.peer.world.faults.during(Busy::Prepared);
        loop {
            match self.peer.call(0, &request).await.map(|response| response.error_code) {
                Ok(ErrorCode::None) => break,
                Ok(code) if !code.retriable() => {
                    self.peer.world.recorder.note(|| format!("{txn}: not prepared: {code:?}"));
                    drop(busy);
                    return Err(Finished);
                }
                _ => self.peer.pause(1_000).await,
            }
        }
        self.peer.pause(60_000).await;
        let commits = self.peer.chance.percent(70);
        let ended = self.end(txn, commits, u64::MAX).await;
        drop(busy);
        ended
    }

    /// Asks for the end; after a lost answer, again.
    async fn end(&mut self, txn: &str, committed: bool, tries: u64) -> Result<(), Finished> {
        let recorder = self.peer.world.recorder.clone();
        let _busy = self.peer.world.faults.during(Busy::Ending);
        let operation = match committed {
            true => Operation::Commit { txn: txn.to_owned() },
            false => Operation::Abort { txn: txn.to_owned() },
        };
        let call = recorder.call(&self.process, operation);
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            committed,
        };
        let version = if self.way == Way::V1 { 3 } else { 5 };
        let mut returned = Returned::Failed;
        for _ in 0..tries {
            match self.peer.call(version, &request).await {
                Ok(response) => match response.error_code {
                    ErrorCode::None => {
                        recorder.ok(call);
                        if self.way != Way::V1 {
                            self.identity =
                                Identity { id: response.producer_id, epoch: response.producer_epoch };
                            self.next.clear();
                        }
                        return Ok(());
                    }
                    code if code.retriable() => self.peer.pause(1_000).await,
                    code => {
                        recorder.note(|| format!("{txn}: its end is refused: {code:?}"));
                        break;
                    }
                },
                Err(Lost) => returned = Returned::Unknown,
            }
        }
        if returned == Returned::Unknown && self.way != Way::V1 {
            recorder.returned(call, returned);
            self.ask_outcome(txn).await;
        } else {
            recorder.returned(call, returned);
        }
        Err(Finished)
    }

    /// Asks how a transaction has ended whose answer was lost.
    async fn ask_outcome(&mut self, txn: &str) {
        let recorder = self.peer.world.recorder.clone();
        let request = DescribeOutcomesRequest {
            transactional_id: self.id.clone(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            ..Default::default()
        };
        let call = recorder.call(&self.process, Operation::Outcome { txn: txn.to_owned() });
        let answered = self.peer.call(0, &request).await.ok();
        let state = answered.as_ref().and_then(|response| response.transactions.first()).map(|one| one.state);
        let outcome = match state {
            Some(outcome_state::COMMITTED) => "committed",
            Some(outcome_state::ABORTED) => "aborted",
            _ => "unknown",
        };
        let outcome = Some(outcome.to_owned());
        recorder.returned(call, Returned::Ok(Answer { outcome, ..Answer::default() }));
    }
}
