//! TLS 1.3 on TCP.

use super::noise::Kind;
use super::principal::Principal;
use super::reply::TlsSink;
use super::seats::Seat;
use super::server::{NetError, Shared, drain, reap};
use super::service::{Service, Transport};
use super::{http, session};
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Pause after the system refused a connection (no file descriptors, no memory): trying again at once would only burn
/// the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Encrypted bytes that wait to be written, per connection: four times what is gathered for a write, so that a batch
/// of replies usually leaves in one.
const TLS_SEND_BYTES: usize = 256 << 10;
/// The first byte of a TLS record that holds a handshake message (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Accepts connections until the server stops, and then waits for them.
pub(super) async fn listen<V: Service>(
    shared: Arc<Shared<V>>,
    listener: TcpListener,
) -> Result<(), NetError> {
    let mut connections = JoinSet::new();
    let mut stop = pin!(shared.stopping());
    let deadline = loop {
        tokio::select! {
            deadline = &mut stop => break deadline,
            Some(ended) = connections.join_next() => reap(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&shared, stream, peer, &mut connections),
                Err(error) => refused_by_system(&shared, &error).await,
            },
        }
    };
    drop(listener);
    drain(&mut connections, deadline).await;
    Ok(())
}

fn admit<V: Service>(shared: &Arc<Shared<V>>, stream: TcpStream, peer: SocketAddr, into: &mut JoinSet<()>) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match shared.seats.take(peer.ip()) {
        Ok(seat) => {
            // The thread that accepts is not the one that serves.
            match stream.into_std() {
                Ok(stream) => shared.turns.spawn(into, serve(Arc::clone(shared), stream, peer, seat)),
                Err(error) => tracing::debug!(%peer, %error, "gone before it was served"),
            }
        }
        Err(reason) => shared.served.noise.line(Kind::Seats, |suppressed| {
            tracing::warn!(%peer, transport = %Transport::Tcp, %reason, suppressed, "connection refused");
        }),
    }
}

async fn refused_by_system<V>(shared: &Shared<V>, error: &io::Error) {
    // The peer went away again before it was accepted: nothing to be done, nothing to wait for.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    shared.served.noise.line(Kind::Accept, |suppressed| {
        tracing::error!(%error, suppressed, "cannot accept connections (is the limit of open files too low?)");
    });
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve<V: Service>(
    shared: Arc<Shared<V>>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    _seat: Seat,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return report(&shared, peer, &Refused::System(error)),
    };
    let greeted = tokio::select! {
        greeted = greet(&shared, stream) => greeted,
        _ = shared.stopping() => return,
    };
    let (stream, principal) = match greeted {
        Ok(greeted) => greeted,
        Err(refused) => return report(&shared, peer, &refused),
    };
    let connection = shared.connection(peer, Transport::Tcp, principal);
    if stream.get_ref().1.alpn_protocol() == Some(http::ALPN) {
        return http::run(shared, connection, stream).await;
    }
    let (source, sink) = tokio::io::split(stream);
    session::run(Arc::clone(&shared.served), connection, source, TlsSink(sink)).await;
}

/// Why a connection did not become a session.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the peer closed the connection without a word")]
    Silent,
    #[error("the system does not let the connection be served: {0}")]
    System(io::Error),
    #[error(
        "plaintext: the peer sent {0} instead of a TLS handshake; this port speaks only TLS 1.3 (Kafka clients: security.protocol=SSL)"
    )]
    Plaintext(&'static str),
    #[error("no handshake within {0:?} (limit: handshake)")]
    TooSlow(Duration),
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error(
        "the peer sent no client certificate, and one is required (see ssl.keystore.location, ssl.certificate.location)"
    )]
    NoCertificate,
    #[error(transparent)]
    Principal(#[from] super::principal::PrincipalError),
}

async fn greet<V>(
    shared: &Shared<V>,
    stream: TcpStream,
) -> Result<(TlsStream<ReadAhead<TcpStream>>, Principal), Refused> {
    // Best effort: without it small replies only take longer.
    let _ = stream.set_nodelay(true);
    let limit = shared.served.limits.handshake;
    let greeting = async {
        look_for_plaintext(&stream).await?;
        TlsAcceptor::from(shared.tls.load_full())
            .accept_with(ReadAhead::new(stream), |tls| tls.set_buffer_limit(Some(TLS_SEND_BYTES)))
            .await
            .map_err(handshake_error)
    };
    let stream = tokio::time::timeout(limit, greeting).await.map_err(|_| Refused::TooSlow(limit))??;
    let principal = shared.principal(stream.get_ref().1.peer_certificates())?;
    Ok((stream, principal))
}

/// Looks at the first bytes without taking them.
async fn look_for_plaintext(stream: &TcpStream) -> Result<(), Refused> {
    let mut start = [0; 8];
    let seen = stream.peek(&mut start).await.map_err(Refused::Handshake)?;
    let start = start.get(..seen).unwrap_or_default();
    match start {
        [] => Err(Refused::Silent),
        [TLS_HANDSHAKE, ..] => Ok(()),
        // A length below 16 MiB: so starts every Kafka request.
        [0, ..] => Err(Refused::Plaintext("what looks like a Kafka request")),
        _ => {
            let http = ["GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ", "CONNECT ", "PRI * "];
            let is_http = http.iter().any(|verb| {
                let length = verb.len().min(start.len());
                start.get(..length) == verb.as_bytes().get(..length)
            });
            Err(Refused::Plaintext(if is_http { "an HTTP request" } else { "something unknown" }))
        }
    }
}

fn handshake_error(error: io::Error) -> Refused {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::NoCertificatesPresented) => Refused::NoCertificate,
        _ if error.kind() == io::ErrorKind::UnexpectedEof => Refused::Silent,
        _ => Refused::Handshake(error),
    }
}

fn report<V>(shared: &Shared<V>, peer: SocketAddr, reason: &Refused) {
    let kind = match reason {
        // Port scans and health checks do this all day.
        Refused::Silent => return tracing::debug!(%peer, %reason, "closed before the handshake"),
        Refused::Plaintext(_) => Kind::Plaintext,
        _ => Kind::Handshake,
    };
    shared.served.noise.line(kind, |suppressed| {
        tracing::warn!(%peer, transport = %Transport::Tcp, %reason, suppressed, "connection refused");
    });
}

/// What one read of the socket asks for at first, and once reads fill it. The TLS library itself asks for 4 KiB, which
/// would be 256 system calls per MiB.
const SOCKET_READ_BYTES: usize = 16 << 10;
const SOCKET_READ_BYTES_MAX: usize = 64 << 10;

/// A socket that is read in larger pieces than its reader asks for.
struct ReadAhead<S> {
    socket: S,
    buffer: BytesMut,
    capacity: usize,
}

impl<S> ReadAhead<S> {
    fn new(socket: S) -> ReadAhead<S> {
        ReadAhead { socket, buffer: BytesMut::new(), capacity: SOCKET_READ_BYTES }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            this.buffer.clear();
            this.buffer.reserve(this.capacity);
            let read = pin!(this.socket.read_buf(&mut this.buffer));
            if ready!(read.poll(context))? >= this.capacity {
                this.capacity = SOCKET_READ_BYTES_MAX;
            }
        }
        let length = this.buffer.len().min(into.remaining());
        into.put_slice(this.buffer.get(..length).unwrap_or_default());
        this.buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
