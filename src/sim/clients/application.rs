//! An application with the Rust client: its real machinery (batches, sequences, retries, epochs, coordinators, outcomes) over
//! the world's network. It produces without or with transactions, believes what the client says, and now and then goes
//! away without a word.

use super::partition_name;
use super::records::{Written, compose};
use super::transactional::{IDS, WITH_TRANSACTIONS};
use super::{GROUP, TRANSACTION_TIMEOUT_MOST};
use crate::client::{
    Client, ClientConfig, CommitError, Delivery, Endpoint, GroupMember, OffsetToCommit, Producer,
    ProducerConfig, Resolved, Scheme, SimulatedStream, TlsFiles, TopicPartition, Transaction,
    TransactionConfig, TransactionProtocol, TransactionalProducer,
};
use crate::history::{Answer, Operation, Returned};
use crate::sim::faults::Busy;
use crate::sim::peer::Peer;
use crate::sim::world::TOPIC;
use crate::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use std::time::Duration;

/// It cannot go on as what it is.
struct Finished;

pub(super) async fn run(mut peer: Peer) {
    let has_transactions = peer.chance.once_in(2);
    while peer.world.goes_on() {
        let process = peer.world.recorder.name(&peer.name);
        if let Some(client) = connect(&mut peer).await {
            match has_transactions {
                true => transact(&mut peer, &process, &client).await,
                false => produce(&mut peer, &process, &client).await,
            }
            peer.world.recorder.gone(&process);
        }
        peer.pause(500).await;
    }
}

pub(super) async fn connect(peer: &mut Peer) -> Option<Client> {
    let endpoint = Endpoint { scheme: Scheme::Tls, host: "localhost".to_owned(), port: 9092 };
    let nowhere = TlsFiles { ca: "nowhere".into(), client: None };
    let request_timeout = Duration::from_millis(peer.chance.between(2_000, 20_000));
    let config = ClientConfig { request_timeout, ..ClientConfig::new(endpoint, nowhere) };
    let (node, transport) = (peer.world.node.clone(), peer.transport);
    let dial = move || {
        let (stream, _) = node.connect(transport)?;
        Some(Box::new(stream) as Box<dyn SimulatedStream>)
    };
    Client::simulated(config, Box::new(dial)).await.ok()
}

fn batching(peer: &mut Peer) -> ProducerConfig {
    ProducerConfig {
        batch_bytes: usize::try_from(peer.chance.between(64, 1_024)).unwrap(),
        linger: Duration::from_millis(peer.chance.between(0, 20)),
        delivery_timeout: Duration::from_millis(peer.chance.between(5_000, 60_000)),
        ..ProducerConfig::default()
    }
}

/// One producer without transactions.
async fn produce(peer: &mut Peer, process: &str, client: &Client) {
    let config = batching(peer);
    let producer = Producer::new(client, config).expect("a producer");
    while peer.world.goes_on() {
        let busy = peer.world.faults.during(Busy::Producing);
        let mut sent = Vec::new();
        for _ in 0..peer.chance.between(1, 8) {
            let (index, written) = something(peer, process, None);
            for one in written {
                match producer.send(one.producer_record(index)).await {
                    Ok(delivery) => sent.push((one.call, delivery)),
                    Err(_) => peer.world.recorder.returned(one.call, Returned::Unknown),
                }
            }
        }
        if peer.chance.once_in(40) {
            return;
        }
        settle(peer, sent).await;
        drop(busy);
        peer.pause(1_500).await;
    }
}

/// Some records for one partition.
fn something(peer: &mut Peer, process: &str, txn: Option<&str>) -> (i32, Vec<Written>) {
    let partitions = u64::try_from(peer.world.plan.partitions).unwrap();
    let index = i32::try_from(peer.chance.below(partitions)).unwrap();
    let count = peer.chance.between(1, 4);
    (index, compose(peer, process, index, txn, count))
}

/// What is not known to be stored may be: also in a transaction that was given up.
async fn settle(peer: &Peer, sent: Vec<(u64, Delivery)>) {
    for (call, delivery) in sent {
        let returned = match delivery.wait().await {
            Ok(delivered) => {
                let offset = delivered.offset.map(|offset| offset.0);
                Returned::Ok(Answer { offset, ..Answer::default() })
            }
            Err(error) => {
                peer.world.recorder.note(|| format!("call {call} is not known to be done: {error}"));
                Returned::Unknown
            }
        };
        peer.world.recorder.returned(call, returned);
    }
}

