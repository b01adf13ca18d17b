//! Whole routing files: what they come to, and the exact lines an operator sees when they are wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::desk::{
    Assigned, Change, ContextRules, FieldTtl, ModelSource, Order, Rule, Step, Strategy, Turned, Weights,
};

/// A file that is right, to be spoilt.
const GOOD: &str = r#"
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

fn shown(text: &str) -> Vec<String> {
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

#[test]
fn the_shipped_file_has_no_problems_and_shows_the_defaults() {
    let text = include_str!("../../../conf/routing.toml");
    let routing =
        Routing::parse(text, "conf/routing.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let tenant = routing.tenant("main").unwrap();
    let names: Vec<&str> = tenant.groups().map(|group| &*group.name).collect();
    assert_eq!(names, ["billing", "sales", "support"]);
    // `sales` writes out every key with its default, `billing` none.
    let (billing, sales) = (tenant.group("billing").unwrap(), tenant.group("sales").unwrap());
    let renamed = Group { name: Arc::clone(&sales.name), ..billing.clone() };
    assert_eq!(format!("{renamed:?}"), format!("{sales:?}"));
    assert!(tenant.uses_context());
    assert_eq!(*tenant.contexts(), ContextRules::default());
    for key in [
        "name",
        "mode",
        "strategy",
        "key_level",
        "backlog_messages",
        "backlog_bytes",
        "when",
        "group",
        "priority",
        "skills",
        "fallback",
        "time_zone",
        "max_bytes",
        "ttl",
        "match",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not shown");
    }
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
            "r.toml:4:1  tenant.colour: unknown key; one of name, time_zone, group, rule, context, channel, holidays",
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

/// A file with groups in assigned mode that is right, to be spoilt.
const ASSIGNED: &str = r#"
[[tenant]]
name = "main"
[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
offer = "15s"
auto_accept = true
lapses = 3
reject = "1m"
grace = "2m"
wrapup = "5s"
sticky = "0s"
affinity = "1h"
max_queue = 20
max_wait = "1h"
full_group = "night"
expired_text = "Sorry."
[tenant.group.order]
priority_weight = 0
ageing = 2
urgency = 0
target = "90s"
[tenant.group.weights]
skill = 1
spare = 2
idle = 3
affinity = 4
language = 5
idle_full = "1m"
[tenant.group.model]
file = "care.json"
features = ["message.size", "agent.idle_s"]
[[tenant.group.step]]
after = "30s"
drop_skill = "french"
[[tenant.group.step]]
after = "30s"
add_group = "night"
[[tenant.group.step]]
after = "60s"
raise_priority = 50
[[tenant.group.step]]
after = "10m"
move_to = "last"
[[tenant.group]]
name = "night"
mode = "assigned"
[[tenant.group]]
name = "last"
mode = "assigned"
[[tenant.group]]
name = "sales"
[[tenant.rule]]
name = "rest"
group = "care"
fallback = "night"
"#;

fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

#[test]
fn a_group_in_assigned_mode_gives_what_it_says() {
    let routing = Routing::parse(ASSIGNED, "r.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let tenant = routing.tenant("main").unwrap();
    assert!(tenant.has_assigned());
    let care = tenant.group("care").unwrap();
    assert!(care.is_assigned() && !tenant.group("sales").unwrap().is_assigned());
    let set = care.assigned.as_deref().unwrap();
    let order = Order { priority_weight: 0, ageing: 2, urgency: 0, target_ms: 90_000 };
    assert_eq!(set.order, order);
    let weights =
        Weights { skill: 1, spare: 2, idle: 3, affinity: 4, language: 5, model: 100, idle_full_ms: 60_000 };
    assert_eq!(set.weights, weights);
    assert_eq!((set.offer_ms, set.auto_accept, set.lapses, set.reject_ms), (15_000, true, 3, 60_000));
    assert_eq!((set.grace_ms, set.wrapup_ms, set.sticky_ms), (120_000, 5000, 0));
    assert_eq!((set.affinity_ttl_ms, set.max_queue, set.max_wait_ms), (3_600_000, 20, 3_600_000));
    assert_eq!(set.full, Turned::To(shared("night")));
    assert_eq!(set.expired, Turned::Told(shared("Sorry.")));
    assert_eq!(set.closed, Turned::Refused);
    let features = vec!["message.size".to_owned(), "agent.idle_s".to_owned()];
    assert_eq!(set.model_source, Some(ModelSource { file: "care.json".to_owned(), features }));
    let step = |after_ms, change| Step { after_ms, change };
    assert_eq!(
        set.steps,
        [
            step(30_000, Change::DropSkill(shared("french"))),
            step(30_000, Change::AddGroup(shared("night"))),
            step(60_000, Change::Raise(50)),
            step(600_000, Change::MoveTo(shared("last"))),
        ]
    );
    let night = tenant.group("night").unwrap().assigned.as_deref().unwrap();
    assert_eq!(format!("{night:?}"), format!("{:?}", Assigned::default()));
    assert!(!Routing::parse(GOOD, "r.toml").unwrap().tenant("main").unwrap().has_assigned());
}

/// As [`WRONG`], of [`ASSIGNED`].
const WRONG_ASSIGNED: &[(&str, &str, &[&str])] = &[
    // Modes.
    (
        "name = \"care\"\nmode = \"assigned\"",
        "name = \"care\"\nmode = \"assigned\"\nstrategy = \"random\"\nbacklog_bytes = \"1MiB\"",
        &[
            "r.toml:7:12  tenant.group.strategy: a group in assigned mode has none; remove it, or mode = \"shared\"",
            "r.toml:8:17  tenant.group.backlog_bytes: a group in assigned mode has none; remove it, or mode = \"shared\"",
        ],
    ),
    (
        "name = \"care\"\nmode = \"assigned\"",
        "name = \"care\"",
        &[
            "r.toml:6:1  tenant.group.assigned: a group in shared mode has none; remove it, or mode = \"assigned\"",
            "r.toml:19:1  tenant.group.order: a group in shared mode has none; remove it, or mode = \"assigned\"",
            "r.toml:24:1  tenant.group.weights: a group in shared mode has none; remove it, or mode = \"assigned\"",
            "r.toml:31:1  tenant.group.model: a group in shared mode has none; remove it, or mode = \"assigned\"",
            "r.toml:34:1  tenant.group.step: a group in shared mode has none; remove it, or mode = \"assigned\"",
            "r.toml:57:12  tenant.rule.fallback: \"night\" is in assigned mode; a group in shared mode, like \"care\"",
        ],
    ),
    (
        "name = \"care\"\nmode = \"assigned\"",
        "name = \"care\"\nmode = \"asigned\"",
        &["r.toml:6:8  tenant.group.mode: \"asigned\" is no mode; did you mean \"assigned\"?"],
    ),
    (
        "name = \"care\"\nmode = \"assigned\"",
        "name = \"care\"\nmode = 3",
        &["r.toml:6:8  tenant.group.mode: invalid type: integer `3`; expected a string"],
    ),
    // Single values.
    ("\"15s\"", "\"500ms\"", &["r.toml:8:9  tenant.group.assigned.offer: 500ms is not allowed; 1s to 1h"]),
    (
        "\"15s\"",
        "15",
        &[
            "r.toml:8:9  tenant.group.assigned.offer: 15 has no unit; a whole number with ms, s, m, h or d, 1s to 1h",
        ],
    ),
    (
        "auto_accept = true",
        "auto_accept = \"yes\"",
        &["r.toml:9:15  tenant.group.assigned.auto_accept: invalid type: string \"yes\"; true or false"],
    ),
    (
        "auto_accept",
        "autoaccept",
        &["r.toml:9:1  tenant.group.assigned.autoaccept: unknown key; did you mean \"auto_accept\"?"],
    ),
    ("lapses = 3", "lapses = 0", &["r.toml:10:10  tenant.group.assigned.lapses: 0 is not allowed; 1 to 100"]),
    (
        "reject = \"1m\"",
        "reject = \"25h\"",
        &["r.toml:11:10  tenant.group.assigned.reject: 25h is not allowed; 0s to 1d"],
    ),
    (
        "max_queue = 20",
        "max_queue = 10_000_001",
        &["r.toml:16:13  tenant.group.assigned.max_queue: 10000001 is not allowed; 1 to 10000000"],
    ),
    (
        "max_wait = \"1h\"",
        "max_wait = \"31d\"",
        &["r.toml:17:12  tenant.group.assigned.max_wait: 31d is not allowed; 0s to 30d"],
    ),
    (
        "affinity = \"1h\"",
        "affinity = \"an hour\"",
        &[
            "r.toml:15:12  tenant.group.assigned.affinity: \"an hour\" is no duration; a whole number with ms, s, m, h or d, 0s to 3650d",
        ],
    ),
    (
        "priority_weight = 0",
        "priority_weight = 10_001",
        &["r.toml:21:19  tenant.group.order.priority_weight: 10001 is not allowed; 0 to 10000"],
    ),
    ("ageing = 2", "ageing = 0", &["r.toml:22:10  tenant.group.order.ageing: 0 is not allowed; 1 to 1000"]),
    (
        "urgency = 0",
        "urgency = -1",
        &["r.toml:23:11  tenant.group.order.urgency: -1 is not allowed; 0 to 1000"],
    ),
    (
        "target = \"90s\"",
        "target = 90",
        &[
            "r.toml:24:10  tenant.group.order.target: 90 has no unit; a whole number with ms, s, m, h or d, 0s to 30d",
        ],
    ),
    (
        "skill = 1",
        "skill = 1001",
        &["r.toml:26:9  tenant.group.weights.skill: 1001 is not allowed; 0 to 1000"],
    ),
    (
        "idle_full = \"1m\"",
        "idle_full = \"0s\"",
        &["r.toml:31:13  tenant.group.weights.idle_full: 0s is not allowed; 1s to 1d"],
    ),
    (
        "language = 5",
        "languages = 5",
        &["r.toml:30:1  tenant.group.weights.languages: unknown key; did you mean \"language\"?"],
    ),
    // What becomes of conversations.
    (
        "full_group = \"night\"",
        "full_group = \"night\"\nfull_text = \"Full.\"",
        &["r.toml:19:13  tenant.group.assigned.full_text: not beside full_group; one of them"],
    ),
    ("\"Sorry.\"", "\"\"", &["r.toml:19:16  tenant.group.assigned.expired_text: 0 bytes; 1 to 4096"]),
    (
        "full_group = \"night\"",
        "full_group = \"nihgt\"",
        &[
            "r.toml:18:14  tenant.group.assigned.full_group: there is no group \"nihgt\"; did you mean \"night\"?",
        ],
    ),
    (
        "full_group = \"night\"",
        "full_group = \"sales\"",
        &["r.toml:18:14  tenant.group.assigned.full_group: \"sales\" is in shared mode; one of night, last"],
    ),
    (
        "full_group = \"night\"",
        "closed_group = \"care\"",
        &[
            "r.toml:18:16  tenant.group.assigned.closed_group: leads in a circle: care → care; a group from which no way leads to \"care\"",
        ],
    ),
    // The model.
    ("file = \"care.json\"\n", "", &["r.toml:32:1  tenant.group.model.file: missing; the name of a file"]),
    (
        "file = \"care.json\"",
        "file = \"\"\ntype = 1",
        &[
            "r.toml:33:8  tenant.group.model.file: 0 bytes; 1 to 4096",
            "r.toml:34:1  tenant.group.model.type: unknown key; one of file, features",
        ],
    ),
    (
        "features = [\"message.size\", \"agent.idle_s\"]",
        "features = []",
        &["r.toml:34:12  tenant.group.model.features: 0 features; 1 to 256"],
    ),
    (
        "features = [\"message.size\", \"agent.idle_s\"]\n",
        "",
        &["r.toml:32:1  tenant.group.model.features: missing; e.g. [\"message.size\"]"],
    ),
    (
        "\"agent.idle_s\"",
        "\"\", 4",
        &[
            "r.toml:34:29  tenant.group.model.features: 0 bytes; 1 to 128",
            "r.toml:34:33  tenant.group.model.features: invalid type: integer `4`; expected a string",
        ],
    ),
    // Steps.
    ("after = \"60s\"\n", "", &["r.toml:41:1  tenant.group.step.after: missing; e.g. \"60s\""]),
    (
        "after = \"60s\"",
        "after = \"20s\"",
        &["r.toml:42:9  tenant.group.step.after: 20s is before the step above; 30s or later"],
    ),
    (
        "after = \"60s\"",
        "after = 60",
        &[
            "r.toml:42:9  tenant.group.step.after: 60 has no unit; a whole number with ms, s, m, h or d, 0s to 30d",
        ],
    ),
    (
        "after = \"10m\"",
        "after = \"31d\"",
        &["r.toml:45:9  tenant.group.step.after: 31d is not allowed; 0s to 30d"],
    ),
    (
        "raise_priority = 50\n",
        "",
        &[
            "r.toml:41:1  tenant.group.step: does nothing; one of drop_skill, add_group, raise_priority, move_to",
        ],
    ),
    (
        "raise_priority = 50",
        "raise_priority = \"50\"",
        &["r.toml:43:18  tenant.group.step.raise_priority: invalid type: string \"50\"; a whole number"],
    ),
    (
        "raise_priority = 50",
        "raise_priority = 0\nmove_to = \"last\"",
        &[
            "r.toml:43:18  tenant.group.step.raise_priority: 0 is not allowed; 1 to 1000",
            "r.toml:44:11  tenant.group.step.move_to: not beside raise_priority; one of them in a step",
        ],
    ),
    (
        "drop_skill = \"french\"",
        "drop_skill = \"a/b\"",
        &[
            "r.toml:37:14  tenant.group.step.drop_skill: \"a/b\" is no skill: an id is one topic level, without / + #; e.g. \"french\"",
        ],
    ),
    (
        "add_group = \"night\"",
        "add_group = \"care\"",
        &["r.toml:40:13  tenant.group.step.add_group: \"care\" is the group itself; another group"],
    ),
    (
        "add_group = \"night\"",
        "add_group = \"nobody\"",
        &["r.toml:40:13  tenant.group.step.add_group: there is no group \"nobody\"; one of night, last"],
    ),
    (
        "move_to = \"last\"",
        "move_to = \"sales\"",
        &["r.toml:46:11  tenant.group.step.move_to: \"sales\" is in shared mode; one of night, last"],
    ),
    // Circles and rules.
    (
        "move_to = \"last\"",
        "move_to = \"care\"",
        &[
            "r.toml:46:11  tenant.group.step.move_to: leads in a circle: care → care; a group from which no way leads to \"care\"",
        ],
    ),
    (
        "name = \"night\"\nmode = \"assigned\"",
        "name = \"night\"\nmode = \"assigned\"\n[tenant.group.assigned]\nexpired_group = \"care\"",
        &[
            "r.toml:51:17  tenant.group.assigned.expired_group: leads in a circle: care → night → care; a group from which no way leads to \"care\"",
        ],
    ),
    (
        "name = \"last\"\nmode = \"assigned\"",
        "name = \"last\"\nmode = \"assigned\"\n[[tenant.group.step]]\nafter = \"1s\"\nmove_to = \"night\"\n\
         [[tenant.group.step]]\nafter = \"2s\"\nmove_to = \"care\"",
        &[
            "r.toml:58:11  tenant.group.step.move_to: leads in a circle: care → last → care; a group from which no way leads to \"care\"",
        ],
    ),
    (
        "group = \"care\"\nfallback = \"night\"",
        "group = \"last\"\nfallback = \"care\"",
        &[
            "r.toml:58:12  tenant.rule.fallback: leads in a circle: care → last → care; a group from which no way leads to \"care\"",
        ],
    ),
    (
        "fallback = \"night\"",
        "fallback = \"sales\"",
        &[
            "r.toml:58:12  tenant.rule.fallback: \"sales\" is in shared mode; a group in assigned mode, like \"care\"",
        ],
    ),
    (
        "group = \"care\"\nfallback = \"night\"",
        "group = \"sales\"\nfallback = \"night\"",
        &[
            "r.toml:58:12  tenant.rule.fallback: \"night\" is in assigned mode; a group in shared mode, like \"sales\"",
        ],
    ),
];

#[test]
fn a_wrong_group_in_assigned_mode_is_told_line_by_line() {
    for (from, to, expected) in WRONG_ASSIGNED {
        assert_eq!(ASSIGNED.matches(from).count(), 1, "{from}");
        assert_eq!(shown(&ASSIGNED.replacen(from, to, 1)), *expected, "{to}");
    }
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
