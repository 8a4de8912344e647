//! A client: its brokers, its lanes to them, and what it knows of topics.

use super::backoff::Backoff;
use super::config::{ClientConfig, Endpoint, Scheme};
use super::connection::Connection;
use super::coordinator::Coordinators;
use super::error::{ClientError, seconds};
use super::lane::{Lane, Purpose};
use super::metadata::{Metadata, TopicPartition, topic_error};
use super::transport::Dialer;
#[cfg(test)]
use super::transport::SimulatedDial;
use crate::types::{HashMap, NodeId, TopicName};
use crate::wire::ErrorCode;
use crate::wire::messages::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A connected client. Cheap to clone; its connections end with the last clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    scheme: Scheme,
    dialer: Dialer,
    lanes: Mutex<HashMap<Lane, Arc<LaneSlot>>>,
    metadata: Mutex<Arc<Metadata>>,
    refreshing: tokio::sync::Mutex<()>,
    coordinators: Coordinators,
    next_owner: AtomicU32,
    next_bootstrap: AtomicUsize,
}

/// A lane's place. Whoever needs the lane while it is being opened waits for that.
#[derive(Default)]
struct LaneSlot {
    state: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

/// How long a topic that no broker knows is asked for again.
const NEW_TOPIC_PATIENCE: Duration = Duration::from_secs(2);

/// The owner of what a client does for itself.
pub(super) const SHARED_OWNER: u32 = 0;

impl Client {
    /// Connects to the first bootstrap broker that answers, trying again until `bootstrap_timeout` has passed.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        Client::over(config, Dialer::new).await
    }

    /// The same in a simulated world.
    #[cfg(test)]
    pub(crate) async fn simulated(
        config: ClientConfig,
        dial: Box<SimulatedDial>,
    ) -> Result<Client, ClientError> {
        Client::over(config, |config| Ok(Dialer::simulated(config, dial))).await
    }

    async fn over(
        config: ClientConfig,
        dialer: impl FnOnce(&ClientConfig) -> Result<Dialer, ClientError>,
    ) -> Result<Client, ClientError> {
        let scheme = config.check()?;
        let dialer = dialer(&config)?;
        let client = Client {
            inner: Arc::new(Inner {
                config,
                scheme,
                dialer,
                lanes: Mutex::default(),
                metadata: Mutex::default(),
                refreshing: tokio::sync::Mutex::default(),
                coordinators: Coordinators::default(),
                next_owner: AtomicU32::new(SHARED_OWNER + 1),
                next_bootstrap: AtomicUsize::new(0),
            }),
        };
        let timeout = client.config().bootstrap_timeout;
        client.retry_within(timeout, "connecting", || client.ask_metadata(&[])).await?;
        Ok(client)
    }

    /// Takes leave of the brokers. Not needed, but otherwise a broker keeps a QUIC connection until it has been silent for
    /// too long. Whatever still uses this client connects again.
    pub async fn close(&self) {
        lock(&self.inner.lanes).clear();
        self.inner.dialer.close().await;
    }

