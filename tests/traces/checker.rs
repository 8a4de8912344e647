//! Holds a trace (`src/shard/trace/`) against the specification, step by step: `tla/Trace.tla` says what the specification
//! makes of what was asked, tla-eval evaluates it, and here the two are compared. It knows how rows are written in a trace
//! and how the specification writes them, and no rule.

use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use tla_eval::{Evaluator, Spec, State, Value};

/// Groups' offsets of one step that are looked at: each is a check of its own, since they do not interact.
const OFFSETS_MAX: usize = 8;

/// Why a trace is not one of the specification's.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Counted from 1.
    pub line: usize,
    pub wrong: Wrong,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.wrong.what, self.wrong.why)
    }
}

/// What the specification does not allow.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// In a few words.
    pub what: String,
    /// In full.
    pub why: String,
}

fn wrong<T>(what: impl Into<String>, why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), why: why.into() })
}

impl From<tla_eval::Error> for Wrong {
    fn from(error: tla_eval::Error) -> Wrong {
        Wrong { what: "it cannot be evaluated".into(), why: error.to_string() }
    }
}

/// What was looked at.
#[derive(Debug, Default, Clone)]
pub struct Coverage {
    pub lines: usize,
    /// How often each action of the specification was taken.
    pub actions: BTreeMap<String, usize>,
    /// Steps that the specification does not have, by reason.
    pub outside: BTreeMap<String, usize>,
}

impl Coverage {
    pub fn add(&mut self, other: &Coverage) {
        self.lines += other.lines;
        for (all, more) in [(&mut self.actions, &other.actions), (&mut self.outside, &other.outside)] {
            more.iter().for_each(|(name, count)| *all.entry(name.clone()).or_default() += count);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines:", self.lines)?;
        self.actions.iter().try_for_each(|(action, count)| write!(f, " {action} {count}"))?;
        self.outside
            .iter()
            .try_for_each(|(why, count)| write!(f, "; not in the specification: {why} {count}"))
    }
}

/// Rows by their names.
type Rows = BTreeMap<String, Json>;
type Check = Result<(), Wrong>;

/// The rows of the trace so far, with the block that made each so.
#[derive(Default)]
struct Known {
    rows: BTreeMap<String, Vec<(u64, Json)>>,
}

impl Known {
    fn newest(&self, name: &str) -> Option<&Json> {
        self.rows.get(name)?.last().map(|(_, content)| content)
    }

    fn as_of(&self, name: &str, block: u64) -> Option<&Json> {
        self.rows.get(name)?.iter().rev().find(|(made, _)| *made <= block).map(|(_, content)| content)
    }

    fn put(&mut self, name: &str, block: u64, content: Json) {
        self.rows.entry(name.to_owned()).or_default().push((block, content));
    }

    /// What is older than what `block` made so is not asked for any more.
    fn forget_before(&mut self, block: u64) {
        for versions in self.rows.values_mut() {
            let newest = versions.iter().rposition(|(made, _)| *made <= block).unwrap_or(0);
            versions.drain(..newest);
        }
    }

    fn lose_after(&mut self, block: u64) {
        self.rows.retain(|_, versions| {
            versions.retain(|(made, _)| *made <= block);
            !versions.is_empty()
        });
    }
}

/// A block that is not durable yet.
struct Block {
    number: u64,
    names: BTreeSet<String>,
}

/// Checks one trace.
pub struct Checker<'s> {
    spec: &'s Spec,
    known: Known,
    blocks: Vec<Block>,
    durable: u64,
    view: BTreeMap<String, Json>,
    /// Replies that wait, with the newest block that they wait for.
    held: BTreeMap<u64, u64>,
    /// Whether the producer ids that were reserved and not given out may have been skipped.
    restarted: bool,
    deleted: Vec<String>,
    pub coverage: Coverage,
}

/// The modules that traces are held against, each after those that it extends.
const MODULES: [&str; 6] = ["Types", "IdempotentLog", "GroupOffsets", "TxnCoordinator", "Eos", "Trace"];

/// The specification as one module: tla-eval 0.2 looks for what an argument names in the module of the operator that is
/// called, not in the one that calls it.
pub fn specification(folder: &Path) -> Spec {
    parse(&source(folder))
}

