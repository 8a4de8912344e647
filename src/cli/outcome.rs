//! How a command ends: exit codes, and errors as a person reads them.

use crate::client::{ClientError, CommitError, ProduceError, TransactionError};
use crate::log::{DiskError, InspectError, LockError};
use crate::serve::{ServeError, SettingsError};
use crate::wire::batch::BatchError;
use std::io::{self, Write};
use std::process::ExitCode;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not done.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// Whether it was done is not known.
    Unknown,
}

impl Outcome {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::Unknown => 3,
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The client says so.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// A record is not known to be stored.
    #[error("{0}")]
    Produce(#[from] ProduceError),
    /// A step of a transaction failed.
    #[error("{0}")]
    Transaction(#[from] TransactionError),
    /// A commit is not known to have happened.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// The broker could not start, or ended by itself.
    #[error("{0}")]
    Serve(#[from] ServeError),
    /// The broker's settings cannot be read.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// Another process has the data directory.
    #[error("{0}")]
    Lock(#[from] LockError),
    /// A log's files cannot be inspected.
    #[error("{0}")]
    Inspect(#[from] InspectError),
    /// The disk refused.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// A record batch cannot be opened.
    #[error("a stored record batch cannot be opened: {0}")]
    Batch(#[from] BatchError),
    /// Parts of a log are not what was written.
    #[error("the log is damaged in {problems} places")]
    Damaged {
        /// How many.
        problems: u64,
    },
    /// A history shows that a promise was broken.
    #[error("{0} does not hold")]
    Broken(String),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// As things stand it would do harm.
    #[error("{problem}")]
    Refused {
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// The arguments make no sense together, or the input none.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: String,
    },
}

impl CliError {
    pub(super) fn usage(problem: impl Into<String>, advice: impl Into<String>) -> CliError {
        CliError::Usage { problem: problem.into(), advice: advice.into() }
    }

    fn outcome(&self) -> Outcome {
        match self {
            CliError::Usage { .. } => Outcome::Usage,
            CliError::Client(ClientError::OutcomeUnknown { .. })
            | CliError::Commit(CommitError::Unknown(_)) => Outcome::Unknown,
            CliError::Produce(error) if error.may_be_stored() => Outcome::Unknown,
            _ => Outcome::Failed,
        }
    }

    fn advice(&self) -> String {
        match self {
            CliError::Client(error) => error.advice(),
            CliError::Produce(error) => error.advice(),
            CliError::Transaction(error) => error.advice(),
            CliError::Commit(error) => error.advice(),
            CliError::Serve(_) | CliError::Settings(_) | CliError::Lock(_) | CliError::Disk(_) => {
                String::new()
            }
            CliError::Inspect(_) => "name a broker's data directory, or its `log` directory".to_owned(),
            CliError::Batch(_) => "export the batches as they are with `--format batches`".to_owned(),
            CliError::Damaged { .. } => {
                "keep the files; `semel log export` writes what is intact of a partition".to_owned()
            }
            CliError::Broken(_) => {
                "the lines that show it are named above; spec/guarantees.md says what is promised".to_owned()
            }
            CliError::Io(_) => "check standard input and output".to_owned(),
            CliError::Refused { advice, .. } | CliError::Usage { advice, .. } => advice.clone(),
        }
    }

    /// Says it on standard error. A reader that has gone away (`semel consume | head`) is not an error.
    pub(super) fn report(&self) -> ExitCode {
        if matches!(self, CliError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        // If standard error is gone too, the exit code has to do.
        let advice = self.advice();
        let hint = if advice.is_empty() { String::new() } else { format!("\n  hint: {advice}") };
        let _ = writeln!(io::stderr(), "error: {self}{hint}");
        ExitCode::from(self.outcome().code())
    }
}
