//! Whole files of access rules: what they come to, and the exact lines an operator sees when they are wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::auth::Principal;
use crate::auth::acl::{Act, Subject};
use crate::config::tests::keys;

const SHIPPED: &str = include_str!("../../../conf/acl.toml");

/// A file that is right, to be spoilt.
const GOOD: &str = r#"
[[rule]]
allow = ["publish"]
topics = ["sensors/%c/#", "s/%u"]
role = ["device"]
user = ["plant-7", "field-*"]
client = ["sensor-*"]
tenant = ["main"]
group = ["care"]
anonymous = false
retain = false
max_qos = 1
[[rule]]
deny = ["publish", "subscribe"]
topics = ["a"]
[[rule]]
allow = ["subscribe"]
topics = ["$share/%g/x", "$SYS/#"]
wildcards = false
"#;

fn shown(text: &str) -> Vec<String> {
    AccessRules::parse(text, "acl.toml").unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_file_gives_what_it_says() {
    let rules = AccessRules::parse(GOOD, "acl.toml").unwrap();
    let names = |names: &[&str]| names.iter().map(|name| Name::parse(name).unwrap()).collect();
    let topics = |topics: &[&str]| topics.iter().map(|topic| Pattern::parse(topic).unwrap()).collect();
    let plain = Rule {
        by: By::File { line: 13 },
        allow: false,
        publish: true,
        subscribe: true,
        topics: topics(&["a"]),
        who: Who::default(),
        retain: true,
        max_qos: 2,
        wildcards: true,
    };
    let who = Who {
        roles: [Role::Device].into(),
        users: names(&["plant-7", "field-*"]),
        clients: names(&["sensor-*"]),
        tenants: names(&["main"]),
        groups: names(&["care"]),
        anonymous: Some(false),
    };
    let first = Rule {
        by: By::File { line: 2 },
        allow: true,
        subscribe: false,
        topics: topics(&["sensors/%c/#", "s/%u"]),
        who,
        retain: false,
        max_qos: 1,
        ..plain.clone()
    };
    let last = Rule {
        by: By::File { line: 16 },
        allow: true,
        publish: false,
        topics: topics(&["$share/%g/x", "$SYS/#"]),
        wildcards: false,
        ..plain.clone()
    };
    assert_eq!(*rules, [first, plain, last]);
    assert!(AccessRules::parse("", "acl.toml").unwrap().is_empty());
}

/// The shipped file with its examples taken out of their comments: what stands behind `# ` and is TOML.
fn examples() -> String {
    let code = |line: &&str| line.starts_with("[[") || line.contains(" = ");
    let lines = SHIPPED.lines().filter_map(|line| line.strip_prefix("# ")).filter(code);
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_shipped_file_has_examples_alone_and_they_work() {
    assert!(AccessRules::parse(SHIPPED, "conf/acl.toml").unwrap().is_empty());
    let rules = AccessRules::parse(&examples(), "conf/acl.toml").unwrap_or_else(|p| panic!("{p:#?}"));
    assert_eq!(rules.len(), SHIPPED.matches("[[rule]]").count());
    for key in keys::<RawRule>() {
        let documented = key == "deny" || SHIPPED.contains(&format!("\n# {key} = "));
        assert!(documented, "{key} is not in conf/acl.toml");
    }
    let customer = Principal {
        user: "someone".into(),
        tenant: "main".into(),
        role: Role::Customer,
        id: "42".into(),
        groups: Box::default(),
        expires_at: None,
    };
    let subject = Subject { client_id: "phone", principal: Some(&customer) };
    let wanted = Act::Subscribe { filter: "cs/1/main/customer/42/#", qos: 1 };
    let access = AccessRules { file: None, rules };
    assert!(access.acl(true).decide(&subject, &wanted).allowed);
    assert!(!AccessRules::default().acl(true).decide(&subject, &wanted).allowed);
}

/// What is put in place of what, and all that is then shown.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "allow = [\"publish\"]",
        "allow = [\"publsh\"]",
        &["acl.toml:3:10  rule.allow: \"publsh\" is not known; did you mean \"publish\"?"],
    ),
    (
        "allow = [\"publish\"]",
        "allow = []",
        &["acl.toml:3:9  rule.allow: is empty; a list of \"publish\" and \"subscribe\""],
    ),
    (
        "allow = [\"publish\"]",
        "allow = \"publish\"",
        &["acl.toml:3:9  rule.allow: invalid type: string \"publish\"; a list: [ … ]"],
    ),
    (
        "allow = [\"publish\"]",
        "deny = [\"publish\"]\nallow = [\"publish\"]",
        &["acl.toml:3:8  rule.deny: there is an `allow`, too; one of both"],
    ),
    (
        "allow = [\"publish\"]\n",
        "",
        &["acl.toml:2:1  rule.allow: missing, and `deny`, too; a list of \"publish\" and \"subscribe\""],
    ),
    (
        "allow = [\"publish\"]",
        "deny = [\"publish\"]",
        &[
            "acl.toml:11:10  rule.retain: not used; only what allows \"publish\" has it",
            "acl.toml:12:11  rule.max_qos: not used; only what allows has it",
        ],
    ),
    (
        "allow = [\"publish\"]",
        "allow = [\"subscribe\"]",
        &["acl.toml:11:10  rule.retain: not used; only what allows \"publish\" has it"],
    ),
    (
        "[\"subscribe\"]",
        "[\"publish\"]",
        &[
            "acl.toml:18:11  rule.topics: \"$share/%g/x\": nobody publishes to what begins with $; a rule of its own, for \"subscribe\"",
            "acl.toml:18:26  rule.topics: \"$SYS/#\": nobody publishes to what begins with $; a rule of its own, for \"subscribe\"",
            "acl.toml:19:13  rule.wildcards: not used; only what allows \"subscribe\" has it",
        ],
    ),
    ("topics = [\"a\"]\n", "", &["acl.toml:13:1  rule.topics: missing; a list of topic filters"]),
    ("topics = [\"a\"]", "topics = []", &["acl.toml:15:10  rule.topics: is empty; a list of topic filters"]),
    (
        "topics = [\"a\"]",
        "topics = [1]",
        &["acl.toml:15:11  rule.topics: invalid type: integer `1`; expected a string"],
    ),
    (
        "topics = [\"a\"]",
        "topic = [\"a\"]",
        &[
            "acl.toml:13:1  rule.topics: missing; a list of topic filters",
            "acl.toml:15:1  rule.topic: unknown key; did you mean \"topics\"?",
        ],
    ),
    (
        "\"a\"",
        "\"a\", \"b/#/c\", \"d+\", \"%x\", \"50%\", \"$%c\"",
        &[
            "acl.toml:15:16  rule.topics: \"b/#/c\": # must be alone in the last level of a topic filter",
            "acl.toml:15:25  rule.topics: \"d+\": + must be alone in its level of a topic filter",
            "acl.toml:15:31  rule.topics: \"%x\": %x stands for nothing; %c, %u, %t, %i, %g, or %% for a percent sign",
            "acl.toml:15:37  rule.topics: \"50%\": % stands alone; %% is a percent sign",
            "acl.toml:15:44  rule.topics: \"$%c\": a first level that begins with $ has no placeholder",
        ],
    ),
    (
        "\"device\"",
        "\"devise\", \"Agent\"",
        &[
            "acl.toml:5:9  rule.role: \"devise\" is no role; did you mean \"device\"?",
            "acl.toml:5:19  rule.role: \"Agent\" is no role; did you mean \"agent\"?",
        ],
    ),
    (
        "[\"device\"]",
        "[]",
        &["acl.toml:5:8  rule.role: is empty: of nobody; without the key the rule is of everybody"],
    ),
    (
        "\"plant-7\"",
        "\"\", \"a*b\", \"**\"",
        &[
            "acl.toml:6:9  rule.user: \"\" is empty; e.g. \"gate-*\"",
            "acl.toml:6:13  rule.user: \"a*b\" has a * that is not at its end, where it stands for the rest of a name; e.g. \"gate-*\"",
            "acl.toml:6:20  rule.user: \"**\" has a * that is not at its end, where it stands for the rest of a name; e.g. \"gate-*\"",
        ],
    ),
    (
        "anonymous = false",
        "anonymous = true",
        &["acl.toml:6:8  rule.user: whoever is anonymous has no user name; remove it, or `anonymous`"],
    ),
    ("max_qos = 1", "max_qos = 3", &["acl.toml:12:11  rule.max_qos: 3 is not allowed; 0 to 2"]),
    (
        "retain = false",
        "retian = false",
        &["acl.toml:11:1  rule.retian: unknown key; did you mean \"retain\"?"],
    ),
    ("[[rule]]\ndeny", "[[rules]]\ndeny", &["acl.toml:13:3  rules: unknown key; did you mean \"rule\"?"]),
];