/// The text of the specification as one module.
pub fn source(folder: &Path) -> String {
    source_of(|module| {
        let path = folder.join(format!("{module}.tla"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

/// As one module, from the text of each.
pub fn source_of(module: impl Fn(&str) -> String) -> String {
    let mut source = "---- MODULE Trace ----\nEXTENDS Integers, Sequences, FiniteSets, TLC\n".to_owned();
    for name in MODULES {
        let text = module(name);
        let body = text.lines().skip(1).take_while(|line| !line.starts_with("===="));
        body.filter(|line| !line.starts_with("EXTENDS")).for_each(|line| source.extend([line, "\n"]));
    }
    source.push_str("====\n");
    source
}

pub fn parse(source: &str) -> Spec {
    Spec::parse(source).unwrap_or_else(|error| panic!("tla/: {error}"))
}

fn none() -> Value {
    Value::string("None")
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::record(fields.map(|(name, value)| (name.to_owned(), value)))
}

fn function(entries: impl IntoIterator<Item = (Value, Value)>) -> Value {
    Value::function(entries.into_iter().collect())
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => none(),
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => Value::Int(number.as_i64().unwrap_or(i64::MAX)),
        Json::String(text) => Value::string(text.clone()),
        Json::Array(items) => Value::Seq(items.iter().map(value).collect()),
        Json::Object(fields) => {
            Value::record(fields.iter().map(|(name, field)| (name.clone(), value(field))))
        }
    }
}

fn rows(line: &Json, field: &str) -> Rows {
    let rows = line[field].as_array().into_iter().flatten();
    rows.map(|row| (row[0].to_string(), row[1].clone())).collect()
}

fn number_or_zero(json: &Json) -> Value {
    if json.is_null() { Value::Int(0) } else { value(json) }
}

fn name_of(parts: &[&str]) -> String {
    serde_json::json!(parts).to_string()
}

/// The parts of a row's name: its kind first.
fn parts(name: &str) -> Vec<Json> {
    serde_json::from_str(name).unwrap_or_default()
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

/// Rows that are never logged.
fn is_volatile(name: &str) -> bool {
    name.starts_with("[\"newest\"") || name.starts_with("[\"nextPid\"")
}

impl<'s> Checker<'s> {
    pub fn new(spec: &'s Spec) -> Checker<'s> {
        Checker {
            spec,
            known: Known::default(),
            blocks: Vec::new(),
            durable: 0,
            view: BTreeMap::new(),
            held: BTreeMap::new(),
            restarted: false,
            deleted: Vec::new(),
            coverage: Coverage::default(),
        }
    }

    /// Checks the next line.
    pub fn line(&mut self, line: &Json) -> Result<(), Rejected> {
        self.coverage.lines += 1;
        let kind = text(&line["do"]);
        let checked = match kind.as_str() {
            "Decide" => self.decide(line),
            "MakeDurable" => self.make_durable(line),
            "Publish" => self.publish(line),
            "Release" => self.release(line),
            "Recover" => self.recover(line),
            "DeleteTopic" => self.delete_topic(line),
            "Outside" => self.outside_row(line),
            "Evolve" | "End" => Ok(()),
            other => wrong("the trace cannot be read", format!("what is {other:?}?")),
        };
        if !matches!(kind.as_str(), "Decide" | "Outside" | "End") {
            *self.coverage.actions.entry(kind).or_default() += 1;
        }
        let line = self.coverage.lines;
        checked.map_err(|wrong| Rejected { line, wrong })
    }

    fn decide(&mut self, line: &Json) -> Check {
        let (before, after) = (rows(line, "before"), rows(line, "after"));
        for (name, content) in &before {
            self.follows(name, content)?;
        }
        let block = line["block"].as_u64();
        self.belongs_to_a_block(&after, block)?;
        match line["outside"].as_str() {
            Some(why) => *self.coverage.outside.entry(why.to_owned()).or_default() += 1,
            None => self.step(line, &before, &after)?,
        }
        self.take(after, line, block);
        self.hold(line, &before)
    }

    /// What a step finds is what the step before has left.
    fn follows(&mut self, name: &str, content: &Json) -> Check {
        let content = self.without_deleted(content.clone());
        if let Some(known) = self.known.newest(name).cloned() {
            let known = self.without_deleted(known);
            let skipped = self.restarted && name == "[\"nextPid\"]" && content.as_i64() >= known.as_i64();
            // A row of connections may be let go of (spec/transactions.md, E10).
            let let_go = name.starts_with("[\"newest\"") && content.is_null();
            if known != content && !skipped && !let_go {
                let why = format!("{name} was left as {known} and is found as {content}");
                return wrong("a row is not found as it was left", why);
            }
        }
        if name == "[\"nextPid\"]" {
            self.restarted = false;
        }
        if self.known.newest(name).is_none_or(|known| *known != content) {
            self.known.put(name, self.durable, content);
        }
        Ok(())
    }

    fn without_deleted(&self, mut content: Json) -> Json {
        if let Some(enrolled) = content.get_mut("enrolled").and_then(Json::as_array_mut) {
            enrolled.retain(|partition| !self.is_deleted(partition.as_str().unwrap_or_default()));
        }
        content
    }

    fn is_deleted(&self, partition: &str) -> bool {
        self.deleted.iter().any(|topic| partition.starts_with(topic))
    }

    fn belongs_to_a_block(&self, after: &Rows, block: Option<u64>) -> Check {
        let newest = self.blocks.last().map_or(self.durable, |block| block.number);
        match block {
            None if after.keys().all(|name| is_volatile(name)) => Ok(()),
            None => wrong("a row changes, and no block says so", format!("{:?}", after.keys())),
            Some(block) if block >= newest && block > self.durable => Ok(()),
            Some(block) => wrong("blocks out of order", format!("{block} is decided after {newest}")),
        }
    }

    fn take(&mut self, after: Rows, line: &Json, block: Option<u64>) {
        let durable = self.durable;
        let made = block.or_else(|| line["observed"].as_u64()).unwrap_or(durable).max(durable);
        if let Some(number) = block {
            if self.blocks.last().is_none_or(|newest| newest.number != number) {
                self.blocks.push(Block { number, names: BTreeSet::new() });
            }
            let names = after.keys().filter(|name| !is_volatile(name)).cloned();
            self.blocks.last_mut().into_iter().for_each(|newest| newest.names.extend(names.clone()));
        }
        for (name, content) in after {
            let content = self.without_deleted(content);
            self.known.put(&name, made, content);
        }
    }
}

// ------------------------------------------------------------------------------------------------ a step of the core

/// A step, as the specification sees it through one offset of one group.
struct Step<'a> {
    line: &'a Json,
    messages: Vec<Json>,
    answers: Vec<Json>,
    focus: Option<(String, String)>,
    before: &'a Rows,
    after: &'a Rows,
    ids: BTreeSet<String>,
    partitions: BTreeSet<String>,
    producers: BTreeSet<i64>,
}

impl Checker<'_> {
    fn step(&mut self, line: &Json, before: &Rows, after: &Rows) -> Check {
        let mut messages = line["messages"].as_array().cloned().unwrap_or_default();
        let mut answers = line["answers"].as_array().cloned().unwrap_or_default();
        if messages.is_empty()
            && let Some((group, times)) = rebalanced(before, after)
        {
            messages = vec![serde_json::json!({"type": "Rebalance", "group": group}); times];
            answers = vec![serde_json::json!({"error": "NONE"}); times];
        }
        let of_spec = |name: &String| !matches!(text(&parts(name)[0]).as_str(), "newest" | "open");
        if messages.is_empty() {
            let changed = |(name, row): &(&String, &Json)| of_spec(name) && before.get(*name) != Some(row);
            if let Some((name, _)) = after.iter().find(changed) {
                let rows = format!("rows ({})", text(&parts(name)[0]));
                *self.coverage.outside.entry(rows).or_default() += 1;
            }
            return Ok(());
        }
        for (index, focus) in focuses(&messages, before, after).into_iter().enumerate() {
            let about = |message: &Json| {
                focus.is_none() || message.get("input").is_none() || focus == Some(offset_of(message))
            };
            let chosen = messages.iter().zip(&answers).filter(|(message, _)| about(message));
            let (messages, answers) =
                chosen.map(|(message, answer)| (message.clone(), answer.clone())).unzip();
            let step = Step::new(line, (messages, answers), focus, (before, after));
            let actions = self.compare(&step)?;
            if index == 0 {
                actions.into_iter().for_each(|action| *self.coverage.actions.entry(action).or_default() += 1);
            }
        }
        Ok(())
    }

    /// What the specification makes of the step, against what the code made of it. Gives the actions.
    fn compare(&self, step: &Step<'_>) -> Result<Vec<String>, Wrong> {
        let evaluator = Evaluator::new(self.spec, step.constants())?;
        let state = self.state(step, step.before, false);
        let asked = step.messages.first().map_or_else(String::new, |message| text(&message["type"]));
        let expected = evaluator.value_of("Expected", &state)?;
        let field = |name: &str| expected.apply(&Value::string(name)).unwrap_or_else(none);
        let answered = Value::Seq(step.answers.iter().map(value).collect());
        let unlike =
            |what: String, why: String| wrong(what, format!("{}: {why}", Json::Array(step.messages.clone())));
        if let Some(why) = difference("it", &field("answers"), &answered) {
            return unlike(format!("what {asked} is answered"), why);
        }
        if let Some(why) = difference("", &comparable(&field("core")), &self.core(step, step.after, true)) {
            return unlike(format!("what {asked} makes of the rows"), why);
        }
        let stable = evaluator.value_of("LastStable", &state)?;
        for partition in &step.partitions {
            let row = step.row(step.after, &["partition", partition]);
            let shown = row.get("stable").map_or_else(none, value);
            let should = stable.apply(&Value::string(partition.clone())).unwrap_or_else(none);
            let is_told = step.before.contains_key(&name_of(&["open", partition])) && shown != none();
            if let Some(why) = difference("it", &should, &shown).filter(|_| is_told) {
                return unlike(format!("the last stable offset after {asked}"), why);
            }
        }
        let mut next = state.clone();
        next.insert("newest".into(), step.newest(step.after));
        if !evaluator.step_allowed("NewestNoted", &state, &next)? {
            let why = format!("{} becomes {}", state["newest"], next["newest"]);
            return unlike(format!("the newest connections after {asked}"), why);
        }
        let actions = field("actions").entries().unwrap_or_default().into_values();
        Ok(actions.map(|action| action.to_string().trim_matches('"').to_owned()).collect())
    }

    fn state(&self, step: &Step<'_>, rows: &Rows, after: bool) -> State {
        let messages = Value::Seq(step.messages.iter().map(value).collect());
        BTreeMap::from([
            ("core".to_owned(), self.core(step, rows, after)),
            ("newest".to_owned(), step.newest(rows)),
            ("line".to_owned(), record([("messages", messages)])),
        ])
    }

    /// The specification's state of the core, from the rows of the step.
    fn core(&self, step: &Step<'_>, rows: &Rows, after: bool) -> Value {
        let ids = step.ids.iter().map(|id| (Value::string(id.clone()), self.transaction(step, rows, id)));
        let parts = step.partitions.iter();
        let outcomes =
            step.after.iter().filter(|_| after).filter_map(|(name, row)| self.outcome(step, name, row));
        record([
            ("txn", function(ids)),
            ("part", function(parts.map(|p| (Value::string(p.clone()), step.partition(rows, p, after))))),
            ("group", step.group(rows)),
            ("nextPid", value(&step.next_producer_id(rows))),
            ("restored", number_or_zero(&step.row(rows, &["restored"]))),
            ("outcomes", Value::set(outcomes)),
            ("owed", Value::set([])),
        ])
    }

    fn transaction(&self, step: &Step<'_>, rows: &Rows, id: &str) -> Value {
        let mut row = step.row(rows, &["txn", id]);
        if row.is_null() {
            return none();
        }
        let enrolled = Value::set(self.enrolled(&row));
        let groups = row["grouped"].take();
        let grouped = match step.group_named() {
            Some(group) => groups.as_array().into_iter().flatten().any(|other| *other == group),
            None => groups.as_array().is_some_and(|groups| !groups.is_empty()),
        };
        row["enrolled"] = Json::Null;
        let Value::Record(mut fields) = value(&row) else { return none() };
        fields.insert("enrolled".into(), enrolled);
        fields.insert("grouped".into(), Value::Bool(grouped));
        Value::Record(fields)
    }

    fn enrolled(&self, row: &Json) -> Vec<Value> {
        let enrolled = row["enrolled"].as_array().into_iter().flatten().map(text);
        enrolled.filter(|partition| !self.is_deleted(partition)).map(Value::string).collect()
    }

    fn outcome(&self, step: &Step<'_>, name: &str, row: &Json) -> Option<Value> {
        let name = parts(name);
        if name[0] != "outcome" || row.is_null() {
            return None;
        }
        let before = step.row(step.before, &["txn", &text(&name[1])]);
        let mut enrolled = if before["state"] == "Ongoing" || before["state"] == "Prepared" {
            self.enrolled(&before)
        } else {
            Vec::new()
        };
        // Those that it comes to in the step that ends it.
        let appended = step.line["appended"].as_array().into_iter().flatten();
        let own = appended.filter(|entry| {
            let txn = &entry[1]["txn"];
            entry[1]["kind"] == "data" && txn["tid"] == name[1] && txn["number"] == name[2]
        });
        enrolled.extend(own.map(|entry| value(&entry[0])));
        Some(record([
            ("tid", value(&name[1])),
            ("number", value(&name[2])),
            ("outcome", value(&row["outcome"])),
            ("pid", value(&row["pid"])),
            ("epoch", value(&row["epoch"])),
            ("enrolled", Value::set(enrolled)),
        ]))
    }
}

/// What there is no telling from rows is taken out: to which transaction a committed offset goes back.
fn comparable(core: &Value) -> Value {
    let Value::Record(mut core) = core.clone() else { return core.clone() };
    if let Some(Value::Record(group)) = core.get_mut("group") {
        group.insert("applied".into(), Value::set([]));
        if let Some(Value::Record(committed)) = group.get_mut("committed") {
            committed.insert("txn".into(), none());
            committed.insert("op".into(), none());
        }
    }
    Value::Record(core)
}

/// The first place where two values differ, and how.
fn difference(place: &str, expected: &Value, found: &Value) -> Option<String> {
    if expected == found {
        return None;
    }
    if let (Some(left), Some(right)) = (expected.entries(), found.entries())
        && left.keys().eq(right.keys())
    {
        let inside = |(key, value): (&Value, &Value)| {
            difference(&format!("{place}.{}", key.to_string().trim_matches('"')), value, right.get(key)?)
        };
        return left.iter().find_map(inside);
    }
    Some(format!("{place} should be {expected} and is {found}"))
}

/// The group that has another generation, and how many it has gone through in one decision: the members of one have gone,
/// and the next is formed.
fn rebalanced(before: &Rows, after: &Rows) -> Option<(String, usize)> {
    let newer = |(name, newest): (&String, &Json)| {
        let name_parts = parts(name);
        let newest = newest.as_i64().filter(|_| name_parts[0] == "generation")?;
        let before = before.get(name).and_then(Json::as_i64).unwrap_or(0);
        let times = usize::try_from((newest - before).clamp(1, 2)).unwrap_or(1);
        (newest != before).then(|| (text(&name_parts[1]), times))
    };
    after.iter().find_map(newer)
}

fn offset_of(message: &Json) -> (String, String) {
    (text(&message["group"]), text(&message["input"]))
}

/// The offsets that a step is about, each looked at by itself; one look without any if it is about none.
fn focuses(messages: &[Json], before: &Rows, after: &Rows) -> Vec<Option<(String, String)>> {
    let asked = messages.iter().filter(|message| message.get("input").is_some()).map(offset_of);
    let mut found: BTreeSet<(String, String)> = asked.collect();
    if found.is_empty() {
        for name in before.keys().chain(after.keys()) {
            let name = parts(name);
            match (text(&name[0]).as_str(), name.as_slice()) {
                ("offset", [_, group, input]) | ("pending", [_, _, group, input]) => {
                    found.insert((text(group), text(input)));
                }
                _ => {}
            }
        }
    }
    if found.is_empty() { vec![None] } else { found.into_iter().take(OFFSETS_MAX).map(Some).collect() }
}

impl<'a> Step<'a> {
    fn new(
        line: &'a Json,
        (messages, answers): (Vec<Json>, Vec<Json>),
        focus: Option<(String, String)>,
        (before, after): (&'a Rows, &'a Rows),
    ) -> Step<'a> {
        let mut ids: BTreeSet<String> = line["tid"].as_str().map(str::to_owned).into_iter().collect();
        let (mut partitions, mut producers) = (BTreeSet::new(), BTreeSet::new());
        for message in &messages {
            producers.extend(message["pid"].as_i64());
            partitions.extend(message["p"].as_str().map(str::to_owned));
        }
        for (name, row) in before.iter().chain(after) {
            let name = parts(name);
            match (text(&name[0]).as_str(), name.get(1), name.get(2)) {
                ("txn", Some(id), _) => {
                    ids.insert(text(id));
                    producers.extend(row["pid"].as_i64());
                }
                ("producer", Some(partition), Some(producer)) => {
                    partitions.insert(text(partition));
                    producers.extend(producer.as_i64());
                }
                ("partition", Some(partition), _) => {
                    partitions.insert(text(partition));
                }
                ("open", _, _) => {
                    let open = row.as_array().into_iter().flatten();
                    producers.extend(open.filter_map(|open| open[0].as_i64()));
                }
                ("nextPid", _, _) => producers.extend(row.as_i64()),
                _ => {}
            }
        }
        let mut step = Step { line, messages, answers, focus, before, after, ids, partitions, producers };
        step.producers.extend(step.next_producer_id(before).as_i64());
        step
    }

    /// A row after the step if `rows` are those that it has changed, else before it.
    fn row(&self, rows: &Rows, name: &[&str]) -> Json {
        self.find(rows, &name_of(name))
    }

    fn find(&self, rows: &Rows, name: &str) -> Json {
        rows.get(name).or_else(|| self.before.get(name)).cloned().unwrap_or(Json::Null)
    }

    fn next_producer_id(&self, rows: &Rows) -> Json {
        match self.row(rows, &["nextPid"]) {
            Json::Null => Json::from(0),
            next => next,
        }
    }

    fn group_named(&self) -> Option<Json> {
        let message = self.messages.first()?;
        message.get("group").cloned()
    }

    fn newest(&self, rows: &Rows) -> Value {
        let connection = |id: &str, kind: &str| number_or_zero(&self.row(rows, &["newest", id, kind]));
        function(self.ids.iter().map(|id| {
            let kinds =
                record([("transaction", connection(id, "transaction")), ("group", connection(id, "group"))]);
            (Value::string(id.clone()), kinds)
        }))
    }

    fn partition(&self, rows: &Rows, partition: &str, after: bool) -> Value {
        let row = self.row(rows, &["partition", partition]);
        let offset = |field: &str| Value::Int(row[field].as_i64().unwrap_or(0));
        let producers =
            self.producers.iter().map(|id| (Value::Int(*id), self.producer(rows, partition, *id)));
        let appended = self.line["appended"].as_array().into_iter().flatten();
        let here = appended.filter(|entry| after && entry[0] == partition).map(|entry| value(&entry[1]));
        record([
            ("life", Value::Int(0)),
            ("start", offset("start")),
            ("next", offset("next")),
            ("log", Value::Seq(here.collect())),
            ("producer", function(producers)),
            ("aborted", Value::set(if after { self.aborted(partition) } else { Vec::new() })),
        ])
    }

    fn aborted(&self, partition: &str) -> Vec<Value> {
        let range = |(name, first): (&String, &Json)| {
            let name = parts(name);
            let is_new = name[0] == "aborted" && name[1] == partition && !first.is_null();
            let range =
                || record([("pid", value(&name[2])), ("first", value(first)), ("last", value(&name[3]))]);
            is_new.then(range)
        };
        self.after.iter().filter_map(range).collect()
    }

    /// What the partition remembers of a producer. Of one that the step is not about, only that it has something open.
    fn producer(&self, rows: &Rows, partition: &str, producer: i64) -> Value {
        let name = serde_json::json!(["producer", partition, producer]).to_string();
        let tid = self.line["tid"].clone();
        if self.before.contains_key(&name) || self.after.contains_key(&name) {
            let mut row = self.find(rows, &name);
            if let Some(open) = row.get_mut("open").and_then(Json::as_object_mut) {
                open.insert("tid".into(), tid);
            }
            return value(&row);
        }
        let open = self.row(self.before, &["open", partition]);
        let first = open.as_array().into_iter().flatten().find(|open| open[0].as_i64() == Some(producer));
        first.map_or_else(none, |open| {
            let open = record([("tid", none()), ("number", none()), ("first", value(&open[1]))]);
            record([
                ("epoch", none()),
                ("stored", none()),
                ("batches", Value::Seq(Vec::new())),
                ("open", open),
            ])
        })
    }

    fn group(&self, rows: &Rows) -> Value {
        let named = self.group_named().map(|group| text(&group));
        let name = self.focus.as_ref().map(|(group, _)| group.clone()).or(named).unwrap_or_default();
        let generation = number_or_zero(&self.row(rows, &["generation", &name]));
        let input = self.focus.as_ref().map(|(_, input)| input.as_str()).unwrap_or_default();
        let committed = match self.row(rows, &["offset", &name, input]) {
            Json::Null => none(),
            offset => record([("offset", value(&offset)), ("txn", none()), ("op", none())]),
        };
        let pending =
            self.ids.iter().map(|id| (Value::string(id.clone()), self.pending(rows, id, &name, input)));
        record([
            ("generation", generation),
            ("committed", committed),
            ("pending", function(pending)),
            ("applied", Value::set([])),
        ])
    }

    /// Pending offsets are found by the producer id under which the transaction runs.
    fn pending(&self, rows: &Rows, id: &str, group: &str, input: &str) -> Value {
        let row = self.row(self.before, &["txn", id]);
        let producer = if row["prepared"].is_null() { &row["pid"] } else { &row["prepared"]["by"][0] };
        let name = serde_json::json!(["pending", producer, group, input]).to_string();
        match value(&self.find(rows, &name)) {
            Value::Record(mut fields) => {
                fields.insert("op".into(), none());
                Value::Record(fields)
            }
            other => other,
        }
    }

    fn constants(&self) -> BTreeMap<String, Value> {
        let version = self.line["version"].as_i64().unwrap_or(2);
        let strings = |names: &BTreeSet<String>| Value::set(names.iter().cloned().map(Value::string));
        let producers = Value::set(self.producers.iter().copied().map(Value::Int));
        let mut ordered =
            vec!["InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "PrepareTxn"];
        // Version 2's EndTxn needs no order: its epoch tells which transaction it ends.
        ordered.extend((version == 1).then_some("EndTxn"));
        let mut constants = environment();
        constants.extend([
            ("TransactionalIds".to_owned(), strings(&self.ids)),
            ("Partitions".to_owned(), strings(&self.partitions)),
            ("ProducerIds".to_owned(), producers),
            ("Version".to_owned(), Value::Int(version)),
            ("Ordered".to_owned(), Value::set(ordered.into_iter().map(Value::string))),
        ]);
        constants
    }
}

/// The constants that are the same for every step: the code's own numbers, and an environment that does all it can.
fn environment() -> BTreeMap<String, Value> {
    let numbers = [
        ("EpochLast", 32_766),
        ("Remembered", 5),
        ("SequenceSpace", 1 << 31),
        ("Version", 2),
        ("TransactionsMax", 0),
        ("RecordsMax", 0),
        ("OffsetCommits", 0),
        ("RetriesMax", 0),
        ("ExpirationsMax", 1),
        ("ForcesMax", 1),
        ("CrashesMax", 1),
        ("RebalancesMax", 1),
        ("DeletionsMax", 1),
        ("TruncationsMax", 1),
        ("ForgetsMax", 1),
        ("RestoresMax", 1),
        ("BlocksMax", 1 << 30),
    ];
    let mut constants: BTreeMap<String, Value> =
        numbers.into_iter().map(|(name, number)| (name.to_owned(), Value::Int(number))).collect();
    let switches = [
        ("Sharded", false),
        ("Durability", true),
        ("TwoPhase", true),
        ("PrepareTimeouts", true),
        ("Lossy", true),
    ];
    for (name, switch) in switches {
        constants.insert(name.to_owned(), Value::Bool(switch));
    }
    constants.insert("None".to_owned(), none());
    for name in ["TransactionalIds", "Partitions", "ProducerIds", "Clients", "Ordered", "Keeps"] {
        constants.insert(name.to_owned(), Value::set([]));
    }
    constants.insert("ClientTid".to_owned(), Value::Seq(Vec::new()));
    constants
}

// ------------------------------------------------------------------------------------------------------- the engine

impl Checker<'_> {
    /// Behind which block the reply to a step waits, as the specification has it.
    fn hold(&mut self, line: &Json, before: &Rows) -> Check {
        let Some(reply) = line["reply"].as_u64() else { return Ok(()) };
        let messages = line["messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() || line["outside"].is_string() {
            return Ok(());
        }
        let group = messages[0].get("group").map(text).unwrap_or_default();
        let after = rows(line, "after");
        let answers = line["answers"].as_array().cloned().unwrap_or_default();
        let step = Step::new(line, (messages, answers), None, (before, &after));
        let evaluator = Evaluator::new(self.spec, step.constants())?;
        let mut state = self.state(&step, before, false);
        let blocks = self.blocks.iter().map(|block| {
            let rows = block.names.iter().filter_map(|name| row_of_spec(name, &group));
            record([("core", none()), ("rows", Value::set(rows))])
        });
        state.insert("blocks".into(), Value::Seq(blocks.collect()));
        let at = match evaluator.value_of("Waits", &state)? {
            Value::Int(at) => usize::try_from(at).unwrap_or(0),
            other => return wrong("it cannot be evaluated", format!("Waits is {other}")),
        };
        let number =
            at.checked_sub(1).and_then(|index| self.blocks.get(index)).map_or(0, |block| block.number);
        self.held.insert(reply, number);
        Ok(())
    }

    /// The engine's part of the state, in which rows are what a line shows of them.
    fn engine(&self, names: &BTreeSet<String>, decided: u64) -> State {
        let contents = |of: &dyn Fn(&str) -> Json| {
            function(
                names.iter().map(|name| (Value::string(name.clone()), Value::string(of(name).to_string()))),
            )
        };
        let as_of =
            |block: u64| contents(&|name| self.known.as_of(name, block).cloned().unwrap_or(Json::Null));
        let blocks = self.blocks.iter().filter(|block| block.number <= decided);
        let held = self.held.iter().map(|(reply, block)| {
            let at = self.blocks.iter().position(|other| other.number == *block).map_or(0, |index| index + 1);
            self.reply(*reply, at)
        });
        let zero = [
            "conns",
            "dead",
            "retries",
            "expirations",
            "forces",
            "crashes",
            "rebalances",
            "deletions",
            "truncations",
            "forgets",
            "restores",
        ];
        BTreeMap::from([
            ("core".to_owned(), as_of(decided)),
            ("blocks".to_owned(), Value::Seq(blocks.map(|b| self.block(b, as_of(b.number))).collect())),
            ("durable".to_owned(), as_of(self.durable)),
            ("view".to_owned(), contents(&|name| self.view.get(name).cloned().unwrap_or(Json::Null))),
            ("held".to_owned(), Value::set(held)),
            ("up".to_owned(), Value::Bool(true)),
            ("msgs".to_owned(), Value::set([])),
            ("clients".to_owned(), Value::Seq(Vec::new())),
            ("acked".to_owned(), Value::set([])),
            ("newest".to_owned(), Value::Seq(Vec::new())),
            ("seen".to_owned(), Value::Seq(Vec::new())),
            ("spent".to_owned(), Value::record(zero.map(|name| (name.to_owned(), Value::Int(0))))),
            ("saved".to_owned(), none()),
            ("fenced".to_owned(), Value::set([])),
            ("zombie".to_owned(), Value::set([])),
        ])
    }

    fn block(&self, block: &Block, core: Value) -> Value {
        let rows = block.names.iter().map(|name| Value::string(name.clone()));
        record([("core", core), ("rows", Value::set(rows))])
    }

    fn reply(&self, reply: u64, at: usize) -> Value {
        let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        record([("m", number(reply)), ("answer", none()), ("at", number(at as u64))])
    }

    fn allowed(&self, action: &str, from: &State, to: &State) -> Check {
        let evaluator = Evaluator::new(self.spec, environment())?;
        if evaluator.step_allowed(action, from, to)? {
            return Ok(());
        }
        let nearest = evaluator.why_not(action, from, to)?.into_iter().next();
        let why = nearest.map_or(String::new(), |near| format!("`{}` does not hold", near.conjunct));
        wrong(format!("{action} is not possible"), why)
    }

    fn newest_block(&self) -> u64 {
        self.blocks.last().map_or(self.durable, |block| block.number)
    }

    fn make_durable(&mut self, line: &Json) -> Check {
        let number = line["block"].as_u64().unwrap_or(0);
        // Blocks of which the trace shows no row (topics, members) are not in `blocks`.
        if self.blocks.iter().all(|block| block.number != number) && number == self.durable + 1 {
            self.durable = number;
            return Ok(());
        }
        let names = self.blocks.first().map(|block| block.names.clone()).unwrap_or_default();
        let decided = self.newest_block();
        let from = self.engine(&names, decided);
        let left: Vec<Block> = std::mem::take(&mut self.blocks);
        let (_, later): (Vec<Block>, Vec<Block>) = left.into_iter().partition(|block| block.number <= number);
        let before = self.durable;
        let jumps = number != before + 1;
        self.blocks = later;
        self.durable = number;
        let mut to = self.engine(&names, decided);
        to.insert("view".into(), from["view"].clone());
        self.known.forget_before(number);
        self.held.values_mut().for_each(|block| *block = if *block <= number { 0 } else { *block });
        if jumps {
            return wrong(
                "MakeDurable is not possible",
                format!("block {number} comes after block {before}"),
            );
        }
        self.allowed("MakeDurable", &from, &to)
    }

    fn publish(&mut self, line: &Json) -> Check {
        let shown = rows(line, "shown");
        let names: BTreeSet<String> = shown.keys().cloned().collect();
        for name in &names {
            // What was never shown is shown as it was durable then.
            let durable = self.known.as_of(name, self.durable).cloned().unwrap_or(Json::Null);
            self.view.entry(name.clone()).or_insert(durable);
        }
        let decided = self.newest_block();
        let from = self.engine(&names, decided);
        let shown = shown.into_iter().map(|(name, content)| (name, self.without_deleted(content)));
        let shown: Vec<(String, Json)> = shown.collect();
        self.view.extend(shown);
        let to = self.engine(&names, decided);
        if from["view"] == to["view"] && from["view"] == from["durable"] {
            return Ok(());
        }
        self.allowed("Publish", &from, &to).map_err(|Wrong { what, why }| {
            let durable = |name: &String| self.known.as_of(name, self.durable).cloned().unwrap_or(Json::Null);
            let other = names.iter().find(|name| self.view.get(*name) != Some(&durable(name)));
            let shown = other.and_then(|name| self.view.get(name));
            Wrong { what, why: format!("{why}; {other:?} is shown as {shown:?}") }
        })
    }

    fn release(&mut self, line: &Json) -> Check {
        let Some(reply) = line["reply"].as_u64().filter(|reply| self.held.contains_key(reply)) else {
            return Ok(());
        };
        let names = BTreeSet::new();
        let from = self.engine(&names, self.newest_block());
        let block = self.held.remove(&reply).unwrap_or(0);
        let to = self.engine(&names, self.newest_block());
        let early = |wrong: Wrong| Wrong {
            what: "Release is not possible".into(),
            why: format!("reply {reply} leaves before block {block} is durable: {}", wrong.why),
        };
        self.allowed("Leave", &from, &to).map_err(early)
    }

    /// A start: the process that was before has died, at the latest now.
    fn recover(&mut self, line: &Json) -> Check {
        let number = line["block"].as_u64().unwrap_or(0);
        let names: BTreeSet<String> =
            self.blocks.iter().flat_map(|block| block.names.iter().cloned()).collect();
        let from = self.engine(&names, self.newest_block());
        let survives =
            self.blocks.iter().rposition(|block| block.number <= number).map_or(0, |index| index + 1);
        self.blocks.truncate(survives);
        self.held.clear();
        let mut down = self.engine(&names, self.durable);
        let kept = self.blocks.iter();
        let as_of = |block: &Block| {
            let content = |name: &String| self.known.as_of(name, block.number).cloned().unwrap_or(Json::Null);
            let contents = names
                .iter()
                .map(|name| (Value::string(name.clone()), Value::string(content(name).to_string())));
            self.block(block, function(contents))
        };
        down.insert("blocks".into(), Value::Seq(kept.map(as_of).collect()));
        down.insert("up".into(), Value::Bool(false));
        down.insert("view".into(), from["view"].clone());
        if let Some(Value::Record(spent)) = down.get_mut("spent") {
            spent.insert("crashes".into(), Value::Int(1));
        }
        if number < self.durable {
            let why = format!("block {} was durable, and what is found ends with {number}", self.durable);
            return wrong("Recover is not possible", why);
        }
        self.allowed("ProcessCrash", &from, &down)?;
        self.blocks.clear();
        self.durable = number;
        self.known.lose_after(number);
        self.known.forget_before(number);
        self.view = names
            .iter()
            .map(|name| (name.clone(), self.known.as_of(name, number).cloned().unwrap_or(Json::Null)))
            .collect();
        let mut up = self.engine(&names, number);
        if let Some(spent) = up.get_mut("spent") {
            spent.clone_from(&down["spent"]);
        }
        self.restarted = true;
        self.known.rows.retain(|name, _| !name.starts_with("[\"newest\""));
        self.allowed("Recover", &down, &up)
    }

    fn delete_topic(&mut self, line: &Json) -> Check {
        let topic = text(&line["topic"]);
        self.deleted.push(topic.clone());
        self.known
            .rows
            .retain(|name, _| !parts(name).get(1).is_some_and(|part| text(part).starts_with(&topic)));
        for (_, content) in self.known.rows.values_mut().flatten() {
            if let Some(enrolled) = content.get_mut("enrolled").and_then(Json::as_array_mut) {
                enrolled.retain(|partition| !text(partition).starts_with(&topic));
            }
        }
        Ok(())
    }

    /// A test has put a row where no step would have brought it.
    fn outside_row(&mut self, line: &Json) -> Check {
        self.known.rows.remove(&line["row"].to_string());
        Ok(())
    }
}

/// The specification's name of a row that decisions read; the group that the step is about is the specification's only one.
fn row_of_spec(name: &str, group: &str) -> Option<Value> {
    let parts = parts(name);
    match (text(&parts[0]).as_str(), parts.as_slice()) {
        ("txn" | "producer", _) => Some(Value::Seq(parts.iter().map(value).collect())),
        ("offset", [_, of, _]) | ("generation", [_, of]) | ("pending", [_, _, of, _])
            if text(of) == group =>
        {
            Some(Value::Seq(vec![Value::string("group")]))
        }
        _ => None,
    }
}