    /// What the client was made with.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    pub(super) fn coordinators(&self) -> &Coordinators {
        &self.inner.coordinators
    }

    /// A number for somebody who needs lanes of its own.
    pub(super) fn new_owner(&self) -> u32 {
        self.inner.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    /// What is known at present.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&lock(&self.inner.metadata))
    }

    /// What is known, with these topics in it: asked for if they are not known or known for too long.
    pub async fn metadata_of(&self, topics: &[TopicName]) -> Result<Arc<Metadata>, ClientError> {
        let missing = self.not_known_well(topics);
        if missing.is_empty() {
            return Ok(self.metadata());
        }
        self.retry("reading metadata", || self.learn_new(&missing)).await
    }

    /// Asks anew for these topics, whatever is known.
    pub async fn refresh(&self, topics: &[TopicName]) -> Result<Arc<Metadata>, ClientError> {
        let answer = self.ask_metadata(topics).await?;
        match topics.iter().find_map(|topic| topic_error(&answer, topic)) {
            Some(error) => Err(error),
            None => Ok(self.metadata()),
        }
    }

    /// One attempt, unless the topic is unknown: one that has just been made may not be known everywhere yet.
    async fn learn_new(&self, topics: &[TopicName]) -> Result<Arc<Metadata>, ClientError> {
        let deadline = Instant::now() + NEW_TOPIC_PATIENCE;
        let mut backoff = Backoff::unseeded(self.inner.config.backoff);
        loop {
            let learnt = self.learn(topics).await;
            let unknown =
                matches!(&learnt, Err(ClientError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. }));
            let next = Instant::now() + backoff.pause();
            match learnt {
                Err(error) if unknown && next >= deadline => {
                    tracing::debug!(%error, "giving up");
                    return Err(ClientError::Unknown { what: names(topics) });
                }
                Err(_) if unknown => tokio::time::sleep_until(next).await,
                learnt => return learnt,
            }
        }
    }

    async fn learn(&self, topics: &[TopicName]) -> Result<Arc<Metadata>, ClientError> {
        // One at a time: whoever waited finds the answer of the one before.
        let _turn = self.inner.refreshing.lock().await;
        let missing = self.not_known_well(topics);
        if missing.is_empty() { Ok(self.metadata()) } else { self.refresh(&missing).await }
    }

    fn not_known_well(&self, topics: &[TopicName]) -> Vec<TopicName> {
        let (metadata, age_max) = (self.metadata(), self.inner.config.metadata_max_age);
        let missing =
            topics.iter().filter(|topic| !metadata.topic(topic).is_some_and(|topic| topic.usable(age_max)));
        missing.cloned().collect()
    }

    async fn ask_metadata(&self, topics: &[TopicName]) -> Result<MetadataResponse, ClientError> {
        let named = topics.iter().map(|topic| MetadataRequestTopic {
            name: Some(topic.as_str().to_owned()),
            ..MetadataRequestTopic::default()
        });
        let request = MetadataRequest {
            topics: Some(named.collect()),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        self.ask_metadata_with(&request).await
    }

    /// Sends a metadata request to any broker and keeps what it says.
    pub(super) async fn ask_metadata_with(
        &self,
        request: &MetadataRequest,
    ) -> Result<MetadataResponse, ClientError> {
        let answer = self.any_broker().await?.call(request).await?;
        answer.error_code.ok().map_err(|code| ClientError::broker("metadata", code, None))?;
        let mut metadata = lock(&self.inner.metadata);
        *metadata = Arc::new(metadata.updated(&answer, self.inner.scheme, Instant::now()));
        Ok(answer)
    }

    /// The control lane to whichever bootstrap broker answers.
    pub(super) async fn any_broker(&self) -> Result<Arc<Connection>, ClientError> {
        self.lane(Lane { node: None, purpose: Purpose::Control, owner: SHARED_OWNER }).await
    }

    /// The control lane to a broker.
    pub(super) async fn control(&self, node: NodeId) -> Result<Arc<Connection>, ClientError> {
        self.lane(Lane { node: Some(node), purpose: Purpose::Control, owner: SHARED_OWNER }).await
    }

    /// A lane, opened if it is not. One attempt: pauses between attempts are the caller's.
    pub(super) async fn lane(&self, lane: Lane) -> Result<Arc<Connection>, ClientError> {
        let slot = {
            let mut lanes = lock(&self.inner.lanes);
            Arc::clone(lanes.entry(lane).or_default())
        };
        let mut state = slot.state.lock().await;
        if let Some(open) = state.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(open));
        }
        *state = None;
        let connection = Arc::new(self.open(self.endpoint_of(lane.node)?).await?);
        *state = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Ends and forgets the lanes of an owner that is gone.
    pub(super) fn release(&self, owner: u32) {
        lock(&self.inner.lanes).retain(|lane, _| lane.owner != owner);
    }

    async fn open(&self, endpoint: Endpoint) -> Result<Connection, ClientError> {
        let config = &self.inner.config;
        let opening = async {
            let duplex = self.inner.dialer.open(&endpoint).await?;
            Connection::start(config, &endpoint, duplex).await
        };
        tokio::time::timeout(config.connect_timeout, opening).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {}", seconds(config.connect_timeout));
            Err(ClientError::Connect { endpoint: endpoint.clone(), reason })
        })
    }

    fn endpoint_of(&self, node: Option<NodeId>) -> Result<Endpoint, ClientError> {
        let bootstrap = &self.inner.config.bootstrap;
        match node {
            Some(node) => self.metadata().brokers().get(&node).cloned().ok_or_else(|| ClientError::Unknown {
                what: format!("broker {node} in what the cluster says of itself"),
            }),
            None => {
                let turn = self.inner.next_bootstrap.fetch_add(1, Ordering::Relaxed);
                bootstrap.get(turn % bootstrap.len().max(1)).cloned().ok_or(ClientError::Closed("the client"))
            }
        }
    }

    /// Tries until it works, fails for good, or `call_timeout` has passed.
    pub(super) async fn retry<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.retry_within(self.inner.config.call_timeout, what, attempt).await
    }

    async fn retry_within<T, F>(
        &self,
        timeout: Duration,
        what: &str,
        attempt: impl Fn() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::unseeded(self.inner.config.backoff);
        let mut last = None;
        loop {
            let error = match tokio::time::timeout_at(deadline, attempt()).await {
                Ok(Err(error)) if error.retriable() => error,
                Ok(done) => return done,
                Err(_) => return Err(ClientError::Timeout { what: what.to_owned(), after: timeout, last }),
            };
            let next = Instant::now() + backoff.pause();
            if next >= deadline {
                return Err(error);
            }
            tracing::debug!(what, %error, "trying again");
            last = Some(Box::new(error));
            tokio::time::sleep_until(next).await;
        }
    }

    /// The leader of a partition.
    pub(super) async fn leader(&self, partition: &TopicPartition) -> Result<NodeId, ClientError> {
        let metadata = self.metadata_of(std::slice::from_ref(&partition.topic)).await?;
        let unknown = || ClientError::Unknown { what: format!("partition {partition}") };
        let topic = metadata.topic(&partition.topic).ok_or_else(unknown)?;
        let leader = topic.leaders.get(&partition.partition).ok_or_else(unknown)?;
        leader.ok_or_else(|| {
            ClientError::broker(format!("partition {partition}"), ErrorCode::LeaderNotAvailable, None)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(topics: &[TopicName]) -> String {
    let names: Vec<_> = topics.iter().map(TopicName::as_str).collect();
    format!("topic {}", names.join(", "))
}
