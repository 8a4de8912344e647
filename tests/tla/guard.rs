//! The guards of the specification, and the specification without one of them. A guard is
//! - a conjunct of an action that says nothing of the next state, or of anything else that is true or false: TRUE is left of it;
//! - the condition of an IF, or of an arm of a CASE, which can be one that never holds, or always: FALSE or TRUE is left of it.
//!
//! What only bounds a model (`...Max`, `spent`) is none, nor is that something is refused always. A specification without a guard
//! is printed from what was parsed, without comments, and on long lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tla_syntax::token::Op;
use tla_syntax::{Bound, Def, ExceptPath, Expr, Module, Unit, parse_module};

/// A guard, and which one of its module it is.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The operator whose guard it is.
    pub definition: String,
    /// Its text on one line, and how it is taken out if there are two ways: unlike that of any other guard of the operator.
    pub text: String,
    /// Which of the module's guards it is, from 0.
    pub place: usize,
}

impl Guard {
    /// The module without this guard.
    pub fn taken_out_of(&self, module: &str) -> String {
        with_choices(module, &|place, without, _| (place == self.place).then(|| without.clone()))
    }
}

/// All guards of a module, in the order of its text.
pub fn guards(module: &str) -> Vec<Guard> {
    let mut found: Vec<Guard> = Vec::new();
    let mut times: BTreeMap<(String, String), usize> = BTreeMap::new();
    each_guard(&mut parsed(module), &mut |definition, how, guard| {
        let text = how.named(guard);
        let times = times.entry((definition.to_owned(), text.clone())).or_default();
        *times += 1;
        let text = if *times == 1 { text } else { format!("{text} ({times})") };
        let (definition, place) = (definition.to_owned(), found.len());
        found.push(Guard { definition, text, place });
    });
    found
}

/// The module with what is chosen in the place of guards: by their place, what is left if they are taken out, and themselves.
pub fn with_choices(module: &str, choose: &dyn Fn(usize, &Expr, &Expr) -> Option<Expr>) -> String {
    let mut module = parsed(module);
    let mut place = 0;
    each_guard(&mut module, &mut |_, how, guard| {
        if let Some(chosen) = choose(place, &how.without(), guard) {
            *guard = chosen;
        }
        place += 1;
    });
    definitions(&mut module).for_each(|definition| bracket(&mut definition.body));
    module.to_string()
}

fn parsed(module: &str) -> Module {
    parse_module(module).unwrap_or_else(|error| panic!("a module of tla/: {error}"))
}

/// What is asked and assumed, and what is noted down for that: no rule of the broker, its clients or its disk.
const NO_RULES: [&str; 35] = [
    "Spec",
    "LiveSpec",
    "Fairness",
    "Serve",
    "KeysInit",
    "KeysSpec",
    "GroupInit",
    "GroupSpec",
    "GroupFairness",
    "GroupLiveSpec",
    "DeadlineInit",
    "DeadlineSpec",
    "DeadlineLiveSpec",
    "KeyOnce",
    "OneOwner",
    "IsStable",
    "DeadlineKept",
    "IsZombie",
    "TakesEffect",
    "IsStored",
    "NoteLost",
    "Predecessors",
    "Bearers",
    "GroupNext",
    "EngineStep",
    "Init",
    "OneBearer",
    "GroupTypeOK",
    "Uses",
    "NotUndone",
    "Ends",
    "Least",
    "NowFenced",
    "Acknowledges",
    "KeysAtomicWithTxn",
];

/// What only keeps a model small, or says nothing.
fn bounds_a_model(guard: &str) -> bool {
    let bounds = ["\\in Connections", "MayDecide", "MayRaise", "MaySend", "MayOpen", "AtOnce"];
    bounds.iter().any(|bound| guard.contains(bound))
        || guard.split(|c: char| !c.is_alphanumeric()).any(|word| word.len() > 3 && word.ends_with("Max"))
        || ["TRUE", "FALSE"].contains(&guard)
}

/// How a guard is taken out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Conjunct,
    Never,
    Always,
}

impl How {
    fn without(self) -> Expr {
        Expr::Bool(self != How::Never)
    }

    fn named(self, guard: &Expr) -> String {
        match self {
            How::Conjunct => guard.to_string(),
            How::Never => format!("never {guard}"),
            How::Always => format!("always {guard}"),
        }
    }
}

/// Calls for each guard of the module, those inside of one before itself, with the operator whose guard it is.
fn each_guard(module: &mut Module, found: &mut dyn FnMut(&str, How, &mut Expr)) {
    let actions = actions(module);
    let is_rule = |definition: &&mut Def| !NO_RULES.contains(&definition.name.as_str());
    for Def { name, body, .. } in definitions(module).filter(is_rule) {
        Walk { actions: &actions, found: &mut |how, guard| found(name, how, guard) }.expression(body);
    }
}

