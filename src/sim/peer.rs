//! A client's end of the protocol: one connection at a time, requests in frames, patience, and what becomes of it.

use super::chance::Chance;
use super::faults::Fault;
use super::net::Stream;
use super::world::World;
use crate::net::Transport;
use crate::wire::{Request, decode_response, encode_request};
use bytes::{Bytes, BytesMut};
use std::marker::PhantomData;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// No answer came: the connection is gone, or the client has given it up. What was asked may happen, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// How long any answer may take while nothing goes wrong: a join waits for other members for as long as they ask for, which
/// is less.
const PATIENCE_MOST: Duration = Duration::from_secs(150);

/// A client.
pub(crate) struct Peer {
    pub(crate) world: World,
    pub(crate) name: String,
    pub(crate) chance: Chance,
    wire: Option<Wire>,
    pub(crate) transport: Transport,
}

struct Wire {
    stream: Stream,
    /// In which of the broker's lives it was made.
    life: u64,
    correlation: i32,
}

/// A request that has been sent.
pub(crate) struct Sent<R> {
    version: i16,
    correlation: i32,
    request: PhantomData<R>,
}

impl Peer {
    pub(crate) fn new(world: &World, name: &str) -> Peer {
        let mut chance = Chance::of(world.plan.seed, name);
        let transport = if chance.once_in(2) { Transport::Tcp } else { Transport::Quic };
        Peer { world: world.clone(), name: name.to_owned(), chance, wire: None, transport }
    }

    /// Another one, with a connection of its own.
    pub(crate) fn beside(&mut self) -> Peer {
        let seed = self.chance.bits();
        let chance = Chance::of(seed, &self.name);
        let (world, name) = (self.world.clone(), self.name.clone());
        Peer { world, name, chance, wire: None, transport: self.transport }
    }

    pub(crate) async fn pause(&mut self, most_ms: u64) {
        let time = self.chance.time(Duration::from_millis(most_ms));
        tokio::time::sleep(time).await;
    }

    /// Connects, if need be; waits while the broker does not live.
    async fn wire(&mut self) -> &mut Wire {
        loop {
            if self.wire.is_some() {
                break;
            }
            match self.world.node.connect(self.transport) {
                Some((stream, life)) => self.wire = Some(Wire { stream, life, correlation: 0 }),
                None => self.pause(500).await,
            }
        }
        self.wire.as_mut().expect("it was just made")
    }

    /// Sends a request.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<Sent<R>, Lost> {
        let wire = self.wire().await;
        wire.correlation += 1;
        let correlation = wire.correlation;
        let frame = encode_request(request, version, correlation, Some("sim")).expect("a request");
        let frame = joined(&frame);
        let sent = Sent { version, correlation, request: PhantomData };
        match timeout(PATIENCE_MOST, wire.stream.write_all(&frame)).await {
            Ok(Ok(())) => Ok(sent),
            Ok(Err(_)) => {
                self.wire = None;
                Err(Lost)
            }
            Err(_) => Err(self.lose(PATIENCE_MOST)),
        }
    }

    /// The answer to the oldest request that is not answered.
    pub(crate) async fn receive<R: Request>(&mut self, sent: Sent<R>) -> Result<R::Response, Lost> {
        // Mostly as long as it takes; now and then too short.
        let patience = match self.chance.once_in(8) {
            true => Duration::from_millis(self.chance.between(1, 4_000)),
            false => PATIENCE_MOST,
        };
        let Some(wire) = &mut self.wire else { return Err(Lost) };
        let frame = timeout(patience, read_frame(&mut wire.stream)).await;
        match frame {
            Ok(Ok(frame)) => {
                let (correlation, response) =
                    decode_response::<R::Response>(frame, sent.version).expect("an answer that can be read");
                assert_eq!(correlation, sent.correlation, "answers come in order");
                Ok(response)
            }
            Ok(Err(_)) => {
                self.wire = None;
                Err(Lost)
            }
            Err(_) => Err(self.lose(patience)),
        }
    }

    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Lost> {
        let sent = self.send(version, request).await?;
        self.receive(sent).await
    }

    /// Gives up the connection, so that what is on its way may still arrive.
    pub(crate) fn leave(&mut self) {
        if let Some(wire) = self.wire.take() {
            let until = self.chance.time(Duration::from_secs(20));
            wire.stream.abandon(until);
        }
    }

    fn lose(&mut self, patience: Duration) -> Lost {
        if let Some(wire) = &self.wire {
            let sound = wire.stream.link().is_sound() && self.world.node.life() == Some(wire.life);
            if patience == PATIENCE_MOST && sound {
                let name = &self.name;
                self.world
                    .recorder
                    .broken("NoHang", format!("{name} is not answered over a sound connection"));
            }
            self.world.faults.note(Fault::GivenUp);
            self.leave();
        }
        Lost
    }
}

async fn read_frame(stream: &mut Stream) -> std::io::Result<Bytes> {
    let length = stream.read_i32().await?;
    let mut frame = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}

fn joined(chunks: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::new();
    chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    whole.freeze()
}
