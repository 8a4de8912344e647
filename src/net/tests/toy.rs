//! A service that echoes, at once or when a test says so.
//!
//! A request is api key, version, correlation id and a payload, as Kafka's begin. The version says what becomes of it.

use super::*;
use crate::types::ConnectionId;
use bytes::{Buf, BufMut, BytesMut};
use std::collections::BTreeSet;
use tokio::sync::{mpsc, watch};

pub(super) const PRODUCE: i16 = 0;
pub(super) const FETCH: i16 = 1;
pub(super) const CONTROL: i16 = 3;

const NOW: i16 = 0;
const WHEN_OPENED: i16 = 1;
const NEVER: i16 = 2;
const REFUSE: i16 = 3;
const LARGE: i16 = 4;
const WAITS_UNTIL_OPENED: i16 = 5;

#[derive(Debug)]
pub(super) enum Seen {
    Connected(Connection),
    Handled(i32),
    Disconnected(ConnectionId),
}

pub(super) struct Toy {
    budgets: Budgets,
    opened: watch::Sender<BTreeSet<i32>>,
    saw: mpsc::UnboundedSender<Seen>,
    seen: tokio::sync::Mutex<mpsc::UnboundedReceiver<Seen>>,
}

impl Toy {
    pub(super) fn new(budgets: Budgets) -> Toy {
        let (saw, seen) = mpsc::unbounded_channel();
        Toy { budgets, opened: watch::channel(BTreeSet::new()).0, saw, seen: seen.into() }
    }

    /// Lets the reply to this correlation id go.
    pub(super) fn open(&self, correlation: i32) {
        self.opened.send_modify(|opened| {
            opened.insert(correlation);
        });
    }

    /// Holds all replies again.
    pub(super) fn opened_none(&self) {
        self.opened.send_modify(BTreeSet::clear);
    }

    async fn next(&self) -> Seen {
        soon("the service to see something", async { self.seen.lock().await.recv().await.unwrap() }).await
    }

    pub(super) async fn connected(&self) -> Connection {
        loop {
            if let Seen::Connected(connection) = self.next().await {
                return connection;
            }
        }
    }

    pub(super) async fn disconnected(&self) -> ConnectionId {
        loop {
            if let Seen::Disconnected(id) = self.next().await {
                return id;
            }
        }
    }

    /// Waits for the next requests; gives their correlation ids.
    pub(super) async fn handled(&self, count: usize) -> Vec<i32> {
        let mut handled = Vec::new();
        while handled.len() < count {
            if let Seen::Handled(correlation) = self.next().await {
                handled.push(correlation);
            }
        }
        handled
    }

    /// The correlation ids of requests that have been handled and not asked for yet.
    pub(super) async fn handled_so_far(&self) -> Vec<i32> {
        let mut seen = self.seen.lock().await;
        let mut handled = Vec::new();
        while let Ok(event) = seen.try_recv() {
            if let Seen::Handled(correlation) = event {
                handled.push(correlation);
            }
        }
        handled
    }
}

impl Service for Toy {
    type Session = ToySession;

    fn connected(&self, connection: Connection) -> ToySession {
        let id = connection.id;
        self.saw.send(Seen::Connected(connection)).unwrap();
        ToySession {
            id,
            saw: self.saw.clone(),
            opened: self.opened.subscribe(),
            budgets: self.budgets.clone(),
        }
    }

    fn budget(&self, api_key: i16) -> Budget {
        match api_key {
            PRODUCE => Budget::Produce,
            FETCH => Budget::FetchRequests,
            _ => Budget::Control,
        }
    }
}

pub(super) struct ToySession {
    id: ConnectionId,
    saw: mpsc::UnboundedSender<Seen>,
    opened: watch::Receiver<BTreeSet<i32>>,
    budgets: Budgets,
}

impl Session for ToySession {
    async fn handle(&mut self, mut frame: Bytes) -> Result<Reply, Refusal> {
        let (_key, version, correlation) = (frame.get_i16(), frame.get_i16(), frame.get_i32());
        // The test may have ended.
        let _ = self.saw.send(Seen::Handled(correlation));
        let header = Bytes::copy_from_slice(&correlation.to_be_bytes());
        match version {
            NOW => Ok(Reply::Now(vec![header, frame])),
            WHEN_OPENED => {
                let mut opened = self.opened.clone();
                Ok(Reply::Later(Box::pin(async move {
                    opened.wait_for(|opened| opened.contains(&correlation)).await.unwrap();
                    Ok(vec![header, frame])
                })))
            }
            WAITS_UNTIL_OPENED => {
                let (mut opened, copy) = (self.opened.clone(), Bytes::copy_from_slice(&frame));
                Ok(Reply::Waits(Box::pin(async move {
                    opened.wait_for(|opened| opened.contains(&correlation)).await.unwrap();
                    Ok(vec![header, copy])
                })))
            }
            NEVER => Ok(Reply::None),
            REFUSE => Err(Refusal::new("the toy does not like it")),
            LARGE => {
                let size = frame.get_u32() as usize;
                let permit = self.budgets.reserve(Budget::Fetch, size).await.unwrap();
                Ok(Reply::Now(vec![header, permit.attach(Bytes::from(vec![7; size]))]))
            }
            other => panic!("the toy has no version {other}"),
        }
    }

    fn disconnected(self) {
        let _ = self.saw.send(Seen::Disconnected(self.id));
    }
}

fn request(key: i16, version: i16, correlation: i32, payload: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(payload.len() + 8).unwrap());
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation);
    frame.put_slice(payload);
    frame.to_vec()
}

/// A control request that is echoed once it is opened, from a copy.
pub(super) fn waiting(correlation: i32, payload: &[u8]) -> Vec<u8> {
    request(CONTROL, WAITS_UNTIL_OPENED, correlation, payload)
}

/// A control request that is echoed at once.
pub(super) fn echo(correlation: i32, payload: &[u8]) -> Vec<u8> {
    request(CONTROL, NOW, correlation, payload)
}

/// A request that is echoed when [`Toy::open`] names it.
pub(super) fn held(key: i16, correlation: i32, payload: &[u8]) -> Vec<u8> {
    request(key, WHEN_OPENED, correlation, payload)
}

pub(super) fn unanswered(correlation: i32) -> Vec<u8> {
    request(PRODUCE, NEVER, correlation, b"acks=0")
}

pub(super) fn disliked(correlation: i32) -> Vec<u8> {
    request(CONTROL, REFUSE, correlation, b"")
}

/// A fetch whose answer has `size` bytes beside the correlation id.
pub(super) fn large(correlation: i32, size: u32) -> Vec<u8> {
    request(FETCH, LARGE, correlation, &size.to_be_bytes())
}

/// What comes back for an echo.
pub(super) fn answer(correlation: i32, payload: &[u8]) -> Vec<u8> {
    [&correlation.to_be_bytes()[..], payload].concat()
}
