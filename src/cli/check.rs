//! `semel check`.

use super::CliError;
use super::output::{number, print_table, text};
use super::topic::{TableFormat, is_json};
use crate::history::{History, HistoryError, Property, Verdict, check};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

/// `semel check`.
#[derive(Debug, Args)]
#[command(after_help = "The form of a history, and what is looked for, stand in spec/history.md.")]
pub struct CheckArgs {
    /// The history: one line of JSON for each call and each answer; - for standard input
    history: PathBuf,
    /// How to write it [default: tables on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
}

pub(super) fn run(arguments: &CheckArgs) -> Result<(), CliError> {
    let of_input = arguments.history == Path::new("-");
    let refused = |error: HistoryError| {
        let advice = "mend the history; spec/history.md describes its form";
        CliError::usage(format!("{}: {error}", arguments.history.display()), advice)
    };
    let history = if of_input {
        History::read(io::stdin().lock()).map_err(refused)?
    } else {
        let file = File::open(&arguments.history).map_err(|error| refused(error.into()))?;
        History::read(BufReader::new(file)).map_err(refused)?
    };
    let verdict = check(&history).map_err(refused)?;
    if is_json(arguments.output) {
        print_json(&history, &verdict)?;
    } else {
        print(&history, &verdict)?;
        if !of_input {
            quote(&arguments.history, &verdict)?;
        }
    }
    if verdict.holds() {
        return Ok(());
    }
    let names: Vec<_> = verdict.broken.keys().map(|property| property.name()).collect();
    Err(CliError::Broken(names.join(", ")))
}

fn state(verdict: &Verdict, property: Property) -> &'static str {
    match (verdict.broken.contains_key(&property), verdict.looked_at.contains_key(&property)) {
        (true, _) => "broken",
        (false, true) => "holds",
        (false, false) => "not looked at",
    }
}

fn print_json(history: &History, verdict: &Verdict) -> io::Result<()> {
    let properties: Vec<_> = Property::ALL
        .into_iter()
        .map(|property| {
            json!({
                "property": property.name(),
                "state": state(verdict, property),
                "looked_at": verdict.looked_at.get(&property).copied().unwrap_or(0),
                "broken": verdict.broken.get(&property).copied().unwrap_or(0),
            })
        })
        .collect();
    let whole = json!({
        "calls": history.calls(),
        "holds": verdict.holds(),
        "properties": properties,
        "findings": verdict.findings,
    });
    writeln!(io::stdout().lock(), "{whole}")
}

fn print(history: &History, verdict: &Verdict) -> io::Result<()> {
    let count = |of: Option<&u64>| of.copied().unwrap_or(0).to_string();
    let rows: Vec<_> = Property::ALL
        .into_iter()
        .map(|property| {
            vec![
                property.name().to_owned(),
                state(verdict, property).to_owned(),
                count(verdict.looked_at.get(&property)),
                count(verdict.broken.get(&property)),
            ]
        })
        .collect();
    print_table(&[text("property"), text("state"), number("looked at"), number("broken")], &rows)?;
    writeln!(io::stdout().lock(), "{} calls", history.calls())
}

/// Each finding with the lines that show it.
fn quote(path: &Path, verdict: &Verdict) -> io::Result<()> {
    let wanted: BTreeSet<usize> = verdict.findings.iter().flat_map(|finding| finding.lines.clone()).collect();
    let mut lines = std::collections::BTreeMap::new();
    let last = wanted.last().copied().unwrap_or(0);
    for (line, text) in (1..=last).zip(BufReader::new(File::open(path)?).lines()) {
        if wanted.contains(&line) {
            lines.insert(line, shortened(&text?));
        }
    }
    let mut out = io::stdout().lock();
    for finding in &verdict.findings {
        writeln!(out, "\n{}: {}", finding.property.name(), finding.says)?;
        for line in &finding.lines {
            writeln!(out, "  {line:>6}  {}", lines.get(line).map_or("", String::as_str))?;
        }
    }
    Ok(())
}

/// A read may return thousands of records: the beginning says which it was.
fn shortened(line: &str) -> String {
    const LETTERS_MAX: usize = 300;
    match line.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}
