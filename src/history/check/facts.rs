//! What a history says, looked up by what the judgement asks for.

use crate::history::format::{Answer, Done, History, HistoryError, Isolation, Operation, Returned};
use std::collections::HashMap;

/// A record that somebody wrote.
pub(super) struct Write<'a> {
    pub(super) done: &'a Done,
    pub(super) record: &'a str,
    pub(super) partition: &'a str,
    /// Its transaction's place in [`Facts::txns`].
    pub(super) txn: Option<usize>,
    pub(super) key: Option<&'a str>,
    pub(super) tombstone: bool,
}

/// A transaction, as its client means it.
#[derive(Default)]
pub(super) struct Txn<'a> {
    pub(super) name: &'a str,
    pub(super) process: Option<&'a str>,
    pub(super) commits: Vec<&'a Done>,
    pub(super) aborts: Vec<&'a Done>,
    /// What was said when its outcome was asked for: line, and whether it is committed.
    pub(super) told: Vec<(usize, bool)>,
}

/// How a transaction has ended, as far as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed {
        line: usize,
    },
    Aborted {
        line: usize,
    },
    /// Nobody asked for its end.
    Open,
    /// Its end was asked for, and the answer was lost.
    Unknown,
}

impl Txn<'_> {
    pub(super) fn committed(&self) -> Option<usize> {
        let said = self.commits.iter().filter(|commit| commit.ok().is_some()).map(|commit| commit.line);
        let told = self.told.iter().filter(|(_, committed)| *committed).map(|(line, _)| *line);
        said.chain(told).next()
    }

    pub(super) fn aborted(&self) -> Option<usize> {
        let said = self.aborts.iter().filter(|abort| abort.ok().is_some()).map(|abort| abort.line);
        let told = self.told.iter().filter(|(_, committed)| !committed).map(|(line, _)| *line);
        said.chain(told).next()
    }

    pub(super) fn fate(&self) -> Fate {
        if let Some(line) = self.committed() {
            return Fate::Committed { line };
        }
        if let Some(line) = self.aborted() {
            return Fate::Aborted { line };
        }
        match self.commits.last() {
            None if self.aborts.is_empty() => Fate::Open,
            None => Fate::Unknown,
            Some(last) if self.commits.iter().all(|commit| commit.failed()) => {
                Fate::Aborted { line: last.line }
            }
            Some(_) => Fate::Unknown,
        }
    }

    /// When its commit was first asked for; none if no such call can have had an effect.
    pub(super) fn commit_called(&self) -> Option<u64> {
        self.commits.iter().filter(|commit| !commit.failed()).map(|commit| commit.called).min()
    }
}

/// Something that was read.
pub(super) struct Read<'a> {
    pub(super) done: &'a Done,
    pub(super) partition: &'a str,
    pub(super) isolation: Isolation,
    pub(super) from: i64,
    pub(super) next: i64,
    pub(super) at: u64,
    pub(super) answer: &'a Answer,
    /// The line of the answer.
    pub(super) line: usize,
}

/// Who holds a transactional id.
pub(super) struct Holder<'a> {
    pub(super) done: &'a Done,
    pub(super) transactional_id: &'a str,
    /// Producer id, epoch, when it was told.
    pub(super) identity: Option<(i64, i16, u64)>,
    pub(super) resumes: bool,
}

