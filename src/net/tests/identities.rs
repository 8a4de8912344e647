//! Certificates: made, kept, expired, exchanged while serving.

use super::*;
use peers::{client_config, own_config, tls};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;

/// A certificate signed by the development authority, with its key; valid between two years.
fn issue(files: &DevelopmentFiles, name: &str, years: (i32, i32)) -> (String, String) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, "semel development CA");
    let ca_key = KeyPair::from_pem(&fs::read_to_string(&files.ca_key).unwrap()).unwrap();
    let issuer = Issuer::from_params(&authority, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// Puts files into the place of others as a careful administrator would.
fn replace(path: &Path, content: &str) {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, content).unwrap();
    fs::rename(temporary, path).unwrap();
}

fn all(files: &DevelopmentFiles) -> [&PathBuf; 8] {
    [
        &files.ca_key,
        &files.ca,
        &files.server_key,
        &files.server,
        &files.client_key,
        &files.client,
        &files.client_keystore,
        &files.client_properties,
    ]
}

#[test]
fn the_development_identity_is_made_once_safely_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let files = DevelopmentFiles::ensure(directory.path(), "broker.example.org").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.directory), 0o700);
    for secret in [&files.ca_key, &files.server_key, &files.client_key, &files.client_keystore] {
        assert_eq!(mode(secret), 0o600, "{}", secret.display());
        assert!(fs::read_to_string(secret).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
    }
    let keystore = fs::read_to_string(&files.client_keystore).unwrap();
    assert_eq!(keystore.matches("BEGIN CERTIFICATE").count(), 2, "the client's and the authority's");
    let before = all(&files).map(|path| fs::read(path).unwrap());
    assert_eq!(DevelopmentFiles::ensure(directory.path(), "other").unwrap(), files);
    assert_eq!(all(&files).map(|path| fs::read(path).unwrap()), before);
    let left = fs::read_dir(&files.directory).unwrap().count();
    assert_eq!(left, 7, "nothing but the seven files");

    let server = fs::read(&files.server).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&server).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 4, "localhost, 127.0.0.1, ::1 and the host");
}

#[test]
fn an_interrupted_first_start_is_taken_up_wherever_it_stopped() {
    let whole = tempfile::tempdir().unwrap();
    let made = DevelopmentFiles::ensure(whole.path(), "localhost").unwrap();
    for count in 0..all(&made).len() {
        let directory = tempfile::tempdir().unwrap();
        let files = DevelopmentFiles::under(directory.path());
        fs::create_dir(&files.directory).unwrap();
        for (from, to) in all(&made).into_iter().zip(all(&files)).take(count) {
            fs::copy(from, to).unwrap();
        }
        // The next file was being written.
        let mut half = all(&files)[count].clone().into_os_string();
        half.push(".new");
        fs::write(half, b"-----BEGIN").unwrap();
        DevelopmentFiles::ensure(directory.path(), "localhost").unwrap();
        for (from, to) in all(&made).into_iter().zip(all(&files)).take(count) {
            assert_eq!(fs::read(from).unwrap(), fs::read(to).unwrap(), "{} was changed", to.display());
        }
        files.identity().load(ClientCertificates::Required).map(drop).unwrap();
        own_config(&files);
    }
}

#[test]
fn a_half_deleted_identity_is_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let files = DevelopmentFiles::ensure(directory.path(), "localhost").unwrap();
    fs::remove_file(&files.ca).unwrap();
    let message = DevelopmentFiles::ensure(directory.path(), "localhost").unwrap_err().to_string();
    assert!(message.contains("ca.pem is missing") && message.contains("delete the directory"), "{message}");
}

#[test]
fn an_expired_or_foreign_certificate_is_named_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let files = DevelopmentFiles::ensure(directory.path(), "localhost").unwrap();
    let load = || files.identity().load(ClientCertificates::Required).map(drop);
    let (expired, key) = issue(&files, "old", (2001, 2002));
    replace(&files.server, &expired);
    replace(&files.server_key, &key);
    let error = load().unwrap_err();
    assert!(matches!(&error, IdentityError::Expired { path, .. } if *path == files.server), "{error}");
    assert!(error.to_string().contains("server.pem expired"), "{error}");
    assert!(DevelopmentFiles::ensure(directory.path(), "localhost").is_err());
    let (future, _) = issue(&files, "new", (3001, 3002));
    replace(&files.server, &future);
    assert!(matches!(load().unwrap_err(), IdentityError::NotYetValid { .. }));
    let (other, _) = issue(&files, "other", (2001, 3002));
    replace(&files.server, &other);
    let error = load().unwrap_err().to_string();
    assert!(error.contains("server.pem"), "a key of another certificate: {error}");
    replace(&files.server, "no certificate");
    assert!(matches!(load().unwrap_err(), IdentityError::Content { .. }));
    fs::remove_file(&files.server).unwrap();
    assert!(matches!(load().unwrap_err(), IdentityError::File { .. }));
}

