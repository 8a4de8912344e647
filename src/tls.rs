//! What the broker and the Rust client compute TLS 1.3 with.

use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use std::sync::Arc;

/// Key exchanges (X25519MLKEM768 first), signatures and randomness of aws-lc-rs, and the cipher suites of whichever library
/// has the faster AES-GCM for this processor.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(provider_with(vaes_without_avx512()))
}

fn provider_with(suites_of_ring: bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if suites_of_ring {
        provider.cipher_suites = ring::DEFAULT_CIPHER_SUITES.to_vec();
    }
    provider
}

/// Whether the processor has the wide AES instructions without AVX-512: Zen 3, Intel's desktops, and machines from whose
/// guests AVX-512 is hidden. aws-lc uses them together with AVX-512 only, ring with AVX2, which is twice as fast as doing
/// without (`spec/performance.md`, "TLS").
#[cfg(target_arch = "x86_64")]
fn vaes_without_avx512() -> bool {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let vaes = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq");
    vaes && !avx512
}

#[cfg(not(target_arch = "x86_64"))]
fn vaes_without_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::version::TLS13;
    use rustls::{
        ClientConfig, ClientConnection, ConnectionCommon, NamedGroup, RootCertStore, ServerConfig,
        ServerConnection,
    };
    use std::io::{Read, Write};

    #[test]
    fn what_is_offered_does_not_depend_on_the_processor() {
        let offered = |provider: &CryptoProvider| {
            let suites: Vec<_> = provider.cipher_suites.iter().map(|suite| suite.suite()).collect();
            let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
            (suites, groups)
        };
        let (of_aws_lc, of_ring) = (provider_with(false), provider_with(true));
        assert_eq!(offered(&of_aws_lc), offered(&of_ring));
        assert_eq!(of_ring.kx_groups.first().map(|group| group.name()), Some(NamedGroup::X25519MLKEM768));
    }

    #[test]
    fn quic_has_its_keys_of_either_library() {
        for of_ring in [false, true] {
            let suites = provider_with(of_ring).cipher_suites;
            assert!(suites.iter().all(|suite| suite.tls13().is_some_and(|suite| suite.quic.is_some())));
        }
    }

    /// Client and server, each with the suites of ring or not, with a certificate that both know.
    fn ends(client_of_ring: bool, server_of_ring: bool) -> (ClientConnection, ServerConnection) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(provider_with(client_of_ring)))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(Arc::new(provider_with(server_of_ring)))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        (client, ServerConnection::new(Arc::new(server)).unwrap())
    }

    /// Carries everything that either has to say to the other; what server and client have heard.
    fn carry(client: &mut ClientConnection, server: &mut ServerConnection) -> [Vec<u8>; 2] {
        let mut heard = [Vec::new(), Vec::new()];
        while client.wants_write() || server.wants_write() {
            carry_one_way(client, server, &mut heard[0]);
            carry_one_way(server, client, &mut heard[1]);
        }
        heard
    }

    fn carry_one_way<F, T>(
        from: &mut ConnectionCommon<F>,
        to: &mut ConnectionCommon<T>,
        heard: &mut Vec<u8>,
    ) {
        let mut records = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut records).unwrap();
        }
        let mut unread = records.as_slice();
        while !unread.is_empty() {
            to.read_tls(&mut unread).unwrap();
            let state = to.process_new_packets().unwrap();
            to.reader().take(state.plaintext_bytes_to_read() as u64).read_to_end(heard).unwrap();
        }
    }

    #[test]
    fn either_library_understands_the_other() {
        // Around the sizes of a block of the cipher and of the longest record, and more than one of those.
        let said: Vec<u8> = (0..40_000u32).map(|number| number.to_le_bytes()[0]).collect();
        for (client_of_ring, server_of_ring) in [(false, true), (true, false), (true, true)] {
            let (mut client, mut server) = ends(client_of_ring, server_of_ring);
            carry(&mut client, &mut server);
            for length in [0, 1, 15, 16, 17, 255, 4_095, 16_384, 40_000] {
                client.writer().write_all(&said[..length]).unwrap();
                server.writer().write_all(&said[..length]).unwrap();
                assert!(
                    carry(&mut client, &mut server).iter().all(|heard| *heard == said[..length]),
                    "{length} bytes"
                );
            }
            assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        }
    }
}