fn definitions(module: &mut Module) -> impl Iterator<Item = &mut Def> {
    module.units.iter_mut().filter_map(|unit| match unit {
        Unit::Def(definition) => Some(definition),
        _ => None,
    })
}

/// The operators of a module that say something of the next state.
fn actions(module: &Module) -> BTreeSet<String> {
    let mut actions = BTreeSet::new();
    loop {
        let before = actions.len();
        for unit in &module.units {
            if let Unit::Def(definition) = unit
                && is_action(&definition.body, &actions)
            {
                actions.insert(definition.name.clone());
            }
        }
        if actions.len() == before {
            return actions;
        }
    }
}

fn is_action(expression: &Expr, actions: &BTreeSet<String>) -> bool {
    let printed = expression.to_string();
    let outside_of_strings = printed.split('"').step_by(2);
    let mut words =
        outside_of_strings.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    expression.mentions_next_state() || words.any(|word| actions.contains(word))
}

struct Walk<'a> {
    actions: &'a BTreeSet<String>,
    found: &'a mut dyn FnMut(How, &mut Expr),
}

impl Walk<'_> {
    fn expression(&mut self, expression: &mut Expr) {
        match expression {
            Expr::Binary(Op::And, left, right) => {
                self.conjuncts(left);
                self.conjuncts(right);
            }
            Expr::If { cond, then, otherwise } => {
                // That something is refused always shows at once; it is asked only which of two refusals it is.
                let (refuses, refuses_else) = (is_refusal(then), is_refusal(otherwise));
                self.condition(cond, refuses || !refuses_else, refuses_else || !refuses);
                self.expression(then);
                self.expression(otherwise);
            }
            Expr::Case { arms, other } => {
                for (condition, value) in arms {
                    self.condition(condition, true, false);
                    self.expression(value);
                }
                other.iter_mut().for_each(|other| self.expression(other));
            }
            Expr::SetFilter { bound, pred } => {
                bound.domain.iter_mut().for_each(|domain| self.expression(domain));
                self.conjuncts(pred);
            }
            other => each_part(other, &mut |part| self.expression(part)),
        }
    }

    /// Of a conjunction: each conjunct that is not about the next state.
    fn conjuncts(&mut self, expression: &mut Expr) {
        if let Expr::Binary(Op::And, left, right) = expression {
            self.conjuncts(left);
            return self.conjuncts(right);
        }
        let is_guard = !is_action(expression, self.actions) && !bounds_a_model(&expression.to_string());
        self.expression(expression);
        if is_guard {
            (self.found)(How::Conjunct, expression);
        }
    }

    fn condition(&mut self, condition: &mut Expr, never: bool, always: bool) {
        let bounds = bounds_a_model(&condition.to_string());
        self.expression(condition);
        for (how, asked) in [(How::Never, never), (How::Always, always)] {
            if asked && !bounds {
                (self.found)(how, condition);
            }
        }
    }
}

/// Calls for each expression that this one is made of, but for those of behaviours rather than of steps.
fn each_part(expression: &mut Expr, each: &mut dyn FnMut(&mut Expr)) {
    fn domains<'a>(bounds: impl IntoIterator<Item = &'a mut Bound>, each: &mut dyn FnMut(&mut Expr)) {
        bounds.into_iter().filter_map(|bound| bound.domain.as_mut()).for_each(each);
    }
    match expression {
        Expr::Num(_) | Expr::Decimal(_) | Expr::Str(_) | Expr::Bool(_) | Expr::Ident(_) | Expr::At => {}
        Expr::ActionBox { .. } | Expr::ActionAngle { .. } | Expr::Fairness { .. } => {}
        Expr::Prime(inner)
        | Expr::Unary(_, inner)
        | Expr::Field(inner, _)
        | Expr::Lambda { body: inner, .. } => {
            each(inner);
        }
        Expr::Binary(_, left, right) | Expr::FnSet { domain: left, range: right } => {
            each(left);
            each(right);
        }
        Expr::Apply(head, arguments) | Expr::FnApply(head, arguments) => {
            each(head);
            arguments.iter_mut().for_each(each);
        }
        Expr::Qualified { args: all, .. } | Expr::Tuple(all) | Expr::SetEnum(all) => {
            all.iter_mut().for_each(each);
        }
        Expr::Record(fields) | Expr::RecordSet(fields) => {
            fields.iter_mut().for_each(|(_, value)| each(value));
        }
        Expr::SetMap { expr: body, bounds }
        | Expr::FnDef { bounds, body }
        | Expr::Quant { bounds, body, .. } => {
            domains(bounds, each);
            each(body);
        }
        Expr::SetFilter { bound, pred: body } | Expr::Choose { bound, body } => {
            domains([&mut **bound], each);
            each(body);
        }
        Expr::Except { base, updates } => {
            each(base);
            for (path, value) in updates {
                for step in path {
                    if let ExceptPath::Index(index) = step {
                        each(index);
                    }
                }
                each(value);
            }
        }
        Expr::Let { defs, instances, body } => {
            defs.iter_mut().for_each(|definition| each(&mut definition.body));
            let given = instances.iter_mut().flat_map(|instance| &mut instance.subs);
            given.for_each(|(_, value)| each(value));
            each(body);
        }
        Expr::If { cond, then, otherwise } => {
            each(cond);
            each(then);
            each(otherwise);
        }
        Expr::Case { arms, other } => {
            for (condition, value) in arms {
                each(condition);
                each(value);
            }
            other.iter_mut().for_each(|other| each(other));
        }
    }
}

