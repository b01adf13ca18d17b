//! A rule's condition: a CEL expression, checked and compiled when the file is loaded, evaluated for messages.
//!
//! What the `cel` crate (0.15, read and measured) does and what is done about it here:
//!
//! - Integer overflow, division by zero, a bad index, a missing key and a wrong type are errors, not panics;
//!   its `panic!`s stand where no parsed expression leads. Parsing and evaluating run under `catch_unwind`
//!   all the same: no rule is worth a shard.
//! - Its parser stops at 96 nested brackets, but `a + a + …` builds a tree as deep as it is long and the
//!   interpreter recurses over it. [`MAX_BYTES`] and [`MAX_DEPTH`] bound both.
//! - There is no budget for evaluation. Comprehensions (`all`, `exists`, `map`, …) are the only loops, so they
//!   may not nest; with the bounds on documents (`desk::json`) one walks 4096 values at most.
//! - `matches` compiles its pattern at each evaluation, up to 10 MiB of program. Patterns must be literal
//!   here and are compiled once, to [`MAX_PATTERN`] at most, with a wrong one refused in its place. The
//!   `regex` crate takes time linear in the text, whatever the pattern.
//! - A name that is not declared is an error only at run time: names, functions and fields are checked here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::common::types::{CelBool, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;
use cel::{Env, ExecutionError, Value};
use regex::{Regex, RegexBuilder};

use super::facts::{Facts, VARIABLES};
use crate::config::problem::{closest, suggest};

/// The longest condition in bytes.
const MAX_BYTES: usize = 4096;

/// The deepest tree of a condition.
const MAX_DEPTH: usize = 64;

/// The most brackets in one another; the parser needs much more stack for one than the interpreter.
const MAX_BRACKETS: u16 = 32;

/// The largest compiled pattern of `matches` in bytes.
const MAX_PATTERN: usize = 256 * 1024;

/// How much of an error's text is shown: it may quote the customer's message.
const MAX_ERROR_CHARS: usize = 200;

/// What `matches` with a literal pattern is rewritten to: a name that no expression can spell.
const MATCHES: &str = "@matches";

/// The functions that the standard library declares, and the macros.
const FUNCTIONS: [&str; 27] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "hasValue",
    "value",
    "or",
    "orValue",
    "optMap",
];

/// Names that stand for types.
const TYPES: [&str; 10] =
    ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"];

/// A compiled condition.
#[derive(Debug)]
pub(super) struct Condition {
    expression: IdedExpr,
    patterns: Vec<Pattern>,
    uses_context: bool,
}

/// What is wrong with a condition, `at` a byte of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub at: usize,
    pub wrong: String,
    pub right: String,
}

/// Why a condition could not say true or false of a message. The rule then does not hold.
#[derive(Debug)]
pub enum ConditionError {
    /// The evaluation failed: a missing key, a wrong type, an overflow, …
    Evaluation(Box<ExecutionError>),
    /// The result was of this type, not `bool`.
    NotBoolean(String),
    /// The evaluation panicked.
    Panicked,
}

impl std::error::Error for ConditionError {}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evaluation(error) => {
                let text = error.to_string().replace(MATCHES, "matches");
                let mut shown = text.chars();
                shown.by_ref().take(MAX_ERROR_CHARS).try_for_each(|c| fmt::Write::write_char(f, c))?;
                f.write_str(if shown.next().is_some() { " …" } else { "" })
            }
            Self::NotBoolean(kind) => write!(f, "the result is of type {kind}, not true or false"),
            Self::Panicked => f.write_str("the evaluation failed inside the CEL library"),
        }
    }
}

/// The environment that all conditions of a file share.
pub(super) fn environment() -> Arc<Env> {
    let mut env = Env::stdlib();
    let declared = env.add_member_overload(
        MATCHES,
        "matches_compiled",
        STRING_TYPE,
        vec![pattern_type()],
        matches_compiled,
    );
    debug_assert!(declared.is_ok(), "nobody else declares {MATCHES}");
    Arc::new(env)
}

