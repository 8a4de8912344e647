//! Bytes to and from a broker: TLS 1.3 on TCP, or lanes of a QUIC connection.

use super::config::{ClientConfig, Endpoint, Scheme, TlsFiles};
use super::error::ClientError;
use crate::tls;
use crate::wire::gathered_for_quic;
use bytes::{Buf, Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// The application protocol that a QUIC connection agrees on (`spec/transport-quic.md`).
pub const ALPN: &[u8] = b"semel/1";

/// What one lane may have on its way to the client: a few fetch answers of the usual size.
const LANE_WINDOW: u32 = 8 << 20;
/// What all lanes of a connection may have on their way to the client.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// What may be on its way to the broker, unacknowledged.
const SEND_WINDOW: u64 = 16 << 20;
/// The largest UDP payload that is tried and taken, in bytes: the broker's own (`spec/transport-quic.md`).
const UDP_PAYLOAD_BYTES_MAX: u16 = 6500;
/// How long the farewell to the brokers may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Kernel buffers of the UDP socket, asked for in bytes: a burst of one window should not be dropped.
const SOCKET_BYTES: usize = 4 << 20;
/// A connection without any packet for so long is dead. The broker's own limit is the same.
const IDLE: Duration = Duration::from_secs(30);
/// Packets that keep an idle connection from being taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How often a connection is looked at. A broker that was killed and started again does not know its old connections, and
/// cannot say so; without this its clients would wait for `IDLE`.
const SILENCE_CHECK: Duration = Duration::from_millis(150);
/// A broker that has been sent something and has been silent for so long is called anew. A live one acknowledges within
/// a round trip and 25 ms; if it turns out to be alive, nothing is lost.
const SILENCE: Duration = Duration::from_millis(450);
/// How long such a call may take before the next.
const SECOND_CALL: Duration = Duration::from_secs(3);
/// What one read of a socket asks for below TLS, which itself would ask for 4 KiB.
const SOCKET_READ_BYTES: usize = 16 << 10;
/// Bytes that are read at once, and the step in which a large answer's buffer grows.
const READ_BYTES: usize = 64 << 10;

/// Why no lane came about.
#[derive(Debug)]
enum OpenError {
    /// Nobody is there, or not now.
    Unreachable(String),
    /// One side does not accept the other's certificate, or there is none.
    Identity(String),
}

impl OpenError {
    fn unreachable(reason: impl Display) -> OpenError {
        OpenError::Unreachable(reason.to_string())
    }

    fn at(self, endpoint: &Endpoint) -> ClientError {
        let endpoint = endpoint.clone();
        match self {
            OpenError::Unreachable(reason) => ClientError::Connect { endpoint, reason },
            OpenError::Identity(reason) => ClientError::Identity { endpoint, reason },
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        match tls_problem(&error) {
            Some(problem) => OpenError::Identity(problem),
            None => OpenError::unreachable(error),
        }
    }
}

impl From<quinn::ConnectionError> for OpenError {
    fn from(error: quinn::ConnectionError) -> OpenError {
        // TLS alerts are the transport error codes from 0x100 to 0x1ff (RFC 9001 §4.8).
        let code = match &error {
            quinn::ConnectionError::TransportError(error) => u64::from(error.code),
            quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
            _ => 0,
        };
        match (0x100..0x200).contains(&code) {
            true => OpenError::Identity(error.to_string()),
            false => OpenError::unreachable(error),
        }
    }
}

/// What TLS says, if it is TLS that failed.
pub(super) fn tls_problem(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<rustls::Error>().map(ToString::to_string)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lane's two directions.
pub(super) struct Duplex {
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
}

impl Duplex {
    /// A lane over any byte stream, such as one that a simulation makes.
    pub(super) fn over<S>(stream: S, frame_bytes_max: usize) -> Duplex
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        Duplex {
            reader: FrameReader::new(Box::new(read), frame_bytes_max),
            writer: FrameWriter::Stream(Box::new(write)),
        }
    }
}

/// Opens connections and lanes.
pub(super) struct Dialer {
    ways: Ways,
    frame_bytes_max: usize,
}

/// How brokers are reached.
enum Ways {
    Sockets(Sockets),
    #[cfg(test)]
    Simulated(Box<SimulatedDial>),
}

/// Gives a connection of a simulated world; none while nobody is there.
#[cfg(test)]
pub(super) type SimulatedDial = dyn Fn() -> Option<Box<dyn SimulatedStream>> + Send + Sync;

#[cfg(test)]
pub(crate) trait SimulatedStream: AsyncRead + AsyncWrite + Send + Unpin {}

#[cfg(test)]
impl<S: AsyncRead + AsyncWrite + Send + Unpin> SimulatedStream for S {}

struct Sockets {
    tls: Arc<rustls::ClientConfig>,
    quic: Arc<QuicDialer>,
    /// One QUIC connection for each broker, shared by its lanes. As many as there are brokers.
    peers: tokio::sync::Mutex<HashMap<Endpoint, quinn::Connection>>,
}

struct QuicDialer {
    config: quinn::ClientConfig,
    /// One socket for each address family, bound when first needed.
    sockets: Mutex<HashMap<bool, quinn::Endpoint>>,
}

impl Dialer {
    /// Reads certificates and keys. Opens nothing yet.
    pub(super) fn new(config: &ClientConfig) -> Result<Dialer, ClientError> {
        let tls = client_tls(&config.tls)?;
        let mut quic_tls = tls.clone();
        quic_tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(Arc::new(quic_tls)).map_err(|error| {
            ClientError::Config(format!("QUIC cannot use the TLS configuration: {error}"))
        })?;
        let mut quic = quinn::ClientConfig::new(Arc::new(crypto));
        quic.transport_config(Arc::new(quic_transport()));
        let ways = Ways::Sockets(Sockets {
            tls: Arc::new(tls),
            quic: Arc::new(QuicDialer { config: quic, sockets: Mutex::default() }),
            peers: tokio::sync::Mutex::default(),
        });
        Ok(Dialer { ways, frame_bytes_max: config.frame_bytes_max })
    }

    #[cfg(test)]
    pub(super) fn simulated(config: &ClientConfig, dial: Box<SimulatedDial>) -> Dialer {
        Dialer { ways: Ways::Simulated(dial), frame_bytes_max: config.frame_bytes_max }
    }

    /// Opens a lane to `endpoint`.
    pub(super) async fn open(&self, endpoint: &Endpoint) -> Result<Duplex, ClientError> {
        let opened = match (&self.ways, endpoint.scheme) {
            (Ways::Sockets(sockets), Scheme::Tls) => sockets.open_tls(endpoint, self.frame_bytes_max).await,
            (Ways::Sockets(sockets), Scheme::Quic) => sockets.open_quic(endpoint, self.frame_bytes_max).await,
            #[cfg(test)]
            (Ways::Simulated(dial), _) => {
                let nobody = || OpenError::unreachable("nobody is there");
                dial().map(|stream| Duplex::over(stream, self.frame_bytes_max)).ok_or_else(nobody)
            }
        };
        opened.map_err(|error| error.at(endpoint))
    }

    /// Opens a connection that speaks HTTP to `endpoint`, on TCP whatever its scheme is.
    pub(super) async fn open_https(
        &self,
        endpoint: &Endpoint,
    ) -> Result<TlsStream<BufReader<TcpStream>>, ClientError> {
        match &self.ways {
            Ways::Sockets(sockets) => sockets.open_https(endpoint).await,
            #[cfg(test)]
            Ways::Simulated(_) => Err(OpenError::unreachable("no HTTP is simulated")),
        }
        .map_err(|error| error.at(endpoint))
    }

    /// Takes leave of the brokers, so that they need not wait until the connections have been silent for too long.
    pub(super) async fn close(&self) {
        match &self.ways {
            Ways::Sockets(sockets) => sockets.close().await,
            #[cfg(test)]
            Ways::Simulated(_) => {}
        }
    }
}

impl Sockets {
    async fn close(&self) {
        for (_, connection) in self.peers.lock().await.drain() {
            connection.close(VarInt::from_u32(0), b"done");
        }
        let sockets: Vec<_> = lock(&self.quic.sockets).drain().map(|(_, socket)| socket).collect();
        for socket in sockets {
            // Whoever does not answer does not mind.
            let _ = tokio::time::timeout(FAREWELL, socket.wait_idle()).await;
        }
    }

    async fn open_https(&self, endpoint: &Endpoint) -> Result<TlsStream<BufReader<TcpStream>>, OpenError> {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        connect_tls(Arc::new(tls), endpoint).await
    }

    async fn open_tls(&self, endpoint: &Endpoint, frame_bytes_max: usize) -> Result<Duplex, OpenError> {
        let stream = connect_tls(Arc::clone(&self.tls), endpoint).await?;
        Ok(Duplex::over(stream, frame_bytes_max))
    }

    async fn open_quic(&self, endpoint: &Endpoint, frame_bytes_max: usize) -> Result<Duplex, OpenError> {
        let connection = self.peer(endpoint).await?;
        let (send, receive) = connection.open_bi().await?;
        Ok(Duplex {
            reader: FrameReader::new(Box::new(receive), frame_bytes_max),
            writer: FrameWriter::Quic(send),
        })
    }

    async fn peer(&self, endpoint: &Endpoint) -> Result<quinn::Connection, OpenError> {
        // Held while connecting: lanes that are opened at the same time share the connection.
        let mut peers = self.peers.lock().await;
        if let Some(live) = peers.get(endpoint).filter(|connection| connection.close_reason().is_none()) {
            return Ok(live.clone());
        }
        let connection = self.quic.connect(endpoint).await?;
        peers.insert(endpoint.clone(), connection.clone());
        tokio::spawn(listen_for_silence(connection.clone(), endpoint.clone(), Arc::clone(&self.quic)));
        Ok(connection)
    }
}

/// Ends a connection whose broker is there and does not know it.
async fn listen_for_silence(connection: quinn::Connection, endpoint: Endpoint, dialer: Arc<QuicDialer>) {
    let received = || connection.stats().udp_rx.datagrams;
    let sent = || connection.stats().udp_tx.datagrams;
    let (mut heard, mut sent_before) = (received(), sent());
    let mut silent_since = None;
    loop {
        tokio::select! {
            _ = connection.closed() => return,
            () = tokio::time::sleep(SILENCE_CHECK) => {}
        }
        if received() != heard || sent() == sent_before {
            (heard, sent_before, silent_since) = (received(), sent(), None);
            continue;
        }
        let since = *silent_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SILENCE {
            continue;
        }
        // Only a broker that answers a new call, and still not the old, is known to have forgotten.
        let call = tokio::time::timeout(SECOND_CALL, dialer.connect(&endpoint)).await;
        if matches!(call, Ok(Ok(_))) && received() == heard {
            tracing::debug!(%endpoint, "the broker has been started again; connecting anew");
            return connection.close(VarInt::from_u32(0), b"no answer");
        }
    }
}

impl QuicDialer {
    async fn connect(&self, endpoint: &Endpoint) -> Result<quinn::Connection, OpenError> {
        let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
        let mut last = OpenError::Unreachable(format!("{} has no address", endpoint.host));
        for address in addresses {
            match self.connect_address(endpoint, address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_address(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
    ) -> Result<quinn::Connection, OpenError> {
        let socket = self.socket(address)?;
        let connecting = socket
            .connect_with(self.config.clone(), address, &endpoint.host)
            .map_err(OpenError::unreachable)?;
        Ok(connecting.await?)
    }

    fn socket(&self, address: SocketAddr) -> io::Result<quinn::Endpoint> {
        let mut sockets = lock(&self.sockets);
        if let Some(socket) = sockets.get(&address.is_ipv6()) {
            return Ok(socket.clone());
        }
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let udp = UdpSocket::bind(any)?;
        // Best effort: small buffers cost retransmissions, not correctness.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&udp, SOCKET_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&udp, SOCKET_BYTES);
        let mut packets = EndpointConfig::default();
        packets.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).map_err(io::Error::other)?;
        let socket = quinn::Endpoint::new(packets, None, udp, Arc::new(quinn::TokioRuntime))?;
        sockets.insert(address.is_ipv6(), socket.clone());
        Ok(socket)
    }
}

fn quic_transport() -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(LANE_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IDLE.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE));
    config
}

async fn connect_tls(
    tls: Arc<rustls::ClientConfig>,
    endpoint: &Endpoint,
) -> Result<TlsStream<BufReader<TcpStream>>, OpenError> {
    let name = server_name(endpoint)?;
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    tcp.set_nodelay(true)?;
    let tcp = BufReader::with_capacity(SOCKET_READ_BYTES, tcp);
    Ok(tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await?)
}

fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, OpenError> {
    ServerName::try_from(endpoint.host.clone())
        .map_err(|_| OpenError::Identity(format!("{:?} can be no name in a certificate", endpoint.host)))
}

/// TLS 1.3 with X25519MLKEM768 first (the provider's preference), trusting exactly the given authorities.
fn client_tls(files: &TlsFiles) -> Result<rustls::ClientConfig, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| unusable(&files.ca, &error))?;
    }
    let provider = tls::provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ClientError::Config(format!("TLS 1.3 is not available: {error}")))?
        .with_root_certificates(roots);
    let Some((chain, key)) = &files.client else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    builder.with_client_auth_cert(certificates(chain)?, private).map_err(|error| unusable(key, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(found)
}

fn unusable(path: &Path, problem: &dyn Display) -> ClientError {
    ClientError::File { path: path.to_owned(), problem: problem.to_string() }
}

/// Cuts a byte stream into frames.
pub(super) struct FrameReader {
    from: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl FrameReader {
    fn new(from: Box<dyn AsyncRead + Send + Unpin>, frame_bytes_max: usize) -> FrameReader {
        FrameReader { from, buffer: BytesMut::new(), frame_bytes_max }
    }

    /// The next frame without its length prefix; an error at the end of the stream. Nothing is lost if it is dropped
    /// while it waits.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            // Grown as bytes arrive: an announced length reserves nothing.
            self.buffer.reserve(READ_BYTES);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed it"));
            }
        }
    }

    fn take_frame(&mut self) -> io::Result<Option<Bytes>> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*prefix);
        let length = usize::try_from(announced).ok().filter(|length| *length <= self.frame_bytes_max);
        let Some(length) = length else {
            let problem =
                format!("an answer of {announced} bytes, more than {} are allowed", self.frame_bytes_max);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        };
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Sends frames.
pub(super) enum FrameWriter {
    /// Any byte stream.
    Stream(Box<dyn AsyncWrite + Send + Unpin>),
    /// A QUIC stream takes shared bytes without copying them.
    Quic(quinn::SendStream),
}

