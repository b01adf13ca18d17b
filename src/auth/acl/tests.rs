//! What rules say in their order, that the ways of asking agree, and what rights cost.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::auth::Role;
use crate::topic::matches;

fn principal(role: Role, id: &str, groups: &[&str]) -> Principal {
    Principal {
        user: format!("u-{id}").into(),
        tenant: "main".into(),
        role,
        id: id.into(),
        groups: groups.iter().map(|&group| group.into()).collect(),
        expires_at: None,
    }
}

/// A rule from few words: `allow publish+subscribe a/#, b`.
fn rule(line: u32, text: &str) -> Rule {
    let (effect, rest) = text.split_once(' ').unwrap();
    let (acts, topics) = rest.split_once(' ').unwrap();
    Rule {
        by: By::File { line },
        allow: effect == "allow",
        publish: acts.contains("publish"),
        subscribe: acts.contains("subscribe"),
        topics: topics.split(", ").map(|topic| Pattern::parse(topic).unwrap()).collect(),
        who: Who::default(),
        retain: true,
        max_qos: 2,
        wildcards: true,
    }
}

fn acl(rules: &[&str]) -> Acl {
    Acl::new((1..).zip(rules).map(|(line, text)| rule(line, text)).collect(), true)
}

const fn publish(topic: &str) -> Act<'_> {
    Act::Publish { topic, qos: 1, retain: false }
}

const fn subscribe(filter: &str) -> Act<'_> {
    Act::Subscribe { filter, qos: 1 }
}

/// The same answer by `decide`, `explain` and compiled rights.
pub(super) fn agree(acl: &Acl, subject: &Subject<'_>, act: &Act<'_>) {
    let decision = acl.decide(subject, act);
    let rights = acl.compile(subject);
    let by_rights = match *act {
        Act::Publish { topic, qos, retain } => rights.may_publish(topic, qos, retain),
        Act::Subscribe { filter, .. } => {
            let granted = rights.may_subscribe(filter);
            assert_eq!(granted, decision.allowed.then_some(decision.max_qos), "{subject:?} {act:?}");
            granted.is_some()
        }
        Act::Receive { topic } => rights.may_receive(topic),
    };
    assert_eq!(by_rights, decision.allowed, "{subject:?} {act:?}");
    let explanation = acl.explain(subject, act);
    assert_eq!(explanation.decision, decision);
    if let Some(last) = explanation.tried.last() {
        let decided = last.outcome.decides().then_some((last.by, last.outcome == Outcome::Allowed));
        let by_rule = decision.by != By::NoRule;
        assert_eq!(decided, by_rule.then_some((decision.by, decision.allowed)), "{subject:?} {act:?}");
    }
}

fn by(acl: &Acl, subject: &Subject<'_>, act: &Act<'_>) -> (bool, By) {
    agree(acl, subject, act);
    let decision = acl.decide(subject, act);
    (decision.allowed, decision.by)
}

#[test]
fn where_nothing_is_configured_all_is_allowed() {
    let customer = principal(Role::Customer, "42", &[]);
    for principal in [None, Some(&customer)] {
        let subject = Subject { client_id: "c", principal };
        let acl = Acl::open();
        assert!(acl.is_open());
        for act in [publish("a"), subscribe("#"), subscribe("$SYS/#"), Act::Receive { topic: "x" }] {
            assert!(by(&acl, &subject, &act).0, "{act:?}");
        }
        assert!(!by(&acl, &subject, &publish("$SYS/x")).0);
        assert_eq!(acl.compile(&subject).heap_bytes(), 0);
    }
    assert_eq!(size_of::<Rights>(), 8);
}

#[test]
fn without_logins_a_file_takes_away_and_the_rest_stays_open() {
    let acl = Acl::new([rule(1, "deny publish+subscribe secret/#")].into(), false);
    assert!(!acl.is_open());
    let subject = Subject { client_id: "c", principal: None };
    assert_eq!(by(&acl, &subject, &publish("a")), (true, By::Default("open: no logins")));
    assert_eq!(by(&acl, &subject, &publish("secret/a")), (false, By::File { line: 1 }));
    assert_eq!(by(&acl, &subject, &subscribe("#")), (false, By::File { line: 1 }));
    assert!(by(&acl, &subject, &subscribe("a/#")).0);
    assert!(by(&acl, &subject, &subscribe("$SYS/#")).0);
}

