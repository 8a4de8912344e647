//! What shows that a guard of the specification is missing (`tla/guards.tsv`).

use crate::guard::{Guard, Line, guards};
use crate::{guard, read, root};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The modules whose guards are taken out, each with the models that may show it: small ones first, so that most guards are
/// shown within seconds, and those that differ most before those that differ little.
const MODULES: [(&str, &[&str]); 6] = [
    (
        "IdempotentLog",
        &[
            "Idempotence.smoke",
            "IdempotenceLong.smoke",
            "IdempotenceRestore.smoke",
            "Deletion.smoke",
            "Retention.smoke",
            "Version1Groups.smoke",
            "Version2Partitions.smoke",
            "Version1Retry.smoke",
            "Version2Overlap.smoke",
        ],
    ),
    ("IdempotencyKeys", &["KeyModel.smoke"]),
    ("Deadlines", &["DeadlineModel.smoke", "DeadlineModel.live"]),
    ("TxnCoordinator", &MODELS_OF_EOS),
    ("Eos", &MODELS_OF_EOS),
    (
        "ConsumerGroup",
        &[
            "MemberAlone.smoke",
            "MemberModel.smoke",
            "MemberStatic.smoke",
            "MemberCommits.smoke",
            "MemberModel.live",
        ],
    ),
];

const MODELS_OF_EOS: [&str; 25] = [
    "GroupsLate.smoke",
    "PrepareTimeout.smoke",
    "Restore.smoke",
    "Deletion.smoke",
    "Version1Groups.smoke",
    "Version1Sharded.smoke",
    "Retention.smoke",
    "PreparedCrash.smoke",
    "TakeOver.smoke",
    "Groups.smoke",
    "Operator.smoke",
    "RestoreZombie.smoke",
    "Version1Retry.smoke",
    "Version2Partitions.smoke",
    "ForgottenZombie.smoke",
    "Version1.live",
    "Version2.live",
    "Prepared.smoke",
    "Version2Overlap.smoke",
    "Durability.smoke",
    "Version2Zombie.smoke",
    "Version1Zombie.smoke",
    "Sharded.smoke",
    "Idempotence.smoke",
    "IdempotenceRestore.smoke",
];

fn table() -> PathBuf {
    root().join("tla/guards.tsv")
}

fn lines() -> Vec<Line> {
    guard::lines(&table())
}

fn module(name: &str) -> String {
    read(&root().join(format!("tla/{name}.tla")))
}

/// What shows that this guard is missing: `Property in Model`, `states of Model`; none if nothing does.
fn shown(name: &str, guard: &Guard, models: &[&str]) -> Result<Option<String>, String> {
    let overlay = tempfile::tempdir().map_err(|error| error.to_string())?;
    let broken = guard.taken_out_of(&module(name));
    fs::write(overlay.path().join(format!("{name}.tla")), broken).map_err(|error| error.to_string())?;
    let run = Command::new(root().join("tla/check"))
        .arg("probe")
        .args(models)
        .env("TLA_OVERLAY", overlay.path())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&run.stdout);
    if run.status.code() != Some(0) {
        return Err(said.into_owned());
    }
    let found: Vec<Vec<&str>> = said
        .lines()
        .filter_map(|line| line.strip_prefix("SHOWS "))
        .map(|line| line.split(' ').collect())
        .collect();
    let of_property = found.iter().find(|found| found[0] != "states");
    Ok(of_property.or(found.first()).map(|found| format!("{} in {}", found[0], found[1])))
}

/// Modules whose guards have not all been taken out yet: hours of TLC.
const UNFINISHED: [&str; 3] = ["TxnCoordinator", "Eos", "ConsumerGroup"];

