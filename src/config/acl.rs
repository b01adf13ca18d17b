//! `conf/acl.toml`: from text to [`Rule`]s, or to all that is wrong with it.
//!
//! What a rule means is `crate::auth::acl`'s, which knows no file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::problem::{Problem, Problems, Source};
use super::raw::{Count, Switch};
use super::unread::Unread;
use super::values::Values;
use crate::auth::Role;
use crate::auth::acl::{Acl, By, Name, Pattern, Rule, Who};
use crate::spelling::suggest;

/// The rules of `acl.file`.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    /// The file, if one is named.
    pub file: Option<PathBuf>,
    /// Its rules, in their order.
    pub rules: Arc<[Rule]>,
}

impl AccessRules {
    /// These rules before the default list; `authentication` says whether there are logins.
    pub fn acl(&self, authentication: bool) -> Acl {
        Acl::new(self.rules.clone(), authentication)
    }

    /// Reads a file of rules. `file` is the name that problems are shown with.
    ///
    /// # Errors
    /// What is wrong, in the order of the file: the first [`MAX_PROBLEMS`](super::problem::MAX_PROBLEMS), and a word
    /// about the others.
    pub fn parse(text: &str, file: &str) -> Result<Arc<[Rule]>, Vec<Problem>> {
        read(text, file).map_err(|problems| problems.sorted(file))
    }
}

type List = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRule {
    allow: List,
    deny: List,
    topics: List,
    role: List,
    user: List,
    client: List,
    tenant: List,
    group: List,
    anonymous: Switch,
    retain: Switch,
    max_qos: Count,
    wildcards: Switch,
}

/// Reads the file that `acl.file` names, if it names one. A path in `file` is relative to that, one in an argument to
/// the working directory.
pub(super) fn load(
    source: &Source<'_>,
    file: &Path,
    named: Option<&Spanned<String>>,
    problems: &mut Problems,
) -> AccessRules {
    let Some(named) = named.filter(|named| !named.get_ref().is_empty()) else {
        return AccessRules::default();
    };
    let beside = file.parent().filter(|_| !source.is_argument(&named.span()));
    let path = beside.unwrap_or(Path::new("")).join(named.get_ref());
    let mut rules = Arc::default();
    match super::read_file(&path) {
        Ok(text) => match read(&text, &path.display().to_string()) {
            Ok(read) => rules = read,
            Err(wrong) => problems.extend(wrong),
        },
        Err(error) => {
            let wrong = format!("{} {error}", path.display());
            problems.push(source.problem(&named.span(), "acl.file", wrong, error.right()));
        }
    }
    AccessRules { file: Some(path), rules }
}

fn read(text: &str, file: &str) -> Result<Arc<[Rule]>, Problems> {
    let source = Source::new(file, text);
    let (raw, problems) = source.read::<RawFile>();
    let unread = Unread::new(&problems);
    let mut resolve = Resolve { values: Values { source: &source, folder: None, problems }, unread };
    let rules = raw.map(|raw| resolve.rules(&raw)).unwrap_or_default();
    if resolve.values.problems.is_empty() { Ok(rules) } else { Err(resolve.values.problems) }
}

/// What a rule says, and of which acts.
#[derive(Clone, Copy)]
struct Effect {
    allow: bool,
    publish: bool,
    subscribe: bool,
}

#[derive(Clone, Copy)]
enum Verb {
    Publish,
    Subscribe,
}

const VERBS: [(&str, Verb); 2] = [("publish", Verb::Publish), ("subscribe", Verb::Subscribe)];
const ACTS: &str = "a list of \"publish\" and \"subscribe\"";

struct Resolve<'t> {
    values: Values<'t>,
    unread: Unread,
}

