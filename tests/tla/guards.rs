//! What shows that a guard of the specification is missing (`tla/guards.tsv`).

use crate::guard::{Guard, Line, guards};
use crate::sieve::{Shows, Tried, sieve, states_of};
use crate::{guard, read, root};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Modules that are looked at together, with the models that may show what they lack, small ones first.
struct Family {
    modules: &'static [&'static str],
    models: &'static [&'static str],
    /// Models of liveness, for what the others do not show: each guard is taken out by itself.
    live: &'static [&'static str],
}

const FAMILIES: [Family; 4] = [
    Family {
        modules: &["IdempotentLog", "GroupOffsets", "TxnCoordinator", "Eos"],
        models: &[
            "IdempotenceLong.smoke",
            "Version1Restart.smoke",
            "GroupsLate.smoke",
            "PrepareTimeout.smoke",
            "Restore.smoke",
            "Deletion.smoke",
            "Version1Groups.smoke",
            "PreparedCrash.smoke",
            "TakeOver.smoke",
            "Groups.smoke",
            "Retention.smoke",
            "Rotation.smoke",
            "Operator.smoke",
            "RestoreZombie.smoke",
            "Version1Retry.smoke",
            "Idempotence.smoke",
            "Version2Partitions.smoke",
            "DurableRestore.smoke",
            "ShardedFence.smoke",
            "ForgottenZombie.smoke",
            "Prepared.smoke",
            "IdempotenceRestore.smoke",
            "DeletionWaits.smoke",
            "Version2Overlap.smoke",
            "Version1Sharded.smoke",
            "Durability.smoke",
            "Version2Zombie.smoke",
            "DurableTwice.smoke",
            "Version1Zombie.smoke",
            "Sharded.smoke",
        ],
        live: &["Version1.live", "Version2.live"],
    },
    Family { modules: &["IdempotencyKeys"], models: &["KeyModel.smoke"], live: &[] },
    Family { modules: &["Deadlines"], models: &["DeadlineModel.smoke"], live: &["DeadlineModel.live"] },
    Family {
        modules: &["ConsumerGroup"],
        models: &[
            "MemberSilent.smoke",
            "MemberReturns.smoke",
            "MemberAlone.smoke",
            "MemberAtOnce.smoke",
            "MemberModel.smoke",
            "MemberInOrder.smoke",
            "MemberLate.smoke",
            "MemberStatic.smoke",
        ],
        live: &["MemberModel.live"],
    },
];

fn modules() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.modules).copied()
}

fn table() -> PathBuf {
    root().join("tla/guards.tsv")
}

fn lines() -> Vec<Line> {
    guard::lines(&table())
}

fn module(name: &str) -> String {
    read(&root().join(format!("tla/{name}.tla")))
}

/// Whether a property of liveness breaks without this guard: its name, or `error`.
fn breaks_liveness(name: &str, guard: &Guard, model: &str) -> Result<Option<String>, String> {
    let overlay = tempfile::tempdir().map_err(|error| error.to_string())?;
    let broken = guard.taken_out_of(&module(name));
    fs::write(overlay.path().join(format!("{name}.tla")), broken).map_err(|error| error.to_string())?;
    let run = Command::new(root().join("tla/check"))
        .args(["probe", model])
        .env("TLA_OVERLAY", overlay.path())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&run.stdout);
    if run.status.code() != Some(0) {
        return Err(said.into_owned());
    }
    let shows = said.lines().find_map(|line| line.strip_prefix("SHOWS ")?.split(' ').next());
    Ok(shows.map(str::to_owned))
}

