//! Sessions without sockets, for simulation: whatever carries bytes carries them.

use super::budget::Budgets;
use super::limits::Limits;
use super::metrics::NetMetrics;
use super::noise::Noise;
use super::reply::TlsSink;
use super::server::{Phase, Served};
use super::service::{Connection, Service};
use super::session;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// A broker's sessions.
pub(crate) struct Sessions<V> {
    served: Arc<Served<V>>,
    /// Sessions take its end for a stop.
    _phase: watch::Sender<Phase>,
}

impl<V: Service> Sessions<V> {
    pub(crate) fn new(service: Arc<V>, limits: Limits, budgets: Budgets) -> Sessions<V> {
        let (phase, stop) = watch::channel(Phase::Serving);
        let metrics = Arc::new(NetMetrics::new(&limits));
        let noise = Noise::new(Arc::clone(&metrics));
        let served = Arc::new(Served { service, limits, budgets, noise, metrics, stop });
        Sessions { served, _phase: phase }
    }

    /// Serves one connection until it ends.
    pub(crate) fn serve<R, W>(
        &self,
        connection: Connection,
        source: R,
        sink: W,
    ) -> impl Future<Output = ()> + Send + use<V, R, W>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        session::run(Arc::clone(&self.served), connection, source, TlsSink(sink))
    }
}