impl Resolve<'_> {
    fn rules(&mut self, raw: &RawFile) -> Arc<[Rule]> {
        let taken = self.values.at_most("rule", &raw.rule, Acl::MAX_RULES, "rules");
        taken.iter().filter_map(|rule| self.rule(rule)).collect()
    }

    /// `None` only with a problem told.
    fn rule(&mut self, raw: &Spanned<RawRule>) -> Option<Rule> {
        if self.values.problems.is_full() {
            return None;
        }
        let (table, raw) = (raw.span(), raw.get_ref());
        let effect = self.effect(&table, raw);
        let topics = self.topics(&table, raw, effect);
        let who = self.who(raw);
        let max_qos = self.values.count("rule.max_qos", &raw.max_qos, 2, 0..=2);
        let effect = effect?;
        self.unused_limits(raw, effect);
        Some(Rule {
            by: By::File { line: self.values.source.line(table.start) },
            allow: effect.allow,
            publish: effect.publish,
            subscribe: effect.subscribe,
            topics,
            who,
            retain: super::values::switch(&raw.retain, true),
            max_qos,
            wildcards: super::values::switch(&raw.wildcards, true),
        })
    }

    /// `None` only with a problem told.
    fn effect(&mut self, table: &Range<usize>, raw: &RawRule) -> Option<Effect> {
        match (&raw.allow, &raw.deny) {
            (Some(acts), None) => self.acts("rule.allow", acts, true),
            (None, Some(acts)) => self.acts("rule.deny", acts, false),
            (Some(_), Some(deny)) => {
                self.values.problem(&deny.span(), "rule.deny", "there is an `allow`, too", "one of both");
                None
            }
            (None, None) => {
                let unread = |key| self.unread.has(self.values.source, table, key);
                if !unread("rule.allow") && !unread("rule.deny") {
                    self.values.problem(table, "rule.allow", "missing, and `deny`, too", ACTS);
                }
                None
            }
        }
    }

    fn acts(&mut self, key: &str, acts: &Spanned<Vec<Spanned<String>>>, allow: bool) -> Option<Effect> {
        let mut effect = Effect { allow, publish: false, subscribe: false };
        for act in acts.get_ref() {
            match VERBS.iter().find(|(name, _)| name == act.get_ref()) {
                Some((_, Verb::Publish)) => effect.publish = true,
                Some((_, Verb::Subscribe)) => effect.subscribe = true,
                None => {
                    let wrong = format!("{:?} is not known", act.get_ref());
                    let right = suggest(act.get_ref(), &VERBS.map(|(name, _)| name));
                    self.values.problem(&act.span(), key, wrong, right);
                    return None;
                }
            }
        }
        if acts.get_ref().is_empty() {
            self.empty(&acts.span(), key, "is empty", ACTS);
            return None;
        }
        Some(effect)
    }

    fn topics(&mut self, table: &Range<usize>, raw: &RawRule, effect: Option<Effect>) -> Box<[Pattern]> {
        const RIGHT: &str = "a list of topic filters";
        let Some(topics) = &raw.topics else {
            if !self.unread.has(self.values.source, table, "rule.topics") {
                self.values.problem(table, "rule.topics", "missing", RIGHT);
            }
            return Box::default();
        };
        if topics.get_ref().is_empty() {
            self.empty(&topics.span(), "rule.topics", "is empty", RIGHT);
        }
        let taken = self.values.at_most("rule.topics", topics.get_ref(), Acl::MAX_TOPICS, "topic filters");
        let publish = effect.is_some_and(|effect| effect.publish);
        taken.iter().filter_map(|topic| self.topic(topic, publish)).collect()
    }

    fn topic(&mut self, topic: &Spanned<String>, publish: bool) -> Option<Pattern> {
        let (span, text) = (topic.span(), topic.get_ref());
        match Pattern::parse(text) {
            Ok(pattern) => {
                if publish && text.starts_with('$') {
                    let wrong = format!("{text:?}: nobody publishes to what begins with $");
                    let right = "a rule of its own, for \"subscribe\"";
                    self.values.problem(&span, "rule.topics", wrong, right);
                }
                Some(pattern)
            }
            Err(error) => {
                self.values.problem(&span, "rule.topics", format!("{text:?}: {error}"), "");
                None
            }
        }
    }

    fn who(&mut self, raw: &RawRule) -> Who {
        let anonymous = raw.anonymous.as_ref();
        if let (Some(named), Some(true)) = (&raw.user, anonymous.map(|written| *written.get_ref())) {
            let right = "remove it, or `anonymous`";
            self.values.problem(&named.span(), "rule.user", "whoever is anonymous has no user name", right);
        }
        Who {
            roles: self.list("rule.role", &raw.role, |word| {
                word.parse::<Role>()
                    .map_err(|_| (format!("{word:?} is no role"), suggest(word, &Role::ALL.map(Role::name))))
            }),
            users: self.names("rule.user", &raw.user),
            clients: self.names("rule.client", &raw.client),
            tenants: self.names("rule.tenant", &raw.tenant),
            groups: self.names("rule.group", &raw.group),
            anonymous: anonymous.map(|written| *written.get_ref()),
        }
    }

    fn names(&mut self, key: &str, raw: &List) -> Box<[Name]> {
        self.list(key, raw, |word| {
            Name::parse(word).map_err(|error| (format!("{word:?} {error}"), "e.g. \"gate-*\"".to_owned()))
        })
    }

    /// What is wrong and what would be right is `read`'s to say of a single word.
    fn list<T>(
        &mut self,
        key: &str,
        raw: &List,
        read: impl Fn(&str) -> Result<T, (String, String)>,
    ) -> Box<[T]> {
        let Some(list) = raw else { return Box::default() };
        if list.get_ref().is_empty() {
            // It would not be told from a list that is not there, which means everybody.
            let right = "without the key the rule is of everybody";
            self.empty(&list.span(), key, "is empty: of nobody", right);
        }
        let words = self.values.at_most(key, list.get_ref(), Acl::MAX_NAMES, "names");
        let mut all = Vec::with_capacity(words.len());
        for word in words {
            match read(word.get_ref()) {
                Ok(one) => all.push(one),
                Err((wrong, right)) => self.values.problem(&word.span(), key, wrong, right),
            }
        }
        all.into()
    }

    /// A list with nothing in it, unless what was in it could not be read.
    fn empty(&mut self, span: &Range<usize>, key: &str, wrong: &str, right: &str) {
        if !self.values.told(key) {
            self.values.problem(span, key, wrong, right);
        }
    }

    /// Limits that say nothing.
    fn unused_limits(&mut self, raw: &RawRule, effect: Effect) {
        let retain = raw.retain.as_ref().map(Spanned::span).filter(|_| !(effect.allow && effect.publish));
        let max_qos = raw.max_qos.as_ref().map(Spanned::span).filter(|_| !effect.allow);
        let wildcards =
            raw.wildcards.as_ref().map(Spanned::span).filter(|_| !(effect.allow && effect.subscribe));
        for (key, span, of) in [
            ("rule.retain", retain, "only what allows \"publish\" has it"),
            ("rule.max_qos", max_qos, "only what allows has it"),
            ("rule.wildcards", wildcards, "only what allows \"subscribe\" has it"),
        ] {
            if let Some(span) = span {
                self.values.problem(&span, key, "not used", of);
            }
        }
    }
}

#[cfg(test)]
mod tests;
