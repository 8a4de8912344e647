//! The guards of the core, found in its text, and how each of them is broken. A guard is a condition: of an `if`, of an arm
//! of a `match`, of a function that answers yes or no; an operand of `&&` or `||` in one; a bound (`<`, `<=`, `>`, `>=`); a
//! check whose refusal is passed on (`check_…()?;`); or an arm that refuses where others do not.
//!
//! What cannot be broken without breaking the build is none: that something is there at all (`let … else`), or the type of what a
//! function wants. Nor is what only says which rows to ask for at once (`require_…`, `rows_of…`): what is missing then is asked
//! for when it is looked at.

use std::collections::BTreeMap;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, BinOp, Expr, ExprClosure, ExprIf, ExprMatch, ExprMethodCall, ItemFn, Pat, Stmt};

/// What becomes of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// It always holds.
    Always,
    /// It never holds.
    Never,
    /// A bound that is reached is taken for one that is not, and the other way round.
    Bound,
    /// A check whose refusal is passed on is not made.
    Unchecked,
}

impl Without {
    pub fn name(self) -> &'static str {
        match self {
            Without::Always => "always",
            Without::Never => "never",
            Without::Bound => "bound",
            Without::Unchecked => "unchecked",
        }
    }
}

/// A guard, and one way to break it.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The function it is in; the type, too, if it is one's own.
    pub function: String,
    /// Its text, on one line; with a number if the function has it more than once.
    pub text: String,
    pub without: Without,
    edits: Edits,
}

/// Text around a guard, with `{}` for the number of the guard, and in the place of an operator.
#[derive(Clone, Debug)]
struct Edits {
    place: Range<usize>,
    before: String,
    operator: Option<(Range<usize>, String)>,
    after: String,
}

/// The function that the broken text asks whether a guard is broken.
const BROKEN: &str = "crate::core::mutant::is_broken({})";

/// All guards of a file, in the order of its text.
pub fn guards(text: &str) -> Vec<Guard> {
    let file = syn::parse_file(text).expect("a file of Rust");
    let mut finder = Finder { text, function: Vec::new(), found: Vec::new() };
    finder.visit_file(&file);
    let mut found = finder.found;
    found.sort_by_key(|guard| (guard.edits.place.start, guard.edits.place.end));
    let mut seen: BTreeMap<(String, String, &str), usize> = BTreeMap::new();
    for guard in &mut found {
        let times =
            seen.entry((guard.function.clone(), guard.text.clone(), guard.without.name())).or_default();
        *times += 1;
        if *times > 1 {
            guard.text = format!("{} #{times}", guard.text);
        }
    }
    found
}

/// The file's text, in which each guard is broken when it is asked for by its number.
pub fn breakable(text: &str, guards: &[(usize, Guard)]) -> String {
    // Of what begins or ends at one place, what is further out comes first and last.
    let mut pieces: Vec<(usize, u8, isize, usize, usize, String)> = Vec::new();
    for (at, (number, guard)) in guards.iter().enumerate() {
        let Edits { place, before, operator, after } = &guard.edits;
        let filled = |piece: &str| piece.replace("{}", &number.to_string());
        let length = isize::try_from(place.len()).expect("a short guard");
        pieces.push((place.start, 1, -length, at, place.start, filled(before)));
        pieces.push((place.end, 0, length, usize::MAX - at, place.end, filled(after)));
        if let Some((operator, instead)) = operator {
            pieces.push((operator.start, 2, 0, at, operator.end, filled(instead)));
        }
    }
    pieces.sort();
    let (mut broken, mut done) = (String::with_capacity(text.len() * 3), 0);
    for (start, _, _, _, end, piece) in pieces {
        broken.push_str(&text[done..start]);
        broken.push_str(&piece);
        done = end;
    }
    broken + &text[done..]
}

struct Finder<'t> {
    text: &'t str,
    function: Vec<String>,
    found: Vec<Guard>,
}

