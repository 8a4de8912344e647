//! The listeners' life: bind, serve, stop.

use super::budget::Budgets;
use super::identity::{ClientCertificates, IdentityError, IdentityFiles};
use super::limits::{Limits, LimitsError};
use super::metrics::NetMetrics;
use super::noise::Noise;
use super::pages::Pages;
use super::principal::{Admins, Principal, PrincipalError, PrincipalRule};
use super::reload::Reloader;
use super::seats::Seats;
use super::service::{Connection, Service, Transport};
use super::workers::{Turns, Workers};
use super::{quic, tcp};
use crate::types::ConnectionId;
use arc_swap::ArcSwap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Connections that wait to be accepted. Linux's default `somaxconn`; it takes a burst of reconnecting clients.
const BACKLOG: u32 = 4096;
/// With port 0, how often a port that is free for TCP may turn out taken for UDP before we give up.
const PORT_ATTEMPTS: usize = 16;

/// What the network needs to know.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The address, for TCP and for UDP. Port 0 lets the system choose one that is free for both.
    pub listen: SocketAddr,
    /// Where certificates and keys are.
    pub identity: IdentityFiles,
    /// Whether clients need a certificate.
    pub client_certificates: ClientCertificates,
    /// How a certificate names its principal.
    pub principal_rule: PrincipalRule,
    /// Who may administer.
    pub admins: Admins,
    /// The limits.
    pub limits: Limits,
    /// The memory budgets, which the broker shares; made with [`Budgets::new`] from the same limits.
    pub budgets: Budgets,
    /// What is counted; made with [`NetMetrics::new`] from the same limits.
    pub metrics: Arc<NetMetrics>,
}

/// Why the network cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Somebody else has the port.
    #[error(
        "{protocol} port {port} of {host} is taken by another process: stop it, or listen elsewhere (semel serve --listen HOST:PORT)",
        port = address.port(), host = address.ip()
    )]
    PortTaken {
        /// `TCP`, or `UDP` (for QUIC).
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address} ({protocol}): {source}")]
    Listen {
        /// `TCP`, or `UDP` (for QUIC).
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates or keys cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The limits contradict each other.
    #[error("limits: {0}")]
    Limits(#[from] LimitsError),
    /// The TLS library lacks what QUIC needs.
    #[error("QUIC cannot be served: {0}")]
    Quic(String),
    /// The system does not let us hear of SIGHUP.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(io::Error),
    /// A thread for connections cannot be started.
    #[error("a thread for connections cannot be started: {0}")]
    Worker(io::Error),
    /// A listener ended by itself.
    #[error("a listener ended: {0}")]
    Ended(String),
}

/// Both listeners, serving since [`Server::bind`]. Dropping it cuts every connection; [`Server::stop`] is gentler.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    seats: Seats,
    phase: watch::Sender<Phase>,
    listeners: JoinSet<Result<(), NetError>>,
    /// Ended after the listeners.
    _workers: Workers,
}

impl Server {
    /// Listens on TCP and UDP. Clients can connect when this returns. Needs a Tokio runtime for the listeners;
    /// connections live on threads of their own.
    pub async fn bind<V: Service>(
        config: NetConfig,
        service: Arc<V>,
        pages: Arc<dyn Pages>,
    ) -> Result<Server, NetError> {
        config.limits.check()?;
        let configs = config.identity.load(config.client_certificates)?;
        let (listener, socket) = bind_both(config.listen)?;
        let address = listener.local_addr().map_err(|source| NetError::Listen {
            protocol: "TCP",
            address: config.listen,
            source,
        })?;
        let endpoint = quic::endpoint(socket, &configs, &config.limits)?;
        let (phase, stop) = watch::channel(Phase::Serving);
        let (workers, turns) = Workers::start(config.limits.threads, &config.metrics)?;
        let seats = Seats::new(config.limits.connections, config.limits.connections_per_address);
        let shared = Arc::new(Shared {
            tls: ArcSwap::new(configs.tcp),
            seats: seats.clone(),
            page_readers: Semaphore::new(config.limits.page_readers),
            pages,
            turns,
            principal_rule: config.principal_rule,
            admins: config.admins,
            connections: AtomicU64::new(0),
            served: Arc::new(Served {
                service,
                noise: Noise::new(Arc::clone(&config.metrics)),
                limits: config.limits,
                budgets: config.budgets,
                metrics: config.metrics,
                stop,
            }),
        });
        let reloader = Reloader::new(
            config.identity,
            config.client_certificates,
            Arc::clone(&shared),
            endpoint.clone(),
        )?;
        let mut listeners = JoinSet::new();
        listeners.spawn(tcp::listen(Arc::clone(&shared), listener));
        listeners.spawn(quic::listen(shared, endpoint));
        listeners.spawn(reloader.run());
        Ok(Server { address, seats, phase, listeners, _workers: workers })
    }

