//! Makes a failing world smaller: takes away whatever it fails without.

use super::plan::{Part, Plan};

/// The smallest world found that still fails, `fails` saying whether one does. At most one try for each part, twice over.
pub(crate) fn shrink(plan: &Plan, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut smallest = plan.clone();
    for _ in 0..2 {
        for part in Part::ALL {
            let smaller =
                smallest.without(part).filter(|smaller| !smallest.without.contains(&part) && fails(smaller));
            smallest = smaller.unwrap_or(smallest);
        }
    }
    smallest
}
