//! All guards of a specification taken out in one search. Each state says which guard its specification lacks (`lacking`), so
//! the search goes through as many specifications as there are guards, side by side; one that has broken a property is left at
//! once. What is counted, one worker keeps in registers of TLC.
//!
//! A specification without a guard may reach as many states as the whole one, and others. So each state of the whole one is put
//! down once more under the number of each guard (`SieveMeets`), and so is each state of the specification that lacks it: if
//! these come to more than the whole one has, the two are not the same. Such a state is looked at no further, so it costs little.

use crate::guard::{self, Guard};
use crate::{read, root};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use tla_syntax::{Expr, parse_expression};

/// A guard to take out, by the number that `lacking` has then: from 1.
#[derive(Clone, Copy)]
pub struct Tried<'a> {
    pub number: usize,
    pub module: &'a str,
    pub guard: &'a Guard,
}

/// What shows that a guard is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// This property breaks.
    Property(String),
    /// Something cannot be evaluated.
    Error,
    /// There are more or fewer states than `bands.tsv` says, or others.
    States,
}

/// What this model makes of the specification without each of the guards, by their numbers; nothing of those that it does not show.
pub fn sieve(model: &str, tried: &[Tried<'_>]) -> Result<BTreeMap<usize, Shows>, String> {
    let mut found = BTreeMap::new();
    let configuration = read(&root().join(format!("tla/mc/{model}.cfg")));
    let modules = chain(&module_of(model, &configuration));
    let tried: Vec<Tried<'_>> =
        tried.iter().filter(|tried| modules.iter().any(|(name, _)| name == tried.module)).copied().collect();
    while !tried.is_empty() {
        let remaining: Vec<Tried<'_>> =
            tried.iter().filter(|tried| !found.contains_key(&tried.number)).copied().collect();
        let said = search(model, &remaining)?;
        for line in said.lines() {
            if let Some((number, name)) =
                line.strip_prefix("\"SHOWS ").and_then(|shows| shows.split_once(' '))
            {
                let number = number.parse().map_err(|_| said.clone())?;
                found.entry(number).or_insert_with(|| Shows::Property(name.trim_end_matches('"').to_owned()));
            }
        }
        if found.contains_key(&WHOLE) {
            return Err(format!("{model} breaks {:?} with all guards", found[&WHOLE]));
        }
        if said.contains("\nENDED 0\n") {
            let states = states_of(model);
            for (number, count, both) in counts(&said) {
                match ((count, both) == (states, states), number) {
                    (false, WHOLE) => {
                        return Err(format!("{model} has {count} states with all guards, not {states}"));
                    }
                    (false, _) => drop(found.entry(number).or_insert(Shows::States)),
                    (true, _) => {}
                }
            }
            return Ok(found);
        }
        // What could not be evaluated is a step from the state that was looked at last, or a behaviour that is printed.
        let lacks = said.lines().rev().find_map(|line| {
            let at = line.strip_prefix("/\\ lacking = ").or_else(|| line.strip_prefix("\"AT "));
            at?.trim_end_matches('"').parse().ok()
        });
        match lacks {
            Some(WHOLE) | None => return Err(format!("{model}:\n{said}")),
            Some(number) => found.insert(number, Shows::Error),
        };
    }
    Ok(found)
}

/// The specification with all guards, which the search goes through as well: it must be what it is without a search like this.
const WHOLE: usize = 0;

/// For each number how many states there were, and how many together with those of the whole specification.
fn counts(said: &str) -> impl Iterator<Item = (usize, usize, usize)> {
    said.lines().filter_map(|line| {
        let mut numbers = line.strip_prefix("\"STATES ")?.trim_end_matches('"').split(' ').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

/// How many states the model has (`bands.tsv`).
pub fn states_of(model: &str) -> usize {
    let bands = read(&root().join("tla/bands.tsv"));
    let band = bands.lines().find_map(|line| line.strip_prefix(model)?.strip_prefix('\t'));
    let states = band.and_then(|band| band.split('\t').next()?.parse().ok());
    states.unwrap_or_else(|| panic!("tla/bands.tsv does not have {model}"))
}

/// What TLC says of the model without these guards.
fn search(model: &str, tried: &[Tried<'_>]) -> Result<String, String> {
    let overlay = tempfile::tempdir().map_err(|error| error.to_string())?;
    let configuration = read(&root().join(format!("tla/mc/{model}.cfg")));
    let module = module_of(model, &configuration);
    for (name, text) in modules_without(&module, tried) {
        write(overlay.path(), &format!("{name}.tla"), &text)?;
    }
    write(overlay.path(), "Sieve.tla", &sieve_of(&module, model, &configuration, tried))?;
    write(overlay.path(), "Sieve.cfg", &configured(&configuration))?;
    let run = Command::new(root().join("tla/check"))
        .arg("sieve")
        .env("TLA_OVERLAY", overlay.path())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    if run.status.success() { Ok(said) } else { Err(said) }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    fs::write(folder.join(name), text).map_err(|error| error.to_string())
}

/// The module that a model is run through, as `tla/check` has it.
fn module_of(model: &str, configuration: &str) -> String {
    let named = configuration.lines().find_map(|line| line.strip_prefix("\\* MODULE "));
    let own = model.split('.').next().unwrap_or_default();
    let exists = root().join(format!("tla/mc/{own}.tla")).exists();
    named.unwrap_or(if exists { own } else { "Reach" }).to_owned()
}

fn text_of(module: &str) -> Option<String> {
    ["tla", "tla/mc", "tla/reach"]
        .iter()
        .find_map(|folder| fs::read_to_string(root().join(format!("{folder}/{module}.tla"))).ok())
}

/// The modules from this one down to the lowest, which all of the others extend.
fn chain(module: &str) -> Vec<(String, String)> {
    let mut chain: Vec<(String, String)> = Vec::new();
    let mut next = vec![module.to_owned()];
    while let Some(name) = next.pop() {
        let Some(text) = text_of(&name) else { continue };
        let extended = text.lines().find_map(|line| line.strip_prefix("EXTENDS ")).unwrap_or_default();
        next.extend(extended.split(',').map(|name| name.trim().to_owned()));
        chain.retain(|(other, _)| *other != name);
        chain.push((name, text));
    }
    chain
}

/// The modules that have guards to take out, each of which may be lacking, and the lowest, which says what `lacking` is.
fn modules_without(module: &str, tried: &[Tried<'_>]) -> BTreeMap<String, String> {
    let mut modules = BTreeMap::new();
    for tried in tried {
        let text = || text_of(tried.module).unwrap_or_else(|| panic!("there is no module {}", tried.module));
        modules.entry(tried.module.to_owned()).or_insert_with(text);
    }
    for (name, text) in &mut modules {
        *text = with_each_choice(text, tried.iter().filter(|tried| tried.module == name));
    }
    let (lowest, text) = chain(module).pop().unwrap_or_else(|| panic!("there is no module {module}"));
    let text = modules.remove(&lowest).unwrap_or(text);
    let (extends, rest) = text.split_at(end_of_extends(&text));
    modules.insert(lowest, format!("{extends}\n\nVARIABLE lacking\nLacks(n) == lacking = n{rest}"));
    modules
}

/// The text with each of these guards, or with what is left of it if the specification lacks its number.
fn with_each_choice<'a>(text: &str, tried: impl Iterator<Item = &'a Tried<'a>>) -> String {
    let numbers: BTreeMap<usize, usize> = tried.map(|tried| (tried.guard.place, tried.number)).collect();
    guard::with_choices(text, &|place, without, guard| {
        let lacks = parse_expression(&format!("Lacks({})", numbers.get(&place)?)).expect("a call");
        let (then, otherwise) = (Box::new(without.clone()), Box::new(guard.clone()));
        Some(Expr::If { cond: Box::new(lacks), then, otherwise })
    })
}

fn end_of_extends(text: &str) -> usize {
    let begin = text.find("\nEXTENDS ").map_or(0, |at| at + 1);
    begin + text[begin..].find('\n').unwrap_or_default()
}

/// So many steps the counting takes, more than any behaviour of a model has without a circle: it ends last.
const LAST: usize = 250;
/// The registers: what is lacking where the search is, whether something has shown, how many states there were, and how many
/// together with those of the whole specification. Such a state has a `lacking` below minus this last number.
const AT: usize = 999;
const SHOWN: usize = 1000;
const STATES: usize = 2000;
const BOTH: usize = 3000;

fn sieve_of(module: &str, model: &str, configuration: &str, tried: &[Tried<'_>]) -> String {
    let modules = chain(module);
    let (init, next, variables) = specification(configuration, &modules);
    let invariants = named(configuration, "INVARIANT");
    let properties = named(configuration, "PROPERT");
    let constraint =
        configuration.lines().find_map(|line| line.strip_prefix("CONSTRAINT ")).unwrap_or("TRUE");
    let mut numbers: Vec<String> = tried.iter().map(|tried| tried.number.to_string()).collect();
    numbers.push(WHOLE.to_string());
    let numbers = numbers.join(", ");
    let most = 3 * states_of(model) + 3000;
    let all = |names: &[String], suffix: &str| {
        names.iter().fold(String::new(), |mut all, name| {
            let _ = write!(all, "\n        /\\ {name}{suffix} \\/ SieveShows(\"{name}\")");
            all
        })
    };
    let steps: String = properties.iter().map(|name| step(name, &modules)).collect();
    let (judged, stepped) = (all(&invariants, ""), all(&properties, "Step"));
    format!(
        "------------------------------- MODULE Sieve -------------------------------
EXTENDS {module}

SieveTried == {{{numbers}}}
ASSUME TLCSet({AT}, -1)
ASSUME \\A n \\in SieveTried : TLCSet({SHOWN} + n, FALSE) /\\ TLCSet({STATES} + n, 0) /\\ TLCSet({BOTH} + n, 0)
SieveShown == TLCGet({SHOWN} + lacking)
SieveShows(name) == TLCSet({SHOWN} + lacking, TRUE) /\\ PrintT(\"SHOWS \" \\o ToString(lacking) \\o \" \" \\o name) /\\ FALSE
SieveCounts == lacking < 0
SieveIsBoth == lacking <= -{BOTH}
SieveCount ==
    IF ~({constraint}) THEN TRUE
    ELSE /\\ TLCSet({STATES} + lacking, TLCGet({STATES} + lacking) + 1)
         /\\ IF TLCGet({STATES} + lacking) > {most} THEN TLCSet({SHOWN} + lacking, TRUE) ELSE TRUE
{steps}
SieveOpen == IF SieveCounts THEN TRUE ELSE ~SieveShown
SieveState ==
    IF SieveIsBoth THEN TLCSet(-lacking, TLCGet(-lacking) + 1) ELSE IF SieveCounts THEN TRUE ELSE IF SieveShown THEN TRUE
    ELSE IF
        /\\ SieveCount{judged}
    THEN TRUE ELSE TRUE
SieveStep ==
    IF lacking' < 0 THEN TRUE ELSE IF SieveShown THEN FALSE
    ELSE
        /\\ TRUE{stepped}

SieveIsAt ==
    IF TLCGet({AT}) = lacking THEN TRUE ELSE TLCSet({AT}, lacking) /\\ PrintT(\"AT \" \\o ToString(lacking))
SieveInit == lacking \\in SieveTried \\cup {{-1}} /\\ {init}
SieveMeets ==
    /\\ ~SieveShown
    /\\ \\E n \\in IF lacking = {WHOLE} THEN SieveTried ELSE {{lacking}} :
        ~TLCGet({SHOWN} + n) /\\ lacking' = -{BOTH} - n /\\ UNCHANGED {variables}
SieveNext ==
    IF SieveIsBoth THEN FALSE
    ELSE IF SieveCounts
    THEN /\\ lacking > -{LAST} /\\ lacking' = lacking - 1 /\\ UNCHANGED {variables}
         /\\ lacking = 1 - {LAST} =>
            \\A n \\in SieveTried : PrintT(\"STATES \" \\o ToString(n) \\o \" \" \\o ToString(TLCGet({STATES} + n))
                                           \\o \" \" \\o ToString(TLCGet({BOTH} + n)))
    ELSE \\/ SieveMeets
         \\/ ~SieveShown /\\ SieveIsAt /\\ lacking' = lacking /\\ {next}
=============================================================================
"
    )
}

/// `SPECIFICATION S` with `S == Init /\ [][Next]_vars`: the three.
fn specification(configuration: &str, modules: &[(String, String)]) -> (String, String, String) {
    let name = configuration.lines().find_map(|line| line.strip_prefix("SPECIFICATION ")).unwrap_or_default();
    let head = format!("{name} == ");
    let definition =
        modules.iter().find_map(|(_, text)| text.lines().find_map(|line| line.strip_prefix(head.as_str())));
    let parts = definition.and_then(|definition| {
        let (init, rest) = definition.split_once(" /\\ [][")?;
        let (next, variables) = rest.split_once("]_")?;
        Some((init.to_owned(), next.to_owned(), variables.to_owned()))
    });
    parts.unwrap_or_else(|| panic!("{name} is not found as Init /\\ [][Next]_vars"))
}

/// The names in the configuration's list of this kind, but for the notes of what is reached.
fn named(configuration: &str, kind: &str) -> Vec<String> {
    let lines = configuration.lines().skip_while(|line| !line.starts_with(kind)).skip(1);
    let names = lines.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace);
    names.filter(|name| *name != "ReachNotes").map(str::to_owned).collect()
}

/// What a property of steps, `[][A]_vars`, says of one step.
fn step(name: &str, modules: &[(String, String)]) -> String {
    if name == "RefinesAbstract" {
        return "RefinesAbstractStep == LookedAt' = LookedAt \\/ Abstract!Next\n".to_owned();
    }
    let head = format!("\n{name} ==\n");
    let definition = modules.iter().find_map(|(_, text)| {
        let body = &text[text.find(head.as_str())? + head.len()..];
        Some(&body[..body.find("\n\n")?])
    });
    let definition = definition.unwrap_or_else(|| panic!("{name} is not found"));
    let (before, rest) = definition.split_once("[][").unwrap_or_else(|| panic!("{name} is not of steps"));
    let (action, _) = rest.rsplit_once("]_").unwrap_or_else(|| panic!("{name} is not of steps"));
    format!("{name}Step ==\n{before}(  {action})\n")
}

/// The model's configuration for the search.
fn configured(configuration: &str) -> String {
    let kept =
        configuration.lines().filter(|line| !line.starts_with("\\*") && !line.starts_with("SPECIFICATION"));
    let kept = kept.take_while(|line| !line.starts_with("INVARIANT") && !line.starts_with("PROPERT"));
    let kept: Vec<&str> = kept.collect();
    format!(
        "INIT SieveInit\nNEXT SieveNext\n{}\nCONSTRAINT SieveOpen\nACTION_CONSTRAINT SieveStep\nINVARIANT SieveState\n\
         CHECK_DEADLOCK FALSE\n",
        kept.join("\n")
    )
}
