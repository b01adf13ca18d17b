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
        let group = match &raw.group {
            Some(group) => self.known_group(group, "tenant.rule.group", groups, known),
            None => {
                self.missing(&table, "tenant.rule.group", "the name of a group");
                None
            }
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
