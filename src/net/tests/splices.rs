//! The splice that third-party clients use to reach QUIC (`tests/common/splice.rs`): here with our own TCP client.

use super::*;
use peers::own_config;
use splice::Splice;
use tokio::io::AsyncReadExt;
use toy::{CONTROL, PRODUCE};

#[path = "../../../tests/common/splice.rs"]
mod splice;

async fn spliced(world: &World) -> Splice {
    let listen = "127.0.0.1:0".parse().unwrap();
    soon("the splice", Splice::start(listen, world.address, &world.files.directory, ALPN)).await.unwrap()
}

#[tokio::test]
async fn bytes_pass_unchanged_and_each_connection_is_a_lane() {
    let world = World::new().await;
    let splice = spliced(&world).await;
    let payload: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    for n in 1..4 {
        let mut peer = Peer::connect(Transport::Tcp, splice.address(), &world.files).await;
        world.toy.open(n);
        peer.send(&toy::held(PRODUCE, n, &payload)).await;
        assert_eq!(world.toy.connected().await.transport, Transport::Quic);
        assert!(peer.receive().await == toy::answer(n, &payload));
        peer.send(&toy::large(9, 2 << 20)).await;
        assert!(peer.receive().await == toy::answer(9, &vec![7; 2 << 20]));
    }
    assert_eq!(splice.lanes(), 3);
}

#[tokio::test]
async fn a_client_that_says_no_more_still_gets_its_replies_and_then_the_end() {
    let world = World::new().await;
    let splice = spliced(&world).await;
    let mut peer = Peer::connect(Transport::Tcp, splice.address(), &world.files).await;
    peer.send(&[toy::held(CONTROL, 1, b"held"), toy::echo(2, b"")].concat()).await;
    peer.finish().await;
    assert_eq!(world.toy.handled(2).await, [1, 2]);
    world.toy.open(1);
    assert_eq!(peer.receive().await, toy::answer(1, b"held"));
    assert_eq!(peer.receive().await, toy::answer(2, b""));
    let mut rest = Vec::new();
    soon("the end", peer.source.read_to_end(&mut rest)).await.unwrap();
    world.toy.disconnected().await;
}

#[tokio::test]
async fn the_end_that_the_broker_makes_reaches_the_client() {
    let world = World::new().await;
    let splice = spliced(&world).await;
    let mut peer = Peer::connect(Transport::Tcp, splice.address(), &world.files).await;
    peer.send(&toy::disliked(1)).await;
    assert_eq!(peer.closed().await, b"");
    let anonymous = peers::client_config(&world.files.ca, None);
    let mut stream = peers::tls(splice.address(), anonymous).await.unwrap();
    soon("the alert", stream.read(&mut [0])).await.unwrap_err();
    let mut other = Peer::with(Transport::Tcp, splice.address(), own_config(&world.files)).await;
    other.send(&toy::echo(1, b"")).await;
    assert_eq!(other.receive().await, toy::answer(1, b""));
}
