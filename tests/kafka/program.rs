//! A program that says what it does, one line of JSON each, and is told what to do, a line each.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::process::{Heard, Process};

/// Long enough for members of a group that were killed to be given up, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(120);

pub struct Program {
    process: Process,
}

impl Program {
    pub fn start(name: &str, command: Command) -> Program {
        Program { process: Process::spawn(name, command, &Arc::new(Heard::default())) }
    }

    /// The next thing that it says of which `wanted` makes something; the rest is passed over.
    pub fn until<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let line = self.process.line(DEADLINE.saturating_sub(begun.elapsed()));
            // Libraries write to standard output too.
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(found) = wanted(&said) {
                return found;
            }
        }
    }

    pub fn say(&mut self, line: &str) {
        self.process.say(line);
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Waits for its end; true if that was in order.
    pub fn ends(mut self) -> bool {
        self.process.wait(DEADLINE).is_some_and(|status| status.success())
    }
}
