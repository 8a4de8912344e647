//! Peers that send what they should not, too slowly, too much, or nothing.

use super::*;
use peers::{client_config, own_config, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toy::{CONTROL, PRODUCE};

/// Sends bytes without TLS; gives what comes back before the connection is closed.
async fn plain(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // A reset is a way of closing.
    let _ = soon("the connection to be closed", stream.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn plaintext_is_closed_and_called_by_its_name() {
    let world = World::new().await;
    assert_eq!(plain(world.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await, b"");
    let line = world.log.line(&["plaintext", "an HTTP request", "speaks only TLS 1.3"]).await;
    assert!(line.contains("WARN") && line.contains("127.0.0.1:"), "{line}");
    assert_eq!(plain(world.address, &toy::echo(1, b"")).await, b"");
    world.log.line(&["plaintext", "what looks like a Kafka request", "security.protocol=SSL"]).await;
    assert_eq!(plain(world.address, b"\xff\xfe\xfd").await, b"");
    world.log.line(&["plaintext", "something unknown"]).await;
    assert_eq!(world.toy.handled_so_far().await, [0; 0]);
    world.still_serves().await;
}

#[tokio::test]
async fn frames_that_cannot_be_close_the_connection_with_a_line() {
    let world =
        World::with(Limits { frame_bytes: 1 << 20, control_frame_bytes: 1 << 16, ..Limits::default() }).await;
    let control_too_long = [&70_000i32.to_be_bytes()[..], &CONTROL.to_be_bytes()].concat();
    let cases: [(&[u8], &str); 6] = [
        (&0x7fff_ffffi32.to_be_bytes(), "2147483647 bytes, more than frame_bytes allows (1048576)"),
        (&(-1i32).to_be_bytes(), "the negative length -1"),
        (&0i32.to_be_bytes(), "announced 0 bytes, too few for a request header"),
        (&7i32.to_be_bytes(), "announced 7 bytes, too few for a request header"),
        (&control_too_long, "70000 bytes, more than control_frame_bytes allows (65536)"),
        (&toy::disliked(1), "refused: the toy does not like it"),
    ];
    for transport in BOTH {
        for (bytes, reason) in cases {
            let mut peer = world.connect(transport).await;
            peer.send(bytes).await;
            assert_eq!(peer.closed().await, b"", "{reason}");
            let line = world.log.line(&["connection closed", &transport.to_string(), reason]).await;
            assert!(line.contains("User:semel-client") && line.contains("127.0.0.1:"), "{line}");
        }
    }
    world.still_serves().await;
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_is_told_from_one_that_ends() {
    let world = World::new().await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        peer.send(&toy::held(PRODUCE, 1, b"payload")[..14]).await;
        peer.finish().await;
        peer.closed().await;
        let line = world.log.line(&["inside a frame", &transport.to_string()]).await;
        assert!(line.contains("after 10 of 15 bytes"), "{line}");
    }
    world.all_free(Budget::Produce).await;
}

#[tokio::test]
async fn a_frame_that_does_not_come_on_is_given_up() {
    let world = World::with(Limits { slow_frame: Duration::from_millis(30), ..Limits::default() }).await;
    for transport in BOTH {
        for sent in [3, 5, 12] {
            let mut peer = world.connect(transport).await;
            peer.send(&toy::held(PRODUCE, 1, b"payload")[..sent]).await;
            assert_eq!(peer.closed().await, b"");
            let received = if sent > 4 { sent - 4 } else { sent };
            let line =
                world.log.line(&["too slow", &transport.to_string(), &format!(": {received} of")]).await;
            assert!(line.contains("limits: slow_frame, rate_min"), "{line}");
        }
    }
    world.all_free(Budget::Produce).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up_and_its_answers_freed() {
    let slow_reply = Duration::from_millis(100);
    let world = World::with(Limits { slow_reply, rate_min: 1 << 30, ..Limits::default() }).await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        let requests: Vec<_> = (0..4).flat_map(|n| toy::large(n, 24 << 20)).collect();
        peer.send(&requests).await;
        world.log.line(&["did not read its replies", &transport.to_string()]).await;
        world.toy.disconnected().await;
        drop(peer);
        world.all_free(Budget::Fetch).await;
    }
}

#[tokio::test]
async fn a_silent_handshake_is_given_up() {
    let world = World::with(Limits { handshake: Duration::from_millis(30), ..Limits::default() }).await;
    for start in [&b""[..], &[0x16, 0x03, 0x01]] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon("the connection to be closed", stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
    world.log.line(&["connection refused", "no handshake within 30ms (limit: handshake)"]).await;
}

#[tokio::test]
async fn many_who_announce_much_and_send_little_take_no_memory_and_stop_nobody_else() {
    let limits = Limits { slow_frame: 2 * PATIENCE, ..Limits::default() };
    let announced = limits.frame_bytes;
    let world = World::with(limits).await;
    let start = u32::try_from(announced).unwrap().to_be_bytes();
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut peer = world.connect(Transport::Tcp).await;
        peer.send(&start).await;
        silent.push(peer);
    }
    // Those who also say "produce" get in line for memory, but only for the part that large frames may have.
    for peer in &mut silent[..50] {
        peer.send(&PRODUCE.to_be_bytes()).await;
    }
    let mut honest = world.connect(Transport::Tcp).await;
    let payload = vec![1; 1 << 20];
    for round in 1..5 {
        world.toy.open(round);
        honest.send(&toy::echo(round, b"commit")).await;
        assert_eq!(honest.receive().await, toy::answer(round, b"commit"));
        honest.send(&toy::held(PRODUCE, round, &payload)).await;
        assert!(honest.receive().await == toy::answer(round, &payload));
    }
    let reserved = world.budgets().in_use(Budget::Produce);
    assert!(reserved >= announced, "one of them is being waited for");
    assert!(reserved <= world.budgets().capacity(Budget::Produce) / 2 + (1 << 20), "{reserved}");
    assert_eq!(world.budgets().in_use(Budget::Fetch), 0);
    drop(silent);
    world.all_free(Budget::Produce).await;
}

#[tokio::test]
async fn without_a_client_certificate_nobody_is_let_in() {
    let world = World::new().await;
    let anonymous = || client_config(&world.files.ca, None);
    let mut stream = tls(world.address, anonymous()).await.unwrap();
    // TLS 1.3 lets the client believe that it is in until it reads.
    let mut byte = [0];
    let error = soon("the alert", stream.read(&mut byte)).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    world.log.line(&["connection refused", "TCP", "the peer sent no client certificate"]).await;
    if let Ok(quic) = peers::Quic::connect(world.address, anonymous()).await {
        let reason = soon("the alert", quic.connection.closed()).await.to_string();
        assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    }
    world.log.line(&["connection refused", "QUIC", "peer sent no certificates"]).await;
    world.still_serves().await;
}

#[tokio::test]
async fn where_certificates_are_optional_a_peer_without_one_is_anonymous() {
    let world = World::configured(Limits::default(), |config| {
        config.client_certificates = ClientCertificates::Optional;
    })
    .await;
    for transport in BOTH {
        for (config, name) in [
            (client_config(&world.files.ca, None), "User:ANONYMOUS"),
            (own_config(&world.files), "User:semel-client"),
        ] {
            let mut peer = Peer::with(transport, world.address, config).await;
            peer.send(&toy::echo(1, b"")).await;
            assert_eq!(world.toy.connected().await.principal.to_string(), name);
            assert_eq!(peer.receive().await, toy::answer(1, b""));
        }
    }
}

#[tokio::test]
async fn seats_are_limited_per_address() {
    let world = World::with(Limits { connections_per_address: 2, ..Limits::default() }).await;
    let mut first = world.connect(Transport::Tcp).await;
    let _second = world.connect(Transport::Tcp).await;
    let mut third = TcpStream::connect(world.address).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the third to be closed", third.read_to_end(&mut rest)).await;
    world.log.line(&["connection refused", "TCP", "limit: connections_per_address"]).await;
    let refused = peers::Quic::connect(world.address, own_config(&world.files)).await;
    assert!(matches!(refused, Err(quinn::ConnectionError::ConnectionClosed(_))));
    world.log.line(&["connection refused", "QUIC", "limit: connections_per_address"]).await;
    first.send(&toy::echo(1, b"")).await;
    assert_eq!(first.receive().await, toy::answer(1, b""));
    drop(first);
    world.toy.disconnected().await;
    let mut fourth = world.connect(Transport::Tcp).await;
    fourth.send(&toy::echo(4, b"")).await;
    assert_eq!(fourth.receive().await, toy::answer(4, b""));
}

#[tokio::test]
async fn random_bytes_hurt_nobody() {
    let world = World::with(Limits {
        slow_frame: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        handshake: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |length: usize| -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            // xorshift64: the same bytes in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    };
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [1, 2, 5, 40, 700, 1400] {
        let mut bytes = random(length);
        plain(world.address, &bytes).await;
        udp.send_to(&bytes, world.address).await.unwrap();
        // And what looks like the start of TLS.
        bytes[0] = 0x16;
        plain(world.address, &bytes).await;
        // A first byte of zero makes a length that may pass.
        for first in [bytes[0], 0] {
            bytes[0] = first;
            for transport in BOTH {
                let mut peer = world.connect(transport).await;
                peer.try_send(&bytes).await;
                peer.closed().await;
            }
        }
    }
    world.still_serves().await;
    for budget in [Budget::Produce, Budget::Fetch, Budget::FetchRequests, Budget::Control] {
        world.all_free(budget).await;
    }
}
