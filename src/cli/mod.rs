//! The command line: what a person or a script types.
//!
//! Comes in: arguments, environment (`SEMEL_*`), standard input. Goes out: an exit code ([`Outcome`]), results on
//! standard output (tables on a terminal, plain lines in a pipe, JSON where it is asked for), and everything else on
//! standard error. Without a subcommand semel serves. This room must never speak the protocol itself, and never write
//! to standard output what is not a result.

mod bench;
mod broker;
mod connect;
mod consume;
mod outcome;
mod output;
mod produce;
mod topic;

pub use outcome::{CliError, Outcome};

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// The client's subcommands.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Create, list, describe, grow and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Send lines from standard input as records
    Produce(produce::ProduceArgs),
    /// Print the records of a topic
    Consume(consume::ConsumeArgs),
    /// Measure a broker: throughput, latency, CPU
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell, such as bash, zsh or fish
        shell: clap_complete::Shell,
    },
}

const AFTER_HELP: &str = "\
Without a subcommand, semel serves.

Exit codes:
  0  done
  1  failed: the message on standard error says why and what to do
  2  the arguments or the input make no sense
  3  not known whether it was done: the answer was lost";

/// Runs what the arguments say, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match root().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are printed the same way; there is nobody to tell if that fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Outcome::Usage.code()));
        }
    };
    match matches.subcommand() {
        None => broker::serve(&matches),
        Some(("serve", matches)) => broker::serve(matches),
        Some(("config", matches)) => broker::config(matches),
        Some(_) => run_client(&matches).map_or_else(|error| error.report(), |()| ExitCode::SUCCESS),
    }
}

fn root() -> Command {
    let root = Command::new("semel")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An exactly-once transactional event broker that speaks the Apache Kafka protocol over QUIC and TLS")
        .after_help(AFTER_HELP)
        .max_term_width(110);
    let root = crate::serve::add_arguments(root).subcommands(broker::commands());
    ClientCommand::augment_subcommands(root)
}

fn run_client(matches: &ArgMatches) -> Result<(), CliError> {
    let command = ClientCommand::from_arg_matches(matches)
        .map_err(|error| CliError::usage(error.to_string(), "see `semel --help`"))?;
    match command {
        ClientCommand::Topic(command) => on_runtime(topic::run(command)),
        ClientCommand::Produce(arguments) => on_runtime(produce::run(arguments)),
        ClientCommand::Consume(arguments) => on_runtime(consume::run(arguments)),
        ClientCommand::Bench(command) => on_runtime(bench::run(command)),
        ClientCommand::Completions { shell } => completions(shell),
    }
}

fn on_runtime(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root(), "semel", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_arguments_are_consistent() {
        root().debug_assert();
    }

    #[test]
    fn every_shell_gets_a_script_that_knows_the_subcommands() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut root(), "semel", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("add-partitions") && script.contains("serve"), "{shell}");
        }
    }
}