/// Models in which a definition matters: they are tried before the others.
const FIRST: [(&str, &[&str]); 36] = [
    ("PredatesRestore", &["Restore.smoke", "RestoreZombie.smoke"]),
    ("Identity", &["Version2Overlap.smoke", "Version2Zombie.smoke", "RestoreZombie.smoke"]),
    ("Enrolled", &["Version1Groups.smoke", "Version1Retry.smoke", "Version1Zombie.smoke"]),
    ("OnAddPartitions", &["Version1Sharded.smoke", "Version1Zombie.smoke"]),
    ("OnAddOffsets", &["Version1Groups.smoke", "Version1Sharded.smoke"]),
    ("OnProduce", &["Version2Overlap.smoke", "Version1Retry.smoke", "Sharded.smoke"]),
    ("OnTxnOffsetCommit", &["Groups.smoke", "Version1Groups.smoke", "Sharded.smoke"]),
    ("ForceAborts", &["Operator.smoke"]),
    ("EndedBy", &["Version2Partitions.smoke", "Version1Retry.smoke", "Version1Zombie.smoke"]),
    ("RetryOfEnd", &["Version2Partitions.smoke", "PrepareTimeout.smoke", "Version2Zombie.smoke"]),
    ("ContradictsEnd", &["Version1Retry.smoke", "Version2Zombie.smoke"]),
    ("AbortsNothing", &["Version2Partitions.smoke", "TakeOver.smoke"]),
    ("OnEndTxn", &["Version2Partitions.smoke", "Version1Retry.smoke", "Restore.smoke", "Sharded.smoke"]),
    ("OnPrepare", &["PrepareTimeout.smoke", "TakeOver.smoke", "Prepared.smoke"]),
    ("CanComplete", &["Sharded.smoke"]),
    ("TimesOut", &["PrepareTimeout.smoke", "Prepared.smoke"]),
    ("Expires", &["PrepareTimeout.smoke", "Version2Partitions.smoke"]),
    ("KeepsPrepared", &["TakeOver.smoke"]),
    ("RetryOfInit", &["TakeOver.smoke", "PrepareTimeout.smoke", "Version1Zombie.smoke"]),
    ("MayTakeOver", &["Version1Zombie.smoke", "Version2Zombie.smoke"]),
    ("OnInitProducerId", &["TakeOver.smoke", "RestoreZombie.smoke", "Version2Zombie.smoke", "Sharded.smoke"]),
    ("MayForgetId", &["ForgottenZombie.smoke", "Retention.smoke"]),
    ("SendProduce", &["Version1Retry.smoke", "Version1Groups.smoke"]),
    ("Reconnect", &["Version1Retry.smoke", "GroupsLate.smoke"]),
    ("FromOlderConnection", &["Version1Retry.smoke", "GroupsLate.smoke"]),
    ("RefuseOlderConnection", &["Version1Retry.smoke", "GroupsLate.smoke"]),
    ("Receive", &["Version1Retry.smoke", "Version2Zombie.smoke", "Durability.smoke"]),
    ("MayDecide", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("MakeDurable", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("Publish", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("Leaves", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("ProcessCrash", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("PowerCut", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("Recover", &["PreparedCrash.smoke", "Durability.smoke"]),
    ("Backup", &["Restore.smoke"]),
    ("RestoreLog", &["Restore.smoke"]),
];

/// Definitions that a model with this in its configuration never comes to.
const IDLE: [(&[&str], &str); 12] = [
    (&["SendAddPartitions", "SendAddOffsets", "OnAddPartitions", "OnAddOffsets"], "Version = 2"),
    (&["SendOffsets", "OnTxnOffsetCommit", "SendAddOffsets", "OnAddOffsets"], "OffsetCommits = 0"),
    (&["SendPrepare", "OnPrepare", "KeepsPrepared"], "TwoPhase = FALSE"),
    (
        &["MakeDurable", "Publish", "MayLeave", "Leaves", "Release", "Recover", "ProcessCrash"],
        "Durability = FALSE",
    ),
    (&["PowerCut", "Crash", "ProcessCrash", "Recover", "Restart"], "CrashesMax = 0"),
    (&["Restart"], "Durability = TRUE"),
    (&["WriteOwed", "Complete", "CanComplete"], "Sharded = FALSE"),
    (&["Expire", "Expires", "TimesOut"], "ExpirationsMax = 0"),
    (&["Force", "ForceAborts"], "ForcesMax = 0"),
    (&["Backup", "RestoreLog", "PredatesRestore"], "RestoresMax = 0"),
    (&["ForgetProducer", "ForgetId", "MayForgetId"], "ForgetsMax = 0"),
    (&["DeleteRecords"], "TruncationsMax = 0"),
];

fn is_idle(definition: &str, model: &str) -> bool {
    let configuration = read(&root().join(format!("tla/mc/{model}.cfg")));
    let says = |constant: &str| configuration.lines().any(|line| line.trim() == constant);
    IDLE.iter().any(|(definitions, constant)| definitions.contains(&definition) && says(constant))
}

/// The module's models in the order in which to try them for this guard.
fn models_for<'a>(guard: &Guard, models: &[&'a str]) -> Vec<&'a str> {
    let first = FIRST.iter().find(|(definition, _)| *definition == guard.definition);
    let mut order: Vec<&str> = first.map(|(_, models)| models.to_vec()).unwrap_or_default();
    for model in models {
        if !order.contains(model) {
            order.push(model);
        }
    }
    order.retain(|model| !is_idle(&guard.definition, model));
    order
}

/// For `tla/check guards`: takes out every guard and writes down what shows it, one after the other, so that it can be
/// stopped and goes on where it was. What has been argued stays. With `SEMEL_GUARDS=MODULE` that module's are all tried anew,
/// with `SEMEL_GUARDS=all` every module's.
#[test]
#[ignore = "long: tla/check guards"]
fn guards_are_taken_out_one_by_one() {
    let anew = std::env::var("SEMEL_GUARDS").unwrap_or_default();
    let mut known = lines();
    for (name, models) in MODULES {
        let guards = guards(&module(name));
        known.retain(|line| {
            line.module != name
                || guards.iter().any(|guard| guard.definition == line.definition && guard.text == line.guard)
        });
        for guard in guards {
            let before = known.iter().position(|line| line.is_of(name, &guard));
            let settled = before.map(|at| &known[at]).is_some_and(|line| {
                line.shown.starts_with("argued") || (line.shown != "nothing" && anew != name && anew != "all")
            });
            if settled {
                continue;
            }
            let shown = shown(name, &guard, &models_for(&guard, models));
            let shown =
                shown.unwrap_or_else(|why| panic!("{name}: {why}")).unwrap_or_else(|| "nothing".into());
            println!("{name}\t{}\t{}\t{shown}", guard.definition, guard.text);
            let line =
                Line { module: name.to_owned(), definition: guard.definition, guard: guard.text, shown };
            match before {
                Some(at) => known[at] = line,
                None => known.push(line),
            }
            guard::write(&table(), &known);
        }
    }
}

#[test]
fn every_guard_of_the_specification_is_in_the_table() {
    let listed: BTreeSet<(String, String, String)> =
        lines().into_iter().map(|line| (line.module, line.definition, line.guard)).collect();
    let mut found = BTreeSet::new();
    for (name, _) in MODULES {
        let guards = guards(&module(name)).into_iter();
        let guards = guards.map(|guard| (name.to_owned(), guard.definition, guard.text));
        found.extend(guards.filter(|guard| !UNFINISHED.contains(&name) || listed.contains(guard)));
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

/// Of the guards that a property shows, every so many are tried again in every run.
const TRIED_EVERY: usize = 8;

#[test]
fn a_guard_that_is_taken_out_breaks_the_property_that_the_table_names() {
    let of_properties = lines().into_iter().filter(|line| {
        let shown = line.shown.split(' ').next().unwrap_or_default();
        line.shown.contains(" in ") && shown.chars().next().is_some_and(char::is_uppercase)
    });
    for line in of_properties.step_by(TRIED_EVERY) {
        let guard = guards(&module(&line.module))
            .into_iter()
            .find(|guard| guard.definition == line.definition && guard.text == line.guard);
        let guard = guard.unwrap_or_else(|| panic!("{} has no {}", line.definition, line.guard));
        let model = line.shown.split(" in ").nth(1).unwrap_or_default();
        match shown(&line.module, &guard, &[model]) {
            Ok(found) => assert_eq!(found.as_deref(), Some(line.shown.as_str()), "without {}", line.guard),
            Err(why) if why.contains("SKIPPED") => return eprintln!("{}", why.trim_end()),
            Err(why) => panic!("{why}"),
        }
        println!("{}, {}: {}", line.definition, line.guard, line.shown);
    }
}