/// Definitions that a model with this in its configuration never comes to.
const IDLE: [(&[&str], &str); 12] = [
    (&["SendAddPartitions", "SendAddOffsets", "OnAddPartitions", "OnAddOffsets"], "Version = 2"),
    (&["SendOffsets", "OnTxnOffsetCommit", "SendAddOffsets", "OnAddOffsets"], "OffsetCommits = 0"),
    (&["SendPrepare", "OnPrepare", "KeepsPrepared"], "TwoPhase = FALSE"),
    (
        &[
            "RowsRead",
            "RowsChanged",
            "MakeDurable",
            "Publish",
            "MayLeave",
            "Leaves",
            "Release",
            "Found",
            "Recover",
            "ProcessCrash",
        ],
        "Durability = FALSE",
    ),
    (&["PowerCut", "Crash", "ProcessCrash", "Recover", "Restart"], "CrashesMax = 0"),
    (&["WriteOwed", "DeliverOwed", "Complete", "CanComplete", "Preparing"], "Sharded = FALSE"),
    (&["Expire", "Expires", "TimesOut"], "ExpirationsMax = 0"),
    (&["Force", "ForceAborts"], "ForcesMax = 0"),
    (&["Backup", "RestoreLog", "PredatesRestore"], "RestoresMax = 0"),
    (&["ForgetProducer", "ForgetId", "MayForgetId"], "ForgetsMax = 0"),
    (&["DeleteRecords", "MayDeleteBelow"], "TruncationsMax = 0"),
    (&["WithoutPartition"], "DeletionsMax = 0"),
];

/// Definitions that no model of `Eos` comes to.
const ONLY_IN_TRACES: [&str; 2] = ["OnIdempotentProduce", "OperatorEnds"];

/// Whether a model never asks for this guard. One that names the constant is why.
fn is_idle(Guard { definition, text, .. }: &Guard, model: &str) -> bool {
    if ONLY_IN_TRACES.contains(&definition.as_str()) {
        return true;
    }
    let configuration = read(&root().join(format!("tla/mc/{model}.cfg")));
    let says = |constant: &str| configuration.lines().any(|line| line.trim() == constant);
    IDLE.iter().any(|(definitions, constant)| {
        let name = constant.split(' ').next().unwrap_or_default();
        definitions.contains(&definition.as_str()) && says(constant) && !text.contains(name)
    })
}

/// What `tla/guards.tsv` is to say of what a model shows.
fn shown(shows: &Shows, model: &str) -> String {
    let what = match shows {
        Shows::Property(name) => name,
        Shows::Error => "error",
        Shows::States => "states",
    };
    format!("{what} in {model}")
}

/// Puts down what shows a guard to be missing; of what only numbers of states show, and what has been argued, the first stays.
fn put_down(known: &mut Vec<Line>, module: &str, guard: &Guard, shows: &Shows, shown: String) {
    let line = Line {
        module: module.to_owned(),
        definition: guard.definition.clone(),
        guard: guard.text.clone(),
        shown,
    };
    println!("{module}\t{}\t{}\t{}", line.definition, line.guard, line.shown);
    match known.iter_mut().find(|line| line.is_of(module, guard)) {
        None => known.push(line),
        Some(before) if *shows != Shows::States || before.shown == NOTHING => *before = line,
        Some(_) => {}
    }
    guard::write(&table(), known);
}

const NOTHING: &str = "nothing";

/// Models with fewer states are cheap: a property is looked for in them also of what numbers of states show already.
const SMALL: usize = 5_000;

/// Whether it is known well enough: by a property, or because the specification has no meaning without it.
fn is_shown(line: &Line) -> bool {
    line.shown.contains(" in ") && !line.shown.starts_with("states") && !line.shown.starts_with("argued")
}

