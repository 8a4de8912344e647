//! The form of a history (`spec/history.md`): one JSON object a line.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Read as _};

/// The format's version, which the first line names.
pub const VERSION: u32 = 1;
/// Bytes of one line: more than any poll returns, and little enough that a file of something else is refused early.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A partition, as `topic/index`.
pub type PartitionName = String;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line.
    History {
        /// The format's version.
        version: u32,
        /// How far the clocks of those who write into it may be apart, in microseconds.
        #[serde(default)]
        clock_skew_us: u64,
    },
    /// A topic whose older records may go: those of which a newer one has the same key, and those without a key.
    Compacted {
        /// Its name.
        topic: String,
        /// How long tombstones stay at least, in microseconds.
        #[serde(default)]
        tombstones_kept_us: u64,
    },
    /// A topic that accepts each idempotency key once within a window.
    Keyed {
        /// Its name.
        topic: String,
        /// How long the window is, in microseconds.
        window_us: u64,
    },
    /// Somebody asks for something.
    Call(Call),
    /// The answer.
    Return {
        /// Which call's.
        call: u64,
        /// When, in microseconds.
        at: u64,
        /// What it says.
        #[serde(flatten)]
        returned: Returned,
    },
    /// A process is gone: its calls without an answer never get one, and may have taken effect.
    Gone {
        /// Whose calls.
        process: String,
    },
    /// The broker was killed, or lost its power.
    Crash {
        /// When, in microseconds.
        at: u64,
    },
    /// Everybody has ended what was begun, deadlines have passed: from here on nothing may hold readers back.
    Settled {
        /// When, in microseconds.
        at: u64,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Somebody asks for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// A number of its own.
    pub call: u64,
    /// Who: one client, which asks in this order.
    pub process: String,
    /// When, in microseconds.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// Become the holder of a transactional id. Answer: `producer_id`, `epoch`.
    Init {
        /// Which.
        transactional_id: String,
        /// Whether the holder's own identity was given: then it may be the answer again.
        #[serde(default)]
        resumes: bool,
    },
    /// Write a record. Answer: `offset`.
    Produce {
        /// Where.
        partition: PartitionName,
        /// A name that no other record of the history has.
        record: String,
        /// Its key: in a compacted topic, the newest record of each key stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Whether it says that its key is gone: in a compacted topic it goes, too, after a while.
        #[serde(default, skip_serializing_if = "is_false")]
        tombstone: bool,
        /// Its idempotency key: the topic accepts each once within a window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
        /// The transaction that it is part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txn: Option<String>,
    },
    /// Let a group's offsets take effect with a transaction.
    SendOffsets {
        /// The transaction.
        txn: String,
        /// The group.
        group: String,
        /// By partition, the next offset to read.
        offsets: BTreeMap<PartitionName, i64>,
    },
    /// End a transaction.
    Commit {
        /// A name that no other transaction of the history has.
        txn: String,
    },
    /// End a transaction.
    Abort {
        /// As above.
        txn: String,
    },
    /// Ask how a transaction ended. Answer: `outcome`.
    Outcome {
        /// As above.
        txn: String,
    },
    /// Join a group of the consumer protocol, go on in it, or leave it. Answer: `member_epoch`, and `assigned` if it is news; or
    /// `fenced`.
    Heartbeat {
        /// The group.
        group: String,
        /// Whose heartbeat it is.
        member: String,
        /// The member's epoch: 0 to join, −1 to leave, −2 to be away.
        epoch: i32,
        /// Its instance id, if it is a static member.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        /// The partitions that it says it owns, if it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owned: Option<BTreeSet<PartitionName>>,
    },
    /// Commit a group's offsets outside of a transaction.
    CommitOffsets {
        /// The group.
        group: String,
        /// Which member of the consumer protocol commits, if one does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<String>,
        /// The epoch that this member says it is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member_epoch: Option<i32>,
        /// By partition, the next offset to read.
        offsets: BTreeMap<PartitionName, i64>,
    },
    /// Ask for a group's committed offsets. Answer: `offsets`.
    FetchOffsets {
        /// The group.
        group: String,
    },
    /// Read. Answer: `records` and `next`; also, if known, `high_watermark` and `last_stable`.
    Read {
        /// Where.
        partition: PartitionName,
        /// From which offset.
        from: i64,
        /// Of which records.
        isolation: Isolation,
    },
    /// Ask where a partition ends. Answer: `high_watermark`, `last_stable`, one of them or both.
    End {
        /// Which.
        partition: PartitionName,
    },
}

