//! What the room above gives to this one, and what it gets.

use super::budget::Budget;
use super::principal::Principal;
use crate::types::ConnectionId;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// The broker, as the network sees it.
pub trait Service: Send + Sync + 'static {
    /// What the broker keeps for one connection.
    type Session: Session;

    /// A peer has proved who it is; its frames follow. Must not block.
    fn connected(&self, connection: Connection) -> Self::Session;

    /// Which budget pays for a request's bytes. Asked before the body is read; must not block.
    fn budget(&self, api_key: i16) -> Budget;
}

/// One Kafka connection: a TCP connection, or one QUIC lane.
pub trait Session: Send + 'static {
    /// Called once per frame, in frame order, never concurrently for one session. `frame` is the body without its
    /// length.
    ///
    /// Returns when the request is accepted; the reply may come later. Until it returns, nothing more is read from
    /// this connection (that is how the broker pushes back); replies of earlier requests go on. A refusal closes the
    /// connection. If the connection goes meanwhile, the future is dropped where it waits.
    fn handle(&mut self, frame: Bytes) -> impl Future<Output = Result<Reply, Refusal>> + Send;

    /// The connection is gone: requests of it that wait somewhere are to be dropped. Its replies are dropped already.
    /// Called once, however the connection ends. Must not block.
    fn disconnected(self);
}

/// A reply: the chunks of its body, in order, without the length, which the network writes.
pub enum Reply {
    /// None is due (`acks=0`), and none of the frame's memory is used any more.
    None,
    /// Ready.
    Now(Vec<Bytes>),
    /// To come. It is polled only once every earlier reply of the connection is ready, so work that must go on before
    /// that has been started by [`Session::handle`]. An empty answer sends nothing: that is how an `acks=0` request
    /// keeps its memory reserved until it is durable.
    Later(PendingReply),
    /// The same, but none of the frame's memory is used any more: what may wait for minutes must not hold what others need.
    Waits(PendingReply),
}

/// The body of a reply that is to come.
pub type PendingReply = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, Refusal>> + Send>>;

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::None => f.write_str("None"),
            Reply::Now(chunks) => f.debug_tuple("Now").field(&chunks.len()).finish(),
            Reply::Later(_) => f.write_str("Later"),
            Reply::Waits(_) => f.write_str("Waits"),
        }
    }
}

/// Why a connection has to be closed instead of answered. The text goes to the log, beside the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    /// A refusal with its reason, as a person should read it.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal(reason.into())
    }
}

/// Who is at the other end, and how.
#[derive(Clone, Debug)]
pub struct Connection {
    /// This connection's number.
    pub id: ConnectionId,
    /// The peer's address.
    pub peer: SocketAddr,
    /// What carries the frames.
    pub transport: Transport,
    /// Who the peer's certificate says it is.
    pub principal: Principal,
    /// What that principal may do.
    pub authority: Authority,
}

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TLS 1.3 on TCP.
    Tcp,
    /// A bidirectional stream of a QUIC connection.
    Quic,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Quic => "QUIC",
        })
    }
}

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// May also administer: create and delete topics, end other people's transactions, read configurations.
    Admin,
    /// May produce and consume.
    User,
}
