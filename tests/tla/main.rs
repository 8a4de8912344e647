//! The formal specification (`tla/README.md`): its models, its negative controls, and the names that it shares with the
//! code and with `spec/transactions.md`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

mod guard;
mod guards;
mod sieve;
mod traceability;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `tla/check`'s exit code for "cannot run here".
const CANNOT_RUN: i32 = 77;

#[test]
fn models_hold_and_known_defects_break_them() {
    let run = Command::new(root().join("tla/check")).arg("sample").output().expect("tla/check runs");
    let table = String::from_utf8_lossy(&run.stdout);
    match run.status.code() {
        Some(0) => println!("{table}"),
        Some(CANNOT_RUN) => {
            let required = std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "REQUIRE_ALL=1 but the specification cannot be checked: {table}");
            eprintln!("{}", table.trim_end());
        }
        _ => panic!("tla/check sample failed:\n{table}{}", String::from_utf8_lossy(&run.stderr)),
    }
}

#[test]
fn actions_operators_and_functions_exist_under_their_names() {
    let operators = text_under(&root().join("tla"), "tla");
    let functions = text_under(&root().join("src/core"), "rs");
    let mut missing = Vec::new();
    for action in actions_of_readme() {
        if let Some(operator) = &action.operator
            && !defines_operator(&operators, operator)
        {
            missing.push(format!("{}: tla/ defines no {operator}", action.name));
        }
        if let Some(function) = &action.function
            && !["(", "<"].iter().any(|next| functions.contains(&format!("fn {function}{next}")))
        {
            missing.push(format!("{}: src/core has no fn {function}", action.name));
        }
    }
    assert!(missing.is_empty(), "tla/README.md, \"Actions and functions\":\n{}", missing.join("\n"));
}

#[test]
fn every_action_of_the_rules_is_in_the_table() {
    let known: BTreeSet<String> = actions_of_readme().into_iter().map(|action| action.name).collect();
    let rules = read(&root().join("spec/transactions.md"));
    let unknown: Vec<String> =
        actions_of_rules(&rules).into_iter().filter(|name| !known.contains(name)).collect();
    assert!(known.len() > 20, "the table of actions was not found in tla/README.md");
    assert!(
        unknown.is_empty(),
        "actions of spec/transactions.md without a line in tla/README.md: {unknown:?}"
    );
}

#[test]
fn properties_have_one_name_everywhere() {
    let rules = read(&root().join("spec/transactions.md"));
    let (_, properties) = rules.split_once("## 12. Properties").expect("a section on properties");
    let modules = ["Properties", "IdempotencyKeys", "Deadlines", "ConsumerGroup"];
    let defined = modules.map(|module| read(&root().join(format!("tla/{module}.tla")))).concat();
    for name in quoted(properties).filter(|name| name.chars().all(char::is_alphanumeric)) {
        assert!(defines_operator(&defined, name), "tla/ does not define {name} among the properties");
    }
    let groups = read(&root().join("spec/groups.md"));
    let (_, of_groups) = groups.split_once("## 17. Properties").expect("a section on properties");
    let of_groups = of_groups.split("\n## ").next().unwrap_or_default();
    for name in of_groups.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()) {
        let is_property = name != "name";
        assert!(
            !is_property || defines_operator(&defined, name),
            "tla/ConsumerGroup.tla does not define {name}"
        );
    }
    for control in files(&root().join("tla/negative"), "expect") {
        let expected = read(&control);
        let property = expected.lines().find_map(|line| line.strip_prefix("violates ")).unwrap_or_default();
        let named =
            properties.contains(&format!("`{property}`")) || of_groups.contains(&format!("| {property} |"));
        assert!(named, "{}: {property:?}", control.display());
    }
}

#[test]
fn every_situation_is_expected_in_some_model() {
    let expected = read(&root().join("tla/reach/expected.tsv"));
    let expected: BTreeSet<&str> =
        expected.lines().filter_map(|line| line.split_once('\t')).map(|line| line.1).collect();
    for module in ["reach/Reach", "mc/Idempotence", "mc/KeyModel", "mc/MemberModel", "mc/DeadlineModel"] {
        let module = format!("tla/{module}.tla");
        let module = read(&root().join(module));
        let situations: Vec<&str> = module
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("/\\ Note(")?.split('"').nth(1))
            .collect();
        assert!(situations.len() > 5, "no situations found");
        for situation in situations {
            assert!(expected.contains(situation), "no model is expected to reach {situation}");
        }
    }
}

struct Action {
    name: String,
    operator: Option<String>,
    function: Option<String>,
}

fn actions_of_readme() -> Vec<Action> {
    let readme = read(&root().join("tla/README.md"));
    let (_, table) = readme.split_once("## Actions and functions").expect("a section on actions");
    table
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let cells: Vec<&str> =
                line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
            let [name, operator, function] = cells.as_slice() else { return None };
            let cell = |text: &str| text.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
            let is_name = name.starts_with(char::is_uppercase);
            is_name.then(|| Action {
                name: (*name).to_owned(),
                operator: cell(operator),
                function: cell(function),
            })
        })
        .collect()
}

/// The actions of sections 2 to 7: names in backticks in the cell after a rule's number.
fn actions_of_rules(rules: &str) -> BTreeSet<String> {
    let (_, rest) = rules.split_once("## 2. ").expect("section 2");
    let (rules, _) = rest.split_once("## 8. ").expect("section 8");
    let mut actions = BTreeSet::new();
    for line in rules.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let is_rule = cells[1].len() <= 3 && cells[1].chars().last().is_some_and(|c| c.is_ascii_digit());
        for cell in cells.iter().skip(2).take(if is_rule { 2 } else { 0 }) {
            let names = quoted(cell).map(|name| name.split('(').next().unwrap_or(name));
            actions.extend(names.filter(|name| is_action(name)).map(str::to_owned));
        }
    }
    actions
}

/// `EndTransaction`, not `INVALID_TXN_STATE`, `raised` or `first..last`.
fn is_action(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
        && name.chars().all(char::is_alphanumeric)
        && name.chars().any(char::is_lowercase)
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn defines_operator(modules: &str, operator: &str) -> bool {
    modules.lines().any(|line| {
        let rest = line.strip_prefix(operator);
        rest.is_some_and(|rest| rest.starts_with(" ==") || (rest.starts_with('(') && rest.contains("==")))
    })
}

fn text_under(folder: &Path, extension: &str) -> String {
    let mut text: String = files(folder, extension).iter().map(|file| read(file)).collect();
    for entry in fs::read_dir(folder).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
        text.push_str(&text_under(&entry.path(), extension));
    }
    text
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
