//! `conf/routing.toml`: from text to [`Routing`], or to all that is wrong with it.
//!
//! The text is read into flat structures whose every key may be missing; one pass then resolves them. What is
//! wrong is collected, never the end of the run, so an operator sees everything at once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use cel::Env;
use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;

use super::condition::{self, Condition};
use super::routing::{Group, Routing, Rule, Strategy, Tenant};
use super::topics::check_id;
use crate::config::problem::{Problem, Source, closest, suggest};

/// How many messages a group's backlog holds if the file does not say.
pub(super) const BACKLOG_MESSAGES: u32 = 10_000;
/// How many bytes a group's backlog holds if the file does not say.
pub(super) const BACKLOG_BYTES: u64 = 64 << 20;
/// The default key level, and the last level of a queue topic: the customer.
const CUSTOMER_LEVEL: u8 = 7;
const MAX_PRIORITY: u16 = 1000;
/// Each rule may be evaluated for each message.
const MAX_RULES: usize = 256;
const MAX_SKILLS: usize = 32;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    tenant: Vec<Spanned<RawTenant>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTenant {
    name: Option<Spanned<String>>,
    time_zone: Option<Spanned<String>>,
    group: Vec<Spanned<RawGroup>>,
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGroup {
    name: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
    strategy: Option<Spanned<String>>,
    key_level: Option<Spanned<i64>>,
    backlog_messages: Option<Spanned<i64>>,
    backlog_bytes: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRule {
    name: Option<Spanned<String>>,
    when: Option<Spanned<String>>,
    group: Option<Spanned<String>>,
    priority: Option<Spanned<i64>>,
    skills: Option<Spanned<Vec<Spanned<String>>>>,
    fallback: Option<Spanned<String>>,
}

impl Routing {
    /// Reads a routing file and compiles its conditions. `file` is the name that problems are shown with.
    ///
    /// # Errors
    /// All that is wrong, in the order of the file.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        let source = Source::new(file, text);
        let (raw, problems) = source.read::<RawFile>();
        let unread = problems.iter().map(|problem| (problem.line, problem.key.clone())).collect();
        let mut resolve = Resolve { source, problems, unread, env: condition::environment() };
        let tenants = raw.map(|raw| resolve.tenants(&raw)).unwrap_or_default();
        let mut problems = resolve.problems;
        if problems.is_empty() {
            return Ok(Self { tenants });
        }
        problems.sort();
        problems.dedup();
        Err(problems)
    }
}

struct Resolve<'t> {
    source: Source<'t>,
    problems: Vec<Problem>,
    /// Lines and keys that could not be read: they are not missing as well.
    unread: Vec<(u32, String)>,
    env: Arc<Env>,
}

