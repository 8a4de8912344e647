//! The judgement: what the history says is gathered once ([`Facts`]), then each file here looks at it from one side.

mod compaction;
mod ends;
mod facts;
mod fences;
mod keys;
mod members;
mod offsets;
mod reads;
mod watermarks;

use super::format::{History, HistoryError};
use super::property::Property;
use facts::Facts;
use serde::Serialize;
use std::collections::BTreeMap;

/// Findings told of one property: what one defect breaks a thousand times is seen in the first few.
const FINDINGS_PER_PROPERTY_MAX: u64 = 10;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub property: Property,
    /// What happened.
    pub says: String,
    /// The lines of the history that show it, from 1.
    pub lines: Vec<usize>,
}

/// What a history shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What is wrong, the first few of each property.
    pub findings: Vec<Finding>,
    /// How often each property was broken.
    pub broken: BTreeMap<Property, u64>,
    /// How often the history spoke of each property: one that is not here has not been looked at.
    pub looked_at: BTreeMap<Property, u64>,
}

impl Verdict {
    /// Whether nothing is wrong. That says something only of what was looked at.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// One thing that has to be so.
    fn holds_if(
        &mut self,
        so: bool,
        property: Property,
        lines: impl IntoIterator<Item = usize>,
        says: impl FnOnce() -> String,
    ) {
        *self.looked_at.entry(property).or_default() += 1;
        if so {
            return;
        }
        let broken = self.broken.entry(property).or_default();
        *broken += 1;
        if *broken <= FINDINGS_PER_PROPERTY_MAX {
            let mut lines: Vec<_> = lines.into_iter().collect();
            lines.sort_unstable();
            lines.dedup();
            self.findings.push(Finding { property, says: says(), lines });
        }
    }
}

/// Judges a history.
///
/// # Errors
/// Where it contradicts itself: a record that is written twice under one name, a transaction of two processes.
pub fn check(history: &History) -> Result<Verdict, HistoryError> {
    let facts = Facts::of(history)?;
    let mut verdict = Verdict::default();
    reads::judge(&facts, &mut verdict);
    fences::judge(&facts, &mut verdict);
    offsets::judge(&facts, &mut verdict);
    keys::judge(&facts, &mut verdict);
    members::judge(&facts, &mut verdict);
    watermarks::judge(&facts, &mut verdict);
    ends::judge(&facts, &mut verdict);
    verdict.findings.sort_by(|one, other| (one.property, &one.lines).cmp(&(other.property, &other.lines)));
    Ok(verdict)
}
