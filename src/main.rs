//! The `semel` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    semel::cli::run(std::env::args_os())
}