impl Condition {
    /// Compiles and checks a condition. All that is wrong is told at once, unless it cannot be parsed.
    pub(super) fn compile(env: &Env, text: &str) -> Result<Self, Vec<Flaw>> {
        let flaw =
            |at, wrong: &str, right: &str| Flaw { at, wrong: wrong.to_owned(), right: right.to_owned() };
        if text.trim().is_empty() {
            return Err(vec![flaw(0, "the condition is empty", "leave `when` out for the default rule")]);
        }
        if text.len() > MAX_BYTES {
            let wrong = format!("the condition has {} bytes", text.len());
            return Err(vec![flaw(0, &wrong, &format!("at most {MAX_BYTES}"))]);
        }
        let parser = env.parser().max_recursion_depth(MAX_BRACKETS);
        let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(text)));
        let (mut expression, source) = match parsed {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(errors)) => {
                return Err(errors.errors.iter().map(|error| syntax_flaw(text, error)).collect());
            }
            Err(_) => return Err(vec![flaw(0, "the CEL library cannot read this condition", "")]),
        };
        if depth(&expression) > MAX_DEPTH {
            let right = format!("at most {MAX_DEPTH} operators, calls and brackets in one another");
            return Err(vec![flaw(0, "the condition is nested too deeply", &right)]);
        }
        let mut check = Check {
            text,
            source: &source,
            scope: Vec::new(),
            loops: 0,
            patterns: Vec::new(),
            flaws: Vec::new(),
            uses_context: false,
        };
        check.result(&expression);
        check.walk(&mut expression);
        let Check { patterns, mut flaws, uses_context, .. } = check;
        if flaws.is_empty() {
            return Ok(Self { expression, patterns, uses_context });
        }
        flaws.sort_by_key(|flaw| flaw.at);
        Err(flaws)
    }

    /// Whether the condition looks at the customer's context document.
    pub(super) fn uses_context(&self) -> bool {
        self.uses_context
    }

    /// Whether the condition is true of a message.
    pub(super) fn holds(&self, env: &Arc<Env>, facts: &Facts<'_>) -> Result<bool, ConditionError> {
        // What a panic leaves half done are caches of one message, each set once or not at all.
        catch_unwind(AssertUnwindSafe(|| {
            let names = Names { facts, patterns: &self.patterns };
            let mut context = cel::Context::with_env(Arc::clone(env));
            context.set_variable_resolver(&names);
            let result = Value::resolve_val(&self.expression, &context)
                .map_err(|error| ConditionError::Evaluation(Box::new(error)))?;
            match result.downcast_ref::<CelBool>() {
                Some(holds) => Ok(*holds.inner()),
                None => Err(ConditionError::NotBoolean(result.get_type().name().to_owned())),
            }
        }))
        .unwrap_or(Err(ConditionError::Panicked))
    }
}

/// Resolves the variables and, by their position, the patterns of one condition.
struct Names<'f, 'a> {
    facts: &'f Facts<'a>,
    patterns: &'f [Pattern],
}

impl VariableResolver for Names<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable.strip_prefix('@') {
            None => self.facts.variable(variable),
            Some(index) => {
                let pattern = self.patterns.get(index.parse::<usize>().ok()?)?;
                Some(CowVal::Borrowed(pattern))
            }
        }
    }
}

/// A compiled pattern as a value of CEL.
#[derive(Debug, Clone)]
struct Pattern(Regex);

static PATTERN: LazyLock<Type> = LazyLock::new(pattern_type);