/// One holder of a transactional id.
async fn transact(peer: &mut Peer, process: &str, client: &Client) {
    let id = *peer.chance.of_these(&IDS);
    let most = u64::try_from(TRANSACTION_TIMEOUT_MOST.as_millis()).unwrap();
    let protocols = [TransactionProtocol::Explicit, TransactionProtocol::Implicit];
    let config = TransactionConfig {
        producer: batching(peer),
        timeout: Duration::from_millis(peer.chance.between(1_000, most)),
        protocol_max: *peer.chance.of_these(&protocols),
        commit_with_records: *peer.chance.of_these(&[true, false]),
        commit_timeout: Duration::from_millis(peer.chance.between(500, 20_000)),
    };
    let busy = peer.world.faults.during(Busy::TakingOver);
    let operation = Operation::Init { transactional_id: id.to_owned(), resumes: false };
    let call = peer.world.recorder.call(process, operation);
    let producer = TransactionalProducer::init(client, TransactionalId::new(id).unwrap(), config).await;
    drop(busy);
    let Ok(mut producer) = producer else {
        return peer.world.recorder.returned(call, Returned::Unknown);
    };
    let (producer_id, epoch) = producer.identity().await;
    let (producer_id, epoch) = (Some(producer_id.0), Some(epoch.0));
    peer.world.recorder.returned(call, Returned::Ok(Answer { producer_id, epoch, ..Answer::default() }));
    for _ in 0..peer.chance.between(1, 20) {
        let _open = peer.world.faults.during(Busy::InTransaction);
        let name = peer.world.recorder.name("txn");
        let Ok(transaction) = producer.begin().await else { return };
        if !peer.world.goes_on() || through(peer, process, client, transaction, &name).await.is_err() {
            return;
        }
        peer.pause(2_000).await;
    }
}

/// One transaction, from its beginning to its end.
async fn through(
    peer: &mut Peer,
    process: &str,
    client: &Client,
    mut transaction: Transaction<'_>,
    name: &str,
) -> Result<(), Finished> {
    let busy = peer.world.faults.during(Busy::Producing);
    let (mut sent, mut failed) = (Vec::new(), false);
    for _ in 0..peer.chance.between(1, 4) {
        let (index, written) = something(peer, process, Some(name));
        for one in written {
            match transaction.send(one.producer_record(index)).await {
                Ok(delivery) => sent.push((one.call, delivery)),
                Err(_) => {
                    failed = true;
                    peer.world.recorder.returned(one.call, Returned::Unknown);
                }
            }
        }
    }
    failed |= transaction.flush().await.is_err();
    settle(peer, sent).await;
    drop(busy);
    if peer.chance.once_in(2) && !failed {
        failed = send_offsets(peer, process, &mut transaction, name).await.is_err();
    }
    if peer.chance.once_in(12) {
        peer.pause(40_000).await;
    }
    // Without a word: it is dropped, and aborted if that arrives.
    if peer.chance.once_in(15) {
        return Err(Finished);
    }
    let _busy = peer.world.faults.during(Busy::Ending);
    if failed || peer.chance.percent(30) {
        let call = peer.world.recorder.call(process, Operation::Abort { txn: name.to_owned() });
        let aborted = transaction.abort().await;
        let returned = if aborted.is_ok() { Returned::Ok(Answer::default()) } else { Returned::Unknown };
        peer.world.recorder.returned(call, returned);
        return aborted.map_err(|_| Finished);
    }
    commit(peer, process, client, transaction, name).await
}

/// Sends an offset that is higher than all before.
async fn send_offsets(
    peer: &Peer,
    process: &str,
    transaction: &mut Transaction<'_>,
    name: &str,
) -> Result<(), Finished> {
    let _busy = peer.world.faults.during(Busy::SendingOffsets);
    let recorder = &peer.world.recorder;
    let offset = i64::try_from(recorder.number()).unwrap();
    let offsets = [(partition_name(WITH_TRANSACTIONS), offset)].into();
    let operation = Operation::SendOffsets { txn: name.to_owned(), group: GROUP.to_owned(), offsets };
    let call = recorder.call(process, operation);
    let partition = TopicPartition::new(TopicName::new(TOPIC).unwrap(), PartitionIndex(WITH_TRANSACTIONS));
    let offsets = [(partition, OffsetToCommit::new(Offset(offset)))].into();
    let staged = transaction.send_offsets(&GroupMember::none(GroupId::new(GROUP)), &offsets).await;
    recorder.returned(call, if staged.is_ok() { Returned::Ok(Answer::default()) } else { Returned::Unknown });
    staged.map_err(|_| Finished)
}

/// Commits; where the answer was lost, asks what has become of it.
async fn commit(
    peer: &Peer,
    process: &str,
    client: &Client,
    transaction: Transaction<'_>,
    name: &str,
) -> Result<(), Finished> {
    let recorder = &peer.world.recorder;
    let call = recorder.call(process, Operation::Commit { txn: name.to_owned() });
    match transaction.commit().await {
        Ok(_) => {
            recorder.ok(call);
            Ok(())
        }
        Err(CommitError::Unknown(unknown)) => {
            recorder.returned(call, Returned::Unknown);
            let call = recorder.call(process, Operation::Outcome { txn: name.to_owned() });
            let outcome = match unknown.resolve(client).await {
                Ok(Resolved::Committed) => "committed",
                Ok(Resolved::Aborted) => "aborted",
                Err(_) => "unknown",
            };
            let outcome = Some(outcome.to_owned());
            recorder.returned(call, Returned::Ok(Answer { outcome, ..Answer::default() }));
            Err(Finished)
        }
        Err(error) => {
            recorder.note(|| format!("{name} is not committed: {error}"));
            recorder.returned(call, Returned::Failed);
            Err(Finished)
        }
    }
}