#[test]
fn the_first_rule_that_speaks_decides() {
    let acl = acl(&[
        "deny publish a/secret",
        "allow publish a/+",
        "deny publish a/late",
        "deny subscribe a/b/#",
        "allow subscribe a/#, b/+",
        "allow subscribe $share/g/c/#",
        "deny subscribe $share/+/#",
        "allow subscribe c/#",
    ]);
    let subject = Subject { client_id: "c", principal: None };
    for (act, allowed, line) in [
        (publish("a/secret"), false, 1),
        (publish("a/x"), true, 2),
        (publish("a/late"), true, 2),
        (subscribe("a/b"), false, 4),
        (subscribe("a/b/c/+"), false, 4),
        (subscribe("a/#"), false, 4),
        (subscribe("#"), false, 4),
        (subscribe("+/b"), false, 4),
        (subscribe("a/c"), true, 5),
        (subscribe("a"), true, 5),
        (subscribe("b/+"), true, 5),
        (subscribe("$share/x/a/c"), true, 5),
        (subscribe("$share/x/a/b"), false, 4),
        (subscribe("$share/g/c/1"), true, 6),
        (subscribe("$share/h/c/1"), false, 7),
        (subscribe("c/1"), true, 8),
        (Act::Receive { topic: "a/b/c" }, false, 4),
        (Act::Receive { topic: "a/c" }, true, 5),
        (Act::Receive { topic: "c/1" }, true, 6),
    ] {
        assert_eq!(by(&acl, &subject, &act), (allowed, By::File { line }), "{act:?}");
    }
    for act in [publish("b/x"), subscribe("b/#"), subscribe("d"), subscribe("+/c")] {
        let refused = by(&acl, &subject, &act);
        assert!(!refused.0, "{act:?}");
    }
    assert_eq!(by(&acl, &subject, &subscribe("b/#")), (false, By::NoRule));
}

#[test]
fn limits_are_part_of_the_answer() {
    let limited =
        Rule { retain: false, max_qos: 1, wildcards: false, ..rule(3, "allow publish+subscribe a/#") };
    let acl = Acl::new([limited, rule(9, "allow publish+subscribe a/b")].into(), true);
    let subject = Subject { client_id: "c", principal: None };
    for (qos, retain, allowed) in [(0, false, true), (1, false, true), (2, false, false), (0, true, false)] {
        let act = Act::Publish { topic: "a/b", qos, retain };
        assert_eq!(by(&acl, &subject, &act), (allowed, By::File { line: 3 }), "{act:?}");
    }
    let granted = acl.decide(&subject, &Act::Subscribe { filter: "a/b", qos: 2 });
    assert_eq!((granted.allowed, granted.max_qos), (true, 1));
    assert_eq!(by(&acl, &subject, &subscribe("a/+")), (false, By::NoRule));
    let outcome = |act| acl.explain(&subject, &act).tried.first().unwrap().outcome;
    assert_eq!(outcome(subscribe("a/+")), Outcome::NoWildcards);
    assert_eq!(outcome(Act::Publish { topic: "a", qos: 2, retain: false }), Outcome::QosAbove(1));
    assert_eq!(outcome(Act::Publish { topic: "a", qos: 1, retain: true }), Outcome::NotRetained);
}

#[test]
fn a_rule_speaks_of_whom_all_its_keys_hold() {
    let names = |names: &[&str]| names.iter().map(|name| Name::parse(name).unwrap()).collect();
    let who = Who {
        roles: [Role::Agent, Role::Bot].into(),
        users: names(&["u-7", "x-*"]),
        clients: names(&["console-*"]),
        tenants: names(&["main"]),
        groups: names(&["care"]),
        anonymous: Some(false),
    };
    let acl = Acl::new([Rule { who, ..rule(1, "allow publish x") }].into(), true);
    let agent = principal(Role::Agent, "7", &["sales", "care"]);
    let asked = |client_id, principal: Option<&Principal>| {
        let subject = Subject { client_id, principal };
        agree(&acl, &subject, &publish("x"));
        acl.explain(&subject, &publish("x")).tried.first().unwrap().outcome
    };
    assert_eq!(asked("console-1", Some(&agent)), Outcome::Allowed);
    for (client, changed, key) in [
        ("phone", agent.clone(), "client"),
        ("console-1", Principal { role: Role::Customer, ..agent.clone() }, "role"),
        ("console-1", Principal { user: "u-8".into(), ..agent.clone() }, "user"),
        ("console-1", Principal { user: "".into(), ..agent.clone() }, "anonymous"),
        ("console-1", Principal { tenant: "main2".into(), ..agent.clone() }, "tenant"),
        ("console-1", Principal { groups: ["sales".into()].into(), ..agent.clone() }, "group"),
        ("console-1", Principal { groups: [].into(), ..agent.clone() }, "group"),
    ] {
        assert_eq!(asked(client, Some(&changed)), Outcome::OtherClient(key));
    }
    assert_eq!(asked("console-1", None), Outcome::OtherClient("anonymous"));
    let everyone = Name::parse("*").unwrap();
    let named = Who { users: [everyone].into(), ..Who::default() };
    assert!(named.is(&Subject { client_id: "", principal: Some(&agent) }));
    assert!(!named.is(&Subject { client_id: "", principal: None }));
    assert_eq!(Name::parse(""), Err(NameError::Empty));
    assert_eq!(Name::parse("a*b"), Err(NameError::Star));
}

