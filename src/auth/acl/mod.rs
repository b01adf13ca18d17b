//! Who may publish, subscribe and receive what.
//!
//! Rules of a file come first, in their order, then those that follow from the client's role (`defaults`); the first rule
//! that speaks of what a client wants decides, and what none speaks of is refused.
//!
//! A subscription is allowed by a rule of which one filter covers it whole, and refused by a rule that denies any part
//! of it: who may not read everything that a filter matches may not have the filter. So a message never has to be
//! looked at again on its way to a subscriber.

mod defaults;
mod explain;
mod pattern;
mod rights;
mod rule;
mod values;

use std::fmt;
use std::sync::Arc;

pub use explain::{Explanation, Outcome, Tried};
pub use pattern::{Pattern, PatternError};
pub use rights::Rights;
pub use rule::{Name, NameError, Rule, Who};

use super::Principal;
use crate::topic::{self, ParsedFilter, parse_filter};
use defaults::defaults;
use values::Values;

/// The access rules of a broker.
#[derive(Debug, Clone)]
pub struct Acl {
    rules: Arc<[Rule]>,
    authentication: bool,
}

/// Who wants something.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its client identifier.
    pub client_id: &'a str,
    /// Who it proved to be, if anybody.
    pub principal: Option<&'a Principal>,
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'a> {
    /// To publish a message or leave a will.
    Publish {
        /// A valid topic name.
        topic: &'a str,
        /// 0, 1 or 2.
        qos: u8,
        /// Whether it is to be retained.
        retain: bool,
    },
    /// To have a subscription.
    Subscribe {
        /// As in SUBSCRIBE, `$share/NAME/` included.
        filter: &'a str,
        /// 0, 1 or 2: what it asks for. It is granted [`Decision::max_qos`] at most.
        qos: u8,
    },
    /// To be sent a message.
    Receive {
        /// The message's topic name.
        topic: &'a str,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// The highest QoS of what is allowed, whatever was asked for; 0 when nothing is.
    pub max_qos: u8,
    /// What decided.
    pub by: By,
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// In the file, in this line.
    File {
        /// From 1.
        line: u32,
    },
    /// In the default list, under this name.
    Default(&'static str),
    /// Nowhere: none speaks of it.
    NoRule,
}

/// How large a client's filters may be is asked before its rights are.
const ANY_SIZE: topic::Limits = topic::Limits { max_levels: usize::MAX, max_bytes: 65_535 };

/// The name under which topics that begin with `$` are kept from all publishers. [`By::Default`].
const DOLLAR: &str = "nobody publishes to $ topics";
/// The name under which all is allowed. [`By::Default`].
const OPEN: &str = "open: no logins and no rules";

impl Acl {
    /// The most rules of a file.
    pub const MAX_RULES: usize = 10_000;
    /// The most topic filters of a rule.
    pub const MAX_TOPICS: usize = 64;
    /// The most names in each list of a rule.
    pub const MAX_NAMES: usize = 256;
    /// The most groups of a client that `%g` stands for: what comes behind them is left out.
    pub const MAX_GROUPS: usize = 256;

    /// No logins and no rules: everybody may do everything.
    pub fn open() -> Self {
        Self::new(Arc::default(), false)
    }

    /// The rules of a file, at most [`MAX_RULES`](Self::MAX_RULES), before the default list. `authentication` says whether
    /// there are logins: without any, whoever comes in may do what no rule denies; with some, a client without one only
    /// what a rule allows.
    pub fn new(rules: Arc<[Rule]>, authentication: bool) -> Self {
        Self { rules, authentication }
    }

    /// Whether everybody may do everything, so that nobody need be asked.
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && !self.authentication
    }

    /// Whether a client may do something.
    pub fn decide(&self, subject: &Subject<'_>, act: &Act<'_>) -> Decision {
        if let Some(decision) = self.at_once(act) {
            return decision;
        }
        let Ok(wanted) = wanted(act) else { return Decision::NO_RULE };
        let values = Values::new(subject, values::ALL);
        self.rules(subject)
            .filter(|rule| rule.who.is(subject))
            .find_map(|rule| Some(decision(rule, answer(rule, &values, act, wanted.as_ref())?)))
            .unwrap_or(Decision::NO_RULE)
    }

    /// As [`Self::decide`], with every rule that was asked.
    pub fn explain(&self, subject: &Subject<'_>, act: &Act<'_>) -> Explanation {
        let mut explanation = Explanation { decision: self.decide(subject, act), tried: Vec::new() };
        let (None, Ok(wanted)) = (self.at_once(act), wanted(act)) else { return explanation };
        let values = Values::new(subject, values::ALL);
        for rule in self.rules(subject) {
            let outcome = explain::outcome(rule, subject, &values, act, wanted.as_ref());
            explanation.tried.push(Tried { by: rule.by, rule: rule.to_string(), outcome });
            if outcome.decides() {
                break;
            }
        }
        explanation
    }

    /// What a client may, for as long as it is connected.
    pub fn compile(&self, subject: &Subject<'_>) -> Rights {
        if self.is_open() {
            return Rights::open();
        }
        Rights::new(&self.rules, subject, self.authentication)
    }

    /// What needs no rule.
    fn at_once(&self, act: &Act<'_>) -> Option<Decision> {
        if matches!(act, Act::Publish { topic, .. } if topic.starts_with('$')) {
            return Some(Decision { by: By::Default(DOLLAR), ..Decision::NO_RULE });
        }
        self.is_open().then_some(Decision { allowed: true, max_qos: 2, by: By::Default(OPEN) })
    }

    fn rules(&self, subject: &Subject<'_>) -> impl Iterator<Item = &Rule> {
        self.rules.iter().chain(defaults(subject, self.authentication))
    }
}

impl Decision {
    const NO_RULE: Self = Self { allowed: false, max_qos: 0, by: By::NoRule };
}

impl Subject<'_> {
    /// Whether it was let in without a login.
    pub fn is_anonymous(&self) -> bool {
        self.principal.is_none_or(|principal| principal.user.is_empty())
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line } => write!(f, "line {line}"),
            Self::Default(name) => write!(f, "default \"{name}\""),
            Self::NoRule => f.write_str("no rule"),
        }
    }
}

fn decision(rule: &Rule, allowed: bool) -> Decision {
    Decision { allowed, max_qos: if allowed { rule.max_qos } else { 0 }, by: rule.by }
}

/// What a rule says to a client of whom it speaks.
fn answer(rule: &Rule, values: &Values, act: &Act<'_>, wanted: Option<&ParsedFilter<'_>>) -> Option<bool> {
    match *act {
        Act::Publish { topic, qos, retain } => rule.publish(values, topic, qos, retain),
        Act::Subscribe { .. } => rule.subscribe(values, wanted?),
        Act::Receive { topic } => rule.receive(values, topic),
    }
}

/// The filter of a subscription, taken apart; `Err` if it is none.
fn wanted<'a>(act: &Act<'a>) -> Result<Option<ParsedFilter<'a>>, topic::FilterError> {
    let Act::Subscribe { filter, .. } = *act else { return Ok(None) };
    parse_filter(filter, &ANY_SIZE).map(Some)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_decisions;
