//! Clients over both transports.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client's TLS configuration: trusts `ca`, and proves itself with `certificate` and `key` if given.
pub(super) fn client_config(ca: &Path, identity: Option<(&Path, &Path)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    }
}

pub(super) fn own_config(files: &DevelopmentFiles) -> ClientConfig {
    client_config(&files.ca, Some((&files.client, &files.client_key)))
}

/// One Kafka connection of a client.
pub(super) struct Peer {
    pub(super) source: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) sink: Box<dyn AsyncWrite + Send + Unpin>,
    /// What must stay alive, or be looked at: a QUIC connection.
    pub(super) quic: Option<Quic>,
}

/// A client's QUIC connection.
#[derive(Clone)]
pub(super) struct Quic {
    pub(super) connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Quic {
    pub(super) async fn connect(
        address: SocketAddr,
        config: ClientConfig,
    ) -> Result<Quic, quinn::ConnectionError> {
        let mut config = config;
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connection = endpoint.connect_with(config, address, "localhost").unwrap().await?;
        Ok(Quic { connection, _endpoint: endpoint })
    }

    pub(super) async fn lane(&self) -> Peer {
        let (send, receive) = soon("a lane", self.connection.open_bi()).await.unwrap();
        Peer { source: Box::new(receive), sink: Box::new(send), quic: Some(self.clone()) }
    }
}

pub(super) async fn tls(
    address: SocketAddr,
    config: ClientConfig,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Peer {
    pub(super) async fn connect(transport: Transport, address: SocketAddr, files: &DevelopmentFiles) -> Peer {
        Peer::with(transport, address, own_config(files)).await
    }

    pub(super) async fn with(transport: Transport, address: SocketAddr, config: ClientConfig) -> Peer {
        match transport {
            Transport::Tcp => {
                let (source, sink) = tokio::io::split(tls(address, config).await.unwrap());
                Peer { source: Box::new(source), sink: Box::new(sink), quic: None }
            }
            Transport::Quic => Quic::connect(address, config).await.unwrap().lane().await,
        }
    }

    /// Writes bytes as they are.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        soon("the peer to take bytes", async {
            self.sink.write_all(bytes).await.unwrap();
            self.sink.flush().await.unwrap();
        })
        .await;
    }

    /// Writes bytes, or not: the other side may have closed already.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = soon("the peer to take bytes", async {
            self.sink.write_all(bytes).await?;
            self.sink.flush().await
        })
        .await;
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(&mut self) {
        soon("the end to be sent", self.sink.shutdown()).await.unwrap();
    }

    /// The next frame's body.
    pub(super) async fn receive(&mut self) -> Vec<u8> {
        soon("a frame", async {
            let length = self.source.read_u32().await.unwrap();
            let mut body = vec![0; length as usize];
            self.source.read_exact(&mut body).await.unwrap();
            body
        })
        .await
    }

    /// Waits for the other side to close, in order or not; what else arrives is returned.
    pub(super) async fn closed(&mut self) -> Vec<u8> {
        soon("the connection to be closed", async {
            let mut rest = Vec::new();
            // Reset or ended in order: closed is closed.
            let _ = self.source.read_to_end(&mut rest).await;
            rest
        })
        .await
    }
}
