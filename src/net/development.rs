//! The development identity: an authority, a server and a client, made on first start and kept.
//!
//! Every file is made from those before it, written beside its place, synced and renamed. So a start that is
//! interrupted anywhere is taken up by the next, and what exists is never changed.

use super::identity::{IdentityError, IdentityFiles, certificates, read};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The name of the authority that semel makes; its certificates are recognised by it.
const AUTHORITY: &str = "semel development CA";
/// The common name of the development client: the principal is `User:semel-client`.
const CLIENT: &str = "semel-client";
/// How long the certificates are valid. They never leave the developer's machine; expiry would only surprise.
const VALID: Duration = Duration::from_secs(3650 * 86_400);
/// How far back the validity starts, for clocks that disagree a little.
const SLACK: Duration = Duration::from_secs(86_400);

const DIRECTORY_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// The files of the development identity, in `DIR/tls`, and the Java configuration beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevelopmentFiles {
    /// `DIR/tls`, readable by its owner only.
    pub directory: PathBuf,
    /// The authority's certificate: what clients trust, and what signs them.
    pub ca: PathBuf,
    /// The authority's key.
    pub ca_key: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client's certificate.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
    /// The client's key, its certificate and the authority's, in one file, as Java wants them.
    pub client_keystore: PathBuf,
    /// `DIR/client.properties`, for Java tools.
    pub client_properties: PathBuf,
}

impl DevelopmentFiles {
    /// The places of the files under a data directory. Touches nothing. The paths are absolute if `data_directory` is.
    #[must_use]
    pub fn under(data_directory: &Path) -> DevelopmentFiles {
        let directory = data_directory.join("tls");
        DevelopmentFiles {
            ca: directory.join("ca.pem"),
            ca_key: directory.join("ca.key"),
            server: directory.join("server.pem"),
            server_key: directory.join("server.key"),
            client: directory.join("client.pem"),
            client_key: directory.join("client.key"),
            client_keystore: directory.join("client-keystore.pem"),
            client_properties: data_directory.join("client.properties"),
            directory,
        }
    }

    /// Makes what is missing under `data_directory`, which must exist, and checks what is there. The server's
    /// certificate is for localhost, its addresses, and `listen_host`, unless that is an unspecified address.
    ///
    /// Blocks on the disk.
    pub fn ensure(data_directory: &Path, listen_host: &str) -> Result<DevelopmentFiles, IdentityError> {
        let absolute = std::path::absolute(data_directory).map_err(|source| IdentityError::File {
            action: "find",
            path: data_directory.to_owned(),
            source,
        })?;
        let files = DevelopmentFiles::under(&absolute);
        create_directory(&files.directory)?;
        files.ensure_authority()?;
        files.ensure_leaf(&files.server, &files.server_key, server_params(listen_host))?;
        files.ensure_leaf(&files.client, &files.client_key, client_params())?;
        if !exists(&files.client_keystore)? {
            let parts = [read(&files.client_key)?, read(&files.client)?, read(&files.ca)?];
            write_new(&files.client_keystore, &parts.concat(), SECRET_MODE)?;
        }
        if !exists(&files.client_properties)? {
            write_new(&files.client_properties, files.java_configuration().as_bytes(), PUBLIC_MODE)?;
        }
        Ok(files)
    }

    /// The part of the identity that the server uses.
    #[must_use]
    pub fn identity(&self) -> IdentityFiles {
        IdentityFiles {
            certificate: self.server.clone(),
            key: self.server_key.clone(),
            client_ca: self.ca.clone(),
        }
    }

    /// The text of a `client.properties` for Java's client and tools.
    #[must_use]
    pub fn java_configuration(&self) -> String {
        format!(
            "security.protocol=SSL\n\
             ssl.enabled.protocols=TLSv1.3\n\
             ssl.protocol=TLSv1.3\n\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={}\n\
             ssl.keystore.type=PEM\n\
             ssl.keystore.location={}\n",
            java_escaped(&self.ca),
            java_escaped(&self.client_keystore),
        )
    }

    fn ensure_authority(&self) -> Result<(), IdentityError> {
        if exists(&self.ca)? {
            certificates(&self.ca)?;
            return Ok(());
        }
        for made in [&self.server, &self.client] {
            if exists(made)? {
                return Err(self.incomplete(&self.ca, made));
            }
        }
        let key = ensure_key(&self.ca_key)?;
        let certificate = authority_params()
            .self_signed(&key)
            .map_err(|source| IdentityError::Make { subject: AUTHORITY.to_owned(), source })?;
        write_new(&self.ca, certificate.pem().as_bytes(), PUBLIC_MODE)
    }

