//! Producing. [`Outbox`] decides; [`Producer`] is its idempotent shell, and
//! [`TransactionalProducer`](super::TransactionalProducer) its transactional one.

mod delivery;
pub(super) mod engine;
mod outbox;
mod queue;
#[cfg(test)]
mod tests;

pub use delivery::{Delivered, Delivery, ProduceError};
pub use outbox::{
    AcceptedKey, BuiltRequest, Mode, Outbox, OutboxLimits, PartitionAnswer, ProduceLane, ReadyRequest,
    Refusal, RequestNumber,
};

use super::backoff::BackoffLimits;
use super::cluster::Client;
use super::error::ClientError;
use crate::types::{PartitionIndex, Timestamp, TopicName};
use crate::wire::batch::{Compression, RecordHeader};
use bytes::Bytes;
use engine::Engine;
use std::time::Duration;

/// The usual name of the header that bears idempotency keys. A topic asks for them by its setting
/// `semel.idempotency.key.header`.
pub const IDEMPOTENCY_KEY_HEADER: &str = "semel-idempotency-key";

/// A record to send.
#[derive(Clone, Debug)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: TopicName,
    /// Which partition; none to let the key decide, or without a key the producer.
    pub partition: Option<PartitionIndex>,
    /// The key.
    pub key: Option<Bytes>,
    /// The payload.
    pub value: Option<Bytes>,
    /// Named annotations.
    pub headers: Vec<RecordHeader>,
    /// The record's time; none for the time at which it is sent.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record with a value and nothing else.
    #[must_use]
    pub fn new(topic: TopicName, value: impl Into<Bytes>) -> ProducerRecord {
        ProducerRecord {
            topic,
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// This, with a key.
    #[must_use]
    pub fn key(self, key: impl Into<Bytes>) -> ProducerRecord {
        ProducerRecord { key: Some(key.into()), ..self }
    }

    /// This, with an idempotency key, where the topic asks for it under [`IDEMPOTENCY_KEY_HEADER`]: it is stored once within the
    /// topic's window, whoever sends it how often; [`ProduceError::AlreadyAccepted`] says that it was.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<Bytes>) -> ProducerRecord {
        let name = Bytes::from_static(IDEMPOTENCY_KEY_HEADER.as_bytes());
        self.headers.push(RecordHeader { name, value: Some(key.into()) });
        self
    }

    /// This, to a certain partition.
    #[must_use]
    pub fn partition(self, partition: PartitionIndex) -> ProducerRecord {
        ProducerRecord { partition: Some(partition), ..self }
    }
}

/// How a producer batches and how long it tries.
#[derive(Clone, Copy, Debug)]
pub struct ProducerConfig {
    /// A batch that has grown to this size is sent, in bytes before compression.
    pub batch_bytes: usize,
    /// A batch that is this old is sent, however small.
    pub linger: Duration,
    /// How batches are compressed.
    pub compression: Compression,
    /// Records that are not settled, in bytes; beyond, `send` waits.
    pub buffer_bytes: usize,
    /// How long `send` waits for room.
    pub buffer_timeout: Duration,
    /// The largest request, in bytes.
    pub request_bytes: usize,
    /// Requests without an answer on one lane, and batches without an answer of one partition; at most 5.
    pub in_flight: usize,
    /// Lanes to each broker.
    pub lanes: u16,
    /// How long a record may take until it is known to be stored, with all retries.
    pub delivery_timeout: Duration,
}

/// A broker remembers this many batches of a producer and partition (KIP-98); more in flight could not be told apart.
const IN_FLIGHT_MAX: usize = 5;

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            // Four times Kafka's: a request's fixed cost is then small against its bytes.
            batch_bytes: 64 << 10,
            // Kafka's: what belongs together goes together, and nobody notices the wait.
            linger: Duration::from_millis(5),
            compression: Compression::None,
            buffer_bytes: 32 << 20,
            buffer_timeout: Duration::from_secs(60),
            // Kafka's largest by default; a broker refuses larger batches.
            request_bytes: 1 << 20,
            in_flight: IN_FLIGHT_MAX,
            lanes: 1,
            // Kafka's: longer than any restart.
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerConfig {
    fn limits(&self, client: &Client) -> Result<OutboxLimits, ClientError> {
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            let problem = format!("in_flight is {}: it must be 1 to {IN_FLIGHT_MAX}", self.in_flight);
            return Err(ClientError::Config(problem));
        }
        let config = client.config();
        let backoff: BackoffLimits = config.backoff;
        Ok(OutboxLimits {
            batch_bytes: self.batch_bytes.min(self.request_bytes),
            linger: self.linger,
            buffer_bytes: self.buffer_bytes,
            request_bytes: self.request_bytes,
            lane_requests: self.in_flight,
            partition_batches: self.in_flight,
            lanes: self.lanes,
            request_timeout: config.request_timeout,
            delivery_timeout: self.delivery_timeout,
            backoff,
            compression: self.compression,
        })
    }
}

/// An idempotent producer: each record is stored once, in the order of sending per partition, or its delivery says
/// otherwise. Records that are still unsent when it is dropped are sent all the same; [`Producer::close`] waits for that.
///
/// ```no_run
/// # async fn example(client: semel::client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use semel::client::{Producer, ProducerConfig, ProducerRecord};
/// let producer = Producer::new(&client, ProducerConfig::default())?;
/// let topic = semel::types::TopicName::new("payments")?;
/// let delivery = producer.send(ProducerRecord::new(topic, "42 EUR").key("alice")).await?;
/// println!("stored at {:?}", delivery.await?.offset);
/// producer.close().await;
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    engine: Engine,
}

impl Producer {
    /// A producer that asks for its producer id when it first sends.
    pub fn new(client: &Client, config: ProducerConfig) -> Result<Producer, ClientError> {
        Ok(Producer { engine: Engine::start(client, config, Mode::Idempotent)? })
    }

    /// Takes a record into a batch. Waits only while the buffer is full, or while the topic is not known. Records are
    /// ordered as these calls return.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let partition = self.engine.partition_of(&record).await?;
        self.engine.send(&partition, record).await
    }

    /// Sends all that has been taken, without lingering, and waits until each record is settled one way or the other.
    /// The first failure among them is returned; each delivery has its own.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        self.engine.flush().await
    }

    /// Flushes and ends. The same as dropping it, but one learns of failures.
    pub async fn close(self) -> Result<(), ProduceError> {
        self.engine.flush().await
    }
}
