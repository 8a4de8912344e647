//! What a judge has found: the first property that does not hold.

use std::fmt;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its name, or the number of the rule (`spec/guarantees.md`, `spec/transactions.md`, `spec/groups.md`).
    pub(crate) property: &'static str,
    /// What of it.
    pub(crate) how: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.how)
    }
}

/// Keeps the first property that does not hold: what follows may follow from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    first: Option<Broken>,
}

impl Findings {
    pub(crate) fn holds(&mut self, condition: bool, property: &'static str, how: &'static str) {
        if !condition && self.first.is_none() {
            self.first = Some(Broken { property, how });
        }
    }

    pub(crate) fn verdict(&self) -> Result<(), Broken> {
        self.first.clone().map_or(Ok(()), Err)
    }
}