    fn ensure_leaf(
        &self,
        certificate: &Path,
        key: &Path,
        params: Result<CertificateParams, rcgen::Error>,
    ) -> Result<(), IdentityError> {
        let subject = || certificate.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if exists(certificate)? {
            if !exists(key)? {
                return Err(self.incomplete(key, certificate));
            }
            certificates(certificate)?;
            return Ok(());
        }
        self.check_authority(certificate)?;
        let authority_params = authority_params();
        let issuer = Issuer::from_params(&authority_params, existing_key(&self.ca_key)?);
        let key = ensure_key(key)?;
        let made = params
            .and_then(|params| params.signed_by(&key, &issuer))
            .map_err(|source| IdentityError::Make { subject: subject(), source })?;
        write_new(certificate, made.pem().as_bytes(), PUBLIC_MODE)
    }

    /// Only the authority that semel made can sign; another's `ca.pem` may have been put into its place.
    fn check_authority(&self, wanted: &Path) -> Result<(), IdentityError> {
        if !exists(&self.ca_key)? {
            return Err(self.incomplete(&self.ca_key, &self.ca));
        }
        let problem = |problem: String| IdentityError::Content { path: self.ca.clone(), problem };
        let authority = certificates(&self.ca)?.into_iter().next().unwrap_or_else(|| Vec::new().into());
        let (_, parsed) = X509Certificate::from_der(&authority)
            .map_err(|error| problem(format!("the certificate in it cannot be read: {error}")))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let key = existing_key(&self.ca_key)?;
        let same_key = parsed.public_key().subject_public_key.data == key.public_key_raw();
        if name == Some(AUTHORITY) && same_key {
            return Ok(());
        }
        Err(problem(format!(
            "it is not the authority that semel made with ca.key, so {} cannot be made: put one there, signed by it",
            wanted.display()
        )))
    }

    fn incomplete(&self, missing: &Path, present: &Path) -> IdentityError {
        IdentityError::Incomplete {
            missing: missing.to_owned(),
            present: present.to_owned(),
            directory: self.directory.clone(),
        }
    }
}

/// The lines that librdkafka, and every client built on it, needs.
#[must_use]
pub fn librdkafka_configuration(files: &DevelopmentFiles) -> String {
    format!(
        "security.protocol=ssl\n\
         ssl.ca.location={}\n\
         ssl.certificate.location={}\n\
         ssl.key.location={}\n",
        files.ca.display(),
        files.client.display(),
        files.client_key.display()
    )
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole seconds: that is what a certificate can say.
    let now = Duration::from_secs(now.as_secs());
    params.not_before = epoch + now.saturating_sub(SLACK);
    params.not_after = epoch + now + VALID;
    Ok(params)
}

fn authority_params() -> CertificateParams {
    // No alternative names, so nothing that could be refused.
    let mut params = params(AUTHORITY, Vec::new()).unwrap_or_default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(listen_host: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = listen_host.trim_start_matches('[').trim_end_matches(']');
    let unspecified = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified());
    if !host.is_empty() && !unspecified && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    let mut params = params("semel-server", names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn client_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(CLIENT, Vec::new())?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn ensure_key(path: &Path) -> Result<KeyPair, IdentityError> {
    if exists(path)? {
        return existing_key(path);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|source| IdentityError::Make { subject: path.display().to_string(), source })?;
    write_new(path, key.serialize_pem().as_bytes(), SECRET_MODE)?;
    Ok(key)
}

fn existing_key(path: &Path) -> Result<KeyPair, IdentityError> {
    let unusable = |problem: String| IdentityError::Content { path: path.to_owned(), problem };
    let text = String::from_utf8(read(path)?).map_err(|_| unusable("it is not PEM".to_owned()))?;
    KeyPair::from_pem(&text)
        .map_err(|error| unusable(format!("there is no usable private key in it: {error}")))
}

fn exists(path: &Path) -> Result<bool, IdentityError> {
    path.try_exists().map_err(|source| IdentityError::File {
        action: "look for",
        path: path.to_owned(),
        source,
    })
}

fn create_directory(path: &Path) -> Result<(), IdentityError> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|source| IdentityError::File { action: "create", path: path.to_owned(), source })
}

/// Writes a file that is either there in full or not at all.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), IdentityError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        // What an interrupted start left behind; its mode may not be ours.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().map_err(|source| IdentityError::File { action: "write", path: path.to_owned(), source })
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A path as the value of a Java property: backslashes and what is not Latin-1 are escaped.
fn java_escaped(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            ' '..='~' => text.push(letter),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}
