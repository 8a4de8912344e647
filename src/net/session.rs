//! One Kafka connection: frames in, replies out, both in frame order.
//!
//! A session is one task. It polls a reader (frame → [`Session::handle`]) and a writer (replies in order → the peer),
//! joined by a queue as long as the requests that may be in flight. So replies go out while a request waits to be
//! accepted, and a frame costs no change of thread.

use super::alarm::{Alarm, Interrupted, Pace, Stopping};
use super::budget::Permit;
use super::frame::{FrameReader, FrameRules};
use super::limits::Limits;
use super::metrics::Carried;
use super::noise::Kind;
use super::reply::{Outbox, Sink};
use super::server::Served;
use super::service::{Connection, PendingReply, Refusal, Reply, Service, Session, Transport};
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Ready replies are gathered up to this many bytes before they are written: what the TLS layer takes at once.
const BATCH_BYTES: usize = 64 << 10;
/// After this many bytes of requests the writer gets its turn even if more requests are there.
const TURN_BYTES: usize = 256 << 10;
/// How long the end of a stream may take to reach the peer.
const FINISH: Duration = Duration::from_secs(5);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("the peer closed the connection")]
    EndOfStream,
    #[error("the peer is gone: {0}")]
    Gone(io::Error),
    #[error("the peer stopped reading its replies")]
    Unread,
    #[error("the broker is stopping")]
    Stopping,
    #[error("no request came for {limit:?} (limit: idle)")]
    Idle { limit: Duration },
    #[error(
        "a frame announced {announced} bytes, more than {name} allows ({limit}); if the client is honest, raise it"
    )]
    FrameTooLong { announced: usize, limit: usize, name: &'static str },
    #[error("a frame announced {announced} bytes, too few for a request header")]
    FrameTooShort { announced: usize },
    #[error("a frame announced the negative length {announced}")]
    NegativeLength { announced: i32 },
    #[error("the connection ended inside a frame, after {received} of {announced} bytes")]
    TruncatedFrame { received: usize, announced: usize },
    #[error(
        "a frame was too slow: {received} of {announced} bytes after {waited:?} (limits: slow_frame, rate_min)"
    )]
    SlowFrame { received: usize, announced: usize, waited: Duration },
    #[error(
        "the peer did not read its replies: {left} bytes waited for {waited:?} (limits: slow_reply, rate_min)"
    )]
    SlowReply { left: usize, waited: Duration },
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    ReplyTooLong(#[from] super::reply::ReplyTooLong),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
}

impl Ending {
    pub(super) fn from_io(error: io::Error) -> Ending {
        match error.kind() {
            // Clients close without a TLS farewell or with data unread all the time: not worth a warning.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Ending::Gone(error),
            _ => Ending::Broken(error),
        }
    }

    /// The application error code that a QUIC lane is reset with (`spec/transport-quic.md`, "Error codes").
    pub(super) fn code(&self) -> u32 {
        match self {
            Ending::EndOfStream | Ending::Gone(_) | Ending::Unread | Ending::Stopping => code::NONE,
            Ending::Idle { .. } => code::IDLE,
            Ending::SlowFrame { .. } | Ending::SlowReply { .. } => code::SLOW,
            Ending::FrameTooLong { .. } => code::LIMIT,
            Ending::FrameTooShort { .. } | Ending::NegativeLength { .. } | Ending::TruncatedFrame { .. } => {
                code::FRAME
            }
            Ending::Refused(_) => code::REFUSED,
            Ending::ReplyTooLong(_) | Ending::Broken(_) => code::INTERNAL,
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Ending::EndOfStream | Ending::Gone(_) | Ending::Unread => None,
            Ending::Stopping | Ending::Idle { .. } => None,
            // What is not a network's ordinary failure is bytes that are no TLS.
            Ending::Broken(error) => (error.kind() == io::ErrorKind::InvalidData).then_some(Kind::Frame),
            Ending::Refused(_) | Ending::ReplyTooLong(_) => Some(Kind::Refused),
            Ending::SlowFrame { .. } | Ending::SlowReply { .. } => Some(Kind::Slow),
            _ => Some(Kind::Frame),
        }
    }
}

/// Application error codes of QUIC, for lanes and connections (`spec/transport-quic.md`, "Error codes").
pub(super) mod code {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const INTERNAL: u32 = 1;
    pub(crate) const FRAME: u32 = 2;
    pub(crate) const LIMIT: u32 = 3;
    pub(crate) const SLOW: u32 = 4;
    pub(crate) const IDLE: u32 = 5;
    pub(crate) const REFUSED: u32 = 6;
    pub(crate) const STOPPING: u32 = 7;
    pub(crate) const IDENTITY: u32 = 8;
}

