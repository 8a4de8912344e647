//! A network: connections are pairs of pipes, and each pipe delivers its bytes in order, late, in pieces, or not at all.
//! Order between connections does not exist.

use super::chance::Chance;
use super::faults::{Fault, Faults};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes on their way in one direction, at most: then whoever writes has to wait.
const WINDOW_BYTES: usize = 256 << 10;

/// Whether a process lives: one that is dead does nothing any more, in whatever it was in the middle of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Power {
    dead: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
}

impl Power {
    pub(crate) fn is_on(&self) -> bool {
        !self.dead.load(Ordering::Relaxed) && !self.is_cut()
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// What becomes true when the process is killed, or the power is cut.
    pub(crate) fn switch(&self, cut: bool) -> &Arc<AtomicBool> {
        if cut { &self.cut } else { &self.dead }
    }
}

/// How the network is at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// How long bytes are on their way, at most.
    pub(crate) delay: Duration,
    /// Once in so many writes the connection breaks in the middle of what is written.
    pub(crate) breaks: u64,
    /// Once in so many writes the connection is dead from there on, and neither end hears of it.
    pub(crate) holes: u64,
}

/// The network.
#[derive(Clone)]
pub(crate) struct Net(Arc<Shared>);

struct Shared {
    weather: Mutex<Weather>,
    chance: Mutex<Chance>,
    faults: Faults,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    /// What is on its way, and when it arrives.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Nothing arrives before this: order is kept.
    last: Option<Instant>,
    /// When the reader hears that nothing follows.
    end: Option<(Instant, End)>,
    /// What is written from now on is lost, and nobody hears of it.
    hole: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Broken,
}

/// A connection: what has gone wrong with it is known to the world, and to neither end.
pub(crate) struct Link {
    pipes: [Mutex<Pipe>; 2],
    touched: AtomicBool,
}

/// One end of a connection.
pub(crate) struct Stream {
    net: Net,
    link: Arc<Link>,
    /// The pipe it writes into.
    side: usize,
    /// Whether whoever has this end is alive, if that is not the client.
    power: Option<Power>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Link {
    /// Whether nothing has gone wrong with it.
    pub(crate) fn is_sound(&self) -> bool {
        !self.touched.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }
}

impl Net {
    pub(crate) fn new(weather: Weather, chance: Chance, faults: Faults) -> Net {
        Net(Arc::new(Shared { weather: Mutex::new(weather), chance: Mutex::new(chance), faults }))
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.0.weather.lock().unwrap() = weather;
    }

    /// A connection: the client's end, and the broker's.
    pub(crate) fn connect(&self, power: &Power) -> (Stream, Stream) {
        let link = Arc::new(Link { pipes: Default::default(), touched: AtomicBool::new(false) });
        let stream =
            |side, power| Stream { net: self.clone(), link: Arc::clone(&link), side, power, sleep: None };
        (stream(0, None), stream(1, Some(power.clone())))
    }

    fn arrival(&self, pipe: &mut Pipe) -> Instant {
        let delay = self.0.weather.lock().unwrap().delay;
        let at = Instant::now() + self.0.chance.lock().unwrap().time(delay);
        let at = pipe.last.map_or(at, |last| at.max(last));
        pipe.last = Some(at);
        at
    }

