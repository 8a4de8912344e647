//! The guards of the specification, found in its text, and the specification without one of them. A guard is a conjunct of an
//! action that says when the action is possible, a condition under which a decision refuses, or a conjunct of a predicate
//! that such conditions use. What only bounds a model (`...Max`, `spent`) is none.

use std::ops::Range;
use std::path::Path;

/// A guard, and where it stands in its module's text.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The operator whose guard it is.
    pub definition: String,
    /// Its text, on one line.
    pub text: String,
    /// Where it stands in its module.
    pub place: Range<usize>,
    /// What is left in its place when it is taken out.
    pub without: &'static str,
}

impl Guard {
    /// The module without this guard.
    pub fn taken_out_of(&self, module: &str) -> String {
        format!("{}{}{}", &module[..self.place.start], self.without, &module[self.place.end..])
    }
}

/// All guards of a module, in the order of its text.
pub fn guards(module: &str) -> Vec<Guard> {
    let mut found = Vec::new();
    for (name, body) in definitions(module) {
        let text = &module[body.clone()];
        if NO_RULES.contains(&name.as_str()) {
            continue;
        }
        let is_action = text.contains("UNCHANGED") || is_primed(text);
        let conjuncts = if is_action || is_predicate(text) { conjuncts(text) } else { Vec::new() };
        let conditions = if is_action { Vec::new() } else { refusing_conditions(text) };
        let all = conjuncts.into_iter().map(|place| (place, "TRUE"));
        for (place, without) in all.chain(conditions.into_iter().map(|place| (place, "FALSE"))) {
            let guard = &text[place.clone()];
            if !bounds_a_model(guard) {
                found.push(Guard {
                    definition: name.clone(),
                    text: guard.split_whitespace().collect::<Vec<_>>().join(" "),
                    place: body.start + place.start..body.start + place.end,
                    without,
                });
            }
        }
    }
    found.sort_by_key(|guard| guard.place.start);
    found
}

/// What is asked and assumed, and what is noted down for that: no rule of the broker, its clients or its disk.
const NO_RULES: [&str; 25] = [
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
];

/// What only keeps a model small, or says nothing.
fn bounds_a_model(guard: &str) -> bool {
    let trimmed = guard.trim();
    let bounds = ["Max", "\\in Connections", "MayDecide", "MayRaise", "MaySend", "MayOpen", "AtOnce"];
    bounds.iter().any(|bound| guard.contains(bound)) || ["TRUE", "FALSE", ""].contains(&trimmed)
}

/// The definitions at the left edge, with the range of what stands behind `==`. Comments count as blank.
fn definitions(module: &str) -> Vec<(String, Range<usize>)> {
    let mut found: Vec<(String, Range<usize>)> = Vec::new();
    let mut at = 0;
    for line in module.split_inclusive('\n') {
        let starts = line.starts_with(|first: char| first.is_alphabetic());
        let ends = starts || line.starts_with(['-', '=', '(']);
        if let (true, Some((_, body))) = (ends, found.last_mut())
            && body.end == usize::MAX
        {
            body.end = at;
        }
        if let (true, Some((head, _))) = (starts, line.split_once("==")) {
            let name = head.split(['(', ' ']).next().unwrap_or_default().to_owned();
            found.push((name, at + head.len() + 2..usize::MAX));
        }
        at += line.len();
    }
    found.iter_mut().filter(|(_, body)| body.end == usize::MAX).for_each(|(_, body)| body.end = at);
    found
}

fn is_primed(text: &str) -> bool {
    let mut before = ' ';
    text.chars().any(|c| {
        let primed = c == '\'' && (before.is_alphanumeric() || before == '_' || before == ']');
        before = c;
        primed
    })
}

/// Nothing but conjunctions of conditions.
fn is_predicate(text: &str) -> bool {
    let makes_values = ["IF ", "EXCEPT", "|->", "CHOOSE", "Step(", "\\cup", "@@", "LET "];
    text.contains("/\\") && !makes_values.iter().any(|maker| text.contains(maker))
}

/// How deep each byte of a text stands in brackets; comments are infinitely deep.
fn depths(text: &str) -> Vec<usize> {
    let mut depths = Vec::with_capacity(text.len());
    let (mut depth, mut comment) = (0usize, None);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let next = bytes.get(at + 1);
        match (comment, byte, next) {
            (None, b'\\', Some(b'*')) => comment = Some(b'\n'),
            (None, b'(', Some(b'*')) => comment = Some(b')'),
            (None, b'(' | b'[' | b'{', _) => depth += 1,
            (None, b'<', Some(b'<')) => depth += 1,
            (None, b'>', Some(b'>')) => depth = depth.saturating_sub(1),
            _ => {}
        }
        depths.push(if comment.is_some() { usize::MAX } else { depth });
        match (comment, byte) {
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (Some(end), byte) if *byte == end && (end == b'\n' || (at > 0 && bytes[at - 1] == b'*')) => {
                comment = None;
            }
            _ => {}
        }
    }
    depths
}

