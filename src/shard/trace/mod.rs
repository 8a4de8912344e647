//! A trace: one line of JSON for each step of core and engine, in the specification's terms (`tla/README.md`, "Traces"), so
//! that each step can be held against the specification's own operators. For tests and for those who work on semel: nothing
//! is written unless it is asked for, and nothing that is decided depends on it.

mod asked;
mod file;
mod rows;

pub(super) use file::file;

use crate::core::{Command, Decided, Drafted, Event, Reply, RowKey, View};
use crate::store::ReadView;
use crate::types::BlockNumber;
use asked::{Asked, appended};
use rows::Seen;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// Takes the lines.
pub(crate) type Sink = Box<dyn FnMut(&Value) + Send>;

/// Rows in one line; a step that concerns more is only said to have been taken. It bounds a line, and what a checker has to
/// look at in one step.
const ROWS_MAX: usize = 256;

/// Blocks whose rows are shown again with each view, until they are in the store: then the store has to show the same.
const RECENT_BLOCKS_MAX: usize = 16;

/// The number of a reply that somebody waits for, in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Awaited(u64);

/// See the module.
pub(crate) struct Trace {
    sink: Sink,
    /// How many replies were waited for so far.
    replies: u64,
    /// What the newest blocks have changed, oldest first.
    recent: VecDeque<(BlockNumber, BTreeSet<RowKey>)>,
}

impl Trace {
    pub(crate) fn new(sink: Sink) -> Trace {
        Trace { sink, replies: 0, recent: VecDeque::new() }
    }

    fn write(&mut self, line: &Value) {
        (self.sink)(line);
    }

    /// What the log has is `last` and everything before it.
    pub(crate) fn recovered(&mut self, last: BlockNumber) {
        self.recent.clear();
        self.write(&json!({"do": "Recover", "block": last.0}));
    }

    /// A command was decided on the rows of `view`, into `block` if it changes anything. The number is the reply's.
    pub(crate) fn decided(
        &mut self,
        view: &dyn View,
        command: &Command,
        decided: &Decided,
        block: Option<BlockNumber>,
    ) -> Option<Awaited> {
        let Decided { reply, drafted } = decided;
        let line = self.line(view, command, reply.as_ref(), drafted, block)?;
        self.write(&line);
        reply.as_ref().map(|_| Awaited(self.replies))
    }

    fn line(
        &mut self,
        view: &dyn View,
        command: &Command,
        reply: Option<&Reply>,
        drafted: &Drafted,
        block: Option<BlockNumber>,
    ) -> Option<Value> {
        let seen = Seen::new(view, &drafted.changes);
        let asked = Asked::new(&seen, command, reply);
        let mut keys: BTreeSet<RowKey> = asked.rows.into_iter().collect();
        let changed = drafted.changes.keys().filter(|key| rows::name(key).is_some()).cloned();
        keys.extend(changed.clone());
        if let Some(block) = block {
            self.note(block, changed);
        }
        if let Some(line) = topic_deleted(&drafted.events) {
            return Some(line);
        }
        if keys.is_empty() {
            return None;
        }
        let keys: Vec<RowKey> = keys.into_iter().collect();
        let outside = if keys.len() > ROWS_MAX {
            Some("too many rows for a line")
        } else {
            seen.overflows(&keys).then_some("more than a row has room for")
        };
        self.replies += u64::from(reply.is_some());
        Some(json!({
            "do": "Decide",
            "version": asked.version,
            "tid": asked.transactional_id.as_ref().map(|id| id.as_str()),
            "block": block.map(|block| block.0),
            "observed": drafted.observed.0,
            "reply": reply.map(|_| self.replies),
            "messages": asked.messages,
            "answers": asked.answers,
            "before": seen.all_before(&keys),
            "after": seen.all_after(&keys),
            "appended": appended(&drafted.events, asked.transactional_id.as_ref()),
            "outside": outside,
        }))
    }

    fn note(&mut self, block: BlockNumber, changed: impl Iterator<Item = RowKey>) {
        if self.recent.back().is_none_or(|(newest, _)| *newest != block) {
            self.recent.push_back((block, BTreeSet::new()));
        }
        if let Some((_, rows)) = self.recent.back_mut() {
            rows.extend(changed.filter(|key| !key.is_volatile()));
        }
        if self.recent.len() > RECENT_BLOCKS_MAX {
            self.recent.pop_front();
        }
    }

    pub(crate) fn durable(&mut self, block: BlockNumber) {
        self.write(&json!({"do": "MakeDurable", "block": block.0}));
    }

    /// Readers have a new view: what it shows of the rows that have changed lately.
    pub(crate) fn published(&mut self, view: &ReadView) {
        let recent = self.recent.iter().filter(|(block, _)| *block <= view.durable());
        let keys: BTreeSet<&RowKey> = recent.flat_map(|(_, rows)| rows).take(ROWS_MAX).collect();
        let shown = |key: &&RowKey| {
            let row = view.look(key).ok()?;
            Some(json!([rows::name(key)?, rows::content(row.as_ref())]))
        };
        let shown: Vec<Value> = keys.iter().filter_map(shown).collect();
        if !shown.is_empty() {
            self.write(&json!({"do": "Publish", "block": view.durable().0, "shown": shown}));
        }
    }

    /// The store has everything up to `block`.
    pub(crate) fn evolved(&mut self, block: BlockNumber) {
        self.recent.retain(|(recent, _)| *recent > block);
        self.write(&json!({"do": "Evolve", "block": block.0}));
    }

    pub(crate) fn released(&mut self, reply: Awaited) {
        self.write(&json!({"do": "Release", "reply": reply.0}));
    }
}

/// A test has put a row where no step has brought it.
#[cfg(test)]
pub(crate) fn moved(key: &RowKey) -> Option<Value> {
    rows::name(key).map(|name| json!({"do": "Outside", "row": name}))
}

/// Nothing is owed to the partitions of a deleted topic.
fn topic_deleted(events: &[Event]) -> Option<Value> {
    events.iter().find_map(|event| match event {
        Event::TopicDeleted { id } => Some(json!({"do": "DeleteTopic", "topic": id.to_string()})),
        _ => None,
    })
}