/// Which records a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// All that are durable.
    ReadUncommitted,
    /// Those of committed transactions, and those without one.
    ReadCommitted,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Returned {
    /// It is done.
    Ok(Answer),
    /// It is not done, and never will be.
    Failed,
    /// It may be done, now or later.
    Unknown,
}

/// What an answer says; which fields there are depends on what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Where a record lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Who the holder is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<i64>,
    /// Which of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i16>,
    /// How a transaction ended: `committed`, `aborted`; anything else says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What was read: offset and name of each record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<(i64, String)>,
    /// Where reading goes on: everything from `from` up to here that the reader may see is in `records`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
    /// The end of what is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_watermark: Option<i64>,
    /// The end of what is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_stable: Option<i64>,
    /// A group's offsets; a partition without one is not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<PartitionName, i64>,
    /// The epoch that a member is in; after it has left, what it sent to leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_epoch: Option<i32>,
    /// All that is assigned to a member, if it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned: Option<BTreeSet<PartitionName>>,
    /// Whether a member is told that it is none, or not in this epoch: it has nothing any more.
    #[serde(skip_serializing_if = "is_false")]
    pub fenced: bool,
}

/// Why a history cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be read.
    #[error("the history cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not of the form.
    #[error("line {line}: {problem} (the form is described in spec/history.md)")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl HistoryError {
    fn line(line: usize, problem: impl Into<String>) -> HistoryError {
        HistoryError::Line { line, problem: problem.into() }
    }
}

/// A call, its answer, and where they stand.
#[derive(Clone, Debug)]
pub(super) struct Done {
    /// The line of the call.
    pub(super) line: usize,
    pub(super) process: String,
    pub(super) called: u64,
    pub(super) operation: Operation,
    /// The line of the answer, when it came, and what it says.
    pub(super) returned: Option<(usize, u64, Returned)>,
}

impl Done {
    /// What it was answered, if it was done for sure.
    pub(super) fn ok(&self) -> Option<(u64, &Answer)> {
        match &self.returned {
            Some((_, at, Returned::Ok(answer))) => Some((*at, answer)),
            _ => None,
        }
    }

    /// Whether it has not been done for sure, and never will be.
    pub(super) fn failed(&self) -> bool {
        matches!(self.returned, Some((_, _, Returned::Failed)))
    }
}

/// A history, calls joined with their answers.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(super) skew: u64,
    /// Topics, and how long their tombstones stay.
    pub(super) compacted: HashMap<String, u64>,
    /// Topics, and for how long they accept a key only once.
    pub(super) key_windows: HashMap<String, u64>,
    /// In the order of the lines.
    pub(super) calls: Vec<Done>,
    pub(super) gone: Vec<String>,
    /// Line and time.
    pub(super) crashes: Vec<(usize, u64)>,
    pub(super) settled: Option<(usize, u64)>,
}

impl History {
    /// Reads a history, a line at a time.
    ///
    /// # Errors
    /// The first line that is not of the form, by its number.
    pub fn read(mut input: impl BufRead) -> Result<History, HistoryError> {
        let (mut reading, mut text) = (Reading::default(), Vec::new());
        for line in 1.. {
            text.clear();
            if input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text)? == 0 {
                break;
            }
            if text.len() > LINE_BYTES_MAX {
                return Err(HistoryError::line(line, format!("it is longer than {LINE_BYTES_MAX} bytes")));
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let event =
                serde_json::from_slice(&text).map_err(|error| HistoryError::line(line, error.to_string()))?;
            reading.take(line, event)?;
        }
        if !reading.begun {
            return Err(HistoryError::line(1, "it has no line; the first one names the version"));
        }
        Ok(reading.history)
    }

