//! What the broker counts: requests, how long they took, and which errors they were answered with.

use crate::metrics::{Counter, Exposition, Family, Histogram, TIMES, Unit};
use crate::wire::ApiKey;
use crate::wire::ErrorCode;
use crate::wire::primitives::ErrorCounts;
use std::time::Duration;

/// What the broker counts. Shared by every connection.
#[derive(Debug)]
pub struct BrokerMetrics {
    /// One for each of [`ApiKey::ALL`], in that order.
    apis: Vec<ApiMetrics>,
    /// Bytes of records that fetches answered with.
    pub(super) fetched_bytes: Counter,
    /// Bytes of aborted transactions that fetches of committed records left out.
    pub(super) dropped_bytes: Counter,
    /// Work that left its network thread because reads might wait.
    pub(super) aside: Histogram,
}

#[derive(Debug)]
struct ApiMetrics {
    /// By version, from the api's oldest on.
    requests: Vec<Counter>,
    /// By number, from [`FIRST_CODE`] on.
    errors: Vec<Counter>,
    latency: Histogram,
}

/// The number of the first error code, UNKNOWN_SERVER_ERROR.
const FIRST_CODE: i16 = -1;

impl ApiMetrics {
    fn new(api: ApiKey) -> ApiMetrics {
        let last = ErrorCode::ALL.iter().map(|code| i16::from(*code)).max().unwrap_or(FIRST_CODE);
        ApiMetrics {
            requests: api.versions().iter().map(|_| Counter::default()).collect(),
            errors: (FIRST_CODE..=last).map(|_| Counter::default()).collect(),
            latency: Histogram::new(&TIMES),
        }
    }
}

impl Default for BrokerMetrics {
    fn default() -> BrokerMetrics {
        BrokerMetrics {
            apis: ApiKey::ALL.iter().map(|api| ApiMetrics::new(*api)).collect(),
            fetched_bytes: Counter::default(),
            dropped_bytes: Counter::default(),
            aside: Histogram::new(&TIMES),
        }
    }
}

/// The counter of a number in a row that begins with `first`.
fn counter(counters: &[Counter], first: i16, number: i16) -> Option<&Counter> {
    counters.get(usize::try_from(number.checked_sub(first)?).ok()?)
}

impl BrokerMetrics {
    fn of(&self, api: ApiKey) -> Option<&ApiMetrics> {
        self.apis.get(ApiKey::ALL.binary_search(&api).ok()?)
    }

    /// A request has come, in a version that is served.
    pub(super) fn asked(&self, api: ApiKey, version: i16) {
        let Some(metrics) = self.of(api) else { return };
        if let Some(counter) = counter(&metrics.requests, api.versions().min, version) {
            counter.one();
        }
    }

    /// Its answer is made.
    pub(super) fn answered(&self, api: ApiKey, after: Duration, errors: &ErrorCounts) {
        let Some(metrics) = self.of(api) else { return };
        metrics.latency.observe_time(after);
        for (code, times) in errors {
            if let Some(counter) = counter(&metrics.errors, FIRST_CODE, (*code).into()) {
                counter.add((*times).into());
            }
        }
    }

    /// Writes them all. What has not come yet is left out: few clients use all versions of all apis.
    pub fn write(&self, out: &mut Exposition) {
        static REQUESTS: Family =
            Family::counter("semel_requests", Unit::None, "Requests of clients, by api and version.")
                .by(&["api", "version"]);
        static ERRORS: Family = Family::counter(
            "semel_request_errors",
            Unit::None,
            "Error codes in answers, by api: one request may have one for each of its partitions.",
        )
        .by(&["api", "error"]);
        static LATENCY: Family = Family::histogram(
            "semel_request_seconds",
            Unit::Seconds,
            "Time from a request's last byte until its answer is made, by api; a fetch or a join waits as long as it asks to.",
        ).by(&["api"]);
        static FETCHED: Family = Family::counter(
            "semel_fetched_bytes",
            Unit::Bytes,
            "Bytes of record batches that fetches answered with.",
        );
        static DROPPED: Family = Family::counter(
            "semel_fetch_dropped_bytes",
            Unit::Bytes,
            "Bytes of aborted transactions that fetches of committed records left out.",
        );
        static ASIDE: Family = Family::histogram(
            "semel_reads_aside_seconds",
            Unit::Seconds,
            "Time that requests took on threads of their own because the row store was writing tables and reads might wait: for so long, network threads would have stood still.",
        );
        let apis = || ApiKey::ALL.iter().zip(&self.apis);
        let mut samples = out.family(&REQUESTS);
        for (api, metrics) in apis() {
            for (version, counter) in
                api.versions().iter().zip(&metrics.requests).filter(|(_, c)| c.get() > 0)
            {
                samples.value(&[("api", api.name()), ("version", &version.to_string())], counter.get());
            }
        }
        let mut samples = out.family(&ERRORS);
        for (api, metrics) in apis() {
            for (number, counter) in (FIRST_CODE..).zip(&metrics.errors).filter(|(_, c)| c.get() > 0) {
                samples
                    .value(&[("api", api.name()), ("error", ErrorCode::from(number).name())], counter.get());
            }
        }
        let mut samples = out.family(&LATENCY);
        for (api, metrics) in apis().filter(|(_, metrics)| metrics.latency.count() > 0) {
            samples.histogram(&[("api", api.name())], &metrics.latency);
        }
        out.histogram(&ASIDE, &self.aside);
        out.counter(&FETCHED, &self.fetched_bytes);
        out.counter(&DROPPED, &self.dropped_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn every_api_version_and_code_has_its_counter() {
        let metrics = BrokerMetrics::default();
        for api in ApiKey::ALL {
            api.versions().iter().for_each(|version| metrics.asked(*api, version));
            let errors = ErrorCode::ALL.iter().map(|code| (*code, 2)).collect();
            metrics.answered(*api, Duration::from_millis(3), &errors);
        }
        let mut out = Exposition::new(Format::OpenMetrics);
        metrics.write(&mut out);
        let text = out.finish();
        for api in ApiKey::ALL {
            for version in api.versions().iter() {
                let line = format!("semel_requests_total{{api=\"{api}\",version=\"{version}\"}} 1\n");
                assert!(text.contains(&line), "{line}");
            }
            for code in ErrorCode::ALL.iter().filter(|code| i16::from(**code) >= FIRST_CODE) {
                let line =
                    format!("semel_request_errors_total{{api=\"{api}\",error=\"{}\"}} 2\n", code.name());
                assert!(text.contains(&line), "{line}");
            }
            let line = format!("semel_request_seconds_count{{api=\"{api}\"}} 1\n");
            assert!(text.contains(&line), "{line}");
        }
    }
}
