//! Frames out of a stream of bytes: reserve first, then read.

use super::alarm::{Alarm, Interrupted, Pace, Stopping};
use super::budget::{Budget, Budgets, Permit};
use super::limits::{FRAME_BYTES_MIN, Limits};
use super::session::Ending;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes of the length before a frame's body.
const LENGTH_BYTES: usize = 4;
/// The bytes of the api key, the first field of a request's body.
const API_KEY_BYTES: usize = 2;
/// What is read ahead of the frame at hand: one TLS record. What a longer frame has beyond it is read straight into
/// the frame's own memory.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// Room below this in the read buffer is not worth a read.
const READ_BYTES_MIN: usize = 4 << 10;
/// Reserved for each frame beside its bytes: what the queues and futures that carry it take.
const FRAME_OVERHEAD_BYTES: usize = 512;

/// A request's body, and the reservation that pays for it.
pub(super) struct Frame {
    pub(super) body: Bytes,
    pub(super) permit: Permit,
}

/// Reads one peer's frames.
///
/// Each body gets one allocation of its exact size. Slicing it out of the read buffer instead would save a copy of a
/// few KiB, and would let a request of 100 bytes that waits for a minute hold 16 KiB that nobody reserved.
pub(super) struct FrameReader<R> {
    source: R,
    ahead: BytesMut,
    alarm: Alarm,
}

/// What a reader needs to know beside the bytes.
pub(super) struct FrameRules<'a, F> {
    pub(super) limits: &'a Limits,
    pub(super) budgets: &'a Budgets,
    pub(super) stopping: &'a Stopping,
    pub(super) budget: F,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(source: R, idle: Duration) -> FrameReader<R> {
        FrameReader { source, ahead: BytesMut::new(), alarm: Alarm::new(idle) }
    }

    /// The next frame. May be called again after [`Ending::Idle`], which leaves the stream as it was.
    pub(super) async fn next<F>(&mut self, rules: &FrameRules<'_, F>) -> Result<Frame, Ending>
    where
        F: Fn(i16) -> Budget,
    {
        if self.ahead.is_empty() {
            self.first_byte(rules).await?;
        }
        let pace = Pace::start(rules.limits.slow_frame, rules.limits.rate_min);
        let length = self.length(rules, &pace).await?;
        let budget = self.budget(rules, &pace, length).await?;
        let reservation = rules.budgets.reserve_frame(budget, length.saturating_add(FRAME_OVERHEAD_BYTES));
        let permit = rules.stopping.guard(reservation).await?.map_err(|_| Ending::FrameTooLong {
            announced: length,
            limit: rules.budgets.capacity(budget),
            name: "the whole of its memory budget",
        })?;
        // The time spent waiting for memory is not the peer's fault.
        let pace = Pace::start(rules.limits.slow_frame, rules.limits.rate_min);
        let body = self.body(rules.stopping, &pace, length).await?;
        Ok(Frame { body, permit: permit.read() })
    }

    async fn first_byte<F>(&mut self, rules: &FrameRules<'_, F>) -> Result<(), Ending> {
        if rules.stopping.is_set() {
            return Err(Ending::Stopping);
        }
        self.ahead.clear();
        self.ahead.reserve(READ_AHEAD_BYTES);
        let deadline = tokio::time::Instant::now() + rules.limits.idle;
        let read = self.source.read_buf(&mut self.ahead);
        match self.alarm.guard(rules.stopping, deadline, read).await {
            Ok(Ok(0)) => Err(Ending::EndOfStream),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Ending::from_io(error)),
            Err(Interrupted::Late) => Err(Ending::Idle { limit: rules.limits.idle }),
            Err(Interrupted::Stopping) => Err(Ending::Stopping),
        }
    }

    async fn length<F>(&mut self, rules: &FrameRules<'_, F>, pace: &Pace) -> Result<usize, Ending> {
        self.fill(rules.stopping, pace, LENGTH_BYTES, 0).await?;
        let announced = self.ahead.get_i32();
        let length = usize::try_from(announced).map_err(|_| Ending::NegativeLength { announced })?;
        if length > rules.limits.frame_bytes {
            let (limit, name) = (rules.limits.frame_bytes, "frame_bytes");
            return Err(Ending::FrameTooLong { announced: length, limit, name });
        }
        if length < FRAME_BYTES_MIN {
            return Err(Ending::FrameTooShort { announced: length });
        }
        Ok(length)
    }

    async fn budget<F>(
        &mut self,
        rules: &FrameRules<'_, F>,
        pace: &Pace,
        length: usize,
    ) -> Result<Budget, Ending>
    where
        F: Fn(i16) -> Budget,
    {
        self.fill(rules.stopping, pace, API_KEY_BYTES, length).await?;
        let mut start = self.ahead.chunk();
        let budget = (rules.budget)(start.get_i16());
        let limit = rules.limits.control_frame_bytes;
        if budget != Budget::Produce && length > limit {
            return Err(Ending::FrameTooLong { announced: length, limit, name: "control_frame_bytes" });
        }
        Ok(budget)
    }

    async fn body(&mut self, stopping: &Stopping, pace: &Pace, length: usize) -> Result<Bytes, Ending> {
        let ready = self.ahead.len().min(length);
        if ready == length {
            let body = Bytes::copy_from_slice(self.ahead.chunk().get(..length).unwrap_or_default());
            self.ahead.advance(length);
            return Ok(body);
        }
        let mut body = BytesMut::with_capacity(length);
        body.extend_from_slice(&self.ahead);
        self.ahead.clear();
        while body.len() < length {
            let received = body.len();
            let mut rest = (&mut body).limit(length - received);
            let deadline = pace.deadline(received);
            let read = self.alarm.guard(stopping, deadline, self.source.read_buf(&mut rest)).await;
            judge(read, pace, received, length)?;
        }
        Ok(body.freeze())
    }

    /// Reads ahead until at least `wanted` bytes are there. `announced` is the frame's length, 0 while unknown.
    async fn fill(
        &mut self,
        stopping: &Stopping,
        pace: &Pace,
        wanted: usize,
        announced: usize,
    ) -> Result<(), Ending> {
        while self.ahead.len() < wanted {
            let received = self.ahead.len();
            if self.ahead.capacity() - received < READ_BYTES_MIN {
                self.ahead.reserve(READ_AHEAD_BYTES);
            }
            let deadline = pace.deadline(received);
            let read = self.alarm.guard(stopping, deadline, self.source.read_buf(&mut self.ahead)).await;
            judge(read, pace, received, announced)?;
        }
        Ok(())
    }
}

