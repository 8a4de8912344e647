//! `semel spec`: the properties that semel is built to keep, and where each is checked; `spec/traceability.md`, which a test
//! keeps true, is part of the program.

use super::CliError;
use super::output::{print_table, text};
use super::topic::{TableFormat, is_json};
use clap::Args;
use serde_json::{Value, json};
use std::io::{self, Write as _};

const TRACEABILITY: &str = include_str!("../../spec/traceability.md");

/// `semel spec`.
#[derive(Debug, Args)]
#[command(after_help = "The formal specification is in the folder tla/ of semel's sources.")]
pub struct SpecArgs {
    /// All that is known of this property, such as NoLostWrite
    property: Option<String>,
    /// How to write it [default: text on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
}

/// A property, with what is said of it: what kind of thing, and what.
struct Property {
    name: &'static str,
    said: Vec<(&'static str, &'static str)>,
}

impl Property {
    fn get(&self, what: &str) -> &'static str {
        self.said.iter().find(|(name, _)| *name == what).map_or("", |(_, said)| said)
    }

    /// How many names are listed there.
    fn count(&self, what: &str) -> String {
        match self.get(what) {
            "none" | "" => "–".into(),
            said => said.split(", ").count().to_string(),
        }
    }

    fn json(&self) -> Value {
        let said = self.said.iter().map(|(what, said)| (what.replace(' ', "_"), json!(said)));
        std::iter::once(("property".to_owned(), json!(self.name))).chain(said).collect()
    }
}

fn properties() -> Vec<Property> {
    let section = |section: &'static str| {
        let (name, lines) = section.split_once('\n').unwrap_or((section, ""));
        let said = lines.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**: "));
        Property { name, said: said.collect() }
    };
    TRACEABILITY.split("\n## ").skip(1).map(section).collect()
}

pub(super) fn run(arguments: &SpecArgs) -> Result<(), CliError> {
    let all = properties();
    let chosen: Vec<&Property> = match &arguments.property {
        None => all.iter().collect(),
        Some(name) => all.iter().filter(|property| property.name.eq_ignore_ascii_case(name)).collect(),
    };
    if chosen.is_empty() {
        let problem = format!("there is no property {}", arguments.property.as_deref().unwrap_or_default());
        return Err(CliError::usage(problem, "semel spec lists the properties"));
    }
    if is_json(arguments.output) {
        let mut out = io::stdout().lock();
        for property in chosen {
            writeln!(out, "{}", property.json())?;
        }
        return Ok(());
    }
    match (chosen.as_slice(), &arguments.property) {
        ([property], Some(_)) => print_one(property)?,
        _ => print_all(&chosen)?,
    }
    Ok(())
}

fn print_one(property: &Property) -> io::Result<()> {
    let mut rows = vec![vec!["property".to_owned(), property.name.to_owned()]];
    rows.extend(property.said.iter().map(|(what, said)| vec![(*what).to_owned(), said.replace('`', "")]));
    print_table(&[text("what"), text("")], &rows)
}

fn print_all(properties: &[&Property]) -> io::Result<()> {
    let row = |property: &&Property| {
        vec![
            property.name.to_owned(),
            property.get("says").replace('`', ""),
            property.count("models"),
            property.count("mutants of the code"),
            property.count("negative controls"),
        ]
    };
    let columns =
        [text("property"), text("says"), text("models"), text("mutants"), text("negative controls")];
    print_table(&columns, &properties.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history;

    #[test]
    fn every_property_is_there_with_all_that_is_said_of_it() {
        let all = properties();
        let names: Vec<&str> = all.iter().map(|property| property.name).collect();
        // Those of groups have models of their own, and their names in spec/groups.md.
        let of_groups = include_str!("../../spec/groups.md");
        for property in history::Property::ALL {
            let name = property.name();
            let is_there = match history::Property::GROUPS.contains(&property) {
                true => of_groups.contains(&format!("\n| {name} | ")),
                false => names.contains(&name),
            };
            assert!(is_there, "{name} is not among {names:?}");
        }
        for property in &all {
            assert_eq!(property.said.len(), 8, "{}", property.name);
            assert!(property.said.iter().all(|(_, said)| !said.is_empty()), "{}", property.name);
        }
    }
}
