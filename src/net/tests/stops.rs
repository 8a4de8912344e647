//! Starting on a taken port, and stopping.

use super::*;
use std::net::{TcpListener, UdpSocket};
use toy::PRODUCE;

#[tokio::test]
async fn a_taken_port_is_named_with_its_protocol() {
    let world = World::new().await;
    let bind = |listen| {
        let config = NetConfig { listen, ..world.config.clone() };
        Server::bind(config, Arc::clone(&world.toy), Arc::clone(&world.toy) as Arc<dyn Pages>)
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let message = bind(taken.local_addr().unwrap()).await.unwrap_err().to_string();
    assert!(message.contains("TCP port") && message.contains("taken"), "{message}");
    for _ in 0..20 {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = bind(taken.local_addr().unwrap()).await.unwrap_err();
        match error {
            NetError::PortTaken { protocol: "UDP", .. } => return,
            // Somebody else has the TCP port of the same number just then.
            NetError::PortTaken { protocol: "TCP", .. } => {}
            error => panic!("{error}"),
        }
    }
    panic!("a taken UDP port is taken for a TCP port");
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_be_answered() {
    for transport in BOTH {
        let mut world = World::new().await;
        let mut peer = world.connect(transport).await;
        peer.send(&toy::held(PRODUCE, 1, b"in flight")).await;
        assert_eq!(world.toy.handled(1).await, [1]);
        let mut stop = tokio::spawn(world.server.take().unwrap().stop(PATIENCE));
        // Nothing new is accepted any more.
        soon("the port to be closed", async {
            while tokio::net::TcpStream::connect(world.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(futures_pending(&mut stop).await, "a request is in flight");
        peer.try_send(&toy::echo(2, b"too late")).await;
        world.toy.open(1);
        assert_eq!(peer.receive().await, toy::answer(1, b"in flight"));
        assert_eq!(peer.closed().await, b"");
        assert_eq!(world.toy.handled_so_far().await, [0; 0]);
        if let Some(quic) = peer.quic.take() {
            let reason = soon("the farewell", quic.connection.closed()).await;
            assert!(reason.to_string().contains("the broker is stopping"), "{reason}");
        }
        drop(peer);
        soon("the server to stop", stop).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_done_in_time_is_cut() {
    for transport in BOTH {
        let mut world = World::new().await;
        let mut peer = world.connect(transport).await;
        peer.send(&toy::held(PRODUCE, 1, b"never")).await;
        assert_eq!(world.toy.handled(1).await, [1]);
        let stop = tokio::spawn(world.server.take().unwrap().stop(Duration::from_millis(20)));
        assert_eq!(peer.closed().await, b"");
        soon("the server to stop", stop).await.unwrap();
        world.log.line(&["the time to finish is over"]).await;
        world.all_free(Budget::Produce).await;
    }
}

/// Whether a task is still running after everything that is ready has run.
async fn futures_pending(task: &mut tokio::task::JoinHandle<()>) -> bool {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    !task.is_finished()
}

#[tokio::test]
async fn neither_idle_connections_nor_unfinished_handshakes_delay_a_stop() {
    let mut world = World::new().await;
    let mut idle = [world.connect(Transport::Tcp).await, world.connect(Transport::Quic).await];
    // The broker has heard of the lane only when it has seen a byte of it.
    for peer in &mut idle {
        peer.send(&toy::echo(1, b"")).await;
        assert_eq!(peer.receive().await, toy::answer(1, b""));
    }
    let _silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    soon("the seat of the silent one", async {
        while world.server.as_ref().unwrap().connections() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stop = tokio::spawn(world.server.take().unwrap().stop(100 * PATIENCE));
    for peer in &mut idle {
        assert_eq!(peer.closed().await, b"");
    }
    drop(idle);
    soon("the server to stop", stop).await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_cut_is_reported_to_the_service() {
    for transport in BOTH {
        let mut world = World::new().await;
        let mut peer = world.connect(transport).await;
        peer.send(&toy::held(PRODUCE, 1, b"")).await;
        assert_eq!(world.toy.handled(1).await, [1]);
        drop(world.server.take());
        world.toy.disconnected().await;
    }
}