#[test]
fn no_value_makes_a_filter_wider() {
    let acl = acl(&["allow publish+subscribe %c/#, x/%u-%c/y, $share/%c/z/#, %%/%c, w/%t/%i/%g"]);
    let asked = |client_id: &str, act: &Act<'_>| {
        let subject = Subject { client_id, principal: None };
        agree(&acl, &subject, act);
        acl.decide(&subject, act).allowed
    };
    assert!(asked("a", &subscribe("a/#")) && asked("a", &publish("a/b")) && asked("a", &publish("%/a")));
    assert!(asked("a", &subscribe("$share/a/z/1")) && !asked("a", &subscribe("$share/b/z/1")));
    assert!(!asked("a", &subscribe("z/1")), "a share's filter is no plain one");
    assert!(!asked("a", &publish("x/-a/y")), "there is no user");
    assert!(!asked("a", &publish("ab/c")) && !asked("a", &subscribe("ab/#")));
    for value in ["+", "#", "a/b", "a+", "#a", "/", "", "\0", "a/#"] {
        for filter in ["#", "+/#", "a/#", "a/b/#", "/#", "+", "$share/+/z/#", "$share/a/z/1", "%/+"] {
            assert!(!asked(value, &subscribe(filter)), "{value:?} {filter}");
        }
        for topic in ["a", "a/b", "a/b/c", "/", "//", "%/", "%/a/b"] {
            assert!(!asked(value, &publish(topic)), "{value:?} {topic}");
        }
    }
    for value in ["$SYS", "$share", "$"] {
        assert!(!asked(value, &subscribe(&format!("{value}/a/#"))), "{value}");
        assert!(!asked(value, &Act::Receive { topic: &format!("{value}/a") }), "{value}");
    }
    let agent = principal(Role::Device, "7", &["+", "one", "a/b", "two"]);
    let subject = Subject { client_id: "", principal: Some(&agent) };
    for (topic, allowed) in
        [("w/main/7/one", true), ("w/main/7/two", true), ("w/main/7/+", false), ("w/main/7/onetwo", false)]
    {
        assert_eq!(by(&acl, &subject, &subscribe(topic)).0, allowed, "{topic}");
    }
}

#[test]
fn patterns_that_are_none() {
    for (text, error) in [
        ("", "the topic filter is empty"),
        ("a/#/b", "# must be alone in the last level of a topic filter"),
        ("a+/b", "+ must be alone in its level of a topic filter"),
        ("x/%z", "%z stands for nothing; %c, %u, %t, %i, %g, or %% for a percent sign"),
        ("x/%", "% stands alone; %% is a percent sign"),
        ("$%c/x", "a first level that begins with $ has no placeholder"),
        ("$share/g", "a shared subscription is $share/NAME/FILTER, and NAME has no wildcard"),
        ("$share/+/$share/g/x", "a shared subscription is $share/NAME/FILTER, and NAME has no wildcard"),
        ("$share/#/x", "a shared subscription is $share/NAME/FILTER, and NAME has no wildcard"),
        ("a\0", "the topic filter contains U+0000"),
    ] {
        assert_eq!(Pattern::parse(text).unwrap_err().to_string(), error, "{text:?}");
    }
    for text in ["#", "+/%c", "$SYS/%c/#", "$share/+/x/%g", "$share/%g/x", "100%%/#", "a%cb/+", "/#", "%c"] {
        assert_eq!(Pattern::parse(text).unwrap().text(), text);
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 2 => Just("b"), 1 => Just(""), 1 => Just("%c"), 1 => Just("$SYS")]
}

