//! What the broker proves itself with, and what it lets clients prove themselves with.

use super::http;
use crate::tls;
use aws_lc_rs::hmac;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The protocol that a QUIC client must offer (ALPN, RFC 7301): Kafka's frames with semel's own requests among them.
pub const ALPN: &[u8] = b"semel/1";

/// A certificate or key file longer than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files of an identity, PEM each. Read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The server's certificate, followed by those between it and the root.
    pub certificate: PathBuf,
    /// The private key of the first of them (PKCS#8, SEC1 or PKCS#1; not encrypted).
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted.
    pub client_ca: PathBuf,
}

/// Whether a client has to have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// No certificate, no connection.
    #[default]
    Required,
    /// Without one a client is `User:ANONYMOUS`.
    Optional,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is not usable: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A certificate's time is over.
    #[error("the certificate in {} expired {ago}; put a new one there, or, if semel made it, delete the file (and the key beside it) and start again", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// How long ago.
        ago: String,
    },
    /// A certificate's time has not come.
    #[error("the certificate in {} is valid only in {wait} from now; check the clock", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// How long it is until then.
        wait: String,
    },
    /// A development identity was half deleted.
    #[error("{} is missing, and {} was made with it: restore it, or delete the directory {} to get a new identity (clients then need the new ca.pem)", missing.display(), present.display(), directory.display())]
    Incomplete {
        /// What is missing.
        missing: PathBuf,
        /// What needs it.
        present: PathBuf,
        /// What to delete.
        directory: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}: {source}")]
    Make {
        /// For whom.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The TLS library refuses the files taken together.
    #[error("cannot serve with {}: {source}", path.display())]
    Tls {
        /// The file that is refused.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// TLS configurations made from an identity.
pub(super) struct TlsConfigs {
    pub(super) tcp: Arc<ServerConfig>,
    pub(super) quic: Arc<ServerConfig>,
    /// Signs QUIC's stateless resets. Made of the private key, so that it outlives a restart.
    pub(super) reset_key: hmac::Key,
}

impl IdentityFiles {
    /// Reads and checks the files.
    pub(super) fn load(&self, clients: ClientCertificates) -> Result<TlsConfigs, IdentityError> {
        let provider = tls::provider();
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let reset_key = reset_key(&key);
        let verifier = self.verifier(&provider, clients)?;
        let refused = |source| IdentityError::Tls { path: self.certificate.clone(), source };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(refused)?;
        // No resumption, hence no tickets, no session memory and no 0-RTT: a resumed session would skip the check of
        // the client's certificate, and connections live long.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.max_early_data_size = 0;
        // Kafka clients offer no protocol, and are served all the same.
        config.alpn_protocols = vec![http::ALPN.to_vec()];
        let mut quic = config.clone();
        quic.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsConfigs { tcp: Arc::new(config), quic: Arc::new(quic), reset_key })
    }

    fn verifier(
        &self,
        provider: &Arc<rustls::crypto::CryptoProvider>,
        clients: ClientCertificates,
    ) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.client_ca)? {
            roots
                .add(authority)
                .map_err(|source| IdentityError::Tls { path: self.client_ca.clone(), source })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match clients {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| IdentityError::Content {
            path: self.client_ca.clone(),
            problem: format!("client certificates cannot be checked with it: {error}"),
        })
    }
}

/// The certificates in a PEM file, all of them valid now.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let content = |problem: String| IdentityError::Content { path: path.to_owned(), problem };
    let text = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| content(format!("it is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content("there is no certificate (BEGIN CERTIFICATE) in it".to_owned()));
    }
    for certificate in &chain {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| content(format!("a certificate in it cannot be read: {error}")))?;
        valid_now(path, &parsed)?;
    }
    Ok(chain)
}

fn valid_now(path: &Path, certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    let path = path.to_owned();
    if now > validity.not_after.timestamp() {
        let ago = format!("{} ago ({})", span(now - validity.not_after.timestamp()), validity.not_after);
        return Err(IdentityError::Expired { path, ago });
    }
    if now < validity.not_before.timestamp() {
        let wait = format!("{} ({})", span(validity.not_before.timestamp() - now), validity.not_before);
        return Err(IdentityError::NotYetValid { path, wait });
    }
    Ok(())
}

fn span(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A key of its own purpose, derived from the private key.
fn reset_key(private: &PrivateKeyDer<'_>) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, private.secret_der());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, b"semel: QUIC stateless reset").as_ref())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| IdentityError::Content {
        path: path.to_owned(),
        problem: format!(
            "there is no private key in it that can be read (PKCS#8 PEM without a password): {error}"
        ),
    })
}

/// Reads a small file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::File { action: "read", path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        let problem = format!("it has {length} bytes; a PEM file has at most {FILE_BYTES_MAX}");
        return Err(IdentityError::Content { path: path.to_owned(), problem });
    }
    fs::read(path).map_err(failed)
}
