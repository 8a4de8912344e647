//! What the network counts.

use super::limits::Limits;
use super::noise::{KINDS, Kind};
use super::service::Transport;
use crate::metrics::{Counter, Exposition, Family, Histogram, TIMES, Unit};
use std::sync::OnceLock;
use tokio::runtime::RuntimeMetrics;

/// What the network counts. Shared by every connection.
#[derive(Debug)]
pub struct NetMetrics {
    kafka: [Carried; 2],
    pages: Carried,
    /// Connections that were refused or cut, by why.
    ended: [Counter; KINDS],
    threads: Vec<ThreadMetrics>,
}

/// What one kind of connection has carried.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) opened: Counter,
    pub(super) closed: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
}

/// A thread that connections live on.
#[derive(Debug)]
pub(super) struct ThreadMetrics {
    /// By how much the thread was late to look at an event that was due.
    pub(super) lag: Histogram,
    pub(super) runtime: OnceLock<RuntimeMetrics>,
}

static OPENED: Family = Family::counter(
    "semel_net_connections_opened",
    Unit::None,
    "Connections that have proved who they are; each QUIC lane is one.",
)
.by(&["transport"]);
static OPEN: Family =
    Family::gauge("semel_net_connections", Unit::None, "Connections that are open now.").by(&["transport"]);
static RECEIVED: Family = Family::counter(
    "semel_net_received_bytes",
    Unit::Bytes,
    "Bytes of requests, without TLS and QUIC around them.",
)
.by(&["transport"]);
static SENT: Family = Family::counter(
    "semel_net_sent_bytes",
    Unit::Bytes,
    "Bytes of replies, without TLS and QUIC around them.",
)
.by(&["transport"]);
static ENDED: Family = Family::counter(
    "semel_net_connections_refused",
    Unit::None,
    "Connections that were refused or cut because of what the peer did or a limit, by reason.",
)
.by(&["reason"]);
static LAG: Family = Family::histogram(
    "semel_net_thread_lag_seconds",
    Unit::Seconds,
    "By how much a network thread was late for a timer: so long its connections waited for it. Timers have milliseconds.",
).by(&["thread"]);
static BUSY: Family = Family::counter(
    "semel_net_thread_busy_seconds",
    Unit::Seconds,
    "Time that a network thread did not wait for events.",
)
.by(&["thread"]);
static TASKS: Family = Family::gauge(
    "semel_net_thread_tasks",
    Unit::None,
    "Tasks that live on a network thread: connections and lanes.",
)
.by(&["thread"]);

impl NetMetrics {
    /// Nothing counted yet. With the limits that the network is served with.
    #[must_use]
    pub fn new(limits: &Limits) -> NetMetrics {
        let thread = || ThreadMetrics { lag: Histogram::new(&TIMES), runtime: OnceLock::new() };
        NetMetrics {
            kafka: Default::default(),
            pages: Carried::default(),
            ended: Default::default(),
            threads: (0..limits.threads).map(|_| thread()).collect(),
        }
    }

    pub(super) fn kafka(&self, transport: Transport) -> &Carried {
        let [tcp, quic] = &self.kafka;
        match transport {
            Transport::Tcp => tcp,
            Transport::Quic => quic,
        }
    }

    pub(super) fn pages(&self) -> &Carried {
        &self.pages
    }

    pub(super) fn ended(&self, kind: Kind) {
        #[expect(clippy::indexing_slicing, reason = "KINDS counts the variants of Kind")]
        self.ended[kind as usize].one();
    }

    pub(super) fn thread(&self, number: usize) -> Option<&ThreadMetrics> {
        self.threads.get(number)
    }

    /// Connections of Kafka clients that are open now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.kafka.iter().map(Carried::open).sum()
    }

    /// Writes them all.
    pub fn write(&self, out: &mut Exposition) {
        let [tcp, quic] = &self.kafka;
        let carried = [("tcp", tcp), ("quic", quic), ("https", &self.pages)];
        let mut each = |family: &'static Family, value: fn(&Carried) -> u64| {
            let mut samples = out.family(family);
            for (transport, carried) in carried {
                samples.value(&[("transport", transport)], value(carried));
            }
        };
        each(&OPEN, Carried::open);
        each(&OPENED, |carried| carried.opened.get());
        each(&RECEIVED, |carried| carried.received.get());
        each(&SENT, |carried| carried.sent.get());
        let mut samples = out.family(&ENDED);
        for (kind, count) in Kind::ALL.iter().zip(&self.ended) {
            samples.value(&[("reason", kind.name())], count.get());
        }
        self.write_threads(out);
    }

    fn write_threads(&self, out: &mut Exposition) {
        let threads = || (0..).map(|number: u32| number.to_string()).zip(&self.threads);
        let runtimes = || threads().filter_map(|(name, thread)| Some((name, thread.runtime.get()?)));
        let mut samples = out.family(&LAG);
        for (name, thread) in threads() {
            samples.histogram(&[("thread", &name)], &thread.lag);
        }
        let mut samples = out.family(&BUSY);
        for (name, runtime) in runtimes() {
            samples.number(&[("thread", &name)], runtime.worker_total_busy_duration(0).as_secs_f64());
        }
        let mut samples = out.family(&TASKS);
        for (name, runtime) in runtimes() {
            samples.value(&[("thread", &name)], runtime.num_alive_tasks() as u64);
        }
    }
}

impl Carried {
    fn open(&self) -> u64 {
        // In this order, so that it is never below zero.
        let closed = self.closed.get();
        self.opened.get().saturating_sub(closed)
    }

    /// A connection has proved who it is; it is counted as closed when what is returned is dropped.
    pub(super) fn open_one(&self) -> OpenOne<'_> {
        self.opened.one();
        OpenOne(self)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct OpenOne<'c>(&'c Carried);

impl Drop for OpenOne<'_> {
    fn drop(&mut self) {
        self.0.closed.one();
    }
}