impl Finder<'_> {
    fn add(&mut self, guard: &impl Spanned, without: Without, before: &str, after: &str) {
        let place = guard.span().byte_range();
        self.add_edits(without, Edits { place, before: before.into(), operator: None, after: after.into() });
    }

    fn add_edits(&mut self, without: Without, edits: Edits) {
        let text = self.text[edits.place.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
        self.found.push(Guard { function: self.function.join("::"), text, without, edits });
    }

    fn always(&mut self, condition: &Expr) {
        self.add(condition, Without::Always, &format!("({BROKEN} || ("), "))");
    }

    fn never(&mut self, condition: &Expr) {
        match has_let(condition) {
            true => self.add(condition, Without::Never, &format!("!{BROKEN} && "), ""),
            false => self.add(condition, Without::Never, &format!("(!{BROKEN} && ("), "))"),
        }
    }

    /// A condition as a whole. What it consists of is broken the other way, each by itself: see [`Self::visit_expr_binary`].
    fn condition(&mut self, condition: &Expr) {
        let operator = joined(condition);
        if is_switched_off(condition) || names_mutant(condition) {
            return;
        }
        if !matches!(operator, Some(BinOp::Or(_))) {
            self.never(condition);
        }
        if !matches!(operator, Some(BinOp::And(_))) && !has_let(condition) {
            self.always(condition);
        }
    }

    fn bound(&mut self, bound: &syn::ExprBinary) {
        let (less, greater) = ("<", ">");
        let (operator, other) = match bound.op {
            BinOp::Lt(_) => (less, "<="),
            BinOp::Le(_) => ("<=", less),
            BinOp::Gt(_) => (greater, ">="),
            BinOp::Ge(_) => (">=", greater),
            _ => return,
        };
        let after = format!(")) {{ (a, b) => if {BROKEN} {{ a {other} b }} else {{ a {operator} b }} }}");
        let operator = Some((bound.op.span().byte_range(), "), &(".to_owned()));
        let edits = Edits {
            place: bound.span().byte_range(),
            before: "(match (&(".into(),
            operator,
            after: after + ")",
        };
        self.add_edits(Without::Bound, edits);
    }

    /// An arm that refuses, where there is another that would do.
    fn refusing_arm(&mut self, arm: &Arm, others: &[&Arm]) {
        if !refuses(&arm.body) {
            return;
        }
        let caught = others.last().is_some_and(|last| is_any(&last.pat) && last.guard.is_none());
        if others.iter().any(|other| is_nothing(&other.body)) && is_error(&arm.body) {
            self.add(&*arm.body, Without::Never, &format!("if {BROKEN} {{ Ok(()) }} else {{ "), " }");
        } else if caught && arm.guard.is_none() {
            self.add(&arm.pat, Without::Never, "", &format!(" if !{BROKEN}"));
        }
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        if ["require_", "rows_of"].iter().any(|asks| name.starts_with(asks)) {
            return;
        }
        self.function.push(name);
        visit(self);
        self.function.pop();
    }

    fn function_body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let answers_yes_or_no = matches!(&signature.output, syn::ReturnType::Type(_, answer)
            if matches!(&**answer, syn::Type::Path(path) if path.path.is_ident("bool")));
        if answers_yes_or_no && let Some(Stmt::Expr(answer, None)) = block.stmts.last() {
            self.answer(answer);
        }
    }

    /// What a function or closure answers: yes or no.
    fn answer(&mut self, answer: &Expr) {
        // The conditions of other expressions are looked at by themselves.
        let is_condition = matches!(
            answer,
            Expr::Binary(_)
                | Expr::Unary(_)
                | Expr::MethodCall(_)
                | Expr::Call(_)
                | Expr::Macro(_)
                | Expr::Path(_)
        );
        if is_condition {
            self.condition(answer);
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
        if !is_test {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let place = item.self_ty.span().byte_range();
        let name: String = self.text[place].chars().take_while(|next| next.is_alphanumeric()).collect();
        self.within(name, |finder| visit::visit_item_impl(finder, item));
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.within(item.sig.ident.to_string(), |finder| {
            finder.function_body(&item.sig, &item.block);
            visit::visit_item_fn(finder, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(item.sig.ident.to_string(), |finder| {
            finder.function_body(&item.sig, &item.block);
            visit::visit_impl_item_fn(finder, item);
        });
    }

    fn visit_expr_if(&mut self, item: &'ast ExprIf) {
        self.condition(&item.cond);
        visit::visit_expr_if(self, item);
    }

    fn visit_expr_match(&mut self, item: &'ast ExprMatch) {
        for (at, arm) in item.arms.iter().enumerate() {
            if let Some((_, guard)) = &arm.guard {
                self.condition(guard);
            }
            if is_literal(&arm.pat) && at == 0 {
                self.condition(&item.expr);
            }
            let others: Vec<&Arm> = item.arms.iter().filter(|other| !std::ptr::eq(*other, arm)).collect();
            self.refusing_arm(arm, &others);
        }
        visit::visit_expr_match(self, item);
    }

    fn visit_expr_binary(&mut self, item: &'ast syn::ExprBinary) {
        let operands = [&item.left, &item.right].map(|operand| inner(operand));
        match item.op {
            BinOp::And(_) if operands.iter().any(|operand| is_mutant(operand)) => return,
            BinOp::And(_) | BinOp::Or(_) => {
                for operand in
                    operands.into_iter().filter(|operand| !has_let(operand) && !names_mutant(operand))
                {
                    match (&item.op, joined(operand)) {
                        (BinOp::And(_), Some(BinOp::And(_))) | (BinOp::Or(_), Some(BinOp::Or(_))) => {}
                        (BinOp::And(_), _) => self.always(operand),
                        (_, _) => self.never(operand),
                    }
                }
            }
            _ => self.bound(item),
        }
        visit::visit_expr_binary(self, item);
    }

    fn visit_expr_method_call(&mut self, item: &'ast ExprMethodCall) {
        let wants_condition =
            ["filter", "any", "all", "retain", "find", "position", "is_some_and", "is_none_or"];
        if item.method == "then" || item.method == "then_some" {
            self.answer(&item.receiver);
        }
        if wants_condition.iter().any(|name| item.method == name)
            && let Some(Expr::Closure(ExprClosure { body, .. })) = item.args.last()
        {
            self.answer(body);
        }
        visit::visit_expr_method_call(self, item);
    }

    fn visit_stmt(&mut self, item: &'ast Stmt) {
        if let Stmt::Expr(statement @ Expr::Try(tried), Some(end)) = item {
            let name = match &*tried.expr {
                Expr::Call(call) => {
                    self.text[call.func.span().byte_range()].rsplit("::").next().map(str::to_owned)
                }
                Expr::MethodCall(call) => Some(call.method.to_string()),
                _ => None,
            };
            if name.is_some_and(|name| name.starts_with("check")) {
                let place = statement.span().byte_range().start..end.span().byte_range().end;
                let edits =
                    Edits { place, before: format!("if !{BROKEN} {{ "), operator: None, after: " }".into() };
                self.add_edits(Without::Unchecked, edits);
            }
        }
        visit::visit_stmt(self, item);
    }

    fn visit_expr_while(&mut self, item: &'ast syn::ExprWhile) {
        // Without its condition a loop has no end.
        visit::visit_block(self, &item.body);
    }
}

/// What is in the parentheses.
fn inner(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(paren) => inner(&paren.expr),
        expression => expression,
    }
}

/// `&&` or `||`, if that is what it is made with.
fn joined(expression: &Expr) -> Option<&BinOp> {
    match inner(expression) {
        Expr::Binary(both) if matches!(both.op, BinOp::And(_) | BinOp::Or(_)) => Some(&both.op),
        _ => None,
    }
}

/// `mutated(…)`: a defect that has been thought of (`spec/mutants.md`). It is switched off, and no guard.
fn is_mutant(expression: &Expr) -> bool {
    called(expression, "mutated").is_some()
}

/// That, or that it is not.
fn names_mutant(expression: &Expr) -> bool {
    match expression {
        Expr::Unary(not) => is_mutant(&not.expr),
        expression => is_mutant(expression),
    }
}

/// Whether it holds only for a mutant.
fn is_switched_off(condition: &Expr) -> bool {
    match condition {
        Expr::Binary(both) if matches!(both.op, BinOp::And(_)) => {
            is_switched_off(&both.left) || is_switched_off(&both.right)
        }
        condition => is_mutant(condition),
    }
}

fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(both) => has_let(&both.left) || has_let(&both.right),
        _ => false,
    }
}

fn is_literal(pattern: &Pat) -> bool {
    matches!(pattern, Pat::Lit(literal) if matches!(literal.lit, syn::Lit::Bool(_)))
}

fn is_any(pattern: &Pat) -> bool {
    matches!(pattern, Pat::Wild(_))
}

fn called<'e>(expression: &'e Expr, name: &str) -> Option<&'e Expr> {
    let Expr::Call(call) = expression else { return None };
    let is_it = matches!(&*call.func, Expr::Path(path) if path.path.is_ident(name));
    if is_it { call.args.first() } else { None }
}

fn is_error(body: &Expr) -> bool {
    called(body, "Err").is_some()
}

/// `Ok(())`.
fn is_nothing(body: &Expr) -> bool {
    called(body, "Ok").is_some_and(|value| matches!(value, Expr::Tuple(tuple) if tuple.elems.is_empty()))
}

/// An error, or the answer that it is one.
fn refuses(body: &Expr) -> bool {
    match body {
        Expr::Return(back) => back.expr.as_deref().is_some_and(refuses),
        body => is_error(body) || called(body, "Ok").is_some_and(is_error),
    }
}