impl Resolve<'_> {
    fn problem(
        &mut self,
        span: &Range<usize>,
        key: &str,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        self.problems.push(self.source.problem(span, key, wrong, right));
    }

    /// A key that must be there. `table` is where its table starts, `end` where the next one does.
    fn missing(&mut self, table: &Range<usize>, key: &str, right: &str) {
        let line = self.source.position(table.start).line;
        // A table's keys follow its header: the next line that starts with a bracket ends it.
        let rest = self.source.text().get(table.start..).unwrap_or_default();
        let lines = rest.lines().skip(1).take_while(|line| !line.trim_start().starts_with("[[")).count();
        let last = line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        if !self.unread.iter().any(|(at, unread)| unread == key && (line..=last).contains(at)) {
            self.problem(table, key, "missing", right);
        }
    }

    fn tenants(&mut self, raw: &RawFile) -> AHashMap<Arc<str>, Tenant> {
        if raw.tenant.is_empty() {
            self.missing(&(0..0), "tenant", "at least one [[tenant]]");
        }
        let mut tenants = AHashMap::new();
        let mut names = HashMap::new();
        for raw in &raw.tenant {
            if let Some(tenant) = self.tenant(raw, &mut names) {
                tenants.insert(Arc::clone(&tenant.name), tenant);
            }
        }
        tenants
    }

    /// `None` only with a problem told.
    fn tenant(&mut self, raw: &Spanned<RawTenant>, names: &mut HashMap<String, u32>) -> Option<Tenant> {
        let (span, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&span, raw.name.as_ref(), "tenant.name", "e.g. \"main\"", names);
        let zone = self.zone(raw.time_zone.as_ref());
        let mut group_names = HashMap::new();
        let mut groups: Vec<Arc<Group>> =
            raw.group.iter().filter_map(|group| self.group(group, &mut group_names)).map(Arc::new).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        if raw.group.is_empty() {
            self.missing(&span, "tenant.group", "at least one [[tenant.group]]");
        }
        let known: Vec<&str> = raw
            .group
            .iter()
            .filter_map(|group| group.get_ref().name.as_ref())
            .map(|name| name.get_ref().as_str())
            .collect();
        let (rules, default) = self.rules(&span, &raw.rule, &groups, &known);
        Some(Tenant {
            name: name?,
            zone: zone?,
            groups,
            rules,
            default: default?,
            env: Arc::clone(&self.env),
        })
    }

    /// A name that may stand as a topic level and was not there before; `names` knows the lines of those.
    fn name(
        &mut self,
        table: &Range<usize>,
        name: Option<&Spanned<String>>,
        key: &str,
        example: &str,
        names: &mut HashMap<String, u32>,
    ) -> Option<Arc<str>> {
        let Some(name) = name else {
            self.missing(table, key, example);
            return None;
        };
        let (span, name) = (name.span(), name.get_ref());
        if let Err(wrong) = check_id(name) {
            self.problem(&span, key, format!("{name:?} is not a topic level: {wrong}"), example);
            return None;
        }
        let line = self.source.position(span.start).line;
        if let Some(first) = names.get(name) {
            let wrong = format!("\"{name}\" is there twice");
            self.problem(&span, key, wrong, format!("the first is in line {first}"));
            return None;
        }
        names.insert(name.clone(), line);
        Some(Arc::from(name.as_str()))
    }

    fn zone(&mut self, zone: Option<&Spanned<String>>) -> Option<TimeZone> {
        let Some(zone) = zone else { return Some(TimeZone::UTC) };
        let name = zone.get_ref();
        // A name of the IANA database; jiff would also take what is empty or relative to a file.
        let found = if name.is_empty() { None } else { TimeZone::get(name).ok() };
        if found.is_none() {
            let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let near = closest(name, known.iter().map(String::as_str));
            let right = near.map_or_else(
                || "an IANA name such as \"Europe/Berlin\"".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            self.problem(
                &zone.span(),
                "tenant.time_zone",
                format!("\"{name}\" is no known time zone"),
                right,
            );
        }
        found
    }

    fn group(&mut self, raw: &Spanned<RawGroup>, names: &mut HashMap<String, u32>) -> Option<Group> {
        let (table, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&table, raw.name.as_ref(), "tenant.group.name", "e.g. \"sales\"", names);
        self.mode(raw.mode.as_ref());
        let strategy = self.strategy(raw.strategy.as_ref());
        let key_level = self.key_level(raw.key_level.as_ref(), strategy);
        let messages = raw.backlog_messages.as_ref();
        let backlog_messages =
            self.number(messages, "tenant.group.backlog_messages", 1, u32::MAX, BACKLOG_MESSAGES);
        let backlog_bytes = self.bytes(raw.backlog_bytes.as_ref());
        Some(Group { name: name?, strategy: strategy?, key_level, backlog_messages, backlog_bytes })
    }

    fn mode(&mut self, mode: Option<&Spanned<String>>) {
        let Some(mode) = mode else { return };
        let (wrong, right) = match mode.get_ref().as_str() {
            "shared" => return,
            "assigned" => (
                "\"assigned\" is not possible: this version routes in `shared` mode only".to_owned(),
                "mode = \"shared\"".to_owned(),
            ),
            other => (format!("\"{other}\" is no mode"), suggest(other, &["shared"])),
        };
        self.problem(&mode.span(), "tenant.group.mode", wrong, right);
    }

    fn strategy(&mut self, strategy: Option<&Spanned<String>>) -> Option<Strategy> {
        let Some(strategy) = strategy else { return Some(Strategy::Sticky) };
        let name = strategy.get_ref().as_str();
        let found = Strategy::NAMES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy);
        if found.is_none() {
            let right = suggest(name, &Strategy::NAMES.map(|(known, _)| known));
            self.problem(
                &strategy.span(),
                "tenant.group.strategy",
                format!("\"{name}\" is no strategy"),
                right,
            );
        }
        found
    }

    fn key_level(&mut self, level: Option<&Spanned<i64>>, strategy: Option<Strategy>) -> u8 {
        let key = "tenant.group.key_level";
        if let (Some(level), Some(strategy)) = (level, strategy)
            && strategy != Strategy::Sticky
        {
            let wrong = format!("strategy \"{}\" has no key", strategy.name());
            self.problem(&level.span(), key, wrong, "remove it, or strategy = \"sticky\"");
        }
        self.number(level, key, 1, CUSTOMER_LEVEL, CUSTOMER_LEVEL)
    }

    /// A whole number within bounds, or its default.
    fn number<N>(&mut self, value: Option<&Spanned<i64>>, key: &str, low: N, high: N, default: N) -> N
    where
        N: TryFrom<i64> + PartialOrd + Copy + std::fmt::Display,
    {
        let Some(value) = value else { return default };
        match N::try_from(*value.get_ref()) {
            Ok(number) if number >= low && number <= high => number,
            _ => {
                let wrong = format!("{} is not allowed", value.get_ref());
                self.problem(&value.span(), key, wrong, format!("{low} to {high}"));
                default
            }
        }
    }

    fn bytes(&mut self, value: Option<&Spanned<String>>) -> u64 {
        let Some(value) = value else { return BACKLOG_BYTES };
        match bytes(value.get_ref()) {
            Some(bytes) if bytes > 0 => bytes,
            parsed => {
                let text = value.get_ref();
                let what = if parsed.is_some() { "is not allowed" } else { "is no number of bytes" };
                let right = "a whole number, 1 or more, with B, KiB, MiB or GiB: \"64MiB\"";
                self.problem(
                    &value.span(),
                    "tenant.group.backlog_bytes",
                    format!("\"{text}\" {what}"),
                    right,
                );
                BACKLOG_BYTES
            }
        }
    }

    /// The rules with a condition, and the default. `known` are the names of groups, the broken ones among
    /// them: a rule may well name a group that has another problem.
    fn rules(
        &mut self,
        table: &Range<usize>,
        raw: &[Spanned<RawRule>],
        groups: &[Arc<Group>],
        known: &[&str],
    ) -> (Vec<Rule>, Option<Rule>) {
        let Some((last, others)) = raw.split_last() else {
            self.missing(table, "tenant.rule", "at least one [[tenant.rule]], without `when`: the default");
            return (Vec::new(), None);
        };
        if raw.len() > MAX_RULES {
            let wrong = format!("{} rules", raw.len());
            self.problem(&last.span(), "tenant.rule", wrong, format!("at most {MAX_RULES} in a tenant"));
        }
        if let Some(when) = &last.get_ref().when {
            let right = "end with a rule that has no `when`: the default";
            self.problem(&when.span(), "tenant.rule.when", "the last rule has a condition", right);
        }
        let mut after = raw.len();
        for rule in others {
            after -= 1;
            if rule.get_ref().when.is_none() {
                let follow = if after == 1 { "the rule".to_owned() } else { format!("the {after} rules") };
                let wrong = format!("missing, so {follow} after this one can never apply");
                self.missing_when(&rule.span(), &wrong);
            }
        }
        let mut names = HashMap::new();
        let mut rules: Vec<Option<Rule>> =
            raw.iter().map(|rule| self.rule(rule, groups, known, &mut names)).collect();
        let default = rules.pop().flatten();
        (rules.into_iter().flatten().collect(), default)
    }

    fn missing_when(&mut self, table: &Range<usize>, wrong: &str) {
        let before = self.problems.len();
        self.missing(table, "tenant.rule.when", "only the last rule has no condition");
        if let Some(problem) = self.problems.get_mut(before) {
            wrong.clone_into(&mut problem.wrong);
        }
    }

    fn rule(
        &mut self,
        raw: &Spanned<RawRule>,
        groups: &[Arc<Group>],
        known: &[&str],
        names: &mut HashMap<String, u32>,
    ) -> Option<Rule> {
        let (table, raw) = (raw.span(), raw.get_ref());
        let name = self.name(&table, raw.name.as_ref(), "tenant.rule.name", "e.g. \"vip\"", names);
        let condition = match &raw.when {
            None => Some(None),
            Some(when) => self.condition(when).map(Some),
        };
        let group = if let Some(group) = &raw.group {
            self.known_group(group, "tenant.rule.group", groups, known)
        } else {
            self.missing(&table, "tenant.rule.group", "the name of a group");
            None
        };
        let fallback = match &raw.fallback {
            None => Some(None),
            Some(fallback) => self.known_group(fallback, "tenant.rule.fallback", groups, known).map(Some),
        };
        if let (Some(group), Some(fallback)) = (&raw.group, &raw.fallback)
            && group.get_ref() == fallback.get_ref()
        {
            let wrong = format!("\"{}\" is the rule's group already", fallback.get_ref());
            self.problem(&fallback.span(), "tenant.rule.fallback", wrong, "another group");
        }
        let priority = self.number(raw.priority.as_ref(), "tenant.rule.priority", 0, MAX_PRIORITY, 0);
        let skills = self.skills(raw.skills.as_ref());
        Some(Rule {
            name: name?,
            when: raw.when.as_ref().map(|when| when.get_ref().clone()),
            line: self.source.position(table.start).line,
            group: group?,
            priority,
            skills,
            fallback: fallback?,
            condition: condition?,
        })
    }

    fn condition(&mut self, when: &Spanned<String>) -> Option<Condition> {
        match Condition::compile(&self.env, when.get_ref()) {
            Ok(condition) => Some(condition),
            Err(flaws) => {
                for flaw in flaws {
                    let at = self.source.within(&when.span(), flaw.at);
                    self.problem(&(at..at), "tenant.rule.when", flaw.wrong, flaw.right);
                }
                None
            }
        }
    }

    fn known_group(
        &mut self,
        name: &Spanned<String>,
        key: &str,
        groups: &[Arc<Group>],
        known: &[&str],
    ) -> Option<Arc<Group>> {
        let text = name.get_ref().as_str();
        let found = groups.iter().find(|group| &*group.name == text).cloned();
        if found.is_none() && !known.contains(&text) {
            self.problem(&name.span(), key, format!("there is no group \"{text}\""), suggest(text, known));
        }
        found
    }

    fn skills(&mut self, skills: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<String> {
        let Some(skills) = skills else { return Vec::new() };
        if skills.get_ref().len() > MAX_SKILLS {
            let wrong = format!("{} skills", skills.get_ref().len());
            self.problem(&skills.span(), "tenant.rule.skills", wrong, format!("at most {MAX_SKILLS}"));
        }
        for skill in skills.get_ref() {
            if let Err(wrong) = check_id(skill.get_ref()) {
                let wrong = format!("{:?} is no skill: {wrong}", skill.get_ref());
                self.problem(&skill.span(), "tenant.rule.skills", wrong, "e.g. \"french\"");
            }
        }
        skills.get_ref().iter().map(|skill| skill.get_ref().clone()).collect()
    }
}

