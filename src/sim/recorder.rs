//! What clients saw, as a history for the judge (`spec/history.md`); and what happened in between, for people.

use crate::history::{Answer, Call, Event, Operation, Returned, VERSION};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What is told, in the order in which it happened. All clones are one.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Mutex<Told>>);

struct Told {
    begun: Instant,
    events: Vec<Event>,
    last: u64,
    calls: u64,
    names: u64,
    /// What no broker may do, and no history can show.
    broken: Vec<String>,
    /// Lines for people, if somebody wants to read them.
    log: Option<String>,
}

impl Recorder {
    pub(crate) fn new(with_log: bool) -> Recorder {
        Recorder(Arc::new(Mutex::new(Told {
            begun: Instant::now(),
            events: vec![Event::History { version: VERSION, clock_skew_us: 0 }],
            last: 0,
            calls: 0,
            names: 0,
            broken: Vec::new(),
            log: with_log.then(String::new),
        })))
    }

    fn told<T>(&self, tell: impl FnOnce(&mut Told) -> T) -> T {
        tell(&mut self.0.lock().unwrap())
    }

    /// A number that nobody else has; each is higher than those before.
    pub(crate) fn number(&self) -> u64 {
        self.told(|told| {
            told.names += 1;
            told.names
        })
    }

    pub(crate) fn name(&self, what: &str) -> String {
        format!("{what}{}", self.number())
    }

    pub(crate) fn call(&self, process: &str, operation: Operation) -> u64 {
        self.told(|told| {
            told.calls += 1;
            let (call, process, at) = (told.calls, process.to_owned(), told.at());
            told.event(Event::Call(Call { call, process, at, operation }));
            call
        })
    }

    pub(crate) fn returned(&self, call: u64, returned: Returned) {
        self.told(|told| {
            let at = told.at();
            told.event(Event::Return { call, at, returned });
        });
    }

    pub(crate) fn ok(&self, call: u64) {
        self.returned(call, Returned::Ok(Answer::default()));
    }

    pub(crate) fn gone(&self, process: &str) {
        self.told(|told| told.event(Event::Gone { process: process.to_owned() }));
    }

    /// A topic keeps the newest record of each key alone, and tombstones for so long.
    pub(crate) fn compacted(&self, topic: &str, tombstones: Duration) {
        let tombstones_kept_us = u64::try_from(tombstones.as_micros()).unwrap();
        self.told(|told| told.event(Event::Compacted { topic: topic.to_owned(), tombstones_kept_us }));
    }

    /// A topic accepts each idempotency key once within so long.
    pub(crate) fn keyed(&self, topic: &str, window: Duration) {
        let window_us = u64::try_from(window.as_micros()).unwrap();
        self.told(|told| told.event(Event::Keyed { topic: topic.to_owned(), window_us }));
    }

    pub(crate) fn crashed(&self) {
        self.told(|told| {
            let at = told.at();
            told.event(Event::Crash { at });
        });
    }

    pub(crate) fn settled(&self) {
        self.told(|told| {
            let at = told.at();
            told.event(Event::Settled { at });
        });
    }

    /// Something happened that is no part of the history.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.told(|told| {
            let at = told.begun.elapsed();
            if let Some(log) = &mut told.log {
                let _ = writeln!(log, "{:>12.3} ms  {}", at.as_secs_f64() * 1000.0, line());
            }
        });
    }

    /// Something happened that must not.
    pub(crate) fn broken(&self, property: &str, how: impl Into<String>) {
        let how = format!("{property}: {}", how.into());
        self.note(|| format!("BROKEN {how}"));
        self.told(|told| told.broken.push(how));
    }

    /// What was told.
    pub(crate) fn take(&self) -> (Vec<Event>, Vec<String>, String) {
        self.told(|told| {
            let log = told.log.take().unwrap_or_default();
            (std::mem::take(&mut told.events), std::mem::take(&mut told.broken), log)
        })
    }
}

impl Told {
    /// One moment for each thing: in one thread there is an order.
    fn at(&mut self) -> u64 {
        let at = u64::try_from(self.begun.elapsed().as_micros()).unwrap();
        self.last = at.max(self.last + 1);
        self.last
    }

    fn event(&mut self, event: Event) {
        if let Some(log) = &mut self.log {
            let at = self.begun.elapsed();
            let line = serde_json::to_string(&event).unwrap();
            let _ = writeln!(log, "{:>12.3} ms  {line}", at.as_secs_f64() * 1000.0);
        }
        self.events.push(event);
    }
}