fn pattern_type() -> Type {
    Type::new_opaque_type("pattern")
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

fn matches_compiled<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut arguments = arguments.iter();
    let text = arguments.next().and_then(|text| text.downcast_ref::<CelString<'_>>());
    let pattern = arguments.next().and_then(|pattern| pattern.downcast_ref::<Pattern>());
    match (text, pattern) {
        (Some(text), Some(Pattern(regex))) => Ok(CowVal::owned(CelBool::from(regex.is_match(text.inner())))),
        _ => Err(ExecutionError::missing_argument_or_target()),
    }
}

/// The parser's message with the grammar's names in words, and its line and column as a byte.
fn syntax_flaw(text: &str, error: &cel::ParseError) -> Flaw {
    let (line, column) = (usize::try_from(error.pos.0), usize::try_from(error.pos.1));
    let line_start =
        text.split_inclusive('\n').take(line.unwrap_or(1).saturating_sub(1)).map(str::len).sum::<usize>();
    let rest = text.get(line_start..).unwrap_or_default();
    let at = rest.char_indices().nth(column.unwrap_or(1).saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let (wrong, expected) = message.split_once(" expecting ").unwrap_or((message, ""));
    let right = if wrong.contains("token recognition error at: '=") {
        "did you mean \"==\"?".to_owned()
    } else if wrong.ends_with("'and'") {
        "did you mean \"&&\"?".to_owned()
    } else if wrong.ends_with("'or'") {
        "did you mean \"||\"?".to_owned()
    } else if wrong.ends_with("'not'") {
        "did you mean \"!\"?".to_owned()
    } else if expected.contains("IDENTIFIER") {
        "a value, a name, `(`, `!` or `-` is expected here".to_owned()
    } else if expected.contains("'=='") {
        "an operator such as `==`, `&&` or `in`, or the end, is expected here".to_owned()
    } else if expected.is_empty() {
        String::new()
    } else {
        format!("expected {expected}")
    };
    let wrong = wrong
        .replace("token recognition error at: ", "this cannot be read: ")
        .replace("mismatched input '<EOF>'", "the condition ends too early")
        .replace("at '<EOF>'", "at the end")
        .replace("mismatched input", "unexpected")
        .replace("extraneous input", "unexpected")
        .replace("no viable alternative at input", "unexpected");
    Flaw { at: line_start + at, wrong, right }
}

/// The depth of a tree, told without recursion: it may be as deep as its text is long.
fn depth(expression: &IdedExpr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(expression, 1)];
    while let Some((node, level)) = open.pop() {
        deepest = deepest.max(level);
        for_each_child(&node.expr, |child| open.push((child, level + 1)));
    }
    deepest
}

fn for_each_child<'e>(expression: &'e Expr, mut each: impl FnMut(&'e IdedExpr)) {
    use cel::common::ast::EntryExpr;
    match expression {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(each),
        Expr::Comprehension(c) => {
            [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter().for_each(each);
        }
        Expr::List(list) => list.elements.iter().for_each(each),
        Expr::Map(cel::common::ast::MapExpr { entries })
        | Expr::Struct(cel::common::ast::StructExpr { entries, .. }) => {
            for entry in entries {
                match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        each(&entry.key);
                        each(&entry.value);
                    }
                    EntryExpr::StructField(field) => each(&field.value),
                }
            }
        }
        Expr::Select(select) => each(&select.operand),
    }
}

/// One walk over a parsed condition: names, functions, loops and patterns.
struct Check<'t> {
    text: &'t str,
    source: &'t SourceInfo,
    /// The variables of the comprehensions around the place.
    scope: Vec<String>,
    loops: usize,
    patterns: Vec<Pattern>,
    flaws: Vec<Flaw>,
    uses_context: bool,
}

