//! The broker: what all connections share, and how the network reaches it.

use super::config::{BrokerConfig, Endpoint};
use super::failure::Failure;
use super::fetch::{FetchSessions, WatchedRoom};
use super::groups::Matching;
use super::limits::{REFUSAL_LINE_EVERY, SCANS_MAX};
use super::metrics::BrokerMetrics;
use super::rarely::Rarely;
use super::session::Session;
use crate::core::{ClusterRow, Command, Reply};
use crate::net::{Budget, Budgets, Connection, Service};
use crate::shard::{Answer, Origin, Shard, off_thread};
use crate::store::{ReadView, StoreError};
use crate::types::{NodeId, RequestId};
use crate::wire::ApiKey;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

/// The only node.
pub(super) const NODE: NodeId = NodeId(0);

/// The broker, as the network serves it. Cheap to clone: all clones are one broker.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Node>);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: BrokerConfig,
    pub(super) shard: Shard,
    pub(super) budgets: Budgets,
    pub(super) sessions: FetchSessions,
    pub(super) watched: WatchedRoom,
    pub(super) metrics: BrokerMetrics,
    advertised: OnceLock<Endpoint>,
    scans: Arc<Semaphore>,
    pub(super) matching: Matching,
    pub(super) refusals: Rarely,
    requests: AtomicU64,
}

impl Broker {
    /// A broker in front of `shard`. `budgets` are those of the network: large answers take their memory from them.
    #[must_use]
    pub fn new(shard: Shard, budgets: Budgets, config: BrokerConfig) -> Broker {
        Broker(Arc::new(Node {
            config,
            shard,
            budgets,
            sessions: FetchSessions::new(),
            watched: WatchedRoom::default(),
            metrics: BrokerMetrics::default(),
            advertised: OnceLock::new(),
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
            matching: Matching::default(),
            refusals: Rarely::every(REFUSAL_LINE_EVERY),
            requests: AtomicU64::new(0),
        }))
    }

    /// What the broker counts.
    #[must_use]
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.0.metrics
    }

    /// Says where clients reach this node, once that is known. Only the first call counts.
    pub fn advertise(&self, endpoint: Endpoint) {
        let _ = self.0.advertised.set(endpoint);
    }
}

impl Node {
    /// Where clients reach this node.
    pub(super) fn advertised(&self) -> &Endpoint {
        self.advertised.get().unwrap_or(&self.config.advertised)
    }

    /// The cluster's identity as clients see it; none before the cluster has been formed.
    pub(super) fn cluster_id(&self, view: &ReadView) -> Result<Option<String>, StoreError> {
        Ok(view.get::<ClusterRow>(&())?.map(|cluster| cluster.id.to_string()))
    }

    /// A number for a request that a later decision may answer.
    pub(super) fn next_request(&self) -> RequestId {
        RequestId(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Queues a command. Its reply comes through the answer.
    pub(super) async fn ask(
        &self,
        origin: &Origin,
        command: Command,
        batches: Vec<Bytes>,
    ) -> Result<Answer, Failure> {
        Ok(self.shard.ask(origin, command, batches).await?)
    }

    /// Looks through many rows, on a thread of its own, a few requests at a time.
    pub(super) async fn scan<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(Arc<ReadView>) -> Result<T, Failure> + Send + 'static,
    {
        // The semaphore is never closed.
        let _permit = Arc::clone(&self.scans).acquire_owned().await.ok();
        let view = self.shard.view();
        off_thread(move || work(view)).await
    }
}

/// Awaits a command's reply.
pub(super) async fn reply_to(answer: Answer) -> Result<Reply, Failure> {
    Ok(answer.await?)
}

impl Service for Broker {
    type Session = Session;

    fn connected(&self, connection: Connection) -> Session {
        Session::new(Arc::clone(&self.0), connection)
    }

    fn budget(&self, api_key: i16) -> Budget {
        match ApiKey::try_from(api_key) {
            Ok(ApiKey::Produce) => Budget::Produce,
            Ok(ApiKey::Fetch) => Budget::FetchRequests,
            _ => Budget::Control,
        }
    }
}
