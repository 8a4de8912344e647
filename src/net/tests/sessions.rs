//! Order, limits and memory of well-behaved sessions, over both transports.

use super::*;
use toy::{CONTROL, FETCH, PRODUCE};

#[tokio::test]
async fn replies_leave_in_frame_order_whichever_is_ready_first() {
    let world = World::new().await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        let frames = [
            toy::held(PRODUCE, 1, b"first"),
            toy::echo(2, b"second"),
            toy::unanswered(3),
            toy::held(CONTROL, 4, b"fourth"),
            toy::echo(5, b"fifth"),
        ];
        peer.send(&frames.concat()).await;
        assert_eq!(world.toy.handled(5).await, [1, 2, 3, 4, 5]);
        world.toy.open(4);
        world.toy.open(1);
        assert_eq!(peer.receive().await, toy::answer(1, b"first"));
        assert_eq!(peer.receive().await, toy::answer(2, b"second"));
        assert_eq!(peer.receive().await, toy::answer(4, b"fourth"));
        assert_eq!(peer.receive().await, toy::answer(5, b"fifth"));
        world.all_free(Budget::Produce).await;
        world.all_free(Budget::Control).await;
    }
}

#[tokio::test]
async fn what_waits_for_others_does_not_hold_the_memory_it_was_read_into() {
    let world = World::new().await;
    for (number, transport) in (1..).zip(BOTH) {
        let mut peer = world.connect(transport).await;
        peer.send(&toy::waiting(number, b"for others")).await;
        assert_eq!(world.toy.handled(1).await, [number]);
        world.all_free(Budget::Control).await;
        world.toy.open(number);
        assert_eq!(peer.receive().await, toy::answer(number, b"for others"));
    }
}

#[tokio::test]
async fn the_connection_says_who_is_there() {
    let limits = Limits::default();
    let world = World::configured(limits, |config| {
        config.admins = [Principal::named("semel-client")].into_iter().collect();
    })
    .await;
    let mut ids = Vec::new();
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        peer.send(&toy::echo(1, b"")).await;
        let connection = world.toy.connected().await;
        assert_eq!(connection.transport, transport);
        assert_eq!(connection.principal.to_string(), "User:semel-client");
        assert_eq!(connection.authority, Authority::Admin);
        assert!(connection.peer.ip().is_loopback());
        ids.push(connection.id);
        assert_eq!(peer.receive().await, toy::answer(1, b""));
    }
    assert!(ids[0] < ids[1]);
}

#[tokio::test]
async fn reading_stops_at_the_requests_in_flight() {
    let world = World::with(Limits { requests_in_flight: 4, ..Limits::default() }).await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        let frames: Vec<_> = (1..=10).flat_map(|n| toy::held(CONTROL, n, b"")).collect();
        peer.send(&frames).await;
        assert_eq!(world.toy.handled(4).await, [1, 2, 3, 4]);
        // Others are served meanwhile; when they have been, the fifth would have been seen too.
        let mut other = world.connect(transport).await;
        other.send(&toy::echo(50, b"")).await;
        assert_eq!(other.receive().await, toy::answer(50, b""));
        assert_eq!(world.toy.handled_so_far().await, [50]);
        world.toy.open(1);
        assert_eq!(peer.receive().await, toy::answer(1, b""));
        assert_eq!(world.toy.handled(1).await, [5]);
        (2..=10).for_each(|n| world.toy.open(n));
        for n in 2..=10 {
            assert_eq!(peer.receive().await, toy::answer(n, b""));
        }
        assert_eq!(world.toy.handled(5).await, [6, 7, 8, 9, 10]);
        world.toy.opened_none();
    }
}

