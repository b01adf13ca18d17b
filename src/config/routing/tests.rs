//! Whole routing files: what they come to, and the exact lines an operator sees when they are wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::desk::{ContextRules, FieldTtl, Rule, Strategy};

/// A file that is right, to be spoilt.
pub(super) const GOOD: &str = r#"
[[tenant]]
name = "main"
time_zone = "Europe/Berlin"
[[tenant.group]]
name = "sales"
strategy = "round_robin"
backlog_messages = 5
backlog_bytes = "2KiB"
[[tenant.group]]
name = "support"
key_level = 5
[[tenant.rule]]
name = "gold"
when = 'customer.tier == "gold"'
group = "sales"
priority = 7
skills = ["french"]
fallback = "support"
[[tenant.rule]]
name = "rest"
group = "support"
"#;

pub(super) fn shown(text: &str) -> Vec<String> {
    Routing::parse(text, "r.toml").unwrap_err().iter().map(ToString::to_string).collect()
}

/// The good file with one piece replaced.
fn spoilt(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn a_good_file_gives_what_it_says() {
    let routing = Routing::parse(GOOD, "r.toml").unwrap();
    let tenant = routing.tenant("main").unwrap();
    assert_eq!(tenant.time_zone().iana_name(), Some("Europe/Berlin"));
    assert!(routing.tenant("other").is_none());
    let sales = tenant.group("sales").unwrap();
    assert_eq!((sales.strategy, sales.key_level), (Strategy::RoundRobin, 7));
    assert_eq!((sales.backlog_messages, sales.backlog_bytes), (5, 2048));
    let support = tenant.group("support").unwrap();
    assert_eq!((support.strategy, support.key_level), (Strategy::Sticky, 5));
    assert_eq!((support.backlog_messages, support.backlog_bytes), (10_000, 64 << 20));
    let rules: Vec<&Rule> = tenant.rules().collect();
    assert_eq!(
        rules.iter().map(|rule| (&*rule.name, rule.line)).collect::<Vec<_>>(),
        [("gold", 13), ("rest", 20)]
    );
    let gold = rules.first().unwrap();
    assert_eq!((gold.priority, &*gold.group.name), (7, "sales"));
    assert_eq!(gold.skills, ["french"]);
    assert_eq!(gold.fallback.as_ref().map(|group| &*group.name), Some("support"));
}

pub(super) const SHIPPED: &str = include_str!("../../../conf/routing.toml");

#[test]
fn the_shipped_file_has_no_problems_and_shows_the_defaults() {
    let routing =
        Routing::parse(SHIPPED, "conf/routing.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let tenant = routing.tenant("main").unwrap();
    let names: Vec<&str> = tenant.groups().map(|group| &*group.name).collect();
    assert_eq!(names, ["billing", "sales", "support"]);
    // `sales` writes out every key with its default, `billing` none.
    let (billing, sales) = (tenant.group("billing").unwrap(), tenant.group("sales").unwrap());
    let renamed = Group { name: Arc::clone(&sales.name), ..billing.clone() };
    assert_eq!(format!("{renamed:?}"), format!("{sales:?}"));
    assert!(tenant.uses_context());
    assert_eq!(*tenant.contexts(), ContextRules::default());
    assert!(!tenant.has_assigned());
}

/// What is put in place of what, and all that is then shown.
const WRONG: &[(&str, &str, &[&str])] = &[
    // Conditions.
    (
        "customer.tier ==",
        "customer.tier =",
        &["r.toml:15:23  tenant.rule.when: this cannot be read: '= '; did you mean \"==\"?"],
    ),
    (
        "customer.tier ==",
        "costumer.tier ==",
        &["r.toml:15:9  tenant.rule.when: `costumer` is not known; did you mean \"customer\"?"],
    ),
    (
        "customer.tier ==",
        "message.boddy ==",
        &["r.toml:15:17  tenant.rule.when: `message` has no `boddy`; did you mean \"body\"?"],
    ),
    (
        "customer.tier ==",
        "now.weekdya == 1 && conversation.age ==",
        &[
            "r.toml:15:13  tenant.rule.when: `now` has no `weekdya`; did you mean \"weekday\"?",
            "r.toml:15:42  tenant.rule.when: `conversation` has no `age`; did you mean \"age_s\"?",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "message.body.startswith(\"x\") && message . size.foo()",
        &[
            "r.toml:15:22  tenant.rule.when: there is no function `startswith`; did you mean \"startsWith\"?",
            "r.toml:15:56  tenant.rule.when: there is no function `foo`; there are size, contains, startsWith, endsWith, matches, has, exists, all and so on",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "message.body.matches(\"(\") || matches(message.body, customer.x)",
        &[
            "r.toml:15:30  tenant.rule.when: the pattern is no regular expression; unclosed group",
            "r.toml:15:68  tenant.rule.when: the pattern of `matches` is not a literal string; e.g. `message.body.matches(\"(?i)refund\")`",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "message.body.matches(\"(a{200}){200}\")",
        &[
            "r.toml:15:30  tenant.rule.when: the pattern is too large; at most 256 KiB when compiled: repeat less",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "customer.l.all(x)",
        &[
            "r.toml:15:20  tenant.rule.when: `all` is not used like this; e.g. `customer.tags.all(tag, tag != \"x\")`",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "has(customer)",
        &["r.toml:15:13  tenant.rule.when: invalid argument to has() macro; e.g. `has(customer.tier)`"],
    ),
    (
        "customer.tier == \"gold\"",
        "customer.l.all(x, customer.m.all(y, x == y))",
        &[
            "r.toml:15:41  tenant.rule.when: a loop in a loop; one `all`, `exists`, `exists_one`, `map` or `filter` may not stand in another",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "true",
        &[
            "r.toml:15:9  tenant.rule.when: the condition is always true; leave `when` out for the default rule",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "false",
        &["r.toml:15:9  tenant.rule.when: the condition is always false; remove the rule"],
    ),
    (
        "customer.tier == \"gold\"",
        " size(customer.l) ",
        &[
            "r.toml:15:10  tenant.rule.when: the condition gives a number; a condition is true or false, e.g. `message.size > 1000`",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "",
        &["r.toml:15:9  tenant.rule.when: the condition is empty; leave `when` out for the default rule"],
    ),
    (
        "customer.tier == \"gold\"",
        "customer.tier ==",
        &[
            "r.toml:15:25  tenant.rule.when: the condition ends too early; a value, a name, `(`, `!` or `-` is expected here",
        ],
    ),
    (
        "customer.tier == \"gold\"",
        "a and b",
        &["r.toml:15:11  tenant.rule.when: unexpected 'and'; did you mean \"&&\"?"],
    ),
    (
        "customer.tier == \"gold\"",
        "(customer.tier",
        &["r.toml:15:23  tenant.rule.when: missing ')' at the end"],
    ),
    (
        "customer.tier == \"gold\"",
        "customer.x == 99999999999999999999",
        &["r.toml:15:23  tenant.rule.when: invalid int literal; a whole number of 64 bits"],
    ),
    (
        "customer.tier == \"gold\"",
        "Foo{a: 1} == 1 && customer.l.exists(tag, tga == 1)",
        &[
            "r.toml:15:12  tenant.rule.when: `Foo` is no type that can be made here; a map: {\"name\": value}",
            "r.toml:15:50  tenant.rule.when: `tga` is not known; did you mean \"tag\"?",
        ],
    ),
    (
        "'customer.tier == \"gold\"'",
        "'''\nmessage.body == \"ü\" &&\n  costumer.tier == \"gold\"'''",
        &["r.toml:17:3  tenant.rule.when: `costumer` is not known; did you mean \"customer\"?"],
    ),
    (
        "'customer.tier == \"gold\"'",
        "\"message.body == \\\"ü\\\" && costumer.a\"",
        &["r.toml:15:34  tenant.rule.when: `costumer` is not known; did you mean \"customer\"?"],
    ),
    // Rules.
    (
        "group = \"sales\"\npriority",
        "group = \"slaes\"\npriority",
        &["r.toml:16:9  tenant.rule.group: there is no group \"slaes\"; did you mean \"sales\"?"],
    ),
    (
        "fallback = \"support\"",
        "fallback = \"nobody\"",
        &["r.toml:19:12  tenant.rule.fallback: there is no group \"nobody\"; one of sales, support"],
    ),
    (
        "fallback = \"support\"",
        "fallback = \"sales\"",
        &["r.toml:19:12  tenant.rule.fallback: \"sales\" is the rule's group already; another group"],
    ),
    (
        "name = \"rest\"\ngroup = \"support\"\n",
        "name = 5\n",
        &[
            "r.toml:20:1  tenant.rule.group: missing; the name of a group",
            "r.toml:21:8  tenant.rule.name: invalid type: integer `5`; expected a string",
        ],
    ),
    (
        "name = \"rest\"",
        "name = \"gold\"",
        &["r.toml:21:8  tenant.rule.name: \"gold\" is there twice; the first is in line 14"],
    ),
    (
        "name = \"rest\"",
        "name = \"rest\"\nwhen = \"message.size > 1\"",
        &[
            "r.toml:22:8  tenant.rule.when: the last rule has a condition; end with a rule that has no `when`: the default",
        ],
    ),
    (
        "when = 'customer.tier == \"gold\"'\n",
        "",
        &[
            "r.toml:13:1  tenant.rule.when: missing, so the rule after this one can never apply; only the last rule has no condition",
        ],
    ),
    (
        "when = 'customer.tier == \"gold\"'",
        "when = 1",
        &["r.toml:15:8  tenant.rule.when: invalid type: integer `1`; expected a string"],
    ),
    (
        "priority = 7",
        "priority = 1001",
        &["r.toml:17:12  tenant.rule.priority: 1001 is not allowed; 0 to 1000"],
    ),
    ("priority = 7", "priority = -1", &["r.toml:17:12  tenant.rule.priority: -1 is not allowed; 0 to 1000"]),
    (
        "priority = 7",
        "priority = \"high\"",
        &["r.toml:17:12  tenant.rule.priority: invalid type: string \"high\"; a whole number"],
    ),
    ("priority = 7", "prio = 7", &["r.toml:17:1  tenant.rule.prio: unknown key; did you mean \"priority\"?"]),
    (
        "[\"french\"]",
        "[\"french\", 3, \"a/b\"]",
        &[
            "r.toml:18:21  tenant.rule.skills: invalid type: integer `3`; expected a string",
            "r.toml:18:24  tenant.rule.skills: \"a/b\" is no skill: an id is one topic level, without / + #; e.g. \"french\"",
        ],
    ),
    // Groups.
    (
        "name = \"support\"",
        "name = \"sales\"",
        &[
            "r.toml:11:8  tenant.group.name: \"sales\" is there twice; the first is in line 6",
            "r.toml:19:12  tenant.rule.fallback: there is no group \"support\"; one of sales, sales",
            "r.toml:22:9  tenant.rule.group: there is no group \"support\"; one of sales, sales",
        ],
    ),
    (
        "name = \"support\"",
        "name = \"sup+port\"",
        &[
            "r.toml:11:8  tenant.group.name: \"sup+port\" is not a topic level: an id is one topic level, without / + #; e.g. \"sales\"",
            "r.toml:19:12  tenant.rule.fallback: there is no group \"support\"; did you mean \"sup+port\"?",
            "r.toml:22:9  tenant.rule.group: there is no group \"support\"; did you mean \"sup+port\"?",
        ],
    ),
    (
        "strategy = \"round_robin\"",
        "strategy = \"Round-Robin\"",
        &["r.toml:7:12  tenant.group.strategy: \"Round-Robin\" is not known; did you mean \"round_robin\"?"],
    ),
    (
        "strategy = \"round_robin\"",
        "strategy = \"fair\"",
        &[
            "r.toml:7:12  tenant.group.strategy: \"fair\" is not known; one of sticky, round_robin, least_inflight, random",
        ],
    ),
    (
        "strategy = \"round_robin\"",
        "strategy = \"random\"\nkey_level = 7",
        &[
            "r.toml:8:13  tenant.group.key_level: strategy \"random\" has no key; remove it, or strategy = \"sticky\"",
        ],
    ),
    (
        "strategy = \"round_robin\"",
        "mode = \"share\"",
        &["r.toml:7:8  tenant.group.mode: \"share\" is no mode; did you mean \"shared\"?"],
    ),
    ("key_level = 5", "key_level = 0", &["r.toml:12:13  tenant.group.key_level: 0 is not allowed; 1 to 7"]),
    ("key_level = 5", "key_level = 8", &["r.toml:12:13  tenant.group.key_level: 8 is not allowed; 1 to 7"]),
    (
        "backlog_messages = 5",
        "backlog_messages = 0",
        &["r.toml:8:20  tenant.group.backlog_messages: 0 is not allowed; 1 to 100000000"],
    ),
    (
        "\"2KiB\"",
        "\"0MiB\"",
        &["r.toml:9:17  tenant.group.backlog_bytes: 0B is not allowed; 1KiB to 1024GiB"],
    ),
    (
        "\"2KiB\"",
        "\"2kb\"",
        &[
            "r.toml:9:17  tenant.group.backlog_bytes: \"2kb\" is no size; a whole number with B, KiB, MiB or GiB, 1KiB to 1024GiB",
        ],
    ),
    (
        "\"2KiB\"",
        "\"99999999999GiB\"",
        &[
            "r.toml:9:17  tenant.group.backlog_bytes: \"99999999999GiB\" is no size; a whole number with B, KiB, MiB or GiB, 1KiB to 1024GiB",
        ],
    ),
    (
        "\"2KiB\"",
        "2048",
        &[
            "r.toml:9:17  tenant.group.backlog_bytes: 2048 has no unit; a whole number with B, KiB, MiB or GiB, 1KiB to 1024GiB",
        ],
    ),
    (
        "\"2KiB\"",
        "\"2000GiB\"",
        &["r.toml:9:17  tenant.group.backlog_bytes: 2000GiB is not allowed; 1KiB to 1024GiB"],
    ),
    // Tenants.
    (
        "\"Europe/Berlin\"",
        "\"Europe/Berln\"",
        &[
            "r.toml:4:13  tenant.time_zone: \"Europe/Berln\" is no known time zone; did you mean \"Europe/Berlin\"?",
        ],
    ),
    (
        "\"Europe/Berlin\"",
        "\"\"",
        &[
            "r.toml:4:13  tenant.time_zone: \"\" is no known time zone; an IANA name such as \"Europe/Berlin\"",
        ],
    ),
    ("name = \"main\"\n", "", &["r.toml:2:1  tenant.name: missing; e.g. \"main\""]),
    (
        "name = \"main\"",
        "name = \"\"",
        &["r.toml:3:8  tenant.name: \"\" is not a topic level: an id cannot be empty; e.g. \"main\""],
    ),
    ("[[tenant]]\nname", "[[tenants]]\nname", &[]),
    (
        "time_zone = \"Europe/Berlin\"",
        "time_zone = Europe",
        &["r.toml:4:13  string values must be quoted; expected literal string"],
    ),
];

/// [`GOOD`] with this at its end.
fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn a_tenant_says_how_contexts_are_kept() {
    let read = |more: &str| {
        let routing = Routing::parse(&with(more), "r.toml").unwrap();
        routing.tenant("main").unwrap().contexts().clone()
    };
    assert_eq!(read(""), ContextRules::default());
    assert_eq!(read("[tenant.context]\nfield = []").fields, []);
    let field = |pattern: &str, ttl_ms| FieldTtl { pattern: pattern.to_owned(), ttl_ms };
    assert_eq!(
        read(
            "[tenant.context]\nmax_bytes = \"2KiB\"\nttl = \"30d\"\n[[tenant.context.field]]\nmatch = \"cart\"\n\
             ttl = \"0s\"\n[[tenant.context.field]]\nmatch = \"c*\"\nttl = \"250ms\"\n"
        ),
        ContextRules {
            max_bytes: 2048,
            ttl_ms: Some(30 * 86_400_000),
            fields: vec![field("cart", None), field("c*", Some(250))],
        }
    );
}

#[test]
fn wrong_rules_for_contexts_are_told_line_by_line() {
    let more = "[tenant.context]\nmax_bytes = \"2MiB\"\nttl = \"4000d\"\nsize = 1\n[[tenant.context.field]]\n\
                match = \"\"\n[[tenant.context.field]]\nttl = 5\n[[tenant.context.field]]\nmatch = \"a*\"\n\
                ttl = \"1h\"\n[[tenant.context.field]]\nmatch = \"a*\"\nttl = \"2h\"\n";
    assert_eq!(
        shown(&with(more)),
        [
            "r.toml:24:13  tenant.context.max_bytes: 2MiB is not allowed; 1KiB to 1MiB",
            "r.toml:25:7  tenant.context.ttl: 4000d is not allowed; 0s to 3650d",
            "r.toml:26:1  tenant.context.size: unknown key; one of max_bytes, ttl, field",
            "r.toml:27:1  tenant.context.field.ttl: missing; e.g. \"30m\"",
            "r.toml:28:9  tenant.context.field.match: 0 bytes; 1 to 128, e.g. \"session*\"",
            "r.toml:29:1  tenant.context.field.match: missing; e.g. \"session*\"",
            "r.toml:30:7  tenant.context.field.ttl: 5 has no unit; a whole number with ms, s, m, h or d, 0s to 3650d",
            "r.toml:35:9  tenant.context.field.match: \"a*\" is there twice; the first is in line 32",
        ]
    );
    let many: Vec<String> =
        (0..65).map(|n| format!("[[tenant.context.field]]\nmatch = \"{n}\"\nttl = \"1s\"\n")).collect();
    let many = many.concat();
    assert_eq!(shown(&with(&many)), ["r.toml:215:1  tenant.context.field: 65 patterns; at most 64"]);
}

#[test]
fn a_wrong_file_is_told_line_by_line() {
    for (from, to, expected) in WRONG {
        if expected.is_empty() {
            assert!(!shown(&spoilt(from, to)).is_empty(), "{to}");
            continue;
        }
        assert_eq!(shown(&spoilt(from, to)), *expected, "{to}");
    }
}

#[test]
fn one_run_tells_everything() {
    let text = "
[[tenant]]
name = \"a/b\"
colour = \"red\"
time_zone = \"Mars\"
[[tenant.group]]
strategy = \"stiky\"
backlog_messages = 0
[[tenant.rule]]
name = \"x\"
[[tenant.rule]]
name = \"x\"
when = 'message.bdy == 1 && costumer.x'
group = \"s\"
priority = 9999
[[tenant]]
name = \"empty\"
";
    assert_eq!(
        shown(text),
        [
            "r.toml:3:8  tenant.name: \"a/b\" is not a topic level: an id is one topic level, without / + #; e.g. \"main\"",
            "r.toml:4:1  tenant.colour: unknown key; one of name, time_zone, group, rule, context, channel, holidays, transcript",
            "r.toml:5:13  tenant.time_zone: \"Mars\" is no known time zone; an IANA name such as \"Europe/Berlin\"",
            "r.toml:6:1  tenant.group.name: missing; e.g. \"sales\"",
            "r.toml:7:12  tenant.group.strategy: \"stiky\" is not known; did you mean \"sticky\"?",
            "r.toml:8:20  tenant.group.backlog_messages: 0 is not allowed; 1 to 100000000",
            "r.toml:9:1  tenant.rule.group: missing; the name of a group",
            "r.toml:9:1  tenant.rule.when: missing, so the rule after this one can never apply; only the last rule has no condition",
            "r.toml:12:8  tenant.rule.name: \"x\" is there twice; the first is in line 10",
            "r.toml:13:8  tenant.rule.when: the last rule has a condition; end with a rule that has no `when`: the default",
            "r.toml:13:17  tenant.rule.when: `message` has no `bdy`; did you mean \"body\"?",
            "r.toml:13:29  tenant.rule.when: `costumer` is not known; did you mean \"customer\"?",
            "r.toml:14:9  tenant.rule.group: there is no group \"s\"",
            "r.toml:15:12  tenant.rule.priority: 9999 is not allowed; 0 to 1000",
            "r.toml:16:1  tenant.group: missing; at least one [[tenant.group]]",
            "r.toml:16:1  tenant.rule: missing; at least one [[tenant.rule]], without `when`: the default",
        ]
    );
}

#[test]
fn an_empty_file_wants_a_tenant() {
    assert_eq!(shown(""), ["r.toml:1:1  tenant: missing; at least one [[tenant]]"]);
}

#[test]
fn a_tenant_comes_once_and_rules_are_bounded() {
    let twice = format!("{GOOD}{GOOD}");
    assert_eq!(shown(&twice), ["r.toml:25:8  tenant.name: \"main\" is there twice; the first is in line 3"]);
    let rules = |first: usize| {
        let rule = |n: usize| {
            format!("[[tenant.rule]]\nname = \"{n}\"\nwhen = \"now.hour == {n}\"\ngroup = \"sales\"\n")
        };
        let many: String = (0..first).map(rule).collect();
        spoilt("[[tenant.rule]]\nname = \"gold\"", &format!("{many}[[tenant.rule]]\nname = \"gold\""))
    };
    assert!(Routing::parse(&rules(254), "r.toml").is_ok());
    // The rule that is one too many is not compiled, nor are those after it.
    let text = rules(257).replace("now.hour == 256", "now.huor").replace("customer.tier ==", "costumer ==");
    assert_eq!(shown(&text), ["r.toml:1037:1  tenant.rule: 259 rules in a tenant; at most 256"]);
    let text = rules(257).replace("now.hour == 255", "now.huor");
    assert_eq!(
        shown(&text),
        [
            "r.toml:1035:13  tenant.rule.when: `now` has no `huor`; did you mean \"hour\"?",
            "r.toml:1037:1  tenant.rule: 259 rules in a tenant; at most 256",
        ]
    );
}

#[test]
fn tenants_and_groups_are_bounded() {
    let groups = |first: usize| {
        let many: Vec<String> = (0..first).map(|n| format!("[[tenant.group]]\nname = \"{n}\"\n")).collect();
        let many = many.concat();
        spoilt("[[tenant.group]]\nname = \"sales\"", &format!("{many}[[tenant.group]]\nname = \"sales\""))
    };
    assert!(Routing::parse(&groups(254), "r.toml").is_ok());
    assert_eq!(
        shown(&groups(255)),
        ["r.toml:520:1  tenant.group: 257 groups in a tenant; at most 256"],
        "a rule may name the last"
    );
    let tenants = |n: usize| -> String { (0..n).map(|n| GOOD.replace("main", &n.to_string())).collect() };
    assert!(Routing::parse(&tenants(256), "r.toml").is_ok());
    assert_eq!(shown(&tenants(257)), ["r.toml:5634:1  tenant: 257 tenants; at most 256"]);
}

/// The good file with `count` rules more, each with `line` in it.
fn broken(count: usize, line: &str) -> String {
    let rule = |n: usize| {
        format!("[[tenant.rule]]\nname = \"{n}\"\n{line}\nwhen = \"now.hour == 1\"\ngroup = \"sales\"\n")
    };
    let many: String = (0..count).map(rule).collect();
    spoilt("[[tenant.rule]]\nname = \"gold\"", &format!("{many}[[tenant.rule]]\nname = \"gold\""))
}

/// Reading them all takes a moment; a step that is quadratic in the file would take minutes.
#[test]
fn a_large_file_that_is_wrong_everywhere_is_told_in_part() {
    let told = shown(&broken(5000, "gruop = \"sales\""));
    assert_eq!(told.len(), 101);
    assert_eq!(told.first().unwrap(), "r.toml:15:1  tenant.rule.gruop: unknown key; did you mean \"group\"?");
    assert_eq!(
        told.last().unwrap(),
        "r.toml  there are more problems than 100; check again when these are gone"
    );

    // One in each of 5,000 tables in one line, one in the last of them, as many keys in one table, syntax.
    let inline = "{ name = \"x\", nmae = 1 }, ".repeat(5000);
    assert_eq!(shown(&format!("[[tenant]]\nname = \"t\"\ngroup = [{inline}]\n")).len(), 101);
    let last = broken(5000, "").replace("fallback =", "fallbak =");
    assert_eq!(
        shown(&last),
        [
            "r.toml:1293:1  tenant.rule: 5002 rules in a tenant; at most 256",
            "r.toml:25019:1  tenant.rule.fallbak: unknown key; did you mean \"fallback\"?"
        ]
    );
    let keys: Vec<String> = (0..50_000).map(|n| format!("k{n} = {n}\n")).collect();
    assert_eq!(shown(&(keys.concat() + GOOD)).len(), 101);
    assert_eq!(shown(&format!("a{} = 1", ".a".repeat(200_000))).len(), 1);
    assert_eq!(shown(&"=\n".repeat(200_000)).len(), 101);
    assert_eq!(shown(&"[[tenant]]\n".repeat(50_000)).len(), 101);
}