/// `64MiB` as a number of bytes; the unit may be left out. `None` if it is no such number or too large.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

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
        let text = include_str!("../../conf/routing.toml");
        let routing =
            Routing::parse(text, "conf/routing.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
        let tenant = routing.tenant("main").unwrap();
        let names: Vec<&str> = tenant.groups().map(|group| &*group.name).collect();
        assert_eq!(names, ["billing", "sales", "support"]);
        // `sales` writes out every key with its default, `billing` none.
        let (billing, sales) = (tenant.group("billing").unwrap(), tenant.group("sales").unwrap());
        assert_eq!(&Group { name: Arc::clone(&sales.name), ..billing.clone() }, sales);
        assert!(tenant.uses_context());
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
        (
            "priority = 7",
            "priority = -1",
            &["r.toml:17:12  tenant.rule.priority: -1 is not allowed; 0 to 1000"],
        ),
        (
            "priority = 7",
            "priority = \"high\"",
            &["r.toml:17:12  tenant.rule.priority: invalid type: string \"high\"; a whole number"],
        ),
        (
            "priority = 7",
            "prio = 7",
            &["r.toml:17:1  tenant.rule.prio: unknown key; did you mean \"priority\"?"],
        ),
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
            &[
                "r.toml:7:12  tenant.group.strategy: \"Round-Robin\" is no strategy; did you mean \"round_robin\"?",
            ],
        ),
        (
            "strategy = \"round_robin\"",
            "strategy = \"fair\"",
            &[
                "r.toml:7:12  tenant.group.strategy: \"fair\" is no strategy; one of sticky, round_robin, least_inflight, random",
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
            "mode = \"assigned\"",
            &[
                "r.toml:7:8  tenant.group.mode: \"assigned\" is not possible: this version routes in `shared` mode only; mode = \"shared\"",
            ],
        ),
        (
            "strategy = \"round_robin\"",
            "mode = \"share\"",
            &["r.toml:7:8  tenant.group.mode: \"share\" is no mode; did you mean \"shared\"?"],
        ),
        (
            "key_level = 5",
            "key_level = 0",
            &["r.toml:12:13  tenant.group.key_level: 0 is not allowed; 1 to 7"],
        ),
        (
            "key_level = 5",
            "key_level = 8",
            &["r.toml:12:13  tenant.group.key_level: 8 is not allowed; 1 to 7"],
        ),
        (
            "backlog_messages = 5",
            "backlog_messages = 0",
            &["r.toml:8:20  tenant.group.backlog_messages: 0 is not allowed; 1 to 4294967295"],
        ),
        (
            "\"2KiB\"",
            "\"0MiB\"",
            &[
                "r.toml:9:17  tenant.group.backlog_bytes: \"0MiB\" is not allowed; a whole number, 1 or more, with B, KiB, MiB or GiB: \"64MiB\"",
            ],
        ),
        (
            "\"2KiB\"",
            "\"2kb\"",
            &[
                "r.toml:9:17  tenant.group.backlog_bytes: \"2kb\" is no number of bytes; a whole number, 1 or more, with B, KiB, MiB or GiB: \"64MiB\"",
            ],
        ),
        (
            "\"2KiB\"",
            "\"99999999999GiB\"",
            &[
                "r.toml:9:17  tenant.group.backlog_bytes: \"99999999999GiB\" is no number of bytes; a whole number, 1 or more, with B, KiB, MiB or GiB: \"64MiB\"",
            ],
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
                "r.toml:4:1  tenant.colour: unknown key; one of name, time_zone, group, rule",
                "r.toml:5:13  tenant.time_zone: \"Mars\" is no known time zone; an IANA name such as \"Europe/Berlin\"",
                "r.toml:6:1  tenant.group.name: missing; e.g. \"sales\"",
                "r.toml:7:12  tenant.group.strategy: \"stiky\" is no strategy; did you mean \"sticky\"?",
                "r.toml:8:20  tenant.group.backlog_messages: 0 is not allowed; 1 to 4294967295",
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
        assert_eq!(
            shown(&twice),
            ["r.toml:25:8  tenant.name: \"main\" is there twice; the first is in line 3"]
        );
        let rule = "[[tenant.rule]]\nname = \"N\"\nwhen = \"now.hour == N\"\ngroup = \"sales\"\n";
        let many: Vec<String> = (0..256).map(|n| rule.replace('N', &n.to_string())).collect();
        let many = many.concat();
        let text =
            spoilt("[[tenant.rule]]\nname = \"gold\"", &format!("{many}[[tenant.rule]]\nname = \"gold\""));
        assert_eq!(shown(&text), ["r.toml:1044:1  tenant.rule: 258 rules; at most 256 in a tenant"]);
    }
}