/// For `tla/check guards`: takes out every guard and writes down what shows it, model by model, so that it can be stopped. What
/// is in the table stays, but for what "nothing" shows; with `SEMEL_GUARDS=MODULE` all of that module's are tried anew, with
/// `SEMEL_GUARDS=all` every module's. What was argued stays until a property breaks.
#[test]
#[ignore = "long: tla/check guards"]
fn guards_are_taken_out() {
    let anew = std::env::var("SEMEL_GUARDS").unwrap_or_default();
    let mut known = lines();
    let is_anew = |module: &str| anew == module || anew == "all";
    known.retain(|line| {
        let is_there = guards(&module(&line.module)).iter().any(|guard| line.is_of(&line.module, guard));
        is_there && (!is_anew(&line.module) || line.shown.starts_with("argued"))
    });
    for family in &FAMILIES {
        let all: Vec<(&str, Guard)> = family
            .modules
            .iter()
            .flat_map(|name| guards(&module(name)).into_iter().map(|guard| (*name, guard)))
            .collect();
        let mut open: Vec<Tried<'_>> = Vec::new();
        for (at, (module, guard)) in all.iter().enumerate() {
            let line = known.iter().find(|line| line.is_of(module, guard));
            if is_anew(module) || line.is_none_or(|line| line.shown == NOTHING) {
                open.push(Tried { number: at + 1, module, guard });
            }
        }
        for model in family.models {
            let tried: Vec<Tried<'_>> =
                open.iter().filter(|tried| !is_idle(tried.guard, model)).copied().collect();
            if tried.is_empty() {
                continue;
            }
            let began = Instant::now();
            let found = sieve(model, &tried).unwrap_or_else(|why| panic!("{why}"));
            println!("{model}: {} of {} shown, {} s", found.len(), tried.len(), began.elapsed().as_secs());
            for tried in &tried {
                let Some(shows) = found.get(&tried.number) else { continue };
                put_down(&mut known, tried.module, tried.guard, shows, shown(shows, model));
            }
            open.retain(|tried| match found.get(&tried.number) {
                Some(shows) => *shows == Shows::States && states_of(model) < SMALL,
                None => true,
            });
        }
        for tried in open {
            let Tried { module, guard, .. } = tried;
            if known.iter().any(|line| line.is_of(module, guard) && line.shown != NOTHING) {
                continue;
            }
            let breaks = family.live.iter().filter(|model| !is_idle(guard, model)).find_map(|model| {
                let breaks = breaks_liveness(module, guard, model).unwrap_or_else(|why| panic!("{why}"));
                Some(format!("{} in {model}", breaks?))
            });
            let shown = breaks.unwrap_or_else(|| NOTHING.into());
            put_down(&mut known, module, guard, &Shows::Error, shown);
        }
    }
}

#[test]
fn every_guard_of_the_specification_is_in_the_table() {
    let listed: BTreeSet<(String, String, String)> =
        lines().into_iter().map(|line| (line.module, line.definition, line.guard)).collect();
    let mut found = BTreeSet::new();
    for name in modules() {
        let guards = guards(&module(name)).into_iter();
        found.extend(guards.map(|guard| (name.to_owned(), guard.definition, guard.text)));
    }
    let renew = "run tla/check guards, or write down why nothing can show it";
    assert!(found.len() > 30, "the guards are found");
    assert_eq!(
        found.difference(&listed).collect::<Vec<_>>(),
        Vec::<&_>::new(),
        "not in tla/guards.tsv: {renew}"
    );
    assert_eq!(
        listed.difference(&found).collect::<Vec<_>>(),
        Vec::<&_>::new(),
        "tla/guards.tsv has what is no more"
    );
    for line in lines() {
        let by = ["argued: ", "a trace of "].iter().any(|by| line.shown.starts_with(by));
        let settled = line.shown.contains(" in ") || by;
        assert!(settled, "nothing shows that {} lacks {}: {}", line.definition, line.guard, line.shown);
    }
}

/// Models whose guards are taken out in every run, few enough for a quarter of a minute.
const IN_EVERY_RUN: [&str; 3] = ["Restore.smoke", "Rotation.smoke", "MemberModel.smoke"];

#[test]
fn a_guard_that_is_taken_out_breaks_the_property_that_the_table_names() {
    let mut lines = lines();
    lines.retain(is_shown);
    for model in IN_EVERY_RUN {
        let by = format!(" in {model}");
        let all: Vec<(&Line, Guard)> = lines
            .iter()
            .filter(|line| line.shown.ends_with(&by))
            .filter_map(|line| {
                Some((
                    line,
                    guards(&module(&line.module))
                        .into_iter()
                        .find(|guard| line.is_of(&line.module, guard))?,
                ))
            })
            .collect();
        assert!(!all.is_empty(), "{model} shows no guard");
        let tried: Vec<Tried<'_>> = all
            .iter()
            .enumerate()
            .map(|(at, (line, guard))| Tried { number: at + 1, module: &line.module, guard })
            .collect();
        let found = match sieve(model, &tried) {
            Ok(found) => found,
            Err(why) if why.contains("SKIPPED") => return eprintln!("{}", why.trim_end()),
            Err(why) => panic!("{why}"),
        };
        for (tried, (line, guard)) in tried.iter().zip(&all) {
            let now = found.get(&tried.number).map(|shows| shown(shows, model));
            assert_eq!(
                now.as_deref(),
                Some(line.shown.as_str()),
                "{} without {}",
                guard.definition,
                guard.text
            );
        }
        println!("{model}: {} guards taken out, each breaks what tla/guards.tsv says", all.len());
    }
}
