//! The console: what goes on in the broker, for scrapers and people, over HTTPS on the port of the Kafka protocol.
//!
//! Comes in: requests for pages, of peers whose certificates the network has checked. Goes out: metrics (`spec/metrics.md`),
//! health, version. What is told was counted by the rooms themselves, or is read from the published view, within named
//! limits. This room must never change anything, never make a shard or a connection wait, and never show names of topics,
//! groups or transactions to whom they are not for.

mod pages;
mod process;
mod rows;
mod status;
mod survey;
#[cfg(test)]
mod tests;

use crate::broker::Broker;
use crate::metrics::{Exposition, Family, Unit};
use crate::net::{Budget, Budgets, NetMetrics, Principal};
use crate::shard::Shard;
use crate::store::StoreError;
use crate::types::Timestamp;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use survey::Survey;
use tokio::sync::Mutex;

/// The console. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Console(Arc<Parts>, Arc<Mutex<Option<Surveyed>>>);

/// The last look at the rows, and when it was.
type Surveyed = (Instant, Arc<Survey>);

/// A look at the rows that is no older than this is shown again: however many ask, there is one look a second at most.
const SURVEY_AGE_MAX: Duration = Duration::from_secs(1);

/// What the console looks at, and who may look.
#[derive(Debug)]
pub struct Parts {
    /// The shard.
    pub shard: Shard,
    /// The broker.
    pub broker: Broker,
    /// What the network counts.
    pub net: Arc<NetMetrics>,
    /// The memory budgets.
    pub budgets: Budgets,
    /// Who may see metrics, beside the admins.
    pub readers: BTreeSet<Principal>,
    /// The port that is listened on, once that is known.
    pub port: OnceLock<u16>,
}

/// The version of what runs.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Console {
    /// A console that looks at these.
    #[must_use]
    pub fn new(parts: Parts) -> Console {
        process::start();
        Console(Arc::new(parts), Arc::default())
    }

    /// Says which port is listened on. Only the first call counts.
    pub fn listens_on(&self, port: u16) {
        let _ = self.0.port.set(port);
    }

    /// Looks at the rows, on a thread that may wait for them; one look at a time.
    async fn survey(&self) -> Result<Arc<Survey>, StoreError> {
        let mut last = Arc::clone(&self.1).lock_owned().await;
        if let Some((_, survey)) = last.as_ref().filter(|(at, _)| at.elapsed() < SURVEY_AGE_MAX) {
            return Ok(Arc::clone(survey));
        }
        let shard = self.0.shard.clone();
        // The lock goes with the look: it is not begun anew by others if whoever asked goes away.
        let look = tokio::task::spawn_blocking(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let now = Timestamp(i64::try_from(now).unwrap_or(i64::MAX));
            let survey = Arc::new(Survey::look(&shard.view(), now)?);
            *last = Some((Instant::now(), Arc::clone(&survey)));
            Ok(survey)
        });
        match look.await {
            Ok(survey) => survey,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn write(&self, out: &mut Exposition, survey: &Survey) {
        self.write_build(out);
        self.0.shard.metrics().write(out);
        survey.write(out);
        self.0.broker.metrics().write(out);
        self.0.net.write(out);
        self.write_budgets(out);
        process::write(out, self.0.port.get().copied());
    }

    fn write_build(&self, out: &mut Exposition) {
        static BUILD: Family = Family::info("semel_build", "What runs.").by(&["version"]);
        out.family(&BUILD).value(&[("version", VERSION)], 1);
    }

    fn write_budgets(&self, out: &mut Exposition) {
        static RESERVED: Family = Family::gauge(
            "semel_memory_reserved_bytes",
            Unit::Bytes,
            "Memory that requests and answers hold now, by budget.",
        )
        .by(&["budget"]);
        static BUDGET: Family = Family::gauge(
            "semel_memory_budget_bytes",
            Unit::Bytes,
            "Memory that they may hold; who needs more waits (settings produce-memory-bytes, fetch-memory-bytes).",
        ).by(&["budget"]);
        let budgets = [
            ("produce", Budget::Produce),
            ("fetch", Budget::Fetch),
            ("fetch_requests", Budget::FetchRequests),
            ("control", Budget::Control),
            ("answers", Budget::Answers),
        ];
        let mut samples = out.family(&RESERVED);
        for (name, budget) in budgets {
            samples.value(&[("budget", name)], self.0.budgets.in_use(budget) as u64);
        }
        let mut samples = out.family(&BUDGET);
        for (name, budget) in budgets {
            samples.value(&[("budget", name)], self.0.budgets.capacity(budget) as u64);
        }
    }
}
