//! QUIC: each bidirectional stream that a client opens is a Kafka connection of its own (`spec/transport-quic.md`).

use super::identity::TlsConfigs;
use super::limits::{Limits, QUIC_WINDOW_MIN};
use super::noise::Kind;
use super::principal::Principal;
use super::reply::LaneSink;
use super::seats::Seat;
use super::server::{NetError, Shared, drain, reap};
use super::service::{Service, Transport};
use super::session::{self, code};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt,
};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Kernel buffers of the UDP socket, asked for in bytes; the system may grant less. A burst of one window should not
/// be dropped before it is looked at.
const SOCKET_BYTES: usize = 4 << 20;
/// Connections whose first packets are kept until they are accepted; beyond, packets are dropped and come again.
const INCOMING_MAX: usize = 1024;
/// One connection gets at most this part of the receive memory that is left, so that late ones get some too.
const WINDOW_SHARE: usize = 16;
/// The largest UDP payload that is tried and taken, in bytes. Path MTU discovery (RFC 8899) finds what passes: on the
/// usual 1,500-byte networks it stays there, on loopback and with jumbo frames a packet costs a quarter per byte. Ten
/// such packets, which are handed to the system at once, fit the 64 KiB of one UDP send.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6500;
/// How long the farewell to all peers may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A QUIC endpoint on a bound socket.
pub(super) fn endpoint(
    socket: std::net::UdpSocket,
    tls: &TlsConfigs,
    limits: &Limits,
) -> Result<quinn::Endpoint, NetError> {
    // Best effort: small buffers cost retransmissions, not correctness.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES);
    let config = server_config(&tls.quic, limits)?;
    let quic_error = |error: &dyn std::fmt::Display| NetError::Quic(error.to_string());
    let mut packets = EndpointConfig::new(Arc::new(tls.reset_key.clone()));
    packets.cid_generator(|| Box::new(RandomIds));
    packets.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).map_err(|error| quic_error(&error))?;
    quinn::Endpoint::new(packets, Some(config), socket, Arc::new(quinn::TokioRuntime))
        .map_err(|error| quic_error(&error))
}

/// Makes connection ids of random bytes. Those of an earlier process pass for own ones, so that their packets are answered
/// with a stateless reset (RFC 9000 §10.3): the peer then knows that its connection is gone.
struct RandomIds;

/// Bytes of a connection id: enough that two never meet.
const CONNECTION_ID_BYTES: usize = 8;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // The last eight of its sixteen bytes have 62 random bits.
        let random = uuid::Uuid::new_v4();
        ConnectionId::new(random.as_bytes().last_chunk::<CONNECTION_ID_BYTES>().unwrap_or(&[0; 8]))
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The configuration for new connections.
pub(super) fn server_config(
    tls: &Arc<rustls::ServerConfig>,
    limits: &Limits,
) -> Result<quinn::ServerConfig, NetError> {
    let crypto =
        QuicServerConfig::try_from(Arc::clone(tls)).map_err(|error| NetError::Quic(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(limits)?)).max_incoming(INCOMING_MAX);
    Ok(config)
}

fn transport_config(limits: &Limits) -> Result<TransportConfig, NetError> {
    let idle = limits.quic_idle.try_into().map_err(|_| NetError::Quic("quic_idle is too long".to_owned()))?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.quic_lanes))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(limits.quic_lane_window))
        // Raised for each connection by its share of `quic_receive_bytes`.
        .receive_window(VarInt::from_u32(QUIC_WINDOW_MIN))
        .send_window(limits.quic_send_window)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.quic_keep_alive));
    Ok(config)
}

/// Accepts connections until the server stops, waits for them, and says farewell.
pub(super) async fn listen<V: Service>(
    shared: Arc<Shared<V>>,
    endpoint: quinn::Endpoint,
) -> Result<(), NetError> {
    let windows = Windows::new(&shared.served.limits);
    let handshakes = Arc::new(Semaphore::new(shared.served.limits.quic_handshakes_unproved));
    let mut connections = JoinSet::new();
    let mut stop = pin!(shared.stopping());
    let deadline = loop {
        tokio::select! {
            deadline = &mut stop => break deadline,
            Some(ended) = connections.join_next() => reap(ended),
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(&shared, incoming, &windows, &handshakes, &mut connections),
                None => return Err(NetError::Ended("the UDP socket failed".to_owned())),
            },
        }
    };
    endpoint.set_server_config(None);
    drain(&mut connections, deadline).await;
    endpoint.close(VarInt::from_u32(code::STOPPING), b"the broker is stopping");
    // Peers that have gone silently would be waited for until they time out.
    let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
    Ok(())
}

fn admit<V: Service>(
    shared: &Arc<Shared<V>>,
    incoming: quinn::Incoming,
    windows: &Windows,
    handshakes: &Arc<Semaphore>,
    into: &mut JoinSet<()>,
) {
    let peer = incoming.remote_address();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let unproved = Arc::clone(handshakes).try_acquire_owned().ok();
    if unproved.is_none() && !incoming.remote_address_validated() && incoming.may_retry() {
        // Cannot fail: `may_retry` has just said so.
        let _ = incoming.retry();
        return;
    }
    let seat = shared.seats.take(peer.ip()).map_err(|reason| reason.to_string());
    let admitted = seat.and_then(|seat| Ok((seat, windows.take().ok_or("quic_receive_bytes are used up")?)));
    match admitted {
        Ok((seat, window)) => {
            let connection = serve(Arc::clone(shared), incoming, peer, seat, window, unproved);
            shared.turns.spawn(into, connection);
        }
        Err(reason) => {
            incoming.refuse();
            shared.served.noise.line(Kind::Seats, |suppressed| {
                tracing::warn!(%peer, transport = %Transport::Quic, %reason, suppressed, "connection refused");
            });
        }
    }
}

