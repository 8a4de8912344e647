//! A loopback splice: TCP with TLS in, QUIC lanes out, so that any client can exercise the broker's QUIC listener.
//!
//! Each TCP connection becomes one bidirectional stream; bytes pass unchanged in both directions, and each side's end
//! is passed on as such. It shows clients the development server certificate and requires the development client
//! certificate, exactly as the broker does on TCP, and proves itself to the broker with the latter.
//!
//! Kafka clients follow the address that Metadata names. For them to stay on the splice, the broker has to advertise
//! the splice's address.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Bytes passed on at a time.
const PASS_BYTES: usize = 64 << 10;

/// A running splice. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct Splice {
    address: SocketAddr,
    lanes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Splice {
    /// Listens on `listen` and connects to the broker's QUIC listener at `broker`. `tls` is the broker's `DIR/tls`,
    /// `alpn` the name of its protocol.
    pub async fn start(
        listen: SocketAddr,
        broker: SocketAddr,
        tls: &Path,
        alpn: &[u8],
    ) -> io::Result<Splice> {
        Splice::behind(TcpListener::bind(listen).await?, broker, tls, alpn).await
    }

    /// The same behind a listener that was there before the broker, because the broker had to be told of it.
    pub async fn behind(
        listener: TcpListener,
        broker: SocketAddr,
        tls: &Path,
        alpn: &[u8],
    ) -> io::Result<Splice> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(tls).map_err(io::Error::other)?));
        let crypto = client_config(tls, alpn).map_err(io::Error::other)?;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).map_err(io::Error::other)?;
        let unspecified = if broker.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut endpoint = quinn::Endpoint::client(unspecified.parse().map_err(io::Error::other)?)?;
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint
            .connect(broker, "localhost")
            .map_err(io::Error::other)?
            .await
            .map_err(io::Error::other)?;
        let address = listener.local_addr()?;
        let lanes = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(listener, acceptor, endpoint, connection, Arc::clone(&lanes)));
        Ok(Splice { address, lanes, task })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many lanes have been opened: what shows that a client really went through QUIC.
    pub fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed)
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    endpoint: quinn::Endpoint,
    mut connection: quinn::Connection,
    lanes: Arc<AtomicUsize>,
) {
    let mut splices = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = splices.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // The broker may have been restarted since.
                if connection.close_reason().is_some() {
                    match endpoint.connect(connection.remote_address(), "localhost") {
                        Ok(connecting) => match connecting.await {
                            Ok(again) => connection = again,
                            Err(_) => continue,
                        },
                        Err(_) => continue,
                    }
                }
                let lanes = Arc::clone(&lanes);
                splices.spawn(splice(stream, acceptor.clone(), connection.clone(), lanes));
            }
        }
    }
}

async fn splice(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    connection: quinn::Connection,
    lanes: Arc<AtomicUsize>,
) {
    // Every error here ends both sides, which is how the client and the broker hear of it.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let Ok((mut send, mut receive)) = connection.open_bi().await else { return };
    lanes.fetch_add(1, Ordering::Relaxed);
    let (mut source, mut sink) = tokio::io::split(stream);
    let requests = async {
        let passed = pass(&mut source, &mut send).await;
        if passed.is_ok() {
            let _ = send.finish();
        } else {
            let _ = send.reset(0u32.into());
        }
    };
    let replies = async {
        pass(&mut receive, &mut sink).await?;
        sink.shutdown().await
    };
    let (mut requests, mut replies) = (std::pin::pin!(requests), std::pin::pin!(replies));
    // The broker's end ends the connection; the client's end only its own direction.
    tokio::select! {
        _ = &mut replies => {}
        () = &mut requests => { let _ = replies.await; }
    }
}

async fn pass<R, W>(source: &mut R, sink: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; PASS_BYTES];
    loop {
        let read = source.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        sink.write_all(&buffer[..read]).await?;
        sink.flush().await?;
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    Ok(CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?)
}

fn authorities(tls: &Path) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&tls.join("ca.pem"))? {
        roots.add(authority)?;
    }
    Ok(Arc::new(roots))
}

fn server_config(tls: &Path) -> Result<ServerConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(authorities(tls)?, Arc::clone(&provider)).build()?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            certificates(&tls.join("server.pem"))?,
            PrivateKeyDer::from_pem_file(tls.join("server.key"))?,
        )?)
}

fn client_config(tls: &Path, alpn: &[u8]) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities(tls)?)
        .with_client_auth_cert(
            certificates(&tls.join("client.pem"))?,
            PrivateKeyDer::from_pem_file(tls.join("client.key"))?,
        )?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}
