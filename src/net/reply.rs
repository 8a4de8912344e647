//! Replies into a stream of bytes: several at a time, without copying their chunks together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Slices given to one vectored write: a fetch over many partitions has two or three for each. What would be more than a few
/// TLS records at once gains nothing.
const SLICES_MAX: usize = 256;
/// Most replies have no more.
const SLICES_USUAL: usize = 32;
/// Room for length prefixes that is allocated at once.
const PREFIX_BYTES: usize = 512;

/// Bytes that are ready to leave, in order.
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    prefixes: BytesMut,
    bytes: usize,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { chunks: VecDeque::new(), prefixes: BytesMut::new(), bytes: 0 }
    }

    /// Adds one reply: its length, and its chunks. A reply longer than a length can say is refused.
    pub(super) fn push(&mut self, body: Vec<Bytes>) -> Result<(), ReplyTooLong> {
        let length: usize = body.iter().map(Bytes::len).sum();
        let prefix = i32::try_from(length).map_err(|_| ReplyTooLong(length))?;
        if self.prefixes.capacity() < size_of::<i32>() {
            self.prefixes.reserve(PREFIX_BYTES);
        }
        self.prefixes.put_i32(prefix);
        self.chunks.push_back(self.prefixes.split().freeze());
        self.chunks.extend(body.into_iter().filter(|chunk| !chunk.is_empty()));
        self.bytes += size_of::<i32>() + length;
        Ok(())
    }

    /// The bytes that have not left yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// A reply longer than 2 GiB: an error of the broker.
#[derive(Debug, thiserror::Error)]
#[error("the broker made a reply of {0} bytes, more than a frame can say")]
pub(super) struct ReplyTooLong(usize);

/// Where replies go.
pub(super) trait Sink: Send {
    /// Writes some of the outbox: at least one byte if there are any.
    fn write_some(&mut self, outbox: &mut Outbox) -> impl Future<Output = io::Result<()>> + Send;
    /// Sends what is buffered on the way.
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Tells the peer that nothing follows, and waits until it has everything as far as the transport can tell.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Ends when the peer has said that it will read no further reply, if the transport can tell.
    fn gone(&self) -> impl Future<Output = ()> + Send + 'static;
    /// Gives up: what is unsent is lost, and the peer sees an error where the transport has one.
    fn abandon(&mut self, code: u32);
}

/// The writing half of a TLS stream.
pub(super) struct TlsSink<W>(pub(super) W);

impl<W: AsyncWrite + Unpin + Send> Sink for TlsSink<W> {
    async fn write_some(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        let written = poll_fn(|context| {
            let chunks = outbox.chunks.iter().take(SLICES_MAX);
            let slices: SmallVec<[_; SLICES_USUAL]> = chunks.map(|chunk| IoSlice::new(chunk)).collect();
            Pin::new(&mut self.0).poll_write_vectored(context, &slices)
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        outbox.advance(written);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }

    fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    fn abandon(&mut self, _code: u32) {}
}

/// The sending half of a QUIC stream. It takes chunks as they are and keeps them until they are acknowledged.
pub(super) struct LaneSink(pub(super) quinn::SendStream);

impl Sink for LaneSink {
    async fn write_some(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        let written = self.0.write_chunks(outbox.chunks.make_contiguous()).await?;
        outbox.chunks.drain(..written.chunks);
        outbox.bytes -= written.bytes;
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        // A stream that is closed already has nothing left to finish.
        if self.0.finish().is_ok() {
            self.0.stopped().await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.0.stopped();
        async move {
            // A code or a lost connection: gone is gone.
            let _ = stopped.await;
        }
    }

    fn abandon(&mut self, code: u32) {
        // Fails only on a stream that is closed already.
        let _ = self.0.reset(code.into());
    }
}
