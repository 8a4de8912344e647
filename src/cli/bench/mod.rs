//! `semel bench`.
use super::CliError;
/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {}
pub(super) async fn run(command: BenchCommand) -> Result<(), CliError> {
    match command {}
}