    /// What becomes of a write of so many bytes: how many arrive, and what happens then.
    fn befalls(&self, bytes: usize) -> Option<(Fault, usize)> {
        let weather = self.0.weather.lock().unwrap().clone();
        let mut chance = self.0.chance.lock().unwrap();
        let cut = |chance: &mut Chance| usize::try_from(chance.below(bytes as u64 + 1)).unwrap();
        if chance.once_in(weather.breaks) {
            return Some((Fault::ConnectionLost, cut(&mut chance)));
        }
        chance.once_in(weather.holes).then(|| (Fault::HalfOpen, cut(&mut chance)))
    }
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Stream {
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Leaves without a word: what is on its way still arrives, answers go nowhere, and the other end hears of it late.
    pub(crate) fn abandon(self, until: Duration) {
        self.link.touch();
        let mut pipe = self.link.pipes[self.side].lock().unwrap();
        let at = Instant::now() + until;
        pipe.end.get_or_insert((at, End::Closed));
        pipe.wake();
        drop(pipe);
        self.link.pipes[1 - self.side].lock().unwrap().hole = true;
    }

    fn is_alive(&self) -> bool {
        self.power.as_ref().is_none_or(Power::is_on)
    }

    fn is_dark(&self) -> bool {
        self.power.as_ref().is_some_and(Power::is_cut)
    }

    fn break_both(&self) {
        for side in 0..2 {
            let mut pipe = self.link.pipes[side].lock().unwrap();
            let at = self.net.arrival(&mut pipe);
            pipe.end.get_or_insert((at, End::Broken));
            pipe.wake();
        }
    }

    fn take(&self, bytes: &[u8]) {
        let mut pipe = self.link.pipes[self.side].lock().unwrap();
        if pipe.hole || pipe.end.is_some() || bytes.is_empty() {
            return;
        }
        let at = self.net.arrival(&mut pipe);
        pipe.bytes += bytes.len();
        pipe.chunks.push_back((at, bytes.to_vec()));
        pipe.wake();
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        {
            let mut pipe = self.link.pipes[self.side].lock().unwrap();
            if pipe.end.is_some() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if pipe.bytes >= WINDOW_BYTES && !pipe.hole {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        if !self.is_alive() {
            return Poll::Ready(Ok(bytes.len()));
        }
        match self.net.befalls(bytes.len()) {
            None => self.take(bytes),
            Some((fault, arriving)) => {
                self.take(&bytes[..arriving]);
                self.link.touch();
                self.net.0.faults.note(fault);
                if fault == Fault::HalfOpen {
                    for side in 0..2 {
                        self.link.pipes[side].lock().unwrap().hole = true;
                    }
                } else {
                    self.break_both();
                }
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.link.pipes[self.side].lock().unwrap();
        if self.is_alive() && !pipe.hole {
            let at = self.net.arrival(&mut pipe);
            pipe.end.get_or_insert((at, End::Closed));
            pipe.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let link = Arc::clone(&self.link);
        loop {
            let mut pipe = link.pipes[1 - self.side].lock().unwrap();
            let now = Instant::now();
            let due = match (pipe.chunks.front(), pipe.end) {
                (Some((at, _)), _) => Some(*at),
                (None, Some((at, _))) => Some(at),
                (None, None) => None,
            };
            pipe.reader = Some(context.waker().clone());
            let Some(due) = due else { return Poll::Pending };
            if due > now {
                drop(pipe);
                let mut sleep = Box::pin(tokio::time::sleep_until(due));
                if sleep.as_mut().poll(context).is_pending() {
                    self.sleep = Some(sleep);
                    return Poll::Pending;
                }
                continue;
            }
            let Some((_, mut chunk)) = pipe.chunks.pop_front() else {
                return match pipe.end {
                    Some((_, End::Broken)) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    _ => Poll::Ready(Ok(())),
                };
            };
            let rest = chunk.split_off(into.remaining().min(chunk.len()));
            into.put_slice(&chunk);
            pipe.bytes -= chunk.len();
            if !rest.is_empty() {
                pipe.chunks.push_front((due, rest));
            }
            pipe.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Without power nobody tells the other end; it finds out by itself, or never.
        let dark = self.is_dark();
        for side in 0..2 {
            let mut pipe = self.link.pipes[side].lock().unwrap();
            if dark {
                pipe.hole = true;
            } else if !pipe.hole {
                let at = self.net.arrival(&mut pipe);
                pipe.end.get_or_insert((at, if side == self.side { End::Closed } else { End::Broken }));
            }
            pipe.wake();
        }
        if dark {
            self.link.touch();
        }
    }
}
