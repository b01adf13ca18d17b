//! Groups in assigned mode, hours and channels: what whole files come to, and what an operator sees of wrong ones.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::raw::*;
use super::tests::{GOOD, SHIPPED, shown};
use super::*;
use crate::config::tests::keys;
use crate::desk::{Assigned, Change, Day, Hours, ModelSource, Order, Span, Step, Turned, Weights};

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

/// The shipped file with the groups and channels in it that are comments.
fn uncommented() -> String {
    let mut within = false;
    let lines = SHIPPED.lines().map(|line| {
        within = line.starts_with("# [[tenant.") || (within && line.starts_with('#'));
        let bare = line.strip_prefix("# ").unwrap_or(if line == "#" { "" } else { line });
        if within { bare } else { line }
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn the_comments_of_the_shipped_file_are_right_and_show_the_defaults() {
    let text = uncommented();
    let routing = Routing::parse(&text, "r.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let tenant = routing.tenant("main").unwrap();
    let set = |name: &str| tenant.group(name).unwrap().assigned.as_deref().unwrap().clone();
    let (care, night) = (set("care"), set("night"));
    let step = |after_ms, change| Step { after_ms, change };
    let steps = vec![
        step(30_000, Change::DropSkill(shared("french"))),
        step(60_000, Change::Raise(10)),
        step(120_000, Change::AddGroup(shared("night"))),
        step(600_000, Change::MoveTo(shared("night"))),
    ];
    assert_eq!(care.hours.as_deref().map(|hours| (hours.closed_on.len(), hours.open_on.len())), Some((2, 1)));
    let expected = Assigned {
        full: Turned::Told(shared("All our agents are busy. Please try again later.")),
        closed: Turned::To(shared("night")),
        expired: Turned::Told(shared("Sorry, nobody was free.")),
        steps,
        hours: care.hours.clone(),
        ..Assigned::default()
    };
    assert_eq!(format!("{care:?}"), format!("{expected:?}"));
    assert_eq!(format!("{night:?}"), format!("{:?}", Assigned::default()));
    assert_eq!(tenant.channel_weight("voice"), tenant.channel_weight("no such channel"));
}

/// Whether `key = …` stands below `header` in the shipped file, itself a comment or not.
fn documents(header: &str, key: &str) -> bool {
    let lines = SHIPPED.lines().map(|line| line.trim_start_matches("# "));
    let mut here = false;
    lines.into_iter().any(|line| {
        if line.starts_with('[') {
            here = line == header;
        }
        here && line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "))
    })
}

#[test]
fn the_shipped_file_has_every_key_in_its_table() {
    let tables = [
        ("[[tenant]]", keys::<RawTenant>()),
        ("[[tenant.group]]", keys::<RawGroup>()),
        ("[tenant.group.assigned]", keys::<RawAssigned>()),
        ("[tenant.group.order]", keys::<RawOrder>()),
        ("[tenant.group.weights]", keys::<RawWeights>()),
        ("[tenant.group.model]", keys::<RawModel>()),
        ("[[tenant.group.step]]", keys::<RawStep>()),
        ("[tenant.group.hours]", keys::<RawHours>()),
        ("[tenant.holidays]", keys::<RawHolidays>()),
        ("[tenant.transcript]", keys::<RawTranscript>()),
        ("[[tenant.channel]]", keys::<RawChannel>()),
        ("[tenant.context]", keys::<RawContext>()),
        ("[[tenant.context.field]]", keys::<RawField>()),
        ("[[tenant.rule]]", keys::<RawRule>()),
    ];
    for (header, keys) in &tables {
        assert!(!keys.is_empty(), "{header}");
        let below = header.trim_matches(['[', ']']);
        for key in keys {
            let table = format!("{below}.{key}");
            let is_table = tables.iter().any(|(header, _)| header.trim_matches(['[', ']']) == table);
            assert!(is_table || documents(header, key), "{header} {key}");
        }
    }
}

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

/// What is put in place of what in [`ASSIGNED`], and all that is then shown.
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
        &["r.toml:34:12  tenant.group.model.features: 0 features; 1 to 64"],
    ),
    (
        "features = [\"message.size\", \"agent.idle_s\"]\n",
        "",
        &["r.toml:32:1  tenant.group.model.features: missing; e.g. [\"message.size\"]"],
    ),
    (
        "\"agent.idle_s\"",
        "\"customer.\", 4",
        &[
            "r.toml:34:29  tenant.group.model.features: the field is not named; e.g. `customer.age`",
            "r.toml:34:42  tenant.group.model.features: invalid type: integer `4`; expected a string",
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

/// A group with hours, to be spoilt.
const HOURS: &str = r#"
[[tenant]]
name = "main"
time_zone = "Europe/Berlin"
[tenant.holidays]
closed_on = ["12-25", "2026-12-27"]
[[tenant.channel]]
name = "voice"
weight = 5
[[tenant.channel]]
name = "chat"
[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
closed_text = "We are closed."
[tenant.group.hours]
monday = "8:00-12:00, 13:00-18:00"
friday = "22:00-06:00"
saturday = "18:00 - 24:00,00:00-01:00"
sunday = "24h"
closed_on = ["2026-12-24", "02-29"]
open_on = { "2026-12-27" = "10:00-14:00", "01-02" = "09:00-00:00" }
[[tenant.group]]
name = "always"
mode = "assigned"
[[tenant.rule]]
name = "rest"
group = "care"
"#;

#[test]
fn hours_holidays_and_channels_give_what_they_say() {
    let routing = Routing::parse(HOURS, "r.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let tenant = routing.tenant("main").unwrap();
    let care = tenant.group("care").unwrap().assigned.as_deref().unwrap();
    assert_eq!(care.closed, Turned::Told(shared("We are closed.")));
    let opening = |from_min, to_min| Span { from_min, to_min };
    let week = [
        vec![opening(480, 720), opening(780, 1080)],
        vec![],
        vec![],
        vec![],
        vec![opening(1320, 1800)],
        vec![opening(1080, 1440), opening(0, 60)],
        vec![opening(0, 1440)],
    ];
    let once = |text: &str| Day::Once(text.parse().unwrap());
    let yearly = |month, day| Day::Yearly { month, day };
    let closed_on = [once("2026-12-24"), once("2026-12-27"), yearly(2, 29), yearly(12, 25)].into();
    let open_on =
        [(once("2026-12-27"), vec![opening(600, 840)]), (yearly(1, 2), vec![opening(540, 1440)])].into();
    assert_eq!(care.hours.as_deref(), Some(&Hours { week, closed_on, open_on }));
    assert!(tenant.group("always").unwrap().assigned.as_deref().unwrap().hours.is_none());
    // Sunday 27 December 2026, 11:00 in Berlin: the group's own day goes before the tenant's holiday.
    assert!(care.hours.as_deref().unwrap().is_open(tenant.time_zone(), 1_798_365_600_000));
    assert_eq!(["voice", "chat", "mail"].map(|channel| tenant.channel_weight(channel)), [5, 1, 1]);
}

/// As [`WRONG_ASSIGNED`], of [`HOURS`].
const WRONG_HOURS: &[(&str, &str, &[&str])] = &[
    ("monday", "mondya", &["r.toml:18:1  tenant.group.hours.mondya: unknown key; did you mean \"monday\"?"]),
    (
        "8:00-12:00",
        "8-12",
        &[
            "r.toml:18:11  tenant.group.hours.monday: \"8-12\" is no time of a day; such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"",
        ],
    ),
    (
        "13:00-18:00",
        "13:60-18:00",
        &[
            "r.toml:18:23  tenant.group.hours.monday: \"13:60-18:00\" is no time of a day; such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"",
        ],
    ),
    (
        "13:00-18:00",
        "13:00-24:01",
        &[
            "r.toml:18:23  tenant.group.hours.monday: \"13:00-24:01\" is no time of a day; such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"",
        ],
    ),
    (
        "13:00-18:00",
        "11:59-18:00",
        &[
            "r.toml:18:23  tenant.group.hours.monday: \"11:59-18:00\" overlaps \"8:00-12:00\"; one after the other",
        ],
    ),
    (
        "13:00-18:00",
        "13:00-13:00, ",
        &[
            "r.toml:18:23  tenant.group.hours.monday: \"13:00-13:00\" has no length; a whole day is \"24h\"",
            "r.toml:18:36  tenant.group.hours.monday: \"\" is no time of a day; such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"",
        ],
    ),
    (
        "\"22:00-06:00\"",
        "\"\"",
        &[
            "r.toml:19:11  tenant.group.hours.friday: \"\" is no time of a day; such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"",
        ],
    ),
    (
        "\"22:00-06:00\"",
        "'24:00-06:00'",
        &[
            "r.toml:19:11  tenant.group.hours.friday: \"24:00-06:00\" begins when the day is over; 00:00 of the next day",
        ],
    ),
    (
        "\"22:00-06:00\"",
        "\"24h, 22:00-06:00\"",
        &["r.toml:19:16  tenant.group.hours.friday: \"22:00-06:00\" overlaps \"24h\"; one after the other"],
    ),
    (
        "\"22:00-06:00\"",
        "22",
        &["r.toml:19:10  tenant.group.hours.friday: invalid type: integer `22`; expected a string"],
    ),
    (
        "\"02-29\"",
        "\"02-30\", \"2026-02-29\", \"2026-12-24\", \"1-1\", \"24.12.\"",
        &[
            "r.toml:22:28  tenant.group.hours.closed_on: \"02-30\" is no day; a day such as \"2026-12-24\", or \"12-25\" for every year",
            "r.toml:22:37  tenant.group.hours.closed_on: \"2026-02-29\" is no day; a day such as \"2026-12-24\", or \"12-25\" for every year",
            "r.toml:22:51  tenant.group.hours.closed_on: \"2026-12-24\" is there twice; once",
            "r.toml:22:65  tenant.group.hours.closed_on: \"1-1\" is no day; a day such as \"2026-12-24\", or \"12-25\" for every year",
            "r.toml:22:72  tenant.group.hours.closed_on: \"24.12.\" is no day; a day such as \"2026-12-24\", or \"12-25\" for every year",
        ],
    ),
    (
        "\"02-29\"",
        "2026-02-28",
        &["r.toml:22:28  tenant.group.hours.closed_on: invalid type: map; expected a string"],
    ),
    (
        "\"12-25\", ",
        "\"12-32\", ",
        &[
            "r.toml:6:14  tenant.holidays.closed_on: \"12-32\" is no day; a day such as \"2026-12-24\", or \"12-25\" for every year",
        ],
    ),
    (
        "\"01-02\" = \"09:00-00:00\"",
        "\"01-02\" = \"9\", \"2026-12-24\" = \"24h\", \"x\" = \"24h\"",
        &[
            "r.toml:23:54  tenant.group.hours.open_on: \"9\" is no time of a day; such as \"08:00-12:00, 13:00-18:00\", \"22:00-06:00\" or \"24h\"",
            "r.toml:23:58  tenant.group.hours.open_on: \"2026-12-24\" is in closed_on as well; in one of them",
            "r.toml:23:80  tenant.group.hours.open_on: \"x\" is no day; a day such as \"2026-12-24\", or \"12-25\" for every year",
        ],
    ),
    (
        "[tenant.group.hours]",
        "[tenant.group.hour]",
        &["r.toml:17:15  tenant.group.hour: unknown key; did you mean \"hours\"?"],
    ),
    (
        "mode = \"assigned\"\n[tenant.group.assigned]\nclosed_text = \"We are closed.\"\n",
        "",
        &[
            "r.toml:14:1  tenant.group.hours: a group in shared mode has none; remove it, or mode = \"assigned\"",
        ],
    ),
    (
        "[[tenant.group]]\nname = \"always\"\nmode = \"assigned\"\n",
        "[[tenant.group]]\nname = \"always\"\nmode = \"assigned\"\n[tenant.group.hours]\nclosed_on = [\"12-25\"]\n",
        &["r.toml:27:1  tenant.group.hours: never open; at least one day, such as monday = \"08:00-18:00\""],
    ),
    (
        "closed_text = \"We are closed.\"",
        "closed_group = \"alway\"",
        &[
            "r.toml:16:16  tenant.group.assigned.closed_group: there is no group \"alway\"; did you mean \"always\"?",
        ],
    ),
    ("weight = 5", "weight = 0", &["r.toml:9:10  tenant.channel.weight: 0 is not allowed; 1 to 1000"]),
    (
        "name = \"chat\"",
        "name = \"voice\"\nweigth = 2",
        &[
            "r.toml:11:8  tenant.channel.name: \"voice\" is there twice; the first is in line 8",
            "r.toml:12:1  tenant.channel.weigth: unknown key; did you mean \"weight\"?",
        ],
    ),
    (
        "[tenant.holidays]\nclosed_on =",
        "[tenant.holidays]\nclosed =",
        &["r.toml:6:1  tenant.holidays.closed: unknown key; did you mean \"closed_on\"?"],
    ),
];

#[test]
fn transcripts_are_kept_as_long_as_the_file_says() {
    const DAY: u64 = 24 * 3_600_000;
    let with = |table: &str| {
        let tenant = "[[tenant]]\nname = \"main\"\n";
        let rest = "[[tenant.group]]\nname = \"g\"\n[[tenant.rule]]\nname = \"r\"\ngroup = \"g\"\n";
        format!("{tenant}{table}{rest}")
    };
    for (keep, expected) in [
        ("", Some(7 * DAY)),
        ("[tenant.transcript]\nkeep = \"30d\"\n", Some(30 * DAY)),
        ("[tenant.transcript]\nkeep = \"0s\"\n", None),
    ] {
        let routing = Routing::parse(&with(keep), "r.toml").unwrap();
        assert_eq!(routing.tenant("main").unwrap().transcript_keep_ms(), expected, "{keep}");
    }
    let wrong = shown(&with("[tenant.transcript]\nkeep = \"4000d\"\n"));
    assert!(wrong[0].starts_with("r.toml:4:8  tenant.transcript.keep: "), "{wrong:?}");
}

#[test]
fn wrong_hours_are_told_line_by_line() {
    for (from, to, expected) in WRONG_HOURS {
        assert_eq!(HOURS.matches(from).count(), 1, "{from}");
        assert_eq!(shown(&HOURS.replacen(from, to, 1)), *expected, "{to}");
    }
}

#[test]
fn what_a_group_in_assigned_mode_has_is_bounded() {
    let steps = |count: usize| {
        let step = |n: usize| format!("[[tenant.group.step]]\nafter = \"{n}s\"\nraise_priority = {n}\n");
        let many: String = (1..=count).map(step).collect();
        let always = "name = \"always\"\nmode = \"assigned\"\n";
        HOURS.replacen(always, &format!("{always}{many}"), 1)
    };
    assert!(Routing::parse(&steps(16), "r.toml").is_ok());
    assert_eq!(shown(&steps(17)), ["r.toml:75:1  tenant.group.step: 17 steps in a group; at most 16"]);
    let many = |item: &str, count: usize| vec![item; count].join(", ");
    let openings = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("{n:02}:00-{n:02}:30")).collect();
        HOURS.replacen("\"22:00-06:00\"", &format!("{:?}", all.join(", ")), 1)
    };
    assert!(Routing::parse(&openings(16), "r.toml").is_ok());
    assert_eq!(
        shown(&openings(20)),
        ["r.toml:19:219  tenant.group.hours.friday: more than 16 openings; fewer"]
    );
    let text = HOURS.replacen("\"2026-12-24\", \"02-29\"", &many("\"12-24\"", 1001), 1);
    assert_eq!(shown(&text).len(), 101);
    let channel = |n: usize| format!("[[tenant.channel]]\nname = \"{n}\"\n");
    let channels: String = (0..63).map(channel).collect();
    let text = HOURS.replacen("[[tenant.channel]]\n", &format!("{channels}[[tenant.channel]]\n"), 1);
    assert_eq!(shown(&text), ["r.toml:136:1  tenant.channel: 65 channels in a tenant; at most 64"]);
}

/// Groups in assigned mode by name, with those they lead to when they are full.
fn chain(groups: &[(&str, &str)]) -> String {
    let group = |(name, to): &(&str, &str)| {
        let full = if to.is_empty() { String::new() } else { format!("full_group = \"{to}\"\n") };
        format!("[[tenant.group]]\nname = \"{name}\"\nmode = \"assigned\"\n[tenant.group.assigned]\n{full}")
    };
    let all: String = groups.iter().map(group).collect();
    format!("[[tenant]]\nname = \"main\"\n{all}[[tenant.rule]]\nname = \"rest\"\ngroup = \"a\"\n")
}

#[test]
fn circles_are_told_once_each_with_all_groups_in_them() {
    assert!(Routing::parse(&chain(&[("a", "b"), ("b", "c"), ("c", ""), ("d", "b")]), "r.toml").is_ok());
    assert_eq!(
        shown(&chain(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "e"), ("e", "d"), ("f", "a")])),
        [
            "r.toml:17:14  tenant.group.assigned.full_group: leads in a circle: b → c → b; a group from which no way leads to \"b\"",
            "r.toml:27:14  tenant.group.assigned.full_group: leads in a circle: d → e → d; a group from which no way leads to \"d\"",
        ]
    );
    let names: Vec<String> =
        (0..256).map(|n| if n == 0 { "a".to_owned() } else { format!("g{n}") }).collect();
    let next = |n: usize| names.get(n + 1).map_or("a", String::as_str);
    let round: Vec<(&str, &str)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), next(n))).collect();
    assert_eq!(
        shown(&chain(&round)),
        [
            "r.toml:1282:14  tenant.group.assigned.full_group: leads in a circle: a → g1 → g2 → g3 → g4 → g5 → g6 → g7 → … → a; a group from which no way leads to \"a\"",
        ]
    );
}

/// Of rules for groups in shared mode they make no circle: a message falls back once.
#[test]
fn fallbacks_count_as_ways() {
    let rules = |one: &str, two: &str| {
        let more = "[[tenant.rule]]\nname = \"x\"\nwhen = \"now.hour < 6\"\ngroup = \"b\"\nfallback = \"a\"\n\
             [[tenant.rule]]\nname = \"rest\"\ngroup = \"a\"\nfallback = \"b\"\n";
        let text = chain(&[("a", one), ("b", two)]);
        let (groups, _) = text.split_once("[[tenant.rule]]").unwrap();
        format!("{groups}{more}")
    };
    assert_eq!(
        shown(&rules("", "")),
        [
            "r.toml:15:12  tenant.rule.fallback: leads in a circle: a → b → a; a group from which no way leads to \"a\"",
        ]
    );
    let plain = rules("", "").replace("mode = \"assigned\"\n[tenant.group.assigned]\n", "");
    assert!(Routing::parse(&plain, "r.toml").is_ok());
}