impl FrameWriter {
    pub(super) async fn write(&mut self, mut frame: Vec<Bytes>) -> io::Result<()> {
        match self {
            FrameWriter::Quic(stream) => {
                let written = stream.write_all_chunks(&mut gathered_for_quic(frame)).await;
                written.map_err(io::Error::from)
            }
            FrameWriter::Stream(stream) => write_chunks(stream, &mut frame).await,
        }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self {
            FrameWriter::Quic(_) => Ok(()),
            FrameWriter::Stream(stream) => stream.flush().await,
        }
    }
}

/// Writes all chunks, as many at once as the stream takes.
async fn write_chunks(
    stream: &mut (impl AsyncWrite + Unpin + ?Sized),
    chunks: &mut [Bytes],
) -> io::Result<()> {
    /// A request for many partitions has two for each.
    const AT_ONCE: usize = 256;
    loop {
        let left = chunks.iter().filter(|chunk| !chunk.is_empty());
        let slices: Vec<_> = left.take(AT_ONCE).map(|chunk| IoSlice::new(chunk)).collect();
        if slices.is_empty() {
            return Ok(());
        }
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for chunk in chunks.iter_mut() {
            let taken = written.min(chunk.len());
            chunk.advance(taken);
            written -= taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_found_however_the_bytes_are_cut() {
        let (mut near, far) = tokio::io::duplex(3);
        let mut lane = Duplex::over(far, 100);
        let writing = tokio::spawn(async move {
            near.write_all(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1, 9]).await.unwrap();
        });
        assert_eq!(lane.reader.next().await.unwrap(), &[7, 8][..]);
        assert_eq!(lane.reader.next().await.unwrap(), &[][..]);
        assert_eq!(lane.reader.next().await.unwrap(), &[9][..]);
        writing.await.unwrap();
        assert_eq!(lane.reader.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_frame_beyond_the_limit_is_refused_before_it_is_read() {
        for announced in [101_i32, i32::MAX, -1] {
            let (mut near, far) = tokio::io::duplex(64);
            let mut lane = Duplex::over(far, 100);
            near.write_all(&announced.to_be_bytes()).await.unwrap();
            assert_eq!(lane.reader.next().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