    /// The address, with the port that the system chose if it was asked to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections there are: TCP connections (also those that have not proved themselves yet), QUIC connections
    /// and QUIC lanes.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seats.taken()
    }

    /// Waits until a listener ends by itself, which is a reason to end the process. Cancelling is safe.
    pub async fn failed(&mut self) -> NetError {
        match self.listeners.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => NetError::Ended(error.to_string()),
            Some(Ok(Ok(()))) | None => NetError::Ended("without a reason".to_owned()),
        }
    }

    /// Accepts nothing more, reads no further request, lets those in flight be answered, and closes. What is not done
    /// after `grace` is cut.
    pub async fn stop(mut self, grace: Duration) {
        self.phase.send_replace(Phase::Stopping { deadline: Instant::now() + grace });
        while self.listeners.join_next().await.is_some() {}
    }
}

/// Where in its life the server is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Serving,
    Stopping { deadline: Instant },
}

impl Phase {
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self, Phase::Stopping { .. })
    }
}

/// What every session shares, whatever carries it.
pub(super) struct Served<V> {
    pub(super) service: Arc<V>,
    pub(super) limits: Limits,
    pub(super) budgets: Budgets,
    pub(super) noise: Noise,
    pub(super) metrics: Arc<NetMetrics>,
    pub(super) stop: watch::Receiver<Phase>,
}

/// What every connection of a server shares.
pub(super) struct Shared<V> {
    pub(super) served: Arc<Served<V>>,
    pub(super) seats: Seats,
    pub(super) pages: Arc<dyn Pages>,
    /// Places for connections that look at pages.
    pub(super) page_readers: Semaphore,
    /// Where connections live.
    pub(super) turns: Turns,
    /// For TCP; QUIC's is in its endpoint.
    pub(super) tls: ArcSwap<rustls::ServerConfig>,
    principal_rule: PrincipalRule,
    admins: Admins,
    connections: AtomicU64,
}

impl<V> Shared<V> {
    /// The principal of a peer with this certificate chain. Without one it is anonymous: the TLS layer has let it
    /// through, so certificates are optional.
    pub(super) fn principal(
        &self,
        chain: Option<&[rustls::pki_types::CertificateDer<'_>]>,
    ) -> Result<Principal, PrincipalError> {
        match chain.and_then(|chain| chain.first()) {
            Some(certificate) => Principal::of_certificate(certificate, self.principal_rule),
            None => Ok(Principal::anonymous()),
        }
    }

    /// A new connection's card.
    pub(super) fn connection(
        &self,
        peer: SocketAddr,
        transport: Transport,
        principal: Principal,
    ) -> Connection {
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1);
        let authority = self.admins.authority(&principal);
        Connection { id, peer, transport, principal, authority }
    }

    /// Waits for the server to stop; gives the instant at which what is left is cut.
    pub(super) fn stopping(&self) -> impl Future<Output = Instant> + Send + use<V> {
        let mut stop = self.served.stop.clone();
        async move {
            match stop.wait_for(Phase::is_stopping).await.map(|phase| *phase) {
                Ok(Phase::Stopping { deadline }) => deadline,
                // The server was dropped: now.
                Ok(Phase::Serving) | Err(_) => Instant::now(),
            }
        }
    }
}

/// Waits for tasks to end, and cuts them at the deadline.
pub(super) async fn drain(tasks: &mut JoinSet<()>, deadline: Instant) {
    let all = async { while tasks.join_next().await.map(reap).is_some() {} };
    if tokio::time::timeout_at(deadline, all).await.is_err() {
        tracing::warn!(connections = tasks.len(), "the time to finish is over: connections are cut");
        tasks.shutdown().await;
    }
}

/// A task has ended. A panic in one is a defect; the others go on.
pub(super) fn reap(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked: this is a defect of semel");
    }
}

fn bind_both(listen: SocketAddr) -> Result<(TcpListener, std::net::UdpSocket), NetError> {
    let mut attempt = 1;
    loop {
        let listener = bind_tcp(listen).map_err(|error| bind_error("TCP", listen, error))?;
        let address = listener.local_addr().map_err(|error| bind_error("TCP", listen, error))?;
        match std::net::UdpSocket::bind(address) {
            Ok(socket) => return Ok((listener, socket)),
            // The port was the system's choice: it may choose another.
            Err(_) if listen.port() == 0 && attempt < PORT_ATTEMPTS => attempt += 1,
            Err(error) => return Err(bind_error("UDP", address, error)),
        }
    }
}

fn bind_tcp(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Lets a restart take the port while old connections are in TIME_WAIT; two listeners still exclude each other.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

fn bind_error(protocol: &'static str, address: SocketAddr, source: io::Error) -> NetError {
    if source.kind() == io::ErrorKind::AddrInUse {
        NetError::PortTaken { protocol, address }
    } else {
        NetError::Listen { protocol, address, source }
    }
}
