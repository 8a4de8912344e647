//! Metrics: what every room counts while it serves, and the text in which it is told.
//!
//! A room has one structure of [`Counter`]s, [`Gauge`]s and [`Histogram`]s, declares a [`Family`] for each thing that it
//! tells, and writes them all when it is asked ([`Exposition`]). To count is one atomic addition, without a lock and without
//! memory; per request, batch or block, never per record. This room knows nothing of what is counted, and must never make
//! anybody wait. All names, types and units: `spec/metrics.md`.

mod counter;
mod exposition;
mod histogram;

pub use counter::{Counter, Gauge};
pub use exposition::{Exposition, Family, Format, Kind, Samples, Unit};
pub use histogram::{COUNTS, Histogram, SIZES, Scale, TIMES};
