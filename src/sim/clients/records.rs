//! Batches of records, and requests that carry them.

use crate::sim::world::{TOPIC, World};
use crate::types::{ProducerEpoch, ProducerId, Sequence, SequenceRange, Timestamp};
use crate::wire::Records;
use crate::wire::batch::{BatchBuilder, BatchProducer, Compression, ProducerBatch, Record};
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

/// A batch whose records' values are names.
pub(super) fn batch(producer: Identity, first: i32, transactional: bool, names: &[String]) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for name in names {
        let value = Some(Bytes::copy_from_slice(name.as_bytes()));
        builder.append(TIME, &Record { key: value.clone(), value, headers: vec![] }).unwrap();
    }
    let count = u32::try_from(names.len()).unwrap();
    let sequences = SequenceRange::starting_at(Sequence::new(first).unwrap(), count);
    let batch =
        ProducerBatch { id: ProducerId(producer.id), epoch: ProducerEpoch(producer.epoch), sequences };
    let producer = match transactional {
        true => BatchProducer::Transactional(batch),
        false => BatchProducer::Idempotent(batch),
    };
    let compression = match names.len() % 3 {
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
