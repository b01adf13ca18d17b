//! A rule's condition: a CEL expression, checked and compiled when the file is loaded, evaluated for messages.
//!
//! What the `cel` crate (0.15, read and measured) does and what is done about it here:
//!
//! - Integer overflow, division by zero, a bad index, a missing key and a wrong type are errors, not panics;
//!   its `panic!`s stand where no parsed expression leads. Parsing and evaluating are fenced in
//!   all the same: no rule is worth a shard.
//! - Its parser (ANTLR) takes up to 170 KiB of stack for each bracket in another in a build without
//!   optimization, so 12 of them overflow a thread of 2 MiB: it gets a stack of its own, and
//!   [`MAX_BRACKETS`] instead of its 96. A long chain `a + a + …` is a tree as deep as it is long, and the
//!   interpreter takes 36 KiB for each level (1.5 KiB when optimized): [`MAX_DEPTH`] bounds that.
//! - There is no budget for evaluation. Comprehensions (`all`, `exists`, `map`, …) are the only loops, so they
//!   may not nest; with the bounds on documents (`desk::json`) one walks 1024 values at most, about 1 µs each if
//!   the step is cheap. A step that reads a whole text or document in each round is not: the worst that was found,
//!   `body.map(x, body)`, takes 0.2 s. No rule needs that, and none is kept from it yet.
//! - `matches` compiles its pattern at each evaluation, up to 10 MiB of program. Patterns must be literal
//!   here and are compiled once (`desk::check`), with a wrong one refused in its place. The
//!   `regex` crate takes time linear in the text, whatever the pattern.
//! - A name that is not declared is an error only at run time: names, functions and fields are checked here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, MapExpr, SourceInfo, StructExpr};
use cel::common::types::{CelBool, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;
use cel::{Env, ExecutionError, Value};
use regex::Regex;

use super::check::{Checked, Flaw, check, syntax_flaws};
use super::facts::Facts;

/// The longest condition in bytes.
const MAX_BYTES: usize = 4096;

/// The deepest tree of a condition.
const MAX_DEPTH: usize = 24;

/// The most brackets in one another.
pub(super) const MAX_BRACKETS: u16 = 16;

/// The parser's stack in bytes: nearly three times what [`MAX_BRACKETS`] take in a build without optimization.
const PARSER_STACK: usize = 8 << 20;

/// How much of an error's text is shown: it may quote the customer's message.
const MAX_ERROR_CHARS: usize = 200;

/// What `matches` with a literal pattern is rewritten to: a name that no expression can spell.
pub(super) const MATCHES: &str = "@matches";

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Condition {
    expression: IdedExpr,
    patterns: Vec<Pattern>,
    uses_context: bool,
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
pub(crate) fn environment() -> Arc<Env> {
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
    pub(crate) fn compile(env: &Env, text: &str) -> Result<Self, Vec<Flaw>> {
        let flaw =
            |at, wrong: &str, right: &str| Flaw { at, wrong: wrong.to_owned(), right: right.to_owned() };
        if text.trim().is_empty() {
            return Err(vec![flaw(0, "the condition is empty", "leave `when` out for the default rule")]);
        }
        if text.len() > MAX_BYTES {
            let wrong = format!("the condition has {} bytes", text.len());
            return Err(vec![flaw(0, &wrong, &format!("at most {MAX_BYTES}"))]);
        }
        let (mut expression, source) = match parse(env, text) {
            Some(Ok(parsed)) => parsed,
            Some(Err(errors)) => return Err(syntax_flaws(text, &errors.errors)),
            None => return Err(vec![flaw(0, "the CEL library cannot read this condition", "")]),
        };
        if depth(&expression) > MAX_DEPTH {
            let right = format!("at most {MAX_DEPTH} operators, calls and brackets in one another");
            return Err(vec![flaw(0, "the condition is nested too deeply", &right)]);
        }
        let Checked { patterns, uses_context } = check(text, &source, &mut expression)?;
        let patterns = patterns.into_iter().map(Pattern).collect();
        Ok(Self { expression, patterns, uses_context })
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

#[expect(clippy::needless_pass_by_value, reason = "the signature of a function of CEL")]
fn matches_compiled<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut arguments = arguments.iter();
    let text = arguments.next().and_then(|text| text.downcast_ref::<CelString<'_>>());
    let pattern = arguments.next().and_then(|pattern| pattern.downcast_ref::<Pattern>());
    match (text, pattern) {
        (Some(text), Some(Pattern(regex))) => Ok(CowVal::owned(CelBool::from(regex.is_match(text.inner())))),
        _ => Err(ExecutionError::missing_argument_or_target()),
    }
}

/// Parses on a thread of its own, for its stack; `None` if the parser panicked or no thread can be had.
fn parse(env: &Env, text: &str) -> Option<Result<(IdedExpr, SourceInfo), cel::ParseErrors>> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK);
        let parsed = parser.spawn_scoped(scope, || {
            env.parser().max_recursion_depth(MAX_BRACKETS).parse_with_source_info(text)
        });
        parsed.ok()?.join().ok()
    })
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
    match expression {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(each),
        Expr::Comprehension(c) => {
            [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter().for_each(each);
        }
        Expr::List(list) => list.elements.iter().for_each(each),
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::super::check::{FUNCTIONS, TYPES};
    use super::super::json::Context;
    use super::super::payload::Payload;
    use super::super::routing::Inbound;
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    /// Sunday, 22 November 2026, 23:30 in Berlin.
    const NOW_MS: i64 = 1_795_386_600_000;

    fn evaluate(when: &str, payload: &[u8], context: Option<&str>) -> Result<bool, ConditionError> {
        let env = environment();
        let condition = Condition::compile(&env, when).unwrap_or_else(|flaws| panic!("{when}: {flaws:?}"));
        let context = context.map(|text| Context::parse(text.as_bytes()).unwrap());
        let payload = Payload::new(payload);
        let message = Inbound {
            customer: "42",
            topic: "cs/1/main/customer/42/up",
            payload: &payload,
            properties: &[("page", "shop/1"), ("page", "second")],
            context: context.as_ref(),
            previous: ("", ""),
            now_ms: NOW_MS,
        };
        condition.holds(&env, &Facts::new(&message, &TimeZone::get("Europe/Berlin").unwrap()))
    }

    fn holds(when: &str, payload: &[u8], context: Option<&str>) -> bool {
        evaluate(when, payload, context).unwrap_or_else(|error| panic!("{when}: {error}"))
    }

    fn error(when: &str, payload: &[u8], context: Option<&str>) -> String {
        match evaluate(when, payload, context) {
            Ok(holds) => panic!("{when}: {holds}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_condition_asks_about_the_message() {
        for when in [
            "message.topic == \"cs/1/main/customer/42/up\"",
            "message.body == \"I want a Refund\"",
            "message.type == \"text\" && message.size == 15",
            "message.properties.page == \"shop/1\"",
            "message[\"properties\"][\"page\"].startsWith(\"shop/\")",
            "message.properties.?lang.orValue(\"de\") == \"de\"",
            "has(message.properties.page) && !has(message.properties.lang)",
            "has(message.body) && type(message.body) == string",
            "message.body.matches(\"(?i)\\\\brefund\\\\b\") && matches(message.body, 'want')",
            "!message.body.matches(\"^refund\")",
            "[message.type, \"x\"].exists(t, t == message.type)",
            "{\"k\": message.size}.k + 1 == 16",
            "optional.of(1).hasValue() && optional.none().or(optional.of(2)).value() == 2",
        ] {
            assert!(holds(when, b"I want a Refund", None), "{when}");
        }
        let own = br#"{"type":"card","body":{"items":[{"sku":"a","n":2},{"sku":"b","n":3}],"total":12.5}}"#;
        for when in [
            "message.type == \"card\" && message.body.total > 12",
            "message.body.items.exists(i, i.sku == \"b\" && i.n > 2)",
            "message.body.items.filter(i, i.n > 2).map(i, i.sku) == [\"b\"]",
            "size(message.body.items) == 2 && message.body.items[0].n + 1 == 3",
        ] {
            assert!(holds(when, own, None), "{when}");
        }
        assert!(holds("message.type == \"binary\" && message.body == b\"\\xff\\x00\"", b"\xff\0", None));
        assert!(holds("message.body == \"\" && message.size == 0", b"", None));
    }

    #[test]
    fn a_condition_asks_about_the_customer() {
        let context =
            Some("{\"tier\":\"gold\",\"age\":41,\"tags\":[\"a\",\"b\"],\"geo\":{\"country\":\"DE\"}}");
        for when in [
            "customer.tier == \"gold\" && customer.age + 1 == 42",
            "customer.geo.country in [\"DE\", \"AT\"] && \"b\" in customer.tags",
            "has(customer.geo.country) && !has(customer.geo.city)",
            "customer.all(key, size(key) > 2)",
        ] {
            assert!(holds(when, b"x", context), "{when}");
        }
        assert!(holds("size(customer) == 0 && !has(customer.tier)", b"x", None));
        assert_eq!(error("customer.tier == \"gold\"", b"x", None), "No such key: tier");
    }

    #[test]
    fn a_condition_asks_about_the_time_in_its_zone() {
        for when in [
            "now.weekday == 7 && now.day == \"sunday\"",
            "now.hour == 23 && now.minute == 30",
            "now.date == \"2026-11-22\"",
            "now.ms == 1795386600000",
            "conversation.age_s == 0 && conversation.previous_group == \"\" && conversation.previous_agent == \"\"",
        ] {
            assert!(holds(when, b"x", None), "{when}");
        }
    }

    #[test]
    fn only_conditions_about_the_customer_use_the_context() {
        let env = environment();
        let uses = |when: &str| Condition::compile(&env, when).unwrap().uses_context();
        assert!(
            uses("customer.tier == 1") && uses("size(customer) > 0") && uses("[1].all(x, x == customer.n)")
        );
        assert!(!uses("message.properties.customer == \"x\""));
        assert!(!uses("[1].all(customer, customer == 1)"), "a loop's own name");
    }

    #[test]
    fn what_cannot_be_evaluated_is_an_error_and_no_panic() {
        let context =
            Some("{\"big\":9223372036854775807,\"small\":-9223372036854775808,\"text\":\"x\",\"list\":[1]}");
        for (when, expected) in [
            ("customer.big + 1 > 0", "Overflow"),
            ("customer.small - 1 > 0", "Overflow"),
            ("customer.small / -1 > 0", "Overflow"),
            ("customer.small % -1 == 0", "Overflow"),
            ("customer.big * 2 > 0", "Overflow"),
            ("-customer.small > 0", "Overflow"),
            ("1 / (customer.big - customer.big) == 1", "Division by zero"),
            ("1 % 0 == 1", "Remainder by zero"),
            ("customer.list[7] == 1", "Index out of bounds"),
            ("customer.list[-1] == 1", "Index out of bounds"),
            ("customer.text > 1", "no matching overload"),
            ("customer.text.missing == 1", "no matching overload"),
            ("customer.big.matches(\"x\")", "no matching overload for 'matches'"),
            ("customer.nothing.at.all", "No such key: nothing"),
            ("message[1] == 1", "no matching overload"),
            ("message[\"nothing\"] == 1", "No such key"),
            ("size(message) == 1", ""),
            ("\"x\" in message", ""),
            ("message.all(x, true)", ""),
            ("int(customer.text) == 1", "string parse error"),
            ("uint(customer.small) == 1u", "overflow"),
            ("int(1e300) == 1", "overflow"),
            ("optional.none().value() == 1", "dereference"),
            ("{1: 2, 1: 3}[1] == 1", "repeated key"),
            ("customer.text", "the result is of type string, not true or false"),
            ("customer", "the result is of type map, not true or false"),
            ("message", "the result is of type map, not true or false"),
            ("customer.?text", "not true or false"),
        ] {
            let shown = error(when, b"x", context);
            assert!(shown.contains(expected), "{when}: {shown}");
        }
    }

    #[test]
    fn an_error_does_not_quote_the_whole_message() {
        let shown = error("message.body.nothing == 1", "x".repeat(60_000).as_bytes(), None);
        assert!(shown.len() < 300, "{shown}");
        let shown = error("message.body < 1 || message.body + 1 == 2", "ü".repeat(30_000).as_bytes(), None);
        assert!(shown.chars().count() < 250, "{shown}");
    }

    #[test]
    fn a_body_out_of_bounds_is_not_looked_into() {
        let long = "x".repeat(64 * 1024 + 1);
        assert!(error("message.body == \"x\"", long.as_bytes(), None).contains("65537 bytes are too many"));
        assert!(holds("message.size > 65536", long.as_bytes(), None));
        let many = format!("{{\"body\":[{}]}}", vec!["0"; 1025].join(","));
        assert!(
            error("message.body.all(x, x == 0)", many.as_bytes(), None).contains("more than 1024 values")
        );
    }

    #[test]
    fn the_deepest_and_longest_conditions_fit_a_small_stack() {
        let nest = |open: &str, inner: &str, close: &str, n: usize| {
            format!("{}{inner}{}", open.repeat(n), close.repeat(n))
        };
        let mut texts = Vec::new();
        for n in [10, 30, 31, 32, 60, 63, 100, 500, 1000, 4000] {
            texts.extend([
                nest("(", "true || now.hour == 1", ")", n),
                nest("[", "1", "]", n) + " == [1]",
                nest("{1:", "1", "}", n) + " == {1: 1}",
                nest("!", "has(customer.x)", "", n),
                nest("-", "now.hour", "", n) + " == 1",
                nest("true || ", "now.hour == 1", "", n),
                nest("1 + ", "now.hour", " == 1", 1) + &" + 1".repeat(n),
                format!("now.hour{} == 1", " + 1".repeat(n)),
                format!("customer{} == 1", ".a".repeat(n)),
                format!("customer{} == 1", ".?a".repeat(n)),
                format!("customer{} == 1", "[0]".repeat(n)),
                nest("now.hour == 1 ? true : ", "false", "", n),
                nest("size(", "customer", ")", n) + " == 1",
                format!("customer{}", ".filter(x, true)".repeat(n)),
                nest("customer.all(x, ", "true", ")", n),
            ]);
        }
        // Three quarters of what a thread has by default, in a build that does not save stack.
        std::thread::Builder::new()
            .stack_size(3 << 19)
            .spawn(move || {
                let env = environment();
                let (mut compiled, mut refused) = (0, 0);
                for text in texts {
                    match Condition::compile(&env, &text) {
                        Ok(_) => {
                            compiled += 1;
                            let _ = evaluate(&text, b"x", None);
                        }
                        Err(_) => refused += 1,
                    }
                }
                assert!(compiled > 20 && refused > 60, "{compiled} {refused}");
            })
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn bounds_are_told() {
        let env = environment();
        let flaw = |when: &str| Condition::compile(&env, when).unwrap_err().remove(0);
        assert_eq!(flaw(&"x".repeat(4097)).wrong, "the condition has 4097 bytes");
        let deep = flaw(&format!("now.hour == 1{}", " + 1".repeat(24)));
        assert_eq!(deep.wrong, "the condition is nested too deeply");
        let brackets = flaw(&format!("{}true{}", "(".repeat(40), ")".repeat(40)));
        assert_eq!(brackets.wrong, "too many brackets in one another");
        assert!(
            Condition::compile(&env, &format!("{}now.hour == 1{}", "(".repeat(15), ")".repeat(15))).is_ok()
        );
    }

    #[test]
    fn every_function_that_is_suggested_exists() {
        for (name, call) in [
            ("size", "size(\"ab\") == \"ab\".size()"),
            ("contains", "\"ab\".contains(\"a\")"),
            ("startsWith", "\"ab\".startsWith(\"a\")"),
            ("endsWith", "\"ab\".endsWith(\"b\")"),
            ("matches", "\"ab\".matches(\"a.\")"),
            ("string", "string(1) == \"1\""),
            ("int", "int(\"1\") == 1"),
            ("uint", "uint(1) == 1u"),
            ("double", "double(1) == 1.0"),
            ("bool", "bool(\"true\")"),
            ("bytes", "bytes(\"a\") == b\"a\""),
            ("type", "type(1) == int"),
            ("dyn", "dyn(1) == 1"),
            ("has", "!has(customer.x)"),
            ("all", "[1].all(x, x == 1)"),
            ("exists", "[1].exists(x, x == 1)"),
            ("exists_one", "[1].exists_one(x, x == 1)"),
            ("map", "[1].map(x, x + 1) == [2]"),
            ("filter", "[1].filter(x, x > 1) == []"),
            ("optional.of", "optional.of(1).hasValue()"),
            ("optional.none", "!optional.none().hasValue()"),
            ("optional.ofNonZeroValue", "!optional.ofNonZeroValue(0).hasValue()"),
            ("hasValue", "optional.of(1).hasValue()"),
            ("value", "optional.of(1).value() == 1"),
            ("or", "optional.none().or(optional.of(1)).hasValue()"),
            ("orValue", "customer.?x.orValue(1) == 1"),
        ] {
            assert!(FUNCTIONS.contains(&name));
            assert!(holds(call, b"x", None), "{call}");
        }
        for name in TYPES {
            assert!(!holds(&format!("type({name}) == int"), b"x", None), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_compiler_panic(when in ".{0,80}") {
            let _ = Condition::compile(&environment(), &when);
        }

        #[test]
        fn no_condition_panics(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "message", ".body", ".type", "customer", ".a", "[0]", "[\"a\"]", " == ", " && ", " || ", "!", "(", ")",
                    "1", "-", " + ", " % ", "0", "\"x\"", "has(", "size(", ".exists(x, ", "x", ".matches(\"x\")", " in ",
                    "[", "]", "{", "}", ":", " ? ", ".?a", "true", "null", "now.hour", "9223372036854775807", "1.5", ",",
                    "@0", "é", "b\"x\"", "\n",
                ]),
                1..14
            ),
            body in prop::sample::select(vec!["", "x", "{\"body\":{\"a\":[1,null]}}", "{\"body\":[[]]}"])
        ) {
            let env = environment();
            if let Ok(condition) = Condition::compile(&env, &pieces.concat()) {
                let payload = Payload::new(body.as_bytes());
                let message = Inbound { customer: "", topic: "", payload: &payload, properties: &[], context: None, previous: ("", ""), now_ms: i64::MAX };
                let result = condition.holds(&env, &Facts::new(&message, &TimeZone::UTC));
                prop_assert!(!matches!(result, Err(ConditionError::Panicked)));
            }
        }
    }
}