    /// Joins the lines that somebody has at hand.
    ///
    /// # Errors
    /// As for [`History::read`].
    pub fn of(events: impl IntoIterator<Item = Event>) -> Result<History, HistoryError> {
        let mut reading = Reading::default();
        for (index, event) in events.into_iter().enumerate() {
            reading.take(index + 1, event)?;
        }
        Ok(reading.history)
    }

    /// How many calls there are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }
}

#[derive(Default)]
struct Reading {
    history: History,
    begun: bool,
    /// Calls by their numbers.
    index: HashMap<u64, usize>,
}

impl Reading {
    fn take(&mut self, line: usize, event: Event) -> Result<(), HistoryError> {
        match event {
            Event::History { version, clock_skew_us } if !self.begun => {
                if version != VERSION {
                    let problem = format!("version {version} is not known, only {VERSION}");
                    return Err(HistoryError::line(line, problem));
                }
                self.history.skew = clock_skew_us;
                self.begun = true;
                return Ok(());
            }
            Event::History { .. } => return Err(HistoryError::line(line, "a second beginning")),
            _ if !self.begun => {
                let first = r#"{"event":"history","version":1}"#;
                return Err(HistoryError::line(line, format!("the first line is not {first}")));
            }
            Event::Compacted { topic, tombstones_kept_us } => {
                self.history.compacted.insert(topic, tombstones_kept_us);
            }
            Event::Keyed { topic, window_us } => {
                self.history.key_windows.insert(topic, window_us);
            }
            Event::Gone { process } => self.history.gone.push(process),
            Event::Crash { at } => self.history.crashes.push((line, at)),
            Event::Settled { at } => self.history.settled = Some((line, at)),
            Event::Call(call) => self.called(line, call)?,
            Event::Return { call, at, returned } => self.returned(line, call, at, returned)?,
        }
        Ok(())
    }

    fn called(&mut self, line: usize, call: Call) -> Result<(), HistoryError> {
        if self.index.insert(call.call, self.history.calls.len()).is_some() {
            return Err(HistoryError::line(line, format!("call {} was made before", call.call)));
        }
        let Call { process, at, operation, .. } = call;
        self.history.calls.push(Done { line, process, called: at, operation, returned: None });
        Ok(())
    }

    fn returned(&mut self, line: usize, call: u64, at: u64, returned: Returned) -> Result<(), HistoryError> {
        let done = self.index.get(&call).and_then(|index| self.history.calls.get_mut(*index));
        let Some(done) = done else {
            return Err(HistoryError::line(line, format!("call {call} was not made before")));
        };
        if done.returned.is_some() {
            return Err(HistoryError::line(line, format!("call {call} was answered before")));
        }
        if at < done.called {
            return Err(HistoryError::line(line, format!("call {call} was made later than that")));
        }
        if let Returned::Ok(answer) = &returned
            && let Some(missing) = missing(&done.operation, answer)
        {
            return Err(HistoryError::line(line, format!("the answer has no {missing:?}")));
        }
        done.returned = Some((line, at, returned));
        Ok(())
    }
}

/// What an answer must say and does not.
fn missing(operation: &Operation, answer: &Answer) -> Option<&'static str> {
    match operation {
        Operation::Init { .. } if answer.producer_id.is_none() => Some("producer_id"),
        Operation::Init { .. } if answer.epoch.is_none() => Some("epoch"),
        Operation::Outcome { .. } if answer.outcome.is_none() => Some("outcome"),
        Operation::Read { .. } if answer.next.is_none() => Some("next"),
        Operation::Heartbeat { .. } if answer.member_epoch.is_none() && !answer.fenced => {
            Some("member_epoch")
        }
        Operation::End { .. } if answer.high_watermark.is_none() && answer.last_stable.is_none() => {
            Some("high_watermark")
        }
        _ => None,
    }
}
