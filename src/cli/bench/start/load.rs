//! A load of which it is known whose rows the broker needs: producers that it has just heard of, or such as it has not.

use super::failed;
use super::make::{Made, Size, TOPIC, batch};
use crate::cli::CliError;
use crate::cli::bench::measure::{Latencies, Percentiles};
use crate::cli::bench::report::real;
use crate::client::{Client, ClientConfig, ClientError};
use crate::core::Identity;
use crate::types::{PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections, each with one request in flight.
const CONNECTIONS: u64 = 4;
/// Batches of one request, each of another producer and for another partition.
const BATCHES: u64 = 256;
/// Bytes of a record.
const RECORD: usize = 100;

/// Who produces.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// So many new producers, again and again.
    Known,
    /// Each producer id that there was once, from this turn on; a batch of each. They come in the order of [`Size::scattered`].
    Cold { next: Arc<AtomicU64> },
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Loaded {
    pub(super) batches: u64,
    pub(super) batches_per_s: f64,
    /// Of requests of many batches each.
    pub(super) request: Percentiles,
}

/// A load that goes on until it is ended, or the broker is gone.
pub(super) struct Load {
    tasks: JoinSet<Result<Latencies, CliError>>,
    over: Arc<AtomicBool>,
    batches: Arc<AtomicU64>,
    begun: Instant,
}

impl Load {
    pub(super) fn start(config: &ClientConfig, made: Made, who: &Who) -> Load {
        let (over, batches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let task = Task { config: config.clone(), made, who: who.clone(), number };
            tasks.spawn(task.run(Arc::clone(&over), Arc::clone(&batches)));
        }
        Load { tasks, over, batches, begun: Instant::now() }
    }

    /// Ends it, and says what it came to.
    pub(super) async fn end(mut self) -> Result<Loaded, CliError> {
        self.over.store(true, Ordering::Relaxed);
        let mut latencies = Latencies::new();
        while let Some(ended) = self.tasks.join_next().await {
            latencies.merge(&ended.map_err(std::io::Error::other)??);
        }
        let batches = self.batches.load(Ordering::Relaxed);
        let batches_per_s = real(batches) / self.begun.elapsed().as_secs_f64();
        Ok(Loaded { batches, batches_per_s, request: latencies.percentiles() })
    }

    /// Lets it go on for so long.
    pub(super) async fn run(self, duration: Duration) -> Result<Loaded, CliError> {
        tokio::time::sleep(duration).await;
        self.end().await
    }
}

struct Task {
    config: ClientConfig,
    made: Made,
    who: Who,
    number: u64,
}

impl Task {
    async fn run(self, over: Arc<AtomicBool>, batches: Arc<AtomicU64>) -> Result<Latencies, CliError> {
        let topic = TopicName::new(TOPIC).map_err(|error| failed(&error.to_string()))?;
        let client = Client::connect(self.config.clone()).await?;
        let Size { partitions, producers: all, .. } = self.made.size;
        let known = match self.who {
            Who::Known => self.new_producers(&client, BATCHES.min(partitions.into())).await?,
            Who::Cold { .. } => Vec::new(),
        };
        let per_request = match self.who {
            Who::Known => known.len() as u64,
            Who::Cold { .. } => BATCHES.min(partitions.into()).min(all),
        };
        let mut latencies = Latencies::new();
        for round in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let request = match &self.who {
                Who::Known => of(known.iter().map(|(partition, identity)| (*partition, *identity, round)))?,
                Who::Cold { next } => {
                    let first = next.fetch_add(per_request, Ordering::Relaxed);
                    of((first..first + per_request).map(|turn| self.made_producer(turn)))?
                }
            };
            let asked = Instant::now();
            match client.append(&topic, request).await {
                // A kill has left some out of order: whether they were stored nobody knows, and nobody here asks.
                Ok(_) => latencies.record(asked.elapsed()),
                // It has been killed.
                Err(ClientError::Disconnected { .. }) => break,
                Err(error) => return Err(error.into()),
            }
            batches.fetch_add(per_request, Ordering::Relaxed);
        }
        Ok(latencies)
    }

    async fn new_producers(
        &self,
        client: &Client,
        count: u64,
    ) -> Result<Vec<(PartitionIndex, Identity)>, CliError> {
        let mut producers = Vec::new();
        for number in 0..count {
            let (id, epoch) = client.new_producer().await?;
            let partition = self.made.size.partition_of(self.number * count + number);
            producers.push((partition, Identity { id, epoch }));
        }
        Ok(producers)
    }

    /// Whose turn it is, and with which sequence: when all have had their turn, the first are cold again.
    fn made_producer(&self, turn: u64) -> Whose {
        let (number, lap) = self.made.size.scattered(turn);
        let id = self.made.first_producer + i64::try_from(number).unwrap_or(i64::MAX);
        let identity = Identity { id: ProducerId(id), epoch: ProducerEpoch(0) };
        (self.made.size.partition_of(number), identity, i32::try_from(1 + lap).unwrap_or(i32::MAX))
    }
}

/// A batch's partition, producer and sequence.
type Whose = (PartitionIndex, Identity, i32);

/// A batch of each producer, of one record.
fn of(producers: impl Iterator<Item = Whose>) -> Result<Vec<(PartitionIndex, Bytes)>, CliError> {
    let made = producers.map(|(partition, identity, sequence)| {
        let value = Bytes::from_static(&[b'x'; RECORD]);
        let (_, bytes) = batch(Timestamp::NONE, value, Some((identity, sequence, false)))?;
        Ok((partition, bytes))
    });
    made.collect::<Result<_, String>>().map_err(|error| failed(&error))
}
