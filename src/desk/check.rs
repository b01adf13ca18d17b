//! What is wrong with a condition, told when its file is loaded: names, functions and fields that are not
//! there, results that are never true or false, loops in loops, patterns that are none. The `cel` crate would
//! find these at run time, for one message at a time.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use regex::{Regex, RegexBuilder};

use super::condition::{MATCHES, MAX_BRACKETS};
use super::facts::VARIABLES;
use crate::spelling::{closest, suggest};

/// The largest compiled pattern of `matches` in bytes.
const MAX_PATTERN: usize = 256 * 1024;

/// The functions that the standard library declares, and the macros.
pub(super) const FUNCTIONS: [&str; 26] = [
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
];

/// Names that stand for types.
pub(super) const TYPES: [&str; 10] =
    ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"];

/// What is wrong with a condition, `at` a byte of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub at: usize,
    pub wrong: String,
    pub right: String,
}

/// What a condition that is right was found to hold.
pub(super) struct Checked {
    /// The patterns of `matches`, in the order of their new names `@0`, `@1`, …
    pub patterns: Vec<Regex>,
    pub uses_context: bool,
}

/// Checks a parsed condition and puts names in the place of its patterns. All that is wrong is told at once.
pub(super) fn check(
    text: &str,
    source: &SourceInfo,
    expression: &mut IdedExpr,
) -> Result<Checked, Vec<Flaw>> {
    let mut check = Check {
        text,
        source,
        scope: Vec::new(),
        loops: 0,
        patterns: Vec::new(),
        flaws: Vec::new(),
        uses_context: false,
    };
    check.result(expression);
    check.walk(expression);
    let Check { patterns, mut flaws, uses_context, .. } = check;
    if flaws.is_empty() {
        return Ok(Checked { patterns, uses_context });
    }
    flaws.sort_by_key(|flaw| flaw.at);
    Err(flaws)
}

/// The parser goes on after an error and then stumbles over what it skipped: only its first is worth showing.
pub(super) fn syntax_flaws(text: &str, errors: &[cel::ParseError]) -> Vec<Flaw> {
    let syntax =
        errors.iter().filter(|error| error.msg.starts_with("Syntax error")).min_by_key(|error| error.pos);
    match syntax {
        Some(first) => vec![syntax_flaw(text, first)],
        None => errors.iter().map(|error| syntax_flaw(text, error)).collect(),
    }
}

/// The parser's message with the grammar's names in words, and its line and column as a byte.
fn syntax_flaw(text: &str, error: &cel::ParseError) -> Flaw {
    if error.msg.contains("Recursion limit") {
        let wrong = "too many brackets in one another".to_owned();
        return Flaw { at: 0, wrong, right: format!("at most {MAX_BRACKETS}") };
    }
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
    } else if wrong.contains("has() macro") {
        "e.g. `has(customer.tier)`".to_owned()
    } else if wrong.contains("int literal") {
        "a whole number of 64 bits".to_owned()
    } else if expected.contains("IDENTIFIER") {
        "a value, a name, `(`, `!` or `-` is expected here".to_owned()
    } else if expected.contains("'=='") {
        "an operator such as `==`, `&&` or `in`, or the end, is expected here".to_owned()
    } else if expected.is_empty() {
        String::new()
    } else {
        format!("expected {}", expected.replace("<EOF>", "the end"))
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

/// One walk over a parsed condition: names, functions, loops and patterns.
struct Check<'t> {
    text: &'t str,
    source: &'t SourceInfo,
    /// The variables of the comprehensions around the place.
    scope: Vec<String>,
    loops: usize,
    patterns: Vec<Regex>,
    flaws: Vec<Flaw>,
    uses_context: bool,
}

impl Check<'_> {
    fn flaw(&mut self, id: u64, wrong: impl Into<String>, right: impl Into<String>) {
        let at = self.at(id);
        self.flaws.push(Flaw { at, wrong: wrong.into(), right: right.into() });
    }

    /// The byte where the parser saw a node: an operator's sign, a call's bracket, a field's dot.
    fn at(&self, id: u64) -> usize {
        self.source.offset_for(id).map_or(0, |(start, _)| start as usize)
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
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
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
            let right = closest(&qualified, FUNCTIONS).map_or_else(
                || {
                    "there are size, contains, startsWith, endsWith, matches, has, exists, all and so on"
                        .to_owned()
                },
                |near| format!("did you mean \"{near}\"?"),
            );
            self.flaws.push(Flaw { at, wrong, right });
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
        let ((Some(_), [pattern]) | (None, [_, pattern])) = (&call.target, call.args.as_slice()) else {
            let at = self.name_at(id, "matches");
            let wrong = "`matches` takes a text and a pattern".to_owned();
            return self.flaws.push(Flaw { at, wrong, right: usage.to_owned() });
        };
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return self.flaw(pattern.id, "the pattern of `matches` is not a literal string", usage);
        };
        match RegexBuilder::new(literal.inner()).size_limit(MAX_PATTERN).build() {
            Ok(regex) => {
                let place =
                    IdedExpr { id: pattern.id, expr: Expr::Ident(format!("@{}", self.patterns.len())) };
                self.patterns.push(regex);
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