/// Printed, `(a /\ b) \/ c` has no brackets, and TLC asks for them: it has them as `(IF TRUE THEN a /\ b ELSE FALSE) \/ c`.
fn bracket(expression: &mut Expr) {
    const UNLIKE: [&[Op]; 2] = [&[Op::And, Op::Or], &[Op::SetMinus, Op::Cup, Op::Cap]];
    each_part(expression, &mut bracket);
    let Expr::Binary(op, left, right) = expression else { return };
    for side in [left, right] {
        if let Expr::Binary(inner, ..) = &**side
            && inner != op
            && UNLIKE.iter().any(|ops| ops.contains(op) && ops.contains(inner))
        {
            let then = Box::new(std::mem::replace(&mut **side, Expr::At));
            let [cond, otherwise] = [true, false].map(|bool| Box::new(Expr::Bool(bool)));
            **side = Expr::If { cond, then, otherwise };
        }
    }
}

/// `Refuse(...)`, `Refused(...)`, or the name of an error.
fn is_refusal(expression: &Expr) -> bool {
    match expression {
        Expr::Apply(head, _) => matches!(head.to_string().as_str(), "Refuse" | "Refused"),
        Expr::Str(name) => name.len() > 4 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'),
        _ => false,
    }
}

// ---------------------------------------------------------------------------------------- the table

/// The head of `tla/guards.tsv`.
const HEAD: &str = "# Made by `tla/check guards`: what shows that a guard of the specification is missing. A property and the model in which it\n\
    # breaks; \"error\" if the specification has no meaning without it; \"states\" if only bands.tsv shows it, by what a model can\n\
    # reach; \"a trace\" of which histories of the code is not allowed then; or why nothing can.\n\
    # module\tdefinition\tguard\tshown by\n";

/// A line of `tla/guards.tsv`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub module: String,
    pub definition: String,
    pub guard: String,
    pub shown: String,
}

impl Line {
    pub fn is_of(&self, module: &str, guard: &Guard) -> bool {
        self.module == module && self.definition == guard.definition && self.guard == guard.text
    }
}

/// The lines of the table at this path, none if there is no table.
pub fn lines(table: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [module, definition, guard, shown] = cells.as_slice() else { panic!("tla/guards.tsv: {line}") };
        let [module, definition, guard, shown] =
            [module, definition, guard, shown].map(|cell| (*cell).to_owned());
        Line { module, definition, guard, shown }
    });
    lines.collect()
}

/// In the order of the modules' text.
pub fn write(table: &Path, lines: &[Line]) {
    let mut lines = lines.to_vec();
    let mut places: Vec<(String, Vec<Guard>)> = Vec::new();
    for line in &lines {
        if places.iter().all(|(module, _)| *module != line.module) {
            let text = std::fs::read_to_string(table.with_file_name(format!("{}.tla", line.module)));
            places.push((line.module.clone(), guards(&text.unwrap_or_default())));
        }
    }
    lines.sort_by_key(|line| {
        let of_module = places.iter().find(|(module, _)| *module == line.module);
        let place =
            of_module.and_then(|(_, guards)| guards.iter().position(|guard| line.is_of(&line.module, guard)));
        (line.module.clone(), place)
    });
    let rows = lines.iter().map(|line| {
        let Line { module, definition, guard, shown } = line;
        format!("{module}\t{definition}\t{guard}\t{shown}\n")
    });
    std::fs::write(table, HEAD.to_owned() + &rows.collect::<String>()).expect("the table can be written");
}
