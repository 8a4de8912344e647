//! How things end: each transaction in one way, each call with an answer, and in the end nothing holds readers back.

use super::Verdict;
use super::facts::Facts;
use crate::history::format::Operation;
use crate::history::property::Property;
use std::collections::HashSet;

pub(super) fn judge(facts: &Facts<'_>, verdict: &mut Verdict) {
    for txn in &facts.txns {
        let (committed, aborted) = (txn.committed(), txn.aborted());
        if committed.is_some() || aborted.is_some() {
            let one = committed.is_none() || aborted.is_none();
            verdict.holds_if(one, Property::NoTornTxn, committed.into_iter().chain(aborted), || {
                format!("transaction {:?} was told to be committed, and to be aborted", txn.name)
            });
        }
    }
    let Some((settled_line, settled)) = facts.history.settled else { return };
    let gone: HashSet<&str> = facts.history.gone.iter().map(String::as_str).collect();
    for done in &facts.history.calls {
        let answered = done.returned.is_some() || gone.contains(done.process.as_str());
        verdict.holds_if(answered, Property::NoHang, [done.line, settled_line], || {
            format!("process {:?} still waits for an answer", done.process)
        });
        let (Operation::Read { partition, .. } | Operation::End { partition }) = &done.operation else {
            continue;
        };
        let Some((_, answer)) = done.ok().filter(|_| facts.before(settled, done.called)) else { continue };
        let Some((high, stable)) = answer.high_watermark.zip(answer.last_stable) else { continue };
        verdict.holds_if(stable >= high, Property::LsoAdvances, [settled_line, done.line], || {
            format!("all has settled, and readers of {partition} are held back at {stable}, below {high}")
        });
    }
}