async fn serve<V: Service>(
    shared: Arc<Shared<V>>,
    incoming: quinn::Incoming,
    peer: SocketAddr,
    _seat: Seat,
    window: Window,
    unproved: Option<OwnedSemaphorePermit>,
) {
    let greeted = tokio::select! {
        greeted = greet(&shared, incoming) => greeted,
        _ = shared.stopping() => return,
    };
    drop(unproved);
    let (connection, principal) = match greeted {
        Ok(greeted) => greeted,
        Err(reason) => {
            return shared.served.noise.line(Kind::Handshake, |suppressed| {
                tracing::warn!(%peer, transport = %Transport::Quic, %reason, suppressed, "connection refused");
            });
        }
    };
    connection.set_receive_window(window.bytes());
    let mut lanes = JoinSet::new();
    let mut stop = pin!(shared.stopping());
    let deadline = loop {
        tokio::select! {
            deadline = &mut stop => break deadline,
            Some(ended) = lanes.join_next() => reap(ended),
            opened = connection.accept_bi() => match opened {
                Ok((send, receive)) => open_lane(&shared, &connection, &principal, send, receive, &mut lanes),
                Err(reason) => {
                    tracing::debug!(%peer, transport = %Transport::Quic, %principal, %reason, "closed");
                    // The lanes see the same error; each says goodbye to the broker.
                    return drain(&mut lanes, Instant::now() + FAREWELL).await;
                }
            },
        }
    };
    drain(&mut lanes, deadline).await;
    connection.close(VarInt::from_u32(code::STOPPING), b"the broker is stopping");
}

/// Why a QUIC connection did not come to be.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no handshake within {0:?} (limit: handshake)")]
    TooSlow(Duration),
    #[error("the QUIC handshake failed: {0}")]
    Handshake(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Principal(#[from] super::principal::PrincipalError),
}

async fn greet<V>(
    shared: &Shared<V>,
    incoming: quinn::Incoming,
) -> Result<(quinn::Connection, Principal), Refused> {
    let limit = shared.served.limits.handshake;
    let connecting = incoming.accept()?;
    let connection = tokio::time::timeout(limit, connecting).await.map_err(|_| Refused::TooSlow(limit))??;
    let identity = connection.peer_identity();
    let chain =
        identity.as_ref().and_then(|any| any.downcast_ref::<Vec<rustls::pki_types::CertificateDer<'_>>>());
    match shared.principal(chain.map(Vec::as_slice)) {
        Ok(principal) => Ok((connection, principal)),
        Err(error) => {
            connection.close(VarInt::from_u32(code::IDENTITY), error.to_string().as_bytes());
            Err(error.into())
        }
    }
}

fn open_lane<V: Service>(
    shared: &Arc<Shared<V>>,
    connection: &quinn::Connection,
    principal: &Principal,
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
    into: &mut JoinSet<()>,
) {
    let peer = connection.remote_address();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match shared.seats.take(peer.ip()) {
        Ok(seat) => {
            let card = shared.connection(peer, Transport::Quic, principal.clone());
            into.spawn(lane(Arc::clone(shared), card, send, receive, seat));
        }
        Err(reason) => {
            let code = VarInt::from_u32(code::LIMIT);
            // Both fail only on a stream that is closed already.
            let _ = (send.reset(code), receive.stop(code));
            shared.served.noise.line(Kind::Seats, |suppressed| {
                tracing::warn!(%peer, transport = %Transport::Quic, %principal, %reason, suppressed, "lane refused");
            });
        }
    }
}

async fn lane<V: Service>(
    shared: Arc<Shared<V>>,
    card: super::service::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    _seat: Seat,
) {
    session::run(Arc::clone(&shared.served), card, receive, LaneSink(send)).await;
}

/// Receive memory, shared out so that its sum stays within `quic_receive_bytes` however many connections there are.
struct Windows {
    free_kib: Arc<Semaphore>,
    max_kib: usize,
}

/// A connection's share; free again when dropped.
struct Window(OwnedSemaphorePermit);

impl Windows {
    fn new(limits: &Limits) -> Windows {
        Windows {
            free_kib: Arc::new(Semaphore::new(Limits::kib(limits.quic_receive_bytes))),
            max_kib: Limits::kib(usize::try_from(limits.quic_connection_window).unwrap_or(usize::MAX)),
        }
    }

    /// A share of what is left; none if that is less than every connection needs.
    fn take(&self) -> Option<Window> {
        let min_kib = Limits::kib(usize::try_from(QUIC_WINDOW_MIN).unwrap_or(usize::MAX));
        let share = (self.free_kib.available_permits() / WINDOW_SHARE).clamp(min_kib, self.max_kib);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        Arc::clone(&self.free_kib).try_acquire_many_owned(share).ok().map(Window)
    }
}

impl Window {
    fn bytes(&self) -> VarInt {
        let bytes = self.0.num_permits().saturating_mul(1 << 10);
        VarInt::from_u32(u32::try_from(bytes).unwrap_or(u32::MAX))
    }
}