fn filter() -> impl Strategy<Value = String> {
    let share = prop_oneof![3 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/h/")];
    let level = prop_oneof![4 => level(), 3 => Just("+")];
    (share, prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(share, mut levels, multi)| {
        if multi {
            levels.push("#");
        }
        format!("{share}{}", levels.join("/"))
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = (any::<bool>(), 1..4_u8, prop::collection::vec(filter(), 1..3));
    prop::collection::vec(one, 0..5).prop_map(|all| {
        let usable = |topics: &[String]| topics.iter().filter_map(|t| Pattern::parse(t).ok()).collect();
        let made = |(line, (allow, acts, topics)): (u32, (bool, u8, Vec<String>))| Rule {
            allow,
            publish: acts & 1 != 0,
            subscribe: acts & 2 != 0,
            topics: usable(&topics),
            ..rule(line, "allow publish x")
        };
        (1..).zip(all).map(made).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_a_subscription_matches_may_be_received(
        rules in rules(), wanted in filter(), client in "[ab+$]{0,2}",
        names in prop::collection::vec(prop::collection::vec(level(), 1..5), 20),
    ) {
        let acl = Acl::new(rules.into(), true);
        let subject = Subject { client_id: &client, principal: None };
        agree(&acl, &subject, &subscribe(&wanted));
        let allowed = acl.decide(&subject, &subscribe(&wanted)).allowed;
        let Ok(parsed) = parse_filter(&wanted, &ANY_SIZE) else { return Ok(()) };
        for name in names.iter().map(|levels| levels.join("/")).filter(|name| !name.is_empty()) {
            agree(&acl, &subject, &publish(&name));
            agree(&acl, &subject, &Act::Receive { topic: &name });
            if allowed && matches(parsed.filter, &name) {
                let received = acl.decide(&subject, &Act::Receive { topic: &name });
                prop_assert!(received.allowed, "{wanted} {name} {:?}", received.by);
            }
        }
    }

    #[test]
    fn a_pattern_matches_as_its_text_does(text in filter(), name in prop::collection::vec(level(), 1..5)) {
        let Ok(pattern) = Pattern::parse(&text) else { return Ok(()) };
        let subject = Subject { client_id: "a", principal: None };
        let text = text.replace("%c", "a");
        let name = name.join("/");
        if let (Ok(parsed), false) = (parse_filter(&text, &ANY_SIZE), name.is_empty()) {
            let found = pattern.matches(&Values::new(&subject, values::ALL), &name);
            prop_assert_eq!(found, matches(parsed.filter, &name), "{} {}", parsed.filter, name);
        }
    }
}

#[test]
fn the_rights_of_a_customer_are_small() {
    let acl = Acl::new(Arc::default(), true);
    let id = "c0ffee00-1234-4567-89ab-0123456789ab";
    let customer = principal(Role::Customer, id, &[]);
    let rights = acl.compile(&Subject { client_id: id, principal: Some(&customer) });
    println!("a customer with ids of 36 bytes: {} bytes", rights.heap_bytes());
    let short = principal(Role::Customer, "4711", &[]);
    let short = acl.compile(&Subject { client_id: "phone-4711", principal: Some(&short) });
    println!("one with ids of 4 to 10 bytes: {} bytes", short.heap_bytes());
    assert!(short.heap_bytes() < 150 && rights.heap_bytes() < 200);
    assert_eq!(rights.clone().heap_bytes(), rights.heap_bytes());
}

/// `cargo test --release --lib what_a_question_costs -- --ignored --nocapture`
#[test]
#[ignore = "measures: for a release build on a quiet machine"]
fn what_a_question_costs() {
    let acl = Acl::new(Arc::default(), true);
    let customer = principal(Role::Customer, "4711", &[]);
    let agent = principal(Role::Agent, "7", &["care", "billing", "sales"]);
    let customer = Subject { client_id: "phone-4711", principal: Some(&customer) };
    let agent = Subject { client_id: "console-7", principal: Some(&agent) };
    let many: Arc<[Rule]> = (1..=10_000)
        .map(|line| {
            let users = [Name::parse(&format!("user-{line}")).unwrap()].into();
            Rule { who: Who { users, ..Who::default() }, ..rule(line, "allow publish x/%u/#") }
        })
        .collect();
    let crowded = Acl::new(many, true);
    let time = |what: &str, times: u32, ask: &dyn Fn() -> bool| {
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                (0..times).for_each(|_| {
                    black_box(ask());
                });
                start.elapsed() / times
            })
            .min();
        println!("{what}: {:?}", best.unwrap_or(Duration::MAX));
    };
    let (c, a) = (acl.compile(&customer), acl.compile(&agent));
    time("customer, up", 1_000_000, &|| c.may_publish(black_box("cs/1/main/customer/4711/up"), 1, false));
    time("customer, signal", 1_000_000, &|| {
        c.may_publish(black_box("cs/1/main/customer/4711/signal"), 0, false)
    });
    time("customer, refused", 1_000_000, &|| {
        c.may_publish(black_box("cs/1/main/customer/4712/up"), 0, false)
    });
    let reply = "cs/1/main/conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply";
    time("agent, reply", 1_000_000, &|| a.may_publish(black_box(reply), 1, false));
    time("agent, refused", 1_000_000, &|| a.may_publish(black_box("weather/berlin"), 1, false));
    let queue = "$share/sales/cs/1/main/queue/sales/messages/+";
    time("agent, subscribes to a queue", 100_000, &|| a.may_subscribe(black_box(queue)).is_some());
    time("compile, customer", 100_000, &|| acl.compile(black_box(&customer)).may_receive("$"));
    time("compile among 10,000 rules", 100, &|| crowded.compile(black_box(&customer)).may_receive("$"));
}