#[test]
fn client_configurations_name_absolute_paths() {
    let directory = tempfile::tempdir().unwrap();
    let files = DevelopmentFiles::ensure(directory.path(), "localhost").unwrap();
    let java = fs::read_to_string(&files.client_properties).unwrap();
    let root = directory.path().display();
    for line in [
        "security.protocol=SSL",
        "ssl.truststore.type=PEM",
        &format!("ssl.truststore.location={root}/tls/ca.pem"),
        &format!("ssl.keystore.location={root}/tls/client-keystore.pem"),
    ] {
        assert!(java.lines().any(|found| found == line), "{line} in {java}");
    }
    let librdkafka = librdkafka_configuration(&files);
    assert!(librdkafka.contains(&format!("ssl.key.location={root}/tls/client.key\n")), "{librdkafka}");
}

#[tokio::test]
async fn an_expired_client_certificate_is_refused() {
    let world = World::new().await;
    let (certificate, key) = issue(&world.files, "late", (2001, 2002));
    let [pem, pem_key] = ["late.pem", "late.key"].map(|name| world.directory.path().join(name));
    fs::write(&pem, certificate).unwrap();
    fs::write(&pem_key, key).unwrap();
    let late = || client_config(&world.files.ca, Some((&pem, &pem_key)));
    let mut stream = tls(world.address, late()).await.unwrap();
    soon("the alert", stream.read(&mut [0])).await.unwrap_err();
    world.log.line(&["connection refused", "TCP", "xpired"]).await;
    if let Ok(quic) = peers::Quic::connect(world.address, late()).await {
        soon("the alert", quic.connection.closed()).await;
    }
    world.log.line(&["connection refused", "QUIC", "xpired"]).await;
    world.still_serves().await;
}

#[tokio::test]
async fn the_key_exchange_resists_quantum_computers_and_nothing_older_than_tls_13_is_spoken() {
    let world = World::new().await;
    let stream = tls(world.address, own_config(&world.files)).await.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

/// The certificate that a new connection is shown.
async fn shown(world: &World, transport: Transport) -> Vec<u8> {
    match transport {
        Transport::Tcp => {
            let stream = tls(world.address, own_config(&world.files)).await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
        }
        Transport::Quic => {
            let quic = peers::Quic::connect(world.address, own_config(&world.files)).await.unwrap();
            let identity = quic.connection.peer_identity().unwrap();
            identity.downcast::<Vec<rustls::pki_types::CertificateDer<'_>>>().unwrap()[0].to_vec()
        }
    }
}

#[tokio::test]
async fn certificates_are_exchanged_while_serving_and_bad_ones_are_not() {
    let world = World::with(Limits { identity_check: Duration::from_millis(10), ..Limits::default() }).await;
    let mut old = world.connect(Transport::Tcp).await;
    let first = [shown(&world, Transport::Tcp).await, shown(&world, Transport::Quic).await];
    replace(&world.files.server, "junk");
    world.log.line(&["ERROR", "the old stay", "server.pem"]).await;
    assert_eq!([shown(&world, Transport::Tcp).await, shown(&world, Transport::Quic).await], first);
    let (certificate, key) = issue(&world.files, "renewed", (2001, 3002));
    replace(&world.files.server_key, &key);
    replace(&world.files.server, &certificate);
    world.log.line(&["INFO", "certificates reloaded"]).await;
    for (transport, first) in BOTH.into_iter().zip(first) {
        assert_ne!(shown(&world, transport).await, first, "{transport}");
    }
    old.send(&toy::echo(1, b"goes on")).await;
    assert_eq!(old.receive().await, toy::answer(1, b"goes on"));
}

#[tokio::test]
async fn a_new_client_authority_counts_from_the_next_hangup_signal_on() {
    let world = World::with(Limits { identity_check: PATIENCE * 100, ..Limits::default() }).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let others = DevelopmentFiles::ensure(elsewhere.path(), "localhost").unwrap();
    let config =
        || client_config(&world.config.identity.client_ca, Some((&others.client, &others.client_key)));
    let trusting = config();
    let mut stream = tls(world.address, trusting.clone()).await.unwrap();
    soon("the alert", stream.read(&mut [0])).await.unwrap_err();
    let both = [&world.files.ca, &others.ca].map(|path| fs::read_to_string(path).unwrap()).concat();
    replace(&world.files.ca, &both);
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
    world.log.line(&["INFO", "certificates reloaded"]).await;
    for transport in BOTH {
        let mut peer = Peer::with(transport, world.address, trusting.clone()).await;
        peer.send(&toy::echo(1, b"")).await;
        assert_eq!(peer.receive().await, toy::answer(1, b""));
    }
    world.still_serves().await;
}