pub(super) struct Facts<'a> {
    pub(super) history: &'a History,
    pub(super) writes: Vec<Write<'a>>,
    pub(super) by_record: HashMap<&'a str, usize>,
    pub(super) txns: Vec<Txn<'a>>,
    pub(super) reads: Vec<Read<'a>>,
    pub(super) holders: Vec<Holder<'a>>,
    /// For each call, the holder that its process was when it was made: the place in `holders`.
    pub(super) held: Vec<Option<usize>>,
    txn_index: HashMap<&'a str, usize>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(history: &'a History) -> Result<Facts<'a>, HistoryError> {
        let mut facts = Facts {
            history,
            writes: Vec::new(),
            by_record: HashMap::new(),
            txns: Vec::new(),
            reads: Vec::new(),
            holders: Vec::new(),
            held: Vec::new(),
            txn_index: HashMap::new(),
        };
        let mut holding: HashMap<&str, usize> = HashMap::new();
        for done in &history.calls {
            if let Operation::Init { .. } = done.operation {
                holding.insert(&done.process, facts.holders.len());
            }
            facts.held.push(holding.get(done.process.as_str()).copied());
            facts.take(done)?;
        }
        Ok(facts)
    }

    fn take(&mut self, done: &'a Done) -> Result<(), HistoryError> {
        match &done.operation {
            Operation::Init { transactional_id, resumes } => {
                let identity =
                    done.ok().and_then(|(at, answer)| Some((answer.producer_id?, answer.epoch?, at)));
                let resumes = *resumes;
                self.holders.push(Holder { done, transactional_id, identity, resumes });
            }
            Operation::Produce { partition, record, txn, key, tombstone, .. } => {
                let txn = txn.as_ref().map(|txn| self.of_process(done, txn)).transpose()?;
                if self.by_record.insert(record, self.writes.len()).is_some() {
                    return Err(contradiction(done, format!("record {record:?} was written before")));
                }
                let (key, tombstone) = (key.as_deref(), *tombstone);
                self.writes.push(Write { done, record, partition, txn, key, tombstone });
            }
            Operation::SendOffsets { txn, .. } => drop(self.of_process(done, txn)?),
            Operation::Commit { txn } => {
                let index = self.txn(txn);
                if let Some(txn) = self.txns.get_mut(index) {
                    txn.commits.push(done);
                }
            }
            Operation::Abort { txn } => {
                let index = self.txn(txn);
                if let Some(txn) = self.txns.get_mut(index) {
                    txn.aborts.push(done);
                }
            }
            Operation::Outcome { txn } => {
                let told = match done.ok().and_then(|(_, answer)| answer.outcome.as_deref()) {
                    Some("committed") => true,
                    Some("aborted") => false,
                    _ => return Ok(()),
                };
                let index = self.txn(txn);
                if let Some(txn) = self.txns.get_mut(index) {
                    txn.told.push((done.line, told));
                }
            }
            Operation::Read { partition, from, isolation } => {
                if let Some((line, at, Returned::Ok(answer))) = &done.returned {
                    self.reads.push(Read {
                        done,
                        partition,
                        isolation: *isolation,
                        from: *from,
                        next: answer.next.unwrap_or(*from),
                        at: *at,
                        answer,
                        line: *line,
                    });
                }
            }
            Operation::Heartbeat { .. }
            | Operation::CommitOffsets { .. }
            | Operation::FetchOffsets { .. }
            | Operation::End { .. } => {}
        }
        Ok(())
    }

    /// The transaction of this name.
    fn txn(&mut self, name: &'a str) -> usize {
        *self.txn_index.entry(name).or_insert_with(|| {
            self.txns.push(Txn { name, ..Txn::default() });
            self.txns.len() - 1
        })
    }

    /// The same, which whoever asks is doing.
    fn of_process(&mut self, done: &'a Done, name: &'a str) -> Result<usize, HistoryError> {
        let index = self.txn(name);
        if let Some(txn) = self.txns.get_mut(index) {
            let process = *txn.process.get_or_insert(&done.process);
            if process != done.process {
                let problem = format!("transaction {name:?} is one of process {process:?}");
                return Err(contradiction(done, problem));
            }
        }
        Ok(index)
    }

    pub(super) fn txn_of(&self, write: &Write<'_>) -> Option<&Txn<'a>> {
        self.txns.get(write.txn?)
    }

    /// The transaction of this name, if anybody spoke of it.
    pub(super) fn txn_named(&self, name: &str) -> Option<&Txn<'a>> {
        self.txns.get(*self.txn_index.get(name)?)
    }

    /// Whether the first moment was before the second one by every clock.
    pub(super) fn before(&self, first: u64, second: u64) -> bool {
        first.saturating_add(self.history.skew) < second
    }

    /// Whether older records of this partition may be gone: then, how long its tombstones stay at least.
    pub(super) fn compacted(&self, partition: &str) -> Option<u64> {
        let topic = partition.rsplit_once('/').map_or(partition, |(topic, _)| topic);
        self.history.compacted.get(topic).copied()
    }

    /// The line of a crash between two moments.
    pub(super) fn crash_between(&self, from: u64, to: u64) -> Option<usize> {
        let crashes = &self.history.crashes;
        crashes.iter().find(|(_, at)| (from..=to).contains(at)).map(|(line, _)| *line)
    }
}

fn contradiction(done: &Done, problem: String) -> HistoryError {
    HistoryError::Line { line: done.line, problem }
}