/// A request whose reply has not been written.
struct Pending {
    answer: Answer,
    _frame: Permit,
    _slot: OwnedSemaphorePermit,
}

enum Answer {
    Ready(Vec<Bytes>),
    Awaited(PendingReply),
}

/// Serves one connection until it ends. Says how in the log.
pub(super) async fn run<V, R, W>(served: Arc<Served<V>>, connection: Connection, source: R, mut sink: W)
where
    V: Service,
    R: AsyncRead + Unpin + Send,
    W: Sink,
{
    let mut session = Attached(Some(served.service.connected(connection.clone())));
    let _open = served.metrics.kafka(connection.transport).open_one();
    tracing::debug!(peer = %connection.peer, transport = %connection.transport, connection = %connection.id,
        principal = %connection.principal, "connected");
    let ending = match &mut session.0 {
        Some(session) => converse(&served, &connection, session, source, &mut sink).await,
        None => Ending::Stopping,
    };
    drop(session);
    report(&served, &connection, &ending);
    match ending {
        Ending::EndOfStream | Ending::Stopping | Ending::Idle { .. } => {
            // The peer may be gone, or not reading: then there is nobody to finish for.
            let _ = tokio::time::timeout(FINISH, sink.finish()).await;
        }
        other => sink.abandon(other.code()),
    }
}

/// The broker's side of a session. However the session ends, be it cut in the middle of a wait, the broker hears of it.
struct Attached<S: Session>(Option<S>);

impl<S: Session> Drop for Attached<S> {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.disconnected();
        }
    }
}

async fn converse<V, R, W>(
    served: &Served<V>,
    connection: &Connection,
    session: &mut V::Session,
    source: R,
    sink: &mut W,
) -> Ending
where
    V: Service,
    R: AsyncRead + Unpin + Send,
    W: Sink,
{
    let stopping = Stopping::default();
    let (queue, replies) = mpsc::channel(served.limits.requests_in_flight);
    let mut stop = served.stop.clone();
    let mut stop = pin!(async move {
        // The sender lives as long as the server; its end is a stop too.
        let _ = stop.wait_for(|phase| phase.is_stopping()).await;
    });
    let mut gone = pin!(sink.gone());
    let carried = served.metrics.kafka(connection.transport);
    let mut reader = pin!(read(served, carried, session, source, queue, &stopping));
    let mut writer = pin!(write(sink, replies, &served.limits, carried));
    let mut read_ended: Option<Ending> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut stop, if !stopping.is_set() => stopping.set(),
            () = &mut gone => return Ending::Unread,
            written = &mut writer => {
                return match written {
                    Err(ending) => ending,
                    // The queue is closed: the reader has ended, and everything is written.
                    Ok(()) => read_ended.unwrap_or(Ending::EndOfStream),
                };
            }
            ending = &mut reader, if read_ended.is_none() => {
                if !drains(&ending, connection.transport) {
                    return ending;
                }
                read_ended = Some(ending);
            }
        }
    }
}

/// Whether requests in flight are still answered after the reader has ended thus. On QUIC the end of a stream says "no
/// more requests"; on TCP it cannot be told from "I am gone", and Kafka's clients mean the latter.
fn drains(ending: &Ending, transport: Transport) -> bool {
    match ending {
        Ending::Stopping => true,
        Ending::EndOfStream => transport == Transport::Quic,
        _ => false,
    }
}

/// Reads frames and has them handled, until something ends it.
async fn read<V, R>(
    served: &Served<V>,
    carried: &Carried,
    session: &mut V::Session,
    source: R,
    queue: Sender<Pending>,
    stopping: &Stopping,
) -> Ending
where
    V: Service,
    R: AsyncRead + Unpin + Send,
{
    let limits = &served.limits;
    let slots = Arc::new(Semaphore::new(limits.requests_in_flight));
    let budget = |api_key| served.service.budget(api_key);
    let rules = FrameRules { limits, budgets: &served.budgets, stopping, budget };
    let mut reader = FrameReader::new(source, limits.idle);
    let mut turn = 0;
    loop {
        let slot = match stopping.guard(Arc::clone(&slots).acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_closed)) => return Ending::Stopping,
            Err(ending) => return ending,
        };
        let frame = match reader.next(&rules).await {
            Ok(frame) => frame,
            // One slot is ours; if others are out, a reply is being waited for, and the peer is right to be silent.
            Err(Ending::Idle { .. }) if slots.available_permits() + 1 < limits.requests_in_flight => continue,
            Err(ending) => return ending,
        };
        turn += frame.body.len();
        carried.received.add((size_of::<i32>() + frame.body.len()) as u64);
        let mut permit = frame.permit;
        let answer = match session.handle(frame.body).await {
            Ok(Reply::None) => continue,
            Ok(Reply::Now(chunks)) => Answer::Ready(chunks),
            Ok(Reply::Later(reply)) => Answer::Awaited(reply),
            Ok(Reply::Waits(reply)) => {
                permit = Permit::none();
                Answer::Awaited(reply)
            }
            Err(refusal) => return refusal.into(),
        };
        // There is a place: the queue is as long as there are slots.
        if queue.send(Pending { answer, _frame: permit, _slot: slot }).await.is_err() {
            return Ending::EndOfStream;
        }
        if turn >= TURN_BYTES {
            turn = 0;
            give_way().await;
        }
    }
}