impl Check<'_> {
    fn flaw(&mut self, id: u64, wrong: impl Into<String>, right: impl Into<String>) {
        let at = self.at(id);
        self.flaws.push(Flaw { at, wrong: wrong.into(), right: right.into() });
    }

    /// The parser counts characters; a call stands where its bracket does, so go back to its name.
    fn at(&self, id: u64) -> usize {
        let chars = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.text.char_indices().nth(chars).map_or(self.text.len(), |(at, _)| at)
    }

    /// Where the name of a call or a field stands that ends at its mark (a bracket, a dot, or itself).
    fn name_at(&self, id: u64, name: &str) -> usize {
        let mark = self.at(id);
        let before = self.text.get(..mark).and_then(|text| text.rfind(name));
        let after = self.text.get(mark..).and_then(|text| text.find(name)).map(|found| mark + found);
        match (before, after) {
            // A field's mark is its dot: the name follows at once. A call's is its bracket: the name precedes.
            (_, Some(after)) if self.text.get(mark..after).is_some_and(|gap| gap.trim() == ".") => after,
            (Some(before), _) => before,
            (None, _) => mark,
        }
    }

    /// A condition that is always the same, or can never be true or false, is a slip of the pen.
    fn result(&mut self, expression: &IdedExpr) {
        let kind = match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => {
                let value = *value.inner();
                let right = if value { "leave `when` out for the default rule" } else { "remove the rule" };
                return self.flaw(expression.id, format!("the condition is always {value}"), right);
            }
            Expr::Literal(LiteralValue::String(_)) => "a string",
            Expr::Literal(_) => "a constant",
            Expr::List(_) => "a list",
            Expr::Map(_) => "a map",
            Expr::Call(call) => match call.func_name.as_str() {
                operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE => "the result of arithmetic",
                "size" | "int" | "uint" | "double" => "a number",
                "string" => "a string",
                _ => return,
            },
            _ => return,
        };
        let at = self.text.len() - self.text.trim_start().len();
        self.flaws.push(Flaw {
            at,
            wrong: format!("the condition gives {kind}"),
            right: "a condition is true or false, e.g. `message.size > 1000`".to_owned(),
        });
    }

    fn walk(&mut self, node: &mut IdedExpr) {
        let id = node.id;
        match &mut node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                let name = name.clone();
                self.name(id, &name);
            }
            Expr::Select(select) => {
                if let Expr::Ident(variable) = &select.operand.expr {
                    let (variable, field) = (variable.clone(), select.field.clone());
                    self.field(id, &variable, &field);
                }
                self.walk(&mut select.operand);
            }
            Expr::Call(call) => self.call(id, call),
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.walk(element)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let cel::common::ast::EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.walk(&mut entry.key);
                        self.walk(&mut entry.value);
                    }
                }
            }
            Expr::Struct(made) => {
                let wrong = format!("`{}` is no type that can be made here", made.type_name);
                self.flaw(id, wrong, "a map: {\"name\": value}");
            }
            Expr::Comprehension(loops) => {
                self.walk(&mut loops.iter_range);
                if self.loops > 0 {
                    let right =
                        "one `all`, `exists`, `exists_one`, `map` or `filter` may not stand in another";
                    self.flaw(id, "a loop in a loop", right);
                }
                self.walk(&mut loops.accu_init);
                let outer = self.scope.len();
                self.scope.extend([loops.iter_var.clone(), loops.accu_var.clone()]);
                self.scope.extend(loops.iter_var2.clone());
                self.loops += 1;
                self.walk(&mut loops.loop_cond);
                self.walk(&mut loops.loop_step);
                self.walk(&mut loops.result);
                self.loops -= 1;
                self.scope.truncate(outer);
            }
        }
    }

    fn name(&mut self, id: u64, name: &str) {
        if self.scope.iter().any(|inner| inner == name) {
            return;
        }
        let plain = name.strip_prefix('.').unwrap_or(name);
        if plain == "customer" {
            self.uses_context = true;
        }
        if VARIABLES.iter().all(|(known, _)| *known != plain) && !TYPES.contains(&plain) {
            let known: Vec<&str> = VARIABLES.iter().map(|(known, _)| *known).collect();
            let near = closest(plain, known.iter().copied().chain(self.scope.iter().map(String::as_str)));
            let right =
                near.map_or_else(|| suggest(plain, &known), |near| format!("did you mean \"{near}\"?"));
            self.flaw(id, format!("`{plain}` is not known"), right);
        }
    }

    fn field(&mut self, id: u64, variable: &str, field: &str) {
        if self.scope.iter().any(|inner| inner == variable) {
            return;
        }
        let Some((_, fields)) = VARIABLES.iter().find(|(known, _)| *known == variable) else { return };
        if !fields.is_empty() && !fields.contains(&field) {
            let at = self.name_at(id, field);
            let wrong = format!("`{variable}` has no `{field}`");
            self.flaws.push(Flaw { at, wrong, right: suggest(field, fields) });
        }
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) {
        // `optional.of(x)`: the target is part of the function's name.
        let qualified = match call.target.as_deref().map(|target| &target.expr) {
            Some(Expr::Ident(namespace)) if namespace == "optional" => format!("optional.{}", call.func_name),
            _ => call.func_name.clone(),
        };
        if qualified == call.func_name
            && let Some(target) = &mut call.target
        {
            self.walk(target);
        }
        let operator = call.func_name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let usage = macro_usage(&qualified);
        if !operator && !FUNCTIONS.contains(&qualified.as_str()) {
            let at = self.name_at(id, &call.func_name);
            let wrong = format!("there is no function `{qualified}`");
            self.flaws.push(Flaw { at, wrong, right: suggest(&qualified, &FUNCTIONS) });
        } else if let Some(usage) = usage {
            // A macro that was called rightly is no call any more.
            let at = self.name_at(id, &call.func_name);
            let wrong = format!("`{qualified}` is not used like this");
            self.flaws.push(Flaw { at, wrong, right: format!("e.g. `{usage}`") });
            return;
        }
        call.args.iter_mut().for_each(|argument| self.walk(argument));
        if call.func_name == "matches" {
            self.pattern(id, call);
        }
    }

    /// Compiles the pattern of `text.matches(pattern)` or `matches(text, pattern)` and puts it in its place.
    fn pattern(&mut self, id: u64, call: &mut CallExpr) {
        let usage = "e.g. `message.body.matches(\"(?i)refund\")`";
        let pattern = match (&call.target, call.args.as_slice()) {
            (Some(_), [pattern]) | (None, [_, pattern]) => pattern,
            _ => {
                let at = self.name_at(id, "matches");
                let wrong = "`matches` takes a text and a pattern".to_owned();
                return self.flaws.push(Flaw { at, wrong, right: usage.to_owned() });
            }
        };
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return self.flaw(pattern.id, "the pattern of `matches` is not a literal string", usage);
        };
        match RegexBuilder::new(literal.inner()).size_limit(MAX_PATTERN).build() {
            Ok(regex) => {
                let place =
                    IdedExpr { id: pattern.id, expr: Expr::Ident(format!("@{}", self.patterns.len())) };
                self.patterns.push(Pattern(regex));
                call.args.pop();
                if call.target.is_none() {
                    call.target = call.args.pop().map(Box::new);
                }
                call.args.push(place);
                MATCHES.clone_into(&mut call.func_name);
            }
            Err(regex::Error::CompiledTooBig(_)) => {
                let right = format!("at most {} KiB when compiled: repeat less", MAX_PATTERN / 1024);
                self.flaw(pattern.id, "the pattern is too large", right);
            }
            Err(error) => {
                // The last line of a message of several lines says what, those before draw where.
                let text = error.to_string();
                let what = text.lines().last().unwrap_or_default();
                let what = what.strip_prefix("error: ").unwrap_or(what).to_owned();
                self.flaw(pattern.id, "the pattern is no regular expression", what);
            }
        }
    }
}

fn macro_usage(name: &str) -> Option<&'static str> {
    Some(match name {
        "has" => "has(customer.tier)",
        "all" => "customer.tags.all(tag, tag != \"x\")",
        "exists" => "customer.tags.exists(tag, tag == \"x\")",
        "exists_one" => "customer.tags.exists_one(tag, tag == \"x\")",
        "map" => "customer.tags.map(tag, size(tag))",
        "filter" => "customer.tags.filter(tag, tag != \"x\")",
        _ => return None,
    })
}