#[test]
fn every_problem_is_told_with_its_place() {
    let mut wrong = Vec::new();
    for (from, to, expected) in WRONG {
        assert_eq!(GOOD.matches(from).count(), 1, "{from}");
        let told = shown(&GOOD.replacen(from, to, 1));
        if told != *expected {
            wrong.push((*to, told));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rules_filters_and_names_are_bounded() {
    let rule = |topics: &str, users: &str| {
        format!("[[rule]]\nallow = [\"publish\"]\ntopics = [{topics}]\nuser = [{users}]\n")
    };
    let many = |n: usize| "\"x\",".repeat(n);
    assert!(AccessRules::parse(&rule(&many(64), &many(256)), "acl.toml").is_ok());
    assert_eq!(
        shown(&rule(&many(65), &many(257))),
        [
            "acl.toml:3:267  rule.topics: 65 topic filters; at most 64",
            "acl.toml:4:1033  rule.user: 257 names; at most 256",
        ]
    );
    let rules = |n: usize| "[[rule]]\ndeny = [\"publish\"]\ntopics = [\"a\"]\n".repeat(n);
    assert_eq!(AccessRules::parse(&rules(10_000), "acl.toml").unwrap().len(), 10_000);
    assert_eq!(shown(&rules(10_001)), ["acl.toml:30001:1  rule: 10001 rules; at most 10000"]);
    assert_eq!(shown(&rules(10_000).replace("[\"a\"]", "[\"+a\"]")).len(), 101);
}