/// What a read in the middle of a frame has come to.
fn judge(
    read: Result<io::Result<usize>, Interrupted>,
    pace: &Pace,
    received: usize,
    announced: usize,
) -> Result<(), Ending> {
    match read {
        Ok(Ok(0)) => Err(Ending::TruncatedFrame { received, announced }),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Ending::from_io(error)),
        Err(Interrupted::Late) => Err(Ending::SlowFrame { received, announced, waited: pace.elapsed() }),
        Err(Interrupted::Stopping) => Err(Ending::Stopping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::ReadBuf;

    /// A stream that gives its bytes in pieces, and says "not yet" between them.
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        ready: bool,
    }

    impl Pieces {
        fn cut(mut bytes: &[u8], lengths: &[usize]) -> Pieces {
            let mut pieces = VecDeque::new();
            let mut lengths = lengths.iter().cycle();
            while !bytes.is_empty() {
                let (piece, rest) = bytes.split_at((*lengths.next().unwrap()).min(bytes.len()));
                pieces.push_back(piece.to_vec());
                bytes = rest;
            }
            Pieces { pieces, ready: false }
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.ready = !self.ready;
            if self.ready {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(mut piece) = self.pieces.pop_front() {
                let rest = piece.split_off(into.remaining().min(piece.len()));
                into.put_slice(&piece);
                if !rest.is_empty() {
                    self.pieces.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 8..40_000), 0..8),
            lengths in prop::collection::vec(1usize..20_000, 1..6),
            lost in 0usize..12,
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                bytes.extend(i32::try_from(frame.len()).unwrap().to_be_bytes());
                bytes.extend(frame);
            }
            bytes.truncate(bytes.len().saturating_sub(lost));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let limits = Limits::default();
                let (budgets, stopping) = (Budgets::new(&limits), Stopping::default());
                let budget = |key: i16| if key < 0 { Budget::Produce } else { Budget::Control };
                let rules = FrameRules { limits: &limits, budgets: &budgets, stopping: &stopping, budget };
                let mut reader = FrameReader::new(Pieces::cut(&bytes, &lengths), limits.idle);
                let whole = if lost > 0 { frames.len().saturating_sub(1) } else { frames.len() };
                for frame in &frames[..whole] {
                    let read = reader.next(&rules).await.map_err(|ending| ending.to_string()).unwrap();
                    assert_eq!(&read.body[..], &frame[..]);
                    let bytes = read.permit.bytes();
                    assert_eq!(bytes, frame.len() + FRAME_OVERHEAD_BYTES);
                    assert_eq!(bytes, budgets.in_use(Budget::Produce) + budgets.in_use(Budget::Control));
                }
                match reader.next(&rules).await {
                    Err(Ending::EndOfStream) => assert!(lost == 0 || frames.is_empty()),
                    Err(Ending::TruncatedFrame { .. }) => assert!(lost > 0),
                    other => panic!("{:?}", other.map(|frame| frame.body)),
                }
                assert_eq!(budgets.in_use(Budget::Produce) + budgets.in_use(Budget::Control), 0);
            });
        }
    }
}
