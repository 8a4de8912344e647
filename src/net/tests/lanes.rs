//! What only QUIC has.

use super::*;
use peers::{Quic, own_config};
use std::collections::BTreeSet;
use tokio::io::AsyncReadExt;
use toy::{CONTROL, FETCH};

async fn quic(world: &World) -> Quic {
    soon("a connection", Quic::connect(world.address, own_config(&world.files))).await.unwrap()
}

#[tokio::test]
async fn lanes_are_connections_of_their_own_and_do_not_wait_for_each_other() {
    let world = World::new().await;
    let quic = quic(&world).await;
    let mut ids = BTreeSet::new();
    let mut waiting = quic.lane().await;
    waiting.send(&toy::held(FETCH, 1, b"poll")).await;
    ids.insert(world.toy.connected().await.id);
    for n in 2..5 {
        let mut lane = quic.lane().await;
        lane.send(&toy::echo(n, b"")).await;
        assert_eq!(lane.receive().await, toy::answer(n, b""));
        ids.insert(world.toy.connected().await.id);
    }
    assert_eq!(ids.len(), 4);
    world.toy.open(1);
    assert_eq!(waiting.receive().await, toy::answer(1, b"poll"));
}

#[tokio::test]
async fn a_lane_that_says_no_more_still_gets_its_replies() {
    let world = World::new().await;
    let mut lane = quic(&world).await.lane().await;
    lane.send(&[toy::held(CONTROL, 1, b"held"), toy::echo(2, b"echo")].concat()).await;
    lane.finish().await;
    assert_eq!(world.toy.handled(2).await, [1, 2]);
    world.toy.open(1);
    assert_eq!(lane.receive().await, toy::answer(1, b"held"));
    assert_eq!(lane.receive().await, toy::answer(2, b"echo"));
    let mut rest = Vec::new();
    soon("the end", lane.source.read_to_end(&mut rest)).await.unwrap();
    world.toy.disconnected().await;
}

#[tokio::test]
async fn a_lane_that_is_reset_or_not_read_is_gone_and_its_neighbours_are_not() {
    let world = World::new().await;
    let quic = quic(&world).await;
    let mut neighbour = quic.lane().await;
    neighbour.send(&toy::echo(1, b"")).await;
    assert_eq!(neighbour.receive().await, toy::answer(1, b""));
    let (mut send, _receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&toy::held(CONTROL, 2, b"")).await.unwrap();
    assert_eq!(world.toy.handled(2).await, [1, 2]);
    send.reset(0u32.into()).unwrap();
    world.toy.disconnected().await;
    // Reading stopped while a request waits: noticed without anything being written.
    let (mut send, mut receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&toy::held(CONTROL, 3, b"")).await.unwrap();
    assert_eq!(world.toy.handled(1).await, [3]);
    receive.stop(0u32.into()).unwrap();
    world.toy.disconnected().await;
    neighbour.send(&toy::echo(4, b"")).await;
    assert_eq!(neighbour.receive().await, toy::answer(4, b""));
    world.all_free(Budget::Control).await;
}

#[tokio::test]
async fn a_refused_lane_carries_the_code_of_its_reason() {
    let world = World::new().await;
    let quic = quic(&world).await;
    for (bytes, code) in [(&b"\xff\xff\xff\xff"[..], 2u32), (b"\x7f\xff\xff\xff", 3), (&toy::disliked(1), 6)]
    {
        let (mut send, mut receive) = quic.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let error = soon("the reset", receive.read_to_end(10)).await.unwrap_err();
        let quinn::ReadToEndError::Read(quinn::ReadError::Reset(seen)) = error else { panic!("{error}") };
        assert_eq!(seen, code.into());
    }
    assert!(quic.connection.close_reason().is_none());
}

#[tokio::test]
async fn another_protocol_and_unidirectional_streams_are_refused() {
    let world = World::new().await;
    let mut config = own_config(&world.files);
    config.alpn_protocols = vec![b"h3".to_vec()];
    let error = soon("the refusal", Quic::connect(world.address, config)).await.err().unwrap();
    assert!(error.to_string().contains("protocol"), "{error}");
    let quic = quic(&world).await;
    let mut lane = quic.lane().await;
    lane.send(&toy::echo(1, b"")).await;
    assert_eq!(lane.receive().await, toy::answer(1, b""));
    let mut opening = std::pin::pin!(quic.connection.open_uni());
    let opened = std::future::poll_fn(|context| std::task::Poll::Ready(opening.as_mut().poll(context))).await;
    assert!(opened.is_pending(), "the broker grants no unidirectional stream");
}

#[tokio::test]
async fn lanes_of_a_connection_are_limited() {
    let world = World::with(Limits { quic_lanes: 2, ..Limits::default() }).await;
    let quic = quic(&world).await;
    let mut first = quic.lane().await;
    let _second = quic.lane().await;
    let mut third = std::pin::pin!(quic.connection.open_bi());
    let opened = std::future::poll_fn(|context| std::task::Poll::Ready(third.as_mut().poll(context))).await;
    assert!(opened.is_pending());
    first.send(&toy::echo(1, b"")).await;
    assert_eq!(first.receive().await, toy::answer(1, b""));
    first.finish().await;
    first.closed().await;
    drop(first);
    soon("the third lane", third).await.unwrap();
}

/// A broker that is killed says nothing. (Its runtime is taken away: not even a farewell leaves.)
#[test]
fn a_client_hears_of_a_restart_with_its_next_packet() {
    let runtime = |threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build().unwrap()
    };
    let (client, killed) = (runtime(1), runtime(1));
    let world = killed.block_on(killed.spawn(World::new())).unwrap();
    let quic = client.block_on(quic(&world));
    let echo = async |lane: &mut peers::Peer| {
        lane.send(&toy::echo(1, b"")).await;
        lane.receive().await
    };
    let mut lane = client.block_on(quic.lane());
    assert_eq!(client.block_on(echo(&mut lane)), toy::answer(1, b""));
    killed.shutdown_timeout(PATIENCE);
    client.block_on(async {
        let config = NetConfig { listen: world.address, ..world.config.clone() };
        let server = Server::bind(config, Arc::clone(&world.toy), Arc::clone(&world.toy) as Arc<dyn Pages>)
            .await
            .unwrap();
        lane.try_send(&toy::echo(2, b"")).await;
        let reason = soon("the end of the connection", quic.connection.closed()).await;
        assert_eq!(reason, quinn::ConnectionError::Reset);
        server.stop(PATIENCE).await;
    });
}
