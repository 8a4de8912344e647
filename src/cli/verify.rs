//! `semel verify`: whether a data directory or a backup is whole.

use super::CliError;
use super::log::verify::{check, report};
use super::log::{Where, is_json};
use super::output::Progress;
use super::topic::TableFormat;
use crate::shard::{CheckedRows, Manifest, check_rows};
use clap::Args;
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;

/// `semel verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The data directory of a broker that does not run, or a backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where the rows are made anew, to be compared; as much space as they take is needed twice
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// How to write it [default: text on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
}

pub(super) fn run(arguments: &VerifyArgs) -> Result<(), CliError> {
    let json = is_json(arguments.output);
    let manifest = match Manifest::is_in(&arguments.dir) {
        true => Some(Manifest::open(&arguments.dir)?),
        false => None,
    };
    let opened = Where::new(arguments.dir.clone()).open()?;
    let mut checked = check(&opened.files, &mut io::stdout().lock(), json)?;
    report(&checked.segments, json)?;
    let total = opened.files.files().iter().map(|file| u64::from(file.length)).sum();
    let progress = Progress::of_bytes(total);
    let scratch = Scratch::new(&arguments.scratch)?;
    let rows = check_rows(&arguments.dir, &scratch.0, |bytes| progress.reach(bytes))?;
    drop(progress);
    let mut problems = rows.problems.clone();
    if let Some(manifest) = &manifest {
        problems.extend(against(manifest, &rows));
    }
    let mut out = io::stdout().lock();
    for problem in &problems {
        let line = if json { json!({ "problem": problem }).to_string() } else { problem.clone() };
        writeln!(out, "{line}")?;
    }
    checked.problems += problems.len() as u64;
    let (last_block, transactions, partitions) =
        (checked.last_block, checked.transactions, rows.partitions.len());
    if json {
        let line = json!({
            "last_block": last_block,
            "transactions_whole": transactions,
            "partitions": partitions,
            "problems": checked.problems,
        });
        writeln!(out, "{line}")?;
    } else if checked.problems == 0 {
        writeln!(
            out,
            "whole up to block {last_block}: {transactions} transactions that ended in it, the rows of {partitions} partitions"
        )?;
    }
    checked.verdict()
}

/// What a backup's manifest says otherwise.
fn against(manifest: &Manifest, rows: &CheckedRows) -> Vec<String> {
    let mut problems = Vec::new();
    if manifest.last_block != rows.last_block {
        problems.push(format!(
            "the backup is of block {}, and its log ends at block {}",
            manifest.last_block, rows.last_block
        ));
    }
    if manifest.partitions != rows.partitions {
        problems.push("its partitions do not begin and end where the manifest says".to_owned());
    }
    problems
}

/// A directory that goes when it is done with.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &std::path::Path) -> io::Result<Scratch> {
        let dir = parent.join(format!("semel-verify-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