#[tokio::test]
async fn full_produce_memory_holds_up_produce_and_nothing_else() {
    let limits = Limits {
        frame_bytes: 40_000,
        control_frame_bytes: 10_000,
        produce_bytes: 50_000,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    for transport in BOTH {
        let payload = vec![1; 30_000];
        let mut first = world.connect(transport).await;
        first.send(&toy::held(PRODUCE, 1, &payload)).await;
        assert_eq!(world.toy.handled(1).await, [1]);
        let mut second = world.connect(transport).await;
        second.send(&toy::held(PRODUCE, 2, &payload)).await;
        let mut third = world.connect(transport).await;
        for key in [CONTROL, FETCH] {
            world.toy.open(3);
            third.send(&toy::held(key, 3, b"commit")).await;
            assert_eq!(third.receive().await, toy::answer(3, b"commit"));
            assert_eq!(world.toy.handled(1).await, [3], "the second produce request must wait");
        }
        world.toy.open(1);
        assert_eq!(first.receive().await, toy::answer(1, &payload));
        assert_eq!(world.toy.handled(1).await, [2]);
        world.toy.open(2);
        assert_eq!(second.receive().await, toy::answer(2, &payload));
        world.all_free(Budget::Produce).await;
        world.toy.opened_none();
    }
}

#[tokio::test]
async fn large_answers_arrive_whole_and_their_memory_comes_free() {
    let world = World::new().await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        for size in [1, 16 << 10, 1 << 20, 9 << 20] {
            peer.send(&toy::large(8, size)).await;
            assert_eq!(peer.receive().await, toy::answer(8, &vec![7; size as usize]));
        }
        world.all_free(Budget::Fetch).await;
    }
}

#[tokio::test]
async fn large_requests_arrive_whole_and_their_memory_comes_free() {
    let world = World::new().await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        world.toy.open(9);
        for size in [0, 1, 16_371, 16_372, 16_373, 1 << 20, 5 << 20] {
            let payload: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
            peer.send(&toy::held(PRODUCE, 9, &payload)).await;
            assert!(peer.receive().await == toy::answer(9, &payload), "{size} bytes over {transport}");
        }
        world.all_free(Budget::Produce).await;
    }
}

#[tokio::test]
async fn a_peer_that_leaves_is_reported_and_its_memory_comes_free() {
    let world = World::new().await;
    for transport in BOTH {
        let mut peer = world.connect(transport).await;
        peer.send(&toy::held(PRODUCE, 1, b"never answered")).await;
        assert_eq!(world.toy.handled(1).await, [1]);
        if let Some(quic) = peer.quic.take() {
            quic.connection.close(0u32.into(), b"");
        }
        drop(peer);
        world.toy.disconnected().await;
        world.all_free(Budget::Produce).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_a_reply() {
    let world = World::with(Limits { idle: Duration::from_millis(50), ..Limits::default() }).await;
    for transport in BOTH {
        let mut waiting = world.connect(transport).await;
        waiting.send(&toy::held(FETCH, 1, b"poll")).await;
        assert_eq!(world.toy.handled(1).await, [1]);
        let mut idle = world.connect(transport).await;
        idle.send(&toy::echo(2, b"")).await;
        assert_eq!(idle.receive().await, toy::answer(2, b""));
        assert_eq!(idle.closed().await, b"");
        world.toy.disconnected().await;
        world.log.line(&["closed", &transport.to_string(), "limit: idle"]).await;
        world.toy.open(1);
        assert_eq!(waiting.receive().await, toy::answer(1, b"poll"));
        world.toy.opened_none();
    }
}

#[tokio::test]
async fn ten_thousand_frames_byte_by_byte() {
    let world = World::new().await;
    for transport in BOTH {
        let Peer { mut source, mut sink, quic } = world.connect(transport).await;
        let writing = async {
            for n in 0..10_000 {
                for byte in toy::echo(n, b"") {
                    tokio::io::AsyncWriteExt::write_all(&mut sink, &[byte]).await.unwrap();
                }
            }
            tokio::io::AsyncWriteExt::flush(&mut sink).await.unwrap();
        };
        let reading = async {
            let mut frame = [0; 8];
            for n in 0..10_000 {
                tokio::io::AsyncReadExt::read_exact(&mut source, &mut frame).await.unwrap();
                assert_eq!(frame[..4], [0, 0, 0, 4]);
                assert_eq!(frame[4..], toy::answer(n, b""));
            }
        };
        soon("all echoes", async { tokio::join!(writing, reading) }).await;
        drop(quic);
    }
}
