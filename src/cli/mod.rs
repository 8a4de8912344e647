//! The command line: what a person or a script types.
//!
//! Comes in: arguments. Goes out: an exit code (0 done, 1 failed, 2 wrong arguments), results on standard output, and
//! everything else on standard error. Without a subcommand semel serves.

mod broker;

use clap::Command;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs what the arguments say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = match root().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match matches.subcommand() {
        Some(("config", matches)) => broker::config(matches),
        Some((_, matches)) => broker::serve(matches),
        None => broker::serve(&matches),
    }
}

fn root() -> Command {
    let root = Command::new("semel")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An exactly-once transactional event broker that speaks the Apache Kafka protocol over QUIC and TLS")
        .after_help("Without a subcommand, semel serves.");
    crate::serve::add_arguments(root).subcommands(broker::commands())
}
