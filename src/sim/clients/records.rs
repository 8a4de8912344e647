//! Batches of records, and requests that carry them.

use super::partition_name;
use crate::client::ProducerRecord;
use crate::history::Operation;
use crate::sim::peer::Peer;
use crate::sim::plan::Keeps;
use crate::sim::world::{TOPIC, World};
use crate::types::{
    PartitionIndex, ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp, TopicName,
};
use crate::wire::Records;
use crate::wire::batch::{BatchBuilder, BatchProducer, Compression, ProducerBatch, Record, RecordHeader};
use crate::wire::messages::*;
use bytes::Bytes;

/// The records' time: old enough whatever the world's clock does, and young enough to be kept.
const TIME: Timestamp = Timestamp(1_700_000_000_000 - 24 * 3_600_000);

/// A producer as the broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// Keys in a world whose topic keeps the newest record of each: few, so that nearly all is superseded.
const KEYS: u64 = 8;
/// The header that names a record without a value.
const NAME: &[u8] = b"name";

/// The header that bears a record's idempotency key.
pub(super) const KEY_NAME: &str = "semel-idempotency-key";
/// How many of the last idempotency keys are sent again.
const KEYS_REMEMBERED: u64 = 40;

/// A record that is written.
pub(super) struct Written {
    name: String,
    key: String,
    tombstone: bool,
    idempotency_key: Option<String>,
    /// The call of the history.
    pub(super) call: u64,
}

/// Makes up so many records, which `process` is going to write to a partition.
pub(super) fn compose(
    peer: &mut Peer,
    process: &str,
    index: i32,
    txn: Option<&str>,
    count: u64,
) -> Vec<Written> {
    composed(peer, process, index, txn, count, false)
}

/// The same, with idempotency keys, if the topic asks for them: new ones, and some that somebody has sent before.
pub(super) fn compose_keyed(
    peer: &mut Peer,
    process: &str,
    index: i32,
    txn: Option<&str>,
    count: u64,
) -> Vec<Written> {
    let keyed = peer.world.plan.keyed;
    composed(peer, process, index, txn, count, keyed)
}

fn composed(
    peer: &mut Peer,
    process: &str,
    index: i32,
    txn: Option<&str>,
    count: u64,
    keyed: bool,
) -> Vec<Written> {
    let mut written = Vec::new();
    for _ in 0..count {
        let idempotency_key = keyed.then(|| draw_key(peer));
        let name = peer.world.recorder.name("r");
        let (key, tombstone) = match peer.world.plan.keeps {
            Keeps::Newest { .. } => (format!("k{}", peer.chance.below(KEYS)), peer.chance.once_in(8)),
            _ => (name.clone(), false),
        };
        let operation = Operation::Produce {
            partition: partition_name(index),
            record: name.clone(),
            txn: txn.map(str::to_owned),
            key: Some(key.clone()),
            tombstone,
            idempotency_key: idempotency_key.clone(),
        };
        let call = peer.world.recorder.call(process, operation);
        written.push(Written { name, key, tombstone, idempotency_key, call });
    }
    written
}

/// A key: a new one, or one that somebody has sent before.
fn draw_key(peer: &mut Peer) -> String {
    let keys = peer.world.keys.clone();
    let mut keys = keys.lock().unwrap();
    if !keys.sent.is_empty() && peer.chance.once_in(6) {
        // One of the last ones: it may still be held by a transaction.
        let back = peer.chance.below(KEYS_REMEMBERED.min(keys.sent.len() as u64));
        let key = keys.sent[keys.sent.len() - 1 - usize::try_from(back).unwrap()].clone();
        keys.again.insert(key.clone());
        return key;
    }
    let key = peer.world.recorder.name("once");
    keys.sent.push(key.clone());
    key
}

impl Written {
    /// Whether no other record has its idempotency key.
    pub(super) fn is_alone(&self, world: &World) -> bool {
        self.idempotency_key.as_ref().is_some_and(|key| !world.keys.lock().unwrap().again.contains(key))
    }

    pub(super) fn same_key(&self, other: &Written) -> bool {
        self.idempotency_key.is_some() && self.idempotency_key == other.idempotency_key
    }

    /// The same for the Rust client.
    pub(super) fn producer_record(&self, index: i32) -> ProducerRecord {
        let Record { key, value, headers } = self.record();
        let (topic, partition) = (TopicName::new(TOPIC).unwrap(), Some(PartitionIndex(index)));
        ProducerRecord { topic, partition, key, value, headers, timestamp: Some(TIME) }
    }

    fn record(&self) -> Record {
        let name = Bytes::copy_from_slice(self.name.as_bytes());
        let key = Some(Bytes::copy_from_slice(self.key.as_bytes()));
        let once = self.idempotency_key.as_ref().map(|key| RecordHeader {
            name: Bytes::from_static(KEY_NAME.as_bytes()),
            value: Some(Bytes::copy_from_slice(key.as_bytes())),
        });
        let mut headers: Vec<RecordHeader> = once.into_iter().collect();
        if self.tombstone {
            headers.push(RecordHeader { name: Bytes::from_static(NAME), value: Some(name) });
            return Record { key, value: None, headers };
        }
        Record { key, value: Some(name), headers }
    }
}

/// The name of a record that was read.
pub(super) fn name_of(record: &Record) -> Option<String> {
    let header = record.headers.iter().find(|header| header.name == NAME);
    let name = record.value.as_ref().or(header.and_then(|header| header.value.as_ref()))?;
    String::from_utf8(name.to_vec()).ok()
}

/// A batch of them.
pub(super) fn batch(producer: Identity, first: i32, transactional: bool, written: &[Written]) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for one in written {
        builder.append(TIME, &one.record()).unwrap();
    }
    let count = u32::try_from(written.len()).unwrap();
    let sequences = SequenceRange::starting_at(Sequence::new(first).unwrap(), count);
    let batch =
        ProducerBatch { id: ProducerId(producer.id), epoch: ProducerEpoch(producer.epoch), sequences };
    let producer = match transactional {
        true => BatchProducer::Transactional(batch),
        false => BatchProducer::Idempotent(batch),
    };
    let compression = match written.len() % 3 {
        0 => Compression::Lz4,
        _ => Compression::None,
    };
    builder.build(compression, producer).unwrap()
}

pub(super) fn produce(
    world: &World,
    index: i32,
    transactional_id: Option<&str>,
    batch: Bytes,
) -> ProduceRequest {
    let partition = ProducePartition { index, records: Some(Records::from(batch)) };
    let topic_id = *world.topic.get().expect("the topic is there");
    let topic = ProduceTopic { name: TOPIC.to_owned(), topic_id, partition_data: vec![partition] };
    ProduceRequest {
        transactional_id: transactional_id.map(str::to_owned),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        commits: false,
    }
}

/// What the one partition of a request is answered.
pub(super) fn answer(mut response: ProduceResponse) -> ProducePartitionResponse {
    response.responses.remove(0).partition_responses.remove(0)
}

pub(super) fn init(transactional_id: Option<&str>, timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: transactional_id.map(str::to_owned),
        transaction_timeout_ms: timeout_ms,
        ..Default::default()
    }
}
