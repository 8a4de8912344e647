//! The `semel` command's words: what a person types becomes calls of the client, and what comes back becomes text.
//!
//! Comes in: arguments, environment (`SEMEL_*`), standard input. Goes out: tables and colours on a terminal, plain lines
//! in a pipe, JSON where it is asked for; results on standard output, everything else on standard error; an exit code
//! ([`Outcome`]). Every error says what happened and what to do. This room must never speak the protocol itself, and
//! never write to standard output what is not a result.

mod backup;
mod bench;
mod broker;
mod check;
mod connect;
mod consume;
mod consume_group;
mod group;
mod group_offsets;
mod log;
mod outcome;
mod output;
mod produce;
mod spec;
mod status;
mod topic;
mod topic_settings;
mod txn;
mod verify;

pub use outcome::{CliError, Outcome};

use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the message on standard error says why and what to do
  2  the arguments make no sense
  3  not known whether it was done: the answer was lost";

/// An exactly-once event broker that speaks the Apache Kafka protocol over QUIC and TLS.
#[derive(Debug, Parser)]
#[command(name = "semel", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or Ctrl-C; so does semel without a subcommand
    Serve(broker::SettingsArgs),
    /// Print the effective settings of the broker and where each comes from
    Config(broker::SettingsArgs),
    /// Show on one screen whether a broker serves, and what is wrong with it
    Status(status::StatusArgs),
    /// Create, list, describe, configure, grow and delete topics; delete records
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List, describe and end transactions; show how they ended and what they hold back
    #[command(subcommand)]
    Txn(txn::TxnCommand),
    /// List and describe consumer groups; move, forget and delete what they have committed
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Send lines from standard input as records
    Produce(produce::ProduceArgs),
    /// Print the records of a topic, or of several as a member of a group
    Consume(consume::ConsumeArgs),
    /// Have the broker take a backup, while it serves
    Backup(backup::BackupArgs),
    /// Make a data directory of a backup, and say where its partitions end
    Restore(backup::RestoreArgs),
    /// Check a data directory or a backup: every checksum, every transaction, the rows against the log
    Verify(verify::VerifyArgs),
    /// Verify, inspect and export the log of a broker that does not run
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Judge what clients saw against what is promised: a history of their calls and the answers
    Check(check::CheckArgs),
    /// List the properties that semel is built to keep, and where each is specified, checked and shown to bite
    Spec(spec::SpecArgs),
    /// Measure a broker: throughput, latency, CPU
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell, such as bash, zsh or fish
        shell: clap_complete::Shell,
    },
}

/// Does what `arguments`, the program's name first, ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refused) => {
            // Help and version are printed the same way; there is nobody to tell if that fails.
            let _ = refused.print();
            return ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(Outcome::Usage.code()));
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn dispatch(command: Option<Command>) -> Result<(), CliError> {
    match command {
        None => broker::serve(&broker::SettingsArgs::without_flags()),
        Some(Command::Serve(settings)) => broker::serve(&settings),
        Some(Command::Config(settings)) => broker::config(&settings),
        Some(Command::Status(arguments)) => on_runtime(status::run(arguments)),
        Some(Command::Topic(command)) => on_runtime(topic::run(command)),
        Some(Command::Txn(command)) => on_runtime(txn::run(command)),
        Some(Command::Group(command)) => on_runtime(group::run(command)),
        Some(Command::Produce(arguments)) => on_runtime(produce::run(arguments)),
        Some(Command::Consume(arguments)) => on_runtime(consume::run(arguments)),
        Some(Command::Backup(arguments)) => on_runtime(backup::backup(arguments)),
        Some(Command::Restore(arguments)) => backup::restore_backup(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Log(command)) => log::run(command),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Spec(arguments)) => spec::run(&arguments),
        Some(Command::Bench(command)) => on_runtime(bench::run(command)),
        Some(Command::Completions { shell }) => completions(shell),
    }
}

fn on_runtime(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "semel", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_gets_a_script_that_knows_the_subcommands() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "semel", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("add-partitions") && script.contains("consume"), "{shell}");
        }
    }
}
