//! House rules that a machine can check: arrows between rooms, sizes, leftovers, links.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may be blunt")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may use. `wire` beside `shard`, `broker` and `log` is for its batch view.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    ("metrics", &[]),
    ("core", &["types"]),
    ("log", &["types", "wire", "core"]),
    ("store", &["types", "core", "log", "metrics"]),
    ("shard", &["types", "core", "log", "store", "wire", "metrics"]),
    ("net", &["types", "metrics"]),
    ("history", &[]),
    ("broker", &["types", "wire", "core", "store", "log", "shard", "net", "metrics"]),
    ("console", &["types", "core", "store", "shard", "net", "broker", "metrics"]),
    ("fuzz", &[]),
    (
        "sim",
        &["types", "wire", "core", "history", "log", "store", "shard", "net", "broker", "client", "fuzz"],
    ),
    ("serve", &["types", "log", "shard", "net", "broker", "console"]),
    ("client", &["types", "wire"]),
    ("cli", &["types", "client", "serve", "wire", "core", "log", "shard", "history"]),
];

const FILE_LINES_MAX: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The room of a source file, if it is in one.
fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let mut parts = inside.components();
    let first = parts.next()?.as_os_str().to_str()?.to_owned();
    parts.next().map(|_| first)
}

/// The code of a file, without tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

#[test]
fn rooms_use_only_what_the_picture_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in files_under(&root().join("src"), "rs") {
        let Some(here) = room(&path) else { continue };
        if is_test(&path) {
            continue;
        }
        let may =
            allowed.get(here.as_str()).unwrap_or_else(|| panic!("the room {here} is not in the picture"));
        for (number, line) in code(&path).lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !allowed.contains_key(used.as_str()) || used == here {
                    continue;
                }
                seen += 1;
                if !may.contains(&used.as_str()) {
                    wrong.push(format!("{}:{}: {here} uses {used}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(seen > 50, "the check must see the arrows it checks");
    assert!(wrong.is_empty(), "arrows against the picture:\n{}", wrong.join("\n"));
}

/// Rooms of which simulated worlds are made: chance and the time of day come to them from `types` alone, so that a world's
/// seed is all there is to know. A watch of tokio's wakes in an order of its own; so does a select without `biased`.
const SIMULATED: &[&str] = &["core", "log", "store", "shard", "broker", "sim"];

/// The same for what the worlds' applications have of the Rust client.
const SIMULATED_OF_CLIENT: &[&str] = &[
    "backoff",
    "changes",
    "cluster",
    "connection",
    "consumer",
    "coordinator",
    "metadata",
    "offsets",
    "partitioner",
    "producer",
    "transaction",
];

fn is_simulated(path: &Path) -> bool {
    let Some(room) = room(path) else { return false };
    let inside = path.strip_prefix(root().join("src/client")).ok();
    let of_client = inside.and_then(|inside| inside.iter().next()?.to_str());
    let of_client = of_client.map(|name| name.trim_end_matches(".rs"));
    SIMULATED.contains(&room.as_str()) || of_client.is_some_and(|name| SIMULATED_OF_CLIENT.contains(&name))
}

#[test]
fn nothing_in_a_simulated_world_has_chance_of_its_own() {
    let own = ["HashMap", "HashSet", "RandomState", "new_v4", "SystemTime::now", "sync::watch"];
    let mut wrong = Vec::new();
    for path in files_under(&root().join("src"), "rs") {
        if !is_simulated(&path) || is_test(&path) {
            continue;
        }
        let code = code(&path);
        // What `types` has under the same names is the world's.
        let uses = code.split("use ").filter(|rest| rest.starts_with("std::") || rest.starts_with("tokio::"));
        let uses: String = uses.filter_map(|rest| rest.split(';').next()).collect();
        let of_its_own = own.iter().filter(|own| match own.starts_with("Hash") {
            true => uses.contains(**own),
            false => code.contains(**own),
        });
        wrong.extend(of_its_own.map(|own| format!("{}: {own}", path.display())));
        let mut selects = code.split("select! {").skip(1);
        if selects.any(|inside| !inside.trim_start().starts_with("biased;")) {
            wrong.push(format!("{}: a select that is not biased", path.display()));
        }
    }
    assert!(wrong.is_empty(), "chance that is no seed's (see `types::outside`):\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = files_under(&root().join("src"), "rs")
        .into_iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "files that hold two ideas:\n{}", long.join("\n"));
}

#[test]
fn every_room_says_what_it_is_for() {
    for (room, _) in ARROWS {
        let path = root().join("src").join(room).join("mod.rs");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!((3..=20).contains(&lines), "{}: opens with {lines} lines of what it is for", path.display());
    }
}

#[test]
fn nothing_is_left_over() {
    let words = ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX"].map(String::from);
    let mut found = Vec::new();
    for dir in ["src", "examples"] {
        for path in files_under(&root().join(dir), "rs") {
            for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                if words.iter().any(|word| line.contains(word.as_str())) {
                    found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "left over:\n{}", found.join("\n"));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut documents = files_under(&root().join("spec"), "md");
    documents.extend(
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md"].map(|name| root().join(name)),
    );
    let mut dead = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            if !document.parent().unwrap().join(file).exists() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn scenarios_named_for_known_defects_exist() {
    let mut functions = String::new();
    for dir in ["src", "tests"] {
        for path in files_under(&root().join(dir), "rs") {
            functions += &fs::read_to_string(path).unwrap();
        }
    }
    let document = fs::read_to_string(root().join("spec/defects.md")).unwrap();
    let is_test = |word: &&str| {
        word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
    };
    let named = document.split('`').skip(1).step_by(2).filter(is_test).collect::<Vec<_>>();
    let missing = named.iter().filter(|name| !functions.contains(&format!("fn {name}("))).collect::<Vec<_>>();
    assert!(named.len() > 15, "the check must see the names it checks");
    assert!(missing.is_empty(), "there is no such test: {missing:?}");
}