/// Lets the other half of the session run once.
async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Writes replies in order, as many at a time as are ready, until the queue is closed and empty.
async fn write<W: Sink>(
    sink: &mut W,
    mut queue: Receiver<Pending>,
    limits: &Limits,
    carried: &Carried,
) -> Result<(), Ending> {
    let mut outbox = Outbox::new();
    let mut alarm = Alarm::new(limits.slow_reply);
    let mut paid = Vec::new();
    let mut next = None;
    loop {
        let mut pending: Pending = match next.take() {
            Some(pending) => pending,
            None => match queue.recv().await {
                Some(pending) => pending,
                None => return Ok(()),
            },
        };
        let body = poll_fn(|context| pending.answer.poll(context)).await?;
        settle(&mut outbox, &mut paid, pending, body)?;
        while outbox.bytes() < BATCH_BYTES {
            let Ok(mut pending) = queue.try_recv() else { break };
            match poll_fn(|context| Poll::Ready(pending.answer.poll(context))).await {
                Poll::Ready(body) => settle(&mut outbox, &mut paid, pending, body?)?,
                Poll::Pending => {
                    next = Some(pending);
                    break;
                }
            }
        }
        let bytes = outbox.bytes() as u64;
        deliver(sink, &mut outbox, &mut alarm, limits).await?;
        carried.sent.add(bytes);
        paid.clear();
    }
}

/// Puts an answer into the outbox, and its reservations where they are given back after writing.
fn settle(
    outbox: &mut Outbox,
    paid: &mut Vec<Pending>,
    mut pending: Pending,
    body: Vec<Bytes>,
) -> Result<(), Ending> {
    if !body.is_empty() {
        outbox.push(body)?;
    }
    pending.answer = Answer::Ready(Vec::new());
    paid.push(pending);
    Ok(())
}

impl Answer {
    fn poll(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<Vec<Bytes>, Refusal>> {
        match self {
            Answer::Ready(chunks) => Poll::Ready(Ok(std::mem::take(chunks))),
            Answer::Awaited(reply) => reply.as_mut().poll(context),
        }
    }
}

/// Writes the outbox empty, no slower than the limits allow.
async fn deliver<W: Sink>(
    sink: &mut W,
    outbox: &mut Outbox,
    alarm: &mut Alarm,
    limits: &Limits,
) -> Result<(), Ending> {
    let total = outbox.bytes();
    if total == 0 {
        return Ok(());
    }
    // A stop does not cut a reply short; the deadline of the stop does.
    let going_on = Stopping::default();
    let pace = Pace::start(limits.slow_reply, limits.rate_min);
    while outbox.bytes() > 0 {
        let deadline = pace.deadline(total - outbox.bytes());
        let written = alarm.guard(&going_on, deadline, sink.write_some(outbox)).await;
        judge(written, &pace, outbox.bytes())?;
    }
    let flushed = alarm.guard(&going_on, pace.deadline(total), sink.flush()).await;
    judge(flushed, &pace, 0)
}

fn judge(written: Result<io::Result<()>, Interrupted>, pace: &Pace, left: usize) -> Result<(), Ending> {
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ending::from_io(error)),
        Err(Interrupted::Late | Interrupted::Stopping) => {
            Err(Ending::SlowReply { left, waited: pace.elapsed() })
        }
    }
}

fn report<V: Service>(served: &Served<V>, connection: &Connection, ending: &Ending) {
    let Connection { id, peer, transport, principal, .. } = connection;
    match ending.kind() {
        None => tracing::debug!(%peer, %transport, connection = %id, %principal, reason = %ending, "closed"),
        Some(kind) => served.noise.line(kind, |suppressed| {
            tracing::warn!(%peer, %transport, connection = %id, %principal, reason = %ending, suppressed,
                "connection closed");
        }),
    }
}
