//! `spec/traceability.md`: for each property where it is specified, where it is checked, and what shows that the checks can
//! fail. Made from the files that say so, and held fresh; `semel spec` prints it.

use crate::{files, quoted, read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

const HEAD: &str = "# Traceability

For each property: its definition, the models, decisions and histories that are checked for it, and the defects, of the code and
of the specification, that break it. Made by the test `traceability_is_fresh` (to renew it: `UPDATE_TRACEABILITY=1 cargo test --test
tla`) from `tla/`, `spec/mutants.md`, `spec/history.md` and the tests; `semel spec` prints it. What is said of the operators of
the specification, traces check step by step in the code (`tla/README.md`, section on traces).
";

/// Where the histories of the code are judged.
const JUDGES: &[&str] =
    &["src/core/tests/judge.rs", "src/core/tests/properties.rs", "src/shard/tests/history.rs"];

/// What every decision is held against.
const INVARIANTS: &[&str] = &["src/core/invariants/mod.rs"];

#[test]
fn traceability_is_fresh() {
    let path = root().join("spec/traceability.md");
    let made = table();
    if std::env::var_os("UPDATE_TRACEABILITY").is_some() {
        fs::write(&path, &made).expect("the table can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == made,
        "spec/traceability.md is old; to renew it: UPDATE_TRACEABILITY=1 cargo test --test tla"
    );
}

#[test]
fn every_property_is_checked_and_can_fail() {
    let table = table();
    let sections: Vec<&str> = table.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), properties().len());
    for section in sections {
        let name = section.lines().next().unwrap_or_default();
        assert!(!section.contains("- **says**: \n"), "{name} has no comment above its definition");
        assert!(!section.contains("- **models**: none"), "no model is checked for {name}");
        let defects = ["- **mutants of the code**: none", "- **negative controls**: none"];
        assert!(!defects.iter().all(|none| section.contains(none)), "nothing shows that {name} can fail");
    }
}

fn table() -> String {
    let mut table = HEAD.to_owned();
    let (says, models, controls, mutants) = (says(), models(), controls(), mutants());
    let of_clients = read(&root().join("spec/history.md"));
    for property in properties() {
        let all = |map: &BTreeMap<String, BTreeSet<String>>| list(map.get(&property));
        let says = says.get(&property).cloned().unwrap_or_default();
        let clients = if of_clients.contains(&format!("| {property} |")) {
            "`semel check` (`spec/history.md`)"
        } else {
            "none"
        };
        write!(
            table,
            "\n## {property}\n\n- **says**: {says}\n- **specification**: `{property}` in `{}`\n\
             - **models**: {}\n- **each decision of the code**: {}\n- **histories of the code**: {}\n\
             - **histories of clients**: {clients}\n- **mutants of the code**: {}\n- **negative controls**: {}\n",
            definition(&property),
            all(&models),
            said_in(INVARIANTS, &property),
            said_in(JUDGES, &property),
            all(&mutants),
            all(&controls),
        )
        .expect("text can be written");
    }
    table
}

fn list(names: Option<&BTreeSet<String>>) -> String {
    names.map_or_else(|| "none".into(), |names| names.iter().cloned().collect::<Vec<_>>().join(", "))
}

/// The properties, in the order of `spec/transactions.md`.
fn properties() -> Vec<String> {
    let rules = read(&root().join("spec/transactions.md"));
    let (_, section) = rules.split_once("## 12. Properties").expect("a section on properties");
    quoted(section)
        .filter(|name| name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric))
        .map(str::to_owned)
        .collect()
}

/// The modules that define properties.
const DEFINITIONS: [&str; 3] = ["tla/Properties.tla", "tla/IdempotencyKeys.tla", "tla/Deadlines.tla"];

/// The module that defines a property.
fn definition(property: &str) -> &'static str {
    let defines = |module: &&str| read(&root().join(module)).contains(&format!("\n{property} =="));
    DEFINITIONS.into_iter().find(defines).expect("every property is defined")
}

/// The comment above each definition.
fn says() -> BTreeMap<String, String> {
    let module: String = DEFINITIONS.map(|module| read(&root().join(module))).concat();
    let lines: Vec<&str> = module.lines().collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let says = pair[0].strip_prefix("(* ")?.strip_suffix(" *)")?;
        let name = pair[1].split(" ==").next().filter(|_| pair[1].contains(" =="))?;
        Some((name.to_owned(), says.trim_end_matches('.').to_owned()))
    });
    pairs.collect()
}

/// The models whose configuration names a property.
fn models() -> BTreeMap<String, BTreeSet<String>> {
    let mut models: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&root().join("tla/mc"), "cfg") {
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let text = read(&file);
        let named = text.split_once("INVARIANT").or_else(|| text.split_once("PROPERT"));
        for word in named.map_or("", |(_, named)| named).split_whitespace() {
            models.entry(word.to_owned()).or_default().insert(name.clone());
        }
    }
    models
}

fn controls() -> BTreeMap<String, BTreeSet<String>> {
    let mut controls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&root().join("tla/negative"), "expect") {
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let text = read(&file);
        let broken = text.lines().find_map(|line| line.strip_prefix("violates "));
        controls.entry(broken.unwrap_or_default().to_owned()).or_default().insert(name);
    }
    controls
}

/// The mutants by the property that catches them.
fn mutants() -> BTreeMap<String, BTreeSet<String>> {
    let mut mutants: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in read(&root().join("spec/mutants.md")).lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, mutant, _, caught, ..] = cells.as_slice()
            && let Some((property, _)) = caught.split_once(": ")
        {
            mutants.entry(property.to_owned()).or_default().insert((*mutant).to_owned());
        }
    }
    mutants
}

/// What of a property is looked at in these files, in their words.
fn said_in(files: &[&str], property: &str) -> String {
    let mut all = Vec::new();
    for file in files {
        let text = read(&root().join(file));
        let named = format!("\"{property}\",");
        let found = text.split(&named).skip(1).filter_map(|rest| {
            let rest = rest.trim_start().strip_prefix('"')?;
            rest.split('"').next()
        });
        let found: BTreeSet<&str> = found.collect();
        if !found.is_empty() {
            all.push(format!("{} (`{file}`)", found.into_iter().collect::<Vec<_>>().join("; ")));
        }
    }
    if all.is_empty() { "none".into() } else { all.join("; ") }
}
