//! Commands that wait for rows: each holds up its own connection, so that the order within it is kept, and nobody else.

use super::handle::Ask;
use crate::core::RowKey;
use crate::types::{ConnectionId, HashMap};
use std::collections::VecDeque;

/// Commands that wait, by connection. Bounded by the requests that connections may have in flight.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: HashMap<ConnectionId, VecDeque<Ask>>,
    /// Which connections' first commands wait for a row.
    by_row: HashMap<RowKey, Vec<ConnectionId>>,
    /// How many rows a connection's first command still waits for.
    missing: HashMap<ConnectionId, usize>,
    /// Connections whose first command may be decided again.
    ready: VecDeque<ConnectionId>,
}

impl Waiting {
    /// Queues a command behind those of its connection that wait; gives it back if there are none.
    pub(super) fn behind(&mut self, ask: Ask) -> Option<Ask> {
        match self.queues.get_mut(&ask.connection) {
            Some(queue) => {
                queue.push_back(ask);
                None
            }
            None => Some(ask),
        }
    }

    /// The connection's first command waits for `rows`.
    pub(super) fn wait(&mut self, ask: Ask, rows: &[RowKey]) {
        for row in rows {
            self.by_row.entry(row.clone()).or_default().push(ask.connection);
        }
        self.missing.insert(ask.connection, rows.len());
        self.queues.entry(ask.connection).or_default().push_front(ask);
    }

    /// The command is the first of its connection again, and can be decided at once.
    pub(super) fn retry(&mut self, ask: Ask) {
        self.ready.push_front(ask.connection);
        self.queues.entry(ask.connection).or_default().push_front(ask);
    }

    /// A row is known now.
    pub(super) fn known(&mut self, row: &RowKey) {
        for connection in self.by_row.remove(row).unwrap_or_default() {
            if let Some(missing) = self.missing.get_mut(&connection) {
                *missing = missing.saturating_sub(1);
                if *missing == 0 {
                    self.missing.remove(&connection);
                    self.ready.push_back(connection);
                }
            }
        }
    }

    /// The next command that may be decided again. It is then decided ([`done`](Waiting::done)), or waits once more
    /// ([`wait`](Waiting::wait), [`retry`](Waiting::retry)).
    pub(super) fn next(&mut self) -> Option<Ask> {
        while let Some(connection) = self.ready.pop_front() {
            if let Some(ask) = self.queues.get_mut(&connection).and_then(VecDeque::pop_front) {
                return Some(ask);
            }
        }
        None
    }

    /// The connection's first command has been decided: the one behind it comes next.
    pub(super) fn done(&mut self, connection: ConnectionId) {
        match self.queues.get(&connection).map(VecDeque::is_empty) {
            Some(true) => drop(self.queues.remove(&connection)),
            Some(false) => self.ready.push_back(connection),
            None => {}
        }
    }

    /// Whether a command may be decided again.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}