/// The conjuncts of a text that say nothing of the next state: those of lists, and those that stand in one line.
fn conjuncts(text: &str) -> Vec<Range<usize>> {
    let depths = depths(text);
    let ands = text.match_indices("/\\").map(|(at, _)| at);
    let ands: Vec<usize> = ands.filter(|at| depths[*at] != usize::MAX).collect();
    let mut found = Vec::new();
    if let Some(first) = ands.first().filter(|first| depths[**first] == 0) {
        // `A /\ B` behind `==`: the first has no sign before it.
        let before = &text[..*first];
        if !before.trim().is_empty() && !before.contains('\n') {
            found.push(0..*first);
        }
    }
    for at in &ands {
        found.push(at + 2..end_of_conjunct(text, &depths, *at));
    }
    // `A => B /\ C` is `A => (B /\ C)`: the conjunct is B.
    for place in &mut found {
        let (conjunct, rest) = (&text[place.clone()], &text[place.end..]);
        let more = !conjunct.ends_with('\n') && rest.trim_start_matches(' ').starts_with("/\\");
        let arrow = conjunct.find(" => ").filter(|at| depths[place.start + at] == depths[place.start]);
        if let (true, Some(arrow)) = (more, arrow) {
            place.start += arrow + " => ".len();
        }
    }
    found.retain_mut(|place| {
        trim(text, place);
        is_condition(&text[place.clone()])
    });
    found
}

/// A conjunct ends where the next one begins, or where the text is indented no more than the sign before it.
fn end_of_conjunct(text: &str, depths: &[usize], at: usize) -> usize {
    let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let mut line_end = at + 2;
    let mut end = text.len();
    for line in text[at + 2..].split_inclusive('\n') {
        let begins = line_end;
        line_end += line.len();
        let indent = line.len() - line.trim_start().len();
        if begins > at + 2 && (line.trim().is_empty() || indent <= column) {
            end = begins;
            break;
        }
    }
    let signs = ["/\\", "\\/", " IN ", " THEN ", " ELSE ", ")", "]", "}"];
    let next = signs.iter().filter_map(|sign| {
        let mut places = text[at + 2..end].match_indices(sign).map(|(place, _)| at + 2 + place);
        places.find(|place| depths[*place] == depths[at])
    });
    next.min().map_or(end, |next| next.min(end))
}

fn trim(text: &str, place: &mut Range<usize>) {
    let mut inside = &text[place.clone()];
    if let Some((before, _)) = inside.split_once("\\*") {
        inside = before;
        place.end = place.start + before.len();
    }
    place.start += inside.len() - inside.trim_start().len();
    place.end = place.start + inside.trim().len();
}

/// Whether it is whole, and about this state alone.
fn is_condition(text: &str) -> bool {
    let begins_more = ["LET ", "\\E ", "\\A ", "IF ", "CASE "];
    let opened = text.matches(['(', '[', '{']).count();
    let closed = text.matches([')', ']', '}']).count();
    !text.is_empty()
        && !is_primed(text)
        && !text.contains("UNCHANGED")
        && opened == closed
        && (!begins_more.iter().any(|begin| text.starts_with(begin))
            || (text.contains(':') && text.contains('=')))
        && (!text.starts_with('(') || (text.ends_with(')') && !text.contains('\n')))
        && !calls_an_action(text)
}

/// Operators that are actions themselves, used as conjuncts.
fn calls_an_action(text: &str) -> bool {
    const ACTIONS: [&str; 12] = [
        "Ask(",
        "DecideInto(",
        "NoteSeen(",
        "NoteNewest(",
        "Delivered(",
        "Counted(",
        "Leaves(",
        "Crash",
        "Decided(",
        "Hear(",
        "Noted(",
        "Refused(",
    ];
    ACTIONS.iter().any(|action| text.starts_with(action))
}

/// `IF c THEN Refuse(...)`, and `IF c THEN "AN_ERROR"`: the condition.
fn refusing_conditions(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("IF ") {
        let rest = &text[at + 3..];
        let Some(then) = rest.find("THEN ") else { continue };
        let branch = rest[then + 5..].trim_start();
        let refuses = branch.starts_with("Refuse(") || is_error(branch);
        if refuses && !rest[..then].contains("IF ") {
            let mut place = at + 3..at + 3 + then;
            trim(text, &mut place);
            found.push(place);
        }
    }
    found
}

fn is_error(text: &str) -> bool {
    let name = text.strip_prefix('"').and_then(|rest| rest.split('"').next());
    name.is_some_and(|name| name.len() > 4 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
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
